// SPDX-License-Identifier: Apache-2.0
/*
 * The keyboard controller with a keyboard and a mouse, and the fast A20 and INIT port 0x92.
 */
#pragma once

#include "vmm/device/device.h"

struct i8042_config {
    struct irq_line keyboard_irq, mouse_irq;
    /* Level of the A20 gate: up when address bit 20 passes. Optional. */
    struct irq_line a20;
};

extern const struct device_ops i8042_device;

/* A key, as ps2_keyboard_key takes it. Any thread. */
void i8042_key(struct device *device, uint8_t key, bool pressed);

/* Mouse movement and buttons, as ps2_mouse_move takes them. Any thread. */
void i8042_mouse(struct device *device, int dx, int dy, int dz, uint8_t buttons);
