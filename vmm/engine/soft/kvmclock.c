// SPDX-License-Identifier: Apache-2.0
/*
 * kvmclock: machine time as a linear function of the TSC, in a page that the guest names (Linux,
 * Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW).
 *
 * The version is odd while the page is being written; the guest reads again until it sees the same
 * even version before and after. Machine time and guest TSC stand still together when the machine
 * is paused, so the page stays true over a pause.
 */
#include <string.h>

#include "vmm/engine/soft/msr.h"

#define PVCLOCK_ENABLED    1UL
#define PVCLOCK_TSC_STABLE 1

struct pvclock_time {
    uint32_t version, pad0;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t pad[2];
};
_Static_assert(sizeof(struct pvclock_time) == 32, "layout is KVM's");

struct pvclock_wall {
    uint32_t version, sec, nsec;
};

/* ns = (ticks << shift) * mul >> 32, with as many bits in mul as it has. */
static void time_scale(uint64_t hz, uint32_t *mul, int8_t *shift)
{
    uint64_t base = hz;

    *shift = 0;
    while (base > 2 * NS_PER_SECOND) {
        base >>= 1;
        (*shift)--;
    }
    while (base <= NS_PER_SECOND) {
        base <<= 1;
        (*shift)++;
    }
    *mul = (uint32_t)(((unsigned __int128)NS_PER_SECOND << (32 - *shift)) / hz);
}

/* Store `size` bytes that begin with the 32-bit version. Where the guest's address is no RAM,
 * nothing happens. */
static void write_versioned(struct soft_cpu *cpu, uint64_t address, uint32_t *version, size_t size)
{
    uint32_t old;

    if (!memory_read(cpu->memory, address, &old, sizeof(old)))
        return;
    *version = (old + 1) | 1;
    memory_write(cpu->memory, address, version, sizeof(*version));
    memory_write(cpu->memory, address, version, size);
    *version += 1;
    memory_write(cpu->memory, address, version, sizeof(*version));
}

void soft_kvmclock_update(struct soft_cpu *cpu)
{
    struct pvclock_time time = {0};
    int64_t now;
    uint64_t tsc;

    if (!(cpu->msrs.kvm_system_time & PVCLOCK_ENABLED))
        return;
    clock_sample(cpu->clock, &now, &tsc);
    time.tsc_timestamp = tsc + (uint64_t)cpu->tsc_offset;
    time.system_time = (uint64_t)now;
    time_scale(clock_tsc_khz(cpu->clock) * 1000, &time.tsc_to_system_mul, &time.tsc_shift);
    time.flags = cpu_has(cpu->model, CPU_40000001_EAX, 24) ? PVCLOCK_TSC_STABLE : 0;
    write_versioned(cpu, cpu->msrs.kvm_system_time & ~PVCLOCK_ENABLED, &time.version, sizeof(time));
}

void soft_kvmclock_write_wall(struct soft_cpu *cpu, uint64_t address)
{
    int64_t start = clock_wall(cpu->clock) - clock_now(cpu->clock);
    struct pvclock_wall wall = {
        .sec = (uint32_t)(start / NS_PER_SECOND),
        .nsec = (uint32_t)(start % NS_PER_SECOND),
    };

    write_versioned(cpu, address, &wall.version, sizeof(wall));
}
