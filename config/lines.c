// SPDX-License-Identifier: Apache-2.0
/*
 * Lines out of three options: two that say the place in a word, and ports with members.
 */
#include "config/lines.h"

#include <string.h>

/* Members of a port that say where it leads; each has exactly one. */
static const struct {
    const char *key;
    enum line_place place;
} port_places[] = {
    {"socket", LINE_SOCKET},
    {"file", LINE_FILE},
    {"pty", LINE_PTY},
};

/* Read a place as the options `serial` and `console` have it; false: nowhere. */
static bool parse_place(const char *text, struct line *line)
{
    const char *equals = strchr(text, '=');

    line->path = equals ? equals + 1 : NULL;
    if (g_str_has_prefix(text, "file="))
        line->place = LINE_FILE;
    else if (g_str_has_prefix(text, "socket="))
        line->place = LINE_SOCKET;
    else
        line->place = g_str_equal(text, "pty") ? LINE_PTY : LINE_STDIO;
    return !g_str_equal(text, "none");
}

/* Whether the member is given, and not as "no". */
static bool has_place(const struct definition *definition, unsigned index, const char *key)
{
    return definition_member_text(definition, OPTION_PORT, index, key) ||
           definition_member_number(definition, OPTION_PORT, index, key);
}

static struct line port_line(const struct definition *definition, unsigned index)
{
    struct line line = {
        .kind = LINE_PORT,
        .name = definition_member_text(definition, OPTION_PORT, index, "name"),
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(port_places); i++)
        if (has_place(definition, index, port_places[i].key)) {
            line.place = port_places[i].place;
            line.path = definition_member_text(definition, OPTION_PORT, index, port_places[i].key);
        }
    return line;
}

unsigned definition_lines(const struct definition *definition, struct line lines[LINES_MAX])
{
    static const struct {
        enum option_id id;
        enum line_kind kind;
    } words[] = {{OPTION_SERIAL, LINE_SERIAL}, {OPTION_CONSOLE, LINE_CONSOLE}};
    unsigned count = 0, ports = definition_count(definition, OPTION_PORT);

    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        lines[count] = (struct line){.kind = words[i].kind, .name = options[words[i].id].key};
        if (parse_place(definition_text(definition, words[i].id), &lines[count]))
            count++;
    }
    for (unsigned i = 0; i < MIN(ports, CONFIG_PORTS_MAX); i++)
        lines[count++] = port_line(definition, i);
    return count;
}

static bool check_port(const struct definition *definition, unsigned index, GError **error)
{
    const char *name = definition_member_text(definition, OPTION_PORT, index, "name");
    unsigned places = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(port_places); i++)
        places += has_place(definition, index, port_places[i].key);
    if (places != 1) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "port: %s: it leads %s; give one of socket=FILE, file=FILE and pty", name,
                    places ? "to more than one place" : "nowhere");
        return false;
    }
    if (definition_number(definition, OPTION_AGENT) && g_str_equal(name, CONFIG_AGENT_PORT)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "port: %s: it is the port of the option agent; leave one of the two out", name);
        return false;
    }
    for (unsigned i = 0; i < index; i++) {
        if (!g_str_equal(definition_member_text(definition, OPTION_PORT, i, "name"), name))
            continue;
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "port: %s: there are two of this name",
                    name);
        return false;
    }
    return true;
}

bool definition_check_lines(const struct definition *definition, GError **error)
{
    unsigned ports = definition_count(definition, OPTION_PORT);
    bool agent = definition_number(definition, OPTION_AGENT);

    if (g_str_equal(definition_text(definition, OPTION_SERIAL), "stdio") &&
        g_str_equal(definition_text(definition, OPTION_CONSOLE), "stdio")) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "console: the terminal (stdio) is the serial line's; put that elsewhere, "
                    "such as --serial none");
        return false;
    }
    if (ports + agent > CONFIG_PORTS_MAX) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "port: %u%s are more than the %d that a machine can have", ports,
                    agent ? " and the agent's" : "", CONFIG_PORTS_MAX);
        return false;
    }
    for (unsigned i = 0; i < ports; i++)
        if (!check_port(definition, i, error))
            return false;
    return true;
}
