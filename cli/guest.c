// SPDX-License-Identifier: Apache-2.0
/*
 * anima guest: what the guest's agent is asked for. A command that runs there writes here what it
 * wrote there, and its status is ours.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

#define FREEZE_SECONDS "60"
#define STATUS_SIGNAL  128 /* of a command that a signal ended, as shells have it */

const struct cli_flag guest_flags[] = {
    {"timeout", "SECONDS", "exec: kill it then; freeze: thaw then [" FREEZE_SECONDS "]"},
    {"input", "FILE", "exec: what the command reads; - is standard input"},
    {"env", "NAME=VALUE,..", "exec: its whole environment"},
    {"reboot", NULL, "shutdown: start again"},
    {"halt", NULL, "shutdown: but leave the power on"},
    {"json", NULL, "print JSON"},
    {0},
};

/* ---- parameters ---- */

/* False after a message. */
static bool add_timeout(const cli_words *words, json_t *params, const char *preset)
{
    const char *text = cli_flag(words, "timeout");
    guint64 seconds;

    if (!text && !preset)
        return true;
    if (!g_ascii_string_to_unsigned(text ? text : preset, 10, 1, G_MAXINT, &seconds, NULL))
        return cli_fail(false, "--timeout: expected a number of seconds, not '%s'", text);
    json_object_set_new(params, "timeout", json_integer((json_int_t)seconds));
    return true;
}

static bool add_input(const cli_words *words, json_t *params)
{
    const char *path = cli_flag(words, "input");
    g_autofree char *content = NULL, *encoded = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;

    if (!path)
        return true;
    if (!g_file_get_contents(strcmp(path, "-") == 0 ? "/dev/stdin" : path, &content, &size, &error))
        return cli_fail(false, "--input: %s", error->message);
    encoded = g_base64_encode((const guchar *)content, size);
    json_object_set_new(params, "input", json_string(encoded));
    return true;
}

static void add_environment(const cli_words *words, json_t *params)
{
    const char *text = cli_flag(words, "env");
    g_auto(GStrv) entries = text ? g_strsplit(text, ",", -1) : NULL;
    json_t *list = json_array();

    for (char **entry = entries; entry && *entry; entry++)
        json_array_append_new(list, json_string(*entry));
    if (entries)
        json_object_set(params, "env", list);
    json_decref(list);
}

static int no_params(const cli_words *words, json_t *params)
{
    return CLI_GOOD;
}

static int exec_params(const cli_words *words, json_t *params)
{
    json_t *argv = json_array();

    for (unsigned i = 2; cli_word(words, i); i++)
        json_array_append_new(argv, json_string(cli_word(words, i)));
    json_object_set_new(params, "argv", argv);
    if (!json_array_size(argv))
        return cli_fail(CLI_USAGE, "usage: anima guest NAME exec -- COMMAND [ARGUMENTS]");
    add_environment(words, params);
    if (!add_timeout(words, params, NULL))
        return CLI_USAGE;
    return add_input(words, params) ? CLI_GOOD : CLI_FAILED;
}

static int freeze_params(const cli_words *words, json_t *params)
{
    return add_timeout(words, params, FREEZE_SECONDS) ? CLI_GOOD : CLI_USAGE;
}

static int shutdown_params(const cli_words *words, json_t *params)
{
    bool reboot = cli_flag(words, "reboot"), halt = cli_flag(words, "halt");

    if (reboot && halt)
        return cli_fail(CLI_USAGE, "shutdown: either --reboot or --halt");
    json_object_set_new(params, "mode",
                        json_string(reboot ? "reboot"
                                    : halt ? "halt"
                                           : "powerdown"));
    return CLI_GOOD;
}

/* ---- what is printed ---- */

static void print_member(const json_t *object, const char *key, const char *title)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (text)
        printf("%s: %s\n", title, text);
}

static int print_info(const json_t *result)
{
    const json_t *os = json_object_get(result, "os");
    const char *pretty = json_object_get(os, "pretty_name") ? "pretty_name" : "name";

    print_member(result, "hostname", "hostname");
    print_member(os, pretty, "system");
    print_member(os, "kernel_release", "kernel");
    print_member(result, "agent", "agent");
    if (json_is_true(json_object_get(result, "frozen")))
        printf("its file systems are frozen\n");
    return CLI_GOOD;
}

static int print_addresses(const json_t *result)
{
    const json_t *interface, *address;
    size_t i, j;

    json_array_foreach(json_object_get(result, "interfaces"), i, interface)
    {
        const json_t *addresses = json_object_get(interface, "addresses");
        const char *mac = json_string_value(json_object_get(interface, "mac"));

        printf("%s%s%s\n", json_string_value(json_object_get(interface, "name")), mac ? " " : "",
               mac ? mac : "");
        json_array_foreach(addresses, j, address)
            printf("  %s/%" JSON_INTEGER_FORMAT "\n",
                   json_string_value(json_object_get(address, "address")),
                   json_integer_value(json_object_get(address, "prefix")));
    }
    return CLI_GOOD;
}

static void write_output(const json_t *result, const char *key, FILE *stream)
{
    g_autofree char *cut = g_strconcat(key, "_cut", NULL);
    const char *encoded = json_string_value(json_object_get(result, key));
    gsize size = 0;
    g_autofree guchar *bytes = g_base64_decode(encoded ? encoded : "", &size);

    fwrite(bytes, 1, size, stream);
    fflush(stream);
    if (json_is_true(json_object_get(result, cut)))
        cli_fail(0, "%s: the command wrote more, which was left out", key);
}

static int status_of(const json_t *result)
{
    const json_t *signal = json_object_get(result, "signal");

    if (signal)
        return (int)(STATUS_SIGNAL + json_integer_value(signal)) & 0xff;
    return (int)json_integer_value(json_object_get(result, "status")) & 0xff;
}

static int print_exec(const json_t *result)
{
    write_output(result, "stdout", stdout);
    write_output(result, "stderr", stderr);
    return status_of(result);
}

static int print_count(const json_t *result)
{
    printf("%" JSON_INTEGER_FORMAT " file systems\n",
           json_integer_value(json_object_get(result, "filesystems")));
    return CLI_GOOD;
}

static int print_time(const json_t *result)
{
    printf("it was off by %+.3f s\n",
           (double)json_integer_value(json_object_get(result, "was_off_ns")) / 1e9);
    return CLI_GOOD;
}

static int print_nothing(const json_t *result)
{
    return CLI_GOOD;
}

/* ---- the command ---- */

static const struct action {
    const char *name, *method;
    int (*params)(const cli_words *words, json_t *params); /* a status, after a message */
    int (*print)(const json_t *result);                    /* what the command ends with */
} actions[] = {
    {"info", "guest.info", no_params, print_info},
    {"addresses", "guest.addresses", no_params, print_addresses},
    {"exec", "guest.exec", exec_params, print_exec},
    {"freeze", "guest.freeze", freeze_params, print_count},
    {"thaw", "guest.thaw", no_params, print_count},
    {"time", "guest.time", no_params, print_time},
    {"shutdown", "guest.shutdown", shutdown_params, print_nothing},
};

static const struct action *find_action(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(actions); i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

/* With --json the text is printed as it is; the status of a command in the guest is ours anyway. */
static int print(const cli_words *words, const struct action *action, const char *text)
{
    json_t *result = json_loads(text, 0, NULL);
    int status;

    if (!cli_flag(words, "json")) {
        status = action->print(result);
    } else {
        printf("%s\n", text);
        status = status_of(result);
    }
    json_decref(result);
    return status;
}

static int ask(const cli_words *words, const struct action *action, const json_t *params)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_connect(cli_word(words, 0), &error);
    char *text = json_dumps(params, JSON_COMPACT), *result = NULL;
    int status;

    if (machine && text)
        result = progress_call(machine, action->method, text, -1, &error);
    status = result ? print(words, action, result) : cli_fail_error(error);
    anima_machine_destroy(machine);
    anima_free(result);
    free(text);
    return status;
}

int command_guest(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    const struct action *action = words ? find_action(cli_word(words, 1)) : NULL;
    json_t *params;

    if (!words)
        return status;
    if (!action)
        return cli_fail(CLI_USAGE, "guest: there is no '%s'; 'anima help guest' lists what is",
                        cli_word(words, 1));
    if (cli_word(words, 2) && action->params != exec_params)
        return cli_fail(CLI_USAGE, "usage: anima %s %s", command->name, command->words);
    params = json_object();
    status = action->params(words, params);
    if (status == CLI_GOOD)
        status = ask(words, action, params);
    json_decref(params);
    return status;
}
