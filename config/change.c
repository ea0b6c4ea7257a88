// SPDX-License-Identifier: Apache-2.0
/*
 * A change is made twice: to the definition that the text means, and to the text, where the lines
 * of the option are found by libyaml's marks. If the text does not mean the changed definition
 * afterwards (it was in flow style, or a second document) it is written anew as a whole.
 */
#include "config/change.h"

#include <stdbool.h>
#include <string.h>
#include <yaml.h>

#include "config/definition.h"
#include "config/devices.h"
#include "config/values.h"

enum change_kind { CHANGE_SET, CHANGE_ADD, CHANGE_REMOVE };

/* One word taken apart. */
struct change {
    enum change_kind kind;
    const struct option *option;
    const char *text; /* in the word */
};

/* Where an option stands in a text: byte offsets. */
struct span {
    bool plain;         /* the text is a mapping in block style, or empty */
    bool found, scalar; /* the key is there; its value is one word on the key's line */
    size_t first, last; /* from the key to behind the value */
    size_t value;       /* where the value begins */
};

/* ---- words ---- */

static bool no_change(const char *word, GError **error)
{
    g_autofree char *shown = text_show(word);

    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "expected OPTION=VALUE, OPTION+=ENTRY or OPTION-=ENTRY, not '%s'", shown);
    return false;
}

/* Whether this kind of change can be made to the option. */
static bool fits(const struct change *change, GError **error)
{
    const char *key = change->option->key;
    const char *what = NULL;

    if (change->option == &options[OPTION_NAME])
        what = "a kept machine has the name of its folder";
    else if (change->kind != CHANGE_SET && !change->option->list)
        what = "this is no list; give it its value by '='";
    if (what)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: %s", key, what);
    return !what;
}

static bool parse(const struct option *table, const char *word, struct change *change,
                  GError **error)
{
    const char *equals = strchr(word, '='), *end = equals;
    g_autofree char *key = NULL;

    if (!equals || equals == word)
        return no_change(word, error);
    *change = (struct change){.kind = CHANGE_SET, .text = equals + 1};
    if (end[-1] == '+')
        change->kind = CHANGE_ADD;
    else if (end[-1] == '-')
        change->kind = CHANGE_REMOVE;
    if (change->kind != CHANGE_SET)
        end--;
    key = g_strndup(word, end - word);
    change->option = option_find_in(table, key);
    if (!change->option)
        return option_unknown(table, key, error);
    return fits(change, error);
}

static bool parse_all(const struct option *table, const char *const *words, struct change *changes,
                      GError **error)
{
    for (unsigned i = 0; words[i]; i++)
        if (!parse(table, words[i], &changes[i], error))
            return false;
    return true;
}

/* ---- the definition ---- */

/* Whether an earlier change has set the same option: then this one adds to the list. */
static bool was_set(const struct change *changes, unsigned index)
{
    for (unsigned i = 0; i < index; i++)
        if (changes[i].kind == CHANGE_SET && changes[i].option == changes[index].option)
            return true;
    return false;
}

static bool may_be_absent(const struct option *option, GError **error)
{
    if (option->required)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s is missing", option->key);
    return !option->required;
}

static bool apply(struct values *values, const struct change *changes, unsigned index,
                  const char *folder, GError **error)
{
    const struct change *change = &changes[index];
    bool good;

    if (change->kind == CHANGE_SET && !(change->option->list && was_set(changes, index)))
        values_reset(values, change->option);
    if (change->kind == CHANGE_SET && !*change->text)
        return may_be_absent(change->option, error);
    if (change->kind == CHANGE_REMOVE)
        good = values_remove(values, change->option, change->text, folder, error);
    else
        good = values_set(values, change->option, change->text, folder, error);
    if (!good)
        g_prefix_error(error, "%s: ", change->option->key);
    return good;
}

static bool apply_all(struct values *values, const struct change *changes, unsigned count,
                      const char *folder, GError **error)
{
    for (unsigned i = 0; i < count; i++)
        if (!apply(values, changes, i, folder, error))
            return false;
    return true;
}

/* ---- the text ---- */

/* libyaml counts characters, a text has bytes. */
static size_t offset_of(const char *text, yaml_mark_t mark)
{
    return g_utf8_offset_to_pointer(text, mark.index) - text;
}

/* From an event of a value on, to behind the last word of it. The event is replaced. False when the
 * text is no YAML. */
static bool skip_value(yaml_parser_t *parser, yaml_event_t *event, yaml_mark_t *end)
{
    int depth = 0;

    for (;;) {
        bool opens =
            event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT;
        bool closes =
            event->type == YAML_MAPPING_END_EVENT || event->type == YAML_SEQUENCE_END_EVENT;

        /* What closes in block style has its mark at whatever comes behind it. */
        if (!closes || event->end_mark.index > event->start_mark.index)
            *end = event->end_mark;
        depth += opens - closes;
        if (!depth)
            return true;
        yaml_event_delete(event);
        if (!yaml_parser_parse(parser, event))
            return false;
    }
}

/* From behind the start of the outermost mapping. */
static void find_key(yaml_parser_t *parser, const char *text, const char *key, struct span *span)
{
    yaml_event_t event;

    while (!span->found && yaml_parser_parse(parser, &event)) {
        yaml_mark_t start = event.start_mark, value, end = event.end_mark;
        bool good = event.type == YAML_SCALAR_EVENT;
        bool wanted = good && g_str_equal((char *)event.data.scalar.value, key);

        yaml_event_delete(&event);
        if (!good || !yaml_parser_parse(parser, &event))
            return;
        value = event.start_mark;
        span->scalar = event.type == YAML_SCALAR_EVENT && event.end_mark.line == start.line &&
                       event.end_mark.index > value.index;
        if (skip_value(parser, &event, &end))
            yaml_event_delete(&event);
        else
            return;
        span->found = wanted;
        span->first = offset_of(text, start);
        span->value = offset_of(text, value);
        span->last = offset_of(text, end);
    }
}

/* Find the option `key` in the text, which was read as a definition before. */
static struct span find(const char *text, const char *key)
{
    struct span span = {0};
    yaml_parser_t parser;
    yaml_event_t event;

    if (!yaml_parser_initialize(&parser))
        return span;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, strlen(text));
    for (unsigned i = 0; i < 3 && yaml_parser_parse(&parser, &event); i++) {
        span.plain = event.type == YAML_STREAM_END_EVENT ||
                     (event.type == YAML_MAPPING_START_EVENT &&
                      event.data.mapping_start.style == YAML_BLOCK_MAPPING_STYLE &&
                      event.start_mark.column == 0);
        yaml_event_delete(&event);
        if (span.plain)
            break;
    }
    if (span.plain)
        find_key(&parser, text, key, &span);
    yaml_parser_delete(&parser);
    return span;
}

/* Take out the lines from the key's to the value's last. */
static void cut_lines(GString *text, const struct span *span)
{
    /* A literal block ends at the beginning of the line behind it. */
    size_t last =
        span->last > span->first && text->str[span->last - 1] == '\n' ? span->last - 1 : span->last;
    const char *end = strchr(text->str + last, '\n');

    g_string_erase(text, span->first, end ? end + 1 - text->str - span->first : -1);
}

/* Give the option in the text the value that it has in the definition. False: it cannot be done. */
static bool edit(GString *text, const struct definition *definition, const struct option *option)
{
    struct span span = find(text->str, option->key);
    g_autofree char *lines = NULL;
    size_t at = text->len;

    if (definition_given(definition, option - definition_options(definition)))
        lines = definition_option_to_yaml(definition, option);
    if (!span.plain)
        return false;
    if (span.found && span.scalar && lines && !option->list) {
        g_string_erase(text, span.value, span.last - span.value);
        g_strchomp(lines);
        g_string_insert(text, span.value, lines + strlen(option->key) + strlen(": "));
        return true;
    }
    if (span.found) {
        cut_lines(text, &span);
        at = span.first;
    } else if (text->len && text->str[text->len - 1] != '\n') {
        g_string_append_c(text, '\n');
        at = text->len;
    }
    if (lines)
        g_string_insert(text, at, lines);
    return true;
}

/* Whether the text means the definition. */
static bool means(const char *text, const struct definition *definition)
{
    struct definition *read = definition_create_kind(definition_kind(definition));
    json_t *wanted = definition_to_json(definition), *got = NULL;
    bool same = definition_load_yaml(read, "", NULL, text, strlen(text), NULL);

    if (same) {
        got = definition_to_json(read);
        same = json_equal(wanted, got);
    }
    json_decref(wanted);
    json_decref(got);
    definition_destroy(read);
    return same;
}

/* The text with these options changed in place; NULL when that does not do. */
static char *edit_in_place(const char *text, const struct definition *definition,
                           const struct change *changes, unsigned count)
{
    GString *changed = g_string_new(text);
    bool good = g_utf8_validate(text, -1, NULL) && !g_str_has_prefix(text, "\xef\xbb\xbf");

    for (unsigned i = 0; good && i < count; i++)
        good = edit(changed, definition, changes[i].option);
    return g_string_free(changed, !good || !means(changed->str, definition));
}

/* The text of a definition whose options in `changes` differ from those in `text`. */
static char *rewrite(const char *text, const struct definition *definition,
                     const struct change *changes, unsigned count)
{
    char *changed = edit_in_place(text, definition, changes, count);

    return changed ? changed : definition_to_yaml(definition, false);
}

char *change_yaml(const struct definition_kind *kind, const char *name, const char *text,
                  const char *const *words, const char *folder, GError **error)
{
    unsigned count = g_strv_length((char **)words);
    g_autofree struct change *changes = g_new0(struct change, count + 1);
    struct definition *definition = definition_create_kind(kind);
    char *changed = NULL;

    if (parse_all(kind->options, words, changes, error) &&
        definition_load_yaml(definition, name, NULL, text, strlen(text), error) &&
        apply_all(definition_values(definition), changes, count, folder, error) &&
        definition_check(definition, error))
        changed = rewrite(text, definition, changes, count);
    definition_destroy(definition);
    return changed;
}

/* ---- a device ---- */

/* Where the device called `id` stands; one may have its id by default. */
static bool find_device(const struct definition *definition, const char *id,
                        struct device_place *place, GError **error)
{
    struct definition *filled = definition_create();
    json_t *object = definition_to_json(definition);
    g_autofree char *shown = text_show(id);
    bool found = definition_from_json(filled, object, NULL) &&
                 definition_fill_devices(filled, NULL) && definition_find_device(filled, id, place);

    json_decref(object);
    definition_destroy(filled);
    if (!found)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_ABSENT,
                    "%s: the definition has no such disk or network card", shown);
    return found;
}

/* Change the device's entry; `*touched` is what then differs. */
static bool change_device(struct definition *definition, const char *id, const char *const *words,
                          const char *folder, struct change *touched, GError **error)
{
    unsigned count = g_strv_length((char **)words);
    g_autofree struct change *changes = g_new0(struct change, count + 1);
    struct values *entry;
    struct device_place place;

    if (!find_device(definition, id, &place, error))
        return false;
    touched->option = &options[place.kind];
    entry = values_group_edit(definition_values(definition), touched->option, place.index);
    if (parse_all(touched->option->members, words, changes, error) &&
        apply_all(entry, changes, count, folder, error))
        return true;
    g_prefix_error(error, "%s: ", id);
    return false;
}

char *change_yaml_device(const char *name, const char *text, const char *id,
                         const char *const *words, const char *folder, GError **error)
{
    struct definition *definition = definition_create();
    struct change touched = {0};
    char *changed = NULL;

    if (definition_load_yaml(definition, name, NULL, text, strlen(text), error) &&
        change_device(definition, id, words, folder, &touched, error) &&
        definition_check(definition, error))
        changed = rewrite(text, definition, &touched, 1);
    definition_destroy(definition);
    return changed;
}

/* Whether the last entry has all that was chosen for it. */
static bool complete(struct definition *definition, enum option_id kind, const json_t *chosen,
                     GError **error)
{
    unsigned index = definition_count(definition, kind) - 1;

    for (const struct option *member = options[kind].members; member->key; member++) {
        const char *text = json_string_value(json_object_get(chosen, member->key));

        if (text && !definition_member_has(definition, kind, index, member->key) &&
            !definition_member_set(definition, kind, index, member->key, text, error))
            return false;
    }
    return true;
}

char *change_yaml_attach(const char *name, const char *text, enum option_id kind, const char *entry,
                         const json_t *chosen, const char *folder, GError **error)
{
    struct definition *definition = definition_create();
    const struct change touched = {.option = &options[kind]};
    char *changed = NULL;

    if (definition_load_yaml(definition, name, NULL, text, strlen(text), error) &&
        definition_set_in(definition, options[kind].key, entry, folder, error) &&
        complete(definition, kind, chosen, error) && definition_check(definition, error))
        changed = rewrite(text, definition, &touched, 1);
    definition_destroy(definition);
    return changed;
}

char *change_yaml_detach(const char *name, const char *text, const char *id, GError **error)
{
    struct definition *definition = definition_create();
    struct device_place place;
    char *changed = NULL;

    if (definition_load_yaml(definition, name, NULL, text, strlen(text), error) &&
        find_device(definition, id, &place, error) &&
        definition_fill_ids(definition, place.kind, error)) {
        const struct change touched = {.option = &options[place.kind]};

        definition_drop(definition, place.kind, place.index);
        if (definition_check(definition, error))
            changed = rewrite(text, definition, &touched, 1);
    }
    definition_destroy(definition);
    return changed;
}

/* ---- as JSON ---- */

/* The value of one word: null, or what JSON has for it. A list has an entry. */
static json_t *value_to_json(const struct option *table, const struct change *change,
                             const char *folder, GError **error)
{
    struct values *values = values_create(table);
    json_t *object = NULL, *value = NULL;

    if (!*change->text) {
        value = json_null();
    } else if (values_set(values, change->option, change->text, folder, error)) {
        object = values_to_json(values);
        value = json_incref(json_object_get(object, change->option->key));
    } else {
        g_prefix_error(error, "%s: ", change->option->key);
    }
    json_decref(object);
    values_destroy(values);
    return value;
}

/* Put the value under the option's key; one more of a list is appended. */
static void put(json_t *object, const struct change *change, json_t *value)
{
    json_t *before = json_object_get(object, change->option->key);

    if (json_is_array(before) && json_is_array(value)) {
        json_array_extend(before, value);
        json_decref(value);
    } else {
        json_object_set_new(object, change->option->key, value);
    }
}

bool change_kept(const struct store *store, const struct definition_kind *kind, const char *name,
                 const char *const *words, const char *folder, GError **error)
{
    g_autofree char *before = store_read(store, name, error), *after = NULL, *path = NULL;

    if (!before)
        return false;
    path = store_path(store, name);
    after = change_yaml(kind, path, before, words, folder, error);
    return after &&
           (g_str_equal(before, after) || store_replace(store, name, before, after, error));
}

json_t *change_to_json(const struct option *table, const char *const *words, const char *folder,
                       GError **error)
{
    static const char *const names[] = {"options", "add", "remove"};
    json_t *params = json_object();

    for (unsigned i = 0; words[i]; i++) {
        struct change change;
        json_t *value = NULL;

        if (parse(table, words[i], &change, error))
            value = value_to_json(table, &change, folder, error);
        if (!value) {
            json_decref(params);
            return NULL;
        }
        if (!json_object_get(params, names[change.kind]))
            json_object_set_new(params, names[change.kind], json_object());
        put(json_object_get(params, names[change.kind]), &change, value);
    }
    return params;
}
