// SPDX-License-Identifier: Apache-2.0
/*
 * Streams: a whole machine as bytes, for snapshots, suspend, migration and updates.
 *
 *   magic and format version
 *   section "definition": the effective definition as JSON text (UTF-8, no final 0)
 *   sections, each with name, version, flags, length and checksum
 *   section "end": the number of sections before it (8 bytes, little-endian)
 *
 * Numbers are little-endian. A section's checksum is XXH64 (seed 0) over its head, with the
 * checksum as 0, its name and its content. A reader refuses sections that it does not know, unless
 * they are marked optional, and all that is truncated or damaged. It never seeks, so that a stream
 * can come through a socket. The fd is blocking and borrowed; one thread at a time.
 *
 * RAM travels in "ram" sections, see struct stream_ram_chunk and memory/ram_stream.h.
 */
#pragma once

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define STREAM_FORMAT_VERSION 1
#define STREAM_NAME_MAX       64
/* The longest content that a reader takes; RAM is cut into smaller chunks. */
#define STREAM_SECTION_MAX (16UL << 20)

enum stream_flags {
    STREAM_OPTIONAL = 1 << 0, /* who does not know the section may pass it over */
    STREAM_STATE = 1 << 1,    /* the content is what state_save gives */
};

struct stream_section {
    char name[STREAM_NAME_MAX + 1];
    uint32_t version;
    unsigned flags; /* enum stream_flags */
    GBytes *content;
};

/* Content of a "ram" section, version 1: this head, then the pages whose bit is set, in order. The
 * others are zero. */
#define STREAM_RAM         "ram"
#define STREAM_RAM_VERSION 1
#define STREAM_RAM_PAGES   256

struct stream_ram_chunk {
    uint64_t base;     /* guest-physical, page-aligned */
    uint32_t pages;    /* 1 to STREAM_RAM_PAGES */
    uint32_t reserved; /* 0 */
    uint64_t present[STREAM_RAM_PAGES / 64];
};

struct stream_writer;
struct stream_reader;

/* How far a writer is with what takes long, and whether to go on. Any thread may look, and cancel.
 */
struct stream_progress {
    _Atomic uint64_t done, total; /* bytes of RAM */
    _Atomic bool cancelled;       /* what is written from now on fails with VMM_ERROR_CANCELLED */
};

/* Begin a stream on `fd` with the definition. NULL and `error` when it cannot be written. */
struct stream_writer *stream_writer_create(int fd, const char *definition, GError **error);
void stream_writer_destroy(struct stream_writer *writer);

/* From now on the writer looks at `progress` (NULL: at none), and who writes RAM counts in it. A
 * write that waits for a reader goes on to wait until a signal interrupts it. */
void stream_writer_follow(struct stream_writer *writer, struct stream_progress *progress);
struct stream_progress *stream_writer_progress(const struct stream_writer *writer);

/* `name`: printable ASCII, at most STREAM_NAME_MAX characters; `size` at most STREAM_SECTION_MAX.
 * Names are unique in a stream, but for "ram". */
bool stream_write(struct stream_writer *writer, const char *name, uint32_t version, unsigned flags,
                  const void *data, size_t size, GError **error);

/* Copy what was written so far, to a regular or memory file, to `fd`, and go on there. */
bool stream_writer_move(struct stream_writer *writer, int fd, GError **error);

/* End the stream. Without this it is truncated. */
bool stream_writer_finish(struct stream_writer *writer, GError **error);

/* Read magic and definition. NULL and `error` when this is no stream of ours. */
struct stream_reader *stream_reader_create(int fd, GError **error);
void stream_reader_destroy(struct stream_reader *reader);

/* From now on `tell` hears after each section how many bytes were read, on the thread that reads.
 */
void stream_reader_follow(struct stream_reader *reader, void (*tell)(void *opaque, uint64_t done),
                          void *opaque);

/* The effective definition, JSON text; belongs to the reader. */
const char *stream_reader_definition(const struct stream_reader *reader);

/* What a receiver says to a section. */
enum stream_verdict {
    STREAM_TAKEN,
    STREAM_ENOUGH, /* taken, and no more now: stream_read returns and can be called again */
    STREAM_UNKNOWN,
    STREAM_FAILED, /* with error */
};

typedef enum stream_verdict (*stream_section_fn)(void *opaque, const struct stream_section *section,
                                                 GError **error);

/* Give every section up to the end, or until it has enough, to `receive`. False with `error` at the
 * first that is damaged, unknown and not optional, there twice, or failed; then what was taken is
 * half a machine. */
bool stream_read(struct stream_reader *reader, stream_section_fn receive, void *opaque,
                 GError **error);

/* The whole stream in readable form: definition, sections, every field. RAM is counted, not shown.
 * On false, `out` has what could be read. */
bool stream_dump(int fd, GString *out, GError **error);
