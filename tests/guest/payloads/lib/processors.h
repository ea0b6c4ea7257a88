// SPDX-License-Identifier: Apache-2.0
/*
 * Several processors: their start by INIT and SIPI, their local APICs in either mode, and work for
 * all of them at once. A payload that includes this gets two to CPUS_MAX.
 */
#pragma once

#include "payload.h"

#define LAPIC    0xfee00000UL
#define CPUS_MAX 8 /* flat logical addresses have a bit each */
#define AP_START 0x8000UL
#define AP_STACK 8192UL
#define PATIENCE (60UL * 4000000000UL) /* ticks */
#define NMI      2

#define ICR_NMI       (4U << 8)
#define ICR_INIT      (5U << 8)
#define ICR_SIPI      (6U << 8)
#define ICR_LOGICAL   (1U << 11)
#define ICR_ASSERT    (1U << 14)
#define ICR_SELF      (1U << 18)
#define ICR_ALL       (2U << 18)
#define ICR_OTHERS    (3U << 18)
#define MSR_APIC_BASE 0x1b
#define MSR_X2APIC    0x800

extern char ap_trampoline[], ap_trampoline_end[];
extern void (*ap_entry)(void);
extern uint64_t ap_stacks;

static volatile uint32_t *const lapic = (volatile uint32_t *)LAPIC;
static struct {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) idt_pointer;

static unsigned cpus;
static volatile bool x2apic;
static volatile unsigned started, misnamed, finished;

static inline void pause(void)
{
    asm volatile("pause" ::: "memory");
}

/* ---- the local APIC, by whichever way is switched on ---- */

static inline uint32_t apic_read(unsigned offset)
{
    return x2apic ? rdmsr(MSR_X2APIC + offset / 16) : lapic[offset / 4];
}

static inline void apic_write(unsigned offset, uint32_t value)
{
    if (x2apic)
        wrmsr(MSR_X2APIC + offset / 16, value);
    else
        lapic[offset / 4] = value;
}

static inline unsigned self(void)
{
    return x2apic ? apic_read(0x20) : apic_read(0x20) >> 24;
}

static inline void send(uint32_t destination, uint32_t command)
{
    if (x2apic) {
        asm volatile("mfence" ::: "memory");
        wrmsr(MSR_X2APIC + 0x30, (uint64_t)destination << 32 | command);
        return;
    }
    lapic[0x310 / 4] = destination << 24;
    lapic[0x300 / 4] = command;
}

/* ---- work for all ---- */

static void (*volatile job)(unsigned cpu);
static volatile unsigned job_number;

static inline bool reaches(volatile unsigned *value, unsigned wanted)
{
    uint64_t start = rdtsc();

    while (*value < wanted) {
        if (rdtsc() - start > PATIENCE)
            return false;
        pause();
    }
    return true;
}

/* Let every processor, this one too, run fn(its number). */
static inline void everywhere(void (*fn)(unsigned cpu), const char *name)
{
    finished = 0;
    job = fn;
    __atomic_fetch_add(&job_number, 1, __ATOMIC_SEQ_CST);
    asm volatile("sti");
    fn(0);
    asm volatile("cli");
    check(reaches(&finished, cpus - 1), "%s: %u of %u are done", name, finished, cpus - 1);
}

static inline void ap_main(void)
{
    uint32_t r[4], b[4];
    unsigned cpu, done;

    asm volatile("lidt %0" ::"m"(idt_pointer));
    cpu = self();
    apic_write(0xf0, 0x1ff);
    cpuid(1, 0, r);
    cpuid(0xb, 0, b);
    if (r[1] >> 24 != cpu || b[3] != cpu)
        __atomic_fetch_add(&misnamed, 1, __ATOMIC_SEQ_CST);
    done = job_number;
    __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
    asm volatile("sti");
    for (;;) {
        while (job_number == done)
            pause();
        done = job_number;
        job(cpu);
        __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
    }
}

/* ---- start ---- */

static inline void start_others(void)
{
    memcpy((void *)AP_START, ap_trampoline, ap_trampoline_end - ap_trampoline);
    ap_entry = ap_main;
    asm volatile("sidt %0" : "=m"(idt_pointer));
    apic_write(0xf0, 0x1ff);
    send(0, ICR_OTHERS | ICR_ASSERT | ICR_INIT);
    send(0, ICR_OTHERS | ICR_ASSERT | ICR_SIPI | AP_START >> 12);
    send(0, ICR_OTHERS | ICR_ASSERT | ICR_SIPI | AP_START >> 12);
    check(reaches(&started, cpus - 1), "%u of %u processors started", started, cpus - 1);
    check(!misnamed, "CPUID tells %u processors another id than their APIC", misnamed);
}

/* Count the processors and start all others; without at least one other the payload ends here. */
static inline void processors_begin(void)
{
    uint32_t r[4];

    cpuid(0xb, 1, r);
    cpus = r[1];
    if (cpus < 2 || cpus > CPUS_MAX) {
        check(false, "%u processors; give the machine 2 to %u", cpus, CPUS_MAX);
        finish();
    }
    ap_stacks = (uint64_t)page_alloc() + 4096;
    for (unsigned i = 0; i < 4 * CPUS_MAX; i++)
        ap_stacks = (uint64_t)page_alloc() + 4096;
    start_others();
}
