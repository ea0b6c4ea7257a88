// SPDX-License-Identifier: Apache-2.0
/* The network card: frames both ways, headers, buffers, filters, and what a reset or load leaves.
 */
#include "tests/unit/virtio_net.h"

static const struct virtio_net_hdr_v1 plain;
static const uint8_t broadcast[6] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
static const uint8_t multicast[6] = {0x33, 0x33, 0, 0, 0, 1};
static const uint8_t stranger[6] = {0x52, 0x54, 0, 9, 9, 9};

#define OFFERED_ALWAYS                                                                          \
    (bit(VIRTIO_NET_F_CSUM) | bit(VIRTIO_NET_F_GUEST_CSUM) | bit(VIRTIO_NET_F_GUEST_TSO4) |     \
     bit(VIRTIO_NET_F_GUEST_TSO6) | bit(VIRTIO_NET_F_HOST_TSO4) | bit(VIRTIO_NET_F_HOST_TSO6) | \
     bit(VIRTIO_NET_F_MAC) | bit(VIRTIO_NET_F_STATUS) | bit(VIRTIO_NET_F_MRG_RXBUF) |           \
     bit(VIRTIO_NET_F_CTRL_VQ) | bit(VIRTIO_NET_F_CTRL_RX) | bit(VIRTIO_NET_F_CTRL_RX_EXTRA) |  \
     bit(VIRTIO_NET_F_CTRL_VLAN) | bit(VIRTIO_NET_F_CTRL_MAC_ADDR) |                            \
     bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | bit(VIRTIO_NET_F_GUEST_ANNOUNCE))
#define RINGS \
    (bit(VIRTIO_F_VERSION_1) | bit(VIRTIO_RING_F_INDIRECT_DESC) | bit(VIRTIO_RING_F_EVENT_IDX))

/* ---- what the guest sees ---- */

static void the_configuration_has_mac_status_and_mtu(void **state)
{
    struct card card;
    uint8_t mac[6];

    card_create(&card, 0);
    for (unsigned i = 0; i < 6; i++)
        mac[i] = bus_read(card.bench->env.mmio, DRIVER_REGISTERS + 0x2000 + i, 1);
    assert_memory_equal(mac, card_mac, 6);
    assert_int_equal(bus_read(card.bench->env.mmio, DRIVER_REGISTERS + 0x2006, 2),
                     VIRTIO_NET_S_LINK_UP);
    assert_int_equal(driver_offered(&card.driver), OFFERED_ALWAYS | RINGS);
    card_destroy(&card);
}

static void what_is_offered_does_not_depend_on_the_cable(void **state)
{
    struct bench *bench = bench_create();
    struct virtio_nic_config config = {.address = {NULL, 3, 0}, .mtu = 9000};
    struct device *device = device_create(&virtio_net_device, "nic0", &bench->env, &config, NULL);
    struct driver driver;

    driver_open(&driver, bench, device);
    assert_int_equal(driver_offered(&driver), OFFERED_ALWAYS | RINGS | bit(VIRTIO_NET_F_MTU));
    assert_int_equal(bus_read(bench->env.mmio, DRIVER_REGISTERS + 0x2006, 2), 0);
    assert_int_equal(bus_read(bench->env.mmio, DRIVER_REGISTERS + 0x200A, 2), 9000);
    device_destroy(device);
    bench_destroy(bench);
}

static void a_card_without_a_cable_swallows_frames(void **state)
{
    struct card card = {.bench = bench_create()};
    struct virtio_nic_config config = {.address = {NULL, 3, 0}};
    uint8_t frame[60];

    card.device = device_create(&virtio_net_device, "nic0", &card.bench->env, &config, NULL);
    device_resume(card.device);
    driver_open(&card.driver, card.bench, card.device);
    driver_start(&card.driver, 0, 3);
    make_frame(frame, 60, broadcast, 0);
    send_frame(&card, 0, &plain, frame, 60);
    assert_used(&card, TX, 1);
    device_pause(card.device);
    device_destroy(card.device);
    bench_destroy(card.bench);
}

/* ---- frames that go ---- */

static void a_frame_goes_as_it_is(void **state)
{
    struct card card;
    uint8_t frame[1514], got[2000];

    card_create(&card, 0);
    make_frame(frame, sizeof(frame), broadcast, 1);
    send_frame(&card, 0, &plain, frame, sizeof(frame));
    assert_int_equal(far_receive(&card, got, sizeof(got)), sizeof(frame));
    assert_memory_equal(frame, got, sizeof(frame));
    assert_used(&card, TX, 1);
    assert_int_equal(driver_used(&card.driver, TX, 0).len, 0);
    card_destroy(&card);
}

/* The header in pieces, the frame in pieces, an empty buffer in between. */
static void a_frame_in_pieces_is_put_together(void **state)
{
    struct card card;
    uint8_t frame[100], got[200];
    uint64_t at = TX_BUFFER, table = DRIVER_DESCRIPTORS(TX);

    card_create(&card, 0);
    make_frame(frame, sizeof(frame), broadcast, 2);
    driver_poke(&card.driver, at, &plain, HEADER);
    driver_poke(&card.driver, at + HEADER, frame, sizeof(frame));
    driver_descriptor(&card.driver, table, 0, at, 5, VRING_DESC_F_NEXT, 1);
    driver_descriptor(&card.driver, table, 1, at + 5, 20, VRING_DESC_F_NEXT, 2);
    driver_descriptor(&card.driver, table, 2, at, 0, VRING_DESC_F_NEXT, 3);
    driver_descriptor(&card.driver, table, 3, at + 25, HEADER + 100 - 25, 0, 0);
    driver_put(&card.driver, TX, 0);
    driver_notify(&card.driver, TX);
    assert_int_equal(far_receive(&card, got, sizeof(got)), 100);
    assert_memory_equal(frame, got, 100);
    card_destroy(&card);
}

static void many_frames_go_in_their_order(void **state)
{
    struct card card;
    uint8_t frame[60], got[100];

    card_create(&card, bit(VIRTIO_RING_F_EVENT_IDX));
    for (unsigned round = 0; round < 100; round++) {
        for (uint16_t head = 0; head < 8; head++) {
            make_frame(frame, 60, broadcast, (uint8_t)(8 * round + head));
            put_frame(&card, head, &plain, frame, 60);
        }
        driver_notify(&card.driver, TX);
        for (uint16_t head = 0; head < 8; head++) {
            assert_int_equal(far_receive(&card, got, sizeof(got)), 60);
            assert_int_equal(got[59], (uint8_t)(59 * 7 + 8 * round + head));
        }
        assert_used(&card, TX, (uint16_t)(8 * (round + 1)));
    }
    card_destroy(&card);
}

static void a_checksum_is_completed(void **state)
{
    struct card card;
    uint8_t frame[NET_FRAME_MAX / 16], got[5000];

    card_create(&card, bit(VIRTIO_NET_F_CSUM));
    for (uint32_t length = 60; length < sizeof(frame); length += 331) {
        struct virtio_net_hdr_v1 header = {
            .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};
        uint16_t count = driver_used_count(&card.driver, TX);

        make_frame(frame, length, broadcast, (uint8_t)length);
        send_frame(&card, 0, &header, frame, length);
        assert_int_equal(far_receive(&card, got, sizeof(got)), length);
        /* The field had the sum of a pseudo header: with its complement the sum of all is that. */
        uint16_t pseudo = (uint16_t)(frame[50] << 8 | frame[51]);
        uint32_t sum = checksum_by_the_book(got + 34, length - 34) + pseudo;
        assert_int_equal((sum & 0xFFFF) + (sum >> 16), 0xFFFF);
        memcpy(got + 50, frame + 50, 2);
        assert_memory_equal(got, frame, length);
        assert_used(&card, TX, count + 1);
    }
    card_destroy(&card);
}

/* A socket takes a segment whole: only its checksum is to be completed. */
static void a_large_segment_goes_whole(void **state)
{
    static uint8_t frame[60000], got[70000];
    struct card card;
    struct virtio_net_hdr_v1 header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                       .hdr_len = 54,
                                       .gso_size = 1460,
                                       .csum_start = 34,
                                       .csum_offset = 16};

    card_create(&card, bit(VIRTIO_NET_F_CSUM) | bit(VIRTIO_NET_F_HOST_TSO4));
    make_frame(frame, sizeof(frame), broadcast, 3);
    send_frame(&card, 0, &header, frame, sizeof(frame));
    assert_int_equal(far_receive(&card, got, sizeof(got)), sizeof(frame));
    assert_memory_not_equal(got + 50, frame + 50, 2);
    memcpy(got + 50, frame + 50, 2);
    assert_memory_equal(got, frame, sizeof(frame));
    card_destroy(&card);
}

static void headers_that_cannot_be_cost_the_frame(void **state)
{
    static const struct virtio_net_hdr_v1 bad[] = {
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 99, .csum_offset = 0},
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 65},
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0xFFFF, .csum_offset = 0xFFFF},
        {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000}, /* without a checksum */
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4},
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
         .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
         .gso_size = 1000}, /* not agreed */
        {.gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 1000},
        {.gso_type = 0x77, .gso_size = 1000},
    };
    struct card card;
    uint8_t frame[100], got[200];

    card_create(&card, bit(VIRTIO_NET_F_CSUM) | bit(VIRTIO_NET_F_HOST_TSO4));
    make_frame(frame, sizeof(frame), broadcast, 4);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        send_frame(&card, 0, &bad[i], frame, sizeof(frame));
        assert_used(&card, TX, (uint16_t)(i + 1));
    }
    assert_far_silent(&card);
    assert_int_equal(__atomic_load_n(&card.device->guest_errors, __ATOMIC_RELAXED),
                     G_N_ELEMENTS(bad));
    send_frame(&card, 0, &plain, frame, sizeof(frame)); /* it works on */
    assert_int_equal(far_receive(&card, got, sizeof(got)), sizeof(frame));
    card_destroy(&card);
}

static void frames_of_lengths_that_cannot_be_are_dropped(void **state)
{
    static uint8_t frame[1024];
    struct card card;

    card_create(&card, 0);
    driver_descriptor(&card.driver, DRIVER_DESCRIPTORS(TX), 0, TX_BUFFER, 5, 0, 0);
    driver_put(&card.driver, TX, 0); /* not even a header */
    driver_descriptor(&card.driver, DRIVER_DESCRIPTORS(TX), 1, TX_BUFFER, HEADER + 13, 0, 0);
    driver_put(&card.driver, TX, 1);
    driver_descriptor(&card.driver, DRIVER_DESCRIPTORS(TX), 2, TX_BUFFER,
                      HEADER + NET_FRAME_MAX + 1, 0, 0);
    driver_put(&card.driver, TX, 2);
    driver_notify(&card.driver, TX);
    assert_used(&card, TX, 3);
    assert_far_silent(&card);
    assert_false(driver_status(&card.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
    /* Outside of memory: nothing can be made of that. */
    memset(frame, 0, sizeof(frame));
    driver_descriptor(&card.driver, DRIVER_DESCRIPTORS(TX), 3, BENCH_RAM - 50, 100, 0, 0);
    driver_put(&card.driver, TX, 3);
    driver_notify(&card.driver, TX);
    for (unsigned ms = 0; ms < PATIENCE_MS; ms++) {
        if (driver_status(&card.driver) & VIRTIO_CONFIG_S_NEEDS_RESET)
            break;
        g_usleep(1000);
    }
    assert_true(driver_status(&card.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
    card_destroy(&card);
}

/* ---- frames that come ---- */

static void a_frame_comes_into_a_buffer(void **state)
{
    struct card card;
    uint8_t frame[600], got[700];
    struct virtio_net_hdr_v1 header;

    card_create(&card, bit(VIRTIO_NET_F_GUEST_CSUM));
    make_frame(frame, sizeof(frame), card_mac, 5);
    offer(&card, 0, 1600);
    far_send(&card, frame, sizeof(frame));
    assert_used(&card, RX, 1);
    assert_int_equal(driver_used(&card.driver, RX, 0).len, HEADER + sizeof(frame));
    driver_peek(&card.driver, RX_BUFFER, &header, HEADER);
    driver_peek(&card.driver, RX_BUFFER + HEADER, got, sizeof(frame));
    assert_memory_equal(got, frame, sizeof(frame));
    assert_int_equal(header.num_buffers, 1);
    assert_int_equal(header.flags, VIRTIO_NET_HDR_F_DATA_VALID);
    assert_int_equal(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
    card_destroy(&card);
}

static void a_frame_waits_for_a_buffer(void **state)
{
    struct card card;
    uint8_t frame[600], got[600];

    card_create(&card, 0);
    make_frame(frame, sizeof(frame), card_mac, 6);
    far_send(&card, frame, sizeof(frame));
    g_usleep(QUIET_MS * 1000);
    assert_int_equal(driver_used_count(&card.driver, RX), 0);
    offer(&card, 3, 1600);
    assert_used(&card, RX, 1);
    driver_peek(&card.driver, RX_BUFFER + 3 * RX_STRIDE + HEADER, got, sizeof(frame));
    assert_memory_equal(got, frame, sizeof(frame));
    card_destroy(&card);
}

static void a_large_frame_is_spread_over_merged_buffers(void **state)
{
    static uint8_t frame[5000], got[5000];
    struct card card;
    struct virtio_net_hdr_v1 header;

    card_create(&card, bit(VIRTIO_NET_F_MRG_RXBUF));
    make_frame(frame, sizeof(frame), card_mac, 7);
    offer(&card, 0, 2000);
    offer(&card, 1, 2000);
    far_send(&card, frame, sizeof(frame));
    g_usleep(QUIET_MS * 1000);
    assert_int_equal(driver_used_count(&card.driver, RX), 0); /* not a part of it */
    offer(&card, 2, 2000);
    assert_used(&card, RX, 3);
    driver_peek(&card.driver, RX_BUFFER, &header, HEADER);
    assert_int_equal(header.num_buffers, 3);
    assert_int_equal(driver_used(&card.driver, RX, 0).len, 2000);
    assert_int_equal(driver_used(&card.driver, RX, 2).len, HEADER + 5000 - 4000);
    driver_peek(&card.driver, RX_BUFFER + HEADER, got, 2000 - HEADER);
    driver_peek(&card.driver, RX_BUFFER + RX_STRIDE, got + 2000 - HEADER, 2000);
    driver_peek(&card.driver, RX_BUFFER + 2 * RX_STRIDE, got + 4000 - HEADER, 1000 + HEADER);
    assert_memory_equal(got, frame, sizeof(frame));
    card_destroy(&card);
}

static void a_frame_too_large_for_the_buffers_is_dropped(void **state)
{
    static uint8_t large[5000], small[100];
    struct card card;

    /* One chain must do, then all of the ring must do. */
    for (unsigned merged = 0; merged < 2; merged++) {
        card_create(&card, merged ? bit(VIRTIO_NET_F_MRG_RXBUF) : 0);
        for (uint16_t head = 0; head < 8; head++)
            offer(&card, head, 400);
        make_frame(large, sizeof(large), card_mac, 8);
        make_frame(small, sizeof(small), card_mac, 9);
        far_send(&card, large, sizeof(large));
        far_send(&card, small, sizeof(small));
        assert_used(&card, RX, 1);
        assert_int_equal(driver_used(&card.driver, RX, 0).len, HEADER + sizeof(small));
        assert_int_equal(__atomic_load_n(&card.device->guest_errors, __ATOMIC_RELAXED), 1);
        card_destroy(&card);
    }
}

static void frames_before_the_driver_is_ready_are_dropped(void **state)
{
    struct card card;
    uint8_t frame[100], got[100];

    card_plug(&card, bench_create(), 3);
    device_resume(card.device);
    make_frame(frame, sizeof(frame), card_mac, 10);
    far_send(&card, frame, sizeof(frame));
    g_usleep(QUIET_MS * 1000);
    driver_open(&card.driver, card.bench, card.device);
    driver_start(&card.driver, 0, 3);
    offer(&card, 0, 1600);
    make_frame(frame, sizeof(frame), card_mac, 11);
    far_send(&card, frame, sizeof(frame));
    assert_used(&card, RX, 1);
    driver_peek(&card.driver, RX_BUFFER + HEADER, got, sizeof(frame));
    assert_memory_equal(got, frame, sizeof(frame));
    card_destroy(&card);
}

/* ---- commands ---- */

/* Whether a frame to `mac` (with `vlan` unless it is negative) reaches the guest. A frame that will
 * certainly pass follows it, so that nobody has to wait for nothing. */
static bool passes(struct card *card, const uint8_t *mac, int vlan)
{
    uint16_t before = driver_used_count(&card->driver, RX);
    uint8_t frame[100], mark;

    make_frame(frame, sizeof(frame), mac, 12);
    frame[99] = 1;
    if (vlan >= 0) {
        frame[12] = 0x81;
        frame[14] = (uint8_t)(vlan >> 8);
        frame[15] = (uint8_t)vlan;
    }
    offer(card, 0, 1600);
    far_send(card, frame, sizeof(frame));
    make_frame(frame, sizeof(frame), card_mac, 12);
    frame[99] = 2;
    far_send(card, frame, sizeof(frame));
    assert_used(card, RX, before + 1);
    driver_peek(&card->driver, RX_BUFFER + HEADER + 99, &mark, 1);
    if (mark == 2)
        return false;
    offer(card, 0, 1600);
    assert_used(card, RX, before + 2);
    return true;
}

static uint8_t mode(struct card *card, uint8_t number, uint8_t on)
{
    return command(card, VIRTIO_NET_CTRL_RX, number, &on, 1);
}

#define FILTERS                                                                            \
    (bit(VIRTIO_NET_F_CTRL_VQ) | bit(VIRTIO_NET_F_CTRL_RX) | bit(VIRTIO_NET_F_CTRL_VLAN) | \
     bit(VIRTIO_NET_F_CTRL_RX_EXTRA) | bit(VIRTIO_NET_F_CTRL_MAC_ADDR))

static void modes_let_kinds_of_addresses_pass(void **state)
{
    struct card card;

    card_create(&card, FILTERS & ~bit(VIRTIO_NET_F_CTRL_VLAN));
    assert_true(passes(&card, stranger, -1)); /* promiscuous at first */
    assert_int_equal(mode(&card, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
    assert_false(passes(&card, stranger, -1));
    assert_false(passes(&card, multicast, -1));
    assert_true(passes(&card, broadcast, -1));
    assert_int_equal(mode(&card, VIRTIO_NET_CTRL_RX_ALLMULTI, 1), VIRTIO_NET_OK);
    assert_true(passes(&card, multicast, -1));
    assert_int_equal(mode(&card, VIRTIO_NET_CTRL_RX_NOMULTI, 1), VIRTIO_NET_OK);
    assert_false(passes(&card, multicast, -1));
    assert_int_equal(mode(&card, VIRTIO_NET_CTRL_RX_ALLUNI, 1), VIRTIO_NET_OK);
    assert_true(passes(&card, stranger, -1));
    assert_int_equal(mode(&card, VIRTIO_NET_CTRL_RX_NOBCAST, 1), VIRTIO_NET_OK);
    assert_false(passes(&card, broadcast, -1));
    assert_int_equal(mode(&card, VIRTIO_NET_CTRL_RX_PROMISC, 1), VIRTIO_NET_OK);
    assert_true(passes(&card, broadcast, -1));
    card_destroy(&card);
}

static void listed_addresses_pass(void **state)
{
    struct card card;
    uint8_t data[4 + 6 + 4 + 6] = {1};

    card_create(&card, FILTERS);
    mode(&card, VIRTIO_NET_CTRL_RX_PROMISC, 0);
    memcpy(data + 4, stranger, 6);
    data[10] = 1;
    memcpy(data + 14, multicast, 6);
    assert_int_equal(
        command(&card, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, sizeof(data)),
        VIRTIO_NET_OK);
    assert_true(passes(&card, stranger, -1));
    assert_true(passes(&card, multicast, -1));
    data[4] = 0x02; /* another */
    data[14] = 0x01;
    command(&card, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, sizeof(data));
    assert_false(passes(&card, stranger, -1));
    assert_false(passes(&card, multicast, -1));
    card_destroy(&card);
}

/* A list that is longer than the card's lets all of its kind pass. */
static void a_long_list_overflows(void **state)
{
    struct card card;
    uint8_t data[4 + 65 * 6 + 4] = {65};

    card_create(&card, FILTERS);
    mode(&card, VIRTIO_NET_CTRL_RX_PROMISC, 0);
    assert_int_equal(
        command(&card, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, sizeof(data)),
        VIRTIO_NET_OK);
    assert_true(passes(&card, stranger, -1));
    assert_false(passes(&card, multicast, -1));
    card_destroy(&card);
}

static void vlans_pass_when_they_are_named(void **state)
{
    struct card card;
    uint16_t vlan = 4095;

    card_create(&card, FILTERS);
    mode(&card, VIRTIO_NET_CTRL_RX_PROMISC, 0);
    assert_false(passes(&card, card_mac, 4095));
    assert_int_equal(
        command(&card, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &vlan, sizeof(vlan)),
        VIRTIO_NET_OK);
    assert_true(passes(&card, card_mac, 4095));
    assert_false(passes(&card, card_mac, 5));
    assert_true(passes(&card, card_mac, -1));
    command(&card, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, &vlan, sizeof(vlan));
    assert_false(passes(&card, card_mac, 4095));
    card_destroy(&card);
}

static void the_station_address_may_be_changed_until_a_reset(void **state)
{
    struct card card;

    card_create(&card, FILTERS);
    assert_int_equal(command(&card, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, stranger, 6),
                     VIRTIO_NET_OK);
    assert_int_equal(bus_read(card.bench->env.mmio, DRIVER_REGISTERS + 0x2005, 1), stranger[5]);
    driver_set_status(&card.driver, 0);
    assert_int_equal(bus_read(card.bench->env.mmio, DRIVER_REGISTERS + 0x2005, 1), card_mac[5]);
    card_destroy(&card);
}

static void commands_that_cannot_be_are_refused(void **state)
{
    struct card card;
    uint8_t table[12] = {0xFF, 0xFF, 0xFF, 0xFF}, short_table[8] = {2}, one = 1;
    uint16_t vlan = 4096;
    uint64_t offloads = bit(VIRTIO_NET_F_GUEST_CSUM);

    card_create(&card, FILTERS);
    assert_int_equal(mode(&card, 99, 1), VIRTIO_NET_ERR);
    assert_int_equal(command(&card, 99, 0, &one, 1), VIRTIO_NET_ERR);
    assert_int_equal(command(&card, VIRTIO_NET_CTRL_RX, 0, &one, 0), VIRTIO_NET_ERR);
    assert_int_equal(command(&card, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table, 12),
                     VIRTIO_NET_ERR);
    assert_int_equal(
        command(&card, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, short_table, 8),
        VIRTIO_NET_ERR);
    assert_int_equal(command(&card, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, table, 5),
                     VIRTIO_NET_ERR);
    assert_int_equal(command(&card, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &vlan, 2),
                     VIRTIO_NET_ERR);
    assert_int_equal(command(&card, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
                             VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &offloads, 8),
                     VIRTIO_NET_ERR);
    card_destroy(&card);
    /* Without a place for the status the device breaks. */
    card_create(&card, FILTERS);
    driver_descriptor(&card.driver, DRIVER_DESCRIPTORS(CTRL), 0, CTRL_BUFFER, 3, 0, 0);
    driver_put(&card.driver, CTRL, 0);
    driver_notify(&card.driver, CTRL);
    assert_true(driver_status(&card.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
    card_destroy(&card);
}

/* More than are carried out at one go. */
static void all_commands_of_a_long_queue_are_carried_out(void **state)
{
    enum { COMMANDS = 128, LENGTH = 3 };
    struct card card;

    card_plug(&card, bench_create(), 3);
    device_resume(card.device);
    driver_open(&card.driver, card.bench, card.device);
    card.driver.size = COMMANDS * 2;
    driver_start(&card.driver, FILTERS, 3);
    for (unsigned i = 0; i < COMMANDS; i++) {
        uint64_t table = DRIVER_DESCRIPTORS(CTRL), at = CTRL_BUFFER + 8 * i;
        uint8_t bytes[] = {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 1, 0xAA};

        driver_poke(&card.driver, at, bytes, sizeof(bytes));
        driver_descriptor(&card.driver, table, 2 * i, at, LENGTH, VRING_DESC_F_NEXT, 2 * i + 1);
        driver_descriptor(&card.driver, table, 2 * i + 1, at + LENGTH, 1, VRING_DESC_F_WRITE, 0);
        driver_put(&card.driver, CTRL, (uint16_t)(2 * i));
    }
    driver_notify(&card.driver, CTRL);
    assert_used(&card, CTRL, COMMANDS);
    for (unsigned i = 0; i < COMMANDS; i++) {
        uint8_t status;

        driver_peek(&card.driver, CTRL_BUFFER + 8 * i + LENGTH, &status, 1);
        assert_int_equal(status, VIRTIO_NET_OK);
    }
    card_destroy(&card);
}

/* ---- holding, pausing, losing ---- */

static void hold_on_loop(void *opaque)
{
    net_link_hold(opaque);
}

static void release_on_loop(void *opaque)
{
    net_link_release(opaque);
}

/* An epoch ends: what it sent goes, what is sent from now on does not. */
static void step_on_loop(void *opaque)
{
    net_link_release(opaque);
    net_link_hold(opaque);
}

static void held_frames_go_in_order_when_released(void **state)
{
    struct card card;
    uint8_t frame[60], got[100];

    card_create(&card, 0);
    loop_call_wait(card.bench->env.loop, hold_on_loop, card.link);
    for (uint16_t head = 0; head < 8; head++) {
        make_frame(frame, 60, broadcast, (uint8_t)head);
        send_frame(&card, head, &plain, frame, 60);
        assert_used(&card, TX, head + 1);
    }
    assert_far_silent(&card);
    loop_call_wait(card.bench->env.loop, step_on_loop, card.link);
    make_frame(frame, 60, broadcast, 100);
    send_frame(&card, 0, &plain, frame, 60);
    assert_used(&card, TX, 9);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(far_receive(&card, got, sizeof(got)), 60);
        assert_int_equal(got[59], (uint8_t)(59 * 7 + i));
    }
    assert_far_silent(&card);
    loop_call_wait(card.bench->env.loop, release_on_loop, card.link);
    assert_int_equal(far_receive(&card, got, sizeof(got)), 60);
    assert_int_equal(got[59], (uint8_t)(59 * 7 + 100));
    card_destroy(&card);
}

/* Beyond the bound, frames stay in the guest's ring; none is lost. */
static void what_cannot_be_held_stays_in_the_queue(void **state)
{
    static uint8_t frame[60000], got[70000];
    struct card card;
    unsigned sent = 0, kept;

    card_create(&card, 0);
    loop_call_wait(card.bench->env.loop, hold_on_loop, card.link);
    for (;; sent++) {
        make_frame(frame, sizeof(frame), broadcast, (uint8_t)sent);
        send_frame(&card, 0, &plain, frame, sizeof(frame));
        for (unsigned ms = 0; ms < 100 && driver_used_count(&card.driver, TX) == sent; ms++)
            g_usleep(1000);
        if (driver_used_count(&card.driver, TX) == sent)
            break;
    }
    kept = sent++;
    assert_true(kept > 50 && kept < NET_HOLD_MAX / sizeof(frame) + 1);
    device_pause(card.device);
    g_autoptr(GBytes) saved = device_save(card.device);
    g_autoptr(GString) text = g_string_new(NULL);
    assert_true(state_dump(saved, "nic", text, NULL));
    assert_non_null(strstr(text->str, "nic.queues[1].in_flight_count = 0")); /* not even taken */
    device_resume(card.device);
    loop_call_wait(card.bench->env.loop, release_on_loop, card.link);
    for (unsigned i = 0; i < sent; i++) {
        assert_int_equal(far_receive(&card, got, sizeof(got)), sizeof(frame));
        assert_int_equal(got[59], (uint8_t)(59 * 7 + i));
    }
    assert_used(&card, TX, (uint16_t)sent);
    card_destroy(&card);
}

static void nothing_moves_while_paused(void **state)
{
    struct card card;
    uint8_t frame[60], got[100];

    card_create(&card, 0);
    make_frame(frame, 60, card_mac, 13);
    offer(&card, 0, 1600);
    device_pause(card.device);
    unsigned messages = card.bench->messages;
    far_send(&card, frame, 60);
    send_frame(&card, 0, &plain, frame, 60);
    assert_far_silent(&card);
    assert_int_equal(driver_used_count(&card.driver, RX), 0);
    assert_int_equal(card.bench->messages, messages);
    device_resume(card.device);
    assert_used(&card, RX, 1);
    assert_int_equal(far_receive(&card, got, sizeof(got)), 60);
    card_destroy(&card);
}

/* Fill the cable, so that a frame is in flight, and load that state into a card elsewhere. */
static void a_frame_in_flight_is_sent_after_a_load(void **state)
{
    struct card card, other;
    uint8_t frame[1500], got[2000];
    uint16_t used = 0;

    card_create(&card, 0);
    for (unsigned i = 0;; i++) {
        make_frame(frame, sizeof(frame), broadcast, (uint8_t)i);
        send_frame(&card, 0, &plain, frame, sizeof(frame));
        for (unsigned ms = 0; ms < 100 && driver_used_count(&card.driver, TX) == used; ms++)
            g_usleep(1000);
        if (driver_used_count(&card.driver, TX) == used)
            break;
        used = driver_used_count(&card.driver, TX);
    }
    device_pause(card.device);
    g_autoptr(GBytes) saved = device_save(card.device);
    card_plug(&other, card.bench, 4);
    assert_true(device_load(other.device, saved, NULL));
    g_autoptr(GBytes) again = device_save(other.device);
    assert_true(g_bytes_equal(saved, again));
    device_resume(other.device);
    assert_int_equal(far_receive(&other, got, sizeof(got)), sizeof(frame));
    assert_memory_equal(got, frame, sizeof(frame));
    assert_used(&card, TX, used + 1); /* the ring is the same */
    card_unplug(&other);
    card_destroy(&card);
}

static void a_cable_that_is_lost_is_told(void **state)
{
    struct card card;
    uint8_t frame[60];

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    close(card.far);
    card.far = -1;
    for (unsigned ms = 0; ms < PATIENCE_MS; ms++) {
        if (!bus_read(card.bench->env.mmio, DRIVER_REGISTERS + 0x2006, 2))
            break;
        g_usleep(1000);
    }
    assert_int_equal(bus_read(card.bench->env.mmio, DRIVER_REGISTERS + 0x2006, 2), 0);
    make_frame(frame, 60, broadcast, 14);
    send_frame(&card, 0, &plain, frame, 60); /* goes nowhere, like on any loose cable */
    assert_used(&card, TX, 1);
    assert_int_equal(driver_read(&card.driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1), 1);
    card_destroy(&card);
}

/* ---- resets among frames ---- */

static gpointer flood(gpointer opaque)
{
    struct card *card = opaque;
    uint8_t frame[1000], got[2000];

    make_frame(frame, sizeof(frame), card_mac, 15);
    while (__atomic_load_n(&card->commands, __ATOMIC_RELAXED) == 0) {
        send(card->far, frame, sizeof(frame), MSG_DONTWAIT);
        recv(card->far, got, sizeof(got), MSG_DONTWAIT);
    }
    return NULL;
}

static void resets_come_while_frames_fly(void **state)
{
    struct card card;
    uint8_t frame[500];
    unsigned moved = 0;

    card_create(&card, 0);
    GThread *thread = g_thread_new("flood", flood, &card);
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned queue = 0; queue < 2; queue++) {
            driver_poke16(&card.driver, DRIVER_AVAILABLE(queue) + 2, 0);
            driver_poke16(&card.driver, DRIVER_USED(queue) + 2, 0);
        }
        driver_start(&card.driver, 0, 3);
        for (uint16_t head = 0; head < 8; head++) {
            make_frame(frame, sizeof(frame), broadcast, (uint8_t)head);
            put_frame(&card, head, &plain, frame, sizeof(frame));
            offer(&card, head, 1600);
        }
        driver_notify(&card.driver, TX);
        g_usleep(round % 10 * 50);
        if (round % 3 == 0) {
            device_pause(card.device);
            device_resume(card.device);
        }
        if (round % 5 == 0)
            device_reset(card.device);
        else
            driver_set_status(&card.driver, 0);
        moved += driver_used_count(&card.driver, TX) + driver_used_count(&card.driver, RX);
        driver_open(&card.driver, card.bench, card.device);
    }
    __atomic_store_n(&card.commands, 1, __ATOMIC_RELAXED);
    g_thread_join(thread);
    assert_true(moved > 0);
    card_destroy(&card);
}

static void swallow(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer data)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_configuration_has_mac_status_and_mtu),
        cmocka_unit_test(what_is_offered_does_not_depend_on_the_cable),
        cmocka_unit_test(a_card_without_a_cable_swallows_frames),
        cmocka_unit_test(a_frame_goes_as_it_is),
        cmocka_unit_test(a_frame_in_pieces_is_put_together),
        cmocka_unit_test(many_frames_go_in_their_order),
        cmocka_unit_test(a_checksum_is_completed),
        cmocka_unit_test(a_large_segment_goes_whole),
        cmocka_unit_test(headers_that_cannot_be_cost_the_frame),
        cmocka_unit_test(frames_of_lengths_that_cannot_be_are_dropped),
        cmocka_unit_test(a_frame_comes_into_a_buffer),
        cmocka_unit_test(a_frame_waits_for_a_buffer),
        cmocka_unit_test(a_large_frame_is_spread_over_merged_buffers),
        cmocka_unit_test(a_frame_too_large_for_the_buffers_is_dropped),
        cmocka_unit_test(frames_before_the_driver_is_ready_are_dropped),
        cmocka_unit_test(modes_let_kinds_of_addresses_pass),
        cmocka_unit_test(listed_addresses_pass),
        cmocka_unit_test(a_long_list_overflows),
        cmocka_unit_test(vlans_pass_when_they_are_named),
        cmocka_unit_test(the_station_address_may_be_changed_until_a_reset),
        cmocka_unit_test(commands_that_cannot_be_are_refused),
        cmocka_unit_test(all_commands_of_a_long_queue_are_carried_out),
        cmocka_unit_test(held_frames_go_in_order_when_released),
        cmocka_unit_test(what_cannot_be_held_stays_in_the_queue),
        cmocka_unit_test(nothing_moves_while_paused),
        cmocka_unit_test(a_frame_in_flight_is_sent_after_a_load),
        cmocka_unit_test(a_cable_that_is_lost_is_told),
        cmocka_unit_test(resets_come_while_frames_fly),
    };

    g_log_set_handler("anima", G_LOG_LEVEL_MESSAGE, swallow, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
