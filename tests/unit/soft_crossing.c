// SPDX-License-Identifier: Apache-2.0
/*
 * Ways of code from one page to another. Instructions that reach from one page into the next are
 * kept decoded and translated: what is executed is what the pages hold that are mapped now.
 * Indirect branches find their targets without leaving translated code. Each test runs interpreted
 * and translated.
 *
 * The code is a loop. It ends in UD2, which finds no IDT: the vCPU shuts
 * down, as it does when a fetch faults.
 */
#include "tests/unit/soft_paging.h"
#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/translator.h"
#include "vmm/machine/clock.h"

#define FIRST  0x200000UL /* guest-physical pages */
#define SECOND 0x300000UL
#define OTHER  0x400000UL
#define NEXT   (TARGET + 0x1000)
#define ENTRY  (NEXT - 2) /* MOV ECX, imm32, of which two bytes are in the first page */

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

static int begin(void **state, bool translate)
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
    if (translate)
        f->cpu->translator = soft_translator_create(f->cpu, NULL);
    assert_true(memory_listen(f->memory, &listener, NULL));
    return translate && !f->cpu->translator;
}

static int begin_interpreted(void **state)
{
    return begin(state, false);
}

static int begin_translated(void **state)
{
    return begin(state, true);
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

/* The upper part of MOV's immediate and the rest of the loop: ADD EBX, ECX; DEC EDX; JNZ to the
 * MOV; UD2. */
static void put_second(struct fixture *f, uint64_t page, uint8_t value)
{
    const uint8_t code[] = {0, value, 0, 1, 0xcb, 0xff, 0xca, 0x75, 0xf5, 0x0f, 0x0b};

    memory_write(f->memory, page, code, sizeof(code));
}

static void map_second(struct fixture *f, uint64_t page, uint64_t rights)
{
    poke64(f, PT + index_of(NEXT, 12) * 8, page | rights);
    soft_tlb_flush_page(f->cpu, NEXT);
}

static void put_code(struct fixture *f)
{
    map_4kb(f, TARGET, FIRST, P | W);
    map_second(f, SECOND, P | W);
    memory_write(f->memory, FIRST + 0xffe, "\xb9\x05", 2);
    put_second(f, SECOND, 0);
    put_second(f, OTHER, 1);
}

/* Loops of the code; what EBX says then. */
static uint32_t run(struct fixture *f, unsigned loops)
{
    f->cpu->mp_state = CPU_RUNNABLE;
    f->cpu->delivering = -1;
    f->cpu->rip = f->cpu->next_rip = ENTRY;
    f->cpu->gpr[GPR_RBX] = 0;
    f->cpu->gpr[GPR_RDX] = loops;
    assert_int_equal(soft_run(f->cpu), VCPU_EXIT_SHUTDOWN);
    return (uint32_t)f->cpu->gpr[GPR_RBX];
}

static void a_loop_over_the_boundary_is_decoded_once(void **state)
{
    struct fixture *f = *state;
    uint64_t decoded;

    put_code(f);
    assert_int_equal(run(f, 1), 5);
    decoded = f->cpu->counters.blocks_decoded;
    assert_int_equal(run(f, 1000), 5000);
    assert_int_equal(f->cpu->counters.blocks_decoded, decoded);
}

static void a_loop_over_the_boundary_stays_in_translated_code(void **state)
{
    struct fixture *f = *state;
    uint64_t exits;

    put_code(f);
    (void)run(f, 100);
    exits = f->cpu->counters.exits;
    assert_int_equal(run(f, 1000), 5000);
    assert_true(f->cpu->counters.exits < exits + 10);
}

static void a_write_to_either_page_is_seen(void **state)
{
    struct fixture *f = *state;

    put_code(f);
    for (unsigned i = 1; i < 5; i++) {
        put_second(f, SECOND, (uint8_t)i);
        assert_int_equal(run(f, 10), 10 * (5 + 0x10000 * i));
        memory_write(f->memory, FIRST + 0xfff, "\x09", 1);
        assert_int_equal(run(f, 10), 10 * (9 + 0x10000 * i));
        memory_write(f->memory, FIRST + 0xfff, "\x05", 1);
    }
}

static void another_second_page_is_seen(void **state)
{
    struct fixture *f = *state;

    put_code(f);
    for (unsigned i = 0; i < 3; i++) {
        map_second(f, SECOND, P | W);
        assert_int_equal(run(f, 10), 50);
        map_second(f, OTHER, P | W);
        assert_int_equal(run(f, 10), 50 + 10 * 0x10000);
    }
}

static void a_second_page_that_is_gone_faults(void **state)
{
    struct fixture *f = *state;

    put_code(f);
    assert_int_equal(run(f, 10), 50);
    map_second(f, SECOND, 0);
    assert_int_equal(run(f, 10), 0);
    assert_int_equal(f->cpu->cr2, NEXT);
    assert_int_equal(f->cpu->rip, ENTRY);
    map_second(f, SECOND, P | NX);
    assert_int_equal(run(f, 10), 0);
    map_second(f, SECOND, P);
    assert_int_equal(run(f, 10), 50);
}

/* In the middle of the loop: the code makes its second page another by itself. */
static void a_change_within_the_loop_is_seen(void **state)
{
    /* MOV [RSI], RAX; INVLPG [RDI]; JMP to ENTRY */
    static const uint8_t change[] = {0x48, 0x89, 0x06, 0x0f, 0x01, 0x3f, 0xe9, 0, 0, 0, 0};
    struct fixture *f = *state;
    /* In OTHER the loop goes on to the change: JNZ becomes JMP there, at most once. */
    uint64_t table = TARGET + 0x10000, place = TARGET + 0x800;
    int32_t distance = (int32_t)(ENTRY - (place + sizeof(change)));
    int32_t back = (int32_t)(place - (NEXT + 12));
    uint8_t jump[] = {0xe9, 0, 0, 0, 0};

    put_code(f);
    memory_write(f->memory, FIRST + 0x800, change, sizeof(change));
    memory_write(f->memory, FIRST + 0x807, &distance, 4);
    memcpy(jump + 1, &back, 4);
    memory_write(f->memory, OTHER + 7, jump, sizeof(jump));
    poke64(f, PT + index_of(table, 12) * 8, PT | P | W);
    assert_int_equal(run(f, 100), 500);
    map_second(f, OTHER, P);
    f->cpu->gpr[GPR_RSI] = table + index_of(NEXT, 12) * 8;
    f->cpu->gpr[GPR_RDI] = NEXT;
    f->cpu->gpr[GPR_RAX] = SECOND | P;
    assert_int_equal(run(f, 11), 5 + 0x10000 + 10 * 5);
}

/* Functions whose addresses differ in bits that do not choose their place among the targets. */
static void targets_of_one_place_are_found_in_translated_code(void **state)
{
    /* CALL RAX, RCX, RSI, RDI, R8, R9; DEC EDX; JNZ back to one of them; UD2 */
    static const uint8_t loop[] = {0xff, 0xd0, 0xff, 0xd1, 0xff, 0xd6, 0xff, 0xd7, 0x41, 0xff,
                                   0xd0, 0x41, 0xff, 0xd1, 0xff, 0xca, 0x75, 0,    0x0f, 0x0b};
    static const uint8_t gprs[] = {GPR_RAX, GPR_RCX, GPR_RSI, GPR_RDI, GPR_R8, GPR_R9};
    static const int8_t first[] = {0, 2, 4, 6, 8, 11}; /* where a loop of fewer calls begins */
    struct fixture *f = *state;
    uint64_t stack = TARGET + 0x2000, exits;

    put_code(f);
    poke64(f, PT + index_of(stack, 12) * 8, (OTHER + 0x1000) | P | W);
    for (unsigned i = 0; i < 6; i++) {
        uint8_t function[] = {0x83, 0xc3, (uint8_t)(1 << i), 0xc3}; /* ADD EBX, 1 << i; RET */
        uint64_t page = TARGET + (i + 1) * 0x10000;

        poke64(f, PT + index_of(page, 12) * 8, (OTHER + 0x10000 + i * 0x1000) | P);
        memory_write(f->memory, OTHER + 0x10000 + i * 0x1000, function, sizeof(function));
        f->cpu->gpr[gprs[i]] = page;
    }
    memory_write(f->memory, SECOND + 0x100, loop, sizeof(loop));
    for (unsigned calls = 1; calls <= 6; calls++) {
        uint8_t begin = (uint8_t)first[6 - calls], back = (uint8_t)(begin - 18);
        uint32_t sum = 0x3f & ~((1U << (6 - calls)) - 1);

        memory_write(f->memory, SECOND + 0x111, &back, 1);
        for (unsigned round = 0; round < 2; round++) {
            exits = f->cpu->counters.exits;
            f->cpu->gpr[GPR_RSP] = stack + 0x800;
            f->cpu->gpr[GPR_RBX] = 0;
            f->cpu->gpr[GPR_RDX] = 1000;
            f->cpu->mp_state = CPU_RUNNABLE;
            f->cpu->delivering = -1;
            f->cpu->rip = f->cpu->next_rip = NEXT + 0x100 + begin;
            assert_int_equal(soft_run(f->cpu), VCPU_EXIT_SHUTDOWN);
            assert_int_equal(f->cpu->gpr[GPR_RBX], 1000 * sum);
        }
        if (calls <= 4)
            assert_true(f->cpu->counters.exits < exits + 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                 \
    cmocka_unit_test_setup_teardown(name, begin_interpreted, end), \
        cmocka_unit_test_setup_teardown(name, begin_translated, end)
        TEST(a_loop_over_the_boundary_is_decoded_once),
        cmocka_unit_test_setup_teardown(a_loop_over_the_boundary_stays_in_translated_code,
                                        begin_translated, end),
        TEST(a_write_to_either_page_is_seen),
        TEST(another_second_page_is_seen),
        TEST(a_second_page_that_is_gone_faults),
        TEST(a_change_within_the_loop_is_seen),
        TEST(targets_of_one_place_are_found_in_translated_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
