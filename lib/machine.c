// SPDX-License-Identifier: Apache-2.0
/*
 * Handles of running machines: calls, events, the end.
 */
#include <string.h>
#include <unistd.h>

#include "config/definition.h"
#include "config/store.h"
#include "lib/connect.h"
#include "lib/fault.h"
#include "lib/spawn.h"
#include "lib/wire.h"

#define EVENTS_MAX 1024 /* kept while a call waits for its answer */

struct anima_machine {
    struct wire wire;
    json_int_t last_id;
    GQueue events; /* of json_t *: params of events that came during a call */
};

static struct anima_machine *machine_create(int fd)
{
    struct anima_machine *machine = g_new0(struct anima_machine, 1);

    wire_init(&machine->wire, fd);
    g_queue_init(&machine->events);
    return machine;
}

ANIMA_API void anima_machine_destroy(struct anima_machine *machine)
{
    json_t *event;

    if (!machine)
        return;
    wire_finish(&machine->wire);
    while ((event = g_queue_pop_head(&machine->events)))
        json_decref(event);
    g_free(machine);
}

ANIMA_API int anima_machine_fd(const struct anima_machine *machine)
{
    return machine->wire.fd;
}

static gint64 deadline_in(int timeout_ms)
{
    return timeout_ms < 0 ? -1 : g_get_monotonic_time() + timeout_ms * G_GINT64_CONSTANT(1000);
}

/* Keep an event for later; other notifications are none of ours. */
static void keep_event(struct anima_machine *machine, json_t *message)
{
    json_t *method = json_object_get(message, "method");
    json_t *params = json_object_get(message, "params");

    if (!json_is_string(method) || strcmp(json_string_value(method), "event") != 0 ||
        !json_is_object(params) || g_queue_get_length(&machine->events) >= EVENTS_MAX)
        return;
    g_queue_push_tail(&machine->events, json_incref(params));
}

static enum anima_error_code code_of(json_int_t code)
{
    switch (code) {
    case -32602:
        return ANIMA_ERROR_USAGE;
    case -32601:
        return ANIMA_ERROR_ABSENT;
    case -32001:
        return ANIMA_ERROR_DENIED;
    case -32002:
        return ANIMA_ERROR_STATE;
    default:
        return ANIMA_ERROR_FAILED;
    }
}

/* The result in an answer, borrowed from it; NULL and `error` when it is a failure. */
static json_t *take_answer(json_t *answer, struct anima_error **error)
{
    json_t *failure = json_object_get(answer, "error");
    json_t *result = json_object_get(answer, "result");
    const char *text = json_string_value(json_object_get(failure, "message"));

    if (failure)
        error_set(error, code_of(json_integer_value(json_object_get(failure, "code"))), "%s",
                  text ? text : "the machine refused without a reason");
    else if (!result)
        error_set(error, ANIMA_ERROR_FAILED, "the machine's answer is no answer");
    return failure ? NULL : result;
}

/* Send one request and wait for its answer; takes `params`. Returns a new reference. */
static json_t *call(struct anima_machine *machine, const char *method, json_t *params, int fd,
                    int timeout_ms, struct anima_error **error)
{
    gint64 deadline = deadline_in(timeout_ms);
    json_int_t id = ++machine->last_id;
    json_t *request = json_pack("{s:s, s:I, s:s, s:o*}", "jsonrpc", "2.0", "id", id, "method",
                                method, "params", params);
    enum wire_result got;
    json_t *answer, *result;
    /* A monitor that could not be started has left its last words there: read on after a failure
     * to send. */
    (void)wire_send(&machine->wire, request, fd);

    while ((got = wire_receive(&machine->wire, deadline, &answer)) == WIRE_MESSAGE) {
        if (json_integer_value(json_object_get(answer, "id")) == id &&
            !json_object_get(answer, "method")) {
            result = json_incref(take_answer(answer, error));
            json_decref(answer);
            return result;
        }
        keep_event(machine, answer);
        json_decref(answer);
    }
    if (got == WIRE_TIMEOUT)
        error_set(error, ANIMA_ERROR_TIMEOUT, "%s: the machine does not answer", method);
    else
        error_set(error, ANIMA_ERROR_FAILED, "%s: the machine's monitor has gone", method);
    return NULL;
}

ANIMA_API char *anima_machine_call(struct anima_machine *machine, const char *method,
                                   const char *params, int fd, int timeout_ms,
                                   struct anima_error **error)
{
    json_t *object = params ? json_loads(params, 0, NULL) : NULL;
    json_t *result;
    char *text;

    if (params && !json_is_object(object)) {
        json_decref(object);
        error_set(error, ANIMA_ERROR_USAGE, "%s: the parameters are no JSON object", method);
        return NULL;
    }
    result = call(machine, method, object, fd, timeout_ms, error);
    text = result ? json_dumps(result, JSON_INDENT(2) | JSON_ENCODE_ANY) : NULL;
    json_decref(result);
    return text;
}

/* The next event's params, a new reference. WIRE_TIMEOUT when there was none in time. */
static enum wire_result next_event(struct anima_machine *machine, gint64 deadline, json_t **event)
{
    enum wire_result got = WIRE_MESSAGE;
    json_t *message;

    while (g_queue_is_empty(&machine->events)) {
        got = wire_receive(&machine->wire, deadline, &message);
        if (got != WIRE_MESSAGE)
            return got;
        keep_event(machine, message);
        json_decref(message);
    }
    *event = g_queue_pop_head(&machine->events);
    return got;
}

ANIMA_API char *anima_machine_event(struct anima_machine *machine, int timeout_ms,
                                    struct anima_error **error)
{
    json_t *event = NULL;
    char *text = NULL;

    if (next_event(machine, deadline_in(timeout_ms), &event) == WIRE_CLOSED)
        error_set(error, ANIMA_ERROR_FAILED, "the machine's monitor has gone");
    if (event)
        text = json_dumps(event, JSON_COMPACT);
    json_decref(event);
    return text;
}

/* Whether the event tells of the machine's end; then *end is filled. */
static bool is_end(const json_t *event, struct anima_end *end)
{
    const char *type = json_string_value(json_object_get(event, "type"));
    const char *cause = json_string_value(json_object_get(event, "cause"));
    const char *message = json_string_value(json_object_get(event, "message"));

    if (!type || strcmp(type, "ended") != 0)
        return false;
    end->status = json_integer_value(json_object_get(event, "status"));
    end->cause = g_strdup(cause ? cause : "failed");
    end->message = g_strdup(message);
    return true;
}

ANIMA_API int anima_machine_wait(struct anima_machine *machine, int timeout_ms,
                                 struct anima_end *end, struct anima_error **error)
{
    gint64 deadline = deadline_in(timeout_ms);
    enum wire_result got;
    bool ended = false;
    json_t *event;

    while (!ended && (got = next_event(machine, deadline, &event)) == WIRE_MESSAGE) {
        ended = is_end(event, end);
        json_decref(event);
    }
    if (ended)
        return 1;
    if (got == WIRE_TIMEOUT)
        return 0;
    error_set(error, ANIMA_ERROR_FAILED, "the machine's monitor has gone");
    return -1;
}

ANIMA_API struct anima_machine *anima_machine_start(const struct anima_definition *definition,
                                                    int serial_fd, struct anima_error **error)
{
    GError *cause = NULL;
    struct anima_machine *machine;
    json_t *params, *result;
    int fd;

    if (!definition_check((const struct definition *)definition, &cause)) {
        error_take(error, cause);
        return NULL;
    }
    fd = spawn_monitor(error);
    if (fd < 0)
        return NULL;
    machine = machine_create(fd);
    /* First, so that the end of a short life is not missed. */
    result = call(machine, "events.subscribe", NULL, -1, -1, error);
    if (result) {
        json_decref(result);
        params = json_object();
        json_object_set_new(params, "definition",
                            definition_to_json((const struct definition *)definition));
        result = call(machine, "start", params, serial_fd, -1, error);
    }
    if (!result)
        g_clear_pointer(&machine, anima_machine_destroy);
    json_decref(result);
    return machine;
}

ANIMA_API bool anima_machine_detach(struct anima_machine *machine, int log_fd,
                                    struct anima_error **error)
{
    json_t *result = call(machine, "detach", NULL, log_fd, -1, error);
    bool good = result;

    json_decref(result);
    return good;
}

ANIMA_API struct anima_machine *anima_machine_connect(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    int fd;

    if (!store_check_name(name, &cause)) {
        error_take(error, cause);
        return NULL;
    }
    fd = control_connect(name);
    if (fd >= 0)
        return machine_create(fd);
    error_set(error, ANIMA_ERROR_ABSENT, "no machine called '%s' is running", name);
    return NULL;
}

ANIMA_API char *anima_machine_list(struct anima_error **error)
{
    GError *cause = NULL;
    g_auto(GStrv) names = control_list(&cause);
    json_t *running = json_array();
    char *text;

    if (!names)
        error_take(error, cause);
    for (char **name = names; name && *name; name++) {
        int fd = control_connect(*name);

        if (fd < 0)
            continue;
        json_array_append_new(running, json_string(*name));
        close(fd);
    }
    text = names ? json_dumps(running, JSON_COMPACT) : NULL;
    json_decref(running);
    return text;
}
