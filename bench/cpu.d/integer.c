// SPDX-License-Identifier: Apache-2.0
/*
 * Integer code as compilers make it: arithmetic, branches that cannot be foreseen, indirect calls
 * and jumps, recursion, hashing, sorting, lists and trees, text.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs.h"

/* Arithmetic in registers, of which a processor can do much at once. */
static uint64_t run_loop(void)
{
    uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;

    for (unsigned i = 0; i < 1000000; i++) {
        a += (b ^ i) + (a >> 7);
        b = (b << 9 | b >> 55) + i;
        c ^= c << 3 | (d & 0xff00ff);
        d -= (c >> 11) + 2 * i;
        e = (e ^ i) + (f << 1);
        f += (e & 0xffff) - (f >> 9);
    }
    return a ^ b ^ c ^ d ^ e ^ f;
}

static uint64_t run_sieve(void)
{
    static uint8_t composite[2000000];
    uint64_t sum = 0;

    memset(composite, 0, sizeof(composite));
    for (unsigned i = 2; i < sizeof(composite); i++) {
        if (composite[i])
            continue;
        sum += i;
        for (uint64_t j = (uint64_t)i * i; j < sizeof(composite); j += i)
            composite[j] = 1;
    }
    return sum;
}

/* Branches by data that no predictor knows, and the longest Collatz sequence. */
static uint64_t run_branches(void)
{
    uint64_t longest = 0, state = 88172645463325252;

    for (unsigned start = 1; start < 8000; start++) {
        uint64_t number = start, steps = 0;

        while (number != 1) {
            if (number & 1)
                number = number * 3 + 1;
            else
                number >>= 1;
            steps++;
        }
        if (steps > (longest & 0xffff))
            longest = (uint64_t)start << 16 | steps;
    }
    for (unsigned i = 0; i < 400000; i++) {
        uint64_t number = next_random(&state);

        if (number & 1)
            longest += number >> 60;
        else if (number & 2)
            longest ^= number;
        else
            longest -= 3;
    }
    return longest;
}

static __attribute__((noinline)) unsigned fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t ackermann(uint64_t m, uint64_t n)
{
    return !m ? n + 1 : ackermann(m - 1, n ? ackermann(m, n - 1) : 1);
}

static uint64_t run_recursion(void)
{
    return (uint64_t)fibonacci(30) << 32 | ackermann(2, 500);
}

/* Calls through a table. */
static uint64_t add_call(uint64_t a, uint64_t b)
{
    return a + b;
}
static uint64_t xor_call(uint64_t a, uint64_t b)
{
    return a ^ (b << 1);
}
static uint64_t mix_call(uint64_t a, uint64_t b)
{
    return (a >> 3 | a << 61) - b;
}
static uint64_t and_call(uint64_t a, uint64_t b)
{
    return (a & b) + 0x12345;
}

static uint64_t run_indirect(void)
{
    static uint64_t (*volatile const calls[4])(uint64_t, uint64_t) = {add_call, xor_call, mix_call,
                                                                      and_call};
    uint64_t sum = 1, state = 4711;

    for (unsigned i = 0; i < 400000; i++)
        sum = calls[next_random(&state) >> 40 & 3](sum, i);
    return sum;
}

/* An interpreter of byte code: a jump through a table for each of its instructions. */
enum { PUSH, ADD, MUL, DUP, SWAP, DEC, JUMP_NOT_ZERO, XOR, DROP, END };

static uint64_t run_interpreter(void)
{
    /* (counter, sum) -> (counter - 1, (sum * 3 + counter) ^ 0x55), until the counter is 0. */
    static const uint8_t code[] = {SWAP, PUSH, 3,    MUL, SWAP,          DUP,  DEC,
                                   SWAP, PUSH, 7,    ADD, DROP,          SWAP, PUSH,
                                   0x55, XOR,  SWAP, DUP, JUMP_NOT_ZERO, 0,    END};
    uint64_t stack[16] = {1, 150000};
    unsigned top = 2;

    for (unsigned at = 0;;) {
        switch (code[at++]) {
        case PUSH:
            stack[top++ & 15] = code[at++];
            break;
        case ADD:
            top--;
            stack[(top - 1) & 15] += stack[top & 15];
            break;
        case MUL:
            top--;
            stack[(top - 1) & 15] *= stack[top & 15];
            break;
        case XOR:
            top--;
            stack[(top - 1) & 15] ^= stack[top & 15];
            break;
        case DUP:
            stack[top & 15] = stack[(top - 1) & 15];
            top++;
            break;
        case DEC:
            stack[(top - 1) & 15]--;
            break;
        case DROP:
            top--;
            break;
        case SWAP: {
            uint64_t value = stack[(top - 1) & 15];

            stack[(top - 1) & 15] = stack[(top - 2) & 15];
            stack[(top - 2) & 15] = value;
            break;
        }
        case JUMP_NOT_ZERO:
            at = stack[--top & 15] ? code[at] : at + 1;
            break;
        default:
            return hash_bytes(stack, 2 * sizeof(*stack));
        }
    }
}

/* SHA-256 of 256 KiB. */
static const uint32_t sha_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, unsigned by)
{
    return x >> by | x << (32 - by);
}

static void sha_block(uint32_t state[8], const uint8_t *in)
{
    uint32_t w[64], v[8];

    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)in[4 * i] << 24 | in[4 * i + 1] << 16 | in[4 * i + 2] << 8 | in[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] +
               (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(v, state, sizeof(v));
    for (int i = 0; i < 64; i++) {
        uint32_t one = v[7] + (rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)) +
                       ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha_constants[i] + w[i];
        uint32_t two = (rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)) +
                       ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

        v[7] = v[6];
        v[6] = v[5];
        v[5] = v[4];
        v[4] = v[3] + one;
        v[3] = v[2];
        v[2] = v[1];
        v[1] = v[0];
        v[0] = one + two;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

static uint8_t sha_input[256 << 10];
static void prepare_sha(void)
{
    fill_random(sha_input, sizeof(sha_input), 17);
}

static uint64_t run_sha256(void)
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    for (size_t i = 0; i < sizeof(sha_input); i += 64)
        sha_block(state, sha_input + i);
    return hash_bytes(state, sizeof(state));
}

/* A hash table with open addressing: insert, look up. */
static uint64_t run_hashing(void)
{
    static struct {
        uint64_t key, value;
    } table[1 << 14];
    uint64_t state = 99, found = 0;

    memset(table, 0, sizeof(table));
    for (unsigned i = 0; i < 800000; i++) {
        uint64_t key = (next_random(&state) >> 30 & 0x1fff) + 1;
        uint64_t slot = key * 0x9e3779b97f4a7c15 >> 50;

        while (table[slot].key && table[slot].key != key)
            slot = (slot + 1) & 0x3fff;
        found += table[slot].value;
        table[slot].key = key;
        table[slot].value += i;
    }
    return found;
}

/* CRC-32 by a table, byte by byte. */
static uint32_t crc_table[256];
static void prepare_crc(void)
{
    prepare_sha();
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;

        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ 0xedb88320 : value >> 1;
        crc_table[i] = value;
    }
}

static uint64_t run_crc32(void)
{
    uint32_t crc = ~0U;

    for (int round = 0; round < 4; round++)
        for (size_t i = 0; i < sizeof(sha_input); i++)
            crc = crc >> 8 ^ crc_table[(crc ^ sha_input[i]) & 0xff];
    return crc;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t run_qsort(void)
{
    static uint64_t numbers[30000];
    uint64_t state = 5, sum = 0;

    for (size_t i = 0; i < 30000; i++)
        numbers[i] = next_random(&state);
    qsort(numbers, 30000, sizeof(*numbers), compare_numbers);
    for (size_t i = 0; i < 30000; i++)
        sum = sum * 31 + numbers[i];
    return sum;
}

/* A heap: loads, stores and compares within one function. */
static uint64_t run_heapsort(void)
{
    static uint32_t heap[32768];
    uint64_t state = 6, sum = 0;
    size_t count = 32768;

    for (size_t i = 0; i < count; i++)
        heap[i] = next_random(&state) >> 32;
    for (size_t start = count / 2, end = count; end > 1;) {
        uint32_t value;

        if (start) {
            value = heap[--start];
        } else {
            value = heap[--end];
            heap[end] = heap[0];
        }
        size_t hole = start, child;
        while ((child = 2 * hole + 1) < end) {
            child += child + 1 < end && heap[child] < heap[child + 1];
            if (heap[child] <= value)
                break;
            heap[hole] = heap[child];
            hole = child;
        }
        heap[hole] = value;
    }
    for (size_t i = 0; i < count; i++)
        sum = sum * 31 + heap[i];
    return sum;
}

/* Pointer chasing: a list in random order over 128 KiB, and one over 16 MiB. */
struct link {
    struct link *next;
    uint64_t value;
    uint8_t rest[48];
};
static struct link *short_list, *long_list;

static struct link *make_list(size_t count)
{
    struct link *links = malloc(count * sizeof(*links));
    uint64_t state = 77;

    if (!links)
        fail("malloc");
    for (size_t i = 0; i < count; i++) {
        links[i].next = &links[i];
        links[i].value = i * 2654435761U;
    }
    /* Sattolo's shuffle: one cycle through all. */
    for (size_t i = count - 1; i > 0; i--) {
        size_t other = (next_random(&state) >> 20) % i;
        struct link *next = links[i].next;

        links[i].next = links[other].next;
        links[other].next = next;
    }
    return links;
}

static void prepare_lists(void)
{
    if (!short_list)
        short_list = make_list((128 << 10) / sizeof(struct link));
    if (!long_list)
        long_list = make_list((16 << 20) / 64);
}

static uint64_t chase(const struct link *link, unsigned steps)
{
    uint64_t sum = 0;

    for (; steps; steps--, link = link->next)
        sum = sum * 3 + link->value;
    return sum;
}

static uint64_t run_chase(void)
{
    return chase(short_list, 800000);
}
static uint64_t run_chase_far(void)
{
    return chase(long_list, 60000);
}

/* A tree of allocated nodes: insert, walk, free. */
struct node {
    struct node *child[2];
    uint64_t key;
};

static uint64_t walk(struct node *node, uint64_t depth)
{
    if (!node)
        return depth;
    uint64_t sum =
        walk(node->child[0], depth + 1) * 3 + node->key + walk(node->child[1], depth + 1);
    free(node);
    return sum;
}

static uint64_t run_tree(void)
{
    struct node *root = NULL;
    uint64_t state = 12;

    for (unsigned i = 0; i < 30000; i++) {
        struct node **at = &root, *node = malloc(sizeof(*node));

        if (!node)
            fail("malloc");
        *node = (struct node){.key = next_random(&state)};
        while (*at)
            at = &(*at)->child[node->key > (*at)->key];
        *at = node;
    }
    return walk(root, 0);
}

/* printf, strtol, strcmp: the library's text functions. */
static uint64_t run_text(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 12000; i++) {
        char line[96], *end;

        snprintf(line, sizeof(line), "%d:%x:%s:%-8d|", i * 7919, i, i & 1 ? "odd" : "even",
                 i % 100);
        sum += strtol(line, &end, 10) + strtol(end + 1, &end, 16);
        sum = sum * 31 + strlen(end) + (strstr(end, "odd") != NULL) + (uint8_t)*strrchr(line, '|');
    }
    return sum;
}

const struct program integer_programs[] = {
    {"loop", "integer", NULL, run_loop},
    {"sieve", "integer", NULL, run_sieve},
    {"branches", "integer", NULL, run_branches},
    {"recursion", "integer", NULL, run_recursion},
    {"indirect", "integer", NULL, run_indirect},
    {"interpreter", "integer", NULL, run_interpreter},
    {"sha256", "integer", prepare_sha, run_sha256},
    {"hashing", "integer", NULL, run_hashing},
    {"crc32", "integer", prepare_crc, run_crc32},
    {"qsort", "integer", NULL, run_qsort},
    {"heapsort", "integer", NULL, run_heapsort},
    {"chase", "integer", prepare_lists, run_chase},
    {"chase-far", "integer", prepare_lists, run_chase_far},
    {"tree", "integer", NULL, run_tree},
    {"text", "integer", NULL, run_text},
    {NULL, NULL, NULL, NULL},
};
