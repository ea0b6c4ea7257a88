// SPDX-License-Identifier: Apache-2.0
/*
 * What CPUID shows works as ring 0 sees it: UMIP, FSGSBASE, SYSCALL and SYSRET, PCID and INVPCID,
 * CMPXCHG16B, XSAVE, AVX-512, RDTSCP and RDPID, TSC_ADJUST, PAT and MTRR registers, CR4.TSD.
 */
#include "payload.h"

#define USER_CODE  0x40000200000UL
#define USER_STACK 0x40000300000UL
#define TEST_PAGE  0x40000000000UL

static uint8_t *user_page;
static uint32_t leaf1[4], leaf7[4];

static void write_msr_pair(void *pair)
{
    wrmsr(((uint64_t *)pair)[0], ((uint64_t *)pair)[1]);
}

static bool msr_accepts(uint32_t index, uint64_t value)
{
    uint64_t pair[2] = {index, value};
    return try_call(write_msr_pair, pair);
}

/* Run the bytes in ring 3, followed by int $0x80. */
static bool user_bytes(const char *bytes, unsigned size, uint64_t rax)
{
    memset(user_page, 0xcc, 4096);
    memcpy(user_page, bytes, size);
    memcpy(user_page + size, "\xcd\x80", 2);
    caught.vector = 0xff;
    return user_call(USER_CODE, USER_STACK + 4096, rax);
}

static void umip(void)
{
    /* sgdt, sidt, sldt, smsw, str, each with a register or the stack as target. */
    static const char *const bytes[] = {"\x0f\x01\x44\x24\xe0", "\x0f\x01\x4c\x24\xe0",
                                        "\x0f\x00\x44\x24\xe0", "\x0f\x01\x64\x24\xe0",
                                        "\x0f\x00\x4c\x24\xe0"};

    for (unsigned i = 0; i < 5; i++) {
        check(user_bytes(bytes[i], 5, 0), "form %u without UMIP: vector %u", i, caught.vector);
        if (!(leaf7[2] >> 2 & 1))
            continue;
        write_cr4(read_cr4() | CR4_UMIP);
        check(!user_bytes(bytes[i], 5, 0) && caught.vector == 13 && caught.error == 0,
              "form %u under UMIP: vector %u", i, caught.vector);
        write_cr4(read_cr4() & ~CR4_UMIP);
    }
}

static void fsgsbase(void)
{
    uint64_t base;

    check(!user_bytes("\xf3\x48\x0f\xae\xc0", 5, 0) && caught.vector == 6,
          "rdfsbase without CR4.FSGSBASE: vector %u", caught.vector);
    if (!(leaf7[1] & 1))
        return;
    write_cr4(read_cr4() | 1 << 16);
    wrmsr(0xc0000100, 0x123456789000);
    check(user_bytes("\xf3\x48\x0f\xae\xc0", 5, 0) && caught.rax == 0x123456789000,
          "rdfsbase gave %lx", caught.rax);
    check(!user_bytes("\xf3\x48\x0f\xae\xd0", 5, 0x8000000000000000) && caught.vector == 13,
          "wrfsbase of a non-canonical address: vector %u", caught.vector);
    wrmsr(0xc0000101, 0x1000);
    wrmsr(0xc0000102, 0x2000);
    asm volatile("swapgs; rdgsbase %0" : "=r"(base));
    check(base == 0x2000 && rdmsr(0xc0000102) == 0x1000, "swapgs: %lx", base);
    write_cr4(read_cr4() & ~(1UL << 16));
    check(!msr_accepts(0xc0000100, 0x800000000000), "FS base took a non-canonical address");
}

extern char syscall_entry[];
asm(".globl syscall_entry\n"
    "syscall_entry:\n"
    "    mov %rcx, %r10\n"  /* return address */
    "    mov %r11, %rbx\n"  /* flags */
    "    pushf; pop %rdx\n" /* flags here: masked */
    "    sysretq\n");

static void syscall_sysret(void)
{
    check(!msr_accepts(0xc0000082, 0x800000000000), "LSTAR took a non-canonical address");
    wrmsr(0xc0000081, 0x08UL << 32 | 0x10UL << 48);
    wrmsr(0xc0000082, (uint64_t)syscall_entry);
    wrmsr(0xc0000084, 0x40);
    /* xor %eax,%eax sets ZF; syscall; then lea 0(%rip) to compare, sub %r10, to RAX. */
    check(user_bytes("\x31\xc0\x48\x89\xe5\x0f\x05\x48\x8d\x05\xf9\xff\xff\xff\x4c\x29\xd0", 17, 0),
          "syscall: vector %u error %lx at %lx", caught.vector, caught.error, caught.rip);
    check(caught.rax == 0, "RCX is not the address behind SYSCALL: off by %lx", caught.rax);
    check(caught.cs == 0x23, "SYSRET's CS is %lx", caught.cs);
    /* The flags inside, in RDX: ZF masked; those before in RBX. */
    check(user_bytes("\x31\xc0\x0f\x05\x48\x89\xd0", 7, 0) && !(caught.rax & 0x40),
          "FMASK did not clear ZF: %lx", caught.rax);
    check(user_bytes("\x31\xc0\x0f\x05\x48\x89\xd8", 7, 0) && (caught.rax & 0x40),
          "R11 has not the flags before: %lx", caught.rax);
    wrmsr(0xc0000080, rdmsr(0xc0000080) & ~1UL);
    check(!user_bytes("\x0f\x05", 2, 0) && caught.vector == 6, "syscall without SCE: vector %u",
          caught.vector);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
}

static void do_invpcid(void *argument)
{
    uint64_t *words = argument;
    asm volatile("invpcid (%0), %1" ::"r"(words + 1), "r"(words[0]) : "memory");
}

static void set_pcide(void *unused)
{
    write_cr4(read_cr4() | CR4_PCIDE);
}

/* Two address spaces that differ in one page, switched without a flush. */
static void pcid(void)
{
    uint8_t *first = page_alloc(), *second = page_alloc();
    uint64_t *tables = page_alloc(), *pte;
    uint64_t cr3 = read_cr3(), other;
    volatile uint8_t *at = (volatile uint8_t *)TEST_PAGE;

    if (!(leaf1[2] >> 17 & 1)) {
        skip("PCID: not in CPUID");
        return;
    }
    first[0] = 1;
    second[0] = 2;
    page_map(TEST_PAGE, (uint64_t)first, PTE_P | PTE_W);
    write_cr3(cr3 | 1);
    check(!try_call(set_pcide, NULL) && caught.vector == 13, "PCIDE with a PCID in CR3: vector %u",
          caught.vector);
    write_cr3(cr3);
    set_pcide(NULL);

    memcpy(tables, (void *)cr3, 4096);
    other = (uint64_t)tables;
    tables[TEST_PAGE >> 39] = 0;
    write_cr3(other | 2);
    pte = page_map(TEST_PAGE, (uint64_t)second, PTE_P | PTE_W);
    check(at[0] == 2, "PCID 2 sees %u", at[0]);
    write_cr3(cr3 | 1);
    check(at[0] == 1, "PCID 1 sees %u", at[0]);
    for (unsigned i = 0; i < 100; i++) {
        write_cr3(other | 2 | 1UL << 63);
        check(at[0] == 2, "round %u: PCID 2 sees %u", i, at[0]);
        write_cr3(cr3 | 1 | 1UL << 63);
        check(at[0] == 1, "round %u: PCID 1 sees %u", i, at[0]);
    }
    if (leaf7[1] >> 10 & 1) {
        uint64_t one[3] = {0, 2, TEST_PAGE}, bad[3] = {4, 0, 0}, reserved[3] = {0, 0x1000, 0};

        *pte = (uint64_t)first | PTE_P | PTE_W; /* PCID 2's entry, while PCID 1 runs */
        check(try_call(do_invpcid, one), "INVPCID of one address: vector %u", caught.vector);
        write_cr3(other | 2 | 1UL << 63);
        check(at[0] == 1, "INVPCID did not drop PCID 2's entry: %u", at[0]);
        check(!try_call(do_invpcid, bad) && caught.vector == 13, "INVPCID type 4: vector %u",
              caught.vector);
        check(!try_call(do_invpcid, reserved) && caught.vector == 13,
              "INVPCID with reserved bits: vector %u", caught.vector);
    }
    write_cr3(cr3);
    write_cr4(read_cr4() & ~CR4_PCIDE);
}

static void compare_exchange(void *at)
{
    asm volatile("lock cmpxchg16b (%0)" ::"r"(at), "a"(1), "d"(2), "b"(3), "c"(4) : "memory");
}

static void cmpxchg16b(void)
{
    static uint64_t data[4] __attribute__((aligned(16))) = {1, 2, 0, 0};

    check(try_call(compare_exchange, data) && data[0] == 3 && data[1] == 4, "cmpxchg16b: %lx %lx",
          data[0], data[1]);
    check(try_call(compare_exchange, data) && data[0] == 3, "an unequal one stored");
    check(!try_call(compare_exchange, (char *)data + 8) && caught.vector == 13,
          "misaligned cmpxchg16b: vector %u", caught.vector);
}

static void set_xcr0(void *value)
{
    asm volatile("xsetbv" ::"c"(0), "a"((uint32_t)(uint64_t)value), "d"(0));
}

static void xrstor_area(void *area)
{
    asm volatile("xrstor (%0)" ::"r"(area), "a"(-1), "d"(-1) : "memory");
}

static void xsave(void)
{
    static uint8_t area[4096] __attribute__((aligned(64)));
    uint32_t leaf[4];
    uint64_t all;

    if (!(leaf1[2] >> 26 & 1)) {
        skip("XSAVE: not in CPUID");
        return;
    }
    check(!try_call(set_xcr0, (void *)3) && caught.vector == 6, "XSETBV without OSXSAVE");
    write_cr4(read_cr4() | CR4_OSXSAVE);
    cpuid(1, 0, leaf);
    check(leaf[2] >> 27 & 1, "CPUID's OSXSAVE does not follow CR4");
    cpuid(0xd, 0, leaf);
    all = leaf[0];
    check(!try_call(set_xcr0, (void *)2) && caught.vector == 13, "XCR0 without x87 was taken");
    check(!try_call(set_xcr0, (void *)5) && caught.vector == 13, "XCR0 with AVX, no SSE was taken");
    check(try_call(set_xcr0, (void *)all), "XCR0 %lx was refused", all);
    cpuid(0xd, 0, leaf);
    check(leaf[1] >= 576 && leaf[1] <= leaf[2], "XSAVE size %u of %u", leaf[1], leaf[2]);
    check(leaf[2] <= sizeof(area), "XSAVE size %u", leaf[2]);

    asm volatile("movq %0, %%xmm3" ::"r"(0x1122334455667788UL));
    asm volatile("xsave (%0)" ::"r"(area), "a"(-1), "d"(-1) : "memory");
    check(*(uint64_t *)(area + 160 + 48) == 0x1122334455667788, "XMM3 in the area: %lx",
          *(uint64_t *)(area + 160 + 48));
    asm volatile("movq %0, %%xmm3" ::"r"(0UL));
    check(try_call(xrstor_area, area), "XRSTOR: vector %u", caught.vector);
    asm volatile("movq %%xmm3, %0" : "=r"(all));
    check(all == 0x1122334455667788, "XMM3 after XRSTOR: %lx", all);
    area[520] = 1; /* reserved header bytes */
    area[528] = 1;
    check(!try_call(xrstor_area, area) && caught.vector == 13, "XRSTOR of a bad header: vector %u",
          caught.vector);
    check(!try_call(xrstor_area, area + 16) && caught.vector == 13, "XRSTOR misaligned: vector %u",
          caught.vector);
}

static void xsave_area(void *area)
{
    asm volatile("xsave (%0)" ::"r"(area), "a"(0xe7), "d"(0) : "memory");
}

static void add_wide(void *unused)
{
    asm volatile(".byte 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1"); /* vaddps %zmm1, %zmm0, %zmm0 */
}

static void move_mask(void *value)
{
    asm volatile(".byte 0xc4, 0xe1, 0xfb, 0x92, 0xc8" ::"a"(value)); /* kmovq %rax, %k1 */
}

/* After xsave(): XCR0 has all that there is. */
static void avx512(void)
{
    static uint8_t area[4096] __attribute__((aligned(64)));
    static const uint32_t parts[] = {0x27, 0x67, 0xa7, 0xe3};
    uint32_t opmask[4], high[4], upper[4], leaf[4];

    if (!(leaf7[1] >> 16 & 1)) {
        skip("AVX-512: not in CPUID");
        return;
    }
    for (unsigned i = 0; i < 4; i++)
        check(!try_call(set_xcr0, (void *)(uint64_t)parts[i]) && caught.vector == 13,
              "XCR0 %x was taken", parts[i]);
    check(try_call(set_xcr0, (void *)7), "XCR0 without AVX-512 was refused");
    check(!try_call(add_wide, NULL) && caught.vector == 6, "vaddps zmm without XCR0's: vector %u",
          caught.vector);
    check(!try_call(move_mask, NULL) && caught.vector == 6, "kmovq without XCR0's: vector %u",
          caught.vector);
    cpuid(0xd, 0, leaf);
    check(leaf[1] == 832, "XSAVE size %u with AVX", leaf[1]);
    check(try_call(set_xcr0, (void *)0xe7), "XCR0 with AVX-512 was refused");
    cpuid(0xd, 0, leaf);
    cpuid(0xd, 5, opmask);
    cpuid(0xd, 6, high);
    cpuid(0xd, 7, upper);
    check(opmask[0] == 64 && high[0] == 512 && upper[0] == 1024 && upper[1] + 1024 == leaf[1],
          "components of %u, %u, %u bytes, the last at %u of %u", opmask[0], high[0], upper[0],
          upper[1], leaf[1]);
    write_cr0(read_cr0() | 8); /* TS */
    check(!try_call(add_wide, NULL) && caught.vector == 7, "vaddps zmm under TS: vector %u",
          caught.vector);
    write_cr0(read_cr0() & ~8UL);
    check(try_call(add_wide, NULL), "vaddps zmm: vector %u", caught.vector);
    check(try_call(move_mask, (void *)0x123456789abcdef0), "kmovq: vector %u", caught.vector);
    check(try_call(xsave_area, area), "XSAVE: vector %u", caught.vector);
    check(*(uint64_t *)(area + opmask[1] + 8) == 0x123456789abcdef0, "k1 in the area: %lx",
          *(uint64_t *)(area + opmask[1] + 8));
}

static void time_stamps(void)
{
    uint64_t before, after;
    uint32_t aux;

    wrmsr(0xc0000103, 77);
    asm volatile("rdtscp" : "=c"(aux)::"rax", "rdx");
    check(aux == 77, "RDTSCP's ECX is %u", aux);
    before = rdtsc();
    after = rdtsc();
    check(after >= before, "the TSC went back");
    if (leaf7[1] >> 1 & 1) {
        uint64_t adjust = rdmsr(0x3b);
        before = rdtsc();
        wrmsr(0x3b, adjust + (1UL << 50));
        after = rdtsc();
        check(after - before >= 1UL << 50, "TSC_ADJUST did not move the TSC");
        wrmsr(0x3b, adjust);
        wrmsr(0x10, rdtsc() + (1UL << 40));
        check(rdmsr(0x3b) - adjust >= 1UL << 39, "a TSC write did not show in TSC_ADJUST");
        wrmsr(0x3b, adjust);
    }
    write_cr4(read_cr4() | CR4_TSD);
    check(!user_bytes("\x0f\x31", 2, 0) && caught.vector == 13, "RDTSC under TSD: vector %u",
          caught.vector);
    write_cr4(read_cr4() & ~CR4_TSD);
    check(user_bytes("\x0f\x31", 2, 0), "RDTSC in ring 3: vector %u", caught.vector);
}

static void memory_types(void)
{
    uint64_t pat = rdmsr(0x277), cap = rdmsr(0xfe);

    check(!msr_accepts(0x277, 0x0202020202020202), "PAT took type 2");
    check(msr_accepts(0x277, pat), "PAT refused its own value");
    check(!msr_accepts(0xfe, cap), "MTRRcap is writable");
    check(!msr_accepts(0x2ff, 0x802), "MTRRdefType took type 2");
    for (unsigned i = 0; i < (cap & 0xff); i++)
        check(msr_accepts(0x200 + 2 * i, 6) && rdmsr(0x200 + 2 * i) == 6, "MTRR base %u", i);
}

static void ring3_privileges(void)
{
    static const struct {
        const char *name, *bytes;
        unsigned size;
    } privileged[] = {
        {"hlt", "\xf4", 1},
        {"cli", "\xfa", 1},
        {"mov cr0", "\x0f\x20\xc0", 3},
        {"rdmsr", "\x0f\x32", 2},
        {"in", "\xe4\x60", 2},
        {"lgdt", "\x0f\x01\x10", 3},
        {"invlpg", "\x0f\x01\x38", 3},
        {"clts", "\x0f\x06", 2},
        {"wbinvd", "\x0f\x09", 2},
        {"swapgs", "\x0f\x01\xf8", 3},
        {"mov dr0", "\x0f\x21\xc0", 3},
        {"sysret", "\x0f\x07", 2},
    };

    for (unsigned i = 0; i < sizeof(privileged) / sizeof(privileged[0]); i++)
        check(!user_bytes(privileged[i].bytes, privileged[i].size, USER_STACK) &&
                  caught.vector == 13 && caught.error == 0,
              "%s in ring 3: vector %u error %lx", privileged[i].name, caught.vector, caught.error);
}

void payload_main(const char *cmdline)
{
    uint8_t *stack = page_alloc();

    user_page = page_alloc();
    page_map(USER_CODE, (uint64_t)user_page, PTE_P | PTE_U);
    page_map(USER_STACK, (uint64_t)stack, PTE_P | PTE_W | PTE_U);
    cpuid(1, 0, leaf1);
    cpuid(7, 0, leaf7);
    umip();
    fsgsbase();
    syscall_sysret();
    ring3_privileges();
    pcid();
    cmpxchg16b();
    xsave();
    avx512();
    time_stamps();
    memory_types();
}
