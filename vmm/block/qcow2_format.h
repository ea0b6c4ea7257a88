// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2 as it lies in a file (QEMU, docs/interop/qcow2: versions 2 and 3). All numbers are
 * big-endian, places are bytes of the file.
 *
 * The file is made of clusters. A table of two levels leads from a cluster of the disk to one of
 * the file; another of two levels counts how often each cluster of the file is used, by the disk
 * and by snapshots in the image.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_L1_MAX           (32U << 20) /* bytes of the first level; a disk of 2 EB at most */
#define QCOW2_REFTABLE_MAX     (8U << 20)  /* bytes of the counters' first level */
#define QCOW2_HEADER_MAX       4096U       /* bytes of it that are looked at */

/* Entries of both levels. */
#define QCOW2_OFFSET     0x00FFFFFFFFFFFE00ULL
#define QCOW2_COPIED     (1ULL << 63) /* nobody else uses the cluster */
#define QCOW2_COMPRESSED (1ULL << 62)
#define QCOW2_ZERO       1ULL /* version 3: reads as zero, whatever lies there */

enum qcow2_compression {
    QCOW2_ZLIB, /* raw deflate */
    QCOW2_ZSTD,
};

/* What the header says, checked. */
struct qcow2_layout {
    unsigned version;
    unsigned cluster_bits;
    uint64_t size; /* of the disk, bytes */
    uint64_t l1_offset;
    uint32_t l1_size; /* entries */
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    unsigned refcount_bits; /* of a counter: 1 to 64, a power of two */
    enum qcow2_compression compression;
    bool has_snapshots;
    bool dirty;         /* counters may be wrong */
    bool corrupt;       /* it was found to be */
    bool has_autoclear; /* something beside the disk is to be marked as stale before a write */
};

/* Read the header out of the file's first `length` bytes. false sets *why to a phrase for "the
 * qcow2 image ...", which the caller frees. */
bool qcow2_read_header(const uint8_t *bytes, size_t length, struct qcow2_layout *layout,
                       char **why);

static inline uint64_t qcow2_cluster_size(const struct qcow2_layout *layout)
{
    return 1ULL << layout->cluster_bits;
}

/* Entries of a table of the second level, and bytes of the disk that it maps. */
static inline unsigned qcow2_l2_bits(const struct qcow2_layout *layout)
{
    return layout->cluster_bits - 3;
}

/* Where the features are in the header of version 3, for who changes them. */
#define QCOW2_AUTOCLEAR_AT 88

/* A counter of a block of them; `bits` as in the layout. */
uint64_t qcow2_counter_get(const void *block, unsigned bits, uint64_t index);
void qcow2_counter_set(void *block, unsigned bits, uint64_t index, uint64_t value);

/* A compressed cluster's place: where its data begins, and how many bytes of the file it takes at
 * most. */
void qcow2_compressed_place(const struct qcow2_layout *layout, uint64_t entry, uint64_t *offset,
                            uint32_t *length);

/* Unpack `length` bytes at `from` to the `size` bytes of a cluster; false: they are not that. */
bool qcow2_unpack(enum qcow2_compression compression, const void *from, size_t length, void *to,
                  size_t size);
