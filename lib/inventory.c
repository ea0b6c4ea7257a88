// SPDX-License-Identifier: Apache-2.0
/*
 * All machines of this user: those that are defined, and those that run. The running ones are asked
 * at once and answer while others are asked, so that a list of many takes as long as the slowest.
 */
#include <string.h>

#include "config/definition.h"
#include "config/paths.h"
#include "config/store.h"
#include "lib/connect.h"
#include "lib/fault.h"
#include "lib/wire.h"

#define PATIENCE_US (2 * G_USEC_PER_SEC) /* for all answers together */

struct asked {
    const char *name; /* of `running` */
    bool connected;
    struct wire wire;
};

static void ask(struct asked *asked, const char *name)
{
    int fd = control_connect(name);

    *asked = (struct asked){.name = name, .connected = fd >= 0};
    if (fd < 0)
        return;
    wire_init(&asked->wire, fd);
    wire_queue(&asked->wire,
               json_pack("{s:s, s:i, s:s}", "jsonrpc", "2.0", "id", 1, "method", "query"), -1);
    wire_move(&asked->wire);
}

/* What the machine says of itself, as a new object. One that refuses has a monitor alone: it waits
 * to be started again. */
static json_t *hear(struct asked *asked, gint64 deadline)
{
    const char *state = "silent";
    json_t *answer, *result = NULL;

    while (!(answer = wire_take(&asked->wire)) && !asked->wire.closed &&
           wire_wait(&asked->wire, deadline))
        wire_move(&asked->wire);
    result = json_incref(json_object_get(answer, "result"));
    if (json_object_get(answer, "error"))
        state = "restarting";
    json_decref(answer);
    if (json_is_object(result))
        return result;
    json_decref(result);
    return json_pack("{s:s, s:s}", "name", asked->name, "state", state);
}

/* What is known of a machine by its definition, or why that cannot be read. */
static json_t *describe_defined(const char *name)
{
    struct anima_definition *definition = anima_definition_create();
    struct anima_error *error = NULL;
    json_t *machine = json_pack("{s:s}", "name", name);

    if (anima_definition_load_named(definition, name, &error)) {
        const struct definition *known = (const struct definition *)definition;

        json_object_set_new(machine, "state", json_string("off"));
        json_object_set_new(machine, "cpus", json_integer(definition_number(known, OPTION_CPUS)));
        json_object_set_new(machine, "memory",
                            json_integer(definition_number(known, OPTION_MEMORY)));
        json_object_set_new(machine, "autostart",
                            json_boolean(definition_number(known, OPTION_AUTOSTART)));
        json_object_set_new(machine, "start_order",
                            json_integer(definition_number(known, OPTION_START_ORDER)));
        json_object_set_new(machine, "start_delay",
                            json_integer(definition_number(known, OPTION_START_DELAY)));
        json_object_set_new(machine, "stop_timeout",
                            json_integer(definition_number(known, OPTION_STOP_TIMEOUT)));
    } else {
        json_object_set_new(machine, "state", json_string("faulty"));
        json_object_set_new(machine, "problem", json_string(error->message));
        anima_error_free(error);
    }
    anima_definition_destroy(definition);
    return machine;
}

/* The running machines by name. */
static GHashTable *describe_running(char **names)
{
    GHashTable *machines =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)json_decref);
    unsigned count = g_strv_length(names);
    g_autofree struct asked *asked = g_new0(struct asked, count);
    gint64 deadline = g_get_monotonic_time() + PATIENCE_US;

    for (unsigned i = 0; i < count; i++)
        ask(&asked[i], names[i]);
    for (unsigned i = 0; i < count; i++) {
        json_t *machine;

        if (!asked[i].connected)
            continue;
        machine = hear(&asked[i], deadline);
        wire_finish(&asked[i].wire);
        g_hash_table_insert(machines, g_strdup(names[i]), machine);
    }
    return machines;
}

static int compare(const void *a, const void *b)
{
    return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "name")),
                  json_string_value(json_object_get(*(json_t *const *)b, "name")));
}

/* Both kinds in the order of the alphabet, as a new list. */
static json_t *merge(char **defined, GHashTable *running)
{
    GPtrArray *machines = g_ptr_array_new();
    json_t *list = json_array(), *machine;
    GHashTableIter iterator;
    void *name, *found;

    for (char **at = defined; *at; at++) {
        machine = describe_defined(*at);
        found = g_hash_table_lookup(running, *at);
        if (found)
            json_object_update(machine, found);
        json_object_set_new(machine, "defined", json_true());
        g_ptr_array_add(machines, machine);
    }
    g_hash_table_iter_init(&iterator, running);
    while (g_hash_table_iter_next(&iterator, &name, &found)) {
        if (g_strv_contains((const char *const *)defined, name))
            continue;
        json_object_set_new(found, "defined", json_false());
        g_ptr_array_add(machines, json_incref(found));
    }
    if (machines->len)
        qsort(machines->pdata, machines->len, sizeof(void *), compare);
    for (unsigned i = 0; i < machines->len; i++)
        json_array_append_new(list, machines->pdata[i]);
    g_ptr_array_unref(machines);
    return list;
}

ANIMA_API char *anima_inventory(struct anima_error **error)
{
    GError *cause = NULL;
    g_auto(GStrv) defined = store_list(&store_machines, &cause);
    g_auto(GStrv) running = defined ? control_list(&cause) : NULL;
    g_autoptr(GHashTable) machines = NULL;
    json_t *list;
    char *text;

    if (!running) {
        error_take(error, cause);
        return NULL;
    }
    machines = describe_running(running);
    list = merge(defined, machines);
    text = json_dumps(list, JSON_INDENT(2));
    json_decref(list);
    return text;
}
