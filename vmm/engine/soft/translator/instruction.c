// SPDX-License-Identifier: Apache-2.0
/*
 * One instruction of the guest: copied with its operands in the host's registers and its memory
 * checked, or emitted by hand, or left to the interpreter; and the ways back from C to it.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

void build_interpret(struct build *build)
{
    struct emitter *emitter = &build->emitter;
    struct site *site;

    build_spare_flags(build, FLAGS_LIVE);
    site = build_site(build);
    if (!site)
        return;
    emit_mov_number(emitter, RELOCATION_SITE, T1, (uint32_t)(site - build->translator->sites));
    emit_mov_immediate(emitter, T2, 0);
    emit_jump(emitter, build->translator->interpret);
    build->flags = FLAGS_CARRIER;
    held_reset(build);
    if (!site->last || build_now(build)->prefixes & INSN_NEAR_BRANCH ||
        soft_insn_undefined(build_now(build)))
        return;
    site->behind = true;
    site->resume = build_offset(build, emitter->at);
    build_jump_behind(build, build_next(build));
}

/* A scratch register for `gpr` that is not `taken`: the one that holds it, else one that holds
 * nothing, else any; EMIT_NONE when all are taken. Windows need T0 and T1 again and again, but not
 * T2: there a register that is `written` outlives accesses, since a load right behind its store
 * would have to wait. */
static uint8_t choose_scratch(const struct build *build, unsigned gpr, uint32_t taken, bool written)
{
    static const uint8_t orders[2][SCRATCH_COUNT] = {{T0, T1, T2}, {T2, T0, T1}};
    const uint8_t *order = build->windowed ? orders[written] : scratch_registers;
    uint8_t choice = held_by(build, gpr);

    if (choice != EMIT_NONE && !(taken >> choice & 1))
        return choice;
    choice = EMIT_NONE;
    for (unsigned i = 0; i < SCRATCH_COUNT; i++) {
        if (taken >> order[i] & 1)
            continue;
        if (!held_any(build, order[i]))
            return order[i];
        if (choice == EMIT_NONE)
            choice = order[i];
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
        map[gpr] = choose_scratch(build, gpr, taken, form->gpr_written >> gpr & 1);
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

    if (high == EMIT_NONE || build->window != WINDOW_NONE || entry->form.faults ||
        access->host.base == high || access->host.index == high)
        return false;
    emit_bytes(&build->emitter, exchange, sizeof(exchange));
    if (!copy_emit_exchanged(&build->emitter, &entry->decoded.instruction, entry->decoded.operands,
                             entry->bytes, map, &access->host))
        return false;
    emit_bytes(&build->emitter, exchange, sizeof(exchange));
    return true;
}

/* Whether emit_high may have to do it. */
static bool uses_high(const struct build *build)
{
    return copy_high_register(&build->now->decoded.instruction, build->now->decoded.operands) !=
           EMIT_NONE;
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
        if (!form->pointers && !form->control && !uses_high(build))
            build_window_choose(build);
        if (!access_covered(build, build_now(build), form->size, form->writes))
            build_begin_access(build);
        if (!access_prepare(build, build_now(build), form->size, form->writes, &access))
            return false;
        access_check(build, &access, form->size, form->writes);
    }
    if (form->pointers && !build_x87_pointers(build, build_now(build), &access))
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
        site->commit = build_offset(build, build->emitter.at);
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
    const struct insn *insn = build_now(build);
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
        emit_mov_linear(&build->emitter, to, wide ? linear : (uint32_t)linear, !wide);
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

    if (soft_insn_undefined(build_now(build)))
        return false;
    if (build_special(build))
        return true;
    if (build_system(build)) {
        held_reset(build);
        return true;
    }
    if (!entry->form.copies)
        return build_bits(build, build_now(build));
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
    memcpy(cold->held, held, sizeof(cold->held));
}

/* Where the interpreter comes back to, when it did the instruction, and where a refill does. The
 * glue brings the flags to the host's register, wherever they are wanted. */
static void finish_site(struct build *build)
{

    if (!build->site)
        return;
    build->site->grouped = build->group.active;
    if (build->group.began || holds_any(build->retry_held))
        finish_cold(
            build,
            build_cold(build, COLD_RETRY, build->translator->cache.write + build->site->retry),
            build->retry_held);
    if (build->site->behind)
        return;
    build->site->resume = build_offset(build, build->emitter.at);
    if (holds_any(build->held))
        finish_cold(build, build_cold(build, COLD_RESUME, build->emitter.at), build->held);
}

/* One instruction, natively (true) or by the interpreter. */
bool build_instruction(struct build *build)
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
