// SPDX-License-Identifier: Apache-2.0
/*
 * The I/O APIC: 24 interrupt inputs, each turned into a message to the local APICs.
 */
#pragma once

#include "vmm/device/device.h"

struct ioapic_config {
    uint64_t base; /* guest-physical address of its registers */
    uint8_t id;    /* APIC id at power-on */
    /* Told of each change of a redirection entry: what the pin would send now. Optional. */
    void (*route)(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool masked,
                  bool level);
    void *opaque;
};

extern const struct device_ops ioapic_device;

/* Input `pin`, 0 to 23; its level is the request as such, whatever the entry's polarity bit. */
struct irq_line ioapic_input(struct device *device, unsigned pin);

/* A local APIC completed a level-triggered interrupt with this vector. Any thread. */
void ioapic_eoi(struct device *device, uint8_t vector);
