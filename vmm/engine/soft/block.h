// SPDX-License-Identifier: Apache-2.0
/*
 * Decoded basic blocks of one vCPU.
 *
 * A block is a run of instructions within one page, keyed by the host address of its first byte
 * and the code size it was decoded for: translations and modes may change under it, its bytes may
 * not. Its page is marked in memory.h; a write to it comes back as soft_blocks_page_written. An
 * instruction that crosses into the next page is a block of its own, which belongs to both pages
 * and holds only while the next page is mapped where it was. Storage is bounded: when it is full
 * everything goes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/engine/soft/cpu.h"

struct soft_blocks;
struct code_page;

struct soft_block {
    const uint8_t *host;    /* of the first byte; NULL once thrown away, and where none is kept */
    struct code_page *page; /* that it is kept with; NULL where it is not */
    struct insn *insns;
    struct soft_block *next;      /* with the same hash */
    struct soft_block *page_next; /* of the same page */
    const uint8_t *next_host;     /* of one that crosses: where its second page begins; else NULL */
    struct soft_block *crosser;   /* in its second page's list: the block that this stands for */
    /* What followed last time, after a branch taken and not taken; itself where nothing did. Only a
     * guess: it may have been thrown away. */
    struct soft_block *successor[2];
    uint16_t count; /* instructions */
    uint16_t bytes;
    uint8_t code_size;
    uint8_t heat; /* executions at `heat_linear`, up to what makes a translation worth while */
    bool chains;  /* ends without anything that the run loop must look at */
    uint64_t heat_linear;             /* where it was executed last without a translation */
    struct translation *translations; /* translator/translator.h */
};

/* Empty storage for `cpu`'s blocks (address space is reserved, memory comes as it is used). NULL
 * when the host refuses. */
struct soft_blocks *soft_blocks_create(struct soft_cpu *cpu);
void soft_blocks_destroy(struct soft_blocks *blocks);

/* The block at linear address `linear` in the current mode, decoded now if need be. NULL when the
 * code there is neither in RAM nor ROM. May raise what the fetch raises. The block is valid until
 * soft_blocks_drain, soft_blocks_flush or the next soft_blocks_find. */
struct soft_block *soft_blocks_find(struct soft_cpu *cpu, uint64_t linear);

/* The block that begins at `host`, which is in the page of `block`, for the same code size; decoded
 * now if need be. NULL where none can be kept, or none that lies within the page. Nothing is thrown
 * away or raised. */
const struct soft_block *soft_blocks_beside(struct soft_cpu *cpu, const struct soft_block *block,
                                            const uint8_t *host);

/* The page at guest-physical `page` is about to be written, or memory was remapped: note that its
 * blocks, or all, are to be thrown away. Any thread. */
void soft_blocks_page_written(struct soft_cpu *cpu, uint64_t page);
void soft_blocks_unmapped(struct soft_cpu *cpu);

/* Have what was noted thrown away before the vCPU begins another block; if this thread runs it,
 * after its current instruction. Any thread. */
void soft_blocks_ask(struct soft_cpu *cpu);

/* Whether something was noted and not thrown away yet. Any thread. */
bool soft_blocks_written(const struct soft_cpu *cpu);

/* Serve SOFT_REQUEST_CODE: throw away what was asked for. On the vCPU's thread, between blocks. */
void soft_blocks_drain(struct soft_cpu *cpu);

/* Throw everything away. On the vCPU's thread between blocks, or while it is parked. */
void soft_blocks_flush(struct soft_cpu *cpu);

/* This thread runs `cpu` from now on (NULL: none). soft_run calls it. */
void soft_blocks_enter(struct soft_cpu *cpu);
