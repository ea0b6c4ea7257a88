// SPDX-License-Identifier: Apache-2.0
/*
 * Translations of a block at another linear address, made of one that is there.
 *
 * Each process has its libraries and its program elsewhere, so what one has executed, the next
 * executes at other addresses. What of a translation depends on its place is recorded
 * (relocation.h); the rest is the same: the instructions are those of the same decoded block, in
 * the same mode, at the same place in their page, and liveness looks no further than that page. A
 * write to the page drops the block with all its translations, before another block is begun. So
 * nothing is decoded or compared here.
 *
 * A translation that was made long ago is most likely one of a process that has ended: it is moved
 * to where the block is wanted now. Nothing is lost but time if it was not. A young one is copied:
 * then two processes that run in turns each have theirs, after the first turns. Age is counted in
 * clones, so the copies that are made before anything is moved are bounded.
 *
 * Jumps that were linked lead out again in a clone, since what they led to lies elsewhere.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/log.h"
#include "vmm/engine/soft/translator/translation.h"
#include "vmm/engine/soft/translator/window.h"

#define SAME_MAX 16 /* translations of a block in a mode */

/* What it says when nothing of the code or its numbers moves. */
static struct relocation_move begin_move(struct soft_cpu *cpu,
                                         const struct translation *translation, uint64_t linear,
                                         uint32_t page)
{
    unsigned mode = translation->mode & 3;

    return (struct relocation_move){
        .linear = linear - translation->linear,
        .page = page - translation->page,
        .tlb = (uint32_t)(uintptr_t)&cpu->tlb[mode][0],
        .fetch = (uint32_t)(uintptr_t)&cpu->fetch_id[mode == SOFT_MMU_USER][0],
    };
}

static uint64_t moved_address(const struct soft_cpu *cpu, uint64_t linear,
                              const struct relocation_move *move)
{
    return cpu->flat ? linear + move->linear : (uint32_t)(linear + move->linear);
}

/* Whether every constant can be what it has to be there. A branch to where there can be no code
 * raises by itself, and is no jump of a translation. */
static bool fits(struct soft_cpu *cpu, const struct translation *translation,
                 const struct relocation_move *move)
{
    const struct soft_translator *translator = cpu->translator;

    for (uint32_t i = 0; i < translation->relocations; i++) {
        struct relocation relocation = translator->relocations[translation->relocation + i];
        uint64_t window = 0;

        if (!relocation_fits(move, relocation, translation_place(translation, relocation),
                             &window) ||
            (window && !soft_window_reserve(cpu, window)))
            return false;
    }
    for (uint32_t i = 0; i < translation->sites; i++)
        if (!window_may_move(&translator->sites[translation->site + i], move->linear))
            return false;
    for (uint32_t i = 0; cpu->flat && i < translation->exits; i++)
        if (!soft_canonical(translator->exits[translation->exit + i].rip + move->linear))
            return false;
    return true;
}

/* ---- what belongs to a translation, at its place ---- */

static void move_constants(struct soft_translator *translator,
                           const struct translation *translation,
                           const struct relocation_move *move)
{
    for (uint32_t i = 0; i < translation->relocations; i++) {
        struct relocation relocation = translator->relocations[translation->relocation + i];

        relocation_apply(move, relocation, translation_place(translation, relocation));
    }
}

/* An offset in the cache, or 0 for nothing. */
static void move_offset(const struct soft_translator *translator,
                        const struct relocation_move *move, uint32_t *offset)
{
    if (*offset)
        *offset += move->pieces[translator->cache.write + *offset >= translator->cold];
}

static void move_site(struct soft_cpu *cpu, struct translation *translation,
                      const struct relocation_move *move, struct site *site)
{
    struct soft_translator *translator = cpu->translator;

    site->translation = translation;
    site->rip = moved_address(cpu, site->rip, move);
    move_offset(translator, move, &site->retry);
    move_offset(translator, move, &site->resume);
    move_offset(translator, move, &site->commit);
    move_offset(translator, move, &site->window);
    move_offset(translator, move, &site->slot);
    move_offset(translator, move, &site->delta);
    if (site->check)
        site->check += move->site;
    window_move(translator, site);
}

static void move_place(const struct soft_translator *translator, const struct relocation_move *move,
                       uint8_t **place)
{
    if (*place)
        *place += (int32_t)move->pieces[*place >= translator->cold];
}

/* An exit, which leads nowhere yet. */
static void move_exit(struct soft_cpu *cpu, struct translation *translation,
                      const struct relocation_move *move, struct exit *exit)
{
    struct soft_translator *translator = cpu->translator;

    exit->from = translation;
    exit->rip = moved_address(cpu, exit->rip, move);
    move_place(translator, move, &exit->place);
    move_place(translator, move, &exit->stub);
    move_place(translator, move, &exit->restore);
    move_place(translator, move, &exit->restored);
    exit->next = exit->previous = 0;
    if (exit->kind == EXIT_INDIRECT)
        exit->site += move->site;
    if (exit->place)
        emit_patch(exit->place, exit->stub);
}

/* All of that, of `translation`, whose code lies where it shall and is that of another place. */
static void move_all(struct soft_cpu *cpu, struct translation *translation,
                     const struct relocation_move *move)
{
    struct soft_translator *translator = cpu->translator;

    move_constants(translator, translation, move);
    for (uint32_t i = 0; i < translation->sites; i++)
        move_site(cpu, translation, move, &translator->sites[translation->site + i]);
    for (uint32_t i = 0; i < translation->exits; i++)
        move_exit(cpu, translation, move, &translator->exits[translation->exit + i]);
    translation->linear += move->linear;
    translation->page += move->page;
    translation->other = NULL;
    emit_patch(translation->mismatch, translator->leave);
}

/* ---- the two ways ---- */

static bool has_room(const struct soft_translator *translator, const struct translation *source)
{
    return translator->translation_count < TRANSLATIONS_MAX &&
           source->sites <= SITES_MAX - translator->site_count &&
           source->exits <= EXITS_MAX - translator->exit_count &&
           source->end - source->indirect <= translator->cold - translator->used &&
           source->cold_end - source->cold <=
               translator->cache.write + translator->cache.size - translator->cold_used;
}

static struct translation *copy_translation(struct soft_cpu *cpu, const struct translation *source,
                                            struct relocation_move *move)
{
    struct soft_translator *translator = cpu->translator;
    struct translation *clone = &translator->translations[translator->translation_count++];
    size_t size = (size_t)(source->end - source->indirect);
    size_t cold_size = (size_t)(source->cold_end - source->cold);

    move->pieces[0] = (uint32_t)(translator->used - source->indirect);
    move->pieces[1] = (uint32_t)(translator->cold_used - source->cold);
    move->site = translator->site_count - source->site;
    move->exit = translator->exit_count - source->exit;
    *clone = *source;
    clone->site = translator->site_count;
    clone->exit = translator->exit_count;
    clone->incoming = 0;
    move_place(translator, move, &clone->indirect);
    move_place(translator, move, &clone->cross);
    move_place(translator, move, &clone->cross_kept);
    move_place(translator, move, &clone->poll);
    move_place(translator, move, &clone->entry);
    move_place(translator, move, &clone->mismatch);
    clone->end = clone->indirect + size;
    clone->cold = translator->cold_used;
    clone->cold_end = clone->cold + cold_size;
    memcpy(clone->indirect, source->indirect, size);
    memcpy(clone->cold, source->cold, cold_size);
    memcpy(&translator->sites[clone->site], &translator->sites[source->site],
           sizeof(struct site) * source->sites);
    memcpy(&translator->exits[clone->exit], &translator->exits[source->exit],
           sizeof(struct exit) * source->exits);
    translator->site_count += source->sites;
    translator->exit_count += source->exits;
    code_cache_settle(&translator->cache, clone->indirect, clone->end);
    translator->used = clone->end;
    translator->cold_used = clone->cold_end;
    soft_count_by(&cpu->counters.bytes_translated, size + cold_size);
    move_all(cpu, clone, move);
    return clone;
}

static void move_translation(struct soft_cpu *cpu, struct translation *translation,
                             const struct relocation_move *move)
{
    struct soft_translator *translator = cpu->translator;

    translation_detach(translator, translation);
    for (uint32_t i = 0; i < translation->exits; i++)
        exit_unlink(translator, translation->exit + i);
    move_all(cpu, translation, move);
    soft_count(&cpu->counters.clones_moved);
}

/* The newest and the oldest translation of `block` in this mode, if there are any. */
static struct translation *find_sources(struct soft_block *block, uint8_t mode,
                                        struct translation **oldest, unsigned *count)
{
    struct translation *newest = NULL;

    *count = 0;
    for (struct translation *translation = block->translations; translation && *count < SAME_MAX;
         translation = translation->next) {
        if (translation->mode != mode)
            continue;
        if (!newest)
            newest = translation;
        *oldest = translation;
        ++*count;
    }
    return newest;
}

static void take_out(struct soft_block *block, const struct translation *translation)
{
    struct translation **link = &block->translations;

    while (*link != translation)
        link = &(*link)->next;
    *link = translation->next;
}

struct translation *translation_clone(struct soft_cpu *cpu, struct soft_block *block,
                                      uint64_t linear, uint8_t mode)
{
    struct soft_translator *translator = cpu->translator;
    struct translation *oldest = NULL, *newest, *clone;
    struct relocation_move move;
    unsigned count;
    uint32_t page;
    bool moves;

    newest = find_sources(block, mode, &oldest, &count);
    if (!newest || !translator->clones || block->next_host || !code_pages_ready(translator))
        return NULL;
    page = code_page_id(translator, linear, block->host);
    if (!page)
        return NULL;
    moves = count == SAME_MAX || translator->clock - oldest->made >= translator->young ||
            !has_room(translator, newest);
    clone = moves ? oldest : newest;
    move = begin_move(cpu, clone, linear, page);
    if (!fits(cpu, clone, &move))
        return NULL;
    if (moves) {
        take_out(block, clone);
        move_translation(cpu, clone, &move);
    } else {
        clone = copy_translation(cpu, clone, &move);
    }
    clone->made = translator->clock++;
    clone->next = block->translations;
    block->translations = clone;
    soft_count(&cpu->counters.clones);
    translator_log_clone(translator, clone);
    return clone;
}
