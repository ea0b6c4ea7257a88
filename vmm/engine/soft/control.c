// SPDX-License-Identifier: Apache-2.0
/*
 * Control registers (SDM 3A, 2.5, 4.1 and 9.8.5): which values are legal by mode and model, when
 * the PAE pointers are loaded, when long mode begins and ends, and which translations fall.
 */
#include "vmm/engine/soft/control.h"

#include "vmm/engine/soft/segment.h"
#include "vmm/engine/soft/translator/window.h"
#include "vmm/engine/soft/walk.h"

#define CR0_DEFINED                                                                            \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
     CR0_PG)
#define CR4_ALTERS_PAGING (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE)
#define CR3_NO_FLUSH      (1UL << 63)
#define CR3_PCID          0xfffUL
#define XCR0_X87          (1UL << 0)
#define XCR0_SSE          (1UL << 1)
#define XCR0_AVX          (1UL << 2)
#define XCR0_MPX          (3UL << 3)
#define XCR0_AVX512       (7UL << 5)

/* Paging with PDPTEs: PAE, not in long mode. */
static bool uses_pdptr(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & (EFER_LMA | EFER_LME));
}

static void load_pdptr_or_fault(struct soft_cpu *cpu, uint64_t cr3)
{
    if (!soft_load_pdptr(cpu, cr3))
        soft_general_protection(cpu, 0);
}

/* Turning paging on: into long mode where EFER.LME says so. Gives the new EFER. */
static uint64_t enable_paging(struct soft_cpu *cpu)
{
    uint64_t efer = cpu->msrs.efer;

    if (!(efer & EFER_LME))
        return efer;
    if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[SEG_CS].attributes & SEGMENT_L))
        soft_general_protection(cpu, 0);
    if (cpu->model->vendor == CPU_VENDOR_INTEL && !(cpu->seg[SEG_TR].attributes & 8))
        soft_general_protection(cpu, 0);
    return efer | EFER_LMA;
}

static uint64_t disable_paging(struct soft_cpu *cpu)
{
    if (cpu->code_size == 8 || (cpu->cr4 & CR4_PCIDE))
        soft_general_protection(cpu, 0);
    return cpu->msrs.efer & ~EFER_LMA;
}

void soft_write_cr0(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t changed, efer = cpu->msrs.efer;

    if (value > UINT32_MAX || ((value & CR0_PG) && !(value & CR0_PE)) ||
        ((value & CR0_NW) && !(value & CR0_CD)))
        soft_general_protection(cpu, 0);
    value = (value & CR0_DEFINED) | CR0_ET;
    changed = value ^ cpu->cr0;
    if (changed & CR0_PG)
        efer = value & CR0_PG ? enable_paging(cpu) : disable_paging(cpu);
    if (uses_pdptr(value, cpu->cr4, efer) && (changed & (CR0_PG | CR0_CD | CR0_NW)))
        load_pdptr_or_fault(cpu, cpu->cr3);
    cpu->msrs.efer = efer;
    cpu->cr0 = value;
    if (changed & (CR0_PG | CR0_WP | CR0_PE))
        soft_tlb_flush(cpu, true);
    if (changed & (CR0_PG | CR0_PE))
        soft_window_flush(cpu);
    soft_update_mode(cpu);
    cpu->block_end = true;
}

void soft_write_cr3(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t reserved = ~((1UL << cpu->model->physical_bits) - 1), old = cpu->cr3;
    bool pcid = cpu->cr4 & CR4_PCIDE, keep;

    if (soft_long_mode(cpu) && (value & reserved & ~(pcid ? CR3_NO_FLUSH : 0)))
        soft_general_protection(cpu, 0);
    if (uses_pdptr(cpu->cr0, cpu->cr4, cpu->msrs.efer))
        load_pdptr_or_fault(cpu, value);
    keep = pcid && (value & CR3_NO_FLUSH) && (value & ~CR3_NO_FLUSH) == old;
    cpu->cr3 = value & ~(pcid ? CR3_NO_FLUSH : 0);
    if (pcid && ((cpu->cr3 ^ old) & CR3_PCID))
        soft_tlb_switch(cpu, old, cpu->cr3, value & CR3_NO_FLUSH);
    else if (!keep)
        soft_tlb_flush(cpu, false);
    soft_window_switch(cpu, pcid && (value & CR3_NO_FLUSH));
    cpu->block_end = true;
}

/* CR4's bits that the model has. */
static uint64_t cr4_defined(const struct cpu_definition *model)
{
    static const struct {
        uint64_t bits;
        uint8_t word, bit;
    } features[] = {
        {CR4_VME | CR4_PVI, CPU_1_EDX, 1},
        {CR4_TSD, CPU_1_EDX, 4},
        {CR4_DE, CPU_1_EDX, 2},
        {CR4_PSE, CPU_1_EDX, 3},
        {CR4_PAE, CPU_1_EDX, 6},
        {CR4_MCE, CPU_1_EDX, 7},
        {CR4_PGE, CPU_1_EDX, 13},
        {CR4_OSFXSR, CPU_1_EDX, 24},
        {CR4_OSXMMEXCPT, CPU_1_EDX, 25},
        {CR4_UMIP, CPU_7_ECX, 2},
        {CR4_FSGSBASE, CPU_7_EBX, 0},
        {CR4_PCIDE, CPU_1_ECX, 17},
        {CR4_OSXSAVE, CPU_1_ECX, 26},
        {CR4_SMEP, CPU_7_EBX, 7},
        {CR4_SMAP, CPU_7_EBX, 20},
        {CR4_PKE, CPU_7_ECX, 3},
    };
    uint64_t defined = CR4_PCE;

    for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++)
        if (cpu_has(model, features[i].word, features[i].bit))
            defined |= features[i].bits;
    return defined;
}

void soft_write_cr4(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t changed = value ^ cpu->cr4;

    if (value & ~cr4_defined(cpu->model))
        soft_general_protection(cpu, 0);
    if (soft_long_mode(cpu) && !(value & CR4_PAE))
        soft_general_protection(cpu, 0);
    if ((changed & value & CR4_PCIDE) && (!soft_long_mode(cpu) || (cpu->cr3 & CR3_PCID)))
        soft_general_protection(cpu, 0);
    if (uses_pdptr(cpu->cr0, value, cpu->msrs.efer) &&
        (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)))
        load_pdptr_or_fault(cpu, cpu->cr3);
    cpu->cr4 = value;
    if (changed & CR4_ALTERS_PAGING) {
        soft_tlb_flush(cpu, true);
        soft_window_flush(cpu);
    }
    if (changed & CR4_DE)
        soft_update_debug(cpu);
    soft_update_mode(cpu);
    cpu->block_end = true;
}

bool soft_write_efer(struct soft_cpu *cpu, uint64_t value)
{
    const struct cpu_definition *model = cpu->model;
    uint64_t old = cpu->msrs.efer, defined = EFER_LMA;

    defined |= cpu_has(model, CPU_80000001_EDX, 11) ? EFER_SCE : 0;
    defined |= cpu_has(model, CPU_80000001_EDX, 29) ? EFER_LME : 0;
    defined |= cpu_has(model, CPU_80000001_EDX, 20) ? EFER_NXE : 0;
    defined |= cpu_has(model, CPU_80000001_EDX, 25) ? EFER_FFXSR : 0;
    defined |= cpu_has_feature(model, CPU_AUTO_IBRS) ? EFER_AIBRSE : 0;
    if (value & ~defined)
        return false;
    if (((value ^ old) & EFER_LME) && (cpu->cr0 & CR0_PG))
        return false;
    cpu->msrs.efer = (value & ~EFER_LMA) | (old & EFER_LMA);
    if ((value ^ old) & EFER_NXE) {
        soft_tlb_flush(cpu, true);
        soft_window_flush(cpu);
    }
    soft_update_mode(cpu);
    cpu->block_end = true;
    return true;
}

void soft_write_xcr0(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t mpx = value & XCR0_MPX, avx512 = value & XCR0_AVX512;

    if (!(value & XCR0_X87) || (value & ~cpu->model->xcr0_mask))
        soft_general_protection(cpu, 0);
    if ((value & XCR0_AVX) && !(value & XCR0_SSE))
        soft_general_protection(cpu, 0);
    if ((mpx && mpx != XCR0_MPX) || (avx512 && avx512 != XCR0_AVX512) ||
        (avx512 && !(value & XCR0_AVX)))
        soft_general_protection(cpu, 0);
    cpu->xcr0 = value;
    cpu->block_end = true;
}

void soft_write_pkru(struct soft_cpu *cpu, uint32_t value)
{
    bool changed = value != cpu->pkru;

    cpu->pkru = value;
    if (!changed)
        return;
    soft_tlb_flush(cpu, true);
    soft_window_update(cpu);
}
