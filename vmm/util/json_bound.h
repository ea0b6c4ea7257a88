// SPDX-License-Identifier: Apache-2.0
/*
 * A bound of what a JSON text of a stranger (RFC 8259) costs, before the parser sees it: the parser
 * recurses, and an empty array of two bytes is fifty in memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Whether arrays and objects are at most `depth_max` within each other, and values at most
 * `values_max` (counted by what opens or parts them). The text need be no JSON. */
bool json_is_bounded(const char *text, size_t size, unsigned depth_max, unsigned values_max);
