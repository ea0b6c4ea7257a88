// SPDX-License-Identifier: Apache-2.0
/*
 * anima start: start machines whose definitions are kept, in the background; by name, or those that
 * start with the host, in their order.
 */
#include <string.h>

#include "cli/cli.h"
#include "cli/order.h"
#include "cli/progress.h"

const struct cli_flag start_flags[] = {
    {"autostart", NULL, "those that start with the host, in their order"},
    {0},
};

/* Whether the message names the machine: as it is, or as the place of a file. */
static bool tells_which(const char *message, const char *name)
{
    g_autofree char *quoted = g_strdup_printf("'%s'", name);

    return *message == '/' || strstr(message, quoted) ||
           (g_str_has_prefix(message, name) && g_str_has_prefix(message + strlen(name), ": "));
}

/* 0 or the status of the failure, after a message. */
static int start(const char *name)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_start_named_begin(name, &error);
    bool good = machine && progress_start(machine, &error);

    anima_machine_destroy(machine);
    if (good)
        return CLI_GOOD;
    if (!error)
        return cli_fail(CLI_FAILED, "%s: given up; it is not running", name);
    return cli_fail_machine(tells_which(error->message, name) ? NULL : name, error);
}

/* One that cannot be started does not keep the others from it. */
static int start_in_order(void)
{
    int status = CLI_GOOD;
    json_t *machines = order_machines(&status), *machine;
    json_int_t delay = 0;
    size_t i;

    json_array_foreach(machines, i, machine)
    {
        const char *problem = json_string_value(json_object_get(machine, "problem"));
        int one;

        /* Nobody knows whether a faulty one is to start. */
        if (problem)
            status = cli_fail(CLI_FAILED, "%s", problem);
        if (!json_is_true(json_object_get(machine, "autostart")) || order_is_up(machine))
            continue;
        g_usleep(delay * G_USEC_PER_SEC);
        one = start(json_string_value(json_object_get(machine, "name")));
        delay = one ? 0 : order_number(machine, "start_delay", 0);
        status = status ? status : one;
    }
    json_decref(machines);
    return status;
}

int command_start(const struct command *command, int argc, char **argv)
{
    int status = CLI_GOOD;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);

    if (!words)
        return status;
    if (!cli_word(words, 0) == !cli_flag(words, "autostart"))
        return cli_fail(CLI_USAGE, "start: name machines, or say --autostart");
    if (cli_flag(words, "autostart"))
        return start_in_order();
    for (unsigned i = 0; cli_word(words, i); i++) {
        int one = start(cli_word(words, i));

        status = status ? status : one;
    }
    return status;
}
