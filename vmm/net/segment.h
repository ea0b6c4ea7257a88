// SPDX-License-Identifier: Apache-2.0
/*
 * TCP segments that are larger than a network's packets (RFC 9293): between helpers and cards they
 * go whole. A guest that takes large ones gets it whole, with what virtio wants to know of it
 * (Virtio 1.2, 5.1.6.4); for another it is cut.
 *
 * What comes is another machine's, so its headers are compared with its length first. Nothing is
 * allocated.
 */
#pragma once

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

struct net_segments {
    uint8_t *frame;   /* the whole one; the caller's, and there as long as it is cut */
    uint32_t headers; /* bytes of Ethernet's, IP's and TCP's together */
    uint32_t tcp;     /* where TCP's begins */
    uint32_t payload; /* bytes behind them */
    uint32_t size;    /* of the payload of one packet */
    uint32_t done;    /* bytes of the payload that have gone */
    bool ipv6;
};

/* Look at a frame whose checksums are complete. False when it is no TCP segment that has to be cut
 * for packets of `mtu` bytes. */
bool net_segments_begin(struct net_segments *segments, uint8_t *frame, uint32_t length,
                        uint32_t mtu);

/* Leave the cutting to who gets the frame: `header` says how, and the frame's checksum is that of
 * the pseudo header. */
void net_segments_leave(const struct net_segments *segments, struct virtio_net_hdr_v1 *header);

/* The next packet's frame, complete, in `frame` of NET_FRAME_MAX bytes; its length, 0 after the
 * last. */
uint32_t net_segments_next(struct net_segments *segments, uint8_t *frame);
