// SPDX-License-Identifier: Apache-2.0
/*
 * How translations are found and lead to each other: by linear address and mode, by the jumps of
 * exits that are linked, and by the tables of indirect branches' targets.
 *
 * The exits that lead to a translation are a list in both directions, so that either end can leave
 * it: the one that is led to when it is dropped or moved, an exit when its own translation is
 * moved.
 */
#include "vmm/engine/soft/translator/translation.h"

#define LINK_FIRST 0x80000000U /* exit.previous: the first of a translation's list, not an exit */

static struct translation **bucket_of(struct soft_translator *translator, uint64_t linear,
                                      uint8_t mode)
{
    uint64_t hash = (linear ^ (uint64_t)mode << 56) * 0x9e3779b97f4a7c15UL;

    return &translator->buckets[hash >> 40 & (TRANSLATION_BUCKETS - 1)];
}

struct translation *translation_find(struct soft_translator *translator,
                                     const struct soft_block *block, uint64_t linear, uint8_t mode)
{
    struct translation *translation = block->translations;

    /* Mostly the latest. */
    if (!translation || (translation->linear == linear && translation->mode == mode))
        return translation;
    translation = *bucket_of(translator, linear, mode);
    while (translation && (translation->block != block || translation->linear != linear ||
                           translation->mode != mode))
        translation = translation->same_hash;
    return translation;
}

struct translation *translation_find_at(struct soft_translator *translator, const uint8_t *host,
                                        uint64_t linear, uint8_t mode)
{
    struct translation *translation = *bucket_of(translator, linear, mode);

    while (translation && (translation->linear != linear || translation->host != host ||
                           translation->mode != mode || translation->next_page))
        translation = translation->same_hash;
    return translation;
}

void translation_enter(struct soft_translator *translator, struct translation *translation)
{
    struct translation **bucket = bucket_of(translator, translation->linear, translation->mode);

    translation->same_hash = *bucket;
    *bucket = translation;
}

void translation_detach(struct soft_translator *translator, struct translation *translation)
{
    struct translation **link = bucket_of(translator, translation->linear, translation->mode);

    while (*link && *link != translation)
        link = &(*link)->same_hash;
    if (*link)
        *link = translation->same_hash;
    while (translation->incoming)
        exit_unlink(translator, translation->incoming);
}

/* ---- exits ---- */

void exit_unlink(struct soft_translator *translator, uint32_t number)
{
    struct exit *exit = &translator->exits[number];

    if (!exit->previous)
        return;
    if (exit->previous & LINK_FIRST)
        translator->translations[exit->previous & ~LINK_FIRST].incoming = exit->next;
    else
        translator->exits[exit->previous].next = exit->next;
    if (exit->next)
        translator->exits[exit->next].previous = exit->previous;
    exit->next = exit->previous = 0;
    emit_patch(exit->place, exit->stub);
}

/* Enter it at the head of the list of what it is linked to. */
static void enter_incoming(struct soft_translator *translator, uint32_t number,
                           struct translation *to)
{
    struct exit *exit = &translator->exits[number];

    exit->previous = LINK_FIRST | (uint32_t)(to - translator->translations);
    exit->next = to->incoming;
    if (exit->next)
        translator->exits[exit->next].previous = number;
    to->incoming = number;
}

/* Let indirect branches find `to`, before others of the same place in the table. */
static void enter_target(struct soft_translator *translator, struct translation *to)
{
    const uint8_t **place =
        &translator->indirect[to->mode][to->linear & ((1U << INDIRECT_BITS) - 1)];
    struct translation *first =
        translator_find_code(translator, *place - translator->cache.execute);
    unsigned ways = 1;

    while (first && !first->block)
        first = first->other;
    for (struct translation *other = first; other; other = other->other)
        if (other == to || ++ways > INDIRECT_WAYS)
            first = NULL;
    to->other = first;
    emit_patch(to->mismatch, first ? first->indirect : translator->leave);
    *place = to->indirect + translator->cache.execute;
}

void exit_link(struct soft_translator *translator, uint32_t number, struct translation *to)
{
    struct exit *exit = &translator->exits[number];
    const struct translation *from = exit->from;
    const uint8_t *way;

    if (!translator->chain)
        return;
    if (exit->kind == EXIT_INDIRECT) {
        enter_target(translator, to);
        return;
    }
    if ((exit->kind != EXIT_DIRECT && exit->kind != EXIT_BEHIND && exit->kind != EXIT_PLAIN) ||
        !from->block || exit->rip != to->linear)
        return;
    if ((from->linear ^ to->linear) >> 12 || to->next_page || exit->kind == EXIT_BEHIND)
        way = exit->restore ? to->cross : to->cross_kept;
    else if (to->linear <= from->linear || (to->live & ~from->live))
        way = to->poll;
    else
        way = to->entry;
    if (exit->restore && to->needs_flags) {
        emit_patch(exit->restored, way);
        way = exit->restore;
    }
    emit_patch(exit->place, way);
    enter_incoming(translator, number, to);
    soft_count(&translator->cpu->counters.chains);
}
