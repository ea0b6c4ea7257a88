// SPDX-License-Identifier: Apache-2.0
/*
 * The names of a network's machines (RFC 1035): a resolver in front of the host's, which answers
 * for the names of leases, those in the network's domain, and the addresses of its subnet. All
 * other questions are left to the host's resolver, or refused where there is none.
 *
 * libslirp passes questions on and knows no names; other servers are programs that want an
 * interface of the host's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "config/leases.h"

#define DNS_PORT      53
#define DNS_REPLY_MAX 512 /* bytes: what every client takes */

enum dns_verdict {
    DNS_ANSWERED,  /* `reply` is to be sent */
    DNS_ELSEWHERE, /* the question is for the host's resolver */
    DNS_IGNORED,   /* this is no question */
};

struct dns_zone {
    const struct leases *leases;
    const char *domain;
    bool alone; /* there is no other resolver: what is not ours is refused */
};

/* Answer the question in the data of a UDP packet to DNS_PORT. */
enum dns_verdict dns_reply(const struct dns_zone *zone, const uint8_t *data, size_t length,
                           uint8_t reply[DNS_REPLY_MAX], size_t *reply_length);
