// SPDX-License-Identifier: Apache-2.0
/*
 * The definition of a network that machines share: its options, and what they mean together.
 *
 *     internal   a switch; with a subnet there are addresses by DHCP and names in it
 *     nat        the same with a way out, and ports of the host that lead in
 *     bridge     a bridge of the host's kernel
 *
 * In a subnet the host is the address number 1, the resolver number 2; machines have those that
 * follow.
 */
#pragma once

#include "config/definition.h"
#include "config/forward.h"
#include "config/limits.h"
#include "config/subnet.h"

/* Indexes in the table, in the order in which help lists them. */
enum network_option {
    NETWORK_KIND,
    NETWORK_SUBNET,
    NETWORK_DOMAIN,
    NETWORK_FORWARD,
    NETWORK_INTERFACE,
    NETWORK_MTU,
    NETWORK_MAC_FILTER,
    NETWORK_OPTION_COUNT,
};

extern const struct option network_options[NETWORK_OPTION_COUNT + 1];
extern const struct definition_kind definition_network;

enum network_kind { NETWORK_INTERNAL, NETWORK_NAT, NETWORK_BRIDGE };

struct network {
    enum network_kind kind;
    struct subnet subnet;  /* of 0 bits: none */
    const char *domain;    /* of names; lives as long as the definition's value, as the rest does */
    const char *interface; /* of a bridge */
    unsigned mtu;
    bool mac_filter;
};

/* Host numbers in a subnet. */
#define NETWORK_HOST     1
#define NETWORK_RESOLVER 2
#define NETWORK_LEASES   3 /* the first of machines */

/* What a definition that passed definition_check says. */
struct network definition_network_of(const struct definition *definition);

/* Fill in a subnet where the kind wants one and none was given, which overlaps none of `taken`. */
bool network_fill(struct definition *definition, const struct subnet *taken, unsigned count,
                  GError **error);

/* A forward into a network: as of config/forward.h, but the guest is always named, by its address
 * or by its machine's name. */
struct network_forward {
    struct forward forward;            /* a guest's address of 0: by name */
    char machine[CONFIG_NAME_MAX + 1]; /* "": by address */
};

/* Read `text`. CONFIG_ERROR_USAGE with a phrase that says what is expected. */
bool network_forward_parse(const char *text, struct network_forward *forward, GError **error);
