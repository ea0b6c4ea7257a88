// SPDX-License-Identifier: Apache-2.0
/*
 * One card's frames, between its socket and libslirp, and the turns of the process.
 *
 * libslirp has its own list of what to wait for, anew in each turn. It is joined with GLib's in the
 * main context's poll function, where the frames are served as well: a source of GLib's for each
 * connection would be made and destroyed with it.
 */
#include "vmm/net/nat/card.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/net/link.h"

#define BURST_MAX   256        /* frames of the guest's in one turn */
#define BACKLOG_MAX (4U << 20) /* bytes of frames that wait for the other end */

struct card {
    struct nat *nat;
    int frames;     /* -1: the other end has gone */
    GArray *polled; /* of struct pollfd: GLib's, our own, then libslirp's */
    void (*gone)(void *opaque);
    void *opaque;
    struct {
        size_t head, tail;
        uint8_t bytes[BACKLOG_MAX]; /* each frame behind its length */
    } backlog;
    uint8_t frame[NET_FRAME_MAX];
};

/* A poll function gets nothing of its owner's. */
static struct card card;

/* ---- frames to the guest ---- */

static bool frame_write(const void *frame, size_t length)
{
    ssize_t written;

    do
        written = send(card.frames, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (written < 0 && errno == EINTR);
    return written >= 0 || (errno != EAGAIN && errno != ENOBUFS);
}

static bool has_backlog(void)
{
    return card.backlog.head != card.backlog.tail;
}

static void backlog_add(const void *frame, size_t length)
{
    if (BACKLOG_MAX - card.backlog.tail < sizeof(length) + length)
        return;
    memcpy(card.backlog.bytes + card.backlog.tail, &length, sizeof(length));
    memcpy(card.backlog.bytes + card.backlog.tail + sizeof(length), frame, length);
    card.backlog.tail += sizeof(length) + length;
}

static void backlog_flush(void)
{
    while (has_backlog()) {
        size_t length;

        memcpy(&length, card.backlog.bytes + card.backlog.head, sizeof(length));
        if (!frame_write(card.backlog.bytes + card.backlog.head + sizeof(length), length))
            return;
        card.backlog.head += sizeof(length) + length;
    }
    card.backlog.head = card.backlog.tail = 0;
}

static void on_frame(void *opaque, const void *frame, size_t length)
{
    if (has_backlog() || !frame_write(frame, length))
        backlog_add(frame, length);
}

/* ---- a turn ---- */

static void frames_read(void)
{
    for (unsigned i = 0; i < BURST_MAX; i++) {
        ssize_t length = recv(card.frames, card.frame, sizeof(card.frame), MSG_DONTWAIT);

        if (length <= 0)
            return;
        nat_input(card.nat, card.frame, (size_t)length);
    }
}

static void serve_frames(short revents)
{
    backlog_flush();
    /* Before libslirp's turn ends, which sends what waited for the guest's hardware address. */
    if (revents & POLLIN)
        frames_read();
    if (!(revents & (POLLHUP | POLLERR)))
        return;
    card.frames = -1;
    card.gone(card.opaque);
}

/* GLib's poll function. */
static gint turn(GPollFD *own, guint count, gint timeout_ms)
{
    const struct pollfd frames = {card.frames, POLLIN | (has_backlog() ? POLLOUT : 0), 0};
    struct pollfd *polled;
    int ready, found = 0;

    _Static_assert(sizeof(*own) == sizeof(frames), "GLib has the kernel's own form");
    g_array_set_size(card.polled, 0);
    g_array_append_vals(card.polled, own, count);
    g_array_append_val(card.polled, frames);
    timeout_ms = nat_poll(card.nat, card.polled, timeout_ms, has_backlog());
    polled = (struct pollfd *)card.polled->data;
    ready = poll(polled, card.polled->len, timeout_ms);
    if (ready < 0 && errno != EINTR)
        return -1;
    if (ready > 0 && polled[count].revents)
        serve_frames(polled[count].revents);
    nat_polled(card.nat, card.polled, ready < 0);
    for (guint i = 0; i < count; i++) {
        own[i].revents = ready > 0 ? (gushort)polled[i].revents : 0;
        found += own[i].revents != 0;
    }
    return found;
}

/* ---- life ---- */

static struct in_addr ipv4(const char *text)
{
    struct in_addr address;

    inet_pton(AF_INET, text, &address);
    return address;
}

struct nat *card_create(int frames, const char *hostname, unsigned mtu)
{
    static const struct nat_ops ops = {on_frame};
    const struct nat_config config = {
        .ops = &ops,
        .subnet = ipv4("10.0.2.0"),
        .mask = ipv4("255.255.255.0"),
        .host = ipv4("10.0.2.2"),
        .resolver = ipv4("10.0.2.3"),
        .guest = ipv4("10.0.2.15"),
        .ipv6 = true,
        .hostname = hostname,
        .mtu = mtu,
    };

    card.frames = frames;
    card.polled = g_array_new(FALSE, TRUE, sizeof(struct pollfd));
    card.nat = nat_create(&config);
    return card.nat;
}

void card_run(void (*gone)(void *opaque), void *opaque)
{
    card.gone = gone;
    card.opaque = opaque;
    g_main_context_set_poll_func(NULL, turn);
}
