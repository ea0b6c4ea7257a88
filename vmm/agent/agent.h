// SPDX-License-Identifier: Apache-2.0
/*
 * A client of the QEMU guest agent (qemu-ga(8), its protocol is qga/qapi-schema.json there), which
 * runs in the guest and is reached by a port of the virtio console.
 *
 * One request is under way at a time, the others wait. Each begins with "guest-sync-delimited": the
 * agent repeats a random number behind a sentinel, so answers to questions of long ago, by an
 * agent that was slow or by another one, are told apart; and only an agent that answers at once is
 * sent the command itself. What has not left towards the guest by the end of a request is taken
 * back, so no command reaches an agent that comes later.
 *
 * While nothing is asked nothing is read: a guest that sends without being asked waits.
 * Everything runs on the default main context's thread; nothing blocks.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

struct agent;

/* What came of a request: `result` is what the agent returned, which is the guest's word; or NULL,
 * and a VMM_ERROR: NOT_SUPPORTED when no agent answers, so that it was not sent the command, or
 * when it has no such command, or not now; FAILED for what else it says, or fails to say; CLOSED
 * when the request was abandoned. Both stay the agent's. May ask more, but not destroy. */
typedef void (*agent_answer_fn)(void *opaque, const json_t *result, const GError *error);

struct agent_config {
    int fd;  /* a stream socket, not blocking */
    int far; /* its other end, by which what was not fetched is taken back */
    /* Milliseconds: in which an agent that is there answers, in which it carries a command out, and
     * after which one that is never confirmed has not failed. */
    unsigned sync_ms, answer_ms, silence_ms;
};

/* Takes both descriptors. The machine stands still. */
struct agent *agent_create(const struct agent_config *config);
/* After agent_abandon. NULL is fine. */
void agent_destroy(struct agent *agent);

struct agent_command {
    const char *name;   /* static */
    json_t *arguments;  /* taken over; NULL: none */
    size_t answer_size; /* bytes that its answer may have; 0: AGENT_ANSWER_MAX */
    bool silent;        /* only its failure is told */
};

/* Send a command when its turn comes, and call `answer` once. */
void agent_ask(struct agent *agent, const struct agent_command *command, agent_answer_fn answer,
               void *opaque);

/* Requests that are under way or wait. */
unsigned agent_backlog(const struct agent *agent);

/* The machine runs, or stands still: time limits are of time that it runs. */
void agent_set_running(struct agent *agent, bool running);

/* All requests fail with CLOSED for this reason: the guest begins anew, or another process takes
 * over. One that is silent and was sent has not failed. */
void agent_abandon(struct agent *agent, const char *why);
