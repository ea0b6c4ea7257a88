// SPDX-License-Identifier: Apache-2.0
/*
 * 32-bit code under a 64-bit kernel, where addresses end at 4 GB: sums run over, and what 64-bit
 * code left in the upper halves of registers counts for nothing, although the same address space
 * has pages there (SDM 1, 3.3.7 and 3.4.1.1). Each part runs often enough to be worth an engine's
 * while.
 */
#include "payload.h"

#define CODE   0x60000000UL
#define LOW    0x60400000UL /* a page, and the one 4 GB above it */
#define HIGH   0x160400000UL
#define TOP    0xfffff000UL  /* the last page below 4 GB, and the last of all */
#define ABOVE  0x100000000UL /* what follows it in 64-bit code */
#define LAST   0xfffffffffffff000UL
#define ROUNDS 60

static uint32_t *low, *high, *top, *above, *last;

/* By IRET to what `where` holds: RIP, SS, RSP, CS; int $0x80 there comes back. RBX is `rbx`. */
struct place {
    uint64_t rip, ss, rsp, cs, rbx;
};
void enter_place(void *place);
asm("enter_place:\n"
    "   movl $0x1b, %eax; movl %eax, %ds; movl %eax, %es\n"
    "   movq 32(%rdi), %rbx\n"
    "   pushq 8(%rdi); pushq 16(%rdi); pushq $2; pushq 24(%rdi); pushq (%rdi)\n"
    "   iretq\n");

/* RAX at its end; 0xdead when it ended otherwise. */
static uint64_t run(const uint8_t *code, bool wide, uint64_t rsp, uint64_t rbx)
{
    struct place place = {(uint64_t)code, 0x1b, rsp, wide ? 0x23 : 0x33, rbx};

    try_call(enter_place, &place);
    return caught.vector == 0x80 ? caught.rax : 0xdead;
}

extern const uint8_t code_begin[], code_end[], touch[], push_two[], wrap_up[], keeps_half[],
    wrap_down[];
asm("code_begin:\n"
    "touch:\n" /* 64-bit: read and write the pages that 32-bit code must not reach */
    "   movabsq $0x160400000, %rcx; lock orl $0, (%rcx); lock orl $0, 0xf00(%rcx)\n"
    "   movabsq $0x100000000, %rcx; lock orl $0, (%rcx)\n"
    "   movq $-4096, %rcx; lock orl $0, (%rcx)\n"
    "   int $0x80\n"
    "   .code32\n"
    "push_two:\n"
    "   pushl $1; pushl $2; popl %eax; popl %ecx; pushl %ecx; pushl %eax\n"
    "   movl $7, (%ebx); movl 4(%ebx), %eax; addl (%ebx), %eax\n"
    "   int $0x80\n"
    "wrap_up:\n"
    "   movl $0xfffffff0, %ebx\n"
    "   movl (%ebx), %eax\n"
    "   addl $0x20, %ebx\n"
    "   addl -0x20(%ebx), %eax\n"
    "   addl -0x1c(%ebx), %eax\n"
    "   movl $-64, %ecx\n"
    "   addl 0x30(%ecx), %eax\n"
    "   movl %ecx, %edx\n"
    "   movl $48, %ecx\n"
    "   addl (%edx,%ecx), %eax\n"
    "   int $0x80\n"
    "keeps_half:\n" /* the upper half of RBX, which the address runs over to meet, goes away */
    "   movl -0x20(%ebx), %eax\n"
    "   addl $0, %ebx\n"
    "   addl -0x20(%ebx), %eax\n"
    "   int $0x80\n"
    "wrap_down:\n"
    "   movl $0, %esp\n"
    "   pushl $5; pushl $6; pushl $7\n"
    "   movl -8(%esp), %eax\n"
    "   popl %eax; popl %ecx; addl %ecx, %eax; popl %ecx; addl %ecx, %eax\n"
    "   int $0x80\n"
    "   .code64\n"
    "code_end:\n");

static const uint8_t *at(const uint8_t *label)
{
    return (const uint8_t *)CODE + (label - code_begin);
}

static uint32_t *map_user(uint64_t linear)
{
    uint32_t *page = page_alloc();

    page_map(linear, (uint64_t)page, PTE_P | PTE_W | PTE_U);
    return page;
}

static void touch_upper_pages(unsigned round)
{
    if (round % 4 == 0)
        run(at(touch), true, LOW + 0xf80, 0);
}

static void upper_halves_count_for_nothing(void)
{
    unsigned wrong = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        touch_upper_pages(i);
        low[0] = low[0xf78 / 4] = low[0xf7c / 4] = 0;
        low[1] = i;
        wrong += run(at(push_two), false, HIGH + 0xf80, HIGH) != i + 7;
        wrong += low[0] != 7 || low[0xf7c / 4] != 1 || low[0xf78 / 4] != 2;
        wrong += high[0] || high[0xf78 / 4] || high[0xf7c / 4];
    }
    check(!wrong, "%u accesses by the lower halves of registers", wrong);
}

static void sums_run_over(void)
{
    unsigned wrong = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        touch_upper_pages(i);
        top[0xff0 / 4] = i;
        top[0xff4 / 4] = 1000;
        wrong += run(at(wrap_up), false, LOW + 0xf80, 0) != 4 * i + 1000;
        wrong += run(at(keeps_half), false, LOW + 0xf80, ABOVE + 0x10) != 2 * i;
        wrong += run(at(wrap_down), false, LOW + 0xf80, 0) != 18;
        wrong += top[0xffc / 4] != 5 || top[0xff8 / 4] != 6 || top[0xff4 / 4] != 7;
        wrong += last[0xffc / 4] || last[0xff8 / 4] || above[0];
    }
    check(!wrong, "%u accesses by sums that run over", wrong);
}

void payload_main(const char *cmdline)
{
    uint32_t *code = map_user(CODE);

    (void)cmdline;
    memcpy(code, code_begin, code_end - code_begin);
    low = map_user(LOW);
    high = map_user(HIGH);
    top = map_user(TOP);
    above = map_user(ABOVE);
    last = map_user(LAST);
    upper_halves_count_for_nothing();
    sums_run_over();
}
