// SPDX-License-Identifier: Apache-2.0
/*
 * What the host uses is what its interfaces have (getifaddrs(3)) and where it sends by other routes
 * than the default one (/proc/net/route: words in hexadecimal, addresses in network byte order).
 */
#include "config/subnet.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema.h"

#define ROUTES     "/proc/net/route"
#define POOL       0x0A4D0000U /* 10.77.0.0 */
#define POOL_COUNT 256
#define POOL_BITS  24

/* Fields of a route that are used. */
enum { ROUTE_DESTINATION = 1, ROUTE_MASK = 7, ROUTE_FIELDS };

uint32_t subnet_mask(const struct subnet *subnet)
{
    return subnet->bits ? ~0U << (32 - subnet->bits) : 0;
}

bool subnet_has(const struct subnet *subnet, uint32_t address)
{
    return (address & subnet_mask(subnet)) == subnet->address;
}

bool subnet_overlaps(const struct subnet *a, const struct subnet *b)
{
    return subnet_has(a, b->address) || subnet_has(b, a->address);
}

bool subnet_parse(const char *text, struct subnet *subnet, GError **error)
{
    const char *slash = strchr(text, '/');
    g_autofree char *address = g_strndup(text, slash ? (size_t)(slash - text) : strlen(text));
    struct in_addr parsed;
    guint64 bits;

    if (slash && inet_pton(AF_INET, address, &parsed) == 1 &&
        g_ascii_string_to_unsigned(slash + 1, 10, SUBNET_BITS_MIN, SUBNET_BITS_MAX, &bits, NULL)) {
        *subnet = (struct subnet){ntohl(parsed.s_addr), (unsigned)bits};
        if (subnet_has(subnet, subnet->address) && subnet->address)
            return true;
    }
    return text_refuse(text, error,
                       "a subnet such as 10.77.0.0/24, its first address and %d to %d bits",
                       SUBNET_BITS_MIN, SUBNET_BITS_MAX);
}

char *subnet_format(const struct subnet *subnet)
{
    const struct in_addr address = {htonl(subnet->address)};
    char text[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &address, text, sizeof(text));
    return g_strdup_printf("%s/%u", text, subnet->bits);
}

/* ---- what the host uses ---- */

static void add(GArray *used, uint32_t address, uint32_t mask)
{
    const struct subnet subnet = {address & mask, (unsigned)__builtin_popcount(mask)};

    if (mask)
        g_array_append_val(used, subnet);
}

static void add_interfaces(GArray *used)
{
    struct ifaddrs *list = NULL;

    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
        const struct sockaddr_in *address = (const struct sockaddr_in *)at->ifa_addr;
        const struct sockaddr_in *mask = (const struct sockaddr_in *)at->ifa_netmask;

        if (address && mask && address->sin_family == AF_INET)
            add(used, ntohl(address->sin_addr.s_addr), ntohl(mask->sin_addr.s_addr));
    }
    freeifaddrs(list);
}

static void add_routes(GArray *used)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(ROUTES, &text, NULL, NULL))
        return;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, "\t", -1);

        if (line != lines && g_strv_length(fields) >= ROUTE_FIELDS)
            add(used, ntohl((uint32_t)strtoul(fields[ROUTE_DESTINATION], NULL, 16)),
                ntohl((uint32_t)strtoul(fields[ROUTE_MASK], NULL, 16)));
    }
}

static bool is_free(const GArray *used, const struct subnet *subnet)
{
    for (unsigned i = 0; i < used->len; i++)
        if (subnet_overlaps(subnet, &g_array_index(used, struct subnet, i)))
            return false;
    return true;
}

bool subnet_choose(const struct subnet *taken, unsigned count, struct subnet *subnet,
                   GError **error)
{
    g_autoptr(GArray) used = g_array_new(FALSE, FALSE, sizeof(struct subnet));

    if (count)
        g_array_append_vals(used, taken, count);
    add_interfaces(used);
    add_routes(used);
    for (unsigned i = 0; i < POOL_COUNT; i++) {
        *subnet = (struct subnet){POOL | i << (32 - POOL_BITS), POOL_BITS};
        if (is_free(used, subnet))
            return true;
    }
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "subnet: all from 10.77.0.0/24 to 10.77.255.0/24 are in use here; choose one");
    return false;
}
