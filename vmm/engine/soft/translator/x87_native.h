// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's x87 (and MMX) registers in the host's own, where translated code works on them
 * natively. Between a load and the next save no C code runs. Only the vCPU's thread calls these.
 */
#pragma once

#include <stdbool.h>

#include "vmm/engine/soft/cpu.h"

/* cpu->x87 to the host's registers. Clobbers vector registers: to be called before
 * soft_vector_load. */
void soft_x87_load(struct soft_cpu *cpu);

/* The reverse, after soft_vector_save; the host's are then as after FNINIT. FIP, FDP and FOP are
 * not the host's to know: translated code writes them itself. */
void soft_x87_save(struct soft_cpu *cpu);

/* Whether the guest may use x87 and MMX now, and no instruction can raise an exception: all are
 * masked and none is pending. Where not, the interpreter knows what is due. */
bool soft_x87_allowed(const struct soft_cpu *cpu);
