// SPDX-License-Identifier: Apache-2.0
/*
 * Whether a machine that has ended is started again, and when: the option `restart`.
 *
 * A failure is a crash of the guest that ends the machine, or the end of its processes by
 * themselves. Waits double from one failure to the next, so that a machine that cannot live costs
 * little; one that has lived for a while is taken for healthy. An end that somebody asked for is
 * final. The clock is handed in.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define RESTART_DELAY_MIN_MS 1000
#define RESTART_DELAY_MAX_MS 60000
#define RESTART_HEALTHY_US   (60 * G_USEC_PER_SEC) /* a life of so long begins the waits anew */

enum restart_policy { RESTART_NEVER, RESTART_ON_FAILURE, RESTART_ALWAYS };

struct restart {
    enum restart_policy policy;
    unsigned attempts; /* in a row, without a healthy life between */
};

/* The policy of this name, as the option has it. */
enum restart_policy restart_policy_find(const char *name);

/* Milliseconds to wait before the machine, which lived for `lived_us` and ended for `cause` (as the
 * event "ended" has it), is started again; that counts as an attempt. Negative: never. */
int restart_delay(struct restart *restart, const char *cause, gint64 lived_us);
