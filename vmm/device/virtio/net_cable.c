// SPDX-License-Identifier: Apache-2.0
/*
 * The phases of a cable that moves. What the guest was told is state of its own, so that a machine
 * that goes on elsewhere, with something else at the cable's end, tells its guest.
 */
#include "vmm/device/virtio/net_cable.h"

#include <linux/virtio_net.h>

static const struct state_field net_cable_fields[] = {
    STATE_B(struct net_cable, up),
    STATE_B(struct net_cable, announce),
    STATE_RANGE(struct net_cable, phase, 0, NET_CABLE_PHASES - 1),
    STATE_I(struct net_cable, until_ns),
};
const struct state_table net_cable_table =
    STATE_TABLE("net-cable", 1, struct net_cable, net_cable_fields);

void net_cable_reset(struct net_cable *cable, bool present)
{
    *cable = (struct net_cable){.up = present};
}

static void enter(struct net_cable *cable, enum net_cable_phase phase, int64_t until_ns)
{
    cable->phase = phase;
    cable->until_ns = phase == NET_CABLE_STEADY ? 0 : until_ns;
}

void net_cable_move(struct net_cable *cable, int64_t now_ns)
{
    /* One that is down since long may come up at once. */
    if (cable->up)
        enter(cable, NET_CABLE_DOWN, now_ns + NET_CABLE_DOWN_NS);
    else if (cable->phase == NET_CABLE_STEADY)
        enter(cable, NET_CABLE_SETTLING, now_ns + NET_CABLE_SETTLE_NS);
}

bool net_cable_update(struct net_cable *cable, bool present, bool announces, int64_t now_ns)
{
    const struct net_cable before = *cable;

    if (cable->phase == NET_CABLE_DOWN && now_ns >= cable->until_ns)
        enter(cable, present ? NET_CABLE_SETTLING : NET_CABLE_STEADY, now_ns + NET_CABLE_SETTLE_NS);
    cable->up = present && cable->phase != NET_CABLE_DOWN;
    if (cable->phase == NET_CABLE_SETTLING && now_ns >= cable->until_ns) {
        enter(cable, NET_CABLE_STEADY, 0);
        cable->announce |= announces && cable->up;
    }
    return cable->up != before.up || cable->announce != before.announce;
}

uint16_t net_cable_status(const struct net_cable *cable)
{
    return (cable->up ? VIRTIO_NET_S_LINK_UP : 0) | (cable->announce ? VIRTIO_NET_S_ANNOUNCE : 0);
}
