// SPDX-License-Identifier: Apache-2.0
/*
 * Changes of a machine that runs. Which options can change is in the schema (enum option_live); a
 * change that touches another one, or gives what does not fit together, is refused as a whole
 * before anything is done.
 */
#pragma once

#include "config/definition.h"

/* JSON objects by the keys of options, or NULL: values that replace (null: the default), entries
 * that lists get, and entries that they lose. */
struct live_change {
    const json_t *options, *add, *remove;
};

/* A copy of `definition` with the disk or network card called `id` changed, or without an id the
 * machine's own options. It was checked. NULL with CONFIG_ERROR_USAGE, or _ABSENT when there is no
 * such device. */
struct definition *definition_change_live(const struct definition *definition, const char *id,
                                          const struct live_change *change, GError **error);

/* The same of a change that was checked by who asks for it. */
struct definition *definition_follow_live(const struct definition *definition, const char *id,
                                          const struct live_change *change, GError **error);

/* The change in the parameters "options", "add" and "remove". */
struct live_change live_change_of(const json_t *params);

/* Whether an option, or a member of the device called `id` (NULL: none), differs. */
bool definition_differs(const struct definition *before, const struct definition *after,
                        const char *id, const char *key);
