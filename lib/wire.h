// SPDX-License-Identifier: Apache-2.0
/*
 * The client's end of the control protocol: JSON lines over a Unix socket, with descriptors beside
 * them. Nothing here waits; the caller polls the socket. Private to libanima.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#define WIRE_LINE_MAX (8U << 20) /* bytes of one message from a machine */

struct wire {
    int fd;
    bool closed; /* nothing more will come */
    GByteArray *in;
    size_t seen; /* bytes of `in` that are known to hold no newline */
    GQueue out;  /* of struct wire_line * */
};

/* Takes `fd`, a connected Unix stream socket. */
void wire_init(struct wire *wire, int fd);
/* Closes it. */
void wire_finish(struct wire *wire);

/* Queue `message` (taken over) as a line, with a duplicate of `fd` beside it unless it is negative.
 * False, with nothing queued, when there is no descriptor left to duplicate it to, or when the
 * message cannot be written as JSON. */
bool wire_queue(struct wire *wire, json_t *message, int fd);

/* Write and read what can be written and read now. A broken connection is `closed`, once all that
 * came before its end has been read. */
void wire_move(struct wire *wire);

/* Whether something is still to be written: poll for that too. */
bool wire_wants_out(const struct wire *wire);

/* Wait until something can be moved. False when `deadline` (monotonic microseconds; negative:
 * never) has come before. */
bool wire_wait(const struct wire *wire, gint64 deadline);

/* The next message that has come, for the caller; NULL when there is none. A line that is no JSON
 * object counts as the connection's end. */
json_t *wire_take(struct wire *wire);
