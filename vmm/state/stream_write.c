// SPDX-License-Identifier: Apache-2.0
/*
 * Writing a stream: each section goes out whole, head, name and content in one gathered write.
 */
#include "vmm/state/stream_format.h"
#include "vmm/util/fault.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(G_BYTE_ORDER == G_LITTLE_ENDIAN, "heads are written as they lie in memory");
_Static_assert(sizeof(struct stream_section_head) == 32, "the format's size");

struct stream_writer {
    int fd;
    uint64_t sections;
    struct stream_progress *progress; /* or NULL */
};

uint64_t stream_checksum(const struct stream_section_head *head, const char *name,
                         const void *content)
{
    struct stream_section_head plain = *head;
    XXH64_state_t state;

    plain.checksum = 0;
    XXH64_reset(&state, 0);
    XXH64_update(&state, &plain, sizeof(plain));
    XXH64_update(&state, name, head->name_length);
    XXH64_update(&state, content, head->length);
    return XXH64_digest(&state);
}

/* Take `done` bytes off the front of the vector. */
static void advance(struct iovec *vector, unsigned count, size_t done)
{
    for (unsigned i = 0; i < count; i++) {
        size_t piece = MIN(done, vector[i].iov_len);

        vector[i].iov_base = (uint8_t *)vector[i].iov_base + piece;
        vector[i].iov_len -= piece;
        done -= piece;
    }
}

static bool goes_on(const struct stream_writer *writer, GError **error)
{
    if (!writer->progress || !atomic_load(&writer->progress->cancelled))
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_CANCELLED, "stream: cancelled");
    return false;
}

static bool write_all(const struct stream_writer *writer, struct iovec *vector, unsigned count,
                      GError **error)
{
    size_t left = 0;

    for (unsigned i = 0; i < count; i++)
        left += vector[i].iov_len;
    while (left) {
        ssize_t written;

        if (!goes_on(writer, error))
            return false;
        written = writev(writer->fd, vector, (int)count);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            int number = written < 0 ? errno : EIO;

            g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "stream: cannot be written: %s",
                        g_strerror(number));
            return false;
        }
        advance(vector, count, (size_t)written);
        left -= (size_t)written;
    }
    return true;
}

void stream_writer_follow(struct stream_writer *writer, struct stream_progress *progress)
{
    writer->progress = progress;
}

struct stream_progress *stream_writer_progress(const struct stream_writer *writer)
{
    return writer->progress;
}

bool stream_write(struct stream_writer *writer, const char *name, uint32_t version, unsigned flags,
                  const void *data, size_t size, GError **error)
{
    struct stream_section_head head = {
        .magic = STREAM_SECTION_MAGIC,
        .name_length = (uint16_t)MIN(strlen(name), UINT16_MAX),
        .flags = (uint16_t)flags,
        .version = version,
        .length = size,
    };
    struct iovec vector[] = {
        {&head, sizeof(head)},
        {(void *)name, head.name_length},
        {(void *)data, size},
    };

    if (head.name_length > STREAM_NAME_MAX || size > STREAM_SECTION_MAX) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "stream: section %.*s of %zu bytes is too large", STREAM_NAME_MAX, name, size);
        return false;
    }
    head.checksum = stream_checksum(&head, name, data);
    writer->sections++;
    return write_all(writer, vector, G_N_ELEMENTS(vector), error);
}

struct stream_writer *stream_writer_create(int fd, const char *definition, GError **error)
{
    struct stream_writer *writer = g_new0(struct stream_writer, 1);
    struct stream_head head = {.magic = STREAM_MAGIC, .version = STREAM_FORMAT_VERSION};
    struct iovec vector = {&head, sizeof(head)};

    writer->fd = fd;
    if (write_all(writer, &vector, 1, error) &&
        stream_write(writer, STREAM_DEFINITION, 1, 0, definition, strlen(definition), error))
        return writer;
    stream_writer_destroy(writer);
    return NULL;
}

void stream_writer_destroy(struct stream_writer *writer)
{
    g_free(writer);
}

bool stream_writer_move(struct stream_writer *writer, int fd, GError **error)
{
    const int from = writer->fd;
    uint8_t buffer[16384];
    off_t at = 0;
    ssize_t got;

    writer->fd = fd;
    while ((got = pread(from, buffer, sizeof(buffer), at)) > 0) {
        struct iovec piece = {buffer, (size_t)got};

        if (!write_all(writer, &piece, 1, error))
            return false;
        at += got;
    }
    if (got < 0)
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "stream: cannot be read again: %s",
                    g_strerror(errno));
    return got == 0;
}

bool stream_writer_finish(struct stream_writer *writer, GError **error)
{
    uint64_t sections = writer->sections;

    return stream_write(writer, STREAM_END, 1, 0, &sections, sizeof(sections), error);
}
