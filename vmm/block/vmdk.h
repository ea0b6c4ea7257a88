// SPDX-License-Identifier: Apache-2.0
/*
 * VMDK images that are one file (VMware, "Virtual Disk Format 5.0"): hosted sparse extents, as
 * packages in OVF have them (compressed, "streamOptimized") and as disks in use are
 * ("monolithicSparse"). They are turned into raw files and made of such, never used in place.
 *
 * An image is anybody's: nothing in it is believed before it is checked, and what it takes of
 * memory is bounded. Work is spread over threads; the calls return when it is done. VMM_ERROR,
 * with a phrase that does not name the file.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- reading ---- */

struct vmdk;

/* Examine the image in bytes `at` to `at` + `size` of the file `fd`, which is read by pread(2) as
 * long as the image is open. NULL and an error for what is no such image, or is one that needs
 * other files. */
struct vmdk *vmdk_open(int fd, uint64_t at, uint64_t size, GError **error);
/* NULL is fine. */
void vmdk_close(struct vmdk *image);

/* Size of the disk in bytes, a multiple of 512. */
uint64_t vmdk_capacity(const struct vmdk *image);

/* Bytes of the disk that the image has data for: more than that is not written. False when its
 * tables cannot be. */
bool vmdk_count(struct vmdk *image, uint64_t *bytes, GError **error);

/* Told on the caller's thread several times a second: bytes of the disk that are done. */
struct vmdk_progress {
    void (*tell)(void *context, uint64_t done);
    void *context;
};

/* Write the disk to the empty file `target`, which gets its size; what is zero stays a hole. */
bool vmdk_restore(struct vmdk *image, int target, unsigned threads,
                  const struct vmdk_progress *progress, GError **error);

/* ---- writing ---- */

/* Takes the image's bytes in their order. */
struct vmdk_sink {
    bool (*write)(void *context, const void *data, size_t size, GError **error);
    void *context;
};

/* Make a streamOptimized image of the raw disk `disk`, `size` bytes (a multiple of 512), read by
 * pread(2); holes are not read. `name` stands in the image for its own file's name. */
bool vmdk_store(int disk, uint64_t size, const char *name, unsigned threads,
                const struct vmdk_sink *sink, const struct vmdk_progress *progress, GError **error);
