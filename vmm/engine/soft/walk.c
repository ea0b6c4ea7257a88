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
 */
#include "vmm/engine/soft/walk.h"

#include <string.h>

#include "vmm/engine/soft/system.h"

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

/* Host address of a table's page: an alias for reading, dropped with the TLB's. */
static const uint8_t *table_page(struct soft_cpu *cpu, uint64_t page)
{
    struct soft_table_page *known = &cpu->tlb_log.tables[page >> 12 & (SOFT_TABLE_PAGES - 1)];
    const uint8_t *host;

    if (known->page == page)
        return known->host;
    host = memory_read_begin(cpu->memory, page);
    if (host)
        *known = (struct soft_table_page){page, host};
    return host;
}

static uint64_t load_entry(struct soft_cpu *cpu, uint64_t gpa, unsigned size)
{
    const uint8_t *page = table_page(cpu, gpa & ~PAGE_OFFSET);

    if (!page)
        return size == 8 ? ~0UL : UINT32_MAX;
    page += gpa & PAGE_OFFSET;
    if (size == 8)
        return __atomic_load_n((const uint64_t *)page, __ATOMIC_RELAXED);
    return __atomic_load_n((const uint32_t *)page, __ATOMIC_RELAXED);
}

/* Replace an entry that is still as it was read. Tables in ROM or nowhere take no bits. */
static bool update_entry(struct soft_cpu *cpu, uint64_t gpa, unsigned size, uint64_t old,
                         uint64_t new)
{
    bool keep;
    uint8_t *page = memory_write_begin(cpu->memory, gpa & ~PAGE_OFFSET, &keep);

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

/* Go down. false: not present or malformed, with that part of the error code. */
static bool descend(struct soft_cpu *cpu, struct walk *walk, uint64_t table, uint32_t *error)
{
    const struct format *format = walk->format;
    unsigned shift = 12 + (format->levels - 1) * format->index_bits;
    uint64_t mask = (1UL << format->index_bits) - 1;

    for (walk->used = 0;; shift -= format->index_bits) {
        uint64_t gpa = table + (walk->linear >> shift & mask) * format->entry_size;
        uint64_t entry = load_entry(cpu, gpa, format->entry_size);
        bool leaf = is_leaf(cpu, format, shift, entry);

        if (!(entry & PTE_PRESENT)) {
            *error = 0;
            return false;
        }
        if (entry & reserved_bits(cpu, format, shift, leaf)) {
            *error = PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED;
            return false;
        }
        walk->entry_gpa[walk->used] = gpa;
        walk->entry[walk->used++] = entry;
        walk->rights &= entry | PTE_NX;
        walk->rights |= entry & PTE_NX;
        if (leaf) {
            walk->leaf = entry;
            walk->shift = shift;
            return true;
        }
        table = entry & physical_mask(cpu) & ~PAGE_OFFSET;
    }
}

/* Choose the tables by the paging mode and go down them. */
static bool walk_tables(struct soft_cpu *cpu, struct walk *walk, uint32_t *error)
{
    uint64_t table = cpu->cr3 & physical_mask(cpu) & ~PAGE_OFFSET;

    walk->rights = PTE_WRITE | PTE_USER;
    if (soft_long_mode(cpu)) {
        walk->format = &format_long;
    } else if (cpu->cr4 & CR4_PAE) {
        uint64_t pdpte = cpu->pdptr[walk->linear >> 30 & 3];

        walk->format = &format_pae;
        *error = 0;
        if (!(pdpte & PTE_PRESENT))
            return false;
        table = pdpte & physical_mask(cpu) & ~PAGE_OFFSET;
    } else {
        walk->format = &format_32bit;
        table = (uint32_t)table;
    }
    return descend(cpu, walk, table, error);
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
    uint64_t frame = walk->leaf & physical_mask(cpu);

    if (walk->shift == 22 && HAS_PSE36(cpu))
        frame |= (walk->leaf >> 13 & 0xff) << 32;
    out->physical = (frame & ~offset) | (walk->linear & offset);
    out->shift = walk->shift;
    out->global = (walk->leaf & PTE_GLOBAL) && (cpu->cr4 & CR4_PGE);
}

static void identity(uint64_t linear, struct soft_translation *out)
{
    *out = (struct soft_translation){.physical = (uint32_t)linear, .shift = 12};
}

bool soft_walk(struct soft_cpu *cpu, uint64_t linear, enum soft_access access, unsigned mode,
               struct soft_translation *out, uint32_t *error)
{
    struct walk walk = {.linear = linear};

    if (!(cpu->cr0 & CR0_PG)) {
        identity(linear, out);
        return true;
    }
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
    fill_translation(cpu, &walk, out);
    return true;
}

bool soft_walk_quietly(struct soft_cpu *cpu, uint64_t linear, struct soft_translation *out)
{
    struct walk walk = {.linear = linear};
    uint32_t error;

    if (!(cpu->cr0 & CR0_PG)) {
        identity(linear, out);
        return true;
    }
    if (soft_long_mode(cpu) && (uint64_t)((int64_t)(linear << 16) >> 16) != linear)
        return false;
    if (!walk_tables(cpu, &walk, &error))
        return false;
    fill_translation(cpu, &walk, out);
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
