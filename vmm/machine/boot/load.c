// SPDX-License-Identifier: Apache-2.0
/*
 * Which loader a kernel file wants, by its content.
 */
#include "vmm/machine/boot/internal.h"

#include <string.h>

static bool has_magic(const uint8_t *head, size_t length, const char *magic, size_t size)
{
    return length >= size && !memcmp(head, magic, size);
}

/* Printable text and nothing else, as far as one can see. */
static bool is_text(const uint8_t *head, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!g_ascii_isprint(head[i]) && !g_ascii_isspace(head[i]))
            return false;
    return true;
}

static bool refuse_unknown(const struct boot_file *file, const uint8_t *head, size_t length,
                           GError **error)
{
    if (is_text(head, length))
        return boot_refuse(file, error, "is a text file, not a kernel");
    if (has_magic(head, length, "\x1f\x8b", 2) || has_magic(head, length, "\xfd\x37zXZ", 5) ||
        has_magic(head, length, "\x28\xb5\x2f\xfd", 4))
        return boot_refuse(file, error, "is compressed; unpack it first");
    return boot_refuse(file, error, "is no kernel: neither bzImage nor ELF nor multiboot");
}

bool boot_load(const struct boot_image *image, struct cpu_state *state, GError **error)
{
    uint8_t head[BOOT_HEAD_SIZE];
    uint64_t size;
    size_t length;

    if (!boot_file_size(&image->kernel, &size, error))
        return false;
    if (size == 0)
        return boot_refuse(&image->kernel, error, "is empty");
    length = MIN(size, BOOT_HEAD_SIZE);
    if (!boot_file_read(&image->kernel, 0, head, length, error))
        return false;
    boot_write_bios_data(image->memory);
    if (bzimage_is(head, length))
        return bzimage_load(image, state, error);
    if (multiboot_is(head, length))
        return multiboot_load(image, head, length, state, error);
    if (elf_is(head, length))
        return pvh_load(image, state, error);
    return refuse_unknown(&image->kernel, head, length, error);
}
