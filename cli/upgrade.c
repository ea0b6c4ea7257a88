// SPDX-License-Identifier: Apache-2.0
/*
 * anima upgrade: put the installed VMM in the place of the one that runs, under the guest's feet.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

const struct cli_flag upgrade_flags[] = {
    {"engine", "kvm|soft", "go on with this engine"},
    {"all", NULL, "every running machine of this user"},
    {"json", NULL, "print JSON"},
    {0},
};

static void print_json(const char *name, json_t *result)
{
    json_object_set_new(result, "name", json_string(name));
    char *text = json_dumps(result, JSON_COMPACT);

    printf("%s\n", text ? text : "");
    free(text);
}

static void print_result(const char *name, const json_t *result)
{
    const char *before = json_string_value(json_object_get(result, "engine_before"));
    const char *after = json_string_value(json_object_get(result, "engine"));
    double downtime_ms = json_integer_value(json_object_get(result, "downtime_ns")) / 1e6;

    printf("%s: upgraded ", name);
    if (json_is_true(json_object_get(result, "running")))
        printf("in %.*f ms of downtime", downtime_ms < 10 ? 1 : 0, downtime_ms);
    else
        printf("while paused");
    if (before && after && strcmp(before, after) != 0)
        printf(" (engine %s to %s)\n", before, after);
    else
        printf(" (engine %s)\n", after ? after : "unknown");
}

static int upgrade(const struct cli_words *words, const char *name)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_connect(name, &error);
    const char *engine = cli_flag(words, "engine");
    g_autofree char *params = engine ? g_strdup_printf("{\"engine\": \"%s\"}", engine) : NULL;
    char *text;

    if (!machine)
        return cli_fail_error(error);
    text = progress_call(machine, "upgrade", params, -1, &error);
    anima_machine_destroy(machine);
    if (!text)
        return cli_fail_machine(name, error);
    json_t *result = json_loads(text, 0, NULL);
    if (cli_flag(words, "json"))
        print_json(name, result);
    else
        print_result(name, result);
    json_decref(result);
    anima_free(text);
    return CLI_GOOD;
}

/* One after another; goes on after a failure, and tells it in the end, but not after Ctrl-C. */
static int upgrade_all(const struct cli_words *words)
{
    struct anima_error *error = NULL;
    char *text = anima_machine_list(&error);
    json_t *names = text ? json_loads(text, 0, NULL) : NULL;
    int status = text ? CLI_GOOD : cli_fail_error(error);
    size_t index;
    json_t *name;

    json_array_foreach(names, index, name)
    {
        int one = upgrade(words, json_string_value(name));

        if (one != CLI_GOOD)
            status = one;
        if (progress_interrupted())
            break;
    }
    json_decref(names);
    anima_free(text);
    return status;
}

int command_upgrade(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    const char *engine;
    bool all;

    if (!words)
        return status;
    engine = cli_flag(words, "engine");
    all = cli_flag(words, "all") != NULL;
    if (all == (words->plain->len == 1))
        return cli_fail(CLI_USAGE, "usage: anima upgrade NAME, or anima upgrade --all");
    if (engine && strcmp(engine, "kvm") != 0 && strcmp(engine, "soft") != 0)
        return cli_fail(CLI_USAGE, "--engine: expected kvm or soft, not '%s'", engine);
    return all ? upgrade_all(words) : upgrade(words, cli_word(words, 0));
}
