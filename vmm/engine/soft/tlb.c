// SPDX-License-Identifier: Apache-2.0
/*
 * The TLB's bookkeeping (SDM 3A, 4.10).
 *
 * One direct-mapped table for each access mode, and for fetches two of their own. Each filled entry
 * stands in a log: one for global pages, one for the others, so that a write of CR3 costs what was
 * filled since the last one. The table holds one PCID's entries at a time, beside the global ones.
 * At a change of PCID the old one's are put aside, and the new one's come back unless they were
 * flushed meanwhile. Fragments of a large page are entries of their own; a table tells which large
 * regions have any, so that INVLPG looks for them only there.
 *
 * A page that takes a slot from another puts that one's entry among a few victims, where the next
 * miss finds it: two pages of one slot that are used in turn (a copy over a multiple of 4 MB) cost
 * no walk each time.
 *
 * Which entries may be writable is hashed by guest-physical page, so that a page is protected
 * without a search.
 */
#include "vmm/engine/soft/tlb.h"
#include "vmm/engine/soft/system.h"

#define LOG_OTHER  0
#define LOG_GLOBAL 1
#define IS_GLOBAL  (1U << 2) /* in `logged`: the slot's present entry is of a global page */
#define PCID_MASK  0xfffU
#define PAGE_MASK  (~0xfffUL)
#define SLOTS      (SOFT_MMU_MODES * SOFT_TLB_ENTRIES)

static struct soft_tlb_entry *slot(struct soft_cpu *cpu, unsigned index)
{
    return &cpu->tlb[index / SOFT_TLB_ENTRIES][index % SOFT_TLB_ENTRIES];
}

static void clear(struct soft_tlb_entry *entry)
{
    entry->read_tag = entry->write_tag = SOFT_TLB_NONE;
}

static bool is_of_fetches(unsigned index)
{
    return index >= SOFT_MMU_USER_FETCH * SOFT_TLB_ENTRIES;
}

/* The mark of a slot of fetches. */
static uint32_t *fetch_id(struct soft_cpu *cpu, unsigned index)
{
    return &cpu->fetch_id[index / SOFT_TLB_ENTRIES == SOFT_MMU_USER_FETCH]
                         [index % SOFT_TLB_ENTRIES];
}

/* Clear a slot, and the mark that vouched for it. */
static void clear_slot(struct soft_cpu *cpu, unsigned index)
{
    clear(slot(cpu, index));
    if (is_of_fetches(index))
        *fetch_id(cpu, index) = 0;
}

/* Whether an entry is of the region of 1 << shift bytes around `linear`. */
static bool holds(const struct soft_tlb_entry *entry, uint64_t linear, unsigned shift)
{
    return entry->read_tag >> shift == linear >> shift;
}

static bool empty(const struct soft_tlb_entry *entry)
{
    return entry->read_tag == SOFT_TLB_NONE;
}

static bool is_global(const struct soft_cpu *cpu, unsigned index)
{
    return cpu->tlb_log.logged[index] & IS_GLOBAL;
}

/* The slot is filled for a page that is global or not. */
static void log_fill(struct soft_tlb_log *log, unsigned index, bool global)
{
    unsigned which = global ? LOG_GLOBAL : LOG_OTHER;

    if (global)
        log->logged[index] |= IS_GLOBAL;
    else
        log->logged[index] &= (uint8_t)~IS_GLOBAL;
    if (log->logged[index] & 1U << which)
        return;
    log->logged[index] |= 1U << which;
    log->filled[which][log->count[which]++] = index;
}

/* ---- which slots may be writable ---- */

static struct soft_writable_set *writable_set(struct soft_tlb_log *log, uint64_t page)
{
    uint64_t hash = (page >> 12) * 0x9e3779b97f4a7c15UL;

    return &log->writable[hash >> 53 & (SOFT_WRITABLE_SETS - 1)];
}

/* Whether a way of a set names no slot that is writable for a page of that set. */
static bool way_is_free(struct soft_cpu *cpu, const struct soft_writable_set *set, unsigned way)
{
    unsigned index = set->slot[way] - 1U;

    return !set->slot[way] || slot(cpu, index)->write_tag == SOFT_TLB_NONE ||
           writable_set(&cpu->tlb_log, slot(cpu, index)->page) != set;
}

static void note_writable(struct soft_cpu *cpu, unsigned index)
{
    struct soft_writable_set *set = writable_set(&cpu->tlb_log, slot(cpu, index)->page);

    for (unsigned way = 0; way < SOFT_WRITABLE_WAYS; way++)
        if (set->slot[way] == index + 1)
            return;
    for (unsigned way = 0; way < SOFT_WRITABLE_WAYS; way++) {
        if (!way_is_free(cpu, set, way))
            continue;
        set->slot[way] = (uint16_t)(index + 1);
        return;
    }
    set->overflowed = 1;
    cpu->tlb_log.writable_overflowed = true;
}

static void protect_slot(struct soft_cpu *cpu, unsigned index, uint64_t page)
{
    if (slot(cpu, index)->page == page)
        slot(cpu, index)->write_tag = SOFT_TLB_NONE;
}

void soft_tlb_protect(struct soft_cpu *cpu, uint64_t page)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    struct soft_writable_set *set;

    page &= PAGE_MASK;
    log->protected[log->protects++ % SOFT_PROTECTS] = page;
    set = writable_set(log, page);
    for (unsigned way = 0; way < SOFT_WRITABLE_WAYS; way++)
        if (set->slot[way])
            protect_slot(cpu, set->slot[way] - 1U, page);
    if (set->overflowed)
        for (unsigned which = 0; which < 2; which++)
            for (unsigned i = 0; i < log->count[which]; i++)
                protect_slot(cpu, log->filled[which][i], page);
    if (!log->victims_used)
        return;
    for (unsigned mode = 0; mode < SOFT_MMU_MODES; mode++)
        for (unsigned i = 0; i < SOFT_TLB_VICTIMS; i++)
            if (log->victims[mode][i].entry.page == page)
                log->victims[mode][i].entry.write_tag = SOFT_TLB_NONE;
}

/* ---- victims ---- */

/* Put what a slot holds among the victims. */
static void put_out(struct soft_cpu *cpu, unsigned mode, unsigned line)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    struct soft_tlb_entry *entry = &cpu->tlb[mode][line];
    unsigned index = mode * SOFT_TLB_ENTRIES + line;

    if (empty(entry))
        return;
    unsigned at = log->next_victim++ % SOFT_TLB_VICTIMS;

    log->victim_tag[mode][at] = entry->read_tag;
    log->victims[mode][at] = (struct soft_tlb_victim){
        .entry = *entry,
        .global = is_global(cpu, index),
    };
    log->victims_used = true;
    clear_slot(cpu, index);
}

bool soft_tlb_recall(struct soft_cpu *cpu, unsigned mode, uint64_t linear, enum soft_access access)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    unsigned line = linear >> 12 & (SOFT_TLB_ENTRIES - 1);

    if (!log->victims_used)
        return false;
    for (unsigned i = 0; i < SOFT_TLB_VICTIMS; i++) {
        struct soft_tlb_victim victim;

        if (log->victim_tag[mode][i] != (linear & PAGE_MASK))
            continue;
        victim = log->victims[mode][i];
        if (access == SOFT_WRITE && victim.entry.write_tag == SOFT_TLB_NONE)
            continue;
        log->victim_tag[mode][i] = SOFT_TLB_NONE;
        put_out(cpu, mode, line);
        cpu->tlb[mode][line] = victim.entry;
        log_fill(log, mode * SOFT_TLB_ENTRIES + line, victim.global);
        if (victim.entry.write_tag != SOFT_TLB_NONE)
            note_writable(cpu, mode * SOFT_TLB_ENTRIES + line);
        return true;
    }
    return false;
}

/* Clear the victims of the region of 1 << shift bytes around `linear`. */
static void flush_victims(struct soft_cpu *cpu, uint64_t linear, unsigned shift)
{
    uint64_t *tag = cpu->tlb_log.victim_tag[0], region = ~0UL << shift;

    if (!cpu->tlb_log.victims_used)
        return;
    for (unsigned i = 0; i < SOFT_MMU_MODES * SOFT_TLB_VICTIMS; i++)
        if (!((tag[i] ^ linear) & region))
            tag[i] = SOFT_TLB_NONE;
}

static void flush_all_victims(struct soft_cpu *cpu, bool global_too)
{
    const struct soft_tlb_victim *victim = cpu->tlb_log.victims[0];
    uint64_t *tag = cpu->tlb_log.victim_tag[0];

    if (!cpu->tlb_log.victims_used)
        return;
    for (unsigned i = 0; i < SOFT_MMU_MODES * SOFT_TLB_VICTIMS; i++)
        if (global_too || !victim[i].global)
            tag[i] = SOFT_TLB_NONE;
    cpu->tlb_log.victims_used = !global_too;
}

/* ---- large pages ---- */

/* The fragments of a 2 MB page lie in one run of slots. */
static void flush_2mb(struct soft_cpu *cpu, uint64_t linear)
{
    unsigned first = linear >> 12 & (SOFT_TLB_ENTRIES - 1) & ~511U;

    for (unsigned mode = 0; mode < SOFT_MMU_MODES; mode++)
        for (unsigned i = first; i < first + 512; i++)
            if (holds(&cpu->tlb[mode][i], linear, 21))
                clear_slot(cpu, mode * SOFT_TLB_ENTRIES + i);
    flush_victims(cpu, linear, 21);
}

/* Those of larger pages are anywhere. */
static void flush_1gb(struct soft_cpu *cpu, uint64_t linear)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (holds(slot(cpu, i), linear, 30))
            clear_slot(cpu, i);
    flush_victims(cpu, linear, 30);
}

static uint64_t *region_set(struct soft_regions *regions, uint64_t region)
{
    return regions->region[region * 0x9e3779b97f4a7c15UL >> 48 & (SOFT_REGION_SETS - 1)];
}

static void note_region(struct soft_regions *regions, uint64_t region)
{
    uint64_t *set = region_set(regions, region);

    regions->used = true;
    for (unsigned way = 0; way < SOFT_REGION_WAYS; way++) {
        if (set[way] != region && set[way] != SOFT_NO_REGION)
            continue;
        set[way] = region;
        return;
    }
    regions->overflowed = true;
}

/* Whether a region was noted. It stays so: entries that were put aside may be of it. */
static bool region_noted(struct soft_regions *regions, uint64_t region)
{
    const uint64_t *set = region_set(regions, region);

    if (!regions->used)
        return false;
    for (unsigned way = 0; way < SOFT_REGION_WAYS; way++)
        if (set[way] == region)
            return true;
    return regions->overflowed;
}

static void forget_regions(struct soft_regions *regions)
{
    if (!regions->used)
        return;
    memset(regions->region, 0xff, sizeof(regions->region));
    regions->used = regions->overflowed = false;
}

/* ---- filling ---- */

void soft_tlb_fill(struct soft_cpu *cpu, unsigned mode, uint64_t linear, enum soft_access access,
                   const struct soft_translation *translation, const void *host)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    unsigned line = linear >> 12 & (SOFT_TLB_ENTRIES - 1);
    unsigned index = mode * SOFT_TLB_ENTRIES + line;
    struct soft_tlb_entry *entry = &cpu->tlb[mode][line];
    uint64_t tag = linear & PAGE_MASK, page = translation->physical & PAGE_MASK;
    uintptr_t delta = (uintptr_t)host - tag;

    if (translation->shift == 30)
        note_region(&log->giant, linear >> 30);
    else if (translation->shift > 12)
        note_region(&log->large, linear >> 21);
    if (entry->host != delta || entry->page != page ||
        is_global(cpu, index) != translation->global) {
        if (holds(entry, linear, 12))
            clear_slot(cpu, index);
        else
            put_out(cpu, mode, line);
        entry->host = delta;
        entry->page = page;
    }
    entry->read_tag = tag;
    if (access == SOFT_WRITE) {
        entry->write_tag = tag;
        note_writable(cpu, index);
    }
    log_fill(log, index, translation->global);
    log->user_high |= mode == SOFT_MMU_USER && linear > UINT32_MAX;
}

/* ---- flushing ---- */

/* Clear all entries of a log. A slot that was filled again from the other log's pages stays. */
static void flush_log(struct soft_cpu *cpu, unsigned which)
{
    struct soft_tlb_log *log = &cpu->tlb_log;

    for (unsigned i = 0; i < log->count[which]; i++) {
        unsigned index = log->filled[which][i];

        if (is_global(cpu, index) == (which == LOG_GLOBAL))
            clear_slot(cpu, index);
        log->logged[index] &= ~(1U << which);
    }
    log->count[which] = 0;
}

void soft_tlb_init(struct soft_cpu *cpu)
{
    struct soft_tlb_log *log = &cpu->tlb_log;

    memset(log, 0, sizeof(*log));
    for (unsigned i = 0; i < SLOTS; i++) {
        clear_slot(cpu, i);
        slot(cpu, i)->host = 0;
    }
    log->victims_used = log->large.used = log->giant.used = true;
    flush_all_victims(cpu, true);
    forget_regions(&log->large);
    forget_regions(&log->giant);
    log->generation = 1;
}

void soft_tlb_flush(struct soft_cpu *cpu, bool global_too)
{
    struct soft_tlb_log *log = &cpu->tlb_log;

    soft_count(&cpu->counters.flushes);
    flush_log(cpu, LOG_OTHER);
    flush_all_victims(cpu, global_too);
    if (!global_too)
        return;
    flush_log(cpu, LOG_GLOBAL);
    soft_tlb_flush_contexts(cpu);
    forget_regions(&log->large);
    forget_regions(&log->giant);
    soft_page_forget(cpu);
    log->generation++;
    if (!log->writable_overflowed)
        return;
    memset(log->writable, 0, sizeof(log->writable));
    log->writable_overflowed = false;
}

void soft_tlb_drop_high(struct soft_cpu *cpu)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    unsigned first = SOFT_MMU_USER * SOFT_TLB_ENTRIES;

    if (!log->user_high)
        return;
    for (unsigned i = first; i < first + SOFT_TLB_ENTRIES; i++)
        if (slot(cpu, i)->read_tag > UINT32_MAX)
            clear_slot(cpu, i);
    for (unsigned i = 0; i < SOFT_TLB_VICTIMS; i++)
        if (log->victim_tag[SOFT_MMU_USER][i] > UINT32_MAX)
            log->victim_tag[SOFT_MMU_USER][i] = SOFT_TLB_NONE;
    log->user_high = false;
}

/* ---- PCIDs ---- */

static struct soft_context *context_of(struct soft_cpu *cpu, unsigned pcid)
{
    for (unsigned i = 0; i < SOFT_CONTEXTS; i++) {
        struct soft_context *context = &cpu->tlb_log.contexts[i];

        if (context->used && (context->cr3 & PCID_MASK) == pcid)
            return context;
    }
    return NULL;
}

/* A place for another one. */
static struct soft_context *free_context(struct soft_cpu *cpu)
{
    struct soft_tlb_log *log = &cpu->tlb_log;

    for (unsigned i = 0; i < SOFT_CONTEXTS; i++)
        if (!log->contexts[i].used)
            return &log->contexts[i];
    return &log->contexts[log->next_context++ % SOFT_CONTEXTS];
}

/* Put the current entries aside that are not global. */
static void park(struct soft_cpu *cpu, struct soft_context *context, uint64_t cr3)
{
    struct soft_tlb_log *log = &cpu->tlb_log;

    context->used = true;
    context->cr3 = cr3;
    context->protects = log->protects;
    context->fetch_generation = log->fetch_generation;
    context->count = 0;
    for (unsigned i = log->count[LOG_OTHER]; i-- > 0 && context->count < SOFT_CONTEXT_ENTRIES;) {
        unsigned index = log->filled[LOG_OTHER][i];

        if (is_global(cpu, index) || empty(slot(cpu, index)))
            continue;
        context->entries[context->count++] = (struct soft_parked_entry){
            .entry = *slot(cpu, index),
            .fetch_id = is_of_fetches(index) ? *fetch_id(cpu, index) : 0,
            .slot = (uint16_t)index,
        };
    }
}

/* Pages that were protected while the context was aside are no longer writable. */
static void protect_parked(const struct soft_tlb_log *log, struct soft_context *context)
{
    uint64_t count = log->protects - context->protects;

    for (unsigned i = 0; count && i < context->count; i++) {
        struct soft_parked_entry *parked = &context->entries[i];
        bool protect = count > SOFT_PROTECTS;

        for (uint64_t at = context->protects; !protect && at != log->protects; at++)
            protect = log->protected[at % SOFT_PROTECTS] == parked->entry.page;
        if (protect)
            parked->entry.write_tag = SOFT_TLB_NONE;
    }
}

/* Bring a context's entries back, into slots that hold none. */
static void revive(struct soft_cpu *cpu, struct soft_context *context)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    bool same_ids = context->fetch_generation == log->fetch_generation;

    log->user_high = true;
    protect_parked(log, context);
    for (unsigned i = context->count; i-- > 0;) {
        const struct soft_parked_entry *parked = &context->entries[i];
        unsigned index = parked->slot;

        if (!empty(slot(cpu, index)))
            continue;
        *slot(cpu, index) = parked->entry;
        log_fill(log, index, false);
        if (parked->entry.write_tag != SOFT_TLB_NONE)
            note_writable(cpu, index);
        if (parked->fetch_id && same_ids)
            *fetch_id(cpu, index) = parked->fetch_id;
    }
}

void soft_tlb_switch(struct soft_cpu *cpu, uint64_t from, uint64_t to, bool keep)
{
    struct soft_context *context = context_of(cpu, from & PCID_MASK);

    park(cpu, context ? context : free_context(cpu), from);
    soft_tlb_flush(cpu, false);
    context = context_of(cpu, to & PCID_MASK);
    if (!context)
        return;
    if (keep && context->cr3 == to)
        revive(cpu, context);
    context->used = false;
}

void soft_tlb_flush_context(struct soft_cpu *cpu, unsigned pcid)
{
    struct soft_context *context = context_of(cpu, pcid);

    if (context)
        context->used = false;
}

void soft_tlb_flush_contexts(struct soft_cpu *cpu)
{
    for (unsigned i = 0; i < SOFT_CONTEXTS; i++)
        cpu->tlb_log.contexts[i].used = false;
}

void soft_fetch_forget(struct soft_cpu *cpu)
{
    memset(cpu->fetch_id, 0, sizeof(cpu->fetch_id));
    cpu->tlb_log.fetch_generation++;
}

/* ---- one page ---- */

void soft_tlb_flush_page(struct soft_cpu *cpu, uint64_t linear)
{
    struct soft_tlb_log *log = &cpu->tlb_log;

    soft_count(&cpu->counters.flushes_page);
    for (unsigned mode = 0; mode < SOFT_MMU_MODES; mode++) {
        unsigned index = mode * SOFT_TLB_ENTRIES + (linear >> 12 & (SOFT_TLB_ENTRIES - 1));

        if (holds(slot(cpu, index), linear, 12))
            clear_slot(cpu, index);
    }
    flush_victims(cpu, linear, 12);
    if (region_noted(&log->large, linear >> 21))
        flush_2mb(cpu, linear);
    /* A page of 4 MB is noted as two. */
    if (!(cpu->cr4 & CR4_PAE) && region_noted(&log->large, (linear >> 21) ^ 1))
        flush_2mb(cpu, linear ^ 1UL << 21);
    if (region_noted(&log->giant, linear >> 30))
        flush_1gb(cpu, linear);
}
