// SPDX-License-Identifier: Apache-2.0
/*
 * The line on stdio: between the vmm, which has one end of a pair of sockets, and everybody who
 * looks at it. What the guest says goes to all viewers, and the last of it is kept for those who
 * come later; what viewers type goes to the guest in the order in which it comes.
 *
 * A patient viewer misses nothing: while it does not read, the guest's line stands still, as a
 * serial line with flow control does. Of what another one does not read in time it misses the
 * oldest, and is told how much.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define CONSOLE_SCROLLBACK  (256U << 10) /* bytes that are kept at least, once there are so many */
#define CONSOLE_VIEWERS_MAX 16

struct console;

struct console *console_create(void);
/* Viewers get what they still lack, as long as they read on. NULL is fine. */
void console_destroy(struct console *console);

/* An end for a vmm, blocking, for the caller; what the one before still had to say is taken first.
 * -1 and CONFIG_ERROR_FAILED on failure. */
int console_plug(struct console *console, GError **error);

struct console_view {
    bool patient;
    bool readonly;   /* what it types is not read */
    bool scrollback; /* what is kept comes first */
    const char *log; /* path of the file that the descriptor is; NULL: it is no log (log_file.h) */
};

/* Let `fd` (taken; a socket, or anything that can be written to) see the line. False, with `fd`
 * closed, when there are too many. */
bool console_attach(struct console *console, int fd, const struct console_view *view);
