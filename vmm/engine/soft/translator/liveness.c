// SPDX-License-Identifier: Apache-2.0
/*
 * What a trace's instructions are and need: decoded from one copy of its bytes, classified, and
 * with the status flags that are live before and after each.
 *
 * Beside the trace a few instructions of its successors are looked at, where they lie in the same
 * page: a write to that page drops the block too.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define PEEK_INSNS 8 /* of a successor, to see whether it needs flags */

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

/* Flags that may be needed where the instruction at `index` leads, but for what follows it in the
 * trace. */
static uint32_t live_beside(struct build *build, unsigned index)
{
    const struct build_insn *entry = &build->insns[index];
    const ZydisDecodedInstruction *decoded = &entry->decoded.instruction;
    uint64_t next = entry->rip + entry->insn->length, target = next + entry->insn->immediate;
    bool conditional = decoded->meta.category == ZYDIS_CATEGORY_COND_BR;

    if (!build->long_mode)
        target = (uint32_t)target;
    if (entry->follow != FOLLOW_NONE)
        return conditional ? live_at(build, entry->follow == FOLLOW_NEXT ? target : next) : 0;
    if (!(entry->insn->prefixes & INSN_ENDS_BLOCK))
        return live_at(build, next);
    if (soft_insn_undefined(entry->insn) || !(entry->insn->prefixes & INSN_NEAR_BRANCH) ||
        decoded->raw.imm[0].size == 0 || !decoded->raw.imm[0].is_relative)
        return FLAGS_LIVE;
    return live_at(build, target) | (conditional ? live_at(build, next) : 0);
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
    return (uint8_t)((form->vector ? SOFT_LIVE_VECTORS : 0) | (form->x87 ? SOFT_LIVE_X87 : 0) |
                     (form->avx512 ? SOFT_LIVE_AVX512 : 0));
}

/* A block's bytes, which may lie in two pages. (What is no instruction may be known to be none only
 * by bytes behind its own.) */
static void copy_code(uint8_t *to, const struct soft_block *block, uint64_t linear)
{
    unsigned room = 0x1000 - (linear & 0xfff);

    room = MIN(room, block->bytes);
    soft_copy(to, block->host, room);
    if (room < block->bytes)
        soft_copy(to + room, block->next_host, block->bytes - room);
}

/* Decode `block` anew, behind what is in the trace. All that is made of its bytes is made of one
 * copy, since others may write them meanwhile; and where they have done so since the block was
 * decoded, nothing is made (false): what ends the block then need not be what ends the copy. */
static bool add_block(struct build *build, const struct soft_block *block, uint64_t linear)
{
    const uint8_t *bytes = build->code + build->bytes;

    copy_code(build->code + build->bytes, block, linear);
    for (unsigned i = 0; i < block->count; i++) {
        struct build_insn *entry = &build->insns[build->count + i];
        const struct insn *insn = &block->insns[i];

        if (!soft_insn_undefined(insn) &&
            !soft_decode_again(build->cpu->model, build->cpu->code_size, bytes, insn,
                               &entry->decoded))
            return false;
        entry->insn = insn;
        entry->rip = linear;
        entry->follow = FOLLOW_NONE;
        entry->bytes = bytes;
        classify(build, insn, entry);
        adjust_form(insn, entry);
        bytes += insn->length;
        linear += insn->length;
    }
    build->last = block;
    build->count += block->count;
    build->bytes += block->bytes;
    return true;
}

/* The whole trace. */
static bool add_blocks(struct build *build)
{
    const struct soft_block *block = build->translation->block;
    uint64_t linear = build->translation->linear;

    build->count = build->bytes = build->blocks = 0;
    do {
        unsigned before = build->count;

        if (!add_block(build, block, linear)) {
            if (before)
                build->insns[before - 1].follow = FOLLOW_NONE;
            return before;
        }
        block = build_follow(build, &linear);
    } while (block);
    return true;
}

bool build_analyze(struct build *build)
{
    uint32_t live = 0;

    if (!add_blocks(build))
        return false;
    for (unsigned i = build->count; i-- > 0;) {
        struct build_insn *entry = &build->insns[i];

        if (i + 1 == build->count || entry->follow != FOLLOW_NONE)
            live |= live_beside(build, i);
        entry->live_out = live;
        live = build->translator->exact ? FLAGS_LIVE : live_before(&entry->form, live);
        entry->live_in = live;
        build->translation->live |= live_registers(&entry->form);
    }
    return true;
}
