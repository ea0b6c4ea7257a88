// SPDX-License-Identifier: Apache-2.0
/*
 * See copy.h: what an instruction on the allow-list reads and writes. The writing is copy_emit.c.
 */
#include "vmm/engine/soft/translator/copy.h"

#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/copy_list.h"

/* What a class does to the flags: needs, may change, leaves undefined (a part of what it may
 * change), and what it changes only perhaps. */
struct flag_effect {
    uint16_t read, written, undefined, perhaps;
};

#define ALL FLAGS_STATUS

static const struct flag_effect effects[COPY_CLASSES] = {
    [COPY_ARITHMETIC] = {.written = ALL},
    [COPY_WITH_CARRY] = {.read = FLAG_CF, .written = ALL},
    [COPY_LOGIC] = {.written = ALL, .undefined = FLAG_AF},
    [COPY_STEP] = {.written = ALL & ~FLAG_CF},
    [COPY_MULTIPLY] = {.written = ALL, .undefined = ALL & ~(FLAG_CF | FLAG_OF)},
    [COPY_DIVIDE] = {.written = ALL, .undefined = ALL},
    [COPY_BIT] = {.written = ALL, .undefined = ALL & ~(FLAG_CF | FLAG_ZF), .perhaps = FLAG_ZF},
    [COPY_SCAN] = {.written = ALL, .undefined = ALL & ~FLAG_ZF},
    [COPY_COUNT] = {.written = ALL, .undefined = ALL & ~(FLAG_CF | FLAG_ZF)},
    [COPY_ZERO] = {.written = FLAG_ZF},
    [COPY_CARRY] = {.written = FLAG_CF},
    [COPY_FLIP_CARRY] = {.read = FLAG_CF, .written = FLAG_CF},
    [COPY_FLIP_OVERFLOW] = {.read = FLAG_OF, .written = FLAG_OF},
    [COPY_TO_AH] = {.read = ALL & ~FLAG_OF},
    [COPY_FROM_AH] = {.written = ALL & ~FLAG_OF},
    [COPY_BMI] = {.written = ALL, .undefined = FLAG_AF | FLAG_PF},
    [COPY_X87_COMPARE] = {.written = ALL, .perhaps = FLAG_OF | FLAG_SF | FLAG_AF},
    [COPY_EXTRACT] = {.written = ALL, .undefined = FLAG_AF | FLAG_PF | FLAG_SF},
};

/* ---- flags that hang on operands ---- */

/* What a condition code looks at; its lowest bit negates. */
static uint16_t condition_flags(unsigned condition)
{
    static const uint16_t flags[8] = {
        FLAG_OF, FLAG_CF, FLAG_ZF,           FLAG_CF | FLAG_ZF,
        FLAG_SF, FLAG_PF, FLAG_SF | FLAG_OF, FLAG_ZF | FLAG_SF | FLAG_OF};

    return flags[condition >> 1 & 7];
}

/* The same for FCMOVcc, whose condition is in ModRM.reg. */
static uint16_t x87_condition_flags(unsigned condition)
{
    static const uint16_t flags[4] = {FLAG_CF, FLAG_ZF, FLAG_CF | FLAG_ZF, FLAG_PF};

    return flags[condition & 3];
}

/* The count of a shift as the CPU masks it, or -1 when only its execution will tell. */
static int shift_count(const ZydisDecodedInstruction *instruction,
                       const ZydisDecodedOperand *operands)
{
    const ZydisDecodedOperand *count = &operands[instruction->operand_count_visible - 1];

    if (count->type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return -1;
    return (int)(count->imm.value.u & (instruction->operand_width == 64 ? 63 : 31));
}

static struct flag_effect shift_effect(const ZydisDecodedInstruction *instruction,
                                       const ZydisDecodedOperand *operands, enum copy_class class)
{
    int count = shift_count(instruction, operands);
    struct flag_effect effect = {.written = ALL, .undefined = FLAG_AF};

    if (class == COPY_ROTATE || class == COPY_ROTATE_CARRY)
        effect = (struct flag_effect){.written = FLAG_CF | FLAG_OF};
    if (class == COPY_ROTATE_CARRY)
        effect.read = FLAG_CF;
    if (count == 0) /* nothing happens */
        return (struct flag_effect){.read = effect.read};
    if (count < 0)
        effect.perhaps = effect.written;
    if (count > 1)
        effect.undefined |= FLAG_OF;
    if (count >= (int)instruction->operand_width) /* SHL, SHR: CF; SHLD, SHRD: all */
        effect.undefined |= class == COPY_SHIFT_DOUBLE ? ALL : FLAG_CF & effect.written;
    return effect;
}

static struct flag_effect flag_effect(const ZydisDecodedInstruction *instruction,
                                      const ZydisDecodedOperand *operands, enum copy_class class)
{
    switch (class) {
    case COPY_SHIFT:
    case COPY_SHIFT_DOUBLE:
    case COPY_ROTATE:
    case COPY_ROTATE_CARRY:
        return shift_effect(instruction, operands, class);
    case COPY_CONDITION:
        return (struct flag_effect){.read = condition_flags(instruction->opcode & 15)};
    case COPY_X87_CONDITION:
        return (struct flag_effect){.read = x87_condition_flags(instruction->raw.modrm.reg)};
    default:
        return effects[class];
    }
}

static void fill_flags(const ZydisDecodedInstruction *instruction,
                       const ZydisDecodedOperand *operands, enum copy_class class, bool exact,
                       struct copy_form *form)
{
    struct flag_effect effect = flag_effect(instruction, operands, class);
    uint16_t killed = (uint16_t)(effect.written & ~effect.perhaps);

    if (exact)
        killed &= (uint16_t)~effect.undefined;
    form->flags_read = effect.read;
    form->flags_written = effect.written;
    form->flags_killed = killed;
}

/* ---- registers and memory ---- */

static void fill_register(const ZydisDecodedOperand *operand, bool merges, struct copy_form *form)
{
    uint8_t offset = soft_register_offset(operand->reg.value);
    uint16_t bit;

    if (offset == SOFT_NO_OFFSET)
        return;
    bit = (uint16_t)(1U << offset / 8);
    if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        form->gpr_read |= bit;
    if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
        form->gpr_written |= bit;
        if (merges || operand->size < 32 || operand->actions & ZYDIS_OPERAND_ACTION_CONDWRITE)
            form->gpr_read |= bit;
    }
}

static void fill_memory(const ZydisDecodedOperand *operand, struct copy_form *form)
{
    if (operand->mem.type != ZYDIS_MEMOP_TYPE_MEM)
        return;
    form->memory = true;
    form->size = (uint8_t)(operand->size / 8);
    form->reads = operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
    form->writes = operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

static bool has_class(const ZydisDecodedInstruction *instruction,
                      const ZydisDecodedOperand *operands, ZydisRegisterClass class)
{
    for (unsigned i = 0; i < instruction->operand_count; i++)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(operands[i].reg.value) == class)
            return true;
    return false;
}

static void fill_operands(const ZydisDecodedInstruction *instruction,
                          const ZydisDecodedOperand *operands, uint16_t traits,
                          struct copy_form *form)
{
    for (unsigned i = 0; i < instruction->operand_count; i++)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            fill_register(&operands[i], traits & COPY_MERGES, form);
        else if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            fill_memory(&operands[i], form);
}

/* ---- the list's exceptions ---- */

static bool register_known(ZydisRegister reg, uint16_t traits)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
    case ZYDIS_REGCLASS_FLAGS:
        return true;
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
    case ZYDIS_REGCLASS_ZMM:
    case ZYDIS_REGCLASS_MASK:
    case ZYDIS_REGCLASS_MMX:
        return traits & COPY_VECTOR;
    case ZYDIS_REGCLASS_X87:
        return traits & COPY_X87;
    default:
        return (reg == ZYDIS_REGISTER_MXCSR && traits & COPY_VECTOR) ||
               (reg == ZYDIS_REGISTER_X87STATUS && traits & COPY_X87);
    }
}

/* Whether the operand is one of those that copying knows: no segment, control and debug registers,
 * one address in memory. */
static bool operand_known(const ZydisDecodedOperand *operand, uint16_t traits)
{
    switch (operand->type) {
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        return true;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return operand->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
               (operand->mem.type == ZYDIS_MEMOP_TYPE_MEM ||
                operand->mem.type == ZYDIS_MEMOP_TYPE_AGEN);
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return register_known(operand->reg.value, traits);
    default:
        return false;
    }
}

static bool has_evex(const ZydisDecodedInstruction *instruction)
{
    return instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
}

/* Outside 64-bit mode VEX.W counts for nothing where it would make a general register or its place
 * in memory wide, and VZERO* leave registers 8 to 15 alone. */
static bool vex_known(const ZydisDecodedInstruction *instruction,
                      const ZydisDecodedOperand *operands)
{
    bool wide = has_evex(instruction) ? instruction->raw.evex.W : instruction->raw.vex.W;

    if (instruction->machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
        return true;
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_VZEROALL:
    case ZYDIS_MNEMONIC_VZEROUPPER:
        return false;
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPINSRQ:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VPEXTRQ:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTUSI2SS:
    case ZYDIS_MNEMONIC_VCVTUSI2SD:
        return !wide;
    default:
        break;
    }
    for (unsigned i = 0; i < instruction->operand_count; i++)
        if (wide && operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            soft_register_offset(operands[i].reg.value) != SOFT_NO_OFFSET)
            return false;
    return true;
}

/* A bit number in a register reaches beyond the operand. */
static bool is_bit_string(const ZydisDecodedInstruction *instruction,
                          const ZydisDecodedOperand *operands)
{
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        return operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
               operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
    default:
        return false;
    }
}

static bool needs_avx512(const ZydisDecodedInstruction *instruction,
                         const ZydisDecodedOperand *operands)
{
    return has_evex(instruction) || has_class(instruction, operands, ZYDIS_REGCLASS_MASK);
}

/* Whether the form of a listed instruction is one that can be copied. */
static bool form_copies(const ZydisDecodedInstruction *instruction,
                        const ZydisDecodedOperand *operands, const struct copy_features *features,
                        uint16_t traits)
{
    bool vex = instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX || has_evex(instruction);

    if (instruction->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && !vex)
        return false;
    if (needs_avx512(instruction, operands) && !features->avx512)
        return false;
    if (instruction->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
        return false;
    if (vex && (traits & COPY_VECTOR) && !features->avx)
        return false;
    if (instruction->meta.isa_set == ZYDIS_ISA_SET_BMI2 && !features->bmi2)
        return false;
    if (vex && !vex_known(instruction, operands))
        return false;
    for (unsigned i = 0; i < instruction->operand_count; i++)
        if (!operand_known(&operands[i], traits))
            return false;
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_BSWAP:  /* of 16 bits: undefined */
    case ZYDIS_MNEMONIC_MOVSXD: /* to 16 bits: processors differ */
        return instruction->operand_width >= 32;
    case ZYDIS_MNEMONIC_LEA: /* a 16-bit sum would have to be cut */
        return instruction->address_width >= 32;
    default:
        return true;
    }
}

/* Whether a vector's operand in memory that is not aligned raises #GP. */
static bool wants_alignment(const ZydisDecodedInstruction *instruction, uint16_t traits,
                            const struct copy_form *form)
{
    if (!form->memory || form->size < 16)
        return false;
    return instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? !(traits & COPY_UNALIGNED)
                                                                      : traits & COPY_ALIGNED;
}

void copy_classify(const ZydisDecodedInstruction *instruction, const ZydisDecodedOperand *operands,
                   const struct copy_features *features, bool exact, struct copy_form *form)
{
    uint16_t traits = copy_list_find(instruction->mnemonic);

    *form = (struct copy_form){0};
    if (!traits)
        return;
    if (traits & COPY_NOTHING) {
        form->copies = true;
        return;
    }
    if (!form_copies(instruction, operands, features, traits))
        return;
    form->bits = is_bit_string(instruction, operands);
    form->copies = !form->bits;
    form->control = copy_loads_control(instruction->mnemonic);
    form->sparse =
        traits & COPY_SPARSE || (has_evex(instruction) && instruction->raw.evex.aaa != 0);
    form->x87 = traits & COPY_X87;
    form->pointers = traits & COPY_POINTERS;
    form->vector = traits & COPY_VECTOR;
    form->avx512 = needs_avx512(instruction, operands);
    if (form->vector && has_class(instruction, operands, ZYDIS_REGCLASS_MMX)) {
        form->x87 = true;
        form->vector = has_class(instruction, operands, ZYDIS_REGCLASS_XMM);
    }
    fill_operands(instruction, operands, traits, form);
    form->faults =
        traits & COPY_FAULTS || (form->vector && wants_alignment(instruction, traits, form));
    fill_flags(instruction, operands, traits & COPY_CLASS, exact, form);
}
