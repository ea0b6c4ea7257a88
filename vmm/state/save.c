// SPDX-License-Identifier: Apache-2.0
/*
 * Saving: a struct as a CBOR map by its table, fields in the table's order, so that the same state
 * always gives the same bytes.
 */
#include "vmm/state/internal.h"

#include <cbor.h>
#include <string.h>

#define CBOR_HEAD_MAX 9 /* a head is a byte and up to eight bytes of argument */

typedef size_t (*encode_size_fn)(size_t, unsigned char *, size_t);

uint64_t state_get_uint(const struct state_field *field, const uint8_t *at)
{
    uint64_t value = 0;

    memcpy(&value, at, MIN(field->size, sizeof(value)));
    return value;
}

int64_t state_get_int(const struct state_field *field, const uint8_t *at)
{
    unsigned unused = 64 - 8 * field->size;

    return (int64_t)(state_get_uint(field, at) << unused) >> unused;
}

void state_put(const struct state_field *field, uint8_t *at, uint64_t value)
{
    memcpy(at, &value, MIN(field->size, sizeof(value)));
}

static void append_size(GByteArray *out, encode_size_fn encode, size_t size)
{
    uint8_t head[CBOR_HEAD_MAX];

    g_byte_array_append(out, head, (guint)encode(size, head, sizeof(head)));
}

static void append_uint(GByteArray *out, uint64_t value)
{
    uint8_t head[CBOR_HEAD_MAX];

    g_byte_array_append(out, head, (guint)cbor_encode_uint(value, head, sizeof(head)));
}

static void append_int(GByteArray *out, int64_t value)
{
    uint8_t head[CBOR_HEAD_MAX];

    if (value >= 0) {
        append_uint(out, (uint64_t)value);
        return;
    }
    g_byte_array_append(out, head, (guint)cbor_encode_negint(~(uint64_t)value, head, sizeof(head)));
}

static void append_bool(GByteArray *out, bool value)
{
    uint8_t head[CBOR_HEAD_MAX];

    g_byte_array_append(out, head, (guint)cbor_encode_bool(value, head, sizeof(head)));
}

static void append_table(GByteArray *out, const struct state_table *table, const uint8_t *state);

static void append_element(GByteArray *out, const struct state_field *field, const uint8_t *at)
{
    switch (field->type) {
    case STATE_BOOL:
        append_bool(out, state_get_uint(field, at) != 0);
        break;
    case STATE_UINT:
        append_uint(out, state_get_uint(field, at));
        break;
    case STATE_INT:
        append_int(out, state_get_int(field, at));
        break;
    case STATE_STRUCT:
        append_table(out, field->table, at);
        break;
    case STATE_BYTES:
        break;
    }
}

static void append_field(GByteArray *out, const struct state_field *field, const uint8_t *state)
{
    const uint8_t *at = state + field->offset;

    append_size(out, cbor_encode_string_start, strlen(field->name));
    g_byte_array_append(out, (const uint8_t *)field->name, (guint)strlen(field->name));
    if (field->type == STATE_BYTES) {
        append_size(out, cbor_encode_bytestring_start, field->count);
        g_byte_array_append(out, at, field->count);
        return;
    }
    if (field->count > 1)
        append_size(out, cbor_encode_array_start, field->count);
    for (uint32_t i = 0; i < field->count; i++)
        append_element(out, field, at + (size_t)i * field->size);
}

static void append_table(GByteArray *out, const struct state_table *table, const uint8_t *state)
{
    append_size(out, cbor_encode_map_start, table->count + 1);
    append_uint(out, 0);
    append_uint(out, table->version);
    for (unsigned i = 0; i < table->count; i++)
        append_field(out, &table->fields[i], state);
}

GBytes *state_save(const struct state_table *table, const void *state)
{
    GByteArray *out = g_byte_array_new();

    append_table(out, table, state);
    return g_byte_array_free_to_bytes(out);
}
