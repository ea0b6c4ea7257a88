// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI tables (ACPI 6.3, chapter 5; MCFG: PCI Firmware 3.2, 4.1.2; HPET: IA-PC HPET 1.0a, 3.2.4;
 * WAET: Windows ACPI Emulated Devices Table 1.0). All values are little-endian; each table begins
 * with a 36-byte header whose checksum makes the sum of its bytes 0.
 */
#include "vmm/machine/pc/acpi.h"

#include <string.h>

#include "vmm/device/legacy/hpet.h"
#include "vmm/machine/pc/layout.h"

/* What iasl made of acpi/: dsdt_aml_code, ssdt_pvpanic_aml_code. */
static const
#include "acpi/dsdt.hex"
    static const
#include "acpi/ssdt_pvpanic.hex"
#include "vmm/util/fault.h"

#define OEM_ID       "ANIMA "
#define OEM_TABLE    "ANIMAPC "
#define CREATOR_ID   "ANMA"
#define OEM_REVISION 1

#define HEADER_SIZE   36
#define TABLES_MAX    16
#define TABLE_ALIGN   16
#define FACS_ALIGN    64
#define FADT_SIZE     276 /* revision 6 */
#define CHECKSUM_BYTE 9

    struct builder {
    GByteArray *bytes;
    uint32_t pointers[TABLES_MAX]; /* of the XSDT's entries */
    unsigned count;
    uint32_t dsdt, facs;
};

/* ---- bytes ---- */

static void put(GByteArray *bytes, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        g_byte_array_append(bytes, &byte, 1);
    }
}

static void put8(GByteArray *bytes, uint8_t value)
{
    put(bytes, value, 1);
}

static void put16(GByteArray *bytes, uint16_t value)
{
    put(bytes, value, 2);
}

static void put32(GByteArray *bytes, uint32_t value)
{
    put(bytes, value, 4);
}

static void put64(GByteArray *bytes, uint64_t value)
{
    put(bytes, value, 8);
}

static void put_text(GByteArray *bytes, const char *text, unsigned size)
{
    g_byte_array_append(bytes, (const uint8_t *)text, size);
}

static void pad_to(GByteArray *bytes, guint size)
{
    while (bytes->len < size)
        put8(bytes, 0);
}

static void align(GByteArray *bytes, guint alignment)
{
    pad_to(bytes, (bytes->len + alignment - 1) & ~(alignment - 1));
}

static uint8_t checksum(const uint8_t *bytes, guint size)
{
    uint8_t sum = 0;
    while (size--)
        sum += *bytes++;
    return (uint8_t)-sum;
}

/* A generic address structure (5.2.3.2). */
static void put_address(GByteArray *bytes, bool io, unsigned bits, unsigned access,
                        uint64_t address)
{
    put8(bytes, io ? 1 : 0);
    put8(bytes, (uint8_t)bits);
    put8(bytes, 0);
    put8(bytes, (uint8_t)access);
    put64(bytes, address);
}

/* ---- tables ---- */

/* Begin a table; returns where it starts in `bytes`. */
static guint table_begin(struct builder *builder, const char *signature, uint8_t revision)
{
    GByteArray *bytes = builder->bytes;

    align(bytes, TABLE_ALIGN);
    guint start = bytes->len;
    put_text(bytes, signature, 4);
    put32(bytes, 0);
    put8(bytes, revision);
    put8(bytes, 0);
    put_text(bytes, OEM_ID, 6);
    put_text(bytes, OEM_TABLE, 8);
    put32(bytes, OEM_REVISION);
    put_text(bytes, CREATOR_ID, 4);
    put32(bytes, OEM_REVISION);
    return start;
}

static void table_end(struct builder *builder, guint start)
{
    uint8_t *table = builder->bytes->data + start;
    guint size = builder->bytes->len - start;

    for (unsigned i = 0; i < 4; i++)
        table[4 + i] = (uint8_t)(size >> (8 * i));
    table[CHECKSUM_BYTE] = 0;
    table[CHECKSUM_BYTE] = checksum(table, size);
}

static uint32_t address_of(guint start)
{
    return (uint32_t)PC_ACPI_TABLES + start;
}

/* End a table that the XSDT lists. */
static void table_list(struct builder *builder, guint start)
{
    table_end(builder, start);
    builder->pointers[builder->count++] = address_of(start);
}

static void put_aml(struct builder *builder, const uint8_t *aml, guint size)
{
    align(builder->bytes, TABLE_ALIGN);
    g_byte_array_append(builder->bytes, aml, size);
}

/* 5.2.10; needed for its lock word only. */
static void put_facs(struct builder *builder)
{
    GByteArray *bytes = builder->bytes;

    align(bytes, FACS_ALIGN);
    guint start = bytes->len;
    builder->facs = address_of(start);
    put_text(bytes, "FACS", 4);
    put32(bytes, 64);
    pad_to(bytes, start + 32);
    put8(bytes, 2); /* version */
    pad_to(bytes, start + 64);
}

/* 5.2.9. Fields of IA-PC and fixed-hardware features. */
#define FADT_WBINVD         (1U << 0)
#define FADT_PROC_C1        (1U << 2)
#define FADT_NO_SLEEP_KEY   (1U << 5)
#define FADT_NO_FIXED_RTC   (1U << 6)
#define FADT_TIMER_32       (1U << 8)
#define FADT_RESET_REGISTER (1U << 10)
#define BOOT_LEGACY_DEVICES (1U << 0)
#define BOOT_8042           (1U << 1)
#define BOOT_NO_VGA         (1U << 2)
#define BOOT_NO_ASPM        (1U << 4)

static void put_fadt_addresses(GByteArray *bytes)
{
    put_address(bytes, true, 32, 2, PC_PORT_ACPI_PM + PC_PM_EVENT);
    put_address(bytes, false, 0, 0, 0);
    put_address(bytes, true, 16, 2, PC_PORT_ACPI_PM + PC_PM_CONTROL);
    put_address(bytes, false, 0, 0, 0);
    put_address(bytes, false, 0, 0, 0);
    put_address(bytes, true, 32, 3, PC_PORT_ACPI_PM + PC_PM_TIMER);
    put_address(bytes, true, 8 * PC_PM_GPE0_LENGTH, 1, PC_PORT_ACPI_PM + PC_PM_GPE0);
    put_address(bytes, false, 0, 0, 0);
}

static void put_fadt(struct builder *builder)
{
    GByteArray *bytes = builder->bytes;
    guint start = table_begin(builder, "FACP", 6);

    put32(bytes, builder->facs);
    put32(bytes, builder->dsdt);
    put8(bytes, 0);
    put8(bytes, 1); /* profile: desktop */
    put16(bytes, PC_GSI_SCI);
    put32(bytes, PC_PORT_APM);
    put8(bytes, PC_APM_ACPI_ENABLE);
    put8(bytes, PC_APM_ACPI_DISABLE);
    put16(bytes, 0); /* no S4BIOS, no P states */
    put32(bytes, PC_PORT_ACPI_PM + PC_PM_EVENT);
    put32(bytes, 0);
    put32(bytes, PC_PORT_ACPI_PM + PC_PM_CONTROL);
    put32(bytes, 0);
    put32(bytes, 0);
    put32(bytes, PC_PORT_ACPI_PM + PC_PM_TIMER);
    put32(bytes, PC_PORT_ACPI_PM + PC_PM_GPE0);
    put32(bytes, 0);
    put8(bytes, 4);                 /* lengths: PM1 event, */
    put8(bytes, 2);                 /* PM1 control, */
    put8(bytes, 0);                 /* PM2 control, */
    put8(bytes, 4);                 /* timer, */
    put8(bytes, PC_PM_GPE0_LENGTH); /* GPE0, */
    put8(bytes, 0);                 /* GPE1 */
    put8(bytes, 0);                 /* GPE1 base */
    put8(bytes, 0);                 /* no _CST */
    put16(bytes, 0xFFFF);           /* no C2 */
    put16(bytes, 0xFFFF);           /* no C3 */
    pad_to(bytes, start + 108);
    put8(bytes, PC_CMOS_CENTURY);
    put16(bytes, BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA | BOOT_NO_ASPM);
    put8(bytes, 0);
    put32(bytes,
          FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_KEY | FADT_NO_FIXED_RTC | FADT_RESET_REGISTER);
    put_address(bytes, true, 8, 1, PC_PORT_RESET);
    put8(bytes, PC_RESET_VALUE);
    put16(bytes, 0);
    put8(bytes, 3); /* ACPI 6.3 */
    put64(bytes, builder->facs);
    put64(bytes, builder->dsdt);
    put_fadt_addresses(bytes);
    pad_to(bytes, start + FADT_SIZE);
    table_list(builder, start);
}

/* 5.2.12. Interrupts of IDs up to 254 have xAPIC entries, others x2APIC ones. */
static void put_madt(struct builder *builder, unsigned cpus)
{
    GByteArray *bytes = builder->bytes;
    guint start = table_begin(builder, "APIC", 5);

    put32(bytes, PC_LAPIC_BASE);
    put32(bytes, 1); /* there is an 8259 pair */
    for (unsigned i = 0; i < cpus && i < 255; i++) {
        put16(bytes, 8 << 8 | 0);
        put8(bytes, (uint8_t)i);
        put8(bytes, (uint8_t)i);
        put32(bytes, 1);
    }
    for (unsigned i = 255; i < cpus; i++) {
        put16(bytes, 16 << 8 | 9);
        put16(bytes, 0);
        put32(bytes, i);
        put32(bytes, 1);
        put32(bytes, i);
    }
    put16(bytes, 12 << 8 | 1);
    put16(bytes, 0); /* IOAPIC 0 */
    put32(bytes, PC_IOAPIC_BASE);
    put32(bytes, 0);
    put16(bytes, 10 << 8 | 2);
    put16(bytes, 0); /* ISA interrupt 0 comes in at pin 2 */
    put32(bytes, PC_IOAPIC_PIT_PIN);
    put16(bytes, 0);
    put16(bytes, 10 << 8 | 2);
    put16(bytes, PC_GSI_SCI << 8);
    put32(bytes, PC_GSI_SCI);
    put16(bytes, 0xD); /* level, active high */
    put16(bytes, 6 << 8 | 4);
    put8(bytes, 0xFF); /* LINT1 of every processor is NMI */
    put16(bytes, 0);
    put8(bytes, 1);
    table_list(builder, start);
}

static void put_mcfg(struct builder *builder)
{
    GByteArray *bytes = builder->bytes;
    guint start = table_begin(builder, "MCFG", 1);

    put64(bytes, 0);
    put64(bytes, PC_ECAM_BASE);
    put16(bytes, 0); /* segment */
    put8(bytes, 0);  /* first and last bus */
    put8(bytes, PC_PCI_BUSES - 1);
    put32(bytes, 0);
    table_list(builder, start);
}

static void put_hpet(struct builder *builder)
{
    GByteArray *bytes = builder->bytes;
    guint start = table_begin(builder, "HPET", 1);

    put32(bytes, HPET_BLOCK_ID);
    put_address(bytes, false, 0, 0, PC_HPET_BASE);
    put8(bytes, 0);
    put16(bytes, PC_HPET_MIN_TICK);
    put8(bytes, 0);
    table_list(builder, start);
}

/* Windows need not work around flaws of hardware that this machine's RTC and PM timer lack. */
static void put_waet(struct builder *builder)
{
    guint start = table_begin(builder, "WAET", 1);

    put32(builder->bytes, 3);
    table_list(builder, start);
}

/* ---- processors in the namespace ---- */

/* AML's encoding (20.2): of operators, of a package's length, which counts its own bytes. */
#define AML_NAME         0x08
#define AML_WORD         0x0B
#define AML_STRING       0x0D
#define AML_SCOPE        0x10
#define AML_EXTENDED     0x5B
#define AML_DEVICE       0x82
#define AML_LENGTH_BYTES 4 /* the longest form, whatever the length */
#define AML_NAME_SEGMENT 4

/* The length of a package that began at `start` and ends here; put where it was left out. */
static void aml_length(GByteArray *bytes, guint start)
{
    guint length = bytes->len - start;

    bytes->data[start] = (uint8_t)((AML_LENGTH_BYTES - 1) << 6 | (length & 0xF));
    for (unsigned i = 1; i < AML_LENGTH_BYTES; i++)
        bytes->data[start + i] = (uint8_t)(length >> (8 * i - 4));
}

/* Begin a package; returns where its length is to be put. */
static guint aml_package(GByteArray *bytes)
{
    put(bytes, 0, AML_LENGTH_BYTES);
    return bytes->len - AML_LENGTH_BYTES;
}

/* Device (Cnnn) { Name (_HID, "ACPI0007") Name (_UID, nnn) }: the MADT's entry has the same UID. */
static void put_processor(GByteArray *bytes, unsigned index)
{
    char name[AML_NAME_SEGMENT + 1];

    g_snprintf(name, sizeof(name), "C%03X", index & 0xFFF);
    put8(bytes, AML_EXTENDED);
    put8(bytes, AML_DEVICE);
    guint device = aml_package(bytes);
    put_text(bytes, name, AML_NAME_SEGMENT);
    put8(bytes, AML_NAME);
    put_text(bytes, "_HID", AML_NAME_SEGMENT);
    put8(bytes, AML_STRING);
    put_text(bytes, "ACPI0007", sizeof("ACPI0007"));
    put8(bytes, AML_NAME);
    put_text(bytes, "_UID", AML_NAME_SEGMENT);
    put8(bytes, AML_WORD);
    put16(bytes, (uint16_t)index);
    aml_length(bytes, device);
}

/* An SSDT with a processor device (8.4) for each vCPU, in the scope of the system bus. */
static void put_processors(struct builder *builder, unsigned cpus)
{
    GByteArray *bytes = builder->bytes;
    guint start = table_begin(builder, "SSDT", 2);

    put8(bytes, AML_SCOPE);
    guint scope = aml_package(bytes);
    put_text(bytes, "\\_SB_", 1 + AML_NAME_SEGMENT);
    for (unsigned i = 0; i < cpus; i++)
        put_processor(bytes, i);
    aml_length(bytes, scope);
    table_list(builder, start);
}

static guint put_xsdt(struct builder *builder)
{
    guint start = table_begin(builder, "XSDT", 1);

    for (unsigned i = 0; i < builder->count; i++)
        put64(builder->bytes, builder->pointers[i]);
    table_end(builder, start);
    return start;
}

/* 5.2.5.3: two checksums, of the first 20 bytes and of all 36. */
static GByteArray *make_rsdp(uint32_t xsdt)
{
    GByteArray *bytes = g_byte_array_new();

    put_text(bytes, "RSD PTR ", 8);
    put8(bytes, 0);
    put_text(bytes, OEM_ID, 6);
    put8(bytes, 2);
    put32(bytes, 0); /* no RSDT */
    put32(bytes, 36);
    put64(bytes, xsdt);
    put32(bytes, 0);
    bytes->data[8] = checksum(bytes->data, 20);
    bytes->data[32] = checksum(bytes->data, 36);
    return bytes;
}

struct acpi_tables *acpi_tables_create(const struct acpi_config *config, GError **error)
{
    struct builder builder = {.bytes = g_byte_array_new()};

    put_facs(&builder);
    align(builder.bytes, TABLE_ALIGN);
    builder.dsdt = address_of(builder.bytes->len);
    put_aml(&builder, dsdt_aml_code, sizeof(dsdt_aml_code));
    put_fadt(&builder);
    put_madt(&builder, config->cpus);
    put_mcfg(&builder);
    put_hpet(&builder);
    put_waet(&builder);
    put_processors(&builder, config->cpus);
    if (config->pvpanic) {
        align(builder.bytes, TABLE_ALIGN);
        builder.pointers[builder.count++] = address_of(builder.bytes->len);
        put_aml(&builder, ssdt_pvpanic_aml_code, sizeof(ssdt_pvpanic_aml_code));
    }
    guint xsdt = put_xsdt(&builder);

    if (builder.bytes->len > PC_ACPI_TABLES_END - PC_ACPI_TABLES) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_SPACE,
                    "the ACPI tables of %u CPUs do not fit into the BIOS area", config->cpus);
        g_byte_array_unref(builder.bytes);
        return NULL;
    }
    struct acpi_tables *tables = g_new0(struct acpi_tables, 1);
    tables->tables = builder.bytes;
    tables->rsdp = make_rsdp(address_of(xsdt));
    return tables;
}

void acpi_tables_destroy(struct acpi_tables *tables)
{
    if (!tables)
        return;
    g_byte_array_unref(tables->rsdp);
    g_byte_array_unref(tables->tables);
    g_free(tables);
}

bool acpi_install(const struct acpi_config *config, struct memory *memory, GError **error)
{
    struct acpi_tables *tables = acpi_tables_create(config, error);

    if (!tables)
        return false;
    bool done = memory_load(memory, PC_ACPI_RSDP, tables->rsdp->data, tables->rsdp->len) &&
                memory_load(memory, PC_ACPI_TABLES, tables->tables->data, tables->tables->len);
    acpi_tables_destroy(tables);
    if (!done)
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_SPACE,
                    "memory: too small for the ACPI tables; give the machine at least 1 MiB");
    return done;
}
