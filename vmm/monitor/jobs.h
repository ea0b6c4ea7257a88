// SPDX-License-Identifier: Apache-2.0
/*
 * Work of clients that lasts. Each has a number, by which everybody hears in events how far it is
 * and what came of it, and by which it can be cancelled. Who asked for it hears of its progress
 * without events too: by notifications "progress" with the id of the request.
 */
#pragma once

#include "vmm/control/method.h"
#include "vmm/monitor/clients.h"

struct jobs;

struct jobs *jobs_create(struct clients *clients);
/* NULL is fine. */
void jobs_destroy(struct jobs *jobs);

/* The work that `call` asks for begins. */
void jobs_begin(struct jobs *jobs, struct control_call *call);
/* It is done as far as that; nothing happens when `call` is none of a job, or the figures make no
 * sense. */
void jobs_progress(struct jobs *jobs, const struct control_call *call, json_int_t done,
                   json_int_t total);
/* It has ended, with that failure or NULL; before the call is answered. */
void jobs_end(struct jobs *jobs, const struct control_call *call, int code, const char *failure);

/* The call of job `number`; NULL: there is no such job. */
struct control_call *jobs_find(const struct jobs *jobs, json_int_t number);

/* All that there are, as "job.list" tells them. */
json_t *jobs_describe(const struct jobs *jobs);
