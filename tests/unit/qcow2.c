// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2 disks: random work beside a model in memory on images that qemu-img made, which checks and
 * reads them afterwards; snapshots, compressed clusters; images that cannot be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>

#include "tests/unit/power_cut.h"
#include "vmm/block/qcow2_format.h"

#define SIZE (7U << 20)

static char *folder;

static char *path_of(const char *name)
{
    return g_strdup_printf("%s/%s", folder, name);
}

static int setup(void **state)
{
    g_autofree char *program = g_find_program_in_path("qemu-img");

    folder = program ? g_dir_make_tmp("anima-qcow2-XXXXXX", NULL) : NULL;
    return 0;
}

static int teardown(void **state)
{
    if (folder)
        rmdir(folder);
    g_free(folder);
    return 0;
}

/* ---- with qemu-img ---- */

/* As qemu-img reads the image; the caller frees it. */
static char *content_of(const char *image)
{
    static const char *const convert[] = {"convert", "-f", "qcow2", "-O", "raw", NULL};
    static const char *const check[] = {"check", "-q", "-f", "qcow2", NULL};
    g_autofree char *raw = path_of("raw");
    char *content = NULL;
    gsize length;

    assert_true(qemu_img(check, image, NULL));
    assert_true(qemu_img(convert, image, raw));
    assert_true(g_file_get_contents(raw, &content, &length, NULL));
    assert_int_equal(length, SIZE);
    unlink(raw);
    return content;
}

static void work_on(const char *image, const char *before, unsigned seed)
{
    int fd = open(image, O_RDWR | O_CLOEXEC);
    struct disk *disk = disk_open(block_qcow2_create, fd);
    g_autofree uint8_t *model = NULL;
    g_autofree char *after = NULL;

    assert_int_equal(disk->size, SIZE);
    if (before)
        memcpy(disk->model, before, SIZE);
    disk_is_model(disk);
    for (unsigned i = 0; i < 3; i++) {
        GError *error = NULL;

        disk_work(disk, 15, seed * 10 + i);
        disk_is_model(disk);
        /* As for another vmm. */
        assert_true(block_deactivate(disk->block, &error));
        assert_true(block_activate(disk->block, &error));
        disk_is_model(disk);
    }
    model = disk_close(disk);
    close(fd);
    after = content_of(image);
    assert_memory_equal(after, model, SIZE);
}

static void images_of_all_kinds_are_written(void **state)
{
    static const char *const kinds[] = {
        "compat=v3",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=2M",
        "cluster_size=4k,refcount_bits=1",
        "cluster_size=512,refcount_bits=64",
        "refcount_bits=2",
        "refcount_bits=4,cluster_size=1k",
        "refcount_bits=8",
        "refcount_bits=32",
        "preallocation=metadata",
        "preallocation=falloc,cluster_size=8k",
        "lazy_refcounts=on",
    };

    if (!folder)
        skip();
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const char *const create[] = {"create", "-q", "-f", "qcow2", "-o", kinds[i], NULL};
        g_autofree char *image = path_of("image");

        assert_true(qemu_img(create, image, "7M"));
        work_on(image, NULL, i);
        unlink(image);
    }
}

/* A raw file with stretches of all kinds. */
static char *make_content(const char *path)
{
    char *content = g_malloc0(SIZE);
    GRand *random = g_rand_new_with_seed(5);

    for (unsigned at = 0; at < SIZE; at += 32768) {
        int kind = g_rand_int_range(random, 0, 3);

        for (unsigned i = 0; kind && i < 32768; i++)
            content[at + i] = (char)(kind == 1 ? at / 32768 : g_rand_int_range(random, 0, 256));
    }
    g_rand_free(random);
    assert_true(g_file_set_contents(path, content, SIZE, NULL));
    return content;
}

static void compressed_clusters_are_read_and_replaced(void **state)
{
    static const char *const kinds[] = {"compression_type=zlib", "compression_type=zstd",
                                        "cluster_size=4k", "cluster_size=2M,compression_type=zstd"};
    g_autofree char *raw = NULL, *image = NULL, *content = NULL;

    if (!folder)
        skip();
    raw = path_of("from");
    image = path_of("image");
    content = make_content(raw);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const char *const convert[] = {"convert", "-c", "-f",     "raw", "-O",
                                       "qcow2",   "-o", kinds[i], NULL};

        assert_true(qemu_img(convert, raw, image));
        work_on(image, content, 50 + i);
        unlink(image);
    }
    unlink(raw);
}

static void a_snapshot_stays_as_it_is(void **state)
{
    static const char *const convert[] = {"convert", "-f", "raw", "-O", "qcow2", NULL};
    static const char *const take[] = {"snapshot", "-c", "one", NULL};
    static const char *const go_back[] = {"snapshot", "-a", "one", NULL};
    g_autofree char *raw = NULL, *image = NULL, *content = NULL, *after = NULL;

    if (!folder)
        skip();
    raw = path_of("from");
    image = path_of("image");
    content = make_content(raw);
    assert_true(qemu_img(convert, raw, image));
    assert_true(qemu_img(take, image, NULL));
    work_on(image, content, 70);
    assert_true(qemu_img(go_back, image, NULL));
    after = content_of(image);
    assert_memory_equal(after, content, SIZE);
    unlink(image);
    unlink(raw);
}

/* What was freed is used again, so that the file does not grow for ever. */
static void room_is_used_again(void **state)
{
    static const char *const create[] = {"create", "-q", "-f", "qcow2", NULL};
    g_autofree char *image = NULL;
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    struct disk *disk;
    int fd;

    if (!folder)
        skip();
    image = path_of("image");
    assert_true(qemu_img(create, image, "7M"));
    fd = open(image, O_RDWR | O_CLOEXEC);
    disk = disk_open(block_qcow2_create, fd);
    memset(bytes, 7, SIZE);
    for (unsigned i = 0; i < 20; i++) {
        struct ask zero = {.request = {.kind = BLOCK_DISCARD, .length = SIZE}};
        struct ask flush = {.request = {.kind = BLOCK_FLUSH}};

        assert_int_equal(disk_transfer(disk, BLOCK_WRITE, 0, bytes, SIZE), 0);
        assert_int_equal(disk_run(disk, &zero, 1), 0);
        assert_int_equal(disk_run(disk, &flush, 1), 0);
    }
    disk_is_model(disk);
    g_free(disk_close(disk));
    assert_in_range(lseek(fd, 0, SEEK_END), SIZE, 3 * SIZE);
    close(fd);
    g_free(content_of(image));
    unlink(image);
}

/* Clusters may be lost, but nothing else is wrong. */
static void check_after_cut(const GByteArray *file)
{
    static const char *const repair[] = {"check", "-q", "-f", "qcow2", "-r", "leaks", NULL};
    g_autofree char *image = path_of("cut");

    assert_true(g_file_set_contents(image, (char *)file->data, file->len, NULL));
    assert_true(qemu_img(repair, image, NULL));
    unlink(image);
}

static void cuts_of_power_lose_nothing(void **state)
{
    static const char *const kinds[] = {"cluster_size=64k", "cluster_size=512", "cluster_size=4k",
                                        "compat=0.10,cluster_size=8k"};
    const char *often = getenv("ANIMA_POWER_CUTS");

    if (!folder)
        skip();
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const char *const create[] = {"create", "-q", "-f", "qcow2", "-o", kinds[i], NULL};
        g_autofree char *image = path_of("image");
        int fd;

        assert_true(qemu_img(create, image, "1M"));
        fd = open(image, O_RDWR | O_CLOEXEC);
        cut_power(block_qcow2_create, fd, often ? (unsigned)atoi(often) : 10, i, check_after_cut);
        close(fd);
        unlink(image);
    }
}

/* ---- a host in trouble ---- */

static struct {
    struct loop_backend backend;
    const struct loop_backend *real;
} full;

static void fail_for_room(void *opaque)
{
    struct loop_operation *operation = opaque;

    operation->done(operation, -ENOSPC);
}

static void submit_to_full(struct loop *loop, struct loop_operation *operation)
{
    if (operation->kind == LOOP_READ || operation->kind == LOOP_SYNC)
        full.real->submit(loop, operation);
    else
        loop_call(loop, fail_for_room, operation);
}

static void fill_up(void *opaque)
{
    struct disk *disk = opaque;

    full.real = disk->loop->backend;
    full.backend = *full.real;
    full.backend.submit = submit_to_full;
    disk->loop->backend = &full.backend;
}

static void make_room(void *opaque)
{
    struct disk *disk = opaque;

    disk->loop->backend = full.real;
}

static void what_cannot_be_written_back_is_kept(void **state)
{
    static const char *const create[] = {"create", "-q", "-f", "qcow2", NULL};
    g_autofree char *image = NULL, *after = NULL;
    g_autofree uint8_t *model = NULL;
    g_autoptr(GError) error = NULL;
    struct disk *disk;
    int fd;

    if (!folder)
        skip();
    image = path_of("image");
    assert_true(qemu_img(create, image, "7M"));
    fd = open(image, O_RDWR | O_CLOEXEC);
    disk = disk_open(block_qcow2_create, fd);
    memset(disk->model + 4096, 9, 1 << 20);
    assert_int_equal(disk_transfer(disk, BLOCK_WRITE, 4096, disk->model + 4096, 1 << 20), 0);
    loop_call_wait(disk->loop, fill_up, disk);
    assert_false(block_deactivate(disk->block, &error));
    loop_call_wait(disk->loop, make_room, disk);
    assert_true(block_activate(disk->block, NULL));
    disk_is_model(disk);
    model = disk_close(disk);
    close(fd);
    after = content_of(image);
    assert_memory_equal(after, model, SIZE);
    unlink(image);
}

/* ---- what cannot be ---- */

struct field {
    unsigned at, size;
    uint64_t value;
    const char *phrase;
};

static void put_number(uint8_t *at, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> 8 * (size - 1 - i));
}

static void make_header(uint8_t header[QCOW2_HEADER_MAX])
{
    memset(header, 0, QCOW2_HEADER_MAX);
    put_number(header, 4, 0x514649FB);
    put_number(header + 4, 4, 3);
    put_number(header + 20, 4, 16);
    put_number(header + 24, 8, SIZE);
    put_number(header + 36, 4, 1);
    put_number(header + 40, 8, 3 << 16);
    put_number(header + 48, 8, 1 << 16);
    put_number(header + 56, 4, 1);
    put_number(header + 96, 4, 4);
    put_number(header + 100, 4, 112);
}

static void bad_headers_are_refused(void **state)
{
    static const struct field fields[] = {
        {0, 4, 0x514649FC, "is none"},
        {4, 4, 4, "version"},
        {8, 8, 4096, "backing file"},
        {20, 4, 8, "clusters of a size"},
        {20, 4, 22, "clusters of a size"},
        {24, 8, 0, "size that no disk"},
        {24, 8, 1ULL << 63, "size that no disk"},
        {24, 8, 1ULL << 40, "does not fit its disk"},
        {32, 4, 2, "encrypted"},
        {36, 4, 0, "does not fit its disk"},
        {36, 4, UINT32_MAX, "does not fit its disk"},
        {40, 8, 0, "tables where they cannot be"},
        {40, 8, 100, "tables where they cannot be"},
        {48, 8, UINT64_MAX << 16, "tables where they cannot be"},
        {56, 4, 0, "counters"},
        {56, 4, UINT32_MAX, "counters"},
        {72, 8, 4, "another file"},
        {72, 8, 16, "subclusters"},
        {72, 8, 32, "not known (0x20)"},
        {96, 4, 7, "counters"},
        {100, 4, 72, "cut off"},
    };
    uint8_t header[QCOW2_HEADER_MAX];
    struct qcow2_layout layout;
    char *why;

    make_header(header);
    assert_true(qcow2_read_header(header, sizeof(header), &layout, &why));
    assert_false(qcow2_read_header(header, 71, &layout, &why));
    g_free(why);
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        make_header(header);
        put_number(header + fields[i].at, fields[i].size, fields[i].value);
        assert_false(qcow2_read_header(header, sizeof(header), &layout, &why));
        if (!strstr(why, fields[i].phrase))
            fail_msg("'%s' is not in '%s'", fields[i].phrase, why);
        g_free(why);
    }
}

static int open_header(unsigned at, unsigned size, uint64_t value)
{
    int fd = memfd_create("qcow2", MFD_CLOEXEC);
    uint8_t header[QCOW2_HEADER_MAX];

    make_header(header);
    put_number(header + at, size, value);
    assert_int_equal(pwrite(fd, header, sizeof(header), 0), sizeof(header));
    assert_int_equal(ftruncate(fd, 4 << 16), 0);
    return fd;
}

static void assert_refused(int fd, const char *phrase)
{
    struct disk disk = {.loop = loop_create("io/test", NULL)};
    GError *error = NULL;

    assert_false(disk_try(&disk, block_qcow2_create, fd, false, &error));
    if (!strstr(error->message, phrase))
        fail_msg("'%s' is not in '%s'", phrase, error->message);
    g_error_free(error);
    loop_destroy(disk.loop);
    close(fd);
}

static void what_may_be_wrong_is_not_written(void **state)
{
    assert_refused(open_header(72, 8, 1), "was not closed");
    assert_refused(open_header(72, 8, 2), "marked as corrupt");
    assert_refused(open_header(40, 8, 8 << 16), "cut off");
}

static void entries_that_cannot_be_are_errors(void **state)
{
    static const uint64_t entries[] = {
        3,                             /* not at a cluster */
        1ULL << 40,                    /* behind the end */
        QCOW2_COMPRESSED | 1ULL << 40, /* behind the end */
        QCOW2_COMPRESSED | 0,          /* the header is no compressed cluster */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(entries); i++) {
        int fd = open_header(24, 8, SIZE);
        uint64_t table = GUINT64_TO_BE(2ULL << 16 | QCOW2_COPIED);
        uint64_t entry = GUINT64_TO_BE(entries[i] | (i ? 0 : 1 << 12));
        uint8_t bytes[4096];
        struct disk *disk;

        assert_int_equal(pwrite(fd, &table, sizeof(table), 3 << 16), sizeof(table));
        assert_int_equal(pwrite(fd, &entry, sizeof(entry), 2 << 16), sizeof(entry));
        disk = disk_open(block_qcow2_create, fd);
        assert_int_equal(disk_transfer(disk, BLOCK_READ, 0, bytes, sizeof(bytes)), EIO);
        assert_int_equal(disk_transfer(disk, BLOCK_READ, 1 << 16, bytes, sizeof(bytes)), 0);
        g_free(disk_close(disk));
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_all_kinds_are_written),
        cmocka_unit_test(compressed_clusters_are_read_and_replaced),
        cmocka_unit_test(a_snapshot_stays_as_it_is),
        cmocka_unit_test(room_is_used_again),
        cmocka_unit_test(cuts_of_power_lose_nothing),
        cmocka_unit_test(what_cannot_be_written_back_is_kept),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(what_may_be_wrong_is_not_written),
        cmocka_unit_test(entries_that_cannot_be_are_errors),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
