// SPDX-License-Identifier: Apache-2.0
/*
 * The sum is made of 32-bit words in 64 bits, in the host's order: a one's complement sum of 16-bit
 * words does not depend on the order of bytes, as long as it is stored in the same (RFC 1071, 2).
 */
#include "vmm/net/checksum.h"

#include <glib.h>
#include <string.h>

static uint16_t sum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)sum;
}

uint16_t net_checksum_sum(const uint8_t *bytes, uint32_t length)
{
    uint64_t sum = 0;
    uint32_t word = 0;

    for (; length >= sizeof(word); bytes += sizeof(word), length -= sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        sum += word;
    }
    word = 0;
    memcpy(&word, bytes, length);
    return sum_fold(sum + word);
}

bool net_checksum_complete(const struct virtio_net_hdr_v1 *header, uint8_t *frame, uint32_t length)
{
    uint32_t start = GUINT16_FROM_LE(header->csum_start);
    uint32_t field = start + GUINT16_FROM_LE(header->csum_offset);
    uint16_t sum;

    if (start >= length || field + sizeof(sum) > length)
        return false;
    sum = ~net_checksum_sum(frame + start, length - start);
    /* 0 would say of UDP that there is none; the other zero says the same sum (RFC 768). */
    if (!sum)
        sum = 0xFFFF;
    memcpy(frame + field, &sum, sizeof(sum));
    return true;
}
