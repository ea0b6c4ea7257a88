// SPDX-License-Identifier: Apache-2.0
/*
 * XCHG, XADD, CMPXCHG, CMPXCHG8B and CMPXCHG16B (SDM 2). XCHG with memory is always locked; the
 * others when LOCK says so. A comparison writes its destination in any case (with the old value
 * when it failed), so the page must be writable.
 */
#include "vmm/engine/soft/operand.h"

#define DEFINE_XCHG(bits)                                                                  \
    static void xchg##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)             \
    {                                                                                      \
        uint##bits##_t value = reg_get##bits(cpu, insn->reg_offset);                       \
        reg_set##bits(cpu, insn->reg_offset, reg_get##bits(cpu, insn->rm_offset));         \
        reg_set##bits(cpu, insn->rm_offset, value);                                        \
    }                                                                                      \
    static void xchg##bits##_mr(struct soft_cpu *cpu, const struct insn *insn)             \
    {                                                                                      \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);           \
        unaligned##bits *host = soft_atomic_pointer(cpu, linear, bits / 8, cpu->mmu_mode); \
        uint##bits##_t value = reg_get##bits(cpu, insn->reg_offset), old;                  \
        if (host) {                                                                        \
            __asm__ volatile("xchg %[value], %[memory]"                                    \
                             : [value] "+r"(value), [memory] "+m"(*host)                   \
                             :                                                             \
                             : "memory");                                                  \
            reg_set##bits(cpu, insn->reg_offset, value);                                   \
            return;                                                                        \
        }                                                                                  \
        soft_probe_write(cpu, linear, bits / 8, cpu->mmu_mode);                            \
        soft_exclusive_begin(cpu);                                                         \
        old = soft_read##bits(cpu, linear);                                                \
        soft_write##bits(cpu, linear, value);                                              \
        soft_exclusive_end(cpu);                                                           \
        reg_set##bits(cpu, insn->reg_offset, old);                                         \
    }

/* XADD: the sum's flags. */
#define DEFINE_XADD(bits, suffix, r)                                                             \
    static inline uint##bits##_t sum##bits(uint64_t *rflags, uint##bits##_t dst,                 \
                                           uint##bits##_t src)                                   \
    {                                                                                            \
        uint32_t carrier;                                                                        \
        __asm__("add" suffix " %" r "[src], %" r "[dst]" FLAGS_OUT                               \
                : [dst] "+r"(dst), "=&a"(carrier)                                                \
                : [src] "r"(src)                                                                 \
                : "cc");                                                                         \
        *rflags = flags_merge(*rflags, carrier, FLAGS_STATUS);                                   \
        return dst;                                                                              \
    }                                                                                            \
    static void xadd##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)                   \
    {                                                                                            \
        uint##bits##_t dst = reg_get##bits(cpu, insn->reg_offset);                               \
        uint##bits##_t sum = sum##bits(&cpu->rflags, dst, reg_get##bits(cpu, insn->rm_offset));  \
        reg_set##bits(cpu, insn->rm_offset, dst);                                                \
        reg_set##bits(cpu, insn->reg_offset, sum);                                               \
    }                                                                                            \
    static void xadd##bits##_mr(struct soft_cpu *cpu, const struct insn *insn)                   \
    {                                                                                            \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);                 \
        uint##bits##_t dst = (uint##bits##_t)mem_rmw_begin(cpu, linear, bits / 8);               \
        uint##bits##_t sum = sum##bits(&cpu->rflags, dst, reg_get##bits(cpu, insn->reg_offset)); \
        soft_write##bits(cpu, linear, sum);                                                      \
        reg_set##bits(cpu, insn->reg_offset, dst);                                               \
    }                                                                                            \
    static void xadd##bits##_lmr(struct soft_cpu *cpu, const struct insn *insn)                  \
    {                                                                                            \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);                 \
        unaligned##bits *host = soft_atomic_pointer(cpu, linear, bits / 8, cpu->mmu_mode);       \
        uint##bits##_t src = reg_get##bits(cpu, insn->reg_offset);                               \
        uint32_t carrier;                                                                        \
        if (!host) {                                                                             \
            soft_probe_write(cpu, linear, bits / 8, cpu->mmu_mode);                              \
            soft_exclusive_begin(cpu);                                                           \
            xadd##bits##_mr(cpu, insn);                                                          \
            soft_exclusive_end(cpu);                                                             \
            return;                                                                              \
        }                                                                                        \
        __asm__ volatile("lock xadd" suffix " %" r "[src], %[memory]" FLAGS_OUT                  \
                         : [src] "+&r"(src), [memory] "+m"(*host), "=&a"(carrier)                \
                         :                                                                       \
                         : "cc", "memory");                                                      \
        cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);                           \
        reg_set##bits(cpu, insn->reg_offset, src);                                               \
    }

/* CMPXCHG: flags of the comparison of the accumulator with the destination. Between registers the
 * host does it on whole ones, since processors differ in what a 32-bit form does to upper halves.
 */
#define DEFINE_CMPXCHG(bits, suffix, r)                                                      \
    static inline bool equal##bits(uint64_t *rflags, uint##bits##_t acc, uint##bits##_t dst) \
    {                                                                                        \
        uint32_t carrier;                                                                    \
        __asm__("cmp" suffix " %" r "[dst], %" r "[acc]" FLAGS_OUT                           \
                : "=&a"(carrier)                                                             \
                : [dst] "r"(dst), [acc] "r"(acc)                                             \
                : "cc");                                                                     \
        *rflags = flags_merge(*rflags, carrier, FLAGS_STATUS);                               \
        return acc == dst;                                                                   \
    }                                                                                        \
    static void cmpxchg##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)            \
    {                                                                                        \
        uint64_t acc = cpu->gpr[GPR_RAX], src = reg_get##bits(cpu, insn->rm_offset);         \
        uint64_t dst =                                                                       \
            bits == 8 ? reg_get8(cpu, insn->reg_offset) : reg_get64(cpu, insn->reg_offset);  \
        uint32_t carrier;                                                                    \
        __asm__("mov %[acc], %%rax\n\tcmpxchg" suffix " %" r "[src], %" r                    \
                "[dst]\n\tmov %%rax, %[acc]" FLAGS_OUT                                       \
                : [dst] "+&r"(dst), [acc] "+&r"(acc), "=&a"(carrier)                         \
                : [src] "r"(src)                                                             \
                : "cc");                                                                     \
        cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);                       \
        cpu->gpr[GPR_RAX] = acc;                                                             \
        if (bits == 8)                                                                       \
            reg_set8(cpu, insn->reg_offset, (uint8_t)dst);                                   \
        else                                                                                 \
            reg_set64(cpu, insn->reg_offset, dst);                                           \
    }                                                                                        \
    static void cmpxchg##bits##_mr(struct soft_cpu *cpu, const struct insn *insn)            \
    {                                                                                        \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);             \
        uint##bits##_t dst = (uint##bits##_t)mem_rmw_begin(cpu, linear, bits / 8);           \
        uint64_t rflags = cpu->rflags;                                                       \
        bool equal = equal##bits(&rflags, (uint##bits##_t)cpu->gpr[GPR_RAX], dst);           \
        soft_write##bits(cpu, linear, equal ? reg_get##bits(cpu, insn->reg_offset) : dst);   \
        cpu->rflags = rflags;                                                                \
        if (!equal)                                                                          \
            reg_set##bits(cpu, GPR_RAX, dst);                                                \
    }                                                                                        \
    static void cmpxchg##bits##_lmr(struct soft_cpu *cpu, const struct insn *insn)           \
    {                                                                                        \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);             \
        unaligned##bits *host = soft_atomic_pointer(cpu, linear, bits / 8, cpu->mmu_mode);   \
        uint##bits##_t acc = (uint##bits##_t)cpu->gpr[GPR_RAX], old = acc;                   \
        if (!host) {                                                                         \
            soft_probe_write(cpu, linear, bits / 8, cpu->mmu_mode);                          \
            soft_exclusive_begin(cpu);                                                       \
            cmpxchg##bits##_mr(cpu, insn);                                                   \
            soft_exclusive_end(cpu);                                                         \
            return;                                                                          \
        }                                                                                    \
        __asm__ volatile("lock cmpxchg" suffix " %" r "[src], %[memory]"                     \
                         : [memory] "+m"(*host), "+a"(old)                                   \
                         : [src] "r"(reg_get##bits(cpu, insn->reg_offset))                   \
                         : "cc", "memory");                                                  \
        if (!equal##bits(&cpu->rflags, acc, old))                                            \
            reg_set##bits(cpu, GPR_RAX, old);                                                \
    }

#define DEFINE_EXCHANGES(bits, suffix, r) \
    DEFINE_XCHG(bits)                     \
    DEFINE_XADD(bits, suffix, r)          \
    DEFINE_CMPXCHG(bits, suffix, r)
DEFINE_EXCHANGES(8, "b", "b")
DEFINE_EXCHANGES(16, "w", "w")
DEFINE_EXCHANGES(32, "l", "k")
DEFINE_EXCHANGES(64, "q", "q")

static void set_zero_flag(struct soft_cpu *cpu, bool zero)
{
    cpu->rflags = zero ? cpu->rflags | FLAG_ZF : cpu->rflags & ~FLAG_ZF;
}

/* EDX:EAX against 64 bits of memory, ECX:EBX to be stored. Locked or not: the host's locked form
 * is right for both. */
static void cmpxchg8b(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t linear = soft_operand_address(cpu, insn, 8, SOFT_WRITE);
    unaligned64 *host = soft_atomic_pointer(cpu, linear, 8, cpu->mmu_mode);
    uint64_t expected = cpu->gpr[GPR_RDX] << 32 | (uint32_t)cpu->gpr[GPR_RAX];
    uint64_t wanted = cpu->gpr[GPR_RCX] << 32 | (uint32_t)cpu->gpr[GPR_RBX];
    uint64_t old = expected;

    if (host) {
        __asm__ volatile("lock cmpxchgq %[wanted], %[memory]"
                         : [memory] "+m"(*host), "+a"(old)
                         : [wanted] "r"(wanted)
                         : "cc", "memory");
    } else {
        soft_probe_write(cpu, linear, 8, cpu->mmu_mode);
        soft_exclusive_begin(cpu);
        old = soft_read64(cpu, linear);
        soft_write64(cpu, linear, old == expected ? wanted : old);
        soft_exclusive_end(cpu);
    }
    set_zero_flag(cpu, old == expected);
    if (old != expected) {
        cpu->gpr[GPR_RAX] = (uint32_t)old;
        cpu->gpr[GPR_RDX] = old >> 32;
    }
}

/* The same with 128 bits, which must be aligned. */
static void cmpxchg16b(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t linear = soft_operand_address(cpu, insn, 16, SOFT_WRITE);
    uint64_t low = cpu->gpr[GPR_RAX], high = cpu->gpr[GPR_RDX], image[2];
    uint8_t *host;
    bool equal;

    if (linear & 15)
        soft_general_protection(cpu, 0);
    host = soft_atomic_pointer(cpu, linear, 16, cpu->mmu_mode);
    if (host) {
        __asm__ volatile("lock cmpxchg16b %[memory]\n\tsete %b[equal]"
                         : [memory] "+m"(*(uint8_t(*)[16])host), "+a"(low),
                           "+d"(high), [equal] "=&r"(equal)
                         : "b"(cpu->gpr[GPR_RBX]), "c"(cpu->gpr[GPR_RCX])
                         : "cc", "memory");
    } else {
        soft_probe_write(cpu, linear, 16, cpu->mmu_mode);
        soft_exclusive_begin(cpu);
        soft_read_bytes(cpu, linear, image, 16);
        equal = image[0] == low && image[1] == high;
        low = image[0];
        high = image[1];
        if (equal) {
            image[0] = cpu->gpr[GPR_RBX];
            image[1] = cpu->gpr[GPR_RCX];
        }
        soft_write_bytes(cpu, linear, image, 16);
        soft_exclusive_end(cpu);
    }
    set_zero_flag(cpu, equal);
    cpu->gpr[GPR_RAX] = low;
    cpu->gpr[GPR_RDX] = high;
}

#define SIZES(name, form)                                             \
    {                                                                 \
        name##8##form, name##16##form, name##32##form, name##64##form \
    }

soft_exec_fn select_exchange(const struct soft_decoded *decoded, struct insn *insn)
{
    static const struct {
        ZydisMnemonic mnemonic;
        soft_exec_fn rr[4], mr[4], locked[4];
    } exchanges[] = {
        {ZYDIS_MNEMONIC_XCHG, SIZES(xchg, _rr), SIZES(xchg, _mr), SIZES(xchg, _mr)},
        {ZYDIS_MNEMONIC_XADD, SIZES(xadd, _rr), SIZES(xadd, _mr), SIZES(xadd, _lmr)},
        {ZYDIS_MNEMONIC_CMPXCHG, SIZES(cmpxchg, _rr), SIZES(cmpxchg, _mr), SIZES(cmpxchg, _lmr)},
    };
    ZydisMnemonic mnemonic = decoded->instruction.mnemonic;

    /* F3 90 is PAUSE, but with REX.B it is XCHG with R8. */
    if (mnemonic == ZYDIS_MNEMONIC_PAUSE && decoded->instruction.raw.rex.B) {
        insn->reg_offset = GPR_RAX;
        return insn->operand_size == 8   ? xchg64_rr
               : insn->operand_size == 4 ? xchg32_rr
                                         : xchg16_rr;
    }
    if (mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B)
        return cmpxchg8b;
    if (mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B)
        return cmpxchg16b;
    for (unsigned i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
        unsigned size = operand_size_index(&decoded->operands[0]);

        if (exchanges[i].mnemonic != mnemonic)
            continue;
        if (operand_form(decoded, insn) == FORM_RR)
            return exchanges[i].rr[size];
        return insn->prefixes & INSN_LOCK ? exchanges[i].locked[size] : exchanges[i].mr[size];
    }
    return NULL;
}
