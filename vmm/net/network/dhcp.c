// SPDX-License-Identifier: Apache-2.0
/*
 * Messages of DHCP. A field of the fixed part is taken over where the reply repeats it; of the
 * options four are read.
 */
#include "vmm/net/network/dhcp.h"

#include <string.h>

#include "vmm/net/network/packet.h"

/* The fixed part (RFC 2131, 2). */
enum {
    AT_OPERATION = 0,
    AT_HARDWARE = 1,
    AT_HARDWARE_LENGTH = 2,
    AT_HOPS = 3,
    AT_SECONDS = 8,
    AT_CLIENT = 12,
    AT_YOURS = 16,
    AT_NEXT_SERVER = 20,
    AT_MAC = 28,
    AT_COOKIE = 236,
    AT_OPTIONS = 240,
};

/* Options (RFC 2132). */
enum {
    OPTION_PAD = 0,
    OPTION_SUBNET_MASK = 1,
    OPTION_ROUTER = 3,
    OPTION_RESOLVER = 6,
    OPTION_HOSTNAME = 12,
    OPTION_DOMAIN = 15,
    OPTION_INTERFACE_MTU = 26,
    OPTION_REQUESTED = 50,
    OPTION_LEASE_TIME = 51,
    OPTION_MESSAGE_TYPE = 53,
    OPTION_SERVER = 54,
    OPTION_END = 255,
};

#define OPERATION_REQUEST 1
#define OPERATION_REPLY   2
#define ETHERNET          1
#define COOKIE            0x63825363U
#define LEASE_SECONDS     86400
#define USUAL_MTU         1500

/* ---- reading ---- */

static void take_option(struct dhcp_request *request, uint8_t code, const uint8_t *value,
                        uint8_t length)
{
    if (code == OPTION_MESSAGE_TYPE && length == 1)
        request->type = value[0];
    else if (code == OPTION_REQUESTED && length == 4)
        request->requested = packet_get32(value);
    else if (code == OPTION_SERVER && length == 4)
        request->server = packet_get32(value);
}

bool dhcp_read(const uint8_t *data, size_t length, struct dhcp_request *request)
{
    if (length < AT_OPTIONS || data[AT_OPERATION] != OPERATION_REQUEST ||
        data[AT_HARDWARE] != ETHERNET || data[AT_HARDWARE_LENGTH] != sizeof(request->mac) ||
        packet_get32(data + AT_COOKIE) != COOKIE)
        return false;
    *request = (struct dhcp_request){.client = packet_get32(data + AT_CLIENT)};
    memcpy(request->mac, data + AT_MAC, sizeof(request->mac));
    memcpy(request->head, data, sizeof(request->head));
    for (size_t at = AT_OPTIONS; at < length && data[at] != OPTION_END;) {
        if (data[at] == OPTION_PAD) {
            at++;
            continue;
        }
        if (length - at < 2 || length - at - 2 < data[at + 1])
            return false;
        take_option(request, data[at], data + at + 2, data[at + 1]);
        at += 2U + data[at + 1];
    }
    return request->type != 0;
}

/* ---- answering ---- */

struct writer {
    uint8_t *bytes;
    size_t length;
};

/* What has no room is left out; the end always has. */
static void put(struct writer *writer, uint8_t code, const void *value, size_t length)
{
    if (!length || length > UINT8_MAX || writer->length + 2 + length + 1 > DHCP_REPLY_MAX)
        return;
    writer->bytes[writer->length++] = code;
    writer->bytes[writer->length++] = (uint8_t)length;
    memcpy(writer->bytes + writer->length, value, length);
    writer->length += length;
}

static void put_number(struct writer *writer, uint8_t code, uint32_t value)
{
    uint8_t bytes[4];

    packet_put32(bytes, value);
    put(writer, code, bytes, sizeof(bytes));
}

/* Whether what the client wants is what it has here. */
static uint8_t answer_type(const struct dhcp_request *request, const struct dhcp_lease *lease)
{
    uint32_t wanted = request->requested ? request->requested : request->client;

    if (request->type == DHCP_DISCOVER)
        return DHCP_OFFER;
    if (request->type == DHCP_INFORM)
        return DHCP_ACK;
    if (request->type != DHCP_REQUEST || (request->server && request->server != lease->server))
        return 0;
    return wanted == lease->address ? DHCP_ACK : DHCP_NAK;
}

static void put_settings(struct writer *writer, const struct dhcp_lease *lease)
{
    uint8_t mtu[2];

    put_number(writer, OPTION_SUBNET_MASK, lease->mask);
    if (lease->router)
        put_number(writer, OPTION_ROUTER, lease->router);
    put_number(writer, OPTION_RESOLVER, lease->resolver);
    packet_put16(mtu, (uint16_t)lease->mtu);
    if (lease->mtu != USUAL_MTU)
        put(writer, OPTION_INTERFACE_MTU, mtu, sizeof(mtu));
    put(writer, OPTION_DOMAIN, lease->domain, strlen(lease->domain));
    put(writer, OPTION_HOSTNAME, lease->hostname, strlen(lease->hostname));
}

size_t dhcp_reply(const struct dhcp_request *request, const struct dhcp_lease *lease,
                  uint8_t reply[DHCP_REPLY_MAX])
{
    uint8_t type = answer_type(request, lease);
    struct writer writer = {reply, AT_OPTIONS};

    if (!type)
        return 0;
    memset(reply, 0, DHCP_REPLY_MAX);
    memcpy(reply, request->head, sizeof(request->head));
    reply[AT_OPERATION] = OPERATION_REPLY;
    reply[AT_HOPS] = 0;
    packet_put16(reply + AT_SECONDS, 0);
    packet_put32(reply + AT_NEXT_SERVER, 0);
    packet_put32(reply + AT_YOURS,
                 type == DHCP_NAK || request->type == DHCP_INFORM ? 0 : lease->address);
    if (type == DHCP_NAK)
        packet_put32(reply + AT_CLIENT, 0);
    packet_put32(reply + AT_COOKIE, COOKIE);
    put(&writer, OPTION_MESSAGE_TYPE, &type, sizeof(type));
    put_number(&writer, OPTION_SERVER, lease->server);
    if (type != DHCP_NAK) {
        if (request->type != DHCP_INFORM)
            put_number(&writer, OPTION_LEASE_TIME, LEASE_SECONDS);
        put_settings(&writer, lease);
    }
    reply[writer.length++] = OPTION_END;
    /* A message is as long as one of BOOTP (RFC 1542, 2.1). */
    return writer.length < 300 ? 300 : writer.length;
}
