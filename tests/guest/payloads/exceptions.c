// SPDX-License-Identifier: Apache-2.0
/*
 * Exceptions in long mode: vectors, error codes and return addresses of faults and traps, nesting
 * to #DF, interrupt stacks, interrupt shadows, single step, debug registers (SDM 3A ch. 6, 3B ch.
 * 17).
 */
#include "payload.h"

static void execute_ud2(void *unused)
{
    asm volatile("ud2");
}

static void divide_by_zero(void *unused)
{
    asm volatile("divl %%ecx" ::"a"(1), "d"(0), "c"(0));
}

static void divide_overflow(void *unused)
{
    asm volatile("divl %%ecx" ::"a"(0), "d"(5), "c"(5));
}

static void breakpoint(void *unused)
{
    asm volatile("int3");
}

static void load_bad_selector(void *selector)
{
    asm volatile("movl %k0, %%es" ::"r"(selector));
}

static void load_stack_selector(void *selector)
{
    asm volatile("movl %k0, %%ss" ::"r"(selector));
}

static void read_bad_msr(void *unused)
{
    rdmsr(0x12345678);
}

static void write_bad_efer(void *unused)
{
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1UL << 40);
}

static void write_bad_cr0(void *unused)
{
    write_cr0(read_cr0() & ~1UL);
}

static void write_bad_cr4(void *unused)
{
    write_cr4(read_cr4() | 1UL << 40);
}

static void software_interrupt_beyond(void *unused)
{
    /* Vector 0x70 is made not present below. */
    asm volatile("int $0x70");
}

/* Through RBP, whose segment is SS too: RSP must stay good for the handler. */
static void stack_non_canonical(void *unused)
{
    asm volatile("mov %%rbp, %%rbx\n"
                 "mov %0, %%rbp\n"
                 "mov (%%rbp), %%rax\n"
                 "mov %%rbx, %%rbp" ::"r"(0x800000000000UL)
                 : "rax", "rbx");
}

static void misaligned_sse(void *at)
{
    asm volatile("movaps (%0), %%xmm0" ::"r"((char *)at + 1));
}

static void expect(const char *name, void (*fn)(void *), void *argument, unsigned vector,
                   uint64_t error)
{
    caught.vector = 0xff;
    check(!try_call(fn, argument), "%s did not fault", name);
    check(caught.vector == vector && caught.error == error, "%s: vector %u error %lx", name,
          caught.vector, caught.error);
}

static void simple_faults(void)
{
    static uint8_t aligned[32] __attribute__((aligned(16)));

    asm volatile("lldt %w0" ::"r"(0));
    expect("ud2", execute_ud2, NULL, 6, 0);
    check(*(uint16_t *)caught.rip == 0x0b0f, "ud2's address is that of the instruction");
    expect("division by zero", divide_by_zero, NULL, 0, 0);
    expect("division overflow", divide_overflow, NULL, 0, 0);
    expect("int3", breakpoint, NULL, 3, 0);
    check(*(uint8_t *)(caught.rip - 1) == 0xcc, "int3 is a trap: the address is the next one");
    expect("selector beyond the GDT", load_bad_selector, (void *)0xfff8, 13, 0xfff8);
    expect("selector in an absent LDT", load_bad_selector, (void *)0x0c, 13, 0x0c);
    expect("code segment into SS", load_stack_selector, (void *)0x08, 13, 0x08);
    expect("user segment into SS", load_stack_selector, (void *)0x18, 13, 0x18);
    expect("unknown MSR", read_bad_msr, NULL, 13, 0);
    expect("reserved EFER bit", write_bad_efer, NULL, 13, 0);
    expect("CR0.PE cleared under paging", write_bad_cr0, NULL, 13, 0);
    expect("reserved CR4 bit", write_bad_cr4, NULL, 13, 0);
    idt_ist(12, 1); /* there is no other stack to handle it on */
    expect("non-canonical stack", stack_non_canonical, NULL, 12, 0);
    idt_ist(12, 0);
    expect("misaligned movaps", misaligned_sse, aligned, 13, 0);
}

static void not_present_segment(void)
{
    boot_gdt_entry(10, 0x00cf13000000ffff); /* data, P clear */
    expect("absent data segment", load_bad_selector, (void *)0x50, 11, 0x50);
    expect("absent stack segment", load_stack_selector, (void *)0x50, 12, 0x50);
    boot_gdt_entry(10, 0);
}

static void absent_gate(void)
{
    idt_present(0x70, false);
    /* Error code: vector, IDT bit; EXT clear for a software interrupt. */
    expect("absent gate", software_interrupt_beyond, NULL, 11, 0x70 * 8 + 2);
    idt_present(0x70, true);
}

/* A #GP whose handler cannot be called (absent gate: #NP while delivering #GP) makes #DF. */
static void double_fault(void)
{
    idt_present(13, false);
    expect("#NP while delivering #GP", read_bad_msr, NULL, 8, 0);
    idt_present(13, true);
    /* A #PF while delivering a #PF is #DF too, a #UD before it is benign: delivered serially. */
    idt_present(6, false);
    expect("#NP while delivering #UD is delivered", execute_ud2, NULL, 11, 6 * 8 + 2 + 1);
    idt_present(6, true);
}

static volatile unsigned order[8], orders;
static volatile uint64_t order_rip[8];

static void note(struct frame *frame)
{
    if (orders < 8) {
        order[orders] = frame->vector;
        order_rip[orders++] = frame->rip;
    }
    if (frame->vector == 1)
        frame->rflags &= ~0x100UL; /* one step only */
}

static void note_keep_stepping(struct frame *frame)
{
    if (orders < 8)
        order_rip[orders++] = frame->rip;
}

static void note_with_rf(struct frame *frame)
{
    note_keep_stepping(frame);
    frame->rflags |= 1UL << 16;
}

static void single_step(void)
{
    uint64_t first, second, dr6;

    interrupt_set(1, note);
    orders = 0;
    asm volatile("pushf; orl $0x100, (%%rsp); popf\n"
                 "1: nop\n"
                 "2: nop\n"
                 "lea 1b(%%rip), %0; lea 2b(%%rip), %1"
                 : "=&r"(first), "=&r"(second)::"memory");
    asm volatile("mov %%dr6, %0" : "=r"(dr6));
    check(orders == 1 && order_rip[0] == second, "steps %u at %lx, wanted %lx", orders,
          order_rip[0], second);
    check((dr6 & 0x4000) != 0, "DR6.BS is not set: %lx", dr6);
    asm volatile("mov %0, %%dr6" ::"r"(0xffff0ff0UL));
    interrupt_set(1, NULL);
}

/* MOV SS holds a single-step trap back for one instruction. */
static void mov_ss_shadow(void)
{
    uint64_t after;

    interrupt_set(1, note_keep_stepping);
    orders = 0;
    asm volatile("mov %%ss, %%ecx\n"
                 "pushf; orl $0x100, (%%rsp); popf\n"
                 "mov %%ecx, %%ss\n"
                 "nop\n"
                 "1: nop\n"
                 "pushf; andl $~0x100, (%%rsp); popf\n"
                 "lea 1b(%%rip), %0"
                 : "=r"(after)::"rcx", "memory");
    interrupt_set(1, NULL);
    check(orders && order_rip[0] == after, "first step after MOV SS at %lx, wanted %lx",
          order_rip[0], after);
    asm volatile("mov %0, %%dr6" ::"r"(0xffff0ff0UL));
}

static void hardware_breakpoints(void)
{
    static volatile uint32_t watched;
    uint64_t dr6, address;

    interrupt_set(1, note_keep_stepping);
    orders = 0;
    /* DR0: 4-byte write watch. */
    asm volatile("mov %0, %%dr0; mov %1, %%dr7" ::"r"(&watched), "r"(0x400UL | 1 | 0xdUL << 16));
    (void)watched;
    check(orders == 0, "a read hit a write watch");
    watched = 5;
    asm volatile("mov %%dr6, %0" : "=r"(dr6));
    check(orders == 1 && (dr6 & 1), "write watch: hits %u dr6 %lx", orders, dr6);
    asm volatile("mov %0, %%dr7; mov %1, %%dr6" ::"r"(0x400UL), "r"(0xffff0ff0UL));

    /* DR1: execution; a fault before the instruction, so the handler must set RF: the frame's. */
    orders = 0;
    interrupt_set(1, note_with_rf);
    asm volatile("lea 1f(%%rip), %0\n"
                 "mov %0, %%dr1\n"
                 "mov %1, %%dr7\n"
                 "1: nop\n"
                 : "=&r"(address)
                 : "r"(0x400UL | 4));
    asm volatile("mov %%dr6, %0" : "=r"(dr6));
    check(orders == 1 && order_rip[0] == address && (dr6 & 2), "execution: hits %u at %lx dr6 %lx",
          orders, order_rip[0], dr6);
    asm volatile("mov %0, %%dr7; mov %1, %%dr6" ::"r"(0x400UL), "r"(0xffff0ff0UL));
    interrupt_set(1, NULL);
}

static void read_debug_register(void *unused)
{
    uint64_t value;
    asm volatile("mov %%dr0, %0" : "=r"(value));
}

static void general_detect(void)
{
    uint64_t dr6;

    asm volatile("mov %0, %%dr7" ::"r"(0x400UL | 1UL << 13));
    caught.vector = 0xff;
    check(!try_call(read_debug_register, NULL) && caught.vector == 1, "DR7.GD: vector %u",
          caught.vector);
    asm volatile("mov %%dr6, %0" : "=r"(dr6));
    check(dr6 & 1 << 13, "DR6.BD: %lx", dr6);
    asm volatile("mov %0, %%dr7; mov %1, %%dr6" ::"r"(0x400UL), "r"(0xffff0ff0UL));
}

static void interrupt_stack(void)
{
    extern char stack_top[];

    idt_ist(6, 1);
    caught.vector = 0xff;
    check(!try_call(execute_ud2, NULL) && caught.vector == 6, "#UD on an interrupt stack");
    idt_ist(6, 0);
    check(caught.rsp <= (uint64_t)stack_top && caught.rsp > (uint64_t)stack_top - 65536,
          "the saved RSP is the interrupted one: %lx", caught.rsp);
}

/* Code that runs over the end of the lower half, often enough to be worth an engine's while. */
static void off_the_end(void)
{
    uint8_t *page = page_alloc();
    unsigned wrong = 0;

    memset(page, 0x90, 4096);
    page_map(0x7ffffffff000, (uint64_t)page, PTE_P | PTE_W);
    for (unsigned i = 0; i < 60; i++) {
        bool came_back = try_call((void (*)(void *))0x7fffffffffe0, NULL);

        wrong += came_back || caught.vector != 13 || caught.rip != 0x800000000000;
    }
    check(!wrong, "%u runs over the end of the lower half", wrong);
}

/* Two accesses by one register, 3 GB apart: only the second one's page is there. An engine may look
 * at them together, and must not take the one for the other. */
#define FAR       0x60000000UL
#define FAR_PLACE 0x30000000000UL

void far_apart_code(void *base);
asm("far_apart_code:\n"
    "   movl 0x60000000(%rdi), %eax\n"
    "   jmp 1f\n"
    "1: movl %eax, -0x60000000(%rdi)\n"
    "   movl %eax, 0x60000000(%rdi)\n"
    "   ret\n");

static void far_apart(void)
{
    unsigned wrong = 0;

    page_map(FAR_PLACE + FAR, (uint64_t)page_alloc(), PTE_P | PTE_W);
    *(volatile uint32_t *)(FAR_PLACE + FAR) = 1;
    for (unsigned i = 0; i < 60; i++) {
        bool came_back = try_call(far_apart_code, (void *)FAR_PLACE);

        wrong += came_back || caught.vector != 14 || caught.cr2 != FAR_PLACE - FAR;
    }
    check(!wrong, "%u accesses to nowhere, beside one that is good", wrong);
}

void payload_main(const char *cmdline)
{
    simple_faults();
    not_present_segment();
    absent_gate();
    double_fault();
    single_step();
    mov_ss_shadow();
    hardware_breakpoints();
    general_detect();
    interrupt_stack();
    off_the_end();
    far_apart();
}
