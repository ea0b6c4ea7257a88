// SPDX-License-Identifier: Apache-2.0
/* The entropy device: bytes, its rate in machine time, and a request that waits over a load. */
#include "tests/unit/virtio_driver.h"

#include "vmm/device/virtio/virtio_rng.h"

#define BUFFER 0x40000ULL

struct rng_bench {
    struct bench *bench;
    struct device *device;
    struct driver driver;
};

static void rng_create(struct rng_bench *it, uint64_t rate)
{
    struct virtio_rng_config config;

    it->bench = bench_create();
    bench_step(it->bench, 5 * NS_PER_SECOND);
    virtio_rng_device.defaults(&it->bench->env, &config);
    config.bytes_per_second = rate;
    it->device = device_create(&virtio_rng_device, "rng", &it->bench->env, &config, NULL);
    assert_non_null(it->device);
    driver_open(&it->driver, it->bench, it->device);
    driver_msix(&it->driver, 2);
    driver_start(&it->driver, 0, 1);
}

static void rng_destroy(struct rng_bench *it)
{
    device_destroy(it->device);
    bench_destroy(it->bench);
}

static void ask(struct rng_bench *it, uint16_t head, uint32_t length)
{
    driver_descriptor(&it->driver, DRIVER_DESCRIPTORS(0), head, BUFFER + 0x1000ULL * head, length,
                      VRING_DESC_F_WRITE, 0);
    driver_put(&it->driver, 0, head);
    driver_notify(&it->driver, 0);
}

static void a_buffer_is_filled_and_the_driver_interrupted(void **state)
{
    struct rng_bench it;
    uint8_t first[64] = {0}, second[64] = {0}, nothing[64] = {0};

    rng_create(&it, 0);
    ask(&it, 0, 64);
    ask(&it, 1, 64);
    assert_int_equal(driver_used_count(&it.driver, 0), 2);
    assert_int_equal(driver_used(&it.driver, 0, 1).id, 1);
    assert_int_equal(driver_used(&it.driver, 0, 1).len, 64);
    driver_peek(&it.driver, BUFFER, first, 64);
    driver_peek(&it.driver, BUFFER + 0x1000, second, 64);
    assert_memory_not_equal(first, nothing, 64);
    assert_memory_not_equal(first, second, 64);
    assert_int_equal(it.bench->messages, 2);
    assert_int_equal(it.bench->data, 1);
    rng_destroy(&it);
}

static void a_long_buffer_gets_a_piece(void **state)
{
    struct rng_bench it;

    rng_create(&it, 0);
    ask(&it, 0, 0x8000);
    assert_int_equal(driver_used(&it.driver, 0, 0).len, 1024);
    rng_destroy(&it);
}

static void a_rate_holds_requests_until_they_are_due(void **state)
{
    struct rng_bench it;

    /* One second is saved up at the start, then 1 ms a byte. */
    rng_create(&it, 1000);
    ask(&it, 0, 1000);
    assert_int_equal(driver_used_count(&it.driver, 0), 1);
    ask(&it, 1, 100);
    ask(&it, 2, 50);
    bench_step(it.bench, 100 * MS - 1);
    assert_int_equal(driver_used_count(&it.driver, 0), 1);
    bench_step(it.bench, 1);
    assert_int_equal(driver_used_count(&it.driver, 0), 2);
    bench_step(it.bench, 50 * MS - 1);
    assert_int_equal(driver_used_count(&it.driver, 0), 2);
    bench_step(it.bench, 1);
    assert_int_equal(driver_used_count(&it.driver, 0), 3);
    assert_int_equal(driver_used(&it.driver, 0, 2).len, 50);
    rng_destroy(&it);
}

static void a_rate_below_a_buffer_still_gives_something(void **state)
{
    struct rng_bench it;

    rng_create(&it, 3);
    ask(&it, 0, 64);
    assert_int_equal(driver_used(&it.driver, 0, 0).len, 3);
    ask(&it, 1, 64);
    bench_step(it.bench, NS_PER_SECOND);
    assert_int_equal(driver_used_count(&it.driver, 0), 2);
    rng_destroy(&it);
}

static void a_request_that_waits_goes_on_after_a_load(void **state)
{
    struct rng_bench it;
    uint8_t bytes[100], nothing[100] = {0};

    rng_create(&it, 1000);
    ask(&it, 0, 1000);
    ask(&it, 1, 100);
    bench_step(it.bench, 40 * MS);
    g_autoptr(GBytes) saved = device_save(it.device);
    device_reset(it.device);
    bench_step(it.bench, 30 * MS);
    assert_int_equal(driver_used_count(&it.driver, 0), 1);
    assert_true(device_load(it.device, saved, NULL));
    g_autoptr(GBytes) again = device_save(it.device);
    assert_true(g_bytes_equal(saved, again));
    device_resume(it.device);
    bench_step(it.bench, 30 * MS - 1);
    assert_int_equal(driver_used_count(&it.driver, 0), 1);
    bench_step(it.bench, 1);
    assert_int_equal(driver_used_count(&it.driver, 0), 2);
    driver_peek(&it.driver, BUFFER + 0x1000, bytes, 100);
    assert_memory_not_equal(bytes, nothing, 100);
    rng_destroy(&it);
}

static void a_reset_forgets_what_waits(void **state)
{
    struct rng_bench it;

    rng_create(&it, 1000);
    ask(&it, 0, 1000);
    ask(&it, 1, 100);
    driver_set_status(&it.driver, 0);
    bench_step(it.bench, NS_PER_SECOND);
    assert_int_equal(driver_used_count(&it.driver, 0), 1);
    rng_destroy(&it);
}

static void bad_buffers_are_no_harm(void **state)
{
    struct rng_bench it;

    rng_create(&it, 0);
    driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(0), 0, BUFFER, 64, 0, 0);
    driver_put(&it.driver, 0, 0);
    driver_notify(&it.driver, 0); /* nothing to write into: given back empty */
    assert_int_equal(driver_used(&it.driver, 0, 0).len, 0);
    assert_int_equal(it.device->guest_errors, 1);
    driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(0), 1, BENCH_RAM - 1, 64, VRING_DESC_F_WRITE,
                      0);
    driver_put(&it.driver, 0, 1);
    driver_notify(&it.driver, 0); /* half outside of memory */
    assert_int_equal(driver_used_count(&it.driver, 0), 1);
    assert_true(driver_status(&it.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
    rng_destroy(&it);
}

/* More requests than are served at one go: the rest follows without a notification. */
static void a_full_ring_is_served(void **state)
{
    struct rng_bench it;

    rng_create(&it, 0);
    for (unsigned i = 0; i < 64; i++) {
        driver_set_status(&it.driver, 0);
        driver_poke16(&it.driver, DRIVER_AVAILABLE(0) + 2, 0);
        driver_poke16(&it.driver, DRIVER_USED(0) + 2, 0);
        it.driver.size = 64;
        driver_start(&it.driver, 0, 1);
        for (uint16_t head = 0; head <= i; head++) {
            driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(0), head, BUFFER, 8,
                              VRING_DESC_F_WRITE, 0);
            driver_put(&it.driver, 0, head);
        }
        driver_notify(&it.driver, 0);
        bench_step(it.bench, 1);
        assert_int_equal(driver_used_count(&it.driver, 0), i + 1);
    }
    rng_destroy(&it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_is_filled_and_the_driver_interrupted),
        cmocka_unit_test(a_long_buffer_gets_a_piece),
        cmocka_unit_test(a_rate_holds_requests_until_they_are_due),
        cmocka_unit_test(a_rate_below_a_buffer_still_gives_something),
        cmocka_unit_test(a_request_that_waits_goes_on_after_a_load),
        cmocka_unit_test(a_reset_forgets_what_waits),
        cmocka_unit_test(bad_buffers_are_no_harm),
        cmocka_unit_test(a_full_ring_is_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
