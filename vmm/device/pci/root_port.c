// SPDX-License-Identifier: Apache-2.0
/*
 * PCI Express root port with a hot-plug slot (Base 3.0, 7.8.9 to 7.8.11; bridge header of the
 * PCI-to-PCI Bridge 1.2, 3.2). The link has one lane and is up while the slot is filled and
 * powered.
 *
 * Slot events (button, presence, link, command completed) latch in the slot's status register. One
 * interrupt is sent when an enabled event appears where none was before (6.7.3.4); with neither MSI
 * nor an enable bit the line INTA says the same by its level. A command to the slot completes at
 * once.
 */
#include "vmm/device/pci/root_port.h"

#include <linux/pci_regs.h>

#include "vmm/machine/pc/layout.h"

/* "PCI Express root port", of the range that Red Hat gives away for such devices. */
#define ROOT_PORT_VENDOR 0x1B36
#define ROOT_PORT_DEVICE 0x000C

#define SLOT_EVENTS                                                                        \
    (PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PFD | PCI_EXP_SLTSTA_MRLSC | PCI_EXP_SLTSTA_PDC | \
     PCI_EXP_SLTSTA_CC | PCI_EXP_SLTSTA_DLLSC)

struct root_port {
    struct pci_function pci;
    struct root_port_config config;
    struct root_port_state {
        struct pci_state pci;
        bool event_pending; /* an enabled event is latched: the edge that MSI follows */
    } state;
    struct {
        struct pci_bus *bus;
        bool present; /* something is in the slot */
        bool powered; /* as the slot's control said at its last write */
        void (*released)(void *opaque, struct device *port);
        void *released_opaque;
    } host;
};

static const struct state_field root_port_fields[] = {
    STATE_NESTED(struct root_port_state, pci, &pci_state_table),
    STATE_B(struct root_port_state, event_pending),
};
static const struct state_table root_port_table =
    STATE_TABLE("root-port", 1, struct root_port_state, root_port_fields);

static uint32_t slot_get(struct root_port *port, unsigned reg)
{
    return pci_config_get(&port->pci, port->pci.express + reg, 2);
}

static void slot_set(struct root_port *port, unsigned reg, uint32_t value)
{
    pci_config_set(&port->pci, port->pci.express + reg, 2, value);
}

/* ---- hot-plug events ---- */

/* Status bits whose event may interrupt, as the control register has it. */
static uint32_t enabled_events(uint32_t control)
{
    uint32_t events = 0;

    if (!(control & PCI_EXP_SLTCTL_HPIE))
        return 0;
    events |= control & PCI_EXP_SLTCTL_ABPE ? PCI_EXP_SLTSTA_ABP : 0;
    events |= control & PCI_EXP_SLTCTL_PFDE ? PCI_EXP_SLTSTA_PFD : 0;
    events |= control & PCI_EXP_SLTCTL_MRLSCE ? PCI_EXP_SLTSTA_MRLSC : 0;
    events |= control & PCI_EXP_SLTCTL_PDCE ? PCI_EXP_SLTSTA_PDC : 0;
    events |= control & PCI_EXP_SLTCTL_CCIE ? PCI_EXP_SLTSTA_CC : 0;
    events |= control & PCI_EXP_SLTCTL_DLLSCE ? PCI_EXP_SLTSTA_DLLSC : 0;
    return events;
}

/* Device locked. */
static void interrupt_update_locked(struct root_port *port)
{
    bool pending = slot_get(port, PCI_EXP_SLTSTA) & enabled_events(slot_get(port, PCI_EXP_SLTCTL));
    bool edge = pending && !port->state.event_pending;

    port->state.event_pending = pending;
    if (!pci_msi_enabled(&port->pci)) {
        pci_intx_set(&port->pci, pending);
        return;
    }
    pci_intx_set(&port->pci, false);
    if (edge)
        pci_msi_notify(&port->pci, 0);
}

/* Latch `events`, set and clear state bits of the slot. Device locked. */
static void slot_event_locked(struct root_port *port, uint32_t events, uint32_t set, uint32_t clear)
{
    uint32_t status = slot_get(port, PCI_EXP_SLTSTA);

    slot_set(port, PCI_EXP_SLTSTA, (status & ~clear) | set | events);
    interrupt_update_locked(port);
}

static bool slot_powered(struct root_port *port)
{
    return !(slot_get(port, PCI_EXP_SLTCTL) & PCI_EXP_SLTCTL_PCC);
}

/* Data link layer active: something is there and has power. True when it changed. */
static bool link_update_locked(struct root_port *port)
{
    uint32_t old = slot_get(port, PCI_EXP_LNKSTA);
    bool up = (slot_get(port, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS) && slot_powered(port);
    uint32_t status = up ? old | PCI_EXP_LNKSTA_DLLLA : old & ~PCI_EXP_LNKSTA_DLLLA;

    slot_set(port, PCI_EXP_LNKSTA, status);
    return status != old;
}

void root_port_set_present(struct device *device, bool present)
{
    struct root_port *port = (struct root_port *)device;

    g_mutex_lock(&device->lock);
    uint32_t status = slot_get(port, PCI_EXP_SLTSTA);
    port->host.present = present;
    if (present != !!(status & PCI_EXP_SLTSTA_PDS)) {
        slot_set(port, PCI_EXP_SLTSTA, status ^ PCI_EXP_SLTSTA_PDS);
        uint32_t events = PCI_EXP_SLTSTA_PDC;
        events |= link_update_locked(port) ? PCI_EXP_SLTSTA_DLLSC : 0;
        slot_event_locked(port, events, 0, 0);
    }
    g_mutex_unlock(&device->lock);
}

bool root_port_is_powered(struct device *device)
{
    struct root_port *port = (struct root_port *)device;

    g_mutex_lock(&device->lock);
    bool powered = slot_powered(port);
    g_mutex_unlock(&device->lock);
    return powered;
}

void root_port_press_attention(struct device *device)
{
    struct root_port *port = (struct root_port *)device;

    g_mutex_lock(&device->lock);
    slot_event_locked(port, PCI_EXP_SLTSTA_ABP, 0, 0);
    g_mutex_unlock(&device->lock);
}

void root_port_on_power_off(struct device *device,
                            void (*released)(void *opaque, struct device *port), void *opaque)
{
    struct root_port *port = (struct root_port *)device;

    g_mutex_lock(&device->lock);
    port->host.released = released;
    port->host.released_opaque = opaque;
    g_mutex_unlock(&device->lock);
}

struct pci_bus *root_port_bus(struct device *device)
{
    return ((struct root_port *)device)->host.bus;
}

/* ---- configuration space ---- */

/* A write to slot control is a command, and its completion an event (6.7.3.2). */
static bool slot_command_locked(struct root_port *port)
{
    bool powered = slot_powered(port);
    bool released =
        port->host.powered && !powered && (slot_get(port, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
    uint32_t events = PCI_EXP_SLTSTA_CC;

    port->host.powered = powered;
    events |= link_update_locked(port) ? PCI_EXP_SLTSTA_DLLSC : 0;
    slot_event_locked(port, events, 0, 0);
    return released;
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    struct root_port *port = (struct root_port *)function;
    unsigned control = function->express + PCI_EXP_SLTCTL;
    bool released = false;

    g_mutex_lock(&function->device.lock);
    if (offset < control + 2 && offset + size > control)
        released = slot_command_locked(port) && port->host.released;
    else
        interrupt_update_locked(port);
    g_mutex_unlock(&function->device.lock);
    if (released)
        port->host.released(port->host.released_opaque, &function->device);
}

static const struct pci_function_ops function_ops = {
    .config_written = config_written,
};

static void bridge_init(struct pci_function *pci)
{
    pci_config_mask(pci, PCI_COMMAND, 2,
                    PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
                        PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE,
                    0);
    pci_config_mask(pci, PCI_PRIMARY_BUS, 4, 0x00FFFFFF, 0);
    /* All windows closed: base above limit. I/O has 32 bits, prefetchable memory 64. */
    pci_config_set(pci, PCI_IO_BASE, 2, PCI_IO_RANGE_TYPE_32 << 8 | 0xF0 | PCI_IO_RANGE_TYPE_32);
    pci_config_mask(pci, PCI_IO_BASE, 2, 0xF0F0, 0);
    pci_config_mask(pci, PCI_IO_BASE_UPPER16, 4, UINT32_MAX, 0);
    pci_config_set(pci, PCI_MEMORY_BASE, 4, 0x0000FFF0);
    pci_config_mask(pci, PCI_MEMORY_BASE, 4, 0xFFF0FFF0, 0);
    pci_config_set(pci, PCI_PREF_MEMORY_BASE, 4,
                   PCI_PREF_RANGE_TYPE_64 << 16 | 0xFFF0 | PCI_PREF_RANGE_TYPE_64);
    pci_config_mask(pci, PCI_PREF_MEMORY_BASE, 4, 0xFFF0FFF0, 0);
    pci_config_mask(pci, PCI_PREF_BASE_UPPER32, 4, UINT32_MAX, 0);
    pci_config_mask(pci, PCI_PREF_LIMIT_UPPER32, 4, UINT32_MAX, 0);
    pci_config_mask(pci, PCI_BRIDGE_CONTROL, 2,
                    PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR | PCI_BRIDGE_CTL_ISA |
                        PCI_BRIDGE_CTL_VGA | PCI_BRIDGE_CTL_BUS_RESET,
                    0);
}

static void express_init(struct root_port *port)
{
    struct pci_function *pci = &port->pci;
    unsigned base = pci_express_add(pci, PCI_EXP_TYPE_ROOT_PORT);
    uint32_t flags = pci_config_get(pci, base + PCI_EXP_FLAGS, 2);
    uint32_t link = pci_config_get(pci, base + PCI_EXP_LNKCAP, 4);

    pci_config_set(pci, base + PCI_EXP_FLAGS, 2, flags | PCI_EXP_FLAGS_SLOT);
    pci_config_set(pci, base + PCI_EXP_LNKCAP, 4,
                   link | PCI_EXP_LNKCAP_DLLLARC | (uint32_t)port->config.port << 24);
    pci_config_set(pci, base + PCI_EXP_SLTCAP, 4,
                   PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_AIP |
                       PCI_EXP_SLTCAP_PIP | PCI_EXP_SLTCAP_HPC |
                       (port->config.slot & 0x1FFFU) << 19);
    pci_config_set(pci, base + PCI_EXP_SLTCTL, 2,
                   PCI_EXP_SLTCTL_ATTN_IND_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF);
    pci_config_mask(pci, base + PCI_EXP_SLTCTL, 2,
                    PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PFDE | PCI_EXP_SLTCTL_MRLSCE |
                        PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_CCIE | PCI_EXP_SLTCTL_HPIE |
                        PCI_EXP_SLTCTL_AIC | PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_PCC |
                        PCI_EXP_SLTCTL_DLLSCE,
                    0);
    pci_config_mask(pci, base + PCI_EXP_SLTSTA, 2, 0, SLOT_EVENTS);
    pci_config_mask(
        pci, base + PCI_EXP_RTCTL, 2,
        PCI_EXP_RTCTL_SECEE | PCI_EXP_RTCTL_SENFEE | PCI_EXP_RTCTL_SEFEE | PCI_EXP_RTCTL_PMEIE, 0);
    pci_config_set(pci, base + PCI_EXP_DEVCAP2, 4, PCI_EXP_DEVCAP2_ARI);
    pci_config_mask(pci, base + PCI_EXP_DEVCTL2, 2, PCI_EXP_DEVCTL2_ARI, 0);
}

/* Whatever a stream says, what is in the slot is there, and nothing else. */
static void present_update_locked(struct root_port *port)
{
    uint32_t status = slot_get(port, PCI_EXP_SLTSTA) & ~(uint32_t)PCI_EXP_SLTSTA_PDS;

    if (port->host.present)
        status |= PCI_EXP_SLTSTA_PDS;
    slot_set(port, PCI_EXP_SLTSTA, status);
    link_update_locked(port);
}

/* ---- life ---- */

static void root_port_defaults(const struct device_env *env, void *opaque)
{
    struct root_port_config *config = opaque;
    *config = (struct root_port_config){
        .address = {NULL, PC_PCI_ROOT_PORTS, 0},
        .port = 1,
        .slot = 1,
    };
}

static bool root_port_init(struct device *device, const void *config, GError **error)
{
    struct root_port *port = (struct root_port *)device;

    port->config = *(const struct root_port_config *)config;
    const struct pci_identity identity = {
        .vendor = ROOT_PORT_VENDOR,
        .device = ROOT_PORT_DEVICE,
        .class_code = 0x060400,
        .interrupt_pin = 1 + (port->config.address.function & 3),
        .bridge = true,
        .multifunction = true,
        .express = true,
    };
    if (!pci_function_init(&port->pci, &identity, &port->config.address, &port->state.pci,
                           &function_ops, error))
        return false;
    port->host.bus = pci_bus_create(&port->pci);
    port->host.powered = true;
    bridge_init(&port->pci);
    pci_pm_add(&port->pci);
    pci_msi_add(&port->pci, 1);
    express_init(port);
    pci_function_plug(&port->pci);
    return true;
}

static void root_port_finish(struct device *device)
{
    struct root_port *port = (struct root_port *)device;

    pci_bus_destroy(port->host.bus);
    pci_function_finish(&port->pci);
}

/* What is in the slot stays in it over a reset, and is no event. */
static void root_port_reset(struct device *device)
{
    struct root_port *port = (struct root_port *)device;
    uint32_t present = slot_get(port, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS;

    pci_function_reset(&port->pci);
    g_mutex_lock(&device->lock);
    port->state.event_pending = false;
    port->host.powered = true;
    slot_set(port, PCI_EXP_SLTSTA, present);
    link_update_locked(port);
    g_mutex_unlock(&device->lock);
}

static void root_port_post_load(struct device *device)
{
    struct root_port *port = (struct root_port *)device;

    pci_function_post_load(&port->pci);
    g_mutex_lock(&device->lock);
    port->host.powered = slot_powered(port);
    present_update_locked(port);
    g_mutex_unlock(&device->lock);
}

const struct device_ops root_port_device = {
    .kind = "root-port",
    .description = "PCI Express root port with a hot-plug slot",
    .size = sizeof(struct root_port),
    .config_size = sizeof(struct root_port_config),
    .state = &root_port_table,
    .state_offset = offsetof(struct root_port, state),
    .defaults = root_port_defaults,
    .init = root_port_init,
    .finish = root_port_finish,
    .reset = root_port_reset,
    .post_load = root_port_post_load,
};
