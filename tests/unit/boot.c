// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel loaders: files that are no kernel, made-up bzImages and each way in which they can be
 * wrong, and real kernels where the cache has some.
 */
#include "tests/unit/boot_fixture.h"

#include <asm/bootparam.h>
#include <fcntl.h>

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

static void the_bios_data_area_tells_where_low_memory_ends(void **state)
{
    struct fixture *fixture = *state;
    struct bzimage bz;

    add_ram(fixture->memory, 16 * MIB);
    make_bzimage(&bz);
    set_bzimage(fixture, &bz);
    assert_boots(fixture);
    assert_int_equal(peek(fixture, 0x40e, 2), 0x9fc0);
    assert_int_equal(peek(fixture, 0x413, 2), 639);
    assert_int_equal(peek(fixture, 0x9fc00, 1), 1);
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
            /* Long mode, but for kernels of 32 bits: "-686" in their name. */
            assert_int_equal(fixture->cpu.msrs.efer, strstr(kernel, "-686") ? 0 : 0x500);
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
        TEST(the_memory_map_of_little_memory_has_no_ram_in_holes),
        TEST(the_bios_data_area_tells_where_low_memory_ends),
        TEST(a_debian_kernel_loads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
