// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory as a loader sees it: the E820 map, what may be used, places for modules.
 */
#include "vmm/machine/boot/internal.h"

#include "vmm/machine/pc/layout.h"
#include "vmm/util/rcu.h"

#include <inttypes.h>
#include <string.h>

#define MIB (1UL << 20)

struct region_list {
    struct boot_region *regions;
    unsigned count;
};

/* Append; RAM that continues the last entry lengthens it. A full list drops the rest, which then is
 * memory that the guest does not use. */
static void append(struct region_list *list, uint64_t base, uint64_t end,
                   enum boot_region_type type)
{
    struct boot_region *last = list->count ? &list->regions[list->count - 1] : NULL;

    if (base >= end)
        return;
    if (last && last->type == type && last->base + last->size == base)
        last->size += end - base;
    else if (list->count < BOOT_REGIONS_MAX)
        list->regions[list->count++] =
            (struct boot_region){.base = base, .size = end - base, .type = type};
}

/* The parts of the map's RAM within [low, high). */
static void append_ram(struct region_list *list, const struct memory_map *map, uint64_t low,
                       uint64_t high)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];

        if (range->kind == MEMORY_RAM)
            append(list, MAX(range->base, low), MIN(range->base + range->size, high),
                   BOOT_REGION_RAM);
    }
}

unsigned boot_memory_map(const struct memory *memory, struct boot_region regions[BOOT_REGIONS_MAX])
{
    struct region_list list = {.regions = regions};

    rcu_reader_lock();
    const struct memory_map *map = memory_map(memory);
    append_ram(&list, map, 0, PC_EBDA_BASE);
    append(&list, PC_EBDA_BASE, PC_VGA_HOLE_BASE, BOOT_REGION_RESERVED);
    append(&list, PC_ACPI_RSDP, PC_BIOS_SHADOW_END, BOOT_REGION_RESERVED);
    append_ram(&list, map, PC_BIOS_SHADOW_END, PC_ECAM_BASE);
    append(&list, PC_ECAM_BASE, PC_ECAM_BASE + PC_ECAM_SIZE, BOOT_REGION_RESERVED);
    append_ram(&list, map, PC_HIGH_RAM_BASE, UINT64_MAX);
    rcu_reader_unlock();
    return list.count;
}

bool boot_is_usable(const struct memory *memory, uint64_t base, uint64_t size)
{
    bool usable = base >= BOOT_DATA_END && base < BOOT_LIMIT && size <= BOOT_LIMIT - base;

    rcu_reader_lock();
    while (usable && size) {
        const struct memory_range *range = memory_find(memory, base);
        uint64_t piece;

        usable = range && range->kind == MEMORY_RAM;
        if (!usable)
            break;
        piece = MIN(size, range->base + range->size - base);
        base += piece;
        size -= piece;
    }
    rcu_reader_unlock();
    return usable;
}

unsigned boot_memory_mib(const struct memory *memory)
{
    return memory_ram_size(memory) / MIB + (memory_ram_size(memory) % MIB != 0);
}

bool boot_claim(const struct boot_image *image, uint64_t base, uint64_t size, GError **error)
{
    if (boot_is_usable(image->memory, base, size))
        return true;
    if (base < BOOT_DATA_END)
        return boot_refuse(&image->kernel, error,
                           "wants to be loaded at 0x%" PRIx64 ", below 1 MiB", base);
    return boot_refuse(&image->kernel, error,
                       "needs %" PRIu64 " MiB from 0x%" PRIx64
                       " on and is too large for a memory of %u MiB; give the machine more",
                       size / MIB + (size % MIB != 0), base, boot_memory_mib(image->memory));
}

bool boot_place_high(const struct memory *memory, uint64_t size, uint64_t floor, uint64_t ceiling,
                     uint64_t *gpa)
{
    bool found = false;

    rcu_reader_lock();
    const struct memory_map *map = memory_map(memory);
    for (unsigned i = map->count; !found && i-- > 0;) {
        const struct memory_range *range = &map->ranges[i];
        uint64_t low = MAX(MAX(range->base, floor), BOOT_DATA_END);
        uint64_t high = MIN(MIN(range->base + range->size, ceiling), BOOT_LIMIT);

        if (range->kind != MEMORY_RAM || high < low || high - low < size)
            continue;
        *gpa = (high - size) & GUEST_PAGE_MASK;
        found = *gpa >= low;
    }
    rcu_reader_unlock();
    return found;
}

bool boot_write_cmdline(const struct boot_image *image, const char *prefix, uint64_t max,
                        uint64_t *end, GError **error)
{
    g_autofree char *line = g_strconcat(prefix, image->cmdline ? image->cmdline : "", NULL);
    size_t length = strlen(line);

    max = MIN(max, PC_BOOT_CMDLINE_MAX - 1);
    if (length > max)
        return boot_refuse(&image->kernel, error,
                           "takes a command line of %" PRIu64 " bytes at most, not %zu", max,
                           length);
    if (!memory_write(image->memory, PC_BOOT_CMDLINE, line, length + 1))
        return boot_refuse(&image->kernel, error, "does not fit: there is no memory below 1 MiB");
    if (end)
        *end = PC_BOOT_CMDLINE + length + 1;
    return true;
}

bool boot_write_module_cmdline(const struct boot_image *image, const struct boot_file *module,
                               uint64_t *at, GError **error)
{
    bool has_arguments = module->arguments && *module->arguments;
    g_autofree char *line = has_arguments
                                ? g_strdup_printf("%s %s", module->name, module->arguments)
                                : g_strdup(module->name);
    size_t length = strlen(line) + 1;

    if (length > PC_BOOT_CMDLINE + PC_BOOT_CMDLINE_MAX - *at ||
        !memory_write(image->memory, *at, line, length))
        return boot_refuse(module, error, "has too long a command line");
    *at += length;
    return true;
}

void boot_write_bios_data(struct memory *memory)
{
    const uint16_t segment = PC_EBDA_BASE >> 4, base_memory = PC_EBDA_BASE / 1024;
    const uint8_t ebda_size = (PC_VGA_HOLE_BASE - PC_EBDA_BASE) / 1024;

    memory_write(memory, PC_BDA_EBDA_SEGMENT, &segment, sizeof(segment));
    memory_write(memory, PC_BDA_BASE_MEMORY, &base_memory, sizeof(base_memory));
    memory_write(memory, PC_EBDA_BASE, &ebda_size, sizeof(ebda_size));
}
