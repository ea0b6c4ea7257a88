// SPDX-License-Identifier: Apache-2.0
/*
 * Requests of the virtio block device (Virtio 1.2, 5.2.6): a header that says what and where, data,
 * and a byte for the status at the end of the writable part. How they are spread over descriptors
 * is the driver's affair.
 *
 * Data goes between the host's storage and guest memory without a copy. What cannot be (sectors
 * that are not there, memory that cannot be reached) gets VIRTIO_BLK_S_IOERR, what is not known
 * VIRTIO_BLK_S_UNSUPP. Everything here runs on the loop's thread.
 */
#include <errno.h>
#include <string.h>

#include "vmm/device/virtio/virtio_blk_internal.h"

#define SEGMENTS_MAX 4 /* of one buffer: ranges of RAM that it crosses */

static struct dma_space *dma_of(const struct blk_request *request)
{
    return &request->blk->virtio.pci.dma;
}

static struct device *device_of(const struct blk_request *request)
{
    return &request->blk->virtio.pci.device;
}

/* ---- guest memory ---- */

/* The bytes of one buffer that are data, when `skip` bytes are to be left out and `left` go in. */
static struct virtqueue_buffer data_of(const struct virtqueue_buffer *buffer, uint64_t *skip,
                                       uint64_t *left)
{
    uint64_t out = MIN(*skip, buffer->length);
    struct virtqueue_buffer data = {buffer->address + out,
                                    (uint32_t)MIN(buffer->length - out, *left)};

    *skip -= out;
    *left -= data.length;
    return data;
}

static bool vector_add(struct block_request *block, const struct dma_segment *segment)
{
    struct iovec *last = block->count ? &block->vectors[block->count - 1] : NULL;

    if (last && (uint8_t *)last->iov_base + last->iov_len == segment->host) {
        last->iov_len += segment->length;
        return true;
    }
    if (block->count == BLK_VECTORS_MAX)
        return false;
    block->vectors[block->count++] = (struct iovec){segment->host, segment->length};
    return true;
}

static bool buffer_map(struct blk_request *request, const struct virtqueue_buffer *data,
                       enum dma_direction direction)
{
    struct dma_segment segments[SEGMENTS_MAX];
    unsigned count =
        dma_map(dma_of(request), data->address, data->length, direction, segments, SEGMENTS_MAX);
    bool fits = count != 0;

    for (unsigned i = 0; fits && i < count; i++)
        fits = vector_add(&request->block, &segments[i]);
    return fits;
}

/* Fill the vectors with the data of the readable or writable part. */
static bool data_map(struct blk_request *request, enum dma_direction direction)
{
    const struct virtqueue_request *chain = request->chain;
    bool writable = direction == DMA_FROM_DEVICE;
    unsigned first = writable ? chain->readable : 0;
    unsigned end = first + (writable ? chain->writable : chain->readable);
    uint64_t skip = writable ? 0 : sizeof(struct virtio_blk_outhdr);
    uint64_t left = request->block.length;

    for (unsigned i = first; i < end && left; i++) {
        struct virtqueue_buffer data = data_of(&chain->buffers[i], &skip, &left);
        if (data.length && !buffer_map(request, &data, direction))
            return false;
    }
    return true;
}

/* Data was read into the guest's memory. */
static void data_unmap(struct blk_request *request)
{
    const struct virtqueue_request *chain = request->chain;
    uint64_t skip = 0, left = request->block.length;

    for (unsigned i = chain->readable; left && i < chain->readable + chain->writable; i++) {
        struct virtqueue_buffer data = data_of(&chain->buffers[i], &skip, &left);
        if (data.length)
            dma_unmap(dma_of(request), data.address, data.length, DMA_FROM_DEVICE, data.length);
    }
}

/* ---- at the block node ---- */

static uint8_t status_of(int error)
{
    return !error                ? VIRTIO_BLK_S_OK
           : error == EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
                                 : VIRTIO_BLK_S_IOERR;
}

static void block_done(struct block_request *block, int error)
{
    struct blk_request *request = block->opaque;
    uint32_t data = 0;

    if (block->kind == BLOCK_READ) {
        data_unmap(request);
        data = error ? 0 : (uint32_t)block->length;
    }
    blk_request_end(request, status_of(error), data);
}

static void fail(struct blk_request *request, const char *what)
{
    device_guest_error(device_of(request), "%s", what);
    blk_request_end(request, VIRTIO_BLK_S_IOERR, 0);
}

/* Whether the sectors are there; fills the place. */
static bool place_set(struct blk_request *request, uint64_t sector, uint64_t length)
{
    uint64_t size = block_size(request->blk->config.block);

    if (length % BLOCK_SECTOR || length > size || sector > (size - length) / BLOCK_SECTOR)
        return false;
    request->block.offset = sector * BLOCK_SECTOR;
    request->block.length = length;
    return true;
}

static void submit(struct blk_request *request, enum block_kind kind)
{
    request->block.kind = kind;
    request->block.done = block_done;
    request->block.opaque = request;
    if (kind != BLOCK_READ && kind != BLOCK_FLUSH && block_is_readonly(request->blk->config.block))
        fail(request, "a change of a read-only disk");
    else
        block_submit(request->blk->config.block, &request->block);
}

static void transfer(struct blk_request *request, uint64_t sector, enum block_kind kind)
{
    const struct virtqueue_request *chain = request->chain;
    bool reads = kind == BLOCK_READ;
    uint64_t length = reads ? chain->writable_length - 1
                            : chain->readable_length - sizeof(struct virtio_blk_outhdr);

    if (!place_set(request, sector, length))
        fail(request, "sectors that are not there");
    else if (!data_map(request, reads ? DMA_FROM_DEVICE : DMA_TO_DEVICE))
        fail(request, "data outside of memory");
    else
        submit(request, kind);
}

/* DISCARD and WRITE_ZEROES: the data is a list of ranges, here of one. */
static void range(struct blk_request *request, enum block_kind kind)
{
    const struct virtqueue_request *chain = request->chain;
    uint32_t known = kind == BLOCK_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
    uint32_t most = kind == BLOCK_WRITE_ZEROES ? BLK_ZEROES_MAX : BLK_DISCARD_MAX;
    struct virtio_blk_discard_write_zeroes le;

    if (chain->readable_length != sizeof(struct virtio_blk_outhdr) + sizeof(le) ||
        !virtqueue_request_read(chain, sizeof(struct virtio_blk_outhdr), &le, sizeof(le))) {
        fail(request, "ranges that are not one, or outside of memory");
        return;
    }
    uint32_t flags = GUINT32_FROM_LE(le.flags), sectors = GUINT32_FROM_LE(le.num_sectors);
    if (flags & ~known)
        blk_request_end(request, VIRTIO_BLK_S_UNSUPP, 0);
    else if (sectors > most ||
             !place_set(request, GUINT64_FROM_LE(le.sector), (uint64_t)sectors * BLOCK_SECTOR))
        fail(request, "sectors that are not there, or too many");
    else {
        request->block.may_unmap = flags && request->blk->config.discard;
        submit(request, kind);
    }
}

static void tell_id(struct blk_request *request)
{
    char id[VIRTIO_BLK_ID_BYTES] = "";
    uint32_t length = MIN(sizeof(id), request->chain->writable_length - 1);

    memcpy(id, request->blk->config.serial, strlen(request->blk->config.serial));
    if (virtqueue_request_write(request->chain, 0, id, length))
        blk_request_end(request, VIRTIO_BLK_S_OK, length);
    else
        fail(request, "data outside of memory");
}

/* ---- the request ---- */

void blk_request_begin(struct blk_request *request, const struct blk_terms *terms)
{
    struct virtio_blk_outhdr header;

    if (!request->chain->writable_length ||
        !virtqueue_request_read(request->chain, 0, &header, sizeof(header))) {
        blk_request_break(request);
        return;
    }
    request->block = (struct block_request){.vectors = request->vectors, .stable = terms->stable};
    uint64_t sector = GUINT64_FROM_LE(header.sector);
    uint32_t type = GUINT32_FROM_LE(header.type);
    if (type == VIRTIO_BLK_T_IN)
        transfer(request, sector, BLOCK_READ);
    else if (type == VIRTIO_BLK_T_OUT)
        transfer(request, sector, BLOCK_WRITE);
    else if (type == VIRTIO_BLK_T_FLUSH)
        submit(request, BLOCK_FLUSH);
    else if (type == VIRTIO_BLK_T_GET_ID)
        tell_id(request);
    else if (type == VIRTIO_BLK_T_DISCARD && terms->discards)
        range(request, BLOCK_DISCARD);
    else if (type == VIRTIO_BLK_T_WRITE_ZEROES && terms->zeroes)
        range(request, BLOCK_WRITE_ZEROES);
    else
        blk_request_end(request, VIRTIO_BLK_S_UNSUPP, 0);
}
