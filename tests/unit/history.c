// SPDX-License-Identifier: Apache-2.0
/*
 * The events that a monitor remembers: numbers without a gap, two bounds, and holes that are told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <glib.h>
#include <string.h>

#include "vmm/monitor/history.h"

/* Read on from `after` to the end; every number must be covered. Returns how many were missed. */
static json_int_t read_on(const struct history *history, json_int_t after, unsigned *events)
{
    json_int_t missed = 0, number = 0;
    json_t *event;

    *events = 0;
    while ((event = history_next(history, after, &number))) {
        json_t *params = json_object_get(event, "params");
        const char *type = json_string_value(json_object_get(params, "type"));

        assert_int_equal(json_integer_value(json_object_get(params, "seq")), number);
        if (strcmp(type, "missed") == 0) {
            assert_int_equal(json_integer_value(json_object_get(params, "first")), after + 1);
            assert_true(number > after);
            missed += number - after;
        } else {
            assert_int_equal(number, after + 1);
            ++*events;
        }
        after = number;
        json_decref(event);
    }
    assert_int_equal(after, history_last(history));
    return missed;
}

static void events_come_by_their_numbers(void **state)
{
    struct history *history = history_create();
    unsigned events;

    assert_int_equal(read_on(history, 0, &events), 0);
    assert_int_equal(events, 0);
    for (unsigned i = 0; i < 10; i++)
        history_add(history, "paused", i % 3 == 0, json_object());
    assert_int_equal(read_on(history, 0, &events), 0);
    assert_int_equal(events, 10);
    assert_int_equal(read_on(history, 7, &events), 0);
    assert_int_equal(events, 3);
    assert_int_equal(history_missed(history, 0), 0);
    history_destroy(history);
}

static void who_was_away_too_long_hears_of_it(void **state)
{
    struct history *history = history_create();
    unsigned events;

    for (unsigned i = 0; i < HISTORY_STEADY_MAX + 5; i++)
        history_add(history, "paused", false, json_object());
    assert_int_equal(history_missed(history, 0), 5);
    assert_int_equal(history_missed(history, 2), 3);
    assert_int_equal(history_missed(history, 5), 0);
    assert_int_equal(read_on(history, 2, &events), 3);
    assert_int_equal(events, HISTORY_STEADY_MAX);
    history_destroy(history);
}

static void a_flood_pushes_no_change_of_state_out(void **state)
{
    struct history *history = history_create();
    unsigned events;

    history_add(history, "started", false, json_object());
    for (unsigned i = 0; i < 10 * HISTORY_FREQUENT_MAX; i++) {
        history_add(history, "log", true, json_object());
        if (i % 100 == 0)
            history_add(history, "paused", false, json_object());
    }
    assert_int_equal(read_on(history, 0, &events), 9 * HISTORY_FREQUENT_MAX);
    assert_int_equal(events, 1 + HISTORY_FREQUENT_MAX + (10 * HISTORY_FREQUENT_MAX + 99) / 100);
    assert_int_equal(history_missed(history, 0), 9 * HISTORY_FREQUENT_MAX);
    history_destroy(history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_by_their_numbers),
        cmocka_unit_test(who_was_away_too_long_hears_of_it),
        cmocka_unit_test(a_flood_pushes_no_change_of_state_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
