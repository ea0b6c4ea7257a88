// SPDX-License-Identifier: Apache-2.0
/* Definitions of networks: subnets, forwards, what fits together. */
#include "config/network.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* The definition of `yaml`; NULL and the message when it is refused. */
static struct definition *load(const char *yaml, char **message)
{
    struct definition *definition = definition_create_kind(&definition_network);
    GError *error = NULL;

    if (definition_load_yaml(definition, "network.yaml", NULL, yaml, strlen(yaml), &error) &&
        definition_check(definition, &error))
        return definition;
    *message = g_strdup(error->message);
    g_error_free(error);
    definition_destroy(definition);
    return NULL;
}

static void a_subnet_is_its_first_address_and_a_length(void **state)
{
    static const char *const bad[] = {"",          "10.0.0.0",    "10.0.0.0/8",  "10.0.0.1/24",
                                      "10.0.0/24", "0.0.0.0/16",  "10.0.0.0/29", "10.0.0.0/-1",
                                      "/24",       "10.0.0.0/24x"};
    struct subnet subnet;

    assert_true(subnet_parse("192.168.16.0/20", &subnet, NULL));
    assert_int_equal(subnet.address, 0xC0A81000);
    assert_int_equal(subnet.bits, 20);
    assert_int_equal(subnet_mask(&subnet), 0xFFFFF000);
    assert_true(subnet_has(&subnet, 0xC0A81FFF));
    assert_false(subnet_has(&subnet, 0xC0A82000));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        assert_false(subnet_parse(bad[i], &subnet, &error));
        assert_non_null(strstr(error->message, "expected a subnet such as"));
    }
}

static void a_subnet_is_chosen_beside_those_that_are_taken(void **state)
{
    struct subnet taken[32], chosen;

    for (unsigned count = 0; count < G_N_ELEMENTS(taken); count++) {
        assert_true(subnet_choose(taken, count, &chosen, NULL));
        for (unsigned i = 0; i < count; i++)
            assert_false(subnet_overlaps(&chosen, &taken[i]));
        taken[count] = chosen;
    }
    const struct subnet all = {0x0A4D0000, 16};
    g_autoptr(GError) error = NULL;
    assert_false(subnet_choose(&all, 1, &chosen, &error));
    assert_non_null(strstr(error->message, "subnet: all from"));
}

static void a_forward_names_its_guest(void **state)
{
    static const char *const bad[] = {
        "tcp:80:80",   "tcp:web:80",       "icmp:80:web:80", "tcp:80:-web:80", "tcp:80:web:0",
        "tcp:80:web:", "tcp:1.2.3:80:a:1", "tcp:80:a:80:90", "tcp::web:80",    "tcp:80:0.0.0.0:80"};
    struct network_forward forward;

    assert_true(network_forward_parse("tcp:8080:web.1:80", &forward, NULL));
    assert_string_equal(forward.machine, "web.1");
    assert_int_equal(ntohs(forward.forward.guest.sin_port), 80);
    assert_int_equal(ntohl(forward.forward.host.sin_addr.s_addr), INADDR_LOOPBACK);
    assert_true(network_forward_parse("udp:0.0.0.0:0:10.1.2.3:53", &forward, NULL));
    assert_string_equal(forward.machine, "");
    assert_int_equal(ntohl(forward.forward.guest.sin_addr.s_addr), 0x0A010203);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(network_forward_parse(bad[i], &forward, NULL));
}

static void a_definition_says_what_the_network_is(void **state)
{
    char *message = NULL;
    struct definition *definition =
        load("kind: nat\nsubnet: 10.1.2.0/24\ndomain: lan\nmtu: 1400\nmac-filter: no\n"
             "forward: [tcp:80:10.1.2.3:80]\n",
             &message);
    struct network network;

    assert_non_null(definition);
    network = definition_network_of(definition);
    assert_int_equal(network.kind, NETWORK_NAT);
    assert_int_equal(network.subnet.address, 0x0A010200);
    assert_string_equal(network.domain, "lan");
    assert_int_equal(network.mtu, 1400);
    assert_false(network.mac_filter);
    definition_destroy(definition);
}

static void what_does_not_fit_is_told_with_its_place(void **state)
{
    static const struct {
        const char *yaml, *message;
    } cases[] = {
        {"kind: net\n", "network.yaml:1:7: kind: 'net' is none of internal, nat, bridge"},
        {"kind: internal\nsubnets: x\n",
         "network.yaml:2:1: unknown option 'subnets'; did you mean"},
        {"mtu: 1500\n", "subnet: a network of kind nat has one"},
        {"kind: internal\nforward: [tcp:1:a:2]\n",
         "network.yaml:2:1: forward: only a network of kind nat forwards ports"},
        {"kind: bridge\n", "interface: which bridge is it?"},
        {"kind: bridge\ninterface: br0\nmtu: 1500\n", "network.yaml:3:1: mtu: a bridge is"},
        {"subnet: 10.1.2.0/24\ninterface: br0\n", "interface: only a network of kind bridge"},
        {"subnet: 10.1.2.0/24\nforward: [tcp:1:10.1.3.9:2]\n", "none of a machine in the subnet"},
        {"subnet: 10.1.2.0/24\nforward: [tcp:1:10.1.2.2:2]\n", "none of a machine in the subnet"},
        {"subnet: 10.1.2.0/24\ndomain: a..b\n", "domain: expected a domain"},
        {"kind: bridge\ninterface: a/b\n", "interface: expected the name of an interface"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *message = NULL;

        assert_null(load(cases[i].yaml, &message));
        if (!strstr(message, cases[i].message))
            fail_msg("%s: %s", cases[i].yaml, message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_subnet_is_its_first_address_and_a_length),
        cmocka_unit_test(a_subnet_is_chosen_beside_those_that_are_taken),
        cmocka_unit_test(a_forward_names_its_guest),
        cmocka_unit_test(a_definition_says_what_the_network_is),
        cmocka_unit_test(what_does_not_fit_is_told_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
