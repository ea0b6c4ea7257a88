// SPDX-License-Identifier: Apache-2.0
/* The time-stamp counter and kvmclock of the software CPU; on the vCPU's thread, or while it is
 * parked. RDMSR, WRMSR and RDTSC themselves are in system.h. */
#pragma once

#include "vmm/engine/soft/system.h"

/* Make RDTSC give `tsc` now; the timer and kvmclock follow. TSC_ADJUST is left alone. */
void soft_set_tsc(struct soft_cpu *cpu, uint64_t tsc);

/* Write kvmclock's page anew, if the guest has one: after the relation of TSC and machine time
 * changed. kvmclock.c. */
void soft_kvmclock_update(struct soft_cpu *cpu);
/* Write the wall clock at guest-physical `address`. */
void soft_kvmclock_write_wall(struct soft_cpu *cpu, uint64_t address);
