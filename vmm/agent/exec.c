// SPDX-License-Identifier: Apache-2.0
/*
 * The agent has no command to kill what it runs, so another command does that: what the guest has
 * for it. The agent keeps what a command wrote until it is asked, hence the killer is asked after
 * too.
 */
#include "vmm/agent/exec.h"

#include "vmm/agent/reader.h"
#include "vmm/agent/report.h"
#include "vmm/util/fault.h"

#define POLL_FIRST_MS 5
#define POLL_MAX_MS   500
#define DIE_MS        5000 /* for one that was killed, until it is given up */

/* How a process is killed, with its number as the last word. */
static const char *const killers[][4] = {
    {"kill", "-KILL"},
    {"taskkill", "/F", "/T", "/PID"},
};

struct agent_exec {
    struct agent *agent;
    agent_exec_fn ended;
    void *opaque;
    json_int_t pid;       /* 0: not known yet */
    json_int_t killer;    /* 0: none runs */
    unsigned tried;       /* killers */
    unsigned wait_ms;     /* before it is asked after again */
    guint timer;          /* until then; 0: a request is under way */
    guint limit;          /* the time that it has */
    gint64 until_us;      /* monotonic; its end */
    bool cancelled, late; /* why it is killed */
    gint64 die_until_us;  /* 0: it was not killed yet */
};

static void ask_status(struct agent_exec *exec);
static void kill_next(struct agent_exec *exec);

/* Takes `result`. */
static void finish(struct agent_exec *exec, json_t *result, const GError *error)
{
    if (exec->timer)
        g_source_remove(exec->timer);
    if (exec->limit)
        g_source_remove(exec->limit);
    exec->ended(exec->opaque, result, error);
    g_free(exec);
}

static void finish_killed(struct agent_exec *exec, bool dead)
{
    g_autoptr(GError) error = NULL;
    const char *rest = dead ? "" : ", but it goes on in the guest: it could not be killed";

    if (exec->cancelled)
        g_set_error(&error, VMM_ERROR, VMM_ERROR_CANCELLED, "it was cancelled%s", rest);
    else
        g_set_error(&error, VMM_ERROR, VMM_ERROR_FAILED,
                    "the command was stopped, since its time was over%s", rest);
    finish(exec, NULL, error);
}

static void finish_flooded(struct agent_exec *exec)
{
    g_autoptr(GError) error =
        g_error_new(VMM_ERROR, VMM_ERROR_NO_SPACE,
                    "the command wrote more than its guest's agent may hand over; let it write to "
                    "a file");

    finish(exec, NULL, error);
}

/* ---- asking after it ---- */

static gboolean on_poll(gpointer opaque)
{
    struct agent_exec *exec = opaque;

    exec->timer = 0;
    ask_status(exec);
    return G_SOURCE_REMOVE;
}

static void poll_later(struct agent_exec *exec)
{
    exec->timer = g_timeout_add(exec->wait_ms, on_poll, exec);
    exec->wait_ms = MIN(exec->wait_ms * 2, POLL_MAX_MS);
}

static bool is_to_be_killed(const struct agent_exec *exec)
{
    return (exec->cancelled || exec->late) && !exec->die_until_us;
}

static void on_status(void *opaque, const json_t *answer, const GError *error)
{
    struct agent_exec *exec = opaque;
    bool over = json_is_true(json_object_get(answer, "exited"));

    if (g_error_matches(error, VMM_ERROR, VMM_ERROR_NO_SPACE))
        finish_flooded(exec);
    else if (!answer)
        finish(exec, NULL, error);
    else if (over && exec->die_until_us)
        finish_killed(exec, true);
    else if (over)
        finish(exec, report_exec(answer), NULL);
    else if (is_to_be_killed(exec))
        kill_next(exec);
    else if (exec->die_until_us && g_get_monotonic_time() >= exec->die_until_us)
        finish_killed(exec, false);
    else
        poll_later(exec);
}

/* Whatever became of the killer: what counts is whether the command is there. */
static void on_killer_status(void *opaque, const json_t *answer, const GError *error)
{
    struct agent_exec *exec = opaque;

    exec->killer = 0;
    if (answer)
        ask_status(exec);
    else
        finish(exec, NULL, error);
}

static void ask_status(struct agent_exec *exec)
{
    const struct agent_command command = {
        .name = "guest-exec-status",
        .arguments = json_pack("{s:I}", "pid", exec->killer ? exec->killer : exec->pid),
        .answer_size = AGENT_LINE_MAX,
    };

    agent_ask(exec->agent, &command, exec->killer ? on_killer_status : on_status, exec);
}

/* ---- killing it ---- */

static json_int_t pid_of(const json_t *answer)
{
    const json_t *pid = json_object_get(answer, "pid");

    return json_is_integer(pid) && json_integer_value(pid) > 0 ? json_integer_value(pid) : 0;
}

static void on_killer(void *opaque, const json_t *answer, const GError *error)
{
    struct agent_exec *exec = opaque;

    exec->killer = pid_of(answer);
    exec->wait_ms = POLL_FIRST_MS;
    if (exec->killer)
        exec->die_until_us = g_get_monotonic_time() + DIE_MS * G_TIME_SPAN_MILLISECOND;
    if (exec->killer)
        poll_later(exec);
    else if (error && !g_error_matches(error, VMM_ERROR, VMM_ERROR_FAILED))
        finish(exec, NULL, error);
    else if (exec->tried < G_N_ELEMENTS(killers))
        kill_next(exec);
    else
        finish_killed(exec, false);
}

static void kill_next(struct agent_exec *exec)
{
    const char *const *words = killers[exec->tried++];
    g_autofree char *number = g_strdup_printf("%" JSON_INTEGER_FORMAT, exec->pid);
    json_t *arguments = json_array();

    for (unsigned i = 1; i < G_N_ELEMENTS(killers[0]) && words[i]; i++)
        json_array_append_new(arguments, json_string(words[i]));
    json_array_append_new(arguments, json_string(number));
    const struct agent_command command = {
        .name = "guest-exec",
        .arguments = json_pack("{s:s, s:o}", "path", words[0], "arg", arguments),
    };
    agent_ask(exec->agent, &command, on_killer, exec);
}

/* At once when nothing is under way; else where that ends. */
static void want_end(struct agent_exec *exec)
{
    if (!exec->timer || !is_to_be_killed(exec))
        return;
    g_source_remove(exec->timer);
    exec->timer = 0;
    kill_next(exec);
}

static gboolean on_late(gpointer opaque)
{
    struct agent_exec *exec = opaque;

    exec->limit = 0;
    exec->late = true;
    want_end(exec);
    return G_SOURCE_REMOVE;
}

void agent_exec_cancel(struct agent_exec *exec)
{
    exec->cancelled = true;
    want_end(exec);
}

void agent_exec_abandon(struct agent_exec *exec, const GError *error)
{
    finish(exec, NULL, error);
}

/* ---- starting it ---- */

static void on_begun(void *opaque, const json_t *answer, const GError *error)
{
    struct agent_exec *exec = opaque;
    g_autoptr(GError) fault = NULL;

    exec->pid = pid_of(answer);
    if (exec->pid) {
        poll_later(exec);
        want_end(exec);
        return;
    }
    if (answer)
        g_set_error(&fault, VMM_ERROR, VMM_ERROR_FAILED,
                    "guest-exec: the guest's agent answers with something else");
    finish(exec, NULL, answer ? fault : error);
}

/* The first word is a path or is looked for in the agent's PATH; the others are arguments. */
static json_t *begin_arguments(const struct agent_exec_config *config)
{
    json_t *words = json_deep_copy(config->argv);

    json_array_remove(words, 0);
    return json_pack("{s:O, s:o, s:b, s:O*, s:s*}", "path", json_array_get(config->argv, 0), "arg",
                     words, "capture-output", 1, "env", config->env, "input-data", config->input);
}

static struct agent_exec *create(struct agent *agent, unsigned timeout_ms, agent_exec_fn ended,
                                 void *opaque)
{
    struct agent_exec *exec = g_new0(struct agent_exec, 1);

    *exec = (struct agent_exec){
        .agent = agent,
        .ended = ended,
        .opaque = opaque,
        .wait_ms = POLL_FIRST_MS,
    };
    if (timeout_ms)
        exec->limit = g_timeout_add(timeout_ms, on_late, exec);
    exec->until_us = g_get_monotonic_time() + (gint64)timeout_ms * G_TIME_SPAN_MILLISECOND;
    return exec;
}

struct agent_exec *agent_exec_start(struct agent *agent, const struct agent_exec_config *config,
                                    agent_exec_fn ended, void *opaque)
{
    struct agent_exec *exec = create(agent, config->timeout_ms, ended, opaque);
    const struct agent_command command = {
        .name = "guest-exec",
        .arguments = begin_arguments(config),
    };

    agent_ask(agent, &command, on_begun, exec);
    return exec;
}

struct agent_exec *agent_exec_watch(struct agent *agent, json_int_t pid, unsigned timeout_ms,
                                    agent_exec_fn ended, void *opaque)
{
    struct agent_exec *exec = create(agent, timeout_ms, ended, opaque);

    exec->pid = pid;
    poll_later(exec);
    return exec;
}

json_int_t agent_exec_pid(const struct agent_exec *exec)
{
    return exec->cancelled || exec->late ? 0 : exec->pid;
}

unsigned agent_exec_left(const struct agent_exec *exec)
{
    gint64 left = (exec->until_us - g_get_monotonic_time()) / G_TIME_SPAN_MILLISECOND;

    return exec->limit ? (unsigned)MAX(left, 1) : 0;
}
