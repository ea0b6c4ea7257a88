// SPDX-License-Identifier: Apache-2.0
/*
 * The io_uring back end (io_uring(7), by liburing): file operations, polls of descriptors and the
 * wait for all of them are one system call a turn.
 *
 * What is submitted or changed in a turn is only noted; the ring's entries are made right before
 * the call, so that none is made for a descriptor that was closed meanwhile. A poll tells once and
 * is made anew, which is a level-triggered watch without a call of its own.
 *
 * The ring is restricted, before it is enabled, to the operations below, and takes no registration
 * after. It is not held to registered files: a machine gets descriptors while it runs, so its
 * table would have to be open to changes, which would hold nobody back; and a registered file
 * stays open, and its lock held, when its descriptor is closed.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>

#include "vmm/util/fault.h"
#include "vmm/util/loop_internal.h"

#define SUBMISSIONS 128
#define COMPLETIONS 1024 /* the kernel keeps what is more */

/* What a completion belongs to: an operation's address, a watch's with this bit, or one of the
 * numbers. */
#define TAG_WATCH  1ULL
#define TAG_WAKE   2ULL
#define TAG_CANCEL 4ULL

struct loop_uring {
    struct io_uring ring;
    uint64_t wakes;                      /* read from the event descriptor */
    bool listening;                      /* such a read is under way */
    struct loop_operation *first, **end; /* submitted, not yet in the ring */
    struct loop_watch *changed;          /* to be looked at before the next call */
    GPtrArray *watches;                  /* all, owned */
};

static const uint8_t allowed[] = {
    IORING_OP_READ,      IORING_OP_READV,    IORING_OP_WRITEV,      IORING_OP_FSYNC,
    IORING_OP_FALLOCATE, IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE,
};

/* ---- file operations ---- */

static void submit(struct loop *loop, struct loop_operation *operation)
{
    struct loop_uring *uring = loop->private;

    operation->private.next = NULL;
    *uring->end = operation;
    uring->end = &operation->private.next;
}

static void operation_prepare(const struct loop_operation *operation, struct io_uring_sqe *entry)
{
    switch (operation->kind) {
    case LOOP_READ:
        io_uring_prep_readv(entry, operation->fd, operation->vectors, operation->count,
                            operation->offset);
        break;
    case LOOP_WRITE:
        io_uring_prep_writev(entry, operation->fd, operation->vectors, operation->count,
                             operation->offset);
        break;
    case LOOP_SYNC:
        io_uring_prep_fsync(entry, operation->fd, IORING_FSYNC_DATASYNC);
        break;
    case LOOP_DISCARD:
    case LOOP_WRITE_ZEROES:
        io_uring_prep_fallocate(entry, operation->fd, loop_fallocate_mode(operation->kind),
                                (off_t)operation->offset, (off_t)operation->length);
        break;
    }
    io_uring_sqe_set_data(entry, (void *)operation);
}

/* False when the ring is full before the list is empty. */
static bool prepare_operations(struct loop_uring *uring)
{
    while (uring->first) {
        struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);

        if (!entry)
            return false;
        operation_prepare(uring->first, entry);
        uring->first = uring->first->private.next;
    }
    uring->end = &uring->first;
    return true;
}

/* ---- watches ---- */

static void watch_update(struct loop_watch *watch)
{
    struct loop_uring *uring = watch->loop->private;

    if (watch->listed)
        return;
    if (!watch->known) {
        watch->known = true;
        g_ptr_array_add(uring->watches, watch);
    }
    watch->listed = true;
    watch->next = uring->changed;
    uring->changed = watch;
}

/* Make the entry that brings the kernel's poll closer to what is wanted; false when the ring is
 * full. Frees a watch that was removed and of which the kernel knows nothing any more. */
static bool watch_prepare(struct loop_uring *uring, struct loop_watch *watch)
{
    struct io_uring_sqe *entry;

    if (watch->armed == watch->events || watch->cancelling) {
        if (watch->removed && !watch->armed)
            g_ptr_array_remove_fast(uring->watches, watch);
        return true;
    }
    entry = io_uring_get_sqe(&uring->ring);
    if (!entry)
        return false;
    if (watch->armed) {
        io_uring_prep_poll_remove(entry, (uintptr_t)watch | TAG_WATCH);
        io_uring_sqe_set_data64(entry, TAG_CANCEL);
        watch->cancelling = true;
    } else {
        io_uring_prep_poll_add(entry, watch->fd, (unsigned)watch->events);
        io_uring_sqe_set_data64(entry, (uintptr_t)watch | TAG_WATCH);
        watch->armed = watch->events;
    }
    return true;
}

static bool prepare_watches(struct loop_uring *uring)
{
    while (uring->changed) {
        struct loop_watch *watch = uring->changed, *next = watch->next;

        watch->listed = false;
        if (!watch_prepare(uring, watch)) {
            watch->listed = true;
            return false;
        }
        uring->changed = next;
    }
    return true;
}

static void watch_completed(struct loop_watch *watch, int result)
{
    short wanted = watch->events ? watch->events | POLLERR | POLLHUP : 0;
    short events = result >= 0 ? (short)result : result == -ECANCELED ? 0 : POLLERR;

    watch->armed = 0;
    watch->cancelling = false;
    /* Comes first, as the watch may be removed below. */
    watch_update(watch);
    if (events & wanted)
        watch->ready(watch->opaque, events & wanted);
}

/* ---- a turn ---- */

static bool prepare_wake(struct loop *loop)
{
    struct loop_uring *uring = loop->private;
    struct io_uring_sqe *entry;

    if (uring->listening)
        return true;
    entry = io_uring_get_sqe(&uring->ring);
    if (!entry)
        return false;
    io_uring_prep_read(entry, loop->event, &uring->wakes, sizeof(uring->wakes), 0);
    io_uring_sqe_set_data64(entry, TAG_WAKE);
    uring->listening = true;
    return true;
}

static void completed(struct loop_uring *uring, const struct io_uring_cqe *completion)
{
    uint64_t tag = completion->user_data;

    if (tag == TAG_WAKE) {
        uring->listening = false;
    } else if (tag & TAG_WATCH) {
        watch_completed((void *)(uintptr_t)(tag & ~TAG_WATCH), completion->res);
    } else if (tag != TAG_CANCEL) {
        struct loop_operation *operation = (void *)(uintptr_t)tag;
        operation->done(operation, completion->res);
    }
}

static void turn(struct loop *loop, bool may_sleep)
{
    struct loop_uring *uring = loop->private;
    bool whole = prepare_wake(loop) && prepare_watches(uring) && prepare_operations(uring);
    struct io_uring_cqe *completion;
    unsigned head, count = 0;

    /* What an interrupted or refused call left in the ring goes with the next. */
    if (may_sleep && whole)
        io_uring_submit_and_wait(&uring->ring, 1);
    else
        io_uring_submit_and_get_events(&uring->ring);
    io_uring_for_each_cqe(&uring->ring, head, completion)
    {
        completed(uring, completion);
        count++;
    }
    io_uring_cq_advance(&uring->ring, count);
}

/* ---- life ---- */

/* By the plain call: liburing 2.3 declares its wrappers for these two and does not export them. */
static int restrict_ring(const struct io_uring *ring)
{
    struct io_uring_restriction rules[G_N_ELEMENTS(allowed)] = {0};

    for (unsigned i = 0; i < G_N_ELEMENTS(allowed); i++) {
        rules[i].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i].sqe_op = allowed[i];
    }
    int result = io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, rules,
                                   G_N_ELEMENTS(rules));
    return result < 0
               ? result
               : io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* Completions need no interrupt of the thread, which asks for them; kernels before 5.19 lack that.
 */
static int make_ring(struct io_uring *ring)
{
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN,
        .cq_entries = COMPLETIONS,
    };
    int result = io_uring_queue_init_params(SUBMISSIONS, ring, &parameters);

    if (result == -EINVAL) {
        parameters = (struct io_uring_params){
            .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
            .cq_entries = COMPLETIONS,
        };
        result = io_uring_queue_init_params(SUBMISSIONS, ring, &parameters);
    }
    return result;
}

static bool init(struct loop *loop, GError **error)
{
    struct loop_uring *uring = g_new0(struct loop_uring, 1);
    int result = make_ring(&uring->ring);

    if (result >= 0) {
        result = restrict_ring(&uring->ring);
        if (result < 0)
            io_uring_queue_exit(&uring->ring);
    }
    if (result < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NOT_SUPPORTED,
                    "I/O thread: the host refuses io_uring: %s", g_strerror(-result));
        g_free(uring);
        return false;
    }
    uring->end = &uring->first;
    uring->watches = g_ptr_array_new_with_free_func(g_free);
    loop->private = uring;
    return true;
}

static void finish(struct loop *loop)
{
    struct loop_uring *uring = loop->private;

    io_uring_queue_exit(&uring->ring);
    g_ptr_array_unref(uring->watches);
    g_free(uring);
}

const struct loop_backend loop_uring = {
    .name = "io_uring",
    .init = init,
    .finish = finish,
    .turn = turn,
    .submit = submit,
    .watch_update = watch_update,
};
