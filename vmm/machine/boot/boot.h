// SPDX-License-Identifier: Apache-2.0
/*
 * Direct boot: a kernel is put into guest memory without firmware, and the boot processor gets the
 * state that its boot protocol prescribes.
 *
 * Three formats, told apart by content: Linux's bzImage, ELF with the PVH entry point, multiboot 1.
 * Files come as descriptors; nothing is opened here. They are as hostile as a guest: every offset
 * and length in them is checked before use.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/engine/cpu_state.h"
#include "vmm/memory/memory.h"

/* A regular file, read by position. */
struct boot_file {
    int fd;                /* borrowed */
    const char *name;      /* what the user called it, for messages */
    const char *arguments; /* of a module, whose command line is "NAME ARGUMENTS"; may be NULL */
};

/* What is to be booted. All pointers are borrowed for the time of boot_load. */
struct boot_image {
    struct memory *memory;
    struct boot_file kernel;
    const struct boot_file *modules; /* Linux takes one, as its initrd */
    unsigned module_count;
    const char *cmdline; /* NULL: empty */
    uint64_t acpi_rsdp;  /* guest-physical; 0: the kernel searches */
};

/* Load all into memory and change `state`, which holds the boot processor after power-on, so that
 * it begins at the kernel's entry. False with `error`, one line that names the file, when a file is
 * no kernel or does not fit; memory may then be partly written. May be called again at a reset.
 * Control thread, vCPUs parked. */
bool boot_load(const struct boot_image *image, struct cpu_state *state, GError **error);

enum boot_region_type {
    BOOT_REGION_RAM = 1, /* numbers of E820 */
    BOOT_REGION_RESERVED = 2,
};

struct boot_region {
    uint64_t base, size;
    enum boot_region_type type;
};

#define BOOT_REGIONS_MAX 64

/* The guest's memory as firmware would tell it (E820): RAM without the PC's holes, what ACPI tables
 * and configuration space occupy as reserved. Sorted, without overlaps. Returns their number. */
unsigned boot_memory_map(const struct memory *memory, struct boot_region regions[BOOT_REGIONS_MAX]);
