// SPDX-License-Identifier: Apache-2.0
/*
 * Messages of the control protocol: JSON-RPC 2.0 (jsonrpc.org/specification), one message a line.
 *
 * Only what one message is stands here, no transport and no method. What comes from a client is
 * hostile: length, depth and the types of all members are checked before anybody looks at them.
 * Batches are not offered: a client may send many lines without waiting.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define RPC_LINE_MAX  (4U << 20) /* bytes of one message */
#define RPC_DEPTH_MAX 16         /* arrays and objects within each other */
#define RPC_ID_MAX    128        /* bytes of an id that is a text */

/* Error codes: those of JSON-RPC, then ours. They are GError codes of RPC_ERROR as well. */
#define RPC_ERROR rpc_error_quark()
GQuark rpc_error_quark(void);
enum rpc_error {
    RPC_ERROR_PARSE = -32700,
    RPC_ERROR_INVALID_REQUEST = -32600,
    RPC_ERROR_UNKNOWN_METHOD = -32601,
    RPC_ERROR_INVALID_PARAMS = -32602,
    RPC_ERROR_INTERNAL = -32603,
    RPC_ERROR_FAILED = -32000, /* the request was right but could not be carried out */
    RPC_ERROR_DENIED = -32001, /* this client may not */
    RPC_ERROR_STATE = -32002,  /* not in the machine's present state */
    RPC_ERROR_CANCELLED = -32003,
};

enum rpc_kind {
    RPC_REQUEST,      /* wants a response */
    RPC_NOTIFICATION, /* a request without id */
    RPC_RESULT,       /* response */
    RPC_FAILURE,      /* response with an error */
};

/* A checked message. The pointers belong to `root`. */
struct rpc_message {
    enum rpc_kind kind;
    json_t *root;
    json_t *id;         /* a text, a whole number or null; NULL for a notification */
    const char *method; /* REQUEST, NOTIFICATION */
    json_t *params;     /* REQUEST, NOTIFICATION: an object, or NULL for none */
    json_t *result;     /* RESULT */
    int code;           /* FAILURE */
    const char *text;   /* FAILURE: the message */
    json_t *data;       /* FAILURE: an object that tells more, or NULL */
};

/* Check one line (without its newline). On false, `error` has an RPC_ERROR code and, where the
 * line's id could still be read, message->id is set; rpc_message_clear is due in any case. */
bool rpc_parse(const char *line, size_t length, struct rpc_message *message, GError **error);
void rpc_message_clear(struct rpc_message *message);

/* New messages; the caller owns them. `id` is borrowed and may be NULL (written as null); `params`,
 * `result` and `data` are taken over and may be NULL. */
json_t *rpc_request(json_int_t id, const char *method, json_t *params);
json_t *rpc_notification(const char *method, json_t *params);
json_t *rpc_result(json_t *id, json_t *result);
json_t *rpc_failure(json_t *id, int code, const char *text, json_t *data);

/* The code that a client gets for `error`: its own for RPC_ERROR, by the kind of fault for
 * CONFIG_ERROR, CANCELLED for VMM_ERROR_CANCELLED, else FAILED. */
int rpc_code_of(const GError *error);
