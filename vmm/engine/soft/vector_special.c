// SPDX-License-Identifier: Apache-2.0
/*
 * Vector instructions whose operands do not follow the common forms: shifts by an immediate,
 * variable blends, string comparisons, conversions to half precision, MXCSR, the upper halves, and
 * AMD's SSE4a. (SDM 2; APM 4 for SSE4a.)
 */
#include <emmintrin.h>

#include "vmm/engine/soft/vector.h"

/* ---- shifts by an immediate: the stubs that take a count from a register ---- */

static void exec_shift(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *source = &cpu->vector[insn->rm & 15], *target = source;
    uint64_t count[4] = {insn->immediate & 0xff};

    vector_check(cpu, insn->aux[AUX_VEX]);
    if (!insn->aux[AUX_VEX]) {
        vector_run_128(target, source, count, insn->data);
        return;
    }
    target = &cpu->vector[insn->vvvv & 15];
    if (insn->aux[AUX_VEX] == 32)
        vector_run_256(target, source, count, insn->data);
    else
        vector_run_128(target, source, count, insn->data);
    vector_clear_above(target, insn->aux[AUX_VEX]);
}

static void exec_shift_mmx(struct soft_cpu *cpu, const struct insn *insn)
{
    struct vector_operands operands = {.mm2 = {(uint8_t)insn->immediate}, .mxcsr = MXCSR_DEFAULT};

    soft_mmx_check(cpu);
    soft_mmx_read(cpu, insn->rm, operands.mm0);
    vector_run_mmx(&operands, insn->data);
    soft_mmx_enter(cpu);
    soft_mmx_write(cpu, insn->rm, operands.mm0);
}

/* PSLLDQ, PSRLDQ: by bytes, each 16 on their own. AUX_TO tells left. */
static void exec_shift_bytes(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned vex = insn->aux[AUX_VEX], count = insn->immediate & 0xff;
    union soft_vector *target = &cpu->vector[(vex ? insn->vvvv : insn->rm) & 15];
    uint8_t result[32] = {0};

    vector_check(cpu, vex);
    for (unsigned lane = 0; lane < (vex == 32 ? 32 : 16) && count < 16; lane += 16) {
        const uint8_t *source = cpu->vector[insn->rm & 15].u8 + lane;

        if (insn->aux[AUX_TO])
            memcpy(result + lane + count, source, 16 - count);
        else
            memcpy(result + lane, source + count, 16 - count);
    }
    memcpy(target->u8, result, vex == 32 ? 32 : 16);
    if (vex)
        vector_clear_above(target, vex);
}

/* Groups 12, 13 and 14 (SDM 2, table A-6): the opcode of the same shift with a count operand. */
static soft_exec_fn select_shift(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    bool mmx = vector_place_of(&decoded->operands[0]) == PLACE_MMX;
    unsigned vex = insn->aux[AUX_VEX], kind = instruction->raw.modrm.reg;
    unsigned opcode = 0xd0 + (instruction->opcode - 0x70U) + (kind - 2) * 8;
    const struct vector_entry *entry = vector_find_entry(vex == 32 ? 4
                                                         : vex     ? 2
                                                                   : 0,
                                                         mmx ? 0 : 1, 0, opcode & 0xff);

    if (!entry)
        return NULL;
    insn->data = vector_entry_stub(entry, 0);
    return mmx ? exec_shift_mmx : exec_shift;
}

static bool has_immediate_count(const struct soft_decoded *decoded)
{
    unsigned last = decoded->instruction.operand_count_visible - 1U;

    return decoded->operands[last].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* ---- variable blends: elements of AUX_TO bytes, chosen by the mask's uppermost bits ---- */

static void exec_blend(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned vex = insn->aux[AUX_VEX], size = insn->aux[AUX_TO], bytes = vex ? vex : 16;
    union soft_vector *target = &cpu->vector[insn->reg & 15];
    const uint8_t *first = vex ? cpu->vector[insn->vvvv & 15].u8 : target->u8;
    const uint8_t *mask = vex ? cpu->vector[insn->immediate2 & 15].u8 : cpu->vector[0].u8;
    uint8_t result[32], second[32];

    vector_check(cpu, vex);
    if (insn->memory)
        vector_load(cpu, insn, second, insn->aux[AUX_SIZE]);
    else
        memcpy(second, cpu->vector[insn->rm & 15].u8, 32);
    for (unsigned i = 0; i < bytes; i += size)
        memcpy(result + i, (mask[i + size - 1] & 0x80 ? second : first) + i, size);
    memcpy(target->u8, result, bytes);
    if (vex)
        vector_clear_above(target, vex);
}

static soft_exec_fn select_blend(struct insn *insn, unsigned size)
{
    insn->aux[AUX_TO] = (uint8_t)size;
    return exec_blend;
}

/* ---- string comparisons ---- */

/* An explicit length, saturated so that it fits in 32 bits. */
static uint64_t string_length(uint64_t value, bool wide)
{
    int64_t length = wide ? (int64_t)value : (int32_t)value;

    return (uint32_t)(length > 16 ? 16 : length < -16 ? -16 : length);
}

/* Opcode bit 0: an index to ECX, else a mask to XMM0. */
static void exec_string_compare(struct soft_cpu *cpu, const struct insn *insn)
{
    bool wide = insn->aux[AUX_FROM], vex = insn->aux[AUX_VEX];
    struct vector_operands operands;

    vector_check(cpu, vex);
    memcpy(operands.x0, &cpu->vector[insn->reg & 15], 32);
    if (insn->memory)
        vector_load(cpu, insn, operands.x2, 16);
    else
        memcpy(operands.x2, &cpu->vector[insn->rm & 15], 32);
    memset(operands.x1, 0, sizeof(operands.x1));
    operands.rax = string_length(cpu->gpr[GPR_RAX], wide);
    operands.rdx_rcx = string_length(cpu->gpr[GPR_RDX], wide);
    operands.mxcsr = MXCSR_DEFAULT;
    vector_run_mixed(&operands, insn->data);
    cpu->rflags = (cpu->rflags & ~VECTOR_FLAGS) | (operands.rflags & VECTOR_FLAGS);
    if (insn->aux[AUX_TO]) {
        cpu->gpr[GPR_RCX] = (uint32_t)operands.rdx_rcx;
        return;
    }
    memcpy(cpu->vector[0].u8, operands.x0, 16);
    if (vex)
        vector_clear_above(&cpu->vector[0], 16);
}

/* The VEX forms compute what the legacy ones do. */
static soft_exec_fn select_string_compare(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    const struct vector_entry *entry = vector_find_entry(0, 1, 2, instruction->opcode);

    if (!entry)
        return NULL;
    insn->data = vector_entry_stub(entry, (uint8_t)insn->immediate);
    insn->aux[AUX_ALIGNMENT] = 0;
    insn->aux[AUX_TO] = instruction->opcode & 1;
    insn->aux[AUX_FROM] = decoded->code_size == 8 &&
                          (insn->aux[AUX_VEX] ? instruction->raw.vex.W : instruction->raw.rex.W);
    return exec_string_compare;
}

/* ---- VCVTPS2PH: ModRM.rm is the destination ---- */

static void exec_to_half(struct soft_cpu *cpu, const struct insn *insn)
{
    const union soft_vector *source = &cpu->vector[insn->reg & 15];
    unsigned size = insn->aux[AUX_VEX] / 2;
    uint8_t result[32] = {0};
    uint64_t linear = 0;

    vector_check_avx(cpu);
    if (insn->memory) {
        linear = vector_address(cpu, insn, size, SOFT_WRITE);
        soft_probe_write(cpu, linear, size, cpu->mmu_mode);
    }
    if (!(insn->aux[AUX_VEX] == 32
              ? vector_run_256_fp(result, source, source, insn->data, &cpu->mxcsr)
              : vector_run_128_fp(result, source, source, insn->data, &cpu->mxcsr)))
        vector_raise_simd(cpu);
    if (insn->memory) {
        soft_write_bytes(cpu, linear, result, size);
        return;
    }
    memcpy(cpu->vector[insn->rm & 15].u8, result, 16);
    vector_clear_above(&cpu->vector[insn->rm & 15], 16);
}

static soft_exec_fn select_to_half(struct insn *insn)
{
    const struct vector_entry *entry =
        vector_find_entry(insn->aux[AUX_VEX] == 32 ? 4 : 2, 1, 2, 0x1d);

    if (!entry)
        return NULL;
    insn->data = vector_entry_stub(entry, (uint8_t)insn->immediate);
    return exec_to_half;
}

/* ---- SHA256RNDS2: XMM0 is its third operand ---- */

static void exec_sha256rnds2(struct soft_cpu *cpu, const struct insn *insn)
{
    union soft_vector *target = &cpu->vector[insn->reg & 15];
    uint8_t second[32], result[16];

    vector_check_sse(cpu);
    if (insn->memory)
        vector_load(cpu, insn, second, 16);
    else
        memcpy(second, &cpu->vector[insn->rm & 15], 32);
    memcpy(result, cpu->vector[0].u8, 16);
    vector_run_128(result, target, second, vector_sha256rnds2);
    memcpy(target->u8, result, 16);
}

/* ---- PMOVMSKB: much used by string functions ---- */

static void exec_pmovmskb(struct soft_cpu *cpu, const struct insn *insn)
{
    const __m128i *vector = (const __m128i *)&cpu->vector[insn->rm & 15];

    vector_check(cpu, insn->aux[AUX_VEX]);
    cpu->gpr[insn->reg & 15] = (uint32_t)_mm_movemask_epi8(vector[0]);
    if (insn->aux[AUX_VEX] == 32)
        cpu->gpr[insn->reg & 15] |= (uint64_t)(uint32_t)_mm_movemask_epi8(vector[1]) << 16;
}

/* ---- MXCSR, the upper halves ---- */

static void exec_ldmxcsr(struct soft_cpu *cpu, const struct insn *insn)
{
    uint32_t value;

    vector_check(cpu, insn->aux[AUX_VEX]);
    value = soft_read32(cpu, soft_operand_address(cpu, insn, 4, SOFT_READ));
    if (value & ~soft_mxcsr_mask(cpu))
        soft_general_protection(cpu, 0);
    cpu->mxcsr = value;
}

static void exec_stmxcsr(struct soft_cpu *cpu, const struct insn *insn)
{
    vector_check(cpu, insn->aux[AUX_VEX]);
    soft_write32(cpu, soft_operand_address(cpu, insn, 4, SOFT_WRITE), cpu->mxcsr);
}

static void exec_vzero(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned from = insn->aux[AUX_VEX] == 32 ? 0 : 16, count = cpu->code_size == 8 ? 16 : 8;

    vector_check_avx(cpu);
    for (unsigned i = 0; i < count; i++)
        vector_clear_above(&cpu->vector[i], from);
}

/* ---- SSE4a ---- */

/* A field of `length` bits (0: 64) at `index`, both modulo 64. */
static uint64_t field_mask(unsigned length)
{
    return length & 63 ? (1UL << (length & 63)) - 1 : ~0UL;
}

/* EXTRQ xmm, length, index; EXTRQ xmm, xmm */
static void exec_extrq(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t *target = cpu->vector[(insn->aux[AUX_TO] ? insn->rm : insn->reg) & 15].u64;
    const uint8_t *control = cpu->vector[insn->rm & 15].u8;
    unsigned length = insn->aux[AUX_TO] ? (uint8_t)insn->immediate : control[0];
    unsigned index = insn->aux[AUX_TO] ? insn->immediate2 : control[1];

    vector_check_sse(cpu);
    target[0] = target[0] >> (index & 63) & field_mask(length);
    target[1] = 0;
}

/* INSERTQ xmm, xmm, length, index; INSERTQ xmm, xmm */
static void exec_insertq(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t *target = cpu->vector[insn->reg & 15].u64;
    const union soft_vector *source = &cpu->vector[insn->rm & 15];
    unsigned length = insn->aux[AUX_TO] ? (uint8_t)insn->immediate : source->u8[8];
    unsigned index = (insn->aux[AUX_TO] ? insn->immediate2 : source->u8[9]) & 63;
    uint64_t mask = field_mask(length);

    vector_check_sse(cpu);
    target[0] = (target[0] & ~(mask << index)) | (source->u64[0] & mask) << index;
    target[1] = 0;
}

/* MOVNTSS, MOVNTSD */
static void exec_movnts(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE] == 4 ? 4 : 8;

    vector_check_sse(cpu);
    soft_write_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_WRITE),
                     cpu->vector[insn->reg & 15].u8, size);
}

/* ---- selection ---- */

static soft_exec_fn select_shift_bytes(struct insn *insn, bool left)
{
    insn->aux[AUX_TO] = left;
    return exec_shift_bytes;
}

soft_exec_fn vector_select_special(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_PSRLW:
    case ZYDIS_MNEMONIC_PSRLD:
    case ZYDIS_MNEMONIC_PSRLQ:
    case ZYDIS_MNEMONIC_PSRAW:
    case ZYDIS_MNEMONIC_PSRAD:
    case ZYDIS_MNEMONIC_PSLLW:
    case ZYDIS_MNEMONIC_PSLLD:
    case ZYDIS_MNEMONIC_PSLLQ:
    case ZYDIS_MNEMONIC_VPSRLW:
    case ZYDIS_MNEMONIC_VPSRLD:
    case ZYDIS_MNEMONIC_VPSRLQ:
    case ZYDIS_MNEMONIC_VPSRAW:
    case ZYDIS_MNEMONIC_VPSRAD:
    case ZYDIS_MNEMONIC_VPSLLW:
    case ZYDIS_MNEMONIC_VPSLLD:
    case ZYDIS_MNEMONIC_VPSLLQ:
        return has_immediate_count(decoded) ? select_shift(decoded, insn) : NULL;
    case ZYDIS_MNEMONIC_PSLLDQ:
    case ZYDIS_MNEMONIC_VPSLLDQ:
        return select_shift_bytes(insn, true);
    case ZYDIS_MNEMONIC_PSRLDQ:
    case ZYDIS_MNEMONIC_VPSRLDQ:
        return select_shift_bytes(insn, false);
    case ZYDIS_MNEMONIC_PBLENDVB:
    case ZYDIS_MNEMONIC_VPBLENDVB:
        return select_blend(insn, 1);
    case ZYDIS_MNEMONIC_BLENDVPS:
    case ZYDIS_MNEMONIC_VBLENDVPS:
        return select_blend(insn, 4);
    case ZYDIS_MNEMONIC_BLENDVPD:
    case ZYDIS_MNEMONIC_VBLENDVPD:
        return select_blend(insn, 8);
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
    case ZYDIS_MNEMONIC_VPCMPISTRI:
    case ZYDIS_MNEMONIC_VPCMPISTRM:
        return select_string_compare(decoded, insn);
    case ZYDIS_MNEMONIC_VCVTPS2PH:
        return select_to_half(insn);
    case ZYDIS_MNEMONIC_SHA256RNDS2:
        return exec_sha256rnds2;
    case ZYDIS_MNEMONIC_PMOVMSKB:
    case ZYDIS_MNEMONIC_VPMOVMSKB:
        return vector_place_of(&decoded->operands[1]) == PLACE_VECTOR ? exec_pmovmskb : NULL;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
        return exec_ldmxcsr;
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
        return exec_stmxcsr;
    case ZYDIS_MNEMONIC_VZEROALL:
    case ZYDIS_MNEMONIC_VZEROUPPER:
        return exec_vzero;
    case ZYDIS_MNEMONIC_EXTRQ:
        insn->aux[AUX_TO] = has_immediate_count(decoded);
        return exec_extrq;
    case ZYDIS_MNEMONIC_INSERTQ:
        insn->aux[AUX_TO] = has_immediate_count(decoded);
        return exec_insertq;
    case ZYDIS_MNEMONIC_MOVNTSS:
    case ZYDIS_MNEMONIC_MOVNTSD:
        return exec_movnts;
    default:
        return NULL;
    }
}
