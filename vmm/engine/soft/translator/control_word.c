// SPDX-License-Identifier: Apache-2.0
/*
 * FLDCW and LDMXCSR: what they load is looked at first. The host gets no x87 control word that lets
 * an exception through, which is what x87_native.c counts on, and no MXCSR with a bit that is
 * reserved, which would fault: those go to the interpreter. The word is looked at and loaded from a
 * copy, since another processor may change it between the two.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define FCW_MASKS     0x3fU
#define FCW_FIXED     0x40U   /* reads 1 */
#define FCW_DEFINED   0x1f3fU /* soft_x87_normalize */
#define MXCSR_DEFINED 0xffffU

enum { ALU_OR = 1, ALU_AND = 4, ALU_CMP = 7 };

static void load_fcw(struct build *build, const struct emit_memory *from, uint8_t scratch)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory word = BUILD_FIELD(build, x87.rest);

    emit_op_memory(emitter, 0, 0x0fb7, false, scratch, from); /* MOVZX */
    emit_alu_immediate(emitter, ALU_AND, false, scratch, FCW_DEFINED);
    emit_alu_immediate(emitter, ALU_OR, false, scratch, FCW_FIXED);
    emit_store(emitter, false, &word, scratch);
    emit_alu_immediate(emitter, ALU_AND, false, scratch, FCW_MASKS);
    emit_alu_immediate(emitter, ALU_CMP, false, scratch, FCW_MASKS);
    build_cold(build, COLD_INTERPRET, emit_jump_if_forward(emitter, 5));
    emit_op_memory(emitter, 0, 0xd9, false, 5, &word);
}

static void load_mxcsr(struct build *build, const struct emit_memory *from, uint8_t scratch)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory word = BUILD_FIELD(build, x87.rest);

    emit_load(emitter, false, scratch, from);
    emit_store(emitter, false, &word, scratch);
    emit_alu_immediate(emitter, ALU_CMP, false, scratch, MXCSR_DEFINED);
    build_cold(build, COLD_INTERPRET, emit_jump_if_forward(emitter, 7)); /* above */
    emit_op_memory(emitter, 0, 0x0fae, false, 2, &word);
}

void build_control_word(struct build *build, const struct access *access)
{
    uint8_t scratch = access->constant ? T0 : T2;

    if (build->now->form.x87)
        load_fcw(build, &access->host, scratch);
    else
        load_mxcsr(build, &access->host, scratch);
    held_reset(build);
}
