// SPDX-License-Identifier: Apache-2.0
/* Copying an image in steps: what it does not occupy is not written. Private to libanima. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct copy {
    int from, to;   /* open files; the copy's is new and empty */
    uint64_t size;  /* bytes of the source */
    uint64_t place; /* bytes that are done */
};

/* Begin a copy of the open file `from`, `size` bytes long, to `to`; neither is closed at the end.
 * Where the file system can share blocks it is done at once. */
void copy_begin(struct copy *copy, int from, int to, uint64_t size);

/* Go on for a moment: 1 while there is more, 0 when it is whole, -1 with errno; EIO when the source
 * has become shorter. */
int copy_step(struct copy *copy);
