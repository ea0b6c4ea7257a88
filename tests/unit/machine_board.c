// SPDX-License-Identifier: Apache-2.0
/* The board as the CPU sees it, the whole machine as a stream, and code that runs on it. */
#include "tests/unit/machine_bench.h"

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
    if (!machine_load(machine, reader, NULL, error))
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
    /* The RTC follows the host's time, paused or not: stop its updates. */
    port_out(0x70, 1, 0x0B);
    port_out(0x71, 1, 0x82);
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

static void a_power_off_that_waits_is_not_lost_to_a_stream(void **state)
{
    struct bench *bench = *state;
    int fd = memfd_create("stream", MFD_CLOEXEC);
    g_autoptr(GError) error = NULL;

    make(bench);
    machine_resume(bench->machine);
    act(0, write_power_off);
    while (acts_of(0) == 0)
        g_usleep(100);
    machine_pause(bench->machine);
    assert_false(machine_save(bench->machine, fd, "{}", &error));
    assert_non_null(strstr(error->message, "try again"));
    serve_until(&bench->ends, 1);
    assert_int_equal(bench->end, MACHINE_END_POWER_OFF);
    close(fd);
}

/* Copies a stream, with the first vCPU under another spelling of its number for the second. */
static enum stream_verdict copy_section(void *opaque, const struct stream_section *section,
                                        GError **error)
{
    const char *name = strcmp(section->name, "vcpu/1") ? section->name : "vcpu/00";
    gsize size;
    const void *data = g_bytes_get_data(section->content, &size);

    assert_true(stream_write(opaque, name, section->version, section->flags, data, size, error));
    return STREAM_TAKEN;
}

static void one_vcpu_under_two_names_is_refused(void **state)
{
    struct bench *bench = *state;
    int whole = memfd_create("whole", MFD_CLOEXEC), forged = memfd_create("forged", MFD_CLOEXEC);
    g_autoptr(GError) error = NULL;

    make(bench);
    assert_true(machine_save(bench->machine, whole, "{}", NULL));
    g_clear_pointer(&bench->machine, machine_destroy);
    assert_int_equal(lseek(whole, 0, SEEK_SET), 0);
    struct stream_reader *reader = stream_reader_create(whole, NULL);
    struct stream_writer *writer = stream_writer_create(forged, "{}", NULL);
    assert_true(stream_read(reader, copy_section, writer, NULL));
    assert_true(stream_writer_finish(writer, NULL));
    stream_reader_destroy(reader);
    stream_writer_destroy(writer);
    assert_null(load_from(bench, forged, &error));
    assert_non_null(strstr(error->message, "00"));
    close(whole);
    close(forged);
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

    bench->config.engine = engine_find("soft", -1, &why, NULL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(the_board_has_its_bridges),
        SCENARIO(the_reset_register_is_not_the_address_latch),
        SCENARIO(the_timer_interrupts_through_the_8259_pair),
        SCENARIO(ram_leaves_the_video_hole),
        SCENARIO(ram_above_3_gib_goes_on_at_4_gib),
        SCENARIO(the_tables_are_where_a_kernel_searches),
        SCENARIO(a_machine_goes_on_from_a_stream),
        SCENARIO(a_power_off_that_waits_is_not_lost_to_a_stream),
        SCENARIO(one_vcpu_under_two_names_is_refused),
        SCENARIO(a_stream_of_another_board_is_refused),
        SCENARIO(code_reaches_a_device_and_ends),
        SCENARIO(code_is_parked_at_an_instructions_boundary),
        SCENARIO(a_triple_fault_of_code_is_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
