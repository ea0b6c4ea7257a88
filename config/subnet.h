// SPDX-License-Identifier: Apache-2.0
/*
 * Subnets of IPv4 (RFC 4632), and which of them is free on this host. Addresses are in the host's
 * byte order.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SUBNET_BITS_MIN 16
#define SUBNET_BITS_MAX 28

struct subnet {
    uint32_t address; /* the first of it */
    unsigned bits;    /* of the prefix */
};

/* Read "10.1.2.0/24". CONFIG_ERROR_USAGE with a phrase that says what is expected. */
bool subnet_parse(const char *text, struct subnet *subnet, GError **error);

/* As users write it. The caller frees it. */
char *subnet_format(const struct subnet *subnet);

uint32_t subnet_mask(const struct subnet *subnet);
/* Whether it is one of the subnet's addresses. */
bool subnet_has(const struct subnet *subnet, uint32_t address);
/* Whether they share an address. */
bool subnet_overlaps(const struct subnet *a, const struct subnet *b);

/* A subnet that none of `taken`, none of this host's interfaces and none of its routes overlaps.
 * CONFIG_ERROR_FAILED when there is none among those that are tried, 10.77.0.0/24 to
 * 10.77.255.0/24. */
bool subnet_choose(const struct subnet *taken, unsigned count, struct subnet *subnet,
                   GError **error);
