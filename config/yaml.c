// SPDX-License-Identifier: Apache-2.0
/*
 * vm.yaml: one mapping of the schema's keys to scalars, lists of them, and for options with members
 * mappings of the same kind (YAML 1.1, by libyaml's event interface, so that each message can tell
 * line and column).
 *
 * Aliases are refused: they let a small file mean a large one. Types are strict where YAML knows
 * them: a quoted number is a text.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "config/limits.h"
#include "config/values.h"

struct reader {
    yaml_parser_t parser;
    yaml_event_t event;        /* the current one */
    const char *name;          /* of the file, for messages */
    const char *folder;        /* that paths are relative to */
    const struct option *into; /* the GROUP whose members are read; NULL: none */
};

static bool fail(const struct reader *reader, yaml_mark_t mark, GError **error, const char *format,
                 ...) G_GNUC_PRINTF(4, 5);

static bool fail(const struct reader *reader, yaml_mark_t mark, GError **error, const char *format,
                 ...)
{
    g_autofree char *what = NULL;
    va_list arguments;

    va_start(arguments, format);
    what = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s:%zu:%zu: %s", reader->name,
                mark.line + 1, mark.column + 1, what);
    return false;
}

static bool next(struct reader *reader, GError **error)
{
    yaml_parser_t *parser = &reader->parser;

    yaml_event_delete(&reader->event);
    if (yaml_parser_parse(parser, &reader->event))
        return true;
    memset(&reader->event, 0, sizeof(reader->event));
    return fail(reader, parser->error == YAML_READER_ERROR ? parser->mark : parser->problem_mark,
                error, "%s", parser->problem ? parser->problem : "this is not YAML");
}

static bool is_plain(const yaml_event_t *event)
{
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_null(const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;

    return is_plain(event) && (!*text || g_str_equal(text, "~") || g_str_equal(text, "null"));
}

/* What stands in the file instead of what was expected. */
static const char *got(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SEQUENCE_START_EVENT:
        return "a list";
    case YAML_MAPPING_START_EVENT:
        return "a mapping";
    case YAML_ALIAS_EVENT:
        return "an alias";
    case YAML_SCALAR_EVENT:
        return is_null(event) ? "nothing" : is_plain(event) ? "a word" : "a text";
    default:
        return "the end";
    }
}

/* What a message is about: "memory", "disk: serial". */
static char *label(const struct reader *reader, const struct option *option)
{
    return reader->into ? g_strdup_printf("%s: %s", reader->into->key, option->key)
                        : g_strdup(option->key);
}

static bool wrong_type(struct reader *reader, const struct option *option, GError **error)
{
    g_autofree char *about = label(reader, option);

    return fail(reader, reader->event.start_mark, error, "%s: expected %s, not %s", about,
                option_wants(option), got(&reader->event));
}

static bool read_scalar(struct reader *reader, struct values *values, const struct option *option,
                        GError **error)
{
    const yaml_event_t *event = &reader->event;
    g_autofree char *about = label(reader, option);
    g_autoptr(GError) cause = NULL;
    const char *text;

    if (event->type != YAML_SCALAR_EVENT || is_null(event))
        return wrong_type(reader, option, error);
    text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length)
        return fail(reader, event->start_mark, error, "%s: a zero byte in the text", about);
    /* A block ends with the end of its last line, which nobody means. */
    if (event->data.scalar.style == YAML_LITERAL_SCALAR_STYLE ||
        event->data.scalar.style == YAML_FOLDED_SCALAR_STYLE)
        g_strchomp((char *)event->data.scalar.value);
    if (!is_plain(event) && (option->type == OPTION_TYPE_INT || option->type == OPTION_TYPE_BOOL))
        return wrong_type(reader, option, error);
    if (values_set(values, option, text, reader->folder, &cause))
        return true;
    return fail(reader, event->start_mark, error, "%s: %s", about, cause->message);
}

static bool read_mapping(struct reader *reader, struct values *values, GError **error);

/* A mapping of members is one entry of a GROUP. */
static bool read_group(struct reader *reader, struct values *values, const struct option *option,
                       GError **error)
{
    g_autoptr(group_entry) entry = values_create(option->members);
    yaml_mark_t mark = reader->event.start_mark;
    g_autoptr(GError) cause = NULL;

    reader->into = option;
    if (!read_mapping(reader, entry, error))
        return false;
    reader->into = NULL;
    if (values_append(values, option, g_steal_pointer(&entry), &cause))
        return true;
    return fail(reader, mark, error, "%s: %s", option->key, cause->message);
}

static bool read_entry(struct reader *reader, struct values *values, const struct option *option,
                       GError **error)
{
    if (option->members && reader->event.type == YAML_MAPPING_START_EVENT)
        return read_group(reader, values, option, error);
    return read_scalar(reader, values, option, error);
}

static bool read_list(struct reader *reader, struct values *values, const struct option *option,
                      GError **error)
{
    for (;;) {
        if (!next(reader, error))
            return false;
        if (reader->event.type == YAML_SEQUENCE_END_EVENT)
            return true;
        if (!read_entry(reader, values, option, error))
            return false;
    }
}

static bool read_value(struct reader *reader, struct values *values, const struct option *option,
                       GError **error)
{
    if (option->list && reader->event.type == YAML_SEQUENCE_START_EVENT)
        return read_list(reader, values, option, error);
    return read_entry(reader, values, option, error);
}

/* The option that the key stands for, not seen before; NULL and an error. */
static const struct option *read_key(struct reader *reader, const struct option *table, bool *seen,
                                     GError **error)
{
    const yaml_event_t *event = &reader->event;
    const char *prefix = reader->into ? reader->into->key : "", *colon = *prefix ? ": " : "";
    const struct option *option;
    g_autoptr(GError) cause = NULL;
    const char *key;

    if (event->type != YAML_SCALAR_EVENT) {
        fail(reader, event->start_mark, error, "%s%sexpected the name of %s, not %s", prefix, colon,
             reader->into ? "a member" : "an option", got(event));
        return NULL;
    }
    key = (const char *)event->data.scalar.value;
    option = option_find_in(table, key);
    if (!option) {
        option_unknown(table, key, &cause);
        fail(reader, event->start_mark, error, "%s%s%s", prefix, colon, cause->message);
        return NULL;
    }
    if (seen[option - table]) {
        fail(reader, event->start_mark, error, "%s%s%s: stands here twice", prefix, colon, key);
        return NULL;
    }
    seen[option - table] = true;
    return option;
}

static struct value_place place_of(const yaml_event_t *event)
{
    return (struct value_place){(unsigned)event->start_mark.line + 1,
                                (unsigned)event->start_mark.column + 1};
}

/* From behind a mapping's start to its end. */
static bool read_mapping(struct reader *reader, struct values *values, GError **error)
{
    const struct option *table = values_table(values), *option;
    g_autofree bool *seen = g_new0(bool, options_count(table));

    for (;;) {
        struct value_place place;

        if (!next(reader, error))
            return false;
        if (reader->event.type == YAML_MAPPING_END_EVENT)
            return true;
        place = place_of(&reader->event);
        option = read_key(reader, table, seen, error);
        if (!option || !next(reader, error) || !read_value(reader, values, option, error))
            return false;
        values_set_place(values, option, place);
    }
}

static bool read_document(struct reader *reader, struct values *values, GError **error)
{
    if (reader->event.type != YAML_MAPPING_START_EVENT)
        return fail(reader, reader->event.start_mark, error,
                    "expected 'option: value' lines, not %s", got(&reader->event));
    return read_mapping(reader, values, error);
}

static bool read_stream(struct reader *reader, struct values *values, GError **error)
{
    /* Stream start, then either the end of an empty file or a document's start. */
    if (!next(reader, error) || !next(reader, error))
        return false;
    if (reader->event.type == YAML_STREAM_END_EVENT)
        return true;
    if (!next(reader, error) || !read_document(reader, values, error))
        return false;
    /* Document end, then stream end. */
    if (!next(reader, error) || !next(reader, error))
        return false;
    if (reader->event.type != YAML_STREAM_END_EVENT)
        return fail(reader, reader->event.start_mark, error, "a second document begins here");
    return true;
}

bool values_load_yaml(struct values *values, const char *name, const char *folder, const void *data,
                      size_t size, GError **error)
{
    struct reader reader = {.name = name, .folder = folder};
    bool good;

    if (!yaml_parser_initialize(&reader.parser)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: out of memory", name);
        return false;
    }
    yaml_parser_set_input_string(&reader.parser, data, size);
    good = read_stream(&reader, values, error);
    yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    return good;
}

GByteArray *definition_read_file(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    GByteArray *bytes;
    ssize_t count;

    if (fd < 0) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
        return NULL;
    }
    bytes = g_byte_array_new();
    g_byte_array_set_size(bytes, CONFIG_FILE_MAX + 1);
    bytes->len = 0;
    do {
        count = read(fd, bytes->data + bytes->len, CONFIG_FILE_MAX + 1 - bytes->len);
        if (count > 0)
            bytes->len += count;
    } while (bytes->len <= CONFIG_FILE_MAX && (count > 0 || (count < 0 && errno == EINTR)));
    if (count < 0)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
    else if (bytes->len > CONFIG_FILE_MAX)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    "%s: more than the %u bytes that it may have", path, CONFIG_FILE_MAX);
    close(fd);
    if (count < 0 || bytes->len > CONFIG_FILE_MAX)
        g_clear_pointer(&bytes, g_byte_array_unref);
    return bytes;
}

bool definition_load_file(struct definition *definition, const char *path, GError **error)
{
    g_autoptr(GByteArray) bytes = definition_read_file(path, error);
    g_autofree char *folder = g_path_get_dirname(path);

    if (!bytes)
        return false;
    return definition_load_yaml(definition, path, g_str_equal(folder, ".") ? NULL : folder,
                                bytes->data, bytes->len, error);
}
