// SPDX-License-Identifier: Apache-2.0
/*
 * Events and returns in long mode go a short way where all is usual and the TLB hits. Random gates,
 * descriptors, stacks and frames must come out the same by it and by the general way, which is
 * taken where the TLB is empty.
 */
#include "tests/unit/soft_tables.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/transfer.h"

#define CASES      1000
#define VECTOR     0x40
#define AREA_BEGIN 0x8000UL /* tables and stacks */
#define AREA_END   0x42000UL

static uint32_t seed = 7;

static uint32_t below(uint32_t bound)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % bound;
}

/* What an event or a return can change. */
struct outcome {
    int raised;
    uint32_t error;
    uint64_t gpr[GPR_COUNT], rip, next_rip, rflags;
    struct cpu_segment seg[SEG_COUNT];
    uint8_t cpl, code_size, mmu_mode;
    bool flat;
    uint8_t area[AREA_END - AREA_BEGIN];
};

static void take_outcome(struct fixture *f, int raised, struct outcome *outcome)
{
    const struct soft_cpu *cpu = f->cpu;

    memset(outcome, 0, sizeof(*outcome));
    outcome->raised = raised;
    outcome->error = raised < 0 ? 0 : cpu->fault.error;
    memcpy(outcome->gpr, cpu->gpr, sizeof(outcome->gpr));
    outcome->rip = cpu->rip;
    outcome->next_rip = cpu->next_rip;
    outcome->rflags = cpu->rflags;
    memcpy(outcome->seg, cpu->seg, sizeof(outcome->seg));
    outcome->cpl = cpu->cpl;
    outcome->code_size = cpu->code_size;
    outcome->mmu_mode = cpu->mmu_mode;
    outcome->flat = cpu->flat;
    memcpy(outcome->area, f->ram + AREA_BEGIN, sizeof(outcome->area));
}

static void restore(struct fixture *f, const struct outcome *before)
{
    struct soft_cpu *cpu = f->cpu;

    memcpy(cpu->gpr, before->gpr, sizeof(cpu->gpr));
    cpu->rip = before->rip;
    cpu->next_rip = before->next_rip;
    cpu->rflags = before->rflags;
    memcpy(cpu->seg, before->seg, sizeof(cpu->seg));
    cpu->delivering = -1;
    cpu->nmi_masked = false;
    memcpy(f->ram + AREA_BEGIN, before->area, sizeof(before->area));
    soft_update_mode(cpu);
}

/* Have all of the area in the TLB, to be read and written by privilege 0. */
static void warm(struct fixture *f)
{
    for (uint64_t page = AREA_BEGIN; page < AREA_END; page += 0x1000)
        for (unsigned mode = SOFT_MMU_SUPERVISOR; mode <= SOFT_MMU_SUPERVISOR_AC; mode++)
            soft_write8_as(f->cpu, page, soft_read8_as(f->cpu, page, mode), mode);
}

static uint16_t random_selector(void)
{
    static const uint16_t selectors[] = {
        KERNEL_CODE64, USER_CODE64, KERNEL_CODE64, USER_CODE64, KERNEL_CODE, USER_DATA,
        USER_DATA,     KERNEL_DATA, CONFORMING,    0,           3,           GDT_LIMIT + 1,
        LDT | 4,       ABSENT_DATA, ABSENT_CODE,   READ_ONLY,
    };

    return selectors[below(sizeof(selectors) / sizeof(selectors[0]))];
}

/* Present 64-bit segments that were used before, as systems have them; seldom others. */
static void random_tables(struct fixture *f)
{
    unsigned type = below(2) ? DESCRIPTOR_INTERRUPT_GATE : DESCRIPTOR_TRAP_GATE;
    uint16_t selector = below(4) ? KERNEL_CODE64 : random_selector();
    uint64_t gate;

    if (below(16) == 0)
        type = below(16);
    gate = gate_of(selector, HANDLERS + VECTOR * 16, type, below(4), below(4) ? 0 : 1);
    if (below(32) == 0)
        gate &= ~(1UL << 47);
    poke64(f, IDT_AT + VECTOR * 16, gate);
    poke64(f, IDT_AT + VECTOR * 16 + 8, below(16) ? 0 : below(2) ? 0xffff8000 : 0x10000);
    for (uint16_t at = KERNEL_CODE; at < GDT_LIMIT; at += 8)
        if (below(8) && (peek64(f, GDT_AT + at) >> 44 & 1))
            poke64(f, GDT_AT + at, peek64(f, GDT_AT + at) | 1UL << 40);
    if (below(16) == 0)
        poke64(f, TSS_AT + 4, below(2) ? STACK0 + 0x18 : 1UL << 47);
}

static void random_state(struct fixture *f)
{
    f->cpu->rflags = FLAG_FIXED | (below(1U << 22) & (FLAG_DEFINED & ~(FLAG_VM | FLAG_NT)));
    if (below(16) == 0)
        f->cpu->rflags |= FLAG_NT;
    f->cpu->gpr[GPR_RSP] = STACK0 - below(64) * 8 - (below(8) ? 0 : below(8));
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        if (i != SEG_CS && i != SEG_SS)
            load_raw(f, i, below(2) ? USER_DATA : KERNEL_DATA);
}

static void deliver(struct fixture *f, bool has_error)
{
    if (has_error)
        soft_deliver(f->cpu, SOFT_EVENT_EXCEPTION, VECTOR, true, 0x1234, f->cpu->rip);
    else
        soft_deliver(f->cpu, SOFT_EVENT_EXTERNAL, VECTOR, false, 0, f->cpu->rip);
}

static void push_frame(struct fixture *f)
{
    uint64_t at = f->cpu->gpr[GPR_RSP];
    bool user = below(2);

    poke64(f, at, below(16) ? 0x1234 : 1UL << 47);
    poke64(f, at + 8, below(4) ? (user ? USER_CODE64 : KERNEL_CODE64) : random_selector());
    poke64(f, at + 16, below(1U << 22));
    poke64(f, at + 24, STACK3 - below(100));
    poke64(f, at + 32, below(4) ? (user ? USER_DATA : KERNEL_DATA) : random_selector());
}

/* Both ways from one and the same state; `returns`: IRETQ. */
static void compare(struct fixture *f, bool returns, bool has_error)
{
    static struct outcome before, general, quick;
    int raised;

    take_outcome(f, -1, &before);
    soft_tlb_flush(f->cpu, true);
    raised =
        returns ? RAISED(f, soft_interrupt_return(f->cpu, 8)) : RAISED(f, deliver(f, has_error));
    take_outcome(f, raised, &general);

    restore(f, &before);
    soft_tlb_flush(f->cpu, true);
    warm(f);
    raised =
        returns ? RAISED(f, soft_interrupt_return(f->cpu, 8)) : RAISED(f, deliver(f, has_error));
    take_outcome(f, raised, &quick);
    assert_memory_equal(&quick, &general, sizeof(quick));
    restore(f, &before);
}

static void events_come_out_the_same_by_both_ways(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < CASES; i++) {
        tables_init(f);
        enter_long(f, below(2) ? 3 : 0);
        random_state(f);
        random_tables(f);
        soft_update_mode(f->cpu);
        compare(f, false, below(2));
    }
}

static void returns_come_out_the_same_by_both_ways(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < CASES; i++) {
        tables_init(f);
        enter_long(f, 0);
        random_state(f);
        random_tables(f);
        f->cpu->gpr[GPR_RSP] -= 0x100;
        push_frame(f);
        soft_update_mode(f->cpu);
        compare(f, true, false);
    }
}

static void what_is_usual_goes_the_short_way(void **state)
{
    struct fixture *f = *state;
    uint32_t error = 4;

    enter_long(f, 3);
    poke64(f, GDT_AT + KERNEL_CODE64, peek64(f, GDT_AT + KERNEL_CODE64) | 1UL << 40);
    poke64(f, GDT_AT + USER_CODE64 - 3, peek64(f, GDT_AT + USER_CODE64 - 3) | 1UL << 40);
    poke64(f, GDT_AT + USER_DATA - 3, peek64(f, GDT_AT + USER_DATA - 3) | 1UL << 40);
    warm(f);
    assert_true(soft_deliver_usual(f->cpu, VECTOR, &error, 0x1234));
    assert_int_equal(f->cpu->rip, HANDLERS + VECTOR * 16);
    assert_int_equal(peek64(f, STACK0 - 48), 4);
    f->cpu->gpr[GPR_RSP] += 8;
    assert_true(soft_return_usual(f->cpu));
    assert_int_equal(f->cpu->rip, 0x1234);
    assert_int_equal(f->cpu->cpl, 3);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tables_setup, tables_teardown)
        TEST(events_come_out_the_same_by_both_ways),
        TEST(returns_come_out_the_same_by_both_ways),
        TEST(what_is_usual_goes_the_short_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
