// SPDX-License-Identifier: Apache-2.0
/*
 * Vector accesses to memory that touch only some elements: masked loads and stores, and gathers.
 * Elements that are off are neither read nor written and cannot fault. (SDM 2, MASKMOV*, VMASKMOV*,
 * VPMASKMOV*, VGATHER*, VPGATHER*.)
 *
 * Stores check every element before they write the first. A gather that faults keeps what it has
 * got: its mask tells which elements are still to come.
 */
#include "vmm/engine/soft/vector.h"

/* Linear address of the element at `offset` within the segment. */
static uint64_t element_address(struct soft_cpu *cpu, const struct insn *insn, uint64_t offset,
                                unsigned size, enum soft_access access)
{
    if (cpu->flat)
        return insn->segment < SEG_FS ? offset : offset + cpu->seg[insn->segment].base;
    return soft_segment_address(cpu, insn->segment, offset, size, access);
}

/* Write the elements whose mask has its uppermost bit set. */
static void store_elements(struct soft_cpu *cpu, const struct insn *insn, const uint8_t *value,
                           const uint8_t *mask, unsigned bytes, unsigned size)
{
    uint64_t offset = soft_operand_offset(cpu, insn);

    for (unsigned i = 0; i < bytes; i += size)
        if (mask[i + size - 1] & 0x80)
            soft_probe_write(cpu, element_address(cpu, insn, offset + i, size, SOFT_WRITE), size,
                             cpu->mmu_mode);
    for (unsigned i = 0; i < bytes; i += size)
        if (mask[i + size - 1] & 0x80)
            soft_write_bytes(cpu, element_address(cpu, insn, offset + i, size, SOFT_WRITE),
                             value + i, size);
}

/* ---- handlers ---- */

/* MASKMOVDQU, MASKMOVQ: bytes, at DI. The whole operand must be writable, whatever the mask. */
static void store_bytes(struct soft_cpu *cpu, const struct insn *insn, const uint8_t *value,
                        const uint8_t *mask, unsigned size)
{
    uint64_t linear = soft_operand_address(cpu, insn, size, SOFT_WRITE);

    soft_probe_write(cpu, linear, size, cpu->mmu_mode);
    for (unsigned i = 0; i < size; i++)
        if (mask[i] & 0x80)
            soft_write8(cpu, linear + i, value[i]);
}

static void exec_maskmovdqu(struct soft_cpu *cpu, const struct insn *insn)
{
    vector_check(cpu, insn->aux[AUX_VEX]);
    store_bytes(cpu, insn, cpu->vector[insn->reg & 15].u8, cpu->vector[insn->rm & 15].u8, 16);
}

static void exec_maskmovq(struct soft_cpu *cpu, const struct insn *insn)
{
    uint8_t value[8], mask[8];

    soft_mmx_check(cpu);
    soft_mmx_read(cpu, insn->reg, value);
    soft_mmx_read(cpu, insn->rm, mask);
    store_bytes(cpu, insn, value, mask, 8);
    soft_mmx_enter(cpu);
}

static void exec_masked_store(struct soft_cpu *cpu, const struct insn *insn)
{
    vector_check_avx(cpu);
    store_elements(cpu, insn, cpu->vector[insn->reg & 15].u8, cpu->vector[insn->vvvv & 15].u8,
                   insn->aux[AUX_VEX], insn->aux[AUX_SIZE]);
}

static void exec_masked_load(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];
    const uint8_t *mask = cpu->vector[insn->vvvv & 15].u8;
    unsigned size = insn->aux[AUX_SIZE], bytes = insn->aux[AUX_VEX];
    uint64_t offset;
    uint8_t value[32] = {0};

    vector_check_avx(cpu);
    offset = soft_operand_offset(cpu, insn);
    for (unsigned i = 0; i < bytes; i += size)
        if (mask[i + size - 1] & 0x80)
            soft_read_bytes(cpu, element_address(cpu, insn, offset + i, size, SOFT_READ), value + i,
                            size);
    memcpy(vector->u8, value, bytes);
    vector_clear_above(vector, bytes);
}

/* AUX_SIZE: bytes of an element, AUX_FROM: of an index, AUX_TO: how many elements. */
static void exec_gather(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];
    union soft_vector *mask = &cpu->vector[insn->vvvv & 15];
    const union soft_vector *indices = &cpu->vector[insn->aux[AUX_INDEX] & 15];
    unsigned size = insn->aux[AUX_SIZE];
    uint64_t base;

    vector_check_avx(cpu);
    base = soft_operand_offset(cpu, insn);
    for (unsigned i = 0; i < insn->aux[AUX_TO]; i++) {
        int64_t index =
            insn->aux[AUX_FROM] == 4 ? (int32_t)indices->u32[i] : (int64_t)indices->u64[i];
        uint64_t offset = base + ((uint64_t)index << insn->scale);
        uint8_t *element = mask->u8 + i * size;

        if (insn->address_size == 4)
            offset = (uint32_t)offset;
        if (element[size - 1] & 0x80)
            soft_read_bytes(cpu, element_address(cpu, insn, offset, size, SOFT_READ),
                            vector->u8 + i * size, size);
        memset(element, 0, size);
    }
    vector_clear_above(mask, 0);
    vector_clear_above(vector, insn->aux[AUX_TO] * size);
}

/* ---- selection ---- */

static soft_exec_fn select_masked(const struct soft_decoded *decoded, struct insn *insn,
                                  unsigned size)
{
    insn->aux[AUX_SIZE] = (uint8_t)size;
    return decoded->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? exec_masked_store
                                                                  : exec_masked_load;
}

/* The address stands in DI alone. */
static soft_exec_fn select_implied(struct insn *insn, soft_exec_fn exec)
{
    insn->base = GPR_RDI;
    insn->index = INSN_NO_REGISTER;
    insn->displacement = 0;
    return exec;
}

static soft_exec_fn select_gather(const struct soft_decoded *decoded, struct insn *insn,
                                  unsigned size, unsigned index_size)
{
    unsigned bytes = insn->aux[AUX_VEX];

    insn->aux[AUX_SIZE] = (uint8_t)size;
    insn->aux[AUX_FROM] = (uint8_t)index_size;
    insn->aux[AUX_TO] = (uint8_t)(bytes / (size > index_size ? size : index_size));
    insn->aux[AUX_INDEX] = (uint8_t)ZydisRegisterGetId(decoded->operands[1].mem.index) & 15;
    insn->index = INSN_NO_REGISTER;
    return exec_gather;
}

soft_exec_fn vector_select_masked(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        return select_implied(insn, exec_maskmovdqu);
    case ZYDIS_MNEMONIC_MASKMOVQ:
        return select_implied(insn, exec_maskmovq);
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
        return select_masked(decoded, insn, 4);
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
        return select_masked(decoded, insn, 8);
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VPGATHERDD:
        return select_gather(decoded, insn, 4, 4);
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VPGATHERDQ:
        return select_gather(decoded, insn, 8, 4);
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERQD:
        return select_gather(decoded, insn, 4, 8);
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERQQ:
        return select_gather(decoded, insn, 8, 8);
    default:
        return NULL;
    }
}
