// SPDX-License-Identifier: Apache-2.0
/*
 * 82093AA I/O APIC (Intel data sheet 290566) in its version 20H with an EOI register, as the ICH9
 * has it (data sheet 13.5).
 *
 * A pin's interrupt leaves as a message-signalled interrupt composed from its redirection entry
 * (SDM 3A, 11.11), sent after the lock was dropped: a local APIC may call back with an EOI. Edges
 * at a masked pin are lost, as the data sheet says. The polarity bit is stored only, since lines
 * here carry requests and not voltages. Switching an entry to edge clears its remote IRR, which is
 * how systems complete an interrupt at controllers without EOI register.
 */
#include "vmm/device/legacy/ioapic.h"

#include "vmm/machine/pc/layout.h"

#define PINS    PC_IOAPIC_PINS
#define VERSION 0x20

/* Offsets of the registers in memory. */
#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define REG_EOI    0x40

/* A redirection entry. */
#define ENTRY_VECTOR(e)  ((uint8_t)(e))
#define ENTRY_MODE(e)    ((unsigned)((e) >> 8) & 7)
#define ENTRY_LOGICAL    (1ULL << 11)
#define ENTRY_STATUS     (1ULL << 12)
#define ENTRY_REMOTE_IRR (1ULL << 14)
#define ENTRY_LEVEL      (1ULL << 15)
#define ENTRY_MASKED     (1ULL << 16)
#define ENTRY_READ_ONLY  (ENTRY_STATUS | ENTRY_REMOTE_IRR)
#define ENTRY_WRITABLE   (0xFF0000000001FFFFULL & ~ENTRY_READ_ONLY)

enum delivery {
    DELIVERY_FIXED,
    DELIVERY_LOWEST,
    DELIVERY_SMI,
    DELIVERY_RESERVED_3,
    DELIVERY_NMI,
    DELIVERY_INIT,
    DELIVERY_RESERVED_6,
    DELIVERY_EXTINT,
};

struct ioapic_state {
    uint8_t select;
    uint8_t id;
    uint32_t lines; /* levels of the inputs */
    uint64_t entries[PINS];
};

struct ioapic {
    struct device device;
    struct ioapic_config config;
    struct ioapic_state state;
    struct bus_window *window;
};

/* Messages to send once the lock is dropped. */
struct outbox {
    unsigned count;
    struct {
        uint64_t address;
        uint32_t data;
    } messages[PINS];
};

static const struct state_field fields[] = {
    STATE_U(struct ioapic_state, select),
    STATE_RANGE(struct ioapic_state, id, 0, 15),
    STATE_RANGE(struct ioapic_state, lines, 0, (1U << PINS) - 1),
    STATE_ARRAY(struct ioapic_state, entries),
};

static const struct state_table table = STATE_TABLE("ioapic", 1, struct ioapic_state, fields);

static struct ioapic *ioapic_of(struct device *device)
{
    return (struct ioapic *)device;
}

/* ---- delivery ---- */

/* Only fixed and lowest-priority delivery can be level-triggered. */
static bool is_level(uint64_t entry)
{
    return (entry & ENTRY_LEVEL) && ENTRY_MODE(entry) <= DELIVERY_LOWEST;
}

static uint64_t message_address(uint64_t entry)
{
    uint64_t address = PC_LAPIC_BASE | (entry >> 56) << 12;

    if (entry & ENTRY_LOGICAL)
        address |= 1 << 2;
    if (ENTRY_MODE(entry) == DELIVERY_LOWEST)
        address |= 1 << 3; /* redirection hint */
    return address;
}

static uint32_t message_data(uint64_t entry)
{
    uint32_t data = ENTRY_VECTOR(entry) | ENTRY_MODE(entry) << 8;

    return is_level(entry) ? data | 1 << 14 | 1 << 15 : data;
}

static void deliver_locked(struct ioapic *ioapic, unsigned pin, struct outbox *outbox)
{
    uint64_t *entry = &ioapic->state.entries[pin];
    unsigned mode = ENTRY_MODE(*entry);

    if (*entry & ENTRY_MASKED)
        return;
    if (mode == DELIVERY_RESERVED_3 || mode == DELIVERY_RESERVED_6) {
        device_guest_error(&ioapic->device, "pin %u has reserved delivery mode %u", pin, mode);
        return;
    }
    if (is_level(*entry)) {
        if (*entry & ENTRY_REMOTE_IRR)
            return;
        *entry |= ENTRY_REMOTE_IRR;
    }
    outbox->messages[outbox->count].address = message_address(*entry);
    outbox->messages[outbox->count].data = message_data(*entry);
    outbox->count++;
}

/* A level-triggered pin whose line is up and that waits for no EOI sends. */
static void service_level_locked(struct ioapic *ioapic, unsigned pin, struct outbox *outbox)
{
    if (is_level(ioapic->state.entries[pin]) && (ioapic->state.lines >> pin & 1))
        deliver_locked(ioapic, pin, outbox);
}

static void send(struct ioapic *ioapic, const struct outbox *outbox)
{
    const struct device_env *env = ioapic->device.env;

    for (unsigned i = 0; i < outbox->count; i++)
        env->msi(env->msi_opaque, outbox->messages[i].address, outbox->messages[i].data);
}

static void input_set(void *controller, unsigned pin, bool level)
{
    struct ioapic *ioapic = controller;
    struct ioapic_state *state = &ioapic->state;
    struct outbox outbox = {0};
    uint32_t bit = 1U << pin;

    g_mutex_lock(&ioapic->device.lock);
    bool rises = level && !(state->lines & bit);
    state->lines = level ? state->lines | bit : state->lines & ~bit;
    if (is_level(state->entries[pin]))
        service_level_locked(ioapic, pin, &outbox);
    else if (rises)
        deliver_locked(ioapic, pin, &outbox);
    g_mutex_unlock(&ioapic->device.lock);
    send(ioapic, &outbox);
}

struct irq_line ioapic_input(struct device *device, unsigned pin)
{
    if (pin >= PINS)
        return (struct irq_line){0};
    return (struct irq_line){input_set, device, pin};
}

static void complete_locked(struct ioapic *ioapic, uint8_t vector, struct outbox *outbox)
{
    for (unsigned pin = 0; pin < PINS; pin++) {
        uint64_t *entry = &ioapic->state.entries[pin];

        if (!(*entry & ENTRY_REMOTE_IRR) || ENTRY_VECTOR(*entry) != vector)
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        service_level_locked(ioapic, pin, outbox);
    }
}

void ioapic_eoi(struct device *device, uint8_t vector)
{
    struct ioapic *ioapic = ioapic_of(device);
    struct outbox outbox = {0};

    g_mutex_lock(&device->lock);
    complete_locked(ioapic, vector, &outbox);
    g_mutex_unlock(&device->lock);
    send(ioapic, &outbox);
}

/* ---- registers ---- */

static void tell_route_locked(struct ioapic *ioapic, unsigned pin)
{
    uint64_t entry = ioapic->state.entries[pin];

    if (ioapic->config.route)
        ioapic->config.route(ioapic->config.opaque, pin, message_address(entry),
                             message_data(entry), entry & ENTRY_MASKED, is_level(entry));
}

static void write_entry_locked(struct ioapic *ioapic, unsigned index, uint32_t value,
                               struct outbox *outbox)
{
    unsigned pin = index / 2;
    uint64_t *entry = &ioapic->state.entries[pin];
    uint64_t mask = index & 1 ? 0xFFFFFFFF00000000ULL : 0xFFFFFFFFULL;
    uint64_t wide = index & 1 ? (uint64_t)value << 32 : value;

    mask &= ENTRY_WRITABLE;
    *entry = (*entry & ~mask) | (wide & mask);
    if (!is_level(*entry))
        *entry &= ~ENTRY_REMOTE_IRR;
    tell_route_locked(ioapic, pin);
    service_level_locked(ioapic, pin, outbox);
}

static uint32_t read_selected_locked(const struct ioapic *ioapic)
{
    uint8_t select = ioapic->state.select;

    switch (select) {
    case 0:
    case 2: /* arbitration id: loaded from the id */
        return (uint32_t)ioapic->state.id << 24;
    case 1:
        return (PINS - 1) << 16 | VERSION;
    }
    if (select < 0x10 || select >= 0x10 + 2 * PINS)
        return 0;
    return ioapic->state.entries[(select - 0x10) / 2] >> (select & 1 ? 32 : 0);
}

static void write_selected_locked(struct ioapic *ioapic, uint32_t value, struct outbox *outbox)
{
    uint8_t select = ioapic->state.select;

    if (select == 0)
        ioapic->state.id = value >> 24 & 15;
    else if (select >= 0x10 && select < 0x10 + 2 * PINS)
        write_entry_locked(ioapic, select - 0x10, value, outbox);
}

static uint64_t mmio_read(void *device, uint64_t offset, unsigned size)
{
    struct ioapic *ioapic = device;
    uint32_t value = 0;

    g_mutex_lock(&ioapic->device.lock);
    if (offset == REG_SELECT)
        value = ioapic->state.select;
    else if (offset == REG_WINDOW)
        value = read_selected_locked(ioapic);
    g_mutex_unlock(&ioapic->device.lock);
    return value;
}

static void mmio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct ioapic *ioapic = device;
    struct outbox outbox = {0};

    g_mutex_lock(&ioapic->device.lock);
    if (offset == REG_SELECT)
        ioapic->state.select = value;
    else if (offset == REG_WINDOW)
        write_selected_locked(ioapic, value, &outbox);
    else if (offset == REG_EOI)
        complete_locked(ioapic, value, &outbox);
    g_mutex_unlock(&ioapic->device.lock);
    send(ioapic, &outbox);
}

static const struct bus_ops mmio_ops = {mmio_read, mmio_write, BUS_WIDTH_4};

/* ---- life ---- */

static void reset(struct device *device)
{
    struct ioapic *ioapic = ioapic_of(device);
    struct ioapic_state *state = &ioapic->state;

    g_mutex_lock(&device->lock);
    *state = (struct ioapic_state){.id = ioapic->config.id & 15, .lines = state->lines};
    for (unsigned pin = 0; pin < PINS; pin++) {
        state->entries[pin] = ENTRY_MASKED;
        tell_route_locked(ioapic, pin);
    }
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct ioapic *ioapic = ioapic_of(device);

    g_mutex_lock(&device->lock);
    for (unsigned pin = 0; pin < PINS; pin++) {
        ioapic->state.entries[pin] &= ENTRY_WRITABLE | ENTRY_REMOTE_IRR;
        if (!is_level(ioapic->state.entries[pin]))
            ioapic->state.entries[pin] &= ~ENTRY_REMOTE_IRR;
        tell_route_locked(ioapic, pin);
    }
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct ioapic *ioapic = ioapic_of(device);

    ioapic->config = *(const struct ioapic_config *)config;
    reset(device);
    ioapic->window = bus_claim(device->env->mmio, device->id, ioapic->config.base, GUEST_PAGE_SIZE,
                               0, &mmio_ops, ioapic);
    return true;
}

static void finish(struct device *device)
{
    bus_release(ioapic_of(device)->window);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct ioapic_config *)config = (struct ioapic_config){.base = PC_IOAPIC_BASE};
}

const struct device_ops ioapic_device = {
    .kind = "ioapic",
    .description = "I/O APIC with 24 inputs",
    .size = sizeof(struct ioapic),
    .config_size = sizeof(struct ioapic_config),
    .state = &table,
    .state_offset = offsetof(struct ioapic, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
};
