// SPDX-License-Identifier: Apache-2.0
/*
 * What the inline forms of system instructions share: fields of the vCPU, and what an instruction
 * must find in them, else it goes to the interpreter. The tests clobber the flags: after
 * build_begin_access. On the vCPU's thread, while a translation is made.
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
        build_jump(build, build_next(build));
}

/* Whether the block is of privilege 3. */
static inline bool of_user(const struct build *build)
{
    return (build->translation->mode & 3) == SOFT_MMU_USER;
}

/* Stores and loads of the vCPU's fields. */
static inline void field_set_byte(struct build *build, struct emit_memory field, uint8_t value)
{
    emit_op_memory(&build->emitter, 0, 0xc6, false, 0, &field);
    emit_byte(&build->emitter, value);
}

static inline void field_set(struct build *build, struct emit_memory field, bool wide,
                             int32_t value)
{
    emit_op_memory(&build->emitter, 0, 0xc7, wide, 0, &field);
    emit_u32(&build->emitter, (uint32_t)value);
}

static inline void field_load(struct build *build, uint8_t to, struct emit_memory field)
{
    emit_load(&build->emitter, true, to, &field);
}

static inline void field_store(struct build *build, struct emit_memory field, uint8_t from)
{
    emit_store(&build->emitter, true, &field, from);
}

static inline void field_load16(struct build *build, uint8_t to, struct emit_memory field)
{
    emit_op_memory(&build->emitter, 0, 0x0fb7, false, to, &field);
}

static inline void require_cpl0(struct build *build)
{
    require_zero(build, BUILD_FIELD(build, cpl));
}

/* No interrupt waits for IF. */
static inline void require_quiet(struct build *build)
{
    require_zero(build, BUILD_FIELD(build, interrupt_waiting));
}

/* `reg` holds a canonical address. Uses `scratch`. */
static inline void require_canonical(struct build *build, uint8_t reg, uint8_t scratch)
{
    emit_mov_register(&build->emitter, true, scratch, reg);
    emit_shift(&build->emitter, 4, true, scratch, 16);
    emit_shift(&build->emitter, 7, true, scratch, 16);
    emit_op_register(&build->emitter, 0x39, true, scratch, reg);
    interpret_if(build, JUMP_NOT_EQUAL);
}

/* system.c: RFLAGS as a whole in T0, out of memory and the carrier, which must be valid. Uses T1.
 */
void rflags_load(struct build *build);
/* RFLAGS become T1, and the carrier follows. Uses T0 and T2. */
void rflags_store(struct build *build);

/* system_call.c, segments.c: emit the present instruction, if it is one of the usual cases. */
bool build_syscall(struct build *build);
bool build_sysret(struct build *build);
bool build_sysenter(struct build *build);
bool build_sysexit(struct build *build);
bool build_move_segment(struct build *build);
bool build_push_segment(struct build *build);
