// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC's registers as the guest reaches them: the xAPIC page, where illegal accesses set
 * bits in the error register, and the x2APIC MSRs, where they raise #GP (SDM 3A, 11.4.1, 11.12).
 */
#include "vmm/engine/soft/lapic_internal.h"

#define LVT_TIMER_WRITABLE (0xffU | LVT_MASKED | 3U << 17)
#define LVT_WRITABLE       (0x7ffU | LVT_MASKED)
#define LVT_LINT_WRITABLE  (0xa7ffU | LVT_MASKED)
#define LVT_ERROR_WRITABLE (0xffU | LVT_MASKED)
#define SVR_WRITABLE       0x3ffU
#define ICR_LOW_WRITABLE   0xccfffU

/* The entry of the local vector table at `offset` and its writable bits; NULL for another offset.
 */
static uint32_t *lvt_entry(struct soft_lapic *lapic, unsigned offset, uint32_t *writable)
{
    *writable = LVT_WRITABLE;
    switch (offset) {
    case LAPIC_LVT_TIMER:
        *writable = LVT_TIMER_WRITABLE;
        if (!cpu_has_feature(lapic->cpu->model, CPU_TSC_DEADLINE))
            *writable &= ~(2U << 17);
        return &lapic->regs.lvt_timer;
    case LAPIC_LVT_THERMAL:
        return &lapic->regs.lvt_thermal;
    case LAPIC_LVT_PERF:
        return &lapic->regs.lvt_perf;
    case LAPIC_LVT_LINT0:
        *writable = LVT_LINT_WRITABLE;
        return &lapic->regs.lvt_lint0;
    case LAPIC_LVT_LINT1:
        *writable = LVT_LINT_WRITABLE;
        return &lapic->regs.lvt_lint1;
    case LAPIC_LVT_ERROR:
        *writable = LVT_ERROR_WRITABLE;
        return &lapic->regs.lvt_error;
    }
    return NULL;
}

/* ---- reading ---- */

static bool read_locked(struct soft_lapic *lapic, unsigned offset, uint32_t *value)
{
    const struct cpu_lapic *regs = &lapic->regs;
    uint32_t writable;
    const uint32_t *lvt = lvt_entry(lapic, offset, &writable);

    if (lvt) {
        *value = *lvt;
        return true;
    }
    if (offset >= LAPIC_ISR && offset < LAPIC_ESR) {
        const uint32_t *const bits[] = {regs->isr, regs->tmr, regs->irr};

        *value = bits[(offset - LAPIC_ISR) / 0x80][offset >> 4 & 7];
        return true;
    }
    switch (offset) {
    case LAPIC_ID:
        *value = lapic_x2apic(lapic) ? regs->id : regs->id << 24;
        return true;
    case LAPIC_VERSION:
        *value = LAPIC_VERSION_VALUE;
        return true;
    case LAPIC_TPR:
        *value = regs->tpr;
        return true;
    case LAPIC_PPR:
        *value = lapic_ppr_locked(lapic);
        return true;
    case LAPIC_LDR:
        *value = regs->ldr;
        return true;
    case LAPIC_SVR:
        *value = regs->svr;
        return true;
    case LAPIC_ESR:
        *value = regs->esr;
        return true;
    case LAPIC_ICR:
        *value = (uint32_t)regs->icr;
        return true;
    case LAPIC_TIMER_INITIAL:
        *value = regs->timer_initial;
        return true;
    case LAPIC_TIMER_CURRENT:
        *value = lapic_timer_current_locked(lapic);
        return true;
    case LAPIC_TIMER_DIVIDE:
        *value = regs->timer_divide;
        return true;
    }
    return false;
}

/* Registers of the xAPIC alone. */
static bool read_xapic_locked(struct soft_lapic *lapic, unsigned offset, uint32_t *value)
{
    switch (offset) {
    case LAPIC_DFR:
        *value = lapic->regs.dfr;
        return true;
    case LAPIC_ICR_HIGH:
        *value = lapic->regs.icr >> 32;
        return true;
    case LAPIC_APR:
        *value = lapic_ppr_locked(lapic);
        return true;
    case LAPIC_EOI:
    case LAPIC_REMOTE_READ:
        *value = 0;
        return true;
    }
    return read_locked(lapic, offset, value);
}

uint64_t soft_lapic_mmio_read(struct soft_cpu *cpu, unsigned offset, unsigned size)
{
    struct soft_lapic *lapic = cpu->lapic;
    uint32_t value = 0;

    pthread_mutex_lock(&lapic->lock);
    if (!read_xapic_locked(lapic, offset & 0xff0, &value))
        lapic_error_locked(lapic, ESR_ILLEGAL_REGISTER);
    pthread_mutex_unlock(&lapic->lock);
    /* Only the first four of each 16 bytes are there. */
    return (offset & 15) < 4 ? value >> (offset & 3) * 8 : 0;
}

/* ---- writing ---- */

static void write_svr_locked(struct soft_lapic *lapic, uint32_t value)
{
    struct cpu_lapic *regs = &lapic->regs;

    regs->svr = value & SVR_WRITABLE;
    if (regs->svr & SVR_ENABLED) {
        lapic_notify_locked(lapic);
        return;
    }
    regs->lvt_timer |= LVT_MASKED;
    regs->lvt_thermal |= LVT_MASKED;
    regs->lvt_perf |= LVT_MASKED;
    regs->lvt_lint0 |= LVT_MASKED;
    regs->lvt_lint1 |= LVT_MASKED;
    regs->lvt_error |= LVT_MASKED;
}

static void write_lvt_locked(struct soft_lapic *lapic, uint32_t *lvt, uint32_t writable,
                             uint32_t value)
{
    uint32_t old = *lvt;

    /* Timer mode 3 does not exist; such an entry counts as one-shot. */
    if (lvt == &lapic->regs.lvt_timer && (value >> 17 & 3) == 3)
        value &= ~(3U << 17);
    *lvt = (old & LVT_REMOTE) | (value & writable);
    if (!lapic_software_enabled(lapic))
        *lvt |= LVT_MASKED;
    if (lvt == &lapic->regs.lvt_timer)
        lapic_timer_mode_changed_locked(lapic, old);
    if (lvt == &lapic->regs.lvt_lint0)
        soft_request(lapic->cpu, SOFT_REQUEST_INTERRUPT);
}

/* Registers without an effect on others; false for another offset. */
static bool write_locked(struct soft_lapic *lapic, unsigned offset, uint32_t value)
{
    uint32_t writable;
    uint32_t *lvt = lvt_entry(lapic, offset, &writable);

    if (lvt) {
        write_lvt_locked(lapic, lvt, writable, value);
        return true;
    }
    switch (offset) {
    case LAPIC_TPR:
        lapic->regs.tpr = value & 0xff;
        lapic_notify_locked(lapic);
        return true;
    case LAPIC_SVR:
        write_svr_locked(lapic, value);
        return true;
    case LAPIC_ESR:
        lapic->regs.esr = lapic->regs.esr_pending;
        lapic->regs.esr_pending = 0;
        return true;
    case LAPIC_TIMER_INITIAL:
        lapic_timer_start_locked(lapic, value);
        return true;
    case LAPIC_TIMER_DIVIDE:
        lapic_timer_divide_locked(lapic, value & 0xb);
        return true;
    }
    return false;
}

static bool write_xapic_locked(struct soft_lapic *lapic, unsigned offset, uint32_t value)
{
    switch (offset) {
    case LAPIC_LDR:
        lapic->regs.ldr = value & 0xff000000;
        return true;
    case LAPIC_DFR:
        lapic->regs.dfr = value | 0x0fffffff;
        return true;
    case LAPIC_ICR:
        lapic->regs.icr = (lapic->regs.icr & ~0xffffffffUL) | (value & ICR_LOW_WRITABLE);
        return true;
    case LAPIC_ICR_HIGH:
        lapic->regs.icr = (uint32_t)lapic->regs.icr | (uint64_t)(value & 0xff000000) << 32;
        return true;
    case LAPIC_EOI:
    case LAPIC_ID: /* fixed, as on processors since Nehalem */
        return true;
    }
    return write_locked(lapic, offset, value);
}

void soft_lapic_mmio_write(struct soft_cpu *cpu, unsigned offset, unsigned size, uint64_t value)
{
    struct soft_lapic *lapic = cpu->lapic;

    if (size != 4 || offset & 15)
        return; /* undefined by the manual; nothing happens on processors */
    pthread_mutex_lock(&lapic->lock);
    if (!write_xapic_locked(lapic, offset, (uint32_t)value))
        lapic_error_locked(lapic, ESR_ILLEGAL_REGISTER);
    pthread_mutex_unlock(&lapic->lock);
    if (offset == LAPIC_EOI)
        lapic_eoi(lapic);
    else if (offset == LAPIC_ICR)
        lapic_send_command(lapic);
}

/* ---- x2APIC ---- */

#define MSR_APIC_BASE    0x1bU
#define MSR_TSC_DEADLINE 0x6e0U
#define MSR_X2APIC_FIRST 0x800U
#define MSR_X2APIC_LAST  0x8ffU

static unsigned x2apic_offset(uint32_t index)
{
    return (index - MSR_X2APIC_FIRST) << 4;
}

static bool x2apic_read(struct soft_lapic *lapic, uint32_t index, uint64_t *value)
{
    uint32_t low = 0;

    if (!lapic_x2apic(lapic))
        return false;
    pthread_mutex_lock(&lapic->lock);
    bool known = read_locked(lapic, x2apic_offset(index), &low);
    *value = x2apic_offset(index) == LAPIC_ICR ? lapic->regs.icr : low;
    pthread_mutex_unlock(&lapic->lock);
    return known;
}

/* Bits that a write may have set, 0 for a register that cannot be written. */
static uint64_t x2apic_writable(struct soft_lapic *lapic, unsigned offset)
{
    uint32_t writable;

    if (lvt_entry(lapic, offset, &writable))
        /* Delivery status and remote IRR are read-only, not reserved. */
        return writable | 1U << 12 |
               (offset == LAPIC_LVT_LINT0 || offset == LAPIC_LVT_LINT1 ? LVT_REMOTE : 0);
    switch (offset) {
    case LAPIC_TPR:
    case LAPIC_SELF_IPI:
        return 0xff;
    case LAPIC_SVR:
        return SVR_WRITABLE;
    case LAPIC_ICR:
        return 0xffffffff00000000UL | ICR_LOW_WRITABLE;
    case LAPIC_TIMER_INITIAL:
        return 0xffffffff;
    case LAPIC_TIMER_DIVIDE:
        return 0xb;
    }
    return 0;
}

static void x2apic_command(struct soft_lapic *lapic, uint64_t icr)
{
    pthread_mutex_lock(&lapic->lock);
    lapic->regs.icr = icr;
    pthread_mutex_unlock(&lapic->lock);
    lapic_send_command(lapic);
}

static void x2apic_self_ipi(struct soft_lapic *lapic, uint8_t vector)
{
    const struct soft_message message = {
        .destination = lapic->regs.id, .wide = true, .vector = vector};

    if (vector >= 16) {
        soft_apics_send(lapic->apics, &message);
        return;
    }
    pthread_mutex_lock(&lapic->lock);
    lapic_error_locked(lapic, ESR_SEND_ILLEGAL);
    pthread_mutex_unlock(&lapic->lock);
}

static bool x2apic_write(struct soft_lapic *lapic, uint32_t index, uint64_t value)
{
    unsigned offset = x2apic_offset(index);

    if (!lapic_x2apic(lapic))
        return false;
    if (offset == LAPIC_EOI) {
        if (value == 0)
            lapic_eoi(lapic);
        return value == 0;
    }
    if (value & ~x2apic_writable(lapic, offset) ||
        (offset == LAPIC_LVT_TIMER && (value >> 17 & 3) == 3))
        return false;
    if (offset == LAPIC_ICR) {
        x2apic_command(lapic, value);
        return true;
    }
    if (offset == LAPIC_SELF_IPI) {
        x2apic_self_ipi(lapic, (uint8_t)value);
        return true;
    }
    pthread_mutex_lock(&lapic->lock);
    bool known = write_locked(lapic, offset, (uint32_t)value);
    pthread_mutex_unlock(&lapic->lock);
    return known;
}

/* ---- IA32_APIC_BASE ---- */

/* Which mode may follow which (SDM 3A, figure 11-27). Modes are EN | EXTD << 1. */
static bool transition_allowed(uint64_t old, uint64_t new)
{
    bool was_on = old & BASE_ENABLED, was_x2 = old & BASE_X2APIC;
    bool on = new &BASE_ENABLED, x2 = new &BASE_X2APIC;

    if (x2 && !on)
        return false;
    if (was_x2)
        return x2 || !on;
    return !x2 || was_on;
}

static bool write_base(struct soft_lapic *lapic, uint64_t value)
{
    struct soft_cpu *cpu = lapic->cpu;
    uint64_t old = lapic->regs.base_msr;
    uint64_t valid = BASE_BSP | BASE_ENABLED | ((1UL << cpu->model->physical_bits) - 0x1000);

    if (cpu_has_feature(cpu->model, CPU_X2APIC))
        valid |= BASE_X2APIC;
    if (value & ~valid || !transition_allowed(old, value))
        return false;
    pthread_mutex_lock(&lapic->lock);
    lapic->regs.base_msr = value;
    if (!(value & BASE_ENABLED) && old & BASE_ENABLED) {
        /* Switched off it forgets; LINT0's wire to the 8259 pair needs no entry then. */
        lapic_timer_stop_locked(lapic);
        cpu_lapic_init(&lapic->regs);
    }
    if (value & BASE_X2APIC && !(old & BASE_X2APIC)) {
        lapic->regs.ldr = cpu_lapic_x2apic_ldr(lapic->regs.id);
        lapic->regs.icr &= 0xffffffff;
    }
    pthread_mutex_unlock(&lapic->lock);
    lapic_place_page(lapic);
    soft_request(cpu, SOFT_REQUEST_INTERRUPT);
    return true;
}

static void write_deadline(struct soft_lapic *lapic, uint64_t value)
{
    pthread_mutex_lock(&lapic->lock);
    if (lapic_timer_mode(lapic) == LAPIC_DEADLINE)
        lapic_timer_deadline_locked(lapic, value);
    pthread_mutex_unlock(&lapic->lock);
}

bool soft_lapic_rdmsr(struct soft_cpu *cpu, uint32_t index, uint64_t *value)
{
    struct soft_lapic *lapic = cpu->lapic;

    if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST)
        return x2apic_read(lapic, index, value);
    if (index == MSR_APIC_BASE) {
        *value = lapic->regs.base_msr;
        return true;
    }
    if (index == MSR_TSC_DEADLINE && cpu_has_feature(cpu->model, CPU_TSC_DEADLINE)) {
        *value = lapic->regs.tsc_deadline;
        return true;
    }
    return false;
}

bool soft_lapic_wrmsr(struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    struct soft_lapic *lapic = cpu->lapic;

    if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST)
        return x2apic_write(lapic, index, value);
    if (index == MSR_APIC_BASE)
        return write_base(lapic, value);
    if (index == MSR_TSC_DEADLINE && cpu_has_feature(cpu->model, CPU_TSC_DEADLINE)) {
        write_deadline(lapic, value);
        return true;
    }
    return false;
}
