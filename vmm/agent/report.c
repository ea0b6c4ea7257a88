// SPDX-License-Identifier: Apache-2.0
/*
 * The agent's answers, member by member (qga/qapi-schema.json of QEMU).
 */
#include "vmm/agent/report.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define LIST_MAX 512     /* entries of any list; more are left out */
#define WORD_MAX 256     /* bytes of a text */
#define CUT_AT   1398104 /* characters of Base64: of 1 MiB */

/* A text as it may be shown anywhere, or NULL. */
static json_t *plain_text(const json_t *value)
{
    const char *text = json_string_value(value), *at = text;
    bool good = text && *text && strlen(text) <= WORD_MAX;

    for (; good && *at; at = g_utf8_next_char(at))
        good = g_unichar_isprint(g_utf8_get_char(at));
    return good ? json_string(text) : NULL;
}

static size_t bounded_size(const json_t *list)
{
    return MIN(json_array_size(list), LIST_MAX);
}

static void add(json_t *object, const char *key, json_t *value)
{
    if (value)
        json_object_set_new(object, key, value);
}

/* ---- what it is ---- */

json_t *report_info(const json_t *answer)
{
    const json_t *offered = json_object_get(answer, "supported_commands");
    json_t *info = json_object(), *names = json_array();

    for (size_t i = 0; i < bounded_size(offered); i++) {
        const json_t *command = json_array_get(offered, i);
        json_t *name = plain_text(json_object_get(command, "name"));

        if (name && json_is_true(json_object_get(command, "enabled")))
            json_array_append(names, name);
        json_decref(name);
    }
    add(info, "agent", plain_text(json_object_get(answer, "version")));
    json_object_set_new(info, "commands", names);
    return info;
}

void report_add_os(json_t *info, const json_t *answer)
{
    static const struct {
        const char *theirs, *ours;
    } members[] = {
        {"id", "id"},
        {"name", "name"},
        {"pretty-name", "pretty_name"},
        {"version", "version"},
        {"version-id", "version_id"},
        {"kernel-release", "kernel_release"},
        {"kernel-version", "kernel_version"},
        {"machine", "machine"},
    };
    json_t *os = json_object();

    for (unsigned i = 0; i < G_N_ELEMENTS(members); i++)
        add(os, members[i].ours, plain_text(json_object_get(answer, members[i].theirs)));
    json_object_set_new(info, "os", os);
}

void report_add_hostname(json_t *info, const json_t *answer)
{
    add(info, "hostname", plain_text(json_object_get(answer, "host-name")));
}

void report_add_frozen(json_t *info, const json_t *answer)
{
    const char *status = json_string_value(answer);

    if (status)
        json_object_set_new(info, "frozen", json_boolean(strcmp(status, "frozen") == 0));
}

/* ---- where it is ---- */

/* NULL unless it is an address of its kind with a prefix that this may have. */
static json_t *report_address(const json_t *answer)
{
    const char *kind = json_string_value(json_object_get(answer, "ip-address-type"));
    const char *text = json_string_value(json_object_get(answer, "ip-address"));
    const json_t *prefix = json_object_get(answer, "prefix");
    bool six = kind && strcmp(kind, "ipv6") == 0;

    if (!text || !g_hostname_is_ip_address(text) || six != (strchr(text, ':') != NULL) ||
        !json_is_integer(prefix) || json_integer_value(prefix) < 0 ||
        json_integer_value(prefix) > (six ? 128 : 32))
        return NULL;
    json_t *shown = plain_text(json_object_get(answer, "ip-address"));
    return shown ? json_pack("{s:s, s:o, s:I}", "family", six ? "ipv6" : "ipv4", "address", shown,
                             "prefix", json_integer_value(prefix))
                 : NULL;
}

static json_t *report_mac(const json_t *value)
{
    const char *text = json_string_value(value);
    bool good = text && strlen(text) == 17;

    for (unsigned i = 0; good && i < 17; i++)
        good = i % 3 == 2 ? text[i] == ':' : g_ascii_isxdigit(text[i]);
    return good ? json_string(text) : NULL;
}

static json_t *report_interface(const json_t *answer)
{
    const json_t *theirs = json_object_get(answer, "ip-addresses");
    json_t *name = plain_text(json_object_get(answer, "name"));
    json_t *interface, *addresses;

    if (!name)
        return NULL;
    interface = json_pack("{s:o}", "name", name);
    addresses = json_array();
    add(interface, "mac", report_mac(json_object_get(answer, "hardware-address")));
    for (size_t i = 0; i < bounded_size(theirs); i++) {
        json_t *address = report_address(json_array_get(theirs, i));

        if (address)
            json_array_append_new(addresses, address);
    }
    json_object_set_new(interface, "addresses", addresses);
    return interface;
}

json_t *report_addresses(const json_t *answer)
{
    json_t *interfaces = json_array();

    for (size_t i = 0; i < bounded_size(answer); i++) {
        json_t *interface = report_interface(json_array_get(answer, i));

        if (interface)
            json_array_append_new(interfaces, interface);
    }
    return json_pack("{s:o}", "interfaces", interfaces);
}

/* ---- what a command said ---- */

static size_t base64_length(const char *text)
{
    size_t length = 0;

    while (g_ascii_isalnum(text[length]) || (text[length] && strchr("+/", text[length])))
        length++;
    while (text[length] == '=')
        length++;
    return length;
}

/* Four characters are three bytes, so it is cut between them. What is no Base64 is nothing. */
static void add_output(json_t *report, const char *key, const json_t *text, const json_t *cut)
{
    g_autofree char *cut_key = g_strconcat(key, "_cut", NULL);
    const char *characters = json_string_value(text);
    size_t length = characters ? base64_length(characters) : 0;
    bool whole = length <= CUT_AT && !json_is_true(cut);

    if (!characters || length % 4 || characters[length])
        length = 0;
    json_object_set_new(report, key, json_stringn(length ? characters : "", MIN(length, CUT_AT)));
    json_object_set_new(report, cut_key, json_boolean(!whole));
}

json_t *report_exec(const json_t *answer)
{
    static const struct {
        const char *theirs, *ours;
    } ends[] = {{"exitcode", "status"}, {"signal", "signal"}};
    json_t *report = json_object();

    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++) {
        const json_t *number = json_object_get(answer, ends[i].theirs);

        /* Windows has statuses of 32 bits. */
        if (json_is_integer(number))
            json_object_set_new(
                report, ends[i].ours,
                json_integer(CLAMP(json_integer_value(number), G_MININT32, G_MAXUINT32)));
    }
    add_output(report, "stdout", json_object_get(answer, "out-data"),
               json_object_get(answer, "out-truncated"));
    add_output(report, "stderr", json_object_get(answer, "err-data"),
               json_object_get(answer, "err-truncated"));
    return report;
}
