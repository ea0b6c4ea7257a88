// SPDX-License-Identifier: Apache-2.0
/*
 * Windows of user address spaces under random events, against the walker. Two vCPUs run in four
 * address spaces and three contexts; tables change in all levels, pages become code, are collected,
 * modes alter. After a change the vCPUs flush what they owe, by any of the ways that the
 * architecture has. Then whatever the host lets be read or written at the place of a user page has
 * to be what the tables and the memory authority say at that moment.
 *
 * A context that is not the present one may be stale until it is switched to: then it is flushed,
 * as one is that was another space's.
 */
#include "tests/unit/soft_user_window.h"

#define EVENTS    20000
#define SPACES    4
#define CONTEXTS  3 /* of PCIDs; two spaces have the same */
#define ROOT(n)   (0x1000UL + (n)*0x1000)
#define PDPT_LOW  0x8000UL /* slot 0: the second GB is a large page, or as the first */
#define PDPT_HIGH 0x9000UL /* slots 0x55 and 0xff, of all spaces but the last */
#define PD_LOW    0xa000UL
#define PD_HIGH   0xb000UL
#define PT_LOW    0xc000UL
#define PT_HIGH   0xd000UL
#define PT_OTHER  0xe000UL
#define TABLE     (P | W | U | A)
#define KEY       (1UL << 59)
#define HOLE      0x704000UL

#define SMALL     0x400000UL /* 16 pages */
#define BIG       0x800000UL /* a large page, or a table */
#define SECOND_GB 0x40000000UL
#define MID       (0x55UL << 39 | 0x400000)
#define END       0x7ffffffff000UL /* the last page, of 16 */

static uint32_t random_state = 1;

static uint32_t roll(uint32_t below)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % below;
}

/* By vCPU and PCID: a flush is owed; of which space its translations are. */
static bool stale[2][CONTEXTS + 1];
static unsigned owner[2][CONTEXTS + 1];

static void set(struct user *user, uint64_t table, unsigned index, uint64_t entry)
{
    poke64(&user->base, table + index * 8UL, entry);
}

static void make_tables(struct user *user)
{
    for (unsigned i = 0; i < SPACES; i++) {
        set(user, ROOT(i), 0, PDPT_LOW | TABLE);
        set(user, ROOT(i), 0x55, (i == SPACES - 1 ? PDPT_LOW : PDPT_HIGH) | TABLE);
        set(user, ROOT(i), 0xff, PDPT_HIGH | TABLE);
    }
    set(user, PDPT_LOW, 0, PD_LOW | TABLE);
    set(user, PDPT_LOW, 1, USER | PS);
    set(user, PDPT_HIGH, 0, PD_HIGH | TABLE);
    set(user, PDPT_HIGH, 511, PD_HIGH | TABLE);
    set(user, PD_LOW, 2, PT_LOW | TABLE);
    set(user, PD_LOW, 4, 0x800000 | USER | PS);
    set(user, PD_HIGH, 2, PT_HIGH | TABLE);
    set(user, PD_HIGH, 511, PT_HIGH | TABLE);
    for (unsigned i = 0; i < 512; i++) {
        set(user, PT_LOW, i, (0x400000 + i * 0x1000UL) | USER);
        set(user, PT_HIGH, i, (0x700000 + i % 64 * 0x1000UL) | USER);
        set(user, PT_OTHER, i, (0x800000 + i * 0x1000UL) | USER);
    }
}

static struct soft_cpu *cpu_of(struct user *user, unsigned number)
{
    return number ? user->second : user->base.cpu;
}

static uint64_t random_page(void)
{
    switch (roll(6)) {
    case 0:
        return SMALL + roll(16) * 0x1000UL;
    case 1:
        return BIG + roll(512) * 0x1000UL;
    case 2:
        return SECOND_GB + 0x200000 + roll(1536) * 0x1000UL;
    case 3:
        return MID + roll(16) * 0x1000UL;
    case 4:
        return SECOND_GB + BIG + roll(8) * 0x1000UL;
    default:
        return END - roll(16) * 0x1000UL;
    }
}

/* ---- what may be ---- */

static bool keyed(const struct soft_cpu *cpu, const struct soft_path *path)
{
    return (cpu->cr4 & CR4_PKE) && path->entry[path->count - 1] >> 59 & 15;
}

static void check_page(struct user *user, struct soft_cpu *cpu, uint64_t linear)
{
    struct memory_view view;
    struct soft_path path;
    uint64_t value;

    if (!peek(user, cpu, linear, &value))
        return;
    assert_true(soft_walk_path(cpu, linear, &path));
    assert_true(path.translation.user && path.translation.accessed);
    assert_true(!keyed(cpu, &path) && !(cpu->cr4 & CR4_PKE && cpu->pkru & 3) && !cpu->break_data);
    assert_int_equal(value, path.translation.physical);
    assert_true(value != cpu->lapic_page);
    if (!writable(user, cpu, linear))
        return;
    assert_true(path.translation.writable && path.translation.dirty);
    assert_true(memory_view(user->base.memory, value, &view));
    assert_true(memory_view_writable(&view, value - view.base));
}

/* A fault has to be served where everything allows it. */
static void fault(struct user *user, struct soft_cpu *cpu)
{
    uint64_t linear = random_page(), size;
    bool write = roll(2), fits;
    enum window_fault got = soft_window_fault(cpu, linear + roll(0x1000), write);
    struct soft_path path;

    if (got == WINDOW_ENTERED) {
        assert_true(write ? writable(user, cpu, linear) : readable(user, cpu, linear));
        return;
    }
    fits = cpu->user_windowed && soft_walk_path(cpu, linear, &path) && path.translation.user &&
           (!write || path.translation.writable) && !keyed(cpu, &path);
    if (!fits)
        return;
    size = path.translation.shift > 12 ? LEAF_SIZE : 0x1000;
    assert_true((write && memory_has_code(user->base.memory, path.translation.physical)) ||
                cpu->lapic_page - (path.translation.physical & ~(size - 1)) < size);
}

/* ---- what the guest does ---- */

static void enter_space(struct user *user, unsigned number, unsigned space)
{
    unsigned pcid = 1 + space % CONTEXTS;
    bool kept = owner[number][pcid] == space && !stale[number][pcid] && roll(4);

    switch_to(cpu_of(user, number), ROOT(space), pcid, kept);
    owner[number][pcid] = space;
    stale[number][pcid] = false;
}

/* All other contexts owe a flush, or not. */
static void set_stale(struct user *user, unsigned number, bool owed)
{
    for (unsigned pcid = 1; pcid <= CONTEXTS; pcid++)
        if (pcid != (cpu_of(user, number)->cr3 & 0xfff))
            stale[number][pcid] = owed;
}

static void invlpg(struct soft_cpu *cpu, uint64_t linear)
{
    soft_tlb_flush_page(cpu, linear);
    if (roll(2))
        soft_window_flush_page(cpu, linear);
    else
        soft_window_flush_user_page(cpu, linear);
}

/* Both vCPUs drop up to three pages of the present context; other ones are flushed later. */
static void flush_pages(struct user *user, const uint64_t linear[3])
{
    for (unsigned number = 0; number < 2; number++) {
        set_stale(user, number, true);
        for (unsigned i = 0; i < 3; i++)
            invlpg(cpu_of(user, number), linear[i]);
    }
}

/* In one of the ways that the architecture has. */
static void flush_all(struct user *user)
{
    for (unsigned number = 0; number < 2; number++) {
        struct soft_cpu *cpu = cpu_of(user, number);
        unsigned way = roll(4);

        if (way == 3) { /* of the present context, then of others */
            soft_write_cr3(cpu, cpu->cr3);
            soft_window_flush_others(cpu);
        } else if (way == 2) {
            soft_write_cr3(cpu, cpu->cr3);
        } else {
            soft_tlb_flush(cpu, true);
            (way ? soft_window_flush : soft_window_flush_user)(cpu);
        }
        set_stale(user, number, way == 2);
    }
}

static uint64_t random_rights(void)
{
    uint64_t rights = USER;

    if (!roll(3))
        rights ^= (uint64_t[]){P, W, A, D, G, U, NX, KEY, 1UL << 45, W | D}[roll(10)];
    return rights;
}

/* Each table is at more than one address. */
static void change_small(struct user *user, unsigned index)
{
    uint64_t offset = index * 0x1000UL;

    if (roll(2)) {
        set(user, PT_LOW, index, (0x400000 + roll(64) * 0x1000UL) | random_rights());
        flush_pages(user, (uint64_t[]){SMALL + offset, SECOND_GB + SMALL + offset, MID + offset});
    } else {
        set(user, PT_HIGH, index, (0x700000 + roll(64) * 0x1000UL) | random_rights());
        flush_pages(user, (uint64_t[]){MID + offset, MID + offset, END - 511 * 0x1000 + offset});
    }
}

/* What INVLPG of any of its addresses does. */
static void change_huge(struct user *user)
{
    uint64_t any = SECOND_GB + roll(SECOND_GB);
    bool huge = peek64(&user->base, PDPT_LOW + 8) & PS;

    set(user, PDPT_LOW, 1, huge && roll(2) ? PD_LOW | TABLE : random_rights() | PS);
    if (huge)
        flush_pages(user, (uint64_t[]){any, any, any});
    else
        flush_all(user);
}

static void change_tables(struct user *user)
{
    unsigned index = roll(16);

    switch (roll(6)) {
    case 0:
        change_huge(user);
        break;
    case 1:
        for (unsigned i = index; i < 16; i++)
            set(user, PT_LOW, i, (0x400000 + i * 0x1000UL) | random_rights());
        flush_all(user);
        break;
    case 2:
        set(user, PD_LOW, 4, (roll(2) ? 0x800000UL : 0xa00000UL) | random_rights() | PS);
        flush_all(user);
        break;
    case 3: /* tables and large pages */
        set(user, PD_LOW, 4, roll(2) ? PT_OTHER | TABLE : 0xa00000UL | USER | PS);
        set(user, PD_HIGH, 2, (roll(4) ? PT_HIGH : PT_OTHER) | (roll(8) ? TABLE : TABLE ^ U));
        flush_all(user);
        break;
    default:
        change_small(user, roll(2) ? index : 511 - index);
    }
}

/* Modes are those of both vCPUs, so that they agree about the tables. */
static void change_mode(struct user *user)
{
    unsigned what = roll(4);
    bool bad = !roll(4);

    for (unsigned number = 0; number < 2; number++) {
        struct soft_cpu *cpu = cpu_of(user, number);

        soft_tlb_flush(cpu, true);
        switch (what) {
        case 0:
            cpu->cr4 ^= CR4_PKE;
            soft_window_flush(cpu);
            break;
        case 1:
            cpu->msrs.efer ^= EFER_NXE;
            soft_window_flush(cpu);
            break;
        case 2:
            soft_write_pkru(cpu, bad ? 3 : 0);
            break;
        default:
            cpu->break_data = bad;
            soft_window_update(cpu);
        }
    }
}

static void change_memory(struct user *user)
{
    struct memory *memory = user->base.memory;
    uint64_t page = 0x400000 + roll(0xc00) * 0x1000UL, bitmap[1];

    switch (roll(12)) {
    case 0:
        memory_dirty_start(memory, MEMORY_CLIENT_MIGRATION);
        break;
    case 1:
        memory_dirty_stop(memory, MEMORY_CLIENT_MIGRATION);
        break;
    case 2:
    case 3:
        memory_dirty_collect(memory, MEMORY_CLIENT_MIGRATION, page >> 18 << 6, 64, bitmap);
        break;
    case 4:
    case 5:
    case 6:
        memory_mark_code(memory, page);
        break;
    case 7:
        for (unsigned number = 0; number < 2; number++) {
            cpu_of(user, number)->lapic_page = page & 0x4000 ? HOLE : SOFT_TLB_NONE;
            soft_window_set_hole(cpu_of(user, number), cpu_of(user, number)->lapic_page);
        }
        break;
    default:
        assert_true(memory_write(memory, page, &page, sizeof(page)));
    }
}

static void event(struct user *user)
{
    unsigned number = roll(2);

    switch (roll(16)) {
    case 0:
        enter_space(user, number, roll(SPACES));
        break;
    case 1:
        if (!roll(4))
            change_mode(user);
        break;
    case 2:
        change_memory(user);
        break;
    case 3:
    case 4:
        change_tables(user);
        break;
    case 5:
        invlpg(cpu_of(user, number), random_page());
        break;
    case 6:
        flush_all(user);
        break;
    default:
        fault(user, cpu_of(user, number));
    }
}

static int begin(void **state)
{
    struct user *user;

    user_begin(state, true);
    user = *state;
    make_tables(user);
    user->base.cpu->cr4 |= CR4_PCIDE;
    user->second->cr4 |= CR4_PCIDE;
    user_start(user);
    memset(stale, true, sizeof(stale));
    enter_space(user, 0, 0);
    enter_space(user, 1, 0);
    return 0;
}

static void what_is_shown_is_what_may_be(void **state)
{
    struct user *user = windowed(state);
    unsigned shown = 0;

    for (unsigned i = 0; i < EVENTS; i++) {
        event(user);
        for (unsigned j = 0; j < 4; j++) {
            check_page(user, user->base.cpu, random_page());
            check_page(user, user->second, random_page());
        }
        shown += readable(user, user->base.cpu, random_page());
    }
    assert_in_range(shown, EVENTS / 16, EVENTS); /* or nothing was proved */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_shown_is_what_may_be, begin, user_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
