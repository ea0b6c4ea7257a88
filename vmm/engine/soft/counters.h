// SPDX-License-Identifier: Apache-2.0
/*
 * What one vCPU of the engine counts about itself. Its thread alone writes, by soft_count or in
 * translated code; others may read a value that is a moment old.
 */
#pragma once

#include <stdint.h>

/* name, description */
#define SOFT_COUNTERS(X)                                                             \
    X(blocks_decoded, "blocks decoded for the interpreter")                          \
    X(blocks_translated, "blocks translated")                                        \
    X(clones, "translations made of one of the same block at another address")       \
    X(clones_moved, "of these: in its place")                                        \
    X(bytes_translated, "bytes of host code")                                        \
    X(chains, "jumps that were linked")                                              \
    X(exits, "ways out of translated code to the dispatcher")                        \
    X(exits_unlinked, "of these: a jump that was not linked")                        \
    X(exits_indirect, "of these: an indirect jump to a target that was not cached")  \
    X(exits_stale, "of these: the page of the target was mapped anew")               \
    X(exits_request, "of these: another thread wants something")                     \
    X(interpreted, "instructions that translated code had interpreted")              \
    X(misses, "accesses of translated code that missed the TLB")                     \
    X(faults, "exceptions of the guest")                                             \
    X(interrupts, "interrupts delivered")                                            \
    X(ports, "port accesses that left the CPU")                                      \
    X(mmio, "accesses to registers of devices")                                      \
    X(waits, "times that it waited for something to do")                             \
    X(flushes, "TLB flushes, but for single pages")                                  \
    X(flushes_page, "TLB flushes of single pages")                                   \
    X(cache_flushes, "times that the code cache was emptied")                        \
    X(pages_dropped, "pages whose blocks were thrown away, since they were written") \
    X(vector_loads, "times that vector registers were loaded for translated code")   \
    X(window_faults, "faults that entered pages into windows")                       \
    X(window_attaches, "times that supervisor code got windows, having had none")    \
    X(promotions, "address spaces of user code that got windows")                    \
    X(demotions, "of these: lost them, since they cost more than they brought")

struct soft_counters {
#define SOFT_COUNTER_FIELD(name, description) uint64_t name;
    SOFT_COUNTERS(SOFT_COUNTER_FIELD)
#undef SOFT_COUNTER_FIELD
};

#define SOFT_COUNTERS_COUNT (sizeof(struct soft_counters) / sizeof(uint64_t))

/* On the vCPU's thread. */
static inline void soft_count_by(uint64_t *counter, uint64_t number)
{
    __atomic_store_n(counter, *counter + number, __ATOMIC_RELAXED);
}

static inline void soft_count(uint64_t *counter)
{
    soft_count_by(counter, 1);
}
