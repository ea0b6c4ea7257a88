// SPDX-License-Identifier: Apache-2.0
/* The Internet checksum (RFC 1071). */
#pragma once

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

/* The one's complement sum of 16-bit words as they lie there; 0xFFFF over what holds its checksum,
 * if it is right. */
uint16_t net_checksum_sum(const uint8_t *bytes, uint32_t length);

/* Complete the checksum that `header` asks for (VIRTIO_NET_HDR_F_NEEDS_CSUM: its field holds the
 * sum of the pseudo header). false, and nothing is changed, when the field is not in the frame. */
bool net_checksum_complete(const struct virtio_net_hdr_v1 *header, uint8_t *frame, uint32_t length);
