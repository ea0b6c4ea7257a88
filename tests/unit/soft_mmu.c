// SPDX-License-Identifier: Apache-2.0
/*
 * Paging and the TLB of the software CPU, on small page tables in RAM. What an access should do is
 * computed by a model of its own (`expected_error`), written from SDM 3A, 4.6, without a walk.
 */
#include "tests/unit/soft_paging.h"

/* The rules as sentences: -1 if allowed, else the error code. */
static int expected_error(uint64_t pte, enum soft_access access, unsigned mode, bool wp, bool smep,
                          bool smap, bool nxe)
{
    bool user = mode == SOFT_MMU_USER, fault = false;
    int code = (access == SOFT_WRITE) * 2 | user * 4 | (access == SOFT_FETCH && (nxe || smep)) * 16;

    if (!(pte & P))
        return code;
    if (!nxe && (pte & NX))
        return code | 1 | 8;
    if (user) {
        fault |= !(pte & U);
        fault |= access == SOFT_WRITE && !(pte & W);
        fault |= access == SOFT_FETCH && (pte & NX);
    } else if (access == SOFT_FETCH) {
        fault |= (pte & NX) || ((pte & U) && smep);
    } else {
        fault |= (pte & U) && smap && mode == SOFT_MMU_SUPERVISOR;
        fault |= access == SOFT_WRITE && wp && !(pte & W);
    }
    return fault ? code | 1 : -1;
}

static void all_rights_and_accesses_give_the_exact_error_code(void **state)
{
    struct fixture *f = *state;
    unsigned cases = 0;

    for (unsigned bits = 0; bits < 16 * 3 * 3 * 16; bits++) {
        uint64_t pte = (bits & 7) | (bits & 8 ? NX : 0);
        enum soft_access access = bits / 16 % 3;
        unsigned mode = bits / 48 % 3, config = bits / 144;
        bool wp = config & 1, smep = config & 2, smap = config & 4, nxe = config & 8;
        int want = expected_error(pte, access, mode, wp, smep, smap, nxe);

        f->cpu->cr0 = CR0_PE | CR0_PG | (wp ? CR0_WP : 0);
        f->cpu->cr4 = CR4_PAE | (smep ? CR4_SMEP : 0) | (smap ? CR4_SMAP : 0);
        f->cpu->msrs.efer = EFER_LME | EFER_LMA | (nxe ? EFER_NXE : 0);
        map_4kb(f, TARGET, DATA, pte);
        f->cpu->cr2 = 0;
        for (unsigned again = 0; again < 2; again++) {
            int vector = access_once(f, access, mode, TARGET + 4);

            assert_int_equal(vector, want < 0 ? -1 : EXC_PF);
            if (want >= 0) {
                assert_int_equal(f->cpu->fault.error, want);
                assert_int_equal(f->cpu->cr2, TARGET + 4);
                assert_int_equal(leaf(f), DATA | pte);
            } else {
                assert_int_equal(leaf(f), DATA | pte | A | (access == SOFT_WRITE ? D : 0));
            }
        }
        cases++;
    }
    assert_int_equal(cases, 2304);
}

/* A right that a level above lacks is as good as lacking in the page. */
static void rights_of_all_levels_are_combined(void **state)
{
    static const uint64_t tables[] = {PML4, PDPT, PD};
    static const unsigned shifts[] = {39, 30, 21};
    struct fixture *f = *state;

    for (unsigned i = 0; i < 3; i++) {
        uint64_t gpa = tables[i] + index_of(TARGET, shifts[i]) * 8;

        map_4kb(f, TARGET, DATA, P | W | U);
        poke64(f, gpa, peek64(f, gpa) & ~W);
        assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, TARGET), EXC_PF);
        assert_int_equal(f->cpu->fault.error, 7);
        map_4kb(f, TARGET, DATA, P | W | U);
        poke64(f, gpa, peek64(f, gpa) & ~U);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), EXC_PF);
        assert_int_equal(f->cpu->fault.error, 5);
        map_4kb(f, TARGET, DATA, P | W | U);
        poke64(f, gpa, peek64(f, gpa) | NX);
        assert_int_equal(access_once(f, SOFT_FETCH, SOFT_MMU_USER, TARGET), EXC_PF);
        assert_int_equal(f->cpu->fault.error, 0x15);
        map_4kb(f, TARGET, DATA, P | W | U);
        poke64(f, gpa, 0);
        assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), EXC_PF);
        assert_int_equal(f->cpu->fault.error, 4);
    }
}

static void reserved_address_bits_fault_at_every_level(void **state)
{
    static const uint64_t tables[] = {PML4, PDPT, PD, PT};
    static const unsigned shifts[] = {39, 30, 21, 12};
    struct fixture *f = *state;

    for (unsigned i = 0; i < 4; i++) {
        for (unsigned bit = 40; bit < 63; bit++) {
            uint64_t gpa = tables[i] + index_of(TARGET, shifts[i]) * 8;

            map_4kb(f, TARGET, DATA, P | W | U);
            poke64(f, gpa, peek64(f, gpa) | 1UL << bit);
            if (bit >= 52) {
                assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), -1);
                continue;
            }
            assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), EXC_PF);
            assert_int_equal(f->cpu->fault.error, 0xd);
        }
    }
}

static void large_pages_map_and_check_their_reserved_bits(void **state)
{
    struct fixture *f = *state;
    uint64_t pd = PD + index_of(TARGET, 21) * 8, pdpt = PDPT + index_of(TARGET, 30) * 8;
    uint64_t gpa;

    map_4kb(f, TARGET, DATA, P | W | U);
    poke64(f, pd, 0x400000 | P | W | U | PS);
    poke32(f, 0x400000 + (TARGET & 0x1fffff), 0xabcd1234);
    assert_int_equal(soft_read32_as(f->cpu, TARGET, SOFT_MMU_USER), 0xabcd1234);
    assert_int_equal(peek64(f, pd), 0x400000 | P | W | U | PS | A);
    soft_write32_as(f->cpu, TARGET, 7, SOFT_MMU_USER);
    assert_int_equal(peek64(f, pd), 0x400000 | P | W | U | PS | A | D);
    poke64(f, pd, 0x402000 | P | W | U | PS);
    soft_tlb_flush(f->cpu, true);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), EXC_PF);
    assert_int_equal(f->cpu->fault.error, 0xd);

    /* 1 GB: reserved unless the model shows it. */
    poke64(f, pdpt, P | W | U | PS);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, TARGET), EXC_PF);
    assert_int_equal(f->cpu->fault.error, 0xd);
    fixture_show(f, CPU_80000001_EDX, 26);
    assert_true(soft_translate(f->cpu, TARGET, &gpa));
    assert_int_equal(gpa, TARGET & 0x3fffffff);
}

static void addresses_that_are_not_canonical_raise_gp_or_ss(void **state)
{
    struct fixture *f = *state;
    struct insn insn = {.memory = true, .segment = SEG_DS};

    f->cpu->insn = &insn;
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, 1UL << 47), EXC_GP);
    assert_int_equal(f->cpu->fault.error, 0);
    insn.segment = SEG_SS;
    assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, 0xffff7fffffffffffUL), EXC_SS);
    assert_int_equal(access_once(f, SOFT_FETCH, SOFT_MMU_USER, 1UL << 47), EXC_GP);
}

static void a_write_across_pages_stores_nothing_when_the_second_faults(void **state)
{
    struct fixture *f = *state;

    map_4kb(f, TARGET + 0x1000, DATA + 0x1000, P | U);
    map_4kb(f, TARGET, DATA, P | W | U);
    poke32(f, DATA + 0xffc, 0x11111111);
    assert_int_equal(RAISED(f, soft_write64_as(f->cpu, TARGET + 0xffc, ~0UL, SOFT_MMU_USER)),
                     EXC_PF);
    assert_int_equal(f->cpu->cr2, TARGET + 0x1000);
    assert_int_equal(f->cpu->fault.error, 7);
    assert_int_equal(peek32(f, DATA + 0xffc), 0x11111111);

    map_4kb(f, TARGET + 0x1000, DATA + 0x5000, P | W | U);
    soft_write64_as(f->cpu, TARGET + 0xffd, 0x8877665544332211UL, SOFT_MMU_USER);
    assert_int_equal(soft_read64_as(f->cpu, TARGET + 0xffd, SOFT_MMU_USER), 0x8877665544332211UL);
    assert_int_equal(peek32(f, DATA + 0x5000), 0x77665544);
}

static void a_read_does_not_make_a_clean_page_writable_unseen(void **state)
{
    struct fixture *f = *state;

    map_4kb(f, TARGET, DATA, P | W | U);
    (void)soft_read32_as(f->cpu, TARGET, SOFT_MMU_USER);
    assert_int_equal(leaf(f) & D, 0);
    soft_write32_as(f->cpu, TARGET, 5, SOFT_MMU_USER);
    assert_int_equal(leaf(f) & D, D);
}

/* ---- the older paging modes ---- */

static void enter_32bit(struct fixture *f)
{
    f->cpu->msrs.efer = 0;
    f->cpu->cr4 = 0;
    f->cpu->seg[SEG_CS].attributes = 0x49b;
    soft_update_mode(f->cpu);
    soft_tlb_flush(f->cpu, true);
}

static void paging_of_32_bits_has_4kb_and_4mb_pages(void **state)
{
    struct fixture *f = *state;
    uint64_t gpa;

    enter_32bit(f);
    f->cpu->cr3 = PML4;
    poke32(f, PML4 + 0x300 * 4, PD | P | W | U);
    poke32(f, PD + 0x12 * 4, DATA | P | U);
    poke32(f, DATA + 8, 99);
    assert_int_equal(soft_read32_as(f->cpu, 0xc0012008, SOFT_MMU_USER), 99);
    assert_int_equal(peek32(f, PML4 + 0x300 * 4), PD | P | W | U | A);
    assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_USER, 0xc0012008), EXC_PF);
    assert_int_equal(f->cpu->fault.error, 7);
    /* No I/D bit without NX and SMEP. */
    assert_int_equal(access_once(f, SOFT_FETCH, SOFT_MMU_USER, 0xc0013000), EXC_PF);
    assert_int_equal(f->cpu->fault.error, 4);

    /* PS counts only with CR4.PSE. */
    poke32(f, PML4 + 0x200 * 4, 0x800000 | P | W | PS);
    f->cpu->cr4 = CR4_PSE;
    poke32(f, 0x812340, 77);
    assert_int_equal(soft_read32_as(f->cpu, 0x80012340, SOFT_MMU_SUPERVISOR), 77);
    /* PSE-36: bits 13..20 are address bits 32..39. */
    poke32(f, PML4 + 0x201 * 4, 0x2000 | P | W | PS);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_SUPERVISOR, 0x80400000), EXC_PF);
    assert_int_equal(f->cpu->fault.error, 9);
    fixture_show(f, CPU_1_EDX, 17);
    assert_true(soft_translate(f->cpu, 0x80400004, &gpa));
    assert_int_equal(gpa, 0x100000004UL);
    poke32(f, PML4 + 0x201 * 4, 0x200000 | P | W | PS);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_SUPERVISOR, 0x80400000), EXC_PF);
    assert_int_equal(f->cpu->fault.error, 9);
}

static void pae_walks_from_the_loaded_pointers(void **state)
{
    struct fixture *f = *state;

    enter_32bit(f);
    f->cpu->cr4 = CR4_PAE;
    poke64(f, PML4 + 0x20 + 3 * 8, PD | P);
    assert_true(soft_load_pdptr(f->cpu, PML4 + 0x20));
    poke64(f, PD, PT | P | W | U);
    poke64(f, PT, DATA | P | W | U);
    poke32(f, DATA + 4, 55);
    assert_int_equal(soft_read32_as(f->cpu, 0xc0000004, SOFT_MMU_USER), 55);
    /* A change in memory counts only at the next load. */
    poke64(f, PML4 + 0x20 + 3 * 8, 0);
    soft_tlb_flush(f->cpu, true);
    assert_int_equal(soft_read32_as(f->cpu, 0xc0000004, SOFT_MMU_USER), 55);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, 0x80000000), EXC_PF);
    assert_int_equal(f->cpu->fault.error, 4);
    poke64(f, PT, DATA | P | W | U | 1UL << 52);
    soft_tlb_flush(f->cpu, true);
    assert_int_equal(access_once(f, SOFT_READ, SOFT_MMU_USER, 0xc0000004), EXC_PF);
    assert_int_equal(f->cpu->fault.error, 0xd);
    /* Reserved bits of a pointer refuse the load; of one that is not present they do not. */
    poke64(f, PML4 + 0x20, PD | P | W);
    assert_false(soft_load_pdptr(f->cpu, PML4 + 0x20));
    assert_int_equal(f->cpu->pdptr[3], PD | P);
    poke64(f, PML4 + 0x20, PD | W);
    assert_true(soft_load_pdptr(f->cpu, PML4 + 0x20));
}

static void without_paging_linear_is_physical(void **state)
{
    struct fixture *f = *state;
    uint64_t gpa;

    enter_32bit(f);
    f->cpu->cr0 = CR0_PE;
    poke32(f, 0x54320, 123);
    assert_int_equal(soft_read32_as(f->cpu, 0x54320, SOFT_MMU_USER), 123);
    soft_write32_as(f->cpu, 0x54320, 124, SOFT_MMU_USER);
    assert_int_equal(peek32(f, 0x54320), 124);
    assert_ptr_equal(soft_fetch_page(f->cpu, 0x54321, &gpa), f->ram + 0x54321);
    assert_int_equal(gpa, 0x54321);
}

/* ---- what is no RAM ---- */

static struct {
    uint64_t address[8], value[8];
    unsigned size[8], count;
} mmio;

static uint64_t mmio_read(void *opaque, uint64_t address, unsigned size)
{
    mmio.address[mmio.count] = address;
    mmio.size[mmio.count++] = size;
    return 0x0807060504030201UL;
}

static void mmio_write(void *opaque, uint64_t address, unsigned size, uint64_t value)
{
    mmio.address[mmio.count] = address;
    mmio.value[mmio.count] = value;
    mmio.size[mmio.count++] = size;
}

static void mmio_is_split_into_aligned_pieces(void **state)
{
    struct fixture *f = *state;
    uint8_t vector[32];

    f->exits = (struct exit_ops){.mmio_read = mmio_read, .mmio_write = mmio_write};
    map_4kb(f, TARGET, 0xfe000000, P | W | U);
    mmio.count = 0;
    assert_int_equal(soft_read32_as(f->cpu, TARGET + 4, SOFT_MMU_USER), 0x04030201);
    assert_int_equal(mmio.count, 1);
    assert_int_equal(mmio.address[0], 0xfe000004);
    assert_int_equal(mmio.size[0], 4);
    mmio.count = 0;
    soft_write64_as(f->cpu, TARGET + 2, 0x1122334455667788UL, SOFT_MMU_USER);
    assert_int_equal(mmio.count, 3);
    assert_int_equal(mmio.size[0], 2);
    assert_int_equal(mmio.value[0], 0x7788);
    assert_int_equal(mmio.size[1], 4);
    assert_int_equal(mmio.address[1], 0xfe000004);
    assert_int_equal(mmio.value[1], 0x33445566);
    assert_int_equal(mmio.value[2], 0x1122);
    mmio.count = 0;
    f->cpu->mmu_mode = SOFT_MMU_USER;
    soft_read_bytes(f->cpu, TARGET, vector, 32);
    assert_int_equal(mmio.count, 4);
    assert_int_equal(mmio.size[3], 8);
    assert_int_equal(mmio.address[3], 0xfe000018);
}

static void rom_is_read_and_takes_no_writes(void **state)
{
    struct fixture *f = *state;
    uint32_t value = 0x5a5a5a5a;

    test_memory_add(f->memory, MEMORY_ROM, 0xfff00000, 0x1000);
    assert_true(memory_load(f->memory, 0xfff00010, &value, 4));
    map_4kb(f, TARGET, 0xfff00000, P | W | U);
    assert_int_equal(soft_read32_as(f->cpu, TARGET + 0x10, SOFT_MMU_USER), value);
    soft_write32_as(f->cpu, TARGET + 0x10, 1, SOFT_MMU_USER);
    assert_int_equal(soft_read32_as(f->cpu, TARGET + 0x10, SOFT_MMU_USER), value);
    assert_null(soft_atomic_pointer(f->cpu, TARGET + 0x10, 4, SOFT_MMU_USER));
}

static void alignment_is_checked_for_user_code_that_asks_for_it(void **state)
{
    struct fixture *f = *state;

    map_4kb(f, TARGET, DATA, P | W | U);
    map_4kb(f, TARGET + 0x1000, DATA + 0x1000, P | W | U);
    f->cpu->seg[SEG_SS].attributes = 0xcf3;
    f->cpu->rflags |= FLAG_AC;
    soft_update_mode(f->cpu);
    assert_int_equal(RAISED(f, (void)soft_read32(f->cpu, TARGET + 2)), -1);
    f->cpu->cr0 |= CR0_AM;
    soft_update_mode(f->cpu);
    for (unsigned again = 0; again < 2; again++) {
        assert_int_equal(RAISED(f, (void)soft_read32(f->cpu, TARGET + 4)), -1);
        assert_int_equal(RAISED(f, (void)soft_read32(f->cpu, TARGET + 2)), EXC_AC);
        assert_int_equal(RAISED(f, soft_write16(f->cpu, TARGET + 0xfff, 0)), EXC_AC);
        assert_int_equal(RAISED(f, soft_write8(f->cpu, TARGET + 3, 0)), -1);
    }
    f->cpu->seg[SEG_SS].attributes = 0xc93;
    soft_update_mode(f->cpu);
    assert_int_equal(RAISED(f, (void)soft_read32_as(f->cpu, TARGET + 2, SOFT_MMU_USER)), -1);
}

static void data_breakpoints_see_each_access(void **state)
{
    struct fixture *f = *state;

    map_4kb(f, TARGET, DATA, P | W | U);
    soft_write32_as(f->cpu, TARGET, 5, SOFT_MMU_USER);
    watch(f, TARGET + 8, 1);
    for (unsigned again = 0; again < 2; again++) {
        f->cpu->pending_db = 0;
        (void)soft_read32_as(f->cpu, TARGET + 8, SOFT_MMU_USER);
        soft_write32_as(f->cpu, TARGET + 4, 1, SOFT_MMU_USER);
        soft_write32_as(f->cpu, TARGET + 12, 1, SOFT_MMU_USER);
        assert_int_equal(f->cpu->pending_db, 0);
        soft_write64_as(f->cpu, TARGET + 1, 1, SOFT_MMU_USER);
        assert_int_equal(f->cpu->pending_db, 1);
    }
    watch(f, TARGET + 8, 3);
    (void)soft_read8_as(f->cpu, TARGET + 11, SOFT_MMU_USER);
    assert_int_equal(f->cpu->pending_db, 1);
    f->cpu->dr7 = 0x400;
    soft_update_debug(f->cpu);
    f->cpu->pending_db = 0;
    soft_write32_as(f->cpu, TARGET + 8, 1, SOFT_MMU_USER);
    assert_int_equal(f->cpu->pending_db, 0);
    assert_int_equal(soft_tlb_slot(f->cpu, SOFT_MMU_USER, TARGET)->write_tag, TARGET);
}

static void a_fault_inside_an_exclusive_section_leaves_it(void **state)
{
    struct fixture *f = *state;

    map_4kb(f, TARGET, DATA, 0);
    for (unsigned i = 0; i < 2; i++) {
        int vector = RAISED(f, {
            soft_exclusive_begin(f->cpu);
            soft_write32_as(f->cpu, TARGET, 1, SOFT_MMU_USER);
        });

        assert_int_equal(vector, EXC_PF);
        assert_false(f->cpu->exclusive);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(all_rights_and_accesses_give_the_exact_error_code),
        TEST(rights_of_all_levels_are_combined),
        TEST(reserved_address_bits_fault_at_every_level),
        TEST(large_pages_map_and_check_their_reserved_bits),
        TEST(addresses_that_are_not_canonical_raise_gp_or_ss),
        TEST(a_write_across_pages_stores_nothing_when_the_second_faults),
        TEST(a_read_does_not_make_a_clean_page_writable_unseen),
        TEST(paging_of_32_bits_has_4kb_and_4mb_pages),
        TEST(pae_walks_from_the_loaded_pointers),
        TEST(without_paging_linear_is_physical),
        TEST(mmio_is_split_into_aligned_pieces),
        TEST(rom_is_read_and_takes_no_writes),
        TEST(alignment_is_checked_for_user_code_that_asks_for_it),
        TEST(data_breakpoints_see_each_access),
        TEST(a_fault_inside_an_exclusive_section_leaves_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
