// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory: the one authority on every page.
 *
 * Guest-physical space is a sorted table of ranges, each backed by a part of a block (a shared
 * memfd). The table is immutable, swapped by pointer and reclaimed by RCU. Per page of a block the
 * authority keeps: present, write-protected, has translated code, and one dirty bit per client.
 *
 * Who may write a page without asking: nobody. An engine may cache a writable alias of a page only
 * while memory_write_begin has said so; it drops the alias when its listener is told. Devices use
 * dma.h. Reads need no permission beyond the page being present.
 *
 * A parameter `page` is a guest-physical address; any address in the page will do. Listeners get
 * the address of its first byte.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE  (1UL << GUEST_PAGE_SHIFT)
#define GUEST_PAGE_MASK  (~(GUEST_PAGE_SIZE - 1))

struct memory;

enum memory_kind {
    MEMORY_RAM,
    MEMORY_ROM, /* reads go to the block, writes vanish */
};

/* Those who ask which pages were written. Each has its own bit per page. */
enum memory_client {
    MEMORY_CLIENT_MIGRATION,
    MEMORY_CLIENT_SNAPSHOT,
    MEMORY_CLIENT_PROTECT, /* fault tolerance */
    MEMORY_CLIENT_DISPLAY,
    MEMORY_CLIENTS,
};

/* One range of guest-physical space. Valid until the RCU read section ends. */
struct memory_range {
    uint64_t base; /* guest-physical, page-aligned */
    uint64_t size; /* bytes, page-aligned */
    enum memory_kind kind;
    uint8_t *host; /* where `base` is mapped in this process */
    unsigned slot; /* stable number for KVM's memory slots */
    struct memory_block *block;
    uint64_t block_offset; /* of `base` in the block */
};

struct memory_map {
    unsigned count;
    struct memory_range ranges[];
};

/* An engine's ear. Calls come on any thread, outside of the memory lock, and return only when the
 * engine holds no such alias any more. */
struct memory_listener {
    /* Drop every alias of guest-physical [base, base+size): the range was remapped or removed. */
    void (*unmapped)(void *opaque, uint64_t base, uint64_t size);
    /* Drop writable aliases of the page (kept readable): it became protected, clean for a client,
     * or holds translated code. */
    void (*write_protected)(void *opaque, uint64_t page);
    /* The page was marked by memory_mark_code: as write_protected, which is called where this is
     * missing, but the engine may return before its aliases are gone. Until they are it relies on
     * nothing that it reads of the page now. */
    void (*code_marked)(void *opaque, uint64_t page);
    /* The page holds translated code and is about to be written (by DMA, a debugger or another
     * vCPU): throw its translations away. */
    void (*code_written)(void *opaque, uint64_t page);
    /* The map changed; memory_map() gives the new one. KVM updates its slots. */
    void (*map_changed)(void *opaque);
    /* The first client begins, or the last one ended, to ask for dirty pages: an engine that keeps
     * a log of its own turns it on or off. */
    void (*dirty_tracking)(void *opaque, bool on);
    /* Dirty bits are about to be collected: hand over what the log holds by memory_dirty_mark. */
    void (*dirty_sync)(void *opaque);
    void *opaque;
};

/* An empty guest-physical space. */
struct memory *memory_create(void);
void memory_destroy(struct memory *memory);

/* A sealed memfd of `size` bytes for RAM, named `name` in /proc. -1 and `error` on failure. */
int memory_memfd(const char *name, uint64_t size, GError **error);

/* Back [base, base+size) by `fd` from `offset` on. `fd` is duplicated; it must be a memory file
 * sealed against shrinking (memory_memfd makes one). All three page-aligned, not overlapping an
 * existing range, else an error. Parts of one file may be shown at several places: their pages
 * share their flags. Control thread, machine paused or not started. */
bool memory_add(struct memory *memory, const char *name, enum memory_kind kind, uint64_t base,
                uint64_t size, int fd, uint64_t offset, GError **error);

/* Take the range that begins at `base` away. Control thread, machine paused, no DMA mapped; host
 * addresses in it are invalid at return. */
void memory_remove(struct memory *memory, uint64_t base);

/* The current table; valid inside rcu_read_lock() or while the caller knows it cannot change. */
const struct memory_map *memory_map(const struct memory *memory);

/* The range that holds `gpa`, or NULL. Same validity. Lock-free. */
const struct memory_range *memory_find(const struct memory *memory, uint64_t gpa);

/* The file behind the page at `gpa`, for another process that shall share it; -1 for a hole. It
 * stays the memory's. */
int memory_file(const struct memory *memory, uint64_t gpa);

/* Bytes of RAM in all ranges. */
uint64_t memory_ram_size(const struct memory *memory);

/* `listener` is copied. False and `error` when there are as many as a memory takes. unlisten
 * returns when no call to it is under way; not from inside one. */
bool memory_listen(struct memory *memory, const struct memory_listener *listener, GError **error);
void memory_unlisten(struct memory *memory, void *opaque);

/* Before a page is written directly: makes it present, sets every active client's dirty bit, and
 * throws translated code on it away. Returns its host address, or NULL when the page is no RAM
 * (ROM, hole). `*keep` tells whether the caller may keep a writable alias until write_protected is
 * called (false: ask again for each write). Any thread; cheap when there is nothing to do. */
void *memory_write_begin(struct memory *memory, uint64_t page, bool *keep);

/* Host address of a page for reading (RAM or ROM), or NULL for a hole. Makes it present. */
const void *memory_read_begin(struct memory *memory, uint64_t page);

/* What an engine may keep of a range, to look at its pages without asking each time. It is an alias
 * of all of them: valid until unmapped is called. */
struct memory_view {
    uint64_t base, size; /* of the range; size 0: an empty view */
    uint8_t *host;       /* of base */
    bool ram;
    const uint8_t *flags;  /* of the pages, for memory_view_writable */
    const uint8_t *active; /* likewise */
};

/* The view of the range that holds `gpa`. False for a hole; the view is then empty. */
bool memory_view(struct memory *memory, uint64_t gpa, struct memory_view *view);

/* The page at `offset` in the view may be written through a lasting alias: it is one for which
 * memory_write_begin has nothing to do. False: ask that. */
bool memory_view_writable(const struct memory_view *view, uint64_t offset);

/* The engine translates code of this page; from now on a write asks first. The mark goes away
 * before code_written is called. So an engine marks, reads the bytes, enters the translation and
 * then asks memory_has_code: when the mark is gone, the translation must go too. */
void memory_mark_code(struct memory *memory, uint64_t page);
/* Its last translation is gone. */
void memory_clear_code(struct memory *memory, uint64_t page);
bool memory_has_code(const struct memory *memory, uint64_t page);

/* Dirty tracking. start: all bits of the client are clear and writes are seen from now on.
 * collect: fetch and clear the bits of guest-physical pages [first, first+count) into `bitmap`
 * (count bits, little-endian words), and track them again. mark: from KVM's log or ring. */
void memory_dirty_start(struct memory *memory, enum memory_client client);
void memory_dirty_stop(struct memory *memory, enum memory_client client);
uint64_t memory_dirty_collect(struct memory *memory, enum memory_client client, uint64_t first_page,
                              uint64_t count, uint64_t *bitmap);
void memory_dirty_mark(struct memory *memory, uint64_t page);

/* Copy to and from guest-physical memory, across ranges; for loaders, the debugger and tests.
 * false (nothing or a part copied) when the range is not all RAM; reads accept ROM. Holes are an
 * error. memory_write honours dirty bits and code. memory_load also writes ROM. */
bool memory_read(struct memory *memory, uint64_t gpa, void *buffer, uint64_t size);
bool memory_write(struct memory *memory, uint64_t gpa, const void *buffer, uint64_t size);
bool memory_load(struct memory *memory, uint64_t gpa, const void *buffer, uint64_t size);

/* The next stretch [*begin, *end) at or behind `from`, within one range, whose pages may hold
 * anything but zeros; false when there is none. Allocates nothing. */
bool memory_next_data(const struct memory *memory, uint64_t from, uint64_t *begin, uint64_t *end);

/* Make all of memory, ROM too, zero again and give its pages back to the host. Control thread,
 * vCPUs parked, no DMA mapped. */
void memory_clear(struct memory *memory);
