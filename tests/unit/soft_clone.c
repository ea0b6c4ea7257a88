// SPDX-License-Identifier: Apache-2.0
/*
 * One page of code at many linear addresses: what is translated at one of them is cloned for the
 * others, and does there what it would do if it were translated anew.
 */
#include "vmm/engine/soft/translator/translation.h"

#include "tests/unit/soft_paging.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/machine/clock.h"

#define CODE   0x200000UL /* guest-physical */
#define OFFSET 0x123      /* in its page */
#define STACK  0x300000UL
#define LOOPS  20

static struct soft_engine engine = {.count = 1};
static struct clock *manual;

static void code_written(void *opaque, uint64_t page)
{
    struct fixture *f = opaque;

    soft_blocks_page_written(f->cpu, page);
    soft_blocks_ask(f->cpu);
}

static void write_protected(void *opaque, uint64_t page)
{
    struct fixture *f = opaque;

    soft_tlb_protect(f->cpu, page);
}

static int begin(void **state)
{
    struct fixture *f;

    setup(state);
    f = *state;
    const struct memory_listener listener = {
        .write_protected = write_protected, .code_written = code_written, .opaque = f};

    manual = f->cpu->clock = clock_create_manual(0);
    f->cpu->engine = &engine;
    f->cpu->blocks = soft_blocks_create(f->cpu);
    engine.switches.eager = true;
    f->model.words[CPU_1_EDX] |= 1; /* x87 */
    f->cpu->x87.fcw = 0x37f;
    f->cpu->translator = soft_translator_create(f->cpu, NULL);
    assert_true(memory_listen(f->memory, &listener, NULL));
    return !f->cpu->translator;
}

static int begin_without(void **state)
{
    int status;

    engine.switches.noclones = true;
    status = begin(state);
    engine.switches.noclones = false;
    return status;
}

static int end(void **state)
{
    struct fixture *f = *state;

    memory_unlisten(f->memory, f);
    soft_translator_destroy(f->cpu->translator);
    soft_blocks_destroy(f->cpu->blocks);
    clock_destroy(manual);
    return teardown(state);
}

/* 0: call 5; 5: pop rsi; lea rdi, [rip + 20h]; add r8, [rip + 100h]; fld1; fstp st(0);
 * dec ecx; jnz 0; ud2. A number stands where R8 comes from. */
static void put_code(struct fixture *f)
{
    static const uint8_t code[] = {0xe8, 0,    0,    0,    0,    0x5e, 0x48, 0x8d, 0x3d, 0x20,
                                   0,    0,    0,    0x4c, 0x03, 0x05, 0,    1,    0,    0,
                                   0xd9, 0xe8, 0xdd, 0xd8, 0xff, 0xc9, 0x75, 0xe4, 0x0f, 0x0b};

    memory_write(f->memory, CODE + OFFSET, code, sizeof(code));
    poke64(f, CODE + OFFSET + 20 + 0x100, 3);
}

static uint64_t page_of(uint64_t linear)
{
    return linear & ~0xfffUL;
}

/* Run the code at `linear`, where everything has to be as it is there. */
static void run_at(struct fixture *f, uint64_t linear, uint64_t each)
{
    struct soft_cpu *cpu = f->cpu;

    map_4kb(f, TARGET, STACK, P | W);
    map_4kb(f, page_of(linear), CODE, P | W);
    cpu->mp_state = CPU_RUNNABLE;
    cpu->delivering = -1;
    cpu->rip = cpu->next_rip = page_of(linear) + OFFSET;
    cpu->gpr[GPR_RSP] = TARGET + 0x800;
    cpu->gpr[GPR_RCX] = LOOPS;
    cpu->gpr[GPR_R8] = 0;
    assert_int_equal(soft_run(cpu), VCPU_EXIT_SHUTDOWN);
    assert_int_equal(cpu->rip, page_of(linear) + OFFSET + 28);
    assert_int_equal(cpu->gpr[GPR_RSI], page_of(linear) + OFFSET + 5);
    assert_int_equal(cpu->gpr[GPR_RDI], page_of(linear) + OFFSET + 13 + 0x20);
    assert_int_equal(cpu->gpr[GPR_R8], LOOPS * each);
    assert_int_equal(cpu->x87.fip, page_of(linear) + OFFSET + 22);
}

static uint64_t translated(const struct fixture *f)
{
    return f->cpu->counters.blocks_translated;
}

static void code_at_another_address_is_cloned(void **state)
{
    static const uint64_t places[] = {0x0000555512340000, 0x00007ffff7fff000, 0xffff888012345000,
                                      0x0000111100000000};
    struct fixture *f = *state;
    uint64_t before;

    put_code(f);
    run_at(f, 0x00007f0011111000, 3);
    before = translated(f);
    assert_int_equal(f->cpu->counters.clones, 0);
    for (unsigned i = 0; i < 4; i++)
        run_at(f, places[i], 3);
    assert_int_equal(translated(f), before);
    assert_true(f->cpu->counters.clones >= 4 * 2);
    for (unsigned i = 0; i < 4; i++)
        run_at(f, places[i], 3);
    assert_int_equal(translated(f), before);
}

static void a_clone_stays_in_translated_code(void **state)
{
    struct fixture *f = *state;
    uint64_t exits;

    put_code(f);
    run_at(f, 0x00007f0011111000, 3);
    exits = f->cpu->counters.exits;
    run_at(f, 0x00007f0022222000, 3);
    assert_in_range(f->cpu->counters.exits - exits, 1, LOOPS);
}

static void noclones_translates_anew(void **state)
{
    struct fixture *f = *state;
    uint64_t before;

    put_code(f);
    run_at(f, 0x00007f0011111000, 3);
    before = translated(f);
    run_at(f, 0x00007f0022222000, 3);
    assert_int_equal(f->cpu->counters.clones, 0);
    assert_true(translated(f) >= before + 2);
}

/* The forms of addresses differ there. */
static void what_would_not_fit_is_translated_anew(void **state)
{
    struct fixture *f = *state;
    uint64_t before;

    put_code(f);
    run_at(f, 0x0000000000801000, 3);
    before = translated(f);
    run_at(f, 0x00000000ffa01000, 3); /* a call pushes an address whose sign is set */
    run_at(f, 0x00007f0022222000, 3);
    run_at(f, 0xffffffff80802000, 3);
    assert_true(translated(f) > before);
    run_at(f, 0x0000000000801000, 3);
}

static void old_translations_are_moved(void **state)
{
    struct fixture *f = *state;
    uint64_t bytes = 0;

    put_code(f);
    for (uint64_t i = 0; i < 100; i++) {
        run_at(f, 0x00007f0000000000 + (i * 7919 << 12), 3);
        if (i == 50)
            bytes = f->cpu->counters.bytes_translated;
    }
    assert_true(f->cpu->counters.clones_moved > 50);
    assert_int_equal(f->cpu->counters.bytes_translated, bytes);
    /* And one that was moved away comes back. */
    run_at(f, 0x00007f0000000000, 3);
}

static void what_is_written_is_no_source(void **state)
{
    struct fixture *f = *state;
    uint64_t clones;

    put_code(f);
    run_at(f, 0x00007f0011111000, 3);
    run_at(f, 0x00007f0022222000, 3);
    memory_write(f->memory, CODE + OFFSET + 20 + 0x100, "\5", 1);
    clones = f->cpu->counters.clones;
    run_at(f, 0x00007f0033333000, 5);
    assert_int_equal(f->cpu->counters.clones, clones);
    run_at(f, 0x00007f0011111000, 5);
    assert_true(f->cpu->counters.clones > clones);
}

/* ---- numbers of pages ---- */

static const uint8_t *host_page(unsigned number)
{
    return (const uint8_t *)((uintptr_t)(number + 1) << 12);
}

static void a_page_keeps_its_number(void **state)
{
    struct fixture *f = *state;
    struct soft_translator *translator = f->cpu->translator;
    uint32_t first = code_page_id(translator, 0x7000123, host_page(1));

    assert_true(first > 0);
    assert_int_not_equal(code_page_id(translator, 0x8000123, host_page(1)), first);
    assert_int_not_equal(code_page_id(translator, 0x7000123, host_page(2)), first);
    assert_int_equal(code_page_id(translator, 0x7000fff, host_page(1) + 0x800), first);
}

/* The page of the code that was run has a translation, none of the others. */
static void unused_numbers_are_given_again(void **state)
{
    struct fixture *f = *state;
    struct soft_cpu *cpu = f->cpu;
    struct soft_translator *translator = cpu->translator;
    const uint64_t linear = 0x00007f0011111000;
    uint32_t used;

    put_code(f);
    run_at(f, linear, 3);
    used = translator->translations[0].page;
    for (unsigned i = 0; code_page_id(translator, (uint64_t)i << 12, host_page(i)); i++)
        assert_true(i < PAGE_IDS);
    *soft_fetch_id(cpu, linear) = used;
    assert_true(code_pages_ready(translator));
    assert_int_equal(*soft_fetch_id(cpu, linear), 0);
    for (unsigned i = 0; i < PAGE_IDS / 2; i++) {
        assert_true(code_pages_ready(translator));
        assert_int_not_equal(code_page_id(translator, (uint64_t)i << 12, host_page(i + 1)), used);
    }
    run_at(f, linear, 3);
    assert_int_equal(translator->translations[0].page, used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(code_at_another_address_is_cloned, begin, end),
        cmocka_unit_test_setup_teardown(a_clone_stays_in_translated_code, begin, end),
        cmocka_unit_test_setup_teardown(noclones_translates_anew, begin_without, end),
        cmocka_unit_test_setup_teardown(what_would_not_fit_is_translated_anew, begin, end),
        cmocka_unit_test_setup_teardown(old_translations_are_moved, begin, end),
        cmocka_unit_test_setup_teardown(what_is_written_is_no_source, begin, end),
        cmocka_unit_test_setup_teardown(a_page_keeps_its_number, begin, end),
        cmocka_unit_test_setup_teardown(unused_numbers_are_given_again, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
