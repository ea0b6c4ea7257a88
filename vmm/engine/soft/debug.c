// SPDX-License-Identifier: Apache-2.0
/*
 * Debug registers (SDM 3B, 17.2). Data breakpoints work by the TLB: a watched page is never in it,
 * so that mmu.c sees each access. Instruction breakpoints are looked at by the run loop while any
 * is enabled, those on ports by IN and OUT.
 */
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/translator/window.h"

#define DR6_FIXED    0xffff0ff0UL
#define DR6_WRITABLE 0xe00fUL
#define DR6_BD       (1UL << 13)
#define DR7_FIXED    0x400UL
#define DR7_WRITABLE 0xffff23ffUL
#define DR7_GD       (1UL << 13)

enum break_kind { BREAK_CODE, BREAK_WRITE, BREAK_IO, BREAK_READ_WRITE };

static enum break_kind kind_of(const struct soft_cpu *cpu, unsigned index)
{
    return cpu->dr7 >> (16 + index * 4) & 3;
}

void soft_update_debug(struct soft_cpu *cpu)
{
    uint8_t old_data = cpu->break_data;

    cpu->break_code = cpu->break_data = cpu->break_io = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (!(cpu->dr7 >> (2 * i) & 3))
            continue;
        if (kind_of(cpu, i) == BREAK_CODE)
            cpu->break_code |= 1U << i;
        else if (kind_of(cpu, i) != BREAK_IO)
            cpu->break_data |= 1U << i;
        else if (cpu->cr4 & CR4_DE)
            cpu->break_io |= 1U << i;
    }
    if (cpu->break_data | old_data) {
        soft_tlb_flush(cpu, true);
        soft_window_update(cpu);
    }
}

void soft_check_code_breakpoint(struct soft_cpu *cpu)
{
    uint64_t linear = cpu->flat ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
    uint64_t bits = 0;

    if (cpu->rflags & FLAG_RF)
        return;
    for (unsigned i = 0; i < 4; i++)
        if ((cpu->break_code >> i & 1) && cpu->dr[i] == linear)
            bits |= 1U << i;
    if (bits)
        soft_raise_debug(cpu, bits);
}

void soft_note_io_breakpoints(struct soft_cpu *cpu, uint16_t port, unsigned size)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned length = (cpu->dr7 >> (18 + i * 4) & 3) + 1;
        uint64_t start = cpu->dr[i] & ~(uint64_t)(length - 1);

        if ((cpu->break_io >> i & 1) && (start - port < size || port - start < length)) {
            cpu->pending_db |= 1U << i;
            cpu->block_end = true;
        }
    }
}

/* DR4 and DR5 are DR6 and DR7, or do not exist; DR7.GD guards all of them. */
static unsigned checked_index(struct soft_cpu *cpu, unsigned index)
{
    if (index == 4 || index == 5) {
        if (cpu->cr4 & CR4_DE)
            soft_undefined(cpu);
        index += 2;
    }
    if (cpu->dr7 & DR7_GD)
        soft_raise_debug(cpu, DR6_BD);
    return index;
}

uint64_t soft_read_dr(struct soft_cpu *cpu, unsigned index)
{
    index = checked_index(cpu, index);
    return index < 4 ? cpu->dr[index] : index == 6 ? cpu->dr6 : cpu->dr7;
}

void soft_write_dr(struct soft_cpu *cpu, unsigned index, uint64_t value)
{
    index = checked_index(cpu, index);
    if (index < 4) {
        cpu->dr[index] = value;
        soft_update_debug(cpu);
        return;
    }
    if (value > UINT32_MAX)
        soft_general_protection(cpu, 0);
    if (index == 6) {
        cpu->dr6 = (value & DR6_WRITABLE) | DR6_FIXED;
    } else {
        cpu->dr7 = (value & DR7_WRITABLE) | DR7_FIXED;
        soft_update_debug(cpu);
    }
    cpu->block_end = true;
}
