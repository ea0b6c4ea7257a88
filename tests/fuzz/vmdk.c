// SPDX-License-Identifier: Apache-2.0
/*
 * VMDK images: any bytes, and a sound one with some of its bytes changed. What is made of one has
 * the disk's size and no more data than was counted; a fault is one line.
 */
#include "tests/fuzz/fuzz.h"

#include "vmm/block/vmdk.h"

#define DISK (40U << 20)
#define MOST (1ULL << 40)

static bool append(void *context, const void *data, size_t size, GError **error)
{
    g_byte_array_append(context, data, size);
    return true;
}

/* A small image with two tables. */
static GByteArray *make_image(void)
{
    int disk = memfd_create("disk", MFD_CLOEXEC);
    GByteArray *image = g_byte_array_new();
    struct vmdk_sink sink = {append, image};

    fuzz_require(ftruncate(disk, DISK) == 0 && pwrite(disk, "a", 1, 100) == 1 &&
                 pwrite(disk, "b", 1, DISK - 1) == 1);
    fuzz_require(vmdk_store(disk, DISK, "d", 1, &sink, NULL, NULL));
    close(disk);
    return image;
}

static void restore(struct vmdk *image, GError **error)
{
    int target = memfd_create("target", MFD_CLOEXEC);

    if (vmdk_capacity(image) <= MOST && vmdk_restore(image, target, 2, NULL, error))
        fuzz_require((uint64_t)lseek(target, 0, SEEK_END) == vmdk_capacity(image));
    close(target);
}

static void try(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    int fd = fuzz_file(data, size);
    struct vmdk *image = vmdk_open(fd, 0, size, &error);
    uint64_t bytes;

    if (image && vmdk_count(image, &bytes, &error)) {
        fuzz_require(bytes <= vmdk_capacity(image));
        restore(image, &error);
    }
    fuzz_require(!error || !strchr(error->message, '\n'));
    vmdk_close(image);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static GByteArray *image;
    struct fuzz_input input = {data, size};
    g_autofree uint8_t *copy = NULL;

    if (!image)
        image = make_image();
    try(data, size);
    copy = g_memdup2(image->data, image->len);
    /* The header, the footer, or anything. */
    switch (fuzz_byte(&input) % 3) {
    case 0:
        fuzz_patch(&input, copy, 512);
        break;
    case 1:
        fuzz_patch(&input, copy + image->len - 4096, 4096);
        break;
    default:
        fuzz_patch(&input, copy, image->len);
    }
    try(copy, image->len);
    return 0;
}
