// SPDX-License-Identifier: Apache-2.0
/*
 * Slots beside a table of options.
 *
 * The text of a GROUP's entry is pieces with commas between them, as QEMU's users know it: "FILE,
 * readonly,serial=S". Two commas stand for one that belongs to a value. The first piece is the
 * first member's value unless it begins with the key of a member and '='.
 */
#include "config/values.h"

#include <string.h>

#include "config/limits.h"

struct slot {
    bool given;      /* not only preset */
    uint64_t number; /* BOOL, INT, SIZE */
    char *text;      /* scalar of the other types */
    GPtrArray *list; /* for lists: of char *; of struct values * for a GROUP */
    struct value_place place;
};

struct values {
    const struct option *table;
    struct slot slots[];
};

static void destroy_entry(void *entry)
{
    values_destroy(entry);
}

static void slot_init(struct slot *slot, const struct option *option)
{
    struct option_value preset = {0};

    if (option->list)
        slot->list = g_ptr_array_new_with_free_func(option->members ? destroy_entry : g_free);
    if (option->preset && option_parse(option, option->preset, &preset, NULL)) {
        slot->number = preset.number;
        slot->text = preset.text;
    }
}

static void slot_finish(struct slot *slot)
{
    g_free(slot->text);
    if (slot->list)
        g_ptr_array_unref(slot->list);
    *slot = (struct slot){0};
}

struct values *values_create(const struct option *table)
{
    struct values *values =
        g_malloc0(sizeof(*values) + options_count(table) * sizeof(values->slots[0]));

    values->table = table;
    for (unsigned i = 0; table[i].key; i++)
        slot_init(&values->slots[i], &table[i]);
    return values;
}

void values_destroy(struct values *values)
{
    if (!values)
        return;
    for (unsigned i = 0; values->table[i].key; i++)
        slot_finish(&values->slots[i]);
    g_free(values);
}

const struct option *values_table(const struct values *values)
{
    return values->table;
}

static struct slot *slot_of(struct values *values, const struct option *option)
{
    return &values->slots[option - values->table];
}

static const struct slot *slot_at(const struct values *values, const struct option *option)
{
    return &values->slots[option - values->table];
}

/* ---- from text ---- */

/* Where in the text a path begins: a path itself, the first word of a module, or what follows a
 * choice. NULL: it has none. */
static const char *find_path(const struct option *option, const char *text)
{
    const char *equals = option->choice_is_path ? strchr(text, '=') : NULL;

    if (option->type == OPTION_TYPE_PATH || option == &options[OPTION_MODULE])
        return text;
    return equals ? equals + 1 : NULL;
}

/* The value's path made relative to `folder`. */
static char *place_in_folder(const struct option *option, char *text, const char *folder)
{
    const char *path = find_path(option, text);
    g_autofree char *placed = NULL;
    char *whole;

    if (!path || !folder || g_path_is_absolute(path))
        return text;
    placed = g_build_filename(folder, path, NULL);
    whole = g_strdup_printf("%.*s%s", (int)(path - text), text, placed);
    g_free(text);
    return whole;
}

/* Whether one more entry fits. */
static bool has_room(const struct slot *slot, GError **error)
{
    if (slot->list->len < CONFIG_LIST_MAX)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "more than %d entries", CONFIG_LIST_MAX);
    return false;
}

static bool append_texts(struct slot *slot, const struct option *option, const char *text,
                         const char *folder, GError **error)
{
    const char separators[2] = {option->separator, 0};
    g_auto(GStrv) entries =
        *separators ? g_strsplit(text, separators, -1) : g_strdupv((char *[]){(char *)text, NULL});

    for (char **entry = entries; *entry; entry++) {
        struct option_value value;

        if (!has_room(slot, error) || !option_parse(option, *entry, &value, error))
            return false;
        g_ptr_array_add(slot->list, place_in_folder(option, value.text, folder));
    }
    /* An empty text adds nothing to a list that is split. */
    slot->given = slot->list->len;
    return true;
}

static bool set_scalar(struct slot *slot, const struct option *option, const char *text,
                       const char *folder, GError **error)
{
    struct option_value value;

    if (!option_parse(option, text, &value, error))
        return false;
    g_free(slot->text);
    slot->number = value.number;
    slot->text = value.text ? place_in_folder(option, value.text, folder) : NULL;
    slot->given = true;
    return true;
}

/* The piece of `*text` up to a comma that stands alone; `*text` moves behind that, or to NULL at
 * the end. */
static char *take_piece(const char **text)
{
    GString *piece = g_string_new(NULL);
    const char *at = *text;

    for (; *at && (*at != ',' || at[1] == ','); at++) {
        g_string_append_c(piece, *at);
        if (*at == ',')
            at++;
    }
    *text = *at ? at + 1 : NULL;
    return g_string_free(piece, FALSE);
}

static bool missing(const char *key, const char *what, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s%s is missing", key, what);
    return false;
}

/* One piece of an entry: a member, or the value of the first one. */
static bool set_piece(struct values *entry, char *piece, bool first, const char *folder,
                      GError **error)
{
    char *equals = strchr(piece, '=');
    g_autofree char *key = equals ? g_strndup(piece, equals - piece) : g_strdup(piece);
    const struct option *member = option_find_in(entry->table, key);
    const char *value;

    if (first && !(member && equals)) {
        member = entry->table;
        value = piece;
    } else if (!member) {
        return option_unknown(entry->table, key, error);
    } else if (equals) {
        value = equals + 1;
    } else if (member->type == OPTION_TYPE_BOOL) {
        value = "yes";
    } else {
        return missing(key, ": a value", error);
    }
    if (slot_at(entry, member)->given && !member->list) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: stands here twice", member->key);
        return false;
    }
    if (values_set(entry, member, value, folder, error))
        return true;
    g_prefix_error(error, "%s: ", member->key);
    return false;
}

static bool append_group(struct values *values, const struct option *option, const char *text,
                         const char *folder, GError **error)
{
    g_autoptr(group_entry) entry = values_create(option->members);

    for (bool first = true; text; first = false) {
        g_autofree char *piece = take_piece(&text);

        if (!set_piece(entry, piece, first, folder, error))
            return false;
    }
    return values_append(values, option, g_steal_pointer(&entry), error);
}

void values_drop(struct values *values, const struct option *option, unsigned index)
{
    struct slot *slot = slot_of(values, option);

    if (index >= values_count(values, option))
        return;
    g_ptr_array_remove_index(slot->list, index);
    slot->given = slot->list->len;
}

bool values_append(struct values *values, const struct option *option, struct values *entry,
                   GError **error)
{
    struct slot *slot = slot_of(values, option);
    g_autoptr(group_entry) owned = entry;

    if (!has_room(slot, error))
        return false;
    for (const struct option *member = option->members; member->key; member++)
        if (member->required && !values_has(entry, member))
            return missing(member->key, "", error);
    g_ptr_array_add(slot->list, g_steal_pointer(&owned));
    slot->given = true;
    slot->place = (struct value_place){0};
    return true;
}

bool values_set(struct values *values, const struct option *option, const char *text,
                const char *folder, GError **error)
{
    slot_of(values, option)->place = (struct value_place){0};
    if (option->members)
        return append_group(values, option, text, folder, error);
    if (option->list)
        return append_texts(slot_of(values, option), option, text, folder, error);
    return set_scalar(slot_of(values, option), option, text, folder, error);
}

void values_reset(struct values *values, const struct option *option)
{
    slot_finish(slot_of(values, option));
    slot_init(slot_of(values, option), option);
}

/* The text that an entry of a list is known by: its first member's, of a GROUP. */
static const char *entry_name(const struct option *option, const void *entry)
{
    return option->members ? values_text(entry, option->members) : entry;
}

bool values_remove(struct values *values, const struct option *option, const char *text,
                   const char *folder, GError **error)
{
    struct slot *slot = slot_of(values, option);
    const struct option *named = option->members ? option->members : option;
    g_autofree char *placed = place_in_folder(named, g_strdup(text), folder), *shown = NULL;
    unsigned before = slot->list ? slot->list->len : 0;

    for (unsigned i = before; i-- > 0;) {
        const char *name = entry_name(option, slot->list->pdata[i]);

        if (name && (g_str_equal(name, text) || g_str_equal(name, placed)))
            g_ptr_array_remove_index(slot->list, i);
    }
    if (slot->list && slot->list->len < before) {
        slot->given = slot->list->len;
        return true;
    }
    shown = text_show(text);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "there is no entry '%s'", shown);
    return false;
}

void values_promote(struct values *values, const struct option *option)
{
    GPtrArray *list = slot_of(values, option)->list;

    if (list->len > 1)
        g_ptr_array_insert(list, 0, g_ptr_array_steal_index(list, list->len - 1));
}

/* ---- places ---- */

struct value_place values_place_of(const struct values *values, const struct option *option)
{
    return slot_at(values, option)->place;
}

void values_set_place(struct values *values, const struct option *option, struct value_place place)
{
    slot_of(values, option)->place = place;
}

static void place_slot(const struct option *option, struct slot *slot, const char *folder)
{
    if (slot->text)
        slot->text = place_in_folder(option, slot->text, folder);
    for (unsigned i = 0; slot->list && i < slot->list->len; i++) {
        void **entry = &slot->list->pdata[i];

        if (option->members)
            values_place(*entry, folder);
        else
            *entry = place_in_folder(option, *entry, folder);
    }
}

void values_place(struct values *values, const char *folder)
{
    for (const struct option *option = values->table; option->key; option++)
        place_slot(option, slot_of(values, option), folder);
}

/* ---- JSON ---- */

static json_t *entry_to_json(const struct option *option, const void *entry)
{
    return option->members ? values_to_json(entry) : json_string(entry);
}

static json_t *slot_to_json(const struct option *option, const struct slot *slot)
{
    json_t *list;

    if (option->type == OPTION_TYPE_BOOL)
        return json_boolean(slot->number);
    if (option->type == OPTION_TYPE_INT || option->type == OPTION_TYPE_SIZE)
        return json_integer(slot->number);
    if (!option->list)
        return json_string(slot->text);
    list = json_array();
    for (unsigned i = 0; i < slot->list->len; i++)
        json_array_append_new(list, entry_to_json(option, slot->list->pdata[i]));
    return list;
}

json_t *values_to_json(const struct values *values)
{
    json_t *object = json_object();

    for (const struct option *option = values->table; option->key; option++)
        if (values_has(values, option))
            json_object_set_new(object, option->key, slot_to_json(option, slot_at(values, option)));
    return object;
}

static const char *json_type_name(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "a mapping", [JSON_ARRAY] = "a list",    [JSON_STRING] = "a text",
        [JSON_INTEGER] = "a number", [JSON_REAL] = "a fraction", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "nothing",
    };
    return value ? names[json_typeof(value)] : "nothing";
}

/* A number or a truth as it would stand in a file; NULL for another value. */
static char *json_word(const json_t *value)
{
    bool plain = json_is_number(value) || json_is_boolean(value);

    return plain ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
}

/* One JSON value that is no list; numbers and truths take the way through text, so that one parser
 * checks, and all say the same of what is wrong. */
static bool set_json(struct values *values, const struct option *option, const json_t *value,
                     GError **error)
{
    enum option_type type = option->type;
    bool numeric = type == OPTION_TYPE_INT || type == OPTION_TYPE_SIZE;
    g_autofree char *word = json_word(value);

    if (word && (numeric || type == OPTION_TYPE_BOOL))
        return values_set(values, option, word, NULL, error);
    if (json_is_string(value) && type != OPTION_TYPE_BOOL && type != OPTION_TYPE_INT)
        return values_set(values, option, json_string_value(value), NULL, error);
    if (json_is_object(value) && type == OPTION_TYPE_GROUP) {
        g_autoptr(group_entry) entry = values_create(option->members);

        return values_from_json(entry, value, error) &&
               values_append(values, option, g_steal_pointer(&entry), error);
    }
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "expected %s, not %s",
                option_wants(option), json_type_name(value));
    return false;
}

static bool set_json_or_list(struct values *values, const struct option *option,
                             const json_t *value, GError **error)
{
    if (!option->list || !json_is_array(value))
        return set_json(values, option, value, error);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!set_json(values, option, json_array_get(value, i), error))
            return false;
    return true;
}

bool values_from_json(struct values *values, const json_t *object, GError **error)
{
    void *iterator;

    if (!json_is_object(object)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "expected an object, not %s",
                    json_type_name(object));
        return false;
    }
    for (iterator = json_object_iter((json_t *)object); iterator;
         iterator = json_object_iter_next((json_t *)object, iterator)) {
        const char *key = json_object_iter_key(iterator);
        const struct option *option = option_find_in(values->table, key);

        if (!option)
            return option_unknown(values->table, key, error);
        if (!set_json_or_list(values, option, json_object_iter_value(iterator), error)) {
            g_prefix_error(error, "%s: ", key);
            return false;
        }
    }
    return true;
}

/* ---- reading ---- */

bool values_given(const struct values *values, const struct option *option)
{
    return slot_at(values, option)->given;
}

bool values_has(const struct values *values, const struct option *option)
{
    return slot_at(values, option)->given || option->preset;
}

uint64_t values_number(const struct values *values, const struct option *option)
{
    return slot_at(values, option)->number;
}

const char *values_text(const struct values *values, const struct option *option)
{
    return slot_at(values, option)->text;
}

unsigned values_count(const struct values *values, const struct option *option)
{
    const struct slot *slot = slot_at(values, option);
    return slot->list ? slot->list->len : 0;
}

const char *values_entry(const struct values *values, const struct option *option, unsigned index)
{
    bool there = !option->members && index < values_count(values, option);
    return there ? slot_at(values, option)->list->pdata[index] : NULL;
}

const struct values *values_group(const struct values *values, const struct option *option,
                                  unsigned index)
{
    bool there = option->members && index < values_count(values, option);
    return there ? slot_at(values, option)->list->pdata[index] : NULL;
}

struct values *values_group_edit(struct values *values, const struct option *option, unsigned index)
{
    bool there = option->members && index < values_count(values, option);
    return there ? slot_of(values, option)->list->pdata[index] : NULL;
}
