// SPDX-License-Identifier: Apache-2.0
/* The descriptor back end: pipes, sockets that listen, ptys, holding output, and the last flush. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/util/chardev.h"

/* A front end that keeps what it is given, up to `room` bytes at a time. */
struct front {
    GMutex lock;
    GCond changed;
    GString *received;
    size_t room;
    unsigned writable, comings, goings;
    bool uninterested; /* in what clients leave behind */
};

static size_t front_can_receive(void *opaque)
{
    struct front *front = opaque;

    g_mutex_lock(&front->lock);
    size_t room = front->room;
    g_mutex_unlock(&front->lock);
    return room;
}

static void front_receive(void *opaque, const uint8_t *data, size_t length)
{
    struct front *front = opaque;

    g_mutex_lock(&front->lock);
    g_string_append_len(front->received, (const char *)data, length);
    front->room -= length;
    g_cond_signal(&front->changed);
    g_mutex_unlock(&front->lock);
}

static void front_writable(void *opaque)
{
    struct front *front = opaque;

    g_mutex_lock(&front->lock);
    front->writable++;
    g_cond_signal(&front->changed);
    g_mutex_unlock(&front->lock);
}

static void front_connected(void *opaque, bool connected)
{
    struct front *front = opaque;

    g_mutex_lock(&front->lock);
    *(connected ? &front->comings : &front->goings) += 1;
    g_cond_signal(&front->changed);
    g_mutex_unlock(&front->lock);
}

static bool front_wants_rest(void *opaque)
{
    struct front *front = opaque;

    g_mutex_lock(&front->lock);
    bool wants = !front->uninterested;
    g_mutex_unlock(&front->lock);
    return wants;
}

static void front_init(struct front *front, struct chardev *chardev, size_t room)
{
    const struct chardev_handlers handlers = {
        .can_receive = front_can_receive,
        .receive = front_receive,
        .writable = front_writable,
        .connected = front_connected,
        .wants_rest = front_wants_rest,
        .opaque = front,
    };

    memset(front, 0, sizeof(*front));
    g_mutex_init(&front->lock);
    g_cond_init(&front->changed);
    front->received = g_string_new(NULL);
    front->room = room;
    chardev_set_handlers(chardev, &handlers);
}

static void front_finish(struct front *front, struct chardev *chardev)
{
    chardev_set_handlers(chardev, NULL);
    g_string_free(front->received, true);
    g_cond_clear(&front->changed);
    g_mutex_clear(&front->lock);
}

/* Wait, for at most five seconds of the host's, for all of `text`. */
static void expect_received(struct front *front, const char *text)
{
    gint64 deadline = g_get_monotonic_time() + 5 * G_TIME_SPAN_SECOND;

    g_mutex_lock(&front->lock);
    while (front->received->len < strlen(text) &&
           g_cond_wait_until(&front->changed, &front->lock, deadline))
        ;
    assert_string_equal(front->received->str, text);
    g_mutex_unlock(&front->lock);
}

/* Wait until a count of the front end's, which has its lock, is `value`. */
static void expect_count(struct front *front, const unsigned *count, unsigned value)
{
    gint64 deadline = g_get_monotonic_time() + 5 * G_TIME_SPAN_SECOND;

    g_mutex_lock(&front->lock);
    while (*count < value && g_cond_wait_until(&front->changed, &front->lock, deadline))
        ;
    assert_int_equal(*count, value);
    g_mutex_unlock(&front->lock);
}

static void front_make_room(struct front *front, struct chardev *chardev, size_t room)
{
    g_mutex_lock(&front->lock);
    front->room = room;
    g_mutex_unlock(&front->lock);
    chardev_accept_input(chardev);
}

static size_t write_text(struct chardev *chardev, const char *text)
{
    return chardev_write(chardev, (const uint8_t *)text, strlen(text));
}

static void expect_read(int fd, const char *text)
{
    char buffer[64] = "";
    size_t got = 0;

    while (got < strlen(text)) {
        struct pollfd wait = {fd, POLLIN, 0};
        assert_int_equal(poll(&wait, 1, 5000), 1);
        ssize_t n = read(fd, buffer + got, sizeof(buffer) - 1 - got);
        assert_true(n > 0);
        got += n;
    }
    assert_string_equal(buffer, text);
}

static struct chardev *create(struct chardev_fd_config config)
{
    config.name = "test";
    struct chardev *chardev = chardev_fd_create(&config, NULL);
    assert_non_null(chardev);
    return chardev;
}

static void bytes_go_both_ways(void **state)
{
    int in[2], out[2];
    struct front front;

    assert_int_equal(pipe(in) | pipe(out), 0);
    struct chardev *chardev = create((struct chardev_fd_config){.in = in[0], .out = out[1]});
    front_init(&front, chardev, 100);
    assert_int_equal(write_text(chardev, "to the world"), 12);
    expect_read(out[0], "to the world");
    assert_int_equal(write(in[1], "to the guest", 12), 12);
    expect_received(&front, "to the guest");
    close(in[1]); /* the end of input is not the end of output */
    g_usleep(10000);
    assert_int_equal(write_text(chardev, "still"), 5);
    expect_read(out[0], "still");
    front_finish(&front, chardev);
    chardev_destroy(chardev);
    close(out[0]);
}

static void input_waits_for_room(void **state)
{
    int in[2];
    struct front front;

    assert_int_equal(pipe(in), 0);
    struct chardev *chardev = create((struct chardev_fd_config){.in = in[0], .out = -1});
    front_init(&front, chardev, 3);
    assert_int_equal(write(in[1], "abcdef", 6), 6);
    expect_received(&front, "abc");
    g_usleep(20000);
    expect_received(&front, "abc");
    front_make_room(&front, chardev, 10);
    expect_received(&front, "abcdef");
    front_finish(&front, chardev);
    chardev_destroy(chardev);
    close(in[1]);
}

static void held_output_stays_until_released(void **state)
{
    int out[2];

    assert_int_equal(pipe(out), 0);
    struct chardev *chardev = create((struct chardev_fd_config){.in = -1, .out = out[1]});
    struct pollfd wait = {out[0], POLLIN, 0};
    chardev_hold(chardev, true);
    assert_int_equal(write_text(chardev, "held"), 4);
    assert_int_equal(poll(&wait, 1, 30), 0);
    assert_false(chardev_flush(chardev, 10));
    chardev_hold(chardev, false);
    assert_true(chardev_flush(chardev, 5000));
    expect_read(out[0], "held");
    chardev_destroy(chardev);
    close(out[0]);
}

static void a_full_buffer_pushes_back_and_tells_when_there_is_room(void **state)
{
    int out[2];
    uint8_t block[300] = {0};
    struct front front;

    assert_int_equal(pipe(out), 0);
    struct chardev *chardev =
        create((struct chardev_fd_config){.in = -1, .out = out[1], .buffer = 256});
    front_init(&front, chardev, 0);
    chardev_hold(chardev, true);
    assert_int_equal(chardev_write(chardev, block, sizeof(block)), 256);
    assert_int_equal(chardev_write(chardev, block, 1), 0);
    chardev_hold(chardev, false);
    expect_count(&front, &front.writable, 1);
    assert_int_equal(chardev_write(chardev, block, 1), 1);
    front_finish(&front, chardev);
    chardev_destroy(chardev);
    close(out[0]);
}

static void destroying_flushes_what_is_buffered(void **state)
{
    int out[2];

    assert_int_equal(pipe(out), 0);
    struct chardev *chardev = create((struct chardev_fd_config){.in = -1, .out = out[1]});
    assert_int_equal(write_text(chardev, "last words"), 10);
    chardev_destroy(chardev);
    expect_read(out[0], "last words");
    close(out[0]);
}

static void a_reader_that_left_lets_output_vanish(void **state)
{
    int out[2];

    assert_int_equal(pipe(out), 0);
    struct chardev *chardev =
        create((struct chardev_fd_config){.in = -1, .out = out[1], .buffer = 16});
    close(out[0]);
    for (unsigned i = 0; i < 1000; i++) {
        write_text(chardev, "x");
        chardev_flush(chardev, 5000);
    }
    assert_int_equal(write_text(chardev, "more than sixteen bytes of it"), 29);
    chardev_destroy(chardev);
}

static int connect_to(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
    return fd;
}

/* A back end that listens, its address and its front end. */
struct listening {
    struct sockaddr_un address;
    struct chardev *chardev;
    struct front front;
};

static void listening_init(struct listening *it, size_t room)
{
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *it = (struct listening){.address = {.sun_family = AF_UNIX}};
    /* An abstract name: nothing is left behind. */
    snprintf(it->address.sun_path + 1, sizeof(it->address.sun_path) - 1, "anima-chardev-%d",
             getpid());
    assert_int_equal(bind(listener, (struct sockaddr *)&it->address, sizeof(it->address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    it->chardev = create((struct chardev_fd_config){.in = listener, .out = -1, .listen = true});
    front_init(&it->front, it->chardev, room);
}

static void listening_finish(struct listening *it)
{
    front_finish(&it->front, it->chardev);
    chardev_destroy(it->chardev);
}

static void a_listening_socket_serves_one_client_after_another(void **state)
{
    struct listening it;

    listening_init(&it, 100);
    assert_false(chardev_is_connected(it.chardev));
    assert_int_equal(write_text(it.chardev, "to nobody"), 9);
    for (unsigned i = 0; i < 2; i++) {
        int client = connect_to(&it.address);
        expect_count(&it.front, &it.front.comings, i + 1);
        assert_true(chardev_is_connected(it.chardev));
        assert_int_equal(write_text(it.chardev, "hello"), 5);
        expect_read(client, "hello");
        assert_int_equal(write(client, "hi", 2), 2);
        expect_received(&it.front, i ? "hihi" : "hi");
        close(client);
        expect_count(&it.front, &it.front.goings, i + 1);
        assert_false(chardev_is_connected(it.chardev));
    }
    listening_finish(&it);
}

/* As `printf question | nc -U socket` does. */
static void a_client_that_has_said_all_still_hears(void **state)
{
    struct listening it;

    listening_init(&it, 100);
    int client = connect_to(&it.address);
    assert_int_equal(write(client, "question", 8), 8);
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    expect_received(&it.front, "question");
    g_usleep(20000);
    assert_true(chardev_is_connected(it.chardev));
    assert_int_equal(write_text(it.chardev, "answer"), 6);
    expect_read(client, "answer");
    close(client);
    expect_count(&it.front, &it.front.goings, 1);
    listening_finish(&it);
}

static void what_a_client_left_behind_is_received(void **state)
{
    struct listening it;

    listening_init(&it, 0);
    int client = connect_to(&it.address);
    assert_int_equal(write(client, "abcdef", 6), 6);
    close(client);
    int next = connect_to(&it.address);
    expect_count(&it.front, &it.front.comings, 1);
    g_usleep(20000);
    assert_true(chardev_is_connected(it.chardev));
    assert_int_equal(write_text(it.chardev, "to nobody"), 9);
    front_make_room(&it.front, it.chardev, 3);
    expect_received(&it.front, "abc");
    front_make_room(&it.front, it.chardev, 100);
    expect_received(&it.front, "abcdef");
    expect_count(&it.front, &it.front.goings, 1);
    expect_count(&it.front, &it.front.comings, 2);
    close(next);
    expect_count(&it.front, &it.front.goings, 2);
    listening_finish(&it);
}

static void a_front_end_may_refuse_what_a_client_left_behind(void **state)
{
    struct listening it;

    listening_init(&it, 0);
    int client = connect_to(&it.address);
    assert_int_equal(write(client, "abcdef", 6), 6);
    close(client);
    expect_count(&it.front, &it.front.comings, 1);
    g_mutex_lock(&it.front.lock);
    it.front.uninterested = true;
    g_mutex_unlock(&it.front.lock);
    chardev_accept_input(it.chardev);
    expect_count(&it.front, &it.front.goings, 1);
    expect_received(&it.front, "");
    listening_finish(&it);
}

static void no_byte_is_lost_when_handlers_change(void **state)
{
    int in[2];
    struct front front;
    g_autoptr(GString) sent = g_string_new(NULL);

    assert_int_equal(pipe(in), 0);
    struct chardev *chardev = create((struct chardev_fd_config){.in = in[0], .out = -1});
    front_init(&front, chardev, 100000);
    const struct chardev_handlers handlers = {
        .can_receive = front_can_receive, .receive = front_receive, .opaque = &front};
    for (unsigned i = 0; i < 500; i++) {
        char text[8];
        int length = snprintf(text, sizeof(text), "%u ", i);

        g_string_append(sent, text);
        assert_int_equal(write(in[1], text, length), length);
        chardev_set_handlers(chardev, i % 2 ? &handlers : NULL);
    }
    expect_received(&front, sent->str);
    front_finish(&front, chardev);
    chardev_destroy(chardev);
    close(in[1]);
}

static void a_suspended_one_touches_nothing(void **state)
{
    int in[2], out[2];
    struct front front;

    assert_int_equal(pipe(in) | pipe(out), 0);
    struct chardev *chardev = create((struct chardev_fd_config){.in = in[0], .out = out[1]});
    front_init(&front, chardev, 100);
    chardev_suspend(chardev);
    chardev_suspend(chardev);
    assert_int_equal(write_text(chardev, "later"), 5);
    assert_int_equal(write(in[1], "input", 5), 5);
    g_usleep(20000);
    struct pollfd wait = {out[0], POLLIN, 0};
    assert_int_equal(poll(&wait, 1, 0), 0);
    expect_received(&front, "");
    g_autoptr(GBytes) pending = chardev_pending(chardev);
    assert_int_equal(g_bytes_get_size(pending), 5);
    assert_memory_equal(g_bytes_get_data(pending, NULL), "later", 5);
    chardev_resume(chardev);
    expect_read(out[0], "later");
    expect_received(&front, "input");
    front_finish(&front, chardev);
    chardev_destroy(chardev);
    close(in[1]);
    close(out[0]);
}

static void a_client_moves_to_another_with_what_is_pending(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct front one, two;

    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "anima-moving-%d", getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    struct chardev *old =
        create((struct chardev_fd_config){.in = dup(listener), .out = -1, .listen = true});
    struct chardev *new = create(
        (struct chardev_fd_config){.in = listener, .out = -1, .listen = true, .suspended = true});
    front_init(&one, old, 100);
    front_init(&two, new, 100);
    int client = connect_to(&address);
    expect_count(&one, &one.comings, 1);
    assert_int_equal(write_text(old, "one"), 3);
    expect_read(client, "one");

    chardev_suspend(old);
    assert_int_equal(write_text(old, "two"), 3);
    g_autoptr(GBytes) pending = chardev_pending(old);
    assert_true(chardev_client(old) >= 0);
    assert_true(chardev_adopt_client(new, dup(chardev_client(old))));
    assert_false(chardev_adopt_client(new, -1));
    assert_int_equal(chardev_write(new, g_bytes_get_data(pending, NULL), 3), 3);
    front_finish(&one, old);
    chardev_destroy(old);
    chardev_resume(new);
    expect_read(client, "two");
    assert_int_equal(write(client, "hi", 2), 2);
    expect_received(&two, "hi");
    close(client);
    front_finish(&two, new);
    chardev_destroy(new);
}

static int open_pty(char **name)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);

    assert_true(master >= 0);
    assert_int_equal(grantpt(master) | unlockpt(master), 0);
    *name = g_strdup(ptsname(master));
    return master;
}

static void a_pty_that_nobody_reads_does_not_keep_us(void **state)
{
    g_autofree char *name = NULL;
    int master = open_pty(&name), slave = open(name, O_RDWR | O_NOCTTY);
    g_autofree uint8_t *block = g_malloc0(1 << 20);

    assert_true(slave >= 0);
    struct chardev *chardev = create((struct chardev_fd_config){
        .in = master, .out = master, .reopens = true, .buffer = 1 << 20});
    assert_int_equal(chardev_write(chardev, block, 1 << 20), 1 << 20);
    assert_false(chardev_flush(chardev, 20));
    chardev_hold(chardev, true); /* else it waits a second for the rest to leave */
    chardev_destroy(chardev);
    close(slave);
}

static void a_pty_outlives_its_users(void **state)
{
    struct front front;
    struct termios raw;
    g_autofree char *name = NULL;
    int master = open_pty(&name);

    struct chardev *chardev =
        create((struct chardev_fd_config){.in = master, .out = master, .reopens = true});
    front_init(&front, chardev, 100);
    for (unsigned i = 0; i < 2; i++) {
        int slave = open(name, O_RDWR | O_NOCTTY);

        assert_true(slave >= 0);
        assert_int_equal(tcgetattr(slave, &raw), 0);
        cfmakeraw(&raw);
        assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
        assert_int_equal(write(slave, "in", 2), 2);
        expect_received(&front, i ? "inin" : "in");
        assert_int_equal(write_text(chardev, "out"), 3);
        expect_read(slave, "out");
        close(slave);
        g_usleep(50000); /* for the back end to see it */
    }
    front_finish(&front, chardev);
    chardev_destroy(chardev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_both_ways),
        cmocka_unit_test(input_waits_for_room),
        cmocka_unit_test(held_output_stays_until_released),
        cmocka_unit_test(a_full_buffer_pushes_back_and_tells_when_there_is_room),
        cmocka_unit_test(destroying_flushes_what_is_buffered),
        cmocka_unit_test(a_reader_that_left_lets_output_vanish),
        cmocka_unit_test(a_listening_socket_serves_one_client_after_another),
        cmocka_unit_test(a_client_that_has_said_all_still_hears),
        cmocka_unit_test(what_a_client_left_behind_is_received),
        cmocka_unit_test(a_front_end_may_refuse_what_a_client_left_behind),
        cmocka_unit_test(no_byte_is_lost_when_handlers_change),
        cmocka_unit_test(a_suspended_one_touches_nothing),
        cmocka_unit_test(a_client_moves_to_another_with_what_is_pending),
        cmocka_unit_test(a_pty_that_nobody_reads_does_not_keep_us),
        cmocka_unit_test(a_pty_outlives_its_users),
    };

    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
