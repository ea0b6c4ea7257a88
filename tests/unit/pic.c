// SPDX-License-Identifier: Apache-2.0
/* The 8259A pair: initialization, priorities, end of interrupt, modes, cascade, triggering. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/pic.h"

#define MASTER 0x20
#define SLAVE  0xA0
#define OUTPUT 40 /* line of the bench behind INT */

static struct bench *bench;
static struct device *pic;

static void initialize(uint8_t icw4)
{
    out8(bench, MASTER, 0x11);
    out8(bench, MASTER + 1, 0x20);
    out8(bench, MASTER + 1, 0x04);
    out8(bench, MASTER + 1, icw4);
    out8(bench, SLAVE, 0x11);
    out8(bench, SLAVE + 1, 0x28);
    out8(bench, SLAVE + 1, 0x02);
    out8(bench, SLAVE + 1, 0x01 | (icw4 & 0x02));
}

static int setup(void **state)
{
    bench = bench_create();
    struct pic_config config = {.output = bench_line(bench, OUTPUT)};
    pic = device_create(&pic_device, "pic", &bench->env, &config, NULL);
    initialize(0x01);
    return 0;
}

static int teardown(void **state)
{
    device_destroy(pic);
    bench_destroy(bench);
    return 0;
}

static void set(unsigned pin, bool level)
{
    struct irq_line line = pic_input(pic, pin);
    irq_set(&line, level);
}

static void pulse(unsigned pin)
{
    set(pin, true);
    set(pin, false);
}

static bool asks(void)
{
    return bench->lines[OUTPUT].level;
}

static uint8_t read_isr(unsigned chip)
{
    out8(bench, chip, 0x0B);
    return in8(bench, chip);
}

static uint8_t read_irr(unsigned chip)
{
    out8(bench, chip, 0x0A);
    return in8(bench, chip);
}

static void after_power_on_nothing_gets_through(void **state)
{
    device_reset(pic);
    pulse(3);
    assert_false(asks());
    assert_int_equal(in8(bench, MASTER + 1), 0xFF);
    assert_int_equal(in8(bench, SLAVE + 1), 0xFF);
}

static void initialization_clears_masks_and_sets_vectors(void **state)
{
    assert_int_equal(in8(bench, MASTER + 1), 0);
    pulse(3);
    assert_true(asks());
    assert_int_equal(pic_acknowledge(pic), 0x23);
    assert_false(asks());
    pulse(5);
    assert_false(asks());
    pulse(14);
    assert_true(asks()); /* the cascade at 2 is above input 3, which is in service */
}

static void nothing_is_asked_for_between_the_words_of_an_initialization(void **state)
{
    out8(bench, MASTER, 0x11);
    pulse(3);
    assert_false(asks());
    out8(bench, MASTER + 1, 0x40);
    out8(bench, MASTER + 1, 0x04);
    assert_false(asks());
    out8(bench, MASTER + 1, 0x01);
    assert_true(asks());
    assert_int_equal(pic_acknowledge(pic), 0x43);
}

static void a_single_chip_takes_no_icw3_and_may_go_without_icw4(void **state)
{
    out8(bench, MASTER, 0x12);
    out8(bench, MASTER + 1, 0x50);
    out8(bench, MASTER + 1, 0xFE); /* a mask already */
    assert_int_equal(in8(bench, MASTER + 1), 0xFE);
    pulse(0);
    assert_int_equal(pic_acknowledge(pic), 0x50);
}

static void a_masked_request_waits(void **state)
{
    out8(bench, MASTER + 1, 0x08);
    pulse(3);
    assert_false(asks());
    assert_int_equal(read_irr(MASTER), 0x08);
    out8(bench, MASTER + 1, 0x00);
    assert_true(asks());
}

static void the_lowest_number_has_the_highest_priority(void **state)
{
    pulse(5);
    pulse(1);
    assert_int_equal(pic_acknowledge(pic), 0x21);
    assert_false(asks());
    assert_int_equal(read_isr(MASTER), 0x02);
    pulse(0);
    assert_true(asks()); /* nests */
    assert_int_equal(pic_acknowledge(pic), 0x20);
    out8(bench, MASTER, 0x20);
    assert_int_equal(read_isr(MASTER), 0x02);
    assert_false(asks());
    out8(bench, MASTER, 0x20);
    assert_true(asks());
    assert_int_equal(pic_acknowledge(pic), 0x25);
}

static void a_specific_eoi_ends_the_named_input(void **state)
{
    pulse(5);
    pic_acknowledge(pic);
    pulse(1);
    pic_acknowledge(pic);
    out8(bench, MASTER, 0x65);
    assert_int_equal(read_isr(MASTER), 0x02);
    out8(bench, MASTER, 0x60 | 1);
    assert_int_equal(read_isr(MASTER), 0x00);
}

static void the_slave_is_reached_through_input_2(void **state)
{
    pulse(8 + 6);
    assert_true(asks());
    assert_int_equal(read_irr(MASTER), 0x04);
    assert_int_equal(pic_acknowledge(pic), 0x2E);
    assert_int_equal(read_isr(MASTER), 0x04);
    assert_int_equal(read_isr(SLAVE), 0x40);
    pulse(8); /* higher at the slave, but the master is busy with it */
    assert_false(asks());
    out8(bench, SLAVE, 0x20);
    out8(bench, MASTER, 0x20);
    assert_true(asks());
    assert_int_equal(pic_acknowledge(pic), 0x28);
}

static void special_fully_nested_mode_lets_the_slave_interrupt_itself(void **state)
{
    initialize(0x11);
    pulse(8 + 6);
    assert_int_equal(pic_acknowledge(pic), 0x2E);
    pulse(8 + 1);
    assert_true(asks());
    assert_int_equal(pic_acknowledge(pic), 0x29);
    pulse(8 + 7); /* of lower priority at the slave */
    assert_false(asks());
}

static void a_request_masked_at_the_slave_leaves_no_spurious_one(void **state)
{
    pulse(8 + 6);
    assert_true(asks());
    out8(bench, SLAVE + 1, 0x40);
    assert_false(asks());
    assert_int_equal(read_irr(MASTER), 0);
}

static void an_acknowledge_without_request_is_spurious(void **state)
{
    assert_int_equal(pic_acknowledge(pic), 0x27);
    assert_int_equal(read_isr(MASTER), 0);
}

static void automatic_eoi_keeps_nothing_in_service(void **state)
{
    initialize(0x03);
    pulse(4);
    pulse(8 + 1);
    assert_int_equal(pic_acknowledge(pic), 0x29);
    assert_int_equal(pic_acknowledge(pic), 0x24);
    assert_int_equal(read_isr(MASTER), 0);
    assert_int_equal(read_isr(SLAVE), 0);
}

static void rotation_in_automatic_eoi_moves_the_served_input_last(void **state)
{
    initialize(0x03);
    out8(bench, MASTER, 0x80);
    pulse(1);
    assert_int_equal(pic_acknowledge(pic), 0x21);
    pulse(1);
    pulse(5);
    assert_int_equal(pic_acknowledge(pic), 0x25);
    assert_int_equal(pic_acknowledge(pic), 0x21);
    out8(bench, MASTER, 0x00); /* no more rotation: input 1 stays last */
    pulse(5);
    assert_int_equal(pic_acknowledge(pic), 0x25);
    pulse(5);
    pulse(2 + 1);
    assert_int_equal(pic_acknowledge(pic), 0x23);
}

static void rotation_on_eoi_moves_the_served_input_last(void **state)
{
    pulse(0);
    pic_acknowledge(pic);
    out8(bench, MASTER, 0xA0);
    pulse(0);
    pulse(7);
    assert_int_equal(pic_acknowledge(pic), 0x27);
    out8(bench, MASTER, 0xE0 | 7); /* rotate on specific: 7 last again */
    assert_int_equal(pic_acknowledge(pic), 0x20);
}

static void set_priority_chooses_the_last_input(void **state)
{
    out8(bench, MASTER, 0xC0 | 3);
    pulse(3);
    pulse(4);
    pulse(0);
    assert_int_equal(pic_acknowledge(pic), 0x24);
    out8(bench, MASTER, 0x20);
    assert_int_equal(pic_acknowledge(pic), 0x20);
}

static void special_mask_mode_lets_lower_inputs_through(void **state)
{
    pulse(1);
    pic_acknowledge(pic);
    pulse(6);
    assert_false(asks());
    out8(bench, MASTER + 1, 0x02);
    out8(bench, MASTER, 0x68);
    assert_true(asks());
    assert_int_equal(pic_acknowledge(pic), 0x26);
    out8(bench, MASTER, 0x20); /* not the masked one */
    assert_int_equal(read_isr(MASTER), 0x02);
    out8(bench, MASTER, 0x48);
    out8(bench, MASTER, 0x20);
    assert_int_equal(read_isr(MASTER), 0x00);
}

static void a_poll_acknowledges_by_a_read(void **state)
{
    pulse(5);
    out8(bench, MASTER, 0x0C);
    assert_int_equal(in8(bench, MASTER), 0x85);
    assert_false(asks());
    assert_int_equal(read_isr(MASTER), 0x20);
    out8(bench, MASTER, 0x0C);
    assert_int_equal(in8(bench, MASTER), 0x00);
}

static void an_edge_asks_once(void **state)
{
    set(3, true);
    set(3, true);
    assert_int_equal(pic_acknowledge(pic), 0x23);
    out8(bench, MASTER, 0x20);
    assert_false(asks());
    set(3, false);
    set(3, true);
    assert_true(asks());
}

static void a_level_asks_while_it_is_up(void **state)
{
    out8(bench, 0x4D0, 0x20);
    set(5, true);
    assert_int_equal(pic_acknowledge(pic), 0x25);
    out8(bench, MASTER, 0x20);
    assert_true(asks());
    set(5, false);
    assert_false(asks());
    assert_int_equal(pic_acknowledge(pic), 0x27);
}

static void the_system_inputs_stay_edge_triggered(void **state)
{
    out8(bench, 0x4D0, 0xFF);
    out8(bench, 0x4D1, 0xFF);
    assert_int_equal(in8(bench, 0x4D0), 0xF8);
    assert_int_equal(in8(bench, 0x4D1), 0xDE);
    assert_null(pic_input(pic, 2).set);
    assert_null(pic_input(pic, 16).set);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(after_power_on_nothing_gets_through),
        TEST(initialization_clears_masks_and_sets_vectors),
        TEST(nothing_is_asked_for_between_the_words_of_an_initialization),
        TEST(a_single_chip_takes_no_icw3_and_may_go_without_icw4),
        TEST(a_masked_request_waits),
        TEST(the_lowest_number_has_the_highest_priority),
        TEST(a_specific_eoi_ends_the_named_input),
        TEST(the_slave_is_reached_through_input_2),
        TEST(special_fully_nested_mode_lets_the_slave_interrupt_itself),
        TEST(a_request_masked_at_the_slave_leaves_no_spurious_one),
        TEST(an_acknowledge_without_request_is_spurious),
        TEST(automatic_eoi_keeps_nothing_in_service),
        TEST(rotation_in_automatic_eoi_moves_the_served_input_last),
        TEST(rotation_on_eoi_moves_the_served_input_last),
        TEST(set_priority_chooses_the_last_input),
        TEST(special_mask_mode_lets_lower_inputs_through),
        TEST(a_poll_acknowledges_by_a_read),
        TEST(an_edge_asks_once),
        TEST(a_level_asks_while_it_is_up),
        TEST(the_system_inputs_stay_edge_triggered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
