// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of user address spaces, by user code that is translated and run: an operand beyond the
 * end of the slot of 512 GB that its code has checked, pages that registers lie over, and pages
 * that a context of the same number has invalidated.
 *
 * The code ends in UD2, which finds no IDT: the vCPU shuts down.
 */
#include <signal.h>

#include "tests/unit/soft_paging.h"
#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/translator.h"
#include "vmm/engine/soft/translator/window.h"
#include "vmm/machine/clock.h"

#define CODE  0x300000UL /* guest-physical pages; DATA is the first one of several */
#define SLOT2 (2UL << 39)
#define USER  (P | W | U | A | D)

struct user {
    struct fixture base;
    struct soft_engine engine;
    struct soft_windows *windows;
};

/* The translator's, which cmocka replaces by its own around each test. */
static struct sigaction on_fault;

static void unmapped(void *opaque, uint64_t base, uint64_t size)
{
}

static void code_written(void *opaque, uint64_t page)
{
    struct user *user = opaque;

    soft_blocks_page_written(user->base.cpu, page);
    soft_blocks_ask(user->base.cpu);
}

static void write_protected(void *opaque, uint64_t page)
{
    struct user *user = opaque;

    soft_tlb_protect(user->base.cpu, page);
    soft_windows_protect(user->windows, page);
}

/* The last page of one slot and the first pages of the next, all one after the other. */
static void map_boundary(struct fixture *f)
{
    map_4kb(f, TARGET, CODE, USER);
    for (int i = -1; i < 4; i++)
        map_4kb(f, SLOT2 + (uint64_t)(i * 0x1000), DATA + 0x1000 + (uint64_t)(i * 0x1000), USER);
}

static void enter_user_mode(struct fixture *f)
{
    enter_long_mode(f);
    f->cpu->seg[SEG_CS].attributes = 0x2fb;
    f->cpu->seg[SEG_CS].selector = 0x33;
    f->cpu->seg[SEG_SS].attributes = 0xf3;
    f->cpu->cpl = 3;
    soft_update_mode(f->cpu);
}

static int begin(void **state)
{
    struct user *user = calloc(1, sizeof(*user));
    struct fixture *f = &user->base;
    const struct memory_listener listener = {.unmapped = unmapped,
                                             .write_protected = write_protected,
                                             .code_written = code_written,
                                             .opaque = user};

    fixture_init(f);
    *state = user;
    f->cpu->clock = clock_create_manual(0);
    user->engine = (struct soft_engine){.count = 1, .switches.eager = true};
    f->cpu->engine = &user->engine;
    f->cpu->blocks = soft_blocks_create(f->cpu);
    f->cpu->translator = soft_translator_create(f->cpu, NULL);
    if (!on_fault.sa_sigaction) /* it is installed once */
        sigaction(SIGSEGV, NULL, &on_fault);
    assert_true(memory_listen(f->memory, &listener, NULL));
    map_boundary(f);
    enter_user_mode(f);
    if (f->cpu->translator && soft_windows_supported()) {
        user->windows = soft_windows_create(f->memory);
        assert_true(soft_window_join(user->windows, f->cpu));
        soft_window_load(f->cpu);
        soft_window_update(f->cpu);
    }
    return 0;
}

static int end(void **state)
{
    struct user *user = *state;
    struct fixture *f = &user->base;
    struct clock *clock = f->cpu->clock;

    soft_window_load(NULL);
    memory_unlisten(f->memory, user);
    soft_window_leave(f->cpu);
    soft_windows_destroy(user->windows);
    soft_translator_destroy(f->cpu->translator);
    soft_blocks_destroy(f->cpu->blocks);
    clock_destroy(clock);
    fixture_finish(f);
    free(user);
    return 0;
}

/* Skips where the address space has no windows: without FSGSBASE, or under a sanitizer. */
static struct fixture *windowed(void **state)
{
    struct user *user = *state;

    if (!user->base.cpu->user_windowed)
        skip();
    return &user->base;
}

static void run(struct fixture *f, const uint8_t *code, unsigned size)
{
    struct sigaction cmocka;

    memory_write(f->memory, CODE, code, size);
    f->cpu->mp_state = CPU_RUNNABLE;
    f->cpu->delivering = -1;
    f->cpu->rip = f->cpu->next_rip = TARGET;
    sigaction(SIGSEGV, &on_fault, &cmocka);
    assert_int_equal(soft_run(f->cpu), VCPU_EXIT_SHUTDOWN);
    sigaction(SIGSEGV, &cmocka, NULL);
}

static void what_lies_in_the_next_slot_is_found_there(void **state)
{
    /* MOV RAX, [RSI]; ADD RSI, 8; MOV RBX, [RSI]; MOV [RSI + 8], RAX; UD2 */
    static const uint8_t code[] = {0x48, 0x8b, 0x06, 0x48, 0x83, 0xc6, 0x08, 0x48,
                                   0x8b, 0x1e, 0x48, 0x89, 0x46, 0x08, 0x0f, 0x0b};
    struct fixture *f = windowed(state);

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
    struct fixture *f = windowed(state);

    poke64(f, DATA + 0xff8, 0x1111222200000000);
    poke64(f, DATA + 0x1000, 0x33334444);
    f->cpu->gpr[GPR_RSI] = SLOT2 - 4;
    f->cpu->gpr[GPR_RBX] = 0x5555666677778888;
    run(f, code, sizeof(code));
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0x3333444411112222);
    assert_int_equal(peek64(f, DATA + 0xff8), 0x7777888800000000);
    assert_int_equal(peek64(f, DATA + 0x1000), 0x55556666);
}

/* Whether the window has something at the address. */
static bool is_shown(struct fixture *f, uint64_t linear)
{
    const void *host = (const void *)(linear + f->cpu->user_delta[linear >> 39]);
    int fds[2];
    bool shown;

    assert_int_equal(pipe(fds), 0);
    shown = write(fds[1], host, 8) == 8;
    close(fds[0]);
    close(fds[1]);
    return shown;
}

static void show(struct fixture *f, uint64_t linear)
{
    assert_int_equal(soft_window_fault(f->cpu, linear, false), WINDOW_ENTERED);
}

static void pages_beside_registers_are_shown_without_them(void **state)
{
    struct fixture *f = windowed(state);

    show(f, SLOT2);
    assert_true(is_shown(f, SLOT2 + 0x2000));
    f->cpu->lapic_page = DATA + 0x3000;
    soft_window_set_hole(f->cpu, f->cpu->lapic_page);
    assert_false(is_shown(f, SLOT2 + 0x2000));
    show(f, SLOT2);
    assert_true(is_shown(f, SLOT2 + 0x1000));
    assert_false(is_shown(f, SLOT2 + 0x2000));
    assert_false(is_shown(f, SLOT2 + 0x3000));
    assert_int_equal(soft_window_fault(f->cpu, SLOT2 + 0x2000, false), WINDOW_NEVER);
    show(f, SLOT2 + 0x3000);
    assert_false(is_shown(f, SLOT2 + 0x2000));

    poke64(f, PD, DATA | USER | PS); /* a large page that holds the registers' */
    soft_window_flush(f->cpu);
    assert_int_equal(soft_window_fault(f->cpu, SLOT2, false), WINDOW_NEVER);
    assert_false(is_shown(f, SLOT2));
}

static void switch_to(struct fixture *f, uint64_t root, unsigned pcid, bool kept)
{
    f->cpu->cr3 = root | pcid;
    soft_window_switch(f->cpu, kept);
    assert_true(f->cpu->user_windowed);
}

/* Another address space under the same PCID, or not; its INVLPG, or its flush. */
static void what_a_context_dropped_is_looked_at_again(void **state)
{
    const uint64_t other = 0x5000, entry = PT + index_of(SLOT2, 12) * 8;
    struct fixture *f = windowed(state);

    f->cpu->cr4 |= CR4_PCIDE;
    memcpy(f->ram + other, f->ram + PML4, 0x1000);
    for (unsigned i = 0; i < 8; i++) {
        bool same = i & 1, invlpg = i & 2, changed = i & 4;

        poke64(f, entry, (DATA + 0x1000) | USER);
        switch_to(f, PML4, 1, false);
        show(f, SLOT2);
        switch_to(f, other, same ? 1 : 2, invlpg);
        if (changed)
            poke64(f, entry, (DATA + 0x8000) | USER);
        if (invlpg)
            soft_window_flush_page(f->cpu, SLOT2);
        switch_to(f, PML4, 1, true);
        assert_int_equal(is_shown(f, SLOT2), !(same && changed));
    }
}

/* As when a state is set: the flush comes with another address space. */
static void what_is_put_aside_by_a_flush_is_looked_at_again(void **state)
{
    const uint64_t other = 0x5000;
    struct fixture *f = windowed(state);

    f->cpu->cr4 |= CR4_PCIDE;
    memcpy(f->ram + other, f->ram + PML4, 0x1000);
    switch_to(f, PML4, 1, false);
    show(f, SLOT2);
    poke64(f, PT + index_of(SLOT2, 12) * 8, (DATA + 0x8000) | USER);
    f->cpu->cr3 = other | 2;
    soft_window_flush(f->cpu);
    switch_to(f, PML4, 1, true);
    assert_false(is_shown(f, SLOT2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(what_lies_in_the_next_slot_is_found_there),
        TEST(an_operand_in_two_slots_is_one),
        TEST(pages_beside_registers_are_shown_without_them),
        TEST(what_a_context_dropped_is_looked_at_again),
        TEST(what_is_put_aside_by_a_flush_is_looked_at_again),
    };

    alarm(10); /* code that makes no progress hears no test */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
