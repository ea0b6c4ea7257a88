// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions on the processor itself (SDM 2): interrupt flag, halt, identification, MSRs,
 * counters, caches, hypercalls; and the choice among all groups of system instructions.
 */
#include "vmm/engine/soft/system.h"

#include <x86intrin.h>

#include "vmm/engine/soft/lapic.h"

#include "vmm/engine/soft/decode.h"

#define SHADOW_STI     1
#define KVM_EPERM      1
#define HYPERCALL_ARGS 4

static void require_cpl0(struct soft_cpu *cpu)
{
    if (cpu->cpl != 0)
        soft_general_protection(cpu, 0);
}

static void set_edx_eax(struct soft_cpu *cpu, uint64_t value)
{
    cpu->gpr[GPR_RAX] = (uint32_t)value;
    cpu->gpr[GPR_RDX] = value >> 32;
}

/* ---- the interrupt flag ---- */

/* Which flag CLI and STI mean here: IF by IOPL, VIF under VME and PVI, else #GP. */
static uint64_t interrupt_flag(struct soft_cpu *cpu)
{
    if (cpu->cpl <= soft_iopl(cpu))
        return FLAG_IF;
    if (soft_v86(cpu) ? cpu->cr4 & CR4_VME : cpu->cpl == 3 && (cpu->cr4 & CR4_PVI))
        return FLAG_VIF;
    soft_general_protection(cpu, 0);
}

static void cli(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->rflags &= ~interrupt_flag(cpu);
}

static void sti(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t flag = interrupt_flag(cpu);

    if (flag == FLAG_VIF && (cpu->rflags & FLAG_VIP))
        soft_general_protection(cpu, 0);
    if (flag == FLAG_IF && !(cpu->rflags & FLAG_IF))
        cpu->shadow = SHADOW_STI;
    cpu->rflags |= flag;
    cpu->block_end = true;
}

static void hlt(struct soft_cpu *cpu, const struct insn *insn)
{
    require_cpl0(cpu);
    cpu->mp_state = CPU_HALTED;
    cpu->block_end = true;
}

/* SMAP's flag; #UD outside of privilege 0. */
static void set_ac(struct soft_cpu *cpu, uint64_t value)
{
    if (cpu->cpl != 0)
        soft_undefined(cpu);
    soft_set_rflags(cpu, value, FLAG_AC);
}

static void clac(struct soft_cpu *cpu, const struct insn *insn)
{
    set_ac(cpu, 0);
}

static void stac(struct soft_cpu *cpu, const struct insn *insn)
{
    set_ac(cpu, FLAG_AC);
}

/* ---- identification and MSRs ---- */

static void cpuid(struct soft_cpu *cpu, const struct insn *insn)
{
    uint32_t leaf = (uint32_t)cpu->gpr[GPR_RAX];
    struct cpuid_result result = cpu_cpuid(cpu->model, leaf, (uint32_t)cpu->gpr[GPR_RCX],
                                           cpu->index, cpu->cr4, cpu->xcr0, cpu->xss);

    if (leaf == 1 && !soft_lapic_enabled(cpu))
        result.edx &= ~(1U << 9); /* an APIC that is switched off in IA32_APIC_BASE is not shown */
    cpu->gpr[GPR_RAX] = result.eax;
    cpu->gpr[GPR_RBX] = result.ebx;
    cpu->gpr[GPR_RCX] = result.ecx;
    cpu->gpr[GPR_RDX] = result.edx;
}

static void rdmsr(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value;

    require_cpl0(cpu);
    if (!soft_rdmsr(cpu, (uint32_t)cpu->gpr[GPR_RCX], &value))
        soft_general_protection(cpu, 0);
    set_edx_eax(cpu, value);
}

static void wrmsr(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value = cpu->gpr[GPR_RDX] << 32 | (uint32_t)cpu->gpr[GPR_RAX];

    require_cpl0(cpu);
    if (!soft_wrmsr(cpu, (uint32_t)cpu->gpr[GPR_RCX], value))
        soft_general_protection(cpu, 0);
    cpu->block_end = true;
}

/* ---- counters ---- */

static void require_tsc(struct soft_cpu *cpu)
{
    if ((cpu->cr4 & CR4_TSD) && cpu->cpl != 0)
        soft_general_protection(cpu, 0);
}

static void rdtsc(struct soft_cpu *cpu, const struct insn *insn)
{
    require_tsc(cpu);
    set_edx_eax(cpu, soft_rdtsc(cpu));
}

static void rdtscp(struct soft_cpu *cpu, const struct insn *insn)
{
    require_tsc(cpu);
    _mm_lfence(); /* earlier instructions are done first */
    set_edx_eax(cpu, soft_rdtsc(cpu));
    cpu->gpr[GPR_RCX] = (uint32_t)cpu->msrs.tsc_aux;
}

static void rdpid(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->gpr[insn->rm] = (uint32_t)cpu->msrs.tsc_aux;
}

/* No model has performance counters. */
static void rdpmc(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_general_protection(cpu, 0);
}

/* ---- caches, which guest memory has none of ---- */

static void flush_caches(struct soft_cpu *cpu, const struct insn *insn)
{
    require_cpl0(cpu);
}

/* ---- waiting and calling the hypervisor ---- */

static void monitor(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = cpu->gpr[GPR_RAX];

    if (cpu->cpl != 0)
        soft_undefined(cpu);
    if ((uint32_t)cpu->gpr[GPR_RCX] != 0)
        soft_general_protection(cpu, 0);
    if (insn->address_size < 8)
        offset = insn->address_size == 4 ? (uint32_t)offset : (uint16_t)offset;
    if (!cpu->flat)
        offset = soft_segment_address(cpu, insn->segment, offset, 1, SOFT_READ);
    else if (insn->segment >= SEG_FS)
        offset += cpu->seg[insn->segment].base;
    soft_read8(cpu, offset);
}

/* A wait may end for any reason: this one does at once. */
static void mwait(struct soft_cpu *cpu, const struct insn *insn)
{
    if (cpu->cpl != 0)
        soft_undefined(cpu);
    if (cpu->gpr[GPR_RCX] & 0xfffffffe)
        soft_general_protection(cpu, 0);
    cpu->block_end = true;
}

/* KVM's calls: number in RAX, arguments in RBX, RCX, RDX, RSI; not for user code. */
static void hypercall(struct soft_cpu *cpu, const struct insn *insn)
{
    static const uint8_t registers[HYPERCALL_ARGS] = {GPR_RBX, GPR_RCX, GPR_RDX, GPR_RSI};
    uint64_t mask = cpu->code_size == 8 ? UINT64_MAX : UINT32_MAX, args[HYPERCALL_ARGS];
    uint64_t result = -(uint64_t)KVM_EPERM;

    for (unsigned i = 0; i < HYPERCALL_ARGS; i++)
        args[i] = cpu->gpr[registers[i]] & mask;
    if (cpu->cpl == 0)
        result =
            cpu->exits->hypercall(cpu->exits_opaque, cpu->index, cpu->gpr[GPR_RAX] & mask, args);
    cpu->gpr[GPR_RAX] = result & mask;
    cpu->block_end = true;
}

/* ---- selection ---- */

static soft_exec_fn select_processor(const struct soft_decoded *decoded)
{
    static const struct {
        ZydisMnemonic mnemonic;
        soft_exec_fn exec;
    } handlers[] = {
        {ZYDIS_MNEMONIC_CLI, cli},           {ZYDIS_MNEMONIC_STI, sti},
        {ZYDIS_MNEMONIC_HLT, hlt},           {ZYDIS_MNEMONIC_CLAC, clac},
        {ZYDIS_MNEMONIC_STAC, stac},         {ZYDIS_MNEMONIC_CPUID, cpuid},
        {ZYDIS_MNEMONIC_RDMSR, rdmsr},       {ZYDIS_MNEMONIC_WRMSR, wrmsr},
        {ZYDIS_MNEMONIC_RDTSC, rdtsc},       {ZYDIS_MNEMONIC_RDTSCP, rdtscp},
        {ZYDIS_MNEMONIC_RDPID, rdpid},       {ZYDIS_MNEMONIC_RDPMC, rdpmc},
        {ZYDIS_MNEMONIC_INVD, flush_caches}, {ZYDIS_MNEMONIC_WBINVD, flush_caches},
        {ZYDIS_MNEMONIC_MONITOR, monitor},   {ZYDIS_MNEMONIC_MWAIT, mwait},
        {ZYDIS_MNEMONIC_VMCALL, hypercall},  {ZYDIS_MNEMONIC_VMMCALL, hypercall},
    };

    for (unsigned i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (handlers[i].mnemonic == decoded->instruction.mnemonic)
            return handlers[i].exec;
    return NULL;
}

soft_exec_fn soft_select_system(const struct soft_decoded *decoded, struct insn *insn)
{
    static soft_exec_fn (*const groups[])(const struct soft_decoded *, struct insn *) = {
        soft_select_segment, soft_select_transfer, soft_select_control,
        soft_select_syscall, soft_select_io,
    };
    soft_exec_fn exec = select_processor(decoded);

    for (unsigned i = 0; !exec && i < sizeof(groups) / sizeof(groups[0]); i++)
        exec = groups[i](decoded, insn);
    return exec;
}
