// SPDX-License-Identifier: Apache-2.0
/*
 * Connecting to a network. Several machines may find nobody there at once: each starts a process,
 * of which one gets the lock, and the others connect to that. The same holds for one that comes as
 * the network ends.
 */
#include "vmm/monitor/network_port.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "config/nics.h"
#include "vmm/control/method.h"
#include "vmm/monitor/folder.h"
#include "vmm/monitor/process.h"

#define ROLE        "network"
#define RETRY_MS    20
#define PATIENCE_MS 10000

enum stage { CONNECTING, STARTING, ATTACHING, ATTACHED, LOST };

struct network_port {
    const struct network_port_ops *ops;
    void *opaque;
    char *network;
    json_t *params; /* of "network.attach" */
    int fd;
    enum stage stage;
    struct peer *peer;
    guint retry, patience; /* timers */
    json_int_t asked;      /* number of the last request */
};

static void reach(struct network_port *port);

static void stop_timers(struct network_port *port)
{
    guint *timers[] = {&port->retry, &port->patience};

    for (unsigned i = 0; i < G_N_ELEMENTS(timers); i++) {
        if (*timers[i])
            g_source_remove(*timers[i]);
        *timers[i] = 0;
    }
}

static void lose(struct network_port *port, const char *what)
{
    g_autofree char *how = g_strdup_printf("switch=%s: %s", port->network, what);

    stop_timers(port);
    g_clear_pointer(&port->peer, peer_destroy);
    port->stage = LOST;
    port->ops->lost(port->opaque, how);
}

static gboolean on_patience(gpointer opaque)
{
    struct network_port *port = opaque;

    port->patience = 0;
    lose(port, "the network's process does not answer");
    return G_SOURCE_REMOVE;
}

static gboolean on_retry(gpointer opaque)
{
    struct network_port *port = opaque;

    port->retry = 0;
    reach(port);
    return G_SOURCE_REMOVE;
}

static void try_again(struct network_port *port)
{
    g_clear_pointer(&port->peer, peer_destroy);
    port->stage = CONNECTING;
    port->retry = g_timeout_add(RETRY_MS, on_retry, port);
}

/* ---- talking ---- */

static void ask(struct network_port *port, enum stage stage, const char *method, json_t *params,
                unsigned fds)
{
    port->stage = stage;
    peer_send(port->peer, rpc_request(++port->asked, method, params), &port->fd, fds);
}

static void on_answer(struct network_port *port, const struct rpc_message *answer)
{
    if (answer->kind == RPC_FAILURE && answer->code == RPC_ERROR_STATE)
        try_again(port); /* somebody else was quicker, or it ends */
    else if (answer->kind == RPC_FAILURE)
        lose(port, answer->text);
    else if (port->stage == STARTING)
        ask(port, ATTACHING, "network.attach", json_incref(port->params), 1);
    else if (port->stage == ATTACHING) {
        stop_timers(port);
        port->stage = ATTACHED;
        port->ops->attached(port->opaque);
    }
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct network_port *port = opaque;
    struct rpc_message message;

    if (!control_receive(peer, line, length, &message))
        return;
    if ((message.kind == RPC_RESULT || message.kind == RPC_FAILURE) &&
        json_integer_value(message.id) == port->asked)
        on_answer(port, &message);
    rpc_message_clear(&message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    struct network_port *port = opaque;

    if (port->stage == ATTACHED)
        lose(port, "the network's process has ended");
    else
        try_again(port);
}

static const struct peer_ops peer_ops = {on_line, on_closed};

/* ---- reaching ---- */

static void reach(struct network_port *port)
{
    g_autoptr(GError) error = NULL;
    int fd = folder_connect_network(port->network);
    bool there = fd >= 0;

    if (!there && errno == EAGAIN) {
        try_again(port);
        return;
    }
    if (!there)
        fd = process_spawn_apart(ROLE, &error);
    if (fd < 0) {
        lose(port, error->message);
        return;
    }
    port->peer = peer_create(fd, &peer_ops, port);
    if (there)
        ask(port, ATTACHING, "network.attach", json_incref(port->params), 1);
    else
        ask(port, STARTING, "network.start", json_pack("{s:s}", "name", port->network), 0);
}

struct network_port *network_port_create(const struct network_port_config *config,
                                         const struct network_port_ops *ops, void *opaque)
{
    struct network_port *port = g_new0(struct network_port, 1);
    char mac[MAC_TEXT_SIZE];

    mac_write(config->mac, mac);
    port->ops = ops;
    port->opaque = opaque;
    port->network = g_strdup(config->network);
    port->fd = config->fd;
    port->params = json_pack("{s:s, s:s, s:s, s:s}", "machine", config->machine, "nic", config->nic,
                             "mac", mac, "name", config->hostname);
    port->retry = g_idle_add(on_retry, port);
    port->patience = g_timeout_add(PATIENCE_MS, on_patience, port);
    return port;
}

void network_port_destroy(struct network_port *port)
{
    if (!port)
        return;
    stop_timers(port);
    peer_destroy(port->peer);
    json_decref(port->params);
    g_free(port->network);
    g_free(port);
}
