// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of user address spaces, by user code that is translated and run: an operand beyond the
 * end of the slot of 512 GB that its code has checked, pages that registers lie over, and pages
 * that a context of the same number has invalidated.
 *
 * The code ends in UD2, which finds no IDT: the vCPU shuts down.
 */
#include "tests/unit/soft_user_window.h"

#define CODE  0x80000UL /* guest-physical */
#define SLOT2 (2UL << 39)

/* The last page of one slot and the first pages of the next, all one after the other. */
static void map_boundary(struct fixture *f)
{
    map_4kb(f, TARGET, CODE, USER);
    for (int i = -1; i < 4; i++)
        map_4kb(f, SLOT2 + (uint64_t)(i * 0x1000), DATA + 0x1000 + (uint64_t)(i * 0x1000), USER);
}

static int begin(void **state)
{
    user_begin(state, true);
    map_boundary(*state);
    user_start(*state);
    return 0;
}

/* From where CODE is mapped. */
static void run_at(struct fixture *f, uint64_t linear)
{
    struct sigaction cmocka;

    f->cpu->mp_state = CPU_RUNNABLE;
    f->cpu->delivering = -1;
    f->cpu->rip = f->cpu->next_rip = linear;
    sigaction(SIGSEGV, &on_fault, &cmocka);
    assert_int_equal(soft_run(f->cpu), VCPU_EXIT_SHUTDOWN);
    sigaction(SIGSEGV, &cmocka, NULL);
}

static void run(struct fixture *f, const uint8_t *code, unsigned size)
{
    memory_write(f->memory, CODE, code, size);
    run_at(f, TARGET);
}

static void what_lies_in_the_next_slot_is_found_there(void **state)
{
    /* MOV RAX, [RSI]; ADD RSI, 8; MOV RBX, [RSI]; MOV [RSI + 8], RAX; UD2 */
    static const uint8_t code[] = {0x48, 0x8b, 0x06, 0x48, 0x83, 0xc6, 0x08, 0x48,
                                   0x8b, 0x1e, 0x48, 0x89, 0x46, 0x08, 0x0f, 0x0b};
    struct user *user = windowed(state);
    struct fixture *f = &user->base;

    poke64(f, DATA + 0xff8, 0x1111);
    poke64(f, DATA + 0x1000, 0x2222);
    f->cpu->gpr[GPR_RSI] = SLOT2 - 8;
    run(f, code, sizeof(code));
    assert_int_equal(f->cpu->rip, TARGET + sizeof(code) - 2);
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0x1111);
    assert_int_equal(f->cpu->gpr[GPR_RBX], 0x2222);
    assert_int_equal(peek64(f, DATA + 0x1008), 0x1111);
}

static void an_operand_in_two_slots_is_one(void **state)
{
    /* MOV RAX, [RSI]; MOV [RSI], RBX; UD2 */
    static const uint8_t code[] = {0x48, 0x8b, 0x06, 0x48, 0x89, 0x1e, 0x0f, 0x0b};
    struct user *user = windowed(state);
    struct fixture *f = &user->base;

    poke64(f, DATA + 0xff8, 0x1111222200000000);
    poke64(f, DATA + 0x1000, 0x33334444);
    f->cpu->gpr[GPR_RSI] = SLOT2 - 4;
    f->cpu->gpr[GPR_RBX] = 0x5555666677778888;
    run(f, code, sizeof(code));
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0x3333444411112222);
    assert_int_equal(peek64(f, DATA + 0xff8), 0x7777888800000000);
    assert_int_equal(peek64(f, DATA + 0x1000), 0x55556666);
}

/* A kernel's code at an address of the upper half, which windows serve without a check, and the
 * same at one of the lower half, where they must not, though the page is a user's. */
static void a_kernel_finds_its_data_in_either_half(void **state)
{
    /* MOV RAX, [RIP + 100h]; UD2 */
    static const uint8_t code[] = {0x48, 0x8b, 0x05, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x0b};
    const uint64_t low = 0x345000, high = 0xffffffff80300000;
    struct user *user = windowed(state);
    struct fixture *f = &user->base;

    f->cpu->seg[SEG_CS].attributes = 0x29b;
    f->cpu->seg[SEG_SS].attributes = 0x93;
    soft_update_mode(f->cpu);
    map_4kb(f, low, CODE, USER);
    map_4kb(f, high, CODE, P | W | A | D | G);
    soft_window_flush(f->cpu);
    memory_write(f->memory, CODE, code, sizeof(code));
    poke64(f, CODE + 0x107, 0x1111);
    run_at(f, high);
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0x1111);
    assert_true(f->cpu->counters.window_faults > 0);
    poke64(f, CODE + 0x107, 0x2222);
    run_at(f, low);
    assert_int_equal(f->cpu->rip, low + 7);
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0x2222);
}

static void pages_beside_registers_are_shown_without_them(void **state)
{
    struct user *user = windowed(state);
    struct fixture *f = &user->base;

    show(f->cpu, SLOT2, false);
    assert_true(readable(user, f->cpu, SLOT2 + 0x2000));
    f->cpu->lapic_page = DATA + 0x3000;
    soft_window_set_hole(f->cpu, f->cpu->lapic_page);
    assert_false(readable(user, f->cpu, SLOT2 + 0x2000));
    show(f->cpu, SLOT2, false);
    assert_true(readable(user, f->cpu, SLOT2 + 0x1000));
    assert_false(readable(user, f->cpu, SLOT2 + 0x2000));
    assert_false(readable(user, f->cpu, SLOT2 + 0x3000));
    assert_int_equal(soft_window_fault(f->cpu, SLOT2 + 0x2000, false), WINDOW_NEVER);
    show(f->cpu, SLOT2 + 0x3000, false);
    assert_false(readable(user, f->cpu, SLOT2 + 0x2000));

    poke64(f, PD, DATA | USER | PS); /* a large page that holds the registers' */
    soft_window_flush(f->cpu);
    assert_int_equal(soft_window_fault(f->cpu, SLOT2, false), WINDOW_NEVER);
    assert_false(readable(user, f->cpu, SLOT2));
}

/* Another address space under the same PCID, or not; its INVLPG, or its flush. */
static void what_a_context_dropped_is_looked_at_again(void **state)
{
    const uint64_t other = 0x5000, entry = PT + index_of(SLOT2, 12) * 8;
    struct user *user = windowed(state);
    struct fixture *f = &user->base;

    f->cpu->cr4 |= CR4_PCIDE;
    memcpy(f->ram + other, f->ram + PML4, 0x1000);
    for (unsigned i = 0; i < 8; i++) {
        bool same = i & 1, invlpg = i & 2, changed = i & 4;

        poke64(f, entry, (DATA + 0x1000) | USER);
        switch_to(f->cpu, PML4, 1, false);
        show(f->cpu, SLOT2, false);
        switch_to(f->cpu, other, same ? 1 : 2, invlpg);
        if (changed)
            poke64(f, entry, (DATA + 0x8000) | USER);
        if (invlpg)
            soft_window_flush_page(f->cpu, SLOT2);
        switch_to(f->cpu, PML4, 1, true);
        assert_int_equal(readable(user, f->cpu, SLOT2), !(same && changed));
    }
}

/* As when a state is set: the flush comes with another address space. */
static void what_is_put_aside_by_a_flush_is_looked_at_again(void **state)
{
    const uint64_t other = 0x5000;
    struct user *user = windowed(state);
    struct fixture *f = &user->base;

    f->cpu->cr4 |= CR4_PCIDE;
    memcpy(f->ram + other, f->ram + PML4, 0x1000);
    switch_to(f->cpu, PML4, 1, false);
    show(f->cpu, SLOT2, false);
    poke64(f, PT + index_of(SLOT2, 12) * 8, (DATA + 0x8000) | USER);
    f->cpu->cr3 = other | 2;
    soft_window_flush(f->cpu);
    switch_to(f->cpu, PML4, 1, true);
    assert_false(readable(user, f->cpu, SLOT2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, user_end)
        TEST(what_lies_in_the_next_slot_is_found_there),
        TEST(an_operand_in_two_slots_is_one),
        TEST(a_kernel_finds_its_data_in_either_half),
        TEST(pages_beside_registers_are_shown_without_them),
        TEST(what_a_context_dropped_is_looked_at_again),
        TEST(what_is_put_aside_by_a_flush_is_looked_at_again),
    };

    alarm(10); /* code that makes no progress hears no test */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
