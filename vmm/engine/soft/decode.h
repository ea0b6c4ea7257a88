// SPDX-License-Identifier: Apache-2.0
/*
 * Decoding: bytes to struct insn, by Zydis. Done once per block; the interpreter never decodes
 * twice what has not changed.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "vmm/engine/soft/cpu.h"

/* What a select function looks at. */
struct soft_decoded {
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    const struct cpu_definition *model;
    uint8_t code_size; /* 2, 4, 8 */
};

enum soft_decode_result {
    SOFT_DECODE_OK,        /* insn->exec is set (it may be the #UD handler) */
    SOFT_DECODE_TRUNCATED, /* more bytes are needed: the next page must be fetched */
    SOFT_DECODE_TOO_LONG,  /* over 15 bytes: #GP */
};

/* Decode at most `available` bytes for a CPU in a mode with `code_size`. What the model does not
 * show in CPUID decodes to #UD. */
enum soft_decode_result soft_decode(const struct cpu_definition *model, uint8_t code_size,
                                    const uint8_t *bytes, unsigned available, struct insn *insn);

/* Decode bytes from which `known` was decoded before, and which others may have written since.
 * False unless they still are that instruction, in every part. */
bool soft_decode_again(const struct cpu_definition *model, uint8_t code_size, const uint8_t *bytes,
                       const struct insn *known, struct soft_decoded *decoded);

/* Decode what soft_decode accepted before, for who wants more of it than struct insn. False where
 * it is no instruction. */
bool soft_decode_whole(const struct cpu_definition *model, uint8_t code_size, const uint8_t *bytes,
                       unsigned available, struct soft_decoded *decoded);

/* Whether the instruction does not exist for the guest: it raises #UD, and its length means
 * nothing.
 */
bool soft_insn_undefined(const struct insn *insn);

#define SOFT_NO_OFFSET 0xff

/* Byte offset of a general register (of any width) in soft_cpu.gpr; SOFT_NO_OFFSET for others. */
uint8_t soft_register_offset(ZydisRegister reg);
