// SPDX-License-Identifier: Apache-2.0
/*
 * The schema and the three ways into a definition: words, vm.yaml and JSON.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "config/definition.h"
#include "config/limits.h"
#include "config/lines.h"

static struct definition *load(const char *yaml, GError **error)
{
    struct definition *definition = definition_create();

    if (definition_load_yaml(definition, "vm.yaml", "/machines/a", yaml, strlen(yaml), error))
        return definition;
    definition_destroy(definition);
    return NULL;
}

static void assert_yaml_refused(const char *yaml, const char *message)
{
    g_autoptr(GError) error = NULL;

    assert_null(load(yaml, &error));
    assert_string_equal(error->message, message);
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
}

static void assert_refused(const char *key, const char *text, const char *message)
{
    struct definition *definition = definition_create();
    g_autoptr(GError) error = NULL;

    assert_false(definition_set(definition, key, text, &error));
    assert_string_equal(error->message, message);
    definition_destroy(definition);
}

static uint64_t size_of(const char *text)
{
    struct definition *definition = definition_create();
    uint64_t size;

    assert_true(definition_set(definition, "memory", text, NULL));
    size = definition_number(definition, OPTION_MEMORY);
    definition_destroy(definition);
    return size;
}

static void assert_table_is_sound(const struct option *table)
{
    for (const struct option *option = table; option->key; option++) {
        struct option_value value;

        assert_non_null(option->help);
        assert_non_null(option->argument);
        assert_ptr_equal(option_find_in(table, option->key), option);
        assert_int_equal(option->type == OPTION_TYPE_GROUP, option->members != NULL);
        if (option->members) {
            assert_true(table == options && option->list && !option->preset);
            assert_table_is_sound(option->members);
        }
        if (!option->preset)
            continue;
        assert_true(option_parse(option, option->preset, &value, NULL));
        g_free(value.text);
    }
}

static void every_preset_is_a_valid_value(void **state)
{
    assert_int_equal(options_count(options), OPTION_COUNT);
    assert_table_is_sound(options);
}

static void sizes_take_suffixes(void **state)
{
    assert_int_equal(size_of("512M"), 512ULL << 20);
    assert_int_equal(size_of("1g"), 1ULL << 30);
    assert_int_equal(size_of("2GiB"), 2ULL << 30);
    assert_int_equal(size_of("4096KB"), 4ULL << 20);
    assert_int_equal(size_of("1048576"), 1ULL << 20);
    assert_refused("memory", "0", "memory: 0 bytes is less than the minimum of 1M");
    assert_refused("memory", "3", "memory: 3 bytes is less than the minimum of 1M");
    assert_refused("memory", "3 bytes", "memory: expected a size such as 512M, not '3 bytes'");
    assert_refused("memory", "-1G", "memory: expected a size such as 512M, not '-1G'");
    assert_refused("memory", "1Q", "memory: expected a size such as 512M, not '1Q'");
    assert_refused("memory", "100T", "memory: 100T is more than the 508G that this version can do");
    assert_refused("memory", "99999999999T", "memory: 99999999999T is too large");
    assert_refused("memory", "1048577", "memory: 1048577 bytes is not a multiple of 4096 bytes");
}

static void cpus_have_a_range(void **state)
{
    assert_refused("cpus", "0", "cpus: 0 is less than the minimum of 1");
    assert_refused("cpus", "5000", "cpus: 5000 is more than the 64 that this version can do");
    assert_refused("cpus", "two", "cpus: expected a whole number, not 'two'");
    assert_refused("cpus", "1M", "cpus: expected a whole number, not '1M'");
}

static void unknown_options_get_the_nearest(void **state)
{
    assert_string_equal(option_nearest("memroy"), "memory");
    assert_string_equal(option_nearest("mem"), "memory");
    assert_string_equal(option_nearest("kernle"), "kernel");
    assert_string_equal(option_nearest("on-reset"), "on-reboot");
    assert_null(option_nearest("zzzzzzzz"));
    assert_refused("sreial", "none", "unknown option 'sreial'; did you mean 'serial'?");
}

static void choices_are_listed(void **state)
{
    assert_refused("engine", "kvn",
                   "engine: 'kvn' is none of auto, kvm, soft; did you mean 'kvm'?");
    assert_refused("serial", "file=",
                   "serial: 'file=' is none of stdio, pty, file=NAME, socket=NAME, none; did you "
                   "mean 'file='?");
}

static void texts_hold_no_control_characters(void **state)
{
    assert_refused("append", "a\nb", "append: a control character stands at byte 2 of the text");
    assert_refused("append", "\xff", "append: the text is not valid UTF-8");
    assert_refused("name", "../x",
                   "name: expected a name of up to 64 letters, digits, '-', '_' and '.', not "
                   "'../x'");
}

static void messages_stay_on_one_line(void **state)
{
    assert_refused("a\nb\x1b[m", "x", "unknown option 'a?b?[m'");
    assert_refused("memory", "1\n\xff",
                   "memory: expected a size such as 512M, not '1?\xef\xbf\xbd'");
    assert_yaml_refused("\"a\\nb\": 1", "vm.yaml:1:1: unknown option 'a?b'");
}

static void an_empty_text_gives_no_list(void **state)
{
    struct definition *definition = definition_create();

    assert_true(definition_set(definition, "device", "", NULL));
    assert_false(definition_has(definition, OPTION_DEVICE));
    definition_destroy(definition);
}

static void lists_split_and_grow(void **state)
{
    struct definition *definition = definition_create();

    assert_true(definition_set(definition, "device", "pvpanic,debugcon", NULL));
    assert_true(definition_set(definition, "device", "pc-testdev", NULL));
    assert_int_equal(definition_count(definition, OPTION_DEVICE), 3);
    assert_string_equal(definition_entry(definition, OPTION_DEVICE, 1), "debugcon");
    assert_true(definition_lists(definition, OPTION_DEVICE, "pc-testdev"));
    assert_null(definition_entry(definition, OPTION_DEVICE, 3));
    assert_true(definition_set(definition, "module", "initrd.img a,b", NULL));
    assert_int_equal(definition_count(definition, OPTION_MODULE), 1);
    for (unsigned i = 1; i < CONFIG_LIST_MAX; i++)
        assert_true(definition_set(definition, "module", "m", NULL));
    assert_false(definition_set(definition, "module", "m", NULL));
    definition_destroy(definition);
}

static void yaml_fills_a_definition(void **state)
{
    struct definition *definition = load("# a machine\n"
                                         "name: test\n"
                                         "memory: 1G\n"
                                         "kernel: vmlinuz\n"
                                         "initrd: /boot/initrd\n"
                                         "append: 'console=ttyS0 quiet'\n"
                                         "device: [pvpanic, pc-testdev]\n"
                                         "paused: yes\n",
                                         NULL);

    assert_non_null(definition);
    assert_string_equal(definition_text(definition, OPTION_NAME), "test");
    assert_int_equal(definition_number(definition, OPTION_MEMORY), 1ULL << 30);
    assert_string_equal(definition_text(definition, OPTION_KERNEL), "/machines/a/vmlinuz");
    assert_string_equal(definition_text(definition, OPTION_INITRD), "/boot/initrd");
    assert_string_equal(definition_text(definition, OPTION_APPEND), "console=ttyS0 quiet");
    assert_int_equal(definition_count(definition, OPTION_DEVICE), 2);
    assert_int_equal(definition_number(definition, OPTION_PAUSED), 1);
    assert_string_equal(definition_text(definition, OPTION_SERIAL), "stdio");
    definition_destroy(definition);
}

static void yaml_errors_tell_line_and_column(void **state)
{
    assert_yaml_refused("name: a\n\nmemory: [1, 2]\n",
                        "vm.yaml:3:9: memory: expected a size such as 512M, not a list");
    assert_yaml_refused("cpus: \"1\"\n", "vm.yaml:1:7: cpus: expected a whole number, not a text");
    assert_yaml_refused("kernel:\n",
                        "vm.yaml:1:8: kernel: expected the name of a file, not nothing");
    assert_yaml_refused("device:\n  - pvpanic\n  - {a: b}\n",
                        "vm.yaml:3:5: device: expected one of the words, not a mapping");
    assert_yaml_refused("name: a\nmemori: 1G\n",
                        "vm.yaml:2:1: unknown option 'memori'; did you mean 'memory'?");
    assert_yaml_refused("name: a\nname: b\n", "vm.yaml:2:1: name: stands here twice");
    assert_yaml_refused("- name\n", "vm.yaml:1:1: expected 'option: value' lines, not a list");
    assert_yaml_refused("name: &x a\nkernel: *x\n",
                        "vm.yaml:2:9: kernel: expected the name of a file, not an alias");
    assert_yaml_refused("name: a\n---\nname: b\n", "vm.yaml:2:1: a second document begins here");
    assert_yaml_refused("name: \"a\\0b\"\n", "vm.yaml:1:7: name: a zero byte in the text");
    assert_yaml_refused("memory: 3\n",
                        "vm.yaml:1:9: memory: 3 bytes is less than the minimum of 1M");
    assert_yaml_refused("name: \"a\n", "vm.yaml:2:1: found unexpected end of stream");
}

static void an_empty_yaml_gives_the_defaults(void **state)
{
    struct definition *definition = load("", NULL);

    assert_non_null(definition);
    assert_int_equal(definition_number(definition, OPTION_MEMORY), 512ULL << 20);
    assert_false(definition_has(definition, OPTION_KERNEL));
    definition_destroy(definition);
}

static void json_goes_both_ways(void **state)
{
    struct definition *first = load("name: a\nmemory: 64M\ndevice: [pvpanic]\nkernel: k\n", NULL);
    struct definition *second = definition_create();
    json_t *one = definition_to_json(first), *two;

    assert_true(definition_from_json(second, one, NULL));
    two = definition_to_json(second);
    assert_true(json_equal(one, two));
    assert_int_equal(json_integer_value(json_object_get(one, "memory")), 64 << 20);
    assert_string_equal(json_string_value(json_object_get(one, "machine")), "anima-1");
    assert_null(json_object_get(one, "initrd"));
    json_decref(one);
    json_decref(two);
    definition_destroy(first);
    definition_destroy(second);
}

/* What is written of a definition reads as the same definition. */
static void assert_written(const struct definition *definition, bool presets)
{
    g_autofree char *text = definition_to_yaml(definition, presets);
    struct definition *again = definition_create();
    json_t *before = definition_to_json(definition), *after;

    assert_non_null(text);
    assert_true(definition_load_yaml(again, "vm.yaml", NULL, text, strlen(text), NULL));
    after = definition_to_json(again);
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
    definition_destroy(again);
}

static void yaml_is_written_as_it_is_read(void **state)
{
    static const char *const texts[] = {"",         "~",      "null", "yes", "1",      "a: b",
                                        " x ",      "# x",    "'",    "\"",  "[a, b]", "- x",
                                        "\xc3\xa4", "{a: 1}", "*a",   "&a",  "%x",     "a #b"};
    struct definition *definition = definition_create();

    assert_written(definition, false);
    assert_written(definition, true);
    assert_true(definition_set(definition, "kernel", "/k", NULL));
    assert_true(definition_set(definition, "memory", "1234567168", NULL));
    assert_true(definition_set(definition, "paused", "yes", NULL));
    assert_true(definition_set(definition, "device", "pvpanic,debugcon", NULL));
    assert_true(definition_set(definition, "disk", "/a,,b,readonly,serial=X", NULL));
    assert_true(definition_set(definition, "disk", "/c", NULL));
    assert_true(definition_set(definition, "nic", "user,forward=tcp:1:2,forward=udp:3:4", NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        assert_true(definition_set(definition, "append", texts[i], NULL));
        assert_written(definition, false);
        assert_written(definition, true);
    }
    definition_destroy(definition);
}

static void only_what_was_given_is_written(void **state)
{
    struct definition *definition = definition_create();
    g_autofree char *text = NULL, *none = NULL;

    assert_true(definition_set(definition, "cpus", "2", NULL));
    assert_true(definition_set(definition, "memory", "2048M", NULL));
    assert_true(definition_set(definition, "disk", "/a,readonly", NULL));
    text = definition_to_yaml(definition, false);
    assert_string_equal(text, "cpus: 2\nmemory: 2G\ndisk:\n- file: /a\n  readonly: yes\n");
    definition_reset(definition, OPTION_CPUS);
    definition_reset(definition, OPTION_MEMORY);
    definition_reset(definition, OPTION_DISK);
    assert_int_equal(definition_number(definition, OPTION_MEMORY), 512 << 20);
    assert_int_equal(definition_count(definition, OPTION_DISK), 0);
    assert_false(definition_given(definition, OPTION_CPUS));
    none = definition_to_yaml(definition, false);
    assert_string_equal(none, "{}\n");
    definition_destroy(definition);
}

static void assert_json_refused(const char *text, const char *message)
{
    struct definition *definition = definition_create();
    json_t *object = json_loads(text, JSON_DECODE_ANY, NULL);
    g_autoptr(GError) error = NULL;

    assert_false(definition_from_json(definition, object, &error));
    assert_string_equal(error->message, message);
    json_decref(object);
    definition_destroy(definition);
}

static void json_types_are_checked(void **state)
{
    assert_json_refused("{\"cpus\": \"1\"}", "cpus: expected a whole number, not a text");
    assert_json_refused("{\"name\": 3}", "name: expected a text, not a number");
    assert_json_refused("{\"memory\": -1}", "memory: expected a size such as 512M, not '-1'");
    assert_json_refused("{\"memory\": {}}", "memory: expected a size such as 512M, not a mapping");
    assert_json_refused("{\"device\": [null]}", "device: expected one of the words, not nothing");
    assert_json_refused("[]", "expected an object, not a list");
}

static void assert_unfit(const char *yaml, const char *message)
{
    g_autofree char *text = g_strconcat("kernel: k\nmemory: 16M\n", yaml, NULL);
    struct definition *definition = load(text, NULL);
    g_autoptr(GError) error = NULL;

    assert_non_null(definition);
    assert_false(definition_check(definition, &error));
    assert_true(g_str_has_suffix(error->message, message));
    definition_destroy(definition);
}

static void lines_must_fit_together(void **state)
{
    g_autoptr(GString) many = g_string_new("port:\n");

    assert_unfit("console: stdio\n", "console: the terminal (stdio) is the serial line's; put that "
                                     "elsewhere, such as --serial none");
    assert_unfit("port: a\n",
                 "port: a: it leads nowhere; give one of socket=FILE, file=FILE and pty");
    assert_unfit(
        "port: 'a,pty,file=f'\n",
        "port: a: it leads to more than one place; give one of socket=FILE, file=FILE and pty");
    assert_unfit("port: ['a,pty', 'b,pty', 'a,file=x']\n", "port: a: there are two of this name");
    for (unsigned i = 0; i < 31; i++)
        g_string_append_printf(many, "- p%u,pty\n", i);
    assert_unfit(many->str, "port: 31 are more than the 30 that a machine can have");
    g_string_truncate(many, strstr(many->str, "- p30") - many->str);
    g_string_append(many, "agent: yes\n");
    assert_unfit(many->str,
                 "port: 30 and the agent's are more than the 30 that a machine can have");
    assert_unfit(
        "agent: yes\nport: 'org.qemu.guest_agent.0,pty'\n",
        "port: org.qemu.guest_agent.0: it is the port of the option agent; leave one of the "
        "two out");
    assert_refused("port", "a/b,pty",
                   "port: name: expected a name such as org.qemu.guest_agent.0, not 'a/b'");
    assert_refused("port", "socket=x", "port: name is missing");
}

static void lines_are_told_in_order(void **state)
{
    struct definition *definition = load("serial: file=/log\n"
                                         "console: stdio\n"
                                         "port: ['a,socket=s', {name: b, pty: yes}]\n",
                                         NULL);
    struct line lines[LINES_MAX];

    assert_int_equal(definition_lines(definition, lines), 4);
    assert_int_equal(lines[0].kind, LINE_SERIAL);
    assert_int_equal(lines[0].place, LINE_FILE);
    assert_string_equal(lines[0].path, "/log");
    assert_int_equal(lines[1].kind, LINE_CONSOLE);
    assert_int_equal(lines[1].place, LINE_STDIO);
    assert_int_equal(lines[2].kind, LINE_PORT);
    assert_int_equal(lines[2].place, LINE_SOCKET);
    assert_string_equal(lines[2].name, "a");
    assert_string_equal(lines[2].path, "/machines/a/s");
    assert_int_equal(lines[3].place, LINE_PTY);
    assert_true(definition_set(definition, "serial", "none", NULL));
    assert_true(definition_set(definition, "console", "none", NULL));
    assert_int_equal(definition_lines(definition, lines), 2);
    definition_destroy(definition);
}

static void options_must_fit_together(void **state)
{
    struct definition *definition = load("append: quiet\n", NULL);
    g_autoptr(GError) error = NULL;

    assert_false(definition_check(definition, &error));
    assert_string_equal(error->message, "vm.yaml:1:1: append: there is no kernel to take it");
    g_clear_error(&error);
    assert_true(definition_set(definition, "kernel", "k", NULL));
    assert_true(definition_set(definition, "memory", "16M", NULL));
    assert_true(definition_check(definition, &error));
    assert_true(definition_set(definition, "memory", "508G", NULL));
    assert_false(definition_check(definition, &error));
    assert_true(g_str_has_prefix(error->message, "memory: 508G is more than the "));
    definition_destroy(definition);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_preset_is_a_valid_value),
        cmocka_unit_test(sizes_take_suffixes),
        cmocka_unit_test(cpus_have_a_range),
        cmocka_unit_test(unknown_options_get_the_nearest),
        cmocka_unit_test(choices_are_listed),
        cmocka_unit_test(texts_hold_no_control_characters),
        cmocka_unit_test(messages_stay_on_one_line),
        cmocka_unit_test(an_empty_text_gives_no_list),
        cmocka_unit_test(lists_split_and_grow),
        cmocka_unit_test(yaml_fills_a_definition),
        cmocka_unit_test(yaml_errors_tell_line_and_column),
        cmocka_unit_test(an_empty_yaml_gives_the_defaults),
        cmocka_unit_test(yaml_is_written_as_it_is_read),
        cmocka_unit_test(only_what_was_given_is_written),
        cmocka_unit_test(json_goes_both_ways),
        cmocka_unit_test(json_types_are_checked),
        cmocka_unit_test(lines_must_fit_together),
        cmocka_unit_test(lines_are_told_in_order),
        cmocka_unit_test(options_must_fit_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
