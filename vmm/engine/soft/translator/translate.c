// SPDX-License-Identifier: Apache-2.0
/*
 * One translation: the ways in, one instruction after the other, and the cold code behind.
 *
 * Each instruction of the guest becomes a prefix that can be begun anew (addresses, checks, loads
 * of registers that live in memory) and one instruction of the host that commits it. What is not on
 * the allow-list of copy.h and no stack instruction or branch is executed by the interpreter.
 *
 * Checks clobber the host's flags. Where the guest's are live they are put in the carrier first,
 * and come back when an instruction reads them, changes only some of them, or the trace ends.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/log.h"
#include "vmm/engine/soft/translator/translation.h"

struct emit_memory build_field(const struct build *build, size_t offset)
{
    return (struct emit_memory){.base = EMIT_NONE,
                                .index = EMIT_NONE,
                                .displacement = (int32_t)((uintptr_t)build->cpu + offset)};
}

struct site *build_site(struct build *build)
{
    struct soft_translator *translator = build->translator;
    struct site *site = build->site;

    if (site)
        return site;
    if (translator->site_count == SITES_MAX) {
        build->emitter.full = true;
        return NULL;
    }
    site = build->site = &translator->sites[translator->site_count++];
    *site = (struct site){.insn = build_now(build),
                          .translation = build->translation,
                          .rip = build->rip,
                          .retry = build_offset(build, build->emitter.at),
                          .last = build_now(build)->prefixes & INSN_ENDS_BLOCK};
    build->translation->sites++;
    return site;
}

uint32_t build_exit(struct build *build, enum exit_kind kind, uint64_t rip, uint8_t *place)
{
    struct soft_translator *translator = build->translator;

    if (translator->exit_count == EXITS_MAX) {
        build->emitter.full = true;
        return 0;
    }
    translator->exits[translator->exit_count] = (struct exit){
        .from = build->translation, .rip = rip, .place = place, .kind = (uint8_t)kind};
    return translator->exit_count++;
}

struct cold *build_cold(struct build *build, enum cold_kind kind, uint8_t *place)
{
    struct site *site = NULL;
    struct cold *cold;

    if (kind == COLD_MISS || kind == COLD_GROUP || kind == COLD_INTERPRET)
        site = build_site(build);
    if (build->cold_count == COLD_MAX || build->emitter.full) {
        build->emitter.full = true;
        return NULL;
    }
    cold = &build->cold[build->cold_count++];
    *cold = (struct cold){.kind = kind, .place = place};
    if (site)
        cold->number = (uint32_t)(site - build->translator->sites);
    return cold;
}

/* ---- flags ---- */

void emit_flags_save(struct build *build)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory carrier = BUILD_FIELD(build, flags_carrier);
    static const uint8_t from_flags[] = {0x9f, 0x0f, 0x90, 0xc0}; /* LAHF; SETO AL */

    held_lose(build, T2);
    emit_mov_register(emitter, true, T2, GPR_RAX);
    emit_bytes(emitter, from_flags, sizeof(from_flags));
    emit_op_memory(emitter, 0x66, 0x89, false, GPR_RAX, &carrier);
    emit_mov_register(emitter, true, GPR_RAX, T2);
}

/* CF alone, where no other flag is live: additions of long numbers, between whose memory operands
 * a carry lives. Not around instructions behind which interrupts are taken, whose frames show all
 * flags. */
static void emit_carry_save(struct build *build)
{
    struct emit_memory carrier = BUILD_FIELD(build, flags_carrier);

    carrier.displacement++;
    emit_op_memory(&build->emitter, 0, 0x0f92, false, 0, &carrier); /* SETC */
}

static void emit_carry_restore(struct build *build, uint8_t scratch)
{
    struct emit_memory carrier = BUILD_FIELD(build, flags_carrier);

    carrier.displacement++;
    held_lose(build, scratch);
    emit_op_memory(&build->emitter, 0, 0x0fb6, false, scratch, &carrier); /* MOVZX */
    emit_shift(&build->emitter, 5, false, scratch, 1);
}

static void emit_flags_restore(struct build *build, uint8_t scratch)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory carrier = BUILD_FIELD(build, flags_carrier);
    static const uint8_t to_flags[] = {0x04, 0x7f, 0x9e}; /* ADD AL, 7Fh; SAHF */

    held_lose(build, scratch);
    emit_mov_register(emitter, true, scratch, GPR_RAX);
    emit_op_memory(emitter, 0, 0x0fb7, false, GPR_RAX, &carrier); /* MOVZX */
    emit_bytes(emitter, to_flags, sizeof(to_flags));
    emit_mov_register(emitter, true, GPR_RAX, scratch);
}

void build_spare_flags(struct build *build, uint32_t live)
{
    if (build->flags != FLAGS_HOST)
        return;
    if (live == FLAG_CF && build->now->form.copies)
        emit_carry_save(build);
    else if (live)
        emit_flags_save(build);
    build->flags = live ? FLAGS_CARRIER : FLAGS_DEAD;
}

void build_carry_flags(struct build *build)
{
    build_spare_flags(build, build->now->live_in);
}

void build_begin_access(struct build *build)
{
    struct site *site;

    if (build->window != WINDOW_FREE)
        build_spare_flags(build, build->now->live_in);
    build->window_flags = (uint8_t)build->flags;
    site = build_site(build);
    if (site)
        site->retry = build_offset(build, build->emitter.at);
    memcpy(build->retry_held, build->held, sizeof(build->held));
}

void build_need_flags(struct build *build, uint8_t scratch)
{
    if (build->flags != FLAGS_CARRIER)
        return;
    if (build->now->live_in == FLAG_CF)
        emit_carry_restore(build, scratch);
    else
        emit_flags_restore(build, scratch);
    build->flags = FLAGS_HOST;
}

/* ---- the block ---- */

/* Leave unless the field holds `value`, which is of the kind. */
static void emit_compare_and_leave(struct build *build, const struct emit_memory *field,
                                   enum relocation_kind kind, uint32_t value, uint32_t exit)
{
    struct cold *cold;

    emit_op_memory(&build->emitter, 0, 0x81, false, 7, field);
    emit_relocation(&build->emitter, kind, build->emitter.at);
    emit_u32(&build->emitter, value);
    cold = build_cold(build, COLD_LEAVE, emit_jump_if_forward(&build->emitter, 5));
    if (cold)
        cold->number = exit;
}

static void emit_check_page(struct build *build, uint64_t linear, uint32_t page, uint32_t exit)
{
    uint32_t *id = soft_fetch_id(build->cpu, linear);
    struct emit_memory field = build_field(build, (uintptr_t)id - (uintptr_t)build->cpu);

    field.relocate = RELOCATION_FETCH;
    emit_compare_and_leave(build, &field, RELOCATION_PAGE, page, exit);
}

static void emit_check_pages(struct build *build)
{
    const struct translation *translation = build->translation;
    uint32_t exit = build_exit(build, EXIT_STALE, translation->linear, NULL);

    emit_check_page(build, translation->linear, translation->page, exit);
    if (translation->next_page)
        emit_check_page(build, translation_next_page(build->cpu, translation),
                        translation->next_page, exit);
}

/* As emit_check_page, with the flags in the host's register and left there. */
static void emit_check_page_kept(struct build *build, uint64_t linear, uint32_t page, uint32_t exit)
{
    struct emitter *emitter = &build->emitter;
    uint32_t *id = soft_fetch_id(build->cpu, linear);
    struct emit_memory field = build_field(build, (uintptr_t)id - (uintptr_t)build->cpu);
    struct emit_memory difference = {.base = T1,
                                     .index = EMIT_NONE,
                                     .relocate = RELOCATION_PAGE_NEGATED,
                                     .displacement = -(int32_t)page};
    uint8_t *same;

    field.relocate = RELOCATION_FETCH;
    emit_load(emitter, false, T1, &field);
    emit_mov_register(emitter, true, T2, GPR_RCX);
    emit_lea(emitter, false, GPR_RCX, &difference);
    emit_byte(emitter, 0xe3); /* JRCXZ */
    same = emitter->at;
    emit_byte(emitter, 0);
    emit_mov_register(emitter, true, GPR_RCX, T2);
    emit_mov_number(emitter, RELOCATION_EXIT, T2, exit);
    emit_jump(emitter, build->translator->leave_kept);
    if (!emitter->full)
        *same = (uint8_t)(emitter->at - same - 1);
    emit_mov_register(emitter, true, GPR_RCX, T2);
}

/* The way in from another page, for jumps that bring the flags in the host's register to a block
 * that does not need them: whatever is mapped there by now may. */
static void emit_cross_kept(struct build *build, uint32_t exit)
{
    struct translation *translation = build->translation;

    translation->cross_kept = build->emitter.at;
    emit_check_page_kept(build, translation->linear, translation->page, exit);
    if (translation->next_page)
        emit_check_page_kept(build, translation_next_page(build->cpu, translation),
                             translation->next_page, exit);
    emit_jump(&build->emitter, translation->poll);
}

static void emit_poll(struct build *build)
{
    struct translation *translation = build->translation;
    struct emit_memory requests = BUILD_FIELD(build, requests);
    struct emit_memory live = BUILD_FIELD(build, live);
    uint32_t number = build_exit(build, EXIT_REQUEST, translation->linear, NULL);
    struct cold *cold;

    emit_compare_and_leave(build, &requests, RELOCATION_NONE, 0, number);
    for (uint8_t bit = SOFT_LIVE_VECTORS; bit <= SOFT_LIVE_AVX512; bit <<= 1) {
        if (!(translation->live & bit) ||
            (bit == SOFT_LIVE_VECTORS && translation->live & SOFT_LIVE_AVX512))
            continue;
        emit_op_memory(&build->emitter, 0, 0xf6, false, 0, &live); /* TEST m8, imm8 */
        emit_byte(&build->emitter, bit);
        cold = build_cold(build, COLD_LEAVE, emit_jump_if_forward(&build->emitter, 4));
        if (cold)
            cold->number = number;
    }
}

/* The ways in. Those that check do it with the flags in the carrier, where they are live. */
static void emit_ways_in(struct build *build)
{
    struct translation *translation = build->translation;
    struct emitter *emitter = &build->emitter;
    bool live = build->insns[0].live_in;
    uint8_t *over = NULL;
    struct cold *cold;

    translation->indirect = emitter->at;
    emit_mov_linear(emitter, T1, translation->linear, !build->long_mode);
    emit_op_register(emitter, 0x39, true, T1, T0); /* CMP T0, T1 */
    translation->mismatch = emit_jump_if_forward(emitter, 5);
    emit_patch(translation->mismatch, build->translator->leave);
    if (live)
        over = emit_jump_forward(emitter);
    translation->cross = emitter->at;
    if (live) {
        emit_flags_save(build);
        emit_land(emitter, over);
    }
    emit_check_pages(build);
    if (live)
        over = emit_jump_forward(emitter);
    translation->poll = emitter->at;
    if (live) {
        emit_flags_save(build);
        emit_land(emitter, over);
    }
    emit_poll(build);
    if (live)
        emit_flags_restore(build, T2);
    translation->entry = emitter->at;
    translation->cross_kept = translation->cross;
    cold = live ? NULL : build_cold(build, COLD_CROSS, NULL);
    if (cold)
        cold->number = build_exit(build, EXIT_STALE, translation->linear, NULL);
}

/* A group that does not lie within one page goes on without it; else it missed. */
static void emit_cold_group(struct build *build, const struct cold *cold)
{
    struct soft_translator *translator = build->translator;
    struct emitter *emitter = &build->emitter;
    uint8_t *missed;

    emit_lea(emitter, true, T1, &cold->first);
    emit_lea(emitter, true, T2, &cold->last);
    emit_op_register(emitter, 0x31, true, T2, T1); /* XOR T1, T2 */
    emit_shift(emitter, 5, true, T1, 12);
    missed = emit_jump_if_forward(emitter, 4);
    if (cold->flags == FLAGS_CARRIER)
        emit_flags_restore(build, T2);
    translator->exits[cold->exit].place = emit_jump_forward(emitter);
    emit_land(emitter, translator->exits[cold->exit].place);
    translator->exits[cold->exit].stub = emitter->at;
    emit_mov_number(emitter, RELOCATION_EXIT, T2, cold->exit);
    emit_jump(emitter, translator->leave_kept);
    emit_land(emitter, missed);
}

/* Back into the block at `place`, with the scratch registers that are expected there: behind an
 * instruction that the interpreter did, or to begin one of a group anew. */
static void emit_resume(struct build *build, const struct cold *cold)
{
    struct site *site = &build->translator->sites[cold->number];
    struct emit_memory delta = BUILD_FIELD(build, group_delta);

    if (cold->kind == COLD_RETRY) {
        site->retry = build_offset(build, build->emitter.at);
        emit_load(&build->emitter, true, T0, &delta);
    } else {
        site->resume = build_offset(build, build->emitter.at);
    }
    held_reload(build, cold->held);
    emit_jump(&build->emitter, cold->place);
}

/* To the interpreter, with the address of the operand that missed. */
static void emit_miss(struct build *build, const struct cold *cold)
{
    struct emitter *emitter = &build->emitter;

    emit_land(emitter, cold->place);
    if (cold->kind == COLD_GROUP)
        emit_cold_group(build, cold);
    if (cold->constant)
        access_load_constant(build, T0, cold->linear, cold->relative, cold->cut);
    else if (cold->kind != COLD_INTERPRET)
        emit_lea(emitter, true, T0, &cold->address);
    emit_mov_number(emitter, RELOCATION_SITE, T1, cold->number);
    emit_mov_immediate(emitter, T2, cold->access);
    emit_jump(emitter, build->translator->interpret);
}

/* Out of the block; the way of an exit whose flags are in the carrier begins with their restoring,
 * for a target that needs them. */
static void emit_exit(struct build *build, const struct cold *cold)
{
    struct soft_translator *translator = build->translator;
    struct exit *exit = &translator->exits[cold->number];
    struct emitter *emitter = &build->emitter;

    if (cold->kind == COLD_CARRIED) {
        exit->restore = emitter->at;
        emit_flags_restore(build, T2);
        exit->restored = emit_jump_forward(emitter);
    }
    emit_land(emitter, cold->place);
    exit->stub = emitter->at;
    emit_mov_number(emitter, RELOCATION_EXIT, T2, cold->number);
    emit_jump(emitter, cold->kind == COLD_EXIT ? translator->leave_kept : translator->leave);
}

static void emit_cold(struct build *build, const struct cold *cold)
{
    switch (cold->kind) {
    case COLD_CROSS:
        emit_cross_kept(build, cold->number);
        break;
    case COLD_RESUME:
    case COLD_RETRY:
        emit_resume(build, cold);
        break;
    case COLD_GROUP:
    case COLD_MISS:
    case COLD_INTERPRET:
        emit_miss(build, cold);
        break;
    default:
        emit_exit(build, cold);
        break;
    }
}

static void emit_body(struct build *build)
{
    const struct build_insn *last = &build->insns[build->count - 1];

    build->flags = FLAGS_HOST;
    for (build->index = 0; build->index < build->count; build->index++) {
        struct build_insn *entry = &build->insns[build->index];
        bool native;

        entry->code = build->emitter.at;
        build->rip = entry->rip;
        native = build_instruction(build);
        if (entry->follow == FOLLOW_NONE)
            build_window_note(build, native);
    }
    if (!(last->insn->prefixes & INSN_ENDS_BLOCK))
        build_jump(build, last->rip + last->insn->length);
}

/* The ways that are seldom taken, in their part of the cache. */
static void emit_behind(struct build *build)
{
    struct soft_translator *translator = build->translator;
    struct translation *translation = build->translation;

    translation->end = build->emitter.at;
    translation->cold = translator->cold_used;
    build->emitter.at = build->emitter.piece = translator->cold_used;
    build->emitter.cold = true;
    build->emitter.end = translator->cache.write + translator->cache.size;
    for (unsigned i = 0; i < build->cold_count; i++)
        emit_cold(build, &build->cold[i]);
    translation->cold_end = build->emitter.at;
}

/* Take back what a translation that found no room has used. */
static void withdraw(struct soft_translator *translator, const struct translation *translation)
{
    translator->site_count = translation->site;
    translator->exit_count = translation->exit;
}

/* Which jumps were recorded that lead out of their piece, and where. */
static void settle_distances(struct build *build)
{
    struct translation *translation = build->translation;
    const struct soft_translator *translator = build->translator;
    struct relocation *relocations = build->emitter.relocations;
    uint32_t count = 0;

    for (uint32_t i = 0; i < build->emitter.relocation_count; i++) {
        struct relocation relocation = relocations[i];
        const uint8_t *at = translation_place(translation, relocation), *target;
        int32_t distance;

        if (relocation.kind == RELOCATION_DISTANCE) {
            memcpy(&distance, at, sizeof(distance));
            target = at + sizeof(distance) + distance;
            if (target < translator->empty)
                relocation.kind = RELOCATION_OUT;
            else if ((target >= translator->cold) != relocation.cold)
                relocation.kind = RELOCATION_ACROSS;
            else
                continue;
        }
        relocations[count++] = relocation;
    }
    translation->relocations = count;
}

/* Where its code is written, and what of it is recorded. */
static void begin_emitter(struct build *build)
{
    struct soft_translator *translator = build->translator;

    build->emitter = (struct emitter){
        .at = translator->used, .end = translator->cold, .piece = translator->used};
    if (!translator->clones)
        return;
    build->emitter.relocations = &translator->relocations[translator->relocation_count];
    build->emitter.relocation_max = RELOCATIONS_MAX - translator->relocation_count;
}

struct translation *translation_make(struct soft_cpu *cpu, struct soft_block *block,
                                     uint64_t linear, uint8_t mode)
{
    struct soft_translator *translator = cpu->translator;
    struct build *build = translator->build;
    struct translation *translation;

    if (translator->translation_count == TRANSLATIONS_MAX || !code_pages_ready(translator))
        return NULL;
    translation = &translator->translations[translator->translation_count];
    *translation = (struct translation){.linear = linear,
                                        .block = block,
                                        .host = block->host,
                                        .mode = mode,
                                        .page = code_page_id(translator, linear, block->host),
                                        .site = translator->site_count,
                                        .exit = translator->exit_count,
                                        .relocation = translator->relocation_count,
                                        .made = translator->clock};
    if (block->next_host)
        translation->next_page =
            code_page_id(translator, translation_next_page(cpu, translation), block->next_host);
    build->cpu = cpu;
    build->translator = translator;
    build->translation = translation;
    begin_emitter(build);
    build->rip = linear;
    build->long_mode = cpu->code_size == 8;
    build->cold_count = 0;
    build->group = (struct group){0};
    held_reset(build);
    build_window_begin(build);
    if (!translation->page || (block->next_host && !translation->next_page) ||
        !build_analyze(build))
        return NULL;
    translation->needs_flags = build->insns[0].live_in;
    emit_ways_in(build);
    emit_body(build);
    emit_behind(build);
    if (build->emitter.full) {
        withdraw(translator, translation);
        return NULL;
    }
    settle_distances(build);
    translation->exits = translator->exit_count - translation->exit;
    translator->relocation_count += translation->relocations;
    code_cache_settle(&translator->cache, translator->used, translation->end);
    translator->used = translation->end;
    translator->cold_used = translation->cold_end;
    translator->translation_count++;
    translation->next = block->translations;
    block->translations = translation;
    soft_count(&cpu->counters.blocks_translated);
    soft_count_by(&cpu->counters.bytes_translated,
                  (uint64_t)(translation->end - translation->indirect + translation->cold_end -
                             translation->cold));
    translator_log_translation(build);
    return translation;
}
