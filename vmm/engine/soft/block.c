// SPDX-License-Identifier: Apache-2.0
/*
 * The cache of decoded blocks. See block.h.
 *
 * All storage is one anonymous mapping, bump-allocated: blocks that were thrown away leave holes
 * until the whole is emptied. Writers on other threads only put page numbers into a short queue and
 * ask for SOFT_REQUEST_CODE; the vCPU's thread empties it between blocks. So nothing that executes
 * is ever freed under it.
 */
#include "vmm/engine/soft/block.h"

#include <pthread.h>
#include <sched.h>

#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/translator.h"
#include "vmm/memory/memory.h"
#include "vmm/util/sparse.h"

#define INSN_CAPACITY  (2U << 20)
#define BLOCK_CAPACITY (512U << 10)
#define PAGE_CAPACITY  (16U << 10)
#define BLOCK_BUCKETS  (256U << 10)
#define PAGE_BUCKETS   (16U << 10)
#define BLOCK_INSNS    64U /* longest block */
#define QUEUE_LENGTH   64U
#define YIELD_INTERVAL 64U /* blocks that were not kept, until others get the processor */

#define SETTLED UINT64_MAX

/* A guest-physical page that has blocks, or had such as were not kept. */
struct code_page {
    uint64_t page;
    uint64_t mark; /* soft_mark_code's, or SETTLED */
    unsigned unsettled;
    struct soft_block *blocks;
    struct code_page *next; /* with the same hash, or free */
};

struct soft_blocks {
    unsigned insns_used, blocks_used, pages_used;
    struct code_page *free_pages;
    /* What is not kept, decoded anew each time: code of pages that others may write unseen, and an
     * instruction that reaches into no memory. */
    struct insn passing[BLOCK_INSNS];
    struct soft_block passing_block;
    pthread_mutex_t lock; /* of what follows */
    unsigned queued;
    bool unmapped;        /* or too many for the queue */
    _Atomic bool written; /* either says something; read without the lock */
    uint64_t queue[QUEUE_LENGTH];
    struct soft_block *buckets[BLOCK_BUCKETS];
    struct code_page *page_buckets[PAGE_BUCKETS];
    struct code_page pages[PAGE_CAPACITY];
    struct soft_block blocks[BLOCK_CAPACITY];
    struct insn insns[INSN_CAPACITY] __attribute__((aligned(64)));
};

/* The vCPU that this thread runs: its own writes must leave the block. */
static _Thread_local struct soft_cpu *running;

static unsigned hash_pointer(const uint8_t *host)
{
    return (unsigned)((uintptr_t)host * 0x9e3779b97f4a7c15UL >> 46) % BLOCK_BUCKETS;
}

static unsigned hash_page(uint64_t page)
{
    return (unsigned)((page >> 12) * 0x9e3779b97f4a7c15UL >> 50) % PAGE_BUCKETS;
}

struct soft_blocks *soft_blocks_create(struct soft_cpu *cpu)
{
    struct soft_blocks *blocks = sparse_create(sizeof(*blocks));

    if (!blocks)
        return NULL;
    pthread_mutex_init(&blocks->lock, NULL);
    return blocks;
}

void soft_blocks_destroy(struct soft_blocks *blocks)
{
    if (!blocks)
        return;
    pthread_mutex_destroy(&blocks->lock);
    sparse_destroy(blocks, sizeof(*blocks));
}

void soft_blocks_enter(struct soft_cpu *cpu)
{
    running = cpu;
}

void soft_blocks_flush(struct soft_cpu *cpu)
{
    struct soft_blocks *blocks = cpu->blocks;

    /* The memory of a vCPU that never ran is not touched. */
    if (!blocks->pages_used)
        return;
    if (cpu->translator)
        soft_translator_empty(cpu->translator);
    for (unsigned i = 0; i < blocks->blocks_used; i++)
        blocks->blocks[i].host = NULL;
    memset(blocks->buckets, 0, sizeof(blocks->buckets));
    memset(blocks->page_buckets, 0, sizeof(blocks->page_buckets));
    blocks->insns_used = blocks->blocks_used = blocks->pages_used = 0;
    blocks->free_pages = NULL;
}

/* ---- throwing away ---- */

static void unlink_block(struct soft_cpu *cpu, struct soft_block *block)
{
    struct soft_blocks *blocks = cpu->blocks;
    struct soft_block **link = &blocks->buckets[hash_pointer(block->host)];

    while (*link != block)
        link = &(*link)->next;
    *link = block->next;
    block->host = NULL;
    soft_translations_drop(cpu, block);
}

static void drop_page(struct soft_cpu *cpu, uint64_t page)
{
    struct soft_blocks *blocks = cpu->blocks;
    struct code_page **link = &blocks->page_buckets[hash_page(page)], *entry;

    while (*link && (*link)->page != page)
        link = &(*link)->next;
    entry = *link;
    if (!entry)
        return;
    for (struct soft_block *node = entry->blocks; node; node = node->page_next) {
        struct soft_block *block = node->crosser ? node->crosser : node;

        if (block->host)
            unlink_block(cpu, block);
    }
    soft_count(&cpu->counters.pages_dropped);
    *link = entry->next;
    entry->next = blocks->free_pages;
    blocks->free_pages = entry;
}

void soft_blocks_ask(struct soft_cpu *cpu)
{
    if (running == cpu) {
        atomic_fetch_or(&cpu->requests, SOFT_REQUEST_CODE);
        cpu->block_end = true;
    } else {
        soft_request(cpu, SOFT_REQUEST_CODE);
    }
}

void soft_blocks_page_written(struct soft_cpu *cpu, uint64_t page)
{
    struct soft_blocks *blocks = cpu->blocks;

    pthread_mutex_lock(&blocks->lock);
    if (blocks->queued < QUEUE_LENGTH)
        blocks->queue[blocks->queued++] = page & GUEST_PAGE_MASK;
    else
        blocks->unmapped = true;
    atomic_store(&blocks->written, true);
    pthread_mutex_unlock(&blocks->lock);
}

void soft_blocks_unmapped(struct soft_cpu *cpu)
{
    struct soft_blocks *blocks = cpu->blocks;

    pthread_mutex_lock(&blocks->lock);
    blocks->unmapped = true;
    atomic_store(&blocks->written, true);
    pthread_mutex_unlock(&blocks->lock);
}

bool soft_blocks_written(const struct soft_cpu *cpu)
{
    return cpu->blocks && atomic_load(&cpu->blocks->written);
}

void soft_blocks_drain(struct soft_cpu *cpu)
{
    struct soft_blocks *blocks = cpu->blocks;

    pthread_mutex_lock(&blocks->lock);
    if (blocks->unmapped)
        soft_blocks_flush(cpu);
    else
        for (unsigned i = 0; i < blocks->queued; i++)
            drop_page(cpu, blocks->queue[i]);
    blocks->unmapped = false;
    blocks->queued = 0;
    atomic_store(&blocks->written, false);
    pthread_mutex_unlock(&blocks->lock);
}

/* ---- building ---- */

/* The page's entry; a new one marks the page, before its bytes are looked at. */
static struct code_page *page_get(struct soft_cpu *cpu, uint64_t page)
{
    struct soft_blocks *blocks = cpu->blocks;
    struct code_page **bucket = &blocks->page_buckets[hash_page(page)], *entry;

    for (entry = *bucket; entry; entry = entry->next)
        if (entry->page == page)
            return entry;
    entry = blocks->free_pages;
    if (entry)
        blocks->free_pages = entry->next;
    else
        entry = &blocks->pages[blocks->pages_used++];
    *entry = (struct code_page){.page = page, .next = *bucket};
    *bucket = entry;
    entry->mark = soft_mark_code(cpu, page);
    return entry;
}

/* Near branches change nothing but rip; neither does a block that ends for its length. */
static bool chains(const struct insn *last)
{
    return !(last->prefixes & INSN_ENDS_BLOCK) || (last->prefixes & INSN_NEAR_BRANCH);
}

/* A new block of what was decoded, in its bucket and in the list of its page. */
static struct soft_block *add_block(struct soft_cpu *cpu, struct code_page *page,
                                    const uint8_t *host, unsigned count, unsigned bytes)
{
    struct soft_blocks *blocks = cpu->blocks;
    struct soft_block *block = &blocks->blocks[blocks->blocks_used++];
    struct insn *insns = &blocks->insns[blocks->insns_used];
    unsigned bucket = hash_pointer(host);

    soft_count(&cpu->counters.blocks_decoded);
    *block = (struct soft_block){.host = host,
                                 .page = page,
                                 .insns = insns,
                                 .next = blocks->buckets[bucket],
                                 .page_next = page->blocks,
                                 .successor = {block, block},
                                 .count = (uint16_t)count,
                                 .bytes = (uint16_t)bytes,
                                 .code_size = cpu->code_size,
                                 .chains = chains(&insns[count - 1])};
    blocks->insns_used += count;
    blocks->buckets[bucket] = block;
    page->blocks = block;
    return block;
}

/* Whether blocks of a page can be kept. Where they cannot for long, a vCPU that has no processor is
 * waited for. */
static bool settled(const struct soft_cpu *cpu, struct code_page *page)
{
    if (page->mark == SETTLED)
        return true;
    if (soft_mark_settled(cpu, page->mark)) {
        page->mark = SETTLED;
        return true;
    }
    if (++page->unsettled % YIELD_INTERVAL == 0)
        sched_yield();
    return false;
}

/* A block of what was decoded into `passing`. */
static struct soft_block *pass(struct soft_cpu *cpu, unsigned count, unsigned bytes)
{
    struct soft_block *block = &cpu->blocks->passing_block;

    *block = (struct soft_block){.insns = cpu->blocks->passing,
                                 .successor = {block, block},
                                 .count = (uint16_t)count,
                                 .bytes = (uint16_t)bytes,
                                 .code_size = cpu->code_size};
    return block;
}

static struct soft_block *crossing_into_nothing(struct soft_cpu *cpu, const uint8_t *host,
                                                unsigned room)
{
    struct soft_blocks *blocks = cpu->blocks;
    uint8_t bytes[15];

    memset(bytes, 0xff, sizeof(bytes));
    soft_copy(bytes, host, room);
    if (soft_decode(cpu->model, cpu->code_size, bytes, sizeof(bytes), blocks->passing) !=
        SOFT_DECODE_OK)
        soft_general_protection(cpu, 0);
    return pass(cpu, 1, blocks->passing->length);
}

static uint64_t next_page(const struct soft_cpu *cpu, uint64_t linear)
{
    uint64_t next = (linear | (GUEST_PAGE_SIZE - 1)) + 1;

    return cpu->flat ? next : (uint32_t)next;
}

/* The instruction at `linear` needs the next page too: fetch it, which may raise, and decode the
 * bytes of both. */
static struct soft_block *decode_crossing(struct soft_cpu *cpu, struct code_page *page,
                                          uint64_t linear, const uint8_t *host, unsigned room)
{
    struct soft_blocks *blocks = cpu->blocks;
    struct soft_block *block, *stand_in;
    struct code_page *second;
    struct insn *insn;
    const uint8_t *more;
    uint8_t bytes[15];
    uint64_t gpa;
    bool keep;

    more = soft_fetch_page(cpu, next_page(cpu, linear), &gpa);
    if (!more)
        return crossing_into_nothing(cpu, host, room);
    second = page_get(cpu, gpa & GUEST_PAGE_MASK);
    keep = settled(cpu, second) && settled(cpu, page);
    insn = keep ? &blocks->insns[blocks->insns_used] : blocks->passing;
    soft_copy(bytes, host, room);
    soft_copy(bytes + room, more, sizeof(bytes) - room);
    if (soft_decode(cpu->model, cpu->code_size, bytes, sizeof(bytes), insn) != SOFT_DECODE_OK)
        soft_general_protection(cpu, 0);
    if (!keep)
        return pass(cpu, 1, insn->length);
    block = add_block(cpu, page, host, 1, insn->length);
    block->next_host = more;
    stand_in = &blocks->blocks[blocks->blocks_used++];
    *stand_in = (struct soft_block){.crosser = block, .page_next = second->blocks};
    second->blocks = stand_in;
    return block;
}

/* Decode one instruction of guest memory, from a copy: others may write it meanwhile, and a decoder
 * looks at bytes more than once. */
static enum soft_decode_result decode_at(const struct soft_cpu *cpu, const uint8_t *host,
                                         unsigned room, struct insn *insn)
{
    uint8_t bytes[15];

    room = MIN(room, sizeof(bytes));
    soft_copy(bytes, host, room);
    return soft_decode(cpu->model, cpu->code_size, bytes, room, insn);
}

/* Decode from `host` on, until control may leave or the page ends. */
static unsigned decode_run(struct soft_cpu *cpu, const uint8_t *host, unsigned room,
                           struct insn *insns, unsigned *bytes, enum soft_decode_result *result)
{
    unsigned count = 0;

    *bytes = 0;
    *result = SOFT_DECODE_OK;
    while (count < BLOCK_INSNS && *bytes < room) {
        struct insn *insn = &insns[count];

        *result = decode_at(cpu, host + *bytes, room - *bytes, insn);
        if (*result != SOFT_DECODE_OK)
            break;
        count++;
        *bytes += insn->length;
        if (insn->prefixes & INSN_ENDS_BLOCK)
            break;
    }
    return count;
}

/* Whether one more block might not find room. */
static bool is_full(const struct soft_blocks *blocks)
{
    return blocks->insns_used + BLOCK_INSNS > INSN_CAPACITY ||
           blocks->blocks_used + 2 > BLOCK_CAPACITY || blocks->pages_used + 2 > PAGE_CAPACITY;
}

static struct soft_block *build(struct soft_cpu *cpu, uint64_t linear, const uint8_t *host,
                                uint64_t gpa)
{
    struct soft_blocks *blocks = cpu->blocks;
    unsigned room = GUEST_PAGE_SIZE - (linear & (GUEST_PAGE_SIZE - 1)), bytes, count;
    enum soft_decode_result result;
    struct code_page *page;
    bool keep;

    if (is_full(blocks))
        soft_blocks_flush(cpu);
    page = page_get(cpu, gpa & GUEST_PAGE_MASK);
    keep = settled(cpu, page);
    count = decode_run(cpu, host, room, keep ? &blocks->insns[blocks->insns_used] : blocks->passing,
                       &bytes, &result);
    if (count)
        return keep ? add_block(cpu, page, host, count, bytes) : pass(cpu, count, bytes);
    if (result == SOFT_DECODE_TRUNCATED)
        return decode_crossing(cpu, page, linear, host, room);
    soft_general_protection(cpu, 0);
}

/* Whether what a block was decoded from is still there at `linear`. May raise. */
static bool holds(struct soft_cpu *cpu, const struct soft_block *block, uint64_t linear)
{
    uint64_t gpa;

    return !block->next_host ||
           soft_fetch_page(cpu, next_page(cpu, linear), &gpa) == block->next_host;
}

struct soft_block *soft_blocks_find(struct soft_cpu *cpu, uint64_t linear)
{
    uint64_t gpa;
    const uint8_t *host = soft_fetch_page(cpu, linear, &gpa);

    if (__builtin_expect(!host, 0))
        return NULL;
    for (struct soft_block *block = cpu->blocks->buckets[hash_pointer(host)]; block;
         block = block->next)
        if (block->host == host && block->code_size == cpu->code_size && holds(cpu, block, linear))
            return block;
    return build(cpu, linear, host, gpa);
}

const struct soft_block *soft_blocks_beside(struct soft_cpu *cpu, const struct soft_block *block,
                                            const uint8_t *host)
{
    struct soft_blocks *blocks = cpu->blocks;
    unsigned room = GUEST_PAGE_SIZE - ((uintptr_t)host & (GUEST_PAGE_SIZE - 1)), bytes, count;
    enum soft_decode_result result;

    for (struct soft_block *other = blocks->buckets[hash_pointer(host)]; other; other = other->next)
        if (other->host == host && other->code_size == block->code_size)
            return other->next_host ? NULL : other;
    if (!block->page || is_full(blocks) || !settled(cpu, block->page))
        return NULL;
    count = decode_run(cpu, host, room, &blocks->insns[blocks->insns_used], &bytes, &result);
    return count ? add_block(cpu, block->page, host, count, bytes) : NULL;
}
