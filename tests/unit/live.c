// SPDX-License-Identifier: Apache-2.0
/* Changes of the definition of a machine that runs: what can change and what cannot, whole or not
 * at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "config/change.h"
#include "config/devices.h"
#include "config/live.h"

static struct definition *running(void)
{
    struct definition *definition = definition_create();

    assert_true(definition_set(definition, "name", "box", NULL));
    assert_true(definition_set(definition, "kernel", "/k", NULL));
    assert_true(
        definition_set(definition, "nic", "user,mac=52:54:00:00:00:01,forward=tcp:1:2", NULL));
    assert_true(definition_set(definition, "nic", "tap=tap0,id=lan", NULL));
    assert_true(definition_set(definition, "disk", "/d,iops=100", NULL));
    assert_true(definition_fill_devices(definition, NULL));
    return definition;
}

/* The changed definition; NULL when it is refused with `message`. */
static struct definition *changed(const struct definition *definition, const char *id,
                                  const char *json, const char *message)
{
    json_t *params = json_loads(json, 0, NULL);
    const struct live_change change = {json_object_get(params, "options"),
                                       json_object_get(params, "add"),
                                       json_object_get(params, "remove")};
    g_autoptr(GError) error = NULL;
    struct definition *after;

    assert_non_null(params);
    after = definition_change_live(definition, id, &change, &error);
    if (message) {
        assert_null(after);
        assert_string_equal(error->message, message);
    } else if (!after) {
        fail_msg("%s", error->message);
    }
    json_decref(params);
    return after;
}

static void members_of_a_device_change(void **state)
{
    struct definition *before = running(), *after;

    after = changed(before, "nic0",
                    "{\"options\": {\"network\": \"none\", \"rate\": \"10M\", \"link\": \"down\"}}",
                    NULL);
    assert_string_equal(definition_member_text(after, OPTION_NIC, 0, "network"), "none");
    assert_int_equal(definition_member_number(after, OPTION_NIC, 0, "rate"), 10 << 20);
    /* The rest stays, and waits for the card's return. */
    assert_string_equal(definition_member_text(after, OPTION_NIC, 0, "mac"), "52:54:00:00:00:01");
    assert_string_equal(definition_member_entry(after, OPTION_NIC, 0, "forward", 0), "tcp:1:2");
    assert_string_equal(definition_member_text(after, OPTION_NIC, 1, "network"), "tap=tap0");
    assert_true(definition_differs(before, after, "nic0", "network"));
    assert_true(definition_differs(before, after, "nic0", "rate"));
    assert_false(definition_differs(before, after, "nic0", "forward"));
    assert_false(definition_differs(before, after, "nic0", "hostname"));
    definition_destroy(before);
    before = after;
    after = changed(before, "nic0", "{\"options\": {\"rate\": null}}", NULL);
    assert_false(definition_member_has(after, OPTION_NIC, 0, "rate"));
    definition_destroy(after);
    definition_destroy(before);
}

static void lists_grow_and_shrink(void **state)
{
    struct definition *before = running(), *after;

    after = changed(before, "nic0", "{\"add\": {\"forward\": [\"udp:0:53\", \"tcp:3:4\"]}}", NULL);
    assert_int_equal(definition_member_count(after, OPTION_NIC, 0, "forward"), 3);
    definition_destroy(before);
    before = changed(
        after, "nic0",
        "{\"remove\": {\"forward\": \"tcp:1:2\"}, \"add\": {\"forward\": \"tcp:1:5\"}}", NULL);
    assert_int_equal(definition_member_count(before, OPTION_NIC, 0, "forward"), 3);
    assert_string_equal(definition_member_entry(before, OPTION_NIC, 0, "forward", 2), "tcp:1:5");
    definition_destroy(after);
    after = changed(before, "nic0", "{\"options\": {\"forward\": []}}", NULL);
    assert_int_equal(definition_member_count(after, OPTION_NIC, 0, "forward"), 0);
    definition_destroy(after);
    assert_null(changed(before, "nic0", "{\"remove\": {\"forward\": [\"tcp:9:9\"]}}",
                        "nic0: forward: there is no entry 'tcp:9:9'"));
    assert_null(changed(before, "nic0", "{\"remove\": {\"forward\": [1]}}",
                        "nic0: forward: expected a text"));
    assert_null(
        changed(before, "nic0", "{\"add\": {\"rate\": 5000}}", "nic0: rate: this is no list"));
    definition_destroy(before);
}

static void what_cannot_change_says_so(void **state)
{
    struct definition *before = running();

    assert_null(changed(before, "nic0",
                        "{\"options\": {\"rate\": 5000, \"mac\": \"52:54:00:00:00:02\"}}",
                        "nic0: mac: this cannot change while the machine runs; change its "
                        "definition by 'anima edit', and start it anew"));
    assert_null(changed(before, "disk0", "{\"options\": {\"readonly\": true}}",
                        "disk0: readonly: this cannot change while the machine runs; change its "
                        "definition by 'anima edit', and start it anew"));
    assert_null(changed(before, NULL, "{\"options\": {\"memory\": 1073741824}}",
                        "memory: this cannot change while the machine runs; change its definition "
                        "by 'anima edit', and start it anew"));
    assert_null(changed(before, NULL, "{\"add\": {\"disk\": \"/e\"}}", "disk: this is no list"));
    assert_null(changed(before, NULL, "{\"options\": {\"nic\": []}}",
                        "nic: this cannot change while the machine runs; change its definition by "
                        "'anima edit', and start it anew"));
    /* What it already is, it may be told. */
    definition_destroy(
        changed(before, "nic0", "{\"options\": {\"mac\": \"52:54:00:00:00:01\"}}", NULL));
    definition_destroy(before);
}

static void nonsense_is_refused(void **state)
{
    struct definition *before = running();

    assert_null(changed(before, "nic7", "{\"options\": {}}",
                        "nic7: the machine has no such disk or network card"));
    assert_null(changed(before, "nic0", "{\"options\": {\"ratt\": 1}}",
                        "nic0: unknown member 'ratt'; did you mean 'rate'?"));
    assert_null(changed(before, "nic0", "{\"options\": {\"rate\": 1}}",
                        "nic0: rate: 1 byte is less than the minimum of 1K"));
    assert_null(
        changed(before, "nic0", "{\"options\": {\"network\": null}}", "nic0: network is missing"));
    assert_null(changed(before, "lan", "{\"options\": {\"network\": \"wlan\"}}",
                        "lan: network: 'wlan' is none of user, tap=NAME, bridge=NAME, switch=NAME, "
                        "none"));
    /* Another card is on that TAP. */
    assert_null(changed(before, "nic0", "{\"options\": {\"network\": \"tap=tap0\"}}",
                        "nic: tap: another card is plugged in there (card 1)"));
    definition_destroy(before);
}

static void options_of_the_machine_change(void **state)
{
    struct definition *before = running(), *after;

    after = changed(before, NULL,
                    "{\"options\": {\"restart\": \"always\", \"autostart\": true, \"on-crash\": "
                    "\"pause\"}}",
                    NULL);
    assert_string_equal(definition_text(after, OPTION_RESTART), "always");
    assert_int_equal(definition_number(after, OPTION_AUTOSTART), 1);
    assert_true(definition_differs(before, after, NULL, "restart"));
    assert_false(definition_differs(before, after, NULL, "on-reboot"));
    definition_destroy(after);
    definition_destroy(before);
}

static void words_become_json(void **state)
{
    static const char *const words[] = {"rate=10M", "forward=tcp:1:2",  "forward=tcp:3:4",
                                        "burst=",   "forward-=tcp:5:6", NULL};
    static const char *const bad[] = {"rate+=5", NULL};
    const struct option *table = options[OPTION_NIC].members;
    g_autoptr(GError) error = NULL;
    json_t *got = change_to_json(table, words, NULL, &error), *wanted;

    wanted = json_pack("{s:{s:i, s:[s, s], s:n}, s:{s:[s]}}", "options", "rate", 10 << 20,
                       "forward", "tcp:1:2", "tcp:3:4", "burst", "remove", "forward", "tcp:5:6");
    assert_true(json_equal(got, wanted));
    assert_null(change_to_json(table, bad, NULL, &error));
    assert_string_equal(error->message, "rate: this is no list; give it its value by '='");
    json_decref(got);
    json_decref(wanted);
}

/* ---- in a text ---- */

static void a_device_changes_in_a_text(void **state)
{
    static const char text[] = "kernel: /k # mine\n"
                               "nic:\n"
                               "  - user\n"
                               "  - network: none\n"
                               "    id: spare\n";
    static const char *const first[] = {"network=none", "rate=1M", NULL};
    static const char *const second[] = {"network=user", NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *one = change_yaml_device("vm.yaml", text, "nic0", first, NULL, &error);
    g_autofree char *two =
        one ? change_yaml_device("vm.yaml", one, "spare", second, NULL, &error) : NULL;

    if (error)
        fail_msg("%s", error->message);
    assert_string_equal(two, "kernel: /k # mine\n"
                             "nic:\n"
                             "- network: none\n"
                             "  rate: 1M\n"
                             "- network: user\n"
                             "  id: spare\n");
    assert_null(change_yaml_device("vm.yaml", text, "nic1", first, NULL, &error));
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_ABSENT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_of_a_device_change),    cmocka_unit_test(lists_grow_and_shrink),
        cmocka_unit_test(what_cannot_change_says_so),    cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(options_of_the_machine_change), cmocka_unit_test(words_become_json),
        cmocka_unit_test(a_device_changes_in_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
