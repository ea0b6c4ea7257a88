// SPDX-License-Identifier: Apache-2.0
/*
 * General-purpose instructions of the interpreter: short sequences in all modes, registers, flags
 * and faults compared with what the manual says or with the host's own instruction.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/soft_machine.h"

static struct soft_machine machine;

#define CPU  (machine.cpu)
#define R(n) (machine.cpu->gpr[GPR_##n])
#define RUN(...)                                                \
    do {                                                        \
        static const uint8_t run_code[] = {__VA_ARGS__};        \
        soft_machine_run(&machine, run_code, sizeof(run_code)); \
    } while (0)

static int setup(void **state)
{
    soft_machine_init(&machine);
    return 0;
}

static int teardown(void **state)
{
    soft_machine_finish(&machine);
    return 0;
}

static int reset(void **state)
{
    soft_machine_reset(&machine, 8);
    return 0;
}

static unsigned flags(void)
{
    return CPU->rflags & 0x8d5;
}

static void addition_sets_all_flags(void **state)
{
    R(RAX) = 0x7fffffff;
    R(RCX) = 1;
    RUN(0x01, 0xc8); /* add eax, ecx */
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 0x80000000);
    assert_int_equal(flags(), 0x894); /* OF SF AF PF */
}

static void a_32_bit_result_clears_the_upper_half(void **state)
{
    R(RAX) = 0xffffffffffffffff;
    RUN(0x83, 0xc0, 0x01); /* add eax, 1 */
    assert_int_equal(R(RAX), 0);
    assert_int_equal(flags(), 0x55); /* ZF AF PF CF */
    R(RBX) = 0x1122334455667788;
    soft_machine_reset(&machine, 8);
    R(RBX) = 0x1122334455667788;
    RUN(0x66, 0x83, 0xc3, 0x01, 0x80, 0xc7, 0x01); /* add bx, 1; add bh, 1 */
    assert_int_equal(R(RBX), 0x1122334455667889);
}

static void carry_chains(void **state)
{
    R(RAX) = UINT64_MAX;
    R(RDX) = 5;
    RUN(0x48, 0x83, 0xc0, 0x01, 0x48, 0x83, 0xd2, 0x00, 0x48, 0x19, 0xc9);
    assert_int_equal(R(RAX), 0);
    assert_int_equal(R(RDX), 6);
    assert_int_equal(R(RCX), 0);
}

static void inc_leaves_carry_alone(void **state)
{
    R(RAX) = UINT64_MAX;
    RUN(0xf9, 0x48, 0xff, 0xc0); /* stc; inc rax */
    assert_int_equal(R(RAX), 0);
    assert_int_equal(flags(), 0x55);
}

static void memory_operands_in_every_addressing_form(void **state)
{
    uint32_t value = 0x11223344;

    memory_write(machine.memory, TEST_DATA + 0x28, &value, 4);
    R(RBX) = TEST_DATA;
    R(RSI) = 4;
    R(RAX) = 1;
    RUN(0x03, 0x44, 0xf3, 0x08,                   /* add eax, [rbx+rsi*8+8] */
        0x29, 0x43, 0x28,                         /* sub [rbx+0x28], eax */
        0x8b, 0x0c, 0x25, 0x28, 0x00, 0x02, 0x00, /* mov ecx, [0x20028] */
        0x8b, 0x15, 0x14, 0x00, 0x01, 0x00,       /* mov edx, [rip+0x10014] */
        0x90);
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 0x11223345);
    assert_int_equal(R(RCX), 0xffffffff);
    assert_int_equal(R(RDX), 0xffffffff);
}

static void an_operand_may_cross_pages(void **state)
{
    R(RBX) = TEST_DATA + 0xffe;
    R(RAX) = 0x1122334455667788;
    RUN(0x48, 0x89, 0x03, 0x48, 0x01, 0x03, 0x48, 0x8b, 0x0b, 0xf0, 0x48, 0x01, 0x03);
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RCX), 0x22446688aaccef10);
    assert_int_equal(*(uint16_t *)(machine.ram + TEST_DATA + 0x1004), 0x3366);
}

static void locked_instructions_change_memory(void **state)
{
    R(RBX) = TEST_DATA + 0x100;
    R(RAX) = 5;
    R(RCX) = 7;
    memset(machine.ram + TEST_DATA + 0x100, 0, 8);
    RUN(0xf0, 0x48, 0x0f, 0xc1, 0x03, /* lock xadd [rbx], rax */
        0xf0, 0x48, 0x0f, 0xc1, 0x03, /* again */
        0xf0, 0x48, 0x0f, 0xb1, 0x0b, /* lock cmpxchg [rbx], rcx: 5 == 5 */
        0xf0, 0x48, 0xff, 0x03,       /* lock inc [rbx] */
        0x48, 0x87, 0x13);            /* xchg [rbx], rdx */
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 5);
    assert_int_equal(R(RDX), 8);
    RUN(0xf0, 0x01, 0xc8); /* lock add eax, ecx */
    assert_int_equal(machine.fault, EXC_UD);
}

static void cmpxchg16b_compares_both_halves(void **state)
{
    static const uint64_t before[2] = {1, 2};

    memory_write(machine.memory, TEST_DATA, before, 16);
    R(RDI) = TEST_DATA;
    R(RAX) = 1;
    R(RDX) = 2;
    R(RBX) = 3;
    R(RCX) = 4;
    RUN(0xf0, 0x48, 0x0f, 0xc7, 0x0f);
    assert_int_equal(machine.fault, -1);
    assert_true(CPU->rflags & FLAG_ZF);
    assert_int_equal(*(uint64_t *)(machine.ram + TEST_DATA + 8), 4);
    R(RDI) += 8;
    CPU->next_rip = TEST_CODE;
    RUN(0xf0, 0x48, 0x0f, 0xc7, 0x0f);
    assert_int_equal(machine.fault, EXC_GP);
}

static void division_faults_where_the_quotient_does_not_fit(void **state)
{
    R(RAX) = 100;
    R(RCX) = 7;
    RUN(0x48, 0xf7, 0xf1); /* div rcx */
    assert_int_equal(R(RAX), 14);
    assert_int_equal(R(RDX), 2);
    soft_machine_reset(&machine, 8);
    RUN(0x48, 0xf7, 0xf1);
    assert_int_equal(machine.fault, EXC_DE);
    soft_machine_reset(&machine, 8);
    R(RAX) = 0x80000000;
    R(RDX) = 0xffffffff;
    R(RCX) = 0xffffffff;
    RUN(0xf7, 0xf9); /* idiv ecx: -2^31 / -1 */
    assert_int_equal(machine.fault, EXC_DE);
    soft_machine_reset(&machine, 8);
    R(RAX) = 0xff80;
    R(RCX) = 1;
    RUN(0xf6, 0xf9); /* idiv cl: -128 / 1 */
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 0x0080);
}

static void multiplication_of_all_sizes(void **state)
{
    R(RAX) = 0x1234567890abcdef;
    R(RCX) = 0xfedcba0987654321;
    RUN(0x48, 0xf7, 0xe1);
    assert_int_equal(
        R(RDX), (uint64_t)(((unsigned __int128)0x1234567890abcdef * 0xfedcba0987654321) >> 64));
    R(RAX) = 0xffff;
    CPU->next_rip = TEST_CODE;
    RUN(0xf6, 0xe8); /* imul al: -1 * -1 */
    assert_int_equal(R(RAX), 1);
    assert_int_equal(R(RCX), 0xfedcba0987654321);
    CPU->next_rip = TEST_CODE;
    RUN(0x6b, 0xc1, 0x02); /* imul eax, ecx, 2 */
    assert_int_equal(R(RAX), 0x0eca8642);
    assert_true(CPU->rflags & FLAG_CF);
}

static void shifts_by_zero_keep_flags(void **state)
{
    CPU->rflags |= 0x8d5;
    R(RAX) = 0xff000000f0;
    RUN(0xd3, 0xe0); /* shl eax, cl with CL = 0 */
    assert_int_equal(flags(), 0x8d5);
    assert_int_equal(R(RAX), 0xf0);
    R(RCX) = 4;
    CPU->next_rip = TEST_CODE;
    RUN(0xd2, 0xe0); /* shl al, cl */
    assert_int_equal(R(RAX), 0);
    assert_true(CPU->rflags & FLAG_CF);
    R(RAX) = 0x80;
    CPU->next_rip = TEST_CODE;
    RUN(0xf9, 0xd0, 0xd0); /* stc; rcl al, 1 */
    assert_int_equal(R(RAX), 1);
    assert_true(CPU->rflags & FLAG_CF);
}

static void bit_strings_reach_beyond_the_operand(void **state)
{
    memset(machine.ram + TEST_DATA, 0, 64);
    R(RBX) = TEST_DATA + 32;
    R(RCX) = 100;
    R(RDX) = (uint64_t)-1;
    RUN(0x48, 0x0f, 0xab, 0x0b,        /* bts [rbx], rcx */
        0xf0, 0x48, 0x0f, 0xab, 0x13); /* lock bts [rbx], rdx */
    assert_int_equal(machine.fault, -1);
    assert_int_equal(machine.ram[TEST_DATA + 32 + 12], 0x10);
    assert_int_equal(machine.ram[TEST_DATA + 31], 0x80);
}

static void bmi_and_counts(void **state)
{
    R(RCX) = 0xf0f0;
    R(RDX) = 0xff00;
    RUN(0xc4, 0xe2, 0xf0, 0xf2, 0xc2,  /* andn rax, rcx, rdx */
        0xc4, 0xe2, 0xf3, 0xf5, 0xda,  /* pdep rbx, rcx, rdx */
        0xf3, 0x48, 0x0f, 0xb8, 0xf1,  /* popcnt rsi, rcx */
        0xf3, 0x48, 0x0f, 0xbd, 0xf9,  /* lzcnt rdi, rcx */
        0xf3, 0x4c, 0x0f, 0xbc, 0xc1,  /* tzcnt r8, rcx */
        0xc4, 0x62, 0xe3, 0xf6, 0xca); /* mulx r9, rbx, rdx */
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 0x0f00);
    assert_int_equal(R(RSI), 8);
    assert_int_equal(R(RDI), 48);
    assert_int_equal(R(R8), 4);
    assert_int_equal(R(R9), 0);
}

static void the_model_hides_instructions(void **state)
{
    uint32_t words[CPU_WORDS];

    memcpy(words, machine.model.words, sizeof(words));
    machine.model.words[CPU_80000001_ECX] &= ~(1U << 5);
    machine.model.words[CPU_1_ECX] &= ~(1U << 23);
    R(RCX) = 0x100;
    RUN(0xf3, 0x0f, 0xbd, 0xc1); /* lzcnt reads as bsr */
    assert_int_equal(R(RAX), 8);
    CPU->next_rip = TEST_CODE;
    RUN(0xf3, 0x0f, 0xb8, 0xc1); /* popcnt does not exist */
    assert_int_equal(machine.fault, EXC_UD);
    memcpy(machine.model.words, words, sizeof(words));
}

static void push_and_pop(void **state)
{
    R(RAX) = 0x1234;
    RUN(0x50, 0x6a, 0xff, 0x59, 0x5a, 0x54, 0x5e); /* push rax; push -1; pop rcx, rdx; push rsp.. */
    assert_int_equal(R(RCX), UINT64_MAX);
    assert_int_equal(R(RDX), 0x1234);
    assert_int_equal(R(RSI), TEST_STACK);
    assert_int_equal(R(RSP), TEST_STACK);
    CPU->next_rip = TEST_CODE;
    R(RAX) = 0xabcd;
    RUN(0x50, 0x8f, 0x44, 0x24, 0x08); /* push rax; pop [rsp+8] */
    assert_int_equal(*(uint64_t *)(machine.ram + TEST_STACK + 8), 0xabcd);
}

static void calls_and_returns(void **state)
{
    RUN(0xe8, 0x02, 0x00, 0x00, 0x00, /* call +2 */
        0xeb, 0x04,                   /* jmp +4 */
        0xb0, 0x05,                   /* mov al, 5 */
        0xc3,                         /* ret */
        0xcc, 0xb1, 0x03,             /* mov cl, 3 */
        0xff, 0xc0, 0xe2, 0xfc);      /* inc eax; loop -4 */
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 8);
    assert_int_equal(R(RCX), 0);
}

static void a_branch_to_no_canonical_address_faults(void **state)
{
    R(RAX) = 1UL << 47;
    RUN(0xff, 0xd0); /* call rax */
    assert_int_equal(machine.fault, EXC_GP);
    assert_int_equal(R(RSP), TEST_STACK);
}

static void string_moves_overlap_like_the_processor(void **state)
{
    memcpy(machine.ram + TEST_DATA, "abcdefgh", 8);
    R(RSI) = TEST_DATA;
    R(RDI) = TEST_DATA + 1;
    R(RCX) = 0x1800;
    RUN(0xf3, 0xa4);
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RCX), 0);
    assert_int_equal(R(RDI), TEST_DATA + 0x1801);
    for (unsigned i = 0; i < 0x1801; i++)
        assert_int_equal(machine.ram[TEST_DATA + i], 'a');
}

static void string_moves_go_down_with_df(void **state)
{
    for (unsigned i = 0; i < 16; i++)
        machine.ram[TEST_DATA + i] = (uint8_t)i;
    R(RSI) = TEST_DATA + 7;
    R(RDI) = TEST_DATA + 15;
    R(RCX) = 8;
    RUN(0xfd, 0xf3, 0xa4);
    assert_memory_equal(machine.ram + TEST_DATA + 8, machine.ram + TEST_DATA, 8);
    assert_int_equal(R(RSI), TEST_DATA - 1);
}

static void string_comparisons_stop_at_the_difference(void **state)
{
    memset(machine.ram + TEST_DATA, 'x', 0x4000);
    machine.ram[TEST_DATA + 0x1234] = 'y';
    R(RSI) = TEST_DATA;
    R(RDI) = TEST_DATA + 0x2000;
    R(RCX) = 0x2000;
    RUN(0xf3, 0xa6); /* repe cmpsb */
    assert_int_equal(R(RCX), 0x2000 - 0x1235);
    assert_int_equal(flags() & 0x41, 0);
    CPU->next_rip = TEST_CODE;
    R(RDI) = TEST_DATA;
    R(RAX) = 'y';
    R(RCX) = UINT64_MAX;
    RUN(0xf2, 0xae); /* repne scasb */
    assert_int_equal(R(RDI), TEST_DATA + 0x1235);
    assert_true(CPU->rflags & FLAG_ZF);
}

static void a_fault_in_a_string_keeps_what_is_done(void **state)
{
    soft_machine_reset(&machine, 4);
    CPU->seg[SEG_ES].limit = TEST_DATA + 0x0fff;
    R(RDI) = TEST_DATA + 0x800;
    R(RAX) = 0x55;
    R(RCX) = 0x1000;
    RUN(0xf3, 0xaa); /* rep stosb */
    assert_int_equal(machine.fault, EXC_GP);
    assert_int_equal(R(RCX), 0x800);
    assert_int_equal(R(RDI), TEST_DATA + 0x1000);
    assert_int_equal(machine.ram[TEST_DATA + 0xfff], 0x55);
}

static void real_mode_wraps_and_addresses_by_16_bits(void **state)
{
    soft_machine_reset(&machine, 2);
    CPU->seg[SEG_DS].base = TEST_DATA;
    machine.ram[TEST_DATA + 0x10] = 0x77;
    R(RBX) = 0xfff0;
    R(RSI) = 0x0010;
    RUN(0x8a, 0x40, 0x10,                   /* mov al, [bx+si+0x10] */
        0x66, 0xb9, 0x78, 0x56, 0x34, 0x12, /* mov ecx, 0x12345678 */
        0x66, 0x51, 0x5a, 0x5d);            /* push ecx; pop dx; pop bp */
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 0x77);
    assert_int_equal(R(RCX), 0x12345678);
    assert_int_equal(R(RDX), 0x5678);
    assert_int_equal(R(RBP), 0x1234);
}

static void decimal_adjustment(void **state)
{
    soft_machine_reset(&machine, 4);
    R(RAX) = 0x79;
    R(RBX) = 0x35;
    RUN(0x00, 0xd8, 0x27); /* add al, bl; daa: the manual's example */
    assert_int_equal(R(RAX), 0x14);
    assert_int_equal(flags() & 0x11, 0x11);
    CPU->next_rip = TEST_CODE;
    R(RAX) = 0x35;
    R(RBX) = 0x47;
    RUN(0x28, 0xd8, 0x2f); /* sub al, bl; das */
    assert_int_equal(R(RAX), 0x88);
    assert_int_equal(flags() & 0x11, 0x11);
    CPU->next_rip = TEST_CODE;
    R(RAX) = 0x3f;
    RUN(0xd4, 0x0a, 0xd5, 0x0a); /* aam; aad */
    assert_int_equal(R(RAX), 0x3f);
    CPU->next_rip = TEST_CODE;
    RUN(0xd4, 0x00);
    assert_int_equal(machine.fault, EXC_DE);
}

static void pushad_and_enter(void **state)
{
    soft_machine_reset(&machine, 4);
    R(RAX) = 1;
    R(RDI) = 8;
    R(RBP) = 0x1111;
    RUN(0x60, 0x31, 0xc0, 0x31, 0xff, 0x61); /* pushad; xor; popad */
    assert_int_equal(R(RAX), 1);
    assert_int_equal(R(RDI), 8);
    assert_int_equal(R(RSP), TEST_STACK);
    CPU->next_rip = TEST_CODE;
    RUN(0xc8, 0x20, 0x00, 0x00); /* enter 0x20, 0 */
    assert_int_equal(R(RBP), TEST_STACK - 4);
    assert_int_equal(R(RSP), TEST_STACK - 0x24);
    CPU->next_rip = TEST_CODE;
    RUN(0xc9); /* leave */
    assert_int_equal(R(RBP), 0x1111);
    assert_int_equal(R(RSP), TEST_STACK);
}

static void redundant_prefixes_are_ignored(void **state)
{
    R(RAX) = 1;
    RUN(0x2e, 0x66, 0xf2, 0xf3, 0x48, 0x01, 0xc0, /* add rax, rax with junk */
        0x48, 0x66, 0x01, 0xc0);                  /* REX not last: add ax, ax */
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 4);
}

static void an_instruction_has_at_most_15_bytes(void **state)
{
    RUN(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90);
    assert_int_equal(machine.fault, -1);
    CPU->next_rip = TEST_CODE;
    RUN(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
        0x90);
    assert_int_equal(machine.fault, EXC_GP);
}

static void code_that_rewrites_itself_is_seen(void **state)
{
    R(RBX) = TEST_CODE + 8;
    RUN(0xc6, 0x03, 0x07,                    /* mov byte [rbx], 7 */
        0x90, 0x90, 0x90, 0x90, 0xb0, 0x05); /* mov al, 5: its immediate is rewritten */
    assert_int_equal(R(RAX), 7);
}

static void an_instruction_may_cross_pages(void **state)
{
    static const uint8_t code[] = {0xb8, 0x78, 0x56, 0x34, 0x12}; /* mov eax, 0x12345678 */

    memory_write(machine.memory, TEST_CODE + 0xffd, code, sizeof(code));
    memory_write(machine.memory, TEST_CODE + 0x1002, "\xe9\xfb\xef\xff\xff", 5);
    CPU->next_rip = TEST_CODE + 0xffd;
    RUN(0x90, 0x90);
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RAX), 0x12345678);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(addition_sets_all_flags, reset),
        cmocka_unit_test_setup(a_32_bit_result_clears_the_upper_half, reset),
        cmocka_unit_test_setup(carry_chains, reset),
        cmocka_unit_test_setup(inc_leaves_carry_alone, reset),
        cmocka_unit_test_setup(memory_operands_in_every_addressing_form, reset),
        cmocka_unit_test_setup(an_operand_may_cross_pages, reset),
        cmocka_unit_test_setup(locked_instructions_change_memory, reset),
        cmocka_unit_test_setup(cmpxchg16b_compares_both_halves, reset),
        cmocka_unit_test_setup(division_faults_where_the_quotient_does_not_fit, reset),
        cmocka_unit_test_setup(multiplication_of_all_sizes, reset),
        cmocka_unit_test_setup(shifts_by_zero_keep_flags, reset),
        cmocka_unit_test_setup(bit_strings_reach_beyond_the_operand, reset),
        cmocka_unit_test_setup(bmi_and_counts, reset),
        cmocka_unit_test_setup(the_model_hides_instructions, reset),
        cmocka_unit_test_setup(push_and_pop, reset),
        cmocka_unit_test_setup(calls_and_returns, reset),
        cmocka_unit_test_setup(a_branch_to_no_canonical_address_faults, reset),
        cmocka_unit_test_setup(string_moves_overlap_like_the_processor, reset),
        cmocka_unit_test_setup(string_moves_go_down_with_df, reset),
        cmocka_unit_test_setup(string_comparisons_stop_at_the_difference, reset),
        cmocka_unit_test_setup(a_fault_in_a_string_keeps_what_is_done, reset),
        cmocka_unit_test_setup(real_mode_wraps_and_addresses_by_16_bits, reset),
        cmocka_unit_test_setup(decimal_adjustment, reset),
        cmocka_unit_test_setup(pushad_and_enter, reset),
        cmocka_unit_test_setup(redundant_prefixes_are_ignored, reset),
        cmocka_unit_test_setup(an_instruction_has_at_most_15_bytes, reset),
        cmocka_unit_test_setup(code_that_rewrites_itself_is_seen, reset),
        cmocka_unit_test_setup(an_instruction_may_cross_pages, reset),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
