// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio block device by its registers and rings: every type of request, requests that cannot
 * be, and what happens to those under way in a pause, a reset and a load.
 */
#include "tests/unit/virtio_driver.h"

#include <linux/virtio_blk.h>

#include "vmm/device/virtio/virtio_blk.h"
#include "vmm/util/loop.h"

#define PATIENCE  (10 * G_TIME_SPAN_SECOND)
#define SECTORS   (BENCH_DISK / 512)
#define HEADER    0x40000UL /* of request N: + 0x1000 * N; its data and status behind it */
#define DATA      0x80
#define STATUS    0xF80
#define UNTOUCHED 0xEE

struct blk_bench {
    struct bench *bench;
    struct device *device;
    struct driver driver;
};

static void create_with(struct blk_bench *it, const struct virtio_disk_config *like,
                        uint64_t features)
{
    struct virtio_disk_config config = {0};
    GError *error = NULL;

    it->bench = bench_create();
    virtio_blk_device.defaults(&it->bench->env, &config);
    if (like) {
        struct pci_address address = config.address;
        config = *like;
        config.address = address;
    }
    if (!config.block)
        config.block = it->bench->disk;
    it->device = device_create(&virtio_blk_device, "disk0", &it->bench->env, &config, &error);
    if (!it->device)
        fail_msg("%s", error->message);
    device_resume(it->device);
    driver_open(&it->driver, it->bench, it->device);
    driver_msix(&it->driver, config.queues + 1);
    driver_start(&it->driver, features, config.queues);
}

static void create(struct blk_bench *it, uint64_t features)
{
    create_with(it, NULL, features);
}

static void destroy(struct blk_bench *it)
{
    device_destroy(it->device);
    bench_destroy(it->bench);
}

/* ---- requests ---- */

static uint64_t place(unsigned number)
{
    return HEADER + 0x1000UL * number;
}

/* Put request `number` (0 to 2): a header, `length` bytes of data either way, a status. */
static void put(struct blk_bench *it, unsigned number, uint32_t type, uint64_t sector,
                uint32_t length, bool to_guest)
{
    struct virtio_blk_outhdr header = {.type = type, .sector = sector};
    uint8_t untouched = UNTOUCHED;
    unsigned first = number * 2;
    uint64_t table = DRIVER_DESCRIPTORS(0);

    driver_poke(&it->driver, place(number), &header, sizeof(header));
    driver_poke(&it->driver, place(number) + STATUS, &untouched, 1);
    driver_descriptor(&it->driver, table, first, place(number), sizeof(header), VRING_DESC_F_NEXT,
                      length ? 6 + number / 2 : first + 1);
    /* Eight descriptors: 0 to 5 for headers and statuses, 6 and 7 for data. */
    if (length)
        driver_descriptor(&it->driver, table, 6 + number / 2, place(number) + DATA, length,
                          VRING_DESC_F_NEXT | (to_guest ? VRING_DESC_F_WRITE : 0), first + 1);
    driver_descriptor(&it->driver, table, first + 1, place(number) + STATUS, 1, VRING_DESC_F_WRITE,
                      0);
    driver_put(&it->driver, 0, (uint16_t)first);
    driver_notify(&it->driver, 0);
}

static void nothing(void *opaque)
{
}

static void settle(struct blk_bench *it)
{
    device_pause(it->device);
    device_resume(it->device);
}

static void expect_used(struct blk_bench *it, uint16_t count)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE;

    while (driver_used_count(&it->driver, 0) < count && g_get_monotonic_time() < deadline)
        loop_call_wait(it->bench->env.loop, nothing, NULL);
    settle(it);
    assert_int_equal(driver_used_count(&it->driver, 0), count);
}

static uint8_t status_of(struct blk_bench *it, unsigned number)
{
    uint8_t status;

    driver_peek(&it->driver, place(number) + STATUS, &status, 1);
    return status;
}

/* Put request 0 and await it: its status; `written` gets the used length. */
static uint8_t ask(struct blk_bench *it, uint32_t type, uint64_t sector, uint32_t length,
                   bool to_guest, uint32_t *written)
{
    uint16_t before = driver_used_count(&it->driver, 0);

    put(it, 0, type, sector, length, to_guest);
    expect_used(it, before + 1);
    if (written)
        *written = driver_used(&it->driver, 0, before).len;
    return status_of(it, 0);
}

static void fill(struct blk_bench *it, unsigned number, uint8_t seed, uint32_t length)
{
    g_autofree uint8_t *bytes = g_malloc(length);

    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 3 + seed);
    driver_poke(&it->driver, place(number) + DATA, bytes, length);
}

static void expect_data(struct blk_bench *it, unsigned number, uint8_t seed, uint32_t length)
{
    g_autofree uint8_t *bytes = g_malloc(length);

    driver_peek(&it->driver, place(number) + DATA, bytes, length);
    for (uint32_t i = 0; i < length; i++)
        assert_int_equal(bytes[i], (uint8_t)(i * 3 + seed));
}

static uint32_t config_get(struct blk_bench *it, unsigned offset, unsigned size)
{
    return driver_read(&it->driver, 0x2000 + offset, size);
}

/* ---- what it does ---- */

static void data_is_written_and_read_back(void **state)
{
    struct blk_bench it;
    uint32_t written;

    create(&it, 0);
    fill(&it, 0, 5, 1024);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_OUT, 7, 1024, false, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1);
    fill(&it, 0, 99, 1024);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_IN, 7, 1024, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1025);
    expect_data(&it, 0, 5, 1024);
    assert_int_equal(it.bench->data, 1);
    assert_true(it.bench->messages >= 1);
    destroy(&it);
}

static void the_registers_describe_the_disk(void **state)
{
    struct blk_bench it;

    create(&it, 0);
    assert_int_equal(config_get(&it, offsetof(struct virtio_blk_config, capacity), 4), SECTORS);
    assert_int_equal(config_get(&it, offsetof(struct virtio_blk_config, blk_size), 4), 512);
    assert_int_equal(config_get(&it, offsetof(struct virtio_blk_config, seg_max), 4), 254);
    assert_int_equal(config_get(&it, offsetof(struct virtio_blk_config, physical_block_exp), 1), 3);
    assert_int_equal(config_get(&it, offsetof(struct virtio_blk_config, wce), 1), 1);
    assert_int_equal(config_get(&it, offsetof(struct virtio_blk_config, max_discard_seg), 4), 1);
    uint64_t offered = driver_offered(&it.driver);
    assert_true(offered & 1ULL << VIRTIO_BLK_F_FLUSH);
    assert_true(offered & 1ULL << VIRTIO_BLK_F_DISCARD);
    assert_false(offered & (1ULL << VIRTIO_BLK_F_RO | 1ULL << VIRTIO_BLK_F_MQ));
    destroy(&it);
}

static void the_serial_number_is_told(void **state)
{
    struct virtio_disk_config config = {.serial = "ABC-123", .queues = 1};
    struct blk_bench it;
    char id[VIRTIO_BLK_ID_BYTES + 1] = "";
    uint32_t written;

    create_with(&it, &config, 0);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_GET_ID, 0, 20, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 21);
    driver_peek(&it.driver, place(0) + DATA, id, 20);
    assert_string_equal(id, "ABC-123");
    /* A buffer that is too short gets the beginning. */
    assert_int_equal(ask(&it, VIRTIO_BLK_T_GET_ID, 0, 3, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 4);
    destroy(&it);
}

static void put_range(struct blk_bench *it, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    struct virtio_blk_discard_write_zeroes range = {sector, sectors, flags};
    driver_poke(&it->driver, place(0) + DATA, &range, sizeof(range));
}

static void ranges_are_zeroed_and_discarded(void **state)
{
    struct blk_bench it;
    uint8_t bytes[512], zeroes[512] = {0};

    create(&it, 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES);
    fill(&it, 0, 1, 512);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_OUT, 8, 512, false, NULL), VIRTIO_BLK_S_OK);
    for (unsigned flags = 0; flags < 2; flags++) {
        put_range(&it, 8, 1, flags);
        assert_int_equal(ask(&it, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL), VIRTIO_BLK_S_OK);
        assert_int_equal(ask(&it, VIRTIO_BLK_T_IN, 8, 512, true, NULL), VIRTIO_BLK_S_OK);
        driver_peek(&it.driver, place(0) + DATA, bytes, 512);
        assert_memory_equal(bytes, zeroes, 512);
    }
    put_range(&it, 8, 8, 0);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_DISCARD, 0, 16, false, NULL), VIRTIO_BLK_S_OK);
    put_range(&it, 8, 8, 1); /* unmap: for the other type only */
    assert_int_equal(ask(&it, VIRTIO_BLK_T_DISCARD, 0, 16, false, NULL), VIRTIO_BLK_S_UNSUPP);
    put_range(&it, 8, 8, 2);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL), VIRTIO_BLK_S_UNSUPP);
    put_range(&it, SECTORS - 1, 2, 0);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_DISCARD, 0, 16, false, NULL), VIRTIO_BLK_S_IOERR);
    put_range(&it, 0, UINT32_MAX, 0);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_DISCARD, 0, 17, false, NULL), VIRTIO_BLK_S_IOERR);
    destroy(&it);
}

static void what_was_not_agreed_is_not_done(void **state)
{
    struct blk_bench it;

    create(&it, 0);
    put_range(&it, 0, 8, 0);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_DISCARD, 0, 16, false, NULL), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(ask(&it, 77, 0, 512, true, NULL), VIRTIO_BLK_S_UNSUPP);
    destroy(&it);
}

static void requests_that_cannot_be_fail(void **state)
{
    struct blk_bench it;
    uint32_t written;

    create(&it, 0);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_IN, SECTORS, 512, true, &written), VIRTIO_BLK_S_IOERR);
    assert_int_equal(written, 0); /* data was to come first */
    assert_int_equal(ask(&it, VIRTIO_BLK_T_OUT, SECTORS - 1, 1024, false, &written),
                     VIRTIO_BLK_S_IOERR);
    assert_int_equal(written, 1);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_OUT, UINT64_MAX, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 512, false, NULL),
                     VIRTIO_BLK_S_IOERR);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_IN, 0, 511, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
    assert_true(it.device->guest_errors >= 5);
    destroy(&it);
}

static void data_outside_of_memory_fails(void **state)
{
    struct blk_bench it;
    struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN};
    uint64_t table = DRIVER_DESCRIPTORS(0);

    create(&it, 0);
    driver_poke(&it.driver, place(0), &header, sizeof(header));
    driver_descriptor(&it.driver, table, 0, place(0), sizeof(header), VRING_DESC_F_NEXT, 1);
    driver_descriptor(&it.driver, table, 1, BENCH_RAM - 512, 1024,
                      VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    driver_descriptor(&it.driver, table, 2, place(0) + STATUS, 1, VRING_DESC_F_WRITE, 0);
    driver_put(&it.driver, 0, 0);
    driver_notify(&it.driver, 0);
    expect_used(&it, 1);
    assert_int_equal(status_of(&it, 0), VIRTIO_BLK_S_IOERR);
    destroy(&it);
}

static void a_request_without_place_for_a_status_breaks_the_device(void **state)
{
    struct blk_bench it;

    for (unsigned short_header = 0; short_header < 2; short_header++) {
        create(&it, 0);
        driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(0), 0, place(0), short_header ? 15 : 16,
                          short_header ? VRING_DESC_F_NEXT : 0, 1);
        driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(0), 1, place(0) + STATUS, 1,
                          VRING_DESC_F_WRITE, 0);
        driver_put(&it.driver, 0, 0);
        driver_notify(&it.driver, 0);
        settle(&it);
        assert_true(driver_status(&it.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
        driver_poke16(&it.driver, DRIVER_AVAILABLE(0) + 2, 0);
        driver_start(&it.driver, 0, 1);
        destroy(&it);
    }
}

static void a_readonly_disk_takes_no_writes(void **state)
{
    struct bench *bench = bench_create();
    int fd = memory_memfd("disk", BENCH_DISK, NULL);
    struct block_config block = {.fd = fd, .name = "ro", .readonly = true, .loop = bench->env.loop};
    struct virtio_disk_config config = {.queues = 1, .discard = true};
    struct blk_bench it = {.bench = bench};

    config.block = block_raw_create(&block, NULL);
    config.address = (struct pci_address){NULL, 3, 0};
    it.device = device_create(&virtio_blk_device, "disk0", &bench->env, &config, NULL);
    device_resume(it.device);
    driver_open(&it.driver, bench, it.device);
    uint64_t offered = driver_offered(&it.driver);
    assert_true(offered & 1ULL << VIRTIO_BLK_F_RO);
    assert_false(offered & (1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES));
    driver_start(&it.driver, 1ULL << VIRTIO_BLK_F_RO, 1);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_IN, 0, 512, true, NULL), VIRTIO_BLK_S_OK);
    device_destroy(it.device);
    block_destroy(config.block);
    bench_destroy(bench);
}

static void the_driver_chooses_the_cache(void **state)
{
    struct virtio_disk_config through = {.queues = 1, .writethrough = true};
    struct blk_bench it;
    unsigned wce = 0x2000 + offsetof(struct virtio_blk_config, wce);

    create(&it, 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE);
    driver_write(&it.driver, wce, 1, 0);
    assert_int_equal(driver_read(&it.driver, wce, 1), 0);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
    driver_set_status(&it.driver, 0);
    assert_int_equal(driver_read(&it.driver, wce, 1), 1);
    destroy(&it);
    create_with(&it, &through, 0);
    uint64_t offered = driver_offered(&it.driver);
    assert_false(offered & (1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE));
    assert_int_equal(driver_read(&it.driver, wce, 1), 0);
    destroy(&it);
}

static void each_queue_is_served(void **state)
{
    struct virtio_disk_config config = {.queues = 4};
    struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_FLUSH};
    struct blk_bench it;

    create_with(&it, &config, 1ULL << VIRTIO_BLK_F_MQ | 1ULL << VIRTIO_BLK_F_FLUSH);
    assert_int_equal(config_get(&it, offsetof(struct virtio_blk_config, num_queues), 2), 4);
    driver_poke(&it.driver, place(0), &header, sizeof(header));
    for (unsigned queue = 0; queue < 4; queue++) {
        driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(queue), 0, place(0), sizeof(header),
                          VRING_DESC_F_NEXT, 1);
        driver_descriptor(&it.driver, DRIVER_DESCRIPTORS(queue), 1, place(0) + STATUS, 1,
                          VRING_DESC_F_WRITE, 0);
        driver_put(&it.driver, queue, 0);
        driver_notify(&it.driver, queue);
        for (unsigned i = 0; i < 200 && !driver_used_count(&it.driver, queue); i++)
            settle(&it);
        /* The interrupt comes after the used entry. */
        settle(&it);
        assert_int_equal(driver_used_count(&it.driver, queue), 1);
        assert_int_equal(it.bench->data, queue + 1);
    }
    destroy(&it);
}

/* ---- under way ---- */

static void hold(void *opaque)
{
    block_hold(opaque);
}

static void release(void *opaque)
{
    block_release(opaque);
}

static void on_loop(struct blk_bench *it, void (*function)(void *opaque))
{
    loop_call_wait(it->bench->env.loop, function, it->bench->disk);
}

static void what_is_held_outlives_a_pause(void **state)
{
    struct blk_bench it;

    create(&it, 0);
    on_loop(&it, hold);
    fill(&it, 0, 9, 512);
    put(&it, 0, VIRTIO_BLK_T_OUT, 3, 512, false);
    settle(&it);
    device_pause(it.device);
    /* Paused, it has nothing at the node that could end. */
    on_loop(&it, release);
    loop_call_wait(it.bench->env.loop, nothing, NULL);
    assert_int_equal(driver_used_count(&it.driver, 0), 0);
    assert_int_equal(status_of(&it, 0), UNTOUCHED);
    device_resume(it.device);
    expect_used(&it, 1);
    assert_int_equal(status_of(&it, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_IN, 3, 512, true, NULL), VIRTIO_BLK_S_OK);
    expect_data(&it, 0, 9, 512);
    destroy(&it);
}

static void a_request_that_was_saved_is_done_after_the_load(void **state)
{
    struct blk_bench first, second;
    g_autofree uint8_t *memory = g_malloc(BENCH_RAM);

    create(&first, 0);
    on_loop(&first, hold);
    fill(&first, 0, 42, 1024);
    put(&first, 0, VIRTIO_BLK_T_OUT, 100, 1024, false);
    put(&first, 1, VIRTIO_BLK_T_FLUSH, 0, 0, false);
    settle(&first);
    device_pause(first.device);
    g_autoptr(GBytes) saved = device_save(first.device);
    assert_true(memory_read(first.bench->env.memory, 0, memory, BENCH_RAM));

    create(&second, 0);
    device_pause(second.device);
    assert_true(memory_write(second.bench->env.memory, 0, memory, BENCH_RAM));
    assert_true(device_load(second.device, saved, NULL));
    g_autoptr(GBytes) again = device_save(second.device);
    assert_true(g_bytes_equal(saved, again));
    assert_int_equal(driver_used_count(&second.driver, 0), 0);
    device_resume(second.device);
    expect_used(&second, 2);
    assert_int_equal(status_of(&second, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(status_of(&second, 1), VIRTIO_BLK_S_OK);
    assert_int_equal(ask(&second, VIRTIO_BLK_T_IN, 100, 1024, true, NULL), VIRTIO_BLK_S_OK);
    expect_data(&second, 0, 42, 1024);
    destroy(&second);
    destroy(&first);
}

static void a_reset_forgets_what_is_held(void **state)
{
    struct blk_bench it;

    create(&it, 0);
    on_loop(&it, hold);
    put(&it, 0, VIRTIO_BLK_T_OUT, 3, 512, false);
    put(&it, 1, VIRTIO_BLK_T_FLUSH, 0, 0, false);
    settle(&it);
    driver_set_status(&it.driver, 0);
    on_loop(&it, release);
    settle(&it);
    assert_int_equal(status_of(&it, 0), UNTOUCHED);
    assert_int_equal(status_of(&it, 1), UNTOUCHED);
    /* ...and nothing of it is left for the next driver. */
    driver_poke16(&it.driver, DRIVER_AVAILABLE(0) + 2, 0);
    driver_start(&it.driver, 0, 1);
    assert_int_equal(driver_used_count(&it.driver, 0), 0);
    assert_int_equal(ask(&it, VIRTIO_BLK_T_OUT, 3, 512, false, NULL), VIRTIO_BLK_S_OK);
    destroy(&it);
}

/* Resets while requests are at the host: each reset returns with none of them alive. */
static void resets_meet_requests_at_the_host(void **state)
{
    struct blk_bench it;

    create(&it, 0);
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 3; i++)
            put(&it, i, i & 1 ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_IN, round % SECTORS,
                i & 1 ? 0 : 512, true);
        driver_set_status(&it.driver, 0);
        for (unsigned i = 0; i < 3; i++)
            driver_poke(&it.driver, place(i) + STATUS, "\xEE", 1);
        loop_call_wait(it.bench->env.loop, nothing, NULL);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(status_of(&it, i), UNTOUCHED);
        driver_poke16(&it.driver, DRIVER_AVAILABLE(0) + 2, 0);
        driver_poke16(&it.driver, DRIVER_USED(0) + 2, 0);
        driver_start(&it.driver, 0, 1);
    }
    destroy(&it);
}

static void a_device_without_a_disk_is_refused(void **state)
{
    struct bench *bench = bench_create();
    struct virtio_disk_config config = {.queues = 1};
    g_autoptr(GError) error = NULL;

    assert_null(device_create(&virtio_blk_device, "disk0", &bench->env, &config, &error));
    assert_non_null(error);
    bench_destroy(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_is_written_and_read_back),
        cmocka_unit_test(the_registers_describe_the_disk),
        cmocka_unit_test(the_serial_number_is_told),
        cmocka_unit_test(ranges_are_zeroed_and_discarded),
        cmocka_unit_test(what_was_not_agreed_is_not_done),
        cmocka_unit_test(requests_that_cannot_be_fail),
        cmocka_unit_test(data_outside_of_memory_fails),
        cmocka_unit_test(a_request_without_place_for_a_status_breaks_the_device),
        cmocka_unit_test(a_readonly_disk_takes_no_writes),
        cmocka_unit_test(the_driver_chooses_the_cache),
        cmocka_unit_test(each_queue_is_served),
        cmocka_unit_test(what_is_held_outlives_a_pause),
        cmocka_unit_test(a_request_that_was_saved_is_done_after_the_load),
        cmocka_unit_test(a_reset_forgets_what_is_held),
        cmocka_unit_test(resets_meet_requests_at_the_host),
        cmocka_unit_test(a_device_without_a_disk_is_refused),
    };
    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
