// SPDX-License-Identifier: Apache-2.0
/*
 * From clusters of the disk to clusters of the file: a table in memory leads to tables of the
 * second level, whose entries lead to the clusters. Every entry is checked when it is used.
 */
#include <errno.h>
#include <string.h>

#include "vmm/block/qcow2.h"

static uint64_t cluster_size(const struct qcow2 *image)
{
    return qcow2_cluster_size(&image->layout);
}

static unsigned l2_bits(const struct qcow2 *image)
{
    return qcow2_l2_bits(&image->layout);
}

/* Clusters from `first` on of which one table of the second level tells. */
static uint64_t left_in_table(const struct qcow2 *image, uint64_t first)
{
    uint64_t entries = 1ULL << l2_bits(image);

    return entries - first % entries;
}

static int refuse_entry(struct qcow2 *image, uint64_t cluster)
{
    block_warn(&image->format.block,
               "the qcow2 image has an entry that cannot be, for byte %" G_GUINT64_FORMAT
               "; check it with qemu-img check",
               cluster * cluster_size(image));
    return EIO;
}

static bool is_cluster(const struct qcow2 *image, uint64_t offset)
{
    return offset && offset % cluster_size(image) == 0 && offset < image->end;
}

/* ---- looking up ---- */

/* What one entry says, as a stretch of one cluster. */
static bool read_entry(const struct qcow2 *image, uint64_t entry, struct qcow2_extent *extent)
{
    uint64_t offset = entry & QCOW2_OFFSET;
    bool zero = image->layout.version > 2 && entry & QCOW2_ZERO;

    *extent = (struct qcow2_extent){.count = 1, .offset = offset, .own = entry & QCOW2_COPIED};
    if (entry & QCOW2_COMPRESSED) {
        extent->kind = QCOW2_PACKED;
        extent->offset = entry;
        return true;
    }
    extent->kind = zero ? QCOW2_ZEROED : offset ? QCOW2_DATA : QCOW2_ABSENT;
    return !offset || is_cluster(image, offset);
}

static bool goes_on(const struct qcow2 *image, const struct qcow2_extent *extent,
                    const struct qcow2_extent *next)
{
    uint64_t expected = extent->offset ? extent->offset + extent->count * cluster_size(image) : 0;

    return extent->kind == next->kind && extent->kind != QCOW2_PACKED && extent->own == next->own &&
           next->offset == expected;
}

int qcow2_lookup(struct qcow2 *image, uint64_t first, uint64_t most, struct qcow2_extent *extent)
{
    uint64_t offset = qcow2_entry(image->l1[first >> l2_bits(image)]) & QCOW2_OFFSET;
    uint64_t index = first & ((1ULL << l2_bits(image)) - 1);
    struct qcow2_table *table;
    struct qcow2_extent next;
    bool good;
    int error;

    most = MIN(most, left_in_table(image, first));
    *extent = (struct qcow2_extent){.kind = QCOW2_ABSENT, .count = most};
    if (!offset)
        return 0;
    if (!is_cluster(image, offset))
        return refuse_entry(image, first);
    table = qcow2_table_get(&image->l2, offset, &error);
    if (!table)
        return error;
    good = read_entry(image, qcow2_entry(((uint64_t *)table->data)[index]), extent);
    while (
        good && extent->count < most &&
        read_entry(image, qcow2_entry(((uint64_t *)table->data)[index + extent->count]), &next) &&
        goes_on(image, extent, &next))
        extent->count++;
    qcow2_table_put(&image->l2, table);
    return good ? 0 : refuse_entry(image, first);
}

/* ---- changing ---- */

static void l1_set(struct qcow2 *image, uint64_t index, uint64_t offset)
{
    image->l1[index] = GUINT64_TO_BE(offset | QCOW2_COPIED);
    image->l1_dirty[index * sizeof(uint64_t) / BLOCK_SECTOR] = 1;
    image->l1_is_dirty = true;
}

/* A table of our own in the place of none, or of one that a snapshot uses as well. */
static int table_renew(struct qcow2 *image, uint64_t index)
{
    uint64_t old = qcow2_entry(image->l1[index]) & QCOW2_OFFSET, offset, count;
    struct qcow2_table *from = NULL, *to;
    bool fresh;
    int error = 0;

    if (old)
        from = qcow2_table_get(&image->l2, old, &error);
    if (!error)
        error = qcow2_take(image, 1, &offset, &count, &fresh);
    if (error)
        goto out;
    to = qcow2_table_create(&image->l2, offset);
    if (to) {
        if (from)
            memcpy(to->data, from->data, cluster_size(image));
        qcow2_table_put(&image->l2, to);
        l1_set(image, index, offset);
    } else {
        error = ENOMEM;
    }
    qcow2_give(image, to ? old : offset, to && !old ? 0 : 1);
out:
    if (from)
        qcow2_table_put(&image->l2, from);
    return error;
}

/* The table of `first`, to be changed. */
static struct qcow2_table *table_own(struct qcow2 *image, uint64_t first, int *error)
{
    uint64_t index = first >> l2_bits(image), entry;

    coroutine_lock(&image->mapping);
    entry = qcow2_entry(image->l1[index]);
    *error = 0;
    if (!(entry & QCOW2_OFFSET) || !(entry & QCOW2_COPIED))
        *error = table_renew(image, index);
    coroutine_unlock(&image->mapping);
    entry = qcow2_entry(image->l1[index]) & QCOW2_OFFSET;
    return *error ? NULL : qcow2_table_get(&image->l2, entry, error);
}

/* Nobody of ours uses what the entry led to any more. */
static void entry_give(struct qcow2 *image, uint64_t entry)
{
    uint64_t offset = entry & QCOW2_OFFSET, cluster = cluster_size(image);
    uint32_t length;

    if (!(entry & QCOW2_COMPRESSED)) {
        qcow2_give(image, offset, offset ? 1 : 0);
        return;
    }
    /* Each cluster that it lies in counts it. */
    qcow2_compressed_place(&image->layout, entry, &offset, &length);
    qcow2_give(image, offset / cluster * cluster,
               (offset + length - 1) / cluster - offset / cluster + 1);
}

int qcow2_map(struct qcow2 *image, uint64_t first, uint64_t count, uint64_t offset, uint64_t flags)
{
    uint64_t index = first & ((1ULL << l2_bits(image)) - 1);
    struct qcow2_table *table;
    uint64_t *entries;
    int error;

    table = table_own(image, first, &error);
    if (!table)
        return error;
    entries = table->data;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t old = qcow2_entry(entries[index + i]);
        uint64_t place = offset ? offset + i * cluster_size(image) : 0;

        if (old & QCOW2_COMPRESSED || (old & QCOW2_OFFSET) != place)
            entry_give(image, old);
        entries[index + i] = GUINT64_TO_BE(place | flags | (place ? QCOW2_COPIED : 0));
    }
    qcow2_table_soil(&image->l2, table);
    qcow2_table_put(&image->l2, table);
    return 0;
}
