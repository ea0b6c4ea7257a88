// SPDX-License-Identifier: Apache-2.0
/*
 * Shifts and rotates (SDM 2, SAL to SHR, RCL to ROR, SHLD, SHRD) on the host's instructions, with
 * the guest's flags loaded before: a count of 0 changes none, rotates change CF and OF only, and
 * what the manual leaves undefined is what the host does.
 */
#include "vmm/engine/soft/operand.h"

#define DEFINE_SHIFT(name, mnemonic, bits, suffix, r)                                             \
    static inline __attribute__((always_inline))                                                  \
    uint##bits##_t op_##name##bits(uint64_t *rflags, uint##bits##_t dst, uint8_t count)           \
    {                                                                                             \
        uint32_t carrier = flags_pack(*rflags);                                                   \
        __asm__(FLAGS_IN mnemonic suffix " %%cl, %" r "[dst]" FLAGS_OUT                           \
                : [dst] "+r"(dst), "+&a"(carrier)                                                 \
                : "c"(count)                                                                      \
                : "cc");                                                                          \
        *rflags = flags_merge(*rflags, carrier, FLAGS_STATUS);                                    \
        return dst;                                                                               \
    }                                                                                             \
    static void name##bits##_ri(struct soft_cpu *cpu, const struct insn *insn)                    \
    {                                                                                             \
        reg_set##bits(cpu, insn->reg_offset,                                                      \
                      op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset),         \
                                      (uint8_t)insn->immediate));                                 \
    }                                                                                             \
    static void name##bits##_rc(struct soft_cpu *cpu, const struct insn *insn)                    \
    {                                                                                             \
        reg_set##bits(cpu, insn->reg_offset,                                                      \
                      op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset),         \
                                      (uint8_t)cpu->gpr[GPR_RCX]));                               \
    }                                                                                             \
    SOFT_UNORDERED static void name##bits##_memory(struct soft_cpu *cpu, const struct insn *insn, \
                                                   uint8_t count)                                 \
    {                                                                                             \
        SOFT_MODIFY(bits, op_##name##bits(&cpu->rflags, dst, count));                             \
    }                                                                                             \
    static void name##bits##_mi(struct soft_cpu *cpu, const struct insn *insn)                    \
    {                                                                                             \
        name##bits##_memory(cpu, insn, (uint8_t)insn->immediate);                                 \
    }                                                                                             \
    static void name##bits##_mc(struct soft_cpu *cpu, const struct insn *insn)                    \
    {                                                                                             \
        name##bits##_memory(cpu, insn, (uint8_t)cpu->gpr[GPR_RCX]);                               \
    }

#define DEFINE_SHIFTS(bits, suffix, r)        \
    DEFINE_SHIFT(rol, "rol", bits, suffix, r) \
    DEFINE_SHIFT(ror, "ror", bits, suffix, r) \
    DEFINE_SHIFT(rcl, "rcl", bits, suffix, r) \
    DEFINE_SHIFT(rcr, "rcr", bits, suffix, r) \
    DEFINE_SHIFT(shl, "shl", bits, suffix, r) \
    DEFINE_SHIFT(shr, "shr", bits, suffix, r) \
    DEFINE_SHIFT(sar, "sar", bits, suffix, r)
DEFINE_SHIFTS(8, "b", "b")
DEFINE_SHIFTS(16, "w", "w")
DEFINE_SHIFTS(32, "l", "k")
DEFINE_SHIFTS(64, "q", "q")

/* SHLD and SHRD; the count is the immediate, or CL when aux[0] is set. */
static uint8_t double_count(const struct soft_cpu *cpu, const struct insn *insn)
{
    return (uint8_t)(insn->aux[0] ? cpu->gpr[GPR_RCX] : insn->immediate);
}

#define DEFINE_DOUBLE(name, mnemonic, bits, suffix, r)                                            \
    static uint##bits##_t op_##name##bits(uint64_t *rflags, uint##bits##_t dst,                   \
                                          uint##bits##_t src, uint8_t count)                      \
    {                                                                                             \
        uint32_t carrier = flags_pack(*rflags);                                                   \
        __asm__(FLAGS_IN mnemonic suffix " %%cl, %" r "[src], %" r "[dst]" FLAGS_OUT              \
                : [dst] "+r"(dst), "+&a"(carrier)                                                 \
                : "c"(count), [src] "r"(src)                                                      \
                : "cc");                                                                          \
        *rflags = flags_merge(*rflags, carrier, FLAGS_STATUS);                                    \
        return dst;                                                                               \
    }                                                                                             \
    static void name##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)                    \
    {                                                                                             \
        reg_set##bits(cpu, insn->reg_offset,                                                      \
                      op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset),         \
                                      reg_get##bits(cpu, insn->rm_offset),                        \
                                      double_count(cpu, insn)));                                  \
    }                                                                                             \
    static void name##bits##_mr(struct soft_cpu *cpu, const struct insn *insn)                    \
    {                                                                                             \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);                  \
        uint##bits##_t dst = (uint##bits##_t)mem_rmw_begin(cpu, linear, bits / 8);                \
        soft_write##bits(cpu, linear,                                                             \
                         op_##name##bits(&cpu->rflags, dst, reg_get##bits(cpu, insn->reg_offset), \
                                         double_count(cpu, insn)));                               \
    }
DEFINE_DOUBLE(shld, "shld", 16, "w", "w")
DEFINE_DOUBLE(shld, "shld", 32, "l", "k")
DEFINE_DOUBLE(shld, "shld", 64, "q", "q")
DEFINE_DOUBLE(shrd, "shrd", 16, "w", "w")
DEFINE_DOUBLE(shrd, "shrd", 32, "l", "k")
DEFINE_DOUBLE(shrd, "shrd", 64, "q", "q")

#define SIZES(name, form)                                             \
    {                                                                 \
        name##8##form, name##16##form, name##32##form, name##64##form \
    }
#define SHIFT_FORMS(name)                                                                         \
    {                                                                                             \
        [FORM_RI] = SIZES(name, _ri), [FORM_MI] = SIZES(name, _mi), [FORM_RR] = SIZES(name, _rc), \
        [FORM_MR] = SIZES(name, _mc),                                                             \
    }

/* The register form is a count in CL. */
static const struct {
    ZydisMnemonic mnemonic;
    soft_exec_fn handlers[FORM_COUNT][4];
} shifts[] = {
    {ZYDIS_MNEMONIC_ROL, SHIFT_FORMS(rol)}, {ZYDIS_MNEMONIC_ROR, SHIFT_FORMS(ror)},
    {ZYDIS_MNEMONIC_RCL, SHIFT_FORMS(rcl)}, {ZYDIS_MNEMONIC_RCR, SHIFT_FORMS(rcr)},
    {ZYDIS_MNEMONIC_SHL, SHIFT_FORMS(shl)}, {ZYDIS_MNEMONIC_SHR, SHIFT_FORMS(shr)},
    {ZYDIS_MNEMONIC_SAR, SHIFT_FORMS(sar)},
};

static soft_exec_fn select_double(const struct soft_decoded *decoded, struct insn *insn)
{
    static const soft_exec_fn handlers[2][2][4] = {
        {{NULL, shld16_rr, shld32_rr, shld64_rr}, {NULL, shld16_mr, shld32_mr, shld64_mr}},
        {{NULL, shrd16_rr, shrd32_rr, shrd64_rr}, {NULL, shrd16_mr, shrd32_mr, shrd64_mr}},
    };
    bool right = decoded->instruction.mnemonic == ZYDIS_MNEMONIC_SHRD;
    bool memory = operand_form(decoded, insn) == FORM_MR;

    insn->aux[0] = decoded->operands[2].type == ZYDIS_OPERAND_TYPE_REGISTER;
    return handlers[right][memory][operand_size_index(&decoded->operands[0])];
}

soft_exec_fn select_shift(const struct soft_decoded *decoded, struct insn *insn)
{
    ZydisMnemonic mnemonic = decoded->instruction.mnemonic;

    if (mnemonic == ZYDIS_MNEMONIC_SHLD || mnemonic == ZYDIS_MNEMONIC_SHRD)
        return select_double(decoded, insn);
    for (unsigned i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++)
        if (shifts[i].mnemonic == mnemonic)
            return shifts[i]
                .handlers[operand_form(decoded, insn)][operand_size_index(&decoded->operands[0])];
    return NULL;
}
