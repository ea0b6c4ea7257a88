// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio network card: one pair of queues and a control queue, plugged into a link.
 */
#pragma once

#include "vmm/device/pci/pci.h"
#include "vmm/net/link.h"

#define VIRTIO_NET_MTU_MIN 68 /* of IPv4 (RFC 791) */
#define VIRTIO_NET_MTU_MAX 65535

/* Not virtio_net_config, which is the kernel's name for the registers. */
struct virtio_nic_config {
    struct pci_address address;
    struct net_link *link; /* NULL: no cable. Stays the caller's, is not open, outlives the card */
    uint8_t mac[NET_MAC_LENGTH];
    uint16_t mtu; /* told to the guest; 0: it is not */
};

extern const struct device_ops virtio_net_device;
