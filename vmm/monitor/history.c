// SPDX-License-Identifier: Apache-2.0
/*
 * Two lists of events, each in the order of their numbers, read as one.
 */
#include "vmm/monitor/history.h"

#include <glib.h>

#include "vmm/control/rpc.h"

struct event {
    json_int_t number;
    json_t *notification;
};

struct list {
    GPtrArray *events; /* of struct event * */
    guint max;
};

struct history {
    struct list steady, frequent;
    json_int_t last;
};

static void event_free(void *opaque)
{
    struct event *event = opaque;

    json_decref(event->notification);
    g_free(event);
}

static void list_init(struct list *list, guint max)
{
    list->events = g_ptr_array_new_with_free_func(event_free);
    list->max = max;
}

struct history *history_create(void)
{
    struct history *history = g_new0(struct history, 1);

    list_init(&history->steady, HISTORY_STEADY_MAX);
    list_init(&history->frequent, HISTORY_FREQUENT_MAX);
    return history;
}

void history_destroy(struct history *history)
{
    if (!history)
        return;
    g_ptr_array_unref(history->steady.events);
    g_ptr_array_unref(history->frequent.events);
    g_free(history);
}

static json_t *notification_of(const char *type, json_int_t number, json_t *params)
{
    json_object_set_new(params, "seq", json_integer(number));
    json_object_set_new(params, "type", json_string(type));
    json_object_set_new(params, "time", json_integer(g_get_real_time() / 1000));
    return rpc_notification("event", params);
}

void history_add(struct history *history, const char *type, bool frequent, json_t *params)
{
    struct list *list = frequent ? &history->frequent : &history->steady;
    struct event *event = g_new(struct event, 1);

    event->number = ++history->last;
    event->notification = notification_of(type, event->number, params);
    if (list->events->len == list->max)
        g_ptr_array_remove_index(list->events, 0);
    g_ptr_array_add(list->events, event);
}

json_int_t history_last(const struct history *history)
{
    return history->last;
}

/* The place of the first event of the list behind that number; its length when there is none. */
static guint find(const struct list *list, json_int_t after)
{
    guint low = 0, high = list->events->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        const struct event *event = list->events->pdata[middle];

        if (event->number > after)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static const struct event *first_after(const struct list *list, json_int_t after)
{
    guint place = find(list, after);

    return place < list->events->len ? list->events->pdata[place] : NULL;
}

json_t *history_next(const struct history *history, json_int_t after, json_int_t *number)
{
    const struct event *steady = first_after(&history->steady, after);
    const struct event *next = first_after(&history->frequent, after);

    if (!next || (steady && steady->number < next->number))
        next = steady;
    if (!next)
        return NULL;
    if (next->number == after + 1) {
        *number = next->number;
        return json_incref(next->notification);
    }
    *number = next->number - 1;
    return notification_of("missed", *number, json_pack("{s:I}", "first", after + 1));
}

json_int_t history_missed(const struct history *history, json_int_t after)
{
    guint kept = history->steady.events->len - find(&history->steady, after) +
                 history->frequent.events->len - find(&history->frequent, after);

    return history->last - after - kept;
}
