// SPDX-License-Identifier: Apache-2.0
/*
 * Finding, checking and answering calls.
 */
#include "vmm/control/method.h"

#include <string.h>

#include "config/schema.h"

const struct control_method *control_method_check(const struct rpc_message *message,
                                                  unsigned granted, unsigned fds, char **param,
                                                  GError **error)
{
    const struct control_method *method = control_method_find(message->method);

    *param = NULL;
    if (!method) {
        g_autofree char *shown = text_show(message->method);

        g_set_error(error, RPC_ERROR, RPC_ERROR_UNKNOWN_METHOD, "there is no method '%s'", shown);
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
    if (control_fields_check(method->params, message->params, param, error))
        return method;
    g_prefix_error(error, "%s: ", method->name);
    return NULL;
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

/* A result that is not what the table promises is a fault of ours, or of a vmm that was taken over
 * by its guest: no client shall see it. */
static bool keeps_promise(const struct control_call *call, json_t *result)
{
    g_autoptr(GError) error = NULL;

    if (!call->public || !call->method ||
        control_fields_check(call->method->result, result, NULL, &error))
        return true;
    g_warning("%s: a result is not as described: %s", call->method->name, error->message);
    return false;
}

void control_reply_fds(struct control_call *call, json_t *result, const int *fds, unsigned count)
{
    if (!keeps_promise(call, result)) {
        json_decref(result);
        control_fail(call, RPC_ERROR_INTERNAL, "the answer was not as the protocol describes it");
        return;
    }
    finish(call, rpc_result(call->id, result), fds, count);
}

void control_fail(struct control_call *call, int code, const char *text)
{
    finish(call, rpc_failure(call->id, code, text, NULL), NULL, 0);
}

void control_fail_as(struct control_call *call, const struct rpc_message *failure)
{
    finish(call, rpc_failure(call->id, failure->code, failure->text, json_incref(failure->data)),
           NULL, 0);
}

void control_fail_error(struct control_call *call, GError *error)
{
    control_fail(call, rpc_code_of(error), error->message);
    g_error_free(error);
}

void control_progress(const struct control_call *call, uint64_t done, uint64_t total)
{
    json_t *params;

    if (!call->peer || !call->id)
        return;
    params = json_pack("{s:O, s:I, s:I}", "call", call->id, "done", (json_int_t)done, "total",
                       (json_int_t)total);
    peer_send(call->peer, rpc_notification("progress", params), NULL, 0);
}

bool control_receive(struct peer *peer, const char *line, size_t length,
                     struct rpc_message *message)
{
    g_autoptr(GError) error = NULL;

    if (rpc_parse(line, length, message, &error))
        return true;
    peer_send(peer, rpc_failure(message->id, error->code, error->message, NULL), NULL, 0);
    rpc_message_clear(message);
    return false;
}

/* What makes no call: the fault as `error`, and the parameter at fault in `param`, or NULL. */
static void refuse(struct control_call *call, const char *param, GError *error)
{
    json_t *data = param ? json_pack("{s:s}", "param", param) : NULL;

    finish(call, rpc_failure(call->id, rpc_code_of(error), error->message, data), NULL, 0);
    g_error_free(error);
}

void control_serve(const struct control_service *service, struct peer *peer, unsigned granted,
                   const struct rpc_message *message, int *fds, unsigned count)
{
    const struct control_handler *handler;
    g_autofree char *param = NULL;
    struct control_call *call;
    GError *error = NULL;

    call = control_call_create(peer, message, fds, count);
    if (!message->method)
        g_set_error(&error, RPC_ERROR, RPC_ERROR_INVALID_REQUEST, "nothing was asked of you");
    else
        call->method = control_method_check(message, granted, count, &param, &error);
    if (!call->method) {
        refuse(call, param, error);
        return;
    }
    call->public = service->public;
    handler = find_handler(service->handlers, call->method->name);
    if (handler)
        handler->handle(service->opaque, call);
    else if (service->forward)
        service->forward(service->opaque, call->method, call);
    else
        control_fail(call, RPC_ERROR_UNKNOWN_METHOD, "this process does not answer that");
}
