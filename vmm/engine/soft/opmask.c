// SPDX-License-Identifier: Apache-2.0
/*
 * The mask registers of AVX-512: KMOV, logic, shifts, and tests of them, each in sizes of 8, 16, 32
 * and 64 bits; what lies above becomes 0. (SDM 2, K*; SDM 1, 15.6.)
 */
#include "vmm/engine/soft/evex.h"

/* insn->aux: AUX_SIZE has the bytes, AUX_TO what to do. */
enum opmask_operation {
    OPMASK_AND,
    OPMASK_ANDN,
    OPMASK_OR,
    OPMASK_XNOR,
    OPMASK_XOR,
    OPMASK_ADD,
    OPMASK_UNPACK,
    OPMASK_NOT,
    OPMASK_SHIFT_LEFT,
    OPMASK_SHIFT_RIGHT,
};

static uint64_t cut(const struct insn *insn, uint64_t value)
{
    unsigned bits = insn->aux[AUX_SIZE] * 8U;

    return bits < 64 ? value & ((1UL << bits) - 1) : value;
}

/* ---- handlers ---- */

static uint64_t compute(const struct insn *insn, uint64_t first, uint64_t second)
{
    unsigned bits = insn->aux[AUX_SIZE] * 8U, count = insn->immediate & 0xff;

    switch (insn->aux[AUX_TO]) {
    case OPMASK_AND:
        return first & second;
    case OPMASK_ANDN:
        return ~first & second;
    case OPMASK_OR:
        return first | second;
    case OPMASK_XNOR:
        return ~(first ^ second);
    case OPMASK_XOR:
        return first ^ second;
    case OPMASK_ADD:
        return first + second;
    case OPMASK_UNPACK: /* halves of the size */
        return first << bits / 2 | (second & ((1UL << bits / 2) - 1));
    case OPMASK_NOT:
        return ~second;
    case OPMASK_SHIFT_LEFT:
        return count < bits ? second << count : 0;
    default:
        return count < bits ? cut(insn, second) >> count : 0;
    }
}

static void exec_compute(struct soft_cpu *cpu, const struct insn *insn)
{
    evex_check(cpu);
    cpu->opmask[insn->reg & 7] =
        cut(insn, compute(insn, cpu->opmask[insn->vvvv & 7], cpu->opmask[insn->rm & 7]));
}

static void set_flags(struct soft_cpu *cpu, bool zero, bool carry)
{
    cpu->rflags = (cpu->rflags & ~VECTOR_FLAGS) | (zero ? FLAG_ZF : 0) | (carry ? FLAG_CF : 0);
}

static void exec_kortest(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t any;

    evex_check(cpu);
    any = cut(insn, cpu->opmask[insn->reg & 7] | cpu->opmask[insn->rm & 7]);
    set_flags(cpu, !any, any == cut(insn, ~0UL));
}

static void exec_ktest(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t first, second;

    evex_check(cpu);
    first = cpu->opmask[insn->reg & 7];
    second = cpu->opmask[insn->rm & 7];
    set_flags(cpu, !cut(insn, first & second), !cut(insn, ~first & second));
}

static void exec_load(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value = 0;
    unsigned size = insn->aux[AUX_SIZE];

    evex_check(cpu);
    if (insn->memory)
        soft_read_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_READ), &value, size & 15);
    else
        value = cpu->opmask[insn->rm & 7];
    cpu->opmask[insn->reg & 7] = cut(insn, value);
}

static void exec_store(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE];

    evex_check(cpu);
    soft_write_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_WRITE),
                     &cpu->opmask[insn->reg & 7], size & 15);
}

static void exec_from_gpr(struct soft_cpu *cpu, const struct insn *insn)
{
    evex_check(cpu);
    cpu->opmask[insn->reg & 7] = cut(insn, cpu->gpr[insn->rm & 15]);
}

static void exec_to_gpr(struct soft_cpu *cpu, const struct insn *insn)
{
    evex_check(cpu);
    cpu->gpr[insn->reg & 15] = cut(insn, cpu->opmask[insn->rm & 7]);
}

/* ---- selection ---- */

static soft_exec_fn select_move(const struct soft_decoded *decoded)
{
    uint8_t target = vector_place_of(&decoded->operands[0]);

    if (target == PLACE_MEMORY)
        return exec_store;
    if (target == PLACE_GPR)
        return exec_to_gpr;
    return vector_place_of(&decoded->operands[1]) == PLACE_GPR ? exec_from_gpr : exec_load;
}

#define SIZES(name, suffix_exec)              \
    case ZYDIS_MNEMONIC_##name##B:            \
        return of_size(insn, 1, suffix_exec); \
    case ZYDIS_MNEMONIC_##name##W:            \
        return of_size(insn, 2, suffix_exec); \
    case ZYDIS_MNEMONIC_##name##D:            \
        return of_size(insn, 4, suffix_exec); \
    case ZYDIS_MNEMONIC_##name##Q:            \
        return of_size(insn, 8, suffix_exec);

static soft_exec_fn of_size(struct insn *insn, unsigned size, soft_exec_fn exec)
{
    insn->aux[AUX_SIZE] = (uint8_t)size;
    return exec;
}

static soft_exec_fn operation(struct insn *insn, enum opmask_operation what)
{
    insn->aux[AUX_TO] = what;
    return exec_compute;
}

soft_exec_fn evex_select_opmask(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
        SIZES(KAND, operation(insn, OPMASK_AND))
        SIZES(KANDN, operation(insn, OPMASK_ANDN))
        SIZES(KOR, operation(insn, OPMASK_OR))
        SIZES(KXNOR, operation(insn, OPMASK_XNOR))
        SIZES(KXOR, operation(insn, OPMASK_XOR))
        SIZES(KADD, operation(insn, OPMASK_ADD))
        SIZES(KNOT, operation(insn, OPMASK_NOT))
        SIZES(KSHIFTL, operation(insn, OPMASK_SHIFT_LEFT))
        SIZES(KSHIFTR, operation(insn, OPMASK_SHIFT_RIGHT))
        SIZES(KORTEST, exec_kortest)
        SIZES(KTEST, exec_ktest)
        SIZES(KMOV, select_move(decoded))
    case ZYDIS_MNEMONIC_KUNPCKBW:
        return of_size(insn, 2, operation(insn, OPMASK_UNPACK));
    case ZYDIS_MNEMONIC_KUNPCKWD:
        return of_size(insn, 4, operation(insn, OPMASK_UNPACK));
    case ZYDIS_MNEMONIC_KUNPCKDQ:
        return of_size(insn, 8, operation(insn, OPMASK_UNPACK));
    default:
        return NULL;
    }
}
