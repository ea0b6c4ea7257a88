// SPDX-License-Identifier: Apache-2.0
/*
 * Reading a port forward. Whether a piece between colons is an address or a port shows by its dots.
 */
#include "config/forward.h"

#include <arpa/inet.h>
#include <string.h>

#include "config/schema.h"

static bool read_port(const char *text, guint64 min, in_port_t *port)
{
    guint64 number;

    if (!text || !g_ascii_string_to_unsigned(text, 10, min, UINT16_MAX, &number, NULL))
        return false;
    *port = htons((uint16_t)number);
    return true;
}

/* "[ADDRESS:]PORT", the port not below `min`, at `*pieces`, which moves behind it. */
static bool read_end(char ***pieces, guint64 min, struct sockaddr_in *end)
{
    if (**pieces && strchr(**pieces, '.')) {
        if (inet_pton(AF_INET, **pieces, &end->sin_addr) != 1)
            return false;
        ++*pieces;
    }
    if (!read_port(**pieces, min, &end->sin_port))
        return false;
    ++*pieces;
    return true;
}

bool forward_parse(const char *text, struct forward *forward, GError **error)
{
    g_auto(GStrv) pieces = g_strsplit(text, ":", -1);
    char **at = pieces;
    bool tcp = *at && g_str_equal(*at, "tcp");

    *forward = (struct forward){.host = {.sin_family = AF_INET}, .guest = {.sin_family = AF_INET}};
    forward->host.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    forward->udp = *at && g_str_equal(*at, "udp");
    if (tcp || forward->udp) {
        at++;
        if (read_end(&at, 0, &forward->host) && read_end(&at, 1, &forward->guest) && !*at)
            return true;
    }
    return text_refuse(text, error,
                       "tcp or udp:[HOSTADDR:]HOSTPORT:[GUESTADDR:]GUESTPORT with addresses of "
                       "IPv4 and ports from 1 to 65535, or 0 for a HOSTPORT that is free");
}

char *forward_format(const struct forward *forward)
{
    char host[INET_ADDRSTRLEN], guest[INET_ADDRSTRLEN];

    return g_strdup_printf("%s:%s:%u:%s:%u", forward->udp ? "udp" : "tcp",
                           inet_ntop(AF_INET, &forward->host.sin_addr, host, sizeof(host)),
                           ntohs(forward->host.sin_port),
                           inet_ntop(AF_INET, &forward->guest.sin_addr, guest, sizeof(guest)),
                           ntohs(forward->guest.sin_port));
}
