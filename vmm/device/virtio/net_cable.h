// SPDX-License-Identifier: Apache-2.0
/*
 * What a guest sees of its network card's cable (Virtio 1.2, 5.1.4, 5.1.6.4.2).
 *
 * A cable that is pulled, or plugged in elsewhere, is seen as down for a while, whatever is at its
 * other end meanwhile:
 *
 *     steady -- moved --> down -- NET_CABLE_DOWN_NS --> settling -- NET_CABLE_SETTLE_NS --> steady
 *
 * So long that the guest's kernel tells its programs: Linux tells of lost carriers once a second at
 * most, and forgets what is over before. Programs that configure networks (systemd-networkd,
 * NetworkManager, dhcpcd) then ask for their addresses anew. When the link has settled, the guest
 * is asked to announce its own addresses, so that switches learn where it is now; earlier, Linux
 * would throw the announcement away.
 *
 * Time is the machine's: a pause does not shorten it, and a machine that is saved in between goes
 * on with the rest. Part of the card's state; under its lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/state/state.h"

#define NET_CABLE_DOWN_NS   1500000000LL
#define NET_CABLE_SETTLE_NS 500000000LL

enum net_cable_phase { NET_CABLE_STEADY, NET_CABLE_DOWN, NET_CABLE_SETTLING, NET_CABLE_PHASES };

struct net_cable {
    bool up;       /* what the guest was told last */
    bool announce; /* it is asked to announce itself */
    uint8_t phase;
    int64_t until_ns; /* machine time at which the phase ends; not in NET_CABLE_STEADY */
};
extern const struct state_table net_cable_table;

/* As at power-on; `present`: there is another end. */
void net_cable_reset(struct net_cable *cable, bool present);

/* The cable has another end than before, or none. */
void net_cable_move(struct net_cable *cable, int64_t now_ns);

/* Follow the time and what is there; `announces`: the guest knows how. true when the driver has to
 * be told of a change. */
bool net_cable_update(struct net_cable *cable, bool present, bool announces, int64_t now_ns);

/* The register "status". */
uint16_t net_cable_status(const struct net_cable *cable);
