// SPDX-License-Identifier: Apache-2.0
/*
 * Raising faults: a handler finds that its instruction cannot complete, notes what is wrong and
 * jumps back into the run loop, which delivers it.
 */
#include "vmm/engine/soft/system.h"

/* Vectors that push an error code (SDM 3A, table 6-1). */
#define HAS_ERROR                                                                              \
    (1U << EXC_DF | 1U << EXC_TS | 1U << EXC_NP | 1U << EXC_SS | 1U << EXC_GP | 1U << EXC_PF | \
     1U << EXC_AC)
/* Those whose error code is a selector with the EXT bit (SDM 3A, 6.13). */
#define HAS_EXT (1U << EXC_TS | 1U << EXC_NP | 1U << EXC_SS | 1U << EXC_GP)

static _Noreturn void leave(struct soft_cpu *cpu)
{
    if (cpu->exclusive)
        soft_exclusive_end(cpu);
    cpu->pending_db = 0; /* of an instruction that did not happen */
    siglongjmp(*cpu->escape, 1);
}

void soft_raise(struct soft_cpu *cpu, unsigned vector, uint32_t error)
{
    if (cpu->delivering >= 0 && cpu->external && (HAS_EXT >> vector & 1))
        error |= 1;
    cpu->fault.vector = vector;
    cpu->fault.has_error = HAS_ERROR >> vector & 1;
    cpu->fault.error = error;
    cpu->fault.payload = 0;
    leave(cpu);
}

void soft_raise_page_fault(struct soft_cpu *cpu, uint64_t linear, uint32_t error)
{
    cpu->cr2 = linear;
    soft_raise(cpu, EXC_PF, error);
}

void soft_raise_debug(struct soft_cpu *cpu, uint64_t dr6_bits)
{
    cpu->fault.vector = EXC_DB;
    cpu->fault.has_error = false;
    cpu->fault.error = 0;
    cpu->fault.payload = dr6_bits;
    leave(cpu);
}

void soft_undefined(struct soft_cpu *cpu)
{
    soft_raise(cpu, EXC_UD, 0);
}

void soft_general_protection(struct soft_cpu *cpu, uint32_t error)
{
    soft_raise(cpu, EXC_GP, error);
}
