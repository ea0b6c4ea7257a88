// SPDX-License-Identifier: Apache-2.0
/*
 * Random operands, with a bias to edges: sign bits, carries, and the classes of floating-point
 * numbers.
 */
#include <string.h>

#include "tests/diff/diff.h"

void random_seed(struct diff_random *random, uint64_t seed, uint64_t number)
{
    random->state = seed * 0x9e3779b97f4a7c15 + number * 0xd1342543de82ef95 + 1;
    random_bits(random);
    random_bits(random);
}

/* splitmix64 */
uint64_t random_bits(struct diff_random *random)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

unsigned random_below(struct diff_random *random, unsigned bound)
{
    return (unsigned)((random_bits(random) >> 32) * bound >> 32);
}

uint64_t random_integer(struct diff_random *random)
{
    static const uint64_t edges[] = {
        0,
        1,
        2,
        -1UL,
        -2UL,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        1UL << 32,
        0x7fffffffffffffff,
        1UL << 63,
        0x8080808080808080,
        0x7fff7fff7fff7fff,
        0x0f0f0f0f0f0f0f0f,
    };

    switch (random_below(random, 8)) {
    case 0:
    case 1:
        return edges[random_below(random, G_N_ELEMENTS(edges))];
    case 2:
        return random_below(random, 256);
    case 3:
        return -(uint64_t)random_below(random, 256);
    case 4:
        return 1UL << random_below(random, 64);
    case 5:
        return random_bits(random) >> random_below(random, 64);
    default:
        return random_bits(random);
    }
}

static uint32_t random_single(struct diff_random *random)
{
    static const uint32_t edges[] = {
        0,          0x3f800000, 0x40000000, 0x3f000000, 0x7f800000, 0x7fc00000, 0x7f800001,
        0x7fffffff, 0x00000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0x5f000000,
        0x4b000000, 0x3effffff, 0x33800000, 0x477fe000, 0x387fc000, 0x7fbfffff,
    };
    uint32_t sign = (uint32_t)random_bits(random) & 0x80000000;

    switch (random_below(random, 4)) {
    case 0:
        return sign | edges[random_below(random, G_N_ELEMENTS(edges))];
    case 1: /* near one */
        return sign | (0x3f800000 + (uint32_t)(random_below(random, 64) - 32) * 0x40000);
    case 2:
        return sign | (0x3f800000 + (random_below(random, 0x10000000) - 0x8000000));
    default:
        return (uint32_t)random_bits(random);
    }
}

static uint64_t random_double(struct diff_random *random)
{
    static const uint64_t edges[] = {
        0,
        0x3ff0000000000000,
        0x4000000000000000,
        0x3fe0000000000000,
        0x7ff0000000000000,
        0x7ff8000000000000,
        0x7ff0000000000001,
        0x7fffffffffffffff,
        0x0000000000000001,
        0x000fffffffffffff,
        0x0010000000000000,
        0x7fefffffffffffff,
        0x41e0000000000000,
        0x43e0000000000000,
        0x4330000000000000,
        0x3fdfffffffffffff,
        0x36a0000000000000,
        0x47efffffe0000000,
        0x380fffffc0000000,
        0x3690000000000000,
    };
    uint64_t sign = random_bits(random) & 1UL << 63;

    switch (random_below(random, 4)) {
    case 0:
        return sign | edges[random_below(random, G_N_ELEMENTS(edges))];
    case 1:
        return sign | (0x3ff0000000000000 + (uint64_t)random_below(random, 64) * 0x800000000000);
    case 2: /* about the range of single precision */
        return sign | ((0x380UL - 32 + random_below(random, 0x140)) << 52) |
               random_bits(random) >> 12;
    default:
        return random_bits(random);
    }
}

void random_vector(struct diff_random *random, uint8_t out[32])
{
    unsigned kind = random_below(random, 4);

    for (unsigned i = 0; i < 32; i += 8) {
        uint64_t value;

        if (kind == 0)
            value = random_single(random) | (uint64_t)random_single(random) << 32;
        else if (kind == 1)
            value = random_double(random);
        else
            value = kind == 2 ? random_integer(random) : random_bits(random);
        memcpy(out + i, &value, 8);
    }
}

void random_x87(struct diff_random *random, uint8_t out[10])
{
    uint64_t mantissa = random_bits(random);
    uint16_t exponent = (uint16_t)(0x3fff - 64 + random_below(random, 128));

    switch (random_below(random, 12)) {
    case 0: /* zero, or a denormal */
        exponent = 0;
        mantissa = random_below(random, 2) ? 0 : mantissa >> 1;
        break;
    case 1: /* infinity, not-a-numbers, and encodings that are none */
        exponent = 0x7fff;
        mantissa = random_below(random, 2) ? 1UL << 63 : mantissa;
        break;
    case 2: /* a pseudo-denormal */
        exponent = 0;
        mantissa |= 1UL << 63;
        break;
    case 3: /* an unnormal */
        mantissa &= ~(1UL << 63);
        break;
    case 4:
        exponent = 0x3fff;
        mantissa = 1UL << 63;
        break;
    case 5: /* a small integer */
        exponent = (uint16_t)(0x3fff + random_below(random, 70));
        mantissa = 1UL << 63 | (mantissa & ~0UL << 56);
        break;
    case 6:
        exponent = (uint16_t)random_bits(random) & 0x7fff;
        mantissa |= 1UL << 63;
        break;
    case 7: /* either end of the range */
        exponent = (uint16_t)(random_below(random, 2) ? 1 + random_below(random, 70)
                                                      : 0x7ffe - random_below(random, 70));
        mantissa |= 1UL << 63;
        break;
    default:
        mantissa |= 1UL << 63;
        break;
    }
    exponent |= (uint16_t)(random_below(random, 2) << 15);
    memcpy(out, &mantissa, 8);
    memcpy(out + 8, &exponent, 2);
}

/* Memory: all of the above side by side. */
void random_fill(struct diff_random *random, uint8_t *out, unsigned size)
{
    static uint8_t pool[1 << 16];
    static bool filled;

    if (!filled) {
        struct diff_random own = {.state = 1};

        for (unsigned i = 0; i < sizeof(pool); i += 32)
            random_vector(&own, pool + i);
        for (unsigned i = 0; i + 10 < sizeof(pool); i += 512)
            random_x87(&own, pool + i);
        filled = true;
    }
    memcpy(out, pool + random_below(random, (unsigned)sizeof(pool) - size) / 32 * 32, size);
}
