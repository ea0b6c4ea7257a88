// SPDX-License-Identifier: Apache-2.0
/* A small machine for tests of engines: RAM, two ports, a register, up to four vCPUs, and payloads
 * as bytes. Each test runs on every engine that this host has. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/memory.h"
#include "vmm/engine/engine.h"

#define CPUS         4 /* at most */
#define RAM_SIZE     0x100000UL
#define CODE         0x1000U
#define PORT_LOG     0xe9 /* each byte is noted */
#define PORT_KICK    0xea /* the vCPU is kicked */
#define PORT_IN      0xeb
#define PORT_ENDED   0xec /* a vCPU is at its end */
#define MMIO_BASE    0xd0000000UL
#define MMIO_COLLECT 0xd0000100UL /* a write collects what the display finds dirty */

static const struct engine_ops *ops;
static int kvm_fd;                               /* -1: none here */
static const struct engine_debug *fixture_debug; /* of engines that are made next; NULL: none */

static struct fixture {
    struct memory *memory;
    struct clock *clock;
    struct engine *engine;
    struct vcpu *vcpu, *second; /* the first two of vcpus */
    struct vcpu *vcpus[CPUS];
    unsigned count; /* of vcpus */
    char log[64];
    unsigned logged;
    uint64_t mmio_address, mmio_value;
    unsigned mmio_size, eois;
    uint8_t eoi_vector;
    uint64_t hypercall_args[4];
    atomic_uint ended;
} fixture;

static inline void note(char byte)
{
    if (fixture.logged < sizeof(fixture.log) - 1)
        fixture.log[fixture.logged++] = byte;
}

static inline uint64_t mmio_read(void *opaque, uint64_t address, unsigned size)
{
    if (address == MMIO_COLLECT)
        return 0;
    fixture.mmio_address = address;
    fixture.mmio_size = size;
    return 0x1122334455667788;
}

static inline void mmio_write(void *opaque, uint64_t address, unsigned size, uint64_t value)
{
    uint64_t bitmap[4];

    if (address == MMIO_COLLECT) {
        memory_dirty_collect(fixture.memory, MEMORY_CLIENT_DISPLAY, 0, 256, bitmap);
        return;
    }
    fixture.mmio_address = address;
    fixture.mmio_size = size;
    fixture.mmio_value = value;
}

static inline uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    return port == PORT_IN ? 0xa5b6c7d8 : UINT32_MAX;
}

static inline void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    if (port == PORT_LOG)
        note((char)value);
    else if (port == PORT_KICK)
        ops->vcpu_kick(fixture.vcpu);
    else if (port == PORT_ENDED)
        atomic_fetch_add(&fixture.ended, 1);
}

static inline uint8_t extint_acknowledge(void *opaque)
{
    ops->set_extint(fixture.engine, false);
    return 0x21;
}

static inline void eoi_broadcast(void *opaque, uint8_t vector)
{
    fixture.eois++;
    fixture.eoi_vector = vector;
}

static inline uint64_t hypercall(void *opaque, unsigned vcpu, uint64_t number,
                                 const uint64_t args[4])
{
    memcpy(fixture.hypercall_args, args, sizeof(fixture.hypercall_args));
    return number + 1;
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

static inline struct vcpu *create_vcpu(unsigned index)
{
    GError *error = NULL;
    struct vcpu *vcpu = ops->vcpu_create(fixture.engine, index, &error);

    if (!vcpu)
        fail_msg("%s", error->message);
    return vcpu;
}

/* An engine with so many vCPUs on `memory`, which becomes the fixture's. */
static inline void setup_engine(struct memory *memory, unsigned cpus)
{
    struct engine_config config = {.exits = &exits,
                                   .cpus = cpus,
                                   .cpu_model = "default",
                                   .kvm_fd = kvm_fd,
                                   .debug = fixture_debug};
    GError *error = NULL;

    memset(&fixture, 0, sizeof(fixture));
    config.memory = fixture.memory = memory;
    config.clock = fixture.clock = clock_create(NULL);
    clock_resume(fixture.clock);
    fixture.engine = ops->create(&config, &error);
    if (!fixture.engine)
        fail_msg("%s", error->message);
    for (fixture.count = 0; fixture.count < cpus; fixture.count++)
        fixture.vcpus[fixture.count] = create_vcpu(fixture.count);
    fixture.vcpu = fixture.vcpus[0];
    fixture.second = fixture.vcpus[1];
}

static inline int setup_cpus(unsigned cpus)
{
    struct memory *memory = memory_create();

    test_memory_add(memory, MEMORY_RAM, 0, RAM_SIZE);
    setup_engine(memory, cpus);
    return 0;
}

static inline int setup(void **state)
{
    return setup_cpus(1);
}

static inline int setup_two(void **state)
{
    return setup_cpus(2);
}

static inline int setup_four(void **state)
{
    return setup_cpus(4);
}

static inline void teardown_engine(void)
{
    for (unsigned i = CPUS; i-- > 0;)
        ops->vcpu_destroy(fixture.vcpus[i]);
    ops->destroy(fixture.engine);
    clock_destroy(fixture.clock);
}

static inline int teardown(void **state)
{
    teardown_engine();
    memory_destroy(fixture.memory);
    return 0;
}

/* ---- helpers ---- */

static inline struct cpu_state get(void)
{
    struct cpu_state state;

    ops->vcpu_get_state(fixture.vcpu, &state);
    return state;
}

static inline void set(const struct cpu_state *state)
{
    GError *error = NULL;

    if (!ops->vcpu_set_state(fixture.vcpu, state, &error))
        fail_msg("%s", error->message);
}

static inline void put(uint32_t address, const void *bytes, size_t size)
{
    assert_true(memory_load(fixture.memory, address, bytes, size));
}

/* Real-mode code at 0:CODE, stack at 0:0800h. */
static inline void load_real(const void *code, size_t size)
{
    struct cpu_state state = get();

    put(CODE, code, size);
    state.segments[SEG_CS].selector = 0;
    state.segments[SEG_CS].base = 0;
    state.rip = CODE;
    state.gpr[GPR_RSP] = 0x800;
    set(&state);
}

/* 32-bit code at CODE in flat segments, without paging. */
static inline void load_flat(const void *code, size_t size)
{
    struct cpu_state state = get();

    put(CODE, code, size);
    for (unsigned i = 0; i <= SEG_GS; i++)
        state.segments[i] =
            (struct cpu_segment){.selector = i == SEG_CS ? 8 : 16,
                                 .attributes = (i == SEG_CS ? 0x9b : 0x93) | SEGMENT_DB | SEGMENT_G,
                                 .limit = 0xffffffff};
    state.cr0 |= 1;
    state.mp_state = CPU_RUNNABLE;
    state.rip = CODE;
    state.gpr[GPR_RSP] = 0x800;
    set(&state);
}

static inline void run_until_kicked(void)
{
    enum vcpu_exit exit = ops->vcpu_run(fixture.vcpu);

    if (exit == VCPU_EXIT_ERROR)
        fail_msg("%s", ops->vcpu_error(fixture.vcpu));
    assert_int_equal(exit, VCPU_EXIT_KICKED);
}

#define REAL(...)                              \
    do {                                       \
        const uint8_t code_[] = {__VA_ARGS__}; \
        load_real(code_, sizeof(code_));       \
    } while (0)
#define FLAT(...)                              \
    do {                                       \
        const uint8_t code_[] = {__VA_ARGS__}; \
        load_flat(code_, sizeof(code_));       \
    } while (0)

#define OUT_LOG(byte) 0xb0, (byte), 0xe6, PORT_LOG /* mov al, byte; out PORT_LOG, al */
#define OUT_KICK      0xe6, PORT_KICK
#define HLT           0xf4

/* A handler of the real-mode vector at 3000h, which logs `byte`, kicks and returns. */
static inline void install_handler(unsigned vector, char byte)
{
    const uint16_t entry[2] = {0x3000, 0};
    const uint8_t handler[] = {OUT_LOG((uint8_t)byte), OUT_KICK, 0xcf};

    put(vector * 4, entry, sizeof(entry));
    put(0x3000, handler, sizeof(handler));
}

/* The group of tests on each engine that this host has; returns the number of failures. */
#define run_on_engines(tests)                                                           \
    ({                                                                                  \
        int failures_ = 0;                                                              \
        for (unsigned i_ = 0; engines[i_]; i_++) {                                      \
            ops = engines[i_];                                                          \
            if (strcmp(ops->name, "kvm") == 0 && kvm_fd < 0)                            \
                printf("SKIP: engine kvm: no /dev/kvm here\n");                         \
            else                                                                        \
                failures_ += cmocka_run_group_tests_name(ops->name, tests, NULL, NULL); \
        }                                                                               \
        failures_;                                                                      \
    })

#define TEST(name)      cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_TWO(name)  cmocka_unit_test_setup_teardown(name, setup_two, teardown)
#define TEST_FOUR(name) cmocka_unit_test_setup_teardown(name, setup_four, teardown)
