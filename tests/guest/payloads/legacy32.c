// SPDX-License-Identifier: Apache-2.0
/*
 * What 64-bit systems no longer use and old ones live on: task switches, call gates with
 * parameters, segment limits and types, virtual-8086 mode, 32-bit and PAE paging with large pages
 * (SDM 3A ch. 5, 7, 8; 3B ch. 20).
 */
#include "payload32.h"

#define TSS_OTHER  0x30
#define TASK_GATE  0x38
#define SEG_SMALL  0x40
#define SEG_DOWN   0x48
#define SEG_RO     0x50
#define CALL_GATE  0x58
#define SEG_ABSENT 0x60

static struct tss32 other_tss;
static uint8_t other_stack[4096] __attribute__((aligned(16)));
static volatile uint32_t other_runs, other_link, other_eflags, other_busy, other_tr;

static void __attribute__((noinline)) other_body(void)
{
    uint32_t flags, selector;

    asm volatile("pushfl; popl %0; str %1" : "=r"(flags), "=r"(selector));
    other_runs++;
    other_eflags = flags;
    other_link = other_tss.link & 0xffff;
    other_tr = selector & 0xffff;
    other_busy = gdt32[TSS_OTHER / 8] >> 41 & 1;
}

/* The other task: does its work, goes back by IRET, and on again when it is called once more. */
void other_task(void);
void other_task_c(void);
asm("other_task:\n"
    "1: call other_task_c\n"
    "   iretl\n"
    "   jmp 1b\n");
void other_task_c(void)
{
    other_body();
}

static void other_reset(void)
{
    memset(&other_tss, 0, sizeof(other_tss));
    other_tss.eip = (uint32_t)other_task;
    other_tss.esp = (uint32_t)other_stack + sizeof(other_stack);
    other_tss.eflags = 2;
    other_tss.cs = 0x08;
    other_tss.ss = other_tss.ds = other_tss.es = 0x10;
    other_tss.io_map = sizeof(other_tss);
    gdt32[TSS_OTHER / 8] = descriptor((uint32_t)&other_tss, sizeof(other_tss) - 1, 0x89, 0);
    gdt32[TASK_GATE / 8] = gate(TSS_OTHER, 0, 0x85, 0);
    other_runs = 0;
}

static void call_tss(void *unused)
{
    asm volatile("lcall $0x30, $0" ::: "memory", "cc");
}

static void call_task_gate(void *unused)
{
    asm volatile("lcall $0x38, $0" ::: "memory", "cc");
}

static void task_switches(void)
{
    uint32_t selector;

    other_reset();
    check(try_call(call_tss, NULL), "CALL of a TSS: vector %u error %x", caught.vector,
          caught.error);
    check(other_runs == 1, "the other task ran %u times", other_runs);
    check(other_link == TSS_MAIN, "back link %x", other_link);
    check(other_eflags & 1 << 14, "NT is not set in the called task: %x", other_eflags);
    check(other_tr == TSS_OTHER && other_busy, "TR %x busy %u", other_tr, other_busy);
    asm volatile("str %0" : "=r"(selector));
    check((selector & 0xffff) == TSS_MAIN, "TR after the return: %x", selector);
    check(!(gdt32[TSS_OTHER / 8] >> 41 & 1), "the other TSS stays busy");
    check(gdt32[TSS_MAIN / 8] >> 41 & 1, "the main TSS is not busy");
    check(try_call(call_task_gate, NULL) && other_runs == 2, "CALL through a task gate: runs %u",
          other_runs);

    gdt32[TSS_OTHER / 8] |= 1ULL << 41;
    check(!try_call(call_tss, NULL) && caught.vector == 13 && caught.error == TSS_OTHER,
          "a busy TSS: vector %u error %x", caught.vector, caught.error);
    gdt32[TSS_OTHER / 8] = descriptor((uint32_t)&other_tss, sizeof(other_tss) - 1, 0x09, 0);
    check(!try_call(call_tss, NULL) && caught.vector == 11 && caught.error == TSS_OTHER,
          "an absent TSS: vector %u error %x", caught.vector, caught.error);
    gdt32[TSS_OTHER / 8] = descriptor((uint32_t)&other_tss, 0x66, 0x89, 0);
    check(!try_call(call_tss, NULL) && caught.vector == 10 && caught.error == TSS_OTHER,
          "a TSS that is too short: vector %u error %x", caught.vector, caught.error);
}

static void execute_ud2(void *unused)
{
    asm volatile("ud2; nop" ::: "memory", "cc");
}

static volatile uint32_t ud_eip;
void ud_task(void);
void ud_task_c(void);
asm("ud_task:\n"
    "1: call ud_task_c\n"
    "   iretl\n"
    "   jmp 1b\n");
void ud_task_c(void)
{
    ud_eip = main_tss.eip;
    main_tss.eip += 2; /* go on behind the instruction */
    other_runs++;
}

/* An exception whose gate is a task gate: the interrupted task's state lies in its TSS. */
static void exception_task(void)
{
    uint64_t saved = idt32[6];

    other_reset();
    other_tss.eip = (uint32_t)ud_task;
    idt32[6] = gate(TSS_OTHER, 0, 0x85, 0);
    check(try_call(execute_ud2, NULL), "an exception by task: vector %u", caught.vector);
    check(other_runs == 1 && *(uint16_t *)ud_eip == 0x0b0f, "ran %u at %x", other_runs, ud_eip);
    idt32[6] = saved;
}

static void read_small(void *offset)
{
    asm volatile("movl %k0, %%fs; movl %%fs:(%1), %%eax" ::"r"(SEG_SMALL), "r"(offset) : "eax");
}

static void read_down(void *offset)
{
    asm volatile("movl %k0, %%fs; movl %%fs:(%1), %%eax" ::"r"(SEG_DOWN), "r"(offset) : "eax");
}

static void write_read_only(void *offset)
{
    asm volatile("movl %k0, %%fs; movl $1, %%fs:(%1)" ::"r"(SEG_RO), "r"(offset));
}

static void write_code(void *offset)
{
    asm volatile("movl $1, %%cs:(%0)" ::"r"(offset));
}

static void read_null(void *offset)
{
    asm volatile("movl %k0, %%fs; movl %%fs:(%1), %%eax" ::"r"(0), "r"(offset) : "eax");
}

static void load_absent(void *unused)
{
    asm volatile("movl %k0, %%fs" ::"r"(SEG_ABSENT));
}

static void segment_limits(void)
{
    static uint8_t area[0x3000];

    gdt32[SEG_SMALL / 8] = descriptor((uint32_t)area, 0xfff, 0x93, 4);
    gdt32[SEG_DOWN / 8] = descriptor((uint32_t)area, 0xfff, 0x97, 4);
    gdt32[SEG_RO / 8] = descriptor((uint32_t)area, 0xfff, 0x91, 4);
    gdt32[SEG_ABSENT / 8] = descriptor((uint32_t)area, 0xfff, 0x13, 4);
    check(try_call(read_small, (void *)0xffc), "the last word of a segment");
    check(!try_call(read_small, (void *)0xffd) && caught.vector == 13 && !caught.error,
          "across the limit: vector %u", caught.vector);
    check(!try_call(read_down, (void *)0xffc) && caught.vector == 13,
          "below an expand-down limit: vector %u", caught.vector);
    check(try_call(read_down, (void *)0x1000), "above an expand-down limit: vector %u",
          caught.vector);
    check(!try_call(write_read_only, area) && caught.vector == 13, "a read-only segment: vector %u",
          caught.vector);
    check(!try_call(write_code, area) && caught.vector == 13, "a code segment: vector %u",
          caught.vector);
    check(!try_call(read_null, area) && caught.vector == 13, "a null segment: vector %u",
          caught.vector);
    check(!try_call(load_absent, NULL) && caught.vector == 11 && caught.error == SEG_ABSENT,
          "an absent segment: vector %u error %x", caught.vector, caught.error);
    gdt32[SEG_ABSENT / 8] = descriptor((uint32_t)area, 0xfff, 0x92, 4);
    check((gdt32[SEG_SMALL / 8] >> 40 & 1) == 1, "the accessed bit");
}

static volatile uint32_t gate_sum, gate_cs;
void gate_target(void);
asm("gate_target:\n"
    "   movl 8(%esp), %eax\n" /* parameters lie behind CS:EIP of the caller */
    "   addl 12(%esp), %eax\n"
    "   movl %eax, %ss:gate_sum\n"
    "   movl %cs, %eax\n"
    "   movl %eax, %ss:gate_cs\n"
    "   lretl $8\n");

/* Ring 3: pushes two parameters, calls the gate, leaves by int $0x80. */
void ring3_code(void);
asm("ring3_code:\n"
    "   pushl $30\n"
    "   pushl $12\n"
    "   lcall $0x5b, $0\n"
    "   movl %esp, %eax\n"
    "   int $0x80\n");

static uint8_t ring3_stack[4096] __attribute__((aligned(16)));

static void enter_ring3(void *eip)
{
    asm volatile("pushl $0x23\n"
                 "pushl %1\n"
                 "pushl $2\n"
                 "pushl $0x1b\n"
                 "pushl %0\n"
                 "iretl" ::"r"(eip),
                 "r"((uint32_t)ring3_stack + sizeof(ring3_stack)));
}

static void call_gates(void)
{
    gdt32[CALL_GATE / 8] = gate(0x08, (uint32_t)gate_target, 0xec, 2);
    try_call(enter_ring3, ring3_code);
    check(caught.vector == 0x80, "ring 3 through a call gate: vector %u error %x at %x",
          caught.vector, caught.error, caught.eip);
    check(gate_sum == 42, "parameters gave %u", gate_sum);
    check((gate_cs & 0xffff) == 0x08, "CS inside: %x", gate_cs);
    check(caught.eax == (uint32_t)ring3_stack + sizeof(ring3_stack),
          "the caller's stack after RET 8: off by %d",
          (int)(caught.eax - (uint32_t)ring3_stack - sizeof(ring3_stack)));
    gdt32[CALL_GATE / 8] = gate(0x08, (uint32_t)gate_target, 0x8c, 2);
    try_call(enter_ring3, ring3_code);
    check(caught.vector == 13 && caught.error == 0x58, "a gate of DPL 0: vector %u error %x",
          caught.vector, caught.error);
}

#define V86_SEGMENT 0x2000

static void enter_v86(void *eflags)
{
    asm volatile("pushl $0\n" /* GS, FS, DS, ES */
                 "pushl $0\n"
                 "pushl %2\n"
                 "pushl %2\n"
                 "pushl %2\n" /* SS:SP */
                 "pushl $0x1000\n"
                 "pushl %0\n"
                 "pushl %1\n" /* CS:IP */
                 "pushl $0\n"
                 "iretl" ::"r"(eflags),
                 "r"(V86_SEGMENT), "r"(V86_SEGMENT));
}

static struct frame v86_frame;

static void note_v86(struct frame *frame)
{
    v86_frame = *frame;
    interrupt_set(frame->vector, NULL);
    caught.vector = frame->vector;
    caught.error = frame->error;
    asm volatile("pushl $2; popfl; jmp catch_return");
}

static void run_v86(const char *code, unsigned size, uint32_t eflags, unsigned vector)
{
    memcpy((void *)(V86_SEGMENT << 4), code, size);
    memset(&v86_frame, 0, sizeof(v86_frame));
    interrupt_set(vector, note_v86);
    try_call(enter_v86, (void *)(eflags | 1 << 17 | 2));
    interrupt_set(vector, NULL);
}

static void virtual_8086(void)
{
    /* mov ax, 0x1234; mov [0x100], ax; add ax, 1; int 0x80, with IOPL 3. */
    run_v86("\xb8\x34\x12\xa3\x00\x01\x83\xc0\x01\xcd\x80", 11, 3 << 12, 0x80);
    check(v86_frame.vector == 0x80 && (v86_frame.eax & 0xffff) == 0x1235, "vector %u ax %x",
          caught.vector, v86_frame.eax);
    check(v86_frame.eflags & 1 << 17 && v86_frame.cs == V86_SEGMENT &&
              v86_frame.ss == V86_SEGMENT && v86_frame.v86_ds == V86_SEGMENT,
          "frame: eflags %x cs %x ss %x ds %x", v86_frame.eflags, v86_frame.cs, v86_frame.ss,
          v86_frame.v86_ds);
    check(*(uint16_t *)((V86_SEGMENT << 4) + 0x100) == 0x1234, "the store went elsewhere");

    /* With IOPL 0, INT, CLI, PUSHF, POPF and IRET give #GP. */
    static const struct {
        const char *name, *code;
        unsigned size;
    } sensitive[] = {
        {"int", "\xcd\x80", 2}, {"cli", "\xfa", 1},  {"sti", "\xfb", 1},
        {"pushf", "\x9c", 1},   {"popf", "\x9d", 1}, {"iret", "\xcf", 1},
    };
    for (unsigned i = 0; i < sizeof(sensitive) / sizeof(sensitive[0]); i++) {
        run_v86(sensitive[i].code, sensitive[i].size, 0, 13);
        check(caught.vector == 13 && caught.error == 0 && v86_frame.eip == 0,
              "%s at IOPL 0: vector %u error %x at %x", sensitive[i].name, caught.vector,
              caught.error, v86_frame.eip);
    }
    /* HLT and LGDT are for ring 0; LLDT is no instruction here. */
    run_v86("\xf4", 1, 3 << 12, 13);
    check(caught.vector == 13, "hlt: vector %u", caught.vector);
    run_v86("\x0f\x00\xd0", 3, 3 << 12, 6);
    check(caught.vector == 6, "lldt: vector %u", caught.vector);
    /* An I/O port needs the bitmap, whatever IOPL says. */
    run_v86("\xe4\x60", 2, 3 << 12, 13);
    check(caught.vector == 13, "in: vector %u", caught.vector);
    /* Offsets do not leave their 64 KiB: a word at 0xffff is #GP. */
    run_v86("\xa1\xff\xff\xcd\x80", 5, 3 << 12, 13);
    check(caught.vector == 13, "a word at 0xffff: vector %u", caught.vector);
}

static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t table[1024] __attribute__((aligned(4096)));
static uint64_t pae_pointers[4] __attribute__((aligned(32)));
static uint64_t pae_directories[4][512] __attribute__((aligned(4096)));
static uint8_t target[8192] __attribute__((aligned(4096)));

#define WINDOW 0x80000000U

static void touch(void *at)
{
    asm volatile("incb (%0)" ::"r"(at) : "memory");
}

static void paging_32(void)
{
    for (uint32_t i = 0; i < 1024; i++)
        directory[i] = i << 22 | 0x83;
    directory[WINDOW >> 22] = (uint32_t)table | 3;
    table[0] = (uint32_t)target | 3;
    table[1] = (uint32_t)(target + 4096) | 1;
    asm volatile("mov %0, %%cr3" ::"r"(directory));
    asm volatile("mov %%cr4, %%eax; orl $0x10, %%eax; mov %%eax, %%cr4" ::: "eax");
    asm volatile("mov %%cr0, %%eax; orl $0x80010000, %%eax; mov %%eax, %%cr0" ::: "eax", "memory");
    target[5] = 7;
    check(try_call(touch, (void *)(WINDOW + 5)) && target[5] == 8, "4 KiB page: vector %u",
          caught.vector);
    check((table[0] & 0x60) == 0x60, "A and D: %x", table[0]);
    check(!try_call(touch, (void *)(WINDOW + 4096)) && caught.vector == 14 && caught.error == 3 &&
              caught.cr2 == WINDOW + 4096,
          "read-only page: vector %u error %x cr2 %x", caught.vector, caught.error, caught.cr2);
    check(!try_call(touch, (void *)(WINDOW + 8192)) && caught.error == 2, "absent page: error %x",
          caught.error);
    asm volatile("mov %%cr0, %%eax; andl $0x7fffffff, %%eax; mov %%eax, %%cr0" ::: "eax", "memory");
}

static void load_bad_pdptr(void *unused)
{
    pae_pointers[1] |= 1 << 1; /* reserved */
    asm volatile("mov %0, %%cr3" ::"r"(pae_pointers) : "memory");
}

static void paging_pae(void)
{
    for (uint32_t i = 0; i < 4; i++) {
        pae_pointers[i] = (uint32_t)pae_directories[i] | 1;
        for (uint32_t j = 0; j < 512; j++)
            pae_directories[i][j] = (uint64_t)(i << 30 | j << 21) | 0x83;
    }
    pae_directories[2][0] = ((uint32_t)target & ~0x1fffffU) | 0x83;
    asm volatile("mov %%cr4, %%eax; orl $0x20, %%eax; mov %%eax, %%cr4" ::: "eax");
    asm volatile("mov %0, %%cr3" ::"r"(pae_pointers));
    asm volatile("mov %%cr0, %%eax; orl $0x80010000, %%eax; mov %%eax, %%cr0" ::: "eax", "memory");
    target[9] = 1;
    check(try_call(touch, (void *)(WINDOW + ((uint32_t)target & 0x1fffff) + 9)) && target[9] == 2,
          "2 MiB page: vector %u", caught.vector);
    check(!try_call(load_bad_pdptr, NULL) && caught.vector == 13, "a reserved PDPTR bit: vector %u",
          caught.vector);
    asm volatile("mov %%cr0, %%eax; andl $0x7fffffff, %%eax; mov %%eax, %%cr0" ::: "eax", "memory");
    asm volatile("mov %%cr4, %%eax; andl $~0x20, %%eax; mov %%eax, %%cr4" ::: "eax");
}

void payload_main(const char *cmdline)
{
    segment_limits();
    call_gates();
    task_switches();
    exception_task();
    virtual_8086();
    paging_32();
    paging_pae();
}
