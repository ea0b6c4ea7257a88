// SPDX-License-Identifier: Apache-2.0
/*
 * A network card on a bench: a driver in front of it, and behind it the far end of its cable.
 */
#pragma once

#include "tests/unit/virtio_driver.h"

#include <poll.h>
#include <sys/socket.h>

#include "vmm/device/virtio/virtio_net.h"

#define HEADER      12 /* bytes before each frame */
#define RX          0
#define TX          1
#define CTRL        2
#define RX_BUFFER   0x40000ULL /* of head N of the receive queue: + N * RX_STRIDE */
#define RX_STRIDE   0x1000ULL
#define TX_BUFFER   0x80000ULL
#define TX_STRIDE   0x2000ULL
#define CTRL_BUFFER 0x70000ULL
#define PATIENCE_MS 5000
#define QUIET_MS    30

static const uint8_t card_mac[6] = {0x52, 0x54, 0, 1, 2, 3};

struct card {
    struct bench *bench;
    struct device *device;
    struct net_link *link;
    struct driver driver;
    int far;
    uint16_t commands; /* so far */
};

static inline uint64_t bit(unsigned feature)
{
    return 1ULL << feature;
}

/* A card in `bench` with a socket pair for its cable; no driver yet. */
static inline void card_plug(struct card *card, struct bench *bench, uint8_t slot)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    struct net_link_config link = {NET_LINK_PACKETS, ends[0], "nic 0"};
    struct virtio_nic_config config = {.address = {NULL, slot, 0}};

    *card = (struct card){.bench = bench, .far = ends[1]};
    memcpy(config.mac, card_mac, 6);
    card->link = config.link = net_link_create(&link, NULL);
    assert_non_null(card->link);
    card->device =
        device_create(&virtio_net_device, slot == 3 ? "nic0" : "nic1", &bench->env, &config, NULL);
    assert_non_null(card->device);
}

/* With a driver that has accepted `features`. */
static inline void card_create(struct card *card, uint64_t features)
{
    card_plug(card, bench_create(), 3);
    device_resume(card->device);
    driver_open(&card->driver, card->bench, card->device);
    driver_msix(&card->driver, 4);
    driver_start(&card->driver, features, 3);
}

static inline void card_unplug(struct card *card)
{
    device_pause(card->device);
    device_destroy(card->device);
    net_link_destroy(card->link);
    if (card->far >= 0)
        close(card->far);
}

static inline void card_destroy(struct card *card)
{
    card_unplug(card);
    bench_destroy(card->bench);
}

/* ---- the far end ---- */

static inline void far_send(struct card *card, const void *frame, size_t length)
{
    assert_int_equal(send(card->far, frame, length, 0), length);
}

/* The next frame's length; fails without one. */
static inline size_t far_receive(struct card *card, void *frame, size_t size)
{
    struct pollfd poll_fd = {card->far, POLLIN, 0};

    assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
    ssize_t length = recv(card->far, frame, size, 0);
    assert_true(length > 0);
    return (size_t)length;
}

static inline void assert_far_silent(struct card *card)
{
    struct pollfd poll_fd = {card->far, POLLIN, 0};

    assert_int_equal(poll(&poll_fd, 1, QUIET_MS), 0);
}

/* ---- the driver ---- */

/* `count` entries of the queue are used by now, or soon. */
static inline void assert_used(struct card *card, unsigned queue, uint16_t count)
{
    for (unsigned ms = 0; driver_used_count(&card->driver, queue) != count; ms++) {
        if (ms == PATIENCE_MS)
            fail_msg("queue %u: %u used, not %u", queue, driver_used_count(&card->driver, queue),
                     count);
        g_usleep(1000);
    }
}

/* Put a writable buffer for frames that come into descriptor `head`. */
static inline void offer(struct card *card, uint16_t head, uint32_t length)
{
    driver_descriptor(&card->driver, DRIVER_DESCRIPTORS(RX), head, RX_BUFFER + RX_STRIDE * head,
                      length, VRING_DESC_F_WRITE, 0);
    driver_put(&card->driver, RX, head);
    driver_notify(&card->driver, RX);
}

/* Put a frame behind `header` into descriptor `head`, without a notification. */
static inline void put_frame(struct card *card, uint16_t head,
                             const struct virtio_net_hdr_v1 *header, const void *frame,
                             uint32_t length)
{
    uint64_t at = TX_BUFFER + TX_STRIDE * head;

    driver_poke(&card->driver, at, header, HEADER);
    driver_poke(&card->driver, at + HEADER, frame, length);
    driver_descriptor(&card->driver, DRIVER_DESCRIPTORS(TX), head, at, HEADER + length, 0, 0);
    driver_put(&card->driver, TX, head);
}

static inline void send_frame(struct card *card, uint16_t head,
                              const struct virtio_net_hdr_v1 *header, const void *frame,
                              uint32_t length)
{
    put_frame(card, head, header, frame, length);
    driver_notify(&card->driver, TX);
}

/* Give a command; its status. */
static inline uint8_t command(struct card *card, uint8_t class, uint8_t number, const void *data,
                              uint32_t length)
{
    uint8_t status = 0xAA;

    driver_poke(&card->driver, CTRL_BUFFER, &class, 1);
    driver_poke(&card->driver, CTRL_BUFFER + 1, &number, 1);
    driver_poke(&card->driver, CTRL_BUFFER + 2, data, length);
    driver_descriptor(&card->driver, DRIVER_DESCRIPTORS(CTRL), 0, CTRL_BUFFER, 2 + length,
                      VRING_DESC_F_NEXT, 1);
    driver_descriptor(&card->driver, DRIVER_DESCRIPTORS(CTRL), 1, CTRL_BUFFER + 0x1000, 1,
                      VRING_DESC_F_WRITE, 0);
    driver_put(&card->driver, CTRL, 0);
    driver_notify(&card->driver, CTRL);
    assert_used(card, CTRL, ++card->commands);
    driver_peek(&card->driver, CTRL_BUFFER + 0x1000, &status, 1);
    return status;
}

/* A frame of `length` bytes to `mac`, whose bytes tell it from others by `mark`. */
static inline void make_frame(uint8_t *frame, uint32_t length, const uint8_t *mac, uint8_t mark)
{
    for (uint32_t i = 0; i < length; i++)
        frame[i] = (uint8_t)(i * 7 + mark);
    memcpy(frame, mac, 6);
    frame[6] = 0x02;
    frame[12] = 0x08;
    frame[13] = 0x00;
}

/* The Internet checksum by the book (RFC 1071), of big-endian words. */
static inline uint16_t checksum_by_the_book(const uint8_t *bytes, uint32_t length)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < length; i++) {
        sum += i % 2 ? bytes[i] : bytes[i] << 8;
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    return (uint16_t)sum;
}
