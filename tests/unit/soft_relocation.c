// SPDX-License-Identifier: Apache-2.0
/*
 * Code of the translator that is used at another place: what was recorded when it was emitted makes
 * it the code that would have been emitted there. Each kind of constant is emitted for two places,
 * and the one moved to the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/engine/soft/cpu.h"
#include "vmm/engine/soft/translator/emit.h"

#define CODE_SIZE 256
#define LINES     0x10000000U /* where a TLB would be, and marks */
#define MARKS     0x20000000U
#define CODE      0x00005555deadb123UL
#define ELSEWHERE 0x00007fff13579123UL

/* Two pieces, and something that does not move. */
static uint8_t arena[8][CODE_SIZE];
static uint8_t *const glue = arena[0];

/* Where code is made, and for what. */
struct place {
    uint8_t *pieces[2];
    uint64_t linear;
    uint32_t site, exit, page;
};

static const struct place here = {{arena[1], arena[2]}, CODE, 100, 200, 3};
static const struct place there = {{arena[4], arena[7]}, ELSEWHERE, 170, 1200, 0x12345};

/* Code with a constant of the kind, in one of the pieces. */
typedef void (*maker)(struct emitter *emitter, const struct place *place);

static struct emitter make(maker make_code, const struct place *place, bool cold,
                           struct relocation *relocations)
{
    struct emitter emitter = {.at = place->pieces[cold],
                              .end = place->pieces[cold] + CODE_SIZE,
                              .relocations = relocations,
                              .relocation_max = 8,
                              .piece = place->pieces[cold],
                              .cold = cold};

    memset(place->pieces[cold], 0xcc, CODE_SIZE);
    emit_byte(&emitter, 0x90);
    make_code(&emitter, place);
    assert_false(emitter.full);
    return emitter;
}

static struct relocation_move between(const struct place *from, const struct place *to)
{
    return (struct relocation_move){
        .linear = to->linear - from->linear,
        .pieces = {(uint32_t)(to->pieces[0] - from->pieces[0]),
                   (uint32_t)(to->pieces[1] - from->pieces[1])},
        .site = to->site - from->site,
        .exit = to->exit - from->exit,
        .page = to->page - from->page,
        .tlb = LINES,
        .fetch = MARKS,
    };
}

/* Make the code here, move it there; it is the code that is made there. `kind`: what its distances
 * have become. */
static void assert_moves(maker make_code, const struct place *from, const struct place *to,
                         enum relocation_kind kind)
{
    const struct relocation_move move = between(from, to);

    for (unsigned cold = 0; cold < 2; cold++) {
        struct relocation relocations[8];
        struct emitter emitter = make(make_code, from, cold, relocations);
        size_t size = (size_t)(emitter.at - from->pieces[cold]);
        uint8_t moved[CODE_SIZE];

        assert_true(emitter.relocation_count > 0);
        memcpy(moved, from->pieces[cold], size);
        for (unsigned i = 0; i < emitter.relocation_count; i++) {
            uint64_t window = 0;

            if (relocations[i].kind == RELOCATION_DISTANCE)
                relocations[i].kind = kind;
            assert_int_equal(relocations[i].cold, cold);
            assert_true(
                relocation_fits(&move, relocations[i], moved + relocations[i].place, &window));
            relocation_apply(&move, relocations[i], moved + relocations[i].place);
        }
        emitter = make(make_code, to, cold, NULL);
        assert_int_equal(emitter.relocation_count, 0);
        assert_int_equal(emitter.at - to->pieces[cold], size);
        assert_memory_equal(moved, to->pieces[cold], size);
    }
}

static void jump_to_glue(struct emitter *emitter, const struct place *place)
{
    emit_jump(emitter, glue + 5);
    emit_jump_if(emitter, 4, glue + 9);
    emit_call(emitter, glue + 14);
}

static void jump_across(struct emitter *emitter, const struct place *place)
{
    uint8_t *later = emit_jump_forward(emitter);

    emit_jump_if(emitter, 5, place->pieces[!emitter->cold] + 7);
    emit_patch(later, place->pieces[!emitter->cold] + 33);
}

static void load_site(struct emitter *emitter, const struct place *place)
{
    emit_mov_number(emitter, RELOCATION_SITE, GPR_R13, place->site);
    emit_mov_number(emitter, RELOCATION_SITE, GPR_RAX, place->site + 1);
}

static void load_exit(struct emitter *emitter, const struct place *place)
{
    emit_mov_number(emitter, RELOCATION_EXIT, GPR_R14, place->exit);
}

static void compare_page(struct emitter *emitter, const struct place *place)
{
    emit_relocation(emitter, RELOCATION_PAGE, emitter->at);
    emit_u32(emitter, place->page);
}

static void subtract_page(struct emitter *emitter, const struct place *place)
{
    const struct emit_memory difference = {.base = GPR_R13,
                                           .index = EMIT_NONE,
                                           .relocate = RELOCATION_PAGE_NEGATED,
                                           .displacement = -(int32_t)place->page};

    emit_lea(emitter, false, GPR_RCX, &difference);
}

static void access_line(struct emitter *emitter, const struct place *place)
{
    uint32_t line = (place->linear >> 12 & (SOFT_TLB_ENTRIES - 1)) * sizeof(struct soft_tlb_entry);
    const struct emit_memory memory = {.base = EMIT_NONE,
                                       .index = EMIT_NONE,
                                       .relocate = RELOCATION_TLB,
                                       .displacement = (int32_t)(LINES + line + 24)};

    emit_load(emitter, true, GPR_R13, &memory);
}

static void access_mark(struct emitter *emitter, const struct place *place)
{
    uint32_t mark = (place->linear >> 12 & (SOFT_TLB_ENTRIES - 1)) * 4;
    const struct emit_memory memory = {.base = EMIT_NONE,
                                       .index = EMIT_NONE,
                                       .relocate = RELOCATION_FETCH,
                                       .displacement = (int32_t)(MARKS + mark)};

    emit_alu_memory_immediate(emitter, 7, false, &memory, 1);
}

static void access_window(struct emitter *emitter, const struct place *place)
{
    const struct emit_memory memory = {.base = EMIT_NONE,
                                       .index = EMIT_NONE,
                                       .gs = true,
                                       .relocate = RELOCATION_ADDRESS_WINDOW,
                                       .displacement = (int32_t)place->linear};

    emit_store(emitter, true, &memory, GPR_RBX);
}

static void load_linear(struct emitter *emitter, const struct place *place)
{
    emit_mov_linear(emitter, GPR_RCX, place->linear, false);
    emit_mov_linear(emitter, GPR_R13, place->linear + 7, false);
}

static void load_half(struct emitter *emitter, const struct place *place)
{
    emit_mov_linear(emitter, GPR_R13, (uint32_t)place->linear, true);
}

static struct place at(const struct place *place, uint64_t linear)
{
    struct place moved = *place;

    moved.linear = linear;
    return moved;
}

static void distances_stay_right(void **state)
{
    assert_moves(jump_to_glue, &here, &there, RELOCATION_OUT);
    assert_moves(jump_to_glue, &there, &here, RELOCATION_OUT);
    assert_moves(jump_across, &here, &there, RELOCATION_ACROSS);
    assert_moves(jump_across, &there, &here, RELOCATION_ACROSS);
}

static void numbers_move(void **state)
{
    assert_moves(load_site, &here, &there, 0);
    assert_moves(load_site, &there, &here, 0);
    assert_moves(load_exit, &here, &there, 0);
    assert_moves(load_exit, &there, &here, 0);
}

static void numbers_of_pages_move_whatever_their_size(void **state)
{
    assert_moves(compare_page, &here, &there, 0);
    assert_moves(subtract_page, &here, &there, 0);
    assert_moves(subtract_page, &there, &here, 0);
}

static void lines_of_pages_go_around(void **state)
{
    for (uint64_t page = 0; page < 3 * SOFT_TLB_ENTRIES; page += SOFT_TLB_ENTRIES / 4 - 1) {
        const struct place moved = at(&there, CODE + (page << 12));

        assert_moves(access_line, &here, &moved, 0);
        assert_moves(access_line, &moved, &here, 0);
        assert_moves(access_mark, &here, &moved, 0);
        assert_moves(access_mark, &moved, &here, 0);
    }
}

static void addresses_move_in_each_form(void **state)
{
    static const uint64_t pairs[][2] = {
        {CODE, ELSEWHERE},
        {0x401123, 0xfffff123},
        {0xffffffff80000123, 0xffffffffc0004123},
    };

    for (unsigned i = 0; i < 3; i++) {
        const struct place from = at(&here, pairs[i][0]), to = at(&there, pairs[i][1]);

        assert_moves(load_linear, &from, &to, 0);
        assert_moves(load_linear, &to, &from, 0);
        assert_moves(load_half, &from, &to, 0);
        assert_moves(load_half, &to, &from, 0);
    }
}

static void a_window_is_asked_for_by_its_address(void **state)
{
    const struct place from = at(&here, 0xffffffff81000123), to = at(&there, 0xffffffffc0000123);
    const struct relocation_move move = between(&from, &to);
    struct relocation relocation;
    uint64_t window = 0;

    assert_moves(access_window, &from, &to, 0);
    assert_int_equal(make(access_window, &from, false, &relocation).relocation_count, 1);
    assert_true(relocation_fits(&move, relocation, from.pieces[0] + relocation.place, &window));
    assert_int_equal(window, to.linear);
}

/* One constant of `make_code` at `from` and what it would have to be at `to`. */
static bool fits(maker make_code, uint64_t from, uint64_t to)
{
    const struct place first = at(&here, from), second = at(&there, to);
    const struct relocation_move move = between(&first, &second);
    struct relocation relocations[8];
    uint64_t window;

    (void)make(make_code, &first, false, relocations);
    return relocation_fits(&move, relocations[0], first.pieces[0] + relocations[0].place, &window);
}

static void an_address_that_wants_another_form_does_not_fit(void **state)
{
    assert_true(fits(load_linear, 0x401123, 0xfffff123));
    assert_false(fits(load_linear, 0x401123, 0x100000123));
    assert_false(fits(load_linear, 0x401123, CODE));
    assert_false(fits(load_linear, 0x401123, 0xffffffff80000123));
    assert_true(fits(load_linear, 0xffffffff80000123, 0xfffffffffffff123));
    assert_true(fits(load_linear, 0xffffffff80000123, 0x7ffff123));
    assert_false(fits(load_linear, 0xffffffff80000123, 0x80000123));
    assert_false(fits(load_linear, 0xffffffff80000123, 0xffffffff7ffff123));
    assert_false(fits(access_window, 0xffffffff80000123, 0xffff888000000123));
    /* What has room for all of them. */
    assert_true(fits(load_linear, CODE, 0x123));
    assert_true(fits(load_half, 0x401123, CODE));
}

static void what_finds_no_room_makes_the_code_void(void **state)
{
    struct relocation relocations[2];
    uint8_t bytes[64];
    struct emitter emitter = {.at = bytes,
                              .end = bytes + sizeof(bytes),
                              .relocations = relocations,
                              .relocation_max = 2,
                              .piece = bytes};

    emit_jump(&emitter, glue);
    emit_jump(&emitter, glue);
    assert_false(emitter.full);
    emit_jump(&emitter, glue);
    assert_true(emitter.full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances_stay_right),
        cmocka_unit_test(numbers_move),
        cmocka_unit_test(numbers_of_pages_move_whatever_their_size),
        cmocka_unit_test(lines_of_pages_go_around),
        cmocka_unit_test(addresses_move_in_each_form),
        cmocka_unit_test(a_window_is_asked_for_by_its_address),
        cmocka_unit_test(an_address_that_wants_another_form_does_not_fit),
        cmocka_unit_test(what_finds_no_room_makes_the_code_void),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
