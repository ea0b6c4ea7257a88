// SPDX-License-Identifier: Apache-2.0
/*
 * The lives of a monitor's machine. One life is a vmm, its helpers and the files that were opened
 * for them; the verdict says how it ended. When the option `restart` asks for another one, all that
 * the last had is closed and, after a wait, made again from the same definition.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "config/devices.h"
#include "config/lines.h"
#include "config/nics.h"
#include "vmm/monitor/internal.h"

void monitor_note(const struct monitor *monitor, const char *format, ...)
{
    g_autoptr(GDateTime) now = NULL;
    g_autofree char *time = NULL, *line = NULL;
    va_list arguments;

    if (!monitor->detached)
        return;
    now = g_date_time_new_now_local();
    time = g_date_time_format(now, "%F %T");
    va_start(arguments, format);
    line = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    log_file_turn(monitor->log, strlen(time) + strlen(line) + 2);
    g_message("%s %s", time, line);
}

void monitor_decide(struct monitor *monitor, int status, const char *cause, const char *message)
{
    if (monitor->verdict.known)
        return;
    monitor->verdict.known = true;
    monitor->verdict.status = status;
    monitor->verdict.cause = g_strdup(cause);
    monitor->verdict.message = g_strdup(message);
}

void monitor_leave(struct monitor *monitor, int status, const char *cause, const char *message)
{
    monitor->leaving = true;
    monitor_decide(monitor, status, cause, message);
}

static void run_ended(struct monitor *monitor);

/* ---- the vmm's end ---- */

void life_on_log(void *opaque, const char *line)
{
    struct monitor *monitor = opaque;
    json_t *details = json_object();

    monitor_note(monitor, "%s", line);
    json_object_set_new(details, "line", json_string(line));
    clients_event(monitor->clients, "log", details);
}

static void on_vmm_ended(void *opaque, struct worker *worker, const char *how)
{
    struct monitor *monitor = opaque;
    g_autofree char *why = monitor->cgroup && cgroup_killed(monitor->cgroup)
                               ? g_strdup_printf("%s: it wanted more than its memory-limit", how)
                               : g_strdup(how);

    monitor_decide(monitor, 1, "failed", why);
    run_ended(monitor);
}

/* ---- words from the vmm ---- */

/* What the vmm says of itself, with what only the monitor knows. */
static void add_knowledge(const struct monitor *monitor, json_t *result)
{
    json_object_set_new(result, "name",
                        json_string(definition_text(monitor->definition, OPTION_NAME)));
    /* In its own namespace of processes it is another. */
    json_object_set_new(result, "pid", json_integer(worker_pid(monitor->vmm)));
    json_object_set_new(result, "monitor_pid", json_integer(getpid()));
    if (monitor->cgroup)
        json_object_set_new(result, "group", json_string(cgroup_path(monitor->cgroup)));
    json_object_set_new(result, "ptys", files_ptys(monitor->files));
    json_object_set_new(result, "forwards", nats_forwards(monitor->nats));
}

/* A command runs on in the guest while its vmm is replaced: the vmm that has the machine afterwards
 * is asked after it, if anybody waits. He has one call less under way now, so this one is let in.
 */
static bool carry_on(struct monitor *monitor, struct control_call *call,
                     const struct rpc_message *answer)
{
    if (answer->kind != RPC_FAILURE || !json_is_object(answer->data) || !monitor->standing ||
        !monitor->vmm || !call->peer || strcmp(call->method->name, "guest.exec") != 0)
        return false;
    calls_forward(monitor->calls, "vmm.guest-watch", json_incref(answer->data), NULL, 0, call,
                  life_on_answer, monitor);
    return true;
}

void life_on_answer(void *opaque, struct control_call *call, const struct rpc_message *answer)
{
    if (carry_on(opaque, call, answer))
        return;
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
    monitor_note(monitor, "started again");
    monitor->lives = true;
    monitor->born_us = g_get_monotonic_time();
}

static void on_started(void *opaque, struct control_call *call, const struct rpc_message *answer)
{
    struct monitor *monitor = opaque;
    int code = monitor->start_cancelled ? RPC_ERROR_CANCELLED : answer->code;

    monitor->start = NULL;
    jobs_end(monitor->jobs, call, code, answer->kind == RPC_FAILURE ? answer->text : NULL);
    if (answer->kind == RPC_FAILURE) {
        monitor_decide(monitor, 1, "failed", answer->text);
        if (monitor->start_cancelled)
            control_fail(call, code, answer->text);
        else
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
        monitor_decide(opaque, 1, "failed", answer->text);
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
    else if (strcmp(message->method, "released") == 0)
        plugs_released(monitor, message->params);
    else if (strcmp(message->method, "finished") == 0)
        monitor_decide(monitor, json_integer_value(status) & 0xff,
                       json_string_value(json_object_get(message->params, "cause")),
                       json_string_value(json_object_get(message->params, "message")));
    else if (strcmp(message->method, "event") == 0)
        take_event(monitor, message->params);
}

const struct worker_ops life_worker_ops = {life_on_log, on_notified, on_vmm_ended};

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

    monitor_decide(monitor, 1, "failed", message);
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
    const struct nats_listener listener = {on_nats_ready, on_nats_failed, life_on_log,
                                           on_nat_restarted, monitor};

    monitor->nats = nats_create(monitor->definition, monitor->files, &listener, error);
    if (!monitor->nats)
        return false;
    monitor->vmm = worker_create("vmm", NULL, &life_worker_ops, monitor, error);
    if (!monitor->vmm || !files_add_perf_map(monitor->files, worker_pid(monitor->vmm), error))
        return false;
    calls_set_worker(monitor->calls, monitor->vmm);
    calls_hold(monitor->calls);
    tell_ptys(monitor);
    return true;
}

static bool has_stdio(const struct definition *definition)
{
    struct line lines[LINES_MAX];
    unsigned count = definition_lines(definition, lines);
    bool found = false;

    for (unsigned i = 0; i < count; i++)
        found |= lines[i].place == LINE_STDIO;
    return found;
}

/* All that the definition names, for one life of the machine. */
static bool open_files(struct monitor *monitor, GError **error)
{
    int line = monitor->console ? console_plug(monitor->console, error) : -1;

    if (monitor->console && line < 0)
        return false;
    monitor->files = files_open(monitor->definition, line, error);
    if (line >= 0)
        close(line);
    return monitor->files;
}

/* For all lives of the machine. */
static bool limit(struct monitor *monitor, GError **error)
{
    GError *cause = NULL;

    monitor->cgroup = cgroup_create(monitor->definition, &cause);
    if (!cause)
        return true;
    g_propagate_error(error, cause);
    return false;
}

static bool prepare(struct monitor *monitor, const struct control_call *call, GError **error)
{
    const struct console_view owner = {
        .patient = true,
        .log = json_string_value(json_object_get(call->params, "log")),
    };

    monitor->definition = definition_create();
    if (!definition_from_json(monitor->definition, json_object_get(call->params, "definition"),
                              error) ||
        !definition_check(monitor->definition, error))
        return false;
    if (has_stdio(monitor->definition))
        monitor->console = console_create();
    if (monitor->console && call->count) {
        console_attach(monitor->console, call->fds[0], &owner);
        call->fds[0] = -1;
    }
    monitor->restart.policy =
        restart_policy_find(definition_text(monitor->definition, OPTION_RESTART));
    return definition_fill_devices(monitor->definition, error) && open_files(monitor, error) &&
           claim(monitor, error) && definition_fill_macs(monitor->definition, error) &&
           limit(monitor, error) && spawn(monitor, error);
}

void life_handle_start(void *opaque, struct control_call *call)
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
        monitor_decide(monitor, 1, "failed", error->message);
        control_fail_error(call, error);
        g_main_loop_quit(monitor->loop);
        return;
    }
    fds = files_fds(monitor->files, &count);
    if (!calls_forward(monitor->calls, "vmm.start", start_params(monitor), fds, count, call,
                       on_started, monitor))
        return;
    monitor->start = call;
    jobs_begin(monitor->jobs, call);
}

/* The vmm may be deep in a state's gigabytes and listens to nobody. */
bool life_cancel(struct monitor *monitor, const struct control_call *call)
{
    if (!call || call != monitor->start)
        return false;
    monitor->start_cancelled = true;
    monitor_leave(monitor, 0, "killed", "the start was cancelled");
    worker_kill(monitor->vmm);
    return true;
}

void life_handle_console(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    const struct console_view view = {
        .readonly = json_is_true(json_object_get(call->params, "readonly")),
        .scrollback = !json_is_false(json_object_get(call->params, "scrollback")),
    };
    bool good;

    if (!monitor->console) {
        control_fail(call, RPC_ERROR_STATE, "no line of the machine is on stdio");
        return;
    }
    good = console_attach(monitor->console, call->fds[0], &view);
    call->fds[0] = -1;
    if (good)
        control_reply(call, NULL);
    else
        control_fail(call, RPC_ERROR_STATE, "too many look at the console");
}

/* ---- starting again ---- */

/* Whatever one life of the machine had. Whoever waits for an answer hears `message`. */
void life_end(struct monitor *monitor, const char *message)
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
    plugs_fail(monitor, message);
    change_end(monitor, message);
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
    if (open_files(monitor, &error) && spawn(monitor, &error))
        return G_SOURCE_REMOVE;
    monitor_decide(monitor, 1, "failed", error->message);
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
    life_end(monitor, message);
    monitor_note(monitor, "%s: %s; it starts again in %d s", cause, message, delay_ms / 1000);
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
bool life_leave(struct monitor *monitor, const char *cause)
{
    if (monitor->vmm || !monitor->restart_source)
        return false;
    monitor_leave(monitor, 0, cause, "the machine is not started again");
    g_main_loop_quit(monitor->loop);
    return true;
}
