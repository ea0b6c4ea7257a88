// SPDX-License-Identifier: Apache-2.0
/*
 * What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput; what it proves,
 * beyond that nothing crashes, it checks with fuzz_require.
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold for every input. */
#define fuzz_require(condition)                                                     \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* The input, taken from the front. What is missing reads as zero. */
struct fuzz_input {
    const uint8_t *data;
    size_t size;
};

static inline void fuzz_take(struct fuzz_input *input, void *out, size_t size)
{
    size_t there = MIN(size, input->size);

    memset(out, 0, size);
    memcpy(out, input->data, there);
    input->data += there;
    input->size -= there;
}

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
    uint8_t byte;

    fuzz_take(input, &byte, 1);
    return byte;
}

/* Change `size` bytes at `bytes` as the input says: pairs of a position and a value. */
static inline void fuzz_patch(struct fuzz_input *input, uint8_t *bytes, size_t size)
{
    while (size && input->size >= 3) {
        uint16_t position;

        fuzz_take(input, &position, sizeof(position));
        bytes[position % size] = fuzz_byte(input);
    }
}

/* A file of these bytes, at its beginning. The caller closes it. */
static inline int fuzz_file(const void *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    fuzz_require(fd >= 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return fd;
}
