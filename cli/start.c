// SPDX-License-Identifier: Apache-2.0
/*
 * anima start: start machines whose definitions are kept, in the background.
 */
#include <string.h>

#include "cli/cli.h"

/* 0 or the status of the failure, after a message. */
static int start(const char *name)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_start_named(name, &error);

    anima_machine_destroy(machine);
    return machine ? CLI_GOOD : cli_fail_machine(NULL, error);
}

int command_start(const struct command *command, int argc, char **argv)
{
    int status = CLI_GOOD;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);

    for (unsigned i = 0; words && cli_word(words, i); i++) {
        int one = start(cli_word(words, i));

        status = status ? status : one;
    }
    return status;
}
