// SPDX-License-Identifier: Apache-2.0
/*
 * The cards that are on a network, as its monitor keeps them: whose they are, and the network's end
 * of their cables, which each helper gets. A card belongs to the connection that it came by.
 */
#pragma once

#include <jansson.h>

#include "vmm/control/method.h"
#include "vmm/monitor/worker.h"

struct ports;

struct ports *ports_create(void);
/* Closes all cables. NULL is fine. */
void ports_destroy(struct ports *ports);

unsigned ports_count(const struct ports *ports);

/* Take the card of a call "network.attach", which is answered when a helper has it. False: the call
 * has failed. */
bool ports_add(struct ports *ports, struct control_call *call);
/* The connection has gone, and with it its cards; `worker` (or NULL: none is ready) is told. */
void ports_remove_peer(struct ports *ports, const struct peer *peer, struct worker *worker);

/* Give the helper all cards that it does not have. */
void ports_offer(struct ports *ports, struct worker *worker);
/* The helper has gone; none of its answers will come. */
void ports_lose(struct ports *ports);

/* The cards as "network.query" tells them, with what the helper has counted (NULL: nothing). */
json_t *ports_describe(const struct ports *ports, const json_t *counts);
