// SPDX-License-Identifier: Apache-2.0
/*
 * Values of a definition, stored beside the schema's table: one slot an option, and JSON both ways.
 */
#include "config/definition.h"

#include <string.h>
#include <sys/sysinfo.h>

#include "config/limits.h"

struct slot {
    bool given;      /* by a file, the command line or JSON */
    uint64_t number; /* BOOL, INT, SIZE */
    char *text;      /* scalar of the other types */
    GPtrArray *list; /* of char *, for list options */
};

struct definition {
    struct slot slots[OPTION_COUNT];
};

struct definition *definition_create(void)
{
    struct definition *definition = g_new0(struct definition, 1);

    for (unsigned id = 0; id < OPTION_COUNT; id++) {
        struct slot *slot = &definition->slots[id];
        struct option_value preset = {0};

        if (options[id].list)
            slot->list = g_ptr_array_new_with_free_func(g_free);
        if (options[id].preset && option_parse(&options[id], options[id].preset, &preset, NULL)) {
            slot->number = preset.number;
            slot->text = preset.text;
        }
    }
    return definition;
}

void definition_destroy(struct definition *definition)
{
    if (!definition)
        return;
    for (unsigned id = 0; id < OPTION_COUNT; id++) {
        g_free(definition->slots[id].text);
        if (definition->slots[id].list)
            g_ptr_array_unref(definition->slots[id].list);
    }
    g_free(definition);
}

/* The value's paths made relative to `folder`: a path itself, and the first word of a module. */
static char *place_in_folder(enum option_id id, char *text, const char *folder)
{
    bool path = options[id].type == OPTION_TYPE_PATH || id == OPTION_MODULE;
    char *placed;

    if (!path || !folder || g_path_is_absolute(text))
        return text;
    placed = g_build_filename(folder, text, NULL);
    g_free(text);
    return placed;
}

static bool append_entries(GPtrArray *list, enum option_id id, const char *text, const char *folder,
                           GError **error)
{
    const char separators[2] = {options[id].separator, 0};
    g_auto(GStrv) entries =
        *separators ? g_strsplit(text, separators, -1) : g_strdupv((char *[]){(char *)text, NULL});

    for (char **entry = entries; *entry; entry++) {
        struct option_value value;

        if (list->len >= CONFIG_LIST_MAX) {
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "more than %d entries",
                        CONFIG_LIST_MAX);
            return false;
        }
        if (!option_parse(&options[id], *entry, &value, error))
            return false;
        g_ptr_array_add(list, place_in_folder(id, value.text, folder));
    }
    return true;
}

bool definition_set_option(struct definition *definition, enum option_id id, const char *text,
                           const char *folder, GError **error)
{
    struct slot *slot = &definition->slots[id];
    struct option_value value;

    if (options[id].list) {
        if (!append_entries(slot->list, id, text, folder, error))
            return false;
    } else {
        if (!option_parse(&options[id], text, &value, error))
            return false;
        g_free(slot->text);
        slot->number = value.number;
        slot->text = value.text ? place_in_folder(id, value.text, folder) : NULL;
    }
    /* An empty text adds nothing to a list. */
    slot->given = !options[id].list || slot->list->len;
    return true;
}

static bool unknown_key(const char *key, GError **error)
{
    const char *nearest = option_nearest(key);
    g_autofree char *shown = text_show(key);

    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "unknown option '%s'%s%s%s", shown,
                nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    return false;
}

bool definition_set(struct definition *definition, const char *key, const char *text,
                    GError **error)
{
    const struct option *option = option_find(key);

    if (!option)
        return unknown_key(key, error);
    if (definition_set_option(definition, option - options, text, NULL, error))
        return true;
    g_prefix_error(error, "%s: ", key);
    return false;
}

static json_t *slot_to_json(const struct option *option, const struct slot *slot)
{
    json_t *list;

    if (option->type == OPTION_TYPE_BOOL)
        return json_boolean(slot->number);
    if (option->type == OPTION_TYPE_INT || option->type == OPTION_TYPE_SIZE)
        return json_integer(slot->number);
    if (!option->list)
        return json_string(slot->text);
    list = json_array();
    for (unsigned i = 0; i < slot->list->len; i++)
        json_array_append_new(list, json_string(slot->list->pdata[i]));
    return list;
}

json_t *definition_to_json(const struct definition *definition)
{
    json_t *object = json_object();

    for (unsigned id = 0; id < OPTION_COUNT; id++)
        if (definition_has(definition, id))
            json_object_set_new(object, options[id].key,
                                slot_to_json(&options[id], &definition->slots[id]));
    return object;
}

static const char *json_type_name(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list",    [JSON_STRING] = "a text",
        [JSON_INTEGER] = "a number", [JSON_REAL] = "a fraction", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null",
    };
    return names[json_typeof(value)];
}

/* One JSON scalar; numbers and booleans take the way through text, so that one parser checks. */
static bool set_scalar(struct definition *definition, enum option_id id, const json_t *value,
                       GError **error)
{
    enum option_type type = options[id].type;
    bool numeric = type == OPTION_TYPE_INT || type == OPTION_TYPE_SIZE;
    g_autofree char *number = NULL;

    if (json_is_boolean(value) && type == OPTION_TYPE_BOOL)
        return definition_set_option(definition, id, json_is_true(value) ? "yes" : "no", NULL,
                                     error);
    if (json_is_integer(value) && numeric) {
        number = g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return definition_set_option(definition, id, number, NULL, error);
    }
    if (json_is_string(value) && type != OPTION_TYPE_BOOL && type != OPTION_TYPE_INT)
        return definition_set_option(definition, id, json_string_value(value), NULL, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "expected %s, not %s",
                option_wants(&options[id]), json_type_name(value));
    return false;
}

static bool set_from_json(struct definition *definition, enum option_id id, const json_t *value,
                          GError **error)
{
    if (!options[id].list || !json_is_array(value))
        return set_scalar(definition, id, value, error);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!set_scalar(definition, id, json_array_get(value, i), error))
            return false;
    return true;
}

bool definition_from_json(struct definition *definition, const json_t *object, GError **error)
{
    void *iterator;

    if (!json_is_object(object)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "expected an object, not %s",
                    object ? json_type_name(object) : "nothing");
        return false;
    }
    for (iterator = json_object_iter((json_t *)object); iterator;
         iterator = json_object_iter_next((json_t *)object, iterator)) {
        const char *key = json_object_iter_key(iterator);
        const struct option *option = option_find(key);

        if (!option)
            return unknown_key(key, error);
        if (!set_from_json(definition, option - options, json_object_iter_value(iterator), error)) {
            g_prefix_error(error, "%s: ", key);
            return false;
        }
    }
    return true;
}

bool definition_has(const struct definition *definition, enum option_id id)
{
    return definition->slots[id].given || options[id].preset;
}

uint64_t definition_number(const struct definition *definition, enum option_id id)
{
    return definition->slots[id].number;
}

const char *definition_text(const struct definition *definition, enum option_id id)
{
    return definition->slots[id].text;
}

unsigned definition_count(const struct definition *definition, enum option_id id)
{
    return definition->slots[id].list ? definition->slots[id].list->len : 0;
}

const char *definition_entry(const struct definition *definition, enum option_id id, unsigned index)
{
    return index < definition_count(definition, id) ? definition->slots[id].list->pdata[index]
                                                    : NULL;
}

bool definition_lists(const struct definition *definition, enum option_id id, const char *entry)
{
    for (unsigned i = 0; i < definition_count(definition, id); i++)
        if (g_str_equal(definition_entry(definition, id, i), entry))
            return true;
    return false;
}

/* RAM is given page by page, but a guest may use all of it: more than there is would end in the
 * kernel's killing somebody. */
static bool check_host_memory(const struct definition *definition, GError **error)
{
    uint64_t wanted = definition_number(definition, OPTION_MEMORY);
    g_autofree char *want = size_format(wanted);
    struct sysinfo host;
    uint64_t have;

    if (sysinfo(&host) != 0)
        return true;
    have = ((uint64_t)host.totalram + host.totalswap) * host.mem_unit;
    if (wanted <= have)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "memory: %s is more than the %" G_GUINT64_FORMAT
                "M of memory and swap that this host has",
                want, have >> 20);
    return false;
}

bool definition_check(const struct definition *definition, GError **error)
{
    static const enum option_id need_kernel[] = {OPTION_INITRD, OPTION_MODULE, OPTION_APPEND};

    if (!definition_has(definition, OPTION_KERNEL)) {
        for (unsigned i = 0; i < G_N_ELEMENTS(need_kernel); i++) {
            if (!definition_has(definition, need_kernel[i]))
                continue;
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                        "%s: there is no kernel to take it", options[need_kernel[i]].key);
            return false;
        }
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "kernel: nothing to boot; name a kernel's file");
        return false;
    }
    if (definition_has(definition, OPTION_INITRD) && definition_has(definition, OPTION_MODULE)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "module: a kernel takes either an initrd or multiboot modules");
        return false;
    }
    return check_host_memory(definition, error);
}
