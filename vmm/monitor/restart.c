// SPDX-License-Identifier: Apache-2.0
/*
 * The policy's decision from the cause of an end.
 */
#include "vmm/monitor/restart.h"

#define DOUBLINGS_MAX 6 /* from 1 s to beyond the longest wait */

enum restart_policy restart_policy_find(const char *name)
{
    if (g_str_equal(name, "always"))
        return RESTART_ALWAYS;
    return g_str_equal(name, "on-failure") ? RESTART_ON_FAILURE : RESTART_NEVER;
}

static bool is_failure(const char *cause)
{
    return g_str_equal(cause, "failed") || g_str_equal(cause, "crash");
}

/* The guest's own way to end: it powered off, or its debug exit was used. */
static bool is_leave(const char *cause)
{
    return g_str_equal(cause, "power-off") || g_str_equal(cause, "exit");
}

int restart_delay(struct restart *restart, const char *cause, gint64 lived_us)
{
    unsigned doublings;

    if (restart->policy == RESTART_NEVER)
        return -1;
    if (!is_failure(cause) && !(restart->policy == RESTART_ALWAYS && is_leave(cause)))
        return -1;
    if (lived_us >= RESTART_HEALTHY_US)
        restart->attempts = 0;
    doublings = MIN(restart->attempts, DOUBLINGS_MAX);
    restart->attempts++;
    return MIN(RESTART_DELAY_MIN_MS << doublings, RESTART_DELAY_MAX_MS);
}
