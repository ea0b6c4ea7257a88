// SPDX-License-Identifier: Apache-2.0
/*
 * What is known of registers where windows are used, from one instruction of a trace to the next:
 * which were checked to point into a slot (window_code.c), alone or as the sum of two, and which
 * hold no more than 32 bits.
 *
 * A slot and its neighbours have 512 GB each. What was checked may be moved by constants: all of a
 * trace, of 32 bits each, are less than a neighbour. Nor does an index of 32 bits, eightfold, lead
 * further: where its base was checked, or is a constant, the sum needs no check of its own. The
 * index of a sum that was checked counts eightfold too, so only small constants may be added then.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define ALL_REGISTERS 0xffff

void known_begin(struct build *build)
{
    build->verified = build->written = build->narrow = 0;
    for (unsigned i = 0; i < CHECKED_SUMS; i++)
        build->sums[i].key.base = EMIT_NONE;
}

/* ---- sums ---- */

const struct checker *known_sum(const struct build *build, const struct address_key *key)
{
    for (unsigned i = 0; i < CHECKED_SUMS; i++) {
        const struct checked_sum *sum = &build->sums[i];

        if (sum->key.base == key->base && sum->key.index == key->index &&
            sum->key.scale == key->scale)
            return &sum->checker;
    }
    if (build->verified >> key->base & 1 && build->narrow >> key->index & 1)
        return &build->checker[key->base];
    if (!key->scale && build->verified >> key->index & 1 && build->narrow >> key->base & 1)
        return &build->checker[key->index];
    return NULL;
}

bool known_narrow(const struct build *build, const struct insn *insn)
{
    return (insn->base >= GPR_COUNT || build->narrow >> insn->base & 1) &&
           (insn->index >= GPR_COUNT || build->narrow >> insn->index & 1);
}

void known_add(struct build *build, const struct address_key *key, const struct checker *checker)
{
    unsigned place;

    if (key->base == EMIT_NONE)
        return;
    if (key->index == EMIT_NONE) {
        build->verified |= 1U << key->base;
        build->checker[key->base] = *checker;
        return;
    }
    place = build->sum_next++ % CHECKED_SUMS;
    build->sums[place] = (struct checked_sum){.key = *key, .checker = *checker};
}

static void forget_sums(struct build *build, uint16_t registers)
{
    for (unsigned i = 0; i < CHECKED_SUMS; i++) {
        struct address_key *key = &build->sums[i].key;

        if (key->base != EMIT_NONE && (registers >> key->base & 1 || registers >> key->index & 1))
            key->base = EMIT_NONE;
    }
}

/* ---- what instructions do ---- */

static unsigned gpr_of(const ZydisDecodedOperand *operand)
{
    uint8_t offset = operand->type == ZYDIS_OPERAND_TYPE_REGISTER
                         ? soft_register_offset(operand->reg.value)
                         : SOFT_NO_OFFSET;

    return offset == SOFT_NO_OFFSET ? GPR_COUNT : offset / 8U;
}

static bool second_is_immediate(const struct build_insn *entry)
{
    return entry->decoded.operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* Whether the instruction adds a constant to all 64 bits of `to`. */
static bool adds_constant(const struct build *build, unsigned to, int64_t *constant)
{
    const struct build_insn *entry = build->now;
    const struct insn *insn = entry->insn;

    if (insn->operand_size != 8)
        return false;
    switch (entry->decoded.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
        *constant = (int64_t)insn->immediate;
        return second_is_immediate(entry);
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
        *constant = 1;
        return true;
    case ZYDIS_MNEMONIC_LEA:
        *constant = insn->displacement;
        return insn->address_size == 8 && insn->base == to && insn->index >= GPR_COUNT;
    default:
        return false;
    }
}

/* Whether a result of 32 bits is written to a register whatever the operands are: then its upper
 * half is 0. */
static bool always_writes(const struct build_insn *entry)
{
    switch (entry->decoded.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_BSWAP:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
        return true;
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
        return second_is_immediate(entry);
    default:
        return false;
    }
}

/* Whether what it writes to its one register has 32 bits, of either sign. */
static bool result_is_narrow(const struct build *build)
{
    const struct build_insn *entry = build->now;
    int64_t immediate = (int64_t)entry->insn->immediate;
    unsigned from = gpr_of(&entry->decoded.operands[1]);

    switch (entry->decoded.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_MOVZX:
        return true;
    case ZYDIS_MNEMONIC_MOV:
        if (entry->insn->operand_size == 8 && from < GPR_COUNT)
            return build->narrow >> from & 1;
        break;
    case ZYDIS_MNEMONIC_AND:
        if (second_is_immediate(entry) && immediate >= 0)
            return true;
        break;
    case ZYDIS_MNEMONIC_SHR:
        if (second_is_immediate(entry) && (immediate & 63) >= 32)
            return true;
        break;
    default:
        break;
    }
    return entry->insn->operand_size == 4 && always_writes(entry);
}

static void note_narrow(struct build *build, unsigned to, uint16_t written)
{
    bool lone = to < GPR_COUNT && written == 1U << to;

    if (lone && build_now(build)->operand_size < 4)
        return; /* the upper part stays */
    if (lone && result_is_narrow(build))
        build->narrow |= written;
    else
        build->narrow &= ~written;
}

/* `to` holds what `from` does, or something near. */
static void follow(struct build *build, unsigned to, unsigned from)
{
    if (build->verified >> from & 1) {
        build->verified |= 1U << to;
        build->checker[to] = build->checker[from];
    } else {
        build->verified &= ~(1U << to);
    }
}

/* The one register that an instruction of 64 bits writes, where it is no constant more. */
static void note_verified(struct build *build, unsigned to)
{
    const struct build_insn *entry = build->now;
    const struct insn *insn = entry->insn;
    unsigned from = gpr_of(&entry->decoded.operands[1]);

    if (entry->decoded.instruction.mnemonic == ZYDIS_MNEMONIC_MOV && from < GPR_COUNT)
        follow(build, to, from);
    else if (entry->decoded.instruction.mnemonic == ZYDIS_MNEMONIC_LEA && insn->address_size == 8 &&
             insn->base < GPR_COUNT && insn->index >= GPR_COUNT)
        follow(build, to, insn->base);
    else
        build->verified &= ~(1U << to);
}

/* A copied instruction that writes general registers. */
static void note_copy(struct build *build)
{
    const struct build_insn *entry = build->now;
    uint16_t written = entry->form.gpr_written;
    unsigned to = gpr_of(&entry->decoded.operands[0]);
    int64_t constant;
    bool lone;

    if (entry->decoded.instruction.mnemonic == ZYDIS_MNEMONIC_LEA && to < GPR_COUNT)
        written |= 1U << to;
    if (!written)
        return;
    lone = to < GPR_COUNT && written == 1U << to;
    if (lone && adds_constant(build, to, &constant)) {
        if (constant < WINDOW_SMALL && constant > -WINDOW_SMALL)
            return;
        forget_sums(build, written);
        build->narrow &= ~written;
        return;
    }
    forget_sums(build, written);
    note_narrow(build, to, written);
    if (lone && entry->insn->operand_size == 8)
        note_verified(build, to);
    else
        build->verified &= ~written;
    build->written |= written;
}

static void forget(struct build *build, uint16_t registers)
{
    forget_sums(build, registers);
    build->verified &= ~registers;
    build->narrow &= ~registers;
    build->written |= registers;
}

void build_window_note(struct build *build, bool native)
{
    const struct build_insn *entry = build->now;
    unsigned to;

    if (!build->windowed)
        return;
    if (native && entry->form.copies) {
        note_copy(build);
        return;
    }
    switch (native ? entry->decoded.instruction.mnemonic : ZYDIS_MNEMONIC_INVALID) {
    case ZYDIS_MNEMONIC_PUSH:
        return;
    case ZYDIS_MNEMONIC_POP:
        to = gpr_of(&entry->decoded.operands[0]);
        forget(build, to < GPR_COUNT ? (uint16_t)(1U << to) : ALL_REGISTERS);
        return;
    case ZYDIS_MNEMONIC_LEAVE:
        forget_sums(build, 1U << GPR_RSP | 1U << GPR_RBP);
        follow(build, GPR_RSP, GPR_RBP);
        build->verified &= ~(1U << GPR_RBP);
        build->narrow &= ~(1U << GPR_RSP | 1U << GPR_RBP);
        build->written |= 1U << GPR_RBP | 1U << GPR_RSP;
        return;
    default:
        forget(build, ALL_REGISTERS);
        return;
    }
}
