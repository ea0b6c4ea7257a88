// SPDX-License-Identifier: Apache-2.0
/*
 * The pair of 8259A interrupt controllers of a PC, the second cascaded on input 2 of the first.
 */
#pragma once

#include "vmm/device/device.h"

struct pic_config {
    /* The pair's INT output, wired to LINT0 of the first CPU. Called with the pair's lock held, so
     * its receiver must not hold, while it calls pic_acknowledge, a lock that it takes here. */
    struct irq_line output;
};

extern const struct device_ops pic_device;

/* The CPU's interrupt acknowledge cycle: the vector, with the input now in service. A request that
 * went away gives the spurious vector of input 7. Any thread. */
uint8_t pic_acknowledge(struct device *device);

/* Input `pin` of the pair, 0 to 15; input 2 is the cascade and not connected. */
struct irq_line pic_input(struct device *device, unsigned pin);
