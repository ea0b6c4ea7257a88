// SPDX-License-Identifier: Apache-2.0
/* What a definition that is kept says, so that its machine is the same tomorrow. */
#pragma once

#include "config/definition.h"

/* Write down what would be different tomorrow, or under another name: the machine's version, ids,
 * places and addresses of devices, and which version of which CPU model the option `cpu` means.
 * `models` is what the role cpu-models of anima-vmm tells: for each engine of this host an object
 * of names with their versions. The definition has its name. USAGE when there is no such model, or
 * no place for a device. */
bool definition_pin(struct definition *definition, const json_t *models, GError **error);
