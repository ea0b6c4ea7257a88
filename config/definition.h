// SPDX-License-Identifier: Apache-2.0
/*
 * The definition of one machine, or of one network: a checked value for each option of its schema.
 *
 * It is built from vm.yaml, command-line words or JSON in any order; a later scalar replaces an
 * earlier one, a list grows. What is not given has the schema's default. Not thread-safe; the
 * owner's thread only.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/schema.h"

struct definition;

/* What is defined. */
struct definition_kind {
    const struct option *options; /* the table, ended by a row without key */
    /* What one option alone cannot say. The message begins with an option's key. */
    bool (*check)(const struct definition *definition, GError **error);
};

extern const struct definition_kind definition_machine;

/* A machine's definition with nothing given. */
struct definition *definition_create(void);
/* So for another kind. */
struct definition *definition_create_kind(const struct definition_kind *kind);
const struct definition_kind *definition_kind(const struct definition *definition);
/* Its table. Options are known by their index in that: for a machine, enum option_id. */
const struct option *definition_options(const struct definition *definition);
/* NULL is fine. */
void definition_destroy(struct definition *definition);

/* Set one option from text as on the command line. The message begins with the key: "memory:
 * expected ...". CONFIG_ERROR_USAGE for an unknown key (with the nearest) or a wrong value. */
bool definition_set(struct definition *definition, const char *key, const char *text,
                    GError **error);

/* The same; a relative path is in `folder`, unless that is NULL. */
bool definition_set_in(struct definition *definition, const char *key, const char *text,
                       const char *folder, GError **error);

/* Let the last entry of a list option be the first one. */
void definition_promote(struct definition *definition, enum option_id id);

/* Take entries out of the list `key`: those whose text is `text`, or whose first member is, as it
 * stands or in `folder`. USAGE when there is none. */
bool definition_remove(struct definition *definition, const char *key, const char *text,
                       const char *folder, GError **error);

/* Take entry `index` out of a list. */
void definition_drop(struct definition *definition, enum option_id id, unsigned index);

/* Forget what was given of the option: its default holds again. */
void definition_reset(struct definition *definition, unsigned id);

/* Read the file `path` (vm.yaml). Messages name file, line, column and key. FAILED when the file
 * cannot be read, USAGE when its content is wrong. */
bool definition_load_file(struct definition *definition, const char *path, GError **error);

/* Read YAML from memory; `name` stands for the file in messages, `folder` (or NULL) is what
 * relative paths are relative to. */
bool definition_load_yaml(struct definition *definition, const char *name, const char *folder,
                          const void *data, size_t size, GError **error);

/* Make all relative paths absolute: they are in `folder`. */
void definition_place(struct definition *definition, const char *folder);

/* All options that have a value, defaults included, as a new JSON object: the effective
 * definition. Sizes are numbers of bytes. */
json_t *definition_to_json(const struct definition *definition);

/* The text of a vm.yaml: what was given, or with `presets` the effective definition. The caller
 * frees it. */
char *definition_to_yaml(const struct definition *definition, bool presets);

/* So for one option that was given: "KEY: VALUE", on several lines when it is a list. */
char *definition_option_to_yaml(const struct definition *definition, const struct option *option);

/* Take every member of the JSON object. Unknown keys and wrong types are USAGE errors. */
bool definition_from_json(struct definition *definition, const json_t *object, GError **error);

/* Whether the option was given. */
bool definition_given(const struct definition *definition, unsigned id);
/* Whether the option was given, or has a default. */
bool definition_has(const struct definition *definition, unsigned id);

/* Values; the type must fit the option's. Strings live as long as the definition's value. */
uint64_t definition_number(const struct definition *definition, unsigned id);
/* NULL when unset. For a scalar STRING, ENUM or PATH. */
const char *definition_text(const struct definition *definition, unsigned id);
/* Entries of a list option. */
unsigned definition_count(const struct definition *definition, unsigned id);
/* One of them; NULL behind the last, and for a GROUP. */
const char *definition_entry(const struct definition *definition, unsigned id, unsigned index);
/* Whether the list has the entry. */
bool definition_lists(const struct definition *definition, unsigned id, const char *entry);

/* A member, by its key, of entry `index` of a GROUP option; its default when it was not given. NULL
 * or 0 when it is unset, or there is no such entry. Strings live as long as the definition. */
const char *definition_member_text(const struct definition *definition, unsigned id, unsigned index,
                                   const char *key);
uint64_t definition_member_number(const struct definition *definition, unsigned id, unsigned index,
                                  const char *key);
/* Whether it was given, or has a default. */
bool definition_member_has(const struct definition *definition, unsigned id, unsigned index,
                           const char *key);
/* Set a member of an entry that is there, from text. */
bool definition_member_set(struct definition *definition, unsigned id, unsigned index,
                           const char *key, const char *text, GError **error);
/* For a member that is a list itself: how many it has, and the one at `place` (NULL behind the
 * last). */
unsigned definition_member_count(const struct definition *definition, unsigned id, unsigned index,
                                 const char *key);
const char *definition_member_entry(const struct definition *definition, unsigned id,
                                    unsigned index, const char *key, unsigned place);

/* Whether there are not too many disks; the message names the option. */
bool definition_check_disks(const struct definition *definition, GError **error);

/* What one option alone cannot say: that there is something to boot, that options fit together and
 * that the host has the memory. The message begins with the key, and before that with file, line
 * and column if it came from a file. */
bool definition_check(const struct definition *definition, GError **error);
