// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of user address spaces, by the guest's page tables: a page is shown with the rights that
 * they give (SDM 3A, 4.6), and what invalidates translations (4.10.4) hides it. By what memory/
 * takes away: pages with code, clean pages, memory that goes.
 */
#include "tests/unit/soft_user_window.h"

#define BASE    (2UL << 39)
#define LARGE   (BASE + 0x200000) /* the entry of PD is a large page's */
#define CODE    0x80000UL
#define ROOT2   0x5000UL /* has what PML4 has */
#define PT2     0x6000UL
#define PDPTES  0x7000UL /* of PAE */
#define PCID    1
#define PCID2   2
#define GB_PAGE (1UL << 30)

/* 16 pages, one after the other. */
static int begin(void **state)
{
    struct fixture *f;

    user_begin(state, true);
    f = *state;
    map_4kb(f, TARGET, CODE, USER);
    for (uint64_t i = 0; i < 16; i++)
        map_4kb(f, BASE + i * 0x1000, DATA + i * 0x1000, USER);
    poke64(f, PD + index_of(LARGE, 21) * 8, 0x400000 | USER | PS);
    memcpy(f->ram + ROOT2, f->ram + PML4, 0x1000);
    user_start(*state);
    return 0;
}

static void set_entry(struct user *user, uint64_t linear, uint64_t entry)
{
    poke64(&user->base, PT + index_of(linear, 12) * 8, entry);
}

static uint64_t physical_of(uint64_t linear)
{
    return DATA + (linear - BASE);
}

static void set_rights(struct user *user, uint64_t linear, uint64_t rights)
{
    set_entry(user, linear, physical_of(linear) | rights);
}

/* ---- rights ---- */

static void rights_are_those_of_the_entry(void **state)
{
    static const struct {
        uint64_t rights;
        bool read, write;
    } cases[] = {
        {USER, true, true},
        {USER | G, true, true},
        {P | W | U, true, true}, /* the walk sets the other two */
        {USER & ~W, true, false},
        {USER & ~U, false, false},
        {USER & ~P, false, false},
        {USER | NX, true, true},
        {USER | 1UL << 45, false, false},
    };
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        bool write = i & 1, may = write ? cases[i / 2].write : cases[i / 2].read;

        set_rights(user, BASE + 0x3000, cases[i / 2].rights);
        soft_window_flush_page(cpu, BASE + 0x3000);
        assert_int_equal(soft_window_fault(cpu, BASE + 0x3123, write),
                         may ? WINDOW_ENTERED : WINDOW_ABSENT);
        assert_int_equal(readable(user, cpu, BASE + 0x3000), may);
        assert_int_equal(writable(user, cpu, BASE + 0x3000),
                         may && cases[i / 2].write && (write || i / 2 != 2));
        assert_true(!may || shows(user, cpu, BASE + 0x3000, DATA + 0x3000));
    }
}

static void rights_are_those_of_all_levels(void **state)
{
    const uint64_t entries[] = {PML4 + index_of(BASE, 39) * 8, PDPT, PD};
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    for (unsigned i = 0; i < 3; i++) {
        uint64_t entry = peek64(&user->base, entries[i]);

        show(cpu, BASE, true);
        poke64(&user->base, entries[i], entry & ~W);
        soft_window_flush_user(cpu);
        assert_int_equal(soft_window_fault(cpu, BASE, true), WINDOW_ABSENT);
        show(cpu, BASE, false);
        assert_false(writable(user, cpu, BASE));
        poke64(&user->base, entries[i], entry & ~U);
        soft_window_flush_user(cpu);
        assert_int_equal(soft_window_fault(cpu, BASE, false), WINDOW_ABSENT);
        assert_false(readable(user, cpu, BASE));
        poke64(&user->base, entries[i], entry);
        soft_window_flush_user(cpu);
    }
}

static void a_clean_page_is_not_written(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    for (uint64_t i = 0; i < 16; i++)
        set_rights(user, BASE + i * 0x1000, USER & ~D);
    poke64(&user->base, PD + 8, 0x400000 | (USER & ~D) | PS);
    show(cpu, BASE, false);
    show(cpu, LARGE, false);
    assert_true(readable(user, cpu, BASE + 0xf000));
    assert_true(readable(user, cpu, LARGE + 0x1ff000));
    assert_false(writable(user, cpu, BASE));
    assert_false(writable(user, cpu, LARGE));
    show(cpu, BASE + 0x4000, true);
    show(cpu, LARGE + 0x4000, true);
    assert_true(writable(user, cpu, BASE + 0x4000));
    assert_false(writable(user, cpu, BASE + 0x5000));
    assert_int_equal(peek64(&user->base, PT + 4 * 8), (DATA + 0x4000) | USER);
    assert_true(writable(user, cpu, LARGE + 0x5000));
}

static void reserved_bits_are_those_of_the_mode(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    fixture_show(&user->base, CPU_80000001_EDX, 20);
    fixture_show(&user->base, CPU_80000001_EDX, 29);
    set_rights(user, BASE + 0x3000, USER | NX);
    show(cpu, BASE + 0x3000, false);
    show(cpu, BASE + 0x4000, false);
    assert_true(soft_write_efer(cpu, cpu->msrs.efer & ~EFER_NXE));
    assert_int_equal(soft_window_fault(cpu, BASE + 0x3000, false), WINDOW_ABSENT);
    assert_false(readable(user, cpu, BASE + 0x3000));
    show(cpu, BASE + 0x4000, false);
    assert_true(soft_write_efer(cpu, cpu->msrs.efer | EFER_NXE));
    show(cpu, BASE + 0x3000, false);
    assert_true(shows(user, cpu, BASE + 0x3000, DATA + 0x3000));
}

static void protection_keys_keep_out(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    fixture_show(&user->base, CPU_7_ECX, 3);
    fixture_show(&user->base, CPU_1_EDX, 6);
    fixture_show(&user->base, CPU_1_EDX, 13);
    set_rights(user, BASE + 0x3000, USER | 5UL << 59);
    show(cpu, BASE + 0x3000, true); /* without keys these bits are the system's */
    soft_write_cr4(cpu, cpu->cr4 | CR4_PKE);
    assert_false(readable(user, cpu, BASE + 0x3000));
    assert_int_equal(soft_window_fault(cpu, BASE + 0x3000, false), WINDOW_NEVER);
    show(cpu, BASE, true);
    assert_false(readable(user, cpu, BASE + 0x3000));
    soft_write_pkru(cpu, 0xc); /* of key 1 */
    assert_true(writable(user, cpu, BASE));
    for (unsigned denied = 1; denied < 4; denied++) { /* reads, writes, of key 0 */
        soft_write_pkru(cpu, denied);
        assert_false(cpu->user_windowed);
        assert_false(readable(user, cpu, BASE));
        assert_int_not_equal(soft_window_fault(cpu, BASE, false), WINDOW_ENTERED);
    }
    soft_write_pkru(cpu, 0);
    assert_true(writable(user, cpu, BASE));
}

static void data_breakpoints_keep_out(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    show(cpu, BASE, true);
    watch(&user->base, BASE, 3);
    assert_false(readable(user, cpu, BASE));
    assert_int_not_equal(soft_window_fault(cpu, BASE, false), WINDOW_ENTERED);
    cpu->dr7 = 0x400;
    soft_update_debug(cpu);
    assert_true(writable(user, cpu, BASE));
}

/* ---- what drops ---- */

static void invlpg_drops_its_page_alone(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    show(cpu, BASE, true);
    show(cpu, LARGE, true);
    soft_window_flush_page(cpu, BASE + 0x3fff);
    for (uint64_t i = 0; i < 16; i++)
        assert_int_equal(writable(user, cpu, BASE + i * 0x1000), i != 3);
    soft_window_flush_page(cpu, LARGE + 0x123456);
    for (uint64_t i = 0; i < 512; i++)
        assert_false(readable(user, cpu, LARGE + i * 0x1000));
    assert_true(writable(user, cpu, BASE));
    soft_window_flush_page(cpu, BASE + 0x800000); /* nothing is there */
    soft_window_flush_page(cpu, 1UL << 62);
    assert_true(writable(user, cpu, BASE));
}

/* Part of a page of 1 GB is shown, another part invalidated. */
static void invlpg_drops_all_of_a_page_of_1gb(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    poke64(&user->base, PDPT, USER | PS);
    soft_window_flush_user(cpu);
    show(cpu, BASE + 0x600000, true);
    show(cpu, BASE + 0xa01000, false);
    assert_true(shows(user, cpu, BASE + 0x601000, 0x601000));
    assert_true(shows(user, cpu, BASE + 0xbff000, 0xbff000));
    poke64(&user->base, PDPT, PD | P | W | U);
    soft_window_flush_page(cpu, BASE + GB_PAGE - 1);
    assert_false(readable(user, cpu, BASE + 0x601000));
    assert_false(readable(user, cpu, BASE + 0xa01000));
    show(cpu, BASE + 0x3000, true);
    assert_true(shows(user, cpu, BASE + 0x3000, DATA + 0x3000));
}

static void a_flush_drops_what_has_changed(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;
    static void (*const flushes[])(struct soft_cpu *) = {soft_window_flush, soft_window_flush_user,
                                                         soft_window_update};

    for (unsigned i = 0; i < 3; i++) {
        set_rights(user, BASE + 0x3000, USER);
        set_rights(user, BASE + 0x5000, USER & ~D);
        poke64(&user->base, PD + 8, 0x400000 | USER | PS);
        flushes[i](cpu);
        show(cpu, BASE, true);
        show(cpu, BASE + 0x4000, true);
        show(cpu, BASE + 0x5000, false);
        show(cpu, LARGE, true);
        set_rights(user, BASE + 0x3000, USER & ~W);
        set_rights(user, BASE + 0x5000, USER);
        poke64(&user->base, PD + 8, 0x600000 | USER | PS);
        assert_true(writable(user, cpu, BASE + 0x3000)); /* it may, until then */
        flushes[i](cpu);
        assert_false(readable(user, cpu, BASE + 0x3000));
        assert_false(readable(user, cpu, LARGE));
        assert_true(writable(user, cpu, BASE));
        assert_true(readable(user, cpu, BASE + 0x5000)); /* dirty now, which is no harm */
        show(cpu, LARGE, true);
        assert_true(shows(user, cpu, LARGE, 0x600000));
    }
}

static void a_leaf_becomes_a_large_page_and_back(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    for (unsigned i = 0; i < 4; i++) {
        bool large = i & 1;

        poke64(&user->base, PD, large ? 0x600000 | USER | PS : PT | P | W | U | A);
        if (i & 2)
            soft_window_flush_user(cpu);
        else
            soft_window_flush_page(cpu, BASE + 0xf000);
        show(cpu, BASE + 0xf000, true);
        assert_true(shows(user, cpu, BASE + 0xf000, large ? 0x60f000 : DATA + 0xf000));
        assert_true(shows(user, cpu, BASE, large ? 0x600000 : DATA));
        assert_int_equal(readable(user, cpu, BASE + 0x10000), large);
    }
}

/* The first vCPU executes INVPCID, as a kernel, and runs into UD2. */
static void invpcid(struct user *user, uint64_t type, uint64_t pcid, uint64_t linear)
{
    static const uint8_t code[] = {0x66, 0x0f, 0x38, 0x82, 0x06, 0x0f, 0x0b}; /* RAX, [RSI] */
    const uint64_t descriptor[] = {pcid, linear};
    struct soft_cpu *cpu = user->base.cpu;
    struct sigaction cmocka;

    cpu->seg[SEG_CS].attributes = 0x29b;
    cpu->seg[SEG_SS].attributes = 0x93;
    cpu->cpl = 0;
    soft_update_mode(cpu);
    memory_write(cpu->memory, CODE, code, sizeof(code));
    memory_write(cpu->memory, CODE + 0x100, descriptor, sizeof(descriptor));
    cpu->gpr[GPR_RAX] = type;
    cpu->gpr[GPR_RSI] = TARGET + 0x100;
    cpu->mp_state = CPU_RUNNABLE;
    cpu->delivering = -1;
    cpu->rip = cpu->next_rip = TARGET;
    sigaction(SIGSEGV, &on_fault, &cmocka);
    assert_int_equal(soft_run(cpu), VCPU_EXIT_SHUTDOWN);
    sigaction(SIGSEGV, &cmocka, NULL);
    assert_int_equal(cpu->rip, TARGET + 5);
}

static void invpcid_drops_what_its_type_says(void **state)
{
    static const struct {
        uint64_t type, pcid;
        bool first, second; /* drops the changed page of */
    } cases[] = {
        {0, PCID, true, false},  {0, PCID2, false, true}, {1, PCID, true, false},
        {1, PCID2, false, true}, {2, 0, true, true},      {3, 0, true, true},
    };
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    cpu->cr4 |= CR4_PCIDE;
    fixture_show(&user->base, CPU_7_EBX, 10);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_rights(user, BASE, USER);
        switch_to(cpu, ROOT2, PCID2, false);
        show(cpu, BASE, true);
        switch_to(cpu, PML4, PCID, false);
        show(cpu, BASE, true);
        set_rights(user, BASE, USER & ~U);
        invpcid(user, cases[i].type, cases[i].pcid, BASE);
        assert_true(!cases[i].first || !readable(user, cpu, BASE));
        assert_true(cases[i].type != 0 || readable(user, cpu, BASE) != cases[i].first);
        assert_true(writable(user, cpu, BASE + 0x1000));
        switch_to(cpu, ROOT2, PCID2, true);
        assert_true(!cases[i].second || !readable(user, cpu, BASE));
        assert_true(writable(user, cpu, BASE + 0x1000));
    }
}

static void a_write_of_cr3_keeps_what_it_says(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    cpu->cr4 |= CR4_PCIDE;
    switch_to(cpu, PML4, PCID, false);
    show(cpu, BASE, true);
    set_rights(user, BASE, USER & ~W);
    switch_to(cpu, PML4, PCID, true);
    assert_true(writable(user, cpu, BASE));
    switch_to(cpu, ROOT2, PCID2, false);
    assert_false(readable(user, cpu, BASE));
    switch_to(cpu, PML4, PCID, true);
    assert_true(writable(user, cpu, BASE));
    switch_to(cpu, PML4, PCID, false);
    assert_false(readable(user, cpu, BASE));
}

/* The same tables under another number, which has no such translation. */
static void another_context_of_the_same_tables_is_another(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    cpu->cr4 |= CR4_PCIDE;
    switch_to(cpu, PML4, PCID, false);
    show(cpu, BASE, true);
    set_rights(user, BASE, USER & ~W);
    soft_window_flush_others(cpu);
    switch_to(cpu, PML4, PCID2, true);
    assert_false(writable(user, cpu, BASE));
}

/* Without paging. */
static void leave_long_mode(struct soft_cpu *cpu)
{
    cpu->seg[SEG_CS].attributes = 0xcfb;
    soft_update_mode(cpu);
    soft_write_cr0(cpu, cpu->cr0 & ~CR0_PG);
    cpu->msrs.efer = EFER_NXE;
}

/* PAE: the four entries of the first level are read with CR3. */
static void tables_of_pae_are_shown(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;
    struct fixture *f = &user->base;

    leave_long_mode(cpu);
    poke64(f, PDPTES, PD | P);
    poke64(f, PDPTES + 24, PD | P);
    poke64(f, PT2, DATA | USER);
    soft_write_cr3(cpu, PDPTES);
    soft_write_cr0(cpu, cpu->cr0 | CR0_PG);
    show(cpu, 0x3000, true);
    show(cpu, 0xc0204000, true);
    assert_true(shows(user, cpu, 0x4000, DATA + 0x4000));
    assert_true(shows(user, cpu, 0xc0205000, 0x405000));
    set_rights(user, BASE + 0x3000, USER & ~W);
    soft_window_flush_page(cpu, 0x3000);
    assert_int_equal(soft_window_fault(cpu, 0x3000, true), WINDOW_ABSENT);
    assert_true(writable(user, cpu, 0x4000));
    poke64(f, PDPTES, 0);
    soft_window_flush_page(cpu, 0x7000);
    show(cpu, 0x7000, true);
    soft_write_cr3(cpu, PDPTES);
    assert_false(readable(user, cpu, 0x4000));
    assert_true(writable(user, cpu, 0xc0205000));
    assert_int_equal(soft_window_fault(cpu, 0x4000, false), WINDOW_ABSENT);
}

/* Tables of 32-bit entries, and the upper half, take the TLB. */
static void other_paging_has_no_windows(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    assert_int_not_equal(soft_window_fault(cpu, 1UL << 47, false), WINDOW_ENTERED);
    leave_long_mode(cpu);
    assert_false(cpu->user_windowed);
    cpu->cr4 &= ~CR4_PAE;
    soft_write_cr0(cpu, cpu->cr0 | CR0_PG);
    assert_false(cpu->user_windowed);
    assert_int_not_equal(soft_window_fault(cpu, 0, false), WINDOW_ENTERED);
}

/* ---- what memory/ takes away ---- */

static void code_and_clean_pages_are_not_written(void **state)
{
    struct user *user = windowed(state);
    struct memory *memory = user->base.memory;
    struct soft_cpu *cpu = user->base.cpu;
    uint64_t stamp = 0x405000, bitmap[1];

    set_entry(user, BASE, 0x405000 | USER); /* beside its place in the large page */
    show(cpu, BASE, true);
    show(cpu, LARGE, true);
    memory_mark_code(memory, 0x405000);
    assert_true(shows(user, cpu, BASE, 0x405000));
    assert_true(shows(user, cpu, LARGE + 0x5000, 0x405000));
    assert_false(writable(user, cpu, BASE));
    assert_false(writable(user, cpu, LARGE + 0x5000));
    assert_true(writable(user, cpu, LARGE + 0x4000));
    assert_true(writable(user, cpu, LARGE + 0x6000));
    soft_window_flush_page(cpu, LARGE);
    show(cpu, LARGE, true);
    assert_false(writable(user, cpu, LARGE + 0x5000));
    assert_int_equal(soft_window_fault(cpu, LARGE + 0x5000, true), WINDOW_NEVER);
    assert_int_equal(soft_window_fault(cpu, BASE, true), WINDOW_NEVER);
    assert_true(memory_write(memory, 0x405000, &stamp, sizeof(stamp)));
    show(cpu, LARGE + 0x5000, true);
    show(cpu, BASE, true);
    assert_true(writable(user, cpu, LARGE + 0x5000));
    assert_true(writable(user, cpu, BASE));

    memory_dirty_start(memory, MEMORY_CLIENT_MIGRATION);
    assert_false(writable(user, cpu, BASE));
    assert_false(writable(user, cpu, LARGE + 0x8000));
    show(cpu, LARGE + 0x8000, true);
    assert_true(writable(user, cpu, LARGE + 0x8000));
    assert_false(writable(user, cpu, LARGE + 0x9000));
    assert_true(memory_dirty_collect(memory, MEMORY_CLIENT_MIGRATION, 0x400, 64, bitmap));
    assert_int_equal(bitmap[0], 1UL << 8);
    assert_false(writable(user, cpu, LARGE + 0x8000));
    memory_dirty_stop(memory, MEMORY_CLIENT_MIGRATION);
}

static void memory_that_goes_is_not_shown(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    test_memory_add(user->base.memory, MEMORY_RAM, 0x10000000, 0x400000);
    poke64(&user->base, PD + 16, 0x10200000 | USER | PS);
    for (uint64_t i = 0; i < 4; i++)
        set_entry(user, BASE + i * 0x1000, (0x10000000 + i * 0x1000) | USER);
    show(cpu, BASE, true);
    show(cpu, BASE + 0x4000, true);
    show(cpu, BASE + 0x400000, true);
    show(cpu, LARGE, true);
    memory_remove(user->base.memory, 0x10000000);
    for (uint64_t i = 0; i < 4; i++)
        assert_false(readable(user, cpu, BASE + i * 0x1000));
    assert_false(readable(user, cpu, BASE + 0x400000));
    assert_true(writable(user, cpu, LARGE));
    assert_int_not_equal(soft_window_fault(cpu, BASE, false), WINDOW_ENTERED);
    assert_int_not_equal(soft_window_fault(cpu, BASE + 0x400000, false), WINDOW_ENTERED);
    show(cpu, BASE + 0x4000, true);
}

/* Registers, read-only memory, nothing; and a large page that is more than there is. */
static void only_whole_pages_of_ram_are_shown(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    test_memory_add(user->base.memory, MEMORY_ROM, 0x10000000, 0x10000);
    test_memory_add(user->base.memory, MEMORY_RAM, 0x20000000, 0x10000);
    set_entry(user, BASE, 0x10000000 | USER);
    set_entry(user, BASE + 0x1000, 0xfec00000 | USER);
    poke64(&user->base, PD + 16, 0x20000000 | USER | PS);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_not_equal(soft_window_fault(cpu, BASE + i % 2 * 0x1000, i & 2), WINDOW_ENTERED);
        assert_int_not_equal(soft_window_fault(cpu, BASE + 0x400000, i & 2), WINDOW_ENTERED);
    }
    assert_false(readable(user, cpu, BASE));
    assert_false(readable(user, cpu, BASE + 0x400000));
}

/* Protection is found by a table of the first TB of guest-physical memory. */
static void memory_beyond_the_first_tb_is_protected_too(void **state)
{
    struct user *user = windowed(state);
    const uint64_t far = 1UL << 40;
    struct soft_cpu *cpu = user->base.cpu;

    user->base.model.physical_bits = 46;
    test_memory_add(user->base.memory, MEMORY_RAM, far, 0x10000);
    set_entry(user, BASE, far | USER);
    show(cpu, BASE, true);
    assert_true(writable(user, cpu, BASE));
    memory_mark_code(user->base.memory, far);
    assert_false(writable(user, cpu, BASE));
}

/* ---- two vCPUs ---- */

static void each_vcpu_has_its_own_flushes(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu, *second = user->second;

    show(cpu, BASE, true);
    assert_false(readable(user, second, BASE));
    show(second, BASE, true);
    set_rights(user, BASE, USER & ~W);
    soft_window_flush_user(cpu);
    assert_false(readable(user, cpu, BASE));
    assert_true(writable(user, second, BASE));
    soft_window_flush_user_page(second, BASE);
    assert_false(readable(user, second, BASE));

    show(cpu, BASE + 0x1000, true);
    show(second, BASE + 0x1000, true);
    memory_mark_code(user->base.memory, DATA + 0x1000);
    assert_false(writable(user, cpu, BASE + 0x1000));
    assert_false(writable(user, second, BASE + 0x1000));
    soft_window_set_hole(second, DATA + 0x1000);
    assert_false(readable(user, cpu, BASE + 0x1000));
    assert_false(readable(user, second, BASE + 0x1000));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, user_end)
    const struct CMUnitTest tests[] = {
        TEST(rights_are_those_of_the_entry),
        TEST(rights_are_those_of_all_levels),
        TEST(a_clean_page_is_not_written),
        TEST(reserved_bits_are_those_of_the_mode),
        TEST(protection_keys_keep_out),
        TEST(data_breakpoints_keep_out),
        TEST(invlpg_drops_its_page_alone),
        TEST(invlpg_drops_all_of_a_page_of_1gb),
        TEST(a_flush_drops_what_has_changed),
        TEST(a_leaf_becomes_a_large_page_and_back),
        TEST(invpcid_drops_what_its_type_says),
        TEST(a_write_of_cr3_keeps_what_it_says),
        TEST(another_context_of_the_same_tables_is_another),
        TEST(tables_of_pae_are_shown),
        TEST(other_paging_has_no_windows),
        TEST(code_and_clean_pages_are_not_written),
        TEST(memory_that_goes_is_not_shown),
        TEST(only_whole_pages_of_ram_are_shown),
        TEST(memory_beyond_the_first_tb_is_protected_too),
        TEST(each_vcpu_has_its_own_flushes),
    };

    alarm(20); /* code that makes no progress hears no test */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
