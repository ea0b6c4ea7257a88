// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's vector registers and MXCSR in the host's own, where translated code works on them
 * natively. Between a load and the next save nothing else may touch the host's: C code least of
 * all. Only the vCPU's thread calls these.
 */
#pragma once

#include <stdbool.h>

#include "vmm/engine/soft/cpu.h"

/* cpu->vector[0..15] and cpu->mxcsr to the host's registers: 32 bytes of each where `wide`, which
 * the host must have AVX for, else 16. */
void soft_vector_load(const struct soft_cpu *cpu, bool wide);

/* The reverse, with the same `wide`. The host's MXCSR is then that of C, and no upper half is in
 * use. Bytes above those of the guest's are as they were. */
void soft_vector_save(struct soft_cpu *cpu, bool wide);

/* Whether the guest may use every vector instruction of its CPU model now: none would raise #UD or
 * #NM (SDM 2, 2.4 and 2.8). Where not, the interpreter knows what is due. To be asked before each
 * load; whoever changes CR0, CR4, XCR0 or the mode saves first. */
bool soft_vector_allowed(const struct soft_cpu *cpu);
