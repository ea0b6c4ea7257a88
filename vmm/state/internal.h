// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of state/ share: a pull reader over CBOR that allocates nothing.
 *
 * A table is one CBOR map (RFC 8949) of definite length: key 0 is the table's version, the other
 * keys are the fields' names. Integers take the shortest form; bytes are one byte string; an array
 * field is a definite array; a nested table is a map of the same form. No tags, floats, null or
 * indefinite lengths appear, and the reader refuses them.
 */
#pragma once

#include "vmm/state/state.h"

enum cbor_kind {
    CBOR_KIND_NONE,
    CBOR_KIND_UINT,
    CBOR_KIND_NEGINT, /* the value is -1 - number */
    CBOR_KIND_BOOL,
    CBOR_KIND_BYTES,
    CBOR_KIND_TEXT,
    CBOR_KIND_ARRAY, /* number: elements that follow */
    CBOR_KIND_MAP,   /* number: pairs that follow */
};

/* One item's head, with the content of strings. `data` points into the bytes that are read. */
struct cbor_token {
    enum cbor_kind kind;
    uint64_t number;
    const uint8_t *data;
    size_t length;
};

struct cbor_reader {
    const uint8_t *data;
    size_t length;
    size_t position;
};

/* The next item. False at the end of the bytes, for a string that leaves them, a container with
 * more elements than bytes, and for everything that the format does not use. */
bool cbor_reader_next(struct cbor_reader *reader, struct cbor_token *token, GError **error);

/* Bytes remain after what was read. */
static inline bool cbor_reader_rest(const struct cbor_reader *reader)
{
    return reader->position < reader->length;
}

/* Value of element `at` of a STATE_UINT or STATE_BOOL field, zero-extended. */
uint64_t state_get_uint(const struct state_field *field, const uint8_t *at);
/* Value of a STATE_INT element. */
int64_t state_get_int(const struct state_field *field, const uint8_t *at);
/* Store the low bytes of `value`. */
void state_put(const struct state_field *field, uint8_t *at, uint64_t value);
