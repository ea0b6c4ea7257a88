// SPDX-License-Identifier: Apache-2.0
/*
 * RAM into and out of streams; stream.h has the format of a chunk.
 */
#include "vmm/memory/ram_stream.h"
#include "vmm/util/fault.h"

#include <inttypes.h>
#include <string.h>

#define CHUNK_BYTES (STREAM_RAM_PAGES * GUEST_PAGE_SIZE)

static bool page_is_zero(const void *page)
{
    const uint64_t *words = page;
    uint64_t any = 0;

    for (size_t i = 0; i < GUEST_PAGE_SIZE / sizeof(*words); i++)
        any |= words[i];
    return any == 0;
}

/* One section for the pages from `base` on. `buffer` has room for head and all pages. */
static bool write_chunk(struct memory *memory, struct stream_writer *writer, uint64_t base,
                        uint32_t pages, uint8_t *buffer, GError **error)
{
    struct stream_ram_chunk chunk = {.base = base, .pages = pages};
    uint8_t *at = buffer + sizeof(chunk);

    for (uint32_t i = 0; i < pages; i++) {
        const void *page = memory_read_begin(memory, base + i * GUEST_PAGE_SIZE);

        if (!page || page_is_zero(page))
            continue;
        chunk.present[i / 64] |= 1UL << (i % 64);
        memcpy(at, page, GUEST_PAGE_SIZE);
        at += GUEST_PAGE_SIZE;
    }
    memcpy(buffer, &chunk, sizeof(chunk));
    return stream_write(writer, STREAM_RAM, STREAM_RAM_VERSION, 0, buffer, (size_t)(at - buffer),
                        error);
}

/* What there is to write, zeros included. */
static uint64_t count_bytes(struct memory *memory)
{
    uint64_t at = 0, begin, end, bytes = 0;

    for (; memory_next_data(memory, at, &begin, &end); at = end)
        bytes += end - begin;
    return bytes;
}

bool ram_stream_write(struct memory *memory, struct stream_writer *writer, GError **error)
{
    struct stream_progress *progress = stream_writer_progress(writer);
    g_autofree uint8_t *buffer = g_malloc(sizeof(struct stream_ram_chunk) + CHUNK_BYTES);
    uint64_t at = 0, begin, end;

    if (progress)
        atomic_store(&progress->total, count_bytes(memory));
    for (; memory_next_data(memory, at, &begin, &end); at = end)
        for (uint64_t base = begin; base < end; base += CHUNK_BYTES) {
            uint32_t pages = (uint32_t)(MIN(end - base, CHUNK_BYTES) / GUEST_PAGE_SIZE);

            if (!write_chunk(memory, writer, base, pages, buffer, error))
                return false;
            if (progress)
                atomic_fetch_add(&progress->done, (uint64_t)pages * GUEST_PAGE_SIZE);
        }
    return true;
}

static bool refuse(GError **error, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "stream: a section of RAM %s", what);
    return false;
}

/* The chunk's numbers agree with each other and with the length of its section. */
static bool check_chunk(const struct stream_ram_chunk *chunk, size_t size, GError **error)
{
    uint64_t present = 0;

    if (chunk->pages == 0 || chunk->pages > STREAM_RAM_PAGES || chunk->reserved ||
        (chunk->base & ~GUEST_PAGE_MASK) || chunk->base > UINT64_MAX - CHUNK_BYTES)
        return refuse(error, "has a head that makes no sense");
    for (uint32_t i = 0; i < STREAM_RAM_PAGES; i++) {
        bool is_present = chunk->present[i / 64] >> (i % 64) & 1;

        if (is_present && i >= chunk->pages)
            return refuse(error, "has pages beyond its end");
        present += is_present;
    }
    if (size != sizeof(*chunk) + present * GUEST_PAGE_SIZE)
        return refuse(error, "is not as long as its pages");
    return true;
}

bool ram_stream_load(struct memory *memory, const struct stream_section *section, GError **error)
{
    gsize size;
    const uint8_t *at = g_bytes_get_data(section->content, &size);
    struct stream_ram_chunk chunk;

    if (section->version != STREAM_RAM_VERSION)
        return refuse(error, "has an unknown version");
    if (size < sizeof(chunk))
        return refuse(error, "has no head");
    memcpy(&chunk, at, sizeof(chunk));
    if (!check_chunk(&chunk, size, error))
        return false;
    at += sizeof(chunk);
    for (uint32_t i = 0; i < chunk.pages; i++) {
        if (!(chunk.present[i / 64] >> (i % 64) & 1))
            continue;
        if (!memory_load(memory, chunk.base + i * GUEST_PAGE_SIZE, at, GUEST_PAGE_SIZE))
            return refuse(error, "lies where the machine has none");
        at += GUEST_PAGE_SIZE;
    }
    return true;
}
