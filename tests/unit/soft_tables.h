// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptor tables for tests of the software CPU's system half, and ways into each mode with them.
 * All lie in low RAM, which is mapped one to one.
 */
#pragma once

#include "tests/unit/soft_fixture.h"
#include "vmm/engine/soft/segment.h"

#define PAGE_TABLES 0x1000UL /* to 0x3fff */
#define GDT_AT      0x8000UL
#define IDT_AT      0x9000UL
#define TSS_AT      0xa000UL
#define LDT_AT      0xb000UL
#define TSS2_AT     0xc000UL
#define STACK0      0x20000U /* of privilege 0, as in the TSS */
#define STACK3      0x30000U
#define IST_STACK   0x40000U
#define HANDLERS    0x100000U /* entry of vector n at HANDLERS + 16 * n */

enum test_selector {
    KERNEL_CODE = 0x08,
    KERNEL_DATA = 0x10,
    USER_CODE = 0x18 | 3,
    USER_DATA = 0x20 | 3,
    KERNEL_CODE64 = 0x28,
    USER_CODE64 = 0x30 | 3,
    TSS = 0x38, /* 16 bytes in long mode */
    KERNEL_CODE16 = 0x48,
    KERNEL_DATA16 = 0x50,
    CONFORMING = 0x58,
    ABSENT_DATA = 0x60,
    READ_ONLY = 0x68,
    EXECUTE_ONLY = 0x70,
    LDT = 0x78, /* 16 bytes in long mode */
    TSS2 = 0x88,
    GATE = 0x90, /* for tests to fill; 16 bytes */
    ABSENT_CODE = 0xa0,
    EXPAND_DOWN = 0xa8,
    GDT_LIMIT = 0xaf,
};

/* Attributes are in the form of struct cpu_segment. */
static inline uint64_t descriptor_of(uint32_t base, uint32_t limit, uint64_t attributes)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (attributes & 0xff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (attributes & 0xf00) << 44 |
           (uint64_t)(base >> 24) << 56;
}

static inline uint64_t gate_of(uint16_t selector, uint32_t offset, unsigned type, unsigned dpl,
                               unsigned low5)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)low5 << 32 |
           (uint64_t)(0x80 | dpl << 5 | type) << 40 | (uint64_t)(offset >> 16) << 48;
}

static inline void set_descriptor(struct fixture *f, uint16_t selector, uint64_t raw)
{
    poke64(f, GDT_AT + (selector & ~7U), raw);
}

static inline void tables_init(struct fixture *f)
{
    set_descriptor(f, KERNEL_CODE, descriptor_of(0, 0xfffff, 0xc9a));
    set_descriptor(f, KERNEL_DATA, descriptor_of(0, 0xfffff, 0xc92));
    set_descriptor(f, USER_CODE, descriptor_of(0, 0xfffff, 0xcfa));
    set_descriptor(f, USER_DATA, descriptor_of(0, 0xfffff, 0xcf2));
    set_descriptor(f, KERNEL_CODE64, descriptor_of(0, 0xfffff, 0xa9a));
    set_descriptor(f, USER_CODE64, descriptor_of(0, 0xfffff, 0xafa));
    set_descriptor(f, TSS, descriptor_of(TSS_AT, 0x1ff, 0x089));
    set_descriptor(f, KERNEL_CODE16, descriptor_of(0, 0xffff, 0x09a));
    set_descriptor(f, KERNEL_DATA16, descriptor_of(0, 0xffff, 0x092));
    set_descriptor(f, CONFORMING, descriptor_of(0, 0xfffff, 0xc9e));
    set_descriptor(f, ABSENT_DATA, descriptor_of(0, 0xfffff, 0xc12));
    set_descriptor(f, READ_ONLY, descriptor_of(0, 0xfffff, 0xc90));
    set_descriptor(f, EXECUTE_ONLY, descriptor_of(0, 0xfffff, 0xc98));
    set_descriptor(f, LDT, descriptor_of(LDT_AT, 0xf, 0x082));
    set_descriptor(f, TSS2, descriptor_of(TSS2_AT, 0x67, 0x089));
    set_descriptor(f, ABSENT_CODE, descriptor_of(0, 0xfffff, 0xc1a));
    set_descriptor(f, EXPAND_DOWN, descriptor_of(0, 0xfff, 0x496));
    poke32(f, TSS_AT + 4, STACK0);
    poke32(f, TSS_AT + 8, KERNEL_DATA);
    f->cpu->gdtr = (struct cpu_table_register){.base = GDT_AT, .limit = GDT_LIMIT};
    f->cpu->rip = f->cpu->next_rip = 0x50000;
    f->cpu->dr6 = 0xffff0ff0;
    f->cpu->dr7 = 0x400;
}

/* Interrupt gates for all vectors; `type` is enum soft_system_type. */
static inline void fill_idt(struct fixture *f, uint16_t selector, unsigned type, unsigned dpl)
{
    unsigned size = soft_long_mode(f->cpu) ? 16 : 8;

    for (unsigned i = 0; i < 256; i++) {
        poke64(f, IDT_AT + i * size, gate_of(selector, HANDLERS + i * 16, type, dpl, 0));
        if (size == 16)
            poke64(f, IDT_AT + i * size + 8, 0);
    }
    f->cpu->idtr = (struct cpu_table_register){.base = IDT_AT, .limit = 256 * size - 1};
}

static inline void load_raw(struct fixture *f, unsigned index, uint16_t selector)
{
    soft_segment_set(f->cpu, index, selector, peek64(f, GDT_AT + (selector & ~7U)));
    f->cpu->seg[index].attributes |= index == SEG_TR ? 2 : 1;
}

static inline void load_flat(struct fixture *f, uint16_t code, uint16_t data)
{
    load_raw(f, SEG_CS, code);
    load_raw(f, SEG_TR, TSS);
    soft_segment_set_null(f->cpu, SEG_LDTR, 0, 0);
    for (unsigned i = 0; i <= SEG_GS; i++)
        if (i != SEG_CS)
            load_raw(f, i, data);
    soft_update_mode(f->cpu);
}

static inline void enter_real(struct fixture *f)
{
    f->cpu->cr0 = CR0_ET;
    for (unsigned i = 0; i <= SEG_GS; i++)
        f->cpu->seg[i] =
            (struct cpu_segment){.attributes = i == SEG_CS ? 0x9b : 0x93, .limit = 0xffff};
    f->cpu->idtr = (struct cpu_table_register){.base = 0, .limit = 0x3ff};
    f->cpu->gpr[GPR_RSP] = 0x7000;
    f->cpu->rip = f->cpu->next_rip = 0x5000;
    soft_update_mode(f->cpu);
}

/* 32-bit protected mode without paging. */
static inline void enter_protected(struct fixture *f, unsigned cpl)
{
    f->cpu->cr0 = CR0_PE | CR0_ET;
    load_flat(f, cpl ? USER_CODE : KERNEL_CODE, cpl ? USER_DATA : KERNEL_DATA);
    f->cpu->gpr[GPR_RSP] = cpl ? STACK3 : STACK0;
    fill_idt(f, KERNEL_CODE, DESCRIPTOR_INTERRUPT_GATE, 0);
}

static inline void enter_v86(struct fixture *f)
{
    enter_protected(f, 3);
    f->cpu->rflags |= FLAG_VM;
    for (unsigned i = 0; i <= SEG_GS; i++)
        soft_segment_set_v86(f->cpu, i, 0x1000 + i);
    soft_segment_set_v86(f->cpu, SEG_SS, 0x2000);
    f->cpu->gpr[GPR_RSP] = 0xfff0;
    f->cpu->rip = f->cpu->next_rip = 0x1234;
    soft_update_mode(f->cpu);
}

/* 64-bit mode; the first 16 MB are mapped one to one, for all. */
static inline void enter_long(struct fixture *f, unsigned cpl)
{
    poke64(f, PAGE_TABLES, (PAGE_TABLES + 0x1000) | 7);
    poke64(f, PAGE_TABLES + 0x1000, (PAGE_TABLES + 0x2000) | 7);
    for (unsigned i = 0; i < 8; i++)
        poke64(f, PAGE_TABLES + 0x2000 + i * 8, (uint64_t)i << 21 | 0x87);
    f->cpu->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_WP;
    f->cpu->cr4 = CR4_PAE;
    f->cpu->cr3 = PAGE_TABLES;
    f->cpu->msrs.efer = EFER_LME | EFER_LMA;
    load_flat(f, cpl ? USER_CODE64 : KERNEL_CODE64, cpl ? USER_DATA : KERNEL_DATA);
    f->cpu->gpr[GPR_RSP] = cpl ? STACK3 : STACK0;
    poke64(f, TSS_AT + 4, STACK0);
    poke64(f, TSS_AT + 36, IST_STACK + 5);
    fill_idt(f, KERNEL_CODE64, DESCRIPTOR_INTERRUPT_GATE, 0);
    soft_tlb_flush(f->cpu, true);
}

static inline int tables_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    fixture_init(f);
    tables_init(f);
    *state = f;
    return 0;
}

static inline int tables_teardown(void **state)
{
    fixture_finish(*state);
    free(*state);
    return 0;
}
