// SPDX-License-Identifier: Apache-2.0
/* The I/O APIC: registers, edges, levels with remote IRR, end of interrupt, routes. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/ioapic.h"
#include "vmm/machine/pc/layout.h"

#define LEVEL  0x8000
#define MASKED 0x10000

static struct bench *bench;
static struct device *ioapic;

static struct {
    unsigned calls, pin;
    uint64_t address;
    uint32_t data;
    bool masked, level;
} route;

static void note_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool masked,
                       bool level)
{
    route.calls++;
    route.pin = pin;
    route.address = address;
    route.data = data;
    route.masked = masked;
    route.level = level;
}

static int setup(void **state)
{
    bench = bench_create();
    struct ioapic_config config = {.base = PC_IOAPIC_BASE, .id = 3, .route = note_route};
    ioapic = device_create(&ioapic_device, "ioapic", &bench->env, &config, NULL);
    return 0;
}

static int teardown(void **state)
{
    device_destroy(ioapic);
    bench_destroy(bench);
    return 0;
}

static void write_register(uint8_t index, uint32_t value)
{
    bus_write(bench->env.mmio, PC_IOAPIC_BASE, 4, index);
    bus_write(bench->env.mmio, PC_IOAPIC_BASE + 0x10, 4, value);
}

static uint32_t read_register(uint8_t index)
{
    bus_write(bench->env.mmio, PC_IOAPIC_BASE, 4, index);
    return bus_read(bench->env.mmio, PC_IOAPIC_BASE + 0x10, 4);
}

static void program(unsigned pin, uint32_t low, uint8_t destination)
{
    write_register(0x11 + 2 * pin, (uint32_t)destination << 24);
    write_register(0x10 + 2 * pin, low);
}

static void set(unsigned pin, bool level)
{
    struct irq_line line = ioapic_input(ioapic, pin);
    irq_set(&line, level);
}

static void registers_say_24_pins_of_version_20h(void **state)
{
    assert_int_equal(read_register(1), 0x00170020);
    assert_int_equal(read_register(0), 3 << 24);
    write_register(0, 5 << 24);
    assert_int_equal(read_register(0), 5 << 24);
    assert_int_equal(read_register(2), 5 << 24);
    assert_int_equal(read_register(0x50), 0);
    for (unsigned pin = 0; pin < 24; pin++)
        assert_int_equal(read_register(0x10 + 2 * pin), MASKED);
}

static void an_edge_sends_one_message(void **state)
{
    program(4, 0x31, 2);
    set(4, true);
    assert_int_equal(bench->messages, 1);
    assert_int_equal(bench->address, 0xFEE02000);
    assert_int_equal(bench->data, 0x31);
    set(4, true);
    set(4, false);
    assert_int_equal(bench->messages, 1);
    set(4, true);
    assert_int_equal(bench->messages, 2);
}

static void logical_and_lowest_priority_delivery_is_told_in_the_message(void **state)
{
    program(4, 0x0931, 0xFF); /* logical, lowest priority */
    set(4, true);
    assert_int_equal(bench->address, 0xFEEFF00C);
    assert_int_equal(bench->data, 0x131);
}

static void edges_at_a_masked_pin_are_lost(void **state)
{
    program(4, 0x31 | MASKED, 0);
    set(4, true);
    program(4, 0x31, 0);
    assert_int_equal(bench->messages, 0);
    set(4, false);
    set(4, true);
    assert_int_equal(bench->messages, 1);
}

static void a_level_is_sent_again_after_each_eoi_while_it_is_up(void **state)
{
    program(16, 0x41 | LEVEL, 0);
    set(16, true);
    assert_int_equal(bench->messages, 1);
    assert_int_equal(bench->data, 0xC041);
    assert_int_equal(read_register(0x10 + 32) & 0x4000, 0x4000);
    set(16, false);
    set(16, true);
    assert_int_equal(bench->messages, 1);
    ioapic_eoi(ioapic, 0x42);
    assert_int_equal(bench->messages, 1);
    ioapic_eoi(ioapic, 0x41);
    assert_int_equal(bench->messages, 2);
    set(16, false);
    ioapic_eoi(ioapic, 0x41);
    assert_int_equal(bench->messages, 2);
    assert_int_equal(read_register(0x10 + 32) & 0x4000, 0);
}

static void a_masked_level_is_sent_when_unmasked(void **state)
{
    program(16, 0x41 | LEVEL | MASKED, 0);
    set(16, true);
    assert_int_equal(bench->messages, 0);
    program(16, 0x41 | LEVEL, 0);
    assert_int_equal(bench->messages, 1);
}

static void the_eoi_register_completes(void **state)
{
    program(16, 0x41 | LEVEL, 0);
    set(16, true);
    bus_write(bench->env.mmio, PC_IOAPIC_BASE + 0x40, 4, 0x41);
    assert_int_equal(bench->messages, 2);
}

static void switching_to_edge_clears_remote_irr(void **state)
{
    program(16, 0x41 | LEVEL, 0);
    set(16, true);
    program(16, 0x41 | MASKED, 0);
    assert_int_equal(read_register(0x10 + 32), 0x41 | MASKED);
    program(16, 0x41 | LEVEL, 0);
    assert_int_equal(bench->messages, 2);
}

static void status_bits_cannot_be_written(void **state)
{
    program(5, 0x31 | LEVEL | MASKED | 0x5000, 0);
    assert_int_equal(read_register(0x10 + 10), 0x31 | LEVEL | MASKED);
}

static void nmi_and_extint_are_edges_whatever_the_entry_says(void **state)
{
    program(0, 0x0700 | LEVEL, 0);
    set(0, true);
    assert_int_equal(bench->data, 0x700);
    program(1, 0x0400 | LEVEL, 0);
    set(1, true);
    assert_int_equal(bench->data, 0x400);
    assert_int_equal(read_register(0x12) & 0x4000, 0);
}

static void reserved_delivery_modes_send_nothing(void **state)
{
    program(4, 0x331, 0);
    set(4, true);
    assert_int_equal(bench->messages, 0);
    assert_int_equal(ioapic->guest_errors, 1);
}

static void each_change_of_an_entry_is_told(void **state)
{
    unsigned before = route.calls;

    program(7, 0x51 | LEVEL, 1);
    assert_int_equal(route.calls, before + 2);
    assert_int_equal(route.pin, 7);
    assert_int_equal(route.address, 0xFEE01000);
    assert_int_equal(route.data, 0xC051);
    assert_true(route.level);
    assert_false(route.masked);
    device_reset(ioapic);
    assert_true(route.masked);
    assert_int_equal(route.calls, before + 26);
}

static void only_whole_words_are_taken(void **state)
{
    bus_write(bench->env.mmio, PC_IOAPIC_BASE, 4, 1);
    bus_write(bench->env.mmio, PC_IOAPIC_BASE, 1, 0);
    assert_int_equal(bus_read(bench->env.mmio, PC_IOAPIC_BASE, 1), 1);
    assert_int_equal(bus_read(bench->env.mmio, PC_IOAPIC_BASE + 0x12, 2), 0x17);
    assert_null(ioapic_input(ioapic, 24).set);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registers_say_24_pins_of_version_20h),
        TEST(an_edge_sends_one_message),
        TEST(logical_and_lowest_priority_delivery_is_told_in_the_message),
        TEST(edges_at_a_masked_pin_are_lost),
        TEST(a_level_is_sent_again_after_each_eoi_while_it_is_up),
        TEST(a_masked_level_is_sent_when_unmasked),
        TEST(the_eoi_register_completes),
        TEST(switching_to_edge_clears_remote_irr),
        TEST(status_bits_cannot_be_written),
        TEST(nmi_and_extint_are_edges_whatever_the_entry_says),
        TEST(reserved_delivery_modes_send_nothing),
        TEST(each_change_of_an_entry_is_told),
        TEST(only_whole_words_are_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
