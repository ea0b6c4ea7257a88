// SPDX-License-Identifier: Apache-2.0
/* Rate limits, by a clock that the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/util/throttle.h"

#define MS 1000000LL
#define S  1000000000LL

/* How many units go until `end_ns` when whoever sends always has one piece more. */
static uint64_t greedy(struct throttle *throttle, uint64_t piece, int64_t from_ns, int64_t end_ns)
{
    uint64_t units = 0;
    int64_t now = from_ns;

    while (now < end_ns) {
        if (throttle_is_due(throttle, now)) {
            throttle_take(throttle, piece, now);
            units += piece;
        } else {
            now = throttle_due_ns(throttle);
        }
    }
    return units;
}

static void without_a_rate_all_is_due(void **state)
{
    struct throttle throttle = {0};

    for (unsigned i = 0; i < 100; i++) {
        throttle_take(&throttle, UINT64_MAX, i);
        assert_true(throttle_is_due(&throttle, i));
    }
    assert_true(throttle_due_ns(&throttle) <= 0);
}

static void the_mean_is_the_rate_whatever_the_pieces(void **state)
{
    static const uint64_t pieces[] = {1, 512, 1000, 65536};

    for (unsigned i = 0; i < 4; i++) {
        struct throttle throttle;
        uint64_t units;

        throttle_set(&throttle, 1000000, 0, 5 * S);
        units = greedy(&throttle, pieces[i], 5 * S, 15 * S);
        assert_in_range(units, 10000000, 10000000 + pieces[i]);
    }
}

static void who_rested_may_send_a_burst(void **state)
{
    struct throttle throttle;
    uint64_t at_once = 0;

    throttle_set(&throttle, 1000, 200 * MS, 0);
    while (throttle_is_due(&throttle, 10 * S)) {
        throttle_take(&throttle, 10, 10 * S);
        at_once += 10;
    }
    /* 200 ms saved, and the piece that goes below. */
    assert_int_equal(at_once, 210);
    assert_int_equal(throttle_due_ns(&throttle), 10 * S + 10 * MS);
    /* No more than the rate behind it. */
    assert_in_range(greedy(&throttle, 10, 10 * S, 12 * S), 1980, 2010);
}

static void a_new_limit_saves_nothing(void **state)
{
    struct throttle throttle;

    throttle_set(&throttle, 1000, 10 * S, 7 * S);
    assert_true(throttle_is_due(&throttle, 7 * S));
    throttle_take(&throttle, 1, 7 * S);
    assert_false(throttle_is_due(&throttle, 7 * S));
    assert_true(throttle_is_due(&throttle, 7 * S + MS));
}

static void a_change_forgives_debts(void **state)
{
    struct throttle throttle;

    throttle_set(&throttle, 1, 0, 0);
    throttle_take(&throttle, 1000, 0);
    assert_false(throttle_is_due(&throttle, 999 * S));
    throttle_set(&throttle, 1000, 0, 2 * S);
    assert_true(throttle_is_due(&throttle, 2 * S));
}

static void no_size_and_no_rate_overflows(void **state)
{
    static const uint64_t extremes[] = {1, 999, UINT32_MAX, UINT64_MAX};

    for (unsigned rate = 0; rate < 4; rate++) {
        for (unsigned units = 0; units < 4; units++) {
            struct throttle throttle;

            throttle_set(&throttle, extremes[rate], S, 5 * S);
            for (unsigned i = 0; i < 100; i++)
                throttle_take(&throttle, extremes[units], 5 * S);
            assert_true(throttle_due_ns(&throttle) > 4 * S);
            assert_true(throttle_due_ns(&throttle) <= 5 * S + 100 * 3600 * S);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rate_all_is_due),
        cmocka_unit_test(the_mean_is_the_rate_whatever_the_pieces),
        cmocka_unit_test(who_rested_may_send_a_burst),
        cmocka_unit_test(a_new_limit_saves_nothing),
        cmocka_unit_test(a_change_forgives_debts),
        cmocka_unit_test(no_size_and_no_rate_overflows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
