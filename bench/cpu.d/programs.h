// SPDX-License-Identifier: Apache-2.0
/*
 * The programs of bench/cpu: what runs on the host, in our guest and in QEMU's, from one binary.
 *
 * A program is a fixed piece of work, about 5 ms on a host of 2025, with a checksum of what it
 * worked out, which must be the same everywhere. Each file has those of one subject and lists them
 * in a table that ends with a NULL name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct program {
    const char *name;
    const char *class;
    void (*prepare)(void);  /* may be NULL; once, outside the time */
    uint64_t (*run)(void);  /* the work; its checksum */
    bool (*possible)(void); /* NULL: on every processor */
};

extern const struct program integer_programs[], library_programs[], vector_programs[],
    memory_programs[], system_programs[];

/* A sequence of numbers that look random, the same everywhere. `*state` must not be 0. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Fill `size` bytes with such numbers. */
void fill_random(void *bytes, size_t size, uint64_t seed);

/* Fill `size` bytes with words in sentences, which compress as a text does. */
void fill_text(char *bytes, size_t size, uint64_t seed);

/* A checksum of `size` bytes. */
uint64_t hash_bytes(const void *bytes, size_t size);

/* End the program with what the host said about `what`. */
_Noreturn void fail(const char *what);
