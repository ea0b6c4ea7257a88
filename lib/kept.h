// SPDX-License-Identifier: Apache-2.0
/* What is written down of a machine that is kept. Private to libanima. */
#pragma once

#include "anima.h"
#include "config/definition.h"

/* The name that it will have; NULL and an error when there is none. */
const char *kept_name(const struct definition *definition, GError **error);

/* The text of the kept machine called `name`; false and an error when it cannot be read. *text is
 * NULL when there is none of that name. The caller frees it. */
bool kept_find(const char *name, char **text, GError **error);

/* The text of the vm.yaml of a machine with a name, after a check; what would be different tomorrow
 * is given its value of today. The caller frees it; NULL and an error when it cannot be. */
char *kept_text(struct definition *definition, struct anima_error **error);
