// SPDX-License-Identifier: Apache-2.0
/*
 * Ethernet frames with UDP over IPv4 (RFC 791, RFC 768), read and made.
 *
 * Frames are a guest's, so nothing in them is believed before it was compared with the length of
 * what came. Addresses and ports are in the host's byte order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETHERTYPE_OFFSET 12
#define PACKET_IPV4      0x0800
#define PACKET_ARP       0x0806
#define PACKET_VLAN      0x8100
#define PACKET_IPV6      0x86DD
#define PACKET_UDP       17
#define PACKET_HEADERS   (14 + 20 + 8) /* of a frame that packet_write makes */

struct udp_packet {
    uint8_t source_mac[6], target_mac[6];
    uint32_t source, target;
    uint16_t source_port, target_port;
    const uint8_t *data; /* in the frame */
    uint32_t length;
};

uint16_t packet_get16(const uint8_t *bytes);
uint32_t packet_get32(const uint8_t *bytes);
void packet_put16(uint8_t *bytes, uint16_t value);
void packet_put32(uint8_t *bytes, uint32_t value);

/* Read a frame. False for whatever is not a whole, sound UDP packet of IPv4. */
bool packet_read(const uint8_t *frame, size_t length, struct udp_packet *packet);

/* Make a frame in `frame` of `room` bytes, where the data lies already, PACKET_HEADERS behind its
 * beginning; `packet->data` is not looked at. Returns the frame's length, 0 when there is no room.
 */
size_t packet_write(uint8_t *frame, size_t room, const struct udp_packet *packet);
