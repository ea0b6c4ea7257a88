// SPDX-License-Identifier: Apache-2.0
/*
 * The software CPU's state in the canonical form and back, and INIT and SIPI on top of that.
 *
 * Between instructions nothing is half done but a debug trap that waits for its boundary, which is
 * told as a pending event, and an event that a loaded state brought and no run has delivered yet.
 */
#include <string.h>

#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/msr.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/window.h"
#include "vmm/engine/soft/vector.h"
#include "vmm/engine/soft/x87.h"

static void get_events(struct soft_cpu *cpu, struct cpu_state *state)
{
    uint32_t requests = atomic_load(&cpu->requests);

    state->interrupt_shadow = cpu->shadow;
    state->nmi_masked = cpu->nmi_masked;
    state->nmi_pending = cpu->nmi_waiting || requests & SOFT_REQUEST_NMI;
    state->init_pending = requests & SOFT_REQUEST_INIT;
    state->sipi_vector = soft_lapic_sipi_vector(cpu);
    if (cpu->begun.pending) {
        state->event_pending = true;
        state->event_type = cpu->begun.type;
        state->event_vector = cpu->begun.vector;
        state->event_has_error = cpu->begun.has_error;
        state->event_error = cpu->begun.error;
    } else if (cpu->pending_db) {
        state->event_pending = true;
        state->event_type = CPU_EVENT_EXCEPTION;
        state->event_vector = EXC_DB;
        state->event_payload = cpu->pending_db;
    }
}

void soft_get_state(struct soft_cpu *cpu, struct cpu_state *state)
{
    memset(state, 0, sizeof(*state));
    memcpy(state->gpr, cpu->gpr, sizeof(state->gpr));
    state->rip = cpu->rip;
    state->rflags = cpu->rflags;
    memcpy(state->segments, cpu->seg, sizeof(state->segments));
    state->gdtr = cpu->gdtr;
    state->idtr = cpu->idtr;
    state->cr0 = cpu->cr0;
    state->cr2 = cpu->cr2;
    state->cr3 = cpu->cr3;
    state->cr4 = cpu->cr4;
    state->cr8 = soft_lapic_cr8(cpu);
    memcpy(state->dr, cpu->dr, sizeof(state->dr));
    state->dr6 = cpu->dr6;
    state->dr7 = cpu->dr7;
    state->xcr0 = cpu->xcr0;
    state->xss = cpu->xss;
    memcpy(state->pdptr, cpu->pdptr, sizeof(state->pdptr));
    soft_x87_get(cpu, &state->x87);
    state->mxcsr = cpu->mxcsr;
    memcpy(state->vector, cpu->vector, sizeof(state->vector));
    memcpy(state->opmask, cpu->opmask, sizeof(state->opmask));
    state->pkru = cpu->pkru;
    soft_lapic_get(cpu, &state->lapic);
    state->msrs = cpu->msrs;
    state->mp_state = cpu->mp_state;
    get_events(cpu, state);
    state->tsc = soft_rdtsc(cpu);
}

static void set_events(struct soft_cpu *cpu, const struct cpu_state *state)
{
    cpu->shadow = state->interrupt_shadow;
    cpu->nmi_masked = state->nmi_masked;
    cpu->nmi_waiting = state->nmi_pending;
    cpu->pending_db = state->event_pending ? state->event_payload : 0;
    cpu->begun.pending = state->event_pending && !state->event_payload;
    cpu->begun.type = state->event_type;
    cpu->begun.vector = state->event_vector;
    cpu->begun.has_error = state->event_has_error;
    cpu->begun.error = state->event_error;
}

/* What others asked of the vCPU before its state was replaced is void. */
static void set_requests(struct soft_cpu *cpu, const struct cpu_state *state)
{
    atomic_fetch_and(&cpu->requests, ~(uint32_t)(SOFT_REQUEST_NMI | SOFT_REQUEST_INIT |
                                                 SOFT_REQUEST_SIPI | SOFT_REQUEST_TIMER));
    if (state->init_pending)
        soft_request(cpu, SOFT_REQUEST_INIT);
}

static void set_registers(struct soft_cpu *cpu, const struct cpu_state *state)
{
    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    cpu->rip = cpu->next_rip = state->rip;
    cpu->rflags = state->rflags;
    memcpy(cpu->seg, state->segments, sizeof(cpu->seg));
    cpu->gdtr = state->gdtr;
    cpu->idtr = state->idtr;
    cpu->cr0 = state->cr0;
    cpu->cr2 = state->cr2;
    cpu->cr3 = state->cr3;
    cpu->cr4 = state->cr4;
    memcpy(cpu->dr, state->dr, sizeof(cpu->dr));
    cpu->dr6 = state->dr6;
    cpu->dr7 = state->dr7;
    cpu->xcr0 = state->xcr0;
    cpu->xss = state->xss;
    memcpy(cpu->pdptr, state->pdptr, sizeof(cpu->pdptr));
    soft_x87_set(cpu, &state->x87);
    cpu->mxcsr = state->mxcsr;
    memcpy(cpu->vector, state->vector, sizeof(cpu->vector));
    memcpy(cpu->opmask, state->opmask, sizeof(cpu->opmask));
    soft_avx512_settle(cpu);
    cpu->pkru = state->pkru;
    cpu->msrs = state->msrs;
    cpu->mp_state = state->mp_state;
}

bool soft_set_state(struct soft_cpu *cpu, const struct cpu_state *state, GError **error)
{
    if (!cpu_state_check(state, cpu->model, error))
        return false;
    set_registers(cpu, state);
    set_events(cpu, state);
    set_requests(cpu, state);
    cpu->delivering = -1;
    cpu->insn = NULL;
    cpu->step_trap = false;
    soft_tlb_flush(cpu, true);
    soft_blocks_flush(cpu);
    soft_update_mode(cpu);
    soft_update_debug(cpu);
    soft_window_flush(cpu);
    soft_lapic_set(cpu, &state->lapic);
    soft_set_tsc(cpu, state->tsc);
    soft_kvmclock_update(cpu);
    return true;
}

/* Requests stay: the SIPI that follows an INIT may have come meanwhile. */
void soft_take_init(struct soft_cpu *cpu)
{
    struct cpu_state state;

    soft_get_state(cpu, &state);
    cpu_state_init(&state, cpu->model->signature);
    soft_lapic_init(cpu);
    set_registers(cpu, &state);
    set_events(cpu, &state);
    soft_tlb_flush(cpu, true);
    soft_update_mode(cpu);
    soft_update_debug(cpu);
    soft_window_flush(cpu);
}

void soft_take_sipi(struct soft_cpu *cpu)
{
    struct cpu_segment *cs = &cpu->seg[SEG_CS];
    uint8_t vector = soft_lapic_sipi_vector(cpu);

    if (cpu->mp_state != CPU_WAIT_FOR_SIPI)
        return;
    cs->selector = (uint16_t)(vector << 8);
    cs->base = (uint64_t)vector << 12;
    cpu->rip = cpu->next_rip = 0;
    cpu->mp_state = CPU_RUNNABLE;
    soft_update_mode(cpu);
}
