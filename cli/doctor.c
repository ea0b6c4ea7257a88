// SPDX-License-Identifier: Apache-2.0
/*
 * anima doctor: what the library finds of this host, a line a check, and below it how to mend what
 * is amiss. Status 1 when that keeps machines from running.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/table.h"

#define NAME_WIDTH 15

/* How a level is shown; in colour on a terminal. */
static const struct {
    const char *level, *word, *colour;
} shown[] = {
    {"ok", "ok", "\033[32m"},
    {"note", "note", "\033[33m"},
    {"problem", "problem", "\033[31m"},
    {"stop", "problem", "\033[1;31m"},
};

static void print_level(const char *level)
{
    bool colours = terminal_colours();

    for (unsigned i = 0; i < G_N_ELEMENTS(shown); i++)
        if (strcmp(shown[i].level, level) == 0)
            printf("%s%-7s%s ", colours ? shown[i].colour : "", shown[i].word,
                   colours ? "\033[0m" : "");
}

static void print_check(const json_t *check)
{
    const char *remedy = json_string_value(json_object_get(check, "remedy"));

    print_level(json_string_value(json_object_get(check, "level")));
    printf("%-*s %s\n", NAME_WIDTH, json_string_value(json_object_get(check, "name")),
           json_string_value(json_object_get(check, "text")));
    if (remedy)
        printf("%*s to mend it: %s\n", NAME_WIDTH + 8, "", remedy);
}

int command_doctor(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    json_t *result;
    const json_t *check;
    char *text;
    size_t i;

    if (!words)
        return status;
    text = anima_doctor(&error);
    if (!text)
        return cli_fail_error(error);
    result = json_loads(text, 0, NULL);
    if (cli_flag(words, "json"))
        printf("%s\n", text);
    else
        json_array_foreach(json_object_get(result, "checks"), i, check) print_check(check);
    status = json_is_true(json_object_get(result, "runs")) ? CLI_GOOD : CLI_FAILED;
    json_decref(result);
    anima_free(text);
    return status;
}
