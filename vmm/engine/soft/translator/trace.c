// SPDX-License-Identifier: Apache-2.0
/*
 * Traces: a translation goes on over jumps and conditional branches to the block that follows
 * mostly, so that what it knows (checked addresses, registers in scratch ones, flags) outlives
 * them, and the way that is taken often has no jumps in it. The other ways of a branch are exits.
 *
 * What follows mostly is told by how often blocks were interpreted: one that is about to be worth a
 * translation when its predecessor gets one has hardly another. One that has a translation already
 * has others, and is linked to: copies of it for each would cost more in the host's caches than
 * they gain. Only blocks of the same page are followed: then what drops one drops all, and nothing
 * has to be checked between. No instruction is in a trace twice, so loops end it.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define BLOCKS_MAX 8 /* behind the first */

/* Whether terminator.c translates it as a branch to a known target within the page. */
static bool branches_near(const struct build *build, const struct build_insn *entry,
                          bool *conditional)
{
    const ZydisDecodedInstruction *decoded = &entry->decoded.instruction;
    bool near = decoded->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT ? decoded->opcode >> 4 == 7
                                                                : decoded->opcode >> 4 == 8;

    if (soft_insn_undefined(entry->insn) || !(entry->insn->prefixes & INSN_NEAR_BRANCH) ||
        entry->insn->operand_size != build_word(build) ||
        decoded->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    *conditional = decoded->meta.category == ZYDIS_CATEGORY_COND_BR;
    return *conditional ? near
                        : decoded->mnemonic == ZYDIS_MNEMONIC_JMP &&
                              entry->decoded.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

static bool contains(const struct build *build, uint64_t rip)
{
    for (unsigned i = 0; i < build->count; i++)
        if (build->insns[i].rip == rip)
            return true;
    return false;
}

/* The block that begins at `host`, which is said to follow the last one by `way`: what followed
 * there when it was interpreted, if it has not been thrown away. Where blocks are translated at
 * first sight nothing has followed yet, and it is looked for. */
static const struct soft_block *successor(const struct build *build, const uint8_t *host,
                                          enum follow way)
{
    const struct soft_block *last = build->last;
    const struct soft_block *found = last->successor[way == FOLLOW_NEXT];

    if (!build->cpu->heat)
        return soft_blocks_beside(build->cpu, last, host);
    return found->host == host && found->code_size == last->code_size && !found->next_host ? found
                                                                                           : NULL;
}

/* Whether it has a translation for the present mode. */
static bool is_translated(const struct build *build, const struct soft_block *block)
{
    const struct translation *translation = block->translations;

    while (translation && translation->mode != build->translation->mode)
        translation = translation->next;
    return translation;
}

/* The block at `linear` if it can be in the trace and is executed often, by this way alone. Where
 * blocks are translated at first sight, each that can be is. */
static const struct soft_block *candidate(const struct build *build, uint64_t linear,
                                          enum follow way)
{
    const struct translation *translation = build->translation;
    const struct soft_block *block;
    unsigned heat = build->cpu->heat;

    if ((linear ^ translation->linear) >> 12 || contains(build, linear))
        return NULL;
    block =
        successor(build, translation->block->host + (int64_t)(linear - translation->linear), way);
    if (!block || build->count + block->count > BLOCK_MAX)
        return NULL;
    if (!heat)
        return block;
    return !is_translated(build, block) && block->heat_linear == linear &&
                   block->heat >= heat * 3 / 4
               ? block
               : NULL;
}

const struct soft_block *build_follow(struct build *build, uint64_t *linear)
{
    struct build_insn *last = &build->insns[build->count - 1];
    uint64_t next = last->rip + last->insn->length, target = next + last->insn->immediate;
    const struct soft_block *behind, *there;
    bool conditional;

    if (build->translation->block->next_host || build->blocks == BLOCKS_MAX ||
        !branches_near(build, last, &conditional))
        return NULL;
    if (!build->long_mode) {
        next = (uint32_t)next;
        target = (uint32_t)target;
    }
    behind = conditional ? candidate(build, next, FOLLOW_NEXT) : NULL;
    there = candidate(build, target, FOLLOW_TARGET);
    if (!behind && !there)
        return NULL;
    build->blocks++;
    last->follow = !behind || (there && there->heat > behind->heat) ? FOLLOW_TARGET : FOLLOW_NEXT;
    *linear = last->follow == FOLLOW_TARGET ? target : next;
    return last->follow == FOLLOW_TARGET ? there : behind;
}
