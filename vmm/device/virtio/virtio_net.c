// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio network device (Virtio 1.2, 5.1): queue 0 has buffers for frames that come, queue 1 has
 * frames that go, queue 2 has commands (net_filter.c). Before each frame stands a header that says
 * what the sender left to others: a checksum, or the cutting of a large TCP segment.
 *
 * What is offered belongs to the version of the machine and does not depend on what the card is
 * plugged into: the link does what the other end does not (net/link.h).
 *
 * Frames move on the I/O thread, which the doorbells of queues 0 and 1 wake; a batch of commands is
 * carried out at once on the vCPU's thread. A frame that comes while the guest has no buffer stays
 * with the link, which reads no further one; a frame that the link does not take now stays in
 * flight. The guest's headers are checked here, so that a link can rely on them; a wrong one costs
 * the frame. A limit of the rate keeps frames in the same two places until the machine's clock says
 * that they may go.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vmm/device/virtio/virtio_net_internal.h"
#include "vmm/machine/pc/layout.h"

#define BATCH_MAX      64 /* frames that are sent at one go */
#define SEGMENTS_MAX   4  /* of one buffer in the host's memory */
#define CLASS_ETHERNET 0x020000
#define CONFIG_SIZE    offsetof(struct virtio_net_config, speed) /* what we have of it */
#define HEADER_SIZE    ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define BIT(feature)   (1ULL << (feature))
#define FEATURES_OF_GUEST \
    (BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6))
#define FEATURES                                                                           \
    (FEATURES_OF_GUEST | BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |            \
     BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |      \
     BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | \
     BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_CTRL_VLAN) |                       \
     BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |             \
     BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))

static const struct state_field virtio_net_fields[] = {
    STATE_NESTED(struct virtio_net_state, virtio, &virtio_state_table),
    STATE_NESTED_ARRAY(struct virtio_net_state, queues, &virtqueue_state_table),
    STATE_NESTED_ARRAY(struct virtio_net_state, vectors, &pci_msix_entry_table),
    STATE_NESTED(struct virtio_net_state, filter, &net_filter_table),
    STATE_NESTED(struct virtio_net_state, cable, &net_cable_table),
};
static const struct state_table virtio_net_table =
    STATE_TABLE("virtio-net", 1, struct virtio_net_state, virtio_net_fields);

static void lock(struct virtio_net *net)
{
    g_mutex_lock(&net->virtio.pci.device.lock);
}

static void unlock(struct virtio_net *net)
{
    g_mutex_unlock(&net->virtio.pci.device.lock);
}

/* ---- frames that go ---- */

enum outcome { SENT, LATER, UNREACHABLE };

/* Whether a guest's header can be: offloads that were agreed, and a checksum within the frame. */
static bool header_is_sound(const struct virtio_net *net, const struct virtio_net_hdr_v1 *header,
                            uint32_t length)
{
    uint64_t field = (uint64_t)GUINT16_FROM_LE(header->csum_start) +
                     GUINT16_FROM_LE(header->csum_offset) + sizeof(uint16_t);
    bool checksum = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

    if (checksum && (!virtio_has_feature(&net->virtio, VIRTIO_NET_F_CSUM) || field > length))
        return false;
    switch (header->gso_type) {
    case VIRTIO_NET_HDR_GSO_NONE:
        return true;
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return checksum && header->gso_size &&
               virtio_has_feature(&net->virtio, VIRTIO_NET_F_HOST_TSO4);
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return checksum && header->gso_size &&
               virtio_has_feature(&net->virtio, VIRTIO_NET_F_HOST_TSO6);
    default:
        return false;
    }
}

/* What of it the link gets to see. */
static struct virtio_net_hdr_v1 header_clean(const struct virtio_net_hdr_v1 *header,
                                             uint32_t length)
{
    uint16_t headers = (uint16_t)MIN(GUINT16_FROM_LE(header->hdr_len), length);

    struct virtio_net_hdr_v1 clean = {.flags = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM};
    if (clean.flags) {
        clean.csum_start = header->csum_start;
        clean.csum_offset = header->csum_offset;
    }
    if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        clean.gso_type = header->gso_type;
        clean.gso_size = header->gso_size;
        clean.hdr_len = GUINT16_TO_LE(headers);
    }
    return clean;
}

/* The readable part behind the header as vectors of host memory; 0 when it cannot be reached. */
static unsigned frame_map(struct virtio_net *net, const struct virtqueue_request *request)
{
    struct dma_segment segments[SEGMENTS_MAX];
    uint32_t skip = HEADER_SIZE;
    unsigned count = 0;

    for (unsigned i = 0; i < request->readable; i++) {
        struct virtqueue_buffer buffer = request->buffers[i];
        uint32_t off = MIN(skip, buffer.length);

        skip -= off;
        if (buffer.length == off)
            continue;
        unsigned got = dma_map(&net->virtio.pci.dma, buffer.address + off, buffer.length - off,
                               DMA_TO_DEVICE, segments, SEGMENTS_MAX);
        if (!got || count + got > NET_VECTORS_MAX)
            return 0;
        for (unsigned j = 0; j < got; j++)
            net->host.vectors[count++] = (struct iovec){segments[j].host, segments[j].length};
        /* A mapping for reading needs no end: RAM stays where it is. */
    }
    return count;
}

/* Not locked. `up`: it goes out, instead of nowhere. */
static enum outcome frame_send(struct virtio_net *net, const struct virtqueue_request *request,
                               bool up)
{
    struct device *device = &net->virtio.pci.device;
    struct virtio_net_hdr_v1 header;
    uint32_t length = request->readable_length - HEADER_SIZE;

    if (request->readable_length < HEADER_SIZE + NET_HEADER_MIN || length > NET_FRAME_MAX) {
        device_guest_error(device, "a frame of %u bytes", request->readable_length);
        return SENT;
    }
    if (!virtqueue_request_read(request, 0, &header, HEADER_SIZE))
        return UNREACHABLE;
    if (!header_is_sound(net, &header, length)) {
        device_guest_error(device, "a frame with a header that cannot be");
        return SENT;
    }
    unsigned count = frame_map(net, request);
    if (!count)
        return UNREACHABLE;
    if (!net->config.link || !up)
        return SENT;
    header = header_clean(&header, length);
    if (!net_link_send(net->config.link, &header, net->host.vectors, count, length))
        return LATER;
    nic_rate_take(net, NIC_TRANSMIT, length);
    return SENT;
}

static struct virtqueue_request *frame_take(struct virtio_net *net)
{
    struct virtqueue_request *request = net->host.sending;

    if (!nic_rate_permits(net, NIC_TRANSMIT))
        return NULL;
    net->host.sending = NULL;
    if (request)
        return request;
    /* What the link would not take stays in the queue. */
    if (net->config.link && !net_link_is_ready(net->config.link))
        return NULL;
    return virtqueue_take(&net->virtio.queues[NIC_TRANSMIT]);
}

/* Whether there is more to do. */
static bool transmit_locked(struct virtio_net *net)
{
    for (unsigned i = 0; i < BATCH_MAX; i++) {
        struct virtqueue_request *request = frame_take(net);

        if (!request)
            return false;
        bool up = net->state.cable.up;
        unlock(net);
        enum outcome outcome = frame_send(net, request, up);
        lock(net);
        if (outcome == LATER) {
            net->host.sending = request;
            return false;
        }
        if (outcome == UNREACHABLE)
            virtio_break(&net->virtio, "a frame outside of memory");
        virtqueue_complete(request, 0);
    }
    return true;
}

void nic_transmit(struct virtio_net *net)
{
    bool more;

    if (net->host.paused)
        return;
    lock(net);
    more = transmit_locked(net);
    virtqueue_signal(&net->virtio.queues[NIC_TRANSMIT]);
    unlock(net);
    if (more)
        virtio_doorbell_ring(net->host.doorbells[NIC_TRANSMIT]);
}

/* ---- frames that come ---- */

enum gathered { ENOUGH, NOT_YET, NEVER };

/* Take buffers until `length` bytes fit into them: one chain, unless they may be merged. */
static enum gathered buffers_gather(struct virtio_net *net, uint32_t length)
{
    bool merged = virtio_has_feature(&net->virtio, VIRTIO_NET_F_MRG_RXBUF);

    while (net->host.room < length) {
        if (net->host.buffer_count == (merged ? NIC_QUEUE_SIZE : 1))
            return NEVER;
        struct virtqueue_request *request = virtqueue_take(&net->virtio.queues[NIC_RECEIVE]);
        if (!request)
            return net->host.buffer_count == net->state.queues[NIC_RECEIVE].size ? NEVER : NOT_YET;
        net->host.buffers[net->host.buffer_count++] = request;
        net->host.room += request->writable_length;
    }
    return ENOUGH;
}

/* Continue a copy into the buffers: `*buffer` is the one under way, written[] tells how far. */
static bool buffers_write(struct virtio_net *net, unsigned *buffer, const void *bytes,
                          uint32_t length)
{
    const uint8_t *from = bytes;

    while (length) {
        const struct virtqueue_request *request = net->host.buffers[*buffer];
        uint32_t *written = &net->host.written[*buffer];
        uint32_t piece = MIN(length, request->writable_length - *written);

        if (!virtqueue_request_write(request, *written, from, piece))
            return false;
        *written += piece;
        from += piece;
        length -= piece;
        if (length)
            net->host.written[++*buffer] = 0;
    }
    return true;
}

/* How many buffers `length` bytes need; they fit. */
static unsigned buffers_needed(const struct virtio_net *net, uint32_t length)
{
    uint64_t room = 0;
    unsigned count = 0;

    while (room < length)
        room += net->host.buffers[count++]->writable_length;
    return count;
}

/* Give back the first `count`, all at once: the driver looks for as many as the header says. */
static void buffers_complete(struct virtio_net *net, unsigned count)
{
    unsigned rest = net->host.buffer_count - count;

    for (unsigned i = 0; i < count; i++)
        net->host.room -= net->host.buffers[i]->writable_length;
    virtqueue_complete_all(&net->virtio.queues[NIC_RECEIVE], net->host.buffers, net->host.written,
                           count);
    memmove(net->host.buffers, net->host.buffers + count, rest * sizeof(net->host.buffers[0]));
    net->host.buffer_count = rest;
}

static void frame_deliver(struct virtio_net *net, const struct virtio_net_hdr_v1 *header,
                          const uint8_t *frame, uint32_t length)
{
    struct virtio_net_hdr_v1 out = *header;
    unsigned count = buffers_needed(net, HEADER_SIZE + length), at = 0;

    if (!virtio_has_feature(&net->virtio, VIRTIO_NET_F_GUEST_CSUM))
        out.flags = 0;
    out.num_buffers = GUINT16_TO_LE((uint16_t)count);
    net->host.written[0] = 0;
    if (buffers_write(net, &at, &out, HEADER_SIZE) && buffers_write(net, &at, frame, length))
        buffers_complete(net, count);
    else
        virtio_break(&net->virtio, "a buffer outside of memory");
}

static bool receive_locked(struct virtio_net *net, const struct virtio_net_hdr_v1 *header,
                           const uint8_t *frame, uint32_t length)
{
    bool by_vlan = virtio_has_feature(&net->virtio, VIRTIO_NET_F_CTRL_VLAN);

    if (!virtio_is_running(&net->virtio) || !net->state.cable.up ||
        !net_filter_passes(&net->state.filter, by_vlan, frame, length))
        return true;
    if (!nic_rate_permits(net, NIC_RECEIVE))
        return false;
    switch (buffers_gather(net, HEADER_SIZE + length)) {
    case NOT_YET:
        return !virtio_is_running(&net->virtio);
    case NEVER:
        device_guest_error(&net->virtio.pci.device, "no buffers for a frame of %u bytes", length);
        return true;
    default:
        frame_deliver(net, header, frame, length);
        nic_rate_take(net, NIC_RECEIVE, length);
        return true;
    }
}

static bool on_receive(void *opaque, const struct virtio_net_hdr_v1 *header, const uint8_t *frame,
                       uint32_t length)
{
    struct virtio_net *net = opaque;
    bool taken;

    if (net->host.paused)
        return false;
    lock(net);
    taken = receive_locked(net, header, frame, length);
    unlock(net);
    return taken;
}

static void on_received(void *opaque)
{
    struct virtio_net *net = opaque;

    if (net->host.paused)
        return;
    lock(net);
    virtqueue_signal(&net->virtio.queues[NIC_RECEIVE]);
    unlock(net);
}

static void on_ready(void *opaque)
{
    nic_transmit(opaque);
}

void nic_open_link(struct virtio_net *net, struct net_link *link)
{
    static const struct net_link_ops ops = {on_receive, on_received, on_ready, nic_cable_update};

    net_link_open(link, net->virtio.pci.device.env->loop, &ops, net);
}

/* ---- the I/O thread ---- */

/* What the guest takes of unfinished frames. */
static unsigned offloads_locked(const struct virtio_net *net)
{
    uint64_t wanted = net->state.virtio.driver_features & net->virtio.offered & FEATURES_OF_GUEST &
                      net->state.filter.offloads;

    if (!virtio_is_running(&net->virtio) || !(wanted & BIT(VIRTIO_NET_F_GUEST_CSUM)))
        return 0;
    return NET_OFFLOAD_CHECKSUM | (wanted & BIT(VIRTIO_NET_F_GUEST_TSO4) ? NET_OFFLOAD_TCP4 : 0) |
           (wanted & BIT(VIRTIO_NET_F_GUEST_TSO6) ? NET_OFFLOAD_TCP6 : 0);
}

/* The driver has announced its addresses (5.1.6.5.4). */
static bool is_announcement(const struct virtio_net *net, const struct virtqueue_request *request)
{
    struct virtio_net_ctrl_hdr header;

    return virtio_has_feature(&net->virtio, VIRTIO_NET_F_GUEST_ANNOUNCE) &&
           virtqueue_request_read(request, 0, &header, sizeof(header)) &&
           header.class == VIRTIO_NET_CTRL_ANNOUNCE && header.cmd == VIRTIO_NET_CTRL_ANNOUNCE_ACK;
}

static int command_execute_locked(struct virtio_net *net, const struct virtqueue_request *request)
{
    if (!is_announcement(net, request))
        return net_filter_command(&net->state.filter, request);
    net->state.cable.announce = false;
    return VIRTIO_NET_OK;
}

/* Carry out one command; false when it is none, and the device is broken. */
static bool command_locked(struct virtio_net *net, struct virtqueue_request *request)
{
    int result = command_execute_locked(net, request);
    uint8_t status = (uint8_t)result;

    if (result < 0 || !virtqueue_request_write(request, 0, &status, sizeof(status))) {
        virtio_break(&net->virtio,
                     "a command without a place for its status, or outside of memory");
        return false;
    }
    if (result != VIRTIO_NET_OK)
        device_guest_error(&net->virtio.pci.device, "a command that cannot be");
    virtqueue_complete(request, sizeof(status));
    return true;
}

/* A batch of commands: another vCPU may put them as fast as this thread takes them. What is left
 * waits for the I/O thread, as does what they have changed. */
static void commands_locked(struct virtio_net *net)
{
    struct virtqueue *queue = &net->virtio.queues[NIC_CONTROL];
    struct virtqueue_request *request;
    unsigned served = 0;

    while (served < BATCH_MAX && (request = virtqueue_take(queue)) && command_locked(net, request))
        served++;
    net->host.commands_left = served == BATCH_MAX;
    virtqueue_signal(queue);
    virtio_doorbell_ring(net->host.doorbells[NIC_RECEIVE]);
}

static void commands_go_on(struct virtio_net *net)
{
    lock(net);
    if (net->host.commands_left)
        commands_locked(net);
    unlock(net);
}

/* There are buffers, or the driver has changed its mind. */
void nic_receive(struct virtio_net *net)
{
    unsigned offloads;

    if (net->host.paused)
        return;
    commands_go_on(net);
    if (!net->config.link)
        return;
    lock(net);
    offloads = offloads_locked(net);
    unlock(net);
    net_link_set_offloads(net->config.link, offloads);
    net_link_receive(net->config.link);
}

static void answer(struct virtio_net *net, unsigned queue)
{
    uint64_t count;

    if (read(net->host.doorbells[queue], &count, sizeof(count)) < 0)
        return;
    if (queue == NIC_RECEIVE)
        nic_receive(net);
    else
        nic_transmit(net);
}

static void on_receive_doorbell(void *opaque, short events)
{
    answer(opaque, NIC_RECEIVE);
}

static void on_transmit_doorbell(void *opaque, short events)
{
    answer(opaque, NIC_TRANSMIT);
}

static void open_on_loop(void *opaque)
{
    struct virtio_net *net = opaque;
    struct loop *loop = net->virtio.pci.device.env->loop;

    nic_rate_apply(net);
    net->host.watches[NIC_RECEIVE] =
        loop_watch(loop, net->host.doorbells[NIC_RECEIVE], POLLIN, on_receive_doorbell, net);
    net->host.watches[NIC_TRANSMIT] =
        loop_watch(loop, net->host.doorbells[NIC_TRANSMIT], POLLIN, on_transmit_doorbell, net);
    if (net->config.link)
        nic_open_link(net, net->config.link);
}

static void close_on_loop(void *opaque)
{
    struct virtio_net *net = opaque;

    net->host.paused = true;
    loop_unwatch(g_steal_pointer(&net->host.watches[NIC_RECEIVE]));
    loop_unwatch(g_steal_pointer(&net->host.watches[NIC_TRANSMIT]));
    if (net->config.link)
        net_link_close(net->config.link);
}

static void forget_on_loop(void *opaque)
{
    struct virtio_net *net = opaque;

    net->host.sending = NULL;
    net->host.buffer_count = 0;
    net->host.room = 0;
}

static void pause_on_loop(void *opaque)
{
    struct virtio_net *net = opaque;

    net->host.paused = true;
    if (net->config.link)
        net_link_stop_receiving(net->config.link);
}

static void resume_on_loop(void *opaque)
{
    struct virtio_net *net = opaque;

    net->host.paused = false;
    nic_cable_update(net);
    nic_receive(net);
    nic_transmit(net);
}

/* ---- the guest's side ---- */

static void guest_reset(struct virtio_net *net)
{
    net_filter_reset(&net->state.filter, net->config.mac);
    net_cable_reset(&net->state.cable, nic_cable_is_present(net));
}

static void stop(struct virtio_device *device)
{
    struct virtio_net *net = (struct virtio_net *)device;

    loop_call_wait(device->pci.device.env->loop, forget_on_loop, net);
    lock(net);
    guest_reset(net);
    unlock(net);
}

/* The control queue, the only one without a doorbell. */
static void notify(struct virtio_device *device, unsigned queue)
{
    commands_locked((struct virtio_net *)device);
}

static void config_read(struct virtio_device *device, uint8_t *config)
{
    const struct virtio_net *net = (const struct virtio_net *)device;
    struct virtio_net_config registers = {
        .status = GUINT16_TO_LE(net_cable_status(&net->state.cable)),
        .max_virtqueue_pairs = GUINT16_TO_LE(1),
        .mtu = GUINT16_TO_LE(net->config.mtu),
    };

    memcpy(registers.mac, net->state.filter.mac, sizeof(registers.mac));
    memcpy(config, &registers, CONFIG_SIZE);
}

static const struct virtio_class net_class = {
    .id = VIRTIO_ID_NET,
    .class_code = CLASS_ETHERNET,
    .config_size = CONFIG_SIZE,
    .notify = notify,
    .stop = stop,
    .config_read = config_read,
};

/* ---- life ---- */

static void defaults(const struct device_env *env, void *opaque)
{
    struct virtio_nic_config *config = opaque;

    *config = (struct virtio_nic_config){
        .address = {NULL, PC_PCI_USER_DEVICES, 0},
        .mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56},
    };
}

static bool doorbells_open(struct virtio_net *net, GError **error)
{
    net->host.doorbells[NIC_CONTROL] = -1;
    net->host.doorbells[NIC_TRANSMIT] = -1;
    net->host.doorbells[NIC_RECEIVE] = virtio_doorbell_create(&net->virtio, error);
    if (net->host.doorbells[NIC_RECEIVE] >= 0)
        net->host.doorbells[NIC_TRANSMIT] = virtio_doorbell_create(&net->virtio, error);
    return net->host.doorbells[NIC_TRANSMIT] >= 0;
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct virtio_net *net = (struct virtio_net *)device;

    net->config = *(const struct virtio_nic_config *)config;
    net->host.paused = true;
    nic_timers_create(net);
    guest_reset(net);
    if (!doorbells_open(net, error))
        return false;
    loop_call_wait(device->env->loop, open_on_loop, net);
    const struct virtio_parts parts = {
        .address = net->config.address,
        .state = &net->state.virtio,
        .queues = net->state.queues,
        .vectors = net->state.vectors,
        .queue_count = NIC_QUEUES,
        .queue_size = NIC_QUEUE_SIZE,
        .features = FEATURES | (net->config.mtu ? BIT(VIRTIO_NET_F_MTU) : 0),
        .doorbells = net->host.doorbells,
    };
    return virtio_init(&net->virtio, &net_class, &parts, error);
}

static void finish(struct device *device)
{
    struct virtio_net *net = (struct virtio_net *)device;

    loop_call_wait(device->env->loop, close_on_loop, net);
    nic_timers_destroy(net);
    /* What the last of them had called is over, too. */
    loop_call_wait(device->env->loop, forget_on_loop, net);
    virtio_finish(&net->virtio);
    for (unsigned i = NIC_RECEIVE; i <= NIC_TRANSMIT; i++)
        if (net->host.doorbells[i] >= 0)
            close(net->host.doorbells[i]);
}

static void reset(struct device *device)
{
    virtio_reset((struct virtio_device *)device);
}

static void post_load(struct device *device)
{
    struct virtio_net *net = (struct virtio_net *)device;

    loop_call_wait(device->env->loop, forget_on_loop, net);
    virtio_post_load(&net->virtio);
}

static void pause_device(struct device *device)
{
    loop_call_wait(device->env->loop, pause_on_loop, device);
}

static void resume_device(struct device *device)
{
    loop_call_wait(device->env->loop, resume_on_loop, device);
    virtio_resume((struct virtio_device *)device);
}

const struct device_ops virtio_net_device = {
    .kind = "virtio-net",
    .description = "virtio network card",
    .size = sizeof(struct virtio_net),
    .config_size = sizeof(struct virtio_nic_config),
    .state = &virtio_net_table,
    .state_offset = offsetof(struct virtio_net, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
    .pause = pause_device,
    .resume = resume_device,
};
