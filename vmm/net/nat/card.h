// SPDX-License-Identifier: Apache-2.0
/*
 * A NAT network of its own for one network card:
 *
 *     10.0.2.0/24  fec0::/64
 *       .2  ::2   the gateway and the host
 *       .3  ::3   the host's resolver
 *       .15       the first address that DHCP gives
 *
 * Frames go over a SOCK_SEQPACKET pair (vmm/net/link.h tells their form). A frame from the network
 * that the other end does not take yet waits, and as long as one waits nothing is read from the
 * host's sockets: so a slow guest slows down those who send to it, and little is lost.
 *
 * Frames are served in the turns of the default main context, by its poll function.
 */
#pragma once

#include "vmm/net/nat/nat.h"

/* The one network of this process. `frames` is our end of the pair, which is taken over. */
struct nat *card_create(int frames, const char *hostname, unsigned mtu);

/* Carry frames from the main loop's next turn on. `gone` is called once when the other end has
 * gone. */
void card_run(void (*gone)(void *opaque), void *opaque);
