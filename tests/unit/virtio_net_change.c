// SPDX-License-Identifier: Apache-2.0
/* A network card that changes while its guest runs: its cable moves, is pulled and plugged, and its
 * rate is limited. The machine's clock is the test's. */
#include "tests/unit/virtio_net.h"

#include "vmm/device/virtio/net_cable.h"

#define STATUS (DRIVER_REGISTERS + 0x2006)
#define LENGTH 1000
#define RING   8 /* entries of the driver's queues */
#define MOVES  60

static const struct virtio_net_hdr_v1 plain;
static const uint8_t broadcast[6] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

static void nothing(void *opaque)
{
}

/* What waits on the I/O thread is done. */
static void settle(struct card *card)
{
    for (unsigned i = 0; i < 4; i++)
        loop_call_wait(card->bench->env.loop, nothing, NULL);
}

static unsigned status(struct card *card)
{
    settle(card);
    return bus_read(card->bench->env.mmio, STATUS, 2);
}

static void step(struct card *card, int64_t ns)
{
    settle(card);
    bench_step(card->bench, ns);
    settle(card);
}

/* The other end of a new cable, into which the card's is plugged; gives back the former one. */
static int plug(struct card *card)
{
    int ends[2], former = card->far;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    struct net_link_config config = {NET_LINK_PACKETS, ends[0], "nic 0"};
    struct net_link *link = net_link_create(&config, NULL);
    assert_ptr_equal(virtio_net_plug(card->device, link), card->link);
    net_link_destroy(card->link);
    card->link = link;
    card->far = ends[1];
    return former;
}

static void unplug(struct card *card)
{
    assert_ptr_equal(virtio_net_plug(card->device, NULL), card->link);
    net_link_destroy(g_steal_pointer(&card->link));
    close(card->far);
    card->far = -1;
}

static void send_marked(struct card *card, uint8_t mark)
{
    uint8_t frame[LENGTH];

    make_frame(frame, LENGTH, broadcast, mark);
    send_frame(card, mark, &plain, frame, LENGTH);
}

static void expect_marked(struct card *card, uint8_t mark)
{
    uint8_t got[2000];

    assert_int_equal(far_receive(card, got, sizeof(got)), LENGTH);
    assert_int_equal(got[LENGTH - 1], (uint8_t)((LENGTH - 1) * 7 + mark));
}

/* ---- the cable ---- */

static void a_cable_that_moves_is_down_for_a_while(void **state)
{
    struct card card;
    uint8_t frame[LENGTH];

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    driver_write(&card.driver, VIRTIO_PCI_COMMON_MSIX, 2, 0);
    unsigned messages = card.bench->messages;
    int former = plug(&card);
    assert_int_equal(status(&card), 0);
    assert_int_equal(card.bench->messages, messages + 1);
    /* The former end hears that it was left, and nothing reaches the new one. */
    assert_int_equal(recv(former, frame, 1, MSG_DONTWAIT), 0);
    send_marked(&card, 0);
    assert_used(&card, TX, 1);
    offer(&card, 0, 1600);
    make_frame(frame, LENGTH, card_mac, 1);
    far_send(&card, frame, LENGTH);
    step(&card, NET_CABLE_DOWN_NS - 1);
    assert_far_silent(&card);
    assert_int_equal(status(&card), 0);
    step(&card, 1);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    assert_int_equal(card.bench->data, 0); /* the last interrupt is the configuration's */
    assert_int_equal(driver_used_count(&card.driver, RX), 0);
    send_marked(&card, 1);
    expect_marked(&card, 1);
    far_send(&card, frame, LENGTH);
    assert_used(&card, RX, 1);
    close(former);
    card_destroy(&card);
}

static void a_card_without_a_cable_comes_up_at_once(void **state)
{
    struct card card;

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    unplug(&card);
    assert_int_equal(status(&card), 0);
    send_marked(&card, 0);
    assert_used(&card, TX, 1);
    step(&card, NET_CABLE_DOWN_NS);
    assert_int_equal(status(&card), 0);
    plug(&card);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    send_marked(&card, 1);
    expect_marked(&card, 1);
    card_destroy(&card);
}

static void moves_in_a_row_do_not_shorten_the_time(void **state)
{
    struct card card;

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    unplug(&card);
    step(&card, NET_CABLE_DOWN_NS / 2);
    plug(&card);
    assert_int_equal(status(&card), 0);
    close(plug(&card));
    step(&card, NET_CABLE_DOWN_NS / 2 - 1);
    assert_int_equal(status(&card), 0);
    step(&card, 1);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    card_destroy(&card);
}

static void a_cable_is_pulled_and_plugged_in_again(void **state)
{
    struct card card;

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    virtio_net_pull(card.device, true);
    virtio_net_pull(card.device, true);
    assert_int_equal(status(&card), 0);
    step(&card, 100 * NET_CABLE_DOWN_NS);
    assert_int_equal(status(&card), 0);
    /* What it leads to may change meanwhile. */
    close(plug(&card));
    assert_int_equal(status(&card), 0);
    virtio_net_pull(card.device, false);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    send_marked(&card, 3);
    expect_marked(&card, 3);
    card_destroy(&card);
}

static void a_guest_that_can_is_asked_to_announce_itself(void **state)
{
    struct card card;

    card_create(&card, bit(VIRTIO_NET_F_STATUS) | bit(VIRTIO_NET_F_CTRL_VQ) |
                           bit(VIRTIO_NET_F_GUEST_ANNOUNCE));
    close(plug(&card));
    step(&card, NET_CABLE_DOWN_NS);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    step(&card, NET_CABLE_SETTLE_NS);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
    assert_int_equal(
        command(&card, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
        VIRTIO_NET_OK);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    assert_int_equal(command(&card, VIRTIO_NET_CTRL_ANNOUNCE, 1, NULL, 0), VIRTIO_NET_ERR);
    card_destroy(&card);
}

static void one_that_cannot_is_not_asked(void **state)
{
    struct card card;

    card_create(&card, bit(VIRTIO_NET_F_STATUS) | bit(VIRTIO_NET_F_CTRL_VQ));
    close(plug(&card));
    step(&card, NET_CABLE_DOWN_NS);
    step(&card, NET_CABLE_SETTLE_NS);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    assert_int_equal(
        command(&card, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
        VIRTIO_NET_ERR);
    card_destroy(&card);
}

static void a_reset_ends_the_wait(void **state)
{
    struct card card;

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    close(plug(&card));
    assert_int_equal(status(&card), 0);
    driver_set_status(&card.driver, 0);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    step(&card, NET_CABLE_DOWN_NS + NET_CABLE_SETTLE_NS);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    card_destroy(&card);
}

/* A machine that is paused, saved and goes on elsewhere in the middle of it. */
static void the_rest_of_the_wait_is_part_of_the_state(void **state)
{
    struct card card, other;

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    close(plug(&card));
    step(&card, NET_CABLE_DOWN_NS / 2);
    device_pause(card.device);
    g_autoptr(GBytes) saved = device_save(card.device);
    card_plug(&other, card.bench, 4);
    assert_true(device_load(other.device, saved, NULL));
    device_resume(other.device);
    settle(&other);
    g_autoptr(GBytes) down = device_save(other.device);
    assert_true(g_bytes_equal(saved, down));
    step(&other, NET_CABLE_DOWN_NS / 2);
    device_pause(other.device);
    g_autoptr(GBytes) up = device_save(other.device);
    g_autoptr(GString) text = g_string_new(NULL);
    assert_true(state_dump(up, "nic", text, NULL));
    assert_non_null(strstr(text->str, "nic.cable.up = true"));
    card_unplug(&other);
    card_destroy(&card);
}

static void a_pause_puts_the_news_off(void **state)
{
    struct card card;

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    driver_write(&card.driver, VIRTIO_PCI_COMMON_MSIX, 2, 0);
    device_pause(card.device);
    unsigned messages = card.bench->messages;
    unplug(&card);
    assert_int_equal(card.bench->messages, messages);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    device_resume(card.device);
    assert_int_equal(status(&card), 0);
    assert_int_equal(card.bench->messages, messages + 1);
    plug(&card);
    card_destroy(&card);
}

static void hold_on_loop(void *opaque)
{
    net_link_hold(opaque);
}

static void release_on_loop(void *opaque)
{
    net_link_release(opaque);
}

static void what_is_held_stays_held_at_the_new_end(void **state)
{
    struct card card;

    card_create(&card, 0);
    loop_call_wait(card.bench->env.loop, hold_on_loop, card.link);
    close(plug(&card));
    step(&card, NET_CABLE_DOWN_NS);
    send_marked(&card, 0);
    assert_used(&card, TX, 1);
    assert_far_silent(&card);
    loop_call_wait(card.bench->env.loop, release_on_loop, card.link);
    expect_marked(&card, 0);
    card_destroy(&card);
}

/* ---- the rate ---- */

/* So many frames go, and no more. */
static void expect_frames(struct card *card, unsigned count)
{
    uint8_t frame[2000];

    for (unsigned i = 0; i < count; i++)
        far_receive(card, frame, sizeof(frame));
    settle(card);
    assert_int_equal(recv(card->far, frame, sizeof(frame), MSG_DONTWAIT), -1);
}

static void frames_go_at_their_rate(void **state)
{
    struct card card;

    card_create(&card, 0);
    virtio_net_limit(card.device, 100 * LENGTH, 0);
    for (uint8_t i = 0; i < RING; i++)
        send_marked(&card, i);
    expect_frames(&card, 1);
    step(&card, 10 * MS - 1);
    assert_far_silent(&card);
    step(&card, 1);
    expect_frames(&card, 1);
    for (unsigned i = 0; i < 3; i++) {
        step(&card, 10 * MS);
        expect_frames(&card, 1);
    }
    /* Without the limit all that waits goes. */
    virtio_net_limit(card.device, 0, 0);
    expect_frames(&card, RING - 5);
    assert_used(&card, TX, RING);
    card_destroy(&card);
}

static void a_burst_goes_at_once(void **state)
{
    struct card card;

    card_create(&card, 0);
    virtio_net_limit(card.device, 100 * LENGTH, 50 * MS);
    step(&card, NS_PER_SECOND);
    for (uint8_t i = 0; i < RING; i++)
        send_marked(&card, i);
    expect_frames(&card, 6);
    assert_far_silent(&card);
    step(&card, 10 * MS);
    expect_frames(&card, 1);
    card_destroy(&card);
}

static void frames_come_at_their_rate(void **state)
{
    struct card card;
    uint8_t frame[LENGTH];

    card_create(&card, 0);
    virtio_net_limit(card.device, 100 * LENGTH, 0);
    make_frame(frame, LENGTH, card_mac, 0);
    for (uint16_t i = 0; i < RING; i++) {
        offer(&card, i, 1600);
        far_send(&card, frame, LENGTH);
    }
    assert_used(&card, RX, 1);
    for (uint16_t i = 2; i < 6; i++) {
        step(&card, 10 * MS);
        assert_used(&card, RX, i);
    }
    virtio_net_limit(card.device, 0, 0);
    assert_used(&card, RX, RING);
    card_destroy(&card);
}

/* The two directions do not wait for each other. */
static void each_direction_has_the_rate(void **state)
{
    struct card card;
    uint8_t frame[LENGTH];

    card_create(&card, 0);
    virtio_net_limit(card.device, LENGTH, 0);
    make_frame(frame, LENGTH, card_mac, 0);
    send_marked(&card, 0);
    expect_frames(&card, 1);
    offer(&card, 0, 1600);
    far_send(&card, frame, LENGTH);
    assert_used(&card, RX, 1);
    card_destroy(&card);
}

/* Frames that wait for their time are in no state of the host's, so that nothing is lost. */
static void what_waits_survives_a_pause(void **state)
{
    struct card card;

    card_create(&card, 0);
    virtio_net_limit(card.device, 100 * LENGTH, 0);
    for (uint8_t i = 0; i < 4; i++)
        send_marked(&card, i);
    expect_frames(&card, 1);
    device_pause(card.device);
    step(&card, NS_PER_SECOND);
    assert_far_silent(&card);
    device_resume(card.device);
    expect_frames(&card, 1);
    for (unsigned i = 0; i < 2; i++) {
        step(&card, 10 * MS);
        expect_frames(&card, 1);
    }
    card_destroy(&card);
}

/* ---- everything at once ---- */

struct traffic {
    struct card *card;
    int far;
    bool over;
};

static gpointer flood(gpointer opaque)
{
    struct traffic *traffic = opaque;
    uint8_t frame[LENGTH], got[2000];

    make_frame(frame, LENGTH, card_mac, 15);
    while (!__atomic_load_n(&traffic->over, __ATOMIC_RELAXED)) {
        int far = __atomic_load_n(&traffic->far, __ATOMIC_ACQUIRE);

        send(far, frame, LENGTH, MSG_DONTWAIT | MSG_NOSIGNAL);
        recv(far, got, sizeof(got), MSG_DONTWAIT);
    }
    return NULL;
}

static void cables_move_while_frames_fly(void **state)
{
    int ends[MOVES];
    struct card card;
    struct traffic traffic;

    card_create(&card, bit(VIRTIO_NET_F_STATUS));
    traffic = (struct traffic){&card, card.far, false};
    GThread *thread = g_thread_new("flood", flood, &traffic);
    for (uint16_t i = 0; i < MOVES; i++) {
        if (i < RING)
            offer(&card, i, 1600);
        send_marked(&card, i % RING);
        /* The thread may still use the former end. */
        ends[i] = plug(&card);
        __atomic_store_n(&traffic.far, card.far, __ATOMIC_RELEASE);
        virtio_net_limit(card.device, i % 3 * 1000000, 0);
        if (i % RING == RING - 1) {
            virtio_net_limit(card.device, 0, 0);
            assert_used(&card, TX, i + 1);
        }
        if (i % 4 == 0)
            step(&card, NET_CABLE_DOWN_NS);
        if (i % 7 == 0) {
            device_pause(card.device);
            device_resume(card.device);
        }
    }
    virtio_net_limit(card.device, 0, 0);
    assert_used(&card, TX, MOVES);
    step(&card, NET_CABLE_DOWN_NS);
    assert_int_equal(status(&card), VIRTIO_NET_S_LINK_UP);
    __atomic_store_n(&traffic.over, true, __ATOMIC_RELAXED);
    g_thread_join(thread);
    for (unsigned i = 0; i < MOVES; i++)
        close(ends[i]);
    card_destroy(&card);
}

static void swallow(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer data)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cable_that_moves_is_down_for_a_while),
        cmocka_unit_test(a_card_without_a_cable_comes_up_at_once),
        cmocka_unit_test(moves_in_a_row_do_not_shorten_the_time),
        cmocka_unit_test(a_cable_is_pulled_and_plugged_in_again),
        cmocka_unit_test(a_guest_that_can_is_asked_to_announce_itself),
        cmocka_unit_test(one_that_cannot_is_not_asked),
        cmocka_unit_test(a_reset_ends_the_wait),
        cmocka_unit_test(the_rest_of_the_wait_is_part_of_the_state),
        cmocka_unit_test(a_pause_puts_the_news_off),
        cmocka_unit_test(what_is_held_stays_held_at_the_new_end),
        cmocka_unit_test(frames_go_at_their_rate),
        cmocka_unit_test(a_burst_goes_at_once),
        cmocka_unit_test(frames_come_at_their_rate),
        cmocka_unit_test(each_direction_has_the_rate),
        cmocka_unit_test(what_waits_survives_a_pause),
        cmocka_unit_test(cables_move_while_frames_fly),
    };

    g_log_set_handler("anima", G_LOG_LEVEL_MESSAGE, swallow, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
