// SPDX-License-Identifier: Apache-2.0
/*
 * What both back ends of the loop have in common: the thread, calls from other threads, and the
 * choice of the back end.
 *
 * Waking: the thread says that it is about to sleep with the lock held, after it has seen that no
 * call waits. Who adds a call finds that, takes it back and writes to the event descriptor; so a
 * sleep costs one write at most, and a thread that is awake none.
 */
#include "vmm/util/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/util/fault.h"
#include "vmm/util/loop_internal.h"
#include "vmm/util/thread.h"

struct loop_pending {
    void (*function)(void *opaque);
    void *opaque;
};

static _Thread_local const struct loop *current;

const char *loop_backend(const struct loop *loop)
{
    return loop->backend->name;
}

bool loop_is_current(const struct loop *loop)
{
    return current == loop;
}

/* ---- the thread ---- */

/* Run the calls that wait now; those that they add wait for the next turn. */
static void calls_run(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    GArray *calls = loop->calls;
    loop->calls = loop->spare;
    loop->spare = calls;
    g_mutex_unlock(&loop->lock);
    for (guint i = 0; i < calls->len; i++) {
        const struct loop_pending *call = &g_array_index(calls, struct loop_pending, i);
        call->function(call->opaque);
    }
    g_array_set_size(calls, 0);
}

/* Whether the thread goes on; `may_sleep` when nothing waits for it. */
static bool prepare_turn(struct loop *loop, bool *may_sleep)
{
    g_mutex_lock(&loop->lock);
    bool idle = !loop->calls->len, go_on = !idle || !loop->quit;
    *may_sleep = loop->asleep = idle && go_on;
    g_mutex_unlock(&loop->lock);
    return go_on;
}

static void *thread_main(void *opaque)
{
    struct loop *loop = opaque;
    bool may_sleep;

    thread_begin(THREAD_IO);
    current = loop;
    while (prepare_turn(loop, &may_sleep)) {
        loop->backend->turn(loop, may_sleep);
        g_mutex_lock(&loop->lock);
        loop->asleep = false;
        g_mutex_unlock(&loop->lock);
        calls_run(loop);
    }
    return NULL;
}

/* ---- calls ---- */

static void wake_locked(struct loop *loop)
{
    uint64_t one = 1;

    if (!loop->asleep)
        return;
    loop->asleep = false;
    while (write(loop->event, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void start_locked(struct loop *loop)
{
    if (!loop->thread)
        loop->thread = g_thread_new(loop->name, thread_main, loop);
}

void loop_start(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    start_locked(loop);
    g_mutex_unlock(&loop->lock);
}

void loop_call(struct loop *loop, void (*function)(void *opaque), void *opaque)
{
    const struct loop_pending call = {function, opaque};

    g_mutex_lock(&loop->lock);
    g_array_append_val(loop->calls, call);
    start_locked(loop);
    wake_locked(loop);
    g_mutex_unlock(&loop->lock);
}

struct waiter {
    void (*function)(void *opaque);
    void *opaque;
    GMutex lock;
    GCond changed;
    bool done;
};

static void call_for_waiter(void *opaque)
{
    struct waiter *waiter = opaque;

    waiter->function(waiter->opaque);
    g_mutex_lock(&waiter->lock);
    waiter->done = true;
    g_cond_signal(&waiter->changed);
    g_mutex_unlock(&waiter->lock);
}

void loop_call_wait(struct loop *loop, void (*function)(void *opaque), void *opaque)
{
    struct waiter waiter = {.function = function, .opaque = opaque};

    if (loop_is_current(loop)) {
        function(opaque);
        return;
    }
    g_mutex_init(&waiter.lock);
    g_cond_init(&waiter.changed);
    loop_call(loop, call_for_waiter, &waiter);
    g_mutex_lock(&waiter.lock);
    while (!waiter.done)
        g_cond_wait(&waiter.changed, &waiter.lock);
    g_mutex_unlock(&waiter.lock);
    g_cond_clear(&waiter.changed);
    g_mutex_clear(&waiter.lock);
}

/* ---- watches and operations ---- */

struct loop_watch *loop_watch(struct loop *loop, int fd, short events,
                              void (*ready)(void *opaque, short events), void *opaque)
{
    struct loop_watch *watch = g_new0(struct loop_watch, 1);

    *watch = (struct loop_watch){
        .loop = loop, .fd = fd, .events = events, .ready = ready, .opaque = opaque};
    loop->backend->watch_update(watch);
    return watch;
}

void loop_watch_change(struct loop_watch *watch, short events)
{
    if (watch->events == events)
        return;
    watch->events = events;
    watch->loop->backend->watch_update(watch);
}

void loop_unwatch(struct loop_watch *watch)
{
    if (!watch)
        return;
    watch->removed = true;
    watch->events = 0;
    watch->loop->backend->watch_update(watch);
}

void loop_submit(struct loop *loop, struct loop_operation *operation)
{
    operation->private.loop = loop;
    loop->backend->submit(loop, operation);
}

int loop_fallocate_mode(enum loop_operation_kind kind)
{
    return FALLOC_FL_KEEP_SIZE |
           (kind == LOOP_DISCARD ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

static int64_t operation_attempt(const struct loop_operation *operation)
{
    off_t offset = (off_t)operation->offset;

    switch (operation->kind) {
    case LOOP_READ:
        return preadv(operation->fd, operation->vectors, (int)operation->count, offset);
    case LOOP_WRITE:
        return pwritev(operation->fd, operation->vectors, (int)operation->count, offset);
    case LOOP_SYNC:
        return fdatasync(operation->fd);
    case LOOP_DISCARD:
    case LOOP_WRITE_ZEROES:
        return fallocate(operation->fd, loop_fallocate_mode(operation->kind), offset,
                         (off_t)operation->length);
    }
    errno = EINVAL;
    return -1;
}

int64_t loop_operation_run(const struct loop_operation *operation)
{
    int64_t result;

    do
        result = operation_attempt(operation);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

/* ---- life ---- */

/* Take the back end that the environment asks for, else the first that the host allows. */
static bool backend_choose(struct loop *loop, GError **error)
{
    static const struct {
        const char *word;
        const struct loop_backend *backend;
    } choices[] = {{"uring", &loop_uring}, {"epoll", &loop_epoll}};
    const char *asked = getenv("ANIMA_LOOP");

    for (unsigned i = 0; i < G_N_ELEMENTS(choices); i++) {
        bool must = asked ? strcmp(asked, choices[i].word) == 0 : i == G_N_ELEMENTS(choices) - 1;

        if (asked && !must)
            continue;
        loop->backend = choices[i].backend;
        if (loop->backend->init(loop, must ? error : NULL))
            return true;
        loop->backend = NULL;
        if (must)
            return false;
    }
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                "I/O thread: ANIMA_LOOP: expected uring or epoll, not '%s'", asked);
    return false;
}

struct loop *loop_create(const char *name, GError **error)
{
    struct loop *loop = g_new0(struct loop, 1);

    g_strlcpy(loop->name, name, sizeof(loop->name));
    g_mutex_init(&loop->lock);
    loop->calls = g_array_new(false, false, sizeof(struct loop_pending));
    loop->spare = g_array_new(false, false, sizeof(struct loop_pending));
    loop->event = eventfd(0, EFD_CLOEXEC);
    if (loop->event < 0)
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "I/O thread: no event descriptor: %s",
                    g_strerror(errno));
    else if (backend_choose(loop, error))
        return loop;
    loop_destroy(loop);
    return NULL;
}

void loop_destroy(struct loop *loop)
{
    if (!loop)
        return;
    g_mutex_lock(&loop->lock);
    GThread *thread = loop->thread;
    loop->quit = true;
    wake_locked(loop);
    g_mutex_unlock(&loop->lock);
    if (thread)
        g_thread_join(thread);
    if (loop->backend)
        loop->backend->finish(loop);
    if (loop->event >= 0)
        close(loop->event);
    g_array_unref(loop->calls);
    g_array_unref(loop->spare);
    g_mutex_clear(&loop->lock);
    g_free(loop);
}
