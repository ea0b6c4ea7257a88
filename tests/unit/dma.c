// SPDX-License-Identifier: Apache-2.0
/*
 * DMA: segments over ranges, refused addresses, dirty pages, the bus-master bit.
 */
#include "vmm/memory/dma.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE GUEST_PAGE_SIZE

/* Guest pages 0..3 are pages 4..7 of the file, 4..7 are its pages 0..3, 8..11 follow as its pages
 * 4..7 again; page 12 is ROM; then a hole. The last page below 4 PiB is RAM, too. */
struct fixture {
    struct memory *memory;
    struct dma_space space;
    int ram, rom;
};

#define LAST_PAGE ((1UL << 52) - PAGE)

static int setup(void **state)
{
    struct fixture *fixture = g_new0(struct fixture, 1);
    struct memory *memory = memory_create();

    fixture->ram = memory_memfd("ram", 8 * PAGE, NULL);
    fixture->rom = memory_memfd("rom", PAGE, NULL);
    assert_true(memory_add(memory, "low", MEMORY_RAM, 0, 4 * PAGE, fixture->ram, 4 * PAGE, NULL));
    assert_true(
        memory_add(memory, "middle", MEMORY_RAM, 4 * PAGE, 4 * PAGE, fixture->ram, 0, NULL));
    assert_true(
        memory_add(memory, "high", MEMORY_RAM, 8 * PAGE, 4 * PAGE, fixture->ram, 4 * PAGE, NULL));
    assert_true(memory_add(memory, "rom", MEMORY_ROM, 12 * PAGE, PAGE, fixture->rom, 0, NULL));
    assert_true(memory_add(memory, "top", MEMORY_RAM, LAST_PAGE, PAGE, fixture->ram, 0, NULL));
    fixture->memory = memory;
    fixture->space = (struct dma_space){.memory = memory, .enabled = true};
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    memory_destroy(fixture->memory);
    close(fixture->ram);
    close(fixture->rom);
    g_free(fixture);
    return 0;
}

static void a_mapping_inside_a_range_is_one_segment(void **state)
{
    struct fixture *fixture = *state;
    struct dma_segment segment;
    char text[6];

    assert_int_equal(dma_map(&fixture->space, PAGE - 2, 6, DMA_FROM_DEVICE, &segment, 1), 1);
    assert_int_equal(segment.length, 6);
    memcpy(segment.host, "hello", 6);
    dma_unmap(&fixture->space, PAGE - 2, 6, DMA_FROM_DEVICE, 6);
    assert_true(dma_read(&fixture->space, PAGE - 2, text, 6));
    assert_string_equal(text, "hello");
}

static void ranges_apart_in_the_host_are_segments_of_their_own(void **state)
{
    struct fixture *fixture = *state;
    struct dma_segment segments[2];

    assert_int_equal(dma_map(&fixture->space, 3 * PAGE, 2 * PAGE, DMA_TO_DEVICE, segments, 2), 2);
    assert_int_equal(segments[0].length, PAGE);
    assert_int_equal(segments[1].length, PAGE);
    dma_unmap(&fixture->space, 3 * PAGE, 2 * PAGE, DMA_TO_DEVICE, 0);
    assert_int_equal(dma_map(&fixture->space, 3 * PAGE, 2 * PAGE, DMA_TO_DEVICE, segments, 1), 0);
}

static void neighbours_in_the_host_merge(void **state)
{
    struct fixture *fixture = *state;
    struct dma_segment segment;

    assert_int_equal(dma_map(&fixture->space, 7 * PAGE, 2 * PAGE, DMA_TO_DEVICE, &segment, 1), 1);
    assert_int_equal(segment.length, 2 * PAGE);
    dma_unmap(&fixture->space, 7 * PAGE, 2 * PAGE, DMA_TO_DEVICE, 0);
}

static void holes_and_wraps_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct dma_segment segments[4];
    char bytes[16];

    assert_int_equal(dma_map(&fixture->space, 0, 0, DMA_TO_DEVICE, segments, 4), 0);
    assert_int_equal(dma_map(&fixture->space, 13 * PAGE, 1, DMA_TO_DEVICE, segments, 4), 0);
    assert_int_equal(dma_map(&fixture->space, 13 * PAGE - 1, 2, DMA_TO_DEVICE, segments, 4), 0);
    assert_int_equal(dma_map(&fixture->space, 0, UINT64_MAX, DMA_TO_DEVICE, segments, 4), 0);
    assert_int_equal(dma_map(&fixture->space, LAST_PAGE, PAGE + 1, DMA_TO_DEVICE, segments, 4), 0);
    assert_int_equal(dma_map(&fixture->space, UINT64_MAX, 1, DMA_TO_DEVICE, segments, 4), 0);
    assert_int_equal(dma_map(&fixture->space, UINT64_MAX - 3, 8, DMA_TO_DEVICE, segments, 4), 0);
    assert_false(dma_read(&fixture->space, UINT64_MAX - 3, bytes, 8));
    assert_false(dma_write(&fixture->space, UINT64_MAX - 3, bytes, 8));
    assert_false(dma_read(&fixture->space, 13 * PAGE - 8, bytes, 16));
}

static void a_refused_write_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    char bytes[16] = "................", back[8];

    assert_false(dma_write(&fixture->space, 12 * PAGE - 8, bytes, 16));
    assert_true(dma_read(&fixture->space, 12 * PAGE - 8, back, 8));
    assert_memory_equal(back, "\0\0\0\0\0\0\0\0", 8);
}

static void rom_is_read_only(void **state)
{
    struct fixture *fixture = *state;
    struct dma_segment segment;

    assert_int_equal(dma_map(&fixture->space, 12 * PAGE, 8, DMA_TO_DEVICE, &segment, 1), 1);
    dma_unmap(&fixture->space, 12 * PAGE, 8, DMA_TO_DEVICE, 0);
    assert_int_equal(dma_map(&fixture->space, 12 * PAGE, 8, DMA_FROM_DEVICE, &segment, 1), 0);
    assert_false(dma_write(&fixture->space, 12 * PAGE, "x", 1));
}

static void a_device_that_is_no_bus_master_reaches_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct dma_segment segment;
    char byte;

    fixture->space.enabled = false;
    assert_int_equal(dma_map(&fixture->space, 0, 8, DMA_TO_DEVICE, &segment, 1), 0);
    assert_false(dma_read(&fixture->space, 0, &byte, 1));
    assert_false(dma_write(&fixture->space, 0, &byte, 1));
}

static uint64_t collect(struct fixture *fixture)
{
    uint64_t bitmap;

    memory_dirty_collect(fixture->memory, MEMORY_CLIENT_MIGRATION, 0, 8, &bitmap);
    return bitmap;
}

static void writes_are_dirty_when_they_begin_and_when_they_end(void **state)
{
    struct fixture *fixture = *state;
    struct dma_segment segment;

    memory_dirty_start(fixture->memory, MEMORY_CLIENT_MIGRATION);
    assert_int_equal(dma_map(&fixture->space, PAGE + 8, 2 * PAGE, DMA_FROM_DEVICE, &segment, 1), 1);
    assert_int_equal(collect(fixture), 0x0e);
    dma_unmap(&fixture->space, PAGE + 8, 2 * PAGE, DMA_FROM_DEVICE, PAGE);
    assert_int_equal(collect(fixture), 0x06);
    assert_int_equal(dma_map(&fixture->space, 0, PAGE, DMA_TO_DEVICE, &segment, 1), 1);
    dma_unmap(&fixture->space, 0, PAGE, DMA_TO_DEVICE, 0);
    assert_int_equal(collect(fixture), 0);
}

static void code_written(void *opaque, uint64_t page)
{
    ++*(unsigned *)opaque;
}

static void writes_throw_translated_code_away(void **state)
{
    struct fixture *fixture = *state;
    unsigned calls = 0;
    struct memory_listener listener = {.code_written = code_written, .opaque = &calls};
    struct dma_segment segment;

    assert_true(memory_listen(fixture->memory, &listener, NULL));
    memory_mark_code(fixture->memory, 5 * PAGE);
    assert_int_equal(dma_map(&fixture->space, 5 * PAGE, 4, DMA_FROM_DEVICE, &segment, 1), 1);
    assert_int_equal(calls, 1);
    /* Code that was translated between begin and end of the transfer is stale, too. */
    memory_mark_code(fixture->memory, 5 * PAGE);
    dma_unmap(&fixture->space, 5 * PAGE, 4, DMA_FROM_DEVICE, 4);
    assert_int_equal(calls, 2);
    memory_unlisten(fixture->memory, &calls);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_mapping_inside_a_range_is_one_segment),
        TEST(ranges_apart_in_the_host_are_segments_of_their_own),
        TEST(neighbours_in_the_host_merge),
        TEST(holes_and_wraps_are_refused),
        TEST(a_refused_write_changes_nothing),
        TEST(rom_is_read_only),
        TEST(a_device_that_is_no_bus_master_reaches_nothing),
        TEST(writes_are_dirty_when_they_begin_and_when_they_end),
        TEST(writes_throw_translated_code_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
