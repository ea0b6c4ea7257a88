// SPDX-License-Identifier: Apache-2.0
/*
 * Disks and network cards: on bus 0 for the machine's life, or each behind a root port, where it
 * comes and goes while the machine runs (PCI Express Base 3.0, 6.7).
 *
 * In: the device is made, resumed if the machine runs, put into the slot, and the slot's attention
 * button is pressed, as by one who has put in a card: systems keep empty slots without power, and
 * switch it on five seconds later. Out: the button asks the guest, which lets go in its own time
 * and switches the power off; that is noticed on a vCPU's thread, and told on the control thread. A
 * slot whose power is off is let go already. So is everything after a reset: who used the device is
 * gone. The button that is pressed again within those five seconds takes the wish back (6.7.1.5).
 */
#include <string.h>

#include "vmm/device/pci/root_port.h"
#include "vmm/device/virtio/virtio_blk.h"
#include "vmm/device/virtio/virtio_net.h"
#include "vmm/machine/internal.h"
#include "vmm/machine/pc/layout.h"
#include "vmm/util/fault.h"

#define ABORT_NS (5 * NS_PER_SECOND)

_Static_assert(PC_ROOT_PORTS == MACHINE_SLOTS, "each root port has a slot");

static struct machine_slot *slot_at(struct machine *machine, const struct machine_place *place)
{
    bool there = place->port >= 1 && place->port <= MACHINE_SLOTS;
    return there ? &machine->slots[place->port - 1] : NULL;
}

/* The slot that holds the device called `id`, or NULL. */
static struct machine_slot *slot_of(struct machine *machine, const char *id)
{
    for (unsigned i = 0; i < MACHINE_SLOTS; i++) {
        struct device *device = machine->slots[i].device;

        if (device && g_str_equal(device->id, id))
            return &machine->slots[i];
    }
    return NULL;
}

/* ---- making ---- */

/* The device is known to its slot; the guest is not told. */
static bool add(struct machine *machine, const struct machine_place *place,
                const struct device_ops *ops, const char *id, const void *config, GError **error)
{
    struct machine_slot *slot = slot_at(machine, place);
    struct device *device;

    if (!pc_add(machine, ops, id, config, &device, error))
        return false;
    if (slot)
        slot->device = device;
    return true;
}

static struct pci_address address_of(struct machine *machine, const struct machine_place *place)
{
    struct machine_slot *slot = slot_at(machine, place);

    return slot ? (struct pci_address){root_port_bus(slot->port), 0, 0}
                : (struct pci_address){NULL, place->device, 0};
}

static bool add_nic(struct machine *machine, const struct machine_nic *nic, GError **error)
{
    struct virtio_nic_config config = {
        .address = address_of(machine, &nic->place),
        .link = nic->link,
        .pulled = nic->pulled,
        .rate = nic->rate,
        .burst_ns = nic->burst_ns,
        .mtu = nic->mtu,
    };

    memcpy(config.mac, nic->mac, sizeof(config.mac));
    return add(machine, &nic->place, &virtio_net_device, nic->id, &config, error);
}

static bool add_disk(struct machine *machine, const struct machine_disk *disk, GError **error)
{
    struct virtio_disk_config config = {
        .address = address_of(machine, &disk->place),
        .block = disk->block,
        .queues = MIN(machine->config.cpus, VIRTIO_BLK_QUEUES_MAX),
        .writethrough = disk->writethrough,
        .discard = disk->discard,
    };

    if (disk->serial)
        g_strlcpy(config.serial, disk->serial, sizeof(config.serial));
    return add(machine, &disk->place, &virtio_blk_device, disk->id, &config, error);
}

/* ---- letting go ---- */

static void tell_released(struct machine_slot *slot)
{
    const struct machine_listener *listener = &slot->machine->config.listener;

    slot->awaited = false;
    if (listener->released)
        listener->released(listener->opaque, slot->device->id);
}

static gboolean dispatch(gpointer opaque)
{
    struct machine *machine = opaque;

    g_mutex_lock(&machine->lock);
    g_clear_pointer(&machine->slot_source, g_source_unref);
    g_mutex_unlock(&machine->lock);
    for (unsigned i = 0; i < MACHINE_SLOTS; i++) {
        struct machine_slot *slot = &machine->slots[i];

        if (slot->awaited && !root_port_is_powered(slot->port))
            tell_released(slot);
    }
    return G_SOURCE_REMOVE;
}

/* Have the control thread look at all slots. Any thread. */
static void wake(struct machine *machine)
{
    g_mutex_lock(&machine->lock);
    if (!machine->slot_source) {
        machine->slot_source = g_idle_source_new();
        g_source_set_priority(machine->slot_source, G_PRIORITY_DEFAULT);
        g_source_set_callback(machine->slot_source, dispatch, machine, NULL);
        g_source_attach(machine->slot_source, machine->context);
    }
    g_mutex_unlock(&machine->lock);
}

static void on_power_off(void *opaque, struct device *port)
{
    wake(opaque);
}

/* ---- life ---- */

bool slots_create(struct machine *machine, GError **error)
{
    for (unsigned i = 0; i < MACHINE_SLOTS; i++) {
        struct machine_slot *slot = &machine->slots[i];
        g_autofree char *id = g_strdup_printf("root-port%u", i);
        struct root_port_config port = {
            .address = {NULL, PC_PCI_ROOT_PORTS + i / 4, i % 4},
            .port = (uint8_t)(i + 1),
            .slot = (uint16_t)(i + 1),
        };

        slot->machine = machine;
        if (!pc_add(machine, &root_port_device, id, &port, &slot->port, error))
            return false;
        root_port_on_power_off(slot->port, on_power_off, machine);
    }
    return true;
}

bool slots_fill(struct machine *machine, GError **error)
{
    const struct machine_config *config = &machine->config;

    for (unsigned i = 0; i < config->nic_count; i++)
        if (!add_nic(machine, &config->nics[i], error))
            return false;
    for (unsigned i = 0; i < config->disk_count; i++)
        if (!add_disk(machine, &config->disks[i], error))
            return false;
    for (unsigned i = 0; i < MACHINE_SLOTS; i++) {
        if (!machine->slots[i].device)
            continue;
        root_port_set_present(machine->slots[i].port, true);
        /* It was there before power came: no event. */
        device_reset(machine->slots[i].port);
    }
    return true;
}

void slots_reset(struct machine *machine)
{
    for (unsigned i = 0; i < MACHINE_SLOTS; i++)
        if (machine->slots[i].awaited)
            tell_released(&machine->slots[i]);
}

void slots_finish(struct machine *machine)
{
    g_mutex_lock(&machine->lock);
    if (machine->slot_source) {
        g_source_destroy(machine->slot_source);
        g_clear_pointer(&machine->slot_source, g_source_unref);
    }
    g_mutex_unlock(&machine->lock);
}

/* ---- attaching ---- */

/* Nothing is touched yet. */
static bool may_attach(struct machine *machine, const char *id, const struct machine_place *place,
                       GError **error)
{
    struct machine_slot *slot = slot_at(machine, place);

    if (machine->state == MACHINE_ENDED)
        g_set_error(error, VMM_ERROR, VMM_ERROR_CLOSED, "%s: the machine has ended", id);
    else if (!slot)
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: a machine that runs takes devices behind its %d root ports only", id,
                    MACHINE_SLOTS);
    else if (slot->device)
        g_set_error(error, VMM_ERROR, VMM_ERROR_EXISTS, "%s: %s is behind root port %u", id,
                    slot->device->id, place->port);
    else if (machine_device(machine, id))
        g_set_error(error, VMM_ERROR, VMM_ERROR_EXISTS, "%s: the machine has a device of this id",
                    id);
    else
        return true;
    return false;
}

static void show(struct machine *machine, const struct machine_place *place)
{
    struct machine_slot *slot = slot_at(machine, place);

    if (machine->awake)
        device_resume(slot->device);
    root_port_set_present(slot->port, true);
    root_port_press_attention(slot->port);
}

bool machine_attach_disk(struct machine *machine, const struct machine_disk *disk, GError **error)
{
    if (!may_attach(machine, disk->id, &disk->place, error) || !add_disk(machine, disk, error))
        return false;
    show(machine, &disk->place);
    return true;
}

bool machine_attach_nic(struct machine *machine, const struct machine_nic *nic, GError **error)
{
    if (!may_attach(machine, nic->id, &nic->place, error) || !add_nic(machine, nic, error))
        return false;
    show(machine, &nic->place);
    return true;
}

/* ---- detaching ---- */

bool machine_release(struct machine *machine, const char *id, bool ask, GError **error)
{
    struct machine_slot *slot = slot_of(machine, id);

    if (!slot) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "%s: nothing behind a root port is this",
                    id);
        return false;
    }
    slot->awaited = true;
    if (!root_port_is_powered(slot->port))
        wake(machine);
    else if (ask)
        root_port_press_attention(slot->port);
    slot->asked_ns = ask ? clock_now(machine->clock) : -ABORT_NS;
    return true;
}

void machine_release_cancel(struct machine *machine, const char *id)
{
    struct machine_slot *slot = slot_of(machine, id);

    if (!slot || !slot->awaited)
        return;
    slot->awaited = false;
    if (clock_now(machine->clock) - slot->asked_ns < ABORT_NS)
        root_port_press_attention(slot->port);
}

void machine_detach(struct machine *machine, const char *id)
{
    struct machine_slot *slot = slot_of(machine, id);
    struct device *device;

    if (!slot)
        return;
    device = g_steal_pointer(&slot->device);
    slot->awaited = false;
    root_port_set_present(slot->port, false);
    if (machine->awake)
        device_pause(device);
    g_ptr_array_remove(machine->devices, device);
    device_destroy(device);
}
