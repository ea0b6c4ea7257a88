// SPDX-License-Identifier: Apache-2.0
/*
 * Addition, subtraction, comparison and logic (SDM 2, ADD to XOR): each on the host's instruction
 * of the same name, whose flags become the guest's.
 *
 * Every operation exists once per size and operand form. Memory destinations go through the
 * writable TLB entry in one step; with LOCK the host's locked instruction works on guest memory,
 * or, where there is no host address for it, while no other vCPU executes.
 */
#include "vmm/engine/soft/operand.h"

#define CARRY_NONE ""
#define CARRY_LOAD "btl $0, %k[flags]\n\t"

/* op_NAMEbits: dst OP src with flags; lock_NAMEbits: the same on memory, atomic. */
#define DEFINE_OP(name, mnemonic, carry, bits, suffix, r)                                    \
    static inline __attribute__((always_inline))                                             \
    uint##bits##_t op_##name##bits(uint64_t *rflags, uint##bits##_t dst, uint##bits##_t src) \
    {                                                                                        \
        uint32_t carrier;                                                                    \
        __asm__(carry mnemonic suffix " %" r "[src], %" r "[dst]" FLAGS_OUT                  \
                : [dst] "+r"(dst), "=&a"(carrier)                                            \
                : [src] "r"(src), [flags] "r"(*rflags)                                       \
                : "cc");                                                                     \
        *rflags = flags_merge(*rflags, carrier, FLAGS_STATUS);                               \
        return dst;                                                                          \
    }                                                                                        \
    static inline void lock_##name##bits(uint64_t *rflags, void *memory, uint##bits##_t src) \
    {                                                                                        \
        uint32_t carrier;                                                                    \
        __asm__ volatile(carry "lock " mnemonic suffix " %" r "[src], %[dst]" FLAGS_OUT      \
                         : [dst] "+m"(*(unaligned##bits *)memory), "=&a"(carrier)            \
                         : [src] "r"(src), [flags] "r"(*rflags)                              \
                         : "cc", "memory");                                                  \
        *rflags = flags_merge(*rflags, carrier, FLAGS_STATUS);                               \
    }

/* Operations that only set flags. */
#define DEFINE_COMPARE(name, mnemonic, bits, suffix, r)                \
    static inline __attribute__((always_inline)) void op_##name##bits( \
        uint64_t *rflags, uint##bits##_t dst, uint##bits##_t src)      \
    {                                                                  \
        uint32_t carrier;                                              \
        __asm__(mnemonic suffix " %" r "[src], %" r "[dst]" FLAGS_OUT  \
                : "=&a"(carrier)                                       \
                : [dst] "r"(dst), [src] "r"(src)                       \
                : "cc");                                               \
        *rflags = flags_merge(*rflags, carrier, FLAGS_STATUS);         \
    }

/* INC, DEC, NEG, NOT. `mask` is what they change of the flags. */
#define DEFINE_UNARY(name, mnemonic, mask, bits, suffix, r)                       \
    static inline __attribute__((always_inline))                                  \
    uint##bits##_t op_##name##bits(uint64_t *rflags, uint##bits##_t dst)          \
    {                                                                             \
        uint32_t carrier;                                                         \
        __asm__(mnemonic suffix " %" r "[dst]" FLAGS_OUT                          \
                : [dst] "+r"(dst), "=&a"(carrier)                                 \
                :                                                                 \
                : "cc");                                                          \
        *rflags = flags_merge(*rflags, carrier, mask);                            \
        return dst;                                                               \
    }                                                                             \
    static inline void lock_##name##bits(uint64_t *rflags, void *memory)          \
    {                                                                             \
        uint32_t carrier;                                                         \
        __asm__ volatile("lock " mnemonic suffix " %[dst]" FLAGS_OUT              \
                         : [dst] "+m"(*(unaligned##bits *)memory), "=&a"(carrier) \
                         :                                                        \
                         : "cc", "memory");                                       \
        *rflags = flags_merge(*rflags, carrier, mask);                            \
    }

/* The handlers of a two-operand operation that writes its destination. */
#define DEFINE_FORMS(name, bits)                                                                 \
    static void name##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)                   \
    {                                                                                            \
        reg_set##bits(cpu, insn->reg_offset,                                                     \
                      op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset),        \
                                      reg_get##bits(cpu, insn->rm_offset)));                     \
    }                                                                                            \
    static void name##bits##_ri(struct soft_cpu *cpu, const struct insn *insn)                   \
    {                                                                                            \
        reg_set##bits(cpu, insn->reg_offset,                                                     \
                      op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset),        \
                                      (uint##bits##_t)insn->immediate));                         \
    }                                                                                            \
    static void name##bits##_rm(struct soft_cpu *cpu, const struct insn *insn)                   \
    {                                                                                            \
        uint##bits##_t src =                                                                     \
            soft_read##bits(cpu, soft_operand_address(cpu, insn, bits / 8, SOFT_READ));          \
        reg_set##bits(cpu, insn->reg_offset,                                                     \
                      op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset), src)); \
    }                                                                                            \
    SOFT_UNORDERED static inline void name##bits##_memory(                                       \
        struct soft_cpu *cpu, const struct insn *insn, uint##bits##_t src)                       \
    {                                                                                            \
        SOFT_MODIFY(bits, op_##name##bits(&cpu->rflags, dst, src));                              \
    }                                                                                            \
    static void name##bits##_mr(struct soft_cpu *cpu, const struct insn *insn)                   \
    {                                                                                            \
        name##bits##_memory(cpu, insn, reg_get##bits(cpu, insn->reg_offset));                    \
    }                                                                                            \
    static void name##bits##_mi(struct soft_cpu *cpu, const struct insn *insn)                   \
    {                                                                                            \
        name##bits##_memory(cpu, insn, (uint##bits##_t)insn->immediate);                         \
    }                                                                                            \
    static void name##bits##_locked(struct soft_cpu *cpu, const struct insn *insn,               \
                                    uint##bits##_t src)                                          \
    {                                                                                            \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);                 \
        void *host = soft_atomic_pointer(cpu, linear, bits / 8, cpu->mmu_mode);                  \
        uint##bits##_t dst;                                                                      \
        if (host) {                                                                              \
            lock_##name##bits(&cpu->rflags, host, src);                                          \
            return;                                                                              \
        }                                                                                        \
        soft_probe_write(cpu, linear, bits / 8, cpu->mmu_mode);                                  \
        soft_exclusive_begin(cpu);                                                               \
        dst = soft_read##bits(cpu, linear);                                                      \
        soft_write##bits(cpu, linear, op_##name##bits(&cpu->rflags, dst, src));                  \
        soft_exclusive_end(cpu);                                                                 \
    }                                                                                            \
    static void name##bits##_lmr(struct soft_cpu *cpu, const struct insn *insn)                  \
    {                                                                                            \
        name##bits##_locked(cpu, insn, reg_get##bits(cpu, insn->reg_offset));                    \
    }                                                                                            \
    static void name##bits##_lmi(struct soft_cpu *cpu, const struct insn *insn)                  \
    {                                                                                            \
        name##bits##_locked(cpu, insn, (uint##bits##_t)insn->immediate);                         \
    }

#define DEFINE_COMPARE_FORMS(name, bits)                                                \
    static void name##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)          \
    {                                                                                   \
        op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset),             \
                        reg_get##bits(cpu, insn->rm_offset));                           \
    }                                                                                   \
    static void name##bits##_ri(struct soft_cpu *cpu, const struct insn *insn)          \
    {                                                                                   \
        op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset),             \
                        (uint##bits##_t)insn->immediate);                               \
    }                                                                                   \
    static void name##bits##_rm(struct soft_cpu *cpu, const struct insn *insn)          \
    {                                                                                   \
        uint##bits##_t src =                                                            \
            soft_read##bits(cpu, soft_operand_address(cpu, insn, bits / 8, SOFT_READ)); \
        op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset), src);       \
    }                                                                                   \
    static void name##bits##_mr(struct soft_cpu *cpu, const struct insn *insn)          \
    {                                                                                   \
        uint##bits##_t dst =                                                            \
            soft_read##bits(cpu, soft_operand_address(cpu, insn, bits / 8, SOFT_READ)); \
        op_##name##bits(&cpu->rflags, dst, reg_get##bits(cpu, insn->reg_offset));       \
    }                                                                                   \
    static void name##bits##_mi(struct soft_cpu *cpu, const struct insn *insn)          \
    {                                                                                   \
        uint##bits##_t dst =                                                            \
            soft_read##bits(cpu, soft_operand_address(cpu, insn, bits / 8, SOFT_READ)); \
        op_##name##bits(&cpu->rflags, dst, (uint##bits##_t)insn->immediate);            \
    }

#define DEFINE_UNARY_FORMS(name, bits)                                                       \
    static void name##bits##_r(struct soft_cpu *cpu, const struct insn *insn)                \
    {                                                                                        \
        reg_set##bits(cpu, insn->reg_offset,                                                 \
                      op_##name##bits(&cpu->rflags, reg_get##bits(cpu, insn->reg_offset)));  \
    }                                                                                        \
    SOFT_UNORDERED static void name##bits##_m(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                                        \
        SOFT_MODIFY(bits, op_##name##bits(&cpu->rflags, dst));                               \
    }                                                                                        \
    static void name##bits##_lm(struct soft_cpu *cpu, const struct insn *insn)               \
    {                                                                                        \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);             \
        void *host = soft_atomic_pointer(cpu, linear, bits / 8, cpu->mmu_mode);              \
        uint##bits##_t dst;                                                                  \
        if (host) {                                                                          \
            lock_##name##bits(&cpu->rflags, host);                                           \
            return;                                                                          \
        }                                                                                    \
        soft_probe_write(cpu, linear, bits / 8, cpu->mmu_mode);                              \
        soft_exclusive_begin(cpu);                                                           \
        dst = soft_read##bits(cpu, linear);                                                  \
        soft_write##bits(cpu, linear, op_##name##bits(&cpu->rflags, dst));                   \
        soft_exclusive_end(cpu);                                                             \
    }

#define DEFINE_ARITHMETIC(bits, suffix, r)                             \
    DEFINE_OP(add, "add", CARRY_NONE, bits, suffix, r)                 \
    DEFINE_OP(or, "or", CARRY_NONE, bits, suffix, r)                   \
    DEFINE_OP(adc, "adc", CARRY_LOAD, bits, suffix, r)                 \
    DEFINE_OP(sbb, "sbb", CARRY_LOAD, bits, suffix, r)                 \
    DEFINE_OP(and, "and", CARRY_NONE, bits, suffix, r)                 \
    DEFINE_OP(sub, "sub", CARRY_NONE, bits, suffix, r)                 \
    DEFINE_OP(xor, "xor", CARRY_NONE, bits, suffix, r)                 \
    DEFINE_COMPARE(cmp, "cmp", bits, suffix, r)                        \
    DEFINE_COMPARE(test, "test", bits, suffix, r)                      \
    DEFINE_UNARY(inc, "inc", FLAGS_STATUS & ~FLAG_CF, bits, suffix, r) \
    DEFINE_UNARY(dec, "dec", FLAGS_STATUS & ~FLAG_CF, bits, suffix, r) \
    DEFINE_UNARY(neg, "neg", FLAGS_STATUS, bits, suffix, r)            \
    DEFINE_UNARY(not, "not", 0, bits, suffix, r)                       \
    DEFINE_FORMS(add, bits)                                            \
    DEFINE_FORMS(or, bits)                                             \
    DEFINE_FORMS(adc, bits)                                            \
    DEFINE_FORMS(sbb, bits)                                            \
    DEFINE_FORMS(and, bits)                                            \
    DEFINE_FORMS(sub, bits)                                            \
    DEFINE_FORMS(xor, bits)                                            \
    DEFINE_COMPARE_FORMS(cmp, bits)                                    \
    DEFINE_COMPARE_FORMS(test, bits)                                   \
    DEFINE_UNARY_FORMS(inc, bits)                                      \
    DEFINE_UNARY_FORMS(dec, bits)                                      \
    DEFINE_UNARY_FORMS(neg, bits)                                      \
    DEFINE_UNARY_FORMS(not, bits)

DEFINE_ARITHMETIC(8, "b", "b")
DEFINE_ARITHMETIC(16, "w", "w")
DEFINE_ARITHMETIC(32, "l", "k")
DEFINE_ARITHMETIC(64, "q", "q")

/* ADCX and ADOX: addition whose carry goes through CF or OF alone. */
static uint64_t add_with(struct soft_cpu *cpu, uint64_t dst, uint64_t src, unsigned size,
                         uint64_t flag)
{
    uint64_t carry = cpu->rflags & flag ? 1 : 0;
    unsigned __int128 sum = (unsigned __int128)dst + src + carry;

    if (sum >> (size * 8))
        cpu->rflags |= flag;
    else
        cpu->rflags &= ~flag;
    return (uint64_t)sum;
}

#define DEFINE_ADX(name, flag)                                                               \
    static void name##_rr(struct soft_cpu *cpu, const struct insn *insn)                     \
    {                                                                                        \
        unsigned size = insn->operand_size;                                                  \
        uint64_t dst = reg_get(cpu, insn->reg_offset, size);                                 \
        reg_set(cpu, insn->reg_offset,                                                       \
                add_with(cpu, dst, reg_get(cpu, insn->rm_offset, size), size, flag), size);  \
    }                                                                                        \
    static void name##_rm(struct soft_cpu *cpu, const struct insn *insn)                     \
    {                                                                                        \
        unsigned size = insn->operand_size;                                                  \
        uint64_t src = mem_get(cpu, soft_operand_address(cpu, insn, size, SOFT_READ), size); \
        uint64_t dst = reg_get(cpu, insn->reg_offset, size);                                 \
        reg_set(cpu, insn->reg_offset, add_with(cpu, dst, src, size, flag), size);           \
    }
DEFINE_ADX(adcx, FLAG_CF)
DEFINE_ADX(adox, FLAG_OF)

/* ---- selection: by operation, form and size ---- */

#define SIZES(name, form)                                             \
    {                                                                 \
        name##8##form, name##16##form, name##32##form, name##64##form \
    }

#define BINARY_FORMS(name)                                                                        \
    {                                                                                             \
        [FORM_RR] = SIZES(name, _rr), [FORM_RM] = SIZES(name, _rm), [FORM_MR] = SIZES(name, _mr), \
        [FORM_RI] = SIZES(name, _ri), [FORM_MI] = SIZES(name, _mi),                               \
    }
#define LOCKED_FORMS(name)                                            \
    {                                                                 \
        [FORM_MR] = SIZES(name, _lmr), [FORM_MI] = SIZES(name, _lmi), \
    }
#define UNARY_FORMS(name)                                      \
    {                                                          \
        [FORM_R] = SIZES(name, _r), [FORM_M] = SIZES(name, _m) \
    }

static const struct {
    ZydisMnemonic mnemonic;
    soft_exec_fn plain[FORM_COUNT][4];
    soft_exec_fn locked[FORM_COUNT][4];
} operations[] = {
    {ZYDIS_MNEMONIC_ADD, BINARY_FORMS(add), LOCKED_FORMS(add)},
    {ZYDIS_MNEMONIC_OR, BINARY_FORMS(or), LOCKED_FORMS(or)},
    {ZYDIS_MNEMONIC_ADC, BINARY_FORMS(adc), LOCKED_FORMS(adc)},
    {ZYDIS_MNEMONIC_SBB, BINARY_FORMS(sbb), LOCKED_FORMS(sbb)},
    {ZYDIS_MNEMONIC_AND, BINARY_FORMS(and), LOCKED_FORMS(and)},
    {ZYDIS_MNEMONIC_SUB, BINARY_FORMS(sub), LOCKED_FORMS(sub)},
    {ZYDIS_MNEMONIC_XOR, BINARY_FORMS(xor), LOCKED_FORMS(xor)},
    {ZYDIS_MNEMONIC_CMP, BINARY_FORMS(cmp), {}},
    {ZYDIS_MNEMONIC_TEST, BINARY_FORMS(test), {}},
    {ZYDIS_MNEMONIC_INC, UNARY_FORMS(inc), {[FORM_M] = SIZES(inc, _lm)}},
    {ZYDIS_MNEMONIC_DEC, UNARY_FORMS(dec), {[FORM_M] = SIZES(dec, _lm)}},
    {ZYDIS_MNEMONIC_NEG, UNARY_FORMS(neg), {[FORM_M] = SIZES(neg, _lm)}},
    {ZYDIS_MNEMONIC_NOT, UNARY_FORMS(not ), {[FORM_M] = SIZES(not, _lm)}},
};

soft_exec_fn select_arithmetic(const struct soft_decoded *decoded, struct insn *insn)
{
    ZydisMnemonic mnemonic = decoded->instruction.mnemonic;

    if (mnemonic == ZYDIS_MNEMONIC_ADCX || mnemonic == ZYDIS_MNEMONIC_ADOX) {
        bool carry = mnemonic == ZYDIS_MNEMONIC_ADCX;

        insn->operand_size = (uint8_t)(decoded->operands[0].size / 8);
        if (operand_form(decoded, insn) == FORM_RR)
            return carry ? adcx_rr : adox_rr;
        return carry ? adcx_rm : adox_rm;
    }
    for (unsigned i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        unsigned size, form;

        if (operations[i].mnemonic != mnemonic)
            continue;
        form = operand_form(decoded, insn);
        size = operand_size_index(&decoded->operands[0]);
        return insn->prefixes & INSN_LOCK ? operations[i].locked[form][size]
                                          : operations[i].plain[form][size];
    }
    return NULL;
}
