// SPDX-License-Identifier: Apache-2.0
/*
 * The commands that call one method of a running machine.
 */
#include "cli/cli.h"

#define CALL_TIMEOUT_MS 10000

int cli_call(const struct command *command, int argc, char **argv, const char *method)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    struct anima_machine *machine;
    char *result;

    if (!words)
        return status;
    machine = anima_machine_connect(cli_word(words, 0), &error);
    if (!machine)
        return cli_fail_error(error);
    result = anima_machine_call(machine, method, NULL, -1, CALL_TIMEOUT_MS, &error);
    anima_machine_destroy(machine);
    anima_free(result);
    return result ? CLI_GOOD : cli_fail_error(error);
}
