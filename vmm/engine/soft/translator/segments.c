// SPDX-License-Identifier: Apache-2.0
/*
 * Segment registers, inline (SDM 2: MOV, PUSH).
 *
 * Systems load the same few selectors over and over. The descriptor is read each time, as the
 * architecture has it; but where selector, descriptor and privilege are those of the last load of
 * that register, so is what comes of it, and no check need be done again (soft_cpu.loaded). A null
 * selector needs none.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/segment.h"
#include "vmm/engine/soft/translator/system.h"

_Static_assert(sizeof(struct cpu_segment) == 16, "a segment is copied in two pieces");

/* ---- reading ---- */

static bool move_from(struct build *build)
{
    const struct insn *insn = build_now(build);
    struct emit_memory selector = BUILD_FIELD(build, seg[insn->aux[0] % SEG_COUNT].selector);
    unsigned gpr = insn->rm & 15;
    bool in_memory = IN_MEMORY >> gpr & 1;

    if (insn->memory || insn->operand_size == 2)
        return false;
    field_load16(build, in_memory ? T0 : host_register(gpr), selector);
    if (in_memory)
        field_store(build, BUILD_FIELD(build, gpr[gpr]), T0);
    build_go_on(build);
    return true;
}

bool build_push_segment(struct build *build)
{
    const struct insn *insn = build_now(build);
    unsigned word = build_word(build);
    struct emit_memory below = {
        .base = HOST_RSP, .index = EMIT_NONE, .displacement = -(int32_t)word};
    const ZydisDecodedOperand *operand = &build->now->decoded.operands[0];
    struct access access;

    if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER ||
        ZydisRegisterGetClass(operand->reg.value) != ZYDIS_REGCLASS_SEGMENT ||
        insn->operand_size != word)
        return false;
    build_begin_access(build);
    access_prepare_stack(build, GPR_RSP, -(int)word, &access);
    access_check(build, &access, word, true);
    field_load16(build, T0, BUILD_FIELD(build, seg[insn->aux[0] % SEG_COUNT].selector));
    emit_store(&build->emitter, build->long_mode, &access.host, T0);
    emit_lea(&build->emitter, build->long_mode, HOST_RSP, &below);
    build_go_on(build);
    return true;
}

/* ---- loading ---- */

/* The linear address of the descriptor for the selector in T0, in T0; it is in the GDT, which is
 * large enough. Uses T1 and T2. */
static void locate(struct build *build)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory base = BUILD_FIELD(build, gdtr.base);
    struct emit_memory limit = BUILD_FIELD(build, gdtr.limit);
    struct emit_memory last = {.base = T0, .index = EMIT_NONE, .displacement = 7};

    emit_alu_immediate(emitter, ALU_AND, false, T0, 0xfff8);
    emit_lea(emitter, false, T1, &last);
    field_load16(build, T2, limit);
    emit_op_register(emitter, 0x39, false, T2, T1); /* CMP T1, T2 */
    interpret_if(build, JUMP_ABOVE);
    emit_op_memory(emitter, 0, 0x03, build->long_mode, T0, &base); /* ADD */
}

/* That DS of 32-bit code is flat is part of the mode: it may only become what it is. */
static bool is_of_mode(const struct build *build, unsigned index)
{
    return index == SEG_DS && !build->long_mode;
}

/* The register becomes what it was the last time that it was loaded with the selector in T0. */
static void load_known(struct build *build, unsigned index)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory selector = BUILD_FIELD(build, loaded[index].value.selector);
    struct emit_memory raw = BUILD_FIELD(build, loaded[index].raw);
    struct emit_memory from = BUILD_FIELD(build, loaded[index].value);
    struct emit_memory to = BUILD_FIELD(build, seg[index]);
    struct access access = {.address = {.base = T0, .index = EMIT_NONE},
                            .host = {.base = T0, .index = T1},
                            .scratch = 1U << T0 | 1U << T1};

    emit_op_memory(emitter, 0x66, 0x3b, false, T0, &selector); /* CMP */
    interpret_if(build, JUMP_NOT_EQUAL);
    locate(build);
    access_check(build, &access, 8, false);
    emit_load(emitter, true, T2, &access.host);
    emit_op_memory(emitter, 0, 0x3b, true, T2, &raw);
    interpret_if(build, JUMP_NOT_EQUAL);
    for (unsigned half = 0; half < 2; half++) {
        field_load(build, T1, from);
        if (is_of_mode(build, index)) {
            emit_op_memory(emitter, 0, 0x3b, true, T1, &to);
            interpret_if(build, JUMP_NOT_EQUAL);
        } else {
            field_store(build, to, T1);
        }
        from.displacement += 8;
        to.displacement += 8;
    }
}

static void load_null(struct build *build, unsigned index)
{
    struct emit_memory to = BUILD_FIELD(build, seg[index]);

    emit_alu_immediate(&build->emitter, ALU_OR, false, T0, (int32_t)(SEGMENT_UNUSABLE << 16));
    field_store(build, to, T0);
    to.displacement += 8;
    field_set(build, to, true, 0);
}

/* SS holds interrupts off. Descriptors are read as a supervisor, without RFLAGS.AC. */
static bool may_load(const struct build *build, unsigned index)
{
    if ((build->translation->mode & 3) != SOFT_MMU_SUPERVISOR)
        return false;
    return index == SEG_ES || index == SEG_FS || index == SEG_GS || index == SEG_DS;
}

static bool move_to(struct build *build)
{
    const struct insn *insn = build_now(build);
    unsigned index = insn->aux[0] % SEG_COUNT, gpr = insn->rm & 15;
    struct access access;
    uint8_t *null, *over;

    if (!may_load(build, index))
        return false;
    build_begin_access(build);
    require_cpl0(build);
    if (!build->long_mode)
        require_bit(build, offsetof(struct soft_cpu, cr0), CR0_PE, true);
    if (insn->memory) {
        if (!access_prepare(build, insn, 2, false, &access))
            return false;
        access_check(build, &access, 2, false);
        emit_op_memory(&build->emitter, 0, 0x0fb7, false, T0, &access.host); /* MOVZX */
    } else if (IN_MEMORY >> gpr & 1) {
        field_load16(build, T0, BUILD_FIELD(build, gpr[gpr]));
    } else {
        emit_op_register(&build->emitter, 0x0fb7, false, T0, host_register(gpr));
    }
    if (is_of_mode(build, index)) {
        load_known(build, index);
    } else {
        emit_op_register(&build->emitter, 0xf7, false, 0, T0); /* TEST */
        emit_u32(&build->emitter, 0xfffc);
        null = emit_jump_if_forward(&build->emitter, JUMP_EQUAL);
        load_known(build, index);
        over = emit_jump_forward(&build->emitter);
        emit_land(&build->emitter, null);
        load_null(build, index);
        emit_land(&build->emitter, over);
    }
    build_go_on(build);
    return true;
}

static bool is_segment(const ZydisDecodedOperand *operand)
{
    return operand->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(operand->reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

bool build_move_segment(struct build *build)
{
    if (is_segment(&build->now->decoded.operands[0]))
        return move_to(build);
    return is_segment(&build->now->decoded.operands[1]) && move_from(build);
}
