// SPDX-License-Identifier: Apache-2.0
/*
 * A guest's instruction as an instruction of the host: the same opcode, with other registers where
 * the guest's live elsewhere, and with the memory operand at an address that was checked.
 *
 * Only what stands on the allow-list is copied. The list is by what an instruction is and touches,
 * never "all but": an instruction that Zydis knows and we did not think of is not on it. Whether
 * the guest's CPU model has the instruction is not asked here: soft_decode knows.
 */
#pragma once

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/engine/soft/translator/emit.h"

/* What the host can do natively; a switch hides features from the translator. */
struct copy_features {
    bool bmi2, avx, avx512;
};

/* What an instruction needs to be copied. */
struct copy_form {
    bool copies; /* on the allow-list */
    /* Not copied: BT or its like on a bit string in memory, whose operand lies where the bit number
     * says. What follows is as if it were copied. */
    bool bits;
    bool vector;   /* touches XMM or YMM registers or MXCSR: the guest's must be live in the host */
    bool avx512;   /* the same, and needs all of what AVX-512 has */
    bool x87;      /* the same for x87 and MMX registers */
    bool pointers; /* ..and it changes the pointers to the last x87 instruction and operand */
    bool control;  /* FLDCW or LDMXCSR: what it loads must be looked at; copy_emit refuses it */
    bool
        sparse; /* touches only parts of its memory: the others must not become accessed or dirty */
    bool memory;        /* its ModRM names memory that it accesses (LEA and NOP access none) */
    bool reads, writes; /* that memory */
    bool faults;        /* may raise #DE, #XM or #GP for alignment: a signal on the host */
    uint8_t size;       /* bytes of that memory, 1..64 */
    /* General registers of the guest (a bit each) that it reads and writes; a partial write (8 or
     * 16 bits) and a conditional one are both. Those of the memory operand's address are not in. */
    uint16_t gpr_read, gpr_written;
    /* Status flags (CPUID-style bits of RFLAGS) that it needs, that it may change, and that it
     * changes whatever its operands are: nothing of their old value is left. Undefined ones count
     * as changed, but not as surely changed where `exact`. */
    uint32_t flags_read, flags_written, flags_killed;
};

/* Look at a decoded instruction of the guest. `exact`: undefined flags may keep their old value. */
void copy_classify(const ZydisDecodedInstruction *instruction, const ZydisDecodedOperand *operands,
                   const struct copy_features *features, bool exact, struct copy_form *form);

/* Emit the instruction for the host, which is in 64-bit mode, whatever mode it was decoded for.
 * `map` gives the host's register for each general one of the guest. `memory` takes the place of
 * the memory operand (also that of LEA; NULL where the form has none). No segment prefix and no
 * address-size prefix of the guest's is kept. False when it cannot be encoded so (AH with a
 * register that needs REX): nothing was emitted then. */
bool copy_emit(struct emitter *emitter, const ZydisDecodedInstruction *instruction,
               const ZydisDecodedOperand *operands, const uint8_t *bytes, const uint8_t map[16],
               const struct emit_memory *memory);

/* The register whose second byte (AH, CH, DH, BH) is an operand beside one in memory, which may
 * want REX; EMIT_NONE where there is none, or where the register is another operand too. */
uint8_t copy_high_register(const ZydisDecodedInstruction *instruction,
                           const ZydisDecodedOperand *operands);
/* copy_emit while that register's two lowest bytes are exchanged. */
bool copy_emit_exchanged(struct emitter *emitter, const ZydisDecodedInstruction *instruction,
                         const ZydisDecodedOperand *operands, const uint8_t *bytes,
                         const uint8_t map[16], const struct emit_memory *memory);
