// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio entropy device: random bytes of the host's for the guest.
 */
#pragma once

#include "vmm/device/pci/pci.h"

struct virtio_rng_config {
    struct pci_address address;
    uint64_t bytes_per_second; /* the guest gets at most so many; 0: any number */
};

extern const struct device_ops virtio_rng_device;
