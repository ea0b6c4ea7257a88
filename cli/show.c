// SPDX-License-Identifier: Apache-2.0
/*
 * anima show: a kept definition, as it was written or with all that follows from it; or that of a
 * running machine.
 */
#include <stdio.h>

#include "cli/cli.h"

#define CALL_TIMEOUT_MS 10000

const struct cli_flag show_flags[] = {
    {"all", NULL, "with the defaults of what it does not say"},
    {"running", NULL, "what the running machine is now, with ids and addresses of its devices"},
    {"json", NULL, "print JSON, with the defaults"},
    {0},
};

static bool load_running(struct anima_definition *definition, const char *name,
                         struct anima_error **error)
{
    struct anima_machine *machine = anima_machine_connect(name, error);
    bool good = machine && anima_machine_definition(machine, definition, CALL_TIMEOUT_MS, error);

    anima_machine_destroy(machine);
    return good;
}

/* What was not written comes from the schema, or from the machine; NULL and `error`. */
static char *show_effective(const char *name, bool running, bool as_json,
                            struct anima_error **error)
{
    struct anima_definition *definition = anima_definition_create();
    char *text = NULL;

    if (running ? load_running(definition, name, error)
                : anima_definition_load_named(definition, name, error))
        text =
            as_json ? anima_definition_json(definition) : anima_definition_yaml(definition, true);
    anima_definition_destroy(definition);
    return text;
}

int command_show(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    bool as_json, running;
    char *text;

    if (!words)
        return status;
    as_json = cli_flag(words, "json");
    running = cli_flag(words, "running");
    text = as_json || running || cli_flag(words, "all")
               ? show_effective(cli_word(words, 0), running, as_json, &error)
               : anima_definition_read(cli_word(words, 0), &error);
    if (!text)
        return cli_fail_error(error);
    fputs(text, stdout);
    if (*text && !g_str_has_suffix(text, "\n"))
        putchar('\n');
    anima_free(text);
    return CLI_GOOD;
}
