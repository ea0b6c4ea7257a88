// SPDX-License-Identifier: Apache-2.0
/* The real-time clock: time in all formats, setting it, the three interrupts, memory sizes. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/rtc.h"

#define IRQ   8
#define B_SET 0x80
#define B_PIE 0x40
#define B_AIE 0x20
#define B_UIE 0x10
#define B_DM  0x04
#define B_24H 0x02

static struct bench *bench;
static struct device *rtc;

static int setup(void **state)
{
    struct rtc_config config;

    bench = bench_create();
    rtc_device.defaults(&bench->env, &config);
    config.ram_low = 3ULL << 30;
    config.ram_high = 5ULL << 30;
    config.cpus = 4;
    rtc = device_create(&rtc_device, "rtc", &bench->env, &config, NULL);
    return 0;
}

static int teardown(void **state)
{
    device_destroy(rtc);
    bench_destroy(bench);
    return 0;
}

static uint8_t get(uint8_t index)
{
    out8(bench, 0x70, index);
    return in8(bench, 0x71);
}

static void put(uint8_t index, uint8_t value)
{
    out8(bench, 0x70, index);
    out8(bench, 0x71, value);
}

static void assert_time(unsigned hour, unsigned minute, unsigned second)
{
    assert_int_equal(get(4), hour);
    assert_int_equal(get(2), minute);
    assert_int_equal(get(0), second);
}

/* Set date and time in the registers' current format, the clock stopped meanwhile. */
static void set_time(const uint8_t date[4], uint8_t hour, uint8_t minute, uint8_t second)
{
    uint8_t b = get(0x0B);

    put(0x0B, b | B_SET);
    put(0x32, date[0]);
    put(9, date[1]);
    put(8, date[2]);
    put(7, date[3]);
    put(4, hour);
    put(2, minute);
    put(0, second);
    put(0x0B, b);
}

static void it_shows_the_wall_clock_in_bcd(void **state)
{
    assert_time(0x22, 0x13, 0x20);
    assert_int_equal(get(7), 0x14);
    assert_int_equal(get(8), 0x11);
    assert_int_equal(get(9), 0x23);
    assert_int_equal(get(0x32), 0x20);
    assert_int_equal(get(6), 3); /* Tuesday */
    assert_int_equal(get(0x0D), 0x80);
    bench_step(bench, NS_PER_SECOND - 1);
    assert_int_equal(get(0), 0x20);
    bench_step(bench, 1);
    assert_int_equal(get(0), 0x21);
}

static void it_shows_binary_and_twelve_hours(void **state)
{
    put(0x0B, B_DM | B_24H);
    assert_time(22, 13, 20);
    put(0x0B, B_DM);
    assert_time(0x80 | 10, 13, 20);
    put(0x0B, 0);
    assert_time(0x80 | 0x10, 0x13, 0x20);
    bench_step(bench, 2 * 3600 * NS_PER_SECOND); /* past midnight: 12 AM */
    assert_time(0x12, 0x13, 0x20);
    bench_step(bench, 12 * 3600 * NS_PER_SECOND);
    assert_time(0x92, 0x13, 0x20);
}

static void a_guest_sets_its_time_and_it_goes_on(void **state)
{
    const uint8_t date[4] = {0x19, 0x99, 0x12, 0x31};

    set_time(date, 0x23, 0x59, 0x58);
    assert_time(0x23, 0x59, 0x58);
    bench_step(bench, 2 * NS_PER_SECOND);
    assert_time(0x00, 0x00, 0x00);
    assert_int_equal(get(0x32), 0x20);
    assert_int_equal(get(9), 0x00);
    assert_int_equal(get(8), 0x01);
    assert_int_equal(get(7), 0x01);
    assert_int_equal(get(6), 7); /* a Saturday */
}

static void february_has_29_days_in_leap_years(void **state)
{
    const uint8_t leap[4] = {0x20, 0x00, 0x02, 0x28}, common[4] = {0x21, 0x00, 0x02, 0x28};

    set_time(leap, 0x23, 0x59, 0x59);
    bench_step(bench, NS_PER_SECOND);
    assert_int_equal(get(7), 0x29);
    assert_int_equal(get(8), 0x02);
    set_time(common, 0x23, 0x59, 0x59);
    bench_step(bench, NS_PER_SECOND);
    assert_int_equal(get(7), 0x01);
    assert_int_equal(get(8), 0x03);
}

static void set_stops_the_clock(void **state)
{
    put(0x0B, B_24H | B_SET);
    bench_step(bench, 10 * NS_PER_SECOND);
    assert_int_equal(get(0), 0x20);
    put(0, 0x45);
    assert_int_equal(get(0), 0x45);
    put(0x0B, B_24H);
    bench_step(bench, NS_PER_SECOND);
    assert_int_equal(get(0), 0x46);
}

static void after_a_divider_reset_the_first_update_takes_half_a_second(void **state)
{
    put(0x0A, 0x76);
    bench_step(bench, 3 * NS_PER_SECOND + 123);
    uint8_t before = get(0);
    put(0x0A, 0x26);
    bench_step(bench, 500 * MS - 1);
    assert_int_equal(get(0), before);
    bench_step(bench, 1);
    assert_int_equal(get(0), before + 1);
}

static void update_in_progress_leads_the_update(void **state)
{
    bench_step(bench, NS_PER_SECOND - 245 * US);
    assert_false(get(0x0A) & 0x80);
    bench_step(bench, 2 * US);
    assert_true(get(0x0A) & 0x80);
    bench_step(bench, 243 * US);
    assert_false(get(0x0A) & 0x80);
}

static void update_interrupts_come_each_second(void **state)
{
    bench_step(bench, 300 * MS);
    get(0x0C);
    put(0x0B, B_24H | B_UIE);
    bench_rises(bench, IRQ);
    for (unsigned i = 1; i <= 3; i++) {
        bench_step(bench, i == 1 ? 700 * MS - 1 : NS_PER_SECOND - 1);
        assert_int_equal(bench_rises(bench, IRQ), 0);
        bench_step(bench, 1);
        assert_int_equal(bench_rises(bench, IRQ), 1);
        assert_int_equal(get(0x0C) & ~0x40, 0x90);
        assert_false(bench->lines[IRQ].level);
    }
    bench_step(bench, NS_PER_SECOND);
    bench_step(bench, 5 * NS_PER_SECOND); /* not acknowledged: no more */
    assert_int_equal(bench_rises(bench, IRQ), 1);
}

static void the_update_flag_is_set_without_interrupt_too(void **state)
{
    get(0x0C);
    assert_int_equal(get(0x0C), 0);
    bench_step(bench, NS_PER_SECOND);
    assert_int_equal(get(0x0C) & ~0x40, 0x10);
    assert_int_equal(get(0x0C), 0);
    assert_int_equal(bench->lines[IRQ].rises, 0);
}

static void an_alarm_rings_at_its_second(void **state)
{
    put(5, 0x22);
    put(3, 0x15);
    put(1, 0x00);
    put(0x0B, B_24H | B_AIE);
    bench_step(bench, 100 * NS_PER_SECOND - 1);
    assert_int_equal(bench_rises(bench, IRQ), 0);
    bench_step(bench, 1);
    assert_int_equal(bench_rises(bench, IRQ), 1);
    assert_int_equal(get(0x0C) & ~0x40, 0xB0);
    bench_step(bench, 86400 * NS_PER_SECOND - 1);
    assert_int_equal(bench_rises(bench, IRQ), 0);
    bench_step(bench, 1);
    assert_int_equal(bench_rises(bench, IRQ), 1);
}

static void alarm_bytes_may_match_anything(void **state)
{
    put(5, 0xC0);
    put(3, 0xFF);
    put(1, 0x30);
    put(0x0B, B_24H | B_AIE);
    bench_step(bench, 10 * NS_PER_SECOND);
    assert_int_equal(bench_rises(bench, IRQ), 1);
    get(0x0C);
    bench_step(bench, 60 * NS_PER_SECOND);
    assert_int_equal(bench_rises(bench, IRQ), 1);
    get(0x0C);
    put(1, 0xC0); /* each second */
    bench_step(bench, NS_PER_SECOND);
    assert_int_equal(bench_rises(bench, IRQ), 1);
}

static void an_alarm_that_cannot_be_never_rings(void **state)
{
    put(5, 0x77);
    put(3, 0x77);
    put(1, 0x77);
    put(0x0B, B_24H | B_AIE);
    bench_step(bench, 2 * 86400 * NS_PER_SECOND);
    assert_int_equal(bench_rises(bench, IRQ), 0);
}

static void periodic_interrupts_keep_exact_pace(void **state)
{
    put(0x0A, 0x26); /* 1024 Hz */
    put(0x0B, B_24H | B_PIE);
    get(0x0C);
    bench_rises(bench, IRQ);
    for (unsigned i = 0; i < 1024; i++) {
        bench_step(bench, NS_PER_SECOND / 1024 + 1);
        assert_int_equal(bench_rises(bench, IRQ), 1);
        assert_int_equal(get(0x0C) & 0xC0, 0xC0);
    }
    assert_in_range(bench->lines[IRQ].rose_at, NS_PER_SECOND - US, NS_PER_SECOND + 2 * US);
}

static void each_rate_has_its_period(void **state)
{
    static const unsigned hz[16] = {0,   256, 128, 8192, 4096, 2048, 1024, 512,
                                    256, 128, 64,  32,   16,   8,    4,    2};

    put(0x0B, B_24H | B_PIE);
    for (unsigned rate = 0; rate < 16; rate++) {
        unsigned count = 0;

        put(0x0A, 0x20 | rate);
        get(0x0C);
        for (unsigned i = 0; i < 10000; i++) {
            bench_step(bench, 100 * US);
            count += (get(0x0C) & 0x40) != 0;
        }
        assert_in_range(count, hz[rate] ? hz[rate] - 1 : 0, hz[rate] ? hz[rate] + 1 : 0);
    }
}

static void firmware_finds_the_size_of_memory(void **state)
{
    assert_int_equal(get(0x15) | get(0x16) << 8, 640);
    assert_int_equal(get(0x17) | get(0x18) << 8, 0xFFFF);
    assert_int_equal(get(0x30) | get(0x31) << 8, 0xFFFF);
    assert_int_equal(get(0x34) | get(0x35) << 8, ((3U << 30) - (16U << 20)) >> 16);
    assert_int_equal(get(0x5B) | get(0x5C) << 8 | get(0x5D) << 16, 5U << 14);
    assert_int_equal(get(0x5F), 3);
}

static void memory_and_time_outlive_a_reset_and_interrupts_do_not(void **state)
{
    const uint8_t date[4] = {0x20, 0x30, 0x01, 0x02};

    set_time(date, 0x03, 0x04, 0x05);
    put(0x0F, 0x5A);
    put(0x0B, B_24H | B_UIE | B_PIE);
    bench_step(bench, NS_PER_SECOND);
    assert_true(bench->lines[IRQ].level);
    device_reset(rtc);
    assert_false(bench->lines[IRQ].level);
    assert_int_equal(get(0x0F), 0x5A);
    assert_int_equal(get(0x0B), B_24H);
    assert_time(0x03, 0x04, 0x06);
    assert_int_equal(get(9), 0x30);
}

static void bit_7_of_the_index_masks_nmis(void **state)
{
    put(0x0F, 1);
    assert_false(rtc_nmi_masked(rtc));
    assert_int_equal(get(0x8F), 1);
    assert_true(rtc_nmi_masked(rtc));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_shows_the_wall_clock_in_bcd),
        TEST(it_shows_binary_and_twelve_hours),
        TEST(a_guest_sets_its_time_and_it_goes_on),
        TEST(february_has_29_days_in_leap_years),
        TEST(set_stops_the_clock),
        TEST(after_a_divider_reset_the_first_update_takes_half_a_second),
        TEST(update_in_progress_leads_the_update),
        TEST(update_interrupts_come_each_second),
        TEST(the_update_flag_is_set_without_interrupt_too),
        TEST(an_alarm_rings_at_its_second),
        TEST(alarm_bytes_may_match_anything),
        TEST(an_alarm_that_cannot_be_never_rings),
        TEST(periodic_interrupts_keep_exact_pace),
        TEST(each_rate_has_its_period),
        TEST(firmware_finds_the_size_of_memory),
        TEST(memory_and_time_outlive_a_reset_and_interrupts_do_not),
        TEST(bit_7_of_the_index_masks_nmis),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
