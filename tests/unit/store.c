// SPDX-License-Identifier: Apache-2.0
/*
 * Folders of kept definitions: whole or not at all, and never elsewhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/limits.h"
#include "config/paths.h"
#include "config/schema.h"
#include "config/store.h"

static bool yes(const char *name, GError **error)
{
    return true;
}

static bool no(const char *name, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE, "%s: not now", name);
    return false;
}

/* The name of everything in the folder of machines, with spaces between. */
static char *contents(void)
{
    g_autofree char *base = data_folder();
    g_autoptr(GDir) folder = g_dir_open(base, 0, NULL);
    GString *text = g_string_new(NULL);
    const char *name;

    while (folder && (name = g_dir_read_name(folder)))
        g_string_append_printf(text, "%s%s", text->len ? " " : "", name);
    return g_string_free(text, FALSE);
}

static void assert_contents(const char *expected)
{
    g_autofree char *text = contents();

    assert_string_equal(text, expected);
}

static void assert_text(const char *name, const char *expected)
{
    g_autofree char *text = store_read(&store_machines, name, NULL);

    assert_non_null(text);
    assert_string_equal(text, expected);
}

static void assert_error(GError *error, enum config_error code, const char *part)
{
    assert_true(g_error_matches(error, CONFIG_ERROR, code));
    assert_non_null(strstr(error->message, part));
    assert_null(strchr(error->message, '\n'));
    g_error_free(error);
}

static int make_folder(void **state)
{
    char path[] = "/tmp/anima-store-XXXXXX";

    assert_non_null(mkdtemp(path));
    /* The folder of machines itself need not be there. */
    *state = g_build_filename(path, "machines", NULL);
    return setenv("ANIMA_DATA_DIR", *state, 1);
}

static int remove_folder(void **state)
{
    g_autofree char *base = *state, *above = g_path_get_dirname(base);
    g_auto(GStrv) names = store_list(&store_machines, NULL);

    for (char **name = names; name && *name; name++)
        assert_true(store_delete(&store_machines, *name, yes, NULL));
    rmdir(base);
    return rmdir(above);
}

static void a_machine_is_a_folder_with_its_text(void **state)
{
    g_autofree char *path = definition_path("a");
    struct stat status;

    assert_true(store_create(&store_machines, "a", "memory: 1G\n", NULL));
    assert_contents("a");
    assert_text("a", "memory: 1G\n");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_name_is_taken_once(void **state)
{
    g_autofree char *empty = g_build_filename(*state, "empty", NULL);
    GError *error = NULL;

    assert_true(store_create(&store_machines, "a", "memory: 1G\n", NULL));
    assert_false(store_create(&store_machines, "a", "memory: 2G\n", &error));
    assert_error(error, CONFIG_ERROR_STATE, "is there already");
    assert_text("a", "memory: 1G\n");
    /* A folder that somebody else made is left alone, and is no machine. */
    error = NULL;
    assert_int_equal(mkdir(empty, 0700), 0);
    assert_false(store_create(&store_machines, "empty", "", &error));
    assert_error(error, CONFIG_ERROR_STATE, "is there already");
    assert_int_equal(rmdir(empty), 0);
    assert_contents("a");
}

/* A file in the draft's folder. */
static void put_disk(const struct store_draft *draft)
{
    g_autofree char *path = g_build_filename(store_draft_folder(draft), "disk.img", NULL);

    assert_true(g_file_set_contents(path, "x", 1, NULL));
}

static void a_draft_is_nobodys_machine_until_it_is_kept(void **state)
{
    g_autofree char *path = definition_path("a"), *folder = g_path_get_dirname(path);
    g_autofree char *disk = g_build_filename(folder, "disk.img", NULL);
    struct store_draft *draft = store_draft_begin(&store_machines, "a", NULL);
    g_auto(GStrv) names = store_list(&store_machines, NULL);

    assert_non_null(draft);
    assert_int_equal(g_strv_length(names), 0);
    put_disk(draft);
    assert_true(store_draft_keep(draft, "cpus: 1\n", NULL));
    store_draft_destroy(draft);
    assert_contents("a");
    assert_text("a", "cpus: 1\n");
    assert_int_equal(access(disk, F_OK), 0);
}

static void a_draft_that_is_not_kept_leaves_nothing(void **state)
{
    struct store_draft *draft = store_draft_begin(&store_machines, "a", NULL);
    GError *error = NULL;

    put_disk(draft);
    store_draft_destroy(draft);
    assert_contents("");
    /* Somebody else was quicker. */
    draft = store_draft_begin(&store_machines, "a", NULL);
    put_disk(draft);
    assert_true(store_create(&store_machines, "a", "cpus: 1\n", NULL));
    assert_false(store_draft_keep(draft, "cpus: 2\n", &error));
    assert_error(error, CONFIG_ERROR_STATE, "is there already");
    store_draft_destroy(draft);
    assert_contents("a");
    assert_text("a", "cpus: 1\n");
    error = NULL;
    assert_null(store_draft_begin(&store_machines, "a", &error));
    assert_error(error, CONFIG_ERROR_STATE, "is there already");
}

static void what_the_dead_left_is_swept_and_what_the_living_make_is_not(void **state)
{
    g_autofree char *left = g_build_filename(*state, ".new-ABCDEF", NULL);
    struct store_draft *draft = store_draft_begin(&store_machines, "a", NULL);

    put_disk(draft);
    assert_int_equal(mkdir(left, 0700), 0);
    assert_true(store_create(&store_machines, "b", "cpus: 1\n", NULL));
    assert_int_not_equal(access(left, F_OK), 0);
    assert_true(store_draft_keep(draft, "cpus: 2\n", NULL));
    store_draft_destroy(draft);
    assert_text("a", "cpus: 2\n");
    assert_text("b", "cpus: 1\n");
}

static void names_lead_nowhere_else(void **state)
{
    static const char *const names[] = {"", ".", "..", "../a", "a/b", ".hidden", "a\n", "-x"};
    g_autofree char *longest = g_strnfill(CONFIG_NAME_MAX + 1, 'a');

    for (unsigned i = 0; i <= G_N_ELEMENTS(names); i++) {
        const char *name = i < G_N_ELEMENTS(names) ? names[i] : longest;
        GError *error = NULL;

        assert_false(store_create(&store_machines, name, "", &error));
        assert_error(error, CONFIG_ERROR_USAGE, "name: ");
        error = NULL;
        assert_null(store_read(&store_machines, name, &error));
        assert_error(error, CONFIG_ERROR_USAGE, "name: ");
        error = NULL;
        assert_false(store_replace(&store_machines, name, "", "", &error));
        assert_error(error, CONFIG_ERROR_USAGE, "name: ");
        error = NULL;
        assert_false(store_delete(&store_machines, name, yes, &error));
        assert_error(error, CONFIG_ERROR_USAGE, "name: ");
    }
    assert_contents("");
}

static void what_is_not_there_is_absent(void **state)
{
    GError *error = NULL;

    assert_null(store_read(&store_machines, "a", &error));
    assert_error(error, CONFIG_ERROR_ABSENT, "a: no machine of this name is defined");
    error = NULL;
    assert_false(store_replace(&store_machines, "a", "", "", &error));
    assert_error(error, CONFIG_ERROR_ABSENT, "a: no machine of this name is defined");
    error = NULL;
    assert_false(store_delete(&store_machines, "a", yes, &error));
    assert_error(error, CONFIG_ERROR_ABSENT, "a: no machine of this name is defined");
}

static void a_text_is_replaced_only_if_it_is_the_known_one(void **state)
{
    g_autofree char *path = definition_path("a");
    GError *error = NULL;
    struct stat status;

    assert_true(store_create(&store_machines, "a", "cpus: 1\n", NULL));
    assert_int_equal(chmod(path, 0640), 0);
    assert_true(store_replace(&store_machines, "a", "cpus: 1\n", "cpus: 2\n", NULL));
    assert_text("a", "cpus: 2\n");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    assert_false(store_replace(&store_machines, "a", "cpus: 1\n", "cpus: 3\n", &error));
    assert_error(error, CONFIG_ERROR_STATE, "somebody else has changed it");
    assert_text("a", "cpus: 2\n");
}

/* A reader beside a writer sees one of the texts, never a part. */
static void *write_texts(void *texts)
{
    char **text = texts;

    for (unsigned i = 0; i < 200; i++)
        assert_true(store_replace(&store_machines, "a", text[i % 2], text[(i + 1) % 2], NULL));
    return NULL;
}

static void readers_see_one_text_or_the_other(void **state)
{
    g_autofree char *small = g_strdup("cpus: 1\n"), *large = g_strnfill(50000, '#');
    char *texts[] = {small, large};
    GThread *writer;
    unsigned seen[2] = {0};

    assert_true(store_create(&store_machines, "a", small, NULL));
    writer = g_thread_new("writer", write_texts, texts);
    for (unsigned i = 0; i < 500; i++) {
        g_autofree char *text = store_read(&store_machines, "a", NULL);

        assert_non_null(text);
        assert_true(g_str_equal(text, small) || g_str_equal(text, large));
        seen[g_str_equal(text, large)]++;
    }
    g_thread_join(writer);
    assert_int_equal(seen[0] + seen[1], 500);
    assert_text("a", small);
}

static void a_failed_write_leaves_the_old_text(void **state)
{
    g_autofree char *path = definition_path("a"), *folder = g_path_get_dirname(path);
    g_autofree char *fresh = g_build_filename(folder, ".definition.new", NULL);
    GError *error = NULL;

    assert_true(store_create(&store_machines, "a", "cpus: 1\n", NULL));
    /* Where the new text would be written stands a folder. */
    assert_int_equal(mkdir(fresh, 0700), 0);
    assert_false(store_replace(&store_machines, "a", "cpus: 1\n", "cpus: 2\n", &error));
    assert_error(error, CONFIG_ERROR_FAILED, "vm.yaml: ");
    assert_text("a", "cpus: 1\n");
}

static void a_folder_is_deleted_whole_or_put_back(void **state)
{
    g_autofree char *path = definition_path("a"), *folder = g_path_get_dirname(path);
    g_autofree char *disks = g_build_filename(folder, "disks", NULL);
    g_autofree char *disk = g_build_filename(disks, "root.img", NULL);
    GError *error = NULL;

    assert_true(store_create(&store_machines, "a", "cpus: 1\n", NULL));
    assert_int_equal(mkdir(disks, 0700), 0);
    assert_true(g_file_set_contents(disk, "x", 1, NULL));
    assert_false(store_delete(&store_machines, "a", no, &error));
    assert_error(error, CONFIG_ERROR_STATE, "a: not now");
    assert_int_equal(access(disk, F_OK), 0);
    assert_true(store_delete(&store_machines, "a", yes, NULL));
    assert_contents("");
}

static void deletion_follows_no_link(void **state)
{
    g_autofree char *path = definition_path("a"), *folder = g_path_get_dirname(path);
    g_autofree char *link = g_build_filename(folder, "link", NULL);

    assert_true(store_create(&store_machines, "a", "cpus: 1\n", NULL));
    assert_true(store_create(&store_machines, "b", "cpus: 2\n", NULL));
    assert_int_equal(symlink("../b", link), 0);
    assert_true(store_delete(&store_machines, "a", yes, NULL));
    assert_text("b", "cpus: 2\n");
}

static void the_list_is_sorted_and_has_machines_alone(void **state)
{
    g_autofree char *stray = g_build_filename(*state, "stray", NULL);
    g_autofree char *joined = NULL;
    g_auto(GStrv) none = store_list(&store_machines, NULL), names = NULL;

    assert_int_equal(g_strv_length(none), 0);
    assert_true(store_create(&store_machines, "b", "", NULL));
    assert_true(store_create(&store_machines, "a10", "", NULL));
    assert_true(store_create(&store_machines, "a", "", NULL));
    assert_int_equal(mkdir(stray, 0700), 0);
    names = store_list(&store_machines, NULL);
    joined = g_strjoinv(" ", names);
    assert_string_equal(joined, "a a10 b");
    assert_int_equal(rmdir(stray), 0);
}

static void a_text_without_end_is_refused(void **state)
{
    g_autofree char *path = definition_path("a");
    GError *error = NULL;

    assert_true(store_create(&store_machines, "a", "cpus: 1\n", NULL));
    assert_true(g_file_set_contents(path, "cpus: 1\n\0cpus: 2\n", 17, NULL));
    assert_null(store_read(&store_machines, "a", &error));
    assert_error(error, CONFIG_ERROR_USAGE, "a zero byte");
}

static void networks_lie_beside_machines(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) machines = NULL, networks = NULL;

    assert_true(store_create(&store_machines, "a", "cpus: 1\n", NULL));
    assert_true(store_create(&store_networks, "a", "kind: nat\n", NULL));
    assert_true(store_create(&store_networks, "b", "", NULL));
    machines = store_list(&store_machines, NULL);
    networks = store_list(&store_networks, NULL);
    assert_int_equal(g_strv_length(machines), 1);
    assert_int_equal(g_strv_length(networks), 2);
    text = store_read(&store_networks, "a", NULL);
    assert_string_equal(text, "kind: nat\n");
    /* The folder of all networks is no machine, whatever is asked of it. */
    assert_false(store_delete(&store_machines, "networks", yes, &error));
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
    assert_true(store_delete(&store_networks, "a", yes, NULL));
    assert_true(store_delete(&store_networks, "b", yes, NULL));
    assert_true(store_delete(&store_machines, "a", yes, NULL));
    g_autofree char *folder = g_build_filename(*state, "networks", NULL);
    assert_int_equal(rmdir(folder), 0);
}

#define store_test(function) cmocka_unit_test_setup_teardown(function, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_test(a_machine_is_a_folder_with_its_text),
        store_test(a_name_is_taken_once),
        store_test(a_draft_is_nobodys_machine_until_it_is_kept),
        store_test(a_draft_that_is_not_kept_leaves_nothing),
        store_test(what_the_dead_left_is_swept_and_what_the_living_make_is_not),
        store_test(names_lead_nowhere_else),
        store_test(what_is_not_there_is_absent),
        store_test(a_text_is_replaced_only_if_it_is_the_known_one),
        store_test(readers_see_one_text_or_the_other),
        store_test(a_failed_write_leaves_the_old_text),
        store_test(a_folder_is_deleted_whole_or_put_back),
        store_test(deletion_follows_no_link),
        store_test(the_list_is_sorted_and_has_machines_alone),
        store_test(a_text_without_end_is_refused),
        store_test(networks_lie_beside_machines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
