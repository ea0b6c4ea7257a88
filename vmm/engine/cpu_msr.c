// SPDX-License-Identifier: Apache-2.0
/* The table behind cpu_msr.h. */
#include "vmm/engine/cpu_msr.h"

#include <stddef.h>

#define ANY    (-1)
#define INTEL  CPU_VENDOR_INTEL
#define AMD    CPU_VENDOR_AMD
#define ALWAYS (-1)

#define MSR_MICROCODE         0x8b
#define MSR_SPEC_CTRL         0x48
#define MSR_PRED_CMD          0x49
#define MSR_MTRR_CAP          0xfe
#define MSR_ARCH_CAPABILITIES 0x10a

#define AT(member) offsetof(struct cpu_msrs, member)
#define ALL_BITS   (~0UL)
#define LOW_HALF   0xffffffffUL
#define MTRR_FIXED(index, n)                                                          \
    {                                                                                 \
        (index), CPU_MSR_STORED, ANY, CPU_MTRR, AT(mtrr_fixed[n]), 0x0707070707070707 \
    }
#define MTRR_VARIABLE(n)                                                           \
    {0x200 + 2 * (n), CPU_MSR_STORED, ANY, CPU_MTRR, AT(mtrr_base[n]), ~0xf00UL},  \
    {                                                                              \
        0x201 + 2 * (n), CPU_MSR_STORED, ANY, CPU_MTRR, AT(mtrr_mask[n]), ~0x7ffUL \
    }

const struct cpu_msr cpu_msrs[] = {
    {0x10, CPU_MSR_COMPUTED, ANY, ALWAYS, -1, ALL_BITS}, /* TSC */
    /* kvmclock; its first two numbers lie in Intel's range, guests of before 2010 use them */
    {0x11, CPU_MSR_COMPUTED, ANY, CPU_KVMCLOCK, -1, ALL_BITS},
    {0x12, CPU_MSR_COMPUTED, ANY, CPU_KVMCLOCK, -1, ALL_BITS},
    {0x17, CPU_MSR_CONSTANT, INTEL, ALWAYS, -1, 0}, /* PLATFORM_ID */
    {0x3b, CPU_MSR_STORED, ANY, CPU_TSC_ADJUST, AT(tsc_adjust), ALL_BITS},
    {MSR_SPEC_CTRL, CPU_MSR_STORED, ANY, ALWAYS, AT(spec_ctrl), 7},
    {MSR_PRED_CMD, CPU_MSR_COMPUTED, ANY, ALWAYS, -1, 1},
    {MSR_MICROCODE, CPU_MSR_CONSTANT, ANY, ALWAYS, -1, 0}, /* Intel's protocol writes 0 first */
    {MSR_MTRR_CAP, CPU_MSR_CONSTANT, ANY, CPU_MTRR, -1, 0},
    {MSR_ARCH_CAPABILITIES, CPU_MSR_CONSTANT, ANY, CPU_HAS_ARCH_CAPABILITIES, -1, 0},
    {0x174, CPU_MSR_STORED, ANY, CPU_SYSENTER, AT(sysenter_cs), LOW_HALF},
    {0x175, CPU_MSR_STORED, ANY, CPU_SYSENTER, AT(sysenter_esp), ALL_BITS},
    {0x176, CPU_MSR_STORED, ANY, CPU_SYSENTER, AT(sysenter_eip), ALL_BITS},
    {0x179, CPU_MSR_CONSTANT, ANY, CPU_MCA, -1, 0}, /* MCG_CAP: no bank */
    {0x17a, CPU_MSR_INERT, ANY, CPU_MCA, AT(mcg_status), 7},
    {0x1a0, CPU_MSR_INERT, INTEL, ALWAYS, AT(misc_enable), 1},  /* fast strings */
    {0x1d9, CPU_MSR_STORED, ANY, ALWAYS, AT(debugctl), 1 << 1}, /* BTF; no branch records */
    MTRR_VARIABLE(0),
    MTRR_VARIABLE(1),
    MTRR_VARIABLE(2),
    MTRR_VARIABLE(3),
    MTRR_VARIABLE(4),
    MTRR_VARIABLE(5),
    MTRR_VARIABLE(6),
    MTRR_VARIABLE(7),
    MTRR_FIXED(0x250, 0),
    MTRR_FIXED(0x258, 1),
    MTRR_FIXED(0x259, 2),
    MTRR_FIXED(0x268, 3),
    MTRR_FIXED(0x269, 4),
    MTRR_FIXED(0x26a, 5),
    MTRR_FIXED(0x26b, 6),
    MTRR_FIXED(0x26c, 7),
    MTRR_FIXED(0x26d, 8),
    MTRR_FIXED(0x26e, 9),
    MTRR_FIXED(0x26f, 10),
    {0x277, CPU_MSR_STORED, ANY, CPU_PAT, AT(pat), ALL_BITS},
    {0x2ff, CPU_MSR_STORED, ANY, CPU_MTRR, AT(mtrr_def_type), 0xcff},
    {0xda0, CPU_MSR_COMPUTED, ANY, CPU_XSAVES, -1, 0},
    {0x4b564d00, CPU_MSR_COMPUTED, ANY, CPU_KVMCLOCK2, -1, ALL_BITS},
    {0x4b564d01, CPU_MSR_COMPUTED, ANY, CPU_KVMCLOCK2, -1, ALL_BITS},
    {0xc0000080, CPU_MSR_STORED, ANY, ALWAYS, AT(efer), ALL_BITS},
    {0xc0000081, CPU_MSR_STORED, ANY, CPU_SYSCALL, AT(star), ALL_BITS},
    {0xc0000082, CPU_MSR_STORED, ANY, CPU_LONG_MODE, AT(lstar), ALL_BITS},
    {0xc0000083, CPU_MSR_STORED, ANY, CPU_LONG_MODE, AT(cstar), ALL_BITS},
    {0xc0000084, CPU_MSR_STORED, ANY, CPU_LONG_MODE, AT(fmask), LOW_HALF},
    {0xc0000100, CPU_MSR_COMPUTED, ANY, CPU_LONG_MODE, -1, ALL_BITS}, /* FS.base */
    {0xc0000101, CPU_MSR_COMPUTED, ANY, CPU_LONG_MODE, -1, ALL_BITS}, /* GS.base */
    {0xc0000102, CPU_MSR_STORED, ANY, CPU_LONG_MODE, AT(kernel_gs_base), ALL_BITS},
    {0xc0000103, CPU_MSR_STORED, ANY, CPU_RDTSCP, AT(tsc_aux), ALL_BITS},
    {0xc0010010, CPU_MSR_CONSTANT, AMD, ALWAYS, -1, 0}, /* SYSCFG */
    /* HWCR: TLB flush filter, cache probe filter, IGNNE, McStatusWrEn, TscFreqSel */
    {0xc0010015, CPU_MSR_INERT, AMD, ALWAYS, AT(hwcr),
     1 << 3 | 1 << 6 | 1 << 8 | 1 << 18 | 1 << 24},
    /* NB_CFG: Linux sets the bit for extended configuration by port CF8h and does not look
     * whether it stays; ECAM serves that here. */
    {0xc001001f, CPU_MSR_CONSTANT, AMD, ALWAYS, -1, 1UL << 46},
    /* DE_CFG: LFENCE serializes (1), a workaround that Zen 2 wants (9) */
    {0xc0011029, CPU_MSR_INERT, AMD, ALWAYS, AT(de_cfg), 1 << 1 | 1 << 9},
};
const unsigned cpu_msrs_count = sizeof(cpu_msrs) / sizeof(cpu_msrs[0]);

/* Of SPEC_CTRL, by the features that each vendor shows. */
static uint64_t spec_ctrl_bits(const struct cpu_definition *cpu)
{
    bool amd = cpu->vendor == CPU_VENDOR_AMD;
    enum cpu_word word = amd ? CPU_80000008_EBX : CPU_7_EDX;

    return (cpu_has(cpu, word, amd ? 14 : 26) ? 1 : 0) | /* IBRS */
           (cpu_has(cpu, word, amd ? 15 : 27) ? 2 : 0) | /* STIBP */
           (cpu_has(cpu, word, amd ? 24 : 31) ? 4 : 0);  /* SSBD */
}

bool cpu_msr_exists(const struct cpu_definition *cpu, const struct cpu_msr *msr)
{
    if (msr->vendor >= 0 && msr->vendor != (int)cpu->vendor)
        return false;
    if (msr->index == MSR_SPEC_CTRL)
        return spec_ctrl_bits(cpu) != 0;
    if (msr->index == MSR_PRED_CMD)
        return cpu_has_feature(cpu, CPU_SPEC_CTRL) || cpu_has_feature(cpu, CPU_IBPB);
    return msr->feature == ALWAYS || cpu_has_feature(cpu, (enum cpu_feature)msr->feature);
}

const struct cpu_msr *cpu_msr_find(const struct cpu_definition *cpu, uint32_t index)
{
    unsigned low = 0, high = cpu_msrs_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (cpu_msrs[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == cpu_msrs_count || cpu_msrs[low].index != index)
        return NULL;
    return cpu_msr_exists(cpu, &cpu_msrs[low]) ? &cpu_msrs[low] : NULL;
}

uint64_t cpu_msr_constant(const struct cpu_definition *cpu, const struct cpu_msr *msr)
{
    switch (msr->index) {
    case MSR_MICROCODE: /* a revision above 0, as an updated processor has */
        return cpu->vendor == CPU_VENDOR_INTEL ? 1UL << 32 : 0x0a0011d1;
    case MSR_MTRR_CAP: /* eight variable ranges, fixed ranges, write-combining */
        return CPU_MTRR_VARIABLE | 1 << 8 | 1 << 10;
    case MSR_ARCH_CAPABILITIES:
        return cpu->words[CPU_ARCH_CAPABILITIES];
    }
    return 0;
}

bool cpu_msr_takes(const struct cpu_definition *cpu, const struct cpu_msr *msr, uint64_t old,
                   uint64_t value)
{
    uint64_t writable = msr->index == MSR_SPEC_CTRL ? spec_ctrl_bits(cpu) : msr->writable;

    return !((value ^ old) & ~writable);
}
