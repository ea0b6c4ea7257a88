// SPDX-License-Identifier: Apache-2.0
/*
 * Claiming and releasing a machine's name. Two monitors may race for one name, and one may claim
 * while another removes: the lock decides, and a claim checks afterwards that what it locked is
 * still what the path names.
 */
#include "vmm/monitor/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/paths.h"
#include "config/schema.h"

#define CLAIM_ATTEMPTS 16
#define LISTEN_BACKLOG 128

struct folder {
    bool network;
    char *name;
    int base_fd, fd, lock_fd, socket_fd;
};

static void folder_close(struct folder *folder)
{
    int *fds[] = {&folder->socket_fd, &folder->lock_fd, &folder->fd, &folder->base_fd};

    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

/* The folder that ours is in. */
static char *base_of(const struct folder *folder)
{
    g_autofree char *base = runtime_folder();

    return g_build_filename(base, folder->network ? CONFIG_NETWORKS : NULL, NULL);
}

static bool fail(const struct folder *folder, GError **error)
{
    g_autofree char *base = base_of(folder);

    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s/%s: %s", base, folder->name,
                g_strerror(errno));
    return false;
}

/* A descriptor of that folder, which is made when it is not there. -1 and an error. */
static int open_base(const struct folder *folder, GError **error)
{
    int runtime = runtime_folder_open(error), fd = -1;

    if (!folder->network || runtime < 0)
        return runtime;
    if (mkdirat(runtime, CONFIG_NETWORKS, 0700) == 0 || errno == EEXIST)
        fd = openat(runtime, CONFIG_NETWORKS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        fail(folder, error);
    close(runtime);
    return fd;
}

/* Whether the path still leads to the folder and lock that we hold. */
static bool is_current(const struct folder *folder)
{
    struct stat held, named;

    return fstat(folder->lock_fd, &held) == 0 && held.st_nlink > 0 &&
           fstat(folder->fd, &held) == 0 &&
           fstatat(folder->base_fd, folder->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

/* The lock's file tells whose it is, as systemd's PIDFile= wants it. What cannot be written is not
 * worth a machine. */
static bool tell_pid(const struct folder *folder)
{
    if (ftruncate(folder->lock_fd, 0) == 0)
        dprintf(folder->lock_fd, "%d\n", getpid());
    return true;
}

/* One attempt. False with no error: somebody removed the folder meanwhile, try again. */
static bool try_claim(struct folder *folder, GError **error)
{
    folder->base_fd = open_base(folder, error);
    if (folder->base_fd < 0)
        return false;
    if (mkdirat(folder->base_fd, folder->name, 0700) != 0 && errno != EEXIST)
        return errno == ENOENT ? false : fail(folder, error);
    folder->fd =
        openat(folder->base_fd, folder->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder->fd < 0)
        return errno == ENOENT ? false : fail(folder, error);
    folder->lock_fd =
        openat(folder->fd, CONFIG_LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (folder->lock_fd < 0)
        return errno == ENOENT ? false : fail(folder, error);
    if (flock(folder->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return fail(folder, error);
        g_set_error(error, CONFIG_ERROR, folder->network ? CONFIG_ERROR_STATE : CONFIG_ERROR_FAILED,
                    folder->network
                        ? "the network '%s' runs already"
                        : "a machine called '%s' is running already; give this one another name",
                    folder->name);
        return false;
    }
    return is_current(folder) && tell_pid(folder);
}

static struct folder *claim(const char *name, bool network, GError **error)
{
    struct folder *folder = g_new0(struct folder, 1);
    g_autoptr(GError) cause = NULL;

    folder->network = network;
    folder->name = g_strdup(name);
    folder->base_fd = folder->fd = folder->lock_fd = folder->socket_fd = -1;
    for (unsigned attempt = 0; attempt < CLAIM_ATTEMPTS && !cause; attempt++) {
        if (try_claim(folder, &cause))
            return folder;
        folder_close(folder);
    }
    if (!cause)
        g_set_error(&cause, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    "the folder of '%s' is removed again and again by somebody", name);
    g_propagate_error(error, g_steal_pointer(&cause));
    g_free(folder->name);
    g_free(folder);
    return NULL;
}

struct folder *folder_claim(const char *name, GError **error)
{
    return claim(name, false, error);
}

struct folder *folder_claim_network(const char *name, GError **error)
{
    return claim(name, true, error);
}

int folder_connect_network(const char *name)
{
    g_autofree char *runtime = runtime_folder();
    g_autofree char *path = g_build_filename(runtime, CONFIG_NETWORKS, name, NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;

    if (folder < 0)
        return -1;
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder,
             CONFIG_CONTROL_SOCKET);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        int problem = errno;

        close(fd);
        errno = problem;
        fd = -1;
    }
    close(folder);
    return fd;
}

/* Bind at a path of any length: relative to its folder, by /proc. */
static int bind_at(int folder_fd, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, length;
    bool good;

    length = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder_fd,
                      name);
    if (length >= (int)sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    good = fchmod(fd, 0600) == 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
           listen(fd, LISTEN_BACKLOG) == 0;
    if (!good) {
        int problem = errno;

        close(fd);
        errno = problem;
        return -1;
    }
    return fd;
}

int folder_listen(struct folder *folder, GError **error)
{
    unlinkat(folder->fd, CONFIG_CONTROL_SOCKET, 0);
    folder->socket_fd = bind_at(folder->fd, CONFIG_CONTROL_SOCKET);
    if (folder->socket_fd < 0)
        fail(folder, error);
    return folder->socket_fd;
}

void folder_release(struct folder *folder)
{
    g_autofree char *runtime = runtime_folder(), *base = NULL;

    if (!folder)
        return;
    base = base_of(folder);
    unlinkat(folder->fd, CONFIG_CONTROL_SOCKET, 0);
    unlinkat(folder->fd, CONFIG_LOCK_FILE, 0);
    unlinkat(folder->base_fd, folder->name, AT_REMOVEDIR);
    /* The last machine removes the base too; this fails as long as there are others. */
    rmdir(base);
    rmdir(runtime);
    folder_close(folder);
    g_free(folder->name);
    g_free(folder);
}

/* Whether `name` is a socket that nobody listens on. */
static bool is_stale_socket(int folder_fd, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    bool refused;
    int fd;

    if (fstatat(folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISSOCK(status.st_mode))
        return false;
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder_fd, name);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    refused =
        connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

int socket_listen(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;

    if (folder_fd >= 0) {
        if (is_stale_socket(folder_fd, name))
            unlinkat(folder_fd, name, 0);
        fd = bind_at(folder_fd, name);
    }
    if (fd < 0)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path,
                    errno == EADDRINUSE ? "is there already; remove it or choose another name"
                                        : g_strerror(errno));
    if (folder_fd >= 0)
        close(folder_fd);
    return fd;
}
