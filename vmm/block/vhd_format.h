// SPDX-License-Identifier: Apache-2.0
/*
 * VHD as it lies in a file (Microsoft, Virtual Hard Disk Image Format Specification 1.0). All
 * numbers are big-endian, places are bytes of the file unless told otherwise.
 *
 * A fixed VHD is the disk's bytes with a footer of one sector behind. A dynamic one has a copy of
 * the footer first, a header, a table with a place for each block of the disk, and the blocks that
 * were ever written, each behind a bitmap of its sectors; the footer is last.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define VHD_SECTOR      512U
#define VHD_HEADER_SIZE 1024U
#define VHD_UNUSED      UINT32_MAX      /* an entry of the table */
#define VHD_SIZE_MAX    (2040ULL << 30) /* bytes of a disk */
#define VHD_BLOCK_MIN   4096U           /* bytes of a block, a power of two */
#define VHD_BLOCK_MAX   (32U << 20)
#define VHD_BITMAP_MAX  (VHD_BLOCK_MAX / VHD_SECTOR / 8)

enum vhd_type {
    VHD_FIXED = 2,
    VHD_DYNAMIC = 3,
    VHD_DIFFERENCING = 4,
};

struct vhd_footer {
    char cookie[8]; /* "conectix" */
    uint32_t features, version;
    uint64_t header_offset; /* of a dynamic one */
    uint32_t timestamp;
    char creator[4];
    uint32_t creator_version, creator_host;
    uint64_t original_size, size;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t type;
    uint32_t checksum;
    uint8_t id[16];
    uint8_t saved_state;
    uint8_t reserved[427];
} __attribute__((packed));
_Static_assert(sizeof(struct vhd_footer) == VHD_SECTOR, "a footer is a sector");

struct vhd_header {
    char cookie[8]; /* "cxsparse" */
    uint64_t next;
    uint64_t table_offset;
    uint32_t version;
    uint32_t entries;
    uint32_t block_size;
    uint32_t checksum;
    uint8_t parent_id[16];
    uint32_t parent_timestamp, reserved1;
    uint16_t parent_name[256];
    uint8_t locators[8][24];
    uint8_t reserved2[256];
} __attribute__((packed));
_Static_assert(sizeof(struct vhd_header) == VHD_HEADER_SIZE, "the header has its size");

/* What of the two matters, checked. */
struct vhd_layout {
    enum vhd_type type;
    uint64_t size; /* of the disk, bytes */
    /* Of a dynamic one: */
    uint64_t header_offset;
    uint64_t table_offset;
    uint32_t block_size, bitmap_size; /* bytes; a bitmap takes whole sectors */
    uint32_t blocks;                  /* that the disk has */
};

/* Whether it is a footer, with the right checksum. */
bool vhd_is_footer(const struct vhd_footer *footer);

/* Take type, size and header_offset. false sets `why` to a phrase for "the VHD ...". */
bool vhd_read_footer(const struct vhd_footer *footer, struct vhd_layout *layout, const char **why);

/* Take the rest, of a dynamic one, whose table must end before `end`. */
bool vhd_read_header(const struct vhd_header *header, uint64_t end, struct vhd_layout *layout,
                     const char **why);

/* Bytes of the table, in whole sectors. */
uint64_t vhd_table_size(const struct vhd_layout *layout);
/* Bytes that a block takes in the file, its bitmap among them. */
uint64_t vhd_footprint(const struct vhd_layout *layout);

/* Check the entries of `table` (as they lie in the file): within the file up to `end`, behind what
 * describes them, none within another. *behind becomes the end of the last. */
bool vhd_check_table(const struct vhd_layout *layout, const uint32_t *table, uint64_t end,
                     uint64_t *behind, const char **why);
