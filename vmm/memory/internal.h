// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of memory/ share: blocks with their page flags, and the listeners.
 */
#pragma once

#include "vmm/memory/memory.h"
#include "vmm/util/rcu.h"

#include <sys/types.h>

/* Flags of one page of a block, changed only by atomic operations. A client's dirty bit has a
 * meaning only while the client is active. */
#define PAGE_DIRTY(client) ((uint8_t)(1U << (client)))
#define PAGE_DIRTY_MASK    ((uint8_t)((1U << MEMORY_CLIENTS) - 1))
#define PAGE_CODE          ((uint8_t)0x80)

_Static_assert(PAGE_DIRTY_MASK < PAGE_CODE, "a client's bit is the code bit");

#define MEMORY_LISTENERS_MAX 8

/* One file that backs ranges. Ranges over the same file share its block, so that an alias has the
 * same flags. */
struct memory_block {
    dev_t device; /* with inode: which file this is */
    ino_t inode;
    char *name;
    int fd;
    uint8_t *host;
    uint64_t size;
    uint8_t *flags; /* one byte a page, in a sparse mapping */
    unsigned ranges;
};

struct listener_entry {
    struct memory_listener listener;
    unsigned calls; /* threads that are in one of its functions */
    bool used;
};

struct memory {
    struct memory_map *map; /* swapped under `lock`, read under RCU */
    uint8_t active;         /* PAGE_DIRTY bits of the clients that track; atomic */

    GMutex lock; /* all below, and who may swap the map */
    GCond calls_ended;
    GPtrArray *blocks;
    struct listener_entry listeners[MEMORY_LISTENERS_MAX];
};

/* The listeners of one moment, held so that none goes away while it is called. */
struct listener_calls {
    unsigned count;
    struct listener_entry *entries[MEMORY_LISTENERS_MAX];
};

/* Around calls of listeners, without the lock held. */
void memory_calls_begin(struct memory *memory, struct listener_calls *calls);
void memory_calls_end(struct memory *memory, struct listener_calls *calls);

/* Call that member of each listener that has it. */
void memory_call_unmapped(struct listener_calls *calls, uint64_t base, uint64_t size);
void memory_call_map_changed(struct listener_calls *calls);
void memory_call_dirty_tracking(struct listener_calls *calls, bool on);
void memory_call_dirty_sync(struct listener_calls *calls);
/* For every guest-physical address that shows page `index` of `block`. */
void memory_call_write_protected(struct memory *memory, struct listener_calls *calls,
                                 const struct memory_block *block, uint64_t index);
void memory_call_code_marked(struct memory *memory, struct listener_calls *calls,
                             const struct memory_block *block, uint64_t index);
void memory_call_code_written(struct memory *memory, struct listener_calls *calls,
                              const struct memory_block *block, uint64_t index);

/* Index in its block of the page that holds `gpa`, which lies in `range`. */
static inline uint64_t memory_page_index(const struct memory_range *range, uint64_t gpa)
{
    return (range->block_offset + (gpa - range->base)) >> GUEST_PAGE_SHIFT;
}

static inline uint8_t memory_flags(const struct memory_block *block, uint64_t index)
{
    return __atomic_load_n(&block->flags[index], __ATOMIC_SEQ_CST);
}

/* The page at `index` is about to be written, or was: dirty it for the active clients and throw its
 * translations away. True when a writable alias may be kept. Not inside an RCU section. */
bool memory_touch(struct memory *memory, struct memory_block *block, uint64_t index);
