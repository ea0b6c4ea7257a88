// SPDX-License-Identifier: Apache-2.0
/*
 * Work done by libraries as Debian builds them: compression (zlib, liblzma), big numbers (GMP), AES
 * (libcrypto). Only in the 64-bit binary: Debian brings them for the 32-bit one in other packages.
 */
#include "programs.h"

#ifdef __LP64__
#include <gmp.h>
#include <lzma.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static char text[256 << 10];
static uint8_t deflated[256 << 10], packed[256 << 10], unpacked[256 << 10];
static uLongf deflated_size = sizeof(deflated);
static size_t packed_size;

static _Noreturn void refuse(const char *what)
{
    fprintf(stderr, "cpu-programs: %s failed\n", what);
    exit(1);
}

static void prepare_text(void)
{
    fill_text(text, sizeof(text), 3);
    deflated_size = sizeof(deflated);
    if (compress2(deflated, &deflated_size, (uint8_t *)text, sizeof(text), 6) != Z_OK)
        refuse("zlib");
    packed_size = 0;
    if (lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, (uint8_t *)text, sizeof(text), packed,
                                &packed_size, sizeof(packed)) != LZMA_OK)
        refuse("liblzma");
}

static uint64_t run_deflate(void)
{
    uLongf size = sizeof(unpacked);

    if (compress2(unpacked, &size, (uint8_t *)text, sizeof(text) / 2, 6) != Z_OK)
        refuse("zlib");
    return size << 32 | crc32(0, unpacked, size);
}

static uint64_t run_inflate(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 8; i++) {
        uLongf size = sizeof(unpacked);

        if (uncompress(unpacked, &size, deflated, deflated_size) != Z_OK)
            refuse("zlib");
        sum += unpacked[i * 1000] + size;
    }
    return sum;
}

static uint64_t run_xz(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 2; i++) {
        uint64_t limit = UINT64_MAX;
        size_t in = 0, out = 0;

        if (lzma_stream_buffer_decode(&limit, 0, NULL, packed, &in, packed_size, unpacked, &out,
                                      sizeof(unpacked)) != LZMA_OK)
            refuse("liblzma");
        sum += out + unpacked[i * 1000];
    }
    return sum;
}

/* 2^n mod m as RSA does it, and a product and quotient of long numbers. */
static uint64_t run_bignum(void)
{
    mpz_t base, power, modulus, result;

    mpz_inits(base, power, modulus, result, NULL);
    mpz_ui_pow_ui(modulus, 3, 1290);
    mpz_ui_pow_ui(base, 7, 700);
    mpz_ui_pow_ui(power, 5, 850);
    mpz_powm(result, base, power, modulus);
    for (int i = 0; i < 8; i++) {
        mpz_pow_ui(power, result, 16);
        mpz_mul(power, power, power);
        mpz_tdiv_r(power, power, modulus);
        mpz_add_ui(result, power, i);
    }
    uint64_t sum = mpz_get_ui(result) ^ mpz_sizeinbase(result, 2);
    mpz_clears(base, power, modulus, result, NULL);
    return sum;
}

static uint64_t run_aes(const EVP_CIPHER *cipher, int rounds)
{
    static const uint8_t key[32] = "a key of 32 bytes, neither hid.", start[16] = "a first vector";
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int size = 0;

    if (!context || !EVP_EncryptInit_ex(context, cipher, NULL, key, start))
        refuse("libcrypto");
    memcpy(unpacked, text, sizeof(unpacked));
    for (int i = 0; i < rounds; i++)
        if (!EVP_EncryptUpdate(context, unpacked, &size, unpacked, sizeof(unpacked)))
            refuse("libcrypto");
    EVP_CIPHER_CTX_free(context);
    return hash_bytes(unpacked, 4096);
}

static uint64_t run_aes_ctr(void)
{
    return run_aes(EVP_aes_128_ctr(), 60);
}
static uint64_t run_aes_cbc(void)
{
    return run_aes(EVP_aes_256_cbc(), 8);
}

const struct program library_programs[] = {
    {"deflate", "integer", prepare_text, run_deflate},
    {"inflate", "integer", prepare_text, run_inflate},
    {"xz", "integer", prepare_text, run_xz},
    {"bignum", "integer", NULL, run_bignum},
    {"aes-ctr", "vector", prepare_text, run_aes_ctr},
    {"aes-cbc", "vector", prepare_text, run_aes_cbc},
    {NULL, NULL, NULL, NULL},
};
#else
const struct program library_programs[] = {{NULL, NULL, NULL, NULL}};
#endif
