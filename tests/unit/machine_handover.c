// SPDX-License-Identifier: Apache-2.0
/* A machine that goes on in another over the same RAM, what is refused, and one that is being
 * saved. */
#include "tests/unit/machine_bench.h"
#include "vmm/util/fault.h"

#include <fcntl.h>

/* A bench whose machine is on the engine that executes code: loop: inc dword [0x200000]; jmp loop.
 */
static void boot_counter(struct bench *bench)
{
    static const uint8_t code[] = {0xFF, 0x05, 0x00, 0x00, 0x20, 0x00, 0xEB, 0xF8};
    const char *why;

    bench->config.engine = engine_find("soft", -1, &why, NULL);
    bench->config.cpus = 1;
    close(bench->config.kernel.fd);
    bench->config.kernel.fd = kernel_of(code, sizeof(code));
    make(bench);
}

static uint32_t counted(struct machine *machine)
{
    uint32_t count;

    assert_true(memory_read(machine_memory(machine), 0x200000, &count, sizeof(count)));
    return count;
}

static struct stream_reader *reader_of(int fd)
{
    GError *error = NULL;

    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct stream_reader *reader = stream_reader_create(fd, &error);
    if (error)
        fail_msg("%s", error->message);
    return reader;
}

/* One that is to go on from `old`, over its RAM or its own, as far as it can be made before. */
static struct machine *make_like(struct bench *bench, struct machine *old, bool takes_over)
{
    struct machine_config config = bench->config;
    int head = memfd_create("head", MFD_CLOEXEC);
    struct cpu_definition cpu;
    GError *error = NULL;

    assert_true(machine_save_head(old, head, "{}", NULL));
    struct stream_reader *reader = reader_of(head);
    assert_true(machine_load_head(reader, &cpu, NULL));
    stream_reader_destroy(reader);
    close(head);
    config.incoming = true;
    config.takes_over = takes_over;
    config.ram_fd = memory_file(machine_memory(old), 0);
    config.cpu = &cpu;
    struct machine *made = machine_create(&config, &error);
    if (error)
        fail_msg("%s", error->message);
    return made;
}

static struct machine *make_successor(struct bench *bench, struct machine *old)
{
    return make_like(bench, old, true);
}

static bool load(struct machine *machine, int fd, GError **error)
{
    struct stream_reader *reader = reader_of(fd);
    bool good = machine_load(machine, reader, NULL, error);

    stream_reader_destroy(reader);
    return good;
}

static void assert_load_refused(struct machine *machine, int fd, const char *phrase)
{
    g_autoptr(GError) error = NULL;

    assert_false(load(machine, fd, &error));
    if (!strstr(error->message, phrase))
        fail_msg("'%s' does not speak of '%s'", error->message, phrase);
}

static int save_handover(struct machine *machine)
{
    int fd = memfd_create("state", MFD_CLOEXEC);
    GError *error = NULL;

    machine_save_handover(machine, fd, "{}", NULL, &error);
    if (error)
        fail_msg("%s", error->message);
    return fd;
}

static void a_guest_goes_from_machine_to_machine(void **state)
{
    struct bench *bench = *state;
    uint32_t before = 0;

    boot_counter(bench);
    machine_resume(bench->machine);
    for (unsigned i = 0; i < 10; i++) {
        while (counted(bench->machine) <= before)
            g_usleep(200);
        struct machine *next = make_successor(bench, bench->machine);
        machine_pause(bench->machine);
        before = counted(bench->machine);
        int64_t then = clock_now(machine_clock(bench->machine));
        int fd = save_handover(bench->machine);
        assert_true(load(next, fd, NULL));
        close(fd);
        assert_int_equal(counted(next), before);
        assert_int_equal(clock_now(machine_clock(next)), then);
        machine_destroy(bench->machine);
        bench->machine = next;
        clock_skip(machine_clock(next), 5000000);
        assert_int_equal(clock_now(machine_clock(next)), then + 5000000);
        assert_true(machine_resume(next));
    }
}

static void the_one_before_goes_on_after_a_refusal(void **state)
{
    struct bench *bench = *state;
    int damaged = memfd_create("damaged", MFD_CLOEXEC);

    boot_counter(bench);
    machine_resume(bench->machine);
    while (counted(bench->machine) == 0)
        g_usleep(200);
    struct machine *next = make_successor(bench, bench->machine);
    machine_pause(bench->machine);
    int fd = save_handover(bench->machine);
    off_t size = lseek(fd, 0, SEEK_END);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    g_autofree uint8_t *bytes = g_malloc(size);
    assert_int_equal(read(fd, bytes, size), size);
    bytes[size - 40] ^= 1;
    assert_int_equal(write(damaged, bytes, size), size);
    uint32_t before = counted(bench->machine);
    assert_load_refused(next, damaged, "damaged");
    assert_false(machine_resume(next));
    machine_destroy(next);
    close(damaged);
    close(fd);
    assert_int_equal(counted(bench->machine), before);
    assert_true(machine_resume(bench->machine));
    while (counted(bench->machine) == before)
        g_usleep(200);
}

static void ram_is_in_the_stream_or_shared_not_both(void **state)
{
    struct bench *bench = *state;
    int whole = memfd_create("whole", MFD_CLOEXEC);

    boot_counter(bench);
    struct machine *next = make_successor(bench, bench->machine);
    uint32_t mark = 0x12345678;
    assert_true(memory_write(machine_memory(bench->machine), 0x200000, &mark, sizeof(mark)));
    assert_true(machine_save(bench->machine, whole, "{}", NULL));
    mark = 7;
    assert_true(memory_write(machine_memory(bench->machine), 0x200000, &mark, sizeof(mark)));
    assert_load_refused(next, whole, "RAM of its own");
    assert_int_equal(counted(bench->machine), 7);
    machine_destroy(next);

    next = make_like(bench, bench->machine, false);
    int shared = save_handover(bench->machine);
    assert_load_refused(next, shared, "another process held it");
    machine_destroy(next);
    close(whole);
    close(shared);
}

static void assert_ram_refused(struct bench *bench, int fd, const char *phrase)
{
    struct machine_config config = bench->config;
    g_autoptr(GError) error = NULL;

    config.incoming = config.takes_over = true;
    config.ram_fd = fd;
    assert_null(machine_create(&config, &error));
    if (!strstr(error->message, phrase))
        fail_msg("'%s' does not speak of '%s'", error->message, phrase);
}

static void ram_of_another_size_or_without_seals_is_refused(void **state)
{
    struct bench *bench = *state;
    int small = memory_memfd("small", bench->config.memory_size / 2, NULL);
    int loose = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_int_equal(ftruncate(loose, (off_t)bench->config.memory_size), 0);
    assert_ram_refused(bench, small, "size");
    assert_ram_refused(bench, loose, "sealed");
    assert_ram_refused(bench, -1, "size");
    close(small);
    close(loose);
}

static void a_state_of_other_processors_is_refused(void **state)
{
    struct bench *bench = *state;
    struct machine_config other;

    boot_counter(bench);
    int fd = memfd_create("whole", MFD_CLOEXEC);
    assert_true(machine_save(bench->machine, fd, "{}", NULL));
    other = bench->config;
    other.incoming = true;
    other.cpu_model = "x86-64-v1";
    struct machine *machine = machine_create(&other, NULL);
    assert_load_refused(machine, fd, "other processors");
    machine_destroy(machine);
    close(fd);
}

/* ---- saving in the background ---- */

static void *write_in_background(void *opaque)
{
    int *ends = opaque;
    static uint8_t buffer[4096];
    ssize_t got;
    size_t total = 0;

    while ((got = read(ends[0], buffer, sizeof(buffer))) > 0)
        total += got;
    return GSIZE_TO_POINTER(total);
}

static void a_machine_that_is_being_saved_stands_still(void **state)
{
    struct bench *bench = *state;
    g_autoptr(GError) error = NULL;
    int ends[2], file = memfd_create("file", MFD_CLOEXEC);

    boot_counter(bench);
    machine_resume(bench->machine);
    machine_pause(bench->machine);
    assert_true(machine_save(bench->machine, file, "{}", NULL));
    struct machine_saver *saver = machine_saver_create(bench->machine, "{}", NULL);
    assert_non_null(saver);
    assert_false(machine_resume(bench->machine));
    assert_false(machine_reset(bench->machine, "test", &error));
    assert_non_null(strstr(error->message, "being saved"));
    assert_int_equal(pipe(ends), 0);
    GThread *reader = g_thread_new("reader", write_in_background, ends);
    struct stream_progress progress = {0};
    assert_true(machine_saver_write(saver, ends[1], &progress, NULL));
    assert_true(progress.total > 0);
    assert_true(progress.done == progress.total);
    close(ends[1]);
    assert_int_equal(GPOINTER_TO_SIZE(g_thread_join(reader)), lseek(file, 0, SEEK_END));
    close(ends[0]);
    close(file);
    machine_saver_destroy(saver);
    assert_true(machine_resume(bench->machine));
}

static void a_save_that_is_cancelled_stops(void **state)
{
    struct bench *bench = *state;
    struct stream_progress progress = {.cancelled = true};
    int file = memfd_create("file", MFD_CLOEXEC);
    g_autoptr(GError) error = NULL;

    boot_counter(bench);
    machine_resume(bench->machine);
    machine_pause(bench->machine);
    struct machine_saver *saver = machine_saver_create(bench->machine, "{}", NULL);
    assert_non_null(saver);
    assert_false(machine_saver_write(saver, file, &progress, &error));
    assert_true(g_error_matches(error, VMM_ERROR, VMM_ERROR_CANCELLED));
    assert_int_equal(lseek(file, 0, SEEK_END), 0);
    close(file);
    machine_saver_destroy(saver);
    assert_true(machine_resume(bench->machine));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(a_guest_goes_from_machine_to_machine),
        SCENARIO(the_one_before_goes_on_after_a_refusal),
        SCENARIO(ram_is_in_the_stream_or_shared_not_both),
        SCENARIO(ram_of_another_size_or_without_seals_is_refused),
        SCENARIO(a_state_of_other_processors_is_refused),
        SCENARIO(a_machine_that_is_being_saved_stands_still),
        SCENARIO(a_save_that_is_cancelled_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
