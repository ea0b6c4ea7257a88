// SPDX-License-Identifier: Apache-2.0
/*
 * Kept networks: folders with a network.yaml each (config/store.h), by name; and those that run, as
 * their process tells on its control socket.
 *
 * A network runs while machines are on it. What is changed in its definition is there when it is
 * started next; forwards change at once, too.
 */
#include <string.h>
#include <unistd.h>

#include "config/change.h"
#include "config/network.h"
#include "config/nics.h"
#include "config/store.h"
#include "lib/connect.h"
#include "lib/connection.h"
#include "lib/fault.h"

#define PATIENCE_MS 5000 /* for the answer of a network's process */

ANIMA_API const struct anima_option *anima_network_option_at(unsigned index)
{
    return index < NETWORK_OPTION_COUNT ? (const struct anima_option *)&network_options[index]
                                        : NULL;
}

ANIMA_API const struct anima_option *anima_network_option_find(const char *key)
{
    return (const struct anima_option *)option_find_in(network_options, key);
}

/* ---- definitions ---- */

/* The definition in `text`, which passed its check; NULL and an error. */
static struct definition *read_text(const char *name, const char *text, GError **error)
{
    struct definition *definition = definition_create_kind(&definition_network);
    g_autofree char *path = store_path(&store_networks, name);

    if (definition_load_yaml(definition, path, NULL, text, strlen(text), error) &&
        definition_check(definition, error))
        return definition;
    definition_destroy(definition);
    return NULL;
}

static struct definition *load(const char *name, GError **error)
{
    g_autofree char *text = store_read(&store_networks, name, error);
    return text ? read_text(name, text, error) : NULL;
}

/* The subnets of all networks that can be read, of struct subnet. */
static GArray *subnets_of_all(char **names)
{
    GArray *subnets = g_array_new(FALSE, FALSE, sizeof(struct subnet));

    for (char **name = names; *name; name++) {
        struct definition *definition = load(*name, NULL);
        struct network network;

        if (!definition)
            continue;
        network = definition_network_of(definition);
        if (network.subnet.bits)
            g_array_append_val(subnets, network.subnet);
        definition_destroy(definition);
    }
    return subnets;
}

static bool set_all(struct definition *definition, const char *const *settings, GError **error)
{
    for (; settings && *settings; settings += 2)
        if (!definition_set(definition, settings[0], settings[1], error))
            return false;
    return true;
}

static bool create(struct definition *definition, const char *name, const char *const *settings,
                   GError **error)
{
    g_auto(GStrv) names = store_list(&store_networks, error);
    g_autoptr(GArray) taken = names ? subnets_of_all(names) : NULL;
    g_autofree char *text = NULL;

    if (!taken || !set_all(definition, settings, error) ||
        !network_fill(definition, (struct subnet *)taken->data, taken->len, error) ||
        !definition_check(definition, error))
        return false;
    text = definition_to_yaml(definition, false);
    return store_create(&store_networks, name, text, error);
}

ANIMA_API bool anima_network_create(const char *name, const char *const *settings,
                                    struct anima_error **error)
{
    struct definition *definition = definition_create_kind(&definition_network);
    GError *cause = NULL;
    bool good = create(definition, name, settings, &cause);

    definition_destroy(definition);
    return error_outcome(good, cause, error);
}

ANIMA_API char *anima_network_read(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    char *text = store_read(&store_networks, name, &cause);

    error_outcome(text, cause, error);
    return text;
}

ANIMA_API bool anima_network_change(const char *name, const char *const *changes,
                                    struct anima_error **error)
{
    GError *cause = NULL;
    bool good = change_kept(&store_networks, &definition_network, name, changes, NULL, &cause);

    return error_outcome(good, cause, error);
}

/* ---- the process of a network ---- */

/* Ask the process of the network for `method`; takes `params`. *absent: it does not run. */
static json_t *ask(const char *name, const char *method, json_t *params, bool *absent,
                   struct anima_error **error)
{
    int fd = network_connect(name);
    struct connection *connection = fd >= 0 ? connection_create(fd) : NULL;
    struct anima_call *call;
    json_t *result = NULL;

    *absent = fd < 0;
    if (!connection) {
        json_decref(params);
        if (fd >= 0)
            error_set(error, ANIMA_ERROR_FAILED, "%s: no descriptors for a connection", name);
        return NULL;
    }
    call = connection_ask(connection, method, params, -1, false, error);
    if (call && connection_await(call, deadline_in(PATIENCE_MS)))
        result = connection_result(call, error);
    else if (call)
        error_set(error, ANIMA_ERROR_TIMEOUT, "%s: the network does not answer", name);
    anima_call_destroy(call);
    connection_close(connection);
    return result;
}

/* What is known of a network, as a new object: its definition, and how it is if it runs. */
static json_t *describe(const char *name)
{
    g_autoptr(GError) cause = NULL;
    struct definition *definition = load(name, &cause);
    json_t *object = json_pack("{s:s}", "name", name), *running, *values;
    struct anima_error *error = NULL;
    bool absent;

    if (!definition) {
        json_object_set_new(object, "state", json_string("faulty"));
        json_object_set_new(object, "problem", json_string(cause->message));
        return object;
    }
    values = definition_to_json(definition);
    json_object_update(object, values);
    json_decref(values);
    definition_destroy(definition);
    running = ask(name, "network.query", NULL, &absent, &error);
    json_object_set_new(object, "state",
                        json_string(running  ? "running"
                                    : absent ? "off"
                                             : "silent"));
    json_object_update(object, running);
    json_decref(running);
    anima_error_free(error);
    return object;
}

static char *print(json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2));

    json_decref(value);
    return text;
}

ANIMA_API char *anima_network_list(struct anima_error **error)
{
    GError *cause = NULL;
    g_auto(GStrv) names = store_list(&store_networks, &cause);
    json_t *list = json_array();

    for (char **name = names; name && *name; name++)
        json_array_append_new(list, describe(*name));
    if (names)
        return print(list);
    json_decref(list);
    error_take(error, cause);
    return NULL;
}

ANIMA_API char *anima_network_show(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    g_autofree char *text = store_read(&store_networks, name, &cause);

    return error_outcome(text, cause, error) ? print(describe(name)) : NULL;
}

/* ---- forwards ---- */

/* Whether the definition lists the forward. */
static bool lists(const char *name, const char *forward)
{
    struct definition *definition = load(name, NULL);
    bool found = definition && definition_lists(definition, NETWORK_FORWARD, forward);

    definition_destroy(definition);
    return found;
}

static bool keep_forward(const char *name, bool add, const char *forward,
                         struct anima_error **error)
{
    g_autofree char *word = g_strconcat("forward", add ? "+=" : "-=", forward, NULL);
    const char *const changes[] = {word, NULL};

    /* One that came for a time is in no definition. */
    return (!add && !lists(name, forward)) || anima_network_change(name, changes, error);
}

static bool forward_live(const char *name, bool add, const char *forward, bool *absent,
                         struct anima_error **error)
{
    json_t *params = json_pack("{s:[s]}", add ? "add" : "remove", forward);
    json_t *result = ask(name, "network.forward", params, absent, error);
    bool good = result;

    json_decref(result);
    return good;
}

ANIMA_API bool anima_network_forward(const char *name, bool add, const char *forward,
                                     bool temporary, struct anima_error **error)
{
    struct network_forward parsed;
    GError *cause = NULL;
    g_autofree char *text = store_read(&store_networks, name, &cause);
    bool absent, good;

    if (!text || !network_forward_parse(forward, &parsed, &cause))
        return error_outcome(false, cause, error);
    good = forward_live(name, add, forward, &absent, error);
    if (absent && (temporary || (!add && !lists(name, forward)))) {
        error_set(error, temporary ? ANIMA_ERROR_STATE : ANIMA_ERROR_ABSENT, "%s: %s", name,
                  temporary ? "the network does not run" : "there is no such forward");
        return false;
    }
    if (!good && !absent)
        return false;
    if (temporary || keep_forward(name, add, forward, error))
        return true;
    /* What runs and what is kept change together. */
    if (good)
        forward_live(name, !add, forward, &absent, NULL);
    return false;
}

/* ---- deleting ---- */

/* One that lingers after its last machine has left is no obstacle. */
static bool may_delete(const char *name, GError **error)
{
    struct anima_error *problem = NULL;
    bool absent, used;
    json_t *running = ask(name, "network.query", NULL, &absent, &problem);

    used = !absent && (!running || json_array_size(json_object_get(running, "ports")));
    json_decref(running);
    anima_error_free(problem);
    if (used)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                    "%s: machines are on the network; plug them elsewhere or stop them first",
                    name);
    return !used;
}

ANIMA_API bool anima_network_delete(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    bool good = store_delete(&store_networks, name, may_delete, &cause);

    return error_outcome(good, cause, error);
}

/* Whether a card of the machine's definition is on the network. */
static bool is_user(const char *machine, const char *network)
{
    struct anima_definition *definition = anima_definition_create();
    const struct definition *known = (const struct definition *)definition;
    bool found = false;

    if (anima_definition_load_named(definition, machine, NULL))
        for (unsigned i = 0; i < definition_count(known, OPTION_NIC); i++)
            found |= g_strcmp0(definition_nic(known, i).shared, network) == 0;
    anima_definition_destroy(definition);
    return found;
}

ANIMA_API char *anima_network_machines(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    g_auto(GStrv) machines = store_list(&store_machines, &cause);
    json_t *users = json_array();

    for (char **machine = machines; machine && *machine; machine++)
        if (is_user(*machine, name))
            json_array_append_new(users, json_string(*machine));
    if (machines)
        return print(users);
    json_decref(users);
    error_take(error, cause);
    return NULL;
}
