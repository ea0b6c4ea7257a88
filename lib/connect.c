// SPDX-License-Identifier: Apache-2.0
/*
 * The folders of running machines, each with a socket (config/paths.h).
 */
#include "lib/connect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/paths.h"
#include "config/schema.h"
#include "config/store.h"

/* The control socket in a folder of the runtime folder. */
static int connect_in(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), fd;

    if (folder < 0)
        return -1;
    /* By /proc, since the path may be longer than an address. */
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder,
             CONFIG_CONTROL_SOCKET);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        fd = -1;
    }
    close(folder);
    return fd;
}

int control_connect(const char *name)
{
    g_autofree char *base = runtime_folder();
    g_autofree char *path = g_build_filename(base, name, NULL);

    return connect_in(path);
}

int network_connect(const char *name)
{
    g_autofree char *base = runtime_folder();
    g_autofree char *path = g_build_filename(base, CONFIG_NETWORKS, name, NULL);

    return connect_in(path);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **control_list(GError **error)
{
    g_autofree char *base = runtime_folder();
    DIR *folder = opendir(base);
    GPtrArray *names = g_ptr_array_new();
    struct dirent *entry;

    if (!folder && errno != ENOENT) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", base, g_strerror(errno));
        g_ptr_array_unref(names);
        return NULL;
    }
    while (folder && (entry = readdir(folder)))
        if (store_check_name(&store_machines, entry->d_name, NULL))
            g_ptr_array_add(names, g_strdup(entry->d_name));
    if (folder)
        closedir(folder);
    if (names->len)
        qsort(names->pdata, names->len, sizeof(char *), compare);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}
