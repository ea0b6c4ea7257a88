// SPDX-License-Identifier: Apache-2.0
/* ACPI power management: timer, events and their interrupt, sleep, APM, reset control. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/acpi_pm.h"
#include "vmm/machine/pc/layout.h"

#define SCI        9
#define PM1_STATUS (PC_PORT_ACPI_PM + 0)
#define PM1_ENABLE (PC_PORT_ACPI_PM + 2)
#define CONTROL    (PC_PORT_ACPI_PM + 4)
#define TIMER      (PC_PORT_ACPI_PM + 8)
#define GPE_STATUS (PC_PORT_ACPI_PM + 0x20)
#define GPE_ENABLE (PC_PORT_ACPI_PM + 0x28)

#define TMROF  0x0001
#define PWRBTN 0x0100
#define SLP_EN 0x2000

static struct bench *bench;
static struct device *pm;

static int setup(void **state)
{
    bench = bench_create();
    pm = bench_device(bench, &acpi_pm_device);
    return 0;
}

static int teardown(void **state)
{
    device_destroy(pm);
    bench_destroy(bench);
    return 0;
}

static bool sci(void)
{
    return bench->lines[SCI].level;
}

static void the_timer_counts_at_3579545_hz(void **state)
{
    bench_step(bench, NS_PER_SECOND);
    assert_int_equal(in32(bench, TIMER), 3579545);
    bench_step(bench, 100 * NS_PER_SECOND);
    assert_int_equal(in32(bench, TIMER), 101 * 3579545);
    assert_int_equal(in8(bench, TIMER + 1), (101 * 3579545) >> 8 & 0xFF);
}

static void the_timers_highest_bit_interrupts(void **state)
{
    int64_t half = ((1LL << 31) * NS_PER_SECOND + 3579544) / 3579545;

    out16(bench, CONTROL, 1);
    out16(bench, PM1_ENABLE, TMROF);
    bench_step(bench, half - 1);
    assert_int_equal(in16(bench, PM1_STATUS), 0);
    assert_false(sci());
    bench_step(bench, 1);
    assert_int_equal(in32(bench, TIMER), 0x80000000);
    assert_true(sci());
    out16(bench, PM1_STATUS, TMROF);
    assert_false(sci());
    bench_step(bench, half);
    assert_true(sci());
}

static void the_overflow_flag_is_set_without_interrupt_too(void **state)
{
    bench_step(bench, 700 * NS_PER_SECOND);
    assert_int_equal(in16(bench, PM1_STATUS), TMROF);
    assert_int_equal(bench->lines[SCI].rises, 0);
}

static void the_power_button_interrupts_when_acpi_is_on(void **state)
{
    out16(bench, PM1_ENABLE, PWRBTN);
    acpi_pm_power_button(pm);
    assert_int_equal(in16(bench, PM1_STATUS), PWRBTN);
    assert_false(sci());
    out8(bench, PC_PORT_APM, PC_APM_ACPI_ENABLE);
    assert_int_equal(in16(bench, CONTROL), 1);
    assert_true(sci());
    out16(bench, PM1_STATUS, 0); /* writing 0 clears nothing */
    assert_true(sci());
    out8(bench, PM1_STATUS + 1, PWRBTN >> 8);
    assert_false(sci());
    out8(bench, PC_PORT_APM, PC_APM_ACPI_DISABLE);
    assert_int_equal(in16(bench, CONTROL), 0);
}

static void only_known_enables_stick(void **state)
{
    out16(bench, PM1_ENABLE, 0xFFFF);
    assert_int_equal(in16(bench, PM1_ENABLE), 0x0721);
}

static void general_purpose_events_latch_on_a_rise(void **state)
{
    struct irq_line event = acpi_pm_gpe(pm, 33);

    out16(bench, CONTROL, 1);
    out8(bench, GPE_ENABLE + 4, 0x02);
    irq_set(&event, true);
    assert_int_equal(in8(bench, GPE_STATUS + 4), 0x02);
    assert_true(sci());
    out8(bench, GPE_STATUS + 4, 0x02);
    assert_false(sci());
    irq_set(&event, true);
    assert_false(sci());
    irq_pulse(&event);
    irq_pulse(&event);
    assert_true(sci());
    assert_null(acpi_pm_gpe(pm, 64).set);
}

static void s5_powers_off(void **state)
{
    out16(bench, CONTROL, PC_SLP_TYP_S5 << 10);
    assert_int_equal(bench->power_offs, 0);
    out16(bench, CONTROL, PC_SLP_TYP_S5 << 10 | SLP_EN);
    assert_int_equal(bench->power_offs, 1);
    assert_int_equal(in16(bench, CONTROL), PC_SLP_TYP_S5 << 10); /* SLP_EN reads 0 */
}

static void s3_asks_for_sleep_and_wakes_with_a_status(void **state)
{
    out16(bench, CONTROL, PC_SLP_TYP_S3 << 10 | SLP_EN);
    assert_int_equal(bench->sleeps, 1);
    assert_int_equal(bench->s_state, 3);
    acpi_pm_wake(pm);
    assert_int_equal(in16(bench, PM1_STATUS), 0x8100);
}

static void s1_wakes_at_once_and_others_do_nothing(void **state)
{
    out16(bench, CONTROL, PC_SLP_TYP_S1 << 10 | SLP_EN);
    assert_int_equal(in16(bench, PM1_STATUS), 0x8000);
    out16(bench, CONTROL, 2 << 10 | SLP_EN);
    assert_int_equal(bench->sleeps + bench->power_offs, 0);
    assert_int_equal(pm->guest_errors, 1);
}

static void firmware_finds_smis_set_up(void **state)
{
    assert_int_equal(in32(bench, PC_PORT_ACPI_PM + 0x30), 0x20);
    out8(bench, PC_PORT_APM + 1, 0x5A);
    assert_int_equal(in8(bench, PC_PORT_APM + 1), 0x5A);
    out8(bench, PC_PORT_APM, 0x77);
    assert_int_equal(in8(bench, PC_PORT_APM), 0x77);
}

static void the_reset_register_resets_on_a_rise(void **state)
{
    out8(bench, PC_PORT_RESET, 0x02);
    assert_int_equal(bench->resets, 0);
    out8(bench, PC_PORT_RESET, PC_RESET_VALUE);
    assert_int_equal(bench->resets, 1);
    out8(bench, PC_PORT_RESET, PC_RESET_VALUE);
    assert_int_equal(bench->resets, 1);
    device_reset(pm);
    out8(bench, PC_PORT_RESET, 0x0E);
    assert_int_equal(bench->resets, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_timer_counts_at_3579545_hz),
        TEST(the_timers_highest_bit_interrupts),
        TEST(the_overflow_flag_is_set_without_interrupt_too),
        TEST(the_power_button_interrupts_when_acpi_is_on),
        TEST(only_known_enables_stick),
        TEST(general_purpose_events_latch_on_a_rise),
        TEST(s5_powers_off),
        TEST(s3_asks_for_sleep_and_wakes_with_a_status),
        TEST(s1_wakes_at_once_and_others_do_nothing),
        TEST(firmware_finds_smis_set_up),
        TEST(the_reset_register_resets_on_a_rise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
