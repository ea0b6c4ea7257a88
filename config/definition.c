// SPDX-License-Identifier: Apache-2.0
/*
 * A definition is the values of the table of options. What is added here: reading them by an
 * option's id, and what no option alone can say.
 */
#include "config/definition.h"

#include <string.h>
#include <sys/sysinfo.h>

#include "config/devices.h"
#include "config/lines.h"
#include "config/nics.h"
#include "config/values.h"

struct definition {
    const struct definition_kind *kind;
    struct values *values;
    char *source; /* the file that was read last; NULL: none */
};

struct definition *definition_create_kind(const struct definition_kind *kind)
{
    struct definition *definition = g_new0(struct definition, 1);

    definition->kind = kind;
    definition->values = values_create(kind->options);
    return definition;
}

struct definition *definition_create(void)
{
    return definition_create_kind(&definition_machine);
}

const struct definition_kind *definition_kind(const struct definition *definition)
{
    return definition->kind;
}

const struct option *definition_options(const struct definition *definition)
{
    return definition->kind->options;
}

/* The row with this index. */
static const struct option *row(const struct definition *definition, unsigned id)
{
    return &definition->kind->options[id];
}

struct values *definition_values(struct definition *definition)
{
    return definition->values;
}

void definition_destroy(struct definition *definition)
{
    if (!definition)
        return;
    values_destroy(definition->values);
    g_free(definition->source);
    g_free(definition);
}

bool definition_set_in(struct definition *definition, const char *key, const char *text,
                       const char *folder, GError **error)
{
    const struct option *option = option_find_in(definition->kind->options, key);

    if (!option)
        return option_unknown(definition->kind->options, key, error);
    if (values_set(definition->values, option, text, folder, error))
        return true;
    g_prefix_error(error, "%s: ", key);
    return false;
}

bool definition_set(struct definition *definition, const char *key, const char *text,
                    GError **error)
{
    return definition_set_in(definition, key, text, NULL, error);
}

void definition_reset(struct definition *definition, unsigned id)
{
    values_reset(definition->values, row(definition, id));
}

void definition_drop(struct definition *definition, enum option_id id, unsigned index)
{
    values_drop(definition->values, row(definition, id), index);
}

bool definition_load_yaml(struct definition *definition, const char *name, const char *folder,
                          const void *data, size_t size, GError **error)
{
    g_free(definition->source);
    definition->source = g_strdup(name);
    return values_load_yaml(definition->values, name, folder, data, size, error);
}

void definition_place(struct definition *definition, const char *folder)
{
    values_place(definition->values, folder);
}

json_t *definition_to_json(const struct definition *definition)
{
    return values_to_json(definition->values);
}

char *definition_to_yaml(const struct definition *definition, bool presets)
{
    return values_to_yaml(definition->values, presets, NULL);
}

char *definition_option_to_yaml(const struct definition *definition, const struct option *option)
{
    return values_to_yaml(definition->values, false, option);
}

void definition_promote(struct definition *definition, enum option_id id)
{
    values_promote(definition->values, &options[id]);
}

bool definition_remove(struct definition *definition, const char *key, const char *text,
                       const char *folder, GError **error)
{
    const struct option *option = option_find_in(definition->kind->options, key);

    if (!option)
        return option_unknown(definition->kind->options, key, error);
    if (values_remove(definition->values, option, text, folder, error))
        return true;
    g_prefix_error(error, "%s: ", key);
    return false;
}

bool definition_from_json(struct definition *definition, const json_t *object, GError **error)
{
    return values_from_json(definition->values, object, error);
}

bool definition_given(const struct definition *definition, unsigned id)
{
    return values_given(definition->values, row(definition, id));
}

bool definition_has(const struct definition *definition, unsigned id)
{
    return values_has(definition->values, row(definition, id));
}

uint64_t definition_number(const struct definition *definition, unsigned id)
{
    return values_number(definition->values, row(definition, id));
}

const char *definition_text(const struct definition *definition, unsigned id)
{
    return values_text(definition->values, row(definition, id));
}

unsigned definition_count(const struct definition *definition, unsigned id)
{
    return values_count(definition->values, row(definition, id));
}

const char *definition_entry(const struct definition *definition, unsigned id, unsigned index)
{
    return values_entry(definition->values, row(definition, id), index);
}

bool definition_lists(const struct definition *definition, unsigned id, const char *entry)
{
    for (unsigned i = 0; i < definition_count(definition, id); i++)
        if (g_str_equal(definition_entry(definition, id, i), entry))
            return true;
    return false;
}

/* The entry of a GROUP and the row of its member; NULL when there is none. */
static const struct values *find_member(const struct definition *definition, unsigned id,
                                        unsigned index, const char *key,
                                        const struct option **member)
{
    const struct values *entry = values_group(definition->values, row(definition, id), index);

    *member = entry ? option_find_in(row(definition, id)->members, key) : NULL;
    return *member ? entry : NULL;
}

bool definition_member_has(const struct definition *definition, unsigned id, unsigned index,
                           const char *key)
{
    const struct option *member;
    const struct values *entry = find_member(definition, id, index, key, &member);

    return entry && values_has(entry, member);
}

const char *definition_member_text(const struct definition *definition, unsigned id, unsigned index,
                                   const char *key)
{
    const struct option *member;
    const struct values *entry = find_member(definition, id, index, key, &member);

    return entry ? values_text(entry, member) : NULL;
}

uint64_t definition_member_number(const struct definition *definition, unsigned id, unsigned index,
                                  const char *key)
{
    const struct option *member;
    const struct values *entry = find_member(definition, id, index, key, &member);

    return entry ? values_number(entry, member) : 0;
}

bool definition_member_set(struct definition *definition, unsigned id, unsigned index,
                           const char *key, const char *text, GError **error)
{
    struct values *entry = values_group_edit(definition->values, row(definition, id), index);
    const struct option *member = entry ? option_find_in(row(definition, id)->members, key) : NULL;

    if (member)
        return values_set(entry, member, text, NULL, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: there is no such entry", key);
    return false;
}

unsigned definition_member_count(const struct definition *definition, unsigned id, unsigned index,
                                 const char *key)
{
    const struct option *member;
    const struct values *entry = find_member(definition, id, index, key, &member);

    return entry ? values_count(entry, member) : 0;
}

const char *definition_member_entry(const struct definition *definition, unsigned id,
                                    unsigned index, const char *key, unsigned place)
{
    const struct option *member;
    const struct values *entry = find_member(definition, id, index, key, &member);

    return entry ? values_entry(entry, member, place) : NULL;
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

bool definition_check_disks(const struct definition *definition, GError **error)
{
    if (definition_count(definition, OPTION_DISK) <= CONFIG_DISKS_MAX)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "disk: a machine has up to %d",
                CONFIG_DISKS_MAX);
    return false;
}

static bool machine_check(const struct definition *definition, GError **error)
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
    return definition_check_disks(definition, error) && definition_check_lines(definition, error) &&
           definition_check_nics(definition, error) &&
           definition_check_devices(definition, error) && check_host_memory(definition, error);
}

const struct definition_kind definition_machine = {options, machine_check};

/* Messages begin with an option's key: say where in the file that stands, if it came from there. */
static void tell_place(const struct definition *definition, GError *error)
{
    g_autofree char *key = g_strndup(error->message, strcspn(error->message, ":"));
    const struct option *option = option_find_in(definition->kind->options, key);
    struct value_place place = {0};
    char *message;

    if (option && definition->source)
        place = values_place_of(definition->values, option);
    if (!place.line)
        return;
    message = g_strdup_printf("%s:%u:%u: %s", definition->source, place.line, place.column,
                              error->message);
    g_free(error->message);
    error->message = message;
}

bool definition_check(const struct definition *definition, GError **error)
{
    GError *cause = NULL;

    if (definition->kind->check(definition, &cause))
        return true;
    tell_place(definition, cause);
    g_propagate_error(error, cause);
    return false;
}
