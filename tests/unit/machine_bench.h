// SPDX-License-Identifier: Apache-2.0
/*
 * A bench for machines: an engine whose vCPUs execute no code but do what the test tells them to
 * (an access to a port, an exit), then wait for a kick, as in HLT; and a listener that counts.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
// cmocka wants the four above
#include <cmocka.h>

#include "vmm/machine/machine_stream.h"
#include "vmm/machine/pc/layout.h"

/* ---- the engine ---- */

struct vcpu {
    struct engine *engine;
    unsigned index;
    GMutex lock;
    GCond wake;
    bool kicked, running;
    /* What the vCPU does next, on its thread; NULL: wait. */
    enum vcpu_exit (*act)(struct engine *engine);
    unsigned acts;
    struct cpu_state state;
};

struct engine {
    struct engine_config config;
    struct cpu_definition cpu;
    struct vcpu *vcpus[4];
    bool extint;
    unsigned messages;
};

static struct engine *the_engine;

static inline struct engine *fake_create(const struct engine_config *config, GError **error)
{
    struct engine *engine = g_new0(struct engine, 1);
    engine->config = *config;
    g_strlcpy(engine->cpu.name, "fake-1", sizeof(engine->cpu.name));
    the_engine = engine;
    return engine;
}

static inline void fake_destroy(struct engine *engine)
{
    g_free(engine);
}

static const struct cpu_definition *fake_cpu(const struct engine *engine)
{
    return &engine->cpu;
}

/* How often it has acted. */
static inline unsigned acts_of(unsigned cpu)
{
    struct vcpu *vcpu = the_engine->vcpus[cpu];

    g_mutex_lock(&vcpu->lock);
    unsigned acts = vcpu->acts;
    g_mutex_unlock(&vcpu->lock);
    return acts;
}

static inline struct vcpu *fake_vcpu_create(struct engine *engine, unsigned index, GError **error)
{
    struct vcpu *vcpu = g_new0(struct vcpu, 1);
    vcpu->engine = engine;
    vcpu->index = index;
    g_mutex_init(&vcpu->lock);
    g_cond_init(&vcpu->wake);
    cpu_state_reset(&vcpu->state, index == 0, index, 0x600);
    engine->vcpus[index] = vcpu;
    return vcpu;
}

static inline void fake_vcpu_destroy(struct vcpu *vcpu)
{
    g_mutex_clear(&vcpu->lock);
    g_cond_clear(&vcpu->wake);
    g_free(vcpu);
}

static inline enum vcpu_exit fake_run(struct vcpu *vcpu)
{
    enum vcpu_exit exit = VCPU_EXIT_KICKED;

    g_mutex_lock(&vcpu->lock);
    vcpu->running = true;
    while (!vcpu->kicked && !vcpu->act)
        g_cond_wait(&vcpu->wake, &vcpu->lock);
    if (!vcpu->kicked) {
        enum vcpu_exit (*act)(struct engine *) = vcpu->act;
        vcpu->act = NULL;
        vcpu->acts++;
        g_mutex_unlock(&vcpu->lock);
        exit = act(vcpu->engine);
        g_mutex_lock(&vcpu->lock);
    }
    vcpu->kicked = false;
    vcpu->running = false;
    g_mutex_unlock(&vcpu->lock);
    return exit;
}

static inline void fake_kick(struct vcpu *vcpu)
{
    g_mutex_lock(&vcpu->lock);
    vcpu->kicked = true;
    g_cond_signal(&vcpu->wake);
    g_mutex_unlock(&vcpu->lock);
}

static const char *fake_error(struct vcpu *vcpu)
{
    return "the engine broke";
}

static inline void fake_get_state(struct vcpu *vcpu, struct cpu_state *state)
{
    assert_false(vcpu->running);
    *state = vcpu->state;
}

static inline bool fake_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    assert_false(vcpu->running);
    vcpu->state = *state;
    return true;
}

static inline void fake_msi(struct engine *engine, uint64_t address, uint32_t data)
{
    engine->messages++;
}

static inline void fake_extint(struct engine *engine, bool level)
{
    engine->extint = level;
}

static const struct engine_ops fake_engine = {
    .name = "fake",
    .create = fake_create,
    .destroy = fake_destroy,
    .cpu = fake_cpu,
    .vcpu_create = fake_vcpu_create,
    .vcpu_destroy = fake_vcpu_destroy,
    .vcpu_run = fake_run,
    .vcpu_kick = fake_kick,
    .vcpu_error = fake_error,
    .vcpu_get_state = fake_get_state,
    .vcpu_set_state = fake_set_state,
    .msi = fake_msi,
    .set_extint = fake_extint,
};

/* ---- the bench ---- */

struct bench {
    struct machine_config config;
    struct machine *machine;
    unsigned changes, restarts, ends;
    enum machine_state state;
    enum machine_end end;
    int status;
    char *reason;
};

static inline void on_changed(void *opaque, enum machine_state state, const char *reason)
{
    struct bench *bench = opaque;
    bench->changes++;
    bench->state = state;
}

static inline void on_restarted(void *opaque, const char *reason)
{
    ((struct bench *)opaque)->restarts++;
}

static inline void on_ended(void *opaque, enum machine_end end, int status, const char *reason)
{
    struct bench *bench = opaque;
    bench->ends++;
    bench->end = end;
    bench->status = status;
    g_free(bench->reason);
    bench->reason = g_strdup(reason);
}

/* A multiboot kernel by address fields: a header and its code, at 1 MiB. */
static inline int kernel_of(const void *code, size_t size)
{
    const uint32_t flags = 1U << 16, base = 0x100000;
    const uint32_t header[] = {0x1BADB002, flags,    -(0x1BADB002 + flags), base, base, 0,
                               0,          base + 32};
    int fd = memfd_create("kernel", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, header, sizeof(header)), sizeof(header));
    assert_int_equal(write(fd, code, size), size);
    return fd;
}

static inline int tiny_kernel(void)
{
    return kernel_of("\xF4\xF4\xF4\xF4", 4);
}

static inline int bench_setup(void **state)
{
    struct bench *bench = g_new0(struct bench, 1);

    bench->config = (struct machine_config){
        .name = "test",
        .engine = &fake_engine,
        .cpu_model = "default",
        .cpus = 2,
        .memory_size = 16 << 20,
        .kernel = {.fd = tiny_kernel(), .name = "tiny"},
        .initrd = {.fd = -1},
        .debug_exit = true,
        .pvpanic = true,
        .listener = {.changed = on_changed,
                     .restarted = on_restarted,
                     .ended = on_ended,
                     .opaque = bench},
    };
    *state = bench;
    return 0;
}

static inline int bench_teardown(void **state)
{
    struct bench *bench = *state;

    machine_destroy(bench->machine);
    close(bench->config.kernel.fd);
    g_free(bench->reason);
    g_free(bench);
    return 0;
}

static inline void make(struct bench *bench)
{
    GError *error = NULL;

    bench->machine = machine_create(&bench->config, &error);
    if (error)
        fail_msg("%s", error->message);
    assert_non_null(bench->machine);
}

/* Have a vCPU do something. */
static inline void act(unsigned cpu, enum vcpu_exit (*what)(struct engine *engine))
{
    struct vcpu *vcpu = the_engine->vcpus[cpu];

    g_mutex_lock(&vcpu->lock);
    vcpu->act = what;
    g_cond_signal(&vcpu->wake);
    g_mutex_unlock(&vcpu->lock);
}

/* Serve the control thread's context until `*counter` is `wanted`. */
static inline void serve_until(const unsigned *counter, unsigned wanted)
{
    while (*counter != wanted)
        g_main_context_iteration(NULL, TRUE);
}

static inline enum vcpu_exit write_reset(struct engine *engine)
{
    engine->config.exits->pio_write(engine->config.opaque, PC_PORT_RESET, 1, 0x06);
    return VCPU_EXIT_KICKED;
}

static inline enum vcpu_exit write_power_off(struct engine *engine)
{
    engine->config.exits->pio_write(engine->config.opaque, PC_PORT_ACPI_PM + 4, 2,
                                    PC_SLP_TYP_S5 << 10 | 1 << 13);
    return VCPU_EXIT_KICKED;
}

static inline enum vcpu_exit write_debug_exit(struct engine *engine)
{
    engine->config.exits->pio_write(engine->config.opaque, PC_PORT_DEBUG_EXIT, 4, 21);
    return VCPU_EXIT_KICKED;
}

static inline enum vcpu_exit write_panic(struct engine *engine)
{
    engine->config.exits->pio_write(engine->config.opaque, PC_PORT_PVPANIC, 1, 1);
    return VCPU_EXIT_KICKED;
}

static inline enum vcpu_exit triple_fault(struct engine *engine)
{
    return VCPU_EXIT_SHUTDOWN;
}

static inline enum vcpu_exit engine_error(struct engine *engine)
{
    return VCPU_EXIT_ERROR;
}

static inline enum vcpu_exit meet_breakpoint(struct engine *engine)
{
    return VCPU_EXIT_DEBUG;
}

static inline bool cpus_are_parked(void)
{
    bool parked = true;
    for (unsigned i = 0; i < 2; i++) {
        g_mutex_lock(&the_engine->vcpus[i]->lock);
        parked = parked && !the_engine->vcpus[i]->running;
        g_mutex_unlock(&the_engine->vcpus[i]->lock);
    }
    return parked;
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)
