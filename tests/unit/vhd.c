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

#include "tests/unit/power_cut.h"
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

/* A dynamic disk with nothing in it. */
static int make_image_of(uint32_t size, uint32_t block_size)
{
    struct vhd_footer footer = make_footer(VHD_DYNAMIC, size);
    struct vhd_header header = make_header((size + block_size - 1) / block_size, block_size);
    int fd = memfd_create("vhd", MFD_CLOEXEC);
    uint8_t table[VHD_SECTOR];

    memset(table, 0xFF, sizeof(table));
    put(fd, &footer, sizeof(footer), 0);
    put(fd, &header, sizeof(header), VHD_SECTOR);
    put(fd, table, sizeof(table), TABLE);
    put(fd, &footer, sizeof(footer), FIRST);
    return fd;
}

static int make_image(void)
{
    return make_image_of(SIZE, BLOCK_SIZE);
}

/* ---- work ---- */

static void what_is_written_is_read(void **state)
{
    for (unsigned seed = 0; seed < 5; seed++) {
        int fd = make_image();
        struct disk *disk = disk_open(block_vhd_create, fd);

        disk_is_model(disk);
        disk_work(disk, 30, seed);
        disk_is_model(disk);
        uint8_t *model = disk_close(disk);

        disk = disk_open(block_vhd_create, fd);
        g_free(disk->model);
        disk->model = model;
        disk_is_model(disk);
        disk_work(disk, 10, seed + 100);
        disk_is_model(disk);
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
    disk = disk_open(block_vhd_create, fd);
    assert_int_equal(disk->size, SIZE);
    disk_work(disk, 20, 7);
    disk_is_model(disk);
    assert_int_equal(disk_transfer(disk, BLOCK_WRITE, SIZE, bytes, VHD_SECTOR), EINVAL);
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
    disk = disk_open(block_vhd_create, fd);
    assert_int_equal(disk_transfer(disk, BLOCK_READ, 0, sector, sizeof(sector)), 0);
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
    disk = disk_open(block_vhd_create, fd);
    memset(disk->model + VHD_SECTOR, 0xEE, VHD_SECTOR);
    memset(disk->model + 807 * VHD_SECTOR, 0xEE, VHD_SECTOR);
    disk_is_model(disk);
    disk_work(disk, 20, 3);
    disk_is_model(disk);
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
    disk = disk_open(block_vhd_create, fd);
    disk_is_model(disk);
    assert_int_equal(disk_transfer(disk, BLOCK_WRITE, 4096, garbage, 4096), 0);
    memcpy(disk->model + 4096, garbage, 4096);
    disk_is_model(disk);
    g_free(disk_close(disk));
    close(fd);
}

static void another_activation_sees_what_was_changed_meanwhile(void **state)
{
    int fd = make_image();
    struct disk *first = disk_open(block_vhd_create, fd), *second = disk_open(block_vhd_create, fd);
    uint8_t bytes[1024];
    GError *error = NULL;

    memset(bytes, 7, sizeof(bytes));
    assert_int_equal(disk_transfer(first, BLOCK_WRITE, BLOCK_SIZE - 512, bytes, sizeof(bytes)), 0);
    memcpy(second->model + BLOCK_SIZE - 512, bytes, sizeof(bytes));
    assert_true(block_deactivate(second->block, &error));
    assert_true(block_activate(second->block, &error));
    disk_is_model(second);
    g_free(disk_close(first));
    g_free(disk_close(second));
    close(fd);
}

static void cuts_of_power_lose_nothing(void **state)
{
    const char *often = getenv("ANIMA_POWER_CUTS");

    for (unsigned seed = 0; seed < 4; seed++) {
        int fd = make_image_of(CUT_SIZE, 16384U << seed);

        cut_power(block_vhd_create, fd, often ? (unsigned)atoi(often) : 8, seed, NULL);
        close(fd);
    }
}

/* ---- qemu-img ---- */

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
    struct disk *disk = disk_open(block_vhd_create, fd);
    assert_int_equal(disk->size, SIZE);
    disk_work(disk, 30, 11);
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
    disk = disk_open(block_vhd_create, fd);
    memcpy(disk->model, model, SIZE);
    disk_is_model(disk);
    disk_work(disk, 10, 12);
    disk_is_model(disk);
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

    assert_false(disk_try(&disk, block_vhd_create, fd, false, &error));
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

    assert_true(disk_try(&disk, block_vhd_create, fd, true, NULL));
    assert_int_equal(disk_transfer(&disk, BLOCK_WRITE, 0, bytes, sizeof(bytes)), EROFS);
    assert_int_equal(disk_transfer(&disk, BLOCK_READ, 0, bytes, sizeof(bytes)), 0);
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
        cmocka_unit_test(cuts_of_power_lose_nothing),
        cmocka_unit_test(qemu_img_reads_it_and_writes_it),
        cmocka_unit_test(bad_footers_are_refused),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(bad_tables_are_refused),
        cmocka_unit_test(what_is_read_only_stays_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
