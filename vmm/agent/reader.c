// SPDX-License-Identifier: Apache-2.0
/*
 * Cutting and parsing. A text in an agent's JSON is UTF-8, so that the sentinel is no part of it.
 */
#include "vmm/agent/reader.h"

#include <string.h>

#include "vmm/util/json_bound.h"

void agent_reader_init(struct agent_reader *reader)
{
    *reader = (struct agent_reader){.line = g_byte_array_new()};
}

void agent_reader_finish(struct agent_reader *reader)
{
    g_byte_array_unref(reader->line);
}

void agent_reader_reset(struct agent_reader *reader, size_t line_max)
{
    /* A line may have been long: its room is given back. */
    g_byte_array_unref(reader->line);
    *reader = (struct agent_reader){
        .line = g_byte_array_new(), .line_max = line_max, .left = AGENT_BYTES_MAX};
}

void agent_reader_next(struct agent_reader *reader)
{
    g_byte_array_set_size(reader->line, 0);
    reader->overflow = false;
}

/* Bytes before the next newline or sentinel. */
static size_t span(const uint8_t *data, size_t size)
{
    const uint8_t *newline = memchr(data, '\n', size);
    size_t length = newline ? (size_t)(newline - data) : size;
    const uint8_t *sentinel = memchr(data, AGENT_SENTINEL, length);

    return sentinel ? (size_t)(sentinel - data) : length;
}

static void append(struct agent_reader *reader, const uint8_t *data, size_t size)
{
    if (reader->overflow || size > reader->line_max - reader->line->len) {
        reader->overflow = true;
        g_byte_array_set_size(reader->line, 0);
    } else {
        g_byte_array_append(reader->line, data, size);
    }
}

enum agent_piece agent_reader_take(struct agent_reader *reader, const uint8_t **data, size_t *size)
{
    while (*size) {
        size_t length = span(*data, *size), taken = MIN(length + 1, *size);
        uint8_t end = length < *size ? (*data)[length] : 0;

        if (taken > reader->left)
            return AGENT_PIECE_TOO_MUCH;
        append(reader, *data, length);
        reader->left -= taken;
        *data += taken;
        *size -= taken;
        if (end == AGENT_SENTINEL) {
            agent_reader_next(reader);
            reader->delimited = true;
        } else if (end == '\n') {
            return reader->overflow ? AGENT_PIECE_TOO_LONG : AGENT_PIECE_LINE;
        }
    }
    return AGENT_PIECE_NONE;
}

json_t *agent_parse(const uint8_t *line, size_t size)
{
    json_t *object = json_is_bounded((const char *)line, size, AGENT_DEPTH_MAX, AGENT_VALUES_MAX)
                         ? json_loadb((const char *)line, size, JSON_REJECT_DUPLICATES, NULL)
                         : NULL;

    if (json_is_object(object))
        return object;
    json_decref(object);
    return NULL;
}
