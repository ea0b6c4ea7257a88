// SPDX-License-Identifier: Apache-2.0
/*
 * MUL, IMUL, DIV, IDIV and MULX. Products come from the host's instructions with all flags; a
 * division is checked for #DE first, then done by the host.
 */
#include "vmm/engine/soft/operand.h"

/* AX = AL * src. */
#define DEFINE_MULTIPLY8(name, mnemonic)                               \
    static void name##8(struct soft_cpu * cpu, uint64_t src)           \
    {                                                                  \
        uint32_t carrier = flags_pack(cpu->rflags);                    \
        uint32_t product;                                              \
        __asm__("addb $0x7f, %%al\n\tsahf\n\t"                         \
                "movzbl %b[al], %%eax\n\t" mnemonic "b %b[src]\n\t"    \
                "movzwl %%ax, %[product]" FLAGS_OUT                    \
                : "+&a"(carrier), [product] "=&r"(product)             \
                : [src] "r"(src), [al] "r"(cpu->gpr[GPR_RAX])          \
                : "cc");                                               \
        reg_set16(cpu, GPR_RAX, (uint16_t)product);                    \
        cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS); \
    }

/* rDX:rAX = rAX * src. */
#define DEFINE_MULTIPLY(name, mnemonic, bits, suffix, r)                            \
    static void name##bits(struct soft_cpu *cpu, uint64_t src)                      \
    {                                                                               \
        uint32_t carrier = flags_pack(cpu->rflags);                                 \
        uint64_t low, high;                                                         \
        __asm__(FLAGS_IN "mov %[acc], %%rax\n\t" mnemonic suffix " %" r "[src]\n\t" \
                         "mov %%rax, %[low]" FLAGS_OUT                              \
                : "+&a"(carrier), [low] "=&r"(low), "=&d"(high)                     \
                : [src] "r"(src), [acc] "r"(cpu->gpr[GPR_RAX])                      \
                : "cc");                                                            \
        reg_set##bits(cpu, GPR_RAX * 8, (uint##bits##_t)low);                       \
        reg_set##bits(cpu, GPR_RDX * 8, (uint##bits##_t)high);                      \
        cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);              \
    }
DEFINE_MULTIPLY8(mul, "mul")
DEFINE_MULTIPLY8(imul, "imul")
DEFINE_MULTIPLY(mul, "mul", 16, "w", "w")
DEFINE_MULTIPLY(mul, "mul", 32, "l", "k")
DEFINE_MULTIPLY(mul, "mul", 64, "q", "q")
DEFINE_MULTIPLY(imul, "imul", 16, "w", "w")
DEFINE_MULTIPLY(imul, "imul", 32, "l", "k")
DEFINE_MULTIPLY(imul, "imul", 64, "q", "q")

/* IMUL with two and three operands. */
#define DEFINE_IMUL(bits, suffix, r)                                                           \
    static inline uint##bits##_t product##bits(uint64_t *rflags, uint##bits##_t a,             \
                                               uint##bits##_t b)                               \
    {                                                                                          \
        uint32_t carrier = flags_pack(*rflags);                                                \
        __asm__(FLAGS_IN "imul" suffix " %" r "[b], %" r "[a]" FLAGS_OUT                       \
                : [a] "+r"(a), "+&a"(carrier)                                                  \
                : [b] "r"(b)                                                                   \
                : "cc");                                                                       \
        *rflags = flags_merge(*rflags, carrier, FLAGS_STATUS);                                 \
        return a;                                                                              \
    }                                                                                          \
    static void imul##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)                 \
    {                                                                                          \
        reg_set##bits(cpu, insn->reg_offset,                                                   \
                      product##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset),        \
                                    reg_get##bits(cpu, insn->rm_offset)));                     \
    }                                                                                          \
    static void imul##bits##_rm(struct soft_cpu *cpu, const struct insn *insn)                 \
    {                                                                                          \
        uint##bits##_t src =                                                                   \
            soft_read##bits(cpu, soft_operand_address(cpu, insn, bits / 8, SOFT_READ));        \
        reg_set##bits(cpu, insn->reg_offset,                                                   \
                      product##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset), src)); \
    }                                                                                          \
    static void imul##bits##_rri(struct soft_cpu *cpu, const struct insn *insn)                \
    {                                                                                          \
        reg_set##bits(cpu, insn->reg_offset,                                                   \
                      product##bits(&cpu->rflags, reg_get##bits(cpu, insn->rm_offset),         \
                                    (uint##bits##_t)insn->immediate));                         \
    }                                                                                          \
    static void imul##bits##_rmi(struct soft_cpu *cpu, const struct insn *insn)                \
    {                                                                                          \
        uint##bits##_t src =                                                                   \
            soft_read##bits(cpu, soft_operand_address(cpu, insn, bits / 8, SOFT_READ));        \
        reg_set##bits(cpu, insn->reg_offset,                                                   \
                      product##bits(&cpu->rflags, src, (uint##bits##_t)insn->immediate));      \
    }
DEFINE_IMUL(16, "w", "w")
DEFINE_IMUL(32, "l", "k")
DEFINE_IMUL(64, "q", "q")

/* Whether the unsigned quotient does not fit `bits`: its high half is not below the divisor. */
static bool quotient_overflows(uint64_t high, uint64_t divisor)
{
    return high >= divisor;
}

static unsigned __int128 magnitude(__int128 value)
{
    return value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
}

/* Whether the signed quotient does not fit `bits`. */
static bool signed_quotient_overflows(__int128 dividend, int64_t divisor, unsigned bits)
{
    unsigned __int128 quotient, limit = (unsigned __int128)1 << (bits - 1);
    bool negative;

    if (!divisor)
        return true;
    quotient = magnitude(dividend) / magnitude(divisor);
    negative = (dividend < 0) != (divisor < 0);
    return quotient > limit || (quotient == limit && !negative);
}

/* The host's own division leaves its flags, and has been proved not to fault. */
#define HOST_DIVIDE(mnemonic, suffix, r, low, high, src)                      \
    __asm__(FLAGS_IN "mov %[lo], %%rax\n\t" mnemonic suffix " %" r "[by]\n\t" \
                     "mov %%rax, %[lo]" FLAGS_OUT                             \
            : "+&a"(carrier), [lo] "+&r"(low), "+&d"(high)                    \
            : [by] "r"(src)                                                   \
            : "cc")

#define DEFINE_DIVIDE(bits, suffix, r)                                                        \
    static void div##bits(struct soft_cpu *cpu, uint64_t src)                                 \
    {                                                                                         \
        uint32_t carrier = flags_pack(cpu->rflags);                                           \
        uint64_t low = cpu->gpr[GPR_RAX], high = cpu->gpr[GPR_RDX];                           \
        if (quotient_overflows((uint##bits##_t)high, (uint##bits##_t)src))                    \
            soft_raise(cpu, EXC_DE, 0);                                                       \
        HOST_DIVIDE("div", suffix, r, low, high, src);                                        \
        reg_set##bits(cpu, GPR_RAX * 8, (uint##bits##_t)low);                                 \
        reg_set##bits(cpu, GPR_RDX * 8, (uint##bits##_t)high);                                \
        cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);                        \
    }                                                                                         \
    static void idiv##bits(struct soft_cpu *cpu, uint64_t src)                                \
    {                                                                                         \
        uint32_t carrier = flags_pack(cpu->rflags);                                           \
        uint64_t low = cpu->gpr[GPR_RAX], high = cpu->gpr[GPR_RDX];                           \
        __int128 dividend =                                                                   \
            (__int128)((unsigned __int128)(int##bits##_t)high << bits | (uint##bits##_t)low); \
        if (signed_quotient_overflows(dividend, (int##bits##_t)src, bits))                    \
            soft_raise(cpu, EXC_DE, 0);                                                       \
        HOST_DIVIDE("idiv", suffix, r, low, high, src);                                       \
        reg_set##bits(cpu, GPR_RAX * 8, (uint##bits##_t)low);                                 \
        reg_set##bits(cpu, GPR_RDX * 8, (uint##bits##_t)high);                                \
        cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);                        \
    }
DEFINE_DIVIDE(16, "w", "w")
DEFINE_DIVIDE(32, "l", "k")
DEFINE_DIVIDE(64, "q", "q")

/* AL = AX / src, AH the remainder. */
static void div8(struct soft_cpu *cpu, uint64_t src)
{
    uint32_t carrier = flags_pack(cpu->rflags);
    uint64_t low = cpu->gpr[GPR_RAX], high = 0;

    if (quotient_overflows(low >> 8 & 0xff, (uint8_t)src))
        soft_raise(cpu, EXC_DE, 0);
    HOST_DIVIDE("div", "b", "b", low, high, src);
    reg_set16(cpu, GPR_RAX, (uint16_t)low);
    cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);
}

static void idiv8(struct soft_cpu *cpu, uint64_t src)
{
    uint32_t carrier = flags_pack(cpu->rflags);
    uint64_t low = cpu->gpr[GPR_RAX], high = 0;

    if (signed_quotient_overflows((int16_t)low, (int8_t)src, 8))
        soft_raise(cpu, EXC_DE, 0);
    HOST_DIVIDE("idiv", "b", "b", low, high, src);
    reg_set16(cpu, GPR_RAX, (uint16_t)low);
    cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);
}

/* The one-operand forms share handlers by size of the source. */
#define DEFINE_ACCUMULATOR_FORMS(name, bits)                                    \
    static void name##bits##_r(struct soft_cpu *cpu, const struct insn *insn)   \
    {                                                                           \
        name##bits(cpu, reg_get##bits(cpu, insn->reg_offset));                  \
    }                                                                           \
    static void name##bits##_m(struct soft_cpu *cpu, const struct insn *insn)   \
    {                                                                           \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_READ); \
        name##bits(cpu, soft_read##bits(cpu, linear));                          \
    }
#define DEFINE_ACCUMULATOR(bits)         \
    DEFINE_ACCUMULATOR_FORMS(mul, bits)  \
    DEFINE_ACCUMULATOR_FORMS(imul, bits) \
    DEFINE_ACCUMULATOR_FORMS(div, bits)  \
    DEFINE_ACCUMULATOR_FORMS(idiv, bits)
DEFINE_ACCUMULATOR(8)
DEFINE_ACCUMULATOR(16)
DEFINE_ACCUMULATOR(32)
DEFINE_ACCUMULATOR(64)

/* MULX: no flags; the high half goes to ModRM.reg, last, the low one to VEX.vvvv. */
static void mulx(struct soft_cpu *cpu, const struct insn *insn, uint64_t src)
{
    unsigned size = insn->operand_size;
    unsigned __int128 product = (unsigned __int128)reg_get(cpu, GPR_RDX * 8, size) * src;

    reg_set(cpu, insn->vvvv * 8, (uint64_t)product, size);
    reg_set(cpu, insn->reg * 8, (uint64_t)(product >> (size * 8)), size);
}

static void mulx_r(struct soft_cpu *cpu, const struct insn *insn)
{
    mulx(cpu, insn, reg_get(cpu, insn->rm * 8, insn->operand_size));
}

static void mulx_m(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;

    mulx(cpu, insn, mem_get(cpu, soft_operand_address(cpu, insn, size, SOFT_READ), size));
}

#define SIZES(name, form)                                             \
    {                                                                 \
        name##8##form, name##16##form, name##32##form, name##64##form \
    }
#define ACCUMULATOR_FORMS(name)          \
    {                                    \
        SIZES(name, _r), SIZES(name, _m) \
    }

static soft_exec_fn select_imul(const struct soft_decoded *decoded, struct insn *insn)
{
    static const soft_exec_fn handlers[2][2][4] = {
        {{NULL, imul16_rr, imul32_rr, imul64_rr}, {NULL, imul16_rm, imul32_rm, imul64_rm}},
        {{NULL, imul16_rri, imul32_rri, imul64_rri}, {NULL, imul16_rmi, imul32_rmi, imul64_rmi}},
    };
    bool memory = operand_form(decoded, insn) == FORM_RM;
    bool immediate = decoded->instruction.operand_count_visible == 3;

    return handlers[immediate][memory][operand_size_index(&decoded->operands[0])];
}

soft_exec_fn select_multiply(const struct soft_decoded *decoded, struct insn *insn)
{
    static const struct {
        ZydisMnemonic mnemonic;
        soft_exec_fn handlers[2][4];
    } accumulator[] = {
        {ZYDIS_MNEMONIC_MUL, ACCUMULATOR_FORMS(mul)},
        {ZYDIS_MNEMONIC_IMUL, ACCUMULATOR_FORMS(imul)},
        {ZYDIS_MNEMONIC_DIV, ACCUMULATOR_FORMS(div)},
        {ZYDIS_MNEMONIC_IDIV, ACCUMULATOR_FORMS(idiv)},
    };
    ZydisMnemonic mnemonic = decoded->instruction.mnemonic;

    if (mnemonic == ZYDIS_MNEMONIC_MULX) {
        insn->operand_size = (uint8_t)(decoded->operands[0].size / 8);
        return insn->memory ? mulx_m : mulx_r;
    }
    for (unsigned i = 0; i < sizeof(accumulator) / sizeof(accumulator[0]); i++) {
        if (accumulator[i].mnemonic != mnemonic)
            continue;
        if (decoded->instruction.operand_count_visible > 1 &&
            decoded->operands[1].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            return select_imul(decoded, insn);
        /* The accumulator may be the first operand: what counts is ModRM's. */
        insn->reg_offset = insn->rm_offset;
        for (unsigned k = 0; k < decoded->instruction.operand_count; k++)
            if (decoded->operands[k].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
                return accumulator[i]
                    .handlers[insn->memory][operand_size_index(&decoded->operands[k])];
    }
    return NULL;
}
