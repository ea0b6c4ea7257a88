// SPDX-License-Identifier: Apache-2.0
/*
 * anima query: how a running machine is, as "key: value" lines or JSON.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* What a list has, "- key=value key=value" each. */
static void print_list(json_t *list)
{
    size_t i;
    json_t *entry, *value;
    const char *key;

    json_array_foreach(list, i, entry)
    {
        printf("  -");
        json_object_foreach(entry, key, value)
        {
            printf(" %s=", key);
            if (json_is_string(value))
                printf("%s", json_string_value(value));
            else
                json_dumpf(value, stdout, JSON_ENCODE_ANY);
        }
        putchar('\n');
    }
}

/* One line a value; objects inside indent by two. What is empty is left out. */
static void print_object(json_t *object, unsigned indent)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        if ((json_is_object(value) || json_is_array(value)) && !json_object_size(value) &&
            !json_array_size(value))
            continue;
        printf("%*s%s:", indent, "", key);
        if (json_is_object(value)) {
            putchar('\n');
            print_object(value, indent + 2);
            continue;
        }
        if (json_is_object(json_array_get(value, 0))) {
            putchar('\n');
            print_list(value);
        } else if (json_is_string(value)) {
            printf(" %s\n", json_string_value(value));
        } else {
            putchar(' ');
            json_dumpf(value, stdout, JSON_ENCODE_ANY);
            putchar('\n');
        }
    }
}

static void print_result(json_t *result)
{
    print_object(result, 0);
}

int command_query(const struct command *command, int argc, char **argv)
{
    return cli_show(command, argc, argv, "query", print_result);
}
