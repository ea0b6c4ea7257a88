// SPDX-License-Identifier: Apache-2.0
/*
 * The memory of a vCPU: a mapping of its own, below 2 GB where the host lets us, so that translated
 * code reaches its fields by absolute addresses of 32 bits (SDM 2, 2.1.5: disp32 is sign-extended).
 */
#include "vmm/engine/soft/cpu.h"

#include <sys/mman.h>

#define LOW_END (1UL << 31)

static struct soft_cpu *map(int flags)
{
    struct soft_cpu *cpu = mmap(NULL, sizeof(*cpu), PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    return cpu == MAP_FAILED ? NULL : cpu;
}

struct soft_cpu *soft_cpu_create(void)
{
    struct soft_cpu *cpu = map(MAP_32BIT);

    if (!cpu)
        cpu = map(0);
    if (cpu)
        cpu->low = (uintptr_t)cpu + sizeof(*cpu) <= LOW_END;
    return cpu;
}

void soft_cpu_destroy(struct soft_cpu *cpu)
{
    if (cpu)
        munmap(cpu, sizeof(*cpu));
}
