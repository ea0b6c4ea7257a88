// SPDX-License-Identifier: Apache-2.0
/*
 * Opening files on behalf of the vmm. What is for reading must be a regular file: a guest's kernel
 * is mapped and measured, which a pipe or a folder cannot be.
 */
#include "vmm/monitor/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/control/peer.h"
#include "vmm/monitor/folder.h"

#define KVM_PATH "/dev/kvm"

struct files {
    int fds[PEER_FDS_MAX];
    const char *names[PEER_FDS_MAX];
    unsigned count;
    char *sockets[2]; /* paths to remove at the end */
    unsigned socket_count;
    char *pty;
    int pty_guard; /* the line's other end, so that it survives without a client; -1 */
};

static bool add(struct files *files, const char *name, int fd, const char *path, GError **error)
{
    if (fd >= 0 && files->count < PEER_FDS_MAX) {
        files->names[files->count] = name;
        files->fds[files->count++] = fd;
        return true;
    }
    /* "serial-pty" is the option "serial". */
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%.*s: %s: %s", (int)strcspn(name, "-"),
                name, path, g_strerror(fd < 0 ? errno : EMFILE));
    if (fd >= 0)
        close(fd);
    return false;
}

static bool add_input(struct files *files, const char *name, const char *path, GError **error)
{
    /* O_NONBLOCK, so that a FIFO does not keep us waiting before it is refused. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat status;

    if (fd >= 0 && fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s: %s", name, path,
                    S_ISDIR(status.st_mode) ? "this is a folder" : "this is not a regular file");
        close(fd);
        return false;
    }
    return add(files, name, fd, path, error);
}

static bool add_modules(struct files *files, const struct definition *definition, GError **error)
{
    for (unsigned i = 0; i < definition_count(definition, OPTION_MODULE); i++) {
        const char *entry = definition_entry(definition, OPTION_MODULE, i);
        g_autofree char *path = g_strndup(entry, strcspn(entry, " "));

        if (!add_input(files, "module", path, error))
            return false;
    }
    return true;
}

static bool add_socket(struct files *files, const char *name, const char *path, GError **error)
{
    int fd = socket_listen(path, error);

    if (fd < 0) {
        g_prefix_error(error, "%.*s: ", (int)strcspn(name, "-"), name);
        return false;
    }
    files->sockets[files->socket_count++] = g_strdup(path);
    return add(files, name, fd, path, error);
}

static bool add_pty(struct files *files, GError **error)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios mode;
    char name[64];

    if (fd < 0 || grantpt(fd) != 0 || unlockpt(fd) != 0 || ptsname_r(fd, name, sizeof(name)) != 0) {
        bool added = add(files, "serial-pty", -1, "pty", error);

        if (fd >= 0)
            close(fd);
        return added;
    }
    files->pty_guard = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (files->pty_guard >= 0 && tcgetattr(files->pty_guard, &mode) == 0) {
        cfmakeraw(&mode);
        tcsetattr(files->pty_guard, TCSANOW, &mode);
    }
    files->pty = g_strdup(name);
    return add(files, "serial-pty", fd, name, error);
}

static bool add_serial(struct files *files, const struct definition *definition, int serial_fd,
                       GError **error)
{
    const char *where = definition_text(definition, OPTION_SERIAL);
    const char *path = strchr(where, '=');

    if (g_str_equal(where, "none"))
        return true;
    if (g_str_equal(where, "pty"))
        return add_pty(files, error);
    if (g_str_has_prefix(where, "file="))
        return add(files, "serial",
                   open(path + 1, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600),
                   path + 1, error);
    if (g_str_has_prefix(where, "socket="))
        return add_socket(files, "serial-listen", path + 1, error);
    if (serial_fd >= 0)
        return add(files, "serial", fcntl(serial_fd, F_DUPFD_CLOEXEC, 3), "stdio", error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "serial: there is no terminal for 'stdio' here; choose another place");
    return false;
}

/* "auto" goes without what is absent or not for this user. */
static bool add_kvm(struct files *files, const struct definition *definition, GError **error)
{
    const char *engine = definition_text(definition, OPTION_ENGINE);
    bool must = g_str_equal(engine, "kvm");
    int fd;

    if (!must && !g_str_equal(engine, "auto"))
        return true;
    fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
    if (fd >= 0 || !must)
        return fd < 0 || add(files, "kvm", fd, KVM_PATH, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "engine: kvm: %s: %s; %s", KVM_PATH,
                g_strerror(errno),
                errno == EACCES ? "join the group that owns it, or use --engine soft"
                                : "use --engine soft");
    return false;
}

static bool add_all(struct files *files, const struct definition *definition, int serial_fd,
                    GError **error)
{
    const char *kernel = definition_text(definition, OPTION_KERNEL);
    const char *initrd = definition_text(definition, OPTION_INITRD);
    const char *gdb = definition_text(definition, OPTION_GDB);

    return (!kernel || add_input(files, "kernel", kernel, error)) &&
           (!initrd || add_input(files, "initrd", initrd, error)) &&
           add_modules(files, definition, error) && add_kvm(files, definition, error) &&
           (!gdb || add_socket(files, "gdb", gdb, error)) &&
           add_serial(files, definition, serial_fd, error);
}

struct files *files_open(const struct definition *definition, int serial_fd, GError **error)
{
    struct files *files = g_new0(struct files, 1);

    files->pty_guard = -1;
    if (add_all(files, definition, serial_fd, error))
        return files;
    files_destroy(files);
    return NULL;
}

void files_destroy(struct files *files)
{
    if (!files)
        return;
    for (unsigned i = 0; i < files->count; i++)
        close(files->fds[i]);
    for (unsigned i = 0; i < files->socket_count; i++) {
        unlink(files->sockets[i]);
        g_free(files->sockets[i]);
    }
    if (files->pty_guard >= 0)
        close(files->pty_guard);
    g_free(files->pty);
    g_free(files);
}

const int *files_fds(const struct files *files, unsigned *count)
{
    *count = files->count;
    return files->fds;
}

json_t *files_names(const struct files *files)
{
    json_t *names = json_array();

    for (unsigned i = 0; i < files->count; i++)
        json_array_append_new(names, json_string(files->names[i]));
    return names;
}

const char *files_pty(const struct files *files)
{
    return files->pty;
}
