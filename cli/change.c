// SPDX-License-Identifier: Apache-2.0
/*
 * anima change: options of a machine that runs, or of one of its disks and network cards, in the
 * words of `anima edit`.
 */
#include <string.h>

#include "cli/cli.h"

const struct cli_flag change_flags[] = {
    {"temporary", NULL, "change what runs, and not its definition"},
    {0},
};

int command_change(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    const char *second = words ? cli_word(words, 1) : NULL;
    const char *id = second && !strchr(second, '=') ? second : NULL;
    struct anima_error *error = NULL;
    struct anima_machine *machine;
    bool good;

    if (!words)
        return status;
    if (id && words->plain->len == 2)
        return cli_fail(CLI_USAGE, "%s: say what changes: MEMBER=VALUE", id);
    g_ptr_array_add(words->plain, NULL);
    machine = anima_machine_connect(cli_word(words, 0), &error);
    good = machine &&
           anima_machine_change(machine, id, (const char *const *)&words->plain->pdata[id ? 2 : 1],
                                cli_flag(words, "temporary"), &error);
    anima_machine_destroy(machine);
    return good ? CLI_GOOD : cli_fail_error(error);
}
