// SPDX-License-Identifier: Apache-2.0
/*
 * The two views are made of a shared anonymous mapping and a second one of the same pages
 * (mremap(2), with an old size of 0). A memory file would do as well, but perf(1) looks for the
 * names of code in /tmp/perf-PID.map only where a mapping has no file of its own.
 */
#include "vmm/engine/soft/translator/code_cache.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE_MAX_EACH (128UL << 20)
#define SIZE_MAX_ALL  (1UL << 30)
#define HUGE_PAGE     (2UL << 20)

#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif

static GMutex lock;
static GArray *spare; /* of struct code_cache: mapped and not in use; by `lock` */
static bool prepared; /* no more may be mapped; by `lock` */
static bool told;     /* that the host refuses; by `lock` */

size_t code_cache_share(unsigned cpus)
{
    size_t share = MIN(SIZE_MAX_EACH, SIZE_MAX_ALL / MAX(cpus, 1));

    return share & ~(HUGE_PAGE - 1);
}

/* Address space for a view, at a boundary of a huge page; what is over is given back. */
static uint8_t *reserve(size_t size)
{
    uint8_t *room =
        mmap(NULL, size + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *view;

    if (room == MAP_FAILED)
        return NULL;
    view = (uint8_t *)(((uintptr_t)room + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    if (view != room)
        munmap(room, (size_t)(view - room));
    munmap(view + size, (size_t)(room + HUGE_PAGE - view));
    return view;
}

/* Map the pages into both views. */
static bool map_views(uint8_t *write, uint8_t *execute, size_t size)
{
    return mmap(write, size, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED &&
           mremap(write, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, execute) != MAP_FAILED &&
           mprotect(execute, size, PROT_READ | PROT_EXEC) == 0;
}

static bool map(struct code_cache *cache, size_t size)
{
    uint8_t *write = reserve(size), *execute = reserve(size);
    int reason;

    if (write && execute && map_views(write, execute, size)) {
        *cache = (struct code_cache){.write = write, .execute = execute - write, .size = size};
        return true;
    }
    reason = errno;
    if (write)
        munmap(write, size);
    if (execute)
        munmap(execute, size);
    errno = reason;
    return false;
}

/* With the lock held. */
static bool map_and_tell(struct code_cache *cache, size_t size)
{
    if (map(cache, size))
        return true;
    if (!told)
        g_message("engine soft: the host gives no memory for code (%s); guests run slower",
                  g_strerror(errno));
    told = true;
    return false;
}

/* With the lock held. */
static void keep(const struct code_cache *cache)
{
    if (!spare)
        spare = g_array_new(FALSE, FALSE, sizeof(struct code_cache));
    g_array_append_val(spare, *cache);
}

/* With the lock held. */
static bool take_spare(struct code_cache *cache, size_t size)
{
    for (unsigned i = 0; spare && i < spare->len; i++) {
        *cache = g_array_index(spare, struct code_cache, i);
        if (cache->size == size) {
            g_array_remove_index_fast(spare, i);
            return true;
        }
    }
    return false;
}

void code_cache_prepare(unsigned cpus)
{
    struct code_cache cache;

    g_mutex_lock(&lock);
    for (unsigned i = 0; i < cpus && map_and_tell(&cache, code_cache_share(cpus)); i++)
        keep(&cache);
    prepared = true;
    g_mutex_unlock(&lock);
}

bool code_cache_init(struct code_cache *cache, size_t size, GError **error)
{
    bool good;

    g_mutex_lock(&lock);
    errno = ENOMEM;
    good = take_spare(cache, size) || (!prepared && map_and_tell(cache, size));
    if (!good) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "no memory for translated code: %s", g_strerror(errno));
        *cache = (struct code_cache){0};
    }
    g_mutex_unlock(&lock);
    return good;
}

void code_cache_fini(struct code_cache *cache)
{
    if (!cache->write)
        return;
    code_cache_empty(cache);
    g_mutex_lock(&lock);
    keep(cache);
    g_mutex_unlock(&lock);
    *cache = (struct code_cache){0};
}

void code_cache_empty(struct code_cache *cache)
{
    madvise(cache->write, cache->size, MADV_REMOVE);
}

void code_cache_settle(struct code_cache *cache, const uint8_t *from, const uint8_t *to)
{
    size_t first = (size_t)(from - cache->write) / HUGE_PAGE;
    size_t last = (size_t)(to - cache->write) / HUGE_PAGE;

    if (first != last)
        madvise(cache->write + cache->execute + first * HUGE_PAGE, (last - first) * HUGE_PAGE,
                MADV_COLLAPSE);
}
