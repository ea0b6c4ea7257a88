// SPDX-License-Identifier: Apache-2.0
/*
 * A running machine goes from one vmm to another on the same host, which may be of another version
 * or have another engine. The monitor leads; the RAM never moves:
 *
 *     the old vmm                          the new one
 *     describe: RAM, definition, CPUs ->   start: sandbox, engine, devices over that RAM
 *     pause: vCPUs park, time and devices
 *       stop, the state is written    ->   load
 *     is killed                            go: time is put right, vCPUs run
 *
 * Until the old one is killed it can be told to cancel, and goes on as if nothing had been. The
 * guest's clocks count the time away in either case.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/internal.h"
#include "vmm/machine/machine_stream.h"

/* Nobody is away for longer, whatever the message says. */
#define AWAY_MAX_NS (600 * NS_PER_SECOND)

static int64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static struct machine_stream_extra lines_of(struct vmm *vmm)
{
    return (struct machine_stream_extra){
        .save = attachments_save_lines,
        .load = attachments_load_line,
        .opaque = &vmm->attachments,
    };
}

/* Since `since_ns` of the host's monotonic time. */
static int64_t away_ns(int64_t since_ns)
{
    int64_t now = monotonic_ns();

    return now - CLAMP(since_ns, now - AWAY_MAX_NS, now);
}

/* A time in the past, as the other vmm tells it. */
static int64_t get_past(const struct control_call *call, const char *key, int64_t now)
{
    return CLAMP(json_integer_value(json_object_get(call->params, key)), 0, now);
}

/* The guest goes on, and finds its clocks right. */
static void go_on(struct vmm *vmm, int64_t stopped_ns)
{
    if (vmm->debugger)
        gdb_server_admit(vmm->debugger, true);
    attachments_resume_lines(&vmm->attachments);
    if (vmm->resumes) {
        clock_skip(machine_clock(vmm->machine), away_ns(stopped_ns));
        machine_resume(vmm->machine);
    }
    vmm->quiet = false;
}

/* ---- the vmm that goes ---- */

/* After all: the disks are this vmm's again. One that cannot be gives the guest errors. */
static void stay(struct vmm *vmm)
{
    g_autoptr(GError) error = NULL;

    if (!attachments_activate_disks(&vmm->attachments, &error))
        g_message("%s", error->message);
    go_on(vmm, clock_stopped_ns(machine_clock(vmm->machine)));
}

/* Why the machine cannot go now; NULL when it can. */
static const char *find_obstacle(const struct vmm *vmm, enum machine_state state)
{
    if (state == MACHINE_CRASHED)
        return "the guest crashed; reset or kill the machine";
    if (state == MACHINE_ENDED)
        return "the machine has ended";
    if (vmm->debugger && gdb_server_is_connected(vmm->debugger))
        return "a debugger is attached; let it detach first";
    return NULL;
}

void handover_describe(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    struct machine_status status;
    const char *obstacle;
    GError *error = NULL;
    json_t *result;
    char *definition;
    bool good;
    int ram;

    machine_query(vmm->machine, &status);
    obstacle = find_obstacle(vmm, status.state);
    if (obstacle) {
        control_fail(call, RPC_ERROR_STATE, obstacle);
        return;
    }
    definition = vmm_effective_definition(vmm);
    good = machine_save_head(vmm->machine, call->fds[0], definition, &error);
    free(definition);
    if (!good) {
        control_fail_error(call, error);
        return;
    }
    vmm->described = true;
    result = json_object();
    json_object_set_new(result, "engine", json_string(status.engine));
    json_object_set_new(result, "cpu", json_string(status.cpu_model));
    ram = memory_file(machine_memory(vmm->machine), 0);
    control_reply_fds(call, result, &ram, 1);
}

static json_t *describe_pause(struct vmm *vmm, int clients[ATTACHMENTS_CHARDEVS], unsigned *count)
{
    json_t *result = json_object();

    json_object_set_new(result, "clients", attachments_clients(&vmm->attachments, clients, count));
    json_object_set_new(result, "running", json_boolean(vmm->resumes));
    json_object_set_new(result, "began_ns", json_integer(vmm->began_ns));
    json_object_set_new(result, "stopped_ns",
                        json_integer(clock_stopped_ns(machine_clock(vmm->machine))));
    json_object_set_new(result, "started_us", json_integer(vmm->started_us));
    json_object_set_new(result, "frozen_ms", json_integer(guest_frozen_ms(vmm->guest)));
    return result;
}

void handover_pause(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    struct machine_stream_extra lines = lines_of(vmm);
    int clients[ATTACHMENTS_CHARDEVS];
    struct machine_status status;
    GError *error = NULL;
    const char *obstacle;
    char *definition;
    unsigned count;
    json_t *result;
    bool good;

    machine_query(vmm->machine, &status);
    obstacle = find_obstacle(vmm, status.state);
    if (obstacle) {
        control_fail(call, RPC_ERROR_STATE, obstacle);
        return;
    }
    /* One that came now could have the machine run here and there. */
    if (vmm->debugger)
        gdb_server_admit(vmm->debugger, false);
    vmm->quiet = true;
    vmm->resumes = status.state == MACHINE_RUNNING;
    vmm->began_ns = monotonic_ns();
    definition = vmm_effective_definition(vmm);
    machine_pause(vmm->machine);
    attachments_suspend_lines(&vmm->attachments);
    good = attachments_deactivate_disks(&vmm->attachments, &error) &&
           machine_save_handover(vmm->machine, call->fds[0], definition, &lines, &error);
    free(definition);
    if (!good) {
        stay(vmm);
        control_fail_error(call, error);
        return;
    }
    guest_leave(vmm->guest);
    result = describe_pause(vmm, clients, &count);
    control_reply_fds(call, result, clients, count);
}

void handover_cancel(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;

    if (vmm->quiet)
        stay(vmm);
    control_reply(call, NULL);
}

/* ---- the vmm that comes ---- */

static bool load(struct vmm *vmm, int fd, GError **error)
{
    struct stream_reader *reader = stream_reader_create(fd, error);
    struct machine_stream_extra lines = lines_of(vmm);
    bool good = reader && machine_load(vmm->machine, reader, &lines, error);

    stream_reader_destroy(reader);
    return good;
}

void handover_load(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    GError *error = NULL;

    if (attachments_adopt_clients(&vmm->attachments, json_object_get(call->params, "clients"),
                                  call->fds + 1, call->count - 1, &error) &&
        attachments_activate_disks(&vmm->attachments, &error) && load(vmm, call->fds[0], &error))
        control_reply(call, NULL);
    else
        control_fail_error(call, error);
}

void handover_go(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    const json_t *frozen = json_object_get(call->params, "frozen_ms");
    json_t *result = json_object();

    vmm->resumes = json_is_true(json_object_get(call->params, "running"));
    vmm->began_ns = get_past(call, "began_ns", monotonic_ns());
    vmm->started_us = get_past(call, "started_us", g_get_monotonic_time());
    if (frozen)
        guest_adopt(vmm->guest, json_integer_value(frozen));
    go_on(vmm, get_past(call, "stopped_ns", monotonic_ns()));
    json_object_set_new(result, "downtime_ns",
                        json_integer(vmm->resumes ? away_ns(vmm->began_ns) : 0));
    vmm_await_debugger(vmm);
    control_reply(call, result);
}
