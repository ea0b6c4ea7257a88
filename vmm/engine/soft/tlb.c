// SPDX-License-Identifier: Apache-2.0
/*
 * The TLB's bookkeeping (SDM 3A, 4.10).
 *
 * One direct-mapped table for each access mode. Each filled entry stands in a log: one for global
 * pages, one for the others, so that a write of CR3 costs what was filled since the last one.
 * Entries of one PCID at a time are kept: a change of PCID drops what is not global, which the
 * architecture allows at any time. Fragments of a large page are entries of their own; a filter
 * tells which large regions have any, so that INVLPG looks for them only there.
 *
 * A page that takes a slot from another puts that one's entry among a few victims, where the next
 * miss finds it: two pages of one slot that are used in turn (a copy over a multiple of 4 MB) cost
 * no walk each time.
 */
#include "vmm/engine/soft/tlb.h"

#define LOG_OTHER  0
#define LOG_GLOBAL 1
#define PAGE_MASK  (~0xfffUL)
#define SLOTS      (SOFT_MMU_MODES * SOFT_TLB_ENTRIES)

static struct soft_tlb_entry *slot(struct soft_cpu *cpu, unsigned index)
{
    return &cpu->tlb[index / SOFT_TLB_ENTRIES][index % SOFT_TLB_ENTRIES];
}

static void clear(struct soft_tlb_entry *entry)
{
    entry->read_tag = entry->write_tag = entry->fetch_tag = SOFT_TLB_NONE;
}

/* Clear a slot, and the mark that vouched for its fetch_tag. No fetch is done in other modes than
 * these two. */
static void clear_slot(struct soft_cpu *cpu, unsigned index)
{
    unsigned mode = index / SOFT_TLB_ENTRIES;

    clear(slot(cpu, index));
    if (mode <= SOFT_MMU_SUPERVISOR)
        cpu->fetch_id[mode == SOFT_MMU_USER][index % SOFT_TLB_ENTRIES] = 0;
}

/* Whether an entry is of the region of 1 << shift bytes around `linear`. */
static bool holds(const struct soft_tlb_entry *entry, uint64_t linear, unsigned shift)
{
    return entry->read_tag >> shift == linear >> shift ||
           entry->write_tag >> shift == linear >> shift ||
           entry->fetch_tag >> shift == linear >> shift;
}

static bool empty(const struct soft_tlb_entry *entry)
{
    return entry->read_tag == SOFT_TLB_NONE && entry->write_tag == SOFT_TLB_NONE &&
           entry->fetch_tag == SOFT_TLB_NONE;
}

static unsigned filter_bit(uint64_t linear, unsigned shift)
{
    return linear >> shift & 63;
}

static void log_fill(struct soft_tlb_log *log, unsigned index, unsigned which)
{
    if (log->logged[index] & 1U << which)
        return;
    log->logged[index] |= 1U << which;
    log->filled[which][log->count[which]++] = index;
}

/* Put what a slot holds among the victims. */
static void put_out(struct soft_cpu *cpu, unsigned mode, unsigned line)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    struct soft_tlb_entry *entry = &cpu->tlb[mode][line];
    unsigned index = mode * SOFT_TLB_ENTRIES + line;

    if (empty(entry))
        return;
    log->victims[mode][log->next_victim++ % SOFT_TLB_VICTIMS] = (struct soft_tlb_victim){
        .entry = *entry,
        .page = log->page[mode][line],
        .global = !(log->logged[index] & 1U << LOG_OTHER),
    };
    log->victims_used = true;
    clear_slot(cpu, index);
}

static uint64_t tag_of(const struct soft_tlb_entry *entry, enum soft_access access)
{
    return access == SOFT_READ    ? entry->read_tag
           : access == SOFT_WRITE ? entry->write_tag
                                  : entry->fetch_tag;
}

bool soft_tlb_recall(struct soft_cpu *cpu, unsigned mode, uint64_t linear, enum soft_access access)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    unsigned line = linear >> 12 & (SOFT_TLB_ENTRIES - 1);

    if (!log->victims_used)
        return false;
    for (unsigned i = 0; i < SOFT_TLB_VICTIMS; i++) {
        struct soft_tlb_victim victim = log->victims[mode][i];

        if (tag_of(&victim.entry, access) != (linear & PAGE_MASK))
            continue;
        clear(&log->victims[mode][i].entry);
        put_out(cpu, mode, line);
        cpu->tlb[mode][line] = victim.entry;
        log->page[mode][line] = victim.page;
        log_fill(log, mode * SOFT_TLB_ENTRIES + line, victim.global ? LOG_GLOBAL : LOG_OTHER);
        return true;
    }
    return false;
}

void soft_tlb_fill(struct soft_cpu *cpu, unsigned mode, uint64_t linear, enum soft_access access,
                   const struct soft_translation *translation, const void *host)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    unsigned line = linear >> 12 & (SOFT_TLB_ENTRIES - 1);
    struct soft_tlb_entry *entry = &cpu->tlb[mode][line];
    uint64_t tag = linear & PAGE_MASK, page = translation->physical & PAGE_MASK;
    uintptr_t delta = (uintptr_t)host - tag;

    if (entry->host != delta || log->page[mode][line] != page) {
        if (holds(entry, linear, 12))
            clear_slot(cpu, mode * SOFT_TLB_ENTRIES + line);
        else
            put_out(cpu, mode, line);
        entry->host = delta;
        log->page[mode][line] = page;
    }
    if (access == SOFT_WRITE)
        entry->read_tag = entry->write_tag = tag;
    else if (access == SOFT_READ)
        entry->read_tag = tag;
    else
        entry->fetch_tag = tag;
    if (translation->shift == 21)
        log->large[0] |= 1UL << filter_bit(linear, 21);
    else if (translation->shift > 21)
        log->large[1] |= 1UL << filter_bit(linear, 30);
    log_fill(log, mode * SOFT_TLB_ENTRIES + line, translation->global ? LOG_GLOBAL : LOG_OTHER);
}

/* Clear the victims of the region of 1 << shift bytes around `linear`; 64: all of them. */
static void flush_victims(struct soft_cpu *cpu, uint64_t linear, unsigned shift)
{
    struct soft_tlb_log *log = &cpu->tlb_log;

    if (!log->victims_used)
        return;
    for (unsigned mode = 0; mode < SOFT_MMU_MODES; mode++)
        for (unsigned i = 0; i < SOFT_TLB_VICTIMS; i++)
            if (shift == 64 || holds(&log->victims[mode][i].entry, linear, shift))
                clear(&log->victims[mode][i].entry);
    log->victims_used = shift != 64;
}

/* Clear all entries of a log. One that is in the other log too stays listed there. */
static void flush_log(struct soft_cpu *cpu, unsigned which)
{
    struct soft_tlb_log *log = &cpu->tlb_log;

    for (unsigned i = 0; i < log->count[which]; i++) {
        unsigned index = log->filled[which][i];

        clear_slot(cpu, index);
        log->logged[index] &= ~(1U << which);
    }
    log->count[which] = 0;
}

static void forget_tables(struct soft_cpu *cpu)
{
    for (unsigned i = 0; i < SOFT_TABLE_PAGES; i++)
        cpu->tlb_log.tables[i].page = SOFT_TLB_NONE;
}

void soft_tlb_init(struct soft_cpu *cpu)
{
    memset(&cpu->tlb_log, 0, sizeof(cpu->tlb_log));
    for (unsigned i = 0; i < SLOTS; i++) {
        clear_slot(cpu, i);
        slot(cpu, i)->host = 0;
    }
    cpu->tlb_log.victims_used = true;
    flush_victims(cpu, 0, 64);
    forget_tables(cpu);
}

void soft_tlb_flush(struct soft_cpu *cpu, bool global_too)
{
    flush_log(cpu, LOG_OTHER);
    flush_victims(cpu, 0, 64);
    if (!global_too)
        return;
    flush_log(cpu, LOG_GLOBAL);
    forget_tables(cpu);
    cpu->tlb_log.large[0] = cpu->tlb_log.large[1] = 0;
}

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

void soft_tlb_flush_page(struct soft_cpu *cpu, uint64_t linear)
{
    for (unsigned mode = 0; mode < SOFT_MMU_MODES; mode++) {
        unsigned index = mode * SOFT_TLB_ENTRIES + (linear >> 12 & (SOFT_TLB_ENTRIES - 1));

        if (holds(slot(cpu, index), linear, 12))
            clear_slot(cpu, index);
    }
    flush_victims(cpu, linear, 12);
    if (cpu->tlb_log.large[0] >> filter_bit(linear, 21) & 1)
        flush_2mb(cpu, linear);
    if (cpu->tlb_log.large[1] >> filter_bit(linear, 30) & 1)
        flush_1gb(cpu, linear);
}

void soft_tlb_protect(struct soft_cpu *cpu, uint64_t page)
{
    const struct soft_tlb_log *log = &cpu->tlb_log;

    page &= PAGE_MASK;
    for (unsigned which = 0; which < 2; which++) {
        for (unsigned i = 0; i < log->count[which]; i++) {
            unsigned index = log->filled[which][i];

            if (log->page[index / SOFT_TLB_ENTRIES][index % SOFT_TLB_ENTRIES] == page)
                slot(cpu, index)->write_tag = SOFT_TLB_NONE;
        }
    }
    for (unsigned mode = 0; mode < SOFT_MMU_MODES; mode++)
        for (unsigned i = 0; i < SOFT_TLB_VICTIMS; i++)
            if (log->victims[mode][i].page == page)
                cpu->tlb_log.victims[mode][i].entry.write_tag = SOFT_TLB_NONE;
}
