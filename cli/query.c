// SPDX-License-Identifier: Apache-2.0
/*
 * anima query: how a running machine is, as "key: value" lines or JSON.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

#define CALL_TIMEOUT_MS 10000

/* One line a value; objects inside indent by two. */
static void print_object(json_t *object, unsigned indent)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        printf("%*s%s:", indent, "", key);
        if (json_is_object(value)) {
            putchar('\n');
            print_object(value, indent + 2);
            continue;
        }
        if (json_is_string(value)) {
            printf(" %s\n", json_string_value(value));
        } else {
            putchar(' ');
            json_dumpf(value, stdout, JSON_ENCODE_ANY);
            putchar('\n');
        }
    }
}

int command_query(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    struct anima_machine *machine;
    json_t *object;
    char *text;

    if (!words)
        return status;
    machine = anima_machine_connect(cli_word(words, 0), &error);
    if (!machine)
        return cli_fail_error(error);
    text = anima_machine_call(machine, "query", NULL, -1, CALL_TIMEOUT_MS, &error);
    anima_machine_destroy(machine);
    if (!text)
        return cli_fail_error(error);
    object = json_loads(text, 0, NULL);
    if (cli_flag(words, "json"))
        printf("%s\n", text);
    else
        print_object(object, 0);
    json_decref(object);
    anima_free(text);
    return CLI_GOOD;
}
