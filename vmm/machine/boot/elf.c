// SPDX-License-Identifier: Apache-2.0
/*
 * ELF executables of both classes for x86 (System V ABI, chapters 4 and 5). Segments are loaded at
 * their physical addresses.
 */
#include "vmm/machine/boot/internal.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>

static const struct {
    unsigned machine;
    const char *name;
} machine_names[] = {
    {EM_AARCH64, "AArch64"}, {EM_ARM, "ARM"},
    {EM_RISCV, "RISC-V"},    {EM_PPC64, "64-bit PowerPC"},
    {EM_PPC, "PowerPC"},     {EM_S390, "IBM Z"},
    {EM_MIPS, "MIPS"},       {EM_SPARCV9, "SPARC"},
    {EM_IA_64, "Itanium"},   {EM_LOONGARCH, "LoongArch"},
};

bool elf_is(const uint8_t *head, size_t length)
{
    return length >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG);
}

static bool refuse_machine(const struct boot_file *file, unsigned machine, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(machine_names); i++)
        if (machine_names[i].machine == machine)
            return boot_refuse(file, error, "is an ELF file for another machine (%s, not x86)",
                               machine_names[i].name);
    return boot_refuse(file, error, "is an ELF file for another machine (number %u, not x86)",
                       machine);
}

/* Both classes begin alike: identification, type, machine. */
static bool check_ident(const struct boot_file *file, const Elf32_Ehdr *header, GError **error)
{
    if (header->e_ident[EI_DATA] != ELFDATA2LSB) {
        /* Its machine number is in the other byte order, too. */
        return refuse_machine(file, GUINT16_SWAP_LE_BE(header->e_machine), error);
    }
    if (header->e_machine != EM_386 && header->e_machine != EM_X86_64)
        return refuse_machine(file, header->e_machine, error);
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return boot_refuse(file, error, "is an ELF file, but no executable");
    return true;
}

/* Where the program headers lie, and that they are of the expected size and number. */
static bool check_table(const struct boot_file *file, unsigned count, unsigned entry_size,
                        unsigned expected, GError **error)
{
    if (count == 0 || count > ELF_SEGMENTS_MAX)
        return boot_refuse(file, error, "has %u program headers; 1 to %u are taken", count,
                           ELF_SEGMENTS_MAX);
    if (entry_size != expected)
        return boot_refuse(file, error, "has program headers of %u bytes instead of %u", entry_size,
                           expected);
    return true;
}

/* The classes differ in the width and order of fields only. */
#define DEFINE_OPEN(bits)                                                                        \
    static bool open_##bits(const struct boot_file *file, struct elf_image *elf, GError **error) \
    {                                                                                            \
        Elf##bits##_Phdr headers[ELF_SEGMENTS_MAX];                                              \
        Elf##bits##_Ehdr header;                                                                 \
                                                                                                 \
        if (!boot_file_read(file, 0, &header, sizeof(header), error) ||                          \
            !check_table(file, header.e_phnum, header.e_phentsize, sizeof(*headers), error) ||   \
            !boot_file_read(file, header.e_phoff, headers, header.e_phnum * sizeof(*headers),    \
                            error))                                                              \
            return false;                                                                        \
        elf->entry = header.e_entry;                                                             \
        elf->count = header.e_phnum;                                                             \
        for (unsigned i = 0; i < elf->count; i++)                                                \
            elf->segments[i] = (struct elf_segment){                                             \
                .type = headers[i].p_type,                                                       \
                .offset = headers[i].p_offset,                                                   \
                .address = headers[i].p_paddr,                                                   \
                .file_size = headers[i].p_filesz,                                                \
                .memory_size = headers[i].p_memsz,                                               \
            };                                                                                   \
        return true;                                                                             \
    }
DEFINE_OPEN(32)
DEFINE_OPEN(64)

bool elf_open(const struct boot_file *file, struct elf_image *elf, GError **error)
{
    Elf32_Ehdr header;

    if (!boot_file_read(file, 0, &header, sizeof(header), error) ||
        !check_ident(file, &header, error))
        return false;
    if (header.e_ident[EI_CLASS] == ELFCLASS32)
        return open_32(file, elf, error);
    if (header.e_ident[EI_CLASS] == ELFCLASS64)
        return open_64(file, elf, error);
    return boot_refuse(file, error, "is an ELF file of an unknown class");
}

static bool load_segment(const struct boot_image *image, const struct elf_segment *segment,
                         GError **error)
{
    if (segment->file_size > segment->memory_size)
        return boot_refuse(&image->kernel, error,
                           "has a segment that is longer in the file than in memory");
    if (!boot_claim(image, segment->address, segment->memory_size, error) ||
        !boot_file_load(image, &image->kernel, segment->offset, segment->file_size,
                        segment->address, error))
        return false;
    boot_zero(image->memory, segment->address + segment->file_size,
              segment->memory_size - segment->file_size);
    return true;
}

bool elf_load(const struct boot_image *image, const struct elf_image *elf, uint64_t *end,
              GError **error)
{
    *end = 0;
    for (unsigned i = 0; i < elf->count; i++) {
        const struct elf_segment *segment = &elf->segments[i];

        if (segment->type != PT_LOAD || segment->memory_size == 0)
            continue;
        if (!load_segment(image, segment, error))
            return false;
        *end = MAX(*end, segment->address + segment->memory_size);
    }
    return *end || boot_refuse(&image->kernel, error, "has nothing to load");
}
