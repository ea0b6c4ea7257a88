// SPDX-License-Identifier: Apache-2.0
/*
 * Options with members, by a table of the test's own: text, JSON, presets and messages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "config/limits.h"
#include "config/values.h"

static const char *const mode_choices[] = {"fast", "safe", "via=", NULL};

enum { FILE_ROW, READONLY, SERIAL, SIZE, MODE, TAG, MEMBER_COUNT };
static const struct option members[MEMBER_COUNT + 1] = {
    [FILE_ROW] = {.key = "file", .type = OPTION_TYPE_PATH, .required = true},
    [READONLY] = {.key = "readonly", .type = OPTION_TYPE_BOOL, .preset = "no"},
    [SERIAL] = {.key = "serial", .type = OPTION_TYPE_STRING},
    [SIZE] = {.key = "size", .type = OPTION_TYPE_SIZE, .preset = "1M", .min = 1, .max = 1 << 30},
    [MODE] = {.key = "mode", .type = OPTION_TYPE_ENUM, .choices = mode_choices, .preset = "safe"},
    [TAG] = {.key = "tag", .type = OPTION_TYPE_STRING, .list = true},
};
enum { NAME, DISK };
static const struct option table[] = {
    [NAME] = {.key = "name", .type = OPTION_TYPE_STRING},
    [DISK] = {.key = "disk", .type = OPTION_TYPE_GROUP, .list = true, .members = members},
    {0},
};

static struct values *values;

static int create(void **state)
{
    values = values_create(table);
    return 0;
}

static int destroy(void **state)
{
    values_destroy(values);
    return 0;
}

static bool add(const char *text, GError **error)
{
    return values_set(values, &table[DISK], text, "/vm", error);
}

static const struct values *added(const char *text)
{
    g_autoptr(GError) error = NULL;

    if (!add(text, &error))
        fail_msg("%s: %s", text, error->message);
    return values_group(values, &table[DISK], values_count(values, &table[DISK]) - 1);
}

static void assert_refused(const char *text, const char *message)
{
    unsigned before = values_count(values, &table[DISK]);
    g_autoptr(GError) error = NULL;

    assert_false(add(text, &error));
    assert_string_equal(error->message, message);
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
    assert_int_equal(values_count(values, &table[DISK]), before);
}

static void the_first_member_needs_no_key(void **state)
{
    const struct values *entry = added("a.img,readonly,serial=S1");

    assert_string_equal(values_text(entry, &members[FILE_ROW]), "/vm/a.img");
    assert_int_equal(values_number(entry, &members[READONLY]), 1);
    assert_string_equal(values_text(entry, &members[SERIAL]), "S1");
    assert_int_equal(values_number(entry, &members[SIZE]), 1 << 20);
    assert_string_equal(values_text(entry, &members[MODE]), "safe");
}

static void every_member_may_be_named(void **state)
{
    const struct values *entry = added("serial=,mode=via=x,file=/a=b,readonly=off,size=2K");

    assert_string_equal(values_text(entry, &members[FILE_ROW]), "/a=b");
    assert_int_equal(values_number(entry, &members[READONLY]), 0);
    assert_string_equal(values_text(entry, &members[SERIAL]), "");
    assert_int_equal(values_number(entry, &members[SIZE]), 2048);
    assert_string_equal(values_text(entry, &members[MODE]), "via=x");
    assert_string_equal(values_text(added("a=b.img"), &members[FILE_ROW]), "/vm/a=b.img");
    assert_string_equal(values_text(added("readonly"), &members[FILE_ROW]), "/vm/readonly");
}

static void two_commas_are_one(void **state)
{
    const struct values *entry = added("/a,,b,,,serial=x,,,,y,readonly");

    assert_string_equal(values_text(entry, &members[FILE_ROW]), "/a,b,");
    assert_string_equal(values_text(entry, &members[SERIAL]), "x,,y");
    assert_int_equal(values_number(entry, &members[READONLY]), 1);
}

static void a_member_may_be_a_list(void **state)
{
    const struct values *entry = added("a,tag=one,readonly,tag=two");

    assert_int_equal(values_count(entry, &members[TAG]), 2);
    assert_string_equal(values_entry(entry, &members[TAG], 0), "one");
    assert_string_equal(values_entry(entry, &members[TAG], 1), "two");
    assert_null(values_entry(entry, &members[TAG], 2));
}

static void wrong_members_are_named(void **state)
{
    assert_refused("a,readonyl", "unknown member 'readonyl'; did you mean 'readonly'?");
    assert_refused("a,zzzzzzz=1", "unknown member 'zzzzzzz'");
    assert_refused("a,serial", "serial: a value is missing");
    assert_refused("a,size=0", "size: 0 bytes is less than the minimum of 1 byte");
    assert_refused("a,mode=saf",
                   "mode: 'saf' is none of fast, safe, via=NAME; did you mean 'safe'?");
    assert_refused("a,readonly=maybe", "readonly: expected yes or no, not 'maybe'");
    assert_refused("a,readonly,readonly", "readonly: stands here twice");
    assert_refused("a,file=b", "file: stands here twice");
    assert_refused("a,", "unknown member ''");
    assert_refused("", "file: expected the name of a file, not ''");
    assert_refused("serial=x", "file is missing");
}

static void entries_have_a_limit(void **state)
{
    for (unsigned i = 0; i < CONFIG_LIST_MAX; i++)
        assert_true(add("a", NULL));
    assert_refused("a", "more than 64 entries");
}

static void json_has_an_object_an_entry(void **state)
{
    g_autofree char *text = NULL;
    json_t *json, *expected, *back;
    struct values *again = values_create(table);

    added("a,readonly,tag=x");
    json = values_to_json(values);
    expected = json_pack("{s:[{s:s,s:b,s:i,s:s,s:[s]}]}", "disk", "file", "/vm/a", "readonly", 1,
                         "size", 1 << 20, "mode", "safe", "tag", "x");
    assert_true(json_equal(json, expected));
    assert_true(values_from_json(again, json, NULL));
    back = values_to_json(again);
    assert_true(json_equal(json, back));
    json_decref(json);
    json_decref(expected);
    json_decref(back);
    values_destroy(again);
}

static void json_takes_texts_and_objects(void **state)
{
    json_t *json =
        json_loads("{\"disk\": [\"a,readonly\", {\"file\": \"b\", \"tag\": \"t\"}]}", 0, NULL);

    assert_true(values_from_json(values, json, NULL));
    assert_int_equal(values_count(values, &table[DISK]), 2);
    assert_string_equal(values_text(values_group(values, &table[DISK], 1), &members[FILE_ROW]),
                        "b");
    assert_null(values_group(values, &table[DISK], 2));
    assert_null(values_group(values, &table[NAME], 0));
    json_decref(json);
}

static void assert_json_refused(const char *text, const char *message)
{
    json_t *json = json_loads(text, 0, NULL);
    g_autoptr(GError) error = NULL;

    assert_non_null(json);
    assert_false(values_from_json(values, json, &error));
    assert_string_equal(error->message, message);
    json_decref(json);
}

static void wrong_json_is_named(void **state)
{
    assert_json_refused("{\"disk\": 3}", "disk: expected a text or a mapping, not a number");
    assert_json_refused("{\"disk\": [[]]}", "disk: expected a text or a mapping, not a list");
    assert_json_refused("{\"disk\": [{}]}", "disk: file is missing");
    assert_json_refused("{\"disk\": [{\"file\": \"a\", \"serial\": 1}]}",
                        "disk: serial: expected a text, not a number");
    assert_json_refused("{\"disk\": [{\"fiel\": \"a\"}]}",
                        "disk: unknown member 'fiel'; did you mean 'file'?");
    assert_json_refused("{\"name\": {}}", "name: expected a text, not a mapping");
}

static bool load(const char *yaml, GError **error)
{
    return values_load_yaml(values, "vm.yaml", "/vm", yaml, strlen(yaml), error);
}

static void yaml_takes_texts_and_mappings(void **state)
{
    const struct values *entry;

    assert_true(load("disk:\n"
                     "  - a.img,readonly\n"
                     "  - file: b,c.img\n"
                     "    size: 2M\n"
                     "    tag: [one, two]\n"
                     "    readonly: yes\n"
                     "name: x\n",
                     NULL));
    assert_int_equal(values_count(values, &table[DISK]), 2);
    assert_string_equal(values_text(values, &table[NAME]), "x");
    entry = values_group(values, &table[DISK], 1);
    assert_string_equal(values_text(entry, &members[FILE_ROW]), "/vm/b,c.img");
    assert_int_equal(values_number(entry, &members[SIZE]), 2 << 20);
    assert_int_equal(values_number(entry, &members[READONLY]), 1);
    assert_int_equal(values_count(entry, &members[TAG]), 2);
    assert_true(load("disk: {file: one}\n", NULL));
    assert_int_equal(values_count(values, &table[DISK]), 3);
}

static void assert_yaml_refused(const char *yaml, const char *message)
{
    g_autoptr(GError) error = NULL;

    assert_false(load(yaml, &error));
    assert_string_equal(error->message, message);
}

static void yaml_errors_name_the_member(void **state)
{
    assert_yaml_refused("disk:\n- {file: a, fiel: b}\n",
                        "vm.yaml:2:13: disk: unknown member 'fiel'; did you mean 'file'?");
    assert_yaml_refused("disk: {readonly: yes}\n", "vm.yaml:1:7: disk: file is missing");
    assert_yaml_refused("disk: {file: a, file: b}\n",
                        "vm.yaml:1:17: disk: file: stands here twice");
    assert_yaml_refused("disk: {file: [a]}\n",
                        "vm.yaml:1:14: disk: file: expected the name of a file, not a list");
    assert_yaml_refused("disk: {file: {a: b}}\n",
                        "vm.yaml:1:14: disk: file: expected the name of a file, not a mapping");
    assert_yaml_refused("disk: {file: a, size: 0}\n",
                        "vm.yaml:1:23: disk: size: 0 bytes is less than the minimum of 1 byte");
    assert_yaml_refused("disk: {[a]: b}\n",
                        "vm.yaml:1:8: disk: expected the name of a member, not a list");
    assert_yaml_refused("disk: [[a]]\n",
                        "vm.yaml:1:8: disk: expected a text or a mapping, not a list");
    assert_yaml_refused("disk: 'a,size=0'\n",
                        "vm.yaml:1:7: disk: size: 0 bytes is less than the minimum of 1 byte");
    assert_yaml_refused("name: {a: b}\n", "vm.yaml:1:7: name: expected a text, not a mapping");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, create, destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_member_needs_no_key),
        TEST(every_member_may_be_named),
        TEST(two_commas_are_one),
        TEST(a_member_may_be_a_list),
        TEST(wrong_members_are_named),
        TEST(entries_have_a_limit),
        TEST(json_has_an_object_an_entry),
        TEST(json_takes_texts_and_objects),
        TEST(wrong_json_is_named),
        TEST(yaml_takes_texts_and_mappings),
        TEST(yaml_errors_name_the_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
