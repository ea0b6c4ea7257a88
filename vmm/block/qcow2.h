// SPDX-License-Identifier: Apache-2.0
/*
 * The qcow2 driver's insides: qcow2.c serves requests, qcow2_map.c leads from the disk to the file,
 * qcow2_alloc.c gives clusters of the file and takes them back, qcow2_table.c keeps tables in
 * memory, qcow2_sync.c writes them back.
 *
 * What is on stable storage is sound at any time, whenever the power is cut:
 *
 * - Clusters are counted as used, many at a time, before one of them is given out. A crash loses
 *   those that were not given out yet, which a check finds; closing gives them back.
 * - An entry that leads to a cluster is written behind the cluster's data, with a sync in between:
 *   entries change in memory, and reach the file when the guest flushes, or when there are many.
 * - A cluster that nothing leads to any more is counted as free when that is on stable storage.
 *
 * Everything runs in coroutines on the loop's thread.
 */
#pragma once

#include "vmm/block/format.h"
#include "vmm/block/qcow2_format.h"

struct qcow2;

/* ---- tables in memory ---- */

/* One cluster of the file with entries or counters. */
struct qcow2_table {
    uint64_t offset;
    void *data;
    bool dirty;   /* it is another in the file */
    bool loading; /* nothing is in `data` yet */
    bool writing; /* an older content is on its way to the file */
    unsigned users;
    struct coroutine_queue waiting; /* for the end of loading */
    GList link;                     /* in `recent` */
};

struct qcow2_tables {
    struct qcow2 *image;
    GHashTable *by_offset;
    GQueue recent; /* all, the least recently used first */
    unsigned most; /* kept, as long as they are not used or dirty */
    unsigned dirties;
};

void qcow2_tables_init(struct qcow2_tables *tables, struct qcow2 *image);
void qcow2_tables_finish(struct qcow2_tables *tables);

/* The table at `offset`, read if it must be; *error and NULL when it cannot. It stays until it is
 * put. */
struct qcow2_table *qcow2_table_get(struct qcow2_tables *tables, uint64_t offset, int *error);
/* A new one, dirty, all zero: what lies in the file is not looked at. */
struct qcow2_table *qcow2_table_create(struct qcow2_tables *tables, uint64_t offset);
void qcow2_table_put(struct qcow2_tables *tables, struct qcow2_table *table);
void qcow2_table_soil(struct qcow2_tables *tables, struct qcow2_table *table);
/* Forget the table at `offset`, which nobody uses: the cluster is none any more. */
void qcow2_table_forget(struct qcow2_tables *tables, uint64_t offset);

/* A table's content that is to be written. */
struct qcow2_copy {
    uint64_t offset;
    void *data;
};
/* Add those of the dirty tables as they are now, which count as clean from now on. 0 or ENOMEM. */
int qcow2_tables_copy(struct qcow2_tables *tables, GArray *copies);
/* Write the copies, unless there is an `error` already, and forget them; those that could not be
 * written are dirty again. */
int qcow2_copies_write(struct qcow2_tables *tables, GArray *copies, int error);

/* ---- the image ---- */

/* Clusters that are counted as used and not given out yet. */
struct qcow2_run {
    uint64_t next, end; /* bytes */
    bool fresh;         /* the file has holes there, that read as zero */
};

struct qcow2 {
    struct format format;
    int fd; /* the file node's, to ask for its size */
    struct qcow2_layout layout;
    uint64_t *l1;      /* as it lies in the file */
    uint8_t *l1_dirty; /* by sector of it */
    bool l1_is_dirty;
    uint64_t *reftable;     /* as it lies in the file */
    uint32_t reftable_size; /* entries */
    struct qcow2_tables l2, refs;
    uint64_t end; /* of what is counted as used or lies in the file; whole clusters */
    struct qcow2_run run;
    uint64_t reserve; /* bytes of the next run */
    uint64_t search;  /* where a free cluster may be, at the earliest */
    GArray *freed;    /* of uint64_t: nothing in memory leads there any more */
    struct coroutine_lock allocating, mapping, syncing;
    /* Requests under way, by the epoch in which they came; each sync begins another. */
    unsigned epoch, users[2];
    struct coroutine_queue leaving; /* for the end of an epoch's last */
};

static inline uint64_t qcow2_entry(uint64_t entry)
{
    return GUINT64_FROM_BE(entry);
}

/* ---- qcow2_alloc.c ---- */

/* Take up to `wanted` clusters that lie behind each other; *count are given, from *offset on.
 * *fresh: they read as zero. 0 or an errno. */
int qcow2_take(struct qcow2 *image, uint64_t wanted, uint64_t *offset, uint64_t *count,
               bool *fresh);
/* Nothing in memory leads to `count` clusters at `offset` any more: one user less, once that is on
 * stable storage. */
void qcow2_give(struct qcow2 *image, uint64_t offset, uint64_t count);
/* Count down what was given back before; that nothing leads there is on stable storage. */
int qcow2_settle_freed(struct qcow2 *image, GArray *freed);
/* Give back what is left of the run, and write all counters. */
int qcow2_close_counters(struct qcow2 *image);

/* ---- qcow2_map.c ---- */

enum qcow2_kind {
    QCOW2_ABSENT, /* reads as zero */
    QCOW2_ZEROED, /* ...and has a place in the file all the same, or none */
    QCOW2_DATA,
    QCOW2_PACKED,
};

/* How a stretch of the disk lies in the file. */
struct qcow2_extent {
    enum qcow2_kind kind;
    uint64_t offset; /* of its first cluster in the file; 0: none. PACKED: the entry */
    uint64_t count;  /* clusters, one after the other */
    bool own;        /* nobody else uses them */
};

/* The longest stretch from cluster `first` of the disk on, at most `most` clusters. */
int qcow2_lookup(struct qcow2 *image, uint64_t first, uint64_t most, struct qcow2_extent *extent);

/* Let `count` clusters from `first` on lie at `offset` (0: nowhere) with `flags`. What they led to
 * before is given back, unless it is the same. */
int qcow2_map(struct qcow2 *image, uint64_t first, uint64_t count, uint64_t offset, uint64_t flags);

/* ---- qcow2_sync.c ---- */

/* All that was done before is on stable storage. */
int qcow2_sync(struct qcow2 *image);
/* ...if much waits for that. */
int qcow2_sync_some(struct qcow2 *image);
