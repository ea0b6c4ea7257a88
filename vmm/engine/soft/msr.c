// SPDX-License-Identifier: Apache-2.0
/*
 * Model-specific registers (SDM 4; APM 2, appendix A): one sorted table with what each needs to
 * exist, its bits, and what reading and writing does beyond storage.
 *
 * There is no machine-check bank, performance counter, or branch record: MCG_CAP says so, and what
 * is not in the table raises #GP, which kernels probe for.
 */
#include "vmm/engine/soft/msr.h"

#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/lapic.h"

#define ALWAYS (-1)

/* Whose processors have the register. */
enum msr_vendor {
    ANY,
    INTEL,
    AMD,
};

struct msr {
    uint32_t index;
    enum msr_vendor vendor;
    int feature;       /* enum cpu_feature, or ALWAYS */
    int32_t offset;    /* of its storage in struct cpu_msrs; -1: none */
    uint64_t writable; /* any other bit raises #GP on a write */
    /* NULL: the stored value. */
    bool (*read)(struct soft_cpu *cpu, uint32_t index, uint64_t *value);
    /* Checks and effects; NULL: none. `*value`, which it may adapt, is stored after it returned
     * true. */
    bool (*write)(struct soft_cpu *cpu, uint32_t index, uint64_t *value);
};

static uint64_t *storage(struct soft_cpu *cpu, const struct msr *msr)
{
    return (uint64_t *)((uint8_t *)&cpu->msrs + msr->offset);
}

uint64_t soft_rdtsc(struct soft_cpu *cpu)
{
    return clock_tsc(cpu->clock) + (uint64_t)cpu->tsc_offset;
}

/* ---- reading ---- */

static bool read_zero(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = 0;
    return true;
}

static bool read_never(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return false;
}

static bool read_tsc(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = soft_rdtsc(cpu);
    return true;
}

/* A revision above 0, as an updated processor has. */
static bool read_microcode(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->model->vendor == CPU_VENDOR_INTEL ? 1UL << 32 : 0x0a0011d1;
    return true;
}

/* Eight variable ranges, fixed ranges, write-combining. */
static bool read_mtrr_cap(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = CPU_MTRR_VARIABLE | 1 << 8 | 1 << 10;
    return true;
}

static bool read_arch_capabilities(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->model->words[CPU_ARCH_CAPABILITIES];
    return true;
}

static unsigned base_segment(uint32_t index)
{
    return index == 0xc0000100 ? SEG_FS : SEG_GS;
}

static bool read_segment_base(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->seg[base_segment(index)].base;
    return true;
}

static bool read_xss(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->xss;
    return true;
}

/* ---- writing ---- */

static bool write_canonical(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return cpu_canonical(*value);
}

static bool write_tsc(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    uint64_t old = (uint64_t)cpu->tsc_offset;

    soft_set_tsc(cpu, *value);
    cpu->msrs.tsc_adjust += (uint64_t)cpu->tsc_offset - old;
    return true;
}

static void shift_tsc(struct soft_cpu *cpu, uint64_t distance)
{
    cpu->tsc_offset = (int64_t)((uint64_t)cpu->tsc_offset + distance);
    soft_lapic_tsc_changed(cpu);
    soft_kvmclock_update(cpu);
}

void soft_set_tsc(struct soft_cpu *cpu, uint64_t tsc)
{
    shift_tsc(cpu, tsc - soft_rdtsc(cpu));
}

static bool write_tsc_adjust(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    shift_tsc(cpu, *value - cpu->msrs.tsc_adjust);
    return true;
}

static bool write_spec_ctrl(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    const struct cpu_definition *model = cpu->model;
    bool amd = model->vendor == CPU_VENDOR_AMD;
    uint64_t known = 0;

    known |= cpu_has(model, amd ? CPU_80000008_EBX : CPU_7_EDX, amd ? 14 : 26) ? 1 : 0; /* IBRS */
    known |= cpu_has(model, amd ? CPU_80000008_EBX : CPU_7_EDX, amd ? 15 : 27) ? 2 : 0; /* STIBP */
    known |= cpu_has(model, amd ? CPU_80000008_EBX : CPU_7_EDX, amd ? 24 : 31) ? 4 : 0; /* SSBD */
    return known && !(*value & ~known);
}

static bool read_spec_ctrl(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    uint64_t none = 0;

    *value = cpu->msrs.spec_ctrl;
    return write_spec_ctrl(cpu, index, &none);
}

/* IBPB: nothing of a guest's branches is predicted here. */
static bool write_pred_cmd(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return cpu_has_feature(cpu->model, CPU_SPEC_CTRL) || cpu_has_feature(cpu->model, CPU_IBPB);
}

static bool write_misc_enable(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    const uint64_t fast_strings = 1;

    return !((*value ^ cpu->msrs.misc_enable) & ~fast_strings);
}

static bool write_sysenter_address(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    if (cpu->model->vendor == CPU_VENDOR_INTEL)
        return cpu_canonical(*value);
    *value = (uint32_t)*value; /* AMD's ignore the upper half */
    return true;
}

static bool all_types_valid(uint64_t value, bool pat)
{
    for (unsigned i = 0; i < 64; i += 8) {
        if (!cpu_memory_type_valid(value >> i & 0xff, pat))
            return false;
    }
    return true;
}

static bool write_pat(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return all_types_valid(*value, true);
}

static bool write_mtrr_fixed(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return all_types_valid(*value, false);
}

static bool write_mtrr_def_type(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return cpu_memory_type_valid(*value & 0xff, false);
}

static bool within_physical(const struct soft_cpu *cpu, uint64_t value)
{
    return !(value >> cpu->model->physical_bits);
}

static bool write_mtrr_base(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return cpu_memory_type_valid(*value & 0xff, false) && within_physical(cpu, *value);
}

static bool write_mtrr_mask(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return within_physical(cpu, *value);
}

static bool write_tsc_aux(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    if (*value >> 32 && cpu->model->vendor == CPU_VENDOR_INTEL)
        return false;
    *value = (uint32_t)*value; /* AMD's ignore the upper half */
    return true;
}

static bool read_efer(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->msrs.efer;
    return true;
}

static bool write_efer(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return soft_write_efer(cpu, *value);
}

static bool write_segment_base(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    if (!cpu_canonical(*value))
        return false;
    cpu->seg[base_segment(index)].base = *value;
    return true;
}

/* ---- kvmclock; its first two numbers lie in Intel's range, guests of before 2010 use them ---- */

static bool read_wall_clock(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->msrs.kvm_wall_clock;
    return true;
}

static bool write_wall_clock(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    cpu->msrs.kvm_wall_clock = *value;
    soft_kvmclock_write_wall(cpu, *value);
    return true;
}

static bool read_system_time(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = cpu->msrs.kvm_system_time;
    return true;
}

static bool write_system_time(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    cpu->msrs.kvm_system_time = *value;
    soft_kvmclock_update(cpu);
    return true;
}

/* ---- the table ---- */

#define AT(member) offsetof(struct cpu_msrs, member)
#define ALL_BITS   (~0UL)
#define LOW_HALF   0xffffffffUL
#define MTRR_FIXED(index_, n)                                                                  \
    {                                                                                          \
        (index_), ANY, CPU_MTRR, AT(mtrr_fixed[n]), 0x0707070707070707, NULL, write_mtrr_fixed \
    }
#define MTRR_VARIABLE(n)                                                                  \
    {0x200 + 2 * (n), ANY, CPU_MTRR, AT(mtrr_base[n]), ~0xf00UL, NULL, write_mtrr_base},  \
    {                                                                                     \
        0x201 + 2 * (n), ANY, CPU_MTRR, AT(mtrr_mask[n]), ~0x7ffUL, NULL, write_mtrr_mask \
    }

/* Sorted by index. */
static const struct msr msrs[] = {
    {0x10, ANY, ALWAYS, -1, ALL_BITS, read_tsc, write_tsc},
    {0x11, ANY, CPU_KVMCLOCK, -1, ALL_BITS, read_wall_clock, write_wall_clock},
    {0x12, ANY, CPU_KVMCLOCK, -1, ALL_BITS, read_system_time, write_system_time},
    {0x17, INTEL, ALWAYS, -1, 0, read_zero, NULL}, /* PLATFORM_ID */
    {0x3b, ANY, CPU_TSC_ADJUST, AT(tsc_adjust), ALL_BITS, NULL, write_tsc_adjust},
    {0x48, ANY, ALWAYS, AT(spec_ctrl), 7, read_spec_ctrl, write_spec_ctrl},
    {0x49, ANY, ALWAYS, -1, 1, read_never, write_pred_cmd},
    {0x8b, ANY, ALWAYS, -1, 0, read_microcode, NULL}, /* Intel's protocol writes 0 first */
    {0xfe, ANY, CPU_MTRR, -1, 0, read_mtrr_cap, NULL},
    {0x10a, ANY, CPU_HAS_ARCH_CAPABILITIES, -1, 0, read_arch_capabilities, NULL},
    {0x174, ANY, CPU_SYSENTER, AT(sysenter_cs), LOW_HALF, NULL, NULL},
    {0x175, ANY, CPU_SYSENTER, AT(sysenter_esp), ALL_BITS, NULL, write_sysenter_address},
    {0x176, ANY, CPU_SYSENTER, AT(sysenter_eip), ALL_BITS, NULL, write_sysenter_address},
    {0x179, ANY, CPU_MCA, -1, 0, read_zero, NULL}, /* MCG_CAP: no bank */
    {0x17a, ANY, CPU_MCA, AT(mcg_status), 7, NULL, NULL},
    {0x1a0, INTEL, ALWAYS, AT(misc_enable), ALL_BITS, NULL, write_misc_enable},
    {0x1d9, ANY, ALWAYS, AT(debugctl), DEBUGCTL_BTF, NULL, NULL}, /* no branch records */
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
    {0x277, ANY, CPU_PAT, AT(pat), ALL_BITS, NULL, write_pat},
    {0x2ff, ANY, CPU_MTRR, AT(mtrr_def_type), 0xcff, NULL, write_mtrr_def_type},
    {0xda0, ANY, CPU_XSAVES, -1, 0, read_xss, NULL},
    {0x4b564d00, ANY, CPU_KVMCLOCK2, -1, ALL_BITS, read_wall_clock, write_wall_clock},
    {0x4b564d01, ANY, CPU_KVMCLOCK2, -1, ALL_BITS, read_system_time, write_system_time},
    {0xc0000080, ANY, ALWAYS, -1, ALL_BITS, read_efer, write_efer},
    {0xc0000081, ANY, CPU_SYSCALL, AT(star), ALL_BITS, NULL, NULL},
    {0xc0000082, ANY, CPU_LONG_MODE, AT(lstar), ALL_BITS, NULL, write_canonical},
    {0xc0000083, ANY, CPU_LONG_MODE, AT(cstar), ALL_BITS, NULL, write_canonical},
    {0xc0000084, ANY, CPU_LONG_MODE, AT(fmask), LOW_HALF, NULL, NULL},
    {0xc0000100, ANY, CPU_LONG_MODE, -1, ALL_BITS, read_segment_base, write_segment_base},
    {0xc0000101, ANY, CPU_LONG_MODE, -1, ALL_BITS, read_segment_base, write_segment_base},
    {0xc0000102, ANY, CPU_LONG_MODE, AT(kernel_gs_base), ALL_BITS, NULL, write_canonical},
    {0xc0000103, ANY, CPU_RDTSCP, AT(tsc_aux), ALL_BITS, NULL, write_tsc_aux},
    {0xc0010010, AMD, ALWAYS, -1, 0, read_zero, NULL}, /* SYSCFG */
    /* HWCR: TLB flush filter, cache probe filter, IGNNE, McStatusWrEn, TscFreqSel */
    {0xc0010015, AMD, ALWAYS, AT(hwcr), 1 << 3 | 1 << 6 | 1 << 8 | 1 << 18 | 1 << 24, NULL, NULL},
    /* NB_CFG: Linux sets the bit for extended configuration by port CF8h and does not look
     * whether it stays; ECAM serves that here. */
    {0xc001001f, AMD, ALWAYS, -1, 1UL << 46, read_zero, NULL},
    /* DE_CFG: LFENCE serializes (1), a workaround that Zen 2 wants (9) */
    {0xc0011029, AMD, ALWAYS, AT(de_cfg), 1 << 1 | 1 << 9, NULL, NULL},
};

static const struct msr *find(const struct soft_cpu *cpu, uint32_t index)
{
    unsigned low = 0, high = sizeof(msrs) / sizeof(msrs[0]);

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (msrs[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == sizeof(msrs) / sizeof(msrs[0]) || msrs[low].index != index)
        return NULL;
    const struct msr *msr = &msrs[low];
    bool amd = cpu->model->vendor == CPU_VENDOR_AMD;
    if ((msr->vendor == INTEL && amd) || (msr->vendor == AMD && !amd))
        return NULL;
    return msr->feature == ALWAYS || cpu_has_feature(cpu->model, msr->feature) ? msr : NULL;
}

static bool belongs_to_lapic(uint32_t index)
{
    return (index >= 0x800 && index <= 0x8ff) || index == 0x1b || index == 0x6e0;
}

bool soft_rdmsr(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    if (belongs_to_lapic(index))
        return soft_lapic_rdmsr(cpu, index, value);
    const struct msr *msr = find(cpu, index);
    if (!msr)
        return false;
    if (msr->read)
        return msr->read(cpu, index, value);
    *value = *storage(cpu, msr);
    return true;
}

bool soft_wrmsr(struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    if (belongs_to_lapic(index))
        return soft_lapic_wrmsr(cpu, index, value);
    const struct msr *msr = find(cpu, index);
    if (!msr || value & ~msr->writable || (msr->write && !msr->write(cpu, index, &value)))
        return false;
    if (msr->offset >= 0)
        *storage(cpu, msr) = value;
    return true;
}
