// SPDX-License-Identifier: Apache-2.0
/*
 * Values of a table of options: one slot a row, with text and JSON both ways.
 *
 * A whole definition is the values of the table `options`. An entry of a GROUP option is the values
 * of that option's members: the same thing one step deeper. Values begin with the presets of their
 * table; a later scalar replaces an earlier one, a list grows. Messages do not name the option that
 * is set, but they do name a member of it. Private to config/ and its tests.
 */
#pragma once

#include <jansson.h>

#include "config/definition.h"

struct values;

/* Those of a definition: the definition's. */
struct values *definition_values(struct definition *definition);

/* The presets of `table`, which ends with a row without key and lives longer than the values. */
struct values *values_create(const struct option *table);
/* NULL is fine. */
void values_destroy(struct values *values);
typedef struct values group_entry; /* for g_autoptr */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(group_entry, values_destroy)

/* The table that they were made for. */
const struct option *values_table(const struct values *values);

/* Set `option`, a row of the values' table, from text as on the command line; `folder` (or NULL) is
 * what relative paths are relative to. USAGE errors; nothing is changed then, but a list may have
 * got some of several entries. */
bool values_set(struct values *values, const struct option *option, const char *text,
                const char *folder, GError **error);

/* Forget what was given of `option`: its preset holds again. */
void values_reset(struct values *values, const struct option *option);

/* Make relative paths, in groups too, relative to `folder` no more. */
void values_place(struct values *values, const char *folder);

/* Where in the file that was read last the option stands, from 1; an option that was set otherwise
 * since then, or never, has the line 0. */
struct value_place {
    unsigned line, column;
};
struct value_place values_place_of(const struct values *values, const struct option *option);

/* Take entries whose text is `text`, or of a GROUP whose first member is, out of the list `option`;
 * a path may be relative to `folder` as well. USAGE when there is none. */
bool values_remove(struct values *values, const struct option *option, const char *text,
                   const char *folder, GError **error);

/* Take entry `index`, if there is one, out of the list `option`. */
void values_drop(struct values *values, const struct option *option, unsigned index);

/* Append `entry`, values of the members of the GROUP `option`, which is taken in any case. Refused
 * when a required member is missing. */
bool values_append(struct values *values, const struct option *option, struct values *entry,
                   GError **error);

/* Let the last entry of the list `option` be the first one. */
void values_promote(struct values *values, const struct option *option);

/* All that have a value, as a new JSON object. */
json_t *values_to_json(const struct values *values);
/* Take every member of the JSON object. */
bool values_from_json(struct values *values, const json_t *object, GError **error);

/* Note where an option that was just read stands. For the reader of YAML. */
void values_set_place(struct values *values, const struct option *option, struct value_place place);

/* Read YAML from memory; `name` stands for the file in messages, `folder` is as above. Messages
 * name file, line, column and key. */
bool values_load_yaml(struct values *values, const char *name, const char *folder, const void *data,
                      size_t size, GError **error);

/* The same as YAML: what was given, with `presets` all that have a value; only the option `only`
 * unless that is NULL. The caller frees it; NULL when memory is out. */
char *values_to_yaml(const struct values *values, bool presets, const struct option *only);

/* The whole of a definition's file, up to CONFIG_FILE_MAX. NULL and `error` when it cannot be had.
 */
GByteArray *definition_read_file(const char *path, GError **error);

/* Whether the option was given. */
bool values_given(const struct values *values, const struct option *option);
/* Whether the option was given, or has a default. */
bool values_has(const struct values *values, const struct option *option);
/* As of definition_number, _text, _count and _entry; `option` is a row of the values' table. */
uint64_t values_number(const struct values *values, const struct option *option);
const char *values_text(const struct values *values, const struct option *option);
unsigned values_count(const struct values *values, const struct option *option);
const char *values_entry(const struct values *values, const struct option *option, unsigned index);
/* One entry of a GROUP; NULL behind the last. */
const struct values *values_group(const struct values *values, const struct option *option,
                                  unsigned index);
/* ...to be changed. */
struct values *values_group_edit(struct values *values, const struct option *option,
                                 unsigned index);
