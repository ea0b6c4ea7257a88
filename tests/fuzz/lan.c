// SPDX-License-Identifier: Apache-2.0
/* Frames of a hostile guest on a network that machines share: every reader of them, in turn. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "config/network.h"
#include "vmm/net/link.h"
#include "vmm/net/network/dhcp.h"
#include "vmm/net/network/dns.h"
#include "vmm/net/network/guard.h"
#include "vmm/net/network/packet.h"
#include "vmm/net/segment.h"

static struct leases leases;

static void read_udp(const uint8_t *data, size_t size)
{
    const struct dns_zone zone = {&leases, "lan", size & 1};
    const struct dhcp_lease lease = {.hostname = "web", .domain = "lan", .mtu = 1400};
    uint8_t reply[DHCP_REPLY_MAX];
    struct dhcp_request request;
    size_t length;

    if (dhcp_read(data, size, &request))
        dhcp_reply(&request, &lease, reply);
    dns_reply(&zone, data, size, reply, &length);
}

static void cut(const uint8_t *data, size_t size)
{
    static uint8_t piece[NET_FRAME_MAX];
    struct net_segments segments;
    uint8_t *frame = g_memdup2(data, size);

    if (net_segments_begin(&segments, frame, (uint32_t)size, 100))
        while (net_segments_next(&segments, piece))
            continue;
    g_free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct subnet subnet = {0x0A010200, 24};
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 1};
    struct udp_packet packet;

    if (!leases.count) {
        leases_init(&leases, &subnet);
        leases_take(&leases, mac, "web");
    }
    read_udp(data, size);
    if (packet_read(data, size, &packet))
        read_udp(packet.data, packet.length);
    if (size >= NET_HEADER_MIN) {
        guard_passes(&leases, mac, data, size);
        cut(data, size);
    }
    return 0;
}
