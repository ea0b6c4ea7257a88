// SPDX-License-Identifier: Apache-2.0
/*
 * The hardware of a machine of another program: DSP0243, "VirtualHardwareSection", whose items are
 * CIM_ResourceAllocationSettingData (DSP1041), by ResourceType.
 */
#include <string.h>

#include "config/limits.h"
#include "vmm/import/ovf.h"

enum {
    RESOURCE_CPU = 3,
    RESOURCE_MEMORY = 4,
    RESOURCE_IDE = 5,
    RESOURCE_SCSI = 6,
    RESOURCE_FC = 7,
    RESOURCE_ISCSI = 8,
    RESOURCE_ETHERNET = 10,
    RESOURCE_FLOPPY = 14,
    RESOURCE_CD = 15,
    RESOURCE_DVD = 16,
    RESOURCE_DISK = 17,
    RESOURCE_STORAGE = 20, /* SATA, and whatever else is a controller */
};

static bool is(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

static char *item_text(xmlNode *item, const char *name)
{
    return import_text(import_child(item, name));
}

static unsigned item_type(xmlNode *item)
{
    g_autofree char *text = item_text(item, "ResourceType");
    guint64 type;

    return text && g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT16, &type, NULL)
               ? (unsigned)type
               : 0;
}

/* What people call the item. */
static char *item_name(xmlNode *item)
{
    static const char *const names[] = {"ElementName", "Caption", "Description", "ResourceSubType"};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        char *name = item_text(item, names[i]);

        if (name && *name)
            return name;
        g_free(name);
    }
    return g_strdup_printf("a device of the type %u", item_type(item));
}

static void take_cpus(struct ovf *ovf, xmlNode *item)
{
    g_autofree char *count = item_text(item, "VirtualQuantity");

    import_set(ovf->import, "cpus", count);
}

static void take_memory(struct ovf *ovf, xmlNode *item)
{
    g_autofree char *count = item_text(item, "VirtualQuantity"), *text = NULL;
    g_autofree char *unit = item_text(item, "AllocationUnits");
    uint64_t bytes;

    if (!ovf_bytes(count, unit ? unit : "byte * 2^20", &bytes)) {
        import_lose(ovf->import, "memory: '%s %s' is no size", count ? count : "",
                    unit ? unit : "");
        return;
    }
    bytes -= bytes % CONFIG_MEMORY_ALIGN;
    text = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
    import_set(ovf->import, "memory", text);
}

/* The network by its name: those of VirtualBox are kinds. */
static const char *find_network(struct ovf *ovf, const char *name)
{
    if (name && g_ascii_strcasecmp(name, "NAT") == 0)
        return "user";
    if (name && *name && !is(name, "none"))
        import_lose(ovf->import, "nic: the network '%s'; it becomes a card without a cable", name);
    return "none";
}

static void take_nic(struct ovf *ovf, xmlNode *item)
{
    g_autofree char *network = item_text(item, "Connection");
    g_autofree char *mac = item_text(item, "Address");
    g_autofree char *model = item_text(item, "ResourceSubType");
    g_autoptr(GString) entry = g_string_new(NULL);

    if (model && *model && g_ascii_strncasecmp(model, "virtio", strlen("virtio")) != 0)
        import_lose(ovf->import, "nic: the model '%s'; it becomes a virtio card", model);
    import_entry_add(entry, NULL, find_network(ovf, network));
    /* VirtualBox writes none there, VMware may have an address on a bus. */
    if (mac && strchr(mac, ':'))
        import_take_mac(ovf->import, entry, mac);
    import_set(ovf->import, "nic", entry->str);
}

/* The item that is the controller of a disk. */
static xmlNode *find_parent(xmlNode *item)
{
    g_autofree char *parent = item_text(item, "Parent");

    for (xmlNode *other = item->parent->children; parent && other; other = other->next) {
        g_autofree char *own = NULL;

        if (other->type != XML_ELEMENT_NODE)
            continue;
        own = item_text(other, "InstanceID");
        if (is(own, parent))
            return other;
    }
    return NULL;
}

static void tell_controller(struct ovf *ovf, xmlNode *item, const char *path)
{
    xmlNode *parent = find_parent(item);
    g_autofree char *model = parent ? item_text(parent, "ResourceSubType") : NULL;

    if (!model || !*model) {
        g_free(model);
        model = parent ? item_name(parent) : NULL;
    }
    if (model)
        import_lose(ovf->import, "disk %s: the controller '%s'; it becomes a virtio disk", path,
                    model);
}

/* "ovf:/disk/ID", or without "ovf:" in files of the first versions. */
static void take_disk(struct ovf *ovf, xmlNode *item)
{
    g_autofree char *resource = item_text(item, "HostResource"), *name = item_name(item);
    g_autoptr(GString) entry = g_string_new(NULL);
    const char *id = resource ? strstr(resource, "/disk/") : NULL, *path;

    if (!id) {
        import_lose(ovf->import, "%s: '%s' is no disk of the package", name,
                    resource ? resource : "");
        return;
    }
    path = ovf_take_disk(ovf, id + strlen("/disk/"));
    if (!path)
        return;
    tell_controller(ovf, item, path);
    import_entry_add(entry, NULL, path);
    import_set(ovf->import, "disk", entry->str);
}

static void take_item(struct ovf *ovf, xmlNode *item, bool settings)
{
    g_autofree char *name = item_name(item), *resource = item_text(item, "HostResource");

    switch (item_type(item)) {
    case RESOURCE_CPU:
        take_cpus(ovf, item);
        break;
    case RESOURCE_MEMORY:
        take_memory(ovf, item);
        break;
    case RESOURCE_ETHERNET:
        if (!settings)
            take_nic(ovf, item);
        break;
    case RESOURCE_DISK:
        take_disk(ovf, item);
        break;
    /* Told with the disk that it has. */
    case RESOURCE_IDE:
    case RESOURCE_SCSI:
    case RESOURCE_FC:
    case RESOURCE_ISCSI:
    case RESOURCE_STORAGE:
        break;
    /* An empty drive is not missed. */
    case RESOURCE_FLOPPY:
    case RESOURCE_CD:
    case RESOURCE_DVD:
        if (resource && *resource)
            import_lose(ovf->import, "%s: '%s'", name, resource);
        break;
    default:
        import_lose(ovf->import, "%s", name);
    }
}

/* VMware's settings: of them only the firmware is one that a guest cannot do without. */
static void take_config(struct ovf *ovf, xmlNode *node)
{
    g_autofree char *key = ovf_attribute(node, "key"), *value = ovf_attribute(node, "value");

    if (is(key, "firmware") && value && g_ascii_strcasecmp(value, "efi") == 0)
        import_lose(ovf->import, "firmware: EFI");
}

void ovf_read_hardware(struct ovf *ovf, xmlNode *section)
{
    static const char *const items[] = {"Item", "StorageItem", "EthernetPortItem", NULL};
    xmlNode *box = import_child(import_child(ovf->system, "Machine"), "Hardware");
    bool settings = import_child(box, "Network");

    for (xmlNode *node = section->children; node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        if (g_strv_contains(items, (const char *)node->name))
            take_item(ovf, node, settings);
        else if (is((const char *)node->name, "Config"))
            take_config(ovf, node);
    }
}
