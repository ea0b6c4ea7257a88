// SPDX-License-Identifier: Apache-2.0
/* The guard before libslirp's reassembly: only fragments in their order pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <glib.h>
#include <string.h>

#include "vmm/net/checksum.h"
#include "vmm/net/link.h"
#include "vmm/net/nat/fragment.h"

#define SECOND ((int64_t)G_USEC_PER_SEC)
#define MORE   0x2000

static struct fragment_guard guard;

enum damage { SOUND, WRONG_SUM, NO_HOP_LEFT, SHORT_HEADER, RESERVED };

static void header_make(uint8_t *ip, uint16_t id, unsigned place, unsigned data, enum damage damage)
{
    uint16_t sum;

    place |= damage == RESERVED ? 0x8000 : 0;
    ip[0] = damage == SHORT_HEADER ? 0x44 : 0x45;
    ip[2] = (uint8_t)((20 + data) >> 8);
    ip[3] = (uint8_t)(20 + data);
    ip[4] = (uint8_t)(id >> 8);
    ip[5] = (uint8_t)id;
    ip[6] = (uint8_t)(place >> 8);
    ip[7] = (uint8_t)place;
    ip[8] = damage == NO_HOP_LEFT ? 0 : 64;
    ip[9] = 17;
    sum = ~net_checksum_sum(ip, 20) ^ (damage == WRONG_SUM ? 1 : 0);
    memcpy(ip + 10, &sum, sizeof(sum));
}

/* Whether `data` bytes at `offset` (both divisible by 8, but at the end) of packet `id` pass. */
static bool passes_with(enum damage damage, uint16_t id, unsigned offset, unsigned data, bool more,
                        int64_t now_us)
{
    uint8_t frame[NET_HEADER_MIN + 20 + 2000] = {[12] = 0x08};

    header_make(frame + NET_HEADER_MIN, id, offset / 8 | (more ? MORE : 0), data, damage);
    return fragment_passes(&guard, frame, NET_HEADER_MIN + 20 + data, now_us);
}

static bool passes_at(uint16_t id, unsigned offset, unsigned data, bool more, int64_t now_us)
{
    return passes_with(SOUND, id, offset, data, more, now_us);
}

static bool passes(uint16_t id, unsigned offset, unsigned data, bool more)
{
    return passes_at(id, offset, data, more, 0);
}

static int forget_all(void **state)
{
    guard = (struct fragment_guard){0};
    return 0;
}

static void whole_packets_and_other_frames_pass(void **state)
{
    uint8_t frame[60] = {[12] = 0x08, [13] = 0x06};

    assert_true(passes(1, 0, 100, false));
    assert_true(fragment_passes(&guard, frame, sizeof(frame), 0));
    assert_true(fragment_passes(&guard, frame, NET_HEADER_MIN, 0));
}

static void fragments_in_order_pass(void **state)
{
    for (unsigned round = 0; round < 3 * FRAGMENTED_MAX; round++) {
        assert_true(passes(7, 0, 1480, true));
        assert_true(passes(7, 1480, 1480, true));
        assert_true(passes(7, 2960, 40, false));
    }
}

static void fragments_of_two_packets_may_mix(void **state)
{
    assert_true(passes(1, 0, 1480, true));
    assert_true(passes(2, 0, 800, true));
    assert_true(passes(1, 1480, 8, false));
    assert_true(passes(2, 800, 8, false));
}

static void a_fragment_before_the_first_is_dropped(void **state)
{
    assert_false(passes(1, 1480, 100, false));
    assert_false(passes(1, 8, 8, true));
    assert_true(passes(1, 0, 1480, true));
}

/* libslirp drops such a first fragment, so the second would be its first. */
static void what_libslirp_does_not_take_is_dropped(void **state)
{
    static const enum damage damages[] = {WRONG_SUM, NO_HOP_LEFT, SHORT_HEADER};

    for (unsigned i = 0; i < G_N_ELEMENTS(damages); i++) {
        assert_false(passes_with(damages[i], 1, 0, 1480, true, 0));
        assert_false(passes(1, 1480, 1480, false));
    }
}

/* It makes libslirp forget the packet. */
static void the_reserved_flag_makes_a_fragment(void **state)
{
    assert_true(passes(1, 0, 1480, true));
    assert_false(passes_with(RESERVED, 1, 0, 8, false, 0));
    assert_true(passes(1, 1480, 1480, false));
    assert_true(passes_with(RESERVED, 1, 0, 8, false, 0));
}

static void gaps_overlaps_and_repetitions_are_dropped(void **state)
{
    assert_true(passes(1, 0, 800, true));
    assert_false(passes(1, 0, 800, true));
    assert_false(passes(1, 792, 800, true));
    assert_false(passes(1, 808, 800, true));
    assert_true(passes(1, 800, 800, true));
    assert_false(passes(1, 800, 800, true));
    assert_true(passes(1, 1600, 3, false));
    assert_false(passes(1, 1600, 3, false)); /* the packet is done */
}

static void lengths_that_cannot_be_are_dropped(void **state)
{
    assert_false(passes(1, 0, 0, true));
    assert_false(passes(1, 0, 7, true)); /* only the last one may end anywhere */
    for (unsigned offset = 0; offset + 1480 <= 65515; offset += 1480)
        assert_true(passes(2, offset, 1480, true));
    assert_false(passes(2, 44 * 1480, 1480, false)); /* beyond 64 KiB */
}

/* libslirp gives up a packet after half a minute; what comes then would be its first. */
static void a_packet_is_given_up_in_time(void **state)
{
    assert_true(passes_at(1, 0, 800, true, 0));
    assert_true(passes_at(1, 800, 800, true, 19 * SECOND));
    assert_false(passes_at(1, 1600, 800, true, 21 * SECOND));
    assert_false(passes_at(1, 0, 800, true, 39 * SECOND));
    assert_true(passes_at(1, 0, 800, true, 41 * SECOND));
}

static void too_many_packets_at_once_are_dropped(void **state)
{
    for (unsigned id = 0; id < FRAGMENTED_MAX; id++)
        assert_true(passes((uint16_t)id, 0, 800, true));
    assert_false(passes(1000, 0, 800, true));
    assert_true(passes(3, 800, 800, false));
    assert_true(passes(1000, 0, 800, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(whole_packets_and_other_frames_pass, forget_all),
        cmocka_unit_test_setup(fragments_in_order_pass, forget_all),
        cmocka_unit_test_setup(fragments_of_two_packets_may_mix, forget_all),
        cmocka_unit_test_setup(a_fragment_before_the_first_is_dropped, forget_all),
        cmocka_unit_test_setup(what_libslirp_does_not_take_is_dropped, forget_all),
        cmocka_unit_test_setup(the_reserved_flag_makes_a_fragment, forget_all),
        cmocka_unit_test_setup(gaps_overlaps_and_repetitions_are_dropped, forget_all),
        cmocka_unit_test_setup(lengths_that_cannot_be_are_dropped, forget_all),
        cmocka_unit_test_setup(a_packet_is_given_up_in_time, forget_all),
        cmocka_unit_test_setup(too_many_packets_at_once_are_dropped, forget_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
