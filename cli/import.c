// SPDX-License-Identifier: Apache-2.0
/*
 * anima import: keep the machine of another hypervisor as one of ours. anima export: write one of
 * ours as a package.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

const struct cli_flag import_flags[] = {
    {"keep-mac", NULL, "keep the addresses of network cards under another name"},
    {0},
};

static void tell_lost(const char *lost)
{
    g_auto(GStrv) lines = g_strsplit(lost, "\n", -1);

    for (char **line = lines; *line; line++)
        cli_fail(0, "not carried over: %s", *line);
}

/* The same out of the result of a call, which is freed. */
static void tell_result(char *result)
{
    json_t *object = json_loads(result, 0, NULL), *line;
    size_t i;

    json_array_foreach(json_object_get(object, "lost"), i, line)
        cli_fail(0, "not carried over: %s", json_string_value(line));
    json_decref(object);
    anima_free(result);
}

/* ---- packages ---- */

static bool has_suffix(const char *path, const char *suffix)
{
    size_t length = strlen(path), end = strlen(suffix);

    return length > end && g_ascii_strcasecmp(path + length - end, suffix) == 0;
}

/* What the guest brings no drivers for, if it is known what it is. */
static void tell_gaps(const char *result)
{
    struct anima_definition *definition = anima_definition_create();
    json_t *object = json_loads(result, 0, NULL);
    const char *name = json_string_value(json_object_get(object, "name"));

    if (name && anima_definition_load_named(definition, name, NULL))
        cli_fill(definition, NULL);
    anima_definition_destroy(definition);
    json_decref(object);
}

static int import_package(const struct cli_words *words)
{
    g_autoptr(GPtrArray) settings = g_ptr_array_new_with_free_func(g_free);
    struct anima_definition *scratch = anima_definition_create();
    struct anima_error *error = NULL;
    int status;
    bool good = cli_define(scratch, words, &status);
    char *result;

    anima_definition_destroy(scratch);
    if (!good)
        return status;
    if (cli_word(words, 1))
        g_ptr_array_add(settings, g_strconcat("name=", cli_word(words, 1), NULL));
    for (unsigned i = 0; i < words->settings->len; i += 2)
        g_ptr_array_add(settings, g_strconcat(words->settings->pdata[i], "=",
                                              words->settings->pdata[i + 1], NULL));
    g_ptr_array_add(settings, NULL);
    result =
        progress_await(anima_import_begin(cli_word(words, 0), (const char *const *)settings->pdata,
                                          cli_flag(words, "keep-mac"), &error),
                       &error);
    if (!result)
        return cli_fail_error(error);
    tell_gaps(result);
    tell_result(result);
    return CLI_GOOD;
}

int command_export(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    char *result;

    if (!words)
        return status;
    result =
        progress_await(anima_export_begin(cli_word(words, 0), cli_word(words, 1), &error), &error);
    if (!result)
        return cli_fail_error(error);
    tell_result(result);
    return CLI_GOOD;
}

/* ---- descriptions ---- */

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
    struct anima_definition *definition;
    struct anima_error *error = NULL;

    if (!words)
        return status;
    if (has_suffix(cli_word(words, 0), ".ova") || has_suffix(cli_word(words, 0), ".ovf"))
        return import_package(words);
    definition = define(words, &status);
    if (!definition)
        return status;
    status = anima_definition_keep(definition, &error) ? CLI_GOOD : cli_fail_error(error);
    anima_definition_destroy(definition);
    return status;
}
