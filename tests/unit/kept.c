// SPDX-License-Identifier: Apache-2.0
/*
 * Kept definitions through libanima, as a program of anybody's uses it: what the command line can
 * do, with the same errors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "anima.h"

static void assert_error(struct anima_error *error, enum anima_error_code code, const char *part)
{
    assert_non_null(error);
    assert_int_equal(error->code, code);
    assert_non_null(strstr(error->message, part));
    assert_null(strchr(error->message, '\n'));
    anima_error_free(error);
}

static struct anima_definition *define(const char *name)
{
    struct anima_definition *definition = anima_definition_create();

    assert_true(anima_definition_set(definition, "name", name, NULL));
    assert_true(anima_definition_set(definition, "kernel", "/k", NULL));
    assert_true(anima_definition_set(definition, "cpu", "x86-64-v1", NULL));
    assert_true(anima_definition_set(definition, "memory", "64M", NULL));
    return definition;
}

static void keep(const char *name)
{
    struct anima_definition *definition = define(name);

    assert_true(anima_definition_keep(definition, NULL));
    anima_definition_destroy(definition);
}

static void assert_text(const char *name, const char *expected)
{
    char *text = anima_definition_read(name, NULL);

    assert_non_null(text);
    assert_string_equal(text, expected);
    anima_free(text);
}

/* A machine "a" out of an image of 100000 bytes in `folder`, begun. */
static struct anima_creation *begin_cloud(const char *folder)
{
    struct anima_definition *definition = define("a");
    struct anima_creation *creation;
    char path[128], text[256], bytes[1000];
    FILE *image;

    memset(bytes, 'x', sizeof(bytes));
    snprintf(path, sizeof(path), "%s-image", folder);
    image = fopen(path, "w");
    assert_non_null(image);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(fwrite(bytes, 1, sizeof(bytes), image), sizeof(bytes));
    fclose(image);
    snprintf(text, sizeof(text),
             "{\"cloud-image\": \"%s\", \"user\": \"me\", \"password-hash\": \"$6$a$bcdefgh\"}",
             path);
    creation = anima_definition_keep_cloud(definition, text, NULL);
    assert_non_null(creation);
    anima_definition_destroy(definition);
    unlink(path);
    return creation;
}

static void a_machine_out_of_an_image_is_made_in_steps(void **state)
{
    struct anima_creation *creation = begin_cloud(*state);
    struct anima_error *error = NULL;
    uint64_t done = 0, total = 0;
    char *text;
    int more;

    while ((more = anima_creation_step(creation, &done, &total, &error)) == 1)
        assert_true(done <= total && total == 100000);
    if (more < 0 && strstr(error->message, "this build makes no seeds")) {
        anima_error_free(error);
        anima_creation_destroy(creation);
        skip();
    }
    assert_int_equal(more, 0);
    assert_int_equal(done, 100000);
    /* It is done, and stays so. */
    assert_int_equal(anima_creation_step(creation, NULL, NULL, NULL), 0);
    anima_creation_destroy(creation);
    text = anima_definition_read("a", NULL);
    assert_non_null(strstr(text, "file: disks/root.img\n"));
    anima_free(text);
}

static void what_is_not_finished_is_no_machine(void **state)
{
    static const char *const wrong[] = {"", "[]", "{", "{\"cloud-image\": 1}",
                                        "{\"user\": \"me\"}"};
    struct anima_definition *definition = define("a");
    struct anima_creation *creation = begin_cloud(*state);
    struct anima_error *error = NULL;

    assert_int_equal(anima_creation_step(creation, NULL, NULL, NULL), 1);
    anima_creation_destroy(creation);
    assert_null(anima_definition_read("a", &error));
    assert_error(error, ANIMA_ERROR_ABSENT, "a: no machine of this name");
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        error = NULL;
        assert_null(anima_definition_keep_cloud(definition, wrong[i], &error));
        assert_error(error, ANIMA_ERROR_USAGE, "");
    }
    anima_definition_destroy(definition);
}

static int make_folder(void **state)
{
    static char path[64];

    snprintf(path, sizeof(path), "/tmp/anima-kept-XXXXXX");
    assert_non_null(mkdtemp(path));
    *state = path;
    /* One folder for both: nothing runs. */
    return setenv("ANIMA_DATA_DIR", path, 1) || setenv("ANIMA_RUNTIME_DIR", "/nonexistent/run", 1);
}

static int remove_folder(void **state)
{
    char *names = anima_inventory(NULL);

    assert_non_null(names);
    anima_free(names);
    anima_definition_delete("a", NULL);
    anima_definition_delete("b", NULL);
    return rmdir(*state);
}

static void a_definition_is_kept_read_and_deleted(void **state)
{
    struct anima_definition *again = anima_definition_create();
    struct anima_error *error = NULL;
    char *folder = anima_definition_folder("a"), *yaml;

    keep("a");
    assert_text("a", "machine: anima-1\ncpu: x86-64-v1-1\nmemory: 64M\nkernel: /k\n");
    assert_true(anima_definition_load_named(again, "a", NULL));
    yaml = anima_definition_yaml(again, false);
    assert_string_equal(yaml,
                        "machine: anima-1\nname: a\ncpu: x86-64-v1-1\nmemory: 64M\nkernel: /k\n");
    anima_free(yaml);
    anima_definition_destroy(again);
    assert_int_equal(access(folder, F_OK), 0);
    assert_true(anima_definition_delete("a", NULL));
    assert_int_not_equal(access(folder, F_OK), 0);
    anima_free(folder);
    assert_false(anima_definition_delete("a", &error));
    assert_error(error, ANIMA_ERROR_ABSENT, "a: no machine of this name is defined");
}

static void what_cannot_be_kept_is_told(void **state)
{
    struct anima_definition *definition = define("a"), *nameless = anima_definition_create();
    struct anima_error *error = NULL;

    assert_true(anima_definition_keep(definition, NULL));
    assert_false(anima_definition_keep(definition, &error));
    assert_error(error, ANIMA_ERROR_STATE, "a: a machine of this name is there already");
    error = NULL;
    assert_false(anima_definition_keep(nameless, &error));
    assert_error(error, ANIMA_ERROR_USAGE, "name: a machine that is kept has one");
    error = NULL;
    assert_true(anima_definition_set(nameless, "name", "b", NULL));
    assert_false(anima_definition_keep(nameless, &error));
    assert_error(error, ANIMA_ERROR_USAGE, "kernel: nothing to boot");
    anima_definition_destroy(definition);
    anima_definition_destroy(nameless);
}

/* Whether the model `given` is kept as `expected`, or for NULL refused with the error's part. */
static void assert_cpu(const char *given, const char *expected, const char *part)
{
    struct anima_definition *definition = define("a");
    struct anima_error *error = NULL;
    bool good;

    assert_true(anima_definition_set(definition, "engine", "soft", NULL));
    assert_true(anima_definition_set(definition, "cpu", given, NULL));
    good = anima_definition_keep(definition, &error);
    assert_int_equal(good, expected != NULL);
    if (good) {
        char *text = anima_definition_read("a", NULL);

        assert_non_null(strstr(text, expected));
        anima_free(text);
        assert_true(anima_definition_delete("a", NULL));
    } else {
        assert_error(error, ANIMA_ERROR_USAGE, part);
    }
    anima_definition_destroy(definition);
}

static void a_cpu_model_is_kept_with_its_version(void **state)
{
    assert_cpu("default", "\ncpu: x86-64-v", NULL);
    assert_cpu("x86-64-v2", "\ncpu: x86-64-v2-1\n", NULL);
    assert_cpu("x86-64-v2-1", "\ncpu: x86-64-v2-1\n", NULL);
    assert_cpu("host", "\ncpu: host-1\n", NULL);
    assert_cpu("x86-64-v9", NULL, "cpu: 'x86-64-v9' is none of default, host, x86-64-v1");
    assert_cpu("haswell", NULL, "did you mean 'Haswell'?");
    assert_cpu("x86-64-v2-2", NULL, "cpu: 'x86-64-v2-2' is none of");
}

static void options_are_changed_by_words(void **state)
{
    static const char *const good[] = {"memory=128M", "disk+=/d,readonly", NULL};
    static const char *const bad[] = {"cpus=2", "memory=much", NULL};
    struct anima_error *error = NULL;

    keep("a");
    assert_true(anima_definition_change("a", good, NULL));
    assert_text("a", "machine: anima-1\ncpu: x86-64-v1-1\nmemory: 128M\nkernel: /k\n"
                     "disk:\n- file: /d\n  readonly: yes\n");
    assert_false(anima_definition_change("a", bad, &error));
    assert_error(error, ANIMA_ERROR_USAGE, "memory: expected a size such as 512M, not 'much'");
    error = NULL;
    assert_false(anima_definition_change("b", good, &error));
    assert_error(error, ANIMA_ERROR_ABSENT, "b: no machine of this name is defined");
    assert_text("a", "machine: anima-1\ncpu: x86-64-v1-1\nmemory: 128M\nkernel: /k\n"
                     "disk:\n- file: /d\n  readonly: yes\n");
}

static void a_text_is_replaced_if_it_is_good_and_known(void **state)
{
    struct anima_error *error = NULL;
    char *before;

    keep("a");
    before = anima_definition_read("a", NULL);
    assert_false(anima_definition_replace("a", before, "kernel: /k\nmemory: much\n", &error));
    assert_error(error, ANIMA_ERROR_USAGE, "a/vm.yaml:2:9: memory: expected a size");
    error = NULL;
    assert_false(anima_definition_replace("a", before, "cpus: 2\n", &error));
    assert_error(error, ANIMA_ERROR_USAGE, "a/vm.yaml: kernel: nothing to boot");
    error = NULL;
    assert_false(
        anima_definition_replace("a", before, "kernel: /k\ninitrd: /i\nmodule: /m\n", &error));
    assert_error(error, ANIMA_ERROR_USAGE, "a/vm.yaml:3:1: module: a kernel takes either");
    error = NULL;
    assert_false(anima_definition_replace("a", before, "kernel: /k\nname: b\n", &error));
    assert_error(error, ANIMA_ERROR_USAGE, "name: 'b' is not the name of its folder");
    error = NULL;
    assert_true(anima_definition_replace("a", before, "# mine\nkernel: /k\n", NULL));
    assert_false(anima_definition_replace("a", before, "kernel: /other\n", &error));
    assert_error(error, ANIMA_ERROR_STATE, "somebody else has changed it meanwhile");
    assert_text("a", "# mine\nkernel: /k\n");
    anima_free(before);
}

static void the_inventory_has_those_that_do_not_run(void **state)
{
    char *list;

    keep("b");
    keep("a");
    list = anima_inventory(NULL);
    assert_non_null(list);
    assert_non_null(strstr(list, "\"name\": \"a\""));
    assert_true(strstr(list, "\"name\": \"a\"") < strstr(list, "\"name\": \"b\""));
    assert_non_null(strstr(list, "\"state\": \"off\""));
    assert_non_null(strstr(list, "\"memory\": 67108864"));
    anima_free(list);
}

static void names_are_checked_everywhere(void **state)
{
    static const char *const nothing[] = {NULL};
    struct anima_error *error = NULL;

    assert_null(anima_definition_read("../a", &error));
    assert_error(error, ANIMA_ERROR_USAGE, "name: expected a name");
    error = NULL;
    assert_false(anima_definition_replace("", "", "", &error));
    assert_error(error, ANIMA_ERROR_USAGE, "name: expected a name");
    error = NULL;
    assert_false(anima_definition_change(".", nothing, &error));
    assert_error(error, ANIMA_ERROR_USAGE, "name: expected a name");
    error = NULL;
    assert_false(anima_definition_delete("a/b", &error));
    assert_error(error, ANIMA_ERROR_USAGE, "name: expected a name");
    error = NULL;
    assert_null(anima_machine_start_named("-", &error));
    assert_error(error, ANIMA_ERROR_USAGE, "name: expected a name");
}

#define kept_test(function) cmocka_unit_test_setup_teardown(function, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        kept_test(a_definition_is_kept_read_and_deleted),
        kept_test(what_cannot_be_kept_is_told),
        kept_test(a_cpu_model_is_kept_with_its_version),
        kept_test(options_are_changed_by_words),
        kept_test(a_text_is_replaced_if_it_is_good_and_known),
        kept_test(the_inventory_has_those_that_do_not_run),
        kept_test(names_are_checked_everywhere),
        kept_test(a_machine_out_of_an_image_is_made_in_steps),
        kept_test(what_is_not_finished_is_no_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
