// SPDX-License-Identifier: Apache-2.0
/*
 * Character devices: what stands behind a serial port, a debug console or a port of a virtio
 * console.
 *
 * The front end (a device) pushes bytes out with chardev_write, which never blocks: it takes as
 * many as its buffer holds, and calls `writable` once there is room again. The back end brings
 * input by asking `can_receive` how many bytes are wanted and calling `receive` with at most so
 * many; a front end that had no room calls chardev_accept_input when it has some.
 *
 * Handlers run on the back end's thread, without any lock of the back end held, so they may call
 * every function here but chardev_destroy and chardev_set_handlers. No function here calls a
 * handler on its caller's stack, so all may be called with the front end's lock held, except where
 * it says that it waits.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chardev;

/* The front end. Each may be NULL. */
struct chardev_handlers {
    size_t (*can_receive)(void *opaque);
    void (*receive)(void *opaque, const uint8_t *data, size_t length);
    /* There is room again after a write that was not taken whole. */
    void (*writable)(void *opaque);
    /* The client of a listening socket has come, or left and all of its input is received or
     * dropped; or the other end of a line is gone for good. */
    void (*connected)(void *opaque, bool connected);
    /* A client has left, with input that there was no room for: whether there will be. Otherwise it
     * is dropped, and the next client can come. Absent: yes. */
    bool (*wants_rest)(void *opaque);
    void *opaque;
};

/* Put the front end's handlers in place (NULL: none). Waits for a handler that is running, and for
 * input that was read to be received, so it must not be called with a lock held that a handler
 * takes. Without handlers no input is read. A call of `writable` that was due is forgotten. */
void chardev_set_handlers(struct chardev *chardev, const struct chardev_handlers *handlers);

/* Queue bytes for output; returns how many were taken. Fewer than `length` promises a call of
 * `writable`. Never blocks. Without a peer (closed, disconnected), bytes are taken and vanish, as
 * on a line with nobody at its end. Any thread. */
size_t chardev_write(struct chardev *chardev, const uint8_t *data, size_t length);

/* Whether there is somebody at the other end: as `connected` tells, but now. Any thread. */
bool chardev_is_connected(struct chardev *chardev);

/* The front end has room for input again. Any thread. */
void chardev_accept_input(struct chardev *chardev);

/* Keep output in the buffer (true) until it is released (false). Any thread. */
void chardev_hold(struct chardev *chardev, bool hold);

/* Wait until the buffered output has left, for at most `timeout_ms`. False when some is left. */
bool chardev_flush(struct chardev *chardev, unsigned timeout_ms);

/* Stand still, or move again: while it stands still no handler is called, nothing is read or
 * written and no client is taken; output is buffered. chardev_suspend returns when that is so, and
 * must not be called with a lock held that a handler takes. Both idempotent, control thread. */
void chardev_suspend(struct chardev *chardev);
void chardev_resume(struct chardev *chardev);

/* What another process needs to take its place, beside the descriptors that it was made of: its
 * client's connection (-1: none; stays the chardev's) and the output that has not left. While it
 * stands still. */
int chardev_client(const struct chardev *chardev);
GBytes *chardev_pending(struct chardev *chardev);
/* The other way round, on one that was made suspended and listens: serve `client`, which is taken
 * over; the front end, whose state knows it, is not told. False when it does not listen or has a
 * client. Output that was pending is given by chardev_write. */
bool chardev_adopt_client(struct chardev *chardev, int client);

/* Let buffered output leave, unless it is held or stands still, for a second at most; then close.
 * NULL is fine. */
void chardev_destroy(struct chardev *chardev);

struct chardev_fd_config {
    const char *name; /* of the thread, up to 15 characters: "serial0" */
    int in;           /* input, or -1 */
    int out;          /* output, may be the same as `in`; or -1 */
    /* `in` is a listening socket: one client at a time is accepted, and `out` is ignored. */
    bool listen;
    /* The other end comes and goes, as the slave of a pty does: hang-ups are not the end. A pty
     * must not block, since one that polls as writable may take a byte only. */
    bool reopens;
    bool suspended; /* as if after chardev_suspend */
    size_t buffer;  /* bytes of output that are kept; 0 for 64 KiB */
};

/* A back end on descriptors (terminal, pipe, pty, file, socket), served by a thread of its own.
 * Takes ownership of the descriptors, closing them at the end or on failure; it leaves their flags
 * as they are, since a terminal's are shared with other processes. */
struct chardev *chardev_fd_create(const struct chardev_fd_config *config, GError **error);
