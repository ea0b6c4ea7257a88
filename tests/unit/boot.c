// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel loaders: made-up images of each format, each way to be wrong, and a real kernel where the
 * cache has one.
 */
#include "vmm/machine/boot/boot.h"

#include "vmm/machine/pc/layout.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB 0x100000UL

struct fixture {
    struct memory *memory;
    struct boot_image image;
    struct boot_file modules[3];
    struct cpu_state cpu;
};

static void add_ram(struct memory *memory, uint64_t size)
{
    uint64_t low = MIN(size, PC_LOW_RAM_END);
    int fd = memory_memfd("ram", size, NULL);

    assert_true(memory_add(memory, "low", MEMORY_RAM, 0, low, fd, 0, NULL));
    if (size > low)
        assert_true(
            memory_add(memory, "high", MEMORY_RAM, PC_HIGH_RAM_BASE, size - low, fd, low, NULL));
    close(fd);
}

static int setup(void **state)
{
    struct fixture *fixture = g_new0(struct fixture, 1);

    fixture->memory = memory_create();
    fixture->image.memory = fixture->memory;
    fixture->image.kernel = (struct boot_file){.fd = -1, .name = "kernel"};
    fixture->image.modules = fixture->modules;
    for (unsigned i = 0; i < G_N_ELEMENTS(fixture->modules); i++)
        fixture->modules[i].fd = -1;
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    memory_destroy(fixture->memory);
    if (fixture->image.kernel.fd >= 0)
        close(fixture->image.kernel.fd);
    for (unsigned i = 0; i < fixture->image.module_count; i++)
        close(fixture->modules[i].fd);
    g_free(fixture);
    return 0;
}

static int file_of(const void *data, size_t size)
{
    int fd = memfd_create("file", MFD_CLOEXEC);

    assert_int_equal(write(fd, data, size), size);
    return fd;
}

static void set_kernel(struct fixture *fixture, const void *data, size_t size)
{
    if (fixture->image.kernel.fd >= 0)
        close(fixture->image.kernel.fd);
    fixture->image.kernel.fd = file_of(data, size);
}

static void add_module(struct fixture *fixture, const char *name, const char *arguments,
                       const char *data, size_t size)
{
    fixture->modules[fixture->image.module_count++] =
        (struct boot_file){.fd = file_of(data, size), .name = name, .arguments = arguments};
}

static void assert_boots(struct fixture *fixture)
{
    g_autoptr(GError) error = NULL;

    if (!boot_load(&fixture->image, &fixture->cpu, &error))
        fail_msg("%s", error->message);
}

static void assert_refused(struct fixture *fixture, const char *part)
{
    g_autoptr(GError) error = NULL;
    struct cpu_state untouched = {.rip = 0xfff0};

    fixture->cpu = untouched;
    assert_false(boot_load(&fixture->image, &fixture->cpu, &error));
    if (!strstr(error->message, part))
        fail_msg("\"%s\" does not say \"%s\"", error->message, part);
    assert_null(strchr(error->message, '\n'));
    assert_int_equal(fixture->cpu.rip, 0xfff0);
}

static uint64_t peek(struct fixture *fixture, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    assert_true(memory_read(fixture->memory, gpa, &value, size));
    return value;
}

static void assert_text(struct fixture *fixture, uint64_t gpa, const char *text)
{
    char buffer[64] = {0};

    assert_in_range(strlen(text), 0, sizeof(buffer) - 1);
    assert_true(memory_read(fixture->memory, gpa, buffer, strlen(text) + 1));
    assert_string_equal(buffer, text);
}

/* ---- files that are no kernel ---- */

static void foreign_files_are_refused_by_name(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t binary[5000] = {1, 2, 3};
    int pipes[2];

    add_ram(fixture->memory, 16 * MIB);
    set_kernel(fixture, "Hello, this is text.\n", 21);
    assert_refused(fixture, "kernel: is a text file");
    set_kernel(fixture, binary, sizeof(binary));
    assert_refused(fixture, "kernel: is no kernel");
    set_kernel(fixture, "", 0);
    assert_refused(fixture, "kernel: is empty");
    set_kernel(fixture, "\x1f\x8b\x08\0\0\0", 6);
    assert_refused(fixture, "kernel: is compressed");
    close(fixture->image.kernel.fd);
    assert_int_equal(pipe(pipes), 0);
    fixture->image.kernel.fd = pipes[0];
    close(pipes[1]);
    assert_refused(fixture, "kernel: is no regular file");
}

/* ---- bzImage ---- */

#define SETUP_SIZE   (2 * 512)
#define PAYLOAD_SIZE 4096

/* One setup sector beside the first; a payload whose every byte is its position. */
struct bzimage {
    uint8_t bytes[SETUP_SIZE + PAYLOAD_SIZE];
};

static struct setup_header *header_of(struct bzimage *bz)
{
    return (struct setup_header *)(bz->bytes + 0x1f1);
}

static void make_bzimage(struct bzimage *bz)
{
    struct setup_header *header = header_of(bz);

    memset(bz, 0, sizeof(*bz));
    *header = (struct setup_header){
        .setup_sects = 1,
        .syssize = PAYLOAD_SIZE / 16,
        .boot_flag = 0xaa55,
        .jump = 0x66eb,
        .header = 0x53726448,
        .version = 0x020f,
        .loadflags = LOADED_HIGH,
        .initrd_addr_max = 0x7fffffff,
        .relocatable_kernel = 1,
        .xloadflags = XLF_KERNEL_64,
        .cmdline_size = 2047,
        .pref_address = 2 * MIB,
        .init_size = MIB,
    };
    for (unsigned i = 0; i < PAYLOAD_SIZE; i++)
        bz->bytes[SETUP_SIZE + i] = (uint8_t)i;
}

static void set_bzimage(struct fixture *fixture, const struct bzimage *bz)
{
    set_kernel(fixture, bz, sizeof(*bz));
}

static void a_64_bit_bzimage_enters_long_mode(void **state)
{
    struct fixture *fixture = *state;
    struct cpu_state *cpu = &fixture->cpu;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    set_bzimage(fixture, &bz);
    fixture->image.cmdline = "console=ttyS0";
    fixture->image.acpi_rsdp = PC_ACPI_RSDP;
    assert_boots(fixture);
    assert_int_equal(cpu->rip, 2 * MIB + 0x200);
    assert_int_equal(cpu->gpr[GPR_RSI], PC_BOOT_ZERO_PAGE);
    assert_int_equal(cpu->msrs.efer, 0x500);
    assert_int_equal(cpu->cr0, 0x80000011);
    assert_int_equal(cpu->cr4, 0x20);
    assert_int_equal(cpu->segments[SEG_CS].selector, 0x10);
    assert_int_equal(cpu->segments[SEG_CS].attributes, 0xa9b);
    assert_int_equal(cpu->segments[SEG_SS].selector, 0x18);
    assert_int_equal(cpu->segments[SEG_SS].attributes, 0xc93);
    assert_int_equal(cpu->rflags, 2);
    assert_int_equal(peek(fixture, 2 * MIB + 0x201, 1), 1);
    assert_int_equal(peek(fixture, 2 * MIB + PAYLOAD_SIZE - 1, 1), 0xff);
    assert_text(fixture, PC_BOOT_CMDLINE, "console=ttyS0");
}

static void the_page_tables_map_four_gib_to_themselves(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    set_bzimage(fixture, &bz);
    assert_boots(fixture);
    for (uint64_t linear = 0; linear < PC_HIGH_RAM_BASE; linear += 2 * MIB) {
        uint64_t entry = peek(fixture, fixture->cpu.cr3, 8);

        assert_int_equal(entry & 0xfff, 3);
        entry = peek(fixture, (entry & ~0xfffUL) + (linear >> 30) * 8, 8);
        assert_int_equal(entry & 0xfff, 3);
        entry = peek(fixture, (entry & ~0xfffUL) + (linear >> 21 & 511) * 8, 8);
        assert_int_equal(entry, linear | 0x83);
    }
}

static void the_zero_page_tells_all(void **state)
{
    struct fixture *fixture = *state;
    struct boot_params params;
    struct bzimage bz;

    add_ram(fixture->memory, 5UL << 30);
    make_bzimage(&bz);
    set_bzimage(fixture, &bz);
    fixture->image.acpi_rsdp = 0xe0000;
    add_module(fixture, "initrd", NULL, "INITRD", 6);
    assert_boots(fixture);
    assert_true(memory_read(fixture->memory, PC_BOOT_ZERO_PAGE, &params, sizeof(params)));
    assert_int_equal(params.hdr.header, 0x53726448);
    assert_int_equal(params.hdr.type_of_loader, 0xff);
    assert_int_equal(params.hdr.cmd_line_ptr, PC_BOOT_CMDLINE);
    assert_int_equal(params.hdr.code32_start, 2 * MIB);
    assert_int_equal(params.hdr.ramdisk_size, 6);
    assert_int_equal(params.hdr.ramdisk_image, 0x7ffff000);
    assert_int_equal(params.acpi_rsdp_addr, 0xe0000);
    assert_text(fixture, params.hdr.ramdisk_image, "INITRD");
    assert_int_equal(params.e820_entries, 6);
    assert_int_equal(params.e820_table[0].size, PC_EBDA_BASE);
    assert_int_equal(params.e820_table[2].addr, PC_ACPI_RSDP);
    assert_int_equal(params.e820_table[2].type, BOOT_REGION_RESERVED);
    assert_int_equal(params.e820_table[3].addr, MIB);
    assert_int_equal(params.e820_table[3].size, PC_LOW_RAM_END - MIB);
    assert_int_equal(params.e820_table[4].addr, PC_ECAM_BASE);
    assert_int_equal(params.e820_table[5].addr, PC_HIGH_RAM_BASE);
    assert_int_equal(params.e820_table[5].size, (5UL << 30) - PC_LOW_RAM_END);
}

static void a_32_bit_bzimage_enters_protected_mode(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    header_of(&bz)->xloadflags = 0;
    set_bzimage(fixture, &bz);
    assert_boots(fixture);
    assert_int_equal(fixture->cpu.rip, 2 * MIB);
    assert_int_equal(fixture->cpu.cr0, 0x11);
    assert_int_equal(fixture->cpu.msrs.efer, 0);
    assert_int_equal(fixture->cpu.segments[SEG_CS].attributes, 0xc9b);
    assert_int_equal(fixture->cpu.gpr[GPR_RSI], PC_BOOT_ZERO_PAGE);
    assert_int_equal(fixture->cpu.gpr[GPR_RBX], 0);
}

static void an_old_protocol_loads_at_one_mib(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    header_of(&bz)->version = 0x0202;
    /* Its header ends before initrd_addr_max: what follows is code. */
    bz.bytes[0x201] = 0x2c - 2;
    set_bzimage(fixture, &bz);
    assert_boots(fixture);
    assert_int_equal(fixture->cpu.rip, MIB);
    header_of(&bz)->version = 0x0201;
    set_bzimage(fixture, &bz);
    assert_refused(fixture, "boot protocol 2.01");
}

static void truncated_bzimages_are_refused_at_every_length(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    for (size_t size = 0x210; size <= sizeof(bz) - 16; size += 16) {
        set_kernel(fixture, &bz, size);
        assert_refused(fixture, "kernel: ");
    }
    set_kernel(fixture, &bz, SETUP_SIZE);
    assert_refused(fixture, "kernel: is truncated");
    set_kernel(fixture, &bz, sizeof(bz) - 16);
    assert_refused(fixture, "kernel: is truncated");
}

static void a_bzimage_that_does_not_fit_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 2 * MIB);
    make_bzimage(&bz);
    set_bzimage(fixture, &bz);
    assert_refused(fixture, "kernel: needs 1 MiB from 0x200000 on and is too large for a memory of "
                            "2 MiB");
    header_of(&bz)->pref_address = UINT64_MAX - 4095;
    set_bzimage(fixture, &bz);
    assert_refused(fixture, "too large");
    header_of(&bz)->pref_address = 0x7000;
    set_bzimage(fixture, &bz);
    assert_refused(fixture, "below 1 MiB");
    header_of(&bz)->pref_address = MIB;
    header_of(&bz)->init_size = UINT32_MAX;
    set_bzimage(fixture, &bz);
    assert_refused(fixture, "too large");
}

static void an_initrd_that_does_not_fit_is_refused(void **state)
{
    struct fixture *fixture = *state;
    g_autofree char *large = g_malloc0(2 * MIB);
    struct bzimage bz;

    add_ram(fixture->memory, 4 * MIB);
    make_bzimage(&bz);
    set_bzimage(fixture, &bz);
    add_module(fixture, "initrd", NULL, large, 2 * MIB);
    assert_refused(fixture, "initrd: an initrd of 2 MiB does not fit beside the kernel into a "
                            "memory of 4 MiB");
}

static void a_second_initrd_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    set_bzimage(fixture, &bz);
    add_module(fixture, "one", NULL, "1", 1);
    add_module(fixture, "two", NULL, "2", 1);
    assert_refused(fixture, "two: is one initrd too many");
}

static void the_initrd_stays_below_its_limit(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    header_of(&bz)->initrd_addr_max = 8 * MIB - 1;
    set_bzimage(fixture, &bz);
    add_module(fixture, "initrd", NULL, "x", 1);
    assert_boots(fixture);
    assert_int_equal(peek(fixture, PC_BOOT_ZERO_PAGE + 0x218, 4), 8 * MIB - 4096);
}

static void a_command_line_beyond_the_kernels_limit_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    header_of(&bz)->cmdline_size = 5;
    set_bzimage(fixture, &bz);
    fixture->image.cmdline = "123456";
    assert_refused(fixture, "takes a command line of 5 bytes at most, not 6");
    fixture->image.cmdline = "12345";
    assert_boots(fixture);
}

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

/* ---- the machine's memory ---- */

static void the_memory_map_of_little_memory_has_no_ram_in_holes(void **state)
{
    struct fixture *fixture = *state;
    struct boot_region regions[BOOT_REGIONS_MAX];

    add_ram(fixture->memory, 640 << 10);
    assert_int_equal(boot_memory_map(fixture->memory, regions), 4);
    assert_int_equal(regions[0].size, PC_EBDA_BASE);
    assert_int_equal(regions[1].type, BOOT_REGION_RESERVED);
    assert_int_equal(regions[2].type, BOOT_REGION_RESERVED);
    assert_int_equal(regions[3].base, PC_ECAM_BASE);
}

/* ---- real kernels ---- */

static void a_debian_kernel_loads(void **state)
{
    struct fixture *fixture = *state;
    g_autofree char *cache = g_build_filename(g_get_user_cache_dir(), "anima", NULL);
    g_autoptr(GDir) dir = g_dir_open(cache, 0, NULL);
    unsigned loaded = 0;
    const char *name;

    add_ram(fixture->memory, 512 * MIB);
    fixture->image.cmdline = "console=ttyS0";
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *boot = g_build_filename(cache, name, "boot", NULL);
        g_autoptr(GDir) kernels = g_dir_open(boot, 0, NULL);
        const char *kernel;

        while (kernels && (kernel = g_dir_read_name(kernels))) {
            g_autofree char *path = g_build_filename(boot, kernel, NULL);

            if (!g_str_has_prefix(kernel, "vmlinuz"))
                continue;
            fixture->image.kernel.fd = open(path, O_RDONLY | O_CLOEXEC);
            assert_boots(fixture);
            assert_int_equal(fixture->cpu.msrs.efer, 0x500);
            close(fixture->image.kernel.fd);
            fixture->image.kernel.fd = -1;
            loaded++;
        }
    }
    if (loaded == 0)
        skip();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(foreign_files_are_refused_by_name),
        TEST(a_64_bit_bzimage_enters_long_mode),
        TEST(the_page_tables_map_four_gib_to_themselves),
        TEST(the_zero_page_tells_all),
        TEST(a_32_bit_bzimage_enters_protected_mode),
        TEST(an_old_protocol_loads_at_one_mib),
        TEST(truncated_bzimages_are_refused_at_every_length),
        TEST(a_bzimage_that_does_not_fit_is_refused),
        TEST(an_initrd_that_does_not_fit_is_refused),
        TEST(a_second_initrd_is_refused),
        TEST(the_initrd_stays_below_its_limit),
        TEST(a_command_line_beyond_the_kernels_limit_is_refused),
        TEST(a_vmlinux_enters_by_its_pvh_note),
        TEST(elf_files_that_cannot_boot_are_refused),
        TEST(hostile_elf_headers_are_refused),
        TEST(truncated_elf_files_are_refused_at_every_length),
        TEST(a_multiboot_elf_gets_its_information),
        TEST(the_name_stands_alone_without_arguments),
        TEST(a_flat_multiboot_image_goes_where_its_header_says),
        TEST(hostile_multiboot_headers_are_refused),
        TEST(a_module_that_does_not_fit_is_refused),
        TEST(the_memory_map_of_little_memory_has_no_ram_in_holes),
        TEST(a_debian_kernel_loads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
