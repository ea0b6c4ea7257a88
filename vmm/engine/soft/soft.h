// SPDX-License-Identifier: Apache-2.0
/*
 * The engine around the software CPUs: soft.c (the interface of engine.h), coherence.c (aliases of
 * guest memory among threads), state.c (the canonical state), features.c.
 */
#pragma once

#include <pthread.h>

#include "vmm/engine/engine.h"
#include "vmm/engine/soft/cpu.h"
#include "vmm/engine/soft/lapic.h"
#include "vmm/engine/soft/switches.h"

/* The thread side of a vCPU. Its thread is inside while it may use aliases of guest memory (TLB
 * entries, decoded code), outside while it is parked, waits, or runs a device's handler. */
struct vcpu {
    struct soft_cpu *cpu;
    _Atomic uint32_t outside;
    /* Count of flushes asked for, and up to which they are done. */
    _Atomic uint32_t flush_wanted, flush_done;
    /* Up to which of soft_engine.marks its writable TLB entries are gone. */
    _Atomic uint64_t marks_done;
};

#define SOFT_MARKS 256

struct soft_engine {
    struct engine_config config;
    struct soft_switches switches;
    struct cpu_definition model;
    struct soft_apics *apics;
    unsigned count; /* of vcpus */
    struct vcpu **vcpus;
    /* Pages that became code, the last SOFT_MARKS of so many in all; the lock is for writers. */
    pthread_mutex_t marks_lock;
    _Atomic uint64_t marks, marked[SOFT_MARKS];
    struct soft_windows *windows;   /* NULL: none */
    pthread_mutex_t exclusive_lock; /* held from soft_exclusive_begin to _end */
    /* 1 + index of the vCPU that executes alone, or 0: others do not come in. */
    _Atomic uint32_t exclusive;
};

/* What soft_engine_ops gives to CPU models: what the interpreter implements, and what of it needs
 * instructions of the host only where the host has them. */
void soft_features(uint32_t words[CPU_WORDS]);
/* Whether this program may use AVX-512 as x86-64-v4 has it (F, DQ, CD, BW, VL). */
bool soft_host_has_avx512(void);

/* The vCPU's thread begins and ends to use aliases. `enter` drops what was asked to be dropped in
 * the meantime. May be called in the middle of an instruction that holds no pointer. */
void soft_enter(struct soft_cpu *cpu);
void soft_leave(struct soft_cpu *cpu);

/* Mark the guest's page as one with decoded code. Gives a number for soft_mark_settled. On the
 * vCPU's thread. */
uint64_t soft_mark_code(struct soft_cpu *cpu, uint64_t page);
/* No other vCPU writes the page of that mark unseen any more: what is read of it now stays right
 * until soft_blocks_page_written. On the vCPU's thread. */
bool soft_mark_settled(const struct soft_cpu *cpu, uint64_t mark);

/* This thread runs `cpu` from now on (NULL: none). */
void soft_set_current(struct soft_cpu *cpu);

/* Calls out of the CPU, which step outside around those of the engine's user. The opaque is the
 * soft_cpu. */
extern const struct exit_ops soft_exits;

/* The ear for memory.h; the opaque is the soft_engine. */
extern const struct memory_listener soft_listener;

/* The canonical state; the vCPU is parked. */
void soft_get_state(struct soft_cpu *cpu, struct cpu_state *state);
bool soft_set_state(struct soft_cpu *cpu, const struct cpu_state *state, GError **error);
