// SPDX-License-Identifier: Apache-2.0
/* Model-specific registers of the software CPU: what exists, what is refused, TSC, kvmclock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "tests/memory.h"
#include "vmm/engine/soft/msr.h"
#include "vmm/engine/soft/soft.h"

#define RAM_SIZE 0x10000UL

static struct memory *memory;
static struct clock *manual;
static struct engine *engine;
static struct vcpu *vcpu;
static struct soft_cpu *cpu;
static const struct engine_ops *ops;

static int setup(void **state)
{
    static const struct exit_ops exits;
    struct engine_config config = {.exits = &exits, .cpus = 1, .cpu_model = "default"};

    config.memory = memory = memory_create();
    test_memory_add(memory, MEMORY_RAM, 0, RAM_SIZE);
    config.clock = manual = clock_create_manual(1700000000 * NS_PER_SECOND);
    ops = engine_find("soft", -1, &(const char *){NULL}, NULL);
    engine = ops->create(&config, NULL);
    assert_non_null(engine);
    vcpu = ops->vcpu_create(engine, 0, NULL);
    assert_non_null(vcpu);
    cpu = vcpu->cpu;
    return 0;
}

static int teardown(void **state)
{
    ops->vcpu_destroy(vcpu);
    ops->destroy(engine);
    clock_destroy(manual);
    memory_destroy(memory);
    return 0;
}

static void be(enum cpu_vendor vendor)
{
    ((struct soft_engine *)engine)->model.vendor = vendor;
}

static uint64_t rd(uint32_t index)
{
    uint64_t value = 0xdead;

    if (!soft_rdmsr(cpu, index, &value))
        fail_msg("RDMSR %x raised #GP", index);
    return value;
}

static void assert_unreadable(uint32_t index)
{
    uint64_t value;

    if (soft_rdmsr(cpu, index, &value))
        fail_msg("RDMSR %x gave %lx", index, value);
}

static void assert_takes(uint32_t index, uint64_t value)
{
    if (!soft_wrmsr(cpu, index, value))
        fail_msg("WRMSR %x, %lx raised #GP", index, value);
    assert_int_equal(rd(index), value);
}

static void assert_refuses(uint32_t index, uint64_t value)
{
    if (soft_wrmsr(cpu, index, value))
        fail_msg("WRMSR %x, %lx was taken", index, value);
}

static void registers_hold_what_they_take(void **state)
{
    static const struct {
        uint32_t index;
        uint64_t value;
    } cases[] = {
        {0x174, 0x10},
        {0x17a, 5},
        {0x277, 0x0006050401000607},
        {0x250, 0x0606050401000606},
        {0x26f, 0x0606060606060606},
        {0x200, 0x80000006},
        {0x20f, 0xffffff800},
        {0x2ff, 0xc06},
        {0xc0000081, 0x0023001000000000},
        {0xc0000082, 0xffffffff81000000},
        {0xc0000083, 0x7fffffffffff},
        {0xc0000084, 0x47700},
        {0xc0000100, 0xffff800000000000},
        {0xc0000101, 0x123456789000},
        {0xc0000102, 0xffff888000000000},
        {0xc0000103, 0x12345678},
        {0xc0000080, 0x901},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_takes(cases[i].index, cases[i].value);
}

static void reserved_bits_and_impossible_values_are_refused(void **state)
{
    static const struct {
        uint32_t index;
        uint64_t value;
    } cases[] = {
        {0x174, 1UL << 32},
        {0x179, 1},
        {0x17a, 8},
        {0xfe, 1},
        {0x277, 2},
        {0x277, 0x0300000000000000},
        {0x250, 7},
        {0x250, 2UL << 56},
        {0x200, 2},
        {0x200, 0x106},
        {0x200, 1UL << 52},
        {0x201, 0x400},
        {0x201, 1UL << 52},
        {0x2ff, 0x1000},
        {0x2ff, 0xc02},
        {0xc0000080, 1 << 1},
        {0xc0000080, 1UL << 40},
        {0xc0000082, 0x800000000000},
        {0xc0000083, 0x800000000000},
        {0xc0000084, 1UL << 32},
        {0xc0000100, 0x800000000000},
        {0xc0000101, 1UL << 63},
        {0xc0000102, 0x8000000000000000},
        {0x1d9, 1},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refuses(cases[i].index, cases[i].value);
}

static void what_is_not_in_the_table_does_not_exist(void **state)
{
    static const uint32_t unknown[] = {0,          0x2,        0x49,       0xc1,       0x186,
                                       0x17b,      0x210,      0x251,      0x400,      0x4b564d02,
                                       0x4b564d03, 0x4b564d04, 0x4b564d05, 0xc0000085, 0xc0000104,
                                       0xc0010111, 0xffffffff};

    for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        assert_unreadable(unknown[i]);
}

/* Random numbers and values do no more than raise #GP, and whatever a guest can write can be saved
 * and loaded. */
static void random_accesses_leave_a_state_that_loads(void **unused)
{
    struct cpu_state state;
    GError *error = NULL;
    uint32_t seed = 1;

    for (unsigned i = 0; i < 200000; i++) {
        uint64_t value;

        seed = seed * 1664525 + 1013904223;
        uint32_t index = seed >> 8 & 0x1fff;
        index |= (seed & 3) == 1 ? 0xc0000000 : (seed & 3) == 2 ? 0xc0010000 : 0;
        soft_wrmsr(cpu, index, (uint64_t)seed << 32 | seed * 7);
        soft_rdmsr(cpu, index, &value);
    }
    ops->vcpu_get_state(vcpu, &state);
    if (!ops->vcpu_set_state(vcpu, &state, &error))
        fail_msg("%s", error->message);
}

static void every_slot_of_the_state_is_a_register_of_some_model(void **state)
{
    unsigned found = 0;
    uint64_t value;

    for (unsigned i = 0; i < cpu_msr_slots_count; i++) {
        be(CPU_VENDOR_INTEL);
        bool readable = soft_rdmsr(cpu, cpu_msr_slots[i].index, &value);
        be(CPU_VENDOR_AMD);
        found += readable || soft_rdmsr(cpu, cpu_msr_slots[i].index, &value);
    }
    /* Not shown by this engine: four of KVM's. */
    assert_int_equal(found, cpu_msr_slots_count - 4);
}

static void vendors_differ(void **state)
{
    be(CPU_VENDOR_INTEL);
    assert_unreadable(0xc0010015);
    assert_int_equal(rd(0x17), 0);
    assert_refuses(0xc0000103, 1UL << 32);
    assert_refuses(0x176, 0x800000000000);
    assert_true(soft_wrmsr(cpu, 0x8b, 0));
    assert_int_equal(rd(0x1a0), 0x1801);
    assert_takes(0x1a0, 0x1800);
    assert_takes(0x1d9, 2); /* BTF */
    assert_refuses(0x1a0, 0x1801 | 1 << 16);
    be(CPU_VENDOR_AMD);
    assert_unreadable(0x17);
    assert_unreadable(0x1a0);
    assert_int_equal(rd(0xc0010015), 1 << 24);
    assert_int_equal(rd(0xc0010010), 0);
    assert_takes(0xc0011029, 1 << 1 | 1 << 9);
    assert_true(soft_wrmsr(cpu, 0xc001001f, 1UL << 46));
    assert_int_equal(rd(0xc001001f), 0);
    assert_true(soft_wrmsr(cpu, 0x176, 0x1234567890));
    assert_int_equal(rd(0x176), 0x34567890);
}

static void the_tsc_counts_and_is_adjusted(void **state)
{
    uint64_t before = rd(0x10);

    clock_step(manual, 1000);
    assert_int_equal(rd(0x10), before + 1000);
    assert_true(soft_wrmsr(cpu, 0x10, 500000));
    assert_int_equal(rd(0x10), 500000);
    assert_int_equal(rd(0x3b), 500000 - before - 1000);
    assert_true(soft_wrmsr(cpu, 0x3b, 0));
    assert_int_equal(rd(0x10), before + 1000);
    clock_pause(manual);
    clock_step(manual, 1000);
    assert_int_equal(rd(0x10), before + 1000);
}

struct pvclock {
    uint32_t version, pad;
    uint64_t tsc_timestamp, system_time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad2[2];
};

/* What a guest makes of the page. */
static uint64_t guest_time(uint64_t address)
{
    struct pvclock page;

    assert_true(memory_read(memory, address, &page, sizeof(page)));
    assert_int_equal(page.version & 1, 0);
    assert_int_equal(page.flags, 1);
    uint64_t delta = rd(0x10) - page.tsc_timestamp;
    delta = page.shift < 0 ? delta >> -page.shift : delta << page.shift;
    return page.system_time + (uint64_t)((unsigned __int128)delta * page.mul >> 32);
}

static void kvmclock_agrees_with_machine_time(void **state)
{
    clock_step(manual, 123456789);
    assert_takes(0x4b564d01, 0x2001);
    assert_in_range(guest_time(0x2000), clock_now(manual) - 2, clock_now(manual) + 2);
    clock_step(manual, 10 * NS_PER_SECOND);
    assert_in_range(guest_time(0x2000), clock_now(manual) - 10, clock_now(manual) + 10);
    assert_true(soft_wrmsr(cpu, 0x10, 77));
    clock_step(manual, NS_PER_SECOND);
    assert_in_range(guest_time(0x2000), clock_now(manual) - 10, clock_now(manual) + 10);
    assert_int_equal(rd(0x12), 0x2001);
}

static void the_wall_clock_tells_when_the_machine_began(void **state)
{
    uint32_t wall[3];

    clock_step(manual, 5 * NS_PER_SECOND + 250);
    assert_true(soft_wrmsr(cpu, 0x4b564d00, 0x3000));
    assert_true(memory_read(memory, 0x3000, wall, sizeof(wall)));
    assert_int_equal(wall[0] & 1, 0);
    assert_int_equal(wall[1], 1700000000);
    assert_int_equal(wall[2], 0);
}

static void clock_pages_outside_of_memory_are_ignored(void **state)
{
    assert_true(soft_wrmsr(cpu, 0x4b564d01, 0x7ffffffffffff001));
    assert_true(soft_wrmsr(cpu, 0x4b564d01, RAM_SIZE - 4 + 1));
    assert_true(soft_wrmsr(cpu, 0x4b564d00, RAM_SIZE - 4));
    assert_true(soft_wrmsr(cpu, 0x4b564d00, UINT64_MAX));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registers_hold_what_they_take),
        TEST(reserved_bits_and_impossible_values_are_refused),
        TEST(what_is_not_in_the_table_does_not_exist),
        TEST(random_accesses_leave_a_state_that_loads),
        TEST(every_slot_of_the_state_is_a_register_of_some_model),
        TEST(vendors_differ),
        TEST(the_tsc_counts_and_is_adjusted),
        TEST(kvmclock_agrees_with_machine_time),
        TEST(the_wall_clock_tells_when_the_machine_began),
        TEST(clock_pages_outside_of_memory_are_ignored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
