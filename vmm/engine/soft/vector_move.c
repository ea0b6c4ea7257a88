// SPDX-License-Identifier: Apache-2.0
/*
 * Whole moves of vector registers: loads, stores and copies of 4 to 32 bytes, broadcasts of 128
 * bits, and the moves of MMX registers. They are most of what kernels and libraries do with
 * vectors, and so need no stub. (SDM 2, MOV* of the vector sets.)
 */
#include "vmm/engine/soft/vector.h"

/* ---- handlers ---- */

/* Load `size` bytes and clear the register up to `end`: 16 for legacy, 64 for VEX. */
static inline __attribute__((always_inline)) void
exec_load(struct soft_cpu *cpu, const struct insn *insn, unsigned size, bool vex)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];
    uint8_t value[32];

    vector_check(cpu, vex);
    soft_read_bytes(cpu, vector_address(cpu, insn, size, SOFT_READ), value, size);
    memcpy(vector->u8, value, size);
    memset(vector->u8 + size, 0, (vex ? sizeof(vector->u8) : size < 16 ? 16 : size) - size);
}

static inline __attribute__((always_inline)) void
exec_store(struct soft_cpu *cpu, const struct insn *insn, unsigned size, bool vex)
{
    vector_check(cpu, vex);
    soft_write_bytes(cpu, vector_address(cpu, insn, size, SOFT_WRITE),
                     cpu->vector[insn->reg & 15].u8, size);
}

static inline __attribute__((always_inline)) void
exec_copy(struct soft_cpu *cpu, const struct insn *insn, unsigned size, bool vex)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];
    uint8_t value[32];

    vector_check(cpu, vex);
    memcpy(value, cpu->vector[insn->rm & 15].u8, size);
    memcpy(vector->u8, value, size);
    memset(vector->u8 + size, 0, (vex ? sizeof(vector->u8) : size < 16 ? 16 : size) - size);
}

#define DEFINE_MOVE(kind, size, vex, suffix)                                             \
    static void exec_##kind##size##suffix(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                                    \
        exec_##kind(cpu, insn, size, vex);                                               \
    }
DEFINE_MOVE(load, 4, false, _sse)
DEFINE_MOVE(load, 8, false, _sse)
DEFINE_MOVE(load, 16, false, _sse)
DEFINE_MOVE(load, 4, true, _avx)
DEFINE_MOVE(load, 8, true, _avx)
DEFINE_MOVE(load, 16, true, _avx)
DEFINE_MOVE(load, 32, true, _avx)
DEFINE_MOVE(store, 4, false, _sse)
DEFINE_MOVE(store, 8, false, _sse)
DEFINE_MOVE(store, 16, false, _sse)
DEFINE_MOVE(store, 4, true, _avx)
DEFINE_MOVE(store, 8, true, _avx)
DEFINE_MOVE(store, 16, true, _avx)
DEFINE_MOVE(store, 32, true, _avx)
DEFINE_MOVE(copy, 8, false, _sse)
DEFINE_MOVE(copy, 16, false, _sse)
DEFINE_MOVE(copy, 8, true, _avx)
DEFINE_MOVE(copy, 16, true, _avx)
DEFINE_MOVE(copy, 32, true, _avx)

/* By log2 of the size less 2, VEX. */
static const soft_exec_fn loads[4][2] = {{exec_load4_sse, exec_load4_avx},
                                         {exec_load8_sse, exec_load8_avx},
                                         {exec_load16_sse, exec_load16_avx},
                                         {NULL, exec_load32_avx}};
static const soft_exec_fn stores[4][2] = {{exec_store4_sse, exec_store4_avx},
                                          {exec_store8_sse, exec_store8_avx},
                                          {exec_store16_sse, exec_store16_avx},
                                          {NULL, exec_store32_avx}};
static const soft_exec_fn copies[4][2] = {{NULL, NULL},
                                          {exec_copy8_sse, exec_copy8_avx},
                                          {exec_copy16_sse, exec_copy16_avx},
                                          {NULL, exec_copy32_avx}};

/* VBROADCASTF128, VBROADCASTI128 */
static void exec_broadcast128(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];
    uint8_t value[16];

    vector_check_avx(cpu);
    soft_read_bytes(cpu, vector_address(cpu, insn, 16, SOFT_READ), value, 16);
    memcpy(vector->u8, value, 16);
    memcpy(vector->u8 + 16, value, 16);
    vector_clear_above(vector, 32);
}

/* PXOR and its like with itself is how registers are cleared; XORPS too. */
static void exec_clear_sse(struct soft_cpu *cpu, const struct insn *insn)
{
    vector_check_sse(cpu);
    memset(cpu->vector[insn->reg & 15].u8, 0, 16);
}

/* ---- MMX ---- */

/* MOVD, MOVQ to an MMX register: from a general register, memory, an MMX register. */
static void exec_mmx_load(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value = 0;

    soft_mmx_check(cpu);
    if (insn->memory)
        soft_read_bytes(cpu, soft_operand_address(cpu, insn, insn->aux[AUX_SIZE], SOFT_READ),
                        &value, insn->aux[AUX_SIZE] & 15);
    else if (insn->aux[AUX_SOURCE] == PLACE_MMX)
        soft_mmx_read(cpu, insn->rm, &value);
    else
        memcpy(&value, &cpu->gpr[insn->rm & 15], insn->aux[AUX_SIZE] == 4 ? 4 : 8);
    soft_mmx_enter(cpu);
    soft_mmx_write(cpu, insn->reg, &value);
}

/* MOVD, MOVQ, MOVNTQ from an MMX register to memory or a general register. */
static void exec_mmx_store(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE] == 4 ? 4 : 8;
    uint64_t value = 0;

    soft_mmx_check(cpu);
    soft_mmx_read(cpu, insn->reg, &value);
    if (insn->memory)
        soft_write_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_WRITE), &value, size);
    else
        cpu->gpr[insn->rm & 15] = size == 4 ? (uint32_t)value : value;
    soft_mmx_enter(cpu);
}

static void exec_movq2dq(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];

    vector_check_sse(cpu);
    soft_mmx_check(cpu);
    soft_mmx_read(cpu, insn->rm, vector->u8);
    vector->u64[1] = 0;
    soft_mmx_enter(cpu);
}

static void exec_movdq2q(struct soft_cpu *cpu, const struct insn *insn)
{
    vector_check_sse(cpu);
    soft_mmx_check(cpu);
    soft_mmx_enter(cpu);
    soft_mmx_write(cpu, insn->reg, cpu->vector[insn->rm & 15].u8);
}

static void exec_emms(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_mmx_check(cpu);
    soft_mmx_enter(cpu);
    cpu->x87.ftw = 0;
}

/* MOVNTI: a general register to memory. */
static void exec_movnti(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE] == 4 ? 4 : 8;

    soft_write_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_WRITE),
                     &cpu->gpr[insn->reg & 15], size);
}

/* ---- selection ---- */

static unsigned size_index(unsigned size)
{
    return size >= 32 ? 3 : size >= 16 ? 2 : size >= 8 ? 1 : 0;
}

/* A whole move between vector registers or a register and memory, either way. */
static soft_exec_fn select_whole(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedOperand *target = &decoded->operands[0];
    bool vex = insn->aux[AUX_VEX];

    if (target->type == ZYDIS_OPERAND_TYPE_MEMORY)
        return stores[size_index(insn->aux[AUX_SIZE])][vex];
    if (insn->memory)
        return loads[size_index(insn->aux[AUX_SIZE])][vex];
    if (target->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
        uint8_t rm = insn->rm;

        insn->rm = insn->reg;
        insn->reg = rm;
    }
    return copies[size_index(vex ? insn->aux[AUX_VEX] : 16)][vex];
}

/* MOVQ xmm, xmm/m64 and MOVD, MOVQ with memory; element moves do the rest. */
static soft_exec_fn select_quad(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedOperand *target = &decoded->operands[0], *source = &decoded->operands[1];
    uint8_t from = vector_place_of(source), to = vector_place_of(target);
    bool vex = insn->aux[AUX_VEX];

    insn->aux[AUX_SOURCE] = from;
    if (to == PLACE_MMX || from == PLACE_MMX) {
        const ZydisDecodedOperand *other = to == PLACE_MMX ? source : target;

        insn->aux[AUX_SIZE] = other->size == 32 ? 4 : 8;
        if (to == PLACE_MMX && from == PLACE_MMX &&
            target->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
            uint8_t rm = insn->rm;

            insn->rm = insn->reg;
            insn->reg = rm;
        }
        return to == PLACE_MMX ? exec_mmx_load : exec_mmx_store;
    }
    if (to == PLACE_GPR || from == PLACE_GPR)
        return NULL;
    if (!insn->memory) {
        (void)select_whole(decoded, insn);
        return copies[1][vex];
    }
    return select_whole(decoded, insn);
}

soft_exec_fn vector_select_move(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_VMOVDQU:
    case ZYDIS_MNEMONIC_VLDDQU:
        insn->aux[AUX_ALIGNMENT] = 0;
        return select_whole(decoded, insn);
    case ZYDIS_MNEMONIC_MOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD:
    case ZYDIS_MNEMONIC_MOVDQA:
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
        insn->aux[AUX_ALIGNMENT] = (uint8_t)(insn->aux[AUX_SIZE] - 1);
        insn->aux[AUX_ALWAYS] = 1;
        return select_whole(decoded, insn);
    case ZYDIS_MNEMONIC_MOVSS:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_VMOVSS:
    case ZYDIS_MNEMONIC_VMOVSD:
        return insn->memory ? select_whole(decoded, insn) : NULL;
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_MOVNTQ:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
        return select_quad(decoded, insn);
    case ZYDIS_MNEMONIC_VBROADCASTF128:
    case ZYDIS_MNEMONIC_VBROADCASTI128:
        return exec_broadcast128;
    case ZYDIS_MNEMONIC_PXOR:
    case ZYDIS_MNEMONIC_XORPS:
    case ZYDIS_MNEMONIC_XORPD:
        return !insn->memory && insn->reg == insn->rm &&
                       vector_place_of(&decoded->operands[0]) == PLACE_VECTOR
                   ? exec_clear_sse
                   : NULL;
    case ZYDIS_MNEMONIC_MOVQ2DQ:
        return exec_movq2dq;
    case ZYDIS_MNEMONIC_MOVDQ2Q:
        return exec_movdq2q;
    case ZYDIS_MNEMONIC_EMMS:
        return exec_emms;
    case ZYDIS_MNEMONIC_MOVNTI:
        insn->aux[AUX_SIZE] = decoded->operands[1].size == 32 ? 4 : 8;
        return exec_movnti;
    default:
        return NULL;
    }
}
