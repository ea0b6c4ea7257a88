// SPDX-License-Identifier: Apache-2.0
/*
 * The address spaces of a program, with random rights, and its system registers.
 *
 * There are two, which differ in the window's pages alone. The window's tables of one space are
 * reached through several entries of the root, and of the table below it, so each page has several
 * linear addresses.
 */
#include <string.h>

#include "tests/lockstep/lockstep.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/system.h"

extern const uint8_t kernel_image[], kernel_image_end[], kernel_syscall[], kernel_syscall32[];

#define CR3_NO_FLUSH (1UL << 63)

#define ENTRY_P   1UL
#define ENTRY_RW  2UL
#define ENTRY_US  4UL
#define ENTRY_A   0x20UL
#define ENTRY_D   0x40UL
#define ENTRY_PS  0x80UL
#define ENTRY_G   0x100UL
#define ENTRY_NX  (1UL << 63)
#define ENTRY_ODD (1UL << 51) /* reserved: beyond the physical addresses of any model */

/* Tables in the kernel, from KERNEL_TABLES on. */
enum {
    ROOT_0,
    ROOT_1,
    POINTERS_0,
    POINTERS_1,
    DIRECTORY_0,
    DIRECTORY_1,
    PAGES_0,
    PAGES_1,
    KERNEL_POINTERS,
    KERNEL_DIRECTORY,
    KERNEL_PAGES,
    TOP_POINTERS,
    TOP_DIRECTORY,
    TOP_PAGES,
};

static uint64_t table_offset(unsigned table)
{
    return KERNEL_TABLES + table * 4096UL;
}

static void put_entry(struct program *program, unsigned table, unsigned index, uint64_t value)
{
    memcpy(program->kernel + table_offset(table) + index * 8, &value, 8);
}

static uint64_t table_entry(unsigned table, uint64_t rights)
{
    return (KERNEL_PHYSICAL + table_offset(table)) | rights;
}

static bool chance(struct diff_random *random, unsigned one_in)
{
    return random_below(random, one_in) == 0;
}

/* ---- the kernel ---- */

static void map_kernel(struct program *program)
{
    const uint64_t rights = ENTRY_P | ENTRY_RW | ENTRY_A | ENTRY_D;

    for (unsigned root = ROOT_0; root <= ROOT_1; root++)
        put_entry(program, root, KERNEL_LINEAR >> 39 & 511, table_entry(KERNEL_POINTERS, rights));
    put_entry(program, KERNEL_POINTERS, KERNEL_LINEAR >> 30 & 511,
              table_entry(KERNEL_DIRECTORY, rights));
    put_entry(program, KERNEL_DIRECTORY, KERNEL_LINEAR >> 21 & 511,
              table_entry(KERNEL_PAGES, rights));
    for (unsigned i = 0; i < KERNEL_SIZE / 4096; i++)
        put_entry(program, KERNEL_PAGES, i, (KERNEL_PHYSICAL + i * 4096UL) | rights | ENTRY_G);
}

static void put_gate(struct program *program, unsigned vector, unsigned ist, unsigned dpl)
{
    uint64_t handler = KERNEL_LINEAR + vector * 16;
    uint64_t gate[2] = {(handler & 0xffff) | (uint64_t)SELECTOR_CODE0 << 16 | (uint64_t)ist << 32 |
                            0x8eUL << 40 | (uint64_t)dpl << 45 | (handler >> 16 & 0xffff) << 48,
                        handler >> 32};

    memcpy(program->kernel + KERNEL_IDT + vector * 16, gate, 16);
}

static void put_gates(struct program *program, unsigned ist)
{
    for (unsigned i = 0; i < 256; i++) {
        unsigned dpl = i >= CALL_NOTHING || i == 3 || i == 4 ? 3 : 0;

        put_gate(program, i, ist, dpl);
    }
    put_gate(program, 2, 3, 0);
    put_gate(program, 8, 4, 0);
    for (unsigned i = 0x40; i < 0x50; i++)
        put_gate(program, i, 2, 0);
}

static void put_descriptors(struct program *program)
{
    static const uint64_t gdt[] = {
        0,
        0x00af9b000000ffff,
        0x00cf93000000ffff,
        0x00cffb000000ffff,
        0x00cff3000000ffff,
        0x00affb000000ffff,
    };
    const uint64_t tss = KERNEL_LINEAR + KERNEL_TSS;
    const uint64_t descriptor[2] = {
        (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56 | 0x8bUL << 40 | 0x67, tss >> 32};
    const uint64_t stacks[] = {KERNEL_LINEAR + KERNEL_STACK, KERNEL_LINEAR + KERNEL_FAULTS,
                               KERNEL_LINEAR + KERNEL_EVENTS, KERNEL_LINEAR + KERNEL_EVENTS - 0x800,
                               KERNEL_LINEAR + KERNEL_DOUBLE};

    memcpy(program->kernel + KERNEL_GDT, gdt, sizeof(gdt));
    memcpy(program->kernel + KERNEL_GDT + SELECTOR_TSS, descriptor, sizeof(descriptor));
    memcpy(program->kernel + KERNEL_TSS + 4, stacks, 8);
    memcpy(program->kernel + KERNEL_TSS + 36, stacks + 1, 32);
    program->kernel[KERNEL_TSS + 102] = 0x68;
}

/* ---- the window ---- */

/* Never mapped. */
static bool is_guard(unsigned page)
{
    return page == 0 || page == PAGE_CODE - 1 || page == PAGE_CODE - 2 || page == PAGE_ALIAS - 1;
}

/* A page's entry: what its place in the window asks for, and sometimes something else. */
static uint64_t window_entry(struct program *program, struct diff_random *random, unsigned page,
                             bool odd)
{
    uint64_t target = page, rights = ENTRY_P | ENTRY_RW | ENTRY_US | ENTRY_A | ENTRY_D;

    if (is_guard(page))
        return 0;
    if (page == 1)
        rights &= ~ENTRY_RW;
    if (program->state.cr4 & CR4_SMEP && program->ring == 0 && page >= PAGE_USER &&
        page < PAGE_ALIAS)
        rights &= ~ENTRY_US;
    if (page >= PAGE_CODE && page < PAGE_ALIAS && (chance(random, 2) || program->asynchronous))
        rights &= ~ENTRY_RW;
    if (page >= PAGE_ALIAS)
        target = program->alias_target[page - PAGE_ALIAS];
    if (page == 3 && chance(random, 2))
        target += PAGE_OTHER; /* not side by side with the page before it */
    if (chance(random, 3))
        rights &= ~ENTRY_D;
    if (chance(random, 4))
        rights &= ~(ENTRY_A | ENTRY_D);
    if (program->supervisor)
        rights = (rights & ~ENTRY_US) | (chance(random, 8) ? 0 : ENTRY_G);
    else if (program->globals && chance(random, 3))
        rights |= ENTRY_G;
    if (program->supervisor && page < PAGE_USER && chance(random, 8))
        rights |= ENTRY_US;
    if (program->steady && page >= PAGE_CODE && page < PAGE_ALIAS)
        odd = false;
    if (odd && page != PAGE_USER && page != PAGE_STACK && chance(random, 3))
        switch (random_below(random, 7)) {
        case 0:
            return 0;
        case 1:
            rights &= ~ENTRY_RW;
            break;
        case 2:
            rights ^= ENTRY_US;
            break;
        case 3:
            rights |= ENTRY_NX;
            break;
        case 4:
            rights |= ENTRY_ODD;
            break;
        case 5:
            target = page ^ 1;
            break;
        case 6:
            target ^= PAGE_OTHER;
            break;
        }
    return (DATA_PHYSICAL + target * 4096) | rights;
}

/* Mostly code, since writing to that is what an alias is good for; also a device. A string
 * instruction that overwrites itself is another one after an interrupt: with random ones, no code
 * is written. */
static void choose_aliases(struct program *program, struct diff_random *random)
{
    for (unsigned i = 0; i < ALIAS_PAGES; i++)
        switch (random_below(random, program->asynchronous ? 2 : 4)) {
        case 0:
            program->alias_target[i] = 2 + random_below(random, 4);
            break;
        case 1:
            program->alias_target[i] = (DEVICE_PHYSICAL - DATA_PHYSICAL) / 4096;
            break;
        default:
            program->alias_target[i] = PAGE_CODE + random_below(random, 4);
            break;
        }
}

static const uint64_t aliases[] = {0, ALIAS_MIDDLE, ALIAS_HIGH, ALIAS_TOP};

static void map_window(struct program *program, struct diff_random *random, unsigned space)
{
    static const uint64_t places[] = {0, ALIAS_NEAR, ALIAS_FAR, ALIAS_TOP, ALIAS_TOP + ALIAS_NEAR};
    uint64_t rights = ENTRY_P | ENTRY_RW | ENTRY_US | ENTRY_A;
    uint64_t large = rights | ENTRY_D | ENTRY_PS, upper = rights;
    bool odd = chance(random, 2);
    unsigned size = program->ring == 3 && !program->asynchronous ? random_below(random, 24) : 2;

    for (unsigned page = 0; page < WINDOW_PAGES; page++)
        put_entry(program, PAGES_0 + space, (DIFF_WINDOW >> 12 & 511) + page,
                  window_entry(program, random, page, odd));
    program->large |= size < 2;
    if (chance(random, 4))
        upper &= ~ENTRY_A;
    if (chance(random, 3))
        large &= ~ENTRY_D;
    put_entry(program, DIRECTORY_0 + space, DIFF_WINDOW >> 21 & 511,
              size == 0 ? DATA_PHYSICAL | large : table_entry(PAGES_0 + space, upper));
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        put_entry(program, POINTERS_0 + space, (DIFF_WINDOW + places[i]) >> 30 & 511,
                  size == 1 ? large : table_entry(DIRECTORY_0 + space, upper));
    for (unsigned i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
        put_entry(program, ROOT_0 + space, aliases[i] >> 39 & 511,
                  table_entry(POINTERS_0 + space, rights));
}

/* The last page below the hole of addresses that are not canonical. */
static void map_top(struct program *program)
{
    const uint64_t rights = ENTRY_P | ENTRY_RW | ENTRY_US | ENTRY_A;

    for (unsigned root = ROOT_0; root <= ROOT_1; root++)
        put_entry(program, root, TOP_PAGE >> 39 & 511, table_entry(TOP_POINTERS, rights));
    put_entry(program, TOP_POINTERS, 511, table_entry(TOP_DIRECTORY, rights));
    put_entry(program, TOP_DIRECTORY, 511, table_entry(TOP_PAGES, rights));
    put_entry(program, TOP_PAGES, 511,
              (DATA_PHYSICAL + (PAGE_CODE + CODE_PAGES - 1) * 4096UL) | ENTRY_P | ENTRY_US);
}

/* ---- what the kernel's page-table edits do ---- */

static void choose_edit(struct program *program, struct diff_random *random,
                        struct kernel_edit *edit)
{
    unsigned page = 2 + random_below(random, chance(random, 2) ? 2 : WINDOW_PAGES - 2);
    unsigned space = program->globals ? 0 : random_below(random, 2);

    if (page == PAGE_USER || page == PAGE_STACK || is_guard(page))
        page = PAGE_CODE + (page & 1);
    if (program->steady && page >= PAGE_CODE && page < PAGE_ALIAS)
        page = 2 + (page & 1);
    edit->place =
        KERNEL_LINEAR + table_offset(PAGES_0 + space) + ((DIFF_WINDOW >> 12 & 511) + page) * 8;
    edit->value = window_entry(program, random, page, true);
    if (chance(random, 2) && edit->value)
        edit->value ^= PAGE_OTHER << 12;
    edit->linear = DIFF_WINDOW + page * 4096UL;
    edit->flush = program->pcid ? 2 : random_below(random, 4) == 0;
}

/* ---- registers ---- */

static void choose_segments(struct program *program, struct diff_random *random)
{
    struct cpu_segment *segments = program->state.segments;
    const uint16_t flat = SEGMENT_S | SEGMENT_P | SEGMENT_G | SEGMENT_DB;
    const struct cpu_segment data = {SELECTOR_DATA, flat | 3 << 5 | 3, ~0U, 0};
    uint16_t code = (uint16_t)(flat | program->ring << 5 | 11);

    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        segments[i] = data; /* an interrupt's return to ring 3 would clear those of ring 0 */
    if (program->ring == 0)
        segments[SEG_SS] = (struct cpu_segment){SELECTOR_DATA0, flat | 3, ~0U, 0};
    if (program->code_size == 8)
        code = (uint16_t)((code & ~SEGMENT_DB) | SEGMENT_L);
    segments[SEG_CS] = (struct cpu_segment){SELECTOR_CODE64, code, ~0U, 0};
    if (program->code_size == 4)
        segments[SEG_CS].selector = SELECTOR_CODE32;
    if (program->ring == 0)
        segments[SEG_CS].selector = SELECTOR_CODE0;
    segments[SEG_FS].base = chance(random, 2) ? 0x10 : 0;
    segments[SEG_GS].base = chance(random, 2) ? -0x40UL : 0;
    if (program->code_size == 4) {
        segments[SEG_FS].base &= 0xffffffff;
        segments[SEG_GS].base &= 0xffffffff;
        if (chance(random, 8))
            segments[SEG_DS].limit = DIFF_DATA + 0x1fff;
        if (chance(random, 8))
            segments[SEG_DS].base = 0x10;
    }
    segments[SEG_LDTR] = (struct cpu_segment){0, SEGMENT_UNUSABLE, 0, 0};
    segments[SEG_TR] =
        (struct cpu_segment){SELECTOR_TSS, SEGMENT_P | 11, 0x67, KERNEL_LINEAR + KERNEL_TSS};
}

static void choose_control(struct program *program, struct diff_random *random)
{
    struct cpu_state *state = &program->state;

    state->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    if (chance(random, 16))
        state->cr0 |= CR0_TS;
    if (chance(random, 16))
        state->cr0 |= CR0_AM;
    if (chance(random, 8) && !program->asynchronous)
        state->cr0 &= ~CR0_WP;
    state->cr3 = KERNEL_PHYSICAL + table_offset(ROOT_0);
    state->cr4 = CR4_TSD | CR4_DE | CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    if (program->pcid)
        state->cr4 |= CR4_PCIDE;
    if (chance(random, 2))
        state->cr4 |= CR4_FSGSBASE;
    if (program->ring == 3 && chance(random, 4))
        state->cr4 |= CR4_SMEP;
    if (program->ring == 0 && chance(random, program->supervisor ? 2 : 3))
        state->cr4 |= CR4_SMAP | CR4_SMEP;
    state->xcr0 = 7;
    state->gdtr = (struct cpu_table_register){KERNEL_LINEAR + KERNEL_GDT, SELECTOR_TSS + 16 - 1};
    state->idtr = (struct cpu_table_register){KERNEL_LINEAR + KERNEL_IDT, 0xfff};
    state->msrs.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    state->msrs.star = (uint64_t)SELECTOR_CODE0 << 32 | (uint64_t)SELECTOR_CODE32 << 48;
    state->msrs.lstar = KERNEL_LINEAR + ((uintptr_t)kernel_syscall - (uintptr_t)kernel_image);
    state->msrs.cstar = KERNEL_LINEAR + ((uintptr_t)kernel_syscall32 - (uintptr_t)kernel_image);
    state->msrs.fmask = FLAG_IF | FLAG_TF | FLAG_DF | (random_bits(random) & 0x8d5);
    state->msrs.kernel_gs_base = KERNEL_LINEAR + KERNEL_DATA;
    state->rflags = FLAG_FIXED | FLAG_IF | (random_bits(random) & 0x8d5);
    if (program->ring == 3 && chance(random, 2))
        state->rflags |= FLAG_IOPL;
    if (chance(random, 16) && !program->waits)
        state->rflags |= FLAG_TF;
    if (chance(random, 8))
        state->rflags |= FLAG_AC;
}

static void choose_debug(struct program *program, struct diff_random *random)
{
    struct cpu_state *state = &program->state;

    state->dr6 = 0xffff0ff0;
    state->dr7 = 0x400;
    if (random_below(random, 12) || program->waits)
        return;
    for (unsigned i = 0; i < 4; i++) {
        unsigned type = random_below(random, 4);

        if (type == 2)
            continue; /* of ports */
        state->dr[i] = DIFF_DATA + random_below(random, 64) * 64;
        state->dr7 |=
            (type ? random_below(random, 4) << 2 | type : 0UL) << (16 + i * 4) | 1UL << (i * 2 + 1);
        if (!type)
            state->dr[i] = CODE_LOW + 0x1000 - random_below(random, 256);
    }
}

/* Where each second run begins: in the same code, at another of the places where the program may
 * execute it. */
static uint64_t choose_start_change(const struct program *program, struct diff_random *random)
{
    uint64_t near = chance(random, 3) ? 0 : chance(random, 2) ? ALIAS_NEAR : ALIAS_FAR;
    uint64_t other = program->alias;

    if (program->alias == ALIAS_TOP && !chance(random, 4))
        return ALIAS_NEAR; /* where addresses of 32 bits are enough for windows */
    if (chance(random, 3))
        return 0;
    if (program->code_size == 8 && chance(random, 2))
        other = aliases[random_below(random, program->ring == 0 ? 4 : 2)];
    if (near == ALIAS_FAR && other == ALIAS_TOP)
        near = ALIAS_NEAR;
    return program->alias ^ (other | near);
}

static void choose_kernel_data(struct program *program, struct diff_random *random)
{
    struct kernel_data *data = (struct kernel_data *)(program->kernel + KERNEL_DATA);
    const struct cpu_state *state = &program->state;

    memset(data, 0, sizeof(*data));
    data->fuel = chance(random, 2) ? random_below(random, 4) : random_below(random, 24);
    data->faults = 200;
    data->steps = data->steps_reload = random_below(random, 12);
    data->flag_mask = program->exact ? ~0UL : ~0x8d5UL;
    data->stack = STACK_TOP + program->alias;
    data->start_change = choose_start_change(program, random);
    data->cs = state->segments[SEG_CS].selector;
    data->ss = state->segments[SEG_SS].selector;
    data->cr3_change = program->globals ? 0 : table_offset(ROOT_0) ^ table_offset(ROOT_1);
    if (program->pcid)
        data->cr3_change ^= 1 | (chance(random, 2) ? CR3_NO_FLUSH : 0);
    for (unsigned i = 0; i < EDITS; i++)
        choose_edit(program, random, &data->edits[i]);
}

/* Some registers are small indices, for gathers and scatters. Some programs find all in its initial
 * state, and some may not use it. */
static void choose_avx512(struct cpu_state *state, struct diff_random *random)
{
    if (!chance(random, 8))
        state->xcr0 |= 0xe0;
    if (chance(random, 4))
        return;
    for (unsigned i = 0; i < 32; i++) {
        bool indices = chance(random, 4);

        random_vector(random, state->vector[i]);
        random_vector(random, state->vector[i] + 32);
        for (unsigned n = 0; indices && n < 16; n++) {
            uint32_t index = random_below(random, 0x200) - 0x100;

            memcpy(state->vector[i] + n * 4, &index, 4);
        }
    }
    for (unsigned i = 0; i < 8; i++)
        state->opmask[i] = chance(random, 4) ? ~0UL : random_bits(random);
}

static void choose_vectors(struct cpu_state *state, struct diff_random *random)
{
    state->x87.control = 0x37f;
    state->x87.tag = 0xff;
    for (unsigned i = 0; i < 8; i++)
        random_x87(random, state->x87.registers[i]);
    state->mxcsr = chance(random, 4) ? (uint32_t)random_bits(random) & 0xffff : 0x1f80;
    for (unsigned i = 0; i < 16; i++)
        random_vector(random, state->vector[i]);
    if (form_avx512())
        choose_avx512(state, random);
}

static bool has_pcid(void)
{
    uint32_t words[CPU_WORDS];

    soft_features(words);
    return words[CPU_1_ECX] >> 17 & 1;
}

void space_make(struct program *program, struct diff_random *random)
{
    struct cpu_state *state = &program->state;

    program->code_size = random_below(random, 4) ? 8 : 4;
    program->ring = program->code_size == 8 && chance(random, 3) ? 0 : 3;
    program->alias = 0;
    program->large = false;
    if (program->code_size == 8 && chance(random, 3))
        program->alias = program->ring == 0 && chance(random, 2) ? ALIAS_HIGH : ALIAS_MIDDLE;
    program->asynchronous = chance(random, 16);
    program->waits = program->asynchronous && program->ring == 3 && chance(random, 2);
    /* An interrupt may come before a wait has faulted, or behind. */
    program->steady = chance(random, 2) || program->waits;
    program->pcid = chance(random, 4) && has_pcid();
    program->supervisor = program->ring == 0 && chance(random, 2);
    program->globals = program->supervisor || chance(random, 4);
    if (program->supervisor && chance(random, 2))
        program->alias = chance(random, 2) ? ALIAS_HIGH : ALIAS_TOP;
    memset(program->kernel, 0, sizeof(program->kernel));
    memcpy(program->kernel, kernel_image, (uintptr_t)kernel_image_end - (uintptr_t)kernel_image);
    map_kernel(program);
    put_descriptors(program);
    /* A frame that is pushed in part has flags that the kernel does not see. */
    put_gates(program, chance(random, 8) && (program->exact || program->ring == 3)
                           ? program->ring == 3
                           : program->ring == 0);
    choose_aliases(program, random);
    memset(state, 0, sizeof(*state));
    for (unsigned i = 0; i < GPR_COUNT; i++)
        state->gpr[i] = random_integer(random) & (program->code_size == 8 ? ~0UL : 0xffffffff);
    state->gpr[GPR_RSP] = STACK_TOP + program->alias;
    choose_control(program, random);
    map_window(program, random, 0);
    map_window(program, random, 1);
    map_top(program);
    choose_segments(program, random);
    choose_debug(program, random);
    choose_vectors(state, random);
    cpu_lapic_reset(&state->lapic, true, 0);
    state->lapic.base_msr |= 1UL << 10; /* x2APIC */
    state->lapic.svr |= 0x100;
    state->msrs.pat = 0x0007040600070406;
    choose_kernel_data(program, random);
}
