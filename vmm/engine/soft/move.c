// SPDX-License-Identifier: Apache-2.0
/*
 * Moves and conversions: MOV, MOVZX, MOVSX, LEA, CMOVcc, SETcc, MOVBE, BSWAP, the CBW and CWD
 * families, XLAT, MOVNTI. Segment, control and debug registers are system.c's.
 */
#include "vmm/engine/soft/operand.h"

#define DEFINE_MOVE(bits)                                                          \
    static void mov##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)      \
    {                                                                              \
        reg_set##bits(cpu, insn->reg_offset, reg_get##bits(cpu, insn->rm_offset)); \
    }                                                                              \
    static void mov##bits##_rm(struct soft_cpu *cpu, const struct insn *insn)      \
    {                                                                              \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_READ);    \
        reg_set##bits(cpu, insn->reg_offset, soft_read##bits(cpu, linear));        \
    }                                                                              \
    static void mov##bits##_mr(struct soft_cpu *cpu, const struct insn *insn)      \
    {                                                                              \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);   \
        soft_write##bits(cpu, linear, reg_get##bits(cpu, insn->reg_offset));       \
    }                                                                              \
    static void mov##bits##_ri(struct soft_cpu *cpu, const struct insn *insn)      \
    {                                                                              \
        reg_set##bits(cpu, insn->reg_offset, (uint##bits##_t)insn->immediate);     \
    }                                                                              \
    static void mov##bits##_mi(struct soft_cpu *cpu, const struct insn *insn)      \
    {                                                                              \
        uint64_t linear = soft_operand_address(cpu, insn, bits / 8, SOFT_WRITE);   \
        soft_write##bits(cpu, linear, (uint##bits##_t)insn->immediate);            \
    }
DEFINE_MOVE(8)
DEFINE_MOVE(16)
DEFINE_MOVE(32)
DEFINE_MOVE(64)

/* A narrow source to a wide register, zero- or sign-extended. */
#define DEFINE_EXTEND(name, type, from, to)                                             \
    static void name##from##_##to##_rr(struct soft_cpu *cpu, const struct insn *insn)   \
    {                                                                                   \
        reg_set##to(cpu, insn->reg_offset,                                              \
                    (uint##to##_t)(type##from##_t)reg_get##from(cpu, insn->rm_offset)); \
    }                                                                                   \
    static void name##from##_##to##_rm(struct soft_cpu *cpu, const struct insn *insn)   \
    {                                                                                   \
        uint64_t linear = soft_operand_address(cpu, insn, from / 8, SOFT_READ);         \
        reg_set##to(cpu, insn->reg_offset,                                              \
                    (uint##to##_t)(type##from##_t)soft_read##from(cpu, linear));        \
    }
DEFINE_EXTEND(movzx, uint, 8, 16)
DEFINE_EXTEND(movzx, uint, 8, 32)
DEFINE_EXTEND(movzx, uint, 8, 64)
DEFINE_EXTEND(movzx, uint, 16, 32)
DEFINE_EXTEND(movzx, uint, 16, 64)
DEFINE_EXTEND(movsx, int, 8, 16)
DEFINE_EXTEND(movsx, int, 8, 32)
DEFINE_EXTEND(movsx, int, 8, 64)
DEFINE_EXTEND(movsx, int, 16, 32)
DEFINE_EXTEND(movsx, int, 16, 64)
DEFINE_EXTEND(movsx, int, 32, 64)

static void lea16(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set16(cpu, insn->reg_offset, (uint16_t)soft_operand_offset(cpu, insn));
}

static void lea32(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set32(cpu, insn->reg_offset, (uint32_t)soft_operand_offset(cpu, insn));
}

static void lea64(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set64(cpu, insn->reg_offset, soft_operand_offset(cpu, insn));
}

/* CMOVcc reads its source, and clears the upper half of a 32-bit destination, in any case. The
 * condition is in aux[0]. */
#define DEFINE_CMOV(bits)                                                                         \
    static void cmov##bits##_rr(struct soft_cpu *cpu, const struct insn *insn)                    \
    {                                                                                             \
        bool moves = condition_holds(cpu->rflags, insn->aux[0]);                                  \
        reg_set##bits(cpu, insn->reg_offset,                                                      \
                      reg_get##bits(cpu, moves ? insn->rm_offset : insn->reg_offset));            \
    }                                                                                             \
    static void cmov##bits##_rm(struct soft_cpu *cpu, const struct insn *insn)                    \
    {                                                                                             \
        uint##bits##_t src =                                                                      \
            soft_read##bits(cpu, soft_operand_address(cpu, insn, bits / 8, SOFT_READ));           \
        bool moves = condition_holds(cpu->rflags, insn->aux[0]);                                  \
        reg_set##bits(cpu, insn->reg_offset, moves ? src : reg_get##bits(cpu, insn->reg_offset)); \
    }
DEFINE_CMOV(16)
DEFINE_CMOV(32)
DEFINE_CMOV(64)

static void setcc_r(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set8(cpu, insn->reg_offset, condition_holds(cpu->rflags, insn->aux[0]));
}

static void setcc_m(struct soft_cpu *cpu, const struct insn *insn)
{
    soft_write8(cpu, soft_operand_address(cpu, insn, 1, SOFT_WRITE),
                condition_holds(cpu->rflags, insn->aux[0]));
}

static uint64_t swap_bytes(uint64_t value, unsigned size)
{
    return __builtin_bswap64(value) >> (64 - size * 8);
}

static void movbe_rm(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t linear = soft_operand_address(cpu, insn, size, SOFT_READ);

    reg_set(cpu, insn->reg_offset, swap_bytes(mem_get(cpu, linear, size), size), size);
}

static void movbe_mr(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand_size;
    uint64_t linear = soft_operand_address(cpu, insn, size, SOFT_WRITE);

    mem_set(cpu, linear, swap_bytes(reg_get(cpu, insn->reg_offset, size), size), size);
}

/* BSWAP of a 16-bit register is undefined: what the host makes of it. */
static void bswap16(struct soft_cpu *cpu, const struct insn *insn)
{
    uint32_t value = reg_get32(cpu, insn->reg_offset);

    __asm__("data16 bswapl %0" : "+r"(value));
    reg_set16(cpu, insn->reg_offset, (uint16_t)value);
}

static void bswap32(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set32(cpu, insn->reg_offset, __builtin_bswap32(reg_get32(cpu, insn->reg_offset)));
}

static void bswap64(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set64(cpu, insn->reg_offset, __builtin_bswap64(reg_get64(cpu, insn->reg_offset)));
}

static void cbw(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set16(cpu, GPR_RAX, (uint16_t)(int8_t)cpu->gpr[GPR_RAX]);
}

static void cwde(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->gpr[GPR_RAX] = (uint32_t)(int16_t)cpu->gpr[GPR_RAX];
}

static void cdqe(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->gpr[GPR_RAX] = (uint64_t)(int32_t)cpu->gpr[GPR_RAX];
}

static void cwd(struct soft_cpu *cpu, const struct insn *insn)
{
    reg_set16(cpu, GPR_RDX * 8, (int16_t)cpu->gpr[GPR_RAX] < 0 ? 0xffff : 0);
}

static void cdq(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->gpr[GPR_RDX] = (int32_t)cpu->gpr[GPR_RAX] < 0 ? 0xffffffff : 0;
}

static void cqo(struct soft_cpu *cpu, const struct insn *insn)
{
    cpu->gpr[GPR_RDX] = (int64_t)cpu->gpr[GPR_RAX] < 0 ? UINT64_MAX : 0;
}

/* The sum of table and index wraps at the address size. */
static void xlat(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = cpu->gpr[GPR_RBX] + (uint8_t)cpu->gpr[GPR_RAX];
    uint64_t linear;

    if (insn->address_size != 8)
        offset = insn->address_size == 4 ? (uint32_t)offset : (uint16_t)offset;
    linear = mem_address(cpu, insn->segment, offset, 1, SOFT_READ);
    reg_set8(cpu, GPR_RAX, soft_read8(cpu, linear));
}

#define SIZES(name, form)                                             \
    {                                                                 \
        name##8##form, name##16##form, name##32##form, name##64##form \
    }

static soft_exec_fn select_mov(const struct soft_decoded *decoded, struct insn *insn)
{
    static const soft_exec_fn handlers[FORM_COUNT][4] = {
        [FORM_RR] = SIZES(mov, _rr), [FORM_RM] = SIZES(mov, _rm), [FORM_MR] = SIZES(mov, _mr),
        [FORM_RI] = SIZES(mov, _ri), [FORM_MI] = SIZES(mov, _mi),
    };
    enum operand_form form = operand_form(decoded, insn);

    /* Segment registers are FORM_NONE; moffs forms are RM and MR. */
    return handlers[form][operand_size_index(&decoded->operands[0])];
}

/* MOVSXD to 16 bits reads 32 on AMD's processors. */
static void movsxd16_rm(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t linear = soft_operand_address(cpu, insn, 4, SOFT_READ);

    reg_set16(cpu, insn->reg_offset, (uint16_t)soft_read32(cpu, linear));
}

static soft_exec_fn select_extend(const struct soft_decoded *decoded, struct insn *insn)
{
    static const soft_exec_fn handlers[2][2][3][4] = {
        {{{NULL, movzx8_16_rr, movzx8_32_rr, movzx8_64_rr},
          {NULL, mov16_rr, movzx16_32_rr, movzx16_64_rr},
          {}},
         {{NULL, movzx8_16_rm, movzx8_32_rm, movzx8_64_rm},
          {NULL, mov16_rm, movzx16_32_rm, movzx16_64_rm},
          {}}},
        {{{NULL, movsx8_16_rr, movsx8_32_rr, movsx8_64_rr},
          {NULL, mov16_rr, movsx16_32_rr, movsx16_64_rr},
          {NULL, mov16_rr, mov32_rr, movsx32_64_rr}},
         {{NULL, movsx8_16_rm, movsx8_32_rm, movsx8_64_rm},
          {NULL, mov16_rm, movsx16_32_rm, movsx16_64_rm},
          {NULL, mov16_rm, mov32_rm, movsx32_64_rm}}},
    };
    bool sign = decoded->instruction.mnemonic != ZYDIS_MNEMONIC_MOVZX;
    bool memory = operand_form(decoded, insn) == FORM_RM;
    unsigned to = operand_size_index(&decoded->operands[0]);
    unsigned from = operand_size_index(&decoded->operands[1]);

    if (decoded->instruction.mnemonic == ZYDIS_MNEMONIC_MOVSXD)
        from = 2;
    if (from == 2 && to == 1 && memory && decoded->model->vendor == CPU_VENDOR_AMD)
        return movsxd16_rm;
    return from < 3 ? handlers[sign][memory][from][to] : NULL;
}

static soft_exec_fn select_conditional(const struct soft_decoded *decoded, struct insn *insn)
{
    static const soft_exec_fn cmov[2][4] = {{NULL, cmov16_rr, cmov32_rr, cmov64_rr},
                                            {NULL, cmov16_rm, cmov32_rm, cmov64_rm}};
    enum operand_form form = operand_form(decoded, insn);

    insn->aux[0] = decoded->instruction.opcode & 15;
    if (decoded->instruction.meta.category == ZYDIS_CATEGORY_SETCC)
        return form == FORM_R ? setcc_r : setcc_m;
    return cmov[form == FORM_RM][operand_size_index(&decoded->operands[0])];
}

static soft_exec_fn select_swap(const struct soft_decoded *decoded, struct insn *insn)
{
    static const soft_exec_fn bswap[4] = {NULL, bswap16, bswap32, bswap64};
    enum operand_form form = operand_form(decoded, insn);

    insn->operand_size = (uint8_t)(decoded->operands[0].size / 8);
    if (decoded->instruction.mnemonic == ZYDIS_MNEMONIC_BSWAP)
        return bswap[operand_size_index(&decoded->operands[0])];
    return form == FORM_RM ? movbe_rm : movbe_mr;
}

soft_exec_fn select_move(const struct soft_decoded *decoded, struct insn *insn)
{
    static const soft_exec_fn lea[4] = {NULL, lea16, lea32, lea64};

    if (decoded->instruction.meta.category == ZYDIS_CATEGORY_SETCC ||
        decoded->instruction.meta.category == ZYDIS_CATEGORY_CMOV)
        return select_conditional(decoded, insn);
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVNTI:
        return select_mov(decoded, insn);
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
        return select_extend(decoded, insn);
    case ZYDIS_MNEMONIC_LEA:
        operand_form(decoded, insn);
        return lea[operand_size_index(&decoded->operands[0])];
    case ZYDIS_MNEMONIC_BSWAP:
    case ZYDIS_MNEMONIC_MOVBE:
        return select_swap(decoded, insn);
    case ZYDIS_MNEMONIC_CBW:
        return cbw;
    case ZYDIS_MNEMONIC_CWDE:
        return cwde;
    case ZYDIS_MNEMONIC_CDQE:
        return cdqe;
    case ZYDIS_MNEMONIC_CWD:
        return cwd;
    case ZYDIS_MNEMONIC_CDQ:
        return cdq;
    case ZYDIS_MNEMONIC_CQO:
        return cqo;
    case ZYDIS_MNEMONIC_XLAT:
        return xlat;
    default:
        return NULL;
    }
}
