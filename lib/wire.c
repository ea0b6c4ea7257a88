// SPDX-License-Identifier: Apache-2.0
/*
 * Lines on their way to and from a machine.
 */
#include "lib/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* On its way out. */
struct wire_line {
    char *text;
    size_t length, sent;
    int fd; /* -1: none, or sent */
};

static void line_free(void *opaque)
{
    struct wire_line *line = opaque;

    if (line->fd >= 0)
        close(line->fd);
    free(line->text);
    g_free(line);
}

void wire_init(struct wire *wire, int fd)
{
    *wire = (struct wire){.fd = fd, .in = g_byte_array_new()};
    g_queue_init(&wire->out);
}

void wire_finish(struct wire *wire)
{
    close(wire->fd);
    g_byte_array_unref(wire->in);
    g_queue_clear_full(&wire->out, line_free);
}

bool wire_queue(struct wire *wire, json_t *message, int fd)
{
    struct wire_line *line = g_new0(struct wire_line, 1);

    line->text = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    line->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (!line->text || (fd >= 0 && line->fd < 0)) {
        line_free(line);
        return false;
    }
    line->length = strlen(line->text) + 1;
    line->text[line->length - 1] = '\n'; /* in place of the terminating zero */
    g_queue_push_tail(&wire->out, line);
    return true;
}

/* One sendmsg, with the descriptor if there is one. */
static ssize_t send_piece(int socket, struct wire_line *line)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec piece = {line->text + line->sent, line->length - line->sent};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    if (line->fd >= 0) {
        struct cmsghdr *part = (struct cmsghdr *)control;

        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(part), &line->fd, sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool is_later(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* A connection that takes no more may still have last words to read. */
static void flush(struct wire *wire)
{
    struct wire_line *line;

    while ((line = g_queue_peek_head(&wire->out))) {
        ssize_t count = send_piece(wire->fd, line);

        if (count < 0 && is_later())
            return;
        if (count < 0) {
            g_queue_clear_full(&wire->out, line_free);
            return;
        }
        if (line->fd >= 0)
            close(line->fd);
        line->fd = -1;
        line->sent += count;
        if (line->sent == line->length)
            line_free(g_queue_pop_head(&wire->out));
    }
}

static void fill(struct wire *wire)
{
    char buffer[16384];
    ssize_t count;

    while (!wire->closed && wire->in->len <= WIRE_LINE_MAX) {
        count = recv(wire->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (count < 0 && is_later())
            return;
        if (count <= 0)
            wire->closed = true;
        else
            g_byte_array_append(wire->in, (guint8 *)buffer, count);
    }
}

void wire_move(struct wire *wire)
{
    flush(wire);
    fill(wire);
}

bool wire_wants_out(const struct wire *wire)
{
    return !g_queue_is_empty((GQueue *)&wire->out);
}

bool wire_wait(const struct wire *wire, gint64 deadline)
{
    struct pollfd wait = {.fd = wire->fd, .events = POLLIN};
    gint64 left = deadline - g_get_monotonic_time();
    int timeout_ms = deadline < 0 ? -1 : CLAMP((left + 999) / 1000, 0, G_MAXINT);

    if (wire_wants_out(wire))
        wait.events |= POLLOUT;
    return poll(&wait, 1, timeout_ms) != 0;
}

/* Nothing of what else has come can be trusted. */
static void give_up(struct wire *wire)
{
    wire->closed = true;
    wire->seen = 0;
    g_byte_array_set_size(wire->in, 0);
}

json_t *wire_take(struct wire *wire)
{
    uint8_t *newline = NULL;
    json_t *message;
    size_t length;

    if (wire->in->len > wire->seen)
        newline = memchr(wire->in->data + wire->seen, '\n', wire->in->len - wire->seen);
    if (!newline) {
        wire->seen = wire->in->len;
        if (wire->seen > WIRE_LINE_MAX)
            give_up(wire);
        return NULL;
    }
    length = newline - wire->in->data;
    message = json_loadb((char *)wire->in->data, length, 0, NULL);
    g_byte_array_remove_range(wire->in, 0, length + 1);
    wire->seen = 0;
    if (json_is_object(message))
        return message;
    json_decref(message);
    give_up(wire);
    return NULL;
}
