// SPDX-License-Identifier: Apache-2.0
/*
 * Adding and removing forwards. What was added is removed again when one of the list fails.
 */
#include "vmm/net/nat/forwards.h"

#include <arpa/inet.h>
#include <errno.h>

#include "config/schema.h"

static bool forward_read(const json_t *entry, struct forward *forward, GError **error)
{
    const char *text = json_string_value(entry);

    return forward_parse(text ? text : "", forward, error);
}

/* `*taken` gets the entry whose port another program has. */
static bool forward_add(struct nat *nat, struct forward *forward, json_t *entry, json_t **taken,
                        GError **error)
{
    char address[INET_ADDRSTRLEN];
    int reason = nat_forward(nat, forward);

    if (reason == 0)
        return true;
    if (reason == EADDRINUSE)
        *taken = entry;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "forward %s %s:%u: %s%s",
                forward->udp ? "udp" : "tcp",
                inet_ntop(AF_INET, &forward->host.sin_addr, address, sizeof(address)),
                ntohs(forward->host.sin_port), g_strerror(reason),
                reason == EACCES
                    ? "; ports below 1024 are root's, and had when the card is plugged "
                      "in (network=none, then network=user)"
                    : "");
    return false;
}

/* Of what cannot be read nothing is removed. */
static bool remove_all(struct nat *nat, const json_t *list, GError **error)
{
    struct forward forward;
    const json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry)
    {
        if (!forward_read(entry, &forward, error))
            return false;
    }
    json_array_foreach(list, i, entry)
    {
        if (forward_read(entry, &forward, NULL))
            nat_unforward(nat, &forward);
    }
    return true;
}

json_t *forwards_add(struct nat *nat, const json_t *list, json_t **taken, GError **error)
{
    json_t *made = json_array(), *entry;
    size_t i;

    json_array_foreach(list, i, entry)
    {
        g_autofree char *text = NULL;
        struct forward forward;

        if (!forward_read(entry, &forward, error) ||
            !forward_add(nat, &forward, entry, taken, error)) {
            remove_all(nat, made, NULL);
            json_decref(made);
            return NULL;
        }
        text = forward_format(&forward);
        json_array_append_new(made, json_string(text));
    }
    return made;
}

json_t *forwards_change(struct nat *nat, const json_t *gone, const json_t *come, json_t **taken,
                        GError **error)
{
    json_t *made = NULL, *ignored = NULL;

    if (remove_all(nat, gone, error))
        made = forwards_add(nat, come, taken, error);
    if (made)
        return json_pack("{s:o}", "forwards", made);
    json_decref(forwards_add(nat, gone, &ignored, NULL));
    return NULL;
}
