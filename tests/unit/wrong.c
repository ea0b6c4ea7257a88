// SPDX-License-Identifier: Apache-2.0
/*
 * One wrong value through every way into a definition: the file, a word of the command line, a word
 * of `anima edit`, JSON. All say the same behind the place that each names, and none changes what
 * was there. With --list the values are printed for the tests of the programs, a JSON object a
 * line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "config/change.h"
#include "tests/unit/wrong_values.h"

#define BASE "kernel: /k\n# a comment\nmemory: 64M\n"

/* The message behind the file's name, line and column. */
static const char *without_place(const char *message)
{
    const char *at = message;

    for (unsigned i = 0; i < 3 && at; i++) {
        at = strchr(at, ':');
        at = at ? at + 1 : NULL;
    }
    assert_non_null(at);
    assert_true(*at == ' ');
    return at + 1;
}

/* The definition says what it said before. */
static void assert_unchanged(struct definition *definition, const json_t *before)
{
    json_t *after = definition_to_json(definition);

    assert_true(json_equal(after, before));
    json_decref(after);
    definition_destroy(definition);
}

static struct definition *base(json_t **before)
{
    struct definition *definition = definition_create();

    assert_true(definition_load_yaml(definition, "vm.yaml", NULL, BASE, strlen(BASE), NULL));
    *before = definition_to_json(definition);
    return definition;
}

static char *told_to_word(const struct wrong_value *wrong)
{
    struct definition *definition;
    GError *error = NULL;
    json_t *before;
    char *message;

    definition = base(&before);
    assert_false(definition_set(definition, wrong->key, wrong->text, &error));
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
    assert_unchanged(definition, before);
    json_decref(before);
    message = g_strdup(error->message);
    g_error_free(error);
    return message;
}

static void assert_told_to_edit(const struct wrong_value *wrong, const char *expected)
{
    g_autofree char *word = g_strdup_printf("%s=%s", wrong->key, wrong->text);
    const char *const words[] = {word, NULL};
    g_autoptr(GError) error = NULL;

    /* An empty text takes an option back to its default, and it is no name. */
    if (!*wrong->text || !strcmp(wrong->key, "name"))
        return;
    assert_null(change_yaml(&definition_machine, "vm.yaml", BASE, words, "/here", &error));
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
    assert_string_equal(error->message, expected);
}

static bool assert_told_to_file(const struct wrong_value *wrong, const char *expected)
{
    struct definition *definition = definition_create();
    g_autofree char *text = wrong_value_yaml(wrong);
    g_autoptr(GError) error = NULL;

    if (text) {
        assert_false(definition_load_yaml(definition, "vm.yaml", NULL, text, strlen(text), &error));
        assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
        assert_string_equal(without_place(error->message), expected);
    }
    definition_destroy(definition);
    return text;
}

static bool assert_told_to_json(const struct wrong_value *wrong, const char *expected)
{
    struct definition *definition = definition_create();
    json_t *object = wrong_value_json(wrong);
    g_autoptr(GError) error = NULL;
    bool there = object;

    if (there) {
        assert_false(definition_from_json(definition, object, &error));
        assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
        assert_string_equal(error->message, expected);
    }
    json_decref(object);
    definition_destroy(definition);
    return there;
}

static void each_way_says_the_same(void **state)
{
    GPtrArray *all = wrong_values();
    unsigned files = 0, objects = 0;

    for (unsigned i = 0; i < all->len; i++) {
        const struct wrong_value *wrong = all->pdata[i];
        g_autofree char *told = told_to_word(wrong);

        assert_null(strchr(told, '\n'));
        assert_in_range(strlen(told), 10, 1000);
        assert_told_to_edit(wrong, told);
        files += assert_told_to_file(wrong, told);
        objects += assert_told_to_json(wrong, told);
    }
    /* The table is not so small, and most values can be said everywhere. */
    assert_true(all->len > 500);
    assert_true(files > all->len * 3 / 4);
    assert_true(objects > all->len / 2);
    g_ptr_array_unref(all);
}

/* What only YAML and JSON can say: values of another type. */
static void types_are_told_the_same(void **state)
{
    static const char *const values[] = {"{}", "[{}]", "[[]]", "null", "[null]"};

    for (const struct option *option = options; option->key; option++)
        for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) {
            g_autofree char *yaml = g_strdup_printf("%s: %s\n", option->key, values[i]);
            g_autofree char *text = g_strdup_printf("{\"%s\": %s}", option->key, values[i]);
            struct definition *one = definition_create(), *other = definition_create();
            g_autoptr(GError) in_file = NULL, in_json = NULL;
            json_t *object = json_loads(text, 0, NULL);

            assert_false(definition_load_yaml(one, "vm.yaml", NULL, yaml, strlen(yaml), &in_file));
            assert_false(definition_from_json(other, object, &in_json));
            assert_string_equal(without_place(in_file->message), in_json->message);
            json_decref(object);
            definition_destroy(one);
            definition_destroy(other);
        }
}

static int list(void)
{
    GPtrArray *all = wrong_values();

    for (unsigned i = 0; i < all->len; i++) {
        const struct wrong_value *wrong = all->pdata[i];
        g_autofree char *yaml = wrong_value_yaml(wrong), *told = told_to_word(wrong);
        json_t *line =
            json_pack("{s:s, s:s, s:s, s:s?, s:o?}", "key", wrong->key, "text", wrong->text, "told",
                      told, "yaml", yaml, "json", wrong_value_json(wrong));

        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(line);
    }
    g_ptr_array_unref(all);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_way_says_the_same),
        cmocka_unit_test(types_are_told_the_same),
    };

    if (argc > 1 && !strcmp(argv[1], "--list"))
        return list();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
