// SPDX-License-Identifier: Apache-2.0
/*
 * Floating point and SIMD: a product of matrices of doubles in scalar code, SSE2, AVX2 and AVX-512,
 * bodies that attract each other (division, square root), integer SIMD, and the x87.
 */
#include <immintrin.h>
#include <string.h>

#include "programs.h"

#define SIZE 112
static double left[SIZE][SIZE], right[SIZE][SIZE], product[SIZE][SIZE];

static void prepare_matrices(void)
{
    uint64_t state = 31;

    for (int i = 0; i < SIZE * SIZE; i++) {
        (&left[0][0])[i] = (double)(next_random(&state) >> 40) / 1000;
        (&right[0][0])[i] = (double)(next_random(&state) >> 40) / 3000;
    }
}

static uint64_t run_scalar(void)
{
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) {
                double sum = 0;

                for (int k = 0; k < SIZE; k++)
                    sum += left[i][k] * right[k][j];
                product[i][j] = sum;
            }
    return hash_bytes(product, sizeof(product));
}

/* Each element is the same sum in the same order in all of them, so the checksums are the same. */
__attribute__((target("sse2"))) static uint64_t run_sse2(void)
{
    for (int round = 0; round < 8; round++)
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j += 4) {
                __m128d low = _mm_setzero_pd(), high = _mm_setzero_pd();

                for (int k = 0; k < SIZE; k++) {
                    __m128d factor = _mm_set1_pd(left[i][k]);

                    low = _mm_add_pd(low, _mm_mul_pd(factor, _mm_loadu_pd(&right[k][j])));
                    high = _mm_add_pd(high, _mm_mul_pd(factor, _mm_loadu_pd(&right[k][j + 2])));
                }
                _mm_storeu_pd(&product[i][j], low);
                _mm_storeu_pd(&product[i][j + 2], high);
            }
    return hash_bytes(product, sizeof(product));
}

static uint64_t run_float(void)
{
    static float x[4096], y[4096];
    uint64_t state = 9;
    float sum = 0;

    for (int i = 0; i < 4096; i++) {
        x[i] = (float)(next_random(&state) >> 44) / 7;
        y[i] = (float)(next_random(&state) >> 44) / 9;
    }
    for (int round = 0; round < 5000; round++)
        for (int i = 0; i < 4096; i += 8) {
            __m128 a = _mm_loadu_ps(x + i), b = _mm_loadu_ps(y + i);
            __m128 c = _mm_loadu_ps(x + i + 4), d = _mm_loadu_ps(y + i + 4);

            a = _mm_sub_ps(_mm_mul_ps(a, _mm_set1_ps(0.75F)), _mm_mul_ps(b, _mm_set1_ps(0.25F)));
            c = _mm_max_ps(_mm_add_ps(c, d), _mm_shuffle_ps(a, d, 0x1b));
            _mm_storeu_ps(x + i, a);
            _mm_storeu_ps(y + i + 4, _mm_mul_ps(c, _mm_set1_ps(0.5F)));
        }
    for (int i = 0; i < 4096; i++)
        sum += x[i] - y[i];
    return hash_bytes(&sum, sizeof(sum));
}

/* Sums of absolute differences, shuffles and multiplications of small integers. */
static uint64_t run_bytes(void)
{
    static uint8_t a[65536], b[65536];
    __m128i sum = _mm_setzero_si128(), mixed = _mm_set1_epi16(3);

    fill_random(a, sizeof(a), 40);
    fill_random(b, sizeof(b), 41);
    for (int round = 0; round < 200; round++)
        for (size_t i = 0; i < sizeof(a); i += 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)(a + i));
            __m128i y = _mm_loadu_si128((const __m128i *)(b + i));

            sum = _mm_add_epi64(sum, _mm_sad_epu8(x, y));
            mixed = _mm_add_epi16(_mm_mullo_epi16(mixed, _mm_unpacklo_epi8(x, y)),
                                  _mm_packus_epi16(_mm_srli_epi16(x, 3), y));
        }
    sum = _mm_add_epi64(sum, mixed);
    return hash_bytes(&sum, sizeof(sum));
}

static double square_root(double x)
{
    __m128d value = _mm_set_sd(x);

    return _mm_cvtsd_f64(_mm_sqrt_sd(value, value));
}

static uint64_t run_bodies(void)
{
    double at[5][3], speed[5][3] = {{0}}, mass[5];

    for (int i = 0; i < 5; i++) {
        mass[i] = 1.0 / (i + 1);
        for (int k = 0; k < 3; k++)
            at[i][k] = (i * 7 + k * 3) % 11 + 0.25 * i;
    }
    for (int step = 0; step < 30000; step++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], square = 0.01;

                for (int k = 0; k < 3; k++) {
                    d[k] = at[i][k] - at[j][k];
                    square += d[k] * d[k];
                }
                double pull = 0.001 / (square * square_root(square));
                for (int k = 0; k < 3; k++) {
                    speed[i][k] -= d[k] * mass[j] * pull;
                    speed[j][k] += d[k] * mass[i] * pull;
                }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++)
                at[i][k] += 0.001 * speed[i][k];
    }
    return hash_bytes(at, sizeof(at));
}

/* Points of the Mandelbrot set: comparisons of doubles and branches by them. */
static uint64_t run_mandelbrot(void)
{
    uint64_t sum = 0;

    for (int y = 0; y < 80; y++)
        for (int x = 0; x < 80; x++) {
            double re = x / 32.0 - 2, im = y / 32.0 - 1.25, a = 0, b = 0;
            int count = 0;

            while (a * a + b * b < 4 && count < 300) {
                double next = a * a - b * b + re;

                b = 2 * a * b + im;
                a = next;
                count++;
            }
            sum = sum * 3 + count;
        }
    return sum;
}

static uint64_t run_x87(void)
{
    long double x = 1, sum = 0;

    for (int i = 1; i < 500000; i++) {
        x = x * 0.999L + 1.0L / i;
        sum += x * x - (long double)i / 3;
    }
    double result = (double)sum;
    return hash_bytes(&result, sizeof(result));
}

__attribute__((target("avx2"))) static uint64_t run_avx2(void)
{
    for (int round = 0; round < 16; round++)
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j += 8) {
                __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();

                for (int k = 0; k < SIZE; k++) {
                    __m256d factor = _mm256_set1_pd(left[i][k]);

                    low = _mm256_add_pd(low, _mm256_mul_pd(factor, _mm256_loadu_pd(&right[k][j])));
                    high = _mm256_add_pd(high,
                                         _mm256_mul_pd(factor, _mm256_loadu_pd(&right[k][j + 4])));
                }
                _mm256_storeu_pd(&product[i][j], low);
                _mm256_storeu_pd(&product[i][j + 4], high);
            }
    return hash_bytes(product, sizeof(product));
}

__attribute__((target("avx2"))) static uint64_t run_avx2_bytes(void)
{
    static uint8_t a[65536];
    __m256i sum = _mm256_setzero_si256(), best = _mm256_setzero_si256();

    fill_random(a, sizeof(a), 42);
    for (int round = 0; round < 300; round++)
        for (size_t i = 0; i < sizeof(a); i += 32) {
            __m256i x = _mm256_loadu_si256((const __m256i *)(a + i));

            best = _mm256_max_epu8(best, _mm256_shuffle_epi8(x, sum));
            sum = _mm256_add_epi64(sum, _mm256_mul_epu32(x, best));
        }
    sum = _mm256_xor_si256(sum, best);
    return hash_bytes(&sum, sizeof(sum));
}

__attribute__((target("avx512f"))) static uint64_t run_avx512(void)
{
    for (int round = 0; round < 32; round++)
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j += 16) {
                __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();

                for (int k = 0; k < SIZE; k++) {
                    __m512d factor = _mm512_set1_pd(left[i][k]);

                    low = _mm512_add_pd(low, _mm512_mul_pd(factor, _mm512_loadu_pd(&right[k][j])));
                    high = _mm512_add_pd(high,
                                         _mm512_mul_pd(factor, _mm512_loadu_pd(&right[k][j + 8])));
                }
                _mm512_storeu_pd(&product[i][j], low);
                _mm512_storeu_pd(&product[i][j + 8], high);
            }
    return hash_bytes(product, sizeof(product));
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

const struct program vector_programs[] = {
    {"matrix", "vector", prepare_matrices, run_scalar},
    {"matrix-sse2", "vector", prepare_matrices, run_sse2},
    {"matrix-avx2", "vector", prepare_matrices, run_avx2},
    {"matrix-avx512", "vector", prepare_matrices, run_avx512, has_avx512},
    {"floats", "vector", NULL, run_float},
    {"bytes-sse2", "vector", NULL, run_bytes},
    {"bytes-avx2", "vector", NULL, run_avx2_bytes},
    {"bodies", "vector", NULL, run_bodies},
    {"mandelbrot", "vector", NULL, run_mandelbrot},
    {"x87", "vector", NULL, run_x87},
    {NULL, NULL, NULL, NULL},
};
