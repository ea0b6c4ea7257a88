// SPDX-License-Identifier: Apache-2.0
/*
 * Clusters of a qcow2 image: how often each is used is counted in blocks of counters, to which a
 * table leads that grows with the file.
 *
 * Clusters are taken in runs: gaps that were freed before, then room behind the end. A run is
 * counted as used in the file, which is made long enough for it, before its first cluster is given
 * out; so the sync before an entry that leads there is written covers that too.
 */
#include <errno.h>
#include <string.h>

#include "vmm/block/qcow2.h"

#define RESERVE_MAX (64ULL << 20)

static uint64_t cluster_size(const struct qcow2 *image)
{
    return qcow2_cluster_size(&image->layout);
}

/* Counters in one block. */
static uint64_t per_block(const struct qcow2 *image)
{
    return cluster_size(image) * 8 / image->layout.refcount_bits;
}

/* Where the block with the counter of cluster `index` lies; 0: there is none. */
static uint64_t block_of(const struct qcow2 *image, uint64_t index)
{
    uint64_t place = index / per_block(image);

    return place < image->reftable_size ? qcow2_entry(image->reftable[place]) & QCOW2_OFFSET : 0;
}

/* ---- counters ---- */

static int counter_get(struct qcow2 *image, uint64_t index, uint64_t *value)
{
    uint64_t offset = block_of(image, index);
    struct qcow2_table *block;
    int error;

    *value = 0;
    if (!offset)
        return 0;
    block = qcow2_table_get(&image->refs, offset, &error);
    if (!block)
        return error;
    *value = qcow2_counter_get(block->data, image->layout.refcount_bits, index % per_block(image));
    qcow2_table_put(&image->refs, block);
    return 0;
}

/* The counters of clusters `first` to `first + count` of one block, which is there. */
static int counters_set(struct qcow2 *image, uint64_t first, uint64_t count, uint64_t value)
{
    struct qcow2_table *block;
    int error;

    block = qcow2_table_get(&image->refs, block_of(image, first), &error);
    if (!block)
        return error;
    for (uint64_t i = 0; i < count; i++)
        qcow2_counter_set(block->data, image->layout.refcount_bits, (first + i) % per_block(image),
                          value);
    qcow2_table_soil(&image->refs, block);
    qcow2_table_put(&image->refs, block);
    return 0;
}

static int refs_write(struct qcow2 *image)
{
    g_autoptr(GArray) copies = g_array_new(FALSE, FALSE, sizeof(struct qcow2_copy));
    int error = qcow2_tables_copy(&image->refs, copies);

    return qcow2_copies_write(&image->refs, copies, error);
}

/* ---- the table of blocks ---- */

static int reftable_write(struct qcow2 *image, uint64_t place)
{
    uint64_t sector = place * sizeof(uint64_t) / BLOCK_SECTOR * BLOCK_SECTOR;

    return format_transfer(&image->format, BLOCK_WRITE, image->layout.reftable_offset + sector,
                           (uint8_t *)image->reftable + sector, BLOCK_SECTOR);
}

/* A block of counters at the end of the file, where it is the first that it counts. */
static int block_create(struct qcow2 *image)
{
    uint64_t offset = image->end, own = offset / cluster_size(image);
    uint64_t place = own / per_block(image);
    struct qcow2_table *block = qcow2_table_create(&image->refs, offset);
    int error = block ? 0 : ENOMEM;

    if (error)
        return error;
    image->end += cluster_size(image);
    qcow2_counter_set(block->data, image->layout.refcount_bits, own % per_block(image), 1);
    qcow2_table_put(&image->refs, block);
    error = refs_write(image);
    if (!error)
        error = format_flush(&image->format);
    if (error)
        return error;
    image->reftable[place] = GUINT64_TO_BE(offset);
    error = reftable_write(image, place);
    return error ? error : format_flush(&image->format);
}

/* The header's fields for the table: they lie in one sector, as one word of twelve bytes. */
static int reftable_name(struct qcow2 *image, uint64_t offset, uint32_t clusters)
{
    uint64_t place = GUINT64_TO_BE(offset);
    uint32_t count = GUINT32_TO_BE(clusters);
    uint8_t sector[BLOCK_SECTOR];
    int error = format_transfer(&image->format, BLOCK_READ, 0, sector, sizeof(sector));

    memcpy(sector + 48, &place, sizeof(place));
    memcpy(sector + 56, &count, sizeof(count));
    if (!error)
        error = format_transfer(&image->format, BLOCK_WRITE, 0, sector, sizeof(sector));
    return error ? error : format_flush(&image->format);
}

/* Blocks that count themselves and a table of `clusters` behind them, from cluster `first` on,
 * where no block counted before; the table leads there. */
static int blocks_create(struct qcow2 *image, uint64_t *table, uint64_t first, uint64_t blocks,
                         uint64_t clusters)
{
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t offset = (first + i) * cluster_size(image);
        struct qcow2_table *block = qcow2_table_create(&image->refs, offset);

        if (!block)
            return ENOMEM;
        for (uint64_t k = 0; k < per_block(image); k++)
            qcow2_counter_set(block->data, image->layout.refcount_bits, k,
                              i * per_block(image) + k < blocks + clusters);
        qcow2_table_put(&image->refs, block);
        table[first / per_block(image) + i] = GUINT64_TO_BE(offset);
    }
    return refs_write(image);
}

/* What a larger table takes. */
struct growth {
    uint64_t first;  /* cluster, at a border of blocks: what lies before it stays unused */
    uint64_t blocks; /* then the table */
    uint32_t clusters;
};

static bool plan_growth(const struct qcow2 *image, struct growth *growth)
{
    uint64_t cluster = cluster_size(image), per = per_block(image);
    uint64_t entries = cluster / sizeof(uint64_t);

    growth->first = (image->end / cluster + per - 1) / per * per;
    growth->clusters = image->layout.reftable_clusters;
    do {
        growth->clusters *= 2;
        growth->blocks = growth->clusters / per + 2;
        growth->blocks = (growth->blocks + growth->clusters + per - 1) / per;
    } while (growth->clusters <= QCOW2_REFTABLE_MAX / cluster &&
             growth->first / per + growth->blocks >= growth->clusters * entries);
    return growth->clusters <= QCOW2_REFTABLE_MAX / cluster;
}

/* A larger table behind the end. All that it needs lies in the file before the header leads to it.
 */
static int reftable_grow(struct qcow2 *image)
{
    uint64_t cluster = cluster_size(image), offset, size;
    struct qcow2_layout old = image->layout;
    struct growth growth;
    uint64_t *table;
    int error;

    if (!plan_growth(image, &growth))
        return ENOSPC;
    size = growth.clusters * cluster;
    offset = (growth.first + growth.blocks) * cluster;
    table = g_try_malloc0(size);
    if (!table)
        return ENOMEM;
    memcpy(table, image->reftable, image->reftable_size * sizeof(uint64_t));
    error = blocks_create(image, table, growth.first, growth.blocks, growth.clusters);
    if (!error)
        error = format_transfer(&image->format, BLOCK_WRITE, offset, table, size);
    if (!error)
        error = format_flush(&image->format);
    if (!error)
        error = reftable_name(image, offset, growth.clusters);
    if (error) {
        g_free(table);
        return error;
    }
    g_free(image->reftable);
    image->reftable = table;
    image->reftable_size = (uint32_t)(size / sizeof(uint64_t));
    image->layout.reftable_offset = offset;
    image->layout.reftable_clusters = growth.clusters;
    image->end = offset + size;
    qcow2_give(image, old.reftable_offset, old.reftable_clusters);
    return 0;
}

/* See to it that the cluster at the end can be counted. */
static int end_need(struct qcow2 *image)
{
    int error = 0;

    while (!error && !block_of(image, image->end / cluster_size(image))) {
        if (image->end / cluster_size(image) / per_block(image) >= image->reftable_size)
            error = reftable_grow(image);
        else
            error = block_create(image);
    }
    return error;
}

/* ---- runs ---- */

/* Free clusters in a block of counters from `first` on; 0 when the first is used. */
static int free_run(struct qcow2 *image, uint64_t first, uint64_t most, uint64_t *count)
{
    uint64_t value = 0;
    int error = 0;

    for (*count = 0; *count < most && (first + *count) * cluster_size(image) < image->end &&
                     block_of(image, first + *count);
         ++*count) {
        error = counter_get(image, first + *count, &value);
        if (error || value)
            break;
    }
    return error;
}

/* The next gap of what was freed before, at most `most` clusters; *count 0: there is none. */
static int gap_find(struct qcow2 *image, uint64_t most, uint64_t *first, uint64_t *count)
{
    uint64_t last = image->end / cluster_size(image);
    int error = 0;

    for (*count = 0; image->search < last && !error; image->search++) {
        *first = image->search;
        error = free_run(image, *first, most, count);
        if (*count)
            break;
    }
    return error;
}

/* Count `count` clusters from `first` on as used or free, block by block. */
static int run_count(struct qcow2 *image, uint64_t first, uint64_t count, uint64_t value)
{
    int error = 0;

    while (count && !error) {
        uint64_t here = MIN(count, per_block(image) - first % per_block(image));

        error = counters_set(image, first, here, value);
        first += here;
        count -= here;
    }
    return error;
}

/* Make the file as long as the run is: the last sector is written, the rest is a hole. */
static int run_extend(struct qcow2 *image)
{
    uint8_t zeroes[BLOCK_SECTOR] = {0};

    return format_transfer(&image->format, BLOCK_WRITE, image->end - BLOCK_SECTOR, zeroes,
                           sizeof(zeroes));
}

/* Behind the end, up to the end of a block of counters. */
static int run_at_end(struct qcow2 *image, uint64_t most, uint64_t *first, uint64_t *count)
{
    int error = end_need(image);

    *first = image->end / cluster_size(image);
    *count = MIN(most, per_block(image) - *first % per_block(image));
    if (error)
        return error;
    image->end += *count * cluster_size(image);
    error = run_count(image, *first, *count, 1);
    return error ? error : run_extend(image);
}

static int run_reserve(struct qcow2 *image)
{
    uint64_t most = MAX(image->reserve / cluster_size(image), 1), first, count;
    int error = gap_find(image, most, &first, &count);
    bool fresh = !count;

    if (!error && fresh)
        error = run_at_end(image, most, &first, &count);
    else if (!error)
        error = run_count(image, first, count, 1);
    if (!error)
        error = refs_write(image);
    if (error)
        return error;
    if (!fresh)
        image->search = first + count;
    image->reserve = MIN(image->reserve * 2, RESERVE_MAX);
    image->run = (struct qcow2_run){first * cluster_size(image),
                                    (first + count) * cluster_size(image), fresh};
    return 0;
}

int qcow2_take(struct qcow2 *image, uint64_t wanted, uint64_t *offset, uint64_t *count, bool *fresh)
{
    int error = 0;

    coroutine_lock(&image->allocating);
    if (image->run.next == image->run.end)
        error = run_reserve(image);
    if (!error) {
        *offset = image->run.next;
        *count = MIN(wanted, (image->run.end - image->run.next) / cluster_size(image));
        *fresh = image->run.fresh;
        image->run.next += *count * cluster_size(image);
    }
    coroutine_unlock(&image->allocating);
    return error;
}

int qcow2_close_counters(struct qcow2 *image)
{
    uint64_t first = image->run.next / cluster_size(image);
    uint64_t count = (image->run.end - image->run.next) / cluster_size(image);
    int error;

    coroutine_lock(&image->allocating);
    image->run = (struct qcow2_run){0};
    error = run_count(image, first, count, 0);
    image->search = MIN(image->search, first);
    if (!error)
        error = refs_write(image);
    if (!error)
        error = format_flush(&image->format);
    coroutine_unlock(&image->allocating);
    return error;
}

/* ---- giving back ---- */

void qcow2_give(struct qcow2 *image, uint64_t offset, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t cluster = offset + i * cluster_size(image);

        g_array_append_val(image->freed, cluster);
    }
}

/* One user less; *last: there is none any more. */
static int count_down(struct qcow2 *image, uint64_t offset, bool *last)
{
    uint64_t index = offset / cluster_size(image), value;
    int error = counter_get(image, index, &value);

    *last = value == 1;
    if (error || !value)
        return error;
    if (*last)
        image->search = MIN(image->search, index);
    return counters_set(image, index, 1, value - 1);
}

int qcow2_settle_freed(struct qcow2 *image, GArray *freed)
{
    int error = 0;

    coroutine_lock(&image->allocating);
    for (unsigned i = 0; i < freed->len && !error; i++) {
        uint64_t offset = g_array_index(freed, uint64_t, i);
        bool last = false;

        error = count_down(image, offset, &last);
        /* Before it can be taken again. */
        if (!error && last)
            error = format_range(&image->format, BLOCK_DISCARD, offset, cluster_size(image), true);
    }
    coroutine_unlock(&image->allocating);
    return error;
}
