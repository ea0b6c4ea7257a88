// SPDX-License-Identifier: Apache-2.0
/*
 * Registers of the guest that live in memory and that scratch registers still hold, so that a block
 * need not load them for each instruction. Memory always has them too: a store follows each change.
 *
 * Code that uses a scratch register for itself says so (held_lose), and ways back from C load again
 * what the code behind them counts on (instruction.c, finish_site).
 */
#include "vmm/engine/soft/translator/translation.h"

const uint8_t scratch_registers[SCRATCH_COUNT] = {T0, T2, T1};

void held_reset(struct build *build)
{
    memset(build->held, EMIT_NONE, sizeof(build->held));
}

void held_lose(struct build *build, uint8_t scratch)
{
    for (unsigned i = 0; i < SCRATCH_COUNT; i++)
        if (scratch_registers[i] == scratch)
            build->held[i] = EMIT_NONE;
}

uint8_t held_by(const struct build *build, unsigned gpr)
{
    for (unsigned i = 0; i < SCRATCH_COUNT; i++)
        if (build->held[i] == gpr)
            return scratch_registers[i];
    return EMIT_NONE;
}

bool held_any(const struct build *build, uint8_t scratch)
{
    for (unsigned i = 0; i < SCRATCH_COUNT; i++)
        if (scratch_registers[i] == scratch)
            return build->held[i] != EMIT_NONE;
    return false;
}

void held_set(struct build *build, uint8_t scratch, unsigned gpr)
{
    for (unsigned i = 0; i < SCRATCH_COUNT; i++) {
        if (build->held[i] == gpr)
            build->held[i] = EMIT_NONE;
        if (scratch_registers[i] == scratch)
            build->held[i] = (uint8_t)gpr;
    }
}

uint8_t held_load(struct build *build, unsigned gpr, uint8_t scratch)
{
    struct emit_memory field = BUILD_FIELD(build, gpr[gpr]);
    uint8_t holder;

    if (!(IN_MEMORY >> gpr & 1))
        return host_register(gpr);
    holder = held_by(build, gpr);
    if (holder != EMIT_NONE)
        return holder;
    emit_load(&build->emitter, true, scratch, &field);
    held_set(build, scratch, gpr);
    return scratch;
}

void held_reload(struct build *build, const uint8_t held[SCRATCH_COUNT])
{
    for (unsigned i = 0; i < SCRATCH_COUNT; i++) {
        struct emit_memory field;

        if (held[i] == EMIT_NONE)
            continue;
        field = BUILD_FIELD(build, gpr[held[i]]);
        emit_load(&build->emitter, true, scratch_registers[i], &field);
    }
}
