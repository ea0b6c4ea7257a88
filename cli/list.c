// SPDX-License-Identifier: Apache-2.0
/*
 * anima list: the running machines of this user.
 */
#include <stdio.h>

#include "cli/cli.h"

#define CALL_TIMEOUT_MS 2000

/* What a machine says of itself; NULL when it has gone or does not answer. */
static json_t *query(const char *name)
{
    struct anima_machine *machine = anima_machine_connect(name, NULL);
    char *text = NULL;
    json_t *status;

    if (machine)
        text = anima_machine_call(machine, "query", NULL, -1, CALL_TIMEOUT_MS, NULL);
    status = text ? json_loads(text, 0, NULL) : NULL;
    anima_free(text);
    anima_machine_destroy(machine);
    return status;
}

static void print_line(const json_t *machine)
{
    json_t *state = json_object_get(machine, "state"), *engine = json_object_get(machine, "engine");

    printf("%-24s %-10s %-6s %4lld CPU %8lld MiB %8lld\n",
           json_string_value(json_object_get(machine, "name")),
           state ? json_string_value(state) : "silent", engine ? json_string_value(engine) : "-",
           json_integer_value(json_object_get(machine, "cpus")),
           json_integer_value(json_object_get(machine, "memory")) >> 20,
           json_integer_value(json_object_get(machine, "pid")));
}

static void print_machines(json_t *machines, bool as_json)
{
    size_t i;
    json_t *machine;

    if (as_json) {
        json_dumpf(machines, stdout, JSON_INDENT(2));
        putchar('\n');
        return;
    }
    json_array_foreach(machines, i, machine) print_line(machine);
}

int command_list(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    json_t *names, *machines, *name;
    char *text;
    size_t i;

    if (!words)
        return status;
    text = anima_machine_list(&error);
    if (!text)
        return cli_fail_error(error);
    names = json_loads(text, 0, NULL);
    machines = json_array();
    json_array_foreach(names, i, name)
    {
        json_t *machine = query(json_string_value(name));

        if (!machine)
            machine = json_pack("{s:O}", "name", name);
        json_array_append_new(machines, machine);
    }
    print_machines(machines, cli_flag(words, "json"));
    json_decref(machines);
    json_decref(names);
    anima_free(text);
    return CLI_GOOD;
}
