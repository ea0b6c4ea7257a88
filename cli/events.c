// SPDX-License-Identifier: Apache-2.0
/*
 * anima events: a line for each event, as it comes. With a name, those of that machine up to its
 * end; without, those of all machines that run and that are started meanwhile, until a signal.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

#define CALL_TIMEOUT_MS 10000
#define LOOK_MS         1000 /* for machines that were started */

const struct cli_flag events_flags[] = {
    {"since", "N", "first those after number N that are still known; 0: all"},
    {"json", NULL, "print JSON, an object a line"},
    {0},
};

struct watched {
    char *name;
    struct anima_machine *machine;
    bool over;
};

struct watch {
    GPtrArray *list; /* of struct watched * */
    const char *since;
    bool as_json;
};

static void watched_free(void *opaque)
{
    struct watched *watched = opaque;

    anima_machine_destroy(watched->machine);
    g_free(watched->name);
    g_free(watched);
}

/* ---- printing ---- */

static void print_value(const char *key, const json_t *value)
{
    char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    printf(" %s=%s", key, text ? text : json_string_value(value));
    free(text);
}

static void print_time(const json_t *event)
{
    time_t seconds = json_integer_value(json_object_get(event, "time")) / 1000;
    struct tm local;
    char text[32] = "";

    if (seconds && localtime_r(&seconds, &local))
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
    printf("%-19s", text);
}

/* "TIME NAME TYPE KEY=VALUE ..." */
static void print_line(const char *name, json_t *event)
{
    static const char *const shown[] = {"seq", "type", "time", NULL};
    const char *key, *type = json_string_value(json_object_get(event, "type"));
    json_t *value;

    print_time(event);
    printf(" %s %s", name, type ? type : "");
    json_object_foreach(event, key, value) if (!g_strv_contains(shown, key))
        print_value(key, value);
    putchar('\n');
}

static void print_event(const struct watch *watch, const char *name, json_t *event)
{
    if (watch->as_json) {
        json_object_set_new(event, "name", json_string(name));
        json_dumpf(event, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        print_line(name, event);
    }
    fflush(stdout);
}

/* ---- watching ---- */

static bool subscribe(const struct watch *watch, struct anima_machine *machine,
                      struct anima_error **error)
{
    g_autofree char *params =
        watch->since ? g_strdup_printf("{\"since\": %s}", watch->since) : NULL;
    char *result =
        anima_machine_call(machine, "events.subscribe", params, -1, CALL_TIMEOUT_MS, error);

    anima_free(result);
    return result;
}

static bool add(struct watch *watch, const char *name, struct anima_error **error)
{
    struct anima_machine *machine = anima_machine_connect(name, error);
    struct watched *watched;

    if (!machine || !subscribe(watch, machine, error)) {
        anima_machine_destroy(machine);
        return false;
    }
    watched = g_new0(struct watched, 1);
    watched->name = g_strdup(name);
    watched->machine = machine;
    g_ptr_array_add(watch->list, watched);
    return true;
}

static bool is_watched(const struct watch *watch, const char *name)
{
    for (unsigned i = 0; i < watch->list->len; i++)
        if (strcmp(((struct watched *)watch->list->pdata[i])->name, name) == 0)
            return true;
    return false;
}

/* Add the machines that run and are not watched yet. One that ends meanwhile is passed over. */
static void look_around(struct watch *watch)
{
    char *text = anima_machine_list(NULL);
    json_t *names = text ? json_loads(text, 0, NULL) : NULL, *name;
    size_t i;

    json_array_foreach(names, i, name) if (!is_watched(watch, json_string_value(name)))
        add(watch, json_string_value(name), NULL);
    json_decref(names);
    anima_free(text);
}

/* Print what has come. */
static void take(const struct watch *watch, struct watched *watched)
{
    struct anima_error *error = NULL;
    char *text;

    while (!watched->over && (text = anima_machine_event(watched->machine, 0, &error))) {
        json_t *event = json_loads(text, 0, NULL);
        const char *type = json_string_value(json_object_get(event, "type"));

        watched->over = type && strcmp(type, "ended") == 0;
        print_event(watch, watched->name, event);
        json_decref(event);
        anima_free(text);
    }
    watched->over |= error != NULL;
    anima_error_free(error);
}

static void serve(struct watch *watch, int timeout_ms)
{
    g_autofree struct pollfd *polls = g_new0(struct pollfd, watch->list->len);
    unsigned count = watch->list->len;

    for (unsigned i = 0; i < count; i++)
        polls[i] = (struct pollfd){
            .fd = anima_machine_fd(((struct watched *)watch->list->pdata[i])->machine),
            .events = POLLIN};
    poll(polls, count, timeout_ms);
    for (unsigned i = count; i-- > 0;) {
        struct watched *watched = watch->list->pdata[i];

        if (polls[i].revents)
            take(watch, watched);
        if (watched->over)
            g_ptr_array_remove_index_fast(watch->list, i);
    }
}

/* Whether the pipe that is printed to is gone; a terminal that goes sends a signal. */
static bool is_unheard(void)
{
    return ferror(stdout);
}

static int follow(struct watch *watch, const char *name)
{
    struct anima_error *error = NULL;

    if (name) {
        if (!add(watch, name, &error))
            return cli_fail_error(error);
        while (watch->list->len && !is_unheard())
            serve(watch, -1);
        return CLI_GOOD;
    }
    while (!is_unheard()) {
        look_around(watch);
        serve(watch, LOOK_MS);
    }
    return CLI_GOOD;
}

int command_events(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct watch watch = {0};

    if (!words)
        return status;
    watch.since = cli_flag(words, "since");
    watch.as_json = cli_flag(words, "json") != NULL;
    if (watch.since && !g_ascii_string_to_unsigned(watch.since, 10, 0, G_MAXINT64, NULL, NULL))
        return cli_fail(CLI_USAGE, "--since: expected the number of an event, not '%s'",
                        watch.since);
    watch.list = g_ptr_array_new_with_free_func(watched_free);
    status = follow(&watch, cli_word(words, 0));
    g_ptr_array_unref(watch.list);
    return status;
}
