// SPDX-License-Identifier: Apache-2.0
/*
 * Stack instructions and near branches (SDM 2: PUSH, POP, LEAVE, CALL, RET, JMP, Jcc).
 *
 * What stores or loads comes first, the change of RSP last: so a miss or a fault finds the
 * instruction not begun. An indirect branch leaves the flags in the carrier and jumps through a
 * table by the low bits of its target, which checks that it is the right one.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define JUMP_BYTES 5 /* of a jump that build_jump makes */
#define SHL        4

static void move_rsp(struct build *build, uint8_t base, int32_t distance)
{
    struct emit_memory sum = {.base = base, .index = EMIT_NONE, .displacement = distance};

    emit_lea(&build->emitter, build->long_mode, HOST_RSP, &sum);
}

/* ---- the stack ---- */

/* Before the access of a word at [base + displacement], the instruction's only one. */
static void begin_stack(struct build *build, unsigned base, int displacement, bool write)
{
    const struct address_key key = {.base = (uint8_t)base, .index = EMIT_NONE};

    build_window_choose_stack(build, base);
    if (!group_holds(build, &key, displacement, build_word(build), write))
        build_begin_access(build);
}

/* Check the slot below RSP; it is [access->host]. */
static void push_check(struct build *build, struct access *access)
{
    access_prepare_stack(build, GPR_RSP, -(int)build_word(build), access);
    access_check(build, access, build_word(build), true);
}

static void push_register(struct build *build, unsigned gpr)
{
    struct access access;
    uint8_t reg;

    begin_stack(build, GPR_RSP, -(int)build_word(build), true);
    push_check(build, &access);
    reg = held_load(build, gpr, T2);
    build_window_commit(build, true);
    emit_store(&build->emitter, build->long_mode, &access.host, reg);
    move_rsp(build, HOST_RSP, -(int)build_word(build));
}

/* Store a constant at the checked slot. Uses T2. */
static void store_constant(struct build *build, const struct emit_memory *to, uint64_t value)
{
    if (build->long_mode && (int64_t)value != (int32_t)value) {
        held_lose(build, T2);
        emit_mov_immediate(&build->emitter, T2, value);
        build_window_commit(build, true);
        emit_store(&build->emitter, true, to, T2);
        return;
    }
    build_window_commit(build, true);
    emit_op_memory(&build->emitter, 0, 0xc7, build->long_mode, 0, to);
    emit_u32(&build->emitter, (uint32_t)value);
}

static void push_constant(struct build *build, uint64_t value)
{
    struct access access;

    begin_stack(build, GPR_RSP, -(int)build_word(build), true);
    push_check(build, &access);
    store_constant(build, &access.host, value);
    move_rsp(build, HOST_RSP, -(int)build_word(build));
}

static bool push_memory(struct build *build)
{
    struct access access;

    build_begin_access(build);
    if (!access_prepare(build, build_now(build), build_word(build), false, &access))
        return false;
    access_check(build, &access, build_word(build), false);
    held_lose(build, T0);
    emit_load(&build->emitter, build->long_mode, T0, &access.host);
    push_check(build, &access);
    emit_store(&build->emitter, build->long_mode, &access.host, T0);
    move_rsp(build, HOST_RSP, -(int)build_word(build));
    return true;
}

static void pop_register(struct build *build, unsigned gpr)
{
    struct emit_memory field = BUILD_FIELD(build, gpr[gpr]);
    bool in_memory = IN_MEMORY >> gpr & 1;
    struct access access;

    begin_stack(build, GPR_RSP, 0, false);
    access_prepare_stack(build, GPR_RSP, 0, &access);
    access_check(build, &access, build_word(build), false);
    build_window_commit(build, false);
    emit_load(&build->emitter, build->long_mode, in_memory ? T2 : host_register(gpr), &access.host);
    if (in_memory) {
        emit_store(&build->emitter, true, &field, T2);
        held_set(build, T2, gpr);
    }
    if (gpr != GPR_RSP)
        move_rsp(build, HOST_RSP, (int)build_word(build));
}

static void leave(struct build *build)
{
    struct access access;

    begin_stack(build, GPR_RBP, 0, false);
    access_prepare_stack(build, GPR_RBP, 0, &access);
    access_check(build, &access, build_word(build), false);
    held_lose(build, T2);
    build_window_commit(build, false);
    emit_load(&build->emitter, build->long_mode, T2, &access.host);
    move_rsp(build, GPR_RBP, (int)build_word(build));
    emit_mov_register(&build->emitter, true, GPR_RBP, T2);
}

/* ---- branches ---- */

static void jump_by(struct build *build, enum exit_kind kind, uint64_t rip)
{
    bool carried = build->flags == FLAGS_CARRIER;
    struct cold *cold =
        build_cold(build, carried ? COLD_CARRIED : COLD_EXIT, emit_jump_forward(&build->emitter));

    if (cold)
        cold->number = build_exit(build, kind, rip, cold->place);
}

void build_jump(struct build *build, uint64_t rip)
{
    jump_by(build, EXIT_DIRECT, rip);
}

void build_jump_behind(struct build *build, uint64_t rip)
{
    jump_by(build, EXIT_BEHIND, rip);
}

/* Whether the mode is left for that of user code, which may have windows or not. */
static bool leads_to_user(const struct build *build, uint8_t mode)
{
    return build->cpu->user_windows && (mode & 3) == SOFT_MMU_USER &&
           (build->translation->mode & 3) != SOFT_MMU_USER;
}

void build_jump_indirect(struct build *build, uint8_t mode, int undo)
{
    struct emit_memory table = {
        .base = EMIT_NONE,
        .index = T1,
        .scale = 3,
        .displacement = (int32_t)(uintptr_t)build->translator->indirect[mode & ~MODE_PLAIN]};
    struct site *site = build_site(build);
    uint32_t number;

    if (!site)
        return;
    number = build_exit(build, EXIT_INDIRECT, build->rip, NULL);
    build->translator->exits[number].undo = (int8_t)undo;
    build->translator->exits[number].site = (uint32_t)(site - build->translator->sites);
    if (build->flags == FLAGS_HOST)
        emit_flags_save(build);
    emit_op_register(&build->emitter, 0x0fb7, false, T1, T0); /* MOVZX: INDIRECT_BITS */
    emit_mov_number(&build->emitter, RELOCATION_EXIT, T2, number);
    if (leads_to_user(build, mode)) {
        struct emit_memory present = BUILD_FIELD(build, user_table[mode & MODE_32 ? 1 : 0]);

        emit_shift(&build->emitter, SHL, true, T1, 3);
        emit_op_memory(&build->emitter, 0, 0x03, true, T1, &present);
        table = (struct emit_memory){.base = T1, .index = EMIT_NONE};
    }
    emit_op_memory(&build->emitter, 0, 0xff, false, 4, &table);
}

static void jump_indirect(struct build *build, int undo)
{
    build_jump_indirect(build, build->translation->mode, undo);
}

/* The target of an indirect branch in T0. */
static bool load_target(struct build *build)
{
    const ZydisDecodedOperand *operand = &build->now->decoded.operands[0];
    struct access access;

    build_begin_access(build);
    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        uint8_t gpr = soft_register_offset(operand->reg.value) / 8;

        emit_mov_register(&build->emitter, build->long_mode, T0, held_load(build, gpr, T0));
        return true;
    }
    if (!access_prepare(build, build_now(build), build_word(build), false, &access))
        return false;
    access_check(build, &access, build_word(build), false);
    build_window_commit(build, false);
    emit_load(&build->emitter, build->long_mode, T0, &access.host);
    return true;
}

/* The target of a relative branch; false where it raises. */
static bool relative(const struct build *build, uint64_t *target)
{
    *target = build_next(build) + build_now(build)->immediate;
    if (!build->long_mode)
        *target = (uint32_t)*target;
    return !build->long_mode || soft_canonical(*target);
}

static bool jump(struct build *build)
{
    uint64_t target;

    if (build->now->decoded.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        if (!relative(build, &target))
            return false;
        if (build->now->follow == FOLLOW_NONE)
            build_jump(build, target);
        return true;
    }
    if (build->now->decoded.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
        build_window_choose(build);
    if (!load_target(build))
        return false;
    jump_indirect(build, 0);
    return true;
}

/* A call raises before it pushes. The target is in T0, the flags in the carrier; uses T1. */
static void check_canonical(struct build *build)
{
    held_lose(build, T1);
    emit_mov_register(&build->emitter, true, T1, T0);
    emit_shift(&build->emitter, 7, true, T1, 47); /* 0 or -1 */
    emit_alu_immediate(&build->emitter, 0, true, T1, 1);
    emit_alu_immediate(&build->emitter, 7, true, T1, 1);
    build_cold(build, COLD_INTERPRET, emit_jump_if_forward(&build->emitter, 7));
}

/* Store the address of the next instruction at the checked slot. Uses T2. */
static void store_next(struct build *build, const struct emit_memory *to)
{
    uint64_t next = build_next(build);

    if (build->long_mode && (int64_t)next != (int32_t)next) {
        held_lose(build, T2);
        emit_mov_linear(&build->emitter, T2, next, false);
        build_window_commit(build, true);
        emit_store(&build->emitter, true, to, T2);
        return;
    }
    store_constant(build, to, next);
    emit_relocation(&build->emitter,
                    build->long_mode ? RELOCATION_ADDRESS_SIGNED : RELOCATION_ADDRESS_CUT,
                    build->emitter.at - 4);
}

static bool call(struct build *build)
{
    bool direct = build->now->decoded.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    struct access access;
    uint64_t target = 0;

    /* The target takes T0, and memory is accessed once by a window. */
    if (direct || (build->now->decoded.operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                   !mode_is_small(build->translation->mode)))
        build_window_choose_stack(build, GPR_RSP);
    if (!direct && build->long_mode)
        build_carry_flags(build);
    if (direct ? !relative(build, &target) : !load_target(build))
        return false;
    if (direct)
        begin_stack(build, GPR_RSP, -(int)build_word(build), true);
    else if (build->long_mode)
        check_canonical(build);
    push_check(build, &access);
    store_next(build, &access.host);
    move_rsp(build, HOST_RSP, -(int)build_word(build));
    if (direct)
        build_jump(build, target);
    else
        jump_indirect(build, -(int)build_word(build));
    return true;
}

static bool ret(struct build *build)
{
    unsigned drop = build_word(build) + (uint16_t)build_now(build)->immediate;
    struct access access;

    if (drop > INT8_MAX)
        return false;
    begin_stack(build, GPR_RSP, 0, false);
    access_prepare_stack(build, GPR_RSP, 0, &access);
    access_check(build, &access, build_word(build), false);
    build_window_commit(build, false);
    emit_load(&build->emitter, build->long_mode, T0, &access.host);
    move_rsp(build, HOST_RSP, (int)drop);
    jump_indirect(build, (int)drop);
    return true;
}

static bool jump_conditional(struct build *build)
{
    unsigned condition = build->now->decoded.instruction.opcode & 15;
    enum follow follow = build->now->follow;
    struct cold *cold;
    uint64_t target;

    if (!relative(build, &target))
        return false;
    build_need_flags(build, T2);
    if (follow == FOLLOW_TARGET) {
        condition ^= 1;
        target = build_next(build);
    }
    cold = build_cold(build, COLD_EXIT, emit_jump_if_forward(&build->emitter, condition));
    if (cold)
        cold->number = build_exit(build, EXIT_DIRECT, target, cold->place);
    if (follow == FOLLOW_NONE)
        build_jump(build, build_next(build));
    return true;
}

/* JCXZ and LOOP, which leave the flags alone: the host's own, over a jump. LOOP jumps where the
 * count is not 0 after it was taken down. */
static bool jump_by_count(struct build *build, bool loop)
{
    struct emit_memory less = {.base = GPR_RCX, .index = EMIT_NONE, .displacement = -1};
    bool wide = build_now(build)->address_size == 8;
    uint64_t target;

    if (build_now(build)->address_size == 2 || !relative(build, &target))
        return false;
    if (loop)
        emit_lea(&build->emitter, wide, GPR_RCX, &less);
    if (!wide)
        emit_byte(&build->emitter, 0x67);
    emit_byte(&build->emitter, 0xe3); /* JRCXZ, JECXZ */
    emit_byte(&build->emitter, JUMP_BYTES);
    build_jump(build, loop ? target : build_next(build));
    build_jump(build, loop ? build_next(build) : target);
    return true;
}

static bool push(struct build *build)
{
    const ZydisDecodedOperand *operand = &build->now->decoded.operands[0];
    uint8_t offset;

    switch (operand->type) {
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        push_constant(build, build_now(build)->immediate);
        return true;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return push_memory(build);
    default:
        offset = soft_register_offset(operand->reg.value);
        if (offset == SOFT_NO_OFFSET)
            return false;
        push_register(build, offset / 8);
        return true;
    }
}

static bool pop(struct build *build)
{
    const ZydisDecodedOperand *operand = &build->now->decoded.operands[0];
    uint8_t offset;

    if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return false;
    offset = soft_register_offset(operand->reg.value);
    if (offset == SOFT_NO_OFFSET)
        return false;
    pop_register(build, offset / 8);
    return true;
}

bool build_special(struct build *build)
{
    const ZydisDecodedInstruction *decoded = &build->now->decoded.instruction;
    const struct insn *insn = build_now(build);

    if (insn->operand_size != build_word(build) ||
        decoded->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    if (decoded->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return false;
    switch (decoded->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
        return push(build);
    case ZYDIS_MNEMONIC_POP:
        return pop(build);
    case ZYDIS_MNEMONIC_LEAVE:
        leave(build);
        return true;
    case ZYDIS_MNEMONIC_JMP:
        return jump(build);
    case ZYDIS_MNEMONIC_CALL:
        return call(build);
    case ZYDIS_MNEMONIC_RET:
        return ret(build);
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        return jump_by_count(build, false);
    case ZYDIS_MNEMONIC_LOOP:
        return jump_by_count(build, true);
    default:
        break;
    }
    if (decoded->meta.category == ZYDIS_CATEGORY_COND_BR &&
        ((decoded->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && decoded->opcode >> 4 == 7) ||
         (decoded->opcode_map == ZYDIS_OPCODE_MAP_0F && decoded->opcode >> 4 == 8)))
        return jump_conditional(build);
    return false;
}
