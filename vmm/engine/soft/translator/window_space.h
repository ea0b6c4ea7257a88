// SPDX-License-Identifier: Apache-2.0
/*
 * The host's side of windows: address space that mirrors slots of 512 GB of the guest's linear
 * addresses, and what of guest memory is mapped there. It knows nothing of page tables: window.c
 * decides what may be mapped, and holds a lock around every call.
 *
 * One delta serves all slots: host = linear + delta. So all of them must find their place at the
 * same distance, which is chosen when the first one is wanted; a slot that does not fit is refused.
 * A whole slot is reserved as a guard on either side, without access, so that an access that begins
 * in a slot and is not checked as a whole cannot leave it for other memory of the host.
 *
 * What is mapped is kept as regions: stretches whose linear and guest-physical addresses run
 * alike and whose rights by the page tables are the same. Within a writable region single pages may
 * be write-protected, because memory.h wants to know of writes; those are not kept here.
 */
#pragma once

#include "vmm/engine/soft/translator/window_map.h"

#define WINDOW_REGIONS 4096U /* most that are kept */
#define WINDOW_PIECES  32000 /* of the host's 65,530 mappings of a process */

struct window_region {
    uint64_t linear, size; /* bytes, whole pages */
    uint64_t physical;
    bool writable;
    uint8_t shift; /* of the guest's pages */
};

struct window_space {
    uint64_t delta;
    bool placed;               /* delta is chosen */
    bool owned[WINDOW_SLOTS];  /* slots of the host that are reserved */
    bool opened[WINDOW_SLOTS]; /* of these: those that show a slot of the guest, not a guard */
    unsigned count;
    struct window_region *regions; /* by linear address */
    unsigned pieces;               /* of mappings: at least as many as there are */
};

/* Without any reservation. False when there is no memory. */
bool window_space_init(struct window_space *space);
/* Give all addresses back. Nothing accesses them any more. */
void window_space_fini(struct window_space *space);

/* Choose the delta: one with which as many as possible of the guest's slots (upper half, counted
 * from 0x100) find a place, among them `slot`, and rather those in `wanted`. False when there is
 * none. */
bool window_space_place(struct window_space *space, const bool wanted[WINDOW_SLOTS], unsigned slot);

/* Reserve the guest's slot with its guards. False when it does not fit. */
bool window_space_open(struct window_space *space, unsigned slot);

/* Show a region, which lies in an opened slot, in one range of RAM, and overlaps no other region:
 * without write access where it has none or memory.h wants to know. False when the host refuses,
 * and then nothing of it is mapped. May drop every other region to stay within bounds. */
bool window_space_map(struct window_space *space, struct memory *memory,
                      const struct window_region *region);

/* The region that holds `linear`, or NULL. Good until the next call. */
const struct window_region *window_space_find(const struct window_space *space, uint64_t linear);

/* Drop what is mapped of linear [linear, linear + size), or of guest-physical memory. */
void window_space_cut(struct window_space *space, uint64_t linear, uint64_t size);
void window_space_cut_physical(struct window_space *space, uint64_t physical, uint64_t size);
void window_space_clear(struct window_space *space);

/* Take write access to a guest-physical page away wherever it is shown. */
void window_space_protect(struct window_space *space, uint64_t page);
/* Give it back at one linear page of a writable region. False when the host refuses. */
bool window_space_unprotect(struct window_space *space, uint64_t linear);
