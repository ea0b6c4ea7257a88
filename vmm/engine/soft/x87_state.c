// SPDX-License-Identifier: Apache-2.0
/*
 * x87 state at rest: its canonical form, its state at reset, pending exceptions, and the MMX
 * registers that alias it. (SDM 1, 8.1 and 9.2.)
 *
 * The vCPU keeps it in the form of FXSAVE, which numbers registers from the top of the stack; MMX
 * and the canonical form number them as they are in the hardware.
 */
#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/x87.h"

#define FCW_INIT  0x37f
#define FCW_FIXED 0x40 /* reads 1; bits 7 and 13..15 read 0 */
#define FCW_MASK  0x1f3f

void soft_x87_normalize(struct soft_cpu *cpu)
{
    uint16_t fsw = cpu->x87.fsw;

    cpu->x87.fcw = (cpu->x87.fcw & FCW_MASK) | FCW_FIXED;
    fsw &= (uint16_t) ~(FSW_ES | FSW_B);
    if (fsw & ~cpu->x87.fcw & FSW_EXCEPTIONS)
        fsw |= FSW_ES | FSW_B;
    cpu->x87.fsw = fsw;
}

void soft_x87_get(const struct soft_cpu *cpu, struct cpu_x87 *out)
{
    unsigned top = soft_x87_top(cpu);

    out->control = cpu->x87.fcw;
    out->status = cpu->x87.fsw;
    out->tag = cpu->x87.ftw;
    out->opcode = cpu->x87.fop;
    out->instruction_pointer = cpu->x87.fip;
    out->data_pointer = cpu->x87.fdp;
    out->instruction_selector = cpu->x87_cs;
    out->data_selector = cpu->x87_ds;
    for (unsigned i = 0; i < 8; i++)
        memcpy(out->registers[(i + top) & 7], cpu->x87.st[i], 10);
}

void soft_x87_set(struct soft_cpu *cpu, const struct cpu_x87 *in)
{
    unsigned top;

    cpu->x87.fcw = in->control;
    cpu->x87.fsw = in->status;
    cpu->x87.ftw = in->tag;
    cpu->x87.fop = in->opcode & 0x7ff;
    cpu->x87.fip = in->instruction_pointer;
    cpu->x87.fdp = in->data_pointer;
    cpu->x87_cs = in->instruction_selector;
    cpu->x87_ds = in->data_selector;
    soft_x87_normalize(cpu);
    top = soft_x87_top(cpu);
    memset(cpu->x87.st, 0, sizeof(cpu->x87.st));
    for (unsigned i = 0; i < 8; i++)
        memcpy(cpu->x87.st[i], in->registers[(i + top) & 7], 10);
}

void soft_x87_reset(struct soft_cpu *cpu, bool whole)
{
    uint8_t physical[8][16];
    unsigned top = soft_x87_top(cpu);

    for (unsigned i = 0; i < 8; i++)
        memcpy(physical[(i + top) & 7], cpu->x87.st[i], 16);
    memcpy(cpu->x87.st, physical, sizeof(physical));
    cpu->x87.fcw = whole ? 0x40 : FCW_INIT;
    cpu->x87.fsw = 0;
    cpu->x87.ftw = whole ? 0xff : 0;
    cpu->x87.fop = 0;
    cpu->x87.fip = cpu->x87.fdp = 0;
    cpu->x87_cs = cpu->x87_ds = 0;
    if (whole)
        memset(cpu->x87.st, 0, sizeof(cpu->x87.st));
}

void soft_x87_raise_pending(struct soft_cpu *cpu)
{
    if ((cpu->x87.fsw & FSW_ES) && (cpu->cr0 & CR0_NE))
        soft_raise(cpu, EXC_MF, 0);
}

void soft_mmx_check(struct soft_cpu *cpu)
{
    if (cpu->cr0 & CR0_EM)
        soft_undefined(cpu);
    if (cpu->cr0 & CR0_TS)
        soft_raise(cpu, EXC_NM, 0);
    soft_x87_raise_pending(cpu);
}

void soft_mmx_enter(struct soft_cpu *cpu)
{
    uint8_t physical[8][16];
    unsigned top = soft_x87_top(cpu);

    cpu->x87.ftw = 0xff;
    if (!top)
        return;
    for (unsigned i = 0; i < 8; i++)
        memcpy(physical[(i + top) & 7], cpu->x87.st[i], 16);
    memcpy(cpu->x87.st, physical, sizeof(physical));
    cpu->x87.fsw &= (uint16_t)~FSW_TOP;
}
