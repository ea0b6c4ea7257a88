// SPDX-License-Identifier: Apache-2.0
/*
 * Copying an image: by sharing its blocks where the file system can (FICLONE), else the parts that
 * have data (SEEK_DATA), so that a sparse file stays one.
 */
#include "lib/copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP   (32ULL << 20) /* bytes between two looks at the caller */
#define BUFFER (1U << 18)

void copy_begin(struct copy *copy, int from, int to, uint64_t size)
{
    *copy = (struct copy){.from = from, .to = to, .size = size};
    if (ioctl(to, FICLONE, from) == 0)
        copy->place = size;
}

/* By memory, where the kernel cannot copy between these files. */
static ssize_t copy_by_hand(struct copy *copy, size_t count)
{
    g_autofree char *buffer = g_malloc(BUFFER);
    ssize_t got = pread(copy->from, buffer, MIN(count, BUFFER), (off_t)copy->place);
    ssize_t put = 0;

    while (got > 0 && put < got) {
        ssize_t done = pwrite(copy->to, buffer + put, got - put, (off_t)copy->place + (off_t)put);

        if (done < 0 && errno != EINTR)
            return -1;
        put += MAX(done, 0);
    }
    return got;
}

static ssize_t copy_part(struct copy *copy, size_t count)
{
    loff_t from = (loff_t)copy->place, to = from;
    ssize_t done = copy_file_range(copy->from, &from, copy->to, &to, count, 0);

    if (done < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
        done = copy_by_hand(copy, count);
    return done;
}

/* Whether the source still is as long as it was. */
static bool is_whole(const struct copy *copy)
{
    struct stat status;

    if (fstat(copy->from, &status) != 0)
        return false;
    errno = EIO;
    return (uint64_t)status.st_size >= copy->size;
}

/* To where the next data begins, or the end. */
static bool skip_hole(struct copy *copy)
{
    off_t data = lseek(copy->from, (off_t)copy->place, SEEK_DATA);

    if (data < 0 && (errno != ENXIO || !is_whole(copy)))
        return false;
    copy->place = data < 0 ? copy->size : MIN((uint64_t)data, copy->size);
    return true;
}

int copy_step(struct copy *copy)
{
    uint64_t end;
    off_t hole;

    if (copy->place < copy->size && !skip_hole(copy))
        return -1;
    if (copy->place >= copy->size)
        return ftruncate(copy->to, (off_t)copy->size);
    hole = lseek(copy->from, (off_t)copy->place, SEEK_HOLE);
    end = MIN(copy->size, copy->place + STEP);
    if (hole > (off_t)copy->place)
        end = MIN(end, (uint64_t)hole);
    while (copy->place < end) {
        ssize_t done = copy_part(copy, end - copy->place);

        if (done == 0)
            errno = EIO;
        if (done <= 0 && errno != EINTR)
            return -1;
        copy->place += MAX(done, 0);
    }
    return 1;
}
