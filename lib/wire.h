// SPDX-License-Identifier: Apache-2.0
/*
 * The client's end of the control protocol: JSON lines over a Unix socket, blocking with a time
 * limit. Private to libanima.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define WIRE_LINE_MAX (8U << 20) /* bytes of one message from a machine */

struct wire {
    int fd;
    GByteArray *in;
};

/* Takes `fd`, a connected Unix stream socket. */
void wire_init(struct wire *wire, int fd);
/* Closes it. */
void wire_finish(struct wire *wire);

/* Send `message` (taken over) as a line, with `fd` beside it unless it is negative. False when the
 * connection is broken. */
bool wire_send(struct wire *wire, json_t *message, int fd);

enum wire_result { WIRE_MESSAGE, WIRE_TIMEOUT, WIRE_CLOSED };

/* The next message, waiting until `deadline` (g_get_monotonic_time's microseconds; negative: for
 * ever). The caller owns it. A line that is no JSON object counts as a broken connection. */
enum wire_result wire_receive(struct wire *wire, gint64 deadline, json_t **message);
