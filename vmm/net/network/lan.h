// SPDX-License-Identifier: Apache-2.0
/*
 * A network that machines share: a learning switch (IEEE 802.1D without the spanning tree, which
 * one switch has no use for), and the services of its subnet.
 *
 * Each port is an end of a SOCK_SEQPACKET pair (vmm/net/link.h tells the frames' form). Nothing is
 * allocated for a frame. A port that does not take a frame loses it, as on a wire, and holds nobody
 * up. Ports have their turns, of a bounded number of frames each.
 *
 * Frames are served in the turns of the default main context, by its poll function. One thread; one
 * network a process.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#include "config/network.h"

/* The network, without a port. `leases` (or NULL) are known from before. `changed` is called when
 * somebody has got another address. */
void lan_start(const struct network *network, const json_t *leases, void (*changed)(void));

/* Carry frames from the main loop's next turn on. */
void lan_run(void);

/* Plug in the card at `mac`, on our end `fd` of its pair, which is taken over. `name` (or "") is
 * what it is found by. The port's number; or -1 and CONFIG_ERROR_STATE. */
int lan_attach(int fd, const uint8_t mac[6], const char *name, GError **error);
void lan_detach(unsigned port);

/* The address of a port's card as text, new; NULL: it has none. */
char *lan_address(unsigned port);

/* The ports with what they carried, as a new list. */
json_t *lan_describe(void);
