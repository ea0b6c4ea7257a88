// SPDX-License-Identifier: Apache-2.0
/*
 * The socket and the machine on either side of a debugger's session.
 *
 * The connection never blocks: what does not go out at once waits in a queue, and a debugger that
 * does not read is cut off when that is full.
 */
#include "vmm/control/gdb.h"

#include "vmm/control/gdb_session.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/socket.h>
#include <unistd.h>

/* Far more than a debugger leaves unread. */
#define QUEUE_MAX (1UL << 20)

struct gdb_server {
    struct machine *machine;
    int listen_fd;
    GSource *listen_source;

    int fd; /* of the connection; -1: none */
    GSource *input, *output;
    GByteArray *queue;
    struct gdb_session *session;
};

static GSource *watch(int fd, GIOCondition condition, GUnixFDSourceFunc function, void *opaque)
{
    GSource *source = g_unix_fd_source_new(fd, condition);

    g_source_set_callback(source, G_SOURCE_FUNC(function), opaque, NULL);
    g_source_attach(source, g_main_context_get_thread_default());
    return source;
}

static void unwatch(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_source_unref(*source);
    *source = NULL;
}

/* ---- the machine as a target ---- */

static void target_pause(void *opaque)
{
    struct gdb_server *server = opaque;

    machine_pause(server->machine);
}

static bool target_resume(void *opaque)
{
    struct gdb_server *server = opaque;

    return machine_resume(server->machine);
}

static void target_hold(void *opaque, unsigned cpu, bool hold)
{
    struct gdb_server *server = opaque;

    machine_hold(server->machine, cpu, hold);
}

static void target_get_state(void *opaque, unsigned cpu, struct cpu_state *state)
{
    struct gdb_server *server = opaque;

    machine_engine(server->machine)->vcpu_get_state(machine_vcpu(server->machine, cpu), state);
}

static bool target_set_state(void *opaque, unsigned cpu, const struct cpu_state *state)
{
    struct gdb_server *server = opaque;

    return machine_engine(server->machine)
        ->vcpu_set_state(machine_vcpu(server->machine, cpu), state, NULL);
}

static bool target_set_debug(void *opaque, unsigned cpu, const struct vcpu_debug *debug)
{
    struct gdb_server *server = opaque;

    return machine_engine(server->machine)
        ->vcpu_set_debug(machine_vcpu(server->machine, cpu), debug, NULL);
}

static bool target_translate(void *opaque, unsigned cpu, uint64_t linear, uint64_t *physical)
{
    struct gdb_server *server = opaque;

    return machine_engine(server->machine)
        ->vcpu_translate(machine_vcpu(server->machine, cpu), linear, physical);
}

static void target_kill(void *opaque)
{
    struct gdb_server *server = opaque;

    machine_stop(server->machine);
}

/* ---- the connection ---- */

/* Write what the socket takes; false when the connection is broken. */
static bool flush(struct gdb_server *server)
{
    while (server->queue->len) {
        ssize_t sent = send(server->fd, server->queue->data, server->queue->len, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        g_byte_array_remove_range(server->queue, 0, (guint)sent);
    }
    return true;
}

static void disconnect(struct gdb_server *server)
{
    unwatch(&server->input);
    unwatch(&server->output);
    g_clear_pointer(&server->session, gdb_session_destroy);
    g_byte_array_set_size(server->queue, 0);
    if (server->fd >= 0)
        close(server->fd);
    server->fd = -1;
}

/* The debugger did not say good-bye. */
static void lose(struct gdb_server *server)
{
    struct gdb_session *session = server->session;

    gdb_session_leave(session);
    /* Leaving may have ended the machine, and the session with it. */
    if (server->session == session)
        disconnect(server);
}

static gboolean output_ready(int fd, GIOCondition condition, void *opaque)
{
    struct gdb_server *server = opaque;

    if (!flush(server)) {
        lose(server);
        return G_SOURCE_REMOVE;
    }
    if (server->queue->len)
        return G_SOURCE_CONTINUE;
    unwatch(&server->output);
    return G_SOURCE_REMOVE;
}

/* A broken or full connection is noticed by its reader: shut down, it reads the end. */
static void target_send(void *opaque, const void *data, size_t size)
{
    struct gdb_server *server = opaque;

    if (server->queue->len + size > QUEUE_MAX) {
        shutdown(server->fd, SHUT_RDWR);
        return;
    }
    g_byte_array_append(server->queue, data, (guint)size);
    if (!flush(server))
        shutdown(server->fd, SHUT_RDWR);
    else if (server->queue->len && !server->output)
        server->output = watch(server->fd, G_IO_OUT, output_ready, server);
}

static gboolean input_ready(int fd, GIOCondition condition, void *opaque)
{
    struct gdb_server *server = opaque;
    uint8_t bytes[4096];
    ssize_t got = recv(fd, bytes, sizeof(bytes), 0);

    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return G_SOURCE_CONTINUE;
    if (got <= 0) {
        lose(server);
        return G_SOURCE_REMOVE;
    }
    if (gdb_session_feed(server->session, bytes, (size_t)got))
        return G_SOURCE_CONTINUE;
    disconnect(server);
    return G_SOURCE_REMOVE;
}

static void debugger_stopped(void *opaque, unsigned cpu)
{
    struct gdb_server *server = opaque;

    if (server->session)
        gdb_session_stopped(server->session, cpu);
}

static void connected(struct gdb_server *server, int fd)
{
    struct gdb_target target = {
        .cpus = machine_cpus(server->machine),
        .memory = machine_memory(server->machine),
        .pause = target_pause,
        .resume = target_resume,
        .hold = target_hold,
        .get_state = target_get_state,
        .set_state = target_set_state,
        .set_debug = target_set_debug,
        .translate = target_translate,
        .kill = target_kill,
        .send = target_send,
        .opaque = server,
    };

    server->fd = fd;
    server->session = gdb_session_create(&target);
    server->input = watch(fd, G_IO_IN | G_IO_HUP | G_IO_ERR, input_ready, server);
}

static gboolean listener_ready(int fd, GIOCondition condition, void *opaque)
{
    struct gdb_server *server = opaque;
    int connection = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (connection < 0)
        return G_SOURCE_CONTINUE;
    if (server->session)
        close(connection);
    else
        connected(server, connection);
    return G_SOURCE_CONTINUE;
}

struct gdb_server *gdb_server_create(struct machine *machine, int fd)
{
    struct gdb_server *server = g_new0(struct gdb_server, 1);

    server->machine = machine;
    server->listen_fd = fd;
    server->fd = -1;
    server->queue = g_byte_array_new();
    gdb_server_admit(server, true);
    machine_set_debugger(machine, debugger_stopped, server);
    return server;
}

void gdb_server_destroy(struct gdb_server *server)
{
    if (!server)
        return;
    machine_set_debugger(server->machine, NULL, NULL);
    disconnect(server);
    unwatch(&server->listen_source);
    close(server->listen_fd);
    g_byte_array_unref(server->queue);
    g_free(server);
}

void gdb_server_admit(struct gdb_server *server, bool admit)
{
    if (!admit)
        unwatch(&server->listen_source);
    else if (!server->listen_source)
        server->listen_source = watch(server->listen_fd, G_IO_IN, listener_ready, server);
}

bool gdb_server_is_connected(const struct gdb_server *server)
{
    return server->fd >= 0;
}

void gdb_server_ended(struct gdb_server *server, int status)
{
    if (server->session)
        gdb_session_ended(server->session, status);
}
