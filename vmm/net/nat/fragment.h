// SPDX-License-Identifier: Apache-2.0
/*
 * A guard before libslirp's reassembly of IPv4 (RFC 791): version 4.7 falls over a fragment that
 * comes before the first one of its packet. Only fragments in their order pass, without gap and
 * overlap; a guest's own come so, and what is dropped is sent again by who needs it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FRAGMENTED_MAX 32 /* packets of which a part has passed */

struct fragment_guard {
    struct fragmented {
        uint8_t key[11];  /* protocol, identification, both addresses */
        uint32_t next;    /* offset that is due, in bytes; 0: no packet */
        int64_t began_us; /* monotonic */
    } packets[FRAGMENTED_MAX];
};

/* Whether the Ethernet frame may pass now. */
bool fragment_passes(struct fragment_guard *guard, const uint8_t *frame, uint32_t length,
                     int64_t now_us);
