// SPDX-License-Identifier: Apache-2.0
/*
 * Ports, the way of a frame between them, and the turns of the process.
 */
#include "vmm/net/network/lan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/net/link.h"
#include "vmm/net/network/guard.h"
#include "vmm/net/network/ports.h"
#include "vmm/net/network/services.h"

#define BURST_MAX 64   /* frames of one port in one turn */
#define GROUP_BIT 1    /* of an address's first byte: it is no single station's */
#define NOBODY    (-1) /* no port */

struct port {
    int fd; /* -1: there is none */
    bool gone;
    uint8_t mac[6];
    uint64_t frames_in, frames_out; /* from its card, and to it */
    uint64_t refused;               /* of its card's, that may not pass */
    uint64_t lost;                  /* that its card did not take */
};

static struct lan {
    const struct network *network;
    struct port ports[PORTS_MAX];
    unsigned port_count; /* from the first to behind the last that is there */
    struct port_table table;
    GArray *polled; /* of struct pollfd: GLib's, the ports', then libslirp's */
    int64_t now_ms;
    uint8_t frame[NET_FRAME_MAX];
} lan;

/* ---- frames ---- */

static void send_to(struct port *port, const uint8_t *frame, size_t length)
{
    if (port->fd < 0 || port->gone)
        return;
    if (send(port->fd, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        port->frames_out++;
    else
        port->lost++;
}

/* To all but one. */
static void flood(int but, const uint8_t *frame, size_t length)
{
    for (unsigned i = 0; i < lan.port_count; i++)
        if ((int)i != but)
            send_to(&lan.ports[i], frame, length);
}

/* From a service. */
static void send_frame(const uint8_t *frame, size_t length)
{
    int target;

    if (length < NET_HEADER_MIN)
        return;
    if (frame[0] & GROUP_BIT) {
        flood(NOBODY, frame, length);
        return;
    }
    target = ports_find(&lan.table, frame, lan.now_ms);
    if (target >= 0)
        send_to(&lan.ports[target], frame, length);
    else if (!lan.network->mac_filter)
        flood(NOBODY, frame, length);
}

/* Whether the port may send this. */
static bool may_pass(unsigned number, const uint8_t *frame, size_t length)
{
    const struct port *port = &lan.ports[number];
    const uint8_t *source = frame + NET_MAC_LENGTH;

    if (length < NET_HEADER_MIN || source[0] & GROUP_BIT || services_have(source))
        return false;
    if (lan.network->mac_filter ? memcmp(source, port->mac, NET_MAC_LENGTH) != 0
                                : !ports_learn(&lan.table, source, number, lan.now_ms))
        return false;
    return !services_leases() || guard_passes(services_leases(), source, frame, length);
}

static void pass(unsigned number, const uint8_t *frame, size_t length)
{
    const uint8_t *only = lan.network->mac_filter ? lan.ports[number].mac : NULL;
    int target;

    if (frame[0] & GROUP_BIT) {
        flood((int)number, frame, length);
        services_input(only, frame, length);
        return;
    }
    target = ports_find(&lan.table, frame, lan.now_ms);
    if (target >= 0 && target != (int)number)
        send_to(&lan.ports[target], frame, length);
    else if (target < 0 && services_have(frame))
        services_input(only, frame, length);
    else if (target < 0 && !lan.network->mac_filter)
        flood((int)number, frame, length);
}

static void port_serve(unsigned number)
{
    struct port *port = &lan.ports[number];

    for (unsigned i = 0; i < BURST_MAX; i++) {
        ssize_t length = recv(port->fd, lan.frame, sizeof(lan.frame), MSG_DONTWAIT | MSG_TRUNC);

        if (length <= 0)
            return;
        port->frames_in++;
        if ((size_t)length <= sizeof(lan.frame) && may_pass(number, lan.frame, (size_t)length))
            pass(number, lan.frame, (size_t)length);
        else
            port->refused++;
    }
}

/* ---- a turn ---- */

static void add_ports(void)
{
    for (unsigned i = 0; i < lan.port_count; i++) {
        const struct pollfd polled = {lan.ports[i].gone ? -1 : lan.ports[i].fd, POLLIN, 0};

        g_array_append_val(lan.polled, polled);
    }
}

static void serve_ports(const struct pollfd *polled)
{
    lan.now_ms = g_get_monotonic_time() / 1000;
    for (unsigned i = 0; i < lan.port_count; i++) {
        if (polled[i].revents & POLLIN)
            port_serve(i);
        else if (polled[i].revents & (POLLHUP | POLLERR))
            lan.ports[i].gone = true;
    }
}

/* GLib's poll function. */
static gint turn(GPollFD *own, guint count, gint timeout_ms)
{
    struct pollfd *polled;
    int ready, found = 0;

    _Static_assert(sizeof(*own) == sizeof(*polled), "GLib has the kernel's own form");
    g_array_set_size(lan.polled, 0);
    g_array_append_vals(lan.polled, own, count);
    add_ports();
    if (services_nat())
        timeout_ms = nat_poll(services_nat(), lan.polled, timeout_ms, false);
    polled = (struct pollfd *)lan.polled->data;
    ready = poll(polled, lan.polled->len, timeout_ms);
    if (ready < 0 && errno != EINTR)
        return -1;
    if (ready > 0)
        serve_ports(polled + count);
    if (services_nat())
        nat_polled(services_nat(), lan.polled, ready < 0);
    for (guint i = 0; i < count; i++) {
        own[i].revents = ready > 0 ? (gushort)polled[i].revents : 0;
        found += own[i].revents != 0;
    }
    return found;
}

/* ---- ports ---- */

static int refuse(const char *what, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE, "%s", what);
    return NOBODY;
}

static int find_free(void)
{
    for (unsigned i = 0; i < PORTS_MAX; i++)
        if (lan.ports[i].fd < 0)
            return (int)i;
    return NOBODY;
}

int lan_attach(int fd, const uint8_t mac[6], const char *name, GError **error)
{
    struct leases *leases = services_leases();
    int number = find_free(), lease = NOBODY;

    if (number < 0)
        return refuse("all ports of the network are in use", error);
    if (mac[0] & GROUP_BIT || services_have(mac))
        return refuse("no card can have this address", error);
    if (!ports_add(&lan.table, mac, (unsigned)number))
        return refuse("another card on the network has the same address; give this one another by "
                      "'mac='",
                      error);
    if (leases && (lease = leases_take(leases, mac, name)) < 0) {
        ports_remove(&lan.table, (unsigned)number);
        return refuse("all addresses of the network are in use", error);
    }
    if (leases)
        leases->list[lease].in_use = true;
    lan.ports[number] = (struct port){.fd = fd};
    memcpy(lan.ports[number].mac, mac, NET_MAC_LENGTH);
    lan.port_count = MAX(lan.port_count, (unsigned)number + 1);
    return number;
}

void lan_detach(unsigned number)
{
    struct leases *leases = services_leases();
    int lease;

    if (number >= PORTS_MAX || lan.ports[number].fd < 0)
        return;
    lease = leases ? leases_of(leases, lan.ports[number].mac) : NOBODY;
    if (lease >= 0)
        leases->list[lease].in_use = false;
    ports_remove(&lan.table, number);
    close(lan.ports[number].fd);
    lan.ports[number].fd = -1;
    while (lan.port_count && lan.ports[lan.port_count - 1].fd < 0)
        lan.port_count--;
}

char *lan_address(unsigned number)
{
    const struct leases *leases = services_leases();
    int lease = leases ? leases_of(leases, lan.ports[number].mac) : NOBODY;
    char text[INET_ADDRSTRLEN];

    if (lease < 0)
        return NULL;
    const struct in_addr address = {htonl(lease_address(leases, (unsigned)lease))};
    return g_strdup(inet_ntop(AF_INET, &address, text, sizeof(text)));
}

json_t *lan_describe(void)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < lan.port_count; i++) {
        const struct port *port = &lan.ports[i];

        if (port->fd >= 0)
            json_array_append_new(list, json_pack("{s:i, s:I, s:I, s:I, s:I}", "port", (int)i,
                                                  "frames_in", (json_int_t)port->frames_in,
                                                  "frames_out", (json_int_t)port->frames_out,
                                                  "refused", (json_int_t)port->refused, "lost",
                                                  (json_int_t)port->lost));
    }
    return list;
}

/* ---- life ---- */

void lan_start(const struct network *network, const json_t *leases, void (*changed)(void))
{
    lan.network = network;
    lan.polled = g_array_new(FALSE, TRUE, sizeof(struct pollfd));
    ports_init(&lan.table);
    for (unsigned i = 0; i < PORTS_MAX; i++)
        lan.ports[i].fd = -1;
    if (network->subnet.bits) {
        const struct services_config config = {network, leases, send_frame, changed};

        services_start(&config);
    }
}

void lan_run(void)
{
    g_main_context_set_poll_func(NULL, turn);
}
