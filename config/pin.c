// SPDX-License-Identifier: Apache-2.0
/*
 * Values of today. CPU models and their versions are the vmm's (vmm/engine/cpu_model.h), which was
 * asked, so that it cannot know others than this.
 */
#include "config/pin.h"

#include "config/devices.h"
#include "config/nics.h"

/* The name with its version; NULL: there is no such model. */
static const char *find_version(json_t *models, const char *name)
{
    const char *pinned = json_string_value(json_object_get(models, name)), *key;
    json_t *value;

    json_object_foreach(models, key,
                        value) if (g_strcmp0(json_string_value(value), name) == 0) return name;
    return pinned;
}

static bool tell_unknown(json_t *models, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *shown = text_show(name), *list = NULL;
    const char *key, *nearest;
    json_t *value;

    json_object_foreach(models, key, value) g_ptr_array_add(names, (void *)key);
    g_ptr_array_add(names, NULL);
    list = g_strjoinv(", ", (char **)names->pdata);
    nearest = word_nearest(name, (const char *const *)names->pdata);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "cpu: '%s' is none of %s%s%s%s", shown,
                list, nearest ? "; did you mean '" : "", nearest ? nearest : "",
                nearest ? "'?" : "");
    return false;
}

static bool pin_cpu(struct definition *definition, const json_t *models, GError **error)
{
    const char *name = definition_text(definition, OPTION_CPU), *pinned;
    json_t *known = json_object_get(models, definition_text(definition, OPTION_ENGINE));

    /* An engine that is not on this host: the machine may be for another one. */
    if (!known)
        known = json_object_get(models, "auto");
    if (!known) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    "anima-vmm tells no CPU models; is it of this version?");
        return false;
    }
    pinned = find_version(known, name);
    return pinned ? definition_set(definition, "cpu", pinned, error)
                  : tell_unknown(known, name, error);
}

bool definition_pin(struct definition *definition, const json_t *models, GError **error)
{
    return definition_set(definition, "machine", definition_text(definition, OPTION_MACHINE),
                          error) &&
           definition_fill_devices(definition, error) && definition_fill_macs(definition, error) &&
           pin_cpu(definition, models, error);
}
