// SPDX-License-Identifier: Apache-2.0
/*
 * Mirrors of the guest's linear address space: mmap(2) of the memory files of its RAM. See
 * window_space.h.
 *
 * A dropped page is replaced by an inaccessible mapping and never unmapped, so that nothing else
 * of the process comes to lie there. How many mappings the host keeps cannot be asked; each
 * operation adds at most two to a count, and when that gets near the host's limit all is dropped.
 */
#include "vmm/engine/soft/translator/window_space.h"

#include <string.h>
#include <sys/mman.h>

#include "vmm/util/sparse.h"

#define PAGE_SIZE 0x1000UL
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define USER_BITS 47 /* a GS base must be canonical */

bool window_space_init(struct window_space *space)
{
    memset(space, 0, sizeof(*space));
    space->regions = sparse_create(WINDOW_REGIONS * sizeof(struct window_region));
    return space->regions;
}

void window_space_fini(struct window_space *space)
{
    for (int i = 0; i < WINDOW_SLOTS; i++)
        if (space->owned[i])
            window_slot_release(i);
    sparse_destroy(space->regions, WINDOW_REGIONS * sizeof(struct window_region));
}

/* ---- reservation ---- */

static bool reserve(struct window_space *space, int slot)
{
    if (slot < 0 || slot >= WINDOW_SLOTS)
        return false;
    space->owned[slot] = space->owned[slot] || window_slot_reserve(slot);
    return space->owned[slot];
}

static void release(struct window_space *space, int slot)
{
    window_slot_release(slot);
    space->owned[slot] = false;
}

/* Whether the three slots around one of the host are free. */
static bool fits(const bool vacant[WINDOW_SLOTS], int slot)
{
    return slot > WINDOW_FIRST_SLOT && slot < WINDOW_LAST_SLOT && vacant[slot - 1] &&
           vacant[slot] && vacant[slot + 1];
}

/* The slot of the host for one of the guest's upper half under a delta. */
static int host_slot(uint64_t delta, unsigned slot)
{
    uint64_t linear = ~0UL << 47 | (uint64_t)slot << WINDOW_SLOT_SHIFT;

    return (int)((int64_t)(linear + delta) >> WINDOW_SLOT_SHIFT);
}

bool window_space_place(struct window_space *space, const bool wanted[WINDOW_SLOTS], unsigned slot)
{
    bool vacant[WINDOW_SLOTS];
    unsigned best = 0;

    for (int i = 0; i < WINDOW_SLOTS; i++) {
        vacant[i] = reserve(space, i);
        if (vacant[i])
            release(space, i);
    }
    for (int at = WINDOW_FIRST_SLOT; at <= WINDOW_LAST_SLOT; at++) {
        uint64_t delta = ((uint64_t)at << WINDOW_SLOT_SHIFT) -
                         (~0UL << 47 | (uint64_t)slot << WINDOW_SLOT_SHIFT);
        unsigned score = 1;

        if (!fits(vacant, at) || delta >> USER_BITS)
            continue;
        for (unsigned i = 0; i < WINDOW_SLOTS; i++)
            score += fits(vacant, host_slot(delta, i)) ? (wanted[i] ? WINDOW_SLOTS : 1) : 0;
        if (score > best) {
            best = score;
            space->delta = delta;
            space->placed = true;
        }
    }
    /* Before windows of user space take what will be wanted. */
    for (unsigned i = 0; i < WINDOW_SLOTS && best > 0; i++)
        if (wanted[i])
            window_space_open(space, i);
    return best > 0;
}

bool window_space_open(struct window_space *space, unsigned slot)
{
    int at = host_slot(space->delta, slot);

    if (!space->placed || at <= WINDOW_FIRST_SLOT || at >= WINDOW_LAST_SLOT ||
        !reserve(space, at - 1) || !reserve(space, at) || !reserve(space, at + 1))
        return false;
    space->opened[at] = true;
    return true;
}

/* ---- regions ---- */

/* The first region that ends behind `linear`. */
static unsigned find_index(const struct window_space *space, uint64_t linear)
{
    unsigned low = 0, high = space->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct window_region *region = &space->regions[middle];

        /* The last address, for the one that ends where addresses do. */
        if (region->linear + (region->size - 1) < linear)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct window_region *window_space_find(const struct window_space *space, uint64_t linear)
{
    unsigned index = find_index(space, linear);

    if (index == space->count || space->regions[index].linear > linear)
        return NULL;
    return &space->regions[index];
}

static void remove_at(struct window_space *space, unsigned index)
{
    space->count--;
    memmove(&space->regions[index], &space->regions[index + 1],
            (space->count - index) * sizeof(struct window_region));
}

static void insert_at(struct window_space *space, unsigned index,
                      const struct window_region *region)
{
    memmove(&space->regions[index + 1], &space->regions[index],
            (space->count - index) * sizeof(struct window_region));
    space->regions[index] = *region;
    space->count++;
}

/* Whether `second` goes on where `first` ends. */
static bool joins(const struct window_region *first, const struct window_region *second)
{
    return first->linear + first->size == second->linear &&
           first->physical + first->size == second->physical &&
           first->writable == second->writable && first->shift == second->shift;
}

static void insert(struct window_space *space, const struct window_region *region)
{
    unsigned index = find_index(space, region->linear);

    insert_at(space, index, region);
    if (index + 1 < space->count && joins(&space->regions[index], &space->regions[index + 1])) {
        space->regions[index].size += space->regions[index + 1].size;
        remove_at(space, index + 1);
    }
    if (index > 0 && joins(&space->regions[index - 1], &space->regions[index])) {
        space->regions[index - 1].size += space->regions[index].size;
        remove_at(space, index);
    }
}

/* ---- mapping ---- */

static void *host_address(const struct window_space *space, uint64_t linear)
{
    return (void *)(linear + space->delta);
}

/* A whole slot takes no more mappings than before, whatever the host's limit says. */
void window_space_clear(struct window_space *space)
{
    for (int i = 0; i < WINDOW_SLOTS && space->pieces; i++)
        if (space->opened[i] && !window_hide(window_slot_address(i), WINDOW_SLOT_SIZE))
            mprotect(window_slot_address(i), WINDOW_SLOT_SIZE, PROT_NONE);
    space->count = 0;
    space->pieces = 0;
}

/* Where the host refuses, or too many mappings may be there, all goes. */
static void make_inaccessible(struct window_space *space, uint64_t linear, uint64_t size)
{
    space->pieces += 2;
    if (space->pieces >= WINDOW_PIECES || !window_hide(host_address(space, linear), size))
        window_space_clear(space);
}

/* Drop [linear, linear + size) out of the region at `index`, which holds it. */
static void cut_region(struct window_space *space, unsigned index, uint64_t linear, uint64_t size)
{
    struct window_region *region = &space->regions[index], rest = *region;
    uint64_t before = linear - region->linear, behind = region->size - before - size;

    rest.linear = linear + size;
    rest.physical += before + size;
    rest.size = behind;
    if (before) {
        region->size = before;
        index++;
    } else {
        remove_at(space, index);
    }
    if (behind) {
        if (space->count < WINDOW_REGIONS)
            insert_at(space, index, &rest);
        else
            size += behind;
    }
    make_inaccessible(space, linear, size);
}

void window_space_cut(struct window_space *space, uint64_t linear, uint64_t size)
{
    uint64_t last = linear + (size - 1);

    for (;;) {
        unsigned index = find_index(space, linear);
        uint64_t first, end;

        if (index == space->count || space->regions[index].linear > last)
            return;
        first = MAX(linear, space->regions[index].linear);
        end = MIN(last, space->regions[index].linear + (space->regions[index].size - 1));
        cut_region(space, index, first, end - first + 1);
    }
}

/* Where guest-physical [physical, physical + *size) is shown in a region; false: nowhere. */
static bool overlap(const struct window_region *region, uint64_t physical, uint64_t *size,
                    uint64_t *linear)
{
    uint64_t first = MAX(physical, region->physical);
    uint64_t end = MIN(physical + *size, region->physical + region->size);

    if (first >= end)
        return false;
    *linear = region->linear + (first - region->physical);
    *size = end - first;
    return true;
}

void window_space_cut_physical(struct window_space *space, uint64_t physical, uint64_t size)
{
    for (unsigned i = 0; i < space->count;) {
        uint64_t linear, piece = size;

        if (overlap(&space->regions[i], physical, &piece, &linear)) {
            cut_region(space, i, linear, piece);
            i = 0; /* regions have moved */
        } else {
            i++;
        }
    }
}

bool window_space_map(struct window_space *space, struct memory *memory,
                      const struct window_region *region)
{
    unsigned count;

    /* What cuts a region in two takes another one. */
    if (space->count >= WINDOW_REGIONS - 1 || space->pieces >= WINDOW_PIECES / 2)
        window_space_clear(space);
    count = window_show(memory, host_address(space, region->linear), region->physical, region->size,
                        region->writable, (WINDOW_PIECES - space->pieces) / 2);
    space->pieces += 2 * count;
    if (!count) {
        make_inaccessible(space, region->linear, region->size);
        return false;
    }
    insert(space, region);
    return true;
}

void window_space_protect(struct window_space *space, uint64_t page)
{
    page &= PAGE_MASK;
    for (unsigned i = 0; i < space->count; i++) {
        uint64_t linear, size = PAGE_SIZE;

        if (!space->regions[i].writable || !overlap(&space->regions[i], page, &size, &linear))
            continue;
        space->pieces += 2;
        if (space->pieces >= WINDOW_PIECES ||
            mprotect(host_address(space, linear), PAGE_SIZE, PROT_READ) < 0) {
            window_space_clear(space);
            return;
        }
    }
}

bool window_space_unprotect(struct window_space *space, uint64_t linear)
{
    space->pieces += 2;
    if (space->pieces < WINDOW_PIECES)
        return mprotect(host_address(space, linear & PAGE_MASK), PAGE_SIZE,
                        PROT_READ | PROT_WRITE) == 0;
    window_space_clear(space);
    return false;
}
