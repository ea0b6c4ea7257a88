// SPDX-License-Identifier: Apache-2.0
/*
 * Block back ends: where a disk's bytes lie. Devices know this interface only.
 *
 * A block node belongs to one I/O thread (util/loop.h): requests are submitted there, and their
 * `done` is called there. Requests have no order among each other, except that a flush covers what
 * was done before it was submitted. A guest's length and offset are checked against the size here,
 * once more than in the device.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/util/loop.h"

#define BLOCK_SECTOR 512U

struct block;

struct block_config {
    int fd;           /* an open file or block device, locked by who opened it; taken over by a
                       * node that could be created */
    const char *name; /* for messages: the path that the user gave; copied */
    bool readonly;
    bool grows;         /* a raw file of a format: a write behind its end makes it longer */
    struct loop *loop;  /* outlives the node */
    uint32_t alignment; /* of direct I/O at least, bytes; 0: what the storage demands is enough */
};

/* A raw disk: the file's bytes are the disk's. A descriptor with O_DIRECT is fed with aligned
 * pieces, whatever the requests are. NULL and `error` when its size is no multiple of a sector or
 * 0. */
struct block *block_raw_create(const struct block_config *config, GError **error);
/* A VHD, fixed or dynamic (Virtual Hard Disk Image Format 1.0). Its footer is read and checked
 * here, the rest when it is activated. */
struct block *block_vhd_create(const struct block_config *config, GError **error);

/* A qcow2 image, of version 2 or 3, that stands alone (QEMU, docs/interop/qcow2). Its header is
 * read and checked here, the rest when it is activated. */
struct block *block_qcow2_create(const struct block_config *config, GError **error);

/* Read all that the image tells of itself: before this every request fails, and nobody else changes
 * the file from then on. Nothing happens to one that is active. Nothing is under way, and the
 * loop's thread does not wait for the caller's. */
bool block_activate(struct block *block, GError **error);

/* Write back all that is in memory alone: the image is whole, and another may have it. Nothing is
 * under way, and no request comes before it is activated again. false: some of it could not be
 * written; it stays active, and what it has in memory is still there. */
bool block_deactivate(struct block *block, GError **error);

/* Nothing is under way. NULL is fine. Not on the loop's thread. */
void block_destroy(struct block *block);

/* Bytes; a multiple of BLOCK_SECTOR. Any thread. */
uint64_t block_size(const struct block *block);
bool block_is_readonly(const struct block *block);
/* The grain in which the host's storage discards and writes whole, in bytes (a power of two from
 * BLOCK_SECTOR up). Any thread. */
uint32_t block_granularity(const struct block *block);

enum block_kind {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,       /* all that was written before is on stable storage when it is done */
    BLOCK_DISCARD,     /* the content is no longer needed; it may read as anything old or zero */
    BLOCK_WRITE_ZEROES /* reads as zero; `may_unmap` allows a hole */
};

/* The caller's until `done`, then the caller's again. */
struct block_request {
    enum block_kind kind;
    bool may_unmap;
    bool stable;             /* a change is on stable storage when it is done */
    uint64_t offset, length; /* bytes; whole sectors. READ, WRITE: the sum of the vectors */
    struct iovec *vectors;   /* the driver may change them */
    unsigned count;          /* at most 1024 */
    /* `error`: 0, or a positive errno: EROFS, ENOSPC, EIO, EINVAL (outside of the disk). */
    void (*done)(struct block_request *request, int error);
    void *opaque;
    struct {
        struct block *block;
        struct block_request *next;
        struct loop_operation operation;
        struct iovec piece; /* of zeroes, or of what goes by way of an aligned buffer */
        uint64_t finished;  /* bytes */
        int error;
    } private; /* the block layer's */
};

/* Begin; `done` is not called from in here. On the loop's thread. */
void block_submit(struct block *block, struct block_request *request);

/* Take back a request that is held back: true, and `done` is not called. false when it was begun,
 * and `done` comes. On the loop's thread. */
bool block_cancel(struct block *block, struct block_request *request);

/* What a limit counts: reads, changes, or both together. */
enum block_limit { BLOCK_LIMIT_TOTAL, BLOCK_LIMIT_READ, BLOCK_LIMIT_WRITE, BLOCK_LIMITS };

/* Rate limits: units in a second, 0 for none. What is discarded counts as operation only. */
struct block_limits {
    uint64_t bytes[BLOCK_LIMITS];
    uint64_t operations[BLOCK_LIMITS];
    int64_t burst_ns; /* what may be saved up: so much time's worth may go at once */
};

/* Limit the rate from now on; requests that come too soon are held back. false and `error` when
 * there is no descriptor left; then it is as before. Any thread but the loop's. */
bool block_set_limits(struct block *block, const struct block_limits *limits, GError **error);

/* Hold back output: requests that change the disk, and flushes, wait from now on and are not done
 * before block_release. Reads pass. On the loop's thread; idempotent. */
void block_hold(struct block *block);
void block_release(struct block *block);
