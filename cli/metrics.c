// SPDX-License-Identifier: Apache-2.0
/*
 * anima metrics: what the engine of a running machine counted, a line a counter: the sum, the
 * numbers of the vCPUs where there are several, and what it means; or for Prometheus.
 */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/prometheus.h"

#define NAME_WIDTH   20
#define NUMBER_WIDTH 14

const struct cli_flag metrics_flags[] = {
    {"json", NULL, "print JSON"},
    {"prometheus", NULL, "print the text format of Prometheus; of all machines, without a name"},
    {0},
};

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

/* The machines' names: the one that was said, or all that run. */
static json_t *machines_of(const cli_words *words, struct anima_error **error)
{
    char *text = cli_word(words, 0) ? NULL : anima_machine_list(error);
    json_t *names = text ? json_loads(text, 0, NULL) : NULL;

    if (cli_word(words, 0))
        names = json_pack("[s]", cli_word(words, 0));
    anima_free(text);
    return names;
}

/* A machine of all that has ended meanwhile, or does not answer, is left out. */
static int print_prometheus(const cli_words *words)
{
    struct anima_error *error = NULL;
    json_t *names = machines_of(words, &error), *name;
    struct prometheus *prometheus;
    int status = CLI_GOOD;
    size_t i;

    if (!names)
        return cli_fail_error(error);
    prometheus = prometheus_create();
    json_array_foreach(names, i, name)
    {
        if (prometheus_add(prometheus, json_string_value(name), &error))
            continue;
        if (cli_word(words, 0))
            status = cli_fail_error(error);
        else
            anima_error_free(error);
        error = NULL;
    }
    prometheus_print(prometheus);
    prometheus_destroy(prometheus);
    json_decref(names);
    return status;
}

int command_metrics(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);

    if (!words)
        return status;
    if (cli_flag(words, "prometheus"))
        return print_prometheus(words);
    if (!cli_word(words, 0))
        return cli_fail(CLI_USAGE, "usage: anima metrics NAME, or anima metrics --prometheus");
    return cli_show(command, argc, argv, "metrics", print_metrics);
}
