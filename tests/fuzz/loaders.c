// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel files: raw bytes, or with the marks of a format set, so that the fuzzer gets past the
 * first look. What is accepted must have its entry point in memory; what is refused gets one line.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/memory.h"

#include "vmm/machine/boot/boot.h"

#include <elf.h>

#define RAM_SIZE   (8UL << 20)
#define IMAGE_SIZE 16384

static struct memory *memory;

static void set_up_memory(void)
{
    memory = memory_create();
    test_memory_add(memory, MEMORY_RAM, 0, RAM_SIZE);
}

static void make_bzimage(uint8_t *image)
{
    static const uint8_t version[] = {0x0f, 0x02};

    image[0x1f1] &= 7;
    memcpy(image + 0x1fe, "\x55\xaa", 2);
    image[0x201] = 0x66;
    memcpy(image + 0x202, "HdrS", 4);
    memcpy(image + 0x206, version, sizeof(version));
    image[0x211] |= 1;
}

static void make_elf(uint8_t *image)
{
    Elf64_Ehdr header;

    memcpy(&header, image, sizeof(header));
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS32 + (header.e_ident[EI_CLASS] & 1);
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    if (header.e_ident[EI_CLASS] == ELFCLASS64) {
        header.e_phoff = sizeof(header);
        header.e_phentsize = sizeof(Elf64_Phdr);
        header.e_phnum &= 7;
    }
    memcpy(image, &header, sizeof(header));
}

static void make_multiboot(uint8_t *image)
{
    uint32_t header[3];

    memcpy(header, image + 64, sizeof(header));
    header[0] = 0x1badb002;
    header[1] &= 0x10007;
    header[2] = -(header[0] + header[1]);
    memcpy(image + 64, header, sizeof(header));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    uint8_t format = fuzz_byte(&input);
    g_autofree uint8_t *bytes = g_malloc0(IMAGE_SIZE);
    size_t length = format & 4 ? IMAGE_SIZE : MAX(MIN(input.size, IMAGE_SIZE), 1024);
    struct boot_file module = {.name = "module"};
    struct boot_image image = {.kernel.name = "kernel", .cmdline = "words", .modules = &module};
    g_autofree struct cpu_state *cpu = g_new0(struct cpu_state, 1);
    g_autoptr(GError) error = NULL;
    uint8_t byte;

    if (!memory)
        set_up_memory();
    memcpy(bytes, input.data, MIN(input.size, IMAGE_SIZE));
    if ((format & 3) == 1)
        make_bzimage(bytes);
    if ((format & 3) == 2)
        make_elf(bytes);
    if ((format & 3) == 3)
        make_multiboot(bytes);
    image.memory = memory;
    image.kernel.fd = fuzz_file(bytes, length);
    module.fd = image.kernel.fd;
    image.module_count = format >> 3 & 1;
    if (boot_load(&image, cpu, &error))
        fuzz_require(memory_read(memory, cpu->rip, &byte, 1));
    else
        fuzz_require(error && !strchr(error->message, '\n'));
    close(image.kernel.fd);
    return 0;
}
