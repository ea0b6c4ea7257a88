// SPDX-License-Identifier: Apache-2.0
/*
 * What clients ask of the monitor that takes long: another vmm in the place of the one that runs
 * (upgrade.h), and the list of such work (jobs.h).
 */
#include "vmm/monitor/internal.h"

/* ---- work that lasts ---- */

void monitor_handle_job_list(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;

    control_reply(call, jobs_describe(monitor->jobs));
}

void monitor_handle_job_cancel(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    const json_int_t number = json_integer_value(json_object_get(call->params, "job"));
    const struct control_call *work = jobs_find(monitor->jobs, number);

    if (!work) {
        control_fail(call, RPC_ERROR_STATE, "job: there is none of that number, or it has ended");
        return;
    }
    if (work != monitor->upgrade_call) {
        if (!life_cancel(monitor, work) && !plugs_cancel(monitor, work))
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
    worker_give(fresh, &life_worker_ops, monitor);
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
    if (monitor->vmm)
        plugs_renew(monitor);
}

void monitor_handle_upgrade(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    const struct upgrade_config config = {
        .definition = monitor->definition,
        .folder = monitor->started_in,
        .files = monitor->files,
        .old = monitor->vmm,
        .program = monitor->program,
        .engine = json_string_value(json_object_get(call->params, "engine")),
        .log = life_on_log,
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
    if (plugs_come(monitor) || monitor->change) {
        control_fail(call, RPC_ERROR_STATE,
                     "upgrade: a device is being attached or changed; try again");
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
