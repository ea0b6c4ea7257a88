// SPDX-License-Identifier: Apache-2.0
/*
 * See emit.h. Encodings: SDM 2, 2.1.5 (ModRM and SIB), 2.2.1 (REX).
 */
#include "vmm/engine/soft/translator/emit.h"

#define REX   0x40
#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

#define RM_SIB  4 /* in ModRM.rm: a SIB byte follows; in SIB.index: none */
#define RM_NONE 5 /* in SIB.base with mod 0: none */

void emit_relocation(struct emitter *emitter, enum relocation_kind kind, const uint8_t *at)
{
    uintptr_t place;

    if (!kind || !emitter->relocations || emitter->full)
        return;
    place = (uintptr_t)(at - emitter->piece);
    if (emitter->relocation_count == emitter->relocation_max || place > RELOCATION_PLACE_MAX) {
        emitter->full = true;
        return;
    }
    emitter->relocations[emitter->relocation_count++] =
        (struct relocation){.place = place, .kind = kind, .cold = emitter->cold};
}

uint8_t emit_memory_rex(const struct emit_memory *memory)
{
    uint8_t rex = 0;

    if (memory->index != EMIT_NONE && memory->index & 8)
        rex |= REX_X;
    if (memory->base != EMIT_NONE && memory->base & 8)
        rex |= REX_B;
    return rex;
}

static void emit_displacement(struct emitter *emitter, const struct emit_memory *memory)
{
    emit_relocation(emitter, memory->relocate, emitter->at);
    emit_u32(emitter, (uint32_t)memory->displacement);
}

void emit_modrm(struct emitter *emitter, uint8_t reg, const struct emit_memory *memory,
                bool short_displacement)
{
    int32_t displacement = memory->displacement;
    bool indexed = memory->index != EMIT_NONE;
    uint8_t mod, base = memory->base & 7, index = indexed ? memory->index & 7 : RM_SIB;

    reg = (uint8_t)((reg & 7) << 3);
    if (memory->base == EMIT_NONE) {
        emit_byte(emitter, reg | RM_SIB);
        emit_byte(emitter, (uint8_t)(memory->scale << 6 | index << 3 | RM_NONE));
        emit_displacement(emitter, memory);
        return;
    }
    if (memory->relocate)
        mod = 2;
    else if (displacement == 0 && base != RM_NONE)
        mod = 0;
    else if (displacement == 0 || (short_displacement && displacement == (int8_t)displacement))
        mod = 1;
    else
        mod = 2;
    if (indexed || base == RM_SIB) {
        emit_byte(emitter, (uint8_t)(mod << 6 | reg | RM_SIB));
        emit_byte(emitter, (uint8_t)(memory->scale << 6 | index << 3 | base));
    } else {
        emit_byte(emitter, (uint8_t)(mod << 6 | reg | base));
    }
    if (mod == 1)
        emit_byte(emitter, (uint8_t)displacement);
    else if (mod == 2)
        emit_displacement(emitter, memory);
}

static void emit_opcode(struct emitter *emitter, uint8_t rex, uint16_t opcode)
{
    if (rex)
        emit_byte(emitter, REX | rex);
    if (opcode >> 8)
        emit_byte(emitter, (uint8_t)(opcode >> 8));
    emit_byte(emitter, (uint8_t)opcode);
}

void emit_op_memory(struct emitter *emitter, uint8_t prefix, uint16_t opcode, bool wide,
                    uint8_t reg, const struct emit_memory *memory)
{
    uint8_t rex = emit_memory_rex(memory);

    if (memory->gs)
        emit_byte(emitter, 0x65);
    if (prefix)
        emit_byte(emitter, prefix);
    if (wide)
        rex |= REX_W;
    if (reg & 8)
        rex |= REX_R;
    emit_opcode(emitter, rex, opcode);
    emit_modrm(emitter, reg, memory, true);
}

void emit_op_register(struct emitter *emitter, uint16_t opcode, bool wide, uint8_t reg, uint8_t rm)
{
    uint8_t rex = (uint8_t)((wide ? REX_W : 0) | (reg & 8 ? REX_R : 0) | (rm & 8 ? REX_B : 0));

    emit_opcode(emitter, rex, opcode);
    emit_byte(emitter, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

void emit_mov_register(struct emitter *emitter, bool wide, uint8_t to, uint8_t from)
{
    emit_op_register(emitter, 0x89, wide, from, to);
}

void emit_mov_immediate(struct emitter *emitter, uint8_t to, uint64_t value)
{
    uint8_t rex = to & 8 ? REX_B : 0;

    if (value <= UINT32_MAX) {
        emit_opcode(emitter, rex, 0xb8 | (to & 7));
        emit_u32(emitter, (uint32_t)value);
    } else if ((int64_t)value == (int32_t)value) {
        emit_opcode(emitter, rex | REX_W, 0xc7);
        emit_byte(emitter, 0xc0 | (to & 7));
        emit_u32(emitter, (uint32_t)value);
    } else {
        emit_opcode(emitter, rex | REX_W, 0xb8 | (to & 7));
        emit_u64(emitter, value);
    }
}

void emit_mov_number(struct emitter *emitter, enum relocation_kind kind, uint8_t to, uint32_t value)
{
    emit_mov_immediate(emitter, to, value);
    emit_relocation(emitter, kind, emitter->at - sizeof(value));
}

void emit_mov_linear(struct emitter *emitter, uint8_t to, uint64_t value, bool cut)
{
    emit_mov_immediate(emitter, to, value);
    if (value <= UINT32_MAX)
        emit_relocation(emitter, cut ? RELOCATION_ADDRESS_CUT : RELOCATION_ADDRESS_UNSIGNED,
                        emitter->at - 4);
    else if ((int64_t)value == (int32_t)value)
        emit_relocation(emitter, RELOCATION_ADDRESS_SIGNED, emitter->at - 4);
    else
        emit_relocation(emitter, RELOCATION_ADDRESS, emitter->at - 8);
}

void emit_load(struct emitter *emitter, bool wide, uint8_t to, const struct emit_memory *from)
{
    emit_op_memory(emitter, 0, 0x8b, wide, to, from);
}

void emit_store(struct emitter *emitter, bool wide, const struct emit_memory *to, uint8_t from)
{
    emit_op_memory(emitter, 0, 0x89, wide, from, to);
}

void emit_lea(struct emitter *emitter, bool wide, uint8_t to, const struct emit_memory *memory)
{
    emit_op_memory(emitter, 0, 0x8d, wide, to, memory);
}

void emit_alu_immediate(struct emitter *emitter, uint8_t operation, bool wide, uint8_t reg,
                        int32_t value)
{
    bool small = value == (int8_t)value;

    emit_op_register(emitter, small ? 0x83 : 0x81, wide, operation, reg);
    if (small)
        emit_byte(emitter, (uint8_t)value);
    else
        emit_u32(emitter, (uint32_t)value);
}

void emit_alu_memory_immediate(struct emitter *emitter, uint8_t operation, bool wide,
                               const struct emit_memory *memory, int32_t value)
{
    bool small = value == (int8_t)value;

    emit_op_memory(emitter, 0, small ? 0x83 : 0x81, wide, operation, memory);
    if (small)
        emit_byte(emitter, (uint8_t)value);
    else
        emit_u32(emitter, (uint32_t)value);
}

void emit_shift(struct emitter *emitter, uint8_t operation, bool wide, uint8_t reg, uint8_t count)
{
    emit_op_register(emitter, 0xc1, wide, operation, reg);
    emit_byte(emitter, count);
}

/* ---- jumps ---- */

void emit_patch(uint8_t *place, const uint8_t *target)
{
    int32_t distance = (int32_t)(target - (place + 4));

    memcpy(place, &distance, sizeof(distance));
}

static uint8_t *emit_distance(struct emitter *emitter)
{
    emit_relocation(emitter, RELOCATION_DISTANCE, emitter->at);
    emit_u32(emitter, 0);
    return emitter->at - 4;
}

void emit_land(struct emitter *emitter, uint8_t *place)
{
    if (!emitter->full)
        emit_patch(place, emitter->at);
}

uint8_t *emit_jump_forward(struct emitter *emitter)
{
    emit_byte(emitter, 0xe9);
    return emit_distance(emitter);
}

uint8_t *emit_jump_if_forward(struct emitter *emitter, unsigned condition)
{
    emit_byte(emitter, 0x0f);
    emit_byte(emitter, (uint8_t)(0x80 | condition));
    return emit_distance(emitter);
}

static void emit_aim(struct emitter *emitter, uint8_t *place, const uint8_t *target)
{
    if (!emitter->full)
        emit_patch(place, target);
}

void emit_jump(struct emitter *emitter, const uint8_t *target)
{
    emit_aim(emitter, emit_jump_forward(emitter), target);
}

void emit_call(struct emitter *emitter, const uint8_t *target)
{
    emit_byte(emitter, 0xe8);
    emit_aim(emitter, emit_distance(emitter), target);
}

void emit_jump_if(struct emitter *emitter, unsigned condition, const uint8_t *target)
{
    emit_aim(emitter, emit_jump_if_forward(emitter, condition), target);
}
