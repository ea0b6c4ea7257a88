// SPDX-License-Identifier: Apache-2.0
/*
 * Ids and addresses of disks and network cards: checked, found, and chosen where they are not
 * given. What is chosen depends on the definition alone, so that a machine is the same tomorrow.
 */
#include "config/devices.h"

#include <string.h>

#include "config/lines.h"
#include "config/nics.h"

#define ADDRESS_TEXT 7 /* 00:03.0 */

/* In the order of their places on bus 0. */
static const enum option_id kinds[] = {OPTION_NIC, OPTION_DISK};

/* ---- members ---- */

/* Other devices of a machine have these ids; root ports and serial ports have numbers too. */
static bool is_of_the_board(const char *id)
{
    static const char *const ids[] = {"acpi-pm",
                                      "debug-console",
                                      "fw-cfg",
                                      "host-bridge",
                                      "hpet",
                                      "i8042",
                                      "ioapic",
                                      "isa-debug-exit",
                                      "lpc",
                                      "pc-testdev",
                                      "pic",
                                      "pit",
                                      "pvpanic",
                                      "rtc",
                                      "serial0",
                                      "serial1",
                                      "virtio-console",
                                      "virtio-rng",
                                      NULL};

    return g_strv_contains(ids, id) || g_str_has_prefix(id, "root-port");
}

bool device_check_id(const char *text, GError **error)
{
    size_t length = strlen(text);
    bool good = length >= 1 && length <= CONFIG_ID_MAX && g_ascii_isalpha(text[0]);

    for (size_t i = 0; good && i < length; i++)
        good = g_ascii_isalnum(text[i]) || strchr("-_", text[i]);
    if (!good)
        return text_refuse(text, error, "a letter and up to %d more letters, digits, '-' and '_'",
                           CONFIG_ID_MAX - 1);
    return !is_of_the_board(text) ||
           text_refuse(text, error, "an id that the board has not given to a device of its own");
}

static int hex_byte(const char *text)
{
    if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]))
        return -1;
    return g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]);
}

static bool parse_address(const char *text, struct device_address *address)
{
    int bus, device;

    if (strlen(text) != ADDRESS_TEXT || text[2] != ':' || !g_str_equal(text + 5, ".0"))
        return false;
    bus = hex_byte(text);
    device = hex_byte(text + 3);
    if (bus < 0 || device < 0 || bus > CONFIG_ROOT_PORTS)
        return false;
    *address = (struct device_address){(uint8_t)bus, (uint8_t)device};
    return bus ? device == 0 : device >= CONFIG_PCI_FIRST && device <= CONFIG_PCI_LAST;
}

bool device_check_address(const char *text, GError **error)
{
    struct device_address address;

    return parse_address(text, &address) ||
           text_refuse(text, error, "00:%02x.0 to 00:%02x.0, or 01:00.0 to %02x:00.0 (hot-plug)",
                       CONFIG_PCI_FIRST, CONFIG_PCI_LAST, CONFIG_ROOT_PORTS);
}

char *device_address_format(const struct device_address *address)
{
    return g_strdup_printf("%02x:%02x.0", address->bus, address->device);
}

/* ---- reading ---- */

const char *definition_device_id(const struct definition *definition, enum option_id kind,
                                 unsigned index)
{
    return definition_member_text(definition, kind, index, "id");
}

struct device_address definition_device_address(const struct definition *definition,
                                                enum option_id kind, unsigned index)
{
    const char *text = definition_member_text(definition, kind, index, "address");
    struct device_address address = {0};

    if (text)
        parse_address(text, &address);
    return address;
}

bool definition_find_device(const struct definition *definition, const char *id,
                            struct device_place *place)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++)
        for (unsigned i = 0; i < definition_count(definition, kinds[k]); i++) {
            const char *its = definition_device_id(definition, kinds[k], i);

            *place = (struct device_place){kinds[k], i};
            if (its && g_str_equal(its, id))
                return true;
        }
    return false;
}

/* Whether a disk or a card has that address. */
static bool is_taken(const struct definition *definition, struct device_address address)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++)
        for (unsigned i = 0; i < definition_count(definition, kinds[k]); i++) {
            struct device_address its = definition_device_address(definition, kinds[k], i);

            if (its.bus == address.bus && its.device == address.device)
                return true;
        }
    return false;
}

uint8_t definition_free_place(const struct definition *definition, unsigned number)
{
    for (uint8_t device = CONFIG_PCI_FIRST; device <= CONFIG_PCI_LAST; device++)
        if (!is_taken(definition, (struct device_address){0, device}) && !number--)
            return device;
    return 0;
}

/* The same that none of `others` (or NULL) has either. */
static uint8_t find_port(const struct definition *definition, const struct definition *others)
{
    for (uint8_t bus = 1; bus <= CONFIG_ROOT_PORTS; bus++) {
        struct device_address address = {bus, 0};

        if (!is_taken(definition, address) && !(others && is_taken(others, address)))
            return bus;
    }
    return 0;
}

uint8_t definition_free_port(const struct definition *definition)
{
    return find_port(definition, NULL);
}

/* ---- choosing ---- */

static bool fill_id(struct definition *definition, enum option_id kind, unsigned index,
                    const struct definition *others, GError **error)
{
    struct device_place place;
    unsigned number = 0;

    if (definition_device_id(definition, kind, index))
        return true;
    for (;;) {
        g_autofree char *id = g_strdup_printf("%s%u", options[kind].key, number++);

        if (!definition_find_device(definition, id, &place) &&
            !(others && definition_find_device(others, id, &place)))
            return definition_member_set(definition, kind, index, "id", id, error);
    }
}

/* Devices that the user chose and that have no address in the definition. */
static unsigned count_others(const struct definition *definition)
{
    struct line lines[LINES_MAX];
    unsigned count = definition_lines(definition, lines);
    bool console = false;

    for (unsigned i = 0; i < count; i++)
        console |= lines[i].kind != LINE_SERIAL;
    return console + definition_lists(definition, OPTION_DEVICE, "virtio-rng");
}

static bool has_places(const struct definition *definition)
{
    for (uint8_t device = CONFIG_PCI_FIRST; device <= CONFIG_PCI_LAST; device++)
        if (is_taken(definition, (struct device_address){0, device}))
            return true;
    return false;
}

/* `skip` free places are not for this one. */
static bool fill_address(struct definition *definition, enum option_id kind, unsigned index,
                         unsigned skip, GError **error)
{
    struct device_address address = {0, definition_free_place(definition, skip)};
    g_autofree char *text = device_address_format(&address);

    if (definition_device_address(definition, kind, index).device ||
        definition_device_address(definition, kind, index).bus)
        return true;
    if (address.device)
        return definition_member_set(definition, kind, index, "address", text, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "%s: %s: bus 0 is full; give it an address behind a root port (address=01:00.0)",
                options[kind].key, definition_device_id(definition, kind, index));
    return false;
}

bool definition_fill_devices(struct definition *definition, GError **error)
{
    /* A machine whose devices have their places keeps the next ones for what it has besides; in one
     * where none has, that comes behind them all. */
    unsigned skip = has_places(definition) ? count_others(definition) : 0;

    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++)
        for (unsigned i = 0; i < definition_count(definition, kinds[k]); i++)
            if (!fill_id(definition, kinds[k], i, NULL, error) ||
                !fill_address(definition, kinds[k], i, skip, error))
                return false;
    if (!count_others(definition) ||
        definition_free_place(definition, count_others(definition) - 1))
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "disk: bus 0 has no place left for the console or virtio-rng; give a disk an "
                "address behind a root port (address=01:00.0)");
    return false;
}

bool definition_fill_ids(struct definition *definition, enum option_id kind, GError **error)
{
    for (unsigned i = 0; i < definition_count(definition, kind); i++)
        if (!fill_id(definition, kind, i, NULL, error))
            return false;
    return true;
}

/* ---- checking ---- */

static bool refuse_double(enum option_id kind, const char *member, const char *text, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: %s: '%s' is given twice",
                options[kind].key, member, text);
    return false;
}

/* Whether nothing that comes before this entry, in the order of kinds, has its id or address. */
static bool check_device(const struct definition *definition, unsigned kind, unsigned index,
                         GError **error)
{
    const char *id = definition_device_id(definition, kinds[kind], index);
    const char *text = definition_member_text(definition, kinds[kind], index, "address");
    struct device_address own = definition_device_address(definition, kinds[kind], index);

    for (unsigned k = 0; k <= kind; k++)
        for (unsigned i = 0; i < (k == kind ? index : definition_count(definition, kinds[k]));
             i++) {
            const char *other = definition_device_id(definition, kinds[k], i);
            struct device_address its = definition_device_address(definition, kinds[k], i);

            if (id && other && g_str_equal(id, other))
                return refuse_double(kinds[kind], "id", id, error);
            if (text && its.bus == own.bus && its.device == own.device)
                return refuse_double(kinds[kind], "address", text, error);
        }
    return true;
}

bool definition_check_devices(const struct definition *definition, GError **error)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++)
        for (unsigned i = 0; i < definition_count(definition, kinds[k]); i++)
            if (!check_device(definition, k, i, error))
                return false;
    return true;
}

/* ---- devices that come and go ---- */

bool device_kind_find(const char *kind, enum option_id *id, GError **error)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
        *id = kinds[k];
        if (g_str_equal(options[kinds[k]].key, kind))
            return true;
    }
    g_autofree char *shown = text_show(kind);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "kind: expected disk or nic, not '%s'",
                shown);
    return false;
}

/* A place behind a root port for the device, if it has none yet. */
static bool choose_port(struct definition *definition, const struct device_place *place,
                        const struct definition *others, GError **error)
{
    struct device_address address = {find_port(definition, others), 0};
    g_autofree char *text = device_address_format(&address);

    if (definition_member_text(definition, place->kind, place->index, "address"))
        return true;
    if (address.bus)
        return definition_member_set(definition, place->kind, place->index, "address", text, error);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                "%s: all %d root ports are taken; detach something first", options[place->kind].key,
                CONFIG_ROOT_PORTS);
    return false;
}

static bool check_port(const struct definition *definition, const struct device_place *place,
                       GError **error)
{
    if (definition_device_address(definition, place->kind, place->index).bus)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "%s: address: '%s' is on bus 0, where nothing comes while the machine runs; leave "
                "it out, or take 01:00.0 to %02x:00.0",
                options[place->kind].key,
                definition_member_text(definition, place->kind, place->index, "address"),
                CONFIG_ROOT_PORTS);
    return false;
}

/* That there are not too many, and that they fit together. */
static bool check_count(const struct definition *definition, GError **error)
{
    return definition_check_disks(definition, error) && definition_check_nics(definition, error) &&
           definition_check_devices(definition, error);
}

bool definition_attach(struct definition *definition, const char *kind, json_t *entry,
                       const struct definition *others, struct device_place *place, GError **error)
{
    json_t *object;
    bool good;

    if (!device_kind_find(kind, &place->kind, error))
        return false;
    place->index = definition_count(definition, place->kind);
    object = json_pack("{s:[O]}", kind, entry);
    good = definition_from_json(definition, object, error);
    json_decref(object);
    if (!good)
        return false;
    if (check_count(definition, error) &&
        fill_id(definition, place->kind, place->index, others, error) &&
        choose_port(definition, place, others, error) && check_port(definition, place, error))
        return true;
    definition_drop(definition, place->kind, place->index);
    return false;
}

/* "disk0, nic0": what could be meant. */
static char *list_ids(const struct definition *definition)
{
    GString *list = g_string_new(NULL);

    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++)
        for (unsigned i = 0; i < definition_count(definition, kinds[k]); i++)
            g_string_append_printf(list, "%s%s", list->len ? ", " : "",
                                   definition_device_id(definition, kinds[k], i));
    return g_string_free(list, FALSE);
}

bool definition_find_detachable(const struct definition *definition, const char *id,
                                struct device_place *place, GError **error)
{
    g_autofree char *shown = text_show(id), *ids = list_ids(definition);

    if (!definition_find_device(definition, id, place)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_ABSENT,
                    "id: no disk or network card is called '%s'; there %s %s", shown,
                    *ids ? "are" : "is", *ids ? ids : "none");
        return false;
    }
    if (definition_device_address(definition, place->kind, place->index).bus)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                "%s: it is on bus 0 (%s) for the machine's life; what has a bus of its own "
                "(address=01:00.0) can be detached",
                id, definition_member_text(definition, place->kind, place->index, "address"));
    return false;
}
