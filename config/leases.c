// SPDX-License-Identifier: Apache-2.0
/*
 * A table that is looked through: at most 250 entries, for what a guest asks a few times an hour.
 */
#include "config/leases.h"

#include <arpa/inet.h>
#include <glib.h>
#include <string.h>

#include "config/network.h"
#include "config/nics.h"

static const uint8_t no_mac[6];

void leases_init(struct leases *leases, const struct subnet *subnet)
{
    uint32_t hosts = ~subnet_mask(subnet); /* the last of them is the broadcast address */

    *leases = (struct leases){.subnet = *subnet};
    leases->count = MIN(hosts - NETWORK_LEASES, LEASES_MAX);
}

uint32_t lease_address(const struct leases *leases, unsigned index)
{
    return leases->subnet.address + NETWORK_LEASES + index;
}

int leases_at(const struct leases *leases, uint32_t address)
{
    uint32_t index = address - leases->subnet.address - NETWORK_LEASES;

    return index < leases->count && leases->list[index].taken ? (int)index : -1;
}

int leases_of(const struct leases *leases, const uint8_t mac[6])
{
    for (unsigned i = 0; i < leases->count; i++)
        if (leases->list[i].taken && memcmp(leases->list[i].mac, mac, sizeof(no_mac)) == 0)
            return (int)i;
    return -1;
}

int leases_find(const struct leases *leases, const char *name, size_t length)
{
    for (unsigned i = 0; i < leases->count && length; i++) {
        const struct lease *lease = &leases->list[i];

        if (lease->taken && strlen(lease->name) == length &&
            g_ascii_strncasecmp(lease->name, name, length) == 0)
            return (int)i;
    }
    return -1;
}

/* A lease that nobody has, or whose owner has been away for the longest time. The first that is
 * tried follows from `seed`, so that a card has the same address on most days even if what is
 * written down was lost. */
static int find_free(const struct leases *leases, const void *seed, size_t length)
{
    g_autofree char *hash =
        g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)seed, length);
    unsigned first = (unsigned)g_ascii_xdigit_value(hash[0]) << 8 |
                     (unsigned)g_ascii_xdigit_value(hash[1]) << 4 |
                     (unsigned)g_ascii_xdigit_value(hash[2]);
    int oldest = -1;

    for (unsigned i = 0; i < leases->count; i++) {
        unsigned index = (first + i) % leases->count;
        const struct lease *lease = &leases->list[index];

        if (!lease->taken)
            return (int)index;
        if (!lease->in_use && !lease->kept &&
            (oldest < 0 || lease->used < leases->list[oldest].used))
            oldest = (int)index;
    }
    return oldest;
}

static int note(struct leases *leases, int index, const uint8_t mac[6], const char *name)
{
    struct lease *lease = &leases->list[index];

    lease->taken = true;
    lease->used = ++leases->uses;
    memcpy(lease->mac, mac, sizeof(lease->mac));
    g_strlcpy(lease->name, name, sizeof(lease->name));
    return index;
}

int leases_take(struct leases *leases, const uint8_t mac[6], const char *name)
{
    int had = leases_of(leases, mac), named = leases_find(leases, name, strlen(name));

    if (named >= 0 && named != had) {
        struct lease *other = &leases->list[named];

        if (other->in_use) {
            name = "";
        } else if (other->kept) {
            /* It has waited for this card, or another card has come in the place of the former. */
            if (had >= 0)
                leases->list[had] = (struct lease){0};
            had = named;
        } else {
            other->name[0] = 0;
        }
    }
    if (had < 0)
        had = find_free(leases, mac, sizeof(no_mac));
    return had < 0 ? -1 : note(leases, had, mac, name);
}

int leases_reserve(struct leases *leases, const char *name)
{
    int index = leases_find(leases, name, strlen(name));

    if (index < 0)
        index = find_free(leases, name, strlen(name));
    if (index < 0)
        return -1;
    if (!leases->list[index].taken || g_ascii_strcasecmp(leases->list[index].name, name) != 0)
        note(leases, index, no_mac, name);
    leases->list[index].kept = true;
    return index;
}

/* ---- written down ---- */

json_t *leases_to_json(const struct leases *leases)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < leases->count; i++) {
        const struct lease *lease = &leases->list[i];
        const struct in_addr address = {htonl(lease_address(leases, i))};
        char text[INET_ADDRSTRLEN], mac[MAC_TEXT_SIZE];

        if (!lease->taken)
            continue;
        mac_write(lease->mac, mac);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "address",
                                              inet_ntop(AF_INET, &address, text, sizeof(text)),
                                              "mac", mac, "name", lease->name));
    }
    return list;
}

static void take_entry(struct leases *leases, const json_t *entry)
{
    const char *address = json_string_value(json_object_get(entry, "address"));
    const char *mac = json_string_value(json_object_get(entry, "mac"));
    const char *name = json_string_value(json_object_get(entry, "name"));
    struct in_addr parsed;
    uint8_t bytes[6];
    uint32_t index;

    if (!address || !mac || !name || inet_pton(AF_INET, address, &parsed) != 1 ||
        !mac_read(mac, bytes) || strlen(name) > CONFIG_NAME_MAX)
        return;
    index = ntohl(parsed.s_addr) - lease_address(leases, 0);
    if (index >= leases->count || leases->list[index].taken ||
        (memcmp(bytes, no_mac, sizeof(no_mac)) != 0 && leases_of(leases, bytes) >= 0) ||
        leases_find(leases, name, strlen(name)) >= 0)
        return;
    note(leases, (int)index, bytes, name);
}

void leases_from_json(struct leases *leases, const json_t *list)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry) take_entry(leases, entry);
}
