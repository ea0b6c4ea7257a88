// SPDX-License-Identifier: Apache-2.0
/*
 * What importers share: setting and losing, and the elements of XML by libxml2 (which resolves no
 * entity of a document's own and opens nothing here).
 */
#include "vmm/import/import.h"

#include <libxml/parser.h>
#include <string.h>

#include "config/limits.h"

#define LOST_MAX  200 /* lines; a file that loses more has said enough */
#define LINE_MOST 240 /* characters of one */

void import_init(struct import *import)
{
    *import = (struct import){.definition = definition_create()};
    import->lost = g_ptr_array_new_with_free_func(g_free);
}

void import_finish(struct import *import)
{
    definition_destroy(import->definition);
    g_ptr_array_unref(import->lost);
}

void import_lose(struct import *import, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (import->lost->len < LOST_MAX)
        g_ptr_array_add(import->lost, text_line(text, LINE_MOST));
}

void import_set(struct import *import, const char *key, const char *text)
{
    g_autoptr(GError) error = NULL;

    if (text && !definition_set(import->definition, key, text, &error))
        import_lose(import, "%s", error->message);
}

void import_entry_add(GString *entry, const char *key, const char *value)
{
    if (!value)
        return;
    if (key)
        g_string_append_printf(entry, "%s%s=", entry->len ? "," : "", key);
    for (; *value; value++) {
        g_string_append_c(entry, *value);
        if (*value == ',')
            g_string_append_c(entry, ',');
    }
}

void import_take_mac(struct import *import, GString *entry, const char *mac)
{
    if (mac && import->without_macs)
        import_lose(import, "nic: the address %s; it gets a new one with the new name (--keep-mac)",
                    mac);
    else
        import_entry_add(entry, "mac", mac);
}

/* ---- elements ---- */

static bool is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && (!name || strcmp((const char *)node->name, name) == 0);
}

xmlNode *import_child(xmlNode *node, const char *name)
{
    for (xmlNode *child = node ? node->children : NULL; child; child = child->next)
        if (is_element(child, name))
            return child;
    return NULL;
}

char *import_attribute(xmlNode *node, const char *name)
{
    xmlChar *value = node ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;
    char *copy = g_strdup((char *)value);

    xmlFree(value);
    return copy;
}

char *import_text(xmlNode *node)
{
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    char *copy = text ? g_strstrip(g_strdup((char *)text)) : NULL;

    xmlFree(text);
    return copy;
}

char *import_child_attribute(xmlNode *node, const char *child, const char *name)
{
    return import_attribute(import_child(node, child), name);
}

void import_children(struct import *import, xmlNode *node, const struct import_rule *rules,
                     const char *what)
{
    for (xmlNode *child = node->children; child; child = child->next) {
        const struct import_rule *rule = rules;

        if (!is_element(child, NULL))
            continue;
        while (rule->name && strcmp(rule->name, (const char *)child->name) != 0)
            rule++;
        if (!rule->name)
            import_lose(import, "%s%s", what, (const char *)child->name);
        else if (rule->take)
            rule->take(import, child);
    }
}

bool import_format_add(struct import *import, GString *entry, const char *path, const char *format)
{
    if (!format || g_ascii_strcasecmp(format, "raw") == 0)
        return true;
    if (g_ascii_strcasecmp(format, "vhd") == 0 || g_ascii_strcasecmp(format, "vpc") == 0) {
        import_entry_add(entry, "format", "vhd");
        return true;
    }
    if (g_ascii_strcasecmp(format, "qcow2") == 0) {
        import_entry_add(entry, "format", "qcow2");
        return true;
    }
    import_lose(import, "disk %s: the format '%s'; convert it to a raw file", path, format);
    return false;
}

/* ---- formats ---- */

static bool unknown_format(GError **error)
{
    g_set_error(
        error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
        "1:1: this is no description of a machine that is known: libvirt's XML, VirtualBox's "
        ".vbox, Xen's xl.cfg");
    return false;
}

static bool read_document(struct import *import, const char *data, size_t size, GError **error)
{
    xmlDoc *document = xmlReadMemory(data, (int)size, "input", NULL,
                                     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNode *root = document ? xmlDocGetRootElement(document) : NULL;
    const xmlError *fault = document ? NULL : xmlGetLastError();
    bool known = true;

    if (fault)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%d:%d: %s", fault->line, fault->int2,
                    g_strchomp(fault->message));
    else if (root && is_element(root, "domain"))
        import_libvirt(import, root);
    else if (root && is_element(root, "VirtualBox"))
        import_vbox(import, root);
    else
        known = unknown_format(error);
    xmlFreeDoc(document);
    return known && !fault;
}

bool import_read(struct import *import, const char *data, size_t size, GError **error)
{
    size_t at = 0;

    if (size > CONFIG_FILE_MAX) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "more than %u bytes cannot be a machine's description", CONFIG_FILE_MAX);
        return false;
    }
    while (at < size && g_ascii_isspace(data[at]))
        at++;
    if (at < size && data[at] == '<')
        return read_document(import, data + at, size - at, error);
    return g_utf8_validate(data, (gssize)size, NULL) ? import_xl(import, data, size, error)
                                                     : unknown_format(error);
}
