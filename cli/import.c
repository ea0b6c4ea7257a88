// SPDX-License-Identifier: Apache-2.0
/*
 * anima import: keep the machine of another hypervisor as one of ours.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static void tell_lost(const char *lost)
{
    g_auto(GStrv) lines = g_strsplit(lost, "\n", -1);

    for (char **line = lines; *line; line++)
        cli_fail(0, "not carried over: %s", *line);
}

/* From the command's words; NULL after a message. */
static struct anima_definition *define(const struct cli_words *words, int *status)
{
    struct anima_definition *definition = anima_definition_create();
    const char *name = cli_word(words, 1);
    struct anima_error *error = NULL;
    char *lost = anima_definition_import(definition, cli_word(words, 0), &error);
    bool good = lost;

    if (good && name)
        good = anima_definition_set(definition, "name", name, &error);
    if (good && cli_define(definition, words, status)) {
        good = cli_fill(definition, &error);
    } else if (good) {
        anima_free(lost);
        anima_definition_destroy(definition);
        return NULL;
    }
    if (good)
        tell_lost(lost);
    else
        *status = cli_fail_error(error);
    anima_free(lost);
    if (!good)
        g_clear_pointer(&definition, anima_definition_destroy);
    return definition;
}

int command_import(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_definition *definition = words ? define(words, &status) : NULL;
    struct anima_error *error = NULL;

    if (!definition)
        return status;
    status = anima_definition_keep(definition, &error) ? CLI_GOOD : cli_fail_error(error);
    anima_definition_destroy(definition);
    return status;
}
