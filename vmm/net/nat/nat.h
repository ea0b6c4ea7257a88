// SPDX-License-Identifier: Apache-2.0
/*
 * A network of its own for one network card: libslirp's, a router in user space that opens ordinary
 * sockets of the host for what the guest sends, so that it needs no rights.
 *
 *     10.0.2.0/24  fec0::/64
 *       .2  ::2   the gateway, and as such the host: its loopback is reached by this address
 *       .3  ::3   the host's resolver (of /etc/resolv.conf, read again when it changes)
 *       .15       the first address that DHCP gives; IPv6 by router advertisements
 *
 * Frames go over a SOCK_SEQPACKET pair (vmm/net/link.h tells their form). A frame from the network
 * that the other end does not take yet waits, and as long as one waits nothing is read from the
 * host's sockets: so a slow guest slows down those who send to it, and little is lost.
 *
 * One thread, which does everything.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/forward.h"

struct nat;

struct nat_config {
    int frames;           /* our end of the pair; stays the caller's */
    const char *hostname; /* told by DHCP; NULL: none */
    unsigned mtu;         /* of the network, and what the guest may send beyond segments */
};

/* A network without traffic yet. */
struct nat *nat_create(const struct nat_config *config);

/* Listen for `forward`. A host port of 0 becomes the one that was free, a guest address of 0 that
 * of DHCP's first lease. Returns 0 or an errno. */
int nat_forward(struct nat *nat, struct forward *forward);
/* Listen no more. Connections that were made live on. false when there is no such forward. */
bool nat_unforward(struct nat *nat, const struct forward *forward);

/* Carry frames. `serve` is called whenever `control` is readable or closed, until it returns false.
 */
void nat_run(struct nat *nat, int control, bool (*serve)(void *opaque), void *opaque);
