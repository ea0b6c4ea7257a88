// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio entropy device (Virtio 1.2, 5.4): one queue of writable buffers, into each of which go
 * random bytes from the host's kernel. A buffer may get less than it has room for, so a long one is
 * answered with the bytes of one piece.
 *
 * The rate is kept in time: each byte costs 1/rate seconds, and `paid_until` says up to when
 * machine time is spent. A guest that was quiet has saved up to one second. A request that cannot
 * be paid yet is held, in flight, until a timer says that it can.
 */
#include "vmm/device/virtio/virtio_rng.h"

#include <linux/virtio_ids.h>
#include <sys/random.h>

#include "vmm/device/virtio/virtio.h"
#include "vmm/machine/pc/layout.h"

#define QUEUE_SIZE    64
#define PIECE_MAX     1024 /* bytes for one request */
#define BATCH_MAX     64   /* requests served in one go; the rest at once after, on the timer */
#define SAVED_MAX     NS_PER_SECOND
#define RETRY_NS      (10 * NS_PER_SECOND / 1000) /* when the host has no randomness yet */
#define CLASS_UNKNOWN 0x00FF00

struct virtio_rng {
    struct virtio_device virtio;
    struct virtio_rng_config config;
    struct virtio_rng_state {
        struct virtio_state virtio;
        struct virtqueue_state queue;
        struct pci_msix_entry vectors[2];
        int64_t paid_until; /* machine time, ns */
    } state;
    struct {
        struct clock_timer *timer;
        struct virtqueue_request *held; /* taken, waits for time to pass */
    } host;
};

static const struct state_field virtio_rng_fields[] = {
    STATE_NESTED(struct virtio_rng_state, virtio, &virtio_state_table),
    STATE_NESTED(struct virtio_rng_state, queue, &virtqueue_state_table),
    STATE_NESTED_ARRAY(struct virtio_rng_state, vectors, &pci_msix_entry_table),
    STATE_I(struct virtio_rng_state, paid_until),
};
static const struct state_table virtio_rng_table =
    STATE_TABLE("virtio-rng", 1, struct virtio_rng_state, virtio_rng_fields);

/* ---- requests ---- */

static uint32_t piece_of(const struct virtio_rng *rng, const struct virtqueue_request *request)
{
    uint64_t rate = rng->config.bytes_per_second;
    uint32_t piece = MIN(request->writable_length, PIECE_MAX);

    return rate ? (uint32_t)MIN(piece, rate) : piece;
}

/* Pay for `bytes`; 0, or the machine time at which it can be done. */
static int64_t pay(struct virtio_rng *rng, uint32_t bytes)
{
    int64_t now = clock_now(rng->virtio.pci.device.env->clock);
    uint64_t rate = rng->config.bytes_per_second;

    if (!rate)
        return 0;
    int64_t from = CLAMP(rng->state.paid_until, now - SAVED_MAX, now);
    int64_t until = from + (int64_t)((bytes * (uint64_t)NS_PER_SECOND + rate - 1) / rate);
    if (until > now)
        return until;
    rng->state.paid_until = until;
    return 0;
}

/* True when the request is done; else the timer is armed for it. */
static bool request_serve(struct virtio_rng *rng, struct virtqueue_request *request)
{
    int64_t now = clock_now(rng->virtio.pci.device.env->clock);
    uint32_t piece = piece_of(rng, request);
    uint8_t bytes[PIECE_MAX];

    if (!piece)
        device_guest_error(&rng->virtio.pci.device, "a request without room for bytes");
    int64_t paid_until = rng->state.paid_until, later = pay(rng, piece);
    if (later) {
        clock_timer_arm(rng->host.timer, later);
        return false;
    }
    if (getrandom(bytes, piece, GRND_NONBLOCK) != (ssize_t)piece) {
        rng->state.paid_until = paid_until;
        clock_timer_arm(rng->host.timer, now + RETRY_NS);
        return false;
    }
    if (!virtqueue_request_write(request, 0, bytes, piece)) {
        virtio_break(&rng->virtio, "a buffer outside of memory");
        return true;
    }
    virtqueue_complete(request, piece);
    return true;
}

static void queue_serve_locked(struct virtio_rng *rng)
{
    struct virtqueue *queue = &rng->virtio.queues[0];
    unsigned served = 0;

    while (served < BATCH_MAX) {
        struct virtqueue_request *request = rng->host.held ? rng->host.held : virtqueue_take(queue);
        rng->host.held = NULL;
        if (!request)
            break;
        if (!request_serve(rng, request)) {
            rng->host.held = request;
            break;
        }
        served++;
    }
    virtqueue_signal(queue);
    if (served == BATCH_MAX)
        clock_timer_arm(rng->host.timer, clock_now(rng->virtio.pci.device.env->clock));
}

static void timer_fired(void *opaque)
{
    struct virtio_rng *rng = opaque;

    g_mutex_lock(&rng->virtio.pci.device.lock);
    if (virtio_is_running(&rng->virtio))
        queue_serve_locked(rng);
    g_mutex_unlock(&rng->virtio.pci.device.lock);
}

static void notify(struct virtio_device *device, unsigned queue)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;

    if (!rng->host.held)
        queue_serve_locked(rng);
}

static void stop(struct virtio_device *device)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;

    g_mutex_lock(&device->pci.device.lock);
    clock_timer_disarm(rng->host.timer);
    rng->host.held = NULL;
    g_mutex_unlock(&device->pci.device.lock);
}

static const struct virtio_class rng_class = {
    .id = VIRTIO_ID_RNG,
    .class_code = CLASS_UNKNOWN,
    .notify = notify,
    .stop = stop,
};

/* ---- life ---- */

static void defaults(const struct device_env *env, void *opaque)
{
    struct virtio_rng_config *config = opaque;

    *config = (struct virtio_rng_config){
        .address = {NULL, PC_PCI_USER_DEVICES, 0},
        .bytes_per_second = 1 << 20,
    };
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;

    rng->config = *(const struct virtio_rng_config *)config;
    rng->host.timer = clock_timer_create(device->env->clock, "virtio-rng", timer_fired, rng);
    const struct virtio_parts parts = {
        .address = rng->config.address,
        .state = &rng->state.virtio,
        .queues = &rng->state.queue,
        .vectors = rng->state.vectors,
        .queue_count = 1,
        .queue_size = QUEUE_SIZE,
    };
    return virtio_init(&rng->virtio, &rng_class, &parts, error);
}

static void finish(struct device *device)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;

    clock_timer_destroy(rng->host.timer);
    virtio_finish(&rng->virtio);
}

static void reset(struct device *device)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;

    virtio_reset(&rng->virtio);
    g_mutex_lock(&device->lock);
    rng->state.paid_until = 0;
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;

    stop(&rng->virtio);
    virtio_post_load(&rng->virtio);
}

static void resume(struct device *device)
{
    virtio_resume((struct virtio_device *)device);
}

const struct device_ops virtio_rng_device = {
    .kind = "virtio-rng",
    .description = "virtio entropy device",
    .size = sizeof(struct virtio_rng),
    .config_size = sizeof(struct virtio_rng_config),
    .state = &virtio_rng_table,
    .state_offset = offsetof(struct virtio_rng, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
    .resume = resume,
};
