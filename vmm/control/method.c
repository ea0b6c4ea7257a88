// SPDX-License-Identifier: Apache-2.0
/*
 * The table of methods and the life of a call.
 */
#include "vmm/control/method.h"

#include <string.h>

static const struct control_param none[] = {{0}};

static const struct control_param start_params[] = {
    {"definition", JSON_OBJECT, true},
    {"serial", JSON_TRUE, false},
    {"fds", JSON_ARRAY, false},
    {"folder", JSON_STRING, false},
    {0},
};

static const struct control_param upgrade_params[] = {
    {"engine", JSON_STRING, false},
    {0},
};

static const struct control_param load_params[] = {
    {"clients", JSON_ARRAY, true},
    {0},
};

static const struct control_param go_params[] = {
    {"running", JSON_TRUE, true},
    {"began_ns", JSON_INTEGER, true},
    {"stopped_ns", JSON_INTEGER, true},
    {"started_us", JSON_INTEGER, true},
    {0},
};

static const struct control_param subscribe_params[] = {
    {"since", JSON_INTEGER, false},
    {0},
};

static const struct control_param stop_params[] = {
    {"timeout", JSON_INTEGER, false},
    {0},
};

const struct control_method control_methods[] = {
    /* Start the machine of this monitor. In the monitor: "definition", and with "serial" true a
     * descriptor for the serial line on stdio. In the vmm: "fds" names each descriptor, and
     * "folder" is what relative paths are relative to. */
    {"start", CONTROL_OWN, false, 0, PEER_FDS_MAX, start_params},
    {"query", CONTROL_OBSERVE, true, 0, 0, none},
    /* What the engine counts of each vCPU. */
    {"metrics", CONTROL_OBSERVE, true, 0, 0, none},
    {"pause", CONTROL_OPERATE, true, 0, 0, none},
    {"resume", CONTROL_OPERATE, true, 0, 0, none},
    {"reset", CONTROL_OPERATE, true, 0, 0, none},
    {"nmi", CONTROL_OPERATE, true, 0, 0, none},
    /* Press the power button; after "timeout" seconds, if given, the machine is killed. */
    {"stop", CONTROL_OPERATE, false, 0, 0, stop_params},
    /* What the vmm does of "stop". */
    {"power-button", CONTROL_OPERATE, true, 0, 0, none},
    {"kill", CONTROL_OPERATE, false, 0, 0, none},
    /* Write the machine's state to the descriptor that comes along. */
    {"state.save", CONTROL_OPERATE, true, 1, 1, none},
    /* Put a new vmm in the place of the one that runs, with another engine if one is named; tells
     * how long the guest was away. */
    {"upgrade", CONTROL_OPERATE, false, 0, 0, upgrade_params},
    /* The steps of that, see vmm/handover.c. */
    {"handover.describe", CONTROL_LEAD, true, 1, 1, none},
    {"handover.pause", CONTROL_LEAD, true, 1, 1, none},
    {"handover.cancel", CONTROL_LEAD, true, 0, 0, none},
    {"handover.load", CONTROL_LEAD, true, 1, PEER_FDS_MAX, load_params},
    {"handover.go", CONTROL_LEAD, true, 0, 0, go_params},
    /* From now on each event comes as a notification "event"; with "since", those after that
     * number which are still remembered come first. */
    {"events.subscribe", CONTROL_OBSERVE, false, 0, 0, subscribe_params},
    {0},
};

static bool has_type(const json_t *value, json_type type)
{
    return json_typeof(value) == type || (type == JSON_TRUE && json_is_false(value));
}

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
        return "a whole number";
    default:
        return "true or false";
    }
}

static bool check_params(const struct control_method *method, json_t *params, GError **error)
{
    const struct control_param *param;
    size_t known = 0;

    for (param = method->params; param->name; param++) {
        const json_t *value = json_object_get(params, param->name);

        known += value != NULL;
        if (value ? has_type(value, param->type) : !param->required)
            continue;
        g_set_error(error, RPC_ERROR, RPC_ERROR_INVALID_PARAMS, "%s: %s: expected %s", method->name,
                    param->name, type_name(param->type));
        return false;
    }
    if (known == json_object_size(params))
        return true;
    g_set_error(error, RPC_ERROR, RPC_ERROR_INVALID_PARAMS, "%s: it takes no such parameter",
                method->name);
    return false;
}

const struct control_method *control_method_check(const struct rpc_message *message,
                                                  unsigned granted, unsigned fds, GError **error)
{
    const struct control_method *method = control_methods;

    while (method->name && strcmp(method->name, message->method) != 0)
        method++;
    if (!method->name) {
        g_set_error(error, RPC_ERROR, RPC_ERROR_UNKNOWN_METHOD, "there is no method '%.80s'",
                    message->method);
        return NULL;
    }
    if (!(granted & method->access)) {
        g_set_error(error, RPC_ERROR, RPC_ERROR_DENIED, "%s: this connection may not",
                    method->name);
        return NULL;
    }
    if (fds < method->fds_min || fds > method->fds_max) {
        g_set_error(error, RPC_ERROR, RPC_ERROR_INVALID_PARAMS,
                    "%s: %u descriptors came along, not %u", method->name, fds, method->fds_min);
        return NULL;
    }
    return check_params(method, message->params, error) ? method : NULL;
}

static const struct control_handler *find_handler(const struct control_handler *handlers,
                                                  const char *method)
{
    for (; handlers->method; handlers++)
        if (strcmp(handlers->method, method) == 0)
            return handlers;
    return NULL;
}

struct control_call *control_call_create(struct peer *peer, const struct rpc_message *message,
                                         int *fds, unsigned count)
{
    struct control_call *call = g_new0(struct control_call, 1);

    call->peer = peer;
    call->id = json_incref(message->id);
    call->params = message->params ? json_incref(message->params) : json_object();
    call->fds = fds;
    call->count = count;
    return call;
}

static void finish(struct control_call *call, json_t *message, const int *fds, unsigned count)
{
    if (call->peer && call->id)
        peer_send(call->peer, message, fds, count);
    else
        json_decref(message);
    json_decref(call->id);
    json_decref(call->params);
    g_free(call);
}

void control_reply(struct control_call *call, json_t *result)
{
    control_reply_fds(call, result, NULL, 0);
}

void control_reply_fds(struct control_call *call, json_t *result, const int *fds, unsigned count)
{
    finish(call, rpc_result(call->id, result), fds, count);
}

void control_fail(struct control_call *call, int code, const char *text)
{
    finish(call, rpc_failure(call->id, code, text), NULL, 0);
}

void control_fail_error(struct control_call *call, GError *error)
{
    control_fail(call, rpc_code_of(error), error->message);
    g_error_free(error);
}

bool control_receive(struct peer *peer, const char *line, size_t length,
                     struct rpc_message *message)
{
    g_autoptr(GError) error = NULL;

    if (rpc_parse(line, length, message, &error))
        return true;
    peer_send(peer, rpc_failure(message->id, error->code, error->message), NULL, 0);
    rpc_message_clear(message);
    return false;
}

void control_serve(const struct control_service *service, struct peer *peer, unsigned granted,
                   const struct rpc_message *message, int *fds, unsigned count)
{
    const struct control_method *method = NULL;
    const struct control_handler *handler;
    struct control_call *call;
    GError *error = NULL;

    call = control_call_create(peer, message, fds, count);
    if (!message->method)
        g_set_error(&error, RPC_ERROR, RPC_ERROR_INVALID_REQUEST, "nothing was asked of you");
    else
        method = control_method_check(message, granted, count, &error);
    if (!method) {
        control_fail_error(call, error);
        return;
    }
    handler = find_handler(service->handlers, method->name);
    if (handler)
        handler->handle(service->opaque, call);
    else if (service->forward)
        service->forward(service->opaque, method, call);
    else
        control_fail(call, RPC_ERROR_UNKNOWN_METHOD, "this process does not answer that");
}
