// SPDX-License-Identifier: Apache-2.0
/* Functions that a payload writes by itself. */
#pragma once

#include <stdint.h>

#define CODE_FUNCTION_SIZE 6

/* Write, byte after byte, a function that returns the value: mov $VALUE, %eax; ret */
static inline void write_function(volatile uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    at[1] = value;
    at[2] = value >> 8;
    at[3] = value >> 16;
    at[4] = value >> 24;
    at[5] = 0xc3;
}

static inline uint32_t call(void *at)
{
    return ((uint32_t(*)(void))at)();
}
