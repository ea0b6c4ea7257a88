// SPDX-License-Identifier: Apache-2.0
/*
 * Port access: IN, OUT, and the permission that they share with INS and OUTS (SDM 1, 19.5).
 */
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/segment.h"

#define TSS_IO_MAP_BASE 102

/* Look `size` bits up in the TSS's bitmap. Two bytes are always read, as hardware does. */
static bool bitmap_allows(struct soft_cpu *cpu, uint16_t port, unsigned size)
{
    const struct cpu_segment *tr = &cpu->seg[SEG_TR];
    uint32_t offset;
    uint16_t bits;

    if ((tr->attributes & SEGMENT_UNUSABLE) || !(SEGMENT_TYPE(tr->attributes) & 8) ||
        tr->limit < TSS_IO_MAP_BASE + 1)
        return false;
    offset =
        soft_read16_as(cpu, soft_table_linear(cpu, tr->base, TSS_IO_MAP_BASE), SOFT_MMU_SUPERVISOR);
    offset += port / 8;
    if (offset + 1 > tr->limit)
        return false;
    bits = soft_read16_as(cpu, soft_table_linear(cpu, tr->base, offset), SOFT_MMU_SUPERVISOR);
    return !(bits >> (port & 7) & ((1U << size) - 1));
}

void soft_check_io(struct soft_cpu *cpu, uint16_t port, unsigned size)
{
    if (soft_protected(cpu) && (cpu->cpl > soft_iopl(cpu) || soft_v86(cpu)) &&
        !bitmap_allows(cpu, port, size))
        soft_general_protection(cpu, 0);
    if (cpu->break_io)
        soft_note_io_breakpoints(cpu, port, size);
}

static void port_in(struct soft_cpu *cpu, uint16_t port, unsigned size)
{
    uint32_t value;

    soft_check_io(cpu, port, size);
    value = cpu->exits->pio_read(cpu->exits_opaque, port, size);
    if (size == 1)
        cpu->gpr[GPR_RAX] = (cpu->gpr[GPR_RAX] & ~0xffUL) | (value & 0xff);
    else
        soft_gpr_set(cpu, GPR_RAX, value, size);
}

static void port_out(struct soft_cpu *cpu, uint16_t port, unsigned size)
{
    uint32_t mask = size == 4 ? UINT32_MAX : (1U << size * 8) - 1;

    soft_check_io(cpu, port, size);
    cpu->exits->pio_write(cpu->exits_opaque, port, size, cpu->gpr[GPR_RAX] & mask);
}

static void in_dx(struct soft_cpu *cpu, const struct insn *insn)
{
    port_in(cpu, (uint16_t)cpu->gpr[GPR_RDX], insn->aux[0]);
}

static void in_immediate(struct soft_cpu *cpu, const struct insn *insn)
{
    port_in(cpu, (uint8_t)insn->immediate, insn->aux[0]);
}

static void out_dx(struct soft_cpu *cpu, const struct insn *insn)
{
    port_out(cpu, (uint16_t)cpu->gpr[GPR_RDX], insn->aux[0]);
}

static void out_immediate(struct soft_cpu *cpu, const struct insn *insn)
{
    port_out(cpu, (uint8_t)insn->immediate, insn->aux[0]);
}

soft_exec_fn soft_select_io(const struct soft_decoded *decoded, struct insn *insn)
{
    bool in = decoded->instruction.mnemonic == ZYDIS_MNEMONIC_IN;
    const ZydisDecodedOperand *data = &decoded->operands[in ? 0 : 1];
    const ZydisDecodedOperand *port = &decoded->operands[in ? 1 : 0];
    bool immediate = port->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

    if (!in && decoded->instruction.mnemonic != ZYDIS_MNEMONIC_OUT)
        return NULL;
    insn->aux[0] = data->size / 8;
    if (in)
        return immediate ? in_immediate : in_dx;
    return immediate ? out_immediate : out_dx;
}
