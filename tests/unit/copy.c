// SPDX-License-Identifier: Apache-2.0
/*
 * Copies of images: the same bytes, no more room, and a failure where the source is not what it
 * was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/copy.h"

#define MB (1ULL << 20)

/* A file without a name. */
static int make_file(void)
{
    char path[] = "/tmp/anima-copy-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static void fill(int fd, uint64_t place, size_t count, unsigned seed)
{
    g_autofree char *bytes = g_malloc(count);

    for (size_t i = 0; i < count; i++)
        bytes[i] = (char)(i * 31 + seed);
    assert_int_equal(pwrite(fd, bytes, count, (off_t)place), count);
}

static void assert_same(int a, int b, uint64_t place, size_t count)
{
    g_autofree char *first = g_malloc(count), *second = g_malloc(count);

    assert_int_equal(pread(a, first, count, (off_t)place), count);
    assert_int_equal(pread(b, second, count, (off_t)place), count);
    assert_memory_equal(first, second, count);
}

static uint64_t room_of(int fd)
{
    struct stat status;

    assert_int_equal(fstat(fd, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

/* Copy to the end; how many steps it took. */
static unsigned copy_all(struct copy *copy)
{
    unsigned steps = 1;
    uint64_t before = 0;
    int more;

    while ((more = copy_step(copy)) == 1) {
        assert_true(copy->place >= before);
        before = copy->place;
        steps++;
    }
    assert_int_equal(more, 0);
    assert_int_equal(copy->place, copy->size);
    return steps;
}

static void a_sparse_file_stays_one(void **state)
{
    int from = make_file(), to = make_file();
    uint64_t size = 3000 * MB + 12345;
    struct copy copy;
    struct stat status;

    assert_int_equal(ftruncate(from, (off_t)size), 0);
    fill(from, 0, 5000, 1);
    fill(from, 1000 * MB + 4096, 300000, 2);
    fill(from, size - 45, 45, 3);
    copy_begin(&copy, from, to, size);
    copy_all(&copy);
    assert_int_equal(fstat(to, &status), 0);
    assert_int_equal(status.st_size, size);
    assert_true(room_of(to) <= room_of(from) + MB);
    assert_same(from, to, 0, 8192);
    assert_same(from, to, 1000 * MB, 400000);
    assert_same(from, to, size - 5000, 5000);
    close(from);
    close(to);
}

static void an_empty_tail_belongs_to_the_copy(void **state)
{
    int from = make_file(), to = make_file();
    struct copy copy;
    struct stat status;

    assert_int_equal(ftruncate(from, (off_t)(64 * MB)), 0);
    copy_begin(&copy, from, to, 64 * MB);
    copy_all(&copy);
    assert_int_equal(fstat(to, &status), 0);
    assert_int_equal(status.st_size, 64 * MB);
    close(from);
    close(to);
}

static void it_lets_the_caller_look_up_between_parts(void **state)
{
    int from = make_file(), to = make_file();
    struct copy copy;

    for (unsigned i = 0; i < 80; i++)
        fill(from, i * MB, MB, i);
    copy_begin(&copy, from, to, 80 * MB);
    /* Where blocks can be shared there is nothing to wait for. */
    if (copy.place == 0)
        assert_true(copy_all(&copy) >= 3);
    else
        copy_all(&copy);
    assert_same(from, to, 79 * MB, MB);
    close(from);
    close(to);
}

static void a_source_that_became_shorter_is_a_failure(void **state)
{
    int from = make_file(), to = make_file();
    struct copy copy;

    fill(from, 0, MB, 1);
    copy_begin(&copy, from, to, 2 * MB);
    copy.place = 0;
    assert_int_equal(copy_step(&copy), 1);
    errno = 0;
    assert_int_equal(copy_step(&copy), -1);
    assert_int_equal(errno, EIO);
    close(from);
    close(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sparse_file_stays_one),
        cmocka_unit_test(an_empty_tail_belongs_to_the_copy),
        cmocka_unit_test(it_lets_the_caller_look_up_between_parts),
        cmocka_unit_test(a_source_that_became_shorter_is_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
