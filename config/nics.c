// SPDX-License-Identifier: Apache-2.0
/*
 * Network cards out of the option `nic`.
 */
#include "config/nics.h"

#include <string.h>

#include "config/forward.h"
#include "config/store.h"

#define MAC_LENGTH   6
#define MAC_GROUP    1          /* bit of the first byte: no single station */
#define NAME_MAX_IF  15         /* the kernel's, IFNAMSIZ without the end */
#define HOSTNAME_MAX 32         /* what libslirp tells */
#define OWN_PREFIX   "52:54:00" /* of addresses that no maker of cards has */

/* ---- addresses ---- */

bool mac_read(const char *text, uint8_t mac[MAC_LENGTH])
{
    if (strlen(text) != MAC_TEXT_SIZE - 1)
        return false;
    for (unsigned i = 0; i < MAC_LENGTH; i++) {
        const char *at = text + 3 * i;
        char end = i + 1 < MAC_LENGTH ? ':' : 0;

        if (!g_ascii_isxdigit(at[0]) || !g_ascii_isxdigit(at[1]) || at[2] != end)
            return false;
        mac[i] = (uint8_t)(g_ascii_xdigit_value(at[0]) << 4 | g_ascii_xdigit_value(at[1]));
    }
    return true;
}

void mac_write(const uint8_t mac[MAC_LENGTH], char text[MAC_TEXT_SIZE])
{
    g_snprintf(text, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
               mac[4], mac[5]);
}

static bool mac_is_zero(const uint8_t mac[MAC_LENGTH])
{
    static const uint8_t zero[MAC_LENGTH];
    return memcmp(mac, zero, MAC_LENGTH) == 0;
}

bool nic_check_mac(const char *text, GError **error)
{
    uint8_t mac[MAC_LENGTH];

    if (mac_read(text, mac) && !(mac[0] & MAC_GROUP) && !mac_is_zero(mac))
        return true;
    return text_refuse(text, error, "the address of one station such as 52:54:00:12:34:56");
}

bool nic_check_hostname(const char *text, GError **error)
{
    size_t length = strlen(text);
    bool good = length >= 1 && length <= HOSTNAME_MAX && g_ascii_isalnum(text[0]);

    for (size_t i = 0; good && i < length; i++)
        good = g_ascii_isalnum(text[i]) || text[i] == '-' || text[i] == '.';
    return good || text_refuse(text, error, "a name of up to %d letters, digits, '-' and '.'",
                               HOSTNAME_MAX);
}

bool nic_check_interface(const char *text, GError **error)
{
    size_t length = strlen(text);
    bool good =
        length >= 1 && length <= NAME_MAX_IF && !g_str_equal(text, ".") && !g_str_equal(text, "..");

    for (size_t i = 0; good && i < length; i++)
        good = g_ascii_isgraph(text[i]) && !strchr("/%:,", text[i]);
    return good || text_refuse(text, error, "the name of an interface such as br0");
}

bool nic_check_forward(const char *text, GError **error)
{
    struct forward forward;
    return forward_parse(text, &forward, error);
}

/* ---- cards ---- */

/* What stands behind the prefix; NULL: there is another one. */
static const char *after(const char *text, const char *prefix)
{
    return g_str_has_prefix(text, prefix) ? text + strlen(prefix) : NULL;
}

struct nic definition_nic(const struct definition *definition, unsigned index)
{
    const char *network = definition_member_text(definition, OPTION_NIC, index, "network");
    const char *mac = definition_member_text(definition, OPTION_NIC, index, "mac");
    struct nic nic = {
        .hostname = definition_member_text(definition, OPTION_NIC, index, "hostname"),
        .mtu = (uint16_t)definition_member_number(definition, OPTION_NIC, index, "mtu"),
        .pulled =
            g_str_equal(definition_member_text(definition, OPTION_NIC, index, "link"), "down"),
        .rate = definition_member_number(definition, OPTION_NIC, index, "rate"),
        .burst_ms = definition_member_number(definition, OPTION_NIC, index, "burst"),
    };

    nic.tap = after(network, "tap=");
    nic.bridge = after(network, "bridge=");
    nic.shared = after(network, "switch=");
    if (g_str_equal(network, "user"))
        nic.network = NIC_USER;
    else if (nic.tap)
        nic.network = NIC_TAP;
    else if (nic.bridge)
        nic.network = NIC_BRIDGE;
    else if (nic.shared)
        nic.network = NIC_SWITCH;
    if (mac)
        mac_read(mac, nic.mac);
    return nic;
}

static bool has_mac(const struct definition *definition, const char *mac)
{
    for (unsigned i = 0; i < definition_count(definition, OPTION_NIC); i++)
        if (g_strcmp0(definition_member_text(definition, OPTION_NIC, i, "mac"), mac) == 0)
            return true;
    return false;
}

/* Cards come and go, so that another one may have the address of this number. */
static char *choose_mac(const struct definition *definition, unsigned number)
{
    for (;; number++) {
        const char *name = definition_text(definition, OPTION_NAME);
        g_autofree char *seed = g_strdup_printf("%s/%u", name, number);
        g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, seed, -1);
        g_autofree char *mac =
            g_strdup_printf(OWN_PREFIX ":%.2s:%.2s:%.2s", hash, hash + 2, hash + 4);

        if (!has_mac(definition, mac))
            return g_steal_pointer(&mac);
    }
}

bool definition_fill_macs(struct definition *definition, GError **error)
{
    for (unsigned i = 0; i < definition_count(definition, OPTION_NIC); i++) {
        g_autofree char *mac = NULL;

        if (definition_member_has(definition, OPTION_NIC, i, "mac"))
            continue;
        mac = choose_mac(definition, i);
        if (!definition_member_set(definition, OPTION_NIC, i, "mac", mac, error))
            return false;
    }
    return definition_check_nics(definition, error);
}

static bool refuse(unsigned index, const char *what, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "nic: %s (card %u)", what, index);
    return false;
}

static bool check_nic(const struct definition *definition, unsigned index, GError **error)
{
    struct nic nic = definition_nic(definition, index);

    if (nic.tap && !nic_check_interface(nic.tap, NULL))
        return refuse(index, "tap: no interface can have such a name", error);
    if (nic.bridge && !nic_check_interface(nic.bridge, NULL))
        return refuse(index, "bridge: no interface can have such a name", error);
    if (nic.shared && !store_check_name(&store_networks, nic.shared, NULL))
        return refuse(index, "switch: no network can have such a name", error);
    for (unsigned i = 0; i < index; i++) {
        struct nic other = definition_nic(definition, i);

        if (!mac_is_zero(nic.mac) && memcmp(nic.mac, other.mac, MAC_LENGTH) == 0)
            return refuse(index, "mac: another card has this address", error);
        if (nic.tap && other.tap && g_str_equal(nic.tap, other.tap))
            return refuse(index, "tap: another card is plugged in there", error);
    }
    return true;
}

bool definition_check_nics(const struct definition *definition, GError **error)
{
    unsigned count = definition_count(definition, OPTION_NIC);

    if (count > CONFIG_NICS_MAX) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "nic: %u are more than the %d that a machine can have", count, CONFIG_NICS_MAX);
        return false;
    }
    for (unsigned i = 0; i < count; i++)
        if (!check_nic(definition, i, error))
            return false;
    return true;
}
