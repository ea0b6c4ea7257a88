// SPDX-License-Identifier: Apache-2.0
/*
 * What drivers of image formats share: a node over the node of its file, each request of which is a
 * coroutine, and the ways in which that reaches the file.
 *
 * The file's node is told that it may grow: it has no end then, and behind the file's it reads as
 * zero.
 */
#pragma once

#include "vmm/block/internal.h"
#include "vmm/util/coroutine.h"

struct format;

struct format_ops {
    /* Do a request, which is sound, in a coroutine; 0 or a positive errno. `stable` is the glue's
     * affair. */
    int (*serve)(struct format *format, struct block_request *request);
    /* Read all that the image tells of itself, in a coroutine; nothing else is under way. It may
     * have been read before, and be another now. */
    bool (*activate)(struct format *format, GError **error);
    /* Write back what is in memory alone, in a coroutine, so that the image is whole and may be
     * another's; 0 or an errno. NULL: nothing ever is. Nothing else is under way; after an error
     * the node goes on. */
    int (*deactivate)(struct format *format);
    /* Free what the driver has; the file's node is destroyed afterwards. */
    void (*destroy)(struct format *format);
};

/* Clusters or blocks of the disk that somebody gives a place, or takes it from. */
struct format_work {
    uint64_t first, count;
    struct coroutine_queue waiting; /* for its end */
    struct format_work *next;
};

/* The first member of a format's node. */
struct format {
    struct block block;
    const struct format_ops *ops;
    struct block *file;
    struct coroutine_pool *pool;
    bool active;
    struct block_request *starting; /* whose coroutine has not waited yet */
    struct format_work *works;      /* under way */
};

/* Fill all but size and granularity. `file` is the node's own from now on. */
void format_init(struct format *format, const struct format_ops *ops, struct block *file,
                 const struct block_config *config);

/* Refuse direct I/O: what an image tells of itself lies at places that it does not reach. */
bool format_check_cache(const struct block_config *config, GError **error);

/* ---- in a coroutine ---- */

/* Wait for one of those who are at work on any of `count` clusters from `first` on; false when
 * there is none. What was looked up before is another then. */
bool format_work_wait(struct format *format, uint64_t first, uint64_t count);
/* Have others wait from now on; `work` is the caller's until its end. */
void format_work_begin(struct format *format, struct format_work *work, uint64_t first,
                       uint64_t count);
void format_work_end(struct format *format, struct format_work *work);

/* ---- ...each returns 0 or a positive errno ---- */

/* BLOCK_READ or BLOCK_WRITE of one buffer. */
int format_transfer(struct format *format, enum block_kind kind, uint64_t offset, void *buffer,
                    size_t length);
/* The same of `length` bytes of the request's vectors, from byte `skip` of them. */
int format_transfer_part(struct format *format, const struct block_request *request, uint64_t skip,
                         uint64_t offset, uint64_t length);
/* BLOCK_DISCARD or BLOCK_WRITE_ZEROES. */
int format_range(struct format *format, enum block_kind kind, uint64_t offset, uint64_t length,
                 bool may_unmap);
int format_flush(struct format *format);

/* `length` bytes of a read request's buffers, from byte `skip` of them, are zero; or these. */
void format_read_zeroes(const struct block_request *request, uint64_t skip, uint64_t length);
void format_read_bytes(const struct block_request *request, uint64_t skip, const void *bytes,
                       uint64_t length);
