// SPDX-License-Identifier: Apache-2.0
/*
 * Rate limits.
 *
 * A limit is kept in time: each unit (a byte, an operation) costs 1/rate seconds, and what began
 * has paid for the time up to `paid_until_ns`. Something of any size may begin as soon as all
 * before it is paid for, so that the mean over a long time is the rate, whatever the pieces are.
 * Who rested has saved time, up to `saved_max_ns`, and may spend it at once: the burst. In other
 * words a token bucket that holds rate * saved_max tokens, and may go below zero once.
 *
 * Time comes from the caller, in nanoseconds of any clock that does not go back. No thread of its
 * own, no lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct throttle {
    uint64_t rate; /* units a second; 0: no limit */
    int64_t saved_max_ns;
    int64_t paid_until_ns;
};

/* Begin a limit, or change it: nothing is owed, nothing is saved. A zeroed one has no limit. */
void throttle_set(struct throttle *throttle, uint64_t rate, int64_t saved_max_ns, int64_t now_ns);

/* Whether something may begin now. */
static inline bool throttle_is_due(const struct throttle *throttle, int64_t now_ns)
{
    return !throttle->rate || throttle->paid_until_ns <= now_ns;
}

/* It begins, and is of `units`. */
void throttle_take(struct throttle *throttle, uint64_t units, int64_t now_ns);

/* When the next may begin, if it is not due: never in the past of that. */
static inline int64_t throttle_due_ns(const struct throttle *throttle)
{
    return throttle->rate ? throttle->paid_until_ns : INT64_MIN;
}
