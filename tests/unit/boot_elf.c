// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel loaders: made-up ELF files with the PVH entry, multiboot kernels, and each way in which
 * they can be wrong.
 */
#include "tests/unit/boot_fixture.h"

#include <elf.h>

/* ---- ELF ---- */

/* Headers, a note with the PVH entry, 16 bytes of code with 32 bytes of memory. */
struct elf64 {
    Elf64_Ehdr header;
    Elf64_Phdr segments[2];
    Elf64_Nhdr note;
    char note_name[4];
    uint32_t note_entry;
    uint8_t code[16];
};

static void make_elf64(struct elf64 *elf)
{
    memset(elf, 0, sizeof(*elf));
    memcpy(elf->header.e_ident, ELFMAG, SELFMAG);
    elf->header.e_ident[EI_CLASS] = ELFCLASS64;
    elf->header.e_ident[EI_DATA] = ELFDATA2LSB;
    elf->header.e_type = ET_EXEC;
    elf->header.e_machine = EM_X86_64;
    elf->header.e_entry = 0xffffffff81000000;
    elf->header.e_phoff = offsetof(struct elf64, segments);
    elf->header.e_phentsize = sizeof(Elf64_Phdr);
    elf->header.e_phnum = 2;
    elf->segments[0] = (Elf64_Phdr){
        .p_type = PT_NOTE,
        .p_offset = offsetof(struct elf64, note),
        .p_filesz = sizeof(elf->note) + 8,
    };
    elf->segments[1] = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = offsetof(struct elf64, code),
        .p_paddr = 4 * MIB,
        .p_filesz = 16,
        .p_memsz = 32,
    };
    elf->note = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 4, .n_type = 18};
    memcpy(elf->note_name, "Xen", 4);
    elf->note_entry = 4 * MIB + 4;
    memset(elf->code, 0xcc, sizeof(elf->code));
}

static void set_elf64(struct fixture *fixture, const struct elf64 *elf)
{
    set_kernel(fixture, elf, sizeof(*elf));
}

static void a_vmlinux_enters_by_its_pvh_note(void **state)
{
    struct fixture *fixture = *state;
    uint64_t info = PC_BOOT_ZERO_PAGE, map, modules;
    struct elf64 elf;

    add_ram(fixture->memory, 16 * MIB);
    make_elf64(&elf);
    set_elf64(fixture, &elf);
    fixture->image.cmdline = "quiet";
    fixture->image.acpi_rsdp = PC_ACPI_RSDP;
    add_module(fixture, "initrd", NULL, "INITRD", 6);
    memory_write(fixture->memory, 4 * MIB + 20, "dirty", 5);
    assert_boots(fixture);
    assert_int_equal(fixture->cpu.rip, 4 * MIB + 4);
    assert_int_equal(fixture->cpu.gpr[GPR_RBX], info);
    assert_int_equal(fixture->cpu.cr0, 0x11);
    assert_int_equal(peek(fixture, 4 * MIB + 8, 8), 0xccccccccccccccccUL);
    assert_int_equal(peek(fixture, 4 * MIB + 16, 8), 0);
    assert_int_equal(peek(fixture, info, 4), 0x336ec578);
    assert_int_equal(peek(fixture, info + 4, 4), 1);
    assert_int_equal(peek(fixture, info + 12, 4), 1);
    assert_text(fixture, peek(fixture, info + 24, 8), "quiet");
    assert_int_equal(peek(fixture, info + 32, 8), PC_ACPI_RSDP);
    modules = peek(fixture, info + 16, 8);
    assert_text(fixture, peek(fixture, modules, 8), "INITRD");
    assert_int_equal(peek(fixture, modules + 8, 8), 6);
    map = peek(fixture, info + 40, 8);
    assert_int_equal(peek(fixture, info + 48, 4), 5);
    assert_int_equal(peek(fixture, map + 3 * 24, 8), MIB);
    assert_int_equal(peek(fixture, map + 3 * 24 + 8, 8), 15 * MIB);
    assert_int_equal(peek(fixture, map + 3 * 24 + 16, 4), BOOT_REGION_RAM);
}

static void elf_files_that_cannot_boot_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct elf64 elf;

    add_ram(fixture->memory, 16 * MIB);
    make_elf64(&elf);
    elf.header.e_machine = EM_AARCH64;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "kernel: is an ELF file for another machine (AArch64, not x86)");
    make_elf64(&elf);
    elf.header.e_ident[EI_DATA] = ELFDATA2MSB;
    elf.header.e_machine = GUINT16_SWAP_LE_BE(EM_S390);
    set_elf64(fixture, &elf);
    assert_refused(fixture, "another machine (IBM Z");
    make_elf64(&elf);
    elf.header.e_type = ET_REL;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "no executable");
    make_elf64(&elf);
    elf.note.n_type = 17;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "without a PVH entry point");
    make_elf64(&elf);
    elf.note_entry = 0x100;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "outside of memory");
}

static void hostile_elf_headers_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct elf64 elf;

    add_ram(fixture->memory, 16 * MIB);
    make_elf64(&elf);
    elf.header.e_phoff = UINT64_MAX - 8;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "truncated");
    make_elf64(&elf);
    elf.header.e_phnum = 0xffff;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "65535 program headers");
    make_elf64(&elf);
    elf.header.e_phentsize = 3;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "program headers of 3 bytes");
    make_elf64(&elf);
    elf.segments[1].p_memsz = UINT64_MAX - 5;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "too large");
    make_elf64(&elf);
    elf.segments[1].p_filesz = 33;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "longer in the file");
    make_elf64(&elf);
    elf.segments[1].p_offset = 1UL << 62;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "truncated");
    make_elf64(&elf);
    elf.segments[1].p_paddr = 0;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "below 1 MiB");
    make_elf64(&elf);
    elf.segments[1].p_type = PT_NULL;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "nothing to load");
    make_elf64(&elf);
    elf.note.n_namesz = UINT32_MAX;
    set_elf64(fixture, &elf);
    assert_refused(fixture, "without a PVH entry point");
}

static void truncated_elf_files_are_refused_at_every_length(void **state)
{
    struct fixture *fixture = *state;
    struct elf64 elf;

    add_ram(fixture->memory, 16 * MIB);
    make_elf64(&elf);
    for (size_t size = 4; size < offsetof(struct elf64, code) + sizeof(elf.code); size++) {
        set_kernel(fixture, &elf, size);
        assert_refused(fixture, "kernel: ");
    }
}

/* ---- multiboot ---- */

struct multiboot_elf {
    Elf32_Ehdr header;
    Elf32_Phdr segment;
    uint32_t multiboot[3];
    uint8_t code[16];
};

static void make_multiboot(struct multiboot_elf *kernel, uint32_t flags)
{
    memset(kernel, 0, sizeof(*kernel));
    memcpy(kernel->header.e_ident, ELFMAG, SELFMAG);
    kernel->header.e_ident[EI_CLASS] = ELFCLASS32;
    kernel->header.e_ident[EI_DATA] = ELFDATA2LSB;
    kernel->header.e_type = ET_EXEC;
    kernel->header.e_machine = EM_386;
    kernel->header.e_entry = MIB + 16;
    kernel->header.e_phoff = offsetof(struct multiboot_elf, segment);
    kernel->header.e_phentsize = sizeof(Elf32_Phdr);
    kernel->header.e_phnum = 1;
    kernel->segment = (Elf32_Phdr){
        .p_type = PT_LOAD,
        .p_offset = offsetof(struct multiboot_elf, multiboot),
        .p_paddr = MIB,
        .p_filesz = 28,
        .p_memsz = 8192,
    };
    kernel->multiboot[0] = 0x1badb002;
    kernel->multiboot[1] = flags;
    kernel->multiboot[2] = -(0x1badb002 + flags);
}

static void a_multiboot_elf_gets_its_information(void **state)
{
    struct fixture *fixture = *state;
    uint64_t info = PC_BOOT_ZERO_PAGE, modules;
    struct multiboot_elf kernel;

    add_ram(fixture->memory, 16 * MIB);
    make_multiboot(&kernel, 3);
    set_kernel(fixture, &kernel, sizeof(kernel));
    fixture->image.cmdline = "a=1 b";
    add_module(fixture, "first", "with words", "FIRST", 5);
    add_module(fixture, "second", NULL, "SECOND", 6);
    assert_boots(fixture);
    assert_int_equal(fixture->cpu.rip, MIB + 16);
    assert_int_equal(fixture->cpu.gpr[GPR_RAX], 0x2badb002);
    assert_int_equal(fixture->cpu.gpr[GPR_RBX], info);
    assert_int_equal(fixture->cpu.segments[SEG_CS].attributes, 0xc9b);
    assert_int_equal(peek(fixture, info, 4), 0x24d);
    assert_int_equal(peek(fixture, info + 4, 4), PC_EBDA_BASE / 1024);
    assert_int_equal(peek(fixture, info + 8, 4), 15 * 1024);
    assert_text(fixture, peek(fixture, info + 16, 4), "kernel a=1 b");
    assert_int_equal(peek(fixture, info + 20, 4), 2);
    modules = peek(fixture, info + 24, 4);
    assert_int_equal(peek(fixture, modules, 4), MIB + 8192);
    assert_int_equal(peek(fixture, modules + 4, 4), MIB + 8192 + 5);
    assert_text(fixture, peek(fixture, modules + 8, 4), "first with words");
    assert_int_equal(peek(fixture, modules + 16, 4), MIB + 12288);
    assert_text(fixture, peek(fixture, modules + 24, 4), "second");
    assert_text(fixture, MIB + 12288, "SECOND");
    assert_int_equal(peek(fixture, info + 44, 4), 5 * 24);
    assert_int_equal(peek(fixture, peek(fixture, info + 48, 4), 4), 20);
    assert_text(fixture, peek(fixture, info + 64, 4), "Anima");
}

static void the_name_stands_alone_without_arguments(void **state)
{
    struct fixture *fixture = *state;
    struct multiboot_elf kernel;

    add_ram(fixture->memory, 16 * MIB);
    make_multiboot(&kernel, 0);
    set_kernel(fixture, &kernel, sizeof(kernel));
    assert_boots(fixture);
    assert_text(fixture, PC_BOOT_CMDLINE, "kernel");
}

/* A flat image: 8 bytes, the header, 16 bytes of code. */
struct multiboot_flat {
    uint8_t before[8];
    uint32_t multiboot[8];
    uint8_t code[16];
};

static void make_flat(struct multiboot_flat *kernel)
{
    memset(kernel, 0xcc, sizeof(*kernel));
    kernel->multiboot[0] = 0x1badb002;
    kernel->multiboot[1] = 0x10000;
    kernel->multiboot[2] = -(0x1badb002 + 0x10000);
    kernel->multiboot[3] = 3 * MIB + 8;                    /* header */
    kernel->multiboot[4] = 3 * MIB;                        /* load */
    kernel->multiboot[5] = 3 * MIB + sizeof(*kernel);      /* load end */
    kernel->multiboot[6] = 3 * MIB + sizeof(*kernel) + 64; /* bss end */
    kernel->multiboot[7] = 3 * MIB + 40;                   /* entry */
}

static void a_flat_multiboot_image_goes_where_its_header_says(void **state)
{
    struct fixture *fixture = *state;
    struct multiboot_flat kernel;

    add_ram(fixture->memory, 16 * MIB);
    make_flat(&kernel);
    set_kernel(fixture, &kernel, sizeof(kernel));
    memory_write(fixture->memory, 3 * MIB + sizeof(kernel), "dirty", 5);
    assert_boots(fixture);
    assert_int_equal(fixture->cpu.rip, 3 * MIB + 40);
    assert_int_equal(peek(fixture, 3 * MIB, 8), 0xccccccccccccccccUL);
    assert_int_equal(peek(fixture, 3 * MIB + 40, 8), 0xccccccccccccccccUL);
    assert_int_equal(peek(fixture, 3 * MIB + sizeof(kernel), 8), 0);
    kernel.multiboot[5] = 0;
    kernel.multiboot[6] = 0;
    set_kernel(fixture, &kernel, sizeof(kernel));
    assert_boots(fixture);
}

static void hostile_multiboot_headers_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct multiboot_elf elf;
    struct multiboot_flat kernel;

    add_ram(fixture->memory, 16 * MIB);
    make_multiboot(&elf, 0x18);
    set_kernel(fixture, &elf, sizeof(elf));
    assert_refused(fixture, "demands unknown features of multiboot (flags 0x18)");
    make_flat(&kernel);
    kernel.multiboot[3] = 3 * MIB + 9;
    set_kernel(fixture, &kernel, sizeof(kernel));
    assert_refused(fixture, "outside of the file");
    make_flat(&kernel);
    kernel.multiboot[3] = 3 * MIB - 1;
    set_kernel(fixture, &kernel, sizeof(kernel));
    assert_refused(fixture, "outside of the file");
    make_flat(&kernel);
    kernel.multiboot[5] = 3 * MIB - 1;
    set_kernel(fixture, &kernel, sizeof(kernel));
    assert_refused(fixture, "ends before it begins");
    make_flat(&kernel);
    kernel.multiboot[5] = 5 * MIB;
    set_kernel(fixture, &kernel, sizeof(kernel));
    assert_refused(fixture, "truncated");
    make_flat(&kernel);
    kernel.multiboot[6] = UINT32_MAX;
    set_kernel(fixture, &kernel, sizeof(kernel));
    assert_refused(fixture, "too large");
    make_flat(&kernel);
    kernel.multiboot[7] = UINT32_MAX;
    set_kernel(fixture, &kernel, sizeof(kernel));
    assert_refused(fixture, "outside of memory");
}

static void a_module_that_does_not_fit_is_refused(void **state)
{
    struct fixture *fixture = *state;
    g_autofree char *large = g_malloc0(2 * MIB);
    struct multiboot_elf kernel;

    add_ram(fixture->memory, 2 * MIB);
    make_multiboot(&kernel, 0);
    set_kernel(fixture, &kernel, sizeof(kernel));
    add_module(fixture, "big", NULL, large, 2 * MIB);
    assert_refused(fixture, "big: a module of 2 MiB does not fit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_vmlinux_enters_by_its_pvh_note),
        TEST(elf_files_that_cannot_boot_are_refused),
        TEST(hostile_elf_headers_are_refused),
        TEST(truncated_elf_files_are_refused_at_every_length),
        TEST(a_multiboot_elf_gets_its_information),
        TEST(the_name_stands_alone_without_arguments),
        TEST(a_flat_multiboot_image_goes_where_its_header_says),
        TEST(hostile_multiboot_headers_are_refused),
        TEST(a_module_that_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
