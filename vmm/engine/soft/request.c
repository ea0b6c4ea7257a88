// SPDX-License-Identifier: Apache-2.0
/*
 * What other threads ask of a vCPU, and how it sleeps until they do: a futex on the word of
 * requests itself, so that asking a vCPU that is awake costs one atomic operation and, where
 * nothing else was pending, one system call.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/engine/soft/soft.h"

void soft_request(struct soft_cpu *cpu, uint32_t requests)
{
    /* Whoever made the word non-zero has woken the vCPU already. */
    if (atomic_fetch_or(&cpu->requests, requests) == 0)
        syscall(SYS_futex, &cpu->requests, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void soft_wait(struct soft_cpu *cpu)
{
    soft_leave(cpu);
    while (atomic_load(&cpu->requests) == 0)
        syscall(SYS_futex, &cpu->requests, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    soft_enter(cpu);
}
