// SPDX-License-Identifier: Apache-2.0
/*
 * Disks are files or block devices, opened as the definition says and checked before anything else
 * of the machine is made.
 */
#include "vmm/monitor/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/schema.h"

#define SECTOR 512

static bool fail(GError **error, const char *path, const char *what)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "disk: %s: %s", path, what);
    return false;
}

/* What to do about a failed open. */
static const char *advice(int problem, bool readonly, bool direct)
{
    if (problem == EINVAL && direct)
        return "its file system has no direct I/O; use another cache mode";
    if (problem == EACCES && !readonly)
        return "no permission to write; open it read-only with ,readonly or change its mode";
    if (problem == EPERM && !readonly)
        return "nobody may change it (lsattr tells why); open it read-only with ,readonly";
    if (problem == EROFS)
        return "its file system is read-only; open it read-only with ,readonly";
    if (problem == EBUSY)
        return "the host itself uses it; unmount it first, or open it read-only with ,readonly";
    return problem == EISDIR ? "this is a folder" : g_strerror(problem);
}

/* A block device that is mounted is refused to writers (by O_EXCL). */
static int open_disk(const char *path, bool readonly, bool direct)
{
    int flags = (readonly ? O_RDONLY : O_RDWR) | (direct ? O_DIRECT : 0);
    struct stat status;

    if (!readonly && stat(path, &status) == 0 && S_ISBLK(status.st_mode))
        flags |= O_EXCL;
    /* O_NONBLOCK, so that a FIFO does not keep us waiting before it is refused. */
    return open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/* In a raw file all bytes are the disk's; an image ends wherever its format has it. */
static bool check_file(int fd, const char *path, bool raw, GError **error)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return fail(error, path, g_strerror(errno));
    if (S_ISDIR(status.st_mode))
        return fail(error, path, "this is a folder");
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return fail(error, path, "this is neither a file nor a block device");
    off_t size = lseek(fd, 0, SEEK_END);
    if (size == 0)
        return fail(error, path, "it is empty; give it a size, as with truncate -s 1G");
    if (size < 0 || (raw && size % SECTOR))
        return fail(error, path, "its size is not a multiple of 512 bytes");
    return true;
}

static bool check_is_once(const struct definition *definition, unsigned index, int fd,
                          const char *path, GError **error)
{
    struct stat own, other;

    for (unsigned i = 0; fstat(fd, &own) == 0 && i < index; i++) {
        const char *before = definition_member_text(definition, OPTION_DISK, i, "file");

        if (stat(before, &other) == 0 && other.st_dev == own.st_dev && other.st_ino == own.st_ino)
            return fail(error, path, "the same file is given twice");
    }
    return true;
}

int disk_open(const struct definition *definition, unsigned index, GError **error)
{
    const char *path = definition_member_text(definition, OPTION_DISK, index, "file");
    const char *cache = definition_member_text(definition, OPTION_DISK, index, "cache");
    bool readonly = definition_member_number(definition, OPTION_DISK, index, "readonly");
    bool direct = g_str_equal(cache, "none");
    bool raw = g_str_equal(definition_member_text(definition, OPTION_DISK, index, "format"), "raw");
    int fd = open_disk(path, readonly, direct);

    if (fd < 0) {
        fail(error, path, advice(errno, readonly, direct));
        return -1;
    }
    if (check_file(fd, path, raw, error) && check_is_once(definition, index, fd, path, error) &&
        disk_lock(fd, path, readonly, error)) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
        return fd;
    }
    close(fd);
    return -1;
}
