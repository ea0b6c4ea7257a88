// SPDX-License-Identifier: Apache-2.0
/*
 * The commands that call one method of a running machine.
 */
#include <stdio.h>

#include "cli/cli.h"

#define CALL_TIMEOUT_MS 10000

/* Call `method` of the machine that the command names. The result, to be freed by anima_free, or
 * NULL: what the command ends with is in `status` then. */
static char *call(const cli_words *words, const char *method, int *status)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_connect(cli_word(words, 0), &error);
    char *result = NULL;

    if (machine)
        result = anima_machine_call(machine, method, NULL, -1, CALL_TIMEOUT_MS, &error);
    anima_machine_destroy(machine);
    *status = result ? CLI_GOOD : cli_fail_error(error);
    return result;
}

int cli_call(const struct command *command, int argc, char **argv, const char *method)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);

    if (words)
        anima_free(call(words, method, &status));
    return status;
}

int cli_show(const struct command *command, int argc, char **argv, const char *method,
             void (*print)(json_t *result))
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    char *text = words ? call(words, method, &status) : NULL;

    if (!text)
        return status;
    if (cli_flag(words, "json")) {
        printf("%s\n", text);
    } else {
        json_t *result = json_loads(text, 0, NULL);

        print(result);
        json_decref(result);
    }
    anima_free(text);
    return status;
}
