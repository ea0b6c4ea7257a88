// SPDX-License-Identifier: Apache-2.0
/*
 * Memory operands of EVEX encodings, and the instructions that are nothing but memory: gathers,
 * scatters, halves of a register. (SDM 2, 2.7.5 and 2.8; VGATHER*, VSCATTER*.)
 *
 * An element whose bit in the mask is clear is neither read nor written, and cannot fault. Some
 * instructions read all of their operand whatever the mask ("no fault suppression"). Stores check
 * every element before they write the first. A gather or scatter that faults keeps what it has
 * done: its mask tells which elements are still to come.
 */
#include "vmm/engine/soft/evex.h"

static uint64_t low_bits(unsigned count)
{
    return count < 64 ? (1UL << count) - 1 : ~0UL;
}

static unsigned element_size(const struct insn *insn)
{
    return insn->aux[EVEX_SIZE] / insn->aux[EVEX_COUNT];
}

/* #GP where the instruction wants alignment, if it accesses anything. */
static void check_alignment(struct soft_cpu *cpu, const struct insn *insn, uint64_t wanted)
{
    if (insn->aux[AUX_ALIGNMENT] && wanted)
        vector_address(cpu, insn, 1, SOFT_READ);
}

/* Linear address of `size` bytes at `offset` of the operand. */
static uint64_t part_address(struct soft_cpu *cpu, const struct insn *insn, unsigned offset,
                             unsigned size, enum soft_access access)
{
    uint64_t at = soft_operand_offset(cpu, insn) + offset;

    if (insn->address_size == 4)
        at = (uint32_t)at;
    return soft_linear_address(cpu, insn->segment, at, size, access);
}

/* The next run of elements that the mask has from `*at` on: its begin goes there. Returns how many
 * there are; 0 when there is none. A part of an operand has the alignment of its elements: what is
 * short enough to be checked for more is a run of one. */
static unsigned next_run(uint64_t mask, unsigned count, unsigned size, unsigned *at)
{
    unsigned length = 0;

    while (*at < count && !(mask >> *at & 1))
        ++*at;
    while (*at + length < count && mask >> (*at + length) & 1)
        length++;
    return length > 1 && length < count && length * size <= 8 ? 1 : length;
}

/* ---- operands ---- */

uint64_t evex_present(const struct insn *insn, uint64_t mask)
{
    uint64_t all = low_bits(insn->aux[EVEX_COUNT]);

    if (insn->aux[EVEX_FLAGS] & EVEX_PACKED)
        return low_bits((unsigned)__builtin_popcountl(mask & all));
    return insn->aux[EVEX_FLAGS] & EVEX_SUPPRESS ? mask & all : all;
}

static void repeat(uint8_t out[64], unsigned size)
{
    for (unsigned at = size; at < 64; at += size)
        memcpy(out + at, out, size);
}

/* The elements of a broadcast's tuple that some element of the vector wants. */
static uint64_t fold(uint64_t wanted, unsigned tuple)
{
    uint64_t folded = 0;

    for (unsigned i = 0; i < 64; i += tuple)
        folded |= wanted >> i;
    return folded & low_bits(tuple);
}

static void read_runs(struct soft_cpu *cpu, const struct insn *insn, uint64_t wanted,
                      unsigned count, uint8_t *out)
{
    unsigned size = insn->aux[EVEX_SIZE] / count, run;

    for (unsigned at = 0; (run = next_run(wanted, count, size, &at)); at += run)
        soft_read_bytes(cpu, part_address(cpu, insn, at * size, run * size, SOFT_READ),
                        out + at * size, run * size);
}

void evex_load(struct soft_cpu *cpu, const struct insn *insn, uint64_t mask, uint8_t out[64])
{
    uint64_t wanted = evex_present(insn, mask);
    unsigned tuple = insn->aux[EVEX_TUPLE];

    memset(out, 0, 64);
    if (insn->aux[EVEX_FLAGS] & EVEX_BROADCAST) {
        read_runs(cpu, insn, fold(wanted, tuple), tuple, out);
        repeat(out, insn->aux[EVEX_SIZE]);
        return;
    }
    check_alignment(cpu, insn, wanted);
    read_runs(cpu, insn, wanted, insn->aux[EVEX_COUNT], out);
}

void evex_probe_store(struct soft_cpu *cpu, const struct insn *insn, uint64_t mask)
{
    uint64_t wanted = evex_present(insn, mask);
    unsigned size = element_size(insn), run;

    check_alignment(cpu, insn, wanted);
    for (unsigned at = 0; (run = next_run(wanted, insn->aux[EVEX_COUNT], size, &at)); at += run)
        soft_probe_write(cpu, part_address(cpu, insn, at * size, run * size, SOFT_WRITE),
                         run * size, cpu->mmu_mode);
}

void evex_store(struct soft_cpu *cpu, const struct insn *insn, uint64_t mask, const uint8_t *in)
{
    uint64_t written = insn->aux[EVEX_FLAGS] & EVEX_PACKED ? evex_present(insn, mask) : mask;
    unsigned size = element_size(insn), run;

    evex_probe_store(cpu, insn, mask);
    for (unsigned at = 0; (run = next_run(written, insn->aux[EVEX_COUNT], size, &at)); at += run)
        soft_write_bytes(cpu, part_address(cpu, insn, at * size, run * size, SOFT_WRITE),
                         in + at * size, run * size);
}

/* ---- gathers and scatters ---- */

/* EVEX_ELEMENT: bytes of an element, EVEX_INDEX_SIZE: of an index, EVEX_COUNT: how many. */
static uint64_t indexed_address(struct soft_cpu *cpu, const struct insn *insn, uint64_t base,
                                unsigned i, enum soft_access access)
{
    const union soft_vector *indices = &cpu->vector[insn->aux[EVEX_INDEX] & 31];
    int64_t index = insn->aux[EVEX_INDEX_SIZE] == 4 ? (int32_t)indices->u32[i & 15]
                                                    : (int64_t)indices->u64[i & 7];
    uint64_t offset = base + ((uint64_t)index << insn->scale);

    if (insn->address_size == 4)
        offset = (uint32_t)offset;
    return soft_linear_address(cpu, insn->segment, offset, insn->aux[EVEX_ELEMENT], access);
}

static void exec_gather(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 31];
    uint64_t *mask = &cpu->opmask[insn->aux[EVEX_MASK] & 7], base;
    unsigned size = insn->aux[EVEX_ELEMENT], index_size = insn->aux[EVEX_INDEX_SIZE];
    unsigned count = insn->aux[EVEX_COUNT];

    evex_check(cpu);
    base = soft_operand_offset(cpu, insn);
    for (unsigned i = 0; i < count; i++) {
        if (*mask >> i & 1) {
            soft_read_bytes(cpu, indexed_address(cpu, insn, base, i, SOFT_READ),
                            vector->u8 + i * size, size);
            vector_clear_above(vector, count * (size > index_size ? size : index_size));
        }
        *mask &= ~(1UL << i);
    }
    *mask = 0;
    vector_clear_above(vector, count * size);
}

static void exec_scatter(struct soft_cpu *cpu, const struct insn *insn)
{
    const union soft_vector *vector = &cpu->vector[insn->reg & 31];
    uint64_t *mask = &cpu->opmask[insn->aux[EVEX_MASK] & 7], base;
    unsigned size = insn->aux[EVEX_ELEMENT], count = insn->aux[EVEX_COUNT];

    evex_check(cpu);
    base = soft_operand_offset(cpu, insn);
    for (unsigned i = 0; i < count; i++) {
        if (*mask >> i & 1)
            soft_write_bytes(cpu, indexed_address(cpu, insn, base, i, SOFT_WRITE),
                             vector->u8 + i * size, size);
        *mask &= ~(1UL << i);
    }
    *mask = 0;
}

/* ---- halves: VMOVLPS, VMOVHPS, VMOVLPD, VMOVHPD. EVEX_INDEX: where in the register ---- */

static void exec_load_half(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 31];
    uint64_t result[2], half;

    evex_check(cpu);
    half = soft_read64(cpu, soft_operand_address(cpu, insn, 8, SOFT_READ));
    memcpy(result, cpu->vector[insn->vvvv & 31].u8, 16);
    result[insn->aux[EVEX_INDEX] / 8 & 1] = half;
    memcpy(vector->u8, result, 16);
    vector_clear_above(vector, 16);
}

static void exec_store_half(struct soft_cpu *cpu, const struct insn *insn)
{
    const union soft_vector *vector = &cpu->vector[insn->reg & 31];

    evex_check(cpu);
    soft_write64(cpu, soft_operand_address(cpu, insn, 8, SOFT_WRITE),
                 vector->u64[insn->aux[EVEX_INDEX] / 8 & 1]);
}

/* ---- selection ---- */

static soft_exec_fn select_indexed(const struct soft_decoded *decoded, struct insn *insn,
                                   unsigned size, unsigned index_size)
{
    bool scatter = decoded->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    const ZydisDecodedOperand *memory = &decoded->operands[scatter ? 0 : 2];
    unsigned bytes = decoded->instruction.avx.vector_length / 8U;

    insn->aux[EVEX_ELEMENT] = (uint8_t)size;
    insn->aux[EVEX_INDEX_SIZE] = (uint8_t)index_size;
    insn->aux[EVEX_COUNT] = (uint8_t)(bytes / (size > index_size ? size : index_size));
    insn->aux[EVEX_INDEX] = (uint8_t)ZydisRegisterGetId(memory->mem.index) & 31;
    insn->index = INSN_NO_REGISTER;
    return scatter ? exec_scatter : exec_gather;
}

static soft_exec_fn select_half(const struct soft_decoded *decoded, struct insn *insn,
                                unsigned offset)
{
    insn->aux[EVEX_INDEX] = (uint8_t)offset;
    return decoded->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? exec_store_half
                                                                  : exec_load_half;
}

soft_exec_fn evex_select_memory(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VPGATHERDD:
    case ZYDIS_MNEMONIC_VSCATTERDPS:
    case ZYDIS_MNEMONIC_VPSCATTERDD:
        return select_indexed(decoded, insn, 4, 4);
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VPGATHERDQ:
    case ZYDIS_MNEMONIC_VSCATTERDPD:
    case ZYDIS_MNEMONIC_VPSCATTERDQ:
        return select_indexed(decoded, insn, 8, 4);
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERQD:
    case ZYDIS_MNEMONIC_VSCATTERQPS:
    case ZYDIS_MNEMONIC_VPSCATTERQD:
        return select_indexed(decoded, insn, 4, 8);
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERQQ:
    case ZYDIS_MNEMONIC_VSCATTERQPD:
    case ZYDIS_MNEMONIC_VPSCATTERQQ:
        return select_indexed(decoded, insn, 8, 8);
    case ZYDIS_MNEMONIC_VMOVLPS:
    case ZYDIS_MNEMONIC_VMOVLPD:
        return select_half(decoded, insn, 0);
    case ZYDIS_MNEMONIC_VMOVHPS:
    case ZYDIS_MNEMONIC_VMOVHPD:
        return select_half(decoded, insn, 8);
    default:
        return NULL;
    }
}
