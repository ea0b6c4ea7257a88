// SPDX-License-Identifier: Apache-2.0
/*
 * Loading: as hostile input, by the table alone. The recursion is the table's, so its depth is not
 * the sender's choice. All goes into a scratch copy, which replaces the state when the last check
 * has passed.
 */
#include "vmm/state/internal.h"
#include "vmm/util/fault.h"

#include <inttypes.h>
#include <string.h>

struct load {
    struct cbor_reader reader;
    GString *path; /* of the field that is being read, for messages */
};

static bool G_GNUC_PRINTF(3, 4)
    refuse(const struct load *load, GError **error, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "state of %s: %s", load->path->str, what);
    return false;
}

static bool next(struct load *load, struct cbor_token *token, GError **error)
{
    if (cbor_reader_next(&load->reader, token, error))
        return true;
    g_prefix_error(error, "state of %s: ", load->path->str);
    return false;
}

static bool next_of_kind(struct load *load, enum cbor_kind kind, const char *what,
                         struct cbor_token *token, GError **error)
{
    if (!next(load, token, error))
        return false;
    return token->kind == kind || refuse(load, error, "is not %s", what);
}

static bool load_bool(struct load *load, const struct state_field *field, uint8_t *at,
                      GError **error)
{
    struct cbor_token token;

    if (!next_of_kind(load, CBOR_KIND_BOOL, "a truth value", &token, error))
        return false;
    state_put(field, at, token.number);
    return true;
}

static bool load_uint(struct load *load, const struct state_field *field, uint8_t *at,
                      GError **error)
{
    uint64_t widest = UINT64_MAX >> (64 - 8 * field->size);
    bool bounded = field->min || field->max;
    uint64_t min = bounded ? field->min : 0;
    uint64_t max = bounded ? MIN(field->max, widest) : widest;
    struct cbor_token token;

    if (!next_of_kind(load, CBOR_KIND_UINT, "an unsigned number", &token, error))
        return false;
    if (token.number < min || token.number > max)
        return refuse(load, error, "%" PRIu64 " is not within %" PRIu64 " and %" PRIu64,
                      token.number, min, max);
    state_put(field, at, token.number);
    return true;
}

static bool load_int(struct load *load, const struct state_field *field, uint8_t *at,
                     GError **error)
{
    uint64_t widest = (uint64_t)INT64_MAX >> (64 - 8 * field->size);
    struct cbor_token token;

    if (!next(load, &token, error))
        return false;
    if (token.kind != CBOR_KIND_UINT && token.kind != CBOR_KIND_NEGINT)
        return refuse(load, error, "is not a number");
    if (token.number > widest)
        return refuse(load, error, "does not fit into %u bits", 8 * field->size);
    state_put(field, at, token.kind == CBOR_KIND_UINT ? token.number : ~token.number);
    return true;
}

static bool load_bytes(struct load *load, const struct state_field *field, uint8_t *at,
                       GError **error)
{
    struct cbor_token token;

    if (!next_of_kind(load, CBOR_KIND_BYTES, "a byte string", &token, error))
        return false;
    if (token.length != field->count)
        return refuse(load, error, "has %zu bytes instead of %u", token.length, field->count);
    memcpy(at, token.data, field->count);
    return true;
}

static bool load_table(struct load *load, const struct state_table *table, uint8_t *state,
                       GError **error);

static bool load_element(struct load *load, const struct state_field *field, uint8_t *at,
                         GError **error)
{
    switch (field->type) {
    case STATE_BOOL:
        return load_bool(load, field, at, error);
    case STATE_UINT:
        return load_uint(load, field, at, error);
    case STATE_INT:
        return load_int(load, field, at, error);
    case STATE_BYTES:
        return load_bytes(load, field, at, error);
    case STATE_STRUCT:
        return load_table(load, field->table, at, error);
    }
    return false;
}

static bool load_array(struct load *load, const struct state_field *field, uint8_t *at,
                       GError **error)
{
    size_t path_length = load->path->len;
    struct cbor_token token;

    if (!next_of_kind(load, CBOR_KIND_ARRAY, "an array", &token, error))
        return false;
    if (token.number != field->count)
        return refuse(load, error, "has %" PRIu64 " elements instead of %u", token.number,
                      field->count);
    for (uint32_t i = 0; i < field->count; i++) {
        g_string_append_printf(load->path, "[%u]", i);
        if (!load_element(load, field, at + (size_t)i * field->size, error))
            return false;
        g_string_truncate(load->path, path_length);
    }
    return true;
}

static const struct state_field *find_field(const struct state_table *table,
                                            const struct cbor_token *name, unsigned *index)
{
    for (unsigned i = 0; i < table->count; i++) {
        const char *candidate = table->fields[i].name;

        if (strlen(candidate) == name->length && !memcmp(candidate, name->data, name->length)) {
            *index = i;
            return &table->fields[i];
        }
    }
    return NULL;
}

/* One pair of the map: a field's name and its value. `seen` has a byte a field. */
static bool load_pair(struct load *load, const struct state_table *table, uint8_t *state,
                      uint8_t *seen, GError **error)
{
    size_t path_length = load->path->len;
    const struct state_field *field;
    struct cbor_token name;
    unsigned index;
    bool loaded;

    if (!next_of_kind(load, CBOR_KIND_TEXT, "a map from names", &name, error))
        return false;
    field = find_field(table, &name, &index);
    if (!field) {
        g_autofree char *text = g_strndup((const char *)name.data, MIN(name.length, 64));
        g_autofree char *safe = g_strescape(text, NULL);

        return refuse(load, error, "has the unknown field \"%s\"", safe);
    }
    g_string_append_printf(load->path, ".%s", field->name);
    if (seen[index])
        return refuse(load, error, "appears twice");
    seen[index] = 1;
    loaded = field->count > 1 && field->type != STATE_BYTES
                 ? load_array(load, field, state + field->offset, error)
                 : load_element(load, field, state + field->offset, error);
    if (loaded)
        g_string_truncate(load->path, path_length);
    return loaded;
}

/* Head of a table's map: its length and, always first, its version under key 0. */
static bool load_version(struct load *load, const struct state_table *table, uint64_t *pairs,
                         uint64_t *version, GError **error)
{
    struct cbor_token token;

    if (!next_of_kind(load, CBOR_KIND_MAP, "a map", &token, error))
        return false;
    *pairs = token.number;
    if (*pairs == 0)
        return refuse(load, error, "is empty");
    if (!next(load, &token, error))
        return false;
    if (token.kind != CBOR_KIND_UINT || token.number != 0)
        return refuse(load, error, "does not begin with its version");
    if (!next_of_kind(load, CBOR_KIND_UINT, "of a numbered version", &token, error))
        return false;
    if (token.number == 0 || token.number > table->version)
        return refuse(load, error, "has version %" PRIu64 ", known are 1 to %u", token.number,
                      table->version);
    *version = token.number;
    return true;
}

static bool load_table(struct load *load, const struct state_table *table, uint8_t *state,
                       GError **error)
{
    g_autofree uint8_t *seen = g_new0(uint8_t, table->count + 1);
    g_autoptr(GError) check_error = NULL;
    uint64_t pairs = 0, version = 0;

    if (!load_version(load, table, &pairs, &version, error))
        return false;
    for (uint64_t i = 1; i < pairs; i++)
        if (!load_pair(load, table, state, seen, error))
            return false;
    for (unsigned i = 0; i < table->count; i++)
        if (!seen[i] && table->fields[i].since <= version)
            return refuse(load, error, "lacks the field \"%s\"", table->fields[i].name);
    if (table->check && !table->check(state, &check_error))
        return refuse(load, error, "%s", check_error ? check_error->message : "is not consistent");
    return true;
}

bool state_load(const struct state_table *table, void *state, GBytes *bytes, GError **error)
{
    g_autoptr(GString) path = g_string_new(table->name);
    g_autofree uint8_t *scratch = g_try_malloc(table->size);
    struct load load = {.path = path};

    if (!scratch)
        return refuse(&load, error, "does not fit into this host's memory");
    memcpy(scratch, state, table->size);
    load.reader.data = g_bytes_get_data(bytes, &load.reader.length);
    if (!load_table(&load, table, scratch, error))
        return false;
    if (cbor_reader_rest(&load.reader))
        return refuse(&load, error, "has %zu bytes too many",
                      load.reader.length - load.reader.position);
    memcpy(state, scratch, table->size);
    return true;
}
