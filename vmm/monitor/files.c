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

#include "config/devices.h"
#include "config/lines.h"
#include "vmm/control/peer.h"
#include "vmm/monitor/disks.h"
#include "vmm/monitor/folder.h"
#include "vmm/monitor/nics.h"

#define KVM_PATH      "/dev/kvm"
#define DEVICE_PREFIX "device/"

/* As many as go beside one message; an upgrade adds three of its own. */
#define FILES_MAX (PEER_FDS_MAX - 3)

struct files {
    int fds[FILES_MAX];
    char *names[FILES_MAX];
    unsigned count;
    unsigned reserved;  /* places that are promised; count + reserved <= FILES_MAX */
    GPtrArray *sockets; /* paths to remove at the end */
    struct pty {
        char *line; /* "serial", "port NAME" */
        char *path;
        int guard; /* the line's other end, so that it survives without a client; -1 */
    } ptys[LINES_MAX];
    unsigned pty_count;
    struct nat_end {
        char *nic; /* the card's id */
        int fd;    /* of its socket pair */
    } nat_ends[CONFIG_NICS_MAX];
    unsigned nat_end_count;
};

/* Hand on `fd`, opened from `path`, as `name`; -1 is an error with errno. `about` is what messages
 * begin with. */
static bool add_for(struct files *files, const char *name, const char *about, int fd,
                    const char *path, GError **error)
{
    if (fd >= 0 && files->count + files->reserved < FILES_MAX) {
        files->names[files->count] = g_strdup(name);
        files->fds[files->count++] = fd;
        return true;
    }
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s: %s", about, path,
                g_strerror(fd < 0 ? errno : EMFILE));
    if (fd >= 0)
        close(fd);
    return false;
}

static bool add(struct files *files, const char *name, int fd, const char *path, GError **error)
{
    return add_for(files, name, name, fd, path, error);
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

/* ---- disks and network cards ---- */

static char *device_name(const char *id)
{
    return g_strconcat(DEVICE_PREFIX, id, NULL);
}

bool files_add_disk(struct files *files, const struct definition *definition, unsigned index,
                    GError **error)
{
    g_autofree char *name = device_name(definition_device_id(definition, OPTION_DISK, index));
    int fd = disk_open(definition, index, error);

    return fd >= 0 &&
           add_for(files, name, "disk", fd,
                   definition_member_text(definition, OPTION_DISK, index, "file"), error);
}

bool files_add_nic(struct files *files, const struct definition *definition, unsigned index,
                   GError **error)
{
    const char *id = definition_device_id(definition, OPTION_NIC, index);
    g_autofree char *name = device_name(id);
    struct nic nic = definition_nic(definition, index);
    struct nic_cable cable;

    if (!nic_open(&nic, &cable, error))
        return false;
    if (cable.helper >= 0)
        files->nat_ends[files->nat_end_count++] = (struct nat_end){g_strdup(id), cable.helper};
    return cable.fd < 0 ||
           add_for(files, name, "nic", cable.fd,
                   definition_member_text(definition, OPTION_NIC, index, "network"), error);
}

static bool add_devices(struct files *files, const struct definition *definition, GError **error)
{
    for (unsigned i = 0; i < definition_count(definition, OPTION_NIC); i++)
        if (!files_add_nic(files, definition, i, error))
            return false;
    for (unsigned i = 0; i < definition_count(definition, OPTION_DISK); i++)
        if (!files_add_disk(files, definition, i, error))
            return false;
    return true;
}

int files_nat_end(const struct files *files, const char *nic)
{
    for (unsigned i = 0; i < files->nat_end_count; i++)
        if (g_str_equal(files->nat_ends[i].nic, nic))
            return files->nat_ends[i].fd;
    return -1;
}

static void remove_at(struct files *files, unsigned index)
{
    close(files->fds[index]);
    g_free(files->names[index]);
    files->count--;
    memmove(&files->fds[index], &files->fds[index + 1],
            (files->count - index) * sizeof(files->fds[0]));
    memmove(&files->names[index], &files->names[index + 1],
            (files->count - index) * sizeof(files->names[0]));
}

static void remove_file(struct files *files, const char *name)
{
    for (unsigned i = 0; i < files->count; i++)
        if (g_str_equal(files->names[i], name)) {
            remove_at(files, i);
            return;
        }
}

int files_device(const struct files *files, const char *id)
{
    g_autofree char *name = device_name(id);

    for (unsigned i = 0; i < files->count; i++)
        if (g_str_equal(files->names[i], name))
            return files->fds[i];
    return -1;
}

void files_remove_device(struct files *files, const char *id)
{
    g_autofree char *name = device_name(id);

    remove_file(files, name);
    for (unsigned i = 0; i < files->nat_end_count; i++) {
        struct nat_end *end = &files->nat_ends[i];

        if (!g_str_equal(end->nic, id))
            continue;
        close(end->fd);
        g_free(end->nic);
        *end = files->nat_ends[--files->nat_end_count];
        return;
    }
}

bool files_reserve_room(struct files *files, GError **error)
{
    if (files->count + files->reserved < FILES_MAX) {
        files->reserved++;
        return true;
    }
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "the machine has too many files open");
    return false;
}

void files_release_room(struct files *files, bool reserved)
{
    files->reserved -= reserved;
}

void files_replug(struct files *files, const char *nic, const struct nic_cable *cable)
{
    files_remove_device(files, nic);
    if (cable->helper >= 0)
        files->nat_ends[files->nat_end_count++] = (struct nat_end){g_strdup(nic), cable->helper};
    if (cable->fd < 0)
        return;
    files->names[files->count] = device_name(nic);
    files->fds[files->count++] = cable->fd;
}

/* ---- lines ---- */

static bool add_socket(struct files *files, const char *name, const char *about, const char *path,
                       GError **error)
{
    int fd = socket_listen(path, error);

    if (fd < 0) {
        g_prefix_error(error, "%s: ", about);
        return false;
    }
    g_ptr_array_add(files->sockets, g_strdup(path));
    return add_for(files, name, about, fd, path, error);
}

static bool add_pty(struct files *files, const struct line *line, const char *about, GError **error)
{
    /* O_NONBLOCK: a pty that takes a byte is writable, but waits with more. */
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    struct pty *pty = &files->ptys[files->pty_count];
    struct termios mode;
    char name[64];

    if (fd < 0 || grantpt(fd) != 0 || unlockpt(fd) != 0 || ptsname_r(fd, name, sizeof(name)) != 0) {
        bool added = add_for(files, "line", about, -1, "pty", error);

        if (fd >= 0)
            close(fd);
        return added;
    }
    pty->line =
        line->kind == LINE_PORT ? g_strdup_printf("port %s", line->name) : g_strdup(line->name);
    pty->path = g_strdup(name);
    pty->guard = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (pty->guard >= 0 && tcgetattr(pty->guard, &mode) == 0) {
        cfmakeraw(&mode);
        tcsetattr(pty->guard, TCSANOW, &mode);
    }
    files->pty_count++;
    return add_for(files, "line", about, fd, name, error);
}

static bool add_output(struct files *files, const char *about, const char *path, GError **error)
{
    /* O_NONBLOCK, so that a FIFO without a reader is an error in place of a wait. */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);

    if (fd >= 0 || errno != ENXIO)
        return add_for(files, "line", about, fd, path, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "%s: %s: nobody reads from this FIFO; start its reader first", about, path);
    return false;
}

static bool add_stdio(struct files *files, const char *about, int stdio_fd, GError **error)
{
    if (stdio_fd >= 0)
        return add_for(files, "line", about, fcntl(stdio_fd, F_DUPFD_CLOEXEC, 3), "stdio", error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "%s: there is no terminal for 'stdio' here; choose another place", about);
    return false;
}

static bool add_line(struct files *files, const struct line *line, int stdio_fd, GError **error)
{
    g_autofree char *about =
        line->kind == LINE_PORT ? g_strdup_printf("port: %s", line->name) : g_strdup(line->name);

    switch (line->place) {
    case LINE_PTY:
        return add_pty(files, line, about, error);
    case LINE_FILE:
        return add_output(files, about, line->path, error);
    case LINE_SOCKET:
        return add_socket(files, "line", about, line->path, error);
    case LINE_STDIO:
        break;
    }
    return add_stdio(files, about, stdio_fd, error);
}

static bool add_lines(struct files *files, const struct definition *definition, int stdio_fd,
                      GError **error)
{
    struct line lines[LINES_MAX];
    unsigned count = definition_lines(definition, lines);

    for (unsigned i = 0; i < count; i++)
        if (!add_line(files, &lines[i], stdio_fd, error))
            return false;
    return true;
}

/* ---- what the engine needs ---- */

bool files_add_kvm(struct files *files, GError **error)
{
    int fd;

    for (unsigned i = 0; i < files->count; i++)
        if (g_str_equal(files->names[i], "kvm"))
            return true;
    fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return add(files, "kvm", fd, KVM_PATH, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "engine: kvm: %s: %s; %s", KVM_PATH,
                g_strerror(errno),
                errno == EACCES ? "join the group that owns it, or use --engine soft"
                                : "use --engine soft");
    return false;
}

/* What the software CPU writes for those who debug it (docs/translator.md). */
static bool add_soft_log(struct files *files, GError **error)
{
    const char *path = getenv("ANIMA_SOFT_LOG");

    if (!path)
        return true;
    return add_for(files, "soft-log", "ANIMA_SOFT_LOG",
                   open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600),
                   path, error);
}

static bool wants_perf_map(void)
{
    const char *switches = getenv("ANIMA_SOFT");
    g_auto(GStrv) words = g_strsplit(switches ? switches : "", ",", -1);

    return g_strv_contains((const char *const *)words, "perf");
}

bool files_add_perf_map(struct files *files, pid_t pid, GError **error)
{
    g_autofree char *path = g_strdup_printf("/tmp/perf-%d.map", pid);

    if (!wants_perf_map())
        return true;
    remove_file(files, "perf-map");
    /* Anybody may have put something there, of an earlier process with this number or on purpose:
     * what is opened is new, or it is nothing. */
    unlink(path);
    return add(files, "perf-map",
               open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600),
               path, error);
}

/* "auto" goes without what is absent or not for this user. */
static bool add_engine(struct files *files, const struct definition *definition, GError **error)
{
    const char *engine = definition_text(definition, OPTION_ENGINE);

    if (g_str_equal(engine, "auto"))
        files_add_kvm(files, NULL);
    if (g_str_equal(engine, "kvm"))
        return files_add_kvm(files, error);
    return add_soft_log(files, error);
}

static bool add_all(struct files *files, const struct definition *definition, int stdio_fd,
                    GError **error)
{
    const char *kernel = definition_text(definition, OPTION_KERNEL);
    const char *initrd = definition_text(definition, OPTION_INITRD);
    const char *gdb = definition_text(definition, OPTION_GDB);
    const char *state = definition_text(definition, OPTION_STATE);

    return (!kernel || add_input(files, "kernel", kernel, error)) &&
           (!initrd || add_input(files, "initrd", initrd, error)) &&
           (!state || add_input(files, "state", state, error)) &&
           add_modules(files, definition, error) && add_engine(files, definition, error) &&
           add_devices(files, definition, error) &&
           (!gdb || add_socket(files, "gdb", "gdb", gdb, error)) &&
           add_lines(files, definition, stdio_fd, error);
}

struct files *files_open(const struct definition *definition, int stdio_fd, GError **error)
{
    struct files *files = g_new0(struct files, 1);

    files->sockets = g_ptr_array_new_with_free_func(g_free);
    if (add_all(files, definition, stdio_fd, error))
        return files;
    files_destroy(files);
    return NULL;
}

void files_destroy(struct files *files)
{
    if (!files)
        return;
    while (files->count)
        remove_at(files, files->count - 1);
    for (unsigned i = 0; i < files->nat_end_count; i++) {
        close(files->nat_ends[i].fd);
        g_free(files->nat_ends[i].nic);
    }
    for (unsigned i = 0; i < files->sockets->len; i++)
        unlink(files->sockets->pdata[i]);
    g_ptr_array_unref(files->sockets);
    for (unsigned i = 0; i < files->pty_count; i++) {
        if (files->ptys[i].guard >= 0)
            close(files->ptys[i].guard);
        g_free(files->ptys[i].line);
        g_free(files->ptys[i].path);
    }
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

const char *files_name(const struct files *files, unsigned index)
{
    return files->names[index];
}

json_t *files_ptys(const struct files *files)
{
    json_t *ptys = json_object();

    for (unsigned i = 0; i < files->pty_count; i++)
        json_object_set_new(ptys, files->ptys[i].line, json_string(files->ptys[i].path));
    return ptys;
}
