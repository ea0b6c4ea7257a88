// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a monitor:
 *
 *     owner connects -> "start": name claimed, files opened, vmm spawned, "vmm.start" sent to it
 *     -> calls are answered here or forwarded -> the vmm ends -> "ended" told, all removed
 *
 * The owner's connection is the machine's lifeline: when it closes, the machine is killed. So a
 * terminal that goes away, or a command that crashes, never leaves a machine behind. A machine that
 * shall outlive the command is let go by "detach".
 *
 * When the vmm ends, the option `restart` may have the machine begin anew: vmm, helpers and files
 * are closed and, after a wait, made again from the same definition. The name and the connections
 * of clients stay.
 */
#include "vmm/monitor/monitor.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "config/definition.h"
#include "config/nics.h"
#include "vmm/control/method.h"
#include "vmm/monitor/calls.h"
#include "vmm/monitor/clients.h"
#include "vmm/monitor/files.h"
#include "vmm/monitor/folder.h"
#include "vmm/monitor/jobs.h"
#include "vmm/monitor/nats.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/restart.h"
#include "vmm/monitor/upgrade.h"
#include "vmm/monitor/worker.h"

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
    struct nats *nats;
    struct worker *vmm; /* NULL before "start" */
    struct calls *calls;
    struct jobs *jobs;
    struct upgrade *upgrade;           /* NULL: none is under way */
    struct control_call *upgrade_call; /* that asked for it */
    bool standing;                     /* calls wait for its end */
    char *program;                     /* path of this program */
    char *started_in;                  /* working folder of the command that started the machine */
    int stdio_fd;                      /* the line on stdio; -1: none */
    bool detached;                     /* it lives on without its owner */
    bool leaving;                      /* somebody asked for its end */
    bool lives;                        /* the guest began to run */
    gint64 born_us;                    /* when */
    struct restart restart;
    guint restart_source; /* 0: it is not being started again */
    guint stop_timer;     /* 0: the guest has all the time that it wants */
    gint64 stop_until_us; /* what that waits for */
    struct verdict verdict;
};

/* A line with the time of day in the log of a machine that was let go. */
static void note(const struct monitor *monitor, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void note(const struct monitor *monitor, const char *format, ...)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *time = g_date_time_format(now, "%F %T"), *line = NULL;
    va_list arguments;

    va_start(arguments, format);
    line = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (monitor->detached)
        g_message("%s %s", time, line);
}

static void decide(struct monitor *monitor, int status, const char *cause, const char *message)
{
    if (monitor->verdict.known)
        return;
    monitor->verdict.known = true;
    monitor->verdict.status = status;
    monitor->verdict.cause = g_strdup(cause);
    monitor->verdict.message = g_strdup(message);
}

/* An end that somebody wants, so that it is final. */
static void leave(struct monitor *monitor, int status, const char *cause, const char *message)
{
    monitor->leaving = true;
    decide(monitor, status, cause, message);
}

static void run_ended(struct monitor *monitor);

/* ---- the vmm's end ---- */

static void on_vmm_log(void *opaque, const char *line)
{
    struct monitor *monitor = opaque;
    json_t *details = json_object();

    note(monitor, "%s", line);
    json_object_set_new(details, "line", json_string(line));
    clients_event(monitor->clients, "log", details);
}

static void on_vmm_ended(void *opaque, struct worker *worker, const char *how)
{
    struct monitor *monitor = opaque;

    decide(monitor, 1, "failed", how);
    run_ended(monitor);
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

static void on_answer(void *opaque, struct control_call *call, const struct rpc_message *answer)
{
    if (call->method->lasting)
        jobs_end(((struct monitor *)opaque)->jobs, call, answer->code, answer->text);
    if (answer->kind == RPC_FAILURE) {
        control_fail_as(call, answer);
        return;
    }
    if (json_is_object(answer->result) && strcmp(call->method->name, "query") == 0)
        add_knowledge(opaque, answer->result);
    control_reply(call, json_incref(answer->result));
}

static void begin_life(struct monitor *monitor)
{
    note(monitor, "started again");
    monitor->lives = true;
    monitor->born_us = g_get_monotonic_time();
}

static void on_started(void *opaque, struct control_call *call, const struct rpc_message *answer)
{
    struct monitor *monitor = opaque;

    if (answer->kind == RPC_FAILURE) {
        decide(monitor, 1, "failed", answer->text);
        control_fail_as(call, answer);
        return;
    }
    begin_life(monitor);
    control_reply(call,
                  json_pack("{s:s}", "name", definition_text(monitor->definition, OPTION_NAME)));
}

/* Of a machine that is started again: nobody waits for the answer. */
static void on_started_again(void *opaque, const struct rpc_message *answer, int *fds,
                             unsigned count)
{
    if (answer->kind == RPC_FAILURE)
        decide(opaque, 1, "failed", answer->text);
    else
        begin_life(opaque);
}

/* An event of the vmm's, which a guest may have taken over: what it may not tell, or not so, is
 * dropped. */
static void take_event(struct monitor *monitor, json_t *params)
{
    const char *type = json_string_value(json_object_get(params, "type"));
    const struct control_event *event = type ? control_event_find(type) : NULL;
    g_autoptr(GError) error = NULL;

    if (!event || !event->in_vmm) {
        g_warning("the vmm tells an event that is none of its own");
        return;
    }
    json_object_del(params, "type");
    if (control_fields_check(event->fields, params, NULL, &error))
        clients_event(monitor->clients, event->name, json_incref(params));
    else
        g_warning("%s: the vmm's event is not as described: %s", event->name, error->message);
}

static void take_progress(struct monitor *monitor, json_t *params)
{
    json_t *number = json_object_get(params, "call"), *done = json_object_get(params, "done"),
           *total = json_object_get(params, "total");
    const struct control_call *call = calls_find(monitor->calls, json_integer_value(number));

    if (call && json_is_integer(done) && json_is_integer(total))
        jobs_progress(monitor->jobs, call, json_integer_value(done), json_integer_value(total));
}

/* Notifications of the vmm: "progress" of a call, "finished" as its last word, and events for all.
 */
static void on_notified(void *opaque, const struct rpc_message *message)
{
    struct monitor *monitor = opaque;
    json_t *status = json_object_get(message->params, "status");

    if (strcmp(message->method, "progress") == 0)
        take_progress(monitor, message->params);
    else if (strcmp(message->method, "finished") == 0)
        decide(monitor, json_integer_value(status) & 0xff,
               json_string_value(json_object_get(message->params, "cause")),
               json_string_value(json_object_get(message->params, "message")));
    else if (strcmp(message->method, "event") == 0)
        take_event(monitor, message->params);
}

static const struct worker_ops vmm_ops = {on_vmm_log, on_notified, on_vmm_ended};

/* ---- words from clients ---- */

static void on_forward(void *opaque, const struct control_method *method, struct control_call *call)
{
    struct monitor *monitor = opaque;

    if (calls_forward(monitor->calls, method->name, json_incref(call->params), call->fds,
                      call->count, call, on_answer, monitor) &&
        method->lasting)
        jobs_begin(monitor->jobs, call);
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

/* ---- helpers ---- */

static json_t *start_params(const struct monitor *monitor)
{
    json_t *params = json_object();

    json_object_set_new(params, "definition", definition_to_json(monitor->definition));
    json_object_set_new(params, "fds", files_names(monitor->files));
    json_object_set_new(params, "folder", json_string(monitor->started_in));
    return params;
}

/* The first vmm has a call that waits; one of a machine that is started again is told now. */
static void on_nats_ready(void *opaque)
{
    struct monitor *monitor = opaque;
    unsigned count;
    const int *fds = files_fds(monitor->files, &count);

    if (monitor->restart.attempts)
        worker_ask(monitor->vmm, "vmm.start", start_params(monitor), fds, count, on_started_again,
                   monitor);
    calls_release(monitor->calls);
}

static void on_nats_failed(void *opaque, const char *message)
{
    struct monitor *monitor = opaque;

    decide(monitor, 1, "failed", message);
    run_ended(monitor);
}

static void on_nat_restarted(void *opaque, json_t *details)
{
    clients_event(((struct monitor *)opaque)->clients, "helper-restarted", details);
}

/* ---- starting ---- */

/* Helpers and a vmm for what `definition` and `files` say. New calls wait until they are ready. */
static bool spawn(struct monitor *monitor, GError **error)
{
    const struct nats_listener listener = {on_nats_ready, on_nats_failed, on_vmm_log,
                                           on_nat_restarted, monitor};

    monitor->nats = nats_create(monitor->definition, monitor->files, &listener, error);
    if (!monitor->nats)
        return false;
    monitor->vmm = worker_create("vmm", NULL, &vmm_ops, monitor, error);
    if (!monitor->vmm || !files_add_perf_map(monitor->files, worker_pid(monitor->vmm), error))
        return false;
    calls_set_worker(monitor->calls, monitor->vmm);
    calls_hold(monitor->calls);
    tell_ptys(monitor);
    return true;
}

static bool prepare(struct monitor *monitor, const struct control_call *call, GError **error)
{
    monitor->definition = definition_create();
    if (!definition_from_json(monitor->definition, json_object_get(call->params, "definition"),
                              error) ||
        !definition_check(monitor->definition, error))
        return false;
    if (call->count)
        monitor->stdio_fd = fcntl(call->fds[0], F_DUPFD_CLOEXEC, 3);
    monitor->restart.policy =
        restart_policy_find(definition_text(monitor->definition, OPTION_RESTART));
    monitor->files = files_open(monitor->definition, monitor->stdio_fd, error);
    return monitor->files && claim(monitor, error) &&
           definition_fill_macs(monitor->definition, error) && spawn(monitor, error);
}

static void handle_start(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    GError *error = NULL;
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
    fds = files_fds(monitor->files, &count);
    calls_forward(monitor->calls, "vmm.start", start_params(monitor), fds, count, call, on_started,
                  monitor);
}

/* ---- starting again ---- */

/* Whatever one life of the machine had. Whoever waits for an answer hears `message`. */
static void tear_down(struct monitor *monitor, const char *message)
{
    if (monitor->stop_timer)
        g_source_remove(monitor->stop_timer);
    monitor->stop_timer = 0;
    if (monitor->upgrade_call) {
        jobs_end(monitor->jobs, monitor->upgrade_call, RPC_ERROR_FAILED, message);
        control_fail(g_steal_pointer(&monitor->upgrade_call), RPC_ERROR_FAILED, message);
    }
    g_clear_pointer(&monitor->upgrade, upgrade_destroy);
    monitor->standing = false;
    calls_fail(monitor->calls, message);
    calls_set_worker(monitor->calls, NULL);
    g_clear_pointer(&monitor->vmm, worker_destroy);
    g_clear_pointer(&monitor->nats, nats_destroy);
    g_clear_pointer(&monitor->files, files_destroy);
}

static gboolean on_restart(gpointer opaque)
{
    struct monitor *monitor = opaque;
    GError *error = NULL;

    monitor->restart_source = 0;
    monitor->files = files_open(monitor->definition, monitor->stdio_fd, &error);
    if (monitor->files && spawn(monitor, &error))
        return G_SOURCE_REMOVE;
    decide(monitor, 1, "failed", error->message);
    g_error_free(error);
    run_ended(monitor);
    return G_SOURCE_REMOVE;
}

/* Close what the last life had, and wait for the next one. Not on the stack of what is closed. */
static gboolean on_run_over(gpointer opaque)
{
    struct monitor *monitor = opaque;
    struct verdict *verdict = &monitor->verdict;
    const char *cause = verdict->cause ? verdict->cause : "failed";
    gint64 lived_us = monitor->lives ? g_get_monotonic_time() - monitor->born_us : 0;
    int delay_ms = restart_delay(&monitor->restart, cause, lived_us);
    const char *message = verdict->message ? verdict->message : "the machine has ended";

    monitor->restart_source = 0;
    if (monitor->leaving || delay_ms < 0) {
        g_main_loop_quit(monitor->loop);
        return G_SOURCE_REMOVE;
    }
    tear_down(monitor, message);
    note(monitor, "%s: %s; it starts again in %d s", cause, message, delay_ms / 1000);
    clients_event(monitor->clients, "restarting",
                  json_pack("{s:s, s:s, s:i, s:i}", "cause", cause, "message", message, "delay_ms",
                            delay_ms, "attempt", monitor->restart.attempts));
    g_clear_pointer(&verdict->cause, g_free);
    g_clear_pointer(&verdict->message, g_free);
    verdict->known = monitor->lives = false;
    monitor->restart_source = g_timeout_add(delay_ms, on_restart, monitor);
    return G_SOURCE_REMOVE;
}

/* A life of the machine is over, as the verdict says. One that never began to run has told its
 * fault to whoever started it. */
static void run_ended(struct monitor *monitor)
{
    bool begun = monitor->lives || monitor->restart.attempts;

    if (!begun || monitor->leaving)
        g_main_loop_quit(monitor->loop);
    else if (!monitor->restart_source)
        monitor->restart_source = g_idle_add_full(G_PRIORITY_HIGH, on_run_over, monitor, NULL);
}

/* Whether the machine has no life at the moment: then whoever wants its end has it at once. */
static bool leave_between_lives(struct monitor *monitor, const char *cause)
{
    if (monitor->vmm || !monitor->restart_source)
        return false;
    leave(monitor, 0, cause, "the machine is not started again");
    g_main_loop_quit(monitor->loop);
    return true;
}

/* ---- letting go and ending ---- */

static void handle_detach(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (!monitor->lives) {
        close(nothing);
        control_fail(call, RPC_ERROR_STATE, "no machine is running");
        return;
    }
    /* Standard error is the command's. */
    dup2(call->count ? call->fds[0] : nothing, STDERR_FILENO);
    close(nothing);
    monitor->detached = true;
    note(monitor, "'%s' was started", definition_text(monitor->definition, OPTION_NAME));
    control_reply(call, NULL);
}

static void handle_kill(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;

    if (leave_between_lives(monitor, "killed")) {
        control_reply(call, NULL);
        return;
    }
    if (!monitor->vmm) {
        control_fail(call, RPC_ERROR_STATE, "no machine is running");
        return;
    }
    leave(monitor, 0, "killed", "the machine was killed");
    worker_kill(monitor->vmm);
    control_reply(call, NULL);
}

static gboolean on_stop_timeout(gpointer opaque)
{
    struct monitor *monitor = opaque;

    monitor->stop_timer = 0;
    leave(monitor, 0, "killed", "the guest did not power off in time and was killed");
    worker_kill(monitor->vmm);
    return G_SOURCE_REMOVE;
}

/* The shortest time that somebody gave counts. */
static void limit_stop(struct monitor *monitor, json_int_t seconds)
{
    gint64 until = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;

    if (monitor->stop_timer && monitor->stop_until_us <= until)
        return;
    if (monitor->stop_timer)
        g_source_remove(monitor->stop_timer);
    monitor->stop_until_us = until;
    monitor->stop_timer = g_timeout_add_seconds(seconds, on_stop_timeout, monitor);
}

static void handle_stop(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    json_t *timeout = json_object_get(call->params, "timeout");

    if (leave_between_lives(monitor, "stopped")) {
        control_reply(call, NULL);
        return;
    }
    if (timeout && monitor->vmm)
        limit_stop(monitor, json_integer_value(timeout));
    monitor->leaving |= monitor->vmm != NULL;
    if (monitor->vmm)
        clients_event(monitor->clients, "stopping", json_copy(call->params));
    calls_forward(monitor->calls, "vmm.power-button", NULL, NULL, 0, call, on_answer, monitor);
}

static void handle_subscribe(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    const json_int_t last = clients_last_event(monitor->clients);
    const struct peer *peer = call->peer;
    json_t *since = json_object_get(call->params, "since");
    const json_int_t known = since ? json_integer_value(since) : last;

    if (known > last) {
        g_autofree char *text =
            g_strdup_printf("since: the last event has number %" JSON_INTEGER_FORMAT, last);

        control_fail(call, RPC_ERROR_INVALID_PARAMS, text);
        return;
    }
    control_reply(call, json_pack("{s:I, s:I}", "seq", last, "missed",
                                  clients_missed(monitor->clients, known)));
    clients_subscribe(monitor->clients, peer, known);
}

/* ---- work that lasts ---- */

static void handle_job_list(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;

    control_reply(call, jobs_describe(monitor->jobs));
}

static void handle_job_cancel(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    const json_int_t number = json_integer_value(json_object_get(call->params, "job"));
    const struct control_call *work = jobs_find(monitor->jobs, number);

    if (!work) {
        control_fail(call, RPC_ERROR_STATE, "job: there is none of that number, or it has ended");
        return;
    }
    if (work != monitor->upgrade_call) {
        calls_cancel(monitor->calls, work);
    } else if (!upgrade_cancel(monitor->upgrade)) {
        control_fail(call, RPC_ERROR_STATE, "upgrade: the new vmm has the machine already");
        return;
    }
    control_reply(call, NULL);
}

/* ---- another vmm ---- */

static void on_standing(void *opaque)
{
    struct monitor *monitor = opaque;

    monitor->standing = true;
    calls_hold(monitor->calls);
}

static void on_switched(void *opaque, struct worker *fresh, struct definition *definition)
{
    struct monitor *monitor = opaque;

    worker_discard(monitor->vmm);
    monitor->vmm = fresh;
    worker_give(fresh, &vmm_ops, monitor);
    calls_set_worker(monitor->calls, fresh);
    definition_destroy(monitor->definition);
    monitor->definition = definition;
    /* The machine's end was decided meanwhile, and only the old one was killed for it. */
    if (monitor->verdict.known)
        worker_kill(fresh);
}

static void on_upgrade_progress(void *opaque, unsigned done, unsigned total)
{
    struct monitor *monitor = opaque;

    jobs_progress(monitor->jobs, monitor->upgrade_call, done, total);
}

static void on_upgraded(void *opaque, json_t *result, int code, const char *failure)
{
    struct monitor *monitor = opaque;
    struct control_call *call = g_steal_pointer(&monitor->upgrade_call);

    jobs_end(monitor->jobs, call, code, failure);
    if (failure) {
        control_fail(call, code, failure);
    } else {
        clients_event(monitor->clients, "upgraded", json_deep_copy(result));
        control_reply(call, json_incref(result));
    }
    g_clear_pointer(&monitor->upgrade, upgrade_destroy);
    /* Others may hold them: helpers that are not ready. */
    if (monitor->standing)
        calls_release(monitor->calls);
    monitor->standing = false;
}

static void handle_upgrade(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    const struct upgrade_config config = {
        .definition = monitor->definition,
        .folder = monitor->started_in,
        .files = monitor->files,
        .old = monitor->vmm,
        .program = monitor->program,
        .engine = json_string_value(json_object_get(call->params, "engine")),
        .log = on_vmm_log,
        .standing = on_standing,
        .switched = on_switched,
        .progress = on_upgrade_progress,
        .ended = on_upgraded,
        .opaque = monitor,
    };
    GError *error = NULL;

    if (!monitor->vmm || monitor->upgrade) {
        control_fail(call, RPC_ERROR_STATE,
                     monitor->vmm ? "upgrade: one is under way" : "no machine is running");
        return;
    }
    monitor->upgrade = upgrade_create(&config, &error);
    if (!monitor->upgrade) {
        control_fail_error(call, error);
        return;
    }
    monitor->upgrade_call = call;
    jobs_begin(monitor->jobs, call);
}

static void handle_describe(void *opaque, struct control_call *call)
{
    control_reply(call, control_describe());
}

static const struct control_handler handlers[] = {
    {"protocol.describe", handle_describe},
    {"start", handle_start},
    {"detach", handle_detach},
    {"stop", handle_stop},
    {"kill", handle_kill},
    {"upgrade", handle_upgrade},
    {"events.subscribe", handle_subscribe},
    {"job.list", handle_job_list},
    {"job.cancel", handle_job_cancel},
    {0},
};

static void on_client_gone(void *opaque, struct peer *peer, bool owner)
{
    struct monitor *monitor = opaque;

    calls_forget_peer(monitor->calls, peer);
    if (monitor->upgrade_call && monitor->upgrade_call->peer == peer)
        monitor->upgrade_call->peer = NULL;
    if (!owner || monitor->detached)
        return;
    leave(monitor, 0, "abandoned", "the command that started the machine has gone");
    g_main_loop_quit(monitor->loop);
}

/* ---- life ---- */

static gboolean on_terminate(gpointer opaque)
{
    struct monitor *monitor = opaque;

    leave(monitor, 1, "killed", "the monitor was told to end");
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
    note(monitor, "ended: %s: %s", monitor->verdict.cause ? monitor->verdict.cause : "failed",
         monitor->verdict.message ? monitor->verdict.message : "the machine has ended");
    clients_event(monitor->clients, "ended", details);
    clients_flush(monitor->clients);
}

static void monitor_finish(struct monitor *monitor)
{
    if (monitor->restart_source)
        g_source_remove(monitor->restart_source);
    tear_down(monitor,
              monitor->verdict.message ? monitor->verdict.message : "the machine has ended");
    if (monitor->stdio_fd >= 0)
        close(monitor->stdio_fd);
    folder_release(monitor->folder);
    /* Last, so that whoever hears of the end finds nothing left. */
    tell_ended(monitor);
    jobs_destroy(monitor->jobs);
    clients_destroy(monitor->clients);
    definition_destroy(monitor->definition);
    calls_destroy(monitor->calls);
    g_main_loop_unref(monitor->loop);
    g_free(monitor->program);
    g_free(monitor->started_in);
    g_free(monitor->verdict.cause);
    g_free(monitor->verdict.message);
}

int monitor_main(void)
{
    struct monitor monitor = {.stdio_fd = -1};
    struct clients_config config = {
        .service = {.handlers = handlers,
                    .public = true,
                    .forward = on_forward,
                    .opaque = &monitor},
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
    monitor.calls = calls_create();
    monitor.started_in = g_get_current_dir();
    /* Now, while it is the file that was started: later its path may have another. */
    monitor.program = g_file_read_link("/proc/self/exe", NULL);
    monitor.clients = clients_create(&config);
    monitor.jobs = jobs_create(monitor.clients);
    clients_add(monitor.clients, PROCESS_LINK_FD, CONTROL_OBSERVE | CONTROL_OPERATE | CONTROL_OWN);
    g_unix_signal_add(SIGTERM, on_terminate, &monitor);
    g_unix_signal_add(SIGINT, on_terminate, &monitor);
    g_main_loop_run(monitor.loop);
    status = monitor.verdict.status;
    monitor_finish(&monitor);
    return status;
}
