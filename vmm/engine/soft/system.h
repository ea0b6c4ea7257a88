// SPDX-License-Identifier: Apache-2.0
/*
 * The system half of the software CPU, between its files: bits of the system registers, and what
 * the platform's part (MSRs, TSC) gives to the instructions.
 */
#pragma once

#include "vmm/engine/soft/mem.h"

/* RFLAGS (SDM 1, 3.4.3). */
#define FLAG_CF      (1UL << 0)
#define FLAG_FIXED   (1UL << 1)
#define FLAG_PF      (1UL << 2)
#define FLAG_AF      (1UL << 4)
#define FLAG_ZF      (1UL << 6)
#define FLAG_SF      (1UL << 7)
#define FLAG_TF      (1UL << 8)
#define FLAG_IF      (1UL << 9)
#define FLAG_DF      (1UL << 10)
#define FLAG_OF      (1UL << 11)
#define FLAG_IOPL    (3UL << 12)
#define FLAG_NT      (1UL << 14)
#define FLAG_RF      (1UL << 16)
#define FLAG_VM      (1UL << 17)
#define FLAG_AC      (1UL << 18)
#define FLAG_VIF     (1UL << 19)
#define FLAG_VIP     (1UL << 20)
#define FLAG_ID      (1UL << 21)
#define FLAG_DEFINED 0x3f7fd5UL

/* CR0 (SDM 3A, 2.5). */
#define CR0_PE (1UL << 0)
#define CR0_MP (1UL << 1)
#define CR0_EM (1UL << 2)
#define CR0_TS (1UL << 3)
#define CR0_ET (1UL << 4)
#define CR0_NE (1UL << 5)
#define CR0_WP (1UL << 16)
#define CR0_AM (1UL << 18)
#define CR0_NW (1UL << 29)
#define CR0_CD (1UL << 30)
#define CR0_PG (1UL << 31)

/* CR4. */
#define CR4_VME        (1UL << 0)
#define CR4_PVI        (1UL << 1)
#define CR4_TSD        (1UL << 2)
#define CR4_DE         (1UL << 3)
#define CR4_PSE        (1UL << 4)
#define CR4_PAE        (1UL << 5)
#define CR4_MCE        (1UL << 6)
#define CR4_PGE        (1UL << 7)
#define CR4_PCE        (1UL << 8)
#define CR4_OSFXSR     (1UL << 9)
#define CR4_OSXMMEXCPT (1UL << 10)
#define CR4_UMIP       (1UL << 11)
#define CR4_FSGSBASE   (1UL << 16)
#define CR4_PCIDE      (1UL << 17)
#define CR4_OSXSAVE    (1UL << 18)
#define CR4_SMEP       (1UL << 20)
#define CR4_SMAP       (1UL << 21)
#define CR4_PKE        (1UL << 22)

/* IA32_EFER. */
#define EFER_SCE    (1UL << 0)
#define EFER_LME    (1UL << 8)
#define EFER_LMA    (1UL << 10)
#define EFER_NXE    (1UL << 11)
#define EFER_FFXSR  (1UL << 14)
#define EFER_AIBRSE (1UL << 21)

/* IA32_DEBUGCTL (SDM 3B, 17.4.1): single step on branches. */
#define DEBUGCTL_BTF (1UL << 1)

static inline bool soft_canonical(uint64_t linear)
{
    return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

static inline unsigned soft_iopl(const struct soft_cpu *cpu)
{
    return cpu->rflags >> 12 & 3;
}

/* Write a general register by number; 32 bits clear the upper half, 16 leave the rest alone. */
static inline void soft_gpr_set(struct soft_cpu *cpu, unsigned index, uint64_t value, unsigned size)
{
    if (size == 8)
        cpu->gpr[index] = value;
    else if (size == 4)
        cpu->gpr[index] = (uint32_t)value;
    else
        cpu->gpr[index] = (cpu->gpr[index] & ~0xffffUL) | (uint16_t)value;
}

/* Raise #GP(0) unless `size` bytes from `port` on may be accessed now (IOPL, the TSS's bitmap), and
 * note I/O breakpoints. For IN, OUT, INS, OUTS before each access. io.c. */
void soft_check_io(struct soft_cpu *cpu, uint16_t port, unsigned size);

/* RDMSR, WRMSR after the privilege check; false is #GP(0). msr.c. */
bool soft_rdmsr(struct soft_cpu *cpu, uint32_t index, uint64_t *value);
bool soft_wrmsr(struct soft_cpu *cpu, uint32_t index, uint64_t value);
/* The guest's time-stamp counter now. */
uint64_t soft_rdtsc(struct soft_cpu *cpu);
/* The clock may have stopped, gone on or been set: find tsc_native and tsc_bias anew. msr.c. */
void soft_tsc_refresh(struct soft_cpu *cpu);

/* Groups of system instructions, one a file; soft_select_system asks them. */
soft_exec_fn soft_select_segment(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_transfer(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_control(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_syscall(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_io(const struct soft_decoded *decoded, struct insn *insn);
