// SPDX-License-Identifier: Apache-2.0
/*
 * Raw disks: what goes in comes out, whatever the host does with it. A loop whose back end does
 * less than asked for, or fails, stands for a host in trouble.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/block/block.h"
#include "vmm/util/loop_internal.h"

#define SIZE     (4U << 20)
#define PATIENCE (10 * G_TIME_SPAN_SECOND)

struct bench {
    struct loop *loop;
    struct block *block;
    int fd; /* a second one of the same file */
    GMutex lock;
    GCond changed;
    unsigned done;
};

/* ---- a host in trouble ---- */

static struct {
    struct loop_backend backend; /* between the loop and its own */
    const struct loop_backend *real;
    size_t most;   /* bytes that one operation does; 0: all */
    int errors[4]; /* of the next operations, 0: none */
    unsigned next, operations;
} trouble;

static void fail_now(void *opaque)
{
    struct loop_operation *operation = opaque;
    operation->done(operation, operation->private.result);
}

static void troubled_submit(struct loop *loop, struct loop_operation *operation)
{
    static struct iovec vector;
    int error = trouble.next < 4 ? trouble.errors[trouble.next++] : 0;

    trouble.operations++;
    if (error) {
        operation->private.result = -error;
        loop_call(loop, fail_now, operation);
        return;
    }
    if (trouble.most && operation->count) {
        vector = operation->vectors[0];
        vector.iov_len = MIN(vector.iov_len, trouble.most);
        operation->vectors = &vector;
        operation->count = 1;
    }
    trouble.real->submit(loop, operation);
}

/* ---- the bench ---- */

static struct bench *bench_create(int fd, const struct block_config *like)
{
    struct bench *bench = g_new0(struct bench, 1);
    struct block_config config = like ? *like : (struct block_config){0};
    GError *error = NULL;

    memset(&trouble, 0, sizeof(trouble));
    bench->loop = loop_create("io/test", NULL);
    assert_non_null(bench->loop);
    trouble.real = bench->loop->backend;
    trouble.backend = *trouble.real;
    trouble.backend.submit = troubled_submit;
    bench->loop->backend = &trouble.backend;
    bench->fd = fd;
    config.fd = dup(fd);
    config.name = "test.img";
    config.loop = bench->loop;
    bench->block = block_raw_create(&config, &error);
    if (!bench->block)
        fail_msg("%s", error->message);
    return bench;
}

static struct bench *bench_on_memory(void)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, SIZE), 0);
    return bench_create(fd, NULL);
}

static void bench_destroy(struct bench *bench)
{
    block_destroy(bench->block);
    loop_destroy(bench->loop);
    close(bench->fd);
    g_free(bench);
}

struct ask {
    struct bench *bench;
    struct block_request request;
    struct iovec vectors[8];
    void *buffer;
    int error; /* -1: not done */
};

static void ask_done(struct block_request *request, int error)
{
    struct ask *ask = request->opaque;

    assert_true(loop_is_current(ask->bench->loop));
    g_mutex_lock(&ask->bench->lock);
    ask->error = error;
    ask->bench->done++;
    g_cond_broadcast(&ask->bench->changed);
    g_mutex_unlock(&ask->bench->lock);
}

static void ask_submit(void *opaque)
{
    struct ask *ask = opaque;
    block_submit(ask->bench->block, &ask->request);
}

static void ask_start(struct ask *ask, struct bench *bench, enum block_kind kind, uint64_t offset,
                      uint64_t length)
{
    ask->bench = bench;
    ask->error = -1;
    ask->request.kind = kind;
    ask->request.offset = offset;
    ask->request.length = length;
    ask->request.done = ask_done;
    ask->request.opaque = ask;
    loop_call(bench->loop, ask_submit, ask);
}

static void ask_buffer(struct ask *ask, void *buffer, size_t length)
{
    ask->buffer = buffer;
    ask->vectors[0] = (struct iovec){buffer, length};
    ask->request.vectors = ask->vectors;
    ask->request.count = 1;
}

static int ask_wait(struct ask *ask)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE;

    g_mutex_lock(&ask->bench->lock);
    while (ask->error < 0 && g_cond_wait_until(&ask->bench->changed, &ask->bench->lock, deadline))
        ;
    int error = ask->error;
    g_mutex_unlock(&ask->bench->lock);
    assert_true(error >= 0);
    return error;
}

static int do_kind(struct bench *bench, enum block_kind kind, uint64_t offset, uint64_t length)
{
    struct ask ask = {0};
    ask_start(&ask, bench, kind, offset, length);
    return ask_wait(&ask);
}

static int do_bytes(struct bench *bench, enum block_kind kind, uint64_t offset, void *buffer,
                    size_t length)
{
    struct ask ask = {0};

    ask_buffer(&ask, buffer, length);
    ask_start(&ask, bench, kind, offset, length);
    return ask_wait(&ask);
}

static void nothing(void *opaque)
{
}

static void settle(struct bench *bench)
{
    for (unsigned i = 0; i < 10; i++)
        loop_call_wait(bench->loop, nothing, NULL);
}

static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

static void expect_file(struct bench *bench, uint64_t offset, const uint8_t *bytes, size_t length)
{
    g_autofree uint8_t *found = g_malloc(length);

    assert_int_equal(pread(bench->fd, found, length, (off_t)offset), (ssize_t)length);
    assert_memory_equal(found, bytes, length);
}

static void expect_zeroes(struct bench *bench, uint64_t offset, size_t length)
{
    g_autofree uint8_t *zeroes = g_malloc0(length);
    expect_file(bench, offset, zeroes, length);
}

/* ---- reads and writes ---- */

static void what_is_written_is_read(void **state)
{
    struct bench *bench = bench_on_memory();
    uint8_t out[3072], in[3072];
    struct ask ask = {0};

    fill(out, sizeof(out), 1);
    ask.vectors[0] = (struct iovec){out, 1};
    ask.vectors[1] = (struct iovec){out + 1, 2000};
    ask.vectors[2] = (struct iovec){out + 2001, 1071};
    ask.request.vectors = ask.vectors;
    ask.request.count = 3;
    ask_start(&ask, bench, BLOCK_WRITE, 512, sizeof(out));
    assert_int_equal(ask_wait(&ask), 0);
    expect_file(bench, 512, out, sizeof(out));
    assert_int_equal(do_bytes(bench, BLOCK_READ, 512, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(do_kind(bench, BLOCK_FLUSH, 0, 0), 0);
    bench_destroy(bench);
}

static void a_host_that_does_little_is_asked_again(void **state)
{
    struct bench *bench = bench_on_memory();
    uint8_t out[4096], in[4096] = {0};

    fill(out, sizeof(out), 2);
    trouble.most = 700;
    trouble.errors[0] = EINTR;
    trouble.errors[2] = EAGAIN;
    assert_int_equal(do_bytes(bench, BLOCK_WRITE, 1024, out, sizeof(out)), 0);
    assert_int_equal(trouble.operations, 2 + 6);
    expect_file(bench, 1024, out, sizeof(out));
    assert_int_equal(do_bytes(bench, BLOCK_READ, 1024, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(in));
    bench_destroy(bench);
}

static void errors_of_the_host_are_told(void **state)
{
    struct bench *bench = bench_on_memory();
    uint8_t bytes[512] = {0};

    trouble.errors[0] = ENOSPC;
    trouble.errors[1] = EIO;
    assert_int_equal(do_bytes(bench, BLOCK_WRITE, 0, bytes, 512), ENOSPC);
    assert_int_equal(do_bytes(bench, BLOCK_READ, 0, bytes, 512), EIO);
    assert_int_equal(do_bytes(bench, BLOCK_READ, 0, bytes, 512), 0);
    bench_destroy(bench);
}

static void requests_that_cannot_be_are_refused(void **state)
{
    struct bench *bench = bench_on_memory();
    uint8_t bytes[1024];

    assert_int_equal(do_bytes(bench, BLOCK_READ, SIZE, bytes, 512), EINVAL);
    assert_int_equal(do_bytes(bench, BLOCK_WRITE, SIZE - 512, bytes, 1024), EINVAL);
    assert_int_equal(do_bytes(bench, BLOCK_READ, UINT64_MAX - 511, bytes, 1024), EINVAL);
    assert_int_equal(do_bytes(bench, BLOCK_READ, 100, bytes, 512), EINVAL);
    assert_int_equal(do_kind(bench, BLOCK_DISCARD, 512, SIZE), EINVAL);
    assert_int_equal(do_kind(bench, BLOCK_WRITE_ZEROES, 0, UINT64_MAX - 511), EINVAL);
    assert_int_equal(do_kind(bench, BLOCK_DISCARD, 512, 0), 0);
    assert_int_equal(trouble.operations, 0);
    bench_destroy(bench);
}

static void a_readonly_disk_is_not_changed(void **state)
{
    struct block_config config = {.readonly = true};
    int fd = memfd_create("disk", MFD_CLOEXEC);
    uint8_t bytes[512];

    assert_int_equal(ftruncate(fd, 4096), 0);
    struct bench *bench = bench_create(fd, &config);
    assert_true(block_is_readonly(bench->block));
    assert_int_equal(do_bytes(bench, BLOCK_WRITE, 0, bytes, 512), EROFS);
    assert_int_equal(do_kind(bench, BLOCK_DISCARD, 0, 512), EROFS);
    assert_int_equal(do_kind(bench, BLOCK_WRITE_ZEROES, 0, 512), EROFS);
    assert_int_equal(do_kind(bench, BLOCK_FLUSH, 0, 0), 0);
    assert_int_equal(do_bytes(bench, BLOCK_READ, 0, bytes, 512), 0);
    bench_destroy(bench);
}

static void sizes_that_cannot_be_are_refused(void **state)
{
    static const struct {
        off_t size;
        const char *message;
    } cases[] = {{0, "disk: odd.img: the file is empty"},
                 {1000, "disk: odd.img: its size is not a multiple of 512 bytes"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct block_config config = {.fd = memfd_create("disk", MFD_CLOEXEC), .name = "odd.img"};
        GError *error = NULL;

        assert_int_equal(ftruncate(config.fd, cases[i].size), 0);
        assert_null(block_raw_create(&config, &error));
        assert_non_null(strstr(error->message, cases[i].message));
        g_error_free(error);
        close(config.fd);
    }
}

/* ---- holes and zeroes ---- */

static blkcnt_t blocks_of(struct bench *bench)
{
    struct stat status;

    assert_int_equal(fstat(bench->fd, &status), 0);
    assert_int_equal(status.st_size, SIZE);
    return status.st_blocks;
}

static void write_all(struct bench *bench)
{
    g_autofree uint8_t *bytes = g_malloc(SIZE);

    memset(bytes, 0xA5, SIZE);
    assert_int_equal(do_bytes(bench, BLOCK_WRITE, 0, bytes, SIZE), 0);
}

static void a_discard_gives_room_back(void **state)
{
    struct bench *bench = bench_on_memory();

    write_all(bench);
    blkcnt_t before = blocks_of(bench);
    assert_int_equal(do_kind(bench, BLOCK_DISCARD, 1 << 20, 1 << 20), 0);
    assert_int_equal(before - blocks_of(bench), (1 << 20) / 512);
    bench_destroy(bench);
}

static void a_host_without_holes_discards_nothing(void **state)
{
    struct bench *bench = bench_on_memory();

    write_all(bench);
    trouble.next = 0;
    trouble.errors[0] = EOPNOTSUPP;
    blkcnt_t before = blocks_of(bench);
    unsigned asked = trouble.operations;
    assert_int_equal(do_kind(bench, BLOCK_DISCARD, 0, 1 << 20), 0);
    assert_int_equal(do_kind(bench, BLOCK_DISCARD, 0, 1 << 20), 0);
    assert_int_equal(trouble.operations - asked, 1);
    assert_int_equal(before, blocks_of(bench));
    bench_destroy(bench);
}

static void zeroes_may_become_a_hole(void **state)
{
    struct bench *bench = bench_on_memory();
    struct ask ask = {.request.may_unmap = true};

    write_all(bench);
    blkcnt_t before = blocks_of(bench);
    ask_start(&ask, bench, BLOCK_WRITE_ZEROES, 4096, 1 << 20);
    assert_int_equal(ask_wait(&ask), 0);
    expect_zeroes(bench, 4096, 1 << 20);
    assert_true(blocks_of(bench) < before);
    bench_destroy(bench);
}

/* A memory file knows no ranges of zeroes. */
static void zeroes_are_written_where_nothing_else_is(void **state)
{
    struct bench *bench = bench_on_memory();
    static const uint8_t mark = 0xA5;

    write_all(bench);
    blkcnt_t before = blocks_of(bench);
    trouble.most = 50000;
    uint64_t length = (2U << 20) + (64U << 10) + 1536;
    assert_int_equal(do_kind(bench, BLOCK_WRITE_ZEROES, 512, length), 0);
    expect_zeroes(bench, 512, length);
    expect_file(bench, 511, &mark, 1);
    expect_file(bench, 512 + length, &mark, 1);
    assert_int_equal(blocks_of(bench), before);
    bench_destroy(bench);
}

/* ---- stable storage ---- */

static void a_stable_write_is_followed_by_a_sync(void **state)
{
    struct bench *bench = bench_on_memory();
    uint8_t bytes[512] = {1};
    struct ask ask = {.request.stable = true};

    ask_buffer(&ask, bytes, 512);
    ask_start(&ask, bench, BLOCK_WRITE, 0, 512);
    assert_int_equal(ask_wait(&ask), 0);
    assert_int_equal(trouble.operations, 2);
    ask_buffer(&ask, bytes, 512);
    trouble.next = 0;
    trouble.errors[1] = EIO;
    ask_start(&ask, bench, BLOCK_WRITE, 0, 512);
    assert_int_equal(ask_wait(&ask), EIO);
    bench_destroy(bench);
}

static void no_flush_succeeds_after_one_failed(void **state)
{
    struct bench *bench = bench_on_memory();

    assert_int_equal(do_kind(bench, BLOCK_FLUSH, 0, 0), 0);
    trouble.next = 0;
    trouble.errors[0] = EIO;
    assert_int_equal(do_kind(bench, BLOCK_FLUSH, 0, 0), EIO);
    assert_int_equal(do_kind(bench, BLOCK_FLUSH, 0, 0), EIO);
    bench_destroy(bench);
}

#define FLUSHES 4

static void submit_flushes(void *opaque)
{
    for (unsigned i = 0; i < FLUSHES; i++)
        ask_submit((struct ask *)opaque + i);
}

/* In one turn of the loop. */
static void flush_at_once(struct bench *bench, struct ask asks[FLUSHES])
{
    for (unsigned i = 0; i < FLUSHES; i++)
        asks[i] = (struct ask){
            .bench = bench,
            .error = -1,
            .request = {.kind = BLOCK_FLUSH, .done = ask_done, .opaque = &asks[i]},
        };
    loop_call(bench->loop, submit_flushes, asks);
}

/* The kernel tells of what was lost once: whoever asks at the same time must hear of it, too. */
static void flushes_at_once_fail_together(void **state)
{
    struct bench *bench = bench_on_memory();
    struct ask asks[FLUSHES];

    trouble.errors[0] = EIO;
    flush_at_once(bench, asks);
    for (unsigned i = 0; i < FLUSHES; i++)
        assert_int_equal(ask_wait(&asks[i]), EIO);
    bench_destroy(bench);
}

static void flushes_that_wait_share_a_sync(void **state)
{
    struct bench *bench = bench_on_memory();
    struct ask asks[FLUSHES];

    flush_at_once(bench, asks);
    for (unsigned i = 0; i < FLUSHES; i++)
        assert_int_equal(ask_wait(&asks[i]), 0);
    assert_int_equal(trouble.operations, 2);
    bench_destroy(bench);
}

/* ---- a file that shrinks ---- */

static unsigned lines;
static char last_line[200];

static void count_line(const gchar *domain, GLogLevelFlags level, const gchar *message,
                       gpointer data)
{
    lines++;
    g_strlcpy(last_line, message, sizeof(last_line));
}

static void a_shrunk_file_fails_beyond_its_end_only(void **state)
{
    struct bench *bench = bench_on_memory();
    uint8_t bytes[4096];
    struct stat status;

    write_all(bench);
    assert_int_equal(ftruncate(bench->fd, 1 << 20), 0);
    g_usleep(2000); /* its size is looked at once in a while */
    lines = 0;
    guint handler = g_log_set_handler("anima", G_LOG_LEVEL_MESSAGE, count_line, NULL);
    memset(bytes, 0x11, sizeof(bytes));
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(do_bytes(bench, BLOCK_READ, 2 << 20, bytes, 4096), EIO);
        assert_int_equal(do_bytes(bench, BLOCK_READ, (1 << 20) - 512, bytes, 4096), EIO);
        assert_int_equal(do_bytes(bench, BLOCK_WRITE, 2 << 20, bytes, 4096), EIO);
        assert_int_equal(do_kind(bench, BLOCK_WRITE_ZEROES, 2 << 20, 4096), EIO);
    }
    assert_int_equal(fstat(bench->fd, &status), 0);
    assert_int_equal(status.st_size, 1 << 20);
    assert_int_equal(do_bytes(bench, BLOCK_WRITE, (1 << 20) - 4096, bytes, 4096), 0);
    assert_int_equal(do_bytes(bench, BLOCK_READ, (1 << 20) - 4096, bytes, 4096), 0);
    g_log_remove_handler("anima", handler);
    assert_int_equal(lines, 7); /* at 1, 2, 4 ... 64 of 80 */
    assert_non_null(strstr(last_line, "disk: test.img: the file has shrunk"));
    bench_destroy(bench);
}

/* ---- holding ---- */

static void hold(void *opaque)
{
    block_hold(opaque);
}

static void release(void *opaque)
{
    block_release(opaque);
}

static void cancel(void *opaque)
{
    struct ask *ask = opaque;
    if (block_cancel(ask->bench->block, &ask->request))
        ask->error = ECANCELED;
}

static void what_is_held_comes_after_the_release(void **state)
{
    struct bench *bench = bench_on_memory();
    uint8_t old[512] = {0}, bytes[512], in[512];
    struct ask write = {0}, flush = {0}, second = {0};

    loop_call_wait(bench->loop, hold, bench->block);
    loop_call_wait(bench->loop, hold, bench->block);
    memset(bytes, 0x77, sizeof(bytes));
    ask_buffer(&write, bytes, 512);
    ask_buffer(&second, bytes, 512);
    ask_start(&write, bench, BLOCK_WRITE, 0, 512);
    ask_start(&flush, bench, BLOCK_FLUSH, 0, 0);
    ask_start(&second, bench, BLOCK_WRITE, 1024, 512);
    assert_int_equal(do_bytes(bench, BLOCK_READ, 0, in, 512), 0);
    settle(bench);
    assert_int_equal(bench->done, 1);
    assert_memory_equal(in, old, 512);
    loop_call_wait(bench->loop, cancel, &second);
    assert_int_equal(ask_wait(&second), ECANCELED);
    loop_call_wait(bench->loop, release, bench->block);
    assert_int_equal(ask_wait(&write), 0);
    assert_int_equal(ask_wait(&flush), 0);
    expect_file(bench, 0, bytes, 512);
    expect_zeroes(bench, 1024, 512);
    loop_call_wait(bench->loop, cancel, &write);
    assert_int_equal(write.error, 0);
    assert_int_equal(do_bytes(bench, BLOCK_WRITE, 1024, bytes, 512), 0);
    bench_destroy(bench);
}

/* ---- direct I/O ---- */

static int direct_file(char *path)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    unlink(path);
    if (fd >= 0)
        assert_int_equal(ftruncate(fd, SIZE), 0);
    return fd;
}

static struct bench *bench_direct(uint32_t alignment)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "anima-block-XXXXXX", NULL);
    struct block_config config = {.alignment = alignment};
    int fd = direct_file(path);

    if (fd < 0) {
        print_message("SKIP: no direct I/O in %s\n", g_get_tmp_dir());
        skip();
    }
    struct bench *bench = bench_create(fd, &config);
    /* To be read as it comes. */
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    bench->fd = fd;
    return bench;
}

#define ASKS 12
#define ROOM (1U << 18) /* of memory for each */

/* The next sectors of the disk, to or from an odd address of memory. */
static void ask_at_random(struct ask *ask, struct bench *bench, GRand *rand, uint64_t offset,
                          uint8_t *memory, uint8_t *copy)
{
    bool large = g_rand_int_range(rand, 0, 8) == 0;
    uint64_t length = 512ULL * g_rand_int_range(rand, 1, large ? 300 : 20);
    enum block_kind kind = g_rand_boolean(rand) ? BLOCK_WRITE : BLOCK_READ;
    uint8_t *buffer = memory + g_rand_int_range(rand, 0, 3) * 256;

    if (kind == BLOCK_WRITE) {
        fill(buffer, length, g_rand_int(rand));
        memcpy(copy + offset, buffer, length);
    }
    ask_buffer(ask, buffer, length);
    ask_start(ask, bench, kind, offset, length);
}

/* Several requests at once, against a copy. They touch no sector in common, but often a block. */
static void sectors_go_through(uint32_t alignment)
{
    struct bench *bench = bench_direct(alignment);
    g_autofree uint8_t *copy = g_malloc0(SIZE), *memory = g_malloc0(ASKS * ROOM);
    GRand *rand = g_rand_new_with_seed(77);

    for (unsigned round = 0; round < 60; round++) {
        struct ask asks[ASKS] = {0};
        uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, 4000) * 512;

        for (unsigned i = 0; i < ASKS; i++) {
            ask_at_random(&asks[i], bench, rand, offset, memory + (size_t)i * ROOM, copy);
            offset += asks[i].request.length;
        }
        for (unsigned i = 0; i < ASKS; i++) {
            const struct block_request *request = &asks[i].request;

            assert_int_equal(ask_wait(&asks[i]), 0);
            expect_file(bench, request->offset, copy + request->offset, request->length);
            if (request->kind == BLOCK_READ)
                assert_memory_equal(asks[i].buffer, copy + request->offset, request->length);
        }
    }
    g_rand_free(rand);
    expect_file(bench, 0, copy, SIZE);
    bench_destroy(bench);
}

static void direct_io_takes_odd_requests(void **state)
{
    sectors_go_through(0);
}

static void direct_io_changes_parts_of_blocks(void **state)
{
    sectors_go_through(4096);
}

static void direct_io_zeroes_parts_of_blocks(void **state)
{
    struct bench *bench = bench_direct(4096);
    static const uint8_t mark = 0xA5;

    write_all(bench);
    trouble.next = 0;
    trouble.errors[1] = EOPNOTSUPP; /* after the read of the first block */
    assert_int_equal(do_kind(bench, BLOCK_WRITE_ZEROES, 4096 - 512, (1 << 20) + 1024), EOPNOTSUPP);
    assert_int_equal(do_kind(bench, BLOCK_WRITE_ZEROES, 4096 - 512, (1 << 20) + 1024), 0);
    expect_zeroes(bench, 4096 - 512, (1 << 20) + 1024);
    expect_file(bench, 4096 - 513, &mark, 1);
    expect_file(bench, 4096 + 512 + (1 << 20), &mark, 1);
    bench_destroy(bench);
}

static void direct_io_refuses_a_disk_of_broken_blocks(void **state)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "anima-block-XXXXXX", NULL);
    struct block_config config = {.alignment = 4096, .name = "odd.img"};
    GError *error = NULL;

    config.fd = direct_file(path);
    if (config.fd < 0)
        skip();
    assert_int_equal(ftruncate(config.fd, SIZE - 512), 0);
    assert_null(block_raw_create(&config, &error));
    assert_non_null(strstr(error->message, "blocks of 4096 bytes"));
    g_error_free(error);
    close(config.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_host_that_does_little_is_asked_again),
        cmocka_unit_test(errors_of_the_host_are_told),
        cmocka_unit_test(requests_that_cannot_be_are_refused),
        cmocka_unit_test(a_readonly_disk_is_not_changed),
        cmocka_unit_test(sizes_that_cannot_be_are_refused),
        cmocka_unit_test(a_discard_gives_room_back),
        cmocka_unit_test(a_host_without_holes_discards_nothing),
        cmocka_unit_test(zeroes_may_become_a_hole),
        cmocka_unit_test(zeroes_are_written_where_nothing_else_is),
        cmocka_unit_test(a_stable_write_is_followed_by_a_sync),
        cmocka_unit_test(no_flush_succeeds_after_one_failed),
        cmocka_unit_test(flushes_at_once_fail_together),
        cmocka_unit_test(flushes_that_wait_share_a_sync),
        cmocka_unit_test(a_shrunk_file_fails_beyond_its_end_only),
        cmocka_unit_test(what_is_held_comes_after_the_release),
        cmocka_unit_test(direct_io_takes_odd_requests),
        cmocka_unit_test(direct_io_changes_parts_of_blocks),
        cmocka_unit_test(direct_io_zeroes_parts_of_blocks),
        cmocka_unit_test(direct_io_refuses_a_disk_of_broken_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
