// SPDX-License-Identifier: Apache-2.0
/*
 * Tables that are as large as they may ever have to be, of which only what is touched takes memory.
 */
#pragma once

#include <stddef.h>
#include <sys/mman.h>

/* `size` bytes of zeros; NULL when the host has no such addresses. Any thread. */
static inline void *sparse_create(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

/* With the same size. NULL is allowed. */
static inline void sparse_destroy(void *memory, size_t size)
{
    if (memory)
        munmap(memory, size);
}
