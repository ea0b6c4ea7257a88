// SPDX-License-Identifier: Apache-2.0
/*
 * Segment registers, descriptors, far transfers and tasks of the software CPU, on small tables.
 */
#include "tests/unit/soft_tables.h"
#include "vmm/engine/soft/transfer.h"

/* ---- loading ---- */

static void loads_in_protected_mode_check_type_privilege_and_presence(void **state)
{
    static const struct {
        uint16_t selector;
        uint8_t index, cpl;
        int vector;
        uint32_t error;
    } cases[] = {
        {KERNEL_DATA, SEG_DS, 0, -1, 0},
        {KERNEL_CODE, SEG_DS, 0, -1, 0}, /* readable code */
        {CONFORMING | 3, SEG_ES, 3, -1, 0},
        {USER_DATA, SEG_DS, 0, -1, 0},
        {READ_ONLY, SEG_GS, 0, -1, 0},
        {0, SEG_DS, 3, -1, 0},
        {3, SEG_FS, 0, -1, 0},
        {EXECUTE_ONLY, SEG_DS, 0, EXC_GP, EXECUTE_ONLY},
        {TSS, SEG_DS, 0, EXC_GP, TSS},
        {KERNEL_DATA, SEG_DS, 3, EXC_GP, KERNEL_DATA},
        {KERNEL_DATA | 3, SEG_DS, 0, EXC_GP, KERNEL_DATA},
        {ABSENT_DATA, SEG_DS, 0, EXC_NP, ABSENT_DATA},
        {GDT_LIMIT + 1, SEG_DS, 0, EXC_GP, GDT_LIMIT + 1},
        {0x0c, SEG_DS, 0, EXC_GP, 0x0c}, /* no LDT */
        {KERNEL_DATA, SEG_SS, 0, -1, 0},
        {USER_DATA, SEG_SS, 3, -1, 0},
        {0, SEG_SS, 0, EXC_GP, 0},
        {KERNEL_DATA | 1, SEG_SS, 0, EXC_GP, KERNEL_DATA},
        {USER_DATA, SEG_SS, 0, EXC_GP, USER_DATA & ~3},
        {READ_ONLY, SEG_SS, 0, EXC_GP, READ_ONLY},
        {KERNEL_CODE, SEG_SS, 0, EXC_GP, KERNEL_CODE},
        {ABSENT_DATA, SEG_SS, 0, EXC_SS, ABSENT_DATA},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enter_protected(f, cases[i].cpl);
        struct cpu_segment before = f->cpu->seg[cases[i].index];
        int vector = RAISED(f, soft_segment_load(f->cpu, cases[i].index, cases[i].selector));

        assert_int_equal(vector, cases[i].vector);
        if (vector < 0) {
            assert_int_equal(f->cpu->seg[cases[i].index].selector, cases[i].selector);
        } else {
            assert_int_equal(f->cpu->fault.error, cases[i].error);
            assert_memory_equal(&before, &f->cpu->seg[cases[i].index], sizeof(before));
        }
    }
}

static void a_load_marks_the_descriptor_accessed(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    assert_int_equal(peek64(f, GDT_AT + KERNEL_DATA) >> 40 & 1, 0);
    soft_segment_load(f->cpu, SEG_DS, KERNEL_DATA);
    assert_int_equal(peek64(f, GDT_AT + KERNEL_DATA) >> 40 & 1, 1);
    assert_int_equal(f->cpu->seg[SEG_DS].limit, UINT32_MAX);
    assert_int_equal(f->cpu->seg[SEG_DS].attributes, 0xc93);
}

static void a_null_ss_is_legal_in_inner_64_bit_code_only(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 0);
    soft_segment_load(f->cpu, SEG_SS, 0);
    assert_true(f->cpu->seg[SEG_SS].attributes & SEGMENT_UNUSABLE);
    soft_update_mode(f->cpu);
    assert_int_equal(f->cpu->cpl, 0);
    assert_int_equal(RAISED(f, soft_segment_load(f->cpu, SEG_SS, 3)), EXC_GP);
    enter_long(f, 3);
    assert_int_equal(RAISED(f, soft_segment_load(f->cpu, SEG_SS, 3)), EXC_GP);
}

static void real_mode_loads_keep_the_limit(void **state)
{
    struct fixture *f = *state;

    enter_real(f);
    f->cpu->seg[SEG_DS].limit = UINT32_MAX;
    soft_segment_load(f->cpu, SEG_DS, 0x1234);
    assert_int_equal(f->cpu->seg[SEG_DS].base, 0x12340);
    assert_int_equal(f->cpu->seg[SEG_DS].limit, UINT32_MAX);
}

static void ldtr_and_tr_take_only_their_kinds(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    assert_int_equal(RAISED(f, soft_ldt_load(f->cpu, TSS, EXC_GP)), EXC_GP);
    soft_ldt_load(f->cpu, LDT, EXC_GP);
    assert_int_equal(f->cpu->seg[SEG_LDTR].base, LDT_AT);
    poke64(f, LDT_AT + 8, descriptor_of(0, 0xfffff, 0xc92));
    soft_segment_load(f->cpu, SEG_ES, 0x0c);
    assert_int_equal(f->cpu->seg[SEG_ES].selector, 0x0c);
    assert_int_equal(RAISED(f, soft_segment_load(f->cpu, SEG_ES, 0x14)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, 0x14);
    soft_ldt_load(f->cpu, 0, EXC_GP);
    assert_int_equal(RAISED(f, soft_segment_load(f->cpu, SEG_ES, 0x0c)), EXC_GP);

    soft_task_register_load(f->cpu, TSS);
    assert_int_equal(descriptor_type(peek64(f, GDT_AT + TSS)), DESCRIPTOR_TSS_BUSY);
    assert_int_equal(RAISED(f, soft_task_register_load(f->cpu, TSS)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, TSS);
    assert_int_equal(RAISED(f, soft_task_register_load(f->cpu, 0)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, 0);
}

static void system_descriptors_of_long_mode_have_16_bytes(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 0);
    set_descriptor(f, LDT + 8, 0xffff8000);
    soft_ldt_load(f->cpu, LDT, EXC_GP);
    assert_int_equal(f->cpu->seg[SEG_LDTR].base, 0xffff800000000000UL | LDT_AT);
    set_descriptor(f, LDT + 8, 0x8000);
    assert_int_equal(RAISED(f, soft_ldt_load(f->cpu, LDT, EXC_GP)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, LDT);
    f->cpu->gdtr.limit = LDT + 8 + 6;
    set_descriptor(f, LDT + 8, 0);
    assert_int_equal(RAISED(f, soft_ldt_load(f->cpu, LDT, EXC_GP)), EXC_GP);
}

/* ---- addresses ---- */

static void limits_and_types_are_checked_on_each_access(void **state)
{
    static const struct {
        uint16_t selector;
        uint64_t offset;
        unsigned size;
        enum soft_access access;
        int vector;
    } cases[] = {
        {KERNEL_DATA16, 0xfffe, 2, SOFT_WRITE, -1},
        {KERNEL_DATA16, 0xffff, 2, SOFT_WRITE, EXC_GP},
        {KERNEL_DATA16, 0x10000, 1, SOFT_READ, EXC_GP},
        {EXPAND_DOWN, 0xfff, 1, SOFT_READ, EXC_GP},
        {EXPAND_DOWN, 0x1000, 1, SOFT_READ, -1},
        {EXPAND_DOWN, 0xffffffff, 1, SOFT_WRITE, -1},
        {EXPAND_DOWN, 0xffffffff, 2, SOFT_WRITE, EXC_GP},
        {READ_ONLY, 0, 4, SOFT_READ, -1},
        {READ_ONLY, 0, 4, SOFT_WRITE, EXC_GP},
        {KERNEL_CODE, 0, 4, SOFT_READ, -1},
        {KERNEL_CODE, 0, 4, SOFT_WRITE, EXC_GP},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        volatile uint64_t linear = 0;

        enter_protected(f, 0);
        soft_segment_load(f->cpu, SEG_DS, cases[i].selector);
        int vector = RAISED(f, linear = soft_segment_address(f->cpu, SEG_DS, cases[i].offset,
                                                             cases[i].size, cases[i].access));
        assert_int_equal(vector, cases[i].vector);
        if (vector < 0)
            assert_int_equal(linear, cases[i].offset);
    }
    soft_segment_load(f->cpu, SEG_DS, 0);
    assert_int_equal(RAISED(f, soft_segment_address(f->cpu, SEG_DS, 0, 1, SOFT_READ)), EXC_GP);
    soft_segment_load(f->cpu, SEG_SS, KERNEL_DATA16);
    assert_int_equal(RAISED(f, soft_segment_address(f->cpu, SEG_SS, 0xffff, 2, SOFT_READ)), EXC_SS);
}

static void inspection_sees_what_the_privilege_allows(void **state)
{
    static const struct {
        uint16_t selector;
        uint8_t cpl;
        bool lar, lsl, verr, verw;
    } cases[] = {
        {KERNEL_DATA, 0, true, true, true, true},
        {KERNEL_DATA, 3, false, false, false, false},
        {KERNEL_DATA | 3, 0, false, false, false, false},
        {USER_DATA, 3, true, true, true, true},
        {READ_ONLY, 0, true, true, true, false},
        {EXECUTE_ONLY, 0, true, true, false, false},
        {CONFORMING | 3, 3, true, true, true, false},
        {KERNEL_CODE, 0, true, true, true, false},
        {ABSENT_DATA, 0, true, true, true, true},
        {TSS, 0, true, true, false, false},
        {GATE, 0, true, false, false, false},
        {0, 0, false, false, false, false},
        {0x200, 0, false, false, false, false},
    };
    struct fixture *f = *state;
    uint64_t raw;

    set_descriptor(f, GATE, gate_of(KERNEL_CODE, 0, DESCRIPTOR_CALL_GATE, 0, 0));
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint16_t selector = cases[i].selector;

        enter_protected(f, cases[i].cpl);
        assert_int_equal(soft_descriptor_inspect(f->cpu, selector, SOFT_INSPECT_LAR, &raw),
                         cases[i].lar);
        assert_int_equal(soft_descriptor_inspect(f->cpu, selector, SOFT_INSPECT_LSL, &raw),
                         cases[i].lsl);
        assert_int_equal(soft_descriptor_inspect(f->cpu, selector, SOFT_INSPECT_VERR, &raw),
                         cases[i].verr);
        assert_int_equal(soft_descriptor_inspect(f->cpu, selector, SOFT_INSPECT_VERW, &raw),
                         cases[i].verw);
    }
}

/* ---- far transfers ---- */

static void far_jumps_check_their_target(void **state)
{
    static const struct {
        uint16_t selector;
        uint8_t cpl;
        uint32_t offset;
        int vector;
        uint32_t error;
    } cases[] = {
        {KERNEL_CODE, 0, 0x1234, -1, 0},
        {KERNEL_CODE16, 0, 0xffff, -1, 0},
        {KERNEL_CODE16, 0, 0x10000, EXC_GP, 0},
        {CONFORMING, 3, 0x1234, -1, 0},
        {0, 0, 0, EXC_GP, 0},
        {KERNEL_DATA, 0, 0, EXC_GP, KERNEL_DATA},
        {KERNEL_CODE, 3, 0, EXC_GP, KERNEL_CODE},
        {USER_CODE, 0, 0, EXC_GP, USER_CODE & ~3},
        {ABSENT_CODE, 0, 0, EXC_NP, ABSENT_CODE},
        {LDT, 0, 0, EXC_GP, LDT},
        {0x200, 0, 0, EXC_GP, 0x200},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enter_protected(f, cases[i].cpl);
        int vector = RAISED(f, soft_far_jump(f->cpu, cases[i].selector, cases[i].offset, 4));

        assert_int_equal(vector, cases[i].vector);
        if (vector >= 0) {
            assert_int_equal(f->cpu->fault.error, cases[i].error);
            continue;
        }
        assert_int_equal(f->cpu->rip, cases[i].offset);
        assert_int_equal(f->cpu->seg[SEG_CS].selector, cases[i].selector | cases[i].cpl);
        assert_int_equal(f->cpu->cpl, cases[i].cpl);
    }
}

static void a_call_gate_switches_the_stack_and_copies_parameters(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 3);
    set_descriptor(f, GATE, gate_of(KERNEL_CODE, 0x4321, DESCRIPTOR_CALL_GATE, 3, 2));
    poke32(f, STACK3, 0x11111111);
    poke32(f, STACK3 + 4, 0x22222222);
    soft_far_call(f->cpu, GATE | 3, 0xdead, 4, 0x50007);
    assert_int_equal(f->cpu->cpl, 0);
    assert_int_equal(f->cpu->rip, 0x4321);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 24);
    assert_int_equal(peek32(f, STACK0 - 24), 0x50007);
    assert_int_equal(peek32(f, STACK0 - 20), USER_CODE);
    assert_int_equal(peek32(f, STACK0 - 16), 0x11111111);
    assert_int_equal(peek32(f, STACK0 - 12), 0x22222222);
    assert_int_equal(peek32(f, STACK0 - 8), STACK3);
    assert_int_equal(peek32(f, STACK0 - 4), USER_DATA);

    soft_segment_load(f->cpu, SEG_ES, KERNEL_DATA);
    soft_far_return(f->cpu, 4, 8);
    assert_int_equal(f->cpu->cpl, 3);
    assert_int_equal(f->cpu->rip, 0x50007);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK3 + 8);
    assert_true(f->cpu->seg[SEG_ES].attributes & SEGMENT_UNUSABLE);
    assert_int_equal(f->cpu->seg[SEG_DS].selector, USER_DATA);
}

static void call_gates_check_privilege_first(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 3);
    set_descriptor(f, GATE, gate_of(KERNEL_CODE, 0x4321, DESCRIPTOR_CALL_GATE, 0, 0));
    assert_int_equal(RAISED(f, soft_far_call(f->cpu, GATE | 3, 0, 4, 0)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, GATE);
    set_descriptor(f, GATE, gate_of(KERNEL_CODE, 0x4321, DESCRIPTOR_CALL_GATE, 3, 0));
    assert_int_equal(RAISED(f, soft_far_jump(f->cpu, GATE | 3, 0, 4)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, KERNEL_CODE);
    set_descriptor(f, GATE,
                   gate_of(KERNEL_CODE, 0x4321, DESCRIPTOR_CALL_GATE, 3, 0) & ~(1UL << 47));
    assert_int_equal(RAISED(f, soft_far_call(f->cpu, GATE | 3, 0, 4, 0)), EXC_NP);
}

static void long_mode_has_only_call_gates_to_64_bit_code(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 3);
    set_descriptor(f, GATE, gate_of(KERNEL_CODE64, 0x4321, DESCRIPTOR_CALL_GATE, 3, 0));
    set_descriptor(f, GATE + 8, 0);
    soft_far_call(f->cpu, GATE | 3, 0, 4, 0x50007);
    assert_int_equal(f->cpu->cpl, 0);
    assert_int_equal(f->cpu->rip, 0x4321);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 - 32);
    assert_int_equal(peek64(f, STACK0 - 32), 0x50007);
    assert_int_equal(peek64(f, STACK0 - 8), USER_DATA);
    soft_far_return(f->cpu, 8, 0);
    assert_int_equal(f->cpu->cpl, 3);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK3);
    assert_int_equal(RAISED(f, soft_far_jump(f->cpu, TSS2, 0, 4)), EXC_GP);
    assert_int_equal(f->cpu->fault.error, TSS2);
}

static void compatibility_mode_is_a_far_return_away(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 0);
    poke32(f, STACK0 - 8, 0x6000);
    poke32(f, STACK0 - 4, KERNEL_CODE);
    f->cpu->gpr[GPR_RSP] = STACK0 - 8;
    soft_far_return(f->cpu, 4, 0);
    assert_int_equal(f->cpu->code_size, 4);
    assert_false(f->cpu->flat);
    assert_int_equal(f->cpu->rip, 0x6000);
}

/* ---- tasks ---- */

static void prepare_task(struct fixture *f)
{
    memset(f->ram + TSS2_AT, 0, 0x68);
    poke32(f, TSS2_AT + 0x20, 0x7777);
    poke32(f, TSS2_AT + 0x24, FLAG_CF);
    poke32(f, TSS2_AT + 0x28, 0xaaaa);
    poke32(f, TSS2_AT + 0x38, 0x60000);
    poke32(f, TSS2_AT + 0x48, KERNEL_DATA);
    poke32(f, TSS2_AT + 0x4c, KERNEL_CODE);
    poke32(f, TSS2_AT + 0x50, KERNEL_DATA);
    poke32(f, TSS2_AT + 0x54, KERNEL_DATA);
    enter_protected(f, 0);
    set_descriptor(f, TSS, descriptor_of(TSS_AT, 0x1ff, 0x08b));
    set_descriptor(f, TSS2, descriptor_of(TSS2_AT, 0x67, 0x089));
}

static unsigned type_of(struct fixture *f, uint16_t selector)
{
    return descriptor_type(peek64(f, GDT_AT + selector));
}

static void a_jump_switches_the_task_for_good(void **state)
{
    struct fixture *f = *state;

    prepare_task(f);
    f->cpu->gpr[GPR_RBX] = 0xbbbb;
    f->cpu->next_rip = 0x50007;
    soft_far_jump(f->cpu, TSS2, 0, 4);
    assert_int_equal(f->cpu->rip, 0x7777);
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0xaaaa);
    assert_int_equal(f->cpu->gpr[GPR_RSP], 0x60000);
    assert_int_equal(f->cpu->rflags, FLAG_CF | FLAG_FIXED);
    assert_true(f->cpu->cr0 & CR0_TS);
    assert_int_equal(f->cpu->seg[SEG_TR].selector, TSS2);
    assert_int_equal(f->cpu->seg[SEG_TR].base, TSS2_AT);
    assert_int_equal(type_of(f, TSS), DESCRIPTOR_TSS);
    assert_int_equal(type_of(f, TSS2), DESCRIPTOR_TSS_BUSY);
    assert_int_equal(peek32(f, TSS_AT + 0x20), 0x50007);
    assert_int_equal(peek32(f, TSS_AT + 0x34), 0xbbbb);
    assert_int_equal(peek16(f, TSS_AT + 0x4c), KERNEL_CODE);
}

static void a_call_nests_and_iret_comes_back(void **state)
{
    struct fixture *f = *state;

    prepare_task(f);
    soft_far_call(f->cpu, TSS2, 0, 4, 0x50007);
    assert_true(f->cpu->rflags & FLAG_NT);
    assert_int_equal(peek16(f, TSS2_AT), TSS);
    assert_int_equal(type_of(f, TSS), DESCRIPTOR_TSS_BUSY);
    assert_int_equal(type_of(f, TSS2), DESCRIPTOR_TSS_BUSY);

    f->cpu->next_rip = 0x7778;
    soft_interrupt_return(f->cpu, 4);
    assert_int_equal(f->cpu->rip, 0x50007);
    assert_int_equal(f->cpu->seg[SEG_TR].selector, TSS);
    assert_int_equal(type_of(f, TSS2), DESCRIPTOR_TSS);
    assert_int_equal(peek32(f, TSS2_AT + 0x20), 0x7778);
    assert_int_equal(peek32(f, TSS2_AT + 0x24) & FLAG_NT, 0);
}

static void an_exception_through_a_task_gate_pushes_its_error_there(void **state)
{
    struct fixture *f = *state;

    prepare_task(f);
    poke64(f, IDT_AT + EXC_DF * 8, gate_of(TSS2, 0, DESCRIPTOR_TASK_GATE, 0, 0));
    soft_deliver(f->cpu, SOFT_EVENT_EXCEPTION, EXC_DF, true, 0, 0x50000);
    assert_int_equal(f->cpu->rip, 0x7777);
    assert_int_equal(f->cpu->gpr[GPR_RSP], 0x60000 - 4);
    assert_int_equal(peek16(f, TSS2_AT), TSS);
    assert_int_equal(peek32(f, TSS_AT + 0x20), 0x50000);
}

static void the_trap_bit_of_a_task_raises_a_debug_trap(void **state)
{
    struct fixture *f = *state;

    prepare_task(f);
    poke16(f, TSS2_AT + 0x64, 1);
    f->cpu->dr7 = 0x755;
    soft_far_jump(f->cpu, TSS2, 0, 4);
    assert_int_equal(f->cpu->pending_db, 1 << 15);
    assert_int_equal(f->cpu->dr7, 0x600);
}

static void bad_tasks_are_refused_before_or_after_the_switch(void **state)
{
    static const struct {
        uint32_t field, value;
        int vector;
        uint32_t error;
    } cases[] = {
        {0x4c, KERNEL_DATA, EXC_TS, KERNEL_DATA}, {0x4c, 0, EXC_TS, 0},
        {0x4c, ABSENT_CODE, EXC_NP, ABSENT_CODE}, {0x50, READ_ONLY, EXC_TS, READ_ONLY},
        {0x50, ABSENT_DATA, EXC_SS, ABSENT_DATA}, {0x54, EXECUTE_ONLY, EXC_TS, EXECUTE_ONLY},
        {0x54, ABSENT_DATA, EXC_NP, ABSENT_DATA}, {0x60, TSS, EXC_TS, TSS},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        prepare_task(f);
        poke32(f, TSS2_AT + cases[i].field, cases[i].value);
        assert_int_equal(RAISED(f, soft_far_jump(f->cpu, TSS2, 0, 4)), cases[i].vector);
        assert_int_equal(f->cpu->fault.error, cases[i].error);
        assert_int_equal(f->cpu->rip, 0x7777);
        assert_int_equal(f->cpu->seg[SEG_TR].selector, TSS2);
    }
    prepare_task(f);
    f->cpu->rip = 0x50000;
    set_descriptor(f, TSS2, descriptor_of(TSS2_AT, 0x66, 0x089));
    assert_int_equal(RAISED(f, soft_far_jump(f->cpu, TSS2, 0, 4)), EXC_TS);
    set_descriptor(f, TSS2, descriptor_of(TSS2_AT, 0x67, 0x08b));
    assert_int_equal(RAISED(f, soft_far_jump(f->cpu, TSS2, 0, 4)), EXC_GP);
    set_descriptor(f, TSS2, descriptor_of(TSS2_AT, 0x67, 0x009));
    assert_int_equal(RAISED(f, soft_far_jump(f->cpu, TSS2, 0, 4)), EXC_NP);
    assert_int_equal(f->cpu->rip, 0x50000);
    assert_int_equal(f->cpu->seg[SEG_TR].selector, TSS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tables_setup, tables_teardown)
        TEST(loads_in_protected_mode_check_type_privilege_and_presence),
        TEST(a_load_marks_the_descriptor_accessed),
        TEST(a_null_ss_is_legal_in_inner_64_bit_code_only),
        TEST(real_mode_loads_keep_the_limit),
        TEST(ldtr_and_tr_take_only_their_kinds),
        TEST(system_descriptors_of_long_mode_have_16_bytes),
        TEST(limits_and_types_are_checked_on_each_access),
        TEST(inspection_sees_what_the_privilege_allows),
        TEST(far_jumps_check_their_target),
        TEST(a_call_gate_switches_the_stack_and_copies_parameters),
        TEST(call_gates_check_privilege_first),
        TEST(long_mode_has_only_call_gates_to_64_bit_code),
        TEST(compatibility_mode_is_a_far_return_away),
        TEST(a_jump_switches_the_task_for_good),
        TEST(a_call_nests_and_iret_comes_back),
        TEST(an_exception_through_a_task_gate_pushes_its_error_there),
        TEST(the_trap_bit_of_a_task_raises_a_debug_trap),
        TEST(bad_tasks_are_refused_before_or_after_the_switch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
