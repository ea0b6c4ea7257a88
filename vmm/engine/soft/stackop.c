// SPDX-License-Identifier: Apache-2.0
/*
 * PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE (SDM 2). Segment registers are system.c's.
 *
 * In virtual-8086 mode with IOPL below 3, PUSHF and POPF work on VIF in IF's place where CR4.VME
 * allows it, and raise #GP where it does not (SDM 3B, 20.3).
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/stack.h"

static void push_register(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_push(cpu, reg_get64(cpu, insn->reg_offset), insn->operand_size);
}

static void push64_register(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t rsp = cpu->gpr[GPR_RSP] - 8;

    soft_write64(cpu, soft_stack_address(cpu, rsp, 8, SOFT_WRITE),
                 reg_get64(cpu, insn->reg_offset));
    cpu->gpr[GPR_RSP] = rsp;
}

static void push_immediate(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_push(cpu, insn->immediate, insn->operand_size);
}

static void push_memory(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t linear = soft_operand_address(cpu, insn, size, SOFT_READ);

    soft_push(cpu, mem_get(cpu, linear, size), size);
}

/* POP of the stack pointer itself: the value wins over the increment. */
static void pop_register(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t value = soft_stack_top(cpu, size);

    soft_stack_drop(cpu, size);
    reg_set(cpu, insn->reg_offset, value, size);
}

static void pop64_register(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t rsp = cpu->gpr[GPR_RSP];
    uint64_t value = soft_read64(cpu, soft_stack_address(cpu, rsp, 8, SOFT_READ));

    cpu->gpr[GPR_RSP] = rsp + 8;
    reg_set64(cpu, insn->reg_offset, value);
}

/* The destination's address is computed with the stack pointer already incremented; a fault of the
 * store leaves it as it was. */
static void pop_memory(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t value = soft_stack_top(cpu, size), before = cpu->gpr[GPR_RSP], after, offset;

    soft_stack_drop(cpu, size);
    after = cpu->gpr[GPR_RSP];
    offset = soft_operand_offset(cpu, insn);
    cpu->gpr[GPR_RSP] = before;
    mem_set(cpu, mem_address(cpu, insn->segment, offset, size, SOFT_WRITE), value, size);
    cpu->gpr[GPR_RSP] = after;
}

/* All eight, RSP as it was before. */
static void pusha(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t rsp = cpu->gpr[GPR_RSP];

    /* Only memory below the stack changes before the last store. */
    for (unsigned i = 0; i < 8; i++)
        soft_stack_store(cpu, soft_stack_wrap(cpu, rsp - (i + 1) * size), cpu->gpr[i], size);
    soft_stack_set(cpu, rsp - 8 * size);
}

static void popa(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t rsp = cpu->gpr[GPR_RSP], values[8];

    for (unsigned i = 0; i < 8; i++)
        values[i] = soft_stack_load(cpu, soft_stack_wrap(cpu, rsp + i * size), size);
    soft_stack_set(cpu, rsp + 8 * size);
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != GPR_RSP)
            reg_set(cpu, (7 - i) * 8, values[i], size);
}

/* Whether PUSHF, POPF in virtual-8086 mode work on VIF; raises #GP where they may not at all. */
static bool v86_virtual_flag(struct soft_cpu *cpu, unsigned size)
{
    if (!soft_v86(cpu) || soft_iopl(cpu) == 3)
        return false;
    if (!(cpu->cr4 & CR4_VME) || size != 2)
        soft_general_protection(cpu, 0);
    return true;
}

static void pushf(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t image = cpu->rflags & ~(FLAG_VM | FLAG_RF);

    if (v86_virtual_flag(cpu, size)) {
        image |= FLAG_IOPL;
        image = image & FLAG_VIF ? image | FLAG_IF : image & ~FLAG_IF;
    }
    soft_push(cpu, image, size);
}

/* POPF under VME: IF goes to VIF, and may not become 1 while VIP waits; TF may not be set. */
static void popf_virtual(struct soft_cpu *cpu, uint64_t image)
{
    uint64_t mask = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_VIF;

    if ((image & FLAG_TF) || ((image & FLAG_IF) && (cpu->rflags & FLAG_VIP)))
        soft_general_protection(cpu, 0);
    soft_stack_drop(cpu, 2);
    image = image & FLAG_IF ? image | FLAG_VIF : image & ~FLAG_VIF;
    soft_set_rflags(cpu, image, mask);
}

static void popf(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t mask = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT, image;
    bool virtual_flag = v86_virtual_flag(cpu, size);

    image = soft_stack_top(cpu, size);
    if (virtual_flag) {
        popf_virtual(cpu, (uint16_t)image);
        return;
    }
    if (cpu->cpl <= soft_iopl(cpu))
        mask |= FLAG_IF;
    if (cpu->cpl == 0)
        mask |= FLAG_IOPL;
    /* VM, VIF and VIP stay as they are; the run loop has cleared RF. */
    if (size > 2)
        mask |= FLAG_AC | FLAG_ID;
    soft_stack_drop(cpu, size);
    soft_set_rflags(cpu, image, mask);
}

/* ENTER with its nesting level; the frame pointers of outer levels are copied. */
static void enter(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size, level = insn->immediate2 & 31;
    uint64_t rsp = cpu->gpr[GPR_RSP] - size, rbp = cpu->gpr[GPR_RBP], frame = rsp;

    soft_stack_store(cpu, soft_stack_wrap(cpu, rsp), rbp, size);
    for (unsigned i = 1; i < level; i++) {
        rbp -= size;
        rsp -= size;
        soft_stack_store(cpu, soft_stack_wrap(cpu, rsp),
                         soft_stack_load(cpu, soft_stack_wrap(cpu, rbp), size), size);
    }
    if (level) {
        rsp -= size;
        soft_stack_store(cpu, soft_stack_wrap(cpu, rsp), frame, size);
    }
    rsp -= (uint16_t)insn->immediate;
    /* The new top must be writable, though nothing is stored there. */
    soft_probe_write(cpu, soft_stack_address(cpu, soft_stack_wrap(cpu, rsp), size, SOFT_WRITE),
                     size, cpu->mmu_mode);
    if (soft_stack_size(cpu) == 2)
        frame = (cpu->gpr[GPR_RSP] & ~0xffffUL) | (uint16_t)frame;
    reg_set(cpu, GPR_RBP * 8, frame, size);
    soft_stack_set(cpu, rsp);
}

static void leave(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t rbp = cpu->gpr[GPR_RBP];
    uint64_t value = soft_stack_load(cpu, soft_stack_wrap(cpu, rbp), size);

    soft_stack_set(cpu, rbp + size);
    reg_set(cpu, GPR_RBP * 8, value, size);
}

static soft_exec_fn select_push(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (operand_form(decoded, insn)) {
    case FORM_R:
        return insn->operand_size == 8 ? push64_register : push_register;
    case FORM_M:
        return push_memory;
    case FORM_I:
        return push_immediate;
    default:
        return NULL;
    }
}

static soft_exec_fn select_pop(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (operand_form(decoded, insn)) {
    case FORM_R:
        return insn->operand_size == 8 ? pop64_register : pop_register;
    case FORM_M:
        return pop_memory;
    default:
        return NULL;
    }
}

soft_exec_fn select_stack(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
        return select_push(decoded, insn);
    case ZYDIS_MNEMONIC_POP:
        return select_pop(decoded, insn);
    case ZYDIS_MNEMONIC_PUSHA:
        insn->operand_size = 2;
        return pusha;
    case ZYDIS_MNEMONIC_PUSHAD:
        insn->operand_size = 4;
        return pusha;
    case ZYDIS_MNEMONIC_POPA:
        insn->operand_size = 2;
        return popa;
    case ZYDIS_MNEMONIC_POPAD:
        insn->operand_size = 4;
        return popa;
    case ZYDIS_MNEMONIC_PUSHF:
        insn->operand_size = 2;
        return pushf;
    case ZYDIS_MNEMONIC_PUSHFD:
        insn->operand_size = 4;
        return pushf;
    case ZYDIS_MNEMONIC_PUSHFQ:
        insn->operand_size = 8;
        return pushf;
    case ZYDIS_MNEMONIC_POPF:
        insn->operand_size = 2;
        return popf;
    case ZYDIS_MNEMONIC_POPFD:
        insn->operand_size = 4;
        return popf;
    case ZYDIS_MNEMONIC_POPFQ:
        insn->operand_size = 8;
        return popf;
    case ZYDIS_MNEMONIC_ENTER:
        return enter;
    case ZYDIS_MNEMONIC_LEAVE:
        return leave;
    default:
        return NULL;
    }
}
