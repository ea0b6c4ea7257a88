// SPDX-License-Identifier: Apache-2.0
/*
 * See vector_state.h; the moves are in vector_state_moves.S.
 */
#include "vmm/engine/soft/translator/vector_state.h"

#include "vmm/engine/soft/evex.h"

_Static_assert(sizeof(union soft_vector) == 64, "vector_state_moves.S steps by it");

/* Sixteen registers, 64 bytes apart, or 32; `mxcsr` is loaded or stored too. */
void vector_state_load_128(const union soft_vector *vectors, const uint32_t *mxcsr);
void vector_state_load_256(const union soft_vector *vectors, const uint32_t *mxcsr);
void vector_state_load_512(const union soft_vector *vectors, const uint32_t *mxcsr,
                           const uint64_t opmask[8]);
void vector_state_save_128(union soft_vector *vectors, uint32_t *mxcsr);
void vector_state_save_256(union soft_vector *vectors, uint32_t *mxcsr);
void vector_state_save_512(union soft_vector *vectors, uint32_t *mxcsr, uint64_t opmask[8]);

void soft_vector_load(const struct soft_cpu *cpu, enum soft_vector_width width)
{
    switch (width) {
    case SOFT_VECTOR_128:
        vector_state_load_128(cpu->vector, &cpu->mxcsr);
        break;
    case SOFT_VECTOR_256:
        vector_state_load_256(cpu->vector, &cpu->mxcsr);
        break;
    case SOFT_VECTOR_512:
        vector_state_load_512(cpu->vector, &cpu->mxcsr, cpu->opmask);
        break;
    }
}

void soft_vector_save(struct soft_cpu *cpu, enum soft_vector_width width)
{
    switch (width) {
    case SOFT_VECTOR_128:
        vector_state_save_128(cpu->vector, &cpu->mxcsr);
        break;
    case SOFT_VECTOR_256:
        vector_state_save_256(cpu->vector, &cpu->mxcsr);
        break;
    case SOFT_VECTOR_512:
        vector_state_save_512(cpu->vector, &cpu->mxcsr, cpu->opmask);
        break;
    }
}

bool soft_vector_allowed(const struct soft_cpu *cpu, bool avx512)
{
    uint64_t wanted = avx512 ? XCR0_AVX512 : XCR0_AVX;

    if ((cpu->cr0 & (CR0_EM | CR0_TS)) || !(cpu->cr4 & CR4_OSFXSR))
        return false;
    return !cpu_has(cpu->model, CPU_1_ECX, 28) ||
           ((cpu->cr4 & CR4_OSXSAVE) && (cpu->xcr0 & wanted) == wanted && soft_protected(cpu) &&
            !soft_v86(cpu));
}
