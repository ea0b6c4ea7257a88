// SPDX-License-Identifier: Apache-2.0
/*
 * MMX, SSE and AVX arithmetic: the common handlers, which bring the operands together, let a stub
 * of the host's own instruction compute (vector_stubs.S), and write the result back. (SDM 2; the
 * exceptions of each class are in section 2.4.)
 *
 * Floating point runs under the guest's MXCSR as it is. An unmasked exception therefore raises
 * SIGFPE on the host just where the guest gets #XM; the signal handler takes the stub's caller back
 * with the flags that the host's instruction left. Results and flags are exact by construction.
 */
#include "vmm/engine/soft/evex.h"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#define ENTRY_SETS 6 /* legacy, VEX.128, VEX.256; each with W 0 and 1 */
#define ENTRY_KEYS (ENTRY_SETS * 3 * 4 * 256)
#define ENTRY_KEY  0xffffffU
#define STUB_SIZE  8

/* Entry by key, plus one; 0 for none. Built once. */
static uint16_t entry_index[ENTRY_KEYS];
static struct sigaction previous_action;

/* ---- when an instruction may not run ---- */

void vector_refuse_sse(struct soft_cpu *cpu)
{
    if ((cpu->cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR))
        soft_undefined(cpu);
    soft_raise(cpu, EXC_NM, 0);
}

void vector_refuse_state(struct soft_cpu *cpu, uint64_t state)
{
    if (!(cpu->cr4 & CR4_OSXSAVE) || (cpu->xcr0 & state) != state || !soft_protected(cpu) ||
        soft_v86(cpu))
        soft_undefined(cpu);
    soft_raise(cpu, EXC_NM, 0);
}

void vector_raise_simd(struct soft_cpu *cpu)
{
    soft_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD, 0);
}

/* ---- finding the stub ---- */

/* An unmasked exception in a stub: the stub's caller goes on at vector_trap. Anything else is as if
 * this handler were not there. */
static void floating_point_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    uintptr_t at = (uintptr_t)user->uc_mcontext.gregs[REG_RIP];

    if (at >= (uintptr_t)vector_stubs && at < (uintptr_t)vector_stubs_end) {
        user->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)vector_trap;
        return;
    }
    if (at >= (uintptr_t)evex_stubs && at < (uintptr_t)evex_stubs_end) {
        user->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)evex_trap;
        return;
    }
    if (previous_action.sa_flags & SA_SIGINFO)
        previous_action.sa_sigaction(number, info, context);
    else
        sigaction(number, &previous_action, NULL); /* the instruction faults again */
}

void soft_vector_catch(void)
{
    struct sigaction action = {.sa_sigaction = floating_point_signal,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    struct sigaction previous;

    sigemptyset(&action.sa_mask);
    sigaction(SIGFPE, &action, &previous);
    if (!(previous.sa_flags & SA_SIGINFO) || previous.sa_sigaction != floating_point_signal)
        previous_action = previous;
}

static void build_index(void)
{
    /* The two symbols bound one table in vector_stubs.S. */
    // cppcheck-suppress comparePointers
    for (const struct vector_entry *entry = vector_entries; entry < vector_entries_end; entry++)
        entry_index[(entry->key & ENTRY_KEY) % ENTRY_KEYS] = (uint16_t)(entry - vector_entries + 1);
    soft_vector_catch();
}

void soft_vector_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, build_index);
}

/* Prefix as VEX.pp numbers it. */
static unsigned mandatory_prefix(const ZydisDecodedInstruction *instruction)
{
    if (instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        return instruction->raw.vex.pp;
    for (unsigned i = 0; i < instruction->raw.prefix_count; i++)
        if (instruction->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            switch (instruction->raw.prefixes[i].value) {
            case 0x66:
                return 1;
            case 0xf3:
                return 2;
            case 0xf2:
                return 3;
            default:
                break;
            }
    return 0;
}

/* VEX.W, or for instructions with a general register whether that has 64 bits. */
static unsigned wide(const struct soft_decoded *decoded)
{
    for (unsigned i = 0; i < decoded->instruction.operand_count_visible; i++)
        if (decoded->operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            switch (ZydisRegisterGetClass(decoded->operands[i].reg.value)) {
            case ZYDIS_REGCLASS_GPR64:
                return 1;
            case ZYDIS_REGCLASS_GPR32:
                return 0;
            default:
                break;
            }
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_CVTSI2SS:
    case ZYDIS_MNEMONIC_CVTSI2SD:
        return decoded->operands[1].size == 64;
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
        return decoded->operands[2].size == 64;
    default:
        return decoded->instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX &&
               decoded->instruction.raw.vex.W;
    }
}

const struct vector_entry *vector_find_entry(unsigned set, unsigned prefix, unsigned map,
                                             unsigned opcode)
{
    unsigned index = entry_index[((set * 3 + map) * 4 + prefix) * 256 + opcode];

    return index ? &vector_entries[index - 1] : NULL;
}

/* VEX.W and VEX.L are ignored by some instructions: those stand in the table with 0. Zydis has
 * refused what is not valid. */
static const struct vector_entry *find_entry(const struct soft_decoded *decoded)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    bool vex = instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    unsigned prefix = mandatory_prefix(instruction), w = wide(decoded);
    unsigned length = vex ? 1 + instruction->raw.vex.L : 0;
    unsigned map;
    const struct vector_entry *entry;

    switch (instruction->opcode_map) {
    case ZYDIS_OPCODE_MAP_0F:
        map = 0;
        break;
    case ZYDIS_OPCODE_MAP_0F38:
        map = 1;
        break;
    case ZYDIS_OPCODE_MAP_0F3A:
        map = 2;
        break;
    default:
        return NULL;
    }
    for (;; length--) {
        entry = vector_find_entry(length * 2 + w, prefix, map, instruction->opcode);
        if (!entry && w)
            entry = vector_find_entry(length * 2, prefix, map, instruction->opcode);
        if (entry || length < 2)
            return entry;
    }
}

const void *vector_entry_stub(const struct vector_entry *entry, uint8_t immediate)
{
    return vector_stubs + entry->stub + (entry->key & VECTOR_IMMEDIATE ? immediate * STUB_SIZE : 0);
}

/* ---- handlers: both operands and the result are vectors ---- */

/* `vex` is the vector's size or 0 for legacy encodings, which keep what lies above 16 bytes. */
static inline __attribute__((always_inline)) void
exec_vector(struct soft_cpu *cpu, const struct insn *insn, bool memory, bool fp, unsigned vex)
{
    union soft_vector *reg = &cpu->vector[insn->reg & 15];
    const union soft_vector *first = vex ? &cpu->vector[insn->vvvv & 15] : reg;
    const void *second = &cpu->vector[insn->rm & 15];
    uint8_t loaded[32] __attribute__((aligned(32)));

    vector_check(cpu, vex);
    if (memory) {
        vector_load(cpu, insn, loaded, insn->aux[AUX_SIZE]);
        second = loaded;
    }
    if (fp) {
        if (!(vex == 32 ? vector_run_256_fp(reg, first, second, insn->data, &cpu->mxcsr)
                        : vector_run_128_fp(reg, first, second, insn->data, &cpu->mxcsr)))
            vector_raise_simd(cpu);
    } else if (vex == 32) {
        vector_run_256(reg, first, second, insn->data);
    } else {
        vector_run_128(reg, first, second, insn->data);
    }
    if (vex)
        vector_clear_above(reg, vex);
}

#define DEFINE_VECTOR(name, memory, fp, vex)                               \
    static void exec_##name(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                      \
        exec_vector(cpu, insn, memory, fp, vex);                           \
    }
DEFINE_VECTOR(sse_rr, false, false, 0)
DEFINE_VECTOR(sse_rm, true, false, 0)
DEFINE_VECTOR(sse_fp_rr, false, true, 0)
DEFINE_VECTOR(sse_fp_rm, true, true, 0)
DEFINE_VECTOR(avx128_rr, false, false, 16)
DEFINE_VECTOR(avx128_rm, true, false, 16)
DEFINE_VECTOR(avx128_fp_rr, false, true, 16)
DEFINE_VECTOR(avx128_fp_rm, true, true, 16)
DEFINE_VECTOR(avx256_rr, false, false, 32)
DEFINE_VECTOR(avx256_rm, true, false, 32)
DEFINE_VECTOR(avx256_fp_rr, false, true, 32)
DEFINE_VECTOR(avx256_fp_rm, true, true, 32)

/* By vector size (legacy, 16, 32), floating point, memory. */
static const soft_exec_fn vector_handlers[3][2][2] = {
    {{exec_sse_rr, exec_sse_rm}, {exec_sse_fp_rr, exec_sse_fp_rm}},
    {{exec_avx128_rr, exec_avx128_rm}, {exec_avx128_fp_rr, exec_avx128_fp_rm}},
    {{exec_avx256_rr, exec_avx256_rm}, {exec_avx256_fp_rr, exec_avx256_fp_rm}},
};

/* ---- handlers: MMX registers, general registers, flags ---- */

/* Whether the stub works on MMX registers: x87 state changes with it, unless AUX_TO tells that only
 * the stub has it so. */
static bool has_mmx(const struct insn *insn)
{
    return insn->aux[AUX_DESTINATION] == PLACE_MMX || insn->aux[AUX_SOURCE] == PLACE_MMX;
}

static void store_result(struct soft_cpu *cpu, const struct insn *insn,
                         const struct vector_operands *operands)
{
    union soft_vector *vector = &cpu->vector[insn->reg & 15];

    switch (insn->aux[AUX_DESTINATION]) {
    case PLACE_VECTOR:
        memcpy(vector->u8, operands->x0, 16);
        if (insn->aux[AUX_VEX])
            vector_clear_above(vector, 16);
        break;
    case PLACE_MMX:
        soft_mmx_write(cpu, insn->reg, operands->mm0);
        break;
    case PLACE_GPR:
        cpu->gpr[insn->reg & 15] = operands->rax;
        break;
    default:
        cpu->rflags = (cpu->rflags & ~VECTOR_FLAGS) | (operands->rflags & VECTOR_FLAGS);
        break;
    }
}

static void exec_mixed(struct soft_cpu *cpu, const struct insn *insn)
{
    struct vector_operands operands;
    bool mmx = has_mmx(insn), x87 = mmx && !insn->aux[AUX_TO], done;
    unsigned vex = insn->aux[AUX_VEX];
    uint8_t loaded[32] __attribute__((aligned(32)));

    if (insn->aux[AUX_MASK])
        vector_check(cpu, vex);
    if (x87)
        soft_mmx_check(cpu);
    memcpy(operands.x0, &cpu->vector[insn->reg & 15], 32);
    memcpy(operands.x1, &cpu->vector[insn->vvvv & 15], 32);
    if (insn->memory) {
        vector_load(cpu, insn, loaded, insn->aux[AUX_SIZE]);
        memcpy(operands.x2, loaded, 32);
        memcpy(operands.mm2, loaded, 8);
        memcpy(&operands.rdx_rcx, loaded, 8);
    } else {
        memcpy(operands.x2, &cpu->vector[insn->rm & 15], 32);
        soft_mmx_read(cpu, insn->rm, operands.mm2);
        operands.rdx_rcx = cpu->gpr[insn->rm & 15];
    }
    soft_mmx_read(cpu, insn->reg, operands.mm0);
    operands.rax = 0;
    operands.mxcsr = cpu->mxcsr;
    done = mmx         ? vector_run_mmx(&operands, insn->data)
           : vex == 32 ? vector_run_mixed_256(&operands, insn->data)
                       : vector_run_mixed(&operands, insn->data);
    cpu->mxcsr = operands.mxcsr;
    if (x87)
        soft_mmx_enter(cpu);
    if (!done)
        vector_raise_simd(cpu);
    store_result(cpu, insn, &operands);
}

/* ---- selection ---- */

static uint8_t register_place(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
    case ZYDIS_REGCLASS_ZMM:
        return PLACE_VECTOR;
    case ZYDIS_REGCLASS_MASK:
        return PLACE_MASK;
    case ZYDIS_REGCLASS_MMX:
        return PLACE_MMX;
    default:
        return PLACE_GPR;
    }
}

uint8_t vector_place_of(const ZydisDecodedOperand *operand)
{
    if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
        return PLACE_MEMORY;
    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER)
        return register_place(operand->reg.value);
    return PLACE_NONE;
}

/* Legacy instructions want 16-byte operands aligned; the group's exceptions clear the mask. */
void vector_fill_aux(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    bool vex = instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

    memset(insn->aux, 0, sizeof(insn->aux));
    if (vex)
        insn->aux[AUX_VEX] = instruction->raw.vex.L ? 32 : 16;
    for (unsigned i = 0; i < instruction->operand_count_visible; i++)
        if (decoded->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            insn->aux[AUX_SIZE] = (uint8_t)(decoded->operands[i].size / 8);
            if (!vex && insn->aux[AUX_SIZE] == 16 &&
                !(instruction->meta.isa_set == ZYDIS_ISA_SET_SHA &&
                  decoded->model->vendor == CPU_VENDOR_AMD))
                insn->aux[AUX_ALIGNMENT] = 15;
        }
}

/* Conversions of a packed integer in memory have no business with MMX registers; only Intel's
 * CVTPI2PS turns the x87 stack all the same (SDM 2). */
static bool leaves_x87(const struct soft_decoded *decoded)
{
    return decoded->instruction.mnemonic == ZYDIS_MNEMONIC_CVTPI2PD ||
           decoded->model->vendor == CPU_VENDOR_AMD;
}

/* Arithmetic: whatever has a stub. */
static soft_exec_fn select_arithmetic(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    const struct vector_entry *entry = find_entry(decoded);
    unsigned last = instruction->operand_count_visible;
    bool vectors = true;

    if (!entry || !last)
        return NULL;
    insn->data = vector_entry_stub(entry, (uint8_t)insn->immediate);
    insn->aux[AUX_DESTINATION] = vector_place_of(&decoded->operands[0]);
    if (!(decoded->operands[0].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
        insn->aux[AUX_DESTINATION] = PLACE_FLAGS;
    vectors = insn->aux[AUX_DESTINATION] == PLACE_VECTOR;
    for (unsigned i = 0; i < last; i++)
        insn->aux[AUX_MASK] |= vector_place_of(&decoded->operands[i]) == PLACE_VECTOR;
    for (unsigned i = 1; i < last; i++) {
        uint8_t place = vector_place_of(&decoded->operands[i]);

        if (place == PLACE_MMX || place == PLACE_GPR)
            insn->aux[AUX_SOURCE] = place;
        vectors &= place != PLACE_MMX && place != PLACE_GPR;
    }
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
        insn->aux[AUX_TO] = insn->memory && leaves_x87(decoded);
        insn->aux[AUX_SOURCE] = PLACE_MMX;
        vectors = false;
        break;
    case ZYDIS_MNEMONIC_CVTSI2SS:
    case ZYDIS_MNEMONIC_CVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
        vectors = false;
        break;
    case ZYDIS_MNEMONIC_INSERTPS:
    case ZYDIS_MNEMONIC_VINSERTPS:
        /* From memory there is one element, and its number is ignored. */
        if (insn->memory)
            insn->data = vector_entry_stub(entry, insn->immediate & 0x3f);
        break;
    default:
        break;
    }
    if (!vectors)
        return exec_mixed;
    return vector_handlers[insn->aux[AUX_VEX] / 16][!!(entry->key & VECTOR_FP)][insn->memory];
}

soft_exec_fn soft_select_vector(const struct soft_decoded *decoded, struct insn *insn)
{
    soft_exec_fn exec;

    soft_vector_init();
    if (decoded->instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
        return evex_select(decoded, insn);
    exec = evex_select_opmask(decoded, insn);
    if (exec)
        return exec;
    vector_fill_aux(decoded, insn);
    (void)((exec = vector_select_move(decoded, insn)) ||
           (exec = vector_select_element(decoded, insn)) ||
           (exec = vector_select_masked(decoded, insn)) ||
           (exec = vector_select_special(decoded, insn)) ||
           (exec = vector_select_state(decoded, insn)) ||
           (exec = select_arithmetic(decoded, insn)));
    return exec;
}
