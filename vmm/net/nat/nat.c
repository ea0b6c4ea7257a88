// SPDX-License-Identifier: Apache-2.0
/*
 * libslirp's callbacks and its turn: descriptors gathered, waited for, served. Gathering takes time
 * by the number of connections, but a turn serves all that are ready and a burst of frames.
 */
#include "vmm/net/nat/nat.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/net/link.h"
#include "vmm/net/nat/fragment.h"

#define BURST_MAX       256        /* frames of the guest's in one turn */
#define BACKLOG_MAX     (4U << 20) /* bytes of frames that wait for the other end */
#define LISTEN_BACKLOG  4096       /* connections that wait to be accepted; libslirp asks for 1 */
#define DHCP_FIRST      "10.0.2.15"
#define DESCRIPTORS_LOW 64 /* with fewer left, no connection is accepted */

enum { FRAMES, CONTROL, OWN_DESCRIPTORS };

/* A socket of a forward's. */
struct listener {
    int fd;
    bool udp;
    struct sockaddr_in host;
};

struct nat_timer {
    SlirpTimerCb fire;
    void *opaque;
    int64_t due_ms; /* -1: not armed */
};

struct nat {
    Slirp *slirp;
    int frames;
    GArray *polled;    /* of struct pollfd: our own, then libslirp's */
    GPtrArray *timers; /* of struct nat_timer * */
    rlim_t descriptors_max;
    bool full;           /* few descriptors are left */
    GArray *listeners;   /* of struct listener */
    uint64_t complaints; /* about the guest */
    struct fragment_guard fragments;
    struct {
        size_t head, tail;
        uint8_t bytes[BACKLOG_MAX]; /* each frame behind its length */
    } backlog;
    uint8_t frame[NET_FRAME_MAX];
};

/* ---- frames to the guest ---- */

static bool frame_write(const struct nat *nat, const void *frame, size_t length)
{
    ssize_t written;

    do
        written = send(nat->frames, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (written < 0 && errno == EINTR);
    return written >= 0 || (errno != EAGAIN && errno != ENOBUFS);
}

static bool has_backlog(const struct nat *nat)
{
    return nat->backlog.head != nat->backlog.tail;
}

static void backlog_add(struct nat *nat, const void *frame, size_t length)
{
    if (BACKLOG_MAX - nat->backlog.tail < sizeof(length) + length)
        return;
    memcpy(nat->backlog.bytes + nat->backlog.tail, &length, sizeof(length));
    memcpy(nat->backlog.bytes + nat->backlog.tail + sizeof(length), frame, length);
    nat->backlog.tail += sizeof(length) + length;
}

static void backlog_flush(struct nat *nat)
{
    while (has_backlog(nat)) {
        size_t length;

        memcpy(&length, nat->backlog.bytes + nat->backlog.head, sizeof(length));
        if (!frame_write(nat, nat->backlog.bytes + nat->backlog.head + sizeof(length), length))
            return;
        nat->backlog.head += sizeof(length) + length;
    }
    nat->backlog.head = nat->backlog.tail = 0;
}

static ssize_t send_packet(const void *frame, size_t length, void *opaque)
{
    struct nat *nat = opaque;

    if (length <= NET_FRAME_MAX && (has_backlog(nat) || !frame_write(nat, frame, length)))
        backlog_add(nat, frame, length);
    return (ssize_t)length;
}

/* ---- what libslirp asks for ---- */

/* At counts of 1, 2, 4, 8 ...: a guest in a loop fills no log. */
static void guest_error(const char *message, void *opaque)
{
    struct nat *nat = opaque;

    nat->complaints++;
    if (!(nat->complaints & (nat->complaints - 1)))
        g_message("guest error %" G_GUINT64_FORMAT ": %s", nat->complaints, message);
}

static int64_t clock_get_ns(void *opaque)
{
    return g_get_monotonic_time() * 1000;
}

static void *timer_new(SlirpTimerCb fire, void *timer_opaque, void *opaque)
{
    struct nat *nat = opaque;
    struct nat_timer *timer = g_new0(struct nat_timer, 1);

    *timer = (struct nat_timer){fire, timer_opaque, -1};
    g_ptr_array_add(nat->timers, timer);
    return timer;
}

static void timer_free(void *timer, void *opaque)
{
    struct nat *nat = opaque;

    g_ptr_array_remove(nat->timers, timer);
    g_free(timer);
}

static void timer_mod(void *timer, int64_t due_ms, void *opaque)
{
    ((struct nat_timer *)timer)->due_ms = due_ms;
}

static void poll_fd(int fd, void *opaque)
{
}

static void notify(void *opaque)
{
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = poll_fd,
    .unregister_poll_fd = poll_fd,
    .notify = notify,
};

/* ---- life ---- */

static struct in_addr ipv4(const char *text)
{
    struct in_addr address;

    inet_pton(AF_INET, text, &address);
    return address;
}

static struct in6_addr ipv6(const char *text)
{
    struct in6_addr address;

    inet_pton(AF_INET6, text, &address);
    return address;
}

struct nat *nat_create(const struct nat_config *config)
{
    struct nat *nat = g_new0(struct nat, 1);
    const SlirpConfig slirp = {
        .version = 1,
        .in_enabled = true,
        .vnetwork = ipv4("10.0.2.0"),
        .vnetmask = ipv4("255.255.255.0"),
        .vhost = ipv4("10.0.2.2"),
        .vnameserver = ipv4("10.0.2.3"),
        .vdhcp_start = ipv4(DHCP_FIRST),
        .in6_enabled = true,
        .vprefix_addr6 = ipv6("fec0::"),
        .vprefix_len = 64,
        .vhost6 = ipv6("fec0::2"),
        .vnameserver6 = ipv6("fec0::3"),
        .vhostname = config->hostname,
        .if_mtu = config->mtu,
        .if_mru = config->mtu,
    };

    nat->frames = config->frames;
    nat->polled = g_array_new(FALSE, TRUE, sizeof(struct pollfd));
    nat->timers = g_ptr_array_new();
    nat->listeners = g_array_new(FALSE, TRUE, sizeof(struct listener));
    nat->slirp = slirp_new(&slirp, &callbacks, nat);
    return nat;
}

/* The descriptor that is opened next. */
static int next_descriptor(const struct nat *nat)
{
    int lowest = fcntl(nat->frames, F_DUPFD_CLOEXEC, 0);

    if (lowest >= 0)
        close(lowest);
    return lowest;
}

static bool same_end(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_addr.s_addr == b->sin_addr.s_addr && a->sin_port == b->sin_port;
}

/* Where in the list it is; its length: nowhere. */
static unsigned forward_find(const struct nat *nat, const struct forward *forward)
{
    unsigned i;

    for (i = 0; i < nat->listeners->len; i++) {
        const struct listener *listener = &g_array_index(nat->listeners, struct listener, i);

        if (listener->udp == forward->udp && same_end(&listener->host, &forward->host))
            break;
    }
    return i;
}

/* libslirp does not tell the descriptor that it listens on, and listens for one connection at a
 * time. */
static int forward_note(struct nat *nat, int fd, struct forward *forward)
{
    struct listener listener = {.fd = fd, .udp = forward->udp};
    socklen_t length = sizeof(listener.host);

    if (getsockname(fd, (struct sockaddr *)&listener.host, &length) != 0 ||
        listener.host.sin_family != AF_INET)
        return EBADF;
    if (!forward->udp)
        listen(fd, LISTEN_BACKLOG);
    forward->host = listener.host;
    if (!forward->guest.sin_addr.s_addr)
        forward->guest.sin_addr = ipv4(DHCP_FIRST);
    g_array_append_val(nat->listeners, listener);
    return 0;
}

int nat_forward(struct nat *nat, struct forward *forward)
{
    int fd = next_descriptor(nat);

    if (slirp_add_hostxfwd(nat->slirp, (const struct sockaddr *)&forward->host,
                           sizeof(forward->host), (const struct sockaddr *)&forward->guest,
                           sizeof(forward->guest), forward->udp ? SLIRP_HOSTFWD_UDP : 0) != 0)
        return errno;
    return forward_note(nat, fd, forward);
}

bool nat_unforward(struct nat *nat, const struct forward *forward)
{
    unsigned place = forward_find(nat, forward);

    if (place == nat->listeners->len)
        return false;
    g_array_remove_index_fast(nat->listeners, place);
    slirp_remove_hostxfwd(nat->slirp, (const struct sockaddr *)&forward->host,
                          sizeof(forward->host), forward->udp ? SLIRP_HOSTFWD_UDP : 0);
    return true;
}

/* ---- a turn ---- */

static bool is_listener(const struct nat *nat, int fd)
{
    for (unsigned i = 0; i < nat->listeners->len; i++)
        if (g_array_index(nat->listeners, struct listener, i).fd == fd)
            return true;
    return false;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct nat *nat = opaque;
    bool full = nat->full && is_listener(nat, fd);
    struct pollfd polled = {.fd = fd};

    if (events & SLIRP_POLL_IN && !has_backlog(nat) && !full)
        polled.events |= POLLIN;
    if (events & SLIRP_POLL_OUT)
        polled.events |= POLLOUT;
    if (events & SLIRP_POLL_PRI && !has_backlog(nat))
        polled.events |= POLLPRI;
    /* One that is not to be served now must not wake us by a hang-up either. */
    if (!polled.events)
        polled.fd = -1;
    g_array_append_val(nat->polled, polled);
    return (int)nat->polled->len - 1;
}

static int get_revents(int index, void *opaque)
{
    struct nat *nat = opaque;
    short revents = g_array_index(nat->polled, struct pollfd, index).revents;

    return (revents & POLLIN ? SLIRP_POLL_IN : 0) | (revents & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (revents & POLLPRI ? SLIRP_POLL_PRI : 0) | (revents & POLLERR ? SLIRP_POLL_ERR : 0) |
           (revents & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* Milliseconds until the next timer is due, at most `timeout`. */
static uint32_t timers_wait(const struct nat *nat, uint32_t timeout)
{
    int64_t now = g_get_monotonic_time() / 1000;

    for (unsigned i = 0; i < nat->timers->len; i++) {
        const struct nat_timer *timer = nat->timers->pdata[i];

        if (timer->due_ms >= 0)
            timeout = (uint32_t)CLAMP(timer->due_ms - now, 0, (int64_t)timeout);
    }
    return timeout;
}

static void timers_fire(struct nat *nat)
{
    int64_t now = g_get_monotonic_time() / 1000;

    for (unsigned i = 0; i < nat->timers->len; i++) {
        struct nat_timer *timer = nat->timers->pdata[i];

        if (timer->due_ms < 0 || timer->due_ms > now)
            continue;
        timer->due_ms = -1;
        timer->fire(timer->opaque);
    }
}

static void frames_read(struct nat *nat)
{
    for (unsigned i = 0; i < BURST_MAX; i++) {
        ssize_t length = recv(nat->frames, nat->frame, sizeof(nat->frame), MSG_DONTWAIT);

        if (length <= 0)
            return;
        if (length >= NET_HEADER_MIN &&
            fragment_passes(&nat->fragments, nat->frame, (uint32_t)length, g_get_monotonic_time()))
            slirp_input(nat->slirp, nat->frame, (int)length);
    }
}

/* Whether few descriptors are left, as the lowest free one tells: an accept that fails would be
 * tried again at once, and for ever. */
static bool is_full(const struct nat *nat)
{
    int lowest = next_descriptor(nat);

    return lowest < 0 || (rlim_t)lowest + DESCRIPTORS_LOW > nat->descriptors_max;
}

/* false at the end; `*asked`: there is something to serve. */
static bool turn(struct nat *nat, int control, bool *asked)
{
    const struct pollfd own[OWN_DESCRIPTORS] = {
        [FRAMES] = {nat->frames, POLLIN | (has_backlog(nat) ? POLLOUT : 0), 0},
        [CONTROL] = {control, POLLIN, 0},
    };
    uint32_t timeout = UINT32_MAX;

    nat->full = nat->listeners->len && is_full(nat);
    g_array_set_size(nat->polled, 0);
    g_array_append_vals(nat->polled, own, OWN_DESCRIPTORS);
    slirp_pollfds_fill(nat->slirp, &timeout, add_poll, nat);
    timeout = timers_wait(nat, timeout);
    int count = poll((struct pollfd *)nat->polled->data, nat->polled->len,
                     timeout > INT32_MAX ? -1 : (int)timeout);
    if (count < 0 && errno != EINTR)
        return false;
    const struct pollfd *polled = (const struct pollfd *)nat->polled->data;
    *asked = count > 0 && polled[CONTROL].revents;
    bool frames = count > 0 && polled[FRAMES].revents & POLLIN;
    bool gone = count > 0 && polled[FRAMES].revents & (POLLHUP | POLLERR);
    backlog_flush(nat);
    /* Before the turn is ended, which sends what waited for the guest's hardware address. */
    if (frames)
        frames_read(nat);
    slirp_pollfds_poll(nat->slirp, count < 0, get_revents, nat);
    timers_fire(nat);
    return !gone;
}

void nat_run(struct nat *nat, int control, bool (*serve)(void *opaque), void *opaque)
{
    struct rlimit limit = {.rlim_cur = DESCRIPTORS_LOW * 2};
    bool asked = false;

    getrlimit(RLIMIT_NOFILE, &limit);
    nat->descriptors_max = limit.rlim_cur;
    while (turn(nat, control, &asked))
        if (asked && !serve(opaque))
            return;
}
