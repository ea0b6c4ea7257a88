// SPDX-License-Identifier: Apache-2.0
/*
 * Raw disks: a file or a block device whose bytes are the disk's.
 *
 * The host may do less than was asked for (short reads and writes), which is resumed. What it
 * cannot do is replaced: no holes, then a discard does nothing; no ranges of zeroes, then zeroes
 * are written, in pieces.
 *
 * A file may shrink under our feet. Its size is looked at before a change, at most once in a
 * millisecond, so that a write does not make it long again with a gap that nobody wrote; what lies
 * beyond the new end gets EIO, the rest goes on. After fdatasync(2) has failed once, the kernel may
 * have dropped what it could not write, so no later flush can vouch for it. The kernel tells that
 * to one caller only, so there is one at a time, for all that came before it.
 */
#include "vmm/block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/util/fault.h"

#define ZEROES_SIZE   (64U << 10)
#define ZEROES_PIECES 16 /* in one write */
#define LOOK_US       1000
#define GRAIN_MAX     (1U << 20)

/* Never written to. */
static uint8_t zeroes[ZEROES_SIZE] __attribute__((aligned(4096)));
static const struct iovec zeroes_vectors[ZEROES_PIECES] = {
    [0 ... ZEROES_PIECES - 1] = {zeroes, ZEROES_SIZE},
};

static struct raw *raw_of(const struct block_request *request)
{
    return (struct raw *)request->private.block;
}

/* ---- operations ---- */

void raw_operate(struct block_request *request, const struct loop_operation *operation)
{
    struct loop_operation *own = &request->private.operation;

    *own = *operation;
    own->fd = raw_of(request)->fd;
    own->opaque = request;
    loop_submit(request->private.block->loop, own);
}

/* Whether the host only wants to be asked again; then it was. */
static bool asked_again(struct loop_operation *operation, int64_t result)
{
    struct block_request *request = operation->opaque;

    if (result != -EINTR && result != -EAGAIN)
        return false;
    loop_submit(request->private.block->loop, operation);
    return true;
}

/* ---- sync ---- */

static void sync_done(struct loop_operation *operation, int64_t result);

/* For all that wait. */
static void sync_begin(struct raw *raw)
{
    const struct loop_operation operation = {.kind = LOOP_SYNC, .done = sync_done};

    raw->syncing = g_steal_pointer(&raw->sync_first);
    raw->sync_end = &raw->sync_first;
    raw_operate(raw->syncing, &operation);
}

static void finish_all(struct block_request *request, int error)
{
    while (request) {
        struct block_request *next = request->private.next;
        block_finish(request, error);
        request = next;
    }
}

static void sync_done(struct loop_operation *operation, int64_t result)
{
    struct raw *raw = raw_of(operation->opaque);

    if (asked_again(operation, result))
        return;
    struct block_request *synced = g_steal_pointer(&raw->syncing);
    if (result < 0) {
        raw->sync_failed = true;
        block_warn(&raw->block, "a flush failed: %s; what was written before it may be lost",
                   g_strerror((int)-result));
        raw->sync_end = &raw->sync_first;
        finish_all(g_steal_pointer(&raw->sync_first), EIO);
    } else if (raw->sync_first) {
        sync_begin(raw);
    }
    finish_all(synced, (int)-result);
}

static void sync_start(struct block_request *request)
{
    struct raw *raw = raw_of(request);

    if (raw->sync_failed) {
        block_finish_later(request, EIO);
        return;
    }
    request->private.next = NULL;
    *raw->sync_end = request;
    raw->sync_end = &request->private.next;
    if (!raw->syncing)
        sync_begin(raw);
}

void raw_done(struct block_request *request, int error)
{
    struct raw *raw = raw_of(request);
    bool syncs = !error && request->stable && request->kind != BLOCK_READ;

    if (raw->direct)
        raw_direct_ended(raw, request);
    if (syncs)
        sync_start(request);
    else
        block_finish(request, error);
}

/* ---- the end of the file ---- */

static int shrunk(struct raw *raw)
{
    block_warn(&raw->block,
               "the file has shrunk under the machine, which sees errors beyond its end");
    raw->looked_at = 0;
    return EIO;
}

int raw_failure(struct block_request *request, int64_t result)
{
    struct raw *raw = raw_of(request);

    if (!result)
        return shrunk(raw);
    block_warn(&raw->block, "%s of %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT ": %s",
               request->kind == BLOCK_READ ? "a read" : "a change", request->length,
               request->offset, g_strerror((int)-result));
    return (int)-result;
}

/* The file's or device's size now. */
static uint64_t size_now(const struct raw *raw)
{
    off_t end = lseek(raw->fd, 0, SEEK_END);
    return end < 0 ? 0 : (uint64_t)end;
}

static bool is_present(struct raw *raw, const struct block_request *request)
{
    int64_t now = g_get_monotonic_time();

    if (now - raw->looked_at >= LOOK_US) {
        raw->present = size_now(raw);
        raw->looked_at = now;
    }
    return request->offset + request->length <= raw->present;
}

/* ---- reads and writes ---- */

/* Drop `count` bytes from the front of the vectors. */
static void vectors_advance(struct block_request *request, uint64_t count)
{
    while (count) {
        size_t step = MIN(count, request->vectors->iov_len);

        request->vectors->iov_base = (uint8_t *)request->vectors->iov_base + step;
        request->vectors->iov_len -= step;
        count -= step;
        if (!request->vectors->iov_len) {
            request->vectors++;
            request->count--;
        }
    }
}

/* Count what was moved; whether there is more to do. Else the request is over, or the host was
 * asked again. */
static bool goes_on(struct loop_operation *operation, int64_t result)
{
    struct block_request *request = operation->opaque;

    if (asked_again(operation, result))
        return false;
    if (!result && request->kind == BLOCK_READ && raw_of(request)->block.grows) {
        for (unsigned i = 0; i < request->count; i++)
            memset(request->vectors[i].iov_base, 0, request->vectors[i].iov_len);
        raw_done(request, 0);
        return false;
    }
    if (result <= 0) {
        raw_done(request, raw_failure(request, result));
        return false;
    }
    request->private.finished += (uint64_t)result;
    if (request->private.finished < request->length)
        return true;
    raw_done(request, 0);
    return false;
}

static void transfer_start(struct block_request *request);

static void transfer_done(struct loop_operation *operation, int64_t result)
{
    struct block_request *request = operation->opaque;

    if (!goes_on(operation, result))
        return;
    vectors_advance(request, (uint64_t)result);
    transfer_start(request);
}

static void transfer_start(struct block_request *request)
{
    const struct loop_operation operation = {
        .kind = request->kind == BLOCK_READ ? LOOP_READ : LOOP_WRITE,
        .offset = request->offset + request->private.finished,
        .vectors = request->vectors,
        .count = request->count,
        .done = transfer_done,
    };
    raw_operate(request, &operation);
}

/* ---- holes and zeroes ---- */

static bool is_not_supported(int64_t result)
{
    return result == -EOPNOTSUPP || result == -ENOSYS || result == -ENODEV;
}

static void range_start(struct block_request *request, enum loop_operation_kind kind,
                        void (*done)(struct loop_operation *operation, int64_t result))
{
    const struct loop_operation operation = {
        .kind = kind, .offset = request->offset, .length = request->length, .done = done};
    raw_operate(request, &operation);
}

static void discard_done(struct loop_operation *operation, int64_t result)
{
    struct block_request *request = operation->opaque;

    if (asked_again(operation, result))
        return;
    if (is_not_supported(result)) {
        raw_of(request)->punches = false;
        result = 0;
    }
    raw_done(request, result ? raw_failure(request, result) : 0);
}

static void zeroes_write(struct block_request *request);

static void zeroes_written(struct loop_operation *operation, int64_t result)
{
    if (goes_on(operation, result))
        zeroes_write(operation->opaque);
}

static void zeroes_write(struct block_request *request)
{
    uint64_t left = request->length - request->private.finished;
    struct loop_operation operation = {
        .kind = LOOP_WRITE,
        .offset = request->offset + request->private.finished,
        .vectors = zeroes_vectors,
        .count = (unsigned)MIN(left / ZEROES_SIZE, ZEROES_PIECES),
        .done = zeroes_written,
    };

    if (!operation.count) {
        request->private.piece = (struct iovec){zeroes, left};
        operation.vectors = &request->private.piece;
        operation.count = 1;
    }
    raw_operate(request, &operation);
}

static void zeroes_start(struct block_request *request);

/* The next way when the host does not know this one. */
static void zeroes_made(struct loop_operation *operation, int64_t result)
{
    struct block_request *request = operation->opaque;
    struct raw *raw = raw_of(request);

    if (asked_again(operation, result))
        return;
    if (!is_not_supported(result)) {
        raw_done(request, result ? raw_failure(request, result) : 0);
        return;
    }
    *(operation->kind == LOOP_DISCARD ? &raw->punches : &raw->zeroes) = false;
    zeroes_start(request);
}

static void zeroes_start(struct block_request *request)
{
    const struct raw *raw = raw_of(request);

    if (request->may_unmap && raw->punches)
        range_start(request, LOOP_DISCARD, zeroes_made);
    else if (raw->zeroes)
        range_start(request, LOOP_WRITE_ZEROES, zeroes_made);
    else
        zeroes_write(request);
}

/* ---- the driver ---- */

void raw_start(struct raw *raw, struct block_request *request)
{
    switch (request->kind) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        transfer_start(request);
        break;
    case BLOCK_DISCARD:
        range_start(request, LOOP_DISCARD, discard_done);
        break;
    case BLOCK_WRITE_ZEROES:
        zeroes_start(request);
        break;
    case BLOCK_FLUSH:
        sync_start(request);
        break;
    }
}

static void submit(struct block *block, struct block_request *request)
{
    struct raw *raw = (struct raw *)block;

    if (request->kind == BLOCK_FLUSH) {
        sync_start(request);
    } else if (request->kind == BLOCK_DISCARD && !raw->punches) {
        block_finish_later(request, 0);
    } else if (request->kind != BLOCK_READ && !block->grows && !is_present(raw, request)) {
        block_finish_later(request, shrunk(raw));
    } else if (raw->direct) {
        raw_direct_submit(raw, request);
    } else {
        raw_start(raw, request);
    }
}

static void destroy(struct block *block)
{
    struct raw *raw = (struct raw *)block;

    raw_direct_finish(raw);
    close(raw->fd);
}

static const struct block_driver raw_driver = {.submit = submit, .destroy = destroy};

static uint32_t grain_of(int fd)
{
    struct stat status;
    uint32_t grain = BLOCK_SECTOR;

    if (fstat(fd, &status) == 0)
        while (grain < GRAIN_MAX && grain * 2 <= (uint64_t)status.st_blksize)
            grain *= 2;
    return grain;
}

static bool check_size(const struct block_config *config, uint64_t size, GError **error)
{
    if (size && (size % BLOCK_SECTOR == 0 || config->grows))
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                size ? "disk: %s: its size is not a multiple of %u bytes"
                     : "disk: %s: the file is empty; give it a size, a multiple of %u bytes",
                config->name, BLOCK_SECTOR);
    return false;
}

struct block *block_raw_create(const struct block_config *config, GError **error)
{
    off_t end = lseek(config->fd, 0, SEEK_END);
    int flags = fcntl(config->fd, F_GETFL);

    if (end < 0 || flags < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "disk: %s: %s", config->name,
                    g_strerror(errno));
        return NULL;
    }
    if (!check_size(config, (uint64_t)end, error))
        return NULL;
    struct raw *raw = g_new0(struct raw, 1);
    block_init(&raw->block, &raw_driver, config);
    raw->block.size = raw->present = (uint64_t)end;
    raw->block.granularity = grain_of(config->fd);
    raw->fd = config->fd;
    raw->punches = raw->zeroes = true;
    raw->sync_end = &raw->sync_first;
    if (flags & O_DIRECT && !raw_direct_init(raw, config->alignment, error)) {
        g_free(raw->block.name);
        g_free(raw);
        return NULL;
    }
    return &raw->block;
}
