// SPDX-License-Identifier: Apache-2.0
/*
 * What far transfers of control share: stacks that are not loaded yet, inner stacks out of the TSS,
 * the checks and the loading of CS, task switches. On the vCPU's thread; all may raise, and change
 * nothing but memory below a stack pointer until the transfer commits.
 */
#pragma once

#include "vmm/engine/soft/segment.h"

/* A stack that is being filled or emptied; it becomes the CPU's by soft_stack_commit. */
struct soft_stack {
    struct cpu_segment ss; /* selector and hidden part */
    uint64_t sp;
    unsigned width; /* bytes of sp that count: 2, 4, 8 */
    unsigned mode;  /* enum soft_mmu_mode of its accesses */
    uint32_t error; /* of the #SS that an access beyond the limit raises */
};

/* The stack in use. */
void soft_stack_current(const struct soft_cpu *cpu, struct soft_stack *stack);
/* The stack for privilege `dpl` < CPL as the TSS names it (protected mode; #TS and #SS). */
void soft_stack_inner(struct soft_cpu *cpu, unsigned dpl, struct soft_stack *stack);
/* The 64-bit stack pointer at `offset` of the TSS, for privilege `dpl`, with a null SS. */
void soft_stack_inner_long(struct soft_cpu *cpu, unsigned offset, unsigned dpl,
                           struct soft_stack *stack);
void soft_stack_push(struct soft_cpu *cpu, struct soft_stack *stack, uint64_t value, unsigned size);
uint64_t soft_stack_pop(struct soft_cpu *cpu, struct soft_stack *stack, unsigned size);
/* Load RSP; the bits above `width` stay for 2, are cleared for 4. Leaves SS alone. */
void soft_stack_commit_pointer(struct soft_cpu *cpu, const struct soft_stack *stack);

/* Check code segment `selector` as the target of a return (IRET, RET) to its RPL, which is CPL or
 * further out. Raises #GP, #NP. */
void soft_return_code_check(struct soft_cpu *cpu, uint16_t selector, struct soft_descriptor *out);
/* Raise #GP(0) when `rip` is beyond the code segment's limit, or not canonical in 64-bit code. */
void soft_code_offset_check(struct soft_cpu *cpu, const struct soft_descriptor *code, uint64_t rip);
/* Whether the descriptor is of 64-bit code. */
bool soft_code_is_long(const struct soft_cpu *cpu, const struct soft_descriptor *code);
/* Load CS with RPL `cpl` and RIP; the segment is marked accessed first, which may raise: call it
 * before the first change. */
void soft_code_mark_accessed(struct soft_cpu *cpu, struct soft_descriptor *code);
void soft_code_set(struct soft_cpu *cpu, uint16_t selector, unsigned cpl,
                   const struct soft_descriptor *code, uint64_t rip);

/* Pop SS:RSP for a return to `cpl` in 64-bit code (`to_long`) or not, load SS, and RSP plus
 * `release` bytes. Split in check and commit like all else. */
struct soft_outer_stack {
    uint16_t selector;
    uint64_t rsp;
    bool null;
    struct soft_descriptor ss;
};
void soft_outer_stack_check(struct soft_cpu *cpu, struct soft_outer_stack *outer, unsigned cpl,
                            bool to_long);
void soft_outer_stack_commit(struct soft_cpu *cpu, const struct soft_outer_stack *outer,
                             unsigned cpl, bool to_long, uint64_t release);

/* Why a task is switched to (SDM 3A, 7.3). */
enum soft_task_reason { SOFT_TASK_JUMP, SOFT_TASK_CALL, SOFT_TASK_IRET, SOFT_TASK_EVENT };

/* Switch to the task of TSS `selector`; the old one goes on at `return_rip`. With `error`, that is
 * pushed on the new task's stack (events). The reason's own checks of the descriptor's type and
 * privilege are done here for all but the gate's. */
void soft_task_switch(struct soft_cpu *cpu, uint16_t selector, enum soft_task_reason reason,
                      uint64_t return_rip, const uint32_t *error);

/* INT n, INT3, INTO by an instruction: `checked` is INT n, which virtual-8086 mode may refuse or
 * redirect (SDM 3B, 20.3). */
void soft_software_interrupt(struct soft_cpu *cpu, uint8_t vector, bool checked,
                             uint64_t return_rip);
/* Deliver an event that no instruction asked for in long mode, and do IRETQ in 64-bit code, if it
 * is one of the usual cases: event_long.c. False: nothing has changed, but that descriptors were
 * read. May raise what reading them does. `error` is pushed if it is not NULL. */
bool soft_deliver_usual(struct soft_cpu *cpu, uint8_t vector, const uint32_t *error,
                        uint64_t return_rip);
bool soft_return_usual(struct soft_cpu *cpu);

/* IRET with this operand size in bytes. */
void soft_interrupt_return(struct soft_cpu *cpu, unsigned size);

/* Far JMP, CALL, RET; `size` is the operand size in bytes, `rip` where CALL returns to. */
void soft_far_jump(struct soft_cpu *cpu, uint16_t selector, uint64_t offset, unsigned size);
void soft_far_call(struct soft_cpu *cpu, uint16_t selector, uint64_t offset, unsigned size,
                   uint64_t return_rip);
void soft_far_return(struct soft_cpu *cpu, unsigned size, unsigned release);
