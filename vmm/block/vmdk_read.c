// SPDX-License-Identifier: Apache-2.0
/*
 * Examining a VMDK image: header, footer, descriptor and tables. "Virtual Disk Format 5.0".
 *
 * Images are read by their tables alone, so that one in which grains come in any order, or twice,
 * means one thing. A grain's marker must name the grain that the table leads to it for.
 */
#include "vmm/block/vmdk_image.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util/fault.h"

#define GRAIN_SECTORS_MIN  8U
#define GRAIN_SECTORS_MAX  2048U
#define DIRECTORY_MAX      (1U << 22) /* entries: 128 TB of the usual grains */
#define DESCRIPTOR_MAX     65536U     /* bytes */
#define DESCRIPTOR_TEXT    "# Disk DescriptorFile"
#define PROPERTY_CHARACTER "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789."

bool vmdk_fail(GError **error, const char *what)
{
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_INVALID, what);
    return false;
}

bool vmdk_read(const struct vmdk *image, uint64_t offset, void *data, size_t size, GError **error)
{
    uint8_t *to = data;

    if (offset > image->size || size > image->size - offset)
        return vmdk_fail(error, "the image is cut off, or its tables lead out of it");
    while (size) {
        ssize_t count = pread(image->fd, to, size, (off_t)(image->at + offset));

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "it cannot be read: %s",
                        count ? g_strerror(errno) : "it has become shorter");
            return false;
        }
        to += count;
        offset += count;
        size -= count;
    }
    return true;
}

/* ---- the header ---- */

static bool check_geometry(const struct vmdk_header *header, GError **error)
{
    uint64_t grain = GUINT64_FROM_LE(header->grain_size);
    uint64_t capacity = GUINT64_FROM_LE(header->capacity);
    uint32_t gtes = GUINT32_FROM_LE(header->gtes_per_gt);

    if (grain < GRAIN_SECTORS_MIN || grain > GRAIN_SECTORS_MAX || (grain & (grain - 1)))
        return vmdk_fail(error, "its grains have a size that none can have");
    if (!gtes || gtes > VMDK_GTES)
        return vmdk_fail(error, "its grain tables have a size that none can have");
    if (!capacity || capacity > DIRECTORY_MAX * grain * gtes)
        return vmdk_fail(error, "its disk has a size that none can have");
    return true;
}

static bool check_flags(const struct vmdk_header *header, GError **error)
{
    uint32_t flags = GUINT32_FROM_LE(header->flags);
    bool compressed = flags & VMDK_FLAG_COMPRESSED;

    if ((flags & VMDK_FLAG_LINES) &&
        memcmp(header->line_ends, VMDK_LINE_ENDS, sizeof(header->line_ends)) != 0)
        return vmdk_fail(error, "it was damaged by a transfer as text");
    if (compressed &&
        (GUINT16_FROM_LE(header->compression) != VMDK_DEFLATE || !(flags & VMDK_FLAG_MARKERS)))
        return vmdk_fail(error, "its compression is unknown");
    return true;
}

static bool check_header(const struct vmdk_header *header, GError **error)
{
    uint32_t version = GUINT32_FROM_LE(header->version);

    if (GUINT32_FROM_LE(header->magic) != VMDK_MAGIC) {
        if (memcmp(header, DESCRIPTOR_TEXT, strlen(DESCRIPTOR_TEXT)) == 0)
            return vmdk_fail(error, "its data lies in other files; convert it by qemu-img");
        return vmdk_fail(error, "it is no VMDK image");
    }
    if (version < 1 || version > 3)
        return vmdk_fail(error, "it is a VMDK of an unknown version");
    return check_flags(header, error) && check_geometry(header, error);
}

/* The directory's place is at the end: a marker, a copy of the header, the end marker. */
static bool read_footer(struct vmdk *image, const struct vmdk_header *header,
                        struct vmdk_header *footer, GError **error)
{
    struct {
        struct vmdk_marker marker;
        struct vmdk_header header;
        struct vmdk_marker end;
    } tail;

    if (image->size < sizeof(tail) ||
        !vmdk_read(image, image->size - sizeof(tail), &tail, sizeof(tail), NULL) ||
        GUINT64_FROM_LE(tail.marker.value) != 1 || tail.marker.size ||
        GUINT32_FROM_LE(tail.marker.type) != VMDK_MARKER_FOOTER || tail.end.value ||
        tail.end.size || tail.end.type != VMDK_MARKER_END)
        return vmdk_fail(error, "its end is missing");
    *footer = tail.header;
    if (!check_header(footer, error))
        return false;
    if (footer->capacity != header->capacity || footer->grain_size != header->grain_size ||
        footer->gtes_per_gt != header->gtes_per_gt || footer->flags != header->flags)
        return vmdk_fail(error, "its end contradicts its beginning");
    return true;
}

/* ---- the descriptor ---- */

/* The value of "key=value" or "key = "value"" in a line; NULL: it is another line. */
static char *property(const char *line, const char *key)
{
    size_t length = strspn(line, PROPERTY_CHARACTER);
    char *value;

    if (length != strlen(key) || g_ascii_strncasecmp(line, key, length) != 0)
        return NULL;
    line += length;
    line += strspn(line, " \t");
    if (*line != '=')
        return NULL;
    value = g_strstrip(g_strdup(line + 1));
    if (*value == '"') {
        memmove(value, value + 1, strlen(value));
        value[strcspn(value, "\"")] = 0;
    }
    return value;
}

static bool is_extent(const char *line)
{
    return g_str_has_prefix(line, "RW ") || g_str_has_prefix(line, "RDONLY ") ||
           g_str_has_prefix(line, "NOACCESS ");
}

static bool check_line(const char *line, unsigned *extents, GError **error)
{
    g_autofree char *parent = property(line, "parentCID"), *type = property(line, "createType");

    *extents += is_extent(line);
    if (parent && g_ascii_strcasecmp(parent, "ffffffff") != 0)
        return vmdk_fail(error, "it holds only what differs from another image");
    if (type && g_ascii_strcasecmp(type, "streamOptimized") != 0 &&
        g_ascii_strcasecmp(type, "monolithicSparse") != 0)
        return vmdk_fail(error, "its data lies in other files; convert it by qemu-img");
    return true;
}

static bool check_descriptor(struct vmdk *image, const struct vmdk_header *header, GError **error)
{
    uint64_t at = GUINT64_FROM_LE(header->descriptor_offset);
    uint64_t sectors = GUINT64_FROM_LE(header->descriptor_size);
    g_autofree char *text = g_try_malloc0(DESCRIPTOR_MAX + 1);
    g_auto(GStrv) lines = NULL;
    unsigned extents = 0;

    if (!text)
        return vmdk_fail(error, "there is no memory for its descriptor");
    if (!at || !sectors || at > image->size / VMDK_SECTOR || sectors > DESCRIPTOR_MAX / VMDK_SECTOR)
        return vmdk_fail(error, "it is a part of an image that lies in several files");
    if (!vmdk_read(image, at * VMDK_SECTOR, text, sectors * VMDK_SECTOR, error))
        return false;
    lines = g_strsplit_set(text, "\r\n", -1);
    for (char **line = lines; *line; line++)
        if (!check_line(*line, &extents, error))
            return false;
    return extents <= 1 || vmdk_fail(error, "it is a part of an image that lies in several files");
}

/* ---- the tables ---- */

static bool read_directory(struct vmdk *image, uint64_t at, GError **error)
{
    uint64_t size;

    image->tables = (image->capacity + image->table_sectors - 1) / image->table_sectors;
    size = image->tables * sizeof(uint32_t);
    if (!at || at > image->size / VMDK_SECTOR || size > image->size)
        return vmdk_fail(error, "its grain directory is missing");
    image->directory = g_try_malloc(size);
    if (!image->directory)
        return vmdk_fail(error, "there is no memory for its grain directory");
    return vmdk_read(image, at * VMDK_SECTOR, image->directory, size, error);
}

bool vmdk_read_table(const struct vmdk *image, uint64_t index, uint32_t entries[VMDK_GTES],
                     GError **error)
{
    uint32_t at = GUINT32_FROM_LE(image->directory[index]);

    memset(entries, 0, VMDK_GTES * sizeof(*entries));
    return !at || vmdk_read(image, (uint64_t)at * VMDK_SECTOR, entries,
                            image->table_entries * sizeof(*entries), error);
}

bool vmdk_has_grain(const struct vmdk *image, uint32_t entry)
{
    entry = GUINT32_FROM_LE(entry);
    return entry > 1 || (entry == 1 && !image->zero_grains);
}

bool vmdk_count(struct vmdk *image, uint64_t *bytes, GError **error)
{
    uint32_t entries[VMDK_GTES];

    *bytes = 0;
    for (uint64_t i = 0; i < image->tables; i++) {
        if (!image->directory[i])
            continue;
        if (!vmdk_read_table(image, i, entries, error))
            return false;
        for (unsigned n = 0; n < VMDK_GTES; n++)
            *bytes += vmdk_has_grain(image, entries[n]) ? image->grain_bytes : 0;
    }
    *bytes = MIN(*bytes, vmdk_capacity(image));
    return true;
}

/* ---- opening ---- */

static void take_header(struct vmdk *image, const struct vmdk_header *header)
{
    uint32_t flags = GUINT32_FROM_LE(header->flags);

    image->capacity = GUINT64_FROM_LE(header->capacity);
    image->grain_sectors = (uint32_t)GUINT64_FROM_LE(header->grain_size);
    image->grain_bytes = image->grain_sectors * VMDK_SECTOR;
    image->table_entries = GUINT32_FROM_LE(header->gtes_per_gt);
    image->table_sectors = (uint64_t)image->grain_sectors * image->table_entries;
    image->compressed = flags & VMDK_FLAG_COMPRESSED;
    image->zero_grains = flags & VMDK_FLAG_ZERO_GRAINS;
}

static bool examine(struct vmdk *image, GError **error)
{
    struct vmdk_header header, footer, *last = &header;

    if (image->size < sizeof(header))
        return vmdk_fail(error, "it is no VMDK image");
    if (!vmdk_read(image, 0, &header, sizeof(header), error) || !check_header(&header, error))
        return false;
    if (GUINT64_FROM_LE(header.gd_offset) == VMDK_GD_AT_END) {
        if (!read_footer(image, &header, &footer, error))
            return false;
        last = &footer;
    }
    take_header(image, &header);
    return check_descriptor(image, &header, error) &&
           read_directory(image, GUINT64_FROM_LE(last->gd_offset), error);
}

struct vmdk *vmdk_open(int fd, uint64_t at, uint64_t size, GError **error)
{
    struct vmdk *image = g_new0(struct vmdk, 1);

    image->fd = fd;
    image->at = at;
    image->size = size;
    if (examine(image, error))
        return image;
    vmdk_close(image);
    return NULL;
}

void vmdk_close(struct vmdk *image)
{
    if (!image)
        return;
    g_free(image->directory);
    g_free(image);
}

uint64_t vmdk_capacity(const struct vmdk *image)
{
    return image->capacity * VMDK_SECTOR;
}
