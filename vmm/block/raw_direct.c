// SPDX-License-Identifier: Apache-2.0
/*
 * Direct I/O (O_DIRECT of open): memory, offset and length must be multiples of what the storage
 * below demands, 512 or 4096 bytes. A request that is not goes piece by piece by way of a buffer.
 *
 * A write of less than whole blocks reads the blocks, changes them and writes them back, so no
 * other change may touch them meanwhile: it has the disk's changes to itself. Such requests, and
 * all changes while one of them waits or works, stand in a queue. Guests use whole pages, so this
 * is rare.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/block/raw.h"
#include "vmm/util/fault.h"

#define BUFFER_SIZE   (256U << 10)
#define ALIGNMENT_MAX 4096U

struct raw_direct {
    uint32_t alignment;
    uint8_t *buffer;
    struct block_request *user;         /* of the buffer; NULL: it is free */
    bool alone;                         /* ...which has all changes to itself */
    unsigned changes;                   /* begun and not over, the user's too */
    struct block_request *first, **end; /* waiting, oldest first */
};

static struct raw_direct *direct_of(const struct block_request *request)
{
    return ((struct raw *)request->private.block)->direct;
}

/* ---- what a request needs ---- */

static bool is_transfer(const struct block_request *request)
{
    return request->kind == BLOCK_READ || request->kind == BLOCK_WRITE;
}

static bool has_whole_blocks(const struct raw_direct *direct, const struct block_request *request)
{
    return !((request->offset | request->length) % direct->alignment);
}

static bool needs_buffer(const struct raw_direct *direct, const struct block_request *request)
{
    uintptr_t bits = 0;

    if (!is_transfer(request))
        return request->kind == BLOCK_WRITE_ZEROES && !has_whole_blocks(direct, request);
    for (unsigned i = 0; i < request->count; i++)
        bits |= (uintptr_t)request->vectors[i].iov_base | request->vectors[i].iov_len;
    return bits % direct->alignment || !has_whole_blocks(direct, request);
}

static bool needs_to_be_alone(const struct raw_direct *direct, const struct block_request *request)
{
    return request->kind != BLOCK_READ && needs_buffer(direct, request) &&
           !has_whole_blocks(direct, request);
}

static bool may_start(const struct raw_direct *direct, const struct block_request *request)
{
    if (!needs_buffer(direct, request))
        return request->kind == BLOCK_READ || !direct->alone;
    return !direct->user && (!needs_to_be_alone(direct, request) || !direct->changes);
}

/* ---- by way of the buffer ---- */

/* The blocks that hold the next bytes of the request. */
struct piece {
    uint64_t start;  /* of the first block */
    uint32_t blocks; /* bytes of whole blocks */
    uint32_t skip;   /* bytes before the request's */
    uint32_t length; /* bytes of the request */
};

static struct piece piece_next(const struct raw_direct *direct, const struct block_request *request)
{
    uint64_t from = request->offset + request->private.finished;
    uint64_t left = request->length - request->private.finished;
    struct piece piece = {.skip = (uint32_t)(from % direct->alignment)};

    piece.start = from - piece.skip;
    piece.length = (uint32_t)MIN(left, BUFFER_SIZE - piece.skip);
    piece.blocks = (piece.skip + piece.length + direct->alignment - 1) & -direct->alignment;
    return piece;
}

/* Copy between the buffer and the request's vectors; zeroes have none. */
static void copy(const struct block_request *request, uint8_t *bytes, uint32_t length)
{
    uint64_t skip = request->private.finished;

    if (!is_transfer(request)) {
        memset(bytes, 0, length);
        return;
    }
    for (unsigned i = 0; length; i++) {
        const struct iovec *vector = &request->vectors[i];

        if (skip >= vector->iov_len) {
            skip -= vector->iov_len;
            continue;
        }
        uint32_t step = (uint32_t)MIN(length, vector->iov_len - skip);
        uint8_t *guest = (uint8_t *)vector->iov_base + skip;
        if (request->kind == BLOCK_READ)
            memcpy(guest, bytes, step);
        else
            memcpy(bytes, guest, step);
        bytes += step;
        length -= step;
        skip = 0;
    }
}

static void buffer_start(struct block_request *request);

static void buffer_operate(struct block_request *request, enum loop_operation_kind kind,
                           void (*done)(struct loop_operation *operation, int64_t result))
{
    const struct raw_direct *direct = direct_of(request);
    struct piece piece = piece_next(direct, request);
    struct loop_operation operation = {
        .kind = kind,
        .offset = piece.start,
        .vectors = &request->private.piece,
        .count = 1,
        .done = done,
    };

    request->private.piece = (struct iovec){direct->buffer, piece.blocks};
    raw_operate(request, &operation);
}

static void piece_done(struct block_request *request, const struct piece *piece)
{
    request->private.finished += piece->length;
    if (request->private.finished == request->length)
        raw_done(request, 0);
    else
        buffer_start(request);
}

/* Whether all blocks of the piece went through; else the request is over or tried again. */
static bool went_through(struct loop_operation *operation, int64_t result,
                         const struct piece *piece)
{
    struct block_request *request = operation->opaque;

    if (result == (int64_t)piece->blocks)
        return true;
    /* The rest of a short write, too, tells why it cannot be. */
    bool again =
        result == -EINTR || result == -EAGAIN || (operation->kind == LOOP_WRITE && result > 0);
    if (again)
        loop_submit(request->private.block->loop, operation);
    else
        raw_done(request, raw_failure(request, MIN(result, 0)));
    return false;
}

static void buffer_written(struct loop_operation *operation, int64_t result)
{
    struct block_request *request = operation->opaque;
    struct piece piece = piece_next(direct_of(request), request);

    if (went_through(operation, result, &piece))
        piece_done(request, &piece);
}

static void buffer_write(struct block_request *request, const struct piece *piece)
{
    copy(request, direct_of(request)->buffer + piece->skip, piece->length);
    buffer_operate(request, LOOP_WRITE, buffer_written);
}

static void buffer_read(struct loop_operation *operation, int64_t result)
{
    struct block_request *request = operation->opaque;
    struct piece piece = piece_next(direct_of(request), request);

    if (!went_through(operation, result, &piece))
        return;
    if (request->kind != BLOCK_READ) {
        buffer_write(request, &piece);
        return;
    }
    copy(request, direct_of(request)->buffer + piece.skip, piece.length);
    piece_done(request, &piece);
}

static void buffer_start(struct block_request *request)
{
    struct piece piece = piece_next(direct_of(request), request);

    if (request->kind != BLOCK_READ && piece.blocks == piece.length)
        buffer_write(request, &piece);
    else
        buffer_operate(request, LOOP_READ, buffer_read);
}

/* ---- the queue ---- */

static void start(struct raw *raw, struct block_request *request)
{
    struct raw_direct *direct = raw->direct;

    direct->changes += request->kind != BLOCK_READ;
    if (!needs_buffer(direct, request)) {
        raw_start(raw, request);
        return;
    }
    direct->user = request;
    direct->alone = needs_to_be_alone(direct, request);
    buffer_start(request);
}

void raw_direct_submit(struct raw *raw, struct block_request *request)
{
    struct raw_direct *direct = raw->direct;
    bool waits = direct->first && (request->kind != BLOCK_READ || needs_buffer(direct, request));

    if (!waits && may_start(direct, request)) {
        start(raw, request);
        return;
    }
    *direct->end = request;
    direct->end = &request->private.next;
}

void raw_direct_ended(struct raw *raw, const struct block_request *request)
{
    struct raw_direct *direct = raw->direct;

    direct->changes -= request->kind != BLOCK_READ;
    if (direct->user == request) {
        direct->user = NULL;
        direct->alone = false;
    }
    while (direct->first && may_start(direct, direct->first)) {
        struct block_request *next = direct->first;

        direct->first = next->private.next;
        if (!direct->first)
            direct->end = &direct->first;
        next->private.next = NULL;
        start(raw, next);
    }
}

/* ---- life ---- */

/* Whether a read with this alignment, and no greater one, is let through. */
static bool is_enough(const struct raw *raw, const uint8_t *buffer, uint32_t alignment)
{
    uint64_t offset = raw->block.size >= 2ULL * alignment ? alignment : 0;
    return pread(raw->fd, (void *)(buffer + alignment), alignment, (off_t)offset) >= 0 ||
           errno != EINVAL;
}

bool raw_direct_init(struct raw *raw, uint32_t least, GError **error)
{
    uint32_t alignment = MAX(least, BLOCK_SECTOR);
    void *buffer;

    if (posix_memalign(&buffer, ALIGNMENT_MAX, BUFFER_SIZE) != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_SPACE, "disk: %s: no memory for direct I/O",
                    raw->block.name);
        return false;
    }
    while (alignment <= ALIGNMENT_MAX && !is_enough(raw, buffer, alignment))
        alignment *= 2;
    if (alignment > ALIGNMENT_MAX || raw->block.size % alignment) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NOT_SUPPORTED,
                    "disk: %s: its storage does direct I/O in blocks of %u bytes, of which its "
                    "size is no multiple; use cache=writeback",
                    raw->block.name, MIN(alignment, ALIGNMENT_MAX));
        free(buffer);
        return false;
    }
    raw->direct = g_new0(struct raw_direct, 1);
    raw->direct->alignment = alignment;
    raw->direct->buffer = buffer;
    raw->direct->end = &raw->direct->first;
    return true;
}

void raw_direct_finish(struct raw *raw)
{
    if (!raw->direct)
        return;
    free(raw->direct->buffer);
    g_free(raw->direct);
    raw->direct = NULL;
}
