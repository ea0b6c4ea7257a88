// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a call. Lookup, permission and parameters are checked here, by the table of
 * protocol.h, before a handler sees the call; and results before a client sees them.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "vmm/control/peer.h"
#include "vmm/control/protocol.h"
#include "vmm/control/rpc.h"

/* A request under way. Exactly one of control_reply and control_fail ends it, now or later. */
struct control_call {
    struct peer *peer; /* NULL once the client has gone: replies then vanish */
    json_t *id;        /* NULL for a notification: no reply is sent */
    json_t *params;    /* an object, never NULL */
    int *fds;          /* valid until the handler returns; take one by setting it to -1 */
    unsigned count;
    const struct control_method *method; /* NULL until it was found */
    bool public;                         /* the result is held to the table */
};

struct control_handler {
    const char *method;
    void (*handle)(void *service, struct control_call *call);
};

/* Checks the message against the table and `granted`. NULL and an RPC_ERROR otherwise; *param is
 * then the name of the parameter that is at fault, which the caller frees, or NULL. */
const struct control_method *control_method_check(const struct rpc_message *message,
                                                  unsigned granted, unsigned fds, char **param,
                                                  GError **error);

/* A call for `message`; the call holds its own references. */
struct control_call *control_call_create(struct peer *peer, const struct rpc_message *message,
                                         int *fds, unsigned count);

/* Send the outcome and free the call. `result` is taken over, NULL for an empty object. Duplicates
 * of `fds` go beside it. */
void control_reply(struct control_call *call, json_t *result);
void control_reply_fds(struct control_call *call, json_t *result, const int *fds, unsigned count);
void control_fail(struct control_call *call, int code, const char *text);
/* The failure that another process answered. */
void control_fail_as(struct control_call *call, const struct rpc_message *failure);
/* Takes the error too. */
void control_fail_error(struct control_call *call, GError *error);

/* Tell the monitor, whose call it is, how far the work is. */
void control_progress(const struct control_call *call, uint64_t done, uint64_t total);

/* What a process answers, and what it hands on. */
struct control_service {
    const struct control_handler *handlers; /* ends with a NULL method */
    bool public;                            /* its peers are clients */
    /* A checked call of a method that `handlers` lacks takes this way; NULL: it is unknown. */
    void (*forward)(void *opaque, const struct control_method *method, struct control_call *call);
    void *opaque;
};

/* Parse one line. On false the fault was answered and nothing is left to clear. */
bool control_receive(struct peer *peer, const char *line, size_t length,
                     struct rpc_message *message);

/* Serve one request or notification from a peer that was granted `granted`; every fault is
 * answered. A response, which nobody asked this peer for, is a fault as well. */
void control_serve(const struct control_service *service, struct peer *peer, unsigned granted,
                   const struct rpc_message *message, int *fds, unsigned count);
