// SPDX-License-Identifier: Apache-2.0
/*
 * Streams: what is written is read again, and whatever is damaged, unknown or cut off is refused
 * with one message.
 */
#include "vmm/state/stream.h"
#include "vmm/memory/ram_stream.h"
#include "vmm/state/state.h"
#include "vmm/util/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define DEFINITION "{\"machine\": \"anima-1\"}"
#define MIB        (1UL << 20)

struct sample {
    uint16_t value;
};

static const struct state_field sample_fields[] = {STATE_U(struct sample, value)};
static const struct state_table sample_table =
    STATE_TABLE("sample", 1, struct sample, sample_fields);

/* What a receiver took. */
struct received {
    unsigned sections;
    struct sample sample;
    struct memory *memory;
};

static enum stream_verdict receive(void *opaque, const struct stream_section *section,
                                   GError **error)
{
    struct received *received = opaque;

    received->sections++;
    if (!strcmp(section->name, "sample"))
        return state_load(&sample_table, &received->sample, section->content, error)
                   ? STREAM_TAKEN
                   : STREAM_FAILED;
    if (!strcmp(section->name, STREAM_RAM) && received->memory)
        return ram_stream_load(received->memory, section, error) ? STREAM_TAKEN : STREAM_FAILED;
    return STREAM_UNKNOWN;
}

static int new_file(void)
{
    return memfd_create("stream", MFD_CLOEXEC);
}

static struct stream_writer *begin(int fd)
{
    struct stream_writer *writer = stream_writer_create(fd, DEFINITION, NULL);

    assert_non_null(writer);
    return writer;
}

static void write_sample(struct stream_writer *writer, const char *name, uint16_t value,
                         unsigned flags)
{
    struct sample sample = {.value = value};
    g_autoptr(GBytes) bytes = state_save(&sample_table, &sample);
    gsize size;
    const void *data = g_bytes_get_data(bytes, &size);

    assert_true(stream_write(writer, name, 1, flags | STREAM_STATE, data, size, NULL));
}

static void finish(struct stream_writer *writer)
{
    assert_true(stream_writer_finish(writer, NULL));
    stream_writer_destroy(writer);
}

static bool read_back(int fd, struct received *received, GError **error)
{
    struct stream_reader *reader;
    bool good;

    lseek(fd, 0, SEEK_SET);
    reader = stream_reader_create(fd, error);
    if (!reader)
        return false;
    assert_string_equal(stream_reader_definition(reader), DEFINITION);
    good = stream_read(reader, receive, received, error);
    stream_reader_destroy(reader);
    return good;
}

static void assert_refused(int fd, const char *part)
{
    struct received received = {0};
    g_autoptr(GError) error = NULL;

    assert_false(read_back(fd, &received, &error));
    if (!strstr(error->message, part))
        fail_msg("\"%s\" does not say \"%s\"", error->message, part);
}

static void what_is_written_is_read(void **state)
{
    int fd = new_file();
    struct stream_writer *writer = begin(fd);
    struct received received = {0};

    write_sample(writer, "sample", 0x1234, 0);
    finish(writer);
    assert_true(read_back(fd, &received, NULL));
    assert_int_equal(received.sections, 1);
    assert_int_equal(received.sample.value, 0x1234);
    close(fd);
}

static enum stream_verdict take_one(void *opaque, const struct stream_section *section,
                                    GError **error)
{
    ++*(unsigned *)opaque;
    return STREAM_ENOUGH;
}

static void a_receiver_that_has_enough_can_come_back(void **state)
{
    int fd = new_file();
    struct stream_writer *writer = begin(fd);
    unsigned sections = 0;

    write_sample(writer, "one", 1, 0);
    write_sample(writer, "two", 2, 0);
    finish(writer);
    lseek(fd, 0, SEEK_SET);
    struct stream_reader *reader = stream_reader_create(fd, NULL);
    for (unsigned i = 1; i <= 2; i++) {
        assert_true(stream_read(reader, take_one, &sections, NULL));
        assert_int_equal(sections, i);
    }
    assert_true(stream_read(reader, take_one, &sections, NULL));
    assert_int_equal(sections, 2);
    stream_reader_destroy(reader);
    close(fd);
}

struct told {
    unsigned times;
    uint64_t done;
};

static void take_told(void *opaque, uint64_t done)
{
    struct told *told = opaque;

    told->times++;
    assert_true(done > told->done);
    told->done = done;
}

static void who_follows_hears_of_every_byte(void **state)
{
    int fd = new_file();
    struct stream_writer *writer = begin(fd);
    struct received received = {0};
    struct told told = {0};

    write_sample(writer, "sample", 1, 0);
    finish(writer);
    lseek(fd, 0, SEEK_SET);
    struct stream_reader *reader = stream_reader_create(fd, NULL);
    stream_reader_follow(reader, take_told, &told);
    assert_true(stream_read(reader, receive, &received, NULL));
    assert_int_equal(told.times, 2);
    assert_int_equal(told.done, lseek(fd, 0, SEEK_END));
    stream_reader_destroy(reader);
    close(fd);
}

static void a_stream_that_moves_is_whole(void **state)
{
    int first = new_file(), second = new_file();
    struct stream_writer *writer = begin(first);
    struct received received = {0};

    write_sample(writer, "sample", 0x1234, 0);
    assert_true(stream_writer_move(writer, second, NULL));
    write_sample(writer, "novelty", 1, STREAM_OPTIONAL);
    finish(writer);
    assert_true(read_back(second, &received, NULL));
    assert_int_equal(received.sample.value, 0x1234);
    close(first);
    close(second);
}

static void unknown_sections_are_refused_unless_optional(void **state)
{
    int fd = new_file();
    struct stream_writer *writer = begin(fd);
    struct received received = {0};

    write_sample(writer, "novelty", 1, STREAM_OPTIONAL);
    write_sample(writer, "sample", 2, 0);
    finish(writer);
    assert_true(read_back(fd, &received, NULL));
    assert_int_equal(received.sections, 2);
    close(fd);

    fd = new_file();
    writer = begin(fd);
    write_sample(writer, "novelty", 1, 0);
    finish(writer);
    assert_refused(fd, "stream: section novelty is unknown here");
    close(fd);
}

static void a_section_that_comes_twice_is_refused(void **state)
{
    int fd = new_file();
    struct stream_writer *writer = begin(fd);

    write_sample(writer, "sample", 1, 0);
    write_sample(writer, "sample", 2, 0);
    finish(writer);
    assert_refused(fd, "stream: section sample is there twice");
    close(fd);
}

static void a_stream_without_its_end_is_truncated(void **state)
{
    int fd = new_file();
    struct stream_writer *writer = begin(fd);

    write_sample(writer, "sample", 1, 0);
    stream_writer_destroy(writer);
    assert_refused(fd, "stream: is truncated");
    close(fd);
}

/* A whole small stream in memory. */
static GBytes *whole_stream(void)
{
    int fd = new_file();
    struct stream_writer *writer = begin(fd);
    off_t size;
    void *data;

    write_sample(writer, "sample", 7, 0);
    finish(writer);
    size = lseek(fd, 0, SEEK_END);
    data = g_malloc((gsize)size);
    assert_int_equal(pread(fd, data, (size_t)size, 0), size);
    close(fd);
    return g_bytes_new_take(data, (gsize)size);
}

static int file_of(const void *data, size_t size)
{
    int fd = new_file();

    assert_int_equal(write(fd, data, size), size);
    return fd;
}

static void every_truncation_is_refused(void **state)
{
    g_autoptr(GBytes) stream = whole_stream();
    gsize size;
    const uint8_t *data = g_bytes_get_data(stream, &size);

    for (gsize i = 0; i < size; i++) {
        int fd = file_of(data, i);

        assert_refused(fd, "stream");
        close(fd);
    }
}

static void every_flipped_bit_is_noticed(void **state)
{
    g_autoptr(GBytes) stream = whole_stream();
    gsize size;
    const uint8_t *data = g_bytes_get_data(stream, &size);

    for (gsize i = 0; i < size * 8; i++) {
        g_autofree uint8_t *damaged = g_memdup2(data, size);
        int fd;

        damaged[i / 8] ^= (uint8_t)(1U << (i % 8));
        fd = file_of(damaged, size);
        assert_refused(fd, "stream");
        close(fd);
    }
}

static void foreign_files_and_formats_are_refused(void **state)
{
    g_autoptr(GBytes) stream = whole_stream();
    gsize size;
    g_autofree uint8_t *data = g_memdup2(g_bytes_get_data(stream, NULL), g_bytes_get_size(stream));
    int fd = file_of("#!/bin/sh\necho hello\n", 21);

    assert_refused(fd, "was not written by Anima");
    close(fd);
    size = g_bytes_get_size(stream);
    data[8] = 9;
    fd = file_of(data, size);
    assert_refused(fd, "has format 9; this program reads format 1");
    close(fd);
}

static void a_failing_receiver_stops_the_reading(void **state)
{
    int fd = new_file();
    struct stream_writer *writer = begin(fd);

    assert_true(stream_write(writer, "sample", 1, 0, "junk", 4, NULL));
    finish(writer);
    assert_refused(fd, "state of sample");
    close(fd);
}

static void a_failing_write_is_told(void **state)
{
    int fd = new_file();
    g_autoptr(GError) error = NULL;
    struct stream_writer *writer = begin(fd);

    close(fd);
    assert_false(stream_write(writer, "sample", 1, 0, "x", 1, &error));
    assert_non_null(strstr(error->message, "stream: cannot be written"));
    stream_writer_destroy(writer);
}

static struct memory *new_memory(void)
{
    struct memory *memory = memory_create();
    int ram = memory_memfd("ram", 8 * MIB, NULL), rom = memory_memfd("rom", GUEST_PAGE_SIZE, NULL);

    assert_true(memory_add(memory, "low", MEMORY_RAM, 0, 4 * MIB, ram, 0, NULL));
    assert_true(memory_add(memory, "high", MEMORY_RAM, 64 * MIB, 4 * MIB, ram, 4 * MIB, NULL));
    assert_true(memory_add(memory, "rom", MEMORY_ROM, 128 * MIB, GUEST_PAGE_SIZE, rom, 0, NULL));
    close(ram);
    close(rom);
    return memory;
}

static void assert_same_memory(struct memory *one, struct memory *other, uint64_t base,
                               uint64_t size)
{
    for (uint64_t gpa = base; gpa < base + size; gpa += GUEST_PAGE_SIZE)
        assert_memory_equal(memory_read_begin(one, gpa), memory_read_begin(other, gpa),
                            GUEST_PAGE_SIZE);
}

static void ram_travels_without_its_zeros(void **state)
{
    struct memory *memory = new_memory(), *copy = new_memory();
    struct received received = {.memory = copy};
    int fd = new_file();
    struct stream_writer *writer = begin(fd);

    memory_write(memory, 5000, "hello", 5);
    memory_write(memory, 4 * MIB - 3, "end", 3);
    memory_write(memory, 66 * MIB, "high", 4);
    memory_load(memory, 128 * MIB, "rom", 3);
    memory_write(copy, 70000, "old", 3);
    assert_true(ram_stream_write(memory, writer, NULL));
    finish(writer);
    assert_in_range(lseek(fd, 0, SEEK_END), 4 * GUEST_PAGE_SIZE, 6 * GUEST_PAGE_SIZE);
    memory_clear(copy);
    assert_true(read_back(fd, &received, NULL));
    assert_same_memory(memory, copy, 0, 4 * MIB);
    assert_same_memory(memory, copy, 64 * MIB, 4 * MIB);
    assert_same_memory(memory, copy, 128 * MIB, GUEST_PAGE_SIZE);
    memory_destroy(memory);
    memory_destroy(copy);
    close(fd);
}

static void untouched_ram_is_not_written(void **state)
{
    struct memory *memory = memory_create();
    int ram = memory_memfd("ram", 256UL << 30, NULL), fd = new_file();
    struct stream_writer *writer = begin(fd);
    uint64_t first, end;

    assert_true(memory_add(memory, "ram", MEMORY_RAM, 0, 256UL << 30, ram, 0, NULL));
    assert_false(memory_next_data(memory, 0, &first, &end));
    memory_write(memory, 200UL << 30, "x", 1);
    assert_true(memory_next_data(memory, 0, &first, &end));
    assert_int_equal(first, 200UL << 30);
    assert_false(memory_next_data(memory, end, &first, &end));
    assert_true(ram_stream_write(memory, writer, NULL));
    finish(writer);
    assert_in_range(lseek(fd, 0, SEEK_END), 1, 3 * MIB);
    memory_clear(memory);
    assert_false(memory_next_data(memory, 0, &first, &end));
    close(ram);
    close(fd);
    memory_destroy(memory);
}

/* A RAM section with the given head and `size` bytes in all. */
static void assert_chunk_refused(const struct stream_ram_chunk *chunk, size_t size,
                                 const char *part)
{
    struct memory *memory = new_memory();
    g_autofree uint8_t *data = g_malloc0(MAX(size, sizeof(*chunk)));
    struct stream_section section = {.name = "ram", .version = STREAM_RAM_VERSION};
    g_autoptr(GError) error = NULL;

    memcpy(data, chunk, sizeof(*chunk));
    section.content = g_bytes_new(data, size);
    assert_false(ram_stream_load(memory, &section, &error));
    if (!strstr(error->message, part))
        fail_msg("\"%s\" does not say \"%s\"", error->message, part);
    g_bytes_unref(section.content);
    memory_destroy(memory);
}

static void hostile_chunks_of_ram_are_refused(void **state)
{
    const size_t head = sizeof(struct stream_ram_chunk);
    struct stream_ram_chunk chunk = {.pages = 1, .present = {1}};

    assert_chunk_refused(&chunk, head - 1, "has no head");
    assert_chunk_refused(&chunk, head, "is not as long as its pages");
    assert_chunk_refused(&chunk, head + GUEST_PAGE_SIZE + 1, "is not as long as its pages");
    chunk.base = 32 * MIB;
    assert_chunk_refused(&chunk, head + GUEST_PAGE_SIZE, "lies where the machine has none");
    chunk.base = 1;
    assert_chunk_refused(&chunk, head + GUEST_PAGE_SIZE, "makes no sense");
    chunk.base = UINT64_MAX & GUEST_PAGE_MASK;
    assert_chunk_refused(&chunk, head + GUEST_PAGE_SIZE, "makes no sense");
    chunk.base = 0;
    chunk.present[1] = 1;
    assert_chunk_refused(&chunk, head + 2 * GUEST_PAGE_SIZE, "pages beyond its end");
    chunk.pages = STREAM_RAM_PAGES + 1;
    assert_chunk_refused(&chunk, head + 2 * GUEST_PAGE_SIZE, "makes no sense");
    chunk.pages = 0;
    assert_chunk_refused(&chunk, head, "makes no sense");
}

static void the_dump_shows_every_section(void **state)
{
    struct memory *memory = new_memory();
    int fd = new_file();
    struct stream_writer *writer = begin(fd);
    g_autoptr(GString) out = g_string_new(NULL);

    write_sample(writer, "sample", 7, 0);
    assert_true(stream_write(writer, "blob", 3, STREAM_OPTIONAL, "12345", 5, NULL));
    memory_write(memory, 0, "x", 1);
    assert_true(ram_stream_write(memory, writer, NULL));
    finish(writer);
    lseek(fd, 0, SEEK_SET);
    assert_true(stream_dump(fd, out, NULL));
    assert_non_null(strstr(out->str, "[definition]\n" DEFINITION "\n"
                                     "[sample] version 1, 10 bytes\n"
                                     "sample.version = 1\n"
                                     "sample.value = 7\n"
                                     "[blob] version 3, 5 bytes, optional\n"
                                     "[ram] "));
    assert_non_null(strstr(out->str, " 1 of them not zero\n"));
    memory_destroy(memory);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_receiver_that_has_enough_can_come_back),
        cmocka_unit_test(who_follows_hears_of_every_byte),
        cmocka_unit_test(a_stream_that_moves_is_whole),
        cmocka_unit_test(unknown_sections_are_refused_unless_optional),
        cmocka_unit_test(a_section_that_comes_twice_is_refused),
        cmocka_unit_test(a_stream_without_its_end_is_truncated),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(foreign_files_and_formats_are_refused),
        cmocka_unit_test(a_failing_receiver_stops_the_reading),
        cmocka_unit_test(a_failing_write_is_told),
        cmocka_unit_test(ram_travels_without_its_zeros),
        cmocka_unit_test(untouched_ram_is_not_written),
        cmocka_unit_test(hostile_chunks_of_ram_are_refused),
        cmocka_unit_test(the_dump_shows_every_section),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
