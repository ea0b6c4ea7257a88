// SPDX-License-Identifier: Apache-2.0
/* The CPU models of this host. Private to libanima. */
#pragma once

#include <jansson.h>

#include "anima.h"

/* What anima-vmm tells of them, as definition_pin wants it: a new object. NULL and an error. */
json_t *cpu_models(struct anima_error **error);
