// SPDX-License-Identifier: Apache-2.0
/*
 * What processors may rely on about each other's page tables and code, under load and with timing
 * that differs each time: remote TLB shoot-downs of data and code, accessed and dirty bits while an
 * entry is changed, code that others write with the protocols that kernels use (SDM 3A, 4.8, 4.10.5
 * and 9.1.3). Processor 0 changes, the others use, in ring 0 and in ring 3, at addresses of both
 * halves. The command line may give the number of rounds and a seed.
 */
#include "processors.h"

#define IPI_SYNC    0x61
#define BREAKPOINT  3
#define PAGE_FAULT  14
#define USER_RETURN 0x80
#define LOW_HALF    0x40400000UL
#define HIGH_HALF   0xffff888040400000UL
#define PAGES       16
#define CLEAN_PAGES 4 /* the last ones, that nobody writes */
#define POISON      0xdeadbee0U
#define SLOT(cpu)   (16 * (cpu)) /* words */
#define CODE_TSS    9            /* descriptors of the processors' TSSs begin here */
#define CPUID_7_EBX 1
#define HAS_INVPCID (1U << 10)
#define USER_RFLAGS 0x202

static unsigned rounds = 300;
static uint64_t seeds[CPUS_MAX] = {88172645463325252};

static unsigned random(unsigned cpu)
{
    uint64_t value = seeds[cpu];

    value ^= value << 13;
    value ^= value >> 7;
    value ^= value << 17;
    seeds[cpu] = value;
    return value >> 20;
}

/* From nothing to some thousand loops, mostly short. */
static void dawdle(unsigned cpu)
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

static void user_returns(struct frame *frame)
{
    frame->rip = (uint64_t)user_back;
    frame->cs = 0x08;
    frame->ss = 0x10;
    frame->rsp = kernel_rsp[self()];
    frame->rflags = USER_RFLAGS;
}

static void load_tss(unsigned cpu)
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
static void in_user_mode(unsigned cpu)
{
    uint64_t *stack = (uint64_t *)user_stack[cpu];

    if (!cpu) {
        user_fn(0);
        return;
    }
    *--stack = (uint64_t)user_end;
    user_run((uint64_t)user_fn, cpu, (uint64_t)stack, &kernel_rsp[cpu]);
}

static void flush_all(unsigned cpu)
{
    write_cr3(read_cr3());
}

/* The identity map belongs to users too, so that a function runs in either ring. */
static void user_mode_begin(void)
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

static void run(void (*fn)(unsigned cpu), bool user, const char *name)
{
    user_fn = fn;
    everywhere(user ? in_user_mode : fn, name);
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

static void synchronize(struct frame *frame)
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

static bool tell_others(enum sync_kind kind, uint64_t address)
{
    sync_kind = kind;
    sync_address = address;
    sync_answers = 0;
    send(0, ICR_OTHERS | ICR_ASSERT | IPI_SYNC);
    return reaches(&sync_answers, cpus - 1);
}

static bool flush_others(unsigned page, uint64_t address)
{
    enum sync_kind kind = random(0) % SYNC_CODE;

    if (kind == SYNC_INVPCID && !has_invpcid)
        kind = SYNC_INVLPG;
    if (kind == SYNC_CR3 && page % 2) /* global */
        kind = SYNC_CR4;
    return tell_others(kind, address);
}

/* ---- the pages that are used and changed ---- */

static uint64_t base;
static volatile uint64_t *entries[PAGES];
static uint32_t *frames[PAGES][2];
static volatile uint32_t announced[PAGES];
static volatile bool stop;
static volatile unsigned stale, stray, lost, spurious, unanswered;

static uint64_t page_flags(unsigned page)
{
    return PTE_P | PTE_W | PTE_U | (page % 2 ? PTE_G : 0);
}

static uint64_t address_of(unsigned page)
{
    return base + page * 4096UL;
}

static void share_pages(uint64_t at)
{
    base = at;
    for (unsigned i = 0; i < PAGES; i++) {
        for (unsigned k = 0; k < 2; k++) {
            if (!frames[i][k])
                frames[i][k] = page_alloc();
            for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++)
                frames[i][k][SLOT(cpu)] = cpu && k ? POISON : 0;
        }
        announced[i] = 0;
        entries[i] = page_map(address_of(i), (uint64_t)frames[i][0], page_flags(i));
    }
    everywhere(flush_all, "flushes");
    stop = false;
    stale = stray = lost = spurious = unanswered = 0;
}

static void count(volatile unsigned *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
}

/* A word is read by each kind of instruction that an engine may treat in a way of its own. */
static uint32_t read_by(unsigned kind, volatile uint32_t *at)
{
    uint32_t value = 0, zero = 0;
    uint64_t wide = 0, count_left = 1;
    volatile uint32_t copy[4] = {0};
    volatile uint32_t *from = at, *to = copy;

    switch (kind % 6) {
    case 0:
        return *at;
    case 1:
        asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count_left)::"memory");
        return copy[0];
    case 2:
        asm volatile("lock xaddl %0, %1" : "+r"(zero), "+m"(*at)::"memory");
        return zero;
    case 3:
        asm volatile("movups (%1), %%xmm0; movups %%xmm0, (%2)" ::"m"(*at), "r"(at), "r"(copy)
                     : "memory");
        return copy[0];
    case 4:
        asm volatile("pushq (%1); popq %0" : "=r"(wide) : "r"(at) : "memory");
        return wide;
    default:
        asm volatile("addl (%1), %0" : "+r"(value) : "r"(at) : "memory");
        return value;
    }
}

static void write_by(unsigned kind, volatile uint32_t *at, uint32_t value)
{
    uint64_t count_left = 1;

    switch (kind % 5) {
    case 0:
        *at = value;
        break;
    case 1:
        asm volatile("rep stosl" : "+D"(at), "+c"(count_left) : "a"(value) : "memory");
        break;
    case 2:
        asm volatile("xchgl %0, (%1)" : "+r"(value) : "r"(at) : "memory");
        break;
    case 3:
        asm volatile("movd %0, %%xmm1; movss %%xmm1, (%1)" ::"r"(value), "r"(at) : "memory");
        break;
    default:
        asm volatile("pushq %0; popq (%1)" ::"r"((uint64_t)value), "r"(at) : "memory");
    }
}

/* ---- shoot-downs of data ---- */

/* Page after page moves to its other frame, with a greater number in it. When all have answered,
 * nobody reads the old number or writes the old frame any more. */
static void move_pages(void)
{
    for (unsigned i = 1; i <= rounds && !unanswered; i++) {
        unsigned page = random(0) % PAGES, next = announced[page] + 1;
        uint32_t *old = frames[page][(next + 1) % 2], *new = frames[page][next % 2];

        for (unsigned cpu = 1; cpu < cpus; cpu++)
            if (new[SLOT(cpu)] != POISON)
                count(&stray);
        new[0] = next;
        *entries[page] = (uint64_t) new | page_flags(page);
        dawdle(0);
        if (!flush_others(page, address_of(page)))
            count(&unanswered);
        announced[page] = next;
        for (unsigned cpu = 0; cpu < cpus; cpu++)
            ((volatile uint32_t *)old)[SLOT(cpu)] = cpu ? POISON : 0;
        dawdle(0);
    }
    stop = true;
}

static void use_pages(unsigned cpu)
{
    if (!cpu) {
        move_pages();
        return;
    }
    while (!stop) {
        unsigned page = random(cpu) % PAGES, kind = random(cpu);
        volatile uint32_t *at = (volatile uint32_t *)address_of(page);
        uint32_t last = announced[page];

        if (read_by(kind, at) < last)
            count(&stale);
        write_by(kind, at + SLOT(cpu), kind);
    }
}

static void data_shoot_downs(uint64_t at, bool user)
{
    share_pages(at);
    run(use_pages, user, "shoot-downs");
    check(!unanswered, "a shoot-down was not answered");
    check(!stale, "%u reads of pages at 0x%lx that were taken away", stale, at);
    check(!stray, "%u writes to pages at 0x%lx that were taken away", stray, at);
}

/* ---- shoot-downs of code ---- */

/* A page that stays lies before one that is moved. The function begins in the first. */
enum code_shape {
    SHAPE_CALL,     /* a loop that calls into the second page */
    SHAPE_FALL,     /* it runs over into the second page */
    SHAPE_CROSSING, /* an instruction is part of both */
    SHAPES,
};

static uint8_t *code_first, *code_second[2];
static unsigned code_entry;

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

static void write_second(uint8_t *page, enum code_shape shape, uint32_t number)
{
    if (shape == SHAPE_CROSSING) { /* the number's upper bytes of mov eax, imm32; ret */
        page[0] = number;
        page[1] = number >> 8;
        page[2] = 0xc3;
        return;
    }
    page[0] = 0xb8; /* mov eax, number << 16; ret */
    put32(page + 1, number << 16);
    page[5] = 0xc3;
}

static void write_first(uint8_t *page, enum code_shape shape)
{
    static const uint8_t loop[] = {0x6a, 50,                 /* pushq 50 */
                                   0xe8, 0,    0,    0,   0, /* again: call */
                                   0xff, 0x0c, 0x24,         /* decl (%rsp) */
                                   0x75, 0xf6, 0x59, 0xc3};  /* jnz again; pop rcx; ret */

    code_entry = shape == SHAPE_CALL ? 0x100 : shape == SHAPE_FALL ? 0xff0 : 0xffd;
    if (shape == SHAPE_CALL) {
        memcpy(page + code_entry, loop, sizeof(loop));
        put32(page + code_entry + 3, 0x1000 - (code_entry + 7));
    } else if (shape == SHAPE_FALL) {
        memset(page + code_entry, 0x90, 16);
    } else {
        memcpy(page + code_entry, (uint8_t[]){0xb8, 0, 0}, 3);
    }
}

static enum code_shape code_shape;

static void move_code(void)
{
    for (unsigned i = 1; i <= rounds && !unanswered; i++) {
        write_second(code_second[i % 2], code_shape, i);
        *entries[0] = (uint64_t)code_second[i % 2] | page_flags(0);
        dawdle(0);
        if (!flush_others(0, base + 4096))
            count(&unanswered);
        announced[0] = i;
        /* Whoever runs the old page now gets a number that is too low. */
        write_second(code_second[(i + 1) % 2], code_shape, 0);
        dawdle(0);
    }
    stop = true;
}

static void use_code(unsigned cpu)
{
    uint32_t (*fn)(void) = (uint32_t(*)(void))(base + code_entry);

    if (!cpu) {
        move_code();
        return;
    }
    while (!stop) {
        uint32_t last = announced[0];

        if (fn() >> 16 < last)
            count(&stale);
    }
}

static void code_shoot_downs(uint64_t at, bool user, enum code_shape shape)
{
    if (!code_first) {
        code_first = page_alloc();
        code_second[0] = page_alloc();
        code_second[1] = page_alloc();
    }
    base = at + 0x100000 + 0x10000 * shape;
    code_shape = shape;
    write_first(code_first, shape);
    write_second(code_second[0], shape, 0);
    page_map(base, (uint64_t)code_first, page_flags(0));
    entries[0] = page_map(base + 4096, (uint64_t)code_second[0], page_flags(0));
    everywhere(flush_all, "flushes");
    stop = false;
    announced[0] = stale = unanswered = 0;
    run(use_code, user, "shoot-downs of code");
    check(!unanswered, "a shoot-down of code was not answered");
    check(!stale, "%u calls of shape %u at 0x%lx ran code that was taken away", stale, shape, base);
}

/* ---- accessed and dirty bits ---- */

static uint32_t sum_of(unsigned page)
{
    volatile uint32_t *frame = frames[page][0];
    uint32_t sum = 0;

    for (unsigned cpu = 1; cpu < cpus; cpu++)
        sum += frame[SLOT(cpu)];
    return sum;
}

static uint64_t replace(unsigned page, uint64_t entry)
{
    return __atomic_exchange_n(entries[page], entry, __ATOMIC_SEQ_CST);
}

/* D is taken away; what is written to the page after the flush sets it again. */
static void clean_page(unsigned page)
{
    uint64_t old = *entries[page];

    while (!__atomic_compare_exchange_n(entries[page], &old, old & ~(PTE_A | PTE_D), false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    if (!flush_others(page, address_of(page)))
        count(&unanswered);
    uint32_t before = sum_of(page);
    dawdle(0);
    uint32_t after = sum_of(page);
    uint64_t entry = *entries[page];
    if (before != after && !(entry & PTE_D))
        count(&lost);
    if ((entry & ~(PTE_A | PTE_D)) != ((uint64_t)frames[page][0] | page_flags(page)))
        count(&spurious);
}

/* Nobody writes it while it is read-only or away, and no D appears; in an entry that is not
 * present nothing does. */
static void withdraw_page(unsigned page, uint64_t entry, uint64_t may_appear)
{
    replace(page, entry);
    dawdle(0);
    if (!flush_others(page, address_of(page)))
        count(&unanswered);
    uint32_t before = sum_of(page);
    dawdle(0);
    if (sum_of(page) != before)
        count(&stray);
    if ((replace(page, (uint64_t)frames[page][0] | page_flags(page)) & ~may_appear) != entry)
        count(&spurious);
}

static void change_bits(void)
{
    for (unsigned i = 0; i < rounds && !unanswered; i++) {
        unsigned page = random(0) % PAGES;
        uint64_t frame = (uint64_t)frames[page][0];

        switch (random(0) % 3) {
        case 0:
            clean_page(page);
            break;
        case 1:
            withdraw_page(page, frame | (page_flags(page) & ~PTE_W) | (uint64_t)i % 8 << 9, PTE_A);
            break;
        default:
            withdraw_page(page, (uint64_t)random(0) << 1, 0);
        }
        dawdle(0);
    }
    for (unsigned page = PAGES - CLEAN_PAGES; page < PAGES; page++)
        if (*entries[page] & PTE_D)
            count(&spurious);
    stop = true;
}

static void set_bits(unsigned cpu)
{
    if (!cpu) {
        change_bits();
        return;
    }
    for (uint32_t number = 1; !stop; number++) {
        unsigned page = random(cpu) % PAGES;
        volatile uint32_t *at = (volatile uint32_t *)address_of(page);

        if (page < PAGES - CLEAN_PAGES)
            write_by(random(cpu), at + SLOT(cpu), number);
        else
            read_by(0, at);
    }
}

/* The page comes back. */
static void try_again(struct frame *frame)
{
    pause();
}

static void table_bits(uint64_t at, bool user)
{
    share_pages(at);
    interrupt_set(PAGE_FAULT, try_again);
    run(set_bits, user, "accessed and dirty bits");
    interrupt_set(PAGE_FAULT, NULL);
    check(!unanswered, "a flush of a cleaned page was not answered");
    check(!lost, "%u pages at 0x%lx were written and not dirty", lost, at);
    check(!spurious, "%u entries for 0x%lx have bits that nothing set", spurious, at);
    check(!stray, "%u pages at 0x%lx were written without the right", stray, at);
}

/* Others walk to one entry all the time; each new value of it that is exchanged in takes out the
 * one before, with nothing added but A and D. */
static void change_entry(void)
{
    uint64_t frame = (uint64_t)frames[0][0] | page_flags(0), before = replace(0, frame);

    before &= ~(PTE_A | PTE_D);
    for (uint64_t i = 1; i <= 100UL * rounds; i++) {
        uint64_t next = frame | (i & 7) << 9 | (i >> 3 & 127) << 52;

        if ((replace(0, next) & ~(PTE_A | PTE_D)) != before)
            count(&spurious);
        before = next;
    }
    stop = true;
}

static void walk_to_entry(unsigned cpu)
{
    volatile uint32_t *at = (volatile uint32_t *)address_of(0);

    if (!cpu) {
        change_entry();
        return;
    }
    for (uint32_t number = 0; !stop; number++) {
        invlpg(address_of(0));
        if (number % 2)
            at[SLOT(cpu)] = number;
        else
            read_by(0, at);
    }
}

static void changing_entry(uint64_t at)
{
    share_pages(at);
    run(walk_to_entry, false, "walks to an entry that changes");
    check(!spurious, "%u values of an entry came back that were replaced", spurious);
}

/* ---- code that is changed while others run it ---- */

/* As Linux does: a breakpoint over the first byte, the rest, the first byte, and after each all
 * have synchronized. Who meets the breakpoint does by himself what will be there. */
static volatile uint32_t poking;
static uint8_t *poke_site; /* mov eax, imm32 or a jmp to one; then ret */

static void at_breakpoint(struct frame *frame)
{
    frame->rax = poking;
    frame->rip += 4;
}

static void poke(const uint8_t *bytes)
{
    *(volatile uint8_t *)poke_site = 0xcc;
    if (!tell_others(SYNC_CODE, 0))
        count(&unanswered);
    for (unsigned i = 1; i < 5; i++)
        ((volatile uint8_t *)poke_site)[i] = bytes[i];
    if (!tell_others(SYNC_CODE, 0))
        count(&unanswered);
    *(volatile uint8_t *)poke_site = bytes[0];
    if (!tell_others(SYNC_CODE, 0))
        count(&unanswered);
}

static void poke_all(void)
{
    for (unsigned i = 1; i <= rounds / 2 && !unanswered; i++) {
        uint8_t bytes[5] = {0xb8}, *aside = poke_site + 64 + 8 * (i % 4);

        if (i % 2) {
            put32(bytes + 1, i);
        } else {
            bytes[0] = 0xe9;
            put32(bytes + 1, aside - (poke_site + 5));
            aside[0] = 0xb8;
            put32(aside + 1, i);
            aside[5] = 0xc3;
        }
        poking = i;
        poke(bytes);
        announced[0] = i;
        dawdle(0);
    }
    stop = true;
}

static void run_poked(unsigned cpu)
{
    uint32_t (*fn)(void) = (uint32_t(*)(void))(uint64_t)poke_site;

    if (!cpu) {
        poke_all();
        return;
    }
    while (!stop) {
        uint32_t last = announced[0], got = fn();

        if (got < last || got > rounds)
            count(&stale);
    }
}

static void poked_code(bool user, unsigned offset)
{
    uint8_t *pages = page_alloc();

    page_alloc();
    poke_site = pages + offset;
    memcpy(poke_site, (uint8_t[]){0xb8, 0, 0, 0, 0, 0xc3}, 6);
    stop = false;
    announced[0] = stale = unanswered = 0;
    interrupt_set(BREAKPOINT, at_breakpoint);
    run(run_poked, user, "poked code");
    interrupt_set(BREAKPOINT, NULL);
    check(!unanswered, "a poke was not answered");
    check(!stale, "%u calls ran code at offset %u that was replaced", stale, offset);
}

/* Each processor writes the next one's function, all on one page, and then gives it the turn. */
static uint8_t *relay_page;
static volatile uint32_t relay_turn[CPUS_MAX], relay_number[CPUS_MAX];

static void write_function(uint8_t *at, uint32_t number, unsigned kind)
{
    uint8_t bytes[16] = {0xb8, 0, 0, 0, 0, 0xc3};
    uint64_t size = sizeof(bytes), low, high;
    uint8_t *from = bytes, *to = at;

    put32(bytes + 1, number);
    memcpy(&low, bytes, 8);
    memcpy(&high, bytes + 8, 8);
    switch (kind % 5) {
    case 0:
        for (unsigned i = 0; i < size; i++)
            ((volatile uint8_t *)at)[i] = bytes[i];
        break;
    case 1:
        asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(size)::"memory");
        break;
    case 2:
        asm volatile("movups (%0), %%xmm0; movups %%xmm0, (%1)" ::"r"(bytes), "r"(at) : "memory");
        break;
    case 3:
        asm volatile(
            "movq %%rsp, %%r11; leaq 16(%0), %%rsp; pushq %1; pushq %2; movq %%r11, %%rsp" ::"r"(
                at),
            "r"(high), "r"(low)
            : "r11", "memory");
        break;
    default:
        asm volatile("xchgq %1, 8(%0); xchgq %2, (%0)" : : "r"(at), "r"(high), "r"(low) : "memory");
    }
}

static void relay(unsigned cpu)
{
    unsigned next = (cpu + 1) % cpus;
    uint32_t (*fn)(void) = (uint32_t(*)(void))(uint64_t)(relay_page + 256 * cpu);
    uint32_t r[4];

    for (uint32_t turn = 1; turn <= rounds; turn++) {
        if (cpu || turn > 1) {
            if (!reaches(&relay_turn[cpu], cpu ? turn : turn - 1)) {
                count(&unanswered);
                return;
            }
            cpuid(0, 0, r); /* serializes */
            for (unsigned i = 0; i < 30; i++)
                if (fn() != relay_number[cpu])
                    count(&stale);
        }
        relay_number[next] = random(cpu);
        write_function(relay_page + 256 * next, relay_number[next], random(cpu));
        /* data beside the code, too */
        ((volatile uint32_t *)relay_page)[64 * cpu + 32] = turn;
        relay_turn[next] = turn;
    }
}

static void relayed_code(bool user)
{
    relay_page = page_alloc();
    for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++)
        relay_turn[cpu] = relay_number[cpu] = 0;
    stale = unanswered = 0;
    run(relay, user, "relayed code");
    check(!unanswered, "a processor never got its turn");
    check(!stale, "%u calls ran code that another processor replaced before", stale);
}

static unsigned number(const char **text)
{
    unsigned value = 0;

    while (**text == ' ')
        (*text)++;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        value = value * 10 + **text - '0';
    return value;
}

void payload_main(const char *cmdline)
{
    static const uint64_t halves[] = {LOW_HALF, HIGH_HALF};
    uint32_t r[4];
    unsigned given = number(&cmdline);

    if (given)
        rounds = given;
    seeds[0] += number(&cmdline);
    cpuid(7, 0, r);
    has_invpcid = r[CPUID_7_EBX] & HAS_INVPCID;
    interrupt_set(IPI_SYNC, synchronize);
    processors_begin();
    user_mode_begin();
    for (unsigned i = 0; i < 4; i++) {
        data_shoot_downs(halves[i / 2], i % 2);
        table_bits(halves[i / 2], i % 2);
        for (unsigned shape = 0; shape < SHAPES; shape++)
            code_shoot_downs(halves[i / 2], i % 2, shape);
    }
    changing_entry(LOW_HALF);
    changing_entry(HIGH_HALF);
    for (unsigned user = 0; user < 2; user++) {
        poked_code(user, 16);
        poked_code(user, 62); /* across a line */
        poked_code(user, 4094);
        relayed_code(user);
    }
}
