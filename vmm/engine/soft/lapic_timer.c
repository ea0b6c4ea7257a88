// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC's timer (SDM 3A, 11.5.4): one-shot and periodic by a bus clock of 1 GHz, so that
 * a tick is a nanosecond of machine time, and TSC-deadline.
 *
 * The clock's thread only asks the vCPU to look; the vCPU decides whether the time has come and
 * arms the next period. So a guest that asks for a period of nanoseconds slows only itself, and
 * periods that passed in the meantime become one interrupt, as they would in IRR.
 */
#include "vmm/engine/soft/lapic_internal.h"

void lapic_timer_callback(void *opaque)
{
    soft_request(opaque, SOFT_REQUEST_TIMER);
}

/* Nanoseconds of one count. */
static int64_t divisor(const struct soft_lapic *lapic)
{
    uint32_t divide = lapic->regs.timer_divide;
    unsigned shift = ((divide & 3) | (divide >> 1 & 4)) + 1;

    return 1 << (shift & 7);
}

static int64_t period_ns(const struct soft_lapic *lapic)
{
    return lapic->regs.timer_initial * divisor(lapic);
}

static void arm_count(struct soft_lapic *lapic)
{
    clock_timer_arm(lapic->timer, lapic->timer_start_ns + period_ns(lapic));
}

void lapic_timer_stop_locked(struct soft_lapic *lapic)
{
    lapic->timer_counting = false;
    clock_timer_disarm(lapic->timer);
}

void lapic_timer_start_locked(struct soft_lapic *lapic, uint32_t initial)
{
    if (lapic_timer_mode(lapic) == LAPIC_DEADLINE)
        return;
    lapic->regs.timer_initial = initial;
    if (!initial) {
        lapic_timer_stop_locked(lapic);
        return;
    }
    lapic->timer_start_ns = clock_now(lapic->cpu->clock);
    lapic->timer_counting = true;
    arm_count(lapic);
}

uint32_t lapic_timer_current_locked(const struct soft_lapic *lapic)
{
    int64_t period = period_ns(lapic);

    if (!lapic->timer_counting || !period || lapic_timer_mode(lapic) == LAPIC_DEADLINE)
        return 0;
    int64_t passed = clock_now(lapic->cpu->clock) - lapic->timer_start_ns;

    if (lapic_timer_mode(lapic) == LAPIC_PERIODIC)
        passed %= period;
    /* Never 0 before the end: a saved timer with 0 left does not go on. */
    return passed < period ? lapic->regs.timer_initial - (uint32_t)(passed / divisor(lapic)) : 0;
}

/* Count on from `current` at the pace that is set now. */
static void count_from(struct soft_lapic *lapic, uint32_t current)
{
    int64_t gone = lapic->regs.timer_initial > current ? lapic->regs.timer_initial - current : 0;

    lapic->timer_counting = true;
    lapic->timer_start_ns = clock_now(lapic->cpu->clock) - gone * divisor(lapic);
    arm_count(lapic);
}

void lapic_timer_divide_locked(struct soft_lapic *lapic, uint32_t divide)
{
    uint32_t current = lapic_timer_current_locked(lapic);

    lapic->regs.timer_divide = divide;
    if (lapic->timer_counting)
        count_from(lapic, current);
}

void lapic_timer_mode_changed_locked(struct soft_lapic *lapic, uint32_t old_lvt)
{
    enum lapic_timer_mode old = old_lvt >> 17 & 3, mode = lapic_timer_mode(lapic);

    if (old == mode || (old != LAPIC_DEADLINE && mode != LAPIC_DEADLINE))
        return;
    lapic_timer_stop_locked(lapic);
    lapic->regs.timer_initial = 0;
    lapic->regs.tsc_deadline = 0;
}

static void arm_deadline(struct soft_lapic *lapic)
{
    struct soft_cpu *cpu = lapic->cpu;
    uint64_t deadline = lapic->regs.tsc_deadline;
    uint64_t tsc = clock_tsc(cpu->clock) + cpu->tsc_offset;

    if (tsc >= deadline)
        soft_request(cpu, SOFT_REQUEST_TIMER);
    else
        clock_timer_arm(lapic->timer, clock_tsc_to_ns(cpu->clock, deadline - cpu->tsc_offset));
}

void lapic_timer_deadline_locked(struct soft_lapic *lapic, uint64_t deadline)
{
    lapic->regs.tsc_deadline = deadline;
    if (deadline)
        arm_deadline(lapic);
    else
        clock_timer_disarm(lapic->timer);
}

void soft_lapic_tsc_changed(struct soft_cpu *cpu)
{
    struct soft_lapic *lapic = cpu->lapic;

    pthread_mutex_lock(&lapic->lock);
    if (lapic->regs.tsc_deadline)
        arm_deadline(lapic);
    pthread_mutex_unlock(&lapic->lock);
}

static void expire_deadline(struct soft_lapic *lapic)
{
    struct soft_cpu *cpu = lapic->cpu;

    if (!lapic->regs.tsc_deadline)
        return;
    if (clock_tsc(cpu->clock) + cpu->tsc_offset < lapic->regs.tsc_deadline) {
        arm_deadline(lapic);
        return;
    }
    lapic->regs.tsc_deadline = 0;
    lapic_local_deliver_locked(lapic, lapic->regs.lvt_timer & ~0x700U);
}

static void expire_count(struct soft_lapic *lapic)
{
    int64_t now = clock_now(lapic->cpu->clock), period = period_ns(lapic);

    if (!lapic->timer_counting || now - lapic->timer_start_ns < period)
        return;
    if (lapic_timer_mode(lapic) == LAPIC_PERIODIC) {
        lapic->timer_start_ns += (now - lapic->timer_start_ns) / period * period;
        arm_count(lapic);
    } else {
        lapic->timer_counting = false;
    }
    lapic_local_deliver_locked(lapic, lapic->regs.lvt_timer & ~0x700U);
}

void soft_lapic_timer(struct soft_cpu *cpu)
{
    struct soft_lapic *lapic = cpu->lapic;

    pthread_mutex_lock(&lapic->lock);
    if (lapic_timer_mode(lapic) == LAPIC_DEADLINE)
        expire_deadline(lapic);
    else
        expire_count(lapic);
    pthread_mutex_unlock(&lapic->lock);
}

void lapic_timer_restore_locked(struct soft_lapic *lapic, uint32_t current)
{
    if (lapic_timer_mode(lapic) == LAPIC_DEADLINE) {
        lapic_timer_deadline_locked(lapic, lapic->regs.tsc_deadline);
        return;
    }
    lapic->regs.tsc_deadline = 0;
    if (current && lapic->regs.timer_initial)
        count_from(lapic,
                   current > lapic->regs.timer_initial ? lapic->regs.timer_initial : current);
}
