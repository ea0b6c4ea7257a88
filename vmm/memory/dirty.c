// SPDX-License-Identifier: Apache-2.0
/*
 * Dirty tracking for several clients: each has a bit of its own in every page's flags, and its bit
 * in the set of active clients. pages.c tells how writers and collectors meet.
 */
#include "vmm/memory/internal.h"

#include <string.h>

/* Clear the client's bit in every page of a block; whole words of zeros are only read, so that the
 * sparse array stays sparse. */
static void clear_block(struct memory_block *block, uint8_t bit)
{
    uint64_t pages = block->size >> GUEST_PAGE_SHIFT;

    for (uint64_t i = 0; i < pages; i++) {
        if (i % 8 == 0 && pages - i >= 8 &&
            __atomic_load_n((uint64_t *)&block->flags[i], __ATOMIC_RELAXED) == 0) {
            i += 7;
            continue;
        }
        if (memory_flags(block, i) & bit)
            __atomic_fetch_and(&block->flags[i], (uint8_t)~bit, __ATOMIC_SEQ_CST);
    }
}

/* A first client begins (`on`) or the last one ended. */
static void tell_tracking(struct memory *memory, bool on)
{
    struct listener_calls calls;

    memory_calls_begin(memory, &calls);
    memory_call_dirty_tracking(&calls, on);
    memory_calls_end(memory, &calls);
}

/* Have every alias of all ranges dropped: page by page would take too long. */
static void drop_all_aliases(struct memory *memory)
{
    struct listener_calls calls;
    g_autofree struct memory_map *map = NULL;

    g_mutex_lock(&memory->lock);
    map = g_memdup2(memory->map, sizeof(*map) + memory->map->count * sizeof(struct memory_range));
    g_mutex_unlock(&memory->lock);
    memory_calls_begin(memory, &calls);
    for (unsigned i = 0; i < map->count; i++)
        memory_call_unmapped(&calls, map->ranges[i].base, map->ranges[i].size);
    memory_calls_end(memory, &calls);
}

void memory_dirty_start(struct memory *memory, enum memory_client client)
{
    uint8_t bit = PAGE_DIRTY(client);

    g_mutex_lock(&memory->lock);
    for (unsigned i = 0; i < memory->blocks->len; i++)
        clear_block(g_ptr_array_index(memory->blocks, i), bit);
    bool first = __atomic_fetch_or(&memory->active, bit, __ATOMIC_SEQ_CST) == 0;
    g_mutex_unlock(&memory->lock);
    drop_all_aliases(memory);
    if (first)
        tell_tracking(memory, true);
}

void memory_dirty_stop(struct memory *memory, enum memory_client client)
{
    uint8_t bit = PAGE_DIRTY(client);

    if (__atomic_fetch_and(&memory->active, (uint8_t)~bit, __ATOMIC_SEQ_CST) == bit)
        tell_tracking(memory, false);
}

/* Fetch and clear the bits of up to 64 pages from `gpa` on; bit i of the result is page i. */
static uint64_t collect_word(struct memory *memory, struct listener_calls *calls, uint8_t bit,
                             uint64_t gpa, unsigned count)
{
    uint64_t word = 0;

    for (unsigned i = 0; i < count; i++, gpa += GUEST_PAGE_SIZE) {
        struct memory_block *block = NULL;
        uint64_t index = 0;

        rcu_reader_lock();
        const struct memory_range *range = memory_find(memory, gpa);
        if (range) {
            block = range->block;
            index = memory_page_index(range, gpa);
        }
        rcu_reader_unlock();
        if (!block || !(memory_flags(block, index) & bit))
            continue;
        __atomic_fetch_and(&block->flags[index], (uint8_t)~bit, __ATOMIC_SEQ_CST);
        memory_call_write_protected(memory, calls, block, index);
        word |= 1UL << i;
    }
    return word;
}

uint64_t memory_dirty_collect(struct memory *memory, enum memory_client client, uint64_t first_page,
                              uint64_t count, uint64_t *bitmap)
{
    struct listener_calls calls;
    uint64_t dirty = 0;

    memory_calls_begin(memory, &calls);
    memory_call_dirty_sync(&calls);
    for (uint64_t i = 0; i < count; i += 64) {
        bitmap[i / 64] =
            collect_word(memory, &calls, PAGE_DIRTY(client), (first_page + i) << GUEST_PAGE_SHIFT,
                         (unsigned)MIN(count - i, 64));
        dirty += (unsigned)__builtin_popcountl(bitmap[i / 64]);
    }
    memory_calls_end(memory, &calls);
    return dirty;
}

void memory_dirty_mark(struct memory *memory, uint64_t page)
{
    rcu_reader_lock();
    const struct memory_range *range = memory_find(memory, page);
    if (range)
        __atomic_fetch_or(&range->block->flags[memory_page_index(range, page)],
                          __atomic_load_n(&memory->active, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
    rcu_reader_unlock();
}
