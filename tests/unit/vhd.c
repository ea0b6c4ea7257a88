// SPDX-License-Identifier: Apache-2.0
/*
 * VHD disks: random work beside a model in memory, images of qemu-img's and images for it, images
 * of programs that keep bitmaps exactly, cuts of power, and images that cannot be.
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
#include "vmm/block/vhd_format.h"

#define SIZE       (7U << 20)
#define BLOCK_SIZE (2U << 20)
#define BLOCKS     ((SIZE + BLOCK_SIZE - 1) / BLOCK_SIZE)
#define FOOTPRINT  (BLOCK_SIZE + VHD_SECTOR)
#define TABLE      (VHD_SECTOR + VHD_HEADER_SIZE)
#define FIRST      (TABLE + VHD_SECTOR) /* block's place */

/* ---- images ---- */

static uint32_t sum_of(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += bytes[i];
    return GUINT32_TO_BE(~sum);
}

static struct vhd_footer make_footer(enum vhd_type type, uint64_t size)
{
    struct vhd_footer footer = {
        .cookie = "conectix",
        .features = GUINT32_TO_BE(2),
        .version = GUINT32_TO_BE(0x10000),
        .header_offset = GUINT64_TO_BE(type == VHD_FIXED ? UINT64_MAX : VHD_SECTOR),
        .creator = "test",
        .original_size = GUINT64_TO_BE(size),
        .size = GUINT64_TO_BE(size),
        .type = GUINT32_TO_BE(type),
    };

    footer.checksum = sum_of(&footer, sizeof(footer));
    return footer;
}

static struct vhd_header make_header(uint32_t entries, uint32_t block_size)
{
    struct vhd_header header = {
        .cookie = "cxsparse",
        .next = UINT64_MAX,
        .table_offset = GUINT64_TO_BE(TABLE),
        .version = GUINT32_TO_BE(0x10000),
        .entries = GUINT32_TO_BE(entries),
        .block_size = GUINT32_TO_BE(block_size),
    };

    header.checksum = sum_of(&header, sizeof(header));
    return header;
}

static void put(int fd, const void *data, size_t size, uint64_t offset)
{
    assert_int_equal(pwrite(fd, data, size, (off_t)offset), size);
}

/* A dynamic disk of SIZE bytes with nothing in it. */
static int make_image(void)
{
    struct vhd_footer footer = make_footer(VHD_DYNAMIC, SIZE);
    struct vhd_header header = make_header(BLOCKS, BLOCK_SIZE);
    int fd = memfd_create("vhd", MFD_CLOEXEC);
    uint8_t table[VHD_SECTOR];

    memset(table, 0xFF, sizeof(table));
    put(fd, &footer, sizeof(footer), 0);
    put(fd, &header, sizeof(header), VHD_SECTOR);
    put(fd, table, sizeof(table), TABLE);
    put(fd, &footer, sizeof(footer), FIRST);
    return fd;
}

/* ---- the disk under test ---- */

struct disk {
    struct loop *loop;
    struct block *block;
    uint8_t *model;
    uint64_t size;
};

static bool try_open(struct disk *disk, int fd, bool readonly, GError **error)
{
    struct block_config config = {
        .fd = dup(fd), .name = "test.vhd", .readonly = readonly, .loop = disk->loop};

    disk->block = block_vhd_create(&config, error);
    if (!disk->block) {
        close(config.fd);
        return false;
    }
    if (block_activate(disk->block, error))
        return true;
    block_destroy(g_steal_pointer(&disk->block));
    return false;
}

static struct disk *disk_open(int fd)
{
    struct disk *disk = g_new0(struct disk, 1);
    GError *error = NULL;

    disk->loop = loop_create("io/test", NULL);
    if (!try_open(disk, fd, false, &error))
        fail_msg("%s", error->message);
    disk->size = block_size(disk->block);
    disk->model = g_malloc0(disk->size);
    return disk;
}

/* The model, which the caller frees. */
static uint8_t *disk_close(struct disk *disk)
{
    uint8_t *model = disk->model;

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

static void ask_done(struct block_request *request, int error)
{
    struct ask *ask = request->opaque;

    g_mutex_lock(&ask->batch->lock);
    ask->batch->error = ask->batch->error ? ask->batch->error : error;
    if (!--ask->batch->left)
        g_cond_signal(&ask->batch->ended);
    g_mutex_unlock(&ask->batch->lock);
}

static void ask_submit(void *opaque)
{
    struct ask *ask = opaque;

    block_submit(ask->disk->block, &ask->request);
}

/* All at the same time. */
static int run(struct disk *disk, struct ask *asks, unsigned count)
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
static struct ask transfer(enum block_kind kind, uint64_t offset, uint8_t *bytes, size_t length)
{
    size_t first = length / 1024 * VHD_SECTOR;

    return (struct ask){
        .request = {.kind = kind, .offset = offset, .length = length, .count = 2},
        .vectors = {{bytes, first}, {bytes + first, length - first}},
    };
}

static int transfer_now(struct disk *disk, enum block_kind kind, uint64_t offset, void *bytes,
                        size_t length)
{
    struct ask ask = transfer(kind, offset, bytes, length);

    ask.request.vectors = ask.vectors;
    return run(disk, &ask, 1);
}

static void assert_is_model(struct disk *disk)
{
    g_autofree uint8_t *bytes = g_malloc(disk->size);

    memset(bytes, 0xA5, disk->size);
    assert_int_equal(transfer_now(disk, BLOCK_READ, 0, bytes, disk->size), 0);
    assert_memory_equal(bytes, disk->model, disk->size);
}

/* ---- random work ---- */

#define AT_A_TIME 8

/* One request in its own part of the disk, so that the outcome is one. */
static struct ask random_ask(struct disk *disk, GRand *random, unsigned part, uint8_t *bytes)
{
    uint64_t sectors = disk->size / VHD_SECTOR / AT_A_TIME;
    uint64_t first = (uint64_t)g_rand_int_range(random, 0, (gint32)sectors);
    uint64_t count = 1 + (uint64_t)g_rand_int_range(random, 0, (gint32)(sectors - first));
    uint64_t offset = (part * sectors + first) * VHD_SECTOR, length = count * VHD_SECTOR;
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

static void work(struct disk *disk, unsigned rounds, unsigned seed)
{
    GRand *random = g_rand_new_with_seed(seed);
    uint8_t *bytes = g_malloc(disk->size);

    for (unsigned round = 0; round < rounds; round++) {
        struct ask asks[AT_A_TIME];

        for (unsigned i = 0; i < AT_A_TIME; i++)
            asks[i] = random_ask(disk, random, i, bytes + disk->size / AT_A_TIME * i);
        for (unsigned i = 0; i < AT_A_TIME; i++)
            asks[i].request.vectors = asks[i].vectors;
        assert_int_equal(run(disk, asks, AT_A_TIME), 0);
        for (unsigned i = 0; i < AT_A_TIME; i++)
            if (asks[i].request.kind == BLOCK_READ)
                assert_memory_equal(asks[i].vectors[0].iov_base,
                                    disk->model + asks[i].request.offset,
                                    asks[i].vectors[0].iov_len);
    }
    g_free(bytes);
    g_rand_free(random);
}

static void what_is_written_is_read(void **state)
{
    for (unsigned seed = 0; seed < 5; seed++) {
        int fd = make_image();
        struct disk *disk = disk_open(fd);

        assert_is_model(disk);
        work(disk, 30, seed);
        assert_is_model(disk);
        uint8_t *model = disk_close(disk);

        disk = disk_open(fd);
        g_free(disk->model);
        disk->model = model;
        assert_is_model(disk);
        work(disk, 10, seed + 100);
        assert_is_model(disk);
        g_free(disk_close(disk));
        close(fd);
    }
}

static void a_fixed_disk_is_its_file(void **state)
{
    struct vhd_footer footer = make_footer(VHD_FIXED, SIZE);
    int fd = memfd_create("vhd", MFD_CLOEXEC);
    g_autofree uint8_t *bytes = g_malloc(SIZE), *model = NULL;
    struct disk *disk;

    put(fd, &footer, sizeof(footer), SIZE);
    disk = disk_open(fd);
    assert_int_equal(disk->size, SIZE);
    work(disk, 20, 7);
    assert_is_model(disk);
    assert_int_equal(transfer_now(disk, BLOCK_WRITE, SIZE, bytes, VHD_SECTOR), EINVAL);
    model = disk_close(disk);
    assert_int_equal(pread(fd, bytes, SIZE, 0), SIZE);
    assert_memory_equal(bytes, model, SIZE);
    assert_int_equal(lseek(fd, 0, SEEK_END), SIZE + VHD_SECTOR);
    close(fd);
}

/* A guest can write what it likes to its first sector: the type stands at the file's end. */
static void a_guest_does_not_make_a_fixed_disk_dynamic(void **state)
{
    struct vhd_footer fixed = make_footer(VHD_FIXED, SIZE), forged = make_footer(VHD_DYNAMIC, SIZE);
    int fd = memfd_create("vhd", MFD_CLOEXEC);
    uint8_t sector[VHD_SECTOR];
    struct disk *disk;

    put(fd, &fixed, sizeof(fixed), SIZE);
    put(fd, &forged, sizeof(forged), 0);
    disk = disk_open(fd);
    assert_int_equal(transfer_now(disk, BLOCK_READ, 0, sector, sizeof(sector)), 0);
    assert_memory_equal(sector, &forged, sizeof(forged));
    g_free(disk_close(disk));
    close(fd);
}

/* ---- bitmaps of others ---- */

static void sectors_that_are_not_there_are_zero(void **state)
{
    uint32_t entry = GUINT32_TO_BE(FIRST / VHD_SECTOR);
    uint8_t bitmap[VHD_SECTOR] = {0x40, [100] = 0x01}; /* sectors 1 and 807 */
    struct vhd_footer footer = make_footer(VHD_DYNAMIC, SIZE);
    g_autofree uint8_t *garbage = g_malloc(BLOCK_SIZE);
    int fd = make_image();
    struct disk *disk;

    memset(garbage, 0xEE, BLOCK_SIZE);
    put(fd, &entry, sizeof(entry), TABLE);
    put(fd, bitmap, sizeof(bitmap), FIRST);
    put(fd, garbage, BLOCK_SIZE, FIRST + VHD_SECTOR);
    put(fd, &footer, sizeof(footer), FIRST + FOOTPRINT);
    disk = disk_open(fd);
    memset(disk->model + VHD_SECTOR, 0xEE, VHD_SECTOR);
    memset(disk->model + 807 * VHD_SECTOR, 0xEE, VHD_SECTOR);
    assert_is_model(disk);
    work(disk, 20, 3);
    assert_is_model(disk);
    g_free(disk_close(disk));
    close(fd);
}

/* ---- crashes ---- */

static void room_that_a_crash_left_is_cleared(void **state)
{
    g_autofree uint8_t *garbage = g_malloc(BLOCK_SIZE);
    int fd = make_image();
    struct disk *disk;

    memset(garbage, 0xEE, BLOCK_SIZE);
    put(fd, garbage, BLOCK_SIZE, FIRST); /* over the footer, too */
    disk = disk_open(fd);
    assert_is_model(disk);
    assert_int_equal(transfer_now(disk, BLOCK_WRITE, 4096, garbage, 4096), 0);
    memcpy(disk->model + 4096, garbage, 4096);
    assert_is_model(disk);
    g_free(disk_close(disk));
    close(fd);
}

static void another_activation_sees_what_was_changed_meanwhile(void **state)
{
    int fd = make_image();
    struct disk *first = disk_open(fd), *second = disk_open(fd);
    uint8_t bytes[1024];
    GError *error = NULL;

    memset(bytes, 7, sizeof(bytes));
    assert_int_equal(transfer_now(first, BLOCK_WRITE, BLOCK_SIZE - 512, bytes, sizeof(bytes)), 0);
    memcpy(second->model + BLOCK_SIZE - 512, bytes, sizeof(bytes));
    assert_true(block_activate(second->block, &error));
    assert_is_model(second);
    g_free(disk_close(first));
    g_free(disk_close(second));
    close(fd);
}

/* ---- qemu-img ---- */

static bool qemu_img(const char *const *words, const char *from, const char *to)
{
    const char *argv[16] = {"qemu-img"};
    unsigned count = 1;
    int status = -1;

    for (; *words; words++)
        argv[count++] = *words;
    argv[count++] = from;
    argv[count++] = to;
    return g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL,
                        NULL, NULL, NULL, NULL, &status, NULL) &&
           status == 0;
}

static void try_with_qemu(const char *folder, const char *kind)
{
    g_autofree char *image = g_strdup_printf("%s/%s.vhd", folder, kind);
    g_autofree char *raw = g_strdup_printf("%s/%s.raw", folder, kind);
    g_autofree char *options = g_strdup_printf("subformat=%s,force_size=on", kind);
    const char *const create[] = {"create", "-f", "vpc", "-o", options, NULL};
    const char *const convert[] = {"convert", "-f", "vpc", "-O", "raw", NULL};
    g_autofree char *content = NULL;
    g_autofree uint8_t *model = NULL;
    gsize length = 0;
    int fd;

    assert_true(qemu_img(create, image, "7M"));
    fd = open(image, O_RDWR | O_CLOEXEC);
    struct disk *disk = disk_open(fd);
    assert_int_equal(disk->size, SIZE);
    work(disk, 30, 11);
    model = disk_close(disk);
    assert_true(qemu_img(convert, image, raw));
    assert_true(g_file_get_contents(raw, &content, &length, NULL));
    assert_int_equal(length, SIZE);
    assert_memory_equal(content, model, SIZE);

    /* Blocks that it has placed, and what comes behind them. */
    const char *const back[] = {"convert", "-f", "raw", "-O", "vpc", "-o", options, NULL};
    assert_true(qemu_img(back, raw, image));
    close(fd);
    fd = open(image, O_RDWR | O_CLOEXEC);
    disk = disk_open(fd);
    memcpy(disk->model, model, SIZE);
    assert_is_model(disk);
    work(disk, 10, 12);
    assert_is_model(disk);
    g_free(disk_close(disk));
    close(fd);
    unlink(image);
    unlink(raw);
}

static void qemu_img_reads_it_and_writes_it(void **state)
{
    g_autofree char *program = g_find_program_in_path("qemu-img");
    g_autofree char *folder = g_dir_make_tmp("anima-vhd-XXXXXX", NULL);

    if (!program) {
        rmdir(folder);
        skip();
    }
    try_with_qemu(folder, "dynamic");
    try_with_qemu(folder, "fixed");
    rmdir(folder);
}

/* ---- what cannot be ---- */

static void assert_refused(int fd, const char *phrase)
{
    struct disk disk = {.loop = loop_create("io/test", NULL)};
    GError *error = NULL;

    assert_false(try_open(&disk, fd, false, &error));
    if (!strstr(error->message, phrase))
        fail_msg("'%s' is not in '%s'", phrase, error->message);
    g_error_free(error);
    loop_destroy(disk.loop);
    close(fd);
}

static int with_footer(struct vhd_footer footer)
{
    int fd = make_image();

    footer.checksum = 0;
    footer.checksum = sum_of(&footer, sizeof(footer));
    put(fd, &footer, sizeof(footer), FIRST);
    return fd;
}

static int with_header(struct vhd_header header)
{
    int fd = make_image();

    header.checksum = 0;
    header.checksum = sum_of(&header, sizeof(header));
    put(fd, &header, sizeof(header), VHD_SECTOR);
    return fd;
}

static int with_entries(uint32_t first, uint32_t second)
{
    uint32_t entries[] = {GUINT32_TO_BE(first), GUINT32_TO_BE(second)};
    int fd = make_image();

    assert_int_equal(ftruncate(fd, 16 << 20), 0);
    put(fd, entries, sizeof(entries), TABLE);
    return fd;
}

static void bad_footers_are_refused(void **state)
{
    struct vhd_footer footer = make_footer(VHD_DYNAMIC, SIZE);
    int fd = memfd_create("vhd", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, SIZE), 0);
    assert_refused(fd, "no footer");
    footer.version = GUINT32_TO_BE(0x20000);
    assert_refused(with_footer(footer), "version");
    footer = make_footer(VHD_DIFFERENCING, SIZE);
    assert_refused(with_footer(footer), "differs from another file");
    footer = make_footer(9, SIZE);
    assert_refused(with_footer(footer), "type");
    assert_refused(with_footer(make_footer(VHD_DYNAMIC, 0)), "size");
    assert_refused(with_footer(make_footer(VHD_DYNAMIC, SIZE + 1)), "size");
    assert_refused(with_footer(make_footer(VHD_DYNAMIC, UINT64_MAX - 511)), "size");
    assert_refused(with_footer(make_footer(VHD_FIXED, SIZE)), "shorter than its disk");
    footer = make_footer(VHD_DYNAMIC, SIZE);
    footer.header_offset = GUINT64_TO_BE(UINT64_MAX - 1023);
    assert_refused(with_footer(footer), "header where it cannot be");
}

static void bad_headers_are_refused(void **state)
{
    struct vhd_header header = make_header(BLOCKS, BLOCK_SIZE);

    header.cookie[0] = 'C';
    assert_refused(with_header(header), "no sound header");
    assert_refused(with_header(make_header(BLOCKS - 1, BLOCK_SIZE)), "too small");
    assert_refused(with_header(make_header(BLOCKS, BLOCK_SIZE + 512)), "not supported");
    assert_refused(with_header(make_header(BLOCKS, 0)), "not supported");
    assert_refused(with_header(make_header(BLOCKS, 1U << 31)), "not supported");
    header = make_header(BLOCKS, BLOCK_SIZE);
    header.table_offset = GUINT64_TO_BE(UINT64_MAX - 511);
    assert_refused(with_header(header), "table where it cannot be");
    header.table_offset = GUINT64_TO_BE(TABLE + 1);
    assert_refused(with_header(header), "table where it cannot be");
}

static void bad_tables_are_refused(void **state)
{
    uint32_t first = FIRST / VHD_SECTOR, second = first + FOOTPRINT / VHD_SECTOR;

    assert_refused(with_entries(first, first), "within each other");
    assert_refused(with_entries(first, second - 1), "within each other");
    assert_refused(with_entries(0, second), "within its table");
    assert_refused(with_entries(first, VHD_UNUSED - 1), "cut off");
    assert_refused(with_entries(first, (16U << 20) / VHD_SECTOR - 8), "cut off");
}

static void what_is_read_only_stays_as_it_is(void **state)
{
    int fd = make_image();
    off_t end = lseek(fd, 0, SEEK_END);
    struct disk disk = {.loop = loop_create("io/test", NULL)};
    uint8_t bytes[512] = {1};

    assert_true(try_open(&disk, fd, true, NULL));
    assert_int_equal(transfer_now(&disk, BLOCK_WRITE, 0, bytes, sizeof(bytes)), EROFS);
    assert_int_equal(transfer_now(&disk, BLOCK_READ, 0, bytes, sizeof(bytes)), 0);
    assert_int_equal(bytes[0], 0);
    block_destroy(disk.block);
    loop_destroy(disk.loop);
    assert_int_equal(lseek(fd, 0, SEEK_END), end);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_fixed_disk_is_its_file),
        cmocka_unit_test(a_guest_does_not_make_a_fixed_disk_dynamic),
        cmocka_unit_test(sectors_that_are_not_there_are_zero),
        cmocka_unit_test(room_that_a_crash_left_is_cleared),
        cmocka_unit_test(another_activation_sees_what_was_changed_meanwhile),
        cmocka_unit_test(qemu_img_reads_it_and_writes_it),
        cmocka_unit_test(bad_footers_are_refused),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(bad_tables_are_refused),
        cmocka_unit_test(what_is_read_only_stays_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
