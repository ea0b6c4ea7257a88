// SPDX-License-Identifier: Apache-2.0
/*
 * Delivery of interrupts and exceptions through the interrupt table (SDM 3A, chapter 6; SDM 3B,
 * 20.2 and 20.3 for real and virtual-8086 mode; SDM 2, INT n).
 *
 * Everything is read, checked and pushed before a register changes. A fault on the way leaves
 * `delivering` set, and soft_handle_fault decides by it whether the second exception is delivered
 * in the place of the first, becomes a double fault, or ends in shutdown (SDM 3A, table 6-5).
 */
#include "vmm/engine/soft/transfer.h"

#define INTERRUPT          256 /* in `delivering`: no exception, benign */
#define IDT_ERROR(vector)  ((vector)*8U + 2)
#define TSS_RSP(dpl)       (4 + (dpl)*8)
#define TSS_IST(index)     (36 + ((index)-1) * 8)
#define TSS_IO_MAP_BASE    102
#define GATE_CLEARED_FLAGS (FLAG_TF | FLAG_VM | FLAG_RF | FLAG_NT)

/* An event, and what its gate says. */
struct delivery {
    enum soft_event event;
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t return_rip;

    unsigned size; /* bytes of a push: 2, 4, 8 */
    bool clears_if;
    uint16_t selector;
    uint64_t offset;
    unsigned ist;
    struct soft_descriptor code;
    unsigned cpl; /* of the handler */
};

/* ---- real mode ---- */

static void deliver_real(struct soft_cpu *cpu, const struct delivery *delivery)
{
    struct soft_stack stack;
    unsigned offset = delivery->vector * 4;
    uint32_t entry;

    if (offset + 3 > cpu->idtr.limit)
        soft_general_protection(cpu, IDT_ERROR(delivery->vector));
    entry =
        soft_read32_as(cpu, soft_table_linear(cpu, cpu->idtr.base, offset), SOFT_MMU_SUPERVISOR);
    soft_stack_current(cpu, &stack);
    soft_stack_push(cpu, &stack, cpu->rflags, 2);
    soft_stack_push(cpu, &stack, cpu->seg[SEG_CS].selector, 2);
    soft_stack_push(cpu, &stack, delivery->return_rip, 2);
    soft_stack_commit_pointer(cpu, &stack);
    soft_segment_set_real(cpu, SEG_CS, entry >> 16);
    cpu->rip = cpu->next_rip = entry & 0xffff;
    soft_set_rflags(cpu, 0, FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
}

/* ---- gates ---- */

/* Read the gate and check what does not depend on the mode. Task gates come back as such. */
static uint64_t read_gate(struct soft_cpu *cpu, const struct delivery *delivery, unsigned size,
                          unsigned types, uint64_t *linear)
{
    unsigned offset = delivery->vector * size;
    uint32_t error = IDT_ERROR(delivery->vector);
    uint64_t raw;

    if (offset + size - 1 > cpu->idtr.limit)
        soft_general_protection(cpu, error);
    *linear = soft_table_linear(cpu, cpu->idtr.base, offset);
    raw = soft_read64_as(cpu, *linear, SOFT_MMU_SUPERVISOR);
    if (descriptor_is_segment(raw) || !(types >> descriptor_type(raw) & 1))
        soft_general_protection(cpu, error);
    if (delivery->event == SOFT_EVENT_SOFTWARE && descriptor_dpl(raw) < cpu->cpl)
        soft_general_protection(cpu, error);
    if (!descriptor_present(raw))
        soft_raise(cpu, EXC_NP, error);
    return raw;
}

/* The handler's code segment and its privilege. */
static void check_handler(struct soft_cpu *cpu, struct delivery *delivery)
{
    struct soft_descriptor *code = &delivery->code;
    uint32_t error = SELECTOR_ERROR(delivery->selector);
    bool conforming;

    if (SELECTOR_NULL(delivery->selector))
        soft_general_protection(cpu, 0);
    soft_descriptor_get(cpu, delivery->selector, EXC_GP, code);
    if (!descriptor_is_code(code->raw) || descriptor_dpl(code->raw) > cpu->cpl)
        soft_general_protection(cpu, error);
    if (soft_long_mode(cpu) &&
        (descriptor_attributes(code->raw) & (SEGMENT_L | SEGMENT_DB)) != SEGMENT_L)
        soft_general_protection(cpu, error);
    if (!descriptor_present(code->raw))
        soft_raise(cpu, EXC_NP, error);
    conforming = descriptor_type(code->raw) & TYPE_CONFORMING;
    delivery->cpl = conforming ? cpu->cpl : descriptor_dpl(code->raw);
    if (soft_v86(cpu) && delivery->cpl != 0)
        soft_general_protection(cpu, error);
}

/* Nothing can fault any more: the flags and the shortcuts, once CS, SS, RSP and RIP are loaded. */
static void enter_handler(struct soft_cpu *cpu, const struct delivery *delivery)
{
    uint64_t cleared = GATE_CLEARED_FLAGS | (delivery->clears_if ? FLAG_IF : 0);

    cpu->rflags &= ~cleared;
    soft_update_mode(cpu);
}

static void push_v86_segments(struct soft_cpu *cpu, struct soft_stack *stack, unsigned size)
{
    static const uint8_t order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};

    for (unsigned i = 0; i < sizeof(order); i++)
        soft_stack_push(cpu, stack, cpu->seg[order[i]].selector, size);
}

static void null_data_segments(struct soft_cpu *cpu)
{
    static const uint8_t indices[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};

    for (unsigned i = 0; i < sizeof(indices); i++)
        soft_segment_set_null(cpu, indices[i], 0, 0);
}

static void push_return(struct soft_cpu *cpu, const struct delivery *delivery,
                        struct soft_stack *stack)
{
    unsigned size = delivery->size;

    soft_stack_push(cpu, stack, cpu->rflags, size);
    soft_stack_push(cpu, stack, cpu->seg[SEG_CS].selector, size);
    soft_stack_push(cpu, stack, delivery->return_rip, size);
    if (delivery->has_error)
        soft_stack_push(cpu, stack, delivery->error, size);
}

static void deliver_protected(struct soft_cpu *cpu, struct delivery *delivery)
{
    const unsigned types = 1U << DESCRIPTOR_TASK_GATE | 1U << DESCRIPTOR_INTERRUPT_GATE16 |
                           1U << DESCRIPTOR_TRAP_GATE16 | 1U << DESCRIPTOR_INTERRUPT_GATE |
                           1U << DESCRIPTOR_TRAP_GATE;
    struct soft_stack stack;
    uint64_t linear, raw = read_gate(cpu, delivery, 8, types, &linear);
    unsigned type = descriptor_type(raw);
    bool v86 = soft_v86(cpu), inner;

    delivery->selector = raw >> 16;
    if (type == DESCRIPTOR_TASK_GATE) {
        soft_task_switch(cpu, delivery->selector, SOFT_TASK_EVENT, delivery->return_rip,
                         delivery->has_error ? &delivery->error : NULL);
        return;
    }
    delivery->size = type & 8 ? 4 : 2;
    delivery->offset = (raw & 0xffff) | (type & 8 ? raw >> 32 & 0xffff0000 : 0);
    delivery->clears_if = !(type & 1);
    check_handler(cpu, delivery);
    inner = delivery->cpl < cpu->cpl;
    if (inner)
        soft_stack_inner(cpu, delivery->cpl, &stack);
    else
        soft_stack_current(cpu, &stack);
    if (v86)
        push_v86_segments(cpu, &stack, delivery->size);
    if (inner) {
        soft_stack_push(cpu, &stack, cpu->seg[SEG_SS].selector, delivery->size);
        soft_stack_push(cpu, &stack, cpu->gpr[GPR_RSP], delivery->size);
    }
    push_return(cpu, delivery, &stack);
    soft_code_offset_check(cpu, &delivery->code, delivery->offset);
    soft_code_mark_accessed(cpu, &delivery->code);

    cpu->seg[SEG_SS] = stack.ss;
    soft_stack_commit_pointer(cpu, &stack);
    soft_code_set(cpu, delivery->selector, delivery->cpl, &delivery->code, delivery->offset);
    if (v86)
        null_data_segments(cpu);
    enter_handler(cpu, delivery);
}

static void deliver_long(struct soft_cpu *cpu, struct delivery *delivery)
{
    const unsigned types = 1U << DESCRIPTOR_INTERRUPT_GATE | 1U << DESCRIPTOR_TRAP_GATE;
    struct soft_stack stack;
    uint64_t linear, raw = read_gate(cpu, delivery, 16, types, &linear);
    uint64_t upper = soft_read64_as(cpu, linear + 8, SOFT_MMU_SUPERVISOR);

    delivery->size = 8;
    delivery->selector = raw >> 16;
    delivery->offset = (raw & 0xffff) | (raw >> 32 & 0xffff0000) | upper << 32;
    delivery->clears_if = !(descriptor_type(raw) & 1);
    delivery->ist = raw >> 32 & 7;
    check_handler(cpu, delivery);
    soft_stack_current(cpu, &stack);
    stack.width = 8;
    if (delivery->ist || delivery->cpl < cpu->cpl) {
        unsigned offset = delivery->ist ? TSS_IST(delivery->ist) : TSS_RSP(delivery->cpl);

        soft_stack_inner_long(cpu, offset, delivery->cpl, &stack);
        if (delivery->cpl == cpu->cpl)
            stack.ss = cpu->seg[SEG_SS];
    }
    stack.sp &= ~15UL;
    soft_stack_push(cpu, &stack, cpu->seg[SEG_SS].selector, 8);
    soft_stack_push(cpu, &stack, cpu->gpr[GPR_RSP], 8);
    push_return(cpu, delivery, &stack);
    soft_code_offset_check(cpu, &delivery->code, delivery->offset);
    soft_code_mark_accessed(cpu, &delivery->code);

    cpu->seg[SEG_SS] = stack.ss;
    soft_stack_commit_pointer(cpu, &stack);
    soft_code_set(cpu, delivery->selector, delivery->cpl, &delivery->code, delivery->offset);
    enter_handler(cpu, delivery);
}

void soft_deliver(struct soft_cpu *cpu, enum soft_event event, uint8_t vector, bool has_error,
                  uint32_t error, uint64_t return_rip)
{
    struct delivery delivery = {.event = event,
                                .vector = vector,
                                .has_error = has_error,
                                .error = error,
                                .return_rip = return_rip};

    cpu->delivering = event == SOFT_EVENT_EXCEPTION ? vector : INTERRUPT | vector;
    cpu->external = event != SOFT_EVENT_SOFTWARE;
    if (!soft_protected(cpu))
        deliver_real(cpu, &delivery);
    else if (!soft_long_mode(cpu))
        deliver_protected(cpu, &delivery);
    else if (event == SOFT_EVENT_SOFTWARE ||
             !soft_deliver_usual(cpu, vector, has_error ? &error : NULL, return_rip))
        deliver_long(cpu, &delivery);
    if (event == SOFT_EVENT_NMI)
        cpu->nmi_masked = true;
    if (event == SOFT_EVENT_EXTERNAL || event == SOFT_EVENT_NMI)
        soft_count(&cpu->counters.interrupts);
    cpu->delivering = -1;
    cpu->shadow = 0;
    cpu->step_trap = false;
    cpu->block_end = true;
}

/* ---- faults on top of faults ---- */

enum fault_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT };

static enum fault_class class_of(int vector)
{
    switch (vector) {
    case EXC_DE:
    case EXC_TS:
    case EXC_NP:
    case EXC_SS:
    case EXC_GP:
        return CLASS_CONTRIBUTORY;
    case EXC_PF:
        return CLASS_PAGE_FAULT;
    default:
        return CLASS_BENIGN;
    }
}

static bool doubles(int first, int second)
{
    if (class_of(first) == CLASS_CONTRIBUTORY)
        return class_of(second) == CLASS_CONTRIBUTORY;
    return class_of(first) == CLASS_PAGE_FAULT && class_of(second) != CLASS_BENIGN;
}

static void note_debug(struct soft_cpu *cpu, uint64_t bits)
{
    cpu->dr6 = (cpu->dr6 & ~0xfUL) | bits;
    cpu->dr7 &= ~(1UL << 13); /* GD */
    cpu->msrs.debugctl &= ~DEBUGCTL_BTF;
}

void soft_handle_fault(struct soft_cpu *cpu)
{
    int first = cpu->delivering;
    unsigned vector = cpu->fault.vector;

    soft_count(&cpu->counters.faults);
    cpu->delivering = -1;
    if (first == EXC_DF && class_of(vector) != CLASS_BENIGN) {
        cpu->mp_state = CPU_SHUTDOWN;
        cpu->next_rip = cpu->rip;
        cpu->block_end = true;
        return;
    }
    if (first >= 0 && doubles(first, vector)) {
        soft_deliver(cpu, SOFT_EVENT_EXCEPTION, EXC_DF, true, 0, cpu->rip);
        return;
    }
    if (vector == EXC_DB)
        note_debug(cpu, cpu->fault.payload);
    else
        cpu->rflags |= FLAG_RF;
    soft_deliver(cpu, SOFT_EVENT_EXCEPTION, vector, cpu->fault.has_error, cpu->fault.error,
                 cpu->rip);
}

void soft_deliver_debug_trap(struct soft_cpu *cpu)
{
    note_debug(cpu, cpu->pending_db);
    cpu->pending_db = 0;
    soft_deliver(cpu, SOFT_EVENT_EXCEPTION, EXC_DB, false, 0, cpu->rip);
}

/* ---- INT n in virtual-8086 mode (SDM 3B, 20.3) ---- */

/* Whether the TSS's bitmap sends `vector` to the program's own table instead of the IDT. */
static bool redirected(struct soft_cpu *cpu, uint8_t vector)
{
    const struct cpu_segment *tr = &cpu->seg[SEG_TR];
    uint32_t offset;

    if (!(SEGMENT_TYPE(tr->attributes) & 8) || tr->limit < TSS_IO_MAP_BASE + 1)
        soft_general_protection(cpu, 0);
    offset =
        soft_read16_as(cpu, soft_table_linear(cpu, tr->base, TSS_IO_MAP_BASE), SOFT_MMU_SUPERVISOR);
    offset = offset - 32 + vector / 8;
    if (offset > tr->limit)
        soft_general_protection(cpu, 0);
    return !(soft_read8_as(cpu, soft_table_linear(cpu, tr->base, offset), SOFT_MMU_SUPERVISOR) >>
                 (vector & 7) &
             1);
}

/* Through the table at linear 0, as in real mode. With IOPL < 3, VIF stands in for IF. */
static void deliver_redirected(struct soft_cpu *cpu, uint8_t vector, uint64_t return_rip)
{
    struct soft_stack stack;
    uint64_t flags = cpu->rflags, interrupt_flag = FLAG_IF;
    uint32_t entry = soft_read32(cpu, vector * 4);

    if (soft_iopl(cpu) < 3) {
        flags = (flags & ~FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
        interrupt_flag = FLAG_VIF;
    }
    soft_stack_current(cpu, &stack);
    soft_stack_push(cpu, &stack, flags, 2);
    soft_stack_push(cpu, &stack, cpu->seg[SEG_CS].selector, 2);
    soft_stack_push(cpu, &stack, return_rip, 2);
    soft_stack_commit_pointer(cpu, &stack);
    soft_segment_set_v86(cpu, SEG_CS, entry >> 16);
    cpu->rip = cpu->next_rip = entry & 0xffff;
    cpu->rflags &= ~(FLAG_TF | FLAG_NT | interrupt_flag);
    cpu->step_trap = false;
    cpu->block_end = true;
}

void soft_software_interrupt(struct soft_cpu *cpu, uint8_t vector, bool checked,
                             uint64_t return_rip)
{
    if (checked && soft_protected(cpu) && soft_v86(cpu)) {
        if ((cpu->cr4 & CR4_VME) && redirected(cpu, vector)) {
            deliver_redirected(cpu, vector, return_rip);
            return;
        }
        if (soft_iopl(cpu) < 3)
            soft_general_protection(cpu, 0);
    }
    soft_deliver(cpu, SOFT_EVENT_SOFTWARE, vector, false, 0, return_rip);
}
