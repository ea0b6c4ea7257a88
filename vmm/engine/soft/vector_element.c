// SPDX-License-Identifier: Apache-2.0
/*
 * Moves of one element: into a vector register that keeps its other elements (MOVSS, MOVHPS,
 * PINSR*), and out of one into a general register or memory (MOVD, PEXTR*, EXTRACTPS, the halves of
 * a 256-bit register). (SDM 2.)
 */
#include "vmm/engine/soft/vector.h"

/* ---- handlers ---- */

/* AUX_SIZE bytes go to offset AUX_TO; the rest is the destination's own, or that of VEX.vvvv. */
static void exec_insert(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];
    unsigned size = insn->aux[AUX_SIZE], to = insn->aux[AUX_TO] & 15;
    bool vex = insn->aux[AUX_VEX];
    uint8_t result[16], element[8];

    vector_check(cpu, vex);
    if (insn->memory)
        soft_read_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_READ), element, size & 15);
    else if (insn->aux[AUX_SOURCE] == PLACE_GPR)
        memcpy(element, &cpu->gpr[insn->rm & 15], 8);
    else
        memcpy(element, cpu->vector[insn->rm & 15].u8 + (insn->aux[AUX_FROM] & 8), 8);
    memcpy(result, cpu->vector[(vex ? insn->vvvv : insn->reg) & 15].u8, 16);
    memcpy(result + to, element, size <= 16 - to ? size : 16 - to);
    memcpy(vector->u8, result, 16);
    if (vex)
        vector_clear_above(vector, 16);
}

/* AUX_SIZE bytes at offset AUX_FROM go to a general register or memory. */
static void exec_extract(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE] & 15;
    uint64_t value = 0;

    vector_check(cpu, insn->aux[AUX_VEX]);
    memcpy(&value, cpu->vector[insn->reg & 15].u8 + (insn->aux[AUX_FROM] & 15), size);
    if (insn->memory)
        soft_write_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_WRITE), &value, size);
    else
        cpu->gpr[insn->rm & 15] = value;
}

/* MOVD, MOVQ from a general register. */
static void exec_from_gpr(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];
    uint64_t value = cpu->gpr[insn->rm & 15];

    vector_check(cpu, insn->aux[AUX_VEX]);
    vector->u64[0] = insn->aux[AUX_SIZE] == 4 ? (uint32_t)value : value;
    vector->u64[1] = 0;
    if (insn->aux[AUX_VEX])
        vector_clear_above(vector, 16);
}

/* VEXTRACTF128, VEXTRACTI128 */
static void exec_extract128(struct soft_cpu *cpu, const struct insn *insn)
{
    const uint8_t *half = cpu->vector[insn->reg & 15].u8 + (insn->immediate & 1) * 16;
    union soft_vector *vector = &cpu->vector[insn->rm & 15];

    vector_check_avx(cpu);
    if (insn->memory) {
        soft_write_bytes(cpu, vector_address(cpu, insn, 16, SOFT_WRITE), half, 16);
        return;
    }
    memmove(vector->u8, half, 16);
    vector_clear_above(vector, 16);
}

static void exec_mmx_insert(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t word = (uint16_t)cpu->gpr[insn->rm & 15], value[4];

    soft_mmx_check(cpu);
    if (insn->memory)
        word = soft_read16(cpu, soft_operand_address(cpu, insn, 2, SOFT_READ));
    soft_mmx_read(cpu, insn->reg, value);
    value[insn->immediate & 3] = word;
    soft_mmx_enter(cpu);
    soft_mmx_write(cpu, insn->reg, value);
}

static void exec_mmx_extract(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t value[4];

    soft_mmx_check(cpu);
    soft_mmx_read(cpu, insn->rm, value);
    soft_mmx_enter(cpu);
    cpu->gpr[insn->reg & 15] = value[insn->immediate & 3];
}

/* ---- selection ---- */

static void swap_registers(struct insn *insn)
{
    uint8_t rm = insn->rm;

    insn->rm = insn->reg;
    insn->reg = rm;
}

/* The last operand that is a register or memory: where an inserted element comes from. */
static soft_exec_fn insert(const struct soft_decoded *decoded, struct insn *insn, unsigned size,
                           unsigned to, unsigned from)
{
    if (decoded->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
        decoded->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
        swap_registers(insn);
    insn->aux[AUX_SIZE] = (uint8_t)size;
    insn->aux[AUX_TO] = (uint8_t)to;
    insn->aux[AUX_FROM] = (uint8_t)from;
    return exec_insert;
}

static soft_exec_fn insert_integer(const struct soft_decoded *decoded, struct insn *insn,
                                   unsigned size)
{
    if (vector_place_of(&decoded->operands[0]) == PLACE_MMX)
        return exec_mmx_insert;
    insn->aux[AUX_SOURCE] = PLACE_GPR;
    return insert(decoded, insn, size, (insn->immediate * size) & 15, 0);
}

static soft_exec_fn extract(struct insn *insn, unsigned size, unsigned from)
{
    insn->aux[AUX_SIZE] = (uint8_t)size;
    insn->aux[AUX_FROM] = (uint8_t)from;
    return exec_extract;
}

static soft_exec_fn extract_integer(const struct soft_decoded *decoded, struct insn *insn,
                                    unsigned size)
{
    if (vector_place_of(&decoded->operands[1]) == PLACE_MMX)
        return exec_mmx_extract;
    if (decoded->operands[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
        swap_registers(insn);
    return extract(insn, size, (insn->immediate * size) & 15);
}

/* MOVD, MOVQ between a vector and a general register; the others are whole moves. */
static soft_exec_fn select_general(const struct soft_decoded *decoded, struct insn *insn)
{
    if (vector_place_of(&decoded->operands[0]) == PLACE_GPR)
        return extract(insn, decoded->operands[0].size / 8, 0);
    insn->aux[AUX_SIZE] = (uint8_t)(decoded->operands[1].size / 8);
    return exec_from_gpr;
}

/* MOVLPS, MOVHPS and their like: half a register from or to memory. */
static soft_exec_fn select_half(const struct soft_decoded *decoded, struct insn *insn,
                                unsigned offset)
{
    if (decoded->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
        return extract(insn, 8, offset);
    return insert(decoded, insn, 8, offset, 0);
}

soft_exec_fn vector_select_element(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSS:
    case ZYDIS_MNEMONIC_VMOVSS:
        return insert(decoded, insn, 4, 0, 0);
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_VMOVSD:
        return insert(decoded, insn, 8, 0, 0);
    case ZYDIS_MNEMONIC_MOVLPS:
    case ZYDIS_MNEMONIC_MOVLPD:
    case ZYDIS_MNEMONIC_VMOVLPS:
    case ZYDIS_MNEMONIC_VMOVLPD:
        return select_half(decoded, insn, 0);
    case ZYDIS_MNEMONIC_MOVHPS:
    case ZYDIS_MNEMONIC_MOVHPD:
    case ZYDIS_MNEMONIC_VMOVHPS:
    case ZYDIS_MNEMONIC_VMOVHPD:
        return select_half(decoded, insn, 8);
    case ZYDIS_MNEMONIC_MOVHLPS:
    case ZYDIS_MNEMONIC_VMOVHLPS:
        return insert(decoded, insn, 8, 0, 8);
    case ZYDIS_MNEMONIC_MOVLHPS:
    case ZYDIS_MNEMONIC_VMOVLHPS:
        return insert(decoded, insn, 8, 8, 0);
    case ZYDIS_MNEMONIC_PINSRB:
    case ZYDIS_MNEMONIC_VPINSRB:
        return insert_integer(decoded, insn, 1);
    case ZYDIS_MNEMONIC_PINSRW:
    case ZYDIS_MNEMONIC_VPINSRW:
        return insert_integer(decoded, insn, 2);
    case ZYDIS_MNEMONIC_PINSRD:
    case ZYDIS_MNEMONIC_VPINSRD:
        return insert_integer(decoded, insn, 4);
    case ZYDIS_MNEMONIC_PINSRQ:
    case ZYDIS_MNEMONIC_VPINSRQ:
        return insert_integer(decoded, insn, 8);
    case ZYDIS_MNEMONIC_PEXTRB:
    case ZYDIS_MNEMONIC_VPEXTRB:
        return extract_integer(decoded, insn, 1);
    case ZYDIS_MNEMONIC_PEXTRW:
    case ZYDIS_MNEMONIC_VPEXTRW:
        return extract_integer(decoded, insn, 2);
    case ZYDIS_MNEMONIC_PEXTRD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_EXTRACTPS:
    case ZYDIS_MNEMONIC_VEXTRACTPS:
        return extract_integer(decoded, insn, 4);
    case ZYDIS_MNEMONIC_PEXTRQ:
    case ZYDIS_MNEMONIC_VPEXTRQ:
        return extract_integer(decoded, insn, 8);
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
        return select_general(decoded, insn);
    case ZYDIS_MNEMONIC_VEXTRACTF128:
    case ZYDIS_MNEMONIC_VEXTRACTI128:
        return exec_extract128;
    default:
        return NULL;
    }
}
