// SPDX-License-Identifier: Apache-2.0
/*
 * Units of one instruction of any form, after moves that give the registers that it reads the
 * values of a case of the differential test: so that its addresses mostly hit something.
 */
#include <string.h>

#include "tests/lockstep/lockstep.h"

static int gpr_number(ZydisRegister reg)
{
    ZydisRegister wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

    return ZydisRegisterGetClass(wide) == ZYDIS_REGCLASS_GPR64 ? ZydisRegisterGetId(wide) : -1;
}

static unsigned register_bit(ZydisRegister reg)
{
    int number = gpr_number(reg);

    return number < 0 ? 0 : 1U << number;
}

/* General registers that the instruction reads: those of addresses, and others. */
static void registers_read(const struct diff_case *test, unsigned *addresses, unsigned *others)
{
    *addresses = *others = 0;
    for (unsigned i = 0; i < test->instruction.operand_count; i++) {
        const ZydisDecodedOperand *operand = &test->operands[i];

        if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
            *addresses |= register_bit(operand->mem.base) | register_bit(operand->mem.index);
        else if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER &&
                 (operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ))
            *others |= register_bit(operand->reg.value);
    }
    *others &= ~*addresses;
}

/* Where memory operands go instead: another page of the window, or another alias of it. Only base
 * registers that point at the data are moved. */
static uint64_t redirect(struct generator *generator, uint64_t value, bool wide, bool wild)
{
    struct diff_random *random = &generator->random;

    if (value < DIFF_WINDOW - 0x1000 || value > DIFF_DATA_END + 0x1000)
        return value;
    if (random_below(random, 8) == 0)
        value += (PAGE_ALIAS - 2 + random_below(random, ALIAS_PAGES)) * 4096UL;
    else if (wild && random_below(random, 32) == 0)
        value += (PAGE_CODE - 2 + random_below(random, 2)) * 4096UL;
    return wide ? unit_alias(generator, value) : value;
}

static void load_registers(struct generator *generator, struct unit *unit,
                           const struct diff_case *test)
{
    struct diff_random *random = &generator->random;
    const struct program *program = generator->program;
    bool wide = program->code_size == 8 && test->instruction.address_width == 64;
    bool wild = program->ring == 3;
    unsigned addresses, others;

    registers_read(test, &addresses, &others);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t value = test->state.gpr[i];

        if (!((addresses | others) >> i & 1))
            continue;
        if (i == GPR_RSP && random_below(random, 4))
            continue;
        if (random_below(random, 16) < (addresses >> i & 1 ? 1 : 8))
            continue;
        if (addresses >> i & 1)
            value = redirect(generator, value, wide, wild);
        unit_load(unit, program->code_size, i, value);
    }
}

static void put_instruction(struct generator *generator, struct unit *unit,
                            const struct diff_case *test)
{
    unsigned start = unit->length;

    if (random_below(&generator->random, 16) == 0) {
        UNIT_PUT(unit, random_below(&generator->random, 2) ? 0x64 : 0x65); /* FS, GS */
        start++;
    }
    unit_put(unit, test->bytes, test->instruction.length);
    for (unsigned i = 0; i < test->instruction.operand_count; i++) {
        const ZydisDecodedOperand *operand = &test->operands[i];

        if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY && operand->mem.base == ZYDIS_REGISTER_RIP &&
            unit->fixup_count < UNIT_FIXUPS) {
            struct fixup *fixup = &unit->fixups[unit->fixup_count++];

            fixup->kind = FIXUP_LINEAR32;
            fixup->offset = (uint8_t)(start + test->instruction.raw.disp.offset);
            fixup->end = unit->length;
            fixup->linear = redirect(generator,
                                     DIFF_CODE_ENTRY + test->instruction.length +
                                         (uint64_t)test->instruction.raw.disp.value,
                                     false, generator->program->ring == 3);
            return;
        }
    }
}

/* Where flags need not be exact, those that an instruction leaves undefined may be anything. That
 * AND, OR, XOR and TEST clear AF is relied on. */
static bool leaves_flags(const struct program *program, const struct diff_case *test)
{
    const ZydisAccessedFlags *flags = test->instruction.cpu_flags;

    return !program->exact && flags && flags->undefined & ~ZYDIS_CPUFLAG_AF;
}

static bool touches_vectors(const struct diff_form *form)
{
    return strstr(form->name, "v128") || strstr(form->name, "v256") || strstr(form->name, "v512") ||
           strstr(form->name, "k64") || strstr(form->name, "mm") || strstr(form->name, "st80") ||
           strchr(form->name, 'f') == form->name;
}

/* Half of all forms are of vectors; programs are not. */
static const struct diff_form *choose_form(struct generator *generator)
{
    struct diff_random *random = &generator->random;
    const struct diff_forms *forms = generator->forms;
    const struct diff_form *form;

    if (random_below(random, 64) == 0)
        do
            form = &g_array_index(forms->invalid, struct diff_form,
                                  random_below(random, forms->invalid->len));
        while (form->code_size != generator->program->code_size);
    else
        do
            form = &g_array_index(forms->valid, struct diff_form,
                                  random_below(random, forms->valid->len));
        while (form->code_size != generator->program->code_size ||
               (touches_vectors(form) && random_below(random, 4)));
    return form;
}

static bool is_pop_flags(const struct diff_case *test)
{
    return test->instruction.mnemonic == ZYDIS_MNEMONIC_POPF ||
           test->instruction.mnemonic == ZYDIS_MNEMONIC_POPFD ||
           test->instruction.mnemonic == ZYDIS_MNEMONIC_POPFQ;
}

static bool is_repeated(const struct diff_case *test)
{
    return test->instruction.attributes &
           (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

void unit_form(struct generator *generator, struct unit *unit)
{
    struct diff_case test;

    do
        test.form = choose_form(generator);
    while (!case_build(test.form, &generator->random, &test) || test.branches ||
           (generator->program->large && is_repeated(&test)) ||
           (generator->program->waits && is_pop_flags(&test)) ||
           (!generator->program->steady && leaves_flags(generator->program, &test)));
    if (test.form->invalid) {
        unit_put(unit, test.bytes, 15);
        return;
    }
    load_registers(generator, unit, &test);
    put_instruction(generator, unit, &test);
    if (leaves_flags(generator->program, &test)) /* let nobody look at them: cmp al, imm8 */
        UNIT_PUT(unit, 0x3c, (uint8_t)random_bits(&generator->random));
}
