// SPDX-License-Identifier: Apache-2.0
/*
 * A page that becomes code while other vCPUs may write it: nobody waits, and nothing that is
 * decoded of it is kept until each of them has dropped its writable entries.
 */
#include "tests/unit/soft_paging.h"
#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/soft.h"

#define CODE 0x200000UL

static struct soft_engine engine;
static struct fixture second; /* the other vCPU; its own memory is not used */
static struct vcpu threads[2];
static struct vcpu *vcpus[2] = {&threads[0], &threads[1]};

static void join(struct fixture *f, unsigned index, struct memory *memory)
{
    f->cpu->engine = &engine;
    f->cpu->memory = memory;
    f->cpu->index = index;
    f->cpu->blocks = soft_blocks_create(f->cpu);
    f->cpu->vcpu = &threads[index];
    threads[index] = (struct vcpu){.cpu = f->cpu};
}

static int begin(void **state)
{
    struct memory_listener listener = soft_listener;
    struct fixture *f;

    setup(state);
    f = *state;
    fixture_init(&second);
    enter_long_mode(&second);
    engine = (struct soft_engine){.count = 2, .vcpus = vcpus};
    pthread_mutex_init(&engine.exclusive_lock, NULL);
    pthread_mutex_init(&engine.marks_lock, NULL);
    join(f, 0, f->memory);
    join(&second, 1, f->memory);
    listener.opaque = &engine;
    assert_true(memory_listen(f->memory, &listener, NULL));
    soft_set_current(f->cpu);
    map_4kb(f, TARGET, CODE, P | W);
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;

    soft_set_current(NULL);
    memory_unlisten(f->memory, &engine);
    pthread_mutex_destroy(&engine.exclusive_lock);
    pthread_mutex_destroy(&engine.marks_lock);
    soft_blocks_destroy(f->cpu->blocks);
    soft_blocks_destroy(second.cpu->blocks);
    fixture_finish(&second);
    return teardown(state);
}

static uint64_t write_tag(const struct fixture *f, uint64_t linear)
{
    return soft_tlb_slot(f->cpu, SOFT_MMU_SUPERVISOR, linear)->write_tag;
}

static void write_as(struct fixture *f, uint64_t linear)
{
    assert_int_equal(access_once(f, SOFT_WRITE, SOFT_MMU_SUPERVISOR, linear), -1);
}

static void a_mark_is_settled_when_the_others_dropped_their_entries(void **state)
{
    struct fixture *f = *state;
    uint64_t other = TARGET + 0x1000, mark;

    poke64(f, PT + index_of(other, 12) * 8, (CODE + 0x1000) | P | W);
    write_as(f, TARGET);
    write_as(&second, TARGET);
    write_as(&second, other);
    mark = soft_mark_code(f->cpu, CODE);
    assert_int_equal(write_tag(f, TARGET), SOFT_TLB_NONE);
    assert_false(soft_mark_settled(f->cpu, mark));
    assert_true(atomic_load(&second.cpu->requests) & SOFT_REQUEST_MARKS);
    soft_take_marks(second.cpu);
    assert_true(soft_mark_settled(f->cpu, mark));
    assert_int_equal(write_tag(&second, TARGET), SOFT_TLB_NONE);
    assert_int_equal(write_tag(&second, other), other);
    /* Marked already: nobody is asked, but what was announced before counts. */
    atomic_store(&second.cpu->requests, 0);
    assert_int_equal(soft_mark_code(f->cpu, CODE), mark);
    assert_int_equal(atomic_load(&second.cpu->requests), 0);
}

static void a_vcpu_outside_counts_and_looks_when_it_comes_in(void **state)
{
    struct fixture *f = *state;

    write_as(&second, TARGET);
    soft_leave(second.cpu);
    assert_true(soft_mark_settled(f->cpu, soft_mark_code(f->cpu, CODE)));
    assert_int_equal(atomic_load(&second.cpu->requests), 0);
    soft_enter(second.cpu);
    assert_int_equal(write_tag(&second, TARGET), SOFT_TLB_NONE);
}

static void a_flush_settles_too(void **state)
{
    struct fixture *f = *state;
    uint64_t mark = soft_mark_code(f->cpu, CODE);

    assert_false(soft_mark_settled(f->cpu, mark));
    soft_take_flush(second.cpu);
    assert_true(soft_mark_settled(f->cpu, mark));
}

static void marks_that_nobody_looked_at_in_time_are_found(void **state)
{
    struct fixture *f = *state;

    for (unsigned count = SOFT_MARKS - 1; count <= SOFT_MARKS + 1; count++) {
        write_as(&second, TARGET);
        assert_int_equal(write_tag(&second, TARGET), TARGET);
        (void)soft_mark_code(f->cpu, CODE);
        for (unsigned i = 1; i < count; i++) {
            memory_clear_code(f->memory, CODE + i * 0x1000UL);
            (void)soft_mark_code(f->cpu, CODE + i * 0x1000UL);
        }
        soft_take_marks(second.cpu);
        assert_int_equal(write_tag(&second, TARGET), SOFT_TLB_NONE);
        memory_clear_code(f->memory, CODE);
    }
}

static unsigned immediate(struct fixture *f)
{
    return (unsigned)soft_blocks_find(f->cpu, TARGET)->insns->immediate;
}

static void code_is_not_kept_while_it_may_be_written_unseen(void **state)
{
    static const uint8_t code[] = {0xb8, 1, 0, 0, 0, 0xf4}; /* MOV EAX, 1; HLT */
    struct fixture *f = *state;

    write_as(&second, TARGET);
    memcpy(f->ram + CODE, code, sizeof(code));
    for (unsigned i = 1; i < 200; i++) {
        assert_int_equal(immediate(f), i);
        soft_write8_as(second.cpu, TARGET + 1, (uint8_t)(i + 1), SOFT_MMU_SUPERVISOR);
    }
    assert_int_equal(f->cpu->counters.blocks_decoded, 0);
    soft_take_marks(second.cpu);
    assert_int_equal(immediate(f), 200);
    assert_int_equal(immediate(f), 200);
    assert_int_equal(f->cpu->counters.blocks_decoded, 1);
    /* From now on a write is seen. */
    soft_write8_as(second.cpu, TARGET + 1, 7, SOFT_MMU_SUPERVISOR);
    assert_true(soft_blocks_written(f->cpu));
    soft_blocks_drain(f->cpu);
    assert_int_equal(immediate(f), 7);
}

/* An instruction that reaches into a page that may be written unseen. */
static void code_across_pages_is_not_kept_either(void **state)
{
    static const uint8_t code[] = {0xb8, 1, 0, 0, 0, 0xf4};
    struct fixture *f = *state;
    uint64_t next = TARGET + 0x1000;

    poke64(f, PT + index_of(next, 12) * 8, (CODE + 0x1000) | P | W);
    write_as(&second, next);
    memcpy(f->ram + CODE + 0xffe, code, sizeof(code));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(soft_blocks_find(f->cpu, next - 2)->insns->immediate, 1 + i * 0x100);
        soft_write8_as(second.cpu, next, (uint8_t)(i + 1), SOFT_MMU_SUPERVISOR);
    }
    soft_take_marks(second.cpu);
    assert_int_equal(soft_blocks_find(f->cpu, next - 2)->insns->immediate, 0x301);
    assert_ptr_equal(soft_blocks_find(f->cpu, next - 2), soft_blocks_find(f->cpu, next - 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(a_mark_is_settled_when_the_others_dropped_their_entries),
        TEST(a_vcpu_outside_counts_and_looks_when_it_comes_in),
        TEST(a_flush_settles_too),
        TEST(marks_that_nobody_looked_at_in_time_are_found),
        TEST(code_is_not_kept_while_it_may_be_written_unseen),
        TEST(code_across_pages_is_not_kept_either),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
