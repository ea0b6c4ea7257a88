// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI tables of the PC (ACPI 6.3): the board as the operating system reads it.
 *
 * The DSDT and optional SSDTs are ASL, compiled at build time (acpi/); the rest is put together
 * here, from layout.h and what the machine has. The root pointer goes to the BIOS area, where a
 * guest without UEFI searches for it, the tables behind it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "vmm/memory/memory.h"

struct acpi_config {
    unsigned cpus; /* APIC ids are 0 .. cpus - 1 */
    bool pvpanic;
};

/* A table's place, for tests and dumps. */
struct acpi_tables {
    GByteArray *rsdp;   /* for PC_ACPI_RSDP */
    GByteArray *tables; /* for PC_ACPI_TABLES */
};

/* Put the tables together. NULL and `error` when they do not fit below PC_ACPI_TABLES_END. */
struct acpi_tables *acpi_tables_create(const struct acpi_config *config, GError **error);
void acpi_tables_destroy(struct acpi_tables *tables);

/* Build the tables and write them into guest memory. */
bool acpi_install(const struct acpi_config *config, struct memory *memory, GError **error);
