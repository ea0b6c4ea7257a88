// SPDX-License-Identifier: Apache-2.0
/*
 * A command in the guest, run by its agent: started, asked after until it has ended, with what it
 * wrote; or killed, when it is cancelled or its time is over.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#include "vmm/agent/agent.h"

struct agent_exec;

struct agent_exec_config {
    const json_t *argv;  /* a list of texts with at least one entry */
    const json_t *env;   /* a list of "NAME=VALUE" in the place of the agent's; NULL: the agent's */
    const char *input;   /* in Base64; NULL: none */
    unsigned timeout_ms; /* of the host's time; 0: none */
};

/* The end: what report_exec tells, taken over; or NULL and an error, which stays the caller's:
 * CANCELLED after agent_exec_cancel. `exec` is no more. */
typedef void (*agent_exec_fn)(void *opaque, json_t *result, const GError *error);

struct agent_exec *agent_exec_start(struct agent *agent, const struct agent_exec_config *config,
                                    agent_exec_fn ended, void *opaque);

/* Go on with one that another client of the same agent has started. `timeout_ms` as above. */
struct agent_exec *agent_exec_watch(struct agent *agent, json_int_t pid, unsigned timeout_ms,
                                    agent_exec_fn ended, void *opaque);

/* For that: its number in the guest, 0 while that is not known, or when it is being killed; and the
 * milliseconds that it has left, 0: as many as it likes. */
json_int_t agent_exec_pid(const struct agent_exec *exec);
unsigned agent_exec_left(const struct agent_exec *exec);

/* Kill it; `ended` is called when it is dead, or a few seconds later if it will not die. */
void agent_exec_cancel(struct agent_exec *exec);

/* After agent_abandon: end one that had no request under way. */
void agent_exec_abandon(struct agent_exec *exec, const GError *error);
