// SPDX-License-Identifier: Apache-2.0
/*
 * SYSCALL, SYSRET, SYSENTER and SYSEXIT, inline (SDM 2 and AMD APM 3). syscall.c is the same in
 * whole; here are the pairs that systems use: SYSCALL and SYSRET of long mode, for 64-bit and, as
 * AMD's have it, for 32-bit programs; SYSENTER and SYSEXIT of 32-bit mode.
 *
 * Segments come with fixed attributes: as flat as the mode of the target wants them, but for DS,
 * which stays as it is.
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/system.h"

#define CODE64       0xa9bUL /* attributes of flat segments, DPL 0 */
#define CODE32       0xc9bUL
#define DATA         0xc93UL
#define DPL3         (3UL << 5)
#define SYSRET_FLAGS 0x3c7fd7

_Static_assert(offsetof(struct cpu_segment, attributes) == 2 &&
                   offsetof(struct cpu_segment, limit) == 4 &&
                   offsetof(struct cpu_segment, base) == 8,
               "a segment is written in two pieces");
_Static_assert(offsetof(struct soft_cpu, cpl) % 4 == 0 &&
                   offsetof(struct soft_cpu, code_size) == offsetof(struct soft_cpu, cpl) + 1 &&
                   offsetof(struct soft_cpu, mmu_mode) == offsetof(struct soft_cpu, cpl) + 2 &&
                   offsetof(struct soft_cpu, flat) == offsetof(struct soft_cpu, cpl) + 3,
               "the mode is written at once");

static bool is_amd(const struct build *build)
{
    return build->cpu->model->vendor == CPU_VENDOR_AMD;
}

/* A flat segment with the selector in T1, whose upper bits are clear. Uses T2. */
static void set_flat(struct build *build, unsigned index, uint64_t attributes)
{
    struct emit_memory low = BUILD_FIELD(build, seg[index]);
    struct emit_memory base = BUILD_FIELD(build, seg[index].base);

    emit_mov_immediate(&build->emitter, T2, (uint64_t)UINT32_MAX << 32 | attributes << 16);
    emit_op_register(&build->emitter, 0x09, true, T1, T2); /* OR */
    field_store(build, low, T2);
    field_set(build, base, true, 0);
}

static void set_mode(struct build *build, unsigned cpl, bool wide, enum soft_mmu_mode mode)
{
    field_set(build, BUILD_FIELD(build, cpl), false,
              (int32_t)(cpl | (wide ? 8U : 4U) << 8 | (unsigned)mode << 16 | (unsigned)wide << 24));
}

/* The selector in T1 for `offset` behind the one in T0, of privilege `rpl`. */
static void derive_selector(struct build *build, int32_t offset, unsigned rpl)
{
    struct emit_memory sum = {.base = T0, .index = EMIT_NONE, .displacement = offset};

    emit_lea(&build->emitter, false, T1, &sum);
    emit_alu_immediate(&build->emitter, ALU_AND, false, T1, 0xfffc);
    if (rpl)
        emit_alu_immediate(&build->emitter, ALU_OR, false, T1, (int32_t)rpl);
}

/* CS and SS at these offsets behind the selector in T0. */
static void set_segments(struct build *build, int32_t code, int32_t stack, bool wide, unsigned rpl)
{
    uint64_t dpl = rpl ? DPL3 : 0;

    derive_selector(build, code, rpl);
    set_flat(build, SEG_CS, (wide ? CODE64 : CODE32) | dpl);
    derive_selector(build, stack, rpl);
    set_flat(build, SEG_SS, DATA | dpl);
}

/* None of `bits` is set in `reg`. */
static void require_clear(struct build *build, uint8_t reg, uint32_t bits)
{
    emit_op_register(&build->emitter, 0xf7, false, 0, reg); /* TEST */
    emit_u32(&build->emitter, bits);
    interpret_if(build, JUMP_NOT_EQUAL);
}

/* DS is as 32-bit code of ours wants it. Uses T2. */
static void require_flat_ds(struct build *build)
{
    struct emit_memory base = BUILD_FIELD(build, seg[SEG_DS].base);

    access_check_segment(build, SEG_DS);
    emit_alu_memory_immediate(&build->emitter, ALU_CMP, true, &base, 0);
    interpret_if(build, JUMP_NOT_EQUAL);
}

static struct emit_memory star_selector(struct build *build, unsigned shift)
{
    return build_field(build, offsetof(struct soft_cpu, msrs.star) + shift / 8);
}

/* ---- long mode ---- */

bool build_syscall(struct build *build)
{
    struct emitter *emitter = &build->emitter;

    if (!of_user(build) || (!build->long_mode && !is_amd(build)) ||
        !translator_need_table(build->translator, SOFT_MMU_SUPERVISOR))
        return false;
    build_begin_access(build);
    require_bit(build, offsetof(struct soft_cpu, msrs.efer), EFER_SCE, true);
    if (!build->long_mode)
        require_bit(build, offsetof(struct soft_cpu, msrs.efer), EFER_LMA, true);
    rflags_load(build);
    field_load(build, T1, BUILD_FIELD(build, msrs.fmask));
    emit_op_register(emitter, 0xf7, true, 2, T1);  /* NOT */
    emit_op_register(emitter, 0x21, true, T0, T1); /* AND T1, T0 */
    require_clear(build, T1, FLAG_AC);
    emit_alu_immediate(emitter, ALU_OR, false, T1, FLAG_FIXED);
    field_store(build, BUILD_FIELD(build, gpr[GPR_R11]), T0);
    rflags_store(build);
    emit_mov_linear(emitter, GPR_RCX, build_next(build), !build->long_mode);
    field_load16(build, T0, star_selector(build, 32));
    emit_alu_immediate(emitter, ALU_AND, false, T0, 0xfffc);
    set_segments(build, 0, 8, true, 0);
    set_mode(build, 0, true, SOFT_MMU_SUPERVISOR);
    if (build->long_mode)
        field_load(build, T0, BUILD_FIELD(build, msrs.lstar));
    else
        field_load(build, T0, BUILD_FIELD(build, msrs.cstar));
    build_jump_indirect(build, SOFT_MMU_SUPERVISOR, 0);
    return true;
}

bool build_sysret(struct build *build)
{
    struct emitter *emitter = &build->emitter;
    bool wide = build->now->decoded.instruction.raw.rex.W;
    uint8_t mode = wide ? SOFT_MMU_USER : SOFT_MMU_USER | MODE_32;

    if (!build->long_mode || of_user(build) || !translator_need_table(build->translator, mode))
        return false;
    build_begin_access(build);
    require_cpl0(build);
    require_quiet(build);
    require_bit(build, offsetof(struct soft_cpu, msrs.efer), EFER_SCE, true);
    if (wide)
        require_canonical(build, GPR_RCX, T0);
    else
        require_flat_ds(build);
    field_load(build, T1, BUILD_FIELD(build, gpr[GPR_R11]));
    require_clear(build, T1, FLAG_TF | FLAG_AC);
    emit_alu_immediate(emitter, ALU_AND, false, T1, SYSRET_FLAGS);
    emit_alu_immediate(emitter, ALU_OR, false, T1, FLAG_FIXED);
    rflags_store(build);
    field_load16(build, T0, star_selector(build, 48));
    set_segments(build, wide ? 16 : 0, 8, wide, 3);
    set_mode(build, 3, wide, SOFT_MMU_USER);
    emit_mov_register(emitter, wide, T0, GPR_RCX);
    build_jump_indirect(build, mode, 0);
    return true;
}

/* ---- 32-bit mode ---- */

/* RFLAGS.AC, which makes other modes of user and supervisor, is clear, and this is no long mode.
 * The selector of the MSR in T0. */
static void begin_sysenter(struct build *build)
{
    struct emit_memory selector = BUILD_FIELD(build, msrs.sysenter_cs);

    build_begin_access(build);
    require_bit(build, offsetof(struct soft_cpu, cr0), CR0_PE, true);
    require_bit(build, offsetof(struct soft_cpu, msrs.efer), EFER_LMA, false);
    require_bit(build, offsetof(struct soft_cpu, rflags), FLAG_AC, false);
    field_load16(build, T0, selector);
    emit_alu_immediate(&build->emitter, ALU_AND, false, T0, 0xfffc);
    interpret_if(build, JUMP_EQUAL);
}

bool build_sysenter(struct build *build)
{
    struct emit_memory byte = BUILD_FIELD(build, rflags);
    uint8_t mode = SOFT_MMU_SUPERVISOR | MODE_32;
    struct emit_memory esp = BUILD_FIELD(build, msrs.sysenter_esp);
    struct emit_memory eip = BUILD_FIELD(build, msrs.sysenter_eip);

    if (build->long_mode || !of_user(build) || !translator_need_table(build->translator, mode))
        return false;
    begin_sysenter(build);
    byte.displacement++; /* where IF is; RF and VM are clear */
    alu_byte(build, ALU_AND, byte, (uint8_t) ~(FLAG_IF >> 8));
    set_segments(build, 0, 8, false, 0);
    set_mode(build, 0, false, SOFT_MMU_SUPERVISOR);
    emit_load(&build->emitter, false, HOST_RSP, &esp);
    emit_load(&build->emitter, false, T0, &eip);
    build_jump_indirect(build, mode, 0);
    return true;
}

bool build_sysexit(struct build *build)
{
    uint8_t mode = SOFT_MMU_USER | MODE_32;

    if (build->long_mode || of_user(build) || !translator_need_table(build->translator, mode))
        return false;
    begin_sysenter(build);
    require_cpl0(build);
    set_segments(build, 16, 24, false, 3);
    set_mode(build, 3, false, SOFT_MMU_USER);
    emit_mov_register(&build->emitter, false, HOST_RSP, GPR_RCX);
    emit_mov_register(&build->emitter, false, T0, GPR_RDX);
    build_jump_indirect(build, mode, 0);
    return true;
}
