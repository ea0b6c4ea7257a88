// SPDX-License-Identifier: Apache-2.0
/*
 * anima attach and detach: disks and network cards of a machine that runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

#define ATTACH_TIMEOUT_MS 60000
#define DETACH_SECONDS    "60"

const struct cli_flag attach_flags[] = {
    {"temporary", NULL, "only in what runs, not in the machine's definition"},
    {"json", NULL, "print JSON"},
    {0},
};

const struct cli_flag detach_flags[] = {
    {"temporary", NULL, "only in what runs, not in the machine's definition"},
    {"timeout", "SECONDS", "how long the guest has to let go [" DETACH_SECONDS "]; 0: for ever"},
    {0},
};

static void print_attached(const char *text)
{
    json_t *result = json_loads(text, 0, NULL);
    const char *id = json_string_value(json_object_get(result, "id"));
    const char *address = json_string_value(json_object_get(result, "address"));

    printf("%s at %s\n", id ? id : "?", address ? address : "?");
    json_decref(result);
}

int command_attach(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    struct anima_machine *machine;
    char *result = NULL;

    if (!words)
        return status;
    machine = anima_machine_connect(cli_word(words, 0), &error);
    if (machine)
        result =
            anima_machine_attach_device(machine, cli_word(words, 1), cli_word(words, 2),
                                        cli_flag(words, "temporary"), ATTACH_TIMEOUT_MS, &error);
    anima_machine_destroy(machine);
    if (!result)
        return cli_fail_error(error);
    if (cli_flag(words, "json"))
        printf("%s\n", result);
    else
        print_attached(result);
    anima_free(result);
    return CLI_GOOD;
}

/* What the method is asked; NULL after a message. */
static char *detach_params(const cli_words *words)
{
    const char *text = cli_flag(words, "timeout");
    json_t *params = json_pack("{s:s}", "id", cli_word(words, 1));
    guint64 seconds;
    char *dumped;

    if (!params || !g_ascii_string_to_unsigned(text ? text : DETACH_SECONDS, 10, 0, G_MAXINT,
                                               &seconds, NULL)) {
        json_decref(params);
        cli_fail(CLI_USAGE, "--timeout: expected a number of seconds, not '%s'", text);
        return NULL;
    }
    if (seconds)
        json_object_set_new(params, "timeout", json_integer((json_int_t)seconds));
    dumped = json_dumps(params, JSON_COMPACT);
    json_decref(params);
    return dumped;
}

static bool detach(const cli_words *words, const char *params, struct anima_error **error)
{
    const char *name = cli_word(words, 0);
    struct anima_machine *machine = anima_machine_connect(name, error);
    char *result = NULL;
    bool good;

    if (machine)
        result = progress_call(machine, "device.detach", params, -1, error);
    anima_machine_destroy(machine);
    good = result;
    anima_free(result);
    return good && (cli_flag(words, "temporary") ||
                    anima_definition_drop_device(name, cli_word(words, 1), error));
}

int command_detach(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    char *params;

    if (!words)
        return status;
    params = detach_params(words);
    if (!params)
        return CLI_USAGE;
    status = detach(words, params, &error) ? CLI_GOOD : cli_fail_error(error);
    free(params);
    return status;
}
