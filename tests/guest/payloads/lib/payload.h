// SPDX-License-Identifier: Apache-2.0
/*
 * What a 64-bit payload has: a tiny run time for test kernels that run on the bare (virtual)
 * machine in ring 0, with the first 4 GiB mapped one to one.
 */
#pragma once

#include "console.h"

/* The information structure of the Multiboot specification, 3.3. */
extern const void *multiboot_info;
/* The first address behind the payload. */
extern char end_of_image[];

/* The frame that an exception or interrupt leaves. */
struct frame {
    uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* The last exception that try_call or user_call caught. */
struct caught {
    unsigned vector;
    uint64_t error, cr2, rip, cs, rflags, rsp, rax, dr6;
};
extern struct caught caught;

/* Call fn(argument); true when it came back, false when an exception ended it (then see `caught`).
 */
bool try_call(void (*fn)(void *), void *argument);

/* Run ring-3 code at `rip` (mapped for users) with a user stack until it does `int $0x80` (true) or
 * an exception ends it (false). RAX at the start is `rax`, at the end caught.rax. */
bool user_call(uint64_t rip, uint64_t rsp, uint64_t rax);

/* Called for a vector instead of catching; NULL takes it away. The frame may be changed. */
typedef void (*interrupt_fn)(struct frame *frame);
void interrupt_set(unsigned vector, interrupt_fn fn);
/* Direct a vector to raw code, with DPL and IST of its gate. */
void idt_set(unsigned vector, void *code, unsigned dpl, unsigned ist);

/* Change one gate: whether it is present, which interrupt stack (0 none, 1) it uses. */
void idt_present(unsigned vector, bool present);
void idt_ist(unsigned vector, unsigned ist);
/* Set a descriptor of the GDT; 9 to 24 are free. */
void boot_gdt_entry(unsigned index, uint64_t descriptor);

/* 4 KiB pages, zeroed, below 1 GiB, identity-mapped. */
void *page_alloc(void);
/* Map `linear` to `physical` with `flags` in the current tables as a 4 KiB page (splitting the
 * identity map's large page where it lies in one); intermediate entries get P, RW, US. */
uint64_t *page_map(uint64_t linear, uint64_t physical, uint64_t flags);

#define PTE_P  1UL
#define PTE_W  2UL
#define PTE_U  4UL
#define PTE_A  0x20UL
#define PTE_D  0x40UL
#define PTE_PS 0x80UL
#define PTE_G  0x100UL
#define PTE_NX (1UL << 63)

#define CR0_WP      (1UL << 16)
#define CR4_PCIDE   (1UL << 17)
#define CR4_OSXSAVE (1UL << 18)
#define CR4_SMEP    (1UL << 20)
#define CR4_SMAP    (1UL << 21)
#define CR4_UMIP    (1UL << 11)
#define CR4_TSD     (1UL << 2)
#define CR4_DE      (1UL << 3)

static inline uint64_t rdmsr(uint32_t index)
{
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
    return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t index, uint64_t value)
{
    asm volatile("wrmsr" ::"a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(index)
                 : "memory");
}
static inline uint64_t rdtsc(void)
{
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
static inline void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    asm volatile("cpuid"
                 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                 : "a"(leaf), "c"(subleaf));
}
#define DEFINE_CR(n)                                                \
    static inline uint64_t read_cr##n(void)                         \
    {                                                               \
        uint64_t value;                                             \
        asm volatile("mov %%cr" #n ", %0" : "=r"(value)::"memory"); \
        return value;                                               \
    }                                                               \
    static inline void write_cr##n(uint64_t value)                  \
    {                                                               \
        asm volatile("mov %0, %%cr" #n ::"r"(value) : "memory");    \
    }
DEFINE_CR(0)
DEFINE_CR(2)
DEFINE_CR(3)
DEFINE_CR(4)
DEFINE_CR(8)
static inline void invlpg(uint64_t linear)
{
    asm volatile("invlpg (%0)" ::"r"(linear) : "memory");
}
