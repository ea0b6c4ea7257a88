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
    bool pulled;           /* the cable is not plugged in, whatever it leads to */
    uint64_t rate;         /* bytes a second in each direction; 0: any number */
    int64_t burst_ns;      /* so much time's worth of it may be saved up */
    uint8_t mac[NET_MAC_LENGTH];
    uint16_t mtu; /* told to the guest; 0: it is not */
};

extern const struct device_ops virtio_net_device;

/* ---- while it is there: on the control thread, whether or not the machine is paused ---- */

/* Plug the cable into `link` (which is not open; NULL: nothing). Returns the former one, which is
 * not open any more. The guest sees its link go down, and come back (net_cable.h). Frames that the
 * former link has held back are lost, as with a cable that is pulled; it stays held if it was. */
struct net_link *virtio_net_plug(struct device *device, struct net_link *link);
/* Pull the cable out at the card, or plug it in again. */
void virtio_net_pull(struct device *device, bool pulled);
/* Another rate, as in the config. */
void virtio_net_limit(struct device *device, uint64_t rate, int64_t burst_ns);
