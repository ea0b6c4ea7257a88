// SPDX-License-Identifier: Apache-2.0
/*
 * Tables of a qcow2 image in memory: as many as fit a budget, and those that somebody uses or that
 * are dirty.
 */
#include <errno.h>
#include <string.h>

#include "vmm/block/qcow2.h"

#define BUDGET     (16U << 20) /* bytes */
#define TABLES_MIN 8U

static uint64_t size_of(const struct qcow2_tables *tables)
{
    return qcow2_cluster_size(&tables->image->layout);
}

void qcow2_tables_init(struct qcow2_tables *tables, struct qcow2 *image)
{
    *tables = (struct qcow2_tables){.image = image,
                                    .by_offset = g_hash_table_new(g_int64_hash, g_int64_equal)};
    g_queue_init(&tables->recent);
    tables->most = MAX(TABLES_MIN, (unsigned)(BUDGET / size_of(tables)));
}

static void table_free(struct qcow2_tables *tables, struct qcow2_table *table)
{
    g_queue_unlink(&tables->recent, &table->link);
    g_hash_table_remove(tables->by_offset, &table->offset);
    g_free(table->data);
    g_free(table);
}

void qcow2_tables_finish(struct qcow2_tables *tables)
{
    while (tables->recent.head)
        table_free(tables, tables->recent.head->data);
    g_clear_pointer(&tables->by_offset, g_hash_table_unref);
}

/* Make room for one more, if there is somebody to go. */
static void evict(struct qcow2_tables *tables)
{
    for (GList *at = tables->recent.head; at && tables->recent.length >= tables->most;) {
        struct qcow2_table *table = at->data;

        at = at->next;
        if (!table->users && !table->dirty && !table->writing)
            table_free(tables, table);
    }
}

static struct qcow2_table *table_add(struct qcow2_tables *tables, uint64_t offset)
{
    struct qcow2_table *table;
    void *data;

    evict(tables);
    data = g_try_malloc0(size_of(tables));
    if (!data)
        return NULL;
    table = g_new0(struct qcow2_table, 1);
    table->offset = offset;
    table->data = data;
    table->users = 1;
    table->link.data = table;
    g_queue_push_tail_link(&tables->recent, &table->link);
    g_hash_table_insert(tables->by_offset, &table->offset, table);
    return table;
}

static void renew(struct qcow2_tables *tables, struct qcow2_table *table)
{
    g_queue_unlink(&tables->recent, &table->link);
    g_queue_push_tail_link(&tables->recent, &table->link);
}

/* It may have failed while we waited: then it is not there any more. */
static struct qcow2_table *find(struct qcow2_tables *tables, uint64_t offset)
{
    struct qcow2_table *table;

    while ((table = g_hash_table_lookup(tables->by_offset, &offset)) && table->loading)
        coroutine_queue_wait(&table->waiting);
    return table;
}

struct qcow2_table *qcow2_table_get(struct qcow2_tables *tables, uint64_t offset, int *error)
{
    struct qcow2_table *table = find(tables, offset);
    struct coroutine_queue waiting;

    *error = 0;
    if (table) {
        table->users++;
        renew(tables, table);
        return table;
    }
    table = table_add(tables, offset);
    *error = table ? 0 : ENOMEM;
    if (!table)
        return NULL;
    table->loading = true;
    *error =
        format_transfer(&tables->image->format, BLOCK_READ, offset, table->data, size_of(tables));
    table->loading = false;
    waiting = table->waiting;
    table->waiting = (struct coroutine_queue){0};
    if (*error) {
        table_free(tables, table);
        table = NULL;
    }
    coroutine_queue_wake_all(&waiting);
    return table;
}

struct qcow2_table *qcow2_table_create(struct qcow2_tables *tables, uint64_t offset)
{
    struct qcow2_table *table;

    qcow2_table_forget(tables, offset);
    table = table_add(tables, offset);
    if (table)
        qcow2_table_soil(tables, table);
    return table;
}

void qcow2_table_put(struct qcow2_tables *tables, struct qcow2_table *table)
{
    table->users--;
}

void qcow2_table_soil(struct qcow2_tables *tables, struct qcow2_table *table)
{
    tables->dirties += !table->dirty;
    table->dirty = true;
}

void qcow2_table_forget(struct qcow2_tables *tables, uint64_t offset)
{
    struct qcow2_table *table = g_hash_table_lookup(tables->by_offset, &offset);

    if (!table)
        return;
    tables->dirties -= table->dirty;
    table_free(tables, table);
}

int qcow2_tables_copy(struct qcow2_tables *tables, GArray *copies)
{
    for (GList *at = tables->recent.head; at; at = at->next) {
        struct qcow2_table *table = at->data;
        struct qcow2_copy copy = {.offset = table->offset};

        if (!table->dirty)
            continue;
        if (!(copy.data = g_try_malloc(size_of(tables))))
            return ENOMEM;
        memcpy(copy.data, table->data, size_of(tables));
        g_array_append_val(copies, copy);
        table->dirty = false;
        table->writing = true;
        tables->dirties--;
    }
    return 0;
}

int qcow2_copies_write(struct qcow2_tables *tables, GArray *copies, int error)
{
    for (unsigned i = 0; i < copies->len; i++) {
        struct qcow2_copy *copy = &g_array_index(copies, struct qcow2_copy, i);
        struct qcow2_table *table;

        if (!error)
            error = format_transfer(&tables->image->format, BLOCK_WRITE, copy->offset, copy->data,
                                    size_of(tables));
        table = g_hash_table_lookup(tables->by_offset, &copy->offset);
        if (table)
            table->writing = false;
        if (table && error)
            qcow2_table_soil(tables, table);
        g_free(copy->data);
    }
    g_array_set_size(copies, 0);
    return error;
}
