// SPDX-License-Identifier: Apache-2.0
/*
 * What an instruction must find in the vCPU's fields to be done inline: tests that send it to the
 * interpreter otherwise. All clobber the flags: after build_begin_access. On the vCPU's thread,
 * while a translation is made.
 */
#pragma once

#include "vmm/engine/soft/translator/translation.h"

/* Conditions of Jcc, and operations of emit_alu_immediate. */
#define JUMP_EQUAL     4U
#define JUMP_NOT_EQUAL 5U
#define JUMP_ABOVE     7U
#define ALU_OR         1
#define ALU_AND        4
#define ALU_CMP        7

static inline const struct insn *build_now(const struct build *build)
{
    return &build->translation->block->insns[build->index];
}

/* The instruction by the interpreter, if the host's `condition` holds. */
static inline void interpret_if(struct build *build, unsigned condition)
{
    build_cold(build, COLD_INTERPRET, emit_jump_if_forward(&build->emitter, condition));
}

/* `operation` (ALU_*) byte [field], value */
static inline void alu_byte(struct build *build, uint8_t operation, struct emit_memory field,
                            uint8_t value)
{
    emit_op_memory(&build->emitter, 0, 0x80, false, operation, &field);
    emit_byte(&build->emitter, value);
}

/* Whether one bit of the vCPU's 64-bit field at `offset` is set, or is clear. */
static inline void require_bit(struct build *build, size_t offset, uint64_t bit, bool set)
{
    unsigned number = (unsigned)__builtin_ctzl(bit);
    struct emit_memory byte = build_field(build, offset + number / 8);

    emit_op_memory(&build->emitter, 0, 0xf6, false, 0, &byte); /* TEST m8, imm8 */
    emit_byte(&build->emitter, (uint8_t)(1U << number % 8));
    interpret_if(build, set ? JUMP_EQUAL : JUMP_NOT_EQUAL);
}

/* A byte of the vCPU is 0. */
static inline void require_zero(struct build *build, struct emit_memory byte)
{
    alu_byte(build, ALU_CMP, byte, 0);
    interpret_if(build, JUMP_NOT_EQUAL);
}

/* Behind an instruction that goes on with the next one. */
static inline void build_go_on(struct build *build)
{
    if (build_now(build)->prefixes & INSN_ENDS_BLOCK)
        build_jump(build, build->rip + build_now(build)->length);
}
