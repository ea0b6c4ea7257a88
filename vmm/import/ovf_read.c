// SPDX-License-Identifier: Apache-2.0
/*
 * The envelope: files, disks, and the one machine. DSP0243, clauses "OVF descriptor" and
 * "References element" to "VirtualSystem".
 */
#include <libxml/parser.h>
#include <string.h>

#include "config/limits.h"
#include "vmm/import/ovf.h"

#define UNITS_MAX 64 /* a power of two in a unit */

static bool is(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

static void file_free(struct ovf_file *file)
{
    g_free(file->href);
    g_free(file->path);
    g_free(file);
}

void ovf_init(struct ovf *ovf, struct import *import)
{
    *ovf = (struct ovf){.import = import};
    ovf->files = g_ptr_array_new_with_free_func((GDestroyNotify)file_free);
}

void ovf_finish(struct ovf *ovf)
{
    g_ptr_array_unref(ovf->files);
    g_free(ovf->own_name);
}

char *ovf_attribute(xmlNode *node, const char *name)
{
    xmlChar *value = node ? xmlGetProp(node, (const xmlChar *)name) : NULL;
    char *copy = g_strdup((char *)value);

    xmlFree(value);
    return copy;
}

/* ---- sizes ---- */

/* "byte * 2^20", and the older words; 0: unknown. */
static uint64_t unit_of(const char *unit)
{
    static const struct {
        const char *name;
        unsigned shift;
    } words[] = {{"byte", 0},       {"bytes", 0}, {"kilobytes", 10}, {"kb", 10},
                 {"megabytes", 20}, {"mb", 20},   {"gigabytes", 30}, {"gb", 30},
                 {"terabytes", 40}, {"tb", 40}};
    g_autofree char *plain = g_ascii_strdown(unit, -1);
    guint64 power;
    char *at = plain;

    for (char *from = plain; *from; from++)
        if (!g_ascii_isspace(*from))
            *at++ = *from;
    *at = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
        if (is(plain, words[i].name))
            return 1ULL << words[i].shift;
    if (g_str_has_prefix(plain, "byte*2^") &&
        g_ascii_string_to_unsigned(plain + strlen("byte*2^"), 10, 0, UNITS_MAX - 1, &power, NULL))
        return 1ULL << power;
    return 0;
}

bool ovf_bytes(const char *number, const char *unit, uint64_t *bytes)
{
    uint64_t each = unit && *unit ? unit_of(unit) : 1;

    if (!number || !each ||
        !g_ascii_string_to_unsigned(number, 10, 0, INT64_MAX / each, bytes, NULL))
        return false;
    *bytes *= each;
    return true;
}

/* ---- references ---- */

/* The element `name` with this id, below the envelope's `section`. */
static xmlNode *find_by_id(struct ovf *ovf, const char *section, const char *name,
                           const char *attribute, const char *id)
{
    xmlNode *parent = import_child(ovf->envelope, section);

    for (xmlNode *node = parent ? parent->children : NULL; node; node = node->next) {
        g_autofree char *own = NULL;

        if (node->type != XML_ELEMENT_NODE || !is((const char *)node->name, name))
            continue;
        own = ovf_attribute(node, attribute);
        if (is(own, id))
            return node;
    }
    return NULL;
}

char *ovf_find_file(struct ovf *ovf, const char *id)
{
    xmlNode *node = find_by_id(ovf, "References", "File", "id", id);
    g_autofree char *href = ovf_attribute(node, "href");
    g_autofree char *compression = ovf_attribute(node, "compression");
    g_autofree char *chunk = ovf_attribute(node, "chunkSize");

    if (!href || !*href)
        import_lose(ovf->import, "file %s: the package has none", id);
    else if (compression && *compression && !is(compression, "identity"))
        import_lose(ovf->import, "file %s: its compression '%s'; unpack it first", href,
                    compression);
    else if (chunk)
        import_lose(ovf->import, "file %s: it is in several pieces; join them first", href);
    else
        return g_steal_pointer(&href);
    return NULL;
}

static const char *add_file(struct ovf *ovf, enum ovf_kind kind, char *href, uint64_t capacity,
                            char *path)
{
    struct ovf_file *file = g_new0(struct ovf_file, 1);

    file->kind = kind;
    file->href = href;
    file->capacity = capacity;
    file->path = path;
    g_ptr_array_add(ovf->files, file);
    return file->path;
}

static bool check_format(struct ovf *ovf, xmlNode *disk, const char *href)
{
    g_autofree char *format = ovf_attribute(disk, "format");
    g_autofree char *parent = ovf_attribute(disk, "parentRef");
    g_autofree char *small = format ? g_ascii_strdown(format, -1) : NULL;

    if (parent)
        import_lose(ovf->import, "disk %s: it holds only what differs from another disk", href);
    else if (small && !strstr(small, "vmdk"))
        import_lose(ovf->import, "disk %s: the format '%s'; convert it to VMDK", href, format);
    else
        return true;
    return false;
}

const char *ovf_take_disk(struct ovf *ovf, const char *id)
{
    xmlNode *disk = find_by_id(ovf, "DiskSection", "Disk", "diskId", id);
    g_autofree char *reference = ovf_attribute(disk, "fileRef"), *href = NULL;
    g_autofree char *capacity = ovf_attribute(disk, "capacity");
    g_autofree char *unit = ovf_attribute(disk, "capacityAllocationUnits");
    uint64_t bytes = 0;

    if (!disk || ovf->disks >= CONFIG_DISKS_MAX) {
        import_lose(ovf->import, "disk %s: %s", id,
                    disk ? "a machine has up to 16" : "the package has none");
        return NULL;
    }
    if (reference) {
        href = ovf_find_file(ovf, reference);
        if (!href || !check_format(ovf, disk, href))
            return NULL;
    } else if (!ovf_bytes(capacity, unit, &bytes) || !bytes || bytes % 512) {
        import_lose(ovf->import, "disk %s: its size is none", id);
        return NULL;
    }
    return add_file(ovf, reference ? OVF_DISK : OVF_BLANK, g_steal_pointer(&href), bytes,
                    g_strdup_printf("disks/disk%u.img", ovf->disks++));
}

const char *ovf_take_file(struct ovf *ovf, const char *id, const char *key)
{
    bool module = is(key, options[OPTION_MODULE].key);
    char *href;

    if (ovf->files->len >= OVF_FILES_MAX)
        return NULL;
    href = ovf_find_file(ovf, id);
    if (!href)
        return NULL;
    return add_file(ovf, OVF_PLAIN, href, 0,
                    module ? g_strdup_printf("files/module%u", ovf->modules++)
                           : g_strconcat("files/", key, NULL));
}

/* ---- the machine ---- */

static void take_os(struct ovf *ovf, xmlNode *node)
{
    g_autofree char *vmware = ovf_attribute(node, "osType");
    g_autofree char *box = import_text(import_child(node, "OSType"));
    g_autofree char *words = import_text(import_child(node, "Description"));
    const char *names[] = {vmware, box, words};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *os = names[i] ? guest_find(names[i]) : NULL;

        if (os) {
            import_set(ovf->import, "os", os);
            return;
        }
    }
}

/* VirtualBox repeats the machine as its settings have it, which knows more of its networks. */
static void take_settings(struct ovf *ovf)
{
    xmlNode *hardware = import_child(import_child(ovf->system, "Machine"), "Hardware");
    xmlNode *network = import_child(hardware, "Network");
    g_autofree char *firmware = import_child_attribute(hardware, "Firmware", "type");

    if (firmware && g_ascii_strncasecmp(firmware, "EFI", 3) == 0)
        import_lose(ovf->import, "firmware: EFI");
    if (network)
        import_vbox_network(ovf->import, network);
}

/* Sections of the machine that are told by name, or mean nothing here. */
static void take_others(struct ovf *ovf)
{
    static const char *const known[] = {"Info",
                                        "Name",
                                        "OperatingSystemSection",
                                        "VirtualHardwareSection",
                                        "AnnotationSection",
                                        "Machine",
                                        OVF_SECTION,
                                        NULL};

    for (xmlNode *node = ovf->system->children; node; node = node->next) {
        const char *name = (const char *)node->name;

        if (node->type != XML_ELEMENT_NODE || g_strv_contains(known, name))
            continue;
        /* A product's name and maker are nothing that a machine has. */
        if (!is(name, "ProductSection"))
            import_lose(ovf->import, "%s", name);
        else if (import_child(node, "Property"))
            import_lose(ovf->import, "ProductSection: properties for the guest");
    }
}

static void take_name(struct ovf *ovf)
{
    g_autofree char *name = import_text(import_child(ovf->system, "Name"));
    g_autofree char *id = ovf_attribute(ovf->system, "id");

    ovf->own_name = g_strdup(name && *name ? name : id);
    import_set(ovf->import, "name", ovf->name ? ovf->name : ovf->own_name);
    ovf->import->without_macs = ovf->name && !is(ovf->own_name, ovf->name) && !ovf->keep_macs;
}

static void take_system(struct ovf *ovf)
{
    xmlNode *own = import_child(ovf->system, OVF_SECTION);
    xmlNode *hardware = import_child(ovf->system, "VirtualHardwareSection");
    xmlNode *guest = import_child(ovf->system, "OperatingSystemSection");

    take_name(ovf);
    if (own) {
        ovf_read_section(ovf, own);
        return;
    }
    if (guest)
        take_os(ovf, guest);
    if (hardware)
        ovf_read_hardware(ovf, hardware);
    take_settings(ovf);
    take_others(ovf);
}

/* Sections of the package beside the machine. */
static void take_package_sections(struct ovf *ovf)
{
    static const char *const known[] = {
        "References", "DiskSection", "NetworkSection", "VirtualSystem", "VirtualSystemCollection",
        "Strings",    NULL};

    for (xmlNode *node = ovf->envelope->children; node; node = node->next)
        if (node->type == XML_ELEMENT_NODE && !g_strv_contains(known, (const char *)node->name))
            import_lose(ovf->import, "%s", (const char *)node->name);
}

/* ---- the envelope ---- */

static bool fail(GError **error, const char *what)
{
    g_set_error_literal(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, what);
    return false;
}

static unsigned count_systems(xmlNode *parent, xmlNode **system)
{
    unsigned count = 0;

    for (xmlNode *node = parent ? parent->children : NULL; node; node = node->next)
        if (node->type == XML_ELEMENT_NODE && is((const char *)node->name, "VirtualSystem")) {
            *system = node;
            count++;
        }
    return count;
}

static bool find_system(struct ovf *ovf, GError **error)
{
    xmlNode *collection = import_child(ovf->envelope, "VirtualSystemCollection");
    unsigned count = count_systems(ovf->envelope, &ovf->system);

    if (!count)
        count = count_systems(collection, &ovf->system);
    if (count == 1)
        return true;
    return fail(error, count ? "1:1: a package of several machines; only packages of one are read"
                             : "1:1: the package has no machine");
}

static bool read_envelope(struct ovf *ovf, xmlNode *root, GError **error)
{
    if (!root || !is((const char *)root->name, "Envelope"))
        return fail(error, "1:1: this is no descriptor of a package (OVF)");
    ovf->envelope = root;
    if (!find_system(ovf, error))
        return false;
    take_system(ovf);
    if (!import_child(ovf->system, OVF_SECTION))
        take_package_sections(ovf);
    return true;
}

bool ovf_read(struct ovf *ovf, const char *data, size_t size, GError **error)
{
    xmlDoc *document = xmlReadMemory(data, (int)size, "input", NULL,
                                     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    const xmlError *fault = document ? NULL : xmlGetLastError();
    bool good = false;

    if (fault)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%d:%d: %s", fault->line, fault->int2,
                    g_strchomp(fault->message));
    else
        good = read_envelope(ovf, document ? xmlDocGetRootElement(document) : NULL, error);
    xmlFreeDoc(document);
    ovf->envelope = ovf->system = NULL;
    return good;
}
