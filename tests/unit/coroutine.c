// SPDX-License-Identifier: Apache-2.0
/* Coroutines: running, waiting, nesting, their queues and locks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glib.h>
#include <string.h>

#include "vmm/util/coroutine.h"

static struct coroutine_pool *pool;
static GString *trace;

static int setup(void **state)
{
    pool = coroutine_pool_create();
    trace = g_string_new(NULL);
    return 0;
}

static int teardown(void **state)
{
    coroutine_pool_destroy(pool);
    g_string_free(trace, TRUE);
    return 0;
}

static void say(char what)
{
    g_string_append_c(trace, what);
}

struct one {
    struct coroutine *self;
    struct coroutine_lock *lock;
    struct coroutine_queue *queue;
    char name;
};

static void in_two_steps(void *opaque)
{
    struct one *one = opaque;

    one->self = coroutine_self();
    say('a');
    coroutine_suspend();
    say('c');
}

static void it_goes_on_where_it_stopped(void **state)
{
    struct one one = {0};

    assert_true(coroutine_start(pool, in_two_steps, &one));
    assert_null(coroutine_self());
    say('b');
    coroutine_resume(one.self);
    say('d');
    assert_string_equal(trace->str, "abcd");
}

static void outer(void *opaque)
{
    struct one *one = opaque;

    say('1');
    assert_true(coroutine_start(pool, in_two_steps, one));
    say('2');
    assert_ptr_not_equal(coroutine_self(), one->self);
    coroutine_resume(one->self);
    say('3');
}

static void they_nest_as_calls_do(void **state)
{
    struct one one = {0};

    assert_true(coroutine_start(pool, outer, &one));
    assert_string_equal(trace->str, "1a2c3");
}

/* Whoever is resumed need not be on top of who started it. */
static void resume_other(void *opaque)
{
    struct one *one = opaque;

    say('x');
    coroutine_resume(one->self);
    say('y');
}

static void another_may_resume_it(void **state)
{
    struct one one = {0};

    assert_true(coroutine_start(pool, in_two_steps, &one));
    assert_true(coroutine_start(pool, resume_other, &one));
    assert_string_equal(trace->str, "axcy");
}

static void waits(void *opaque)
{
    struct one *one = opaque;

    coroutine_queue_wait(one->queue);
    say(one->name);
}

static void a_queue_has_an_order(void **state)
{
    struct coroutine_queue queue = {0};
    struct one ones[3];

    for (unsigned i = 0; i < 3; i++) {
        ones[i] = (struct one){.queue = &queue, .name = (char)('a' + i)};
        assert_true(coroutine_start(pool, waits, &ones[i]));
    }
    assert_true(coroutine_queue_wake(&queue));
    say('-');
    coroutine_queue_wake_all(&queue);
    assert_false(coroutine_queue_wake(&queue));
    assert_string_equal(trace->str, "a-bc");
}

static void locks(void *opaque)
{
    struct one *one = opaque;

    coroutine_lock(one->lock);
    say(one->name);
    one->self = coroutine_self();
    coroutine_suspend();
    say((char)g_ascii_toupper(one->name));
    coroutine_unlock(one->lock);
}

static void a_lock_is_handed_on_in_order(void **state)
{
    struct coroutine_lock lock = {0};
    struct one ones[3];

    for (unsigned i = 0; i < 3; i++) {
        ones[i] = (struct one){.lock = &lock, .name = (char)('a' + i)};
        assert_true(coroutine_start(pool, locks, &ones[i]));
    }
    for (unsigned i = 0; i < 3; i++)
        coroutine_resume(ones[i].self);
    assert_false(lock.held);
    assert_string_equal(trace->str, "aAbBcC");
}

/* Stacks are used again, and each is the coroutine's own: what lies on it is there afterwards. */
static void fill_its_stack(void *opaque)
{
    volatile uint8_t bytes[64 << 10];
    struct one *one = opaque;
    uintptr_t at = (uintptr_t)bytes;

    memset((uint8_t *)bytes, one->name, sizeof(bytes));
    assert_int_equal((uintptr_t)__builtin_frame_address(0) % 16, 0);
    one->self = coroutine_self();
    coroutine_suspend();
    for (unsigned i = 0; i < sizeof(bytes); i++)
        assert_int_equal(bytes[i], (uint8_t)one->name);
    assert_int_equal(at, (uintptr_t)bytes);
}

static void many_live_at_a_time(void **state)
{
    static struct one ones[300];

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(ones); i++) {
            ones[i].name = (char)(i + round);
            assert_true(coroutine_start(pool, fill_its_stack, &ones[i]));
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(ones); i++)
            coroutine_resume(ones[(i * 7 + round) % G_N_ELEMENTS(ones)].self);
    }
}

static void *on_a_thread(void *opaque)
{
    struct coroutine_pool *own = coroutine_pool_create();
    struct one one = {0};
    GString *before = trace;

    for (unsigned i = 0; i < 1000; i++) {
        assert_true(coroutine_start(own, fill_its_stack, &one));
        coroutine_resume(one.self);
    }
    coroutine_pool_destroy(own);
    return before;
}

static void threads_have_their_own(void **state)
{
    GThread *threads[4];

    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("coroutines", on_a_thread, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_goes_on_where_it_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(they_nest_as_calls_do, setup, teardown),
        cmocka_unit_test_setup_teardown(another_may_resume_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_queue_has_an_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lock_is_handed_on_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(many_live_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_have_their_own, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
