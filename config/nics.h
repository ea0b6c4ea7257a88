// SPDX-License-Identifier: Apache-2.0
/*
 * The network cards of a machine, as its definition has them.
 */
#pragma once

#include "config/definition.h"
#include "config/limits.h"

enum nic_network {
    NIC_NONE,   /* a card without a cable */
    NIC_USER,   /* a network of its own, by NAT */
    NIC_TAP,    /* an interface of the host's */
    NIC_BRIDGE, /* a bridge of the host's, by an interface made for it */
    NIC_SWITCH, /* a network that machines share */
};

struct nic {
    enum nic_network network;
    const char *tap; /* the interface; lives as long as the definition's value, as the rest does */
    const char *bridge;   /* the bridge's interface */
    const char *shared;   /* the network's name */
    const char *hostname; /* told by DHCP; NULL: the machine's name */
    uint8_t mac[6];       /* all 0: not given */
    uint16_t mtu;         /* 0: not given */
    bool pulled;          /* the cable is not plugged in */
    uint64_t rate;        /* bytes a second in each direction; 0: any number */
    uint64_t burst_ms;    /* so much of its time may be saved up */
};

/* That in nanoseconds. */
static inline int64_t nic_burst_ns(const struct nic *nic)
{
    return (int64_t)nic->burst_ms * 1000000;
}

/* Card `index` of a definition that passed definition_check. */
struct nic definition_nic(const struct definition *definition, unsigned index);

/* Give each card without an address one that follows from the machine's name and the card's number,
 * so that it is the same tomorrow. The name is set. */
bool definition_fill_macs(struct definition *definition, GError **error);

/* What of the cards does not fit together; the message names the option. For definition_check. */
bool definition_check_nics(const struct definition *definition, GError **error);

/* An address as people write it, "52:54:00:12:34:56"; reading is false for another form. */
#define MAC_TEXT_SIZE 18 /* bytes, with the end */
bool mac_read(const char *text, uint8_t mac[6]);
void mac_write(const uint8_t mac[6], char text[MAC_TEXT_SIZE]);

/* Checks of members, for the table of options. */
bool nic_check_mac(const char *text, GError **error);
bool nic_check_hostname(const char *text, GError **error);
/* What can be the name of an interface. */
bool nic_check_interface(const char *text, GError **error);
bool nic_check_forward(const char *text, GError **error);
