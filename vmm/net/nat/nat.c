// SPDX-License-Identifier: Apache-2.0
/*
 * libslirp's callbacks, and its descriptors in somebody's poll(2). Gathering them takes time by the
 * number of connections, but a turn serves all that are ready and a burst of frames.
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

#define LISTEN_BACKLOG  4096 /* connections that wait to be accepted; libslirp asks for 1 */
#define DESCRIPTORS_LOW 64   /* with fewer left, no connection is accepted */

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
    const struct nat_ops *ops;
    void *opaque;
    struct in_addr guest; /* of forwards without one */
    GArray *polled;       /* of struct pollfd, the caller's; during a turn */
    GPtrArray *timers;    /* of struct nat_timer * */
    bool full;            /* few descriptors are left */
    bool congested;       /* what came now would be lost */
    GArray *listeners;    /* of struct listener */
    uint64_t complaints;  /* about guests */
    struct fragment_guard fragments;
};

/* ---- what libslirp asks for ---- */

static ssize_t send_packet(const void *frame, size_t length, void *opaque)
{
    struct nat *nat = opaque;

    if (length <= NET_FRAME_MAX)
        nat->ops->send(nat->opaque, frame, length);
    return (ssize_t)length;
}

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
        .restricted = config->closed,
        .in_enabled = true,
        .vnetwork = config->subnet,
        .vnetmask = config->mask,
        .vhost = config->host,
        .vnameserver = config->resolver,
        .vdhcp_start = config->guest,
        .in6_enabled = config->ipv6,
        .vprefix_addr6 = ipv6("fec0::"),
        .vprefix_len = 64,
        .vhost6 = ipv6("fec0::2"),
        .vnameserver6 = ipv6("fec0::3"),
        .vhostname = config->hostname,
        .if_mtu = config->mtu,
        .if_mru = config->mtu,
    };

    nat->ops = config->ops;
    nat->opaque = config->opaque;
    nat->guest = config->guest;
    nat->timers = g_ptr_array_new();
    nat->listeners = g_array_new(FALSE, TRUE, sizeof(struct listener));
    nat->slirp = slirp_new(&slirp, &callbacks, nat);
    return nat;
}

/* The descriptor that is opened next. */
static int next_descriptor(void)
{
    int lowest = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

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
        forward->guest.sin_addr = nat->guest;
    g_array_append_val(nat->listeners, listener);
    return 0;
}

int nat_forward(struct nat *nat, struct forward *forward)
{
    int fd = next_descriptor();

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

    if (events & SLIRP_POLL_IN && !nat->congested && !full)
        polled.events |= POLLIN;
    if (events & SLIRP_POLL_OUT)
        polled.events |= POLLOUT;
    if (events & SLIRP_POLL_PRI && !nat->congested)
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

void nat_input(struct nat *nat, const uint8_t *frame, size_t length)
{
    if (length >= NET_HEADER_MIN &&
        fragment_passes(&nat->fragments, frame, (uint32_t)length, g_get_monotonic_time()))
        slirp_input(nat->slirp, frame, (int)length);
}

/* Whether few descriptors are left, as the lowest free one tells: an accept that fails would be
 * tried again at once, and for ever. */
static bool is_full(void)
{
    struct rlimit limit = {.rlim_cur = DESCRIPTORS_LOW * 2};
    int lowest = next_descriptor();

    getrlimit(RLIMIT_NOFILE, &limit);
    return lowest < 0 || (rlim_t)lowest + DESCRIPTORS_LOW > limit.rlim_cur;
}

int nat_poll(struct nat *nat, GArray *polled, int timeout_ms, bool congested)
{
    uint32_t timeout = timeout_ms < 0 ? UINT32_MAX : (uint32_t)timeout_ms;

    nat->full = nat->listeners->len && is_full();
    nat->congested = congested;
    nat->polled = polled;
    slirp_pollfds_fill(nat->slirp, &timeout, add_poll, nat);
    nat->polled = NULL;
    timeout = timers_wait(nat, timeout);
    return timeout > INT32_MAX ? -1 : (int)timeout;
}

void nat_polled(struct nat *nat, GArray *polled, bool failed)
{
    nat->polled = polled;
    slirp_pollfds_poll(nat->slirp, failed, get_revents, nat);
    nat->polled = NULL;
    timers_fire(nat);
}
