// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks, ranges and the map of guest-physical space.
 *
 * A block is one file (a memfd that cannot shrink, so that no access can end in SIGBUS), mapped
 * once and whole; a range shows a part of it to the guest. The map is an immutable sorted table:
 * changes build a new one under the lock, publish it and wait for the readers of the old one.
 */
#include "vmm/memory/internal.h"
#include "vmm/util/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* No x86 CPU has more physical address bits. */
#define GUEST_PHYSICAL_LIMIT (1UL << 52)

static bool page_aligned(uint64_t value)
{
    return (value & ~GUEST_PAGE_MASK) == 0;
}

static bool set_errno_error(GError **error, int number, const char *name, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "memory %s: %s: %s", name, what,
                g_strerror(number));
    return false;
}

int memory_memfd(const char *name, uint64_t size, GError **error)
{
    int fd;

    if (size == 0 || !page_aligned(size) || size > GUEST_PHYSICAL_LIMIT) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "memory %s: %" PRIu64 " bytes is no size in whole pages", name, size);
        return -1;
    }
    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        set_errno_error(error, errno, name, "cannot create a memory file");
        return -1;
    }
    if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
        set_errno_error(error, errno, name, "cannot give the memory file its size");
        close(fd);
        return -1;
    }
    return fd;
}

struct memory *memory_create(void)
{
    struct memory *memory = g_new0(struct memory, 1);

    memory->map = g_malloc0(sizeof(*memory->map));
    memory->blocks = g_ptr_array_new();
    g_mutex_init(&memory->lock);
    g_cond_init(&memory->calls_ended);
    return memory;
}

static void block_destroy(struct memory_block *block)
{
    if (block->host)
        munmap(block->host, block->size);
    if (block->flags)
        munmap(block->flags, block->size >> GUEST_PAGE_SHIFT);
    if (block->fd >= 0)
        close(block->fd);
    g_free(block->name);
    g_free(block);
}

void memory_destroy(struct memory *memory)
{
    if (!memory)
        return;
    for (unsigned i = 0; i < memory->blocks->len; i++)
        block_destroy(g_ptr_array_index(memory->blocks, i));
    g_ptr_array_unref(memory->blocks);
    g_mutex_clear(&memory->lock);
    g_cond_clear(&memory->calls_ended);
    g_free(memory->map);
    g_free(memory);
}

/* A file that can shrink under its mapping would turn a guest's access into SIGBUS. */
static bool file_is_safe(const char *name, int fd, struct stat *st, GError **error)
{
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || !(seals & F_SEAL_SHRINK)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NOT_SUPPORTED,
                    "memory %s: its file could shrink; use a memory file that is sealed against it",
                    name);
        return false;
    }
    if (fstat(fd, st) < 0)
        return set_errno_error(error, errno, name, "cannot look at its file");
    return true;
}

static void *map_or_null(uint64_t size, int flags, int fd)
{
    void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);

    return host == MAP_FAILED ? NULL : host;
}

static struct memory_block *block_create(const char *name, int fd, const struct stat *st,
                                         GError **error)
{
    struct memory_block *block = g_new0(struct memory_block, 1);

    block->name = g_strdup(name);
    block->device = st->st_dev;
    block->inode = st->st_ino;
    block->size = (uint64_t)st->st_size & GUEST_PAGE_MASK;
    block->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (block->fd >= 0)
        block->host = map_or_null(block->size, MAP_SHARED, block->fd);
    if (block->host)
        block->flags =
            map_or_null(block->size >> GUEST_PAGE_SHIFT, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (!block->flags) {
        set_errno_error(error, errno, name, "cannot map it");
        block_destroy(block);
        return NULL;
    }
    /* Both are advice: where the host refuses, nothing is lost. */
    madvise(block->host, block->size, MADV_HUGEPAGE);
    madvise(block->host, block->size, MADV_DONTDUMP);
    return block;
}

static struct memory_block *find_block(const struct memory *memory, const struct stat *st)
{
    for (unsigned i = 0; i < memory->blocks->len; i++) {
        struct memory_block *block = g_ptr_array_index(memory->blocks, i);

        if (block->device == st->st_dev && block->inode == st->st_ino)
            return block;
    }
    return NULL;
}

static bool check_place(const struct memory *memory, const char *name, uint64_t base, uint64_t size,
                        GError **error)
{
    if (size == 0 || !page_aligned(base) || !page_aligned(size) || base >= GUEST_PHYSICAL_LIMIT ||
        size > GUEST_PHYSICAL_LIMIT - base) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "memory %s: 0x%" PRIx64 " bytes at 0x%" PRIx64
                    " are not whole pages below 4 PiB",
                    name, size, base);
        return false;
    }
    for (unsigned i = 0; i < memory->map->count; i++) {
        const struct memory_range *range = &memory->map->ranges[i];

        if (base < range->base + range->size && range->base < base + size) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_EXISTS,
                        "memory %s: 0x%" PRIx64 " bytes at 0x%" PRIx64 " overlap %s", name, size,
                        base, range->block->name);
            return false;
        }
    }
    return true;
}

static unsigned free_slot(const struct memory_map *map)
{
    for (unsigned slot = 0;; slot++) {
        bool used = false;

        for (unsigned i = 0; i < map->count; i++)
            used |= map->ranges[i].slot == slot;
        if (!used)
            return slot;
    }
}

/* The old map with `added` put in at its place. */
static struct memory_map *map_with(const struct memory_map *old, const struct memory_range *added)
{
    struct memory_map *map =
        g_malloc(sizeof(*map) + (old->count + 1) * sizeof(struct memory_range));
    unsigned at = 0;

    while (at < old->count && old->ranges[at].base < added->base)
        at++;
    map->count = old->count + 1;
    memcpy(map->ranges, old->ranges, at * sizeof(*added));
    map->ranges[at] = *added;
    memcpy(&map->ranges[at + 1], &old->ranges[at], (old->count - at) * sizeof(*added));
    return map;
}

static struct memory_map *map_without(const struct memory_map *old, unsigned at)
{
    struct memory_map *map = g_malloc(sizeof(*map) + old->count * sizeof(struct memory_range));

    map->count = old->count - 1;
    memcpy(map->ranges, old->ranges, at * sizeof(struct memory_range));
    memcpy(&map->ranges[at], &old->ranges[at + 1], (map->count - at) * sizeof(struct memory_range));
    return map;
}

static bool add_locked(struct memory *memory, const char *name, struct memory_range *range, int fd,
                       GError **error)
{
    struct memory_map *old = memory->map;
    struct stat st;

    if (!check_place(memory, name, range->base, range->size, error) ||
        !file_is_safe(name, fd, &st, error))
        return false;
    if (!page_aligned(range->block_offset) || range->block_offset > (uint64_t)st.st_size ||
        range->size > (uint64_t)st.st_size - range->block_offset) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "memory %s: its file of %" PRIu64 " bytes has no 0x%" PRIx64
                    " bytes at 0x%" PRIx64,
                    name, (uint64_t)st.st_size, range->size, range->block_offset);
        return false;
    }
    range->block = find_block(memory, &st);
    if (!range->block) {
        range->block = block_create(name, fd, &st, error);
        if (!range->block)
            return false;
        g_ptr_array_add(memory->blocks, range->block);
    }
    range->block->ranges++;
    range->host = range->block->host + range->block_offset;
    range->slot = free_slot(old);
    rcu_store(&memory->map, map_with(old, range));
    rcu_wait_for_readers();
    g_free(old);
    return true;
}

bool memory_add(struct memory *memory, const char *name, enum memory_kind kind, uint64_t base,
                uint64_t size, int fd, uint64_t offset, GError **error)
{
    struct memory_range range = {.base = base, .size = size, .kind = kind, .block_offset = offset};
    struct listener_calls calls;
    bool added;

    g_mutex_lock(&memory->lock);
    added = add_locked(memory, name, &range, fd, error);
    g_mutex_unlock(&memory->lock);
    if (!added)
        return false;
    memory_calls_begin(memory, &calls);
    memory_call_map_changed(&calls);
    memory_calls_end(memory, &calls);
    return true;
}

/* Takes the range that begins at `base` out of the map and gives it in `removed`. */
static bool remove_locked(struct memory *memory, uint64_t base, struct memory_range *removed)
{
    struct memory_map *old = memory->map;
    unsigned at = 0;

    while (at < old->count && old->ranges[at].base != base)
        at++;
    if (at == old->count)
        return false;
    *removed = old->ranges[at];
    rcu_store(&memory->map, map_without(old, at));
    rcu_wait_for_readers();
    g_free(old);
    return true;
}

void memory_remove(struct memory *memory, uint64_t base)
{
    struct memory_range removed;
    struct listener_calls calls;
    bool found;

    g_mutex_lock(&memory->lock);
    found = remove_locked(memory, base, &removed);
    g_mutex_unlock(&memory->lock);
    if (!found)
        return;
    memory_calls_begin(memory, &calls);
    memory_call_unmapped(&calls, removed.base, removed.size);
    memory_call_map_changed(&calls);
    memory_calls_end(memory, &calls);
    /* Only now does nobody hold a host address of the range. */
    g_mutex_lock(&memory->lock);
    if (--removed.block->ranges == 0) {
        g_ptr_array_remove_fast(memory->blocks, removed.block);
        block_destroy(removed.block);
    }
    g_mutex_unlock(&memory->lock);
}

const struct memory_map *memory_map(const struct memory *memory)
{
    return rcu_load(&memory->map);
}

const struct memory_range *memory_find(const struct memory *memory, uint64_t gpa)
{
    const struct memory_map *map = memory_map(memory);
    unsigned low = 0, high = map->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct memory_range *range = &map->ranges[middle];

        if (gpa < range->base)
            high = middle;
        else if (gpa - range->base >= range->size)
            low = middle + 1;
        else
            return range;
    }
    return NULL;
}

int memory_file(const struct memory *memory, uint64_t gpa)
{
    rcu_reader_lock();
    const struct memory_range *range = memory_find(memory, gpa);
    int fd = range ? range->block->fd : -1;
    rcu_reader_unlock();
    return fd;
}

uint64_t memory_ram_size(const struct memory *memory)
{
    uint64_t size = 0;

    rcu_reader_lock();
    const struct memory_map *map = memory_map(memory);
    for (unsigned i = 0; i < map->count; i++)
        if (map->ranges[i].kind == MEMORY_RAM)
            size += map->ranges[i].size;
    rcu_reader_unlock();
    return size;
}
