// SPDX-License-Identifier: Apache-2.0
/*
 * The vector group of the software CPU: its table of host stubs, the x87 state in its canonical
 * form, and what system software decides about vector and x87 instructions. What they compute is
 * the business of tests/diff.
 */
#include "tests/unit/soft_fixture.h"
#include "vmm/engine/soft/vector.h"

/* Execute an instruction of 64-bit code (or of real mode); gives the vector that it raised, or -1.
 */
static int execute(struct fixture *f, const char *bytes, unsigned size)
{
    static struct insn insn;
    uint8_t padded[16] = {0};

    memcpy(padded, bytes, size);
    assert_int_equal(soft_decode(&f->model, f->cpu->code_size, padded, 15, &insn), SOFT_DECODE_OK);
    assert_int_equal(insn.length, size);
    f->cpu->next_rip = f->cpu->rip + size;
    f->cpu->insn = &insn;
    return RAISED(f, insn.exec(f->cpu, &insn));
}
#define EXECUTE(f, bytes) execute(f, bytes, sizeof(bytes) - 1)

static bool has_avx(const struct fixture *f)
{
    return cpu_has(&f->model, CPU_1_ECX, 28);
}

#define ADDPS       "\x0f\x58\xc1"     /* addps %xmm1, %xmm0 */
#define VADDPS      "\xc5\xf8\x58\xc1" /* vaddps %xmm1, %xmm0, %xmm0 */
#define DIVSS       "\xf3\x0f\x5e\xc1"
#define PADDD_MMX   "\x0f\xfe\xc1"
#define FLD1        "\xd9\xe8"
#define FDIVP       "\xde\xf9"
#define FLDZ        "\xd9\xee"
#define FWAIT       "\x9b"
#define FNSTSW_AX   "\xdf\xe0"
#define FNSTENV_RSI "\xd9\x36"
#define FXSAVE_RSI  "\x0f\xae\x06"
#define FXRSTOR_RSI "\x0f\xae\x0e"
#define XSAVE_RSI   "\x0f\xae\x26"
#define XSAVEC_RSI  "\x0f\xc7\x26"
#define XRSTOR_RSI  "\x0f\xae\x2e"

/* 64-bit code in ring 0 with all that this group has, memory identity-mapped by one large page. */
static void set_up(struct fixture *f)
{
    fixture_init(f);
    cpu_host_words(f->model.words);
    f->model.words[CPU_1_ECX] |= 1U << 26; /* these run on no instruction of the host */
    f->model.words[CPU_D_1_EAX] |= 7;
    poke64(f, 0x1000, 0x2000 | 3);
    poke64(f, 0x2000, 0x3000 | 3);
    poke64(f, 0x3000, 0x83);
    f->cpu->cr0 = CR0_PE | CR0_MP | CR0_NE | CR0_PG;
    f->cpu->cr3 = 0x1000;
    f->cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    f->cpu->msrs.efer = EFER_LME | EFER_LMA;
    f->cpu->xcr0 = 7;
    f->cpu->seg[SEG_CS].attributes = SEGMENT_P | SEGMENT_S | SEGMENT_L | 11;
    f->cpu->mxcsr = MXCSR_DEFAULT;
    f->cpu->gpr[GPR_RSI] = 0x10000;
    soft_x87_reset(f->cpu, false);
    soft_update_mode(f->cpu);
}

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

static void task_switched_means_no_vector_instruction(void **state)
{
    struct fixture f;

    set_up(&f);
    f.cpu->cr0 |= CR0_TS;
    assert_int_equal(EXECUTE(&f, ADDPS), EXC_NM);
    assert_int_equal(EXECUTE(&f, VADDPS), has_avx(&f) ? EXC_NM : EXC_UD);
    assert_int_equal(EXECUTE(&f, PADDD_MMX), EXC_NM);
    assert_int_equal(EXECUTE(&f, FLD1), EXC_NM);
    assert_int_equal(EXECUTE(&f, FNSTSW_AX), EXC_NM);
    assert_int_equal(EXECUTE(&f, FXSAVE_RSI), EXC_NM);
    assert_int_equal(EXECUTE(&f, XSAVE_RSI), EXC_NM);
    assert_int_equal(EXECUTE(&f, FWAIT), EXC_NM);
    f.cpu->cr0 &= ~CR0_MP;
    assert_int_equal(EXECUTE(&f, FWAIT), -1);
    fixture_finish(&f);
}

static void emulation_means_no_mmx_and_no_sse(void **state)
{
    struct fixture f;

    set_up(&f);
    f.cpu->cr0 |= CR0_EM | CR0_TS;
    assert_int_equal(EXECUTE(&f, ADDPS), EXC_UD);
    assert_int_equal(EXECUTE(&f, PADDD_MMX), EXC_UD);
    assert_int_equal(EXECUTE(&f, FLD1), EXC_NM);
    f.cpu->cr0 &= ~CR0_TS;
    assert_int_equal(EXECUTE(&f, VADDPS), has_avx(&f) ? -1 : EXC_UD); /* VEX ignores EM */
    fixture_finish(&f);
}

static void what_the_system_has_not_enabled_is_undefined(void **state)
{
    struct fixture f;

    set_up(&f);
    f.cpu->cr4 &= ~CR4_OSFXSR;
    assert_int_equal(EXECUTE(&f, ADDPS), EXC_UD);
    assert_int_equal(EXECUTE(&f, PADDD_MMX), -1);
    assert_int_equal(EXECUTE(&f, VADDPS), has_avx(&f) ? -1 : EXC_UD);
    f.cpu->xcr0 = 3;
    assert_int_equal(EXECUTE(&f, VADDPS), EXC_UD);
    f.cpu->xcr0 = 7;
    f.cpu->cr4 &= ~CR4_OSXSAVE;
    assert_int_equal(EXECUTE(&f, VADDPS), EXC_UD);
    assert_int_equal(EXECUTE(&f, XSAVE_RSI), EXC_UD);
    fixture_finish(&f);
}

static void a_simd_exception_is_undefined_where_the_system_knows_none(void **state)
{
    struct fixture f;

    soft_vector_catch();
    set_up(&f);
    f.cpu->mxcsr = MXCSR_DEFAULT & ~(1U << 7); /* 0 / 0 */
    f.cpu->rip = 0x1234;
    assert_int_equal(EXECUTE(&f, DIVSS), EXC_XM);
    assert_int_equal(f.cpu->mxcsr & 0x3f, 1);
    f.cpu->cr4 &= ~CR4_OSXMMEXCPT;
    assert_int_equal(EXECUTE(&f, DIVSS), EXC_UD);
    fixture_finish(&f);
}

/* Leaves an unmasked division by zero pending. */
static void divide_by_zero(struct fixture *f)
{
    f->cpu->x87.fcw = 0x37b;
    assert_int_equal(EXECUTE(f, FLD1), -1);
    assert_int_equal(EXECUTE(f, FLDZ), -1);
    assert_int_equal(EXECUTE(f, FDIVP), -1);
    assert_true(f->cpu->x87.fsw & FSW_ES);
}

static void an_x87_exception_waits_for_the_next_instruction(void **state)
{
    struct fixture f;

    set_up(&f);
    f.cpu->rip = 0x1234;
    divide_by_zero(&f);
    assert_int_equal(f.cpu->x87.fip, 0x1234);
    assert_int_equal(f.cpu->x87.fop, 0x6f9);
    assert_int_equal(EXECUTE(&f, FNSTSW_AX), -1);
    assert_int_equal(f.cpu->gpr[GPR_RAX] & 0x8084, 0x8084);
    assert_int_equal(EXECUTE(&f, FLD1), EXC_MF);
    assert_int_equal(EXECUTE(&f, FWAIT), EXC_MF);
    assert_int_equal(EXECUTE(&f, PADDD_MMX), EXC_MF);
    assert_int_equal(EXECUTE(&f, ADDPS), -1);
    fixture_finish(&f);
}

static void without_numeric_error_a_pending_exception_stays_silent(void **state)
{
    struct fixture f;

    set_up(&f);
    divide_by_zero(&f);
    f.cpu->cr0 &= ~CR0_NE;
    assert_int_equal(EXECUTE(&f, FLD1), -1);
    assert_int_equal(f.cpu->x87.st[0][9], 0x3f);
    assert_int_equal(f.cpu->x87.fsw & 0x8084, 0x8084);
    fixture_finish(&f);
}

static void the_environment_has_another_form_in_real_mode(void **state)
{
    struct fixture f;

    set_up(&f);
    f.cpu->x87.fop = 0x6f9;
    f.cpu->x87.fip = 0x12345;
    f.cpu->x87.fdp = 0x54321;
    f.cpu->x87_cs = 0x10;
    assert_int_equal(EXECUTE(&f, FNSTENV_RSI), -1);
    assert_int_equal(peek32(&f, 0x10000), 0xffff037f);
    assert_int_equal(peek32(&f, 0x1000c), 0x12345);
    assert_int_equal(peek32(&f, 0x10010), 0x06f90010);
    f.cpu->cr0 = CR0_NE;
    f.cpu->msrs.efer = 0;
    f.cpu->seg[SEG_CS].attributes = SEGMENT_P | SEGMENT_S | 11;
    f.cpu->seg[SEG_DS] =
        (struct cpu_segment){.attributes = SEGMENT_P | SEGMENT_S | 3, .limit = 0xffff};
    f.cpu->gpr[GPR_RSI] = 0x8000;
    soft_update_mode(f.cpu);
    soft_tlb_flush(f.cpu, true);
    assert_int_equal(execute(&f, "\xd9\x34", 2), -1); /* fnstenv (%si) */
    assert_int_equal(peek16(&f, 0x8000), 0x037f);
    assert_int_equal(peek16(&f, 0x8006), 0x2445);
    assert_int_equal(peek16(&f, 0x8008), 0x16f9);
    assert_int_equal(peek16(&f, 0x800a), 0x4321);
    assert_int_equal(peek16(&f, 0x800c), 0x5000);
    fixture_finish(&f);
}

static void fxrstor_refuses_reserved_bits_of_mxcsr(void **state)
{
    struct fixture f;

    set_up(&f);
    f.cpu->vector[3].u64[0] = 77;
    assert_int_equal(EXECUTE(&f, FXSAVE_RSI), -1);
    assert_int_equal(peek64(&f, 0x10000 + 160 + 48), 77);
    f.cpu->vector[3].u64[0] = 0;
    poke32(&f, 0x10000 + 24, 1U << 31);
    assert_int_equal(EXECUTE(&f, FXRSTOR_RSI), EXC_GP);
    assert_int_equal(f.cpu->vector[3].u64[0], 0);
    poke32(&f, 0x10000 + 24, MXCSR_DEFAULT);
    assert_int_equal(EXECUTE(&f, FXRSTOR_RSI), -1);
    assert_int_equal(f.cpu->vector[3].u64[0], 77);
    f.cpu->gpr[GPR_RSI] += 8;
    assert_int_equal(EXECUTE(&f, FXRSTOR_RSI), EXC_GP);
    fixture_finish(&f);
}

static void xsave_writes_what_is_asked_for_and_marks_what_is_used(void **state)
{
    struct fixture f;

    set_up(&f);
    memset(f.ram + 0x10000, 0xee, 1024);
    poke64(&f, 0x10000 + 512, 0);
    f.cpu->vector[1].u64[2] = 5; /* upper half of YMM1 */
    f.cpu->gpr[GPR_RAX] = 6;
    f.cpu->gpr[GPR_RDX] = 0;
    assert_int_equal(EXECUTE(&f, XSAVE_RSI), -1);
    assert_int_equal(peek16(&f, 0x10000), 0xeeee); /* x87 was not asked for */
    assert_int_equal(peek64(&f, 0x10000 + 160), 0);
    assert_int_equal(peek64(&f, 0x10000 + 576 + 16), 5);
    assert_int_equal(peek64(&f, 0x10000 + 512), 4);
    fixture_finish(&f);
}

static void xrstor_brings_back_the_compacted_form_and_initial_states(void **state)
{
    struct fixture f;

    set_up(&f);
    memset(f.ram + 0x10000, 0, 1024);
    f.cpu->vector[1].u64[2] = 5;
    f.cpu->gpr[GPR_RAX] = 7;
    f.cpu->gpr[GPR_RDX] = 0;
    assert_int_equal(EXECUTE(&f, XSAVEC_RSI), -1);
    assert_int_equal(peek64(&f, 0x10000 + 512), 4);
    assert_int_equal(peek64(&f, 0x10000 + 520), 1UL << 63 | 7);
    memset(f.cpu->vector, 0xcc, sizeof(f.cpu->vector));
    f.cpu->x87.fcw = 0x7f;
    f.cpu->mxcsr = 0x1fbf;
    assert_int_equal(EXECUTE(&f, XRSTOR_RSI), -1);
    assert_int_equal(f.cpu->vector[1].u64[2], 5);
    assert_int_equal(f.cpu->vector[1].u64[0], 0);
    assert_int_equal(f.cpu->x87.fcw, 0x37f);
    assert_int_equal(f.cpu->mxcsr, MXCSR_DEFAULT);
    poke64(&f, 0x10000 + 528, 1); /* reserved bytes of the header */
    assert_int_equal(EXECUTE(&f, XRSTOR_RSI), EXC_GP);
    poke64(&f, 0x10000 + 528, 0);
    poke64(&f, 0x10000 + 512, 8); /* a component that XCR0 does not have */
    assert_int_equal(EXECUTE(&f, XRSTOR_RSI), EXC_GP);
    fixture_finish(&f);
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
        cmocka_unit_test(task_switched_means_no_vector_instruction),
        cmocka_unit_test(emulation_means_no_mmx_and_no_sse),
        cmocka_unit_test(what_the_system_has_not_enabled_is_undefined),
        cmocka_unit_test(a_simd_exception_is_undefined_where_the_system_knows_none),
        cmocka_unit_test(an_x87_exception_waits_for_the_next_instruction),
        cmocka_unit_test(without_numeric_error_a_pending_exception_stays_silent),
        cmocka_unit_test(the_environment_has_another_form_in_real_mode),
        cmocka_unit_test(fxrstor_refuses_reserved_bits_of_mxcsr),
        cmocka_unit_test(xsave_writes_what_is_asked_for_and_marks_what_is_used),
        cmocka_unit_test(xrstor_brings_back_the_compacted_form_and_initial_states),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
