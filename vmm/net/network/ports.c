// SPDX-License-Identifier: Apache-2.0
/*
 * A hash table of chains over one array. The hash is keyed by nothing: a port's own addresses are
 * few, so that a guest cannot make a chain long.
 */
#include "vmm/net/network/ports.h"

#include <string.h>

#define MASK (ADDRESSES_MAX - 1)

_Static_assert(!(ADDRESSES_MAX & MASK), "a mask finds the chain");

static unsigned chain_of(const uint8_t mac[6])
{
    uint32_t low, high = 0;

    memcpy(&low, mac, sizeof(low));
    memcpy(&high, mac + sizeof(low), 2);
    return ((low * 2654435761U) ^ (high * 2246822519U)) >> 16 & MASK;
}

void ports_init(struct port_table *table)
{
    memset(table, 0, sizeof(*table));
    for (unsigned i = 0; i + 1 < ADDRESSES_MAX; i++)
        table->list[i].next = (uint16_t)(i + 2);
    table->free = 1;
}

static struct port_address *find(struct port_table *table, const uint8_t mac[6])
{
    for (uint16_t at = table->chains[chain_of(mac)]; at; at = table->list[at - 1].next)
        if (memcmp(table->list[at - 1].mac, mac, 6) == 0)
            return &table->list[at - 1];
    return NULL;
}

static struct port_address *insert(struct port_table *table, const uint8_t mac[6])
{
    uint16_t *chain = &table->chains[chain_of(mac)], at = table->free;
    struct port_address *entry = at ? &table->list[at - 1] : NULL;

    if (!entry)
        return NULL;
    table->free = entry->next;
    *entry = (struct port_address){.used = true, .next = *chain};
    memcpy(entry->mac, mac, sizeof(entry->mac));
    *chain = at;
    return entry;
}

static void drop(struct port_table *table, struct port_address *entry)
{
    uint16_t number = (uint16_t)(entry - table->list + 1);
    uint16_t *link = &table->chains[chain_of(entry->mac)];

    while (*link != number)
        link = &table->list[*link - 1].next;
    *link = entry->next;
    if (!entry->fixed)
        table->learnt[entry->port]--;
    *entry = (struct port_address){.next = table->free};
    table->free = number;
}

bool ports_add(struct port_table *table, const uint8_t mac[6], unsigned port)
{
    struct port_address *entry = find(table, mac);

    if (entry && entry->fixed)
        return entry->port == port;
    if (entry)
        drop(table, entry);
    entry = insert(table, mac);
    if (!entry)
        return false;
    entry->fixed = true;
    entry->port = (uint16_t)port;
    return true;
}

void ports_remove(struct port_table *table, unsigned port)
{
    for (unsigned i = 0; i < ADDRESSES_MAX; i++)
        if (table->list[i].used && table->list[i].port == port)
            drop(table, &table->list[i]);
}

static bool is_over(const struct port_address *entry, int64_t now_ms)
{
    return !entry->fixed && now_ms - entry->heard_ms >= ADDRESS_LIVES_MS;
}

/* Let go of addresses that were silent for too long. Not for each frame of a flood. */
static void drop_old(struct port_table *table, int64_t now_ms)
{
    if (now_ms - table->swept_ms < ADDRESS_STAYS_MS)
        return;
    table->swept_ms = now_ms;
    for (unsigned i = 0; i < ADDRESSES_MAX; i++)
        if (table->list[i].used && is_over(&table->list[i], now_ms))
            drop(table, &table->list[i]);
}

bool ports_learn(struct port_table *table, const uint8_t mac[6], unsigned port, int64_t now_ms)
{
    struct port_address *entry = find(table, mac);

    if (entry && entry->port == port) {
        entry->heard_ms = now_ms;
        return true;
    }
    if (entry && (entry->fixed || now_ms - entry->heard_ms < ADDRESS_STAYS_MS))
        return false;
    if (entry)
        drop(table, entry);
    if (table->learnt[port] >= PORT_LEARNT_MAX)
        drop_old(table, now_ms);
    /* One that is not learnt is reached by what goes to all. */
    if (table->learnt[port] >= PORT_LEARNT_MAX || !(entry = insert(table, mac)))
        return true;
    entry->port = (uint16_t)port;
    entry->heard_ms = now_ms;
    table->learnt[port]++;
    return true;
}

int ports_find(const struct port_table *table, const uint8_t mac[6], int64_t now_ms)
{
    const struct port_address *entry = find((struct port_table *)table, mac);

    return entry && !is_over(entry, now_ms) ? entry->port : -1;
}
