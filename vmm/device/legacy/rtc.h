// SPDX-License-Identifier: Apache-2.0
/*
 * The real-time clock with its 128 bytes of battery-backed memory (CMOS).
 */
#pragma once

#include "vmm/device/device.h"

struct rtc_config {
    struct irq_line irq;
    /* What firmware reads of the machine's size: bytes of RAM below and above 4 GiB, CPUs. */
    uint64_t ram_low, ram_high;
    unsigned cpus;
};

extern const struct device_ops rtc_device;

/* Whether bit 7 of port 0x70 holds NMIs back. Any thread. */
bool rtc_nmi_masked(struct device *device);
