// SPDX-License-Identifier: Apache-2.0
/*
 * Opening the cables of network cards. The monitor keeps both ends of a pair, so that a vmm or a
 * helper that dies finds its end again.
 */
#include "vmm/monitor/nics.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "config/network.h"
#include "config/store.h"
#include "vmm/monitor/bridge.h"
#include "vmm/monitor/tap.h"

/* Bytes of frames between a card and its helper, or as many as the host allows. */
#define QUEUE_SIZE (4 << 20)

/* Message boundaries are frame boundaries. */
static bool open_pair(struct nic_cable *cable, GError **error)
{
    const int size = QUEUE_SIZE;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "nic: a pair of sockets: %s",
                    g_strerror(errno));
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++)
        if (setsockopt(ends[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
            setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    cable->fd = ends[0];
    cable->helper = ends[1];
    return true;
}

/* The interface of the network called `name`, if that is a bridge of the host's, or NULL. False
 * when there is no such network. */
static bool find_bridge(const char *name, char **interface, GError **error)
{
    g_autofree char *text = store_read(&store_networks, name, error);
    struct definition *definition;
    bool good;

    *interface = NULL;
    if (!text) {
        g_prefix_error(error, "nic: switch=");
        return false;
    }
    definition = definition_create_kind(&definition_network);
    g_autofree char *path = store_path(&store_networks, name);
    good = definition_load_yaml(definition, path, NULL, text, strlen(text), error) &&
           definition_check(definition, error);
    if (good && definition_network_of(definition).kind == NETWORK_BRIDGE)
        *interface = g_strdup(definition_network_of(definition).interface);
    definition_destroy(definition);
    return good;
}

static bool open_shared(const char *name, struct nic_cable *cable, GError **error)
{
    g_autofree char *interface = NULL;

    if (!find_bridge(name, &interface, error))
        return false;
    if (!interface)
        return open_pair(cable, error);
    cable->fd = bridge_open(interface, error);
    return cable->fd >= 0;
}

bool nic_open(const struct nic *nic, struct nic_cable *cable, GError **error)
{
    *cable = (struct nic_cable){.fd = -1, .helper = -1};
    switch (nic->network) {
    case NIC_NONE:
        return true;
    case NIC_USER:
        return open_pair(cable, error);
    case NIC_SWITCH:
        return open_shared(nic->shared, cable, error);
    case NIC_BRIDGE:
        cable->fd = bridge_open(nic->bridge, error);
        break;
    case NIC_TAP:
        cable->fd = tap_open(nic->tap, error);
        break;
    }
    return cable->fd >= 0;
}
