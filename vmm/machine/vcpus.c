// SPDX-License-Identifier: Apache-2.0
/*
 * The vCPU threads: each runs one vCPU while the machine runs and nothing is asked of the control
 * thread, and is parked otherwise.
 *
 * A thread parks itself between two calls of vcpu_run, so at an instruction's boundary. Whoever
 * wants them parked clears the condition under the lock first and kicks then; a kick that comes
 * before vcpu_run makes that return at once, so none is lost.
 */
#include "vmm/machine/internal.h"
#include "vmm/util/thread.h"

static bool may_run_locked(const struct machine_cpu *cpu)
{
    return cpu->machine->running && !cpu->machine->requests && !cpu->held;
}

/* What the vCPU came out for. */
static void exit_handle(struct machine_cpu *cpu, enum vcpu_exit exit)
{
    struct machine *machine = cpu->machine;
    const struct engine_ops *ops = machine->config.engine;

    switch (exit) {
    case VCPU_EXIT_KICKED:
        break;
    case VCPU_EXIT_SHUTDOWN:
        machine_request(machine, REQUEST_CRASHED, "triple fault", 0);
        break;
    case VCPU_EXIT_DEBUG:
        machine_request(machine, REQUEST_DEBUG, NULL, (int)cpu->index);
        break;
    case VCPU_EXIT_ERROR:
        machine_request(machine, REQUEST_FAILED, ops->vcpu_error(cpu->vcpu), 0);
        break;
    }
}

static void *cpu_thread(void *opaque)
{
    struct machine_cpu *cpu = opaque;
    struct machine *machine = cpu->machine;
    const struct engine_ops *ops = machine->config.engine;

    thread_begin(THREAD_VCPU);
    g_mutex_lock(&machine->lock);
    while (!machine->quit) {
        if (!may_run_locked(cpu)) {
            machine->parked++;
            g_cond_broadcast(&machine->parking);
            while (!machine->quit && !may_run_locked(cpu))
                g_cond_wait(&machine->go, &machine->lock);
            machine->parked--;
            continue;
        }
        g_mutex_unlock(&machine->lock);
        exit_handle(cpu, ops->vcpu_run(cpu->vcpu));
        g_mutex_lock(&machine->lock);
    }
    g_mutex_unlock(&machine->lock);
    return NULL;
}

bool machine_cpus_create(struct machine *machine, GError **error)
{
    const struct engine_ops *ops = machine->config.engine;

    machine->cpus = g_new0(struct machine_cpu, machine->config.cpus);
    for (unsigned i = 0; i < machine->config.cpus; i++) {
        struct machine_cpu *cpu = &machine->cpus[i];
        g_autofree char *name = g_strdup_printf("vcpu/%u", i);

        cpu->machine = machine;
        cpu->index = i;
        cpu->vcpu = ops->vcpu_create(machine->engine, i, error);
        if (!cpu->vcpu)
            return false;
        cpu->thread = g_thread_try_new(name, cpu_thread, cpu, error);
        if (!cpu->thread)
            return false;
    }
    return true;
}

void machine_cpus_destroy(struct machine *machine)
{
    const struct engine_ops *ops = machine->config.engine;

    if (!machine->cpus)
        return;
    g_mutex_lock(&machine->lock);
    machine->quit = true;
    g_cond_broadcast(&machine->go);
    g_mutex_unlock(&machine->lock);
    for (unsigned i = 0; i < machine->config.cpus; i++) {
        struct machine_cpu *cpu = &machine->cpus[i];
        if (!cpu->thread)
            continue;
        ops->vcpu_kick(cpu->vcpu);
        g_thread_join(cpu->thread);
    }
    for (unsigned i = 0; i < machine->config.cpus; i++)
        if (machine->cpus[i].vcpu)
            ops->vcpu_destroy(machine->cpus[i].vcpu);
    g_free(machine->cpus);
    machine->cpus = NULL;
}

void machine_cpus_run(struct machine *machine)
{
    g_mutex_lock(&machine->lock);
    machine->running = true;
    g_cond_broadcast(&machine->go);
    g_mutex_unlock(&machine->lock);
}

void machine_cpus_park(struct machine *machine)
{
    const struct engine_ops *ops = machine->config.engine;

    g_mutex_lock(&machine->lock);
    machine->running = false;
    g_mutex_unlock(&machine->lock);
    for (unsigned i = 0; i < machine->config.cpus; i++)
        ops->vcpu_kick(machine->cpus[i].vcpu);
    g_mutex_lock(&machine->lock);
    while (machine->parked < machine->config.cpus)
        g_cond_wait(&machine->parking, &machine->lock);
    g_mutex_unlock(&machine->lock);
}

void machine_nmi(struct machine *machine)
{
    for (unsigned i = 0; i < machine->config.cpus; i++)
        machine->config.engine->nmi(machine->cpus[i].vcpu);
}

void machine_hold(struct machine *machine, unsigned cpu, bool hold)
{
    g_mutex_lock(&machine->lock);
    if (cpu < machine->config.cpus)
        machine->cpus[cpu].held = hold;
    g_mutex_unlock(&machine->lock);
}

bool machine_cpus_reset(struct machine *machine, GError **error)
{
    const struct engine_ops *ops = machine->config.engine;
    uint32_t signature = ops->cpu(machine->engine)->signature;
    bool running = clock_is_running(machine->clock), done = true;
    g_autofree struct cpu_state *state = g_new0(struct cpu_state, 1);

    clock_pause(machine->clock); /* so that all counters are taken over at one instant */
    for (unsigned i = 0; i < machine->config.cpus && done; i++) {
        struct vcpu *vcpu = machine->cpus[i].vcpu;
        ops->vcpu_get_state(vcpu, state);
        uint64_t tsc = state->tsc;
        cpu_state_reset(state, i == 0, i, signature);
        /* The counter goes on: machine time does, and kvmclock is derived from both. */
        state->tsc = tsc;
        done = ops->vcpu_set_state(vcpu, state, error);
    }
    if (running)
        clock_resume(machine->clock);
    return done;
}
