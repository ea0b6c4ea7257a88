// SPDX-License-Identifier: Apache-2.0
/*
 * Self-modifying code in every shape: each kind of store, however near it is to what it changes,
 * and whatever mapping, address space, code size or ring the bytes run in (SDM 3A, 9.1.3: a
 * processor's own writes need no more than a jump; processors since the Pentium see them at once,
 * and so do we). Functions are called often before and after, so that an engine finds them worth
 * translating.
 */
#include "code.h"
#include "payload.h"

#define ALIAS 0x40000000000UL

/* ---- each kind of store ---- */

#define WIDTH 16 /* bytes that a store of any kind changes here */

static void by_bytes(uint8_t *at, const uint8_t *bytes)
{
    for (unsigned i = 0; i < WIDTH; i++)
        ((volatile uint8_t *)at)[i] = bytes[i];
}

#define BY_PARTS(name, type, text)                                                            \
    static void name(uint8_t *at, const uint8_t *bytes)                                       \
    {                                                                                         \
        for (unsigned i = 0; i < WIDTH; i += sizeof(type)) {                                  \
            type value, *to = (type *)(at + i);                                               \
            memcpy(&value, bytes + i, sizeof(value));                                         \
            asm volatile(text : "+r"(value) : "r"(to) : "rax", "rcx", "rdi", "memory", "cc"); \
        }                                                                                     \
    }
BY_PARTS(by_words, uint16_t, "movw %0, (%1)")
BY_PARTS(by_quads, uint64_t, "movq %0, (%1)")
BY_PARTS(by_exchange, uint32_t, "xchgl %0, (%1)")
BY_PARTS(by_locked_sum, uint32_t, "subl (%1), %0; lock addl %0, (%1)")
BY_PARTS(by_locked_bits, uint64_t, "xorq (%1), %0; lock xorq %0, (%1)")
BY_PARTS(by_compare_exchange, uint64_t, "movq (%1), %%rax; lock cmpxchgq %0, (%1)")
BY_PARTS(by_subtraction, uint64_t, "subq (%1), %0; negq %0; subq %0, (%1)")
BY_PARTS(by_pop, uint64_t, "pushq %0; popq (%1)")
BY_PARTS(by_string_step, uint32_t, "movl %0, %%eax; movq %1, %%rdi; stosl")
BY_PARTS(by_string_fill, uint8_t, "movb %0, %%al; movq %1, %%rdi; movl $1, %%ecx; rep stosb")
BY_PARTS(past_the_cache, uint64_t, "movnti %0, (%1); sfence")
BY_PARTS(by_x87, uint64_t, "fninit; pushq %0; fildll (%%rsp); popq %0; fistpll (%1)")
BY_PARTS(by_vector_part, uint64_t, "movq %0, %%xmm3; movhlps %%xmm3, %%xmm4; movlps %%xmm3, (%1)")

static void by_string(uint8_t *at, const uint8_t *bytes)
{
    uint64_t count = WIDTH;

    asm volatile("rep movsb" : "+S"(bytes), "+D"(at), "+c"(count)::"memory");
}

static void by_string_backwards(uint8_t *at, const uint8_t *bytes)
{
    uint64_t count = WIDTH / 4;

    at += WIDTH - 4;
    bytes += WIDTH - 4;
    asm volatile("std; rep movsl; cld" : "+S"(bytes), "+D"(at), "+c"(count)::"memory");
}

static void by_push(uint8_t *at, const uint8_t *bytes)
{
    uint64_t parts[2];

    memcpy(parts, bytes, WIDTH);
    asm volatile(
        "movq %%rsp, %%r11; leaq 16(%0), %%rsp; pushq %2; pushq %1; movq %%r11, %%rsp" ::"r"(at),
        "r"(parts[0]), "r"(parts[1])
        : "r11", "memory");
}

static void by_vector(uint8_t *at, const uint8_t *bytes)
{
    asm volatile("movups (%1), %%xmm0; movups %%xmm0, (%0)" ::"r"(at), "r"(bytes) : "memory");
}

static void by_masked_vector(uint8_t *at, const uint8_t *bytes)
{
    asm volatile("movups (%1), %%xmm0; pcmpeqb %%xmm1, %%xmm1; maskmovdqu %%xmm1, %%xmm0" ::"D"(at),
                 "r"(bytes)
                 : "memory");
}

static void by_wide_compare_exchange(uint8_t *at, const uint8_t *bytes)
{
    uint64_t parts[2], old[2];

    if ((uint64_t)at % WIDTH) {
        by_vector(at, bytes);
        return;
    }
    memcpy(parts, bytes, WIDTH);
    memcpy(old, at, WIDTH);
    asm volatile("lock cmpxchg16b (%4)"
                 : "+a"(old[0]), "+d"(old[1])
                 : "b"(parts[0]), "c"(parts[1]), "r"(at)
                 : "memory", "cc");
}

static const struct store {
    const char *name;
    void (*store)(uint8_t *at, const uint8_t *bytes);
} stores[] = {
    {"bytes", by_bytes},
    {"words", by_words},
    {"quads", by_quads},
    {"XCHG", by_exchange},
    {"LOCK ADD", by_locked_sum},
    {"LOCK XOR", by_locked_bits},
    {"LOCK CMPXCHG", by_compare_exchange},
    {"LOCK CMPXCHG16B", by_wide_compare_exchange},
    {"SUB", by_subtraction},
    {"POP", by_pop},
    {"PUSH", by_push},
    {"STOS", by_string_step},
    {"REP STOS", by_string_fill},
    {"REP MOVS", by_string},
    {"REP MOVS backwards", by_string_backwards},
    {"MOVNTI", past_the_cache},
    {"FISTP", by_x87},
    {"MOVLPS", by_vector_part},
    {"MOVUPS", by_vector},
    {"MASKMOVDQU", by_masked_vector},
};

#define STORES (sizeof(stores) / sizeof(stores[0]))

/* A function that is called often enough to be worth an engine's while, then changed. */
static void every_store(void)
{
    static const unsigned offsets[] = {0x100, 0x803, 0xff8, 0xffd};
    uint8_t *code = page_alloc(), bytes[WIDTH] = {0};
    unsigned wrong = 0;

    page_alloc();
    for (unsigned k = 0; k < STORES; k++) {
        wrong = 0;
        for (unsigned o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++)
            for (uint32_t i = 0; i < 12; i++) {
                uint32_t value = i * 0x10204081 + k;

                write_function(bytes, value);
                stores[k].store(code + offsets[o], bytes);
                for (unsigned n = 0; n < (i % 4 ? 3 : 60); n++)
                    wrong += call(code + offsets[o]) != value;
            }
        check(!wrong, "%u calls after stores by %s", wrong, stores[k].name);
    }
}

/* ---- what the store is followed by ---- */

/* Each is called with a number, which it writes into an instruction of its own, and returns it. */
asm("   .macro template name\n"
    "   .globl template_\\name\n"
    "template_\\name:\n"
    "   .endm\n"
    "template next\n"
    "   movl %edi, 1f+1(%rip)\n"
    "1: movl $0, %eax\n"
    "   ret\n"
    "template after_some\n"
    "   movl %edi, 1f+1(%rip)\n"
    "   incl %edx; decl %edx; xorl %ecx, %ecx; nop; leal (%rcx), %edx\n"
    "1: movl $0, %eax\n"
    "   ret\n"
    "template behind_a_jump\n"
    "   movl %edi, 1f+1(%rip)\n"
    "   jmp 1f\n"
    "   ud2\n"
    "1: movl $0, %eax\n"
    "   ret\n"
    "template string\n"
    "   movl %edi, %eax\n"
    "   leaq 1f+1(%rip), %rdi\n"
    "   stosl\n"
    "1: movl $0, %eax\n"
    "   ret\n"
    "template repeated_string\n"
    "   pushq %rdi\n"
    "   movq %rsp, %rsi\n"
    "   leaq 1f+1(%rip), %rdi\n"
    "   movl $4, %ecx\n"
    "   rep movsb\n"
    "1: movl $0, %eax\n"
    "   popq %rdi\n"
    "   ret\n"
    "template locked\n"
    "   movl $0, 1f+1(%rip)\n"
    "   lock xaddl %edi, 1f+1(%rip)\n"
    "1: movl $0, %eax\n"
    "   ret\n"
    "template vector\n"
    "   movd %edi, %xmm0\n"
    "   movss %xmm0, 1f+1(%rip)\n"
    "1: movl $0, %eax\n"
    "   ret\n"
    "template push\n"
    "   movq %rsp, %rsi\n"
    "   leaq 1f+10(%rip), %rsp\n"
    "   pushq %rdi\n"
    "1: movabsq $0, %rax\n"
    "   movq %rsi, %rsp\n"
    "   ret\n"
    "template earlier\n"
    "   xorl %ecx, %ecx\n"
    "1: movl $0, %eax\n"
    "   testl %ecx, %ecx\n"
    "   jnz 2f\n"
    "   movl %edi, 1b+1(%rip)\n"
    "   incl %ecx\n"
    "   jmp 1b\n"
    "2: ret\n"
    /* the displacement of a jump into a run of INC */
    "template jump\n"
    "   movl $31, %ecx\n"
    "   subl %edi, %ecx\n"
    "   addl %ecx, %ecx\n"
    "   xorl %eax, %eax\n"
    "   movb %cl, 1f+1(%rip)\n"
    "1: .byte 0xeb, 0\n"
    "   .rept 31\n"
    "   incl %eax\n"
    "   .endr\n"
    "   ret\n"
    /* a loop whose every turn changes it: the sum of 1 to 200, then what was given */
    "template loop\n"
    "   movl $200, %ecx\n"
    "   xorl %eax, %eax\n"
    "1: movl %ecx, 2f+1(%rip)\n"
    "2: .byte 0x05\n" /* add eax, imm32 */
    "   .long 0\n"
    "   decl %ecx\n"
    "   jnz 1b\n"
    "   subl $20100, %eax\n"
    "   addl %edi, %eax\n"
    "   ret\n"
    /* the opcode itself: INC and DEC in turn */
    "template opcode\n"
    "   movl $100, %ecx\n"
    "   movl %edi, %eax\n"
    "1: xorb $8, 2f+1(%rip)\n"
    "2: incl %eax\n"
    "   decl %ecx\n"
    "   jnz 1b\n"
    "   ret\n"
    "template end\n");

#define TEMPLATES(X) \
    X(next)          \
    X(after_some)    \
    X(behind_a_jump) \
    X(string) X(repeated_string) X(locked) X(vector) X(push) X(earlier) X(jump) X(loop) X(opcode)
#define DECLARE_TEMPLATE(name) extern const uint8_t template_##name[];
TEMPLATES(DECLARE_TEMPLATE)
DECLARE_TEMPLATE(end)

static const struct {
    const char *name;
    const uint8_t *code;
} templates[] = {
#define LIST_TEMPLATE(name) {#name, template_##name},
    TEMPLATES(LIST_TEMPLATE){"end", template_end},
};

static void own_instructions(void)
{
    uint8_t *pages = page_alloc();

    page_alloc();
    for (unsigned t = 0; templates[t].code != template_end; t++) {
        size_t size = templates[t + 1].code - templates[t].code;

        for (unsigned at = 4096 - size - 1; at <= 4096; at++) {
            uint32_t (*fn)(unsigned) = (void *)(pages + at);
            unsigned wrong = 0;

            memcpy(pages + at, templates[t].code, size);
            for (unsigned i = 1; i < 31; i++)
                wrong += fn(i) != i;
            check(!wrong, "%u calls of '%s' at offset %u", wrong, templates[t].name, at);
        }
    }
}

/* A return address within an instruction that then runs; and the stack pointer of an interrupt's
 * frame, whose lowest byte is one: RET or INT3. */
uint64_t call_on_code(void *code);
void interrupt_on_code(void *stack);
extern char call_pushes[], frame_handler[];
asm("frame_handler:\n"
    "   iretq\n"
    "call_on_code:\n"
    "   movq %rsp, %rsi\n"
    "   leaq 10(%rdi), %rsp\n"
    "   call call_pushes\n"
    "call_pushes:\n"
    "   movq %rsi, %rsp\n"
    "   jmp *%rdi\n"
    "interrupt_on_code:\n"
    "   movq %rsp, %rsi\n"
    "   movq %rdi, %rsp\n"
    "   int $0x81\n"
    "   movq %rsi, %rsp\n"
    "   andq $-16, %rdi\n"
    "   subq $16, %rdi\n"
    "   jmp *%rdi\n");

static void pushed_by_the_processor(void)
{
    static const uint8_t movabs[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3};
    uint8_t *page = page_alloc();
    unsigned wrong = 0;

    for (unsigned i = 0; i < 50; i++) {
        memcpy(page + 0x301, movabs, sizeof(movabs));
        wrong += call_on_code(page + 0x301) != (uint64_t)call_pushes;
    }
    check(!wrong, "%u return addresses in code", wrong);
    wrong = 0;
    idt_set(0x81, frame_handler, 0, 0);
    for (unsigned i = 0; i < 50; i++) {
        bool returns = i % 3;

        if (try_call(interrupt_on_code, page + (returns ? 0xc3 : 0xcc)) != returns)
            wrong++;
        else if (!returns)
            wrong += caught.vector != 3;
    }
    check(!wrong, "%u frames of interrupts in code", wrong);
}

/* ---- how it lies and who runs it ---- */

#define SAME_LINEAR 0x50000000UL
#define OTHER_HALF  0xffff900000000000UL
#define MODE_PAGE   0x60000000UL
#define USER_STACK  0x60010000UL

/* Run through two aliases, written through a third, in both halves. */
static void through_aliases(void)
{
    static const uint64_t aliases[] = {ALIAS + 0x10000, ALIAS + 0x210000, OTHER_HALF};
    uint8_t *code = page_alloc(), bytes[WIDTH] = {0};
    unsigned wrong = 0;

    for (unsigned a = 0; a < 3; a++)
        page_map(aliases[a], (uint64_t)code, PTE_P | PTE_W);
    for (uint32_t i = 0; i < 300; i++) {
        write_function(bytes, i);
        stores[i % STORES].store((uint8_t *)aliases[i % 3] + 0x40, bytes);
        for (unsigned n = 0; n < 30; n++)
            wrong += call((uint8_t *)aliases[n % 3] + 0x40) != i;
    }
    check(!wrong, "%u calls through aliases", wrong);
}

/* One linear address, several pages behind it. */
static void remapped(void)
{
    uint8_t *frames[4];
    uint64_t *entry, cr3 = read_cr3(), *tables = page_alloc();
    unsigned wrong = 0;

    for (unsigned i = 0; i < 4; i++) {
        frames[i] = page_alloc();
        write_function(frames[i] + 16, i);
    }
    entry = page_map(SAME_LINEAR, (uint64_t)frames[0], PTE_P | PTE_W);
    for (unsigned i = 0; i < 400; i++) {
        *entry = (uint64_t)frames[i % 4] | PTE_P | PTE_W;
        if (i % 3)
            invlpg(SAME_LINEAR);
        else
            write_cr3(cr3);
        for (unsigned n = 0; n < 20; n++)
            wrong += call((void *)(SAME_LINEAR + 16)) != i % 4;
    }
    check(!wrong, "%u calls of code whose page-table entry changed", wrong);
    wrong = 0;
    memcpy(tables, (void *)(cr3 & ~0xfffUL), 4096);
    tables[ALIAS >> 39 & 511] = 0;
    page_map(ALIAS, (uint64_t)frames[0], PTE_P | PTE_W);
    write_cr3((uint64_t)tables);
    page_map(ALIAS, (uint64_t)frames[1], PTE_P | PTE_W);
    for (unsigned i = 0; i < 400; i++) {
        write_cr3(i % 2 ? (uint64_t)tables : cr3);
        for (unsigned n = 0; n < 20; n++)
            wrong += call((void *)(ALIAS + 16)) != i % 2;
        if (i % 16 == 0)
            write_function(frames[i / 16 % 2] + 16, i / 16 % 2);
    }
    write_cr3(cr3);
    check(!wrong, "%u calls of code of another address space", wrong);
}

/* By IRET into a mode; int $0x80 there comes back. */
void enter_mode(void *where);
asm("enter_mode:\n"
    "   pushq 8(%rdi); pushq 16(%rdi); pushq $2; pushq 24(%rdi); pushq (%rdi)\n"
    "   iretq\n");

/* The same bytes mean another thing in each code size, and run in each ring. */
static void in_all_modes(void)
{
    /* mov eax, imm32; 64-bit: inc rax (REX.W), 32-bit: dec eax, inc eax; int 80h */
    static const uint8_t text[] = {0xb8, 0, 0, 0, 0, 0x48, 0xff, 0xc0, 0xcd, 0x80};
    static const struct {
        uint64_t cs, ss;
        unsigned more;
    } modes[] = {{0x08, 0x10, 1}, {0x28, 0x10, 0}, {0x23, 0x1b, 1}, {0x33, 0x1b, 0}};
    uint8_t *code = page_alloc(), *stack = page_alloc();
    unsigned wrong = 0;

    page_map(MODE_PAGE, (uint64_t)code, PTE_P | PTE_W | PTE_U);
    page_map(USER_STACK, (uint64_t)stack, PTE_P | PTE_W | PTE_U);
    memcpy(code, text, sizeof(text));
    for (unsigned i = 0; i < 400; i++) {
        unsigned mode = i % 7 % 4;
        uint64_t where[4] = {MODE_PAGE, modes[mode].ss, USER_STACK + 4096, modes[mode].cs};

        if (i % 5 == 0)
            memcpy(code + 1, &i, 4);
        for (unsigned n = 0; n < 12; n++) {
            try_call(enter_mode, where);
            wrong += caught.vector != 0x80 || caught.rax != i / 5 * 5 + modes[mode].more;
        }
    }
    check(!wrong, "%u of the runs of the same bytes in four modes", wrong);
}

/* ---- in quantity ---- */

static uint64_t random_state = 88172645463325252;

static unsigned random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state >> 20;
}

/* A compiler at run time: functions of some additions and skipping jumps, anywhere in four pages.
 */
static void generated(void)
{
    uint8_t *pages = page_alloc();
    unsigned wrong = 0;

    for (unsigned i = 1; i < 4; i++)
        page_alloc();
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t *start = pages + random() % (4 * 4096 - 400), *at = start;
        uint32_t sum = 0;

        *at++ = 0x31; /* xor eax, eax */
        *at++ = 0xc0;
        for (unsigned n = random() % 30; n; n--) {
            uint32_t value = random();

            if (random() % 4 == 0) { /* jmp over the next */
                *at++ = 0xeb;
                *at++ = 5;
            } else {
                sum += value;
            }
            *at++ = 0x05; /* add eax, imm32 */
            memcpy(at, &value, 4);
            at += 4;
        }
        *at = 0xc3;
        for (unsigned n = 0; n < (i % 8 ? 2 : 40); n++)
            wrong += call(start) != sum;
    }
    check(!wrong, "%u calls of generated functions", wrong);
}

/* Code that copies itself 72 bytes on and goes on there; eax counts. */
extern const uint8_t hopper[], hopper_end[];
asm("hopper:\n"
    "   decl %edx\n"
    "   jz 1f\n"
    "   leaq hopper(%rip), %rsi\n"
    "   leaq 72(%rsi), %rdi\n"
    "   movq %rdi, %r8\n"
    "   movl $hopper_end - hopper, %ecx\n"
    "   rep movsb\n"
    "   incl %eax\n"
    "   jmp *%r8\n"
    "1: ret\n"
    "hopper_end:\n");

static void copies_itself(void)
{
    uint8_t *pages = page_alloc();
    unsigned hops = 8 * 4096 / 72 - 1;

    for (unsigned i = 1; i < 8; i++)
        page_alloc();
    for (unsigned i = 0; i < 20; i++) {
        uint32_t count = 0, left = hops;

        memcpy(pages + i, hopper, hopper_end - hopper);
        asm volatile("call *%2"
                     : "+a"(count), "+d"(left)
                     : "r"(pages + i)
                     : "rcx", "rsi", "rdi", "r8", "memory", "cc");
        check(count == hops - 1, "%u hops, not %u", count, hops - 1);
    }
}

/* A counter beside the loop that counts it, and two functions that each write the other's page. It
 * must not take for ever; the limit is far above what any engine needs. */
#define TICKS_A_WRITE 200000UL

extern const uint8_t counting[], counting_end[];
asm("counting:\n"
    "1: incl 2f(%rip)\n"
    "   decl %edi\n"
    "   jnz 1b\n"
    "   movl 2f(%rip), %eax\n"
    "   ret\n"
    "   .balign 4\n"
    "2: .long 0\n"
    "counting_end:\n");

static void data_beside_code(void)
{
    uint8_t *page = page_alloc(), *other = page_alloc();
    uint32_t (*fn)(unsigned) = (void *)page;
    uint64_t start = rdtsc();
    unsigned writes = 100000, wrong = 0;

    memcpy(page, counting, counting_end - counting);
    check(fn(writes) == writes, "a counter beside its loop");
    check(rdtsc() - start < writes * TICKS_A_WRITE, "%lu ticks for a write beside code",
          (rdtsc() - start) / writes);
    start = rdtsc();
    writes = 20000;
    for (unsigned i = 0; i < writes; i++) {
        write_function(i % 2 ? page : other, i);
        *(volatile uint32_t *)((i % 2 ? other : page) + 2048) = i;
        wrong += call(i % 2 ? page : other) != i;
    }
    check(!wrong, "%u calls of two functions", wrong);
    check(rdtsc() - start < writes * TICKS_A_WRITE, "%lu ticks for a new function",
          (rdtsc() - start) / writes);
}

void payload_main(const char *cmdline)
{
    (void)cmdline;
    every_store();
    own_instructions();
    pushed_by_the_processor();
    through_aliases();
    remapped();
    in_all_modes();
    generated();
    copies_itself();
    data_beside_code();
}
