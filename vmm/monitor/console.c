// SPDX-License-Identifier: Apache-2.0
/*
 * Bytes from one to many, and from many to one, on the GLib main loop. Nothing waits but the end.
 */
#include "vmm/monitor/console.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/monitor/log_file.h"

#define PIECE      16384        /* bytes of one read */
#define PIPE_PIECE 512          /* bytes that what is ready takes without waiting (PIPE_BUF) */
#define VIEWER_MAX (256U << 10) /* bytes that wait for one that is not patient */
#define TYPED_MAX  4096         /* bytes that wait for the guest */
#define LAST_MS    500          /* without progress, at the end */

struct viewer {
    struct console *console;
    struct console_view view;
    int fd;
    bool is_socket, is_file;
    struct log_file *log; /* NULL: none */
    GByteArray *out;      /* what it has to be told */
    size_t lost;          /* bytes that it missed and was not told of */
    guint in_source, out_source, hup_source;
};

struct console {
    int fd; /* our end; -1: none */
    guint in_source, out_source;
    GByteArray *typed;
    GByteArray *kept;   /* for those who come later */
    GPtrArray *viewers; /* of struct viewer * */
};

static void arrange(struct console *console);

static void remove_source(guint *source)
{
    if (*source)
        g_source_remove(*source);
    *source = 0;
}

static void viewer_free(void *opaque)
{
    struct viewer *viewer = opaque;

    remove_source(&viewer->in_source);
    remove_source(&viewer->out_source);
    remove_source(&viewer->hup_source);
    log_file_destroy(viewer->log);
    close(viewer->fd);
    g_byte_array_unref(viewer->out);
    g_free(viewer);
}

/* ---- to viewers ---- */

/* One write that does not wait. Positive: so many bytes; 0: none now; negative: never again. */
static ssize_t write_some(const struct viewer *viewer, const uint8_t *bytes, size_t length)
{
    struct pollfd ready = {.fd = viewer->fd, .events = POLLOUT};
    ssize_t count;

    log_file_turn(viewer->log, length);
    if (viewer->is_socket)
        count = send(viewer->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (!viewer->is_file && poll(&ready, 1, 0) <= 0)
        return 0;
    else
        count = write(viewer->fd, bytes, viewer->is_file ? length : MIN(length, PIPE_PIECE));
    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    return count;
}

/* As much as goes. False when the viewer is gone. */
static bool flush(struct viewer *viewer)
{
    size_t sent = 0;
    ssize_t count = 1;

    while (sent < viewer->out->len && count > 0) {
        count = write_some(viewer, viewer->out->data + sent, viewer->out->len - sent);
        sent += MAX(count, 0);
    }
    g_byte_array_remove_range(viewer->out, 0, sent);
    return count >= 0;
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct viewer *viewer = opaque;
    struct console *console = viewer->console;

    viewer->out_source = 0;
    if (!flush(viewer))
        g_ptr_array_remove(console->viewers, viewer);
    arrange(console);
    return G_SOURCE_REMOVE;
}

static void append(struct viewer *viewer, const uint8_t *bytes, size_t length)
{
    g_byte_array_append(viewer->out, bytes, length);
    if (viewer->view.patient || viewer->out->len <= VIEWER_MAX)
        return;
    viewer->lost += viewer->out->len - VIEWER_MAX / 2;
    g_byte_array_remove_range(viewer->out, 0, viewer->out->len - VIEWER_MAX / 2);
}

/* Say what was missed, where it was missed. */
static void tell_lost(struct viewer *viewer)
{
    g_autofree char *note = NULL;

    if (!viewer->lost)
        return;
    note = g_strdup_printf("\r\n[anima: %zu bytes are missing here]\r\n", viewer->lost);
    viewer->lost = 0;
    g_byte_array_prepend(viewer->out, (const guint8 *)note, strlen(note));
}

static void keep(struct console *console, const uint8_t *bytes, size_t length)
{
    g_byte_array_append(console->kept, bytes, length);
    if (console->kept->len > 2 * CONSOLE_SCROLLBACK)
        g_byte_array_remove_range(console->kept, 0, console->kept->len - CONSOLE_SCROLLBACK);
}

static void tell_all(struct console *console, const uint8_t *bytes, size_t length)
{
    keep(console, bytes, length);
    for (unsigned i = console->viewers->len; i-- > 0;) {
        struct viewer *viewer = console->viewers->pdata[i];

        append(viewer, bytes, length);
        tell_lost(viewer);
        if (!flush(viewer))
            g_ptr_array_remove_index(console->viewers, i);
    }
}

/* ---- from the guest ---- */

/* Positive: bytes came; 0: none are there; negative: no more will come. */
static int hear(struct console *console)
{
    uint8_t bytes[PIECE];
    ssize_t count = recv(console->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (count == 0)
        return -1;
    tell_all(console, bytes, count);
    return 1;
}

static void unplug(struct console *console)
{
    remove_source(&console->in_source);
    remove_source(&console->out_source);
    if (console->fd >= 0)
        close(console->fd);
    console->fd = -1;
    g_byte_array_set_size(console->typed, 0);
}

static gboolean on_guest(gint fd, GIOCondition condition, gpointer opaque)
{
    struct console *console = opaque;
    bool gone = hear(console) < 0;

    console->in_source = 0;
    if (gone)
        unplug(console);
    arrange(console);
    return G_SOURCE_REMOVE;
}

/* ---- to the guest ---- */

static void type(struct console *console)
{
    ssize_t count =
        send(console->fd, console->typed->data, console->typed->len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (count > 0)
        g_byte_array_remove_range(console->typed, 0, count);
    else if (errno != EAGAIN && errno != EINTR)
        g_byte_array_set_size(console->typed, 0);
}

static gboolean on_guest_takes(gint fd, GIOCondition condition, gpointer opaque)
{
    struct console *console = opaque;

    console->out_source = 0;
    type(console);
    arrange(console);
    return G_SOURCE_REMOVE;
}

static bool listens(const struct viewer *viewer)
{
    return !viewer->view.readonly && viewer->console->fd >= 0 &&
           viewer->console->typed->len < TYPED_MAX;
}

/* What it has typed. One that has only closed its sending half still looks on. */
static gboolean on_typed(gint fd, GIOCondition condition, gpointer opaque)
{
    struct viewer *viewer = opaque;
    struct console *console = viewer->console;
    uint8_t bytes[TYPED_MAX];
    ssize_t count = read(fd, bytes, sizeof(bytes));

    viewer->in_source = 0;
    if (count > 0) {
        g_byte_array_append(console->typed, bytes, count);
        type(console);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        viewer->view.readonly = true;
    }
    arrange(console);
    return G_SOURCE_REMOVE;
}

/* It has gone. What it typed before comes first. */
static gboolean on_hung_up(gint fd, GIOCondition condition, gpointer opaque)
{
    struct viewer *viewer = opaque;
    struct console *console = viewer->console;
    char byte;

    if (listens(viewer) && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
        return G_SOURCE_CONTINUE;
    viewer->hup_source = 0;
    g_ptr_array_remove(console->viewers, viewer);
    arrange(console);
    return G_SOURCE_REMOVE;
}

/* ---- who waits for what ---- */

static bool is_held(const struct console *console)
{
    for (unsigned i = 0; i < console->viewers->len; i++) {
        const struct viewer *viewer = console->viewers->pdata[i];

        if (viewer->view.patient && viewer->out->len)
            return true;
    }
    return false;
}

/* Put sources where they are wanted, and take them away where not; after every change. */
static void want(guint *source, bool wanted, int fd, GIOCondition condition, GUnixFDSourceFunc call,
                 void *opaque)
{
    if (!wanted)
        remove_source(source);
    else if (!*source)
        *source = g_unix_fd_add(fd, condition, call, opaque);
}

static void arrange(struct console *console)
{
    bool plugged = console->fd >= 0;

    want(&console->in_source, plugged && !is_held(console), console->fd, G_IO_IN, on_guest,
         console);
    want(&console->out_source, plugged && console->typed->len, console->fd, G_IO_OUT,
         on_guest_takes, console);
    for (unsigned i = 0; i < console->viewers->len; i++) {
        struct viewer *viewer = console->viewers->pdata[i];

        want(&viewer->in_source, listens(viewer), viewer->fd, G_IO_IN, on_typed, viewer);
        want(&viewer->hup_source, viewer->is_socket, viewer->fd, G_IO_HUP, on_hung_up, viewer);
        want(&viewer->out_source, viewer->out->len, viewer->fd, G_IO_OUT, on_writable, viewer);
    }
}

/* ---- life ---- */

struct console *console_create(void)
{
    struct console *console = g_new0(struct console, 1);

    console->fd = -1;
    console->typed = g_byte_array_new();
    console->kept = g_byte_array_new();
    console->viewers = g_ptr_array_new_with_free_func(viewer_free);
    return console;
}

/* Until it has all, or reads no more. */
static void give_last(struct viewer *viewer)
{
    struct pollfd ready = {.fd = viewer->fd, .events = POLLOUT};

    while (flush(viewer) && viewer->out->len && poll(&ready, 1, LAST_MS) > 0)
        continue;
}

void console_destroy(struct console *console)
{
    if (!console)
        return;
    while (console->fd >= 0 && hear(console) > 0)
        continue;
    unplug(console);
    for (unsigned i = 0; i < console->viewers->len; i++)
        give_last(console->viewers->pdata[i]);
    g_ptr_array_unref(console->viewers);
    g_byte_array_unref(console->typed);
    g_byte_array_unref(console->kept);
    g_free(console);
}

int console_plug(struct console *console, GError **error)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "no line on stdio can be made: %s",
                    g_strerror(errno));
        return -1;
    }
    while (console->fd >= 0 && hear(console) > 0)
        continue;
    unplug(console);
    console->fd = ends[0];
    arrange(console);
    return ends[1];
}

bool console_attach(struct console *console, int fd, const struct console_view *view)
{
    struct viewer *viewer;
    struct stat status;

    if (console->viewers->len >= CONSOLE_VIEWERS_MAX || fstat(fd, &status) != 0) {
        close(fd);
        return false;
    }
    viewer = g_new0(struct viewer, 1);
    viewer->console = console;
    viewer->view = *view;
    viewer->fd = fd;
    viewer->is_socket = S_ISSOCK(status.st_mode);
    viewer->is_file = S_ISREG(status.st_mode);
    /* What cannot be polled, and what would wait in a read, types nothing. */
    viewer->view.readonly |= viewer->is_file;
    viewer->out = g_byte_array_new();
    viewer->log = log_file_create(fd, view->log);
    if (view->scrollback)
        g_byte_array_append(viewer->out, console->kept->data, console->kept->len);
    g_ptr_array_add(console->viewers, viewer);
    arrange(console);
    return true;
}
