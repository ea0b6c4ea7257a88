// SPDX-License-Identifier: Apache-2.0
/*
 * The wire of GDB's remote protocol: a state machine over single bytes, and hexadecimal text.
 */
#include "vmm/control/gdb_packet.h"

#include <string.h>

enum parser_state {
    PARSER_IDLE,
    PARSER_DATA,
    PARSER_ESCAPED, /* after '}': the next byte has bit 5 flipped */
    PARSER_SUM_HIGH,
    PARSER_SUM_LOW,
};

#define ESCAPE      '}'
#define ESCAPE_FLIP 0x20
#define INTERRUPT   0x03

void gdb_parser_init(struct gdb_parser *parser)
{
    *parser = (struct gdb_parser){.data = g_string_new(NULL), .state = PARSER_IDLE};
}

void gdb_parser_finish(struct gdb_parser *parser)
{
    if (parser->data)
        g_string_free(parser->data, TRUE);
    parser->data = NULL;
}

static enum gdb_event feed_idle(struct gdb_parser *parser, uint8_t byte)
{
    switch (byte) {
    case '$':
        g_string_truncate(parser->data, 0);
        parser->sum = 0;
        parser->too_long = false;
        parser->state = PARSER_DATA;
        return GDB_EVENT_NONE;
    case INTERRUPT:
        return GDB_EVENT_INTERRUPT;
    case '+':
        return GDB_EVENT_ACKNOWLEDGED;
    case '-':
        return GDB_EVENT_AGAIN;
    default:
        return GDB_EVENT_NONE;
    }
}

static void append(struct gdb_parser *parser, uint8_t byte)
{
    if (parser->data->len < GDB_PACKET_MAX)
        g_string_append_c(parser->data, (char)byte);
    else
        parser->too_long = true;
}

static void feed_data(struct gdb_parser *parser, uint8_t byte)
{
    if (byte == '#') {
        parser->state = PARSER_SUM_HIGH;
        return;
    }
    parser->sum += byte;
    if (byte == ESCAPE)
        parser->state = PARSER_ESCAPED;
    else
        append(parser, byte);
}

static uint8_t digit(uint8_t byte)
{
    int value = g_ascii_xdigit_value((char)byte);

    return value < 0 ? 0 : (uint8_t)value;
}

enum gdb_event gdb_parser_feed(struct gdb_parser *parser, uint8_t byte)
{
    switch (parser->state) {
    case PARSER_DATA:
        feed_data(parser, byte);
        return GDB_EVENT_NONE;
    case PARSER_ESCAPED:
        parser->sum += byte;
        append(parser, byte ^ ESCAPE_FLIP);
        parser->state = PARSER_DATA;
        return GDB_EVENT_NONE;
    case PARSER_SUM_HIGH:
        parser->expected = (uint8_t)(digit(byte) << 4);
        parser->state = PARSER_SUM_LOW;
        return GDB_EVENT_NONE;
    case PARSER_SUM_LOW:
        parser->state = PARSER_IDLE;
        return (parser->expected | digit(byte)) == parser->sum && !parser->too_long
                   ? GDB_EVENT_PACKET
                   : GDB_EVENT_DAMAGED;
    default:
        return feed_idle(parser, byte);
    }
}

void gdb_packet_append(GString *out, const char *data, size_t length)
{
    uint8_t sum = 0;
    gsize start;

    g_string_append_c(out, '$');
    start = out->len;
    for (size_t i = 0; i < length; i++) {
        if (strchr("#$}*", data[i]) && data[i]) {
            g_string_append_c(out, ESCAPE);
            g_string_append_c(out, data[i] ^ ESCAPE_FLIP);
        } else {
            g_string_append_c(out, data[i]);
        }
    }
    for (gsize i = start; i < out->len; i++)
        sum += (uint8_t)out->str[i];
    g_string_append_printf(out, "#%02x", sum);
}

void gdb_hex_append(GString *out, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < size; i++)
        g_string_append_printf(out, "%02x", at[i]);
}

bool gdb_hex_take(const char **text, void *bytes, size_t size)
{
    uint8_t *at = bytes;

    for (size_t i = 0; i < size; i++) {
        if (!g_ascii_isxdigit((*text)[0]) || !g_ascii_isxdigit((*text)[1]))
            return false;
        at[i] = (uint8_t)(g_ascii_xdigit_value((*text)[0]) << 4 | g_ascii_xdigit_value((*text)[1]));
        *text += 2;
    }
    return true;
}

bool gdb_number_take(const char **text, uint64_t *value)
{
    unsigned digits = 0;

    *value = 0;
    for (; g_ascii_isxdigit(**text); (*text)++, digits++)
        *value = *value << 4 | (uint64_t)g_ascii_xdigit_value(**text);
    return digits >= 1 && digits <= 16;
}

bool gdb_word_take(const char **text, const char *prefix)
{
    size_t length = strlen(prefix);

    if (strncmp(*text, prefix, length))
        return false;
    *text += length;
    return true;
}
