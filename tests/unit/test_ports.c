// SPDX-License-Identifier: Apache-2.0
/* The small ports of test kernels: exit, console, panic, latches and interrupt lines. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/debug_console.h"
#include "vmm/device/legacy/debug_exit.h"
#include "vmm/device/legacy/pc_testdev.h"
#include "vmm/device/legacy/pvpanic.h"

static struct bench *bench;

static int setup(void **state)
{
    bench = bench_create();
    return 0;
}

static int teardown(void **state)
{
    bench_destroy(bench);
    return 0;
}

static void debug_exit_ends_with_an_odd_status(void **state)
{
    struct device *device = bench_device(bench, &debug_exit_device);

    out32(bench, 0xF4, 0);
    assert_int_equal(bench->status, 1);
    out8(bench, 0xF4, 0x10);
    assert_int_equal(bench->status, 0x21);
    assert_int_equal(bench->exits, 2);
    device_destroy(device);
}

static void pvpanic_reports_a_crash(void **state)
{
    struct device *device = bench_device(bench, &pvpanic_device);

    assert_int_equal(in8(bench, 0x505), 7);
    out8(bench, 0x505, 2); /* a crash kernel goes on */
    assert_int_equal(bench->crashes, 0);
    out8(bench, 0x505, 1);
    assert_int_equal(bench->crashes, 1);
    out8(bench, 0x505, 4);
    assert_int_equal(bench->power_offs, 1);
    device_destroy(device);
}

static void the_debug_console_prints(void **state)
{
    int pipe_ends[2];
    char text[6] = "";

    assert_int_equal(pipe(pipe_ends), 0);
    struct chardev_fd_config line = {.name = "debug", .in = -1, .out = pipe_ends[1]};
    struct chardev *chardev = chardev_fd_create(&line, NULL);
    struct debug_console_config config = {.port = 0xE9, .chardev = chardev};
    struct device *device =
        device_create(&debug_console_device, "debug", &bench->env, &config, NULL);

    assert_int_equal(in8(bench, 0xE9), 0xE9);
    for (const char *c = "hello"; *c; c++)
        out8(bench, 0xE9, *c);
    device_destroy(device);
    chardev_destroy(chardev); /* flushes and closes */
    assert_int_equal(read(pipe_ends[0], text, sizeof(text)), 5);
    assert_string_equal(text, "hello");
    close(pipe_ends[0]);
}

static void testdev_ports_keep_what_is_written(void **state)
{
    struct device *device = bench_device(bench, &pc_testdev_device);

    out32(bench, 0xE0, 0x44332211);
    assert_int_equal(in32(bench, 0xE0), 0x44332211);
    assert_int_equal(in16(bench, 0xE2), 0x4433);
    out8(bench, 0xE1, 0xAA);
    assert_int_equal(in32(bench, 0xE8), 0x4433AA11);
    out32(bench, 0xE4, 0x123000);
    device_destroy(device);
}

static void testdev_memory_keeps_what_is_written(void **state)
{
    struct device *device = bench_device(bench, &pc_testdev_device);

    bus_write(bench->env.mmio, 0xFF00FFF8, 8, 0x8877665544332211);
    assert_true(bus_read(bench->env.mmio, 0xFF00FFF8, 8) == 0x8877665544332211);
    assert_int_equal(bus_read(bench->env.mmio, 0xFF00FFFF, 1), 0x88);
    assert_int_equal(bus_read(bench->env.mmio, 0xFF010000, 1), 0xFF);
    device_destroy(device);
}

static void testdev_drives_interrupt_lines(void **state)
{
    struct device *device = bench_device(bench, &pc_testdev_device);

    out8(bench, 0x2000 + 14, 1);
    assert_true(bench->lines[14].level);
    device_reset(device);
    assert_false(bench->lines[14].level);
    out8(bench, 0x2000 + 23, 1);
    out8(bench, 0x2000 + 23, 0);
    assert_int_equal(bench_rises(bench, 23), 1);
    device_destroy(device);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(debug_exit_ends_with_an_odd_status),
        TEST(pvpanic_reports_a_crash),
        TEST(the_debug_console_prints),
        TEST(testdev_ports_keep_what_is_written),
        TEST(testdev_memory_keeps_what_is_written),
        TEST(testdev_drives_interrupt_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
