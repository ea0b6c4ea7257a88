// SPDX-License-Identifier: Apache-2.0
/*
 * Receive filtering (Virtio 1.2, 5.1.6.5.1 to 5.1.6.5.3) and the switch of offloads (5.1.6.5.6). A
 * command is read whole before anything of it is believed: class, number, and the data that
 * follows; one whose feature the driver did not accept is refused.
 */
#include "vmm/device/virtio/net_filter.h"

#include <linux/virtio_net.h>
#include <string.h>

#include "vmm/util/fault.h"

#define BROADCAST     "\xFF\xFF\xFF\xFF\xFF\xFF"
#define TYPE_OFFSET   12 /* of the Ethernet type, and behind it a VLAN's tag */
#define TYPE_VLAN_HI  0x81
#define TYPE_VLAN_LO  0x00
#define VLAN_TAG_END  16
#define COMMAND_BYTES sizeof(struct virtio_net_ctrl_hdr)

static const struct state_field net_filter_fields[] = {
    STATE_RAW(struct net_filter, mac),
    STATE_B(struct net_filter, promiscuous),
    STATE_B(struct net_filter, all_multicast),
    STATE_B(struct net_filter, all_unicast),
    STATE_B(struct net_filter, no_multicast),
    STATE_B(struct net_filter, no_unicast),
    STATE_B(struct net_filter, no_broadcast),
    STATE_B(struct net_filter, unicast_overflow),
    STATE_B(struct net_filter, multicast_overflow),
    STATE_RANGE(struct net_filter, unicast_count, 0, NET_FILTER_ADDRESSES),
    STATE_RANGE(struct net_filter, multicast_count, 0, NET_FILTER_ADDRESSES),
    STATE_RAW(struct net_filter, unicast),
    STATE_RAW(struct net_filter, multicast),
    STATE_ARRAY(struct net_filter, vlans),
    STATE_U(struct net_filter, offloads),
};
const struct state_table net_filter_table =
    STATE_TABLE("net-filter", 1, struct net_filter, net_filter_fields);

void net_filter_reset(struct net_filter *filter, const uint8_t *mac)
{
    *filter = (struct net_filter){.promiscuous = true, .offloads = UINT64_MAX};
    memcpy(filter->mac, mac, NET_MAC_LENGTH);
}

/* ---- frames ---- */

static bool is_listed(const uint8_t *list, unsigned count, const uint8_t *address)
{
    for (unsigned i = 0; i < MIN(count, NET_FILTER_ADDRESSES); i++)
        if (memcmp(list + i * NET_MAC_LENGTH, address, NET_MAC_LENGTH) == 0)
            return true;
    return false;
}

static bool vlan_passes(const struct net_filter *filter, const uint8_t *frame, uint32_t length)
{
    if (length < VLAN_TAG_END || frame[TYPE_OFFSET] != TYPE_VLAN_HI ||
        frame[TYPE_OFFSET + 1] != TYPE_VLAN_LO)
        return true;
    unsigned vlan = (frame[TYPE_OFFSET + 2] << 8 | frame[TYPE_OFFSET + 3]) % NET_FILTER_VLANS;
    return filter->vlans[vlan / 64] & 1ULL << vlan % 64;
}

static bool multicast_passes(const struct net_filter *filter, const uint8_t *address)
{
    if (memcmp(address, BROADCAST, NET_MAC_LENGTH) == 0)
        return !filter->no_broadcast;
    if (filter->no_multicast)
        return false;
    return filter->all_multicast || filter->multicast_overflow ||
           is_listed(filter->multicast, filter->multicast_count, address);
}

static bool unicast_passes(const struct net_filter *filter, const uint8_t *address)
{
    if (filter->no_unicast)
        return false;
    return filter->all_unicast || filter->unicast_overflow ||
           memcmp(address, filter->mac, NET_MAC_LENGTH) == 0 ||
           is_listed(filter->unicast, filter->unicast_count, address);
}

bool net_filter_passes(const struct net_filter *filter, bool by_vlan, const uint8_t *frame,
                       uint32_t length)
{
    if (filter->promiscuous)
        return true;
    if (by_vlan && !vlan_passes(filter, frame, length))
        return false;
    return frame[0] & 1 ? multicast_passes(filter, frame) : unicast_passes(filter, frame);
}

/* ---- commands ---- */

static bool has(const struct virtqueue_request *request, unsigned feature)
{
    return virtio_has_feature(request->queue->device, feature);
}

/* The flag that a command of the class CTRL_RX sets; NULL when there is none. */
static bool *mode_flag(struct net_filter *filter, const struct virtqueue_request *request,
                       uint8_t command)
{
    bool extra = has(request, VIRTIO_NET_F_CTRL_RX_EXTRA);

    if (!has(request, VIRTIO_NET_F_CTRL_RX))
        return NULL;
    switch (command) {
    case VIRTIO_NET_CTRL_RX_PROMISC:
        return &filter->promiscuous;
    case VIRTIO_NET_CTRL_RX_ALLMULTI:
        return &filter->all_multicast;
    case VIRTIO_NET_CTRL_RX_ALLUNI:
        return extra ? &filter->all_unicast : NULL;
    case VIRTIO_NET_CTRL_RX_NOMULTI:
        return extra ? &filter->no_multicast : NULL;
    case VIRTIO_NET_CTRL_RX_NOUNI:
        return extra ? &filter->no_unicast : NULL;
    case VIRTIO_NET_CTRL_RX_NOBCAST:
        return extra ? &filter->no_broadcast : NULL;
    default:
        return NULL;
    }
}

static int set_mode(struct net_filter *filter, const struct virtqueue_request *request,
                    uint8_t command)
{
    bool *flag = mode_flag(filter, request, command);
    uint8_t on;

    if (!flag || !virtqueue_request_read(request, COMMAND_BYTES, &on, sizeof(on)))
        return VIRTIO_NET_ERR;
    *flag = on;
    return VIRTIO_NET_OK;
}

/* One list of struct virtio_net_ctrl_mac at `*offset`, which moves behind it. */
static bool read_addresses(const struct virtqueue_request *request, uint64_t *offset, uint8_t *list,
                           uint8_t *count, bool *overflow)
{
    uint32_t entries;

    if (!virtqueue_request_read(request, *offset, &entries, sizeof(entries)))
        return false;
    entries = GUINT32_FROM_LE(entries);
    *offset += sizeof(entries);
    *overflow = entries > NET_FILTER_ADDRESSES;
    *count = *overflow ? 0 : (uint8_t)entries;
    if (*count && !virtqueue_request_read(request, *offset, list, *count * NET_MAC_LENGTH))
        return false;
    *offset += entries * (uint64_t)NET_MAC_LENGTH;
    return *offset <= request->readable_length;
}

static int set_addresses(struct net_filter *filter, const struct virtqueue_request *request)
{
    struct net_filter new = *filter;
    uint64_t offset = COMMAND_BYTES;

    memset(new.unicast, 0, sizeof(new.unicast));
    memset(new.multicast, 0, sizeof(new.multicast));
    if (!has(request, VIRTIO_NET_F_CTRL_RX) ||
        !read_addresses(request, &offset, new.unicast, &new.unicast_count, &new.unicast_overflow) ||
        !read_addresses(request, &offset, new.multicast, &new.multicast_count,
                        &new.multicast_overflow))
        return VIRTIO_NET_ERR;
    *filter = new;
    return VIRTIO_NET_OK;
}

static int set_station(struct net_filter *filter, const struct virtqueue_request *request)
{
    uint8_t mac[NET_MAC_LENGTH];

    if (!has(request, VIRTIO_NET_F_CTRL_MAC_ADDR) ||
        !virtqueue_request_read(request, COMMAND_BYTES, mac, sizeof(mac)))
        return VIRTIO_NET_ERR;
    memcpy(filter->mac, mac, sizeof(mac));
    return VIRTIO_NET_OK;
}

static int set_vlan(struct net_filter *filter, const struct virtqueue_request *request,
                    uint8_t command)
{
    uint16_t vlan;

    if (!has(request, VIRTIO_NET_F_CTRL_VLAN) ||
        !virtqueue_request_read(request, COMMAND_BYTES, &vlan, sizeof(vlan)))
        return VIRTIO_NET_ERR;
    vlan = GUINT16_FROM_LE(vlan);
    if (vlan >= NET_FILTER_VLANS)
        return VIRTIO_NET_ERR;
    uint64_t bit = 1ULL << vlan % 64, *word = &filter->vlans[vlan / 64];
    if (command == VIRTIO_NET_CTRL_VLAN_ADD)
        *word |= bit;
    else if (command == VIRTIO_NET_CTRL_VLAN_DEL)
        *word &= ~bit;
    else
        return VIRTIO_NET_ERR;
    return VIRTIO_NET_OK;
}

/* Only what the driver has accepted as features may be switched (5.1.6.5.6.2). */
static int set_offloads(struct net_filter *filter, const struct virtqueue_request *request)
{
    uint64_t accepted = request->queue->device->state->driver_features, offloads;

    if (!has(request, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
        !virtqueue_request_read(request, COMMAND_BYTES, &offloads, sizeof(offloads)))
        return VIRTIO_NET_ERR;
    offloads = GUINT64_FROM_LE(offloads);
    if (offloads & ~accepted)
        return VIRTIO_NET_ERR;
    filter->offloads = offloads;
    return VIRTIO_NET_OK;
}

int net_filter_command(struct net_filter *filter, const struct virtqueue_request *request)
{
    struct virtio_net_ctrl_hdr header;

    if (!virtqueue_request_read(request, 0, &header, sizeof(header)))
        return request->readable_length < sizeof(header) ? VIRTIO_NET_ERR : -1;
    switch (header.class) {
    case VIRTIO_NET_CTRL_RX:
        return set_mode(filter, request, header.cmd);
    case VIRTIO_NET_CTRL_MAC:
        if (header.cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET)
            return set_addresses(filter, request);
        return header.cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET ? set_station(filter, request)
                                                          : VIRTIO_NET_ERR;
    case VIRTIO_NET_CTRL_VLAN:
        return set_vlan(filter, request, header.cmd);
    case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
        return header.cmd == VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ? set_offloads(filter, request)
                                                                : VIRTIO_NET_ERR;
    default:
        return VIRTIO_NET_ERR;
    }
}
