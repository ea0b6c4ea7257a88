// SPDX-License-Identifier: Apache-2.0
/* Rate limits of a disk: which requests wait, for how long, and what becomes of those that do. The
 * numbers of util/throttle.h are tested there; here the host's clock runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "vmm/block/limits.h"

#define PATIENCE (10 * G_TIME_SPAN_SECOND)
#define COUNT    40

static struct {
    struct loop *loop;
    struct limits *limits;
    struct block_request requests[COUNT];
    /* What has passed, in its order. */
    GMutex lock;
    GCond changed;
    unsigned passed, order[COUNT];
} bench;

static void pass(struct block *block, struct block_request *request)
{
    assert_true(loop_is_current(bench.loop));
    g_mutex_lock(&bench.lock);
    bench.order[bench.passed++] = (unsigned)(request - bench.requests);
    g_cond_broadcast(&bench.changed);
    g_mutex_unlock(&bench.lock);
}

static void create_on_loop(void *opaque)
{
    bench.limits = limits_create(bench.loop, pass, NULL);
    assert_non_null(bench.limits);
}

static void destroy_on_loop(void *opaque)
{
    limits_destroy(bench.limits);
}

static int start(void **state)
{
    memset(&bench, 0, sizeof(bench));
    bench.loop = loop_create("io/test", NULL);
    loop_call_wait(bench.loop, create_on_loop, NULL);
    return 0;
}

static int finish(void **state)
{
    loop_call_wait(bench.loop, destroy_on_loop, NULL);
    loop_destroy(bench.loop);
    return 0;
}

static void set_on_loop(void *opaque)
{
    limits_set(bench.limits, opaque);
}

static void set(struct block_limits limits)
{
    loop_call_wait(bench.loop, set_on_loop, &limits);
}

static void submit_on_loop(void *opaque)
{
    limits_submit(bench.limits, opaque);
}

static void submit(unsigned number, enum block_kind kind, uint64_t length)
{
    bench.requests[number] = (struct block_request){.kind = kind, .length = length};
    loop_call_wait(bench.loop, submit_on_loop, &bench.requests[number]);
}

static unsigned passed(void)
{
    g_mutex_lock(&bench.lock);
    unsigned count = bench.passed;
    g_mutex_unlock(&bench.lock);
    return count;
}

static void expect(unsigned count)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE;

    g_mutex_lock(&bench.lock);
    while (bench.passed < count && g_cond_wait_until(&bench.changed, &bench.lock, deadline))
        ;
    assert_int_equal(bench.passed, count);
    g_mutex_unlock(&bench.lock);
}

static void operations_wait_for_their_turn(void **state)
{
    gint64 begun = g_get_monotonic_time();

    set((struct block_limits){.operations = {[BLOCK_LIMIT_TOTAL] = 200}});
    for (unsigned i = 0; i < 21; i++)
        submit(i, i % 2 ? BLOCK_READ : BLOCK_WRITE, 512);
    expect(21);
    assert_true(g_get_monotonic_time() - begun >= 100 * 1000);
}

static void bytes_are_paid_afterwards(void **state)
{
    gint64 begun = g_get_monotonic_time();

    set((struct block_limits){.bytes = {[BLOCK_LIMIT_READ] = 1 << 20}});
    submit(0, BLOCK_READ, 1 << 17);
    expect(1);
    submit(1, BLOCK_READ, 512);
    expect(2);
    assert_true(g_get_monotonic_time() - begun >= 120 * 1000);
}

static void one_direction_does_not_wait_for_the_other(void **state)
{
    set((struct block_limits){.operations = {[BLOCK_LIMIT_WRITE] = 1}});
    submit(0, BLOCK_WRITE, 512);
    submit(1, BLOCK_WRITE_ZEROES, 512);
    submit(2, BLOCK_READ, 512);
    submit(3, BLOCK_FLUSH, 0);
    assert_int_equal(passed(), 3);
    assert_int_equal(bench.order[1], 2);
    assert_int_equal(bench.order[2], 3);
    set((struct block_limits){0});
    expect(4);
}

static void both_directions_take_turns(void **state)
{
    set((struct block_limits){.operations = {[BLOCK_LIMIT_TOTAL] = 500}});
    for (unsigned i = 0; i < 8; i++)
        submit(i, BLOCK_WRITE, 512);
    for (unsigned i = 8; i < 16; i++)
        submit(i, BLOCK_READ, 512);
    expect(16);
    /* The eighth write was not before the fifth read. */
    for (unsigned i = 0, reads = 0; i < 16; i++) {
        reads += bench.order[i] >= 8;
        if (bench.order[i] == 7)
            assert_true(reads >= 5);
    }
}

static void what_is_discarded_counts_no_bytes(void **state)
{
    set((struct block_limits){.bytes = {[BLOCK_LIMIT_WRITE] = 1}});
    submit(0, BLOCK_DISCARD, 1 << 30);
    submit(1, BLOCK_DISCARD, 1 << 30);
    assert_int_equal(passed(), 2);
}

static void a_burst_goes_at_once(void **state)
{
    set((struct block_limits){.operations = {[BLOCK_LIMIT_TOTAL] = 100},
                              .burst_ns = 50 * G_TIME_SPAN_MILLISECOND * 1000});
    g_usleep(60 * 1000);
    for (unsigned i = 0; i < COUNT; i++)
        submit(i, BLOCK_READ, 512);
    assert_in_range(passed(), 5, COUNT - 1);
    set((struct block_limits){0});
    expect(COUNT);
}

struct cancelling {
    struct block_request *request;
    bool done;
};

static void cancel_on_loop(void *opaque)
{
    struct cancelling *cancelling = opaque;
    cancelling->done = limits_cancel(bench.limits, cancelling->request);
}

static bool cancel(unsigned number)
{
    struct cancelling cancelling = {&bench.requests[number], false};

    loop_call_wait(bench.loop, cancel_on_loop, &cancelling);
    return cancelling.done;
}

static void what_waits_can_be_taken_back(void **state)
{
    set((struct block_limits){.operations = {[BLOCK_LIMIT_READ] = 1}});
    for (unsigned i = 0; i < 4; i++)
        submit(i, BLOCK_READ, 512);
    assert_false(cancel(0));
    assert_true(cancel(2));
    assert_false(cancel(2));
    assert_true(cancel(3));
    submit(4, BLOCK_READ, 512);
    set((struct block_limits){0});
    expect(3);
    assert_int_equal(bench.order[1], 1);
    assert_int_equal(bench.order[2], 4);
}

static void hold_on_loop(void *opaque)
{
    limits_hold(bench.limits, opaque);
}

static void what_is_held_does_not_pass_when_it_is_due(void **state)
{
    set((struct block_limits){.operations = {[BLOCK_LIMIT_TOTAL] = 100}});
    submit(0, BLOCK_WRITE, 512);
    submit(1, BLOCK_WRITE, 512);
    loop_call_wait(bench.loop, hold_on_loop, &bench);
    g_usleep(30 * 1000);
    assert_int_equal(passed(), 1);
    submit(2, BLOCK_READ, 512);
    expect(2);
    loop_call_wait(bench.loop, hold_on_loop, NULL);
    expect(3);
    assert_int_equal(bench.order[2], 1);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, start, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(operations_wait_for_their_turn),
        WITH(bytes_are_paid_afterwards),
        WITH(one_direction_does_not_wait_for_the_other),
        WITH(both_directions_take_turns),
        WITH(what_is_discarded_counts_no_bytes),
        WITH(a_burst_goes_at_once),
        WITH(what_waits_can_be_taken_back),
        WITH(what_is_held_does_not_pass_when_it_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
