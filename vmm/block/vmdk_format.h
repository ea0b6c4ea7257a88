// SPDX-License-Identifier: Apache-2.0
/*
 * What lies in a VMDK file ("Virtual Disk Format 5.0", "Hosted Sparse Extents" and
 * "Stream-Optimized Compressed Sparse Extents"). All numbers are little-endian, all offsets and
 * sizes sectors unless bytes are said. Private to vmdk_*.c and their tests.
 *
 * The disk is grains; a grain table (GT) has the place of each of 512 grains, the grain directory
 * (GD) the place of each table, where 0 is none. In a stream, a grain has a marker before it, and
 * tables come behind what they tell of.
 */
#pragma once

#include <stdint.h>

#define VMDK_SECTOR    512U
#define VMDK_MAGIC     0x564D444BU /* "KDMV" */
#define VMDK_GD_AT_END UINT64_MAX  /* the directory's place is in the footer */
#define VMDK_GTES      512U        /* entries of a grain table, at most */
#define VMDK_DEFLATE   1

enum {
    VMDK_FLAG_LINES = 1U << 0,       /* the bytes of line ends are valid */
    VMDK_FLAG_ZERO_GRAINS = 1U << 2, /* an entry 1 of a grain table is a grain of zeros */
    VMDK_FLAG_COMPRESSED = 1U << 16,
    VMDK_FLAG_MARKERS = 1U << 17,
};

struct vmdk_header {
    uint32_t magic;
    uint32_t version; /* 1 to 3 */
    uint32_t flags;
    uint64_t capacity;
    uint64_t grain_size;
    uint64_t descriptor_offset; /* 0: it is another file */
    uint64_t descriptor_size;
    uint32_t gtes_per_gt;
    uint64_t rgd_offset; /* a second copy of the directory */
    uint64_t gd_offset;
    uint64_t overhead; /* before the first grain */
    uint8_t unclean;
    char line_ends[4]; /* what becomes of them shows a transfer as text */
    uint16_t compression;
    uint8_t pad[433];
} __attribute__((packed));
_Static_assert(sizeof(struct vmdk_header) == VMDK_SECTOR, "a sector");

#define VMDK_LINE_ENDS "\n \r\n"

/* Before a grain: its first sector on the disk, and the bytes of compressed data that follow at
 * once. With size 0 it is a marker of `type`, a sector long. */
struct vmdk_marker {
    uint64_t value; /* of a grain its sector; else the sectors that follow */
    uint32_t size;
    uint32_t type;
    uint8_t pad[496];
} __attribute__((packed));
_Static_assert(sizeof(struct vmdk_marker) == VMDK_SECTOR, "a sector");

#define VMDK_GRAIN_MARKER_SIZE 12U /* bytes: up to `type` */

enum { VMDK_MARKER_END, VMDK_MARKER_GT, VMDK_MARKER_GD, VMDK_MARKER_FOOTER };
