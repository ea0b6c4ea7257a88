// SPDX-License-Identifier: Apache-2.0
/*
 * A network behind NAT: libslirp's, a router in user space that opens ordinary sockets of the host
 * for what guests send, so that it needs no rights. Beside the guests there are in it
 *
 *     the gateway, and as such the host: its loopback is reached by this address
 *     the host's resolver (of /etc/resolv.conf, read again when it changes)
 *
 * and with IPv6, where guests find all by router advertisements, fec0::/64 with both as ::2 and
 * ::3.
 *
 * Frames, and the turns in which descriptors are waited for, are the owner's. One thread.
 */
#pragma once

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/forward.h"

struct nat;

struct nat_ops {
    /* A frame to a guest, of up to NET_FRAME_MAX bytes. Must not call back. */
    void (*send)(void *opaque, const void *frame, size_t length);
};

struct nat_config {
    const struct nat_ops *ops;
    void *opaque;
    struct in_addr subnet, mask;
    struct in_addr host, resolver; /* addresses in it */
    struct in_addr guest; /* the first that libslirp's DHCP gives; of forwards without one */
    bool ipv6;
    bool closed;          /* there is no way out */
    const char *hostname; /* told by DHCP; NULL: none */
    unsigned mtu;         /* of the network, and what a guest may send beyond segments */
};

/* A network without traffic yet. It lives as long as the process. */
struct nat *nat_create(const struct nat_config *config);

/* Listen for `forward`. A host port of 0 becomes the one that was free, a guest address of 0
 * `guest` of the configuration. Returns 0 or an errno. */
int nat_forward(struct nat *nat, struct forward *forward);
/* Listen no more. Connections that were made live on. false when there is no such forward. */
bool nat_unforward(struct nat *nat, const struct forward *forward);

/* A frame from a guest, of any content. */
void nat_input(struct nat *nat, const uint8_t *frame, size_t length);

/* Before a wait: append what to wait for to `polled` (of struct pollfd). Returns for how long, at
 * most `timeout_ms` (as of poll(2)). With `congested`, nothing is read from the host's sockets. */
int nat_poll(struct nat *nat, GArray *polled, int timeout_ms, bool congested);
/* After it: serve what is ready, unless the wait has failed. */
void nat_polled(struct nat *nat, GArray *polled, bool failed);
