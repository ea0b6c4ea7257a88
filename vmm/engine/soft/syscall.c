// SPDX-License-Identifier: Apache-2.0
/*
 * Fast system calls (SDM 2 and AMD APM 3: SYSCALL, SYSRET, SYSENTER, SYSEXIT), SWAPGS and the bases
 * of FS and GS. Segments come with fixed attributes, no descriptor is read. Where the vendors
 * differ, the model's vendor decides: Intel knows SYSCALL in 64-bit mode alone, AMD no SYSENTER in
 * long mode, and only Intel's SYSRET refuses a return address that is not canonical.
 */
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/segment.h"

/* Attributes of the flat segments, DPL 0. */
#define CODE64 0xa9b
#define CODE32 0xc9b
#define DATA   0xc93

#define SYSRET_FLAGS   0x3c7fd7UL
#define BY_REX_W(insn) ((insn)->aux[0])

static bool is_amd(const struct soft_cpu *cpu)
{
    return cpu->model->vendor == CPU_VENDOR_AMD;
}

static void set_flat(struct soft_cpu *cpu, unsigned index, uint16_t selector, uint16_t attributes,
                     unsigned dpl)
{
    cpu->seg[index] = (struct cpu_segment){
        .selector = (selector & ~3U) | dpl,
        .attributes = attributes | dpl << 5,
        .limit = UINT32_MAX,
    };
}

static void go(struct soft_cpu *cpu, uint64_t rip)
{
    cpu->rip = cpu->next_rip = rip;
    cpu->block_end = true;
    soft_update_mode(cpu);
}

/* ---- SYSCALL, SYSRET ---- */

/* #UD where the model's vendor does not know the pair in this mode. */
static void require_syscall(struct soft_cpu *cpu)
{
    if (!(cpu->msrs.efer & EFER_SCE) || (!is_amd(cpu) && cpu->code_size != 8))
        soft_undefined(cpu);
}

static void syscall_enter(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t selector = cpu->msrs.star >> 32;
    bool is_long = soft_long_mode(cpu), from64 = cpu->code_size == 8;
    uint64_t target = from64 ? cpu->msrs.lstar : cpu->msrs.cstar;

    require_syscall(cpu);
    if (!is_long && !soft_protected(cpu))
        soft_undefined(cpu);
    if (is_long) {
        cpu->gpr[GPR_RCX] = cpu->next_rip;
        cpu->gpr[GPR_R11] = cpu->rflags & ~FLAG_RF;
        cpu->rflags = (cpu->rflags & ~(cpu->msrs.fmask | FLAG_RF)) | FLAG_FIXED;
        cpu->step_trap = cpu->step_trap && (cpu->rflags & FLAG_TF);
    } else {
        cpu->gpr[GPR_RCX] = (uint32_t)cpu->next_rip;
        cpu->rflags &= ~(FLAG_IF | FLAG_RF | FLAG_VM);
        target = (uint32_t)cpu->msrs.star;
    }
    set_flat(cpu, SEG_CS, selector & ~3U, is_long ? CODE64 : CODE32, 0);
    set_flat(cpu, SEG_SS, (selector & ~3U) + 8, DATA, 0);
    go(cpu, target);
}

static void syscall_return(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t selector = cpu->msrs.star >> 48;
    bool to64 = BY_REX_W(insn);
    uint64_t target = to64 ? cpu->gpr[GPR_RCX] : (uint32_t)cpu->gpr[GPR_RCX];

    require_syscall(cpu);
    if (!soft_protected(cpu) || cpu->cpl != 0)
        soft_general_protection(cpu, 0);
    if (to64 && !is_amd(cpu) && !soft_canonical(target))
        soft_general_protection(cpu, 0);
    if (soft_long_mode(cpu))
        cpu->rflags = (cpu->gpr[GPR_R11] & SYSRET_FLAGS) | FLAG_FIXED;
    else
        cpu->rflags |= FLAG_IF;
    set_flat(cpu, SEG_CS, to64 ? selector + 16 : selector, to64 ? CODE64 : CODE32, 3);
    set_flat(cpu, SEG_SS, selector + 8, DATA, 3);
    go(cpu, target);
}

/* ---- SYSENTER, SYSEXIT ---- */

/* The MSR's code selector, where the pair works. */
static uint16_t sysenter_selector(struct soft_cpu *cpu)
{
    uint16_t selector = cpu->msrs.sysenter_cs & 0xfffc;

    if (soft_long_mode(cpu) && is_amd(cpu))
        soft_undefined(cpu);
    if (!soft_protected(cpu) || !selector)
        soft_general_protection(cpu, 0);
    return selector;
}

static void sysenter(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t selector = sysenter_selector(cpu);
    bool is_long = soft_long_mode(cpu);

    cpu->rflags &= ~(FLAG_VM | FLAG_IF | FLAG_RF);
    set_flat(cpu, SEG_CS, selector, is_long ? CODE64 : CODE32, 0);
    set_flat(cpu, SEG_SS, selector + 8, DATA, 0);
    cpu->gpr[GPR_RSP] = is_long ? cpu->msrs.sysenter_esp : (uint32_t)cpu->msrs.sysenter_esp;
    go(cpu, is_long ? cpu->msrs.sysenter_eip : (uint32_t)cpu->msrs.sysenter_eip);
}

static void sysexit(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t selector = sysenter_selector(cpu);
    bool to64 = BY_REX_W(insn);
    uint64_t rip = cpu->gpr[GPR_RDX], rsp = cpu->gpr[GPR_RCX];

    if (cpu->cpl != 0 || (to64 && !(soft_canonical(rip) && soft_canonical(rsp))))
        soft_general_protection(cpu, 0);
    set_flat(cpu, SEG_CS, selector + (to64 ? 32 : 16), to64 ? CODE64 : CODE32, 3);
    set_flat(cpu, SEG_SS, selector + (to64 ? 40 : 24), DATA, 3);
    cpu->gpr[GPR_RSP] = to64 ? rsp : (uint32_t)rsp;
    go(cpu, to64 ? rip : (uint32_t)rip);
}

/* ---- FS and GS ---- */

static void swapgs(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t base = cpu->seg[SEG_GS].base;

    if (cpu->cpl != 0)
        soft_general_protection(cpu, 0);
    cpu->seg[SEG_GS].base = cpu->msrs.kernel_gs_base;
    cpu->msrs.kernel_gs_base = base;
}

static void require_fsgsbase(struct soft_cpu *cpu)
{
    if (!(cpu->cr4 & CR4_FSGSBASE))
        soft_undefined(cpu);
}

static void read_base(struct soft_cpu *cpu, const struct insn *insn)
{
    require_fsgsbase(cpu);
    soft_gpr_set(cpu, insn->rm, cpu->seg[insn->aux[0]].base, insn->operand_size);
}

static void write_base(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t base = cpu->gpr[insn->rm];

    require_fsgsbase(cpu);
    if (insn->operand_size == 4)
        base = (uint32_t)base;
    if (!soft_canonical(base))
        soft_general_protection(cpu, 0);
    cpu->seg[insn->aux[0]].base = base;
}

soft_exec_fn soft_select_syscall(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
        return syscall_enter;
    case ZYDIS_MNEMONIC_SYSRET:
        insn->aux[0] = decoded->instruction.raw.rex.W;
        return syscall_return;
    case ZYDIS_MNEMONIC_SYSENTER:
        return sysenter;
    case ZYDIS_MNEMONIC_SYSEXIT:
        insn->aux[0] = decoded->instruction.raw.rex.W;
        return sysexit;
    case ZYDIS_MNEMONIC_SWAPGS:
        return swapgs;
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
        insn->aux[0] = SEG_FS;
        return decoded->instruction.mnemonic == ZYDIS_MNEMONIC_RDFSBASE ? read_base : write_base;
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
        insn->aux[0] = SEG_GS;
        return decoded->instruction.mnemonic == ZYDIS_MNEMONIC_RDGSBASE ? read_base : write_base;
    default:
        return NULL;
    }
}
