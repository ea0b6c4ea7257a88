// SPDX-License-Identifier: Apache-2.0
/*
 * A machine's serial line on standard input and output: bytes both ways, until the line closes or
 * the user leaves with Ctrl-]. Nothing here waits; the caller polls.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#define CONSOLE_ESCAPE 0x1d /* Ctrl-] */
#define CONSOLE_POLLS  4

struct console_buffer {
    char bytes[4096];
    size_t start, end; /* what is still to be written */
};

struct console {
    int line;                         /* socket to the machine; -1: no serial line here */
    bool terminal;                    /* input is a terminal: Ctrl-] leaves */
    bool input_open, line_open, left; /* left: Ctrl-] was pressed */
    struct console_buffer to_line, to_output;
};

/* Takes `line`. */
void console_init(struct console *console, int line);
/* Closes the line. */
void console_finish(struct console *console);

/* Fill `polls` with what the console waits for. */
void console_prepare(const struct console *console, struct pollfd polls[CONSOLE_POLLS]);
/* Move the bytes that can be moved now. */
void console_move(struct console *console, const struct pollfd polls[CONSOLE_POLLS]);

/* Once the machine has ended: write what it still had to say, for at most `timeout_ms` without
 * progress. */
void console_drain(struct console *console, int timeout_ms);
