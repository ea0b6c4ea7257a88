// SPDX-License-Identifier: Apache-2.0
/*
 * The engine "soft": our own x86-64 processors, one thread each, behind the interface of engine.h.
 * It needs nothing of the host but the user-mode instructions that guests are shown.
 */
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/window.h"
#include "vmm/engine/soft/vector.h"

#include "vmm/engine/engines.h"
#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/msr.h"
#include "vmm/engine/soft/translator/code_cache.h"
#include "vmm/engine/soft/translator/translator.h"

#define CPUS_MAX 255 /* APIC ids of 8 bits; 255 addresses all */

static struct soft_engine *soft(const struct engine *engine)
{
    return (struct soft_engine *)engine;
}

/* ---- the engine ---- */

static void engine_destroy(struct engine *base)
{
    struct soft_engine *engine = soft(base);

    if (!engine)
        return;
    memory_unlisten(engine->config.memory, engine);
    soft_apics_destroy(engine->apics);
    pthread_mutex_destroy(&engine->exclusive_lock);
    pthread_mutex_destroy(&engine->marks_lock);
    soft_windows_destroy(engine->windows);
    g_free(engine->vcpus);
    g_free(engine);
}

/* False and `error` when they cannot be understood. */
static bool read_switches(const struct engine_debug *debug, struct soft_switches *switches,
                          GError **error)
{
    if (!soft_switches_parse(debug ? debug->switches : NULL, switches, error))
        return false;
    if (debug) {
        switches->log = debug->log;
        switches->perf_map = debug->perf_map;
    }
    return true;
}

static struct engine *engine_create(const struct engine_config *config, GError **error)
{
    struct soft_switches switches;
    uint32_t words[CPU_WORDS];
    struct memory_listener listener = soft_listener;

    if (config->cpus < 1 || config->cpus > CPUS_MAX) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "engine soft runs 1 to %u CPUs, not %u", CPUS_MAX, config->cpus);
        return NULL;
    }
    if (!read_switches(config->debug, &switches, error))
        return NULL;
    struct soft_engine *engine = g_new0(struct soft_engine, 1);

    engine->config = *config;
    engine->switches = switches;
    engine->count = config->cpus;
    engine->vcpus = g_new0(struct vcpu *, config->cpus);
    pthread_mutex_init(&engine->exclusive_lock, NULL);
    pthread_mutex_init(&engine->marks_lock, NULL);
    if (!switches.nowindows && !switches.interp && soft_windows_supported())
        engine->windows = soft_windows_create(config->memory);
    soft_vector_init();
    engine->apics = soft_apics_create(config->cpus);
    listener.opaque = engine;
    soft_features(words);
    if (!engine_define_cpu(config, words, true, &engine->model, error) ||
        !memory_listen(config->memory, &listener, error)) {
        engine_destroy((struct engine *)engine);
        return NULL;
    }
    return (struct engine *)engine;
}

static const struct cpu_definition *engine_cpu(const struct engine *engine)
{
    return &soft(engine)->model;
}

static void engine_msi(struct engine *engine, uint64_t address, uint32_t data)
{
    /* SDM 3A, 11.11. The redirection hint with logical mode asks for lowest priority anyway, which
     * the delivery mode says. */
    const struct soft_message message = {
        .destination = address >> 12 & 0xff,
        .logical = address >> 2 & 1,
        .level = data >> 15 & 1,
        .delivery = data >> 8 & 7,
        .vector = data & 0xff,
    };

    soft_apics_send(soft(engine)->apics, &message);
}

static void engine_set_extint(struct engine *engine, bool level)
{
    soft_apics_set_extint(soft(engine)->apics, level);
}

/* Nothing to prepare: each EOI of a level-triggered vector is broadcast. */
static void engine_ioapic_route(struct engine *engine, unsigned pin, uint64_t address,
                                uint32_t data, bool masked, bool level)
{
}

/* ---- a vCPU ---- */

static void vcpu_destroy(struct vcpu *vcpu)
{
    if (!vcpu)
        return;
    struct soft_cpu *cpu = vcpu->cpu;

    if (cpu) {
        cpu->engine->vcpus[cpu->index] = NULL;
        soft_window_leave(cpu);
        soft_lapic_destroy(cpu->lapic);
        soft_blocks_destroy(cpu->blocks);
        soft_translator_destroy(cpu->translator);
        soft_cpu_destroy(cpu);
    }
    g_free(vcpu);
}

static void set_surroundings(struct soft_cpu *cpu, struct soft_engine *engine, unsigned index)
{
    cpu->engine = engine;
    cpu->memory = engine->config.memory;
    cpu->clock = engine->config.clock;
    cpu->model = &engine->model;
    cpu->exits = &soft_exits;
    cpu->exits_opaque = cpu;
    cpu->index = index;
    cpu->delivering = -1;
    cpu->lapic_page = SOFT_TLB_NONE;
    soft_tlb_init(cpu);
}

/* Without one, which is no error, the vCPU interprets: code_cache.c has told why. */
static void add_translator(struct soft_cpu *cpu)
{
    if (cpu->low && !cpu->engine->switches.interp)
        cpu->translator = soft_translator_create(cpu, NULL);
    if (cpu->translator && cpu->engine->windows)
        soft_window_join(cpu->engine->windows, cpu);
}

static struct vcpu *vcpu_create(struct engine *base, unsigned index, GError **error)
{
    struct soft_engine *engine = soft(base);
    struct cpu_state state;

    if (index >= engine->count || engine->vcpus[index]) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "vCPU %u: no such place", index);
        return NULL;
    }
    struct vcpu *vcpu = g_new0(struct vcpu, 1);

    vcpu->outside = 1;
    vcpu->cpu = soft_cpu_create();
    if (vcpu->cpu) {
        set_surroundings(vcpu->cpu, engine, index);
        vcpu->cpu->blocks = soft_blocks_create(vcpu->cpu);
        soft_lapic_create(engine->apics, vcpu->cpu);
        add_translator(vcpu->cpu);
    }
    if (!vcpu->cpu || !vcpu->cpu->blocks || !vcpu->cpu->lapic) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOMEM, "vCPU %u: out of memory", index);
        vcpu_destroy(vcpu);
        return NULL;
    }
    vcpu->cpu->vcpu = vcpu;
    engine->vcpus[index] = vcpu;
    cpu_state_reset(&state, index == 0, index, engine->model.signature);
    if (!soft_set_state(vcpu->cpu, &state, error)) {
        vcpu_destroy(vcpu);
        return NULL;
    }
    return vcpu;
}

static enum vcpu_exit vcpu_run(struct vcpu *vcpu)
{
    soft_set_current(vcpu->cpu);
    soft_enter(vcpu->cpu);
    enum vcpu_exit exit = soft_run(vcpu->cpu);
    soft_leave(vcpu->cpu);
    soft_set_current(NULL);
    return exit;
}

static void vcpu_kick(struct vcpu *vcpu)
{
    soft_request(vcpu->cpu, SOFT_REQUEST_KICK);
}

static const char *vcpu_error(struct vcpu *vcpu)
{
    return vcpu->cpu->error;
}

/* What the vCPU would do at once when it ran on is done: that it was asked for is no part of the
 * canonical state. */
static void complete_requests(struct soft_cpu *cpu)
{
    const uint32_t here = SOFT_REQUEST_INIT | SOFT_REQUEST_SIPI | SOFT_REQUEST_TIMER;
    uint32_t requests = atomic_fetch_and(&cpu->requests, ~here);

    if (requests & SOFT_REQUEST_INIT)
        soft_take_init(cpu);
    if (requests & SOFT_REQUEST_SIPI)
        soft_take_sipi(cpu);
    soft_lapic_timer(cpu);
}

static void vcpu_get_state(struct vcpu *vcpu, struct cpu_state *state)
{
    complete_requests(vcpu->cpu);
    soft_get_state(vcpu->cpu, state);
}

static bool vcpu_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    return soft_set_state(vcpu->cpu, state, error);
}

static bool vcpu_set_debug(struct vcpu *vcpu, const struct vcpu_debug *debug, GError **error)
{
    if (debug->breakpoints > G_N_ELEMENTS(debug->address)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "at most %zu breakpoints",
                    G_N_ELEMENTS(debug->address));
        return false;
    }
    vcpu->cpu->debug = *debug;
    vcpu->cpu->debug_told = vcpu->cpu->debug_moved = false;
    return true;
}

static bool vcpu_translate(struct vcpu *vcpu, uint64_t linear, uint64_t *physical)
{
    /* Memory may have been remapped since it was parked. */
    if (atomic_load(&vcpu->flush_wanted) != atomic_load(&vcpu->flush_done))
        soft_take_flush(vcpu->cpu);
    return soft_translate(vcpu->cpu, linear, physical);
}

static void vcpu_count(const struct vcpu *vcpu, uint64_t *values)
{
    const uint64_t *counters = (const uint64_t *)&vcpu->cpu->counters;

    for (unsigned i = 0; i < SOFT_COUNTERS_COUNT; i++)
        values[i] = __atomic_load_n(&counters[i], __ATOMIC_RELAXED);
}

static const struct engine_counter counters[] = {
#define SOFT_COUNTER_TEXT(name, about) {#name, about},
    SOFT_COUNTERS(SOFT_COUNTER_TEXT)
#undef SOFT_COUNTER_TEXT
        {0},
};

static void vcpu_nmi(struct vcpu *vcpu)
{
    soft_request(vcpu->cpu, SOFT_REQUEST_NMI);
}

static bool engine_features(int kvm_fd, uint32_t words[CPU_WORDS], GError **error)
{
    soft_features(words);
    return true;
}

const struct engine_ops soft_engine_ops = {
    .name = "soft",
    .prepare = code_cache_prepare,
    .features = engine_features,
    .create = engine_create,
    .destroy = engine_destroy,
    .cpu = engine_cpu,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = vcpu_run,
    .vcpu_kick = vcpu_kick,
    .vcpu_error = vcpu_error,
    .vcpu_get_state = vcpu_get_state,
    .vcpu_set_state = vcpu_set_state,
    .vcpu_set_debug = vcpu_set_debug,
    .vcpu_translate = vcpu_translate,
    .msi = engine_msi,
    .set_extint = engine_set_extint,
    .ioapic_route = engine_ioapic_route,
    .nmi = vcpu_nmi,
    .counters = counters,
    .count = vcpu_count,
};
