// SPDX-License-Identifier: Apache-2.0
/*
 * One end of a connection that carries lines and, beside them, descriptors (SCM_RIGHTS, unix(7)).
 *
 * Descriptors arrive with the bytes that they were sent with, and belong to the line in which those
 * end; so a line that has some is sent by a call of its own. Everything runs on the default main
 * context's thread, never blocks, and is bounded: a peer that sends an endless line, too many
 * descriptors, or does not read what it is sent is cut off.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_FDS_MAX   96         /* descriptors beside one line */
#define PEER_QUEUE_MAX (8U << 20) /* bytes waiting for a slow reader: more than one message */

struct peer;

struct peer_ops {
    /* A line has come, without its newline but zero-terminated. Descriptors in `fds` are closed at
     * return, except those that the callee takes by setting the entry to -1. */
    void (*line)(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                 unsigned count);
    /* The other end has gone or was cut off. Called once, never from peer_destroy; the peer is
     * still to be destroyed, which may be done here. */
    void (*closed)(void *opaque, struct peer *peer);
    /* All that was queued has been written. The peer may be sent more here, but not destroyed.
     * NULL: nobody asks. */
    void (*drained)(void *opaque, struct peer *peer);
};

/* Takes `fd`, a connected Unix stream socket, and makes it non-blocking. */
struct peer *peer_create(int fd, const struct peer_ops *ops, void *opaque);

/* Closes at once; what is still queued is lost. May be called from the peer's own callbacks. NULL
 * is fine. */
void peer_destroy(struct peer *peer);

/* Queue one message as a line; takes the reference. Duplicates of `fds` go beside it. */
void peer_send(struct peer *peer, json_t *message, const int *fds, unsigned count);

/* Write what is queued, blocking for at most `timeout_ms`. For the last words before an exit. */
void peer_flush(struct peer *peer, int timeout_ms);

/* Bytes that wait for the other end to read. */
size_t peer_backlog(const struct peer *peer);
