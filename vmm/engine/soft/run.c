// SPDX-License-Identifier: Apache-2.0
/*
 * The run loop: what happens between instructions (SDM 3A, 6.9; 3B, 17.3).
 *
 * Blocks execute without a look aside. Before each one the loop serves what other threads asked
 * for, then takes debug traps, NMIs and interrupts in the order of their priority. What must be
 * looked at before or after every instruction (single step, the interrupt shadow, RF, instruction
 * breakpoints, a debugger, a code segment that ends within the block) goes one instruction at a
 * time.
 *
 * A fault comes back to the sigsetjmp in soft_run; so do faults in its delivery.
 */
#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/translator/translator.h"
#include "vmm/engine/soft/translator/window.h"

#define SHADOW_MOV_SS 2
#define DR6_BS        (1U << 14)

/* ---- executing ---- */

static inline void execute(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->rip = cpu->next_rip;
    cpu->next_rip += insn->length;
    cpu->insn = insn;
    insn->exec(cpu, insn);
}

static inline uint64_t code_linear(const struct soft_cpu *cpu)
{
    if (__builtin_expect(cpu->flat, 1))
        return cpu->rip;
    return (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
}

/* The block at rip, found or decoded; raises what a fetch raises. */
static inline struct soft_block *find_block(struct soft_cpu *cpu)
{
    struct soft_block *block;

    cpu->insn = NULL;
    if (!cpu->flat && cpu->rip > cpu->seg[SEG_CS].limit)
        soft_general_protection(cpu, 0);
    block = soft_blocks_find(cpu, code_linear(cpu));
    if (__builtin_expect(!block, 0))
        soft_undefined(cpu);
    return block;
}

/* Within a block each instruction follows the one before: what moves next_rip otherwise ends the
 * block. So rip is counted here, apart from the memory that handlers see. */
SOFT_UNORDERED static inline void run_block(struct soft_cpu *cpu, const struct soft_block *block)
{
    const struct insn *insn = block->insns, *end = insn + block->count;
    uint64_t rip = cpu->next_rip;

    cpu->block_end = false;
    do {
        cpu->rip = rip;
        rip += insn->length;
        cpu->next_rip = rip;
        cpu->insn = insn;
        insn->exec(cpu, insn);
    } while (++insn != end && !cpu->block_end);
}

/* Whether TF traps behind `insn`: after each one, or with DEBUGCTL.BTF after one that branched. A
 * string instruction in its middle is none of these. */
static bool step_is_due(const struct soft_cpu *cpu, const struct insn *insn)
{
    if (!cpu->step_trap || cpu->shadow == SHADOW_MOV_SS)
        return false;
    return !(cpu->msrs.debugctl & DEBUGCTL_BTF) ||
           (cpu->next_rip != cpu->rip && cpu->next_rip != cpu->rip + insn->length) ||
           (cpu->next_rip == cpu->rip && !(insn->prefixes & (INSN_REP | INSN_REPNE)));
}

/* One instruction with all that may surround it. */
static void run_single(struct soft_cpu *cpu)
{
    const struct insn *insn;

    if (cpu->break_code)
        soft_check_code_breakpoint(cpu);
    insn = find_block(cpu)->insns;
    if (!cpu->flat && cpu->rip + insn->length - 1 > cpu->seg[SEG_CS].limit)
        soft_general_protection(cpu, 0);
    cpu->step_trap = cpu->rflags & FLAG_TF;
    cpu->rflags &= ~FLAG_RF;
    cpu->shadow = 0;
    cpu->block_end = false;
    execute(cpu, insn);
    if (cpu->next_rip == cpu->rip && (insn->prefixes & (INSN_REP | INSN_REPNE)))
        cpu->rflags |= FLAG_RF; /* a string instruction in its middle */
    if (step_is_due(cpu, insn))
        cpu->pending_db |= DR6_BS;
    cpu->step_trap = false;
}

/* ---- requests and events ---- */

static void clear_request(struct soft_cpu *cpu, uint32_t request)
{
    atomic_fetch_and(&cpu->requests, ~request);
}

/* Serve what other threads asked for. true: leave soft_run, kicked. */
static bool serve_requests(struct soft_cpu *cpu, uint32_t requests)
{
    clear_request(cpu, requests);
    if (requests & SOFT_REQUEST_FLUSH)
        soft_take_flush(cpu);
    if (requests & SOFT_REQUEST_MARKS)
        soft_take_marks(cpu);
    if (requests & SOFT_REQUEST_STEP_OUT)
        soft_step_out(cpu);
    if (requests & SOFT_REQUEST_CODE)
        soft_blocks_drain(cpu);
    if (requests & SOFT_REQUEST_INIT)
        soft_take_init(cpu);
    if ((requests & SOFT_REQUEST_SIPI) && cpu->mp_state == CPU_WAIT_FOR_SIPI)
        soft_take_sipi(cpu);
    if (requests & SOFT_REQUEST_TIMER)
        soft_lapic_timer(cpu);
    if (requests & SOFT_REQUEST_NMI && cpu->mp_state != CPU_WAIT_FOR_SIPI)
        cpu->nmi_waiting = true;
    if (requests & SOFT_REQUEST_INTERRUPT)
        cpu->interrupt_waiting = true;
    return requests & SOFT_REQUEST_KICK;
}

static inline bool nmi_ready(const struct soft_cpu *cpu)
{
    return cpu->nmi_waiting && !cpu->nmi_masked && !cpu->shadow;
}

static inline bool interrupt_ready(const struct soft_cpu *cpu)
{
    return cpu->interrupt_waiting && (cpu->rflags & FLAG_IF) && !cpu->shadow;
}

static void take_nmi(struct soft_cpu *cpu)
{
    cpu->nmi_waiting = false;
    cpu->mp_state = CPU_RUNNABLE;
    cpu->nmi_masked = true;
    soft_deliver(cpu, SOFT_EVENT_NMI, EXC_NMI, false, 0, cpu->rip);
}

/* More may wait behind the one that is taken, so `interrupt_waiting` stays until there is none. */
static void take_interrupt(struct soft_cpu *cpu)
{
    int vector = soft_interrupt_pending(cpu) ? soft_interrupt_acknowledge(cpu) : -1;

    if (vector < 0) {
        cpu->interrupt_waiting = false;
        return;
    }
    cpu->mp_state = CPU_RUNNABLE;
    soft_window_sample(cpu);
    soft_deliver(cpu, SOFT_EVENT_EXTERNAL, (uint8_t)vector, false, 0, cpu->rip);
}

/* Go on with what another vCPU had begun. */
static void take_begun(struct soft_cpu *cpu)
{
    cpu->begun.pending = false;
    switch (cpu->begun.type) {
    case CPU_EVENT_EXCEPTION:
        if (cpu->begun.vector == EXC_DB) { /* DR6 is written already */
            soft_deliver(cpu, SOFT_EVENT_EXCEPTION, EXC_DB, false, 0, cpu->rip);
            break;
        }
        cpu->fault.vector = cpu->begun.vector;
        cpu->fault.has_error = cpu->begun.has_error;
        cpu->fault.error = cpu->begun.error;
        cpu->fault.payload = 0;
        soft_handle_fault(cpu);
        break;
    case CPU_EVENT_NMI:
        soft_deliver(cpu, SOFT_EVENT_NMI, EXC_NMI, false, 0, cpu->rip);
        break;
    default:
        soft_deliver(cpu, SOFT_EVENT_EXTERNAL, cpu->begun.vector, false, 0, cpu->rip);
        break;
    }
}

/* Events of a boundary, most urgent first; rip is the boundary. */
static void take_events(struct soft_cpu *cpu)
{
    if (cpu->begun.pending) {
        cpu->mp_state = CPU_RUNNABLE;
        take_begun(cpu);
    } else if (cpu->pending_db && cpu->shadow != SHADOW_MOV_SS) {
        cpu->mp_state = CPU_RUNNABLE;
        soft_deliver_debug_trap(cpu);
    } else if (nmi_ready(cpu)) {
        take_nmi(cpu);
    } else if (interrupt_ready(cpu)) {
        take_interrupt(cpu);
    }
}

static inline bool events_ready(const struct soft_cpu *cpu)
{
    return cpu->begun.pending || ((cpu->pending_db || nmi_ready(cpu) || interrupt_ready(cpu)) &&
                                  cpu->shadow != SHADOW_MOV_SS);
}

/* ---- a debugger outside ---- */

static bool debugger_breakpoint(const struct soft_cpu *cpu)
{
    uint64_t linear = code_linear(cpu);

    for (unsigned i = 0; i < cpu->debug.breakpoints; i++)
        if (cpu->debug.address[i] == linear)
            return true;
    return false;
}

/* Whether instructions must be taken one at a time. */
static inline bool single(const struct soft_cpu *cpu)
{
    return (cpu->rflags & (FLAG_TF | FLAG_RF)) || cpu->shadow || cpu->break_code ||
           cpu->debug.single_step || cpu->debug.breakpoints;
}

bool soft_undisturbed(const struct soft_cpu *cpu)
{
    return !atomic_load_explicit(&cpu->requests, memory_order_relaxed) && !events_ready(cpu) &&
           cpu->mp_state == CPU_RUNNABLE && !single(cpu);
}

/* Whether a debugger wants to look here: its step is done, or its breakpoint is met. */
static bool debugger_stops(const struct soft_cpu *cpu)
{
    if (cpu->debug.single_step)
        return cpu->debug_moved;
    return !cpu->debug_told && debugger_breakpoint(cpu);
}

/* Up to the next boundary at which the loop must look around. false: a debugger wants to know. */
static bool advance_single(struct soft_cpu *cpu)
{
    if (debugger_stops(cpu)) {
        cpu->debug_told = true;
        cpu->debug_moved = false;
        return false;
    }
    run_single(cpu);
    cpu->debug_told = false;
    cpu->debug_moved = true;
    return true;
}

static inline void reach_boundary(struct soft_cpu *cpu)
{
    if (!cpu->flat)
        cpu->next_rip = (uint32_t)cpu->next_rip;
    cpu->rip = cpu->next_rip;
}

/* Whether the block at rip lies within the code segment as a whole. */
static inline bool within_segment(const struct soft_cpu *cpu, const struct soft_block *block)
{
    return cpu->flat || cpu->rip + block->bytes - 1 <= cpu->seg[SEG_CS].limit;
}

/* The block that follows one which began at linear address `start`, or NULL where the loop must
 * look around first. Within the page the translation is known to hold. */
static inline struct soft_block *follow(struct soft_cpu *cpu, struct soft_block *block,
                                        uint64_t start)
{
    struct soft_block **guess, *found;
    const uint8_t *host;
    uint64_t gpa, linear;

    if (!block->chains || cpu->block_end ||
        atomic_load_explicit(&cpu->requests, memory_order_relaxed))
        return NULL;
    reach_boundary(cpu);
    cpu->insn = NULL;
    if (!cpu->flat && cpu->rip > cpu->seg[SEG_CS].limit)
        return NULL;
    linear = code_linear(cpu);
    if ((linear ^ start) < GUEST_PAGE_SIZE)
        host = block->host + (int64_t)(linear - start);
    else
        host = soft_fetch_page(cpu, linear, &gpa);
    guess = &block->successor[linear == start + block->bytes];
    found = *guess;
    if (__builtin_expect(found->host != host || !host || found->code_size != cpu->code_size ||
                             found->next_host,
                         0)) {
        found = soft_blocks_find(cpu, linear);
        if (!found)
            return NULL;
        *guess = found;
    }
    return within_segment(cpu, found) ? found : NULL;
}

/* Blocks, one after the other. */
static void run_chain(struct soft_cpu *cpu, struct soft_block *block)
{
    do {
        uint64_t start = code_linear(cpu);

        if (soft_translator_run(cpu, block, start))
            return;
        run_block(cpu, block);
        block = follow(cpu, block, start);
    } while (block);
}

static inline void advance(struct soft_cpu *cpu)
{
    struct soft_block *block = find_block(cpu);

    if (__builtin_expect(within_segment(cpu, block), 1))
        run_chain(cpu, block);
    else
        run_single(cpu);
}

/* Not inline: beside a sigsetjmp nothing stays in registers. */
static __attribute__((noinline)) enum vcpu_exit loop(struct soft_cpu *cpu)
{
    for (;;) {
        uint32_t requests = atomic_load_explicit(&cpu->requests, memory_order_relaxed);

        reach_boundary(cpu);
        if (__builtin_expect(requests != 0, 0) && serve_requests(cpu, requests))
            return VCPU_EXIT_KICKED;
        if (__builtin_expect(events_ready(cpu), 0) && cpu->mp_state <= CPU_HALTED) {
            take_events(cpu);
            continue;
        }
        if (__builtin_expect(cpu->mp_state != CPU_RUNNABLE, 0)) {
            if (cpu->mp_state == CPU_SHUTDOWN)
                return VCPU_EXIT_SHUTDOWN;
            soft_wait(cpu);
            continue;
        }
        if (__builtin_expect(single(cpu), 0)) {
            if (!advance_single(cpu))
                return VCPU_EXIT_DEBUG;
        } else {
            advance(cpu);
        }
    }
}

enum vcpu_exit soft_run(struct soft_cpu *cpu)
{
    enum vcpu_exit exit;
    sigjmp_buf escape;

    cpu->escape = &escape;
    cpu->interrupt_waiting = true; /* look anew: the state may have been set */
    soft_tsc_refresh(cpu);
    soft_blocks_enter(cpu);
    if (sigsetjmp(escape, 0)) {
        cpu->debug_told = false;
        cpu->debug_moved = true;
        cpu->step_trap = false;
        cpu->pending_db = 0; /* breakpoints of an instruction that did not complete */
        soft_handle_fault(cpu);
    }
    exit = loop(cpu);
    cpu->tsc_native = false;
    soft_blocks_enter(NULL);
    cpu->escape = NULL;
    return exit;
}
