// SPDX-License-Identifier: Apache-2.0
/*
 * A change is read after a moment of quiet, since it mostly comes in steps. A helper that reads its
 * copy while it is written takes what is there and finds soon that the file has changed again.
 */
#include "vmm/monitor/resolvers.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#define LIST     "/etc/resolv.conf"
#define LIST_MAX 65536 /* bytes */
#define QUIET_MS 200
#define CHANGES  (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ONLYDIR)

struct copy {
    unsigned number;
    int fd;
};

static struct {
    GArray *copies; /* of struct copy; NULL: there were none yet */
    unsigned last;  /* number that was given */
    int watch;      /* of inotify */
    guint source, timer;
} resolvers = {.watch = -1};

static void watch_folder_of(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);

    inotify_add_watch(resolvers.watch, folder, CHANGES);
}

/* Where a link leads changes with it. A folder that is watched twice is watched once. */
static void watch_all(void)
{
    char *target = realpath(LIST, NULL);

    watch_folder_of(LIST);
    if (target)
        watch_folder_of(target);
    free(target);
}

static void write_copy(int fd, const char *text, gsize length)
{
    if (pwrite(fd, text, length, 0) == (ssize_t)length && ftruncate(fd, (off_t)length) == 0)
        return;
    g_warning("a helper's list of resolvers could not be written: %s", g_strerror(errno));
}

static gboolean on_quiet(gpointer opaque)
{
    g_autofree char *text = NULL;
    gsize length;

    resolvers.timer = 0;
    watch_all();
    if (!g_file_get_contents(LIST, &text, &length, NULL))
        return G_SOURCE_REMOVE;
    for (guint i = 0; i < resolvers.copies->len; i++)
        write_copy(g_array_index(resolvers.copies, struct copy, i).fd, text, MIN(length, LIST_MAX));
    return G_SOURCE_REMOVE;
}

static gboolean on_change(gint fd, GIOCondition condition, gpointer opaque)
{
    char events[4096];

    while (read(fd, events, sizeof(events)) > 0)
        continue;
    if (!resolvers.timer)
        resolvers.timer = g_timeout_add(QUIET_MS, on_quiet, NULL);
    return G_SOURCE_CONTINUE;
}

static void begin(void)
{
    resolvers.watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (resolvers.watch < 0)
        return;
    watch_all();
    resolvers.source = g_unix_fd_add(resolvers.watch, G_IO_IN, on_change, NULL);
}

static void end(void)
{
    if (resolvers.timer)
        g_source_remove(resolvers.timer);
    if (resolvers.watch >= 0) {
        g_source_remove(resolvers.source);
        close(resolvers.watch);
    }
    resolvers.watch = -1;
    resolvers.timer = 0;
}

unsigned resolvers_follow(int fd)
{
    const struct copy copy = {++resolvers.last, fd};

    if (!resolvers.copies)
        resolvers.copies = g_array_new(FALSE, FALSE, sizeof(struct copy));
    if (!resolvers.copies->len)
        begin();
    g_array_append_val(resolvers.copies, copy);
    return copy.number;
}

void resolvers_forget(unsigned number)
{
    for (guint i = 0; number && i < resolvers.copies->len; i++) {
        const struct copy *copy = &g_array_index(resolvers.copies, struct copy, i);

        if (copy->number != number)
            continue;
        close(copy->fd);
        g_array_remove_index_fast(resolvers.copies, i);
        if (!resolvers.copies->len)
            end();
        return;
    }
}
