// SPDX-License-Identifier: Apache-2.0
/*
 * VMDK images: what is stored comes back, holes too; qemu-img reads ours and we its own; what was
 * cut, bent or forged is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/block/vmdk.h"
#include "vmm/block/vmdk_format.h"

#define MB      (1ULL << 20)
#define GB      (1ULL << 30)
#define THREADS 3

/* ---- disks and images ---- */

/* An empty file in memory. */
static int make_file(uint64_t size)
{
    int fd = memfd_create("vmdk", MFD_CLOEXEC);

    assert_true(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

/* Bytes that a compressor makes smaller, but that are nowhere zero. */
static void scribble(int fd, uint64_t at, size_t size, unsigned seed)
{
    g_autofree uint8_t *data = g_malloc(size);

    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(1 + (seed * 7 + i / 3 * 2654435761U) % 255);
    assert_int_equal(pwrite(fd, data, size, (off_t)at), size);
}

static bool append(void *context, const void *data, size_t size, GError **error)
{
    return write(*(int *)context, data, size) == (ssize_t)size;
}

static void store(int disk, int image, unsigned threads)
{
    struct vmdk_sink sink = {append, &image};
    g_autoptr(GError) error = NULL;
    struct stat status;

    assert_int_equal(fstat(disk, &status), 0);
    assert_true(
        vmdk_store(disk, (uint64_t)status.st_size, "a \"disk\"", threads, &sink, NULL, &error));
}

/* The raw disk in the image, of whose file it is the whole. */
static int restore(int image, unsigned threads)
{
    struct stat status;
    g_autoptr(GError) error = NULL;
    struct vmdk *vmdk;
    int disk = make_file(0);

    assert_int_equal(fstat(image, &status), 0);
    vmdk = vmdk_open(image, 0, (uint64_t)status.st_size, &error);
    if (!vmdk)
        fail_msg("%s", error->message);
    if (!vmdk_restore(vmdk, disk, threads, NULL, &error))
        fail_msg("%s", error->message);
    vmdk_close(vmdk);
    return disk;
}

/* The same size, the same bytes; reads only where either has some. */
static void assert_same(int a, int b)
{
    g_autofree uint8_t *left = g_malloc(MB), *right = g_malloc(MB);
    off_t size = lseek(a, 0, SEEK_END), at = 0;

    assert_int_equal(size, lseek(b, 0, SEEK_END));
    while (at < size) {
        off_t in_a = lseek(a, at, SEEK_DATA), in_b = lseek(b, at, SEEK_DATA);
        ssize_t count;

        at = MIN(in_a < 0 ? size : in_a, in_b < 0 ? size : in_b);
        count = pread(a, left, MB, at);
        assert_int_equal(pread(b, right, MB, at), count);
        assert_memory_equal(left, right, count);
        at += MAX(count, 1);
    }
}

static blkcnt_t blocks(int fd)
{
    struct stat status;

    assert_int_equal(fstat(fd, &status), 0);
    return status.st_blocks;
}

static void round_trip(int disk)
{
    int image = make_file(0), again;

    store(disk, image, THREADS);
    again = restore(image, THREADS);
    assert_same(disk, again);
    assert_true(blocks(again) <= blocks(disk));
    close(image);
    close(again);
}

static void what_is_stored_comes_back(void **state)
{
    static const uint64_t sizes[] = {512,       1024,    64 * 1024,     64 * 1024 + 512,
                                     MB + 4096, 32 * MB, 32 * MB + 512, 70 * MB - 512};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        int disk = make_file(sizes[i]);

        round_trip(disk);
        scribble(disk, sizes[i] - 512, 512, i);
        round_trip(disk);
        scribble(disk, 0, MIN(sizes[i], 300 * 1024), i);
        round_trip(disk);
        close(disk);
    }
}

static void an_image_does_not_depend_on_threads(void **state)
{
    int disk = make_file(9 * MB), one = make_file(0), many = make_file(0);
    g_autofree uint8_t *left = NULL, *right = NULL;
    off_t size;

    scribble(disk, MB / 2, 7 * MB, 1);
    store(disk, one, 1);
    store(disk, many, 5);
    size = lseek(one, 0, SEEK_END);
    assert_int_equal(size, lseek(many, 0, SEEK_END));
    left = g_malloc(size);
    right = g_malloc(size);
    assert_int_equal(pread(one, left, size, 0), size);
    assert_int_equal(pread(many, right, size, 0), size);
    /* Behind the descriptor, whose content id is random. */
    assert_memory_equal(left + 64 * 1024, right + 64 * 1024, size - 64 * 1024);
    close(disk);
    close(one);
    close(many);
}

static void two_terabytes_take_what_they_hold(void **state)
{
    int disk = make_file(2048 * GB), image = make_file(0), again;

    scribble(disk, 5 * GB + 4096, 100, 1);
    scribble(disk, 1500 * GB - 300, 1000, 2);
    scribble(disk, 2048 * GB - 512, 512, 3);
    store(disk, image, THREADS);
    assert_true(lseek(image, 0, SEEK_END) < (off_t)MB);
    again = restore(image, THREADS);
    assert_same(disk, again);
    assert_true(blocks(again) <= 64);
    close(disk);
    close(image);
    close(again);
}

static void an_image_may_be_a_part_of_a_file(void **state)
{
    int disk = make_file(MB), image = make_file(0), package = make_file(0), again = make_file(0);
    g_autofree uint8_t *bytes = NULL;
    struct vmdk *vmdk;
    uint64_t count;
    off_t size;

    scribble(disk, 0, 70000, 1);
    store(disk, image, 1);
    size = lseek(image, 0, SEEK_END);
    bytes = g_malloc(size);
    assert_int_equal(pread(image, bytes, size, 0), size);
    assert_int_equal(pwrite(package, bytes, size, 1536), size);
    scribble(package, 1536 + size, 1000, 1);
    vmdk = vmdk_open(package, 1536, size, NULL);
    assert_non_null(vmdk);
    assert_int_equal(vmdk_capacity(vmdk), MB);
    assert_true(vmdk_count(vmdk, &count, NULL));
    assert_int_equal(count, 128 * 1024);
    assert_true(vmdk_restore(vmdk, again, 1, NULL, NULL));
    assert_same(disk, again);
    vmdk_close(vmdk);
    close(disk);
    close(image);
    close(package);
    close(again);
}

static void progress_grows(void *context, uint64_t done)
{
    uint64_t *last = context;

    assert_true(done >= *last && done <= 8 * MB);
    *last = done;
}

static void progress_is_told(void **state)
{
    uint64_t last = 0;
    struct vmdk_progress progress = {progress_grows, &last};
    int disk = make_file(8 * MB), image = make_file(0);
    struct vmdk_sink sink = {append, &image};

    scribble(disk, 0, 8 * MB, 1);
    assert_true(vmdk_store(disk, 8 * MB, "d", THREADS, &sink, &progress, NULL));
    close(disk);
    close(image);
}

static bool refuse(void *context, const void *data, size_t size, GError **error)
{
    unsigned *left = context;

    if ((*left)--)
        return true;
    g_set_error_literal(error, g_quark_from_static_string("test"), 0, "full");
    return false;
}

static void a_full_sink_ends_the_work(void **state)
{
    int disk = make_file(40 * MB);

    scribble(disk, 0, 40 * MB, 1);
    for (unsigned after = 0; after < 50; after += 7) {
        unsigned left = after;
        struct vmdk_sink sink = {refuse, &left};
        g_autoptr(GError) error = NULL;

        assert_false(vmdk_store(disk, 40 * MB, "d", THREADS, &sink, NULL, &error));
        assert_string_equal(error->message, "full");
    }
    close(disk);
}

static void a_disk_that_cannot_be_read_is_told(void **state)
{
    int disk = make_file(8 * MB), image = make_file(0), blind;
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", disk);
    struct vmdk_sink sink = {append, &image};
    g_autoptr(GError) error = NULL;

    scribble(disk, 0, 8 * MB, 1);
    blind = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(blind >= 0);
    assert_false(vmdk_store(blind, 8 * MB, "d", THREADS, &sink, NULL, &error));
    assert_string_equal(error->message, "the disk cannot be read: Bad file descriptor");
    close(blind);
    close(disk);
    close(image);
}

/* ---- images that are none ---- */

struct sample {
    uint8_t *bytes;
    size_t size;
};

static struct sample make_sample(void)
{
    int disk = make_file(40 * MB), image = make_file(0);
    struct sample sample;

    scribble(disk, 0, 100000, 1);
    scribble(disk, 39 * MB, 100000, 1);
    store(disk, image, 1);
    sample.size = lseek(image, 0, SEEK_END);
    sample.bytes = g_malloc(sample.size);
    assert_int_equal(pread(image, sample.bytes, sample.size, 0), sample.size);
    close(disk);
    close(image);
    return sample;
}

/* What reading the sample says; NULL: nothing. */
static char *complaint(const uint8_t *bytes, size_t size)
{
    int image = make_file(0), target = make_file(0);
    struct vmdk *vmdk;
    GError *error = NULL;
    char *message = NULL;

    assert_int_equal(pwrite(image, bytes, size, 0), size);
    vmdk = vmdk_open(image, 0, size, &error);
    if (vmdk)
        vmdk_restore(vmdk, target, THREADS, NULL, &error);
    vmdk_close(vmdk);
    if (error)
        message = g_strdup(error->message);
    g_clear_error(&error);
    close(image);
    close(target);
    return message;
}

static void assert_complaint(const struct sample *sample, const char *message)
{
    g_autofree char *got = complaint(sample->bytes, sample->size);

    assert_non_null(got);
    assert_string_equal(got, message);
}

#define HEADER_FORGED(member, value, message)                              \
    do {                                                                   \
        struct sample forged_ = make_sample();                             \
        struct vmdk_header *header_ = (struct vmdk_header *)forged_.bytes; \
        header_->member = value;                                           \
        assert_complaint(&forged_, message);                               \
        g_free(forged_.bytes);                                             \
    } while (0)

static void forged_headers_are_refused(void **state)
{
    const char *size = "its disk has a size that none can have";
    const char *grains = "its grains have a size that none can have";
    const char *tables = "its grain tables have a size that none can have";

    HEADER_FORGED(magic, 0, "it is no VMDK image");
    HEADER_FORGED(version, 4, "it is a VMDK of an unknown version");
    HEADER_FORGED(capacity, 0, size);
    HEADER_FORGED(capacity, UINT64_MAX, size);
    HEADER_FORGED(grain_size, 0, grains);
    HEADER_FORGED(grain_size, 4, grains);
    HEADER_FORGED(grain_size, 129, grains);
    HEADER_FORGED(grain_size, 1ULL << 63, grains);
    HEADER_FORGED(gtes_per_gt, 0, tables);
    HEADER_FORGED(gtes_per_gt, 513, tables);
    HEADER_FORGED(compression, 0, "its compression is unknown");
    HEADER_FORGED(flags, VMDK_FLAG_COMPRESSED, "its compression is unknown");
    HEADER_FORGED(line_ends[2], '\n', "it was damaged by a transfer as text");
    HEADER_FORGED(descriptor_offset, 0, "it is a part of an image that lies in several files");
    HEADER_FORGED(descriptor_size, 1ULL << 40,
                  "it is a part of an image that lies in several files");
    HEADER_FORGED(gd_offset, 0, "its grain directory is missing");
    HEADER_FORGED(gd_offset, 1ULL << 60, "its grain directory is missing");
    HEADER_FORGED(capacity, 1, "its end contradicts its beginning");
}

static void other_descriptors_are_refused(void **state)
{
    static const struct {
        const char *from, *to, *message;
    } rows[] = {
        {"parentCID=ffffffff", "parentCID=12345678",
         "it holds only what differs from another image"},
        {"\"streamOptimized\"", "\"monolithicFlat\" ",
         "its data lies in other files; convert it by qemu-img"},
        {"# The Disk Data Base", "RW 1 SPARSE \"b.vmdk\"\n",
         "it is a part of an image that lies in several files"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct sample sample = make_sample();
        char *at = strstr((char *)sample.bytes + VMDK_SECTOR, rows[i].from);

        assert_non_null(at);
        memcpy(at, rows[i].to, strlen(rows[i].to));
        assert_complaint(&sample, rows[i].message);
        g_free(sample.bytes);
    }
}

static void every_cut_is_refused(void **state)
{
    struct sample sample = make_sample();

    for (size_t size = 0; size < sample.size; size += VMDK_SECTOR) {
        g_autofree char *got = complaint(sample.bytes, size);

        assert_non_null(got);
    }
    g_free(sample.bytes);
}

static void forged_grains_are_refused(void **state)
{
    struct sample sample = make_sample();
    uint8_t *grain = sample.bytes + 64 * 1024;
    uint32_t huge = 1U << 30, none = 0;
    uint64_t other = 128, first = 0;

    memcpy(grain, &other, sizeof(other));
    assert_complaint(&sample, "a grain is not where its table has it");
    memcpy(grain, &first, sizeof(first));
    memcpy(grain + 8, &huge, sizeof(huge));
    assert_complaint(&sample, "a grain is not where its table has it");
    memcpy(grain + 8, &none, sizeof(none));
    assert_complaint(&sample, "a grain is not where its table has it");
    g_free(sample.bytes);
    sample = make_sample();
    sample.bytes[64 * 1024 + 100] ^= 0xFF;
    assert_complaint(&sample, "a compressed grain is damaged");
    g_free(sample.bytes);
}

static void a_text_is_no_image(void **state)
{
    g_autofree char *text = g_strdup_printf("%-1024s", "# Disk DescriptorFile\nversion=1\n");
    g_autofree char *flat = complaint((uint8_t *)text, strlen(text));
    g_autofree char *nothing = complaint((uint8_t *)"", 0);

    assert_string_equal(flat, "its data lies in other files; convert it by qemu-img");
    assert_string_equal(nothing, "it is no VMDK image");
}

/* ---- qemu-img ---- */

static uint64_t most_compared = GB; /* bytes */

/* Run it with words that are parted by spaces, in `folder`. */
static void qemu_img(const char *folder, const char *format, ...)
{
    g_autofree char *words = NULL, *complaints = NULL, *out = NULL;
    g_auto(GStrv) arguments = NULL;
    va_list values;
    int status;

    va_start(values, format);
    words = g_strdup_vprintf(format, values);
    va_end(values);
    arguments = g_strsplit(words, " ", -1);
    assert_true(g_spawn_sync(folder, arguments, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
                             &complaints, &status, NULL));
    if (status)
        fail_msg("%s: %s%s", words, out, complaints);
}

static int open_in(const char *folder, const char *name, int flags)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    int fd = open(path, flags | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static void remove_in(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);

    unlink(path);
}

static void check_with_qemu(const char *folder, const char *subformat)
{
    int disk = open_in(folder, "disk.raw", O_RDONLY), image, again;

    image = open_in(folder, "ours.vmdk", O_RDWR | O_CREAT | O_TRUNC);
    store(disk, image, THREADS);
    qemu_img(folder, "qemu-img check -f vmdk ours.vmdk");
    /* Which looks at each part of it. */
    if (lseek(disk, 0, SEEK_END) <= (off_t)most_compared)
        qemu_img(folder, "qemu-img compare -f vmdk -F raw ours.vmdk disk.raw");
    close(image);
    qemu_img(folder, "qemu-img convert -f raw -O vmdk -o subformat=%s disk.raw theirs.vmdk",
             subformat);
    image = open_in(folder, "theirs.vmdk", O_RDONLY);
    again = restore(image, THREADS);
    assert_same(disk, again);
    close(disk);
    close(image);
    close(again);
}

static void as_qemu_does(void **state)
{
    static const uint64_t sizes[] = {512, 64 * 1024 + 512, 33 * MB + 512, 2048 * GB};
    static const char *const subformats[] = {"streamOptimized", "monolithicSparse"};
    g_autofree char *program = g_find_program_in_path("qemu-img");
    g_autofree char *folder = g_dir_make_tmp("anima-vmdk-XXXXXX", NULL);

    for (unsigned i = 0; program && i < G_N_ELEMENTS(sizes) * 2; i++) {
        int disk = open_in(folder, "disk.raw", O_RDWR | O_CREAT | O_TRUNC);

        assert_int_equal(ftruncate(disk, (off_t)sizes[i / 2]), 0);
        if (i % 2) {
            scribble(disk, 0, MIN(sizes[i / 2], 200 * 1024), i);
            scribble(disk, sizes[i / 2] - 512, 512, i);
        }
        close(disk);
        for (unsigned n = 0; n < 2; n++)
            check_with_qemu(folder, subformats[n]);
    }
    remove_in(folder, "disk.raw");
    remove_in(folder, "ours.vmdk");
    remove_in(folder, "theirs.vmdk");
    g_rmdir(folder);
    if (!program)
        skip();
}

/* With --long, qemu-img also compares the largest disk, which takes minutes. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stored_comes_back),
        cmocka_unit_test(an_image_does_not_depend_on_threads),
        cmocka_unit_test(two_terabytes_take_what_they_hold),
        cmocka_unit_test(an_image_may_be_a_part_of_a_file),
        cmocka_unit_test(progress_is_told),
        cmocka_unit_test(a_full_sink_ends_the_work),
        cmocka_unit_test(a_disk_that_cannot_be_read_is_told),
        cmocka_unit_test(forged_headers_are_refused),
        cmocka_unit_test(other_descriptors_are_refused),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(forged_grains_are_refused),
        cmocka_unit_test(a_text_is_no_image),
        cmocka_unit_test(as_qemu_does),
    };

    if (argc > 1 && strcmp(argv[1], "--long") == 0)
        most_compared = UINT64_MAX;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
