// SPDX-License-Identifier: Apache-2.0
/*
 * Opening the cables of network cards. The monitor keeps both ends of a pair, so that a vmm or a
 * helper that dies finds its end again.
 */
#include "vmm/monitor/nics.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "config/schema.h"
#include "vmm/monitor/tap.h"

/* Bytes of frames between a card and its helper, or as many as the host allows. */
#define QUEUE_SIZE (4 << 20)

/* Message boundaries are frame boundaries. */
static bool open_pair(struct nic_cable *cable, GError **error)
{
    const int size = QUEUE_SIZE;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "nic: user: %s", g_strerror(errno));
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++)
        if (setsockopt(ends[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
            setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    cable->fd = ends[0];
    cable->helper = ends[1];
    return true;
}

bool nic_open(const struct nic *nic, struct nic_cable *cable, GError **error)
{
    *cable = (struct nic_cable){.fd = -1, .helper = -1};
    switch (nic->network) {
    case NIC_NONE:
        return true;
    case NIC_USER:
        return open_pair(cable, error);
    case NIC_TAP:
        cable->fd = tap_open(nic->tap, error);
        return cable->fd >= 0;
    case NIC_BRIDGE:
    case NIC_SWITCH:
        break;
    }
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "nic: a machine cannot be on such a network yet");
    return false;
}
