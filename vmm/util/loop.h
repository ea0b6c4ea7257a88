// SPDX-License-Identifier: Apache-2.0
/*
 * I/O threads: an event loop of its own thread, on which back ends of devices do their work.
 *
 * It has two back ends with one behaviour, chosen at its creation: io_uring, and epoll with a small
 * pool of threads for files, since containers often forbid the first. ANIMA_LOOP=uring|epoll in the
 * environment asks for one of them.
 *
 * Threads: callbacks run on the loop's thread, one at a time, with no lock held. Where nothing else
 * is said a function is called on the loop's thread (by way of loop_call or loop_call_wait).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;
struct loop_watch;

/* A loop whose thread will be called `name` ("io/0", up to 15 characters). The descriptors that it
 * needs (ring, epoll, event) are made here, so this comes before the sandbox closes; the thread
 * starts with the first call, so that it is inside the sandbox, and a machine without need of it
 * has none. NULL and `error` when ANIMA_LOOP asks for what cannot be, or the host has no
 * descriptors left. */
struct loop *loop_create(const char *name, GError **error);
/* Runs the calls that wait, then ends the thread. Nothing may be under way or watched any more.
 * NULL is fine. Not on its thread. */
void loop_destroy(struct loop *loop);
/* "io_uring" or "epoll". Any thread. */
const char *loop_backend(const struct loop *loop);
/* Whether the caller is the loop's thread. */
bool loop_is_current(const struct loop *loop);

/* Start the thread now; else the first call does, and the thread may do no more than whoever makes
 * that. Any thread. */
void loop_start(struct loop *loop);

/* Have `function` called once on the loop's thread, soon, in the order of the calls. Any thread;
 * never blocks. */
void loop_call(struct loop *loop, void (*function)(void *opaque), void *opaque);
/* ...and wait until it has returned. On the loop's own thread it is called at once. Any thread. */
void loop_call_wait(struct loop *loop, void (*function)(void *opaque), void *opaque);

/* Call `ready` whenever one of `events` (POLLIN, POLLOUT; level-triggered) is there, or an error or
 * hang-up. `fd` stays the caller's and open until loop_unwatch; it has one watch at a time, and is
 * nothing that is always ready (no regular file). */
struct loop_watch *loop_watch(struct loop *loop, int fd, short events,
                              void (*ready)(void *opaque, short events), void *opaque);
/* Wait for other events from now on; 0 pauses the watch. */
void loop_watch_change(struct loop_watch *watch, short events);
/* No call comes after this returns. NULL is fine. */
void loop_unwatch(struct loop_watch *watch);

/* What can be done to a file without waiting. */
enum loop_operation_kind {
    LOOP_READ,        /* `vectors` from `offset` */
    LOOP_WRITE,       /* `vectors` to `offset` */
    LOOP_SYNC,        /* fdatasync */
    LOOP_DISCARD,     /* punch a hole into [offset, offset + length), the size is kept */
    LOOP_WRITE_ZEROES /* make [offset, offset + length) zero, allocated */
};

/* The caller's until `done` is called, then the caller's again. */
struct loop_operation {
    enum loop_operation_kind kind;
    int fd;
    uint64_t offset, length;
    const struct iovec *vectors;
    unsigned count; /* of vectors; at most 1024 */
    /* `result`: bytes, which may be fewer than asked for, or 0; else a negative errno. */
    void (*done)(struct loop_operation *operation, int64_t result);
    void *opaque;
    struct {
        struct loop *loop;
        struct loop_operation *next;
        int64_t result;
    } private; /* the loop's */
};

/* Begin; `done` is never called from in here. Operations have no order among each other. */
void loop_submit(struct loop *loop, struct loop_operation *operation);
