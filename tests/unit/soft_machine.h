// SPDX-License-Identifier: Apache-2.0
/*
 * A vCPU of the software engine by itself, for tests: 1 MB of RAM at 0, no paging, flat segments,
 * code at TEST_CODE, data at TEST_DATA, a stack below TEST_STACK. It has its local APIC and a
 * manual clock; no device answers on the bus.
 */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/memory.h"
#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/lapic.h"
#include "vmm/engine/soft/system.h"
#include "vmm/machine/clock.h"
#include "vmm/memory/memory.h"

#define TEST_RAM   0x100000UL
#define TEST_CODE  0x10000UL
#define TEST_DATA  0x20000UL
#define TEST_STACK 0x30000UL

struct soft_machine {
    struct memory *memory;
    struct cpu_definition model;
    struct clock *clock;
    struct soft_apics *apics;
    struct soft_cpu *cpu;
    uint8_t *ram;
    int fault; /* vector of the fault that ended soft_machine_run; -1 none */
};

static inline void soft_machine_code_written(void *opaque, uint64_t page)
{
    struct soft_machine *machine = opaque;

    soft_blocks_page_written(machine->cpu, page);
    soft_blocks_ask(machine->cpu);
}

static inline void soft_machine_write_protected(void *opaque, uint64_t page)
{
    struct soft_machine *machine = opaque;

    soft_tlb_protect(machine->cpu, page);
}

static inline void soft_machine_unmapped(void *opaque, uint64_t base, uint64_t size)
{
    struct soft_machine *machine = opaque;

    soft_blocks_unmapped(machine->cpu);
    soft_blocks_ask(machine->cpu);
    soft_tlb_flush(machine->cpu, true);
}

static inline void soft_machine_map_changed(void *opaque)
{
}

static inline uint64_t soft_machine_mmio_read(void *opaque, uint64_t address, unsigned size)
{
    return UINT64_MAX;
}

static inline void soft_machine_mmio_write(void *opaque, uint64_t address, unsigned size,
                                           uint64_t value)
{
}

static inline uint32_t soft_machine_pio_read(void *opaque, uint16_t port, unsigned size)
{
    return UINT32_MAX;
}

static inline void soft_machine_pio_write(void *opaque, uint16_t port, unsigned size,
                                          uint32_t value)
{
}

static const struct exit_ops soft_machine_exits = {
    .mmio_read = soft_machine_mmio_read,
    .mmio_write = soft_machine_mmio_write,
    .pio_read = soft_machine_pio_read,
    .pio_write = soft_machine_pio_write,
};

/* Every feature bit of the model set: what decodes at all is executed. */
static inline void soft_machine_init(struct soft_machine *machine)
{
    const struct memory_listener listener = {
        .unmapped = soft_machine_unmapped,
        .write_protected = soft_machine_write_protected,
        .code_written = soft_machine_code_written,
        .map_changed = soft_machine_map_changed,
        .opaque = machine,
    };

    memset(machine, 0, sizeof(*machine));
    machine->memory = memory_create();
    machine->ram = test_memory_add(machine->memory, MEMORY_RAM, 0, TEST_RAM);
    memset(machine->model.words, 0xff, sizeof(machine->model.words));
    machine->model.vendor = CPU_VENDOR_AMD;
    machine->model.physical_bits = 40;
    machine->model.linear_bits = 48;
    machine->cpu = soft_cpu_create();
    machine->cpu->memory = machine->memory;
    machine->cpu->model = &machine->model;
    machine->cpu->blocks = soft_blocks_create(machine->cpu);
    machine->cpu->exits = &soft_machine_exits;
    machine->cpu->delivering = -1;
    machine->cpu->lapic_page = SOFT_TLB_NONE;
    soft_tlb_init(machine->cpu);
    machine->clock = machine->cpu->clock = clock_create_manual(0);
    machine->apics = soft_apics_create(1);
    machine->cpu->lapic = soft_lapic_create(machine->apics, machine->cpu);
    assert_true(memory_listen(machine->memory, &listener, NULL));
}

static inline void soft_machine_finish(struct soft_machine *machine)
{
    memory_unlisten(machine->memory, machine);
    soft_lapic_destroy(machine->cpu->lapic);
    soft_apics_destroy(machine->apics);
    clock_destroy(machine->clock);
    soft_blocks_destroy(machine->cpu->blocks);
    soft_cpu_destroy(machine->cpu);
    memory_destroy(machine->memory);
}

/* Registers cleared; ring 0 in a mode of `code_size` (2: real mode, 4: protected, 8: 64-bit). */
static inline void soft_machine_reset(struct soft_machine *machine, unsigned code_size)
{
    struct soft_cpu *cpu = machine->cpu;
    uint16_t attributes = 0x93;

    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    cpu->gpr[GPR_RSP] = code_size == 2 ? 0xfff0 : TEST_STACK;
    cpu->rflags = 2;
    cpu->cr0 = code_size == 2 ? 0x10 : 0x11;
    cpu->msrs.efer = code_size == 8 ? 0x500 : 0;
    cpu->shadow = 0;
    cpu->pending_db = 0;
    cpu->mp_state = CPU_RUNNABLE;
    if (code_size == 4)
        attributes |= SEGMENT_DB | SEGMENT_G;
    for (unsigned i = 0; i <= SEG_GS; i++)
        cpu->seg[i] = (struct cpu_segment){.attributes = attributes,
                                           .limit = code_size == 2 ? 0xffff : 0xffffffff};
    cpu->seg[SEG_CS].attributes = 0x9b | (code_size == 8 ? SEGMENT_L : attributes & SEGMENT_DB);
    cpu->seg[SEG_CS].base = code_size == 2 ? TEST_CODE : 0;
    cpu->seg[SEG_CS].selector = (uint16_t)(cpu->seg[SEG_CS].base >> 4);
    cpu->next_rip = cpu->rip = code_size == 2 ? 0 : TEST_CODE;
    soft_update_mode(cpu);
}

/* Put `size` bytes at TEST_CODE and execute them from there, until rip is at their end, or a fault.
 * Control may go elsewhere in between; at most 100,000 instructions. */
static inline void soft_machine_run(struct soft_machine *machine, const void *code, unsigned size)
{
    struct soft_cpu *cpu = machine->cpu;
    uint64_t end = TEST_CODE + size;
    sigjmp_buf escape;

    memory_write(machine->memory, TEST_CODE, code, size);
    soft_blocks_drain(cpu);
    atomic_store(&cpu->requests, 0);
    cpu->escape = &escape;
    soft_blocks_enter(cpu);
    machine->fault = -1;
    if (sigsetjmp(escape, 0)) {
        machine->fault = cpu->fault.vector;
        return;
    }
    for (unsigned i = 0; i < 100000; i++) {
        const struct insn *insn;

        cpu->rip = cpu->next_rip;
        if (cpu->rip + cpu->seg[SEG_CS].base == end)
            return;
        if (atomic_exchange(&cpu->requests, 0))
            soft_blocks_drain(cpu);
        insn = soft_blocks_find(cpu, cpu->rip + cpu->seg[SEG_CS].base)->insns;
        cpu->next_rip += insn->length;
        cpu->insn = insn;
        cpu->block_end = false;
        insn->exec(cpu, insn);
    }
    machine->fault = -2;
}
