// SPDX-License-Identifier: Apache-2.0
/*
 * Which parts of memory were ever written: the kernel knows it for each memfd, and asking it
 * (lseek) allocates nothing, whereas a look at an untouched page would.
 */
#include "vmm/memory/internal.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The first stretch of data of a range at or behind `gpa`, which lies in it. */
static bool next_in_range(const struct memory_range *range, uint64_t gpa, uint64_t *begin,
                          uint64_t *end)
{
    off_t from = (off_t)(range->block_offset + (gpa - range->base));
    off_t limit = (off_t)(range->block_offset + range->size);
    off_t data = lseek(range->block->fd, from, SEEK_DATA);
    off_t hole;

    if (data < 0 || data >= limit)
        return false;
    hole = lseek(range->block->fd, data, SEEK_HOLE);
    if (hole < 0 || hole > limit)
        hole = limit;
    *begin = (range->base + (uint64_t)data - range->block_offset) & GUEST_PAGE_MASK;
    *end = (range->base + (uint64_t)hole - range->block_offset + GUEST_PAGE_SIZE - 1) &
           GUEST_PAGE_MASK;
    return true;
}

bool memory_next_data(const struct memory *memory, uint64_t from, uint64_t *begin, uint64_t *end)
{
    bool found = false;

    rcu_reader_lock();
    const struct memory_map *map = memory_map(memory);
    for (unsigned i = 0; !found && i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];

        if (from < range->base + range->size)
            found = next_in_range(range, MAX(from, range->base), begin, end);
    }
    rcu_reader_unlock();
    return found;
}

/* Tell dirty clients and engines that [begin, end), which lies in one range, changes; then drop its
 * pages from the file. */
static void clear_stretch(struct memory *memory, uint64_t begin, uint64_t end)
{
    const struct memory_range *range = memory_find(memory, begin);
    uint64_t offset = range->block_offset + (begin - range->base);

    for (uint64_t gpa = begin; gpa < end; gpa += GUEST_PAGE_SIZE)
        memory_touch(memory, range->block, memory_page_index(range, gpa));
    if (fallocate(range->block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)(end - begin)) < 0)
        memset(range->host + (begin - range->base), 0, end - begin);
}

void memory_clear(struct memory *memory)
{
    uint64_t at = 0, begin, end;

    for (; memory_next_data(memory, at, &begin, &end); at = end)
        clear_stretch(memory, begin, end);
}
