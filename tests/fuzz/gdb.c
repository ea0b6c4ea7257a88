// SPDX-License-Identifier: Apache-2.0
/*
 * A debugger that says anything: raw bytes, or lines of which each becomes a packet with a right
 * checksum. The target must never be asked for a vCPU that it does not have, nor for state while it
 * runs.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/memory.h"

#include "vmm/control/gdb_packet.h"
#include "vmm/control/gdb_session.h"

#define CPUS     3
#define RAM_SIZE (64UL << 10)

struct target {
    bool running;
    struct cpu_state cpus[CPUS];
};

static void target_pause(void *opaque)
{
    ((struct target *)opaque)->running = false;
}

static bool target_resume(void *opaque)
{
    return ((struct target *)opaque)->running = true;
}

static struct cpu_state *parked_cpu(struct target *target, unsigned cpu)
{
    fuzz_require(!target->running && cpu < CPUS);
    return &target->cpus[cpu];
}

static void target_get_state(void *opaque, unsigned cpu, struct cpu_state *state)
{
    *state = *parked_cpu(opaque, cpu);
}

static bool target_set_state(void *opaque, unsigned cpu, const struct cpu_state *state)
{
    *parked_cpu(opaque, cpu) = *state;
    return true;
}

static bool target_set_debug(void *opaque, unsigned cpu, const struct vcpu_debug *debug)
{
    parked_cpu(opaque, cpu);
    fuzz_require(debug->breakpoints <= G_N_ELEMENTS(debug->address));
    return true;
}

static bool target_translate(void *opaque, unsigned cpu, uint64_t linear, uint64_t *physical)
{
    parked_cpu(opaque, cpu);
    *physical = linear;
    return linear < 2 * RAM_SIZE;
}

static void target_hold(void *opaque, unsigned cpu, bool hold)
{
    fuzz_require(cpu < CPUS);
}

static void target_kill(void *opaque)
{
}

static void target_send(void *opaque, const void *data, size_t size)
{
    fuzz_require(size <= 2 * GDB_PACKET_MAX + 16);
}

/* Each line of the input as a packet; an empty one is the interrupt key. */
static void feed_lines(struct gdb_session *session, struct target *target,
                       const struct fuzz_input *input)
{
    g_auto(GStrv) lines = NULL;
    g_autofree char *text = g_strndup((const char *)input->data, input->size);

    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        g_autoptr(GString) wire = g_string_new(NULL);

        if (*lines[i])
            gdb_packet_append(wire, lines[i], strlen(lines[i]));
        else
            g_string_append_c(wire, 3);
        if (!gdb_session_feed(session, wire->str, wire->len))
            return;
        if (target->running && i % 2) {
            target->running = false;
            gdb_session_stopped(session, i % CPUS);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    g_autofree struct target *state = g_new0(struct target, 1);
    struct gdb_target target = {
        .cpus = CPUS,
        .memory = memory_create(),
        .pause = target_pause,
        .resume = target_resume,
        .get_state = target_get_state,
        .set_state = target_set_state,
        .set_debug = target_set_debug,
        .translate = target_translate,
        .hold = target_hold,
        .kill = target_kill,
        .send = target_send,
        .opaque = state,
    };
    struct gdb_session *session = gdb_session_create(&target);

    test_memory_add(target.memory, MEMORY_RAM, 0, RAM_SIZE);
    if (fuzz_byte(&input) & 1)
        gdb_session_feed(session, input.data, input.size);
    else
        feed_lines(session, state, &input);
    gdb_session_leave(session);
    gdb_session_destroy(session);
    memory_destroy(target.memory);
    return 0;
}
