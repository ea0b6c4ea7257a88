// SPDX-License-Identifier: Apache-2.0
/*
 * Lines and descriptors over a Unix stream socket, on the GLib main loop.
 */
#include "vmm/control/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/control/rpc.h"

/* One message on its way out. */
struct outgoing {
    char *text;
    size_t length, sent;
    int fds[PEER_FDS_MAX];
    unsigned count;
};

struct peer {
    int fd;
    const struct peer_ops *ops;
    void *opaque;
    guint in_source, out_source;
    bool busy;      /* on_readable is below us on the stack and will free what was destroyed */
    bool destroyed; /* by its owner */
    bool cut;       /* nothing more comes or goes */

    GByteArray *in;
    int fds[PEER_FDS_MAX]; /* that came with the unfinished line in `in` */
    unsigned count;

    GQueue out; /* of struct outgoing * */
    size_t queued;
};

static void close_fds(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void outgoing_free(struct outgoing *outgoing)
{
    close_fds(outgoing->fds, outgoing->count);
    free(outgoing->text);
    g_free(outgoing);
}

static void remove_source(guint *source)
{
    if (*source)
        g_source_remove(*source);
    *source = 0;
}

static void peer_free(struct peer *peer)
{
    struct outgoing *outgoing;

    while ((outgoing = g_queue_pop_head(&peer->out)))
        outgoing_free(outgoing);
    close_fds(peer->fds, peer->count);
    g_byte_array_unref(peer->in);
    g_free(peer);
}

/* Stop all traffic and tell the owner, who may destroy the peer in the call. */
static void cut_off(struct peer *peer)
{
    if (peer->cut)
        return;
    peer->cut = true;
    remove_source(&peer->in_source);
    remove_source(&peer->out_source);
    peer->ops->closed(peer->opaque, peer);
}

/* Keep the descriptors of one received message; false when they are too many. */
static bool take_fds(struct peer *peer, struct msghdr *message)
{
    struct cmsghdr *part;
    bool good = !(message->msg_flags & MSG_CTRUNC);

    for (part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        unsigned count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (unsigned i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (peer->count < PEER_FDS_MAX) {
                peer->fds[peer->count++] = fd;
            } else {
                close(fd);
                good = false;
            }
        }
    }
    return good;
}

/* Read once. Positive: bytes were read; 0: none are there now; negative: no more will come. */
static int receive(struct peer *peer)
{
    char buffer[16384];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(PEER_FDS_MAX * sizeof(int))];
    struct iovec piece = {.iov_base = buffer, .iov_len = sizeof(buffer)};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    ssize_t count = recvmsg(peer->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (!take_fds(peer, &message) || count == 0)
        return -1;
    g_byte_array_append(peer->in, (guint8 *)buffer, count);
    return count;
}

/* Move the first `count` of the descriptors to `fds`. */
static void give_fds(struct peer *peer, int fds[PEER_FDS_MAX], unsigned count)
{
    memcpy(fds, peer->fds, count * sizeof(int));
    peer->count -= count;
    memmove(peer->fds, peer->fds + count, peer->count * sizeof(int));
}

/* Hand on the complete lines among the bytes; those before `seen` are known to hold no newline, and
 * came with `early` descriptors. The others are the last line's, complete or not: the kernel ends a
 * read behind the bytes that had descriptors beside them. */
static void deliver(struct peer *peer, size_t seen, unsigned early)
{
    size_t start = 0;
    uint8_t *newline;

    while (!peer->cut && !peer->destroyed &&
           (newline = memchr(peer->in->data + MAX(start, seen), '\n',
                             peer->in->len - MAX(start, seen)))) {
        char *line = (char *)peer->in->data + start;
        size_t length = (char *)newline - line;
        int fds[PEER_FDS_MAX];
        unsigned count;

        *newline = 0;
        start += length + 1;
        count = start == peer->in->len ? peer->count : early;
        early = 0;
        give_fds(peer, fds, count);
        if (length || count)
            peer->ops->line(peer->opaque, peer, line, length, fds, count);
        close_fds(fds, count);
    }
    g_byte_array_remove_range(peer->in, 0, start);
    if (!peer->destroyed && peer->in->len > RPC_LINE_MAX)
        cut_off(peer);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct peer *peer = opaque;
    size_t seen = peer->in->len;
    unsigned early = peer->count;
    int received = receive(peer);
    bool keep;

    peer->busy = true;
    if (received < 0)
        cut_off(peer);
    else if (received > 0)
        deliver(peer, seen, early);
    peer->busy = false;
    keep = !peer->cut && !peer->destroyed;
    if (peer->destroyed)
        peer_free(peer);
    return keep;
}

/* Send as much of the head of the queue as goes. Positive: progress; 0: later; negative: never. */
static int transmit(struct peer *peer)
{
    struct outgoing *head = g_queue_peek_head(&peer->out);
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(PEER_FDS_MAX * sizeof(int))] = {0};
    struct iovec piece = {.iov_base = head->text + head->sent,
                          .iov_len = head->length - head->sent};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t count;

    if (head->count) {
        struct cmsghdr *part = (struct cmsghdr *)control;

        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(head->count * sizeof(int));
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(head->count * sizeof(int));
        memcpy(CMSG_DATA(part), head->fds, head->count * sizeof(int));
    }
    count = sendmsg(peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    close_fds(head->fds, head->count);
    head->count = 0;
    head->sent += count;
    peer->queued -= count;
    if (head->sent == head->length)
        outgoing_free(g_queue_pop_head(&peer->out));
    return 1;
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct peer *peer = opaque;
    int progress = 1;

    while (progress > 0 && !g_queue_is_empty(&peer->out))
        progress = transmit(peer);
    if (g_queue_is_empty(&peer->out) && peer->ops->drained)
        peer->ops->drained(peer->opaque, peer);
    if (progress >= 0 && !g_queue_is_empty(&peer->out))
        return G_SOURCE_CONTINUE;
    peer->out_source = 0;
    /* A broken connection is noticed, and reported, by the reading side. */
    if (progress < 0)
        shutdown(peer->fd, SHUT_RDWR);
    return G_SOURCE_REMOVE;
}

struct peer *peer_create(int fd, const struct peer_ops *ops, void *opaque)
{
    struct peer *peer = g_new0(struct peer, 1);

    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    peer->fd = fd;
    peer->ops = ops;
    peer->opaque = opaque;
    peer->in = g_byte_array_new();
    g_queue_init(&peer->out);
    peer->in_source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, peer);
    return peer;
}

void peer_destroy(struct peer *peer)
{
    if (!peer || peer->destroyed)
        return;
    peer->destroyed = true;
    remove_source(&peer->in_source);
    remove_source(&peer->out_source);
    close(peer->fd);
    if (!peer->busy)
        peer_free(peer);
}

void peer_send(struct peer *peer, json_t *json, const int *fds, unsigned count)
{
    struct outgoing *outgoing = g_new0(struct outgoing, 1);
    bool whole = count <= PEER_FDS_MAX;

    outgoing->text = json_dumps(json, JSON_COMPACT);
    if (outgoing->text) {
        outgoing->length = strlen(outgoing->text) + 1;
        outgoing->text[outgoing->length - 1] = '\n'; /* in place of the final zero */
    }
    json_decref(json);
    for (unsigned i = 0; i < MIN(count, PEER_FDS_MAX); i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

        whole = whole && copy >= 0;
        outgoing->fds[outgoing->count++] = copy;
    }
    whole = whole && outgoing->text && peer->queued + outgoing->length <= PEER_QUEUE_MAX;
    if (peer->cut || peer->destroyed || !whole) {
        outgoing_free(outgoing);
        if (!peer->destroyed)
            shutdown(peer->fd, SHUT_RDWR);
        return;
    }
    peer->queued += outgoing->length;
    g_queue_push_tail(&peer->out, outgoing);
    if (!peer->out_source)
        peer->out_source = g_unix_fd_add(peer->fd, G_IO_OUT, on_writable, peer);
}

void peer_flush(struct peer *peer, int timeout_ms)
{
    struct pollfd wait = {.fd = peer->fd, .events = POLLOUT};

    while (!peer->cut && !g_queue_is_empty(&peer->out)) {
        int progress = transmit(peer);

        if (progress < 0 || (progress == 0 && poll(&wait, 1, timeout_ms) <= 0))
            return;
    }
}

size_t peer_backlog(const struct peer *peer)
{
    return peer->queued;
}
