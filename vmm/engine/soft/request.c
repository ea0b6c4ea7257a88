// SPDX-License-Identifier: Apache-2.0
/*
 * What other threads ask of a vCPU, and how it sleeps until they do: a futex on the word of
 * requests itself, so that asking a vCPU that is awake costs an atomic operation and no more.
 *
 * A vCPU that spins gives its processor away, since what it waits for may be another vCPU that has
 * none: PAUSE tells of a spin (SDM 2B), as it does to processors with pause-loop exiting. Short
 * waits cost nothing, longer ones yield, and one that yielding does not end sleeps, for so short a
 * time that nobody need wake it.
 */
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "vmm/engine/soft/soft.h"

#define SPIN_YIELDS   16
#define SPIN_SLEEP_NS 50000
#define SPIN_TICKS    200000 /* of the host's TSC */

void soft_request(struct soft_cpu *cpu, uint32_t requests)
{
    /* Whoever made the word non-zero has woken the vCPU already. One that is about to sleep says so
     * before it looks at the word for the last time. */
    if (atomic_fetch_or(&cpu->requests, requests) == 0 && atomic_load(&cpu->asleep))
        syscall(SYS_futex, &cpu->requests, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void soft_wait(struct soft_cpu *cpu)
{
    soft_count(&cpu->counters.waits);
    soft_leave(cpu);
    atomic_store(&cpu->asleep, true);
    while (atomic_load(&cpu->requests) == 0)
        syscall(SYS_futex, &cpu->requests, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    atomic_store(&cpu->asleep, false);
    soft_enter(cpu);
}

static void nap(struct soft_cpu *cpu)
{
    const struct timespec time = {.tv_nsec = SPIN_SLEEP_NS};

    atomic_store(&cpu->asleep, true);
    syscall(SYS_futex, &cpu->requests, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0);
    atomic_store(&cpu->asleep, false);
}

void soft_spin(struct soft_cpu *cpu)
{
    struct soft_spin *spin = &cpu->spin;

    spin->pauses = 0;
    /* So many pauses in a tight loop take no longer than this. */
    if (spin->rip != cpu->rip || __rdtsc() - spin->since > SPIN_TICKS)
        spin->yields = 0;
    spin->rip = cpu->rip;
    soft_leave(cpu);
    if (spin->yields < SPIN_YIELDS) {
        spin->yields++;
        sched_yield();
    } else {
        nap(cpu);
    }
    soft_enter(cpu);
    spin->since = __rdtsc();
}
