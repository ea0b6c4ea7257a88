// SPDX-License-Identifier: Apache-2.0
/*
 * Values that a definition refuses, made of the schema's table: for each option, and each member of
 * one, texts of the wrong type, out of range, huge, empty, with control characters, words that are
 * nearly right, members and options that there are not.
 */
#pragma once

#include "config/definition.h"

struct wrong_value {
    char *key, *text;
    const struct option *option; /* NULL: there is none of this key */
};

/* All of them, as new struct wrong_value *, freed with the array. */
GPtrArray *wrong_values(void);

/* The line of vm.yaml that says the same; NULL when none can. The caller frees it. */
char *wrong_value_yaml(const struct wrong_value *wrong);
/* The same as JSON, an object; NULL when that has no such value. */
json_t *wrong_value_json(const struct wrong_value *wrong);
