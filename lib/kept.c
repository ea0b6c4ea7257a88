// SPDX-License-Identifier: Apache-2.0
/*
 * Kept definitions: machines as folders (config/store.h), by name.
 *
 * The text of a vm.yaml is the user's, with his comments. Whatever is stored was read and checked
 * first, as it will be read when the machine starts, so that no faulty text replaces a good one.
 */
#include <string.h>
#include <unistd.h>

#include "config/change.h"
#include "config/definition.h"
#include "config/devices.h"
#include "config/nics.h"
#include "config/paths.h"
#include "config/pin.h"
#include "config/store.h"
#include "lib/connect.h"
#include "lib/cpu.h"
#include "lib/fault.h"
#include "lib/kept.h"

/* Read the text of the machine called `name`, whose folder its paths are relative to. */
static bool read_text(struct definition *definition, const char *name, const char *text,
                      GError **error)
{
    g_autofree char *path = definition_path(name), *folder = g_path_get_dirname(path);
    const char *given;

    if (!definition_load_yaml(definition, path, folder, text, strlen(text), error))
        return false;
    given = definition_text(definition, OPTION_NAME);
    if (!given || g_str_equal(given, name))
        return definition_set(definition, "name", name, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "%s: name: '%s' is not the name of its folder; leave it out", path, given);
    return false;
}

/* Whether the text can be the definition of the machine called `name`. */
static bool check_text(const char *name, const char *text, GError **error)
{
    struct definition *definition = definition_create();
    g_autofree char *path = definition_path(name);
    bool good = read_text(definition, name, text, error);
    GError *cause = NULL;

    if (good && !definition_check(definition, &cause)) {
        /* What is missing stands on no line. */
        if (!g_str_has_prefix(cause->message, path))
            g_prefix_error(&cause, "%s: ", path);
        g_propagate_error(error, cause);
        good = false;
    }
    definition_destroy(definition);
    return good;
}

bool kept_find(const char *name, char **text, GError **error)
{
    GError *cause = NULL;

    *text = store_read(&store_machines, name, &cause);
    if (*text)
        return true;
    if (g_error_matches(cause, CONFIG_ERROR, CONFIG_ERROR_ABSENT)) {
        g_error_free(cause);
        return true;
    }
    g_propagate_error(error, cause);
    return false;
}

static bool load_named(struct definition *definition, const char *name, GError **error)
{
    g_autofree char *text = store_read(&store_machines, name, error);
    return text && read_text(definition, name, text, error);
}

ANIMA_API bool anima_definition_load_named(struct anima_definition *definition, const char *name,
                                           struct anima_error **error)
{
    GError *cause = NULL;
    bool good = load_named((struct definition *)definition, name, &cause);

    return error_outcome(good, cause, error);
}

const char *kept_name(const struct definition *definition, GError **error)
{
    const char *name = definition_text(definition, OPTION_NAME);

    if (!name)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "name: a machine that is kept has one");
    return name;
}

char *kept_text(struct definition *definition, struct anima_error **error)
{
    g_autofree char *name = g_strdup(definition_text(definition, OPTION_NAME));
    GError *cause = NULL;
    json_t *models;
    char *text;

    if (!definition_check(definition, &cause)) {
        error_take(error, cause);
        return NULL;
    }
    models = cpu_models(error);
    if (!models)
        return NULL;
    if (!definition_pin(definition, models, &cause)) {
        json_decref(models);
        error_take(error, cause);
        return NULL;
    }
    json_decref(models);
    /* The folder's name is the machine's, so that a copy of the folder is another machine. */
    definition_reset(definition, OPTION_NAME);
    text = definition_to_yaml(definition, false);
    definition_set(definition, "name", name, NULL);
    return text;
}

ANIMA_API bool anima_definition_keep(struct anima_definition *definition,
                                     struct anima_error **error)
{
    struct definition *known = (struct definition *)definition;
    g_autofree char *here = g_get_current_dir(), *text = NULL;
    GError *cause = NULL;
    bool good;

    if (!kept_name(known, &cause))
        return error_outcome(false, cause, error);
    definition_place(known, here);
    text = kept_text(known, error);
    if (!text)
        return false;
    good = store_create(&store_machines, definition_text(known, OPTION_NAME), text, &cause);
    return error_outcome(good, cause, error);
}

ANIMA_API char *anima_definition_read(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    char *text = store_read(&store_machines, name, &cause);

    error_outcome(text, cause, error);
    return text;
}

ANIMA_API bool anima_definition_replace(const char *name, const char *before, const char *text,
                                        struct anima_error **error)
{
    GError *cause = NULL;
    bool good = store_check_name(&store_machines, name, &cause) && check_text(name, text, &cause) &&
                store_replace(&store_machines, name, before, text, &cause);

    return error_outcome(good, cause, error);
}

ANIMA_API bool anima_definition_change(const char *name, const char *const *changes,
                                       struct anima_error **error)
{
    g_autofree char *here = g_get_current_dir();
    GError *cause = NULL;
    bool good = change_kept(&store_machines, &definition_machine, name, changes, here, &cause);

    return error_outcome(good, cause, error);
}

/* A machine that runs needs what is in its folder. */
static bool may_delete(const char *name, GError **error)
{
    int fd = control_connect(name);

    if (fd < 0)
        return true;
    close(fd);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                "%s: the machine is running; stop it first ('anima stop' or 'anima kill')", name);
    return false;
}

ANIMA_API bool anima_definition_delete(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    bool good = store_delete(&store_machines, name, may_delete, &cause);

    return error_outcome(good, cause, error);
}

ANIMA_API char *anima_definition_folder(const char *name)
{
    g_autofree char *path = definition_path(name);
    return g_path_get_dirname(path);
}

ANIMA_API char *anima_definition_yaml(const struct anima_definition *definition, bool presets)
{
    return definition_to_yaml((const struct definition *)definition, presets);
}
