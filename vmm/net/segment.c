// SPDX-License-Identifier: Apache-2.0
/*
 * Each packet has the whole one's headers, with its own length, number and place, and with the
 * flags that stand at the beginning or at the end alone (RFC 9293, 3.1; RFC 3168, 6.1.2).
 */
#include "vmm/net/segment.h"

#include <glib.h>
#include <string.h>

#include "vmm/net/checksum.h"
#include "vmm/net/link.h"

#define TYPE_IPV4     0x0800
#define TYPE_IPV6     0x86DD
#define PROTOCOL_TCP  6
#define IPV4_HEADER   20
#define IPV6_HEADER   40
#define TCP_HEADER    20
#define IPV4_FRAGMENT 0x3FFF /* more fragments, or an offset */
#define TCP_CHECKSUM  16     /* where it stands in the header */
#define TCP_FLAGS     13
#define PAYLOAD_MIN   8 /* of a packet: with less, headers would be all */

enum { FLAG_FIN = 1, FLAG_PUSH = 8, FLAG_CWR = 128 };

static uint32_t get16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

static void put16(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

static uint32_t get32(const uint8_t *bytes)
{
    return get16(bytes) << 16 | get16(bytes + 2);
}

static void put32(uint8_t *bytes, uint32_t value)
{
    put16(bytes, value >> 16);
    put16(bytes + 2, value);
}

/* Bytes of IP's header before one of TCP, in a packet that fills `length` bytes; 0: it is another.
 */
static uint32_t ip_header(const uint8_t *ip, uint32_t length, uint32_t type)
{
    uint32_t header;

    if (type == TYPE_IPV6)
        return length >= IPV6_HEADER && ip[0] >> 4 == 6 && ip[6] == PROTOCOL_TCP &&
                       get16(ip + 4) == length - IPV6_HEADER
                   ? IPV6_HEADER
                   : 0;
    if (type != TYPE_IPV4 || length < IPV4_HEADER || ip[0] >> 4 != 4)
        return 0;
    header = (ip[0] & 15) * 4U;
    return header >= IPV4_HEADER && header <= length && ip[9] == PROTOCOL_TCP &&
                   get16(ip + 2) == length && !(get16(ip + 6) & IPV4_FRAGMENT)
               ? header
               : 0;
}

bool net_segments_begin(struct net_segments *segments, uint8_t *frame, uint32_t length,
                        uint32_t mtu)
{
    uint32_t header, tcp, type;

    if (length <= NET_HEADER_MIN + mtu)
        return false;
    type = get16(frame + NET_HEADER_MIN - 2);
    header = ip_header(frame + NET_HEADER_MIN, length - NET_HEADER_MIN, type);
    tcp = NET_HEADER_MIN + header;
    if (!header || length - tcp < TCP_HEADER)
        return false;
    header = (frame[tcp + 12] >> 4) * 4U;
    if (header < TCP_HEADER || header >= length - tcp ||
        tcp + header + PAYLOAD_MIN > NET_HEADER_MIN + mtu)
        return false;
    *segments = (struct net_segments){
        .frame = frame,
        .headers = tcp + header,
        .tcp = tcp,
        .payload = length - tcp - header,
        .size = NET_HEADER_MIN + mtu - tcp - header,
        .ipv6 = type == TYPE_IPV6,
    };
    return true;
}

/* The sum of the pseudo header for `length` bytes of TCP. */
static uint16_t pseudo_sum(const struct net_segments *segments, uint32_t length)
{
    const uint8_t *ip = segments->frame + NET_HEADER_MIN;
    const uint32_t size = segments->ipv6 ? 32 : 8;
    uint8_t pseudo[40] = {0};

    memcpy(pseudo, ip + (segments->ipv6 ? 8 : 12), size);
    put32(pseudo + size, length);
    pseudo[size + 7] = PROTOCOL_TCP;
    return net_checksum_sum(pseudo, size + 8);
}

void net_segments_leave(const struct net_segments *segments, struct virtio_net_hdr_v1 *header)
{
    uint16_t sum = pseudo_sum(segments, segments->headers - segments->tcp + segments->payload);

    memcpy(segments->frame + segments->tcp + TCP_CHECKSUM, &sum, sizeof(sum));
    *header = (struct virtio_net_hdr_v1){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = segments->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = GUINT16_TO_LE((uint16_t)segments->headers),
        .gso_size = GUINT16_TO_LE((uint16_t)segments->size),
        .csum_start = GUINT16_TO_LE((uint16_t)segments->tcp),
        .csum_offset = GUINT16_TO_LE(TCP_CHECKSUM),
    };
}

/* IP's header of packet `number` with `length` bytes behind Ethernet's. */
static void finish_ip(const struct net_segments *segments, uint8_t *ip, uint32_t number,
                      uint32_t length)
{
    uint32_t header = segments->tcp - NET_HEADER_MIN;
    uint16_t sum;

    if (segments->ipv6) {
        put16(ip + 4, length - IPV6_HEADER);
        return;
    }
    put16(ip + 2, length);
    put16(ip + 4, get16(ip + 4) + number);
    put16(ip + 10, 0);
    sum = (uint16_t)~net_checksum_sum(ip, header);
    memcpy(ip + 10, &sum, sizeof(sum));
}

uint32_t net_segments_next(struct net_segments *segments, uint8_t *frame)
{
    uint32_t size = MIN(segments->size, segments->payload - segments->done);
    uint32_t length = segments->headers + size;
    uint8_t *tcp = frame + segments->tcp;
    struct virtio_net_hdr_v1 checksum = {
        .csum_start = GUINT16_TO_LE((uint16_t)segments->tcp),
        .csum_offset = GUINT16_TO_LE(TCP_CHECKSUM),
    };
    uint16_t sum = pseudo_sum(segments, length - segments->tcp);

    if (!size)
        return 0;
    memcpy(frame, segments->frame, segments->headers);
    memcpy(frame + segments->headers, segments->frame + segments->headers + segments->done, size);
    finish_ip(segments, frame + NET_HEADER_MIN, segments->done / segments->size,
              length - NET_HEADER_MIN);
    put32(tcp + 4, get32(tcp + 4) + segments->done);
    if (segments->done)
        tcp[TCP_FLAGS] &= (uint8_t)~FLAG_CWR;
    segments->done += size;
    if (segments->done < segments->payload)
        tcp[TCP_FLAGS] &= (uint8_t) ~(FLAG_FIN | FLAG_PUSH);
    memcpy(tcp + TCP_CHECKSUM, &sum, sizeof(sum));
    net_checksum_complete(&checksum, frame, length);
    return length;
}
