// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of user address spaces: the pages of a process that has earned it are shown in the host's
 * address space, so that its translated code needs no TLB. user_window.c has the argument why that
 * is right.
 *
 * Translated code adds cpu->user_delta[slot] to an address of that slot of 512 GB (bits 47 and up
 * are 0). Where nothing is shown the access raises SIGSEGV; the translator leaves its code, calls
 * user_window_fault, and executes the instruction again or has it interpreted.
 *
 * All functions but the last two: on the vCPU's thread, with the lock of the engine's windows held.
 */
#pragma once

#include "vmm/engine/soft/cpu.h"
#include "vmm/engine/soft/translator/user_space.h"
#include "vmm/engine/soft/translator/window.h"

#define USER_SPACES  12 /* of a vCPU */
#define USER_SAMPLES 64

/* An address space as it was seen at interrupts of user code. */
struct user_sample {
    uint64_t root;
    unsigned count;   /* interrupts */
    unsigned penalty; /* times that windows were not worth their cost */
};

/* Of a vCPU. */
struct user_windows {
    struct user_host *host;
    struct user_space spaces[USER_SPACES];
    struct user_space *attached; /* whose deltas the vCPU has; NULL: none */
    uint64_t time;               /* counts what is attached */
    uint64_t flushes; /* counts flushes that a space which is put aside may have missed */
    struct user_sample samples[USER_SAMPLES];
};

struct user_windows *user_windows_create(struct soft_cpu *cpu, struct user_host *host);
void user_windows_destroy(struct soft_cpu *cpu, struct user_windows *windows);

/* The address space is another one, or paging or data breakpoints were altered. `kept`: CR3 was
 * written without a flush. */
void user_window_switch(struct soft_cpu *cpu, struct user_windows *windows, bool kept);

/* A flush of everything that is not global; of one page; of contexts other than the present. */
void user_window_flush(struct soft_cpu *cpu, struct user_windows *windows);
void user_window_flush_page(struct soft_cpu *cpu, struct user_windows *windows, uint64_t linear);
void user_window_flush_others(struct user_windows *windows);

/* A user access to `linear` raised SIGSEGV. */
enum window_fault user_window_fault(struct soft_cpu *cpu, struct user_windows *windows,
                                    uint64_t linear, bool write);

/* An interrupt came while user code was executed. */
void user_window_sample(struct soft_cpu *cpu, struct user_windows *windows);

/* What memory/ says, any thread: at return no vCPU has such access. */
void user_windows_unmapped(struct user_windows *windows, uint64_t base, uint64_t size);
void user_windows_protect(struct user_windows *windows, uint64_t page);
