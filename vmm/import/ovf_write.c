// SPDX-License-Identifier: Apache-2.0
/*
 * The descriptor of a machine of ours, OVF 1.1 (DSP0243), which all programs read.
 *
 * OVF has no word for virtio. Others see what each of them has drivers for: a SATA controller as
 * VirtualBox names it, and network cards of the type E1000. What the machine truly has stands in
 * the section of our own (ovf_section.c).
 */
#include <inttypes.h>
#include <libxml/xmlwriter.h>
#include <stdarg.h>
#include <string.h>

#include "vmm/import/ovf.h"

#define RASD             "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
#define VSSD             "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
#define STREAM_OPTIMIZED "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
#define SYSTEM_TYPE      "vmx-10" /* VMware's name of a board with SATA; others take any */

#define FIRST_FREE_ITEM 4 /* behind the CPUs, the memory and the controller */

struct writer {
    xmlTextWriter *xml;
    const struct definition *definition;
    const char *name;
    const struct ovf_part *parts;
    unsigned count;
    unsigned items; /* InstanceIDs that are taken */
    struct import *lost;
};

/* ---- elements ---- */

static void begin(struct writer *writer, const char *name)
{
    xmlTextWriterStartElement(writer->xml, (const xmlChar *)name);
}

static void end(struct writer *writer)
{
    xmlTextWriterEndElement(writer->xml);
}

static void attribute(struct writer *writer, const char *name, const char *value)
{
    xmlTextWriterWriteAttribute(writer->xml, (const xmlChar *)name, (const xmlChar *)value);
}

static void attribute_number(struct writer *writer, const char *name, uint64_t value)
{
    g_autofree char *text = g_strdup_printf("%" PRIu64, value);

    attribute(writer, name, text);
}

static void element(struct writer *writer, const char *name, const char *text)
{
    xmlTextWriterWriteElement(writer->xml, (const xmlChar *)name, (const xmlChar *)text);
}

static G_GNUC_PRINTF(2, 3) void lose(struct writer *writer, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    if (!writer->lost)
        return;
    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    import_lose(writer->lost, "%s", text);
}

/* ---- files and disks ---- */

/* "file3" and "vmdisk2" are what others call theirs too. */
static char *file_id(unsigned part)
{
    return g_strdup_printf("file%u", part + 1);
}

static char *disk_id(unsigned index)
{
    return g_strdup_printf("vmdisk%u", index + 1);
}

static void write_references(struct writer *writer)
{
    begin(writer, "References");
    for (unsigned i = 0; i < writer->count; i++) {
        g_autofree char *id = file_id(i);

        begin(writer, "File");
        attribute(writer, "ovf:id", id);
        attribute(writer, "ovf:href", writer->parts[i].href);
        attribute_number(writer, "ovf:size", writer->parts[i].size);
        end(writer);
    }
    end(writer);
}

static void write_disks(struct writer *writer)
{
    begin(writer, "DiskSection");
    element(writer, "Info", "Disks of the machine");
    for (unsigned i = 0; i < writer->count; i++) {
        const struct ovf_part *part = &writer->parts[i];
        g_autofree char *file = file_id(i), *id = disk_id(part->index);

        if (part->option != OPTION_DISK)
            continue;
        begin(writer, "Disk");
        attribute_number(writer, "ovf:capacity", part->capacity);
        attribute(writer, "ovf:diskId", id);
        attribute(writer, "ovf:fileRef", file);
        attribute(writer, "ovf:format", STREAM_OPTIMIZED);
        end(writer);
    }
    end(writer);
}

/* What a network is called: users know VirtualBox's word for the first. */
static const char *network_name(const struct definition *definition, unsigned index)
{
    const char *network = definition_member_text(definition, OPTION_NIC, index, "network");

    return g_str_equal(network, "user") ? "NAT" : network;
}

static void write_networks(struct writer *writer)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    begin(writer, "NetworkSection");
    element(writer, "Info", "Networks that the machine is plugged into");
    for (unsigned i = 0; i < definition_count(writer->definition, OPTION_NIC); i++) {
        const char *name = network_name(writer->definition, i);

        if (!g_hash_table_add(seen, (char *)name))
            continue;
        begin(writer, "Network");
        attribute(writer, "ovf:name", name);
        element(writer, "Description", name);
        end(writer);
    }
    end(writer);
}

/* ---- hardware ---- */

static void write_system(struct writer *writer)
{
    begin(writer, "System");
    element(writer, "vssd:ElementName", "Virtual Hardware Family");
    element(writer, "vssd:InstanceID", "0");
    element(writer, "vssd:VirtualSystemIdentifier", writer->name);
    element(writer, "vssd:VirtualSystemType", SYSTEM_TYPE);
    end(writer);
}

/* Members of an item come in the order of the alphabet; a NULL value leaves one out. */
static void write_item(struct writer *writer, const char *const *members)
{
    begin(writer, "Item");
    for (; members[0]; members += 2)
        if (members[1])
            element(writer, members[0], members[1]);
    end(writer);
}

static void write_cpus(struct writer *writer)
{
    g_autofree char *count =
        g_strdup_printf("%" PRIu64, definition_number(writer->definition, OPTION_CPUS));
    g_autofree char *name = g_strdup_printf("%s virtual CPU(s)", count);
    const char *const members[] = {"rasd:AllocationUnits",
                                   "hertz * 10^6",
                                   "rasd:Description",
                                   "Number of virtual CPUs",
                                   "rasd:ElementName",
                                   name,
                                   "rasd:InstanceID",
                                   "1",
                                   "rasd:ResourceType",
                                   "3",
                                   "rasd:VirtualQuantity",
                                   count,
                                   NULL};

    write_item(writer, members);
}

/* In megabytes where others have nothing finer. */
static void write_memory(struct writer *writer)
{
    uint64_t bytes = definition_number(writer->definition, OPTION_MEMORY);
    uint64_t megabytes = (bytes + (1 << 20) - 1) >> 20;
    g_autofree char *count = g_strdup_printf("%" PRIu64, megabytes);
    g_autofree char *name = g_strdup_printf("%s MB of memory", count);
    const char *const members[] = {"rasd:AllocationUnits",
                                   "byte * 2^20",
                                   "rasd:Description",
                                   "Memory Size",
                                   "rasd:ElementName",
                                   name,
                                   "rasd:InstanceID",
                                   "2",
                                   "rasd:ResourceType",
                                   "4",
                                   "rasd:VirtualQuantity",
                                   count,
                                   NULL};

    write_item(writer, members);
    if (bytes % (1 << 20))
        lose(writer, "memory: whole megabytes for other programs than Anima: %s", count);
}

static void write_controller(struct writer *writer)
{
    const char *const members[] = {"rasd:Address",
                                   "0",
                                   "rasd:Description",
                                   "SATA Controller",
                                   "rasd:ElementName",
                                   "sataController0",
                                   "rasd:InstanceID",
                                   "3",
                                   "rasd:ResourceSubType",
                                   "AHCI",
                                   "rasd:ResourceType",
                                   "20",
                                   NULL};

    if (!definition_count(writer->definition, OPTION_DISK))
        return;
    write_item(writer, members);
    lose(writer, "disk: virtio has no name in OVF; other programs than Anima see SATA disks");
}

static void write_disk(struct writer *writer, unsigned index)
{
    g_autofree char *id = disk_id(index), *resource = g_strconcat("ovf:/disk/", id, NULL);
    g_autofree char *item = g_strdup_printf("%u", writer->items++);
    g_autofree char *place = g_strdup_printf("%u", index);
    g_autofree char *name = g_strdup_printf("disk%u", index);
    const char *const members[] = {"rasd:AddressOnParent",
                                   place,
                                   "rasd:ElementName",
                                   name,
                                   "rasd:HostResource",
                                   resource,
                                   "rasd:InstanceID",
                                   item,
                                   "rasd:Parent",
                                   "3",
                                   "rasd:ResourceType",
                                   "17",
                                   NULL};

    write_item(writer, members);
}

static void write_nic(struct writer *writer, unsigned index)
{
    const char *network = network_name(writer->definition, index);
    g_autofree char *item = g_strdup_printf("%u", writer->items++);
    g_autofree char *name = g_strdup_printf("Network card on '%s'", network);
    const char *const members[] = {
        "rasd:Address",
        definition_member_text(writer->definition, OPTION_NIC, index, "mac"),
        "rasd:AutomaticAllocation",
        "true",
        "rasd:Connection",
        network,
        "rasd:ElementName",
        name,
        "rasd:InstanceID",
        item,
        "rasd:ResourceSubType",
        "E1000",
        "rasd:ResourceType",
        "10",
        NULL};

    write_item(writer, members);
}

static void write_hardware(struct writer *writer)
{
    unsigned disks = definition_count(writer->definition, OPTION_DISK);
    unsigned nics = definition_count(writer->definition, OPTION_NIC);

    begin(writer, "VirtualHardwareSection");
    element(writer, "Info", "What the machine has");
    write_system(writer);
    write_cpus(writer);
    write_memory(writer);
    write_controller(writer);
    for (unsigned i = 0; i < disks; i++)
        write_disk(writer, i);
    for (unsigned i = 0; i < nics; i++)
        write_nic(writer, i);
    if (nics)
        lose(writer, "nic: virtio has no name in OVF; other programs than Anima see E1000 cards");
    end(writer);
}

/* ---- the section of our own ---- */

static void write_text(struct writer *writer, const char *name, const char *key, const char *text)
{
    begin(writer, name);
    attribute(writer, "anima:key", key);
    xmlTextWriterWriteString(writer->xml, (const xmlChar *)text);
    end(writer);
}

/* The part that has the option's entry; NULL: none, it is of this host. */
static const struct ovf_part *find_part(struct writer *writer, enum option_id option,
                                        unsigned index, char **id)
{
    for (unsigned i = 0; i < writer->count; i++)
        if (writer->parts[i].option == option && writer->parts[i].index == index) {
            *id = file_id(i);
            return &writer->parts[i];
        }
    return NULL;
}

static void lose_host(struct writer *writer, const char *key, const char *text)
{
    lose(writer, "%s: '%s' is of this host", key, text);
}

/* A value that a file of the package has; behind a module's name stand its arguments. */
static void write_reference(struct writer *writer, enum option_id id, unsigned index,
                            const char *text)
{
    g_autofree char *file = NULL;
    const char *rest = strchr(text, ' ');

    if (!find_part(writer, id, index, &file)) {
        lose_host(writer, options[id].key, text);
        return;
    }
    begin(writer, "anima:Option");
    attribute(writer, "anima:key", options[id].key);
    attribute(writer, "anima:file", file);
    if (id == OPTION_MODULE && rest)
        xmlTextWriterWriteString(writer->xml, (const xmlChar *)rest + 1);
    end(writer);
}

static void write_option(struct writer *writer, enum option_id id, unsigned index, const char *text)
{
    const struct option *row = &options[id];

    if (ovf_names_host(row, text))
        write_reference(writer, id, index, text);
    else
        write_text(writer, "anima:Option", row->key, text);
}

/* A number as its row reads it. */
static char *number_text(const struct option *row, uint64_t number)
{
    if (row->type == OPTION_TYPE_BOOL)
        return g_strdup(number ? "yes" : "no");
    return g_strdup_printf("%" PRIu64, number);
}

static bool is_number(const struct option *row)
{
    return row->type == OPTION_TYPE_BOOL || row->type == OPTION_TYPE_INT ||
           row->type == OPTION_TYPE_SIZE;
}

/* Whether the value is the row's default, which need not be said. */
static bool is_preset(const struct option *row, const char *text)
{
    struct option_value preset = {0}, value = {0};
    bool same;

    if (!row->preset || !option_parse(row, row->preset, &preset, NULL))
        return false;
    same = option_parse(row, text, &value, NULL) && preset.number == value.number &&
           g_strcmp0(preset.text, value.text) == 0;
    g_free(preset.text);
    g_free(value.text);
    return same;
}

static void write_member(struct writer *writer, enum option_id id, const struct option *row,
                         const char *text)
{
    if (!ovf_names_host(row, text))
        write_text(writer, "anima:Member", row->key, text);
    else if (g_str_equal(row->key, "network")) {
        lose(writer, "nic: the network '%s' is of this host; it becomes a card without a cable",
             text);
        write_text(writer, "anima:Member", row->key, "none");
    } else {
        lose_host(writer, options[id].key, text);
    }
}

static void write_members(struct writer *writer, enum option_id id, unsigned index)
{
    const struct definition *definition = writer->definition;

    for (const struct option *row = options[id].members; row->key; row++) {
        g_autofree char *text = NULL;

        for (unsigned i = 0;
             row->list && i < definition_member_count(definition, id, index, row->key); i++)
            write_member(writer, id, row,
                         definition_member_entry(definition, id, index, row->key, i));
        if (row->list || !definition_member_has(definition, id, index, row->key) ||
            (id == OPTION_DISK && row == options[id].members))
            continue;
        text = is_number(row)
                   ? number_text(row, definition_member_number(definition, id, index, row->key))
                   : g_strdup(definition_member_text(definition, id, index, row->key));
        if (!is_preset(row, text))
            write_member(writer, id, row, text);
    }
}

/* An entry without its file is none: where it leads is of this host. */
static bool leads_to_host(const struct writer *writer, enum option_id id, unsigned index)
{
    for (const struct option *row = options[id].members; row->key; row++)
        if (id != OPTION_DISK && row->type == OPTION_TYPE_PATH &&
            definition_member_has(writer->definition, id, index, row->key))
            return true;
    return false;
}

static void write_entry(struct writer *writer, enum option_id id, unsigned index)
{
    if (leads_to_host(writer, id, index)) {
        lose_host(writer, options[id].key,
                  definition_member_text(writer->definition, id, index, options[id].members->key));
        return;
    }
    begin(writer, "anima:Entry");
    attribute(writer, "anima:key", options[id].key);
    if (id == OPTION_DISK) {
        g_autofree char *disk = disk_id(index);

        attribute(writer, "anima:disk", disk);
    }
    write_members(writer, id, index);
    end(writer);
}

static void write_list(struct writer *writer, enum option_id id)
{
    for (unsigned i = 0; i < definition_count(writer->definition, id); i++)
        if (options[id].members)
            write_entry(writer, id, i);
        else
            write_option(writer, id, i, definition_entry(writer->definition, id, i));
}

static void write_section(struct writer *writer)
{
    const struct definition *definition = writer->definition;

    begin(writer, "anima:" OVF_SECTION);
    attribute(writer, "ovf:required", "false");
    element(writer, "Info", "The machine as Anima has it");
    for (enum option_id id = 0; id < OPTION_COUNT; id++) {
        g_autofree char *text = NULL;

        if (id == OPTION_NAME || !definition_given(definition, id))
            continue;
        if (options[id].list) {
            write_list(writer, id);
            continue;
        }
        text = is_number(&options[id])
                   ? number_text(&options[id], definition_number(definition, id))
                   : g_strdup(definition_text(definition, id));
        write_option(writer, id, 0, text);
    }
    end(writer);
    if (definition_given(definition, OPTION_KERNEL))
        lose(writer, "kernel: only Anima takes it from the package; other programs boot a disk");
}

/* ---- the machine ---- */

static void write_guest(struct writer *writer)
{
    const char *os = definition_text(writer->definition, OPTION_OS);

    begin(writer, "OperatingSystemSection");
    attribute_number(writer, "ovf:id", guest_cim(os));
    element(writer, "Info", "The kind of guest");
    if (os)
        element(writer, "Description", os);
    end(writer);
}

static void write_envelope(struct writer *writer)
{
    begin(writer, "Envelope");
    attribute(writer, "ovf:version", "1.0");
    attribute(writer, "xml:lang", "en-US");
    attribute(writer, "xmlns", OVF_NAMESPACE);
    attribute(writer, "xmlns:ovf", OVF_NAMESPACE);
    attribute(writer, "xmlns:rasd", RASD);
    attribute(writer, "xmlns:vssd", VSSD);
    attribute(writer, "xmlns:anima", OVF_SECTION_NS);
    write_references(writer);
    write_disks(writer);
    write_networks(writer);
    begin(writer, "VirtualSystem");
    attribute(writer, "ovf:id", writer->name);
    element(writer, "Info", "A virtual machine");
    element(writer, "Name", writer->name);
    write_guest(writer);
    write_hardware(writer);
    write_section(writer);
    end(writer);
    end(writer);
}

char *ovf_write(const struct definition *definition, const char *name, const struct ovf_part *parts,
                unsigned count, struct import *lost)
{
    xmlBuffer *buffer = xmlBufferCreate();
    struct writer writer = {.xml = xmlNewTextWriterMemory(buffer, 0),
                            .definition = definition,
                            .name = name,
                            .parts = parts,
                            .count = count,
                            .items = FIRST_FREE_ITEM,
                            .lost = lost};
    char *text;

    xmlTextWriterSetIndent(writer.xml, 1);
    xmlTextWriterSetIndentString(writer.xml, (const xmlChar *)"  ");
    xmlTextWriterStartDocument(writer.xml, "1.0", "UTF-8", NULL);
    write_envelope(&writer);
    xmlTextWriterEndDocument(writer.xml);
    xmlFreeTextWriter(writer.xml);
    text = g_strdup((char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}
