// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel lists sockets with their addresses and inodes (proc(5), /proc/net/tcp), and each
 * process's descriptors as links that name the inode.
 */
#include "vmm/net/nat/owner.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TCP_LISTEN 0x0A

/* The inode of the socket on the port, from one line of a list; 0: it is another. An address of
 * IPv6 is taken for any, which sockets for both families have. */
static unsigned long line_inode(const char *line, bool udp, const struct sockaddr_in *address)
{
    char host[33];
    unsigned port, state;
    unsigned long inode;

    if (sscanf(line, "%*d: %32[0-9A-F]:%x %*[0-9A-F]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %lu", host,
               &port, &state, &inode) != 4)
        return 0;
    bool all = strlen(host) > 8 || address->sin_addr.s_addr == INADDR_ANY;
    unsigned long number = all ? 0 : strtoul(host, NULL, 16);
    if (port != ntohs(address->sin_port) || (!udp && state != TCP_LISTEN))
        return 0;
    return all || !number || number == address->sin_addr.s_addr ? inode : 0;
}

static unsigned long find_inode(const char *list, bool udp, const struct sockaddr_in *address)
{
    g_autofree char *path = g_strdup_printf("/proc/net/%s", list);
    g_autofree char *text = NULL;
    unsigned long inode = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line && !inode; line++)
        inode = line_inode(*line, udp, address);
    return inode;
}

static bool process_has(const char *pid, const char *socket)
{
    g_autofree char *folder = g_strdup_printf("/proc/%s/fd", pid);
    g_autoptr(GDir) fds = g_dir_open(folder, 0, NULL);
    const char *entry;

    while (fds && (entry = g_dir_read_name(fds))) {
        g_autofree char *path = g_build_filename(folder, entry, NULL);
        g_autofree char *target = g_file_read_link(path, NULL);

        if (g_strcmp0(target, socket) == 0)
            return true;
    }
    return false;
}

static char *describe(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/comm", pid);
    g_autofree char *name = NULL;

    if (!g_file_get_contents(path, &name, NULL, NULL))
        return g_strdup_printf("process %s", pid);
    return g_strdup_printf("process %s (%s)", pid, g_strchomp(name));
}

char *port_owner(bool udp, const struct sockaddr_in *address)
{
    unsigned long inode = find_inode(udp ? "udp" : "tcp", udp, address);
    g_autoptr(GDir) processes = g_dir_open("/proc", 0, NULL);
    g_autofree char *socket = NULL;
    const char *entry;

    if (!inode)
        inode = find_inode(udp ? "udp6" : "tcp6", udp, address);
    if (!inode || !processes)
        return NULL;
    socket = g_strdup_printf("socket:[%lu]", inode);
    while ((entry = g_dir_read_name(processes)))
        if (g_ascii_isdigit(*entry) && process_has(entry, socket))
            return describe(entry);
    return NULL;
}
