// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory at chosen addresses of the host: what windows of kernels (window_space.h) and of
 * user address spaces (user_space.h) are made of.
 *
 * The host's user space is taken in slots of 512 GB. A slot that is used as a window, and one on
 * either side of it as guards, are reserved without access, so that nothing else of the process
 * comes to lie there. A dropped page is replaced by an inaccessible mapping, never unmapped.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/memory/memory.h"

#define WINDOW_SLOT_SHIFT 39
#define WINDOW_SLOT_SIZE  (1UL << WINDOW_SLOT_SHIFT)
#define WINDOW_SLOTS      256 /* of the host's user space, and of either half of the guest's */

/* Slots of the host that are never taken: the first has the addresses below 2 GB, the last ones
 * the stacks and libraries. */
#define WINDOW_FIRST_SLOT 1
#define WINDOW_LAST_SLOT  (WINDOW_SLOTS - 2)

/* Which half of the guest's linear addresses one is of; of neither: it is not canonical. */
static inline bool window_is_upper(uint64_t linear)
{
    return (int64_t)linear >> 47 == -1;
}

static inline bool window_is_lower(uint64_t linear)
{
    return linear >> 47 == 0;
}

static inline void *window_slot_address(int slot)
{
    return (void *)((uint64_t)slot << WINDOW_SLOT_SHIFT);
}

/* Reserve a slot of the host. False where it holds anything already, or is none that is taken. */
bool window_slot_reserve(int slot);
void window_slot_release(int slot);

/* Show guest-physical [physical, physical + size), which must be RAM of one range, at `host`;
 * `writable`: the pages that memory.h lets be written through a lasting alias may be. Returns how
 * many mappings that took; 0 when the host refuses or more than `limit` were needed: something may
 * be shown then, and is to be hidden. */
unsigned window_show(struct memory *memory, void *host, uint64_t physical, uint64_t size,
                     bool writable, unsigned limit);

/* Nothing is shown there any more. False when the host refuses. */
bool window_hide(void *host, uint64_t size);
