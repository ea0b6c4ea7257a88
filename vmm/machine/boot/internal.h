// SPDX-License-Identifier: Apache-2.0
/*
 * What the loaders share: reading files, placing them in memory, states of the boot processor.
 */
#pragma once

#include "vmm/machine/boot/boot.h"
#include "vmm/util/fault.h"

/* Where boot data of ours lie; a kernel must not be loaded over them. */
#define BOOT_DATA_END 0x100000UL

/* No kernel of ours is loaded above: all protocols enter with 32-bit addresses. */
#define BOOT_LIMIT 0x100000000UL

/* Sets `error` to "NAME: ..." for a file that cannot be booted. Returns false. */
bool boot_refuse(const struct boot_file *file, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* Its size; false when it is no regular file. */
bool boot_file_size(const struct boot_file *file, uint64_t *size, GError **error);

/* Exactly `size` bytes from `offset` on; a shorter file is an error. */
bool boot_file_read(const struct boot_file *file, uint64_t offset, void *buffer, size_t size,
                    GError **error);

/* Copy a part of the file to guest memory; all of it must be RAM. */
bool boot_file_load(const struct boot_image *image, const struct boot_file *file, uint64_t offset,
                    uint64_t size, uint64_t gpa, GError **error);

/* Size of RAM for people: in MiB, the holes of the address space counted in. */
unsigned boot_memory_mib(const struct memory *memory);

/* All of [base, base + size) is RAM that boot may use: above the boot data, below 4 GiB. */
bool boot_is_usable(const struct memory *memory, uint64_t base, uint64_t size);

/* The kernel wants [base, base + size): boot_is_usable, or an error that says what is missing. */
bool boot_claim(const struct boot_image *image, uint64_t base, uint64_t size, GError **error);

/* Fill RAM that boot_claim granted with zeros. */
void boot_zero(struct memory *memory, uint64_t gpa, uint64_t size);

/* The highest page-aligned place for `size` bytes of RAM within [floor, ceiling). */
bool boot_place_high(const struct memory *memory, uint64_t size, uint64_t floor, uint64_t ceiling,
                     uint64_t *gpa);

/* The kernel's command line at PC_BOOT_CMDLINE, with `prefix` before it; at most `max` bytes
 * without the final 0. `*end` (may be NULL) gets the first free address behind it. */
bool boot_write_cmdline(const struct boot_image *image, const char *prefix, uint64_t max,
                        uint64_t *end, GError **error);

/* A module's command line, "NAME ARGUMENTS", at `*at` in the command line's area; `*at` moves
 * behind it. */
bool boot_write_module_cmdline(const struct boot_image *image, const struct boot_file *module,
                               uint64_t *at, GError **error);

/* What kernels look up in the BIOS data area: where conventional memory ends. */
void boot_write_bios_data(struct memory *memory);

/* Protected mode without paging, flat segments, interrupts off, at `entry`. */
void boot_enter_32(const struct boot_image *image, struct cpu_state *state, uint32_t entry);
/* Long mode, the first 4 GiB mapped to themselves, flat segments, interrupts off, at `entry`. */
void boot_enter_64(const struct boot_image *image, struct cpu_state *state, uint64_t entry);

/* An ELF file's program headers, of either class, in one form. */
struct elf_segment {
    uint32_t type;
    uint64_t offset, address, file_size, memory_size; /* address: physical */
};

#define ELF_SEGMENTS_MAX 64

struct elf_image {
    uint64_t entry;
    unsigned count;
    struct elf_segment segments[ELF_SEGMENTS_MAX];
};

/* Whether the file begins as an ELF file does. */
bool elf_is(const uint8_t *head, size_t length);
/* Read and check the headers: an executable for x86. */
bool elf_open(const struct boot_file *file, struct elf_image *elf, GError **error);
/* Load all PT_LOAD segments; `*end` gets the first address behind the highest. */
bool elf_load(const struct boot_image *image, const struct elf_image *elf, uint64_t *end,
              GError **error);

/* The formats. `head` is the beginning of the file. */
#define BOOT_HEAD_SIZE 8192

/* Each load puts the kernel and what belongs to it into memory and sets what the entry point
 * expects; false and `error`, one phrase that names the file, when it is damaged or does not fit.
 */
bool bzimage_is(const uint8_t *head, size_t length);
bool bzimage_load(const struct boot_image *image, struct cpu_state *state, GError **error);

bool multiboot_is(const uint8_t *head, size_t length);
bool multiboot_load(const struct boot_image *image, const uint8_t *head, size_t length,
                    struct cpu_state *state, GError **error);

bool pvh_load(const struct boot_image *image, struct cpu_state *state, GError **error);
