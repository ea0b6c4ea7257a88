// SPDX-License-Identifier: Apache-2.0
/*
 * One entry a packet of which the first fragment has passed and the last has not. libslirp gives up
 * a packet after 30 seconds; between, and well after that, its number is not used again.
 *
 * What libslirp would drop must not pass, or it would not have seen what we take for passed: a
 * header that is damaged or too short, or without a hop left. And a packet with the reserved flag
 * counts as a fragment there.
 */
#include "vmm/net/nat/fragment.h"

#include <glib.h>
#include <string.h>

#include "vmm/net/checksum.h"
#include "vmm/net/link.h"

#define GIVES_UP_AFTER_US (20 * G_USEC_PER_SEC) /* before libslirp does */
#define FORGOTTEN_BY_US   (40 * G_USEC_PER_SEC) /* surely by libslirp too */
#define IP_HEADER         20
#define RESERVED_FLAG     0x8000
#define MORE_FRAGMENTS    0x2000
#define OFFSET_MASK       0x1FFF
#define PACKET_MAX        65535

struct fragment {
    uint8_t key[11];
    uint32_t offset, length;
    bool last;
};

static uint16_t get16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/* Whether libslirp takes a packet with such a header of `header` bytes, of `total` in all. */
static bool header_is_sound(const uint8_t *ip, uint32_t header, uint32_t total, uint32_t room)
{
    return header >= IP_HEADER && total > header && total <= room && ip[8] != 0 &&
           net_checksum_sum(ip, header) == 0xFFFF;
}

/* false for what is no fragment of an IPv4 packet. */
static bool fragment_read(const uint8_t *frame, uint32_t length, struct fragment *fragment)
{
    const uint8_t *ip = frame + NET_HEADER_MIN;

    if (length < NET_HEADER_MIN + IP_HEADER || get16(frame + 12) != 0x0800 || ip[0] >> 4 != 4)
        return false;
    uint16_t place = get16(ip + 6);
    uint32_t header = (ip[0] & 15) * 4U, total = get16(ip + 2);
    if (!(place & (RESERVED_FLAG | MORE_FRAGMENTS | OFFSET_MASK)))
        return false;
    fragment->key[0] = ip[9];
    memcpy(fragment->key + 1, ip + 4, 2);
    memcpy(fragment->key + 3, ip + 12, 8);
    fragment->offset = (place & OFFSET_MASK) * 8U;
    /* A length of 0 never passes. */
    fragment->length =
        header_is_sound(ip, header, total, length - NET_HEADER_MIN) ? total - header : 0;
    fragment->last = !(place & MORE_FRAGMENTS);
    return true;
}

/* The entry of the packet; else one that is free, or NULL. */
static struct fragmented *entry_find(struct fragment_guard *guard, const uint8_t *key,
                                     int64_t now_us)
{
    struct fragmented *vacant = NULL;

    for (unsigned i = 0; i < FRAGMENTED_MAX; i++) {
        struct fragmented *entry = &guard->packets[i];

        if (entry->next && now_us - entry->began_us > FORGOTTEN_BY_US)
            entry->next = 0;
        if (!entry->next)
            vacant = entry;
        else if (memcmp(entry->key, key, sizeof(entry->key)) == 0)
            return entry;
    }
    return vacant;
}

bool fragment_passes(struct fragment_guard *guard, const uint8_t *frame, uint32_t length,
                     int64_t now_us)
{
    struct fragment fragment;

    if (!fragment_read(frame, length, &fragment))
        return true;
    struct fragmented *entry = entry_find(guard, fragment.key, now_us);
    if (!entry || fragment.offset != entry->next || !fragment.length ||
        fragment.offset + fragment.length > PACKET_MAX - IP_HEADER ||
        (!fragment.last && fragment.length % 8))
        return false;
    if (!entry->next) {
        memcpy(entry->key, fragment.key, sizeof(entry->key));
        entry->began_us = now_us;
    } else if (now_us - entry->began_us > GIVES_UP_AFTER_US) {
        return false;
    }
    entry->next = fragment.last ? 0 : fragment.offset + fragment.length;
    return true;
}
