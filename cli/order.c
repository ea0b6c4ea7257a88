// SPDX-License-Identifier: Apache-2.0
/*
 * The order of machines. One that is not defined has no turn of its own: it comes last.
 */
#include "cli/order.h"

#include <stdlib.h>
#include <string.h>

json_int_t order_number(const json_t *machine, const char *key, json_int_t otherwise)
{
    const json_t *number = json_object_get(machine, key);

    return json_is_integer(number) ? json_integer_value(number) : otherwise;
}

bool order_is_up(const json_t *machine)
{
    const char *state = json_string_value(json_object_get(machine, "state"));

    return state && strcmp(state, "off") != 0 && strcmp(state, "faulty") != 0;
}

static int compare(const void *a, const void *b)
{
    const json_t *one = *(json_t *const *)a, *other = *(json_t *const *)b;
    json_int_t first = order_number(one, "start_order", G_MAXINT);
    json_int_t second = order_number(other, "start_order", G_MAXINT);

    if (first != second)
        return first < second ? -1 : 1;
    return strcmp(json_string_value(json_object_get(one, "name")),
                  json_string_value(json_object_get(other, "name")));
}

json_t *order_machines(int *status)
{
    struct anima_error *error = NULL;
    char *text = anima_inventory(&error);
    json_t *machines = text ? json_loads(text, 0, NULL) : NULL, *sorted, *machine;
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    size_t i;

    anima_free(text);
    if (!machines) {
        *status = cli_fail_error(error);
        return NULL;
    }
    json_array_foreach(machines, i, machine) g_ptr_array_add(all, json_incref(machine));
    json_decref(machines);
    if (all->len)
        qsort(all->pdata, all->len, sizeof(void *), compare);
    sorted = json_array();
    for (i = 0; i < all->len; i++)
        json_array_append_new(sorted, all->pdata[i]);
    return sorted;
}
