// SPDX-License-Identifier: Apache-2.0
/*
 * The raw driver's insides: raw.c is the file, raw_direct.c the alignment that direct I/O wants.
 */
#pragma once

#include "vmm/block/internal.h"

struct raw {
    struct block block;
    int fd;
    bool punches, zeroes; /* the host can make holes and ranges of zeroes */
    bool sync_failed;     /* what was not on stable storage may be lost: no flush succeeds again */
    struct block_request *syncing; /* whom the sync under way is for; NULL: none is */
    struct block_request *sync_first, **sync_end; /* whom the next one is for */
    int64_t looked_at;         /* monotonic, us: when the file's size was seen last */
    uint64_t present;          /* ...and the size */
    struct raw_direct *direct; /* NULL: without O_DIRECT */
};

/* Do a sound request on a file without demands for alignment, or one that meets them. Ends with
 * raw_done. */
void raw_start(struct raw *raw, struct block_request *request);
/* The request's own work is over: sync if it shall be stable, then finish. */
void raw_done(struct block_request *request, int error);
/* Submit the operation of `request`; `done` gets every result but EINTR and EAGAIN. */
void raw_operate(struct block_request *request, const struct loop_operation *operation);
/* The error of a request by the result of its operation, which is negative, or 0 when the file
 * ended within it; told in the log. */
int raw_failure(struct block_request *request, int64_t result);

/* Find out what the descriptor demands and make the buffer; `least` (a power of two, or 0) is
 * demanded at least. False and `error` when it cannot be met. */
bool raw_direct_init(struct raw *raw, uint32_t least, GError **error);
void raw_direct_finish(struct raw *raw);
/* Begin `request` now or in its turn, by way of the buffer where it must. */
void raw_direct_submit(struct raw *raw, struct block_request *request);
/* A request that was begun so is over: begin what waited for it. */
void raw_direct_ended(struct raw *raw, const struct block_request *request);
