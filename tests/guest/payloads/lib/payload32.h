// SPDX-License-Identifier: Apache-2.0
/* What a 32-bit payload has: protected mode, flat segments, no paging. */
#pragma once

#include "console.h"

/* The frame that an exception leaves; esp and ss only where the ring changed, and after them in
 * virtual-8086 mode es, ds, fs, gs. */
struct frame {
    uint32_t edi, esi, ebp, ignored, ebx, edx, ecx, eax;
    uint32_t vector, error, eip, cs, eflags, esp, ss, v86_es, v86_ds, v86_fs, v86_gs;
};

/* The last exception that try_call caught. */
struct caught {
    unsigned vector;
    uint32_t error, cr2, eip, cs, eflags, eax;
};
extern struct caught caught;

bool try_call(void (*fn)(void *), void *argument);

/* Called for a vector instead of catching; NULL takes it away. */
typedef void (*interrupt_fn)(struct frame *frame);
void interrupt_set(unsigned vector, interrupt_fn fn);

/* Descriptors 5 to 31 are free. */
extern uint64_t gdt32[32];
extern uint64_t idt32[256];

/* `access`: P, DPL, S and type; `flags`: G 8, D/B 4. */
static inline uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}
static inline uint64_t gate(unsigned selector, uint32_t offset, unsigned access, unsigned count)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)count << 32 |
           (uint64_t)access << 40 | (uint64_t)(offset >> 16) << 48;
}

/* A 32-bit task state segment (SDM 3A, 8.2.1). */
struct tss32 {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, io_map;
};
/* The TSS that is loaded at the start, selector TSS_MAIN. */
extern struct tss32 main_tss;
#define TSS_MAIN 0x28
