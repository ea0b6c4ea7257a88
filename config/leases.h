// SPDX-License-Identifier: Apache-2.0
/*
 * Who has which address of a network: by the card's address, so that it is the same again, and with
 * the name that it is found by. A name may have an address before its card was ever seen, for
 * forwards that lead to it.
 *
 * Lease i is the address number NETWORK_LEASES + i of the subnet. When all are taken, the one that
 * was not used for the longest time goes to another; those in use stay. Everything in order of use
 * is a count, so that no clock is needed.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/limits.h"
#include "config/subnet.h"

#define LEASES_MAX 250

struct lease {
    bool taken;
    bool in_use;                    /* its card is plugged in */
    bool kept;                      /* somebody relies on the name */
    uint8_t mac[6];                 /* all 0: only the name is known */
    char name[CONFIG_NAME_MAX + 1]; /* "": none */
    uint64_t used;                  /* when, in the order of uses */
};

struct leases {
    struct subnet subnet;
    unsigned count; /* that the subnet has */
    uint64_t uses;
    struct lease list[LEASES_MAX];
};

void leases_init(struct leases *leases, const struct subnet *subnet);

/* The address of lease `index`. */
uint32_t lease_address(const struct leases *leases, unsigned index);
/* The lease of an address; -1: it is none's. */
int leases_at(const struct leases *leases, uint32_t address);
/* The lease of a card; -1: it has none. */
int leases_of(const struct leases *leases, const uint8_t mac[6]);

/* The lease that a name has, which is compared as the DNS does, or -1. */
int leases_find(const struct leases *leases, const char *name, size_t length);

/* A lease for the card, which has `name` (or ""): the one that it had, else the one that waits for
 * the name, else a new one. A name that a card in use has is not given again. -1: all are in use.
 */
int leases_take(struct leases *leases, const uint8_t mac[6], const char *name);
/* A lease for a name whose card is not known yet, or the one that it has. -1: all are in use. */
int leases_reserve(struct leases *leases, const char *name);

/* As a new list of objects with "address", "mac" and "name"; and the other way round, where what
 * does not fit is left out. */
json_t *leases_to_json(const struct leases *leases);
void leases_from_json(struct leases *leases, const json_t *list);
