// SPDX-License-Identifier: Apache-2.0
/*
 * The canonical vCPU state: its stream table, and what power-on, INIT and SIPI make of it (SDM 3A,
 * chapter 10 and table 10-1).
 */
#include "vmm/engine/cpu_state.h"

#include <string.h>

#define SEGMENT_FIELD(member) STATE_U(struct cpu_segment, member)
static const struct state_field segment_fields[] = {
    SEGMENT_FIELD(selector),
    STATE_RANGE(struct cpu_segment, attributes, 0, 0x1fff),
    SEGMENT_FIELD(limit),
    SEGMENT_FIELD(base),
};
static const struct state_table segment_table =
    STATE_TABLE("segment", 1, struct cpu_segment, segment_fields);

static const struct state_field table_register_fields[] = {
    STATE_U(struct cpu_table_register, base),
    STATE_U(struct cpu_table_register, limit),
};
static const struct state_table table_register_table =
    STATE_TABLE("table-register", 1, struct cpu_table_register, table_register_fields);

#define X87_FIELD(member) STATE_U(struct cpu_x87, member)
static const struct state_field x87_fields[] = {
    X87_FIELD(control),
    X87_FIELD(status),
    X87_FIELD(tag),
    STATE_RANGE(struct cpu_x87, opcode, 0, 0x7ff),
    X87_FIELD(instruction_pointer),
    X87_FIELD(data_pointer),
    X87_FIELD(instruction_selector),
    X87_FIELD(data_selector),
    STATE_RAW(struct cpu_x87, registers),
};
static const struct state_table x87_table = STATE_TABLE("x87", 1, struct cpu_x87, x87_fields);

#define LAPIC_FIELD(member) STATE_U(struct cpu_lapic, member)
static const struct state_field lapic_fields[] = {
    LAPIC_FIELD(base_msr),
    LAPIC_FIELD(id),
    STATE_RANGE(struct cpu_lapic, tpr, 0, 0xff),
    LAPIC_FIELD(ldr),
    LAPIC_FIELD(dfr),
    LAPIC_FIELD(svr),
    STATE_ARRAY(struct cpu_lapic, isr),
    STATE_ARRAY(struct cpu_lapic, tmr),
    STATE_ARRAY(struct cpu_lapic, irr),
    LAPIC_FIELD(esr),
    LAPIC_FIELD(esr_pending),
    LAPIC_FIELD(icr),
    LAPIC_FIELD(lvt_timer),
    LAPIC_FIELD(lvt_thermal),
    LAPIC_FIELD(lvt_perf),
    LAPIC_FIELD(lvt_lint0),
    LAPIC_FIELD(lvt_lint1),
    LAPIC_FIELD(lvt_error),
    LAPIC_FIELD(lvt_cmci),
    LAPIC_FIELD(timer_initial),
    STATE_RANGE(struct cpu_lapic, timer_divide, 0, 0xb),
    LAPIC_FIELD(timer_current),
    LAPIC_FIELD(tsc_deadline),
};
static const struct state_table lapic_table =
    STATE_TABLE("lapic", 1, struct cpu_lapic, lapic_fields);

#define MSR_FIELD(member) STATE_U(struct cpu_msrs, member)
static const struct state_field msr_fields[] = {
    MSR_FIELD(efer),
    MSR_FIELD(star),
    MSR_FIELD(lstar),
    MSR_FIELD(cstar),
    MSR_FIELD(fmask),
    MSR_FIELD(kernel_gs_base),
    MSR_FIELD(sysenter_cs),
    MSR_FIELD(sysenter_esp),
    MSR_FIELD(sysenter_eip),
    MSR_FIELD(pat),
    STATE_RANGE(struct cpu_msrs, tsc_aux, 0, 0xffffffff),
    MSR_FIELD(tsc_adjust),
    MSR_FIELD(misc_enable),
    MSR_FIELD(debugctl),
    MSR_FIELD(spec_ctrl),
    MSR_FIELD(mcg_status),
    MSR_FIELD(hwcr),
    MSR_FIELD(de_cfg),
    MSR_FIELD(mtrr_def_type),
    STATE_ARRAY(struct cpu_msrs, mtrr_fixed),
    STATE_ARRAY(struct cpu_msrs, mtrr_base),
    STATE_ARRAY(struct cpu_msrs, mtrr_mask),
    MSR_FIELD(kvm_system_time),
    MSR_FIELD(kvm_wall_clock),
    MSR_FIELD(kvm_async_pf),
    MSR_FIELD(kvm_steal_time),
    MSR_FIELD(kvm_pv_eoi),
    MSR_FIELD(kvm_poll_control),
};
static const struct state_table msr_table = STATE_TABLE("msrs", 1, struct cpu_msrs, msr_fields);

#define CPU_FIELD(member) STATE_U(struct cpu_state, member)
static const struct state_field cpu_fields[] = {
    STATE_ARRAY(struct cpu_state, gpr),
    CPU_FIELD(rip),
    CPU_FIELD(rflags),
    STATE_NESTED_ARRAY(struct cpu_state, segments, &segment_table),
    STATE_NESTED(struct cpu_state, gdtr, &table_register_table),
    STATE_NESTED(struct cpu_state, idtr, &table_register_table),
    CPU_FIELD(cr0),
    CPU_FIELD(cr2),
    CPU_FIELD(cr3),
    CPU_FIELD(cr4),
    STATE_RANGE(struct cpu_state, cr8, 0, 15),
    STATE_ARRAY(struct cpu_state, dr),
    STATE_RANGE(struct cpu_state, dr6, 0, 0xffffffff),
    STATE_RANGE(struct cpu_state, dr7, 0, 0xffffffff),
    CPU_FIELD(xcr0),
    CPU_FIELD(xss),
    STATE_ARRAY(struct cpu_state, pdptr),
    STATE_NESTED(struct cpu_state, x87, &x87_table),
    STATE_RANGE(struct cpu_state, mxcsr, 0, 0xffff),
    STATE_RAW(struct cpu_state, vector),
    STATE_ARRAY(struct cpu_state, opmask),
    CPU_FIELD(pkru),
    STATE_NESTED(struct cpu_state, lapic, &lapic_table),
    STATE_NESTED(struct cpu_state, msrs, &msr_table),
    STATE_RANGE(struct cpu_state, mp_state, 0, CPU_SHUTDOWN),
    STATE_RANGE(struct cpu_state, interrupt_shadow, 0, 2),
    STATE_B(struct cpu_state, nmi_masked),
    STATE_B(struct cpu_state, nmi_pending),
    STATE_B(struct cpu_state, smi_pending),
    STATE_B(struct cpu_state, init_pending),
    STATE_B(struct cpu_state, in_smm),
    CPU_FIELD(smbase),
    CPU_FIELD(sipi_vector),
    STATE_B(struct cpu_state, event_pending),
    CPU_FIELD(event_vector),
    STATE_RANGE(struct cpu_state, event_type, 0, CPU_EVENT_EXCEPTION),
    STATE_B(struct cpu_state, event_has_error),
    CPU_FIELD(event_error),
    CPU_FIELD(event_payload),
    CPU_FIELD(tsc),
};

static bool check_loaded(const void *state, GError **error)
{
    return cpu_state_check(state, NULL, error);
}

const struct state_table cpu_state_table = {
    .name = "cpu",
    .version = 1,
    .size = sizeof(struct cpu_state),
    .fields = cpu_fields,
    .count = sizeof(cpu_fields) / sizeof(cpu_fields[0]),
    .check = check_loaded,
};

#define SLOT(index_, member)                         \
    {                                                \
        (index_), offsetof(struct cpu_msrs, member), \
    }
#define MTRR_PAIR(n) SLOT(0x200 + 2 * (n), mtrr_base[n]), SLOT(0x201 + 2 * (n), mtrr_mask[n])
const struct cpu_msr_slot cpu_msr_slots[] = {
    SLOT(0xc0000080, efer),
    SLOT(0xc0000081, star),
    SLOT(0xc0000082, lstar),
    SLOT(0xc0000083, cstar),
    SLOT(0xc0000084, fmask),
    SLOT(0xc0000102, kernel_gs_base),
    SLOT(0x174, sysenter_cs),
    SLOT(0x175, sysenter_esp),
    SLOT(0x176, sysenter_eip),
    SLOT(0x277, pat),
    SLOT(0xc0000103, tsc_aux),
    SLOT(0x3b, tsc_adjust),
    SLOT(0x1a0, misc_enable),
    SLOT(0x1d9, debugctl),
    SLOT(0x48, spec_ctrl),
    SLOT(0x17a, mcg_status),
    SLOT(0xc0010015, hwcr),
    SLOT(0xc0011029, de_cfg),
    SLOT(0x2ff, mtrr_def_type),
    SLOT(0x250, mtrr_fixed[0]),
    SLOT(0x258, mtrr_fixed[1]),
    SLOT(0x259, mtrr_fixed[2]),
    SLOT(0x268, mtrr_fixed[3]),
    SLOT(0x269, mtrr_fixed[4]),
    SLOT(0x26a, mtrr_fixed[5]),
    SLOT(0x26b, mtrr_fixed[6]),
    SLOT(0x26c, mtrr_fixed[7]),
    SLOT(0x26d, mtrr_fixed[8]),
    SLOT(0x26e, mtrr_fixed[9]),
    SLOT(0x26f, mtrr_fixed[10]),
    MTRR_PAIR(0),
    MTRR_PAIR(1),
    MTRR_PAIR(2),
    MTRR_PAIR(3),
    MTRR_PAIR(4),
    MTRR_PAIR(5),
    MTRR_PAIR(6),
    MTRR_PAIR(7),
    SLOT(0x4b564d01, kvm_system_time),
    SLOT(0x4b564d00, kvm_wall_clock),
    SLOT(0x4b564d02, kvm_async_pf),
    SLOT(0x4b564d03, kvm_steal_time),
    SLOT(0x4b564d04, kvm_pv_eoi),
    SLOT(0x4b564d05, kvm_poll_control),
};
const unsigned cpu_msr_slots_count = sizeof(cpu_msr_slots) / sizeof(cpu_msr_slots[0]);

/* ---- power-on, INIT, SIPI ---- */

#define LVT_MASKED        (1U << 16)
#define LVT_EXTINT        (7U << 8)
#define LAPIC_BASE_ADDR   0xfee00000UL
#define LAPIC_BASE_BSP    (1UL << 8)
#define LAPIC_BASE_X2APIC (1UL << 10)
#define LAPIC_BASE_ON     (1UL << 11)

void cpu_lapic_init(struct cpu_lapic *lapic)
{
    struct cpu_lapic kept = *lapic;

    memset(lapic, 0, sizeof(*lapic));
    lapic->base_msr = kept.base_msr;
    lapic->id = kept.id;
    lapic->dfr = 0xffffffff;
    if (kept.base_msr & LAPIC_BASE_X2APIC)
        lapic->ldr = cpu_lapic_x2apic_ldr(kept.id);
    lapic->svr = 0xff;
    lapic->lvt_timer = lapic->lvt_thermal = lapic->lvt_perf = LVT_MASKED;
    lapic->lvt_lint0 = lapic->lvt_lint1 = lapic->lvt_error = lapic->lvt_cmci = LVT_MASKED;
    /* The boot processor's LINT0 is wired through to the 8259 pair, as firmware leaves it
     * ("virtual wire", MP specification 3.6.2.2): a kernel that is booted directly relies on it. */
    if (kept.base_msr & LAPIC_BASE_BSP)
        lapic->lvt_lint0 = LVT_EXTINT;
}

void cpu_lapic_reset(struct cpu_lapic *lapic, bool bsp, uint32_t apic_id)
{
    lapic->base_msr = LAPIC_BASE_ADDR | LAPIC_BASE_ON | (bsp ? LAPIC_BASE_BSP : 0);
    lapic->id = apic_id;
    cpu_lapic_init(lapic);
}

static void reset_segments(struct cpu_state *state)
{
    for (unsigned i = 0; i < SEG_COUNT; i++)
        state->segments[i] =
            (struct cpu_segment){.attributes = 3 | SEGMENT_S | SEGMENT_P, .limit = 0xffff};
    state->segments[SEG_CS].selector = 0xf000;
    state->segments[SEG_CS].base = 0xffff0000;
    state->segments[SEG_CS].attributes = 11 | SEGMENT_S | SEGMENT_P;
    state->segments[SEG_LDTR].attributes = 2 | SEGMENT_P;
    state->segments[SEG_TR].attributes = 11 | SEGMENT_P;
}

/* What power-on and INIT have in common. */
static void reset_core(struct cpu_state *state, uint32_t signature, uint64_t cr0)
{
    memset(state->gpr, 0, sizeof(state->gpr));
    state->gpr[GPR_RDX] = signature;
    state->rip = 0xfff0;
    state->rflags = 2;
    reset_segments(state);
    state->gdtr = state->idtr = (struct cpu_table_register){.limit = 0xffff};
    state->cr0 = cr0;
    state->cr2 = state->cr3 = state->cr4 = state->cr8 = 0;
    memset(state->dr, 0, sizeof(state->dr));
    state->dr6 = 0xffff0ff0;
    state->dr7 = 0x400;
    memset(state->pdptr, 0, sizeof(state->pdptr));
    state->msrs.efer = 0;
    state->interrupt_shadow = 0;
    state->nmi_masked = state->nmi_pending = state->smi_pending = state->init_pending = false;
    state->event_pending = false;
    state->mp_state = state->lapic.base_msr & LAPIC_BASE_BSP ? CPU_RUNNABLE : CPU_WAIT_FOR_SIPI;
}

void cpu_state_reset(struct cpu_state *state, bool bsp, uint32_t apic_id, uint32_t signature)
{
    memset(state, 0, sizeof(*state));
    cpu_lapic_reset(&state->lapic, bsp, apic_id);
    reset_core(state, signature, 0x60000010);
    state->xcr0 = 1;
    state->mxcsr = 0x1f80;
    state->x87.control = 0x40;
    state->x87.tag = 0xff; /* all are +0.0, none is empty */
    state->msrs.pat = 0x0007040600070406;
    state->msrs.misc_enable = 1 | 1 << 11 | 1 << 12; /* fast strings; no BTS, no PEBS */
    state->msrs.hwcr = 1UL << 24;                    /* the TSC counts at the base frequency */
    state->msrs.de_cfg = 1 << 1;                     /* LFENCE serializes */
    state->smbase = 0x30000;
}

void cpu_state_init(struct cpu_state *state, uint32_t signature)
{
    const uint64_t kept = 1UL << 30 | 1UL << 29; /* CR0.CD, NW */

    cpu_lapic_init(&state->lapic);
    reset_core(state, signature, (state->cr0 & kept) | 0x10);
}

void cpu_state_sipi(struct cpu_state *state, uint8_t vector)
{
    state->segments[SEG_CS].selector = (uint16_t)(vector << 8);
    state->segments[SEG_CS].base = (uint64_t)vector << 12;
    state->rip = 0;
    state->mp_state = CPU_RUNNABLE;
}
