// SPDX-License-Identifier: Apache-2.0
/*
 * anima delete: remove a machine's folder, after a question.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

const struct cli_flag delete_flags[] = {
    {"yes", NULL, "do not ask"},
    {0},
};

/* Whether the user says yes on this terminal. */
static bool confirmed(const char *name)
{
    char *folder = anima_definition_folder(name);
    char answer[16] = "";

    fprintf(stderr, "anima: delete the machine '%s', with all that is in %s? [y/N] ", name, folder);
    anima_free(folder);
    if (!fgets(answer, sizeof(answer), stdin))
        fputc('\n', stderr);
    return strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0;
}

int command_delete(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    const char *name;
    char *text;

    if (!words)
        return status;
    name = cli_word(words, 0);
    if (!cli_flag(words, "yes")) {
        /* What cannot be deleted is not worth a question. */
        text = anima_definition_read(name, &error);
        if (!text)
            return cli_fail_error(error);
        anima_free(text);
        if (!isatty(STDIN_FILENO))
            return cli_fail(CLI_USAGE, "there is no terminal to ask on; say --yes to delete '%s'",
                            name);
        if (!confirmed(name))
            return cli_fail(CLI_FAILED, "'%s' is left as it is", name);
    }
    return anima_definition_delete(name, &error) ? CLI_GOOD : cli_fail_error(error);
}
