// SPDX-License-Identifier: Apache-2.0
/*
 * Opening disks on behalf of the vmm, and keeping others from them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/definition.h"

/* Open and lock disk `index` of the definition. The lock belongs to the open file, so it lasts
 * until the last duplicate of the descriptor is closed, in whatever process. -1 and
 * CONFIG_ERROR_FAILED on error; the file is as it was then. */
int disk_open(const struct definition *definition, unsigned index, GError **error);

/* Lock the open file `fd` for reading, and for writing unless `readonly`, against other machines
 * and QEMU. `path` is for messages, which name the process that has it. */
bool disk_lock(int fd, const char *path, bool readonly, GError **error);
