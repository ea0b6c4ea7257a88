// SPDX-License-Identifier: Apache-2.0
/*
 * The last events of a machine, by number.
 *
 * Events have the numbers 1, 2, 3 .. without a gap. Those that tell of the machine's state and
 * those of which there may be any number (struct control_event's `frequent`) have bounds of their
 * own, so that a talkative guest pushes no change of state out. What has been pushed out leaves a
 * hole, which is told as an event of its own: "missed", whose number is that of the hole's end.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#define HISTORY_STEADY_MAX   1024
#define HISTORY_FREQUENT_MAX 512

struct history;

struct history *history_create(void);
/* NULL is fine. */
void history_destroy(struct history *history);

/* Number and keep an event: a notification is made of `params`, which is taken over. */
void history_add(struct history *history, const char *type, bool frequent, json_t *params);

/* The number of the last event; 0: there was none yet. */
json_int_t history_last(const struct history *history);

/* The notification that follows number `after`, and its number in *number; the caller owns it. NULL
 * when there is none. */
json_t *history_next(const struct history *history, json_int_t after, json_int_t *number);

/* How many of the events after that number have been pushed out. */
json_int_t history_missed(const struct history *history, json_int_t after);
