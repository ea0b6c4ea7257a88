// SPDX-License-Identifier: Apache-2.0
/*
 * File systems of the guest frozen by its agent, so that a disk can be copied as it lies, and
 * thawed again; after a time limit by themselves, since who froze them may be gone.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "vmm/agent/agent.h"

struct agent_freeze;

struct agent_freeze_listener {
    /* `count`: of file systems; of a thaw that nobody asked for, `why`. */
    void (*frozen)(void *opaque, unsigned count);
    void (*thawed)(void *opaque, const char *why);
    void *opaque;
};

struct agent_freeze *agent_freeze_create(struct agent *agent,
                                         const struct agent_freeze_listener *listener);
/* NULL is fine. */
void agent_freeze_destroy(struct agent_freeze *freeze);

/* The number of file systems; or negative, and an error: BUSY when it is not the time for that. */
typedef void (*agent_freeze_fn)(void *opaque, int count, const GError *error);

/* Freeze, for up to so many milliseconds of the host's time. */
void agent_freeze_begin(struct agent_freeze *freeze, unsigned limit_ms, agent_freeze_fn done,
                        void *opaque);
void agent_freeze_end(struct agent_freeze *freeze, agent_freeze_fn done, void *opaque);

/* The guest begins anew: nothing is frozen. */
void agent_freeze_forget(struct agent_freeze *freeze);

/* Milliseconds until it thaws by itself; negative: it is not frozen. For a process that takes over,
 * which gives them to agent_freeze_adopt. */
int64_t agent_freeze_left(const struct agent_freeze *freeze);
void agent_freeze_adopt(struct agent_freeze *freeze, unsigned limit_ms);

/* The guest goes on from a state that may have been saved while it was frozen: if it was, thaw it.
 * Asks the agent when the machine runs. */
void agent_freeze_look(struct agent_freeze *freeze);
