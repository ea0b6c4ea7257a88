// SPDX-License-Identifier: Apache-2.0
/*
 * Machines in the order in which they start with the host.
 */
#pragma once

#include "cli/cli.h"

/* The machines of this user in their order, by name among equals, as a new list of what
 * anima_inventory tells. NULL after a message. */
json_t *order_machines(int *status);

/* A number of a machine, or `otherwise` when it has none. */
json_int_t order_number(const json_t *machine, const char *key, json_int_t otherwise);

/* Whether it runs, or is about to. */
bool order_is_up(const json_t *machine);
