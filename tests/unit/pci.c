// SPDX-License-Identifier: Apache-2.0
/*
 * PCI as a guest sees it: configuration accesses through the host bridge's ports and window, BARs
 * that are sized and moved, INTx, MSI and MSI-X. The function under test has one BAR of each kind.
 */
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
// cmocka wants the four above
#include <cmocka.h>

#include "vmm/device/pci/host_bridge.h"
#include "vmm/device/pci/lpc.h"
#include "vmm/device/pci/root_port.h"
#include "vmm/machine/pc/layout.h"

#define PROBE_VECTORS 40

/* ---- a function with everything ---- */

struct probe {
    struct pci_function pci;
    struct probe_state {
        struct pci_state pci;
        struct pci_msix_entry msix[PROBE_VECTORS];
        uint32_t scratch;
    } state;
};

static const struct state_field probe_fields[] = {
    STATE_NESTED(struct probe_state, pci, &pci_state_table),
    STATE_NESTED_ARRAY(struct probe_state, msix, &pci_msix_entry_table),
    STATE_U(struct probe_state, scratch),
};
static const struct state_table probe_table =
    STATE_TABLE("probe", 1, struct probe_state, probe_fields);

static uint64_t probe_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct probe *)opaque)->state.scratch + offset;
}

static void probe_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    ((struct probe *)opaque)->state.scratch = (uint32_t)value;
}

static const struct bus_ops probe_bus_ops = {
    .read = probe_read,
    .write = probe_write,
    .widths = BUS_WIDTH_4,
};

static bool probe_init(struct device *device, const void *config, GError **error)
{
    struct probe *probe = (struct probe *)device;
    static const struct pci_identity identity = {
        .vendor = 0x1234,
        .device = 0x5678,
        .class_code = 0xFF0000,
        .interrupt_pin = 2,
        .express = true,
    };

    if (!pci_function_init(&probe->pci, &identity, config, &probe->state.pci, NULL, error) ||
        !pci_bar_add(&probe->pci, 0, PCI_BAR_IO, false, 32, "io", &probe_bus_ops, probe, error) ||
        !pci_bar_add(&probe->pci, 1, PCI_BAR_MEMORY32, false, 4096, "memory", &probe_bus_ops, probe,
                     error) ||
        !pci_bar_add(&probe->pci, 2, PCI_BAR_MEMORY64, true, 1 << 20, "wide", &probe_bus_ops, probe,
                     error) ||
        !pci_msix_add(&probe->pci, 4, probe->state.msix, PROBE_VECTORS, error))
        return false;
    pci_msi_add(&probe->pci, 4);
    pci_pm_add(&probe->pci);
    pci_function_plug(&probe->pci);
    return true;
}

static void probe_finish(struct device *device)
{
    pci_function_finish((struct pci_function *)device);
}

static void probe_reset(struct device *device)
{
    pci_function_reset((struct pci_function *)device);
}

static void probe_post_load(struct device *device)
{
    pci_function_post_load((struct pci_function *)device);
}

static const struct device_ops probe_ops = {
    .kind = "probe",
    .size = sizeof(struct probe),
    .config_size = sizeof(struct pci_address),
    .state = &probe_table,
    .state_offset = offsetof(struct probe, state),
    .init = probe_init,
    .finish = probe_finish,
    .reset = probe_reset,
    .post_load = probe_post_load,
};

/* ---- the bench ---- */

struct bench {
    struct device_env env;
    struct device *bridge;
    struct probe *probe;
    bool pirq[PCI_PIRQS];
    unsigned messages;
    uint64_t address;
    uint32_t data;
};

static void pirq_set(void *opaque, unsigned pin, bool level)
{
    ((struct bench *)opaque)->pirq[pin] = level;
}

static void msi(void *opaque, uint64_t address, uint32_t data)
{
    struct bench *bench = opaque;
    bench->messages++;
    bench->address = address;
    bench->data = data;
}

#define PROBE_DEVICE 5
#define PROBE_PIRQ   ((PROBE_DEVICE + 1) % PCI_PIRQS) /* it uses INTB */

static int bench_setup(void **state)
{
    struct bench *bench = g_new0(struct bench, 1);
    struct irq_line lines[PCI_PIRQS];
    struct host_bridge_config config;
    struct pci_address address = {NULL, PROBE_DEVICE, 0};

    bench->env.pio = bus_create("pio", UINT16_MAX);
    bench->env.mmio = bus_create("mmio", (1ULL << 52) - 1);
    bench->env.pci = pci_root_create();
    bench->env.msi = msi;
    bench->env.msi_opaque = bench;
    for (unsigned i = 0; i < PCI_PIRQS; i++)
        lines[i] = (struct irq_line){pirq_set, bench, i};
    pci_root_connect(bench->env.pci, lines);
    host_bridge_device.defaults(&bench->env, &config);
    bench->bridge = device_create(&host_bridge_device, "host-bridge", &bench->env, &config, NULL);
    bench->probe = (struct probe *)device_create(&probe_ops, "probe", &bench->env, &address, NULL);
    assert_non_null(bench->bridge);
    assert_non_null(bench->probe);
    *state = bench;
    return 0;
}

static int bench_teardown(void **state)
{
    struct bench *bench = *state;
    device_destroy(&bench->probe->pci.device);
    device_destroy(bench->bridge);
    pci_bus_destroy(bench->env.pci);
    bus_destroy(bench->env.pio);
    bus_destroy(bench->env.mmio);
    g_free(bench);
    return 0;
}

static uint32_t config_address(unsigned device, unsigned offset)
{
    return 0x80000000U | device << 11 | (offset & 0xFC);
}

static uint32_t config_read(struct bench *bench, unsigned offset, unsigned size)
{
    bus_write(bench->env.pio, 0xCF8, 4, config_address(PROBE_DEVICE, offset));
    return (uint32_t)bus_read(bench->env.pio, 0xCFC + (offset & 3), size);
}

static void config_write(struct bench *bench, unsigned offset, unsigned size, uint32_t value)
{
    bus_write(bench->env.pio, 0xCF8, 4, config_address(PROBE_DEVICE, offset));
    bus_write(bench->env.pio, 0xCFC + (offset & 3), size, value);
}

static uint64_t ecam(unsigned device, unsigned offset)
{
    return PC_ECAM_BASE + (device << 15) + offset;
}

/* ---- configuration mechanisms ---- */

static void mechanism_1_reads_identity_in_every_width(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(config_read(bench, PCI_VENDOR_ID, 4), 0x56781234);
    assert_int_equal(config_read(bench, PCI_DEVICE_ID, 2), 0x5678);
    assert_int_equal(config_read(bench, PCI_VENDOR_ID + 1, 1), 0x12);
}

static void mechanism_1_needs_its_enable_bit(void **state)
{
    struct bench *bench = *state;
    bus_write(bench->env.pio, 0xCF8, 4, PROBE_DEVICE << 11);
    assert_int_equal(bus_read(bench->env.pio, 0xCFC, 4), 0xFFFFFFFF);
}

static void address_latch_takes_whole_double_words_only(void **state)
{
    struct bench *bench = *state;
    bus_write(bench->env.pio, 0xCF8, 4, 0x80001234);
    bus_write(bench->env.pio, 0xCFA, 1, 0xFF);
    bus_write(bench->env.pio, 0xCF8, 2, 0xFFFF);
    assert_int_equal(bus_read(bench->env.pio, 0xCF8, 4), 0x80001234);
}

static void empty_places_read_as_ones(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(bus_read(bench->env.mmio, ecam(9, 0), 4), 0xFFFFFFFF);
    assert_int_equal(bus_read(bench->env.mmio, ecam(PROBE_DEVICE, 0) + (7 << 20), 4), 0xFFFFFFFF);
    /* A conventional function ends at 256 bytes, an Express one at 4096. */
    assert_int_equal(bus_read(bench->env.mmio, ecam(0, 0x100), 4), 0xFFFFFFFF);
    assert_int_equal(bus_read(bench->env.mmio, ecam(PROBE_DEVICE, 0x100), 4), 0);
}

static void window_follows_pciexbar(void **state)
{
    struct bench *bench = *state;
    bus_write(bench->env.mmio, ecam(0, 0x60), 4, 0xD0000001);
    assert_int_equal(bus_read(bench->env.mmio, ecam(0, 0), 4), 0xFFFFFFFF);
    assert_int_equal(bus_read(bench->env.mmio, 0xD0000000, 4), 0x29C08086);
    /* 64 MiB: what lies behind is not decoded. */
    bus_write(bench->env.mmio, 0xD0000060, 4, 0xD0000005);
    assert_int_equal(bus_read(bench->env.mmio, 0xD0000000, 4), 0x29C08086);
    assert_int_equal(bus_read(bench->env.mmio, 0xD4000000, 4), 0xFFFFFFFF);
    bus_write(bench->env.mmio, 0xD0000060, 4, 0);
    assert_false(bus_is_claimed(bench->env.mmio, 0xD0000000));
    device_reset(bench->bridge);
    assert_int_equal(bus_read(bench->env.mmio, ecam(0, 0), 4), 0x29C08086);
}

static void smram_registers_lock_until_reset(void **state)
{
    struct bench *bench = *state;
    bus_write(bench->env.mmio, ecam(0, 0x9D), 1, 0x4A);
    assert_int_equal(bus_read(bench->env.mmio, ecam(0, 0x9D), 1), 0x4A);
    bus_write(bench->env.mmio, ecam(0, 0x9D), 1, 0x5A);
    assert_int_equal(bus_read(bench->env.mmio, ecam(0, 0x9D), 1), 0x1A);
    bus_write(bench->env.mmio, ecam(0, 0x9D), 1, 0x42);
    bus_write(bench->env.mmio, ecam(0, 0x9E), 1, 0x07);
    assert_int_equal(bus_read(bench->env.mmio, ecam(0, 0x9D), 2), 0x381A);
    device_reset(bench->bridge);
    bus_write(bench->env.mmio, ecam(0, 0x9D), 1, 0x4A);
    assert_int_equal(bus_read(bench->env.mmio, ecam(0, 0x9D), 1), 0x4A);
}

static void read_only_bytes_stay(void **state)
{
    struct bench *bench = *state;
    for (unsigned offset = 0; offset < 256; offset += 4)
        config_write(bench, offset, 4, 0xFFFFFFFF);
    assert_int_equal(config_read(bench, PCI_VENDOR_ID, 4), 0x56781234);
    assert_int_equal(config_read(bench, PCI_CLASS_REVISION, 4), 0xFF000000);
    assert_int_equal(config_read(bench, PCI_INTERRUPT_PIN, 1), 2);
}

static void a_taken_address_is_refused(void **state)
{
    struct bench *bench = *state;
    struct pci_address address = {NULL, PROBE_DEVICE, 0};
    g_autoptr(GError) error = NULL;

    assert_null(device_create(&probe_ops, "other", &bench->env, &address, &error));
    assert_non_null(strstr(error->message, "05.0 is taken by probe"));
}

/* ---- BARs ---- */

static void bars_tell_their_size(void **state)
{
    struct bench *bench = *state;
    for (unsigned i = 0; i < 5; i++)
        config_write(bench, PCI_BASE_ADDRESS_0 + 4 * i, 4, 0xFFFFFFFF);
    assert_int_equal(config_read(bench, PCI_BASE_ADDRESS_0, 4), 0xFFFFFFE1);
    assert_int_equal(config_read(bench, PCI_BASE_ADDRESS_1, 4), 0xFFFFF000);
    assert_int_equal(config_read(bench, PCI_BASE_ADDRESS_2, 4), 0xFFF0000C);
    assert_int_equal(config_read(bench, PCI_BASE_ADDRESS_3, 4), 0xFFFFFFFF);
    assert_int_equal(config_read(bench, PCI_BASE_ADDRESS_4, 4), 0xFFFFE000);
    assert_int_equal(config_read(bench, PCI_BASE_ADDRESS_5, 4), 0);
}

static void bars_decode_where_the_command_register_lets_them(void **state)
{
    struct bench *bench = *state;
    config_write(bench, PCI_BASE_ADDRESS_0, 4, 0xC000);
    config_write(bench, PCI_BASE_ADDRESS_1, 4, 0xC0001000);
    config_write(bench, PCI_BASE_ADDRESS_2, 4, 0x00200000);
    config_write(bench, PCI_BASE_ADDRESS_3, 4, 0x80);
    assert_false(bus_is_claimed(bench->env.pio, 0xC000));
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_IO);
    assert_true(bus_is_claimed(bench->env.pio, 0xC000));
    assert_false(bus_is_claimed(bench->env.mmio, 0xC0001000));
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_false(bus_is_claimed(bench->env.pio, 0xC000));
    bus_write(bench->env.mmio, 0xC0001000, 4, 0x1000);
    assert_int_equal(bus_read(bench->env.mmio, 0xC0001008, 4), 0x1008);
    assert_int_equal(bus_read(bench->env.mmio, 0x8000200000 + 0xFFFFC, 4), 0x1000 + 0xFFFFC);
}

static void bars_move(void **state)
{
    struct bench *bench = *state;
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    config_write(bench, PCI_BASE_ADDRESS_1, 4, 0xC0001000);
    config_write(bench, PCI_BASE_ADDRESS_1, 4, 0xC0005000);
    assert_false(bus_is_claimed(bench->env.mmio, 0xC0001000));
    assert_true(bus_is_claimed(bench->env.mmio, 0xC0005000));
    /* All ones, as while sizing, is nowhere. */
    config_write(bench, PCI_BASE_ADDRESS_1, 4, 0xFFFFFFFF);
    assert_false(bus_is_claimed(bench->env.mmio, 0xC0005000));
    assert_false(bus_is_claimed(bench->env.mmio, 0xFFFFF000));
}

static void bars_lose_against_the_chipset(void **state)
{
    struct bench *bench = *state;
    config_write(bench, PCI_BASE_ADDRESS_1, 4, PC_ECAM_BASE);
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_int_equal(bus_read(bench->env.mmio, PC_ECAM_BASE, 4), 0x29C08086);
}

static void power_state_d3_stops_decoding(void **state)
{
    struct bench *bench = *state;
    unsigned pm = bench->probe->pci.pm;
    config_write(bench, PCI_BASE_ADDRESS_1, 4, 0xC0001000);
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    config_write(bench, pm + PCI_PM_CTRL, 2, 3);
    assert_false(bus_is_claimed(bench->env.mmio, 0xC0001000));
    config_write(bench, pm + PCI_PM_CTRL, 2, 0);
    assert_true(bus_is_claimed(bench->env.mmio, 0xC0001000));
}

static void reset_closes_everything(void **state)
{
    struct bench *bench = *state;
    config_write(bench, PCI_BASE_ADDRESS_1, 4, 0xC0001000);
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    pci_intx_set(&bench->probe->pci, true);
    assert_true(bench->probe->pci.dma.enabled);
    device_reset(&bench->probe->pci.device);
    assert_false(bench->probe->pci.dma.enabled);
    assert_false(bus_is_claimed(bench->env.mmio, 0xC0001000));
    assert_false(bench->pirq[PROBE_PIRQ]);
    assert_int_equal(config_read(bench, PCI_BASE_ADDRESS_1, 4), 0);
}

/* ---- interrupts ---- */

static void intx_reaches_the_swizzled_line(void **state)
{
    struct bench *bench = *state;
    pci_intx_set(&bench->probe->pci, true);
    for (unsigned i = 0; i < PCI_PIRQS; i++)
        assert_int_equal(bench->pirq[i], i == PROBE_PIRQ);
    assert_int_equal(config_read(bench, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT,
                     PCI_STATUS_INTERRUPT);
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    assert_false(bench->pirq[PROBE_PIRQ]);
    config_write(bench, PCI_COMMAND, 2, 0);
    assert_true(bench->pirq[PROBE_PIRQ]);
    pci_intx_set(&bench->probe->pci, false);
    assert_false(bench->pirq[PROBE_PIRQ]);
}

static void a_shared_line_is_high_while_anyone_drives_it(void **state)
{
    struct bench *bench = *state;
    struct pci_address address = {NULL, PROBE_DEVICE + 8, 0};
    struct device *other = device_create(&probe_ops, "other", &bench->env, &address, NULL);

    assert_non_null(other);
    pci_intx_set(&bench->probe->pci, true);
    pci_intx_set((struct pci_function *)other, true);
    pci_intx_set(&bench->probe->pci, false);
    assert_true(bench->pirq[PROBE_PIRQ]);
    device_destroy(other);
    assert_false(bench->pirq[PROBE_PIRQ]);
}

static void msi_setup(struct bench *bench, unsigned order)
{
    unsigned msi_offset = bench->probe->pci.msi;
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    config_write(bench, msi_offset + PCI_MSI_ADDRESS_LO, 4, 0xFEE01000);
    config_write(bench, msi_offset + PCI_MSI_DATA_64, 2, 0x4061);
    config_write(bench, msi_offset + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | order << 4);
}

static void msi_sends_the_vector_in_the_low_bits(void **state)
{
    struct bench *bench = *state;
    pci_msi_notify(&bench->probe->pci, 0);
    assert_int_equal(bench->messages, 0);
    msi_setup(bench, 2);
    pci_msi_notify(&bench->probe->pci, 3);
    assert_int_equal(bench->messages, 1);
    assert_int_equal(bench->address, 0xFEE01000);
    assert_int_equal(bench->data, 0x4063);
    pci_msi_notify(&bench->probe->pci, 4);
    assert_int_equal(bench->messages, 1);
}

static void msi_never_grants_more_than_was_asked_for(void **state)
{
    struct bench *bench = *state;
    msi_setup(bench, 7);
    pci_msi_notify(&bench->probe->pci, 4);
    pci_msi_notify(&bench->probe->pci, 31);
    assert_int_equal(bench->messages, 0);
    pci_msi_notify(&bench->probe->pci, 3);
    assert_int_equal(bench->messages, 1);
}

static void a_masked_msi_is_pending_until_unmasked(void **state)
{
    struct bench *bench = *state;
    unsigned msi_offset = bench->probe->pci.msi;
    msi_setup(bench, 2);
    config_write(bench, msi_offset + PCI_MSI_MASK_64, 4, 0xFFFFFFFF);
    assert_int_equal(config_read(bench, msi_offset + PCI_MSI_MASK_64, 4), 0xF);
    pci_msi_notify(&bench->probe->pci, 1);
    assert_int_equal(bench->messages, 0);
    assert_int_equal(config_read(bench, msi_offset + PCI_MSI_PENDING_64, 4), 2);
    config_write(bench, msi_offset + PCI_MSI_MASK_64, 4, 0);
    assert_int_equal(bench->messages, 1);
    assert_int_equal(bench->data, 0x4061);
    assert_int_equal(config_read(bench, msi_offset + PCI_MSI_PENDING_64, 4), 0);
}

static void messages_need_the_bus_master_bit(void **state)
{
    struct bench *bench = *state;
    msi_setup(bench, 0);
    config_write(bench, PCI_COMMAND, 2, 0);
    pci_msi_notify(&bench->probe->pci, 0);
    assert_int_equal(bench->messages, 0);
}

#define MSIX_BAR 0xC0010000ULL

static void msix_setup(struct bench *bench, uint16_t flags)
{
    config_write(bench, PCI_BASE_ADDRESS_4, 4, MSIX_BAR);
    config_write(bench, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
    config_write(bench, bench->probe->pci.msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | flags);
    for (unsigned i = 0; i < PROBE_VECTORS; i++) {
        bus_write(bench->env.mmio, MSIX_BAR + 16 * i, 8, 0xFEE00000 + (i << 12));
        bus_write(bench->env.mmio, MSIX_BAR + 16 * i + 8, 4, 0x40 + i);
    }
}

static void msix_vectors_are_masked_after_reset(void **state)
{
    struct bench *bench = *state;
    msix_setup(bench, 0);
    assert_int_equal(bus_read(bench->env.mmio, MSIX_BAR + 16 * 39 + 12, 4), 1);
    pci_msix_notify(&bench->probe->pci, 39);
    assert_int_equal(bench->messages, 0);
    assert_int_equal(bus_read(bench->env.mmio, MSIX_BAR + 0x1004, 4), 1 << 7);
    bus_write(bench->env.mmio, MSIX_BAR + 16 * 39 + 12, 4, 0);
    assert_int_equal(bench->messages, 1);
    assert_int_equal(bench->address, 0xFEE27000);
    assert_int_equal(bench->data, 0x40 + 39);
    assert_int_equal(bus_read(bench->env.mmio, MSIX_BAR + 0x1004, 4), 0);
}

static void the_msix_function_mask_holds_back_all(void **state)
{
    struct bench *bench = *state;
    msix_setup(bench, PCI_MSIX_FLAGS_MASKALL);
    bus_write(bench->env.mmio, MSIX_BAR + 16 * 2 + 12, 4, 0);
    bus_write(bench->env.mmio, MSIX_BAR + 16 * 5 + 12, 4, 0);
    pci_msix_notify(&bench->probe->pci, 2);
    pci_msix_notify(&bench->probe->pci, 5);
    pci_msix_notify(&bench->probe->pci, PROBE_VECTORS);
    assert_int_equal(bench->messages, 0);
    config_write(bench, bench->probe->pci.msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    assert_int_equal(bench->messages, 2);
    assert_int_equal(bench->data, 0x45);
}

static void the_pending_array_is_read_only(void **state)
{
    struct bench *bench = *state;
    msix_setup(bench, 0);
    bus_write(bench->env.mmio, MSIX_BAR + 0x1000, 4, 0xFFFFFFFF);
    assert_int_equal(bus_read(bench->env.mmio, MSIX_BAR + 0x1000, 4), 0);
    assert_int_equal(bus_read(bench->env.mmio, MSIX_BAR + 16 * PROBE_VECTORS, 4), 0);
}

/* ---- state ---- */

static void a_loaded_function_decodes_and_interrupts_as_the_saved_one(void **state)
{
    struct bench *bench = *state;
    struct device *device = &bench->probe->pci.device;
    g_autoptr(GError) error = NULL;

    msix_setup(bench, 0);
    config_write(bench, PCI_BASE_ADDRESS_1, 4, 0xC0001000);
    pci_intx_set(&bench->probe->pci, true);
    pci_msix_notify(&bench->probe->pci, 3);
    g_autoptr(GBytes) saved = device_save(device);
    device_reset(device);
    assert_false(bus_is_claimed(bench->env.mmio, 0xC0001000));
    assert_true(device_load(device, saved, &error));
    assert_true(bus_is_claimed(bench->env.mmio, 0xC0001000));
    assert_true(bench->pirq[PROBE_PIRQ]);
    bus_write(bench->env.mmio, MSIX_BAR + 16 * 3 + 12, 4, 0);
    assert_int_equal(bench->data, 0x43);
    g_autoptr(GBytes) again = device_save(device);
    assert_true(device_load(device, again, &error));
}

static void a_stream_cannot_change_what_the_function_is(void **state)
{
    struct bench *bench = *state;
    struct device *device = &bench->probe->pci.device;
    uint8_t *config = bench->probe->state.pci.config;

    memset(config, 0xFF, PCIE_CONFIG_SIZE);
    g_autoptr(GBytes) hostile = device_save(device);
    device_reset(device);
    assert_true(device_load(device, hostile, NULL));
    assert_int_equal(config_read(bench, PCI_VENDOR_ID, 4), 0x56781234);
    for (unsigned i = 0; i < 64; i++) {
        pci_msi_notify(&bench->probe->pci, i);
        pci_msix_notify(&bench->probe->pci, i);
    }
}

/* ---- bridges ---- */

#define PORT_BUS  3
#define PORT_SLOT 0x1C

static uint64_t port_ecam(unsigned offset)
{
    return ecam(PORT_SLOT, offset);
}

static uint64_t slot_ecam(unsigned offset)
{
    return PC_ECAM_BASE + (PORT_BUS << 20) + offset;
}

/* A root port with a probe in its slot; bus numbers and a memory window are set. */
static struct device *port_create(struct bench *bench, struct device **probe)
{
    struct root_port_config config;

    root_port_device.defaults(&bench->env, &config);
    struct device *port = device_create(&root_port_device, "port", &bench->env, &config, NULL);
    assert_non_null(port);
    struct pci_address address = {root_port_bus(port), 0, 0};
    *probe = device_create(&probe_ops, "slotted", &bench->env, &address, NULL);
    assert_non_null(*probe);
    bus_write(bench->env.mmio, port_ecam(PCI_PRIMARY_BUS), 4, PORT_BUS << 16 | PORT_BUS << 8);
    bus_write(bench->env.mmio, port_ecam(PCI_MEMORY_BASE), 4, 0xC010C010);
    return port;
}

static void configuration_cycles_pass_a_bridge_by_bus_number(void **state)
{
    struct bench *bench = *state;
    struct device *probe, *port = port_create(bench, &probe);

    assert_int_equal(bus_read(bench->env.mmio, slot_ecam(0), 4), 0x56781234);
    assert_int_equal(bus_read(bench->env.mmio, slot_ecam(1 << 15), 4), 0xFFFFFFFF);
    bus_write(bench->env.mmio, port_ecam(PCI_PRIMARY_BUS), 4, 0);
    assert_int_equal(bus_read(bench->env.mmio, slot_ecam(0), 4), 0xFFFFFFFF);
    device_destroy(probe);
    device_destroy(port);
}

static void a_bar_behind_a_bridge_needs_the_bridge_to_forward_it(void **state)
{
    struct bench *bench = *state;
    struct device *probe, *port = port_create(bench, &probe);

    bus_write(bench->env.mmio, slot_ecam(PCI_BASE_ADDRESS_1), 4, 0xC0104000);
    bus_write(bench->env.mmio, slot_ecam(PCI_COMMAND), 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_false(bus_is_claimed(bench->env.mmio, 0xC0104000));
    assert_false(((struct pci_function *)probe)->dma.enabled);
    bus_write(bench->env.mmio, port_ecam(PCI_COMMAND), 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_true(bus_is_claimed(bench->env.mmio, 0xC0104000));
    assert_true(((struct pci_function *)probe)->dma.enabled);
    bus_write(bench->env.mmio, port_ecam(PCI_MEMORY_BASE), 4, 0xC020C020);
    assert_false(bus_is_claimed(bench->env.mmio, 0xC0104000));
    device_destroy(probe);
    device_destroy(port);
}

static void intx_behind_a_bridge_is_swizzled_twice(void **state)
{
    struct bench *bench = *state;
    struct device *probe, *port = port_create(bench, &probe);

    /* INTB of device 0 stays INTB at the bridge, which is device 28. */
    pci_intx_set((struct pci_function *)probe, true);
    assert_true(bench->pirq[(PORT_SLOT + 1) % PCI_PIRQS]);
    device_destroy(probe);
    assert_false(bench->pirq[(PORT_SLOT + 1) % PCI_PIRQS]);
    device_destroy(port);
}

static uint64_t port_register(struct device *port, unsigned reg)
{
    return port_ecam(((struct pci_function *)port)->express + reg);
}

static void hot_plug_latches_events_and_interrupts_once(void **state)
{
    struct bench *bench = *state;
    struct device *probe, *port = port_create(bench, &probe);
    unsigned msi_offset = ((struct pci_function *)port)->msi;

    bus_write(bench->env.mmio, port_ecam(PCI_COMMAND), 2, PCI_COMMAND_MASTER);
    bus_write(bench->env.mmio, port_ecam(msi_offset + PCI_MSI_ADDRESS_LO), 4, 0xFEE00000);
    bus_write(bench->env.mmio, port_ecam(msi_offset + PCI_MSI_DATA_64), 2, 0x55);
    bus_write(bench->env.mmio, port_ecam(msi_offset + PCI_MSI_FLAGS), 2, PCI_MSI_FLAGS_ENABLE);
    bus_write(bench->env.mmio, port_register(port, PCI_EXP_SLTCTL), 2,
              PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_PDCE);
    root_port_set_present(port, true);
    assert_int_equal(bench->messages, 1);
    assert_int_equal(bench->data, 0x55);
    assert_int_equal(bus_read(bench->env.mmio, port_register(port, PCI_EXP_SLTSTA), 2),
                     PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_CC |
                         PCI_EXP_SLTSTA_DLLSC);
    assert_true(bus_read(bench->env.mmio, port_register(port, PCI_EXP_LNKSTA), 2) &
                PCI_EXP_LNKSTA_DLLLA);
    root_port_set_present(port, true);
    root_port_set_present(port, false);
    assert_int_equal(bench->messages, 1);
    bus_write(bench->env.mmio, port_register(port, PCI_EXP_SLTSTA), 2, 0xFFFF);
    assert_int_equal(bus_read(bench->env.mmio, port_register(port, PCI_EXP_SLTSTA), 2), 0);
    root_port_set_present(port, true);
    assert_int_equal(bench->messages, 2);
    device_destroy(probe);
    device_destroy(port);
}

static void count_release(void *opaque, struct device *port)
{
    ++*(unsigned *)opaque;
}

static void a_slot_switched_off_releases_what_is_in_it(void **state)
{
    struct bench *bench = *state;
    struct device *probe, *port = port_create(bench, &probe);
    unsigned released = 0;

    root_port_on_power_off(port, count_release, &released);
    root_port_set_present(port, true);
    bus_write(bench->env.mmio, port_register(port, PCI_EXP_SLTCTL), 2, PCI_EXP_SLTCTL_PCC);
    bus_write(bench->env.mmio, port_register(port, PCI_EXP_SLTCTL), 2, PCI_EXP_SLTCTL_PCC);
    assert_int_equal(released, 1);
    assert_false(bus_read(bench->env.mmio, port_register(port, PCI_EXP_LNKSTA), 2) &
                 PCI_EXP_LNKSTA_DLLLA);
    device_destroy(probe);
    device_destroy(port);
}

static void gsi_set(void *opaque, unsigned pin, bool level)
{
    uint32_t *levels = opaque;
    *levels = level ? *levels | 1U << pin : *levels & ~(1U << pin);
}

static void the_lpc_bridge_routes_pirqs_to_both_controllers(void **state)
{
    struct bench *bench = *state;
    struct lpc_config config;
    uint32_t levels = 0;

    for (unsigned i = 0; i < 24; i++)
        bench->env.gsi[i] = (struct irq_line){gsi_set, &levels, i};
    lpc_device.defaults(&bench->env, &config);
    struct device *lpc = device_create(&lpc_device, "lpc", &bench->env, &config, NULL);
    assert_non_null(lpc);
    pci_intx_set(&bench->probe->pci, true);
    assert_int_equal(levels, 1U << (16 + PROBE_PIRQ));
    /* PIRQG to ISA interrupt 10, then to one that is no choice, then nowhere. */
    bus_write(bench->env.mmio, ecam(0x1F, 0x68 + PROBE_PIRQ - 4), 1, 10);
    assert_int_equal(levels, 1U << (16 + PROBE_PIRQ) | 1U << 10);
    bus_write(bench->env.mmio, ecam(0x1F, 0x68 + PROBE_PIRQ - 4), 1, 8);
    assert_int_equal(levels, 1U << (16 + PROBE_PIRQ));
    bus_write(bench->env.mmio, ecam(0x1F, 0x68 + PROBE_PIRQ - 4), 1, 0x8B);
    pci_intx_set(&bench->probe->pci, false);
    assert_int_equal(levels, 0);
    device_destroy(lpc);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(mechanism_1_reads_identity_in_every_width),
        SCENARIO(mechanism_1_needs_its_enable_bit),
        SCENARIO(address_latch_takes_whole_double_words_only),
        SCENARIO(empty_places_read_as_ones),
        SCENARIO(window_follows_pciexbar),
        SCENARIO(smram_registers_lock_until_reset),
        SCENARIO(read_only_bytes_stay),
        SCENARIO(a_taken_address_is_refused),
        SCENARIO(bars_tell_their_size),
        SCENARIO(bars_decode_where_the_command_register_lets_them),
        SCENARIO(bars_move),
        SCENARIO(bars_lose_against_the_chipset),
        SCENARIO(power_state_d3_stops_decoding),
        SCENARIO(reset_closes_everything),
        SCENARIO(intx_reaches_the_swizzled_line),
        SCENARIO(a_shared_line_is_high_while_anyone_drives_it),
        SCENARIO(msi_sends_the_vector_in_the_low_bits),
        SCENARIO(msi_never_grants_more_than_was_asked_for),
        SCENARIO(a_masked_msi_is_pending_until_unmasked),
        SCENARIO(messages_need_the_bus_master_bit),
        SCENARIO(msix_vectors_are_masked_after_reset),
        SCENARIO(the_msix_function_mask_holds_back_all),
        SCENARIO(the_pending_array_is_read_only),
        SCENARIO(a_loaded_function_decodes_and_interrupts_as_the_saved_one),
        SCENARIO(a_stream_cannot_change_what_the_function_is),
        SCENARIO(configuration_cycles_pass_a_bridge_by_bus_number),
        SCENARIO(a_bar_behind_a_bridge_needs_the_bridge_to_forward_it),
        SCENARIO(intx_behind_a_bridge_is_swizzled_twice),
        SCENARIO(hot_plug_latches_events_and_interrupts_once),
        SCENARIO(a_slot_switched_off_releases_what_is_in_it),
        SCENARIO(the_lpc_bridge_routes_pirqs_to_both_controllers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
