// SPDX-License-Identifier: Apache-2.0
/*
 * LPC bridge of the ICH9 (8086:2918), device 31 function 0 of bus 0: registers of the ICH9 family
 * datasheet, chapters 13.1 (configuration) and 10.1 (chipset configuration registers).
 *
 * It is the interrupt router. The eight PIRQ lines always reach IOAPIC inputs 16 to 23; each also
 * reaches the ISA interrupt that its routing register names, unless bit 7 of it is set, as after
 * reset. Several PIRQs may share an ISA interrupt, which is high while one of them is.
 */
#include "vmm/device/pci/lpc.h"

#include <linux/pci_regs.h>

#include "vmm/machine/pc/layout.h"
#include "vmm/util/fault.h"

#define LPC_VENDOR 0x8086
#define LPC_DEVICE 0x2918

#define LPC_PMBASE       0x40
#define LPC_ACPI_CNTL    0x44
#define ACPI_CNTL_ENABLE 0x80
#define LPC_GPIOBASE     0x48
#define LPC_GPIO_CNTL    0x4C
#define LPC_PIRQ_A       0x60 /* A to D */
#define LPC_SERIRQ       0x64
#define LPC_PIRQ_E       0x68 /* E to H */
#define PIRQ_DISABLED    0x80
#define LPC_IO_DECODE    0x80
#define LPC_IO_ENABLE    0x82
#define LPC_GENERIC_IO   0x84 /* four registers */
#define LPC_GEN_PMCON_1  0xA0
#define LPC_GEN_PMCON_2  0xA2
#define LPC_GEN_PMCON_3  0xA4
#define LPC_BIOS_CNTL    0xDC
#define LPC_RCBA         0xF0
#define RCBA_ENABLE      1U
#define RCBA_BASE        0xFFFFC000U

/* Chipset configuration registers, in the window of RCBA. */
#define RCRB_SIZE      0x4000
#define RCRB_HPTC      0x3404 /* HPET's address and enable */
#define HPTC_WRITABLE  0x83U
#define RCRB_GCS       0x3410 /* boot straps; bit 5: no reboot by the watchdog */
#define GCS_WRITABLE   0xC64U
#define RCRB_BUC       0x3414
#define BUC_WRITABLE   0x01U
#define ISA_INTERRUPTS 16
/* ISA interrupts that a PIRQ can be routed to: 3-7, 9-12, 14, 15. */
#define ISA_ROUTABLE 0xDEF8U

struct lpc {
    struct pci_function pci;
    struct lpc_config config;
    struct lpc_state {
        struct pci_state pci;
        uint32_t hptc, gcs, buc;
    } state;
    struct {
        struct bus_window *rcrb;
        bool pirq[PCI_PIRQS];
        uint16_t isa_driven; /* ISA interrupts that we hold high */
    } host;
};

static const struct state_field lpc_fields[] = {
    STATE_NESTED(struct lpc_state, pci, &pci_state_table),
    STATE_U(struct lpc_state, hptc),
    STATE_U(struct lpc_state, gcs),
    STATE_U(struct lpc_state, buc),
};
static const struct state_table lpc_table = STATE_TABLE("lpc", 1, struct lpc_state, lpc_fields);

/* ---- interrupt routing ---- */

static unsigned pirq_register(unsigned pirq)
{
    return pirq < 4 ? LPC_PIRQ_A + pirq : LPC_PIRQ_E + pirq - 4;
}

/* Bring the ISA interrupts in line with PIRQ levels and routing. Device locked. */
static void isa_update_locked(struct lpc *lpc)
{
    uint16_t wanted = 0;

    for (unsigned i = 0; i < PCI_PIRQS; i++) {
        uint32_t route = pci_config_get(&lpc->pci, pirq_register(i), 1);
        if (lpc->host.pirq[i] && !(route & PIRQ_DISABLED))
            wanted |= 1U << (route & 15);
    }
    wanted &= ISA_ROUTABLE;
    for (unsigned i = 0; i < ISA_INTERRUPTS; i++)
        if ((wanted ^ lpc->host.isa_driven) >> i & 1)
            irq_set(&lpc->pci.device.env->gsi[i], wanted >> i & 1);
    lpc->host.isa_driven = wanted;
}

static void pirq_set(void *opaque, unsigned pin, bool level)
{
    struct lpc *lpc = opaque;

    irq_set(&lpc->pci.device.env->gsi[PC_GSI_PCI_BASE + pin], level);
    g_mutex_lock(&lpc->pci.device.lock);
    lpc->host.pirq[pin] = level;
    isa_update_locked(lpc);
    g_mutex_unlock(&lpc->pci.device.lock);
}

static void isa_update(struct lpc *lpc)
{
    g_mutex_lock(&lpc->pci.device.lock);
    isa_update_locked(lpc);
    g_mutex_unlock(&lpc->pci.device.lock);
}

/* ---- chipset configuration registers ---- */

static uint64_t rcrb_read(void *opaque, uint64_t offset, unsigned size)
{
    struct lpc *lpc = opaque;
    uint32_t value = 0;

    g_mutex_lock(&lpc->pci.device.lock);
    if (offset == RCRB_HPTC)
        value = lpc->state.hptc;
    else if (offset == RCRB_GCS)
        value = lpc->state.gcs;
    else if (offset == RCRB_BUC)
        value = lpc->state.buc;
    g_mutex_unlock(&lpc->pci.device.lock);
    return value;
}

static void rcrb_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct lpc *lpc = opaque;

    g_mutex_lock(&lpc->pci.device.lock);
    if (offset == RCRB_HPTC)
        lpc->state.hptc = (uint32_t)value & HPTC_WRITABLE;
    else if (offset == RCRB_GCS)
        lpc->state.gcs = (uint32_t)value & GCS_WRITABLE;
    else if (offset == RCRB_BUC)
        lpc->state.buc = (uint32_t)value & BUC_WRITABLE;
    g_mutex_unlock(&lpc->pci.device.lock);
}

static const struct bus_ops rcrb_ops = {
    .read = rcrb_read,
    .write = rcrb_write,
    .widths = BUS_WIDTH_4,
};

static void rcrb_update(struct lpc *lpc)
{
    uint32_t rcba = pci_config_get(&lpc->pci, LPC_RCBA, 4);

    if (rcba & RCBA_ENABLE)
        bus_move(lpc->host.rcrb, rcba & RCBA_BASE);
    else
        bus_unmap(lpc->host.rcrb);
}

/* ---- configuration space ---- */

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    struct lpc *lpc = (struct lpc *)function;

    if (offset + size > LPC_PIRQ_A && offset < LPC_PIRQ_E + 4)
        isa_update(lpc);
    if (offset + size > LPC_RCBA && offset < LPC_RCBA + 4)
        rcrb_update(lpc);
}

static const struct pci_function_ops function_ops = {
    .config_written = config_written,
};

static void registers_init(struct lpc *lpc)
{
    struct pci_function *pci = &lpc->pci;
    bool programmed = lpc->config.programmed;

    /* The bridge decodes ports and memory and is bus master, always. */
    pci_config_set(pci, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    pci_config_mask(pci, PCI_COMMAND, 2, PCI_COMMAND_PARITY | PCI_COMMAND_SERR, 0);
    pci_config_set(pci, PCI_STATUS, 2, PCI_STATUS_DEVSEL_MEDIUM);
    pci_config_set(pci, LPC_PMBASE, 4, 1 | (programmed ? lpc->config.pm_base & 0xFF80 : 0));
    pci_config_mask(pci, LPC_PMBASE, 4, 0xFF80, 0);
    pci_config_set(pci, LPC_ACPI_CNTL, 1, programmed ? ACPI_CNTL_ENABLE : 0);
    pci_config_mask(pci, LPC_ACPI_CNTL, 1, 0x87, 0);
    pci_config_set(pci, LPC_GPIOBASE, 4, 1);
    pci_config_mask(pci, LPC_GPIOBASE, 4, 0xFF80, 0);
    pci_config_mask(pci, LPC_GPIO_CNTL, 1, 0x11, 0);
    for (unsigned i = 0; i < PCI_PIRQS; i++) {
        pci_config_set(pci, pirq_register(i), 1, PIRQ_DISABLED);
        pci_config_mask(pci, pirq_register(i), 1, 0x8F, 0);
    }
    pci_config_set(pci, LPC_SERIRQ, 1, 0x10);
    pci_config_mask(pci, LPC_SERIRQ, 1, 0xC3, 0);
    pci_config_mask(pci, LPC_IO_DECODE, 2, 0x1377, 0);
    pci_config_set(pci, LPC_IO_ENABLE, 2, programmed ? 0x0403 : 0); /* keyboard, COM1, COM2 */
    pci_config_mask(pci, LPC_IO_ENABLE, 2, 0x3F0F, 0);
    for (unsigned i = 0; i < 4; i++)
        pci_config_mask(pci, LPC_GENERIC_IO + 4 * i, 4, 0x00FCFFFD, 0);
    pci_config_mask(pci, LPC_GEN_PMCON_1, 2, 0x06FF, 0);
    pci_config_mask(pci, LPC_GEN_PMCON_2, 1, 0x01, 0x9E);
    pci_config_mask(pci, LPC_GEN_PMCON_3, 1, 0xF9, 0x06);
    pci_config_mask(pci, LPC_BIOS_CNTL, 1, 0x1F, 0);
    pci_config_mask(pci, LPC_RCBA, 4, RCBA_BASE | RCBA_ENABLE, 0);
}

/* ---- life ---- */

static void lpc_defaults(const struct device_env *env, void *opaque)
{
    struct lpc_config *config = opaque;
    *config = (struct lpc_config){
        .address = {NULL, PC_PCI_LPC_BRIDGE},
        .pm_base = PC_PORT_ACPI_PM,
        .programmed = true,
    };
}

static bool lpc_init(struct device *device, const void *config, GError **error)
{
    struct lpc *lpc = (struct lpc *)device;
    struct irq_line lines[PCI_PIRQS];
    static const struct pci_identity identity = {
        .vendor = LPC_VENDOR,
        .device = LPC_DEVICE,
        .class_code = 0x060100,
        .revision = 2,
        .multifunction = true,
    };

    lpc->config = *(const struct lpc_config *)config;
    if (!pci_function_init(&lpc->pci, &identity, &lpc->config.address, &lpc->state.pci,
                           &function_ops, error))
        return false;
    registers_init(lpc);
    lpc->host.rcrb = bus_claim(device->env->mmio, "rcrb", 0, RCRB_SIZE, 0, &rcrb_ops, lpc);
    if (!lpc->host.rcrb) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: its registers do not fit into the address space", device->id);
        return false;
    }
    bus_unmap(lpc->host.rcrb);
    for (unsigned i = 0; i < PCI_PIRQS; i++)
        lines[i] = (struct irq_line){pirq_set, lpc, i};
    pci_root_connect(lpc->pci.bus, lines);
    pci_function_plug(&lpc->pci);
    return true;
}

static void lpc_finish(struct device *device)
{
    struct lpc *lpc = (struct lpc *)device;

    if (lpc->pci.plugged)
        pci_root_connect(lpc->pci.bus, NULL);
    bus_release(lpc->host.rcrb);
    pci_function_finish(&lpc->pci);
}

static void lpc_reset(struct device *device)
{
    struct lpc *lpc = (struct lpc *)device;

    lpc->state.hptc = lpc->state.gcs = lpc->state.buc = 0;
    pci_function_reset(&lpc->pci);
    rcrb_update(lpc);
    isa_update(lpc);
}

static void lpc_post_load(struct device *device)
{
    struct lpc *lpc = (struct lpc *)device;

    lpc->state.hptc &= HPTC_WRITABLE;
    lpc->state.gcs &= GCS_WRITABLE;
    lpc->state.buc &= BUC_WRITABLE;
    pci_function_post_load(&lpc->pci);
    rcrb_update(lpc);
    isa_update(lpc);
}

const struct device_ops lpc_device = {
    .kind = "lpc",
    .description = "ICH9 LPC bridge: PCI interrupt routing, chipset registers",
    .size = sizeof(struct lpc),
    .config_size = sizeof(struct lpc_config),
    .state = &lpc_table,
    .state_offset = offsetof(struct lpc, state),
    .defaults = lpc_defaults,
    .init = lpc_init,
    .finish = lpc_finish,
    .reset = lpc_reset,
    .post_load = lpc_post_load,
};
