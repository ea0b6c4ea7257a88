// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2 disks (qcow2.h tells how their parts go together).
 *
 * A request is cut into parts that lie in one stretch of the file each. A write to clusters that
 * are not there, or not the disk's alone, takes new ones; who comes to clusters that somebody is
 * at work on waits.
 */
#include "vmm/block/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util/fault.h"

#define RESERVE_MIN (1ULL << 20)

static uint64_t cluster_size(const struct qcow2 *image)
{
    return qcow2_cluster_size(&image->layout);
}

/* The part of a request that is next. */
struct part {
    uint64_t skip;   /* bytes of the request before it */
    uint64_t length; /* bytes */
    uint64_t first;  /* cluster of the disk where it begins */
    uint64_t count;  /* clusters that it touches */
    uint64_t within; /* bytes of the first before it */
};

static struct part part_next(const struct qcow2 *image, const struct block_request *request,
                             uint64_t done)
{
    uint64_t at = request->offset + done, bits = image->layout.cluster_bits;
    struct part part = {
        .skip = done,
        .length = request->length - done,
        .first = at >> bits,
        .within = at & (cluster_size(image) - 1),
    };

    part.count = (part.within + part.length + cluster_size(image) - 1) >> bits;
    return part;
}

/* Let it have no more than `count` clusters. */
static void part_cut(const struct qcow2 *image, struct part *part, uint64_t count)
{
    if (count >= part->count)
        return;
    part->count = count;
    part->length = count * cluster_size(image) - part->within;
}

/* ---- compressed clusters ---- */

/* The content of one, which the caller frees. */
static uint8_t *unpack(struct qcow2 *image, uint64_t entry, int *error)
{
    g_autofree uint8_t *packed = NULL, *content = g_try_malloc(cluster_size(image));
    uint64_t offset, start, size;
    uint32_t length;

    qcow2_compressed_place(&image->layout, entry, &offset, &length);
    start = offset & -(uint64_t)BLOCK_SECTOR;
    size = (offset + length - start + BLOCK_SECTOR - 1) & -(uint64_t)BLOCK_SECTOR;
    *error = EIO;
    if (offset >= image->end)
        return NULL;
    packed = g_try_malloc(size);
    *error = packed && content ? format_transfer(&image->format, BLOCK_READ, start, packed, size)
                               : ENOMEM;
    if (!*error && !qcow2_unpack(image->layout.compression, packed + (offset - start), length,
                                 content, cluster_size(image))) {
        block_warn(&image->format.block, "the qcow2 image has a compressed cluster that is none");
        *error = EIO;
    }
    return *error ? NULL : g_steal_pointer(&content);
}

/* ---- reading ---- */

static int read_packed(struct qcow2 *image, const struct block_request *request,
                       const struct part *part, uint64_t entry)
{
    int error;
    g_autofree uint8_t *content = unpack(image, entry, &error);

    if (content)
        format_read_bytes(request, part->skip, content + part->within, part->length);
    return error;
}

static int read_part(struct qcow2 *image, const struct block_request *request, struct part *part)
{
    struct qcow2_extent extent;
    int error = qcow2_lookup(image, part->first, part->count, &extent);

    if (error)
        return error;
    part_cut(image, part, extent.count);
    switch (extent.kind) {
    case QCOW2_DATA:
        return format_transfer_part(&image->format, request, part->skip,
                                    extent.offset + part->within, part->length);
    case QCOW2_PACKED:
        return read_packed(image, request, part, extent.offset);
    case QCOW2_ABSENT:
    case QCOW2_ZEROED:
        break;
    }
    format_read_zeroes(request, part->skip, part->length);
    return 0;
}

/* ---- writing ---- */

/* The part's own bytes, to `offset` of the file: data, or zeroes. */
static int put(struct qcow2 *image, const struct block_request *request, const struct part *part,
               uint64_t offset)
{
    if (request->kind == BLOCK_WRITE)
        return format_transfer_part(&image->format, request, part->skip, offset, part->length);
    return format_range(&image->format, BLOCK_WRITE_ZEROES, offset, part->length,
                        request->may_unmap);
}

/* `length` bytes of the old content of a cluster, from `within` on, to `offset` of the file. */
static int put_old(struct qcow2 *image, const struct qcow2_extent *extent, const uint8_t *unpacked,
                   uint64_t cluster, uint64_t within, uint64_t length, uint64_t offset)
{
    uint64_t from = extent->offset + cluster * cluster_size(image) + within;
    g_autofree uint8_t *bytes = NULL;
    int error;

    if (extent->kind == QCOW2_ABSENT || extent->kind == QCOW2_ZEROED)
        return format_range(&image->format, BLOCK_WRITE_ZEROES, offset, length, true);
    if (unpacked)
        return format_transfer(&image->format, BLOCK_WRITE, offset, (void *)(unpacked + within),
                               length);
    bytes = g_try_malloc(length);
    error = bytes ? format_transfer(&image->format, BLOCK_READ, from, bytes, length) : ENOMEM;
    if (!error)
        error = format_transfer(&image->format, BLOCK_WRITE, offset, bytes, length);
    return error;
}

/* What of the first and the last cluster is not the part's. */
static int put_around(struct qcow2 *image, const struct part *part,
                      const struct qcow2_extent *extent, uint64_t offset)
{
    uint64_t end = part->within + part->length, size = part->count * cluster_size(image);
    uint64_t last = part->count - 1, tail = end - last * cluster_size(image);
    g_autofree uint8_t *unpacked = NULL;
    int error = 0;

    if (extent->kind == QCOW2_PACKED)
        unpacked = unpack(image, extent->offset, &error);
    if (!error && part->within)
        error = put_old(image, extent, unpacked, 0, 0, part->within, offset);
    if (!error && end < size)
        error = put_old(image, extent, unpacked, last, tail, size - end, offset + end);
    return error;
}

/* Fill clusters at `offset`, which are the part's now, and let the disk lead there. */
static int fill(struct qcow2 *image, const struct block_request *request, const struct part *part,
                const struct qcow2_extent *extent, uint64_t offset, bool is_zero)
{
    bool was_zero = extent->kind == QCOW2_ABSENT || extent->kind == QCOW2_ZEROED;
    int error = 0;

    if (!is_zero || !was_zero)
        error = put_around(image, part, extent, offset);
    if (!error)
        error = put(image, request, part, offset + part->within);
    if (!error)
        error = qcow2_map(image, part->first, part->count, offset, 0);
    return error;
}

/* Where the clusters are not there, or not ours alone. `part` may become shorter. */
static int write_new(struct qcow2 *image, const struct block_request *request, struct part *part,
                     const struct qcow2_extent *extent)
{
    bool has_place = extent->kind == QCOW2_ZEROED && extent->offset && extent->own, fresh = false;
    uint64_t offset = extent->offset, count = extent->count;
    struct format_work work;
    int error = 0;

    format_work_begin(&image->format, &work, part->first, part->count);
    if (!has_place)
        error = qcow2_take(image, part->count, &offset, &count, &fresh);
    if (!error) {
        part_cut(image, part, count);
        error = fill(image, request, part, extent, offset, fresh);
        if (error && !has_place)
            qcow2_give(image, offset, count);
    }
    format_work_end(&image->format, &work);
    return error;
}

/* Where the beginning of the part lies, when nobody works on it any more; it is cut to that. */
static int find_part(struct qcow2 *image, struct part *part, struct qcow2_extent *extent)
{
    int error;

    do {
        error = qcow2_lookup(image, part->first, part->count, extent);
    } while (!error && format_work_wait(&image->format, part->first, extent->count));
    if (!error)
        part_cut(image, part, extent->count);
    return error;
}

static int write_part(struct qcow2 *image, const struct block_request *request, struct part *part)
{
    struct qcow2_extent extent;
    int error;

    error = find_part(image, part, &extent);
    if (error)
        return error;
    if (extent.kind == QCOW2_DATA && extent.own)
        return put(image, request, part, extent.offset + part->within);
    return write_new(image, request, part, &extent);
}

/* ---- zeroes and discards ---- */

/* Whole clusters: the disk leads nowhere from there on, or to something that counts as zero. */
static int clear_clusters(struct qcow2 *image, const struct block_request *request,
                          const struct part *part, const struct qcow2_extent *extent)
{
    bool keeps = request->kind == BLOCK_WRITE_ZEROES && !request->may_unmap;
    bool is_own = extent->kind == QCOW2_DATA && extent->own;
    struct format_work work;
    int error;

    if (extent->kind == QCOW2_ABSENT || (extent->kind == QCOW2_ZEROED && keeps))
        return 0;
    if (keeps && is_own && image->layout.version < 3)
        return put(image, request, part, extent->offset);
    format_work_begin(&image->format, &work, part->first, part->count);
    error = keeps && is_own ? qcow2_map(image, part->first, part->count, extent->offset, QCOW2_ZERO)
                            : qcow2_map(image, part->first, part->count, 0, 0);
    format_work_end(&image->format, &work);
    return error;
}

static int clear_part(struct qcow2 *image, const struct block_request *request, struct part *part)
{
    struct qcow2_extent extent;
    bool at_end = request->offset + part->skip + part->length == image->format.block.size;
    uint64_t whole;
    int error;

    if (part->within)
        part_cut(image, part, 1);
    whole = part->within ? 0 : part->length >> image->layout.cluster_bits;
    /* Nobody sees what lies behind the end of the disk. */
    whole += !part->within && at_end && part->length % cluster_size(image);
    if (whole)
        part_cut(image, part, whole);
    error = find_part(image, part, &extent);
    if (error)
        return error;
    if (whole)
        return clear_clusters(image, request, part, &extent);
    if (request->kind == BLOCK_DISCARD || extent.kind == QCOW2_ABSENT ||
        extent.kind == QCOW2_ZEROED)
        return 0;
    return write_part(image, request, part);
}

/* ---- requests ---- */

/* What a request finds stays as long as it lives: clusters that are given back meanwhile are not
 * taken again before it has ended. */
static unsigned enter(struct qcow2 *image)
{
    unsigned epoch = image->epoch & 1;

    image->users[epoch]++;
    return epoch;
}

static void leave(struct qcow2 *image, unsigned epoch)
{
    if (!--image->users[epoch])
        coroutine_queue_wake_all(&image->leaving);
}

static int serve_parts(struct qcow2 *image, const struct block_request *request)
{
    unsigned epoch = enter(image);
    int error = 0;

    for (uint64_t done = 0; done < request->length && !error;) {
        struct part part = part_next(image, request, done);

        if (request->kind == BLOCK_READ)
            error = read_part(image, request, &part);
        else if (request->kind == BLOCK_WRITE)
            error = write_part(image, request, &part);
        else
            error = clear_part(image, request, &part);
        done += part.length;
    }
    leave(image, epoch);
    return error;
}

static int serve(struct format *format, struct block_request *request)
{
    struct qcow2 *image = (struct qcow2 *)format;
    int error;

    if (request->kind == BLOCK_FLUSH)
        return qcow2_sync(image);
    error = serve_parts(image, request);
    if (error || request->kind == BLOCK_READ)
        return error;
    return request->stable ? qcow2_sync(image) : qcow2_sync_some(image);
}

/* ---- activation ---- */

static bool refuse(const struct qcow2 *image, const char *why, GError **error)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "disk: %s: the qcow2 image %s",
                image->format.block.name, why);
    return false;
}

static bool fails(const struct qcow2 *image, int code, GError **error)
{
    if (code)
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "disk: %s: %s", image->format.block.name,
                    g_strerror(code));
    return code != 0;
}

static bool read_tables(struct qcow2 *image, GError **error)
{
    uint64_t l1 = ((uint64_t)image->layout.l1_size * 8 + BLOCK_SECTOR - 1) / BLOCK_SECTOR;
    uint64_t refs = image->layout.reftable_clusters * cluster_size(image);

    g_free(image->l1);
    g_free(image->l1_dirty);
    g_free(image->reftable);
    image->l1 = g_try_malloc(l1 * BLOCK_SECTOR);
    image->l1_dirty = g_try_malloc0(l1);
    image->reftable = g_try_malloc(refs);
    if (!image->l1 || !image->l1_dirty || !image->reftable)
        return refuse(image, "has tables for which there is no memory", error);
    image->l1_is_dirty = false;
    image->reftable_size = (uint32_t)(refs / sizeof(uint64_t));
    if (image->layout.l1_offset + l1 * BLOCK_SECTOR > image->end ||
        image->layout.reftable_offset + refs > image->end)
        return refuse(image, "has tables behind the end of the file, which was cut off", error);
    return !fails(image,
                  format_transfer(&image->format, BLOCK_READ, image->layout.l1_offset, image->l1,
                                  l1 * BLOCK_SECTOR),
                  error) &&
           !fails(image,
                  format_transfer(&image->format, BLOCK_READ, image->layout.reftable_offset,
                                  image->reftable, refs),
                  error);
}

static bool check_may_change(struct qcow2 *image, GError **error)
{
    uint8_t sector[BLOCK_SECTOR];
    int code;

    if (image->format.block.readonly)
        return true;
    if (image->layout.corrupt)
        return refuse(image, "is marked as corrupt; repair it (qemu-img check -r all)", error);
    if (image->layout.dirty)
        return refuse(
            image, "was not closed by who wrote it last; repair it (qemu-img check -r all)", error);
    if (!image->layout.has_autoclear)
        return true;
    /* Bitmaps and the like, which do not see what we change. */
    code = format_transfer(&image->format, BLOCK_READ, 0, sector, sizeof(sector));
    memset(sector + QCOW2_AUTOCLEAR_AT, 0, sizeof(uint64_t));
    if (!code)
        code = format_transfer(&image->format, BLOCK_WRITE, 0, sector, sizeof(sector));
    if (!code)
        code = format_flush(&image->format);
    return !fails(image, code, error);
}

static bool read_header(struct qcow2 *image, int fd, const char *name, GError **error)
{
    uint8_t bytes[QCOW2_HEADER_MAX];
    ssize_t count = pread(fd, bytes, sizeof(bytes), 0);
    g_autofree char *why = NULL;

    if (count >= 0 && qcow2_read_header(bytes, (size_t)count, &image->layout, &why))
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "disk: %s: the qcow2 image %s", name,
                why ? why : g_strerror(errno));
    return false;
}

static void forget(struct qcow2 *image)
{
    qcow2_tables_finish(&image->l2);
    qcow2_tables_finish(&image->refs);
    g_clear_pointer(&image->freed, g_array_unref);
}

static bool activate(struct format *format, GError **error)
{
    struct qcow2 *image = (struct qcow2 *)format;
    off_t end = lseek(image->fd, 0, SEEK_END);

    if (image->freed)
        forget(image);
    if (end < 0)
        return !fails(image, errno, error);
    if (!read_header(image, image->fd, format->block.name, error))
        return false;
    qcow2_tables_init(&image->l2, image);
    qcow2_tables_init(&image->refs, image);
    image->freed = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    image->end = ((uint64_t)end + cluster_size(image) - 1) & -cluster_size(image);
    image->run = (struct qcow2_run){0};
    image->reserve = RESERVE_MIN;
    image->search = 1;
    return read_tables(image, error) && check_may_change(image, error);
}

static int deactivate(struct format *format)
{
    struct qcow2 *image = (struct qcow2 *)format;
    int error = 0;

    if (image->format.block.readonly)
        return 0;
    error = qcow2_sync(image);
    return error ? error : qcow2_close_counters(image);
}

/* ---- life ---- */

static void destroy(struct format *format)
{
    struct qcow2 *image = (struct qcow2 *)format;

    if (image->freed)
        forget(image);
    g_free(image->l1);
    g_free(image->l1_dirty);
    g_free(image->reftable);
}

static const struct format_ops qcow2_ops = {
    .serve = serve,
    .activate = activate,
    .deactivate = deactivate,
    .destroy = destroy,
};

struct block *block_qcow2_create(const struct block_config *config, GError **error)
{
    g_autofree struct qcow2 *image = g_new0(struct qcow2, 1);
    struct block_config below = *config;
    struct block *file;

    if (!format_check_cache(config, error) || !read_header(image, config->fd, config->name, error))
        return NULL;
    below.grows = true;
    file = block_raw_create(&below, error);
    if (!file)
        return NULL;
    format_init(&image->format, &qcow2_ops, file, config);
    image->format.block.size = image->layout.size;
    image->format.block.granularity = block_granularity(file);
    image->fd = config->fd;
    return &g_steal_pointer(&image)->format.block;
}
