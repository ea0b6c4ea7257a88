// SPDX-License-Identifier: Apache-2.0
/*
 * A timer is a descriptor of the kernel's (man timerfd_create) that the loop watches, so that both
 * back ends have it without a word about time.
 */
#include "vmm/util/loop_timer.h"

#include <errno.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/util/fault.h"

#define NS_PER_S 1000000000LL

struct loop_timer {
    int fd;
    struct loop_watch *watch;
    void (*fired)(void *opaque);
    void *opaque;
};

int64_t loop_timer_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void on_readable(void *opaque, short events)
{
    struct loop_timer *timer = opaque;
    uint64_t count;

    /* Armed anew between the watch's turn and this one: not yet. */
    if (read(timer->fd, &count, sizeof(count)) == sizeof(count))
        timer->fired(timer->opaque);
}

struct loop_timer *loop_timer_create(struct loop *loop, void (*fired)(void *opaque), void *opaque,
                                     GError **error)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "no descriptor for a timer: %s",
                    g_strerror(errno));
        return NULL;
    }
    struct loop_timer *timer = g_new0(struct loop_timer, 1);
    *timer = (struct loop_timer){.fd = fd, .fired = fired, .opaque = opaque};
    timer->watch = loop_watch(loop, fd, POLLIN, on_readable, timer);
    return timer;
}

void loop_timer_destroy(struct loop_timer *timer)
{
    if (!timer)
        return;
    loop_unwatch(timer->watch);
    close(timer->fd);
    g_free(timer);
}

void loop_timer_arm(struct loop_timer *timer, int64_t due_ns)
{
    /* A time of 0 would disarm it. */
    int64_t due = due_ns > 0 ? due_ns : 1;
    const struct itimerspec when = {.it_value = {due / NS_PER_S, due % NS_PER_S}};

    timerfd_settime(timer->fd, TFD_TIMER_ABSTIME, &when, NULL);
}
