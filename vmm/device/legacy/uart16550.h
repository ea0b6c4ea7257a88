// SPDX-License-Identifier: Apache-2.0
/*
 * A serial port: 16550A with its FIFOs, in front of a character device.
 */
#pragma once

#include "vmm/device/device.h"
#include "vmm/util/chardev.h"

struct uart16550_config {
    uint16_t port; /* of the first of its eight registers */
    struct irq_line irq;
    struct chardev *chardev; /* borrowed; NULL: nothing is plugged in */
};

extern const struct device_ops uart16550_device;
