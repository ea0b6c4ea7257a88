// SPDX-License-Identifier: Apache-2.0
/*
 * Several processors: start by INIT and SIPI, interrupts between them in every addressing mode, the
 * memory model (locked accesses, page-table bits, remote TLB flushes, cross-modified code), TSCs in
 * step (SDM 3A, chapters 8 and 11).
 *
 * Nothing is said about time but a limit of patience, since processors may take turns on the
 * host's.
 */
#include "processors.h"

#define IPI       0x60
#define IPI_FLUSH 0x61
#define ROUNDS    3000U

static volatile unsigned hits[CPUS_MAX][256];

static void count(struct frame *frame)
{
    __atomic_fetch_add(&hits[self()][frame->vector], 1, __ATOMIC_SEQ_CST);
    if (frame->vector != NMI)
        apic_write(0xb0, 0);
}

/* ---- start ---- */

static void init_restarts_one(void)
{
    unsigned last = cpus - 1, before = started;

    send(last, ICR_ASSERT | ICR_INIT);
    send(last, ICR_ASSERT | ICR_SIPI | AP_START >> 12);
    check(reaches(&started, before + 1), "processor %u starts again", last);
}

/* ---- interrupts ---- */

static unsigned total(unsigned vector)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < cpus; i++)
        sum += hits[i][vector];
    return sum;
}

/* Send it and see that the processors of `mask`, and no other, get it once. */
static void expect(const char *what, uint32_t destination, uint32_t command, unsigned mask)
{
    unsigned vector = command & ICR_NMI ? NMI : command & 0xff, wrong = 0;
    unsigned wanted = 0;
    uint64_t start = rdtsc();

    for (unsigned i = 0; i < cpus; i++)
        wanted += mask >> i & 1;
    for (unsigned i = 0; i < cpus; i++)
        hits[i][vector] = 0;
    send(destination, command | ICR_ASSERT);
    asm volatile("sti");
    while (total(vector) < wanted && rdtsc() - start < PATIENCE)
        pause();
    asm volatile("cli");
    for (unsigned i = 0; i < cpus; i++)
        wrong |= (hits[i][vector] != (mask >> i & 1)) << i;
    check(!wrong, "%s%s: processors %x were to get it, those of %x did not or others did", what,
          x2apic ? " in x2APIC mode" : "", mask, wrong);
}

static void interrupts(void)
{
    unsigned all = (1U << cpus) - 1;

    for (unsigned i = 0; i < cpus; i++) {
        expect("a fixed interrupt", i, IPI, 1U << i);
        expect("an NMI", i, ICR_NMI, 1U << i);
    }
    expect("shorthand self", 0, ICR_SELF | IPI, 1);
    expect("shorthand all", 0, ICR_ALL | IPI, all);
    expect("shorthand others", 0, ICR_OTHERS | IPI, all & ~1U);
    expect("NMI to the others", 0, ICR_OTHERS | ICR_NMI, all & ~1U);
    expect("broadcast", x2apic ? 0xffffffff : 0xff, IPI, all);
}

static void set_flat(unsigned cpu)
{
    apic_write(0xe0, 0xffffffff);
    apic_write(0xd0, 1U << (24 + cpu));
}

/* Clusters of four: the number above, a bit each below. */
static void set_cluster(unsigned cpu)
{
    apic_write(0xe0, 0x0fffffff);
    apic_write(0xd0, (cpu / 4 << 4 | 1U << cpu % 4) << 24);
}

static void logical_interrupts(void)
{
    unsigned all = (1U << cpus) - 1;

    everywhere(set_flat, "flat addresses");
    for (unsigned mask = 1; mask <= all; mask += mask < 8 ? 1 : 5)
        expect("a flat logical interrupt", mask, ICR_LOGICAL | IPI, mask);
    everywhere(set_cluster, "clustered addresses");
    for (unsigned i = 0; i < cpus; i++)
        expect("a clustered logical interrupt", i / 4 << 4 | 1U << i % 4, ICR_LOGICAL | IPI,
               1U << i);
    expect("a whole cluster", 0x0f, ICR_LOGICAL | IPI, all & 15);
}

static void switch_to_x2apic(unsigned cpu)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 1 << 10);
}

static void x2apic_interrupts(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    if (!(r[2] >> 21 & 1)) {
        skip("no x2APIC");
        return;
    }
    everywhere(switch_to_x2apic, "x2APIC");
    x2apic = true;
    interrupts();
    for (unsigned i = 0; i < cpus; i++)
        expect("a logical interrupt", 1U << i, ICR_LOGICAL | IPI, 1U << i);
    expect("the cluster", 0xffff, ICR_LOGICAL | IPI, (1U << cpus) - 1);
    hits[0][IPI] = 0;
    wrmsr(MSR_X2APIC + 0x3f, IPI);
    asm volatile("sti; nop; cli");
    check(hits[0][IPI] == 1, "the self-IPI register");
}

/* ---- locked accesses ---- */

#define SPLIT 0x40000000UL /* two pages in a row that lie apart in memory */

static volatile uint32_t *counter;
static uint32_t *volatile high_half; /* of `counter`: on the next page where that crosses */
static volatile uint64_t wide[2] __attribute__((aligned(16)));

static void add(unsigned cpu)
{
    uint32_t one = 1;

    for (unsigned i = 0; i < ROUNDS; i++) {
        asm volatile("lock incl %0" : "+m"(*counter)::"memory");
        asm volatile("lock xaddl %1, %0" : "+m"(*counter), "+r"(one)::"memory");
        one = 1;
        uint32_t old = *counter;
        while (!__atomic_compare_exchange_n(counter, &old, old + 1, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED))
            pause();
    }
}

/* Even processors add to the low word, which is all in the first page; others to the high one by an
 * access to both: a write of one must not undo the other's. */
static void add_parts(unsigned cpu)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (cpu % 2)
            asm volatile("lock addl $0x10000, %0" : "+m"(*counter)::"memory");
        else
            asm volatile("lock incw %0" : "+m"(*(volatile uint16_t *)counter)::"memory");
    }
}

static void add_wide(unsigned cpu)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t low = wide[0], high = wide[1];
        bool done = false;

        while (!done)
            asm volatile("lock cmpxchg16b %0; sete %1"
                         : "+m"(*(volatile unsigned __int128 *)wide), "=r"(done), "+a"(low),
                           "+d"(high)
                         : "b"(low + 1), "c"(high + 3)
                         : "cc", "memory");
    }
}

static void locked_accesses(void)
{
    static uint8_t area[3 * 4096] __attribute__((aligned(4096)));
    const struct {
        const char *name;
        uint64_t address;
    } places[] = {
        {"a line", (uint64_t)area},
        {"two lines", (uint64_t)area + 62},
        {"two pages", (uint64_t)area + 4094},
        {"two pages that lie apart", SPLIT + 4094},
    };
    unsigned odd = cpus / 2, even = cpus - odd;

    page_map(SPLIT, (uint64_t)page_alloc(), PTE_P | PTE_W);
    page_alloc();
    page_map(SPLIT + 4096, (uint64_t)page_alloc(), PTE_P | PTE_W);
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        counter = (volatile uint32_t *)places[i].address;
        *counter = 0;
        everywhere(add, places[i].name);
        check(*counter == 3 * ROUNDS * cpus, "locked additions to %s: %u, not %u", places[i].name,
              *counter, 3 * ROUNDS * cpus);
        *counter = 0;
        everywhere(add_parts, places[i].name);
        check(*counter == (ROUNDS * odd << 16) + ROUNDS * even,
              "locked additions to parts of %s: %x", places[i].name, *counter);
    }
    everywhere(add_wide, "CMPXCHG16B");
    check(wide[0] == ROUNDS * cpus && wide[1] == 3 * wide[0], "CMPXCHG16B: %lu, %lu", wide[0],
          wide[1]);
}

/* ---- page tables ---- */

#define SHARED 0x40400000UL

static volatile bool looked;
static volatile unsigned round, acknowledged, stale, pages_seen;
static volatile uint64_t *shared_pte;

static void flush(struct frame *frame)
{
    invlpg(SHARED);
    __atomic_fetch_add(&acknowledged, 1, __ATOMIC_SEQ_CST);
    apic_write(0xb0, 0);
}

/* Numbers grow: what is read after a round was announced is not from before. */
static void look(unsigned cpu)
{
    volatile unsigned *shared = (volatile unsigned *)SHARED;

    if (!cpu)
        return;
    while (!looked) {
        unsigned last = round;

        if (*shared < last)
            __atomic_fetch_add(&stale, 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&pages_seen, 1, __ATOMIC_RELAXED);
    }
}

static void remote_flushes(void)
{
    unsigned *pages[2] = {page_alloc(), page_alloc()};
    bool answered = true;

    interrupt_set(IPI_FLUSH, flush);
    shared_pte = page_map(SHARED, (uint64_t)pages[0], PTE_P | PTE_W);
    finished = round = 0;
    job = look;
    job_number++;
    for (unsigned i = 1; answered && i <= ROUNDS / 10; i++) {
        *(volatile unsigned *)pages[i % 2] = i;
        *shared_pte = (uint64_t)pages[i % 2] | PTE_P | PTE_W;
        acknowledged = 0;
        send(0, ICR_OTHERS | ICR_ASSERT | IPI_FLUSH);
        answered = reaches(&acknowledged, cpus - 1);
        round = i;
    }
    looked = true;
    check(answered && reaches(&finished, cpus - 1), "remote flushes: %u of %u answered",
          acknowledged, cpus - 1);
    check(!stale, "%u of %u reads were of a page that was taken away", stale, pages_seen);
}

/* One processor changes a free bit of an entry, and takes A and D away; the others' walks set them
 * and lose none of its changes. */
static void touch(unsigned cpu)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (cpu) {
            invlpg(SHARED);
            *(volatile unsigned *)(SHARED + 64 * cpu) = i;
        } else {
            asm volatile("lock xorq $0x200, %0" : "+m"(*shared_pte)::"memory");
            asm volatile("lock andq %1, %0" : "+m"(*shared_pte) : "r"(~(PTE_A | PTE_D)) : "memory");
            if (i < 100) /* bits 52 to 58 are free too */
                asm volatile("lock addq %1, %0" : "+m"(*shared_pte) : "r"(1UL << 52) : "memory");
        }
    }
}

static void page_table_bits(void)
{
    uint64_t *pte = page_map(SHARED, (uint64_t)page_alloc(), PTE_P | PTE_W), before = *pte;

    shared_pte = pte;
    everywhere(touch, "page-table bits");
    uint64_t wanted = (before ^ (ROUNDS % 2 ? 0x200 : 0)) + (100UL << 52);
    check((*pte & ~(PTE_A | PTE_D)) == (wanted & ~(PTE_A | PTE_D)), "the entry is %lx, not %lx",
          *pte, wanted);
}

/* ---- code and time ---- */

static uint8_t *patched; /* mov eax, imm32; ret */
static volatile unsigned patches, old_code;

static void execute(unsigned cpu)
{
    unsigned (*fn)(void) = (unsigned (*)(void))patched;
    uint32_t r[4];

    for (unsigned i = 1; i <= ROUNDS / 10; i++) {
        if (!cpu) {
            *(volatile uint32_t *)(patched + 1) = i;
            patches = i;
            continue;
        }
        unsigned last = patches;
        cpuid(0, 0, r); /* serializes */
        if (fn() < last)
            __atomic_fetch_add(&old_code, 1, __ATOMIC_SEQ_CST);
    }
}

static void cross_modified_code(void)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3};

    patched = (uint8_t *)page_alloc() + 3; /* the number is aligned: its write is one */
    memcpy(patched, code, sizeof(code));
    everywhere(execute, "cross-modified code");
    check(!old_code, "%u calls ran code that was replaced before", old_code);
}

static volatile uint64_t newest;
static volatile unsigned warps, warp_lock;

static void read_clock(unsigned cpu)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        while (__atomic_exchange_n(&warp_lock, 1, __ATOMIC_ACQUIRE))
            pause();
        asm volatile("lfence"); /* without it RDTSC may have been executed before the lock came */
        uint64_t now = rdtsc();
        if (now < newest)
            warps++;
        newest = now;
        __atomic_store_n(&warp_lock, 0, __ATOMIC_RELEASE);
    }
}

void payload_main(const char *cmdline)
{
    interrupt_set(IPI, count);
    interrupt_set(NMI, count);
    processors_begin();
    interrupts();
    logical_interrupts();
    locked_accesses();
    remote_flushes();
    page_table_bits();
    cross_modified_code();
    everywhere(read_clock, "clocks");
    check(!warps, "the TSC went back %u times from one processor to the next", warps);
    init_restarts_one();
    x2apic_interrupts();
    finish();
}
