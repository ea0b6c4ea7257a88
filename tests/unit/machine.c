// SPDX-License-Identifier: Apache-2.0
/* The life of a machine: paused, running, reset, crashed, ended. */
#include "tests/unit/machine_bench.h"

/* ---- life ---- */

static void a_new_machine_is_paused_at_the_kernels_entry(void **state)
{
    struct bench *bench = *state;
    struct machine_status status;

    make(bench);
    machine_query(bench->machine, &status);
    assert_int_equal(status.state, MACHINE_PAUSED);
    assert_int_equal(status.clock_ns, 0);
    assert_int_equal(the_engine->vcpus[0]->state.rip, 0x100020);
    assert_int_equal(the_engine->vcpus[0]->state.gpr[GPR_RAX], 0x2BADB002);
    assert_int_equal(the_engine->vcpus[1]->state.mp_state, CPU_WAIT_FOR_SIPI);
    assert_true(cpus_are_parked());
}

static void pause_parks_and_stops_time(void **state)
{
    struct bench *bench = *state;

    make(bench);
    for (unsigned i = 0; i < 50; i++) {
        assert_true(machine_resume(bench->machine));
        assert_true(clock_is_running(machine_clock(bench->machine)));
        machine_pause(bench->machine);
        assert_true(cpus_are_parked());
        int64_t then = clock_now(machine_clock(bench->machine));
        assert_int_equal(clock_now(machine_clock(bench->machine)), then);
    }
    machine_pause(bench->machine);
    assert_int_equal(bench->changes, 100);
    assert_int_equal(bench->state, MACHINE_PAUSED);
}

static void stop_ends_once(void **state)
{
    struct bench *bench = *state;

    make(bench);
    machine_resume(bench->machine);
    machine_stop(bench->machine);
    machine_stop(bench->machine);
    assert_int_equal(bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_STOPPED);
    assert_false(machine_resume(bench->machine));
}

static void a_power_off_ends_the_machine(void **state)
{
    struct bench *bench = *state;

    make(bench);
    machine_resume(bench->machine);
    act(0, write_power_off);
    serve_until(&bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_POWER_OFF);
    assert_true(cpus_are_parked());
}

static void the_debug_exit_port_ends_with_its_status(void **state)
{
    struct bench *bench = *state;

    make(bench);
    machine_resume(bench->machine);
    act(1, write_debug_exit);
    serve_until(&bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_EXIT);
    assert_int_equal(bench->status, 43);
}

static void an_engine_failure_ends_with_its_reason(void **state)
{
    struct bench *bench = *state;

    make(bench);
    machine_resume(bench->machine);
    act(0, engine_error);
    serve_until(&bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_FAILED);
    assert_string_equal(bench->reason, "the engine broke");
}

/* ---- reset ---- */

static void a_reset_starts_the_kernel_again(void **state)
{
    struct bench *bench = *state;
    struct machine_status status;
    uint32_t zero = 0, loaded;

    make(bench);
    the_engine->vcpus[0]->state.rip = 0;
    assert_true(memory_write(machine_memory(bench->machine), 0x100020, &zero, 4));
    machine_resume(bench->machine);
    act(0, write_reset);
    serve_until(&bench->restarts, 1);
    machine_query(bench->machine, &status);
    assert_int_equal(status.state, MACHINE_RUNNING);
    machine_pause(bench->machine);
    assert_int_equal(the_engine->vcpus[0]->state.rip, 0x100020);
    assert_true(memory_read(machine_memory(bench->machine), 0x100020, &loaded, 4));
    assert_int_equal(loaded, 0xF4F4F4F4);
}

static void a_reset_ends_under_on_reboot_exit(void **state)
{
    struct bench *bench = *state;

    bench->config.on_reboot = MACHINE_REBOOT_EXIT;
    make(bench);
    machine_resume(bench->machine);
    act(0, write_reset);
    serve_until(&bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_POWER_OFF);
    assert_int_equal(bench->restarts, 0);
}

static void a_reset_from_outside_keeps_running(void **state)
{
    struct bench *bench = *state;
    struct machine_status status;

    make(bench);
    machine_resume(bench->machine);
    assert_true(machine_reset(bench->machine, "test", NULL));
    machine_query(bench->machine, &status);
    assert_int_equal(status.state, MACHINE_RUNNING);
    assert_int_equal(bench->restarts, 1);
}

static void a_reset_without_its_kernel_is_a_crash(void **state)
{
    struct bench *bench = *state;
    g_autoptr(GError) error = NULL;

    make(bench);
    machine_resume(bench->machine);
    assert_int_equal(ftruncate(bench->config.kernel.fd, 0), 0);
    assert_false(machine_reset(bench->machine, "test", &error));
    assert_non_null(error);
    assert_int_equal(bench->state, MACHINE_CRASHED);
    assert_true(cpus_are_parked());
    assert_false(machine_resume(bench->machine));
}

/* ---- crashes ---- */

static void a_triple_fault_ends_under_on_crash_exit(void **state)
{
    struct bench *bench = *state;

    make(bench);
    machine_resume(bench->machine);
    act(1, triple_fault);
    serve_until(&bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_CRASH);
    assert_string_equal(bench->reason, "triple fault");
}

static void a_crash_pauses_for_good_under_on_crash_pause(void **state)
{
    struct bench *bench = *state;

    bench->config.on_crash = MACHINE_CRASH_PAUSE;
    make(bench);
    machine_resume(bench->machine);
    act(0, write_panic);
    serve_until(&bench->changes, 2);
    assert_int_equal(bench->state, MACHINE_CRASHED);
    assert_true(cpus_are_parked());
    assert_false(machine_resume(bench->machine));
    assert_true(machine_reset(bench->machine, "test", NULL));
    assert_true(machine_resume(bench->machine));
}

static void a_crash_restarts_under_on_crash_restart(void **state)
{
    struct bench *bench = *state;

    bench->config.on_crash = MACHINE_CRASH_RESTART;
    make(bench);
    machine_resume(bench->machine);
    act(0, triple_fault);
    serve_until(&bench->restarts, 1);
    assert_int_equal(bench->ends, 0);
}

/* ---- the debugger ---- */

static void on_stopped(void *opaque, unsigned cpu)
{
    *(unsigned *)opaque = cpu + 100;
}

static void a_breakpoint_pauses_and_tells_the_debugger(void **state)
{
    struct bench *bench = *state;
    unsigned stopped = 0;

    make(bench);
    machine_set_debugger(bench->machine, on_stopped, &stopped);
    machine_resume(bench->machine);
    act(1, meet_breakpoint);
    serve_until(&stopped, 101);
    assert_int_equal(bench->state, MACHINE_PAUSED);
    assert_true(machine_resume(bench->machine));
}

/* ---- configuration ---- */

static void refuse(struct bench *bench, const char *word)
{
    g_autoptr(GError) error = NULL;

    assert_null(machine_create(&bench->config, &error));
    assert_non_null(error);
    if (!strstr(error->message, word))
        fail_msg("'%s' does not speak of '%s'", error->message, word);
    assert_int_equal(bench->ends, 0);
}

static void wrong_configurations_are_refused(void **state)
{
    struct bench *bench = *state;
    int kernel = bench->config.kernel.fd;

    bench->config.cpus = 0;
    refuse(bench, "cpus");
    bench->config.cpus = 2;
    bench->config.memory_size = 5000;
    refuse(bench, "memory");
    bench->config.memory_size = 600ULL << 30;
    refuse(bench, "memory");
    bench->config.memory_size = 16 << 20;
    bench->config.kernel.fd = -1;
    refuse(bench, "kernel");
    bench->config.kernel.fd = memfd_create("empty", MFD_CLOEXEC);
    refuse(bench, "tiny");
    close(bench->config.kernel.fd);
    bench->config.kernel.fd = kernel;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(a_new_machine_is_paused_at_the_kernels_entry),
        SCENARIO(pause_parks_and_stops_time),
        SCENARIO(stop_ends_once),
        SCENARIO(a_power_off_ends_the_machine),
        SCENARIO(the_debug_exit_port_ends_with_its_status),
        SCENARIO(an_engine_failure_ends_with_its_reason),
        SCENARIO(a_reset_starts_the_kernel_again),
        SCENARIO(a_reset_ends_under_on_reboot_exit),
        SCENARIO(a_reset_from_outside_keeps_running),
        SCENARIO(a_reset_without_its_kernel_is_a_crash),
        SCENARIO(a_triple_fault_ends_under_on_crash_exit),
        SCENARIO(a_crash_pauses_for_good_under_on_crash_pause),
        SCENARIO(a_crash_restarts_under_on_crash_restart),
        SCENARIO(a_breakpoint_pauses_and_tells_the_debugger),
        SCENARIO(wrong_configurations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
