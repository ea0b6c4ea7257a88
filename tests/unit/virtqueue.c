// SPDX-License-Identifier: Apache-2.0
/*
 * Virtqueues under a driver that keeps the rules and under one that does not: chains, indirect
 * tables, event index, requests that complete late and out of order, and requests over a load.
 */
#include "tests/unit/virtio_echo.h"

#define BUFFER   0x40000ULL
#define INDIRECT 0x48000ULL
#define W        VRING_DESC_F_WRITE
#define N        VRING_DESC_F_NEXT
#define I        VRING_DESC_F_INDIRECT

static const uint64_t ring_features = 1ULL << VIRTIO_RING_F_INDIRECT_DESC;
static const uint64_t event_features = 1ULL << VIRTIO_RING_F_EVENT_IDX;

static void descriptor(struct echo_bench *it, unsigned index, uint64_t address, uint32_t length,
                       uint16_t flags, uint16_t next)
{
    driver_descriptor(&it->driver, DRIVER_DESCRIPTORS(0), index, address, length, flags, next);
}

static void indirect(struct echo_bench *it, unsigned index, uint64_t address, uint32_t length,
                     uint16_t flags, uint16_t next)
{
    driver_descriptor(&it->driver, INDIRECT, index, address, length, flags, next);
}

static struct virtqueue_request *put_and_take(struct echo_bench *it, uint16_t head)
{
    driver_put(&it->driver, 0, head);
    return echo_take(it->echo, 0);
}

/* The device must refuse what was put, stop, count and say so; a reset makes it work again. */
static void assert_breaks(struct echo_bench *it, uint16_t head)
{
    uint64_t errors = it->echo->virtio.pci.device.guest_errors;

    assert_null(put_and_take(it, head));
    assert_int_equal(driver_status(&it->driver), DRIVER_READY | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(it->echo->virtio.pci.device.guest_errors, errors + 1);
    assert_null(echo_take(it->echo, 0));
    assert_int_equal(it->echo->virtio.pci.device.guest_errors, errors + 1);
    driver_poke16(&it->driver, DRIVER_AVAILABLE(0) + 2, 0);
    driver_start(&it->driver, ring_features, 1);
    descriptor(it, 0, BUFFER, 4, W, 0);
    struct virtqueue_request *request = put_and_take(it, 0);
    assert_non_null(request);
    echo_complete(it->echo, request, 4);
    driver_poke16(&it->driver, DRIVER_AVAILABLE(0) + 2, 0);
    driver_start(&it->driver, ring_features, 1);
}

/* ---- what a good driver does ---- */

static void a_chain_becomes_a_request(void **state)
{
    struct echo_bench *it = *state;
    char text[12] = "";

    driver_start(&it->driver, 0, 1);
    assert_null(echo_take(it->echo, 0));
    driver_poke(&it->driver, BUFFER, "hello, ", 7);
    driver_poke(&it->driver, BUFFER + 100, "you", 3);
    descriptor(it, 3, BUFFER, 7, N, 1);
    descriptor(it, 1, BUFFER + 100, 3, N, 7);
    descriptor(it, 7, BUFFER + 200, 2, N | W, 2);
    descriptor(it, 2, BUFFER + 300, 6, W, 0);
    struct virtqueue_request *request = put_and_take(it, 3);
    assert_non_null(request);
    assert_int_equal(request->readable_length, 10);
    assert_int_equal(request->writable_length, 8);
    assert_true(virtqueue_request_read(request, 0, text, 10));
    assert_string_equal(text, "hello, you");
    assert_true(virtqueue_request_read(request, 5, text, 4));
    assert_memory_equal(text, ", yo", 4);
    assert_false(virtqueue_request_read(request, 5, text, 6));
    assert_true(virtqueue_request_write(request, 1, "abcdefg", 7));
    assert_false(virtqueue_request_write(request, 2, "abcdefg", 7));
    driver_peek(&it->driver, BUFFER + 201, text, 1);
    driver_peek(&it->driver, BUFFER + 300, text + 1, 6);
    assert_memory_equal(text, "abcdefg", 7);

    assert_int_equal(driver_used_count(&it->driver, 0), 0);
    echo_complete(it->echo, request, 8);
    assert_int_equal(driver_used_count(&it->driver, 0), 1);
    assert_int_equal(driver_used(&it->driver, 0, 0).id, 3);
    assert_int_equal(driver_used(&it->driver, 0, 0).len, 8);
}

static void requests_complete_in_any_order(void **state)
{
    struct echo_bench *it = *state;
    struct virtqueue_request *requests[3];

    driver_start(&it->driver, 0, 1);
    for (unsigned i = 0; i < 3; i++) {
        descriptor(it, i, BUFFER + i, 1, W, 0);
        requests[i] = put_and_take(it, i);
    }
    static const unsigned order[] = {1, 2, 0};
    for (unsigned i = 0; i < 3; i++)
        echo_complete(it->echo, requests[order[i]], 1);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(driver_used(&it->driver, 0, i).id, order[i]);
    assert_int_equal(it->echo->state.queues[0].in_flight_count, 0);
}

static void rings_wrap_around(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, event_features, 1);
    for (unsigned i = 0; i < 70000; i++) {
        descriptor(it, i % 8, BUFFER, 1, W, 0);
        struct virtqueue_request *request = put_and_take(it, i % 8);
        assert_non_null(request);
        echo_complete(it->echo, request, 1);
    }
    assert_int_equal(driver_used_count(&it->driver, 0), 70000 & 0xFFFF);
    assert_int_equal(driver_status(&it->driver), DRIVER_READY);
}

static void an_indirect_table_follows_direct_descriptors(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, ring_features, 1);
    descriptor(it, 0, BUFFER, 3, N, 1);
    descriptor(it, 1, INDIRECT, 16 * 20, I, 0);
    for (unsigned i = 0; i < 20; i++)
        indirect(it, i, BUFFER + 16 * i, 2, i < 19 ? N | (i > 9 ? W : 0) : W, i + 1);
    struct virtqueue_request *request = put_and_take(it, 0);
    assert_non_null(request);
    assert_int_equal(request->readable, 11);
    assert_int_equal(request->writable, 10);
    assert_int_equal(request->readable_length, 23);
    assert_int_equal(request->writable_length, 20);
    echo_complete(it->echo, request, 0);
}

/* ---- notifications ---- */

static void the_flag_in_the_ring_silences_interrupts(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, 0, 1);
    driver_msix(&it->driver, 2);
    descriptor(it, 0, BUFFER, 1, W, 0);
    driver_poke16(&it->driver, DRIVER_AVAILABLE(0), VRING_AVAIL_F_NO_INTERRUPT);
    echo_complete(it->echo, put_and_take(it, 0), 1);
    assert_int_equal(it->bench->messages, 0);
    driver_poke16(&it->driver, DRIVER_AVAILABLE(0), 0);
    echo_complete(it->echo, put_and_take(it, 0), 1);
    assert_int_equal(it->bench->messages, 1);
    assert_int_equal(it->bench->data, 1);
}

static void the_event_index_chooses_the_interrupt(void **state)
{
    struct echo_bench *it = *state;
    uint64_t used_event = DRIVER_AVAILABLE(0) + 4 + 2 * 8;

    driver_start(&it->driver, event_features, 1);
    driver_msix(&it->driver, 2);
    descriptor(it, 0, BUFFER, 1, W, 0);
    driver_poke16(&it->driver, used_event, 2);
    for (unsigned i = 0; i < 5; i++) {
        echo_complete(it->echo, put_and_take(it, 0), 1);
        assert_int_equal(it->bench->messages, i >= 2);
    }
}

static void an_empty_ring_asks_for_the_next_head(void **state)
{
    struct echo_bench *it = *state;
    uint64_t available_event = DRIVER_USED(0) + 4 + 8 * 8;

    driver_start(&it->driver, event_features, 1);
    driver_poke16(&it->driver, available_event, 0xAAAA);
    descriptor(it, 0, BUFFER, 1, W, 0);
    echo_complete(it->echo, put_and_take(it, 0), 1);
    assert_null(echo_take(it->echo, 0));
    assert_int_equal(driver_peek16(&it->driver, available_event), 1);
}

/* ---- what a hostile one does ---- */

static void chains_that_cannot_be_break_the_device(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, ring_features, 1);
    assert_breaks(it, 8); /* no such head */
    assert_breaks(it, 0xFFFF);
    descriptor(it, 0, BUFFER, 1, N, 1); /* a loop */
    descriptor(it, 1, BUFFER, 1, N, 0);
    assert_breaks(it, 0);
    descriptor(it, 0, BUFFER, 1, N, 0); /* of one */
    assert_breaks(it, 0);
    descriptor(it, 0, BUFFER, 1, N, 8); /* out of the table */
    assert_breaks(it, 0);
    descriptor(it, 0, BUFFER, 1, W | N, 1); /* readable behind writable */
    descriptor(it, 1, BUFFER, 1, 0, 0);
    assert_breaks(it, 0);
    descriptor(it, 0, BUFFER, 0x80000000, N, 1); /* 4 GiB */
    descriptor(it, 1, BUFFER, 0x80000000, 0, 0);
    assert_breaks(it, 0);
    descriptor(it, 0, UINT64_MAX - 3, 8, 0, 0); /* wraps */
    assert_breaks(it, 0);
}

static void indirect_tables_that_cannot_be_break_the_device(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, ring_features, 1);
    indirect(it, 0, BUFFER, 1, 0, 0);
    descriptor(it, 0, INDIRECT, 0, I, 0);
    assert_breaks(it, 0);
    descriptor(it, 0, INDIRECT, 17, I, 0);
    assert_breaks(it, 0);
    descriptor(it, 0, INDIRECT, 16 * 257, I, 0);
    assert_breaks(it, 0);
    descriptor(it, 0, INDIRECT, 16, I | N, 1);
    assert_breaks(it, 0);
    descriptor(it, 0, BENCH_RAM, 16, I, 0);
    assert_breaks(it, 0);
    descriptor(it, 0, UINT64_MAX - 7, 16, I, 0);
    assert_breaks(it, 0);
    indirect(it, 0, INDIRECT, 16, I, 0); /* nested */
    descriptor(it, 0, INDIRECT, 16, I, 0);
    assert_breaks(it, 0);
    indirect(it, 0, BUFFER, 1, N, 1); /* out of it, and a loop in it */
    descriptor(it, 0, INDIRECT, 16, I, 0);
    assert_breaks(it, 0);
    indirect(it, 0, BUFFER, 1, N, 0);
    descriptor(it, 0, INDIRECT, 16 * 256, I, 0);
    assert_breaks(it, 0);
    driver_start(&it->driver, 0, 1); /* not agreed */
    indirect(it, 0, BUFFER, 1, 0, 0);
    descriptor(it, 0, INDIRECT, 16, I, 0);
    assert_breaks(it, 0);
}

static void a_chain_of_direct_and_indirect_descriptors_has_a_limit(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, ring_features, 1);
    for (unsigned i = 0; i < 256; i++)
        indirect(it, i, BUFFER, 1, i < 255 ? N : 0, i + 1);
    descriptor(it, 0, INDIRECT, 16 * 256, I, 0);
    struct virtqueue_request *request = put_and_take(it, 0);
    assert_non_null(request);
    assert_int_equal(request->readable_length, 256);
    echo_complete(it->echo, request, 0);
    descriptor(it, 1, BUFFER, 1, N, 0);
    assert_breaks(it, 1);
}

static void rings_out_of_memory_break_the_device(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, 0, 0);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_DESCLO, 4, BENCH_RAM);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, DRIVER_AVAILABLE(0));
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    assert_breaks(it, 0);
    driver_set_status(&it->driver, 0);
    driver_start(&it->driver, 0, 0);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_AVAILHI, 4, UINT32_MAX);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    assert_null(echo_take(it->echo, 0));
    assert_true(driver_status(&it->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void an_index_that_runs_ahead_breaks_the_device(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, 0, 1);
    driver_poke16(&it->driver, DRIVER_AVAILABLE(0) + 2, 8); /* 9 with the next */
    assert_breaks(it, 0);
}

static void a_head_in_use_breaks_the_device(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, 0, 1);
    descriptor(it, 0, BUFFER, 1, W, 0);
    struct virtqueue_request *request = put_and_take(it, 0);
    assert_non_null(request);
    assert_null(put_and_take(it, 0));
    assert_true(driver_status(&it->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
    /* What completes after that reaches nobody. */
    echo_complete(it->echo, request, 1);
    assert_int_equal(driver_used_count(&it->driver, 0), 0);
}

static void a_used_count_is_never_more_than_the_buffer(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, 0, 1);
    descriptor(it, 0, BUFFER, 5, W, 0);
    echo_complete(it->echo, put_and_take(it, 0), UINT32_MAX);
    assert_int_equal(driver_used(&it->driver, 0, 0).len, 5);
}

/* ---- over a load ---- */

static void a_load_takes_requests_in_flight_again_in_order(void **state)
{
    struct echo_bench *it = *state;
    static const uint16_t heads[] = {5, 2, 7, 4};
    struct virtqueue_request *requests[4];

    driver_start(&it->driver, 0, 1);
    for (unsigned i = 0; i < 4; i++) {
        descriptor(it, heads[i], BUFFER + i, 1, W, 0);
        requests[i] = put_and_take(it, heads[i]);
    }
    echo_complete(it->echo, requests[1], 1);
    descriptor(it, 1, BUFFER, 1, W, 0);
    driver_put(&it->driver, 0, 1); /* not taken when it is saved */

    g_autoptr(GBytes) saved = device_save(&it->echo->virtio.pci.device);
    device_reset(&it->echo->virtio.pci.device);
    assert_true(device_load(&it->echo->virtio.pci.device, saved, NULL));
    g_autoptr(GBytes) again = device_save(&it->echo->virtio.pci.device);
    assert_true(g_bytes_equal(saved, again));
    static const uint16_t expected[] = {5, 7, 4, 1};
    for (unsigned i = 0; i < 4; i++) {
        requests[i] = echo_take(it->echo, 0);
        assert_non_null(requests[i]);
        assert_int_equal(requests[i]->head, expected[i]);
    }
    assert_null(echo_take(it->echo, 0));
    for (unsigned i = 0; i < 4; i++)
        echo_complete(it->echo, requests[i], 1);
    assert_int_equal(driver_used_count(&it->driver, 0), 5);
    assert_int_equal(it->echo->state.queues[0].in_flight_count, 0);
}

static void a_request_completes_while_others_wait_to_be_taken_again(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, 0, 1);
    for (unsigned i = 0; i < 3; i++) {
        descriptor(it, i, BUFFER + i, 1, W, 0);
        assert_non_null(put_and_take(it, i));
    }
    g_autoptr(GBytes) saved = device_save(&it->echo->virtio.pci.device);
    assert_true(device_load(&it->echo->virtio.pci.device, saved, NULL));
    for (unsigned i = 0; i < 3; i++) {
        struct virtqueue_request *request = echo_take(it->echo, 0);
        assert_int_equal(request->head, i);
        echo_complete(it->echo, request, 1);
    }
    assert_null(echo_take(it->echo, 0));
    assert_int_equal(driver_status(&it->driver), DRIVER_READY);
}

static void a_damaged_list_of_requests_is_refused(void **state)
{
    struct echo_bench *it = *state;
    struct virtqueue_state *queue = &it->echo->state.queues[0];
    static const uint16_t lists[][2] = {{3, 3}, {8, 0}, {0xFFFF, 1}};

    driver_start(&it->driver, 0, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++) {
        queue->in_flight_count = 2;
        memcpy(queue->in_flight, lists[i], sizeof(lists[i]));
        g_autoptr(GBytes) saved = device_save(&it->echo->virtio.pci.device);
        assert_false(device_load(&it->echo->virtio.pci.device, saved, NULL));
    }
    queue->in_flight[0] = 0;
    g_autoptr(GBytes) sound = device_save(&it->echo->virtio.pci.device);
    assert_true(device_load(&it->echo->virtio.pci.device, sound, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ECHO_SCENARIO(a_chain_becomes_a_request),
        ECHO_SCENARIO(requests_complete_in_any_order),
        ECHO_SCENARIO(rings_wrap_around),
        ECHO_SCENARIO(an_indirect_table_follows_direct_descriptors),
        ECHO_SCENARIO(the_flag_in_the_ring_silences_interrupts),
        ECHO_SCENARIO(the_event_index_chooses_the_interrupt),
        ECHO_SCENARIO(an_empty_ring_asks_for_the_next_head),
        ECHO_SCENARIO(chains_that_cannot_be_break_the_device),
        ECHO_SCENARIO(indirect_tables_that_cannot_be_break_the_device),
        ECHO_SCENARIO(a_chain_of_direct_and_indirect_descriptors_has_a_limit),
        ECHO_SCENARIO(rings_out_of_memory_break_the_device),
        ECHO_SCENARIO(an_index_that_runs_ahead_breaks_the_device),
        ECHO_SCENARIO(a_head_in_use_breaks_the_device),
        ECHO_SCENARIO(a_used_count_is_never_more_than_the_buffer),
        ECHO_SCENARIO(a_load_takes_requests_in_flight_again_in_order),
        ECHO_SCENARIO(a_request_completes_while_others_wait_to_be_taken_again),
        ECHO_SCENARIO(a_damaged_list_of_requests_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
