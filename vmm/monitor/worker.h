// SPDX-License-Identifier: Apache-2.0
/*
 * A vmm, or a helper, as the monitor sees it: the process, the control connection to it, and the
 * requests that it has not answered yet.
 *
 * Everything runs on the default main context's thread.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "vmm/control/rpc.h"

struct worker;

struct worker_ops {
    /* One line that it wrote to its standard error, as valid UTF-8. */
    void (*log)(void *opaque, const char *line);
    /* A notification came. */
    void (*notified)(void *opaque, const struct rpc_message *message);
    /* The process has gone and all that it said was told; `how` is a sentence on its end. Requests
     * without an answer still wait: worker_fail_requests is due, or worker_destroy. Not called from
     * worker_destroy. */
    void (*ended)(void *opaque, struct worker *worker, const char *how);
};

/* What came of a request: a result or a failure, and the descriptors beside it, which are closed at
 * return, except those that are taken by setting the entry to -1. Called once, unless the worker is
 * destroyed before. */
typedef void (*worker_answer_fn)(void *opaque, const struct rpc_message *answer, int *fds,
                                 unsigned count);

/* Start `role` ("vmm", or that of a helper; static) of `program`, or NULL for the program that this
 * process is. NULL and CONFIG_ERROR_FAILED on failure. */
struct worker *worker_create(const char *role, const char *program, const struct worker_ops *ops,
                             void *opaque, GError **error);
pid_t worker_pid(const struct worker *worker);
/* Kills it. NULL is fine. */
void worker_destroy(struct worker *worker);
/* Kill it; `ended` follows. */
void worker_kill(struct worker *worker);
/* Kill it, and destroy it when it has gone, without waiting and without any further call. */
void worker_discard(struct worker *worker);
/* Whom `ops` are called for from now on, and which. */
void worker_give(struct worker *worker, const struct worker_ops *ops, void *opaque);

/* Ask; takes `params` (NULL for none). Duplicates of `fds` go along. The answer never comes from in
 * here; a worker that is about to end gives none. Returns the request's number, by which the worker
 * knows it. */
json_int_t worker_ask(struct worker *worker, const char *method, json_t *params, const int *fds,
                      unsigned count, worker_answer_fn answer, void *opaque);
/* Who asked with this `opaque` wants no answer any more. */
void worker_forget(struct worker *worker, const void *opaque);
/* Answer all that waits with this failure. */
void worker_fail_requests(struct worker *worker, const char *text);
