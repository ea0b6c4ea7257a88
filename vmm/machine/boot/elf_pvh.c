// SPDX-License-Identifier: Apache-2.0
/*
 * ELF kernels with the PVH entry point (Xen's "x86/HVM direct boot ABI", docs/misc/pvh.pandoc).
 *
 * An ELF note gives a 32-bit physical entry address. The kernel is entered in protected mode
 * without paging, EBX points to struct hvm_start_info, which has memory map, modules and RSDP.
 */
#include "vmm/machine/boot/internal.h"

#include "vmm/machine/pc/layout.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>

#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define NOTES_MAX         (64UL << 10)

#define START_MAGIC   0x336ec578
#define START_VERSION 1
#define MODULES_MAX   32

/* The ABI's structures. */
struct hvm_start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, cmdline, rsdp, memory_map;
    uint32_t memory_map_entries, reserved;
};

struct hvm_module {
    uint64_t address, size, cmdline, reserved;
};

struct hvm_memory_entry {
    uint64_t address, size;
    uint32_t type, reserved;
};

/* All that the kernel is told, in one piece at PC_BOOT_ZERO_PAGE. */
struct start_page {
    struct hvm_start_info info;
    struct hvm_memory_entry memory_map[BOOT_REGIONS_MAX];
    struct hvm_module modules[MODULES_MAX];
};

_Static_assert(sizeof(struct hvm_start_info) == 56, "the ABI's size");
_Static_assert(PC_BOOT_ZERO_PAGE + sizeof(struct start_page) <= PC_BOOT_STACK - 0x200,
               "the start page ends below the stack");

static uint64_t align_4(uint64_t value)
{
    return (value + 3) & ~3UL;
}

/* Look for the entry note among notes (name size, descriptor size, type, name, descriptor). */
static bool find_note(const uint8_t *notes, size_t size, uint64_t *entry)
{
    size_t at = 0;

    while (size - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        uint64_t length;

        memcpy(&note, notes + at, sizeof(note));
        at += sizeof(note);
        length = align_4(note.n_namesz) + align_4(note.n_descsz);
        if (length > size - at)
            return false;
        if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == 4 &&
            !memcmp(notes + at, "Xen", 4) && (note.n_descsz == 4 || note.n_descsz == 8)) {
            *entry = 0;
            memcpy(entry, notes + at + 4, note.n_descsz);
            return true;
        }
        at += length;
    }
    return false;
}

/* The entry address from whichever note segment has it. */
static bool find_entry(const struct boot_file *file, const struct elf_image *elf, uint64_t *entry,
                       GError **error)
{
    for (unsigned i = 0; i < elf->count; i++) {
        const struct elf_segment *segment = &elf->segments[i];
        g_autofree uint8_t *notes = NULL;

        if (segment->type != PT_NOTE || segment->file_size > NOTES_MAX)
            continue;
        notes = g_try_malloc(segment->file_size + 1);
        if (!notes)
            return boot_refuse(file, error, "cannot be read: out of memory");
        if (!boot_file_read(file, segment->offset, notes, segment->file_size, error))
            return false;
        if (find_note(notes, segment->file_size, entry))
            return true;
    }
    return boot_refuse(file, error,
                       "is an ELF file without a PVH entry point; a Linux kernel needs CONFIG_PVH");
}

static bool load_modules(const struct boot_image *image, uint64_t kernel_end, uint64_t strings,
                         struct start_page *page, GError **error)
{
    uint64_t ceiling = BOOT_LIMIT;

    if (image->module_count > MODULES_MAX)
        return boot_refuse(&image->kernel, error, "gets %u modules; %u are the most",
                           image->module_count, MODULES_MAX);
    for (unsigned i = 0; i < image->module_count; i++) {
        const struct boot_file *file = &image->modules[i];
        struct hvm_module *module = &page->modules[i];

        if (!boot_file_size(file, &module->size, error))
            return false;
        if (!boot_place_high(image->memory, module->size, kernel_end, ceiling, &module->address))
            return boot_refuse(file, error,
                               "does not fit beside the kernel into a memory of %u MiB; "
                               "give the machine more",
                               boot_memory_mib(image->memory));
        if (!boot_file_load(image, file, 0, module->size, module->address, error))
            return false;
        module->cmdline = strings;
        if (!boot_write_module_cmdline(image, file, &strings, error))
            return false;
        ceiling = module->address;
    }
    return true;
}

static void fill_memory_map(const struct boot_image *image, struct start_page *page)
{
    struct boot_region regions[BOOT_REGIONS_MAX];
    unsigned count = boot_memory_map(image->memory, regions);

    for (unsigned i = 0; i < count; i++)
        page->memory_map[i] = (struct hvm_memory_entry){
            .address = regions[i].base, .size = regions[i].size, .type = regions[i].type};
    page->info.memory_map = PC_BOOT_ZERO_PAGE + offsetof(struct start_page, memory_map);
    page->info.memory_map_entries = count;
}

static bool write_start_page(const struct boot_image *image, struct start_page *page,
                             GError **error)
{
    page->info.magic = START_MAGIC;
    page->info.version = START_VERSION;
    page->info.cmdline = PC_BOOT_CMDLINE;
    page->info.rsdp = image->acpi_rsdp;
    page->info.module_count = image->module_count;
    page->info.modules = PC_BOOT_ZERO_PAGE + offsetof(struct start_page, modules);
    fill_memory_map(image, page);
    return memory_write(image->memory, PC_BOOT_ZERO_PAGE, page, sizeof(*page)) ||
           boot_refuse(&image->kernel, error, "does not fit: there is no memory below 1 MiB");
}

bool pvh_load(const struct boot_image *image, struct cpu_state *state, GError **error)
{
    g_autofree struct start_page *page = g_new0(struct start_page, 1);
    struct elf_image elf;
    uint64_t entry, end, strings;

    if (!elf_open(&image->kernel, &elf, error) ||
        !find_entry(&image->kernel, &elf, &entry, error) || !elf_load(image, &elf, &end, error))
        return false;
    if (!boot_is_usable(image->memory, entry, 1))
        return boot_refuse(&image->kernel, error,
                           "has its PVH entry point at 0x%" PRIx64 ", outside of memory", entry);
    if (!boot_write_cmdline(image, "", UINT64_MAX, &strings, error) ||
        !load_modules(image, end, strings, page, error) || !write_start_page(image, page, error))
        return false;
    boot_enter_32(image, state, (uint32_t)entry);
    state->gpr[GPR_RBX] = PC_BOOT_ZERO_PAGE;
    return true;
}
