// SPDX-License-Identifier: Apache-2.0
/*
 * The high-precision event timer: a 100 MHz counter with three comparators.
 */
#pragma once

#include "vmm/device/device.h"

/* Bits of capability register 0: revision 1, three timers, 64-bit counter, legacy replacement,
 * vendor 8086H. ACPI's HPET table repeats them as the hardware id of the block. */
#define HPET_BLOCK_ID 0x8086A201

struct hpet_config {
    uint64_t base; /* guest-physical address of its registers */
    /* Lines of the interval timer and the real-time clock, which pass through the HPET: see
     * hpet_legacy_input. */
    struct irq_line irq0, irq8;
    uint32_t routes; /* mask of the interrupts (GSIs below 32) that a comparator may raise */
};

extern const struct device_ops hpet_device;

/* Where the interval timer (`index` 0) and the real-time clock (1) plug in: their interrupts go on
 * to irq0 and irq8, unless the guest chose legacy replacement, which gives these to comparators 0
 * and 1. */
struct irq_line hpet_legacy_input(struct device *device, unsigned index);
