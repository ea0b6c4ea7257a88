// SPDX-License-Identifier: Apache-2.0
/*
 * Device state as declared tables.
 *
 * A device lists the fields of its `state` struct once. Saving, loading, the readable dump, the
 * committed schema and the fuzzer come from that table. Fields are written by name in CBOR
 * (RFC 8949), so a reader needs no knowledge of the struct. What is loaded is as hostile as a
 * guest: every field's range is checked here, and `post_load` checks what a range cannot say.
 *
 * Load is all or nothing: values go to a scratch copy first, which replaces the state at the end.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state_type {
    STATE_BOOL,   /* bool */
    STATE_UINT,   /* uint8_t .. uint64_t by `size` */
    STATE_INT,    /* int8_t .. int64_t by `size` */
    STATE_BYTES,  /* `count` raw bytes */
    STATE_STRUCT, /* nested table; an array of them when count > 1 */
};

struct state_table;

struct state_field {
    const char *name; /* stable: part of the format */
    enum state_type type;
    size_t offset;
    uint32_t size;     /* of one element in the struct */
    uint32_t count;    /* elements of an array; 1 for a plain field */
    uint64_t min, max; /* accepted range of unsigned values; 0, 0 accepts all */
    uint32_t since;    /* version of the table that brought it; older streams leave it as it is */
    const struct state_table *table; /* STATE_STRUCT */
};

struct state_table {
    const char *name;
    uint32_t version; /* from 1; written with the fields */
    size_t size;      /* of the struct */
    const struct state_field *fields;
    unsigned count;
    /* Cross-field checks on the scratch copy; false with `error` refuses the load. May be NULL. */
    bool (*check)(const void *state, GError **error);
};

/* The width of a number in bytes; refuses to compile where it is none that a field can have. */
#define STATE_WIDTH_(element_)                                                   \
    (sizeof(element_) + 0 * sizeof(struct {                                      \
                            _Static_assert(sizeof(element_) <= sizeof(uint64_t), \
                                           "a number of over 64 bits");          \
                            int unused;                                          \
                        }))
#define STATE_FIELD_(struct_, member, type_, min_, max_)                                        \
    {                                                                                           \
        .name = #member, .type = (type_), .offset = offsetof(struct_, member),                  \
        .size = STATE_WIDTH_(((struct_ *)0)->member), .count = 1, .min = (min_), .max = (max_), \
    }
/* An unsigned field of any width; STATE_RANGE also bounds what a load accepts. */
#define STATE_U(struct_, member) STATE_FIELD_(struct_, member, STATE_UINT, 0, 0)
#define STATE_RANGE(struct_, member, min_, max_) \
    STATE_FIELD_(struct_, member, STATE_UINT, min_, max_)
#define STATE_I(struct_, member) STATE_FIELD_(struct_, member, STATE_INT, 0, 0)
#define STATE_B(struct_, member) STATE_FIELD_(struct_, member, STATE_BOOL, 0, 0)
/* An array of unsigned integers. */
#define STATE_ARRAY(struct_, member)                                                 \
    {                                                                                \
        .name = #member, .type = STATE_UINT, .offset = offsetof(struct_, member),    \
        .size = STATE_WIDTH_(((struct_ *)0)->member[0]),                             \
        .count = sizeof(((struct_ *)0)->member) / sizeof(((struct_ *)0)->member[0]), \
    }
/* A byte array, written as one byte string. */
#define STATE_RAW(struct_, member)                                                            \
    {                                                                                         \
        .name = #member, .type = STATE_BYTES, .offset = offsetof(struct_, member), .size = 1, \
        .count = sizeof(((struct_ *)0)->member),                                              \
    }
/* A nested struct, or an array of them. */
#define STATE_NESTED(struct_, member, table_)                                       \
    {                                                                               \
        .name = #member, .type = STATE_STRUCT, .offset = offsetof(struct_, member), \
        .size = sizeof(((struct_ *)0)->member), .count = 1, .table = (table_),      \
    }
#define STATE_NESTED_ARRAY(struct_, member, table_)                                  \
    {                                                                                \
        .name = #member, .type = STATE_STRUCT, .offset = offsetof(struct_, member),  \
        .size = sizeof(((struct_ *)0)->member[0]),                                   \
        .count = sizeof(((struct_ *)0)->member) / sizeof(((struct_ *)0)->member[0]), \
        .table = (table_),                                                           \
    }

#define STATE_TABLE(name_, version_, struct_, fields_)                                        \
    {                                                                                         \
        .name = (name_), .version = (version_), .size = sizeof(struct_), .fields = (fields_), \
        .count = sizeof(fields_) / sizeof((fields_)[0]),                                      \
    }

/* Encode `state` by its table as one CBOR map. The caller frees the bytes. Cannot fail. */
GBytes *state_save(const struct state_table *table, const void *state);

/* Decode into `state`. On false, `state` is unchanged and `error` names table and field. Unknown
 * fields, missing fields of this version, wrong types, lengths and ranges are refused. */
bool state_load(const struct state_table *table, void *state, GBytes *bytes, GError **error);

/* One "path = value" line per field, for `anima state dump`. Reads the bytes only, so it shows
 * streams of any version. */
bool state_dump(GBytes *bytes, const char *prefix, GString *out, GError **error);

/* The table's format as text, one line per field; compared by a test with the committed one. */
void state_schema(const struct state_table *table, GString *out);
