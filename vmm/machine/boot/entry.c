// SPDX-License-Identifier: Apache-2.0
/*
 * The boot processor at a kernel's entry, as firmware and boot loader would have left it: flat
 * segments, caches on by the MTRRs' default type, local APIC in virtual-wire mode.
 */
#include "vmm/machine/boot/internal.h"

#include "vmm/machine/pc/layout.h"

#include <string.h>

/* Selectors that Linux's boot protocol names; the other protocols leave them open. */
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TSS  0x20

#define DESCRIPTOR_CODE_32 0x00cf9b000000ffffUL
#define DESCRIPTOR_CODE_64 0x00af9b000000ffffUL
#define DESCRIPTOR_DATA    0x00cf93000000ffffUL
#define DESCRIPTOR_TSS     0x00008b0000000067UL

/* Attributes in struct cpu_segment's form: descriptor bits 40..47 and 52..55. */
#define ATTRIBUTES(descriptor) \
    ((uint16_t)(((descriptor) >> 40 & 0xff) | ((descriptor) >> 52 & 0xf) << 8))

#define CR0_PE   (1UL << 0)
#define CR0_ET   (1UL << 4)
#define CR0_PG   (1UL << 31)
#define CR4_PAE  (1UL << 5)
#define EFER_LME (1UL << 8)
#define EFER_LMA (1UL << 10)

#define PTE_PRESENT  (1UL << 0)
#define PTE_WRITABLE (1UL << 1)
#define PTE_LARGE    (1UL << 7)
#define PTE_COUNT    512
#define LARGE_PAGE   (2UL << 20)

#define MTRR_ENABLED_WRITE_BACK 0x806
#define RFLAGS_FIXED            2
#define APIC_SVR_ENABLED        0x100
#define APIC_LVT_EXTINT_LEVEL   0x8700
#define APIC_LVT_NMI_LEVEL      0x8400

static void write_gdt(struct memory *memory, uint64_t code)
{
    const uint64_t gdt[] = {0, 0, code, DESCRIPTOR_DATA, DESCRIPTOR_TSS, 0};

    memory_write(memory, PC_BOOT_GDT, gdt, sizeof(gdt));
}

static void load_segment(struct cpu_segment *segment, uint16_t selector, uint64_t descriptor)
{
    *segment = (struct cpu_segment){
        .selector = selector,
        .attributes = ATTRIBUTES(descriptor),
        .limit = 0xffffffff,
    };
}

static void load_segments(struct cpu_state *state, uint64_t code)
{
    static const unsigned data[] = {SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS};

    load_segment(&state->segments[SEG_CS], SELECTOR_CODE, code);
    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++)
        load_segment(&state->segments[data[i]], SELECTOR_DATA, DESCRIPTOR_DATA);
    load_segment(&state->segments[SEG_TR], SELECTOR_TSS, DESCRIPTOR_TSS);
    state->segments[SEG_TR].limit = 0x67;
}

static void enter(const struct boot_image *image, struct cpu_state *state, uint64_t code,
                  uint64_t entry)
{
    write_gdt(image->memory, code);
    load_segments(state, code);
    state->gdtr = (struct cpu_table_register){.base = PC_BOOT_GDT, .limit = 6 * 8 - 1};
    state->idtr = (struct cpu_table_register){0};
    memset(state->gpr, 0, sizeof(state->gpr));
    state->gpr[GPR_RSP] = PC_BOOT_STACK;
    state->rip = entry;
    state->rflags = RFLAGS_FIXED;
    state->cr0 = CR0_PE | CR0_ET;
    state->cr3 = 0;
    state->cr4 = 0;
    state->msrs.efer = 0;
    state->msrs.mtrr_def_type = MTRR_ENABLED_WRITE_BACK;
    state->lapic.svr |= APIC_SVR_ENABLED;
    state->lapic.lvt_lint0 = APIC_LVT_EXTINT_LEVEL;
    state->lapic.lvt_lint1 = APIC_LVT_NMI_LEVEL;
    state->mp_state = CPU_RUNNABLE;
}

void boot_enter_32(const struct boot_image *image, struct cpu_state *state, uint32_t entry)
{
    enter(image, state, DESCRIPTOR_CODE_32, entry);
}

/* One PML4 entry, four page directories of 2 MiB pages. */
static void write_page_tables(struct memory *memory)
{
    uint64_t table[PTE_COUNT] = {PC_BOOT_PAGE_TABLES + GUEST_PAGE_SIZE + PTE_PRESENT +
                                 PTE_WRITABLE};

    memory_write(memory, PC_BOOT_PAGE_TABLES, table, sizeof(table));
    for (unsigned i = 0; i < 4; i++)
        table[i] = (PC_BOOT_PAGE_TABLES + (2 + i) * GUEST_PAGE_SIZE) | PTE_PRESENT | PTE_WRITABLE;
    memory_write(memory, PC_BOOT_PAGE_TABLES + GUEST_PAGE_SIZE, table, sizeof(table));
    for (unsigned directory = 0; directory < 4; directory++) {
        for (unsigned i = 0; i < PTE_COUNT; i++)
            table[i] =
                (directory * PTE_COUNT + i) * LARGE_PAGE | PTE_PRESENT | PTE_WRITABLE | PTE_LARGE;
        memory_write(memory, PC_BOOT_PAGE_TABLES + (2 + directory) * GUEST_PAGE_SIZE, table,
                     sizeof(table));
    }
}

void boot_enter_64(const struct boot_image *image, struct cpu_state *state, uint64_t entry)
{
    enter(image, state, DESCRIPTOR_CODE_64, entry);
    write_page_tables(image->memory);
    state->cr0 |= CR0_PG;
    state->cr3 = PC_BOOT_PAGE_TABLES;
    state->cr4 = CR4_PAE;
    state->msrs.efer = EFER_LME | EFER_LMA;
}
