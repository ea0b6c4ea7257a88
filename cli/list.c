// SPDX-License-Identifier: Apache-2.0
/*
 * anima list: the machines of this user, defined or running.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/table.h"

const struct cli_flag list_flags[] = {
    {"running", NULL, "only those that run"},
    {"names", NULL, "print only names, one a line"},
    {"json", NULL, "print JSON"},
    {0},
};

static const struct table_column columns[] = {
    {"NAME", false},
    {"STATE", false},
    {"ENGINE", false},
    {"CPUS", true},
    {"MEMORY", true},
    {"PID", true},
    {0},
};

/* The number in units of `unit`, or a dash. */
static char *number_of(const json_t *machine, const char *key, json_int_t unit, const char *suffix)
{
    const json_t *number = json_object_get(machine, key);

    if (!number)
        return g_strdup("-");
    return g_strdup_printf("%" JSON_INTEGER_FORMAT "%s", json_integer_value(number) / unit, suffix);
}

static void print_table(json_t *machines)
{
    struct table *table = table_create(columns);
    json_t *machine;
    size_t i;

    json_array_foreach(machines, i, machine)
    {
        table_add(table, g_strdup(table_text(machine, "name")));
        table_add(table, g_strdup(table_text(machine, "state")));
        table_add(table, g_strdup(table_text(machine, "engine")));
        table_add(table, number_of(machine, "cpus", 1, ""));
        table_add(table, number_of(machine, "memory", 1 << 20, "M"));
        table_add(table, number_of(machine, "pid", 1, ""));
    }
    table_print(table, terminal_width());
    table_destroy(table);
    json_array_foreach(machines, i, machine) if (json_object_get(machine, "problem"))
        cli_fail(0, "%s", table_text(machine, "problem"));
}

static void print_names(json_t *machines)
{
    json_t *machine;
    size_t i;

    json_array_foreach(machines, i, machine) printf("%s\n", table_text(machine, "name"));
}

static bool runs(const json_t *machine)
{
    const char *state = table_text(machine, "state");
    return strcmp(state, "off") != 0 && strcmp(state, "faulty") != 0;
}

static void drop_others(json_t *machines)
{
    for (size_t i = json_array_size(machines); i-- > 0;)
        if (!runs(json_array_get(machines, i)))
            json_array_remove(machines, i);
}

int command_list(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    json_t *machines;
    char *text;

    if (!words)
        return status;
    text = anima_inventory(&error);
    if (!text)
        return cli_fail_error(error);
    machines = json_loads(text, 0, NULL);
    anima_free(text);
    if (cli_flag(words, "running"))
        drop_others(machines);
    if (cli_flag(words, "json")) {
        json_dumpf(machines, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (cli_flag(words, "names")) {
        print_names(machines);
    } else {
        print_table(machines);
    }
    json_decref(machines);
    return CLI_GOOD;
}
