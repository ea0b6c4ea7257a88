// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI power management of the ICH9: events and their interrupt, the PM timer, sleep and power-off,
 * the SMI command port and the reset register.
 */
#pragma once

#include "vmm/device/device.h"

struct acpi_pm_config {
    struct irq_line sci; /* level-triggered, active high */
};

extern const struct device_ops acpi_pm_device;

/* Press the power button. Any thread. */
void acpi_pm_power_button(struct device *device);

/* The machine leaves S3: its waking event is latched. Control thread. */
void acpi_pm_wake(struct device *device);

/* General-purpose event `bit`, 0 to 63: a rising level latches its status bit. */
struct irq_line acpi_pm_gpe(struct device *device, unsigned bit);
