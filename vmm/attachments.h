// SPDX-License-Identifier: Apache-2.0
/*
 * The descriptors that came with "start", sorted by what they are for, and the character devices
 * made of some of them.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "config/definition.h"
#include "config/lines.h"
#include "vmm/machine/machine.h"

struct attachments {
    int kernel, initrd, gdb, kvm; /* -1: none */
    int modules[MACHINE_MODULES_MAX];
    unsigned module_count;
    /* As definition_lines lists them. */
    int line_fds[LINES_MAX]; /* -1 once the character device has it */
    struct chardev *lines[LINES_MAX];
    unsigned line_count;
    struct chardev *debug_console;
};

/* Take all `fds`, whose uses the JSON list `names` tells. False when they do not fit together or
 * do not fit `definition`. */
bool attachments_take(struct attachments *attachments, const struct definition *definition,
                      const json_t *names, int *fds, unsigned count, GError **error);

/* Make the character devices; starts their threads. */
bool attachments_open_lines(struct attachments *attachments, const struct definition *definition,
                            GError **error);

/* Close everything. */
void attachments_finish(struct attachments *attachments);
