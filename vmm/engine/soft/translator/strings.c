// SPDX-License-Identifier: Apache-2.0
/*
 * MOVS, STOS, LODS and SCAS, upwards (SDM 2).
 *
 * One element is an access like any other. A repeated MOVS or STOS whose operands lie in one page
 * each, and hit, is the host's own instruction: RSI and RDI become host addresses before it and
 * linear ones behind it. Everything else (more than a page, DF set, a miss) is done by the
 * interpreter, which goes by page runs.
 *
 * RCX is compared with a page's elements before anything else: the length in bytes is no number
 * that wraps then, and no element lies beyond the last byte that was checked.
 */
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/system.h"

#define PAGE_BYTES 0x1000

static void require_upwards(struct build *build)
{
    require_bit(build, offsetof(struct soft_cpu, rflags), FLAG_DF, false);
}

/* ES of 32-bit code begins at 0; the mode says so of DS and SS alone. */
static void require_flat_es(struct build *build)
{
    struct emit_memory base = BUILD_FIELD(build, seg[SEG_ES].base);

    if (build->long_mode)
        return;
    access_check_segment(build, SEG_ES);
    emit_alu_memory_immediate(&build->emitter, ALU_CMP, true, &base, 0);
    interpret_if(build, JUMP_NOT_EQUAL);
}

/* Whether the source lies in a segment that the mode knows to be flat. */
static bool source_is_flat(const struct build *build)
{
    unsigned segment = build_now(build)->segment;

    return build->long_mode ? segment < SEG_FS : segment == SEG_DS || segment == SEG_SS;
}

/* ---- one element ---- */

static void check_element(struct build *build, unsigned gpr, bool write, struct access *access)
{
    access_prepare_stack(build, gpr, 0, access);
    access_check(build, access, build_now(build)->operand_size, write);
}

/* Load an element, zero-extended, or store one. */
static void load_element(struct build *build, uint8_t to, const struct emit_memory *from)
{
    unsigned size = build_now(build)->operand_size;
    uint16_t opcode = size == 1 ? 0x0fb6 : size == 2 ? 0x0fb7 : 0x8b;

    emit_op_memory(&build->emitter, 0, opcode, size == 8, to, from);
}

static void store_element(struct build *build, const struct emit_memory *to, uint8_t from)
{
    unsigned size = build_now(build)->operand_size;

    emit_op_memory(&build->emitter, size == 2 ? 0x66 : 0, size == 1 ? 0x88 : 0x89, size == 8, from,
                   to);
}

static void step(struct build *build, uint8_t gpr)
{
    struct emit_memory sum = {
        .base = gpr, .index = EMIT_NONE, .displacement = build_now(build)->operand_size};

    emit_lea(&build->emitter, build->long_mode, gpr, &sum);
}

static void move_one(struct build *build)
{
    struct access access;

    check_element(build, GPR_RSI, false, &access);
    load_element(build, T0, &access.host);
    check_element(build, GPR_RDI, true, &access);
    store_element(build, &access.host, T0);
    step(build, GPR_RSI);
    step(build, GPR_RDI);
}

static void store_one(struct build *build)
{
    struct access access;

    check_element(build, GPR_RDI, true, &access);
    store_element(build, &access.host, GPR_RAX);
    step(build, GPR_RDI);
}

static void load_one(struct build *build)
{
    unsigned size = build_now(build)->operand_size;
    struct access access;

    check_element(build, GPR_RSI, false, &access);
    emit_op_memory(&build->emitter, size == 2 ? 0x66 : 0, size == 1 ? 0x8a : 0x8b, size == 8,
                   GPR_RAX, &access.host);
    step(build, GPR_RSI);
}

/* SCAS is a comparison of rAX with the element. */
static void scan_one(struct build *build)
{
    unsigned size = build_now(build)->operand_size;
    struct access access;

    check_element(build, GPR_RDI, false, &access);
    emit_op_memory(&build->emitter, size == 2 ? 0x66 : 0, size == 1 ? 0x3a : 0x3b, size == 8,
                   GPR_RAX, &access.host);
    step(build, GPR_RDI);
    build->flags = FLAGS_HOST;
}

/* ---- a run ---- */

/* `gpr` += delta, or -= delta where that is in one's complement. */
static void shift_pointer(struct build *build, uint8_t gpr, uint8_t delta, bool back)
{
    bool wide = !back || build->long_mode;
    struct emit_memory sum = {.base = gpr, .index = delta, .displacement = back};

    emit_lea(&build->emitter, wide, gpr, &sum);
}

/* The distance between the linear and the host's address of a run in `to`. */
static void check_run(struct build *build, uint8_t gpr, bool write, uint8_t to)
{
    unsigned size = build_now(build)->operand_size;
    struct emit_memory last = {
        .base = gpr, .index = GPR_RCX, .scale = (uint8_t)__builtin_ctz(size), .displacement = -1};

    access_check_run(build, gpr, &last, write, to);
}

static void emit_repeated(struct build *build, uint8_t opcode)
{
    struct emitter *emitter = &build->emitter;
    unsigned size = build_now(build)->operand_size;

    if (size == 2)
        emit_byte(emitter, 0x66);
    emit_byte(emitter, 0xf3);
    if (size == 8)
        emit_byte(emitter, 0x48);
    emit_byte(emitter, size == 1 ? opcode : opcode + 1);
}

static void run(struct build *build, bool moves)
{
    struct emitter *emitter = &build->emitter;

    emit_alu_immediate(emitter, ALU_CMP, true, GPR_RCX,
                       PAGE_BYTES / build_now(build)->operand_size);
    interpret_if(build, JUMP_ABOVE);
    if (moves)
        check_run(build, GPR_RSI, false, T0);
    check_run(build, GPR_RDI, true, T1);
    if (moves)
        shift_pointer(build, GPR_RSI, T0, false);
    shift_pointer(build, GPR_RDI, T1, false);
    emit_repeated(build, moves ? 0xa4 : 0xaa);
    if (moves) {
        emit_op_register(emitter, 0xf7, true, 2, T0); /* NOT */
        shift_pointer(build, GPR_RSI, T0, true);
    }
    emit_op_register(emitter, 0xf7, true, 2, T1);
    shift_pointer(build, GPR_RDI, T1, true);
}

/* ---- selection ---- */

bool build_string(struct build *build)
{
    const struct insn *insn = build_now(build);
    bool repeated = insn->prefixes & (INSN_REP | INSN_REPNE);
    bool moves = false, loads = false, scans = false;

    if (build->now->decoded.instruction.meta.category != ZYDIS_CATEGORY_STRINGOP ||
        insn->address_size != build_word(build))
        return false;
    switch (build->now->decoded.instruction.opcode) {
    case 0xa4:
    case 0xa5:
        moves = true;
        break;
    case 0xaa:
    case 0xab:
        break;
    case 0xac:
    case 0xad:
        loads = true;
        break;
    case 0xae:
    case 0xaf:
        scans = true;
        break;
    default:
        return false;
    }
    if (((loads || scans) && repeated) || ((moves || loads) && !source_is_flat(build)))
        return false;
    build_begin_access(build);
    require_upwards(build);
    if (!loads)
        require_flat_es(build);
    if (repeated)
        run(build, moves);
    else if (moves)
        move_one(build);
    else if (loads)
        load_one(build);
    else if (scans)
        scan_one(build);
    else
        store_one(build);
    return true;
}

bool build_string_flags(const ZydisDecodedInstruction *decoded, struct copy_form *form)
{
    const ZydisInstructionAttributes repeats =
        ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
    bool scans = (decoded->opcode & 0xfe) == 0xae;

    if (decoded->meta.category != ZYDIS_CATEGORY_STRINGOP || decoded->opcode < 0xa4 ||
        decoded->opcode > 0xaf || (decoded->opcode & 0xfe) == 0xa6 ||
        (decoded->opcode & 0xfe) == 0xa8 || (scans && decoded->attributes & repeats))
        return false;
    form->flags_read = 0;
    form->flags_killed = scans ? FLAGS_LIVE : 0;
    return true;
}
