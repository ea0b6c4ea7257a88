// SPDX-License-Identifier: Apache-2.0
/* mmap(2) of the memory files of guest RAM. See window_map.h. */
#include "vmm/engine/soft/translator/window_map.h"

#include <sys/mman.h>

#include "vmm/util/rcu.h"

#define PAGE_SIZE 0x1000UL
#define LARGE     (2UL << 20) /* of the host, and worth asking for */
#define RESERVED  (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

bool window_slot_reserve(int slot)
{
    void *at = window_slot_address(slot), *got;

    if (slot < WINDOW_FIRST_SLOT || slot > WINDOW_LAST_SLOT)
        return false;
    got = mmap(at, WINDOW_SLOT_SIZE, PROT_NONE, RESERVED | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == MAP_FAILED)
        return false;
    if (got == at)
        return true;
    munmap(got, WINDOW_SLOT_SIZE); /* a host before Linux 4.17 takes it for a hint */
    return false;
}

void window_slot_release(int slot)
{
    munmap(window_slot_address(slot), WINDOW_SLOT_SIZE);
}

/* Map one run of pages with the same rights. */
static bool map_run(void *host, uint64_t size, int fd, uint64_t offset, bool write)
{
    if (mmap(host, size, PROT_READ | (write ? PROT_WRITE : 0),
             MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED)
        return false;
    if (size >= LARGE)
        madvise(host, size, MADV_HUGEPAGE); /* advice */
    return true;
}

static bool find_range(const struct memory *memory, uint64_t physical, struct memory_range *range)
{
    rcu_reader_lock();
    const struct memory_range *found = memory_find(memory, physical);
    if (found)
        *range = *found;
    rcu_reader_unlock();
    return found && found->kind == MEMORY_RAM;
}

/* How many bytes from `offset` in the view on, at most `size`, are alike: a writable alias may be
 * kept of all pages, or of none. */
static uint64_t run_of(const struct memory_view *view, uint64_t offset, uint64_t size, bool *write)
{
    uint64_t run = PAGE_SIZE;

    *write = memory_view_writable(view, offset);
    while (run < size && memory_view_writable(view, offset + run) == *write)
        run += PAGE_SIZE;
    return run;
}

unsigned window_show(struct memory *memory, void *host, uint64_t physical, uint64_t size,
                     bool writable, unsigned limit)
{
    struct memory_range range;
    struct memory_view view;
    int fd = memory_file(memory, physical);
    unsigned count = 0;

    if (fd < 0 || !memory_view(memory, physical, &view) || !find_range(memory, physical, &range) ||
        range.base + range.size - physical < size)
        return 0;
    for (uint64_t done = 0, run; done < size; done += run) {
        uint64_t at = physical + done;
        bool write = false;

        run = size - done;
        if (writable)
            run = run_of(&view, at - view.base, run, &write);
        if (count++ == limit || !map_run((uint8_t *)host + done, run, fd,
                                         range.block_offset + (at - range.base), write))
            return 0;
    }
    return count;
}

bool window_hide(void *host, uint64_t size)
{
    return mmap(host, size, PROT_NONE, RESERVED | MAP_FIXED, -1, 0) != MAP_FAILED;
}
