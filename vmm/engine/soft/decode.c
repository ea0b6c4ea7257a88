// SPDX-License-Identifier: Apache-2.0
/*
 * The decoder: Zydis tells what the bytes are, the CPU model whether this CPU knows them, and the
 * groups of handlers what to do. (SDM 2, chapter 2; APM 3, chapter 1.)
 *
 * Zydis knows every instruction set there is. Its decoder modes turn encodings that older CPUs read
 * in another way (TZCNT as BSF, ENDBR64 as NOP) back into these; what remains is filtered by its
 * instruction set's CPUID bit.
 */
#include "vmm/engine/soft/decode.h"

#include <string.h>

#include "vmm/engine/soft/operand.h"

/* The CPUID bit that an instruction set needs. */
struct isa_feature {
    uint8_t word, bit;
    bool shorter; /* vectors of less than 512 bits, for which AVX512VL is needed too */
};

#define ALWAYS 0xfe
#define F(word, bit)    \
    {                   \
        word, (bit) + 1 \
    }
/* One of AVX-512, with its three vector lengths. */
#define EVEX(name, word, bit)                               \
    [ZYDIS_ISA_SET_##name##_128] = {word, (bit) + 1, true}, \
    [ZYDIS_ISA_SET_##name##_256] = {word, (bit) + 1, true}, \
    [ZYDIS_ISA_SET_##name##_512] = {word, (bit) + 1}

/* Sets that are not listed have bit 0 here: unknown to every model. */
static const struct isa_feature isa_features[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
    [ZYDIS_ISA_SET_I86] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_I186] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_I286REAL] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_I286PROTECTED] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_I386] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_I486] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_I486REAL] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_PENTIUMREAL] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_PPRO] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_LONGMODE] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_FAT_NOP] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_PAUSE] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_PREFETCH_NOP] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_PREFETCHWT1] = {ALWAYS, 1}, /* a no-operation where it is not known */
    [ZYDIS_ISA_SET_RDPMC] = {ALWAYS, 1},
    [ZYDIS_ISA_SET_LAHF] = {ALWAYS, 1}, /* in 64-bit mode by CPUID: instruction_shown */
    [ZYDIS_ISA_SET_ADOX_ADCX] = F(CPU_7_EBX, 19),
    [ZYDIS_ISA_SET_AES] = F(CPU_1_ECX, 25),
    [ZYDIS_ISA_SET_AVX] = F(CPU_1_ECX, 28),
    [ZYDIS_ISA_SET_AVX2] = F(CPU_7_EBX, 5),
    [ZYDIS_ISA_SET_AVX2GATHER] = F(CPU_7_EBX, 5),
    [ZYDIS_ISA_SET_AVXAES] = F(CPU_1_ECX, 25),
    [ZYDIS_ISA_SET_AVX_GFNI] = F(CPU_7_ECX, 8),
    [ZYDIS_ISA_SET_AVX_VNNI] = F(CPU_7_1_EAX, 4),
    [ZYDIS_ISA_SET_BMI1] = F(CPU_7_EBX, 3),
    [ZYDIS_ISA_SET_BMI2] = F(CPU_7_EBX, 8),
    [ZYDIS_ISA_SET_CLFLUSHOPT] = F(CPU_7_EBX, 23),
    [ZYDIS_ISA_SET_CLFSH] = F(CPU_1_EDX, 19),
    [ZYDIS_ISA_SET_CLWB] = F(CPU_7_EBX, 24),
    [ZYDIS_ISA_SET_CLZERO] = F(CPU_80000008_EBX, 0),
    [ZYDIS_ISA_SET_CMOV] = F(CPU_1_EDX, 15),
    [ZYDIS_ISA_SET_CMPXCHG16B] = F(CPU_1_ECX, 13),
    [ZYDIS_ISA_SET_F16C] = F(CPU_1_ECX, 29),
    [ZYDIS_ISA_SET_FCMOV] = F(CPU_1_EDX, 15),
    [ZYDIS_ISA_SET_FMA] = F(CPU_1_ECX, 12),
    [ZYDIS_ISA_SET_FXSAVE] = F(CPU_1_EDX, 24),
    [ZYDIS_ISA_SET_FXSAVE64] = F(CPU_1_EDX, 24),
    [ZYDIS_ISA_SET_GFNI] = F(CPU_7_ECX, 8),
    [ZYDIS_ISA_SET_INVPCID] = F(CPU_7_EBX, 10),
    [ZYDIS_ISA_SET_LZCNT] = F(CPU_80000001_ECX, 5),
    [ZYDIS_ISA_SET_MONITOR] = F(CPU_1_ECX, 3),
    [ZYDIS_ISA_SET_MOVBE] = F(CPU_1_ECX, 22),
    [ZYDIS_ISA_SET_PCLMULQDQ] = F(CPU_1_ECX, 1),
    [ZYDIS_ISA_SET_PENTIUMMMX] = F(CPU_1_EDX, 23),
    [ZYDIS_ISA_SET_PKU] = F(CPU_7_ECX, 3),
    [ZYDIS_ISA_SET_POPCNT] = F(CPU_1_ECX, 23),
    [ZYDIS_ISA_SET_RDPID] = F(CPU_7_ECX, 22),
    [ZYDIS_ISA_SET_RDPRU] = F(CPU_80000008_EBX, 4),
    [ZYDIS_ISA_SET_RDRAND] = F(CPU_1_ECX, 30),
    [ZYDIS_ISA_SET_RDSEED] = F(CPU_7_EBX, 18),
    [ZYDIS_ISA_SET_RDTSCP] = F(CPU_80000001_EDX, 27),
    [ZYDIS_ISA_SET_RDWRFSGS] = F(CPU_7_EBX, 0),
    [ZYDIS_ISA_SET_SERIALIZE] = F(CPU_7_EDX, 14),
    [ZYDIS_ISA_SET_SHA] = F(CPU_7_EBX, 29),
    [ZYDIS_ISA_SET_SMAP] = F(CPU_7_EBX, 20),
    [ZYDIS_ISA_SET_SSE] = F(CPU_1_EDX, 25),
    [ZYDIS_ISA_SET_SSEMXCSR] = F(CPU_1_EDX, 25),
    [ZYDIS_ISA_SET_SSE_PREFETCH] = F(CPU_1_EDX, 25),
    [ZYDIS_ISA_SET_SSE2] = F(CPU_1_EDX, 26),
    [ZYDIS_ISA_SET_SSE2MMX] = F(CPU_1_EDX, 26),
    [ZYDIS_ISA_SET_SSE3] = F(CPU_1_ECX, 0),
    [ZYDIS_ISA_SET_SSE3X87] = F(CPU_1_ECX, 0),
    [ZYDIS_ISA_SET_SSSE3] = F(CPU_1_ECX, 9),
    [ZYDIS_ISA_SET_SSSE3MMX] = F(CPU_1_ECX, 9),
    [ZYDIS_ISA_SET_SSE4] = F(CPU_1_ECX, 19),
    [ZYDIS_ISA_SET_SSE42] = F(CPU_1_ECX, 20),
    [ZYDIS_ISA_SET_SSE4A] = F(CPU_80000001_ECX, 6),
    [ZYDIS_ISA_SET_VAES] = F(CPU_7_ECX, 9),
    [ZYDIS_ISA_SET_VPCLMULQDQ] = F(CPU_7_ECX, 10),
    [ZYDIS_ISA_SET_X87] = F(CPU_1_EDX, 0),
    [ZYDIS_ISA_SET_XSAVE] = F(CPU_1_ECX, 26),
    [ZYDIS_ISA_SET_XSAVEC] = F(CPU_D_1_EAX, 1),
    [ZYDIS_ISA_SET_XSAVEOPT] = F(CPU_D_1_EAX, 0),
    [ZYDIS_ISA_SET_XSAVES] = F(CPU_D_1_EAX, 3),
    EVEX(AVX512F, CPU_7_EBX, 16),
    EVEX(AVX512DQ, CPU_7_EBX, 17),
    EVEX(AVX512CD, CPU_7_EBX, 28),
    EVEX(AVX512BW, CPU_7_EBX, 30),
    EVEX(AVX512_IFMA, CPU_7_EBX, 21),
    EVEX(AVX512_VBMI, CPU_7_ECX, 1),
    EVEX(AVX512_VBMI2, CPU_7_ECX, 6),
    EVEX(AVX512_GFNI, CPU_7_ECX, 8),
    EVEX(AVX512_VAES, CPU_7_ECX, 9),
    EVEX(AVX512_VPCLMULQDQ, CPU_7_ECX, 10),
    EVEX(AVX512_VNNI, CPU_7_ECX, 11),
    EVEX(AVX512_BITALG, CPU_7_ECX, 12),
    EVEX(AVX512_VPOPCNTDQ, CPU_7_ECX, 14),
    EVEX(AVX512_BF16, CPU_7_1_EAX, 5),
    [ZYDIS_ISA_SET_AVX512F_SCALAR] = F(CPU_7_EBX, 16),
    [ZYDIS_ISA_SET_AVX512F_128N] = F(CPU_7_EBX, 16),
    [ZYDIS_ISA_SET_AVX512F_KOP] = F(CPU_7_EBX, 16),
    [ZYDIS_ISA_SET_AVX512DQ_SCALAR] = F(CPU_7_EBX, 17),
    [ZYDIS_ISA_SET_AVX512DQ_128N] = F(CPU_7_EBX, 17),
    [ZYDIS_ISA_SET_AVX512DQ_KOP] = F(CPU_7_EBX, 17),
    [ZYDIS_ISA_SET_AVX512BW_128N] = F(CPU_7_EBX, 30),
    [ZYDIS_ISA_SET_AVX512BW_KOP] = F(CPU_7_EBX, 30),
};

static void exec_undefined(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_undefined(cpu);
}

/* Whether the model shows the instruction. */
static bool instruction_shown(const struct cpu_definition *model,
                              const ZydisDecodedInstruction *instruction, uint8_t code_size)
{
    const struct isa_feature *feature = &isa_features[instruction->meta.isa_set];
    bool vex = instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_VMCALL: /* the hypervisor's own, whatever the model */
    case ZYDIS_MNEMONIC_VMMCALL:
        return true;
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSEXIT:
        return cpu_has(model, CPU_1_EDX, 11);
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET:
        return cpu_has(model, CPU_80000001_EDX, 11);
    case ZYDIS_MNEMONIC_CMPXCHG8B:
        return cpu_has(model, CPU_1_EDX, 8);
    case ZYDIS_MNEMONIC_MOVDIRI:
        return cpu_has(model, CPU_7_ECX, 27);
    case ZYDIS_MNEMONIC_MOVDIR64B:
        return cpu_has(model, CPU_7_ECX, 28);
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_NOP:
        /* 0F 0D with a register is a no-operation for Intel's processors only. */
        return instruction->opcode != 0x0d || instruction->opcode_map != ZYDIS_OPCODE_MAP_0F ||
               instruction->raw.modrm.mod != 3 || model->vendor == CPU_VENDOR_INTEL;
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
        return code_size != 8 || cpu_has(model, CPU_80000001_ECX, 0);
    default:
        break;
    }
    if (instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
        if (!cpu_has_feature(model, CPU_AVX512F) ||
            (feature->shorter && !cpu_has(model, CPU_7_EBX, 31)))
            return false;
    } else if (instruction->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && !vex) {
        return false;
    }
    /* BMI needs no AVX; every other VEX form does. */
    if (vex && feature->word != CPU_7_EBX && !cpu_has(model, CPU_1_ECX, 28))
        return false;
    if (feature->word == ALWAYS)
        return true;
    return feature->bit && cpu_has(model, (enum cpu_word)feature->word, feature->bit - 1);
}

/* The decoder for a mode, built when the model's encoding rules differ from the last ones. */
static const ZydisDecoder *decoder_get(const struct cpu_definition *model, uint8_t code_size)
{
    static _Thread_local struct {
        uint8_t rules; /* 0: not built */
        ZydisDecoder decoder;
    } cache[3];
    unsigned slot = code_size >> 2;
    bool amd = model->vendor == CPU_VENDOR_AMD;
    bool lzcnt = cpu_has(model, CPU_80000001_ECX, 5);
    bool tzcnt = cpu_has(model, CPU_7_EBX, 3);
    bool wbnoinvd = cpu_has(model, CPU_80000008_EBX, 9);
    uint8_t rules = (uint8_t)(0x80 | amd | lzcnt << 1 | tzcnt << 2 | wbnoinvd << 3);
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth stack;
    } modes[3] = {{ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
                  {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
                  {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64}};
    ZydisDecoder *decoder = &cache[slot].decoder;

    if (cache[slot].rules == rules)
        return decoder;
    ZydisDecoderInit(decoder, modes[slot].mode, modes[slot].stack);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, amd);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_LZCNT, lzcnt);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_TZCNT, tzcnt);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_WBNOINVD, wbnoinvd);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    cache[slot].rules = rules;
    return decoder;
}

uint8_t soft_register_offset(ZydisRegister reg)
{
    if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
        return (uint8_t)((reg - ZYDIS_REGISTER_AL) * 8);
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return (uint8_t)((reg - ZYDIS_REGISTER_AH) * 8 + 1);
    if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
        return (uint8_t)((reg - ZYDIS_REGISTER_SPL + 4) * 8);
    if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
        return (uint8_t)((reg - ZYDIS_REGISTER_AX) * 8);
    if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
        return (uint8_t)((reg - ZYDIS_REGISTER_EAX) * 8);
    if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
        return (uint8_t)((reg - ZYDIS_REGISTER_RAX) * 8);
    return SOFT_NO_OFFSET;
}

/* The general register that an address is built of. */
static uint8_t address_register(ZydisRegister reg)
{
    uint8_t offset;

    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return INSN_RIP;
    offset = soft_register_offset(reg);
    return offset == SOFT_NO_OFFSET ? INSN_NO_REGISTER : offset / 8;
}

/* Prefixes: the last REP form counts, and the last segment override that the mode honours. */
static void fill_prefixes(const struct soft_decoded *decoded, struct insn *insn, bool *overridden)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

    *overridden = false;
    for (unsigned i = 0; i < instruction->raw.prefix_count; i++) {
        uint8_t value = instruction->raw.prefixes[i].value;

        if (value == 0xf0)
            insn->prefixes |= INSN_LOCK;
        else if (value == 0xf3 || value == 0xf2)
            insn->prefixes = (uint8_t)((insn->prefixes & ~(INSN_REP | INSN_REPNE)) |
                                       (value == 0xf3 ? INSN_REP : INSN_REPNE));
        for (unsigned s = decoded->code_size == 8 ? SEG_FS : 0; s < sizeof(segments); s++)
            if (value == segments[s]) {
                insn->segment = (uint8_t)s;
                *overridden = true;
            }
    }
}

/* The memory operand: the explicit one, else the source of an instruction that implies one. */
static void fill_memory(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedOperand *memory = NULL;
    static const uint8_t shifts[9] = {[1] = 0, [2] = 1, [4] = 2, [8] = 3};
    bool overridden;

    insn->segment = SEG_DS;
    insn->base = insn->index = INSN_NO_REGISTER;
    fill_prefixes(decoded, insn, &overridden);
    for (unsigned i = 0; i < decoded->instruction.operand_count_visible; i++)
        if (decoded->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            memory = &decoded->operands[i];
    if (!memory)
        return;
    insn->memory = true;
    insn->base = address_register(memory->mem.base);
    insn->index = address_register(memory->mem.index);
    insn->scale = shifts[memory->mem.scale <= 8 ? memory->mem.scale : 0];
    insn->displacement = memory->mem.disp.value;
    /* Zydis 4.0 takes SIB.base 5 without a base for R13 when B and 67 are there. */
    if (decoded->instruction.raw.modrm.mod == 0 && decoded->instruction.raw.modrm.rm == 4 &&
        (decoded->instruction.raw.sib.base & 7) == 5 && decoded->instruction.address_width != 16 &&
        decoded->instruction.raw.disp.size == 32) {
        insn->base = INSN_NO_REGISTER;
        insn->displacement = decoded->instruction.raw.disp.value;
    }
    if (!overridden && (insn->base == GPR_RSP || insn->base == GPR_RBP))
        insn->segment = SEG_SS;
    insn->plain = decoded->code_size == 8 && insn->address_size == 8 && insn->base < GPR_COUNT &&
                  insn->segment < SEG_FS;
}

/* Register numbers as ModRM, REX and VEX give them. Outside of 64-bit mode there are eight, and
 * what VEX has of a ninth is ignored: B and the highest bit of vvvv (SDM 2A, 2.3.5.3 and 2.3.5.6).
 */
static void fill_registers(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    bool vex = instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    unsigned r = vex ? !instruction->raw.vex.R : instruction->raw.rex.R;
    unsigned b = vex ? !instruction->raw.vex.B : instruction->raw.rex.B;
    unsigned mask = decoded->code_size == 8 ? 15 : 7;

    if (instruction->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        insn->reg = (uint8_t)(instruction->raw.modrm.reg | r << 3);
        insn->rm = (uint8_t)((instruction->raw.modrm.rm | b << 3) & mask);
    } else {
        insn->rm = (uint8_t)((instruction->opcode & 7) | b << 3);
    }
    if (vex)
        insn->vvvv = (uint8_t)(~instruction->raw.vex.vvvv & mask);
    insn->reg_offset = (uint8_t)(insn->reg * 8);
    insn->rm_offset = (uint8_t)(insn->rm * 8);
    for (unsigned i = 0; i < instruction->operand_count_visible; i++) {
        const ZydisDecodedOperand *operand = &decoded->operands[i];
        uint8_t offset;

        if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        offset = soft_register_offset(operand->reg.value);
        if (operand->encoding == ZYDIS_OPERAND_ENCODING_IS4)
            insn->immediate2 = (uint8_t)ZydisRegisterGetId(operand->reg.value);
        if (offset == SOFT_NO_OFFSET)
            continue;
        if (operand->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
            insn->reg_offset = offset;
        else if (operand->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
                 operand->encoding == ZYDIS_OPERAND_ENCODING_OPCODE)
            insn->rm_offset = offset;
    }
}

static void fill_immediates(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    unsigned size = instruction->raw.imm[0].size;

    if (size) {
        unsigned shift = 64 - size;

        insn->immediate = (uint64_t)((int64_t)(instruction->raw.imm[0].value.u << shift) >> shift);
    }
    if (instruction->raw.imm[1].size)
        insn->immediate2 = (uint8_t)instruction->raw.imm[1].value.u;
}

/* Instructions of the system that change nothing of that. STI does, and leaves the block by itself
 * where the flag was clear: what follows it is one block with it since no interrupt comes between.
 */
static bool goes_on(const ZydisDecodedInstruction *instruction)
{
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_SWAPGS:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
        return true;
    case ZYDIS_MNEMONIC_MOV: /* from a control register */
        return instruction->opcode_map == ZYDIS_OPCODE_MAP_0F && instruction->opcode == 0x20;
    default:
        return false;
    }
}

/* Whether the next instruction must be looked up anew: control goes elsewhere, or the mode, the
 * interrupt flag, pending events or the mapping of code may have changed. */
static bool ends_block(const ZydisDecodedInstruction *instruction)
{
    if (goes_on(instruction))
        return false;
    switch (instruction->meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_SERIALIZE:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_VTX:
        return true;
    default:
        break;
    }
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_INVPCID:
    case ZYDIS_MNEMONIC_XSETBV:
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_PAUSE:
        return true;
    default:
        return instruction->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED;
    }
}

/* A load of a segment register ends the block too: that of SS holds interrupts off. */
static bool loads_segment(const struct soft_decoded *decoded)
{
    const ZydisDecodedOperand *target = &decoded->operands[0];

    return decoded->instruction.operand_count_visible &&
           (decoded->instruction.mnemonic == ZYDIS_MNEMONIC_MOV ||
            decoded->instruction.mnemonic == ZYDIS_MNEMONIC_POP) &&
           target->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(target->reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

static soft_exec_fn select_handler(const struct soft_decoded *decoded, struct insn *insn)
{
    soft_exec_fn exec;

    (void)((exec = soft_select_integer(decoded, insn)) ||
           (exec = soft_select_string(decoded, insn)) ||
           (exec = soft_select_branch(decoded, insn)) ||
           (exec = soft_select_system(decoded, insn)) ||
           (exec = soft_select_vector(decoded, insn)) || (exec = soft_select_x87(decoded, insn)));
    return exec;
}

static enum soft_decode_result decode_undefined(struct insn *insn)
{
    *insn = (struct insn){.exec = exec_undefined,
                          .length = 1,
                          .segment = SEG_DS,
                          .base = INSN_NO_REGISTER,
                          .index = INSN_NO_REGISTER,
                          .prefixes = INSN_ENDS_BLOCK};
    return SOFT_DECODE_OK;
}

bool soft_insn_undefined(const struct insn *insn)
{
    return insn->exec == exec_undefined;
}

bool soft_decode_whole(const struct cpu_definition *model, uint8_t code_size, const uint8_t *bytes,
                       unsigned available, struct soft_decoded *decoded)
{
    decoded->model = model;
    decoded->code_size = code_size;
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder_get(model, code_size), bytes, available,
                                               &decoded->instruction, decoded->operands));
}

/* Of struct insn, without the padding at its end. */
#define INSN_USED (offsetof(struct insn, aux) + sizeof(((struct insn *)NULL)->aux))

/* False where nobody handles it. */
static bool fill(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;

    *insn = (struct insn){.length = instruction->length,
                          .operand_size = (uint8_t)(instruction->operand_width / 8),
                          .address_size = (uint8_t)(instruction->address_width / 8)};
    fill_memory(decoded, insn);
    fill_registers(decoded, insn);
    fill_immediates(decoded, insn);
    if (ends_block(instruction) || loads_segment(decoded))
        insn->prefixes |= INSN_ENDS_BLOCK;
    insn->exec = select_handler(decoded, insn);
    return insn->exec;
}

bool soft_decode_again(const struct cpu_definition *model, uint8_t code_size, const uint8_t *bytes,
                       const struct insn *known, struct soft_decoded *decoded)
{
    struct insn insn;

    return soft_decode_whole(model, code_size, bytes, known->length, decoded) &&
           fill(decoded, &insn) && memcmp(&insn, known, INSN_USED) == 0;
}

enum soft_decode_result soft_decode(const struct cpu_definition *model, uint8_t code_size,
                                    const uint8_t *bytes, unsigned available, struct insn *insn)
{
    struct soft_decoded decoded;
    ZydisDecodedInstruction *instruction = &decoded.instruction;
    ZyanStatus status;

    if (available > ZYDIS_MAX_INSTRUCTION_LENGTH)
        available = ZYDIS_MAX_INSTRUCTION_LENGTH;
    status = ZydisDecoderDecodeFull(decoder_get(model, code_size), bytes, available, instruction,
                                    decoded.operands);
    if (status == ZYDIS_STATUS_NO_MORE_DATA)
        return available < ZYDIS_MAX_INSTRUCTION_LENGTH ? SOFT_DECODE_TRUNCATED
                                                        : SOFT_DECODE_TOO_LONG;
    if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
        return SOFT_DECODE_TOO_LONG;
    if (!ZYAN_SUCCESS(status) || !instruction_shown(model, instruction, code_size))
        return decode_undefined(insn);

    decoded.model = model;
    decoded.code_size = code_size;
    if (!fill(&decoded, insn))
        return decode_undefined(insn);
    return SOFT_DECODE_OK;
}

enum operand_form operand_form(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedOperand *first = &decoded->operands[0], *second = &decoded->operands[1];
    unsigned count = decoded->instruction.operand_count_visible;
    uint8_t first_offset = SOFT_NO_OFFSET, second_offset = SOFT_NO_OFFSET;

    if (!count)
        return FORM_NONE;
    if (first->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        first_offset = soft_register_offset(first->reg.value);
        if (first_offset == SOFT_NO_OFFSET)
            return FORM_NONE;
        insn->reg_offset = first_offset;
    }
    if (count == 1)
        return first->type == ZYDIS_OPERAND_TYPE_REGISTER    ? FORM_R
               : first->type == ZYDIS_OPERAND_TYPE_MEMORY    ? FORM_M
               : first->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? FORM_I
                                                             : FORM_NONE;
    if (second->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        second_offset = soft_register_offset(second->reg.value);
        if (second_offset == SOFT_NO_OFFSET)
            return FORM_NONE;
    }
    if (second->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        if (!decoded->instruction.raw.imm[0].size)
            insn->immediate = second->imm.value.u; /* the 1 of D0 and D1 */
        return first->type == ZYDIS_OPERAND_TYPE_MEMORY ? FORM_MI : FORM_RI;
    }
    if (first->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        if (second->type == ZYDIS_OPERAND_TYPE_MEMORY)
            return FORM_RM;
        insn->rm_offset = second_offset;
        return FORM_RR;
    }
    if (first->type != ZYDIS_OPERAND_TYPE_MEMORY || second_offset == SOFT_NO_OFFSET)
        return FORM_NONE;
    insn->reg_offset = second_offset;
    return FORM_MR;
}
