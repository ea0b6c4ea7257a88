// SPDX-License-Identifier: Apache-2.0
/*
 * The pump between the terminal and the serial line. Standard input and output keep their flags,
 * which other processes share: poll(2) comes before each read and write, and a write is one that
 * a ready descriptor takes without waiting long.
 */
#include "cli/console.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { POLL_INPUT, POLL_LINE_IN, POLL_LINE_OUT, POLL_OUTPUT };

#define OUTPUT_PIECE 512 /* bytes that a writable pipe or terminal takes */

void console_init(struct console *console, int line)
{
    memset(console, 0, sizeof(*console));
    console->line = line;
    console->line_open = line >= 0;
    console->terminal = isatty(STDIN_FILENO);
    console->input_open = line >= 0 || console->terminal;
}

void console_finish(struct console *console)
{
    if (console->line >= 0)
        close(console->line);
    console->line = -1;
}

static bool is_empty(const struct console_buffer *buffer)
{
    return buffer->start == buffer->end;
}

static struct pollfd when(bool wanted, int fd, short events)
{
    return (struct pollfd){.fd = wanted ? fd : -1, .events = events};
}

void console_prepare(const struct console *console, struct pollfd polls[CONSOLE_POLLS])
{
    bool line = console->line_open, wanted = line && is_empty(&console->to_line);

    /* A terminal is watched in any case: when it goes, so does the machine. */
    polls[POLL_INPUT] = when(console->input_open && (console->terminal || wanted), STDIN_FILENO,
                             wanted ? POLLIN : 0);
    polls[POLL_LINE_IN] = when(line && is_empty(&console->to_output), console->line, POLLIN);
    polls[POLL_LINE_OUT] = when(line && !is_empty(&console->to_line), console->line, POLLOUT);
    polls[POLL_OUTPUT] = when(!is_empty(&console->to_output), STDOUT_FILENO, POLLOUT);
}

/* Read into an empty buffer; false at the end of the stream. */
static bool fill(struct console_buffer *buffer, int fd)
{
    ssize_t count = read(fd, buffer->bytes, sizeof(buffer->bytes));

    buffer->start = buffer->end = 0;
    if (count < 0)
        return errno == EINTR || errno == EAGAIN;
    buffer->end = count;
    return count > 0;
}

/* The end of input: of a pipe, which is no reason to end, or of the terminal, which is. */
static void lose_input(struct console *console)
{
    console->input_open = false;
    console->left |= console->terminal;
}

static void take_input(struct console *console)
{
    struct console_buffer *buffer = &console->to_line;
    char *escape;

    if (!fill(buffer, STDIN_FILENO))
        lose_input(console);
    escape = console->terminal ? memchr(buffer->bytes, CONSOLE_ESCAPE, buffer->end) : NULL;
    if (!escape)
        return;
    console->left = true;
    buffer->end = escape - buffer->bytes;
}

static void empty_to_line(struct console *console)
{
    struct console_buffer *buffer = &console->to_line;
    ssize_t count = send(console->line, buffer->bytes + buffer->start, buffer->end - buffer->start,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

    if (count > 0)
        buffer->start += count;
    else if (errno != EAGAIN && errno != EINTR)
        buffer->start = buffer->end;
}

/* Output that nobody takes any more is dropped: the machine goes on. */
static void empty_to_output(struct console *console)
{
    struct console_buffer *buffer = &console->to_output;
    size_t length = buffer->end - buffer->start;
    ssize_t count = write(STDOUT_FILENO, buffer->bytes + buffer->start,
                          length < OUTPUT_PIECE ? length : OUTPUT_PIECE);

    if (count > 0)
        buffer->start += count;
    else if (errno != EAGAIN && errno != EINTR)
        buffer->start = buffer->end;
}

void console_move(struct console *console, const struct pollfd polls[CONSOLE_POLLS])
{
    if (polls[POLL_INPUT].revents & POLLIN)
        take_input(console);
    else if (polls[POLL_INPUT].revents)
        lose_input(console);
    if (polls[POLL_LINE_IN].revents && !fill(&console->to_output, console->line))
        console->line_open = false;
    if (polls[POLL_LINE_OUT].revents)
        empty_to_line(console);
    if (polls[POLL_OUTPUT].revents)
        empty_to_output(console);
}

void console_drain(struct console *console, int timeout_ms)
{
    struct pollfd polls[CONSOLE_POLLS];

    console->input_open = false;
    console->to_line.start = console->to_line.end;
    while (console->line_open || !is_empty(&console->to_output)) {
        console_prepare(console, polls);
        if (poll(polls, CONSOLE_POLLS, timeout_ms) <= 0)
            return;
        console_move(console, polls);
    }
}
