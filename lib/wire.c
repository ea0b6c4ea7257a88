// SPDX-License-Identifier: Apache-2.0
/*
 * Reading and writing lines with a deadline.
 */
#include "lib/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void wire_init(struct wire *wire, int fd)
{
    wire->fd = fd;
    wire->in = g_byte_array_new();
}

void wire_finish(struct wire *wire)
{
    close(wire->fd);
    g_byte_array_unref(wire->in);
}

/* One sendmsg, with the descriptor if there is one. */
static ssize_t send_piece(int socket, const char *text, size_t length, int fd)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec piece = {.iov_base = (char *)text, .iov_len = length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    if (fd >= 0) {
        struct cmsghdr *part = (struct cmsghdr *)control;

        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(part), &fd, sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

bool wire_send(struct wire *wire, json_t *message, int fd)
{
    char *text = json_dumps(message, JSON_COMPACT);
    size_t length = strlen(text), sent = 0;

    json_decref(message);
    text[length++] = '\n'; /* in place of the terminating zero */
    while (sent < length) {
        ssize_t count = send_piece(wire->fd, text + sent, length - sent, fd);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            break;
        sent += count;
        fd = -1;
    }
    free(text);
    return sent == length;
}

/* Cut the first line off the buffer. NULL when there is none. */
static bool take_line(struct wire *wire, json_t **message)
{
    uint8_t *newline = NULL;
    size_t length;

    if (wire->in->len)
        newline = memchr(wire->in->data, '\n', wire->in->len);
    if (!newline)
        return false;
    length = newline - wire->in->data;
    *message = json_loadb((char *)wire->in->data, length, 0, NULL);
    g_byte_array_remove_range(wire->in, 0, length + 1);
    return true;
}

/* Wait for bytes and read them. 1: some came; 0: time is up; -1: closed. */
static int fill(struct wire *wire, gint64 deadline)
{
    struct pollfd wait = {.fd = wire->fd, .events = POLLIN};
    char buffer[16384];
    gint64 left = deadline - g_get_monotonic_time();
    int timeout_ms = deadline < 0 ? -1 : CLAMP((left + 999) / 1000, 0, G_MAXINT);
    int ready = poll(&wait, 1, timeout_ms);
    ssize_t count;

    if (ready == 0)
        return 0;
    count = ready < 0 ? -1 : recv(wire->fd, buffer, sizeof(buffer), 0);
    if (count < 0 && errno == EINTR)
        return 1;
    if (count <= 0 || wire->in->len + count > WIRE_LINE_MAX)
        return -1;
    g_byte_array_append(wire->in, (guint8 *)buffer, count);
    return 1;
}

enum wire_result wire_receive(struct wire *wire, gint64 deadline, json_t **message)
{
    while (!take_line(wire, message)) {
        int got = fill(wire, deadline);

        if (got == 0)
            return WIRE_TIMEOUT;
        if (got < 0)
            return WIRE_CLOSED;
    }
    if (json_is_object(*message))
        return WIRE_MESSAGE;
    json_decref(*message);
    return WIRE_CLOSED;
}
