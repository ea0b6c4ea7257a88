// SPDX-License-Identifier: Apache-2.0
/*
 * Checking and building single JSON-RPC messages.
 */
#include "vmm/control/rpc.h"

#include <limits.h>
#include <string.h>

#include "config/schema.h"
#include "vmm/util/fault.h"
#include "vmm/util/json_bound.h"

G_DEFINE_QUARK(anima - rpc - error, rpc_error)

static bool refuse(GError **error, enum rpc_error code, const char *what)
{
    g_set_error_literal(error, RPC_ERROR, code, what);
    return false;
}

static bool take_id(struct rpc_message *message, GError **error)
{
    json_t *id = json_object_get(message->root, "id");
    bool good = !id || json_is_null(id) || json_is_integer(id) ||
                (json_is_string(id) && json_string_length(id) <= RPC_ID_MAX);

    if (!good)
        return refuse(error, RPC_ERROR_INVALID_REQUEST,
                      "id: expected a whole number or a short text");
    message->id = id;
    return true;
}

static bool take_request(struct rpc_message *message, GError **error)
{
    json_t *method = json_object_get(message->root, "method");
    json_t *params = json_object_get(message->root, "params");

    if (!json_is_string(method))
        return refuse(error, RPC_ERROR_INVALID_REQUEST, "method: expected a text");
    if (params && !json_is_object(params))
        return refuse(error, RPC_ERROR_INVALID_REQUEST, "params: expected an object");
    message->kind = message->id ? RPC_REQUEST : RPC_NOTIFICATION;
    message->method = json_string_value(method);
    message->params = params;
    return true;
}

static bool take_response(struct rpc_message *message, GError **error)
{
    json_t *failure = json_object_get(message->root, "error");
    json_t *code = json_object_get(failure, "code");
    json_t *text = json_object_get(failure, "message");

    message->result = json_object_get(message->root, "result");
    if (!message->id || !message->result == !failure)
        return refuse(error, RPC_ERROR_INVALID_REQUEST,
                      "expected a method, or an id with a result or an error");
    message->kind = failure ? RPC_FAILURE : RPC_RESULT;
    if (!failure)
        return true;
    if (!json_is_integer(code) || !json_is_string(text))
        return refuse(error, RPC_ERROR_INVALID_REQUEST, "error: expected a code and a message");
    message->code = CLAMP(json_integer_value(code), INT32_MIN, INT32_MAX);
    message->text = json_string_value(text);
    message->data = json_object_get(failure, "data");
    return true;
}

bool rpc_parse(const char *line, size_t length, struct rpc_message *message, GError **error)
{
    json_error_t where;
    json_t *version;

    *message = (struct rpc_message){0};
    if (length > RPC_LINE_MAX)
        return refuse(error, RPC_ERROR_PARSE, "the line is too long");
    if (!json_is_bounded(line, length, RPC_DEPTH_MAX, UINT_MAX))
        return refuse(error, RPC_ERROR_PARSE, "arrays and objects are nested too deeply");
    message->root = json_loadb(line, length, JSON_REJECT_DUPLICATES, &where);
    if (!message->root) {
        g_set_error(error, RPC_ERROR, RPC_ERROR_PARSE, "column %d: %s", where.column, where.text);
        return false;
    }
    if (!json_is_object(message->root))
        return refuse(error, RPC_ERROR_INVALID_REQUEST, "expected one object a line");
    if (!take_id(message, error))
        return false;
    version = json_object_get(message->root, "jsonrpc");
    if (!json_is_string(version) || strcmp(json_string_value(version), "2.0") != 0)
        return refuse(error, RPC_ERROR_INVALID_REQUEST, "jsonrpc: expected \"2.0\"");
    if (json_object_get(message->root, "method"))
        return take_request(message, error);
    return take_response(message, error);
}

void rpc_message_clear(struct rpc_message *message)
{
    json_decref(message->root);
    *message = (struct rpc_message){0};
}

static json_t *message_create(void)
{
    json_t *message = json_object();

    json_object_set_new(message, "jsonrpc", json_string("2.0"));
    return message;
}

json_t *rpc_notification(const char *method, json_t *params)
{
    json_t *message = message_create();

    json_object_set_new(message, "method", json_string(method));
    if (params)
        json_object_set_new(message, "params", params);
    return message;
}

json_t *rpc_request(json_int_t id, const char *method, json_t *params)
{
    json_t *message = rpc_notification(method, params);

    json_object_set_new(message, "id", json_integer(id));
    return message;
}

json_t *rpc_result(json_t *id, json_t *result)
{
    json_t *message = message_create();

    json_object_set_new(message, "id", id ? json_incref(id) : json_null());
    json_object_set_new(message, "result", result ? result : json_object());
    return message;
}

json_t *rpc_failure(json_t *id, int code, const char *text, json_t *data)
{
    json_t *message = message_create(), *failure = json_object();
    /* What a client sent may stand in it, cut within a character. */
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    json_object_set_new(failure, "code", json_integer(code));
    json_object_set_new(failure, "message", json_string(valid));
    if (data)
        json_object_set_new(failure, "data", data);
    json_object_set_new(message, "id", id ? json_incref(id) : json_null());
    json_object_set_new(message, "error", failure);
    return message;
}

int rpc_code_of(const GError *error)
{
    if (error->domain == RPC_ERROR)
        return error->code;
    if (g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE) ||
        g_error_matches(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE))
        return RPC_ERROR_INVALID_PARAMS;
    if (g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_STATE))
        return RPC_ERROR_STATE;
    if (g_error_matches(error, VMM_ERROR, VMM_ERROR_CANCELLED))
        return RPC_ERROR_CANCELLED;
    return g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_STATE) ? RPC_ERROR_STATE
                                                                    : RPC_ERROR_FAILED;
}
