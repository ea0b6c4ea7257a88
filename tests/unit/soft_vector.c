// SPDX-License-Identifier: Apache-2.0
/*
 * The vector group of the software CPU at rest: its table of host stubs, and the x87 state in its
 * canonical form. What instructions compute is the business of tests/diff.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/engine/soft/vector.h"

/* Register numbers of a stub's operands: reg 0, vvvv 1, rm 2. */
static bool register_fits(const ZydisDecodedOperand *operand, unsigned reg, unsigned rm)
{
    unsigned number = (unsigned)ZydisRegisterGetId(operand->reg.value);

    switch (operand->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        return number == reg;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        return number == rm;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        return number == 1;
    default:
        return true;
    }
}

static void check_stub(const ZydisDecoder *decoder, const uint8_t *stub, unsigned opcode)
{
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    bool to_half;

    assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, stub, 16, &instruction, operands)));
    assert_int_equal(instruction.opcode, opcode);
    assert_int_equal(stub[instruction.length], 0xc3);
    assert_true(instruction.length < 8);
    to_half = instruction.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH;
    for (unsigned i = 0; i < instruction.operand_count_visible; i++) {
        assert_int_not_equal(operands[i].type, ZYDIS_OPERAND_TYPE_MEMORY);
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            assert_true(register_fits(&operands[i], to_half ? 2 : 0, to_half ? 0 : 2));
    }
}

static void every_stub_is_its_instruction_and_a_return(void **state)
{
    ZydisDecoder decoder;
    unsigned count = 0;

    soft_vector_init();
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (const struct vector_entry *entry = vector_entries; entry < vector_entries_end; entry++) {
        unsigned key = entry->key & 0xffffff, opcode = key & 0xff;
        unsigned set = key / (3 * 4 * 256), map = key / (4 * 256) % 3, prefix = key / 256 % 4;

        check_stub(&decoder, vector_entry_stub(entry, 0), opcode);
        check_stub(&decoder, vector_entry_stub(entry, 255), opcode);
        assert_ptr_equal(vector_find_entry(set, prefix, map, opcode), entry);
        count++;
    }
    assert_true(count > 700);
}

static void a_stub_applies_its_immediate(void **state)
{
    const struct vector_entry *shuffle = vector_find_entry(0, 1, 0, 0x70); /* PSHUFD */
    uint32_t in[4] = {10, 11, 12, 13}, out[4] = {0};

    assert_non_null(shuffle);
    vector_run_128(out, out, in, vector_entry_stub(shuffle, 0x1b));
    assert_int_equal(out[0], 13);
    assert_int_equal(out[3], 10);
}

static void an_unmasked_exception_comes_back_with_its_flags(void **state)
{
    const struct vector_entry *divide = vector_find_entry(0, 2, 0, 0x5e); /* DIVSS */
    float one[4] = {1}, zero[4] = {0};
    uint32_t mxcsr = MXCSR_DEFAULT & ~(1U << 9);

    soft_vector_catch(); /* cmocka has taken it */
    assert_non_null(divide);
    assert_false(vector_run_128_fp(one, one, zero, vector_entry_stub(divide, 0), &mxcsr));
    assert_int_equal(mxcsr, (MXCSR_DEFAULT & ~(1U << 9)) | 4);
    assert_true(one[0] == 1);
    mxcsr = MXCSR_DEFAULT;
    assert_true(vector_run_128_fp(one, one, zero, vector_entry_stub(divide, 0), &mxcsr));
    assert_int_equal(mxcsr, MXCSR_DEFAULT | 4);
    assert_true(one[0] > 3e38f);
}

static void x87_state_survives_its_canonical_form(void **state)
{
    static struct soft_cpu cpu;
    struct cpu_x87 in = {.control = 0x37f, .status = 5 << 11, .tag = 0xe0, .opcode = 0x1d9}, out;

    for (unsigned i = 0; i < 8; i++)
        memset(in.registers[i], 0x11 * (int)i, 10);
    soft_x87_set(&cpu, &in);
    assert_int_equal(cpu.x87.st[0][0], 0x55);
    assert_int_equal(cpu.x87.st[3][9], 0x00);
    memset(&out, 0xff, sizeof(out));
    soft_x87_get(&cpu, &out);
    assert_memory_equal(in.registers, out.registers, sizeof(in.registers));
    assert_int_equal(out.status, in.status);
    assert_int_equal(out.tag, in.tag);
}

static void loaded_x87_state_is_made_possible(void **state)
{
    static struct soft_cpu cpu;
    struct cpu_x87 in = {.control = 0xff3e, .status = 1, .opcode = 0xffff};

    soft_x87_set(&cpu, &in);
    assert_int_equal(cpu.x87.fcw, 0x1f7e);
    assert_int_equal(cpu.x87.fsw, 0x8081);
    assert_int_equal(cpu.x87.fop, 0x7ff);
}

static void an_mmx_write_turns_the_stack(void **state)
{
    static struct soft_cpu cpu;
    uint64_t value = 0x1122334455667788;
    struct cpu_x87 out;

    cpu.x87.fsw = 3 << 11;
    soft_mmx_enter(&cpu);
    soft_mmx_write(&cpu, 2, &value);
    soft_x87_get(&cpu, &out);
    assert_int_equal(out.status, 0);
    assert_int_equal(out.tag, 0xff);
    assert_memory_equal(out.registers[2], &value, 8);
    assert_int_equal(out.registers[2][9], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_stub_is_its_instruction_and_a_return),
        cmocka_unit_test(a_stub_applies_its_immediate),
        cmocka_unit_test(an_unmasked_exception_comes_back_with_its_flags),
        cmocka_unit_test(x87_state_survives_its_canonical_form),
        cmocka_unit_test(loaded_x87_state_is_made_possible),
        cmocka_unit_test(an_mmx_write_turns_the_stack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
