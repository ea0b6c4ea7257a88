// SPDX-License-Identifier: Apache-2.0
/*
 * The readable form of a stream. It needs no knowledge of devices: state says itself what its
 * fields are.
 */
#include "vmm/state/stream.h"

#include "vmm/state/state.h"
#include "vmm/util/fault.h"

#include <inttypes.h>
#include <string.h>

struct dump {
    GString *out;
    uint64_t ram_pages, ram_present;
};

static enum stream_verdict dump_ram(struct dump *dump, const struct stream_section *section,
                                    GError **error)
{
    struct stream_ram_chunk chunk;

    if (g_bytes_get_size(section->content) < sizeof(chunk)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "stream: a section of RAM has no head");
        return STREAM_FAILED;
    }
    memcpy(&chunk, g_bytes_get_data(section->content, NULL), sizeof(chunk));
    dump->ram_pages += chunk.pages;
    for (unsigned i = 0; i < G_N_ELEMENTS(chunk.present); i++)
        dump->ram_present += (unsigned)__builtin_popcountl(chunk.present[i]);
    return STREAM_TAKEN;
}

static enum stream_verdict dump_section(void *opaque, const struct stream_section *section,
                                        GError **error)
{
    struct dump *dump = opaque;

    if (!strcmp(section->name, STREAM_RAM))
        return dump_ram(dump, section, error);
    g_string_append_printf(dump->out, "[%s] version %u, %zu bytes%s\n", section->name,
                           section->version, g_bytes_get_size(section->content),
                           section->flags & STREAM_OPTIONAL ? ", optional" : "");
    if ((section->flags & STREAM_STATE) &&
        !state_dump(section->content, section->name, dump->out, error))
        return STREAM_FAILED;
    return STREAM_TAKEN;
}

bool stream_dump(int fd, GString *out, GError **error)
{
    struct stream_reader *reader = stream_reader_create(fd, error);
    struct dump dump = {.out = out};
    bool whole;

    if (!reader)
        return false;
    g_string_append_printf(out, "[definition]\n%s\n", stream_reader_definition(reader));
    whole = stream_read(reader, dump_section, &dump, error);
    g_string_append_printf(out, "[ram] %" PRIu64 " pages, %" PRIu64 " of them not zero\n",
                           dump.ram_pages, dump.ram_present);
    stream_reader_destroy(reader);
    return whole;
}
