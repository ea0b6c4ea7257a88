// SPDX-License-Identifier: Apache-2.0
/*
 * What hostile payloads share: random numbers from a seed. Their command line is "MODE SEED
 * ROUNDS".
 */
#pragma once

#include "payload.h"

static uint64_t random_state;

static inline uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Mostly numbers that mean something: small, all ones, single bits, addresses. */
static inline uint64_t odd_value(void)
{
    switch (random64() % 8) {
    case 0:
        return random64() % 16;
    case 1:
        return ~0UL;
    case 2:
        return 1UL << random64() % 64;
    case 3:
        return 0xfee00000 + (random64() & 0xfffff);
    case 4:
        return random64() & 0xffff;
    case 5:
        return 0;
    default:
        return random64();
    }
}

static inline uint64_t number(const char **text)
{
    uint64_t value = 0;

    while (**text == ' ')
        (*text)++;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        value = value * 10 + **text - '0';
    return value;
}

/* Start the random numbers with the seed; the number of rounds is returned. */
static inline unsigned hostile_begin(const char *cmdline)
{
    while (*cmdline && *cmdline != ' ')
        cmdline++;
    random_state = number(&cmdline) * 0x9e3779b97f4a7c15 + 1;
    return number(&cmdline);
}
