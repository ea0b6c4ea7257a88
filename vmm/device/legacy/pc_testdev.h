// SPDX-License-Identifier: Apache-2.0
/*
 * The device that test kernels drive: ports and memory that remember, and interrupt lines that a
 * write raises and lowers.
 */
#pragma once

#include "vmm/device/device.h"

struct pc_testdev_config {
    /* Lines that the guest drives at ports 0x2000 and up, by GSI. */
    struct irq_line lines[24];
};

extern const struct device_ops pc_testdev_device;
