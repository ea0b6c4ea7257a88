// SPDX-License-Identifier: Apache-2.0
/*
 * The software CPU, inside: one vCPU, decoded instructions, and what the parts of the interpreter
 * promise each other. Nothing outside engine/soft includes this.
 *
 * An instruction executes in two steps: everything that can fault first, then the commit. A fault
 * leaves by soft_raise, which does not return (it jumps back into the run loop), so a handler keeps
 * all architectural state untouched until its last faulting access is done. Where an instruction
 * writes memory and then registers, the memory write comes last among what can fault.
 *
 * Arithmetic runs on the host's own instructions, with the host's flags taken over bit for bit.
 */
#pragma once

#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/engine/cpu_model.h"
#include "vmm/engine/cpu_state.h"
#include "vmm/engine/engine.h"
#include "vmm/engine/soft/counters.h"

struct soft_cpu;
struct soft_engine;
struct insn;

typedef void (*soft_exec_fn)(struct soft_cpu *cpu, const struct insn *insn);

/* Prefixes that change what a handler does. */
enum insn_prefix {
    INSN_LOCK = 1,
    INSN_REP = 2,   /* F3 */
    INSN_REPNE = 4, /* F2 */
    /* Not a prefix: the instruction ends its block (branches, whatever may change the mode, the
     * interrupt flag or the mapping of code, and port accesses). Set by soft_decode. */
    INSN_ENDS_BLOCK = 0x80,
    INSN_NEAR_BRANCH = 0x40, /* it does so as a near branch, which changes rip alone */
};

#define INSN_NO_REGISTER 0xff
#define INSN_RIP         0xfe /* `base` of a RIP-relative operand */

/*
 * A decoded instruction. Byte registers AH, CH, DH, BH are given as byte offsets, so `reg_offset`
 * and `rm_offset` address any general register operand as (uint8_t *)cpu->gpr + offset.
 */
struct insn {
    soft_exec_fn exec;
    const void *data;     /* of the handler's group: a host stub, a table */
    int64_t displacement; /* sign-extended */
    uint64_t immediate;   /* sign-extended to 64 bits; a relative branch's distance */
    uint8_t length;       /* bytes, 1..15 */
    uint8_t operand_size; /* bytes: 1, 2, 4, 8; 16 and 32 for vectors */
    uint8_t address_size; /* bytes: 2, 4, 8 */
    uint8_t prefixes;     /* enum insn_prefix */
    uint8_t reg, rm;      /* ModRM.reg and .rm with REX/VEX bits; rm also of opcode+r */
    uint8_t reg_offset, rm_offset;
    uint8_t vvvv;        /* VEX.vvvv register */
    uint8_t segment;     /* effective segment of the memory operand (enum cpu_segment_index) */
    uint8_t base, index; /* enum cpu_gpr, INSN_NO_REGISTER or INSN_RIP */
    uint8_t scale;       /* 0..3: shift of index */
    bool memory;         /* ModRM names memory */
    bool plain;          /* a memory operand at [base + index + disp]: of 64-bit code and addresses,
                            with a general register as base, no segment base */
    uint8_t immediate2;  /* ENTER's level, EXTRQ..; is4 register of VEX */
    uint8_t aux[13];     /* of the handler's group */
    /* Not decoded: it is translated with the TLB where others use windows; window_code.c. */
    bool windowless;
};
_Static_assert(sizeof(struct insn) == 64, "a decoded instruction is one cache line");

/* ---- address translation ---- */

enum soft_access {
    SOFT_READ,
    SOFT_WRITE,
    SOFT_FETCH,
};

/* Which permissions an access has; a TLB of its own each, so that a hit needs no further check. */
enum soft_mmu_mode {
    SOFT_MMU_USER,          /* CPL 3 */
    SOFT_MMU_SUPERVISOR,    /* CPL 0..2, or implicit: SMAP in force if CR4 says so */
    SOFT_MMU_SUPERVISOR_AC, /* CPL 0..2 with EFLAGS.AC: user pages reachable under SMAP */
    SOFT_MMU_USER_ALIGNED,  /* CPL 3 with alignment checks on: its TLB stays empty */
    /* Fetches at CPL 3 and at CPL 0..2, so that data does not put code out of its slots. No modes
     * of a vCPU, but TLBs as the others. */
    SOFT_MMU_USER_FETCH,
    SOFT_MMU_SUPERVISOR_FETCH,
    SOFT_MMU_MODES,
};

#define SOFT_TLB_BITS    12
#define SOFT_TLB_ENTRIES (1U << SOFT_TLB_BITS)

/* Direct-mapped by linear page number. A tag is the page's linear address | 0, or SOFT_TLB_NONE.
 * A linear address that is not canonical never hits, so canonicality is checked on the miss. A
 * write tag exists only for a page that is writable, dirty in the page tables, dirty for every
 * client and without translated code. `host` + linear is the byte's host address. */
struct soft_tlb_entry {
    uint64_t read_tag; /* in the TLBs of fetches: for those */
    uint64_t write_tag;
    uint64_t page; /* guest-physical */
    uintptr_t host;
};
#define SOFT_TLB_NONE 1UL /* no page's address */

/* Entries that were put out of their slot by another page, to come back cheaply. */
#define SOFT_TLB_VICTIMS 8
struct soft_tlb_victim {
    struct soft_tlb_entry entry;
    bool global;
};

/* The upper part of a page walk, for all of 2 MB: the entries that it went through, as they were
 * with their accessed bits. While they are the same in memory, a walk may begin behind them. */
#define SOFT_WALK_MEMOS 256
struct soft_walk_memo {
    uint64_t region;     /* linear address >> 21 */
    uint64_t root;       /* guest-physical address of the first table */
    uint64_t generation; /* soft_tlb_log.generation; another: void */
    const void *at[3];   /* host addresses of the entries */
    uint64_t entry[3];
    uint64_t rights; /* of all of them */
    uint64_t table;  /* guest-physical address of the table behind them */
    uint8_t count, shift;
};

/* Slots of the TLB that may be writable, by hash of the guest-physical page; 0: none, else slot
 * number + 1. */
#define SOFT_WRITABLE_SETS 2048
#define SOFT_WRITABLE_WAYS 3
struct soft_writable_set {
    uint16_t slot[SOFT_WRITABLE_WAYS];
    uint16_t overflowed; /* there may be others */
};

/* Regions of 2 MB or of 1 GB that may hold fragments of a large page, by hash of their number
 * (linear address >> 21 or >> 30). */
#define SOFT_REGION_SETS 256
#define SOFT_REGION_WAYS 4
#define SOFT_NO_REGION   UINT64_MAX
struct soft_regions {
    uint64_t region[SOFT_REGION_SETS][SOFT_REGION_WAYS];
    bool used;
    bool overflowed; /* there may be any others */
};

/* Entries of a PCID that is not the current one, to be brought back: at most so many, those that
 * were filled last. */
#define SOFT_CONTEXTS        8
#define SOFT_CONTEXT_ENTRIES 192
struct soft_context {
    bool used;
    uint64_t cr3;
    uint64_t protects; /* soft_tlb_log.protects when it was put aside */
    uint32_t fetch_generation;
    unsigned count;
    struct soft_parked_entry {
        struct soft_tlb_entry entry;
        uint32_t fetch_id;
        uint16_t slot;
    } entries[SOFT_CONTEXT_ENTRIES];
};
#define SOFT_PROTECTS 16 /* whose pages are known */

#define SOFT_VIEWS 2

/* Beside the entries, for misses and flushes (tlb.c, walk.c): logs of the filled ones, so that a
 * flush costs what was filled. An entry is in log 1 if a global page was in it since the last
 * flush, in log 0 if another was. */
struct soft_tlb_log {
    uint8_t
        logged[SOFT_MMU_MODES * SOFT_TLB_ENTRIES]; /* bit per log; tlb.c: whether it is global */
    uint16_t filled[2][SOFT_MMU_MODES * SOFT_TLB_ENTRIES];
    unsigned count[2];
    struct soft_writable_set writable[SOFT_WRITABLE_SETS];
    bool writable_overflowed;         /* one of the sets */
    struct soft_regions large, giant; /* since the last flush of all */
    /* The page that a victim is of, or SOFT_TLB_NONE, apart from the rest: what is searched. */
    uint64_t victim_tag[SOFT_MMU_MODES][SOFT_TLB_VICTIMS];
    struct soft_tlb_victim victims[SOFT_MMU_MODES][SOFT_TLB_VICTIMS];
    uint8_t next_victim;
    bool victims_used;
    bool user_high; /* users' entries may be of addresses above 4 GB */
    struct soft_context contexts[SOFT_CONTEXTS];
    uint8_t next_context;
    uint64_t protects; /* counts calls of soft_tlb_protect, with the last pages */
    uint64_t protected[SOFT_PROTECTS];
    uint32_t fetch_generation; /* counts calls of soft_fetch_forget */
    uint64_t generation;       /* counts flushes of all */
    struct soft_walk_memo memos[SOFT_WALK_MEMOS];
    struct memory_view views[SOFT_VIEWS]; /* of the ranges used last */
};

/* ---- things that other threads ask of a vCPU, in soft_cpu.requests ---- */

enum soft_request {
    SOFT_REQUEST_KICK = 1 << 0,      /* leave vcpu_run */
    SOFT_REQUEST_INTERRUPT = 1 << 1, /* look at LAPIC and PIC */
    SOFT_REQUEST_NMI = 1 << 2,
    SOFT_REQUEST_INIT = 1 << 3,
    SOFT_REQUEST_SIPI = 1 << 4,
    SOFT_REQUEST_FLUSH = 1 << 5,    /* drop TLB entries: protection of some page changed */
    SOFT_REQUEST_TIMER = 1 << 6,    /* the LAPIC timer's deadline passed */
    SOFT_REQUEST_CODE = 1 << 7,     /* pages with decoded code were written: soft_blocks_drain */
    SOFT_REQUEST_STEP_OUT = 1 << 8, /* another vCPU executes alone: go outside and come in again */
    SOFT_REQUEST_MARKS = 1 << 9,    /* pages became code: drop writable TLB entries of them */
};

/* A loop around PAUSE: request.c. */
struct soft_spin {
    unsigned pauses; /* since soft_spin was called last */
    unsigned yields; /* of this loop */
    uint64_t rip;    /* of its PAUSE */
    uint64_t since;  /* host TSC at the end of the last yield */
};
#define SOFT_SPIN_PAUSES 64 /* that make a call of soft_spin worth while */

/* Registers that translated code has in the host's own; C sees them nowhere while it has. */
enum soft_live {
    SOFT_LIVE_VECTORS = 1, /* vector[0..15], up to what AVX has of them, and mxcsr */
    SOFT_LIVE_X87 = 2,
    /* Beside SOFT_LIVE_VECTORS: all of vector, and opmask, and the guest may use them. */
    SOFT_LIVE_AVX512 = 4,
};

union soft_vector {
    uint8_t u8[64];
    uint16_t u16[32];
    uint32_t u32[16];
    uint64_t u64[8];
    float f32[16];
    double f64[8];
} __attribute__((aligned(64)));

struct soft_cpu {
    /* Hot. */
    uint64_t gpr[GPR_COUNT];
    uint64_t rip;              /* of the instruction being executed; between two, the next one's */
    uint64_t next_rip;         /* where it goes on; a branch changes this */
    uint64_t rflags;           /* whole and exact at all times; bit 1 set */
    _Atomic uint32_t requests; /* enum soft_request; looked at between blocks */
    uint8_t cpl;
    uint8_t code_size; /* bytes of the default operand size of CS: 2, 4, or 8 in 64-bit mode */
    uint8_t mmu_mode;  /* enum soft_mmu_mode of explicit accesses; soft_update_mode keeps it */
    bool flat;         /* 64-bit mode: no segment limits, bases of FS and GS only */
    bool block_end;    /* set by a handler: leave the current block after this instruction */
    uint8_t shadow;    /* interrupt shadow for the next instruction: 1 STI, 2 MOV SS / POP SS */
    const struct insn *insn; /* being executed; for exceptions */
    /* Of translated code (translator/): status flags as LAHF and SETO give them, which of the
     * registers below live in the host's (enum soft_live), and the exit that it left by. */
    uint16_t flags_carrier;
    uint8_t live;
    uint8_t live_width; /* of live vectors: enum soft_vector_width */
    uint32_t exit;
    uint64_t group_delta; /* what is added to addresses of the group of accesses under way */
    struct cpu_segment seg[SEG_COUNT];
    struct soft_tlb_entry tlb[SOFT_MMU_MODES][SOFT_TLB_ENTRIES];
    /* Marks of whoever resolved a fetch, [0] of CPL 0..2 and [1] of CPL 3, a line of the TLB each:
     * one that is not 0 says that its line's entry is as it was when the mark was set. Set by
     * soft_fetch_id's user; any change of the tag makes it 0. */
    uint32_t fetch_id[2][SOFT_TLB_ENTRIES];
    struct soft_tlb_log tlb_log;

    /* System registers. */
    uint64_t cr0, cr2, cr3, cr4;
    uint64_t dr[4], dr6, dr7;
    uint64_t xcr0, xss, pdptr[4];
    struct cpu_table_register gdtr, idtr;
    /* What became of the last load of DS, ES, FS and GS in privilege 0, and of which descriptor of
     * the GDT: the same selector and descriptor give it again. */
    struct {
        uint64_t raw;
        struct cpu_segment value;
    } loaded[SEG_COUNT];
    struct cpu_msrs msrs;

    /* Vector and x87 state of the guest. x87 lies in the FXSAVE form's first 160 bytes, so that the
     * host's FXRSTOR/XRSTOR takes it as it is. */
    union soft_vector vector[32];
    uint64_t opmask[8];
    /* Mask registers, or of vector registers what is not of AVX, may be other than 0: whoever
     * writes these sets it. */
    bool avx512_used;
    uint32_t mxcsr;
    uint32_t pkru;
    struct {
        uint16_t fcw, fsw;
        uint8_t ftw, reserved;
        uint16_t fop;
        uint64_t fip, fdp;
        uint32_t mxcsr, mxcsr_mask;
        uint8_t st[8][16];            /* ST order, as FXSAVE has it */
        uint8_t rest[512 + 64 - 160]; /* scratch for the host's save instructions */
    } x87 __attribute__((aligned(64)));
    uint16_t x87_cs, x87_ds;

    /* Event delivery: event.c. soft_raise fills `fault` and jumps to `escape` (siglongjmp(*escape,
     * 1)). The run loop then calls soft_handle_fault, which delivers it, with double-fault logic by
     * `delivering`: set and cleared by soft_deliver, left as it is when that raises. */
    sigjmp_buf *escape;
    struct {
        uint8_t vector;
        bool has_error;
        uint32_t error;
        uint64_t payload; /* CR2 of #PF, DR6 bits of #DB */
    } fault;
    int delivering; /* exception being delivered, 256 | vector of an interrupt; -1 none */
    bool external;  /* `delivering` is not a software interrupt: EXT in error codes */
    bool exclusive; /* inside soft_exclusive_begin/_end; soft_raise leaves it */
    /* TF as it was before the instruction: a #DB trap follows it. The run loop sets it; a handler
     * whose instruction looks at TF only when it is done (SYSCALL) or discards the trap (INT n,
     * done by soft_deliver) changes it. */
    bool step_trap;
    bool nmi_masked;
    bool nmi_waiting;       /* an NMI was requested and not yet taken */
    bool interrupt_waiting; /* a maskable interrupt may wait: ask soft_interrupt_pending */
    uint8_t break_code, break_data, break_io; /* DR0..3 enabled for each kind; soft_update_debug */
    uint8_t mp_state;                         /* enum cpu_mp_state */
    /* What a loaded state says was recognized and not delivered: the first thing to do. */
    struct {
        bool pending;
        uint8_t type; /* enum cpu_event */
        uint8_t vector;
        bool has_error;
        uint32_t error;
    } begun;
    uint64_t pending_db; /* DR6 bits of a debug trap to deliver after this instruction; whoever
                            sets them sets block_end too */

    /* Around. */
    struct soft_engine *engine;
    struct memory *memory;
    struct clock *clock;
    const struct cpu_definition *model;
    const struct exit_ops *exits;
    void *exits_opaque;
    unsigned index;
    struct soft_lapic *lapic;
    uint64_t lapic_page; /* guest-physical page of its registers; SOFT_TLB_NONE in x2APIC mode
                            or when off. lapic.c keeps it, and flushes the TLB */
    struct soft_blocks *blocks;         /* decoded-instruction cache; block.h */
    struct soft_translator *translator; /* NULL: interpreted only */
    uint8_t heat;                       /* executions of a block before it is translated */
    uint8_t heat_elsewhere;             /* how many of them count at another linear address */
    struct vcpu *vcpu;                  /* thread side; soft.c */
    bool low;           /* it lies below 2 GB as a whole, for 32-bit absolute addresses */
    int64_t tsc_offset; /* guest TSC = clock_tsc + this (TSC writes, TSC_ADJUST) */
    /* Where the host's counter ticks at the guest's pace, guest TSC = RDTSC + tsc_bias: for the
     * time until soft_run returns. soft_tsc_refresh keeps both. */
    bool tsc_native;
    uint64_t tsc_bias;
    struct soft_windows *windows; /* NULL: none; translator/window.h */
    uint64_t window_delta;        /* the host's GS base for translated code */
    uint64_t window_root;         /* the table with which it uses windows; window.c's */
    /* Windows of user code, user_window.h; NULL: none. By slot of 512 GB, how far away from the
     * guest's addresses the host shows them to code of the mode that is translated for windows, as
     * all user code of the present address space is if `user_windowed`. Tables of indirect targets
     * of the present modes of 64-bit and 32-bit user code. */
    struct user_windows *user_windows;
    bool user_windowed;
    const uint8_t **user_table[2];
    uint64_t user_delta[256];
    struct soft_counters counters;
    _Atomic bool asleep; /* waits for `requests`, or is about to: request.c */
    struct soft_spin spin;
    struct vcpu_debug debug;
    bool debug_told;  /* the debugger was told of the breakpoint at rip */
    bool debug_moved; /* an instruction was executed since it was told or wanted something */
    char error[160];  /* for VCPU_EXIT_ERROR */
};

/* ---- its memory: cpu.c ---- */

/* A vCPU that is all zeros, below 2 GB (`low`) if the host has room there; NULL when it has no
 * memory. Works inside the vmm's sandbox. destroy takes NULL. */
struct soft_cpu *soft_cpu_create(void);
void soft_cpu_destroy(struct soft_cpu *cpu);

/* ---- exceptions: event.c ---- */

enum soft_vector_number {
    EXC_DE = 0,
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_BP = 3,
    EXC_OF = 4,
    EXC_BR = 5,
    EXC_UD = 6,
    EXC_NM = 7,
    EXC_DF = 8,
    EXC_TS = 10,
    EXC_NP = 11,
    EXC_SS = 12,
    EXC_GP = 13,
    EXC_PF = 14,
    EXC_MF = 16,
    EXC_AC = 17,
    EXC_MC = 18,
    EXC_XM = 19,
};

/* Raise a fault of the current instruction; does not return. `error` is pushed where the vector has
 * an error code. RIP is that of the instruction. */
_Noreturn void soft_raise(struct soft_cpu *cpu, unsigned vector, uint32_t error);
/* #PF; sets CR2. */
_Noreturn void soft_raise_page_fault(struct soft_cpu *cpu, uint64_t linear, uint32_t error);
/* #UD, #GP(0): the two most frequent. */
_Noreturn void soft_undefined(struct soft_cpu *cpu);
_Noreturn void soft_general_protection(struct soft_cpu *cpu, uint32_t error);

/* #DB of fault class (instruction breakpoint, DR access under DR7.GD) with these DR6 bits. */
_Noreturn void soft_raise_debug(struct soft_cpu *cpu, uint64_t dr6_bits);

/* Deliver the fault that soft_raise recorded, or what it becomes on top of the event that was being
 * delivered: #DF, or shutdown (mp_state). The run loop calls this where soft_raise jumps to; it may
 * raise again, to the same place. */
void soft_handle_fault(struct soft_cpu *cpu);

/* Deliver the debug trap in `pending_db` after an instruction (rip is the next one's). May raise.
 */
void soft_deliver_debug_trap(struct soft_cpu *cpu);

/* Raise #DB if an instruction breakpoint is at linear address of rip and RFLAGS.RF is clear. The
 * run loop asks before each instruction while `break_code` is not 0. */
void soft_check_code_breakpoint(struct soft_cpu *cpu);

/* Recompute break_code, break_data, break_io after DR0..3, DR7 or CR4.DE changed. */
void soft_update_debug(struct soft_cpu *cpu);

/* Deliver an event through the IDT (SDM 3A ch. 6): external interrupt, NMI, software interrupt or
 * exception. The image of RFLAGS that it pushes is cpu->rflags as it stands: soft_handle_fault has
 * set RF there for a fault. On return rip and next_rip are the handler's first instruction, and
 * block_end is set. May raise: rip is then still the old one, and soft_handle_fault makes #DF or
 * shutdown of it where due. For interrupts and NMIs, rip is the boundary: return_rip == rip. */
enum soft_event {
    SOFT_EVENT_EXTERNAL,
    SOFT_EVENT_NMI,
    SOFT_EVENT_EXCEPTION,
    SOFT_EVENT_SOFTWARE,
    SOFT_EVENT_PRIVILEGED_SOFTWARE /* INT1 */
};
void soft_deliver(struct soft_cpu *cpu, enum soft_event event, uint8_t vector, bool has_error,
                  uint32_t error, uint64_t return_rip);

/* Shared between soft_run and those that serve the vCPU's surroundings (lapic.c, soft.c). */

/* Run until something of enum vcpu_exit happens; on the vCPU's thread. run.c. */
enum vcpu_exit soft_run(struct soft_cpu *cpu);
/* Whether the run loop would go on with the next block at once: no request, no event, no step.
 * run.c. */
bool soft_undisturbed(const struct soft_cpu *cpu);
/* Set bits of enum soft_request and wake the vCPU if it waits. Any thread. request.c. */
void soft_request(struct soft_cpu *cpu, uint32_t requests);
/* Sleep until cpu->requests is not 0. request.c. */
void soft_wait(struct soft_cpu *cpu);
/* The guest spins: let others have the host's processor. In an instruction that touches no memory.
 * request.c. */
void soft_spin(struct soft_cpu *cpu);
/* Whether a maskable interrupt (LAPIC, or 8259 through LINT0) may be taken now by priority; the
 * run loop looks at IF. Called after SOFT_REQUEST_INTERRUPT. lapic.c. */
bool soft_interrupt_pending(struct soft_cpu *cpu);
/* Take it: acknowledge and give its vector, or -1 when it has gone meanwhile. lapic.c. */
int soft_interrupt_acknowledge(struct soft_cpu *cpu);
/* SOFT_REQUEST_FLUSH: drop every TLB entry and tell those who wait for it. coherence.c. */
void soft_take_flush(struct soft_cpu *cpu);
/* SOFT_REQUEST_MARKS: drop writable TLB entries of pages that became code. coherence.c. */
void soft_take_marks(struct soft_cpu *cpu);
/* SOFT_REQUEST_STEP_OUT: wait until the vCPU that executes alone is done. coherence.c. */
void soft_step_out(struct soft_cpu *cpu);
/* SOFT_REQUEST_TIMER, _INIT and _SIPI, between two instructions. lapic.c, state.c. */
void soft_lapic_timer(struct soft_cpu *cpu);
void soft_take_init(struct soft_cpu *cpu);
void soft_take_sipi(struct soft_cpu *cpu);

/* Recompute cpl-, CR- and EFER-dependent shortcuts (cpl, code_size, mmu_mode, flat) after CS, SS,
 * RFLAGS.AC, CR0, CR4 or EFER changed. */
void soft_update_mode(struct soft_cpu *cpu);

/* Write RFLAGS: keeps bit 1 set and reserved bits clear, updates mode. `mask` says which bits. */
void soft_set_rflags(struct soft_cpu *cpu, uint64_t value, uint64_t mask);

static inline bool soft_long_mode(const struct soft_cpu *cpu)
{
    return cpu->msrs.efer >> 10 & 1; /* LMA */
}
static inline bool soft_protected(const struct soft_cpu *cpu)
{
    return cpu->cr0 & 1;
}
static inline bool soft_v86(const struct soft_cpu *cpu)
{
    return cpu->rflags >> 17 & 1;
}

/* ---- selecting handlers: decode.c asks each group in turn ---- */

struct soft_decoded; /* Zydis's instruction and operands: decode.h */
soft_exec_fn soft_select_integer(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_string(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_branch(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_system(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_vector(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn soft_select_x87(const struct soft_decoded *decoded, struct insn *insn);
