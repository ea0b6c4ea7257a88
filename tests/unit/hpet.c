// SPDX-License-Identifier: Apache-2.0
/* The HPET: counter, one-shot and periodic comparators, edges and levels, legacy replacement. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/hpet.h"
#include "vmm/machine/pc/layout.h"

#define CONFIG        0x10
#define STATUS        0x20
#define COUNTER       0xF0
#define TIMER(n)      (0x100 + 0x20 * (n))
#define COMPARATOR(n) (0x108 + 0x20 * (n))

#define T_LEVEL     0x002
#define T_ENABLE    0x004
#define T_PERIODIC  0x008
#define T_SET_VALUE 0x040
#define T_32BIT     0x100
#define T_ROUTE(n)  ((n) << 9)

static struct bench *bench;
static struct device *hpet;

static int setup(void **state)
{
    bench = bench_create();
    hpet = bench_device(bench, &hpet_device);
    return 0;
}

static int teardown(void **state)
{
    device_destroy(hpet);
    bench_destroy(bench);
    return 0;
}

static uint64_t get(unsigned offset)
{
    return bus_read(bench->env.mmio, PC_HPET_BASE + offset, 8);
}

static void put(unsigned offset, uint64_t value)
{
    bus_write(bench->env.mmio, PC_HPET_BASE + offset, 8, value);
}

static void put32(unsigned offset, uint32_t value)
{
    bus_write(bench->env.mmio, PC_HPET_BASE + offset, 4, value);
}

static void capabilities_tell_of_three_64_bit_timers(void **state)
{
    assert_int_equal(get(0) & UINT32_MAX, 0x8086A201);
    assert_int_equal(get(0) >> 32, 10000000); /* femtoseconds */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(get(TIMER(i)) & UINT32_MAX, 0x30);
        assert_int_equal(get(TIMER(i)) >> 32, 0x00F00000);
    }
    assert_int_equal(bus_read(bench->env.mmio, PC_HPET_BASE + 4, 4), 10000000);
}

static void the_counter_runs_only_while_enabled(void **state)
{
    bench_step(bench, MS);
    assert_int_equal(get(COUNTER), 0);
    put(COUNTER, 0xFFFFFFF0);
    put(CONFIG, 1);
    bench_step(bench, 320);
    assert_true(get(COUNTER) == 0x100000010);
    assert_int_equal(bus_read(bench->env.mmio, PC_HPET_BASE + COUNTER + 4, 4), 1);
    put(COUNTER, 0); /* refused while it runs */
    assert_true(get(COUNTER) == 0x100000010);
    assert_int_equal(hpet->guest_errors, 1);
    put(CONFIG, 0);
    bench_step(bench, MS);
    assert_true(get(COUNTER) == 0x100000010);
}

static void a_one_shot_fires_at_its_exact_time(void **state)
{
    put(TIMER(0), T_ENABLE | T_ROUTE(20));
    put(COMPARATOR(0), 100000);
    put(CONFIG, 1);
    bench_step(bench, MS - 1);
    assert_int_equal(bench_rises(bench, 20), 0);
    bench_step(bench, 1);
    assert_int_equal(bench_rises(bench, 20), 1);
    assert_int_equal(bench->lines[20].rose_at, MS);
    assert_int_equal(get(STATUS), 0); /* edges leave no status */
    bench_step(bench, NS_PER_SECOND);
    assert_int_equal(bench_rises(bench, 20), 0);
}

static void a_comparator_behind_the_counter_waits_for_its_wrap(void **state)
{
    put(CONFIG, 1);
    bench_step(bench, MS);
    put(TIMER(2), T_ENABLE | T_32BIT | T_ROUTE(21));
    put(COMPARATOR(2), 99999);
    bench_step(bench, 10 * NS_PER_SECOND);
    assert_int_equal(bench_rises(bench, 21), 0);
    bench_step(bench, 40 * NS_PER_SECOND); /* 2^32 counts are 42.9 s */
    assert_int_equal(bench_rises(bench, 21), 1);
    assert_int_equal(bench->lines[21].rose_at, (99999 + (1LL << 32)) * 10);
}

static void a_periodic_timer_keeps_its_pace(void **state)
{
    put(CONFIG, 1);
    put(TIMER(1), T_ENABLE | T_PERIODIC | T_SET_VALUE | T_32BIT | T_ROUTE(22));
    put32(COMPARATOR(1), 50000);  /* the first at 0.5 ms ... */
    put32(COMPARATOR(1), 100000); /* ... then each millisecond */
    for (unsigned i = 0; i < 100; i++) {
        bench_step(bench, MS);
        assert_int_equal(bench_rises(bench, 22), 1);
        assert_int_equal(bench->lines[22].rose_at, i * MS + MS / 2);
    }
    assert_int_equal(get(COMPARATOR(1)), 100 * 100000 + 50000);
}

static void a_level_stays_up_until_its_status_is_cleared(void **state)
{
    put(TIMER(0), T_ENABLE | T_LEVEL | T_ROUTE(23));
    put(COMPARATOR(0), 1000);
    put(CONFIG, 1);
    bench_step(bench, MS);
    assert_true(bench->lines[23].level);
    assert_int_equal(get(STATUS), 1);
    put(STATUS, 2);
    assert_true(bench->lines[23].level);
    put(STATUS, 1);
    assert_false(bench->lines[23].level);
    assert_int_equal(get(STATUS), 0);
}

static void two_levels_share_a_line(void **state)
{
    put(TIMER(0), T_ENABLE | T_LEVEL | T_ROUTE(23));
    put(TIMER(1), T_ENABLE | T_LEVEL | T_ROUTE(23));
    put(COMPARATOR(0), 1000);
    put(COMPARATOR(1), 2000);
    put(CONFIG, 1);
    bench_step(bench, MS);
    put(STATUS, 1);
    assert_true(bench->lines[23].level);
    put(STATUS, 2);
    assert_false(bench->lines[23].level);
}

static void a_route_outside_the_mask_goes_nowhere(void **state)
{
    put(TIMER(0), T_ENABLE | T_ROUTE(5));
    put(COMPARATOR(0), 1000);
    put(CONFIG, 1);
    bench_step(bench, MS);
    assert_int_equal(bench_rises(bench, 5), 0);
}

static void legacy_replacement_takes_over_both_lines(void **state)
{
    struct irq_line pit = hpet_legacy_input(hpet, 0), rtc = hpet_legacy_input(hpet, 1);

    irq_pulse(&pit);
    irq_pulse(&rtc);
    assert_int_equal(bench_rises(bench, 0), 1);
    assert_int_equal(bench_rises(bench, 8), 1);

    put(TIMER(0), T_ENABLE | T_PERIODIC | T_SET_VALUE);
    put(COMPARATOR(0), 100000);
    put(TIMER(1), T_ENABLE);
    put(COMPARATOR(1), 250000);
    put(CONFIG, 3);
    irq_pulse(&pit);
    irq_pulse(&rtc);
    assert_int_equal(bench_rises(bench, 0), 0);
    assert_int_equal(bench_rises(bench, 8), 0);
    bench_step(bench, 3 * MS);
    assert_int_equal(bench_rises(bench, 0), 3);
    assert_int_equal(bench_rises(bench, 8), 1);

    irq_set(&rtc, true);
    put(CONFIG, 1); /* given back, with the level that they have now */
    assert_true(bench->lines[8].level);
    irq_pulse(&pit);
    assert_int_equal(bench_rises(bench, 0), 1);
}

static void an_unheard_periodic_timer_moves_on(void **state)
{
    put(CONFIG, 1);
    put(TIMER(0), T_PERIODIC | T_SET_VALUE);
    put(COMPARATOR(0), 100000);
    bench_step(bench, 5 * MS + MS / 2);
    assert_int_equal(get(COMPARATOR(0)), 600000);
    put(TIMER(0), T_PERIODIC | T_ENABLE | T_ROUTE(20));
    bench_step(bench, MS / 2);
    assert_int_equal(bench_rises(bench, 20), 1);
    assert_int_equal(bench->lines[20].rose_at, 6 * MS);
}

static void the_shortest_period_does_not_flood(void **state)
{
    put(TIMER(0), T_ENABLE | T_PERIODIC | T_SET_VALUE | T_ROUTE(20));
    put(COMPARATOR(0), 1);
    put(CONFIG, 1);
    bench_step(bench, 10 * MS);
    assert_in_range(bench_rises(bench, 20), 100, 501);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(capabilities_tell_of_three_64_bit_timers),
        TEST(the_counter_runs_only_while_enabled),
        TEST(a_one_shot_fires_at_its_exact_time),
        TEST(a_comparator_behind_the_counter_waits_for_its_wrap),
        TEST(a_periodic_timer_keeps_its_pace),
        TEST(a_level_stays_up_until_its_status_is_cleared),
        TEST(two_levels_share_a_line),
        TEST(a_route_outside_the_mask_goes_nowhere),
        TEST(legacy_replacement_takes_over_both_lines),
        TEST(an_unheard_periodic_timer_moves_on),
        TEST(the_shortest_period_does_not_flood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
