// SPDX-License-Identifier: Apache-2.0
/*
 * The UDP checksum of what comes is not looked at: between us and the guest there is no wire that
 * could have damaged it.
 */
#include "vmm/net/network/packet.h"

#include <string.h>

#include "vmm/net/checksum.h"
#include "vmm/net/link.h"

#define IP_HEADER     20
#define UDP_HEADER    8
#define IP_FRAGMENT   0x3FFF /* more fragments, or an offset */
#define HOPS          64
#define IP_LENGTH_MAX 65535

uint16_t packet_get16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

uint32_t packet_get32(const uint8_t *bytes)
{
    return (uint32_t)packet_get16(bytes) << 16 | packet_get16(bytes + 2);
}

void packet_put16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

void packet_put32(uint8_t *bytes, uint32_t value)
{
    packet_put16(bytes, (uint16_t)(value >> 16));
    packet_put16(bytes + 2, (uint16_t)value);
}

/* Length of a sound header of a whole packet with UDP, that lies in `length` bytes; 0: it is
 * another. */
static uint32_t header_length(const uint8_t *ip, size_t length)
{
    uint32_t header, total;

    if (length < IP_HEADER || ip[0] >> 4 != 4)
        return 0;
    header = (ip[0] & 15) * 4U;
    total = packet_get16(ip + 2);
    if (header < IP_HEADER || total < header + UDP_HEADER || total > length ||
        ip[9] != PACKET_UDP || packet_get16(ip + 6) & IP_FRAGMENT ||
        net_checksum_sum(ip, header) != 0xFFFF)
        return 0;
    return header;
}

bool packet_read(const uint8_t *frame, size_t length, struct udp_packet *packet)
{
    const uint8_t *ip = frame + NET_HEADER_MIN, *udp;
    uint32_t header, size;

    if (length < NET_HEADER_MIN || packet_get16(frame + ETHERTYPE_OFFSET) != PACKET_IPV4)
        return false;
    header = header_length(ip, length - NET_HEADER_MIN);
    if (!header)
        return false;
    udp = ip + header;
    size = packet_get16(udp + 4);
    if (size < UDP_HEADER || size > packet_get16(ip + 2) - header)
        return false;
    memcpy(packet->target_mac, frame, NET_MAC_LENGTH);
    memcpy(packet->source_mac, frame + NET_MAC_LENGTH, NET_MAC_LENGTH);
    packet->source = packet_get32(ip + 12);
    packet->target = packet_get32(ip + 16);
    packet->source_port = packet_get16(udp);
    packet->target_port = packet_get16(udp + 2);
    packet->data = udp + UDP_HEADER;
    packet->length = size - UDP_HEADER;
    return true;
}

/* The sum of the pseudo header and of the datagram. */
static uint16_t udp_checksum(const uint8_t *ip, const uint8_t *udp, uint16_t size)
{
    uint8_t pseudo[12];
    uint16_t halves[2], sum;

    memcpy(pseudo, ip + 12, 8);
    packet_put16(pseudo + 8, PACKET_UDP);
    packet_put16(pseudo + 10, size);
    halves[0] = net_checksum_sum(pseudo, sizeof(pseudo));
    halves[1] = net_checksum_sum(udp, size);
    sum = net_checksum_sum((const uint8_t *)halves, sizeof(halves));
    return sum == 0xFFFF ? 0xFFFF : (uint16_t)~sum;
}

size_t packet_write(uint8_t *frame, size_t room, const struct udp_packet *packet)
{
    uint8_t *ip = frame + NET_HEADER_MIN, *udp = ip + IP_HEADER;
    uint32_t total = IP_HEADER + UDP_HEADER + packet->length;
    uint16_t sum;

    if (packet->length > IP_LENGTH_MAX - IP_HEADER - UDP_HEADER || room < NET_HEADER_MIN + total)
        return 0;
    memset(frame, 0, PACKET_HEADERS);
    memcpy(frame, packet->target_mac, NET_MAC_LENGTH);
    memcpy(frame + NET_MAC_LENGTH, packet->source_mac, NET_MAC_LENGTH);
    packet_put16(frame + ETHERTYPE_OFFSET, PACKET_IPV4);
    ip[0] = 0x45;
    packet_put16(ip + 2, (uint16_t)total);
    ip[8] = HOPS;
    ip[9] = PACKET_UDP;
    packet_put32(ip + 12, packet->source);
    packet_put32(ip + 16, packet->target);
    sum = (uint16_t)~net_checksum_sum(ip, IP_HEADER);
    memcpy(ip + 10, &sum, sizeof(sum));
    packet_put16(udp, packet->source_port);
    packet_put16(udp + 2, packet->target_port);
    packet_put16(udp + 4, (uint16_t)(UDP_HEADER + packet->length));
    sum = udp_checksum(ip, udp, (uint16_t)(UDP_HEADER + packet->length));
    memcpy(udp + 6, &sum, sizeof(sum));
    return NET_HEADER_MIN + total;
}
