// SPDX-License-Identifier: Apache-2.0
/*
 * CPU models by name and version. The tables are the vmm's (vmm/engine/cpu_model.h), which is
 * asked, so that library and vmm cannot differ.
 */
#include "lib/cpu.h"

#include <jansson.h>

#include "lib/fault.h"
#include "lib/reader.h"

/* Names of models by name, as a new object; NULL and an error. */
static json_t *ask_models(const char *engine, struct anima_error **error)
{
    g_autofree char *program = anima_vmm_path(error);
    g_autofree char *text = NULL;
    json_t *all, *models;

    if (!program)
        return NULL;
    text = reader_run(program, "cpu-models", -1, "anima-vmm tells no CPU models", error);
    if (!text)
        return NULL;
    all = json_loads(text, 0, NULL);
    models = json_object_get(all, engine);
    /* An engine that is not on this host: the machine may be for another one. */
    models = json_incref(models ? models : json_object_get(all, "auto"));
    json_decref(all);
    if (!models)
        error_set(error, ANIMA_ERROR_FAILED,
                  "anima-vmm tells no CPU models; is it of this "
                  "version?");
    return models;
}

/* The name with its version; NULL: there is no such model. */
static const char *find_version(json_t *models, const char *name)
{
    const char *pinned = json_string_value(json_object_get(models, name)), *key;
    json_t *value;

    json_object_foreach(models, key,
                        value) if (g_strcmp0(json_string_value(value), name) == 0) return name;
    return pinned;
}

static void tell_unknown(json_t *models, const char *name, struct anima_error **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *shown = text_show(name), *list = NULL;
    const char *key, *nearest;
    json_t *value;

    json_object_foreach(models, key, value) g_ptr_array_add(names, (void *)key);
    g_ptr_array_add(names, NULL);
    list = g_strjoinv(", ", (char **)names->pdata);
    nearest = word_nearest(name, (const char *const *)names->pdata);
    error_set(error, ANIMA_ERROR_USAGE, "cpu: '%s' is none of %s%s%s%s", shown, list,
              nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

bool cpu_pin(struct definition *definition, struct anima_error **error)
{
    const char *name = definition_text(definition, OPTION_CPU), *pinned;
    json_t *models = ask_models(definition_text(definition, OPTION_ENGINE), error);
    GError *cause = NULL;
    bool good;

    if (!models)
        return false;
    pinned = find_version(models, name);
    good = pinned && definition_set(definition, "cpu", pinned, &cause);
    if (!pinned)
        tell_unknown(models, name, error);
    else if (!good)
        error_take(error, cause);
    json_decref(models);
    return good;
}
