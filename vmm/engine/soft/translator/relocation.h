// SPDX-License-Identifier: Apache-2.0
/*
 * What in a translation depends on where the guest's block lies, on where its own code lies, and on
 * the numbers of its sites and exits: each such constant is recorded when it is emitted, so that
 * clone.c can use the code for the same block at another linear address.
 *
 * Guest addresses move by whole pages, since a block is at one place within its page. So what is
 * computed of an offset in the page stays as it is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum relocation_kind {
    RELOCATION_NONE,
    /* 32-bit distances of the host's jumps: as they are recorded; then those to the glue, and to
     * the translation's other piece. One within a piece needs nothing. */
    RELOCATION_DISTANCE,
    RELOCATION_OUT,
    RELOCATION_ACROSS,
    /* 32-bit numbers. */
    RELOCATION_SITE,
    RELOCATION_EXIT,
    RELOCATION_PAGE,         /* of the block's page */
    RELOCATION_PAGE_NEGATED, /* the same, below 0 */
    /* 32-bit addresses of what the vCPU keeps for a page: a field of its line in the TLB, its mark
     * in fetch_id. */
    RELOCATION_TLB,
    RELOCATION_FETCH,
    /* The guest's linear addresses: of 32 bits where the guest has no more; where the host extends
     * them with zeroes, or by their sign; of an operand in a window; of 64 bits. */
    RELOCATION_ADDRESS_CUT,
    RELOCATION_ADDRESS_UNSIGNED,
    RELOCATION_ADDRESS_SIGNED,
    RELOCATION_ADDRESS_WINDOW,
    RELOCATION_ADDRESS,
};

/* A place in a piece, from its beginning: the block's code, or its cold code. */
struct relocation {
    uint32_t place : 24;
    uint32_t kind : 7; /* enum relocation_kind */
    uint32_t cold : 1;
};

#define RELOCATION_PLACE_MAX 0xffffffU

/* What moves by how much; all wrap around. */
struct relocation_move {
    uint64_t linear;    /* the guest's addresses: whole pages */
    uint32_t pieces[2]; /* the block's code, its cold code */
    uint32_t site, exit, page;
    uint32_t tlb, fetch; /* does not move: where the first line is */
};

/* Whether the constant at `at` can become what it has to. For an address in a window, `*window` is
 * set to the new one: it is the caller's to tell whether that may be accessed. */
bool relocation_fits(const struct relocation_move *move, struct relocation relocation,
                     const uint8_t *at, uint64_t *window);

/* Change the constant at `at`, which fits. */
void relocation_apply(const struct relocation_move *move, struct relocation relocation,
                      uint8_t *at);
