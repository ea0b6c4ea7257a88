// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio block device (Virtio 1.2, 5.2).
 *
 * Each queue's doorbell wakes the I/O thread, which takes requests and hands them to the block
 * node; what is done comes back on the same thread. The driver is interrupted once for all that was
 * done in one turn of the loop. So requests, the node and all of `host` but what is said otherwise
 * belong to that thread; the device's lock guards the rings.
 *
 * A pause lets the host end what it has begun. What the node holds back (block_hold) is taken back
 * and stays in flight: it begins again when the machine goes on, here or elsewhere.
 */
#include "vmm/device/virtio/virtio_blk.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vmm/device/virtio/virtio_blk_internal.h"
#include "vmm/machine/pc/layout.h"
#include "vmm/util/fault.h"

#define CLASS_STORAGE 0x010000 /* mass storage, SCSI: as others show it */
#define BATCH         32       /* requests taken under one lock */
#define BATCHES_MAX   8        /* in one turn of the loop */
#define PHYSICAL_MAX  4096     /* bytes of a physical block that a guest is told */
#define CONFIG_SIZE   offsetof(struct virtio_blk_config, unused1)
#define CONFIG_WCE    offsetof(struct virtio_blk_config, wce)

static const struct state_field virtio_blk_fields[] = {
    STATE_NESTED(struct virtio_blk_state, virtio, &virtio_state_table),
    STATE_NESTED_ARRAY(struct virtio_blk_state, queues, &virtqueue_state_table),
    STATE_NESTED_ARRAY(struct virtio_blk_state, vectors, &pci_msix_entry_table),
    STATE_B(struct virtio_blk_state, writeback),
};
static const struct state_table virtio_blk_table =
    STATE_TABLE("virtio-blk", 1, struct virtio_blk_state, virtio_blk_fields);

static struct loop *loop_of(const struct virtio_blk *blk)
{
    return blk->virtio.pci.device.env->loop;
}

static GMutex *lock_of(struct virtio_blk *blk)
{
    return &blk->virtio.pci.device.lock;
}

/* ---- giving back ---- */

static void signal_queues(void *opaque)
{
    struct virtio_blk *blk = opaque;

    blk->host.signalling = false;
    g_mutex_lock(lock_of(blk));
    for (unsigned i = 0; i < blk->virtio.queue_count; i++)
        if (blk->host.to_signal & 1U << i)
            virtqueue_signal(&blk->virtio.queues[i]);
    g_mutex_unlock(lock_of(blk));
    blk->host.to_signal = 0;
}

static void signal_soon(struct virtio_blk *blk, unsigned queue)
{
    blk->host.to_signal |= 1U << queue;
    if (blk->host.signalling)
        return;
    blk->host.signalling = true;
    loop_call(loop_of(blk), signal_queues, blk);
}

static unsigned queue_of(const struct blk_request *request)
{
    return (unsigned)(request->chain->queue - request->blk->virtio.queues);
}

static void busy_less_locked(struct virtio_blk *blk)
{
    if (!--blk->host.busy)
        g_cond_broadcast(&blk->host.idle);
}

void blk_request_end(struct blk_request *request, uint8_t status, uint32_t written)
{
    struct virtio_blk *blk = request->blk;
    struct virtqueue_request *chain = request->chain;
    bool told = virtqueue_request_write(chain, chain->writable_length - 1, &status, 1);

    /* The status stands behind the data, where nothing is missing in between. */
    if (told && written == chain->writable_length - 1)
        written++;
    LIST_REMOVE(request, link);
    signal_soon(blk, queue_of(request));
    g_mutex_lock(lock_of(blk));
    virtqueue_complete(chain, written);
    busy_less_locked(blk);
    g_mutex_unlock(lock_of(blk));
}

void blk_request_break(struct blk_request *request)
{
    struct virtio_blk *blk = request->blk;

    LIST_REMOVE(request, link);
    g_mutex_lock(lock_of(blk));
    virtio_break(&blk->virtio, "a request without header or place for its status");
    busy_less_locked(blk);
    g_mutex_unlock(lock_of(blk));
}

/* ---- taking ---- */

/* Whether writes may lie in the host's cache until a flush (5.2.6.2). */
static bool is_writeback_locked(const struct virtio_blk *blk)
{
    if (!virtio_has_feature(&blk->virtio, VIRTIO_BLK_F_FLUSH))
        return false;
    return !virtio_has_feature(&blk->virtio, VIRTIO_BLK_F_CONFIG_WCE) || blk->state.writeback;
}

static struct blk_request *request_take_locked(struct virtio_blk *blk, unsigned queue)
{
    struct virtqueue_request *chain = virtqueue_take(&blk->virtio.queues[queue]);

    if (!chain)
        return NULL;
    struct blk_request *request = &blk->host.queues[queue].requests[chain->head % BLK_QUEUE_SIZE];
    request->blk = blk;
    request->chain = chain;
    LIST_INSERT_HEAD(&blk->host.taken, request, link);
    blk->host.busy++;
    return request;
}

/* Take and begin some; false when there were fewer than fit. */
static bool batch_serve(struct virtio_blk *blk, unsigned queue)
{
    struct blk_request *batch[BATCH];
    unsigned count = 0;

    g_mutex_lock(lock_of(blk));
    const struct blk_terms terms = {
        .stable = !is_writeback_locked(blk),
        .discards = virtio_has_feature(&blk->virtio, VIRTIO_BLK_F_DISCARD),
        .zeroes = virtio_has_feature(&blk->virtio, VIRTIO_BLK_F_WRITE_ZEROES),
    };
    while (count < BATCH && (batch[count] = request_take_locked(blk, queue)))
        count++;
    g_mutex_unlock(lock_of(blk));
    for (unsigned i = 0; i < count; i++)
        blk_request_begin(batch[i], &terms);
    return count == BATCH;
}

static void on_doorbell(void *opaque, short events)
{
    struct blk_queue *of = opaque;
    struct virtio_blk *blk = of->blk;
    unsigned queue = (unsigned)(of - blk->host.queues), batches = 0;
    uint64_t rings;
    bool more = true;

    /* Before the queue is looked at, so that no later ring is lost. */
    while (read(blk->host.doorbells[queue], &rings, sizeof(rings)) < 0 && errno == EINTR)
        ;
    /* Rung again when the machine goes on. */
    if (!blk->host.running)
        return;
    while (more && batches++ < BATCHES_MAX)
        more = batch_serve(blk, queue);
    if (more)
        virtio_doorbell_ring(blk->host.doorbells[queue]);
}

/* ---- letting the host end ---- */

/* Take back what the node holds. */
static void park_on_loop(void *opaque)
{
    struct virtio_blk *blk = opaque;
    struct blk_request *request, *next;

    for (request = LIST_FIRST(&blk->host.taken); request; request = next) {
        next = LIST_NEXT(request, link);
        if (!block_cancel(blk->config.block, &request->block))
            continue;
        LIST_REMOVE(request, link);
        LIST_INSERT_HEAD(&blk->host.parked, request, link);
        g_mutex_lock(lock_of(blk));
        busy_less_locked(blk);
        g_mutex_unlock(lock_of(blk));
    }
}

static void unpark_on_loop(struct virtio_blk *blk)
{
    struct blk_request *request;

    while ((request = LIST_FIRST(&blk->host.parked))) {
        LIST_REMOVE(request, link);
        LIST_INSERT_HEAD(&blk->host.taken, request, link);
        g_mutex_lock(lock_of(blk));
        blk->host.busy++;
        g_mutex_unlock(lock_of(blk));
        block_submit(blk->config.block, &request->block);
    }
}

static void forget_on_loop(void *opaque)
{
    LIST_INIT(&((struct virtio_blk *)opaque)->host.parked);
}

/* Return when nothing is at the host any more: requests are over, or parked. */
static void drain(struct virtio_blk *blk)
{
    loop_call_wait(loop_of(blk), park_on_loop, blk);
    g_mutex_lock(lock_of(blk));
    while (blk->host.busy)
        g_cond_wait(&blk->host.idle, lock_of(blk));
    g_mutex_unlock(lock_of(blk));
    loop_call_wait(loop_of(blk), signal_queues, blk);
}

/* ---- the driver's side ---- */

static void stop(struct virtio_device *device)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;

    drain(blk);
    loop_call_wait(loop_of(blk), forget_on_loop, blk);
    g_mutex_lock(lock_of(blk));
    blk->state.writeback = !blk->config.writethrough;
    g_mutex_unlock(lock_of(blk));
}

static uint8_t exponent(uint32_t value)
{
    return (uint8_t)__builtin_ctz(value);
}

static void config_read(struct virtio_device *device, uint8_t *config)
{
    const struct virtio_blk *blk = (const struct virtio_blk *)device;
    uint32_t grain = block_granularity(blk->config.block) / BLOCK_SECTOR;
    const struct virtio_blk_config registers = {
        .capacity = GUINT64_TO_LE(block_size(blk->config.block) / BLOCK_SECTOR),
        .seg_max = GUINT32_TO_LE(VIRTQUEUE_SIZE_MAX - 2), /* without header and status */
        .blk_size = GUINT32_TO_LE(BLOCK_SECTOR),
        .physical_block_exp = exponent(MIN(grain, PHYSICAL_MAX / BLOCK_SECTOR)),
        .min_io_size = GUINT16_TO_LE((uint16_t)MIN(grain, UINT16_MAX)),
        .wce = blk->state.writeback,
        .num_queues = GUINT16_TO_LE((uint16_t)blk->config.queues),
        .max_discard_sectors = GUINT32_TO_LE(BLK_DISCARD_MAX),
        .max_discard_seg = GUINT32_TO_LE(1),
        .discard_sector_alignment = GUINT32_TO_LE(grain),
        .max_write_zeroes_sectors = GUINT32_TO_LE(BLK_ZEROES_MAX),
        .max_write_zeroes_seg = GUINT32_TO_LE(1),
        .write_zeroes_may_unmap = blk->config.discard,
    };

    memcpy(config, &registers, CONFIG_SIZE);
}

static void config_write(struct virtio_device *device, unsigned offset, unsigned size,
                         uint32_t value)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;

    if (offset == CONFIG_WCE && size == 1 && virtio_has_feature(device, VIRTIO_BLK_F_CONFIG_WCE))
        blk->state.writeback = value & 1;
    else
        device_guest_error(&device->pci.device,
                           "a register of the configuration that is read-only");
}

static const struct virtio_class blk_class = {
    .id = VIRTIO_ID_BLOCK,
    .class_code = CLASS_STORAGE,
    .config_size = CONFIG_SIZE,
    .stop = stop,
    .config_read = config_read,
    .config_write = config_write,
};

/* ---- life ---- */

static void defaults(const struct device_env *env, void *opaque)
{
    struct virtio_disk_config *config = opaque;

    *config = (struct virtio_disk_config){
        .address = {NULL, PC_PCI_USER_DEVICES, 0},
        .queues = 1,
        .discard = true,
    };
}

static void watch_on_loop(void *opaque)
{
    struct virtio_blk *blk = opaque;

    for (unsigned i = 0; i < blk->config.queues; i++)
        blk->host.queues[i].watch = loop_watch(loop_of(blk), blk->host.doorbells[i], POLLIN,
                                               on_doorbell, &blk->host.queues[i]);
}

static void unwatch_on_loop(void *opaque)
{
    struct virtio_blk *blk = opaque;

    blk->host.running = false;
    for (unsigned i = 0; i < blk->config.queues; i++)
        loop_unwatch(g_steal_pointer(&blk->host.queues[i].watch));
}

static bool queues_open(struct virtio_blk *blk, GError **error)
{
    for (unsigned i = 0; i < blk->config.queues; i++) {
        struct blk_queue *queue = &blk->host.queues[i];

        queue->blk = blk;
        queue->requests = g_new0(struct blk_request, BLK_QUEUE_SIZE);
        blk->host.doorbells[i] = virtio_doorbell_create(&blk->virtio, error);
        if (blk->host.doorbells[i] < 0)
            return false;
    }
    return true;
}

static uint64_t features_of(const struct virtio_disk_config *config)
{
    bool readonly = block_is_readonly(config->block);
    uint64_t features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
                        1ULL << VIRTIO_BLK_F_TOPOLOGY;

    features |= readonly ? 1ULL << VIRTIO_BLK_F_RO : 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
    if (!readonly && config->discard)
        features |= 1ULL << VIRTIO_BLK_F_DISCARD;
    if (!config->writethrough)
        features |= 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE;
    if (config->queues > 1)
        features |= 1ULL << VIRTIO_BLK_F_MQ;
    return features;
}

static bool init(struct device *device, const void *opaque, GError **error)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;
    const struct virtio_disk_config *config = opaque;

    if (!config->block || !config->queues || config->queues > VIRTIO_BLK_QUEUES_MAX) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "%s: it needs a disk and 1 to %d queues",
                    device->id, VIRTIO_BLK_QUEUES_MAX);
        return false;
    }
    blk->config = *config;
    blk->state.writeback = !config->writethrough;
    /* As a reset leaves the others; these are in the state and in no driver's reach. */
    for (unsigned i = config->queues; i < VIRTIO_BLK_QUEUES_MAX; i++)
        blk->state.queues[i] =
            (struct virtqueue_state){.size = BLK_QUEUE_SIZE, .vector = VIRTIO_NO_VECTOR};
    g_cond_init(&blk->host.idle);
    if (!queues_open(blk, error))
        return false;
    const struct virtio_parts parts = {
        .address = config->address,
        .state = &blk->state.virtio,
        .queues = blk->state.queues,
        .vectors = blk->state.vectors,
        .queue_count = config->queues,
        .queue_size = BLK_QUEUE_SIZE,
        .features = features_of(config),
        .doorbells = blk->host.doorbells,
    };
    if (!virtio_init(&blk->virtio, &blk_class, &parts, error))
        return false;
    loop_call_wait(device->env->loop, watch_on_loop, blk);
    return true;
}

static void finish(struct device *device)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;

    if (!blk->config.block)
        return;
    loop_call_wait(device->env->loop, unwatch_on_loop, blk);
    drain(blk);
    virtio_finish(&blk->virtio);
    for (unsigned i = 0; i < blk->config.queues; i++) {
        struct blk_queue *queue = &blk->host.queues[i];

        if (queue->requests && blk->host.doorbells[i] >= 0)
            close(blk->host.doorbells[i]);
        g_free(queue->requests);
    }
    g_cond_clear(&blk->host.idle);
}

static void reset(struct device *device)
{
    virtio_reset((struct virtio_device *)device);
}

static void post_load(struct device *device)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;

    loop_call_wait(device->env->loop, forget_on_loop, blk);
    virtio_post_load(&blk->virtio);
}

static void pause_on_loop(void *opaque)
{
    ((struct virtio_blk *)opaque)->host.running = false;
}

static void resume_on_loop(void *opaque)
{
    struct virtio_blk *blk = opaque;

    blk->host.running = true;
    unpark_on_loop(blk);
}

static void pause_device(struct device *device)
{
    loop_call_wait(device->env->loop, pause_on_loop, device);
    drain((struct virtio_blk *)device);
}

static void resume_device(struct device *device)
{
    loop_call_wait(device->env->loop, resume_on_loop, device);
    virtio_resume((struct virtio_device *)device);
}

const struct device_ops virtio_blk_device = {
    .kind = "virtio-blk",
    .description = "virtio disk",
    .size = sizeof(struct virtio_blk),
    .config_size = sizeof(struct virtio_disk_config),
    .state = &virtio_blk_table,
    .state_offset = offsetof(struct virtio_blk, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
    .pause = pause_device,
    .resume = resume_device,
};
