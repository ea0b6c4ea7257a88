// SPDX-License-Identifier: Apache-2.0
/* Locks of disks: two descriptors of one file, and a file system without locks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/monitor/disks.h"

static char path[64];

static int create(void **state)
{
    g_strlcpy(path, "/tmp/anima-lock-XXXXXX", sizeof(path));
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    close(fd);
    return 0;
}

static int destroy(void **state)
{
    return unlink(path);
}

static int opened(int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Somebody locks a byte as QEMU's protocol says. */
static void lock_byte(int fd, off_t at)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
}

static bool is_locked(int fd, off_t at)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

    assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
    return lock.l_type != F_UNLCK;
}

static void a_writer_is_alone(void **state)
{
    int writer = opened(O_RDWR), other = opened(O_RDWR), reader = opened(O_RDONLY);
    g_autoptr(GError) error = NULL;

    assert_true(disk_lock(writer, path, false, NULL));
    assert_false(disk_lock(other, path, false, &error));
    assert_non_null(strstr(error->message, ": in use by "));
    assert_false(disk_lock(reader, path, true, NULL));
    close(other);
    close(reader);
    /* Who was refused has left nothing. */
    close(writer);
    writer = opened(O_RDWR);
    assert_true(disk_lock(writer, path, false, NULL));
    close(writer);
}

static void a_duplicate_keeps_the_lock(void **state)
{
    int first = opened(O_RDWR), second = opened(O_RDWR);

    assert_true(disk_lock(first, path, false, NULL));
    int copy = dup(first);
    close(first);
    assert_false(disk_lock(second, path, false, NULL));
    close(copy);
    assert_true(disk_lock(second, path, false, NULL));
    close(second);
}

static void readers_share(void **state)
{
    int first = opened(O_RDONLY), second = opened(O_RDONLY), writer = opened(O_RDWR);

    assert_true(disk_lock(first, path, true, NULL));
    assert_true(disk_lock(second, path, true, NULL));
    assert_false(disk_lock(writer, path, false, NULL));
    close(first);
    close(second);
    close(writer);
}

/* Bytes 100 + N: does it; 200 + N: does not bear it; N 0 reads, 1 writes, 3 changes the size. */
static void the_bytes_are_qemus(void **state)
{
    static const off_t writers[] = {100, 101, 201, 203};
    int writer = opened(O_RDWR), other = opened(O_RDWR);

    assert_true(disk_lock(writer, path, false, NULL));
    for (off_t at = 0; at < 300; at++) {
        bool expected = false;
        for (unsigned i = 0; i < G_N_ELEMENTS(writers); i++)
            expected |= at == writers[i];
        assert_int_equal(is_locked(other, at), expected);
    }
    close(writer);
    /* One who resizes, and one who bears no reader. */
    for (off_t at = 103; at <= 200; at += 97) {
        writer = opened(O_RDWR);
        lock_byte(other, at);
        assert_false(disk_lock(writer, path, false, NULL));
        close(writer);
        close(other);
        other = opened(O_RDWR);
    }
    /* One who reads and bears everything. */
    writer = opened(O_RDWR);
    lock_byte(other, 100);
    assert_true(disk_lock(writer, path, false, NULL));
    close(writer);
    close(other);
}

/* A descriptor that only names its file can have no locks, as on some file systems no file can. */
static void without_locks_a_disk_is_only_read(void **state)
{
    int fd = opened(O_PATH);
    g_autoptr(GError) error = NULL;

    assert_false(disk_lock(fd, "some.img", false, &error));
    assert_non_null(strstr(error->message, "disk: some.img: it cannot be locked"));
    assert_true(disk_lock(fd, "some.img", true, NULL));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_writer_is_alone, create, destroy),
        cmocka_unit_test_setup_teardown(a_duplicate_keeps_the_lock, create, destroy),
        cmocka_unit_test_setup_teardown(readers_share, create, destroy),
        cmocka_unit_test_setup_teardown(the_bytes_are_qemus, create, destroy),
        cmocka_unit_test_setup_teardown(without_locks_a_disk_is_only_read, create, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
