// SPDX-License-Identifier: Apache-2.0
/* What the sandbox's files share. */
#pragma once

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "vmm/monitor/sandbox.h"

/* A sanitizer's runtime needs more memory than any program, and tries calls of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANDBOX_SANITIZED 1
#endif
#endif
#ifndef SANDBOX_SANITIZED
#define SANDBOX_SANITIZED 0
#endif

#define SANDBOX_RESOLVERS    "/etc/resolv.conf"
#define SANDBOX_READABLE_MAX 12

/* What a role has. Everything that is not named here it has not. */
struct sandbox_profile {
    const char *name;
    unsigned namespaces; /* that are entered as the sandbox closes, besides the user's; into one of
                          * processes it forks by itself */
    bool apart;          /* it is alone in a process namespace, into which the monitor forks it */
    bool network;        /* Landlock leaves TCP alone */
    bool resolvers;      /* it reads SANDBOX_RESOLVERS */
    bool reads;          /* what sandbox_allow_reading was told of */
    rlim_t descriptors, memory, seconds; /* of CPU time; 0: no limit of its own */
};

extern const struct sandbox_profile sandbox_profiles[SANDBOX_ROLES];

/* ---- sandbox_namespaces.c ---- */

/* Let go of root's user for one that nobody else is, if this is root, and enter the role's
 * namespaces, with an empty root folder. False with errno when root cannot be left. */
bool sandbox_separate(const struct sandbox_profile *profile, struct sandbox_report *report);

/* ---- sandbox_landlock.c ---- */

void sandbox_landlock_enter(const struct sandbox_profile *profile, struct sandbox_report *report);
