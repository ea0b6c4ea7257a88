// SPDX-License-Identifier: Apache-2.0
/*
 * Packing. In an archive the descriptor comes first, then the manifest (DSP0243), which both depend
 * on the files behind them. So room is left for them: a manifest's length is known, and a
 * descriptor's up to the digits of sizes, which are made up for by line ends. Nothing is written
 * twice, and no more is needed than the package's own room.
 */
#include "vmm/import/pack.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/import/manifest.h"
#include "vmm/import/ovf.h"
#include "vmm/import/tar.h"
#include "vmm/util/fault.h"

#define PARTS_MAX   OVF_FILES_MAX
#define COPY_BYTES  (1U << 20)
#define THREADS_MAX 16U

/* A file of the package as it is written. */
struct output {
    int fd;
    uint64_t start, at; /* of the file's bytes in the package's file */
    GChecksum *sum;
};

struct pack {
    struct definition *definition;
    char *name, *base;
    bool archive;
    unsigned count;
    struct ovf_part parts[PARTS_MAX];
    int in[PARTS_MAX];
    int out[2 + PARTS_MAX]; /* descriptor or archive, manifest, parts; -1: none */
    uint64_t bytes[PARTS_MAX];

    size_t descriptor_size, manifest_size;
    GString *manifest;
    const struct vmdk_progress *progress;
    uint64_t before;
};

static bool fail(GError **error, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "%s: %s", what, g_strerror(errno));
    return false;
}

/* ---- life ---- */

static bool take_part(struct pack *pack, const json_t *object)
{
    const char *key = json_string_value(json_object_get(object, "option"));
    const char *href = json_string_value(json_object_get(object, "href"));
    const struct option *option = key ? option_find(key) : NULL;

    if (!option || !href || pack->count == PARTS_MAX)
        return false;
    pack->parts[pack->count++] = (struct ovf_part){
        .option = (enum option_id)(option - options),
        .index = (unsigned)json_integer_value(json_object_get(object, "index")),
        .href = g_strdup(href),
    };
    return true;
}

struct pack *pack_create(const json_t *request, GError **error)
{
    struct pack *pack = g_new0(struct pack, 1);
    const char *yaml = json_string_value(json_object_get(request, "yaml"));
    json_t *parts = json_object_get(request, "parts"), *part;
    bool good = true;
    size_t i;

    memset(pack->in, -1, sizeof(pack->in));
    memset(pack->out, -1, sizeof(pack->out));
    pack->definition = definition_create();
    pack->manifest = g_string_new(NULL);
    pack->name = g_strdup(json_string_value(json_object_get(request, "name")));
    pack->base = g_strdup(json_string_value(json_object_get(request, "base")));
    pack->archive = json_is_true(json_object_get(request, "archive"));
    json_array_foreach(parts, i, part) good &= take_part(pack, part);
    if (!good || !pack->name || !pack->base || !yaml) {
        errno = EINVAL;
        good = fail(error, "the request");
    }
    if (good && definition_load_yaml(pack->definition, pack->name, NULL, yaml, strlen(yaml), error))
        return pack;
    pack_destroy(pack);
    return NULL;
}

void pack_destroy(struct pack *pack)
{
    if (!pack)
        return;
    for (unsigned i = 0; i < PARTS_MAX; i++) {
        g_free(pack->parts[i].href);
        if (pack->in[i] >= 0)
            close(pack->in[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pack->out); i++)
        if (pack->out[i] >= 0)
            close(pack->out[i]);
    definition_destroy(pack->definition);
    g_string_free(pack->manifest, TRUE);
    g_free(pack->name);
    g_free(pack->base);
    g_free(pack);
}

static void give(int *slots, unsigned count, unsigned index, int fd)
{
    if (index < count && slots[index] < 0)
        slots[index] = fd;
    else
        close(fd);
}

void pack_give_part(struct pack *pack, unsigned index, int fd)
{
    give(pack->in, pack->count, index, fd);
}

void pack_give_out(struct pack *pack, unsigned index, int fd)
{
    give(pack->out, pack->archive ? 1 : 2 + pack->count, index, fd);
}

/* ---- outputs ---- */

static bool write_at(int fd, const void *data, size_t size, uint64_t at, GError **error)
{
    const uint8_t *from = data;

    while (size) {
        ssize_t count = pwrite(fd, from, size, (off_t)at);

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return fail(error, "the package cannot be written");
        from += count;
        at += count;
        size -= count;
    }
    return true;
}

static bool output_write(void *opaque, const void *data, size_t size, GError **error)
{
    struct output *output = opaque;

    g_checksum_update(output->sum, data, (gssize)size);
    output->at += size;
    return write_at(output->fd, data, size, output->at - size, error);
}

/* Begin a file of the package; in the archive at `at`, where its header comes first. */
static struct output output_begin(const struct pack *pack, unsigned index, uint64_t at)
{
    struct output output = {.fd = pack->out[pack->archive ? 0 : index],
                            .sum = g_checksum_new(G_CHECKSUM_SHA256)};

    output.start = output.at = pack->archive ? at + TAR_BLOCK : 0;
    return output;
}

/* Its header, now that its size is known. */
static bool output_end(const struct pack *pack, struct output *output, const char *name,
                       GError **error)
{
    uint8_t header[TAR_BLOCK];
    bool good = true;

    if (pack->archive)
        good = tar_header(name, output->at - output->start, header, error) &&
               write_at(output->fd, header, sizeof(header), output->start - TAR_BLOCK, error);
    g_checksum_free(output->sum);
    return good;
}

/* Where the next member of the archive begins. */
static uint64_t behind(uint64_t at)
{
    return (at + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

/* ---- parts ---- */

static void tell(void *opaque, uint64_t done)
{
    struct pack *pack = opaque;

    pack->progress->tell(pack->progress->context, pack->before + done);
}

static bool copy_plain(struct pack *pack, unsigned index, struct output *output, GError **error)
{
    g_autofree uint8_t *buffer = g_try_malloc(COPY_BYTES);
    uint64_t done = 0;

    errno = ENOMEM;
    if (!buffer)
        return fail(error, pack->parts[index].href);

    for (;;) {
        ssize_t count = pread(pack->in[index], buffer, COPY_BYTES, (off_t)done);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail(error, pack->parts[index].href);
        if (!count)
            return true;
        if (!output_write(output, buffer, count, error))
            return false;
        done += count;
        tell(pack, done);
    }
}

static bool write_part(struct pack *pack, unsigned index, uint64_t *at, GError **error)
{
    struct ovf_part *part = &pack->parts[index];
    struct output output = output_begin(pack, 2 + index, *at);
    struct vmdk_sink sink = {output_write, &output};
    struct vmdk_progress progress = {tell, pack};
    g_autofree char *line = NULL;
    bool good;

    if (part->option == OPTION_DISK)
        good = vmdk_store(pack->in[index], pack->bytes[index], part->href,
                          MIN(g_get_num_processors(), THREADS_MAX), &sink, &progress, error);
    else
        good = copy_plain(pack, index, &output, error);
    part->size = output.at - output.start;
    line = manifest_line(part->href, output.sum);
    g_string_append(pack->manifest, line);
    *at = behind(output.at);
    pack->before += pack->bytes[index];
    tell(pack, 0);
    return output_end(pack, &output, part->href, error) && good;
}

/* ---- what tells of them ---- */

static char *descriptor_name(const struct pack *pack)
{
    return g_strconcat(pack->base, ".ovf", NULL);
}

static char *manifest_name(const struct pack *pack)
{
    return g_strconcat(pack->base, ".mf", NULL);
}

static char *write_descriptor(const struct pack *pack, struct import *lost)
{
    return ovf_write(pack->definition, pack->name, pack->parts, pack->count, lost);
}

/* How long both will be, at most. */
static void plan(struct pack *pack)
{
    g_autofree char *own = descriptor_name(pack), *text = NULL, *line = NULL;
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);

    for (unsigned i = 0; i < pack->count; i++)
        pack->parts[i].size = UINT64_MAX;
    text = write_descriptor(pack, NULL);
    pack->descriptor_size = strlen(text);
    line = manifest_line(own, sum);
    pack->manifest_size = strlen(line);
    for (unsigned i = 0; i < pack->count; i++) {
        g_autofree char *other = manifest_line(pack->parts[i].href, sum);

        pack->manifest_size += strlen(other);
    }
    g_checksum_free(sum);
}

/* The descriptor and the manifest, in the room that was left. */
static bool write_beginning(struct pack *pack, struct import *lost, GError **error)
{
    g_autofree char *text = write_descriptor(pack, lost), *name = descriptor_name(pack);
    g_autofree char *room = g_strnfill(pack->descriptor_size - strlen(text), '\n');
    g_autofree char *whole = g_strconcat(text, room, NULL), *own = manifest_name(pack);
    struct output descriptor = output_begin(pack, 0, 0), manifest;
    g_autofree char *line = NULL;
    bool good = output_write(&descriptor, whole, strlen(whole), error);

    line = manifest_line(name, descriptor.sum);
    g_string_prepend(pack->manifest, line);
    manifest = output_begin(pack, 1, behind(descriptor.at));
    good = good && output_write(&manifest, pack->manifest->str, pack->manifest->len, error);
    good = output_end(pack, &descriptor, name, error) && good;
    return output_end(pack, &manifest, own, error) && good;
}

static bool synchronize(const struct pack *pack, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(pack->out); i++)
        if (pack->out[i] >= 0 && fsync(pack->out[i]) != 0)
            return fail(error, "the package cannot be written");
    return true;
}

static bool prepare(struct pack *pack, uint64_t *total, GError **error)
{
    unsigned outs = pack->archive ? 1 : 2 + pack->count;

    *total = 0;
    for (unsigned i = 0; i < pack->count; i++) {
        off_t size = lseek(pack->in[i], 0, SEEK_END);

        if (size < 0)
            return fail(error, pack->parts[i].href);
        pack->bytes[i] = pack->parts[i].capacity = (uint64_t)size;
        *total += pack->bytes[i];
    }
    for (unsigned i = 0; i < outs; i++)
        if (pack->out[i] < 0) {
            errno = EBADF;
            return fail(error, "the package");
        }
    return true;
}

static json_t *take_lost(const struct import *import)
{
    json_t *lost = json_array();

    for (unsigned i = 0; i < import->lost->len; i++)
        json_array_append_new(lost, json_string(import->lost->pdata[i]));
    return lost;
}

static bool write_all(struct pack *pack, struct import *lost, GError **error)
{
    static const uint8_t end[2 * TAR_BLOCK];
    uint64_t at = 0;

    plan(pack);
    at = behind(TAR_BLOCK + pack->descriptor_size);
    at = behind(at + TAR_BLOCK + pack->manifest_size);
    for (unsigned i = 0; i < pack->count; i++)
        if (!write_part(pack, i, &at, error))
            return false;
    return (!pack->archive || write_at(pack->out[0], end, sizeof(end), at, error)) &&
           write_beginning(pack, lost, error) && synchronize(pack, error);
}

json_t *pack_write(struct pack *pack, uint64_t *total, const struct vmdk_progress *progress,
                   GError **error)
{
    struct import lost;
    json_t *lines = NULL;

    pack->progress = progress;
    import_init(&lost);
    if (prepare(pack, total, error) && write_all(pack, &lost, error))
        lines = take_lost(&lost);
    import_finish(&lost);
    return lines;
}
