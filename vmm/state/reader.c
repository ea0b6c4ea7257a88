// SPDX-License-Identifier: Apache-2.0
/*
 * The pull reader: libcbor's streaming decoder, one item at a time. The decoder builds no tree, so
 * hostile lengths cannot make it allocate; here each one is also held against the bytes left.
 */
#include "vmm/state/internal.h"
#include "vmm/util/fault.h"

#include <cbor.h>

static void token_number(struct cbor_token *token, enum cbor_kind kind, uint64_t number)
{
    token->kind = kind;
    token->number = number;
}

static void on_uint8(void *token, uint8_t value)
{
    token_number(token, CBOR_KIND_UINT, value);
}

static void on_uint16(void *token, uint16_t value)
{
    token_number(token, CBOR_KIND_UINT, value);
}

static void on_uint32(void *token, uint32_t value)
{
    token_number(token, CBOR_KIND_UINT, value);
}

static void on_uint64(void *token, uint64_t value)
{
    token_number(token, CBOR_KIND_UINT, value);
}

static void on_negint8(void *token, uint8_t value)
{
    token_number(token, CBOR_KIND_NEGINT, value);
}

static void on_negint16(void *token, uint16_t value)
{
    token_number(token, CBOR_KIND_NEGINT, value);
}

static void on_negint32(void *token, uint32_t value)
{
    token_number(token, CBOR_KIND_NEGINT, value);
}

static void on_negint64(void *token, uint64_t value)
{
    token_number(token, CBOR_KIND_NEGINT, value);
}

static void on_bool(void *token, bool value)
{
    token_number(token, CBOR_KIND_BOOL, value);
}

static void on_array(void *token, size_t elements)
{
    token_number(token, CBOR_KIND_ARRAY, elements);
}

static void on_map(void *token, size_t pairs)
{
    token_number(token, CBOR_KIND_MAP, pairs);
}

static void on_string(struct cbor_token *token, enum cbor_kind kind, const uint8_t *data,
                      size_t length)
{
    token->kind = kind;
    token->data = data;
    token->length = length;
}

static void on_bytes(void *token, cbor_data data, size_t length)
{
    on_string(token, CBOR_KIND_BYTES, data, length);
}

static void on_text(void *token, cbor_data data, size_t length)
{
    on_string(token, CBOR_KIND_TEXT, data, length);
}

/* What is not set here leaves the token's kind at NONE, which is refused. */
static struct cbor_callbacks reader_callbacks(void)
{
    struct cbor_callbacks callbacks = cbor_empty_callbacks;

    callbacks.uint8 = on_uint8;
    callbacks.uint16 = on_uint16;
    callbacks.uint32 = on_uint32;
    callbacks.uint64 = on_uint64;
    callbacks.negint8 = on_negint8;
    callbacks.negint16 = on_negint16;
    callbacks.negint32 = on_negint32;
    callbacks.negint64 = on_negint64;
    callbacks.boolean = on_bool;
    callbacks.array_start = on_array;
    callbacks.map_start = on_map;
    callbacks.byte_string = on_bytes;
    callbacks.string = on_text;
    return callbacks;
}

static bool refuse(GError **error, size_t position, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "byte %zu: %s", position, what);
    return false;
}

bool cbor_reader_next(struct cbor_reader *reader, struct cbor_token *token, GError **error)
{
    struct cbor_callbacks callbacks = reader_callbacks();
    struct cbor_decoder_result result;
    size_t left = reader->length - reader->position;
    size_t start = reader->position;

    *token = (struct cbor_token){.kind = CBOR_KIND_NONE};
    if (left == 0)
        return refuse(error, start, "the data ends too early");
    result = cbor_stream_decode(reader->data + start, left, &callbacks, token);
    if (result.status == CBOR_DECODER_NEDATA)
        return refuse(error, start, "the data ends too early");
    if (result.status != CBOR_DECODER_FINISHED || token->kind == CBOR_KIND_NONE)
        return refuse(error, start, "not an item of this format");
    reader->position += result.read;
    left -= result.read;
    if (token->kind == CBOR_KIND_ARRAY && token->number > left)
        return refuse(error, start, "an array is longer than the data");
    if (token->kind == CBOR_KIND_MAP && token->number > left / 2)
        return refuse(error, start, "a map is longer than the data");
    return true;
}
