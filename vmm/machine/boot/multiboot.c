// SPDX-License-Identifier: Apache-2.0
/*
 * Multiboot 1 kernels (GNU Multiboot Specification 0.6.96).
 *
 * A header within the first 8 KiB, recognized by magic and checksum. The kernel is either ELF or a
 * flat image that the header places (the "a.out kludge"). It is entered in protected mode without
 * paging, EAX holds a magic number, EBX points to the information structure. No video mode is set.
 */
#include "vmm/machine/boot/internal.h"

#include "vmm/machine/pc/layout.h"

#include <inttypes.h>
#include <string.h>

#define HEADER_MAGIC 0x1badb002
#define LOADER_MAGIC 0x2badb002

#define HEADER_REQUIRED  0x0000ffffU /* what must be understood */
#define HEADER_ALIGN     (1U << 0)   /* modules at page boundaries: always so here */
#define HEADER_MEMORY    (1U << 1)
#define HEADER_VIDEO     (1U << 2) /* a wish, not a demand */
#define HEADER_ADDRESSES (1U << 16)

#define INFO_MEMORY      (1U << 0)
#define INFO_CMDLINE     (1U << 2)
#define INFO_MODULES     (1U << 3)
#define INFO_MEMORY_MAP  (1U << 6)
#define INFO_LOADER_NAME (1U << 9)

#define MODULES_MAX 32
#define MIB         (1UL << 20)

struct multiboot_header {
    uint32_t magic, flags, checksum;
    uint32_t header_address, load_address, load_end, bss_end, entry;
};

/* 3.3 Boot information format, as far as the flags above fill it. */
struct multiboot_info {
    uint32_t flags, memory_lower, memory_upper, boot_device, cmdline;
    uint32_t module_count, modules, symbols[4];
    uint32_t map_length, map, drives_length, drives, config_table, loader_name, apm_table;
};

struct multiboot_module {
    uint32_t start, end, string, reserved;
};

struct multiboot_map_entry {
    uint32_t size; /* of what follows */
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

/* All that the kernel is told, in one piece at PC_BOOT_ZERO_PAGE. */
struct info_page {
    struct multiboot_info info;
    struct multiboot_module modules[MODULES_MAX];
    struct multiboot_map_entry map[BOOT_REGIONS_MAX];
    char loader_name[16];
};

_Static_assert(sizeof(struct multiboot_info) == 72, "the specification's size");
_Static_assert(PC_BOOT_ZERO_PAGE + sizeof(struct info_page) <= PC_BOOT_STACK - 0x200,
               "the information ends below the stack");

/* The header's offset in the file, or -1. */
static int64_t find_header(const uint8_t *head, size_t length, struct multiboot_header *header)
{
    for (size_t at = 0; at + 12 <= length; at += 4) {
        memset(header, 0, sizeof(*header));
        memcpy(header, head + at, MIN(sizeof(*header), length - at));
        if (header->magic == HEADER_MAGIC && header->magic + header->flags + header->checksum == 0)
            return (int64_t)at;
    }
    return -1;
}

bool multiboot_is(const uint8_t *head, size_t length)
{
    struct multiboot_header header;

    return find_header(head, length, &header) >= 0;
}

/* Load as the header's address fields say; `*end` gets the first address behind the kernel. */
static bool load_flat(const struct boot_image *image, const struct multiboot_header *header,
                      uint64_t header_offset, uint64_t *end, GError **error)
{
    uint64_t before = (uint64_t)header->header_address - header->load_address;
    uint64_t size, offset, length, room;

    if (header->header_address < header->load_address || before > header_offset)
        return boot_refuse(&image->kernel, error,
                           "has a multiboot header with a load address outside of the file");
    if (!boot_file_size(&image->kernel, &size, error))
        return false;
    offset = header_offset - before;
    length = header->load_end ? (uint64_t)header->load_end - header->load_address : size - offset;
    if (header->load_end < header->load_address && header->load_end)
        return boot_refuse(&image->kernel, error,
                           "has a multiboot header that ends before it begins");
    room = length;
    if (header->bss_end > header->load_address)
        room = MAX(room, header->bss_end - header->load_address);
    if (!boot_claim(image, header->load_address, room, error) ||
        !boot_file_load(image, &image->kernel, offset, length, header->load_address, error))
        return false;
    boot_zero(image->memory, header->load_address + length, room - length);
    *end = header->load_address + room;
    return true;
}

static bool load_kernel(const struct boot_image *image, const struct multiboot_header *header,
                        uint64_t header_offset, uint64_t *entry, uint64_t *end, GError **error)
{
    struct elf_image elf;

    if (header->flags & HEADER_ADDRESSES) {
        *entry = header->entry;
        return load_flat(image, header, header_offset, end, error);
    }
    if (!elf_open(&image->kernel, &elf, error) || !elf_load(image, &elf, end, error))
        return false;
    *entry = elf.entry;
    return true;
}

/* Modules follow the kernel, each at a page boundary. */
static bool load_modules(const struct boot_image *image, uint64_t at, uint64_t strings,
                         struct info_page *page, GError **error)
{
    if (image->module_count > MODULES_MAX)
        return boot_refuse(&image->kernel, error, "gets %u modules; %u are the most",
                           image->module_count, MODULES_MAX);
    for (unsigned i = 0; i < image->module_count; i++) {
        const struct boot_file *file = &image->modules[i];
        struct multiboot_module *module = &page->modules[i];
        uint64_t size;

        at = (at + GUEST_PAGE_SIZE - 1) & GUEST_PAGE_MASK;
        if (!boot_file_size(file, &size, error))
            return false;
        if (!boot_is_usable(image->memory, at, size))
            return boot_refuse(file, error,
                               "a module of %" PRIu64 " MiB does not fit beside the kernel into a "
                               "memory of %u MiB; give the machine more",
                               size / MIB + (size % MIB != 0), boot_memory_mib(image->memory));
        if (!boot_file_load(image, file, 0, size, at, error))
            return false;
        module->start = (uint32_t)at;
        module->end = (uint32_t)(at + size);
        module->string = (uint32_t)strings;
        if (!boot_write_module_cmdline(image, file, &strings, error))
            return false;
        at += size;
    }
    return true;
}

static void fill_memory(const struct boot_image *image, struct info_page *page)
{
    struct boot_region regions[BOOT_REGIONS_MAX];
    unsigned count = boot_memory_map(image->memory, regions);

    for (unsigned i = 0; i < count; i++) {
        const struct boot_region *region = &regions[i];

        page->map[i] = (struct multiboot_map_entry){
            .size = sizeof(page->map[i]) - sizeof(page->map[i].size),
            .base = region->base,
            .length = region->size,
            .type = region->type,
        };
        if (region->type == BOOT_REGION_RAM && region->base == 0)
            page->info.memory_lower = (uint32_t)(region->size / 1024);
        if (region->type == BOOT_REGION_RAM && region->base == MIB)
            page->info.memory_upper = (uint32_t)(region->size / 1024);
    }
    page->info.map = PC_BOOT_ZERO_PAGE + offsetof(struct info_page, map);
    page->info.map_length = count * (uint32_t)sizeof(page->map[0]);
}

static bool write_info(const struct boot_image *image, struct info_page *page, GError **error)
{
    struct multiboot_info *info = &page->info;

    info->flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME;
    info->cmdline = PC_BOOT_CMDLINE;
    info->module_count = image->module_count;
    info->modules = PC_BOOT_ZERO_PAGE + offsetof(struct info_page, modules);
    info->loader_name = PC_BOOT_ZERO_PAGE + offsetof(struct info_page, loader_name);
    g_strlcpy(page->loader_name, "Anima", sizeof(page->loader_name));
    fill_memory(image, page);
    return memory_write(image->memory, PC_BOOT_ZERO_PAGE, page, sizeof(*page)) ||
           boot_refuse(&image->kernel, error, "does not fit: there is no memory below 1 MiB");
}

bool multiboot_load(const struct boot_image *image, const uint8_t *head, size_t length,
                    struct cpu_state *state, GError **error)
{
    g_autofree struct info_page *page = g_new0(struct info_page, 1);
    /* The specification's "NAME ARGS"; without arguments the name stands alone. */
    const char *space = image->cmdline && *image->cmdline ? " " : "";
    g_autofree char *prefix = g_strconcat(image->kernel.name, space, NULL);
    struct multiboot_header header;
    int64_t header_offset = find_header(head, length, &header);
    uint32_t unknown =
        header.flags & HEADER_REQUIRED & ~(HEADER_ALIGN | HEADER_MEMORY | HEADER_VIDEO);
    uint64_t entry, end, strings;

    if (unknown)
        return boot_refuse(&image->kernel, error,
                           "demands unknown features of multiboot (flags 0x%x)", unknown);
    if (!load_kernel(image, &header, (uint64_t)header_offset, &entry, &end, error))
        return false;
    if (!boot_is_usable(image->memory, entry, 1))
        return boot_refuse(&image->kernel, error,
                           "has its entry point at 0x%" PRIx64 ", outside of memory", entry);
    if (!boot_write_cmdline(image, prefix, UINT64_MAX, &strings, error) ||
        !load_modules(image, end, strings, page, error) || !write_info(image, page, error))
        return false;
    boot_enter_32(image, state, (uint32_t)entry);
    state->gpr[GPR_RAX] = LOADER_MAGIC;
    state->gpr[GPR_RBX] = PC_BOOT_ZERO_PAGE;
    return true;
}
