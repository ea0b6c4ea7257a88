// SPDX-License-Identifier: Apache-2.0
/*
 * The x87 state of a vCPU as other parts see it: MMX registers, pending exceptions, and the
 * canonical form.
 */
#pragma once

#include <string.h>

#include "vmm/engine/soft/cpu.h"

#define FSW_EXCEPTIONS 0x3fU
#define FSW_ES         (1U << 7)
#define FSW_B          (1U << 15)
#define FSW_TOP        (7U << 11)
#define FSW_TOP_SHIFT  11

/* Copy the vCPU's x87 state to the canonical form (physical register order) and back. `set` takes
 * any values. */
void soft_x87_get(const struct soft_cpu *cpu, struct cpu_x87 *out);
void soft_x87_set(struct soft_cpu *cpu, const struct cpu_x87 *in);

/* Bring control and status word into a form that hardware could have: reserved bits, and ES and B
 * as flags and masks demand. What came from the guest's memory goes through this. */
void soft_x87_normalize(struct soft_cpu *cpu);

/* State after FNINIT; with `whole` the registers too, as after power-on (SDM 3A, table 10-1). */
void soft_x87_reset(struct soft_cpu *cpu, bool whole);

/* Deliver a pending unmasked exception: #MF, or nothing where the machine is to be told by FERR
 * (CR0.NE clear), which no device of ours listens to. */
void soft_x87_raise_pending(struct soft_cpu *cpu);

/* What every instruction on MMX registers checks first. */
void soft_mmx_check(struct soft_cpu *cpu);

static inline unsigned soft_x87_top(const struct soft_cpu *cpu)
{
    return (cpu->x87.fsw & FSW_TOP) >> FSW_TOP_SHIFT;
}

/* Turn the register stack so that TOP is 0 and mark all registers valid: what an MMX instruction
 * does to x87 state. */
void soft_mmx_enter(struct soft_cpu *cpu);

/* MMX register `index`, wherever TOP puts it; 8 bytes. */
static inline void soft_mmx_read(const struct soft_cpu *cpu, unsigned index, void *out)
{
    memcpy(out, cpu->x87.st[(index - soft_x87_top(cpu)) & 7], 8);
}

/* After soft_mmx_enter. The exponent becomes all ones. */
static inline void soft_mmx_write(struct soft_cpu *cpu, unsigned index, const void *in)
{
    uint8_t *st = cpu->x87.st[index & 7];

    memcpy(st, in, 8);
    st[8] = st[9] = 0xff;
}
