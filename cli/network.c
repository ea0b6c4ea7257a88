// SPDX-License-Identifier: Apache-2.0
/*
 * anima network: the networks that machines share. Its first word says what is done.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/table.h"

const struct cli_flag network_flags[] = {
    {"json", NULL, "print JSON (list, show)"},
    {"names", NULL, "print only names, one a line (list)"},
    {"temporary", NULL, "change only what runs (forward)"},
    {"yes", NULL, "even if machines are defined to be on it (delete)"},
    {0},
};

static const struct table_column columns[] = {
    {"NAME", false}, {"STATE", false}, {"KIND", false}, {"SUBNET", false}, {"PORTS", true}, {0},
};

static int usage(const char *words)
{
    return cli_fail(CLI_USAGE, "usage: anima network %s", words);
}

/* ---- create ---- */

static int create(const struct cli_words *words)
{
    g_autoptr(GPtrArray) settings = g_ptr_array_new();
    struct anima_error *error = NULL;

    if (words->plain->len != 2)
        return usage("create NAME [options]");
    for (unsigned i = 0; i < words->settings->len; i++)
        g_ptr_array_add(settings, words->settings->pdata[i]);
    g_ptr_array_add(settings, NULL);
    return anima_network_create(cli_word(words, 1), (const char *const *)settings->pdata, &error)
               ? CLI_GOOD
               : cli_fail_error(error);
}

/* ---- list ---- */

static void add_row(struct table *table, const json_t *network)
{
    const json_t *ports = json_object_get(network, "ports");
    const char *subnet = table_text(network, "subnet");

    table_add(table, g_strdup(table_text(network, "name")));
    table_add(table, g_strdup(table_text(network, "state")));
    table_add(table, g_strdup(table_text(network, "kind")));
    table_add(table,
              g_strdup(json_object_get(network, "interface") ? table_text(network, "interface")
                                                             : subnet));
    table_add(table, ports ? g_strdup_printf("%zu", json_array_size(ports)) : g_strdup("-"));
}

static void print_table(const json_t *networks)
{
    struct table *table = table_create(columns);
    const json_t *network;
    size_t i;

    json_array_foreach(networks, i, network) add_row(table, network);
    table_print(table, terminal_width());
    table_destroy(table);
    json_array_foreach(networks, i, network) if (json_object_get(network, "problem"))
        cli_fail(0, "%s", table_text(network, "problem"));
}

static void print_names(const json_t *networks)
{
    const json_t *network;
    size_t i;

    json_array_foreach(networks, i, network) printf("%s\n", table_text(network, "name"));
}

static int list(const struct cli_words *words)
{
    struct anima_error *error = NULL;
    json_t *networks;
    char *text;

    if (words->plain->len != 1)
        return usage("list [--json] [--names]");
    text = anima_network_list(&error);
    if (!text)
        return cli_fail_error(error);
    networks = json_loads(text, 0, NULL);
    if (cli_flag(words, "json"))
        printf("%s\n", text);
    else if (cli_flag(words, "names"))
        print_names(networks);
    else
        print_table(networks);
    json_decref(networks);
    anima_free(text);
    return CLI_GOOD;
}

/* ---- show ---- */

static void print_forwards(const json_t *forwards)
{
    const json_t *forward;
    size_t i;

    json_array_foreach(forwards, i, forward) printf("forward   %s\n", json_string_value(forward));
}

/* What runs: who is on it, and where. */
static void print_running(const json_t *network)
{
    const json_t *port;
    size_t i;

    json_array_foreach(json_object_get(network, "ports"), i, port)
        printf("port      %s %s %s %s\n", table_text(port, "machine"), table_text(port, "nic"),
               table_text(port, "mac"), table_text(port, "address"));
}

static int show(const struct cli_words *words)
{
    static const char *const keys[] = {"name", "state", "kind", "subnet", "interface", "domain"};
    struct anima_error *error = NULL;
    json_t *network;
    char *text;

    if (words->plain->len != 2)
        return usage("show NAME [--json]");
    text = anima_network_show(cli_word(words, 1), &error);
    if (!text)
        return cli_fail_error(error);
    if (cli_flag(words, "json")) {
        printf("%s\n", text);
        anima_free(text);
        return CLI_GOOD;
    }
    network = json_loads(text, 0, NULL);
    anima_free(text);
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (json_object_get(network, keys[i]))
            printf("%-9s %s\n", keys[i], table_text(network, keys[i]));
    print_forwards(
        json_object_get(network, json_object_get(network, "forwards") ? "forwards" : "forward"));
    print_running(network);
    if (json_object_get(network, "problem"))
        cli_fail(0, "%s", table_text(network, "problem"));
    json_decref(network);
    return CLI_GOOD;
}

/* ---- edit, forward ---- */

static int edit(const struct cli_words *words)
{
    g_autoptr(GPtrArray) changes = g_ptr_array_new();
    struct anima_error *error = NULL;

    if (words->plain->len < 3)
        return usage("edit NAME OPTION=VALUE ...");
    for (unsigned i = 2; i < words->plain->len; i++)
        g_ptr_array_add(changes, words->plain->pdata[i]);
    g_ptr_array_add(changes, NULL);
    return anima_network_change(cli_word(words, 1), (const char *const *)changes->pdata, &error)
               ? CLI_GOOD
               : cli_fail_error(error);
}

static int forward(const struct cli_words *words)
{
    struct anima_error *error = NULL;
    const char *what = cli_word(words, 2);
    bool add = what && strcmp(what, "add") == 0;

    if (words->plain->len != 4 || (!add && strcmp(what, "remove") != 0))
        return usage("forward NAME add|remove FORWARD [--temporary]");
    return anima_network_forward(cli_word(words, 1), add, cli_word(words, 3),
                                 cli_flag(words, "temporary"), &error)
               ? CLI_GOOD
               : cli_fail_error(error);
}

/* ---- delete ---- */

/* The machines that are defined to be on it, as words; "" when there are none. NULL and `error`. */
static char *users_of(const char *name, struct anima_error **error)
{
    char *text = anima_network_machines(name, error);
    GString *users = g_string_new(NULL);
    json_t *machines, *machine;
    size_t i;

    if (!text)
        return g_string_free(users, TRUE);
    machines = json_loads(text, 0, NULL);
    anima_free(text);
    json_array_foreach(machines, i, machine)
        g_string_append_printf(users, "%s%s", i ? ", " : "", json_string_value(machine));
    json_decref(machines);
    return g_string_free(users, FALSE);
}

static int delete_one(const struct cli_words *words)
{
    const char *name = cli_word(words, 1);
    struct anima_error *error = NULL;
    g_autofree char *users = NULL;

    if (words->plain->len != 2)
        return usage("delete NAME [--yes]");
    if (!cli_flag(words, "yes")) {
        users = users_of(name, &error);
        if (!users)
            return cli_fail_error(error);
        if (*users)
            return cli_fail(CLI_FAILED,
                            "%s: machines are defined to be on it: %s; plug them elsewhere, or say "
                            "--yes",
                            name, users);
    }
    return anima_network_delete(name, &error) ? CLI_GOOD : cli_fail_error(error);
}

/* ---- all ---- */

static const struct action {
    const char *name;
    int (*run)(const struct cli_words *words);
} actions[] = {
    {"create", create}, {"list", list},         {"show", show},
    {"edit", edit},     {"delete", delete_one}, {"forward", forward},
};

int command_network(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);

    if (!words)
        return status;
    if (words->settings->len && strcmp(cli_word(words, 0), "create") != 0)
        return cli_fail(CLI_USAGE, "--%s: only 'anima network create' takes this option",
                        (const char *)words->settings->pdata[0]);
    for (unsigned i = 0; i < G_N_ELEMENTS(actions); i++)
        if (strcmp(cli_word(words, 0), actions[i].name) == 0)
            return actions[i].run(words);
    return usage("create|list|show|edit|delete|forward [NAME] ...");
}
