// SPDX-License-Identifier: Apache-2.0
/*
 * What handlers of general-purpose instructions share: registers by byte offset, flags from the
 * host's own instructions, read-modify-write of memory, and the operand forms that the select
 * functions tell apart.
 *
 * Flags travel in the form of LAHF and SETO: AH holds SF, ZF, AF, PF, CF, AL holds OF. FLAGS_IN
 * loads the guest's before an instruction that leaves some of them alone or undefined, so that the
 * outcome is the host's bit for bit.
 */
#pragma once

#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/system.h"

#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* Assembly around an instruction whose flags are wanted; AX is the carrier (operand "+a"). */
#define FLAGS_IN  "addb $0x7f, %%al\n\tsahf\n\t"
#define FLAGS_OUT "\n\tlahf\n\tseto %%al"

/* RFLAGS to the carrier: AH status flags, AL overflow. */
static inline uint32_t flags_pack(uint64_t rflags)
{
    return (uint32_t)((rflags & 0xff) << 8 | (rflags >> 11 & 1));
}

/* RFLAGS with those of `mask` (a subset of FLAGS_STATUS) taken from the carrier. */
static inline uint64_t flags_merge(uint64_t rflags, uint32_t carrier, uint64_t mask)
{
    uint64_t flags = (carrier >> 8 & 0xff) | (uint64_t)(carrier & 1) << 11;

    return (rflags & ~mask) | (flags & mask);
}

/* Memory of the guest and register parts have no alignment. */
typedef uint8_t unaligned8;
typedef uint16_t __attribute__((aligned(1), may_alias)) unaligned16;
typedef uint32_t __attribute__((aligned(1), may_alias)) unaligned32;
typedef uint64_t __attribute__((aligned(1), may_alias)) unaligned64;

static inline uint8_t reg_get8(const struct soft_cpu *cpu, unsigned offset)
{
    return *((const uint8_t *)cpu->gpr + offset);
}
static inline uint16_t reg_get16(const struct soft_cpu *cpu, unsigned offset)
{
    return *(const unaligned16 *)((const uint8_t *)cpu->gpr + offset);
}
static inline uint32_t reg_get32(const struct soft_cpu *cpu, unsigned offset)
{
    return *(const unaligned32 *)((const uint8_t *)cpu->gpr + offset);
}
static inline uint64_t reg_get64(const struct soft_cpu *cpu, unsigned offset)
{
    return *(const unaligned64 *)((const uint8_t *)cpu->gpr + offset);
}
static inline void reg_set8(struct soft_cpu *cpu, unsigned offset, uint8_t value)
{
    *((uint8_t *)cpu->gpr + offset) = value;
}
static inline void reg_set16(struct soft_cpu *cpu, unsigned offset, uint16_t value)
{
    *(unaligned16 *)((uint8_t *)cpu->gpr + offset) = value;
}
/* A 32-bit result clears the upper half. */
static inline void reg_set32(struct soft_cpu *cpu, unsigned offset, uint32_t value)
{
    *(unaligned64 *)((uint8_t *)cpu->gpr + offset) = value;
}
static inline void reg_set64(struct soft_cpu *cpu, unsigned offset, uint64_t value)
{
    *(unaligned64 *)((uint8_t *)cpu->gpr + offset) = value;
}

/* Value of an operand of `size` bytes (1, 2, 4, 8), for handlers that are not worth a copy a size.
 */
static inline uint64_t reg_get(const struct soft_cpu *cpu, unsigned offset, unsigned size)
{
    switch (size) {
    case 1:
        return reg_get8(cpu, offset);
    case 2:
        return reg_get16(cpu, offset);
    case 4:
        return reg_get32(cpu, offset);
    default:
        return reg_get64(cpu, offset);
    }
}
static inline void reg_set(struct soft_cpu *cpu, unsigned offset, uint64_t value, unsigned size)
{
    switch (size) {
    case 1:
        reg_set8(cpu, offset, (uint8_t)value);
        break;
    case 2:
        reg_set16(cpu, offset, (uint16_t)value);
        break;
    case 4:
        reg_set32(cpu, offset, (uint32_t)value);
        break;
    default:
        reg_set64(cpu, offset, value);
    }
}
static inline uint64_t mem_get(struct soft_cpu *cpu, uint64_t linear, unsigned size)
{
    switch (size) {
    case 1:
        return soft_read8(cpu, linear);
    case 2:
        return soft_read16(cpu, linear);
    case 4:
        return soft_read32(cpu, linear);
    default:
        return soft_read64(cpu, linear);
    }
}
static inline void mem_set(struct soft_cpu *cpu, uint64_t linear, uint64_t value, unsigned size)
{
    switch (size) {
    case 1:
        soft_write8(cpu, linear, (uint8_t)value);
        break;
    case 2:
        soft_write16(cpu, linear, (uint16_t)value);
        break;
    case 4:
        soft_write32(cpu, linear, (uint32_t)value);
        break;
    default:
        soft_write64(cpu, linear, value);
    }
}

/* Linear address of an implied operand of `size` bytes at `offset` (already wrapped). */
static inline uint64_t mem_address(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                   unsigned size, enum soft_access access)
{
    return soft_linear_address(cpu, segment % SEG_COUNT, offset, size, access);
}

/* Host address of `size` bytes that may be read and written, or NULL when the TLB does not know. */
static inline void *mem_rmw_pointer(struct soft_cpu *cpu, uint64_t linear, unsigned size)
{
    struct soft_tlb_entry *entry = soft_tlb_slot(cpu, cpu->mmu_mode, linear);

    return entry->write_tag == SOFT_TAG(linear, size) ? (void *)(entry->host + linear) : NULL;
}

/* The slow way into a read-modify-write: raises what the write would, then reads. */
static inline uint64_t mem_rmw_begin(struct soft_cpu *cpu, uint64_t linear, unsigned size)
{
    soft_probe_write(cpu, linear, size, cpu->mmu_mode);
    return mem_get(cpu, linear, size);
}

/* The body of a handler that changes its operand of `bits` bits in memory: `result` is the new
 * value, told by the old one in `dst`. */
#define SOFT_MODIFY(bits, result)                                            \
    uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE); \
    unaligned##bits *host = mem_rmw_pointer(cpu, linear, bits / 8);          \
    uint##bits##_t dst;                                                      \
    if (__builtin_expect(host != NULL, 1)) {                                 \
        dst = *host;                                                         \
        *host = (result);                                                    \
        return;                                                              \
    }                                                                        \
    dst = (uint##bits##_t)mem_rmw_begin(cpu, linear, bits / 8);              \
    soft_write##bits(cpu, linear, (result))

/* Condition `code` (low four bits of Jcc's opcode). */
static inline bool condition_holds(uint64_t rflags, unsigned code)
{
    bool less = ((rflags >> 7) ^ (rflags >> 11)) & 1;
    bool holds;

    switch (code >> 1) {
    case 0:
        holds = rflags & FLAG_OF;
        break;
    case 1:
        holds = rflags & FLAG_CF;
        break;
    case 2:
        holds = rflags & FLAG_ZF;
        break;
    case 3:
        holds = rflags & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        holds = rflags & FLAG_SF;
        break;
    case 5:
        holds = rflags & FLAG_PF;
        break;
    case 6:
        holds = less;
        break;
    default:
        holds = less || (rflags & FLAG_ZF);
        break;
    }
    return holds ^ (code & 1);
}

/* ---- for select functions ---- */

/* How the first operands lie. After operand_form, `reg_offset` is the destination of RR, RM and RI
 * and of a lone register, the source of MR; `rm_offset` is RR's source. */
enum operand_form {
    FORM_RR,   /* register, register */
    FORM_RM,   /* register, memory */
    FORM_MR,   /* memory, register */
    FORM_RI,   /* register, immediate */
    FORM_MI,   /* memory, immediate */
    FORM_R,    /* register */
    FORM_M,    /* memory */
    FORM_I,    /* immediate */
    FORM_NONE, /* no operand, or another kind (segment or control register) */
    FORM_COUNT,
};

/* Classify the visible operands and bring the offsets of `insn` in order. */
enum operand_form operand_form(const struct soft_decoded *decoded, struct insn *insn);

/* 0, 1, 2, 3 for operands of 8, 16, 32, 64 bits. */
static inline unsigned operand_size_index(const ZydisDecodedOperand *operand)
{
    return operand->size == 64 ? 3 : operand->size == 32 ? 2 : operand->size == 16 ? 1 : 0;
}

/* One group of instructions each; integer.c asks them in turn. */
soft_exec_fn select_arithmetic(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn select_move(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn select_shift(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn select_multiply(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn select_bit(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn select_exchange(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn select_stack(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn select_misc(const struct soft_decoded *decoded, struct insn *insn);
