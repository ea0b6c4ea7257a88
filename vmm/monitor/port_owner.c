// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel lists sockets with their addresses and inodes (proc(5), /proc/net/tcp), and each
 * process's descriptors as links that name the inode.
 */
#include "vmm/monitor/port_owner.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

#define TCP_LISTEN  0x0A
#define IPV4_DIGITS 8

/* The fields of a line that are used: "12: 0100007F:1F90 00000000:0000 0A ... 33 0 45678 ...". */
enum { LOCAL = 1, STATE = 3, INODE = 9, FIELDS };

/* The words of `line`, the first FIELDS of them; false when it has fewer. */
static bool line_split(char *line, char *fields[FIELDS])
{
    unsigned count = 0;
    char *rest = NULL;

    for (char *word = strtok_r(line, " ", &rest); word && count < FIELDS;
         word = strtok_r(NULL, " ", &rest))
        fields[count++] = word;
    return count == FIELDS;
}

/* The inode of the socket on the port, from one line of a list; 0: it is another. An address of
 * IPv6 is taken for any, which sockets for both families have. */
static unsigned long line_inode(char *line, bool udp, const struct sockaddr_in *address)
{
    char *fields[FIELDS], *colon;

    if (!line_split(line, fields) || !(colon = strchr(fields[LOCAL], ':')))
        return 0;
    bool any = colon - fields[LOCAL] > IPV4_DIGITS || address->sin_addr.s_addr == INADDR_ANY;
    unsigned long host = any ? 0 : strtoul(fields[LOCAL], NULL, 16);
    if (strtoul(colon + 1, NULL, 16) != ntohs(address->sin_port) ||
        (!udp && strtoul(fields[STATE], NULL, 16) != TCP_LISTEN))
        return 0;
    return !host || host == address->sin_addr.s_addr ? strtoul(fields[INODE], NULL, 10) : 0;
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
