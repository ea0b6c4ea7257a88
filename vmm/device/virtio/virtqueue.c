// SPDX-License-Identifier: Apache-2.0
/*
 * Split virtqueues (Virtio 1.2, 2.7).
 *
 * The three areas lie in guest memory and may change at any instant, so each value is read once, by
 * DMA, and what was read is checked before it is used. Indices of the rings count modulo 2^16 and
 * are masked by the ring's size. A chain ends after at most as many descriptors as the table has
 * entries, so one that loops is found by its length.
 *
 * Order on memory (2.7.13.1, 2.7.14): the available index is read before the ring, the used ring is
 * written before the used index, and each event field is written or read with a full barrier
 * between it and the index that it is compared with, as both sides do that crosswise.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "vmm/device/virtio/virtio.h"
#include "vmm/util/fault.h"

#define RING_HEADER       4 /* flags and index of either ring */
#define RING_INDEX        2
#define AVAILABLE_ENTRY   2
#define USED_ENTRY        8
#define DESCRIPTORS_ALIGN 16
#define AVAILABLE_ALIGN   2
#define USED_ALIGN        4

static const struct state_field virtqueue_fields[] = {
    STATE_RANGE(struct virtqueue_state, size, 1, VIRTQUEUE_SIZE_MAX),
    STATE_U(struct virtqueue_state, vector),
    STATE_B(struct virtqueue_state, enabled),
    STATE_U(struct virtqueue_state, descriptors),
    STATE_U(struct virtqueue_state, available),
    STATE_U(struct virtqueue_state, used),
    STATE_U(struct virtqueue_state, next_available),
    STATE_U(struct virtqueue_state, next_used),
    STATE_U(struct virtqueue_state, signalled),
    STATE_RANGE(struct virtqueue_state, in_flight_count, 0, VIRTQUEUE_SIZE_MAX),
    STATE_ARRAY(struct virtqueue_state, in_flight),
};

/* No number of the list may be out of the table or occur twice: each request has its place by it.
 */
static bool check_state(const void *opaque, GError **error)
{
    const struct virtqueue_state *state = opaque;
    bool seen[VIRTQUEUE_SIZE_MAX] = {false};

    bool sound = !(state->size & (state->size - 1)) && state->in_flight_count <= state->size;
    for (unsigned i = 0; sound && i < VIRTQUEUE_SIZE_MAX; i++) {
        uint16_t head = state->in_flight[i];

        if (i >= state->in_flight_count) {
            sound = head == 0;
        } else {
            sound = head < state->size && !seen[head];
            seen[head & (VIRTQUEUE_SIZE_MAX - 1)] = true;
        }
    }
    if (!sound)
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "a virtqueue's size is no power of two, or its list of requests is damaged");
    return sound;
}

const struct state_table virtqueue_state_table = {
    .name = "virtqueue",
    .version = 1,
    .size = sizeof(struct virtqueue_state),
    .fields = virtqueue_fields,
    .count = G_N_ELEMENTS(virtqueue_fields),
    .check = check_state,
};

/* ---- guest memory ---- */

static bool read_u16(struct virtqueue *queue, uint64_t address, uint16_t *value)
{
    uint16_t le;

    if (!dma_read(&queue->device->pci.dma, address, &le, sizeof(le)))
        return false;
    *value = GUINT16_FROM_LE(le);
    return true;
}

static bool write_u16(struct virtqueue *queue, uint64_t address, uint16_t value)
{
    uint16_t le = GUINT16_TO_LE(value);
    return dma_write(&queue->device->pci.dma, address, &le, sizeof(le));
}

static void full_barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Where each side says how far the other may go: behind the other's ring (2.7.6, 2.7.8). */
static uint64_t used_event_address(const struct virtqueue *queue)
{
    return queue->state->available + RING_HEADER + AVAILABLE_ENTRY * (uint64_t)queue->state->size;
}

static uint64_t available_event_address(const struct virtqueue *queue)
{
    return queue->state->used + RING_HEADER + USED_ENTRY * (uint64_t)queue->state->size;
}

/* ---- chains ---- */

/* A table of descriptors: the queue's, or an indirect one. */
struct table {
    uint64_t address;
    uint32_t entries;
};

static bool descriptor_read(struct virtqueue *queue, const struct table *table, uint32_t index,
                            struct vring_desc *out)
{
    struct vring_desc le;

    if (!dma_read(&queue->device->pci.dma, table->address + index * sizeof(le), &le, sizeof(le)))
        return false;
    out->addr = GUINT64_FROM_LE(le.addr);
    out->len = GUINT32_FROM_LE(le.len);
    out->flags = GUINT16_FROM_LE(le.flags);
    out->next = GUINT16_FROM_LE(le.next);
    return true;
}

/* NULL, or what is wrong with it. */
static const char *buffer_add(struct virtqueue_request *request,
                              const struct vring_desc *descriptor)
{
    bool writable = descriptor->flags & VRING_DESC_F_WRITE;
    unsigned count = request->readable + request->writable;
    uint32_t room = UINT32_MAX - request->readable_length - request->writable_length;

    if (count == VIRTQUEUE_SIZE_MAX)
        return "a chain of too many descriptors";
    if (descriptor->len > room)
        return "a chain of more than 4 GiB";
    if (descriptor->len > UINT64_MAX - descriptor->addr)
        return "a descriptor that wraps around the address space";
    if (!writable && request->writable)
        return "a readable descriptor behind a writable one";
    request->buffers[count] = (struct virtqueue_buffer){descriptor->addr, descriptor->len};
    *(writable ? &request->writable : &request->readable) += 1;
    *(writable ? &request->writable_length : &request->readable_length) += descriptor->len;
    return NULL;
}

/* Enter the indirect table that `descriptor` names. NULL, or what is wrong with it. */
static const char *table_enter(struct virtqueue *queue, struct table *table,
                               const struct vring_desc *descriptor)
{
    uint32_t entries = descriptor->len / sizeof(struct vring_desc);

    if (!virtio_has_feature(queue->device, VIRTIO_RING_F_INDIRECT_DESC))
        return "an indirect descriptor without the feature";
    if (descriptor->flags & VRING_DESC_F_NEXT)
        return "an indirect descriptor in the middle of a chain";
    if (!entries || entries > VIRTQUEUE_SIZE_MAX || descriptor->len % sizeof(struct vring_desc))
        return "an indirect table of a size that cannot be";
    if (descriptor->len > UINT64_MAX - descriptor->addr)
        return "an indirect table that wraps around the address space";
    *table = (struct table){descriptor->addr, entries};
    return NULL;
}

/* Fill `request` from the chain at its head. NULL, or what is wrong with it. */
static const char *chain_read(struct virtqueue *queue, struct virtqueue_request *request)
{
    struct table table = {queue->state->descriptors, queue->state->size};
    uint32_t index = request->head, steps = 0;
    struct vring_desc descriptor;
    bool indirect = false;

    request->readable = request->writable = 0;
    request->readable_length = request->writable_length = 0;
    for (;;) {
        const char *fault = NULL;

        if (index >= table.entries)
            return "a descriptor outside of its table";
        if (steps++ == table.entries)
            return "a chain that loops";
        if (!descriptor_read(queue, &table, index, &descriptor))
            return "a descriptor outside of memory";
        if (descriptor.flags & VRING_DESC_F_INDIRECT) {
            fault = indirect ? "an indirect table in an indirect table"
                             : table_enter(queue, &table, &descriptor);
            indirect = true;
            index = steps = 0;
        } else {
            fault = buffer_add(request, &descriptor);
            index = descriptor.next;
            if (!fault && !(descriptor.flags & VRING_DESC_F_NEXT))
                return NULL;
        }
        if (fault)
            return fault;
    }
}

/* ---- taking ---- */

/* Make the chain at `head` a request; breaks the device if it is none. */
static struct virtqueue_request *request_open(struct virtqueue *queue, uint16_t head)
{
    struct virtqueue_request *request = &queue->requests[head];

    request->queue = queue;
    request->head = head;
    const char *fault = chain_read(queue, request);
    if (fault) {
        virtio_break(queue->device, fault);
        return NULL;
    }
    queue->taken[head] = true;
    return request;
}

/* How many heads wait in the ring; 0 also when it is broken. */
static uint16_t available_count(struct virtqueue *queue)
{
    uint16_t index;

    if (!read_u16(queue, queue->state->available + RING_INDEX, &index)) {
        virtio_break(queue->device, "an available ring outside of memory");
        return 0;
    }
    uint16_t count = index - queue->state->next_available;
    if (count > queue->state->size) {
        virtio_break(queue->device, "an available index that runs ahead");
        return 0;
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return count;
}

/* Ask for a notification of the next head, then look again, as it may have come meanwhile. */
static uint16_t available_count_or_ask(struct virtqueue *queue)
{
    uint16_t count = available_count(queue);

    if (count || !virtio_is_running(queue->device) ||
        !virtio_has_feature(queue->device, VIRTIO_RING_F_EVENT_IDX))
        return count;
    if (!write_u16(queue, available_event_address(queue), queue->state->next_available)) {
        virtio_break(queue->device, "a used ring outside of memory");
        return 0;
    }
    full_barrier();
    return available_count(queue);
}

static struct virtqueue_request *take_new(struct virtqueue *queue)
{
    struct virtqueue_state *state = queue->state;
    uint64_t slot = state->next_available & (state->size - 1U);
    uint16_t head;

    if (!available_count_or_ask(queue))
        return NULL;
    if (!read_u16(queue, state->available + RING_HEADER + slot * AVAILABLE_ENTRY, &head)) {
        virtio_break(queue->device, "an available ring outside of memory");
        return NULL;
    }
    if (head >= state->size) {
        virtio_break(queue->device, "a head outside of the descriptor table");
        return NULL;
    }
    if (queue->taken[head] || state->in_flight_count == state->size) {
        virtio_break(queue->device, "a head that is still in use");
        return NULL;
    }
    struct virtqueue_request *request = request_open(queue, head);
    if (request) {
        state->next_available++;
        state->in_flight[state->in_flight_count++] = head;
    }
    return request;
}

struct virtqueue_request *virtqueue_take(struct virtqueue *queue)
{
    if (!queue->state->enabled || !virtio_is_running(queue->device))
        return NULL;
    if (queue->retaken < queue->to_retake)
        return request_open(queue, queue->state->in_flight[queue->retaken++]);
    return take_new(queue);
}

/* ---- giving back ---- */

static void in_flight_remove(struct virtqueue *queue, uint16_t head)
{
    struct virtqueue_state *state = queue->state;
    unsigned place = 0;

    while (place < state->in_flight_count && state->in_flight[place] != head)
        place++;
    if (place == state->in_flight_count)
        return;
    state->in_flight_count--;
    memmove(&state->in_flight[place], &state->in_flight[place + 1],
            (state->in_flight_count - place) * sizeof(state->in_flight[0]));
    state->in_flight[state->in_flight_count] = 0;
    queue->retaken -= place < queue->retaken;
    queue->to_retake -= place < queue->to_retake;
}

/* Fill the entry `ahead` of the next one, which the driver does not look at yet. */
static bool used_fill(struct virtqueue *queue, unsigned ahead, uint16_t head, uint32_t written)
{
    struct virtqueue_state *state = queue->state;
    uint64_t slot = (state->next_used + ahead) & (state->size - 1U);
    struct vring_used_elem element = {GUINT32_TO_LE(head), GUINT32_TO_LE(written)};

    return dma_write(&queue->device->pci.dma, state->used + RING_HEADER + slot * USED_ENTRY,
                     &element, sizeof(element));
}

/* Let the driver see `count` entries more. */
static bool used_publish(struct virtqueue *queue, unsigned count)
{
    struct virtqueue_state *state = queue->state;

    __atomic_thread_fence(__ATOMIC_RELEASE);
    if (!write_u16(queue, state->used + RING_INDEX, (uint16_t)(state->next_used + count)))
        return false;
    state->next_used += count;
    return true;
}

void virtqueue_complete_all(struct virtqueue *queue, struct virtqueue_request *const *requests,
                            const uint32_t *written, unsigned count)
{
    bool running = virtio_is_running(queue->device), good = true;
    unsigned filled = 0;

    for (unsigned i = 0; i < count; i++) {
        struct virtqueue_request *request = requests[i];

        if (!queue->taken[request->head])
            continue;
        queue->taken[request->head] = false;
        if (!running)
            continue;
        in_flight_remove(queue, request->head);
        good = good &&
               used_fill(queue, filled++, request->head, MIN(written[i], request->writable_length));
    }
    if (filled && !(good && used_publish(queue, filled)))
        virtio_break(queue->device, "a used ring outside of memory");
}

void virtqueue_complete(struct virtqueue_request *request, uint32_t written)
{
    virtqueue_complete_all(request->queue, &request, &written, 1);
}

/* Whether the driver wants to hear of the used entries [from, to) (2.7.7, 2.7.8). */
static bool interrupt_is_wanted(struct virtqueue *queue, uint16_t from, uint16_t to)
{
    uint16_t value = 0;
    bool by_event = virtio_has_feature(queue->device, VIRTIO_RING_F_EVENT_IDX);

    full_barrier();
    if (!read_u16(queue, by_event ? used_event_address(queue) : queue->state->available, &value)) {
        virtio_break(queue->device, "an available ring outside of memory");
        return false;
    }
    if (by_event)
        return vring_need_event(value, to, from);
    return !(value & VRING_AVAIL_F_NO_INTERRUPT);
}

void virtqueue_signal(struct virtqueue *queue)
{
    uint16_t from = queue->state->signalled, to = queue->state->next_used;

    if (from == to || !virtio_is_running(queue->device))
        return;
    queue->state->signalled = to;
    if (interrupt_is_wanted(queue, from, to))
        virtio_interrupt_queue(queue->device, queue);
}

/* ---- buffers ---- */

typedef bool (*transfer_fn)(struct dma_space *dma, uint64_t address, uint8_t *bytes,
                            uint64_t length);

static bool transfer_in(struct dma_space *dma, uint64_t address, uint8_t *bytes, uint64_t length)
{
    return dma_read(dma, address, bytes, length);
}

static bool transfer_out(struct dma_space *dma, uint64_t address, uint8_t *bytes, uint64_t length)
{
    return dma_write(dma, address, bytes, length);
}

/* Move `length` bytes from `offset` on of the `count` buffers. */
static bool transfer(struct dma_space *dma, const struct virtqueue_buffer *buffers, unsigned count,
                     uint64_t offset, uint8_t *bytes, uint32_t length, transfer_fn move)
{
    for (unsigned i = 0; i < count && length; i++) {
        if (offset >= buffers[i].length) {
            offset -= buffers[i].length;
            continue;
        }
        uint32_t piece = (uint32_t)MIN(length, buffers[i].length - offset);
        if (!move(dma, buffers[i].address + offset, bytes, piece))
            return false;
        bytes += piece;
        length -= piece;
        offset = 0;
    }
    return length == 0;
}

bool virtqueue_request_read(const struct virtqueue_request *request, uint64_t offset, void *to,
                            uint32_t length)
{
    return offset <= request->readable_length && length <= request->readable_length - offset &&
           transfer(&request->queue->device->pci.dma, request->buffers, request->readable, offset,
                    to, length, transfer_in);
}

bool virtqueue_request_write(const struct virtqueue_request *request, uint64_t offset,
                             const void *from, uint32_t length)
{
    return offset <= request->writable_length && length <= request->writable_length - offset &&
           transfer(&request->queue->device->pci.dma, request->buffers + request->readable,
                    request->writable, offset, (uint8_t *)from, length, transfer_out);
}

/* ---- life ---- */

void virtqueue_init(struct virtqueue *queue, struct virtio_device *device,
                    struct virtqueue_state *state, uint16_t size_max)
{
    *queue = (struct virtqueue){.device = device, .state = state, .size_max = size_max};
    queue->requests = g_new0(struct virtqueue_request, size_max);
    virtqueue_reset(queue);
}

void virtqueue_finish(struct virtqueue *queue)
{
    g_free(queue->requests);
    queue->requests = NULL;
}

static void requests_forget(struct virtqueue *queue)
{
    memset(queue->taken, 0, sizeof(queue->taken));
    queue->to_retake = queue->retaken = 0;
}

void virtqueue_reset(struct virtqueue *queue)
{
    *queue->state = (struct virtqueue_state){.size = queue->size_max, .vector = VIRTIO_NO_VECTOR};
    requests_forget(queue);
}

bool virtqueue_enable(struct virtqueue *queue)
{
    struct virtqueue_state *state = queue->state;

    if (state->descriptors % DESCRIPTORS_ALIGN || state->available % AVAILABLE_ALIGN ||
        state->used % USED_ALIGN)
        return false;
    state->enabled = true;
    return true;
}

void virtqueue_post_load(struct virtqueue *queue)
{
    struct virtqueue_state *state = queue->state;

    requests_forget(queue);
    /* Made by a configuration with larger queues: what is out of this one's table is not there. */
    if (state->size > queue->size_max) {
        virtqueue_reset(queue);
        return;
    }
    queue->to_retake = state->in_flight_count;
}
