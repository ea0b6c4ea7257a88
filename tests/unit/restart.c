// SPDX-License-Identifier: Apache-2.0
/*
 * The restart policy's decisions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vmm/monitor/restart.h"

static struct restart make(const char *policy)
{
    return (struct restart){.policy = restart_policy_find(policy)};
}

static void assert_never(const char *policy, const char *cause)
{
    struct restart restart = make(policy);

    assert_true(restart_delay(&restart, cause, 0) < 0);
    assert_int_equal(restart.attempts, 0);
}

static void assert_restarts(const char *policy, const char *cause)
{
    struct restart restart = make(policy);

    assert_int_equal(restart_delay(&restart, cause, 0), RESTART_DELAY_MIN_MS);
    assert_int_equal(restart.attempts, 1);
}

static void never_is_never(void **state)
{
    static const char *const causes[] = {"failed", "crash", "power-off", "exit", "killed", ""};

    for (unsigned i = 0; i < G_N_ELEMENTS(causes); i++)
        assert_never("never", causes[i]);
}

static void a_failure_restarts(void **state)
{
    static const char *const others[] = {"power-off", "exit", "killed", "abandoned", "stopped", ""};

    assert_restarts("on-failure", "failed");
    assert_restarts("on-failure", "crash");
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        assert_never("on-failure", others[i]);
}

static void always_takes_a_power_off_too(void **state)
{
    static const char *const causes[] = {"failed", "crash", "power-off", "exit"};

    for (unsigned i = 0; i < G_N_ELEMENTS(causes); i++)
        assert_restarts("always", causes[i]);
    assert_never("always", "killed");
    assert_never("always", "abandoned");
}

static void waits_double_up_to_the_longest(void **state)
{
    struct restart restart = make("on-failure");
    static const int delays[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

    for (unsigned i = 0; i < G_N_ELEMENTS(delays); i++)
        assert_int_equal(restart_delay(&restart, "failed", RESTART_HEALTHY_US - 1), delays[i]);
    restart.attempts = G_MAXUINT - 1;
    assert_int_equal(restart_delay(&restart, "failed", 0), RESTART_DELAY_MAX_MS);
}

static void a_healthy_life_begins_the_waits_anew(void **state)
{
    struct restart restart = make("on-failure");

    for (unsigned i = 0; i < 5; i++)
        restart_delay(&restart, "crash", 0);
    assert_int_equal(restart_delay(&restart, "crash", RESTART_HEALTHY_US), RESTART_DELAY_MIN_MS);
    assert_int_equal(restart_delay(&restart, "crash", 0), 2 * RESTART_DELAY_MIN_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_is_never),
        cmocka_unit_test(a_failure_restarts),
        cmocka_unit_test(always_takes_a_power_off_too),
        cmocka_unit_test(waits_double_up_to_the_longest),
        cmocka_unit_test(a_healthy_life_begins_the_waits_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
