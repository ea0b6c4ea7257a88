// SPDX-License-Identifier: Apache-2.0
/*
 * The words of ANIMA_SOFT.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "vmm/engine/soft/switches.h"

static void nothing_is_switched_by_default(void **state)
{
    const struct soft_switches none = {.log = -1, .perf_map = -1};
    const char *const texts[] = {NULL, "", ",", ",,"};
    struct soft_switches switches;

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        memset(&switches, 0xff, sizeof(switches));
        assert_true(soft_switches_parse(texts[i], &switches, NULL));
        assert_memory_equal(&switches, &none, sizeof(none));
    }
}

static void each_word_sets_its_own_switch(void **state)
{
    struct soft_switches switches;
    const struct {
        const char *word;
        bool *switched;
    } words[] = {
        {"interp", &switches.interp},       {"nochain", &switches.nochain},
        {"nowindows", &switches.nowindows}, {"nobmi2", &switches.nobmi2},
        {"noavx", &switches.noavx},         {"exact", &switches.exact},
        {"eager", &switches.eager},         {"perf", &switches.perf},
        {"noclones", &switches.noclones},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        assert_true(soft_switches_parse(words[i].word, &switches, NULL));
        for (unsigned j = 0; j < G_N_ELEMENTS(words); j++)
            assert_int_equal(*words[j].switched, i == j);
    }
}

static void words_are_separated_by_commas(void **state)
{
    struct soft_switches switches;

    assert_true(soft_switches_parse("nobmi2,noavx,", &switches, NULL));
    assert_true(switches.nobmi2 && switches.noavx && !switches.interp);
}

static void an_unknown_word_is_named(void **state)
{
    const char *const texts[] = {"interpret", "nobmi2, noavx", "INTERP", "interp=1"};
    struct soft_switches switches;

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        GError *error = NULL;

        assert_false(soft_switches_parse(texts[i], &switches, &error));
        assert_true(g_error_matches(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE));
        assert_true(g_str_has_prefix(error->message, "ANIMA_SOFT: there is no switch '"));
        assert_non_null(strstr(error->message, "nowindows"));
        g_clear_error(&error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_switched_by_default),
        cmocka_unit_test(each_word_sets_its_own_switch),
        cmocka_unit_test(words_are_separated_by_commas),
        cmocka_unit_test(an_unknown_word_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
