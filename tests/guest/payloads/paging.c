// SPDX-License-Identifier: Apache-2.0
/*
 * Page faults as ring 0 sees them (SDM 3A, 4.6 and 4.7): every combination of P, R/W, U/S and NX of
 * a page, by every kind of access, from both rings, with CR0.WP, SMEP and SMAP in all settings;
 * error code, CR2, accessed and dirty bits.
 */
#include "payload.h"

#define TEST_PAGE  0x40000000000UL /* a linear address of its own */
#define USER_CODE  0x40000200000UL
#define USER_STACK 0x40000300000UL

enum kind { READ, WRITE, FETCH };

static bool have_smep, have_smap;

static void do_read(void *at)
{
    asm volatile("movb (%0), %%al" ::"r"(at) : "rax", "memory");
}

static void do_write(void *at)
{
    asm volatile("movb $0, (%0)" ::"r"(at) : "memory");
}

static void do_read_ac(void *at)
{
    asm volatile("stac; movb (%0), %%al; clac" ::"r"(at) : "rax", "memory");
}

static void do_write_ac(void *at)
{
    asm volatile("stac; movb $0, (%0); clac" ::"r"(at) : "memory");
}

static void do_fetch(void *at)
{
    ((void (*)(void))at)();
}

/* Ring 3: mov (%rax), %cl; or movb $0, (%rax); or jmp *%rax. Then int $0x80. */
static const uint8_t user_code[3][8] = {
    {0x8a, 0x08, 0xcd, 0x80},
    {0xc6, 0x00, 0x00, 0xcd, 0x80},
    {0xff, 0xe0},
};

struct setting {
    bool present, writable, user, nx, wp, smep, smap, ac, cpl3;
    enum kind kind;
};

/* What the manual says: whether the access succeeds, and else the error code. */
static bool expected(const struct setting *s, uint64_t *error)
{
    bool ok = true;

    *error = (s->kind == WRITE ? 2 : 0) | (s->cpl3 ? 4 : 0) | (s->kind == FETCH ? 16 : 0);
    if (!s->present)
        return false;
    if (s->cpl3)
        ok = s->user && (s->kind != WRITE || s->writable);
    else if (s->kind == WRITE)
        ok = (s->writable || !s->wp) && !(s->user && s->smap && !s->ac);
    else if (s->kind == READ)
        ok = !(s->user && s->smap && !s->ac);
    if (s->kind == FETCH && (s->nx || (!s->cpl3 && s->user && s->smep)))
        ok = false;
    *error |= 1;
    return ok;
}

static bool access(const struct setting *s)
{
    void *at = (void *)TEST_PAGE;

    if (s->cpl3)
        return user_call(USER_CODE + 16 * s->kind, USER_STACK + 4096, TEST_PAGE);
    if (s->kind == READ)
        return try_call(s->ac ? do_read_ac : do_read, at);
    if (s->kind == WRITE)
        return try_call(s->ac ? do_write_ac : do_write, at);
    return try_call(do_fetch, at);
}

static void one(const struct setting *s, uint64_t *pte, uint64_t physical, uint64_t cr4)
{
    uint64_t error;
    bool ok = expected(s, &error), went;

    *pte = physical | (s->present ? PTE_P : 0) | (s->writable ? PTE_W : 0) | (s->user ? PTE_U : 0) |
           (s->nx ? PTE_NX : 0);
    invlpg(TEST_PAGE);
    write_cr0((read_cr0() & ~CR0_WP) | (s->wp ? CR0_WP : 0));
    write_cr4(cr4 | (s->smep ? CR4_SMEP : 0) | (s->smap ? CR4_SMAP : 0));
    caught.vector = 0xff;
    went = access(s);
    write_cr4(cr4);
    write_cr0(read_cr0() | CR0_WP);

#define SETTING "P%d W%d U%d NX%d WP%d SMEP%d SMAP%d AC%d cpl%d kind%d"
#define VALUES                                                                                \
    s->present, s->writable, s->user, s->nx, s->wp, s->smep, s->smap, s->ac, s->cpl3 ? 3 : 0, \
        s->kind
    check(went == ok, SETTING ": went %d, vector %u error %lx", VALUES, went, caught.vector,
          caught.error);
    if (!ok && !went) {
        check(caught.vector == 14 && caught.error == error && caught.cr2 == TEST_PAGE,
              SETTING ": vector %u error %lx (expected %lx) cr2 %lx", VALUES, caught.vector,
              caught.error, error, caught.cr2);
        check(!(*pte & (PTE_A | PTE_D)), SETTING ": A or D set by a fault: %lx", VALUES, *pte);
    }
    if (ok && went)
        check((*pte & PTE_A) && !(*pte & PTE_D) == (s->kind != WRITE), SETTING ": entry %lx",
              VALUES, *pte);
}

static void protection_combinations(void)
{
    uint8_t *page = page_alloc(), *code = page_alloc(), *stack = page_alloc();
    uint64_t *pte = page_map(TEST_PAGE, (uint64_t)page, PTE_P | PTE_W | PTE_U);
    uint64_t cr4 = read_cr4();

    page_map(USER_CODE, (uint64_t)code, PTE_P | PTE_U);
    page_map(USER_STACK, (uint64_t)stack, PTE_P | PTE_W | PTE_U);
    for (unsigned i = 0; i < 3; i++)
        memcpy(code + 16 * i, user_code[i], 8);

    for (unsigned bits = 0; bits < 1 << 9; bits++) {
        struct setting s = {
            .present = bits & 1,
            .writable = bits & 2,
            .user = bits & 4,
            .nx = bits & 8,
            .wp = bits & 16,
            .smep = bits & 32,
            .smap = bits & 64,
            .ac = bits & 128,
            .cpl3 = bits & 256,
        };
        if ((s.smep && !have_smep) || (s.smap && !have_smap) || (s.ac && (!s.smap || s.cpl3)))
            continue;
        for (s.kind = READ; s.kind <= FETCH; s.kind++) {
            /* What a fetch finds there: ret for ring 0, int $0x80 for ring 3. */
            memcpy(page, s.cpl3 ? "\xcd\x80" : "\xc3\x90", 2);
            one(&s, pte, (uint64_t)page, cr4);
        }
    }
}

static void reserved_bits(void)
{
    uint32_t leaf[4];
    unsigned width;
    uint64_t *pte = page_map(TEST_PAGE, (uint64_t)page_alloc(), PTE_P | PTE_W);

    cpuid(0x80000008, 0, leaf);
    width = leaf[0] & 0xff;
    if (width >= 52) {
        skip("no reserved address bits with MAXPHYADDR %u", width);
        return;
    }
    *pte |= 1UL << width;
    invlpg(TEST_PAGE);
    check(!try_call(do_read, (void *)TEST_PAGE) && caught.vector == 14 && caught.error == 9,
          "reserved address bit: vector %u error %lx", caught.vector, caught.error);
    wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x800UL);
    *pte = (*pte & ~(1UL << width)) | PTE_NX;
    invlpg(TEST_PAGE);
    check(!try_call(do_read, (void *)TEST_PAGE) && caught.vector == 14 && caught.error == 9,
          "NX without EFER.NXE: vector %u error %lx", caught.vector, caught.error);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800UL);
}

static void write_across(void *at)
{
    *(volatile uint64_t *)at = 0x1122334455667788;
}

/* A write that crosses into a page that faults stores no byte, and CR2 is that page's address. */
static void crossing_write(void)
{
    uint8_t *page = page_alloc();

    page_map(TEST_PAGE, (uint64_t)page, PTE_P | PTE_W);
    page_map(TEST_PAGE + 4096, 0, 0);
    check(!try_call(write_across, (void *)(TEST_PAGE + 4093)), "the crossing write went through");
    check(caught.cr2 == TEST_PAGE + 4096 && caught.error == 2, "cr2 %lx error %lx", caught.cr2,
          caught.error);
    check(page[4093] == 0 && page[4095] == 0, "bytes of a faulting write were stored");
}

static void non_canonical(void)
{
    check(!try_call(do_read, (void *)0x800000000000UL) && caught.vector == 13 && caught.error == 0,
          "non-canonical read: vector %u error %lx", caught.vector, caught.error);
}

void payload_main(const char *cmdline)
{
    uint32_t leaf[4];

    (void)cmdline;
    cpuid(7, 0, leaf);
    have_smep = leaf[1] >> 7 & 1;
    have_smap = leaf[1] >> 20 & 1;
    protection_combinations();
    reserved_bits();
    crossing_write();
    non_canonical();
}
