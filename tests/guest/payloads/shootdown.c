// SPDX-License-Identifier: Apache-2.0
/*
 * Page tables that a processor changes while others use them: remote TLB shoot-downs under load,
 * accessed and dirty bits, rights and presence that come and go (SDM 3A, 4.8 and 4.10.5). In ring 0
 * and in ring 3, at addresses of both halves.
 */
#include "coherence.h"

#define PAGE_FAULT  14
#define PAGES       16
#define CLEAN_PAGES 4 /* the last ones, that nobody writes */
#define POISON      0xdeadbee0U
#define SLOT(cpu)   (16 * (cpu)) /* words */

/* ---- the pages that are used and changed ---- */

static uint64_t base;
static volatile uint64_t *entries[PAGES];
static uint32_t *frames[PAGES][2];
static volatile unsigned stale, stray, lost, spurious;

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
    for (unsigned i = 1; goes_on(i); i++) {
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
    for (unsigned i = 0; goes_on(i); i++) {
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
    for (uint64_t i = 1; i <= 100UL * rounds && goes_on(0); i++) {
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

void payload_main(const char *cmdline)
{
    coherence_begin(cmdline);
    for (unsigned i = 0; i < 4; i++) {
        data_shoot_downs(i / 2 ? HIGH_HALF : LOW_HALF, i % 2);
        table_bits(i / 2 ? HIGH_HALF : LOW_HALF, i % 2);
    }
    changing_entry(LOW_HALF);
    changing_entry(HIGH_HALF);
}
