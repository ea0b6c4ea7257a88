// SPDX-License-Identifier: Apache-2.0
/*
 * x87 in translated code. Its registers are the host's while all exceptions are masked, which is
 * how nearly every program runs; FLDCW of anything else goes to the interpreter (control_word.c).
 * (SDM 1, chapter 8.)
 *
 * The host's pointers to the last instruction and operand are those of translated code, so the
 * guest's are written to memory: the instruction's by constants, the operand's before it is
 * accessed. What the next instruction is going to overwrite unseen is left out.
 */
#include "vmm/engine/soft/translator/x87_native.h"

#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"
#include "vmm/engine/soft/x87.h"

#define FCW_MASKS     0x3fU
#define MXCSR_DEFAULT 0x1f80U

/* ---- state ---- */

void soft_x87_load(struct soft_cpu *cpu)
{
    cpu->x87.mxcsr = MXCSR_DEFAULT;
    __asm__ volatile("fxrstor %0" : : "m"(cpu->x87));
}

void soft_x87_save(struct soft_cpu *cpu)
{
    uint64_t fip = cpu->x87.fip, fdp = cpu->x87.fdp;
    uint16_t fop = cpu->x87.fop;

    __asm__ volatile("fxsave %0\n\tfninit" : "=m"(cpu->x87));
    cpu->x87.fip = fip;
    cpu->x87.fdp = fdp;
    cpu->x87.fop = fop;
}

bool soft_x87_allowed(const struct soft_cpu *cpu)
{
    return !(cpu->cr0 & (CR0_EM | CR0_TS)) && (cpu->x87.fcw & FCW_MASKS) == FCW_MASKS &&
           !(cpu->x87.fsw & FSW_ES);
}

/* ---- the last instruction and operand ---- */

static void store_constant(struct build *build, const struct emit_memory *field, uint64_t value)
{
    emit_op_memory(&build->emitter, 0, 0xc7, true, 0, field); /* MOV m64, imm32 */
    emit_relocation(&build->emitter, RELOCATION_ADDRESS_SIGNED, build->emitter.at);
    emit_u32(&build->emitter, (uint32_t)value);
}

static void store_opcode(struct build *build)
{
    const ZydisDecodedInstruction *decoded = &build->now->decoded.instruction;
    struct emit_memory field = BUILD_FIELD(build, x87.fop);

    emit_op_memory(&build->emitter, 0x66, 0xc7, false, 0, &field); /* MOV m16, imm16 */
    emit_byte(&build->emitter, (uint8_t)(decoded->raw.modrm.mod << 6 | decoded->raw.modrm.reg << 3 |
                                         decoded->raw.modrm.rm));
    emit_byte(&build->emitter, decoded->opcode & 7);
}

static void store_selector(struct build *build, unsigned segment, size_t to, uint8_t scratch)
{
    struct emit_memory selector = BUILD_FIELD(build, seg[segment].selector);
    struct emit_memory field = build_field(build, to);

    emit_op_memory(&build->emitter, 0, 0x0fb7, false, scratch, &selector); /* MOVZX */
    emit_op_memory(&build->emitter, 0x66, 0x89, false, scratch, &field);
}

/* Whether the next instruction overwrites the pointers, and nothing can come between. */
static bool overwritten_next(const struct build *build)
{
    const struct copy_form *next;

    if (build->index + 1 >= build->count)
        return false;
    next = &build->insns[build->index + 1].form;
    return next->copies && next->pointers && !next->memory;
}

static void store_instruction(struct build *build, uint8_t scratch)
{
    struct emit_memory field = BUILD_FIELD(build, x87.fip);
    uint64_t rip = build->long_mode ? build->rip : (uint32_t)build->rip;

    if (rip == (uint64_t)(int32_t)rip) {
        store_constant(build, &field, rip);
    } else {
        emit_mov_linear(&build->emitter, scratch, rip, !build->long_mode);
        emit_store(&build->emitter, true, &field, scratch);
    }
    store_opcode(build);
    store_selector(build, SEG_CS, offsetof(struct soft_cpu, x87_cs), scratch);
}

static void store_operand(struct build *build, const struct insn *insn, const struct access *access,
                          uint8_t scratch)
{
    struct emit_memory field = BUILD_FIELD(build, x87.fdp);

    if (access->constant)
        access_load_constant(build, scratch, access->linear, access->relative, access->cut);
    else
        emit_lea(&build->emitter, true, scratch, &access->address);
    emit_store(&build->emitter, true, &field, scratch);
    store_selector(build, insn->segment, offsetof(struct soft_cpu, x87_ds), scratch);
}

bool build_x87_pointers(struct build *build, const struct insn *insn, const struct access *access)
{
    uint8_t scratch = access->constant ? T0 : T2;

    if (build->now->form.memory) {
        if (insn->segment >= SEG_FS) /* the offset is not the linear address */
            return false;
        store_operand(build, insn, access, scratch);
    }
    if (!overwritten_next(build))
        store_instruction(build, scratch);
    return true;
}
