// SPDX-License-Identifier: Apache-2.0
/*
 * Changing single options in the text of a vm.yaml, or of a network.yaml. What is not changed stays
 * as its author wrote it: order, spacing, comments.
 *
 * A change is a word:
 *
 * - OPTION=VALUE: the value is this; several of one list are its entries; "OPTION=": the default
 * - OPTION+=ENTRY: one more entry of a list
 * - OPTION-=ENTRY: without the entries of this text, or whose first member it is
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#include "config/definition.h"
#include "config/store.h"

/* The text of a definition's file with the changes made, of which `words` is the NULL-terminated
 * list; the caller frees it. `name` stands for the file in messages, paths in changes are relative
 * to `folder`. The result was read again and means what the changes ask for, and its options fit
 * together. CONFIG_ERROR_USAGE otherwise. */
char *change_yaml(const struct definition_kind *kind, const char *name, const char *text,
                  const char *const *words, const char *folder, GError **error);

/* Make the changes in what `store` keeps under `name`, a definition of `kind`. CONFIG_ERROR_ABSENT
 * when there is none, CONFIG_ERROR_STATE when somebody else changed it meanwhile. */
bool change_kept(const struct store *store, const struct definition_kind *kind, const char *name,
                 const char *const *words, const char *folder, GError **error);

/* The same as change_yaml of the disk or network card called `id`; `words` are of its members.
 * CONFIG_ERROR_ABSENT when there is none in the text. */
char *change_yaml_device(const char *name, const char *text, const char *id,
                         const char *const *words, const char *folder, GError **error);

/* With one disk or network card more (`kind`: OPTION_DISK, OPTION_NIC): `entry` is as on the
 * command line, and the JSON object `chosen` has texts of members that it may lack, such as its id.
 */
char *change_yaml_attach(const char *name, const char *text, enum option_id kind, const char *entry,
                         const json_t *chosen, const char *folder, GError **error);

/* Without the disk or network card called `id`; the others keep their ids. CONFIG_ERROR_ABSENT when
 * there is none in the text. */
char *change_yaml_detach(const char *name, const char *text, const char *id, GError **error);

/* Changes of options of `table` as the parameters "options", "add" and "remove" that
 * config/live.h reads: a new JSON object. */
json_t *change_to_json(const struct option *table, const char *const *words, const char *folder,
                       GError **error);
