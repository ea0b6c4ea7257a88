// SPDX-License-Identifier: Apache-2.0
/*
 * Where on a switch an Ethernet address is (IEEE 802.1D, 7.8).
 *
 * The address of each card that is plugged in stands in the table for as long as it is. Others are
 * learnt from what they send, where the network lets cards send from addresses of others: they are
 * forgotten after five minutes, a port has a limited number of them, none can be that of a card,
 * and one moves to another port only when it was silent for a while. So neither a flood of
 * addresses nor a thief takes the frames of others.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PORTS_MAX        256
#define PORT_LEARNT_MAX  64   /* addresses that are learnt of one port */
#define ADDRESSES_MAX    4096 /* in the table */
#define ADDRESS_LIVES_MS 300000
#define ADDRESS_STAYS_MS 1000 /* at least, at the port where it was heard last */

struct port_table {
    struct port_address {
        uint8_t mac[6];
        uint16_t port;
        bool used, fixed; /* a card's own */
        int64_t heard_ms;
        uint16_t next; /* of the chain, and 1; 0: none */
    } list[ADDRESSES_MAX];
    uint16_t chains[ADDRESSES_MAX]; /* first entries, and 1 */
    uint16_t free;                  /* first free entry, and 1 */
    uint16_t learnt[PORTS_MAX];     /* how many, of each port */
    int64_t swept_ms;               /* when old ones were looked for */
};

void ports_init(struct port_table *table);

/* A card is plugged in. False when its address is at another port, as a card's own, or there is no
 * room. */
bool ports_add(struct port_table *table, const uint8_t mac[6], unsigned port);
/* Forget all that is at the port. */
void ports_remove(struct port_table *table, unsigned port);

/* Note that a frame of `mac` came from the port, at `now_ms`. False when it may not: the address is
 * elsewhere. */
bool ports_learn(struct port_table *table, const uint8_t mac[6], unsigned port, int64_t now_ms);

/* The port where `mac` is; -1: that is not known. */
int ports_find(const struct port_table *table, const uint8_t mac[6], int64_t now_ms);
