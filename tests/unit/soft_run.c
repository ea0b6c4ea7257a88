// SPDX-License-Identifier: Apache-2.0
/*
 * The run loop of the interpreter: faults, interrupts and their shadows, single step, HLT, kicks
 * and the debugger's breakpoints, in real mode, whose interrupt table is a few words.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/soft_machine.h"

static struct soft_machine machine;

#define CPU  (machine.cpu)
#define R(n) (machine.cpu->gpr[GPR_##n])

/* Handlers lie at HANDLER + vector * 16 and count in BX: `add bl, 1; iret` unless a test says
 * otherwise. The code under test ends at an instruction on which a debugger waits. */
#define HANDLER 0x1000U

static void put(uint64_t address, const void *bytes, unsigned size)
{
    memory_write(machine.memory, address, bytes, size);
}

static void set_handler(uint8_t vector, const void *code, unsigned size)
{
    uint16_t entry[2] = {(uint16_t)(HANDLER + vector * 16), 0};

    put(vector * 4, entry, sizeof(entry));
    put(HANDLER + vector * 16, code, size);
}

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
    soft_machine_reset(&machine, 2);
    CPU->idtr = (struct cpu_table_register){.base = 0, .limit = 0x3ff};
    CPU->nmi_masked = CPU->nmi_waiting = false;
    CPU->delivering = -1;
    atomic_store(&CPU->requests, 0);
    memset(&CPU->debug, 0, sizeof(CPU->debug));
    for (unsigned i = 0; i < 32; i++)
        set_handler((uint8_t)i, "\x80\xc3\x01\xcf", 4);
    return 0;
}

/* Put the code at CS:0 and run until its end. */
static enum vcpu_exit run(const void *code, unsigned size)
{
    put(TEST_CODE, code, size);
    CPU->debug.breakpoints = 1;
    CPU->debug.address[0] = TEST_CODE + size;
    return soft_run(CPU);
}

#define RUN(...)                                         \
    ({                                                   \
        static const uint8_t run_code[] = {__VA_ARGS__}; \
        run(run_code, sizeof(run_code));                 \
    })

static void a_debugger_stops_at_its_breakpoint(void **state)
{
    assert_int_equal(RUN(0x90, 0xb0, 0x05), VCPU_EXIT_DEBUG);
    assert_int_equal(CPU->rip, 3);
    assert_int_equal(R(RAX), 5);
}

static void a_debugger_steps_one_instruction(void **state)
{
    put(TEST_CODE, "\xb0\x05\xb0\x06", 4);
    CPU->debug.single_step = true;
    assert_int_equal(soft_run(CPU), VCPU_EXIT_DEBUG);
    assert_int_equal(CPU->rip, 2);
    assert_int_equal(R(RAX), 5);
    assert_int_equal(soft_run(CPU), VCPU_EXIT_DEBUG);
    assert_int_equal(R(RAX), 6);
}

static void a_kick_leaves_at_once(void **state)
{
    put(TEST_CODE, "\xeb\xfe", 2); /* jmp $ */
    soft_request(CPU, SOFT_REQUEST_KICK);
    assert_int_equal(soft_run(CPU), VCPU_EXIT_KICKED);
    assert_int_equal(CPU->rip, 0);
    assert_int_equal(atomic_load(&CPU->requests), 0);
}

static void a_fault_returns_to_its_instruction(void **state)
{
    /* The handler of #DE repairs the divisor. */
    set_handler(EXC_DE, "\xb1\x02\xcf", 3);
    R(RAX) = 9;
    assert_int_equal(RUN(0xf6, 0xf1), VCPU_EXIT_DEBUG); /* div cl */
    assert_int_equal(R(RAX), 0x0104);
}

static void a_software_interrupt_returns_behind_it(void **state)
{
    assert_int_equal(RUN(0xcd, 0x10, 0x40), VCPU_EXIT_DEBUG); /* int 16; inc ax */
    assert_int_equal(R(RBX), 1);
    assert_int_equal(R(RAX), 1);
    assert_int_equal(R(RSP), 0xfff0);
}

static void a_triple_fault_shuts_down(void **state)
{
    CPU->idtr.limit = 0;
    put(TEST_CODE, "\x0f\x0b", 2);
    assert_int_equal(soft_run(CPU), VCPU_EXIT_SHUTDOWN);
    assert_int_equal(CPU->mp_state, CPU_SHUTDOWN);
}

static void tf_traps_after_each_instruction(void **state)
{
    /* pushf; or byte [bp+1], 1; popf: the trap comes after the next instruction, with BS. */
    assert_int_equal(RUN(0x9c, 0x89, 0xe5, 0x80, 0x4e, 0x01, 0x01, 0x9d, /* TF set */
                         0x40, 0x40,                                     /* two traps */
                         0x9c, 0x89, 0xe5, 0x80, 0x66, 0x01, 0xfe, 0x9d, /* four, TF clear */
                         0x40),
                     VCPU_EXIT_DEBUG);
    assert_int_equal(R(RAX), 3);
    assert_int_equal(R(RBX), 6);
    assert_true(CPU->dr6 & 1U << 14);
}

static void btf_steps_over_all_but_branches_once(void **state)
{
    CPU->msrs.debugctl = DEBUGCTL_BTF;
    assert_int_equal(RUN(0x9c, 0x89, 0xe5, 0x80, 0x4e, 0x01, 0x01, 0x9d, /* TF set */
                         0x40, 0x40, 0x74, 0x10,       /* jz is not taken: no trap */
                         0xb9, 0x03, 0x00, 0xf3, 0xac, /* mov cx, 3; rep lodsb: no trap */
                         0xeb, 0x01, 0x40,             /* jmp over inc ax: the one trap */
                         0x9c, 0x89, 0xe5, 0x80, 0x66, 0x01, 0xfe, 0x9d), /* BTF is clear: four */
                     VCPU_EXIT_DEBUG);
    assert_int_equal(R(RBX), 5);
    assert_int_equal(CPU->msrs.debugctl, 0);
}

static void mov_ss_holds_the_trap_off(void **state)
{
    assert_int_equal(RUN(0x9c, 0x89, 0xe5, 0x80, 0x4e, 0x01, 0x01, 0x31, 0xc0, 0x9d, /* TF set */
                         0x8e, 0xd0,                                      /* mov ss, ax: no trap */
                         0x40,                                            /* one trap for both */
                         0x9c, 0x89, 0xe5, 0x80, 0x66, 0x01, 0xfe, 0x9d), /* four */
                     VCPU_EXIT_DEBUG);
    assert_int_equal(R(RBX), 5);
}

static void an_nmi_is_masked_until_iret(void **state)
{
    /* Its handler asks for another in vain, until IRET. */
    soft_request(CPU, SOFT_REQUEST_NMI);
    set_handler(EXC_NMI, "\x80\xc3\x01\x90\xcf", 5);
    assert_int_equal(RUN(0x40, 0x40), VCPU_EXIT_DEBUG);
    assert_int_equal(R(RBX), 1);
    assert_int_equal(R(RAX), 2);
    assert_false(CPU->nmi_masked);
}

/* Sends NMIs until `*opaque`: one that comes before HLT is no reason to leave it. */
static void *send_nmis(void *opaque)
{
    atomic_bool *over = opaque;

    while (!atomic_load(over)) {
        usleep(1000);
        soft_request(CPU, SOFT_REQUEST_NMI);
    }
    return NULL;
}

static void hlt_waits_for_an_nmi_and_goes_on_behind_it(void **state)
{
    atomic_bool over = false;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, send_nmis, &over), 0);
    assert_int_equal(RUN(0xf4, 0x40), VCPU_EXIT_DEBUG); /* hlt; inc ax */
    atomic_store(&over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(R(RAX), 1);
    assert_true(R(RBX) >= 1);
    assert_int_equal(CPU->mp_state, CPU_RUNNABLE);
}

static void an_instruction_breakpoint_faults_before(void **state)
{
    CPU->dr[0] = TEST_CODE + 1;
    CPU->dr7 = 0x402;
    soft_update_debug(CPU);
    /* The handler takes the breakpoint away: xor ecx, ecx; mov dr7, ecx. */
    set_handler(EXC_DB, "\x80\xc3\x01\x66\x31\xc9\x0f\x23\xf9\xcf", 10);
    assert_int_equal(RUN(0x40, 0x40, 0x40), VCPU_EXIT_DEBUG);
    assert_int_equal(R(RAX), 3);
    assert_int_equal(R(RBX), 1);
    assert_true(CPU->dr6 & 1);
    assert_int_equal(CPU->break_code, 0);
}

static void code_written_by_its_own_block_is_fetched_again(void **state)
{
    assert_int_equal(RUN(0x2e, 0xc6, 0x06, 0x07, 0x00, 0x09, /* mov byte [cs:7], 9 */
                         0xb0, 0x05),                        /* mov al, 5 */
                     VCPU_EXIT_DEBUG);
    assert_int_equal(R(RAX), 9);
    /* Without a debugger the block runs as a whole. */
    soft_machine_reset(&machine, 2);
    CPU->debug.breakpoints = 0;
    put(TEST_CODE,
        "\x2e\xc6\x06\x0c\x00\x09" /* mov byte [cs:12], 9 */
        "\x2e\xfe\x06\x0c\x00"     /* inc byte [cs:12] */
        "\xb0\x05"                 /* mov al, 5 */
        "\xf7\xf6",                /* div si: its handler never returns */
        15);
    set_handler(EXC_DE, "\x0f\x20\xc1\x0f\x0b", 5); /* mov ecx, cr0; ud2 */
    CPU->idtr.limit = 3;
    assert_int_equal(soft_run(CPU), VCPU_EXIT_SHUTDOWN);
    assert_int_equal((uint8_t)R(RAX), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_debugger_stops_at_its_breakpoint, reset),
        cmocka_unit_test_setup(a_debugger_steps_one_instruction, reset),
        cmocka_unit_test_setup(a_kick_leaves_at_once, reset),
        cmocka_unit_test_setup(a_fault_returns_to_its_instruction, reset),
        cmocka_unit_test_setup(a_software_interrupt_returns_behind_it, reset),
        cmocka_unit_test_setup(a_triple_fault_shuts_down, reset),
        cmocka_unit_test_setup(tf_traps_after_each_instruction, reset),
        cmocka_unit_test_setup(btf_steps_over_all_but_branches_once, reset),
        cmocka_unit_test_setup(mov_ss_holds_the_trap_off, reset),
        cmocka_unit_test_setup(an_nmi_is_masked_until_iret, reset),
        cmocka_unit_test_setup(hlt_waits_for_an_nmi_and_goes_on_behind_it, reset),
        cmocka_unit_test_setup(an_instruction_breakpoint_faults_before, reset),
        cmocka_unit_test_setup(code_written_by_its_own_block_is_fetched_again, reset),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
