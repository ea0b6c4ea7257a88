// SPDX-License-Identifier: Apache-2.0
/*
 * One question a message, as everybody sends them (RFC 9619). Its name is read into text, label by
 * label; what is compressed, or holds other characters than names of hosts do, is none of ours.
 */
#include "vmm/net/network/dns.h"

#include <arpa/inet.h>
#include <glib.h>
#include <string.h>

#include "vmm/net/network/packet.h"

#define HEADER        12
#define LABEL_MAX     63
#define NAME_MAX_TEXT 255
#define CLASS_IN      1
#define TYPE_A        1
#define TYPE_PTR      12
#define TYPE_ANY      255
#define TTL_SECONDS   60
#define POINTER       0xC000 /* of a compressed name */
#define REVERSE       ".in-addr.arpa"

enum { AT_FLAGS = 2, AT_QUESTIONS = 4, AT_ANSWERS = 6, AT_AUTHORITIES = 8, AT_ADDITIONAL = 10 };

enum {
    FLAG_RESPONSE = 0x8000,
    FLAG_OPERATION = 0x7800,
    FLAG_AUTHORITATIVE = 0x0400,
    FLAG_RECURSION_WANTED = 0x0100,
    FLAG_RECURSION = 0x0080,
};

enum { CODE_GOOD = 0, CODE_NO_NAME = 3, CODE_REFUSED = 5 };

struct question {
    char name[NAME_MAX_TEXT + 1]; /* "web.internal"; "": the root */
    uint16_t type;
    size_t end; /* of it in the message */
};

/* ---- reading ---- */

/* The name at `*at`, which moves behind it. */
static bool read_name(const uint8_t *data, size_t length, size_t *at, char name[NAME_MAX_TEXT + 1])
{
    size_t used = 0;

    for (;;) {
        uint8_t label;

        if (*at >= length)
            return false;
        label = data[(*at)++];
        if (!label)
            break;
        if (label > LABEL_MAX || label > length - *at || used + label + 1 > NAME_MAX_TEXT)
            return false;
        if (used)
            name[used++] = '.';
        for (unsigned i = 0; i < label; i++) {
            uint8_t byte = data[(*at)++];

            /* A zero byte or a dot in a label would be another name. */
            name[used++] = g_ascii_isgraph(byte) && byte != '.' ? (char)byte : '?';
        }
    }
    name[used] = 0;
    return true;
}

static bool read_question(const uint8_t *data, size_t length, struct question *question)
{
    size_t at = HEADER;

    if (length < HEADER || packet_get16(data + AT_FLAGS) & (FLAG_RESPONSE | FLAG_OPERATION) ||
        packet_get16(data + AT_QUESTIONS) != 1 || !read_name(data, length, &at, question->name) ||
        length - at < 4)
        return false;
    question->type = packet_get16(data + at);
    question->end = at + 4;
    return packet_get16(data + at + 2) == CLASS_IN;
}

/* ---- looking ---- */

/* The length of the name before ".SUFFIX"; -1: it does not end so. */
static int before(const char *name, const char *suffix)
{
    size_t length = strlen(name), tail = strlen(suffix);

    if (length <= tail + 1 || name[length - tail - 1] != '.' ||
        g_ascii_strcasecmp(name + length - tail, suffix) != 0)
        return -1;
    return (int)(length - tail - 1);
}

/* Whether the name is of an address in the subnet; *address is that. */
static bool is_reverse(const struct dns_zone *zone, const char *name, uint32_t *address)
{
    int length = before(name, &REVERSE[1]);
    g_autofree char *text = NULL;
    struct in_addr parsed;

    if (length < 0)
        return false;
    text = g_strndup(name, (size_t)length);
    if (inet_pton(AF_INET, text, &parsed) != 1)
        return false;
    *address = GUINT32_FROM_LE(parsed.s_addr); /* its bytes stand the other way round */
    return subnet_has(&zone->leases->subnet, *address);
}

/* ---- answering ---- */

struct answer {
    uint8_t *bytes;
    size_t length;
    unsigned records, code;
};

static void begin_record(struct answer *answer, uint16_t type, uint16_t length)
{
    uint8_t *at = answer->bytes + answer->length;

    packet_put16(at, POINTER | HEADER);
    packet_put16(at + 2, type);
    packet_put16(at + 4, CLASS_IN);
    packet_put32(at + 6, TTL_SECONDS);
    packet_put16(at + 10, length);
    answer->length += 12;
    answer->records++;
}

static void add_address(struct answer *answer, uint32_t address)
{
    begin_record(answer, TYPE_A, 4);
    packet_put32(answer->bytes + answer->length, address);
    answer->length += 4;
}

/* "NAME.DOMAIN", which is no longer than its parts may be. */
static void add_name(struct answer *answer, const char *name, const char *domain)
{
    g_autofree char *whole = g_strdup_printf("%s.%s", name, domain);
    g_auto(GStrv) labels = g_strsplit(whole, ".", -1);
    size_t length = strlen(whole) + 2; /* a byte before each label, and the end */

    for (char **label = labels; *label; label++)
        if (!**label || strlen(*label) > LABEL_MAX)
            return;
    if (answer->length + 12 + length > DNS_REPLY_MAX)
        return;
    begin_record(answer, TYPE_PTR, (uint16_t)length);
    for (char **label = labels; *label; label++) {
        answer->bytes[answer->length++] = (uint8_t)strlen(*label);
        memcpy(answer->bytes + answer->length, *label, strlen(*label));
        answer->length += strlen(*label);
    }
    answer->bytes[answer->length++] = 0;
}

static bool answer_reverse(const struct dns_zone *zone, const struct question *question,
                           struct answer *answer)
{
    uint32_t address;
    int index;

    if (!is_reverse(zone, question->name, &address))
        return false;
    index = leases_at(zone->leases, address);
    if (index < 0 || !*zone->leases->list[index].name)
        answer->code = CODE_NO_NAME;
    else if (question->type == TYPE_PTR || question->type == TYPE_ANY)
        add_name(answer, zone->leases->list[index].name, zone->domain);
    return true;
}

/* A name without the domain that no machine has may be another's. */
static bool answer_forward(const struct dns_zone *zone, const struct question *question,
                           struct answer *answer)
{
    int inside = before(question->name, zone->domain);
    size_t length = inside >= 0 ? (size_t)inside : strlen(question->name);
    int index = leases_find(zone->leases, question->name, length);

    if (index < 0 && inside < 0 && g_ascii_strcasecmp(question->name, zone->domain) != 0)
        return false;
    if (index < 0)
        answer->code = inside < 0 ? CODE_GOOD : CODE_NO_NAME;
    else if (question->type == TYPE_A || question->type == TYPE_ANY)
        add_address(answer, lease_address(zone->leases, (unsigned)index));
    return true;
}

enum dns_verdict dns_reply(const struct dns_zone *zone, const uint8_t *data, size_t length,
                           uint8_t reply[DNS_REPLY_MAX], size_t *reply_length)
{
    struct question question;
    struct answer answer = {.bytes = reply};
    uint16_t flags;

    if (!read_question(data, length, &question))
        return zone->alone ? DNS_IGNORED : DNS_ELSEWHERE;
    memcpy(reply, data, question.end);
    answer.length = question.end;
    if (!answer_reverse(zone, &question, &answer) && !answer_forward(zone, &question, &answer)) {
        if (!zone->alone)
            return DNS_ELSEWHERE;
        answer.code = CODE_REFUSED;
    }
    flags = FLAG_RESPONSE | FLAG_AUTHORITATIVE | FLAG_RECURSION |
            (packet_get16(data + AT_FLAGS) & FLAG_RECURSION_WANTED) | (uint16_t)answer.code;
    packet_put16(reply + AT_FLAGS, flags);
    packet_put16(reply + AT_ANSWERS, (uint16_t)answer.records);
    packet_put16(reply + AT_AUTHORITIES, 0);
    packet_put16(reply + AT_ADDITIONAL, 0);
    *reply_length = answer.length;
    return DNS_ANSWERED;
}
