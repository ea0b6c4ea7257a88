// SPDX-License-Identifier: Apache-2.0
/*
 * See copy.h: an instruction of the guest's encoded anew, with REX, VEX or EVEX, ModRM and SIB for
 * the registers and the memory operand that the host has for it (SDM 2, chapter 2).
 */
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/translator/copy.h"
#include "vmm/engine/soft/translator/copy_list.h"

#define PREFIX_LOCK    0xf0
#define PREFIX_OPERAND 0x66
#define PREFIX_GS      0x65

/* An encoding before it is written. */
struct encoding {
    const struct emit_memory *memory; /* or NULL: a register in `rm` */
    uint8_t map;                      /* 0: one-byte opcodes; 1: 0F, 2: 0F38, 3: 0F3A */
    uint8_t opcode;
    bool modrm;
    bool plus;       /* the register is in the opcode */
    uint8_t reg, rm; /* of EVEX five bits each, else four; `rm` is also that of `plus` */
    bool wide;       /* REX.W, VEX.W */
    bool rex;        /* needs the prefix: SPL, BPL, SIL, DIL */
    bool high;       /* has no place for one: AH, CH, DH, BH */
    bool exchanged;  /* those are in AL, CL, DL, BL */
    /* Legacy: prefixes. */
    bool lock;
    uint8_t mandatory; /* F2 or F3, or 0 */
    bool operand;      /* 66 */
    /* VEX, EVEX. */
    bool vex, evex;
    uint8_t vvvv, pp, l;
    uint8_t aaa;
    bool z, b;
    /* Bytes after the displacement. */
    uint8_t immediate[8], immediate_size;
};

/* ---- taking the guest's encoding apart ---- */

static bool legacy_map(ZydisOpcodeMap opcode_map, uint8_t *map)
{
    switch (opcode_map) {
    case ZYDIS_OPCODE_MAP_DEFAULT:
        *map = 0;
        return true;
    case ZYDIS_OPCODE_MAP_0F:
        *map = 1;
        return true;
    case ZYDIS_OPCODE_MAP_0F38:
        *map = 2;
        return true;
    case ZYDIS_OPCODE_MAP_0F3A:
        *map = 3;
        return true;
    default:
        return false;
    }
}

static void take_prefixes(const ZydisDecodedInstruction *instruction, uint16_t traits,
                          struct encoding *encoding)
{
    encoding->lock = instruction->attributes & ZYDIS_ATTRIB_HAS_LOCK;
    encoding->wide = instruction->raw.rex.W;
    /* Whatever the mode's default is, the host's is 32 bits. */
    if (!(traits & (COPY_FIXED | COPY_VECTOR)))
        encoding->operand = instruction->operand_width == 16;
    for (unsigned i = 0; i < instruction->raw.prefix_count; i++) {
        if (instruction->raw.prefixes[i].type != ZYDIS_PREFIX_TYPE_MANDATORY)
            continue;
        if (instruction->raw.prefixes[i].value == PREFIX_OPERAND)
            encoding->operand = true;
        else
            encoding->mandatory = instruction->raw.prefixes[i].value;
    }
}

static void take_vex(const ZydisDecodedInstruction *instruction, struct encoding *encoding)
{
    encoding->vex = true;
    encoding->wide = instruction->raw.vex.W;
    encoding->pp = instruction->raw.vex.pp;
    encoding->l = instruction->raw.vex.L;
}

static void take_evex(const ZydisDecodedInstruction *instruction, struct encoding *encoding)
{
    encoding->evex = true;
    encoding->wide = instruction->raw.evex.W;
    encoding->pp = instruction->raw.evex.pp;
    encoding->l = (uint8_t)(instruction->raw.evex.L2 << 1 | instruction->raw.evex.L);
    encoding->aaa = instruction->raw.evex.aaa;
    encoding->z = instruction->raw.evex.z;
    encoding->b = instruction->raw.evex.b;
}

/* The host's number for a register operand. A byte register may want REX, or forbid it. */
static bool host_register(const ZydisDecodedOperand *operand, const uint8_t map[16],
                          struct encoding *encoding, uint8_t *number)
{
    ZydisRegister reg = operand->reg.value;
    uint8_t offset = soft_register_offset(reg);

    if (offset == SOFT_NO_OFFSET) {
        *number = (uint8_t)ZydisRegisterGetId(reg) & 31;
        return true;
    }
    *number = map[offset / 8];
    if (ZydisRegisterGetClass(reg) != ZYDIS_REGCLASS_GPR8)
        return true;
    if (offset & 1 && encoding->exchanged)
        return *number == offset / 8;
    if (offset & 1) { /* AH is there only where the map leaves RAX alone */
        encoding->high = true;
        if (*number != offset / 8)
            return false;
        *number |= 4;
    } else if (*number >= 4 && *number < 8) {
        encoding->rex = true;
    }
    return true;
}

/* Let one operand take its place in the encoding. False when it has none. */
static bool place_operand(const ZydisDecodedOperand *operand, const uint8_t map[16],
                          struct encoding *encoding)
{
    uint8_t number;

    if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return true;
    if (operand->encoding == ZYDIS_OPERAND_ENCODING_NONE) {
        uint8_t offset = soft_register_offset(operand->reg.value);

        return offset == SOFT_NO_OFFSET || map[offset / 8] == offset / 8;
    }
    if (!host_register(operand, map, encoding, &number))
        return false;
    switch (operand->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        encoding->reg = number;
        return true;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        encoding->plus = true;
        encoding->rm = number;
        return true;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        encoding->rm = number;
        return true;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        encoding->vvvv = number;
        return true;
    case ZYDIS_OPERAND_ENCODING_MASK: /* taken already */
        return true;
    case ZYDIS_OPERAND_ENCODING_IS4:
        encoding->immediate[0] = (uint8_t)(number << 4 | (encoding->immediate[0] & 15));
        return true;
    default:
        return false;
    }
}

static bool take_immediates(const ZydisDecodedInstruction *instruction, const uint8_t *bytes,
                            struct encoding *encoding)
{
    unsigned offset = instruction->raw.imm[0].offset, size = instruction->raw.imm[0].size / 8;

    if (instruction->raw.imm[1].size || size > sizeof(encoding->immediate) ||
        offset + size > instruction->length)
        return false;
    memcpy(encoding->immediate, bytes + offset, size);
    encoding->immediate_size = (uint8_t)size;
    return true;
}

/* One-byte opcodes that mean something else in 64-bit mode, or with another register. */
static void replace_opcode(struct encoding *encoding)
{
    uint8_t opcode = encoding->opcode;

    if (encoding->map || encoding->vex || encoding->evex)
        return;
    if (opcode >= 0x40 && opcode <= 0x4f) { /* INC, DEC: here these are REX */
        encoding->modrm = true;
        encoding->reg = opcode >> 3 & 1;
        encoding->opcode = 0xff;
    } else if (opcode == 0x82) { /* an alias of 80 */
        encoding->opcode = 0x80;
    } else if (opcode >= 0xa0 && opcode <= 0xa3) { /* RAX and an absolute address */
        static const uint8_t moves[4] = {0x8a, 0x8b, 0x88, 0x89};

        encoding->modrm = true;
        encoding->reg = 0;
        encoding->opcode = moves[opcode & 3];
        encoding->immediate_size = 0;
    } else if (encoding->plus && opcode < 0x98) { /* XCHG with RAX: 90 would be NOP */
        encoding->modrm = true;
        encoding->reg = 0;
        encoding->opcode = 0x87;
    }
}

static bool encode(const ZydisDecodedInstruction *instruction, const ZydisDecodedOperand *operands,
                   const uint8_t *bytes, const uint8_t map[16], uint16_t traits,
                   struct encoding *encoding)
{
    bool memory = false;

    if (!legacy_map(instruction->opcode_map, &encoding->map))
        return false;
    encoding->opcode = instruction->opcode;
    encoding->modrm = instruction->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    encoding->reg = instruction->raw.modrm.reg;
    encoding->rm = instruction->raw.modrm.rm;
    if (instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        take_vex(instruction, encoding);
    else if (instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
        take_evex(instruction, encoding);
    else
        take_prefixes(instruction, traits, encoding);
    if (!take_immediates(instruction, bytes, encoding))
        return false;
    for (unsigned i = 0; i < instruction->operand_count; i++) {
        memory |= operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY;
        if (!place_operand(&operands[i], map, encoding))
            return false;
    }
    replace_opcode(encoding);
    /* An address of 32 bits gives a result of 32 bits, zero-extended. */
    if (instruction->mnemonic == ZYDIS_MNEMONIC_LEA && instruction->address_width == 32)
        encoding->wide = false;
    return memory == (encoding->memory != NULL) && (!memory || encoding->modrm);
}

/* ---- writing ---- */

static uint8_t extension_bits(const struct encoding *encoding)
{
    uint8_t bits = (uint8_t)(encoding->wide << 3);

    if (encoding->reg & 8)
        bits |= 4;
    if (encoding->memory)
        bits |= emit_memory_rex(encoding->memory);
    else if (encoding->rm & 8)
        bits |= 1;
    return bits;
}

static void write_vex(struct emitter *emitter, const struct encoding *encoding, uint8_t bits)
{
    uint8_t last = (uint8_t)((~encoding->vvvv & 15) << 3 | encoding->l << 2 | encoding->pp);

    if (encoding->map == 1 && !(bits & 11)) {
        emit_byte(emitter, 0xc5);
        emit_byte(emitter, (uint8_t)((bits & 4 ? 0 : 0x80) | last));
        return;
    }
    emit_byte(emitter, 0xc4);
    emit_byte(emitter, (uint8_t)((~bits & 7) << 5 | encoding->map));
    emit_byte(emitter, (uint8_t)((bits & 8) << 4 | last));
}

static void write_evex(struct emitter *emitter, const struct encoding *encoding, uint8_t bits)
{
    uint8_t vvvv = (uint8_t)~encoding->vvvv, inverted = (uint8_t)~bits;

    if (!encoding->memory && encoding->rm & 16)
        inverted &= (uint8_t)~2;
    emit_byte(emitter, 0x62);
    emit_byte(emitter, (uint8_t)((inverted & 7) << 5 | !(encoding->reg & 16) << 4 | encoding->map));
    emit_byte(emitter, (uint8_t)(encoding->wide << 7 | (vvvv & 15) << 3 | 4 | encoding->pp));
    emit_byte(emitter, (uint8_t)(encoding->z << 7 | encoding->l << 5 | encoding->b << 4 |
                                 (vvvv & 16) >> 1 | encoding->aaa));
}

static void write_legacy(struct emitter *emitter, const struct encoding *encoding, uint8_t bits)
{
    if (encoding->lock)
        emit_byte(emitter, PREFIX_LOCK);
    if (encoding->operand)
        emit_byte(emitter, PREFIX_OPERAND);
    if (encoding->mandatory)
        emit_byte(emitter, encoding->mandatory);
    if (bits || encoding->rex)
        emit_byte(emitter, 0x40 | bits);
    if (encoding->map)
        emit_byte(emitter, 0x0f);
    if (encoding->map > 1)
        emit_byte(emitter, encoding->map == 2 ? 0x38 : 0x3a);
}

static bool write_encoding(struct emitter *emitter, const struct encoding *encoding)
{
    uint8_t bits = extension_bits(encoding), opcode = encoding->opcode;

    if (encoding->high && (bits || encoding->rex))
        return false;
    if (encoding->memory && encoding->memory->gs)
        emit_byte(emitter, PREFIX_GS);
    if (encoding->vex)
        write_vex(emitter, encoding, bits);
    else if (encoding->evex)
        write_evex(emitter, encoding, bits);
    else
        write_legacy(emitter, encoding, bits);
    if (!encoding->modrm && encoding->plus)
        opcode = (uint8_t)((opcode & ~7) | (encoding->rm & 7));
    emit_byte(emitter, opcode);
    if (encoding->memory)
        emit_modrm(emitter, encoding->reg, encoding->memory, !encoding->evex);
    else if (encoding->modrm)
        emit_byte(emitter, (uint8_t)(0xc0 | (encoding->reg & 7) << 3 | (encoding->rm & 7)));
    emit_bytes(emitter, encoding->immediate, encoding->immediate_size);
    return true;
}

static bool copy(struct emitter *emitter, const ZydisDecodedInstruction *instruction,
                 const ZydisDecodedOperand *operands, const uint8_t *bytes, const uint8_t map[16],
                 struct encoding *encoding)
{
    uint16_t traits = copy_list_find(instruction->mnemonic);

    if (!traits || copy_loads_control(instruction->mnemonic))
        return false;
    if (traits & COPY_NOTHING)
        return true;
    return encode(instruction, operands, bytes, map, traits, encoding) &&
           write_encoding(emitter, encoding);
}

bool copy_emit(struct emitter *emitter, const ZydisDecodedInstruction *instruction,
               const ZydisDecodedOperand *operands, const uint8_t *bytes, const uint8_t map[16],
               const struct emit_memory *memory)
{
    struct encoding encoding = {.memory = memory};

    return copy(emitter, instruction, operands, bytes, map, &encoding);
}

bool copy_emit_exchanged(struct emitter *emitter, const ZydisDecodedInstruction *instruction,
                         const ZydisDecodedOperand *operands, const uint8_t *bytes,
                         const uint8_t map[16], const struct emit_memory *memory)
{
    struct encoding encoding = {.memory = memory, .exchanged = true};

    return copy(emitter, instruction, operands, bytes, map, &encoding);
}

uint8_t copy_high_register(const ZydisDecodedInstruction *instruction,
                           const ZydisDecodedOperand *operands)
{
    uint8_t high = EMIT_NONE;
    uint16_t others = 0;
    bool memory = false;

    for (unsigned i = 0; i < instruction->operand_count; i++) {
        uint8_t offset = SOFT_NO_OFFSET;

        memory |= operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY;
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            offset = soft_register_offset(operands[i].reg.value);
        if (offset == SOFT_NO_OFFSET)
            continue;
        if (offset & 1)
            high = offset / 8;
        else
            others |= (uint16_t)(1U << offset / 8);
    }
    return memory && high != EMIT_NONE && !(others >> high & 1) ? high : EMIT_NONE;
}
