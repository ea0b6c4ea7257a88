// SPDX-License-Identifier: Apache-2.0
/*
 * The page authority: ranges, holes, ROM, dirty clients, translated code, listeners.
 */
#include "vmm/memory/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE GUEST_PAGE_SIZE
#define MIB  (1UL << 20)

/* Two MiB of RAM at 0 and a ROM of 64 KiB at 16 MiB. */
struct fixture {
    struct memory *memory;
    int ram, rom;
};

static int setup(void **state)
{
    struct fixture *fixture = g_new0(struct fixture, 1);

    fixture->memory = memory_create();
    fixture->ram = memory_memfd("ram", 2 * MIB, NULL);
    fixture->rom = memory_memfd("rom", 64 << 10, NULL);
    assert_true(memory_add(fixture->memory, "ram", MEMORY_RAM, 0, 2 * MIB, fixture->ram, 0, NULL));
    assert_true(
        memory_add(fixture->memory, "rom", MEMORY_ROM, 16 * MIB, 64 << 10, fixture->rom, 0, NULL));
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

static void ranges_are_found_and_holes_are_not(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(memory_find(fixture->memory, 0)->base, 0);
    assert_int_equal(memory_find(fixture->memory, 2 * MIB - 1)->base, 0);
    assert_null(memory_find(fixture->memory, 2 * MIB));
    assert_null(memory_find(fixture->memory, 16 * MIB - 1));
    assert_int_equal(memory_find(fixture->memory, 16 * MIB)->kind, MEMORY_ROM);
    assert_null(memory_find(fixture->memory, 16 * MIB + (64 << 10)));
    assert_null(memory_find(fixture->memory, UINT64_MAX));
    assert_int_equal(memory_ram_size(fixture->memory), 2 * MIB);
}

static void assert_add_fails(struct fixture *fixture, uint64_t base, uint64_t size, int fd,
                             uint64_t offset)
{
    g_autoptr(GError) error = NULL;

    assert_false(memory_add(fixture->memory, "bad", MEMORY_RAM, base, size, fd, offset, &error));
    assert_non_null(error);
}

static void bad_ranges_are_refused(void **state)
{
    struct fixture *fixture = *state;
    int pipes[2];

    assert_add_fails(fixture, 4 * MIB, 0, fixture->ram, 0);
    assert_add_fails(fixture, 4 * MIB + 1, PAGE, fixture->ram, 0);
    assert_add_fails(fixture, 4 * MIB, PAGE + 1, fixture->ram, 0);
    assert_add_fails(fixture, 4 * MIB, PAGE, fixture->ram, 1);
    assert_add_fails(fixture, 4 * MIB, PAGE, fixture->ram, 2 * MIB);
    assert_add_fails(fixture, 4 * MIB, 2 * MIB, fixture->ram, PAGE);
    assert_add_fails(fixture, 4 * MIB, PAGE, fixture->ram, UINT64_MAX & GUEST_PAGE_MASK);
    assert_add_fails(fixture, 2 * MIB - PAGE, 2 * PAGE, fixture->ram, 0);
    assert_add_fails(fixture, 16 * MIB - PAGE, 2 * PAGE, fixture->ram, 0);
    assert_add_fails(fixture, UINT64_MAX & GUEST_PAGE_MASK, PAGE, fixture->ram, 0);
    assert_add_fails(fixture, 4 * MIB, UINT64_MAX & GUEST_PAGE_MASK, fixture->ram, 0);
    assert_int_equal(pipe(pipes), 0);
    assert_add_fails(fixture, 4 * MIB, PAGE, pipes[0], 0);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(memory_map(fixture->memory)->count, 2);
}

static void a_memfd_has_whole_pages_and_is_sealed(void **state)
{
    g_autoptr(GError) error = NULL;
    int fd = memory_memfd("sealed", PAGE, NULL);

    assert_int_not_equal(ftruncate(fd, 0), 0);
    assert_int_not_equal(ftruncate(fd, 2 * MIB), 0);
    close(fd);
    assert_int_equal(memory_memfd("odd", PAGE + 1, &error), -1);
    assert_non_null(error);
    g_clear_error(&error);
    assert_int_equal(memory_memfd("empty", 0, &error), -1);
    assert_non_null(error);
}

static void huge_memory_costs_nothing_until_it_is_used(void **state)
{
    struct memory *memory = memory_create();
    int fd = memory_memfd("huge", 256UL << 30, NULL);
    uint64_t bitmap = 0;

    assert_true(fd >= 0);
    assert_true(memory_add(memory, "huge", MEMORY_RAM, 1UL << 32, 256UL << 30, fd, 0, NULL));
    memory_dirty_start(memory, MEMORY_CLIENT_SNAPSHOT);
    assert_true(memory_write(memory, 200UL << 30, "x", 1));
    memory_dirty_mark(memory, (200UL << 30) + GUEST_PAGE_SIZE);
    memory_dirty_collect(memory, MEMORY_CLIENT_SNAPSHOT, 200UL << (30 - GUEST_PAGE_SHIFT), 64,
                         &bitmap);
    assert_int_equal(bitmap, 3);
    assert_int_equal(memory_ram_size(memory), 256UL << 30);
    close(fd);
    memory_destroy(memory);
}

static void reads_and_writes_cross_ranges_and_stop_at_holes(void **state)
{
    struct fixture *fixture = *state;
    char text[] = "0123456789", back[sizeof(text)];
    int fd = memory_memfd("more", PAGE, NULL);

    assert_false(memory_write(fixture->memory, 2 * MIB - 4, text, sizeof(text)));
    assert_true(memory_add(fixture->memory, "more", MEMORY_RAM, 2 * MIB, PAGE, fd, 0, NULL));
    assert_true(memory_write(fixture->memory, 2 * MIB - 4, text, sizeof(text)));
    assert_true(memory_read(fixture->memory, 2 * MIB - 4, back, sizeof(back)));
    assert_string_equal(back, text);
    assert_false(memory_read(fixture->memory, UINT64_MAX - 2, back, sizeof(back)));
    memory_remove(fixture->memory, 2 * MIB);
    assert_false(memory_read(fixture->memory, 2 * MIB - 4, back, sizeof(back)));
    close(fd);
}

static void rom_is_read_and_loaded_but_not_written(void **state)
{
    struct fixture *fixture = *state;
    char byte = 'R';
    bool keep = true;

    assert_false(memory_write(fixture->memory, 16 * MIB, &byte, 1));
    assert_null(memory_write_begin(fixture->memory, 16 * MIB, &keep));
    assert_false(keep);
    assert_true(memory_load(fixture->memory, 16 * MIB, &byte, 1));
    byte = 0;
    assert_true(memory_read(fixture->memory, 16 * MIB, &byte, 1));
    assert_int_equal(byte, 'R');
    assert_int_equal(*(const char *)memory_read_begin(fixture->memory, 16 * MIB), 'R');
}

static uint64_t collect_one(struct fixture *fixture, enum memory_client client, uint64_t page)
{
    uint64_t bitmap = UINT64_MAX;

    memory_dirty_collect(fixture->memory, client, page, 1, &bitmap);
    return bitmap;
}

static void each_client_has_its_own_dirty_bits(void **state)
{
    struct fixture *fixture = *state;
    bool keep;

    memory_dirty_start(fixture->memory, MEMORY_CLIENT_MIGRATION);
    memory_write(fixture->memory, 3 * PAGE, "a", 1);
    memory_dirty_start(fixture->memory, MEMORY_CLIENT_DISPLAY);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_DISPLAY, 3), 0);
    assert_non_null(memory_write_begin(fixture->memory, 4 * PAGE, &keep));
    assert_true(keep);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_DISPLAY, 4), 1);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_DISPLAY, 4), 0);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_MIGRATION, 3), 1);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_MIGRATION, 4), 1);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_MIGRATION, 4), 0);
}

static void starting_again_forgets_old_bits(void **state)
{
    struct fixture *fixture = *state;

    memory_dirty_start(fixture->memory, MEMORY_CLIENT_PROTECT);
    memory_dirty_mark(fixture->memory, 7 * PAGE + 5);
    memory_dirty_stop(fixture->memory, MEMORY_CLIENT_PROTECT);
    memory_write(fixture->memory, 8 * PAGE, "a", 1);
    memory_dirty_start(fixture->memory, MEMORY_CLIENT_PROTECT);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_PROTECT, 7), 0);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_PROTECT, 8), 0);
}

static void collecting_counts_pages_and_passes_holes(void **state)
{
    struct fixture *fixture = *state;
    uint64_t bitmap[9];

    memset(bitmap, 0xff, sizeof(bitmap));
    memory_dirty_start(fixture->memory, MEMORY_CLIENT_MIGRATION);
    memory_write(fixture->memory, 64 * PAGE - 8, bitmap, 16);
    memory_write(fixture->memory, 511 * PAGE, "x", 1);
    assert_int_equal(memory_dirty_collect(fixture->memory, MEMORY_CLIENT_MIGRATION, 0, 520, bitmap),
                     3);
    assert_int_equal(bitmap[0], 1UL << 63);
    assert_int_equal(bitmap[1], 1);
    assert_int_equal(bitmap[7], 1UL << 63);
    assert_int_equal(bitmap[8], 0);
}

/* What a listener heard. */
struct ear {
    struct memory *memory;
    uint64_t unmapped_base, unmapped_size, protected_page, code_page;
    unsigned unmapped, protects, codes, maps;
};

static void ear_unmapped(void *opaque, uint64_t base, uint64_t size)
{
    struct ear *ear = opaque;

    ear->unmapped++;
    ear->unmapped_base = base;
    ear->unmapped_size = size;
}

static void ear_protected(void *opaque, uint64_t page)
{
    struct ear *ear = opaque;

    ear->protects++;
    ear->protected_page = page;
}

static void ear_code(void *opaque, uint64_t page)
{
    struct ear *ear = opaque;

    ear->codes++;
    ear->code_page = page;
    assert_false(memory_has_code(ear->memory, page));
}

static void ear_map(void *opaque)
{
    struct ear *ear = opaque;

    ear->maps++;
}

static void ear_listen(struct ear *ear, struct memory *memory)
{
    struct memory_listener listener = {
        .unmapped = ear_unmapped,
        .write_protected = ear_protected,
        .code_written = ear_code,
        .map_changed = ear_map,
        .opaque = ear,
    };

    *ear = (struct ear){.memory = memory};
    assert_true(memory_listen(memory, &listener, NULL));
}

static void a_write_to_translated_code_throws_it_away(void **state)
{
    struct fixture *fixture = *state;
    struct ear ear;
    bool keep;

    ear_listen(&ear, fixture->memory);
    memory_mark_code(fixture->memory, 5 * PAGE + 100);
    assert_int_equal(ear.protects, 1);
    assert_int_equal(ear.protected_page, 5 * PAGE);
    assert_true(memory_has_code(fixture->memory, 5 * PAGE));
    memory_mark_code(fixture->memory, 5 * PAGE);
    assert_int_equal(ear.protects, 1);
    assert_non_null(memory_write_begin(fixture->memory, 5 * PAGE, &keep));
    assert_true(keep);
    assert_int_equal(ear.codes, 1);
    assert_int_equal(ear.code_page, 5 * PAGE);
    memory_write(fixture->memory, 5 * PAGE, "x", 1);
    assert_int_equal(ear.codes, 1);
    memory_mark_code(fixture->memory, 5 * PAGE);
    memory_clear_code(fixture->memory, 5 * PAGE);
    memory_write(fixture->memory, 5 * PAGE, "x", 1);
    assert_int_equal(ear.codes, 1);
    memory_unlisten(fixture->memory, &ear);
}

static void a_listener_too_many_is_refused(void **state)
{
    struct fixture *fixture = *state;
    g_autoptr(GError) error = NULL;
    struct memory_listener listener = {.opaque = fixture};
    unsigned count = 0;

    while (count < 100 && memory_listen(fixture->memory, &listener, &error))
        count++;
    assert_in_range(count, 1, 99);
    assert_non_null(strstr(error->message, "listeners"));
    memory_unlisten(fixture->memory, fixture);
    assert_true(memory_listen(fixture->memory, &listener, NULL));
    memory_unlisten(fixture->memory, fixture);
}

static void loading_a_rom_throws_its_code_away(void **state)
{
    struct fixture *fixture = *state;
    struct ear ear;

    ear_listen(&ear, fixture->memory);
    memory_mark_code(fixture->memory, 16 * MIB);
    assert_true(memory_load(fixture->memory, 16 * MIB + 8, "x", 1));
    assert_int_equal(ear.codes, 1);
    memory_unlisten(fixture->memory, &ear);
}

static void collecting_drops_writable_aliases(void **state)
{
    struct fixture *fixture = *state;
    struct ear ear;

    ear_listen(&ear, fixture->memory);
    memory_dirty_start(fixture->memory, MEMORY_CLIENT_SNAPSHOT);
    assert_int_equal(ear.unmapped, 2);
    memory_write(fixture->memory, 9 * PAGE, "x", 1);
    assert_int_equal(ear.protects, 0);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_SNAPSHOT, 9), 1);
    assert_int_equal(ear.protects, 1);
    assert_int_equal(ear.protected_page, 9 * PAGE);
    memory_unlisten(fixture->memory, &ear);
    memory_write(fixture->memory, 9 * PAGE, "x", 1);
    assert_int_equal(collect_one(fixture, MEMORY_CLIENT_SNAPSHOT, 9), 1);
    assert_int_equal(ear.protects, 1);
}

static void map_changes_are_told(void **state)
{
    struct fixture *fixture = *state;
    struct ear ear;

    ear_listen(&ear, fixture->memory);
    memory_remove(fixture->memory, 16 * MIB);
    assert_int_equal(ear.unmapped, 1);
    assert_int_equal(ear.unmapped_base, 16 * MIB);
    assert_int_equal(ear.unmapped_size, 64 << 10);
    assert_int_equal(ear.maps, 1);
    assert_null(memory_find(fixture->memory, 16 * MIB));
    memory_remove(fixture->memory, 16 * MIB);
    assert_int_equal(ear.maps, 1);
    assert_true(
        memory_add(fixture->memory, "rom", MEMORY_ROM, 17 * MIB, 64 << 10, fixture->rom, 0, NULL));
    assert_int_equal(ear.maps, 2);
    assert_int_equal(memory_find(fixture->memory, 17 * MIB)->slot, 1);
    memory_unlisten(fixture->memory, &ear);
}

static void aliases_share_their_flags(void **state)
{
    struct fixture *fixture = *state;
    struct ear ear;
    char byte = 0;

    assert_true(memory_add(fixture->memory, "alias", MEMORY_RAM, 32 * MIB, 4 * PAGE, fixture->ram,
                           8 * PAGE, NULL));
    ear_listen(&ear, fixture->memory);
    assert_true(memory_write(fixture->memory, 9 * PAGE, "A", 1));
    assert_true(memory_read(fixture->memory, 32 * MIB + PAGE, &byte, 1));
    assert_int_equal(byte, 'A');
    memory_mark_code(fixture->memory, 9 * PAGE);
    assert_int_equal(ear.protects, 2);
    assert_true(memory_has_code(fixture->memory, 32 * MIB + PAGE));
    memory_write(fixture->memory, 32 * MIB + PAGE, "B", 1);
    assert_int_equal(ear.codes, 2);
    memory_unlisten(fixture->memory, &ear);
}

#define WRITERS 4
#define ROUNDS  2000

/* Each writer writes its own byte of every page in turn, asking first. */
static gpointer write_all(gpointer data)
{
    struct memory *memory = data;

    for (unsigned i = 0; i < ROUNDS; i++) {
        bool keep;
        uint8_t *host = memory_write_begin(memory, (i % 64) * PAGE, &keep);

        __atomic_fetch_add(host, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void concurrent_writers_lose_no_dirty_bit(void **state)
{
    struct fixture *fixture = *state;
    GThread *threads[WRITERS];
    uint64_t seen = 0, last = 0;

    memory_dirty_start(fixture->memory, MEMORY_CLIENT_MIGRATION);
    memory_dirty_start(fixture->memory, MEMORY_CLIENT_DISPLAY);
    for (unsigned i = 0; i < WRITERS; i++)
        threads[i] = g_thread_new("writer", write_all, fixture->memory);
    for (unsigned i = 0; i < 50; i++) {
        uint64_t bitmap;

        memory_dirty_collect(fixture->memory, MEMORY_CLIENT_MIGRATION, 0, 64, &bitmap);
        seen |= bitmap;
    }
    for (unsigned i = 0; i < WRITERS; i++)
        g_thread_join(threads[i]);
    memory_dirty_collect(fixture->memory, MEMORY_CLIENT_MIGRATION, 0, 64, &last);
    assert_int_equal(seen | last, UINT64_MAX);
    /* The collections of one client took nothing from the other. */
    assert_int_equal(memory_dirty_collect(fixture->memory, MEMORY_CLIENT_DISPLAY, 0, 64, &last),
                     64);
}

static gpointer find_all(gpointer data)
{
    struct memory *memory = data;

    for (unsigned i = 0; i < ROUNDS; i++) {
        char byte;

        assert_true(memory_read(memory, (i % 512) * PAGE, &byte, 1));
    }
    return NULL;
}

static void readers_run_on_while_the_map_changes(void **state)
{
    struct fixture *fixture = *state;
    GThread *threads[2];

    for (unsigned i = 0; i < 2; i++)
        threads[i] = g_thread_new("reader", find_all, fixture->memory);
    for (unsigned i = 0; i < 20; i++) {
        memory_remove(fixture->memory, 16 * MIB);
        assert_true(memory_add(fixture->memory, "rom", MEMORY_ROM, 16 * MIB, 64 << 10, fixture->rom,
                               0, NULL));
    }
    for (unsigned i = 0; i < 2; i++)
        g_thread_join(threads[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ranges_are_found_and_holes_are_not),
        TEST(bad_ranges_are_refused),
        TEST(a_memfd_has_whole_pages_and_is_sealed),
        TEST(huge_memory_costs_nothing_until_it_is_used),
        TEST(reads_and_writes_cross_ranges_and_stop_at_holes),
        TEST(rom_is_read_and_loaded_but_not_written),
        TEST(each_client_has_its_own_dirty_bits),
        TEST(starting_again_forgets_old_bits),
        TEST(collecting_counts_pages_and_passes_holes),
        TEST(a_write_to_translated_code_throws_it_away),
        TEST(a_listener_too_many_is_refused),
        TEST(loading_a_rom_throws_its_code_away),
        TEST(collecting_drops_writable_aliases),
        TEST(map_changes_are_told),
        TEST(aliases_share_their_flags),
        TEST(concurrent_writers_lose_no_dirty_bit),
        TEST(readers_run_on_while_the_map_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
