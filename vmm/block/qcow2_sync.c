// SPDX-License-Identifier: Apache-2.0
/*
 * Writing back what a qcow2 image has in memory, in the order that keeps the file sound: data, then
 * the tables that lead to it, then what leads to new tables, then what nothing leads to any more.
 */
#include <errno.h>
#include <string.h>

#include "vmm/block/qcow2.h"

#define DIRTY_MAX (4U << 20) /* bytes of tables */
#define FREED_MAX 65536U

/* What is to be written, as it was when the sync began. */
struct order {
    GArray *tables; /* of struct qcow2_copy */
    GArray *roots;  /* of struct qcow2_copy, sectors of the first level */
    GArray *freed;
};

static int roots_copy(struct qcow2 *image, GArray *roots)
{
    uint64_t sectors =
        ((uint64_t)image->layout.l1_size * sizeof(uint64_t) + BLOCK_SECTOR - 1) / BLOCK_SECTOR;

    for (uint64_t i = 0; image->l1_is_dirty && i < sectors; i++) {
        struct qcow2_copy copy = {.offset = i * BLOCK_SECTOR};

        if (!image->l1_dirty[i])
            continue;
        if (!(copy.data = g_try_malloc(BLOCK_SECTOR)))
            return ENOMEM;
        memcpy(copy.data, (uint8_t *)image->l1 + copy.offset, BLOCK_SECTOR);
        g_array_append_val(roots, copy);
        image->l1_dirty[i] = 0;
    }
    image->l1_is_dirty = false;
    return 0;
}

static int roots_write(struct qcow2 *image, GArray *roots, int error)
{
    for (unsigned i = 0; i < roots->len; i++) {
        struct qcow2_copy *copy = &g_array_index(roots, struct qcow2_copy, i);

        if (!error)
            error =
                format_transfer(&image->format, BLOCK_WRITE, image->layout.l1_offset + copy->offset,
                                copy->data, BLOCK_SECTOR);
        if (error) {
            image->l1_dirty[copy->offset / BLOCK_SECTOR] = 1;
            image->l1_is_dirty = true;
        }
        g_free(copy->data);
    }
    return error;
}

/* Wait for all requests that may go by what was there before. */
static void epoch_end(struct qcow2 *image)
{
    unsigned old = image->epoch++ & 1;

    while (image->users[old])
        coroutine_queue_wait(&image->leaving);
}

static int order_execute(struct qcow2 *image, struct order *order, int error)
{
    if (!error)
        error = format_flush(&image->format);
    bool changes = order->tables->len || order->roots->len;
    error = qcow2_copies_write(&image->l2, order->tables, error);
    if (!error && order->roots->len)
        error = format_flush(&image->format);
    error = roots_write(image, order->roots, error);
    if (!error && changes)
        error = format_flush(&image->format);
    if (error) {
        g_array_append_vals(image->freed, order->freed->data, order->freed->len);
        return error;
    }
    if (!order->freed->len)
        return 0;
    epoch_end(image);
    return qcow2_settle_freed(image, order->freed);
}

int qcow2_sync(struct qcow2 *image)
{
    struct order order = {
        .tables = g_array_new(FALSE, FALSE, sizeof(struct qcow2_copy)),
        .roots = g_array_new(FALSE, FALSE, sizeof(struct qcow2_copy)),
    };
    int error;

    coroutine_lock(&image->syncing);
    order.freed = g_steal_pointer(&image->freed);
    image->freed = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    error = roots_copy(image, order.roots);
    if (!error)
        error = qcow2_tables_copy(&image->l2, order.tables);
    error = order_execute(image, &order, error);
    coroutine_unlock(&image->syncing);
    g_array_free(order.tables, TRUE);
    g_array_free(order.roots, TRUE);
    g_array_free(order.freed, TRUE);
    return error;
}

int qcow2_sync_some(struct qcow2 *image)
{
    if (image->l2.dirties * qcow2_cluster_size(&image->layout) <= DIRTY_MAX &&
        image->freed->len <= FREED_MAX)
        return 0;
    /* Others may be at it, and would only do it again. */
    return image->syncing.held ? 0 : qcow2_sync(image);
}
