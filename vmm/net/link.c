// SPDX-License-Identifier: Apache-2.0
/*
 * Links on descriptors: a TAP interface's, or an end of a packet socket pair.
 *
 * A frame that comes is read into `input`, from where the device copies it into the guest's
 * buffers; only so can it be looked at before a buffer is chosen. A frame that goes is taken by the
 * kernel from where it lies in guest memory. Where its checksum has to be completed it is gathered
 * in `output` first.
 *
 * Output that is held lies in one stretch of memory, frame behind frame: [head, released) may go,
 * [released, tail) waits. The stretch is used from its beginning again once it is empty.
 */
#include "vmm/net/link.h"

#include <errno.h>
#include <glib-unix.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/net/checksum.h"
#include "vmm/net/segment.h"
#include "vmm/util/fault.h"

#define BURST_MAX 64 /* frames read at one go */
#define USUAL_MTU 1500
#define NOT_ASKED UINT_MAX /* no offloads */

/* What stands before each frame that is kept. */
struct kept_frame {
    struct virtio_net_hdr_v1 header;
    uint32_t length;
};

struct net_link {
    enum net_link_kind kind;
    int fd;
    char *name;
    struct loop_watch *watch;
    const struct net_link_ops *ops;
    void *opaque;
    bool up;
    unsigned offloads;       /* that frames may come with... */
    unsigned offloads_asked; /* ...and what was asked for; NOT_ASKED: it may have others */
    bool receiving;
    bool blocked; /* the descriptor takes nothing for now */
    bool asked;   /* the device wants to be told when the link is ready */
    struct {
        struct virtio_net_hdr_v1 header;
        uint32_t length; /* of a frame that the device did not take yet; 0: none */
        uint8_t frame[NET_FRAME_MAX];
        bool cutting; /* what is given is a piece of `frame`, in `piece` */
        struct net_segments segments;
        uint8_t piece[NET_FRAME_MAX];
    } input;
    unsigned mtu;
    uint8_t output[NET_FRAME_MAX];
    struct {
        bool on;
        uint8_t *bytes;
        size_t capacity, head, released, tail;
    } held;
};

static void watch_update(struct net_link *link)
{
    if (link->watch)
        loop_watch_change(link->watch, (link->receiving && !link->input.length ? POLLIN : 0) |
                                           (link->blocked ? POLLOUT : 0));
}

static void tell_ready(struct net_link *link)
{
    if (!link->asked)
        return;
    link->asked = false;
    link->ops->ready(link->opaque);
}

static void input_forget(struct net_link *link)
{
    link->input.length = 0;
    link->input.cutting = false;
}

/* The other end is gone: nothing comes, and what is sent is dropped. */
static void lose(struct net_link *link)
{
    loop_unwatch(g_steal_pointer(&link->watch));
    __atomic_store_n(&link->up, false, __ATOMIC_RELAXED);
    link->blocked = false;
    input_forget(link);
    link->held.head = link->held.released = link->held.tail = 0;
    g_message("%s: the other end of the cable has gone", link->name);
    link->ops->lost(link->opaque);
    tell_ready(link);
}

/* ---- output ---- */

static uint32_t gather(uint8_t *to, const struct iovec *vectors, unsigned count)
{
    uint32_t length = 0;

    for (unsigned i = 0; i < count; i++) {
        size_t piece = MIN(vectors[i].iov_len, NET_FRAME_MAX - length);

        memcpy(to + length, vectors[i].iov_base, piece);
        length += piece;
    }
    return length;
}

static ssize_t packet_write(struct net_link *link, const struct virtio_net_hdr_v1 *header,
                            const struct iovec *vectors, unsigned count)
{
    struct iovec gathered = {.iov_base = link->output};
    struct msghdr message = {.msg_iov = (struct iovec *)vectors, .msg_iovlen = count};

    if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        gathered.iov_len = gather(link->output, vectors, count);
        message.msg_iov = &gathered;
        message.msg_iovlen = 1;
        if (!net_checksum_complete(header, link->output, gathered.iov_len)) {
            errno = EINVAL;
            return -1;
        }
    }
    return sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t tap_write(struct net_link *link, const struct virtio_net_hdr_v1 *header,
                         const struct iovec *vectors, unsigned count)
{
    struct iovec all[NET_VECTORS_MAX + 1];

    all[0] = (struct iovec){(void *)header, sizeof(*header)};
    memcpy(all + 1, vectors, count * sizeof(*vectors));
    return writev(link->fd, all, (int)count + 1);
}

/* false when the descriptor takes nothing for now. */
static bool frame_write(struct net_link *link, const struct virtio_net_hdr_v1 *header,
                        const struct iovec *vectors, unsigned count)
{
    ssize_t written;

    do
        written = link->kind == NET_LINK_TAP ? tap_write(link, header, vectors, count)
                                             : packet_write(link, header, vectors, count);
    while (written < 0 && errno == EINTR);
    if (written >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS) {
        link->blocked = true;
        watch_update(link);
        return false;
    }
    /* An interface that is down (EIO), or a frame that the kernel does not like: it is dropped. An
     * end that has gone shows itself to the watch as well. */
    return true;
}

static size_t held_room(const struct net_link *link)
{
    return link->held.capacity - link->held.tail;
}

static bool frame_keep(struct net_link *link, const struct virtio_net_hdr_v1 *header,
                       const struct iovec *vectors, unsigned count, uint32_t length)
{
    struct kept_frame kept = {*header, length};

    if (held_room(link) < sizeof(kept) + length)
        return false;
    memcpy(link->held.bytes + link->held.tail, &kept, sizeof(kept));
    link->held.tail += sizeof(kept);
    for (unsigned i = 0; i < count; i++) {
        memcpy(link->held.bytes + link->held.tail, vectors[i].iov_base, vectors[i].iov_len);
        link->held.tail += vectors[i].iov_len;
    }
    if (!link->held.on)
        link->held.released = link->held.tail;
    return true;
}

/* Send what was kept and may go, as far as the descriptor takes it. */
static void held_flush(struct net_link *link)
{
    while (link->held.head < link->held.released && !link->blocked) {
        struct kept_frame kept;

        memcpy(&kept, link->held.bytes + link->held.head, sizeof(kept));
        struct iovec vector = {link->held.bytes + link->held.head + sizeof(kept), kept.length};
        if (frame_write(link, &kept.header, &vector, 1))
            link->held.head += sizeof(kept) + kept.length;
    }
    if (link->held.head == link->held.tail)
        link->held.head = link->held.released = link->held.tail = 0;
}

static bool is_keeping(const struct net_link *link)
{
    return link->held.on || link->held.head != link->held.tail;
}

bool net_link_send(struct net_link *link, const struct virtio_net_hdr_v1 *header,
                   const struct iovec *vectors, unsigned count, uint32_t length)
{
    bool taken = true;

    if (!net_link_is_up(link))
        return true;
    if (is_keeping(link))
        taken = frame_keep(link, header, vectors, count, length);
    else
        taken = !link->blocked && frame_write(link, header, vectors, count);
    link->asked |= !taken;
    return taken;
}

bool net_link_is_ready(struct net_link *link)
{
    bool ready = !net_link_is_up(link) ||
                 (is_keeping(link) ? held_room(link) >= sizeof(struct kept_frame) + NET_FRAME_MAX
                                   : !link->blocked);

    link->asked |= !ready;
    return ready;
}

void net_link_hold(struct net_link *link)
{
    link->held.on = true;
    if (!link->held.bytes) {
        link->held.bytes = g_try_malloc(NET_HOLD_MAX);
        /* Without memory nothing is taken until it is released. */
        link->held.capacity = link->held.bytes ? NET_HOLD_MAX : 0;
    }
}

bool net_link_is_held(const struct net_link *link)
{
    return link->held.on;
}

static void output_go_on(struct net_link *link)
{
    held_flush(link);
    if (!link->blocked && (!is_keeping(link) || link->held.tail == 0))
        tell_ready(link);
}

void net_link_release(struct net_link *link)
{
    if (!link->held.on)
        return;
    link->held.on = false;
    link->held.released = link->held.tail;
    output_go_on(link);
}

/* ---- input ---- */

/* Bytes of the frame that came into `input`; 0 for one to forget, -1 when there is none. */
static ssize_t frame_read(struct net_link *link)
{
    struct iovec vectors[2] = {{&link->input.header, sizeof(link->input.header)},
                               {link->input.frame, sizeof(link->input.frame)}};
    struct msghdr message = {.msg_iov = &vectors[1], .msg_iovlen = 1};
    ssize_t count;

    if (link->kind == NET_LINK_TAP) {
        count = readv(link->fd, vectors, 2);
        return count < 0 ? -1 : MAX(count - (ssize_t)sizeof(link->input.header), 0);
    }
    link->input.header = (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_DATA_VALID};
    count = recvmsg(link->fd, &message, MSG_DONTWAIT);
    if (count == 0) {
        errno = ECONNRESET; /* or an empty message, which nobody sends */
        return -1;
    }
    return message.msg_flags & MSG_TRUNC ? 0 : count;
}

/* A segment that is too large for the network, as it comes from a helper: whole, or to be cut. */
static void segment_finish(struct net_link *link, uint32_t length)
{
    struct net_segments *segments = &link->input.segments;
    unsigned needs;

    if (!net_segments_begin(segments, link->input.frame, length, link->mtu))
        return;
    needs = NET_OFFLOAD_CHECKSUM | (segments->ipv6 ? NET_OFFLOAD_TCP6 : NET_OFFLOAD_TCP4);
    link->input.cutting = needs & ~link->offloads;
    if (!link->input.cutting)
        net_segments_leave(segments, &link->input.header);
}

/* Do what the guest has not offered to do itself. false for a frame that cannot be had so. */
static bool frame_finish(struct net_link *link, uint32_t length)
{
    struct virtio_net_hdr_v1 *header = &link->input.header;
    unsigned needs = 0;

    if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE)
        needs = (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV4
                    ? NET_OFFLOAD_TCP4
                    : NET_OFFLOAD_TCP6;
    if (needs & ~link->offloads)
        return false;
    if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || (link->offloads & NET_OFFLOAD_CHECKSUM))
        return true;
    header->flags = 0;
    return net_checksum_complete(header, link->input.frame, length);
}

/* The device gets what is to be had now. false: it does not take it yet. */
static bool give(struct net_link *link, uint32_t length)
{
    const uint8_t *frame = link->input.cutting ? link->input.piece : link->input.frame;

    if (link->ops->receive(link->opaque, &link->input.header, frame, length)) {
        link->input.length = 0;
        return true;
    }
    link->input.length = length;
    watch_update(link);
    return false;
}

/* The pieces that are left. */
static bool give_pieces(struct net_link *link)
{
    while (link->input.cutting) {
        uint32_t length = net_segments_next(&link->input.segments, link->input.piece);

        link->input.cutting = length;
        if (length && !give(link, length))
            return false;
    }
    return true;
}

/* false when there is no frame, or the device does not take it. */
static bool frame_receive(struct net_link *link)
{
    ssize_t length = frame_read(link);

    if (length < 0) {
        if (errno != EAGAIN && errno != EINTR)
            lose(link);
        return false;
    }
    if (length < NET_HEADER_MIN || !frame_finish(link, (uint32_t)length))
        return true;
    if (link->kind == NET_LINK_PACKETS)
        segment_finish(link, (uint32_t)length);
    return link->input.cutting ? give_pieces(link) : give(link, (uint32_t)length);
}

static void frames_receive(struct net_link *link)
{
    for (unsigned i = 0; i < BURST_MAX && link->watch && frame_receive(link); i++)
        continue;
    link->ops->received(link->opaque);
}

void net_link_receive(struct net_link *link)
{
    if (!link->watch)
        return;
    if (!link->receiving) {
        link->receiving = true;
        watch_update(link);
    }
    if (!link->input.length)
        return;
    if (give(link, link->input.length) && give_pieces(link))
        watch_update(link);
    link->ops->received(link->opaque);
}

void net_link_stop_receiving(struct net_link *link)
{
    link->receiving = false;
    watch_update(link);
}

static void on_events(void *opaque, short events)
{
    struct net_link *link = opaque;

    if (events & POLLOUT && link->blocked) {
        link->blocked = false;
        output_go_on(link);
        watch_update(link);
    }
    if (events & ~POLLOUT && link->watch) {
        /* What is not read shows its end only. */
        if (link->input.length || !link->receiving)
            lose(link);
        else
            frames_receive(link);
    }
}

/* ---- offloads ---- */

static void offloads_apply(struct net_link *link, unsigned offloads)
{
    unsigned flags = (offloads & NET_OFFLOAD_CHECKSUM ? TUN_F_CSUM : 0) |
                     (offloads & NET_OFFLOAD_TCP4 ? TUN_F_TSO4 : 0) |
                     (offloads & NET_OFFLOAD_TCP6 ? TUN_F_TSO6 : 0);

    if (link->kind == NET_LINK_TAP && ioctl(link->fd, TUNSETOFFLOAD, flags) != 0) {
        g_message("%s: the interface does not take offloads: %s", link->name, g_strerror(errno));
        offloads = 0;
    }
    link->offloads = offloads;
}

void net_link_set_offloads(struct net_link *link, unsigned offloads)
{
    if (link->offloads_asked == offloads)
        return;
    link->offloads_asked = offloads;
    offloads_apply(link, offloads);
    /* The frame that waits came under the former ones. */
    if (link->input.length && !link->input.cutting && !frame_finish(link, link->input.length)) {
        link->input.length = 0;
        watch_update(link);
    }
}

/* ---- life ---- */

struct net_link *net_link_create(const struct net_link_config *config, GError **error)
{
    GError *cause = NULL;

    if (!g_unix_set_fd_nonblocking(config->fd, TRUE, &cause)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "%s: %s", config->name, cause->message);
        g_error_free(cause);
        close(config->fd);
        return NULL;
    }
    struct net_link *link = g_new0(struct net_link, 1);
    link->kind = config->kind;
    link->fd = config->fd;
    link->name = g_strdup(config->name);
    link->mtu = config->mtu ? config->mtu : USUAL_MTU;
    link->up = true;
    link->offloads_asked = NOT_ASKED;
    return link;
}

void net_link_destroy(struct net_link *link)
{
    if (!link)
        return;
    close(link->fd);
    g_free(link->held.bytes);
    g_free(link->name);
    g_free(link);
}

void net_link_open(struct net_link *link, struct loop *loop, const struct net_link_ops *ops,
                   void *opaque)
{
    link->ops = ops;
    link->opaque = opaque;
    link->watch = loop_watch(loop, link->fd, 0, on_events, link);
}

void net_link_close(struct net_link *link)
{
    loop_unwatch(g_steal_pointer(&link->watch));
    input_forget(link);
    link->receiving = link->blocked = link->asked = link->held.on = false;
    link->held.head = link->held.released = link->held.tail = 0;
}

bool net_link_is_up(const struct net_link *link)
{
    return __atomic_load_n(&link->up, __ATOMIC_RELAXED);
}
