// SPDX-License-Identifier: Apache-2.0
/*
 * What is left of the general-purpose instructions (SDM 2): decimal arithmetic, flag bits, CRC32,
 * random numbers, BOUND, no-operations and hints, the undefined ones.
 *
 * Flags that the decimal instructions leave undefined are set as AMD's and Intel's processors do:
 * from the result, OF clear.
 */
#include <sys/random.h>

#include "vmm/engine/soft/operand.h"

/* ---- decimal ---- */

/* SF, ZF, PF of AL; CF and AF as given; OF clear. */
static void decimal_flags(struct soft_cpu *cpu, bool carry, bool auxiliary)
{
    uint8_t al = (uint8_t)cpu->gpr[GPR_RAX];
    uint64_t flags = (carry ? FLAG_CF : 0) | (auxiliary ? FLAG_AF : 0);

    flags |= (al & 0x80 ? FLAG_SF : 0) | (al ? 0 : FLAG_ZF);
    flags |= __builtin_parity(al) ? 0 : FLAG_PF;
    cpu->rflags = (cpu->rflags & ~FLAGS_STATUS) | flags;
}

/* DAA adds, DAS subtracts the corrections. */
static void adjust_packed(struct soft_cpu *cpu, bool subtract)
{
    uint8_t old = (uint8_t)cpu->gpr[GPR_RAX], al = old;
    bool carry = cpu->rflags & FLAG_CF, old_carry = carry, auxiliary = false;

    carry = false;
    if ((al & 15) > 9 || (cpu->rflags & FLAG_AF)) {
        carry = old_carry || (subtract ? al < 6 : al > 0xf9);
        al = (uint8_t)(subtract ? al - 6 : al + 6);
        auxiliary = true;
    }
    if (old > 0x99 || old_carry) {
        al = (uint8_t)(subtract ? al - 0x60 : al + 0x60);
        carry = true;
    }
    reg_set8(cpu, GPR_RAX, al);
    decimal_flags(cpu, carry, auxiliary);
}

static void daa(struct soft_cpu *cpu, const struct insn *insn)
{
    adjust_packed(cpu, false);
}

static void das(struct soft_cpu *cpu, const struct insn *insn)
{
    adjust_packed(cpu, true);
}

/* AAA adds 0x106 to AX, AAS subtracts 6 from AX and 1 from AH. */
static void adjust_unpacked(struct soft_cpu *cpu, bool subtract)
{
    uint16_t ax = (uint16_t)cpu->gpr[GPR_RAX];
    bool adjust = (ax & 15) > 9 || (cpu->rflags & FLAG_AF);

    if (adjust)
        ax = (uint16_t)(subtract ? ax - 0x106 : ax + 0x106);
    reg_set16(cpu, GPR_RAX, ax & 0xff0f);
    decimal_flags(cpu, adjust, adjust);
}

static void aaa(struct soft_cpu *cpu, const struct insn *insn)
{
    adjust_unpacked(cpu, false);
}

static void aas(struct soft_cpu *cpu, const struct insn *insn)
{
    adjust_unpacked(cpu, true);
}

static void aam(struct soft_cpu *cpu, const struct insn *insn)
{
    uint8_t al = (uint8_t)cpu->gpr[GPR_RAX], base = (uint8_t)insn->immediate;

    if (base) {
        reg_set16(cpu, GPR_RAX, (uint16_t)((al / base) << 8 | al % base));
        decimal_flags(cpu, false, false);
    } else {
        soft_raise(cpu, EXC_DE, 0);
    }
}

static void aad(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t ax = (uint16_t)cpu->gpr[GPR_RAX];

    reg_set16(cpu, GPR_RAX, (uint8_t)(ax + (ax >> 8) * (uint8_t)insn->immediate));
    decimal_flags(cpu, false, false);
}

/* ---- flags ---- */

static void clc(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->rflags &= ~FLAG_CF;
}

static void stc(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->rflags |= FLAG_CF;
}

static void cmc(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->rflags ^= FLAG_CF;
}

static void cld(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->rflags &= ~FLAG_DF;
}

static void std(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->rflags |= FLAG_DF;
}

static void lahf(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set8(cpu, GPR_RAX * 8 + 1, (uint8_t)cpu->rflags);
}

static void sahf(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t mask = FLAGS_STATUS & ~FLAG_OF;

    cpu->rflags = (cpu->rflags & ~mask) | (cpu->gpr[GPR_RAX] >> 8 & mask);
}

static void salc(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set8(cpu, GPR_RAX, cpu->rflags & FLAG_CF ? 0xff : 0);
}

/* ---- CRC32, random numbers ---- */

/* The sum in 32 bits, upper half cleared, whatever the destination's size. */
static void crc32(struct soft_cpu *cpu, const struct insn *insn, uint64_t src, unsigned size)
{
    uint32_t sum = reg_get32(cpu, insn->reg_offset);

    switch (size) {
    case 1:
        __asm__("crc32b %b[src], %[sum]" : [sum] "+r"(sum) : [src] "r"(src));
        break;
    case 2:
        __asm__("crc32w %w[src], %[sum]" : [sum] "+r"(sum) : [src] "r"(src));
        break;
    case 4:
        __asm__("crc32l %k[src], %[sum]" : [sum] "+r"(sum) : [src] "r"(src));
        break;
    default:
        __asm__("crc32l %k[src], %[sum]" : [sum] "+r"(sum) : [src] "r"(src));
        __asm__("crc32l %k[src], %[sum]" : [sum] "+r"(sum) : [src] "r"(src >> 32));
    }
    reg_set32(cpu, insn->reg_offset, sum);
}

/* aux[0] is the source's size. */
static void crc32_r(struct soft_cpu *cpu, const struct insn *insn)
{
    crc32(cpu, insn, reg_get(cpu, insn->rm_offset, insn->aux[0]), insn->aux[0]);
}

static void crc32_m(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[0];

    crc32(cpu, insn, mem_get(cpu, soft_operand_address(cpu, insn, size, SOFT_READ), size), size);
}

/* RDRAND and RDSEED from the host kernel's generator: CF says that there was a number. */
static void random_number(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value = 0;
    bool success = getrandom(&value, sizeof(value), GRND_NONBLOCK) == sizeof(value);

    reg_set(cpu, insn->reg_offset, success ? value : 0, insn->operand_size);
    cpu->rflags = (cpu->rflags & ~FLAGS_STATUS) | (success ? FLAG_CF : 0);
}

/* ---- BOUND, hints ---- */

static void bound(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size, shift = 64 - size * 8;
    uint64_t linear = soft_operand_address(cpu, insn, size * 2, SOFT_READ);
    int64_t low = (int64_t)(mem_get(cpu, linear, size) << shift) >> shift;
    int64_t high = (int64_t)(mem_get(cpu, linear + size, size) << shift) >> shift;
    int64_t index = (int64_t)(reg_get(cpu, insn->reg_offset, size) << shift) >> shift;

    if (index < low || index > high)
        soft_raise(cpu, EXC_BR, 0);
}

static void pause_spin(struct soft_cpu *cpu, const struct insn *insn)
{
    if (++cpu->spin.pauses >= SOFT_SPIN_PAUSES)
        soft_spin(cpu);
}

static void nop(struct soft_cpu *cpu, const struct insn *insn)
{
}

/* A processor waits at LFENCE for what came before, and so do we: RDTSC, which reads the host's
 * counter, may follow. */
static void fence(struct soft_cpu *cpu, const struct insn *insn)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __builtin_ia32_lfence();
}

/* CLFLUSH and its kin touch their line as a byte load does; memory is coherent anyhow. */
static void flush_line(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_probe_read(cpu, soft_operand_address(cpu, insn, 1, SOFT_READ), 1, cpu->mmu_mode);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void undefined(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_undefined(cpu);
}

static soft_exec_fn select_sized(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_CRC32:
        operand_form(decoded, insn);
        insn->aux[0] = (uint8_t)(decoded->operands[1].size / 8);
        return insn->memory ? crc32_m : crc32_r;
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
        operand_form(decoded, insn);
        insn->operand_size = (uint8_t)(decoded->operands[0].size / 8);
        return random_number;
    case ZYDIS_MNEMONIC_BOUND:
        insn->operand_size = (uint8_t)(decoded->operands[0].size / 8);
        return bound;
    default:
        return NULL;
    }
}

soft_exec_fn select_misc(const struct soft_decoded *decoded, struct insn *insn)
{
    static const struct {
        ZydisMnemonic mnemonic;
        soft_exec_fn exec;
    } plain[] = {
        {ZYDIS_MNEMONIC_NOP, nop},
        {ZYDIS_MNEMONIC_PAUSE, pause_spin},
        {ZYDIS_MNEMONIC_PREFETCH, nop},
        {ZYDIS_MNEMONIC_PREFETCHNTA, nop},
        {ZYDIS_MNEMONIC_PREFETCHT0, nop},
        {ZYDIS_MNEMONIC_PREFETCHT1, nop},
        {ZYDIS_MNEMONIC_PREFETCHT2, nop},
        {ZYDIS_MNEMONIC_PREFETCHW, nop},
        {ZYDIS_MNEMONIC_PREFETCHWT1, nop},
        {ZYDIS_MNEMONIC_LFENCE, fence},
        {ZYDIS_MNEMONIC_MFENCE, fence},
        {ZYDIS_MNEMONIC_SFENCE, fence},
        {ZYDIS_MNEMONIC_SERIALIZE, fence},
        {ZYDIS_MNEMONIC_CLFLUSH, flush_line},
        {ZYDIS_MNEMONIC_CLFLUSHOPT, flush_line},
        {ZYDIS_MNEMONIC_CLWB, flush_line},
        {ZYDIS_MNEMONIC_UD0, undefined},
        {ZYDIS_MNEMONIC_UD1, undefined},
        {ZYDIS_MNEMONIC_UD2, undefined},
        {ZYDIS_MNEMONIC_DAA, daa},
        {ZYDIS_MNEMONIC_DAS, das},
        {ZYDIS_MNEMONIC_AAA, aaa},
        {ZYDIS_MNEMONIC_AAS, aas},
        {ZYDIS_MNEMONIC_AAM, aam},
        {ZYDIS_MNEMONIC_AAD, aad},
        {ZYDIS_MNEMONIC_CLC, clc},
        {ZYDIS_MNEMONIC_STC, stc},
        {ZYDIS_MNEMONIC_CMC, cmc},
        {ZYDIS_MNEMONIC_CLD, cld},
        {ZYDIS_MNEMONIC_STD, std},
        {ZYDIS_MNEMONIC_LAHF, lahf},
        {ZYDIS_MNEMONIC_SAHF, sahf},
        {ZYDIS_MNEMONIC_SALC, salc},
    };

    for (unsigned i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        if (plain[i].mnemonic == decoded->instruction.mnemonic)
            return plain[i].exec;
    return select_sized(decoded, insn);
}
