// SPDX-License-Identifier: Apache-2.0
/*
 * DMA of devices over the page authority. Without an IOMMU the I/O virtual address is the
 * guest-physical one. ROM can be read and not written; registers and holes are refused, so a device
 * can never reach a device.
 */
#include "vmm/memory/dma.h"

#include "vmm/memory/internal.h"

#include <string.h>

/* The guest switches the bus-master bit while another thread may be at work. */
static bool is_enabled(const struct dma_space *space)
{
    return __atomic_load_n(&space->enabled, __ATOMIC_RELAXED);
}

static bool may_access(const struct memory_range *range, enum dma_direction direction)
{
    return range && (range->kind == MEMORY_RAM || direction == DMA_TO_DEVICE);
}

/* Dirty the pages of [gpa, gpa + length), which lie in one range. */
static void touch_range(struct memory *memory, const struct memory_range *range, uint64_t gpa,
                        uint64_t length)
{
    uint64_t last = memory_page_index(range, gpa + length - 1);

    for (uint64_t index = memory_page_index(range, gpa); index <= last; index++)
        memory_touch(memory, range->block, index);
}

static bool find_range(struct memory *memory, uint64_t gpa, struct memory_range *out)
{
    rcu_reader_lock();
    const struct memory_range *range = memory_find(memory, gpa);
    if (range)
        *out = *range;
    rcu_reader_unlock();
    return range != NULL;
}

/* The mapping without its effect on pages: fills `segments`, merging neighbours in the host. */
static unsigned collect_segments(struct dma_space *space, uint64_t iova, uint64_t length,
                                 enum dma_direction direction, struct dma_segment *segments,
                                 unsigned max)
{
    unsigned count = 0;

    while (length) {
        struct memory_range range;
        uint64_t piece;
        uint8_t *host;

        if (!find_range(space->memory, iova, &range) || !may_access(&range, direction))
            return 0;
        host = range.host + (iova - range.base);
        piece = MIN(length, range.base + range.size - iova);
        if (count && (uint8_t *)segments[count - 1].host + segments[count - 1].length == host)
            segments[count - 1].length += piece;
        else if (count == max)
            return 0;
        else
            segments[count++] = (struct dma_segment){.host = host, .length = piece};
        iova += piece;
        length -= piece;
    }
    return count;
}

/* Dirty all of [iova, iova + length) that is RAM. */
static void touch(struct dma_space *space, uint64_t iova, uint64_t length)
{
    while (length) {
        struct memory_range range;
        uint64_t piece;

        if (!find_range(space->memory, iova, &range) || range.kind != MEMORY_RAM)
            return;
        piece = MIN(length, range.base + range.size - iova);
        touch_range(space->memory, &range, iova, piece);
        iova += piece;
        length -= piece;
    }
}

unsigned dma_map(struct dma_space *space, uint64_t iova, uint64_t length,
                 enum dma_direction direction, struct dma_segment *segments, unsigned max)
{
    unsigned count;

    if (!is_enabled(space) || length == 0 || length > UINT64_MAX - iova)
        return 0;
    count = collect_segments(space, iova, length, direction, segments, max);
    if (count && direction == DMA_FROM_DEVICE)
        touch(space, iova, length);
    return count;
}

void dma_unmap(struct dma_space *space, uint64_t iova, uint64_t length,
               enum dma_direction direction, uint64_t written)
{
    if (direction == DMA_FROM_DEVICE)
        touch(space, iova, MIN(written, length));
}

static bool reachable(struct dma_space *space, uint64_t iova, uint64_t length,
                      enum dma_direction direction)
{
    if (!is_enabled(space) || length > UINT64_MAX - iova)
        return false;
    while (length) {
        struct memory_range range;
        uint64_t piece;

        if (!find_range(space->memory, iova, &range) || !may_access(&range, direction))
            return false;
        piece = MIN(length, range.base + range.size - iova);
        iova += piece;
        length -= piece;
    }
    return true;
}

bool dma_read(struct dma_space *space, uint64_t iova, void *buffer, uint64_t length)
{
    return reachable(space, iova, length, DMA_TO_DEVICE) &&
           memory_read(space->memory, iova, buffer, length);
}

bool dma_write(struct dma_space *space, uint64_t iova, const void *buffer, uint64_t length)
{
    return reachable(space, iova, length, DMA_FROM_DEVICE) &&
           memory_write(space->memory, iova, buffer, length);
}
