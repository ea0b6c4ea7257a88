// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of the upper half: what is mapped where, with which rights, and that it goes when it
 * must. Page tables are real ones in RAM; each page of RAM begins with its own address, so that a
 * window tells what it shows. Whether the host lets an address be read or written is asked by
 * system calls, which fail where an access would raise a signal.
 */
#include <errno.h>

#include "tests/unit/soft_fixture.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/translator/window.h"
#include "vmm/engine/soft/translator/window_space.h"
#include "vmm/engine/soft/walk.h"

#define ROOT   0x1000UL
#define ROOT2  0x2000UL
#define PDPT   0x3000UL
#define PDPT2  0x4000UL
#define PD     0x5000UL
#define PD2    0x6000UL
#define PT     0x7000UL
#define PT2    0x8000UL
#define STAMPS 0x100000UL /* from here on */

#define SLOT   0x1d0U
#define SLOT2  0x1d2U
#define LARGE  (~0UL << 48 | (uint64_t)SLOT << 39)
#define SMALL  (LARGE + 0x200000)
#define LARGE2 (LARGE + 0x400000)
#define OTHER  (~0UL << 48 | (uint64_t)SLOT2 << 39)

#define P  1UL
#define W  2UL
#define U  4UL
#define A  0x20UL
#define D  0x40UL
#define PS 0x80UL
#define G  0x100UL

#define KERNEL (P | W | A | D | G)

struct windows {
    struct fixture base;
    struct soft_windows *windows;
    struct soft_cpu *second;
    int pipe[2];
};

static void unmapped(void *opaque, uint64_t base, uint64_t size)
{
    soft_windows_unmapped(((struct windows *)opaque)->windows, base, size);
}

static void write_protected(void *opaque, uint64_t page)
{
    soft_windows_protect(((struct windows *)opaque)->windows, page);
}

static void code_written(void *opaque, uint64_t page)
{
}

static void set_pt(struct windows *w, uint64_t table, unsigned index, uint64_t entry)
{
    poke64(&w->base, table + index * 8UL, entry);
}

static void fill_tables(struct windows *w)
{
    set_pt(w, ROOT, SLOT, PDPT | P | W | U | A);
    set_pt(w, ROOT, SLOT2, PDPT2 | P | W | U | A);
    memcpy(w->base.ram + ROOT2, w->base.ram + ROOT, 0x1000);
    set_pt(w, PDPT, 0, PD | P | W | U | A);
    set_pt(w, PDPT2, 0, PD2 | P | W | U | A);
    set_pt(w, PD, 0, 0x200000 | KERNEL | PS);
    set_pt(w, PD, 1, PT | P | W | U | A);
    set_pt(w, PD, 2, 0x400000 | KERNEL | PS);
    set_pt(w, PD2, 0, PT2 | P | W | U | A);
    for (unsigned i = 0; i < 16; i++) {
        set_pt(w, PT, i, (0x600000 + i * 0x2000UL) | KERNEL);
        set_pt(w, PT2, i, (0x700000 + i * 0x1000UL) | KERNEL);
    }
}

static void enter_long_mode(struct soft_cpu *cpu)
{
    cpu->cr0 = CR0_PE | CR0_PG | CR0_WP;
    cpu->cr4 = CR4_PAE | CR4_PGE;
    cpu->cr3 = ROOT;
    cpu->msrs.efer = EFER_LME | EFER_LMA | EFER_NXE;
    cpu->seg[SEG_CS].attributes = 0x29b;
    soft_update_mode(cpu);
}

static int setup(void **state)
{
    const struct memory_listener listener = {
        .unmapped = unmapped,
        .write_protected = write_protected,
        .code_written = code_written,
    };
    struct windows *w = calloc(1, sizeof(*w));
    struct memory_listener ear = listener;

    fixture_init(&w->base);
    for (uint64_t page = STAMPS; page < FIXTURE_RAM; page += 0x1000)
        poke64(&w->base, page, page);
    fill_tables(w);
    assert_int_equal(pipe(w->pipe), 0);
    ear.opaque = w;
    assert_true(memory_listen(w->base.memory, &ear, NULL));
    enter_long_mode(w->base.cpu);
    w->second = aligned_alloc(64, sizeof(*w->second));
    memcpy(w->second, w->base.cpu, sizeof(*w->second));
    if (soft_windows_supported()) {
        w->windows = soft_windows_create(w->base.memory);
        assert_non_null(w->windows);
        assert_true(soft_window_join(w->windows, w->base.cpu));
        assert_true(soft_window_join(w->windows, w->second));
        soft_window_load(w->base.cpu);
        soft_window_update(w->base.cpu);
    }
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct windows *w = *state;

    soft_window_load(NULL);
    memory_unlisten(w->base.memory, w);
    soft_window_leave(w->base.cpu);
    soft_window_leave(w->second);
    soft_windows_destroy(w->windows);
    free(w->second);
    close(w->pipe[0]);
    close(w->pipe[1]);
    fixture_finish(&w->base);
    free(w);
    return 0;
}

static uint64_t gs_base(void)
{
    uint64_t base;

    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

/* Bytes at `linear` through a vCPU's window; false where that would raise a signal. */
static bool peek(struct windows *w, const struct soft_cpu *cpu, uint64_t linear, uint64_t *value)
{
    if (write(w->pipe[1], (const void *)(linear + cpu->window_delta), 8) != 8) {
        assert_int_equal(errno, EFAULT);
        return false;
    }
    assert_int_equal(read(w->pipe[0], value, 8), 8);
    return true;
}

static bool readable(struct windows *w, const struct soft_cpu *cpu, uint64_t linear)
{
    uint64_t value;

    return peek(w, cpu, linear, &value);
}

/* Writes what is there already. */
static bool writable(struct windows *w, const struct soft_cpu *cpu, uint64_t linear)
{
    uint64_t value;

    if (!peek(w, cpu, linear, &value))
        return false;
    assert_int_equal(write(w->pipe[1], &value, 8), 8);
    if (read(w->pipe[0], (void *)(linear + cpu->window_delta), 8) == 8)
        return true;
    assert_int_equal(errno, EFAULT);
    assert_int_equal(read(w->pipe[0], &value, 8), 8);
    return false;
}

static bool shows(struct windows *w, uint64_t linear, uint64_t physical)
{
    uint64_t value;

    return peek(w, w->base.cpu, linear, &value) && value == physical;
}

/* Skips where the host has no FSGSBASE, or (under a sanitizer) no address space. */
static struct soft_cpu *first_fault(struct windows *w)
{
    if (!w->windows || soft_window_fault(w->base.cpu, LARGE, false) != WINDOW_ENTERED)
        skip();
    return w->base.cpu;
}

static void test_fault_maps_large_pages_and_their_neighbours(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    assert_int_equal(gs_base(), cpu->window_delta);
    assert_true(shows(w, LARGE, 0x200000));
    assert_true(shows(w, LARGE + 0x1ff000, 0x3ff000));
    assert_true(writable(w, cpu, LARGE + 0x5000));
    /* PD[1] is a table, so the third page was not reached. */
    assert_false(readable(w, cpu, SMALL));
    assert_false(readable(w, cpu, LARGE2));
    set_pt(w, PD, 1, 0x400000 | KERNEL | PS);
    set_pt(w, PD, 2, 0x600000 | KERNEL | PS);
    soft_window_flush_page(cpu, LARGE);
    assert_false(readable(w, cpu, LARGE));
    assert_int_equal(soft_window_fault(cpu, LARGE + 0x200000, true), WINDOW_ENTERED);
    assert_true(shows(w, LARGE + 0x3000, 0x203000));
    assert_true(shows(w, LARGE + 0x403000, 0x603000));
}

static void test_fault_maps_runs_of_small_pages(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    assert_int_equal(soft_window_fault(cpu, SMALL + 0x3123, true), WINDOW_ENTERED);
    assert_true(shows(w, SMALL + 0x3000, 0x606000));
    assert_false(readable(w, cpu, SMALL + 0x4000));
    assert_false(readable(w, cpu, SMALL + 0x2000));
    assert_int_equal(soft_window_fault(cpu, OTHER + 0x4000, false), WINDOW_ENTERED);
    for (unsigned i = 0; i < 16; i++)
        assert_true(shows(w, OTHER + i * 0x1000, 0x700000 + i * 0x1000));
    assert_false(readable(w, cpu, OTHER + 0x10000));
}

static void test_rights_are_those_of_the_tables(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    set_pt(w, PT, 0, 0x600000 | P | A | D | G); /* read-only */
    set_pt(w, PT, 1, 0x601000 | P | W | G);     /* neither accessed nor dirty */
    set_pt(w, PT, 2, 0x602000 | P | W | A | D); /* not global */
    set_pt(w, PT, 3, 0x603000 | KERNEL | U);    /* for the user */
    set_pt(w, PT, 4, 0);
    set_pt(w, PT, 5, 0x100000000000UL >> 4 | KERNEL); /* no memory */
    assert_int_equal(soft_window_fault(cpu, SMALL, false), WINDOW_ENTERED);
    assert_int_not_equal(soft_window_fault(cpu, SMALL, true), WINDOW_ENTERED);
    assert_true(shows(w, SMALL, 0x600000));
    assert_false(writable(w, cpu, SMALL));
    assert_false(readable(w, cpu, SMALL + 0x1000));
    assert_int_equal(soft_window_fault(cpu, SMALL + 0x1000, false), WINDOW_ENTERED);
    assert_int_equal(peek64(&w->base, PT + 8) & (A | D), A);
    assert_false(writable(w, cpu, SMALL + 0x1000));
    assert_int_equal(soft_window_fault(cpu, SMALL + 0x1000, true), WINDOW_ENTERED);
    assert_int_equal(peek64(&w->base, PT + 8) & (A | D), A | D);
    assert_true(writable(w, cpu, SMALL + 0x1000));
    for (unsigned i = 2; i < 6; i++)
        assert_int_not_equal(soft_window_fault(cpu, SMALL + i * 0x1000, false), WINDOW_ENTERED);
    assert_false(readable(w, cpu, SMALL + 0x3000));
}

static void test_write_protection_off_is_not_for_windows(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    set_pt(w, PT, 0, 0x600000 | P | A | D | G);
    cpu->cr0 &= ~CR0_WP;
    assert_int_not_equal(soft_window_fault(cpu, SMALL, true), WINDOW_ENTERED);
    assert_false(writable(w, cpu, SMALL));
}

static void test_lower_half_and_holes_in_the_tables_are_refused(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    assert_int_not_equal(soft_window_fault(cpu, 0x1000, false), WINDOW_ENTERED);
    assert_int_not_equal(soft_window_fault(cpu, 0x00007ffffffff000, false), WINDOW_ENTERED);
    assert_int_not_equal(soft_window_fault(cpu, 0x8000000000000000, false), WINDOW_ENTERED);
    assert_int_not_equal(soft_window_fault(cpu, ~0UL << 48 | 0x1ffUL << 39, false), WINDOW_ENTERED);
    assert_int_not_equal(soft_window_fault(cpu, LARGE + (1UL << 30), false), WINDOW_ENTERED);
}

static void test_invlpg_drops_the_whole_guest_page(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    assert_int_equal(soft_window_fault(cpu, OTHER, true), WINDOW_ENTERED);
    soft_window_flush_page(cpu, OTHER + 0x5fff);
    assert_false(readable(w, cpu, OTHER + 0x5000));
    assert_true(readable(w, cpu, OTHER + 0x4000));
    assert_true(readable(w, cpu, OTHER + 0x6000));
    soft_window_flush_page(w->second, LARGE + 0x12345);
    assert_false(readable(w, cpu, LARGE));
    assert_false(readable(w, cpu, LARGE + 0x1ff000));
}

static void test_flush_drops_what_has_changed(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    assert_int_equal(soft_window_fault(cpu, SMALL, true), WINDOW_ENTERED);
    assert_int_equal(soft_window_fault(cpu, SMALL + 0x1000, true), WINDOW_ENTERED);
    assert_int_equal(soft_window_fault(cpu, SMALL + 0x2000, true), WINDOW_ENTERED);
    set_pt(w, PT, 0, 0x650000 | KERNEL);             /* elsewhere */
    set_pt(w, PT, 1, 0x602000 | (KERNEL & ~D));      /* clean again */
    set_pt(w, PD, 0, 0x200000 | (KERNEL & ~W) | PS); /* read-only */
    soft_window_flush(cpu);
    assert_false(readable(w, cpu, SMALL));
    assert_false(readable(w, cpu, SMALL + 0x1000));
    assert_true(writable(w, cpu, SMALL + 0x2000));
    assert_false(readable(w, cpu, LARGE));
    set_pt(w, PDPT, 0, PD | P | W | U); /* the accessed bit of a table */
    soft_window_flush(cpu);
    assert_false(readable(w, cpu, SMALL + 0x2000));
}

/* Sixteen megabytes at 512 addresses, first in large pages, then in small ones. */
static void test_a_flush_makes_no_more_walks_than_it_may(void **state)
{
    enum { COPIES = 512, LARGE_PAGES = FIXTURE_RAM >> 21, TABLES = 0x10000 };
    const uint64_t last = SMALL + ((COPIES - 1UL) << 30);
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    for (unsigned i = 0; i < COPIES; i++)
        set_pt(w, PDPT, i, PD | P | W | U | A);
    for (unsigned i = 0; i < LARGE_PAGES; i++)
        set_pt(w, PD, i, (uint64_t)i << 21 | KERNEL | PS);
    for (unsigned i = 0; i < COPIES; i++)
        assert_int_equal(soft_window_fault(cpu, SMALL + ((uint64_t)i << 30), false),
                         WINDOW_ENTERED);
    soft_window_flush(cpu);
    assert_true(readable(w, cpu, SMALL));
    assert_true(readable(w, cpu, last));

    for (unsigned i = 0; i < LARGE_PAGES * 512; i++)
        set_pt(w, TABLES, i, (uint64_t)i << 12 | KERNEL);
    for (unsigned i = 0; i < LARGE_PAGES; i++)
        set_pt(w, PD, i, (TABLES + i * 0x1000UL) | P | W | U | A);
    soft_window_flush(cpu);
    assert_false(readable(w, cpu, SMALL));
    assert_false(readable(w, cpu, last));
    assert_int_equal(soft_window_fault(cpu, SMALL, false), WINDOW_ENTERED);
    assert_true(readable(w, cpu, SMALL));
}

static void test_flush_drops_what_became_a_larger_page(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    for (unsigned i = 0; i < 16; i++)
        set_pt(w, PT, i, (0x600000 + i * 0x1000UL) | KERNEL);
    assert_int_equal(soft_window_fault(cpu, SMALL, true), WINDOW_ENTERED);
    set_pt(w, PD, 1, 0x600000 | KERNEL | PS);
    soft_window_flush(cpu);
    assert_false(readable(w, cpu, SMALL));
}

static void test_code_and_dirty_pages_take_write_access_away(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);
    uint64_t bitmap[64], stamp = 0x203000;

    assert_int_equal(soft_window_fault(cpu, OTHER, true), WINDOW_ENTERED);
    memory_mark_code(w->base.memory, 0x203000);
    memory_mark_code(w->base.memory, 0x702000);
    assert_true(shows(w, LARGE + 0x3000, 0x203000));
    assert_false(writable(w, cpu, LARGE + 0x3000));
    assert_true(writable(w, cpu, LARGE + 0x2000));
    assert_true(writable(w, cpu, LARGE + 0x4000));
    assert_false(writable(w, cpu, OTHER + 0x2000));
    /* A new mapping keeps it so; a write throws the code away first. */
    soft_window_flush_page(cpu, LARGE);
    assert_int_equal(soft_window_fault(cpu, LARGE, true), WINDOW_ENTERED);
    assert_true(writable(w, cpu, LARGE));
    assert_false(writable(w, cpu, LARGE + 0x3000));
    assert_int_not_equal(soft_window_fault(cpu, LARGE + 0x3000, true), WINDOW_ENTERED);
    assert_true(memory_has_code(w->base.memory, 0x203000));
    assert_true(memory_write(w->base.memory, 0x203000, &stamp, sizeof(stamp)));
    assert_int_equal(soft_window_fault(cpu, LARGE + 0x3000, true), WINDOW_ENTERED);
    assert_true(writable(w, cpu, LARGE + 0x3000));

    memory_dirty_start(w->base.memory, MEMORY_CLIENT_MIGRATION);
    assert_false(readable(w, cpu, LARGE));
    assert_int_equal(soft_window_fault(cpu, LARGE + 0x8000, true), WINDOW_ENTERED);
    assert_true(writable(w, cpu, LARGE + 0x8000));
    assert_true(readable(w, cpu, LARGE + 0x9000));
    assert_false(writable(w, cpu, LARGE + 0x9000));
    assert_true(memory_dirty_collect(w->base.memory, MEMORY_CLIENT_MIGRATION, 0x200, 64, bitmap));
    assert_int_equal(bitmap[0], 1UL << 8);
    assert_false(writable(w, cpu, LARGE + 0x8000));
    memory_dirty_stop(w->base.memory, MEMORY_CLIENT_MIGRATION);
}

static void test_two_addresses_of_a_page_are_protected_both(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    set_pt(w, PT2, 0, 0x205000 | KERNEL);
    assert_int_equal(soft_window_fault(cpu, OTHER, true), WINDOW_ENTERED);
    memory_mark_code(w->base.memory, 0x205000);
    assert_false(writable(w, cpu, OTHER));
    assert_false(writable(w, cpu, LARGE + 0x5000));
}

static void test_memory_that_goes_is_dropped(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    test_memory_add(w->base.memory, MEMORY_RAM, 0x10000000, 0x10000);
    for (unsigned i = 0; i < 16; i++)
        set_pt(w, PT, i, (0x10000000 + i * 0x1000UL) | KERNEL);
    assert_int_equal(soft_window_fault(cpu, SMALL + 0x3000, true), WINDOW_ENTERED);
    assert_true(writable(w, cpu, SMALL + 0xf000));
    memory_remove(w->base.memory, 0x10000000);
    for (unsigned i = 0; i < 16; i++)
        assert_false(readable(w, cpu, SMALL + i * 0x1000UL));
    assert_int_not_equal(soft_window_fault(cpu, SMALL + 0x3000, false), WINDOW_ENTERED);
    assert_true(writable(w, cpu, LARGE));
}

static void test_pages_of_rom_stay_out(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    test_memory_add(w->base.memory, MEMORY_ROM, 0x10000000, 0x10000);
    set_pt(w, PT, 0, 0x10000000 | KERNEL);
    assert_int_not_equal(soft_window_fault(cpu, SMALL, false), WINDOW_ENTERED);
}

static void test_registers_over_ram_are_a_hole(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    soft_window_set_hole(w->second, 0x207000);
    assert_false(readable(w, cpu, LARGE + 0x7000));
    assert_true(readable(w, cpu, LARGE + 0x6000));
    assert_int_not_equal(soft_window_fault(cpu, LARGE + 0x7000, false), WINDOW_ENTERED);
    soft_window_flush_page(cpu, LARGE);
    assert_int_equal(soft_window_fault(cpu, LARGE + 0x9000, true), WINDOW_ENTERED);
    assert_false(readable(w, cpu, LARGE + 0x7000));
    assert_int_equal(soft_window_fault(cpu, LARGE + 0x5000, true), WINDOW_ENTERED);
    assert_true(readable(w, cpu, LARGE));
    assert_false(readable(w, cpu, LARGE + 0x7000));
    soft_window_set_hole(w->second, SOFT_TLB_NONE);
    assert_int_equal(soft_window_fault(cpu, LARGE + 0x7000, false), WINDOW_ENTERED);
    assert_true(shows(w, LARGE + 0x7000, 0x207000));
}

static void test_a_vcpu_with_other_tables_is_kept_out(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w), *second = w->second;

    assert_int_equal(soft_window_fault(second, LARGE, false), WINDOW_ENTERED);
    assert_int_equal(second->window_delta, cpu->window_delta);
    set_pt(w, ROOT2, SLOT, PDPT2 | P | W | U | A);
    second->cr3 = ROOT2;
    soft_window_update(second);
    assert_int_equal(second->window_delta, SOFT_WINDOW_NOWHERE);
    assert_false(readable(w, second, LARGE));
    assert_int_not_equal(soft_window_fault(second, LARGE, false), WINDOW_ENTERED);
    assert_true(shows(w, LARGE, 0x200000));
    second->cr3 = ROOT;
    soft_window_update(second);
    assert_int_equal(second->window_delta, cpu->window_delta);

    /* Alone, the first one may take the windows with it to other tables. */
    second->cr0 &= ~CR0_PG;
    soft_window_update(second);
    assert_int_equal(second->window_delta, SOFT_WINDOW_NOWHERE);
    cpu->cr3 = ROOT2;
    soft_window_update(cpu);
    assert_false(readable(w, cpu, LARGE));
    assert_int_equal(soft_window_fault(cpu, LARGE, false), WINDOW_ENTERED);
    assert_true(shows(w, LARGE, 0x700000));
    second->cr0 |= CR0_PG;
    soft_window_update(second);
    assert_int_equal(second->window_delta, SOFT_WINDOW_NOWHERE);
}

static void test_a_slot_is_opened_only_if_all_have_it(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w), *second = w->second;

    set_pt(w, ROOT2, SLOT2, PDPT | P | W | U | A);
    second->cr3 = ROOT2;
    assert_int_equal(soft_window_fault(second, LARGE, false), WINDOW_ENTERED);
    assert_int_not_equal(soft_window_fault(cpu, OTHER, false), WINDOW_ENTERED);
    assert_int_not_equal(soft_window_fault(second, OTHER, false), WINDOW_ENTERED);
    second->cr3 = ROOT;
    soft_window_update(second);
    assert_int_equal(soft_window_fault(cpu, OTHER, false), WINDOW_ENTERED);
    assert_true(readable(w, second, OTHER));
}

static void test_who_attaches_sees_no_old_translation(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w), *second = w->second;

    second->cr0 &= ~CR0_PG;
    soft_window_update(second);
    set_pt(w, PD, 0, 0x600000 | KERNEL | PS);
    second->cr0 |= CR0_PG;
    soft_window_update(second);
    assert_int_equal(second->window_delta, cpu->window_delta);
    assert_false(readable(w, second, LARGE));
    assert_int_equal(soft_window_fault(second, LARGE, false), WINDOW_ENTERED);
    assert_true(shows(w, LARGE, 0x600000));
}

static void test_breakpoints_and_local_pages_keep_out(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    cpu->break_data = 1;
    soft_window_update(cpu);
    assert_int_equal(cpu->window_delta, SOFT_WINDOW_NOWHERE);
    assert_int_equal(gs_base(), SOFT_WINDOW_NOWHERE);
    assert_int_not_equal(soft_window_fault(cpu, LARGE, false), WINDOW_ENTERED);
    cpu->break_data = 0;
    cpu->cr4 &= ~CR4_PGE;
    soft_window_update(cpu);
    assert_int_not_equal(soft_window_fault(cpu, LARGE, false), WINDOW_ENTERED);
    cpu->cr4 |= CR4_PGE;
    soft_window_flush(cpu);
    assert_true(readable(w, cpu, LARGE));
}

/* Fragments by thousands: the count of the host's mappings stays bounded and pages stay right. */
static void test_fragments_are_bounded(void **state)
{
    struct windows *w = *state;
    struct soft_cpu *cpu = first_fault(w);

    for (unsigned i = 0; i < 40000; i++) {
        uint64_t page = i * 2 % 512 * 0x1000UL, stamp = 0x200000 + page;

        if (!readable(w, cpu, LARGE + page))
            assert_int_equal(soft_window_fault(cpu, LARGE + page, false), WINDOW_ENTERED);
        if (i & 256) {
            assert_true(memory_write(w->base.memory, stamp, &stamp, sizeof(stamp)));
            assert_int_equal(soft_window_fault(cpu, LARGE + page, true), WINDOW_ENTERED);
        } else {
            memory_mark_code(w->base.memory, stamp);
        }
        assert_int_equal(writable(w, cpu, LARGE + page), i & 256 ? true : false);
    }
}

/* Whatever slot comes first, the GS base that leads to it is one that can be loaded. */
static void test_every_delta_is_canonical(void **state)
{
    const bool wanted[WINDOW_SLOTS] = {0};

    if (!soft_windows_supported())
        skip();
    for (unsigned slot = 0; slot < WINDOW_SLOTS; slot += 5) {
        struct window_space space;

        assert_true(window_space_init(&space));
        if (window_space_place(&space, wanted, slot)) {
            assert_int_equal(space.delta >> 47, 0);
            assert_true(window_space_open(&space, slot));
        }
        window_space_fini(&space);
    }
}

/* ---- random events against the walker ---- */

static uint32_t random_state;

static uint32_t roll(uint32_t below)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % below;
}

static uint64_t random_page(void)
{
    switch (roll(4)) {
    case 0:
        return LARGE + roll(512) * 0x1000UL;
    case 1:
        return LARGE2 + roll(8) * 0x1000UL;
    case 2:
        return SMALL + roll(16) * 0x1000UL;
    default:
        return OTHER + roll(16) * 0x1000UL;
    }
}

/* Whether a vCPU may see the page so, by the tables and the memory authority as they are now. */
static void check_page(struct windows *w, struct soft_cpu *cpu, uint64_t linear)
{
    struct soft_translation translation;
    struct memory_view view;
    uint64_t value;

    if (!peek(w, cpu, linear, &value))
        return;
    assert_true(soft_walk_quietly(cpu, linear, &translation));
    assert_true(translation.global && translation.accessed && !translation.user);
    assert_int_equal(value, translation.physical);
    if (!writable(w, cpu, linear))
        return;
    assert_true(translation.writable && translation.dirty);
    assert_true(memory_view(w->base.memory, translation.physical, &view));
    assert_true(memory_view_writable(&view, translation.physical - view.base));
}

/* A fault must be served where both vCPUs agree on the tables and everything allows it. */
static void random_fault(struct windows *w, struct soft_cpu *cpu)
{
    uint64_t linear = random_page();
    bool write = roll(2), served = soft_window_fault(cpu, linear, write) == WINDOW_ENTERED;
    struct soft_translation translation;
    bool fits = soft_walk_quietly(cpu, linear, &translation) && translation.global &&
                !translation.user &&
                (!write ||
                 (translation.writable && !memory_has_code(w->base.memory, translation.physical)));

    if (served)
        assert_true(write ? writable(w, cpu, linear) : readable(w, cpu, linear));
    else
        assert_true(!fits || cpu->window_delta == SOFT_WINDOW_NOWHERE ||
                    w->base.cpu->cr3 == ROOT2 || w->second->cr3 == ROOT2 ||
                    translation.physical == 0x606000);
}

static uint64_t random_rights(void)
{
    uint64_t rights = KERNEL;

    if (!roll(3))
        rights ^= (uint64_t[]){P, W, A, D, G, U, W | D, A | D}[roll(8)];
    return rights;
}

/* As a shoot-down does. */
static void flush_both(struct windows *w)
{
    soft_window_flush(w->base.cpu);
    soft_window_flush(w->second);
}

static void random_change(struct windows *w, struct soft_cpu *cpu)
{
    unsigned index = roll(16);

    switch (roll(5)) {
    case 0:
        set_pt(w, PD, 0, (0x200000UL << roll(2)) | random_rights() | PS);
        soft_window_flush_page(cpu, LARGE + roll(512) * 0x1000UL);
        soft_window_flush_page(cpu, OTHER); /* which ROOT2 shows there too */
        break;
    case 1:
        set_pt(w, PD, 2, 0x400000UL | random_rights() | PS);
        soft_window_flush_page(cpu, LARGE2 + roll(512) * 0x1000UL);
        break;
    case 2:
        set_pt(w, PT, index, (0x600000 + roll(64) * 0x1000UL) | random_rights());
        soft_window_flush_page(cpu, SMALL + index * 0x1000UL);
        break;
    case 3:
        for (unsigned i = index; i < 16; i++)
            set_pt(w, PT2, i, (0x700000 + i * 0x1000UL) | random_rights());
        flush_both(w);
        break;
    default:
        set_pt(w, PD, 1, roll(4) ? PT | P | W | U | A : 0x600000 | KERNEL | PS);
        flush_both(w);
    }
}

static void random_event(struct windows *w)
{
    struct soft_cpu *cpu = roll(2) ? w->base.cpu : w->second;
    uint64_t bitmap[16];

    switch (roll(32)) {
    case 0:
        memory_dirty_start(w->base.memory, MEMORY_CLIENT_MIGRATION);
        break;
    case 1:
        memory_dirty_stop(w->base.memory, MEMORY_CLIENT_MIGRATION);
        break;
    case 2:
        memory_dirty_collect(w->base.memory, MEMORY_CLIENT_MIGRATION, 0x200 + roll(16) * 64, 64,
                             bitmap);
        break;
    case 3:
    case 4:
        memory_mark_code(w->base.memory, 0x200000 + roll(0x500) * 0x1000UL);
        break;
    case 5: {
        uint64_t page = 0x200000 + roll(0x500) * 0x1000UL;

        assert_true(memory_write(w->base.memory, page, &page, 8));
        break;
    }
    case 6:
        cpu->cr3 = roll(2) ? ROOT : ROOT2;
        soft_window_update(cpu);
        break;
    case 7:
        soft_window_set_hole(cpu, roll(2) ? 0x606000 : SOFT_TLB_NONE);
        break;
    case 8:
        cpu->cr4 ^= CR4_PGE;
        soft_window_flush(cpu);
        break;
    case 9:
        cpu->break_data ^= 1;
        soft_window_update(cpu);
        break;
    case 10:
        soft_window_flush(cpu);
        break;
    default:
        if (roll(3))
            random_fault(w, cpu);
        else
            random_change(w, cpu);
    }
}

static void test_random_events_leave_only_what_may_be(void **state)
{
    struct windows *w = *state;

    first_fault(w);
    set_pt(w, ROOT2, SLOT2, PDPT | P | W | U | A);
    for (unsigned i = 0; i < 20000; i++) {
        random_event(w);
        for (unsigned j = 0; j < 4; j++) {
            check_page(w, w->base.cpu, random_page());
            check_page(w, w->second, random_page());
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_fault_maps_large_pages_and_their_neighbours),
        TEST(test_fault_maps_runs_of_small_pages),
        TEST(test_rights_are_those_of_the_tables),
        TEST(test_write_protection_off_is_not_for_windows),
        TEST(test_lower_half_and_holes_in_the_tables_are_refused),
        TEST(test_invlpg_drops_the_whole_guest_page),
        TEST(test_flush_drops_what_has_changed),
        TEST(test_a_flush_makes_no_more_walks_than_it_may),
        TEST(test_flush_drops_what_became_a_larger_page),
        TEST(test_code_and_dirty_pages_take_write_access_away),
        TEST(test_two_addresses_of_a_page_are_protected_both),
        TEST(test_memory_that_goes_is_dropped),
        TEST(test_pages_of_rom_stay_out),
        TEST(test_registers_over_ram_are_a_hole),
        TEST(test_a_vcpu_with_other_tables_is_kept_out),
        TEST(test_a_slot_is_opened_only_if_all_have_it),
        TEST(test_who_attaches_sees_no_old_translation),
        TEST(test_breakpoints_and_local_pages_keep_out),
        TEST(test_fragments_are_bounded),
        cmocka_unit_test(test_every_delta_is_canonical),
        TEST(test_random_events_leave_only_what_may_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
