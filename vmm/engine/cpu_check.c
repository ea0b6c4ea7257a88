// SPDX-License-Identifier: Apache-2.0
/*
 * Whether a processor can be in a state: what a stream or a debugger sends is checked here once,
 * for every engine (SDM 3A, 2.5 and 4.1; APM 2, 3.1).
 */
#include "vmm/engine/cpu_msr.h"

#define CR0_PE    1UL
#define CR0_NW    (1UL << 29)
#define CR0_CD    (1UL << 30)
#define CR0_PG    (1UL << 31)
#define CR0_KNOWN 0xe005003fUL

#define CR4_PAE     (1UL << 5)
#define CR4_PCIDE   (1UL << 17)
#define CR4_OSXSAVE (1UL << 18)

#define EFER_LME (1UL << 8)
#define EFER_LMA (1UL << 10)

#define RFLAGS_KNOWN 0x3f7fd7UL

struct dependence {
    unsigned bit;
    int feature; /* CPU_FEATURE(), or -1: always there */
    const char *name;
};

/* Bits of CR4 and the feature that each belongs to. */
static const struct dependence cr4_bits[] = {
    {0, CPU_FEATURE(CPU_1_EDX, 1), "VME"},
    {1, CPU_FEATURE(CPU_1_EDX, 1), "PVI"},
    {2, CPU_FEATURE(CPU_1_EDX, 4), "TSD"},
    {3, CPU_FEATURE(CPU_1_EDX, 2), "DE"},
    {4, CPU_FEATURE(CPU_1_EDX, 3), "PSE"},
    {5, CPU_FEATURE(CPU_1_EDX, 6), "PAE"},
    {6, CPU_FEATURE(CPU_1_EDX, 7), "MCE"},
    {7, CPU_FEATURE(CPU_1_EDX, 13), "PGE"},
    {8, -1, "PCE"},
    {9, CPU_FEATURE(CPU_1_EDX, 24), "OSFXSR"},
    {10, CPU_FEATURE(CPU_1_EDX, 25), "OSXMMEXCPT"},
    {11, CPU_FEATURE(CPU_7_ECX, 2), "UMIP"},
    {16, CPU_FEATURE(CPU_7_EBX, 0), "FSGSBASE"},
    {17, CPU_FEATURE(CPU_1_ECX, 17), "PCIDE"},
    {18, CPU_FEATURE(CPU_1_ECX, 26), "OSXSAVE"},
    {20, CPU_FEATURE(CPU_7_EBX, 7), "SMEP"},
    {21, CPU_FEATURE(CPU_7_EBX, 20), "SMAP"},
    {22, CPU_FEATURE(CPU_7_ECX, 3), "PKE"},
};

static const struct dependence efer_bits[] = {
    {0, CPU_SYSCALL, "SCE"}, {8, CPU_LONG_MODE, "LME"},   {10, CPU_LONG_MODE, "LMA"},
    {11, CPU_NX, "NXE"},     {14, CPU_FXSR_OPT, "FFXSR"}, {21, CPU_AUTO_IBRS, "AIBRSE"},
};

static bool refuse(GError **error, const char *what, uint64_t value)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "vCPU state: %s (0x%" G_GINT64_MODIFIER "x)", what, value);
    return false;
}

static bool bits_allowed(const char *reg, uint64_t value, const struct dependence *table,
                         unsigned count, const struct cpu_definition *cpu, GError **error)
{
    uint64_t known = 0;

    for (unsigned i = 0; i < count; i++) {
        int feature = table[i].feature;

        known |= 1UL << table[i].bit;
        if (cpu && value >> table[i].bit & 1 && feature >= 0 && !cpu_has_feature(cpu, feature)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "vCPU state: %s.%s is set, which CPU model '%s' does not have", reg,
                        table[i].name, cpu->name);
            return false;
        }
    }
    if (value & ~known) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "vCPU state: reserved bits of %s are set (0x%" G_GINT64_MODIFIER "x)", reg,
                    value & ~known);
        return false;
    }
    return true;
}

static bool check_control(const struct cpu_state *state, const struct cpu_definition *cpu,
                          GError **error)
{
    bool paging = state->cr0 & CR0_PG;
    uint64_t efer = state->msrs.efer;
    unsigned physical_bits = cpu ? cpu->physical_bits : 52;

    if (state->cr0 & ~CR0_KNOWN)
        return refuse(error, "reserved bits of CR0 are set", state->cr0);
    if (paging && !(state->cr0 & CR0_PE))
        return refuse(error, "CR0 has paging without protection", state->cr0);
    if (state->cr0 & CR0_NW && !(state->cr0 & CR0_CD))
        return refuse(error, "CR0 has NW without CD", state->cr0);
    if (!bits_allowed("CR4", state->cr4, cr4_bits, G_N_ELEMENTS(cr4_bits), cpu, error) ||
        !bits_allowed("EFER", efer, efer_bits, G_N_ELEMENTS(efer_bits), cpu, error))
        return false;
    if (!(efer & EFER_LMA) != !(efer & EFER_LME && paging))
        return refuse(error, "EFER.LMA does not agree with LME and paging", efer);
    if (efer & EFER_LMA && !(state->cr4 & CR4_PAE))
        return refuse(error, "long mode without CR4.PAE", state->cr4);
    if (state->cr4 & CR4_PCIDE && !(efer & EFER_LMA))
        return refuse(error, "CR4.PCIDE outside of long mode", state->cr4);
    if (state->cr3 >> physical_bits)
        return refuse(error, "CR3 is beyond physical memory", state->cr3);
    return true;
}

static bool check_xsave(const struct cpu_state *state, const struct cpu_definition *cpu,
                        GError **error)
{
    uint64_t xcr0 = state->xcr0;
    uint64_t allowed = cpu ? cpu->xcr0_mask | 1 : 0x2e7;

    if (xcr0 & ~allowed || !(xcr0 & 1) || (xcr0 & 4 && !(xcr0 & 2)) ||
        ((xcr0 & 0xe0) != 0 && (xcr0 & 0xe6) != 0xe6))
        return refuse(error, "XCR0 cannot be", xcr0);
    if (state->xss)
        return refuse(error, "IA32_XSS has components that do not exist", state->xss);
    return true;
}

static bool check_canonical(const struct cpu_state *state, GError **error)
{
    const struct cpu_msrs *msrs = &state->msrs;
    const uint64_t addresses[] = {
        state->gdtr.base,   state->idtr.base,   msrs->lstar,          msrs->cstar,
        msrs->sysenter_esp, msrs->sysenter_eip, msrs->kernel_gs_base,
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(addresses); i++) {
        if (!cpu_canonical(addresses[i]))
            return refuse(error, "an address is not canonical", addresses[i]);
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        if (!cpu_canonical(state->segments[i].base))
            return refuse(error, "a segment's base is not canonical", state->segments[i].base);
    }
    /* RIP may stand on the first byte beyond: the next fetch faults. */
    if (!cpu_canonical(state->rip) && !cpu_canonical(state->rip - 1))
        return refuse(error, "RIP is not canonical", state->rip);
    return true;
}

static bool check_memory_types(const struct cpu_msrs *msrs, GError **error)
{
    for (unsigned i = 0; i < 64; i += 8) {
        if (!cpu_memory_type_valid(msrs->pat >> i & 0xff, true))
            return refuse(error, "IA32_PAT has an unknown memory type", msrs->pat);
    }
    for (unsigned n = 0; n < G_N_ELEMENTS(msrs->mtrr_fixed); n++) {
        for (unsigned i = 0; i < 64; i += 8) {
            if (!cpu_memory_type_valid(msrs->mtrr_fixed[n] >> i & 0xff, false))
                return refuse(error, "a fixed MTRR has an unknown memory type",
                              msrs->mtrr_fixed[n]);
        }
    }
    for (unsigned n = 0; n < CPU_MTRR_VARIABLE; n++) {
        if (!cpu_memory_type_valid(msrs->mtrr_base[n] & 0xff, false) ||
            msrs->mtrr_base[n] & 0xf00 || msrs->mtrr_mask[n] & 0x7ff)
            return refuse(error, "a variable MTRR cannot be", msrs->mtrr_base[n]);
    }
    if (!cpu_memory_type_valid(msrs->mtrr_def_type & 0xff, false) || msrs->mtrr_def_type & ~0xcffUL)
        return refuse(error, "MTRR_DEF_TYPE cannot be", msrs->mtrr_def_type);
    return true;
}

/* A register that the processor does not have holds what it held at power-on, and one that it has
 * differs from that only where a guest can write. */
static bool check_msrs(const struct cpu_state *state, const struct cpu_definition *cpu,
                       GError **error)
{
    struct cpu_msrs held = state->msrs;
    struct cpu_state fresh;

    if (state->msrs.kvm_async_pf || state->msrs.kvm_steal_time || state->msrs.kvm_pv_eoi ||
        state->msrs.kvm_poll_control)
        return refuse(error, "a paravirtual MSR is set that is not offered",
                      state->msrs.kvm_async_pf);
    if (!cpu)
        return true;
    cpu_state_reset(&fresh, true, 0, 0);
    for (unsigned i = 0; i < cpu_msrs_count; i++) {
        const struct cpu_msr *msr = &cpu_msrs[i];

        if (msr->offset < 0)
            continue;
        uint64_t first = *cpu_msr_field(&fresh.msrs, msr);
        uint64_t value = *cpu_msr_field(&held, msr);
        if (value == first || (cpu_msr_exists(cpu, msr) && cpu_msr_takes(cpu, msr, first, value)))
            continue;
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "vCPU state: MSR 0x%x cannot be 0x%" G_GINT64_MODIFIER "x on CPU model '%s'",
                    msr->index, value, cpu->name);
        return false;
    }
    return true;
}

#define LVT_TIMER_BITS 0x710ffU
#define LVT_BITS       0x117ffU
#define LVT_LINT_BITS  0x1f7ffU

static bool check_lapic(const struct cpu_lapic *lapic, const struct cpu_definition *cpu,
                        GError **error)
{
    unsigned physical_bits = cpu ? cpu->physical_bits : 52;

    /* x2APIC mode needs the APIC on; bits 0-7 and 9 are reserved. */
    if (lapic->base_msr >> physical_bits || lapic->base_msr & 0x2ff ||
        (lapic->base_msr & 0xc00) == 0x400 ||
        (cpu && lapic->base_msr & 0x400 && !cpu_has_feature(cpu, CPU_X2APIC)))
        return refuse(error, "IA32_APIC_BASE cannot be", lapic->base_msr);
    if (lapic->irr[0] & 0xffff || lapic->isr[0] & 0xffff || lapic->tmr[0] & 0xffff)
        return refuse(error, "the local APIC has a vector below 16", lapic->irr[0]);
    if (lapic->lvt_timer & ~LVT_TIMER_BITS || (lapic->lvt_timer & 3U << 17) == 3U << 17 ||
        (lapic->lvt_thermal | lapic->lvt_perf | lapic->lvt_error | lapic->lvt_cmci) & ~LVT_BITS ||
        (lapic->lvt_lint0 | lapic->lvt_lint1) & ~LVT_LINT_BITS)
        return refuse(error, "reserved bits of the local vector table are set", lapic->lvt_timer);
    if (lapic->timer_divide & 4 || lapic->svr & ~0x13ffU)
        return refuse(error, "reserved bits of the local APIC are set", lapic->svr);
    return true;
}

/* An exception has a vector below 32 that is not NMI's; an interrupt has no error code. */
static bool event_possible(const struct cpu_state *state)
{
    switch (state->event_type) {
    case CPU_EVENT_EXTERNAL:
        return !state->event_has_error && !state->event_payload;
    case CPU_EVENT_NMI:
        return state->event_vector == 2 && !state->event_has_error && !state->event_payload;
    case CPU_EVENT_EXCEPTION:
        return state->event_vector < 32 && state->event_vector != 2 &&
               (!state->event_payload || state->event_vector == 1);
    }
    return false;
}

bool cpu_state_check(const struct cpu_state *state, const struct cpu_definition *cpu,
                     GError **error)
{
    if (state->mp_state > CPU_SHUTDOWN)
        return refuse(error, "the processor's state is unknown", state->mp_state);
    if (state->rflags & ~RFLAGS_KNOWN || !(state->rflags & 2))
        return refuse(error, "RFLAGS cannot be", state->rflags);
    if (state->event_pending && !event_possible(state))
        return refuse(error, "the pending event cannot be", state->event_vector);
    if (state->mxcsr & ~0xffffU)
        return refuse(error, "reserved bits of MXCSR are set", state->mxcsr);
    if (state->dr6 >> 32 || state->dr7 >> 32)
        return refuse(error, "the upper half of DR6 or DR7 is not 0", state->dr7);
    if (state->in_smm)
        return refuse(error, "system management mode is not offered", state->smbase);
    return check_control(state, cpu, error) && check_xsave(state, cpu, error) &&
           check_canonical(state, error) && check_memory_types(&state->msrs, error) &&
           check_msrs(state, cpu, error) && check_lapic(&state->lapic, cpu, error);
}
