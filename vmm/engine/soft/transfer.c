// SPDX-License-Identifier: Apache-2.0
/*
 * Parts of far transfers of control (SDM 3A, 5.8; SDM 2, CALL, RET, IRET, INT): the stacks and the
 * code segment. A transfer works on copies until nothing can fault any more.
 */
#include "vmm/engine/soft/transfer.h"

#include "vmm/engine/soft/stack.h"

#define TSS_IS_32BIT(cpu) (SEGMENT_TYPE((cpu)->seg[SEG_TR].attributes) & 8)

/* ---- stacks ---- */

void soft_stack_current(const struct soft_cpu *cpu, struct soft_stack *stack)
{
    stack->ss = cpu->seg[SEG_SS];
    stack->sp = cpu->gpr[GPR_RSP];
    stack->width = soft_stack_size(cpu);
    stack->mode = cpu->mmu_mode;
    stack->error = 0;
}

/* Raise unless the TSS has `size` bytes at `offset`; gives their linear address. */
static uint64_t tss_field(struct soft_cpu *cpu, unsigned offset, unsigned size)
{
    const struct cpu_segment *tr = &cpu->seg[SEG_TR];

    if ((tr->attributes & SEGMENT_UNUSABLE) || offset + size - 1 > tr->limit)
        soft_raise(cpu, EXC_TS, SELECTOR_ERROR(tr->selector));
    return soft_table_linear(cpu, tr->base, offset);
}

void soft_stack_inner(struct soft_cpu *cpu, unsigned dpl, struct soft_stack *stack)
{
    struct soft_descriptor descriptor;
    uint64_t linear;
    uint16_t selector;

    if (TSS_IS_32BIT(cpu)) {
        linear = tss_field(cpu, 4 + dpl * 8, 6);
        stack->sp = soft_read32_as(cpu, linear, SOFT_MMU_SUPERVISOR);
        selector = soft_read16_as(cpu, linear + 4, SOFT_MMU_SUPERVISOR);
    } else {
        linear = tss_field(cpu, 2 + dpl * 4, 4);
        stack->sp = soft_read16_as(cpu, linear, SOFT_MMU_SUPERVISOR);
        selector = soft_read16_as(cpu, linear + 2, SOFT_MMU_SUPERVISOR);
    }
    if (SELECTOR_NULL(selector))
        soft_raise(cpu, EXC_TS, 0);
    soft_stack_segment_check(cpu, selector, dpl, EXC_TS, &descriptor);
    soft_descriptor_set_type(cpu, &descriptor, TYPE_ACCESSED);
    stack->ss = (struct cpu_segment){.selector = selector,
                                     .attributes = descriptor_attributes(descriptor.raw),
                                     .limit = descriptor_limit(descriptor.raw),
                                     .base = descriptor_base(descriptor.raw)};
    stack->width = stack->ss.attributes & SEGMENT_DB ? 4 : 2;
    stack->mode = SOFT_MMU_SUPERVISOR;
    stack->error = SELECTOR_ERROR(selector);
}

void soft_stack_inner_long(struct soft_cpu *cpu, unsigned offset, unsigned dpl,
                           struct soft_stack *stack)
{
    stack->sp = soft_read64_as(cpu, tss_field(cpu, offset, 8), SOFT_MMU_SUPERVISOR);
    if (!soft_canonical(stack->sp))
        soft_raise(cpu, EXC_SS, 0);
    stack->ss = (struct cpu_segment){.selector = dpl, .attributes = SEGMENT_UNUSABLE | dpl << 5};
    stack->width = 8;
    stack->mode = dpl == 3 ? SOFT_MMU_USER : SOFT_MMU_SUPERVISOR;
    stack->error = 0;
}

static uint64_t wrap(const struct soft_stack *stack, uint64_t sp)
{
    return stack->width == 8 ? sp : stack->width == 4 ? (uint32_t)sp : (uint16_t)sp;
}

/* Linear address of `size` bytes at `offset` of the stack, or #SS. */
static uint64_t stack_linear(struct soft_cpu *cpu, const struct soft_stack *stack, uint64_t offset,
                             unsigned size)
{
    if (stack->width == 8) {
        if (!soft_canonical(offset))
            soft_raise(cpu, EXC_SS, stack->error);
        return offset;
    }
    if (!soft_segment_limit_allows(&stack->ss, offset, size))
        soft_raise(cpu, EXC_SS, stack->error);
    return (uint32_t)(stack->ss.base + offset);
}

void soft_stack_push(struct soft_cpu *cpu, struct soft_stack *stack, uint64_t value, unsigned size)
{
    uint64_t sp = wrap(stack, stack->sp - size);
    uint64_t linear = stack_linear(cpu, stack, sp, size);

    if (size == 8)
        soft_write64_as(cpu, linear, value, stack->mode);
    else if (size == 4)
        soft_write32_as(cpu, linear, (uint32_t)value, stack->mode);
    else
        soft_write16_as(cpu, linear, (uint16_t)value, stack->mode);
    stack->sp = sp;
}

uint64_t soft_stack_pop(struct soft_cpu *cpu, struct soft_stack *stack, unsigned size)
{
    uint64_t sp = wrap(stack, stack->sp);
    uint64_t linear = stack_linear(cpu, stack, sp, size), value;

    if (size == 8)
        value = soft_read64_as(cpu, linear, stack->mode);
    else if (size == 4)
        value = soft_read32_as(cpu, linear, stack->mode);
    else
        value = soft_read16_as(cpu, linear, stack->mode);
    stack->sp = wrap(stack, sp + size);
    return value;
}

/* The part of RSP that counts for a stack of `width` bytes. */
static void set_stack_pointer(struct soft_cpu *cpu, uint64_t rsp, unsigned width)
{
    if (width == 8)
        cpu->gpr[GPR_RSP] = rsp;
    else if (width == 4)
        cpu->gpr[GPR_RSP] = (uint32_t)rsp;
    else
        cpu->gpr[GPR_RSP] = (cpu->gpr[GPR_RSP] & ~0xffffUL) | (uint16_t)rsp;
}

void soft_stack_commit_pointer(struct soft_cpu *cpu, const struct soft_stack *stack)
{
    set_stack_pointer(cpu, stack->sp, stack->width);
}

/* ---- code ---- */

bool soft_code_is_long(const struct soft_cpu *cpu, const struct soft_descriptor *code)
{
    return soft_long_mode(cpu) && (descriptor_attributes(code->raw) & SEGMENT_L);
}

void soft_return_code_check(struct soft_cpu *cpu, uint16_t selector, struct soft_descriptor *out)
{
    unsigned rpl = SELECTOR_RPL(selector), dpl;
    uint32_t error = SELECTOR_ERROR(selector);
    bool conforming;

    if (SELECTOR_NULL(selector))
        soft_general_protection(cpu, 0);
    soft_descriptor_get(cpu, selector, EXC_GP, out);
    dpl = descriptor_dpl(out->raw);
    conforming = descriptor_type(out->raw) & TYPE_CONFORMING;
    if (!descriptor_is_code(out->raw) || rpl < cpu->cpl || (conforming ? dpl > rpl : dpl != rpl))
        soft_general_protection(cpu, error);
    if (soft_code_is_long(cpu, out) && (descriptor_attributes(out->raw) & SEGMENT_DB))
        soft_general_protection(cpu, error);
    if (!descriptor_present(out->raw))
        soft_raise(cpu, EXC_NP, error);
}

void soft_code_offset_check(struct soft_cpu *cpu, const struct soft_descriptor *code, uint64_t rip)
{
    if (soft_code_is_long(cpu, code) ? !soft_canonical(rip) : rip > descriptor_limit(code->raw))
        soft_general_protection(cpu, 0);
}

void soft_code_mark_accessed(struct soft_cpu *cpu, struct soft_descriptor *code)
{
    soft_descriptor_set_type(cpu, code, TYPE_ACCESSED);
}

void soft_code_set(struct soft_cpu *cpu, uint16_t selector, unsigned cpl,
                   const struct soft_descriptor *code, uint64_t rip)
{
    soft_segment_set(cpu, SEG_CS, (selector & ~3U) | cpl, code->raw);
    cpu->rip = cpu->next_rip = rip;
    cpu->block_end = true;
}

/* ---- outer stacks ---- */

void soft_outer_stack_check(struct soft_cpu *cpu, struct soft_outer_stack *outer, unsigned cpl,
                            bool to_long)
{
    outer->null = SELECTOR_NULL(outer->selector);
    if (outer->null) {
        if (!to_long || cpl == 3 || SELECTOR_RPL(outer->selector) != cpl)
            soft_general_protection(cpu, 0);
        return;
    }
    soft_stack_segment_check(cpu, outer->selector, cpl, EXC_GP, &outer->ss);
    soft_descriptor_set_type(cpu, &outer->ss, TYPE_ACCESSED);
}

void soft_outer_stack_commit(struct soft_cpu *cpu, const struct soft_outer_stack *outer,
                             unsigned cpl, bool to_long, uint64_t release)
{
    unsigned width = 8;

    if (outer->null)
        soft_segment_set_null(cpu, SEG_SS, outer->selector, cpl);
    else
        soft_segment_set(cpu, SEG_SS, outer->selector, outer->ss.raw);
    if (!to_long)
        width = cpu->seg[SEG_SS].attributes & SEGMENT_DB ? 4 : 2;
    set_stack_pointer(cpu, outer->rsp + release, width);
}
