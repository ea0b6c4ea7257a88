// SPDX-License-Identifier: Apache-2.0
/*
 * x87 instructions. Arithmetic runs on the host's FPU: load the guest's state, execute the guest's
 * instruction, save the state (x87_stubs.S). What comes out - result, C1, tags, stack faults,
 * unmasked exceptions as ES in the status word - is therefore the hardware's. Pending exceptions
 * are raised here, by the next instruction that waits. Control instructions and the pointers to the
 * last instruction and operand are kept in C. (SDM 1, chapter 8.)
 */
#include "vmm/engine/soft/x87.h"

#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/system.h"

#define FSW_CLEARED 0x80ffU /* what FNCLEX clears */
#define FCW_MASKS   0x3fU

/* Bytes of insn->aux, as this file uses them. */
enum x87_aux {
    AUX_SIZE, /* bytes of the memory operand */
    AUX_FOP,  /* two bytes: the opcode as FOP has it */
    AUX_FOP_HI,
};

extern const uint8_t x87_register_stubs[], x87_memory_stubs[];
void x87_run(void *image, void *operand, const void *stub);
void x87_run_flags(void *image, uint64_t *flags, const void *stub);

#define ARITHMETIC_FLAGS 0x8d5UL

/* Bytes of the memory operand by opcode and ModRM.reg; negative: it is written. 0: not arithmetic.
 */
static const int8_t memory_sizes[8][8] = {
    {4, 4, 4, 4, 4, 4, 4, 4},        /* D8: m32 */
    {4, 0, -4, -4, 0, 0, 0, 0},      /* D9: FLD, FST, FSTP m32 */
    {4, 4, 4, 4, 4, 4, 4, 4},        /* DA: m32 integer */
    {4, -4, -4, -4, 0, 10, 0, -10},  /* DB: FILD, FISTTP, FIST, FISTP m32; FLD, FSTP m80 */
    {8, 8, 8, 8, 8, 8, 8, 8},        /* DC: m64 */
    {8, -8, -8, -8, 0, 0, 0, 0},     /* DD: FLD, FISTTP, FST, FSTP m64 */
    {2, 2, 2, 2, 2, 2, 2, 2},        /* DE: m16 integer */
    {2, -2, -2, -2, 10, 8, -10, -8}, /* DF: FILD, FISTTP.. m16; FBLD; FILD m64; FBSTP; FISTP */
};

/* ---- checks ---- */

static inline void check(struct soft_cpu *cpu)
{
    if (__builtin_expect(cpu->cr0 & (CR0_EM | CR0_TS), 0))
        soft_raise(cpu, EXC_NM, 0);
}

static inline void check_and_wait(struct soft_cpu *cpu)
{
    check(cpu);
    if (__builtin_expect(cpu->x87.fsw & FSW_ES, 0))
        soft_x87_raise_pending(cpu);
}

/* ---- arithmetic ---- */

static void note_instruction(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->x87.fop = (uint16_t)(insn->aux[AUX_FOP] | insn->aux[AUX_FOP_HI] << 8);
    cpu->x87.fip = cpu->code_size == 8 ? cpu->rip : (uint32_t)cpu->rip;
    cpu->x87_cs = cpu->seg[SEG_CS].selector;
}

/* Execute the stub. Where the machine ignores a pending exception (CR0.NE clear), the host must not
 * see it: its flags are set aside. Returns the flags that this instruction left. */
static uint16_t run(struct soft_cpu *cpu, const struct insn *insn, void *operand, uint64_t *flags)
{
    uint16_t aside = 0, left;
    uint64_t data_pointer = cpu->x87.fdp;

    cpu->x87.mxcsr = 0x1f80;
    if (__builtin_expect(cpu->x87.fsw & FSW_ES, 0)) {
        aside = cpu->x87.fsw & (uint16_t)~cpu->x87.fcw & FSW_EXCEPTIONS;
        cpu->x87.fsw &= (uint16_t) ~(aside | FSW_ES | FSW_B);
    }
    if (flags)
        x87_run_flags(&cpu->x87, flags, insn->data);
    else
        x87_run(&cpu->x87, operand, insn->data);
    left = cpu->x87.fsw;
    if (aside)
        cpu->x87.fsw |= (uint16_t)(aside | FSW_ES | FSW_B);
    cpu->x87.fdp = data_pointer;
    note_instruction(cpu, insn);
    return left;
}

static void exec_register(struct soft_cpu *cpu, const struct insn *insn)
{
    check_and_wait(cpu);
    run(cpu, insn, NULL, NULL);
}

/* FCMOVcc reads the flags, FCOMI and its like write them. */
static void exec_flags(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t flags;

    check_and_wait(cpu);
    flags = (cpu->rflags & ARITHMETIC_FLAGS) | FLAG_FIXED;
    run(cpu, insn, NULL, &flags);
    cpu->rflags = (cpu->rflags & ~ARITHMETIC_FLAGS) | (flags & ARITHMETIC_FLAGS);
}

static void note_operand(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->x87.fdp = soft_operand_offset(cpu, insn);
    cpu->x87_ds = cpu->seg[insn->segment].selector;
}

static void exec_load(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE] & 15;
    uint8_t operand[16];

    check_and_wait(cpu);
    soft_read_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_READ), operand, size);
    run(cpu, insn, operand, NULL);
    note_operand(cpu, insn);
}

/* An unmasked exception other than precision keeps the result from memory. */
static void exec_store(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE] & 15;
    uint8_t operand[16];
    uint64_t linear;
    uint16_t left;

    check_and_wait(cpu);
    linear = soft_operand_address(cpu, insn, size, SOFT_WRITE);
    soft_probe_write(cpu, linear, size, cpu->mmu_mode);
    left = run(cpu, insn, operand, NULL);
    note_operand(cpu, insn);
    if (!(left & ~cpu->x87.fcw & 0x1f))
        soft_write_bytes(cpu, linear, operand, size);
}

/* ---- control ---- */

/* Change TOP under registers that stay where they are. */
static void set_status(struct soft_cpu *cpu, uint16_t status)
{
    unsigned turn = ((status & FSW_TOP) >> FSW_TOP_SHIFT) - soft_x87_top(cpu);
    uint8_t turned[8][16];

    for (unsigned i = 0; i < 8; i++)
        memcpy(turned[i], cpu->x87.st[(i + turn) & 7], 16);
    memcpy(cpu->x87.st, turned, sizeof(turned));
    cpu->x87.fsw = status;
}

static void exec_fwait(struct soft_cpu *cpu, const struct insn *insn)
{
    if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        soft_raise(cpu, EXC_NM, 0);
    soft_x87_raise_pending(cpu);
}

/* FNOP waits; FENI, FDISI, FSETPM do nothing at all. */
static void exec_fnop(struct soft_cpu *cpu, const struct insn *insn)
{
    check_and_wait(cpu);
}

static void exec_nothing(struct soft_cpu *cpu, const struct insn *insn)
{
    check(cpu);
}

static void exec_fninit(struct soft_cpu *cpu, const struct insn *insn)
{
    check(cpu);
    soft_x87_reset(cpu, false);
}

static void exec_fnclex(struct soft_cpu *cpu, const struct insn *insn)
{
    check(cpu);
    cpu->x87.fsw &= (uint16_t)~FSW_CLEARED;
}

static void exec_fldcw(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t control;

    check_and_wait(cpu);
    control = soft_read16(cpu, soft_operand_address(cpu, insn, 2, SOFT_READ));
    cpu->x87.fcw = control;
    soft_x87_normalize(cpu);
}

static void exec_fnstcw(struct soft_cpu *cpu, const struct insn *insn)
{
    check(cpu);
    soft_write16(cpu, soft_operand_address(cpu, insn, 2, SOFT_WRITE), cpu->x87.fcw);
}

static void exec_fnstsw(struct soft_cpu *cpu, const struct insn *insn)
{
    check(cpu);
    soft_write16(cpu, soft_operand_address(cpu, insn, 2, SOFT_WRITE), cpu->x87.fsw);
}

static void exec_fnstsw_ax(struct soft_cpu *cpu, const struct insn *insn)
{
    check(cpu);
    cpu->gpr[GPR_RAX] = (cpu->gpr[GPR_RAX] & ~0xffffUL) | cpu->x87.fsw;
}

/* ---- environment: SDM 1, figures 8-9 to 8-12 ---- */

#define ENVIRONMENT_MAX 28
#define SAVED_REGISTERS 80
#define FULL_TAG_EMPTY  3

/* Tag of a register in the two-bit form: valid, zero, special. */
static unsigned full_tag(const uint8_t *st)
{
    uint64_t mantissa;
    unsigned exponent = st[8] | (st[9] & 0x7f) << 8;

    memcpy(&mantissa, st, 8);
    if (!exponent && !mantissa)
        return 1;
    return exponent && exponent != 0x7fff && mantissa >> 63 ? 0 : 2;
}

static uint16_t full_tags(const struct soft_cpu *cpu)
{
    unsigned top = soft_x87_top(cpu);
    uint16_t tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        unsigned tag =
            cpu->x87.ftw >> i & 1 ? full_tag(cpu->x87.st[(i - top) & 7]) : FULL_TAG_EMPTY;

        tags |= (uint16_t)(tag << i * 2);
    }
    return tags;
}

static bool real_format(const struct soft_cpu *cpu)
{
    return !soft_protected(cpu) || soft_v86(cpu);
}

/* The seven fields of the environment, in words of `size` / 7 bytes. */
static void build_environment(const struct soft_cpu *cpu, uint8_t *out, unsigned size)
{
    uint32_t fip = (uint32_t)cpu->x87.fip, fdp = (uint32_t)cpu->x87.fdp;
    uint32_t field[7] = {cpu->x87.fcw, cpu->x87.fsw, full_tags(cpu)};
    uint16_t fop = cpu->x87.fop;

    if (real_format(cpu)) {
        fip += (uint32_t)cpu->x87_cs << 4;
        fdp += (uint32_t)cpu->x87_ds << 4;
    }
    if (size == 14) {
        field[3] = fip;
        field[4] = real_format(cpu) ? (fip >> 4 & 0xf000) | fop : cpu->x87_cs;
        field[5] = fdp;
        field[6] = real_format(cpu) ? fdp >> 4 & 0xf000 : cpu->x87_ds;
        for (unsigned i = 0; i < 7; i++)
            memcpy(out + i * 2, &field[i], 2);
        return;
    }
    for (unsigned i = 0; i < 3; i++)
        field[i] |= 0xffff0000;
    field[3] = real_format(cpu) ? fip | 0xffff0000 : fip;
    field[4] = real_format(cpu) ? (fip >> 4 & 0x0ffff000) | fop : cpu->x87_cs | (uint32_t)fop << 16;
    field[5] = real_format(cpu) ? fdp | 0xffff0000 : fdp;
    field[6] = real_format(cpu) ? fdp >> 4 & 0x0ffff000 : cpu->x87_ds | 0xffff0000;
    memcpy(out, field, sizeof(field));
}

static void load_pointers(struct soft_cpu *cpu, const uint32_t field[7], unsigned size)
{
    if (real_format(cpu)) {
        uint32_t high = size == 14 ? 0xf000 : 0x0ffff000;

        cpu->x87.fop = field[4] & 0x7ff;
        cpu->x87.fip = (field[3] & 0xffff) | (field[4] & high) << 4;
        cpu->x87.fdp = (field[5] & 0xffff) | (field[6] & high) << 4;
        cpu->x87_cs = cpu->x87_ds = 0;
        return;
    }
    cpu->x87.fop = size == 14 ? 0 : field[4] >> 16 & 0x7ff;
    cpu->x87.fip = field[3];
    cpu->x87.fdp = field[5];
    cpu->x87_cs = (uint16_t)field[4];
    cpu->x87_ds = (uint16_t)field[6];
}

static void load_environment(struct soft_cpu *cpu, const uint8_t *in, unsigned size)
{
    uint32_t field[7] = {0};
    uint8_t tags = 0;

    for (unsigned i = 0; i < 7; i++)
        memcpy(&field[i], in + i * (size / 7), size / 7);
    for (unsigned i = 0; i < 8; i++)
        if ((field[2] >> i * 2 & 3) != FULL_TAG_EMPTY)
            tags |= (uint8_t)(1 << i);
    set_status(cpu, (uint16_t)field[1]);
    cpu->x87.fcw = (uint16_t)field[0];
    cpu->x87.ftw = tags;
    load_pointers(cpu, field, size);
    soft_x87_normalize(cpu);
}

static void exec_fnstenv(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE];
    uint8_t image[ENVIRONMENT_MAX];

    check(cpu);
    build_environment(cpu, image, size);
    soft_write_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_WRITE), image, size);
    cpu->x87.fcw |= FCW_MASKS;
    soft_x87_normalize(cpu);
}

static void exec_fldenv(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE];
    uint8_t image[ENVIRONMENT_MAX];

    check_and_wait(cpu);
    soft_read_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_READ), image, size);
    load_environment(cpu, image, size);
}

static void exec_fnsave(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE];
    uint8_t image[ENVIRONMENT_MAX + SAVED_REGISTERS];

    check(cpu);
    build_environment(cpu, image, size);
    for (unsigned i = 0; i < 8; i++)
        memcpy(image + size + i * 10, cpu->x87.st[i], 10);
    size += SAVED_REGISTERS;
    soft_write_bytes(cpu, soft_operand_address(cpu, insn, size, SOFT_WRITE), image, size);
    soft_x87_reset(cpu, false);
}

static void exec_frstor(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->aux[AUX_SIZE], whole = size + SAVED_REGISTERS;
    uint8_t image[ENVIRONMENT_MAX + SAVED_REGISTERS];

    check_and_wait(cpu);
    soft_read_bytes(cpu, soft_operand_address(cpu, insn, whole, SOFT_READ), image, whole);
    load_environment(cpu, image, size);
    for (unsigned i = 0; i < 8; i++)
        memcpy(cpu->x87.st[i], image + size + i * 10, 10);
}

/* ---- selection ---- */

static soft_exec_fn select_environment(struct insn *insn, unsigned operand_bytes, soft_exec_fn exec)
{
    insn->aux[AUX_SIZE] = operand_bytes == 14 || operand_bytes == 94 ? 14 : 28;
    return exec;
}

static soft_exec_fn select_control(const struct soft_decoded *decoded, struct insn *insn)
{
    unsigned bytes = decoded->operands[0].size / 8;

    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_FWAIT:
        return exec_fwait;
    case ZYDIS_MNEMONIC_FNOP:
        return exec_fnop;
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FSETPM287_NOP:
        return exec_nothing;
    case ZYDIS_MNEMONIC_FNINIT:
        return exec_fninit;
    case ZYDIS_MNEMONIC_FNCLEX:
        return exec_fnclex;
    case ZYDIS_MNEMONIC_FLDCW:
        return exec_fldcw;
    case ZYDIS_MNEMONIC_FNSTCW:
        return exec_fnstcw;
    case ZYDIS_MNEMONIC_FNSTSW:
        return insn->memory ? exec_fnstsw : exec_fnstsw_ax;
    case ZYDIS_MNEMONIC_FNSTENV:
        return select_environment(insn, bytes, exec_fnstenv);
    case ZYDIS_MNEMONIC_FLDENV:
        return select_environment(insn, bytes, exec_fldenv);
    case ZYDIS_MNEMONIC_FNSAVE:
        return select_environment(insn, bytes, exec_fnsave);
    case ZYDIS_MNEMONIC_FRSTOR:
        return select_environment(insn, bytes, exec_frstor);
    default:
        return NULL;
    }
}

static bool uses_flags(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_FCMOVB:
    case ZYDIS_MNEMONIC_FCMOVBE:
    case ZYDIS_MNEMONIC_FCMOVE:
    case ZYDIS_MNEMONIC_FCMOVNB:
    case ZYDIS_MNEMONIC_FCMOVNBE:
    case ZYDIS_MNEMONIC_FCMOVNE:
    case ZYDIS_MNEMONIC_FCMOVNU:
    case ZYDIS_MNEMONIC_FCMOVU:
    case ZYDIS_MNEMONIC_FCOMI:
    case ZYDIS_MNEMONIC_FCOMIP:
    case ZYDIS_MNEMONIC_FUCOMI:
    case ZYDIS_MNEMONIC_FUCOMIP:
        return true;
    default:
        return false;
    }
}

soft_exec_fn soft_select_x87(const struct soft_decoded *decoded, struct insn *insn)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    unsigned opcode = instruction->opcode - 0xd8U, reg = instruction->raw.modrm.reg & 7U;
    unsigned modrm = instruction->raw.modrm.mod << 6 | reg << 3 | instruction->raw.modrm.rm;
    soft_exec_fn exec = select_control(decoded, insn);

    if (exec || instruction->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || opcode > 7)
        return exec;
    insn->aux[AUX_FOP] = (uint8_t)modrm;
    insn->aux[AUX_FOP_HI] = (uint8_t)opcode;
    if (!insn->memory) {
        insn->data = x87_register_stubs + (opcode * 64 + (modrm & 63)) * 4;
        return uses_flags(instruction->mnemonic) ? exec_flags : exec_register;
    }
    if (!memory_sizes[opcode][reg])
        return NULL;
    insn->data = x87_memory_stubs + (opcode * 8 + reg) * 4;
    insn->aux[AUX_SIZE] = (uint8_t)(memory_sizes[opcode][reg] < 0 ? -memory_sizes[opcode][reg]
                                                                  : memory_sizes[opcode][reg]);
    return memory_sizes[opcode][reg] < 0 ? exec_store : exec_load;
}
