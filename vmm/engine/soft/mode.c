// SPDX-License-Identifier: Apache-2.0
/*
 * What the current mode is, kept in a form that the hot paths can test, and the rules of RFLAGS.
 *
 * CPL is SS.DPL as in hardware: it stays right between MOV CR0 and the first far jump, and with a
 * null SS in 64-bit mode (SDM 3A, 5.5; AMD APM 2, 15.5.1).
 */
#include "vmm/engine/soft/cpu.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/system.h"

void soft_update_mode(struct soft_cpu *cpu)
{
    const struct cpu_segment *cs = &cpu->seg[SEG_CS];

    if (!soft_protected(cpu))
        cpu->cpl = 0;
    else
        cpu->cpl = soft_v86(cpu) ? 3 : SEGMENT_DPL(cpu->seg[SEG_SS].attributes);
    if (soft_long_mode(cpu) && (cs->attributes & SEGMENT_L))
        cpu->code_size = 8;
    else
        cpu->code_size = cs->attributes & SEGMENT_DB ? 4 : 2;
    cpu->flat = cpu->code_size == 8;
    if (cpu->cpl == 3)
        cpu->mmu_mode =
            (cpu->cr0 & CR0_AM) && (cpu->rflags & FLAG_AC) ? SOFT_MMU_USER_ALIGNED : SOFT_MMU_USER;
    else if ((cpu->cr4 & CR4_SMAP) && (cpu->rflags & FLAG_AC))
        cpu->mmu_mode = SOFT_MMU_SUPERVISOR_AC;
    else
        cpu->mmu_mode = SOFT_MMU_SUPERVISOR;
    if (!cpu->flat && cpu->cpl == 3)
        soft_tlb_drop_high(cpu);
}

void soft_set_rflags(struct soft_cpu *cpu, uint64_t value, uint64_t mask)
{
    uint64_t old = cpu->rflags;

    mask &= FLAG_DEFINED;
    cpu->rflags = (old & ~mask) | (value & mask) | FLAG_FIXED;
    if ((old ^ cpu->rflags) & (FLAG_AC | FLAG_VM))
        soft_update_mode(cpu);
}
