// SPDX-License-Identifier: Apache-2.0
/*
 * The code between C and translated code, made once for each vCPU since it names the vCPU's fields
 * by their addresses. In translated code RSP is C's stack, aligned as before a call (System V ABI,
 * 3.2.2).
 */
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

static const uint8_t saved[] = {GPR_RBX, GPR_RBP, GPR_R12, GPR_R13, GPR_R14, GPR_R15};

static struct emit_memory field(const struct soft_translator *translator, size_t offset)
{
    return (struct emit_memory){.base = EMIT_NONE,
                                .index = EMIT_NONE,
                                .displacement = (int32_t)((uintptr_t)translator->cpu + offset)};
}

static void move_registers(const struct soft_translator *translator, struct emitter *emitter,
                           bool load)
{
    for (unsigned gpr = 0; gpr < GPR_COUNT; gpr++) {
        struct emit_memory memory = field(translator, offsetof(struct soft_cpu, gpr[gpr]));

        if (IN_MEMORY >> gpr & 1)
            continue;
        if (load)
            emit_load(emitter, true, host_register(gpr), &memory);
        else
            emit_store(emitter, true, &memory, host_register(gpr));
    }
}

static void emit_push(struct emitter *emitter, uint8_t reg)
{
    if (reg & 8)
        emit_byte(emitter, 0x41);
    emit_byte(emitter, 0x50 | (reg & 7));
}

static void emit_pop(struct emitter *emitter, uint8_t reg)
{
    if (reg & 8)
        emit_byte(emitter, 0x41);
    emit_byte(emitter, 0x58 | (reg & 7));
}

static void emit_jump_register(struct emitter *emitter, uint8_t reg)
{
    emit_op_register(emitter, 0xff, false, 4, reg);
}

/* To the code at T0, with the guest's flags and registers in the host's. */
static void emit_go(const struct soft_translator *translator, struct emitter *emitter)
{
    struct emit_memory carrier = field(translator, offsetof(struct soft_cpu, flags_carrier));
    static const uint8_t to_flags[] = {0x04, 0x7f, 0x9e}; /* ADD AL, 7Fh; SAHF */

    emit_op_memory(emitter, 0, 0x0fb7, false, GPR_RAX, &carrier); /* MOVZX */
    emit_bytes(emitter, to_flags, sizeof(to_flags));
    move_registers(translator, emitter, true);
    emit_jump_register(emitter, T0);
}

/* void enter(const uint8_t *code) */
static void emit_enter(const struct soft_translator *translator, struct emitter *emitter)
{
    for (unsigned i = 0; i < sizeof(saved); i++)
        emit_push(emitter, saved[i]);
    emit_alu_immediate(emitter, 5, true, GPR_RSP, 8);
    emit_mov_register(emitter, true, T0, GPR_RDI);
    emit_go(translator, emitter);
}

static void emit_return(struct emitter *emitter)
{
    emit_alu_immediate(emitter, 0, true, GPR_RSP, 8);
    for (unsigned i = sizeof(saved); i-- > 0;)
        emit_pop(emitter, saved[i]);
    emit_byte(emitter, 0xc3);
}

/* The flags to the carrier, by T1. */
static void emit_keep_flags(const struct soft_translator *translator, struct emitter *emitter)
{
    struct emit_memory carrier = field(translator, offsetof(struct soft_cpu, flags_carrier));
    static const uint8_t from_flags[] = {0x9f, 0x0f, 0x90, 0xc0}; /* LAHF; SETO AL */

    emit_mov_register(emitter, true, T1, GPR_RAX);
    emit_bytes(emitter, from_flags, sizeof(from_flags));
    emit_op_memory(emitter, 0x66, 0x89, false, GPR_RAX, &carrier);
    emit_mov_register(emitter, true, GPR_RAX, T1);
}

static void emit_leave(const struct soft_translator *translator, struct emitter *emitter)
{
    struct emit_memory rip = field(translator, offsetof(struct soft_cpu, next_rip));
    struct emit_memory number = field(translator, offsetof(struct soft_cpu, exit));

    move_registers(translator, emitter, false);
    emit_store(emitter, true, &rip, T0);
    emit_store(emitter, false, &number, T2);
    emit_return(emitter);
}

static void emit_interpret(const struct soft_translator *translator, struct emitter *emitter)
{
    uint8_t *over;

    move_registers(translator, emitter, false);
    emit_mov_immediate(emitter, GPR_RDI, (uintptr_t)translator->cpu);
    emit_mov_register(emitter, false, GPR_RSI, T1);
    emit_mov_register(emitter, true, GPR_RDX, T0);
    emit_mov_register(emitter, false, GPR_RCX, T2);
    emit_mov_immediate(emitter, GPR_RAX, (uintptr_t)translator_interpret);
    emit_op_register(emitter, 0xff, false, 2, GPR_RAX);
    emit_op_register(emitter, 0x85, true, GPR_RAX, GPR_RAX);
    over = emit_jump_if_forward(emitter, 4);
    emit_mov_register(emitter, true, T0, GPR_RAX);
    emit_go(translator, emitter);
    emit_land(emitter, over);
    emit_return(emitter);
}

void glue_emit(struct soft_translator *translator)
{
    struct emitter emitter = {.at = translator->cache.write,
                              .end = translator->cache.write + translator->cache.size};

    translator->enter = (void (*)(const uint8_t *))(emitter.at + translator->cache.execute);
    emit_enter(translator, &emitter);
    translator->leave_kept = emitter.at;
    emit_keep_flags(translator, &emitter);
    translator->leave = emitter.at;
    emit_leave(translator, &emitter);
    translator->interpret = emitter.at;
    emit_interpret(translator, &emitter);
    translator->used = translator->empty = emitter.at;
    translator->cold = translator->cold_used = translator->cache.write + translator->cache.size / 2;
}
