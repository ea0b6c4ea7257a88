// SPDX-License-Identifier: Apache-2.0
/*
 * Packets of GDB's remote serial protocol (GDB manual, appendix E, "Overview"): "$data#checksum",
 * acknowledged by "+" or "-" unless both ends agreed not to, and a lone 03h as the interrupt key.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* The longest packet's data, in either direction. */
#define GDB_PACKET_MAX 0x4000

enum gdb_event {
    GDB_EVENT_NONE,         /* more bytes are needed, or noise was passed over */
    GDB_EVENT_PACKET,       /* parser.data has a whole one */
    GDB_EVENT_DAMAGED,      /* its checksum is wrong, or it is too long */
    GDB_EVENT_INTERRUPT,    /* Ctrl-C */
    GDB_EVENT_ACKNOWLEDGED, /* "+" */
    GDB_EVENT_AGAIN,        /* "-": the last packet was not understood */
};

struct gdb_parser {
    GString *data; /* unescaped; may hold zeros */
    unsigned state;
    uint8_t sum, expected;
    bool too_long;
};

/* For the caller's memory; finish frees what was gathered. */
void gdb_parser_init(struct gdb_parser *parser);
void gdb_parser_finish(struct gdb_parser *parser);

/* One byte from the wire. `data` is valid until the next byte. */
enum gdb_event gdb_parser_feed(struct gdb_parser *parser, uint8_t byte);

/* Append the packet of `length` bytes to `out`, escaped and with its checksum. */
void gdb_packet_append(GString *out, const char *data, size_t length);

/* Two hexadecimal digits a byte. */
void gdb_hex_append(GString *out, const void *bytes, size_t size);

/* Decode exactly `size` bytes from the front of `*text`, which moves on; false when there are
 * fewer digits. */
bool gdb_hex_take(const char **text, void *bytes, size_t size);

/* A number in hexadecimal, of at most 64 bits, from the front of `*text`, which moves on. */
bool gdb_number_take(const char **text, uint64_t *value);

/* `*text` begins with `prefix`; then it moves behind it. */
bool gdb_word_take(const char **text, const char *prefix);
