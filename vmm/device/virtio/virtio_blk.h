// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio block device: a disk, whose bytes a block node keeps.
 */
#pragma once

#include "vmm/block/block.h"
#include "vmm/device/pci/pci.h"

#define VIRTIO_BLK_QUEUES_MAX 8
#define VIRTIO_BLK_SERIAL_MAX 20 /* bytes (5.2.6) */

/* Not virtio_blk_config, which is the kernel's name for the registers. */
struct virtio_disk_config {
    struct pci_address address;
    struct block *block; /* on the environment's loop; stays the caller's, outlives the device */
    char serial[VIRTIO_BLK_SERIAL_MAX + 1];
    unsigned queues;   /* 1 to VIRTIO_BLK_QUEUES_MAX; one a vCPU is best */
    bool writethrough; /* no write is done before it is on stable storage */
    bool discard;      /* the guest may give room back */
};

extern const struct device_ops virtio_blk_device;
