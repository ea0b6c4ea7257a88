// SPDX-License-Identifier: Apache-2.0
/*
 * Numbers of pages with translated code: of a linear page together with the host's page where it
 * lies. Code compares its page's number with cpu->fetch_id to see whether it is still mapped there.
 *
 * Programs come and go, each at addresses of its own; so when all numbers are given, those that no
 * translation has are taken back. The marks in fetch_id mean nothing then.
 */
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/translator/translation.h"

#define SPARED (PAGE_IDS / 4) /* numbers that a search for unused ones has to find */

static uint32_t *bucket_of(struct soft_translator *translator, uint64_t page, const uint8_t *start)
{
    uint64_t hash = (page ^ (uintptr_t)start >> 8) * 0x9e3779b97f4a7c15UL;

    return &translator->page_buckets[(hash >> 40) % PAGE_IDS];
}

static void enter(struct soft_translator *translator, uint32_t id)
{
    struct code_page_id *page = &translator->pages[id];
    uint32_t *bucket = bucket_of(translator, page->linear, page->host);

    page->next = *bucket;
    *bucket = id;
}

uint32_t code_page_id(struct soft_translator *translator, uint64_t linear, const uint8_t *host)
{
    uint64_t page = linear >> 12;
    const uint8_t *start = (const uint8_t *)((uintptr_t)host & ~0xfffUL);
    uint32_t id = *bucket_of(translator, page, start);

    while (id && (translator->pages[id].host != start || translator->pages[id].linear != page))
        id = translator->pages[id].next;
    if (id)
        return id;
    id = translator->free_page;
    if (id)
        translator->free_page = translator->pages[id].next;
    else if (translator->page_count + 1 < PAGE_IDS)
        id = ++translator->page_count;
    else
        return 0;
    translator->pages[id] = (struct code_page_id){.linear = page, .host = start};
    enter(translator, id);
    return id;
}

void code_pages_empty(struct soft_translator *translator)
{
    memset(translator->page_buckets, 0, sizeof(*translator->page_buckets) * PAGE_IDS);
    translator->page_count = translator->free_page = 0;
    soft_fetch_forget(translator->cpu);
}

/* All that no translation has become free; their number. */
static unsigned sweep(struct soft_translator *translator)
{
    unsigned count = translator->page_count, spared = 0;

    code_pages_empty(translator);
    translator->page_count = count;
    for (unsigned i = 0; i < translator->translation_count; i++) {
        const struct translation *translation = &translator->translations[i];

        if (!translation->block)
            continue;
        translator->pages[translation->page].used = true;
        translator->pages[translation->next_page].used = true; /* number 0 is none */
    }
    for (uint32_t id = 1; id <= count; id++) {
        struct code_page_id *page = &translator->pages[id];

        if (page->used) {
            page->used = false;
            enter(translator, id);
        } else {
            page->next = translator->free_page;
            translator->free_page = id;
            spared++;
        }
    }
    return spared;
}

bool code_pages_ready(struct soft_translator *translator)
{
    if (translator->page_count + 2 < PAGE_IDS)
        return true;
    if (translator->free_page && translator->pages[translator->free_page].next)
        return true;
    return sweep(translator) >= SPARED;
}
