// SPDX-License-Identifier: Apache-2.0
/* The bus: how accesses are cut, who wins an address, and claims while others read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "vmm/machine/bus.h"

/* A device that remembers what it was asked. */
struct probe {
    struct bus *bus;
    uint8_t bytes[64];
    unsigned calls;
    struct {
        uint64_t offset;
        unsigned size;
        uint64_t value;
    } call[16];
    uint64_t reenter;          /* address that the handler accesses, 0 for none */
    struct bus_window *moving; /* window that a write moves to the written value */
};

static void note(struct probe *probe, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned slot = probe->calls++ % 16;

    probe->call[slot].offset = offset;
    probe->call[slot].size = size;
    probe->call[slot].value = value;
}

static uint64_t probe_read(void *device, uint64_t offset, unsigned size)
{
    struct probe *probe = device;
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)probe->bytes[(offset + i) % 64] << (8 * i);
    if (probe->reenter)
        value = bus_read(probe->bus, probe->reenter, 1);
    note(probe, offset, size, value);
    return value;
}

static void probe_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct probe *probe = device;

    for (unsigned i = 0; i < size; i++)
        probe->bytes[(offset + i) % 64] = value >> (8 * i);
    note(probe, offset, size, value);
    if (probe->reenter)
        bus_write(probe->bus, probe->reenter, 1, 0xAA);
    if (probe->moving)
        bus_move(probe->moving, value);
}

#define OPS(name_, widths_) static const struct bus_ops name_ = {probe_read, probe_write, widths_}
OPS(ops_any, BUS_WIDTH_ANY);
OPS(ops_1, BUS_WIDTH_1);
OPS(ops_4, BUS_WIDTH_4);
OPS(ops_1_4, BUS_WIDTH_1 | BUS_WIDTH_4);

static void fill(struct probe *probe)
{
    for (unsigned i = 0; i < 64; i++)
        probe->bytes[i] = i;
}

static void unclaimed_addresses_read_as_ones(void **state)
{
    struct bus *bus = bus_create("pio", 0xFFFF);

    assert_int_equal(bus_read(bus, 0x80, 1), 0xFF);
    assert_int_equal(bus_read(bus, 0x80, 4), 0xFFFFFFFF);
    assert_true(bus_read(bus, 0x80, 8) == UINT64_MAX);
    bus_write(bus, 0x80, 4, 0);
    assert_false(bus_is_claimed(bus, 0x80));
    bus_destroy(bus);
}

static void a_handler_gets_offsets_and_natural_widths(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe probe = {0};

    fill(&probe);
    bus_claim(bus, "probe", 0x1000, 64, 0, &ops_any, &probe);
    assert_true(bus_read(bus, 0x1008, 8) == 0x0F0E0D0C0B0A0908);
    assert_int_equal(probe.calls, 1);
    assert_int_equal(probe.call[0].offset, 8);
    assert_int_equal(probe.call[0].size, 8);

    bus_write(bus, 0x1002, 2, 0xFFFFFFFFFFFFBEEF);
    assert_int_equal(probe.call[1].offset, 2);
    assert_true(probe.call[1].value == 0xBEEF);
    bus_destroy(bus);
}

static void a_wide_access_is_split_low_address_first(void **state)
{
    struct bus *bus = bus_create("pio", 0xFFFF);
    struct probe probe = {0};

    bus_claim(bus, "probe", 0x40, 4, 0, &ops_1, &probe);
    bus_write(bus, 0x40, 4, 0x44332211);
    assert_int_equal(probe.calls, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(probe.call[i].offset, i);
        assert_int_equal(probe.call[i].size, 1);
        assert_int_equal(probe.call[i].value, 0x11 * (i + 1));
    }
    assert_int_equal(bus_read(bus, 0x40, 4), 0x44332211);
    bus_destroy(bus);
}

static void an_unaligned_access_is_split_into_aligned_pieces(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe probe = {0};

    fill(&probe);
    bus_claim(bus, "probe", 0x1000, 64, 0, &ops_any, &probe);
    assert_true(bus_read(bus, 0x1003, 8) == 0x0A09080706050403);
    assert_int_equal(probe.calls, 4); /* 1 at 3, 4 at 4, 2 at 8, 1 at 10 */
    assert_int_equal(probe.call[1].offset, 4);
    assert_int_equal(probe.call[1].size, 4);
    assert_int_equal(probe.call[2].size, 2);
    assert_int_equal(probe.call[3].offset, 10);
    bus_destroy(bus);
}

static void a_narrow_read_takes_its_part_and_a_narrow_write_is_dropped(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe probe = {0};

    fill(&probe);
    bus_claim(bus, "probe", 0x1000, 64, 0, &ops_4, &probe);
    assert_int_equal(bus_read(bus, 0x1006, 2), 0x0706);
    assert_int_equal(probe.calls, 1);
    assert_int_equal(probe.call[0].offset, 4);
    assert_int_equal(probe.call[0].size, 4);
    bus_write(bus, 0x1006, 2, 0xFFFF);
    bus_write(bus, 0x1001, 1, 0xFF);
    assert_int_equal(probe.calls, 1);
    bus_destroy(bus);
}

static void a_two_byte_access_falls_to_bytes_where_words_are_not_taken(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe probe = {0};

    bus_claim(bus, "probe", 0x1000, 64, 0, &ops_1_4, &probe);
    bus_write(bus, 0x1002, 2, 0xBEEF);
    assert_int_equal(probe.calls, 2);
    assert_int_equal(probe.bytes[2], 0xEF);
    assert_int_equal(probe.bytes[3], 0xBE);
    bus_destroy(bus);
}

static void a_unit_that_leaves_the_window_is_not_read(void **state)
{
    struct bus *bus = bus_create("pio", 0xFFFF);
    struct probe probe = {0};

    bus_claim(bus, "probe", 0x100, 6, 0, &ops_4, &probe);
    assert_int_equal(bus_read(bus, 0x104, 2), 0xFFFF);
    assert_int_equal(bus_read(bus, 0x104, 1), 0xFF);
    assert_int_equal(probe.calls, 0);
    bus_destroy(bus);
}

static void an_access_across_windows_reaches_both(void **state)
{
    struct bus *bus = bus_create("pio", 0xFFFF);
    struct probe left = {0}, right = {0};

    fill(&left);
    fill(&right);
    bus_claim(bus, "left", 0x60, 1, 0, &ops_any, &left);
    bus_claim(bus, "right", 0x61, 1, 0, &ops_any, &right);
    assert_int_equal(bus_read(bus, 0x60, 4), 0xFFFF0000);
    assert_int_equal(left.calls, 1);
    assert_int_equal(right.calls, 1);
    bus_destroy(bus);
}

static void an_access_past_the_last_address_reads_ones(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe low = {0}, high = {0};

    bus_claim(bus, "low", 0, 8, 0, &ops_any, &low);
    bus_claim(bus, "high", UINT64_MAX - 1, 2, 0, &ops_any, &high);
    assert_int_equal(bus_read(bus, UINT64_MAX - 1, 4), 0xFFFF0000);
    assert_int_equal(low.calls, 0);
    bus_destroy(bus);
}

static void priority_wins_and_then_the_later_claim(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe first = {0}, second = {0}, urgent = {0};

    bus_claim(bus, "first", 0x1000, 0x100, 0, &ops_any, &first);
    bus_claim(bus, "second", 0x1040, 0x20, 0, &ops_any, &second);
    struct bus_window *window = bus_claim(bus, "urgent", 0x1050, 0x100, 1, &ops_any, &urgent);

    bus_write(bus, 0x103F, 1, 0);
    bus_write(bus, 0x1040, 1, 0);
    bus_write(bus, 0x1050, 1, 0);
    bus_write(bus, 0x1100, 1, 0);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.calls, 1);
    assert_int_equal(urgent.calls, 2);

    bus_unmap(window);
    bus_unmap(window);
    bus_write(bus, 0x1050, 1, 0);
    bus_write(bus, 0x1060, 1, 0);
    bus_write(bus, 0x1100, 1, 0);
    assert_int_equal(second.calls, 2);
    assert_int_equal(first.calls, 2);
    assert_int_equal(first.call[1].offset, 0x60);
    bus_destroy(bus);
}

static void an_overlapped_window_still_gets_the_access_that_starts_in_it(void **state)
{
    struct bus *bus = bus_create("pio", 0xFFFF);
    struct probe config = {0}, reset = {0};

    bus_claim(bus, "config", 0xCF8, 4, 0, &ops_any, &config);
    bus_claim(bus, "reset", 0xCF9, 1, 1, &ops_any, &reset);
    bus_write(bus, 0xCF8, 4, 0x80000000);
    assert_int_equal(config.calls, 1);
    assert_int_equal(config.call[0].size, 4);
    assert_int_equal(reset.calls, 0);
    bus_write(bus, 0xCF9, 1, 6);
    assert_int_equal(reset.calls, 1);
    bus_destroy(bus);
}

static void a_window_moves_and_one_that_does_not_fit_is_unmapped(void **state)
{
    struct bus *bus = bus_create("pio", 0xFFFF);
    struct probe probe = {0};
    struct bus_window *window = bus_claim(bus, "probe", 0xC000, 64, 0, &ops_any, &probe);

    assert_true(bus_move(window, 0xD000));
    assert_false(bus_is_claimed(bus, 0xC000));
    bus_write(bus, 0xD004, 1, 0);
    assert_int_equal(probe.call[0].offset, 4);
    assert_false(bus_move(window, 0xFFF0));
    assert_false(bus_is_claimed(bus, 0xD000));
    assert_true(bus_move(window, 0xFFC0));
    assert_true(bus_is_claimed(bus, 0xFFFF));
    bus_release(window);
    assert_false(bus_is_claimed(bus, 0xFFFF));
    bus_release(NULL);
    bus_destroy(bus);
}

/* An engine that catches writes: where it does, by eventfd. */
struct catcher {
    uint64_t address[8];
    bool refusing;
};

static bool catch (void *opaque, uint64_t address, int eventfd)
{
    struct catcher *catcher = opaque;

    assert_int_equal(catcher->address[eventfd], 0);
    if (catcher->refusing)
        return false;
    catcher->address[eventfd] = address;
    return true;
}

static void let_go(void *opaque, uint64_t address, int eventfd)
{
    struct catcher *catcher = opaque;

    assert_int_equal(catcher->address[eventfd], address);
    catcher->address[eventfd] = 0;
}

static void a_doorbell_is_where_its_window_answers(void **state)
{
    struct bus *bus = bus_create("mmio", 0xFFFFF);
    struct probe probe = {0};
    struct catcher catcher = {0};
    const struct bus_shortcuts shortcuts = {catch, let_go, &catcher};
    struct bus_window *window = bus_claim(bus, "probe", 0xC000, 64, 0, &ops_any, &probe);

    bus_set_shortcuts(bus, &shortcuts);
    bus_doorbell(window, 4, 1);
    bus_doorbell(window, 8, 2);
    assert_int_equal(catcher.address[1], 0xC004);
    assert_int_equal(catcher.address[2], 0xC008);
    bus_move(window, 0xD000);
    assert_int_equal(catcher.address[1], 0xD004);
    struct bus_window *above = bus_claim(bus, "above", 0xD008, 4, 1, &ops_any, &probe);
    assert_int_equal(catcher.address[1], 0xD004);
    assert_int_equal(catcher.address[2], 0);
    bus_release(above);
    assert_int_equal(catcher.address[2], 0xD008);
    bus_unmap(window);
    assert_int_equal(catcher.address[1], 0);
    bus_move(window, 0xE000);
    assert_int_equal(catcher.address[1], 0xE004);
    bus_doorbell(window, 4, 3); /* another one in its place */
    assert_int_equal(catcher.address[1], 0);
    assert_int_equal(catcher.address[3], 0xE004);
    bus_doorbell(window, 4, -1);
    assert_int_equal(catcher.address[3], 0);
    bus_release(window);
    assert_int_equal(catcher.address[2], 0);
    bus_destroy(bus);
}

static void a_doorbell_that_is_refused_leaves_writes_to_the_window(void **state)
{
    struct bus *bus = bus_create("mmio", 0xFFFFF);
    struct probe probe = {0};
    struct catcher catcher = {.refusing = true};
    const struct bus_shortcuts shortcuts = {catch, let_go, &catcher};
    struct bus_window *window = bus_claim(bus, "probe", 0xC000, 64, 0, &ops_any, &probe);

    bus_set_shortcuts(bus, &shortcuts);
    bus_doorbell(window, 4, 1);
    bus_write(bus, 0xC004, 2, 7);
    assert_int_equal(probe.calls, 1);
    bus_release(window);
    bus_destroy(bus);
}

static void a_claim_outside_of_the_address_space_fails(void **state)
{
    struct bus *bus = bus_create("pio", 0xFFFF);
    struct probe probe = {0};

    assert_null(bus_claim(bus, "probe", 0xFFFF, 2, 0, &ops_any, &probe));
    assert_null(bus_claim(bus, "probe", 0x10000, 1, 0, &ops_any, &probe));
    assert_null(bus_claim(bus, "probe", 0x10, 0, 0, &ops_any, &probe));
    assert_null(bus_claim(bus, "probe", 0x10, UINT64_MAX, 0, &ops_any, &probe));
    assert_non_null(bus_claim(bus, "probe", 0xFFFF, 1, 0, &ops_any, &probe));
    bus_destroy(bus);
}

static void re_entry_into_the_same_window_is_refused_and_counted(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe probe = {.bus = bus, .reenter = 0x1000};

    bus_claim(bus, "probe", 0x1000, 64, 0, &ops_any, &probe);
    assert_int_equal(bus_read(bus, 0x1004, 1), 0xFF);
    assert_int_equal(probe.calls, 1);
    bus_write(bus, 0x1004, 1, 0x55);
    assert_int_equal(probe.calls, 2);
    assert_int_equal(probe.bytes[0], 0);
    assert_int_equal(bus_reentries(bus), 2);

    /* The refusal ends with the handler. */
    probe.reenter = 0;
    bus_write(bus, 0x1000, 1, 0x77);
    assert_int_equal(probe.bytes[0], 0x77);
    bus_destroy(bus);
}

static void a_handler_may_reach_another_window(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe other = {0}, probe = {.bus = bus, .reenter = 0x2000};

    bus_claim(bus, "probe", 0x1000, 64, 0, &ops_any, &probe);
    bus_claim(bus, "other", 0x2000, 64, 0, &ops_any, &other);
    bus_write(bus, 0x1000, 1, 0x55);
    assert_int_equal(other.calls, 1);
    assert_int_equal(other.bytes[0], 0xAA);
    assert_int_equal(bus_reentries(bus), 0);
    bus_destroy(bus);
}

static void a_handler_may_move_windows_for_ever(void **state)
{
    struct bus *bus = bus_create("mmio", UINT64_MAX);
    struct probe bar = {0}, config = {0};

    bus_claim(bus, "config", 0x1000, 8, 0, &ops_any, &config);
    config.moving = bus_claim(bus, "bar", 0x100000, 64, 0, &ops_any, &bar);
    for (uint64_t i = 0; i < 2000; i++)
        bus_write(bus, 0x1000, 8, 0x200000 + i * 64);
    assert_true(bus_is_claimed(bus, 0x200000 + 1999 * 64));
    assert_false(bus_is_claimed(bus, 0x200000 + 1998 * 64));
    bus_destroy(bus);
}

struct reader {
    struct bus *bus;
    bool stop;
    uint64_t wrong, reads;
};

static uint64_t constant_read(void *device, uint64_t offset, unsigned size)
{
    return *(uint8_t *)device;
}

static void constant_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
}

static const struct bus_ops constant_ops = {constant_read, constant_write, BUS_WIDTH_1};

static void *read_in_a_loop(void *opaque)
{
    struct reader *reader = opaque;

    while (!__atomic_load_n(&reader->stop, __ATOMIC_RELAXED)) {
        uint64_t still = bus_read(reader->bus, 0x10, 1);
        uint64_t moving = bus_read(reader->bus, 0x100, 1);

        if (still != 0x5A || (moving != 0xA5 && moving != 0xFF))
            __atomic_fetch_add(&reader->wrong, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&reader->reads, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void readers_see_whole_tables_while_windows_come_and_go(void **state)
{
    struct bus *bus = bus_create("pio", 0xFFFF);
    struct reader reader = {.bus = bus};
    uint8_t still = 0x5A;
    pthread_t threads[2];

    bus_claim(bus, "still", 0x10, 1, 0, &constant_ops, &still);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_in_a_loop, &reader), 0);
    while (__atomic_load_n(&reader.reads, __ATOMIC_RELAXED) < 20000) {
        uint8_t *device = test_malloc(1);

        *device = 0xA5;
        struct bus_window *window = bus_claim(bus, "come", 0x100, 1, 0, &constant_ops, device);
        bus_move(window, 0x200);
        bus_move(window, 0x100);
        bus_release(window);
        *device = 0; /* nobody may read it any more */
        test_free(device);
    }
    __atomic_store_n(&reader.stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(reader.wrong, 0);
    bus_destroy(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unclaimed_addresses_read_as_ones),
        cmocka_unit_test(a_handler_gets_offsets_and_natural_widths),
        cmocka_unit_test(a_wide_access_is_split_low_address_first),
        cmocka_unit_test(an_unaligned_access_is_split_into_aligned_pieces),
        cmocka_unit_test(a_narrow_read_takes_its_part_and_a_narrow_write_is_dropped),
        cmocka_unit_test(a_two_byte_access_falls_to_bytes_where_words_are_not_taken),
        cmocka_unit_test(a_unit_that_leaves_the_window_is_not_read),
        cmocka_unit_test(an_access_across_windows_reaches_both),
        cmocka_unit_test(an_access_past_the_last_address_reads_ones),
        cmocka_unit_test(priority_wins_and_then_the_later_claim),
        cmocka_unit_test(an_overlapped_window_still_gets_the_access_that_starts_in_it),
        cmocka_unit_test(a_window_moves_and_one_that_does_not_fit_is_unmapped),
        cmocka_unit_test(a_doorbell_is_where_its_window_answers),
        cmocka_unit_test(a_doorbell_that_is_refused_leaves_writes_to_the_window),
        cmocka_unit_test(a_claim_outside_of_the_address_space_fails),
        cmocka_unit_test(re_entry_into_the_same_window_is_refused_and_counted),
        cmocka_unit_test(a_handler_may_reach_another_window),
        cmocka_unit_test(a_handler_may_move_windows_for_ever),
        cmocka_unit_test(readers_see_whole_tables_while_windows_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
