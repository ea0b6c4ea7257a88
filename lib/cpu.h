// SPDX-License-Identifier: Apache-2.0
/* The CPU model of a machine that is kept. Private to libanima. */
#pragma once

#include "anima.h"
#include "config/definition.h"

/* Write down which model, and which version of it, the option `cpu` means on this host with the
 * definition's engine. False and an error when there is no such model, or nobody to ask. */
bool cpu_pin(struct definition *definition, struct anima_error **error);
