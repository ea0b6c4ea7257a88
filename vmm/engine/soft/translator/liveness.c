// SPDX-License-Identifier: Apache-2.0
/*
 * What a block's instructions are and need: decoded from one copy of its bytes, classified, and
 * with the status flags that are live before and after each.
 *
 * Behind the block a few instructions of its successors are looked at, where they lie in the same
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
 * one copy, since others may write them meanwhile; and where they have done so since the block was
 * decoded, nothing is made: what ends the block then need not be what ends its translation. */
bool build_analyze(struct build *build)
{
    const struct soft_block *block = build->translation->block;
    const uint8_t *bytes = build->code;
    uint32_t live;

    copy_code(build);
    for (unsigned i = 0; i < block->count; i++) {
        struct build_insn *entry = &build->insns[i];

        if (!soft_insn_undefined(&block->insns[i]) &&
            !soft_decode_again(build->cpu->model, build->cpu->code_size, bytes, &block->insns[i],
                               &entry->decoded))
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
