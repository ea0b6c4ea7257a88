// SPDX-License-Identifier: Apache-2.0
/*
 * The virtual clock of one machine.
 *
 * It counts nanoseconds of the machine's life: it starts at 0, stands still while the machine is
 * paused, and drives every timer, kvmclock and the guest's time-stamp counter. No device reads a
 * clock of the host. A manual clock moves only by clock_step, for tests.
 *
 * Timers run on the clock's own thread (on the stepping thread for a manual clock), without any
 * lock of the clock held, in the order of their deadlines. A callback takes its device's lock
 * itself; clock_timer_arm and _disarm may be called with that lock held, and from a callback.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NS_PER_SECOND 1000000000LL

struct clock;
struct clock_timer;

typedef void (*clock_timer_fn)(void *opaque);

/* A clock that runs at the host's pace from the first clock_resume on. It counts by the host's
 * time-stamp counter where that is invariant, else by CLOCK_MONOTONIC, so that machine time, guest
 * TSC and kvmclock never drift apart. Where CPUID does not tell the counter's frequency, it is
 * measured, which sleeps for 3 ms. Created paused. NULL and `error` on failure. */
struct clock *clock_create(GError **error);

/* A clock that moves only by clock_step; its wall time starts at `wall_ns` since 1970. Created
 * running; while it is paused, clock_step moves wall time alone. */
struct clock *clock_create_manual(int64_t wall_ns);

/* Stops the thread and frees the clock. All timers must be destroyed before. NULL is fine. */
void clock_destroy(struct clock *clock);

/* Nanoseconds of machine time. Any thread; lock-free. */
int64_t clock_now(const struct clock *clock);

/* Wall-clock time in nanoseconds since 1970-01-01 UTC, as the machine sees it now. Any thread. */
int64_t clock_wall(const struct clock *clock);

/* Let time pass (pause: stand still). Both idempotent, control thread. clock_pause returns after a
 * callback that was running has ended, so no timer fires until clock_resume. */
void clock_resume(struct clock *clock);
void clock_pause(struct clock *clock);
bool clock_is_running(const struct clock *clock);

/* Set machine time; the clock must be paused. For state load. */
void clock_set(struct clock *clock, int64_t now_ns);

/* The host's CLOCK_MONOTONIC, in nanoseconds, at which time stopped; the clock must be paused. */
int64_t clock_stopped_ns(const struct clock *clock);

/* Let `ns` (not negative) of machine time pass at once, and the time-stamp counter with it: the
 * guest was away, and shall find its clocks right. The clock must be paused. */
void clock_skip(struct clock *clock, int64_t ns);

/* Move a manual clock forward by `ns`, running every timer that falls due at its exact deadline. */
void clock_step(struct clock *clock, int64_t ns);

/* Frequency of the guest's time-stamp counter in kHz: what was set, else the host's, or 1 GHz where
 * the clock does not count by it. */
uint64_t clock_tsc_khz(const struct clock *clock);

/* Let the guest's counter run at `khz` (not 0). Where that is the host's frequency but for an error
 * of measurement, it is believed and the guest counts as the host does. Before anything reads it.
 */
void clock_set_tsc_khz(struct clock *clock, uint64_t khz);

/* A number that changes whenever time stops, goes on or is set: who finds it unchanged has missed
 * nothing. Any thread. */
uint32_t clock_epoch(const struct clock *clock);

/* The guest's time-stamp counter now: host TSC scaled + offset, at clock_tsc_khz; stands still
 * while paused. A manual clock derives it from its nanoseconds at 1 GHz. Lock-free, any thread. */
uint64_t clock_tsc(const struct clock *clock);

/* Whether clock_tsc is the host's RDTSC plus a constant, which `*bias` is then: true until
 * clock_epoch changes. Lock-free, any thread. */
bool clock_tsc_bias(const struct clock *clock, uint64_t *bias);

/* Machine time and counter of one and the same instant, for kvmclock. Lock-free, any thread. */
void clock_sample(const struct clock *clock, int64_t *now_ns, uint64_t *tsc);

/* Machine time at which clock_tsc will be `tsc` (may lie in the past). Any thread. */
int64_t clock_tsc_to_ns(const struct clock *clock, uint64_t tsc);

/* A disarmed timer that will call `fn(opaque)`. `name` (static) is for dumps. */
struct clock_timer *clock_timer_create(struct clock *clock, const char *name, clock_timer_fn fn,
                                       void *opaque);

/* Disarms, waits for a running callback (unless called from it), frees. NULL is fine. Never call
 * it with a lock held that the callback takes. */
void clock_timer_destroy(struct clock_timer *timer);

/* Fire once at machine time `deadline_ns`; a deadline in the past fires as soon as possible.
 * Replaces an earlier deadline. Any thread. */
void clock_timer_arm(struct clock_timer *timer, int64_t deadline_ns);

/* Not fire any more. A callback that has already begun is not waited for. Any thread. */
void clock_timer_disarm(struct clock_timer *timer);

/* a * mul / div without overflow of the product. */
static inline uint64_t clock_muldiv(uint64_t a, uint64_t mul, uint64_t div)
{
    return (uint64_t)((unsigned __int128)a * mul / div);
}
