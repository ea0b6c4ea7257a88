// SPDX-License-Identifier: Apache-2.0
/*
 * The stack as PUSH, POP, CALL and RET see it (SDM 1, 6.2): address size by SS.B, 64 bits in
 * 64-bit mode. A value is pushed before RSP changes, so that a fault leaves RSP alone.
 */
#pragma once

#include "vmm/engine/soft/mem.h"

/* Bytes of the stack pointer that count: 2, 4 or 8. */
static inline unsigned soft_stack_size(const struct soft_cpu *cpu)
{
    if (cpu->code_size == 8)
        return 8;
    return cpu->seg[SEG_SS].attributes & SEGMENT_DB ? 4 : 2;
}

/* `rsp` cut to what counts of the stack pointer. */
static inline uint64_t soft_stack_wrap(const struct soft_cpu *cpu, uint64_t rsp)
{
    switch (soft_stack_size(cpu)) {
    case 8:
        return rsp;
    case 4:
        return (uint32_t)rsp;
    default:
        return (uint16_t)rsp;
    }
}

/* Set the part of RSP that counts; the rest stays (16 bits) or is cleared (32 bits). */
static inline void soft_stack_set(struct soft_cpu *cpu, uint64_t rsp)
{
    switch (soft_stack_size(cpu)) {
    case 8:
        cpu->gpr[GPR_RSP] = rsp;
        break;
    case 4:
        cpu->gpr[GPR_RSP] = (uint32_t)rsp;
        break;
    default:
        *(uint16_t *)&cpu->gpr[GPR_RSP] = (uint16_t)rsp;
    }
}

/* Linear address of `size` bytes at `offset` (already wrapped) of the stack. #SS where the MMU
 * would raise #GP, for an address that is not canonical. */
static inline uint64_t soft_stack_address(struct soft_cpu *cpu, uint64_t offset, unsigned size,
                                          enum soft_access access)
{
    if (__builtin_expect(cpu->flat, 1)) {
        if (__builtin_expect((uint64_t)((int64_t)(offset << 16) >> 16) != offset, 0))
            soft_raise(cpu, EXC_SS, 0);
        return offset;
    }
    return soft_linear_address(cpu, SEG_SS, offset, size, access);
}

/* Store `value` of `size` bytes (2, 4, 8) at `offset` of the stack; may raise #SS, #PF. */
static inline void soft_stack_store(struct soft_cpu *cpu, uint64_t offset, uint64_t value,
                                    unsigned size)
{
    uint64_t linear = soft_stack_address(cpu, offset, size, SOFT_WRITE);

    if (size == 8)
        soft_write64(cpu, linear, value);
    else if (size == 4)
        soft_write32(cpu, linear, (uint32_t)value);
    else
        soft_write16(cpu, linear, (uint16_t)value);
}

static inline uint64_t soft_stack_load(struct soft_cpu *cpu, uint64_t offset, unsigned size)
{
    uint64_t linear = soft_stack_address(cpu, offset, size, SOFT_READ);

    if (size == 8)
        return soft_read64(cpu, linear);
    return size == 4 ? soft_read32(cpu, linear) : soft_read16(cpu, linear);
}

/* PUSH of `size` bytes. */
static inline void soft_push(struct soft_cpu *cpu, uint64_t value, unsigned size)
{
    uint64_t rsp = soft_stack_wrap(cpu, cpu->gpr[GPR_RSP] - size);

    soft_stack_store(cpu, rsp, value, size);
    soft_stack_set(cpu, rsp);
}

/* POP in two steps, since the caller may fault in between: the value on top, then the pop. */
static inline uint64_t soft_stack_top(struct soft_cpu *cpu, unsigned size)
{
    return soft_stack_load(cpu, soft_stack_wrap(cpu, cpu->gpr[GPR_RSP]), size);
}

static inline void soft_stack_drop(struct soft_cpu *cpu, unsigned size)
{
    soft_stack_set(cpu, cpu->gpr[GPR_RSP] + size);
}
