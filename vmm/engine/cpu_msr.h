// SPDX-License-Identifier: Apache-2.0
/*
 * Which model-specific registers a processor of a definition has (SDM 4; APM 2, appendix A), for
 * every engine: what is not here raises #GP, which kernels probe for.
 *
 * There is no machine-check bank, performance counter, or branch record: MCG_CAP says so. The local
 * APIC's registers (1BH, 6E0H, 800H to 8FFH) are its own affair.
 */
#pragma once

#include "vmm/engine/cpu_model.h"
#include "vmm/engine/cpu_state.h"

enum cpu_msr_kind {
    CPU_MSR_STORED,   /* a field of struct cpu_msrs, with effects or further conditions */
    CPU_MSR_INERT,    /* a field of struct cpu_msrs that nothing else depends on */
    CPU_MSR_CONSTANT, /* cpu_msr_constant; a permitted write vanishes */
    CPU_MSR_COMPUTED, /* neither: the engine knows */
};

struct cpu_msr {
    uint32_t index;
    enum cpu_msr_kind kind;
    int vendor;        /* enum cpu_vendor, or -1: any */
    int feature;       /* enum cpu_feature, or -1: always there */
    int32_t offset;    /* of its field in struct cpu_msrs; -1: none */
    uint64_t writable; /* a write that changes another bit raises #GP */
};

/* All of any processor, sorted by index. */
extern const struct cpu_msr cpu_msrs[];
extern const unsigned cpu_msrs_count;

/* The register `index`, or NULL where this processor has none. */
const struct cpu_msr *cpu_msr_find(const struct cpu_definition *cpu, uint32_t index);

/* Whether the processor has it. */
bool cpu_msr_exists(const struct cpu_definition *cpu, const struct cpu_msr *msr);

/* What a constant one reads as. */
uint64_t cpu_msr_constant(const struct cpu_definition *cpu, const struct cpu_msr *msr);

/* Its field in `state`; it must have one. */
static inline uint64_t *cpu_msr_field(struct cpu_msrs *state, const struct cpu_msr *msr)
{
    return (uint64_t *)((uint8_t *)state + msr->offset);
}

/* Whether a register that holds `old` (0 where it has no field) can be given `value`, as far as its
 * bits tell. */
bool cpu_msr_takes(const struct cpu_definition *cpu, const struct cpu_msr *msr, uint64_t old,
                   uint64_t value);
