// SPDX-License-Identifier: Apache-2.0
/*
 * Disks and network cards that come and go: in the machine that runs, and in its kept definition.
 *
 * On the way in the definition is changed first, since that can be undone without the guest: the
 * device's id and place are chosen here so that they are free in both, by the same function as the
 * monitor's. On the way out it is changed last, when the guest has let go.
 */
#include <string.h>

#include "config/change.h"
#include "config/devices.h"
#include "config/nics.h"
#include "config/paths.h"
#include "config/store.h"
#include "lib/fault.h"
#include "lib/kept.h"

#define DROP_TRIES 10

/* ---- in ---- */

struct arrival {
    struct anima_machine *machine;
    const char *kind, *entry;
    int timeout_ms;
    struct definition *running; /* what runs, then with the device */
    json_t *options;            /* the device as it is asked for */
    char *name;
    char *before, *after; /* texts of the kept definition; NULL: it is not touched */
};

static void arrival_finish(struct arrival *arrival)
{
    definition_destroy(arrival->running);
    json_decref(arrival->options);
    g_free(arrival->name);
    g_free(arrival->before);
    g_free(arrival->after);
}

/* Entry `index` of a list as a new JSON object. */
static json_t *entry_at(const struct definition *definition, const struct device_place *place)
{
    json_t *all = definition_to_json(definition);
    json_t *entry = json_array_get(json_object_get(all, options[place->kind].key), place->index);

    json_incref(entry);
    json_decref(all);
    return entry;
}

/* The words as an object, with what is preset. */
static bool read_entry(struct arrival *arrival, const char *folder, GError **error)
{
    struct definition *alone = definition_create();
    struct device_place place = {.index = 0};
    bool good = device_kind_find(arrival->kind, &place.kind, error) &&
                definition_set_in(alone, arrival->kind, arrival->entry, folder, error);

    if (good)
        arrival->options = entry_at(alone, &place);
    definition_destroy(alone);
    return good;
}

/* What is kept has devices that do not run, and the other way round. */
static bool choose(struct arrival *arrival, const struct definition *kept,
                   struct device_place *place, GError **error)
{
    if (!definition_attach(arrival->running, arrival->kind, arrival->options, kept, place, error) ||
        !definition_fill_macs(arrival->running, error))
        return false;
    json_decref(arrival->options);
    arrival->options = entry_at(arrival->running, place);
    return true;
}

/* Find out what the kept definition will be. */
static bool plan(struct arrival *arrival, const char *folder, GError **error)
{
    struct definition *kept = definition_create();
    g_autofree char *path = definition_path(arrival->name);
    struct device_place place;

    if (definition_load_yaml(kept, path, NULL, arrival->before, strlen(arrival->before), error) &&
        definition_fill_devices(kept, error) && choose(arrival, kept, &place, error))
        arrival->after = change_yaml_attach(path, arrival->before, place.kind, arrival->entry,
                                            arrival->options, folder, error);
    definition_destroy(kept);
    return arrival->after;
}

static bool prepare(struct arrival *arrival, bool temporary, GError **error)
{
    g_autofree char *here = g_get_current_dir();

    if (!read_entry(arrival, here, error))
        return false;
    arrival->name = g_strdup(definition_text(arrival->running, OPTION_NAME));
    if (temporary)
        return true;
    if (!kept_find(arrival->name, &arrival->before, error))
        return false;
    return !arrival->before ||
           (plan(arrival, here, error) &&
            store_replace(&store_machines, arrival->name, arrival->before, arrival->after, error));
}

static char *ask(struct arrival *arrival, struct anima_error **error)
{
    json_t *params = json_pack("{s:s, s:O}", "kind", arrival->kind, "options", arrival->options);
    char *dumped = json_dumps(params, JSON_COMPACT), *result;

    result = anima_machine_call(arrival->machine, "device.attach", dumped, -1, arrival->timeout_ms,
                                error);
    free(dumped);
    json_decref(params);
    return result;
}

static char *arrive(struct arrival *arrival, bool temporary, struct anima_error **error)
{
    GError *cause = NULL;
    char *result;

    if (!prepare(arrival, temporary, &cause)) {
        error_take(error, cause);
        return NULL;
    }
    result = ask(arrival, error);
    /* Whoever has changed it in this moment has a definition with a disk that is not there: he is
     * told when he starts the machine. */
    if (!result && arrival->before)
        store_replace(&store_machines, arrival->name, arrival->after, arrival->before, NULL);
    return result;
}

ANIMA_API char *anima_machine_attach_device(struct anima_machine *machine, const char *kind,
                                            const char *entry, bool temporary, int timeout_ms,
                                            struct anima_error **error)
{
    struct arrival arrival = {.machine = machine,
                              .kind = kind,
                              .entry = entry,
                              .timeout_ms = timeout_ms,
                              .running = definition_create()};
    char *result = NULL;

    if (anima_machine_definition(machine, (struct anima_definition *)arrival.running, timeout_ms,
                                 error))
        result = arrive(&arrival, temporary, error);
    arrival_finish(&arrival);
    return result;
}

/* ---- out ---- */

/* One attempt; *again when somebody else has changed the text meanwhile. */
static bool drop(const char *name, const char *id, bool *again, GError **error)
{
    g_autofree char *path = definition_path(name), *before = NULL, *after = NULL;
    GError *cause = NULL;

    *again = false;
    if (!kept_find(name, &before, error))
        return false;
    if (!before)
        return true;
    after = change_yaml_detach(path, before, id, &cause);
    if (g_error_matches(cause, CONFIG_ERROR, CONFIG_ERROR_ABSENT)) {
        g_error_free(cause);
        return true;
    }
    if (after && store_replace(&store_machines, name, before, after, &cause))
        return true;
    *again = g_error_matches(cause, CONFIG_ERROR, CONFIG_ERROR_STATE);
    g_propagate_error(error, cause);
    return false;
}

ANIMA_API bool anima_definition_drop_device(const char *name, const char *id,
                                            struct anima_error **error)
{
    GError *cause = NULL;
    bool again = true;

    for (unsigned i = 0; again && i < DROP_TRIES; i++) {
        g_clear_error(&cause);
        if (drop(name, id, &again, &cause))
            return true;
    }
    error_take(error, cause);
    return false;
}

static char *name_of(struct anima_machine *machine, struct anima_error **error)
{
    struct definition *running = definition_create();
    char *name = NULL;

    if (anima_machine_definition(machine, (struct anima_definition *)running, -1, error))
        name = g_strdup(definition_text(running, OPTION_NAME));
    definition_destroy(running);
    return name;
}

ANIMA_API bool anima_machine_detach_device(struct anima_machine *machine, const char *id,
                                           bool temporary, int timeout_seconds,
                                           struct anima_error **error)
{
    g_autofree char *name = name_of(machine, error);
    json_t *params;
    char *text, *result;

    if (!name)
        return false;
    params = json_pack("{s:s}", "id", id);
    if (timeout_seconds)
        json_object_set_new(params, "timeout", json_integer(timeout_seconds));
    text = json_dumps(params, JSON_COMPACT);
    result = anima_machine_call(machine, "device.detach", text, -1, -1, error);
    free(text);
    json_decref(params);
    anima_free(result);
    return result && (temporary || anima_definition_drop_device(name, id, error));
}
