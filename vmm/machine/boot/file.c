// SPDX-License-Identifier: Apache-2.0
/*
 * Reading kernels and modules, straight into guest memory where that is their place.
 */
#include "vmm/machine/boot/internal.h"

#include "vmm/memory/dma.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than the pieces of RAM below 4 GiB. */
#define SEGMENTS_MAX 16

bool boot_refuse(const struct boot_file *file, GError **error, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "%s: %s", file->name, what);
    return false;
}

bool boot_file_size(const struct boot_file *file, uint64_t *size, GError **error)
{
    struct stat st;

    if (fstat(file->fd, &st) < 0)
        return boot_refuse(file, error, "cannot be read: %s", g_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return boot_refuse(file, error, "is no regular file");
    *size = (uint64_t)st.st_size;
    return true;
}

bool boot_file_read(const struct boot_file *file, uint64_t offset, void *buffer, size_t size,
                    GError **error)
{
    uint8_t *at = buffer;

    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return boot_refuse(file, error, "is truncated");
    while (size) {
        ssize_t got = pread(file->fd, at, size, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return boot_refuse(file, error, "cannot be read: %s", g_strerror(errno));
        if (got == 0)
            return boot_refuse(file, error, "is truncated");
        at += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return true;
}

bool boot_file_load(const struct boot_image *image, const struct boot_file *file, uint64_t offset,
                    uint64_t size, uint64_t gpa, GError **error)
{
    struct dma_space space = {.memory = image->memory, .enabled = true};
    struct dma_segment segments[SEGMENTS_MAX];
    unsigned count;
    bool read = true;

    if (size == 0)
        return true;
    count = dma_map(&space, gpa, size, DMA_FROM_DEVICE, segments, SEGMENTS_MAX);
    if (count == 0)
        return boot_refuse(file, error, "does not fit into the machine's memory");
    for (unsigned i = 0; read && i < count; i++) {
        read = boot_file_read(file, offset, segments[i].host, segments[i].length, error);
        offset += segments[i].length;
    }
    dma_unmap(&space, gpa, size, DMA_FROM_DEVICE, size);
    return read;
}

void boot_zero(struct memory *memory, uint64_t gpa, uint64_t size)
{
    struct dma_space space = {.memory = memory, .enabled = true};
    struct dma_segment segments[SEGMENTS_MAX];
    unsigned count = dma_map(&space, gpa, size, DMA_FROM_DEVICE, segments, SEGMENTS_MAX);

    for (unsigned i = 0; i < count; i++)
        memset(segments[i].host, 0, segments[i].length);
    dma_unmap(&space, gpa, size, DMA_FROM_DEVICE, size);
}
