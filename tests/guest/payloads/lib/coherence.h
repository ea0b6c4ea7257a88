// SPDX-License-Identifier: Apache-2.0
/*
 * What the payloads share in which processor 0 changes page tables or code under the others, with
 * timing that differs each time: ring 3 on every processor, and interrupts that all must answer.
 * The command line may give the number of rounds and a seed.
 */
#pragma once

#include "processors.h"

#define IPI_SYNC    0x61
#define USER_RETURN 0x80
#define LOW_HALF    0x40400000UL
#define HIGH_HALF   0xffff888040400000UL
#define CODE_TSS    9 /* descriptors of the processors' TSSs begin here */
#define CPUID_7_EBX 1
#define HAS_INVPCID (1U << 10)
#define USER_RFLAGS 0x202

static unsigned rounds = 400;
static uint64_t test_ends,
    test_ticks = 500000000; /* of a test, where no number of rounds is given */
static volatile unsigned unanswered;
static uint64_t seeds[CPUS_MAX] = {88172645463325252};

static inline unsigned random(unsigned cpu)
{
    uint64_t value = seeds[cpu];

    value ^= value << 13;
    value ^= value >> 7;
    value ^= value << 17;
    seeds[cpu] = value;
    return value >> 20;
}

/* From nothing to some thousand loops, mostly short. */
static inline void dawdle(unsigned cpu)
{
    for (unsigned left = random(cpu) % (1U << random(cpu) % 12); left; left--)
        asm volatile("");
}

/* ---- ring 3 on every processor ---- */

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3], reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed));

extern uint64_t boot_pd[];
static struct tss tss[CPUS_MAX];
static uint64_t user_stack[CPUS_MAX], kernel_rsp[CPUS_MAX];
static void (*user_fn)(unsigned cpu);
static struct {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) gdt_pointer;

void user_run(uint64_t rip, uint64_t cpu, uint64_t rsp, uint64_t *saved);
void user_end(void);
void user_back(void);
asm("user_run:\n"
    "   pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
    "   movq %rsp, (%rcx)\n"
    "   pushq $0x1b; pushq %rdx; pushq $0x202; pushq $0x23; pushq %rdi\n"
    "   movq %rsi, %rdi\n"
    "   iretq\n"
    "user_back:\n"
    "   popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx\n"
    "   ret\n"
    "user_end:\n"
    "   int $0x80\n");

static inline void user_returns(struct frame *frame)
{
    frame->rip = (uint64_t)user_back;
    frame->cs = 0x08;
    frame->ss = 0x10;
    frame->rsp = kernel_rsp[self()];
    frame->rflags = USER_RFLAGS;
}

static inline void load_tss(unsigned cpu)
{
    unsigned index = CODE_TSS + 2 * cpu;
    uint64_t base = (uint64_t)&tss[cpu];

    if (!cpu)
        return;
    asm volatile("lgdt %0" ::"m"(gdt_pointer)); /* the whole, of which they began with a part */
    boot_gdt_entry(index, (sizeof(tss[0]) - 1) | (base & 0xffffff) << 16 | 0x89UL << 40 |
                              (base >> 24 & 0xff) << 56);
    boot_gdt_entry(index + 1, base >> 32);
    asm volatile("ltr %w0" ::"r"(index * 8));
}

/* The others in ring 3, processor 0 in ring 0. */
static inline void in_user_mode(unsigned cpu)
{
    uint64_t *stack = (uint64_t *)user_stack[cpu];

    if (!cpu) {
        user_fn(0);
        return;
    }
    *--stack = (uint64_t)user_end;
    user_run((uint64_t)user_fn, cpu, (uint64_t)stack, &kernel_rsp[cpu]);
}

static inline void flush_all(unsigned cpu)
{
    write_cr3(read_cr3());
}

/* The identity map belongs to users too, so that a function runs in either ring. */
static inline void user_mode_begin(void)
{
    for (unsigned i = 0; i < 2048; i++)
        boot_pd[i] |= PTE_U;
    for (unsigned i = 0; i < cpus; i++) {
        tss[i].rsp[0] = (uint64_t)page_alloc() + 4096;
        tss[i].io_map = sizeof(tss[i]);
        user_stack[i] = (uint64_t)page_alloc() + 4096;
        seeds[i] += seeds[0] * (2 * i + 1);
    }
    asm volatile("sgdt %0" : "=m"(gdt_pointer));
    interrupt_set(USER_RETURN, user_returns);
    everywhere(flush_all, "flushes");
    everywhere(load_tss, "task registers");
}

static inline void run(void (*fn)(unsigned cpu), bool user, const char *name)
{
    test_ends = rdtsc() + test_ticks;
    user_fn = fn;
    everywhere(user ? in_user_mode : fn, name);
}

/* Whether processor 0 begins another round. */
static inline bool goes_on(unsigned round)
{
    return round <= rounds && !unanswered && rdtsc() < test_ends;
}

/* ---- a processor tells all others, and waits for them ---- */

enum sync_kind {
    SYNC_INVLPG,
    SYNC_CR3,
    SYNC_CR4,
    SYNC_INVPCID,
    SYNC_CODE,
};

static volatile enum sync_kind sync_kind;
static volatile uint64_t sync_address;
static volatile unsigned sync_answers;
static bool has_invpcid;

static inline void synchronize(struct frame *frame)
{
    struct {
        uint64_t pcid, linear;
    } of_page = {0, sync_address};
    uint32_t r[4];

    switch (sync_kind) {
    case SYNC_INVLPG:
        invlpg(sync_address);
        break;
    case SYNC_CR3:
        write_cr3(read_cr3());
        break;
    case SYNC_CR4:
        write_cr4(read_cr4() ^ 0x80);
        write_cr4(read_cr4() ^ 0x80);
        break;
    case SYNC_INVPCID:
        asm volatile("invpcid %0, %1" ::"m"(of_page), "r"(0UL) : "memory");
        break;
    case SYNC_CODE:
        cpuid(0, 0, r);
    }
    __atomic_fetch_add(&sync_answers, 1, __ATOMIC_SEQ_CST);
    apic_write(0xb0, 0);
}

static inline bool tell_others(enum sync_kind kind, uint64_t address)
{
    sync_kind = kind;
    sync_address = address;
    sync_answers = 0;
    send(0, ICR_OTHERS | ICR_ASSERT | IPI_SYNC);
    return reaches(&sync_answers, cpus - 1);
}

static inline bool flush_others(unsigned page, uint64_t address)
{
    enum sync_kind kind = random(0) % SYNC_CODE;

    if (kind == SYNC_INVPCID && !has_invpcid)
        kind = SYNC_INVLPG;
    if (kind == SYNC_CR3 && page % 2) /* global */
        kind = SYNC_CR4;
    return tell_others(kind, address);
}

/* ---- what both sides look at ---- */

static volatile uint32_t announced[16]; /* numbers that nothing older may be seen of */
static volatile bool stop;

static inline void count(volatile unsigned *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
}

static inline unsigned coherence_number(const char **text)
{
    unsigned value = 0;

    while (**text == ' ')
        (*text)++;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        value = value * 10 + **text - '0';
    return value;
}

/* Start the others, and give all that they need. */
static inline void coherence_begin(const char *cmdline)
{
    unsigned given = coherence_number(&cmdline);
    uint32_t r[4];

    if (given)
        rounds = given, test_ticks = 1UL << 60;
    seeds[0] += coherence_number(&cmdline);
    cpuid(7, 0, r);
    has_invpcid = r[CPUID_7_EBX] & HAS_INVPCID;
    interrupt_set(IPI_SYNC, synchronize);
    processors_begin();
    user_mode_begin();
}
