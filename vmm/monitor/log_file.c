// SPDX-License-Identifier: Apache-2.0
/*
 * Files by descriptor and by name: only what is still the same file under both is renamed.
 */
#include "vmm/monitor/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_US G_USEC_PER_SEC /* between looks at whether it is still there */

struct log_file {
    int fd;
    char *path, *aside;
    gint64 looked_us;
};

/* Whether `path` names the file that is open as `fd`. */
static bool is_there(int fd, const char *path)
{
    struct stat opened, named;

    return fstat(fd, &opened) == 0 && lstat(path, &named) == 0 && S_ISREG(named.st_mode) &&
           named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
}

struct log_file *log_file_create(int fd, const char *path)
{
    struct log_file *file;

    if (!path || !g_path_is_absolute(path) || !is_there(fd, path))
        return NULL;
    file = g_new0(struct log_file, 1);
    file->fd = fd;
    file->path = g_strdup(path);
    file->aside = g_strconcat(path, ".old", NULL);
    return file;
}

void log_file_destroy(struct log_file *file)
{
    if (!file)
        return;
    g_free(file->path);
    g_free(file->aside);
    g_free(file);
}

/* A new file in the place of the old one, under the same descriptor. */
static bool begin_anew(const struct log_file *file)
{
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
    int kept = fcntl(file->fd, F_GETFD), fd = open(file->path, flags | O_CLOEXEC, 0600);
    bool good;

    if (fd < 0)
        return false;
    good = dup3(fd, file->fd, kept & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0;
    close(fd);
    return good;
}

void log_file_turn(struct log_file *file, size_t length)
{
    gint64 now = file ? g_get_monotonic_time() : 0;
    struct stat status;
    bool full, good = true;

    if (!file || fstat(file->fd, &status) != 0)
        return;
    full = status.st_size && status.st_size + length > LOG_FILE_MAX;
    if (!full && now - file->looked_us < LOOK_US)
        return;
    file->looked_us = now;
    if (is_there(file->fd, file->path)) {
        if (!full)
            return;
        good = rename(file->path, file->aside) == 0;
    }
    /* Where no other can be made this one begins again: it must not grow for ever. */
    good = good && begin_anew(file);
    while (!good && full && ftruncate(file->fd, 0) != 0 && errno == EINTR)
        continue;
}
