// SPDX-License-Identifier: Apache-2.0
/*
 * The random code of soft_hostile.c: slots of instructions, most of them with memory operands. The
 * displacements and immediates come from odd_value(), which is that test's.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SLOT 32 /* bytes */

static _Thread_local uint64_t random_state;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1dUL;
}

static unsigned below(unsigned limit)
{
    return (unsigned)(random64() >> 33) % limit;
}

/* A number at which something may go wrong: an address worth a try, the end of something. */
static uint64_t odd_value(void);

/* One-byte opcodes that move memory or registers, with the bytes of their immediates: 1, 4 for
 * operand size, 0. */
static const struct {
    uint8_t opcode, immediate;
} plain[] = {
    {0x00, 0}, {0x01, 0}, {0x03, 0}, {0x09, 0}, {0x0b, 0}, {0x11, 0}, {0x13, 0}, {0x19, 0},
    {0x21, 0}, {0x23, 0}, {0x29, 0}, {0x2b, 0}, {0x31, 0}, {0x33, 0}, {0x38, 0}, {0x39, 0},
    {0x3b, 0}, {0x63, 0}, {0x69, 4}, {0x6b, 1}, {0x80, 1}, {0x81, 4}, {0x83, 1}, {0x84, 0},
    {0x85, 0}, {0x86, 0}, {0x87, 0}, {0x88, 0}, {0x89, 0}, {0x8a, 0}, {0x8b, 0}, {0x8d, 0},
    {0x8f, 0}, {0xc0, 1}, {0xc1, 1}, {0xc6, 1}, {0xc7, 4}, {0xd0, 0}, {0xd1, 0}, {0xd2, 0},
    {0xd3, 0}, {0xd8, 0}, {0xd9, 0}, {0xda, 0}, {0xdb, 0}, {0xdc, 0}, {0xdd, 0}, {0xde, 0},
    {0xdf, 0}, {0xf6, 1}, {0xf7, 4}, {0xfe, 0}, {0xff, 0},
};

/* Without ModRM. */
static const uint8_t bare[] = {0x50, 0x51, 0x54, 0x57, 0x58, 0x5c, 0x5f, 0x60, 0x6a, 0x90, 0x98,
                               0x99, 0x9c, 0x9d, 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad,
                               0xae, 0xaf, 0xc3, 0xc8, 0xc9, 0xcc, 0xcf, 0xd7, 0xe3, 0xe4, 0xec,
                               0xf4, 0xf5, 0xf8, 0xfa, 0xfb, 0xfc, 0xfd, 0x70, 0x75, 0x7c, 0xeb};

static uint8_t *add_modrm(uint8_t *at)
{
    uint8_t modrm = (uint8_t)random64();
    uint32_t displacement = (uint32_t)odd_value();

    if (below(4) && modrm >> 6 == 3)
        modrm ^= 1U << (6 + below(2)); /* memory, mostly */
    *at++ = modrm;
    if (modrm >> 6 != 3 && (modrm & 7) == 4)
        *at++ = (uint8_t)random64();
    memcpy(at, &displacement, sizeof(displacement));
    if (modrm >> 6 == 1)
        return at + 1;
    return modrm >> 6 == 2 || (modrm >> 6 == 0 && (modrm & 7) == 5) ? at + 4 : at;
}

static uint8_t *add_prefixes(uint8_t *at)
{
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x64, 0x65, 0x67, 0x2e, 0x36};

    while (below(4) == 0)
        *at++ = prefixes[below(sizeof(prefixes))];
    if (below(2))
        *at++ = 0x40 | (uint8_t)below(16);
    return at;
}

static uint8_t *add_immediate(uint8_t *at, unsigned size)
{
    uint32_t value = (uint32_t)odd_value();

    memcpy(at, &value, 4);
    return at + size;
}

/* Accesses by one register, which an engine may check together: near each other, at the ends of
 * pages, or so far apart that sums run over, in multiples of what a TLB may be indexed by. At most
 * 30 bytes. */
static uint8_t *add_accesses(uint8_t *at)
{
    static const uint8_t opcodes[] = {0x8b, 0x89, 0x01, 0x03, 0x88, 0x8a, 0x39, 0x31};
    static const uint32_t distances[] = {0,          0x60000000, 0xa0000000, 0x7ffffff8,
                                         0x80000000, 0x400000,   0xffc00000, 0x1000};
    unsigned base = below(16);

    for (unsigned i = 0; i < 3; i++) {
        uint32_t displacement = distances[below(8)] + below(64) - 32;

        *at++ = 0x48 | (uint8_t)(below(2) << 2) | (uint8_t)(base >> 3);
        *at++ = opcodes[below(sizeof(opcodes))];
        *at++ = 0x80 | (uint8_t)(below(8) << 3) | (base & 7);
        if ((base & 7) == 4) /* with SIB: no index, or one */
            *at++ = below(2) ? 0x24 : (uint8_t)(random64() & 0xf8) | 4;
        memcpy(at, &displacement, 4);
        at += 4;
    }
    return at;
}

/* Accesses by a register that moves by constants in between, as far as they go: none leaves the
 * slots around the one in which it was checked. 30 bytes at most. */
static uint8_t *add_moves(uint8_t *at)
{
    static const uint8_t opcodes[] = {0x8b, 0x89, 0x01, 0x33};
    static const uint32_t moves[] = {0x7fffffff, 0x80000000, 0x7ffff000, 0xfffffff8, 0x1000, 8};
    unsigned base = below(16);
    uint8_t rex = 0x48 | (uint8_t)(base >> 3);

    for (unsigned i = 0; i < 2; i++) {
        uint32_t move = moves[below(G_N_ELEMENTS(moves))], displacement = (uint32_t)odd_value();

        if (below(8)) /* ADD or SUB */
            memcpy(at, (uint8_t[]){rex, 0x81, (uint8_t)(0xc0 | below(2) * 0x28 | (base & 7))}, 3);
        else /* MOV */
            memcpy(at, (uint8_t[]){rex, 0xc7, (uint8_t)(0xc0 | (base & 7))}, 3);
        memcpy(at + 3, &move, 4);
        at += 7;
        *at++ = rex;
        *at++ = opcodes[below(sizeof(opcodes))];
        *at++ = 0x80 | (uint8_t)(below(8) << 3) | (base & 7);
        if ((base & 7) == 4)
            *at++ = 0x24;
        memcpy(at, &displacement, 4);
        at += 4;
    }
    return at;
}

/* The bits that must be as they are stand right. */
static uint8_t *add_evex(uint8_t *at)
{
    uint64_t bits = random64();
    uint8_t vvvv = bits & 1 ? 15 : (uint8_t)(bits >> 1 & 15);

    *at++ = 0x62;
    *at++ = (uint8_t)(bits >> 8 & 0xf0) | (uint8_t)(1 + below(3));
    *at++ = (uint8_t)((bits >> 16 & 1) << 7 | vvvv << 3 | 4 | (bits >> 17 & 3));
    *at++ = (uint8_t)((uint8_t)(below(3) << 5) | (below(4) ? 0 : bits >> 24 & 0x90) | 8 |
                      (bits & 32 ? bits >> 6 & 7 : 0));
    *at++ = (uint8_t)random64();
    return add_immediate(add_modrm(at), 1);
}

/* At most 30 bytes. */
static uint8_t *add_instruction(uint8_t *at)
{
    unsigned which;

    switch (below(14)) {
    case 13: /* EVEX; its mask is off often, its registers any */
        return add_evex(at);
    case 12:
        return below(2) ? add_accesses(at) : add_moves(at);
    case 0:
        for (unsigned i = 0; i < 12; i++)
            *at++ = (uint8_t)random64();
        return at;
    case 1:
        at = add_prefixes(at);
        *at++ = bare[below(sizeof(bare))];
        *at++ = (uint8_t)below(24);
        return at;
    case 2: /* VEX of 3 bytes */
        *at++ = 0xc4;
        *at++ = (uint8_t)(random64() & 0xe0) | (uint8_t)(1 + below(3));
        *at++ = (uint8_t)random64();
        *at++ = (uint8_t)random64();
        return add_immediate(add_modrm(at), 1);
    case 3:
        *at++ = 0xc5;
        *at++ = (uint8_t)random64();
        *at++ = (uint8_t)random64();
        return add_modrm(at);
    case 4:
    case 5: /* maps 0F, 0F38, 0F3A */
        at = add_prefixes(at);
        *at++ = 0x0f;
        which = below(8);
        if (which < 2)
            *at++ = which ? 0x38 : 0x3a;
        *at++ = (uint8_t)random64();
        return add_immediate(add_modrm(at), which == 0);
    default:
        which = below(G_N_ELEMENTS(plain));
        at = add_prefixes(at);
        *at++ = plain[which].opcode;
        return add_immediate(add_modrm(at), plain[which].immediate);
    }
}

/* Some slots are a loop of their own: mov ecx, n; ... dec ecx; jnz. */
static void make_slot(uint8_t slot[SLOT])
{
    uint8_t text[SLOT + 64], *at = text;
    bool loop = below(4) == 0;
    unsigned accesses = below(12);

    memset(text, 0x90, sizeof(text));
    if (loop) {
        memcpy(at, (uint8_t[]){0xb9, (uint8_t)below(30), 0, 0, 0}, 5);
        at += 5;
    }
    if (accesses < 2)
        at = accesses ? add_accesses(at) : add_moves(at);
    else
        do
            at = add_instruction(at);
        while (at < text + (loop ? 12 : 20));
    if (loop && at <= text + SLOT - 4) {
        memcpy(at, (uint8_t[]){0xff, 0xc9, 0x75, (uint8_t)(text + 5 - (at + 4))}, 4);
    }
    memcpy(slot, text, SLOT);
}
