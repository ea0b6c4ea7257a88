// SPDX-License-Identifier: Apache-2.0
/*
 * AVX-512, EVEX encodings: the common handlers, which bring operands and mask together, let a stub
 * of the host's own instruction compute (evex_stubs.S), and write the result back. (SDM 2, 2.7 and
 * 2.8.)
 *
 * The stubs know no embedded rounding, no broadcast and no zeroing, since these are the same as
 * another rounding mode with all exceptions masked and none told, an operand that was repeated, and
 * elements that are cleared afterwards. The mask itself is the host's: elements that it leaves out
 * raise no exceptions.
 */
#include "vmm/engine/soft/evex.h"

#include <pthread.h>

#define ENTRY_KEYS      (3 * 2 * 4 * 4 * 256)
#define ENTRY_KEY       0xffffffU
#define ENTRY_IMMEDIATE (1U << 24)
#define STUB_SIZE       8
#define MAP_0F          0
#define MAP_GROUPS      3
#define PREFIX_NONE     0
#define PREFIX_66       1
#define MXCSR_RC_SHIFT  13
#define MXCSR_RC        (3U << MXCSR_RC_SHIFT)
#define MXCSR_FLUSHES   0x8040U /* FZ, DAZ: not part of the rounding control */
#define OPCODE_MOVE     0x28    /* VMOVAPS, VMOVAPD */
#define OPCODE_STORE    0x29

/* Entry by key, plus one; 0 for none. Built once. */
static uint16_t entry_index[ENTRY_KEYS];

/* ---- finding the stub ---- */

static void build_index(void)
{
    /* The two symbols bound one table in evex_stubs.S. */
    // cppcheck-suppress comparePointers
    for (const struct evex_entry *entry = evex_entries; entry < evex_entries_end; entry++)
        entry_index[(entry->key & ENTRY_KEY) % ENTRY_KEYS] = (uint16_t)(entry - evex_entries + 1);
}

const void *evex_find_stub(unsigned length, unsigned wide, unsigned prefix, unsigned map,
                           unsigned opcode, uint8_t immediate)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned key = (((length * 2 + wide) * 4 + map) * 4 + prefix) * 256 + opcode, index;

    pthread_once(&once, build_index);
    index = entry_index[key % ENTRY_KEYS];
    if (!index)
        return NULL;
    return evex_stubs + evex_entries[index - 1].stub +
           (evex_entries[index - 1].key & ENTRY_IMMEDIATE ? immediate * STUB_SIZE : 0);
}

/* EVEX.W, but where it would make a general register wide outside 64-bit mode. */
static unsigned wide(const struct soft_decoded *decoded)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPEXTRD:
        return 0;
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTUSI2SS:
    case ZYDIS_MNEMONIC_VCVTUSI2SD:
        return decoded->operands[2].size == 64;
    case ZYDIS_MNEMONIC_VCVTSS2SI:
    case ZYDIS_MNEMONIC_VCVTSD2SI:
    case ZYDIS_MNEMONIC_VCVTTSS2SI:
    case ZYDIS_MNEMONIC_VCVTTSD2SI:
    case ZYDIS_MNEMONIC_VCVTSS2USI:
    case ZYDIS_MNEMONIC_VCVTSD2USI:
    case ZYDIS_MNEMONIC_VCVTTSS2USI:
    case ZYDIS_MNEMONIC_VCVTTSD2USI:
        return decoded->operands[0].size == 64;
    default:
        return decoded->instruction.raw.evex.W;
    }
}

/* W and L are ignored by some instructions: those stand in the table with 0. Zydis has refused what
 * is not valid. */
static const void *find(const struct soft_decoded *decoded, unsigned prefix, unsigned map,
                        unsigned opcode, uint8_t immediate)
{
    unsigned w = wide(decoded), length = decoded->instruction.avx.vector_length / 256U;
    const void *stub;

    for (;; length = 0) {
        stub = evex_find_stub(length, w, prefix, map, opcode, immediate);
        if (!stub && w)
            stub = evex_find_stub(length, 0, prefix, map, opcode, immediate);
        if (stub || !length)
            return stub;
    }
}

static const void *find_stub(const struct soft_decoded *decoded, const struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    unsigned opcode = instruction->opcode, prefix = instruction->raw.evex.pp;
    uint8_t immediate = (uint8_t)insn->immediate;

    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_VMOVNTPS: /* memory alone: as ordinary moves */
    case ZYDIS_MNEMONIC_VMOVNTPD:
        return find(decoded, prefix, MAP_0F, OPCODE_STORE, 0);
    case ZYDIS_MNEMONIC_VMOVNTDQ:
        return find(decoded, PREFIX_NONE, MAP_0F, OPCODE_STORE, 0);
    case ZYDIS_MNEMONIC_VMOVNTDQA:
    case ZYDIS_MNEMONIC_VBROADCASTF32X4: /* with memory, that repeats */
    case ZYDIS_MNEMONIC_VBROADCASTF32X8:
    case ZYDIS_MNEMONIC_VBROADCASTI32X4:
    case ZYDIS_MNEMONIC_VBROADCASTI32X8:
        return find(decoded, PREFIX_NONE, MAP_0F, OPCODE_MOVE, 0);
    case ZYDIS_MNEMONIC_VBROADCASTF64X2:
    case ZYDIS_MNEMONIC_VBROADCASTF64X4:
    case ZYDIS_MNEMONIC_VBROADCASTI64X2:
    case ZYDIS_MNEMONIC_VBROADCASTI64X4:
        return find(decoded, PREFIX_66, MAP_0F, OPCODE_MOVE, 0);
    case ZYDIS_MNEMONIC_VINSERTPS:
        if (insn->memory) /* one element, whose number is ignored */
            immediate &= 0x3f;
        break;
    default:
        break;
    }
    switch (instruction->opcode_map) {
    case ZYDIS_OPCODE_MAP_0F:
        if (opcode >= 0x71 && opcode <= 0x73)
            return find(decoded, prefix, MAP_GROUPS, (opcode & 3) << 3 | instruction->raw.modrm.reg,
                        immediate);
        return find(decoded, prefix, MAP_0F, opcode, immediate);
    case ZYDIS_OPCODE_MAP_0F38:
        return find(decoded, prefix, 1, opcode, immediate);
    case ZYDIS_OPCODE_MAP_0F3A:
        return find(decoded, prefix, 2, opcode, immediate);
    default:
        return NULL;
    }
}

/* ---- handlers ---- */

static void run(struct soft_cpu *cpu, const struct insn *insn, struct evex_operands *operands)
{
    unsigned rounding = insn->aux[EVEX_ROUNDING];

    operands->mxcsr = cpu->mxcsr;
    if (rounding != EVEX_ROUND_MXCSR)
        operands->mxcsr = (cpu->mxcsr & (MXCSR_FLUSHES | MXCSR_RC)) | MXCSR_DEFAULT;
    if (rounding >= EVEX_ROUND_CONTROL && rounding < EVEX_ROUND_SAE)
        operands->mxcsr = (operands->mxcsr & ~MXCSR_RC) | (rounding - EVEX_ROUND_CONTROL)
                                                              << MXCSR_RC_SHIFT;
    if (rounding != EVEX_ROUND_MXCSR) {
        evex_run(operands, insn->data);
        return;
    }
    if (!evex_run(operands, insn->data)) {
        cpu->mxcsr = operands->mxcsr;
        vector_raise_simd(cpu);
    }
    cpu->mxcsr = operands->mxcsr;
}

/* Elements that `mask` leaves out become 0; what lies above a scalar is another operand's. */
static void clear_elements(const struct insn *insn, uint64_t mask, uint8_t result[64])
{
    unsigned size = MAX(insn->aux[EVEX_ELEMENT], 1U);
    unsigned count = insn->aux[EVEX_FLAGS] & EVEX_SCALAR ? 1 : 64 / size;

    for (unsigned i = 0; i < count; i++)
        if (!(mask >> i & 1))
            memset(result + i * size, 0, size);
}

static void write_back(struct soft_cpu *cpu, const struct insn *insn,
                       const struct evex_operands *operands)
{
    unsigned target = insn->aux[EVEX_TARGET];

    switch (insn->aux[EVEX_DESTINATION]) {
    case PLACE_VECTOR:
        memcpy(cpu->vector[target & 31].u8, operands->x0, 64);
        break;
    case PLACE_MASK:
        cpu->opmask[target & 7] = operands->k0;
        break;
    case PLACE_GPR:
        cpu->gpr[target & 15] = operands->rax;
        break;
    default:
        cpu->rflags = (cpu->rflags & ~VECTOR_FLAGS) | (operands->rflags & VECTOR_FLAGS);
        break;
    }
}

/* What every stub may want, but its operand in ModRM.rm. */
static void bring_operands(const struct soft_cpu *cpu, const struct insn *insn,
                           struct evex_operands *operands)
{
    memcpy(operands->x0, cpu->vector[insn->aux[EVEX_TARGET] & 31].u8, 64);
    if (insn->vvvv == EVEX_NO_VVVV)
        memset(operands->x1, 0, 64);
    else
        memcpy(operands->x1, cpu->vector[insn->vvvv & 31].u8, 64);
    operands->k0 = operands->rax = 0;
    operands->mask = evex_mask(cpu, insn);
}

/* ModRM.rm is a source. */
static void exec_load(struct soft_cpu *cpu, const struct insn *insn)
{
    struct evex_operands operands;

    evex_check(cpu);
    bring_operands(cpu, insn, &operands);
    operands.k2 = cpu->opmask[insn->rm & 7];
    operands.rdx = cpu->gpr[insn->rm & 15];
    if (insn->memory) {
        evex_load(cpu, insn, operands.mask, operands.x2);
        memcpy(&operands.rdx, operands.x2, 8);
    } else {
        memcpy(operands.x2, cpu->vector[insn->rm & 31].u8, 64);
    }
    run(cpu, insn, &operands);
    if (insn->aux[EVEX_FLAGS] & EVEX_ZEROING)
        clear_elements(insn, operands.mask, operands.x0);
    write_back(cpu, insn, &operands);
}

/* ModRM.rm is the destination. */
static void exec_store(struct soft_cpu *cpu, const struct insn *insn)
{
    struct evex_operands operands;
    uint64_t kept;

    evex_check(cpu);
    bring_operands(cpu, insn, &operands);
    memcpy(operands.x2, cpu->vector[insn->reg & 31].u8, 64);
    operands.k2 = operands.rdx = 0;
    if (insn->memory && insn->aux[EVEX_FLAGS] & EVEX_FLOATING)
        evex_probe_store(cpu, insn, operands.mask);
    kept = operands.mask;
    run(cpu, insn, &operands);
    if (insn->memory) {
        if (insn->aux[EVEX_DESTINATION] == PLACE_GPR)
            memcpy(operands.x0, &operands.rax, 8);
        evex_store(cpu, insn, kept, operands.x0);
        return;
    }
    if (insn->aux[EVEX_FLAGS] & EVEX_PACKED)
        kept = evex_present(insn, kept);
    if (insn->aux[EVEX_FLAGS] & EVEX_ZEROING)
        clear_elements(insn, kept, operands.x0);
    write_back(cpu, insn, &operands);
}

/* ---- selection ---- */

static bool suppresses(const struct soft_decoded *decoded)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;

    switch (instruction->mnemonic) { /* Zydis 4.0 has these in another class */
    case ZYDIS_MNEMONIC_VDBPSADBW:
    case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
        return false;
    default:
        break;
    }
    switch (instruction->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E1NF:
    case ZYDIS_EXCEPTION_CLASS_E2NF:
    case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E4NF:
    case ZYDIS_EXCEPTION_CLASS_E5NF:
    case ZYDIS_EXCEPTION_CLASS_E6NF:
    case ZYDIS_EXCEPTION_CLASS_E9NF:
    case ZYDIS_EXCEPTION_CLASS_E10NF:
    case ZYDIS_EXCEPTION_CLASS_E11NF:
        return false;
    default:
        return true;
    }
}

static bool is_scalar(const ZydisDecodedInstruction *instruction)
{
    switch (instruction->meta.isa_set) {
    case ZYDIS_ISA_SET_AVX512F_SCALAR:
    case ZYDIS_ISA_SET_AVX512DQ_SCALAR:
    case ZYDIS_ISA_SET_AVX512F_128N:
    case ZYDIS_ISA_SET_AVX512BW_128N:
    case ZYDIS_ISA_SET_AVX512DQ_128N:
        return true;
    default:
        return false;
    }
}

static void fill_registers(const struct soft_decoded *decoded, struct insn *insn)
{
    insn->vvvv = EVEX_NO_VVVV;
    for (unsigned i = 0; i < decoded->instruction.operand_count_visible; i++) {
        const ZydisDecodedOperand *operand = &decoded->operands[i];
        uint8_t number;

        if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        number = (uint8_t)ZydisRegisterGetId(operand->reg.value);
        if (operand->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
            insn->reg = number;
        else if (operand->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            insn->rm = number;
        else if (operand->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
            insn->vvvv = number;
    }
}

/* How many elements of the memory operand the mask tells of. */
static unsigned count_elements(const struct soft_decoded *decoded,
                               const ZydisDecodedOperand *memory, const struct insn *insn)
{
    const ZydisDecodedOperand *target = &decoded->operands[0];
    unsigned size = memory->element_size, count;

    if (insn->aux[EVEX_FLAGS] & EVEX_SCALAR || !size)
        return 1;
    count = insn->aux[EVEX_FLAGS] & EVEX_BROADCAST ? decoded->instruction.avx.vector_length / size
                                                   : memory->size / size;
    if (vector_place_of(target) == PLACE_VECTOR && target->size / target->element_size < count)
        count = target->size / target->element_size;
    return count ? count : 1;
}

static void fill_memory(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;

    for (unsigned i = 0; i < instruction->operand_count_visible; i++) {
        const ZydisDecodedOperand *operand = &decoded->operands[i];

        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        insn->aux[EVEX_SIZE] = (uint8_t)(operand->size / 8);
        insn->aux[EVEX_COUNT] = (uint8_t)count_elements(decoded, operand, insn);
        if (operand->element_size)
            insn->aux[EVEX_TUPLE] = (uint8_t)(operand->size / operand->element_size);
        if (instruction->meta.exception_class == ZYDIS_EXCEPTION_CLASS_E1 ||
            instruction->meta.exception_class == ZYDIS_EXCEPTION_CLASS_E1NF) {
            insn->aux[AUX_ALIGNMENT] = (uint8_t)(insn->aux[EVEX_SIZE] - 1);
            insn->aux[AUX_ALWAYS] = true;
        }
    }
}

static uint8_t rounding(const ZydisDecodedInstruction *instruction)
{
    switch (instruction->avx.rounding.mode) {
    case ZYDIS_ROUNDING_MODE_RN:
        return EVEX_ROUND_CONTROL;
    case ZYDIS_ROUNDING_MODE_RD:
        return EVEX_ROUND_CONTROL + 1;
    case ZYDIS_ROUNDING_MODE_RU:
        return EVEX_ROUND_CONTROL + 2;
    case ZYDIS_ROUNDING_MODE_RZ:
        return EVEX_ROUND_CONTROL + 3;
    default:
        return instruction->avx.has_sae ? EVEX_ROUND_SAE : EVEX_ROUND_MXCSR;
    }
}

static uint8_t flags(const struct soft_decoded *decoded)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    unsigned flags = 0;

    if (instruction->raw.evex.z)
        flags |= EVEX_ZEROING;
    if (instruction->raw.evex.aaa && suppresses(decoded))
        flags |= EVEX_SUPPRESS;
    if (is_scalar(instruction))
        flags |= EVEX_SCALAR;
    if (instruction->avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID)
        flags |= EVEX_BROADCAST;
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_VEXPANDPS:
    case ZYDIS_MNEMONIC_VEXPANDPD:
    case ZYDIS_MNEMONIC_VPEXPANDB:
    case ZYDIS_MNEMONIC_VPEXPANDW:
    case ZYDIS_MNEMONIC_VPEXPANDD:
    case ZYDIS_MNEMONIC_VPEXPANDQ:
    case ZYDIS_MNEMONIC_VCOMPRESSPS:
    case ZYDIS_MNEMONIC_VCOMPRESSPD:
    case ZYDIS_MNEMONIC_VPCOMPRESSB:
    case ZYDIS_MNEMONIC_VPCOMPRESSW:
    case ZYDIS_MNEMONIC_VPCOMPRESSD:
    case ZYDIS_MNEMONIC_VPCOMPRESSQ:
        return (uint8_t)(flags | EVEX_PACKED);
    case ZYDIS_MNEMONIC_VCVTPS2PH:
        return (uint8_t)(flags | EVEX_FLOATING);
    default:
        return (uint8_t)flags;
    }
}

void evex_fill(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;

    memset(insn->aux, 0, sizeof(insn->aux));
    insn->aux[EVEX_TUPLE] = 1;
    fill_registers(decoded, insn);
    insn->aux[EVEX_MASK] = instruction->raw.evex.aaa;
    insn->aux[EVEX_ROUNDING] = rounding(instruction);
    insn->aux[EVEX_FLAGS] = flags(decoded);
    insn->aux[EVEX_ELEMENT] = (uint8_t)(decoded->operands[0].element_size / 8);
    if (insn->aux[EVEX_ELEMENT])
        insn->aux[EVEX_COUNT] =
            (uint8_t)(instruction->avx.vector_length / 8U / insn->aux[EVEX_ELEMENT]);
    fill_memory(decoded, insn);
}

/* VMOVD, VMOVQ, VPEXTR*, VEXTRACTPS: to a general register, which their stub uses for memory too.
 */
static bool gives_general(const ZydisDecodedInstruction *instruction)
{
    if (instruction->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
        return instruction->opcode >= 0x14 && instruction->opcode <= 0x17;
    return instruction->opcode_map == ZYDIS_OPCODE_MAP_0F && instruction->opcode == 0x7e;
}

/* Arithmetic and moves: whatever has a stub. */
static soft_exec_fn select_stub(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedOperand *target = &decoded->operands[0];

    insn->data = find_stub(decoded, insn);
    if (!insn->data)
        return NULL;
    insn->aux[EVEX_DESTINATION] = vector_place_of(target);
    if (!(target->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
        insn->aux[EVEX_DESTINATION] = PLACE_FLAGS;
    switch (target->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        insn->aux[EVEX_TARGET] = insn->rm;
        if (gives_general(&decoded->instruction))
            insn->aux[EVEX_DESTINATION] = PLACE_GPR;
        return exec_store;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        insn->aux[EVEX_TARGET] = insn->vvvv;
        insn->vvvv = EVEX_NO_VVVV;
        return exec_load;
    default:
        insn->aux[EVEX_TARGET] = insn->reg;
        return exec_load;
    }
}

soft_exec_fn evex_select(const struct soft_decoded *decoded, struct insn *insn)
{
    soft_exec_fn exec;

    evex_fill(decoded, insn);
    exec = evex_select_memory(decoded, insn);
    return exec ? exec : select_stub(decoded, insn);
}
