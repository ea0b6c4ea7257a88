// SPDX-License-Identifier: Apache-2.0
/* One guest over the same memory that goes on from engine to engine: soft, kvm, soft, kvm. Where
 * this host has no /dev/kvm, from one soft engine to another. */
#include "tests/unit/engine_fixture.h"

#include "vmm/engine/cpu_msr.h"

#define ENGINES 2

/* The fixture's memory and clock belong to both. */
static struct side {
    const struct engine_ops *ops;
    struct engine *engine;
    struct vcpu *vcpu;
} sides[ENGINES];

static void side_create(struct side *side, const struct engine_ops *side_ops,
                        const struct cpu_definition *cpu)
{
    struct engine_config config = {.exits = &exits,
                                   .memory = fixture.memory,
                                   .clock = fixture.clock,
                                   .cpus = 1,
                                   .cpu_model = "default",
                                   .cpu = cpu,
                                   .kvm_fd = kvm_fd};
    GError *error = NULL;

    side->ops = side_ops;
    side->engine = side_ops->create(&config, &error);
    if (side->engine)
        side->vcpu = side_ops->vcpu_create(side->engine, 0, &error);
    if (!side->vcpu)
        fail_msg("%s: %s", side_ops->name, error->message);
}

static void use(const struct side *side)
{
    ops = side->ops;
    fixture.engine = side->engine;
    fixture.vcpu = side->vcpu;
}

static int setup_sides(void **state)
{
    memset(&fixture, 0, sizeof(fixture));
    memset(sides, 0, sizeof(sides));
    fixture.memory = memory_create();
    test_memory_add(fixture.memory, MEMORY_RAM, 0, RAM_SIZE);
    fixture.clock = clock_create(NULL);
    side_create(&sides[0], kvm_fd >= 0 ? engines[1] : engines[0], NULL);
    side_create(&sides[1], engines[0], sides[0].ops->cpu(sides[0].engine));
    use(&sides[0]);
    return 0;
}

static int teardown_sides(void **state)
{
    for (unsigned i = 0; i < ENGINES; i++) {
        if (sides[i].vcpu)
            sides[i].ops->vcpu_destroy(sides[i].vcpu);
        if (sides[i].engine)
            sides[i].ops->destroy(sides[i].engine);
    }
    clock_destroy(fixture.clock);
    memory_destroy(fixture.memory);
    return 0;
}

/* Stop time, take the state from the engine in use, and go on with it on the other. */
static void switch_sides(void)
{
    struct cpu_state state;
    const struct side *next =
        ops == sides[0].ops && fixture.vcpu == sides[0].vcpu ? &sides[1] : &sides[0];

    clock_pause(fixture.clock);
    ops->vcpu_get_state(fixture.vcpu, &state);
    use(next);
    set(&state);
    clock_resume(fixture.clock);
}

static bool counts_freely(void)
{
    return get().tsc < 100000 * clock_tsc_khz(fixture.clock);
}

static void a_program_goes_on(void **state)
{
    uint32_t count;

    /* again: inc dword [5000h]; inc ecx; kick; jmp again */
    clock_resume(fixture.clock);
    FLAT(0xff, 0x05, 0x00, 0x50, 0x00, 0x00, 0x41, OUT_KICK, 0xeb, 0xf5);
    for (unsigned round = 1; round <= 8; round++) {
        run_until_kicked();
        assert_true(memory_read(fixture.memory, 0x5000, &count, sizeof(count)));
        assert_int_equal(count, round);
        assert_int_equal(get().gpr[GPR_RCX], round);
        switch_sides();
    }
}

/* Registers of every kind come through both ways. */
static void all_state_comes_through(void **state)
{
    struct cpu_state before, after;

    clock_resume(fixture.clock);
    FLAT(OUT_KICK, HLT);
    before = get();
    for (unsigned i = 0; i < GPR_COUNT; i++)
        before.gpr[i] = 0x123456789abcdefUL * (i + 1);
    for (unsigned i = 0; i < 16; i++)
        memset(before.vector[i], 0x10 + i, 16);
    memset(before.x87.registers[3], 0x3f, 10);
    before.x87.tag = 8;
    before.x87.control = 0x27f;
    before.mxcsr = 0x1fa0;
    before.cr2 = 0xdead000;
    before.dr[0] = 0x1234;
    before.dr6 = 0xffff0ff1;
    before.interrupt_shadow = 1;
    before.nmi_masked = true;
    before.segments[SEG_FS].base = 0x12345000;
    before.msrs.lstar = 0xffffffff81000000;
    before.msrs.star = 0x23001000000000;
    before.msrs.kernel_gs_base = 0x7fff00000000;
    before.msrs.pat = 0x0006050401000607;
    before.msrs.mtrr_def_type = 0xc06;
    before.msrs.mtrr_base[2] = 0x80000006;
    before.lapic.svr = 0x1ff;
    before.lapic.lvt_timer = 0x10041;
    before.lapic.irr[3] = 4;
    before.lapic.tpr = 0x20;
    before.cr8 = 2;
    for (unsigned round = 0; round < 4; round++) {
        set(&before);
        switch_sides();
        after = get();
        assert_memory_equal(after.gpr, before.gpr, sizeof(before.gpr));
        assert_memory_equal(after.vector, before.vector, sizeof(before.vector));
        assert_memory_equal(&after.segments, &before.segments, sizeof(before.segments));
        assert_memory_equal(after.x87.registers[3], before.x87.registers[3], 10);
        assert_int_equal(after.x87.tag, before.x87.tag);
        assert_int_equal(after.x87.control, before.x87.control);
        assert_int_equal(after.mxcsr, before.mxcsr);
        assert_int_equal(after.cr2, before.cr2);
        assert_memory_equal(after.dr, before.dr, sizeof(before.dr));
        assert_int_equal(after.dr6, before.dr6);
        assert_int_equal(after.interrupt_shadow, 1);
        assert_true(after.nmi_masked);
        for (unsigned i = 0; i < cpu_msrs_count; i++) {
            if (cpu_msrs[i].offset >= 0 && *cpu_msr_field(&after.msrs, &cpu_msrs[i]) !=
                                               *cpu_msr_field(&before.msrs, &cpu_msrs[i]))
                fail_msg("MSR %x was %lx, is %lx", cpu_msrs[i].index,
                         *cpu_msr_field(&before.msrs, &cpu_msrs[i]),
                         *cpu_msr_field(&after.msrs, &cpu_msrs[i]));
        }
        assert_int_equal(after.lapic.svr, before.lapic.svr);
        assert_int_equal(after.lapic.lvt_timer, before.lapic.lvt_timer);
        assert_memory_equal(after.lapic.irr, before.lapic.irr, sizeof(before.lapic.irr));
        assert_int_equal(after.lapic.tpr, before.lapic.tpr);
        assert_int_equal(after.cr8, before.cr8);
        before = after;
    }
}

static void an_interrupt_that_waits_is_taken_on_the_other_side(void **state)
{
    install_handler(0x40, 'i');
    clock_resume(fixture.clock);
    REAL(OUT_KICK, 0xfb, HLT, HLT);
    struct cpu_state setup = get();
    setup.lapic.svr = 0x1ff;
    set(&setup);
    run_until_kicked();
    ops->msi(fixture.engine, 0xfee00000, 0x40);
    switch_sides();
    run_until_kicked();
    assert_string_equal(fixture.log, "i");
}

/* Armed here, it runs out there; time that stands still does not count. */
static void a_timer_runs_on_on_the_other_side(void **state)
{
    install_handler(0x40, 't');
    clock_resume(fixture.clock);
    REAL(OUT_KICK, 0xfb, HLT, HLT);
    struct cpu_state setup = get();
    setup.lapic.svr = 0x1ff;
    setup.lapic.lvt_timer = 0x40;
    setup.lapic.timer_divide = 0xb;
    setup.lapic.timer_initial = setup.lapic.timer_current = 500000000;
    int64_t begin = clock_now(fixture.clock);
    set(&setup);
    run_until_kicked();
    switch_sides();
    usleep(20000);
    assert_in_range(get().lapic.timer_current, 1, 500000000);
    run_until_kicked();
    assert_string_equal(fixture.log, "t");
    assert_true(clock_now(fixture.clock) - begin > 475000000);
}

static void the_counter_goes_on_and_never_back(void **state)
{
    uint64_t last = 0, khz;

    clock_resume(fixture.clock);
    if (!counts_freely()) {
        print_message("SKIP: this KVM cannot give a guest another counter than the host's\n");
        skip();
    }
    khz = clock_tsc_khz(fixture.clock);
    /* again: rdtsc; kick; jmp again */
    REAL(0x0f, 0x31, OUT_KICK, 0xeb, 0xfa);
    for (unsigned round = 0; round < 8; round++) {
        int64_t before = clock_now(fixture.clock);
        run_until_kicked();
        struct cpu_state now = get();
        uint64_t tsc = (now.gpr[GPR_RDX] & 0xffffffff) << 32 | (now.gpr[GPR_RAX] & 0xffffffff);
        if (last)
            assert_in_range(tsc, last, last + 2000 * khz);
        last = tsc;
        switch_sides();
        usleep(2000);
        assert_true(clock_now(fixture.clock) >= before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_program_goes_on, setup_sides, teardown_sides),
        cmocka_unit_test_setup_teardown(all_state_comes_through, setup_sides, teardown_sides),
        cmocka_unit_test_setup_teardown(an_interrupt_that_waits_is_taken_on_the_other_side,
                                        setup_sides, teardown_sides),
        cmocka_unit_test_setup_teardown(a_timer_runs_on_on_the_other_side, setup_sides,
                                        teardown_sides),
        cmocka_unit_test_setup_teardown(the_counter_goes_on_and_never_back, setup_sides,
                                        teardown_sides),
    };

    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (kvm_fd >= 0)
        close(kvm_fd);
    return failures;
}
