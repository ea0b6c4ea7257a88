// SPDX-License-Identifier: Apache-2.0
/*
 * Hardware task switches (SDM 3A, chapter 7), by JMP, CALL, IRET and through task gates.
 *
 * The new TSS is read and the old one probed first; up to there a fault belongs to the old task.
 * Then the registers are exchanged, and the segments of the new task are checked one by one: what
 * faults now faults in the new task, with #TS where a plain load would raise #GP.
 */
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/transfer.h"

#define SUPERVISOR      SOFT_MMU_SUPERVISOR
#define DR7_LOCAL       0x155UL /* L0..L3, LE */
#define DR6_TASK_SWITCH (1UL << 15)

/* Where things lie in a TSS of each size. */
struct layout {
    uint8_t width; /* of a register */
    uint8_t size;
    uint8_t rip, rflags, gpr, segments, segment_count, segment_step, ldt;
};

static const struct layout layout16 = {2, 0x2c, 0x0e, 0x10, 0x12, 0x22, 4, 2, 0x2a};
static const struct layout layout32 = {4, 0x68, 0x20, 0x24, 0x28, 0x48, 6, 4, 0x60};

#define TSS32_CR3  0x1c
#define TSS32_TRAP 0x64

/* A new task as its TSS describes it. */
struct task {
    const struct layout *layout;
    struct soft_descriptor descriptor;
    uint16_t selector;
    uint64_t base;
    uint8_t bytes[0x68];
};

static uint32_t field(const struct task *task, unsigned offset, unsigned width)
{
    uint32_t value = 0;

    memcpy(&value, task->bytes + offset, width);
    return value;
}

static uint16_t segment_field(const struct task *task, unsigned index)
{
    if (index >= task->layout->segment_count)
        return 0;
    return field(task, task->layout->segments + index * task->layout->segment_step, 2);
}

/* Find the TSS and check that this kind of switch may go there. */
static void find_task(struct soft_cpu *cpu, uint16_t selector, enum soft_task_reason reason,
                      struct task *task)
{
    bool busy = reason == SOFT_TASK_IRET;
    unsigned vector = busy ? EXC_TS : EXC_GP, type;
    uint32_t error = SELECTOR_ERROR(selector);

    if ((selector & SELECTOR_TI) || SELECTOR_NULL(selector))
        soft_raise(cpu, vector, error);
    soft_descriptor_get(cpu, selector, vector, &task->descriptor);
    type = descriptor_type(task->descriptor.raw);
    if (descriptor_is_segment(task->descriptor.raw) ||
        (type & ~8U) != (busy ? DESCRIPTOR_TSS16_BUSY : DESCRIPTOR_TSS16))
        soft_raise(cpu, vector, error);
    if (!descriptor_present(task->descriptor.raw))
        soft_raise(cpu, EXC_NP, error);
    task->layout = type & 8 ? &layout32 : &layout16;
    if (descriptor_limit(task->descriptor.raw) < task->layout->size - 1U)
        soft_raise(cpu, EXC_TS, error);
    task->selector = selector;
    task->base = descriptor_base(task->descriptor.raw);
}

static void read_task(struct soft_cpu *cpu, struct task *task)
{
    memset(task->bytes, 0, sizeof(task->bytes));
    for (unsigned i = 0; i < task->layout->size; i += 2) {
        uint16_t word = soft_read16_as(cpu, (uint32_t)(task->base + i), SUPERVISOR);

        memcpy(task->bytes + i, &word, 2);
    }
}

static void store(struct soft_cpu *cpu, uint64_t linear, uint32_t value, unsigned width)
{
    if (width == 4)
        soft_write32_as(cpu, (uint32_t)linear, value, SUPERVISOR);
    else
        soft_write16_as(cpu, (uint32_t)linear, value, SUPERVISOR);
}

/* Write the old task's registers into its TSS. */
static void save_task(struct soft_cpu *cpu, const struct layout *layout, uint64_t rip,
                      uint64_t rflags)
{
    uint64_t base = cpu->seg[SEG_TR].base;

    store(cpu, base + layout->rip, rip, layout->width);
    store(cpu, base + layout->rflags, rflags, layout->width);
    for (unsigned i = 0; i < 8; i++)
        store(cpu, base + layout->gpr + i * layout->width, cpu->gpr[i], layout->width);
    for (unsigned i = 0; i < layout->segment_count; i++)
        store(cpu, base + layout->segments + i * layout->segment_step, cpu->seg[i].selector, 2);
}

/* Raise now what save_task would. */
static void probe_old_task(struct soft_cpu *cpu, const struct layout *layout)
{
    const struct cpu_segment *tr = &cpu->seg[SEG_TR];

    if ((tr->attributes & SEGMENT_UNUSABLE) || tr->limit < layout->size - 1U)
        soft_raise(cpu, EXC_TS, SELECTOR_ERROR(tr->selector));
    soft_probe_write(cpu, tr->base, layout->size, SUPERVISOR);
}

/* Busy bit and TR; the back link where the new task is nested. */
static void exchange_busy(struct soft_cpu *cpu, struct task *task, enum soft_task_reason reason)
{
    uint16_t old = cpu->seg[SEG_TR].selector;
    struct soft_descriptor descriptor;

    if ((reason == SOFT_TASK_JUMP || reason == SOFT_TASK_IRET) &&
        soft_descriptor_read(cpu, old, &descriptor))
        soft_descriptor_clear_busy(cpu, &descriptor);
    if (reason == SOFT_TASK_CALL || reason == SOFT_TASK_EVENT)
        store(cpu, task->base, old, 2);
    soft_descriptor_set_type(cpu, &task->descriptor, 2);
    soft_segment_set(cpu, SEG_TR, task->selector, task->descriptor.raw);
}

static void load_registers(struct soft_cpu *cpu, const struct task *task, bool nested)
{
    const struct layout *layout = task->layout;
    uint64_t rflags = field(task, layout->rflags, layout->width);

    for (unsigned i = 0; i < 8; i++) {
        uint32_t value = field(task, layout->gpr + i * layout->width, layout->width);

        cpu->gpr[i] = layout->width == 4 ? value : (cpu->gpr[i] & 0xffff0000) | value;
    }
    cpu->rip = cpu->next_rip = field(task, layout->rip, layout->width);
    cpu->rflags = (rflags & FLAG_DEFINED) | FLAG_FIXED | (nested ? FLAG_NT : 0);
    cpu->cr0 |= CR0_TS;
    cpu->dr7 &= ~DR7_LOCAL;
    soft_update_debug(cpu);
}

/* Selectors first, all unusable: what the new task shows when one of them faults. */
static void load_selectors(struct soft_cpu *cpu, const struct task *task)
{
    unsigned cpl = SELECTOR_RPL(segment_field(task, SEG_CS));

    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        if (cpu->rflags & FLAG_VM)
            soft_segment_set_v86(cpu, i, segment_field(task, i));
        else
            soft_segment_set_null(cpu, i, segment_field(task, i), cpl);
    }
    soft_segment_set_null(cpu, SEG_LDTR, field(task, task->layout->ldt, 2), 0);
    soft_update_mode(cpu);
}

static void load_code_segment(struct soft_cpu *cpu, uint16_t selector)
{
    struct soft_descriptor code;
    unsigned dpl, rpl = SELECTOR_RPL(selector);
    bool conforming;

    if (SELECTOR_NULL(selector))
        soft_raise(cpu, EXC_TS, 0);
    soft_descriptor_get(cpu, selector, EXC_TS, &code);
    dpl = descriptor_dpl(code.raw);
    conforming = descriptor_type(code.raw) & TYPE_CONFORMING;
    if (!descriptor_is_code(code.raw) || (conforming ? dpl > rpl : dpl != rpl))
        soft_raise(cpu, EXC_TS, SELECTOR_ERROR(selector));
    if (!descriptor_present(code.raw))
        soft_raise(cpu, EXC_NP, SELECTOR_ERROR(selector));
    soft_code_mark_accessed(cpu, &code);
    soft_segment_set(cpu, SEG_CS, selector, code.raw);
    soft_update_mode(cpu);
}

static void load_stack_segment(struct soft_cpu *cpu, uint16_t selector)
{
    struct soft_descriptor stack;

    if (SELECTOR_NULL(selector))
        soft_raise(cpu, EXC_TS, SELECTOR_ERROR(selector));
    soft_stack_segment_check(cpu, selector, cpu->cpl, EXC_TS, &stack);
    soft_descriptor_set_type(cpu, &stack, TYPE_ACCESSED);
    soft_segment_set(cpu, SEG_SS, selector, stack.raw);
}

/* The segments of the new task, each checked in it. */
static void load_segments(struct soft_cpu *cpu, const struct task *task)
{
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    load_code_segment(cpu, segment_field(task, SEG_CS));
    load_stack_segment(cpu, segment_field(task, SEG_SS));
    for (unsigned i = 0; i < sizeof(data); i++)
        soft_data_segment_load(cpu, data[i], segment_field(task, data[i]), EXC_TS);
}

static void push_error(struct soft_cpu *cpu, const struct layout *layout, uint32_t error)
{
    struct soft_stack stack;

    soft_stack_current(cpu, &stack);
    soft_stack_push(cpu, &stack, error, layout->width);
    soft_stack_commit_pointer(cpu, &stack);
}

void soft_task_switch(struct soft_cpu *cpu, uint16_t selector, enum soft_task_reason reason,
                      uint64_t return_rip, const uint32_t *error)
{
    const struct layout *old =
        SEGMENT_TYPE(cpu->seg[SEG_TR].attributes) & 8 ? &layout32 : &layout16;
    uint64_t rflags = cpu->rflags & ~(reason == SOFT_TASK_IRET ? FLAG_NT : 0);
    bool nested = reason == SOFT_TASK_CALL || reason == SOFT_TASK_EVENT;
    struct task task;

    find_task(cpu, selector, reason, &task);
    probe_old_task(cpu, old);
    if (nested)
        soft_probe_write(cpu, task.base, 2, SUPERVISOR);
    read_task(cpu, &task);
    save_task(cpu, old, return_rip, rflags);
    exchange_busy(cpu, &task, reason);

    load_registers(cpu, &task, nested);
    if (task.layout == &layout32 && (cpu->cr0 & CR0_PG))
        soft_write_cr3(cpu, field(&task, TSS32_CR3, 4));
    load_selectors(cpu, &task);
    cpu->block_end = true;
    soft_ldt_load(cpu, field(&task, task.layout->ldt, 2), EXC_TS);
    if (!(cpu->rflags & FLAG_VM))
        load_segments(cpu, &task);
    if (task.layout == &layout32 && (field(&task, TSS32_TRAP, 2) & 1))
        cpu->pending_db |= DR6_TASK_SWITCH;
    if (error)
        push_error(cpu, task.layout, *error);
    if (cpu->rip > cpu->seg[SEG_CS].limit)
        soft_general_protection(cpu, 0);
}
