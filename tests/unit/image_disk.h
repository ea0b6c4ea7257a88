// SPDX-License-Identifier: Apache-2.0
/*
 * A disk in an image under test: opened, worked on at random beside a model in memory, and closed.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/block/block.h"

/* ---- the disk under test ---- */

typedef struct block *(*disk_create)(const struct block_config *config, GError **error);

struct disk {
    struct loop *loop;
    struct block *block;
    uint8_t *model;
    uint64_t size;
};

static inline bool disk_try(struct disk *disk, disk_create create, int fd, bool readonly,
                            GError **error)
{
    struct block_config config = {
        .fd = dup(fd), .name = "test.img", .readonly = readonly, .loop = disk->loop};

    disk->block = create(&config, error);
    if (!disk->block) {
        close(config.fd);
        return false;
    }
    if (block_activate(disk->block, error))
        return true;
    block_destroy(g_steal_pointer(&disk->block));
    return false;
}

static inline struct disk *disk_open(disk_create create, int fd)
{
    struct disk *disk = g_new0(struct disk, 1);
    GError *error = NULL;

    disk->loop = loop_create("io/test", NULL);
    if (!disk_try(disk, create, fd, false, &error))
        fail_msg("%s", error->message);
    disk->size = block_size(disk->block);
    disk->model = g_malloc0(disk->size);
    return disk;
}

/* The model, which the caller frees. */
static inline uint8_t *disk_close(struct disk *disk)
{
    uint8_t *model = disk->model;
    GError *error = NULL;

    if (!block_deactivate(disk->block, &error))
        fail_msg("%s", error->message);
    block_destroy(disk->block);
    loop_destroy(disk->loop);
    g_free(disk);
    return model;
}

struct batch {
    GMutex lock;
    GCond ended;
    unsigned left;
    int error;
};

struct ask {
    struct disk *disk;
    struct batch *batch;
    struct block_request request;
    struct iovec vectors[2];
};

static inline void ask_done(struct block_request *request, int error)
{
    struct ask *ask = request->opaque;

    g_mutex_lock(&ask->batch->lock);
    ask->batch->error = ask->batch->error ? ask->batch->error : error;
    if (!--ask->batch->left)
        g_cond_signal(&ask->batch->ended);
    g_mutex_unlock(&ask->batch->lock);
}

static inline void ask_submit(void *opaque)
{
    struct ask *ask = opaque;

    block_submit(ask->disk->block, &ask->request);
}

/* All at the same time. */
static inline int disk_run(struct disk *disk, struct ask *asks, unsigned count)
{
    struct batch batch = {.left = count};

    for (unsigned i = 0; i < count; i++) {
        asks[i].disk = disk;
        asks[i].batch = &batch;
        asks[i].request.done = ask_done;
        asks[i].request.opaque = &asks[i];
        loop_call(disk->loop, ask_submit, &asks[i]);
    }
    g_mutex_lock(&batch.lock);
    while (batch.left)
        g_cond_wait(&batch.ended, &batch.lock);
    g_mutex_unlock(&batch.lock);
    return batch.error;
}

/* A transfer in two vectors, so that parts begin within one. */
static inline struct ask transfer(enum block_kind kind, uint64_t offset, uint8_t *bytes,
                                  size_t length)
{
    size_t first = length / 1024 * BLOCK_SECTOR;

    return (struct ask){
        .request = {.kind = kind, .offset = offset, .length = length, .count = 2},
        .vectors = {{bytes, first}, {bytes + first, length - first}},
    };
}

static inline int disk_transfer(struct disk *disk, enum block_kind kind, uint64_t offset,
                                void *bytes, size_t length)
{
    struct ask ask = transfer(kind, offset, bytes, length);

    ask.request.vectors = ask.vectors;
    return disk_run(disk, &ask, 1);
}

static inline void disk_is_model(struct disk *disk)
{
    g_autofree uint8_t *bytes = g_malloc(disk->size);

    memset(bytes, 0xA5, disk->size);
    assert_int_equal(disk_transfer(disk, BLOCK_READ, 0, bytes, disk->size), 0);
    assert_memory_equal(bytes, disk->model, disk->size);
}

/* ---- random work ---- */

#define AT_A_TIME 8

/* One request in its own part of the disk, so that the outcome is one. */
static inline struct ask random_ask(struct disk *disk, GRand *random, unsigned part, uint8_t *bytes)
{
    uint64_t sectors = disk->size / BLOCK_SECTOR / AT_A_TIME;
    uint64_t first = (uint64_t)g_rand_int_range(random, 0, (gint32)sectors);
    uint64_t count = 1 + (uint64_t)g_rand_int_range(random, 0, (gint32)(sectors - first));
    uint64_t offset = (part * sectors + first) * BLOCK_SECTOR, length = count * BLOCK_SECTOR;
    uint8_t *model = disk->model + offset;
    struct ask ask = {.request = {.offset = offset, .length = length}};

    switch (g_rand_int_range(random, 0, 6)) {
    case 0:
        ask.request.kind = BLOCK_WRITE_ZEROES;
        ask.request.may_unmap = g_rand_boolean(random);
        memset(model, 0, length);
        return ask;
    case 1:
        ask.request = (struct block_request){.kind = BLOCK_FLUSH};
        return ask;
    case 2:
        return transfer(BLOCK_READ, offset, bytes, length);
    default:
        memset(bytes, g_rand_int_range(random, 1, 256), length);
        memcpy(model, bytes, length);
        ask = transfer(BLOCK_WRITE, offset, bytes, length);
        ask.request.stable = g_rand_int_range(random, 0, 8) == 0;
        return ask;
    }
}

static inline void disk_work(struct disk *disk, unsigned rounds, unsigned seed)
{
    GRand *random = g_rand_new_with_seed(seed);
    uint8_t *bytes = g_malloc(disk->size);

    for (unsigned round = 0; round < rounds; round++) {
        struct ask asks[AT_A_TIME];

        for (unsigned i = 0; i < AT_A_TIME; i++)
            asks[i] = random_ask(disk, random, i, bytes + disk->size / AT_A_TIME * i);
        for (unsigned i = 0; i < AT_A_TIME; i++)
            asks[i].request.vectors = asks[i].vectors;
        assert_int_equal(disk_run(disk, asks, AT_A_TIME), 0);
        for (unsigned i = 0; i < AT_A_TIME; i++)
            if (asks[i].request.kind == BLOCK_READ)
                assert_memory_equal(asks[i].vectors[0].iov_base,
                                    disk->model + asks[i].request.offset,
                                    asks[i].vectors[0].iov_len);
    }
    g_free(bytes);
    g_rand_free(random);
}

/* ---- qemu-img ---- */

static inline bool qemu_img(const char *const *words, const char *from, const char *to)
{
    const char *argv[16] = {"qemu-img"};
    unsigned count = 1;
    int status = -1;

    for (; *words; words++)
        argv[count++] = *words;
    argv[count++] = from;
    argv[count++] = to;
    return g_spawn_sync(NULL, (char **)argv, NULL,
                        G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL |
                            G_SPAWN_STDERR_TO_DEV_NULL,
                        NULL, NULL, NULL, NULL, &status, NULL) &&
           status == 0;
}
