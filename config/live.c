// SPDX-License-Identifier: Apache-2.0
/*
 * A change is made to a copy. What then differs says whether it can be done, so that a value which
 * is repeated does no harm.
 */
#include "config/live.h"

#include "config/devices.h"
#include "config/values.h"

static struct definition *copy(const struct definition *definition, GError **error)
{
    struct definition *other = definition_create();
    json_t *object = definition_to_json(definition);
    bool good = definition_from_json(other, object, error);

    json_decref(object);
    if (good)
        return other;
    definition_destroy(other);
    return NULL;
}

/* What is changed: an entry, or the definition itself. NULL when there is no such device. */
static struct values *find(struct definition *definition, const char *id, GError **error)
{
    g_autofree char *shown = NULL;
    struct device_place place;

    if (!id)
        return definition_values(definition);
    if (definition_find_device(definition, id, &place))
        return values_group_edit(definition_values(definition), &options[place.kind], place.index);
    shown = text_show(id);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_ABSENT,
                "%s: the machine has no such disk or network card", shown);
    return NULL;
}

/* ---- applying ---- */

static bool set_one(struct values *values, const struct option *option, const json_t *value,
                    GError **error)
{
    json_t *object = json_object();
    bool good;

    json_object_set(object, option->key, (json_t *)value);
    good = values_from_json(values, object, error);
    json_decref(object);
    return good;
}

static bool is_list(const struct option *option, GError **error)
{
    if (option->list && !option->members)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: this is no list", option->key);
    return false;
}

static bool replace(struct values *values, const struct option *option, const json_t *value,
                    GError **error)
{
    if (json_is_null(value) && option->required) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s is missing", option->key);
        return false;
    }
    values_reset(values, option);
    return json_is_null(value) || set_one(values, option, value, error);
}

static bool add(struct values *values, const struct option *option, const json_t *value,
                GError **error)
{
    return is_list(option, error) && set_one(values, option, value, error);
}

static bool take_out(struct values *values, const struct option *option, const json_t *value,
                     GError **error)
{
    size_t count = json_is_array(value) ? json_array_size(value) : 1;

    if (!is_list(option, error))
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_is_array(value) ? json_array_get(value, i) : value;

        if (json_is_string(entry) &&
            values_remove(values, option, json_string_value(entry), NULL, error))
            continue;
        if (!json_is_string(entry))
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "expected a text");
        g_prefix_error(error, "%s: ", option->key);
        return false;
    }
    return true;
}

/* Every member of the object, NULL has none. */
static bool apply(struct values *values, const json_t *object,
                  bool (*act)(struct values *values, const struct option *option,
                              const json_t *value, GError **error),
                  GError **error)
{
    void *iterator = object ? json_object_iter((json_t *)object) : NULL;

    for (; iterator; iterator = json_object_iter_next((json_t *)object, iterator)) {
        const char *key = json_object_iter_key(iterator);
        const struct option *option = option_find_in(values_table(values), key);

        if (!option)
            return option_unknown(values_table(values), key, error);
        if (!act(values, option, json_object_iter_value(iterator), error))
            return false;
    }
    return true;
}

/* ---- differences ---- */

/* Whether all that differs can. */
static bool may_change(const struct values *before, const struct values *after, GError **error)
{
    json_t *old = values_to_json(before), *new = values_to_json(after);
    const struct option *fixed = NULL;

    for (const struct option *option = values_table(before); option->key; option++)
        if (option->live == OPTION_LIVE_NEVER &&
            !json_equal(json_object_get(old, option->key), json_object_get(new, option->key)) &&
            (json_object_get(old, option->key) || json_object_get(new, option->key)))
            fixed = fixed ? fixed : option;
    json_decref(old);
    json_decref(new);
    if (fixed)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "%s: this cannot change while the machine runs; change its definition by "
                    "'anima edit', and start it anew",
                    fixed->key);
    return !fixed;
}

bool definition_differs(const struct definition *before, const struct definition *after,
                        const char *id, const char *key)
{
    json_t *objects[2], *values[2];
    bool same;

    for (unsigned i = 0; i < 2; i++) {
        struct definition *definition = (struct definition *)(i ? after : before);
        const struct values *found = find(definition, id, NULL);

        objects[i] = found ? values_to_json(found) : NULL;
        values[i] = json_object_get(objects[i], key);
    }
    same = values[0] == values[1] || json_equal(values[0], values[1]);
    json_decref(objects[0]);
    json_decref(objects[1]);
    return !same;
}

/* ---- changing ---- */

struct live_change live_change_of(const json_t *params)
{
    return (struct live_change){json_object_get(params, "options"), json_object_get(params, "add"),
                                json_object_get(params, "remove")};
}

static struct definition *change_copy(const struct definition *definition, const char *id,
                                      const struct live_change *change, bool check, GError **error)
{
    struct definition *changed = copy(definition, error);
    const struct values *before = changed ? find((struct definition *)definition, id, error) : NULL;
    struct values *after = before ? find(changed, id, error) : NULL;
    bool good = after && apply(after, change->options, replace, error) &&
                apply(after, change->remove, take_out, error) &&
                apply(after, change->add, add, error) &&
                (!check || may_change(before, after, error));

    if (after && !good && id)
        g_prefix_error(error, "%s: ", id);
    if (good && (!check || definition_check(changed, error)))
        return changed;
    definition_destroy(changed);
    return NULL;
}

struct definition *definition_change_live(const struct definition *definition, const char *id,
                                          const struct live_change *change, GError **error)
{
    return change_copy(definition, id, change, true, error);
}

struct definition *definition_follow_live(const struct definition *definition, const char *id,
                                          const struct live_change *change, GError **error)
{
    return change_copy(definition, id, change, false, error);
}
