// SPDX-License-Identifier: Apache-2.0
/* What devices have in common: creation that fails, state that is not there, guest errors. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/debug_exit.h"
#include "vmm/device/legacy/uart16550.h"
#include "vmm/util/fault.h"

static unsigned finished, logged;

static bool refuse(struct device *device, const void *config, GError **error)
{
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_FAILED, "broken: it always is");
    return false;
}

static void finish(struct device *device)
{
    finished++;
}

static const struct device_ops broken_ops = {
    .kind = "broken",
    .description = "a device that cannot be created",
    .size = sizeof(struct device),
    .init = refuse,
    .finish = finish,
};

static void a_device_that_fails_to_start_is_undone(void **state)
{
    struct bench *bench = bench_create();
    GError *error = NULL;

    assert_null(device_create(&broken_ops, "broken0", &bench->env, NULL, &error));
    assert_string_equal(error->message, "broken: it always is");
    assert_int_equal(finished, 1);
    g_error_free(error);
    device_destroy(NULL);
    bench_destroy(bench);
}

static void a_device_without_state_saves_nothing_and_loads_nothing(void **state)
{
    struct bench *bench = bench_create();
    struct device *device = bench_device(bench, &debug_exit_device);
    g_autoptr(GBytes) bytes = g_bytes_new("\xa0", 1);
    GError *error = NULL;

    assert_null(device_save(device));
    assert_false(device_load(device, bytes, &error));
    assert_non_null(strstr(error->message, "isa-debug-exit"));
    g_error_free(error);
    device_reset(device);
    device_destroy(device);
    bench_destroy(bench);
}

static void a_refused_load_names_the_device(void **state)
{
    struct bench *bench = bench_create();
    struct uart16550_config config;
    g_autoptr(GBytes) bytes = g_bytes_new("\xa0", 1);
    GError *error = NULL;

    uart16550_device.defaults(&bench->env, &config);
    struct device *uart = device_create(&uart16550_device, "serial7", &bench->env, &config, NULL);
    assert_false(device_load(uart, bytes, &error));
    assert_true(g_str_has_prefix(error->message, "serial7: "));
    g_error_free(error);
    device_destroy(uart);
    bench_destroy(bench);
}

static void count_message(const gchar *domain, GLogLevelFlags level, const gchar *message,
                          gpointer data)
{
    logged++;
}

static void guest_errors_are_counted_and_ever_more_rarely_logged(void **state)
{
    struct bench *bench = bench_create();
    struct device *device = bench_device(bench, &debug_exit_device);
    guint handler = g_log_set_handler("anima", G_LOG_LEVEL_MESSAGE, count_message, NULL);

    for (unsigned i = 0; i < 1000; i++)
        device_guest_error(device, "nonsense %u", i);
    assert_int_equal(device->guest_errors, 1000);
    assert_int_equal(logged, 10); /* at 1, 2, 4 ... 512 */
    g_log_remove_handler("anima", handler);
    device_destroy(device);
    bench_destroy(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_that_fails_to_start_is_undone),
        cmocka_unit_test(a_device_without_state_saves_nothing_and_loads_nothing),
        cmocka_unit_test(a_refused_load_names_the_device),
        cmocka_unit_test(guest_errors_are_counted_and_ever_more_rarely_logged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
