// SPDX-License-Identifier: Apache-2.0
/* Cutting large TCP segments: what comes out is what a sender would have sent in small ones. */
#include "vmm/net/segment.h"

#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/virtio_net.h"
#include "vmm/net/checksum.h"
#include "vmm/net/link.h"

#define MTU      1500
#define SEQUENCE 0xFFFFF000U

static uint8_t frame[NET_FRAME_MAX], piece[NET_FRAME_MAX], got[NET_FRAME_MAX];

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return get16(at) << 16 | get16(at + 2);
}

/* A frame with a TCP segment of `payload` bytes behind `options` bytes of options. */
static uint32_t make(bool ipv6, unsigned options, uint32_t payload, uint8_t flags)
{
    unsigned ip = ipv6 ? 40 : 20, tcp = 20 + options;
    uint8_t *at = frame + NET_HEADER_MIN;

    memset(frame, 0, sizeof(frame));
    put16(frame + 12, ipv6 ? 0x86DD : 0x0800);
    at[0] = ipv6 ? 0x60 : 0x45;
    put16(at + (ipv6 ? 4 : 2), tcp + payload + (ipv6 ? 0 : ip));
    if (!ipv6)
        put16(at + 4, 0xFFFF); /* number */
    at[ipv6 ? 6 : 9] = 6;
    memset(at + (ipv6 ? 8 : 12), 0x5A, ipv6 ? 32 : 8);
    at += ip;
    at[4] = 0xFF;
    at[5] = 0xFF;
    at[6] = 0xF0;
    at[12] = (uint8_t)(tcp / 4 << 4);
    at[13] = flags;
    for (uint32_t i = 0; i < payload; i++)
        at[tcp + i] = (uint8_t)(i * 7 + i / 256);
    return NET_HEADER_MIN + ip + tcp + payload;
}

/* The sum over TCP with its pseudo header; 0xFFFF when the checksum is right. */
static uint16_t tcp_sum(const uint8_t *at, bool ipv6, uint32_t length)
{
    unsigned ip = ipv6 ? 40 : 20, size = ipv6 ? 32 : 8;
    uint8_t pseudo[40] = {0};
    uint32_t bytes = length - NET_HEADER_MIN - ip;
    uint16_t sums[2];

    memcpy(pseudo, at + NET_HEADER_MIN + (ipv6 ? 8 : 12), size);
    put16(pseudo + size + 2, bytes);
    pseudo[size + 7] = 6;
    sums[0] = net_checksum_sum(pseudo, size + 8);
    sums[1] = net_checksum_sum(at + NET_HEADER_MIN + ip, bytes);
    return net_checksum_sum((uint8_t *)sums, sizeof(sums));
}

static void check_cut(bool ipv6, unsigned options, uint32_t payload)
{
    unsigned ip = ipv6 ? 40 : 20, headers = NET_HEADER_MIN + ip + 20 + options, pieces = 0;
    uint32_t length = make(ipv6, options, payload, 0x80 | 0x10 | 8 | 1), done = 0, size;
    struct net_segments segments;

    assert_true(net_segments_begin(&segments, frame, length, MTU));
    while ((size = net_segments_next(&segments, piece))) {
        const uint8_t *tcp = piece + NET_HEADER_MIN + ip;
        bool last = done + size - headers == payload;

        assert_in_range(size, headers + 1, NET_HEADER_MIN + MTU);
        assert_int_equal(get32(tcp + 4), SEQUENCE + done);
        assert_int_equal(tcp[13], 0x10 | (done ? 0 : 0x80) | (last ? 9 : 0));
        assert_int_equal(get16(piece + NET_HEADER_MIN + (ipv6 ? 4 : 2)),
                         size - NET_HEADER_MIN - (ipv6 ? ip : 0));
        if (!ipv6) {
            assert_int_equal(net_checksum_sum(piece + NET_HEADER_MIN, ip), 0xFFFF);
            assert_int_equal(get16(piece + NET_HEADER_MIN + 4), (0xFFFF + pieces) & 0xFFFF);
        }
        assert_int_equal(tcp_sum(piece, ipv6, size), 0xFFFF);
        memcpy(got + done, piece + headers, size - headers);
        done += size - headers;
        pieces++;
    }
    assert_int_equal(done, payload);
    assert_memory_equal(got, frame + headers, payload);
    assert_int_equal(pieces, (payload + MTU - ip - 20 - options - 1) / (MTU - ip - 20 - options));
}

static void pieces_are_what_a_sender_would_have_sent(void **state)
{
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        check_cut(ipv6, 0, 1461);
        check_cut(ipv6, 12, 3000);
        check_cut(ipv6, 40, 65535 - 60 - 40);
    }
}

static void a_guest_is_told_how_to_cut(void **state)
{
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        uint32_t length = make(ipv6, 12, 20000, 0x10);
        struct virtio_net_hdr_v1 header;
        struct net_segments segments;

        assert_true(net_segments_begin(&segments, frame, length, MTU));
        net_segments_leave(&segments, &header);
        assert_int_equal(header.gso_type,
                         ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
        assert_int_equal(header.gso_size, MTU - (ipv6 ? 40 : 20) - 32);
        assert_int_equal(header.hdr_len, NET_HEADER_MIN + (ipv6 ? 40 : 20) + 32);
        /* Who finishes the checksum gets the right one. */
        assert_true(net_checksum_complete(&header, frame, length));
        assert_int_equal(tcp_sum(frame, ipv6, length), 0xFFFF);
    }
}

static void what_is_no_large_segment_is_left_alone(void **state)
{
    static const struct {
        unsigned at;
        uint8_t value;
    } faults[] = {
        {12, 0x88}, /* another protocol */
        {14, 0x55}, /* IPv5 */
        {14, 0x44}, /* a short header of IP */
        {14, 0x4F}, /* a long one: TCP's header is elsewhere */
        {16, 0x01}, /* another length */
        {20, 0x20}, /* a fragment */
        {21, 0x01}, /* one behind it */
        {23, 17},   /* UDP */
        {46, 0x40}, /* a short header of TCP */
    };
    struct net_segments segments;

    assert_false(net_segments_begin(&segments, frame, make(false, 0, 1460, 0x10), MTU));
    for (unsigned i = 0; i < G_N_ELEMENTS(faults); i++) {
        uint32_t length = make(false, 0, 3000, 0x10);

        frame[faults[i].at] = faults[i].value;
        if (faults[i].at == 14 && faults[i].value == 0x4F)
            memset(frame + NET_HEADER_MIN + 60, 0, 20);
        if (net_segments_begin(&segments, frame, length, MTU))
            fail_msg("byte %u as %02x", faults[i].at, faults[i].value);
    }
    /* Headers that leave no room for anything. */
    assert_false(net_segments_begin(&segments, frame, make(false, 40, 3000, 0x10), 80));
}

static void random_headers_lead_nowhere_else(void **state)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(5);

    for (unsigned n = 0; n < 20000; n++) {
        uint32_t length = make(n & 1, 0, 1600, 0x10), size;
        struct net_segments segments;

        for (unsigned i = 0; i < 3; i++)
            frame[g_rand_int_range(random, 12, 100)] = (uint8_t)g_rand_int(random);
        length = (uint32_t)g_rand_int_range(random, 1, (int)length + 1);
        uint8_t *exact = g_memdup2(frame, length);
        if (net_segments_begin(&segments, exact, length, 200))
            while ((size = net_segments_next(&segments, piece)))
                assert_in_range(size, 1, NET_HEADER_MIN + 200);
        g_free(exact);
    }
}

/* ---- a card ---- */

static void a_large_segment_comes_whole_or_in_pieces(void **state)
{
    const uint64_t takes = bit(VIRTIO_NET_F_GUEST_CSUM) | bit(VIRTIO_NET_F_GUEST_TSO4);
    const uint32_t length = make(false, 0, 3000, 0x10);
    struct virtio_net_hdr_v1 header;
    struct card card;

    memcpy(frame, card_mac, sizeof(card_mac));
    card_create(&card, takes);
    offer(&card, 0, 4090);
    far_send(&card, frame, length);
    assert_used(&card, RX, 1);
    assert_int_equal(driver_used(&card.driver, RX, 0).len, HEADER + length);
    driver_peek(&card.driver, RX_BUFFER, &header, HEADER);
    assert_int_equal(header.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
    assert_int_equal(header.gso_size, 1460);
    assert_int_equal(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    card_destroy(&card);

    /* The second piece waits for a buffer. */
    card_create(&card, 0);
    offer(&card, 0, 2000);
    far_send(&card, frame, length);
    assert_used(&card, RX, 1);
    offer(&card, 1, 2000);
    offer(&card, 2, 2000);
    assert_used(&card, RX, 3);
    for (unsigned i = 0, done = 0; i < 3; i++) {
        uint32_t size = driver_used(&card.driver, RX, (uint16_t)i).len - HEADER;

        assert_int_equal(size, i < 2 ? 1514 : 54 + 80);
        driver_peek(&card.driver, RX_BUFFER + i * RX_STRIDE, &header, HEADER);
        assert_int_equal(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
        driver_peek(&card.driver, RX_BUFFER + i * RX_STRIDE + HEADER, got, size);
        assert_memory_equal(got + 54, frame + 54 + done, size - 54);
        done += size - 54;
    }
    card_destroy(&card);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_what_a_sender_would_have_sent),
        cmocka_unit_test(a_guest_is_told_how_to_cut),
        cmocka_unit_test(what_is_no_large_segment_is_left_alone),
        cmocka_unit_test(random_headers_lead_nowhere_else),
        cmocka_unit_test(a_large_segment_comes_whole_or_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
