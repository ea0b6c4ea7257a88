// SPDX-License-Identifier: Apache-2.0
/*
 * Run the programs of bench/cpu and print for each a line `cpu-programs: NAME CLASS SECONDS
 * CHECKSUM`. SECONDS is the shortest of several runs: what others do on this machine, and what a
 * translator spends on code that it meets for the first time, is left out.
 *
 *     cpu-programs [--seconds SECONDS] [--suffix TEXT] [NAME...]
 *     cpu-programs --list
 *
 * A program runs three times, and again until SECONDS have passed. --suffix is put behind names and
 * classes, for a binary of another kind. --list prints names and classes. What this processor
 * cannot run is left out.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "programs.h"

_Noreturn void fail(const char *what)
{
    fprintf(stderr, "cpu-programs: %s: %s\n", what, strerror(errno));
    exit(1);
}

void fill_random(void *bytes, size_t size, uint64_t seed)
{
    uint8_t *out = bytes;

    for (size_t i = 0; i < size; i++)
        out[i] = next_random(&seed) >> 32;
}

void fill_text(char *bytes, size_t size, uint64_t seed)
{
    static const char *const words[] = {
        "the ",    "guest ", "of ",    "page ", "and ",   "to ",     "a ",     "processor ",
        "writes ", "table ", "reads ", "in ",   "flag ",  "memory ", "which ", "is ",
        "block ",  "then ",  "its ",   "host ", "every ", "word.\n", "if ",    "translated "};

    for (size_t i = 0; i < size;) {
        uint64_t number = next_random(&seed) >> 20;
        /* Words early in the list are more frequent. */
        const char *word = words[(number & 31) * (number >> 5 & 31) * 24 >> 10];

        while (*word && i < size)
            bytes[i++] = *word++;
    }
}

uint64_t hash_bytes(const void *bytes, size_t size)
{
    const uint8_t *in = bytes;
    uint64_t hash = size, word;

    for (; size >= sizeof(word); in += sizeof(word), size -= sizeof(word)) {
        memcpy(&word, in, sizeof(word));
        hash = (hash ^ word) * 0x9e3779b97f4a7c15;
        hash ^= hash >> 29;
    }
    for (; size; in++, size--)
        hash = (hash ^ *in) * 0x100000001b3;
    return hash;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void measure(const struct program *program, double seconds, const char *suffix)
{
    uint64_t checksum = 0;
    double least = 1e9;

    if (program->prepare)
        program->prepare();
    double start = now();
    for (int count = 0; count < 3 || now() - start < seconds; count++) {
        double begin = now();
        uint64_t sum = program->run();
        double taken = now() - begin;

        if (count && sum != checksum) {
            fprintf(stderr, "cpu-programs: %s: another checksum than before\n", program->name);
            exit(1);
        }
        checksum = sum;
        if (taken < least)
            least = taken;
    }
    printf("cpu-programs: %s%s %s%s %.9f %016llx\n", program->name, suffix, program->class, suffix,
           least, (unsigned long long)checksum);
    fflush(stdout);
}

static bool is_possible(const struct program *program)
{
    return !program->possible || program->possible();
}

static bool wanted(const char *name, char **names)
{
    if (!*names)
        return true;
    for (; *names; names++)
        if (!strcmp(name, *names))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    static const struct program *const tables[] = {
        integer_programs, library_programs, vector_programs, memory_programs, system_programs};
    double seconds = 0.25;
    const char *suffix = "";
    char **names = argv + 1;

    if (argc == 2 && !strcmp(argv[1], "--nothing"))
        return 0;
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
            for (const struct program *program = tables[i]; program->name; program++)
                if (is_possible(program))
                    printf("%s %s\n", program->name, program->class);
        return 0;
    }
    for (; names[0] && names[1] && !strncmp(names[0], "--", 2); names += 2) {
        if (!strcmp(names[0], "--seconds"))
            seconds = strtod(names[1], NULL);
        else if (!strcmp(names[0], "--suffix"))
            suffix = names[1];
        else
            break;
    }
    for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
        for (const struct program *program = tables[i]; program->name; program++)
            if (wanted(program->name, names) && is_possible(program))
                measure(program, seconds, suffix);
    return 0;
}
