// SPDX-License-Identifier: Apache-2.0
/*
 * The methods of the control protocol: one table of what each is called, who may call it, what it
 * takes and which process answers. Lookup, permission and the types of parameters are checked here
 * and nowhere else; what a parameter means is the handler's.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "vmm/control/peer.h"
#include "vmm/control/rpc.h"

/* What a connection was granted. */
enum control_access {
    CONTROL_OBSERVE = 1, /* look */
    CONTROL_OPERATE = 2, /* change what runs */
    CONTROL_OWN = 4,     /* the connection that started the machine */
    CONTROL_LEAD = 8,    /* the monitor, to its vmm */
};

struct control_param {
    const char *name; /* NULL ends the list */
    json_type type;   /* JSON_TRUE stands for both booleans */
    bool required;
};

struct control_method {
    const char *name;
    enum control_access access;
    bool in_vmm;               /* answered by the vmm; the monitor forwards it */
    unsigned fds_min, fds_max; /* descriptors beside the line */
    const struct control_param *params;
};

/* Every method there is; ends with a NULL name. */
extern const struct control_method control_methods[];

/* A request under way. Exactly one of control_reply and control_fail ends it, now or later. */
struct control_call {
    struct peer *peer; /* NULL once the client has gone: replies then vanish */
    json_t *id;        /* NULL for a notification: no reply is sent */
    json_t *params;    /* an object, never NULL */
    int *fds;          /* valid until the handler returns; take one by setting it to -1 */
    unsigned count;
};

struct control_handler {
    const char *method;
    void (*handle)(void *service, struct control_call *call);
};

/* Checks the message against the table and `granted`; NULL and an RPC_ERROR otherwise. */
const struct control_method *control_method_check(const struct rpc_message *message,
                                                  unsigned granted, unsigned fds, GError **error);

/* A call for `message`; the call holds its own references. */
struct control_call *control_call_create(struct peer *peer, const struct rpc_message *message,
                                         int *fds, unsigned count);

/* Send the outcome and free the call. `result` is taken over, NULL for an empty object. Duplicates
 * of `fds` go beside it. */
void control_reply(struct control_call *call, json_t *result);
void control_reply_fds(struct control_call *call, json_t *result, const int *fds, unsigned count);
void control_fail(struct control_call *call, int code, const char *text);
/* Takes the error too. */
void control_fail_error(struct control_call *call, GError *error);

/* What a process answers, and what it hands on. */
struct control_service {
    const struct control_handler *handlers; /* ends with a NULL method */
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
