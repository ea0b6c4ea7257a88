// SPDX-License-Identifier: Apache-2.0
/*
 * Host bridge: the memory controller hub of Intel's 3 series (82Q35, 8086:29C0), device 0 of bus 0.
 *
 * It turns accesses of the CPU into configuration cycles in two ways: configuration mechanism 1
 * (PCI 3.0, 3.2.2.3.2), a 32-bit address latch at CF8h and a data port at CFCh; and the memory
 * window that PCIEXBAR opens (PCI Express 3.0, 7.2.2), in which bus, device, function and register
 * are the address. Registers follow the 3 series datasheet, chapter 5 (DRAM controller, D0:F0).
 *
 * The PAM and SMRAM registers keep their values and locks.
 */
#include "vmm/device/pci/host_bridge.h"

#include <linux/pci_regs.h>

#include "vmm/machine/pc/layout.h"
#include "vmm/util/fault.h"

#define MCH_VENDOR 0x8086
#define MCH_DEVICE 0x29C0

#define MCH_PCIEXBAR    0x60 /* 8 bytes */
#define PCIEXBAR_ENABLE 1ULL
#define PCIEXBAR_64MIB  4ULL           /* length: 64 buses */
#define PCIEXBAR_BASE   0xFF0000000ULL /* bits 35:28 */
#define PCIEXBAR_BASE27 0x008000000ULL /* only with 128 MiB or 64 MiB */
#define PCIEXBAR_BASE26 0x004000000ULL /* only with 64 MiB */
#define MCH_PAM0        0x90           /* 7 registers */
#define MCH_PAMS        7
#define MCH_SMRAM       0x9D
#define SMRAM_OPEN      0x40
#define SMRAM_CLOSED    0x20
#define SMRAM_LOCK      0x10
#define SMRAM_ENABLE    0x08
#define SMRAM_SEGMENT   0x02 /* A0000h, the only choice */
#define MCH_ESMRAMC     0x9E
#define ESMRAMC_HIGH    0x80
#define ESMRAMC_ERROR   0x40
#define ESMRAMC_CACHE   0x38
#define ESMRAMC_TSEG    0x07 /* size and enable */
#define MCH_TOM         0xA0
#define MCH_TOUUD       0xA2
#define MCH_TSEGMB      0xAC
#define MCH_TOLUD       0xB0
#define MCH_SKPD        0xDC

/* CONFIG_ADDRESS */
#define ADDRESS_ENABLE   0x80000000U
#define ADDRESS_WRITABLE 0x80FFFFFCU

struct host_bridge {
    struct pci_function pci;
    struct host_bridge_config config;
    struct host_bridge_state {
        struct pci_state pci;
        uint32_t config_address;
    } state;
    struct {
        struct bus_window *address, *data, *ecam;
        uint64_t ecam_length; /* atomic: one vCPU moves the window while another uses it */
    } host;
};

static const struct state_field host_bridge_fields[] = {
    STATE_NESTED(struct host_bridge_state, pci, &pci_state_table),
    STATE_U(struct host_bridge_state, config_address),
};
static const struct state_table host_bridge_table =
    STATE_TABLE("host-bridge", 1, struct host_bridge_state, host_bridge_fields);

/* ---- configuration mechanism 1 ---- */

static uint64_t address_read(void *opaque, uint64_t offset, unsigned size)
{
    struct host_bridge *bridge = opaque;

    g_mutex_lock(&bridge->pci.device.lock);
    uint32_t value = bridge->state.config_address;
    g_mutex_unlock(&bridge->pci.device.lock);
    return value;
}

static void address_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct host_bridge *bridge = opaque;

    g_mutex_lock(&bridge->pci.device.lock);
    bridge->state.config_address = (uint32_t)value & ADDRESS_WRITABLE;
    g_mutex_unlock(&bridge->pci.device.lock);
}

/* Only whole double words reach the latch: bytes of its ports are other devices', CF9h the reset
 * register. */
static const struct bus_ops address_ops = {
    .read = address_read,
    .write = address_write,
    .widths = BUS_WIDTH_4,
};

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
    struct host_bridge *bridge = opaque;
    uint32_t address = (uint32_t)address_read(bridge, 0, 4);

    if (!(address & ADDRESS_ENABLE))
        return UINT32_MAX;
    return pci_config_read(bridge->pci.bus, address >> 16 & 0xFF, address >> 8 & 0xFF,
                           (address & 0xFC) + (unsigned)offset, size);
}

static void data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct host_bridge *bridge = opaque;
    uint32_t address = (uint32_t)address_read(bridge, 0, 4);

    if (address & ADDRESS_ENABLE)
        pci_config_write(bridge->pci.bus, address >> 16 & 0xFF, address >> 8 & 0xFF,
                         (address & 0xFC) + (unsigned)offset, size, (uint32_t)value);
}

static const struct bus_ops data_ops = {
    .read = data_read,
    .write = data_write,
    .widths = BUS_WIDTH_1 | BUS_WIDTH_2 | BUS_WIDTH_4,
};

/* ---- the PCIe configuration window ---- */

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
    struct host_bridge *bridge = opaque;

    if (offset >= __atomic_load_n(&bridge->host.ecam_length, __ATOMIC_RELAXED))
        return UINT32_MAX;
    return pci_config_read(bridge->pci.bus, (uint8_t)(offset >> 20), (uint8_t)(offset >> 12),
                           offset & 0xFFF, size);
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct host_bridge *bridge = opaque;

    if (offset < __atomic_load_n(&bridge->host.ecam_length, __ATOMIC_RELAXED))
        pci_config_write(bridge->pci.bus, (uint8_t)(offset >> 20), (uint8_t)(offset >> 12),
                         offset & 0xFFF, size, (uint32_t)value);
}

static const struct bus_ops ecam_ops = {
    .read = ecam_read,
    .write = ecam_write,
    .widths = BUS_WIDTH_1 | BUS_WIDTH_2 | BUS_WIDTH_4,
};

/* Place the window as PCIEXBAR says: base, length (256, 128 or 64 MiB) and enable. */
static void ecam_update(struct host_bridge *bridge)
{
    uint64_t value = pci_config_get(&bridge->pci, MCH_PCIEXBAR, 4) |
                     (uint64_t)pci_config_get(&bridge->pci, MCH_PCIEXBAR + 4, 4) << 32;
    unsigned length = value >> 1 & 3;
    uint64_t base = value & (PCIEXBAR_BASE | (length >= 1 ? PCIEXBAR_BASE27 : 0) |
                             (length == 2 ? PCIEXBAR_BASE26 : 0));

    __atomic_store_n(&bridge->host.ecam_length, PC_ECAM_SIZE >> (length & 3), __ATOMIC_RELAXED);
    if (!(value & PCIEXBAR_ENABLE) || length == 3)
        bus_unmap(bridge->host.ecam);
    else
        bus_move(bridge->host.ecam, base);
}

/* ---- configuration space ---- */

/* D_LCK makes the SMRAM registers, and itself, read-only until reset. */
static void smram_update(struct host_bridge *bridge)
{
    uint8_t smram = (uint8_t)pci_config_get(&bridge->pci, MCH_SMRAM, 1);
    bool locked = smram & SMRAM_LOCK;

    if (locked)
        pci_config_set(&bridge->pci, MCH_SMRAM, 1, smram & ~SMRAM_OPEN);
    pci_config_mask(&bridge->pci, MCH_SMRAM, 1,
                    locked ? SMRAM_CLOSED : SMRAM_OPEN | SMRAM_CLOSED | SMRAM_LOCK | SMRAM_ENABLE,
                    0);
    pci_config_mask(&bridge->pci, MCH_ESMRAMC, 1, locked ? 0 : ESMRAMC_HIGH | ESMRAMC_TSEG,
                    ESMRAMC_ERROR);
    pci_config_mask(&bridge->pci, MCH_TSEGMB, 4, locked ? 0 : 0xFFF00000, 0);
    pci_config_mask(&bridge->pci, MCH_TOLUD, 2, locked ? 0 : 0xFFF0, 0);
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    struct host_bridge *bridge = (struct host_bridge *)function;

    if (offset < MCH_PCIEXBAR + 8 && offset + size > MCH_PCIEXBAR)
        ecam_update(bridge);
    if (offset <= MCH_SMRAM && offset + size > MCH_SMRAM)
        smram_update(bridge);
}

static const struct pci_function_ops function_ops = {
    .config_written = config_written,
};

static void registers_init(struct host_bridge *bridge)
{
    struct pci_function *pci = &bridge->pci;
    uint64_t pciexbar = bridge->config.ecam_base & PCIEXBAR_BASE;

    pciexbar |= PCIEXBAR_64MIB;
    pciexbar |= bridge->config.ecam_enabled ? PCIEXBAR_ENABLE : 0;
    pci_config_set(pci, MCH_PCIEXBAR, 4, (uint32_t)pciexbar);
    pci_config_set(pci, MCH_PCIEXBAR + 4, 4, (uint32_t)(pciexbar >> 32));
    pci_config_mask(pci, MCH_PCIEXBAR, 4, 0xFC000007, 0);
    pci_config_mask(pci, MCH_PCIEXBAR + 4, 4, 0xF, 0);
    /* PAM0 governs F0000h..FFFFFh with its high nibble only. */
    pci_config_mask(pci, MCH_PAM0, 1, 0x30, 0);
    for (unsigned i = 1; i < MCH_PAMS; i++)
        pci_config_mask(pci, MCH_PAM0 + i, 1, 0x33, 0);
    pci_config_set(pci, MCH_SMRAM, 1, SMRAM_SEGMENT);
    pci_config_set(pci, MCH_ESMRAMC, 1, ESMRAMC_CACHE);
    pci_config_mask(pci, MCH_TOM, 2, 0x1FF, 0);
    pci_config_mask(pci, MCH_TOUUD, 2, 0xFFFF, 0);
    pci_config_mask(pci, MCH_SKPD, 4, UINT32_MAX, 0);
    smram_update(bridge);
}

/* ---- life ---- */

static void host_bridge_defaults(const struct device_env *env, void *opaque)
{
    struct host_bridge_config *config = opaque;
    *config = (struct host_bridge_config){
        .address = {NULL, PC_PCI_HOST_BRIDGE},
        .ecam_base = PC_ECAM_BASE,
        .ecam_enabled = true,
    };
}

static bool windows_init(struct host_bridge *bridge, GError **error)
{
    const struct device_env *env = bridge->pci.device.env;

    bridge->host.address =
        bus_claim(env->pio, "pci-address", PC_PORT_PCI_ADDRESS, 4, 0, &address_ops, bridge);
    bridge->host.data = bus_claim(env->pio, "pci-data", PC_PORT_PCI_DATA, 4, 0, &data_ops, bridge);
    bridge->host.ecam = bus_claim(env->mmio, "pci-ecam", bridge->config.ecam_base, PC_ECAM_SIZE, 0,
                                  &ecam_ops, bridge);
    if (!bridge->host.address || !bridge->host.data || !bridge->host.ecam) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: its windows do not fit into the address space", bridge->pci.device.id);
        return false;
    }
    ecam_update(bridge);
    return true;
}

static bool host_bridge_init(struct device *device, const void *config, GError **error)
{
    struct host_bridge *bridge = (struct host_bridge *)device;
    static const struct pci_identity identity = {
        .vendor = MCH_VENDOR,
        .device = MCH_DEVICE,
        .class_code = 0x060000,
        .revision = 2,
    };

    bridge->config = *(const struct host_bridge_config *)config;
    if (!pci_function_init(&bridge->pci, &identity, &bridge->config.address, &bridge->state.pci,
                           &function_ops, error))
        return false;
    registers_init(bridge);
    if (!windows_init(bridge, error))
        return false;
    pci_function_plug(&bridge->pci);
    return true;
}

static void host_bridge_finish(struct device *device)
{
    struct host_bridge *bridge = (struct host_bridge *)device;

    bus_release(bridge->host.address);
    bus_release(bridge->host.data);
    bus_release(bridge->host.ecam);
    pci_function_finish(&bridge->pci);
}

static void host_bridge_reset(struct device *device)
{
    struct host_bridge *bridge = (struct host_bridge *)device;

    bridge->state.config_address = 0;
    pci_function_reset(&bridge->pci);
    smram_update(bridge);
    ecam_update(bridge);
}

static void host_bridge_post_load(struct device *device)
{
    struct host_bridge *bridge = (struct host_bridge *)device;

    bridge->state.config_address &= ADDRESS_WRITABLE;
    pci_function_post_load(&bridge->pci);
    smram_update(bridge);
    ecam_update(bridge);
}

const struct device_ops host_bridge_device = {
    .kind = "host-bridge",
    .description = "Q35 host bridge: PCI configuration, memory map registers",
    .size = sizeof(struct host_bridge),
    .config_size = sizeof(struct host_bridge_config),
    .state = &host_bridge_table,
    .state_offset = offsetof(struct host_bridge, state),
    .defaults = host_bridge_defaults,
    .init = host_bridge_init,
    .finish = host_bridge_finish,
    .reset = host_bridge_reset,
    .post_load = host_bridge_post_load,
};
