// SPDX-License-Identifier: Apache-2.0
/* Guest memory for tests and fuzzers that make a machine, or part of one, in their own process. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/memory/memory.h"

/* Add `size` bytes of zeros at guest-physical `base`. Returns where they lie in this process; ends
 * it where the host has no memory. */
static inline uint8_t *test_memory_add(struct memory *memory, enum memory_kind kind, uint64_t base,
                                       uint64_t size)
{
    GError *error = NULL;
    int fd = memory_memfd("test", size, &error);

    if (fd < 0 ||
        !memory_add(memory, kind == MEMORY_RAM ? "ram" : "rom", kind, base, size, fd, 0, &error)) {
        fprintf(stderr, "no guest memory for the test: %s\n", error->message);
        exit(2);
    }
    close(fd);
    return memory_find(memory, base)->host;
}
