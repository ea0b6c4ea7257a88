// SPDX-License-Identifier: Apache-2.0
/*
 * What block.c and the drivers of image formats share.
 */
#pragma once

#include "vmm/block/block.h"

struct block_driver {
    /* Begin a request, which is sound; ends with block_finish, not called from in here. */
    void (*submit)(struct block *block, struct block_request *request);
    bool (*activate)(struct block *block, GError **error); /* NULL: always is */
    bool (*deactivate)(struct block *block, GError **error);
    void (*destroy)(struct block *block);
};

/* The first member of a driver's node. */
struct block {
    const struct block_driver *driver;
    struct loop *loop;
    char *name;
    uint64_t size;
    uint32_t granularity;
    bool readonly;
    bool grows;
    uint64_t warnings;
    bool held;
    struct block_request *waiting, **end; /* while it is held, oldest first */
    struct limits *limits;                /* NULL: there were none yet */
};

/* Fill the common part but for size and granularity; block_destroy undoes it. */
void block_init(struct block *block, const struct block_driver *driver,
                const struct block_config *config);
/* Call `done`. On the loop's thread, never from `submit`. */
void block_finish(struct block_request *request, int error);
/* ...later, also from `submit`. */
void block_finish_later(struct block_request *request, int error);
/* Log what is wrong with the disk, ever more rarely: the 1st, 2nd, 4th, 8th ... time. */
void block_warn(struct block *block, const char *format, ...) G_GNUC_PRINTF(2, 3);
