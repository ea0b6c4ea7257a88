// SPDX-License-Identifier: Apache-2.0
/*
 * Page flags: who may write, who wants to know, and which pages hold translated code.
 *
 * Each page of a block has one byte that is only changed atomically. Two protocols rest on it:
 *
 * Dirty bits. A writer sets the bits of the active clients before it writes; a client that collects
 * clears the bit, then has every writable alias dropped, then reads the page. What is written
 * between clearing and dropping is thus still read; what is written later sets the bit again. A
 * write that takes long (DMA) sets the bits once more when it ends.
 *
 * Code. An engine marks a page before it reads the bytes that it translates, and asks again with
 * memory_has_code after its translation can be found. A writer clears the mark before it has the
 * translations thrown away. So either the writer's call finds the translation, or the engine finds
 * the mark gone and discards it itself.
 */
#include "vmm/memory/internal.h"

#include <string.h>

static void code_is_written(struct memory *memory, struct memory_block *block, uint64_t index)
{
    struct listener_calls calls;

    __atomic_fetch_and(&block->flags[index], (uint8_t)~PAGE_CODE, __ATOMIC_SEQ_CST);
    memory_calls_begin(memory, &calls);
    memory_call_code_written(memory, &calls, block, index);
    memory_calls_end(memory, &calls);
}

/* Dirty for all active clients, and without translated code. */
static bool page_is_free(uint8_t flags, uint8_t active)
{
    return (flags & (active | PAGE_CODE)) == active;
}

bool memory_touch(struct memory *memory, struct memory_block *block, uint64_t index)
{
    uint8_t active = __atomic_load_n(&memory->active, __ATOMIC_SEQ_CST);
    uint8_t flags = memory_flags(block, index);

    if (G_LIKELY(page_is_free(flags, active)))
        return true;
    if (active & ~flags)
        __atomic_fetch_or(&block->flags[index], active, __ATOMIC_SEQ_CST);
    if (flags & PAGE_CODE)
        code_is_written(memory, block, index);
    return !(memory_flags(block, index) & PAGE_CODE);
}

/* The range of a page, looked up for a caller outside of any RCU section: its block and host
 * address stay valid as the contract of memory_remove says. */
static bool find_page(struct memory *memory, uint64_t page, struct memory_range *out)
{
    rcu_reader_lock();
    const struct memory_range *range = memory_find(memory, page);
    if (range)
        *out = *range;
    rcu_reader_unlock();
    return range != NULL;
}

void *memory_write_begin(struct memory *memory, uint64_t page, bool *keep)
{
    struct memory_range range;

    page &= GUEST_PAGE_MASK;
    *keep = false;
    if (!find_page(memory, page, &range) || range.kind != MEMORY_RAM)
        return NULL;
    *keep = memory_touch(memory, range.block, memory_page_index(&range, page));
    return range.host + (page - range.base);
}

const void *memory_read_begin(struct memory *memory, uint64_t page)
{
    struct memory_range range;

    page &= GUEST_PAGE_MASK;
    return find_page(memory, page, &range) ? range.host + (page - range.base) : NULL;
}

bool memory_view(struct memory *memory, uint64_t gpa, struct memory_view *view)
{
    struct memory_range range;

    *view = (struct memory_view){.size = 0};
    if (!find_page(memory, gpa, &range))
        return false;
    view->base = range.base;
    view->size = range.size;
    view->host = range.host;
    view->ram = range.kind == MEMORY_RAM;
    view->flags = &range.block->flags[memory_page_index(&range, range.base)];
    view->active = &memory->active;
    return true;
}

bool memory_view_writable(const struct memory_view *view, uint64_t offset)
{
    uint8_t active = __atomic_load_n(view->active, __ATOMIC_SEQ_CST);
    uint8_t flags = __atomic_load_n(&view->flags[offset >> GUEST_PAGE_SHIFT], __ATOMIC_SEQ_CST);

    return view->ram && page_is_free(flags, active);
}

void memory_mark_code(struct memory *memory, uint64_t page)
{
    struct memory_range range;
    struct listener_calls calls;
    uint64_t index;

    if (!find_page(memory, page, &range))
        return;
    index = memory_page_index(&range, page);
    if (__atomic_fetch_or(&range.block->flags[index], PAGE_CODE, __ATOMIC_SEQ_CST) & PAGE_CODE)
        return;
    memory_calls_begin(memory, &calls);
    memory_call_code_marked(memory, &calls, range.block, index);
    memory_calls_end(memory, &calls);
}

void memory_clear_code(struct memory *memory, uint64_t page)
{
    struct memory_range range;

    if (find_page(memory, page, &range))
        __atomic_fetch_and(&range.block->flags[memory_page_index(&range, page)],
                           (uint8_t)~PAGE_CODE, __ATOMIC_SEQ_CST);
}

bool memory_has_code(const struct memory *memory, uint64_t page)
{
    bool code = false;

    rcu_reader_lock();
    const struct memory_range *range = memory_find(memory, page);
    if (range)
        code = memory_flags(range->block, memory_page_index(range, page)) & PAGE_CODE;
    rcu_reader_unlock();
    return code;
}

enum copy_kind {
    COPY_OUT,  /* guest to buffer */
    COPY_IN,   /* buffer to guest RAM */
    COPY_LOAD, /* buffer to guest RAM or ROM */
};

static bool copy_page(struct memory *memory, uint64_t gpa, uint8_t *buffer, uint64_t size,
                      enum copy_kind kind)
{
    struct memory_range range;
    uint8_t *host;
    uint64_t index;

    if (!find_page(memory, gpa, &range) || (kind == COPY_IN && range.kind != MEMORY_RAM))
        return false;
    host = range.host + (gpa - range.base);
    if (kind == COPY_OUT) {
        memcpy(buffer, host, size);
        return true;
    }
    index = memory_page_index(&range, gpa);
    memory_touch(memory, range.block, index);
    memcpy(host, buffer, size);
    memory_touch(memory, range.block, index);
    return true;
}

static bool copy(struct memory *memory, uint64_t gpa, uint8_t *buffer, uint64_t size,
                 enum copy_kind kind)
{
    if (size > UINT64_MAX - gpa)
        return false;
    while (size) {
        uint64_t piece = MIN(size, GUEST_PAGE_SIZE - (gpa & ~GUEST_PAGE_MASK));

        if (!copy_page(memory, gpa, buffer, piece, kind))
            return false;
        gpa += piece;
        buffer += piece;
        size -= piece;
    }
    return true;
}

bool memory_read(struct memory *memory, uint64_t gpa, void *buffer, uint64_t size)
{
    return copy(memory, gpa, buffer, size, COPY_OUT);
}

bool memory_write(struct memory *memory, uint64_t gpa, const void *buffer, uint64_t size)
{
    return copy(memory, gpa, (uint8_t *)buffer, size, COPY_IN);
}

bool memory_load(struct memory *memory, uint64_t gpa, const void *buffer, uint64_t size)
{
    return copy(memory, gpa, (uint8_t *)buffer, size, COPY_LOAD);
}
