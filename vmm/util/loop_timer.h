// SPDX-License-Identifier: Apache-2.0
/*
 * Timers of an I/O thread, by the host's monotonic clock, which runs while a machine is paused: for
 * back ends, which deal with the host. Devices have the machine's clock.
 */
#pragma once

#include "vmm/util/loop.h"

struct loop_timer;

/* CLOCK_MONOTONIC in nanoseconds. Any thread. */
int64_t loop_timer_now(void);

/* A timer that will call `fired` on the loop's thread; not armed. NULL and `error` when the host
 * has no descriptor left. On the loop's thread, or before anything was given to the loop. */
struct loop_timer *loop_timer_create(struct loop *loop, void (*fired)(void *opaque), void *opaque,
                                     GError **error);
/* No call comes after this returns. NULL is fine. On the loop's thread. */
void loop_timer_destroy(struct loop_timer *timer);

/* Fire once at `due_ns`, soon if that is past, and not at an earlier time that was asked for. On
 * the loop's thread. */
void loop_timer_arm(struct loop_timer *timer, int64_t due_ns);
