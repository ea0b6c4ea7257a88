// SPDX-License-Identifier: Apache-2.0
/*
 * The interpreter's side: one vCPU of the software engine in 64-bit ring 3, with page tables that
 * map what the native side has mapped, and no thread or run loop around it.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/diff/diff.h"
#include "tests/memory.h"
#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/vector.h"

#define RAM_SIZE  (1UL << 20)
#define PML4      0x1000UL
#define PDPT      0x2000UL
#define DIRECTORY 0x3000UL
#define TABLE     0x4000UL
#define DATA      0x10000UL
#define READ_ONLY 0x20000UL
#define CODE      0x21000UL

#define FXSAVE_PART 160 /* x87 in the FXSAVE image and in struct soft_cpu */

#define PAGE_P  1UL
#define PAGE_RW 2UL
#define PAGE_US 4UL
#define PAGE_AD 0x60UL /* accessed, dirty */

static struct soft_cpu *cpu;
static struct memory *memory;
static uint8_t *ram;
static struct cpu_definition model;
static struct exit_ops exits;

static void map_page(uint64_t linear, uint64_t gpa, uint64_t rights)
{
    uint64_t entry = gpa | rights | PAGE_P | PAGE_US | PAGE_AD;

    memcpy(ram + TABLE + (linear >> 12 & 511) * 8, &entry, 8);
}

static void build_tables(void)
{
    uint64_t pdpt = PDPT | PAGE_P | PAGE_RW | PAGE_US | PAGE_AD;
    uint64_t directory = DIRECTORY | PAGE_P | PAGE_RW | PAGE_US | PAGE_AD;
    uint64_t table = TABLE | PAGE_P | PAGE_RW | PAGE_US | PAGE_AD;

    memcpy(ram + PML4, &pdpt, 8);
    memcpy(ram + PDPT + (DIFF_DATA >> 30 & 511) * 8, &directory, 8);
    memcpy(ram + DIRECTORY + (DIFF_DATA >> 21 & 511) * 8, &table, 8);
    map_page(DIFF_READ_ONLY, READ_ONLY, 0);
    map_page(DIFF_DATA, DATA, PAGE_RW);
    map_page(DIFF_DATA + 0x1000, DATA + 0x1000, PAGE_RW);
    map_page(DIFF_CODE, CODE, 0);
}

/* What the native side has: Linux's segments, or for 16-bit code those of the LDT. */
static void set_segments(unsigned code_size)
{
    uint16_t flat = SEGMENT_S | SEGMENT_P | 3 << 5 | SEGMENT_G | SEGMENT_DB;
    uint16_t small = SEGMENT_S | SEGMENT_P | 3 << 5;
    struct cpu_segment data = {DIFF_DS32, flat | 3, ~0U, 0}, code = {DIFF_CS64, 0, ~0U, 0};

    code.attributes = (uint16_t)((flat & ~SEGMENT_DB) | SEGMENT_L | 11);
    if (code_size == 4)
        code = (struct cpu_segment){DIFF_CS32, flat | 11, ~0U, 0};
    if (code_size == 2) {
        data = (struct cpu_segment){DIFF_DS16, small | 3, 0xffff, DIFF_WINDOW};
        code = (struct cpu_segment){DIFF_CS16, small | 11, 0xffff, DIFF_WINDOW};
    }
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = data;
    cpu->seg[SEG_CS] = code;
    soft_update_mode(cpu);
}

void interpreter_init(void)
{
    memory = memory_create();
    cpu = soft_cpu_create();
    if (!cpu) {
        fprintf(stderr, "anima-difftest: no memory\n");
        exit(2);
    }
    ram = test_memory_add(memory, MEMORY_RAM, 0, RAM_SIZE);
    diff_model(&model);
    cpu->memory = memory;
    cpu->model = &model;
    cpu->exits = &exits;
    cpu->delivering = -1;
    cpu->lapic_page = SOFT_TLB_NONE;
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    cpu->cr3 = PML4;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->msrs.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    cpu->xcr0 = diff_xcr0();
    cpu->rflags = FLAG_FIXED | FLAG_IF;
    build_tables();
    memset(ram + CODE, 0xcc, 0x1000);
    set_segments(8);
    soft_tlb_init(cpu);
    soft_vector_init();
}

void interpreter_finish(void)
{
    soft_cpu_destroy(cpu);
    memory_destroy(memory);
}

static void load_state(const struct diff_state *state)
{
    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    cpu->next_rip = state->rip;
    cpu->rflags = state->rflags;
    memcpy(&cpu->x87, state->fxsave, FXSAVE_PART);
    cpu->x87_cs = cpu->x87_ds = 0;
    memcpy(&cpu->mxcsr, state->fxsave + 24, 4);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(cpu->vector[i].u8, state->fxsave + 160 + i * 16, 16);
        memcpy(cpu->vector[i].u8 + 16, state->ymm_high[i], 16);
        memcpy(cpu->vector[i].u8 + 32, state->zmm_high[i], 32);
        memcpy(cpu->vector[16 + i].u8, state->zmm_upper[i], 64);
    }
    memcpy(cpu->opmask, state->opmask, sizeof(cpu->opmask));
    cpu->avx512_used = true;
}

static void save_state(struct diff_state *state)
{
    uint32_t mask = soft_mxcsr_mask(cpu);

    memcpy(state->gpr, cpu->gpr, sizeof(cpu->gpr));
    state->rflags = cpu->rflags;
    memset(state->fxsave, 0, sizeof(state->fxsave));
    memcpy(state->fxsave, &cpu->x87, 24);
    memcpy(state->fxsave + 24, &cpu->mxcsr, 4);
    memcpy(state->fxsave + 28, &mask, 4);
    for (unsigned i = 0; i < 8; i++)
        memcpy(state->fxsave + 32 + i * 16, cpu->x87.st[i], 10);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(state->fxsave + 160 + i * 16, cpu->vector[i].u8, 16);
        memcpy(state->ymm_high[i], cpu->vector[i].u8 + 16, 16);
        memcpy(state->zmm_high[i], cpu->vector[i].u8 + 32, 32);
        memcpy(state->zmm_upper[i], cpu->vector[16 + i].u8, 64);
    }
    memcpy(state->opmask, cpu->opmask, sizeof(state->opmask));
}

/* As the run loop does it: a repeated instruction comes back to itself until it is done. */
static void execute(const struct insn *insn)
{
    do {
        cpu->rip = cpu->next_rip;
        cpu->next_rip += insn->length;
        cpu->insn = insn;
        insn->exec(cpu, insn);
    } while (cpu->next_rip == cpu->rip && (insn->prefixes & (INSN_REP | INSN_REPNE)));
}

void interpreter_run(const struct diff_case *test, struct diff_outcome *out)
{
    uint8_t *code = ram + CODE + (DIFF_CODE_ENTRY - DIFF_CODE);
    sigjmp_buf escape;
    struct insn insn;

    memcpy(ram + DATA, test->data, sizeof(test->data));
    memcpy(ram + READ_ONLY, test->read_only, sizeof(test->read_only));
    memset(code, 0xcc, 32); /* an instruction may read the page that the native side runs in */
    memcpy(code, test->bytes, test->instruction.length);
    if (cpu->code_size != test->form->code_size)
        set_segments(test->form->code_size);
    load_state(&test->state);
    cpu->escape = &escape;
    cpu->block_end = false;
    cpu->shadow = 0;
    cpu->pending_db = 0;
    cpu->delivering = -1;
    out->vector = -1;
    out->error = 0;
    out->cr2 = 0;
    if (!sigsetjmp(escape, 0)) {
        if (soft_decode(&model, cpu->code_size, test->bytes, 15, &insn) != SOFT_DECODE_OK)
            soft_general_protection(cpu, 0);
        execute(&insn);
        out->state.rip = cpu->next_rip;
    } else {
        out->vector = cpu->fault.vector;
        out->error = cpu->fault.has_error ? cpu->fault.error : 0;
        out->cr2 = cpu->cr2;
        out->state.rip = cpu->rip;
    }
    save_state(&out->state);
    memcpy(out->data, ram + DATA, sizeof(out->data));
}
