// SPDX-License-Identifier: Apache-2.0
/*
 * DHCP for the machines of a network (RFC 2131, RFC 2132): each card gets the address of its lease,
 * whatever it asks for, so the whole protocol is one answer to one question and nothing is
 * remembered between them.
 *
 * libslirp has a responder with 16 addresses; other servers are programs that want an interface of
 * the host's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68
#define DHCP_REPLY_MAX   548 /* bytes: what every client takes, with IP and UDP headers 576 */

/* What a client's message asks. */
struct dhcp_request {
    uint8_t type; /* DHCP_DISCOVER and so on */
    uint8_t mac[6];
    uint32_t client;    /* the address that it has; 0: none */
    uint32_t requested; /* the one that it wants; 0: any */
    uint32_t server;    /* whom it has chosen; 0: nobody yet */
    uint8_t head[44];   /* the fields up to the client's hardware address, for the reply */
};

enum {
    DHCP_DISCOVER = 1,
    DHCP_OFFER = 2,
    DHCP_REQUEST = 3,
    DHCP_ACK = 5,
    DHCP_NAK = 6,
    DHCP_INFORM = 8,
};

/* What the answer tells. */
struct dhcp_lease {
    uint32_t address, mask, server;
    uint32_t router; /* 0: there is none */
    uint32_t resolver;
    const char *hostname; /* "": none */
    const char *domain;
    unsigned mtu;
};

/* Read the data of a UDP packet to DHCP_SERVER_PORT. False for what is no request of Ethernet. */
bool dhcp_read(const uint8_t *data, size_t length, struct dhcp_request *request);

/* The answer in `reply`; its length, or 0 when there is none. */
size_t dhcp_reply(const struct dhcp_request *request, const struct dhcp_lease *lease,
                  uint8_t reply[DHCP_REPLY_MAX]);
