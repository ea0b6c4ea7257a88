// SPDX-License-Identifier: Apache-2.0
/*
 * The local APICs of the software CPU and the messages between them.
 *
 * Each vCPU has one. Its registers are reached by the vCPU itself, through the xAPIC page or the
 * x2APIC MSRs; messages (IPIs, MSIs, what IOAPICs send) reach any of them from any thread. A lock
 * in each protects its registers; none is held while something outside is called.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/engine/soft/cpu.h"

struct soft_lapic;

/* All local APICs of a machine: what a message's destination selects from. */
struct soft_apics;

/* Places for `capacity` of them, with APIC ids from 0. */
struct soft_apics *soft_apics_create(unsigned capacity);
/* After every lapic was destroyed. NULL is fine. */
void soft_apics_destroy(struct soft_apics *apics);

/* The local APIC of `cpu` (index, clock, model and exits are set), after power-on; becomes
 * cpu->lapic. NULL when its place is taken or does not exist. Control thread. */
struct soft_lapic *soft_lapic_create(struct soft_apics *apics, struct soft_cpu *cpu);
void soft_lapic_destroy(struct soft_lapic *lapic);

/* Delivery modes (SDM 3A, 11.6.1). */
enum soft_delivery {
    SOFT_DELIVER_FIXED = 0,
    SOFT_DELIVER_LOWEST = 1,
    SOFT_DELIVER_SMI = 2,
    SOFT_DELIVER_NMI = 4,
    SOFT_DELIVER_INIT = 5,
    SOFT_DELIVER_SIPI = 6,
    SOFT_DELIVER_EXTINT = 7,
};

struct soft_message {
    uint32_t destination; /* APIC id, or mask when `logical` */
    bool wide;            /* destination has x2APIC's 32 bits, else 8 */
    bool logical;
    bool level; /* trigger mode */
    uint8_t delivery;
    uint8_t vector;
};

/* Deliver to whom the destination selects. Any thread. */
void soft_apics_send(struct soft_apics *apics, const struct soft_message *message);

/* Level of the 8259 pair's output, at LINT0 of vCPU 0. Any thread. */
void soft_apics_set_extint(struct soft_apics *apics, bool level);

/* The register page: `offset` is within it. On the vCPU's thread. */
uint64_t soft_lapic_mmio_read(struct soft_cpu *cpu, unsigned offset, unsigned size);
void soft_lapic_mmio_write(struct soft_cpu *cpu, unsigned offset, unsigned size, uint64_t value);

/* MSRs 800H..8FFH, IA32_APIC_BASE, IA32_TSC_DEADLINE; false is #GP. On the vCPU's thread. */
bool soft_lapic_rdmsr(struct soft_cpu *cpu, uint32_t index, uint64_t *value);
bool soft_lapic_wrmsr(struct soft_cpu *cpu, uint32_t index, uint64_t value);

/* Whether IA32_APIC_BASE has it switched on. */
bool soft_lapic_enabled(const struct soft_cpu *cpu);

/* CR8: the task priority's class, 0..15. */
uint8_t soft_lapic_cr8(struct soft_cpu *cpu);
void soft_lapic_set_cr8(struct soft_cpu *cpu, uint8_t cr8);

/* tsc_offset changed: a deadline by the counter is due at another time. */
void soft_lapic_tsc_changed(struct soft_cpu *cpu);

/* INIT at this vCPU. */
void soft_lapic_init(struct soft_cpu *cpu);

/* Vector of the last SIPI received. */
uint8_t soft_lapic_sipi_vector(struct soft_cpu *cpu);

/* For saving and loading; the vCPU is parked. The state was checked by cpu_state_check. */
void soft_lapic_get(struct soft_cpu *cpu, struct cpu_lapic *out);
void soft_lapic_set(struct soft_cpu *cpu, const struct cpu_lapic *in);
