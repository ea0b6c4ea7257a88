// SPDX-License-Identifier: Apache-2.0
/*
 * What a network with a subnet has beside its machines: addresses by DHCP, names, and libslirp
 * behind both, which is the gateway of a network of kind nat, and on an internal one only answers
 * for the addresses of these services.
 *
 * One thread; one network a process.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#include "config/leases.h"
#include "config/network.h"
#include "vmm/net/nat/nat.h"

struct services_config {
    const struct network *network; /* with a subnet; its texts live as long as the process */
    const json_t *leases;          /* known from before; or NULL */
    /* A frame to a machine. */
    void (*send)(const uint8_t *frame, size_t length);
    /* Somebody has got an address. */
    void (*changed)(void);
};

void services_start(const struct services_config *config);

/* For nat_poll and nat_polled; NULL before they were started. */
struct nat *services_nat(void);
/* NULL before they were started. */
struct leases *services_leases(void);

/* Whether the address is one of ours. */
bool services_have(const uint8_t mac[6]);
/* A frame for us, or for all, from a card that may be at `mac` alone; NULL: anywhere. */
void services_input(const uint8_t *mac, const uint8_t *frame, size_t length);

/* Take away the forwards of the list `gone`, and add those of `come` (config/network.h tells their
 * form; either may be NULL). The answer is {"forwards": those that came, in the same form}; NULL
 * with an error, and all is as it was: `*taken` (borrowed) is the one whose port another program
 * has. */
json_t *services_forward(const json_t *gone, const json_t *come, json_t **taken, GError **error);
