// SPDX-License-Identifier: Apache-2.0
/*
 * What an engine counts of its vCPUs, told as one object: each counter by its name, with what it
 * means, the sum, and the vCPUs' own numbers in the order of the vCPUs.
 */
#include "vmm/internal.h"

#define EXIT_PREFIX "exits_"

/* Empty, and in its place in `counters`. */
static void add_counter(json_t *counters, const char *name, const char *about)
{
    json_t *counter = json_object();

    json_object_set_new(counter, "about", json_string(about));
    json_object_set_new(counter, "total", json_integer(0));
    json_object_set_new(counter, "vcpus", json_array());
    json_object_set_new(counters, name, counter);
}

/* Of one vCPU more. */
static void add_value(json_t *counters, const char *name, uint64_t value)
{
    json_t *counter = json_object_get(counters, name);
    json_t *total = json_object_get(counter, "total");

    json_integer_set(total, json_integer_value(total) + (json_int_t)value);
    json_array_append_new(json_object_get(counter, "vcpus"), json_integer((json_int_t)value));
}

static void add_exits(const struct engine_ops *engine, struct machine *machine, json_t *counters)
{
    for (unsigned i = 0; i < ENGINE_EXITS; i++) {
        g_autofree char *name = g_strconcat(EXIT_PREFIX, engine_exit_names[i], NULL);

        add_counter(counters, name, "times that guest code left the processor for this reason");
    }
    for (unsigned i = 0; i < machine_cpus(machine); i++) {
        uint64_t counts[ENGINE_EXITS] = {0};

        engine->exits(machine_vcpu(machine, i), counts);
        for (unsigned j = 0; j < ENGINE_EXITS; j++) {
            g_autofree char *name = g_strconcat(EXIT_PREFIX, engine_exit_names[j], NULL);

            add_value(counters, name, counts[j]);
        }
    }
}

static void add_counters(const struct engine_ops *engine, struct machine *machine, json_t *counters)
{
    g_autofree uint64_t *values = NULL;
    unsigned count = 0;

    for (; engine->counters[count].name; count++)
        add_counter(counters, engine->counters[count].name, engine->counters[count].about);
    values = g_new0(uint64_t, count);
    for (unsigned i = 0; i < machine_cpus(machine); i++) {
        engine->count(machine_vcpu(machine, i), values);
        for (unsigned j = 0; j < count; j++)
            add_value(counters, engine->counters[j].name, values[j]);
    }
}

void vmm_handle_metrics(void *opaque, struct control_call *call)
{
    struct vmm *vmm = opaque;
    const struct engine_ops *engine = machine_engine(vmm->machine);
    json_t *result = json_object(), *counters = json_object();

    json_object_set_new(result, "engine", json_string(engine->name));
    if (engine->exits)
        add_exits(engine, vmm->machine, counters);
    if (engine->counters)
        add_counters(engine, vmm->machine, counters);
    json_object_set_new(result, "counters", counters);
    control_reply(call, result);
}
