// SPDX-License-Identifier: Apache-2.0
/*
 * Questions of DHCP and for names are answered before libslirp sees them; all else is its.
 */
#include "vmm/net/network/services.h"

#include <arpa/inet.h>
#include <string.h>

#include "vmm/net/link.h"
#include "vmm/net/nat/forwards.h"
#include "vmm/net/network/dhcp.h"
#include "vmm/net/network/dns.h"
#include "vmm/net/network/packet.h"

#define REPLY_MAX (PACKET_HEADERS + MAX(DHCP_REPLY_MAX, DNS_REPLY_MAX))

static struct services {
    struct services_config config;
    struct nat *nat;
    struct leases leases;
} services;

static uint32_t address_of(unsigned number)
{
    return services.config.network->subnet.address + number;
}

struct nat *services_nat(void)
{
    return services.nat;
}

struct leases *services_leases(void)
{
    return services.nat ? &services.leases : NULL;
}

/* libslirp's hardware addresses hold the address of IP. */
static void make_mac(uint32_t address, uint8_t mac[6])
{
    mac[0] = 0x52;
    mac[1] = 0x55;
    packet_put32(mac + 2, address);
}

bool services_have(const uint8_t mac[6])
{
    static const unsigned numbers[] = {NETWORK_HOST, NETWORK_RESOLVER};
    uint8_t ours[6];

    for (unsigned i = 0; services.nat && i < G_N_ELEMENTS(numbers); i++) {
        make_mac(address_of(numbers[i]), ours);
        if (memcmp(mac, ours, sizeof(ours)) == 0)
            return true;
    }
    return false;
}

/* ---- answers ---- */

static void send_packet(uint8_t frame[REPLY_MAX], const struct udp_packet *packet)
{
    size_t length = packet_write(frame, REPLY_MAX, packet);

    if (length)
        services.config.send(frame, length);
}

/* To who has no address yet, at its hardware address. */
static void answer_dhcp(const uint8_t *mac, const struct udp_packet *packet)
{
    const struct network *network = services.config.network;
    uint8_t frame[REPLY_MAX];
    struct dhcp_request request;
    struct udp_packet answer = {.source = address_of(NETWORK_HOST),
                                .source_port = DHCP_SERVER_PORT,
                                .target_port = DHCP_CLIENT_PORT};
    int index;

    if (!dhcp_read(packet->data, packet->length, &request) ||
        (mac && memcmp(mac, request.mac, sizeof(request.mac)) != 0))
        return;
    index = leases_of(&services.leases, request.mac);
    if (index < 0) {
        index = leases_take(&services.leases, request.mac, "");
        services.config.changed();
    }
    if (index < 0)
        return;
    const struct dhcp_lease lease = {
        .address = lease_address(&services.leases, (unsigned)index),
        .mask = subnet_mask(&network->subnet),
        .server = address_of(NETWORK_HOST),
        .router = network->kind == NETWORK_NAT ? address_of(NETWORK_HOST) : 0,
        .resolver = address_of(NETWORK_RESOLVER),
        .hostname = services.leases.list[index].name,
        .domain = network->domain,
        .mtu = network->mtu,
    };
    answer.length = (uint32_t)dhcp_reply(&request, &lease, frame + PACKET_HEADERS);
    answer.target = request.client ? request.client : INADDR_BROADCAST;
    memcpy(answer.target_mac, request.mac, sizeof(answer.target_mac));
    make_mac(answer.source, answer.source_mac);
    if (answer.length)
        send_packet(frame, &answer);
}

/* Whether the question was ours. */
static bool answer_dns(const struct udp_packet *packet)
{
    const struct dns_zone zone = {.leases = &services.leases,
                                  .domain = services.config.network->domain,
                                  .alone = services.config.network->kind != NETWORK_NAT};
    uint8_t frame[REPLY_MAX];
    struct udp_packet answer = {.source = packet->target,
                                .target = packet->source,
                                .source_port = DNS_PORT,
                                .target_port = packet->source_port};
    size_t length = 0;
    enum dns_verdict verdict =
        dns_reply(&zone, packet->data, packet->length, frame + PACKET_HEADERS, &length);

    if (verdict == DNS_ANSWERED) {
        answer.length = (uint32_t)length;
        memcpy(answer.target_mac, packet->source_mac, sizeof(answer.target_mac));
        memcpy(answer.source_mac, packet->target_mac, sizeof(answer.source_mac));
        send_packet(frame, &answer);
    }
    return verdict != DNS_ELSEWHERE;
}

void services_input(const uint8_t *mac, const uint8_t *frame, size_t length)
{
    struct udp_packet packet;

    if (!services.nat)
        return;
    if (packet_read(frame, length, &packet)) {
        if (packet.target_port == DHCP_SERVER_PORT) {
            answer_dhcp(mac, &packet);
            return;
        }
        if (packet.target_port == DNS_PORT && packet.target == address_of(NETWORK_RESOLVER) &&
            answer_dns(&packet))
            return;
    }
    nat_input(services.nat, frame, length);
}

/* ---- forwards ---- */

/* What the network's forward is for libslirp; *machine is its guest's name, or "". */
static char *resolve(const char *text, char machine[CONFIG_NAME_MAX + 1], GError **error)
{
    struct network_forward forward;
    int index = -1;

    if (!network_forward_parse(text, &forward, error))
        return NULL;
    g_strlcpy(machine, forward.machine, CONFIG_NAME_MAX + 1);
    if (*machine) {
        index = leases_reserve(&services.leases, machine);
        if (index < 0) {
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                        "forward %s: all addresses of the network are in use", text);
            return NULL;
        }
        forward.forward.guest.sin_addr.s_addr =
            htonl(lease_address(&services.leases, (unsigned)index));
        services.config.changed();
    }
    return forward_format(&forward.forward);
}

/* All of the list so; NULL and an error. `names`, unless that is NULL, gets the guests' names. */
static json_t *resolve_all(const json_t *list, json_t *names, GError **error)
{
    json_t *plain = json_array();
    const json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry)
    {
        const char *text = json_string_value(entry);
        char machine[CONFIG_NAME_MAX + 1];
        g_autofree char *resolved = resolve(text ? text : "", machine, error);

        if (!resolved) {
            json_decref(plain);
            return NULL;
        }
        json_array_append_new(plain, json_string(resolved));
        if (names)
            json_array_append_new(names, json_string(machine));
    }
    return plain;
}

/* With the guest's name in the place of its address. */
static void name_guest(json_t *list, size_t index, const char *machine)
{
    const char *text = json_string_value(json_array_get(list, index));
    g_auto(GStrv) pieces = g_strsplit(text, ":", -1);
    unsigned count = g_strv_length(pieces);
    g_autofree char *named = NULL;

    if (!*machine || count < 2)
        return;
    g_free(pieces[count - 2]);
    pieces[count - 2] = g_strdup(machine);
    named = g_strjoinv(":", pieces);
    json_array_set_new(list, index, json_string(named));
}

json_t *services_forward(const json_t *gone, const json_t *come, json_t **taken, GError **error)
{
    json_t *names = json_array(), *answer = NULL;
    json_t *added = resolve_all(come, names, error);
    json_t *removed = added ? resolve_all(gone, NULL, error) : NULL;
    json_t *fault = NULL, *name;
    size_t i;

    if (removed)
        answer = forwards_change(services.nat, removed, added, &fault, error);
    json_array_foreach(names, i, name) if (answer)
        name_guest(json_object_get(answer, "forwards"), i, json_string_value(name));
    /* It is told as it was asked for. */
    json_array_foreach(added, i, name) if (fault && name == fault) *taken = json_array_get(come, i);
    json_decref(names);
    json_decref(added);
    json_decref(removed);
    return answer;
}

/* ---- life ---- */

static void on_frame(void *opaque, const void *frame, size_t length)
{
    services.config.send(frame, length);
}

static struct in_addr ipv4(uint32_t address)
{
    return (struct in_addr){htonl(address)};
}

void services_start(const struct services_config *config)
{
    static const struct nat_ops ops = {on_frame};
    const struct network *network = config->network;
    const struct nat_config nat = {
        .ops = &ops,
        .subnet = ipv4(network->subnet.address),
        .mask = ipv4(subnet_mask(&network->subnet)),
        .host = ipv4(network->subnet.address + NETWORK_HOST),
        .resolver = ipv4(network->subnet.address + NETWORK_RESOLVER),
        .guest = ipv4(network->subnet.address + NETWORK_LEASES),
        .closed = network->kind != NETWORK_NAT,
        .mtu = network->mtu,
    };

    services.config = *config;
    leases_init(&services.leases, &network->subnet);
    leases_from_json(&services.leases, config->leases);
    services.nat = nat_create(&nat);
}
