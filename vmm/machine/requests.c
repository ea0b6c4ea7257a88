// SPDX-License-Identifier: Apache-2.0
/*
 * Requests of the guest (reset, power-off, exit, crash) and of the engine (breakpoint, failure).
 *
 * They come on vCPU threads, out of a register handler or of the run loop. The vCPUs are kicked and
 * stay parked until the control thread, woken by a source of its main context, has carried the
 * request out: a guest that switched itself off does not run another thousand instructions.
 */
#include "vmm/machine/internal.h"

struct request {
    unsigned bits; /* of enum machine_request */
    char *reason;
    int exit_status;
    unsigned debug_cpu;
};

/* The gravest only: what a lesser one wanted is void then. */
static void carry_out(struct machine *machine, const struct request *request)
{
    const struct machine_config *config = &machine->config;

    if (request->bits & REQUEST_EXIT) {
        machine_end(machine, MACHINE_END_EXIT, request->exit_status, request->reason);
    } else if (request->bits & REQUEST_FAILED) {
        machine_end(machine, MACHINE_END_FAILED, 0, request->reason);
    } else if (request->bits & REQUEST_POWER_OFF) {
        machine_end(machine, MACHINE_END_POWER_OFF, 0, request->reason);
    } else if (request->bits & REQUEST_RESET) {
        if (config->on_reboot == MACHINE_REBOOT_EXIT)
            machine_end(machine, MACHINE_END_POWER_OFF, 0, request->reason);
        else
            machine_restart(machine, request->reason);
    } else if (request->bits & REQUEST_CRASHED) {
        if (config->on_crash == MACHINE_CRASH_EXIT)
            machine_end(machine, MACHINE_END_CRASH, 0, request->reason);
        else if (config->on_crash == MACHINE_CRASH_RESTART)
            machine_restart(machine, request->reason);
        else
            machine_crash(machine, request->reason);
    } else if (request->bits & REQUEST_DEBUG) {
        machine_debug(machine, request->debug_cpu);
    }
}

/* All requests that wait, which are forgotten by that. */
static struct request take(struct machine *machine)
{
    g_mutex_lock(&machine->lock);
    struct request request = {
        .bits = machine->requests,
        .reason = g_steal_pointer(&machine->reason),
        .exit_status = machine->exit_status,
        .debug_cpu = machine->debug_cpu,
    };
    machine->requests = 0;
    g_mutex_unlock(&machine->lock);
    return request;
}

static gboolean dispatch(gpointer opaque)
{
    struct machine *machine = opaque;

    g_mutex_lock(&machine->lock);
    g_clear_pointer(&machine->dispatch, g_source_unref);
    g_mutex_unlock(&machine->lock);

    machine_cpus_park(machine);
    struct request request = take(machine);
    if (machine->state != MACHINE_ENDED)
        carry_out(machine, &request);
    g_free(request.reason);
    if (machine->state == MACHINE_RUNNING)
        machine_cpus_run(machine);
    return G_SOURCE_REMOVE;
}

void machine_request(struct machine *machine, enum machine_request request, const char *reason,
                     int value)
{
    const struct engine_ops *ops = machine->config.engine;

    g_mutex_lock(&machine->lock);
    if (!machine->reason)
        machine->reason = g_strdup(reason);
    if (request == REQUEST_EXIT)
        machine->exit_status = value;
    if (request == REQUEST_DEBUG)
        machine->debug_cpu = (unsigned)value;
    machine->requests |= request;
    if (!machine->dispatch) {
        machine->dispatch = g_idle_source_new();
        g_source_set_priority(machine->dispatch, G_PRIORITY_HIGH);
        g_source_set_callback(machine->dispatch, dispatch, machine, NULL);
        g_source_attach(machine->dispatch, machine->context);
    }
    g_mutex_unlock(&machine->lock);
    for (unsigned i = 0; machine->cpus && i < machine->config.cpus; i++)
        if (machine->cpus[i].vcpu)
            ops->vcpu_kick(machine->cpus[i].vcpu);
}

bool machine_requests_wait(struct machine *machine)
{
    g_mutex_lock(&machine->lock);
    bool wait = machine->requests != 0;
    g_mutex_unlock(&machine->lock);
    return wait;
}

void machine_requests_drop(struct machine *machine)
{
    struct request request = take(machine);
    g_free(request.reason);
    g_mutex_lock(&machine->lock);
    if (machine->dispatch) {
        g_source_destroy(machine->dispatch);
        g_clear_pointer(&machine->dispatch, g_source_unref);
    }
    g_mutex_unlock(&machine->lock);
}

/* ---- what devices call ---- */

static void ask_reset(void *machine, const char *reason)
{
    machine_request(machine, REQUEST_RESET, reason, 0);
}

static void ask_power_off(void *machine, const char *reason)
{
    machine_request(machine, REQUEST_POWER_OFF, reason, 0);
}

/* The board's ACPI tables offer no sleep state but S5, which is a power-off: others are ignored, as
 * by hardware whose SLP_TYP value means nothing. */
static void ask_sleep(void *machine, unsigned s_state)
{
    if (s_state == 5)
        ask_power_off(machine, "guest power-off");
}

static void ask_exit(void *machine, int status)
{
    machine_request(machine, REQUEST_EXIT, "the guest ended the machine", status);
}

static void ask_crashed(void *machine, const char *reason)
{
    machine_request(machine, REQUEST_CRASHED, reason, 0);
}

struct machine_requests machine_device_requests(struct machine *machine)
{
    return (struct machine_requests){
        .reset = ask_reset,
        .power_off = ask_power_off,
        .sleep = ask_sleep,
        .exit = ask_exit,
        .crashed = ask_crashed,
        .machine = machine,
    };
}
