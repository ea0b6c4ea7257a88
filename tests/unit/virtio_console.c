// SPDX-License-Identifier: Apache-2.0
/*
 * The console device: what it tells of its ports, bytes both ways with either side holding the
 * other up, clients that come and go, and requests in flight over a load.
 */
#include "tests/unit/virtio_driver.h"

#include <fcntl.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/device/virtio/virtio_console.h"

#define MULTIPORT (1ULL << VIRTIO_CONSOLE_F_MULTIPORT)
#define BUFFERS   0x40000ULL
#define BUFFER    0x1000ULL /* bytes of each */
#define QUEUES    6
#define WAIT_US   (5 * G_TIME_SPAN_SECOND)

enum { RECEIVE0, TRANSMIT0, CONTROL_RECEIVE, CONTROL_TRANSMIT, RECEIVE1, TRANSMIT1 };

/* A console and one port, called "agent". */
struct console_bench {
    struct bench *bench;
    struct device *device;
    struct driver driver;
    struct chardev *chardevs[2];
    int host[2];                /* the host's ends */
    struct sockaddr_un address; /* of the port, when it listens; host[1] is -1 then */
    unsigned seen[QUEUES];      /* used entries that were looked at */
};

static struct chardev *line_create(int *host, size_t buffer)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    *host = ends[1];
    return chardev_fd_create(
        &(struct chardev_fd_config){
            .name = "test", .in = ends[0], .out = ends[0], .buffer = buffer},
        NULL);
}

static struct chardev *listener_create(struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "anima-console-%d", getpid());
    assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return chardev_fd_create(
        &(struct chardev_fd_config){.name = "test", .in = fd, .out = -1, .listen = true}, NULL);
}

static void console_plug(struct console_bench *it)
{
    struct virtio_console_setup setup;

    virtio_console_device.defaults(&it->bench->env, &setup);
    setup.ports[0].chardev = it->chardevs[0];
    setup.ports[1].chardev = it->chardevs[1];
    setup.ports[1].name = "agent";
    it->device = device_create(&virtio_console_device, "console", &it->bench->env, &setup, NULL);
    assert_non_null(it->device);
    driver_open(&it->driver, it->bench, it->device);
}

/* A port whose character device has this much room for output; 0: one that listens. */
static void console_create_with(struct console_bench *it, size_t buffer)
{
    *it = (struct console_bench){.bench = bench_create(), .host = {-1, -1}};
    it->chardevs[0] = line_create(&it->host[0], 64);
    it->chardevs[1] = buffer ? line_create(&it->host[1], buffer) : listener_create(&it->address);
    console_plug(it);
    device_resume(it->device);
    driver_msix(&it->driver, QUEUES + 1);
}

/* With a small buffer, which is full soon. */
static void console_create(struct console_bench *it, bool listens)
{
    console_create_with(it, listens ? 0 : 64);
}

static void console_destroy(struct console_bench *it)
{
    device_pause(it->device);
    device_destroy(it->device);
    for (unsigned i = 0; i < 2; i++) {
        chardev_destroy(it->chardevs[i]);
        if (it->host[i] >= 0)
            close(it->host[i]);
    }
    bench_destroy(it->bench);
}

/* ---- the driver ---- */

static uint64_t buffer_of(unsigned queue, unsigned head)
{
    return BUFFERS + (queue * 8ULL + head) * BUFFER;
}

static void put(struct console_bench *it, unsigned queue, uint16_t head, uint32_t length,
                bool writable)
{
    driver_descriptor(&it->driver, DRIVER_DESCRIPTORS(queue), head, buffer_of(queue, head), length,
                      writable ? VRING_DESC_F_WRITE : 0, 0);
    driver_put(&it->driver, queue, head);
    driver_notify(&it->driver, queue);
}

/* Wait for the queue's next used entry. */
static struct vring_used_elem next_used(struct console_bench *it, unsigned queue)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    while (driver_used_count(&it->driver, queue) == it->seen[queue]) {
        assert_true(g_get_monotonic_time() < end);
        g_usleep(200);
    }
    return driver_used(&it->driver, queue, it->seen[queue]++);
}

static bool has_used(struct console_bench *it, unsigned queue)
{
    return driver_used_count(&it->driver, queue) != it->seen[queue];
}

static void send_text(struct console_bench *it, unsigned queue, uint16_t head, const char *text)
{
    driver_poke(&it->driver, buffer_of(queue, head), text, strlen(text));
    put(it, queue, head, strlen(text), false);
}

static void send_control(struct console_bench *it, uint32_t port, uint16_t event, uint16_t value)
{
    struct virtio_console_control control = {port, event, value};

    driver_poke(&it->driver, buffer_of(CONTROL_TRANSMIT, 0), &control, sizeof(control));
    put(it, CONTROL_TRANSMIT, 0, sizeof(control), false);
    next_used(it, CONTROL_TRANSMIT);
}

/* The next control message is this one, with `name` behind it (NULL: nothing). Gives its buffer
 * back. */
static void expect_control(struct console_bench *it, uint32_t port, uint16_t event, uint16_t value,
                           const char *name)
{
    struct vring_used_elem used = next_used(it, CONTROL_RECEIVE);
    struct virtio_console_control control;
    uint8_t bytes[64];

    assert_true(used.len <= sizeof(bytes));
    driver_peek(&it->driver, buffer_of(CONTROL_RECEIVE, used.id), bytes, used.len);
    memcpy(&control, bytes, sizeof(control));
    assert_int_equal(control.id, port);
    assert_int_equal(control.event, event);
    assert_int_equal(control.value, value);
    assert_int_equal(used.len, sizeof(control) + (name ? strlen(name) : 0));
    if (name)
        assert_memory_equal(bytes + sizeof(control), name, strlen(name));
    put(it, CONTROL_RECEIVE, used.id, BUFFER, true);
}

/* Up to both ports being known to each side, and opened by the guest. */
static void handshake(struct console_bench *it, bool port_is_open)
{
    driver_start(&it->driver, MULTIPORT, QUEUES);
    for (unsigned i = 0; i < 4; i++)
        put(it, CONTROL_RECEIVE, i, BUFFER, true);
    send_control(it, VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
    expect_control(it, 0, VIRTIO_CONSOLE_PORT_ADD, 0, NULL);
    expect_control(it, 1, VIRTIO_CONSOLE_PORT_ADD, 0, NULL);
    send_control(it, 0, VIRTIO_CONSOLE_PORT_READY, 1);
    expect_control(it, 0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL);
    expect_control(it, 0, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
    send_control(it, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_control(it, 1, VIRTIO_CONSOLE_PORT_READY, 1);
    expect_control(it, 1, VIRTIO_CONSOLE_PORT_NAME, 1, "agent");
    if (port_is_open)
        expect_control(it, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
    send_control(it, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    assert_false(has_used(it, CONTROL_RECEIVE));
}

static void expect_received(struct console_bench *it, unsigned queue, const char *text)
{
    struct vring_used_elem used = next_used(it, queue);
    char bytes[64] = "";

    assert_int_equal(used.len, strlen(text));
    driver_peek(&it->driver, buffer_of(queue, used.id), bytes, used.len);
    assert_string_equal(bytes, text);
}

static void expect_sent(int fd, const char *text)
{
    char bytes[512] = "";

    for (size_t got = 0; got < strlen(text);) {
        struct pollfd wait = {fd, POLLIN, 0};
        assert_int_equal(poll(&wait, 1, 5000), 1);
        ssize_t count = read(fd, bytes + got, sizeof(bytes) - 1 - got);
        assert_true(count > 0);
        got += count;
    }
    assert_string_equal(bytes, text);
}

static void type_in(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static int connect_to(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
    return fd;
}

static void wait_for_client(struct console_bench *it, bool there)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    while (chardev_is_connected(it->chardevs[1]) != there) {
        assert_true(g_get_monotonic_time() < end);
        g_usleep(200);
    }
}

/* ---- scenarios ---- */

static void the_driver_learns_of_each_port(void **state)
{
    struct console_bench it;

    console_create(&it, false);
    assert_int_equal(driver_read(&it.driver, 0x2000 + 4, 4), 2);
    handshake(&it, true);
    assert_int_equal(it.device->guest_errors, 0);
    console_destroy(&it);
}

static void bytes_go_both_ways_on_each_port(void **state)
{
    struct console_bench it;

    console_create(&it, false);
    handshake(&it, true);
    for (unsigned port = 0; port < 2; port++) {
        unsigned queue = port ? RECEIVE1 : RECEIVE0;

        send_text(&it, queue + 1, 0, port ? "from the port" : "from the console");
        expect_sent(it.host[port], port ? "from the port" : "from the console");
        next_used(&it, queue + 1);
        put(&it, queue, 0, BUFFER, true);
        type_in(it.host[port], "to the guest");
        expect_received(&it, queue, "to the guest");
    }
    console_destroy(&it);
}

static void input_waits_for_the_guest_to_open_the_port_and_for_buffers(void **state)
{
    struct console_bench it;

    console_create(&it, false);
    handshake(&it, true);
    send_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
    put(&it, RECEIVE1, 0, 4, true);
    type_in(it.host[1], "abcdefgh");
    g_usleep(20000);
    assert_false(has_used(&it, RECEIVE1));
    send_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    expect_received(&it, RECEIVE1, "abcd");
    g_usleep(20000);
    assert_false(has_used(&it, RECEIVE1));
    put(&it, RECEIVE1, 1, BUFFER, true);
    expect_received(&it, RECEIVE1, "efgh");
    console_destroy(&it);
}

/* More than the 64 bytes that the character device takes. */
static const char long_text[] = "a text of rather more than one hundred bytes, so that it does not "
                                "fit into what the character device keeps, nor twice";

static void a_host_that_does_not_read_leaves_the_buffer_in_flight(void **state)
{
    struct console_bench it;

    console_create(&it, false);
    handshake(&it, true);
    chardev_hold(it.chardevs[1], true);
    send_text(&it, TRANSMIT1, 0, long_text);
    send_text(&it, TRANSMIT1, 1, ", and more");
    g_usleep(10000);
    assert_false(has_used(&it, TRANSMIT1));
    chardev_hold(it.chardevs[1], false);
    next_used(&it, TRANSMIT1);
    next_used(&it, TRANSMIT1);
    g_autofree char *all = g_strconcat(long_text, ", and more", NULL);
    expect_sent(it.host[1], all);
    console_destroy(&it);
}

/* The guest's processor is not kept for longer than 64 KiB take. */
static void a_long_request_goes_on_by_the_timer(void **state)
{
    struct console_bench it;
    enum { LENGTH = 100000 };
    g_autofree uint8_t *sent = g_malloc(LENGTH), *got = g_malloc0(LENGTH);

    console_create_with(&it, 1 << 20);
    handshake(&it, true);
    for (unsigned i = 0; i < LENGTH; i++)
        sent[i] = (uint8_t)(i * 2654435761U >> 24);
    driver_poke(&it.driver, 0x80000, sent, LENGTH);
    driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(TRANSMIT1), 0, 0x80000, LENGTH, 0, 0);
    driver_put(&it.driver, TRANSMIT1, 0);
    driver_notify(&it.driver, TRANSMIT1);
    assert_false(has_used(&it, TRANSMIT1));
    bench_step(it.bench, 1);
    next_used(&it, TRANSMIT1);
    for (size_t length = 0; length < LENGTH;) {
        ssize_t count = recv(it.host[1], got + length, LENGTH - length, 0);
        assert_true(count > 0);
        length += count;
    }
    assert_memory_equal(sent, got, LENGTH);
    console_destroy(&it);
}

static void requests_in_flight_go_on_after_a_load(void **state)
{
    struct console_bench it;
    struct console_bench second;

    console_create(&it, false);
    handshake(&it, true);
    chardev_hold(it.chardevs[1], true);
    put(&it, RECEIVE1, 3, BUFFER, true);
    send_text(&it, TRANSMIT1, 0, long_text);
    send_text(&it, TRANSMIT1, 1, ", and more");
    device_pause(it.device);
    g_autoptr(GBytes) saved = device_save(it.device);
    chardev_hold(it.chardevs[1], false);
    expect_sent(it.host[1], "a text of rather more than one hundred bytes, so that it does no");
    type_in(it.host[1], "typed while it stood still");

    /* The same memory, rings and lines, another device. */
    second = it;
    device_destroy(it.device);
    console_plug(&second);
    assert_true(device_load(second.device, saved, NULL));
    device_resume(second.device);
    next_used(&second, TRANSMIT1);
    next_used(&second, TRANSMIT1);
    expect_sent(second.host[1], "t fit into what the character device keeps, nor twice, and more");
    expect_received(&second, RECEIVE1, "typed while it stood still");
    console_destroy(&second);
}

/* A damaged stream may say that the console has a name to be told. */
static void a_console_without_a_name_tells_none(void **state)
{
    enum { TOLD = 2 | 16, NAME = 4 }; /* "console" and "opened" wait; "name" */
    struct console_bench it;
    unsigned found = 0;

    console_create(&it, false);
    driver_start(&it.driver, MULTIPORT, QUEUES);
    g_autoptr(GBytes) before = device_save(it.device);
    send_control(&it, 0, VIRTIO_CONSOLE_PORT_READY, 1);
    g_autoptr(GBytes) after = device_save(it.device);
    size_t size;
    const uint8_t *old = g_bytes_get_data(before, NULL), *new = g_bytes_get_data(after, &size);
    g_autofree uint8_t *damaged = g_memdup2(new, size);
    for (size_t i = 0; i < size; i++)
        if (old[i] == 0 && new[i] == TOLD) {
            damaged[i] = NAME;
            found++;
        }
    assert_int_equal(found, 1);
    g_autoptr(GBytes) stream = g_bytes_new(damaged, size);
    device_pause(it.device);
    assert_true(device_load(it.device, stream, NULL));
    device_resume(it.device);
    put(&it, CONTROL_RECEIVE, 0, BUFFER, true);
    expect_control(&it, 0, VIRTIO_CONSOLE_PORT_NAME, 1, NULL);
    console_destroy(&it);
}

static void clients_come_and_go(void **state)
{
    struct console_bench it;

    console_create(&it, true);
    handshake(&it, false);
    send_text(&it, TRANSMIT1, 0, "to nobody");
    next_used(&it, TRANSMIT1);
    for (unsigned i = 0; i < 2; i++) {
        int client = connect_to(&it.address);

        expect_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
        send_text(&it, TRANSMIT1, 0, "hello");
        expect_sent(client, "hello");
        next_used(&it, TRANSMIT1);
        close(client);
        expect_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, NULL);
    }
    console_destroy(&it);
}

/* It could be a command for a program that has ended meanwhile. */
static void what_a_client_left_is_dropped_when_the_guest_has_closed_the_port(void **state)
{
    struct console_bench it;

    console_create(&it, true);
    handshake(&it, false);
    int client = connect_to(&it.address);
    expect_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
    type_in(client, "stale");
    close(client);
    g_usleep(10000);
    assert_false(has_used(&it, CONTROL_RECEIVE)); /* the guest may still read */
    send_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
    expect_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, NULL);
    send_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    client = connect_to(&it.address);
    expect_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
    type_in(client, "fresh");
    put(&it, RECEIVE1, 0, BUFFER, true);
    expect_received(&it, RECEIVE1, "fresh");
    close(client);
    console_destroy(&it);
}

static void messages_wait_for_buffers_and_keep_their_order(void **state)
{
    struct console_bench it;

    console_create(&it, true);
    driver_start(&it.driver, MULTIPORT, QUEUES);
    send_control(&it, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    send_control(&it, 1, VIRTIO_CONSOLE_PORT_READY, 1);
    int client = connect_to(&it.address);
    wait_for_client(&it, true);
    close(client);
    wait_for_client(&it, false);
    it.host[1] = connect_to(&it.address);
    wait_for_client(&it, true);
    g_usleep(20000); /* for the device to hear of it */
    for (unsigned i = 0; i < 4; i++)
        put(&it, CONTROL_RECEIVE, i, BUFFER, true);
    expect_control(&it, 0, VIRTIO_CONSOLE_PORT_ADD, 0, NULL);
    expect_control(&it, 1, VIRTIO_CONSOLE_PORT_ADD, 0, NULL);
    expect_control(&it, 1, VIRTIO_CONSOLE_PORT_NAME, 1, "agent");
    expect_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, NULL);
    expect_control(&it, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
    assert_false(has_used(&it, CONTROL_RECEIVE));
    console_destroy(&it);
}

static void nonsense_in_control_messages_is_counted(void **state)
{
    struct console_bench it;

    console_create(&it, false);
    handshake(&it, true);
    send_control(&it, 2, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_control(&it, UINT32_MAX, VIRTIO_CONSOLE_PORT_READY, 1);
    send_control(&it, 1, VIRTIO_CONSOLE_PORT_ADD, 1);
    send_control(&it, 1, 999, 1);
    send_control(&it, 1, VIRTIO_CONSOLE_PORT_READY, 0);
    put(&it, CONTROL_TRANSMIT, 0, 7, false);
    next_used(&it, CONTROL_TRANSMIT);
    put(&it, CONTROL_TRANSMIT, 0, 0, false);
    next_used(&it, CONTROL_TRANSMIT);
    assert_int_equal(it.device->guest_errors, 7);
    assert_int_equal(driver_status(&it.driver), DRIVER_READY);
    console_destroy(&it);
}

static void buffers_without_room_or_memory_break_the_device(void **state)
{
    struct console_bench it;
    const struct {
        uint64_t address;
        uint32_t length;
        unsigned queue;
    } wrong[] = {
        {BUFFERS, 0, RECEIVE0},           {0xC0000000, 64, RECEIVE0},
        {0xC0000000, 64, TRANSMIT0},      {BUFFERS, 7, CONTROL_RECEIVE},
        {0xFEE00000, 8, CONTROL_RECEIVE}, {0xFFFFFFFFFF000, 8, CONTROL_TRANSMIT},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        unsigned queue = wrong[i].queue;
        gint64 end = g_get_monotonic_time() + WAIT_US;

        console_create(&it, false);
        handshake(&it, true);
        type_in(it.host[0], "input");
        if (queue == CONTROL_RECEIVE) { /* the good ones first */
            for (unsigned j = 0; j < 4; j++)
                send_control(&it, 0, VIRTIO_CONSOLE_PORT_READY, 1);
        }
        driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(queue), 7, wrong[i].address,
                          wrong[i].length, queue % 2 ? 0 : VRING_DESC_F_WRITE, 0);
        driver_put(&it.driver, queue, 7);
        driver_notify(&it.driver, queue);
        if (queue == CONTROL_RECEIVE)
            driver_notify(&it.driver, CONTROL_TRANSMIT);
        while (!(driver_status(&it.driver) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
            assert_true(g_get_monotonic_time() < end);
            g_usleep(200);
        }
        console_destroy(&it);
    }
}

static void a_reset_starts_anew(void **state)
{
    struct console_bench it;

    console_create(&it, false);
    handshake(&it, true);
    put(&it, RECEIVE1, 0, BUFFER, true);
    chardev_hold(it.chardevs[1], true);
    send_text(&it, TRANSMIT1, 0, long_text);
    device_reset(it.device);
    chardev_hold(it.chardevs[1], false);
    expect_sent(it.host[1], "a text of rather more than one hundred bytes, so that it does no");
    uint8_t nothing[0x30000] = {0};
    driver_poke(&it.driver, DRIVER_DESCRIPTORS(0), nothing, sizeof(nothing));
    memset(it.seen, 0, sizeof(it.seen));
    driver_open(&it.driver, it.bench, it.device);
    handshake(&it, true);
    send_text(&it, TRANSMIT1, 0, "anew");
    expect_sent(it.host[1], "anew");
    console_destroy(&it);
}

static void a_driver_without_ports_has_a_console(void **state)
{
    struct console_bench it;

    console_create(&it, false);
    driver_start(&it.driver, 0, 2);
    put(&it, RECEIVE0, 0, BUFFER, true);
    type_in(it.host[0], "in");
    expect_received(&it, RECEIVE0, "in");
    send_text(&it, TRANSMIT0, 0, "out");
    expect_sent(it.host[0], "out");
    assert_int_equal(it.device->guest_errors, 0);
    console_destroy(&it);
}

static void the_emergency_register_writes_a_character(void **state)
{
    struct console_bench it;

    console_create(&it, false);
    driver_write(&it.driver, 0x2000 + 8, 4, 'X');
    driver_write(&it.driver, 0x2000 + 8, 1, 'Y');
    driver_write(&it.driver, 0x2000 + 4, 4, 'Z');
    expect_sent(it.host[0], "XY");
    console_destroy(&it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_driver_learns_of_each_port),
        cmocka_unit_test(bytes_go_both_ways_on_each_port),
        cmocka_unit_test(input_waits_for_the_guest_to_open_the_port_and_for_buffers),
        cmocka_unit_test(a_host_that_does_not_read_leaves_the_buffer_in_flight),
        cmocka_unit_test(a_long_request_goes_on_by_the_timer),
        cmocka_unit_test(requests_in_flight_go_on_after_a_load),
        cmocka_unit_test(a_console_without_a_name_tells_none),
        cmocka_unit_test(clients_come_and_go),
        cmocka_unit_test(what_a_client_left_is_dropped_when_the_guest_has_closed_the_port),
        cmocka_unit_test(messages_wait_for_buffers_and_keep_their_order),
        cmocka_unit_test(nonsense_in_control_messages_is_counted),
        cmocka_unit_test(buffers_without_room_or_memory_break_the_device),
        cmocka_unit_test(a_reset_starts_anew),
        cmocka_unit_test(a_driver_without_ports_has_a_console),
        cmocka_unit_test(the_emergency_register_writes_a_character),
    };

    alarm(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
