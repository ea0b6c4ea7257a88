// SPDX-License-Identifier: Apache-2.0
/*
 * Delivery of events through the interrupt table in each mode of the software CPU, IRET from it,
 * and what becomes of a fault on top of another.
 */
#include "tests/unit/soft_tables.h"
#include "vmm/engine/soft/transfer.h"

static uint32_t handler_of(unsigned vector)
{
    return HANDLERS + vector * 16;
}

static void deliver_external(struct fixture *f, uint8_t vector)
{
    soft_deliver(f->cpu, SOFT_EVENT_EXTERNAL, vector, false, 0, f->cpu->rip);
}

/* ---- real mode ---- */

static void real_mode_goes_through_the_vector_table(void **state)
{
    struct fixture *f = *state;

    enter_real(f);
    f->cpu->rflags |= FLAG_IF | FLAG_CF;
    soft_segment_set_real(f->cpu, SEG_CS, 0x123);
    poke32(f, 0x21 * 4, 0xf0001111);
    deliver_external(f, 0x21);
    assert_int_equal(f->cpu->rip, 0x1111);
    assert_int_equal(f->cpu->seg[SEG_CS].base, 0xf0000);
    assert_int_equal(f->cpu->gpr[GPR_RSP], 0x6ffa);
    assert_int_equal(peek16(f, 0x6ffa), 0x5000);
    assert_int_equal(peek16(f, 0x6ffc), 0x123);
    assert_int_equal(peek16(f, 0x6ffe), FLAG_IF | FLAG_CF | FLAG_FIXED);
    assert_int_equal(f->cpu->rflags, FLAG_CF | FLAG_FIXED);

    soft_interrupt_return(f->cpu, 2);
    assert_int_equal(f->cpu->rip, 0x5000);
    assert_int_equal(f->cpu->seg[SEG_CS].base, 0x1230);
    assert_int_equal(f->cpu->rflags, FLAG_IF | FLAG_CF | FLAG_FIXED);
}

static void a_vector_beyond_the_table_is_gp(void **state)
{
    struct fixture *f = *state;

    enter_real(f);
    f->cpu->idtr.limit = 0x21 * 4 + 2;
    assert_int_equal(RAISED(f, deliver_external(f, 0x21)), EXC_GP);
    enter_protected(f, 0);
    f->cpu->idtr.limit = 0x21 * 8 + 6;
    assert_int_equal(RAISED(f, deliver_external(f, 0x21)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, 0x21 * 8 + 2 + 1);
}

/* ---- protected mode ---- */

static void a_fault_at_the_same_privilege_pushes_four_words(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    f->cpu->rflags |= FLAG_IF | FLAG_TF | FLAG_NT;
    soft_deliver(f->cpu, SOFT_EVENT_EXCEPTION, EXC_GP, true, 0x1234, 0x50000);
    assert_int_equal(f->cpu->rip, handler_of(EXC_GP));
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 16);
    assert_int_equal(peek32(f, STACK0 - 16), 0x1234);
    assert_int_equal(peek32(f, STACK0 - 12), 0x50000);
    assert_int_equal(peek32(f, STACK0 - 8), KERNEL_CODE);
    assert_int_equal(peek32(f, STACK0 - 4), FLAG_IF | FLAG_TF | FLAG_NT | FLAG_FIXED);
    assert_int_equal(f->cpu->rflags, FLAG_FIXED);
    assert_int_equal(f->cpu->delivering, -1);
}

static void a_trap_gate_leaves_the_interrupt_flag(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    fill_idt(f, KERNEL_CODE, DESCRIPTOR_TRAP_GATE, 0);
    f->cpu->rflags |= FLAG_IF;
    deliver_external(f, 0x40);
    assert_int_equal(f->cpu->rflags, FLAG_IF | FLAG_FIXED);
}

static void an_inner_privilege_gets_the_stack_of_the_tss(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 3);
    f->cpu->rflags |= FLAG_IF;
    deliver_external(f, 0x40);
    assert_int_equal(f->cpu->cpl, 0);
    assert_int_equal(f->cpu->seg[SEG_CS].selector, KERNEL_CODE);
    assert_int_equal(f->cpu->seg[SEG_SS].selector, KERNEL_DATA);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 20);
    assert_int_equal(peek32(f, STACK0 - 4), USER_DATA);
    assert_int_equal(peek32(f, STACK0 - 8), STACK3);
    assert_int_equal(peek32(f, STACK0 - 16), USER_CODE);
    assert_int_equal(peek64(f, GDT_AT + KERNEL_CODE) >> 40 & 1, 1);

    soft_interrupt_return(f->cpu, 4);
    assert_int_equal(f->cpu->cpl, 3);
    assert_int_equal(f->cpu->rip, 0x50000);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK3);
    assert_int_equal(f->cpu->seg[SEG_SS].selector, USER_DATA);
    assert_int_equal(f->cpu->rflags, FLAG_IF | FLAG_FIXED);
}

static void gates_of_16_bits_push_words(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    for (unsigned i = 0; i < 256; i++)
        poke64(f, IDT_AT + i * 8,
               gate_of(KERNEL_CODE16, 0x1000 + i, DESCRIPTOR_INTERRUPT_GATE16, 0, 0));
    deliver_external(f, 0x40);
    assert_int_equal(f->cpu->rip, 0x1040);
    assert_int_equal(f->cpu->code_size, 2);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 6);
    assert_int_equal(peek16(f, STACK0 - 4), KERNEL_CODE);
}

static void a_software_interrupt_needs_the_gates_privilege(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 3);
    assert_int_equal(RAISED(f, soft_software_interrupt(f->cpu, 0x80, true, 0x50002)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, 0x80 * 8 + 2);
    f->cpu->delivering = -1;
    fill_idt(f, KERNEL_CODE, DESCRIPTOR_TRAP_GATE, 3);
    soft_software_interrupt(f->cpu, 0x80, true, 0x50002);
    assert_int_equal(f->cpu->rip, handler_of(0x80));
    assert_int_equal(peek32(f, STACK0 - 20), 0x50002);
}

/* A gate's or segment's fault, and whether EXT is set in its error code. */
static void bad_gates_and_segments_raise_with_their_selector(void **state)
{
    static const struct {
        uint64_t gate;
        uint16_t stack;
        int vector;
        uint32_t error;
    } cases[] = {
        {0, KERNEL_DATA, EXC_GP, 0x40 * 8 + 2},
        {0x0000ee0000080000 & ~(0x8000UL << 32), KERNEL_DATA, EXC_NP, 0x40 * 8 + 2},
        {0x00008c0000080000, KERNEL_DATA, EXC_GP, 0x40 * 8 + 2}, /* a call gate */
        {0x00008e0000000000, KERNEL_DATA, EXC_GP, 0},
        {0x00008e0000000000 | KERNEL_DATA << 16, KERNEL_DATA, EXC_GP, KERNEL_DATA},
        {0x00008e0000000000 | ABSENT_CODE << 16, KERNEL_DATA, EXC_NP, ABSENT_CODE},
        {0x00008e0000000000 | 0x200 << 16, KERNEL_DATA, EXC_GP, 0x200},
        {0x00008e0000000000 | KERNEL_CODE << 16, 0, EXC_TS, 0},
        {0x00008e0000000000 | KERNEL_CODE << 16, USER_DATA, EXC_TS, USER_DATA & ~3},
        {0x00008e0000000000 | KERNEL_CODE << 16, READ_ONLY, EXC_TS, READ_ONLY},
        {0x00008e0000000000 | KERNEL_CODE << 16, ABSENT_DATA, EXC_SS, ABSENT_DATA},
        {0x00008e0000000000 | KERNEL_CODE << 16, 0x200, EXC_TS, 0x200},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (unsigned external = 0; external < 2; external++) {
            enter_protected(f, 3);
            poke64(f, IDT_AT + 0x40 * 8, cases[i].gate | (external ? 0 : 3UL << 45));
            poke32(f, TSS_AT + 8, cases[i].stack);
            f->cpu->delivering = -1;
            int vector = external ? RAISED(f, deliver_external(f, 0x40))
                                  : RAISED(f, soft_software_interrupt(f->cpu, 0x40, true, 0));

            assert_int_equal(vector, cases[i].vector);
            assert_int_equal(f->cpu->fault.error, cases[i].error | external);
            assert_int_equal(f->cpu->rip, 0x50000);
            assert_int_equal(f->cpu->gpr[GPR_RSP], STACK3);
        }
    }
}

/* ---- virtual-8086 mode ---- */

static void v86_enters_ring_0_with_its_segments_on_the_stack(void **state)
{
    struct fixture *f = *state;

    enter_v86(f);
    f->cpu->rflags |= FLAG_IF;
    deliver_external(f, 0x40);
    assert_int_equal(f->cpu->cpl, 0);
    assert_false(soft_v86(f->cpu));
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 36);
    assert_int_equal(peek32(f, STACK0 - 4), 0x1000 + SEG_GS);
    assert_int_equal(peek32(f, STACK0 - 16), 0x1000 + SEG_ES);
    assert_int_equal(peek32(f, STACK0 - 20), 0x2000);
    assert_int_equal(peek32(f, STACK0 - 24), 0xfff0);
    assert_true(f->cpu->seg[SEG_DS].attributes & SEGMENT_UNUSABLE);
    assert_int_equal(f->cpu->seg[SEG_DS].selector, 0);

    soft_interrupt_return(f->cpu, 4);
    assert_true(soft_v86(f->cpu));
    assert_int_equal(f->cpu->cpl, 3);
    assert_int_equal(f->cpu->rip, 0x1234);
    assert_int_equal(f->cpu->seg[SEG_DS].base, (0x1000 + SEG_DS) << 4);
    assert_int_equal(f->cpu->seg[SEG_SS].base, 0x20000);
    assert_int_equal(f->cpu->gpr[GPR_RSP], 0xfff0);
}

static void v86_asks_iopl_and_the_redirection_bitmap(void **state)
{
    struct fixture *f = *state;

    enter_v86(f);
    fill_idt(f, KERNEL_CODE, DESCRIPTOR_INTERRUPT_GATE, 3);
    assert_int_equal(RAISED(f, soft_software_interrupt(f->cpu, 0x21, true, 0x1236)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, 0);

    /* VME: bit clear, so the program's own table at linear 0; VIF stands in for IF. */
    f->cpu->cr4 |= CR4_VME;
    f->cpu->rflags |= FLAG_VIF | FLAG_IF;
    poke16(f, TSS_AT + 102, 0x88);
    poke32(f, 0x21 * 4, 0x30001111);
    soft_software_interrupt(f->cpu, 0x21, true, 0x1236);
    assert_true(soft_v86(f->cpu));
    assert_int_equal(f->cpu->rip, 0x1111);
    assert_int_equal(f->cpu->seg[SEG_CS].base, 0x30000);
    assert_int_equal(peek16(f, 0x20000 + 0xffee), FLAG_IF | FLAG_IOPL | FLAG_FIXED);
    assert_int_equal(peek16(f, 0x20000 + 0xffea), 0x1236);
    assert_int_equal(f->cpu->rflags & (FLAG_IF | FLAG_VIF), FLAG_IF);

    soft_interrupt_return(f->cpu, 2);
    assert_int_equal(f->cpu->rip, 0x1236);
    assert_int_equal(f->cpu->rflags & (FLAG_IF | FLAG_VIF), FLAG_IF | FLAG_VIF);

    /* Bit set: to the monitor, which needs IOPL 3. */
    f->ram[TSS_AT + 0x88 - 32 + 0x21 / 8] = 1 << (0x21 & 7);
    assert_int_equal(RAISED(f, soft_software_interrupt(f->cpu, 0x21, true, 0x1236)), EXC_GP);
    f->cpu->delivering = -1;
    f->cpu->rflags |= FLAG_IOPL;
    soft_software_interrupt(f->cpu, 0x21, true, 0x1236);
    assert_int_equal(f->cpu->rip, handler_of(0x21));
}

/* ---- long mode ---- */

static void long_mode_aligns_the_stack_and_nulls_ss(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 3);
    poke64(f, TSS_AT + 4, STACK0 + 9);
    deliver_external(f, 0x40);
    assert_int_equal(f->cpu->rip, handler_of(0x40));
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 40);
    assert_int_equal(f->cpu->seg[SEG_SS].selector, 0);
    assert_int_equal(f->cpu->cpl, 0);
    assert_int_equal(f->cpu->code_size, 8);
    assert_int_equal(peek64(f, STACK0 - 8), USER_DATA);
    assert_int_equal(peek64(f, STACK0 - 16), STACK3);
    assert_int_equal(peek64(f, STACK0 - 32), USER_CODE64);
    assert_int_equal(peek64(f, STACK0 - 40), 0x50000);

    soft_interrupt_return(f->cpu, 8);
    assert_int_equal(f->cpu->cpl, 3);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK3);
    assert_int_equal(f->cpu->seg[SEG_SS].selector, USER_DATA);
    assert_int_equal(f->cpu->seg[SEG_CS].selector, USER_CODE64);
}

static void long_mode_pushes_ss_without_a_change_of_privilege_too(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 0);
    f->cpu->gpr[GPR_RSP] = STACK0 - 3;
    soft_deliver(f->cpu, SOFT_EVENT_EXCEPTION, EXC_PF, true, 2, f->cpu->rip);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 16 - 48);
    assert_int_equal(peek64(f, STACK0 - 16 - 48), 2);
    assert_int_equal(peek64(f, STACK0 - 16 - 16), STACK0 - 3);
    assert_int_equal(peek64(f, STACK0 - 16 - 8), KERNEL_DATA);
    assert_int_equal(f->cpu->seg[SEG_SS].selector, KERNEL_DATA);
}

static void an_ist_gives_the_stack_at_any_privilege(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 0);
    poke64(f, IDT_AT + 0x40 * 16,
           gate_of(KERNEL_CODE64, handler_of(0x40), DESCRIPTOR_INTERRUPT_GATE, 0, 1));
    deliver_external(f, 0x40);
    assert_int_equal(f->cpu->gpr[GPR_RSP], IST_STACK - 40);
    assert_int_equal(f->cpu->seg[SEG_SS].selector, KERNEL_DATA);
}

static void long_mode_refuses_code_that_is_not_64_bit_and_bad_addresses(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 0);
    fill_idt(f, KERNEL_CODE, DESCRIPTOR_INTERRUPT_GATE, 0);
    assert_int_equal(RAISED(f, deliver_external(f, 0x40)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, KERNEL_CODE | 1);
    enter_long(f, 0);
    f->cpu->delivering = -1;
    poke64(f, IDT_AT + 0x40 * 16 + 8, 0x8000);
    assert_int_equal(RAISED(f, deliver_external(f, 0x40)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, 1);
    enter_long(f, 3);
    f->cpu->delivering = -1;
    poke64(f, TSS_AT + 4, 1UL << 47);
    assert_int_equal(RAISED(f, deliver_external(f, 0x40)), EXC_SS);
}

static void iret_to_a_16_bit_stack_keeps_the_upper_half_of_rsp(void **state)
{
    struct fixture *f = *state;
    static const uint64_t frame[] = {0x1000, USER_CODE, FLAG_FIXED, 0x12345678, 0x20 | 3};

    enter_long(f, 0);
    set_descriptor(f, USER_DATA, descriptor_of(0, 0xffff, 0x0f2));
    for (unsigned i = 0; i < 5; i++)
        poke64(f, STACK0 - 40 + i * 8, frame[i]);
    f->cpu->gpr[GPR_RSP] = STACK0 - 40;
    soft_interrupt_return(f->cpu, 8);
    assert_int_equal(f->cpu->code_size, 4);
    assert_int_equal(f->cpu->gpr[GPR_RSP], ((STACK0 - 40) & ~0xffffU) | 0x5678);
}

/* ---- IRET's faults ---- */

static void iret_checks_the_code_and_stack_it_returns_to(void **state)
{
    static const struct {
        uint32_t rip, cs, ss;
        int vector;
        uint32_t error;
    } cases[] = {
        {0x1000, 0, USER_DATA, EXC_GP, 0},
        {0x1000, 0x203, USER_DATA, EXC_GP, 0x200},
        {0x1000, KERNEL_DATA, USER_DATA, EXC_GP, KERNEL_DATA},
        {0x1000, KERNEL_CODE | 3, USER_DATA, EXC_GP, KERNEL_CODE},
        {0x1000, USER_CODE & ~3, USER_DATA, EXC_GP, USER_CODE & ~3},
        {0x1000, ABSENT_CODE, USER_DATA, EXC_NP, ABSENT_CODE},
        {0x1000, USER_CODE, 0, EXC_GP, 0},
        {0x1000, USER_CODE, KERNEL_DATA, EXC_GP, KERNEL_DATA},
        {0x1000, USER_CODE, KERNEL_DATA | 3, EXC_GP, KERNEL_DATA},
        {0x10000, KERNEL_CODE16, 0, EXC_GP, 0},
        {0x1000, USER_CODE, USER_DATA, -1, 0},
        {0x1000, CONFORMING | 3, USER_DATA, -1, 0},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enter_protected(f, 0);
        f->cpu->rip = 0x50000;
        f->cpu->gpr[GPR_RSP] = STACK0 - 20;
        poke32(f, STACK0 - 20, cases[i].rip);
        poke32(f, STACK0 - 16, cases[i].cs);
        poke32(f, STACK0 - 12, FLAG_FIXED);
        poke32(f, STACK0 - 8, STACK3);
        poke32(f, STACK0 - 4, cases[i].ss);
        assert_int_equal(RAISED(f, soft_interrupt_return(f->cpu, 4)), cases[i].vector);
        if (cases[i].vector < 0) {
            assert_int_equal(f->cpu->cpl, 3);
            assert_true(f->cpu->seg[SEG_ES].attributes & SEGMENT_UNUSABLE);
            continue;
        }
        assert_int_equal(f->cpu->fault.error, cases[i].error);
        assert_int_equal(f->cpu->rip, 0x50000);
        assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 20);
    }
}

static void iret_at_privilege_3_changes_neither_iopl_nor_if(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 3);
    f->cpu->gpr[GPR_RSP] = STACK3 - 12;
    poke32(f, STACK3 - 12, 0x1000);
    poke32(f, STACK3 - 8, USER_CODE);
    poke32(f, STACK3 - 4, UINT32_MAX);
    soft_interrupt_return(f->cpu, 4);
    uint64_t privileged = FLAG_IOPL | FLAG_IF | FLAG_VM | FLAG_VIF | FLAG_VIP;
    assert_int_equal(f->cpu->rflags, (FLAG_DEFINED & ~privileged) | FLAG_FIXED);
}

static void iret_unmasks_nmi(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    soft_deliver(f->cpu, SOFT_EVENT_NMI, EXC_NMI, false, 0, f->cpu->rip);
    assert_true(f->cpu->nmi_masked);
    soft_interrupt_return(f->cpu, 4);
    assert_false(f->cpu->nmi_masked);
}

/* ---- faults on top of faults ---- */

/* SDM 3A, tables 6-4 and 6-5, as letters: b benign, c contributory, p page fault. */
static char class_letter(unsigned vector)
{
    static const char letters[] = "cbbbbbbb?bccccpbbbbb";

    return letters[vector];
}

static void two_faults_become_what_the_table_says(void **state)
{
    static const uint8_t vectors[] = {0, 1, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19};
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(vectors); i++) {
        for (unsigned j = 0; j < sizeof(vectors); j++) {
            char first = class_letter(vectors[i]), second = class_letter(vectors[j]);
            bool doubles = (first == 'c' && second == 'c') ||
                           (first == 'p' && (second == 'c' || second == 'p'));

            enter_protected(f, 0);
            f->cpu->delivering = vectors[i];
            f->cpu->external = true;
            assert_int_equal(RAISED(f, soft_raise(f->cpu, vectors[j], 0)), vectors[j]);
            soft_handle_fault(f->cpu);
            assert_int_equal(f->cpu->rip, handler_of(doubles ? EXC_DF : vectors[j]));
            if (doubles)
                assert_int_equal(peek32(f, f->cpu->gpr[GPR_RSP]), 0);
        }
    }
}

static void an_interrupt_that_faults_is_no_double_fault(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    poke64(f, IDT_AT + 13 * 8, 0);
    assert_int_equal(RAISED(f, deliver_external(f, 13)), EXC_GP);
    fill_idt(f, KERNEL_CODE, DESCRIPTOR_INTERRUPT_GATE, 0);
    soft_handle_fault(f->cpu);
    assert_int_equal(f->cpu->rip, handler_of(EXC_GP));
    assert_int_equal(peek32(f, f->cpu->gpr[GPR_RSP]), 13 * 8 + 2 + 1);
}

static void a_fault_in_the_double_fault_shuts_down(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    f->cpu->idtr.limit = 0;
    f->cpu->delivering = -1;
    assert_int_equal(RAISED(f, soft_general_protection(f->cpu, 0)), EXC_GP);
    assert_int_equal(RAISED(f, soft_handle_fault(f->cpu)), EXC_GP);
    assert_int_equal(f->cpu->delivering, EXC_GP);
    assert_int_equal(RAISED(f, soft_handle_fault(f->cpu)), EXC_GP);
    assert_int_equal(f->cpu->delivering, EXC_DF);
    assert_int_equal(RAISED(f, soft_handle_fault(f->cpu)), -1);
    assert_int_equal(f->cpu->mp_state, CPU_SHUTDOWN);
}

static void a_fault_pushes_rf_and_a_debug_trap_sets_dr6(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    assert_int_equal(RAISED(f, soft_undefined(f->cpu)), EXC_UD);
    soft_handle_fault(f->cpu);
    assert_int_equal(peek32(f, STACK0 - 4), FLAG_RF | FLAG_FIXED);
    assert_int_equal(f->cpu->rflags & FLAG_RF, 0);

    enter_protected(f, 0);
    f->cpu->dr6 |= 5;
    f->cpu->dr7 |= 1 << 13;
    f->cpu->pending_db = 1 << 14 | 2;
    soft_deliver_debug_trap(f->cpu);
    assert_int_equal(f->cpu->rip, handler_of(EXC_DB));
    assert_int_equal(f->cpu->dr6, 0xffff4ff2);
    assert_int_equal(f->cpu->dr7, 0x400);
    assert_int_equal(f->cpu->pending_db, 0);
    assert_int_equal(peek32(f, STACK0 - 4), FLAG_FIXED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tables_setup, tables_teardown)
        TEST(real_mode_goes_through_the_vector_table),
        TEST(a_vector_beyond_the_table_is_gp),
        TEST(a_fault_at_the_same_privilege_pushes_four_words),
        TEST(a_trap_gate_leaves_the_interrupt_flag),
        TEST(an_inner_privilege_gets_the_stack_of_the_tss),
        TEST(gates_of_16_bits_push_words),
        TEST(a_software_interrupt_needs_the_gates_privilege),
        TEST(bad_gates_and_segments_raise_with_their_selector),
        TEST(v86_enters_ring_0_with_its_segments_on_the_stack),
        TEST(v86_asks_iopl_and_the_redirection_bitmap),
        TEST(long_mode_aligns_the_stack_and_nulls_ss),
        TEST(long_mode_pushes_ss_without_a_change_of_privilege_too),
        TEST(an_ist_gives_the_stack_at_any_privilege),
        TEST(long_mode_refuses_code_that_is_not_64_bit_and_bad_addresses),
        TEST(iret_to_a_16_bit_stack_keeps_the_upper_half_of_rsp),
        TEST(iret_checks_the_code_and_stack_it_returns_to),
        TEST(iret_at_privilege_3_changes_neither_iopl_nor_if),
        TEST(iret_unmasks_nmi),
        TEST(two_faults_become_what_the_table_says),
        TEST(an_interrupt_that_faults_is_no_double_fault),
        TEST(a_fault_in_the_double_fault_shuts_down),
        TEST(a_fault_pushes_rf_and_a_debug_trap_sets_dr6),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
