// SPDX-License-Identifier: Apache-2.0
/*
 * Streams: raw bytes, or sections with a right checksum around content of the fuzzer's, read into
 * memory and dumped.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/memory.h"

#include "vmm/memory/ram_stream.h"
#include "vmm/state/stream.h"

#define RAM_SIZE (1UL << 20)

static const char *const names[] = {"ram", "pit", "end", "definition"};

static enum stream_verdict receive(void *opaque, const struct stream_section *section,
                                   GError **error)
{
    if (strcmp(section->name, STREAM_RAM))
        return STREAM_UNKNOWN;
    return ram_stream_load(opaque, section, error) ? STREAM_TAKEN : STREAM_FAILED;
}

static struct memory *new_memory(void)
{
    struct memory *memory = memory_create();

    test_memory_add(memory, MEMORY_RAM, 0, RAM_SIZE);
    return memory;
}

/* Sections of the input's choice: name, flags, length, content. */
static int write_stream(struct fuzz_input *input)
{
    int fd = fuzz_file("", 0);
    struct stream_writer *writer = stream_writer_create(fd, "{}", NULL);

    while (input->size) {
        const char *name = names[fuzz_byte(input) % G_N_ELEMENTS(names)];
        unsigned flags = fuzz_byte(input) & (STREAM_OPTIONAL | STREAM_STATE);
        uint16_t length;

        fuzz_take(input, &length, sizeof(length));
        length = (uint16_t)MIN(length, input->size);
        stream_write(writer, name, 1, flags, input->data, length, NULL);
        input->data += length;
        input->size -= length;
    }
    stream_writer_finish(writer, NULL);
    stream_writer_destroy(writer);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct memory *memory = new_memory();
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    struct stream_reader *reader;
    int fd;

    fd = fuzz_byte(&input) & 1 ? fuzz_file(input.data, input.size) : write_stream(&input);
    lseek(fd, 0, SEEK_SET);
    reader = stream_reader_create(fd, &error);
    if (reader)
        fuzz_require(stream_read(reader, receive, memory, &error) == !error);
    else
        fuzz_require(error);
    stream_reader_destroy(reader);
    lseek(fd, 0, SEEK_SET);
    stream_dump(fd, text, NULL);
    close(fd);
    memory_destroy(memory);
    return 0;
}
