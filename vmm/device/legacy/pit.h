// SPDX-License-Identifier: Apache-2.0
/*
 * The interval timer (8254) and system control port B with the speaker's gate.
 */
#pragma once

#include "vmm/device/device.h"

struct pit_config {
    struct irq_line irq; /* output of channel 0 */
};

extern const struct device_ops pit_device;
