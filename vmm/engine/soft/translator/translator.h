// SPDX-License-Identifier: Apache-2.0
/*
 * The translator: what the rest of the engine knows of it. docs/translator.md tells how it works.
 *
 * A translation is host code for one decoded block (block.h) at one linear address in one mode. It
 * belongs to the block and to one vCPU, whose thread alone makes, links, executes and drops it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/cpu.h"

struct soft_translator;

/* A translator for `cpu`, which lies below 2 GB. NULL and `error` when the host gives no memory
 * that executes: the vCPU interprets then. */
struct soft_translator *soft_translator_create(struct soft_cpu *cpu, GError **error);
void soft_translator_destroy(struct soft_translator *translator);

/* Drop every translation. Between blocks, on the vCPU's thread, or while it is parked. */
void soft_translator_empty(struct soft_translator *translator);

/* `block` is thrown away: nothing enters its translations any more. */
void soft_translations_drop(struct soft_cpu *cpu, struct soft_block *block);

/* The way into translated code, once the block is hot: soft_translator_run. */
bool soft_translator_enter(struct soft_cpu *cpu, struct soft_block *block, uint64_t linear);

#define SOFT_TRANSLATOR_HEAT 24 /* soft_cpu.heat, but with the switch `eager` */
#define SOFT_CLONE_HEAT      2  /* how far below that a block falls that is met elsewhere */

/* Whether `block` was executed too seldom for a translation at `linear` to be worth while; this
 * time counts. Programs that are started anew lie elsewhere each time, and most of what they
 * execute is executed once. But what many of them execute is hot in the end, and a clone costs
 * little. */
static inline bool soft_translator_cold(struct soft_cpu *cpu, struct soft_block *block,
                                        uint64_t linear)
{
    if (block->heat_linear != linear) {
        block->heat_linear = linear;
        block->heat = MIN(block->heat, cpu->heat_elsewhere);
    }
    if (block->heat >= cpu->heat)
        return false;
    block->heat++;
    return true;
}

/* Execute `block`, which lies at `linear` and is where cpu->rip is, and what follows it as
 * translated code, until the run loop must look around: next_rip is the boundary then. False when
 * the block is to be interpreted. May raise, as an instruction does. */
static inline bool soft_translator_run(struct soft_cpu *cpu, struct soft_block *block,
                                       uint64_t linear)
{
    if (!cpu->translator)
        return false;
    /* It has no translation there, or none in another mode: that is looked at once it is hot. */
    if (block->heat_linear == linear && soft_translator_cold(cpu, block, linear))
        return false;
    return soft_translator_enter(cpu, block, linear);
}
