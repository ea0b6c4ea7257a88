// SPDX-License-Identifier: Apache-2.0
/*
 * XSAVE's area with the components of AVX-512 (SDM 1, 13.4 and 13.5): where they lie in each form,
 * which are written and marked, and what modes without 64-bit code reach.
 */
#include "tests/unit/soft_fixture.h"
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/vector.h"

#define AREA       0x10000
#define HEADER     (AREA + 512)
#define ALL        0xe7UL
#define COMPACTED  (1UL << 63)
#define XSAVE_RSI  "\x0f\xae\x26"
#define XSAVEC_RSI "\x0f\xc7\x26"
#define XRSTOR_RSI "\x0f\xae\x2e"

static int execute(struct fixture *f, const char *bytes)
{
    static struct insn insn;
    uint8_t padded[16] = {0};

    memcpy(padded, bytes, 3);
    assert_int_equal(soft_decode(&f->model, f->cpu->code_size, padded, 15, &insn), SOFT_DECODE_OK);
    f->cpu->next_rip = f->cpu->rip + 3;
    f->cpu->insn = &insn;
    return RAISED(f, insn.exec(f->cpu, &insn));
}

/* 64-bit code in ring 0 with XCR0 as wide as can be; no register is in its initial state. */
static void set_up(struct fixture *f)
{
    fixture_init(f);
    memset(f->model.words, 0xff, sizeof(f->model.words));
    f->model.xcr0_mask = ALL;
    poke64(f, 0x1000, 0x2000 | 3);
    poke64(f, 0x2000, 0x3000 | 3);
    poke64(f, 0x3000, 0x83);
    f->cpu->cr0 = CR0_PE | CR0_MP | CR0_NE | CR0_PG;
    f->cpu->cr3 = 0x1000;
    f->cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    f->cpu->msrs.efer = EFER_LME | EFER_LMA;
    f->cpu->xcr0 = ALL;
    f->cpu->seg[SEG_CS].attributes = SEGMENT_P | SEGMENT_S | SEGMENT_L | 11;
    f->cpu->mxcsr = MXCSR_DEFAULT;
    f->cpu->gpr[GPR_RSI] = AREA;
    f->cpu->gpr[GPR_RAX] = ALL;
    f->cpu->gpr[GPR_RDX] = 0;
    soft_x87_reset(f->cpu, false);
    soft_update_mode(f->cpu);
    memset(f->ram + AREA, 0xee, 4096);
    memset(f->ram + HEADER, 0, 64);
    for (unsigned i = 0; i < 32; i++)
        for (unsigned word = 0; word < 8; word++)
            f->cpu->vector[i].u64[word] = 0x1000 + i * 8 + word;
    for (unsigned i = 0; i < 8; i++)
        f->cpu->opmask[i] = 0x2000 + i;
    f->cpu->avx512_used = true;
}

/* What the registers of set_up look like in memory. */
static void assert_components(struct fixture *f, uint64_t opmask, uint64_t high, uint64_t upper)
{
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(peek64(f, AREA + opmask + i * 8), 0x2000 + i);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned word = 0; word < 4; word++)
            assert_int_equal(peek64(f, AREA + high + i * 32 + word * 8), 0x1000 + i * 8 + 4 + word);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned word = 0; word < 8; word++)
            assert_int_equal(peek64(f, AREA + upper + i * 64 + word * 8),
                             0x1000 + (16 + i) * 8 + word);
}

static void the_standard_form_is_where_the_model_says(void **state)
{
    struct fixture f;

    set_up(&f);
    assert_int_equal(execute(&f, XSAVE_RSI), -1);
    assert_components(&f, 1088, 1152, 1664);
    assert_int_equal(peek64(&f, HEADER) & ~1UL, ALL & ~1UL);
    assert_int_equal(peek64(&f, HEADER + 8), 0);
    assert_int_equal(peek64(&f, AREA + 832), 0xeeeeeeeeeeeeeeee);
    fixture_place(&f.model, 5, 832, 64); /* as AMD's processors have it */
    fixture_place(&f.model, 6, 896, 512);
    fixture_place(&f.model, 7, 1408, 1024);
    assert_int_equal(execute(&f, XSAVE_RSI), -1);
    assert_components(&f, 832, 896, 1408);
    fixture_finish(&f);
}

static void the_compacted_form_leaves_no_gaps(void **state)
{
    struct fixture f;

    set_up(&f);
    assert_int_equal(execute(&f, XSAVEC_RSI), -1);
    assert_components(&f, 832, 896, 1408);
    assert_int_equal(peek64(&f, HEADER + 8), COMPACTED | ALL);
    f.cpu->gpr[GPR_RAX] = 0xe0;
    assert_int_equal(execute(&f, XSAVEC_RSI), -1);
    assert_components(&f, 576, 640, 1152);
    assert_int_equal(peek64(&f, HEADER), 0xe0);
    assert_int_equal(peek64(&f, HEADER + 8), COMPACTED | 0xe0);
    fixture_finish(&f);
}

static void components_in_their_initial_state_are_not_marked(void **state)
{
    struct fixture f;

    set_up(&f);
    memset(f.cpu->opmask, 0, sizeof(f.cpu->opmask));
    memset(&f.cpu->vector[16], 0, 16 * 64);
    assert_int_equal(execute(&f, XSAVEC_RSI), -1);
    assert_int_equal(peek64(&f, HEADER) & 0xe0, 0x40);
    assert_true(f.cpu->avx512_used);
    for (unsigned i = 0; i < 16; i++)
        memset(f.cpu->vector[i].u8 + 32, 0, 32);
    assert_int_equal(execute(&f, XSAVEC_RSI), -1);
    assert_int_equal(peek64(&f, HEADER) & 0xe0, 0);
    assert_false(f.cpu->avx512_used);
    fixture_finish(&f);
}

static void xrstor_brings_back_what_was_saved_in_either_form(void **state)
{
    static const char *const forms[] = {XSAVE_RSI, XSAVEC_RSI};
    struct fixture f;

    for (unsigned i = 0; i < 2; i++) {
        union soft_vector vector[32];
        uint64_t opmask[8];

        set_up(&f);
        memcpy(vector, f.cpu->vector, sizeof(vector));
        memcpy(opmask, f.cpu->opmask, sizeof(opmask));
        assert_int_equal(execute(&f, forms[i]), -1);
        memset(f.cpu->vector, 0x55, sizeof(vector));
        memset(f.cpu->opmask, 0x55, sizeof(opmask));
        f.cpu->avx512_used = false;
        assert_int_equal(execute(&f, XRSTOR_RSI), -1);
        assert_memory_equal(f.cpu->vector, vector, sizeof(vector));
        assert_memory_equal(f.cpu->opmask, opmask, sizeof(opmask));
        assert_true(f.cpu->avx512_used);
        poke64(&f, HEADER, 0);
        assert_int_equal(execute(&f, XRSTOR_RSI), -1);
        for (unsigned n = 0; n < 32; n++)
            for (unsigned word = 0; word < 8; word++)
                assert_int_equal(f.cpu->vector[n].u64[word], 0);
        for (unsigned n = 0; n < 8; n++)
            assert_int_equal(f.cpu->opmask[n], 0);
        fixture_finish(&f);
    }
}

static void xrstor_reads_what_it_wants_of_an_area_with_more(void **state)
{
    struct fixture f;

    set_up(&f);
    assert_int_equal(execute(&f, XSAVEC_RSI), -1);
    memset(f.cpu->vector, 0x55, sizeof(f.cpu->vector));
    memset(f.cpu->opmask, 0x55, sizeof(f.cpu->opmask));
    f.cpu->gpr[GPR_RAX] = 0x80;
    assert_int_equal(execute(&f, XRSTOR_RSI), -1);
    assert_int_equal(f.cpu->vector[20].u64[3], 0x1000 + 20 * 8 + 3);
    assert_int_equal(f.cpu->vector[2].u64[5], 0x5555555555555555);
    assert_int_equal(f.cpu->opmask[1], 0x5555555555555555);
    fixture_finish(&f);
}

static void code_of_32_bits_reaches_eight_registers(void **state)
{
    struct fixture f;

    set_up(&f);
    f.cpu->seg[SEG_CS].attributes = SEGMENT_P | SEGMENT_S | SEGMENT_DB | SEGMENT_G | 11;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        f.cpu->seg[i].limit = ~0U;
    f.cpu->seg[SEG_DS].attributes = SEGMENT_P | SEGMENT_S | SEGMENT_DB | SEGMENT_G | 3;
    soft_update_mode(f.cpu);
    assert_int_equal(f.cpu->code_size, 4);
    assert_int_equal(execute(&f, XSAVE_RSI), -1);
    assert_int_equal(peek64(&f, AREA + 1088 + 7 * 8), 0x2007);
    assert_int_equal(peek64(&f, AREA + 1152 + 7 * 32), 0x1000 + 7 * 8 + 4);
    assert_int_equal(peek64(&f, AREA + 1152 + 8 * 32), 0xeeeeeeeeeeeeeeee);
    assert_int_equal(peek64(&f, AREA + 1664), 0xeeeeeeeeeeeeeeee);
    poke64(&f, HEADER, 0);
    assert_int_equal(execute(&f, XRSTOR_RSI), -1);
    assert_int_equal(f.cpu->vector[7].u64[4], 0);
    assert_int_equal(f.cpu->vector[8].u64[4], 0x1000 + 8 * 8 + 4);
    assert_int_equal(f.cpu->vector[16].u64[0], 0x1000 + 16 * 8);
    fixture_finish(&f);
}

static void xcr0_takes_the_three_components_together_and_with_avx(void **state)
{
    static const uint64_t refused[] = {0x27, 0x47, 0x87, 0x67, 0xc7, 0xa7, 0xe3, 0xe1, 0xe5, 0xe6};
    struct fixture f;

    set_up(&f);
    for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_int_equal(RAISED(&f, soft_write_xcr0(f.cpu, refused[i])), EXC_GP);
    assert_int_equal(RAISED(&f, soft_write_xcr0(f.cpu, 7)), -1);
    assert_int_equal(RAISED(&f, soft_write_xcr0(f.cpu, ALL)), -1);
    f.model.xcr0_mask = 7;
    assert_int_equal(RAISED(&f, soft_write_xcr0(f.cpu, ALL)), EXC_GP);
    fixture_finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standard_form_is_where_the_model_says),
        cmocka_unit_test(the_compacted_form_leaves_no_gaps),
        cmocka_unit_test(components_in_their_initial_state_are_not_marked),
        cmocka_unit_test(xrstor_brings_back_what_was_saved_in_either_form),
        cmocka_unit_test(xrstor_reads_what_it_wants_of_an_area_with_more),
        cmocka_unit_test(code_of_32_bits_reaches_eight_registers),
        cmocka_unit_test(xcr0_takes_the_three_components_together_and_with_avx),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
