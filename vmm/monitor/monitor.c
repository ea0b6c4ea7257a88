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

#include "vmm/monitor/internal.h"
#include "vmm/monitor/process.h"

#define KILLERS_MAX 64 /* calls of "kill" that wait for the end */

/* ---- words from clients ---- */

static void on_forward(void *opaque, const struct control_method *method, struct control_call *call)
{
    struct monitor *monitor = opaque;

    if (!method->in_vmm)
        control_fail(call, RPC_ERROR_UNKNOWN_METHOD, "a network answers that, not a machine");
    else if (calls_forward(monitor->calls, method->name, json_incref(call->params), call->fds,
                           call->count, call, life_on_answer, monitor) &&
             method->lasting)
        jobs_begin(monitor->jobs, call);
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
    monitor->log =
        log_file_create(STDERR_FILENO, json_string_value(json_object_get(call->params, "log")));
    monitor->detached = true;
    monitor_note(monitor, "'%s' was started", definition_text(monitor->definition, OPTION_NAME));
    control_reply(call, NULL);
}

static void handle_kill(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;

    if (monitor->killers->len >= KILLERS_MAX) {
        control_fail(call, RPC_ERROR_STATE, "too many calls are waiting");
        return;
    }
    if (!life_leave(monitor, "killed")) {
        if (!monitor->vmm) {
            control_fail(call, RPC_ERROR_STATE, "no machine is running");
            return;
        }
        monitor_leave(monitor, 0, "killed", "the machine was killed");
        worker_kill(monitor->vmm);
    }
    g_ptr_array_add(monitor->killers, call);
}

/* Nothing is left of the machine. */
static void answer_killers(const struct monitor *monitor)
{
    for (guint i = 0; i < monitor->killers->len; i++)
        control_reply(monitor->killers->pdata[i], NULL);
}

static void forget_killers(const struct monitor *monitor, const struct peer *peer)
{
    for (guint i = 0; i < monitor->killers->len; i++) {
        struct control_call *call = monitor->killers->pdata[i];

        if (call->peer == peer)
            call->peer = NULL;
    }
}

static gboolean on_stop_timeout(gpointer opaque)
{
    struct monitor *monitor = opaque;

    monitor->stop_timer = 0;
    monitor_leave(monitor, 0, "killed", "the guest did not power off in time and was killed");
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
    monitor->stop_timer = g_timeout_add((guint)seconds * 1000, on_stop_timeout, monitor);
}

static void handle_stop(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    json_t *timeout = json_object_get(call->params, "timeout");

    if (life_leave(monitor, "stopped")) {
        control_reply(call, NULL);
        return;
    }
    if (timeout && monitor->vmm)
        limit_stop(monitor, json_integer_value(timeout));
    monitor->leaving |= monitor->vmm != NULL;
    if (monitor->vmm)
        clients_event(monitor->clients, "stopping", json_copy(call->params));
    calls_forward(monitor->calls, "vmm.power-button", NULL, NULL, 0, call, life_on_answer, monitor);
}

/* A guest that was told to power off is not started again by a restart policy. */
static void on_guest_shutdown(void *opaque, struct control_call *call,
                              const struct rpc_message *answer)
{
    struct monitor *monitor = opaque;
    const char *mode = json_string_value(json_object_get(call->params, "mode"));

    monitor->leaving |= answer->kind == RPC_RESULT && (!mode || strcmp(mode, "reboot") != 0);
    life_on_answer(opaque, call, answer);
}

static void handle_guest_shutdown(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;

    calls_forward(monitor->calls, "vmm.guest-shutdown", json_incref(call->params), NULL, 0, call,
                  on_guest_shutdown, monitor);
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

static void handle_definition(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;

    if (monitor->definition)
        control_reply(call,
                      json_pack("{s:o}", "definition", definition_to_json(monitor->definition)));
    else
        control_fail(call, RPC_ERROR_STATE, "no machine is running");
}

static void handle_describe(void *opaque, struct control_call *call)
{
    control_reply(call, control_describe());
}

static const struct control_handler handlers[] = {
    {"protocol.describe", handle_describe},
    {"start", life_handle_start},
    {"definition", handle_definition},
    {"detach", handle_detach},
    {"stop", handle_stop},
    {"kill", handle_kill},
    {"guest.shutdown", handle_guest_shutdown},
    {"device.attach", monitor_handle_attach},
    {"device.detach", monitor_handle_device_detach},
    {"device.change", monitor_handle_change},
    {"machine.change", monitor_handle_change},
    {"upgrade", monitor_handle_upgrade},
    {"console.attach", life_handle_console},
    {"events.subscribe", handle_subscribe},
    {"job.list", monitor_handle_job_list},
    {"job.cancel", monitor_handle_job_cancel},
    {0},
};

static void on_client_gone(void *opaque, struct peer *peer, bool owner)
{
    struct monitor *monitor = opaque;

    calls_forget_peer(monitor->calls, peer);
    plugs_forget_peer(monitor, peer);
    change_forget_peer(monitor, peer);
    forget_killers(monitor, peer);
    if (monitor->upgrade_call && monitor->upgrade_call->peer == peer)
        monitor->upgrade_call->peer = NULL;
    if (!owner || monitor->detached)
        return;
    monitor_leave(monitor, 0, "abandoned", "the command that started the machine has gone");
    g_main_loop_quit(monitor->loop);
}

/* ---- life ---- */

static gboolean on_terminate(gpointer opaque)
{
    struct monitor *monitor = opaque;

    monitor_leave(monitor, 1, "killed", "the monitor was told to end");
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
    const char *message =
        monitor->verdict.message ? monitor->verdict.message : "the machine has ended";

    if (monitor->restart_source)
        g_source_remove(monitor->restart_source);
    life_end(monitor, message);
    monitor_note(monitor, "ended: %s: %s",
                 monitor->verdict.cause ? monitor->verdict.cause : "failed", message);
    console_destroy(monitor->console);
    cgroup_destroy(monitor->cgroup);
    log_file_destroy(monitor->log);
    folder_release(monitor->folder);
    /* Last, so that whoever hears of the end finds nothing left. */
    answer_killers(monitor);
    tell_ended(monitor);
    jobs_destroy(monitor->jobs);
    g_ptr_array_unref(monitor->plugs);
    g_ptr_array_unref(monitor->killers);
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
    struct monitor monitor = {0};
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
    monitor.plugs = g_ptr_array_new();
    monitor.killers = g_ptr_array_new();
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
