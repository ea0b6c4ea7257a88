// SPDX-License-Identifier: Apache-2.0
/*
 * Far JMP, CALL and RET (SDM 3A, 5.8; SDM 2, CALL, JMP, RET): in real and virtual-8086 mode, to
 * code of the same privilege and conforming code, through call gates with a change of stack and
 * copied parameters, and to tasks.
 */
#include "vmm/engine/soft/transfer.h"

/* A far JMP or CALL on its way. */
struct far {
    bool call;
    uint16_t selector; /* of the code */
    uint64_t offset;
    unsigned size; /* of pushes */
    uint64_t return_rip;
    struct soft_descriptor code;
};

/* In segments of real mode's form. */
static void go_real(struct soft_cpu *cpu, const struct far *far)
{
    struct soft_stack stack;

    if (far->call) {
        soft_stack_current(cpu, &stack);
        soft_stack_push(cpu, &stack, cpu->seg[SEG_CS].selector, far->size);
        soft_stack_push(cpu, &stack, far->return_rip, far->size);
    }
    if (far->offset > cpu->seg[SEG_CS].limit)
        soft_general_protection(cpu, 0);
    if (far->call)
        soft_stack_commit_pointer(cpu, &stack);
    if (soft_v86(cpu))
        soft_segment_set_v86(cpu, SEG_CS, far->selector);
    else
        soft_segment_set_real(cpu, SEG_CS, far->selector);
    cpu->rip = cpu->next_rip = far->offset;
}

static bool conforming(const struct soft_descriptor *code)
{
    return descriptor_type(code->raw) & TYPE_CONFORMING;
}

/* To code of the same privilege, or conforming; `far->code` is checked. */
static void go_same_privilege(struct soft_cpu *cpu, struct far *far)
{
    struct soft_stack stack;

    if (far->call) {
        soft_stack_current(cpu, &stack);
        soft_stack_push(cpu, &stack, cpu->seg[SEG_CS].selector, far->size);
        soft_stack_push(cpu, &stack, far->return_rip, far->size);
    }
    soft_code_offset_check(cpu, &far->code, far->offset);
    soft_code_mark_accessed(cpu, &far->code);
    if (far->call)
        soft_stack_commit_pointer(cpu, &stack);
    soft_code_set(cpu, far->selector, cpu->cpl, &far->code, far->offset);
    soft_update_mode(cpu);
}

static void go_direct(struct soft_cpu *cpu, struct far *far)
{
    unsigned dpl = descriptor_dpl(far->code.raw);
    uint32_t error = SELECTOR_ERROR(far->selector);

    if (conforming(&far->code) ? dpl > cpu->cpl
                               : SELECTOR_RPL(far->selector) > cpu->cpl || dpl != cpu->cpl)
        soft_general_protection(cpu, error);
    if (soft_code_is_long(cpu, &far->code) && (descriptor_attributes(far->code.raw) & SEGMENT_DB))
        soft_general_protection(cpu, error);
    if (!descriptor_present(far->code.raw))
        soft_raise(cpu, EXC_NP, error);
    go_same_privilege(cpu, far);
}

/* Parameters of the old stack, for the new one (at most 31). */
static void copy_parameters(struct soft_cpu *cpu, struct soft_stack *to, unsigned count,
                            unsigned size)
{
    struct soft_stack from;
    uint64_t values[31];

    soft_stack_current(cpu, &from);
    for (unsigned i = 0; i < count; i++)
        values[i] = soft_stack_pop(cpu, &from, size);
    while (count--)
        soft_stack_push(cpu, to, values[count], size);
}

/* CALL through a gate to an inner privilege. */
static void go_inner(struct soft_cpu *cpu, struct far *far, unsigned parameters)
{
    struct soft_stack stack;
    unsigned cpl = descriptor_dpl(far->code.raw);

    if (soft_long_mode(cpu))
        soft_stack_inner_long(cpu, 4 + cpl * 8, cpl, &stack);
    else
        soft_stack_inner(cpu, cpl, &stack);
    soft_stack_push(cpu, &stack, cpu->seg[SEG_SS].selector, far->size);
    soft_stack_push(cpu, &stack, cpu->gpr[GPR_RSP], far->size);
    copy_parameters(cpu, &stack, parameters, far->size);
    soft_stack_push(cpu, &stack, cpu->seg[SEG_CS].selector, far->size);
    soft_stack_push(cpu, &stack, far->return_rip, far->size);
    soft_code_offset_check(cpu, &far->code, far->offset);
    soft_code_mark_accessed(cpu, &far->code);

    cpu->seg[SEG_SS] = stack.ss;
    soft_stack_commit_pointer(cpu, &stack);
    soft_code_set(cpu, far->selector, cpl, &far->code, far->offset);
    soft_update_mode(cpu);
}

static void go_through_call_gate(struct soft_cpu *cpu, struct far *far,
                                 const struct soft_descriptor *gate)
{
    bool wide = descriptor_type(gate->raw) & 8, is_long = soft_long_mode(cpu);
    unsigned dpl;
    uint32_t error;

    far->selector = gate->raw >> 16;
    far->offset = (gate->raw & 0xffff) | (wide ? gate->raw >> 32 & 0xffff0000 : 0) |
                  (is_long ? gate->upper << 32 : 0);
    far->size = is_long ? 8 : wide ? 4 : 2;
    error = SELECTOR_ERROR(far->selector);
    if (SELECTOR_NULL(far->selector))
        soft_general_protection(cpu, 0);
    soft_descriptor_get(cpu, far->selector, EXC_GP, &far->code);
    dpl = descriptor_dpl(far->code.raw);
    if (!descriptor_is_code(far->code.raw) || dpl > cpu->cpl)
        soft_general_protection(cpu, error);
    if (!far->call && !conforming(&far->code) && dpl != cpu->cpl)
        soft_general_protection(cpu, error);
    if (is_long && (descriptor_attributes(far->code.raw) & (SEGMENT_L | SEGMENT_DB)) != SEGMENT_L)
        soft_general_protection(cpu, error);
    if (!descriptor_present(far->code.raw))
        soft_raise(cpu, EXC_NP, error);
    if (!conforming(&far->code) && dpl < cpu->cpl)
        go_inner(cpu, far, is_long ? 0 : gate->raw >> 32 & 31);
    else
        go_same_privilege(cpu, far);
}

/* To what a system descriptor names: a gate or a task. */
static void go_system(struct soft_cpu *cpu, struct far *far, struct soft_descriptor *descriptor)
{
    enum soft_task_reason reason = far->call ? SOFT_TASK_CALL : SOFT_TASK_JUMP;
    unsigned type = descriptor_type(descriptor->raw), dpl = descriptor_dpl(descriptor->raw);
    uint32_t error = SELECTOR_ERROR(far->selector);
    unsigned types = 1U << DESCRIPTOR_CALL_GATE;

    if (!soft_long_mode(cpu))
        types |= 1U << DESCRIPTOR_CALL_GATE16 | 1U << DESCRIPTOR_TASK_GATE |
                 1U << DESCRIPTOR_TSS16 | 1U << DESCRIPTOR_TSS;
    if (!(types >> type & 1) || dpl < cpu->cpl || SELECTOR_RPL(far->selector) > dpl)
        soft_general_protection(cpu, error);
    if (!descriptor_present(descriptor->raw))
        soft_raise(cpu, EXC_NP, error);
    if (type == DESCRIPTOR_TASK_GATE) {
        soft_task_switch(cpu, descriptor->raw >> 16, reason, far->return_rip, NULL);
    } else if (type == DESCRIPTOR_TSS16 || type == DESCRIPTOR_TSS) {
        soft_task_switch(cpu, far->selector, reason, far->return_rip, NULL);
    } else {
        if (soft_long_mode(cpu) && (!soft_descriptor_read_upper(cpu, far->selector, descriptor) ||
                                    (descriptor->upper >> 40 & 31)))
            soft_general_protection(cpu, error);
        go_through_call_gate(cpu, far, descriptor);
    }
}

static void go(struct soft_cpu *cpu, struct far *far)
{
    cpu->block_end = true;
    if (!soft_protected(cpu) || soft_v86(cpu)) {
        go_real(cpu, far);
        return;
    }
    if (SELECTOR_NULL(far->selector))
        soft_general_protection(cpu, 0);
    soft_descriptor_get(cpu, far->selector, EXC_GP, &far->code);
    if (descriptor_is_code(far->code.raw)) {
        go_direct(cpu, far);
    } else {
        struct soft_descriptor descriptor = far->code;

        if (descriptor_is_segment(descriptor.raw))
            soft_general_protection(cpu, SELECTOR_ERROR(far->selector));
        go_system(cpu, far, &descriptor);
    }
}

void soft_far_jump(struct soft_cpu *cpu, uint16_t selector, uint64_t offset, unsigned size)
{
    struct far far = {
        .selector = selector, .offset = offset, .size = size, .return_rip = cpu->next_rip};

    go(cpu, &far);
}

void soft_far_call(struct soft_cpu *cpu, uint16_t selector, uint64_t offset, unsigned size,
                   uint64_t return_rip)
{
    struct far far = {.call = true,
                      .selector = selector,
                      .offset = offset,
                      .size = size,
                      .return_rip = return_rip};

    go(cpu, &far);
}

/* ---- RET ---- */

static void return_real(struct soft_cpu *cpu, struct soft_stack *stack, uint64_t rip,
                        uint16_t selector, unsigned release)
{
    if (rip > cpu->seg[SEG_CS].limit)
        soft_general_protection(cpu, 0);
    if (soft_v86(cpu))
        soft_segment_set_v86(cpu, SEG_CS, selector);
    else
        soft_segment_set_real(cpu, SEG_CS, selector);
    stack->sp += release;
    soft_stack_commit_pointer(cpu, stack);
    cpu->rip = cpu->next_rip = rip;
}

static void return_outer(struct soft_cpu *cpu, struct soft_stack *stack, unsigned size,
                         struct soft_descriptor *code, uint64_t rip, uint16_t selector,
                         unsigned release)
{
    struct soft_outer_stack outer;
    unsigned cpl = SELECTOR_RPL(selector);
    bool to_long = soft_code_is_long(cpu, code);

    stack->sp += release;
    outer.rsp = soft_stack_pop(cpu, stack, size);
    outer.selector = soft_stack_pop(cpu, stack, size);
    soft_outer_stack_check(cpu, &outer, cpl, to_long);
    soft_code_offset_check(cpu, code, rip);
    soft_code_mark_accessed(cpu, code);

    soft_outer_stack_commit(cpu, &outer, cpl, to_long, release);
    soft_code_set(cpu, selector, cpl, code, rip);
    soft_drop_inner_segments(cpu, cpl);
    soft_update_mode(cpu);
}

void soft_far_return(struct soft_cpu *cpu, unsigned size, unsigned release)
{
    struct soft_stack stack;
    struct soft_descriptor code;
    uint64_t rip;
    uint16_t selector;

    cpu->block_end = true;
    soft_stack_current(cpu, &stack);
    rip = soft_stack_pop(cpu, &stack, size);
    selector = soft_stack_pop(cpu, &stack, size);
    if (!soft_protected(cpu) || soft_v86(cpu)) {
        return_real(cpu, &stack, rip, selector, release);
        return;
    }
    soft_return_code_check(cpu, selector, &code);
    if (SELECTOR_RPL(selector) > cpu->cpl) {
        return_outer(cpu, &stack, size, &code, rip, selector, release);
        return;
    }
    soft_code_offset_check(cpu, &code, rip);
    soft_code_mark_accessed(cpu, &code);
    stack.sp += release;
    soft_stack_commit_pointer(cpu, &stack);
    soft_code_set(cpu, selector, cpu->cpl, &code, rip);
    soft_update_mode(cpu);
}
