// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a machine and its board, on an engine whose vCPUs execute no code: each does what the
 * test tells it to (an access to a port, an exit), then waits for a kick, as in HLT.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
// cmocka wants the four above
#include <cmocka.h>

#include "vmm/machine/machine_stream.h"
#include "vmm/machine/pc/layout.h"

/* ---- the engine ---- */

struct vcpu {
    struct engine *engine;
    unsigned index;
    GMutex lock;
    GCond wake;
    bool kicked, running;
    /* What the vCPU does next, on its thread; NULL: wait. */
    enum vcpu_exit (*act)(struct engine *engine);
    unsigned acts;
    struct cpu_state state;
};

struct engine {
    struct engine_config config;
    struct cpu_definition cpu;
    struct vcpu *vcpus[4];
    bool extint;
    unsigned messages;
};

static struct engine *the_engine;

static struct engine *fake_create(const struct engine_config *config, GError **error)
{
    struct engine *engine = g_new0(struct engine, 1);
    engine->config = *config;
    g_strlcpy(engine->cpu.name, "fake-1", sizeof(engine->cpu.name));
    the_engine = engine;
    return engine;
}

static void fake_destroy(struct engine *engine)
{
    g_free(engine);
}

static const struct cpu_definition *fake_cpu(const struct engine *engine)
{
    return &engine->cpu;
}

static struct vcpu *fake_vcpu_create(struct engine *engine, unsigned index, GError **error)
{
    struct vcpu *vcpu = g_new0(struct vcpu, 1);
    vcpu->engine = engine;
    vcpu->index = index;
    g_mutex_init(&vcpu->lock);
    g_cond_init(&vcpu->wake);
    cpu_state_reset(&vcpu->state, index == 0, index, 0x600);
    engine->vcpus[index] = vcpu;
    return vcpu;
}

static void fake_vcpu_destroy(struct vcpu *vcpu)
{
    g_mutex_clear(&vcpu->lock);
    g_cond_clear(&vcpu->wake);
    g_free(vcpu);
}

static enum vcpu_exit fake_run(struct vcpu *vcpu)
{
    enum vcpu_exit exit = VCPU_EXIT_KICKED;

    g_mutex_lock(&vcpu->lock);
    vcpu->running = true;
    while (!vcpu->kicked && !vcpu->act)
        g_cond_wait(&vcpu->wake, &vcpu->lock);
    if (!vcpu->kicked) {
        enum vcpu_exit (*act)(struct engine *) = vcpu->act;
        vcpu->act = NULL;
        vcpu->acts++;
        g_mutex_unlock(&vcpu->lock);
        exit = act(vcpu->engine);
        g_mutex_lock(&vcpu->lock);
    }
    vcpu->kicked = false;
    vcpu->running = false;
    g_mutex_unlock(&vcpu->lock);
    return exit;
}

static void fake_kick(struct vcpu *vcpu)
{
    g_mutex_lock(&vcpu->lock);
    vcpu->kicked = true;
    g_cond_signal(&vcpu->wake);
    g_mutex_unlock(&vcpu->lock);
}

static const char *fake_error(struct vcpu *vcpu)
{
    return "the engine broke";
}

static void fake_get_state(struct vcpu *vcpu, struct cpu_state *state)
{
    assert_false(vcpu->running);
    *state = vcpu->state;
}

static bool fake_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    assert_false(vcpu->running);
    vcpu->state = *state;
    return true;
}

static void fake_msi(struct engine *engine, uint64_t address, uint32_t data)
{
    engine->messages++;
}

static void fake_extint(struct engine *engine, bool level)
{
    engine->extint = level;
}

static const struct engine_ops fake_engine = {
    .name = "fake",
    .create = fake_create,
    .destroy = fake_destroy,
    .cpu = fake_cpu,
    .vcpu_create = fake_vcpu_create,
    .vcpu_destroy = fake_vcpu_destroy,
    .vcpu_run = fake_run,
    .vcpu_kick = fake_kick,
    .vcpu_error = fake_error,
    .vcpu_get_state = fake_get_state,
    .vcpu_set_state = fake_set_state,
    .msi = fake_msi,
    .set_extint = fake_extint,
};

/* ---- the bench ---- */

struct bench {
    struct machine_config config;
    struct machine *machine;
    unsigned changes, restarts, ends;
    enum machine_state state;
    enum machine_end end;
    int status;
    char *reason;
};

static void on_changed(void *opaque, enum machine_state state, const char *reason)
{
    struct bench *bench = opaque;
    bench->changes++;
    bench->state = state;
}

static void on_restarted(void *opaque, const char *reason)
{
    ((struct bench *)opaque)->restarts++;
}

static void on_ended(void *opaque, enum machine_end end, int status, const char *reason)
{
    struct bench *bench = opaque;
    bench->ends++;
    bench->end = end;
    bench->status = status;
    g_free(bench->reason);
    bench->reason = g_strdup(reason);
}

/* A multiboot kernel by address fields: a header and its code, at 1 MiB. */
static int kernel_of(const void *code, size_t size)
{
    const uint32_t flags = 1U << 16, base = 0x100000;
    const uint32_t header[] = {0x1BADB002, flags,    -(0x1BADB002 + flags), base, base, 0,
                               0,          base + 32};
    int fd = memfd_create("kernel", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, header, sizeof(header)), sizeof(header));
    assert_int_equal(write(fd, code, size), size);
    return fd;
}

static int tiny_kernel(void)
{
    return kernel_of("\xF4\xF4\xF4\xF4", 4);
}

static int bench_setup(void **state)
{
    struct bench *bench = g_new0(struct bench, 1);

    bench->config = (struct machine_config){
        .name = "test",
        .engine = &fake_engine,
        .cpu_model = "default",
        .cpus = 2,
        .memory_size = 16 << 20,
        .kernel = {.fd = tiny_kernel(), .name = "tiny"},
        .initrd = {.fd = -1},
        .debug_exit = true,
        .pvpanic = true,
        .listener = {on_changed, on_restarted, on_ended, bench},
    };
    *state = bench;
    return 0;
}

static int bench_teardown(void **state)
{
    struct bench *bench = *state;

    machine_destroy(bench->machine);
    close(bench->config.kernel.fd);
    g_free(bench->reason);
    g_free(bench);
    return 0;
}

static void make(struct bench *bench)
{
    GError *error = NULL;

    bench->machine = machine_create(&bench->config, &error);
    if (error)
        fail_msg("%s", error->message);
    assert_non_null(bench->machine);
}

/* Have a vCPU do something. */
static void act(unsigned cpu, enum vcpu_exit (*what)(struct engine *engine))
{
    struct vcpu *vcpu = the_engine->vcpus[cpu];

    g_mutex_lock(&vcpu->lock);
    vcpu->act = what;
    g_cond_signal(&vcpu->wake);
    g_mutex_unlock(&vcpu->lock);
}

/* Serve the control thread's context until `*counter` is `wanted`. */
static void serve_until(const unsigned *counter, unsigned wanted)
{
    while (*counter != wanted)
        g_main_context_iteration(NULL, TRUE);
}

static enum vcpu_exit write_reset(struct engine *engine)
{
    engine->config.exits->pio_write(engine->config.opaque, PC_PORT_RESET, 1, 0x06);
    return VCPU_EXIT_KICKED;
}

static enum vcpu_exit write_power_off(struct engine *engine)
{
    engine->config.exits->pio_write(engine->config.opaque, PC_PORT_ACPI_PM + 4, 2,
                                    PC_SLP_TYP_S5 << 10 | 1 << 13);
    return VCPU_EXIT_KICKED;
}

static enum vcpu_exit write_debug_exit(struct engine *engine)
{
    engine->config.exits->pio_write(engine->config.opaque, PC_PORT_DEBUG_EXIT, 4, 21);
    return VCPU_EXIT_KICKED;
}

static enum vcpu_exit write_panic(struct engine *engine)
{
    engine->config.exits->pio_write(engine->config.opaque, PC_PORT_PVPANIC, 1, 1);
    return VCPU_EXIT_KICKED;
}

static enum vcpu_exit triple_fault(struct engine *engine)
{
    return VCPU_EXIT_SHUTDOWN;
}

static enum vcpu_exit engine_error(struct engine *engine)
{
    return VCPU_EXIT_ERROR;
}

static enum vcpu_exit meet_breakpoint(struct engine *engine)
{
    return VCPU_EXIT_DEBUG;
}

static bool cpus_are_parked(void)
{
    bool parked = true;
    for (unsigned i = 0; i < 2; i++) {
        g_mutex_lock(&the_engine->vcpus[i]->lock);
        parked = parked && !the_engine->vcpus[i]->running;
        g_mutex_unlock(&the_engine->vcpus[i]->lock);
    }
    return parked;
}

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

/* ---- the board ---- */

static uint32_t port_in(uint16_t port, unsigned size)
{
    return the_engine->config.exits->pio_read(the_engine->config.opaque, port, size);
}

static void port_out(uint16_t port, unsigned size, uint32_t value)
{
    the_engine->config.exits->pio_write(the_engine->config.opaque, port, size, value);
}

static void the_board_has_its_bridges(void **state)
{
    struct bench *bench = *state;

    make(bench);
    port_out(0xCF8, 4, 0x80000000);
    assert_int_equal(port_in(0xCFC, 4), 0x29C08086);
    port_out(0xCF8, 4, 0x80000000 | 0x1F << 11);
    assert_int_equal(port_in(0xCFC, 4), 0x29188086);
    for (unsigned i = 0; i < PC_ROOT_PORTS; i++) {
        uint32_t address = 0x80000000 | (PC_PCI_ROOT_PORTS + i / 4) << 11 | (i % 4) << 8;
        port_out(0xCF8, 4, address | 0x18);
        assert_int_equal(port_in(0xCFC, 4), (i + 1) << 16 | (i + 1) << 8);
    }
}

static void the_reset_register_is_not_the_address_latch(void **state)
{
    struct bench *bench = *state;

    make(bench);
    port_out(0xCF8, 4, 0x80000000);
    port_out(PC_PORT_RESET, 1, 0x02);
    assert_int_equal(port_in(0xCF8, 4), 0x80000000);
    assert_int_equal(port_in(PC_PORT_RESET, 1), 0x02);
}

static void the_timer_interrupts_through_the_8259_pair(void **state)
{
    struct bench *bench = *state;

    make(bench);
    port_out(0x20, 1, 0x11);
    port_out(0x21, 1, 0x30);
    port_out(0x21, 1, 0x04);
    port_out(0x21, 1, 0x01);
    port_out(0x21, 1, 0xFE);
    port_out(0x43, 1, 0x34);
    port_out(0x40, 1, 0x00);
    port_out(0x40, 1, 0x10);
    machine_resume(bench->machine);
    for (unsigned i = 0; i < 1000 && !the_engine->extint; i++)
        g_usleep(1000);
    assert_true(the_engine->extint);
    assert_int_equal(the_engine->config.exits->extint_acknowledge(the_engine->config.opaque), 0x30);
}

static void ram_leaves_the_video_hole(void **state)
{
    struct bench *bench = *state;

    make(bench);
    struct memory *memory = machine_memory(bench->machine);
    assert_non_null(memory_find(memory, PC_VGA_HOLE_BASE - 1));
    assert_null(memory_find(memory, PC_VGA_HOLE_BASE));
    assert_non_null(memory_find(memory, PC_VGA_HOLE_BASE + PC_VGA_HOLE_SIZE));
    assert_non_null(memory_find(memory, (16 << 20) - 1));
    assert_null(memory_find(memory, 16 << 20));
}

static void ram_above_3_gib_goes_on_at_4_gib(void **state)
{
    struct bench *bench = *state;

    bench->config.memory_size = 5ULL << 30;
    make(bench);
    struct memory *memory = machine_memory(bench->machine);
    assert_non_null(memory_find(memory, PC_LOW_RAM_END - 1));
    assert_null(memory_find(memory, PC_LOW_RAM_END));
    assert_non_null(memory_find(memory, PC_HIGH_RAM_BASE + (2ULL << 30) - 1));
    assert_null(memory_find(memory, PC_HIGH_RAM_BASE + (2ULL << 30)));
}

static void the_tables_are_where_a_kernel_searches(void **state)
{
    struct bench *bench = *state;
    char signature[8];

    make(bench);
    assert_true(memory_read(machine_memory(bench->machine), PC_ACPI_RSDP, signature, 8));
    assert_memory_equal(signature, "RSD PTR ", 8);
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

/* ---- streams ---- */

static struct machine *load_from(struct bench *bench, int fd, GError **error)
{
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct stream_reader *reader = stream_reader_create(fd, error);
    if (!reader)
        return NULL;
    bench->config.incoming = true;
    struct machine *machine = machine_create(&bench->config, error);
    assert_non_null(machine);
    if (!machine_load(machine, reader, error))
        g_clear_pointer(&machine, machine_destroy);
    stream_reader_destroy(reader);
    return machine;
}

static void a_machine_goes_on_from_a_stream(void **state)
{
    struct bench *bench = *state;
    int fd = memfd_create("stream", MFD_CLOEXEC), again = memfd_create("again", MFD_CLOEXEC);
    uint64_t mark = 0x1122334455667788;
    GError *error = NULL;

    make(bench);
    machine_resume(bench->machine);
    g_usleep(2000);
    assert_false(machine_save(bench->machine, fd, "{}", NULL));
    machine_pause(bench->machine);
    int64_t then = clock_now(machine_clock(bench->machine));
    assert_true(memory_write(machine_memory(bench->machine), 0x654320, &mark, 8));
    the_engine->vcpus[1]->state.gpr[GPR_RBX] = 77;
    port_out(0xCF8, 4, 0x80001234);
    assert_true(machine_save(bench->machine, fd, "{}", NULL));
    machine_destroy(bench->machine);

    bench->machine = load_from(bench, fd, &error);
    if (error)
        fail_msg("%s", error->message);
    mark = 0;
    assert_true(memory_read(machine_memory(bench->machine), 0x654320, &mark, 8));
    assert_int_equal(mark, 0x1122334455667788);
    assert_int_equal(the_engine->vcpus[1]->state.gpr[GPR_RBX], 77);
    assert_int_equal(the_engine->vcpus[0]->state.rip, 0x100020);
    assert_int_equal(port_in(0xCF8, 4), 0x80001234);
    assert_int_equal(clock_now(machine_clock(bench->machine)), then);

    /* The same machine gives the same bytes. */
    assert_true(machine_save(bench->machine, again, "{}", NULL));
    off_t size = lseek(fd, 0, SEEK_END);
    assert_int_equal(lseek(again, 0, SEEK_END), size);
    void *one = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    void *two = mmap(NULL, size, PROT_READ, MAP_SHARED, again, 0);
    assert_memory_equal(one, two, size);
    munmap(one, size);
    munmap(two, size);
    close(fd);
    close(again);
    assert_true(machine_resume(bench->machine));
}

static void a_stream_of_another_board_is_refused(void **state)
{
    struct bench *bench = *state;
    int fd = memfd_create("stream", MFD_CLOEXEC);
    g_autoptr(GError) error = NULL;

    make(bench);
    assert_true(machine_save(bench->machine, fd, "{}", NULL));
    g_clear_pointer(&bench->machine, machine_destroy);
    bench->config.cpus = 3;
    assert_null(load_from(bench, fd, &error));
    assert_non_null(strstr(error->message, "2 of 3 vCPUs"));
    g_clear_error(&error);
    bench->config.cpus = 2;
    bench->config.testdev = true;
    assert_null(load_from(bench, fd, &error));
    assert_non_null(strstr(error->message, "devices"));
    close(fd);
}

/* ---- the engine that executes code ---- */

static void boot_soft(struct bench *bench, const void *code, size_t size)
{
    const char *why;

    bench->config.engine = engine_find("soft", &why, NULL);
    assert_non_null(bench->config.engine);
    bench->config.cpus = 1;
    close(bench->config.kernel.fd);
    bench->config.kernel.fd = kernel_of(code, size);
    make(bench);
}

static void code_reaches_a_device_and_ends(void **state)
{
    struct bench *bench = *state;
    /* mov eax, 21; out 0xf4, eax */
    static const uint8_t code[] = {0xB8, 21, 0, 0, 0, 0xE7, 0xF4, 0xF4};

    boot_soft(bench, code, sizeof(code));
    machine_resume(bench->machine);
    serve_until(&bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_EXIT);
    assert_int_equal(bench->status, 43);
}

static void code_is_parked_at_an_instructions_boundary(void **state)
{
    struct bench *bench = *state;
    /* loop: inc ebx; mov ecx, ebx; jmp loop */
    static const uint8_t code[] = {0x43, 0x89, 0xD9, 0xEB, 0xFB};
    g_autofree struct cpu_state *cpu = g_new0(struct cpu_state, 1);

    boot_soft(bench, code, sizeof(code));
    for (unsigned i = 0; i < 20; i++) {
        machine_resume(bench->machine);
        g_usleep(500);
        machine_pause(bench->machine);
        machine_engine(bench->machine)->vcpu_get_state(machine_vcpu(bench->machine, 0), cpu);
        uint32_t ahead = (uint32_t)(cpu->gpr[GPR_RBX] - cpu->gpr[GPR_RCX]);
        if (cpu->rip == 0x100021)
            assert_int_equal(ahead, 1);
        else if (cpu->rip == 0x100023)
            assert_int_equal(ahead, 0);
        else
            assert_int_equal(cpu->rip, 0x100020);
    }
    assert_true(cpu->gpr[GPR_RBX] > 1000);
}

static void a_triple_fault_of_code_is_a_crash(void **state)
{
    struct bench *bench = *state;
    /* lidt [empty]; int3 */
    static const uint8_t code[] = {0x0F, 0x01, 0x1D, 0x28, 0x00, 0x10, 0x00,
                                   0xCC, 0,    0,    0,    0,    0,    0};

    boot_soft(bench, code, sizeof(code));
    machine_resume(bench->machine);
    serve_until(&bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_CRASH);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

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
        SCENARIO(a_triple_fault_ends_under_on_crash_exit),
        SCENARIO(a_crash_pauses_for_good_under_on_crash_pause),
        SCENARIO(a_crash_restarts_under_on_crash_restart),
        SCENARIO(a_breakpoint_pauses_and_tells_the_debugger),
        SCENARIO(the_board_has_its_bridges),
        SCENARIO(the_reset_register_is_not_the_address_latch),
        SCENARIO(the_timer_interrupts_through_the_8259_pair),
        SCENARIO(ram_leaves_the_video_hole),
        SCENARIO(ram_above_3_gib_goes_on_at_4_gib),
        SCENARIO(the_tables_are_where_a_kernel_searches),
        SCENARIO(wrong_configurations_are_refused),
        SCENARIO(a_machine_goes_on_from_a_stream),
        SCENARIO(a_stream_of_another_board_is_refused),
        SCENARIO(code_reaches_a_device_and_ends),
        SCENARIO(code_is_parked_at_an_instructions_boundary),
        SCENARIO(a_triple_fault_of_code_is_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
