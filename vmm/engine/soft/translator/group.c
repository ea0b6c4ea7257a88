// SPDX-License-Identifier: Apache-2.0
/*
 * Several accesses by the same registers, checked once: what a function pushes, its locals, the
 * members of a structure, elements of an array in an unrolled loop.
 *
 * Where an access is about to be checked, the rest of the block is looked at for others by the same
 * base and index, where the base may move by constants (PUSH, POP, ADD RSP) meanwhile. If all of
 * them lie within one page, which the check of the first and the last byte tells, they need no
 * checks of their own: T0 keeps the page's delta, or where the address takes more than one register
 * the host's address, until an instruction needs T0 itself. If they do not, the block goes on as a
 * translation without groups (MODE_PLAIN), which such an exit is linked to.
 *
 * A group that begins with a load covers loads only, since a store asks for another right; that a
 * page is dirty is never marked for a store that may not happen.
 *
 * Code that uses windows (window_code.c) has no groups.
 *
 * C that executes an instruction within a group may change what the TLB holds: the block is left
 * behind it. A refill for another access does not, and T0 is loaded again from soft_cpu.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define REACH 512 /* bytes from the first to the last */

/* What an instruction means for a group. */
struct effect {
    bool safe;  /* it leaves T0 alone.. */
    bool wants; /* ..if its access is of the group */
    bool ends;  /* the registers are something else behind it */
    int move;   /* what it adds to the base */
    bool accesses, write;
    struct address_key key;
    int displacement;
    unsigned size;
};

static void access_by(struct effect *effect, unsigned base, int displacement, unsigned size,
                      bool write)
{
    effect->accesses = true;
    effect->key = (struct address_key){.base = (uint8_t)base, .index = EMIT_NONE};
    effect->displacement = displacement;
    effect->size = size;
    effect->write = write;
}

static bool same_key(const struct address_key *a, const struct address_key *b)
{
    return a->base == b->base && a->index == b->index && a->scale == b->scale;
}

static bool general_register(const ZydisDecodedOperand *operand)
{
    return operand->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           soft_register_offset(operand->reg.value) != SOFT_NO_OFFSET;
}

static bool is_of(const struct address_key *key, unsigned gpr)
{
    return key->base == gpr || key->index == gpr;
}

/* PUSH, POP, LEAVE, CALL, RET and jumps, as terminator.c does them. */
static bool stack_effect(const struct build *build, const struct build_insn *entry,
                         const struct address_key *key, struct effect *effect)
{
    const ZydisDecodedInstruction *decoded = &entry->decoded.instruction;
    const ZydisDecodedOperand *operand = &entry->decoded.operands[0];
    int size = (int)build_word(build);

    effect->safe = true;
    switch (decoded->mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
        effect->safe = operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE || general_register(operand);
        access_by(effect, GPR_RSP, -size, (unsigned)size, true);
        effect->move = key->base == GPR_RSP ? -size : 0;
        return true;
    case ZYDIS_MNEMONIC_POP:
        effect->safe = general_register(operand);
        access_by(effect, GPR_RSP, 0, (unsigned)size, false);
        effect->move = key->base == GPR_RSP ? size : 0;
        effect->ends = effect->safe && is_of(key, soft_register_offset(operand->reg.value) / 8);
        return true;
    case ZYDIS_MNEMONIC_LEAVE:
        access_by(effect, GPR_RBP, 0, (unsigned)size, false);
        effect->ends = is_of(key, GPR_RSP) || is_of(key, GPR_RBP);
        return true;
    case ZYDIS_MNEMONIC_CALL:
        effect->safe = operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
        access_by(effect, GPR_RSP, -size, (unsigned)size, true);
        return true;
    case ZYDIS_MNEMONIC_RET:
        access_by(effect, GPR_RSP, 0, (unsigned)size, false);
        return true;
    default:
        effect->safe = decoded->meta.category == ZYDIS_CATEGORY_COND_BR ||
                       (decoded->mnemonic == ZYDIS_MNEMONIC_JMP &&
                        operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE);
        return effect->safe;
    }
}

/* What ADD, SUB and LEA add to the base, or that a register becomes something else. */
static void follow_key(const struct build_insn *entry, const struct insn *insn,
                       const struct address_key *key, unsigned width, struct effect *effect)
{
    unsigned base = key->base;
    const ZydisDecodedInstruction *decoded = &entry->decoded.instruction;
    bool lea = decoded->mnemonic == ZYDIS_MNEMONIC_LEA;
    bool immediate = decoded->operand_count_visible > 1 &&
                     entry->decoded.operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    int64_t move;

    effect->ends = key->index != EMIT_NONE && (entry->form.gpr_written >> key->index & 1);
    if (effect->ends || !(entry->form.gpr_written >> base & 1))
        return;
    if (decoded->mnemonic == ZYDIS_MNEMONIC_ADD && immediate)
        move = (int64_t)insn->immediate;
    else if (decoded->mnemonic == ZYDIS_MNEMONIC_SUB && immediate)
        move = -(int64_t)insn->immediate;
    else if (lea && insn->base == base && insn->index >= GPR_COUNT)
        move = insn->displacement;
    else
        move = INT64_MAX;
    effect->ends = insn->operand_size != width || (lea && insn->address_size != width) ||
                   move > REACH || move < -REACH;
    effect->move = effect->ends ? 0 : (int)move;
}

/* In 32-bit code a base that is written may run over or lose what was above its lower half, while
 * the sum of its address and the page's delta does not. What T0 points to itself is not concerned.
 */
static void end_where_it_may_wrap(const struct build *build, const struct address_key *key,
                                  bool written, struct effect *effect)
{
    if (!build->long_mode && written && key_is_simple(key)) {
        effect->ends = true;
        effect->move = 0;
    }
}

static struct effect effect_of(const struct build *build, unsigned index,
                               const struct address_key *key)
{
    const struct build_insn *entry = &build->insns[index];
    const struct insn *insn = build->insns[index].insn;
    struct effect effect = {0};

    if (soft_insn_undefined(insn))
        return effect;
    if (!entry->form.copies) {
        if (insn->operand_size == build_word(build))
            stack_effect(build, entry, key, &effect);
        end_where_it_may_wrap(build, key, effect.move, &effect);
        return effect;
    }
    /* More than the operand is moved, or it must not be looked at ahead. */
    if (entry->form.pointers || entry->form.control || entry->form.sparse)
        return effect;
    effect.safe = true;
    follow_key(entry, insn, key, build_word(build), &effect);
    end_where_it_may_wrap(build, key, entry->form.gpr_written >> key->base & 1, &effect);
    if (!entry->form.memory || entry->decoded.instruction.mnemonic == ZYDIS_MNEMONIC_LEA)
        return effect;
    if (insn->index >= GPR_COUNT && insn->base >= GPR_COUNT) {
        effect.safe = insn->segment < SEG_FS; /* a constant */
        return effect;
    }
    access_by(&effect, insn->base, (int)insn->displacement, entry->form.size, entry->form.writes);
    effect.safe = access_key(build, insn, &effect.key);
    effect.wants = effect.safe && !key_is_simple(&effect.key);
    return effect;
}

/* Whether [from, to) can be in the group too; if so it is. Displacements go as far as 32 bits do,
 * in either direction: what lies between two of them takes more. */
static bool widen(struct group *group, int64_t from, int64_t to)
{
    int64_t low = MIN(group->low, from), high = MAX(group->high, to);

    if (high - low > REACH || low < INT32_MIN || high > INT32_MAX)
        return false;
    group->low = (int)low;
    group->high = (int)high;
    return true;
}

/* Look ahead for other accesses; their number. */
static unsigned gather(const struct build *build, struct group *group)
{
    unsigned others = 0;
    int moved = 0;

    for (unsigned i = build->index; i < build->count; i++) {
        struct effect effect = effect_of(build, i, &group->key);
        int64_t from = (int64_t)moved + effect.displacement;
        bool first = i == build->index, joins;

        joins = effect.accesses && same_key(&effect.key, &group->key) &&
                (group->write || !effect.write) &&
                (first || widen(group, from, from + effect.size));
        if (!effect.safe || (effect.wants && !joins))
            break;
        others += joins && !first;
        if (effect.ends)
            break;
        moved += effect.move;
    }
    return others;
}

static bool within(const struct group *group, const struct address_key *key, int displacement,
                   unsigned size, bool write)
{
    int64_t from = (int64_t)group->moved + displacement;

    return same_key(&group->key, key) && from >= group->low && from + size <= group->high &&
           (group->write || !write);
}

bool group_holds(const struct build *build, const struct address_key *key, int displacement,
                 unsigned size, bool write)
{
    return build->group.active && within(&build->group, key, displacement, size, write);
}

bool group_covers(struct build *build, const struct address_key *key, int displacement,
                  unsigned size, bool write)
{
    struct group *group = &build->group;

    if (group->active)
        return within(group, key, displacement, size, write);
    if (build->translation->mode & MODE_PLAIN || build->windowed ||
        !effect_of(build, build->index, key).safe)
        return false;
    *group = (struct group){.key = *key,
                            .low = displacement,
                            .high = displacement + (int)size,
                            .write = write,
                            .began = group->began};
    if (!gather(build, group))
        return false;
    access_check_group(build, displacement, size);
    group->active = true;
    return true;
}

void group_before(struct build *build)
{
    struct group *group = &build->group;
    struct effect effect;

    group->began = group->active;
    if (!group->active)
        return;
    effect = effect_of(build, build->index, &group->key);
    if (!effect.safe || (effect.wants && !within(group, &effect.key, effect.displacement,
                                                 effect.size, effect.write)))
        group->active = group->began = false;
}

void group_after(struct build *build)
{
    struct effect effect;

    if (!build->group.active)
        return;
    effect = effect_of(build, build->index, &build->group.key);
    build->group.moved += effect.move;
    if (effect.ends)
        build->group.active = false;
}
