// SPDX-License-Identifier: Apache-2.0
/*
 * Changes of single options in the text of a vm.yaml: what is not changed stays as it was written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "config/change.h"
#include "config/schema.h"

static const char text[] = "# a machine\n"
                           "kernel: /k   # the kernel\n"
                           "memory:   1G\t# enough\n"
                           "\n"
                           "disk:\n"
                           "  - file: /a\n"
                           "    # read only\n"
                           "    readonly: yes\n"
                           "  - /b,serial=B\n"
                           "# processors\n"
                           "cpus: 2\n";

/* `before` with up to three changes is `after`. */
static void assert_change(const char *before, const char *after, const char *first,
                          const char *second, const char *third)
{
    const char *const words[] = {first, second, third, NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *changed =
        change_yaml(&definition_machine, "vm.yaml", before, words, "/here", &error);

    assert_null(error);
    assert_string_equal(changed, after);
}

static void assert_refused(const char *before, const char *message, const char *first,
                           const char *second)
{
    const char *const words[] = {first, second, NULL};
    g_autoptr(GError) error = NULL;

    assert_null(change_yaml(&definition_machine, "vm.yaml", before, words, "/here", &error));
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
    assert_string_equal(error->message, message);
}

/* `text` with its first `part` replaced. */
static char *with(const char *part, const char *other)
{
    const char *at = strstr(text, part);

    assert_non_null(at);
    return g_strdup_printf("%.*s%s%s", (int)(at - text), text, other, at + strlen(part));
}

static void a_word_is_replaced_where_it_stands(void **state)
{
    g_autofree char *memory = with("1G", "2G"), *kernel = with("/k", "/here/other");
    g_autofree char *quoted = with("/k", "'/k #2'");

    assert_change(text, memory, "memory=2048M", NULL, NULL);
    assert_change(text, kernel, "kernel=other", NULL, NULL);
    assert_change(text, quoted, "kernel=/k #2", NULL, NULL);
    assert_change(text, text, "cpus=2", NULL, NULL);
}

static void a_new_option_comes_last(void **state)
{
    g_autofree char *appended = g_strconcat(text, "append: quiet\n", NULL);
    g_autofree char *both = g_strconcat(text, "append: quiet\npaused: yes\n", NULL);

    assert_change(text, appended, "append=quiet", NULL, NULL);
    assert_change(text, both, "append=quiet", "paused=yes", NULL);
    /* The last line has no end. */
    assert_change("kernel: /k", "kernel: /k\ncpus: 3\n", "cpus=3", NULL, NULL);
    assert_change("# nothing\n", "# nothing\nkernel: /k\n", "kernel=/k", NULL, NULL);
    assert_change("", "kernel: /k\n", "kernel=/k", NULL, NULL);
}

static void an_empty_value_is_the_default(void **state)
{
    g_autofree char *one = with("cpus: 2\n", "");
    g_autofree char *none = with("disk:\n  - file: /a\n    # read only\n    readonly: yes\n"
                                 "  - /b,serial=B\n",
                                 "");

    assert_change(text, one, "cpus=", NULL, NULL);
    assert_change(text, none, "disk=", NULL, NULL);
    assert_change(text, text, "append=", NULL, NULL);
}

static void lists_grow_and_shrink(void **state)
{
    static const char *const old = "  - file: /a\n    # read only\n    readonly: yes\n"
                                   "  - /b,serial=B\n";
    g_autofree char *grown = with(old, "- file: /a\n  readonly: yes\n- file: /b\n  serial: B\n"
                                       "- file: /here/c\n");
    g_autofree char *shrunk = with(old, "- file: /b\n  serial: B\n");
    g_autofree char *set = with(old, "- file: /x\n- file: /y\n- file: /z\n");

    assert_change(text, grown, "disk+=c", NULL, NULL);
    assert_change(text, shrunk, "disk-=/a", NULL, NULL);
    assert_change(text, set, "disk=/x", "disk=/y", "disk+=/z");
    assert_change("kernel: /k\ndevice: pvpanic\n",
                  "kernel: /k\ndevice:\n- pvpanic\n- virtio-rng\n- debugcon\n",
                  "device+=virtio-rng,debugcon", NULL, NULL);
    assert_change("kernel: /k\ndevice: [pvpanic, debugcon]\n", "kernel: /k\ndevice:\n- debugcon\n",
                  "device-=pvpanic", NULL, NULL);
    /* A path in its folder is known by the name that was given before, too. */
    assert_change("kernel: /k\ndisk: [/here/a, a, /b]\n", "kernel: /k\ndisk:\n- file: /b\n",
                  "disk-=a", NULL, NULL);
}

static void values_of_several_lines_are_replaced_whole(void **state)
{
    assert_change("append: >\n  quiet\n  debug\n\n# next\nkernel: /k\n",
                  "append: x\n# next\nkernel: /k\n", "append=x", NULL, NULL);
    assert_change("append: quiet\n  debug\nkernel: /k\n", "append: x\nkernel: /k\n", "append=x",
                  NULL, NULL);
    assert_change("append: |\n  quiet\n", "kernel: /k\n", "append=", "kernel=/k", NULL);
}

static void bytes_are_not_characters(void **state)
{
    assert_change("# \xc3\xa4\xe2\x82\xac\nappend: \"\xc3\xa4\" # \xc3\xa4\nkernel: /k\n",
                  "# \xc3\xa4\xe2\x82\xac\nappend: \xe2\x82\xac # \xc3\xa4\nkernel: /k\n",
                  "append=\xe2\x82\xac", NULL, NULL);
    assert_change("cpus: 1\r\nkernel: /k\r\n", "cpus: 2\r\nkernel: /k\r\n", "cpus=2", NULL, NULL);
}

static void other_styles_are_written_anew(void **state)
{
    assert_change("{kernel: /k, cpus: 2}\n", "cpus: 3\nkernel: /k\n", "cpus=3", NULL, NULL);
    assert_change("kernel: /k\ncpus: 2\n...\n", "memory: 1G\nkernel: /k\n", "memory=1G",
                  "cpus=", NULL);
    assert_change("? cpus\n: 2\n? kernel\n: /k\n", "cpus: 3\nkernel: /k\n", "cpus=3", NULL, NULL);
    assert_change("\xef\xbb\xbfkernel: /k\ncpus: 2\n", "cpus: 3\nkernel: /k\n", "cpus=3", NULL,
                  NULL);
}

static void faults_are_told(void **state)
{
    assert_refused(text, "expected OPTION=VALUE, OPTION+=ENTRY or OPTION-=ENTRY, not 'cpus'",
                   "cpus", NULL);
    assert_refused(text, "expected OPTION=VALUE, OPTION+=ENTRY or OPTION-=ENTRY, not '=2'", "=2",
                   NULL);
    assert_refused(text, "unknown option 'cpu s'; did you mean 'cpus'?", "cpu s=2", NULL);
    assert_refused(text, "unknown option ''", "+=2", NULL);
    assert_refused(text, "cpus: this is no list; give it its value by '='", "cpus+=1", NULL);
    assert_refused(text, "cpus: expected a whole number, not 'x'", "memory=2G", "cpus=x");
    assert_refused(text, "disk: there is no entry '/c'", "disk-=/c", NULL);
    assert_refused(text, "disk: unknown member 'seriel'; did you mean 'serial'?",
                   "disk+=/c,seriel=1", NULL);
    assert_refused(text, "name: a kept machine has the name of its folder", "name=x", NULL);
    assert_refused(text, "kernel: nothing to boot; name a kernel's file", "kernel=", NULL);
    assert_refused("memory: x\n", "vm.yaml:1:9: memory: expected a size such as 512M, not 'x'",
                   "memory=1G", NULL);
}

static void what_does_not_fit_is_told_with_its_place(void **state)
{
    assert_refused("kernel: /k\n\n  # here\ninitrd: /i\n",
                   "vm.yaml:4:1: initrd: there is no kernel to take it", "kernel=", NULL);
    /* It was changed and stands nowhere. */
    assert_refused("kernel: /k\nmodule: /m\n",
                   "vm.yaml:2:1: module: a kernel takes either an initrd or multiboot modules",
                   "initrd=/i", NULL);
    assert_refused("kernel: /k\ninitrd: /i\n",
                   "module: a kernel takes either an initrd or multiboot modules", "module=/m",
                   NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_is_replaced_where_it_stands),
        cmocka_unit_test(a_new_option_comes_last),
        cmocka_unit_test(an_empty_value_is_the_default),
        cmocka_unit_test(lists_grow_and_shrink),
        cmocka_unit_test(values_of_several_lines_are_replaced_whole),
        cmocka_unit_test(bytes_are_not_characters),
        cmocka_unit_test(other_styles_are_written_anew),
        cmocka_unit_test(faults_are_told),
        cmocka_unit_test(what_does_not_fit_is_told_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
