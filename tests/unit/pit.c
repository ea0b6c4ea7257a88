// SPDX-License-Identifier: Apache-2.0
/* The 8254: every mode, counts, latches, BCD, gates, and the exact time of interrupts. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/pit.h"

#define PORT(channel) (0x40 + (channel))
#define CONTROL       0x43
#define PORT_B        0x61
#define HZ            1193182

static struct bench *bench;
static struct device *pit;

static int setup(void **state)
{
    bench = bench_create();
    pit = bench_device(bench, &pit_device);
    bench_step(bench, 1); /* off the tick's edge */
    return 0;
}

static int teardown(void **state)
{
    device_destroy(pit);
    bench_destroy(bench);
    return 0;
}

/* The first nanosecond of a tick, counted from machine time 0. */
static int64_t ns_of(uint64_t tick)
{
    return (tick * NS_PER_SECOND + HZ - 1) / HZ;
}

static uint64_t tick_now(void)
{
    return clock_muldiv(clock_now(bench->env.clock), HZ, NS_PER_SECOND);
}

static void step_to(int64_t ns)
{
    bench_step(bench, ns - clock_now(bench->env.clock));
}

static void step_ticks(uint64_t ticks)
{
    step_to(ns_of(tick_now() + ticks));
}

static void control(unsigned channel, unsigned access, unsigned mode, bool bcd)
{
    out8(bench, CONTROL, channel << 6 | access << 4 | mode << 1 | bcd);
}

/* Write a count and let it be loaded; returns the tick of its load. */
static uint64_t start(unsigned channel, uint16_t count)
{
    uint64_t loaded = tick_now() + 1;

    out8(bench, PORT(channel), count);
    out8(bench, PORT(channel), count >> 8);
    return loaded;
}

static uint16_t read_count(unsigned channel)
{
    out8(bench, CONTROL, channel << 6);
    uint8_t low = in8(bench, PORT(channel));
    return low | in8(bench, PORT(channel)) << 8;
}

static uint8_t read_status(unsigned channel)
{
    out8(bench, CONTROL, 0xE0 | 2 << channel);
    return in8(bench, PORT(channel));
}

static bool output(unsigned channel)
{
    return read_status(channel) & 0x80;
}

static void mode_0_raises_its_output_once_at_the_end_of_the_count(void **state)
{
    control(0, 3, 0, false);
    assert_false(bench->lines[0].level);
    uint64_t load = start(0, 1000);
    bench_rises(bench, 0);
    step_to(ns_of(load + 1000) - 1);
    assert_false(bench->lines[0].level);
    step_to(ns_of(load + 1000));
    assert_true(bench->lines[0].level);
    assert_int_equal(bench->lines[0].rose_at, ns_of(load + 1000));
    bench_step(bench, 200 * MS);
    assert_int_equal(bench_rises(bench, 0), 1);
}

static void mode_0_counts_down_and_wraps(void **state)
{
    control(2, 3, 0, false);
    out8(bench, PORT_B, 1);
    uint64_t load = start(2, 5);
    step_to(ns_of(load));
    assert_int_equal(read_count(2), 5);
    step_ticks(3);
    assert_int_equal(read_count(2), 2);
    step_ticks(2);
    assert_int_equal(read_count(2), 0);
    step_ticks(1);
    assert_int_equal(read_count(2), 0xFFFF);
}

static void mode_0_stands_still_while_the_gate_is_low(void **state)
{
    control(2, 3, 0, false);
    out8(bench, PORT_B, 1);
    uint64_t load = start(2, 1000);
    step_to(ns_of(load + 400));
    out8(bench, PORT_B, 0);
    step_ticks(5000);
    assert_int_equal(read_count(2), 600);
    assert_false(in8(bench, PORT_B) & 0x20);
    out8(bench, PORT_B, 1);
    step_ticks(599);
    assert_false(in8(bench, PORT_B) & 0x20);
    step_ticks(1);
    assert_true(in8(bench, PORT_B) & 0x20);
}

static void mode_0_waits_for_the_second_byte(void **state)
{
    control(0, 3, 0, false);
    start(0, 100);
    bench_step(bench, 50 * US);
    out8(bench, PORT(0), 200);
    bench_step(bench, 10 * MS);
    assert_false(output(0));
    out8(bench, PORT(0), 0);
    step_ticks(201);
    assert_true(output(0));
}

static void mode_1_gives_one_low_pulse_for_each_trigger(void **state)
{
    control(2, 3, 1, false);
    start(2, 100);
    assert_true(output(2));
    step_ticks(1000);
    assert_true(output(2)); /* not triggered yet */
    out8(bench, PORT_B, 1);
    assert_false(output(2));
    step_ticks(100);
    assert_false(output(2));
    step_ticks(1);
    assert_true(output(2));
    out8(bench, PORT_B, 0);
    out8(bench, PORT_B, 1);
    step_ticks(50);
    out8(bench, PORT_B, 0);
    out8(bench, PORT_B, 1); /* retriggered: the pulse grows */
    step_ticks(100);
    assert_false(output(2));
    step_ticks(1);
    assert_true(output(2));
}

static void mode_2_interrupts_at_exact_periods(void **state)
{
    control(0, 3, 2, false);
    bench_rises(bench, 0);
    uint64_t load = start(0, 11932); /* 100 Hz */
    for (unsigned i = 1; i <= 200; i++) {
        step_to(ns_of(load + i * 11932) - 1);
        assert_int_equal(bench_rises(bench, 0), 0);
        step_to(ns_of(load + i * 11932));
        assert_int_equal(bench_rises(bench, 0), 1);
    }
}

static void mode_2_is_low_for_the_last_tick_of_a_period(void **state)
{
    control(0, 3, 2, false);
    uint64_t load = start(0, 100);
    step_to(ns_of(load));
    assert_int_equal(read_count(0), 100);
    step_ticks(98);
    assert_int_equal(read_count(0), 2);
    assert_true(output(0));
    step_ticks(1);
    assert_int_equal(read_count(0), 1);
    assert_false(output(0));
    step_ticks(1);
    assert_int_equal(read_count(0), 100);
    assert_true(output(0));
}

static void mode_2_takes_a_new_count_at_the_end_of_the_period(void **state)
{
    control(0, 3, 2, false);
    uint64_t load = start(0, 1000);
    step_to(ns_of(load + 300));
    bench_rises(bench, 0);
    start(0, 5000);
    assert_int_equal(read_count(0), 700);
    step_to(ns_of(load + 1000));
    assert_int_equal(bench_rises(bench, 0), 1);
    assert_int_equal(read_count(0), 5000);
    step_to(ns_of(load + 6000) - 1);
    assert_int_equal(bench_rises(bench, 0), 0);
    step_to(ns_of(load + 6000));
    assert_int_equal(bench_rises(bench, 0), 1);
}

static void mode_2_is_stopped_and_restarted_by_the_gate(void **state)
{
    control(2, 3, 2, false);
    out8(bench, PORT_B, 1);
    start(2, 1000);
    step_ticks(400);
    out8(bench, PORT_B, 0);
    assert_true(output(2));
    step_ticks(5000);
    out8(bench, PORT_B, 1);
    step_ticks(1);
    assert_int_equal(read_count(2), 1000);
}

static void mode_3_is_a_square_wave_also_of_odd_counts(void **state)
{
    control(0, 3, 3, false);
    bench_rises(bench, 0);
    uint64_t load = start(0, 101);
    step_to(ns_of(load));
    assert_int_equal(read_count(0), 100);
    step_ticks(50);
    assert_true(output(0));
    step_ticks(1);
    assert_false(output(0));
    assert_int_equal(read_count(0), 100);
    step_ticks(49);
    assert_false(output(0));
    assert_int_equal(read_count(0), 2);
    assert_int_equal(bench_rises(bench, 0), 0);
    step_ticks(1);
    assert_true(output(0));
    assert_int_equal(bench_rises(bench, 0), 1);
    assert_int_equal(bench->lines[0].rose_at, ns_of(load + 101));
}

static void mode_3_takes_a_new_count_at_the_half_period(void **state)
{
    control(0, 3, 3, false);
    uint64_t load = start(0, 1000);
    step_to(ns_of(load + 100));
    bench_rises(bench, 0);
    start(0, 4000);
    step_to(ns_of(load + 499));
    assert_true(output(0));
    step_to(ns_of(load + 500));
    assert_false(output(0));
    step_to(ns_of(load + 2500) - 1);
    assert_int_equal(bench_rises(bench, 0), 0);
    step_to(ns_of(load + 2500));
    assert_int_equal(bench_rises(bench, 0), 1);
    step_to(ns_of(load + 6500));
    assert_int_equal(bench_rises(bench, 0), 1);
}

static void mode_4_strobes_once_after_the_count(void **state)
{
    control(0, 3, 4, false);
    assert_true(output(0));
    bench_rises(bench, 0);
    uint64_t load = start(0, 1000);
    step_to(ns_of(load + 999));
    assert_true(output(0));
    step_to(ns_of(load + 1000));
    assert_false(output(0));
    assert_int_equal(bench_rises(bench, 0), 0);
    step_to(ns_of(load + 1001));
    assert_true(output(0));
    assert_int_equal(bench_rises(bench, 0), 1);
    bench_step(bench, 200 * MS);
    assert_int_equal(bench_rises(bench, 0), 0);
    load = start(0, 500); /* one-shots need no new control word */
    step_to(ns_of(load + 501));
    assert_int_equal(bench_rises(bench, 0), 1);
}

static void mode_5_strobes_after_each_trigger(void **state)
{
    control(2, 3, 5, false);
    start(2, 100);
    step_ticks(500);
    assert_true(output(2));
    out8(bench, PORT_B, 1);
    step_ticks(100);
    assert_true(output(2));
    step_ticks(1);
    assert_false(output(2));
    step_ticks(1);
    assert_true(output(2));
}

static void modes_6_and_7_are_2_and_3(void **state)
{
    control(0, 3, 6, false);
    assert_int_equal(read_status(0) & 0x0E, 2 << 1);
    control(0, 3, 7, false);
    assert_int_equal(read_status(0) & 0x0E, 3 << 1);
}

static void a_count_of_zero_is_the_longest(void **state)
{
    control(0, 3, 0, false);
    uint64_t load = start(0, 0);
    step_to(ns_of(load + 65536) - 1);
    assert_false(output(0));
    step_to(ns_of(load + 65536));
    assert_true(output(0));
    control(0, 3, 0, true);
    load = start(0, 0);
    step_to(ns_of(load + 10000) - 1);
    assert_false(output(0));
    step_to(ns_of(load + 10000));
    assert_true(output(0));
}

static void bcd_counts_in_decimal(void **state)
{
    control(0, 3, 2, true);
    uint64_t load = start(0, 0x1234);
    step_to(ns_of(load));
    assert_int_equal(read_count(0), 0x1234);
    step_ticks(235);
    assert_int_equal(read_count(0), 0x0999);
}

static void single_byte_access_counts_in_its_half(void **state)
{
    control(0, 1, 0, false);
    out8(bench, PORT(0), 50);
    step_ticks(11);
    assert_int_equal(in8(bench, PORT(0)), 40);
    control(0, 2, 0, false);
    out8(bench, PORT(0), 2);
    step_ticks(1 + 256);
    assert_int_equal(in8(bench, PORT(0)), 1);
}

static void unlatched_reads_alternate_between_the_bytes(void **state)
{
    control(0, 3, 2, false);
    start(0, 0x1234);
    step_ticks(1);
    assert_int_equal(in8(bench, PORT(0)), 0x34);
    assert_int_equal(in8(bench, PORT(0)), 0x12);
    assert_int_equal(in8(bench, PORT(0)), 0x34);
}

static void a_latch_holds_until_it_is_read(void **state)
{
    control(0, 3, 2, false);
    start(0, 1000);
    step_ticks(1 + 100);
    out8(bench, CONTROL, 0x00);
    step_ticks(100);
    out8(bench, CONTROL, 0x00); /* ignored: one is latched */
    assert_int_equal(in8(bench, PORT(0)), 900 & 0xFF);
    assert_int_equal(in8(bench, PORT(0)), 900 >> 8);
    assert_int_equal(read_count(0), 800);
}

static void read_back_latches_status_before_count(void **state)
{
    control(0, 3, 2, false);
    assert_int_equal(read_status(0) & 0x7F, 0x40 | 0x30 | 2 << 1); /* null count */
    start(0, 1000);
    step_ticks(1 + 100);
    out8(bench, CONTROL, 0xC0 | 0x02 | 0x08); /* both, channels 0 and 2 */
    assert_int_equal(in8(bench, PORT(0)), 0x80 | 0x30 | 2 << 1);
    assert_int_equal(in8(bench, PORT(0)), 900 & 0xFF);
    assert_int_equal(in8(bench, PORT(0)), 900 >> 8);
    assert_int_equal(in8(bench, PORT(2)) & 0x30, 0x30);
}

static void port_b_shows_refresh_and_the_speaker(void **state)
{
    unsigned toggles = 0, last = in8(bench, PORT_B) & 0x10;

    for (unsigned i = 0; i < 1000; i++) {
        bench_step(bench, US);
        unsigned now = in8(bench, PORT_B) & 0x10;
        toggles += now != last;
        last = now;
    }
    assert_in_range(toggles, 65, 67); /* each 15.085 us */
    out8(bench, PORT_B, 0xF3);
    assert_int_equal(in8(bench, PORT_B) & 0x0F, 0x03);
}

static void the_shortest_period_does_not_flood(void **state)
{
    control(0, 3, 2, false);
    start(0, 1);
    bench_rises(bench, 0);
    bench_step(bench, 10 * MS);
    assert_in_range(bench_rises(bench, 0), 100, 500);
}

static void a_loaded_timer_goes_on_where_it_was(void **state)
{
    control(0, 3, 2, false);
    uint64_t load = start(0, 10000);
    step_to(ns_of(load + 3000));
    g_autoptr(GBytes) saved = device_save(pit);
    control(0, 3, 0, false);
    assert_true(device_load(pit, saved, NULL));
    bench_rises(bench, 0);
    step_to(ns_of(load + 10000));
    assert_int_equal(bench_rises(bench, 0), 1);
    assert_int_equal(bench->lines[0].rose_at, ns_of(load + 10000));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(mode_0_raises_its_output_once_at_the_end_of_the_count),
        TEST(mode_0_counts_down_and_wraps),
        TEST(mode_0_stands_still_while_the_gate_is_low),
        TEST(mode_0_waits_for_the_second_byte),
        TEST(mode_1_gives_one_low_pulse_for_each_trigger),
        TEST(mode_2_interrupts_at_exact_periods),
        TEST(mode_2_is_low_for_the_last_tick_of_a_period),
        TEST(mode_2_takes_a_new_count_at_the_end_of_the_period),
        TEST(mode_2_is_stopped_and_restarted_by_the_gate),
        TEST(mode_3_is_a_square_wave_also_of_odd_counts),
        TEST(mode_3_takes_a_new_count_at_the_half_period),
        TEST(mode_4_strobes_once_after_the_count),
        TEST(mode_5_strobes_after_each_trigger),
        TEST(modes_6_and_7_are_2_and_3),
        TEST(a_count_of_zero_is_the_longest),
        TEST(bcd_counts_in_decimal),
        TEST(single_byte_access_counts_in_its_half),
        TEST(unlatched_reads_alternate_between_the_bytes),
        TEST(a_latch_holds_until_it_is_read),
        TEST(read_back_latches_status_before_count),
        TEST(port_b_shows_refresh_and_the_speaker),
        TEST(the_shortest_period_does_not_flood),
        TEST(a_loaded_timer_goes_on_where_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
