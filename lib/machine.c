// SPDX-License-Identifier: Apache-2.0
/*
 * Handles of running machines: calls, events, the end.
 */
#include <string.h>
#include <unistd.h>

#include "config/definition.h"
#include "config/paths.h"
#include "config/store.h"
#include "lib/connect.h"
#include "lib/connection.h"
#include "lib/fault.h"
#include "lib/machine.h"
#include "lib/spawn.h"

struct anima_machine {
    struct connection *connection;
    struct anima_call *start; /* until that is done; NULL: it runs */
    char *log;                /* it is to be let go then, with this log; NULL: it is not */
    int log_fd;               /* open when there is a log */
};

static struct anima_machine *machine_create(int fd, struct anima_error **error)
{
    struct connection *connection = connection_create(fd);
    struct anima_machine *machine;

    if (!connection) {
        error_set(error, ANIMA_ERROR_FAILED, "no descriptors for a connection: %s",
                  strerror(errno));
        return NULL;
    }
    machine = g_new0(struct anima_machine, 1);
    machine->connection = connection;
    return machine;
}

ANIMA_API void anima_machine_destroy(struct anima_machine *machine)
{
    if (!machine)
        return;
    anima_call_destroy(machine->start);
    connection_close(machine->connection);
    if (machine->log)
        close(machine->log_fd);
    g_free(machine->log);
    g_free(machine);
}

ANIMA_API int anima_machine_fd(const struct anima_machine *machine)
{
    return connection_fd(machine->connection);
}

/* ---- calls ---- */

/* Text to parameters; false and `error` when it is no object. NULL makes none. */
static bool parse_params(const char *method, const char *text, json_t **params,
                         struct anima_error **error)
{
    *params = text ? json_loads(text, 0, NULL) : NULL;
    if (!text || json_is_object(*params))
        return true;
    json_decref(*params);
    error_set(error, ANIMA_ERROR_USAGE, "%s: the parameters are no JSON object", method);
    return false;
}

/* Ask and wait for the answer; takes `params`. Returns a new reference. */
static json_t *call(struct anima_machine *machine, const char *method, json_t *params, int fd,
                    int timeout_ms, struct anima_error **error)
{
    gint64 deadline = deadline_in(timeout_ms);
    struct anima_call *call = connection_ask(machine->connection, method, params, fd, false, error);
    json_t *result = NULL;

    if (!call)
        return NULL;
    if (connection_await(call, deadline))
        result = connection_result(call, error);
    else
        error_set(error, ANIMA_ERROR_TIMEOUT, "%s: the machine does not answer", method);
    anima_call_destroy(call);
    return result;
}

ANIMA_API char *anima_machine_call(struct anima_machine *machine, const char *method,
                                   const char *params, int fd, int timeout_ms,
                                   struct anima_error **error)
{
    json_t *object, *result;
    char *text;

    if (!parse_params(method, params, &object, error))
        return NULL;
    result = call(machine, method, object, fd, timeout_ms, error);
    text = result ? json_dumps(result, JSON_INDENT(2) | JSON_ENCODE_ANY) : NULL;
    json_decref(result);
    return text;
}

ANIMA_API struct anima_call *anima_machine_begin(struct anima_machine *machine, const char *method,
                                                 const char *params, int fd,
                                                 struct anima_error **error)
{
    json_t *object;

    if (!parse_params(method, params, &object, error))
        return NULL;
    return connection_ask(machine->connection, method, object, fd, true, error);
}

ANIMA_API struct anima_call *anima_machine_answered(struct anima_machine *machine)
{
    return connection_answered(machine->connection);
}

/* ---- events ---- */

ANIMA_API char *anima_machine_event(struct anima_machine *machine, int timeout_ms,
                                    struct anima_error **error)
{
    bool closed;
    json_t *event = connection_event(machine->connection, deadline_in(timeout_ms), &closed);
    char *text = NULL;

    if (closed)
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
    bool ended = false, closed = false;
    json_t *event;

    while (!ended && (event = connection_event(machine->connection, deadline, &closed))) {
        ended = is_end(event, end);
        json_decref(event);
    }
    if (ended || !closed)
        return ended;
    error_set(error, ANIMA_ERROR_FAILED, "the machine's monitor has gone");
    return -1;
}

/* Parameters that tell where a file is. */
static json_t *file_params(const char *log)
{
    return log ? json_pack("{s:s}", "log", log) : json_object();
}

struct anima_machine *machine_start_begin(const struct anima_definition *definition, int serial_fd,
                                          const char *log, struct anima_error **error)
{
    GError *cause = NULL;
    g_autofree char *path = NULL;
    struct anima_machine *machine;
    json_t *params, *result;
    int fd;

    if (!definition_check((const struct definition *)definition, &cause)) {
        error_take(error, cause);
        return NULL;
    }
    path = anima_vmm_path(error);
    fd = path ? spawn_server(path, "monitor", error) : -1;
    if (fd < 0)
        return NULL;
    machine = machine_create(fd, error);
    if (!machine)
        return NULL;
    /* First, so that the end of a short life is not missed. */
    result = call(machine, "events.subscribe", NULL, -1, -1, error);
    if (result) {
        params = file_params(log);
        json_object_set_new(params, "definition",
                            definition_to_json((const struct definition *)definition));
        machine->start =
            connection_ask(machine->connection, "start", params, serial_fd, false, error);
    }
    json_decref(result);
    if (!machine->start)
        g_clear_pointer(&machine, anima_machine_destroy);
    return machine;
}

ANIMA_API struct anima_machine *anima_machine_start_begin(const struct anima_definition *definition,
                                                          int serial_fd, struct anima_error **error)
{
    return machine_start_begin(definition, serial_fd, NULL, error);
}

static bool detach(struct anima_machine *machine, int log_fd, const char *log,
                   struct anima_error **error)
{
    json_t *result = call(machine, "detach", file_params(log), log_fd, -1, error);
    bool good = result;

    json_decref(result);
    return good;
}

void machine_detach_later(struct anima_machine *machine, int log_fd, char *log)
{
    machine->log_fd = log_fd;
    machine->log = log;
}

/* The answer to "start" has come. */
static bool finish_start(struct anima_machine *machine, struct anima_error **error)
{
    json_t *result = connection_result(machine->start, error);

    if (!result)
        return false;
    json_decref(result);
    if (machine->log && !detach(machine, machine->log_fd, machine->log, error))
        return false;
    g_clear_pointer(&machine->start, anima_call_destroy);
    return true;
}

ANIMA_API int anima_machine_start_step(struct anima_machine *machine, int timeout_ms,
                                       uint64_t *done, uint64_t *total, struct anima_error **error)
{
    uint64_t bytes = 0, of = 0;
    int more = 0;

    if (machine->start && !connection_await(machine->start, deadline_in(timeout_ms))) {
        anima_call_progress(machine->start, &bytes, &of);
        more = 1;
    } else if (machine->start && !finish_start(machine, error)) {
        more = -1;
    }
    if (done)
        *done = bytes;
    if (total)
        *total = of;
    return more;
}

struct anima_machine *machine_await_start(struct anima_machine *machine, struct anima_error **error)
{
    if (machine && anima_machine_start_step(machine, -1, NULL, NULL, error) == 0)
        return machine;
    anima_machine_destroy(machine);
    return NULL;
}

ANIMA_API struct anima_machine *anima_machine_start(const struct anima_definition *definition,
                                                    int serial_fd, struct anima_error **error)
{
    return machine_await_start(anima_machine_start_begin(definition, serial_fd, error), error);
}

ANIMA_API bool anima_machine_detach(struct anima_machine *machine, int log_fd,
                                    struct anima_error **error)
{
    return detach(machine, log_fd, NULL, error);
}

ANIMA_API bool anima_machine_definition(struct anima_machine *machine,
                                        struct anima_definition *definition, int timeout_ms,
                                        struct anima_error **error)
{
    json_t *result = call(machine, "definition", NULL, -1, timeout_ms, error);
    GError *cause = NULL;
    bool good = result && definition_from_json((struct definition *)definition,
                                               json_object_get(result, "definition"), &cause);

    if (cause)
        error_take(error, cause);
    json_decref(result);
    return good;
}

static void absent(const char *name, struct anima_error **error)
{
    g_autofree char *path = definition_path(name), *remedy = NULL;

    remedy = g_strdup_printf("; 'anima start %s' starts it", name);
    error_set(error, ANIMA_ERROR_ABSENT, "no machine called '%s' is running%s", name,
              access(path, F_OK) == 0 ? remedy : "");
}

ANIMA_API struct anima_machine *anima_machine_connect(const char *name, struct anima_error **error)
{
    GError *cause = NULL;
    int fd;

    if (!store_check_name(&store_machines, name, &cause)) {
        error_take(error, cause);
        return NULL;
    }
    fd = control_connect(name);
    if (fd >= 0)
        return machine_create(fd, error);
    absent(name, error);
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
