// SPDX-License-Identifier: Apache-2.0
/*
 * Segments and their descriptors (SDM 3A, chapters 3 and 5), for the parts that load them: segment
 * instructions, far transfers, events, tasks. All run on the vCPU's thread and may raise.
 */
#pragma once

#include "vmm/engine/soft/system.h"

/* Types of system descriptors (SDM 3A, table 3-2). In long mode 9, 11, 12, 14, 15 are the 64-bit
 * forms. */
enum soft_system_type {
    DESCRIPTOR_TSS16 = 1,
    DESCRIPTOR_LDT = 2,
    DESCRIPTOR_TSS16_BUSY = 3,
    DESCRIPTOR_CALL_GATE16 = 4,
    DESCRIPTOR_TASK_GATE = 5,
    DESCRIPTOR_INTERRUPT_GATE16 = 6,
    DESCRIPTOR_TRAP_GATE16 = 7,
    DESCRIPTOR_TSS = 9,
    DESCRIPTOR_TSS_BUSY = 11,
    DESCRIPTOR_CALL_GATE = 12,
    DESCRIPTOR_INTERRUPT_GATE = 14,
    DESCRIPTOR_TRAP_GATE = 15,
};

/* Type bits of code and data segments. */
#define TYPE_ACCESSED    1U
#define TYPE_WRITABLE    2U /* data */
#define TYPE_READABLE    2U /* code */
#define TYPE_EXPAND_DOWN 4U /* data */
#define TYPE_CONFORMING  4U /* code */
#define TYPE_CODE        8U

#define SELECTOR_RPL(selector)   ((selector)&3)
#define SELECTOR_ERROR(selector) ((selector)&0xfffcU) /* as it stands in an error code */
#define SELECTOR_NULL(selector)  (!((selector)&0xfffcU))
#define SELECTOR_TI              4U

/* A descriptor as it was read, and where it lies. */
struct soft_descriptor {
    uint64_t raw;
    uint64_t upper; /* second half of a 16-byte one, 0 otherwise */
    uint64_t linear;
};

static inline uint16_t descriptor_attributes(uint64_t raw)
{
    return (raw >> 40 & 0xff) | (raw >> 44 & 0xf00);
}
static inline uint32_t descriptor_base(uint64_t raw)
{
    return (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
}
/* In bytes, inclusive. */
static inline uint32_t descriptor_limit(uint64_t raw)
{
    uint32_t limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);

    return raw >> 55 & 1 ? limit << 12 | 0xfff : limit;
}
static inline unsigned descriptor_type(uint64_t raw)
{
    return raw >> 40 & 15;
}
static inline unsigned descriptor_dpl(uint64_t raw)
{
    return raw >> 45 & 3;
}
static inline bool descriptor_present(uint64_t raw)
{
    return raw >> 47 & 1;
}
/* A code or data segment, not a system descriptor. */
static inline bool descriptor_is_segment(uint64_t raw)
{
    return raw >> 44 & 1;
}
static inline bool descriptor_is_code(uint64_t raw)
{
    return descriptor_is_segment(raw) && (descriptor_type(raw) & TYPE_CODE);
}
static inline bool descriptor_is_writable_data(uint64_t raw)
{
    return descriptor_is_segment(raw) &&
           (descriptor_type(raw) & (TYPE_CODE | TYPE_WRITABLE)) == TYPE_WRITABLE;
}

/* Linear address of `offset` in a descriptor table: wraps at 4 GB outside of long mode. */
static inline uint64_t soft_table_linear(const struct soft_cpu *cpu, uint64_t base, uint64_t offset)
{
    return soft_long_mode(cpu) ? base + offset : (uint32_t)(base + offset);
}

/* Whether [offset, offset + size) lies within the limit, by the segment's direction. */
bool soft_segment_limit_allows(const struct cpu_segment *segment, uint64_t offset, unsigned size);

/* Read the descriptor that `selector` names. false when it lies beyond its table's limit. */
bool soft_descriptor_read(struct soft_cpu *cpu, uint16_t selector, struct soft_descriptor *out);
/* Read the second half of a 16-byte descriptor (long mode). false when beyond the limit. */
bool soft_descriptor_read_upper(struct soft_cpu *cpu, uint16_t selector,
                                struct soft_descriptor *descriptor);
/* The same two, raising `vector` with the selector as error code where they give false. */
void soft_descriptor_get(struct soft_cpu *cpu, uint16_t selector, unsigned vector,
                         struct soft_descriptor *out);
/* Set bits of a descriptor's type field (accessed, busy) in its table, as a locked operation. */
void soft_descriptor_set_type(struct soft_cpu *cpu, struct soft_descriptor *descriptor,
                              unsigned bits);
void soft_descriptor_clear_busy(struct soft_cpu *cpu, struct soft_descriptor *descriptor);

/* Fill the hidden part of a segment register from a descriptor. No check; mode is not updated. */
void soft_segment_set(struct soft_cpu *cpu, unsigned index, uint16_t selector, uint64_t raw);
/* Make a segment register null. `dpl` is kept for SS, whose DPL is CPL. */
void soft_segment_set_null(struct soft_cpu *cpu, unsigned index, uint16_t selector, unsigned dpl);
/* Load as in real mode, or as in virtual-8086 mode. */
void soft_segment_set_real(struct soft_cpu *cpu, unsigned index, uint16_t selector);
void soft_segment_set_v86(struct soft_cpu *cpu, unsigned index, uint16_t selector);

/* MOV and POP to ES, SS, DS, FS, GS, with all checks of the current mode. */
void soft_segment_load(struct soft_cpu *cpu, unsigned index, uint16_t selector);
/* DS, ES, FS or GS in protected mode; errors raise `vector` (#GP, or #TS in a task switch). */
void soft_data_segment_load(struct soft_cpu *cpu, unsigned index, uint16_t selector,
                            unsigned vector);
/* Check `selector` for a stack of privilege `cpl`, and read its descriptor. Errors raise `vector`
 * (#TS or #GP), a segment that is not present #SS. The selector is not null. */
void soft_stack_segment_check(struct soft_cpu *cpu, uint16_t selector, unsigned cpl,
                              unsigned vector, struct soft_descriptor *out);
/* LDTR and TR from a selector, as LLDT and LTR do after their privilege check. `vector` is #GP, or
 * #TS in a task switch. */
void soft_ldt_load(struct soft_cpu *cpu, uint16_t selector, unsigned vector);
void soft_task_register_load(struct soft_cpu *cpu, uint16_t selector);

/* After a transfer to the outer privilege `cpl`: data segments that it may not hold become null. */
void soft_drop_inner_segments(struct soft_cpu *cpu, unsigned cpl);

/* LAR, LSL, VERR, VERW: whether the current code may see the descriptor. */
enum soft_inspection { SOFT_INSPECT_LAR, SOFT_INSPECT_LSL, SOFT_INSPECT_VERR, SOFT_INSPECT_VERW };
bool soft_descriptor_inspect(struct soft_cpu *cpu, uint16_t selector, enum soft_inspection what,
                             uint64_t *raw);
