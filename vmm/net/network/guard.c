// SPDX-License-Identifier: Apache-2.0
/*
 * Looking into frames as far as their addresses and ports. A frame that hides them is dropped: a
 * priority tag, which is no VLAN (IEEE 802.1Q, 9.6) and is taken off by who receives it, and
 * extension headers of IPv6 before ICMPv6 (RFC 7113).
 */
#include "vmm/net/network/guard.h"

#include <string.h>

#include "config/network.h"
#include "vmm/net/link.h"
#include "vmm/net/network/dhcp.h"
#include "vmm/net/network/packet.h"

#define VLAN_SERVICE    0x88A8
#define VLAN_NUMBER     0x0FFF
#define IP_OFFSET       0x1FFF
#define IP_HEADER       20
#define IPV6_HEADER     40
#define ICMPV6          58
#define ICMPV6_ROUTER   134
#define ICMPV6_REDIRECT 137
#define DHCPV6_SERVER   547
#define EXTENSIONS_MAX  8
#define ARP_LENGTH      28

enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, DESTINATION = 60 };

/* Whether the card may say that it has this address. */
static bool owns(const struct leases *leases, const uint8_t mac[6], uint32_t address)
{
    uint32_t number = address - leases->subnet.address;
    int index = leases_at(leases, address);

    if (!address || !subnet_has(&leases->subnet, address))
        return true;
    if (number == NETWORK_HOST || number == NETWORK_RESOLVER)
        return false;
    return index < 0 || !leases->list[index].in_use ||
           memcmp(leases->list[index].mac, mac, NET_MAC_LENGTH) == 0;
}

static bool arp_passes(const struct leases *leases, const uint8_t mac[6], const uint8_t *arp,
                       size_t length)
{
    return length >= ARP_LENGTH && owns(leases, mac, packet_get32(arp + 14));
}

static bool ipv4_passes(const struct leases *leases, const uint8_t mac[6], const uint8_t *ip,
                        size_t length)
{
    uint32_t header;

    if (length < IP_HEADER || !owns(leases, mac, packet_get32(ip + 12)))
        return false;
    header = (ip[0] & 15) * 4U;
    if (header < IP_HEADER || ip[9] != PACKET_UDP || packet_get16(ip + 6) & IP_OFFSET)
        return header >= IP_HEADER;
    /* A piece with an offset of 0 holds the whole header, or is none that anybody takes. */
    return length >= header + 8 && packet_get16(ip + header) != DHCP_SERVER_PORT;
}

static bool is_extension(uint8_t next)
{
    return next == HOP_BY_HOP || next == ROUTING || next == FRAGMENT || next == DESTINATION;
}

static bool ipv6_passes(const uint8_t *ip, size_t length)
{
    size_t at = IPV6_HEADER;
    uint8_t next;
    unsigned seen;

    if (length < IPV6_HEADER)
        return false;
    next = ip[6];
    for (seen = 0; is_extension(next) && seen < EXTENSIONS_MAX; seen++) {
        if (length - at < 8)
            return false;
        /* What follows a piece that is not the first is no header. */
        if (next == FRAGMENT && packet_get16(ip + at + 2) & 0xFFF8)
            return true;
        size_t size = next == FRAGMENT ? 8 : (ip[at + 1] + 1U) * 8;
        next = ip[at];
        at += size;
        if (at > length)
            return false;
    }
    if (is_extension(next))
        return false;
    if (next == ICMPV6)
        return length - at >= 1 && ip[at] != ICMPV6_ROUTER && ip[at] != ICMPV6_REDIRECT;
    return next != PACKET_UDP || (length - at >= 8 && packet_get16(ip + at) != DHCPV6_SERVER);
}

bool guard_passes(const struct leases *leases, const uint8_t mac[6], const uint8_t *frame,
                  size_t length)
{
    const uint8_t *body = frame + NET_HEADER_MIN;
    size_t size = length - NET_HEADER_MIN;

    switch (packet_get16(frame + ETHERTYPE_OFFSET)) {
    case PACKET_ARP:
        return arp_passes(leases, mac, body, size);
    case PACKET_IPV4:
        return ipv4_passes(leases, mac, body, size);
    case PACKET_IPV6:
        return ipv6_passes(body, size);
    case PACKET_VLAN:
    case VLAN_SERVICE:
        return size >= 2 && packet_get16(body) & VLAN_NUMBER;
    default:
        return true;
    }
}
