// SPDX-License-Identifier: Apache-2.0
/*
 * Links: what a network device is plugged into.
 *
 * A link is one descriptor that gives an Ethernet frame for each read and takes one with each
 * write. Two kinds of it:
 *
 * - NET_LINK_TAP: an interface of the host's kernel (tun(4), opened with IFF_NO_PI and
 *   IFF_VNET_HDR, headers of 12 bytes in little endian). The kernel finishes checksums and cuts
 *   large segments itself, and may leave both to us.
 * - NET_LINK_PACKETS: one end of a SOCK_SEQPACKET pair, the other end of which a helper reads. Its
 *   messages are frames and no more: every checksum in them is complete. A TCP segment may be as
 *   large as IP can carry (64 KiB), since there is no wire in between whose frames are smaller; for
 *   a device that takes no such segments it is cut (segment.h).
 *
 * Beside a frame goes what is left to be done of it, in virtio's own form (Virtio 1.2, 5.1.6): who
 * calls net_link_send has checked that against the frame's length. What the kind of link does not
 * take is done here. So a device offers its guest the same features whatever it is plugged into.
 *
 * Threads: everything runs on the I/O thread that the link was opened on, unless it is said
 * otherwise. Nothing is allocated for a frame.
 */
#pragma once

#include <glib.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/util/loop.h"

#define NET_MAC_LENGTH 6
#define NET_HEADER_MIN 14 /* of Ethernet: two addresses and the type */
/* Bytes of the largest frame: headers of Ethernet and of one VLAN, and the largest IP packet. */
#define NET_FRAME_MAX   (NET_HEADER_MIN + 4 + 65535)
#define NET_VECTORS_MAX 512        /* of one frame that is sent */
#define NET_HOLD_MAX    (4U << 20) /* bytes of frames that are kept while output is held */

enum net_link_kind {
    NET_LINK_PACKETS,
    NET_LINK_TAP,
};

/* What the guest would take of what a link can leave undone (net_link_set_offloads). */
#define NET_OFFLOAD_CHECKSUM 1U /* frames whose checksum is not complete */
#define NET_OFFLOAD_TCP4     2U /* TCP segments over the MTU, with IPv4; needs CHECKSUM */
#define NET_OFFLOAD_TCP6     4U /* ...with IPv6; needs CHECKSUM */

struct net_link;

struct net_link_config {
    enum net_link_kind kind;
    int fd;           /* taken over, and made non-blocking */
    const char *name; /* for messages: "nic 0"; copied */
    unsigned mtu;     /* of the network; 0: 1500 */
};

/* The device's ears. */
struct net_link_ops {
    /* A frame of at least NET_HEADER_MIN bytes has come. false: not now; it is kept, and nothing
     * more is read before net_link_receive. A frame that the device does not want it takes, and
     * forgets. */
    bool (*receive)(void *opaque, const struct virtio_net_hdr_v1 *header, const uint8_t *frame,
                    uint32_t length);
    /* No further frame comes for now: the time to interrupt. */
    void (*received)(void *opaque);
    /* After net_link_send has refused a frame: it may be tried again. */
    void (*ready)(void *opaque);
    /* The other end has gone for good (an interface that was deleted), so the cable hangs loose. */
    void (*lost)(void *opaque);
};

/* NULL and `error` when the descriptor cannot be such a link; it is closed then. Any thread. */
struct net_link *net_link_create(const struct net_link_config *config, GError **error);
/* It is not open. NULL is fine. Any thread. */
void net_link_destroy(struct net_link *link);

/* Let frames flow, on this thread of `loop` (or before anything was given to it). */
void net_link_open(struct net_link *link, struct loop *loop, const struct net_link_ops *ops,
                   void *opaque);
/* No callback comes any more; frames that are held are lost. Fine on one that is not open. */
void net_link_close(struct net_link *link);

/* Send the frame of `length` bytes (NET_HEADER_MIN to NET_FRAME_MAX) in `count` vectors (up to
 * NET_VECTORS_MAX). `header` has no more than NEEDS_CSUM, whose field lies in the frame, and a kind
 * of segmentation with its size. true: it is on its way, or was dropped as the host's networks do.
 * false: not now, `ready` will be called. */
bool net_link_send(struct net_link *link, const struct virtio_net_hdr_v1 *header,
                   const struct iovec *vectors, unsigned count, uint32_t length);
/* Whether a frame of any length would be taken into account now: a link that is held and full, or
 * waits for the other end, is not ready; `ready` will be called. */
bool net_link_is_ready(struct net_link *link);

/* The device takes frames (again). At first it does not. */
void net_link_receive(struct net_link *link);
/* It does not until then: another process may have the descriptor as well, and read it. */
void net_link_stop_receiving(struct net_link *link);

/* Frames may come with what `offloads` (a mask of NET_OFFLOAD) says undone, from now on. At first
 * nothing may be undone. */
void net_link_set_offloads(struct net_link *link, unsigned offloads);

/* Whether there is another end. Any thread. */
bool net_link_is_up(const struct net_link *link);

/* Hold back output: what is sent from now on is kept, in its order, up to NET_HOLD_MAX bytes; then
 * the link is not ready. Idempotent. */
void net_link_hold(struct net_link *link);
bool net_link_is_held(const struct net_link *link);
/* Let out all that was kept so far. A hold that follows at once keeps only what is sent after it.
 * Idempotent. */
void net_link_release(struct net_link *link);
