// SPDX-License-Identifier: Apache-2.0
/*
 * The canonical state of one vCPU: what every engine can give and take, and what streams hold.
 *
 * No host's layout appears here: floating-point state lies by XSAVE component in fields of its own.
 * A half-done exit is completed before the state is read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/engine/cpu_model.h"
#include "vmm/state/state.h"

/* General registers in the order of their encoding. */
enum cpu_gpr {
    GPR_RAX,
    GPR_RCX,
    GPR_RDX,
    GPR_RBX,
    GPR_RSP,
    GPR_RBP,
    GPR_RSI,
    GPR_RDI,
    GPR_R8,
    GPR_R9,
    GPR_R10,
    GPR_R11,
    GPR_R12,
    GPR_R13,
    GPR_R14,
    GPR_R15,
    GPR_COUNT,
};

/* Segment registers in the order of their encoding, then the two system segments. */
enum cpu_segment_index {
    SEG_ES,
    SEG_CS,
    SEG_SS,
    SEG_DS,
    SEG_FS,
    SEG_GS,
    SEG_LDTR,
    SEG_TR,
    SEG_COUNT,
};

/* A segment with its hidden part. `attributes` is in the form of a descriptor's bits 40..55 with
 * the limit's bits taken out: type 0-3, S 4, DPL 5-6, P 7, AVL 8, L 9, D/B 10, G 11 (the form of
 * AMD's VMCB); bit 12 is set when the register is unusable (null). `limit` is in bytes, inclusive.
 */
struct cpu_segment {
    uint16_t selector;
    uint16_t attributes;
    uint32_t limit;
    uint64_t base;
};

#define SEGMENT_TYPE(attributes) ((attributes)&15)
#define SEGMENT_S                (1U << 4)
#define SEGMENT_DPL(attributes)  (((attributes) >> 5) & 3)
#define SEGMENT_P                (1U << 7)
#define SEGMENT_AVL              (1U << 8)
#define SEGMENT_L                (1U << 9)
#define SEGMENT_DB               (1U << 10)
#define SEGMENT_G                (1U << 11)
#define SEGMENT_UNUSABLE         (1U << 12)

struct cpu_table_register {
    uint64_t base;
    uint16_t limit;
};

/* x87 state, XSAVE component 0. Registers are in physical order (R0..R7, not ST order), 10 bytes
 * each; `tag` is the abridged form (bit set: not empty). MMX registers are the low 8 bytes. */
struct cpu_x87 {
    uint16_t control, status;
    uint8_t tag;
    uint16_t opcode;
    uint64_t instruction_pointer, data_pointer;
    uint16_t instruction_selector, data_selector;
    uint8_t registers[8][10];
};

enum cpu_mp_state {
    CPU_RUNNABLE,
    CPU_HALTED,        /* HLT: waits for an interrupt */
    CPU_WAIT_FOR_SIPI, /* INIT seen, or an application processor at power-on */
    CPU_SHUTDOWN,      /* triple fault */
};

/* Kinds of events, with the numbers of VMX and SVM. */
enum cpu_event {
    CPU_EVENT_EXTERNAL = 0,
    CPU_EVENT_NMI = 2,
    CPU_EVENT_EXCEPTION = 3,
};

/* The local APIC's registers (SDM 3A, 11.4). 256-bit registers as eight words. */
struct cpu_lapic {
    uint64_t base_msr; /* IA32_APIC_BASE */
    uint32_t id;       /* x2APIC form */
    uint32_t tpr, ldr, dfr, svr;
    uint32_t isr[8], tmr[8], irr[8];
    uint32_t esr, esr_pending;
    uint64_t icr;
    uint32_t lvt_timer, lvt_thermal, lvt_perf, lvt_lint0, lvt_lint1, lvt_error, lvt_cmci;
    uint32_t timer_initial, timer_divide;
    uint32_t timer_current; /* at the time of saving */
    uint64_t tsc_deadline;  /* IA32_TSC_DEADLINE; 0 disarmed */
};

/* MSRs that hold what was written to them; cpu_msr_slots gives their numbers. */
#define CPU_MTRR_VARIABLE 8

struct cpu_msrs {
    uint64_t efer, star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_aux, tsc_adjust, misc_enable, debugctl, spec_ctrl;
    uint64_t mcg_status, hwcr, de_cfg; /* the last two are AMD's */
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[CPU_MTRR_VARIABLE],
        mtrr_mask[CPU_MTRR_VARIABLE];
    uint64_t kvm_system_time, kvm_wall_clock, kvm_async_pf, kvm_steal_time, kvm_pv_eoi,
        kvm_poll_control;
};

struct cpu_state {
    uint64_t gpr[GPR_COUNT];
    uint64_t rip, rflags;
    struct cpu_segment segments[SEG_COUNT];
    struct cpu_table_register gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t dr[4], dr6, dr7;
    uint64_t xcr0, xss;
    uint64_t pdptr[4]; /* PAE page-directory pointers, as loaded by the CR3 write */

    struct cpu_x87 x87;
    uint32_t mxcsr;
    uint8_t vector[32][64]; /* XMM, YMM, ZMM in one; unused parts are 0 */
    uint64_t opmask[8];
    uint32_t pkru;

    struct cpu_lapic lapic;
    struct cpu_msrs msrs;

    uint8_t mp_state;         /* enum cpu_mp_state */
    uint8_t interrupt_shadow; /* 1: after STI, 2: after MOV SS */
    bool nmi_masked, nmi_pending, smi_pending, init_pending;
    bool in_smm;
    uint32_t smbase;
    uint8_t sipi_vector;

    /* An exception or interrupt that was recognized and not yet delivered: it is the next thing
     * that happens. INT n, INT3 and INTO are no such events: RIP is still at the instruction, which
     * is executed again. CR2 of a #PF is written already. */
    bool event_pending;
    uint8_t event_vector;
    uint8_t event_type; /* enum cpu_event */
    bool event_has_error;
    uint32_t event_error;
    uint64_t event_payload; /* DR6 bits of a #DB, not yet written */

    uint64_t tsc; /* the guest's counter at the time of saving */
};

/* Fields of struct cpu_state for streams. */
extern const struct state_table cpu_state_table;

/* State after power-on (`bsp`: the boot processor, else waiting for SIPI; SDM 3A, table 10-1).
 * `signature` is CPUID leaf 1 EAX, which RDX holds at reset. */
void cpu_state_reset(struct cpu_state *state, bool bsp, uint32_t apic_id, uint32_t signature);

/* What INIT does to a vCPU that runs: as power-on, but FPU and vector registers, MSRs but EFER, the
 * TSC, MTRRs, and CR0.CD and NW stay, and so do the identity and base of the local APIC. */
void cpu_state_init(struct cpu_state *state, uint32_t signature);

/* The part of a SIPI that an engine does: run real-mode code at `vector` << 12. */
void cpu_state_sipi(struct cpu_state *state, uint8_t vector);

/* Local APIC alone: after power-on, and after INIT (SDM 3A, 11.4.7). */
void cpu_lapic_reset(struct cpu_lapic *lapic, bool bsp, uint32_t apic_id);
void cpu_lapic_init(struct cpu_lapic *lapic);

/* The logical destination register follows from the id in x2APIC mode (SDM 3A, 11.12.10.2). */
static inline uint32_t cpu_lapic_x2apic_ldr(uint32_t id)
{
    return id >> 4 << 16 | 1U << (id & 15);
}

/* Whether a processor of this definition can be in this state: reserved bits, modes that exclude
 * each other, addresses that are not canonical, features that are not shown. The state table's own
 * check is the part that depends on no definition (`cpu` NULL). */
bool cpu_state_check(const struct cpu_state *state, const struct cpu_definition *cpu,
                     GError **error);

/* Number and place in struct cpu_msrs of every MSR there. */
struct cpu_msr_slot {
    uint32_t index;
    uint32_t offset;
};
extern const struct cpu_msr_slot cpu_msr_slots[];
extern const unsigned cpu_msr_slots_count;

/* Bits of memory types that PAT and MTRRs accept: 0, 1, 4, 5, 6, and for PAT 7. */
static inline bool cpu_memory_type_valid(uint8_t type, bool pat)
{
    return type < 8 && (pat ? 0xf3 : 0x73) >> type & 1;
}

/* Whether `address` is canonical with 48 bits. */
static inline bool cpu_canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}
