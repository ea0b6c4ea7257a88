// SPDX-License-Identifier: Apache-2.0
/* The I/O thread: calls, watches and file operations, on each of the back ends that the host has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/util/loop.h"

#define PATIENCE (10 * G_TIME_SPAN_SECOND)

/* A counter that the test's thread waits for. */
struct counter {
    GMutex lock;
    GCond changed;
    unsigned value;
};

static void counter_add(struct counter *counter)
{
    g_mutex_lock(&counter->lock);
    counter->value++;
    g_cond_signal(&counter->changed);
    g_mutex_unlock(&counter->lock);
}

static unsigned counter_get(struct counter *counter)
{
    g_mutex_lock(&counter->lock);
    unsigned value = counter->value;
    g_mutex_unlock(&counter->lock);
    return value;
}

static void counter_expect(struct counter *counter, unsigned value)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE;

    g_mutex_lock(&counter->lock);
    while (counter->value < value && g_cond_wait_until(&counter->changed, &counter->lock, deadline))
        ;
    assert_int_equal(counter->value, value);
    g_mutex_unlock(&counter->lock);
}

static int start(void **state, const char *backend)
{
    setenv("ANIMA_LOOP", backend, 1);
    g_autoptr(GError) error = NULL;
    struct loop *loop = loop_create("io/test", &error);
    unsetenv("ANIMA_LOOP");
    if (!loop)
        print_message("SKIP: %s\n", error->message);
    *state = loop;
    return 0;
}

static int start_epoll(void **state)
{
    return start(state, "epoll");
}

static int start_uring(void **state)
{
    return start(state, "uring");
}

static int finish(void **state)
{
    loop_destroy(*state);
    return 0;
}

static struct loop *loop_or_skip(void **state)
{
    if (!*state)
        skip();
    return *state;
}

/* ---- calls ---- */

static void note_order(void *opaque)
{
    GArray *order = opaque;
    guint next = order->len;
    g_array_append_val(order, next);
}

static void do_nothing(void *opaque)
{
}

static void calls_come_in_order_and_on_the_thread(void **state)
{
    struct loop *loop = loop_or_skip(state);
    g_autoptr(GArray) order = g_array_new(false, false, sizeof(guint));

    assert_false(loop_is_current(loop));
    for (unsigned i = 0; i < 1000; i++)
        loop_call(loop, note_order, order);
    loop_call_wait(loop, do_nothing, NULL);
    assert_int_equal(order->len, 1000);
}

struct nested {
    struct loop *loop;
    struct counter *counter;
    bool was_current;
};

static void call_nested(void *opaque)
{
    struct nested *nested = opaque;
    nested->was_current = loop_is_current(nested->loop);
    counter_add(nested->counter);
}

static void call_from_within(void *opaque)
{
    struct nested *nested = opaque;
    loop_call_wait(nested->loop, call_nested, nested);
    loop_call(nested->loop, call_nested, nested);
}

static void a_call_may_call(void **state)
{
    struct counter counter = {0};
    struct nested nested = {loop_or_skip(state), &counter, false};

    loop_call(nested.loop, call_from_within, &nested);
    counter_expect(&counter, 2);
    loop_call_wait(nested.loop, do_nothing, NULL);
    assert_true(nested.was_current);
}

static void *call_a_lot(void *opaque)
{
    struct nested *nested = opaque;

    for (unsigned i = 0; i < 2000; i++)
        loop_call(nested->loop, call_nested, nested);
    return NULL;
}

static void threads_call_at_once(void **state)
{
    struct counter counter = {0};
    struct nested nested = {loop_or_skip(state), &counter, false};
    GThread *threads[3];

    for (unsigned i = 0; i < 3; i++)
        threads[i] = g_thread_new("caller", call_a_lot, &nested);
    for (unsigned i = 0; i < 3; i++)
        g_thread_join(threads[i]);
    counter_expect(&counter, 6000);
    loop_call_wait(nested.loop, do_nothing, NULL);
}

/* ---- watches ---- */

struct pipe_bench {
    struct loop *loop;
    int fds[2];
    struct counter readable, writable;
    struct loop_watch *in, *out;
    short events; /* the last of `in` */
    bool remove_itself, leave;
};

static void on_readable(void *opaque, short events)
{
    struct pipe_bench *bench = opaque;
    char byte;

    bench->events = events;
    if (events & POLLIN && !bench->leave)
        assert_int_equal(read(bench->fds[0], &byte, 1), 1);
    if (events & POLLHUP || bench->remove_itself) {
        loop_unwatch(bench->in);
        bench->in = NULL;
    }
    counter_add(&bench->readable);
}

static void on_writable(void *opaque, short events)
{
    struct pipe_bench *bench = opaque;

    loop_watch_change(bench->out, 0);
    counter_add(&bench->writable);
}

static void watch_in(void *opaque)
{
    struct pipe_bench *bench = opaque;
    bench->in = loop_watch(bench->loop, bench->fds[0], POLLIN, on_readable, bench);
}

static void watch_out(void *opaque)
{
    struct pipe_bench *bench = opaque;
    bench->out = loop_watch(bench->loop, bench->fds[1], POLLOUT, on_writable, bench);
}

static void pause_in(void *opaque)
{
    struct pipe_bench *bench = opaque;
    loop_watch_change(bench->in, 0);
}

static void unpause_in(void *opaque)
{
    struct pipe_bench *bench = opaque;
    loop_watch_change(bench->in, POLLIN);
}

static void unpause_out(void *opaque)
{
    struct pipe_bench *bench = opaque;
    loop_watch_change(bench->out, POLLOUT);
}

static void unwatch_both(void *opaque)
{
    struct pipe_bench *bench = opaque;
    loop_unwatch(bench->in);
    loop_unwatch(bench->out);
}

static void pipe_open(struct pipe_bench *bench, struct loop *loop)
{
    *bench = (struct pipe_bench){.loop = loop};
    assert_int_equal(pipe(bench->fds), 0);
}

static void pipe_close(struct pipe_bench *bench)
{
    loop_call_wait(bench->loop, unwatch_both, bench);
    close(bench->fds[0]);
    if (bench->fds[1] >= 0)
        close(bench->fds[1]);
}

static void a_watch_is_by_level(void **state)
{
    struct pipe_bench bench;

    pipe_open(&bench, loop_or_skip(state));
    loop_call_wait(bench.loop, watch_in, &bench);
    assert_int_equal(write(bench.fds[1], "abc", 3), 3);
    counter_expect(&bench.readable, 3);
    assert_int_equal(write(bench.fds[1], "d", 1), 1);
    counter_expect(&bench.readable, 4);
    pipe_close(&bench);
}

static void a_paused_watch_is_silent(void **state)
{
    struct pipe_bench bench;

    pipe_open(&bench, loop_or_skip(state));
    loop_call_wait(bench.loop, watch_in, &bench);
    loop_call_wait(bench.loop, watch_out, &bench);
    counter_expect(&bench.writable, 1);
    loop_call_wait(bench.loop, pause_in, &bench);
    assert_int_equal(write(bench.fds[1], "a", 1), 1);
    /* Neither is told while the other is served. */
    loop_call_wait(bench.loop, unpause_out, &bench);
    counter_expect(&bench.writable, 2);
    assert_int_equal(counter_get(&bench.readable), 0);
    loop_call_wait(bench.loop, unpause_in, &bench);
    counter_expect(&bench.readable, 1);
    assert_int_equal(counter_get(&bench.writable), 2);
    pipe_close(&bench);
}

static void a_paused_watch_hears_no_hang_up(void **state)
{
    struct pipe_bench bench;

    pipe_open(&bench, loop_or_skip(state));
    loop_call_wait(bench.loop, watch_in, &bench);
    loop_call_wait(bench.loop, pause_in, &bench);
    close(bench.fds[1]);
    bench.fds[1] = -1;
    for (unsigned i = 0; i < 20; i++)
        loop_call_wait(bench.loop, do_nothing, NULL);
    assert_int_equal(counter_get(&bench.readable), 0);
    loop_call_wait(bench.loop, unpause_in, &bench);
    counter_expect(&bench.readable, 1);
    assert_true(bench.events & POLLHUP);
    pipe_close(&bench);
}

static void a_watch_removes_itself(void **state)
{
    struct pipe_bench bench;

    pipe_open(&bench, loop_or_skip(state));
    bench.remove_itself = true;
    loop_call_wait(bench.loop, watch_in, &bench);
    assert_int_equal(write(bench.fds[1], "ab", 2), 2);
    counter_expect(&bench.readable, 1);
    /* Its number may be used by another file, which may be watched. */
    loop_call_wait(bench.loop, watch_in, &bench);
    counter_expect(&bench.readable, 2);
    pipe_close(&bench);
}

/* While one is told, it removes the other, which is ready too. */
struct rivals {
    struct pipe_bench benches[2];
    struct loop_watch *watches[2];
    struct counter told;
};

static void on_rival(void *opaque, short events)
{
    struct rivals *rivals = opaque;

    for (unsigned i = 0; i < 2; i++) {
        loop_unwatch(rivals->watches[i]);
        rivals->watches[i] = NULL;
    }
    counter_add(&rivals->told);
}

static void watch_rivals(void *opaque)
{
    struct rivals *rivals = opaque;
    for (unsigned i = 0; i < 2; i++)
        rivals->watches[i] = loop_watch(rivals->benches[i].loop, rivals->benches[i].fds[0], POLLIN,
                                        on_rival, rivals);
}

static void no_call_comes_after_a_watch_is_removed(void **state)
{
    struct loop *loop = loop_or_skip(state);
    struct rivals rivals = {0};

    for (unsigned i = 0; i < 2; i++) {
        pipe_open(&rivals.benches[i], loop);
        assert_int_equal(write(rivals.benches[i].fds[1], "a", 1), 1);
    }
    loop_call_wait(loop, watch_rivals, &rivals);
    counter_expect(&rivals.told, 1);
    for (unsigned i = 0; i < 20; i++)
        loop_call_wait(loop, do_nothing, NULL);
    assert_int_equal(counter_get(&rivals.told), 1);
    for (unsigned i = 0; i < 2; i++)
        pipe_close(&rivals.benches[i]);
}

/* ---- files ---- */

struct file_bench {
    struct loop *loop;
    int fd;
    struct counter done;
    struct loop_operation operation;
    int64_t result;
    bool was_current;
};

static void on_done(struct loop_operation *operation, int64_t result)
{
    struct file_bench *bench = operation->opaque;

    bench->result = result;
    bench->was_current = loop_is_current(bench->loop);
    counter_add(&bench->done);
}

static void submit(void *opaque)
{
    struct file_bench *bench = opaque;
    loop_submit(bench->loop, &bench->operation);
}

static void file_open(struct file_bench *bench, struct loop *loop)
{
    *bench = (struct file_bench){.loop = loop, .fd = memfd_create("disk", MFD_CLOEXEC)};
    assert_true(bench->fd >= 0);
    assert_int_equal(ftruncate(bench->fd, 1 << 20), 0);
}

static int64_t operate(struct file_bench *bench, enum loop_operation_kind kind, uint64_t offset,
                       uint64_t length, const struct iovec *vectors, unsigned count)
{
    unsigned before = counter_get(&bench->done);

    bench->operation = (struct loop_operation){
        .kind = kind,
        .fd = bench->fd,
        .offset = offset,
        .length = length,
        .vectors = vectors,
        .count = count,
        .done = on_done,
        .opaque = bench,
    };
    loop_call(bench->loop, submit, bench);
    counter_expect(&bench->done, before + 1);
    assert_true(bench->was_current);
    return bench->result;
}

static void files_are_written_and_read_in_pieces(void **state)
{
    struct file_bench bench;
    char out[6] = "abcdef", in[6] = "";
    struct iovec pieces[2] = {{out, 2}, {out + 2, 4}},
                 back[3] = {{in, 1}, {in + 1, 3}, {in + 4, 2}};

    file_open(&bench, loop_or_skip(state));
    assert_int_equal(operate(&bench, LOOP_WRITE, 5000, 0, pieces, 2), 6);
    assert_int_equal(operate(&bench, LOOP_SYNC, 0, 0, NULL, 0), 0);
    assert_int_equal(operate(&bench, LOOP_READ, 5000, 0, back, 3), 6);
    assert_memory_equal(in, out, 6);
    close(bench.fd);
}

static void holes_are_punched_and_zeroes_written(void **state)
{
    struct file_bench bench;
    static char page[4096];
    struct iovec piece = {page, sizeof(page)};
    struct stat status;

    file_open(&bench, loop_or_skip(state));
    memset(page, 0xA5, sizeof(page));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(operate(&bench, LOOP_WRITE, i * sizeof(page), 0, &piece, 1), 4096);
    assert_int_equal(operate(&bench, LOOP_DISCARD, 4096, 8192, NULL, 0), 0);
    assert_int_equal(fstat(bench.fd, &status), 0);
    assert_int_equal(status.st_size, 1 << 20);
    assert_int_equal(status.st_blocks, 2 * 4096 / 512);
    assert_int_equal(operate(&bench, LOOP_READ, 4096, 0, &piece, 1), 4096);
    assert_int_equal(page[0], 0);
    /* A memory file has no ranges of zeroes; the answer is handed on. */
    assert_int_equal(operate(&bench, LOOP_WRITE_ZEROES, 0, 4096, NULL, 0), -EOPNOTSUPP);
    close(bench.fd);
}

static void errors_are_handed_on(void **state)
{
    struct file_bench bench;
    char byte;
    struct iovec piece = {&byte, 1};

    file_open(&bench, loop_or_skip(state));
    assert_int_equal(operate(&bench, LOOP_READ, 1 << 20, 0, &piece, 1), 0);
    int fd = bench.fd;
    bench.fd = -1;
    assert_int_equal(operate(&bench, LOOP_READ, 0, 0, &piece, 1), -EBADF);
    close(fd);
}

#define MANY 600

struct many {
    struct file_bench bench;
    struct loop_operation operations[MANY];
    struct iovec vectors[MANY];
    uint32_t values[MANY];
    enum loop_operation_kind kind;
};

static void submit_many(void *opaque)
{
    struct many *many = opaque;

    for (unsigned i = 0; i < MANY; i++) {
        many->vectors[i] = (struct iovec){&many->values[i], sizeof(many->values[i])};
        many->operations[i] = (struct loop_operation){
            .kind = many->kind,
            .fd = many->bench.fd,
            .offset = i * sizeof(uint32_t),
            .vectors = &many->vectors[i],
            .count = 1,
            .done = on_done,
            .opaque = &many->bench,
        };
        loop_submit(many->bench.loop, &many->operations[i]);
    }
}

/* More than any ring has room for. */
static void many_operations_are_under_way(void **state)
{
    struct many *many = g_new0(struct many, 1);

    file_open(&many->bench, loop_or_skip(state));
    for (unsigned i = 0; i < MANY; i++)
        many->values[i] = i * 7;
    many->kind = LOOP_WRITE;
    loop_call(many->bench.loop, submit_many, many);
    counter_expect(&many->bench.done, MANY);
    memset(many->values, 0, sizeof(many->values));
    many->kind = LOOP_READ;
    loop_call_wait(many->bench.loop, submit_many, many);
    counter_expect(&many->bench.done, 2 * MANY);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(many->values[i], i * 7);
    close(many->bench.fd);
    g_free(many);
}

/* ---- life ---- */

static void a_loop_without_calls_ends(void **state)
{
    loop_or_skip(state);
}

static void an_unknown_back_end_is_refused(void **state)
{
    g_autoptr(GError) error = NULL;

    setenv("ANIMA_LOOP", "select", 1);
    assert_null(loop_create("io/test", &error));
    unsetenv("ANIMA_LOOP");
    assert_non_null(strstr(error->message, "ANIMA_LOOP: expected"));
}

static void the_back_end_tells_its_name(void **state)
{
    g_autoptr(GError) error = NULL;
    struct loop *loop = loop_create("io/test", &error);

    assert_non_null(loop);
    assert_true(g_str_equal(loop_backend(loop), "epoll") ||
                g_str_equal(loop_backend(loop), "io_uring"));
    loop_destroy(loop);
    loop_destroy(NULL);
}

#define ON(backend, test)                                            \
    {                                                                \
#test " (" #backend ")", test, start_##backend, finish, NULL \
    }
#define ALL_ON(backend)                                                                           \
    ON(backend, calls_come_in_order_and_on_the_thread), ON(backend, a_call_may_call),             \
        ON(backend, threads_call_at_once), ON(backend, a_watch_is_by_level),                      \
        ON(backend, a_paused_watch_is_silent), ON(backend, a_paused_watch_hears_no_hang_up),      \
        ON(backend, a_watch_removes_itself), ON(backend, no_call_comes_after_a_watch_is_removed), \
        ON(backend, files_are_written_and_read_in_pieces),                                        \
        ON(backend, holes_are_punched_and_zeroes_written), ON(backend, errors_are_handed_on),     \
        ON(backend, many_operations_are_under_way), ON(backend, a_loop_without_calls_ends)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL_ON(epoll),
        ALL_ON(uring),
        cmocka_unit_test(an_unknown_back_end_is_refused),
        cmocka_unit_test(the_back_end_tells_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
