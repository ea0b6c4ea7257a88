// SPDX-License-Identifier: Apache-2.0
/*
 * A raw file of a VMDK image. Threads take grain tables in turn and write their grains; nobody
 * waits for another, since each has a region of the disk of its own.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "vmm/block/vmdk_image.h"
#include "vmm/util/fault.h"

#define BLOCK        4096U      /* bytes: what is zero stays a hole in these */
#define WINDOW_BYTES (1U << 20) /* grains mostly follow each other: read as many at once */
#define TELL_US      100000     /* microseconds */

struct restore {
    struct vmdk *image;
    int target;
    atomic_uint_least64_t next; /* table */
    atomic_uint_least64_t done; /* sectors of the disk, up to whole tables */
    atomic_bool stop;

    GMutex lock;
    GCond changed;
    unsigned running; /* threads; under the lock, as the error is */
    GError *error;    /* the first */
};

/* What one thread has. */
struct worker {
    struct restore *restore;
    z_stream inflate;
    uint8_t *grain;
    uint8_t *window;
    uint64_t window_at, window_size;
};

/* Bytes of the image, up to the window's size; NULL and an error when it has not that many. They
 * hold until the next call. */
static const uint8_t *look(struct worker *worker, uint64_t at, size_t size, GError **error)
{
    const struct vmdk *image = worker->restore->image;

    if (at < worker->window_at || at - worker->window_at > worker->window_size ||
        size > worker->window_size - (at - worker->window_at)) {
        uint64_t most = at < image->size ? MIN(image->size - at, WINDOW_BYTES) : 0;

        worker->window_size = 0;
        if (!vmdk_read(image, at, worker->window, MAX(size, most), error))
            return NULL;
        worker->window_at = at;
        worker->window_size = MAX(size, most);
    }
    return worker->window + (at - worker->window_at);
}

/* Sectors from `sector` to the grain's or the disk's end, in bytes. */
static uint32_t bytes_of_grain(const struct vmdk *image, uint64_t sector)
{
    return (uint32_t)MIN(image->grain_sectors, image->capacity - sector) * VMDK_SECTOR;
}

static bool inflate_grain(struct worker *worker, const uint8_t *data, uint32_t size,
                          uint32_t wanted, GError **error)
{
    z_stream *stream = &worker->inflate;

    if (inflateReset(stream) != Z_OK)
        return vmdk_fail(error, "zlib fails");
    stream->next_in = (uint8_t *)data;
    stream->avail_in = size;
    stream->next_out = worker->grain;
    stream->avail_out = worker->restore->image->grain_bytes;
    if (inflate(stream, Z_FINISH) != Z_STREAM_END || stream->total_out < wanted)
        return vmdk_fail(error, "a compressed grain is damaged");
    return true;
}

/* The grain that begins at `sector` of the disk and lies at `at` in the image. */
static const uint8_t *read_compressed(struct worker *worker, uint64_t at, uint64_t sector,
                                      GError **error)
{
    const struct vmdk *image = worker->restore->image;
    const uint8_t *head = look(worker, at, VMDK_GRAIN_MARKER_SIZE, error), *data;
    struct vmdk_marker marker = {0};
    uint32_t size;

    if (!head)
        return NULL;
    memcpy(&marker, head, VMDK_GRAIN_MARKER_SIZE);
    size = GUINT32_FROM_LE(marker.size);
    if (GUINT64_FROM_LE(marker.value) != sector || !size || size > 2 * image->grain_bytes) {
        vmdk_fail(error, "a grain is not where its table has it");
        return NULL;
    }
    data = look(worker, at + VMDK_GRAIN_MARKER_SIZE, size, error);
    if (!data || !inflate_grain(worker, data, size, bytes_of_grain(image, sector), error))
        return NULL;
    return worker->grain;
}

static bool write_all(int fd, const uint8_t *data, size_t size, uint64_t at, GError **error)
{
    while (size) {
        ssize_t count = pwrite(fd, data, size, (off_t)at);

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            g_set_error(error, VMM_ERROR, errno == ENOSPC ? VMM_ERROR_NO_SPACE : VMM_ERROR_FAILED,
                        "the disk cannot be written: %s", g_strerror(errno));
            return false;
        }
        data += count;
        at += count;
        size -= count;
    }
    return true;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return !data[0] && memcmp(data, data + 1, size - 1) == 0;
}

/* Write what is not zero. */
static bool write_grain(int fd, const uint8_t *data, uint32_t size, uint64_t at, GError **error)
{
    uint32_t from = 0, to = 0;

    while (to < size) {
        uint32_t block = MIN(BLOCK, size - to);

        if (is_zero(data + to, block)) {
            if (!write_all(fd, data + from, to - from, at + from, error))
                return false;
            from = to + block;
        }
        to += block;
    }
    return write_all(fd, data + from, to - from, at + from, error);
}

static bool restore_grain(struct worker *worker, uint32_t entry, uint64_t sector, GError **error)
{
    const struct vmdk *image = worker->restore->image;
    uint64_t at = (uint64_t)GUINT32_FROM_LE(entry) * VMDK_SECTOR;
    uint32_t size = bytes_of_grain(image, sector);
    const uint8_t *data = image->compressed ? read_compressed(worker, at, sector, error)
                                            : look(worker, at, size, error);

    return data && write_grain(worker->restore->target, data, size, sector * VMDK_SECTOR, error);
}

static bool restore_table(struct worker *worker, uint64_t index, GError **error)
{
    const struct vmdk *image = worker->restore->image;
    uint64_t first = index * image->table_sectors;
    uint32_t entries[VMDK_GTES];

    if (!vmdk_read_table(image, index, entries, error))
        return false;
    for (unsigned i = 0; i < image->table_entries && !worker->restore->stop; i++) {
        uint64_t sector = first + (uint64_t)i * image->grain_sectors;

        worker->restore->done += image->grain_sectors;
        if (!vmdk_has_grain(image, entries[i]))
            continue;
        if (sector >= image->capacity)
            return vmdk_fail(error, "it has grains behind the disk's end");
        if (!restore_grain(worker, entries[i], sector, error))
            return false;
    }
    return true;
}

static void work(struct worker *worker)
{
    struct restore *restore = worker->restore;
    const struct vmdk *image = restore->image;
    GError *error = NULL;
    uint64_t index;

    while (!restore->stop && !error &&
           (index = atomic_fetch_add(&restore->next, 1)) < image->tables)
        if (image->directory[index])
            restore_table(worker, index, &error);
        else
            restore->done += image->table_sectors;
    g_mutex_lock(&restore->lock);
    if (error) {
        restore->stop = true;
        if (restore->error)
            g_error_free(error);
        else
            restore->error = error;
    }
    g_mutex_unlock(&restore->lock);
}

static void *worker_run(void *opaque)
{
    struct restore *restore = opaque;
    struct worker worker = {.restore = restore};

    worker.grain = g_try_malloc(restore->image->grain_bytes);
    worker.window = g_try_malloc(MAX(WINDOW_BYTES, 2 * restore->image->grain_bytes));
    if (worker.grain && worker.window && inflateInit(&worker.inflate) == Z_OK) {
        work(&worker);
        inflateEnd(&worker.inflate);
    }
    g_free(worker.window);
    g_free(worker.grain);
    g_mutex_lock(&restore->lock);
    restore->running--;
    g_cond_signal(&restore->changed);
    g_mutex_unlock(&restore->lock);
    return NULL;
}

/* Until all threads are done. */
static void await(struct restore *restore, const struct vmdk_progress *progress)
{
    const struct vmdk *image = restore->image;

    g_mutex_lock(&restore->lock);
    while (restore->running) {
        if (progress) {
            uint64_t done = restore->done;

            g_mutex_unlock(&restore->lock);
            progress->tell(progress->context, MIN(done, image->capacity) * VMDK_SECTOR);
            g_mutex_lock(&restore->lock);
        }
        if (restore->running)
            g_cond_wait_until(&restore->changed, &restore->lock, g_get_monotonic_time() + TELL_US);
    }
    g_mutex_unlock(&restore->lock);
}

bool vmdk_restore(struct vmdk *image, int target, unsigned threads,
                  const struct vmdk_progress *progress, GError **error)
{
    struct restore restore = {.image = image, .target = target, .running = threads};
    g_autofree GThread **workers = g_new0(GThread *, threads);

    if (ftruncate(target, (off_t)vmdk_capacity(image)) != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "the disk cannot have its size: %s",
                    g_strerror(errno));
        return false;
    }
    g_mutex_init(&restore.lock);
    g_cond_init(&restore.changed);
    for (unsigned i = 0; i < threads; i++)
        workers[i] = g_thread_new("vmdk", worker_run, &restore);
    await(&restore, progress);
    for (unsigned i = 0; i < threads; i++)
        g_thread_join(workers[i]);
    g_mutex_clear(&restore.lock);
    g_cond_clear(&restore.changed);
    if (!restore.error && restore.next < image->tables)
        vmdk_fail(&restore.error, "there is no memory to unpack it");
    if (!restore.error)
        return true;
    g_propagate_error(error, restore.error);
    return false;
}
