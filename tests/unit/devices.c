// SPDX-License-Identifier: Apache-2.0
/* Ids and places of disks and network cards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "config/devices.h"

/* From pairs of option and entry, ended by NULL. */
static struct definition *with(const char *const *words)
{
    struct definition *definition = definition_create();

    for (; *words; words += 2)
        assert_true(definition_set(definition, words[0], words[1], NULL));
    return definition;
}

static void assert_device(const struct definition *definition, enum option_id kind, unsigned index,
                          const char *id, const char *address)
{
    assert_string_equal(definition_device_id(definition, kind, index), id);
    assert_string_equal(definition_member_text(definition, kind, index, "address"), address);
}

/* Machines from before addresses could be given stay what they were. */
static void without_addresses_cards_come_first_then_disks(void **state)
{
    static const char *const words[] = {"disk",    "a",   "nic",    "user",       "disk", "b",
                                        "console", "pty", "device", "virtio-rng", NULL};
    struct definition *definition = with(words);

    assert_true(definition_fill_devices(definition, NULL));
    assert_device(definition, OPTION_NIC, 0, "nic0", "00:03.0");
    assert_device(definition, OPTION_DISK, 0, "disk0", "00:04.0");
    assert_device(definition, OPTION_DISK, 1, "disk1", "00:05.0");
    assert_int_equal(definition_free_place(definition, 0), 6);
    assert_int_equal(definition_free_place(definition, 1), 7);
    definition_destroy(definition);
}

static void a_new_device_moves_no_other(void **state)
{
    static const char *const words[] = {
        "disk",   "a,address=00:03.0", "disk", "b",    "console", "pty",
        "device", "virtio-rng",        "nic",  "user", NULL};
    struct definition *definition = with(words);

    assert_true(definition_fill_devices(definition, NULL));
    assert_device(definition, OPTION_DISK, 0, "disk0", "00:03.0");
    /* The console has 4, virtio-rng 5. */
    assert_device(definition, OPTION_NIC, 0, "nic0", "00:06.0");
    assert_device(definition, OPTION_DISK, 1, "disk1", "00:07.0");
    assert_int_equal(definition_free_place(definition, 0), 4);
    assert_int_equal(definition_free_place(definition, 1), 5);
    definition_destroy(definition);
}

static void ids_take_the_first_free_number(void **state)
{
    static const char *const words[] = {"disk", "a", "disk", "b,id=disk0",    "disk", "c,id=data",
                                        "disk", "d", "nic",  "none,id=disk2", NULL};
    static const char *const ids[] = {"disk1", "disk0", "data", "disk3"};
    struct definition *definition = with(words);
    struct device_place place;

    assert_true(definition_fill_devices(definition, NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++)
        assert_string_equal(definition_device_id(definition, OPTION_DISK, i), ids[i]);
    assert_true(definition_find_device(definition, "disk2", &place));
    assert_int_equal(place.kind, OPTION_NIC);
    assert_true(definition_find_device(definition, "disk3", &place));
    assert_int_equal(place.kind, OPTION_DISK);
    assert_int_equal(place.index, 3);
    assert_false(definition_find_device(definition, "disk4", &place));
    definition_destroy(definition);
}

static void ports_are_found_until_all_are_taken(void **state)
{
    static const char *const words[] = {"disk", "a,address=01:00.0", "nic", "none,address=03:00.0",
                                        NULL};
    struct definition *definition = with(words);

    assert_int_equal(definition_free_port(definition), 2);
    assert_true(definition_set(definition, "disk", "b,address=02:00.0", NULL));
    for (unsigned bus = 4; bus <= CONFIG_ROOT_PORTS; bus++) {
        g_autofree char *entry = g_strdup_printf("c,address=%02x:00.0", bus);

        assert_int_equal(definition_free_port(definition), bus);
        assert_true(definition_set(definition, "disk", entry, NULL));
    }
    assert_int_equal(definition_free_port(definition), 0);
    /* Behind root ports is nothing that bus 0 misses. */
    assert_int_equal(definition_free_place(definition, 0), CONFIG_PCI_FIRST);
    definition_destroy(definition);
}

static void what_is_doubled_is_refused(void **state)
{
    static const char *const cases[][5] = {
        {"disk", "a,id=x", "disk", "b,id=x", "disk: id: 'x' is given twice"},
        {"nic", "none,id=x", "disk", "b,id=x", "disk: id: 'x' is given twice"},
        {"disk", "a,address=00:04.0", "nic", "none,address=00:04.0",
         "disk: address: '00:04.0' is given twice"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *const words[] = {cases[i][0], cases[i][1], cases[i][2], cases[i][3], NULL};
        struct definition *definition = with(words);
        g_autoptr(GError) error = NULL;

        assert_false(definition_check_devices(definition, &error));
        assert_string_equal(error->message, cases[i][4]);
        definition_destroy(definition);
    }
}

static void places_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"",        "3",       "00:02.0",     "00:1c.0", "00:1f.0",
                                      "09:00.0", "01:01.0", "00:03.1",     "00:3.0",  "00:03.0x",
                                      "0x:03.0", "00 03.0", "0000:00:03.0"};
    static const char *const good[] = {"00:03.0", "00:1b.0", "00:1B.0", "01:00.0", "08:00.0"};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        assert_false(device_check_address(bad[i], &error));
        assert_true(g_str_has_prefix(error->message, "expected 00:03.0 to 00:1b.0, or 01:00.0 to"));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++)
        assert_true(device_check_address(good[i], NULL));
}

static void ids_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "0disk",
                                      "a/b",
                                      "a,b",
                                      "a b",
                                      "disk.0",
                                      "lpc",
                                      "pic",
                                      "root-port3",
                                      "virtio-rng",
                                      "a23456789012345678901234567890123"};
    static const char *const good[] = {"disk0", "data", "a2345678901234567890123456789012",
                                       "a-b_c"};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(device_check_id(bad[i], NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++)
        assert_true(device_check_id(good[i], NULL));
}

static void a_full_bus_is_told(void **state)
{
    struct definition *definition = definition_create();
    g_autoptr(GError) error = NULL, other = NULL;

    for (unsigned i = CONFIG_PCI_FIRST; i <= CONFIG_PCI_LAST; i++)
        assert_true(definition_set(definition, "disk", "a", NULL));
    assert_true(definition_fill_devices(definition, NULL));
    assert_true(definition_set(definition, "device", "virtio-rng", NULL));
    assert_false(definition_fill_devices(definition, &error));
    assert_true(g_str_has_prefix(error->message, "disk: bus 0 has no place left for the console"));
    assert_true(definition_set(definition, "nic", "none", NULL));
    assert_false(definition_fill_devices(definition, &other));
    assert_true(g_str_has_prefix(other->message, "nic: nic0: bus 0 is full; "));
    definition_destroy(definition);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_addresses_cards_come_first_then_disks),
        cmocka_unit_test(a_new_device_moves_no_other),
        cmocka_unit_test(ids_take_the_first_free_number),
        cmocka_unit_test(ports_are_found_until_all_are_taken),
        cmocka_unit_test(what_is_doubled_is_refused),
        cmocka_unit_test(places_that_are_none_are_refused),
        cmocka_unit_test(ids_that_are_none_are_refused),
        cmocka_unit_test(a_full_bus_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
