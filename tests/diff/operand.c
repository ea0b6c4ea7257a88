// SPDX-License-Identifier: Apache-2.0
/*
 * Making a case: random registers, an encoding of the form with random operands, and addresses that
 * mostly hit the data pages, their edges, or what is not mapped.
 */
#include <string.h>

#include "tests/diff/diff.h"

#define ATTEMPTS 24

/* ---- encodings ---- */

/* EVEX with random registers; its first byte and R, X, B are those of `extension`. The mask is any
 * but k0 where the form has one. */
static unsigned encode_evex(const struct diff_form *form, struct diff_random *random, bool plain,
                            unsigned extension, uint8_t *out)
{
    uint64_t bits = random_bits(random);
    uint8_t vvvv = form->vvvv && !plain ? bits & 15 : form->vvvv;
    uint8_t aaa = form->aaa && !plain ? (uint8_t)(1 + random_below(random, 7)) : form->aaa;
    /* V' and R': vector registers 16 to 31. */
    bool upper = !plain && form->vvvv && bits >> 8 & 1, upper_reg = !plain && bits >> 9 & 1;

    out[0] = 0x62;
    out[1] = (uint8_t)((~extension & 7) << 5 | !upper_reg << 4 | form->map);
    out[2] = (uint8_t)(form->w << 7 | (~vvvv & 15) << 3 | 4 | form->pp);
    out[3] = (uint8_t)(form->z << 7 | form->l << 5 | form->b << 4 | !upper << 3 | aaa);
    return 4;
}

/* Bytes of the form with random registers, SIB, displacement and immediates. `plain` keeps the
 * ModRM and VEX fields of the form. */
static void encode(const struct diff_form *form, struct diff_random *random, bool plain,
                   uint8_t out[16])
{
    uint64_t bits = random_bits(random);
    unsigned length = 0, extension = plain ? 0 : bits & 7;
    uint8_t modrm = form->modrm;
    static const uint8_t segments[] = {0x2e, 0x36, 0x3e, 0x26};

    if (form->code_size < 8)
        extension &= form->vex || form->evex; /* VEX.B alone, which is ignored there */
    if (random_below(random, 16) == 0)
        out[length++] = 0x67;
    if (random_below(random, 32) == 0)
        out[length++] = segments[random_below(random, 4)];
    memcpy(out + length, form->prefixes, form->prefix_count);
    length += form->prefix_count;
    if (!plain) {
        modrm = (uint8_t)((modrm & 0xc0) | (bits >> 8 & 0x3f));
        if ((modrm & 0xc0) != 0xc0)
            modrm = (uint8_t)((modrm & 0x3f) | (bits >> 16 & 0x1ff) % 3 << 6);
        if (random_below(random, 2))
            modrm = (uint8_t)((modrm & ~0x38) | (form->modrm & 0x38));
    }
    if (form->evex) {
        length += encode_evex(form, random, plain, extension, out + length);
    } else if (form->vex) {
        uint8_t vvvv = form->vvvv ? (uint8_t)(bits >> 32 & 15) : 0;

        out[length++] = 0xc4;
        out[length++] = (uint8_t)((~extension & 7) << 5 | form->map);
        out[length++] = (uint8_t)(form->w << 7 | (~vvvv & 15) << 3 | form->l << 2 | form->pp);
    } else {
        if (form->w || extension)
            out[length++] = (uint8_t)(0x40 | form->w << 3 | extension);
        if (form->map)
            out[length++] = 0x0f;
        if (form->map > 1)
            out[length++] = form->map == 2 ? 0x38 : 0x3a;
    }
    out[length++] = form->opcode;
    out[length++] = modrm;
    for (; length < 16; length++)
        out[length] = (uint8_t)random_bits(random);
}

static bool find_encoding(const struct diff_form *form, struct diff_random *random,
                          struct diff_case *out)
{
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        encode(form, random, i >= ATTEMPTS - 8, out->bytes);
        if (form->invalid) {
            if (!form_decode(form->code_size, out->bytes, &out->instruction, out->operands))
                return true;
            continue;
        }
        if (form_decode(form->code_size, out->bytes, &out->instruction, out->operands) &&
            form_key(form->code_size, &out->instruction, out->operands) == form->key)
            return true;
    }
    return false;
}

/* ---- registers ---- */

static void randomize_x87(struct diff_random *random, uint8_t *fxsave)
{
    uint16_t control = 0x37f, status = (uint16_t)(random_below(random, 8) << 11);
    uint8_t tags = (uint8_t)random_bits(random);

    if (random_below(random, 2))
        control = (uint16_t)((random_bits(random) & 0xf00) | 0x7f);
    if (random_below(random, 8) == 0)
        control = (uint16_t)((random_bits(random) & 0x1f3f) | 0x40);
    if (random_below(random, 2))
        status |= (uint16_t)(random_bits(random) & 0x4700);
    if (random_below(random, 4) == 0)
        status |= (uint16_t)(random_bits(random) & 0x7f);
    if (random_below(random, 4)) /* mostly no pending exception */
        status &= (uint16_t) ~(~control & 0x3f);
    if (status & ~control & 0x3f)
        status |= 0x8080;
    if (random_below(random, 2))
        tags = 0xff;
    memcpy(fxsave, &control, 2);
    memcpy(fxsave + 2, &status, 2);
    fxsave[4] = tags;
    for (unsigned i = 0; i < 8; i++)
        random_x87(random, fxsave + 32 + i * 16);
}

/* Masks with few bits, with many, and with all. */
static void randomize_avx512(struct diff_random *random, struct diff_state *state)
{
    for (unsigned i = 0; i < 16; i++) {
        random_vector(random, state->zmm_high[i]);
        random_vector(random, state->zmm_upper[i]);
        random_vector(random, state->zmm_upper[i] + 32);
    }
    for (unsigned i = 0; i < 8; i++)
        switch (random_below(random, 6)) {
        case 0:
            state->opmask[i] = ~0UL;
            break;
        case 1:
            state->opmask[i] = 0;
            break;
        case 2:
            state->opmask[i] = random_bits(random) & random_bits(random) & random_bits(random);
            break;
        case 3:
            state->opmask[i] = ~(random_bits(random) & random_bits(random) & random_bits(random));
            break;
        case 4:
            state->opmask[i] = (1UL << random_below(random, 64)) - 1;
            break;
        default:
            state->opmask[i] = random_bits(random);
            break;
        }
}

static void randomize_state(struct diff_random *random, uint64_t base, struct diff_state *state)
{
    uint32_t mxcsr = 0x1f80, mask = 0xffff;
    uint8_t vector[32];

    memset(state, 0, sizeof(*state));
    for (unsigned i = 0; i < 16; i++)
        state->gpr[i] = random_integer(random);
    state->gpr[4] = DIFF_DATA - base + 0x400 + random_below(random, 0x180) * 8;
    state->gpr[5] = DIFF_DATA - base + 0x400 + random_below(random, 0x180) * 8;
    state->rip = DIFF_CODE_ENTRY - base;
    state->rflags = 0x202 | (random_bits(random) & 0x8d5);
    if (random_below(random, 4) == 0)
        state->rflags |= 0x400;
    randomize_x87(random, state->fxsave);
    if (random_below(random, 2))
        mxcsr = 0x1f80 | (uint32_t)(random_bits(random) & 0xe07f);
    if (random_below(random, 4) == 0)
        mxcsr = (uint32_t)random_bits(random) & 0xffff;
    memcpy(state->fxsave + 24, &mxcsr, 4);
    memcpy(state->fxsave + 28, &mask, 4);
    for (unsigned i = 0; i < 16; i++) {
        random_vector(random, vector);
        memcpy(state->fxsave + 160 + i * 16, vector, 16);
        memcpy(state->ymm_high[i], vector + 16, 16);
    }
    if (form_avx512())
        randomize_avx512(random, state);
}

/* ---- addresses ---- */

/* Where an access of `size` bytes goes. */
static uint64_t random_target(struct diff_random *random, unsigned size)
{
    unsigned span = size ? size : 1;
    uint64_t inside = DIFF_DATA + random_below(random, DIFF_DATA_SIZE - (span & 0xfff));

    switch (random_below(random, 24)) {
    case 0: /* about the end */
        return DIFF_DATA_END - random_below(random, span + 1);
    case 1:
        return DIFF_READ_ONLY + random_below(random, 0x1000 - (span & 0xfff)) / 16 * 16;
    case 2: /* half read-only */
        return DIFF_DATA - random_below(random, span + 1);
    case 3: /* about the begin */
        return DIFF_READ_ONLY - random_below(random, span + 1);
    case 4: /* not canonical */
        return random_bits(random) | 1UL << 62;
    case 5: /* across the middle */
        return DIFF_DATA + 0x1000 - random_below(random, span + 1);
    case 6:
    case 7:
    case 8:
    case 9:
        return inside;
    default:
        return inside & ~63UL;
    }
}

static int gpr_number(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR64:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR16:
        return ZydisRegisterGetId(reg);
    default:
        return -1;
    }
}

static void patch_displacement(struct diff_case *test, int64_t value)
{
    memcpy(test->bytes + test->instruction.raw.disp.offset, &value,
           test->instruction.raw.disp.size / 8);
}

/* Make the operand's address be `target`, by its base, its displacement, or its index. */
static void aim(struct diff_case *test, struct diff_random *random,
                const ZydisDecodedOperand *operand, uint64_t target)
{
    uint64_t *gpr = test->state.gpr;
    int base = gpr_number(operand->mem.base), index = gpr_number(operand->mem.index);
    uint64_t offset = (uint64_t)operand->mem.disp.value;

    if (operand->mem.base == ZYDIS_REGISTER_RIP || operand->mem.base == ZYDIS_REGISTER_EIP) {
        if (target >> 31 == 0)
            patch_displacement(test,
                               (int64_t)(target - DIFF_CODE_ENTRY - test->instruction.length));
        return;
    }
    if (base >= 0 && index >= 0 && base != index) {
        if (random_below(random, 2))
            gpr[index] = (uint64_t)random_below(random, 512) - 256;
        gpr[base] = target - offset - gpr[index] * operand->mem.scale;
    } else if (base >= 0 && index < 0) {
        gpr[base] = target - offset;
    } else if (index >= 0) {
        unsigned factor = operand->mem.scale + (base >= 0);

        gpr[index] = (uint64_t)random_below(random, 0x1000);
        if (test->instruction.raw.disp.size == 32 && target >> 31 == 0)
            patch_displacement(test, (int64_t)(target - gpr[index] * factor));
    } else if (test->instruction.raw.disp.size == 32 && target >> 31 == 0) {
        patch_displacement(test, (int64_t)target);
    }
    if (test->instruction.address_width == 32 && base >= 0 && random_below(random, 2))
        gpr[base] = (gpr[base] & 0xffffffff) | random_bits(random) << 32;
    if (test->instruction.address_width == 16 && base >= 0 && random_below(random, 2))
        gpr[base] = (gpr[base] & 0xffff) | random_bits(random) << 16;
}

/* Eight bytes of a vector register. */
static uint8_t *vector_part(struct diff_state *state, unsigned reg, unsigned part)
{
    if (reg >= 16)
        return state->zmm_upper[reg & 15] + part * 8;
    if (part < 2)
        return state->fxsave + 160 + reg * 16 + part * 8;
    return part < 4 ? state->ymm_high[reg] + (part - 2) * 8 : state->zmm_high[reg] + (part - 4) * 8;
}

/* Gathers and scatters: small offsets in every index. */
static void aim_indices(struct diff_case *test, struct diff_random *random,
                        const ZydisDecodedOperand *operand)
{
    unsigned reg = (unsigned)ZydisRegisterGetId(operand->mem.index) & 31;
    bool wide = random_below(random, 2);

    for (unsigned i = 0; i < (test->form->evex ? 8 : 4); i++) {
        uint64_t low = random_below(random, 0x100) - 0x80UL;
        uint64_t value =
            wide ? low : (low & 0xffffffff) | (uint64_t)(random_below(random, 0x200) << 4) << 32;

        memcpy(vector_part(&test->state, reg, i), &value, 8);
    }
    if (gpr_number(operand->mem.base) >= 0)
        test->state.gpr[gpr_number(operand->mem.base)] =
            random_target(random, 64) - form_base(test->form) - (uint64_t)operand->mem.disp.value;
}

static void aim_operands(struct diff_case *test, struct diff_random *random)
{
    for (unsigned i = 0; i < test->instruction.operand_count; i++) {
        const ZydisDecodedOperand *operand = &test->operands[i];
        unsigned size = operand->size / 8U;

        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        if (ZydisRegisterGetClass(operand->mem.index) >= ZYDIS_REGCLASS_XMM)
            aim_indices(test, random, operand);
        else
            aim(test, random, operand,
                random_target(random, size < 0x300 ? size : 0x300) - form_base(test->form));
    }
}

/* ---- instructions whose registers have a meaning ---- */

static uint64_t *visible_gpr(struct diff_case *test, unsigned operand)
{
    const ZydisDecodedOperand *reg = &test->operands[operand];
    ZydisRegister wide =
        ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg->reg.value);

    return &test->state.gpr[ZydisRegisterGetId(wide) & 15];
}

static void adjust(struct diff_case *test, struct diff_random *random)
{
    struct diff_state *state = &test->state;
    uint64_t header[8] = {random_below(random, 8)};

    switch (test->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        if (test->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            test->operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER && random_below(random, 4))
            *visible_gpr(test, 1) = random_below(random, 1024) - 512UL;
        break;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        if (random_below(random, 4))
            state->gpr[2] = random_below(random, 2) ? 0 : (uint64_t)((int64_t)state->gpr[0] >> 63);
        break;
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_CMPXCHG:
        if (random_below(random, 2)) { /* equal to all of memory */
            memset(test->data, (int)random_below(random, 256), sizeof(test->data));
            memset(&state->gpr[0], test->data[0], 8);
            memset(&state->gpr[2], test->data[0], 8);
        }
        break;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        state->gpr[0] = random_below(random, 8); /* components that both have */
        state->gpr[2] = 0;
        if (random_below(random, 3) == 0)
            header[1] = 1UL << 63 | 7;
        if (form_avx512() && random_below(random, 2)) {
            state->gpr[0] |= random_below(random, 8) << 5;
            header[0] |= random_below(random, 8) << 5;
            if (header[1])
                header[1] |= random_below(random, 4) ? 0xe0 : random_below(random, 8) << 5;
        }
        if (random_below(random, 8) == 0)
            header[random_below(random, 8)] |= 1UL << random_below(random, 3);
        for (unsigned i = 0; i + 64 <= sizeof(test->data); i += 64) {
            memcpy(test->data + i, header, 64);
            if (random_below(random, 2)) {
                memcpy(test->data + i, state->fxsave, 32);
                header[1] = i == 0 ? header[1] : 0;
            }
        }
        break;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
        for (unsigned i = 8; i < sizeof(test->data) && random_below(random, 256); i += 16)
            memset(test->data + i + 2, 0, 2); /* a possible MXCSR */
        break;
    default:
        break;
    }
    if ((test->instruction.attributes &
         (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) &&
        random_below(random, 8))
        state->gpr[1] = random_below(random, 48);
}

/* XSAVE and its like must not ask for components that only the host has. */
static bool asks_for_more(const struct diff_case *test)
{
    switch (test->instruction.meta.category) {
    case ZYDIS_CATEGORY_XSAVE:
    case ZYDIS_CATEGORY_XSAVEOPT:
        return (test->state.gpr[0] & ~(form_avx512() ? 0xe7UL : 7)) || test->state.gpr[2];
    default:
        return false;
    }
}

static bool is_branch(const ZydisDecodedInstruction *instruction)
{
    return instruction->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
           instruction->meta.category == ZYDIS_CATEGORY_RET;
}

bool case_build(const struct diff_form *form, struct diff_random *random, struct diff_case *out)
{
    out->form = form;
    if (!find_encoding(form, random, out))
        return false;
    randomize_state(random, form_base(form), &out->state);
    random_fill(random, out->data, sizeof(out->data));
    random_fill(random, out->read_only, sizeof(out->read_only));
    if (form->invalid) { /* the decoder left what it had got to */
        out->branches = false;
        memset(&out->instruction, 0, sizeof(out->instruction));
        out->instruction.length = 15;
        return true;
    }
    adjust(out, random);
    aim_operands(out, random);
    if (form->code_size < 8)
        out->state.gpr[4] &= 0xffffffff; /* the way there cuts it */
    if (asks_for_more(out))
        return false;
    out->branches = is_branch(&out->instruction);
    /* The displacement was patched in the bytes only. */
    return form_decode(form->code_size, out->bytes, &out->instruction, out->operands);
}
