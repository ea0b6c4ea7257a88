// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions of kernels, inline (SDM 2: SWAPGS, CLI, STI, CLAC, STAC, PUSHF, POPF, CLD, STD,
 * RDTSC, RDTSCP, RDFSBASE and its kin, MOV from CR).
 *
 * Each checks first all that makes it fault or do something unusual, at the time that it executes,
 * since the registers that say so are none of a translation's key; the interpreter does it then. So
 * what is here is the usual case alone: privilege 0, no trap flag, no virtual interrupt flag.
 *
 * An instruction that changes the mode goes on by an exit: what it is linked to was looked up in
 * the new mode, which is the same each time. Where the interrupt flag becomes 1 and an interrupt
 * waits, the interpreter takes over; one that is only requested is met at the next poll. STI holds
 * interrupts off for one instruction more: that one is of the same block, and within a block nobody
 * polls.
 */
#include "vmm/engine/soft/translator/system.h"
#include "vmm/engine/soft/operand.h"

/* ---- fields of the vCPU ---- */

/* The byte of RFLAGS that holds `flag`, and the flag's bit in it. */
static struct emit_memory flag_byte(struct build *build, uint64_t flag, uint8_t *bit)
{
    unsigned number = (unsigned)__builtin_ctzl(flag);

    *bit = (uint8_t)(1U << number % 8);
    return build_field(build, offsetof(struct soft_cpu, rflags) + number / 8);
}

static void set_flag(struct build *build, uint64_t flag)
{
    uint8_t bit;
    struct emit_memory byte = flag_byte(build, flag, &bit);

    alu_byte(build, ALU_OR, byte, bit);
}

static void clear_flag(struct build *build, uint64_t flag)
{
    uint8_t bit;
    struct emit_memory byte = flag_byte(build, flag, &bit);

    alu_byte(build, ALU_AND, byte, (uint8_t)~bit);
}

/* ---- RFLAGS as a whole ---- */

void rflags_load(struct build *build)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory overflow = BUILD_FIELD(build, flags_carrier), low = overflow;

    low.displacement++;
    emit_op_memory(emitter, 0, 0x0fb6, false, T0, &low); /* MOVZX */
    emit_op_memory(emitter, 0, 0x0fb6, false, T1, &overflow);
    emit_shift(emitter, 4, false, T1, 11);
    emit_op_register(emitter, 0x09, false, T1, T0); /* OR */
    field_load(build, T1, BUILD_FIELD(build, rflags));
    emit_alu_immediate(emitter, ALU_AND, false, T1, (int32_t)~FLAGS_STATUS);
    emit_op_register(emitter, 0x09, false, T1, T0);
}

void rflags_store(struct build *build)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory carrier = BUILD_FIELD(build, flags_carrier);

    field_store(build, BUILD_FIELD(build, rflags), T1);
    emit_op_register(emitter, 0x0fb6, false, T0, T1);
    emit_shift(emitter, 4, false, T0, 8);
    emit_mov_register(emitter, false, T2, T1);
    emit_shift(emitter, 5, false, T2, 11);
    emit_alu_immediate(emitter, ALU_AND, false, T2, 1);
    emit_op_register(emitter, 0x09, false, T2, T0);
    emit_op_memory(emitter, 0x66, 0x89, false, T0, &carrier);
    build->flags = FLAGS_CARRIER;
}

/* ---- flags ---- */

static bool clear_interrupt(struct build *build)
{
    if (of_user(build))
        return false;
    build_begin_access(build);
    require_cpl0(build);
    clear_flag(build, FLAG_IF);
    build_go_on(build);
    return true;
}

static bool set_interrupt(struct build *build)
{
    if (of_user(build) || build->index + 1 == build->count)
        return false;
    build_begin_access(build);
    require_cpl0(build);
    require_quiet(build);
    set_flag(build, FLAG_IF);
    return true;
}

/* CLAC and STAC while SMAP is on: between its two modes. */
static bool change_access(struct build *build, bool set)
{
    if (of_user(build))
        return false;
    build_begin_access(build);
    require_cpl0(build);
    require_bit(build, offsetof(struct soft_cpu, cr4), CR4_SMAP, true);
    if (set)
        set_flag(build, FLAG_AC);
    else
        clear_flag(build, FLAG_AC);
    field_set_byte(build, BUILD_FIELD(build, mmu_mode),
                   set ? SOFT_MMU_SUPERVISOR_AC : SOFT_MMU_SUPERVISOR);
    build_jump(build, build_next(build));
    return true;
}

static bool clear_access(struct build *build)
{
    return change_access(build, false);
}

static bool set_access(struct build *build)
{
    return change_access(build, true);
}

static bool clear_direction(struct build *build)
{
    build_begin_access(build);
    clear_flag(build, FLAG_DF);
    build_go_on(build);
    return true;
}

static bool set_direction(struct build *build)
{
    build_begin_access(build);
    set_flag(build, FLAG_DF);
    build_go_on(build);
    return true;
}

static bool push_flags(struct build *build)
{
    unsigned word = build_word(build);
    struct emit_memory below = {
        .base = HOST_RSP, .index = EMIT_NONE, .displacement = -(int32_t)word};
    struct access access;

    if (build_now(build)->operand_size != word)
        return false;
    build_begin_access(build);
    rflags_load(build);
    access_prepare_stack(build, GPR_RSP, -(int)word, &access);
    access_check(build, &access, word, true);
    emit_store(&build->emitter, build->long_mode, &access.host, T0);
    emit_lea(&build->emitter, build->long_mode, HOST_RSP, &below);
    build_go_on(build);
    return true;
}

/* In privilege 0, where all that POPF can change it does change. */
static bool pop_flags(struct build *build)
{
    const uint32_t mask = FLAGS_STATUS | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_ID;
    unsigned word = build_word(build);
    struct emit_memory above = {
        .base = HOST_RSP, .index = EMIT_NONE, .displacement = (int32_t)word};
    struct emitter *emitter = &build->emitter;
    struct access access;

    if (of_user(build) || build_now(build)->operand_size != word)
        return false;
    build_begin_access(build);
    require_cpl0(build);
    require_quiet(build);
    access_prepare_stack(build, GPR_RSP, 0, &access);
    access_check(build, &access, word, false);
    emit_load(emitter, build->long_mode, T0, &access.host);
    field_load(build, T1, BUILD_FIELD(build, rflags));
    emit_mov_register(emitter, false, T2, T0);
    emit_op_register(emitter, 0x31, false, T1, T2); /* XOR; TF is clear */
    emit_op_register(emitter, 0xf7, false, 0, T2);  /* TEST */
    emit_u32(emitter, FLAG_TF | FLAG_AC);
    interpret_if(build, JUMP_NOT_EQUAL);
    emit_alu_immediate(emitter, ALU_AND, false, T0, (int32_t)mask);
    emit_alu_immediate(emitter, ALU_AND, false, T1, (int32_t)~mask);
    emit_op_register(emitter, 0x09, false, T0, T1); /* OR */
    emit_lea(emitter, build->long_mode, HOST_RSP, &above);
    rflags_store(build);
    build_go_on(build);
    return true;
}

/* ---- FS and GS ---- */

static bool swap_gs(struct build *build)
{
    if (!build->long_mode || of_user(build))
        return false;
    build_begin_access(build);
    require_cpl0(build);
    field_load(build, T0, BUILD_FIELD(build, seg[SEG_GS].base));
    field_load(build, T1, BUILD_FIELD(build, msrs.kernel_gs_base));
    field_store(build, BUILD_FIELD(build, seg[SEG_GS].base), T1);
    field_store(build, BUILD_FIELD(build, msrs.kernel_gs_base), T0);
    build_go_on(build);
    return true;
}

/* The host's register of the guest's that the present instruction writes: T0 for one in memory. */
static uint8_t target_register(unsigned gpr)
{
    return IN_MEMORY >> gpr & 1 ? T0 : host_register(gpr);
}

static void put_target(struct build *build, unsigned gpr)
{
    if (IN_MEMORY >> gpr & 1)
        field_store(build, BUILD_FIELD(build, gpr[gpr]), T0);
}

static bool read_base(struct build *build)
{
    struct emit_memory base = BUILD_FIELD(build, seg[build_now(build)->aux[0] % SEG_COUNT].base);
    bool wide = build_now(build)->operand_size == 8;
    unsigned gpr = build_now(build)->rm & 15;

    if (!build->long_mode)
        return false;
    build_begin_access(build);
    require_bit(build, offsetof(struct soft_cpu, cr4), CR4_FSGSBASE, true);
    emit_load(&build->emitter, wide, target_register(gpr), &base);
    put_target(build, gpr);
    build_go_on(build);
    return true;
}

static bool write_base(struct build *build)
{
    struct emit_memory base = BUILD_FIELD(build, seg[build_now(build)->aux[0] % SEG_COUNT].base);
    bool wide = build_now(build)->operand_size == 8;
    unsigned gpr = build_now(build)->rm & 15;

    if (!build->long_mode)
        return false;
    build_begin_access(build);
    require_bit(build, offsetof(struct soft_cpu, cr4), CR4_FSGSBASE, true);
    if (IN_MEMORY >> gpr & 1) {
        struct emit_memory field = BUILD_FIELD(build, gpr[gpr]);

        emit_load(&build->emitter, wide, T0, &field);
    } else {
        emit_mov_register(&build->emitter, wide, T0, host_register(gpr));
    }
    if (wide)
        require_canonical(build, T0, T1);
    field_store(build, base, T0);
    build_go_on(build);
    return true;
}

/* ---- the counter ---- */

/* RDX:RAX from the host's counter. */
static bool read_counter(struct build *build, bool ordered)
{
    static const uint8_t lfence[] = {0x0f, 0xae, 0xe8}, rdtsc[] = {0x0f, 0x31};
    struct emitter *emitter = &build->emitter;
    struct emit_memory bias = BUILD_FIELD(build, tsc_bias);

    build_begin_access(build);
    require_bit(build, offsetof(struct soft_cpu, cr4), CR4_TSD, false);
    alu_byte(build, ALU_CMP, BUILD_FIELD(build, tsc_native), 0);
    interpret_if(build, JUMP_EQUAL);
    if (ordered)
        emit_bytes(emitter, lfence, sizeof(lfence));
    emit_bytes(emitter, rdtsc, sizeof(rdtsc));
    emit_shift(emitter, 4, true, GPR_RDX, 32);
    emit_op_register(emitter, 0x09, true, GPR_RAX, GPR_RDX); /* OR RDX, RAX */
    emit_op_memory(emitter, 0, 0x03, true, GPR_RDX, &bias);  /* ADD */
    emit_mov_register(emitter, false, GPR_RAX, GPR_RDX);
    emit_shift(emitter, 5, true, GPR_RDX, 32);
    if (ordered) {
        struct emit_memory aux = BUILD_FIELD(build, msrs.tsc_aux);

        emit_load(emitter, false, GPR_RCX, &aux);
    }
    build_go_on(build);
    return true;
}

static bool read_tsc(struct build *build)
{
    return read_counter(build, false);
}

static bool read_tsc_and_aux(struct build *build)
{
    return read_counter(build, true);
}

/* ---- control registers ---- */

static bool move_from_control(struct build *build)
{
    static const size_t fields[] = {
        [0] = offsetof(struct soft_cpu, cr0),
        [2] = offsetof(struct soft_cpu, cr2),
        [3] = offsetof(struct soft_cpu, cr3),
        [4] = offsetof(struct soft_cpu, cr4),
    };
    const ZydisDecodedOperand *source = &build->now->decoded.operands[1];
    unsigned number = build_now(build)->reg, gpr = build_now(build)->rm & 15;
    struct emit_memory field;

    if (!build->long_mode || of_user(build) || source->type != ZYDIS_OPERAND_TYPE_REGISTER ||
        ZydisRegisterGetClass(source->reg.value) != ZYDIS_REGCLASS_CONTROL || number > 4 ||
        number == 1)
        return false;
    build_begin_access(build);
    require_cpl0(build);
    field = build_field(build, fields[number]);
    emit_load(&build->emitter, true, target_register(gpr), &field);
    put_target(build, gpr);
    build_go_on(build);
    return true;
}

static bool move_system(struct build *build)
{
    return move_from_control(build) || build_move_segment(build);
}

/* ---- selection ---- */

static const struct {
    ZydisMnemonic mnemonic;
    bool (*build)(struct build *build);
    uint32_t flags_read, flags_killed;
} kinds[] = {
    {ZYDIS_MNEMONIC_SYSCALL, build_syscall, FLAGS_LIVE, 0},
    {ZYDIS_MNEMONIC_SYSRET, build_sysret, 0, FLAGS_LIVE},
    {ZYDIS_MNEMONIC_SYSENTER, build_sysenter, 0, 0},
    {ZYDIS_MNEMONIC_SYSEXIT, build_sysexit, 0, 0},
    {ZYDIS_MNEMONIC_CLI, clear_interrupt, 0, 0},
    {ZYDIS_MNEMONIC_STI, set_interrupt, 0, 0},
    {ZYDIS_MNEMONIC_CLAC, clear_access, 0, 0},
    {ZYDIS_MNEMONIC_STAC, set_access, 0, 0},
    {ZYDIS_MNEMONIC_CLD, clear_direction, 0, 0},
    {ZYDIS_MNEMONIC_STD, set_direction, 0, 0},
    {ZYDIS_MNEMONIC_PUSHFD, push_flags, FLAGS_LIVE, 0},
    {ZYDIS_MNEMONIC_PUSHFQ, push_flags, FLAGS_LIVE, 0},
    {ZYDIS_MNEMONIC_POPFD, pop_flags, 0, FLAGS_LIVE},
    {ZYDIS_MNEMONIC_POPFQ, pop_flags, 0, FLAGS_LIVE},
    {ZYDIS_MNEMONIC_PUSH, build_push_segment, 0, 0},
    {ZYDIS_MNEMONIC_SWAPGS, swap_gs, 0, 0},
    {ZYDIS_MNEMONIC_RDFSBASE, read_base, 0, 0},
    {ZYDIS_MNEMONIC_RDGSBASE, read_base, 0, 0},
    {ZYDIS_MNEMONIC_WRFSBASE, write_base, 0, 0},
    {ZYDIS_MNEMONIC_WRGSBASE, write_base, 0, 0},
    {ZYDIS_MNEMONIC_RDTSC, read_tsc, 0, 0},
    {ZYDIS_MNEMONIC_RDTSCP, read_tsc_and_aux, 0, 0},
    {ZYDIS_MNEMONIC_MOV, move_system, 0, 0},
};

static int kind_of(const ZydisDecodedInstruction *decoded)
{
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].mnemonic == decoded->mnemonic)
            return (int)i;
    return -1;
}

void build_system_flags(const ZydisDecodedInstruction *decoded, struct copy_form *form)
{
    int kind = kind_of(decoded);

    if (build_string_flags(decoded, form) || kind < 0)
        return;
    form->flags_read = kinds[kind].flags_read;
    form->flags_killed = kinds[kind].flags_killed;
}

bool build_system(struct build *build)
{
    int kind = kind_of(&build->now->decoded.instruction);

    return kind >= 0 ? kinds[kind].build(build) : build_string(build);
}
