// SPDX-License-Identifier: Apache-2.0
/*
 * anima stop: press power buttons, and where a time limit is given wait for the ends and kill what
 * is not off by then. Machines of one turn are stopped together, and later turns before earlier
 * ones: the reverse of how they start with the host.
 */
#include <string.h>

#include "cli/cli.h"
#include "cli/order.h"

#define CALL_TIMEOUT_MS 10000
#define SECONDS_MAX     86400
#define SECONDS_PRESET  90 /* for machines without a definition */

const struct cli_flag stop_flags[] = {
    {"wait", NULL, "wait for the end; kill it after its stop-timeout"},
    {"timeout", "SECONDS", "the same, after so long"},
    {"autostart", NULL, "those that start with the host; waits"},
    {"all", NULL, "all that run; waits"},
    {0},
};

struct target {
    char *name;
    json_int_t order;
    int seconds; /* negative: do not wait */
    struct anima_machine *machine;
};

static void target_free(void *opaque)
{
    struct target *target = opaque;

    anima_machine_destroy(target->machine);
    g_free(target->name);
    g_free(target);
}

/* ---- one machine ---- */

static bool call(struct target *target, const char *method, const char *params,
                 struct anima_error **error)
{
    char *result = anima_machine_call(target->machine, method, params, -1, CALL_TIMEOUT_MS, error);
    bool good = result;

    anima_free(result);
    return good;
}

/* Whether it ends within so long; `error` when that cannot be told. */
static bool ends(struct target *target, int timeout_ms, struct anima_error **error)
{
    struct anima_end end;

    if (anima_machine_wait(target->machine, timeout_ms, &end, error) != 1)
        return false;
    anima_free(end.cause);
    anima_free(end.message);
    return true;
}

/* 0 or the status of the failure, after a message. The machine is closed when there is nothing more
 * to wait for. */
static int press(struct target *target)
{
    g_autofree char *params = g_strdup_printf("{\"timeout\": %d}", target->seconds);
    bool waits = target->seconds >= 0, good = false;
    struct anima_error *error = NULL;

    target->machine = anima_machine_connect(target->name, &error);
    /* First, so that a quick end is not missed. */
    if (target->machine && (!waits || call(target, "events.subscribe", NULL, &error)))
        good = call(target, "stop", waits ? params : NULL, &error);
    if (good && waits)
        return CLI_GOOD;
    /* It may have ended before it could answer. */
    if (!good && waits && target->machine && ends(target, CALL_TIMEOUT_MS, NULL)) {
        anima_error_free(error);
        good = true;
    }
    g_clear_pointer(&target->machine, anima_machine_destroy);
    if (good)
        return CLI_GOOD;
    return cli_fail_machine(error->code == ANIMA_ERROR_ABSENT ? NULL : target->name, error);
}

static int await(struct target *target)
{
    struct anima_error *error = NULL;

    if (!target->machine || ends(target, target->seconds * 1000 + CALL_TIMEOUT_MS, &error))
        return CLI_GOOD;
    if (error)
        return cli_fail_machine(target->name, error);
    return cli_fail(CLI_FAILED, "%s: the machine does not end", target->name);
}

/* ---- several ---- */

/* Those from `first` on that have the same turn: together. Moves `first` behind them. */
static int stop_turn(const GPtrArray *targets, unsigned *first)
{
    unsigned begin = *first, end = begin;
    int status = CLI_GOOD, one;
    const struct target *turn = targets->pdata[begin];

    for (; end < targets->len; end++) {
        struct target *target = targets->pdata[end];

        if (target->order != turn->order)
            break;
        one = press(target);
        status = status ? status : one;
    }
    for (unsigned i = begin; i < end; i++) {
        one = await(targets->pdata[i]);
        status = status ? status : one;
    }
    *first = end;
    return status;
}

/* Whether a flag means the machine. */
static bool is_meant(const cli_words *words, const json_t *machine)
{
    if (!order_is_up(machine))
        return false;
    if (cli_flag(words, "all"))
        return true;
    return cli_flag(words, "autostart") && json_is_true(json_object_get(machine, "autostart"));
}

static void add_target(GPtrArray *targets, const char *name, json_int_t order, int seconds)
{
    struct target *target = g_new0(struct target, 1);

    *target = (struct target){.name = g_strdup(name), .order = order, .seconds = seconds};
    g_ptr_array_add(targets, target);
}

static const json_t *find_machine(const json_t *machines, const char *name)
{
    const json_t *machine;
    size_t i;

    json_array_foreach(machines, i,
                       machine) if (strcmp(json_string_value(json_object_get(machine, "name")),
                                           name) == 0) return machine;
    return NULL;
}

/* Those that the words mean, the last turn first; named ones are one turn. `seconds` (negative:
 * each machine's own) is how long they get. */
static GPtrArray *find_targets(const cli_words *words, json_t *machines, int seconds)
{
    GPtrArray *targets = g_ptr_array_new_with_free_func(target_free);
    bool waits = cli_flag(words, "wait") || !cli_word(words, 0);

    for (unsigned i = 0; cli_word(words, i); i++) {
        const json_t *machine = find_machine(machines, cli_word(words, i));
        json_int_t own = waits ? order_number(machine, "stop_timeout", SECONDS_PRESET) : -1;

        add_target(targets, cli_word(words, i), 0, seconds < 0 ? own : seconds);
    }
    for (size_t i = json_array_size(machines); i-- > 0 && !cli_word(words, 0);) {
        const json_t *machine = json_array_get(machines, i);
        json_int_t own = order_number(machine, "stop_timeout", SECONDS_PRESET);

        if (is_meant(words, machine))
            add_target(targets, json_string_value(json_object_get(machine, "name")),
                       order_number(machine, "start_order", G_MAXINT), seconds < 0 ? own : seconds);
    }
    return targets;
}

/* Seconds of --timeout; -1 without it. False after a message. */
static bool take_seconds(const cli_words *words, int *seconds)
{
    const char *text = cli_flag(words, "timeout");
    guint64 number;

    *seconds = -1;
    if (!text)
        return true;
    if (!g_ascii_string_to_unsigned(text, 10, 0, SECONDS_MAX, &number, NULL))
        return cli_fail(false, "--timeout: expected 0 to %d seconds, not '%s'", SECONDS_MAX, text);
    *seconds = number;
    return true;
}

int command_stop(const struct command *command, int argc, char **argv)
{
    int status = CLI_GOOD, seconds;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    g_autoptr(GPtrArray) targets = NULL;
    json_t *machines;
    bool alone;

    if (!words)
        return status;
    if (!!cli_word(words, 0) + !!cli_flag(words, "all") + !!cli_flag(words, "autostart") != 1)
        return cli_fail(CLI_USAGE, "stop: name machines, or say --autostart or --all");
    if (!take_seconds(words, &seconds))
        return CLI_USAGE;
    /* Who names machines and all that is to be known of them needs not ask all the others. */
    alone = cli_word(words, 0) && (seconds >= 0 || !cli_flag(words, "wait"));
    machines = alone ? json_array() : order_machines(&status);
    if (!machines)
        return status;
    targets = find_targets(words, machines, seconds);
    json_decref(machines);
    for (unsigned first = 0; first < targets->len;) {
        int one = stop_turn(targets, &first);

        status = status ? status : one;
    }
    return status;
}
