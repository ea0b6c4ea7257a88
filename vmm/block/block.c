// SPDX-License-Identifier: Apache-2.0
/*
 * What all block back ends have in common: the last check of a request, holding back, messages.
 */
#include "vmm/block/internal.h"

#include <errno.h>

#include "vmm/block/limits.h"

uint64_t block_size(const struct block *block)
{
    return block->size;
}

bool block_is_readonly(const struct block *block)
{
    return block->readonly;
}

uint32_t block_granularity(const struct block *block)
{
    return block->granularity;
}

/* ---- requests ---- */

void block_finish(struct block_request *request, int error)
{
    request->done(request, error);
}

static void finish_now(void *opaque)
{
    struct block_request *request = opaque;
    request->done(request, request->private.error);
}

void block_finish_later(struct block_request *request, int error)
{
    request->private.error = error;
    loop_call(request->private.block->loop, finish_now, request);
}

static bool is_change(const struct block_request *request)
{
    return request->kind == BLOCK_WRITE || request->kind == BLOCK_DISCARD ||
           request->kind == BLOCK_WRITE_ZEROES;
}

/* 0, or what is wrong with the request itself. */
static int check(const struct block *block, const struct block_request *request)
{
    if (block->readonly && is_change(request))
        return EROFS;
    if (request->kind == BLOCK_FLUSH)
        return 0;
    if (request->offset % BLOCK_SECTOR || request->length % BLOCK_SECTOR ||
        request->offset > UINT64_MAX / 2 || request->length > UINT64_MAX / 2)
        return EINVAL;
    if (!block->grows &&
        (request->length > block->size || request->offset > block->size - request->length))
        return EINVAL;
    return 0;
}

static void pass(struct block *block, struct block_request *request)
{
    block->driver->submit(block, request);
}

static void limit(struct block *block, struct block_request *request)
{
    if (block->limits)
        limits_submit(block->limits, request);
    else
        pass(block, request);
}

void block_submit(struct block *block, struct block_request *request)
{
    int error = check(block, request);
    bool empty = request->kind == BLOCK_FLUSH ? block->readonly : !request->length;

    request->private.block = block;
    request->private.next = NULL;
    request->private.finished = 0;
    if (error || empty) {
        block_finish_later(request, error);
    } else if (block->held && request->kind != BLOCK_READ) {
        *block->end = request;
        block->end = &request->private.next;
    } else {
        limit(block, request);
    }
}

bool block_cancel(struct block *block, struct block_request *request)
{
    for (struct block_request **place = &block->waiting; *place; place = &(*place)->private.next) {
        if (*place != request)
            continue;
        *place = request->private.next;
        if (!*place)
            block->end = place;
        return true;
    }
    return block->limits && limits_cancel(block->limits, request);
}

void block_hold(struct block *block)
{
    block->held = true;
    if (block->limits)
        limits_hold(block->limits, true);
}

void block_release(struct block *block)
{
    struct block_request *request = block->waiting;

    block->held = false;
    block->waiting = NULL;
    block->end = &block->waiting;
    while (request) {
        struct block_request *next = request->private.next;
        limit(block, request);
        request = next;
    }
    if (block->limits)
        limits_hold(block->limits, false);
}

/* ---- limits ---- */

struct limiting {
    struct block *block;
    const struct block_limits *limits;
    GError **error;
};

static void limit_on_loop(void *opaque)
{
    const struct limiting *limiting = opaque;
    struct block *block = limiting->block;

    if (!block->limits)
        block->limits = limits_create(block->loop, pass, limiting->error);
    if (!block->limits)
        return;
    limits_set(block->limits, limiting->limits);
    limits_hold(block->limits, block->held);
}

bool block_set_limits(struct block *block, const struct block_limits *limits, GError **error)
{
    struct limiting limiting = {block, limits, error};

    loop_call_wait(block->loop, limit_on_loop, &limiting);
    if (block->limits)
        return true;
    g_prefix_error(error, "disk: %s: ", block->name);
    return false;
}

bool block_activate(struct block *block, GError **error)
{
    return !block->driver->activate || block->driver->activate(block, error);
}

bool block_deactivate(struct block *block, GError **error)
{
    return !block->driver->deactivate || block->driver->deactivate(block, error);
}

/* ---- messages ---- */

void block_warn(struct block *block, const char *format, ...)
{
    uint64_t count = ++block->warnings;
    va_list args;

    if (count & (count - 1))
        return;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_message("disk: %s: %s (%" G_GUINT64_FORMAT ")", block->name, what, count);
}

/* ---- life ---- */

void block_init(struct block *block, const struct block_driver *driver,
                const struct block_config *config)
{
    block->driver = driver;
    block->loop = config->loop;
    block->name = g_strdup(config->name);
    block->readonly = config->readonly;
    block->grows = config->grows;
    block->end = &block->waiting;
}

static void unlimit_on_loop(void *opaque)
{
    limits_destroy(g_steal_pointer(&((struct block *)opaque)->limits));
}

void block_destroy(struct block *block)
{
    if (!block)
        return;
    if (block->limits)
        loop_call_wait(block->loop, unlimit_on_loop, block);
    block->driver->destroy(block);
    g_free(block->name);
    g_free(block);
}
