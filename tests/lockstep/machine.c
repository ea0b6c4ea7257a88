// SPDX-License-Identifier: Apache-2.0
/*
 * One side of the test: an engine with one vCPU and its own memory, which runs programs from their
 * first instruction to the kernel's last OUT. Its device answers each access with a number that
 * depends on all accesses before, so that one too many shows.
 *
 * Two threads serve all sides: one kicks what takes too long; the other one, while it is wanted,
 * kicks and interrupts the vCPU at random moments.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/lockstep/lockstep.h"
#include "tests/memory.h"
#include "vmm/engine/engines.h"
#include "vmm/engine/soft/soft.h"

/* What should take a millisecond is endless after so much processor time; whoever interprets gives
 * up first, since translating may be slower where nothing is executed twice. */
#define INTERPRETER_NS 50000000L
#define TRANSLATOR_NS  5000000000L
#define WAIT_US        2000000  /* and more, of time: one that waits for nothing */
#define STUCK_US       10000000 /* after which a kick was not heard */
#define LOOK_US        50000
#define PESTERS        24 /* of a program; then seldom */
#define REST_US        300

struct side {
    const struct engine_ops *ops;
    struct memory *memory;
    struct clock *clock;
    struct engine *engine;
    struct vcpu *vcpu;
    struct engine_debug debug;
    uint8_t *kernel, *data;
    uint64_t misc_enable; /* what the processor model has in this register */
    int64_t patience;     /* INTERPRETER_NS or TRANSLATOR_NS */
    bool finished;
    uint64_t devices;
    struct diff_random random; /* of what is done when it was kicked */
};

static void fatal(const char *what, const GError *error)
{
    fprintf(stderr, "anima-lockstep: %s: %s\n", what, error ? error->message : "failed");
    exit(2);
}

/* ---- the threads ---- */

static _Atomic(struct side *) running, pestered;
static atomic_int_fast64_t running_since; /* by the clock of the thread that runs programs */
static atomic_int_fast64_t waiting_since; /* by the time of day */
static atomic_bool too_long;
static clockid_t running_clock;

static int64_t running_time(void)
{
    struct timespec time;

    clock_gettime(running_clock, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void nap(unsigned microseconds)
{
    const struct timespec time = {.tv_sec = microseconds / 1000000,
                                  .tv_nsec = microseconds % 1000000 * 1000};

    nanosleep(&time, NULL);
}

static _Atomic uint64_t running_seed, running_number;

/* A vCPU that does not come back when it is kicked cannot be helped. */
static _Noreturn void tell_stuck(void)
{
    printf("STUCK --seed %lu --case %lu: it does not hear kicks\n", atomic_load(&running_seed),
           atomic_load(&running_number));
    fflush(stdout);
    _exit(1);
}

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER; /* held while it looks at a side */

static void *watch(void *opaque)
{
    unsigned kicks = 0;

    for (;;) {
        struct side *side;

        pthread_mutex_lock(&watch_lock);
        side = atomic_load(&running);

        if (side && (running_time() - atomic_load(&running_since) > side->patience ||
                     g_get_monotonic_time() - atomic_load(&waiting_since) >
                         WAIT_US + side->patience / 250)) {
            atomic_store(&too_long, true);
            side->ops->vcpu_kick(side->vcpu);
            if (++kicks * LOOK_US > STUCK_US)
                tell_stuck();
        } else {
            kicks = 0;
        }
        pthread_mutex_unlock(&watch_lock);
        nap(LOOK_US);
    }
    return NULL;
}

static void pester_once(struct side *side, struct diff_random *random)
{
    switch (random_below(random, 3)) {
    case 0:
        side->ops->vcpu_kick(side->vcpu);
        break;
    case 1:
        side->ops->msi(side->engine, 0xfee00000, VECTOR_ASYNC);
        break;
    default:
        side->ops->nmi(side->vcpu);
        break;
    }
}

static unsigned pesters; /* by the lock */
static pthread_mutex_t pester_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pester_wanted = PTHREAD_COND_INITIALIZER;

static void *pester(void *opaque)
{
    struct diff_random random = {.state = 1};
    bool rest;

    for (;;) {
        pthread_mutex_lock(&pester_lock);
        while (!atomic_load(&pestered))
            pthread_cond_wait(&pester_wanted, &pester_lock);
        rest = pesters == 0;
        pesters -= !rest;
        pester_once(atomic_load(&pestered), &random);
        pthread_mutex_unlock(&pester_lock);
        if (rest)
            nap(REST_US);
        for (unsigned i = random_below(&random, 4000); i; i--)
            __builtin_ia32_pause();
    }
    return NULL;
}

static void set_pestered(struct side *side)
{
    pthread_mutex_lock(&pester_lock);
    atomic_store(&pestered, side);
    pesters = PESTERS;
    pthread_cond_signal(&pester_wanted);
    pthread_mutex_unlock(&pester_lock);
}

static void start_threads(void)
{
    static bool started;
    pthread_t thread;

    if (started)
        return;
    started = true;
    pthread_getcpuclockid(pthread_self(), &running_clock);
    if (pthread_create(&thread, NULL, watch, NULL) || pthread_create(&thread, NULL, pester, NULL))
        fatal("threads", NULL);
}

/* ---- the device ---- */

static uint64_t access_device(struct side *side, uint64_t address, uint64_t size, uint64_t value)
{
    side->devices = (side->devices ^ address) * 0x9e3779b97f4a7c15;
    side->devices = (side->devices ^ size << 32 ^ value) * 0xd1342543de82ef95;
    return side->devices >> 8;
}

static uint64_t mmio_read(void *opaque, uint64_t address, unsigned size)
{
    return access_device(opaque, address, size, 0);
}

static void mmio_write(void *opaque, uint64_t address, unsigned size, uint64_t value)
{
    access_device(opaque, address, size | 16, value);
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    return (uint32_t)access_device(opaque, port, size | 32, 0);
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    struct side *side = opaque;

    if (port == PORT_FINISH) {
        side->finished = true;
        side->ops->vcpu_kick(side->vcpu);
    } else if (port == PORT_INTERRUPT) {
        side->ops->msi(side->engine, 0xfee00000, VECTOR_SYNC);
    } else {
        access_device(side, port, size | 48, value);
    }
}

static uint8_t extint_acknowledge(void *opaque)
{
    return 0;
}

static void eoi_broadcast(void *opaque, uint8_t vector)
{
}

static uint64_t hypercall(void *opaque, unsigned vcpu, uint64_t number, const uint64_t args[4])
{
    return access_device(opaque, number, 64, args[0]);
}

static const struct exit_ops exits = {
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .pio_read = pio_read,
    .pio_write = pio_write,
    .extint_acknowledge = extint_acknowledge,
    .eoi_broadcast = eoi_broadcast,
    .hypercall = hypercall,
};

/* ---- sides ---- */

struct side *side_create(const char *switches)
{
    struct engine_config config = {.exits = &exits, .cpus = 1, .cpu_model = "host", .kvm_fd = -1};
    struct side *side = g_new0(struct side, 1);
    struct cpu_state state;
    GError *error = NULL;

    start_threads();
    side->ops = &soft_engine_ops;
    config.opaque = side;
    config.debug = &side->debug;
    side->debug = (struct engine_debug){.switches = switches, .log = -1, .perf_map = -1};
    config.memory = side->memory = memory_create();
    config.clock = side->clock = clock_create_manual(0);
    side->data = test_memory_add(side->memory, MEMORY_RAM, DATA_PHYSICAL, DATA_SIZE);
    side->kernel = test_memory_add(side->memory, MEMORY_RAM, KERNEL_PHYSICAL, KERNEL_SIZE);
    side->engine = side->ops->create(&config, &error);
    if (!side->engine)
        fatal("engine", error);
    side->vcpu = side->ops->vcpu_create(side->engine, 0, &error);
    if (!side->vcpu)
        fatal("vCPU", error);
    side->ops->vcpu_get_state(side->vcpu, &state);
    side->misc_enable = state.msrs.misc_enable;
    side->patience = side->vcpu->cpu->translator ? TRANSLATOR_NS : INTERPRETER_NS;
    return side;
}

void side_destroy(struct side *side)
{
    /* It is not running; who still looks at it shall be done. */
    pthread_mutex_lock(&watch_lock);
    pthread_mutex_unlock(&watch_lock);
    side->ops->vcpu_destroy(side->vcpu);
    side->ops->destroy(side->engine);
    clock_destroy(side->clock);
    memory_destroy(side->memory);
    g_free(side);
}

static void load(struct side *side, const struct program *program)
{
    struct cpu_state state = program->state;
    GError *error = NULL;

    memcpy(side->kernel, program->kernel, KERNEL_SIZE);
    memcpy(side->data, program->data, DATA_SIZE);
    state.msrs.misc_enable = side->misc_enable;
    if (!side->ops->vcpu_set_state(side->vcpu, &state, &error))
        fatal("state", error);
    side->finished = false;
    side->devices = 1;
    random_seed(&side->random, program->seed, ~program->number);
}

/* What another process, or the debugger, may do with a vCPU that was kicked: nothing of it shows.
 */
static void handle_kick(struct side *side)
{
    struct cpu_state state;

    if (random_below(&side->random, 4))
        return;
    side->ops->vcpu_get_state(side->vcpu, &state);
    if (random_below(&side->random, 2) && !side->ops->vcpu_set_state(side->vcpu, &state, NULL))
        fatal("state of a kicked vCPU", NULL);
}

void side_run(struct side *side, const struct program *program, bool asynchronous,
              struct outcome *out)
{
    enum vcpu_exit exit;

    load(side, program);
    out->returns = 0;
    atomic_store(&running_seed, program->seed);
    atomic_store(&running_number, program->number);
    atomic_store(&too_long, false);
    atomic_store(&running_since, running_time());
    atomic_store(&waiting_since, g_get_monotonic_time());
    atomic_store(&running, side);
    if (asynchronous)
        set_pestered(side);
    do {
        exit = side->ops->vcpu_run(side->vcpu);
        out->returns++;
        if (exit == VCPU_EXIT_KICKED && asynchronous && !side->finished)
            handle_kick(side);
    } while (exit == VCPU_EXIT_KICKED && !side->finished && !atomic_load(&too_long));
    if (asynchronous)
        set_pestered(NULL);
    atomic_store(&running, NULL);
    out->finished = side->finished || exit == VCPU_EXIT_SHUTDOWN;
    out->shut_down = exit == VCPU_EXIT_SHUTDOWN;
    out->devices = side->devices;
    out->kernel = side->kernel;
    out->data = side->data;
    side->ops->vcpu_get_state(side->vcpu, &out->state);
}

const struct soft_counters *side_counters(const struct side *side)
{
    return &((struct soft_engine *)side->engine)->vcpus[0]->cpu->counters;
}
