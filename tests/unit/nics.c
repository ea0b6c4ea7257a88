// SPDX-License-Identifier: Apache-2.0
/* Network cards of a definition: forwards, addresses, and what does not fit together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <string.h>

#include "config/forward.h"
#include "config/nics.h"

static void assert_forward(const char *text, bool udp, const char *host, unsigned host_port,
                           const char *guest, unsigned guest_port)
{
    struct forward forward;
    GError *error = NULL;

    if (!forward_parse(text, &forward, &error))
        fail_msg("%s: %s", text, error->message);
    assert_int_equal(forward.udp, udp);
    assert_int_equal(forward.host.sin_addr.s_addr, inet_addr(host));
    assert_int_equal(ntohs(forward.host.sin_port), host_port);
    assert_int_equal(forward.guest.sin_addr.s_addr, inet_addr(guest));
    assert_int_equal(ntohs(forward.guest.sin_port), guest_port);
}

static void forwards_are_read_in_all_their_forms(void **state)
{
    assert_forward("tcp:8080:80", false, "127.0.0.1", 8080, "0.0.0.0", 80);
    assert_forward("udp:0.0.0.0:5353:53", true, "0.0.0.0", 5353, "0.0.0.0", 53);
    assert_forward("tcp:0:22", false, "127.0.0.1", 0, "0.0.0.0", 22);
    assert_forward("tcp:2222:10.0.2.16:22", false, "127.0.0.1", 2222, "10.0.2.16", 22);
    assert_forward("tcp:192.168.1.1:1:10.0.2.15:65535", false, "192.168.1.1", 1, "10.0.2.15",
                   65535);
}

static void a_forward_is_written_with_both_addresses(void **state)
{
    g_autofree char *text = NULL;
    struct forward forward;

    assert_true(forward_parse("udp:0:1.2.3.4:53", &forward, NULL));
    text = forward_format(&forward);
    assert_string_equal(text, "udp:127.0.0.1:0:1.2.3.4:53");
}

static void forwards_that_cannot_be_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "tcp",
        "tcp:",
        "tcp:80",
        "tcp:80:",
        "tcp::80",
        "tcp:80:0",
        "tcp:80:x",
        "tcp:80:65536",
        "tcp:80:-1",
        "icmp:1:1",
        "tcp:+80:80",
        "tcp:80: 80",
        "tcp:256.1.1.1:80:80",
        "tcp:1.2.3.4:80",
        "tcp:80:80:80",
        "tcp:80:1.2.3:80",
        "TCP:80:80",
        "tcp:80:80:",
        "tcp:80:10.0.2.15",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        struct forward forward;

        if (forward_parse(bad[i], &forward, &error))
            fail_msg("'%s' was accepted", bad[i]);
        assert_true(g_str_has_prefix(error->message, "expected tcp or udp:"));
    }
}

static struct definition *with_cards(const char *name, const char *const *cards)
{
    struct definition *definition = definition_create();

    assert_true(definition_set(definition, "name", name, NULL));
    for (; *cards; cards++)
        assert_true(definition_set(definition, "nic", *cards, NULL));
    return definition;
}

static void addresses_follow_from_name_and_number(void **state)
{
    static const char *const cards[] = {"user", "none,mac=02:00:00:00:00:01", "tap=t0", NULL};
    struct definition *first = with_cards("one", cards), *again = with_cards("one", cards);
    struct definition *other = with_cards("two", cards);

    assert_true(definition_fill_macs(first, NULL));
    assert_true(definition_fill_macs(again, NULL));
    assert_true(definition_fill_macs(other, NULL));
    for (unsigned i = 0; i < 3; i++) {
        struct nic a = definition_nic(first, i), b = definition_nic(again, i);
        struct nic c = definition_nic(other, i);

        assert_memory_equal(a.mac, b.mac, 6);
        if (i == 1)
            assert_memory_equal(a.mac, "\x02\0\0\0\0\x01", 6);
        else
            assert_memory_equal(a.mac, "\x52\x54\0", 3);
        assert_int_equal(memcmp(a.mac, c.mac, 6) == 0, i == 1);
    }
    assert_memory_not_equal(definition_nic(first, 0).mac, definition_nic(first, 2).mac, 6);
    definition_destroy(first);
    definition_destroy(again);
    definition_destroy(other);
}

static void members_say_what_a_card_is(void **state)
{
    static const char *const cards[] = {"user,mtu=9000,hostname=h,forward=tcp:1:2,forward=udp:3:4",
                                        "tap=t0", "none", NULL};
    struct definition *definition = with_cards("one", cards);
    struct nic user = definition_nic(definition, 0), tap = definition_nic(definition, 1);

    assert_int_equal(user.network, NIC_USER);
    assert_int_equal(user.mtu, 9000);
    assert_string_equal(user.hostname, "h");
    assert_null(user.tap);
    assert_int_equal(definition_member_count(definition, OPTION_NIC, 0, "forward"), 2);
    assert_int_equal(tap.network, NIC_TAP);
    assert_string_equal(tap.tap, "t0");
    assert_int_equal(tap.mtu, 0);
    assert_int_equal(definition_nic(definition, 2).network, NIC_NONE);
    assert_true(definition_check_nics(definition, NULL));
    definition_destroy(definition);
}

/* What a definition becomes in JSON gives the same cards again. */
static void the_effective_definition_has_the_addresses(void **state)
{
    static const char *const cards[] = {"user,forward=tcp:1:2", NULL};
    struct definition *first = with_cards("one", cards), *second = definition_create();

    assert_true(definition_fill_macs(first, NULL));
    json_t *object = definition_to_json(first);
    assert_true(definition_from_json(second, object, NULL));
    assert_memory_equal(definition_nic(first, 0).mac, definition_nic(second, 0).mac, 6);
    assert_string_equal(definition_member_entry(second, OPTION_NIC, 0, "forward", 0), "tcp:1:2");
    json_decref(object);
    definition_destroy(first);
    definition_destroy(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forwards_are_read_in_all_their_forms),
        cmocka_unit_test(a_forward_is_written_with_both_addresses),
        cmocka_unit_test(forwards_that_cannot_be_are_refused),
        cmocka_unit_test(addresses_follow_from_name_and_number),
        cmocka_unit_test(members_say_what_a_card_is),
        cmocka_unit_test(the_effective_definition_has_the_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
