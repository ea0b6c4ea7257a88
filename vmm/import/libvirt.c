// SPDX-License-Identifier: Apache-2.0
/*
 * Domains of libvirt (libvirt.org, "Domain XML format").
 */
#include <string.h>

#include "config/limits.h"
#include "vmm/import/import.h"

static bool is(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

/* ---- the machine ---- */

static void take_name(struct import *import, xmlNode *node)
{
    g_autofree char *name = import_text(node);

    import_set(import, "name", name);
}

/* Bytes of one unit; 0: there is no such unit. */
static uint64_t unit_of(const char *unit)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {
        {"b", 1},          {"bytes", 1},        {"KB", 1000},
        {"k", 1ULL << 10}, {"KiB", 1ULL << 10}, {"MB", 1000 * 1000},
        {"M", 1ULL << 20}, {"MiB", 1ULL << 20}, {"GB", 1000ULL * 1000 * 1000},
        {"G", 1ULL << 30}, {"GiB", 1ULL << 30}, {"TB", 1000ULL * 1000 * 1000 * 1000},
        {"T", 1ULL << 40}, {"TiB", 1ULL << 40},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(units); i++)
        if (is(unit ? unit : "KiB", units[i].name))
            return units[i].bytes;
    return 0;
}

static void take_memory(struct import *import, xmlNode *node)
{
    g_autofree char *text = import_text(node), *unit = import_attribute(node, "unit");
    g_autofree char *bytes = NULL;
    uint64_t number, each = unit_of(unit);

    if (!each || !g_ascii_string_to_unsigned(text, 10, 1, UINT64_MAX / each, &number, NULL)) {
        import_lose(import, "memory: '%s %s' is no size", text, unit ? unit : "KiB");
        return;
    }
    number *= each;
    number -= number % CONFIG_MEMORY_ALIGN;
    bytes = g_strdup_printf("%" G_GUINT64_FORMAT, number);
    import_set(import, "memory", bytes);
}

static void take_vcpu(struct import *import, xmlNode *node)
{
    g_autofree char *count = import_text(node);

    import_set(import, "cpus", count);
}

static void take_cpu(struct import *import, xmlNode *node)
{
    g_autofree char *mode = import_attribute(node, "mode");
    g_autofree char *model = import_text(import_child(node, "model"));

    if (is(mode, "host-passthrough") || is(mode, "host-model") || is(mode, "maximum"))
        import_set(import, "cpu", "host");
    else if (model)
        import_lose(import, "cpu: the model '%s'; it becomes the default", model);
}

static void take_arch(struct import *import, xmlNode *node)
{
    g_autofree char *arch = import_attribute(node, "arch"), *type = import_text(node);

    if (arch && !is(arch, "x86_64") && !is(arch, "i686"))
        import_lose(import, "os: the architecture '%s'", arch);
    if (type && *type && !is(type, "hvm"))
        import_lose(import, "os: the type '%s'", type);
}

static void take_kernel(struct import *import, xmlNode *node)
{
    g_autofree char *path = import_text(node);

    import_set(import, "kernel", path);
}

static void take_initrd(struct import *import, xmlNode *node)
{
    g_autofree char *path = import_text(node);

    import_set(import, "initrd", path);
}

static void take_cmdline(struct import *import, xmlNode *node)
{
    g_autofree char *text = import_text(node);

    import_set(import, "append", text);
}

static void take_os(struct import *import, xmlNode *node)
{
    static const struct import_rule rules[] = {
        {"type", take_arch},
        {"kernel", take_kernel},
        {"initrd", take_initrd},
        {"cmdline", take_cmdline},
        {"boot", NULL},
        {"bootmenu", NULL},
        {"bios", NULL},
        {"smbios", NULL},
        {0},
    };
    g_autofree char *firmware = import_attribute(node, "firmware");

    if (is(firmware, "efi"))
        import_lose(import, "firmware: EFI");
    import_children(import, node, rules, "os: ");
}

static void take_on_poweroff(struct import *import, xmlNode *node)
{
    g_autofree char *action = import_text(node);

    if (is(action, "restart"))
        import_set(import, "restart", "always");
    else if (!is(action, "destroy"))
        import_lose(import, "on_poweroff: '%s'", action);
}

static void take_on_reboot(struct import *import, xmlNode *node)
{
    g_autofree char *action = import_text(node);

    import_set(import, "on-reboot", is(action, "restart") ? "restart" : "exit");
}

static void take_on_crash(struct import *import, xmlNode *node)
{
    g_autofree char *action = import_text(node);

    if (is(action, "restart") || is(action, "coredump-restart"))
        import_set(import, "on-crash", "restart");
    else
        import_set(import, "on-crash", is(action, "preserve") ? "pause" : "exit");
}

static void take_features(struct import *import, xmlNode *node)
{
    /* What every machine of ours has. */
    static const struct import_rule rules[] = {{"acpi", NULL}, {"apic", NULL}, {"pae", NULL}, {0}};

    import_children(import, node, rules, "features: ");
}

static void take_clock(struct import *import, xmlNode *node)
{
    g_autofree char *offset = import_attribute(node, "offset");

    if (offset && !is(offset, "utc"))
        import_lose(import, "clock: the offset '%s'; it becomes utc", offset);
}

/* ---- devices ---- */

/* Where the bytes of a disk are; NULL: nowhere that we could open. */
static char *find_disk(xmlNode *node)
{
    char *path = import_child_attribute(node, "source", "file");

    return path ? path : import_child_attribute(node, "source", "dev");
}

static const char *known_cache(struct import *import, const char *path, const char *cache)
{
    if (!cache || is(cache, "default"))
        return NULL;
    if (is(cache, "none") || is(cache, "writeback") || is(cache, "writethrough"))
        return cache;
    import_lose(import, "disk %s: the cache '%s'; it becomes the default", path, cache);
    return NULL;
}

static void take_disk(struct import *import, xmlNode *node)
{
    g_autofree char *device = import_attribute(node, "device"), *path = find_disk(node);
    g_autofree char *bus = import_child_attribute(node, "target", "bus");
    g_autofree char *format = import_child_attribute(node, "driver", "type");
    g_autofree char *cache = import_child_attribute(node, "driver", "cache");
    g_autofree char *discard = import_child_attribute(node, "driver", "discard");
    g_autofree char *serial = import_text(import_child(node, "serial"));
    g_autoptr(GString) entry = g_string_new(NULL);

    if (!path || (device && !is(device, "disk"))) {
        import_lose(import, "%s %s", device ? device : "disk",
                    path ? path : "that is no file of this host");
        return;
    }
    import_entry_add(entry, NULL, path);
    if (!import_format_add(import, entry, path, format))
        return;
    if (bus && !is(bus, "virtio"))
        import_lose(import, "disk %s: the bus '%s'; it becomes a virtio disk", path, bus);
    import_entry_add(entry, "readonly", import_child(node, "readonly") ? "yes" : NULL);
    import_entry_add(entry, "serial", serial);
    import_entry_add(entry, "cache", known_cache(import, path, cache));
    import_entry_add(entry, "discard", is(discard, "ignore") ? "no" : NULL);
    import_set(import, "disk", entry->str);
}

/* What the card is plugged into; a network that only libvirt knows is none. */
static char *find_network(struct import *import, xmlNode *node)
{
    g_autofree char *type = import_attribute(node, "type");
    g_autofree char *network = import_child_attribute(node, "source", "network");
    g_autofree char *bridge = import_child_attribute(node, "source", "bridge");
    g_autofree char *tap = import_child_attribute(node, "target", "dev");
    const char *name = network ? network : bridge;

    if (is(type, "user"))
        return g_strdup("user");
    if (is(type, "ethernet") && tap)
        return g_strconcat("tap=", tap, NULL);
    if (is(type, "bridge") && bridge)
        return g_strconcat("bridge=", bridge, NULL);
    import_lose(import, "nic: the %s%s%s%s; it becomes a card without a cable",
                type ? type : "network", name ? " '" : "", name ? name : "", name ? "'" : "");
    return g_strdup("none");
}

static void take_interface(struct import *import, xmlNode *node)
{
    g_autofree char *network = find_network(import, node);
    g_autofree char *mac = import_child_attribute(node, "mac", "address");
    g_autofree char *mtu = import_child_attribute(node, "mtu", "size");
    g_autofree char *model = import_child_attribute(node, "model", "type");
    g_autoptr(GString) entry = g_string_new(NULL);

    if (model && !is(model, "virtio"))
        import_lose(import, "nic: the model '%s'; it becomes a virtio card", model);
    if (import_child(node, "portForward"))
        import_lose(import, "nic: port forwards");
    import_entry_add(entry, NULL, network);
    import_entry_add(entry, "mac", mac);
    import_entry_add(entry, "mtu", mtu);
    import_set(import, "nic", entry->str);
}

/* The place of a line as our options have it; NULL: it has none. */
static char *find_place(xmlNode *node)
{
    g_autofree char *type = import_attribute(node, "type");
    g_autofree char *path = import_child_attribute(node, "source", "path");

    if (is(type, "pty"))
        return g_strdup("pty");
    if (path && (is(type, "file") || is(type, "unix")))
        return g_strconcat(is(type, "file") ? "file=" : "socket=", path, NULL);
    return NULL;
}

static void take_line(struct import *import, xmlNode *node, enum option_id id)
{
    g_autofree char *place = find_place(node), *type = import_attribute(node, "type");

    if (place && !definition_given(import->definition, id))
        import_set(import, options[id].key, place);
    else
        import_lose(import, "%s: %s", options[id].key,
                    place  ? "a further one"
                    : type ? type
                           : "without a type");
}

static void take_serial(struct import *import, xmlNode *node)
{
    take_line(import, node, OPTION_SERIAL);
}

/* One whose target is the serial port says the same again. */
static void take_console(struct import *import, xmlNode *node)
{
    g_autofree char *target = import_child_attribute(node, "target", "type");

    if (is(target, "virtio"))
        take_line(import, node, OPTION_CONSOLE);
}

static void take_channel(struct import *import, xmlNode *node)
{
    g_autofree char *target = import_child_attribute(node, "target", "type");
    g_autofree char *name = import_child_attribute(node, "target", "name");
    g_autofree char *type = import_attribute(node, "type");
    g_autofree char *path = import_child_attribute(node, "source", "path");
    g_autoptr(GString) entry = g_string_new(NULL);

    /* The socket of libvirt's own client; ours needs none. */
    if (is(name, CONFIG_AGENT_PORT) && is(target, "virtio") && is(type, "unix")) {
        import_set(import, "agent", "yes");
        return;
    }
    if (!name || !path || !is(target, "virtio") || (!is(type, "unix") && !is(type, "file"))) {
        import_lose(import, "channel %s", name ? name : type ? type : "without a name");
        return;
    }
    import_entry_add(entry, NULL, name);
    import_entry_add(entry, is(type, "unix") ? "socket" : "file", path);
    import_set(import, "port", entry->str);
}

static void take_rng(struct import *import, xmlNode *node)
{
    if (!definition_lists(import->definition, OPTION_DEVICE, "virtio-rng"))
        import_set(import, "device", "virtio-rng");
}

static void take_panic(struct import *import, xmlNode *node)
{
    g_autofree char *model = import_attribute(node, "model");

    if (model && !is(model, "isa"))
        import_lose(import, "panic: the model '%s'", model);
    else if (!definition_lists(import->definition, OPTION_DEVICE, "pvpanic"))
        import_set(import, "device", "pvpanic");
}

static void take_devices(struct import *import, xmlNode *node)
{
    static const struct import_rule rules[] = {
        {"disk", take_disk},
        {"interface", take_interface},
        {"serial", take_serial},
        {"console", take_console},
        {"channel", take_channel},
        {"rng", take_rng},
        {"panic", take_panic},
        {"controller", NULL},
        {"emulator", NULL},
        {"input", NULL},
        {0},
    };

    import_children(import, node, rules, "");
}

void import_libvirt(struct import *import, xmlNode *root)
{
    static const struct import_rule rules[] = {
        {"name", take_name},
        {"memory", take_memory},
        {"vcpu", take_vcpu},
        {"cpu", take_cpu},
        {"os", take_os},
        {"on_poweroff", take_on_poweroff},
        {"on_reboot", take_on_reboot},
        {"on_crash", take_on_crash},
        {"features", take_features},
        {"clock", take_clock},
        {"devices", take_devices},
        {"uuid", NULL},
        {"genid", NULL},
        {"currentMemory", NULL},
        {"maxMemory", NULL},
        {"metadata", NULL},
        {"pm", NULL},
        {"resource", NULL},
        {"seclabel", NULL},
        {0},
    };

    import_children(import, root, rules, "");
}
