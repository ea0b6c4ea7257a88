// SPDX-License-Identifier: Apache-2.0
/*
 * A streamOptimized VMDK image of a raw disk ("Virtual Disk Format 5.0").
 *
 * Threads read and compress chunks of the disk, which find their turn in a ring of slots; the
 * caller's thread writes them in the order of the disk. A chunk never crosses a grain table, so
 * that each is written at once, and a table when its last grain was.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "vmm/block/vmdk.h"
#include "vmm/block/vmdk_format.h"
#include "vmm/util/fault.h"

#define GRAIN_SECTORS   128U
#define GRAIN_BYTES     (GRAIN_SECTORS * VMDK_SECTOR)
#define TABLE_SECTORS   ((uint64_t)GRAIN_SECTORS * VMDK_GTES) /* of the disk */
#define CHUNK_GRAINS    16U                                   /* divides VMDK_GTES */
#define CHUNK_BYTES     (CHUNK_GRAINS * GRAIN_BYTES)
#define OVERHEAD        128U /* sectors before the first grain */
#define DESCRIPTOR_AT   1U
#define DESCRIPTOR_SIZE 20U
#define TELL_US         100000 /* microseconds */
#define LEVEL           Z_DEFAULT_COMPRESSION

/* A grain as it is written: marker, data, zeros up to a whole sector. */
#define RECORD_BYTES(size) \
    ((VMDK_GRAIN_MARKER_SIZE + (size) + VMDK_SECTOR - 1) / VMDK_SECTOR * VMDK_SECTOR)

struct slot {
    bool ready;
    uint64_t offset;              /* of the chunk on the disk, bytes */
    uint32_t place[CHUNK_GRAINS]; /* sectors of the record from the chunk's first; */
    bool has[CHUNK_GRAINS];       /* ...none: the grain is zeros */
    uint8_t *out;                 /* records, one behind the other */
    size_t used;
};

struct store {
    int disk;
    uint64_t size;

    GMutex lock;
    GCond changed;
    struct slot *slots; /* chunk N is in slot N % count */
    unsigned count;
    uint64_t given, written; /* chunks */
    uint64_t next;           /* offset on the disk where the next chunk is looked for */
    bool ended, stop;
    GError *error; /* of reading */

    /* The caller's thread alone. */
    const struct vmdk_sink *sink;
    uint64_t position; /* sectors written */
    uint32_t table[VMDK_GTES];
    uint64_t table_index;
    bool table_used;
    uint32_t *directory;
    uint64_t tables;
};

static bool fail(GError **error, const char *what, int problem)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "%s: %s", what, g_strerror(problem));
    return false;
}

/* ---- reading and compressing ---- */

/* The next chunk that may hold something, with the lock held; false behind the last. A disk that
 * knows of no holes has none. */
static bool find_chunk(struct store *store, uint64_t *offset)
{
    off_t data = store->next < store->size ? lseek(store->disk, (off_t)store->next, SEEK_DATA) : -1;

    if (store->next >= store->size || (data < 0 && errno == ENXIO))
        return false;
    *offset = data < 0 ? store->next : (uint64_t)data / CHUNK_BYTES * CHUNK_BYTES;
    *offset = MAX(*offset, store->next);
    store->next = *offset + CHUNK_BYTES;
    return *offset < store->size;
}

/* Take the next chunk and a slot for it; NULL when there is none left. */
static struct slot *claim(struct store *store)
{
    struct slot *slot = NULL;
    uint64_t offset;

    g_mutex_lock(&store->lock);
    while (!store->stop && !store->ended && store->given - store->written >= store->count)
        g_cond_wait(&store->changed, &store->lock);
    if (!store->stop && !store->ended && find_chunk(store, &offset)) {
        slot = &store->slots[store->given++ % store->count];
        slot->offset = offset;
    } else {
        store->ended = true;
        g_cond_broadcast(&store->changed);
    }
    g_mutex_unlock(&store->lock);
    return slot;
}

/* The whole chunk; what is behind the disk's end is zeros. */
static bool read_chunk(const struct store *store, uint64_t offset, uint8_t *data, GError **error)
{
    size_t size = MIN(CHUNK_BYTES, store->size - offset), done = 0;

    memset(data + size, 0, CHUNK_BYTES - size);
    while (done < size) {
        ssize_t count = pread(store->disk, data + done, size - done, (off_t)(offset + done));

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail(error, "the disk cannot be read", errno);
        if (!count)
            return fail(error, "the disk cannot be read", ENODATA);
        done += count;
    }
    return true;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return !data[0] && memcmp(data, data + 1, size - 1) == 0;
}

/* Put the grain's record behind the others. */
static bool compress_grain(z_stream *stream, struct slot *slot, unsigned index, const uint8_t *data)
{
    uint8_t *record = slot->out + slot->used;
    struct vmdk_marker marker = {
        .value = GUINT64_TO_LE(slot->offset / VMDK_SECTOR + (uint64_t)index * GRAIN_SECTORS)};
    uint32_t size;

    if (deflateReset(stream) != Z_OK)
        return false;
    stream->next_in = (uint8_t *)data;
    stream->avail_in = GRAIN_BYTES;
    stream->next_out = record + VMDK_GRAIN_MARKER_SIZE;
    stream->avail_out = (uInt)compressBound(GRAIN_BYTES);
    if (deflate(stream, Z_FINISH) != Z_STREAM_END)
        return false;
    size = (uint32_t)stream->total_out;
    marker.size = GUINT32_TO_LE(size);
    memcpy(record, &marker, VMDK_GRAIN_MARKER_SIZE);
    memset(record + VMDK_GRAIN_MARKER_SIZE + size, 0,
           RECORD_BYTES(size) - VMDK_GRAIN_MARKER_SIZE - size);
    slot->place[index] = (uint32_t)(slot->used / VMDK_SECTOR);
    slot->has[index] = true;
    slot->used += RECORD_BYTES(size);
    return true;
}

static bool fill_slot(const struct store *store, struct slot *slot, z_stream *stream, uint8_t *data,
                      GError **error)
{
    if (!read_chunk(store, slot->offset, data, error))
        return false;
    slot->used = 0;
    for (unsigned i = 0; i < CHUNK_GRAINS; i++) {
        const uint8_t *grain = data + (size_t)i * GRAIN_BYTES;

        slot->has[i] = false;
        if (!is_zero(grain, GRAIN_BYTES) && !compress_grain(stream, slot, i, grain))
            return fail(error, "zlib fails", EIO);
    }
    return true;
}

/* Keep the first error, which ends the work. */
static void give_up(struct store *store, GError *error)
{
    g_mutex_lock(&store->lock);
    if (store->error)
        g_error_free(error);
    else
        store->error = error;
    store->stop = true;
    g_cond_broadcast(&store->changed);
    g_mutex_unlock(&store->lock);
}

static void work(struct store *store, z_stream *stream, uint8_t *data)
{
    GError *error = NULL;
    struct slot *slot;

    while ((slot = claim(store))) {
        if (!fill_slot(store, slot, stream, data, &error)) {
            give_up(store, error);
            return;
        }
        g_mutex_lock(&store->lock);
        slot->ready = true;
        g_cond_broadcast(&store->changed);
        g_mutex_unlock(&store->lock);
    }
}

static void *worker_run(void *opaque)
{
    struct store *store = opaque;
    uint8_t *data = g_try_malloc(CHUNK_BYTES);
    z_stream stream = {0};
    GError *error = NULL;

    if (data && deflateInit(&stream, LEVEL) == Z_OK) {
        work(store, &stream, data);
        deflateEnd(&stream);
    } else {
        fail(&error, "there is no memory to compress it", ENOMEM);
        give_up(store, error);
    }
    g_free(data);
    return NULL;
}

/* ---- writing ---- */

static bool put(struct store *store, const void *data, size_t size, GError **error)
{
    if (store->position + size / VMDK_SECTOR > UINT32_MAX) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_SPACE,
                    "the image would be larger than the 2 TB that a VMDK can have");
        return false;
    }
    store->position += size / VMDK_SECTOR;
    return store->sink->write(store->sink->context, data, size, error);
}

static bool put_marker(struct store *store, uint32_t type, uint64_t sectors, GError **error)
{
    struct vmdk_marker marker = {.value = GUINT64_TO_LE(sectors), .type = GUINT32_TO_LE(type)};

    return put(store, &marker, sizeof(marker), error);
}

/* A marker, then what it tells of, which is filled up to whole sectors. */
static bool put_marked(struct store *store, uint32_t type, const void *data, size_t size,
                       GError **error)
{
    size_t whole = size / VMDK_SECTOR * VMDK_SECTOR, rest = size - whole;
    uint8_t last[VMDK_SECTOR] = {0};

    memcpy(last, (const uint8_t *)data + whole, rest);
    return put_marker(store, type, (size + VMDK_SECTOR - 1) / VMDK_SECTOR, error) &&
           (!whole || put(store, data, whole, error)) &&
           (!rest || put(store, last, sizeof(last), error));
}

static bool put_table(struct store *store, GError **error)
{
    if (!store->table_used)
        return true;
    store->directory[store->table_index] = GUINT32_TO_LE((uint32_t)store->position + 1);
    store->table_used = false;
    if (!put_marked(store, VMDK_MARKER_GT, store->table, sizeof(store->table), error))
        return false;
    memset(store->table, 0, sizeof(store->table));
    return true;
}

static bool put_chunk(struct store *store, const struct slot *slot, GError **error)
{
    uint64_t sector = slot->offset / VMDK_SECTOR;
    unsigned first = sector % TABLE_SECTORS / GRAIN_SECTORS;

    if (!slot->used)
        return true;
    if (sector / TABLE_SECTORS != store->table_index && !put_table(store, error))
        return false;
    store->table_index = sector / TABLE_SECTORS;
    store->table_used = true;
    for (unsigned i = 0; i < CHUNK_GRAINS; i++)
        if (slot->has[i])
            store->table[first + i] = GUINT32_TO_LE((uint32_t)store->position + slot->place[i]);
    return put(store, slot->out, slot->used, error);
}

/* The slot of the next chunk; NULL behind the last, and after an error. */
static struct slot *next_slot(struct store *store)
{
    struct slot *slot = &store->slots[store->written % store->count];
    bool come;

    g_mutex_lock(&store->lock);
    while (!(come = store->written < store->given && slot->ready) && !store->stop &&
           !(store->ended && store->written == store->given))
        g_cond_wait(&store->changed, &store->lock);
    come &= !store->stop;
    g_mutex_unlock(&store->lock);
    return come ? slot : NULL;
}

static void release(struct store *store, struct slot *slot)
{
    g_mutex_lock(&store->lock);
    slot->ready = false;
    store->written++;
    g_cond_broadcast(&store->changed);
    g_mutex_unlock(&store->lock);
}

static bool put_grains(struct store *store, const struct vmdk_progress *progress, GError **error)
{
    gint64 told = 0;
    struct slot *slot;

    while ((slot = next_slot(store))) {
        gint64 now = g_get_monotonic_time();

        if (!put_chunk(store, slot, error))
            return false;
        if (progress && now - told >= TELL_US) {
            progress->tell(progress->context, slot->offset);
            told = now;
        }
        release(store, slot);
    }
    if (store->error) {
        g_propagate_error(error, g_steal_pointer(&store->error));
        return false;
    }
    return put_table(store, error);
}

/* ---- what stands around the grains ---- */

static struct vmdk_header make_header(const struct store *store, uint64_t directory)
{
    struct vmdk_header header = {
        .magic = GUINT32_TO_LE(VMDK_MAGIC),
        .version = GUINT32_TO_LE(3),
        .flags = GUINT32_TO_LE(VMDK_FLAG_LINES | VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS),
        .capacity = GUINT64_TO_LE(store->size / VMDK_SECTOR),
        .grain_size = GUINT64_TO_LE(GRAIN_SECTORS),
        .descriptor_offset = GUINT64_TO_LE(DESCRIPTOR_AT),
        .descriptor_size = GUINT64_TO_LE(DESCRIPTOR_SIZE),
        .gtes_per_gt = GUINT32_TO_LE(VMDK_GTES),
        .gd_offset = GUINT64_TO_LE(directory),
        .overhead = GUINT64_TO_LE(OVERHEAD),
        .compression = GUINT16_TO_LE(VMDK_DEFLATE),
    };

    memcpy(header.line_ends, VMDK_LINE_ENDS, sizeof(header.line_ends));
    return header;
}

/* The geometry of a disk on IDE or SATA, which has at most 16383 cylinders of 16 heads. */
static char *make_descriptor(const struct store *store, const char *name)
{
    uint64_t sectors = store->size / VMDK_SECTOR, cylinders = MIN(sectors / (16 * 63), 16383);

    return g_strdup_printf("# Disk DescriptorFile\n"
                           "version=1\n"
                           "CID=%08x\n"
                           "parentCID=ffffffff\n"
                           "createType=\"streamOptimized\"\n\n"
                           "# Extent description\n"
                           "RW %" G_GUINT64_FORMAT " SPARSE \"%s\"\n\n"
                           "# The Disk Data Base\n"
                           "#DDB\n\n"
                           "ddb.virtualHWVersion = \"4\"\n"
                           "ddb.adapterType = \"ide\"\n"
                           "ddb.geometry.cylinders = \"%" G_GUINT64_FORMAT "\"\n"
                           "ddb.geometry.heads = \"16\"\n"
                           "ddb.geometry.sectors = \"63\"\n",
                           g_random_int() & 0xFFFFFFFEU, sectors, name, MAX(cylinders, 1));
}

static bool put_beginning(struct store *store, const char *name, GError **error)
{
    struct vmdk_header header = make_header(store, VMDK_GD_AT_END);
    g_autofree char *descriptor = make_descriptor(store, name);
    g_autofree uint8_t *room = g_try_malloc0((OVERHEAD - 1) * VMDK_SECTOR);

    if (!room)
        return fail(error, "there is no memory for its beginning", ENOMEM);
    memcpy(room, descriptor, MIN(strlen(descriptor), DESCRIPTOR_SIZE * VMDK_SECTOR));
    return put(store, &header, sizeof(header), error) &&
           put(store, room, (OVERHEAD - 1) * VMDK_SECTOR, error);
}

static bool put_end(struct store *store, GError **error)
{
    struct vmdk_header footer = make_header(store, store->position + 1);

    return put_marked(store, VMDK_MARKER_GD, store->directory,
                      store->tables * sizeof(*store->directory), error) &&
           put_marked(store, VMDK_MARKER_FOOTER, &footer, sizeof(footer), error) &&
           put_marker(store, VMDK_MARKER_END, 0, error);
}

static bool store_disk(struct store *store, const char *name, unsigned threads,
                       const struct vmdk_progress *progress, GError **error)
{
    g_autofree GThread **workers = g_new0(GThread *, threads);
    bool good = put_beginning(store, name, error);

    if (!good)
        return false;
    for (unsigned i = 0; i < threads; i++)
        workers[i] = g_thread_new("vmdk", worker_run, store);
    good = put_grains(store, progress, error);
    g_mutex_lock(&store->lock);
    store->stop = true;
    g_cond_broadcast(&store->changed);
    g_mutex_unlock(&store->lock);
    for (unsigned i = 0; i < threads; i++)
        g_thread_join(workers[i]);
    return good && put_end(store, error);
}

bool vmdk_store(int disk, uint64_t size, const char *name, unsigned threads,
                const struct vmdk_sink *sink, const struct vmdk_progress *progress, GError **error)
{
    struct store store = {.disk = disk, .size = size, .sink = sink, .count = 2 * threads + 2};
    bool good = false, memory = true;

    store.tables = (size / VMDK_SECTOR + TABLE_SECTORS - 1) / TABLE_SECTORS;
    store.directory = g_try_new0(uint32_t, store.tables);
    store.slots = g_new0(struct slot, store.count);
    for (unsigned i = 0; i < store.count; i++) {
        store.slots[i].out = g_try_malloc(CHUNK_GRAINS * RECORD_BYTES(compressBound(GRAIN_BYTES)));
        memory &= store.slots[i].out != NULL;
    }
    g_mutex_init(&store.lock);
    g_cond_init(&store.changed);
    if (store.directory && memory)
        good = store_disk(&store, name, threads, progress, error);
    else
        fail(error, "there is no memory to pack it", ENOMEM);
    g_clear_error(&store.error);
    g_mutex_clear(&store.lock);
    g_cond_clear(&store.changed);
    for (unsigned i = 0; i < store.count; i++)
        g_free(store.slots[i].out);
    g_free(store.slots);
    g_free(store.directory);
    return good;
}
