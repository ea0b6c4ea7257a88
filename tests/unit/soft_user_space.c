// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of user address spaces: who has them, for how long, and what bounds them. Who runs for
 * long gets them, who has too many faults loses them; where slots, mappings, or leaves run out,
 * what was put aside makes way.
 */
#include "tests/unit/soft_user_window.h"

#define ROOTS   0x10000UL /* each with three tables behind it */
#define ROOT(n) (ROOTS + (n)*0x4000UL)
#define SPACES  (USER_SPACES + 8)
#define WINDOW  0x7f0000000000UL
#define OFTEN   64 /* more samples than any space needs that never had windows */

/* Each address space has 256 pages at WINDOW, of which no two follow each other; the tables of the
 * lower half are so few that all of it shows the same. */
static void make_tables(struct fixture *f, unsigned space)
{
    uint64_t root = ROOT(space);

    for (unsigned i = 0; i < 256; i++)
        poke64(f, root + i * 8, (root + 0x1000) | P | W | U | A);
    for (unsigned i = 0; i < 512; i++) {
        poke64(f, root + 0x1000 + i * 8, (root + 0x2000) | P | W | U | A);
        poke64(f, root + 0x2000 + i * 8, (root + 0x3000) | P | W | U | A);
    }
    for (uint64_t i = 0; i < 512; i += 2)
        poke64(f, root + 0x3000 + i * 8, (0x200000 + space * 0x1000 + i * 0x4000) | USER);
}

static uint64_t physical_of(unsigned space, uint64_t linear)
{
    return 0x200000 + space * 0x1000UL + (linear >> 12 & 511) * 0x4000;
}

static int begin_with(void **state, bool eager)
{
    struct user *user;

    user_begin(state, eager);
    user = *state;
    for (unsigned i = 0; i < SPACES; i++)
        make_tables(&user->base, i);
    user->base.cpu->cr3 = user->second->cr3 = ROOT(0);
    user_start(user);
    return 0;
}

static int begin(void **state)
{
    return begin_with(state, false);
}

static int begin_eager(void **state)
{
    return begin_with(state, true);
}

/* ---- who has windows ---- */

/* Interrupts until there are windows. */
static unsigned wait(struct soft_cpu *cpu)
{
    unsigned count = 0;

    for (; !cpu->user_windowed && count < OFTEN; count++)
        soft_window_sample(cpu);
    return count;
}

static void who_runs_for_long_gets_windows(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;
    unsigned needed;

    assert_false(cpu->user_windowed);
    assert_int_equal(soft_window_fault(cpu, WINDOW, false), WINDOW_ABSENT);
    cpu->cpl = 0; /* the kernel's time does not count */
    assert_int_equal(wait(cpu), OFTEN);
    cpu->cpl = 3;
    needed = wait(cpu);
    assert_in_range(needed, 2, OFTEN - 1);
    assert_int_equal(cpu->counters.promotions, 1);
    show(cpu, WINDOW, true);
    assert_true(shows(user, cpu, WINDOW, physical_of(0, WINDOW)));

    /* Another one begins anew; this one has them when it comes back. */
    switch_to(cpu, ROOT(1), 0, false);
    assert_false(cpu->user_windowed);
    assert_false(readable(user, cpu, WINDOW));
    assert_int_equal(wait(cpu), needed);
    switch_to(cpu, ROOT(0), 0, false);
    assert_true(cpu->user_windowed);
    assert_true(writable(user, cpu, WINDOW));
    assert_false(user->second->user_windowed);
}

static void faults(struct soft_cpu *cpu, unsigned count)
{
    while (count--)
        assert_int_equal(soft_window_fault(cpu, WINDOW + 0x1000, false), WINDOW_ABSENT);
}

static void who_has_many_faults_loses_windows(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;
    unsigned needed = wait(cpu), before = 0, after;

    show(cpu, WINDOW, true);
    for (unsigned round = 0; round < 1000; round++) { /* few enough for its time */
        faults(cpu, 8);
        soft_window_sample(cpu);
        assert_true(cpu->user_windowed);
    }
    for (; cpu->user_windowed && before < 1000; before++) {
        faults(cpu, 1000);
        soft_window_sample(cpu);
    }
    assert_in_range(before, 2, 100);
    assert_false(readable(user, cpu, WINDOW));
    assert_int_equal(cpu->counters.demotions, 1);
    after = wait(cpu);
    assert_in_range(after, needed + 1, OFTEN - 1); /* it has to run the longer */
}

/* A root whose every page is another one now is another process. */
static void who_has_all_pages_changed_begins_anew(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;
    unsigned needed = wait(cpu);

    show(cpu, WINDOW, true);
    show(cpu, WINDOW + 0x2000, true);
    switch_to(cpu, ROOT(1), 0, false);
    memset(user->base.ram + ROOT(0) + 0x3000, 0, 0x1000);
    switch_to(cpu, ROOT(0), 0, false);
    assert_false(cpu->user_windowed);
    assert_int_equal(wait(cpu), needed);
}

/* ---- bounds ---- */

static unsigned spaces_of(const struct soft_cpu *cpu)
{
    unsigned count = 0;

    for (unsigned i = 0; i < USER_SPACES; i++)
        count += cpu->user_windows->spaces[i].root != USER_NO_ROOT;
    return count;
}

static unsigned slots_of(const struct user_host *host)
{
    unsigned count = 0;

    for (unsigned i = 0; i < WINDOW_SLOTS; i++)
        count += host->slots[i] != 0;
    return count;
}

static void spaces_make_way_for_others(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;
    unsigned slots = 0;

    for (unsigned i = 0; i < 4 * SPACES; i++) {
        unsigned space = i % SPACES;

        switch_to(cpu, ROOT(space), 0, false);
        assert_true(cpu->user_windowed);
        assert_false(readable(user, cpu, WINDOW));
        show(cpu, WINDOW, true);
        assert_true(shows(user, cpu, WINDOW, physical_of(space, WINDOW)));
        assert_true(spaces_of(cpu) <= USER_SPACES);
        if (i == SPACES)
            slots = slots_of(cpu->user_windows->host);
        assert_true(i < SPACES || slots_of(cpu->user_windows->host) == slots);
    }
    /* The last ones are there. */
    switch_to(cpu, ROOT(SPACES - 2), 0, false);
    assert_true(writable(user, cpu, WINDOW));
}

static void a_space_has_so_many_slots(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    for (uint64_t i = 0; i < 255; i++) {
        uint64_t linear = i << 39;

        assert_int_equal(soft_window_fault(cpu, linear, true),
                         i < USER_SPACE_SLOTS ? WINDOW_ENTERED : WINDOW_NEVER);
        assert_int_equal(readable(user, cpu, linear), i < USER_SPACE_SLOTS);
    }
}

/* More slots of all spaces together than the host has. */
static void slots_that_run_out_are_taken_from_what_is_aside(void **state)
{
    struct user *user = windowed(state);

    for (unsigned i = 0; i < 4 * USER_SPACES; i++) {
        struct soft_cpu *cpu = i & 1 ? user->second : user->base.cpu;
        unsigned space = i / 2 % USER_SPACES;

        switch_to(cpu, ROOT(space), 0, false);
        for (uint64_t j = 0; j < USER_SPACE_SLOTS; j++) {
            if (!readable(user, cpu, j << 39))
                show(cpu, j << 39, true);
            assert_true(shows(user, cpu, j << 39, physical_of(space, 0)));
        }
    }
}

static unsigned mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned count = 0;
    int c;

    assert_non_null(maps);
    while ((c = getc(maps)) != EOF)
        count += c == '\n';
    fclose(maps);
    return count;
}

/* Each page is a mapping of the host, and so is each gap. */
static void mappings_of_the_host_are_bounded(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;
    const struct user_host *host = cpu->user_windows->host;
    unsigned before = mappings(), shown = 0, most = 0;
    uint64_t linear = WINDOW;

    for (; soft_window_fault(cpu, linear, true) == WINDOW_ENTERED; linear += 0x2000) {
        shown++;
        most = host->pieces;
        if (shown == 1000)
            assert_in_range(mappings() - before, shown, most + 4);
    }
    assert_in_range(shown, USER_PIECES / 2 - LEAF_PAGES, USER_PIECES);
    assert_in_range(most, USER_PIECES - LEAF_PAGES, USER_PIECES);
    /* It goes on without any. */
    assert_false(cpu->user_windowed);
    assert_int_equal(host->pieces, 0);
    assert_in_range(mappings() - before, 0, 32);
    show(user->second, WINDOW, true);
}

/* Pages of which the half is protected, thousands of them. */
static void what_is_protected_is_bounded(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;
    const struct user_host *host = cpu->user_windows->host;
    unsigned before = mappings(), count = 0;

    for (unsigned i = 0; i < 512; i++)
        poke64(&user->base, ROOT(0) + 0x2000 + i * 8, 0x800000 | USER | PS);
    for (; count < 500; count++)
        show(cpu, WINDOW + count * LEAF_SIZE, true);
    for (uint64_t i = 0; i < LEAF_PAGES; i += 2) {
        memory_mark_code(user->base.memory, 0x800000 + i * 0x1000);
        assert_in_range(host->pieces, 0, USER_PIECES);
    }
    assert_in_range(mappings() - before, 0, USER_PIECES + 4);
    for (unsigned i = 0; i < count; i++) {
        assert_false(writable(user, cpu, WINDOW + i * LEAF_SIZE));
        assert_false(writable(user, cpu, WINDOW + i * LEAF_SIZE + 0x10000));
    }
}

/* The same page at more places than there are leaves. */
static void leaves_are_used_again(void **state)
{
    struct user *user = windowed(state);
    struct soft_cpu *cpu = user->base.cpu;

    for (uint64_t i = 0; i < USER_LEAVES + 100; i++) {
        uint64_t linear = WINDOW + i * LEAF_SIZE;

        show(cpu, linear, true);
        if (i & 1)
            soft_window_flush_page(cpu, linear);
        else
            soft_window_flush_user(cpu);
        if (i < USER_LEAVES / 2)
            soft_window_flush_page(cpu, linear);
    }
    assert_true(cpu->user_windows->host->used <= USER_LEAVES);
}

int main(void)
{
#define TEST(name)  cmocka_unit_test_setup_teardown(name, begin, user_end)
#define EAGER(name) cmocka_unit_test_setup_teardown(name, begin_eager, user_end)
    const struct CMUnitTest tests[] = {
        TEST(who_runs_for_long_gets_windows),
        TEST(who_has_many_faults_loses_windows),
        TEST(who_has_all_pages_changed_begins_anew),
        EAGER(spaces_make_way_for_others),
        EAGER(a_space_has_so_many_slots),
        EAGER(slots_that_run_out_are_taken_from_what_is_aside),
        EAGER(mappings_of_the_host_are_bounded),
        EAGER(what_is_protected_is_bounded),
        EAGER(leaves_are_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
