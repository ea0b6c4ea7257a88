// SPDX-License-Identifier: Apache-2.0
/*
 * anima create: keep a definition under a name.
 */
#include <string.h>

#include "cli/cli.h"

/* From the command's words; NULL after a message. */
static struct anima_definition *define(const struct cli_words *words, int *status)
{
    struct anima_definition *definition = anima_definition_create();
    const char *file = cli_word(words, 1);
    struct anima_error *error = NULL;

    if (file && !anima_definition_load(definition, file, &error))
        *status = cli_fail_error(error);
    else if (cli_define(definition, words, status)) {
        if (anima_definition_set(definition, "name", cli_word(words, 0), &error) &&
            cli_fill(definition, &error))
            return definition;
        *status = cli_fail_error(error);
    }
    anima_definition_destroy(definition);
    return NULL;
}

int command_create(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_definition *definition;
    struct anima_error *error = NULL;

    if (!words)
        return status;
    if (cli_setting(words, "name"))
        return cli_fail(CLI_USAGE, "--name: the machine's name is the first word");
    definition = define(words, &status);
    if (!definition)
        return status;
    status = anima_definition_keep(definition, &error) ? CLI_GOOD : cli_fail_error(error);
    anima_definition_destroy(definition);
    return status;
}
