// SPDX-License-Identifier: Apache-2.0
/*
 * What loop.c and the two back ends share.
 */
#pragma once

#include "vmm/util/loop.h"

struct loop_backend {
    const char *name; /* as loop_backend tells */
    /* Make descriptors. False and `error` when the host refuses; nothing is left then. */
    bool (*init)(struct loop *loop, GError **error);
    void (*finish)(struct loop *loop);
    /* Begin what was submitted and serve what is ready; when there is nothing, wait for it if
     * `may_sleep`, of which the loop's event descriptor is a part. */
    void (*turn)(struct loop *loop, bool may_sleep);
    void (*submit)(struct loop *loop, struct loop_operation *operation);
    /* `watch->events` or `watch->removed` has changed. */
    void (*watch_update)(struct loop_watch *watch);
};

extern const struct loop_backend loop_epoll, loop_uring;

struct loop_watch {
    struct loop *loop;
    int fd;
    short events; /* 0: paused */
    bool removed; /* the back end frees it when nothing points to it any more */
    void (*ready)(void *opaque, short events);
    void *opaque;
    /* The back end's. */
    struct loop_watch *next; /* in one list of it */
    bool listed;
    short armed; /* events that the kernel watches for, 0: none */
    /* io_uring's: in the list of all; the kernel was asked to end the poll. */
    bool known, cancelling;
};

struct loop {
    const struct loop_backend *backend;
    void *private; /* the back end's */
    char name[16];
    int event; /* an eventfd: somebody wakes the thread */

    GMutex lock;     /* all that follows */
    GArray *calls;   /* struct loop_pending, oldest first */
    GArray *spare;   /* calls that run now; the two change places, so neither is made anew */
    GThread *thread; /* NULL before the first call */
    bool asleep;     /* waits in the kernel, or is about to, and nobody has woken it */
    bool quit;
};

/* Carry out a file operation in the calling thread; its result. */
int64_t loop_operation_run(const struct loop_operation *operation);
/* The mode of fallocate(2) for LOOP_DISCARD and LOOP_WRITE_ZEROES. */
int loop_fallocate_mode(enum loop_operation_kind kind);
