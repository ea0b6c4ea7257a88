// SPDX-License-Identifier: Apache-2.0
/*
 * PCI buses and functions: routing of configuration accesses (PCI 3.0, 3.2.2.3; PCI-to-PCI Bridge
 * 1.2, 3.1), configuration space as bytes with masks, BARs (PCI 3.0, 6.2.5), INTx (2.2.6).
 */
#include "vmm/device/pci/pci.h"
#include "vmm/util/fault.h"

#include <linux/pci_regs.h>
#include <string.h>

#define INTX_PINS 4

struct pci_masks {
    uint8_t writable[PCIE_CONFIG_SIZE];
    uint8_t clear[PCIE_CONFIG_SIZE];
    uint8_t reset[PCIE_CONFIG_SIZE];
};

/* What all buses of one host bridge share. */
struct hierarchy {
    GMutex lock; /* topology and configuration accesses */
    GMutex pirq_lock;
    struct irq_line pirq[PCI_PIRQS];
    unsigned pirq_drivers[PCI_PIRQS];
};

struct pci_bus {
    struct hierarchy *hierarchy;
    struct pci_function *bridge; /* NULL on bus 0 */
    struct pci_function *functions[PCI_FUNCTIONS];
};

static const struct state_field pci_state_fields[] = {
    STATE_RAW(struct pci_state, config),
};
const struct state_table pci_state_table =
    STATE_TABLE("pci", 1, struct pci_state, pci_state_fields);

/* ---- bytes ---- */

static uint64_t load_le(const uint8_t *bytes, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static void store_le(uint8_t *bytes, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static bool ranges_meet(unsigned a, unsigned a_size, unsigned b, unsigned b_size)
{
    return a < b + b_size && b < a + a_size;
}

uint32_t pci_config_get(struct pci_function *function, unsigned offset, unsigned size)
{
    if (size > 4 || offset > PCIE_CONFIG_SIZE - size)
        return UINT32_MAX;
    g_mutex_lock(&function->lock);
    uint32_t value = (uint32_t)load_le(function->state->config + offset, size);
    g_mutex_unlock(&function->lock);
    return value;
}

void pci_config_set(struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
    if (size > 4 || offset > PCIE_CONFIG_SIZE - size)
        return;
    g_mutex_lock(&function->lock);
    store_le(function->state->config + offset, size, value);
    g_mutex_unlock(&function->lock);
}

void pci_config_mask(struct pci_function *function, unsigned offset, unsigned size,
                     uint32_t writable, uint32_t clear)
{
    if (size > 4 || offset > PCIE_CONFIG_SIZE - size)
        return;
    store_le(function->masks->writable + offset, size, writable);
    store_le(function->masks->clear + offset, size, clear);
}

/* ---- what bridges forward ---- */

bool pci_powered(struct pci_function *function)
{
    return !function->pm ||
           !(pci_config_get(function, function->pm + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK);
}

static bool command_has(struct pci_function *function, unsigned bits)
{
    return (pci_config_get(function, PCI_COMMAND, 2) & bits) == bits && pci_powered(function);
}

static bool window_holds(uint64_t window_base, uint64_t window_limit, uint64_t base, uint64_t size)
{
    return base >= window_base && base + (size - 1) <= window_limit;
}

static bool bridge_forwards_io(struct pci_function *bridge, uint64_t base, uint64_t size)
{
    uint64_t first = (pci_config_get(bridge, PCI_IO_BASE, 1) & 0xF0) << 8 |
                     (uint64_t)pci_config_get(bridge, PCI_IO_BASE_UPPER16, 2) << 16;
    uint64_t last = (pci_config_get(bridge, PCI_IO_LIMIT, 1) & 0xF0) << 8 | 0xFFF |
                    (uint64_t)pci_config_get(bridge, PCI_IO_LIMIT_UPPER16, 2) << 16;
    return window_holds(first, last, base, size);
}

static bool bridge_forwards_memory(struct pci_function *bridge, uint64_t base, uint64_t size)
{
    uint64_t first = (uint64_t)(pci_config_get(bridge, PCI_MEMORY_BASE, 2) & 0xFFF0) << 16;
    uint64_t last = (uint64_t)(pci_config_get(bridge, PCI_MEMORY_LIMIT, 2) & 0xFFF0) << 16;
    if (window_holds(first, last | 0xFFFFF, base, size))
        return true;
    first = (uint64_t)(pci_config_get(bridge, PCI_PREF_MEMORY_BASE, 2) & 0xFFF0) << 16 |
            (uint64_t)pci_config_get(bridge, PCI_PREF_BASE_UPPER32, 4) << 32;
    last = (uint64_t)(pci_config_get(bridge, PCI_PREF_MEMORY_LIMIT, 2) & 0xFFF0) << 16 | 0xFFFFF |
           (uint64_t)pci_config_get(bridge, PCI_PREF_LIMIT_UPPER32, 4) << 32;
    return window_holds(first, last, base, size);
}

/* Whether an access to the range on bus 0 arrives at `bus`. */
static bool range_reaches(struct pci_bus *bus, bool io, uint64_t base, uint64_t size)
{
    for (struct pci_function *bridge = bus->bridge; bridge; bridge = bridge->bus->bridge) {
        if (!command_has(bridge, io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY))
            return false;
        if (!(io ? bridge_forwards_io : bridge_forwards_memory)(bridge, base, size))
            return false;
    }
    return true;
}

/* ---- BARs ---- */

static unsigned bar_offset(unsigned index)
{
    return PCI_BASE_ADDRESS_0 + 4 * index;
}

/* Where the guest has put the BAR; false when it is nowhere that can be decoded. */
static bool bar_address(struct pci_function *function, unsigned index, uint64_t *address)
{
    const struct pci_bar *bar = &function->bars[index];
    uint64_t low = pci_config_get(function, bar_offset(index), 4);
    uint64_t limit = UINT32_MAX;

    if (bar->kind == PCI_BAR_IO) {
        low &= ~0x3ULL;
        limit = UINT16_MAX;
    } else {
        low &= ~0xFULL;
    }
    if (bar->kind == PCI_BAR_MEMORY64) {
        low |= (uint64_t)pci_config_get(function, bar_offset(index + 1), 4) << 32;
        limit = UINT64_MAX;
    }
    *address = low & ~(bar->size - 1);
    /* Address 0 and the end of the space are what a BAR holds before it is set and while it is
     * being sized. */
    return *address != 0 && *address <= limit - bar->size;
}

static void bar_update(struct pci_function *function, unsigned index)
{
    struct pci_bar *bar = &function->bars[index];
    bool io = bar->kind == PCI_BAR_IO;
    uint64_t address = 0;

    if (!bar->window)
        return;
    bool decode = function->plugged &&
                  command_has(function, io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY) &&
                  bar_address(function, index, &address) &&
                  range_reaches(function->bus, io, address, bar->size);
    if (!decode) {
        if (bar->decoded)
            bus_unmap(bar->window);
        bar->decoded = false;
    } else if (!bar->decoded || bar->mapped != address) {
        bar->decoded = bus_move(bar->window, address);
        bar->mapped = address;
    }
}

/* Bring BARs and the DMA space in line with the registers, here and behind. Hierarchy locked. */
static void decoding_update(struct pci_function *function)
{
    bool master = command_has(function, PCI_COMMAND_MASTER);
    for (struct pci_function *bridge = function->bus->bridge; bridge; bridge = bridge->bus->bridge)
        master = master && command_has(bridge, PCI_COMMAND_MASTER);
    __atomic_store_n(&function->dma.enabled, master, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < PCI_BARS; i++)
        bar_update(function, i);
    if (!function->secondary)
        return;
    for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
        if (function->secondary->functions[i])
            decoding_update(function->secondary->functions[i]);
}

bool pci_bar_add(struct pci_function *function, unsigned index, enum pci_bar_kind kind,
                 bool prefetchable, uint64_t size, const char *name, const struct bus_ops *ops,
                 void *opaque, GError **error)
{
    const struct device_env *env = function->device.env;
    bool io = kind == PCI_BAR_IO, wide = kind == PCI_BAR_MEMORY64;
    uint64_t smallest = io ? 4 : 16, largest = io ? 256 : wide ? 1ULL << 40 : 1ULL << 31;

    if (kind == PCI_BAR_NONE || index + wide >= PCI_BARS || function->bars[index].kind ||
        (size & (size - 1)) || size < smallest || size > largest) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: BAR %u cannot be of %" G_GUINT64_FORMAT " bytes", function->device.id,
                    index, size);
        return false;
    }
    struct bus_window *window =
        bus_claim(io ? env->pio : env->mmio, name, 0, size, PCI_BAR_PRIORITY, ops, opaque);
    if (!window) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: BAR %u does not fit into the address space", function->device.id, index);
        return false;
    }
    bus_unmap(window);
    function->bars[index] = (struct pci_bar){
        .kind = kind, .prefetchable = prefetchable, .size = size, .window = window};

    uint32_t type = io ? PCI_BASE_ADDRESS_SPACE_IO : 0;
    type |= wide ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0;
    type |= prefetchable && !io ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0;
    pci_config_set(function, bar_offset(index), 4, type);
    pci_config_mask(function, bar_offset(index), 4, (uint32_t) ~(size - 1) & ~(io ? 3U : 15U), 0);
    if (wide)
        pci_config_mask(function, bar_offset(index + 1), 4, (uint32_t)(~(size - 1) >> 32), 0);
    pci_config_mask(function, PCI_COMMAND, 2,
                    (uint32_t)load_le(function->masks->writable + PCI_COMMAND, 2) |
                        (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY),
                    0);
    return true;
}

void pci_bar_doorbell(struct pci_function *function, unsigned index, uint64_t offset, int eventfd)
{
    bus_doorbell(function->bars[index].window, offset, eventfd);
}

/* ---- interrupt lines ---- */

/* PIRQ line that pin `pin` (0..3) of a function ends at. */
static unsigned pirq_of(struct pci_function *function, unsigned pin)
{
    unsigned device = function->devfn >> 3;
    for (struct pci_bus *bus = function->bus; bus->bridge; bus = bus->bridge->bus) {
        pin = (pin + device) % INTX_PINS;
        device = bus->bridge->devfn >> 3;
    }
    return (device + pin) % PCI_PIRQS;
}

static void pirq_drive(struct pci_function *function, bool level)
{
    struct hierarchy *hierarchy = function->bus->hierarchy;
    unsigned pirq = pirq_of(function, function->interrupt_pin - 1);

    g_mutex_lock(&hierarchy->pirq_lock);
    hierarchy->pirq_drivers[pirq] += level ? 1 : -1;
    irq_set(&hierarchy->pirq[pirq], hierarchy->pirq_drivers[pirq] > 0);
    g_mutex_unlock(&hierarchy->pirq_lock);
}

/* Drive the line as the status and command registers say. Function locked. */
static void intx_update_locked(struct pci_function *function)
{
    const uint8_t *config = function->state->config;
    bool drive = function->interrupt_pin && function->plugged &&
                 (config[PCI_STATUS] & PCI_STATUS_INTERRUPT) &&
                 !(load_le(config + PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);
    if (drive == function->intx_driven)
        return;
    function->intx_driven = drive;
    pirq_drive(function, drive);
}

void pci_intx_set(struct pci_function *function, bool level)
{
    uint8_t *status = function->state->config + PCI_STATUS;

    g_mutex_lock(&function->lock);
    *status = level ? *status | PCI_STATUS_INTERRUPT : *status & ~PCI_STATUS_INTERRUPT;
    intx_update_locked(function);
    g_mutex_unlock(&function->lock);
}

/* ---- configuration accesses ---- */

/* The bus numbered `number` behind or at `bus`, found as type 1 cycles travel. */
static struct pci_bus *bus_route(struct pci_bus *bus, unsigned here, unsigned number)
{
    while (here != number) {
        struct pci_bus *next = NULL;
        for (unsigned i = 0; i < PCI_FUNCTIONS && !next; i++) {
            struct pci_function *bridge = bus->functions[i];
            if (!bridge || !bridge->secondary)
                continue;
            unsigned first = pci_config_get(bridge, PCI_SECONDARY_BUS, 1);
            if (first > here && number >= first &&
                number <= pci_config_get(bridge, PCI_SUBORDINATE_BUS, 1)) {
                next = bridge->secondary;
                here = first;
            }
        }
        if (!next)
            return NULL;
        bus = next;
    }
    return bus;
}

static struct pci_function *function_route(struct pci_bus *root, uint8_t bus, uint8_t devfn)
{
    struct pci_bus *found = bus_route(root, 0, bus);
    return found ? found->functions[devfn] : NULL;
}

uint32_t pci_config_read(struct pci_bus *root, uint8_t bus, uint8_t devfn, unsigned offset,
                         unsigned size)
{
    uint32_t value = UINT32_MAX;

    if (size > 4 || offset > PCIE_CONFIG_SIZE - size)
        return value;
    g_mutex_lock(&root->hierarchy->lock);
    struct pci_function *function = function_route(root, bus, devfn);
    if (function && offset + size <= function->config_size) {
        if (function->ops && function->ops->config_reading)
            function->ops->config_reading(function, offset, size);
        value = pci_config_get(function, offset, size);
    }
    g_mutex_unlock(&root->hierarchy->lock);
    return value;
}

static void bytes_write(struct pci_function *function, unsigned offset, unsigned size,
                        uint32_t value)
{
    g_mutex_lock(&function->lock);
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        uint8_t writable = function->masks->writable[offset + i];
        uint8_t *old = &function->state->config[offset + i];
        *old = (*old & ~writable) | (byte & writable);
        *old &= ~(byte & function->masks->clear[offset + i]);
    }
    intx_update_locked(function);
    g_mutex_unlock(&function->lock);
}

static void function_write(struct pci_function *function, unsigned offset, unsigned size,
                           uint32_t value)
{
    bool power = function->pm && ranges_meet(offset, size, function->pm, PCI_PM_SIZEOF);

    bytes_write(function, offset, size, value);
    /* Command, BARs and, in a bridge, its windows lie in the header. */
    if (offset < PCI_STD_HEADER_SIZEOF || power)
        decoding_update(function);
    if (function->msi || function->msix)
        pci_interrupts_update(function);
    if (function->ops && function->ops->config_written)
        function->ops->config_written(function, offset, size);
}

void pci_config_write(struct pci_bus *root, uint8_t bus, uint8_t devfn, unsigned offset,
                      unsigned size, uint32_t value)
{
    if (size > 4 || offset > PCIE_CONFIG_SIZE - size)
        return;
    g_mutex_lock(&root->hierarchy->lock);
    struct pci_function *function = function_route(root, bus, devfn);
    if (function && offset + size <= function->config_size)
        function_write(function, offset, size, value);
    g_mutex_unlock(&root->hierarchy->lock);
}

/* ---- buses ---- */

struct pci_bus *pci_root_create(void)
{
    struct pci_bus *bus = g_new0(struct pci_bus, 1);
    bus->hierarchy = g_new0(struct hierarchy, 1);
    g_mutex_init(&bus->hierarchy->lock);
    g_mutex_init(&bus->hierarchy->pirq_lock);
    return bus;
}

void pci_root_connect(struct pci_bus *root, const struct irq_line pirq[PCI_PIRQS])
{
    struct hierarchy *hierarchy = root->hierarchy;

    g_mutex_lock(&hierarchy->pirq_lock);
    for (unsigned i = 0; i < PCI_PIRQS; i++) {
        hierarchy->pirq[i] = pirq ? pirq[i] : (struct irq_line){0};
        irq_set(&hierarchy->pirq[i], hierarchy->pirq_drivers[i] > 0);
    }
    g_mutex_unlock(&hierarchy->pirq_lock);
}

struct pci_bus *pci_bus_create(struct pci_function *bridge)
{
    struct pci_bus *bus = g_new0(struct pci_bus, 1);
    bus->hierarchy = bridge->bus->hierarchy;
    bus->bridge = bridge;
    bridge->secondary = bus;
    return bus;
}

void pci_bus_destroy(struct pci_bus *bus)
{
    if (!bus)
        return;
    if (bus->bridge) {
        bus->bridge->secondary = NULL;
    } else {
        g_mutex_clear(&bus->hierarchy->lock);
        g_mutex_clear(&bus->hierarchy->pirq_lock);
        g_free(bus->hierarchy);
    }
    g_free(bus);
}

struct pci_function *pci_bus_function(struct pci_bus *bus, uint8_t devfn)
{
    g_mutex_lock(&bus->hierarchy->lock);
    struct pci_function *function = bus->functions[devfn];
    g_mutex_unlock(&bus->hierarchy->lock);
    return function;
}

/* ---- a function's life ---- */

static void header_init(struct pci_function *function, const struct pci_identity *identity)
{
    uint32_t command = PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR;

    pci_config_set(function, PCI_VENDOR_ID, 2, identity->vendor);
    pci_config_set(function, PCI_DEVICE_ID, 2, identity->device);
    pci_config_set(function, PCI_CLASS_REVISION, 4, identity->class_code << 8 | identity->revision);
    pci_config_set(function, PCI_HEADER_TYPE, 1,
                   (identity->bridge ? PCI_HEADER_TYPE_BRIDGE : PCI_HEADER_TYPE_NORMAL) |
                       (identity->multifunction ? 0x80 : 0));
    pci_config_mask(function, PCI_CACHE_LINE_SIZE, 1, 0xFF, 0);
    pci_config_set(function, PCI_INTERRUPT_PIN, 1, identity->interrupt_pin);
    if (identity->interrupt_pin) {
        command |= PCI_COMMAND_INTX_DISABLE;
        pci_config_mask(function, PCI_INTERRUPT_LINE, 1, 0xFF, 0);
    }
    if (!identity->bridge) {
        pci_config_set(function, PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor);
        pci_config_set(function, PCI_SUBSYSTEM_ID, 2, identity->subsystem);
    }
    pci_config_mask(function, PCI_COMMAND, 2, command, 0);
}

bool pci_function_init(struct pci_function *function, const struct pci_identity *identity,
                       const struct pci_address *address, struct pci_state *state,
                       const struct pci_function_ops *ops, GError **error)
{
    const struct device_env *env = function->device.env;
    struct pci_bus *bus = address->bus ? address->bus : env->pci;

    if (!bus || address->device > 31 || address->function > 7 || identity->interrupt_pin > 4) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: there is no PCI address %02x.%x; devices are 0 to 1f, functions 0 to 7",
                    function->device.id, address->device, address->function);
        return false;
    }
    function->devfn = PCI_DEVFN(address->device, address->function);
    if (pci_bus_function(bus, function->devfn)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_EXISTS,
                    "%s: PCI address %02x.%x is taken by %s; choose another", function->device.id,
                    address->device, address->function, bus->functions[function->devfn]->device.id);
        return false;
    }
    g_mutex_init(&function->lock);
    function->bus = bus;
    function->ops = ops;
    function->state = state;
    function->masks = g_new0(struct pci_masks, 1);
    function->config_size = identity->express ? PCIE_CONFIG_SIZE : PCI_CONFIG_SIZE;
    function->interrupt_pin = identity->interrupt_pin;
    function->dma.memory = env->memory;
    function->capability_end = PCI_STD_HEADER_SIZEOF;
    function->capability_link = PCI_CAPABILITY_LIST;
    header_init(function, identity);
    return true;
}

void pci_function_plug(struct pci_function *function)
{
    memcpy(function->masks->reset, function->state->config, PCIE_CONFIG_SIZE);
    g_mutex_lock(&function->bus->hierarchy->lock);
    function->plugged = true;
    function->bus->functions[function->devfn] = function;
    g_mutex_unlock(&function->bus->hierarchy->lock);
}

/* A guest that still writes its registers raises no line any more, and finds it nowhere. */
static void function_unplug(struct pci_function *function)
{
    g_mutex_lock(&function->bus->hierarchy->lock);
    function->bus->functions[function->devfn] = NULL;
    g_mutex_lock(&function->lock);
    function->plugged = false;
    intx_update_locked(function);
    g_mutex_unlock(&function->lock);
    g_mutex_unlock(&function->bus->hierarchy->lock);
}

void pci_function_finish(struct pci_function *function)
{
    if (!function->masks)
        return;
    if (function->plugged)
        function_unplug(function);
    for (unsigned i = 0; i < PCI_BARS; i++)
        bus_release(function->bars[i].window);
    g_free(function->masks);
    function->masks = NULL;
    g_mutex_clear(&function->lock);
}

static void function_refresh(struct pci_function *function)
{
    g_mutex_lock(&function->bus->hierarchy->lock);
    g_mutex_lock(&function->lock);
    intx_update_locked(function);
    g_mutex_unlock(&function->lock);
    decoding_update(function);
    g_mutex_unlock(&function->bus->hierarchy->lock);
}

void pci_function_reset(struct pci_function *function)
{
    g_mutex_lock(&function->lock);
    memcpy(function->state->config, function->masks->reset, PCIE_CONFIG_SIZE);
    g_mutex_unlock(&function->lock);
    pci_msix_reset(function);
    function_refresh(function);
}

void pci_function_post_load(struct pci_function *function)
{
    uint8_t *config = function->state->config;
    const uint8_t *reset = function->masks->reset, *writable = function->masks->writable;

    g_mutex_lock(&function->lock);
    /* Identity, types of BARs and the list of capabilities are the configuration's, whatever a
     * stream says; above the header devices keep read-only bits of their own. */
    for (unsigned i = 0; i < PCI_STD_HEADER_SIZEOF; i++)
        if (i < PCI_STATUS || i >= PCI_STATUS + 2)
            config[i] = (config[i] & writable[i]) | (reset[i] & ~writable[i]);
    g_mutex_unlock(&function->lock);
    function_refresh(function);
}
