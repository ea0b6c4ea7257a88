// SPDX-License-Identifier: Apache-2.0
/*
 * Copies, fills and searches: the C library's in blocks of all sizes, and the processor's string
 * instructions.
 */
#include <string.h>

#include "programs.h"

#define ROOM (2 << 20)
static uint8_t from[ROOM + 4096], to[ROOM + 4096];

static void prepare_memory(void)
{
    fill_random(from, sizeof(from), 8);
}

/* Through a pointer, so that the compiler puts nothing of its own in its place. */
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void *(*volatile fill)(void *, int, size_t) = memset;
static int (*volatile compare)(const void *, const void *, size_t) = memcmp;
static void *(*volatile search)(const void *, int, size_t) = memchr;
static size_t (*volatile length)(const char *) = strlen;

/* `total` bytes in blocks of `size`, at changing places within 64 KiB where it is small. */
static uint64_t copies(size_t size, size_t total)
{
    size_t window = size < 32768 ? 65536 - size : ROOM - size;

    for (size_t done = 0, at = 0; done < total; done += size) {
        copy(to + at, from + (at & 4095), size);
        at += size + 13;
        if (at > window)
            at &= 63;
    }
    return hash_bytes(to, 65536);
}

static uint64_t run_copy_16(void)
{
    return copies(16, 12 << 20);
}
static uint64_t run_copy_100(void)
{
    return copies(100, 64 << 20);
}
static uint64_t run_copy_1k(void)
{
    return copies(1024, 64 << 20);
}
static uint64_t run_copy_4k(void)
{
    return copies(4096, 128 << 20);
}
static uint64_t run_copy_64k(void)
{
    return copies(65536, 96 << 20);
}
static uint64_t run_copy_1m(void)
{
    return copies(1 << 20, 64 << 20);
}

static uint64_t run_fill(void)
{
    for (int i = 0; i < 40000; i++)
        fill(to + (i & 31) * 64, i, 4096);
    return hash_bytes(to, 65536);
}

static uint64_t run_compare(void)
{
    uint64_t sum = 0;

    memcpy(to, from, 65536);
    to[40000] ^= 1;
    for (int i = 0; i < 4000; i++)
        sum = sum * 3 + (compare(to + i, from + i, 40100 - i) > 0) +
              (compare(to + 32 * i % 30000, from + 32 * i % 30000, 200) == 0);
    return sum;
}

static uint64_t run_search(void)
{
    uint64_t sum = 0;

    memset(to, 'x', 65536);
    to[8000] = 0;
    for (int i = 0; i < 6000; i++)
        sum += length((char *)to + i) + ((uint8_t *)search(to + i % 100, 0, 65536) - to);
    return sum;
}

static uint64_t run_rep_movsb(void)
{
    for (int i = 0; i < 30000; i++) {
        void *target = to + (i & 15) * 4096;
        const void *source = from + (i & 7) * 100;
        size_t count = 4096;

        __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
    }
    return hash_bytes(to, 65536);
}

static uint64_t run_rep_movsq(void)
{
    for (int i = 0; i < 40000; i++) {
        void *target = to + (i & 63) * 512;
        const void *source = from + (i & 7) * 128;
        size_t count = 64;

        __asm__ volatile("rep movsl" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
    }
    return hash_bytes(to, 65536);
}

static uint64_t run_rep_stos(void)
{
    for (int i = 0; i < 30000; i++) {
        void *target = to + (i & 15) * 4096;
        size_t count = 1024;

        __asm__ volatile("rep stosl" : "+D"(target), "+c"(count) : "a"(i) : "memory");
    }
    return hash_bytes(to, 65536);
}

static uint64_t run_rep_scan(void)
{
    uint64_t sum = 0;

    memset(to, 7, 4096);
    memset(from, 7, 4096);
    to[4000] = 0;
    for (int i = 0; i < 10000; i++) {
        void *target = to;
        const void *source = from;
        size_t count = 4096;

        __asm__ volatile("repe cmpsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory", "cc");
        sum += count;
        target = to + i;
        count = 4096;
        __asm__ volatile("repne scasb" : "+D"(target), "+c"(count) : "a"(0) : "memory", "cc");
        sum += count;
    }
    fill_random(from, 4096, 8);
    return sum;
}

const struct program memory_programs[] = {
    {"memcpy-16", "string", prepare_memory, run_copy_16},
    {"memcpy-100", "string", prepare_memory, run_copy_100},
    {"memcpy-1k", "string", prepare_memory, run_copy_1k},
    {"memcpy-4k", "string", prepare_memory, run_copy_4k},
    {"memcpy-64k", "string", prepare_memory, run_copy_64k},
    {"memcpy-1m", "string", prepare_memory, run_copy_1m},
    {"memset-4k", "string", prepare_memory, run_fill},
    {"memcmp", "string", prepare_memory, run_compare},
    {"strlen-memchr", "string", prepare_memory, run_search},
    {"rep-movsb", "string", prepare_memory, run_rep_movsb},
    {"rep-movsl", "string", prepare_memory, run_rep_movsq},
    {"rep-stosl", "string", prepare_memory, run_rep_stos},
    {"rep-cmps-scas", "string", prepare_memory, run_rep_scan},
    {NULL, NULL, NULL, NULL},
};
