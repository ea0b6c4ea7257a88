// SPDX-License-Identifier: Apache-2.0
/*
 * Page walks: no paging, 32-bit, PAE and 4-level paging (SDM 3A, 4.3 to 4.7).
 *
 * A walk goes down the tables and remembers each entry that it used. When it arrives, the rights of
 * all levels together decide on the access. Only then are the accessed bits of all entries and the
 * dirty bit of the last one set, by compare-and-exchange in the guest's memory: another vCPU that
 * changed an entry in between makes the walk start again, as it would have seen the new one. So a
 * fault changes nothing, and a bit is never set in an entry that was not used.
 *
 * What lies in no memory reads as ones, which makes a table there fault on its reserved bits.
 *
 * What a walk found above its last table is remembered. The next one of the same 2 MB compares the
 * entries in memory with that, all at once instead of one after the other, and begins behind them:
 * it finds what a whole walk would, so no flush of the guest's needs to drop a memo.
 */
#include "vmm/engine/soft/walk.h"

#include <string.h>

#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/tlb.h"

#define PTE_PRESENT     (1UL << 0)
#define PTE_WRITE       (1UL << 1)
#define PTE_USER        (1UL << 2)
#define PTE_ACCESSED    (1UL << 5)
#define PTE_DIRTY       (1UL << 6)
#define PTE_LARGE       (1UL << 7)
#define PTE_GLOBAL      (1UL << 8)
#define PTE_NX          (1UL << 63)
#define PTE_KEY(entry)  ((entry) >> 59 & 15)
#define PAGE_OFFSET     0xfffUL
#define MAX_LEVELS      4
#define HAS_PSE36(cpu)  cpu_has((cpu)->model, CPU_1_EDX, 17)
#define HAS_1GB(cpu)    cpu_has((cpu)->model, CPU_80000001_EDX, 26)
#define PSE36_MAX_WIDTH 40

/* One paging mode's shape. */
struct format {
    uint8_t levels;     /* tables that are walked in memory */
    uint8_t entry_size; /* 4 or 8 */
    uint8_t index_bits; /* 10 or 9 */
};

static const struct format format_32bit = {2, 4, 10};
static const struct format format_pae = {2, 8, 9};
static const struct format format_long = {4, 8, 9};

struct walk {
    const struct format *format;
    uint64_t linear;
    uint64_t root;   /* guest-physical address of the first table */
    bool resumed;    /* it began behind a memo's entries */
    uint64_t rights; /* W, U of all levels ANDed; NX ORed */
    uint64_t leaf;
    unsigned shift; /* of the leaf's page */
    unsigned used;  /* entries */
    uint64_t entry_gpa[MAX_LEVELS];
    uint64_t entry[MAX_LEVELS];
};

static uint64_t physical_mask(const struct soft_cpu *cpu)
{
    return (1UL << cpu->model->physical_bits) - 1;
}

static bool nx_enabled(const struct soft_cpu *cpu)
{
    return (cpu->cr4 & CR4_PAE) && (cpu->msrs.efer & EFER_NXE);
}

static uint64_t load(const void *host, unsigned size)
{
    if (size == 8)
        return __atomic_load_n((const uint64_t *)host, __ATOMIC_RELAXED);
    return __atomic_load_n((const uint32_t *)host, __ATOMIC_RELAXED);
}

static uint64_t load_entry(struct soft_cpu *cpu, uint64_t gpa, unsigned size)
{
    const uint8_t *page = soft_page_read(cpu, gpa & ~PAGE_OFFSET);

    if (!page)
        return size == 8 ? ~0UL : UINT32_MAX;
    return load(page + (gpa & PAGE_OFFSET), size);
}

/* Replace an entry that is still as it was read. Tables in ROM or nowhere take no bits. */
static bool update_entry(struct soft_cpu *cpu, uint64_t gpa, unsigned size, uint64_t old,
                         uint64_t new)
{
    bool keep;
    uint8_t *page = soft_page_write(cpu, gpa & ~PAGE_OFFSET, &keep);

    if (!page)
        return true;
    page += gpa & PAGE_OFFSET;
    if (size == 8)
        return __atomic_compare_exchange_n((uint64_t *)page, &old, new, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    uint32_t old32 = (uint32_t)old;
    return __atomic_compare_exchange_n((uint32_t *)page, &old32, (uint32_t) new, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Reserved bits of a PDE that maps 4 MB; its bits 13..20 are address bits 32..39 (PSE-36). */
static uint64_t reserved_4mb(const struct soft_cpu *cpu)
{
    unsigned width = cpu->model->physical_bits;

    if (!HAS_PSE36(cpu))
        return 0x3fe000;
    if (width > PSE36_MAX_WIDTH)
        width = PSE36_MAX_WIDTH;
    if (width < 32)
        width = 32;
    return 0x3fffff & ~((1UL << (width - 19)) - 1);
}

/* Reserved bits of an entry whose page or table covers 1 << shift bytes. */
static uint64_t reserved_bits(const struct soft_cpu *cpu, const struct format *format,
                              unsigned shift, bool leaf)
{
    uint64_t reserved;

    if (format->entry_size == 4)
        return leaf && shift == 22 ? reserved_4mb(cpu) : 0;
    reserved = ~physical_mask(cpu) & 0x000fffffffffffffUL;
    if (format == &format_pae)
        reserved |= 0x7ff0000000000000UL;
    if (!nx_enabled(cpu))
        reserved |= PTE_NX;
    if (leaf && shift > 12)
        reserved |= ((1UL << shift) - 1) & ~0x1fffUL;
    if (!leaf && shift == 39)
        reserved |= PTE_LARGE;
    if (!leaf && shift == 30 && !HAS_1GB(cpu))
        reserved |= PTE_LARGE;
    return reserved;
}

static bool is_leaf(const struct soft_cpu *cpu, const struct format *format, unsigned shift,
                    uint64_t entry)
{
    switch (shift) {
    case 12:
        return true;
    case 21:
        return entry & PTE_LARGE;
    case 22:
        return (entry & PTE_LARGE) && (cpu->cr4 & CR4_PSE);
    case 30:
        return (entry & PTE_LARGE) && HAS_1GB(cpu);
    default:
        return false;
    }
}

/* Where a walk is: the table that it looks into next. */
struct place {
    uint64_t table;
    unsigned shift; /* of an entry's region */
};

/* Go down. false: not present or malformed, with that part of the error code. */
static bool descend(struct soft_cpu *cpu, struct walk *walk, struct place place, uint32_t *error)
{
    const struct format *format = walk->format;
    uint64_t mask = (1UL << format->index_bits) - 1;

    for (walk->used = 0;; place.shift -= format->index_bits) {
        uint64_t gpa = place.table + (walk->linear >> place.shift & mask) * format->entry_size;
        uint64_t entry = load_entry(cpu, gpa, format->entry_size);
        bool leaf = is_leaf(cpu, format, place.shift, entry);

        if (!(entry & PTE_PRESENT)) {
            *error = 0;
            return false;
        }
        if (entry & reserved_bits(cpu, format, place.shift, leaf)) {
            *error = PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED;
            return false;
        }
        walk->entry_gpa[walk->used] = gpa;
        walk->entry[walk->used++] = entry;
        walk->rights &= entry | PTE_NX;
        walk->rights |= entry & PTE_NX;
        if (leaf) {
            walk->leaf = entry;
            walk->shift = place.shift;
            return true;
        }
        place.table = entry & physical_mask(cpu) & ~PAGE_OFFSET;
    }
}

/* ---- memos ---- */

static struct soft_walk_memo *memo_of(struct soft_cpu *cpu, uint64_t linear, uint64_t root)
{
    uint64_t hash = linear >> 21 ^ linear >> 30 ^ root >> 12;

    return &cpu->tlb_log.memos[hash & (SOFT_WALK_MEMOS - 1)];
}

/* Begin behind the entries of a memo that still holds. */
static void resume(struct soft_cpu *cpu, struct walk *walk, struct place *place)
{
    const struct soft_walk_memo *memo = memo_of(cpu, walk->linear, walk->root);
    bool same = true;

    if (memo->region != walk->linear >> 21 || memo->root != walk->root ||
        memo->generation != cpu->tlb_log.generation)
        return;
    for (unsigned i = 0; i < memo->count; i++)
        same &= load(memo->at[i], walk->format->entry_size) == memo->entry[i];
    if (!same)
        return;
    walk->rights = memo->rights;
    walk->resumed = true;
    *place = (struct place){memo->table, memo->shift};
}

/* Remember all but the last entry, which have their accessed bits now. */
static void remember(struct soft_cpu *cpu, const struct walk *walk)
{
    struct soft_walk_memo *memo = memo_of(cpu, walk->linear, walk->root);
    uint64_t rights = PTE_WRITE | PTE_USER;
    unsigned count = walk->used - 1;

    if (count == 0)
        return;
    memo->generation = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *page = soft_page_read(cpu, walk->entry_gpa[i] & ~PAGE_OFFSET);

        if (!page)
            return;
        memo->at[i] = page + (walk->entry_gpa[i] & PAGE_OFFSET);
        memo->entry[i] = walk->entry[i] | PTE_ACCESSED;
        rights = (rights & (walk->entry[i] | PTE_NX)) | (walk->entry[i] & PTE_NX);
    }
    memo->region = walk->linear >> 21;
    memo->root = walk->root;
    memo->rights = rights;
    memo->table = walk->entry[count - 1] & physical_mask(cpu) & ~PAGE_OFFSET;
    memo->count = (uint8_t)count;
    memo->shift = (uint8_t)walk->shift;
    memo->generation = cpu->tlb_log.generation;
}

/* Choose the tables by the paging mode: the first one. False where that is not present. */
static bool find_root(const struct soft_cpu *cpu, struct walk *walk)
{
    walk->root = cpu->cr3 & physical_mask(cpu) & ~PAGE_OFFSET;
    if (soft_long_mode(cpu)) {
        walk->format = &format_long;
    } else if (cpu->cr4 & CR4_PAE) {
        uint64_t pdpte = cpu->pdptr[walk->linear >> 30 & 3];

        walk->format = &format_pae;
        if (!(pdpte & PTE_PRESENT))
            return false;
        walk->root = pdpte & physical_mask(cpu) & ~PAGE_OFFSET;
    } else {
        walk->format = &format_32bit;
        walk->root = (uint32_t)walk->root;
    }
    return true;
}

static struct place first_place(struct walk *walk)
{
    walk->rights = PTE_WRITE | PTE_USER;
    walk->resumed = false;
    return (struct place){walk->root, 12 + (walk->format->levels - 1) * walk->format->index_bits};
}

/* Go down the tables. */
static bool walk_tables(struct soft_cpu *cpu, struct walk *walk, uint32_t *error)
{
    struct place place;

    *error = 0;
    if (!find_root(cpu, walk))
        return false;
    place = first_place(walk);
    resume(cpu, walk, &place);
    return descend(cpu, walk, place, error);
}

/* Protection keys (SDM 3A, 4.6.2): only user pages of 4-level paging, only data. */
static bool key_allows(const struct soft_cpu *cpu, const struct walk *walk, bool write, bool user)
{
    unsigned rights;

    if (!(cpu->cr4 & CR4_PKE) || walk->format != &format_long)
        return true;
    rights = cpu->pkru >> (2 * PTE_KEY(walk->leaf)) & 3;
    if (rights & 1)
        return false;
    return !(rights & 2) || !write || (!user && !(cpu->cr0 & CR0_WP));
}

/* Do the rights allow the access (SDM 3A, 4.6.1)? Gives the error code's bits when not. */
static bool access_allowed(const struct soft_cpu *cpu, const struct walk *walk,
                           enum soft_access access, unsigned mode, uint32_t *error)
{
    bool user = mode == SOFT_MMU_USER;
    bool user_page = walk->rights & PTE_USER;

    *error = PAGE_FAULT_PRESENT;
    if (user && !user_page)
        return false;
    if (access == SOFT_FETCH)
        return !(walk->rights & PTE_NX) && !(!user && user_page && (cpu->cr4 & CR4_SMEP));
    if (!user && user_page && (cpu->cr4 & CR4_SMAP) && mode != SOFT_MMU_SUPERVISOR_AC)
        return false;
    if (access == SOFT_WRITE && !(walk->rights & PTE_WRITE) && (user || (cpu->cr0 & CR0_WP)))
        return false;
    if (user_page && !key_allows(cpu, walk, access == SOFT_WRITE, user)) {
        *error |= PAGE_FAULT_KEY;
        return false;
    }
    return true;
}

/* Set A in all entries, D in the last. false when one has changed meanwhile. */
static bool set_accessed(struct soft_cpu *cpu, const struct walk *walk, bool write)
{
    for (unsigned i = 0; i < walk->used; i++) {
        bool last = i == walk->used - 1;
        uint64_t set = PTE_ACCESSED | (last && write ? PTE_DIRTY : 0);

        if ((walk->entry[i] & set) != set &&
            !update_entry(cpu, walk->entry_gpa[i], walk->format->entry_size, walk->entry[i],
                          walk->entry[i] | set))
            return false;
    }
    return true;
}

static void fill_translation(const struct soft_cpu *cpu, const struct walk *walk,
                             struct soft_translation *out)
{
    uint64_t offset = (1UL << walk->shift) - 1;
    uint64_t frame = walk->leaf & physical_mask(cpu), accessed = PTE_ACCESSED;

    for (unsigned i = 0; i < walk->used; i++)
        accessed &= walk->entry[i];
    if (walk->shift == 22 && HAS_PSE36(cpu))
        frame |= (walk->leaf >> 13 & 0xff) << 32;
    out->physical = (frame & ~offset) | (walk->linear & offset);
    out->shift = walk->shift;
    out->global = (walk->leaf & PTE_GLOBAL) && (cpu->cr4 & CR4_PGE);
    out->user = walk->rights & PTE_USER;
    out->writable = walk->rights & PTE_WRITE;
    out->accessed = accessed & PTE_ACCESSED;
    out->dirty = walk->leaf & PTE_DIRTY;
}

static void identity(uint64_t linear, struct soft_translation *out)
{
    *out = (struct soft_translation){.physical = (uint32_t)linear, .shift = 12};
}

bool soft_walk(struct soft_cpu *cpu, uint64_t linear, enum soft_access access, unsigned mode,
               struct soft_translation *out, uint32_t *error)
{
    struct walk walk;

    if (!(cpu->cr0 & CR0_PG)) {
        identity(linear, out);
        return true;
    }
    walk.linear = linear;
    do {
        if (!walk_tables(cpu, &walk, error) || !access_allowed(cpu, &walk, access, mode, error)) {
            if (access == SOFT_WRITE)
                *error |= PAGE_FAULT_WRITE;
            if (mode == SOFT_MMU_USER)
                *error |= PAGE_FAULT_USER;
            if (access == SOFT_FETCH && (nx_enabled(cpu) || (cpu->cr4 & CR4_SMEP)))
                *error |= PAGE_FAULT_FETCH;
            return false;
        }
    } while (!set_accessed(cpu, &walk, access == SOFT_WRITE));
    if (!walk.resumed)
        remember(cpu, &walk);
    fill_translation(cpu, &walk, out);
    return true;
}

bool soft_walk_quietly(struct soft_cpu *cpu, uint64_t linear, struct soft_translation *out)
{
    struct walk walk;
    uint32_t error;

    if (!(cpu->cr0 & CR0_PG)) {
        identity(linear, out);
        return true;
    }
    walk.linear = linear;
    if (soft_long_mode(cpu) && (uint64_t)((int64_t)(linear << 16) >> 16) != linear)
        return false;
    if (!walk_tables(cpu, &walk, &error))
        return false;
    fill_translation(cpu, &walk, out);
    return true;
}

bool soft_walk_path(struct soft_cpu *cpu, uint64_t linear, struct soft_path *path)
{
    struct walk walk = {.linear = linear};
    uint32_t error;

    if (!(cpu->cr0 & CR0_PG) || !(cpu->cr4 & CR4_PAE) || !find_root(cpu, &walk) ||
        !descend(cpu, &walk, first_place(&walk), &error))
        return false;
    path->root = walk.root;
    path->count = walk.used;
    memcpy(path->gpa, walk.entry_gpa, sizeof(path->gpa));
    memcpy(path->entry, walk.entry, sizeof(path->entry));
    fill_translation(cpu, &walk, &path->translation);
    return true;
}

bool soft_path_holds(struct soft_cpu *cpu, uint64_t linear, const struct soft_path *path,
                     unsigned count)
{
    struct walk walk = {.linear = linear};

    if (!find_root(cpu, &walk) || walk.root != path->root)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (load_entry(cpu, path->gpa[i], 8) != path->entry[i])
            return false;
    return true;
}

bool soft_load_pdptr(struct soft_cpu *cpu, uint64_t cr3)
{
    uint64_t table = cr3 & 0xffffffe0UL, entries[4];
    uint64_t reserved = ~physical_mask(cpu) | 0x1e6;

    for (unsigned i = 0; i < 4; i++) {
        entries[i] = load_entry(cpu, table + i * 8, 8);
        if ((entries[i] & PTE_PRESENT) && (entries[i] & reserved))
            return false;
    }
    memcpy(cpu->pdptr, entries, sizeof(entries));
    return true;
}
