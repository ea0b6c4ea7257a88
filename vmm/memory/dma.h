// SPDX-License-Identifier: Apache-2.0
/*
 * DMA: the only way in which a device touches guest memory.
 *
 * A device has a dma_space (its view: bus-master bit, later an IOMMU). Mapping makes the pages
 * present and, for writes, dirty; it refuses addresses that are no RAM, so a device can never reach
 * registers (no re-entrant DMA). Guest RAM need not be contiguous in the host, hence segments.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/memory/memory.h"

enum dma_direction {
    DMA_TO_DEVICE,   /* the device reads guest memory */
    DMA_FROM_DEVICE, /* the device writes guest memory */
};

/* A device's view of memory. `enabled` is its bus-master bit, false refuses everything. */
struct dma_space {
    struct memory *memory;
    bool enabled;
};

struct dma_segment {
    void *host;
    uint64_t length;
};

/* Map [iova, iova+length) into at most `max` segments. Returns their number; 0 when any byte is not
 * reachable, `length` is 0 or wraps, or more segments would be needed. Ends with dma_unmap. */
unsigned dma_map(struct dma_space *space, uint64_t iova, uint64_t length,
                 enum dma_direction direction, struct dma_segment *segments, unsigned max);

/* End a mapping; `written` bytes from its start were changed (0 for DMA_TO_DEVICE). */
void dma_unmap(struct dma_space *space, uint64_t iova, uint64_t length,
               enum dma_direction direction, uint64_t written);

/* Copy in one step. false when any byte is not reachable; then nothing useful was copied. */
bool dma_read(struct dma_space *space, uint64_t iova, void *buffer, uint64_t length);
bool dma_write(struct dma_space *space, uint64_t iova, const void *buffer, uint64_t length);
