// SPDX-License-Identifier: Apache-2.0
/* The parts of a network that machines share: where addresses are, leases, DHCP, names, the guard.
 */
#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "config/network.h"
#include "vmm/net/checksum.h"
#include "vmm/net/link.h"
#include "vmm/net/network/dhcp.h"
#include "vmm/net/network/dns.h"
#include "vmm/net/network/guard.h"
#include "vmm/net/network/packet.h"
#include "vmm/net/network/ports.h"

#define BASE 0x0A010200U /* 10.1.2.0 */

static const struct subnet subnet = {BASE, 24};

static void make_mac(uint8_t mac[6], unsigned number)
{
    const uint8_t bytes[6] = {0x52, 0x54, 0, 0, (uint8_t)(number >> 8), (uint8_t)number};

    memcpy(mac, bytes, sizeof(bytes));
}

/* ---- addresses on the switch ---- */

static struct port_table table;

static void a_card_stays_at_its_port(void **state)
{
    uint8_t mac[6];

    ports_init(&table);
    make_mac(mac, 1);
    assert_int_equal(ports_find(&table, mac, 0), -1);
    assert_true(ports_add(&table, mac, 5));
    assert_false(ports_add(&table, mac, 6));
    assert_false(ports_learn(&table, mac, 6, 1000000));
    assert_int_equal(ports_find(&table, mac, ADDRESS_LIVES_MS * 10), 5);
    ports_remove(&table, 5);
    assert_int_equal(ports_find(&table, mac, 0), -1);
}

static void others_are_learnt_and_forgotten(void **state)
{
    uint8_t mac[6];

    ports_init(&table);
    make_mac(mac, 2);
    assert_true(ports_learn(&table, mac, 1, 0));
    assert_false(ports_learn(&table, mac, 2, ADDRESS_STAYS_MS - 1));
    assert_int_equal(ports_find(&table, mac, 1), 1);
    assert_true(ports_learn(&table, mac, 2, ADDRESS_STAYS_MS));
    assert_int_equal(ports_find(&table, mac, ADDRESS_STAYS_MS), 2);
    assert_int_equal(ports_find(&table, mac, ADDRESS_STAYS_MS + ADDRESS_LIVES_MS), -1);
    /* A card takes its own from who learnt it. */
    assert_true(ports_add(&table, mac, 3));
    assert_int_equal(ports_find(&table, mac, 0), 3);
}

static void a_port_has_a_limited_number(void **state)
{
    uint8_t mac[6];
    unsigned known = 0;

    ports_init(&table);
    for (unsigned i = 0; i < 10000; i++) {
        make_mac(mac, i);
        assert_true(ports_learn(&table, mac, 1, 0));
    }
    for (unsigned i = 0; i < 10000; i++) {
        make_mac(mac, i);
        known += ports_find(&table, mac, 0) == 1;
    }
    assert_int_equal(known, PORT_LEARNT_MAX);
    /* When these are old, there is room for others. */
    make_mac(mac, 20000);
    assert_true(ports_learn(&table, mac, 1, ADDRESS_LIVES_MS));
    assert_int_equal(ports_find(&table, mac, ADDRESS_LIVES_MS), 1);
}

static void the_table_agrees_with_a_simple_one(void **state)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    int where[64];
    uint8_t mac[6];

    ports_init(&table);
    memset(where, -1, sizeof(where));
    for (unsigned n = 0; n < 50000; n++) {
        unsigned number = (unsigned)g_rand_int_range(random, 0, 64);
        unsigned port = (unsigned)g_rand_int_range(random, 0, 8);

        make_mac(mac, number);
        if (n % 50 == 0) {
            ports_remove(&table, port);
            for (unsigned i = 0; i < G_N_ELEMENTS(where); i++)
                where[i] = where[i] == (int)port ? -1 : where[i];
        } else if (ports_add(&table, mac, port)) {
            assert_true(where[number] < 0 || where[number] == (int)port);
            where[number] = (int)port;
        } else {
            assert_true(where[number] >= 0 && where[number] != (int)port);
        }
        assert_int_equal(ports_find(&table, mac, 0), where[number]);
    }
}

/* ---- leases ---- */

static struct leases leases;

static int take(unsigned number, const char *name)
{
    uint8_t mac[6];

    make_mac(mac, number);
    return leases_take(&leases, mac, name);
}

static void a_card_has_the_same_lease_again(void **state)
{
    int first, other;
    uint8_t mac[6];

    leases_init(&leases, &subnet);
    first = take(1, "web");
    other = take(2, "db");
    assert_int_not_equal(first, other);
    assert_int_equal(take(1, "web"), first);
    make_mac(mac, 1);
    assert_int_equal(leases_of(&leases, mac), first);
    assert_int_equal(leases_find(&leases, "WEB", 3), first);
    assert_int_equal(leases_find(&leases, "we", 2), -1);
    assert_int_equal(leases_at(&leases, lease_address(&leases, (unsigned)first)), first);
    assert_int_equal(leases_at(&leases, BASE), -1);
    assert_int_equal(leases_at(&leases, BASE - 1), -1);
    assert_int_equal(leases_at(&leases, BASE + NETWORK_HOST), -1);
}

static void all_are_given_and_then_the_oldest(void **state)
{
    bool given[LEASES_MAX] = {false};
    int oldest = -1;

    leases_init(&leases, &subnet);
    assert_int_equal(leases.count, LEASES_MAX);
    for (unsigned i = 0; i < LEASES_MAX; i++) {
        int index = take(i, "");

        assert_in_range(index, 0, LEASES_MAX - 1);
        assert_false(given[index]);
        given[index] = true;
        assert_true(subnet_has(&subnet, lease_address(&leases, (unsigned)index)));
        assert_true((lease_address(&leases, (unsigned)index) & 255) < 255);
        if (i == 1)
            oldest = index;
        leases.list[index].in_use = i == 0;
    }
    assert_int_equal(take(1000, ""), oldest);
    for (unsigned i = 0; i < LEASES_MAX; i++)
        leases.list[i].in_use = true;
    assert_int_equal(take(1001, ""), -1);
    assert_int_equal(leases_reserve(&leases, "new"), -1);
}

static void a_small_subnet_has_few(void **state)
{
    const struct subnet small = {BASE, SUBNET_BITS_MAX};

    leases_init(&leases, &small);
    assert_int_equal(leases.count, 12); /* of .1 to .14 without the host and the resolver */
}

static void a_name_waits_for_its_card(void **state)
{
    int reserved;

    leases_init(&leases, &subnet);
    reserved = leases_reserve(&leases, "web");
    assert_int_equal(leases_reserve(&leases, "web"), reserved);
    /* It had another before the name was wanted. */
    assert_int_not_equal(take(1, "other"), reserved);
    assert_int_equal(take(1, "web"), reserved);
    assert_int_equal(leases_find(&leases, "other", 5), -1);
    /* While that card is there, no other has the name. */
    leases.list[reserved].in_use = true;
    int second = take(2, "web");
    assert_int_not_equal(second, reserved);
    assert_string_equal(leases.list[second].name, "");
}

static void leases_are_written_down_and_read(void **state)
{
    static const char *const faulty =
        "[1, {}, {\"address\": 1}, {\"address\": \"10.1.2.9\", \"mac\": \"x\", \"name\": \"a\"},"
        " {\"address\": \"10.1.3.9\", \"mac\": \"52:54:00:00:00:09\", \"name\": \"b\"},"
        " {\"address\": \"10.1.2.1\", \"mac\": \"52:54:00:00:00:09\", \"name\": \"c\"},"
        " {\"address\": \"10.1.2.9\", \"mac\": \"52:54:00:00:00:09\", \"name\": \"d\"},"
        " {\"address\": \"10.1.2.9\", \"mac\": \"52:54:00:00:00:08\", \"name\": \"e\"},"
        " {\"address\": \"10.1.2.10\", \"mac\": \"52:54:00:00:00:09\", \"name\": \"f\"},"
        " {\"address\": \"10.1.2.11\", \"mac\": \"52:54:00:00:00:0b\", \"name\": \"D\"}]";
    json_t *list, *again;

    leases_init(&leases, &subnet);
    for (unsigned i = 0; i < 20; i++)
        take(i, i % 2 ? "" : (char[]){(char)('a' + i), 0});
    list = leases_to_json(&leases);
    leases_init(&leases, &subnet);
    leases_from_json(&leases, list);
    again = leases_to_json(&leases);
    assert_int_equal(json_array_size(list), 20);
    assert_true(json_equal(list, again));
    json_decref(list);
    json_decref(again);

    list = json_loads(faulty, 0, NULL);
    assert_non_null(list);
    leases_init(&leases, &subnet);
    leases_from_json(&leases, list);
    json_decref(list);
    list = leases_to_json(&leases);
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(leases_find(&leases, "d", 1), 9 - NETWORK_LEASES);
    json_decref(list);
}

/* ---- packets ---- */

static void what_is_written_is_read(void **state)
{
    static uint8_t frame[PACKET_HEADERS + 100];
    struct udp_packet packet = {.source = BASE + 1,
                                .target = BASE + 9,
                                .source_port = 67,
                                .target_port = 68,
                                .length = 99},
                      got;

    memset(frame + PACKET_HEADERS, 'x', 99);
    make_mac(packet.target_mac, 1);
    size_t length = packet_write(frame, sizeof(frame), &packet);
    assert_int_equal(length, PACKET_HEADERS + 99);
    assert_true(packet_read(frame, length, &got));
    assert_int_equal(got.target, packet.target);
    assert_int_equal(got.source_port, 67);
    assert_int_equal(got.length, 99);
    assert_ptr_equal(got.data, frame + PACKET_HEADERS);
    assert_int_equal(packet_write(frame, PACKET_HEADERS + 98, &packet), 0);
    for (size_t cut = 0; cut < length; cut++)
        assert_false(packet_read(frame, cut, &got));
    for (unsigned bit = 14 * 8; bit < 34 * 8; bit++) {
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(packet_read(frame, length, &got)); /* its checksum is wrong */
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* ---- DHCP ---- */

static const struct dhcp_lease lease = {
    .address = BASE + 7,
    .mask = 0xFFFFFF00U,
    .server = BASE + 1,
    .router = BASE + 1,
    .resolver = BASE + 2,
    .hostname = "web",
    .domain = "lan",
    .mtu = 1500,
};

/* A request of this type with these options; its length. */
static size_t make_request(uint8_t *data, uint8_t type, const void *more, size_t length)
{
    static const uint8_t cookie[] = {0x63, 0x82, 0x53, 0x63, 53, 1};

    memset(data, 0, 240);
    data[0] = data[1] = 1;
    data[2] = 6;
    make_mac(data + 28, 3);
    memcpy(data + 236, cookie, sizeof(cookie));
    data[242] = type;
    if (length)
        memcpy(data + 243, more, length);
    data[243 + length] = 255;
    return 244 + length;
}

/* The answer's type; 0: none. */
static uint8_t answer_to(uint8_t type, const void *more, size_t length)
{
    uint8_t data[400], reply[DHCP_REPLY_MAX];
    struct dhcp_request request;

    assert_true(dhcp_read(data, make_request(data, type, more, length), &request));
    size_t size = dhcp_reply(&request, &lease, reply);
    if (!size)
        return 0;
    assert_in_range(size, 300, DHCP_REPLY_MAX);
    assert_memory_equal(reply + 28, data + 28, 6);
    assert_int_equal(reply[240], 53);
    assert_int_equal(packet_get32(reply + 16),
                     reply[242] == DHCP_NAK || type == DHCP_INFORM ? 0 : lease.address);
    return reply[242];
}

static void each_question_has_its_answer(void **state)
{
    static const uint8_t right[] = {50, 4, 10, 1, 2, 7}, wrong[] = {50, 4, 10, 1, 2, 8};
    static const uint8_t other[] = {54, 4, 10, 1, 2, 9, 50, 4, 10, 1, 2, 7};

    assert_int_equal(answer_to(DHCP_DISCOVER, wrong, sizeof(wrong)), DHCP_OFFER);
    assert_int_equal(answer_to(DHCP_REQUEST, right, sizeof(right)), DHCP_ACK);
    assert_int_equal(answer_to(DHCP_REQUEST, wrong, sizeof(wrong)), DHCP_NAK);
    assert_int_equal(answer_to(DHCP_REQUEST, other, sizeof(other)), 0);
    assert_int_equal(answer_to(DHCP_REQUEST, NULL, 0), DHCP_NAK);
    assert_int_equal(answer_to(DHCP_INFORM, NULL, 0), DHCP_ACK);
    for (unsigned type = 0; type < 256; type++)
        if (type == 4 || type == 7 || type > 8)
            assert_int_equal(type && answer_to((uint8_t)type, NULL, 0), 0);
}

static void what_is_no_request_is_not_read(void **state)
{
    static const unsigned bytes[] = {0, 1, 2, 236, 239};
    uint8_t data[400];
    struct dhcp_request request;
    size_t length = make_request(data, 1, NULL, 0);

    for (unsigned i = 0; i < G_N_ELEMENTS(bytes); i++) {
        data[bytes[i]] ^= 0x40;
        assert_false(dhcp_read(data, length, &request));
        data[bytes[i]] ^= 0x40;
    }
    for (size_t cut = 0; cut < 243; cut++)
        assert_false(dhcp_read(data, cut, &request));
    data[241] = 200; /* an option that is longer than the message */
    assert_false(dhcp_read(data, length, &request));
}

static void a_reply_has_an_end_whatever_it_tells(void **state)
{
    g_autofree char *long_text = g_strnfill(250, 'x');
    struct dhcp_lease much = lease;
    uint8_t data[400], reply[DHCP_REPLY_MAX];
    struct dhcp_request request;

    much.hostname = much.domain = long_text;
    assert_true(dhcp_read(data, make_request(data, 1, NULL, 0), &request));
    size_t size = dhcp_reply(&request, &much, reply);
    assert_in_range(size, 300, DHCP_REPLY_MAX);
    assert_int_equal(reply[size - 1], 255);
}

/* ---- names ---- */

static const struct dns_zone zone = {&leases, "lan.internal", false};
static const struct dns_zone alone = {&leases, "lan.internal", true};

/* Ask for `name`: the code of the answer and *records of it, or -1 for the verdict that it goes
 * elsewhere. */
static int resolve(const struct dns_zone *asked, const char *name, uint16_t type, unsigned *records,
                   uint8_t reply[DNS_REPLY_MAX], size_t *length)
{
    uint8_t data[512] = {1, 2, 1, 0, 0, 1};
    g_auto(GStrv) labels = g_strsplit(name, ".", -1);
    size_t at = 12;

    for (char **label = labels; *label; label++) {
        data[at++] = (uint8_t)strlen(*label);
        memcpy(data + at, *label, strlen(*label));
        at += strlen(*label);
    }
    data[at++] = 0;
    packet_put16(data + at, type);
    packet_put16(data + at + 2, 1);
    if (dns_reply(asked, data, at + 4, reply, length) != DNS_ANSWERED)
        return -1;
    assert_memory_equal(reply, data, 2);
    assert_true(reply[2] & 0x80);
    *records = packet_get16(reply + 6);
    return reply[3] & 15;
}

static void names_of_machines_are_answered(void **state)
{
    uint8_t reply[DNS_REPLY_MAX];
    unsigned records = 0;
    size_t length = 0;
    int index;

    leases_init(&leases, &subnet);
    index = take(1, "web.1");
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(
            resolve(&zone, i ? "WEB.1.LAN.internal" : "web.1", 1, &records, reply, &length), 0);
        assert_int_equal(records, 1);
        assert_int_equal(packet_get32(reply + length - 4), lease_address(&leases, (unsigned)index));
    }
    assert_int_equal(resolve(&zone, "web.1", 28, &records, reply, &length), 0);
    assert_int_equal(records, 0);
    assert_int_equal(resolve(&zone, "no.lan.internal", 1, &records, reply, &length), 3);
    assert_int_equal(resolve(&zone, "lan.internal", 1, &records, reply, &length), 0);
    assert_int_equal(resolve(&zone, "no", 1, &records, reply, &length), -1);
    assert_int_equal(resolve(&zone, "web.1.example.org", 1, &records, reply, &length), -1);
    assert_int_equal(resolve(&alone, "example.org", 1, &records, reply, &length), 5);
}

static void addresses_are_answered_with_names(void **state)
{
    uint8_t reply[DNS_REPLY_MAX];
    unsigned records = 0;
    size_t length = 0;

    leases_init(&leases, &subnet);
    unsigned last = lease_address(&leases, (unsigned)take(1, "web")) & 255;
    g_autofree char *name = g_strdup_printf("%u.2.1.10.in-addr.arpa", last);
    assert_int_equal(resolve(&zone, name, 12, &records, reply, &length), 0);
    assert_int_equal(records, 1);
    assert_memory_equal(reply + length - 18, "\3web\3lan\10internal", 18);
    assert_int_equal(resolve(&zone, "254.2.1.10.in-addr.arpa", 12, &records, reply, &length),
                     last == 254 ? 0 : 3);
    assert_int_equal(resolve(&zone, "1.3.1.10.in-addr.arpa", 12, &records, reply, &length), -1);
    /* A name that cannot be written as one is left out. */
    leases_init(&leases, &subnet);
    last = lease_address(&leases, (unsigned)take(1, "a..b")) & 255;
    g_autofree char *other = g_strdup_printf("%u.2.1.10.in-addr.arpa", last);
    assert_int_equal(resolve(&zone, other, 12, &records, reply, &length), 0);
    assert_int_equal(records, 0);
}

static void questions_that_are_none_go_elsewhere(void **state)
{
    static const uint8_t good[] = {1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1};
    uint8_t data[sizeof(good)], reply[DNS_REPLY_MAX];
    static const struct {
        unsigned at;
        uint8_t value;
    } faults[] = {{2, 0x81}, {2, 0x79}, {5, 0}, {5, 2}, {12, 0xC0}, {12, 64}, {12, 5}, {18, 2}};
    size_t length;

    leases_init(&leases, &subnet);
    take(1, "a");
    assert_int_equal(dns_reply(&zone, good, sizeof(good), reply, &length), DNS_ANSWERED);
    for (size_t cut = 0; cut < sizeof(good); cut++)
        assert_int_equal(dns_reply(&zone, good, cut, reply, &length), DNS_ELSEWHERE);
    for (unsigned i = 0; i < G_N_ELEMENTS(faults); i++) {
        memcpy(data, good, sizeof(good));
        data[faults[i].at] = faults[i].value;
        assert_int_equal(dns_reply(&zone, data, sizeof(data), reply, &length), DNS_ELSEWHERE);
        assert_int_equal(dns_reply(&alone, data, sizeof(data), reply, &length), DNS_IGNORED);
    }
}

/* ---- the guard ---- */

static void random_frames_do_no_harm(void **state)
{
    static const uint16_t types[] = {PACKET_ARP, PACKET_IPV4, PACKET_IPV6, PACKET_VLAN};
    g_autoptr(GRand) random = g_rand_new_with_seed(11);
    unsigned passed = 0;
    uint8_t mac[6];

    leases_init(&leases, &subnet);
    make_mac(mac, 1);
    for (unsigned n = 0; n < 50000; n++) {
        size_t length = (size_t)g_rand_int_range(random, NET_HEADER_MIN, 140);
        uint8_t *frame = g_malloc(length);

        for (size_t i = 0; i < length; i++)
            frame[i] = (uint8_t)g_rand_int_range(random, 0, n % 3 ? 8 : 256);
        packet_put16(frame + ETHERTYPE_OFFSET, types[n % G_N_ELEMENTS(types)]);
        passed += guard_passes(&leases, mac, frame, length);
        g_free(frame);
    }
    assert_in_range(passed, 1, 49999);
}

static void an_address_in_use_is_its_owners(void **state)
{
    uint8_t frame[NET_HEADER_MIN + 28] = {0}, mac[6];
    int index;

    leases_init(&leases, &subnet);
    index = take(2, "");
    make_mac(mac, 1);
    packet_put16(frame + ETHERTYPE_OFFSET, PACKET_ARP);
    packet_put32(frame + NET_HEADER_MIN + 14, lease_address(&leases, (unsigned)index));
    assert_true(guard_passes(&leases, mac, frame, sizeof(frame)));
    leases.list[index].in_use = true;
    assert_false(guard_passes(&leases, mac, frame, sizeof(frame)));
    make_mac(mac, 2);
    assert_true(guard_passes(&leases, mac, frame, sizeof(frame)));
    packet_put32(frame + NET_HEADER_MIN + 14, BASE + NETWORK_RESOLVER);
    assert_false(guard_passes(&leases, mac, frame, sizeof(frame)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_stays_at_its_port),
        cmocka_unit_test(others_are_learnt_and_forgotten),
        cmocka_unit_test(a_port_has_a_limited_number),
        cmocka_unit_test(the_table_agrees_with_a_simple_one),
        cmocka_unit_test(a_card_has_the_same_lease_again),
        cmocka_unit_test(all_are_given_and_then_the_oldest),
        cmocka_unit_test(a_small_subnet_has_few),
        cmocka_unit_test(a_name_waits_for_its_card),
        cmocka_unit_test(leases_are_written_down_and_read),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(each_question_has_its_answer),
        cmocka_unit_test(what_is_no_request_is_not_read),
        cmocka_unit_test(a_reply_has_an_end_whatever_it_tells),
        cmocka_unit_test(names_of_machines_are_answered),
        cmocka_unit_test(addresses_are_answered_with_names),
        cmocka_unit_test(questions_that_are_none_go_elsewhere),
        cmocka_unit_test(random_frames_do_no_harm),
        cmocka_unit_test(an_address_in_use_is_its_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
