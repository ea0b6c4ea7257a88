// SPDX-License-Identifier: Apache-2.0
/*
 * A machine's card on a network that machines share, from the machine's side: the connection to the
 * network's process (network.h), which is started when it does not run.
 *
 * Everything runs on the default main context's thread.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

struct network_port;

struct network_port_config {
    const char *network;
    const char *machine, *nic; /* whose card it is: its name, the card's id */
    const char *hostname;      /* what the card is found by */
    uint8_t mac[6];
    int fd; /* the network's end of the cable; the caller's, and open as long as the port lives */
};

struct network_port_ops {
    /* The network carries frames. */
    void (*attached)(void *opaque);
    /* It could not be reached, or has gone: `how` is a sentence. Called once, and nothing after it;
     * the port is still to be destroyed, which may be done in here. */
    void (*lost)(void *opaque, const char *how);
};

/* Plug the card in. `config` is copied. No callback comes from in here. */
struct network_port *network_port_create(const struct network_port_config *config,
                                         const struct network_port_ops *ops, void *opaque);
/* Unplug it. NULL is fine. */
void network_port_destroy(struct network_port *port);
