// SPDX-License-Identifier: Apache-2.0
/*
 * Who talks to a machine: the connection that started it, and those that come by the control
 * socket. Calls go to one service; events go to all that asked for them, numbered without a gap.
 *
 * An event is {"method": "event", "params": {"seq": N, "type": TYPE, "time": MS, ...}}. A client
 * gets them from the history (history.h) as fast as it reads: one that is slow, or was away, hears
 * later, and of what the history has lost by then it hears that it is lost.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "vmm/control/method.h"

#define CLIENTS_MAX 64

struct clients;

struct clients_config {
    struct control_service service;
    /* A connection has gone; calls of `peer` must not be answered any more. */
    void (*gone)(void *opaque, struct peer *peer, bool owner);
    unsigned most; /* connections at once; 0: CLIENTS_MAX */
};

/* `config` is copied. */
struct clients *clients_create(const struct clients_config *config);
/* Closes all connections. NULL is fine. */
void clients_destroy(struct clients *clients);

/* Serve the connection `fd`, which is taken; `granted` is a mask of enum control_access. */
void clients_add(struct clients *clients, int fd, unsigned granted);

/* Accept connections from the listening `fd`, which stays the caller's, and grant them OBSERVE, and
 * OPERATE as well when they come from this user or root. */
void clients_listen(struct clients *clients, int fd);

/* Number an event of this type and tell it; takes `details` (an object as the protocol describes
 * the type, or NULL for none). */
void clients_event(struct clients *clients, const char *type, json_t *details);

/* The number of the last event so far, and how many of those after `since` are lost. */
json_int_t clients_last_event(const struct clients *clients);
json_int_t clients_missed(const struct clients *clients, json_int_t since);

/* The client whose connection `peer` is gets the events after number `since` from now on. */
void clients_subscribe(struct clients *clients, const struct peer *peer, json_int_t since);

/* Give everybody a moment to take what is queued for them. */
void clients_flush(struct clients *clients);
