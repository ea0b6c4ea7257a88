// SPDX-License-Identifier: Apache-2.0
/* The virtual clock: timers of a manual clock in exact order, and a real clock against the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

#include "vmm/machine/clock.h"

#define MS 1000000LL

struct log {
    struct clock *clock;
    _Atomic unsigned count;
    struct {
        int id;
        int64_t at;
    } entry[64];
};

struct probe {
    struct log *log;
    int id;
    struct clock_timer *timer;
    int64_t period;           /* arms itself again */
    struct clock_timer *kill; /* destroyed by the callback */
};

static void fire(void *opaque)
{
    struct probe *probe = opaque;
    struct log *log = probe->log;

    assert_true(log->count < 64);
    log->entry[log->count].id = probe->id;
    log->entry[log->count++].at = clock_now(log->clock);
    if (probe->period)
        clock_timer_arm(probe->timer, clock_now(log->clock) + probe->period);
    clock_timer_destroy(probe->kill);
    probe->kill = NULL;
}

static struct probe probe_create(struct log *log, int id)
{
    return (struct probe){.log = log, .id = id};
}

static void probe_arm(struct probe *probe, int64_t deadline)
{
    if (!probe->timer)
        probe->timer = clock_timer_create(probe->log->clock, "probe", fire, probe);
    clock_timer_arm(probe->timer, deadline);
}

static void timers_fire_in_order_of_deadline_then_of_arming(void **state)
{
    struct log log = {.clock = clock_create_manual(0)};
    struct probe probes[5];
    const int64_t deadline[5] = {50, 20, 20, 90, 10};
    const int order[5] = {4, 1, 2, 0, 3};

    for (int i = 0; i < 5; i++) {
        probes[i] = probe_create(&log, i);
        probe_arm(&probes[i], deadline[i]);
    }
    clock_step(log.clock, 100);
    assert_int_equal(log.count, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(log.entry[i].id, order[i]);
        assert_int_equal(log.entry[i].at, deadline[order[i]]);
        clock_timer_destroy(probes[i].timer);
    }
    assert_int_equal(clock_now(log.clock), 100);
    clock_destroy(log.clock);
}

static void many_timers_keep_the_order_through_rearming_and_disarming(void **state)
{
    struct log log = {.clock = clock_create_manual(0)};
    struct probe probes[200];
    unsigned expected = 0;

    srand(1);
    for (int i = 0; i < 200; i++) {
        probes[i] = probe_create(&log, i);
        probe_arm(&probes[i], rand() % 1000);
    }
    for (int i = 0; i < 200; i++) {
        if (i % 4)
            clock_timer_disarm(probes[i].timer);
        else
            clock_timer_arm(probes[i].timer, 1 + rand() % 1000);
        expected += i % 4 == 0;
    }
    clock_step(log.clock, 1000);
    assert_int_equal(log.count, expected);
    for (unsigned i = 1; i < log.count; i++)
        assert_true(log.entry[i - 1].at <= log.entry[i].at);
    for (int i = 0; i < 200; i++)
        clock_timer_destroy(probes[i].timer);
    clock_destroy(log.clock);
}

static void a_callback_arms_its_timer_again_within_one_step(void **state)
{
    struct log log = {.clock = clock_create_manual(0)};
    struct probe probe = probe_create(&log, 1);

    probe.period = 30;
    probe_arm(&probe, 30);
    clock_step(log.clock, 100);
    assert_int_equal(log.count, 3);
    assert_int_equal(log.entry[2].at, 90);
    clock_timer_disarm(probe.timer);
    clock_step(log.clock, 100);
    assert_int_equal(log.count, 3);
    clock_timer_destroy(probe.timer);
    clock_destroy(log.clock);
}

static void a_callback_destroys_its_own_timer(void **state)
{
    struct log log = {.clock = clock_create_manual(0)};
    struct probe probe = probe_create(&log, 1);

    probe_arm(&probe, 10);
    probe.kill = probe.timer;
    clock_step(log.clock, 20);
    assert_int_equal(log.count, 1);
    clock_destroy(log.clock);
}

static void a_past_deadline_fires_at_the_next_step(void **state)
{
    struct log log = {.clock = clock_create_manual(0)};
    struct probe probe = probe_create(&log, 1);

    clock_step(log.clock, 100);
    probe_arm(&probe, 40);
    clock_step(log.clock, 0);
    assert_int_equal(log.count, 1);
    assert_int_equal(log.entry[0].at, 100);
    clock_timer_destroy(probe.timer);
    clock_destroy(log.clock);
}

static void a_paused_manual_clock_moves_wall_time_alone(void **state)
{
    struct clock *clock = clock_create_manual(5000);

    clock_step(clock, 100);
    clock_pause(clock);
    clock_step(clock, 100);
    assert_int_equal(clock_now(clock), 100);
    assert_int_equal(clock_wall(clock), 5200);
    clock_resume(clock);
    clock_step(clock, 1);
    assert_int_equal(clock_now(clock), 101);
    clock_destroy(clock);
}

static void setting_the_time_leaves_the_counter_alone(void **state)
{
    struct clock *clock = clock_create_manual(0);

    clock_step(clock, 100);
    clock_pause(clock);
    uint64_t tsc = clock_tsc(clock);
    clock_set(clock, 7777);
    assert_int_equal(clock_now(clock), 7777);
    assert_int_equal(clock_tsc(clock), tsc);
    clock_resume(clock);
    clock_step(clock, 3);
    assert_int_equal(clock_now(clock), 7780);
    clock_destroy(clock);
}

static void time_that_is_skipped_moves_the_counter_too(void **state)
{
    struct clock *clock = clock_create_manual(0);
    int64_t now;
    uint64_t tsc;

    clock_step(clock, 500);
    clock_pause(clock);
    clock_sample(clock, &now, &tsc);
    clock_skip(clock, 2500);
    assert_int_equal(clock_now(clock), now + 2500);
    assert_int_equal(clock_tsc(clock), tsc + 2500);
    clock_resume(clock);
    clock_step(clock, 10);
    assert_int_equal(clock_now(clock), now + 2510);
    clock_destroy(clock);
}

static void counter_values_convert_to_times_on_both_sides_of_now(void **state)
{
    struct clock *clock = clock_create_manual(0);

    clock_step(clock, 1000);
    uint64_t tsc = clock_tsc(clock);
    assert_in_range(clock_tsc_to_ns(clock, tsc + 500), 1500, 1502);
    assert_in_range(clock_tsc_to_ns(clock, tsc - 500), 499, 501);
    assert_true(clock_tsc_to_ns(clock, tsc + INT64_MAX) == INT64_MAX);
    clock_destroy(clock);
}

static void the_guests_counter_runs_at_the_frequency_that_was_set(void **state)
{
    struct clock *clock = clock_create_manual(0);
    int64_t now;
    uint64_t tsc;

    clock_set_tsc_khz(clock, 2500000);
    assert_int_equal(clock_tsc_khz(clock), 2500000);
    clock_step(clock, NS_PER_SECOND);
    clock_sample(clock, &now, &tsc);
    assert_int_equal(now, NS_PER_SECOND);
    assert_int_equal(tsc, 2500000000);
    assert_in_range(clock_tsc_to_ns(clock, 5000000000), 2 * NS_PER_SECOND, 2 * NS_PER_SECOND + 1);
    clock_pause(clock);
    clock_skip(clock, NS_PER_SECOND);
    assert_int_equal(clock_tsc(clock), 5000000000);
    clock_destroy(clock);
}

static void every_stop_and_jump_begins_an_epoch(void **state)
{
    struct clock *clock = clock_create_manual(0);
    uint32_t epoch = clock_epoch(clock), next;

    clock_step(clock, MS);
    assert_int_equal(clock_epoch(clock), epoch);
    clock_pause(clock);
    next = clock_epoch(clock);
    assert_int_not_equal(next, epoch);
    clock_set(clock, 5 * MS);
    epoch = clock_epoch(clock);
    assert_int_not_equal(next, epoch);
    clock_skip(clock, MS);
    next = clock_epoch(clock);
    assert_int_not_equal(next, epoch);
    clock_resume(clock);
    assert_int_not_equal(clock_epoch(clock), next);
    clock_destroy(clock);
}

static int64_t host_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static void nap(int64_t ns)
{
    struct timespec span = {.tv_sec = ns / NS_PER_SECOND, .tv_nsec = ns % NS_PER_SECOND};

    nanosleep(&span, NULL);
}

/* The host may give the clock's thread no time for a while. */
static void wait_for_firing(const struct log *log)
{
    for (int i = 0; i < 5000 && !log->count; i++)
        nap(MS);
}

static void a_real_clock_keeps_the_hosts_pace_within_a_thousandth(void **state)
{
    struct clock *clock = clock_create(NULL);

    assert_non_null(clock);
    assert_int_equal(clock_now(clock), 0);
    clock_resume(clock);
    /* The host may take the processor away between two reads: each pair is bracketed. */
    int64_t first[2], last[2];
    first[0] = host_now();
    int64_t machine = clock_now(clock);
    uint64_t tsc = clock_tsc(clock);
    first[1] = host_now();
    nap(200 * MS);
    last[0] = host_now();
    machine = clock_now(clock) - machine;
    tsc = clock_tsc(clock) - tsc;
    last[1] = host_now();
    int64_t least = last[0] - first[1], most = last[1] - first[0];
    assert_in_range(machine, least - least / 1000, most + most / 1000);
    int64_t by_tsc = clock_muldiv(tsc, 1000000, clock_tsc_khz(clock));
    assert_in_range(by_tsc, least - least / 1000, most + most / 1000);
    clock_destroy(clock);
}

static void the_hosts_counter_gives_the_guests_while_the_clock_runs(void **state)
{
    struct clock *clock = clock_create(NULL), *manual = clock_create_manual(0);
    uint64_t bias, before, between;

    assert_false(clock_tsc_bias(manual, &bias));
    assert_false(clock_tsc_bias(clock, &bias));
    clock_resume(clock);
    if (clock_tsc_bias(clock, &bias)) { /* a host with an invariant counter */
        before = clock_tsc(clock);
        between = __rdtsc() + bias;
        _mm_lfence();
        assert_true(before <= between && between <= clock_tsc(clock));
    }
    clock_set_tsc_khz(clock, clock_tsc_khz(clock) / 2);
    assert_false(clock_tsc_bias(clock, &bias));
    clock_destroy(clock);
    clock_destroy(manual);
}

static void a_paused_real_clock_stands_still_and_fires_nothing(void **state)
{
    struct log log = {.clock = clock_create(NULL)};
    struct probe probe = probe_create(&log, 1);

    clock_resume(log.clock);
    clock_pause(log.clock);
    int64_t now = clock_now(log.clock);
    uint64_t tsc = clock_tsc(log.clock);
    probe_arm(&probe, now + 1);
    nap(10 * MS);
    assert_int_equal(clock_now(log.clock), now);
    assert_int_equal(clock_tsc(log.clock), tsc);
    assert_int_equal(log.count, 0);
    clock_resume(log.clock);
    wait_for_firing(&log);
    clock_timer_destroy(probe.timer);
    assert_int_equal(log.count, 1);
    clock_destroy(log.clock);
}

static void a_real_timer_never_fires_early(void **state)
{
    struct log log = {.clock = clock_create(NULL)};
    struct probe probe = probe_create(&log, 1);

    clock_resume(log.clock);
    probe.period = MS;
    probe_arm(&probe, clock_now(log.clock) + MS);
    nap(30 * MS);
    wait_for_firing(&log);
    clock_timer_destroy(probe.timer);
    assert_true(log.count >= 1);
    for (unsigned i = 1; i < log.count; i++)
        assert_true(log.entry[i].at - log.entry[i - 1].at >= MS);
    clock_destroy(log.clock);
}

struct slow {
    _Atomic bool begun, ended;
};

static void slow_callback(void *opaque)
{
    struct slow *slow = opaque;

    atomic_store(&slow->begun, true);
    nap(20 * MS);
    atomic_store(&slow->ended, true);
}

static void destroying_a_timer_waits_for_its_callback(void **state)
{
    struct clock *clock = clock_create(NULL);
    struct slow slow = {0};
    struct clock_timer *timer = clock_timer_create(clock, "slow", slow_callback, &slow);

    clock_resume(clock);
    clock_timer_arm(timer, 0);
    while (!atomic_load(&slow.begun))
        nap(MS);
    clock_timer_destroy(timer);
    assert_true(atomic_load(&slow.ended));
    clock_destroy(clock);
}

static void pausing_waits_for_a_running_callback(void **state)
{
    struct clock *clock = clock_create(NULL);
    struct slow slow = {0};
    struct clock_timer *timer = clock_timer_create(clock, "slow", slow_callback, &slow);

    clock_resume(clock);
    clock_timer_arm(timer, 0);
    while (!atomic_load(&slow.begun))
        nap(MS);
    clock_pause(clock);
    assert_true(atomic_load(&slow.ended));
    clock_timer_destroy(timer);
    clock_destroy(clock);
}

static void *watch_time(void *opaque)
{
    struct clock *clock = opaque;
    int64_t last = 0, end = host_now() + 50 * MS;
    uint64_t last_tsc = 0;

    while (host_now() < end) {
        int64_t now;
        uint64_t tsc;

        clock_sample(clock, &now, &tsc);
        if (now < last || tsc < last_tsc)
            return opaque;
        last = now;
        last_tsc = tsc;
    }
    return NULL;
}

static void time_never_goes_back_while_the_clock_stops_and_goes(void **state)
{
    struct clock *clock = clock_create(NULL);
    pthread_t thread;
    void *failed;

    pthread_create(&thread, NULL, watch_time, clock);
    for (int i = 0; i < 40; i++) {
        clock_resume(clock);
        nap(MS / 2);
        clock_pause(clock);
    }
    pthread_join(thread, &failed);
    assert_null(failed);
    clock_destroy(clock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order_of_deadline_then_of_arming),
        cmocka_unit_test(many_timers_keep_the_order_through_rearming_and_disarming),
        cmocka_unit_test(a_callback_arms_its_timer_again_within_one_step),
        cmocka_unit_test(a_callback_destroys_its_own_timer),
        cmocka_unit_test(a_past_deadline_fires_at_the_next_step),
        cmocka_unit_test(a_paused_manual_clock_moves_wall_time_alone),
        cmocka_unit_test(setting_the_time_leaves_the_counter_alone),
        cmocka_unit_test(time_that_is_skipped_moves_the_counter_too),
        cmocka_unit_test(counter_values_convert_to_times_on_both_sides_of_now),
        cmocka_unit_test(a_real_clock_keeps_the_hosts_pace_within_a_thousandth),
        cmocka_unit_test(the_hosts_counter_gives_the_guests_while_the_clock_runs),
        cmocka_unit_test(a_paused_real_clock_stands_still_and_fires_nothing),
        cmocka_unit_test(a_real_timer_never_fires_early),
        cmocka_unit_test(the_guests_counter_runs_at_the_frequency_that_was_set),
        cmocka_unit_test(every_stop_and_jump_begins_an_epoch),
        cmocka_unit_test(destroying_a_timer_waits_for_its_callback),
        cmocka_unit_test(pausing_waits_for_a_running_callback),
        cmocka_unit_test(time_never_goes_back_while_the_clock_stops_and_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
