// SPDX-License-Identifier: Apache-2.0
/*
 * Linux's bzImage (Documentation/arch/x86/boot.rst).
 *
 * The file is a setup part of 512-byte sectors, which firmware's loaders run in real mode and which
 * here only gives its header, and the protected-mode kernel. The kernel is entered in long mode at
 * 0x200 where it says that it can (XLF_KERNEL_64), else in protected mode at its beginning. What
 * the setup code would find out (memory map, ACPI, initrd) is told in the "zero page".
 */
#include "vmm/machine/boot/internal.h"

#include "vmm/machine/pc/layout.h"

#include <asm/bootparam.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#define SECTOR           512
#define HEADER_OFFSET    offsetof(struct boot_params, hdr)
#define BOOT_FLAG_OFFSET 0x1fe
#define JUMP_OFFSET      0x201 /* second byte of a short jump over the header */
#define MAGIC_OFFSET     0x202
#define ENTRY_64         0x200
#define LOADER_UNDEFINED 0xff
#define DEFAULT_SETUP    4
#define DEFAULT_ADDRESS  0x100000UL
#define INITRD_MAX_2_02  0x37ffffffUL
#define CMDLINE_MAX_2_05 255
#define MIB              (1UL << 20)

_Static_assert(HEADER_OFFSET == 0x1f1, "the setup header's place is fixed");
_Static_assert(sizeof(struct boot_params) == GUEST_PAGE_SIZE, "the zero page is a page");

/* The kernel as its header describes it. */
struct bzimage {
    struct setup_header header;
    uint64_t payload_offset, payload_size; /* protected-mode kernel in the file */
    uint64_t address;                      /* where it goes */
    uint64_t room;                         /* bytes that it uses from there on */
    uint64_t initrd, initrd_size;
};

bool bzimage_is(const uint8_t *head, size_t length)
{
    return length >= MAGIC_OFFSET + 4 && !memcmp(head + MAGIC_OFFSET, "HdrS", 4) &&
           head[BOOT_FLAG_OFFSET] == 0x55 && head[BOOT_FLAG_OFFSET + 1] == 0xaa;
}

/* The header as long as the file says it is; what older protocols lack stays 0. */
static bool read_header(const struct boot_file *file, uint64_t size, struct setup_header *header,
                        GError **error)
{
    uint8_t bytes[HEADER_OFFSET + sizeof(*header)] = {0};
    size_t end;

    if (!boot_file_read(file, 0, bytes, MIN(size, sizeof(bytes)), error))
        return false;
    end = MIN((size_t)MAGIC_OFFSET + bytes[JUMP_OFFSET], sizeof(bytes));
    memset(header, 0, sizeof(*header));
    memcpy(header, bytes + HEADER_OFFSET, end - HEADER_OFFSET);
    if (header->version < 0x0202)
        return boot_refuse(file, error, "has boot protocol %u.%02u; 2.02 is the oldest that works",
                           header->version >> 8, header->version & 0xff);
    if (!(header->loadflags & LOADED_HIGH))
        return boot_refuse(file, error, "is a zImage; build it as bzImage");
    return true;
}

static bool find_payload(const struct boot_file *file, uint64_t size, struct bzimage *bz,
                         GError **error)
{
    unsigned sectors = bz->header.setup_sects ? bz->header.setup_sects : DEFAULT_SETUP;
    uint64_t declared = (uint64_t)bz->header.syssize * 16;

    bz->payload_offset = (sectors + 1) * SECTOR;
    if (size <= bz->payload_offset)
        return boot_refuse(file, error, "is truncated: it ends within its setup part");
    bz->payload_size = size - bz->payload_offset;
    /* The last paragraph need not be whole. Signatures may follow. */
    if (declared >= bz->payload_size + 16)
        return boot_refuse(file, error, "is truncated: %" PRIu64 " of %" PRIu64 " bytes are there",
                           size, bz->payload_offset + declared);
    if (declared)
        bz->payload_size = MIN(bz->payload_size, declared);
    return true;
}

static bool place_kernel(const struct boot_image *image, struct bzimage *bz, GError **error)
{
    bool describes_place = bz->header.version >= 0x020a;

    bz->address = describes_place ? bz->header.pref_address : DEFAULT_ADDRESS;
    bz->room = bz->payload_size;
    if (describes_place)
        bz->room = MAX(bz->room, bz->header.init_size);
    return boot_claim(image, bz->address, bz->room, error) &&
           boot_file_load(image, &image->kernel, bz->payload_offset, bz->payload_size, bz->address,
                          error);
}

static bool load_initrd(const struct boot_image *image, struct bzimage *bz, GError **error)
{
    uint64_t last = bz->header.version >= 0x0203 ? bz->header.initrd_addr_max : INITRD_MAX_2_02;
    const struct boot_file *file = image->modules;

    if (image->module_count == 0)
        return true;
    if (image->module_count > 1)
        return boot_refuse(&image->modules[1], error, "is one initrd too many: Linux takes one");
    if (!boot_file_size(file, &bz->initrd_size, error))
        return false;
    if (!boot_place_high(image->memory, bz->initrd_size, bz->address + bz->room, last + 1,
                         &bz->initrd))
        return boot_refuse(file, error,
                           "an initrd of %" PRIu64 " MiB does not fit beside the kernel into a "
                           "memory of %u MiB; give the machine more",
                           bz->initrd_size / MIB + (bz->initrd_size % MIB != 0),
                           boot_memory_mib(image->memory));
    return boot_file_load(image, file, 0, bz->initrd_size, bz->initrd, error);
}

static void fill_e820(const struct boot_image *image, struct boot_params *params)
{
    struct boot_region regions[BOOT_REGIONS_MAX];
    unsigned count = boot_memory_map(image->memory, regions);

    _Static_assert(BOOT_REGIONS_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "all regions fit");
    for (unsigned i = 0; i < count; i++)
        params->e820_table[i] = (struct boot_e820_entry){
            .addr = regions[i].base, .size = regions[i].size, .type = regions[i].type};
    params->e820_entries = (uint8_t)count;
}

static bool write_zero_page(const struct boot_image *image, const struct bzimage *bz,
                            GError **error)
{
    g_autofree struct boot_params *params = g_new0(struct boot_params, 1);

    params->hdr = bz->header;
    params->hdr.type_of_loader = LOADER_UNDEFINED;
    params->hdr.code32_start = (uint32_t)bz->address;
    params->hdr.cmd_line_ptr = PC_BOOT_CMDLINE;
    params->hdr.ramdisk_image = (uint32_t)bz->initrd;
    params->hdr.ramdisk_size = (uint32_t)bz->initrd_size;
    if (bz->header.version >= 0x020e)
        params->acpi_rsdp_addr = image->acpi_rsdp;
    fill_e820(image, params);
    return memory_write(image->memory, PC_BOOT_ZERO_PAGE, params, sizeof(*params)) ||
           boot_refuse(&image->kernel, error, "does not fit: there is no memory below 1 MiB");
}

bool bzimage_load(const struct boot_image *image, struct cpu_state *state, GError **error)
{
    struct bzimage bz = {0};
    uint64_t size, cmdline_max;

    if (!boot_file_size(&image->kernel, &size, error) ||
        !read_header(&image->kernel, size, &bz.header, error) ||
        !find_payload(&image->kernel, size, &bz, error))
        return false;
    cmdline_max = bz.header.version >= 0x0206 ? bz.header.cmdline_size : CMDLINE_MAX_2_05;
    if (!place_kernel(image, &bz, error) || !load_initrd(image, &bz, error) ||
        !boot_write_cmdline(image, "", cmdline_max, NULL, error) ||
        !write_zero_page(image, &bz, error))
        return false;
    if (bz.header.version >= 0x020c && (bz.header.xloadflags & XLF_KERNEL_64))
        boot_enter_64(image, state, bz.address + ENTRY_64);
    else
        boot_enter_32(image, state, (uint32_t)bz.address);
    state->gpr[GPR_RSI] = PC_BOOT_ZERO_PAGE;
    return true;
}
