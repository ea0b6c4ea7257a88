// SPDX-License-Identifier: Apache-2.0
/*
 * Which received frames a virtio network card hands to its guest, and the commands by which the
 * guest's driver says so (Virtio 1.2, 5.1.6.5).
 *
 * As on a real card: the driver gives the station's address, a list of further addresses, flags
 * that let whole kinds of addresses pass or not, and a set of VLANs. A list longer than the card's
 * lets all addresses of its kind pass.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/device/virtio/virtio.h"
#include "vmm/net/link.h"

#define NET_FILTER_ADDRESSES 64 /* of either list */
#define NET_FILTER_VLANS     4096

/* Part of the card's state. */
struct net_filter {
    uint8_t mac[NET_MAC_LENGTH];
    bool promiscuous; /* everything passes */
    bool all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    bool unicast_overflow, multicast_overflow;
    uint8_t unicast_count, multicast_count;
    uint8_t unicast[NET_FILTER_ADDRESSES * NET_MAC_LENGTH];
    uint8_t multicast[NET_FILTER_ADDRESSES * NET_MAC_LENGTH];
    uint64_t vlans[NET_FILTER_VLANS / 64];
    uint64_t offloads; /* what the driver wants of the guest's offloads, a mask of feature bits */
};
extern const struct state_table net_filter_table;

/* As before a driver spoke: everything passes, for those that never will speak. */
void net_filter_reset(struct net_filter *filter, const uint8_t *mac);

/* Whether the guest wants the frame, of at least NET_HEADER_MIN bytes. `by_vlan`: the driver has
 * taken VLANs upon itself to name. */
bool net_filter_passes(const struct net_filter *filter, bool by_vlan, const uint8_t *frame,
                       uint32_t length);

/* Carry out the command in `request`, of the control queue. Returns VIRTIO_NET_OK or _ERR, or -1
 * when the request's memory cannot be reached. Device locked. */
int net_filter_command(struct net_filter *filter, const struct virtqueue_request *request);
