// SPDX-License-Identifier: Apache-2.0
/*
 * The frame of an image format's driver.
 */
#include "vmm/block/format.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "vmm/util/fault.h"

#define VECTORS_MAX 1024

/* ---- the file, from a coroutine ---- */

struct wait {
    struct coroutine *coroutine;
    int error;
};

static void wake(struct block_request *request, int error)
{
    struct wait *wait = request->opaque;

    wait->error = error;
    coroutine_resume(wait->coroutine);
}

static int submit_and_wait(struct format *format, struct block_request *request)
{
    struct wait wait = {.coroutine = coroutine_self()};

    request->done = wake;
    request->opaque = &wait; // cppcheck-suppress autoVariables
    block_submit(format->file, request);
    coroutine_suspend();
    return wait.error;
}

int format_transfer(struct format *format, enum block_kind kind, uint64_t offset, void *buffer,
                    size_t length)
{
    struct iovec vector = {buffer, length};
    struct block_request request = {
        .kind = kind, .offset = offset, .length = length, .vectors = &vector, .count = 1};

    return submit_and_wait(format, &request);
}

/* The part of `from` (`count` of them) of `length` bytes after `skip`; how many vectors it has. */
static unsigned slice(const struct iovec *from, unsigned count, uint64_t skip, uint64_t length,
                      struct iovec *to)
{
    unsigned used = 0;

    for (unsigned i = 0; i < count && length; i++) {
        uint64_t out = MIN(skip, from[i].iov_len);
        size_t size = MIN(from[i].iov_len - out, length);

        skip -= out;
        length -= size;
        if (size)
            to[used++] = (struct iovec){(uint8_t *)from[i].iov_base + out, size};
    }
    return used;
}

int format_transfer_part(struct format *format, const struct block_request *request, uint64_t skip,
                         uint64_t offset, uint64_t length)
{
    struct iovec vectors[VECTORS_MAX];
    struct block_request part = {
        .kind = request->kind, .offset = offset, .length = length, .vectors = vectors};

    part.count = slice(request->vectors, request->count, skip, length, vectors);
    return submit_and_wait(format, &part);
}

int format_range(struct format *format, enum block_kind kind, uint64_t offset, uint64_t length,
                 bool may_unmap)
{
    struct block_request request = {
        .kind = kind, .offset = offset, .length = length, .may_unmap = may_unmap};

    return submit_and_wait(format, &request);
}

int format_flush(struct format *format)
{
    struct block_request request = {.kind = BLOCK_FLUSH};

    return submit_and_wait(format, &request);
}

/* NULL: zeroes. */
static void give(const struct block_request *request, uint64_t skip, const uint8_t *bytes,
                 uint64_t length)
{
    for (unsigned i = 0; i < request->count && length; i++) {
        uint64_t out = MIN(skip, request->vectors[i].iov_len);
        size_t size = MIN(request->vectors[i].iov_len - out, length);
        uint8_t *to = (uint8_t *)request->vectors[i].iov_base + out;

        skip -= out;
        length -= size;
        if (!bytes) {
            memset(to, 0, size);
        } else {
            memcpy(to, bytes, size);
            bytes += size;
        }
    }
}

void format_read_zeroes(const struct block_request *request, uint64_t skip, uint64_t length)
{
    give(request, skip, NULL, length);
}

void format_read_bytes(const struct block_request *request, uint64_t skip, const void *bytes,
                       uint64_t length)
{
    give(request, skip, bytes, length);
}

/* ---- work under way ---- */

bool format_work_wait(struct format *format, uint64_t first, uint64_t count)
{
    for (struct format_work *work = format->works; work; work = work->next) {
        if (work->first >= first + count || first >= work->first + work->count)
            continue;
        coroutine_queue_wait(&work->waiting);
        return true;
    }
    return false;
}

void format_work_begin(struct format *format, struct format_work *work, uint64_t first,
                       uint64_t count)
{
    *work = (struct format_work){.first = first, .count = count, .next = format->works};
    format->works = work; // cppcheck-suppress autoVariables
}

void format_work_end(struct format *format, struct format_work *work)
{
    struct format_work **place = &format->works;

    while (*place != work)
        place = &(*place)->next;
    *place = work->next;
    coroutine_queue_wake_all(&work->waiting);
}

/* ---- requests ---- */

static void serve(void *opaque)
{
    struct block_request *request = opaque;
    struct format *format = (struct format *)request->private.block;
    int error = format->active ? 0 : EIO;

    if (!error)
        error = format->ops->serve(format, request);
    if (!error && request->stable && request->kind != BLOCK_READ && request->kind != BLOCK_FLUSH)
        error = format_flush(format);
    if (format->starting == request)
        block_finish_later(request, error);
    else
        block_finish(request, error);
}

static void submit(struct block *block, struct block_request *request)
{
    struct format *format = (struct format *)block;

    format->starting = request;
    if (!coroutine_start(format->pool, serve, request))
        block_finish_later(request, ENOMEM);
    format->starting = NULL;
}

/* ---- activation ---- */

/* What somebody on another thread waits for. */
struct errand {
    struct format *format;
    bool (*run)(struct format *format, GError **error); /* in a coroutine */
    GMutex lock;
    GCond ended;
    bool over, good;
    GError **error;
};

static void errand_end(struct errand *errand, bool good)
{
    g_mutex_lock(&errand->lock);
    errand->good = good;
    errand->over = true;
    g_cond_signal(&errand->ended);
    g_mutex_unlock(&errand->lock);
}

static void errand_run(void *opaque)
{
    struct errand *errand = opaque;

    errand_end(errand, errand->run(errand->format, errand->error));
}

static void errand_start(void *opaque)
{
    struct errand *errand = opaque;

    if (coroutine_start(errand->format->pool, errand_run, errand))
        return;
    g_set_error(errand->error, VMM_ERROR, VMM_ERROR_FAILED, "disk: %s: no memory for its work",
                errand->format->block.name);
    errand_end(errand, false);
}

static bool errand_do(struct block *block, bool (*run)(struct format *format, GError **error),
                      GError **error)
{
    struct errand errand = {.format = (struct format *)block, .run = run, .error = error};

    g_mutex_init(&errand.lock);
    g_cond_init(&errand.ended);
    loop_call(block->loop, errand_start, &errand);
    g_mutex_lock(&errand.lock);
    while (!errand.over)
        g_cond_wait(&errand.ended, &errand.lock);
    g_mutex_unlock(&errand.lock);
    g_cond_clear(&errand.ended);
    g_mutex_clear(&errand.lock);
    return errand.good;
}

static bool activate_now(struct format *format, GError **error)
{
    if (!format->active)
        format->active = format->ops->activate(format, error);
    return format->active;
}

static bool activate(struct block *block, GError **error)
{
    return errand_do(block, activate_now, error);
}

static bool deactivate_now(struct format *format, GError **error)
{
    int code = format->active && format->ops->deactivate ? format->ops->deactivate(format) : 0;

    format->active = code != 0;
    if (code)
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "disk: %s: it could not be closed: %s",
                    format->block.name, g_strerror(code));
    return !code;
}

static bool deactivate(struct block *block, GError **error)
{
    return errand_do(block, deactivate_now, error);
}

/* ---- life ---- */

static void nothing(void *opaque)
{
}

static void destroy(struct block *block)
{
    struct format *format = (struct format *)block;

    /* The last request was done before its coroutine had ended. */
    loop_call_wait(block->loop, nothing, NULL);
    format->ops->destroy(format);
    block_destroy(format->file);
    coroutine_pool_destroy(format->pool);
}

static const struct block_driver format_driver = {
    .submit = submit, .activate = activate, .deactivate = deactivate, .destroy = destroy};

bool format_check_cache(const struct block_config *config, GError **error)
{
    if (!(fcntl(config->fd, F_GETFL) & O_DIRECT))
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_NOT_SUPPORTED,
                "disk: %s: only raw disks have direct I/O (cache=none); choose another cache",
                config->name);
    return false;
}

void format_init(struct format *format, const struct format_ops *ops, struct block *file,
                 const struct block_config *config)
{
    block_init(&format->block, &format_driver, config);
    format->ops = ops;
    format->file = file;
    format->pool = coroutine_pool_create();
}
