// SPDX-License-Identifier: Apache-2.0
/*
 * The options of a network: the table, the checks that one of them alone needs, and those of all
 * together.
 */
#include "config/network.h"

#include <arpa/inet.h>
#include <string.h>

#include "config/nics.h"
#include "config/store.h"

#define LABEL_MAX  63  /* bytes of a part between dots (RFC 1035, 2.3.4) */
#define DOMAIN_MAX 100 /* bytes; leaves room for a machine's name */

static bool check_subnet(const char *text, GError **error)
{
    struct subnet subnet;
    return subnet_parse(text, &subnet, error);
}

static bool check_domain(const char *text, GError **error)
{
    g_auto(GStrv) labels = g_strsplit(text, ".", -1);
    bool good = strlen(text) <= DOMAIN_MAX;

    for (char **label = labels; good && *label; label++) {
        size_t length = strlen(*label);

        good = length >= 1 && length <= LABEL_MAX && **label != '-' && (*label)[length - 1] != '-';
        for (size_t i = 0; good && i < length; i++)
            good = g_ascii_isalnum((*label)[i]) || (*label)[i] == '-';
    }
    return good || text_refuse(text, error, "a domain such as lan.internal");
}

static bool check_forward(const char *text, GError **error)
{
    struct network_forward forward;
    return network_forward_parse(text, &forward, error);
}

static bool check_interface(const char *text, GError **error)
{
    return nic_check_interface(text, error);
}

static const char *const kind_choices[] = {"internal", "nat", "bridge", NULL};

const struct option network_options[NETWORK_OPTION_COUNT + 1] = {
    [NETWORK_KIND] =
        {
            .key = "kind",
            .type = OPTION_TYPE_ENUM,
            .argument = "KIND",
            .preset = "nat",
            .choices = kind_choices,
            .help = "what the network is",
            .manual = "*nat* has addresses by DHCP, names, and a way out through this host's "
                      "sockets, which needs no rights. *internal* is a switch between machines, "
                      "without a way out. *bridge* is a bridge of this host's kernel.",
        },
    [NETWORK_SUBNET] =
        {
            .key = "subnet",
            .type = OPTION_TYPE_STRING,
            .argument = "SUBNET",
            .check = check_subnet,
            .help = "its addresses of IPv4",
            .manual = "A *nat* network gets one that collides with none of the host's. The first "
                      "address is the host's, the second its resolver's; machines get the others "
                      "by DHCP, up to 250, each the same again. On *internal*, a subnet brings "
                      "DHCP and names.",
        },
    [NETWORK_DOMAIN] =
        {
            .key = "domain",
            .type = OPTION_TYPE_STRING,
            .argument = "DOMAIN",
            .preset = "internal",
            .check = check_domain,
            .help = "where the machines' names are in",
            .manual = "A machine is found by its name, and by its name with the domain behind it.",
        },
    [NETWORK_FORWARD] =
        {
            .key = "forward",
            .type = OPTION_TYPE_STRING,
            .list = true,
            .argument = "FORWARD",
            .check = check_forward,
            .help = "port of the host that leads to a machine",
            .manual = "On *nat* alone: *tcp:* or *udp:*, then [HOSTADDR:]HOSTPORT:GUEST:GUESTPORT, "
                      "where GUEST is a machine's name or an address of the subnet. Without "
                      "HOSTADDR only this host's programs reach it (127.0.0.1); 0.0.0.0 is every "
                      "address of the host. *anima network forward* changes them while the network "
                      "runs.",
        },
    [NETWORK_INTERFACE] =
        {
            .key = "interface",
            .type = OPTION_TYPE_STRING,
            .argument = "BRIDGE",
            .check = check_interface,
            .help = "the bridge, of a network of kind bridge",
        },
    [NETWORK_MTU] =
        {
            .key = "mtu",
            .type = OPTION_TYPE_INT,
            .argument = "BYTES",
            .preset = "1500",
            .min = CONFIG_NETWORK_MTU_MIN,
            .max = CONFIG_NIC_MTU_MAX,
            .help = "largest packet of the network",
            .manual = "Machines learn it by DHCP.",
        },
    [NETWORK_MAC_FILTER] =
        {
            .key = "mac-filter",
            .type = OPTION_TYPE_BOOL,
            .argument = "YES|NO",
            .preset = "yes",
            .help = "a card may send from its own address alone",
            .manual = "Without it, a guest can bridge others to the network, and nobody is kept "
                      "from posing as another.",
        },
};

/* ---- forwards ---- */

static bool refuse_forward(const char *text, GError **error)
{
    return text_refuse(text, error,
                       "tcp or udp:[HOSTADDR:]HOSTPORT:GUEST:GUESTPORT, where GUEST is a "
                       "machine's name or an address");
}

bool network_forward_parse(const char *text, struct network_forward *forward, GError **error)
{
    g_auto(GStrv) pieces = g_strsplit(text, ":", -1);
    unsigned count = g_strv_length(pieces);
    g_autofree char *plain = NULL;
    struct in_addr address;

    *forward = (struct network_forward){0};
    if (count < 4)
        return refuse_forward(text, error);
    if (inet_pton(AF_INET, pieces[count - 2], &address) != 1) {
        if (!store_check_name(&store_machines, pieces[count - 2], NULL))
            return refuse_forward(text, error);
        g_strlcpy(forward->machine, pieces[count - 2], sizeof(forward->machine));
        g_free(pieces[count - 2]);
        pieces[count - 2] = g_strdup("0.0.0.0");
    }
    plain = g_strjoinv(":", pieces);
    if (!forward_parse(plain, &forward->forward, NULL) ||
        (!*forward->machine && !forward->forward.guest.sin_addr.s_addr))
        return refuse_forward(text, error);
    return true;
}

/* ---- all together ---- */

struct network definition_network_of(const struct definition *definition)
{
    const char *kind = definition_text(definition, NETWORK_KIND);
    const char *subnet = definition_text(definition, NETWORK_SUBNET);
    struct network network = {
        .kind = NETWORK_INTERNAL,
        .domain = definition_text(definition, NETWORK_DOMAIN),
        .interface = definition_text(definition, NETWORK_INTERFACE),
        .mtu = (unsigned)definition_number(definition, NETWORK_MTU),
        .mac_filter = definition_number(definition, NETWORK_MAC_FILTER),
    };

    if (g_str_equal(kind, "nat"))
        network.kind = NETWORK_NAT;
    else if (g_str_equal(kind, "bridge"))
        network.kind = NETWORK_BRIDGE;
    if (subnet)
        subnet_parse(subnet, &network.subnet, NULL);
    return network;
}

static bool refuse(enum network_option id, const char *what, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: %s", network_options[id].key, what);
    return false;
}

/* Whether the guests' addresses are those of machines. */
static bool check_forwards(const struct definition *definition, const struct network *network,
                           GError **error)
{
    for (unsigned i = 0; i < definition_count(definition, NETWORK_FORWARD); i++) {
        struct network_forward forward;
        uint32_t address;

        network_forward_parse(definition_entry(definition, NETWORK_FORWARD, i), &forward, NULL);
        address = ntohl(forward.forward.guest.sin_addr.s_addr);
        if (!*forward.machine && (!subnet_has(&network->subnet, address) ||
                                  (address & ~subnet_mask(&network->subnet)) < NETWORK_LEASES))
            return refuse(NETWORK_FORWARD, "the guest's address is none of a machine in the subnet",
                          error);
    }
    return true;
}

/* What only some kinds have. */
static bool check_kind(const struct definition *definition, const struct network *network,
                       GError **error)
{
    static const enum network_option switched[] = {NETWORK_SUBNET, NETWORK_DOMAIN, NETWORK_MTU,
                                                   NETWORK_MAC_FILTER};

    if (network->kind != NETWORK_NAT && definition_given(definition, NETWORK_FORWARD))
        return refuse(NETWORK_FORWARD, "only a network of kind nat forwards ports", error);
    if (network->kind != NETWORK_BRIDGE)
        return !network->interface ||
               refuse(NETWORK_INTERFACE, "only a network of kind bridge has one", error);
    for (unsigned i = 0; i < G_N_ELEMENTS(switched); i++)
        if (definition_given(definition, switched[i]))
            return refuse(switched[i], "a bridge is the host's, which knows more of it", error);
    return network->interface || refuse(NETWORK_INTERFACE, "which bridge is it?", error);
}

static bool check(const struct definition *definition, GError **error)
{
    const struct network network = definition_network_of(definition);

    if (network.kind == NETWORK_NAT && !network.subnet.bits)
        return refuse(NETWORK_SUBNET, "a network of kind nat has one", error);
    return check_kind(definition, &network, error) && check_forwards(definition, &network, error);
}

const struct definition_kind definition_network = {network_options, check};

bool network_fill(struct definition *definition, const struct subnet *taken, unsigned count,
                  GError **error)
{
    const struct network network = definition_network_of(definition);
    g_autofree char *text = NULL;
    struct subnet subnet;

    if (network.kind != NETWORK_NAT || network.subnet.bits)
        return true;
    if (!subnet_choose(taken, count, &subnet, error))
        return false;
    text = subnet_format(&subnet);
    return definition_set(definition, network_options[NETWORK_SUBNET].key, text, error);
}
