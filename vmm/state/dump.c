// SPDX-License-Identifier: Apache-2.0
/*
 * The readable form of saved state, and the schema of a table. The dump reads the bytes alone, so
 * it can show what a newer version wrote.
 */
#include "vmm/state/internal.h"
#include "vmm/util/fault.h"

#include <inttypes.h>
#include <string.h>

/* Deeper than any table; bounds the recursion over what a stranger wrote. */
#define DUMP_DEPTH_MAX 16
/* Longer than any field's name; bounds how often a stranger's bytes are printed again. */
#define DUMP_NAME_MAX 64

struct dump {
    struct cbor_reader reader;
    GString *path;
    GString *out;
};

/* Small numbers in decimal, others in hexadecimal. */
static void print_number(GString *out, uint64_t value)
{
    g_string_append_printf(out, value < 10 ? "%" PRIu64 : "0x%" PRIx64, value);
}

/* Hexadecimal digits; a long tail of zeros is counted instead. */
static void print_bytes(GString *out, const uint8_t *data, size_t length)
{
    size_t used = length;

    while (used && data[used - 1] == 0)
        used--;
    if (length - used <= 8)
        used = length;
    for (size_t i = 0; i < used; i++)
        g_string_append_printf(out, "%02x", data[i]);
    if (used < length)
        g_string_append_printf(out, "%s%zu zero bytes", used ? " + " : "", length - used);
}

static void print_text(GString *out, const struct cbor_token *token)
{
    g_autofree char *text = g_strndup((const char *)token->data, token->length);
    g_autofree char *safe = g_strescape(text, NULL);

    g_string_append_printf(out, "\"%s\"", safe);
}

static void print_scalar(GString *out, const struct cbor_token *token)
{
    switch (token->kind) {
    case CBOR_KIND_UINT:
        print_number(out, token->number);
        break;
    case CBOR_KIND_NEGINT:
        if (token->number <= INT64_MAX)
            g_string_append_printf(out, "%" PRId64, (int64_t)~token->number);
        else
            g_string_append_printf(out, "-1 - 0x%" PRIx64, token->number);
        break;
    case CBOR_KIND_BOOL:
        g_string_append(out, token->number ? "true" : "false");
        break;
    case CBOR_KIND_BYTES:
        print_bytes(out, token->data, token->length);
        break;
    case CBOR_KIND_TEXT:
        print_text(out, token);
        break;
    default:
        break;
    }
}

static bool dump_value(struct dump *dump, const struct cbor_token *token, unsigned depth,
                       GError **error);

static bool is_container(const struct cbor_token *token)
{
    return token->kind == CBOR_KIND_ARRAY || token->kind == CBOR_KIND_MAP;
}

/* A field's name, or the 0 that stands before the version. */
static bool is_key(const struct cbor_token *key, const struct cbor_token *value)
{
    if (key->kind == CBOR_KIND_TEXT)
        return key->length <= DUMP_NAME_MAX;
    return key->kind == CBOR_KIND_UINT && key->number == 0 && value->kind == CBOR_KIND_UINT;
}

static void append_key(GString *path, const struct cbor_token *key)
{
    if (key->kind == CBOR_KIND_TEXT) {
        g_autofree char *text = g_strndup((const char *)key->data, key->length);
        g_autofree char *safe = g_strescape(text, NULL);

        g_string_append_printf(path, ".%s", safe);
    } else {
        g_string_append(path, ".version");
    }
}

static bool dump_map(struct dump *dump, uint64_t pairs, unsigned depth, GError **error)
{
    size_t path_length = dump->path->len;

    for (uint64_t i = 0; i < pairs; i++) {
        struct cbor_token key, value;

        if (!cbor_reader_next(&dump->reader, &key, error) ||
            !cbor_reader_next(&dump->reader, &value, error))
            return false;
        if (!is_key(&key, &value)) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "state of %s: a key is no name",
                        dump->path->str);
            return false;
        }
        append_key(dump->path, &key);
        /* The version of nested tables says little to a reader. */
        if ((key.kind == CBOR_KIND_TEXT || depth == 0) &&
            !dump_value(dump, &value, depth + 1, error))
            return false;
        g_string_truncate(dump->path, path_length);
    }
    return true;
}

/* Scalars stand on one line, other elements on lines of their own. */
static bool dump_array(struct dump *dump, uint64_t elements, unsigned depth, GError **error)
{
    size_t path_length = dump->path->len;
    bool line = false;

    for (uint64_t i = 0; i < elements; i++) {
        struct cbor_token token;

        if (!cbor_reader_next(&dump->reader, &token, error))
            return false;
        if (is_container(&token)) {
            g_string_append_printf(dump->path, "[%" PRIu64 "]", i);
            if (!dump_value(dump, &token, depth + 1, error))
                return false;
            g_string_truncate(dump->path, path_length);
            continue;
        }
        if (line)
            g_string_append(dump->out, ", ");
        else
            g_string_append_printf(dump->out, "%s = ", dump->path->str);
        line = true;
        print_scalar(dump->out, &token);
    }
    if (line)
        g_string_append_c(dump->out, '\n');
    return true;
}

static bool dump_value(struct dump *dump, const struct cbor_token *token, unsigned depth,
                       GError **error)
{
    if (depth > DUMP_DEPTH_MAX) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "state of %s: is nested too deep",
                    dump->path->str);
        return false;
    }
    if (token->kind == CBOR_KIND_MAP)
        return dump_map(dump, token->number, depth, error);
    if (token->kind == CBOR_KIND_ARRAY)
        return dump_array(dump, token->number, depth, error);
    g_string_append_printf(dump->out, "%s = ", dump->path->str);
    print_scalar(dump->out, token);
    g_string_append_c(dump->out, '\n');
    return true;
}

bool state_dump(GBytes *bytes, const char *prefix, GString *out, GError **error)
{
    g_autoptr(GString) path = g_string_new(prefix);
    struct dump dump = {.path = path, .out = out};
    struct cbor_token token;

    dump.reader.data = g_bytes_get_data(bytes, &dump.reader.length);
    if (!cbor_reader_next(&dump.reader, &token, error) || !dump_value(&dump, &token, 0, error))
        return false;
    if (cbor_reader_rest(&dump.reader)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "state of %s: has bytes too many", prefix);
        return false;
    }
    return true;
}

static const char *type_name(const struct state_field *field)
{
    static const char *const names[] = {
        [STATE_BOOL] = "bool",   [STATE_UINT] = "u",        [STATE_INT] = "i",
        [STATE_BYTES] = "bytes", [STATE_STRUCT] = "struct",
    };

    return names[field->type];
}

static void schema_fields(const struct state_table *table, GString *path, GString *out)
{
    size_t path_length = path->len;

    for (unsigned i = 0; i < table->count; i++) {
        const struct state_field *field = &table->fields[i];

        g_string_append_printf(path, ".%s", field->name);
        if (field->count > 1)
            g_string_append_printf(path, "[%u]", field->count);
        g_string_append_printf(out, "%s %s", path->str, type_name(field));
        if (field->type == STATE_UINT || field->type == STATE_INT)
            g_string_append_printf(out, "%u", 8 * field->size);
        if (field->type == STATE_STRUCT)
            g_string_append_printf(out, " %s version %u", field->table->name,
                                   field->table->version);
        if (field->min || field->max)
            g_string_append_printf(out, " %" PRIu64 "..%" PRIu64, field->min, field->max);
        if (field->since)
            g_string_append_printf(out, " since %u", field->since);
        g_string_append_c(out, '\n');
        if (field->type == STATE_STRUCT)
            schema_fields(field->table, path, out);
        g_string_truncate(path, path_length);
    }
}

void state_schema(const struct state_table *table, GString *out)
{
    g_autoptr(GString) path = g_string_new(table->name);

    g_string_append_printf(out, "%s version %u\n", table->name, table->version);
    schema_fields(table, path, out);
}
