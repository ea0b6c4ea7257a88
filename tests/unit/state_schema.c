// SPDX-License-Identifier: Apache-2.0
/*
 * The format of saved state is a promise: all tables together must read as the committed text. Who
 * changes a table on purpose raises its version, gives new fields their `since`, and commits what
 *
 *     ANIMA_SOURCE=. build/tests/unit/test-state_schema --update
 *
 * has written.
 */
#include "vmm/device/device.h"
#include "vmm/engine/cpu_state.h"
#include "vmm/state/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char *schema_path(void)
{
    const char *source = g_getenv("ANIMA_SOURCE");

    if (!source)
        fail_msg("ANIMA_SOURCE must name the source folder");
    return g_build_filename(source, "tests", "unit", "state_schema.txt", NULL);
}

static char *present_schema(void)
{
    GString *text = g_string_new(NULL);

    state_schema(&cpu_definition_table, text);
    state_schema(&cpu_state_table, text);
    for (unsigned i = 0; device_kinds[i]; i++)
        if (device_kinds[i]->state)
            state_schema(device_kinds[i]->state, text);
    return g_string_free(text, FALSE);
}

/* The first line in which the two differ. */
static void assert_same_lines(const char *committed, const char *present)
{
    g_auto(GStrv) old = g_strsplit(committed, "\n", -1);
    g_auto(GStrv) new = g_strsplit(present, "\n", -1);
    unsigned i = 0;

    while (old[i] && new[i] && !strcmp(old[i], new[i]))
        i++;
    if (old[i] || new[i])
        fail_msg("the format of saved state changed, line %u: was \"%s\", is \"%s\"; see the head "
                 "of tests/unit/state_schema.c",
                 i + 1, old[i] ? old[i] : "", new[i] ? new[i] : "");
}

static void the_format_of_state_is_the_committed_one(void **state)
{
    g_autofree char *path = schema_path();
    g_autofree char *present = present_schema();
    g_autofree char *committed = NULL;

    assert_true(g_file_get_contents(path, &committed, NULL, NULL));
    assert_same_lines(committed, present);
}

/* A table must be able to hold what its fields say. */
static void assert_sound(const struct state_table *table)
{
    assert_in_range(table->version, 1, UINT32_MAX);
    for (unsigned i = 0; i < table->count; i++) {
        const struct state_field *field = &table->fields[i];
        bool number = field->type == STATE_UINT || field->type == STATE_INT;

        assert_true(!number || field->size == 1 || field->size == 2 || field->size == 4 ||
                    field->size == 8);
        assert_true(field->type != STATE_BOOL || field->size == sizeof(bool));
        assert_in_range(field->since, 0, table->version);
        assert_in_range(field->count, 1, UINT32_MAX);
        assert_true(field->offset + (size_t)field->size * field->count <= table->size);
        assert_true(field->type != STATE_STRUCT || field->table->size == field->size);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(field->name, table->fields[j].name);
        if (field->type == STATE_STRUCT)
            assert_sound(field->table);
    }
}

static void every_table_is_sound(void **state)
{
    assert_sound(&cpu_state_table);
    for (unsigned i = 0; device_kinds[i]; i++)
        if (device_kinds[i]->state)
            assert_sound(device_kinds[i]->state);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_format_of_state_is_the_committed_one),
        cmocka_unit_test(every_table_is_sound),
    };

    if (argc > 1 && !strcmp(argv[1], "--update")) {
        g_autofree char *path = schema_path();
        g_autofree char *present = present_schema();

        return !g_file_set_contents(path, present, -1, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
