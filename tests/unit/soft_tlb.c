// SPDX-License-Identifier: Apache-2.0
/*
 * The TLB of the software CPU: what it keeps, what each flush drops, and how misses fill it.
 */
#include "tests/unit/soft_paging.h"

/* Two pages this far apart have the same line of the TLB. */
#define SAME_LINE (1UL << (12 + SOFT_TLB_BITS))

static void flushes_drop_what_they_should(void **state)
{
    struct fixture *f = *state;
    uint64_t pte = PT + index_of(TARGET, 12) * 8;

    for (unsigned global = 0; global < 2; global++) {
        map_4kb(f, TARGET, DATA, P | W | U | (global ? G : 0));
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), -1);
        poke64(f, pte, 0);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), -1);
        soft_tlb_flush_page(f->cpu, TARGET + 0x1000);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), -1);
        soft_tlb_flush(f->cpu, false);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), global ? -1 : EXC_PF);
        soft_tlb_flush(f->cpu, true);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), EXC_PF);
    }
    map_4kb(f, TARGET, DATA, P | W | U | G);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), -1);
    poke64(f, pte, 0);
    soft_tlb_flush_page(f->cpu, TARGET + 5);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), EXC_PF);
}

static void invlpg_drops_all_fragments_of_a_large_page(void **state)
{
    struct fixture *f = *state;
    uint64_t pd = PD + index_of(TARGET, 21) * 8, base = TARGET & ~0x1fffffUL;

    map_4kb(f, TARGET, DATA, P | W | U);
    poke64(f, pd, 0x400000 | P | W | U | PS);
    for (unsigned i = 0; i < 512; i += 7)
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, base + i * 0x1000), -1);
    poke64(f, pd, 0);
    soft_tlb_flush_page(f->cpu, TARGET);
    for (unsigned i = 0; i < 512; i += 7)
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, base + i * 0x1000), EXC_PF);
}

/* Two pages of one slot: the first comes back from the victims, unless it was flushed. */
static void a_page_put_out_of_its_slot_comes_back_and_is_flushed_too(void **state)
{
    struct fixture *f = *state;
    uint64_t other = TARGET ^ SAME_LINE, pd = PD + index_of(other, 21) * 8;
    uint64_t pte = PT + index_of(TARGET, 12) * 8;

    for (unsigned how = 0; how < 5; how++) {
        map_4kb(f, TARGET, DATA, P | W | U | (how == 4 ? G : 0));
        poke64(f, pd, 0x800000 | P | W | U | PS);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), -1);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, other), -1);
        assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag, other);
        poke64(f, pte, 0);
        switch (how) {
        case 0: /* still known, and writes where it should */
            soft_write32_as(f->cpu, TARGET + 8, 0x1234, SOFT_MMU_USER);
            assert_int_equal(peek32(f, DATA + 8), 0x1234);
            assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag, TARGET);
            continue;
        case 1:
            soft_tlb_flush_page(f->cpu, TARGET);
            break;
        case 2:
            soft_tlb_flush(f->cpu, false);
            break;
        case 3: /* protected: a read still hits, a write asks the tables */
            soft_tlb_protect(f->cpu, DATA);
            break;
        default:
            soft_tlb_flush(f->cpu, true);
        }
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), EXC_PF);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), how == 3 ? -1 : EXC_PF);
    }
}

static void protecting_a_page_keeps_it_readable(void **state)
{
    struct fixture *f = *state;
    struct soft_tlb_entry *entry = soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET);

    map_4kb(f, TARGET, DATA, P | W | U);
    soft_write32_as(f->cpu, TARGET, 5, SOFT_MMU_USER);
    assert_int_equal(entry->write_tag, TARGET);
    soft_tlb_protect(f->cpu, DATA);
    assert_int_equal(entry->write_tag, SOFT_TLB_NONE);
    assert_int_equal(entry->read_tag, TARGET);
}

/* ---- marks of resolved fetches ---- */

/* Fetch TARGET and mark it as whoever links to its code does. */
static uint32_t *fetch_and_mark(struct fixture *f, unsigned mode)
{
    assert_int_equal(access_once(f, SOFT_FETCH, mode, TARGET), -1);
    *soft_fetch_id(f->cpu, TARGET) = 77;
    return &f->cpu->fetch_id[mode == SOFT_MMU_USER][TARGET >> 12 & (SOFT_TLB_ENTRIES - 1)];
}

static void a_mark_of_a_fetch_falls_with_its_entry(void **state)
{
    struct fixture *f = *state;
    uint64_t gpa, other = TARGET ^ 1UL << 30;
    uint32_t *id;

    for (unsigned user = 0; user < 2; user++) {
        unsigned mode = user ? SOFT_MMU_USER : SOFT_MMU_SUPERVISOR;
        uint64_t rights = P | W | (user ? U : 0);

        map_4kb(f, TARGET, DATA, rights | G);
        id = fetch_and_mark(f, mode);
        soft_tlb_flush(f->cpu, false);
        assert_int_equal(*id, 77);
        soft_tlb_flush(f->cpu, true);
        assert_int_equal(*id, 0);

        map_4kb(f, TARGET, DATA, rights);
        id = fetch_and_mark(f, mode);
        soft_tlb_flush(f->cpu, false);
        assert_int_equal(*id, 0);

        id = fetch_and_mark(f, mode);
        soft_tlb_flush_page(f->cpu, TARGET + 0x1000);
        soft_tlb_protect(f->cpu, DATA);
        assert_int_equal(*id, 77);
        soft_tlb_flush_page(f->cpu, TARGET);
        assert_int_equal(*id, 0);

        /* Put out by another page, and back again: as if it had never been marked. */
        id = fetch_and_mark(f, mode);
        poke64(f, PDPT + index_of(other, 30) * 8, PD | P | W | U);
        poke64(f, PT + 8 * index_of(TARGET, 12), (DATA + 0x1000) | rights);
        assert_int_equal(access_once(f, SOFT_READ, mode, other), -1);
        assert_int_equal(*id, 77);
        assert_int_equal(access_once(f, SOFT_FETCH, mode, other), -1);
        assert_int_equal(*id, 0);
        *id = 78;
        assert_ptr_equal(soft_fetch_page(f->cpu, TARGET, &gpa), f->ram + DATA);
        assert_int_equal(*id, 0);

        /* Filled anew for another page behind the same address. */
        map_4kb(f, TARGET, DATA, rights);
        id = fetch_and_mark(f, mode);
        poke64(f, PT + 8 * index_of(TARGET, 12), (DATA + 0x1000) | rights);
        assert_ptr_equal(soft_fetch_slow(f->cpu, TARGET, &gpa), f->ram + DATA + 0x1000);
        assert_int_equal(*id, 0);

        id = fetch_and_mark(f, mode);
        soft_tlb_init(f->cpu);
        assert_int_equal(*id, 0);
    }
}

static void a_mark_of_a_fetch_falls_with_its_large_page(void **state)
{
    struct fixture *f = *state;
    uint64_t base = TARGET & ~0x3fffffffUL;
    uint32_t *id;

    map_4kb(f, TARGET, DATA, P | W);
    poke64(f, PD + index_of(TARGET, 21) * 8, 0x400000 | P | W | U | PS);
    id = fetch_and_mark(f, SOFT_MMU_USER);
    soft_tlb_flush_page(f->cpu, TARGET ^ 0x5000);
    assert_int_equal(*id, 0);

    fixture_show(f, CPU_80000001_EDX, 26);
    poke64(f, PDPT + index_of(base, 30) * 8, P | W | U | PS);
    assert_int_equal(access_once(f, SOFT_FETCH, SOFT_MMU_USER, base), -1);
    id = soft_fetch_id(f->cpu, base);
    *id = 77;
    soft_tlb_flush_page(f->cpu, base + 0x5000);
    assert_int_equal(*id, 0);
}

/* Reads, writes and fetches of the other privilege, which have entries of their own or share the
 * line, leave it alone. */
static void a_mark_of_a_fetch_stays_while_its_entry_does(void **state)
{
    struct fixture *f = *state;
    uint32_t *id;

    map_4kb(f, TARGET, DATA, P | W | U);
    id = fetch_and_mark(f, SOFT_MMU_USER);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), -1);
    assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), -1);
    assert_int_equal(access_once(f, SOFT_FETCH, SOFT_MMU_SUPERVISOR, TARGET), -1);
    assert_int_equal(access_once(f, SOFT_FETCH, SOFT_MMU_USER, TARGET), -1);
    assert_int_equal(*id, 77);
    assert_int_equal(f->cpu->fetch_id[0][TARGET >> 12 & (SOFT_TLB_ENTRIES - 1)], 0);
}

static void a_vcpu_lies_below_2gb(void **state)
{
    struct fixture *f = *state;

    assert_true(f->cpu->low);
    assert_true((uintptr_t)(f->cpu + 1) <= 1UL << 31);
}

/* ---- what misses remember, and refills ---- */

/* A change of each level is seen by the next walk, with no flush but that of the page itself. */
static void walks_see_tables_as_they_are(void **state)
{
    static const uint64_t tables[] = {PML4, PDPT, PD};
    struct fixture *f = *state;
    uint64_t twin = TARGET + 0x1000;

    for (unsigned level = 0; level < 3; level++) {
        unsigned shift = 39 - 9 * level;
        uint64_t entry = tables[level] + index_of(TARGET, shift) * 8, old;

        map_4kb(f, TARGET, DATA, P | W | U);
        poke64(f, PT + index_of(twin, 12) * 8, (DATA + 0x1000) | P | W | U);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), -1);
        old = peek64(f, entry);
        assert_int_equal(old & A, A);

        poke64(f, entry, 0);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, twin), EXC_PF);
        poke64(f, entry, old & ~W);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, twin), -1);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, twin), EXC_PF);
        assert_int_equal(f->cpu->fault.error, 7);
        soft_tlb_flush_page(f->cpu, twin);
        poke64(f, entry, (old & ~U) | NX);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, twin), EXC_PF);
        assert_int_equal(access_once(f, SOFT_FETCH, SOFT_MMU_SUPERVISOR, twin), EXC_PF);
        /* The accessed bit that was cleared is set again. */
        poke64(f, entry, old & ~A);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, twin), -1);
        assert_int_equal(peek64(f, entry) & A, A);
        /* Another table altogether, of which all is absent. */
        soft_tlb_flush_page(f->cpu, twin);
        poke64(f, entry, (old & 0xfff) | 0x9000);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, twin), EXC_PF);
    }
}

static void another_root_is_another_walk(void **state)
{
    struct fixture *f = *state;

    map_4kb(f, TARGET, DATA, P | W | U);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), -1);
    f->cpu->cr3 = 0x9000;
    soft_tlb_flush(f->cpu, false);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), EXC_PF);
    f->cpu->cr3 = PML4;
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), -1);
}

/* Many regions of large pages, more than are noted one by one: INVLPG finds each. */
static void invlpg_finds_large_pages_among_many(void **state)
{
    struct fixture *f = *state;
    uint64_t base = TARGET & ~0x3fffffffUL;

    map_4kb(f, TARGET, DATA, P | W | U);
    for (unsigned i = 0; i < 512; i++)
        poke64(f, PD + i * 8, 0x200000 | P | W | U | PS);
    for (unsigned gb = 0; gb < 6; gb++)
        poke64(f, PDPT + ((index_of(base, 30) + gb) & 511) * 8, PD | P | W | U);
    for (unsigned i = 0; i < 512 * 6; i++)
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, base + ((uint64_t)i << 21)), -1);
    for (unsigned i = 512 * 6; i-- > 512 * 5;) {
        uint64_t linear = base + ((uint64_t)i << 21), entry = PD + index_of(linear, 21) * 8;

        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, linear), -1);
        poke64(f, entry, 0);
        soft_tlb_flush_page(f->cpu, linear + 0x5000);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, linear), EXC_PF);
        poke64(f, entry, 0x200000 | P | W | U | PS);
    }
}

/* One page under more addresses than are noted for it. */
static void protecting_a_page_finds_all_its_addresses(void **state)
{
    struct fixture *f = *state;
    uint64_t base = TARGET & ~0x1fffffUL;

    for (unsigned count = 1; count < 9; count++) {
        map_4kb(f, base, DATA, P | W | U);
        for (unsigned i = 0; i < count; i++) {
            poke64(f, PT + i * 8, DATA | P | W | U);
            assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, base + i * 0x1000), -1);
        }
        soft_tlb_protect(f->cpu, DATA + 0x1000);
        for (unsigned i = 0; i < count; i++)
            assert_int_equal(soft_tlb_slot(f->cpu, 0, base + i * 0x1000)->write_tag,
                             base + i * 0x1000);
        soft_tlb_protect(f->cpu, DATA);
        for (unsigned i = 0; i < count; i++)
            assert_int_equal(soft_tlb_slot(f->cpu, 0, base + i * 0x1000)->write_tag, SOFT_TLB_NONE);
    }
}

static void a_refill_makes_the_access_hit(void **state)
{
    struct fixture *f = *state;

    map_4kb(f, TARGET, DATA, P | W | U);
    f->cpu->mmu_mode = SOFT_MMU_USER;
    assert_true(soft_tlb_refill(f->cpu, TARGET + 5, SOFT_READ));
    assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->read_tag, TARGET);
    assert_int_equal(leaf(f) & D, 0);
    assert_true(soft_tlb_refill(f->cpu, TARGET + 5, SOFT_WRITE));
    assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag, TARGET);
    assert_int_equal(leaf(f) & D, D);
    /* From among those that were put out of their slots. */
    poke64(f, PT + index_of(TARGET, 12) * 8, 0);
    poke64(f, PD + index_of(TARGET ^ SAME_LINE, 21) * 8, 0x800000 | P | W | U | PS);
    assert_true(soft_tlb_refill(f->cpu, TARGET ^ SAME_LINE, SOFT_WRITE));
    assert_true(soft_tlb_refill(f->cpu, TARGET, SOFT_WRITE));
    assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag, TARGET);
}

static void a_refill_leaves_what_is_special_alone(void **state)
{
    struct fixture *f = *state;
    uint64_t pte = PT + index_of(TARGET, 12) * 8;

    f->cpu->mmu_mode = SOFT_MMU_USER;
    f->cpu->cr2 = 0x1234;
    map_4kb(f, TARGET, DATA, P | U);
    assert_false(soft_tlb_refill(f->cpu, TARGET, SOFT_WRITE)); /* a fault */
    assert_int_equal(peek64(f, pte), DATA | P | U);
    assert_int_equal(f->cpu->cr2, 0x1234);
    assert_false(soft_tlb_refill(f->cpu, TARGET + (1UL << 47), SOFT_READ)); /* not canonical */

    map_4kb(f, TARGET, 0xfe000000, P | W | U);
    assert_false(soft_tlb_refill(f->cpu, TARGET, SOFT_READ)); /* a hole */
    assert_false(soft_tlb_refill(f->cpu, TARGET, SOFT_WRITE));

    map_4kb(f, TARGET, DATA, P | W | U);
    f->cpu->mmu_mode = SOFT_MMU_USER_ALIGNED;
    assert_false(soft_tlb_refill(f->cpu, TARGET, SOFT_READ));
    f->cpu->mmu_mode = SOFT_MMU_USER;

    watch(f, TARGET + 8, 3);
    assert_false(soft_tlb_refill(f->cpu, TARGET, SOFT_READ));
    f->cpu->dr7 = 0x400;
    soft_update_debug(f->cpu);

    memory_mark_code(f->memory, DATA);
    assert_true(soft_tlb_refill(f->cpu, TARGET, SOFT_READ));
    assert_false(soft_tlb_refill(f->cpu, TARGET, SOFT_WRITE));
    assert_true(memory_has_code(f->memory, DATA));
    memory_clear_code(f->memory, DATA);
    assert_true(soft_tlb_refill(f->cpu, TARGET, SOFT_WRITE));

    /* Dirty tracking: the page is dirty before it can be written unseen. */
    uint64_t bitmap = 0;
    memory_dirty_start(f->memory, MEMORY_CLIENT_DISPLAY);
    soft_tlb_flush(f->cpu, true);
    assert_true(soft_tlb_refill(f->cpu, TARGET, SOFT_WRITE));
    assert_int_equal(memory_dirty_collect(f->memory, MEMORY_CLIENT_DISPLAY, DATA >> 12, 1, &bitmap),
                     1);
    memory_dirty_stop(f->memory, MEMORY_CLIENT_DISPLAY);
}

static void a_refill_of_rom_is_for_reading(void **state)
{
    struct fixture *f = *state;

    test_memory_add(f->memory, MEMORY_ROM, 0xfff00000, 0x1000);
    map_4kb(f, TARGET, 0xfff00000, P | W | U);
    f->cpu->mmu_mode = SOFT_MMU_USER;
    assert_true(soft_tlb_refill(f->cpu, TARGET, SOFT_READ));
    assert_false(soft_tlb_refill(f->cpu, TARGET, SOFT_WRITE));
    assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag, SOFT_TLB_NONE);
}

/* ---- PCIDs ---- */

/* As MOV to CR3 does it, with bit 63 where `keep`. */
static void switch_to(struct fixture *f, uint64_t cr3, bool keep)
{
    uint64_t from = f->cpu->cr3;

    f->cpu->cr3 = cr3;
    soft_tlb_switch(f->cpu, from, cr3, keep);
}

/* With TARGET's entry of PCID 0 put aside, and its page no longer present: it tells whether the
 * entry comes back. */
static void put_aside(struct fixture *f, uint64_t rights)
{
    map_4kb(f, TARGET, DATA, rights);
    assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), -1);
    assert_int_equal(access_once(f, SOFT_FETCH, SOFT_MMU_USER, TARGET), -1);
    *soft_fetch_id(f->cpu, TARGET) = 77;
    switch_to(f, PML4 | 1, false);
    poke64(f, PT + index_of(TARGET, 12) * 8, 0);
}

static bool comes_back(struct fixture *f, bool keep)
{
    switch_to(f, PML4, keep);
    return access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET) == -1;
}

static void entries_of_a_pcid_come_back(void **state)
{
    struct fixture *f = *state;

    put_aside(f, P | W | U);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), EXC_PF);
    assert_true(comes_back(f, true));
    assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), -1);
    assert_int_equal(*soft_fetch_id(f->cpu, TARGET), 77);
    switch_to(f, PML4 | 1, true);
    assert_int_equal(*soft_fetch_id(f->cpu, TARGET), 0);
    assert_false(comes_back(f, false));

    put_aside(f, P | W | U);
    soft_fetch_forget(f->cpu);
    assert_true(comes_back(f, true));
    assert_int_equal(*soft_fetch_id(f->cpu, TARGET), 0);
}

static void entries_that_were_put_aside_are_flushed(void **state)
{
    struct fixture *f = *state;

    for (unsigned how = 0; how < 6; how++) {
        put_aside(f, P | W | U);
        switch (how) {
        case 0: /* of other contexts: nothing happens */
            soft_tlb_flush(f->cpu, false);
            soft_tlb_flush_page(f->cpu, TARGET);
            soft_tlb_flush_context(f->cpu, 2);
            break;
        case 1:
            soft_tlb_flush(f->cpu, true);
            break;
        case 2:
            soft_tlb_flush_context(f->cpu, 0);
            break;
        case 3:
            soft_tlb_flush_contexts(f->cpu);
            break;
        case 4: /* the same PCID for other tables */
            switch_to(f, 0x9000, true);
            switch_to(f, PML4 | 1, true);
            break;
        default:
            soft_tlb_init(f->cpu);
        }
        assert_int_equal(comes_back(f, true), how == 0);
    }
}

static void a_global_page_is_of_no_pcid(void **state)
{
    struct fixture *f = *state;

    put_aside(f, P | W | U | G);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), -1);
    soft_tlb_flush_page(f->cpu, TARGET);
    assert_false(comes_back(f, true));

    /* A page that becomes global, and one that ceases to be, in a slot that held the other. */
    for (unsigned global = 0; global < 2; global++) {
        map_4kb(f, TARGET, DATA, P | W | U | (global ? 0 : G));
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), -1);
        poke64(f, PT + index_of(TARGET, 12) * 8, DATA | P | W | U | (global ? G : 0));
        soft_tlb_flush_page(f->cpu, TARGET);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), -1);
        poke64(f, PT + index_of(TARGET, 12) * 8, 0);
        soft_tlb_flush(f->cpu, false);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), global ? -1 : EXC_PF);
    }
}

static void pages_protected_meanwhile_come_back_readable(void **state)
{
    struct fixture *f = *state;

    for (unsigned others = 0; others < 20; others += 19) {
        put_aside(f, P | W | U);
        for (unsigned i = 0; i < others; i++)
            soft_tlb_protect(f->cpu, DATA + 0x10000 + i * 0x1000UL);
        assert_true(comes_back(f, true));
        assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag,
                         others ? SOFT_TLB_NONE : TARGET);
        put_aside(f, P | W | U);
        soft_tlb_protect(f->cpu, DATA);
        for (unsigned i = 0; i < others; i++)
            soft_tlb_protect(f->cpu, DATA + 0x10000 + i * 0x1000UL);
        assert_true(comes_back(f, true));
        assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag, SOFT_TLB_NONE);
    }
    /* One that came back is protected as any other. */
    put_aside(f, P | W | U);
    assert_true(comes_back(f, true));
    soft_tlb_protect(f->cpu, DATA);
    assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag, SOFT_TLB_NONE);
}

static void fragments_that_came_back_are_flushed_together(void **state)
{
    struct fixture *f = *state;
    uint64_t pd = PD + index_of(TARGET, 21) * 8, base = TARGET & ~0x1fffffUL;

    map_4kb(f, TARGET, DATA, P | W | U);
    poke64(f, pd, 0x400000 | P | W | U | PS);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, base + i * 0x1000), -1);
    switch_to(f, PML4 | 1, true);
    soft_tlb_flush_page(f->cpu, TARGET);
    switch_to(f, PML4, true);
    poke64(f, pd, 0);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, base + 0x1000), -1);
    soft_tlb_flush_page(f->cpu, TARGET);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, base + i * 0x1000), EXC_PF);
}

/* More PCIDs, and more pages of one, than are kept. */
static void what_does_not_fit_is_walked_to_again(void **state)
{
    struct fixture *f = *state;
    uint64_t base = TARGET & ~0x1fffffUL;

    map_4kb(f, TARGET, DATA, P | W | U);
    for (unsigned i = 0; i < 512; i++)
        poke64(f, PT + i * 8, (DATA + i * 0x1000UL) | P | W | U);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned pcid = 0; pcid < SOFT_CONTEXTS + 4; pcid++) {
            switch_to(f, PML4 | pcid, true);
            for (unsigned i = 0; i < 512; i++) {
                soft_write32_as(f->cpu, base + i * 0x1000, pcid + i, SOFT_MMU_USER);
                assert_int_equal(peek32(f, DATA + i * 0x1000UL), pcid + i);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(flushes_drop_what_they_should),
        TEST(invlpg_drops_all_fragments_of_a_large_page),
        TEST(a_page_put_out_of_its_slot_comes_back_and_is_flushed_too),
        TEST(protecting_a_page_keeps_it_readable),
        TEST(a_mark_of_a_fetch_falls_with_its_entry),
        TEST(a_mark_of_a_fetch_falls_with_its_large_page),
        TEST(a_mark_of_a_fetch_stays_while_its_entry_does),
        TEST(a_vcpu_lies_below_2gb),
        TEST(walks_see_tables_as_they_are),
        TEST(another_root_is_another_walk),
        TEST(invlpg_finds_large_pages_among_many),
        TEST(protecting_a_page_finds_all_its_addresses),
        TEST(a_refill_makes_the_access_hit),
        TEST(a_refill_leaves_what_is_special_alone),
        TEST(a_refill_of_rom_is_for_reading),
        TEST(entries_of_a_pcid_come_back),
        TEST(entries_that_were_put_aside_are_flushed),
        TEST(a_global_page_is_of_no_pcid),
        TEST(pages_protected_meanwhile_come_back_readable),
        TEST(fragments_that_came_back_are_flushed_together),
        TEST(what_does_not_fit_is_walked_to_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
