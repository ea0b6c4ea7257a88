// SPDX-License-Identifier: Apache-2.0
/*
 * Listeners: the engines' ears.
 *
 * They are called without the memory lock and outside of any RCU section, because a listener may
 * wait for a vCPU that itself waits for one of these. A count of calls under way keeps an entry
 * alive instead; memory_unlisten waits for it.
 */
#include "vmm/memory/internal.h"

bool memory_listen(struct memory *memory, const struct memory_listener *listener, GError **error)
{
    g_mutex_lock(&memory->lock);
    for (unsigned i = 0; i < MEMORY_LISTENERS_MAX; i++) {
        struct listener_entry *entry = &memory->listeners[i];

        if (!entry->used && entry->calls == 0) {
            entry->listener = *listener;
            entry->used = true;
            g_mutex_unlock(&memory->lock);
            return true;
        }
    }
    g_mutex_unlock(&memory->lock);
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                "memory has %d listeners already, which is the most", MEMORY_LISTENERS_MAX);
    return false;
}

void memory_unlisten(struct memory *memory, void *opaque)
{
    g_mutex_lock(&memory->lock);
    for (unsigned i = 0; i < MEMORY_LISTENERS_MAX; i++) {
        struct listener_entry *entry = &memory->listeners[i];

        if (!entry->used || entry->listener.opaque != opaque)
            continue;
        entry->used = false;
        while (entry->calls)
            g_cond_wait(&memory->calls_ended, &memory->lock);
    }
    g_mutex_unlock(&memory->lock);
}

void memory_calls_begin(struct memory *memory, struct listener_calls *calls)
{
    calls->count = 0;
    g_mutex_lock(&memory->lock);
    for (unsigned i = 0; i < MEMORY_LISTENERS_MAX; i++) {
        struct listener_entry *entry = &memory->listeners[i];

        if (!entry->used)
            continue;
        entry->calls++;
        calls->entries[calls->count++] = entry;
    }
    g_mutex_unlock(&memory->lock);
}

void memory_calls_end(struct memory *memory, struct listener_calls *calls)
{
    g_mutex_lock(&memory->lock);
    for (unsigned i = 0; i < calls->count; i++)
        if (--calls->entries[i]->calls == 0)
            g_cond_broadcast(&memory->calls_ended);
    g_mutex_unlock(&memory->lock);
}

/* Call `member` of each listener that has one. */
#define TELL(calls, member, ...)                                                        \
    do {                                                                                \
        for (unsigned told = 0; told < (calls)->count; told++) {                        \
            const struct memory_listener *listener = &(calls)->entries[told]->listener; \
                                                                                        \
            if (listener->member)                                                       \
                listener->member(listener->opaque, ##__VA_ARGS__);                      \
        }                                                                               \
    } while (0)

void memory_call_unmapped(struct listener_calls *calls, uint64_t base, uint64_t size)
{
    TELL(calls, unmapped, base, size);
}

void memory_call_map_changed(struct listener_calls *calls)
{
    TELL(calls, map_changed);
}

void memory_call_dirty_tracking(struct listener_calls *calls, bool on)
{
    TELL(calls, dirty_tracking, on);
}

void memory_call_dirty_sync(struct listener_calls *calls)
{
    TELL(calls, dirty_sync);
}

/* The next guest-physical address, from entry `*at` of the map on, that shows the page. */
static bool next_alias(struct memory *memory, const struct memory_block *block, uint64_t index,
                       unsigned *at, uint64_t *gpa)
{
    uint64_t offset = index << GUEST_PAGE_SHIFT;
    bool found = false;

    rcu_reader_lock();
    const struct memory_map *map = memory_map(memory);
    while (!found && *at < map->count) {
        const struct memory_range *range = &map->ranges[(*at)++];

        found = range->block == block && offset >= range->block_offset &&
                offset - range->block_offset < range->size;
        if (found)
            *gpa = range->base + (offset - range->block_offset);
    }
    rcu_reader_unlock();
    return found;
}

void memory_call_write_protected(struct memory *memory, struct listener_calls *calls,
                                 const struct memory_block *block, uint64_t index)
{
    uint64_t gpa;

    if (calls->count == 0)
        return;
    for (unsigned at = 0; next_alias(memory, block, index, &at, &gpa);)
        TELL(calls, write_protected, gpa);
}

void memory_call_code_marked(struct memory *memory, struct listener_calls *calls,
                             const struct memory_block *block, uint64_t index)
{
    uint64_t gpa;

    for (unsigned at = 0; calls->count && next_alias(memory, block, index, &at, &gpa);) {
        for (unsigned told = 0; told < calls->count; told++) {
            const struct memory_listener *listener = &calls->entries[told]->listener;

            if (listener->code_marked)
                listener->code_marked(listener->opaque, gpa);
            else if (listener->write_protected)
                listener->write_protected(listener->opaque, gpa);
        }
    }
}

void memory_call_code_written(struct memory *memory, struct listener_calls *calls,
                              const struct memory_block *block, uint64_t index)
{
    uint64_t gpa;

    if (calls->count == 0)
        return;
    for (unsigned at = 0; next_alias(memory, block, index, &at, &gpa);)
        TELL(calls, code_written, gpa);
}
