// SPDX-License-Identifier: Apache-2.0
/*
 * Three ways, the best first: a forward of a card on `user`; a forward of the network that a card
 * on `switch=` is on; and the guest's own address, where a card is on a TAP or a bridge of this
 * host's.
 *
 * What a guest says of its addresses may be a lie that leads to somebody else, such as this host
 * itself. So an address counts only while the host's table of neighbours (proc(5), /proc/net/arp)
 * has the card's hardware address behind it; entries of that table are candidates themselves.
 */
#include "cli/way.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_MS 10000 /* of the monitor */
#define AGENT_MS  2000
#define PIECES    5 /* of a forward: tcp:HOST:PORT:GUEST:PORT */

void way_finish(struct way *way)
{
    g_free(way->host);
    g_free(way->dial);
    g_free(way->mac);
    g_free(way->remedy);
}

static void way_set(struct way *way, const char *host, const char *dial, const char *mac)
{
    g_free(way->host);
    g_free(way->dial);
    g_free(way->mac);
    /* Every address of this host's is its own as well. */
    way->host = g_strdup(g_str_equal(host, "0.0.0.0") ? "127.0.0.1" : host);
    way->dial = g_strdup(dial);
    way->mac = g_strdup(mac);
}

static void way_advise(struct way *way, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void way_advise(struct way *way, const char *format, ...)
{
    va_list arguments;

    g_free(way->remedy);
    va_start(arguments, format);
    way->remedy = g_strdup_vprintf(format, arguments);
    va_end(arguments);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* A method's result as an object; NULL and an error. */
static json_t *ask(struct anima_machine *machine, const char *method, int timeout_ms,
                   struct anima_error **error)
{
    char *text = anima_machine_call(machine, method, NULL, -1, timeout_ms, error);
    json_t *result = text ? json_loads(text, 0, NULL) : NULL;

    anima_free(text);
    return result;
}

/* ---- forwards ---- */

/* One of the machine's own, as `query` tells them. */
static bool take_own(struct way *way, const json_t *forwards)
{
    const json_t *forward;
    size_t i;

    json_array_foreach(forwards, i, forward)
    {
        json_int_t outside = json_integer_value(json_object_get(forward, "host_port"));
        g_autofree char *dial = g_strdup_printf("%" JSON_INTEGER_FORMAT, outside);

        if (!g_str_equal(text_of(forward, "proto"), "tcp") ||
            json_integer_value(json_object_get(forward, "guest_port")) != way->port)
            continue;
        way_set(way, text_of(forward, "host"), dial, NULL);
        return true;
    }
    return false;
}

/* Whether the network's forward leads to one of these, each an address or a name. */
static bool leads_to(const struct way *way, char **pieces, const char *const *guests)
{
    return g_strv_length(pieces) == PIECES && g_str_equal(pieces[0], "tcp") &&
           g_strv_contains(guests, pieces[3]) && strtoul(pieces[4], NULL, 10) == way->port;
}

/* The name that a network has for the card; "": none. */
static const char *name_of(const json_t *network, const char *mac)
{
    const json_t *leases = json_object_get(network, "leases"), *lease;
    size_t i;

    json_array_foreach(leases, i, lease) if (g_str_equal(text_of(lease, "mac"),
                                                         mac)) return text_of(lease, "name");
    return "";
}

static bool take_shared(struct way *way, const json_t *network, const char *mac)
{
    const json_t *ports = json_object_get(network, "ports"), *port;
    const json_t *forwards = json_object_get(network, "forwards"), *forward;
    const char *guests[] = {way->name, name_of(network, mac), NULL, NULL};
    size_t i;

    json_array_foreach(ports, i, port) if (g_str_equal(text_of(port, "mac"), mac)) guests[2] =
        text_of(port, "address");
    json_array_foreach(forwards, i, forward)
    {
        const char *text = json_string_value(forward);
        g_auto(GStrv) pieces = g_strsplit(text ? text : "", ":", -1);

        if (!leads_to(way, pieces, guests))
            continue;
        way_set(way, pieces[1], pieces[2], NULL);
        return true;
    }
    return false;
}

/* ---- addresses of the guest's ---- */

/* The address (or, if `address` is not NULL, that one) that the card has for this host; NULL: none.
 * A line begins with the address, and has the hardware's as its fourth word. */
static char *find_neighbour(const char *mac, const char *address)
{
    g_autofree char *table = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/net/arp", &table, NULL, NULL))
        return NULL;
    lines = g_strsplit(table, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_regex_split_simple(" +", *line, 0, 0);

        if (g_strv_length(words) > 3 && g_ascii_strcasecmp(words[3], mac) == 0 &&
            (!address || g_str_equal(words[0], address)))
            return g_strdup(words[0]);
    }
    return NULL;
}

/* The IPv4 address that the agent tells of the card. */
static const char *told_address(const json_t *interfaces, const char *mac)
{
    const json_t *interface, *address;
    size_t i, j;

    json_array_foreach(interfaces, i, interface)
    {
        if (g_ascii_strcasecmp(text_of(interface, "mac"), mac) != 0)
            continue;
        json_array_foreach(json_object_get(interface, "addresses"), j,
                           address) if (g_str_equal(text_of(address, "family"),
                                                    "ipv4")) return text_of(address, "address");
    }
    return NULL;
}

static enum way_found find_direct(struct way *way, struct anima_machine *machine, const char *mac)
{
    json_t *result = ask(machine, "guest.addresses", AGENT_MS, NULL);
    const char *told = told_address(json_object_get(result, "interfaces"), mac);
    g_autofree char *known = told ? NULL : find_neighbour(mac, NULL);
    g_autofree char *dial = g_strdup_printf("%u", way->port);

    if (told || known)
        way_set(way, told ? told : known, dial, mac);
    else
        way_advise(way, "its address on the host's network is not known; the package "
                        "qemu-guest-agent in the guest and 'agent: yes' tell it");
    json_decref(result);
    return told || known ? WAY_HERE : WAY_LATER;
}

/* By the network that a card is on. */
static enum way_found find_shared(struct way *way, struct anima_machine *machine, const char *name,
                                  const json_t *nic)
{
    const char *mac = text_of(nic, "mac");
    char *text = anima_network_show(name, NULL);
    json_t *network = text ? json_loads(text, 0, NULL) : NULL;
    bool internal = g_str_equal(text_of(network, "kind"), "internal");
    enum way_found found = WAY_NONE;

    anima_free(text);
    if (g_str_equal(text_of(network, "kind"), "bridge"))
        found = find_direct(way, machine, mac);
    else if (take_shared(way, network, mac))
        found = WAY_HERE;
    else if (internal)
        way_advise(way,
                   "its network '%s' is internal; a second card would have one: 'anima attach %s "
                   "nic user,forward=tcp:0:%u'",
                   name, way->name, way->port);
    else
        way_advise(way, "'anima network forward %s add tcp:0:%s:%u' makes one", name, way->name,
                   way->port);
    json_decref(network);
    return found;
}

/* ---- all ---- */

/* The way by one card. */
static enum way_found find_by(struct way *way, struct anima_machine *machine, const json_t *nic)
{
    const char *network = text_of(nic, "network"), *mac = text_of(nic, "mac");

    if (g_str_has_prefix(network, "switch="))
        return find_shared(way, machine, network + strlen("switch="), nic);
    if (g_str_has_prefix(network, "tap=") || g_str_has_prefix(network, "bridge="))
        return find_direct(way, machine, mac);
    if (g_str_equal(network, "user") && !way->remedy)
        way_advise(way, "'anima change %s %s forward+=tcp:0:%u' makes one", way->name,
                   text_of(nic, "id"), way->port);
    return WAY_NONE;
}

/* The cards of the machine that runs, as a new list. */
static json_t *list_cards(struct anima_machine *machine)
{
    struct anima_definition *definition = anima_definition_create();
    json_t *object = NULL, *cards;
    char *text = NULL;

    if (anima_machine_definition(machine, definition, ANSWER_MS, NULL))
        text = anima_definition_json(definition);
    object = text ? json_loads(text, 0, NULL) : NULL;
    cards = json_incref(json_object_get(object, "nic"));
    json_decref(object);
    anima_free(text);
    anima_definition_destroy(definition);
    return cards;
}

enum way_found way_find(struct way *way, struct anima_machine *machine, struct anima_error **error)
{
    json_t *query = ask(machine, "query", ANSWER_MS, error), *cards, *nic;
    enum way_found best = WAY_NONE;
    bool own = take_own(way, json_object_get(query, "forwards"));
    size_t i;

    json_decref(query);
    if (!query || own)
        return own ? WAY_HERE : WAY_NONE;
    cards = list_cards(machine);
    json_array_foreach(cards, i, nic) if (best != WAY_HERE)
    {
        enum way_found found = find_by(way, machine, nic);
        best = MAX(best, found);
    }
    json_decref(cards);
    if (!way->remedy)
        way_advise(way, "it has no card on a network");
    return best;
}

static int connect_to(const struct addrinfo *address, unsigned seconds)
{
    const struct timeval limit = {.tv_sec = seconds};
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
        return fd;
    close(fd);
    return -1;
}

int way_dial(const struct way *way, unsigned seconds)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *address = NULL;
    g_autofree char *seen = NULL;
    int fd;

    if (getaddrinfo(way->host, way->dial, &hints, &address) != 0)
        return -1;
    fd = connect_to(address, seconds);
    freeaddrinfo(address);
    if (fd >= 0 && way->mac)
        seen = find_neighbour(way->mac, way->host);
    if (fd < 0 || !way->mac || seen)
        return fd;
    close(fd);
    return -1;
}
