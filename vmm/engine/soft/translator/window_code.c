// SPDX-License-Identifier: Apache-2.0
/*
 * Memory operands of translated code: the window form. See window.h for what windows are.
 *
 * The operand keeps the guest's own addressing and gets the GS prefix, whose base leads from the
 * guest's linear addresses to the host's. What must be sure is that the address lies in the slot of
 * 512 GB that was guessed when the code was made, and which is reserved on the host together with
 * its neighbours: then nothing but guest memory can be there, or nothing at all, which is a fault.
 *
 *     mov  T1, base
 *     shr  T1, 39
 *     cmp  T1, slot
 *     jne  correct the guess
 *     op   gs:[base + displacement]
 *
 * User code adds the delta of the slot itself, since each address space has its own ones:
 *
 *     mov  T1, base
 *     shr  T1, 39
 *     cmp  T1, slot
 *     jne  correct the guess
 *     mov  T1, [user_delta + slot * 8]
 *     op   [base + T1 + displacement]
 *
 * 32-bit user code has one slot only, and no check: its addresses are computed with 32 bits. So are
 * those of 64-bit code with the prefix 67, which x32 has on most of its operands.
 *
 * Where a base register was checked earlier in the block, or the sum of base and index, no check is
 * needed: window_known.c. Nor for an address that is known.
 *
 * The guess is the address that the operand would have now, since the code is made when it is about
 * to be executed. Where the check fails, the guess is corrected in the code and the instruction
 * begun anew. One whose operand lies now here, now there, or where windows show nothing (registers
 * of devices, code that is written), is translated anew, with the TLB.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"
#include "vmm/engine/soft/translator/window.h"
#include "vmm/engine/soft/translator/window_map.h"

#define REFUSED_MAX 4 /* faults that map nothing, before an instruction gives windows up */
#define MOVED_MAX   3 /* corrections of its guess */
#define NOT_EQUAL   5
#define SHR         5
#define CMP         7

void build_window_begin(struct build *build)
{
    unsigned mode = build->translation->mode & ~MODE_PLAIN;

    build->window_user = mode & MODE_WINDOW;
    build->windowed =
        build->window_user || (build->long_mode && soft_window_attached(build->cpu) &&
                               (mode == SOFT_MMU_SUPERVISOR || mode == SOFT_MMU_SUPERVISOR_AC));
    build->window = WINDOW_NONE;
    known_begin(build);
}

/* ---- which form ---- */

/* The register's value if it is still the one with which the block begins. */
static bool value_of(const struct build *build, unsigned gpr, uint64_t *value)
{
    *value = build->cpu->gpr[gpr];
    return !(build->written >> gpr & 1);
}

/* An address in the slot where data is likely: of the kernel, or of the thread. */
static uint64_t likely(const struct build *build)
{
    const struct soft_cpu *cpu = build->cpu;

    if (!build->window_user)
        return cpu->seg[SEG_GS].base;
    return cpu->seg[SEG_FS].base ? cpu->seg[SEG_FS].base : cpu->gpr[GPR_RSP];
}

/* Whether windows of the block's kind may show the address. */
static bool in_reach(const struct build *build, uint64_t linear)
{
    return build->window_user ? window_is_lower(linear) : window_is_upper(linear);
}

/* Whether the displacement is the address of an object that does not move. */
static bool is_static(const struct build *build, int64_t displacement)
{
    return build->window_user ? displacement > WINDOW_SMALL : displacement < -WINDOW_SMALL;
}

/* Where the operand may lie. */
static uint64_t guess(const struct build *build, const struct insn *insn)
{
    uint64_t linear = (uint64_t)insn->displacement, value;

    if (insn->segment >= SEG_FS && build->cpu->seg[insn->segment].base)
        return build->cpu->seg[insn->segment].base;
    if (is_static(build, insn->displacement))
        return linear;
    if (insn->base < GPR_COUNT) {
        if (!value_of(build, insn->base, &value))
            return likely(build);
        linear += value;
    }
    if (insn->index < GPR_COUNT && !window_is_upper(linear)) {
        if (!value_of(build, insn->index, &value))
            return likely(build);
        linear += value << insn->scale;
    }
    return in_reach(build, linear) || !build->window_user ? linear : likely(build);
}

static enum window_form choose_guess(struct build *build, uint64_t linear)
{
    if (!in_reach(build, linear) ||
        (!build->window_user && !soft_window_reserve(build->cpu, linear)))
        return WINDOW_NONE;
    build->window_slot = (uint32_t)(linear >> WINDOW_SLOT_SHIFT);
    return WINDOW_CHECKED;
}

/* An address without registers, or not far from it. */
static enum window_form choose_constant(struct build *build, uint64_t linear)
{
    build->window_slot = (uint32_t)(linear >> WINDOW_SLOT_SHIFT);
    if (build->window_user)
        return in_reach(build, linear) ? WINDOW_FREE : WINDOW_NONE;
    return window_is_upper(linear) && (int64_t)linear == (int32_t)linear &&
                   soft_window_reserve(build->cpu, linear)
               ? WINDOW_FREE
               : WINDOW_NONE;
}

/* User code with addresses of 32 bits: any address. A segment's base takes flags to add. */
static enum window_form choose_small(struct build *build, unsigned segment)
{
    build->window_slot = 0;
    return segment >= SEG_FS ? WINDOW_CHECKED : WINDOW_FREE;
}

/* What was checked by `checker`, or as `linear` says. */
static enum window_form choose_known(struct build *build, const struct checker *checker,
                                     uint64_t linear)
{
    if (!checker)
        return choose_guess(build, linear);
    build->window_slot = checker->slot;
    build->window_checker = checker->site;
    return WINDOW_FREE;
}

/* [base + a small displacement] */
static enum window_form choose_base(struct build *build, unsigned base, uint64_t linear)
{
    build->window_key = (struct address_key){.base = (uint8_t)base, .index = EMIT_NONE};
    return choose_known(build, build->verified >> base & 1 ? &build->checker[base] : NULL, linear);
}

/* [base + index * scale + a small displacement]: the base is checked where the index cannot lead
 * far, else the sum. */
static enum window_form choose_sum(struct build *build, const struct insn *insn)
{
    struct address_key key = {.base = insn->base, .index = insn->index, .scale = insn->scale};
    const struct checker *checker = known_sum(build, &key);
    struct insn alone = *insn;

    if (!checker && build->narrow >> key.index & 1 && !(IN_MEMORY >> key.base & 1)) {
        key.index = EMIT_NONE;
        alone.index = INSN_NO_REGISTER;
    }
    build->window_key = key;
    return choose_known(build, checker, guess(build, &alone));
}

static enum window_form choose(struct build *build, const struct insn *insn)
{
    bool lone = insn->base >= GPR_COUNT && insn->index >= GPR_COUNT && insn->segment < SEG_FS;
    bool narrow = build->long_mode && insn->address_size == 4; /* as of x32 */
    uint64_t linear = (uint64_t)insn->displacement;

    build->window_key.base = EMIT_NONE;
    build->window_checker = 0;
    if (!build->windowed || insn->windowless ||
        (insn->address_size != build_word(build) && !(narrow && build->window_user)))
        return WINDOW_NONE;
    if (mode_is_small(build->translation->mode))
        return choose_small(build, insn->segment);
    if (lone) {
        if (insn->base == INSN_RIP)
            linear += build->rip + insn->length;
        return choose_constant(build, narrow ? (uint32_t)linear : linear);
    }
    if (narrow && insn->segment < SEG_FS)
        return choose_small(build, insn->segment);
    if (!narrow && insn->base < GPR_COUNT && insn->segment < SEG_FS &&
        insn->displacement < WINDOW_SMALL && insn->displacement > -WINDOW_SMALL)
        return insn->index < GPR_COUNT ? choose_sum(build, insn)
                                       : choose_base(build, insn->base, guess(build, insn));
    if (!narrow && insn->segment < SEG_FS && is_static(build, insn->displacement) &&
        known_narrow(build, insn))
        return choose_constant(build, linear);
    return choose_guess(build, guess(build, insn));
}

void build_window_choose(struct build *build)
{
    build->window = choose(build, build_now(build));
}

void build_window_choose_stack(struct build *build, unsigned base)
{
    uint64_t linear;

    build->window_key.base = EMIT_NONE;
    build->window_checker = 0;
    if (!build->windowed || build_now(build)->windowless)
        return;
    if (mode_is_small(build->translation->mode)) {
        build->window = choose_small(build, SEG_SS);
        return;
    }
    if (!value_of(build, base, &linear) && !value_of(build, GPR_RSP, &linear))
        linear = build->window_user ? build->cpu->gpr[GPR_RSP] : likely(build);
    build->window = choose_base(build, base, linear);
}

/* ---- emitting ---- */

/* What is checked: the base alone, where it may be one of a sum, or the address. */
static struct emit_memory checked(const struct build *build, const struct access *access)
{
    struct emit_memory address = access->address;
    bool alone = build->window_key.base != EMIT_NONE && build->window_key.index == EMIT_NONE;

    if (!alone)
        return address;
    if (build_now(build)->index < GPR_COUNT && address.base == T0)
        address.base = host_register(build->window_key.base);
    address.displacement = 0;
    return address;
}

static void check(struct build *build, const struct access *access)
{
    struct emit_memory address = checked(build, access);
    struct emitter *emitter = &build->emitter;
    struct cold *cold;

    held_lose(build, T1);
    if (address.displacement)
        emit_lea(emitter, true, T1, &address);
    else
        emit_mov_register(emitter, true, T1, address.base);
    emit_shift(emitter, SHR, true, T1, WINDOW_SLOT_SHIFT);
    emit_op_register(emitter, 0x81, false, CMP, T1);
    build->window_immediate = emitter->at;
    emit_u32(emitter, build->window_slot);
    cold = build_cold(build, COLD_MISS, emit_jump_if_forward(emitter, NOT_EQUAL));
    if (!cold)
        return;
    cold->access = ACCESS_SLOT;
    cold->address = address;
}

/* The delta of the slot to T1. */
static void load_delta(struct build *build, struct access *access)
{
    struct emit_memory delta = BUILD_FIELD(build, user_delta[build->window_slot]);
    struct emitter *emitter = &build->emitter;

    held_lose(build, T1);
    emit_load(emitter, true, T1, &delta);
    build->window_delta = emitter->at - sizeof(uint32_t);
    if (!access->constant)
        return;
    access->host = (struct emit_memory){.base = T1, .index = EMIT_NONE};
    if (access->linear <= INT32_MAX) {
        access->host.displacement = (int32_t)access->linear;
        access->host.relocate = access->relative ? RELOCATION_ADDRESS_SIGNED : RELOCATION_NONE;
    } else {
        held_lose(build, T2);
        access_load_constant(build, T2, access->linear, access->relative, access->cut);
        access->host.index = T2;
    }
}

static void use_gs(struct access *access)
{
    if (access->constant)
        access->host = (struct emit_memory){.base = EMIT_NONE,
                                            .index = EMIT_NONE,
                                            .relocate = access->relative ? RELOCATION_ADDRESS_WINDOW
                                                                         : RELOCATION_NONE,
                                            .displacement = (int32_t)access->linear};
    else
        access->host = access->address;
    access->host.gs = true;
    access->scratch &= access->constant ? 0 : 1U << T0;
}

void build_window_check(struct build *build, struct access *access)
{
    build->window_immediate = build->window_delta = NULL;
    if (build->window == WINDOW_CHECKED && !mode_is_small(build->translation->mode))
        check(build, access);
    if (build->window_user)
        load_delta(build, access);
    else
        use_gs(access);
}

void build_window_commit(struct build *build, bool write)
{
    struct site *site;

    if (build->window == WINDOW_NONE)
        return;
    site = build_site(build);
    if (!site)
        return;
    site->window = build_offset(build, build->emitter.at);
    site->window_writes = write;
    site->flags = (uint8_t)build->flags;
    if (build->window_delta)
        site->delta = build_offset(build, build->window_delta);
}

void build_window_finish(struct build *build)
{
    struct site *site = build->site;
    uint32_t number;

    if (build->window == WINDOW_NONE || !site || !site->window)
        return;
    number = (uint32_t)(site - build->translator->sites);
    if (build->window_immediate)
        site->slot = build_offset(build, build->window_immediate);
    site->check = build->window == WINDOW_CHECKED ? number : build->window_checker;
    if (build->window == WINDOW_CHECKED)
        known_add(build, &build->window_key, &(struct checker){number, build->window_slot});
}

/* ---- while it executes ---- */

/* Let all that the check at `site` serves add the delta of another slot. */
static void change_delta(struct soft_translator *translator, const struct site *site, uint32_t slot)
{
    const struct translation *translation = site->translation;
    uint32_t address = (uint32_t)(uintptr_t)&translator->cpu->user_delta[slot];
    uint32_t number = (uint32_t)(site - translator->sites);

    for (uint32_t i = 0; i < translation->sites; i++) {
        const struct site *other = &translator->sites[translation->site + i];

        if (other->delta && other->check == number)
            memcpy(translator->cache.write + other->delta, &address, sizeof(address));
    }
}

bool window_learn(struct soft_translator *translator, struct site *site, uint64_t linear)
{
    uint32_t slot = (uint32_t)(linear >> WINDOW_SLOT_SHIFT);
    bool user = site->delta;

    if (site->moved == MOVED_MAX || !(user ? window_is_lower(linear) : window_is_upper(linear)) ||
        (!user && !soft_window_reserve(translator->cpu, linear)))
        return false;
    site->moved++;
    memcpy(translator->cache.write + site->slot, &slot, sizeof(slot));
    if (user)
        change_delta(translator, site, slot);
    return true;
}

bool window_refuse(struct site *site)
{
    return ++site->refused == REFUSED_MAX;
}

/* The one that the site of user code adds. */
static const uint64_t *delta_of(const struct soft_translator *translator, const struct site *site)
{
    uint32_t address;

    memcpy(&address, translator->cache.write + site->delta, sizeof(address));
    return (const uint64_t *)(uintptr_t)address;
}

uint64_t window_linear(const struct soft_translator *translator, const struct site *site,
                       uintptr_t host)
{
    return host - (site->delta ? *delta_of(translator, site) : translator->cpu->window_delta);
}

bool window_leads_to(const struct soft_translator *translator, const struct site *site,
                     uint64_t linear)
{
    if (!site->delta)
        return window_is_upper(linear);
    if (mode_is_small(site->translation->mode) && linear > UINT32_MAX)
        return false;
    return (uint64_t)(delta_of(translator, site) - translator->cpu->user_delta) ==
           linear >> WINDOW_SLOT_SHIFT;
}

/* ---- at another place ---- */

/* Whether its operand, in a window of user code, is relative to RIP; its address. */
static bool is_relative(const struct site *site, uint64_t *linear)
{
    *linear = site->rip + site->insn->length + (uint64_t)site->insn->displacement;
    return site->delta && !site->check && site->insn->base == INSN_RIP;
}

bool window_may_move(const struct site *site, uint64_t distance)
{
    uint64_t linear;

    if (site->window && site->insn->windowless)
        return false;
    return !is_relative(site, &linear) ||
           (site->insn->address_size == 8 && window_is_lower(linear + distance));
}

void window_move(struct soft_translator *translator, struct site *site)
{
    uint32_t address;
    uint64_t linear;

    site->moved = 0;
    if (!is_relative(site, &linear))
        return;
    address = (uint32_t)(uintptr_t)&translator->cpu->user_delta[linear >> WINDOW_SLOT_SHIFT];
    memcpy(translator->cache.write + site->delta, &address, sizeof(address));
}
