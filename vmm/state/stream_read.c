// SPDX-License-Identifier: Apache-2.0
/*
 * Reading a stream that anybody may have written: nothing in it is believed before its length was
 * held against a cap and its checksum against the bytes.
 */
#include "vmm/state/stream_format.h"
#include "vmm/util/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* More sections of different names than any machine has devices. */
#define SECTIONS_MAX 4096

struct stream_reader {
    int fd;
    uint64_t sections; /* read so far */
    GHashTable *names; /* of all sections but "ram" */
    char *definition;
    uint64_t bytes;                            /* read so far */
    void (*tell)(void *opaque, uint64_t done); /* NULL: nobody follows */
    void *opaque;
};

static bool G_GNUC_PRINTF(2, 3) refuse(GError **error, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "stream: %s", what);
    return false;
}

static bool read_all(int fd, void *buffer, size_t size, GError **error)
{
    uint8_t *at = buffer;

    while (size) {
        ssize_t got = read(fd, at, size);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return refuse(error, "cannot be read: %s", g_strerror(errno));
        if (got == 0)
            return refuse(error, "is truncated");
        at += got;
        size -= (size_t)got;
    }
    return true;
}

static bool name_is_plain(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!g_ascii_isgraph(name[i]))
            return false;
    return length > 0;
}

static bool check_head(const struct stream_section_head *head, GError **error)
{
    if (head->magic != STREAM_SECTION_MAGIC)
        return refuse(error, "is damaged: no section where one should begin");
    if (head->name_length > STREAM_NAME_MAX || head->length > STREAM_SECTION_MAX ||
        head->reserved != 0 || (head->flags & ~STREAM_FLAGS_KNOWN))
        return refuse(error, "is damaged: the head of a section makes no sense");
    return true;
}

/* The next section, checked. The caller frees its content. */
static bool read_section(struct stream_reader *reader, struct stream_section *section,
                         GError **error)
{
    struct stream_section_head head;
    g_autofree void *content = NULL;

    *section = (struct stream_section){.content = NULL};
    if (!read_all(reader->fd, &head, sizeof(head), error) || !check_head(&head, error) ||
        !read_all(reader->fd, section->name, head.name_length, error))
        return false;
    if (!name_is_plain(section->name, head.name_length))
        return refuse(error, "is damaged: a section has no proper name");
    content = g_try_malloc(head.length + 1);
    if (!content)
        return refuse(error, "section %s: no memory for %" PRIu64 " bytes", section->name,
                      head.length);
    if (!read_all(reader->fd, content, head.length, error)) {
        g_prefix_error(error, "in section %s, ", section->name);
        return false;
    }
    if (stream_checksum(&head, section->name, content) != head.checksum)
        return refuse(error, "section %s is damaged: its checksum is wrong", section->name);
    section->version = head.version;
    section->flags = head.flags;
    section->content = g_bytes_new_take(g_steal_pointer(&content), head.length);
    reader->sections++;
    reader->bytes += sizeof(head) + head.name_length + head.length;
    if (reader->tell)
        reader->tell(reader->opaque, reader->bytes);
    return true;
}

static bool read_definition(struct stream_reader *reader, GError **error)
{
    struct stream_section section;
    gsize size;
    const char *text;

    if (!read_section(reader, &section, error))
        return false;
    text = g_bytes_get_data(section.content, &size);
    if (!strcmp(section.name, STREAM_DEFINITION) && section.version == 1 &&
        g_utf8_validate_len(text, size, NULL))
        reader->definition = g_strndup(text, size);
    g_hash_table_add(reader->names, g_strdup(section.name));
    g_bytes_unref(section.content);
    return reader->definition || refuse(error, "does not begin with a machine's definition");
}

struct stream_reader *stream_reader_create(int fd, GError **error)
{
    struct stream_reader *reader = g_new0(struct stream_reader, 1);
    struct stream_head head;

    reader->fd = fd;
    reader->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!read_all(fd, &head, sizeof(head), error))
        goto fail;
    if (memcmp(head.magic, STREAM_MAGIC, sizeof(head.magic))) {
        refuse(error, "is none: this file was not written by Anima");
        goto fail;
    }
    if (head.version != STREAM_FORMAT_VERSION || head.reserved != 0) {
        refuse(error, "has format %u; this program reads format %u", head.version,
               STREAM_FORMAT_VERSION);
        goto fail;
    }
    reader->bytes = sizeof(head);
    if (read_definition(reader, error))
        return reader;
fail:
    stream_reader_destroy(reader);
    return NULL;
}

void stream_reader_destroy(struct stream_reader *reader)
{
    if (!reader)
        return;
    g_hash_table_unref(reader->names);
    g_free(reader->definition);
    g_free(reader);
}

void stream_reader_follow(struct stream_reader *reader, void (*tell)(void *opaque, uint64_t done),
                          void *opaque)
{
    reader->tell = tell;
    reader->opaque = opaque;
}

const char *stream_reader_definition(const struct stream_reader *reader)
{
    return reader->definition;
}

/* The end marker counts the sections before it. */
static bool check_end(const struct stream_reader *reader, const struct stream_section *section,
                      GError **error)
{
    uint64_t sections;

    if (g_bytes_get_size(section->content) != sizeof(sections))
        return refuse(error, "is damaged: its end makes no sense");
    memcpy(&sections, g_bytes_get_data(section->content, NULL), sizeof(sections));
    if (sections != reader->sections - 1)
        return refuse(error, "lacks sections: %" PRIu64 " of %" PRIu64 " are there",
                      reader->sections - 1, sections);
    return true;
}

/* Each name comes once, but for RAM. */
static bool remember(struct stream_reader *reader, const struct stream_section *section,
                     GError **error)
{
    if (!strcmp(section->name, STREAM_RAM))
        return true;
    if (g_hash_table_size(reader->names) >= SECTIONS_MAX)
        return refuse(error, "has more than %d sections", SECTIONS_MAX);
    return g_hash_table_add(reader->names, g_strdup(section->name)) ||
           refuse(error, "section %s is there twice", section->name);
}

/* `*more` becomes false when the receiver has enough. */
static bool deliver(struct stream_reader *reader, const struct stream_section *section,
                    stream_section_fn receive, void *opaque, bool *more, GError **error)
{
    if (!remember(reader, section, error))
        return false;
    switch (receive(opaque, section, error)) {
    case STREAM_ENOUGH:
        *more = false;
        return true;
    case STREAM_TAKEN:
        return true;
    case STREAM_UNKNOWN:
        return (section->flags & STREAM_OPTIONAL) ||
               refuse(error,
                      "section %s is unknown here; a newer version or another machine wrote it",
                      section->name);
    case STREAM_FAILED:
        break;
    }
    return false;
}

bool stream_read(struct stream_reader *reader, stream_section_fn receive, void *opaque,
                 GError **error)
{
    bool more = true, good = true;

    while (good && more) {
        struct stream_section section;

        if (!read_section(reader, &section, error))
            return false;
        if (!strcmp(section.name, STREAM_END)) {
            more = false;
            good = check_end(reader, &section, error);
        } else {
            good = deliver(reader, &section, receive, opaque, &more, error);
        }
        g_bytes_unref(section.content);
    }
    return good;
}
