// SPDX-License-Identifier: Apache-2.0
/*
 * A connection to a machine's monitor that several threads share: calls under way, and events.
 * Private to libanima.
 *
 * There is no thread of the library's own. Whoever waits for something reads from the socket for
 * all: one thread polls, the others wait for it to bring what they want, and when it leaves, one of
 * them polls. A program that does not wait polls connection_fd, which is readable as long as
 * something has come that was not taken.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "anima.h"

struct connection;

/* Takes `fd`, a connected socket. NULL when the system has no descriptors left; then it is closed.
 */
struct connection *connection_create(int fd);
/* The machine's handle has gone. Calls may still refer to the connection; they fail. */
void connection_close(struct connection *connection);
/* The same when there is no handle, and calls go on: it goes with the last of them. */
void connection_leave(struct connection *connection);
int connection_fd(const struct connection *connection);

/* Ask; takes `params`, which may be NULL. The call is the caller's. With `announced`,
 * connection_answered tells when it has its answer. NULL and `error` when it cannot be sent. */
struct anima_call *connection_ask(struct connection *connection, const char *method, json_t *params,
                                  int fd, bool announced, struct anima_error **error);

/* Wait until `deadline` (monotonic microseconds; negative: for ever) for the answer. */
bool connection_await(struct anima_call *call, gint64 deadline);

/* What the machine answered: a result (a new reference), or NULL and `error`. */
json_t *connection_result(const struct anima_call *call, struct anima_error **error);

/* The next call whose answer has come and was not told of; NULL: there is none now. */
struct anima_call *connection_answered(struct connection *connection);

/* The next event's members, for the caller. NULL when there was none in time; then *closed says
 * whether any can come. */
json_t *connection_event(struct connection *connection, gint64 deadline, bool *closed);

/* Microseconds of the monotonic clock when `timeout_ms` will be over; negative: never. */
gint64 deadline_in(int timeout_ms);
