// SPDX-License-Identifier: Apache-2.0
/*
 * What a machine on a network with addresses of its own may not send, since others would believe
 * it: answers of DHCP and of IPv6's routers, that it is the gateway, the resolver, or whoever else
 * has a lease. What goes beyond Ethernet in other ways is its own business.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/leases.h"

/* Whether the frame of `length` (at least NET_HEADER_MIN) bytes may pass, from the card `mac`. */
bool guard_passes(const struct leases *leases, const uint8_t mac[6], const uint8_t *frame,
                  size_t length);
