// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupts and the clocks behind them: local APIC timer modes, priorities, self-IPIs, IOAPIC edge
 * and level, 8259, PIT, RTC, HPET, PM timer, and that all clocks agree.
 *
 * The host may take the CPU away between any two instructions, for longer than any interval that is
 * measured here. So nothing is said about how much happens in a time; an interval is bracketed by
 * reads of the TSC before and after both its ends, and an interrupt notes when it came. What must
 * come at last is waited for with much patience. The word "late" on the command line tells of a KVM
 * that emulates ring 0, looks for interrupts now and then, and may end one twice: when the host
 * takes the CPU away at an EOI, the interrupt after it is seen without its in-service bit, and its
 * level is sent once more.
 */
#include "payload.h"

#define LAPIC  0xfee00000UL
#define IOAPIC 0xfec00000UL
#define HPET   0xfed00000UL
#define VECTOR 0x60

/* Milliseconds until something is given up that would come at once on an idle host. */
#define PATIENCE 5000

static volatile uint32_t *const lapic = (volatile uint32_t *)LAPIC;
static volatile unsigned hits[256];
static volatile uint64_t hit_tsc[256]; /* of the last one */
static uint64_t tsc_per_ms;
static bool is_late;

static void count(struct frame *frame)
{
    hit_tsc[frame->vector] = rdtsc();
    hits[frame->vector]++;
    lapic[0xb0 / 4] = 0;
}

/* A level stays up until its device is told: the third interrupt tells the HPET. */
static void count_level(struct frame *frame)
{
    if (++hits[frame->vector] == 3)
        ((volatile uint64_t *)HPET)[0x20 / 8] = 1;
    lapic[0xb0 / 4] = 0;
}

static void count_pic(struct frame *frame)
{
    hits[frame->vector]++;
    if (frame->vector >= 0x28)
        outb(0xa0, 0x20);
    outb(0x20, 0x20);
}

/* Whether the length of an interval that began between the first two TSC values and ended between
 * the other two may have been `us`, give or take a hundredth. */
static bool lasted(const uint64_t tsc[4], uint64_t us)
{
    uint64_t length = us * tsc_per_ms / 1000;

    return tsc[2] - tsc[1] <= length + length / 100 && tsc[3] - tsc[0] >= length - length / 100;
}

static void wait_ms(unsigned ms)
{
    uint64_t end = rdtsc() + ms * tsc_per_ms;
    while (rdtsc() < end)
        asm volatile("pause");
}

/* Wait with interrupts on, at most `ms`, until the vector was seen. */
static bool wait_for(unsigned vector, unsigned ms)
{
    uint64_t end = rdtsc() + ms * tsc_per_ms;

    asm volatile("sti");
    while (!hits[vector] && rdtsc() < end)
        asm volatile("pause");
    asm volatile("cli");
    return hits[vector] != 0;
}

/* Wait in the same way for the vector's `least`-th interrupt. */
static bool wait_for_hits(unsigned vector, unsigned least)
{
    for (unsigned i = 0; i < PATIENCE && hits[vector] < least; i++)
        wait_for(0xff, 1);
    return hits[vector] >= least;
}

/* Take what is pending, so that it is not mistaken for what comes next. */
static void forget(unsigned vector)
{
    wait_for(0xff, 1);
    hits[vector] = 0;
}

static uint32_t pm_timer(void)
{
    return inl(0x608);
}

/* Both clocks at one instant; read again when the host took the CPU away in between. */
static uint32_t sample(uint64_t *tsc)
{
    uint64_t shortest = ~0UL;
    uint32_t at = 0;

    for (unsigned i = 0; i < 8; i++) {
        uint64_t before = rdtsc();
        uint32_t now = pm_timer();
        uint64_t took = rdtsc() - before;
        if (took < shortest) {
            shortest = took;
            *tsc = before;
            at = now;
        }
    }
    return at;
}

static void calibrate(void)
{
    uint64_t start = 0, end = 0;
    uint32_t first = sample(&start), passed;

    do
        passed = (sample(&end) - first) & 0xffffff;
    while (passed < 3579545 / 50);
    tsc_per_ms = (end - start) * 3580 / passed;
    check(tsc_per_ms > 100000 && tsc_per_ms < 20000000, "TSC runs at %lu kHz", tsc_per_ms);
}

static void ioapic_write(unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)IOAPIC = reg;
    *(volatile uint32_t *)(IOAPIC + 0x10) = value;
}

static uint32_t ioapic_read(unsigned reg)
{
    *(volatile uint32_t *)IOAPIC = reg;
    return *(volatile uint32_t *)(IOAPIC + 0x10);
}

static void ioapic_route(unsigned pin, uint32_t low)
{
    ioapic_write(0x10 + 2 * pin, 1 << 16);
    ioapic_write(0x11 + 2 * pin, (lapic[0x20 / 4] >> 24) << 24);
    ioapic_write(0x10 + 2 * pin, low);
}

static void self_ipi_priorities(void)
{
    hits[0x50] = hits[0x70] = 0;
    interrupt_set(0x50, count);
    interrupt_set(0x70, count);
    lapic[0x80 / 4] = 0x60; /* TPR: classes up to 6 wait */
    lapic[0x310 / 4] = 0;
    lapic[0x300 / 4] = 0x44000 | 0x50;
    lapic[0x300 / 4] = 0x44000 | 0x70;
    check(wait_for(0x70, PATIENCE), "the vector above TPR did not come");
    wait_for(0x50, 5);
    check(hits[0x50] == 0, "a vector below TPR came");
    check(lapic[(0x200 + 0x20) / 4] == 1 << 16, "IRR: %x", lapic[0x220 / 4]);
    lapic[0x80 / 4] = 0;
    check(wait_for(0x50, PATIENCE), "the held vector did not come after TPR went down");
    check(read_cr8() == 0, "CR8 %lx", read_cr8());
    write_cr8(5);
    check(lapic[0x80 / 4] == 0x50, "TPR after CR8: %x", lapic[0x80 / 4]);
    write_cr8(0);
}

static void lapic_timer_one_shot(void)
{
    uint32_t first, second;

    lapic[0x320 / 4] = 1 << 16;
    lapic[0x380 / 4] = ~0U;
    first = lapic[0x390 / 4];
    wait_ms(1);
    second = lapic[0x390 / 4];
    check(second < first, "the timer does not count: %u %u", first, second);

    hits[VECTOR] = 0;
    lapic[0x320 / 4] = VECTOR;
    lapic[0x380 / 4] = 2000000;
    check(wait_for(VECTOR, PATIENCE), "one-shot did not fire");
    wait_for(0xff, 20);
    check(hits[VECTOR] == 1, "one-shot fired %u times", hits[VECTOR]);
    check(lapic[0x390 / 4] == 0, "the count after one shot is %u", lapic[0x390 / 4]);
}

static void lapic_timer_periodic(void)
{
    hits[VECTOR] = 0;
    lapic[0x320 / 4] = VECTOR | 1 << 17;
    lapic[0x380 / 4] = 2000000;
    check(wait_for_hits(VECTOR, 3), "periodic fired %u times", hits[VECTOR]);
    lapic[0x380 / 4] = 0;
    forget(VECTOR);
}

static void lapic_timer_deadline(void)
{
    uint32_t leaf[4];
    uint64_t deadline;

    cpuid(1, 0, leaf);
    if (!(leaf[2] >> 24 & 1)) {
        skip("TSC deadline: not in CPUID");
        return;
    }
    lapic[0x320 / 4] = VECTOR | 2 << 17;
    asm volatile("mfence");
    deadline = rdtsc() + 5 * tsc_per_ms;
    wrmsr(0x6e0, deadline);
    check(wait_for(VECTOR, PATIENCE), "the TSC deadline did not fire");
    check(hit_tsc[VECTOR] >= deadline, "the TSC deadline %lx fired at %lx", deadline,
          hit_tsc[VECTOR]);
    check(rdmsr(0x6e0) == 0, "the deadline reads %lx after it fired", rdmsr(0x6e0));
    lapic[0x320 / 4] = 1 << 16;
}

static void lapic_timer(void)
{
    interrupt_set(VECTOR, count);
    lapic[0x3e0 / 4] = 0xb; /* divide by 1 */
    lapic_timer_one_shot();
    lapic_timer_periodic();
    lapic_timer_deadline();
}

static void pit_program(uint16_t count_)
{
    outb(0x43, 0x34);
    outb(0x40, count_);
    outb(0x40, count_ >> 8);
}

/* Mode 0 with the longest count. */
static void pit_quiet(void)
{
    outb(0x43, 0x30);
    outb(0x40, 0);
    outb(0x40, 0);
}

/* Count ticks of 10 ms over 100 ms at least: how many are missing of those that were due? Ticks
 * merge while the host takes the CPU away, but none is made up for later. */
static unsigned pit_ticks_missing(void)
{
    uint64_t start = rdtsc();

    pit_program(11932);
    forget(0x61); /* the output's rise at the control word */
    while (rdtsc() - start < 100 * tsc_per_ms)
        wait_for(0xff, 1);
    unsigned due = (rdtsc() - start) / (10 * tsc_per_ms);
    check(hits[0x61] <= due + 1, "PIT at 100 Hz: %u ticks where %u were due", hits[0x61], due);
    return due > hits[0x61] ? due - hits[0x61] : 0;
}

static void pit_through_ioapic(void)
{
    unsigned least = ~0U;

    interrupt_set(0x61, count);
    ioapic_route(2, 0x61);
    for (unsigned i = 0; i < 20 && least > 1; i++) {
        unsigned missing = pit_ticks_missing();
        least = missing < least ? missing : least;
        pit_quiet();
        forget(0x61);
    }
    check(least <= 1, "PIT at 100 Hz: %u of 10 ticks are missing at best", least);
    ioapic_write(0x14, 1 << 16);
}

static void pit_channel2(void)
{
    uint64_t tsc[4];

    outb(0x61, (inb(0x61) & ~2) | 1);
    outb(0x43, 0xb0); /* mode 0 */
    check(!(inb(0x61) & 0x20), "channel 2's output is high at once");
    outb(0x42, 11932 & 0xff);
    tsc[0] = rdtsc();
    outb(0x42, 11932 >> 8);
    tsc[1] = tsc[3] = rdtsc();
    do {
        tsc[2] = tsc[3];
        tsc[3] = rdtsc();
    } while (!(inb(0x61) & 0x20) && tsc[3] - tsc[1] < PATIENCE * tsc_per_ms);
    tsc[3] = rdtsc();
    check(lasted(tsc, 10000), "10 ms by channel 2 took %lu to %lu ticks of a TSC of %lu kHz",
          tsc[2] - tsc[1], tsc[3] - tsc[0], tsc_per_ms);
}

static void pit_through_pic(void)
{
    interrupt_set(0x20, count_pic);
    hits[0x20] = 0;
    outb(0x20, 0x11);
    outb(0x21, 0x20);
    outb(0x21, 4);
    outb(0x21, 1);
    outb(0xa0, 0x11);
    outb(0xa1, 0x28);
    outb(0xa1, 2);
    outb(0xa1, 1);
    outb(0x21, 0xfe);
    outb(0xa1, 0xff);
    lapic[0x350 / 4] = 0x700; /* LINT0: ExtINT */
    pit_program(11932);
    check(wait_for(0x20, PATIENCE), "the PIT did not come through the 8259");
    outb(0x21, 0xff);
    lapic[0x350 / 4] = 1 << 16;
    pit_quiet();
}

static uint8_t cmos(uint8_t index)
{
    outb(0x70, index);
    return inb(0x71);
}

static volatile unsigned rtc_flagged; /* interrupts that found PF */

/* A flag that is read lets the next interrupt come. */
static void count_rtc(struct frame *frame)
{
    rtc_flagged += (cmos(0x0c) & 0xc0) == 0xc0;
    count(frame);
}

static void rtc_periodic(void)
{
    interrupt_set(0x68, count_rtc);
    hits[0x68] = rtc_flagged = 0;
    ioapic_route(8, 0x68);
    outb(0x70, 0x0a);
    outb(0x71, 0x26); /* 1024 Hz */
    outb(0x70, 0x0b);
    outb(0x71, (cmos(0x0b) & 0x0f) | 0x42);
    cmos(0x0c);
    check(wait_for_hits(0x68, 5), "the RTC's periodic interrupt came %u times", hits[0x68]);
    /* What came in before the read above finds its flag taken away. */
    check(rtc_flagged + 1 >= hits[0x68], "RTC register C had PF %u of %u times", rtc_flagged,
          hits[0x68]);
    outb(0x70, 0x0b);
    outb(0x71, cmos(0x0b) & 0x0f);
    cmos(0x0c);
    ioapic_write(0x20, 1 << 16);
    forget(0x68);
}

static void hpet_counter(volatile uint64_t *hpet, uint64_t period)
{
    uint64_t tsc[4], first, passed;

    tsc[0] = rdtsc();
    first = hpet[0xf0 / 8];
    tsc[1] = rdtsc();
    wait_ms(10);
    tsc[2] = rdtsc();
    passed = (hpet[0xf0 / 8] - first) * period / 1000000000; /* microseconds */
    tsc[3] = rdtsc();
    check(lasted(tsc, passed), "the HPET counted %lu us in %lu to %lu ticks of a TSC of %lu kHz",
          passed, tsc[2] - tsc[1], tsc[3] - tsc[0], tsc_per_ms);
}

/* The comparator is written while the counter stands: once that has gone by, nothing matches. The
 * pin is routed when the interval timer no longer drives it. */
static void hpet_timer(void)
{
    volatile uint64_t *hpet = (volatile uint64_t *)HPET;
    uint64_t period = hpet[0] >> 32, start;

    check((hpet[0] >> 16 & 0xffff) == 0x8086 && period && period <= 100000000, "HPET id %lx",
          hpet[0]);
    hpet[0x10 / 8] |= 1;
    hpet_counter(hpet, period);

    interrupt_set(0x62, count);
    hits[0x62] = 0;
    hpet[0x10 / 8] = 2; /* legacy replacement: timer 0 on pin 2 */
    ioapic_route(2, 0x62);
    hpet[0x100 / 8] = 1 << 2;
    hpet[0x108 / 8] = hpet[0xf0 / 8] + 5000000000000UL / period;
    start = rdtsc();
    hpet[0x10 / 8] = 3;
    check(wait_for(0x62, PATIENCE), "the HPET did not fire");
    check(hit_tsc[0x62] - start >= 5 * tsc_per_ms - tsc_per_ms / 20,
          "the HPET fired %lu ticks of the TSC after it was set", hit_tsc[0x62] - start);
    hpet[0x100 / 8] = 0;
    hpet[0x10 / 8] = 0;
    ioapic_write(0x14, 1 << 16);
}

/* The SCI's pin is level: the PM timer's overflow would take too long, so the HPET's level mode on
 * a free pin shows remote IRR and the EOI. */
static void ioapic_level(void)
{
    volatile uint64_t *hpet = (volatile uint64_t *)HPET;
    uint64_t period = hpet[0] >> 32;
    unsigned pin;
    uint32_t routes = hpet[0x100 / 8] >> 32;

    for (pin = 20; pin < 24 && !(routes >> pin & 1); pin++)
        ;
    if (pin == 24) {
        skip("no HPET route to pins 20..23");
        return;
    }
    interrupt_set(0x63, count_level);
    hits[0x63] = 0;
    ioapic_route(pin, 0x63 | 1 << 15);
    hpet[0x100 / 8] = (uint64_t)pin << 9 | 1 << 1 | 1 << 2;
    hpet[0x108 / 8] = hpet[0xf0 / 8] + 1000000000000UL / period;
    hpet[0x10 / 8] = 1;
    wait_for_hits(0x63, 3);
    for (unsigned i = 0; i < PATIENCE && ioapic_read(0x10 + 2 * pin) & 1 << 14; i++)
        wait_for(0xff, 1);
    check(!(ioapic_read(0x10 + 2 * pin) & 1 << 14), "remote IRR stays: %x",
          ioapic_read(0x10 + 2 * pin));
    wait_for(0xff, 5);
    check(hits[0x63] == 3 || (is_late && hits[0x63] == 4),
          "a level up for three interrupts came %u times", hits[0x63]);
    hpet[0x100 / 8] = 0;
    hpet[0x10 / 8] = 0;
    ioapic_write(0x10 + 2 * pin, 1 << 16);
}

static void sti_shadow(void)
{
    /* STI; CLI with an interrupt pending: none is taken in the shadow. */
    hits[0x50] = 0;
    lapic[0x300 / 4] = 0x44000 | 0x50;
    wait_ms(1);
    asm volatile("sti; cli");
    check(hits[0x50] == 0, "an interrupt was taken in the shadow of STI");
    if (is_late) {
        skip("the interrupt after the shadow of STI: this KVM looks for it late");
        forget(0x50);
        return;
    }
    asm volatile("sti; nop; cli");
    check(hits[0x50] == 1, "no interrupt after the shadow of STI");
}

static void halt_wakes(void)
{
    hits[VECTOR] = 0;
    lapic[0x320 / 4] = VECTOR;
    lapic[0x380 / 4] = 1000000;
    asm volatile("sti; hlt; cli");
    check(hits[VECTOR] == 1, "HLT came back without its interrupt");
}

void payload_main(const char *cmdline)
{
    is_late = *cmdline == 'l';
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    lapic[0xf0 / 4] = 0x1ff; /* software enable */
    interrupt_set(0xff, count);
    calibrate();
    self_ipi_priorities();
    sti_shadow();
    lapic_timer();
    halt_wakes();
    pit_channel2();
    pit_through_ioapic();
    pit_through_pic();
    rtc_periodic();
    hpet_timer();
    ioapic_level();
}
