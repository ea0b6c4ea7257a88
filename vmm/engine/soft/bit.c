// SPDX-License-Identifier: Apache-2.0
/*
 * Bits: BT and its kin, bit scans, counts, BMI1 and BMI2, all but the first on the host's own
 * instructions with the guest's flags loaded before (SDM 2).
 *
 * With a bit number in a register and the operand in memory, BT addresses a bit string: the number
 * is signed and reaches beyond the operand.
 */
#include "vmm/engine/soft/operand.h"

/* What BT's family does to the bit. */
enum bit_change { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static inline uint64_t bit_changed(uint64_t value, uint64_t bit, enum bit_change change)
{
    switch (change) {
    case BIT_SET:
        return value | bit;
    case BIT_RESET:
        return value & ~bit;
    case BIT_COMPLEMENT:
        return value ^ bit;
    default:
        return value;
    }
}

/* CF from the bit; the others as the host's BT leaves them. */
static inline void bit_flags(struct soft_cpu *cpu, uint64_t value, unsigned number)
{
    uint32_t carrier = flags_pack(cpu->rflags);

    __asm__(FLAGS_IN "btq %[number], %[value]" FLAGS_OUT
            : "+&a"(carrier)
            : [value] "r"(value), [number] "r"((uint64_t)number)
            : "cc");
    cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);
}

static inline void bit_register(struct soft_cpu *cpu, const struct insn *insn, uint64_t number,
                                enum bit_change change)
{
    unsigned size = insn->operand_size;
    unsigned place = number & (size * 8 - 1);
    uint64_t value = reg_get(cpu, insn->aux[0], size);

    bit_flags(cpu, value, place);
    if (change != BIT_TEST)
        reg_set(cpu, insn->aux[0], bit_changed(value, 1UL << place, change), size);
}

/* Read, change, write; with LOCK as one step that nobody sees in between. */
static void bit_memory_at(struct soft_cpu *cpu, const struct insn *insn, uint64_t linear,
                          unsigned place, enum bit_change change)
{
    unsigned size = insn->operand_size;
    uint64_t value;
    uint8_t *host;

    if (change == BIT_TEST) {
        bit_flags(cpu, mem_get(cpu, linear, size), place);
        return;
    }
    if (!(insn->prefixes & INSN_LOCK)) {
        value = mem_rmw_begin(cpu, linear, size);
        mem_set(cpu, linear, bit_changed(value, 1UL << place, change), size);
        bit_flags(cpu, value, place);
        return;
    }
    host = soft_atomic_pointer(cpu, linear, size, cpu->mmu_mode);
    if (host) {
        /* One byte holds the bit, so that the locked access is never misaligned. */
        uint8_t bit = (uint8_t)(1U << (place & 7));

        host += place / 8;
        value = change == BIT_SET     ? __atomic_fetch_or(host, bit, __ATOMIC_SEQ_CST)
                : change == BIT_RESET ? __atomic_fetch_and(host, (uint8_t)~bit, __ATOMIC_SEQ_CST)
                                      : __atomic_fetch_xor(host, bit, __ATOMIC_SEQ_CST);
        bit_flags(cpu, value << (place & ~7U), place);
        return;
    }
    soft_probe_write(cpu, linear, size, cpu->mmu_mode);
    soft_exclusive_begin(cpu);
    value = mem_get(cpu, linear, size);
    mem_set(cpu, linear, bit_changed(value, 1UL << place, change), size);
    soft_exclusive_end(cpu);
    bit_flags(cpu, value, place);
}

static inline void bit_memory_immediate(struct soft_cpu *cpu, const struct insn *insn,
                                        enum bit_change change)
{
    unsigned size = insn->operand_size;
    uint64_t linear =
        soft_operand_address(cpu, insn, size, change == BIT_TEST ? SOFT_READ : SOFT_WRITE);

    bit_memory_at(cpu, insn, linear, insn->immediate & (size * 8 - 1), change);
}

static inline void bit_memory_string(struct soft_cpu *cpu, const struct insn *insn,
                                     enum bit_change change)
{
    unsigned size = insn->operand_size, shift = 64 - size * 8;
    int64_t number = (int64_t)(reg_get(cpu, insn->reg_offset, size) << shift) >> shift;
    uint64_t offset = soft_operand_offset(cpu, insn);

    /* Whole operands, rounded down. */
    offset += (uint64_t)((number >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * (int64_t)size);
    if (insn->address_size != 8)
        offset = insn->address_size == 4 ? (uint32_t)offset : (uint16_t)offset;
    bit_memory_at(
        cpu, insn,
        mem_address(cpu, insn->segment, offset, size, change == BIT_TEST ? SOFT_READ : SOFT_WRITE),
        (unsigned)number & (size * 8 - 1), change);
}

#define DEFINE_BIT(name, change)                                         \
    static void name##_rr(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                    \
        bit_register(cpu, insn, cpu->gpr[insn->reg], change);            \
    }                                                                    \
    static void name##_ri(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                    \
        bit_register(cpu, insn, insn->immediate, change);                \
    }                                                                    \
    static void name##_mr(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                    \
        bit_memory_string(cpu, insn, change);                            \
    }                                                                    \
    static void name##_mi(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                    \
        bit_memory_immediate(cpu, insn, change);                         \
    }
DEFINE_BIT(bt, BIT_TEST)
DEFINE_BIT(bts, BIT_SET)
DEFINE_BIT(btr, BIT_RESET)
DEFINE_BIT(btc, BIT_COMPLEMENT)

/* ---- one source, one destination, the host's flags ---- */

/* The whole destination register goes in and out, since a scan of 0 leaves it as it is. */
#define DEFINE_SCAN(name, mnemonic, bits, suffix, r)                                    \
    static void name##bits(struct soft_cpu *cpu, const struct insn *insn, uint64_t src) \
    {                                                                                   \
        uint32_t carrier = flags_pack(cpu->rflags);                                     \
        uint64_t dst = cpu->gpr[insn->reg];                                             \
        __asm__(FLAGS_IN mnemonic suffix " %" r "[src], %" r "[dst]" FLAGS_OUT          \
                : [dst] "+&r"(dst), "+&a"(carrier)                                      \
                : [src] "r"(src)                                                        \
                : "cc");                                                                \
        cpu->gpr[insn->reg] = dst;                                                      \
        cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);                  \
    }                                                                                   \
    static void name##bits##_r(struct soft_cpu *cpu, const struct insn *insn)           \
    {                                                                                   \
        name##bits(cpu, insn, cpu->gpr[insn->rm]);                                      \
    }                                                                                   \
    static void name##bits##_m(struct soft_cpu *cpu, const struct insn *insn)           \
    {                                                                                   \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_READ);         \
        name##bits(cpu, insn, soft_read##bits(cpu, linear));                            \
    }
#define DEFINE_SCANS(name, mnemonic)          \
    DEFINE_SCAN(name, mnemonic, 16, "w", "w") \
    DEFINE_SCAN(name, mnemonic, 32, "l", "k") \
    DEFINE_SCAN(name, mnemonic, 64, "q", "q")
DEFINE_SCANS(bsf, "bsf")
DEFINE_SCANS(bsr, "bsr")
DEFINE_SCANS(lzcnt, "lzcnt")
DEFINE_SCANS(tzcnt, "tzcnt")
DEFINE_SCANS(popcnt, "popcnt")

/* ---- BMI: destination, source from ModRM.rm, another from VEX.vvvv ---- */

/* `destination` is ModRM.reg or VEX.vvvv; `operands` the order of the host's assembly. */
#define DEFINE_BMI(name, mnemonic, operands, destination, bits, r)                      \
    static void name##bits(struct soft_cpu *cpu, const struct insn *insn, uint64_t src) \
    {                                                                                   \
        uint32_t carrier = flags_pack(cpu->rflags);                                     \
        uint64_t dst, other = cpu->gpr[insn->vvvv];                                     \
        __asm__(FLAGS_IN mnemonic operands(r) FLAGS_OUT                                 \
                : [dst] "=&r"(dst), "+&a"(carrier)                                      \
                : [src] "r"(src), [other] "r"(other)                                    \
                : "cc");                                                                \
        reg_set##bits(cpu, destination * 8, (uint##bits##_t)dst);                       \
        cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);                  \
    }                                                                                   \
    static void name##bits##_r(struct soft_cpu *cpu, const struct insn *insn)           \
    {                                                                                   \
        name##bits(cpu, insn, cpu->gpr[insn->rm]);                                      \
    }                                                                                   \
    static void name##bits##_m(struct soft_cpu *cpu, const struct insn *insn)           \
    {                                                                                   \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_READ);         \
        name##bits(cpu, insn, soft_read##bits(cpu, linear));                            \
    }
#define DEFINE_BMIS(name, mnemonic, operands, destination)     \
    DEFINE_BMI(name, mnemonic, operands, destination, 32, "k") \
    DEFINE_BMI(name, mnemonic, operands, destination, 64, "q")

#define SRC_OTHER(r) " %" r "[src], %" r "[other], %" r "[dst]"
#define OTHER_SRC(r) " %" r "[other], %" r "[src], %" r "[dst]"
#define SRC_ONLY(r)  " %" r "[src], %" r "[dst]"

DEFINE_BMIS(andn, "andn", SRC_OTHER, insn->reg)
DEFINE_BMIS(pdep, "pdep", SRC_OTHER, insn->reg)
DEFINE_BMIS(pext, "pext", SRC_OTHER, insn->reg)
DEFINE_BMIS(bextr, "bextr", OTHER_SRC, insn->reg)
DEFINE_BMIS(bzhi, "bzhi", OTHER_SRC, insn->reg)
DEFINE_BMIS(sarx, "sarx", OTHER_SRC, insn->reg)
DEFINE_BMIS(shlx, "shlx", OTHER_SRC, insn->reg)
DEFINE_BMIS(shrx, "shrx", OTHER_SRC, insn->reg)
DEFINE_BMIS(blsi, "blsi", SRC_ONLY, insn->vvvv)
DEFINE_BMIS(blsmsk, "blsmsk", SRC_ONLY, insn->vvvv)
DEFINE_BMIS(blsr, "blsr", SRC_ONLY, insn->vvvv)

#define DEFINE_RORX(bits)                                                                     \
    static void rorx##bits(struct soft_cpu *cpu, const struct insn *insn, uint##bits##_t src) \
    {                                                                                         \
        unsigned count = insn->immediate & (bits - 1);                                        \
        reg_set##bits(cpu, insn->reg * 8, src >> count | src << (-count & (bits - 1)));       \
    }                                                                                         \
    static void rorx##bits##_r(struct soft_cpu *cpu, const struct insn *insn)                 \
    {                                                                                         \
        rorx##bits(cpu, insn, (uint##bits##_t)cpu->gpr[insn->rm]);                            \
    }                                                                                         \
    static void rorx##bits##_m(struct soft_cpu *cpu, const struct insn *insn)                 \
    {                                                                                         \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_READ);               \
        rorx##bits(cpu, insn, soft_read##bits(cpu, linear));                                  \
    }
DEFINE_RORX(32)
DEFINE_RORX(64)

#define SCAN_FORMS(name)                             \
    {                                                \
        {NULL, name##16_r, name##32_r, name##64_r},  \
        {                                            \
            NULL, name##16_m, name##32_m, name##64_m \
        }                                            \
    }
#define BMI_FORMS(name)                        \
    {                                          \
        {NULL, NULL, name##32_r, name##64_r},  \
        {                                      \
            NULL, NULL, name##32_m, name##64_m \
        }                                      \
    }

/* Handlers by memory operand and size of the destination. */
static const struct {
    ZydisMnemonic mnemonic;
    soft_exec_fn handlers[2][4];
} scans[] = {
    {ZYDIS_MNEMONIC_BSF, SCAN_FORMS(bsf)},       {ZYDIS_MNEMONIC_BSR, SCAN_FORMS(bsr)},
    {ZYDIS_MNEMONIC_LZCNT, SCAN_FORMS(lzcnt)},   {ZYDIS_MNEMONIC_TZCNT, SCAN_FORMS(tzcnt)},
    {ZYDIS_MNEMONIC_POPCNT, SCAN_FORMS(popcnt)}, {ZYDIS_MNEMONIC_ANDN, BMI_FORMS(andn)},
    {ZYDIS_MNEMONIC_PDEP, BMI_FORMS(pdep)},      {ZYDIS_MNEMONIC_PEXT, BMI_FORMS(pext)},
    {ZYDIS_MNEMONIC_BEXTR, BMI_FORMS(bextr)},    {ZYDIS_MNEMONIC_BZHI, BMI_FORMS(bzhi)},
    {ZYDIS_MNEMONIC_SARX, BMI_FORMS(sarx)},      {ZYDIS_MNEMONIC_SHLX, BMI_FORMS(shlx)},
    {ZYDIS_MNEMONIC_SHRX, BMI_FORMS(shrx)},      {ZYDIS_MNEMONIC_BLSI, BMI_FORMS(blsi)},
    {ZYDIS_MNEMONIC_BLSMSK, BMI_FORMS(blsmsk)},  {ZYDIS_MNEMONIC_BLSR, BMI_FORMS(blsr)},
    {ZYDIS_MNEMONIC_RORX, BMI_FORMS(rorx)},
};

static soft_exec_fn select_bit_test(const struct soft_decoded *decoded, struct insn *insn)
{
    static const struct {
        ZydisMnemonic mnemonic;
        soft_exec_fn handlers[FORM_COUNT];
    } tests[] = {
        {ZYDIS_MNEMONIC_BT,
         {[FORM_RR] = bt_rr, [FORM_RI] = bt_ri, [FORM_MR] = bt_mr, [FORM_MI] = bt_mi}},
        {ZYDIS_MNEMONIC_BTS,
         {[FORM_RR] = bts_rr, [FORM_RI] = bts_ri, [FORM_MR] = bts_mr, [FORM_MI] = bts_mi}},
        {ZYDIS_MNEMONIC_BTR,
         {[FORM_RR] = btr_rr, [FORM_RI] = btr_ri, [FORM_MR] = btr_mr, [FORM_MI] = btr_mi}},
        {ZYDIS_MNEMONIC_BTC,
         {[FORM_RR] = btc_rr, [FORM_RI] = btc_ri, [FORM_MR] = btc_mr, [FORM_MI] = btc_mi}},
    };

    for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (tests[i].mnemonic != decoded->instruction.mnemonic)
            continue;
        insn->operand_size = (uint8_t)(decoded->operands[0].size / 8);
        insn->aux[0] = insn->rm_offset;
        return tests[i].handlers[operand_form(decoded, insn)];
    }
    return NULL;
}

soft_exec_fn select_bit(const struct soft_decoded *decoded, struct insn *insn)
{
    if (decoded->instruction.meta.category == ZYDIS_CATEGORY_BITBYTE) {
        soft_exec_fn exec = select_bit_test(decoded, insn);

        if (exec)
            return exec;
    }
    for (unsigned i = 0; i < sizeof(scans) / sizeof(scans[0]); i++)
        if (scans[i].mnemonic == decoded->instruction.mnemonic)
            return scans[i].handlers[insn->memory][operand_size_index(&decoded->operands[0])];
    return NULL;
}
