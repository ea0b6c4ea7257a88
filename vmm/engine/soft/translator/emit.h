// SPDX-License-Identifier: Apache-2.0
/*
 * Writing instructions of the host (SDM 2, chapter 2): bytes, and the few forms that the translator
 * makes of its own accord. What a guest's instruction becomes is copy.h.
 *
 * Registers are numbered as in machine code (enum cpu_gpr). All addresses are those of the writable
 * view of the code cache; a relative jump within it is the same in the executable one. When there
 * is no room the emitter only says so: look at `full` once, at the end.
 *
 * Constants that change when the code is used elsewhere are recorded: relocation.h. Distances of
 * jumps are by themselves; of the others, whoever emits them says what they are.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vmm/engine/soft/translator/relocation.h"

struct emitter {
    uint8_t *at, *end;
    bool full; /* something did not fit: what was written is of no use */
    /* Of what is emitted into the piece of code that begins at `piece`; NULL: nothing is recorded.
     */
    struct relocation *relocations;
    uint32_t relocation_count, relocation_max;
    uint8_t *piece;
    bool cold; /* it is the second one */
};

/* A memory operand of the host: [base + index * (1 << scale) + displacement]. A register is
 * EMIT_NONE where there is none; without both, the displacement is an absolute address below 2 GB.
 * The index is never RSP. */
#define EMIT_NONE 0xff
struct emit_memory {
    uint8_t base, index, scale;
    bool gs;          /* the GS prefix: the delta of the windows */
    uint8_t relocate; /* enum relocation_kind of the displacement, which has 32 bits then */
    int32_t displacement;
};

/* Operand sizes of the forms below are 4 or 8 bytes: `wide` says 8. */

static inline void emit_byte(struct emitter *emitter, uint8_t byte)
{
    if (emitter->at < emitter->end)
        *emitter->at++ = byte;
    else
        emitter->full = true;
}

static inline void emit_bytes(struct emitter *emitter, const void *bytes, unsigned count)
{
    if ((uintptr_t)(emitter->end - emitter->at) < count) {
        emitter->full = true;
        return;
    }
    memcpy(emitter->at, bytes, count);
    emitter->at += count;
}

static inline void emit_u32(struct emitter *emitter, uint32_t value)
{
    emit_bytes(emitter, &value, sizeof(value));
}

static inline void emit_u64(struct emitter *emitter, uint64_t value)
{
    emit_bytes(emitter, &value, sizeof(value));
}

/* The constant at `at`, which was emitted or is about to be, is of this kind. */
void emit_relocation(struct emitter *emitter, enum relocation_kind kind, const uint8_t *at);

/* ModRM, SIB and displacement of a memory operand, with `reg` (0..7) in ModRM.reg. REX.X and REX.B
 * are the caller's: emit_memory_rex. Without `short_displacement` it has 32 bits or is 0: EVEX
 * multiplies one of 8 bits. */
void emit_modrm(struct emitter *emitter, uint8_t reg, const struct emit_memory *memory,
                bool short_displacement);
/* REX.X and REX.B bits (2 and 1) for `memory`. */
uint8_t emit_memory_rex(const struct emit_memory *memory);

/* opcode [memory], reg; or the other direction: what the opcode says. With a prefix byte (0: none),
 * and opcodes of the map 0F given as 0x0fXX. */
void emit_op_memory(struct emitter *emitter, uint8_t prefix, uint16_t opcode, bool wide,
                    uint8_t reg, const struct emit_memory *memory);
/* opcode rm, reg with registers. */
void emit_op_register(struct emitter *emitter, uint16_t opcode, bool wide, uint8_t reg, uint8_t rm);

void emit_mov_register(struct emitter *emitter, bool wide, uint8_t to, uint8_t from);
/* The shortest form that leaves the flags alone. */
void emit_mov_immediate(struct emitter *emitter, uint8_t to, uint64_t value);
/* The same with a number of the kind, below 2^32. */
void emit_mov_number(struct emitter *emitter, enum relocation_kind kind, uint8_t to,
                     uint32_t value);
/* The same with a linear address of the guest that moves with its block; `cut`: it is one of 32
 * bits however the block moves. */
void emit_mov_linear(struct emitter *emitter, uint8_t to, uint64_t value, bool cut);
void emit_load(struct emitter *emitter, bool wide, uint8_t to, const struct emit_memory *from);
void emit_store(struct emitter *emitter, bool wide, const struct emit_memory *to, uint8_t from);
void emit_lea(struct emitter *emitter, bool wide, uint8_t to, const struct emit_memory *memory);
/* ADD, OR, AND, SUB, XOR, CMP with an immediate (`operation` is ModRM.reg: 0, 1, 4, 5, 6, 7). */
void emit_alu_immediate(struct emitter *emitter, uint8_t operation, bool wide, uint8_t reg,
                        int32_t value);
void emit_alu_memory_immediate(struct emitter *emitter, uint8_t operation, bool wide,
                               const struct emit_memory *memory, int32_t value);
/* SHL (4), SHR (5), SAR (7) by an immediate. */
void emit_shift(struct emitter *emitter, uint8_t operation, bool wide, uint8_t reg, uint8_t count);

/* Jumps to an address in the cache. `condition` is the low four bits of Jcc's opcode. */
void emit_jump(struct emitter *emitter, const uint8_t *target);
void emit_call(struct emitter *emitter, const uint8_t *target);
void emit_jump_if(struct emitter *emitter, unsigned condition, const uint8_t *target);

/* A jump whose target comes later: emit_*_forward returns the place of the 32-bit distance. */
uint8_t *emit_jump_forward(struct emitter *emitter);
uint8_t *emit_jump_if_forward(struct emitter *emitter, unsigned condition);
/* Let the jump at `place` go to where the emitter stands, or to `target`. */
void emit_land(struct emitter *emitter, uint8_t *place);
void emit_patch(uint8_t *place, const uint8_t *target);
