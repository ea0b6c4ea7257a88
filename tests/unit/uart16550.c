// SPDX-License-Identifier: Apache-2.0
/* The serial port: both directions through a socket pair, FIFOs, interrupts by priority, loopback.
 */
#include "tests/unit/device_bench.h"

#include <poll.h>
#include <sys/socket.h>

#include "vmm/device/legacy/uart16550.h"
#include "vmm/machine/pc/layout.h"

#define BASE PC_PORT_SERIAL0
#define IRQ  4

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

#define MCR_ON   0x0B /* DTR, RTS, OUT2 */
#define MCR_LOOP 0x1B /* the same in loopback */

static struct bench *bench;
static struct device *uart;
static struct chardev *chardev;
static int peer; /* the other end of the line */

static int setup(void **state)
{
    int pair[2];

    bench = bench_create();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    peer = pair[1];
    struct chardev_fd_config line = {.name = "line", .in = pair[0], .out = pair[0], .buffer = 4096};
    chardev = chardev_fd_create(&line, NULL);
    assert_non_null(chardev);
    struct uart16550_config config;
    uart16550_device.defaults(&bench->env, &config);
    config.chardev = chardev;
    uart = device_create(&uart16550_device, "serial0", &bench->env, &config, NULL);
    return 0;
}

static int teardown(void **state)
{
    device_destroy(uart);
    if (peer >= 0)
        close(peer);
    chardev_destroy(chardev);
    bench_destroy(bench);
    return 0;
}

static uint8_t get(unsigned reg)
{
    return in8(bench, BASE + reg);
}

static void put(unsigned reg, uint8_t value)
{
    out8(bench, BASE + reg, value);
}

static bool irq(void)
{
    return bench->lines[IRQ].level;
}

/* Wait, for at most five seconds of the host's, until LSR has all bits of `mask`. */
static void wait_for_status(uint8_t mask)
{
    for (unsigned i = 0; i < 5000 && (get(LSR) & mask) != mask; i++)
        g_usleep(1000);
    assert_int_equal(get(LSR) & mask, mask);
}

/* Wait until the device holds `count` received bytes: they arrive on another thread. */
static void wait_for_input(unsigned count)
{
    for (unsigned i = 0; i < 5000; i++) {
        g_autoptr(GBytes) saved = device_save(uart);
        g_autoptr(GString) text = g_string_new(NULL);
        g_autofree char *wanted =
            g_strdup_printf("u.rx.used = %s%x\n", count < 10 ? "" : "0x", count);
        assert_true(state_dump(saved, "u", text, NULL));
        if (strstr(text->str, wanted))
            return;
        g_usleep(1000);
    }
    fail_msg("%u bytes did not arrive", count);
}

static void send_in(const char *text)
{
    assert_int_equal(write(peer, text, strlen(text)), strlen(text));
}

static void the_registers_read_as_after_reset(void **state)
{
    assert_int_equal(get(IER), 0);
    assert_int_equal(get(IIR), 0x01);
    assert_int_equal(get(LCR), 0);
    assert_int_equal(get(MCR), 0);
    assert_int_equal(get(LSR), 0x60);
    assert_int_equal(get(MSR), 0xB0);
    put(SCR, 0x5A);
    assert_int_equal(get(SCR), 0x5A);
    put(IER, 0xFF);
    assert_int_equal(get(IER), 0x0F);
    put(MCR, 0xFF);
    assert_int_equal(get(MCR), 0x1F);
}

static void the_divisor_hides_behind_dlab(void **state)
{
    put(LCR, 0x83);
    put(DATA, 0x34);
    put(IER, 0x12);
    assert_int_equal(get(DATA), 0x34);
    assert_int_equal(get(IER), 0x12);
    put(LCR, 0x03);
    assert_int_equal(get(IER), 0);
}

static void fifos_are_identified_by_iir(void **state)
{
    put(FCR, 0x01);
    assert_int_equal(get(IIR), 0xC1);
    put(FCR, 0x00);
    assert_int_equal(get(IIR), 0x01);
}

static void output_reaches_the_line_in_order(void **state)
{
    char received[100];
    size_t got = 0;

    for (unsigned i = 0; i < 100; i++) {
        assert_true(get(LSR) & 0x20);
        put(DATA, i);
    }
    while (got < 100) {
        ssize_t n = read(peer, received + got, 100 - got);
        assert_true(n > 0);
        got += n;
    }
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(received[i], i);
}

static void a_full_line_holds_the_transmitter_back_and_loses_nothing(void **state)
{
    unsigned sent = 0, received = 0;
    uint8_t buffer[4096];

    chardev_hold(chardev, true);
    put(FCR, 0x01);
    while (get(LSR) & 0x20) {
        put(DATA, sent++);
        assert_true(sent < 100000);
    }
    assert_int_equal(sent, 4096 + 1); /* the back end's buffer, and one in the FIFO */
    for (unsigned i = 0; i < 15; i++)
        put(DATA, sent++);
    chardev_hold(chardev, false);
    while (received < sent) {
        ssize_t n = read(peer, buffer, sizeof(buffer));
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(buffer[i], (uint8_t)received++);
    }
    wait_for_status(0x60);
}

static void the_empty_transmitter_interrupts_once(void **state)
{
    put(MCR, MCR_ON);
    put(IER, 0x02); /* empty already: at once */
    assert_true(irq());
    assert_int_equal(get(IIR), 0x02);
    assert_false(irq());
    assert_int_equal(get(IIR), 0x01);
    put(DATA, 'x');
    assert_true(irq());
    put(IER, 0x00);
    assert_false(irq());
    put(IER, 0x02);
    assert_true(irq());
}

static void out2_gates_the_interrupt(void **state)
{
    put(IER, 0x02);
    assert_false(irq());
    put(MCR, 0x08);
    assert_true(irq());
    put(MCR, 0x00);
    assert_false(irq());
}

static void received_data_interrupts_at_the_trigger_level(void **state)
{
    put(FCR, 0x41); /* four characters */
    put(MCR, MCR_ON);
    put(IER, 0x01);
    send_in("abc");
    wait_for_input(3);
    assert_false(irq());
    send_in("d");
    wait_for_input(4);
    assert_true(irq());
    assert_int_equal(get(IIR), 0xC4);
    assert_int_equal(get(DATA), 'a');
    assert_false(irq());
    assert_int_equal(get(DATA), 'b');
    assert_int_equal(get(DATA), 'c');
    assert_int_equal(get(DATA), 'd');
    assert_int_equal(get(LSR) & 1, 0);
    assert_int_equal(get(DATA), 0);
}

static void characters_below_the_trigger_level_time_out(void **state)
{
    /* 115200 baud, 8N1: four characters take 4 * 10 bits. */
    int64_t timeout = 40 * NS_PER_SECOND / 115200;

    put(LCR, 0x83);
    put(DATA, 1);
    put(LCR, 0x03);
    put(FCR, 0x81);
    put(MCR, MCR_ON);
    put(IER, 0x01);
    send_in("a");
    wait_for_input(1);
    bench_step(bench, timeout - 1000);
    assert_false(irq());
    bench_step(bench, 2000);
    assert_true(irq());
    assert_int_equal(get(IIR), 0xCC);
    assert_int_equal(get(DATA), 'a');
    assert_false(irq());
    bench_step(bench, 10 * timeout);
    assert_false(irq());
}

static void input_waits_outside_while_the_fifo_is_full(void **state)
{
    put(FCR, 0x01);
    send_in("0123456789abcdefghijklmnopqrstuvwxyz");
    wait_for_input(16);
    for (unsigned i = 0; i < 36; i++) {
        wait_for_status(0x01);
        assert_int_equal(get(DATA), "0123456789abcdefghijklmnopqrstuvwxyz"[i]);
    }
    assert_int_equal(get(LSR) & 0x02, 0); /* no overrun */
}

static void without_fifos_one_character_waits(void **state)
{
    send_in("ab");
    wait_for_input(1);
    assert_int_equal(get(DATA), 'a');
    wait_for_input(1);
    assert_int_equal(get(DATA), 'b');
}

static void clearing_a_fifo_forgets_it(void **state)
{
    put(FCR, 0x01);
    send_in("abc");
    wait_for_input(3);
    put(FCR, 0x03);
    assert_int_equal(get(LSR) & 1, 0);
}

static void loopback_turns_the_line_around(void **state)
{
    struct pollfd poll_peer = {peer, POLLIN, 0};

    put(FCR, 0x01);
    put(MCR, MCR_LOOP);
    put(DATA, 'L');
    assert_int_equal(get(LSR), 0x61);
    assert_int_equal(get(DATA), 'L');
    assert_int_equal(poll(&poll_peer, 1, 20), 0);
}

static void loopback_overruns_when_nobody_reads(void **state)
{
    put(FCR, 0x01);
    put(MCR, MCR_LOOP);
    put(IER, 0x04);
    for (unsigned i = 0; i < 17; i++)
        put(DATA, i);
    assert_true(irq());
    assert_int_equal(get(IIR), 0xC6);
    assert_int_equal(get(LSR) & 0x02, 0x02);
    assert_false(irq());
    assert_int_equal(get(LSR) & 0x02, 0);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(get(DATA), i);
}

static void a_break_is_heard_in_loopback(void **state)
{
    put(MCR, MCR_LOOP);
    put(LCR, 0x43);
    assert_int_equal(get(LSR) & 0x11, 0x11);
    assert_int_equal(get(DATA), 0);
}

static void loopback_shows_modem_outputs_as_inputs(void **state)
{
    put(MCR, 0x10);
    assert_int_equal(get(MSR), 0x0B); /* CTS, DSR, DCD fell */
    put(MCR, 0x1F);
    assert_int_equal(get(MSR), 0xFB);
    put(MCR, 0x1B);
    assert_int_equal(get(MSR), 0xB4); /* the ring's trailing edge */
    assert_int_equal(get(MSR), 0xB0);
    put(IER, 0x08);
    put(MCR, 0x19);
    assert_true(irq());
    assert_int_equal(get(IIR), 0x00);
    get(MSR);
    assert_false(irq());
}

static void interrupts_come_by_priority(void **state)
{
    put(MCR, MCR_LOOP);
    put(DATA, 'a');
    put(DATA, 'b'); /* overrun */
    put(IER, 0x0F);
    put(MCR, MCR_LOOP & ~1); /* DSR falls */
    assert_int_equal(get(IIR), 0x06);
    get(LSR);
    assert_int_equal(get(IIR), 0x04);
    assert_int_equal(get(DATA), 'b');
    assert_int_equal(get(IIR), 0x02);
    assert_int_equal(get(IIR), 0x00);
    get(MSR);
    assert_int_equal(get(IIR), 0x01);
}

static void a_vanished_peer_swallows_output(void **state)
{
    close(peer);
    peer = -1;
    for (unsigned i = 0; i < 20000; i++) {
        put(DATA, 'x');
        if (!(get(LSR) & 0x20))
            wait_for_status(0x20);
    }
}

static void a_port_without_line_sends_into_the_void(void **state)
{
    struct uart16550_config config;

    uart16550_device.defaults(&bench->env, &config);
    config.port = PC_PORT_SERIAL1;
    struct device *bare = device_create(&uart16550_device, "serial1", &bench->env, &config, NULL);
    assert_int_equal(in8(bench, PC_PORT_SERIAL1 + MSR), 0);
    out8(bench, PC_PORT_SERIAL1, 'x');
    assert_int_equal(in8(bench, PC_PORT_SERIAL1 + LSR), 0x60);
    device_destroy(bare);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_registers_read_as_after_reset),
        TEST(the_divisor_hides_behind_dlab),
        TEST(fifos_are_identified_by_iir),
        TEST(output_reaches_the_line_in_order),
        TEST(a_full_line_holds_the_transmitter_back_and_loses_nothing),
        TEST(the_empty_transmitter_interrupts_once),
        TEST(out2_gates_the_interrupt),
        TEST(received_data_interrupts_at_the_trigger_level),
        TEST(characters_below_the_trigger_level_time_out),
        TEST(input_waits_outside_while_the_fifo_is_full),
        TEST(without_fifos_one_character_waits),
        TEST(clearing_a_fifo_forgets_it),
        TEST(loopback_turns_the_line_around),
        TEST(loopback_overruns_when_nobody_reads),
        TEST(a_break_is_heard_in_loopback),
        TEST(loopback_shows_modem_outputs_as_inputs),
        TEST(interrupts_come_by_priority),
        TEST(a_vanished_peer_swallows_output),
        TEST(a_port_without_line_sends_into_the_void),
    };

    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
