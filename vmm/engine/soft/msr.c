// SPDX-License-Identifier: Apache-2.0
/*
 * Model-specific registers of the software CPU: cpu_msr.h says which there are and holds the bits
 * of each; here is what reading and writing does beyond storage.
 */
#include "vmm/engine/soft/msr.h"

#include <x86intrin.h>

#include "vmm/engine/cpu_msr.h"
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/lapic.h"

uint64_t soft_rdtsc(struct soft_cpu *cpu)
{
    if (cpu->tsc_native)
        return __rdtsc() + cpu->tsc_bias;
    return clock_tsc(cpu->clock) + (uint64_t)cpu->tsc_offset;
}

void soft_tsc_refresh(struct soft_cpu *cpu)
{
    cpu->tsc_native = clock_tsc_bias(cpu->clock, &cpu->tsc_bias);
    cpu->tsc_bias += (uint64_t)cpu->tsc_offset;
}

/* ---- reading ---- */

static bool read_never(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    return false;
}

static bool read_tsc(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    *value = soft_rdtsc(cpu);
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
    cpu->tsc_bias += distance;
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

static bool write_efer(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    if (!soft_write_efer(cpu, *value))
        return false;
    *value = cpu->msrs.efer; /* what the processor keeps of it */
    return true;
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

struct handler {
    uint32_t index;
    /* NULL: the stored value. */
    bool (*read)(struct soft_cpu *cpu, uint32_t index, uint64_t *value);
    /* Checks and effects; NULL: none. `*value`, which it may adapt, is stored after it returned
     * true. */
    bool (*write)(struct soft_cpu *cpu, uint32_t index, uint64_t *value);
};

/* Sorted by index. */
static const struct handler handlers[] = {
    {0x10, read_tsc, write_tsc},
    {0x11, read_wall_clock, write_wall_clock},
    {0x12, read_system_time, write_system_time},
    {0x3b, NULL, write_tsc_adjust},
    {0x49, read_never, NULL}, /* IBPB: nothing of a guest's branches is predicted here */
    {0x175, NULL, write_sysenter_address},
    {0x176, NULL, write_sysenter_address},
    {0x200, NULL, write_mtrr_base},
    {0x201, NULL, write_mtrr_mask},
    {0x202, NULL, write_mtrr_base},
    {0x203, NULL, write_mtrr_mask},
    {0x204, NULL, write_mtrr_base},
    {0x205, NULL, write_mtrr_mask},
    {0x206, NULL, write_mtrr_base},
    {0x207, NULL, write_mtrr_mask},
    {0x208, NULL, write_mtrr_base},
    {0x209, NULL, write_mtrr_mask},
    {0x20a, NULL, write_mtrr_base},
    {0x20b, NULL, write_mtrr_mask},
    {0x20c, NULL, write_mtrr_base},
    {0x20d, NULL, write_mtrr_mask},
    {0x20e, NULL, write_mtrr_base},
    {0x20f, NULL, write_mtrr_mask},
    {0x250, NULL, write_mtrr_fixed},
    {0x258, NULL, write_mtrr_fixed},
    {0x259, NULL, write_mtrr_fixed},
    {0x268, NULL, write_mtrr_fixed},
    {0x269, NULL, write_mtrr_fixed},
    {0x26a, NULL, write_mtrr_fixed},
    {0x26b, NULL, write_mtrr_fixed},
    {0x26c, NULL, write_mtrr_fixed},
    {0x26d, NULL, write_mtrr_fixed},
    {0x26e, NULL, write_mtrr_fixed},
    {0x26f, NULL, write_mtrr_fixed},
    {0x277, NULL, write_pat},
    {0x2ff, NULL, write_mtrr_def_type},
    {0xda0, read_xss, NULL},
    {0x4b564d00, read_wall_clock, write_wall_clock},
    {0x4b564d01, read_system_time, write_system_time},
    {0xc0000080, NULL, write_efer},
    {0xc0000082, NULL, write_canonical},
    {0xc0000083, NULL, write_canonical},
    {0xc0000100, read_segment_base, write_segment_base},
    {0xc0000101, read_segment_base, write_segment_base},
    {0xc0000102, NULL, write_canonical},
    {0xc0000103, NULL, write_tsc_aux},
};

/* The one of a register that needs none does nothing. */
static const struct handler *find(uint32_t index)
{
    static const struct handler none;
    unsigned low = 0, high = sizeof(handlers) / sizeof(handlers[0]);

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (handlers[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof(handlers) / sizeof(handlers[0]) && handlers[low].index == index
               ? &handlers[low]
               : &none;
}

static bool belongs_to_lapic(uint32_t index)
{
    return (index >= 0x800 && index <= 0x8ff) || index == 0x1b || index == 0x6e0;
}

bool soft_rdmsr(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    if (belongs_to_lapic(index))
        return soft_lapic_rdmsr(cpu, index, value);
    const struct cpu_msr *msr = cpu_msr_find(cpu->model, index);
    if (!msr)
        return false;
    if (msr->kind == CPU_MSR_CONSTANT) {
        *value = cpu_msr_constant(cpu->model, msr);
        return true;
    }
    const struct handler *handler = find(index);
    if (handler->read)
        return handler->read(cpu, index, value);
    *value = *cpu_msr_field(&cpu->msrs, msr);
    return true;
}

bool soft_wrmsr(struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    if (belongs_to_lapic(index))
        return soft_lapic_wrmsr(cpu, index, value);
    const struct cpu_msr *msr = cpu_msr_find(cpu->model, index);
    uint64_t old = msr && msr->offset >= 0 ? *cpu_msr_field(&cpu->msrs, msr) : 0;
    if (!msr || !cpu_msr_takes(cpu->model, msr, old, value))
        return false;
    const struct handler *handler = find(index);
    if (handler->write && !handler->write(cpu, index, &value))
        return false;
    if (msr->offset >= 0)
        *cpu_msr_field(&cpu->msrs, msr) = value;
    return true;
}
