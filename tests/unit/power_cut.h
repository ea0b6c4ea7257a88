// SPDX-License-Identifier: Apache-2.0
/*
 * Cuts of power. What a disk does to its file is recorded, with the moments at which each change
 * began and was done. A cut at a moment leaves what a sync vouches for that was done before then,
 * and of the rest any sectors. The image must open then, and each sector of the disk must be what
 * it was at the last flush that was done before the cut, or what was written to it since.
 */
#pragma once

#include <sys/mman.h>

#include "tests/unit/image_disk.h"
#include "vmm/util/loop_internal.h"

#define CUT_SIZE   (1U << 20) /* of the disk */
#define CUT_ROUNDS 40U

struct change {
    struct loop_operation own, *original;
    uint8_t *data; /* NULL: zeroes */
    uint64_t length;
    unsigned began, done; /* moments; done 0: not yet */
};

/* One batch of requests. */
struct round {
    uint8_t *model; /* after it */
    unsigned began, done;
    bool flushed; /* it was a flush alone */
};

static struct {
    struct loop_backend backend;
    const struct loop_backend *real;
    GMutex lock;
    GPtrArray *changes; /* of struct change */
    unsigned moment;
    struct round rounds[CUT_ROUNDS];
} cut;

/* ---- recording ---- */

static void change_done(struct loop_operation *operation, int64_t result)
{
    struct change *change = operation->opaque;

    g_mutex_lock(&cut.lock);
    change->done = ++cut.moment;
    g_mutex_unlock(&cut.lock);
    change->original->done(change->original, result);
}

static uint8_t *gather(const struct loop_operation *operation, uint64_t *length)
{
    uint8_t *data, *at;

    *length = 0;
    for (unsigned i = 0; i < operation->count; i++)
        *length += operation->vectors[i].iov_len;
    data = at = g_malloc(*length);
    for (unsigned i = 0; i < operation->count; i++)
        at = (uint8_t *)memcpy(at, operation->vectors[i].iov_base, operation->vectors[i].iov_len) +
             operation->vectors[i].iov_len;
    return data;
}

static void record(struct loop *loop, struct loop_operation *operation)
{
    struct change *change;

    if (operation->kind == LOOP_READ) {
        cut.real->submit(loop, operation);
        return;
    }
    change = g_new0(struct change, 1);
    change->original = operation;
    change->own = *operation;
    change->own.done = change_done;
    change->own.opaque = change;
    change->length = operation->length;
    if (operation->kind == LOOP_WRITE)
        change->data = gather(operation, &change->length);
    g_mutex_lock(&cut.lock);
    change->began = ++cut.moment;
    g_ptr_array_add(cut.changes, change);
    g_mutex_unlock(&cut.lock);
    cut.real->submit(loop, &change->own);
}

static void change_free(void *opaque)
{
    struct change *change = opaque;

    g_free(change->data);
    g_free(change);
}

static void cut_begin(void *opaque)
{
    struct disk *disk = opaque;

    cut.real = disk->loop->backend;
    cut.backend = *cut.real;
    cut.backend.submit = record;
    cut.changes = g_ptr_array_new_with_free_func(change_free);
    cut.moment = 0;
    disk->loop->backend = &cut.backend;
}

static unsigned moment_now(void)
{
    unsigned now;

    g_mutex_lock(&cut.lock);
    now = ++cut.moment;
    g_mutex_unlock(&cut.lock);
    return now;
}

/* Rounds of requests at the same time; every few a flush, alone. */
static void cut_work(struct disk *disk, GRand *random)
{
    uint8_t *bytes = g_malloc(disk->size);

    for (unsigned i = 0; i < CUT_ROUNDS; i++) {
        struct round *round = &cut.rounds[i];
        unsigned count = AT_A_TIME;
        struct ask asks[AT_A_TIME];

        round->flushed = g_rand_int_range(random, 0, 4) == 0;
        if (round->flushed)
            asks[0] = (struct ask){.request = {.kind = BLOCK_FLUSH}}, count = 1;
        for (unsigned k = 0; !round->flushed && k < count; k++)
            asks[k] = random_ask(disk, random, k, bytes + disk->size / AT_A_TIME * k);
        for (unsigned k = 0; k < count; k++)
            asks[k].request.vectors = asks[k].vectors;
        round->began = moment_now();
        assert_int_equal(disk_run(disk, asks, count), 0);
        round->done = moment_now();
        round->model = g_memdup2(disk->model, disk->size);
    }
    g_free(bytes);
}

/* ---- the cut ---- */

/* Whether a sync that began behind the change was done before the cut. */
static bool is_durable(const struct change *change, unsigned when)
{
    for (unsigned i = 0; change->done && i < cut.changes->len; i++) {
        const struct change *other = cut.changes->pdata[i];

        if (other->own.kind == LOOP_SYNC && other->began > change->done && other->done &&
            other->done < when)
            return true;
    }
    return false;
}

static void apply(GByteArray *file, const struct change *change, bool whole, unsigned chance,
                  GRand *random)
{
    uint64_t end = change->own.offset + change->length;

    if (file->len < end && change->own.kind != LOOP_DISCARD) {
        guint before = file->len;

        g_byte_array_set_size(file, (guint)end);
        memset(file->data + before, 0, end - before);
    }
    for (uint64_t at = change->own.offset; at < MIN(end, file->len); at += BLOCK_SECTOR) {
        uint64_t size = MIN(BLOCK_SECTOR, file->len - at);

        if (!whole && (unsigned)g_rand_int_range(random, 0, 4) >= chance)
            continue;
        if (change->data)
            memcpy(file->data + at, change->data + (at - change->own.offset), size);
        else
            memset(file->data + at, 0, size);
    }
}

/* The file as a cut at `when` may leave it. */
static GByteArray *file_at(const GByteArray *before, unsigned when, GRand *random)
{
    GByteArray *file = g_byte_array_append(g_byte_array_new(), before->data, before->len);
    unsigned chance = (unsigned)g_rand_int_range(random, 0, 5); /* quarters of what is in between */

    for (unsigned i = 0; i < cut.changes->len; i++) {
        const struct change *change = cut.changes->pdata[i];

        if (change->own.kind == LOOP_SYNC || change->began >= when)
            continue;
        if (is_durable(change, when))
            apply(file, change, true, 4, random);
        else if (chance)
            apply(file, change, false, chance, random);
    }
    return file;
}

static int memory_file(const GByteArray *bytes)
{
    int fd = memfd_create("cut", MFD_CLOEXEC);

    assert_int_equal(pwrite(fd, bytes->data, bytes->len, 0), bytes->len);
    return fd;
}

/* Whether the sector is one of those that it was from the last flush before the cut on. */
static bool is_possible(const uint8_t *sector, uint64_t offset, unsigned when)
{
    static const uint8_t zeroes[BLOCK_SECTOR];
    bool possible = false, flushed = false;

    for (unsigned i = CUT_ROUNDS; i-- && !possible && !flushed;) {
        const struct round *round = &cut.rounds[i];

        if (round->began >= when)
            continue;
        possible = memcmp(sector, round->model + offset, BLOCK_SECTOR) == 0;
        flushed = round->flushed && round->done < when;
    }
    return possible || (!flushed && memcmp(sector, zeroes, BLOCK_SECTOR) == 0);
}

static void check_cut(disk_create create, const GByteArray *file, unsigned when)
{
    int fd = memory_file(file);
    struct disk *disk = disk_open(create, fd);
    g_autofree uint8_t *bytes = g_malloc(CUT_SIZE);

    assert_int_equal(disk_transfer(disk, BLOCK_READ, 0, bytes, CUT_SIZE), 0);
    for (uint64_t at = 0; at < CUT_SIZE; at += BLOCK_SECTOR)
        if (!is_possible(bytes + at, at, when))
            fail_msg("after a cut at moment %u the sector at %" G_GUINT64_FORMAT
                     " is what it never was since the last flush",
                     when, at);
    /* It goes on from there. */
    memcpy(disk->model, bytes, CUT_SIZE);
    disk_work(disk, 2, when);
    disk_is_model(disk);
    g_free(disk_close(disk));
    close(fd);
}

/* Work on the image in `fd`, whose disk is empty and CUT_SIZE long, and cut it off `count` times.
 * `check` (or NULL) looks at the file that is left each time. */
static inline void cut_power(disk_create create, int fd, unsigned count, unsigned seed,
                             void (*check)(const GByteArray *file))
{
    GRand *random = g_rand_new_with_seed(seed);
    GByteArray *before = g_byte_array_new();
    struct disk *disk;

    g_byte_array_set_size(before, (guint)lseek(fd, 0, SEEK_END));
    assert_int_equal(pread(fd, before->data, before->len, 0), before->len);
    disk = disk_open(create, fd);
    g_byte_array_set_size(before, (guint)lseek(fd, 0, SEEK_END));
    assert_int_equal(pread(fd, before->data, before->len, 0), before->len);
    assert_int_equal(disk->size, CUT_SIZE);
    loop_call_wait(disk->loop, cut_begin, disk);
    cut_work(disk, random);
    g_free(disk_close(disk));
    for (unsigned i = 0; i < count; i++) {
        unsigned when = (unsigned)g_rand_int_range(random, 1, (gint32)cut.moment);
        GByteArray *file = file_at(before, when, random);

        if (check)
            check(file);
        check_cut(create, file, when);
        g_byte_array_unref(file);
    }
    for (unsigned i = 0; i < CUT_ROUNDS; i++)
        g_free(cut.rounds[i].model);
    g_ptr_array_unref(cut.changes);
    g_byte_array_unref(before);
    g_rand_free(random);
}
