// SPDX-License-Identifier: Apache-2.0
/*
 * Calls of clients on their way through the vmm. While another vmm takes its place they wait, and
 * go to whichever has the machine afterwards.
 */
#pragma once

#include "vmm/control/method.h"
#include "vmm/monitor/worker.h"

struct calls;

/* What the vmm answered; replies to `call`, or fails it. */
typedef void (*calls_answer_fn)(void *opaque, struct control_call *call,
                                const struct rpc_message *answer);

struct calls *calls_create(void);
/* Nothing may be under way. NULL is fine. */
void calls_destroy(struct calls *calls);

/* Who serves from now on; NULL: nobody yet. */
void calls_set_worker(struct calls *calls, struct worker *worker);

/* Ask the vmm on behalf of `call`, which `answer` ends; takes `params`. Duplicates of `fds` go
 * along. A client that has too many calls under way is refused: false, and the call has ended. */
bool calls_forward(struct calls *calls, const char *method, json_t *params, const int *fds,
                   unsigned count, struct control_call *call, calls_answer_fn answer, void *opaque);

/* The call that the vmm knows by this number; NULL: there is none. */
struct control_call *calls_find(const struct calls *calls, json_int_t number);

/* Stop a call: one that waits fails as cancelled at once, of another the vmm is told. `answer`
 * comes in either case, before this returns or later. */
void calls_cancel(struct calls *calls, const struct control_call *call);

/* Let new calls wait, until they are released to the worker of that time. */
void calls_hold(struct calls *calls);
void calls_release(struct calls *calls);

/* The client `peer` has gone: nobody is to be answered. */
void calls_forget_peer(struct calls *calls, const struct peer *peer);

/* Answer everything with this failure. */
void calls_fail(struct calls *calls, const char *text);
