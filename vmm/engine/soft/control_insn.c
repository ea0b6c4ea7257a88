// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions on control, debug and extended control registers and on the TLB (SDM 2: MOV CR, MOV
 * DR, CLTS, INVLPG, INVPCID, XGETBV, XSETBV, RDPKRU, WRPKRU).
 */
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/lapic.h"
#include "vmm/engine/soft/translator/window.h"

enum invpcid_type {
    INVPCID_ADDRESS,
    INVPCID_CONTEXT,
    INVPCID_ALL,
    INVPCID_ALL_BUT_GLOBAL,
};

static void require_cpl0(struct soft_cpu *cpu)
{
    if (cpu->cpl != 0)
        soft_general_protection(cpu, 0);
}

/* The general register of MOV CR and MOV DR: 64 bits in 64-bit mode, else 32. */
static uint64_t source(const struct soft_cpu *cpu, const struct insn *insn)
{
    return cpu->code_size == 8 ? cpu->gpr[insn->rm] : (uint32_t)cpu->gpr[insn->rm];
}

static void target(struct soft_cpu *cpu, const struct insn *insn, uint64_t value)
{
    cpu->gpr[insn->rm] = cpu->code_size == 8 ? value : (uint32_t)value;
}

static void mov_to_cr(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value = source(cpu, insn);

    require_cpl0(cpu);
    switch (insn->reg) {
    case 0:
        soft_write_cr0(cpu, value);
        break;
    case 2:
        cpu->cr2 = value;
        break;
    case 3:
        soft_write_cr3(cpu, value);
        break;
    case 4:
        soft_write_cr4(cpu, value);
        break;
    case 8:
        if (value > 15)
            soft_general_protection(cpu, 0);
        soft_lapic_set_cr8(cpu, (uint8_t)value);
        cpu->block_end = true;
        break;
    default:
        soft_undefined(cpu);
    }
}

static void mov_from_cr(struct soft_cpu *cpu, const struct insn *insn)
{
    require_cpl0(cpu);
    switch (insn->reg) {
    case 0:
        target(cpu, insn, cpu->cr0);
        break;
    case 2:
        target(cpu, insn, cpu->cr2);
        break;
    case 3:
        target(cpu, insn, cpu->cr3);
        break;
    case 4:
        target(cpu, insn, cpu->cr4);
        break;
    case 8:
        target(cpu, insn, soft_lapic_cr8(cpu));
        break;
    default:
        soft_undefined(cpu);
    }
}

static void mov_to_dr(struct soft_cpu *cpu, const struct insn *insn)
{
    require_cpl0(cpu);
    soft_write_dr(cpu, insn->reg, source(cpu, insn));
}

static void mov_from_dr(struct soft_cpu *cpu, const struct insn *insn)
{
    require_cpl0(cpu);
    target(cpu, insn, soft_read_dr(cpu, insn->reg));
}

static void clts(struct soft_cpu *cpu, const struct insn *insn)
{
    require_cpl0(cpu);
    cpu->cr0 &= ~CR0_TS;
    cpu->block_end = true;
}

/* No limit or type is checked, and an address that is not canonical is no fault. */
static void invlpg(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t linear = soft_operand_offset(cpu, insn);

    require_cpl0(cpu);
    if (!cpu->flat)
        linear = (uint32_t)(linear + cpu->seg[insn->segment].base);
    else if (insn->segment >= SEG_FS)
        linear += cpu->seg[insn->segment].base;
    soft_tlb_flush_page(cpu, linear);
    soft_window_flush_page(cpu, linear);
    cpu->block_end = true;
}

/* All of another PCID. */
static void flush_other(struct soft_cpu *cpu, unsigned pcid)
{
    soft_tlb_flush_context(cpu, pcid);
    soft_window_flush_others(cpu);
}

/* Of a page of another PCID than the current one all of that PCID is dropped. */
static void invpcid(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t type = source(cpu, &(struct insn){.rm = insn->reg}), descriptor[2];
    bool current;

    require_cpl0(cpu);
    soft_read_bytes(cpu, soft_operand_address(cpu, insn, 16, SOFT_READ), descriptor, 16);
    if (type > INVPCID_ALL_BUT_GLOBAL || descriptor[0] > 0xfff)
        soft_general_protection(cpu, 0);
    if (type <= INVPCID_CONTEXT && descriptor[0] && !(cpu->cr4 & CR4_PCIDE))
        soft_general_protection(cpu, 0);
    current = descriptor[0] == (cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0);
    if (type == INVPCID_ADDRESS) {
        if (!soft_canonical(descriptor[1]))
            soft_general_protection(cpu, 0);
        if (current) {
            soft_tlb_flush_page(cpu, descriptor[1]);
            soft_window_flush_user_page(cpu, descriptor[1]);
        } else {
            flush_other(cpu, (unsigned)descriptor[0]);
        }
    } else if (type == INVPCID_CONTEXT && !current) {
        flush_other(cpu, (unsigned)descriptor[0]);
    } else {
        soft_tlb_flush(cpu, type == INVPCID_ALL);
        if (type == INVPCID_ALL_BUT_GLOBAL)
            soft_tlb_flush_contexts(cpu);
        if (type == INVPCID_ALL)
            soft_window_flush(cpu);
        else
            soft_window_flush_user(cpu);
    }
    cpu->block_end = true;
}

/* ---- XCR0 and PKRU ---- */

static uint64_t edx_eax(const struct soft_cpu *cpu)
{
    return cpu->gpr[GPR_RDX] << 32 | (uint32_t)cpu->gpr[GPR_RAX];
}

static void set_edx_eax(struct soft_cpu *cpu, uint64_t value)
{
    cpu->gpr[GPR_RAX] = (uint32_t)value;
    cpu->gpr[GPR_RDX] = value >> 32;
}

static void require_osxsave(struct soft_cpu *cpu)
{
    if (!(cpu->cr4 & CR4_OSXSAVE))
        soft_undefined(cpu);
}

/* XCR0, or with ECX 1 the components in use: all that are enabled may be. */
static void xgetbv(struct soft_cpu *cpu, const struct insn *insn)
{
    uint32_t index = (uint32_t)cpu->gpr[GPR_RCX];

    require_osxsave(cpu);
    if (index > 1 || (index == 1 && !cpu_has(cpu->model, CPU_D_1_EAX, 2)))
        soft_general_protection(cpu, 0);
    set_edx_eax(cpu, cpu->xcr0);
}

static void xsetbv(struct soft_cpu *cpu, const struct insn *insn)
{
    require_osxsave(cpu);
    require_cpl0(cpu);
    if ((uint32_t)cpu->gpr[GPR_RCX] != 0)
        soft_general_protection(cpu, 0);
    soft_write_xcr0(cpu, edx_eax(cpu));
}

static void require_pke(struct soft_cpu *cpu)
{
    if (!(cpu->cr4 & CR4_PKE))
        soft_undefined(cpu);
    if ((uint32_t)cpu->gpr[GPR_RCX] != 0)
        soft_general_protection(cpu, 0);
}

static void rdpkru(struct soft_cpu *cpu, const struct insn *insn)
{
    require_pke(cpu);
    set_edx_eax(cpu, cpu->pkru);
}

static void wrpkru(struct soft_cpu *cpu, const struct insn *insn)
{
    require_pke(cpu);
    if ((uint32_t)cpu->gpr[GPR_RDX] != 0)
        soft_general_protection(cpu, 0);
    soft_write_pkru(cpu, (uint32_t)cpu->gpr[GPR_RAX]);
}

/* ---- selection ---- */

static bool of_class(const ZydisDecodedOperand *operand, ZydisRegisterClass class)
{
    return operand->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(operand->reg.value) == class;
}

static soft_exec_fn select_mov(const struct soft_decoded *decoded)
{
    if (of_class(&decoded->operands[0], ZYDIS_REGCLASS_CONTROL))
        return mov_to_cr;
    if (of_class(&decoded->operands[1], ZYDIS_REGCLASS_CONTROL))
        return mov_from_cr;
    if (of_class(&decoded->operands[0], ZYDIS_REGCLASS_DEBUG))
        return mov_to_dr;
    return of_class(&decoded->operands[1], ZYDIS_REGCLASS_DEBUG) ? mov_from_dr : NULL;
}

soft_exec_fn soft_select_control(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return select_mov(decoded);
    case ZYDIS_MNEMONIC_CLTS:
        return clts;
    case ZYDIS_MNEMONIC_INVLPG:
        return invlpg;
    case ZYDIS_MNEMONIC_INVPCID:
        return invpcid;
    case ZYDIS_MNEMONIC_XGETBV:
        return xgetbv;
    case ZYDIS_MNEMONIC_XSETBV:
        return xsetbv;
    case ZYDIS_MNEMONIC_RDPKRU:
        return rdpkru;
    case ZYDIS_MNEMONIC_WRPKRU:
        return wrpkru;
    default:
        return NULL;
    }
}
