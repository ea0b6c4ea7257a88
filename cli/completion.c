// SPDX-License-Identifier: Apache-2.0
/*
 * anima completion: a completion script for one of three shells.
 */
#include "cli/completion.h"

#include <string.h>

bool completion_wants_names(const struct command *command)
{
    return strstr(command->words, "NAME") && strcmp(command->name, "create") != 0 &&
           command->definition != CLI_NETWORK;
}

int command_completion(const struct command *command, int argc, char **argv)
{
    static const struct {
        const char *shell;
        void (*print)(void);
    } scripts[] = {
        {"bash", completion_print_bash},
        {"zsh", completion_print_zsh},
        {"fish", completion_print_fish},
    };
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);

    if (!words)
        return status;
    for (unsigned i = 0; i < G_N_ELEMENTS(scripts); i++) {
        if (strcmp(cli_word(words, 0), scripts[i].shell) != 0)
            continue;
        scripts[i].print();
        return CLI_GOOD;
    }
    return cli_fail(CLI_USAGE, "completion: only bash, zsh and fish are known, not '%s'",
                    cli_word(words, 0));
}
