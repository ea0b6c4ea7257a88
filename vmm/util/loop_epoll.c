// SPDX-License-Identifier: Apache-2.0
/*
 * The epoll back end (epoll(7)): descriptors are watched by the loop's thread, file operations run
 * on a few threads of a pool, since files are always "ready" and yet wait for the disk.
 *
 * The pool's threads start one by one while operations wait and none is idle, and stay. An
 * operation is its own list entry, so nothing is allocated for it (which GThreadPool would do), and
 * its result comes back as a call.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/util/fault.h"
#include "vmm/util/loop_internal.h"

#define EVENTS_MAX 64 /* in one turn */
#define POOL_MAX   4  /* threads */

struct loop_epoll {
    struct loop *loop;
    int epoll;
    struct loop_watch *removed; /* freed at the turn's end: events of it may wait in this turn */

    GMutex lock; /* the pool: all that follows */
    GCond work;
    struct loop_operation *first, **end; /* not begun, oldest first */
    GThread *threads[POOL_MAX];
    unsigned count, idle, waiting; /* threads, those without work, operations not begun */
    bool quit;
};

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                   EPOLLHUP == POLLHUP && EPOLLPRI == POLLPRI,
               "events of poll are events of epoll");

/* ---- the pool ---- */

static void operation_done(void *opaque)
{
    struct loop_operation *operation = opaque;
    operation->done(operation, operation->private.result);
}

/* The next operation; NULL when the pool ends. */
static struct loop_operation *operation_take(struct loop_epoll *epoll)
{
    g_mutex_lock(&epoll->lock);
    epoll->idle++;
    while (!epoll->first && !epoll->quit)
        g_cond_wait(&epoll->work, &epoll->lock);
    epoll->idle--;
    struct loop_operation *operation = epoll->first;
    if (operation) {
        epoll->waiting--;
        epoll->first = operation->private.next;
        if (!epoll->first)
            epoll->end = &epoll->first;
    }
    g_mutex_unlock(&epoll->lock);
    return operation;
}

static void *pool_main(void *opaque)
{
    struct loop_epoll *epoll = opaque;
    struct loop_operation *operation;

    while ((operation = operation_take(epoll))) {
        operation->private.result = loop_operation_run(operation);
        loop_call(epoll->loop, operation_done, operation);
    }
    return NULL;
}

static void submit(struct loop *loop, struct loop_operation *operation)
{
    struct loop_epoll *epoll = loop->private;

    operation->private.next = NULL;
    g_mutex_lock(&epoll->lock);
    *epoll->end = operation;
    epoll->end = &operation->private.next;
    if (++epoll->waiting > epoll->idle && epoll->count < POOL_MAX)
        epoll->threads[epoll->count++] = g_thread_new("io-pool", pool_main, epoll);
    else
        g_cond_signal(&epoll->work);
    g_mutex_unlock(&epoll->lock);
}

static void pool_end(struct loop_epoll *epoll)
{
    g_mutex_lock(&epoll->lock);
    epoll->quit = true;
    g_cond_broadcast(&epoll->work);
    g_mutex_unlock(&epoll->lock);
    for (unsigned i = 0; i < epoll->count; i++)
        g_thread_join(epoll->threads[i]);
}

/* ---- watches ---- */

static void watch_update(struct loop_watch *watch)
{
    struct loop_epoll *epoll = watch->loop->private;
    struct epoll_event event = {.events = (uint32_t)watch->events, .data.ptr = watch};

    if (watch->events != watch->armed) {
        int change = !watch->armed ? EPOLL_CTL_ADD : !watch->events ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
        if (epoll_ctl(epoll->epoll, change, watch->fd, &event) != 0)
            g_warning("I/O thread: descriptor %d cannot be watched: %s", watch->fd,
                      g_strerror(errno));
        watch->armed = watch->events;
    }
    if (watch->removed && !watch->listed) {
        watch->listed = true;
        watch->next = epoll->removed;
        epoll->removed = watch;
    }
}

static void free_removed(struct loop_epoll *epoll)
{
    while (epoll->removed) {
        struct loop_watch *watch = epoll->removed;
        epoll->removed = watch->next;
        g_free(watch);
    }
}

static void turn(struct loop *loop, bool may_sleep)
{
    struct loop_epoll *epoll = loop->private;
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(epoll->epoll, events, EVENTS_MAX, may_sleep ? -1 : 0);

    for (int i = 0; i < count; i++) {
        struct loop_watch *watch = events[i].data.ptr; /* NULL: this has only ended the sleep */
        short wanted = watch && watch->events ? watch->events | POLLERR | POLLHUP : 0;

        if ((short)events[i].events & wanted)
            watch->ready(watch->opaque, (short)events[i].events & wanted);
    }
    free_removed(epoll);
}

/* ---- life ---- */

static void finish(struct loop *loop)
{
    struct loop_epoll *epoll = loop->private;

    pool_end(epoll);
    free_removed(epoll);
    close(epoll->epoll);
    g_cond_clear(&epoll->work);
    g_mutex_clear(&epoll->lock);
    g_free(epoll);
}

static bool init(struct loop *loop, GError **error)
{
    /* By edge, so that it need not be read. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, loop->event, &event) != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "I/O thread: epoll: %s", g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    struct loop_epoll *epoll = g_new0(struct loop_epoll, 1);
    epoll->loop = loop;
    epoll->epoll = fd;
    epoll->end = &epoll->first;
    g_mutex_init(&epoll->lock);
    g_cond_init(&epoll->work);
    loop->private = epoll;
    return true;
}

const struct loop_backend loop_epoll = {
    .name = "epoll",
    .init = init,
    .finish = finish,
    .turn = turn,
    .submit = submit,
    .watch_update = watch_update,
};
