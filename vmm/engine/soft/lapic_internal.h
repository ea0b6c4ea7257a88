// SPDX-License-Identifier: Apache-2.0
/* The local APIC between its files: lapic.c (core and messages), lapic_register.c (what the guest
 * reads and writes), lapic_timer.c. */
#pragma once

#include <pthread.h>

#include "vmm/engine/soft/lapic.h"

/* Register offsets in the xAPIC page; x2APIC's MSR is 800H + offset / 16 (SDM 3A, table 11-1). */
enum lapic_register {
    LAPIC_ID = 0x20,
    LAPIC_VERSION = 0x30,
    LAPIC_TPR = 0x80,
    LAPIC_APR = 0x90,
    LAPIC_PPR = 0xa0,
    LAPIC_EOI = 0xb0,
    LAPIC_REMOTE_READ = 0xc0,
    LAPIC_LDR = 0xd0,
    LAPIC_DFR = 0xe0,
    LAPIC_SVR = 0xf0,
    LAPIC_ISR = 0x100,
    LAPIC_TMR = 0x180,
    LAPIC_IRR = 0x200,
    LAPIC_ESR = 0x280,
    LAPIC_ICR = 0x300,
    LAPIC_ICR_HIGH = 0x310,
    LAPIC_LVT_TIMER = 0x320,
    LAPIC_LVT_THERMAL = 0x330,
    LAPIC_LVT_PERF = 0x340,
    LAPIC_LVT_LINT0 = 0x350,
    LAPIC_LVT_LINT1 = 0x360,
    LAPIC_LVT_ERROR = 0x370,
    LAPIC_TIMER_INITIAL = 0x380,
    LAPIC_TIMER_CURRENT = 0x390,
    LAPIC_TIMER_DIVIDE = 0x3e0,
    LAPIC_SELF_IPI = 0x3f0,
};

#define LAPIC_VERSION_VALUE 0x00050014U /* integrated, six entries in the local vector table */

#define SVR_ENABLED (1U << 8)
#define LVT_MASKED  (1U << 16)
#define LVT_REMOTE  (1U << 14)
#define LVT_LEVEL   (1U << 15)

#define BASE_BSP     (1UL << 8)
#define BASE_X2APIC  (1UL << 10)
#define BASE_ENABLED (1UL << 11)

/* Error status bits (SDM 3A, 11.5.3). */
#define ESR_SEND_ILLEGAL     (1U << 5)
#define ESR_RECEIVE_ILLEGAL  (1U << 6)
#define ESR_ILLEGAL_REGISTER (1U << 7)

enum lapic_timer_mode {
    LAPIC_ONE_SHOT,
    LAPIC_PERIODIC,
    LAPIC_DEADLINE,
};

struct soft_apics {
    unsigned capacity;
    _Atomic bool extint;   /* LINT0 of vCPU 0 */
    _Atomic unsigned turn; /* who is asked first for a lowest-priority message */
    struct soft_lapic *_Atomic lapics[];
};

struct soft_lapic {
    struct soft_apics *apics;
    struct soft_cpu *cpu;
    pthread_mutex_t lock;
    struct cpu_lapic regs; /* without the timer's count, which is below */
    bool extint_message;   /* one ExtINT by message, not yet taken */
    uint8_t sipi_vector;

    /* Of the vCPU's thread alone. */
    struct clock_timer *timer;
    int64_t timer_start_ns; /* when the count was `timer_initial` last */
    bool timer_counting;
};

static inline bool lapic_x2apic(const struct soft_lapic *lapic)
{
    return lapic->regs.base_msr & BASE_X2APIC;
}

static inline bool lapic_hardware_enabled(const struct soft_lapic *lapic)
{
    return lapic->regs.base_msr & BASE_ENABLED;
}

static inline bool lapic_software_enabled(const struct soft_lapic *lapic)
{
    return lapic->regs.svr & SVR_ENABLED;
}

static inline enum lapic_timer_mode lapic_timer_mode(const struct soft_lapic *lapic)
{
    return (enum lapic_timer_mode)(lapic->regs.lvt_timer >> 17 & 3);
}

/* lapic.c; `_locked`: with lapic->lock held. */
uint8_t lapic_ppr_locked(const struct soft_lapic *lapic);
/* What an entry of the local vector table does when its source fires. */
void lapic_local_deliver_locked(struct soft_lapic *lapic, uint32_t lvt);
void lapic_error_locked(struct soft_lapic *lapic, uint32_t bits);
/* Ask the vCPU to look when an interrupt may be taken now. */
void lapic_notify_locked(struct soft_lapic *lapic);
void lapic_eoi(struct soft_lapic *lapic);
/* Carry out the command in regs.icr. Without the lock. */
void lapic_send_command(struct soft_lapic *lapic);
/* Put the register page where regs.base_msr says. */
void lapic_place_page(struct soft_lapic *lapic);

/* lapic_timer.c; on the vCPU's thread (or while it is parked), with the lock held. */
void lapic_timer_callback(void *opaque);
void lapic_timer_start_locked(struct soft_lapic *lapic, uint32_t initial);
void lapic_timer_stop_locked(struct soft_lapic *lapic);
void lapic_timer_divide_locked(struct soft_lapic *lapic, uint32_t divide);
void lapic_timer_mode_changed_locked(struct soft_lapic *lapic, uint32_t old_lvt);
void lapic_timer_deadline_locked(struct soft_lapic *lapic, uint64_t deadline);
uint32_t lapic_timer_current_locked(const struct soft_lapic *lapic);
void lapic_timer_restore_locked(struct soft_lapic *lapic, uint32_t current);
