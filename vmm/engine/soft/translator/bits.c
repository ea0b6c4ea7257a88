// SPDX-License-Identifier: Apache-2.0
/*
 * BT, BTS, BTR and BTC on bit strings in memory (SDM 2, BT): the bit number in a register is
 * signed, and chooses the word of memory too. So the word's address is computed first, is checked
 * as any other, and the instruction gets the number of the bit within it.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define MOVSXD 0x63
#define MOVSX  0x0fbf
#define SAR    7
#define AND    4

/* The bit number's register, in any of the host's. */
static uint8_t load_number(struct build *build)
{
    const ZydisDecodedOperand *number = &build->now->decoded.operands[1];

    return held_load(build, soft_register_offset(number->reg.value) / 8U, T2);
}

/* The number, sign-extended to 64 bits, in T2. */
static void extend_number(struct build *build, unsigned size)
{
    struct emitter *emitter = &build->emitter;
    uint8_t number = load_number(build);

    if (size == 8)
        emit_mov_register(emitter, true, T2, number);
    else
        emit_op_register(emitter, size == 4 ? MOVSXD : MOVSX, true, T2, number);
    held_lose(build, T2);
}

static void emit_instruction(struct build *build, const struct emit_memory *word, unsigned size)
{
    const ZydisDecodedInstruction *decoded = &build->now->decoded.instruction;

    if (decoded->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        emit_byte(&build->emitter, 0xf0);
    emit_op_memory(&build->emitter, size == 2 ? 0x66 : 0, (uint16_t)(0x0f00 | decoded->opcode),
                   size == 8, T2, word);
}

bool build_bits(struct build *build, const struct insn *insn)
{
    const struct copy_form *form = &build->now->form;
    struct emitter *emitter = &build->emitter;
    struct emit_memory word = {.base = T0, .index = T2};
    struct access access;
    uint8_t number;

    if (!form->bits)
        return false;
    word.scale = form->size == 8 ? 3 : form->size == 4 ? 2 : 1;
    build_begin_access(build);
    if (!access_prepare_sum(build, insn, &access))
        return false;
    extend_number(build, form->size);
    emit_shift(emitter, SAR, true, T2, 3 + word.scale);
    emit_lea(emitter, insn->address_size == 8, T0, &word);
    access_check(build, &access, form->size, form->writes);
    number = load_number(build);
    emit_mov_register(emitter, false, T2, number);
    emit_alu_immediate(emitter, AND, false, T2, form->size * 8 - 1);
    emit_lea(emitter, true, T0, &access.host);
    if (build->now->live_out & ~form->flags_killed)
        build_need_flags(build, T1);
    word = (struct emit_memory){.base = T0, .index = EMIT_NONE};
    emit_instruction(build, &word, form->size);
    held_reset(build);
    build->flags = FLAGS_HOST;
    return true;
}
