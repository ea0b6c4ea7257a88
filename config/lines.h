// SPDX-License-Identifier: Apache-2.0
/*
 * The character lines of a machine: the serial port, the virtio console and its named ports, each
 * with the place that it leads to. The monitor opens the places, the vmm takes them in the same
 * order.
 */
#pragma once

#include "config/definition.h"
#include "config/limits.h"

#define LINES_MAX (2 + CONFIG_PORTS_MAX)

enum line_kind {
    LINE_SERIAL,
    LINE_CONSOLE,
    LINE_PORT,
};

enum line_place {
    LINE_STDIO,  /* the terminal of the command that runs the machine */
    LINE_PTY,    /* a new pseudo-terminal */
    LINE_FILE,   /* output only */
    LINE_SOCKET, /* one client at a time */
};

struct line {
    enum line_kind kind;
    enum line_place place;
    const char *name; /* "serial", "console", or the port's */
    const char *path; /* FILE and SOCKET; lives as long as the definition's value */
};

/* The lines of a definition that passed definition_check, but those that lead nowhere; their number
 * is returned. */
unsigned definition_lines(const struct definition *definition, struct line lines[LINES_MAX]);

/* What of the lines does not fit together; the message names the option. For definition_check. */
bool definition_check_lines(const struct definition *definition, GError **error);
