// SPDX-License-Identifier: Apache-2.0
/*
 * Lists of port forwards (config/forward.h), as JSON texts, on a NAT network.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#include "vmm/net/nat/nat.h"

/* Listen for all of `list`. What they have become, as a new list; or NULL with an error and none
 * of them, where `*taken` (borrowed) is the one whose port another program has. */
json_t *forwards_add(struct nat *nat, const json_t *list, json_t **taken, GError **error);

/* Those of the list `gone` go, those of `come` come. The answer is {"forwards": what came}; on
 * failure NULL, and all is as it was. Either list may be NULL. */
json_t *forwards_change(struct nat *nat, const json_t *gone, const json_t *come, json_t **taken,
                        GError **error);
