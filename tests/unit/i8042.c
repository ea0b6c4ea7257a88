// SPDX-License-Identifier: Apache-2.0
/* The keyboard controller: commands, interrupts, reset and A20, keyboard and mouse. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/i8042.h"
#include "vmm/device/legacy/ps2.h"

#define DATA     0x60
#define COMMAND  0x64
#define FAST     0x92
#define KEYBOARD 1
#define MOUSE    12
#define A20      50 /* line of the bench behind the gate */
#define FULL     0x01
#define FROM_AUX 0x20

static struct bench *bench;
static struct device *kbc;

static int setup(void **state)
{
    struct i8042_config config;

    bench = bench_create();
    i8042_device.defaults(&bench->env, &config);
    config.a20 = bench_line(bench, A20);
    kbc = device_create(&i8042_device, "i8042", &bench->env, &config, NULL);
    return 0;
}

static int teardown(void **state)
{
    device_destroy(kbc);
    bench_destroy(bench);
    return 0;
}

static uint8_t status(void)
{
    return in8(bench, COMMAND);
}

static void expect(uint8_t byte)
{
    assert_int_equal(status() & (FULL | FROM_AUX), FULL);
    assert_int_equal(in8(bench, DATA), byte);
}

static void expect_mouse(uint8_t byte)
{
    assert_int_equal(status() & (FULL | FROM_AUX), FULL | FROM_AUX);
    assert_int_equal(in8(bench, DATA), byte);
}

static void expect_nothing(void)
{
    assert_int_equal(status() & FULL, 0);
}

static void set_mode(uint8_t mode)
{
    out8(bench, COMMAND, 0x60);
    out8(bench, DATA, mode);
}

static void mouse_write(uint8_t byte)
{
    out8(bench, COMMAND, 0xD4);
    out8(bench, DATA, byte);
    expect_mouse(PS2_ACK);
}

static void the_controller_passes_its_self_test(void **state)
{
    out8(bench, COMMAND, 0xAA);
    expect(0x55);
    assert_true(status() & 0x04);
    out8(bench, COMMAND, 0xAB);
    expect(0x00);
    out8(bench, COMMAND, 0xA9);
    expect(0x00);
    expect_nothing();
}

static void its_memory_keeps_what_is_written(void **state)
{
    set_mode(0x45);
    out8(bench, COMMAND, 0x20);
    expect(0x45);
    out8(bench, COMMAND, 0x7F);
    out8(bench, DATA, 0xA5);
    out8(bench, COMMAND, 0x3F);
    expect(0xA5);
}

static void ports_are_switched_by_command(void **state)
{
    set_mode(0x00);
    out8(bench, COMMAND, 0xA7);
    out8(bench, COMMAND, 0xAD);
    out8(bench, COMMAND, 0x20);
    expect(0x30);
    out8(bench, COMMAND, 0xA8);
    out8(bench, COMMAND, 0xAE);
    out8(bench, COMMAND, 0x20);
    expect(0x00);
}

static void status_tells_commands_from_data(void **state)
{
    out8(bench, COMMAND, 0xAE);
    assert_true(status() & 0x08);
    out8(bench, DATA, 0xEE);
    assert_false(status() & 0x08);
}

static void a_pulse_of_line_0_resets_the_machine(void **state)
{
    out8(bench, COMMAND, 0xFF);
    assert_int_equal(bench->resets, 0);
    out8(bench, COMMAND, 0xFE);
    assert_int_equal(bench->resets, 1);
    out8(bench, COMMAND, 0xD1);
    out8(bench, DATA, 0x02);
    assert_int_equal(bench->resets, 2);
    out8(bench, FAST, 0x01);
    assert_int_equal(bench->resets, 3);
}

static void a20_has_two_gates(void **state)
{
    assert_true(bench->lines[A20].level);
    out8(bench, COMMAND, 0xD1);
    out8(bench, DATA, 0x01);
    assert_false(bench->lines[A20].level);
    out8(bench, FAST, 0x02);
    assert_true(bench->lines[A20].level);
    assert_int_equal(in8(bench, FAST), 0x02);
    out8(bench, FAST, 0x00);
    assert_false(bench->lines[A20].level);
    out8(bench, COMMAND, 0xD1);
    out8(bench, DATA, 0x03);
    assert_true(bench->lines[A20].level);
    out8(bench, COMMAND, 0xD0);
    assert_int_equal(in8(bench, DATA) & 0x03, 0x03);
}

static void bytes_can_be_put_into_the_output_buffer(void **state)
{
    out8(bench, COMMAND, 0xD2);
    out8(bench, DATA, 0x5A);
    expect(0x5A);
    out8(bench, COMMAND, 0xD3);
    out8(bench, DATA, 0xA5);
    expect_mouse(0xA5);
}

static void the_keyboard_answers_commands(void **state)
{
    set_mode(0x00); /* as it speaks, untranslated */
    out8(bench, DATA, 0xFF);
    expect(PS2_ACK);
    expect(PS2_PASSED);
    out8(bench, DATA, 0xF2);
    expect(PS2_ACK);
    expect(0xAB);
    expect(0x83);
    out8(bench, DATA, 0xEE);
    expect(0xEE);
    out8(bench, DATA, 0xED);
    expect(PS2_ACK);
    out8(bench, DATA, 0x07);
    expect(PS2_ACK);
    out8(bench, DATA, 0xF3);
    expect(PS2_ACK);
    out8(bench, DATA, 0x20);
    expect(PS2_ACK);
    out8(bench, DATA, 0xE1);
    expect(PS2_RESEND);
    out8(bench, DATA, 0xFE);
    expect(PS2_RESEND);
    expect_nothing();
}

static void scan_code_sets_are_chosen_and_told(void **state)
{
    set_mode(0x00);
    for (unsigned set = 1; set <= 3; set++) {
        out8(bench, DATA, 0xF0);
        expect(PS2_ACK);
        out8(bench, DATA, set);
        expect(PS2_ACK);
        out8(bench, DATA, 0xF0);
        expect(PS2_ACK);
        out8(bench, DATA, 0);
        expect(PS2_ACK);
        expect(set);
    }
}

static void choose_set(uint8_t set)
{
    out8(bench, DATA, 0xF0);
    out8(bench, DATA, set);
    expect(PS2_ACK);
    expect(PS2_ACK);
}

static void keys_speak_each_set(void **state)
{
    set_mode(0x00);
    i8042_key(kbc, 0x1E, true); /* A, in set 2 */
    i8042_key(kbc, 0x1E, false);
    expect(0x1C);
    expect(0xF0);
    expect(0x1C);
    i8042_key(kbc, 0xC8, true); /* up */
    expect(0xE0);
    expect(0x75);
    choose_set(1);
    i8042_key(kbc, 0xC8, false);
    expect(0xE0);
    expect(0xC8);
    choose_set(3);
    i8042_key(kbc, 0xC8, true);
    i8042_key(kbc, 0xC8, false);
    expect(0x63);
    expect(0xF0);
    expect(0x63);
    expect_nothing();
}

static void the_controller_translates_to_set_1(void **state)
{
    static const uint8_t keys[] = {0x01, 0x1E, 0x39, 0x3B, 0x41, 0x54, 0x57, 0x58, 0x45, 0x52};

    for (unsigned i = 0; i < sizeof(keys); i++) {
        i8042_key(kbc, keys[i], true);
        i8042_key(kbc, keys[i], false);
        expect(keys[i]);
        expect(keys[i] | 0x80);
    }
    i8042_key(kbc, 0x9D, true); /* right control */
    expect(0xE0);
    expect(0x1D);
    i8042_key(kbc, PS2_KEY_PAUSE, true);
    expect(0xE1);
    expect(0x1D);
    expect(0x45);
    expect(0xE1);
    expect(0x9D);
    expect(0xC5);
    expect_nothing();
}

static void keys_are_dropped_whole_when_nobody_reads(void **state)
{
    unsigned codes = 0;

    for (unsigned i = 0; i < 200; i++)
        i8042_key(kbc, 0xC8, true);
    while (status() & FULL) {
        assert_int_equal(in8(bench, DATA), codes % 2 ? 0x48 : 0xE0);
        codes++;
    }
    assert_int_equal(codes % 2, 0);
    assert_in_range(codes, 16, PS2_QUEUE_SIZE);
}

static void a_disabled_keyboard_is_silent(void **state)
{
    out8(bench, DATA, 0xF5);
    expect(PS2_ACK);
    i8042_key(kbc, 0x1E, true);
    expect_nothing();
    out8(bench, DATA, 0xF4);
    expect(PS2_ACK);
    out8(bench, COMMAND, 0xAD); /* the port off: bytes wait */
    i8042_key(kbc, 0x1E, true);
    expect_nothing();
    out8(bench, COMMAND, 0xAE);
    expect(0x1E);
}

static void each_byte_interrupts(void **state)
{
    i8042_key(kbc, 0x1E, true);
    i8042_key(kbc, 0x1E, false);
    assert_int_equal(bench_rises(bench, KEYBOARD), 1);
    expect(0x1E);
    assert_int_equal(bench_rises(bench, KEYBOARD), 1);
    expect(0x9E);
    assert_false(bench->lines[KEYBOARD].level);
    set_mode(0x40);
    i8042_key(kbc, 0x1E, true);
    assert_false(bench->lines[KEYBOARD].level);
    set_mode(0x41);
    assert_true(bench->lines[KEYBOARD].level);
}

static void the_mouse_answers_commands(void **state)
{
    mouse_write(0xFF);
    expect_mouse(PS2_PASSED);
    expect_mouse(0x00);
    mouse_write(0xF2);
    expect_mouse(0x00);
    mouse_write(0xE9);
    expect_mouse(0x00);
    expect_mouse(2);
    expect_mouse(100);
    mouse_write(0xE8);
    mouse_write(3);
    mouse_write(0xE7);
    mouse_write(0xF4);
    mouse_write(0xE9);
    expect_mouse(0x30);
    expect_mouse(3);
    expect_mouse(100);
    expect_nothing();
}

static void the_mouse_reports_movement_when_enabled(void **state)
{
    i8042_mouse(kbc, 5, 5, 0, PS2_BUTTON_LEFT);
    expect_nothing();
    mouse_write(0xF4);
    bench_rises(bench, MOUSE);
    i8042_mouse(kbc, 10, -20, 0, PS2_BUTTON_LEFT | PS2_BUTTON_MIDDLE);
    assert_int_equal(bench_rises(bench, MOUSE), 1);
    expect_mouse(0x08 | 0x05);
    expect_mouse(10);
    expect_mouse(20);
    i8042_mouse(kbc, -300, 1, 0, 0); /* more than one packet holds */
    expect_mouse(0x08 | 0x30);
    expect_mouse((uint8_t)-127);
    expect_mouse((uint8_t)-1);
    expect_mouse(0x18);
    expect_mouse((uint8_t)-127);
    expect_mouse(0);
    expect_mouse(0x18);
    expect_mouse((uint8_t)-46);
    expect_mouse(0);
    expect_nothing();
}

static void set_rate(uint8_t rate)
{
    mouse_write(0xF3);
    mouse_write(rate);
}

static void the_knock_turns_the_wheel_on(void **state)
{
    set_rate(200);
    set_rate(100);
    set_rate(80);
    mouse_write(0xF2);
    expect_mouse(3);
    set_rate(200);
    set_rate(200);
    set_rate(80);
    mouse_write(0xF2);
    expect_mouse(4);
    mouse_write(0xF4);
    i8042_mouse(kbc, 1, 0, -1, PS2_BUTTON_SIDE);
    expect_mouse(0x08);
    expect_mouse(1);
    expect_mouse(0);
    expect_mouse(0x1F);
    mouse_write(0xFF);
    expect_mouse(PS2_PASSED);
    expect_mouse(0);
}

static void remote_mode_reports_when_asked(void **state)
{
    mouse_write(0xF0);
    i8042_mouse(kbc, 3, 4, 0, 0);
    expect_nothing();
    mouse_write(0xEB);
    expect_mouse(0x28);
    expect_mouse(3);
    expect_mouse((uint8_t)-4);
    expect_nothing();
}

static void wrap_mode_echoes(void **state)
{
    mouse_write(0xEE);
    out8(bench, COMMAND, 0xD4);
    out8(bench, DATA, 0xF2);
    expect_mouse(0xF2);
    mouse_write(0xEC);
    mouse_write(0xF2);
    expect_mouse(0);
}

static void the_keyboard_goes_before_the_mouse(void **state)
{
    mouse_write(0xF4);
    i8042_key(kbc, 0x1E, true);
    i8042_mouse(kbc, 1, 0, 0, 0);
    i8042_key(kbc, 0x1E, false);
    expect(0x1E);
    expect(0x9E);
    expect_mouse(0x08);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_controller_passes_its_self_test),
        TEST(its_memory_keeps_what_is_written),
        TEST(ports_are_switched_by_command),
        TEST(status_tells_commands_from_data),
        TEST(a_pulse_of_line_0_resets_the_machine),
        TEST(a20_has_two_gates),
        TEST(bytes_can_be_put_into_the_output_buffer),
        TEST(the_keyboard_answers_commands),
        TEST(scan_code_sets_are_chosen_and_told),
        TEST(keys_speak_each_set),
        TEST(the_controller_translates_to_set_1),
        TEST(keys_are_dropped_whole_when_nobody_reads),
        TEST(a_disabled_keyboard_is_silent),
        TEST(each_byte_interrupts),
        TEST(the_mouse_answers_commands),
        TEST(the_mouse_reports_movement_when_enabled),
        TEST(the_knock_turns_the_wheel_on),
        TEST(remote_mode_reports_when_asked),
        TEST(wrap_mode_echoes),
        TEST(the_keyboard_goes_before_the_mouse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
