// SPDX-License-Identifier: Apache-2.0
/*
 * See vector_state.h; the moves are in vector_state_moves.S.
 */
#include "vmm/engine/soft/translator/vector_state.h"

#include "vmm/engine/soft/vector.h"

_Static_assert(sizeof(union soft_vector) == 64, "vector_state_moves.S steps by it");

/* Sixteen registers, 64 bytes apart; `mxcsr` is loaded or stored too. */
void vector_state_load_128(const union soft_vector *vectors, const uint32_t *mxcsr);
void vector_state_load_256(const union soft_vector *vectors, const uint32_t *mxcsr);
void vector_state_save_128(union soft_vector *vectors, uint32_t *mxcsr);
void vector_state_save_256(union soft_vector *vectors, uint32_t *mxcsr);

void soft_vector_load(const struct soft_cpu *cpu, bool wide)
{
    if (wide)
        vector_state_load_256(cpu->vector, &cpu->mxcsr);
    else
        vector_state_load_128(cpu->vector, &cpu->mxcsr);
}

void soft_vector_save(struct soft_cpu *cpu, bool wide)
{
    if (wide)
        vector_state_save_256(cpu->vector, &cpu->mxcsr);
    else
        vector_state_save_128(cpu->vector, &cpu->mxcsr);
}

bool soft_vector_allowed(const struct soft_cpu *cpu)
{
    if ((cpu->cr0 & (CR0_EM | CR0_TS)) || !(cpu->cr4 & CR4_OSFXSR))
        return false;
    return !cpu_has(cpu->model, CPU_1_ECX, 28) ||
           ((cpu->cr4 & CR4_OSXSAVE) && (cpu->xcr0 & XCR0_AVX) == XCR0_AVX && soft_protected(cpu) &&
            !soft_v86(cpu));
}
