// SPDX-License-Identifier: Apache-2.0
/*
 * One pass over the bytes, which knows of JSON only brackets, commas and where a string ends.
 */
#include "vmm/util/json_bound.h"

bool json_is_bounded(const char *text, size_t size, unsigned depth_max, unsigned values_max)
{
    unsigned depth = 0, values = 1;
    bool quoted = false;

    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{') && ++depth > depth_max)
            return false;
        else if (!quoted && (c == ']' || c == '}') && depth)
            depth--;
        if (!quoted && (c == ',' || c == '[' || c == '{') && ++values > values_max)
            return false;
    }
    return true;
}
