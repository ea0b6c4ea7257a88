// SPDX-License-Identifier: Apache-2.0
/*
 * One block: which flags are live where, one instruction after the other, the ways in, and the cold
 * code behind.
 *
 * Each instruction of the guest becomes a prefix that can be begun anew (addresses, checks, loads
 * of registers that live in memory) and one instruction of the host that commits it. What is not on
 * the allow-list of copy.h and no stack instruction or branch is executed by the interpreter.
 *
 * Checks clobber the host's flags. Where the guest's are live they are put in the carrier first,
 * and come back when an instruction reads them, changes only some of them, or the block ends.
 */
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/log.h"
#include "vmm/engine/soft/translator/translation.h"

#define PEEK_INSNS 8 /* of a successor, to see whether it needs flags */

struct emit_memory build_field(const struct build *build, size_t offset)
{
    return (struct emit_memory){.base = EMIT_NONE,
                                .index = EMIT_NONE,
                                .displacement = (int32_t)((uintptr_t)build->cpu + offset)};
}

static const struct insn *now(const struct build *build)
{
    return &build->translation->block->insns[build->index];
}

static uint32_t offset_of(const struct build *build, const uint8_t *at)
{
    return (uint32_t)(at - build->translator->cache.write);
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
    *site = (struct site){.insn = now(build),
                          .translation = build->translation,
                          .rip = build->rip,
                          .retry = offset_of(build, build->emitter.at),
                          .last = now(build)->prefixes & INSN_ENDS_BLOCK};
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

static void spare_flags(struct build *build, uint32_t live)
{
    if (build->flags != FLAGS_HOST)
        return;
    if (live)
        emit_flags_save(build);
    build->flags = live ? FLAGS_CARRIER : FLAGS_DEAD;
}

void build_carry_flags(struct build *build)
{
    spare_flags(build, build->now->live_in);
}

void build_begin_access(struct build *build)
{
    struct site *site;

    if (build->window != WINDOW_FREE)
        spare_flags(build, build->now->live_in);
    build->window_flags = (uint8_t)build->flags;
    site = build_site(build);
    if (site)
        site->retry = offset_of(build, build->emitter.at);
    memcpy(build->retry_held, build->held, sizeof(build->held));
}

void build_need_flags(struct build *build, uint8_t scratch)
{
    if (build->flags != FLAGS_CARRIER)
        return;
    emit_flags_restore(build, scratch);
    build->flags = FLAGS_HOST;
}

/* ---- liveness ---- */

static uint32_t live_before(const struct copy_form *form, uint32_t after)
{
    return (after & ~form->flags_killed) | form->flags_read;
}

static void classify(struct build *build, const struct insn *insn, struct build_insn *entry)
{
    if (soft_insn_undefined(insn)) {
        entry->form = (struct copy_form){.flags_read = FLAGS_LIVE};
        return;
    }
    copy_classify(&entry->decoded.instruction, entry->decoded.operands,
                  &build->translator->features, build->translator->exact, &entry->form);
}

/* Move `rip` on over an instruction that is not copied and has nothing to do with flags; false
 * where it is not known to be such, or where it leads. */
static bool pass_over(const struct soft_decoded *decoded, uint64_t *rip)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;

    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_LEAVE:
        *rip += instruction->length;
        return true;
    case ZYDIS_MNEMONIC_JMP:
        if (decoded->operands[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
            !instruction->raw.imm[0].is_relative || instruction->operand_width == 16)
            return false;
        *rip += instruction->length + (uint64_t)decoded->operands[0].imm.value.s;
        return true;
    default:
        return false;
    }
}

/* Flags that the code at `rip`, on the same page, may need; all where that is not seen at once. */
static uint32_t live_at(struct build *build, uint64_t rip)
{
    const struct translation *translation = build->translation;
    uint64_t linear = translation->linear;
    uint32_t needed = 0, pending = FLAGS_LIVE;

    if (build->translator->exact)
        return FLAGS_LIVE;
    for (unsigned i = 0; i < PEEK_INSNS && pending && !((rip ^ linear) >> 12); i++) {
        const uint8_t *bytes = translation->block->host + (int64_t)(rip - linear);
        struct soft_decoded decoded;
        struct copy_form form;
        uint8_t copy[15];
        unsigned size = MIN(0x1000 - (rip & 0xfff), sizeof(copy));

        soft_copy(copy, bytes, size);
        if (!soft_decode_whole(build->cpu->model, build->cpu->code_size, copy, size, &decoded))
            break;
        copy_classify(&decoded.instruction, decoded.operands, &build->translator->features, false,
                      &form);
        if (form.copies) {
            needed |= form.flags_read & pending;
            pending &= ~form.flags_killed;
            rip += decoded.instruction.length;
        } else if (!pass_over(&decoded, &rip)) {
            break;
        }
    }
    return needed | pending;
}

/* Flags that may be needed after the block. */
static uint32_t live_behind(struct build *build)
{
    const struct soft_block *block = build->translation->block;
    const struct insn *last = &block->insns[block->count - 1];
    const ZydisDecodedInstruction *decoded = &build->insns[block->count - 1].decoded.instruction;
    uint64_t next = build->translation->linear + block->bytes, target = next + last->immediate;

    if (!build->long_mode)
        target = (uint32_t)target;
    if (!(last->prefixes & INSN_ENDS_BLOCK))
        return live_at(build, next);
    if (soft_insn_undefined(last) || !(last->prefixes & INSN_NEAR_BRANCH) ||
        decoded->raw.imm[0].size == 0 || !decoded->raw.imm[0].is_relative)
        return FLAGS_LIVE;
    if (decoded->meta.category == ZYDIS_CATEGORY_COND_BR)
        return live_at(build, target) | live_at(build, next);
    return live_at(build, target);
}

/* What the instruction needs when it is not copied: of the ones that terminator.c knows, Jcc reads
 * flags, the others leave them alone; the interpreter wants all. */
static void adjust_form(const struct insn *insn, struct build_insn *entry)
{
    const ZydisDecodedInstruction *decoded = &entry->decoded.instruction;

    if (entry->form.copies || entry->form.bits || soft_insn_undefined(insn))
        return;
    entry->form.flags_killed = 0;
    switch (decoded->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_LOOP:
        entry->form.flags_read = 0;
        break;
    default:
        entry->form.flags_read = FLAGS_LIVE;
        build_system_flags(decoded, &entry->form);
        break;
    }
}

static uint8_t live_registers(const struct copy_form *form)
{
    if (!form->copies)
        return 0;
    return (uint8_t)((form->vector ? SOFT_LIVE_VECTORS : 0) | (form->x87 ? SOFT_LIVE_X87 : 0));
}

/* The block's bytes, which may lie in two pages. (What is no instruction may be known to be none
 * only by bytes behind its own.) */
static void copy_code(struct build *build)
{
    const struct soft_block *block = build->translation->block;
    unsigned room = 0x1000 - (build->translation->linear & 0xfff);

    room = MIN(room, block->bytes);
    soft_copy(build->code, block->host, room);
    if (room < block->bytes)
        soft_copy(build->code + room, block->next_host, block->bytes - room);
}

/* Decode the block anew, and go through it from its end. All that is made of its bytes is made of
 * one copy, since others may write them meanwhile. */
static bool analyze(struct build *build)
{
    const struct soft_block *block = build->translation->block;
    const uint8_t *bytes = build->code;
    uint32_t live;

    copy_code(build);
    for (unsigned i = 0; i < block->count; i++) {
        struct build_insn *entry = &build->insns[i];

        if (!soft_insn_undefined(&block->insns[i]) &&
            !soft_decode_whole(build->cpu->model, build->cpu->code_size, bytes,
                               block->insns[i].length, &entry->decoded))
            return false;
        entry->bytes = bytes;
        classify(build, &block->insns[i], entry);
        adjust_form(&block->insns[i], entry);
        build->translation->live |= live_registers(&entry->form);
        bytes += block->insns[i].length;
    }
    live = live_behind(build);
    for (unsigned i = block->count; i-- > 0;) {
        build->insns[i].live_out = live;
        live = build->translator->exact ? FLAGS_LIVE : live_before(&build->insns[i].form, live);
        build->insns[i].live_in = live;
    }
    return true;
}

/* ---- one instruction ---- */

void build_interpret(struct build *build)
{
    struct emitter *emitter = &build->emitter;
    struct site *site;

    spare_flags(build, FLAGS_LIVE);
    site = build_site(build);
    if (!site)
        return;
    emit_mov_immediate(emitter, T1, (uint64_t)(site - build->translator->sites));
    emit_mov_immediate(emitter, T2, 0);
    emit_jump(emitter, build->translator->interpret);
    build->flags = FLAGS_CARRIER;
    held_reset(build);
    if (!site->last || now(build)->prefixes & INSN_NEAR_BRANCH || soft_insn_undefined(now(build)))
        return;
    site->behind = true;
    site->resume = offset_of(build, emitter->at);
    build_jump_behind(build, build->rip + now(build)->length);
}

/* A scratch register for `gpr` that is not `taken`: the one that holds it, else one that holds
 * nothing, else any; EMIT_NONE when all are taken. */
static uint8_t choose_scratch(const struct build *build, unsigned gpr, uint32_t taken)
{
    uint8_t choice = held_by(build, gpr);

    if (choice != EMIT_NONE && !(taken >> choice & 1))
        return choice;
    choice = EMIT_NONE;
    for (unsigned i = 0; i < SCRATCH_COUNT; i++) {
        uint8_t scratch = scratch_registers[i];

        if (taken >> scratch & 1)
            continue;
        if (build->held[i] == EMIT_NONE)
            return scratch;
        if (choice == EMIT_NONE)
            choice = scratch;
    }
    return choice;
}

/* Host registers for an instruction's operands: those that live in memory get scratch ones. False
 * when there are not enough. */
static bool assign_registers(const struct build *build, const struct copy_form *form,
                             uint32_t taken, uint8_t map[16])
{
    uint32_t wanted = IN_MEMORY & (form->gpr_read | form->gpr_written);

    for (unsigned gpr = 0; gpr < 16; gpr++) {
        uint8_t holder = held_by(build, gpr);

        map[gpr] = host_register(gpr);
        if (wanted && (IN_MEMORY >> gpr & 1))
            map[gpr] = EMIT_NONE;
        if ((wanted >> gpr & 1) && holder != EMIT_NONE && !(taken >> holder & 1)) {
            map[gpr] = holder;
            taken |= 1U << holder;
            wanted &= ~(1U << gpr);
        }
    }
    for (unsigned gpr = 0; gpr < 16; gpr++) {
        if (!(wanted >> gpr & 1))
            continue;
        map[gpr] = choose_scratch(build, gpr, taken);
        if (map[gpr] == EMIT_NONE)
            return false;
        taken |= 1U << map[gpr];
    }
    return true;
}

/* Bring the operands that live in memory where `map` says. */
static void load_operands(struct build *build, const uint8_t map[16], const struct copy_form *form)
{
    for (unsigned gpr = 0; gpr < 16; gpr++) {
        struct emit_memory field = BUILD_FIELD(build, gpr[gpr]);

        if (!(IN_MEMORY & (form->gpr_read | form->gpr_written) & 1U << gpr) ||
            held_by(build, gpr) == map[gpr])
            continue;
        held_lose(build, map[gpr]);
        if (!(form->gpr_read >> gpr & 1))
            continue;
        emit_load(&build->emitter, true, map[gpr], &field);
        held_set(build, map[gpr], gpr);
    }
}

static void store_operands(struct build *build, const uint8_t map[16], uint16_t which)
{
    for (unsigned gpr = 0; gpr < 16; gpr++) {
        struct emit_memory field = BUILD_FIELD(build, gpr[gpr]);

        if (!(IN_MEMORY & which & 1U << gpr))
            continue;
        emit_store(&build->emitter, true, &field, map[gpr]);
        held_set(build, map[gpr], gpr);
    }
}

/* AH and its like beside memory that wants REX: by AL meanwhile, which flags do not mind. A fault
 * between would show. */
static bool emit_high(struct build *build, const uint8_t map[16], struct access *access)
{
    const struct build_insn *entry = build->now;
    uint8_t high = copy_high_register(&entry->decoded.instruction, entry->decoded.operands);
    uint8_t exchange[] = {0x86, (uint8_t)(0xe0 | high << 3 | high)}; /* XCHG CL, CH */

    if (high == EMIT_NONE || (build->windowed && !build->soft) || entry->form.faults ||
        access->host.base == high || access->host.index == high)
        return false;
    emit_bytes(&build->emitter, exchange, sizeof(exchange));
    if (!copy_emit_exchanged(&build->emitter, &entry->decoded.instruction, entry->decoded.operands,
                             entry->bytes, map, &access->host))
        return false;
    emit_bytes(&build->emitter, exchange, sizeof(exchange));
    return true;
}

static bool build_copy(struct build *build)
{
    const struct build_insn *entry = build->now;
    const struct copy_form *form = &entry->form;
    bool need_flags = form->flags_read ||
                      (form->flags_written & FLAGS_LIVE && (entry->live_out & ~form->flags_killed));
    struct access access = {0};
    struct site *site;
    uint8_t map[16];

    if (form->memory) {
        if (!form->pointers && !form->control)
            build_window_choose(build);
        build_begin_access(build);
        if (!access_prepare(build, now(build), form->size, form->writes, &access))
            return false;
        access_check(build, &access, form->size, form->writes);
    }
    if (form->pointers && !build_x87_pointers(build, now(build), &access))
        return false;
    if (form->control) {
        build_control_word(build, &access);
        return true;
    }
    if (need_flags && access.constant && build->flags == FLAGS_CARRIER)
        build->group.active = false; /* T0 is wanted */
    if (need_flags)
        build_need_flags(build, access.constant ? T0 : T2);
    if (!assign_registers(build, form, access.scratch | (build->group.active ? 1U << T0 : 0),
                          map)) {
        if (!assign_registers(build, form, access.scratch, map))
            return false;
        build->group.active = false;
    }
    load_operands(build, map, form);
    if (form->faults) {
        site = build_site(build);
        if (!site)
            return false;
        site->commit = offset_of(build, build->emitter.at);
        site->flags = (uint8_t)build->flags;
    }
    build_window_commit(build, form->writes);
    if (!copy_emit(&build->emitter, &entry->decoded.instruction, entry->decoded.operands,
                   entry->bytes, map, form->memory ? &access.host : NULL) &&
        !emit_high(build, map, &access))
        return false;
    store_operands(build, map, form->gpr_written);
    if (form->pointers)
        held_reset(build);
    if (form->flags_written)
        build->flags = FLAGS_HOST;
    return true;
}

/* An address that is computed and not accessed. */
static bool build_lea(struct build *build)
{
    const struct insn *insn = now(build);
    struct emit_memory sum = {.base = EMIT_NONE,
                              .index = EMIT_NONE,
                              .scale = insn->scale,
                              .displacement = (int32_t)insn->displacement};
    const struct build_insn *entry = build->now;
    bool wide = insn->operand_size == 8 && insn->address_size == 8;
    uint8_t gpr = soft_register_offset(entry->decoded.operands[0].reg.value) / 8;
    bool in_memory = IN_MEMORY >> gpr & 1;
    uint8_t to = in_memory ? T2 : host_register(gpr);
    struct emit_memory field = BUILD_FIELD(build, gpr[gpr]);
    uint64_t linear = build->rip + insn->length + (uint64_t)insn->displacement;

    if (insn->operand_size == 2 || insn->address_size == 2)
        return false;
    if (insn->base < GPR_COUNT)
        sum.base = held_load(build, insn->base, T2);
    if (insn->index < GPR_COUNT)
        sum.index = held_load(build, insn->index, sum.base == T1 ? T2 : T1);
    if (insn->base == INSN_RIP)
        emit_mov_immediate(&build->emitter, to, wide ? linear : (uint32_t)linear);
    else
        emit_lea(&build->emitter, wide, to, &sum);
    if (in_memory) {
        emit_store(&build->emitter, true, &field, to);
        held_set(build, to, gpr);
    }
    return true;
}

/* Hints to processors, which do nothing that a program could see. */
static bool does_nothing(const ZydisDecodedInstruction *decoded)
{
    switch (decoded->mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_ENDBR64:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_PREFETCHWT1:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
        return true;
    default:
        return false;
    }
}

static bool build_native(struct build *build)
{
    const struct build_insn *entry = build->now;

    if (soft_insn_undefined(now(build)))
        return false;
    if (build_special(build))
        return true;
    if (build_system(build)) {
        held_reset(build);
        return true;
    }
    if (!entry->form.copies)
        return build_bits(build, now(build));
    if (does_nothing(&entry->decoded.instruction))
        return true;
    if (entry->decoded.instruction.mnemonic == ZYDIS_MNEMONIC_LEA)
        return build_lea(build);
    return build_copy(build);
}

static bool holds_any(const uint8_t held[SCRATCH_COUNT])
{
    for (unsigned i = 0; i < SCRATCH_COUNT; i++)
        if (held[i] != EMIT_NONE)
            return true;
    return false;
}

/* A way back from C, for the present site. */
static void finish_cold(struct build *build, struct cold *cold, const uint8_t held[SCRATCH_COUNT])
{
    if (!cold)
        return;
    cold->number = (uint32_t)(build->site - build->translator->sites);
    cold->flags = build->flags;
    memcpy(cold->held, held, sizeof(cold->held));
}

/* Where the interpreter comes back to, when it did the instruction, and where a refill does. */
static void finish_site(struct build *build)
{
    /* Only an access that checks nothing begins with the flags in the host's register. */
    bool flags =
        build->window == WINDOW_FREE && build->window_flags == FLAGS_HOST && build->now->live_in;
    struct cold *cold;

    if (!build->site)
        return;
    build->site->grouped = build->group.active;
    if (build->group.began || holds_any(build->retry_held) || flags) {
        cold = build_cold(build, COLD_RETRY, build->translator->cache.write + build->site->retry);
        finish_cold(build, cold, build->retry_held);
        if (cold)
            cold->flags = flags ? FLAGS_HOST : FLAGS_DEAD;
    }
    if (build->site->behind)
        return;
    build->site->resume = offset_of(build, build->emitter.at);
    if ((build->flags == FLAGS_HOST && build->now->live_out) || holds_any(build->held)) {
        cold = build_cold(build, COLD_RESUME, build->emitter.at);
        finish_cold(build, cold, build->held);
    }
}

/* One instruction, natively (true) or by the interpreter. */
static bool build_insn(struct build *build)
{
    struct soft_translator *translator = build->translator;
    const struct build start = {
        .emitter = build->emitter, .flags = build->flags, .cold_count = build->cold_count};
    unsigned sites = translator->site_count, exits = translator->exit_count;
    bool native;

    build->now = &build->insns[build->index];
    build->site = NULL;
    group_before(build);
    memset(build->retry_held, EMIT_NONE, sizeof(build->retry_held));
    build->window = WINDOW_NONE;
    native = build_native(build);
    if (native) {
        build_window_finish(build);
    } else {
        if (build->emitter.full)
            return false;
        build->emitter = start.emitter;
        build->flags = start.flags;
        build->cold_count = start.cold_count;
        build->translation->sites -= translator->site_count - sites;
        translator->site_count = sites;
        translator->exit_count = exits;
        build->site = NULL;
        build->group.active = build->group.began = false;
        build->window = WINDOW_NONE;
        build_interpret(build);
    }
    group_after(build);
    finish_site(build);
    return native;
}

/* ---- the block ---- */

static void emit_compare_and_leave(struct build *build, const struct emit_memory *field,
                                   int32_t value, unsigned condition, uint32_t exit)
{
    struct cold *cold;

    emit_op_memory(&build->emitter, 0, 0x81, false, 7, field);
    emit_u32(&build->emitter, (uint32_t)value);
    cold = build_cold(build, COLD_LEAVE, emit_jump_if_forward(&build->emitter, condition));
    if (cold)
        cold->number = exit;
}

static void emit_check_page(struct build *build, uint64_t linear, uint32_t page, uint32_t exit)
{
    uint32_t *id = soft_fetch_id(build->cpu, linear);
    struct emit_memory field = build_field(build, (uintptr_t)id - (uintptr_t)build->cpu);

    emit_compare_and_leave(build, &field, (int32_t)page, 5, exit);
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
    struct emit_memory difference = {
        .base = T1, .index = EMIT_NONE, .displacement = -(int32_t)page};
    uint8_t *same;

    emit_load(emitter, false, T1, &field);
    emit_mov_register(emitter, true, T2, GPR_RCX);
    emit_lea(emitter, false, GPR_RCX, &difference);
    emit_byte(emitter, 0xe3); /* JRCXZ */
    same = emitter->at;
    emit_byte(emitter, 0);
    emit_mov_register(emitter, true, GPR_RCX, T2);
    emit_flags_save(build);
    emit_mov_immediate(emitter, T2, exit);
    emit_jump(emitter, build->translator->leave);
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

    emit_compare_and_leave(build, &requests, 0, 5, number);
    for (uint8_t bit = SOFT_LIVE_VECTORS; bit <= SOFT_LIVE_X87; bit <<= 1) {
        if (!(translation->live & bit))
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
    emit_mov_immediate(emitter, T1, translation->linear);
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
    emit_flags_save(build);
    emit_mov_immediate(emitter, T2, cold->exit);
    emit_jump(emitter, translator->leave);
    emit_land(emitter, missed);
}

/* The instruction whose window does not serve, in the soft form. */
static void emit_soft(struct build *build, const struct cold *cold)
{
    struct soft_translator *translator = build->translator;
    struct emitter *emitter = &build->emitter;

    if (cold->place)
        emit_land(emitter, cold->place);
    translator->sites[cold->number].soft = offset_of(build, emitter->at);
    build->soft = true;
    build->index = cold->index;
    build->rip = cold->rip;
    build->flags = cold->flags;
    held_reset(build);
    build_insn(build);
    if (build->site)
        build->site->guess = cold->number;
    if (now(build)->prefixes & INSN_ENDS_BLOCK)
        return;
    if (cold->relied) {
        build_jump(build, cold->rip + now(build)->length);
        return;
    }
    if (cold->flags_behind == FLAGS_HOST && build->flags == FLAGS_CARRIER)
        emit_flags_restore(build, T2);
    held_reload(build, cold->held);
    emit_jump(emitter, cold->behind);
}

static void emit_cold(struct build *build, const struct cold *cold)
{
    struct soft_translator *translator = build->translator;
    struct emitter *emitter = &build->emitter;
    uint8_t *place = cold->place;

    if (cold->kind == COLD_SOFT) {
        emit_soft(build, cold);
        return;
    }
    if (cold->kind == COLD_RESUME) {
        translator->sites[cold->number].resume = offset_of(build, emitter->at);
        if (cold->flags == FLAGS_HOST)
            emit_flags_restore(build, T2);
        held_reload(build, cold->held);
        emit_jump(emitter, place);
        return;
    }
    if (cold->kind == COLD_CROSS) {
        emit_cross_kept(build, cold->number);
        return;
    }
    if (cold->kind == COLD_RETRY) {
        struct emit_memory delta = BUILD_FIELD(build, group_delta);

        translator->sites[cold->number].retry = offset_of(build, emitter->at);
        if (cold->flags == FLAGS_HOST)
            emit_flags_restore(build, T2);
        emit_load(emitter, true, T0, &delta);
        held_reload(build, cold->held);
        emit_jump(emitter, place);
        return;
    }
    emit_land(emitter, place);
    if (cold->kind == COLD_GROUP)
        emit_cold_group(build, cold);
    switch (cold->kind) {
    case COLD_GROUP:
    case COLD_MISS:
    case COLD_INTERPRET:
        if (cold->constant)
            emit_mov_immediate(emitter, T0, cold->linear);
        else if (cold->kind != COLD_INTERPRET)
            emit_lea(emitter, true, T0, &cold->address);
        emit_mov_immediate(emitter, T1, cold->number);
        emit_mov_immediate(emitter, T2, cold->access);
        emit_jump(emitter, translator->interpret);
        break;
    case COLD_CARRIED:
        translator->exits[cold->number].restore = emitter->at;
        emit_flags_restore(build, T2);
        translator->exits[cold->number].restored = emit_jump_forward(emitter);
        emit_land(emitter, place);
        translator->exits[cold->number].stub = emitter->at;
        emit_mov_immediate(emitter, T2, cold->number);
        emit_jump(emitter, translator->leave);
        break;
    default:
        translator->exits[cold->number].stub = emitter->at;
        if (cold->kind == COLD_EXIT)
            emit_flags_save(build);
        emit_mov_immediate(emitter, T2, cold->number);
        emit_jump(emitter, translator->leave);
        break;
    }
}

static void emit_body(struct build *build)
{
    const struct soft_block *block = build->translation->block;

    build->flags = FLAGS_HOST;
    for (build->index = 0; build->index < block->count; build->index++) {
        build->insns[build->index].code = build->emitter.at;
        build_window_note(build, build_insn(build));
        build->rip += block->insns[build->index].length;
    }
    if (!(block->insns[block->count - 1].prefixes & INSN_ENDS_BLOCK))
        build_jump(build, build->rip);
}

/* The ways that are seldom taken, in their part of the cache. */
static void emit_behind(struct build *build)
{
    struct soft_translator *translator = build->translator;
    struct translation *translation = build->translation;

    translation->end = build->emitter.at;
    translation->cold = translator->cold_used;
    build->emitter.at = translator->cold_used;
    build->emitter.end = translator->cache.write + translator->cache.size;
    for (unsigned i = 0; i < build->cold_count; i++)
        emit_cold(build, &build->cold[i]);
    translation->cold_end = build->emitter.at;
}

/* Take back what a translation that found no room has used. */
static void withdraw(struct soft_translator *translator, const struct translation *translation,
                     unsigned exits)
{
    translator->site_count = translation->site;
    translator->exit_count = exits;
}

struct translation *translation_make(struct soft_cpu *cpu, struct soft_block *block,
                                     uint64_t linear, uint8_t mode)
{
    struct soft_translator *translator = cpu->translator;
    struct build *build = translator->build;
    struct translation *translation;
    unsigned exits = translator->exit_count;

    if (translator->translation_count == TRANSLATIONS_MAX)
        return NULL;
    translation = &translator->translations[translator->translation_count];
    *translation = (struct translation){.linear = linear,
                                        .block = block,
                                        .mode = mode,
                                        .page = translator_page_id(translator, linear, block->host),
                                        .site = translator->site_count};
    if (block->next_host)
        translation->next_page = translator_page_id(
            translator, translation_next_page(cpu, translation), block->next_host);
    build->emitter = (struct emitter){.at = translator->used, .end = translator->cold};
    build->cpu = cpu;
    build->translator = translator;
    build->translation = translation;
    build->rip = linear;
    build->long_mode = cpu->code_size == 8;
    build->cold_count = 0;
    build->group = (struct group){0};
    held_reset(build);
    build->soft = false;
    build_window_begin(build);
    if (!translation->page || (block->next_host && !translation->next_page) || !analyze(build))
        return NULL;
    translation->needs_flags = build->insns[0].live_in;
    emit_ways_in(build);
    emit_body(build);
    emit_behind(build);
    if (build->emitter.full) {
        withdraw(translator, translation, exits);
        return NULL;
    }
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
