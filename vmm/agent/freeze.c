// SPDX-License-Identifier: Apache-2.0
/*
 * A thaw by itself is tried until the agent confirms it: a guest that stays frozen hangs.
 */
#include "vmm/agent/freeze.h"

#include <string.h>

#include "vmm/util/fault.h"

#define RETRY_MIN_MS 250
#define RETRY_MAX_MS 30000

/* Why it thaws by itself. */
enum cause { CAUSE_LIMIT, CAUSE_FAILED, CAUSE_RESTORED };

static const char *const causes[] = {
    [CAUSE_LIMIT] = "the time limit of the freeze was over",
    [CAUSE_FAILED] = "the freeze failed half way",
    [CAUSE_RESTORED] = "it was frozen when its state was saved",
};

struct agent_freeze {
    struct agent *agent;
    struct agent_freeze_listener listener;
    bool frozen;     /* or may be */
    bool ran_out;    /* it thawed by itself, which nobody has been told */
    gint64 until_us; /* monotonic; the time limit */
    guint timer;     /* up to then, or up to the next attempt to thaw */
    unsigned retry_ms;
    enum cause cause; /* of the thaw by itself */
};

/* Of a client, under way. */
struct action {
    struct agent_freeze *freeze;
    unsigned limit_ms;
    agent_freeze_fn done;
    void *opaque;
};

static gboolean on_thaw_time(gpointer opaque);

static void set_timer(struct agent_freeze *freeze, int64_t ms)
{
    if (freeze->timer)
        g_source_remove(freeze->timer);
    freeze->timer = ms < 0 ? 0 : g_timeout_add((guint)ms, on_thaw_time, freeze);
}

static void set_thawed(struct agent_freeze *freeze, const char *why)
{
    bool news = freeze->frozen;

    freeze->frozen = false;
    set_timer(freeze, -1);
    if (news)
        freeze->listener.thawed(freeze->listener.opaque, why);
}

static int count_of(const json_t *answer)
{
    return json_is_integer(answer) ? (int)CLAMP(json_integer_value(answer), 0, G_MAXINT) : 0;
}

/* ---- by itself ---- */

static void on_thawed_itself(void *opaque, const json_t *answer, const GError *error)
{
    struct agent_freeze *freeze = opaque;

    if (!freeze->frozen)
        return;
    if (answer) {
        freeze->ran_out = freeze->cause == CAUSE_LIMIT;
        set_thawed(freeze, causes[freeze->cause]);
        return;
    }
    set_timer(freeze, freeze->retry_ms);
    freeze->retry_ms = MIN(freeze->retry_ms * 2, RETRY_MAX_MS);
}

static void thaw_itself(struct agent_freeze *freeze)
{
    agent_ask(freeze->agent, &(struct agent_command){.name = "guest-fsfreeze-thaw"},
              on_thawed_itself, freeze);
}

static gboolean on_thaw_time(gpointer opaque)
{
    struct agent_freeze *freeze = opaque;

    freeze->timer = 0;
    thaw_itself(freeze);
    return G_SOURCE_REMOVE;
}

static void thaw_after(struct agent_freeze *freeze, unsigned ms, enum cause cause)
{
    freeze->frozen = true;
    freeze->cause = cause;
    freeze->retry_ms = RETRY_MIN_MS;
    freeze->until_us = g_get_monotonic_time() + (gint64)ms * G_TIME_SPAN_MILLISECOND;
    set_timer(freeze, ms);
}

/* ---- by a client ---- */

static struct action *action_create(struct agent_freeze *freeze, unsigned limit_ms,
                                    agent_freeze_fn done, void *opaque)
{
    struct action *action = g_new0(struct action, 1);

    *action = (struct action){freeze, limit_ms, done, opaque};
    return action;
}

static void on_frozen(void *opaque, const json_t *answer, const GError *error)
{
    g_autofree struct action *action = opaque;
    struct agent_freeze *freeze = action->freeze;
    int count = count_of(answer);

    if (answer) {
        thaw_after(freeze, action->limit_ms, CAUSE_LIMIT);
        freeze->listener.frozen(freeze->listener.opaque, (unsigned)count);
        action->done(action->opaque, count, NULL);
        return;
    }
    /* Once it was sent, it may be carried out by an agent that says nothing, or that nobody listens
     * to any more. */
    if (!g_error_matches(error, VMM_ERROR, VMM_ERROR_NOT_SUPPORTED))
        thaw_after(freeze, 0, CAUSE_FAILED);
    action->done(action->opaque, -1, error);
}

static void refuse(agent_freeze_fn done, void *opaque, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(VMM_ERROR, VMM_ERROR_BUSY, why);

    done(opaque, -1, error);
}

void agent_freeze_begin(struct agent_freeze *freeze, unsigned limit_ms, agent_freeze_fn done,
                        void *opaque)
{
    if (freeze->frozen) {
        refuse(done, opaque, "the guest's file systems are frozen already");
        return;
    }
    freeze->ran_out = false;
    agent_ask(freeze->agent, &(struct agent_command){.name = "guest-fsfreeze-freeze"}, on_frozen,
              action_create(freeze, limit_ms, done, opaque));
}

static void on_thawed(void *opaque, const json_t *answer, const GError *error)
{
    g_autofree struct action *action = opaque;
    struct agent_freeze *freeze = action->freeze;
    bool ran_out = freeze->ran_out;
    int count = count_of(answer);

    if (!answer) {
        action->done(action->opaque, -1, error);
        return;
    }
    freeze->ran_out = false;
    set_thawed(freeze, NULL);
    if (count)
        action->done(action->opaque, count, NULL);
    else
        refuse(action->done, action->opaque,
               ran_out
                   ? "the guest's file systems have thawed by themselves: the time limit of the "
                     "freeze was over"
                   : "the guest's file systems were not frozen");
}

void agent_freeze_end(struct agent_freeze *freeze, agent_freeze_fn done, void *opaque)
{
    agent_ask(freeze->agent, &(struct agent_command){.name = "guest-fsfreeze-thaw"}, on_thawed,
              action_create(freeze, 0, done, opaque));
}

/* ---- life ---- */

void agent_freeze_forget(struct agent_freeze *freeze)
{
    freeze->ran_out = false;
    set_thawed(freeze, "the guest begins anew");
}

int64_t agent_freeze_left(const struct agent_freeze *freeze)
{
    gint64 left = freeze->until_us - g_get_monotonic_time();

    return freeze->frozen ? MAX(left, 0) / G_TIME_SPAN_MILLISECOND : -1;
}

void agent_freeze_adopt(struct agent_freeze *freeze, unsigned limit_ms)
{
    thaw_after(freeze, limit_ms, CAUSE_LIMIT);
}

static void on_looked(void *opaque, const json_t *answer, const GError *error)
{
    struct agent_freeze *freeze = opaque;
    const char *status = json_string_value(answer);

    if (status && strcmp(status, "frozen") == 0 && !freeze->frozen)
        thaw_after(freeze, 0, CAUSE_RESTORED);
}

void agent_freeze_look(struct agent_freeze *freeze)
{
    agent_ask(freeze->agent, &(struct agent_command){.name = "guest-fsfreeze-status"}, on_looked,
              freeze);
}

struct agent_freeze *agent_freeze_create(struct agent *agent,
                                         const struct agent_freeze_listener *listener)
{
    struct agent_freeze *freeze = g_new0(struct agent_freeze, 1);

    freeze->agent = agent;
    freeze->listener = *listener;
    return freeze;
}

void agent_freeze_destroy(struct agent_freeze *freeze)
{
    if (!freeze)
        return;
    set_timer(freeze, -1);
    g_free(freeze);
}
