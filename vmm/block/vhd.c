// SPDX-License-Identifier: Apache-2.0
/*
 * VHD disks (vhd_format.h).
 *
 * A block that is written for the first time gets a place behind all others. Its bitmap says that
 * all of its sectors are there, which is true since the place is zero; its entry in the table is
 * written behind its data, so that a cut of power leaves the block whole or not there. The place
 * itself is made before that, with many others at a time: the file is made longer, with the footer
 * at its end, and synced. What lies between the last block and the footer is zeroed when the image
 * is activated, since a crash may have left half of a block there.
 *
 * Other programs keep bitmaps exactly. A block of theirs whose bitmap has holes is completed before
 * it is written: its missing sectors are zeroed, synced, and then the bitmap is filled.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/block/format.h"
#include "vmm/block/vhd_format.h"
#include "vmm/util/fault.h"

#define GROWTH (64ULL << 20) /* bytes by which the file grows at least */

/* What is known of a block's bitmap. */
enum sectors {
    SECTORS_UNKNOWN,
    SECTORS_SOME,
    SECTORS_ALL,
};

struct vhd {
    struct format format;
    int fd; /* the file node's, to ask for its size */
    struct vhd_footer footer;
    struct vhd_layout layout;
    /* Of a dynamic one that is active: */
    uint32_t *table;  /* as it lies in the file, whole sectors of it */
    uint8_t *sectors; /* by block, an enum sectors */
    uint64_t place;   /* of the next block */
    uint64_t end;     /* of the file */
    struct coroutine_lock growing, table_lock;
};

/* ---- the table ---- */

/* Where the block lies, its bitmap first; 0: nowhere. */
static uint64_t place_of(const struct vhd *vhd, uint32_t block)
{
    uint32_t entry = vhd->table[block];

    return entry == VHD_UNUSED ? 0 : (uint64_t)GUINT32_FROM_BE(entry) * VHD_SECTOR;
}

/* Writes of one sector of the table must not overtake each other. */
static int table_set(struct vhd *vhd, uint32_t block, uint64_t place)
{
    const uint32_t a_sector = VHD_SECTOR / sizeof(uint32_t);
    uint32_t first = block / a_sector * a_sector;
    uint8_t sector[VHD_SECTOR];
    int error;

    coroutine_lock(&vhd->table_lock);
    vhd->table[block] = GUINT32_TO_BE((uint32_t)(place / VHD_SECTOR));
    memcpy(sector, &vhd->table[first], sizeof(sector));
    error = format_transfer(&vhd->format, BLOCK_WRITE,
                            vhd->layout.table_offset + first * sizeof(uint32_t), sector,
                            sizeof(sector));
    if (error)
        vhd->table[block] = VHD_UNUSED;
    coroutine_unlock(&vhd->table_lock);
    return error;
}

/* ---- bitmaps ---- */

static bool has_sector(const uint8_t *bitmap, uint32_t sector)
{
    return bitmap[sector / 8] & 0x80 >> sector % 8;
}

/* From `sector` on, how many of at most `most` are as that one is. */
static uint32_t run_of(const uint8_t *bitmap, uint32_t sector, uint32_t most)
{
    bool there = has_sector(bitmap, sector);
    uint32_t count = 1;

    while (count < most && has_sector(bitmap, sector + count) == there)
        count++;
    return count;
}

static uint32_t sectors_of_block(const struct vhd *vhd)
{
    return vhd->layout.block_size / VHD_SECTOR;
}

/* Fill `bitmap`, and find out whether the block has all of its sectors. */
static int bitmap_read(struct vhd *vhd, uint32_t block, uint8_t *bitmap)
{
    uint32_t count = sectors_of_block(vhd);
    int error = format_transfer(&vhd->format, BLOCK_READ, place_of(vhd, block), bitmap,
                                vhd->layout.bitmap_size);

    if (!error && vhd->sectors[block] == SECTORS_UNKNOWN)
        vhd->sectors[block] =
            has_sector(bitmap, 0) && run_of(bitmap, 0, count) == count ? SECTORS_ALL : SECTORS_SOME;
    return error;
}

static int bitmap_fill(struct vhd *vhd, uint64_t place)
{
    uint8_t bitmap[VHD_BITMAP_MAX];

    memset(bitmap, 0xFF, vhd->layout.bitmap_size);
    return format_transfer(&vhd->format, BLOCK_WRITE, place, bitmap, vhd->layout.bitmap_size);
}

/* ---- blocks that come to be ---- */

/* Make room for a block at `place`, on stable storage: a table must not lead behind the end. */
static int grow(struct vhd *vhd, uint64_t place)
{
    uint64_t end = place + MAX(GROWTH, vhd_footprint(&vhd->layout)) + VHD_SECTOR;
    int error = format_transfer(&vhd->format, BLOCK_WRITE, end - VHD_SECTOR, &vhd->footer,
                                sizeof(vhd->footer));

    /* Where the footer was is a block's now. */
    if (!error)
        error = format_range(&vhd->format, BLOCK_WRITE_ZEROES, vhd->end - VHD_SECTOR, VHD_SECTOR,
                             false);
    if (!error)
        error = format_flush(&vhd->format);
    if (!error)
        vhd->end = end;
    return error;
}

static int place_take(struct vhd *vhd, uint64_t *place)
{
    uint64_t footprint = vhd_footprint(&vhd->layout);
    int error = 0;

    coroutine_lock(&vhd->growing);
    *place = vhd->place;
    if ((*place + footprint) / VHD_SECTOR >= VHD_UNUSED)
        error = ENOSPC;
    else if (*place + footprint > vhd->end - VHD_SECTOR)
        error = grow(vhd, *place);
    if (!error)
        vhd->place += footprint;
    coroutine_unlock(&vhd->growing);
    return error;
}

/* The first write of a block: `length` bytes at `within` it, from byte `skip` of the request. */
static int block_create(struct vhd *vhd, const struct block_request *request, uint32_t block,
                        uint64_t skip, uint32_t within, uint64_t length)
{
    struct format_work work;
    uint64_t place;
    int error;

    format_work_begin(&vhd->format, &work, block, 1);
    error = place_take(vhd, &place);
    if (!error)
        error = bitmap_fill(vhd, place);
    if (!error)
        error = format_transfer_part(&vhd->format, request, skip,
                                     place + vhd->layout.bitmap_size + within, length);
    if (!error)
        error = table_set(vhd, block, place);
    if (!error)
        vhd->sectors[block] = SECTORS_ALL;
    format_work_end(&vhd->format, &work);
    return error;
}

static int zero_holes(struct vhd *vhd, uint64_t data, const uint8_t *bitmap)
{
    uint32_t count = sectors_of_block(vhd);
    int error = 0;

    for (uint32_t at = 0, run; at < count && !error; at += run) {
        run = run_of(bitmap, at, count - at);
        if (!has_sector(bitmap, at))
            error = format_range(&vhd->format, BLOCK_WRITE_ZEROES, data + (uint64_t)at * VHD_SECTOR,
                                 (uint64_t)run * VHD_SECTOR, true);
    }
    return error;
}

/* Have all sectors of a block there. */
static int block_complete(struct vhd *vhd, uint32_t block)
{
    uint64_t place = place_of(vhd, block);
    uint8_t bitmap[VHD_BITMAP_MAX];
    struct format_work work;
    int error;

    format_work_begin(&vhd->format, &work, block, 1);
    error = bitmap_read(vhd, block, bitmap);
    if (!error && vhd->sectors[block] != SECTORS_ALL) {
        error = zero_holes(vhd, place + vhd->layout.bitmap_size, bitmap);
        if (!error)
            error = format_flush(&vhd->format);
        if (!error)
            error = bitmap_fill(vhd, place);
        if (!error)
            vhd->sectors[block] = SECTORS_ALL;
    }
    format_work_end(&vhd->format, &work);
    return error;
}

/* ---- requests, block by block ---- */

/* The part of a request that lies in one block. */
struct part {
    uint32_t block;
    uint32_t within; /* bytes before it in the block */
    uint64_t skip;   /* ...and in the request */
    uint64_t length;
};

static int part_read(struct vhd *vhd, const struct block_request *request, const struct part *part)
{
    uint64_t place = place_of(vhd, part->block), data = place + vhd->layout.bitmap_size;
    uint32_t first = part->within / VHD_SECTOR, count = (uint32_t)(part->length / VHD_SECTOR);
    uint8_t bitmap[VHD_BITMAP_MAX];
    int error = 0;

    if (!place) {
        format_read_zeroes(request, part->skip, part->length);
        return 0;
    }
    if (vhd->sectors[part->block] != SECTORS_ALL)
        error = bitmap_read(vhd, part->block, bitmap);
    if (vhd->sectors[part->block] == SECTORS_ALL)
        return format_transfer_part(&vhd->format, request, part->skip, data + part->within,
                                    part->length);
    for (uint32_t at = 0, run; at < count && !error; at += run) {
        uint64_t skip = part->skip + (uint64_t)at * VHD_SECTOR;

        run = run_of(bitmap, first + at, count - at);
        if (!has_sector(bitmap, first + at))
            format_read_zeroes(request, skip, (uint64_t)run * VHD_SECTOR);
        else
            error = format_transfer_part(&vhd->format, request, skip,
                                         data + (uint64_t)(first + at) * VHD_SECTOR,
                                         (uint64_t)run * VHD_SECTOR);
    }
    return error;
}

/* Of a block that has a place. */
static int part_change(struct vhd *vhd, const struct block_request *request,
                       const struct part *part)
{
    uint64_t at = place_of(vhd, part->block) + vhd->layout.bitmap_size + part->within;

    if (request->kind == BLOCK_WRITE)
        return format_transfer_part(&vhd->format, request, part->skip, at, part->length);
    return format_range(&vhd->format, request->kind, at, part->length, request->may_unmap);
}

static int part_serve(struct vhd *vhd, const struct block_request *request, const struct part *part)
{
    int error = 0;

    if (request->kind == BLOCK_READ)
        return part_read(vhd, request, part);
    while (format_work_wait(&vhd->format, part->block, 1))
        continue;
    if (!place_of(vhd, part->block)) {
        /* It reads as zero, and need not be there for that. */
        if (request->kind != BLOCK_WRITE)
            return 0;
        return block_create(vhd, request, part->block, part->skip, part->within, part->length);
    }
    if (vhd->sectors[part->block] != SECTORS_ALL)
        error = block_complete(vhd, part->block);
    return error ? error : part_change(vhd, request, part);
}

static int serve_dynamic(struct vhd *vhd, const struct block_request *request)
{
    int error = 0;

    for (uint64_t done = 0; done < request->length && !error;) {
        uint64_t at = request->offset + done;
        struct part part = {
            .block = (uint32_t)(at / vhd->layout.block_size),
            .within = (uint32_t)(at % vhd->layout.block_size),
            .skip = done,
        };

        part.length = MIN(request->length - done, vhd->layout.block_size - part.within);
        error = part_serve(vhd, request, &part);
        done += part.length;
    }
    return error;
}

static int serve_fixed(struct vhd *vhd, const struct block_request *request)
{
    if (request->kind == BLOCK_READ || request->kind == BLOCK_WRITE)
        return format_transfer_part(&vhd->format, request, 0, request->offset, request->length);
    return format_range(&vhd->format, request->kind, request->offset, request->length,
                        request->may_unmap);
}

static int serve(struct format *format, struct block_request *request)
{
    struct vhd *vhd = (struct vhd *)format;

    if (request->kind == BLOCK_FLUSH)
        return format_flush(format);
    return vhd->layout.type == VHD_FIXED ? serve_fixed(vhd, request) : serve_dynamic(vhd, request);
}

/* ---- activation ---- */

static bool refuse(const struct vhd *vhd, const char *why, GError **error)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "disk: %s: the VHD %s", vhd->format.block.name,
                why);
    return false;
}

static bool read_at(struct vhd *vhd, uint64_t offset, void *data, size_t size, GError **error)
{
    int code = format_transfer(&vhd->format, BLOCK_READ, offset, data, size);

    if (code)
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "disk: %s: %s", vhd->format.block.name,
                    g_strerror(code));
    return !code;
}

static bool read_table(struct vhd *vhd, GError **error)
{
    uint64_t size = vhd_table_size(&vhd->layout);
    const char *why;

    g_free(vhd->table);
    g_free(vhd->sectors);
    vhd->table = g_try_malloc(size);
    vhd->sectors = g_try_malloc0(vhd->layout.blocks);
    if (!vhd->table || !vhd->sectors)
        return refuse(vhd, "has a table for which there is no memory", error);
    if (!read_at(vhd, vhd->layout.table_offset, vhd->table, size, error))
        return false;
    return vhd_check_table(&vhd->layout, vhd->table, vhd->end, &vhd->place, &why) ||
           refuse(vhd, why, error);
}

/* Where blocks will be is zero, on stable storage, and the footer is behind it. */
static bool clear_room(struct vhd *vhd, GError **error)
{
    uint64_t end = MAX(vhd->place + VHD_SECTOR, vhd->end);
    int code = 0;

    if (vhd->format.block.readonly)
        return true;
    if (end - VHD_SECTOR > vhd->place)
        code = format_range(&vhd->format, BLOCK_WRITE_ZEROES, vhd->place,
                            end - VHD_SECTOR - vhd->place, true);
    if (!code)
        code = format_transfer(&vhd->format, BLOCK_WRITE, end - VHD_SECTOR, &vhd->footer,
                               sizeof(vhd->footer));
    if (!code)
        code = format_flush(&vhd->format);
    if (code)
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "disk: %s: %s", vhd->format.block.name,
                    g_strerror(code));
    vhd->end = end;
    return !code;
}

static bool activate(struct format *format, GError **error)
{
    struct vhd *vhd = (struct vhd *)format;
    off_t end = lseek(vhd->fd, 0, SEEK_END);
    struct vhd_header header;
    const char *why;

    if (vhd->layout.type == VHD_FIXED)
        return true;
    if (end < 0)
        return refuse(vhd, "cannot be measured", error);
    vhd->end = (uint64_t)end / VHD_SECTOR * VHD_SECTOR;
    if (vhd->layout.header_offset % VHD_SECTOR || vhd->layout.header_offset < VHD_SECTOR ||
        vhd->end < VHD_HEADER_SIZE || vhd->layout.header_offset > vhd->end - VHD_HEADER_SIZE)
        return refuse(vhd, "has its header where it cannot be", error);
    if (!read_at(vhd, vhd->layout.header_offset, &header, sizeof(header), error))
        return false;
    if (!vhd_read_header(&header, vhd->end, &vhd->layout, &why))
        return refuse(vhd, why, error);
    return read_table(vhd, error) && clear_room(vhd, error);
}

/* ---- life ---- */

static void destroy(struct format *format)
{
    struct vhd *vhd = (struct vhd *)format;

    g_free(vhd->table);
    g_free(vhd->sectors);
}

static const struct format_ops vhd_ops = {
    .serve = serve,
    .activate = activate,
    .destroy = destroy,
};

/* The footer, or its copy where a crash has left none at the end. A guest never writes the one at
 * the end, but may write the first sector of a fixed disk. */
static bool find_footer(int fd, struct vhd_footer *footer)
{
    off_t end = lseek(fd, 0, SEEK_END);

    if (end < (off_t)sizeof(*footer))
        return false;
    if (pread(fd, footer, sizeof(*footer), end - (off_t)sizeof(*footer)) == sizeof(*footer) &&
        vhd_is_footer(footer))
        return true;
    return pread(fd, footer, sizeof(*footer), 0) == sizeof(*footer) && vhd_is_footer(footer) &&
           GUINT32_FROM_BE(footer->type) == VHD_DYNAMIC;
}

static bool read_footer(struct vhd *vhd, const struct block_config *config, GError **error)
{
    const char *why = "has no footer: it is none, or it was cut off";
    uint64_t end = (uint64_t)lseek(config->fd, 0, SEEK_END);

    if (find_footer(config->fd, &vhd->footer) &&
        vhd_read_footer(&vhd->footer, &vhd->layout, &why)) {
        if (vhd->layout.type == VHD_DYNAMIC || vhd->layout.size <= end - VHD_SECTOR)
            return true;
        why = "is shorter than its disk: it was cut off";
    }
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "disk: %s: the VHD %s", config->name, why);
    return false;
}

struct block *block_vhd_create(const struct block_config *config, GError **error)
{
    g_autofree struct vhd *vhd = g_new0(struct vhd, 1);
    struct block_config below = *config;
    struct block *file;

    if (!format_check_cache(config, error) || !read_footer(vhd, config, error))
        return NULL;
    below.grows = vhd->layout.type == VHD_DYNAMIC;
    file = block_raw_create(&below, error);
    if (!file)
        return NULL;
    format_init(&vhd->format, &vhd_ops, file, config);
    vhd->format.block.size = vhd->layout.size;
    vhd->format.block.granularity = block_granularity(file);
    vhd->fd = config->fd;
    return &g_steal_pointer(&vhd)->format.block;
}
