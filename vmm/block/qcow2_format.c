// SPDX-License-Identifier: Apache-2.0
/*
 * Reading and checking what a qcow2 image tells of itself. Nothing here touches a file.
 */
#include "vmm/block/qcow2_format.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define MAGIC       0x514649FBU /* "QFI", 0xFB */
#define HEADER_V2   72
#define HEADER_V3   104
#define ZSTD_WINDOW 23 /* bits: what a frame may demand of memory */
#define SECTOR      512U

/* Incompatible features. */
#define DIRTY       (1ULL << 0)
#define CORRUPT     (1ULL << 1)
#define DATA_FILE   (1ULL << 2)
#define COMPRESSION (1ULL << 3)
#define EXTENDED_L2 (1ULL << 4)

struct header {
    uint32_t magic, version;
    uint64_t backing_offset;
    uint32_t backing_size, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_size;
    uint64_t l1_offset, reftable_offset;
    uint32_t reftable_clusters, snapshots;
    uint64_t snapshots_offset;
    /* Version 3. */
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, length;
    uint8_t compression;
} __attribute__((packed));

static bool refuse(char **why, const char *phrase)
{
    *why = g_strdup(phrase);
    return false;
}

/* ---- the header ---- */

static bool take_features(const struct header *header, struct qcow2_layout *layout, char **why)
{
    uint64_t features = GUINT64_FROM_BE(header->incompatible);
    uint64_t unknown = features & ~(DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2);

    if (unknown) {
        *why =
            g_strdup_printf("has features that are not known (0x%" G_GINT64_MODIFIER "x)", unknown);
        return false;
    }
    if (features & DATA_FILE)
        return refuse(why, "keeps its data in another file, which is not supported");
    if (features & EXTENDED_L2)
        return refuse(why, "has subclusters (extended_l2), which are not supported");
    layout->dirty = features & DIRTY;
    layout->corrupt = features & CORRUPT;
    layout->has_autoclear = header->autoclear != 0;
    return true;
}

static bool take_version_3(const struct header *header, size_t length, struct qcow2_layout *layout,
                           char **why)
{
    uint32_t order = GUINT32_FROM_BE(header->refcount_order);

    if (length < HEADER_V3 || GUINT32_FROM_BE(header->length) < HEADER_V3)
        return refuse(why, "has a header that was cut off");
    if (!take_features(header, layout, why))
        return false;
    if (order > 6)
        return refuse(why, "has counters of a size that cannot be");
    layout->refcount_bits = 1U << order;
    if (!(GUINT64_FROM_BE(header->incompatible) & COMPRESSION))
        return true;
    if (length < sizeof(*header) || header->compression > QCOW2_ZSTD)
        return refuse(why, "is compressed in a way that is not known");
    layout->compression = header->compression;
    return true;
}

static bool is_place(uint64_t offset, uint64_t cluster)
{
    return offset && offset % cluster == 0 && offset <= QCOW2_OFFSET;
}

static bool check_tables(const struct qcow2_layout *layout, char **why)
{
    uint64_t cluster = qcow2_cluster_size(layout);
    unsigned mapped_bits = layout->cluster_bits + qcow2_l2_bits(layout);
    uint64_t needed = (layout->size + (1ULL << mapped_bits) - 1) >> mapped_bits;

    if (!layout->size || layout->size % SECTOR || layout->size > INT64_MAX)
        return refuse(why, "has a size that no disk can have");
    if (layout->l1_size > QCOW2_L1_MAX / sizeof(uint64_t) || needed > layout->l1_size)
        return refuse(why, "has a table of a size that does not fit its disk");
    if (!is_place(layout->l1_offset, cluster) || !is_place(layout->reftable_offset, cluster))
        return refuse(why, "has tables where they cannot be");
    if (!layout->reftable_clusters || layout->reftable_clusters > QCOW2_REFTABLE_MAX / cluster)
        return refuse(why, "has a table of counters of a size that is not supported");
    return true;
}

bool qcow2_read_header(const uint8_t *bytes, size_t length, struct qcow2_layout *layout, char **why)
{
    struct header header = {0};

    memcpy(&header, bytes, MIN(length, sizeof(header)));
    *why = NULL;
    if (length < HEADER_V2 || GUINT32_FROM_BE(header.magic) != MAGIC)
        return refuse(why, "is none");
    *layout = (struct qcow2_layout){
        .version = GUINT32_FROM_BE(header.version),
        .cluster_bits = GUINT32_FROM_BE(header.cluster_bits),
        .size = GUINT64_FROM_BE(header.size),
        .l1_offset = GUINT64_FROM_BE(header.l1_offset),
        .l1_size = GUINT32_FROM_BE(header.l1_size),
        .reftable_offset = GUINT64_FROM_BE(header.reftable_offset),
        .reftable_clusters = GUINT32_FROM_BE(header.reftable_clusters),
        .refcount_bits = 16,
        .has_snapshots = header.snapshots != 0,
    };
    if (layout->version != 2 && layout->version != 3)
        return refuse(why, "is of a version that is not known");
    if (layout->cluster_bits < QCOW2_CLUSTER_BITS_MIN ||
        layout->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return refuse(why, "has clusters of a size that cannot be");
    if (header.crypt_method)
        return refuse(why, "is encrypted, which is not supported");
    if (header.backing_offset)
        return refuse(why, "holds only what differs from a backing file; merge the two first "
                           "(qemu-img rebase -b '')");
    return (layout->version == 2 || take_version_3(&header, length, layout, why)) &&
           check_tables(layout, why);
}

/* ---- counters ---- */

uint64_t qcow2_counter_get(const void *block, unsigned bits, uint64_t index)
{
    const uint8_t *bytes = block;

    switch (bits) {
    case 8:
        return bytes[index];
    case 16:
        return GUINT16_FROM_BE(((const uint16_t *)block)[index]);
    case 32:
        return GUINT32_FROM_BE(((const uint32_t *)block)[index]);
    case 64:
        return GUINT64_FROM_BE(((const uint64_t *)block)[index]);
    }
    return bytes[index * bits / 8] >> index * bits % 8 & ((1U << bits) - 1);
}

void qcow2_counter_set(void *block, unsigned bits, uint64_t index, uint64_t value)
{
    uint8_t *bytes = block;
    unsigned shift = (unsigned)(index * bits % 8);

    switch (bits) {
    case 8:
        bytes[index] = (uint8_t)value;
        return;
    case 16:
        ((uint16_t *)block)[index] = GUINT16_TO_BE((uint16_t)value);
        return;
    case 32:
        ((uint32_t *)block)[index] = GUINT32_TO_BE((uint32_t)value);
        return;
    case 64:
        ((uint64_t *)block)[index] = GUINT64_TO_BE(value);
        return;
    }
    bytes += index * bits / 8;
    *bytes = (uint8_t)((*bytes & ~(((1U << bits) - 1) << shift)) | value << shift);
}

/* ---- compressed clusters ---- */

void qcow2_compressed_place(const struct qcow2_layout *layout, uint64_t entry, uint64_t *offset,
                            uint32_t *length)
{
    unsigned bits = 62 - (layout->cluster_bits - 8);
    uint64_t sectors = (entry >> bits & ((1ULL << (62 - bits)) - 1)) + 1;

    *offset = entry & ((1ULL << bits) - 1);
    *length = (uint32_t)(sectors * SECTOR - *offset % SECTOR);
}

static bool unpack_zlib(const void *from, size_t length, void *to, size_t size)
{
    z_stream stream = {
        .next_in = (void *)from, .avail_in = (uInt)length, .next_out = to, .avail_out = (uInt)size};
    int result;

    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return false;
    /* What follows the last block of a cluster in its sectors is the next one's. */
    result = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    return (result == Z_STREAM_END || result == Z_BUF_ERROR) && !stream.avail_out;
}

static bool unpack_zstd(const void *from, size_t length, void *to, size_t size)
{
    ZSTD_DStream *stream = ZSTD_createDStream();
    ZSTD_inBuffer in = {from, length, 0};
    ZSTD_outBuffer out = {to, size, 0};
    size_t before, left = stream ? 1 : 0;

    if (stream)
        ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, ZSTD_WINDOW);
    while (left && !ZSTD_isError(left) && out.pos < size) {
        before = out.pos + in.pos;
        left = ZSTD_decompressStream(stream, &out, &in);
        if (before == out.pos + in.pos)
            break;
    }
    ZSTD_freeDStream(stream);
    return out.pos == size;
}

bool qcow2_unpack(enum qcow2_compression compression, const void *from, size_t length, void *to,
                  size_t size)
{
    return compression == QCOW2_ZLIB ? unpack_zlib(from, length, to, size)
                                     : unpack_zstd(from, length, to, size);
}
