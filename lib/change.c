// SPDX-License-Identifier: Apache-2.0
/*
 * Changing a machine that runs, and its kept definition with it.
 *
 * The text of vm.yaml is made and checked first, then what runs is changed, last the text replaces
 * the old one. So what is wrong is told before anything is touched; only a disk that is full, or
 * somebody who edits at the same moment, can leave the two different, and that is said.
 */
#include <jansson.h>

#include "config/change.h"
#include "config/definition.h"
#include "config/devices.h"
#include "config/live.h"
#include "config/paths.h"
#include "config/store.h"
#include "lib/connect.h"
#include "lib/fault.h"
#include "lib/kept.h"

#define CALL_TIMEOUT_MS 60000 /* a helper has to start */

/* The table whose options are changed; NULL when there is no such device. */
static const struct option *find_table(const struct definition *definition, const char *id,
                                       GError **error)
{
    g_autofree char *shown = NULL;
    struct device_place place;

    if (!id)
        return options;
    if (definition_find_device(definition, id, &place))
        return options[place.kind].members;
    shown = text_show(id);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_ABSENT,
                "%s: the machine has no such disk or network card", shown);
    return NULL;
}

/* What is looked up in vm.yaml only cannot be temporary. */
static bool check_temporary(const struct option *table, const char *const *words, GError **error)
{
    for (unsigned i = 0; words[i]; i++) {
        g_autofree char *key = g_strndup(words[i], strcspn(words[i], "+-="));
        const struct option *option = option_find_in(table, key);

        if (!option || option->live != OPTION_LIVE_KEPT)
            continue;
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "%s: this is looked up in vm.yaml; it cannot be temporary", key);
        return false;
    }
    return true;
}

/* The text of vm.yaml and what it becomes; both NULL when the machine is not kept. */
static bool prepare_text(const char *name, const char *id, const char *const *words, char **before,
                         char **after, GError **error)
{
    g_autofree char *here = g_get_current_dir(), *path = NULL;
    GError *cause = NULL;

    if (!kept_find(name, before, error))
        return false;
    if (!*before)
        return true;
    path = definition_path(name);
    *after = id ? change_yaml_device(path, *before, id, words, here, &cause)
                : change_yaml(&definition_machine, path, *before, words, here, &cause);
    if (*after)
        return true;
    if (g_error_matches(cause, CONFIG_ERROR, CONFIG_ERROR_ABSENT))
        g_prefix_error(&cause, "%s: change only what runs (temporary), or edit it: ", path);
    g_propagate_error(error, cause);
    return false;
}

static json_t *make_params(const struct option *table, const char *id, const char *const *words,
                           GError **error)
{
    g_autofree char *here = g_get_current_dir();
    json_t *params = change_to_json(table, words, here, error);

    if (params && id)
        json_object_set_new(params, "id", json_string(id));
    else if (!params && id)
        g_prefix_error(error, "%s: ", id);
    return params;
}

static bool change_running(struct anima_machine *machine, const char *id, const json_t *params,
                           struct anima_error **error)
{
    char *text = json_dumps(params, JSON_COMPACT);
    char *result = anima_machine_call(machine, id ? "device.change" : "machine.change", text, -1,
                                      CALL_TIMEOUT_MS, error);

    free(text);
    anima_free(result);
    return result;
}

static bool replace_text(const char *name, const char *before, const char *after, GError **error)
{
    if (!after || g_str_equal(before, after) ||
        store_replace(&store_machines, name, before, after, error))
        return true;
    g_prefix_error(error, "%s: what runs has changed, but its definition has not: ", name);
    return false;
}

static bool change(struct anima_machine *machine, const struct definition *running, const char *id,
                   const char *const *words, bool temporary, struct anima_error **error)
{
    const char *name = definition_text(running, OPTION_NAME);
    g_autofree char *before = NULL, *after = NULL;
    GError *cause = NULL;
    const struct option *table = find_table(running, id, &cause);
    json_t *params = table ? make_params(table, id, words, &cause) : NULL;
    bool ready = params && (temporary ? check_temporary(table, words, &cause)
                                      : prepare_text(name, id, words, &before, &after, &cause));
    bool good = ready && change_running(machine, id, params, error);

    json_decref(params);
    if (good)
        good = replace_text(name, before, after, &cause);
    if (cause)
        error_take(error, cause);
    return good;
}

ANIMA_API bool anima_machine_change(struct anima_machine *machine, const char *id,
                                    const char *const *changes, bool temporary,
                                    struct anima_error **error)
{
    struct definition *running = definition_create();
    bool good = anima_machine_definition(machine, (struct anima_definition *)running,
                                         CALL_TIMEOUT_MS, error) &&
                change(machine, running, id, changes, temporary, error);

    definition_destroy(running);
    return good;
}
