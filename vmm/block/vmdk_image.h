// SPDX-License-Identifier: Apache-2.0
/* An image that was examined. Private to vmdk_*.c. */
#pragma once

#include "vmm/block/vmdk.h"
#include "vmm/block/vmdk_format.h"

struct vmdk {
    int fd;
    uint64_t at, size; /* bytes of the file that are the image */

    uint64_t capacity; /* sectors */
    uint32_t grain_sectors, grain_bytes;
    uint32_t table_entries; /* up to VMDK_GTES */
    uint64_t table_sectors; /* of the disk, that one table tells of */
    bool compressed, zero_grains;

    uint64_t tables;
    uint32_t *directory; /* `tables` entries, little-endian */
};

/* Set `error` to the phrase; false. */
bool vmdk_fail(GError **error, const char *what);

/* Bytes of the image; false when it has not that many. Any thread. */
bool vmdk_read(const struct vmdk *image, uint64_t offset, void *data, size_t size, GError **error);

/* Grain table `index` (below `tables`), little-endian; entries that it has not are 0. Any thread.
 */
bool vmdk_read_table(const struct vmdk *image, uint64_t index, uint32_t entries[VMDK_GTES],
                     GError **error);

/* Whether an entry of a table leads to a grain; else that is zeros. */
bool vmdk_has_grain(const struct vmdk *image, uint32_t entry);
