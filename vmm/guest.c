// SPDX-License-Identifier: Apache-2.0
/*
 * From calls to requests of the guest's agent (vmm/agent/), and from its answers to results.
 */
#include "vmm/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/agent/agent.h"
#include "vmm/agent/exec.h"
#include "vmm/agent/freeze.h"
#include "vmm/agent/report.h"
#include "vmm/internal.h"
#include "vmm/util/fault.h"

#define BACKLOG_MAX   16 /* requests that wait for the agent */
#define EXECS_MAX     16 /* commands that run in the guest */
#define SYNC_MS       10000
#define ANSWER_MS     60000
#define SILENCE_MS    2000
#define FREEZE_MS_MAX (CONTROL_FREEZE_MAX * 1000)
#define LONG_PAUSE_US (5 * G_TIME_SPAN_SECOND) /* after it the guest's time of day is set */
#define OFF_MAX_NS    G_GINT64_CONSTANT(1000000000)

struct guest {
    struct vmm *vmm;
    struct agent *agent;
    struct agent_freeze *freeze;
    GPtrArray *execs; /* of struct exec * */
    bool running;
    gint64 stood_us; /* when it stopped last; 0: it never ran */
    bool leaving;    /* another vmm goes on with what runs in the guest */
    bool restored;   /* from a state; until its time of day is set */
};

/* ---- calls ---- */

static void fail(struct control_call *call, const GError *error)
{
    int code = RPC_ERROR_FAILED;

    if (g_error_matches(error, VMM_ERROR, VMM_ERROR_BUSY))
        code = RPC_ERROR_STATE;
    else if (g_error_matches(error, VMM_ERROR, VMM_ERROR_CANCELLED))
        code = RPC_ERROR_CANCELLED;
    control_fail(call, code, error->message);
}

static void on_plain(void *call, const json_t *answer, const GError *error)
{
    if (answer)
        control_reply(call, NULL);
    else
        fail(call, error);
}

/* The guest that the call is for; NULL after its failure. */
static struct guest *enter(const struct vmm *vmm, struct control_call *call)
{
    struct guest *guest = vmm->guest;
    const char *hindrance = NULL;

    if (!guest)
        hindrance = "the machine has no port for a guest agent; define it with 'agent: yes'";
    else if (!guest->running)
        hindrance = "the machine stands still; resume it first";
    else if (agent_backlog(guest->agent) >= BACKLOG_MAX)
        hindrance = "too many requests wait for the guest's agent";
    if (!hindrance)
        return guest;
    control_fail(call, RPC_ERROR_STATE, hindrance);
    return NULL;
}

/* ---- "guest.info" ---- */

struct info {
    struct agent *agent;
    struct control_call *call;
    json_t *result;
    unsigned step; /* of `details` */
};

/* What is asked if the agent offers it. */
static const struct {
    const char *command;
    void (*add)(json_t *result, const json_t *answer);
} details[] = {
    {"guest-get-osinfo", report_add_os},
    {"guest-get-host-name", report_add_hostname},
    {"guest-fsfreeze-status", report_add_frozen},
};

static void ask_detail(struct info *info);

static bool is_offered(const json_t *info, const char *command)
{
    const json_t *names = json_object_get(info, "commands");
    bool found = false;

    for (size_t i = 0; i < json_array_size(names); i++)
        found |= strcmp(json_string_value(json_array_get(names, i)), command) == 0;
    return found;
}

static void on_detail(void *opaque, const json_t *answer, const GError *error)
{
    struct info *info = opaque;

    if (answer)
        details[info->step].add(info->result, answer);
    info->step++;
    if (!g_error_matches(error, VMM_ERROR, VMM_ERROR_CLOSED)) {
        ask_detail(info);
        return;
    }
    fail(info->call, error);
    json_decref(info->result);
    g_free(info);
}

static void ask_detail(struct info *info)
{
    while (info->step < G_N_ELEMENTS(details) &&
           !is_offered(info->result, details[info->step].command))
        info->step++;
    if (info->step < G_N_ELEMENTS(details)) {
        agent_ask(info->agent, &(struct agent_command){.name = details[info->step].command},
                  on_detail, info);
        return;
    }
    control_reply(info->call, info->result);
    g_free(info);
}

static void on_info(void *opaque, const json_t *answer, const GError *error)
{
    struct info *info = opaque;

    if (answer) {
        info->result = report_info(answer);
        ask_detail(info);
        return;
    }
    fail(info->call, error);
    g_free(info);
}

void guest_handle_info(void *vmm, struct control_call *call)
{
    const struct guest *guest = enter(vmm, call);
    struct info *info;

    if (!guest)
        return;
    info = g_new0(struct info, 1);
    *info = (struct info){.agent = guest->agent, .call = call};
    agent_ask(guest->agent, &(struct agent_command){.name = "guest-info"}, on_info, info);
}

/* ---- "guest.addresses" ---- */

static void on_addresses(void *call, const json_t *answer, const GError *error)
{
    if (answer)
        control_reply(call, report_addresses(answer));
    else
        fail(call, error);
}

void guest_handle_addresses(void *vmm, struct control_call *call)
{
    const struct guest *guest = enter(vmm, call);

    if (guest)
        agent_ask(guest->agent, &(struct agent_command){.name = "guest-network-get-interfaces"},
                  on_addresses, call);
}

/* ---- "guest.exec" ---- */

struct exec {
    struct guest *guest;
    struct control_call *call;
    struct agent_exec *exec;
};

/* What the monitor asks the next vmm to go on with. */
static void hand_on(struct control_call *call, const struct agent_exec *exec, const GError *error)
{
    json_t *data =
        json_pack("{s:I, s:i}", "pid", agent_exec_pid(exec), "left_ms", (int)agent_exec_left(exec));
    const struct rpc_message failure = {
        .kind = RPC_FAILURE, .code = RPC_ERROR_FAILED, .text = error->message, .data = data};

    control_fail_as(call, &failure);
    json_decref(data);
}

static void on_exec_ended(void *opaque, json_t *result, const GError *error)
{
    struct exec *exec = opaque;
    struct control_call *call = exec->call;

    if (result)
        control_reply(call, result);
    else if (exec->guest->leaving && agent_exec_pid(exec->exec))
        hand_on(call, exec->exec, error);
    else
        fail(call, error);
    g_ptr_array_remove(exec->guest->execs, exec);
}

static struct exec *exec_create(struct guest *guest, struct control_call *call)
{
    struct exec *exec = g_new0(struct exec, 1);

    *exec = (struct exec){.guest = guest, .call = call};
    g_ptr_array_add(guest->execs, exec);
    return exec;
}

static void begin_exec(struct guest *guest, struct control_call *call)
{
    const struct agent_exec_config config = {
        .argv = json_object_get(call->params, "argv"),
        .env = json_object_get(call->params, "env"),
        .input = json_string_value(json_object_get(call->params, "input")),
        .timeout_ms = 1000 * (unsigned)json_integer_value(json_object_get(call->params, "timeout")),
    };
    struct exec *exec = exec_create(guest, call);

    exec->exec = agent_exec_start(guest->agent, &config, on_exec_ended, exec);
}

void guest_handle_exec(void *vmm, struct control_call *call)
{
    struct guest *guest = enter(vmm, call);

    if (!guest)
        return;
    if (!json_array_size(json_object_get(call->params, "argv")))
        control_fail(call, RPC_ERROR_INVALID_PARAMS, "guest.exec: argv: expected a command");
    else if (guest->execs->len >= EXECS_MAX)
        control_fail(call, RPC_ERROR_STATE, "too many commands run in the guest");
    else
        begin_exec(guest, call);
}

/* A machine that stands still has it all the same. */
void guest_handle_watch(void *vmm, struct control_call *call)
{
    struct guest *guest = ((struct vmm *)vmm)->guest;
    json_int_t pid = json_integer_value(json_object_get(call->params, "pid"));
    json_int_t left_ms = json_integer_value(json_object_get(call->params, "left_ms"));
    struct exec *exec;

    if (!guest) {
        control_fail(call, RPC_ERROR_STATE, "the machine has no port for a guest agent");
        return;
    }
    exec = exec_create(guest, call);
    exec->exec = agent_exec_watch(guest->agent, pid, (unsigned)left_ms, on_exec_ended, exec);
}

bool guest_cancel(struct guest *guest, const json_t *id)
{
    for (guint i = 0; guest && i < guest->execs->len; i++) {
        const struct exec *exec = guest->execs->pdata[i];

        if (!json_equal(exec->call->id, id))
            continue;
        agent_exec_cancel(exec->exec);
        return true;
    }
    return false;
}

/* ---- "guest.freeze", "guest.thaw" ---- */

static void on_counted(void *call, int count, const GError *error)
{
    if (count >= 0)
        control_reply(call, json_pack("{s:i}", "filesystems", count));
    else
        fail(call, error);
}

void guest_handle_freeze(void *vmm, struct control_call *call)
{
    const struct guest *guest = enter(vmm, call);
    json_int_t seconds;

    if (!guest)
        return;
    seconds = json_integer_value(json_object_get(call->params, "timeout"));
    agent_freeze_begin(guest->freeze, (unsigned)seconds * 1000, on_counted, call);
}

void guest_handle_thaw(void *vmm, struct control_call *call)
{
    const struct guest *guest = enter(vmm, call);

    if (guest)
        agent_freeze_end(guest->freeze, on_counted, call);
}

static void on_frozen(void *opaque, unsigned count)
{
    const struct guest *guest = opaque;

    vmm_tell(guest->vmm, "guest-frozen", json_pack("{s:i}", "filesystems", (int)count));
}

static void set_time(struct guest *guest, struct control_call *call);

/* An agent that has frozen its guest does not set its time. */
static void on_thawed(void *opaque, const char *why)
{
    struct guest *guest = opaque;

    if (guest->restored)
        set_time(guest, NULL);
    vmm_tell(guest->vmm, "guest-thawed", json_pack("{s:s*}", "reason", why));
}

/* ---- "guest.time" ---- */

/* Its time is asked for, set, and asked for again: an agent that has set it still reports a failure
 * where the guest has no program to set its hardware clock as well. */
struct time {
    struct guest *guest;
    struct control_call *call; /* NULL: nobody asked */
    int64_t off_ns;            /* before; ahead of the host's */
    bool set;
    GError *error; /* of setting it */
};

static void time_end(struct time *time, const GError *error)
{
    if (time->call && error)
        fail(time->call, error);
    else if (time->call)
        control_reply(time->call, json_pack("{s:I}", "was_off_ns", (json_int_t)time->off_ns));
    g_clear_error(&time->error);
    g_free(time);
}

static int64_t host_ns(void)
{
    return g_get_real_time() * 1000;
}

static void on_time(void *opaque, const json_t *answer, const GError *error);

static void on_time_set(void *opaque, const json_t *answer, const GError *error)
{
    struct time *time = opaque;

    if (g_error_matches(error, VMM_ERROR, VMM_ERROR_CLOSED)) {
        time_end(time, error);
        return;
    }
    time->set = true;
    time->error = error ? g_error_copy(error) : NULL;
    agent_ask(time->guest->agent, &(struct agent_command){.name = "guest-get-time"}, on_time, time);
}

static void on_time(void *opaque, const json_t *answer, const GError *error)
{
    struct time *time = opaque;
    json_int_t guest_ns = json_is_integer(answer) ? json_integer_value(answer) : 0;
    int64_t off_ns = CLAMP(guest_ns, 0, G_MAXINT64) - host_ns();

    if (!answer) {
        time_end(time, error);
    } else if (time->set) {
        time->guest->restored = false;
        time_end(time, ABS(off_ns) > OFF_MAX_NS ? time->error : NULL);
    } else {
        const struct agent_command command = {
            .name = "guest-set-time",
            .arguments = json_pack("{s:I}", "time", (json_int_t)host_ns()),
        };

        time->off_ns = off_ns;
        agent_ask(time->guest->agent, &command, on_time_set, time);
    }
}

static void set_time(struct guest *guest, struct control_call *call)
{
    struct time *time = g_new0(struct time, 1);

    *time = (struct time){.guest = guest, .call = call};
    agent_ask(guest->agent, &(struct agent_command){.name = "guest-get-time"}, on_time, time);
}

void guest_handle_time(void *vmm, struct control_call *call)
{
    struct guest *guest = enter(vmm, call);

    if (guest)
        set_time(guest, call);
}

/* ---- "guest.shutdown" ---- */

void guest_handle_shutdown(void *vmm, struct control_call *call)
{
    struct agent_command command = {.name = "guest-shutdown", .silent = true};
    const struct guest *guest = enter(vmm, call);
    const char *mode;

    if (!guest)
        return;
    mode = json_string_value(json_object_get(call->params, "mode"));
    command.arguments = json_pack("{s:s}", "mode", mode ? mode : "powerdown");
    agent_ask(guest->agent, &command, on_plain, call);
}

/* ---- the machine's life ---- */

static bool open_pair(int *near, int *far, int *back)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return false;
    *near = ends[0];
    *far = ends[1];
    *back = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
    if (*back >= 0)
        return true;
    close(ends[0]);
    close(ends[1]);
    return false;
}

struct guest *guest_create(struct vmm *vmm, int *far, GError **error)
{
    struct agent_config config = {
        .sync_ms = SYNC_MS, .answer_ms = ANSWER_MS, .silence_ms = SILENCE_MS};
    struct agent_freeze_listener listener = {.frozen = on_frozen, .thawed = on_thawed};
    struct guest *guest;

    if (!open_pair(&config.fd, far, &config.far)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "agent: no descriptors for its port: %s",
                    g_strerror(errno));
        return NULL;
    }
    guest = g_new0(struct guest, 1);
    guest->vmm = vmm;
    guest->execs = g_ptr_array_new_with_free_func(g_free);
    guest->agent = agent_create(&config);
    listener.opaque = guest;
    guest->freeze = agent_freeze_create(guest->agent, &listener);
    return guest;
}

static void abandon(struct guest *guest, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(VMM_ERROR, VMM_ERROR_CLOSED, why);

    agent_abandon(guest->agent, why);
    while (guest->execs->len)
        agent_exec_abandon(((struct exec *)guest->execs->pdata[0])->exec, error);
}

void guest_destroy(struct guest *guest)
{
    if (!guest)
        return;
    abandon(guest, "the machine has ended");
    agent_freeze_destroy(guest->freeze);
    agent_destroy(guest->agent);
    g_ptr_array_unref(guest->execs);
    g_free(guest);
}

void guest_machine_changed(struct guest *guest, enum machine_state state)
{
    gint64 now = g_get_monotonic_time();
    bool running = state == MACHINE_RUNNING;

    if (!guest || guest->running == running)
        return;
    guest->running = running;
    agent_set_running(guest->agent, running);
    if (running && guest->stood_us && now - guest->stood_us >= LONG_PAUSE_US)
        set_time(guest, NULL);
    guest->stood_us = now;
}

void guest_restarted(struct guest *guest)
{
    if (!guest)
        return;
    guest->restored = false;
    abandon(guest, "the guest began anew before its agent had answered");
    agent_freeze_forget(guest->freeze);
}

void guest_ended(struct guest *guest)
{
    if (guest)
        abandon(guest, "the machine has ended");
}

void guest_restored(struct guest *guest)
{
    if (!guest)
        return;
    guest->restored = true;
    agent_freeze_look(guest->freeze);
    set_time(guest, NULL);
}

void guest_leave(struct guest *guest)
{
    if (!guest)
        return;
    guest->leaving = true;
    abandon(guest, "another vmm has taken over before the guest's agent had answered");
    guest->leaving = false;
}

int64_t guest_frozen_ms(const struct guest *guest)
{
    return guest ? agent_freeze_left(guest->freeze) : -1;
}

void guest_adopt(struct guest *guest, int64_t frozen_ms)
{
    if (guest && frozen_ms >= 0)
        agent_freeze_adopt(guest->freeze, (unsigned)MIN(frozen_ms, FREEZE_MS_MAX));
}
