// SPDX-License-Identifier: Apache-2.0
/*
 * The section of our own, read: <Option key=K>TEXT</Option> for each option, and <Entry key=K> with
 * a <Member key=M>TEXT</Member> for each member. Where the value is a file of the package, the
 * attribute "file" (or "disk") has its id instead.
 */
#include <string.h>

#include "vmm/import/ovf.h"

static bool is(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

/* ---- what names something of the host ---- */

bool ovf_names_host(const struct option *row, const char *text)
{
    if (row->type == OPTION_TYPE_PATH || is(row->key, options[OPTION_MODULE].key))
        return true;
    return row->type == OPTION_TYPE_ENUM && strchr(text, '=');
}

static bool is_one_of(const char *text, char *const *paths, unsigned count)
{
    g_autofree char *path = g_strndup(text, strcspn(text, " "));

    for (unsigned i = 0; i < count; i++)
        if (g_str_equal(paths[i], path))
            return true;
    return false;
}

/* The value of a row: of an option, or of the member of an entry. */
static bool check_value(const struct option *row, const char *text, char *const *paths,
                        unsigned count, GError **error)
{
    if (!text || !ovf_names_host(row, text) || is_one_of(text, paths, count))
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "%s: the package would use '%s' of this host", row->key, text);
    return false;
}

static bool is_text(const struct option *row)
{
    return row->type == OPTION_TYPE_STRING || row->type == OPTION_TYPE_ENUM ||
           row->type == OPTION_TYPE_PATH;
}

static bool check_group(const struct definition *definition, enum option_id id, unsigned index,
                        char *const *paths, unsigned count, GError **error)
{
    for (const struct option *row = options[id].members; row->key; row++)
        if (is_text(row) && !row->list &&
            !check_value(row, definition_member_text(definition, id, index, row->key), paths, count,
                         error))
            return false;
    return true;
}

bool ovf_check_paths(const struct definition *definition, char *const *paths, unsigned count,
                     GError **error)
{
    for (enum option_id id = 0; id < OPTION_COUNT; id++) {
        const struct option *row = &options[id];

        if (!definition_given(definition, id))
            continue;
        for (unsigned i = 0; row->list && i < definition_count(definition, id); i++)
            if (row->members
                    ? !check_group(definition, id, i, paths, count, error)
                    : !check_value(row, definition_entry(definition, id, i), paths, count, error))
                return false;
        if (!row->list && is_text(row) &&
            !check_value(row, definition_text(definition, id), paths, count, error))
            return false;
    }
    return true;
}

/* ---- reading ---- */

/* All of it: space counts in a command line. */
static char *take_text(xmlNode *node)
{
    xmlChar *text = xmlNodeGetContent(node);
    char *copy = g_strdup(text ? (char *)text : "");

    xmlFree(text);
    return copy;
}

/* The path of the file that the element means; NULL: it means none, or that is lost. */
static const char *take_reference(struct ovf *ovf, xmlNode *node, const char *key)
{
    g_autofree char *file = ovf_attribute(node, "file"), *disk = ovf_attribute(node, "disk");

    if (disk)
        return ovf_take_disk(ovf, disk);
    return file ? ovf_take_file(ovf, file, key) : NULL;
}

static void lose_host(struct ovf *ovf, const char *key, const char *text)
{
    import_lose(ovf->import, "%s: '%s' is of the host where the machine was", key, text);
}

static void take_option(struct ovf *ovf, xmlNode *node)
{
    g_autofree char *key = ovf_attribute(node, "key"), *text = take_text(node), *joined = NULL;
    const struct option *row = key ? option_find(key) : NULL;
    const char *path;

    if (!row || row->members || is(key, "name") || is(key, "state")) {
        import_lose(ovf->import, "%s", key ? key : "an option without a name");
        return;
    }
    path = take_reference(ovf, node, key);
    if (path) {
        joined = *text ? g_strdup_printf("%s %s", path, text) : g_strdup(path);
        import_set(ovf->import, key, joined);
    } else if (ovf_names_host(row, text)) {
        lose_host(ovf, key, text);
    } else {
        import_set(ovf->import, key, text);
    }
}

/* False: without this member the entry is none. */
static bool take_member(struct ovf *ovf, GString *entry, const char *key, const struct option *row,
                        const char *text)
{
    if (is(row->key, "mac") && is(key, options[OPTION_NIC].key)) {
        import_take_mac(ovf->import, entry, text);
    } else if (!ovf_names_host(row, text)) {
        import_entry_add(entry, row->key, text);
    } else if (is(row->key, "network")) {
        import_lose(ovf->import, "nic: the network '%s'; it becomes a card without a cable", text);
        import_entry_add(entry, row->key, "none");
    } else {
        lose_host(ovf, key, text);
        return false;
    }
    return true;
}

static bool take_members(struct ovf *ovf, xmlNode *node, const struct option *option,
                         GString *entry)
{
    for (xmlNode *child = node->children; child; child = child->next) {
        g_autofree char *name = NULL, *text = NULL;
        const struct option *row;

        if (child->type != XML_ELEMENT_NODE || !is((const char *)child->name, "Member"))
            continue;
        name = ovf_attribute(child, "key");
        text = take_text(child);
        row = name ? option_find_in(option->members, name) : NULL;
        if (!row)
            import_lose(ovf->import, "%s: %s", option->key, name ? name : "a member without name");
        else if (!take_member(ovf, entry, option->key, row, text))
            return false;
    }
    return true;
}

static void take_entry(struct ovf *ovf, xmlNode *node)
{
    g_autofree char *key = ovf_attribute(node, "key"), *disk = ovf_attribute(node, "disk");
    const struct option *option = key ? option_find(key) : NULL;
    g_autoptr(GString) entry = g_string_new(NULL);
    const char *path;

    if (!option || !option->members) {
        import_lose(ovf->import, "%s", key ? key : "an entry without a name");
        return;
    }
    path = take_reference(ovf, node, key);
    if (disk && !path)
        return;
    import_entry_add(entry, option->members->key, path);
    if (take_members(ovf, node, option, entry))
        import_set(ovf->import, key, entry->str);
}

void ovf_read_section(struct ovf *ovf, xmlNode *section)
{
    for (xmlNode *node = section->children; node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        if (is((const char *)node->name, "Option"))
            take_option(ovf, node);
        else if (is((const char *)node->name, "Entry"))
            take_entry(ovf, node);
        else if (!is((const char *)node->name, "Info"))
            import_lose(ovf->import, "%s", (const char *)node->name);
    }
}
