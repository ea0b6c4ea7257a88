// SPDX-License-Identifier: Apache-2.0
/*
 * The ACPI tables, read again as an operating system does: from the root pointer down, with every
 * length and checksum; and by the reference compiler, where it is installed.
 */
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
// cmocka wants the four above
#include <cmocka.h>

#include "vmm/machine/pc/acpi.h"
#include "vmm/machine/pc/layout.h"

static uint64_t le(const uint8_t *bytes, unsigned size)
{
    uint64_t value = 0;
    while (size--)
        value = value << 8 | bytes[size];
    return value;
}

static uint8_t sum(const uint8_t *bytes, uint64_t size)
{
    uint8_t total = 0;
    while (size--)
        total += *bytes++;
    return total;
}

static struct acpi_tables *tables_of(unsigned cpus, bool pvpanic)
{
    struct acpi_config config = {.cpus = cpus, .pvpanic = pvpanic};
    GError *error = NULL;
    struct acpi_tables *tables = acpi_tables_create(&config, &error);

    assert_null(error);
    assert_non_null(tables);
    return tables;
}

/* The table at a guest-physical address; checks that it lies within the blob and sums to 0. */
static const uint8_t *table_at(const struct acpi_tables *tables, uint64_t address)
{
    assert_in_range(address, PC_ACPI_TABLES, PC_ACPI_TABLES + tables->tables->len - 36);
    uint64_t offset = address - PC_ACPI_TABLES;
    const uint8_t *table = tables->tables->data + offset;
    uint64_t size = le(table + 4, 4);
    assert_in_range(size, 36, tables->tables->len - offset);
    assert_int_equal(sum(table, size), 0);
    return table;
}

static const uint8_t *xsdt_of(const struct acpi_tables *tables)
{
    const uint8_t *xsdt = table_at(tables, le(tables->rsdp->data + 24, 8));
    assert_memory_equal(xsdt, "XSDT", 4);
    return xsdt;
}

/* The `index`-th table of that signature in the XSDT, or NULL. */
static const uint8_t *find(const struct acpi_tables *tables, const char *signature)
{
    const uint8_t *xsdt = xsdt_of(tables);

    for (uint64_t at = 36; at < le(xsdt + 4, 4); at += 8) {
        const uint8_t *table = table_at(tables, le(xsdt + at, 8));
        if (!memcmp(table, signature, 4))
            return table;
    }
    return NULL;
}

static void the_root_pointer_is_valid_and_in_the_bios_area(void **state)
{
    struct acpi_tables *tables = tables_of(1, false);
    const uint8_t *rsdp = tables->rsdp->data;

    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(tables->rsdp->len, 36);
    assert_int_equal(rsdp[15], 2);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    assert_in_range(PC_ACPI_RSDP, 0xE0000, 0xFFFFF - 36);
    assert_int_equal(PC_ACPI_RSDP % 16, 0);
    acpi_tables_destroy(tables);
}

static void every_listed_table_sums_to_zero(void **state)
{
    struct acpi_tables *tables = tables_of(4, true);
    static const char *const signatures[] = {"FACP", "APIC", "MCFG", "HPET", "WAET", "SSDT"};

    for (unsigned i = 0; i < G_N_ELEMENTS(signatures); i++)
        assert_non_null(find(tables, signatures[i]));
    assert_null(find(tables, "DSDT"));
    acpi_tables_destroy(tables);
}

static void the_fadt_names_ports_and_the_dsdt(void **state)
{
    struct acpi_tables *tables = tables_of(1, false);
    const uint8_t *fadt = find(tables, "FACP");

    assert_int_equal(le(fadt + 4, 4), 276);
    assert_memory_equal(table_at(tables, le(fadt + 140, 8)), "DSDT", 4);
    assert_int_equal(le(fadt + 40, 4), le(fadt + 140, 8));
    assert_int_equal(le(fadt + 36, 4) % 64, 0);
    assert_memory_equal(tables->tables->data + le(fadt + 36, 4) - PC_ACPI_TABLES, "FACS", 4);
    assert_int_equal(le(fadt + 46, 2), PC_GSI_SCI);
    assert_int_equal(le(fadt + 56, 4), 0x600);
    assert_int_equal(le(fadt + 64, 4), 0x604);
    assert_int_equal(le(fadt + 76, 4), 0x608);
    /* The same by generic addresses; the reset register is port CF9h. */
    assert_int_equal(le(fadt + 148 + 4, 8), 0x600);
    assert_int_equal(le(fadt + 172 + 4, 8), 0x604);
    assert_int_equal(le(fadt + 208 + 4, 8), 0x608);
    assert_int_equal(le(fadt + 220 + 4, 8), 0x620);
    assert_int_equal(fadt[116], 1);
    assert_int_equal(le(fadt + 120, 8), 0xCF9);
    assert_int_equal(fadt[128], 6);
    acpi_tables_destroy(tables);
}

/* Entries of one type in the MADT; their lengths must add up. */
static unsigned madt_entries(const uint8_t *madt, uint8_t type)
{
    uint64_t size = le(madt + 4, 4), at = 44;
    unsigned count = 0;

    while (at < size) {
        assert_in_range(madt[at + 1], 2, size - at);
        count += madt[at] == type;
        at += madt[at + 1];
    }
    assert_int_equal(at, size);
    return count;
}

static void the_madt_lists_every_processor(void **state)
{
    struct acpi_tables *tables = tables_of(255, false);
    const uint8_t *madt = find(tables, "APIC");

    assert_int_equal(madt_entries(madt, 0), 255);
    assert_int_equal(madt_entries(madt, 9), 0);
    assert_int_equal(madt_entries(madt, 1), 1);
    assert_int_equal(madt_entries(madt, 2), 2);
    assert_int_equal(madt_entries(madt, 4), 1);
    acpi_tables_destroy(tables);

    tables = tables_of(300, false);
    madt = find(tables, "APIC");
    assert_int_equal(madt_entries(madt, 0), 255);
    assert_int_equal(madt_entries(madt, 9), 45);
    acpi_tables_destroy(tables);
}

/* The first SSDT: one processor device for each entry of the MADT, with the same UID. */
static void every_processor_is_in_the_namespace(void **state)
{
    struct acpi_tables *tables = tables_of(64, false);
    const uint8_t *ssdt = find(tables, "SSDT"), *at = ssdt + 36;
    const uint8_t *end = ssdt + le(ssdt + 4, 4);

    for (unsigned i = 0; i < 64; i++) {
        at = memmem(at, end - at, "_UID", 4);
        assert_non_null(at);
        assert_int_equal(at[4], 0x0B);
        assert_int_equal(le(at + 5, 2), i);
        at += 7;
    }
    assert_ptr_equal(at, end);
    acpi_tables_destroy(tables);
}

static void the_mcfg_spans_the_buses_of_the_machine(void **state)
{
    struct acpi_tables *tables = tables_of(1, false);
    const uint8_t *mcfg = find(tables, "MCFG");

    assert_int_equal(le(mcfg + 4, 4), 60);
    assert_int_equal(le(mcfg + 44, 8), PC_ECAM_BASE);
    assert_int_equal(mcfg[54], 0);
    assert_int_equal(mcfg[55], PC_PCI_BUSES - 1);
    acpi_tables_destroy(tables);
}

static void too_many_processors_are_refused(void **state)
{
    struct acpi_config config = {.cpus = 100000};
    g_autoptr(GError) error = NULL;

    assert_null(acpi_tables_create(&config, &error));
    assert_non_null(error);
}

/* The reference tool reads each table and finds nothing to complain about. */
static void the_reference_compiler_disassembles_them(void **state)
{
    g_autofree char *iasl = g_find_program_in_path("iasl");
    if (!iasl)
        skip();
    g_autofree char *folder = g_dir_make_tmp("acpi-XXXXXX", NULL);
    assert_non_null(folder);
    struct acpi_tables *tables = tables_of(2, true);
    static const char *const signatures[] = {"FACP", "APIC", "MCFG", "HPET", "WAET", "SSDT"};

    for (unsigned i = 0; i <= G_N_ELEMENTS(signatures); i++) {
        const uint8_t *table = i < G_N_ELEMENTS(signatures)
                                   ? find(tables, signatures[i])
                                   : table_at(tables, le(find(tables, "FACP") + 140, 8));
        g_autofree char *binary = g_build_filename(folder, "table.dat", NULL);
        g_autofree char *source = g_build_filename(folder, "table.dsl", NULL);
        char disassemble[] = "-d", *words[] = {iasl, disassemble, binary, NULL};
        g_autofree char *out = NULL, *err = NULL;
        int status = -1;

        assert_true(
            g_file_set_contents(binary, (const char *)table, (gssize)le(table + 4, 4), NULL));
        assert_true(g_spawn_sync(NULL, words, NULL, 0, NULL, NULL, &out, &err, &status, NULL));
        assert_true(g_spawn_check_wait_status(status, NULL));
        assert_null(strstr(err, "rror"));
        assert_null(strstr(err, "arning"));
        assert_true(g_file_test(source, G_FILE_TEST_EXISTS));
        g_unlink(source);
        g_unlink(binary);
    }
    g_rmdir(folder);
    acpi_tables_destroy(tables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_root_pointer_is_valid_and_in_the_bios_area),
        cmocka_unit_test(every_listed_table_sums_to_zero),
        cmocka_unit_test(the_fadt_names_ports_and_the_dsdt),
        cmocka_unit_test(the_madt_lists_every_processor),
        cmocka_unit_test(every_processor_is_in_the_namespace),
        cmocka_unit_test(the_mcfg_spans_the_buses_of_the_machine),
        cmocka_unit_test(too_many_processors_are_refused),
        cmocka_unit_test(the_reference_compiler_disassembles_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
