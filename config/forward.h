// SPDX-License-Identifier: Apache-2.0
/*
 * A port of the host that leads to a port of a guest behind NAT, as users write it:
 *
 *     tcp:[HOSTADDR:]HOSTPORT:[GUESTADDR:]GUESTPORT
 *
 * Without HOSTADDR it is the host's loopback, 127.0.0.1, so that nothing is open to others that was
 * not asked for; 0.0.0.0 is every address of the host. Without GUESTADDR it is the address that the
 * guest gets by DHCP. Port 0 of the host stands for one that is free when the forward is made.
 */
#pragma once

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>

struct forward {
    bool udp;
    struct sockaddr_in host;
    struct sockaddr_in guest; /* address 0: the guest's own */
};

/* Read `text`. CONFIG_ERROR_USAGE with a phrase that says what is expected. */
bool forward_parse(const char *text, struct forward *forward, GError **error);

/* As users write it, with both addresses. The caller frees it. */
char *forward_format(const struct forward *forward);
