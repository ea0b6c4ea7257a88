// SPDX-License-Identifier: Apache-2.0
/*
 * anima metrics: what the engine of a running machine counted, a line a counter: the sum, the
 * numbers of the vCPUs where there are several, and what it means.
 */
#include <stdio.h>

#include "cli/cli.h"

#define CALL_TIMEOUT_MS 10000
#define NAME_WIDTH      20
#define NUMBER_WIDTH    14

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

static void print_metrics(const json_t *result)
{
    json_t *counters = json_object_get(result, "counters"), *counter;
    const char *engine = json_string_value(json_object_get(result, "engine")), *name;

    printf("engine: %s\n", engine ? engine : "");
    print_head(counters);
    json_object_foreach(counters, name, counter) print_counter(name, counter);
}

int command_metrics(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    struct anima_machine *machine;
    json_t *result;
    char *text;

    if (!words)
        return status;
    machine = anima_machine_connect(cli_word(words, 0), &error);
    if (!machine)
        return cli_fail_error(error);
    text = anima_machine_call(machine, "metrics", NULL, -1, CALL_TIMEOUT_MS, &error);
    anima_machine_destroy(machine);
    if (!text)
        return cli_fail_error(error);
    result = json_loads(text, 0, NULL);
    if (cli_flag(words, "json"))
        printf("%s\n", text);
    else
        print_metrics(result);
    json_decref(result);
    anima_free(text);
    return CLI_GOOD;
}
