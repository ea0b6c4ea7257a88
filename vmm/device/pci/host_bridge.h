// SPDX-License-Identifier: Apache-2.0
/* The host bridge of the PC: configuration mechanism 1, the PCIe configuration window, and the
 * registers by which firmware shapes memory below 1 MiB and SMRAM. */
#pragma once

#include "vmm/device/pci/pci.h"

struct host_bridge_config {
    struct pci_address address;
    uint64_t ecam_base; /* where PCIEXBAR points after reset, 256 MiB-aligned */
    bool ecam_enabled;  /* a direct boot finds the window open, firmware opens it itself */
};

extern const struct device_ops host_bridge_device;
