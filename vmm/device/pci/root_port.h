// SPDX-License-Identifier: Apache-2.0
/*
 * A PCI Express root port: a bridge from bus 0 to a bus of its own with one slot.
 *
 * Hot-plug, as the guest sees it (PCI Express Base 3.0, 6.7): when a function is put into the slot,
 * presence detect state and data link active go up, their "changed" bits latch, and an interrupt is
 * sent if the guest enabled it. To take it out, the attention button is pressed; the guest stops
 * using the function, switches the slot's power off, and only then is it removed.
 */
#pragma once

#include "vmm/device/pci/pci.h"

struct root_port_config {
    struct pci_address address;
    uint8_t port;  /* link's port number, unique in the machine */
    uint16_t slot; /* physical slot number that the guest shows, 1..8191 */
};

extern const struct device_ops root_port_device;

/* The bus behind the port. */
struct pci_bus *root_port_bus(struct device *port);

/* A function is in the slot now (`present`), or is gone: tell the guest. Control thread, after the
 * function was plugged or before it is destroyed. */
void root_port_set_present(struct device *port, bool present);

/* Whether the slot has power, which the guest switches. */
bool root_port_is_powered(struct device *port);

/* Ask the guest to let the slot's function go. */
void root_port_press_attention(struct device *port);

/* Called on the vCPU's thread when the guest has switched the slot's power off while something was
 * in it: it may be taken out. */
void root_port_on_power_off(struct device *port,
                            void (*released)(void *opaque, struct device *port), void *opaque);
