// SPDX-License-Identifier: Apache-2.0
/*
 * Reading and checking what a VHD tells of itself. Nothing here touches a file.
 */
#include "vmm/block/vhd_format.h"

#include <stdlib.h>
#include <string.h>

#define VERSION      0x00010000U
#define GEOMETRY_MAX (65535ULL * 16 * 255) /* sectors; larger disks have this one too */

/* One's complement of the sum of all bytes, the checksum's own left out. */
static uint32_t checksum(const void *data, size_t size, uint32_t own)
{
    const uint8_t *bytes = data;
    uint32_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += bytes[i];
    for (unsigned i = 0; i < 4; i++)
        sum -= own >> 8 * i & 0xFF;
    return ~sum;
}

static bool refuse(const char **why, const char *phrase)
{
    *why = phrase;
    return false;
}

bool vhd_is_footer(const struct vhd_footer *footer)
{
    return memcmp(footer->cookie, "conectix", sizeof(footer->cookie)) == 0 &&
           GUINT32_FROM_BE(footer->checksum) ==
               checksum(footer, sizeof(*footer), GUINT32_FROM_BE(footer->checksum));
}

/* Virtual PC and Virtual Server go by the geometry, whatever else the footer says. */
static uint64_t size_of(const struct vhd_footer *footer)
{
    uint64_t size = GUINT64_FROM_BE(footer->size);
    uint64_t sectors =
        (uint64_t)GUINT16_FROM_BE(footer->cylinders) * footer->heads * footer->sectors;
    bool goes_by_it =
        memcmp(footer->creator, "vpc ", 4) == 0 || memcmp(footer->creator, "vs  ", 4) == 0;

    return goes_by_it && sectors && sectors < GEOMETRY_MAX ? MIN(size, sectors * VHD_SECTOR) : size;
}

bool vhd_read_footer(const struct vhd_footer *footer, struct vhd_layout *layout, const char **why)
{
    *layout = (struct vhd_layout){
        .type = (enum vhd_type)GUINT32_FROM_BE(footer->type),
        .size = size_of(footer),
        .header_offset = GUINT64_FROM_BE(footer->header_offset),
    };
    if (GUINT32_FROM_BE(footer->version) >> 16 != VERSION >> 16)
        return refuse(why, "is of a version that is not known");
    if (layout->type == VHD_DIFFERENCING)
        return refuse(why, "holds only what differs from another file; merge the two first");
    if (layout->type != VHD_FIXED && layout->type != VHD_DYNAMIC)
        return refuse(why, "is of a type that is not known");
    if (!layout->size || layout->size % VHD_SECTOR || layout->size > VHD_SIZE_MAX)
        return refuse(why, "has a size that no VHD can have");
    return true;
}

uint64_t vhd_table_size(const struct vhd_layout *layout)
{
    return ((uint64_t)layout->blocks * sizeof(uint32_t) + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
}

uint64_t vhd_footprint(const struct vhd_layout *layout)
{
    return (uint64_t)layout->bitmap_size + layout->block_size;
}

static bool is_power_of_two(uint32_t number)
{
    return number && !(number & (number - 1));
}

bool vhd_read_header(const struct vhd_header *header, uint64_t end, struct vhd_layout *layout,
                     const char **why)
{
    uint32_t block_size = GUINT32_FROM_BE(header->block_size), own;

    own = GUINT32_FROM_BE(header->checksum);
    if (memcmp(header->cookie, "cxsparse", sizeof(header->cookie)) != 0 ||
        checksum(header, sizeof(*header), own) != own)
        return refuse(why, "has no sound header");
    if (GUINT32_FROM_BE(header->version) >> 16 != VERSION >> 16)
        return refuse(why, "has a header of a version that is not known");
    if (!is_power_of_two(block_size) || block_size < VHD_BLOCK_MIN || block_size > VHD_BLOCK_MAX)
        return refuse(why, "has blocks of a size that is not supported");
    layout->block_size = block_size;
    layout->bitmap_size = (block_size / VHD_SECTOR / 8 + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
    layout->blocks = (uint32_t)((layout->size + block_size - 1) / block_size);
    layout->table_offset = GUINT64_FROM_BE(header->table_offset);
    if (GUINT32_FROM_BE(header->entries) < layout->blocks)
        return refuse(why, "has a table that is too small for its disk");
    if (layout->table_offset % VHD_SECTOR || layout->table_offset < VHD_SECTOR ||
        layout->table_offset > end || vhd_table_size(layout) > end - layout->table_offset)
        return refuse(why, "has its table where it cannot be");
    return true;
}

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return a < b ? -1 : a > b;
}

bool vhd_check_table(const struct vhd_layout *layout, const uint32_t *table, uint64_t end,
                     uint64_t *behind, const char **why)
{
    uint64_t first =
        MAX(layout->table_offset + vhd_table_size(layout), layout->header_offset + VHD_HEADER_SIZE);
    g_autofree uint32_t *places = g_try_new(uint32_t, layout->blocks);
    uint32_t count = 0;

    if (!places)
        return refuse(why, "has a table for which there is no memory");
    for (uint32_t i = 0; i < layout->blocks; i++)
        if (table[i] != VHD_UNUSED)
            places[count++] = GUINT32_FROM_BE(table[i]);
    qsort(places, count, sizeof(*places), compare);
    *behind = first;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t place = (uint64_t)places[i] * VHD_SECTOR;

        if (place < *behind)
            return refuse(why, "has blocks within each other or within its table");
        *behind = place + vhd_footprint(layout);
    }
    return *behind <= end ||
           refuse(why, "has blocks behind the end of the file, which was cut off");
}
