// SPDX-License-Identifier: Apache-2.0
/*
 * Machines of VirtualBox (its settings files, schema VirtualBox-settings.xsd).
 */
#include <string.h>

#include "vmm/import/import.h"

#define MAC_DIGITS 12

static bool is(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

static void take_cpu(struct import *import, xmlNode *node)
{
    g_autofree char *count = import_attribute(node, "count");

    import_set(import, "cpus", count);
}

static void take_memory(struct import *import, xmlNode *node)
{
    g_autofree char *megabytes = import_attribute(node, "RAMSize");
    g_autofree char *size = megabytes ? g_strconcat(megabytes, "M", NULL) : NULL;

    import_set(import, "memory", size);
}

static void take_firmware(struct import *import, xmlNode *node)
{
    g_autofree char *type = import_attribute(node, "type");

    if (type && g_str_has_prefix(type, "EFI"))
        import_lose(import, "firmware: EFI");
}

/* ---- networks ---- */

/* "080027AABBCC" with colons; NULL for what is no address. */
static char *format_mac(const char *digits)
{
    GString *mac = g_string_new(NULL);

    if (digits && strlen(digits) == MAC_DIGITS)
        for (unsigned i = 0; i < MAC_DIGITS; i++)
            g_string_append_printf(mac, "%s%c", i && i % 2 == 0 ? ":" : "",
                                   g_ascii_tolower(digits[i]));
    return g_string_free(mac, !mac->len);
}

/* A port forward: protocol 1 is TCP, 0 is UDP. */
static void add_forward(GString *entry, xmlNode *node)
{
    g_autofree char *protocol = import_attribute(node, "proto");
    g_autofree char *host = import_attribute(node, "hostip");
    g_autofree char *host_port = import_attribute(node, "hostport");
    g_autofree char *guest = import_attribute(node, "guestip");
    g_autofree char *guest_port = import_attribute(node, "guestport");
    g_autofree char *forward = g_strdup_printf(
        "%s:%s:%s:%s%s%s", is(protocol, "0") ? "udp" : "tcp", host && *host ? host : "0.0.0.0",
        host_port ? host_port : "", guest ? guest : "", guest && *guest ? ":" : "",
        guest_port ? guest_port : "");

    import_entry_add(entry, "forward", forward);
}

static void take_adapter(struct import *import, xmlNode *node)
{
    static const char *const others[] = {"BridgedInterface", "InternalNetwork", "HostOnlyInterface",
                                         "GenericInterface", "HostOnlyNetwork", "NATNetwork"};
    g_autofree char *enabled = import_attribute(node, "enabled");
    g_autofree char *digits = import_attribute(node, "MACAddress"), *mac = format_mac(digits);
    g_autofree char *type = import_attribute(node, "type");
    g_autoptr(GString) entry = g_string_new(NULL);
    xmlNode *nat = import_child(node, "NAT");

    if (!is(enabled, "true"))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        if (import_child(node, others[i]))
            import_lose(import, "nic: the %s; it becomes a card without a cable", others[i]);
    if (type && !is(type, "virtio"))
        import_lose(import, "nic: the model '%s'; it becomes a virtio card", type);
    import_entry_add(entry, NULL, nat ? "user" : "none");
    import_take_mac(import, entry, mac);
    for (xmlNode *child = nat ? nat->children : NULL; child; child = child->next)
        if (child->type == XML_ELEMENT_NODE && is((const char *)child->name, "Forwarding"))
            add_forward(entry, child);
    import_set(import, "nic", entry->str);
}

void import_vbox_network(struct import *import, xmlNode *network)
{
    static const struct import_rule rules[] = {{"Adapter", take_adapter}, {0}};

    import_children(import, network, rules, "Network: ");
}

/* ---- disks ---- */

/* The medium with this number, below `node`. */
static xmlNode *find_medium(xmlNode *node, const char *number)
{
    for (xmlNode *child = node ? node->children : NULL; child; child = child->next) {
        g_autofree char *own = NULL;
        xmlNode *deeper;

        if (child->type != XML_ELEMENT_NODE)
            continue;
        own = import_attribute(child, "uuid");
        if (is(own, number))
            return child;
        deeper = find_medium(child, number);
        if (deeper)
            return deeper;
    }
    return NULL;
}

/* The element of the machine that is `node` or around it. */
static xmlNode *machine_of(xmlNode *node)
{
    while (node && !is((const char *)node->name, "Machine"))
        node = node->parent;
    return node;
}

static void take_device(struct import *import, xmlNode *node)
{
    g_autofree char *type = import_attribute(node, "type");
    g_autofree char *number = import_child_attribute(node, "Image", "uuid");
    xmlNode *medium =
        number ? find_medium(import_child(machine_of(node), "MediaRegistry"), number) : NULL;
    g_autofree char *path = import_attribute(medium, "location");
    g_autofree char *format = import_attribute(medium, "format");
    g_autoptr(GString) entry = g_string_new(NULL);

    if (!number)
        return;
    if (!is(type, "HardDisk") || !path) {
        import_lose(import, "%s %s", type ? type : "disk", path ? path : number);
        return;
    }
    import_entry_add(entry, NULL, path);
    if (!import_format_add(import, entry, path, format ? format : ""))
        return;
    import_set(import, "disk", entry->str);
}

static void take_controller(struct import *import, xmlNode *node)
{
    static const struct import_rule rules[] = {{"AttachedDevice", take_device}, {0}};
    g_autofree char *type = import_attribute(node, "type");

    if (type && import_child(node, "AttachedDevice") && !is(type, "VirtioSCSI"))
        import_lose(import, "disks: the controller '%s'; they become virtio disks", type);
    import_children(import, node, rules, "StorageController: ");
}

static void take_controllers(struct import *import, xmlNode *node)
{
    static const struct import_rule rules[] = {{"StorageController", take_controller}, {0}};

    import_children(import, node, rules, "");
}

/* ---- the machine ---- */

static void take_hardware(struct import *import, xmlNode *node)
{
    static const struct import_rule rules[] = {
        {"CPU", take_cpu},
        {"Memory", take_memory},
        {"Network", import_vbox_network},
        {"StorageControllers", take_controllers},
        {"BIOS", NULL},
        {"Boot", NULL},
        {"Chipset", NULL},
        {"Firmware", take_firmware},
        {"GuestProperties", NULL},
        {"HID", NULL},
        {"Paravirt", NULL},
        {"RTC", NULL},
        {0},
    };

    import_children(import, node, rules, "");
}

static void take_machine(struct import *import, xmlNode *node)
{
    static const struct import_rule rules[] = {
        {"Hardware", take_hardware}, {"StorageControllers", take_controllers},
        {"MediaRegistry", NULL},     {"ExtraData", NULL},
        {"Description", NULL},       {0},
    };
    g_autofree char *name = import_attribute(node, "name");

    import_set(import, "name", name);
    import_children(import, node, rules, "");
}

void import_vbox(struct import *import, xmlNode *root)
{
    static const struct import_rule rules[] = {{"Machine", take_machine}, {0}};

    import_children(import, root, rules, "");
}
