// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile guest: random values to ports, MSRs, device windows and PCI configuration space, and
 * random bytes executed in ring 3 and ring 0. The command line is "MODE SEED ROUNDS". It checks
 * nothing itself: the guest may end in any way, the VMM has to live (tests/guest/run-hostile).
 */
#include "hostile.h"

#define USER_CODE  0x40000200000UL
#define USER_STACK 0x40000300000UL
#define TIMER      0x61
#define HEAT       12 /* times that code runs, so that an engine finds it worth its while */

/* Ports whose use ends or stops the machine at once; they have tests of their own. */
static bool port_ends(unsigned port)
{
    return (port >= 0xf0 && port <= 0xf7) || port == 0xcf9 || port == 0x64 || port == 0x92 ||
           (port >= 0x604 && port <= 0x605) || port == 0x505 || (port >= 0x3f8 && port < 0x400);
}

static void random_ports(unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        unsigned port = random64() % 4 ? random64() % 0x800 : random64() & 0xffff;
        if (port_ends(port) || port_ends(port + 1) || port_ends(port + 2) || port_ends(port + 3))
            continue;
        switch (random64() % 6) {
        case 0:
            outb(port, odd_value());
            break;
        case 1:
            asm volatile("outw %w0, %w1" ::"a"((uint32_t)odd_value()), "d"(port));
            break;
        case 2:
            outl(port, odd_value());
            break;
        case 3:
            inb(port);
            break;
        case 4:
            asm volatile("inw %w0, %%ax" ::"d"(port) : "rax");
            break;
        default:
            inl(port);
        }
    }
}

static void write_msr(void *pair)
{
    wrmsr(((uint64_t *)pair)[0], ((uint64_t *)pair)[1]);
}

static void read_msr(void *pair)
{
    rdmsr(((uint64_t *)pair)[0]);
}

static void random_msrs(unsigned rounds)
{
    static const uint32_t bases[] = {0,          0x10,       0x1b,       0x3a,       0x170,
                                     0x200,      0x250,      0x270,      0x2f0,      0x6e0,
                                     0x800,      0x830,      0xc0000080, 0xc0000100, 0xc0010000,
                                     0xc0011020, 0x4b564d00, 0x11,       0x40000000, 0xd90};

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t pair[2] = {bases[random64() % 20] + random64() % 48, odd_value()};
        if (random64() % 16 == 0)
            pair[0] = random64();
        /* Long mode must stay on, and exceptions must come back. */
        if ((uint32_t)pair[0] == 0xc0000080 || (uint32_t)pair[0] == 0xc0000101)
            continue;
        try_call(random64() % 2 ? write_msr : read_msr, pair);
    }
}

static void access_at(void *at)
{
    switch (random64() % 5) {
    case 0:
        *(volatile uint32_t *)at = odd_value();
        break;
    case 1:
        *(volatile uint64_t *)at = odd_value();
        break;
    case 2:
        *(volatile uint8_t *)at = odd_value();
        break;
    case 3:
        (void)*(volatile uint64_t *)at;
        break;
    default:
        *(volatile uint16_t *)at = odd_value();
    }
}

/* Device windows: IOAPIC, HPET, LAPIC, ECAM, and every BAR that a random value could have moved. */
static void random_windows(unsigned rounds)
{
    static const uint64_t windows[] = {0xfec00000, 0xfed00000, 0xfee00000, 0xe0000000, 0xe00f8000,
                                       0xe00e0000, 0xfed1c000, 0xff000000, 0xc0000000, 0xfffff000};

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t at = windows[random64() % 10] + random64() % 0x1000;
        if (random64() % 2)
            at &= ~7UL;
        try_call(access_at, (void *)at);
    }
}

static void random_pci(unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        static const uint8_t devices[] = {0, 2, 3, 0x1c, 0x1d, 0x1f};
        unsigned device = devices[random64() % 6], function = random64() % 8;
        unsigned reg = random64() % 4 ? random64() % 0x40 : random64() % 0x100;

        outl(0xcf8, 0x80000000 | device << 11 | function << 8 | (reg & 0xfc));
        if (random64() % 2)
            outl(0xcfc, odd_value());
        else
            outb(0xcfc + (reg & 3), odd_value());
        if (random64() % 4 == 0)
            access_at((void *)(0xe0000000UL +
                               (random64() % 8 << 20 | device << 15 | function << 12) +
                               (random64() & 0xffc)));
    }
}

/* Random bytes, half of them made of plausible opcodes so that more than #UD happens. */
static void random_code(uint8_t *page)
{
    static const uint8_t starts[] = {0x0f, 0x66, 0xf2, 0xf3, 0x48, 0xc5, 0xc4, 0x8b, 0x89, 0xff,
                                     0xd9, 0xdd, 0x8e, 0xcf, 0xca, 0x9d, 0xc8, 0xa5, 0xaa, 0x62};

    for (unsigned i = 0; i < 64; i++)
        page[i] = random64() % 2 ? starts[random64() % 20] : random64();
    memset(page + 64, 0xcc, 64);
}

/* call_catching puts back every register that a C function keeps. */
void run_here(void *code);
asm("run_here:\n"
    "   sti\n"
    "   call *%rdi\n"
    "   cli\n"
    "   ret\n");

static void user_here(void *code)
{
    uint64_t target = USER_CODE;

    (void)code;
    asm volatile("pushq $0x1b\n"
                 "pushq %0\n"
                 "pushq $0x202\n"
                 "pushq $0x23\n"
                 "pushq %1\n"
                 "iretq" ::"r"(USER_STACK + 2048),
                 "r"(target));
}

/* A one-shot timer ends what would loop for ever; it is caught like an exception. */
static void timer_arm(void)
{
    volatile uint32_t *lapic = (volatile uint32_t *)0xfee00000;

    lapic[0xb0 / 4] = 0;
    lapic[0xf0 / 4] = 0x1ff;
    lapic[0x3e0 / 4] = 0xb;
    lapic[0x320 / 4] = TIMER;
    lapic[0x380 / 4] = 1000000;
}

/* Let code have all vector registers that there are. */
static void enable_vectors(void)
{
    uint32_t leaf[4];

    cpuid(1, 0, leaf);
    if (!(leaf[2] >> 26 & 1)) /* XSAVE */
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    cpuid(0xd, 0, leaf);
    asm volatile("xsetbv" ::"c"(0), "a"(leaf[0]), "d"(leaf[3]));
}

static void random_instructions(unsigned rounds, bool user)
{
    uint8_t *page = page_alloc(), *stack = page_alloc();
    uint64_t cr0 = read_cr0(), cr4, efer = rdmsr(0xc0000080);

    enable_vectors();
    cr4 = read_cr4();
    page_map(USER_CODE, (uint64_t)page, PTE_P | PTE_W | PTE_U);
    page_map(USER_STACK, (uint64_t)stack, PTE_P | PTE_W | PTE_U);
    for (unsigned i = 0; i < rounds; i++) {
        if (i % HEAT == 0)
            random_code(page);
        timer_arm();
        try_call(user ? user_here : run_here, page);
        asm volatile("mov %0, %%ds; mov %0, %%es; cld" ::"r"(0x10));
        asm volatile("mov %0, %%dr7" ::"r"(0x400UL));
        if (!user) {
            write_cr0(cr0);
            write_cr4(cr4);
            wrmsr(0xc0000080, efer);
        }
    }
}

void payload_main(const char *cmdline)
{
    char mode = *cmdline;
    unsigned rounds = hostile_begin(cmdline);

    if (mode == 'p')
        random_ports(rounds);
    else if (mode == 'm')
        random_msrs(rounds);
    else if (mode == 'w')
        random_windows(rounds);
    else if (mode == 'c')
        random_pci(rounds);
    else
        random_instructions(rounds, mode == 'u');
    check(true, "came to the end");
}
