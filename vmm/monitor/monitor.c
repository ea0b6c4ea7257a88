// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a monitor:
 *
 *     owner connects -> "start": name claimed, files opened, vmm spawned, "start" sent to it
 *     -> calls are answered here or forwarded -> the vmm ends -> "ended" told, all removed
 *
 * The owner's connection is the machine's lifeline: when it closes, the machine is killed. So a
 * terminal that goes away, or a command that crashes, never leaves a machine behind.
 */
#include "vmm/monitor/monitor.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/definition.h"
#include "vmm/control/method.h"
#include "vmm/monitor/clients.h"
#include "vmm/monitor/files.h"
#include "vmm/monitor/folder.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/sandbox.h"
#include "vmm/monitor/worker.h"

#define STOP_TIMEOUT_MAX 86400 /* seconds */
#define CALLS_MAX        16    /* calls of one client that wait for the vmm */

/* How the machine ended. */
struct verdict {
    bool known;
    int status;
    char *cause, *message;
};

struct monitor {
    GMainLoop *loop;
    struct clients *clients;
    struct definition *definition; /* NULL before "start" */
    struct folder *folder;
    struct files *files;
    struct worker *vmm;    /* NULL before "start" */
    GHashTable *forwarded; /* of struct forwarded *: what the vmm has not answered */
    guint stop_timer;
    char *last_log;  /* line of the vmm */
    char *violation; /* sentence on a system call that it says it died of */
    struct verdict verdict;
};

/* A client's call on its way through the vmm. */
struct forwarded {
    struct monitor *monitor;
    struct control_call *call;
};

static void decide(struct monitor *monitor, int status, const char *cause, const char *message)
{
    if (monitor->verdict.known)
        return;
    monitor->verdict.known = true;
    monitor->verdict.status = status;
    monitor->verdict.cause = g_strdup(cause);
    monitor->verdict.message = g_strdup(message);
}

/* ---- the vmm's end ---- */

/* What to say of a vmm that ended without a word. */
static char *describe_death(const struct monitor *monitor, int status)
{
    const char *last = monitor->last_log;

    /* A guest with a debug console can write such a line, but not die so. */
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS && monitor->violation)
        return g_strdup(monitor->violation);
    if (WIFSIGNALED(status))
        return g_strdup_printf("the vmm was killed by signal %d (%s)%s%s", WTERMSIG(status),
                               g_strsignal(WTERMSIG(status)), last ? "; it last said: " : "",
                               last ? last : "");
    return g_strdup_printf("the vmm ended with status %d%s%s", WEXITSTATUS(status),
                           last ? "; it last said: " : "", last ? last : "");
}

static void fail_calls(struct monitor *monitor, const char *fallback)
{
    const char *message = monitor->verdict.message;

    if (monitor->vmm)
        worker_fail_requests(monitor->vmm, message ? message : fallback);
}

static void on_vmm_log(void *opaque, const char *line)
{
    struct monitor *monitor = opaque;
    char *violation = sandbox_explain(line);
    json_t *details;

    if (violation) {
        g_free(monitor->violation);
        monitor->violation = violation;
        return;
    }
    g_free(monitor->last_log);
    monitor->last_log = g_utf8_make_valid(line, -1);
    details = json_object();
    json_object_set_new(details, "line", json_string(monitor->last_log));
    clients_event(monitor->clients, "log", details);
}

static void on_vmm_ended(void *opaque, struct worker *worker, int wait_status)
{
    struct monitor *monitor = opaque;

    if (!monitor->verdict.known) {
        g_autofree char *message = describe_death(monitor, wait_status);

        decide(monitor, 1, "failed", message);
    }
    fail_calls(monitor, "the machine has ended");
    g_main_loop_quit(monitor->loop);
}

/* ---- words from the vmm ---- */

/* What the vmm says of itself, with what only the monitor knows. */
static void add_knowledge(const struct monitor *monitor, json_t *result)
{
    json_object_set_new(result, "name",
                        json_string(definition_text(monitor->definition, OPTION_NAME)));
    json_object_set_new(result, "monitor_pid", json_integer(getpid()));
    json_object_set_new(result, "ptys", files_ptys(monitor->files));
}

static void on_answer(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    g_autofree struct forwarded *forwarded = opaque;
    struct control_call *call = forwarded->call;

    g_hash_table_remove(forwarded->monitor->forwarded, forwarded);
    if (answer->kind == RPC_FAILURE) {
        control_fail(call, answer->code, answer->text);
        return;
    }
    if (json_is_object(answer->result))
        add_knowledge(forwarded->monitor, answer->result);
    control_reply(call, json_incref(answer->result));
}

static void on_started(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    const struct forwarded *forwarded = opaque;

    if (answer->kind == RPC_FAILURE)
        decide(forwarded->monitor, 1, "failed", answer->text);
    on_answer(opaque, answer, fds, count);
}

/* Notifications of the vmm: "finished" is its last word, the others are events for all. */
static void on_notified(void *opaque, const struct rpc_message *message)
{
    struct monitor *monitor = opaque;
    json_t *type = json_object_get(message->params, "type");
    json_t *status = json_object_get(message->params, "status");

    if (strcmp(message->method, "finished") == 0) {
        decide(monitor, json_integer_value(status) & 0xff,
               json_string_value(json_object_get(message->params, "cause")),
               json_string_value(json_object_get(message->params, "message")));
    } else if (strcmp(message->method, "event") == 0 && json_is_string(type)) {
        g_autofree char *name = g_strdup(json_string_value(type));

        clients_event(monitor->clients, name, json_incref(message->params));
    }
}

static const struct worker_ops vmm_ops = {on_vmm_log, on_notified, on_vmm_ended};

/* Calls of one client that the vmm has not answered. */
static unsigned count_forwarded(const struct monitor *monitor, const struct peer *peer)
{
    unsigned count = 0;
    GHashTableIter iterator;
    void *forwarded;

    g_hash_table_iter_init(&iterator, monitor->forwarded);
    while (g_hash_table_iter_next(&iterator, &forwarded, NULL))
        count += ((struct forwarded *)forwarded)->call->peer == peer;
    return count;
}

/* Ask the vmm on behalf of `call`; takes `params`. */
static void ask_vmm(struct monitor *monitor, const char *method, json_t *params, const int *fds,
                    unsigned count, worker_answer_fn answer, struct control_call *call)
{
    struct forwarded *forwarded;

    if (!monitor->vmm || count_forwarded(monitor, call->peer) >= CALLS_MAX) {
        json_decref(params);
        control_fail(call, RPC_ERROR_STATE,
                     monitor->vmm ? "too many calls are waiting" : "no machine is running");
        return;
    }
    forwarded = g_new(struct forwarded, 1);
    *forwarded = (struct forwarded){monitor, call};
    g_hash_table_add(monitor->forwarded, forwarded);
    worker_ask(monitor->vmm, method, params, fds, count, answer, forwarded);
}

/* ---- words from clients ---- */

static void on_forward(void *opaque, const struct control_method *method, struct control_call *call)
{
    ask_vmm(opaque, method->name, json_incref(call->params), call->fds, call->count, on_answer,
            call);
}

/* Where a client finds the lines that have names of their own. */
static void tell_ptys(struct monitor *monitor)
{
    json_t *ptys = files_ptys(monitor->files), *path;
    const char *line;

    json_object_foreach(ptys, line, path)
    {
        json_t *details = json_object();

        json_object_set_new(details, "line", json_string(line));
        json_object_set(details, "pty", path);
        clients_event(monitor->clients, "pty", details);
    }
    json_decref(ptys);
}

static bool claim(struct monitor *monitor, GError **error)
{
    int fd;

    if (!definition_has(monitor->definition, OPTION_NAME)) {
        g_autofree char *name = g_strdup_printf("run-%d", getpid());

        if (!definition_set(monitor->definition, "name", name, error))
            return false;
    }
    monitor->folder = folder_claim(definition_text(monitor->definition, OPTION_NAME), error);
    if (!monitor->folder)
        return false;
    fd = folder_listen(monitor->folder, error);
    if (fd >= 0)
        clients_listen(monitor->clients, fd);
    return fd >= 0;
}

static bool prepare(struct monitor *monitor, const struct control_call *call, GError **error)
{
    monitor->definition = definition_create();
    if (!definition_from_json(monitor->definition, json_object_get(call->params, "definition"),
                              error) ||
        !definition_check(monitor->definition, error))
        return false;
    monitor->files = files_open(monitor->definition, call->count ? call->fds[0] : -1, error);
    if (!monitor->files || !claim(monitor, error))
        return false;
    monitor->vmm = worker_create(NULL, &vmm_ops, monitor, error);
    return monitor->vmm != NULL;
}

static void handle_start(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    GError *error = NULL;
    json_t *params;
    const int *fds;
    unsigned count;

    if (monitor->definition) {
        control_fail(call, RPC_ERROR_STATE, "the machine was started before");
        return;
    }
    if (!prepare(monitor, call, &error)) {
        decide(monitor, 1, "failed", error->message);
        control_fail_error(call, error);
        g_main_loop_quit(monitor->loop);
        return;
    }
    params = json_object();
    json_object_set_new(params, "definition", definition_to_json(monitor->definition));
    json_object_set_new(params, "fds", files_names(monitor->files));
    fds = files_fds(monitor->files, &count);
    tell_ptys(monitor);
    ask_vmm(monitor, "start", params, fds, count, on_started, call);
}

static void handle_kill(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;

    if (!monitor->vmm) {
        control_fail(call, RPC_ERROR_STATE, "no machine is running");
        return;
    }
    decide(monitor, 0, "killed", "the machine was killed");
    worker_kill(monitor->vmm);
    control_reply(call, NULL);
}

static gboolean on_stop_timeout(gpointer opaque)
{
    struct monitor *monitor = opaque;

    monitor->stop_timer = 0;
    decide(monitor, 0, "killed", "the guest did not power off in time and was killed");
    worker_kill(monitor->vmm);
    return G_SOURCE_REMOVE;
}

static void handle_stop(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    json_t *timeout = json_object_get(call->params, "timeout");
    json_int_t seconds = json_integer_value(timeout);

    if (timeout && (seconds < 0 || seconds > STOP_TIMEOUT_MAX)) {
        control_fail(call, RPC_ERROR_INVALID_PARAMS, "timeout: expected 0 to 86400 seconds");
        return;
    }
    if (timeout && monitor->vmm && !monitor->stop_timer)
        monitor->stop_timer = g_timeout_add_seconds(seconds, on_stop_timeout, monitor);
    ask_vmm(monitor, "power-button", NULL, NULL, 0, on_answer, call);
}

static void handle_subscribe(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    json_t *since = json_object_get(call->params, "since");
    json_t *result = json_object();
    json_int_t last =
        clients_subscribe(monitor->clients, call->peer, since ? json_integer_value(since) : -1);

    json_object_set_new(result, "seq", json_integer(last));
    control_reply(call, result);
}

static const struct control_handler handlers[] = {
    {"start", handle_start},
    {"stop", handle_stop},
    {"kill", handle_kill},
    {"events.subscribe", handle_subscribe},
    {0},
};

static void on_client_gone(void *opaque, struct peer *peer, bool owner)
{
    struct monitor *monitor = opaque;
    GHashTableIter iterator;
    void *forwarded;

    g_hash_table_iter_init(&iterator, monitor->forwarded);
    while (g_hash_table_iter_next(&iterator, &forwarded, NULL)) {
        struct control_call *call = ((struct forwarded *)forwarded)->call;

        if (call->peer == peer)
            call->peer = NULL;
    }
    if (!owner)
        return;
    decide(monitor, 0, "abandoned", "the command that started the machine has gone");
    g_main_loop_quit(monitor->loop);
}

/* ---- life ---- */

static gboolean on_terminate(gpointer opaque)
{
    struct monitor *monitor = opaque;

    decide(monitor, 1, "killed", "the monitor was told to end");
    g_main_loop_quit(monitor->loop);
    return G_SOURCE_CONTINUE;
}

static void tell_ended(struct monitor *monitor)
{
    json_t *details = json_object();

    json_object_set_new(details, "status", json_integer(monitor->verdict.status));
    json_object_set_new(details, "cause",
                        json_string(monitor->verdict.cause ? monitor->verdict.cause : "failed"));
    if (monitor->verdict.message)
        json_object_set_new(details, "message", json_string(monitor->verdict.message));
    clients_event(monitor->clients, "ended", details);
    clients_flush(monitor->clients);
}

static void monitor_finish(struct monitor *monitor)
{
    if (monitor->stop_timer)
        g_source_remove(monitor->stop_timer);
    fail_calls(monitor, "the machine has ended");
    worker_destroy(monitor->vmm);
    files_destroy(monitor->files);
    folder_release(monitor->folder);
    /* Last, so that whoever hears of the end finds nothing left. */
    tell_ended(monitor);
    clients_destroy(monitor->clients);
    definition_destroy(monitor->definition);
    g_hash_table_unref(monitor->forwarded);
    g_main_loop_unref(monitor->loop);
    g_free(monitor->last_log);
    g_free(monitor->violation);
    g_free(monitor->verdict.cause);
    g_free(monitor->verdict.message);
}

int monitor_main(void)
{
    struct monitor monitor = {0};
    struct clients_config config = {
        .service = {.handlers = handlers, .forward = on_forward, .opaque = &monitor},
        .gone = on_client_gone,
    };
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC), status;

    /* The terminal, and what is piped, are the command's business. */
    setsid();
    dup2(nothing, STDIN_FILENO);
    dup2(nothing, STDOUT_FILENO);
    close(nothing);
    signal(SIGPIPE, SIG_IGN);
    monitor.loop = g_main_loop_new(NULL, FALSE);
    monitor.forwarded = g_hash_table_new(NULL, NULL);
    monitor.clients = clients_create(&config);
    clients_add(monitor.clients, PROCESS_LINK_FD, CONTROL_OBSERVE | CONTROL_OPERATE | CONTROL_OWN);
    g_unix_signal_add(SIGTERM, on_terminate, &monitor);
    g_unix_signal_add(SIGINT, on_terminate, &monitor);
    g_main_loop_run(monitor.loop);
    status = monitor.verdict.status;
    monitor_finish(&monitor);
    return status;
}
