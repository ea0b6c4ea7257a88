// SPDX-License-Identifier: Apache-2.0
/* The LPC bridge of the PC's ICH9 south bridge: routes PCI interrupts, and holds the registers by
 * which firmware places the chipset's own windows. */
#pragma once

#include "vmm/device/pci/pci.h"

struct lpc_config {
    struct pci_address address;
    uint16_t pm_base; /* where PMBASE points when `programmed` */
    bool programmed;  /* a direct boot finds the registers as firmware would have left them */
};

extern const struct device_ops lpc_device;
