// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions that transfer control beyond the code segment: far JMP, CALL and RET, INT and its
 * kin, IRET (SDM 2).
 */
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/transfer.h"

/* A far pointer in memory: the offset, then the selector. */
static uint16_t read_far_pointer(struct soft_cpu *cpu, const struct insn *insn, uint64_t *offset)
{
    unsigned size = insn->operand_size;
    uint64_t linear = soft_operand_address(cpu, insn, size + 2, SOFT_READ);

    *offset = size == 8   ? soft_read64(cpu, linear)
              : size == 4 ? soft_read32(cpu, linear)
                          : soft_read16(cpu, linear);
    return soft_read16(cpu, linear + size);
}

/* The selector of a far pointer in the instruction. */
static uint16_t immediate_selector(const struct insn *insn)
{
    return insn->aux[0] | insn->aux[1] << 8;
}

static void jump_far_immediate(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_far_jump(cpu, immediate_selector(insn), insn->immediate, insn->operand_size);
}

static void jump_far_memory(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset;
    uint16_t selector = read_far_pointer(cpu, insn, &offset);

    soft_far_jump(cpu, selector, offset, insn->operand_size);
}

static void call_far_immediate(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_far_call(cpu, immediate_selector(insn), insn->immediate, insn->operand_size,
                  cpu->next_rip);
}

static void call_far_memory(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset;
    uint16_t selector = read_far_pointer(cpu, insn, &offset);

    soft_far_call(cpu, selector, offset, insn->operand_size, cpu->next_rip);
}

static void return_far(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_far_return(cpu, insn->operand_size, (uint16_t)insn->immediate);
}

static void int_n(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_software_interrupt(cpu, (uint8_t)insn->immediate, true, cpu->next_rip);
}

static void int3(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_software_interrupt(cpu, EXC_BP, false, cpu->next_rip);
}

static void into(struct soft_cpu *cpu, const struct insn *insn)
{
    if (cpu->rflags & FLAG_OF)
        soft_software_interrupt(cpu, EXC_OF, false, cpu->next_rip);
}

/* INT1 asks no gate's DPL. */
static void int1(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_deliver(cpu, SOFT_EVENT_PRIVILEGED_SOFTWARE, EXC_DB, false, 0, cpu->next_rip);
}

static void iret(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_interrupt_return(cpu, insn->operand_size);
}

/* A pointer in the instruction goes to where the handlers look. */
static bool take_pointer(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedOperand *operand = &decoded->operands[0];

    if (operand->type != ZYDIS_OPERAND_TYPE_POINTER)
        return false;
    insn->immediate = operand->ptr.offset;
    if (insn->operand_size == 2)
        insn->immediate &= 0xffff;
    insn->aux[0] = operand->ptr.segment & 0xff;
    insn->aux[1] = operand->ptr.segment >> 8;
    return true;
}

soft_exec_fn soft_select_transfer(const struct soft_decoded *decoded, struct insn *insn)
{
    bool far = decoded->instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;

    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
        if (!far)
            return NULL;
        return take_pointer(decoded, insn) ? jump_far_immediate : jump_far_memory;
    case ZYDIS_MNEMONIC_CALL:
        if (!far)
            return NULL;
        return take_pointer(decoded, insn) ? call_far_immediate : call_far_memory;
    case ZYDIS_MNEMONIC_RET:
        return far ? return_far : NULL;
    case ZYDIS_MNEMONIC_INT:
        return int_n;
    case ZYDIS_MNEMONIC_INT3:
        return int3;
    case ZYDIS_MNEMONIC_INTO:
        return into;
    case ZYDIS_MNEMONIC_INT1:
        return int1;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        return iret;
    default:
        return NULL;
    }
}
