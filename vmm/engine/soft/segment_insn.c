// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions on segment registers, descriptor tables and descriptors (SDM 2: MOV, PUSH, POP, LDS
 * and its kin, LGDT, SGDT, LLDT, SLDT, LTR, STR, SMSW, LMSW, LAR, LSL, VERR, VERW, ARPL).
 */
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/transfer.h"

#define SHADOW_MOV_SS 2

static void require_cpl0(struct soft_cpu *cpu)
{
    if (cpu->cpl != 0)
        soft_general_protection(cpu, 0);
}

/* Instructions that real and virtual-8086 mode do not know. */
static void require_protected(struct soft_cpu *cpu)
{
    if (!soft_protected(cpu) || soft_v86(cpu))
        soft_undefined(cpu);
}

static void require_no_umip(struct soft_cpu *cpu)
{
    if ((cpu->cr4 & CR4_UMIP) && cpu->cpl != 0)
        soft_general_protection(cpu, 0);
}

/* The 16-bit operand r/m16. */
static uint16_t read_rm16(struct soft_cpu *cpu, const struct insn *insn)
{
    if (!insn->memory)
        return (uint16_t)cpu->gpr[insn->rm];
    return soft_read16(cpu, soft_operand_address(cpu, insn, 2, SOFT_READ));
}

/* To memory 16 bits, to a register the operand size. */
static void write_rm(struct soft_cpu *cpu, const struct insn *insn, uint64_t value)
{
    if (insn->memory)
        soft_write16(cpu, soft_operand_address(cpu, insn, 2, SOFT_WRITE), (uint16_t)value);
    else
        soft_gpr_set(cpu, insn->rm, value, insn->operand_size);
}

/* ---- segment registers ---- */

static void load_segment(struct soft_cpu *cpu, unsigned index, uint16_t selector)
{
    soft_segment_load(cpu, index, selector);
    if (index == SEG_SS) {
        soft_update_mode(cpu);
        cpu->block_end = true;
    }
}

static void mov_to_segment(struct soft_cpu *cpu, const struct insn *insn)
{
    load_segment(cpu, insn->aux[0], read_rm16(cpu, insn));
    if (insn->aux[0] == SEG_SS)
        cpu->shadow = SHADOW_MOV_SS;
}

static void mov_from_segment(struct soft_cpu *cpu, const struct insn *insn)
{
    write_rm(cpu, insn, cpu->seg[insn->aux[0]].selector);
}

static void push_segment(struct soft_cpu *cpu, const struct insn *insn)
{
    struct soft_stack stack;

    soft_stack_current(cpu, &stack);
    soft_stack_push(cpu, &stack, cpu->seg[insn->aux[0]].selector, insn->operand_size);
    soft_stack_commit_pointer(cpu, &stack);
}

static void pop_segment(struct soft_cpu *cpu, const struct insn *insn)
{
    struct soft_stack stack;
    uint16_t selector;

    soft_stack_current(cpu, &stack);
    selector = soft_stack_pop(cpu, &stack, insn->operand_size);
    load_segment(cpu, insn->aux[0], selector);
    soft_stack_commit_pointer(cpu, &stack);
    if (insn->aux[0] == SEG_SS)
        cpu->shadow = SHADOW_MOV_SS;
}

/* LDS, LES, LSS, LFS, LGS: a far pointer. */
static void load_far_pointer(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t linear = soft_operand_address(cpu, insn, size + 2, SOFT_READ), offset;
    uint16_t selector;

    offset = size == 8   ? soft_read64(cpu, linear)
             : size == 4 ? soft_read32(cpu, linear)
                         : soft_read16(cpu, linear);
    selector = soft_read16(cpu, linear + size);
    load_segment(cpu, insn->aux[0], selector);
    soft_gpr_set(cpu, insn->reg, offset, size);
}

/* ---- descriptor tables ---- */

static void load_table(struct soft_cpu *cpu, const struct insn *insn,
                       struct cpu_table_register *table)
{
    bool is_long = cpu->code_size == 8;
    uint64_t linear, base;
    uint16_t limit;

    require_cpl0(cpu);
    linear = soft_operand_address(cpu, insn, is_long ? 10 : 6, SOFT_READ);
    limit = soft_read16(cpu, linear);
    base = is_long ? soft_read64(cpu, linear + 2) : soft_read32(cpu, linear + 2);
    if (!is_long && insn->operand_size == 2)
        base &= 0xffffff;
    if (!soft_canonical(base))
        soft_general_protection(cpu, 0);
    table->base = base;
    table->limit = limit;
}

static void store_table(struct soft_cpu *cpu, const struct insn *insn,
                        const struct cpu_table_register *table)
{
    unsigned size = cpu->code_size == 8 ? 10 : 6;
    uint8_t image[10];

    require_no_umip(cpu);
    memcpy(image, &table->limit, 2);
    memcpy(image + 2, &table->base, 8);
    soft_write_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_WRITE), image, size);
}

static void lgdt(struct soft_cpu *cpu, const struct insn *insn)
{
    load_table(cpu, insn, &cpu->gdtr);
}

static void lidt(struct soft_cpu *cpu, const struct insn *insn)
{
    load_table(cpu, insn, &cpu->idtr);
}

static void sgdt(struct soft_cpu *cpu, const struct insn *insn)
{
    store_table(cpu, insn, &cpu->gdtr);
}

static void sidt(struct soft_cpu *cpu, const struct insn *insn)
{
    store_table(cpu, insn, &cpu->idtr);
}

static void lldt(struct soft_cpu *cpu, const struct insn *insn)
{
    require_protected(cpu);
    require_cpl0(cpu);
    soft_ldt_load(cpu, read_rm16(cpu, insn), EXC_GP);
}

static void ltr(struct soft_cpu *cpu, const struct insn *insn)
{
    require_protected(cpu);
    require_cpl0(cpu);
    soft_task_register_load(cpu, read_rm16(cpu, insn));
}

static void sldt(struct soft_cpu *cpu, const struct insn *insn)
{
    require_protected(cpu);
    require_no_umip(cpu);
    write_rm(cpu, insn, cpu->seg[SEG_LDTR].selector);
}

static void str(struct soft_cpu *cpu, const struct insn *insn)
{
    require_protected(cpu);
    require_no_umip(cpu);
    write_rm(cpu, insn, cpu->seg[SEG_TR].selector);
}

static void smsw(struct soft_cpu *cpu, const struct insn *insn)
{
    require_no_umip(cpu);
    write_rm(cpu, insn, cpu->cr0);
}

/* PE, MP, EM, TS; PE may only be set. */
static void lmsw(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value;

    require_cpl0(cpu);
    value = read_rm16(cpu, insn) & (CR0_PE | CR0_MP | CR0_EM | CR0_TS);
    soft_write_cr0(cpu, (cpu->cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | value);
}

/* ---- descriptors ---- */

static bool inspect(struct soft_cpu *cpu, const struct insn *insn, enum soft_inspection what,
                    uint64_t *raw)
{
    uint16_t selector;
    bool visible;

    require_protected(cpu);
    selector = read_rm16(cpu, insn);
    visible = soft_descriptor_inspect(cpu, selector, what, raw);
    cpu->rflags = visible ? cpu->rflags | FLAG_ZF : cpu->rflags & ~FLAG_ZF;
    return visible;
}

static void lar(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t raw;

    if (inspect(cpu, insn, SOFT_INSPECT_LAR, &raw))
        soft_gpr_set(cpu, insn->reg, raw >> 32 & 0xffff00, insn->operand_size);
}

static void lsl(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t raw;

    if (inspect(cpu, insn, SOFT_INSPECT_LSL, &raw))
        soft_gpr_set(cpu, insn->reg, descriptor_limit(raw), insn->operand_size);
}

static void verr(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t raw;

    inspect(cpu, insn, SOFT_INSPECT_VERR, &raw);
}

static void verw(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t raw;

    inspect(cpu, insn, SOFT_INSPECT_VERW, &raw);
}

/* Raise the RPL of r/m16 to that of the register. */
static void arpl(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned rpl = cpu->gpr[insn->reg] & 3;
    uint64_t linear = 0;
    uint16_t selector;

    require_protected(cpu);
    if (insn->memory) {
        linear = soft_operand_address(cpu, insn, 2, SOFT_READ);
        selector = soft_read16(cpu, linear);
    } else {
        selector = (uint16_t)cpu->gpr[insn->rm];
    }
    if (SELECTOR_RPL(selector) >= rpl) {
        cpu->rflags &= ~FLAG_ZF;
        return;
    }
    selector = (selector & ~3U) | rpl;
    if (insn->memory)
        soft_write16(cpu, soft_operand_address(cpu, insn, 2, SOFT_WRITE), selector);
    else
        soft_gpr_set(cpu, insn->rm, selector, 2);
    cpu->rflags |= FLAG_ZF;
}

/* ---- selection ---- */

static bool is_segment(const ZydisDecodedOperand *operand, struct insn *insn)
{
    if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER ||
        ZydisRegisterGetClass(operand->reg.value) != ZYDIS_REGCLASS_SEGMENT)
        return false;
    insn->aux[0] = ZydisRegisterGetId(operand->reg.value);
    return true;
}

static soft_exec_fn select_far_pointer(struct insn *insn, unsigned segment)
{
    insn->aux[0] = segment;
    return load_far_pointer;
}

soft_exec_fn soft_select_segment(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        if (is_segment(&decoded->operands[0], insn))
            return mov_to_segment;
        return is_segment(&decoded->operands[1], insn) ? mov_from_segment : NULL;
    case ZYDIS_MNEMONIC_PUSH:
        return is_segment(&decoded->operands[0], insn) ? push_segment : NULL;
    case ZYDIS_MNEMONIC_POP:
        return is_segment(&decoded->operands[0], insn) ? pop_segment : NULL;
    case ZYDIS_MNEMONIC_LDS:
        return select_far_pointer(insn, SEG_DS);
    case ZYDIS_MNEMONIC_LES:
        return select_far_pointer(insn, SEG_ES);
    case ZYDIS_MNEMONIC_LSS:
        return select_far_pointer(insn, SEG_SS);
    case ZYDIS_MNEMONIC_LFS:
        return select_far_pointer(insn, SEG_FS);
    case ZYDIS_MNEMONIC_LGS:
        return select_far_pointer(insn, SEG_GS);
    case ZYDIS_MNEMONIC_LGDT:
        return lgdt;
    case ZYDIS_MNEMONIC_LIDT:
        return lidt;
    case ZYDIS_MNEMONIC_SGDT:
        return sgdt;
    case ZYDIS_MNEMONIC_SIDT:
        return sidt;
    case ZYDIS_MNEMONIC_LLDT:
        return lldt;
    case ZYDIS_MNEMONIC_LTR:
        return ltr;
    case ZYDIS_MNEMONIC_SLDT:
        return sldt;
    case ZYDIS_MNEMONIC_STR:
        return str;
    case ZYDIS_MNEMONIC_SMSW:
        return smsw;
    case ZYDIS_MNEMONIC_LMSW:
        return lmsw;
    case ZYDIS_MNEMONIC_LAR:
        return lar;
    case ZYDIS_MNEMONIC_LSL:
        return lsl;
    case ZYDIS_MNEMONIC_VERR:
        return verr;
    case ZYDIS_MNEMONIC_VERW:
        return verw;
    case ZYDIS_MNEMONIC_ARPL:
        return arpl;
    default:
        return NULL;
    }
}
