// SPDX-License-Identifier: Apache-2.0
/*
 * anima metrics: what the engine of a running machine counted, a line a counter: the sum, the
 * numbers of the vCPUs where there are several, and what it means.
 */
#include <stdio.h>

#include "cli/cli.h"

#define NAME_WIDTH   20
#define NUMBER_WIDTH 14

static void print_head(json_t *counters)
{
    const json_t *first = json_object_iter_value(json_object_iter(counters));
    size_t vcpus = json_array_size(json_object_get(first, "vcpus"));

    printf("%-*s %*s", NAME_WIDTH, "", NUMBER_WIDTH, "total");
    for (size_t i = 0; vcpus > 1 && i < vcpus; i++) {
        g_autofree char *title = g_strdup_printf("cpu %zu", i);

        printf(" %*s", NUMBER_WIDTH, title);
    }
    putchar('\n');
}

static void print_counter(const char *name, const json_t *counter)
{
    const json_t *vcpus = json_object_get(counter, "vcpus");
    const char *about = json_string_value(json_object_get(counter, "about"));

    printf("%-*s %*" JSON_INTEGER_FORMAT, NAME_WIDTH, name, NUMBER_WIDTH,
           json_integer_value(json_object_get(counter, "total")));
    for (size_t i = 0; json_array_size(vcpus) > 1 && i < json_array_size(vcpus); i++)
        printf(" %*" JSON_INTEGER_FORMAT, NUMBER_WIDTH,
               json_integer_value(json_array_get(vcpus, i)));
    printf("  %s\n", about ? about : "");
}

static void print_metrics(json_t *result)
{
    json_t *counters = json_object_get(result, "counters"), *counter;
    const char *engine = json_string_value(json_object_get(result, "engine")), *name;

    printf("engine: %s\n", engine ? engine : "");
    print_head(counters);
    json_object_foreach(counters, name, counter) print_counter(name, counter);
}

int command_metrics(const struct command *command, int argc, char **argv)
{
    return cli_show(command, argc, argv, "metrics", print_metrics);
}
