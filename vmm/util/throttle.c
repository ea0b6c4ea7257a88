// SPDX-License-Identifier: Apache-2.0
/*
 * The arithmetic of a rate limit. A price is rounded up to a nanosecond and has a bound, so that no
 * size and no rate makes it overflow.
 */
#include "vmm/util/throttle.h"

#define NS_PER_S  1000000000ULL
#define PRICE_MAX (3600 * NS_PER_S)

void throttle_set(struct throttle *throttle, uint64_t rate, int64_t saved_max_ns, int64_t now_ns)
{
    *throttle =
        (struct throttle){.rate = rate, .saved_max_ns = saved_max_ns, .paid_until_ns = now_ns};
}

static int64_t price(uint64_t rate, uint64_t units)
{
    unsigned __int128 ns = ((unsigned __int128)units * NS_PER_S + rate - 1) / rate;

    return (int64_t)(ns < PRICE_MAX ? ns : PRICE_MAX);
}

void throttle_take(struct throttle *throttle, uint64_t units, int64_t now_ns)
{
    int64_t earliest = now_ns - throttle->saved_max_ns;

    if (!throttle->rate)
        return;
    if (throttle->paid_until_ns < earliest)
        throttle->paid_until_ns = earliest;
    throttle->paid_until_ns += price(throttle->rate, units);
}
