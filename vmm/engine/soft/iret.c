// SPDX-License-Identifier: Apache-2.0
/*
 * IRET in all modes (SDM 2, IRET): real and virtual-8086 (with VME), protected to the same and to
 * an outer privilege, to virtual-8086, to the task behind the back link, and long mode, where
 * SS:RSP is always popped from 64-bit code.
 */
#include "vmm/engine/soft/transfer.h"

#define TSS_BACK_LINK 0
#define FLAGS_ALWAYS \
    (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_TF | FLAG_DF | FLAG_OF | FLAG_NT)
#define FLAGS_WIDE (FLAG_RF | FLAG_AC | FLAG_ID) /* of 32 and 64-bit returns */
#define FLAGS_REAL (FLAGS_ALWAYS | FLAG_IF | FLAG_IOPL)

/* What lies on the stack. */
struct frame {
    uint64_t rip, rflags;
    uint16_t cs;
    struct soft_stack stack;
};

static void pop_frame(struct soft_cpu *cpu, unsigned size, struct frame *frame)
{
    soft_stack_current(cpu, &frame->stack);
    frame->rip = soft_stack_pop(cpu, &frame->stack, size);
    frame->cs = soft_stack_pop(cpu, &frame->stack, size);
    frame->rflags = soft_stack_pop(cpu, &frame->stack, size);
}

/* To a 16-bit segment, in real and virtual-8086 mode. */
static void commit_real(struct soft_cpu *cpu, const struct frame *frame)
{
    if (frame->rip > cpu->seg[SEG_CS].limit)
        soft_general_protection(cpu, 0);
    if (soft_v86(cpu))
        soft_segment_set_v86(cpu, SEG_CS, frame->cs);
    else
        soft_segment_set_real(cpu, SEG_CS, frame->cs);
    soft_stack_commit_pointer(cpu, &frame->stack);
    cpu->rip = cpu->next_rip = frame->rip;
}

static void return_real(struct soft_cpu *cpu, unsigned size)
{
    struct frame frame;

    pop_frame(cpu, size, &frame);
    commit_real(cpu, &frame);
    soft_set_rflags(cpu, frame.rflags, FLAGS_REAL | (size == 2 ? 0 : FLAGS_WIDE));
}

/* From virtual-8086 mode to itself. With IOPL below 3, VME lets a 16-bit IRET set VIF for IF. */
static void return_v86(struct soft_cpu *cpu, unsigned size)
{
    struct frame frame;
    bool virtual = soft_iopl(cpu) < 3;

    if (virtual && (size != 2 || !(cpu->cr4 & CR4_VME)))
        soft_general_protection(cpu, 0);
    pop_frame(cpu, size, &frame);
    if (virtual &&
        ((frame.rflags & FLAG_TF) || ((frame.rflags & FLAG_IF) && (cpu->rflags & FLAG_VIP))))
        soft_general_protection(cpu, 0);
    commit_real(cpu, &frame);
    if (virtual)
        soft_set_rflags(cpu, frame.rflags | (frame.rflags & FLAG_IF ? FLAG_VIF : 0),
                        FLAGS_ALWAYS | FLAG_VIF);
    else
        soft_set_rflags(cpu, frame.rflags, FLAGS_ALWAYS | FLAG_IF | (size == 2 ? 0 : FLAGS_WIDE));
}

/* Back to the task that called this one. */
static void return_task(struct soft_cpu *cpu)
{
    const struct cpu_segment *tr = &cpu->seg[SEG_TR];
    uint16_t link =
        soft_read16_as(cpu, soft_table_linear(cpu, tr->base, TSS_BACK_LINK), SOFT_MMU_SUPERVISOR);

    soft_task_switch(cpu, link, SOFT_TASK_IRET, cpu->next_rip, NULL);
}

/* From privilege 0 into virtual-8086 mode. */
static void return_to_v86(struct soft_cpu *cpu, struct frame *frame)
{
    static const uint8_t order[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    uint64_t esp = soft_stack_pop(cpu, &frame->stack, 4);
    uint16_t ss = soft_stack_pop(cpu, &frame->stack, 4), selectors[4];

    for (unsigned i = 0; i < sizeof(order); i++)
        selectors[i] = soft_stack_pop(cpu, &frame->stack, 4);
    if (frame->rip > 0xffff)
        soft_general_protection(cpu, 0);
    for (unsigned i = 0; i < sizeof(order); i++)
        soft_segment_set_v86(cpu, order[i], selectors[i]);
    soft_segment_set_v86(cpu, SEG_SS, ss);
    soft_segment_set_v86(cpu, SEG_CS, frame->cs);
    cpu->gpr[GPR_RSP] = esp;
    cpu->rip = cpu->next_rip = frame->rip;
    soft_set_rflags(cpu, frame->rflags, FLAG_DEFINED);
    soft_update_mode(cpu);
}

/* The flags that a return may change: `cpl` and IOPL are those before it. */
static uint64_t flags_mask(const struct soft_cpu *cpu, unsigned size)
{
    uint64_t mask = FLAGS_ALWAYS;

    if (size != 2)
        mask |= FLAGS_WIDE;
    if (cpu->cpl <= soft_iopl(cpu))
        mask |= FLAG_IF;
    if (cpu->cpl == 0)
        mask |= FLAG_IOPL | (size == 2 ? 0 : FLAG_VIF | FLAG_VIP);
    return mask;
}

static void return_protected(struct soft_cpu *cpu, unsigned size)
{
    struct frame frame;
    struct soft_descriptor code;
    struct soft_outer_stack outer;
    uint64_t mask = flags_mask(cpu, size);
    unsigned cpl, old_cpl = cpu->cpl;
    bool to_long, new_stack;

    pop_frame(cpu, size, &frame);
    if (!soft_long_mode(cpu) && size == 4 && (frame.rflags & FLAG_VM) && cpu->cpl == 0) {
        return_to_v86(cpu, &frame);
        return;
    }
    soft_return_code_check(cpu, frame.cs, &code);
    cpl = SELECTOR_RPL(frame.cs);
    to_long = soft_code_is_long(cpu, &code);
    new_stack = cpl != old_cpl || cpu->code_size == 8;
    if (new_stack) {
        outer.rsp = soft_stack_pop(cpu, &frame.stack, size);
        outer.selector = soft_stack_pop(cpu, &frame.stack, size);
        soft_outer_stack_check(cpu, &outer, cpl, to_long);
    }
    soft_code_offset_check(cpu, &code, frame.rip);
    soft_code_mark_accessed(cpu, &code);

    if (new_stack)
        soft_outer_stack_commit(cpu, &outer, cpl, to_long, 0);
    else
        soft_stack_commit_pointer(cpu, &frame.stack);
    soft_code_set(cpu, frame.cs, cpl, &code, frame.rip);
    soft_set_rflags(cpu, frame.rflags, mask);
    if (cpl != old_cpl)
        soft_drop_inner_segments(cpu, cpl);
    soft_update_mode(cpu);
}

void soft_interrupt_return(struct soft_cpu *cpu, unsigned size)
{
    cpu->nmi_masked = false;
    if (size == 8 && cpu->flat && soft_return_usual(cpu)) {
        cpu->block_end = true;
        return;
    }
    if (!soft_protected(cpu)) {
        return_real(cpu, size);
    } else if (soft_v86(cpu)) {
        return_v86(cpu, size);
    } else if (cpu->rflags & FLAG_NT) {
        if (soft_long_mode(cpu))
            soft_general_protection(cpu, 0);
        return_task(cpu);
    } else {
        return_protected(cpu, size);
    }
    cpu->block_end = true;
}
