// SPDX-License-Identifier: Apache-2.0
/*
 * Near branches: JMP, CALL, RET, Jcc, LOOP, JCXZ (SDM 2). A target is cut to the operand size and
 * checked (canonical in 64-bit mode, within CS's limit elsewhere) before anything changes. Far
 * transfers are far.c's.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/stack.h"

static inline uint64_t branch_cut(uint64_t target, unsigned size)
{
    return size == 8 ? target : size == 4 ? (uint32_t)target : (uint16_t)target;
}

static inline bool branch_allowed(const struct soft_cpu *cpu, uint64_t target)
{
    return __builtin_expect(cpu->flat, 1) ? soft_canonical(target)
                                          : target <= cpu->seg[SEG_CS].limit;
}

/* Where a branch of `size` bytes of operand goes; raises #GP where it may not. */
static inline uint64_t branch_target(struct soft_cpu *cpu, uint64_t target, unsigned size)
{
    target = branch_cut(target, size);
    if (__builtin_expect(!branch_allowed(cpu, target), 0))
        soft_general_protection(cpu, 0);
    return target;
}

static inline void branch_relative(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->next_rip = branch_target(cpu, cpu->next_rip + insn->immediate, insn->operand_size);
}

static void jmp_relative(struct soft_cpu *cpu, const struct insn *insn)
{
    branch_relative(cpu, insn);
}

static void jmp_register(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->next_rip = branch_target(cpu, cpu->gpr[insn->rm], insn->operand_size);
}

static void jmp_memory(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t linear = soft_operand_address(cpu, insn, size, SOFT_READ);

    cpu->next_rip = branch_target(cpu, mem_get(cpu, linear, size), size);
}

static inline void call_to(struct soft_cpu *cpu, uint64_t target, unsigned size)
{
    target = branch_cut(target, size);
    if (__builtin_expect(!branch_allowed(cpu, target), 0)) {
        /* The processors that we compare with look at the stack first. */
        uint64_t rsp = soft_stack_wrap(cpu, cpu->gpr[GPR_RSP] - size);

        soft_probe_write(cpu, soft_stack_address(cpu, rsp, size, SOFT_WRITE), size, cpu->mmu_mode);
        soft_general_protection(cpu, 0);
    }
    soft_push(cpu, cpu->next_rip, size);
    cpu->next_rip = target;
}

static void call_relative(struct soft_cpu *cpu, const struct insn *insn)
{
    call_to(cpu, cpu->next_rip + insn->immediate, insn->operand_size);
}

static void call_register(struct soft_cpu *cpu, const struct insn *insn)
{
    call_to(cpu, cpu->gpr[insn->rm], insn->operand_size);
}

static void call_memory(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t linear = soft_operand_address(cpu, insn, size, SOFT_READ);

    call_to(cpu, mem_get(cpu, linear, size), size);
}

/* The immediate is the number of bytes to drop after the return address. */
static void ret(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;

    cpu->next_rip = branch_target(cpu, soft_stack_top(cpu, size), size);
    soft_stack_set(cpu, cpu->gpr[GPR_RSP] + size + (uint16_t)insn->immediate);
}

#define DEFINE_JCC(code)                                                  \
    static void jcc_##code(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                     \
        if (condition_holds(cpu->rflags, code))                           \
            branch_relative(cpu, insn);                                   \
    }
DEFINE_JCC(0)
DEFINE_JCC(1)
DEFINE_JCC(2)
DEFINE_JCC(3)
DEFINE_JCC(4)
DEFINE_JCC(5)
DEFINE_JCC(6)
DEFINE_JCC(7)
DEFINE_JCC(8)
DEFINE_JCC(9)
DEFINE_JCC(10)
DEFINE_JCC(11)
DEFINE_JCC(12)
DEFINE_JCC(13)
DEFINE_JCC(14)
DEFINE_JCC(15)

/* CX, ECX or RCX by the address size. */
static uint64_t counter_get(const struct soft_cpu *cpu, const struct insn *insn)
{
    return reg_get(cpu, GPR_RCX * 8, insn->address_size);
}

static void loop_if(struct soft_cpu *cpu, const struct insn *insn, bool condition)
{
    uint64_t counter = counter_get(cpu, insn) - 1;

    if (insn->address_size == 4)
        counter = (uint32_t)counter;
    else if (insn->address_size == 2)
        counter = (uint16_t)counter;
    if (counter && condition)
        branch_relative(cpu, insn);
    reg_set(cpu, GPR_RCX * 8, counter, insn->address_size);
}

static void loop(struct soft_cpu *cpu, const struct insn *insn)
{
    loop_if(cpu, insn, true);
}

static void loope(struct soft_cpu *cpu, const struct insn *insn)
{
    loop_if(cpu, insn, cpu->rflags & FLAG_ZF);
}

static void loopne(struct soft_cpu *cpu, const struct insn *insn)
{
    loop_if(cpu, insn, !(cpu->rflags & FLAG_ZF));
}

static void jcxz(struct soft_cpu *cpu, const struct insn *insn)
{
    if (!counter_get(cpu, insn))
        branch_relative(cpu, insn);
}

static soft_exec_fn select_indirect(const struct insn *insn, soft_exec_fn relative,
                                    soft_exec_fn of_register, soft_exec_fn of_memory,
                                    const ZydisDecodedOperand *target)
{
    if (target->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return relative;
    return insn->memory ? of_memory : of_register;
}

soft_exec_fn soft_select_branch(const struct soft_decoded *decoded, struct insn *insn)
{
    static const soft_exec_fn conditional[16] = {
        jcc_0, jcc_1, jcc_2,  jcc_3,  jcc_4,  jcc_5,  jcc_6,  jcc_7,
        jcc_8, jcc_9, jcc_10, jcc_11, jcc_12, jcc_13, jcc_14, jcc_15,
    };
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    const ZydisDecodedOperand *target = &decoded->operands[0];

    if (instruction->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return NULL;
    if (instruction->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
        insn->prefixes |= INSN_NEAR_BRANCH;
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
        return select_indirect(insn, jmp_relative, jmp_register, jmp_memory, target);
    case ZYDIS_MNEMONIC_CALL:
        return select_indirect(insn, call_relative, call_register, call_memory, target);
    case ZYDIS_MNEMONIC_RET:
        return ret;
    case ZYDIS_MNEMONIC_LOOP:
        return loop;
    case ZYDIS_MNEMONIC_LOOPE:
        return loope;
    case ZYDIS_MNEMONIC_LOOPNE:
        return loopne;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        return jcxz;
    default:
        break;
    }
    if (instruction->meta.category == ZYDIS_CATEGORY_COND_BR)
        return conditional[instruction->opcode & 15];
    return NULL;
}
