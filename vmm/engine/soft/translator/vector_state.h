// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's vector registers and MXCSR in the host's own, where translated code works on them
 * natively. Between a load and the next save nothing else may touch the host's: C code least of
 * all. Only the vCPU's thread calls these.
 */
#pragma once

#include <stdbool.h>

#include "vmm/engine/soft/cpu.h"

enum soft_vector_width {
    SOFT_VECTOR_128, /* 16 bytes of the first 16 registers */
    SOFT_VECTOR_256, /* 32 bytes; the host must have AVX */
    SOFT_VECTOR_512, /* all of the 32 registers, and the mask registers; it must have AVX-512 */
};

/* cpu->vector and cpu->mxcsr, with cpu->opmask, to the host's registers, as far as `width` says. */
void soft_vector_load(const struct soft_cpu *cpu, enum soft_vector_width width);

/* The reverse, with the same `width`. The host's MXCSR is then that of C, and no upper half is in
 * use. What was not loaded is as it was. */
void soft_vector_save(struct soft_cpu *cpu, enum soft_vector_width width);

/* Whether the guest may use every vector instruction of its CPU model now, those of AVX-512 only if
 * `avx512`: none would raise #UD or #NM (SDM 2, 2.4 and 2.8). Where not, the interpreter knows what
 * is due. To be asked before each load; whoever changes CR0, CR4, XCR0 or the mode saves first. */
bool soft_vector_allowed(const struct soft_cpu *cpu, bool avx512);
