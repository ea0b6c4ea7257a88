// SPDX-License-Identifier: Apache-2.0
/*
 * Layers, from the outside in; each alone would do against most of what the others stop:
 *
 *     namespaces (sandbox_namespaces.c)   an empty root folder, no interface, no other process
 *     Landlock (sandbox_landlock.c)       no path, no TCP, no foreign abstract sockets
 *     capabilities, keys, the root user   dropped
 *     resource limits                     no core of guest RAM, few descriptors
 *     seccomp (sandbox_filter.c)          only the calls that the role and its threads make
 */
#include "vmm/monitor/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/monitor/sandbox_filter.h"
#include "vmm/monitor/sandbox_internal.h"

#define ALL_BUT_NETWORK (SANDBOX_NS_MOUNT | SANDBOX_NS_IPC | SANDBOX_NS_UTS | SANDBOX_NS_CGROUP)
#define ALL             (ALL_BUT_NETWORK | SANDBOX_NS_NETWORK)

const struct sandbox_profile sandbox_profiles[SANDBOX_ROLES] = {
    [SANDBOX_VMM] =
        {
            .name = "vmm",
            .namespaces = ALL,
            .apart = true,
            .descriptors = 512,
        },
    /* What it prints may go to a file, so how much it writes has no limit. */
    [SANDBOX_DUMP] =
        {
            .name = "reader",
            .namespaces = ALL | SANDBOX_NS_PID,
            .descriptors = 16,
            .memory = 4ULL << 30,
            .seconds = 600,
        },
    /* It lives in the host's network. */
    [SANDBOX_NAT] =
        {
            .name = "nat",
            .namespaces = ALL_BUT_NETWORK,
            .apart = true,
            .network = true,
            .resolvers = true,
            .descriptors = 4096, /* a connection each */
        },
    /* It is forked before it is known which of the two it is: the name stands for both. */
    [SANDBOX_NETWORK] =
        {
            .name = "network",
            .namespaces = ALL_BUT_NETWORK,
            .apart = true,
            .network = true,
            .resolvers = true,
            .descriptors = 8192, /* a connection each, of all machines */
        },
    [SANDBOX_SWITCH] =
        {
            .name = "network",
            .namespaces = ALL,
            .apart = true,
            .descriptors = 512, /* a port each */
        },
    [SANDBOX_OSINFO] =
        {
            .name = "osinfo",
            .namespaces = (ALL & ~(unsigned)SANDBOX_NS_MOUNT) | SANDBOX_NS_PID,
            .reads = true,
            .descriptors = 64,
            .memory = 4ULL << 30,
            .seconds = 60,
        },
    /* Its threads take more of addresses than of memory. */
    [SANDBOX_PACKAGE] =
        {
            .name = "package",
            .namespaces = ALL,
            .apart = true,
            .descriptors = 512,
            .memory = 16ULL << 30,
        },
};

static bool fail(GError **error, const char *what)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "the sandbox cannot be closed: %s: %s",
                what, g_strerror(errno));
    return false;
}

static bool drop_capabilities(void)
{
    capng_clear(CAPNG_SELECT_ALL);
    return capng_apply(CAPNG_SELECT_CAPS) == 0;
}

/* The bounding set can be emptied only by one who may. */
static void drop_bounding_set(void)
{
    for (unsigned long capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0;)
        capability++;
}

/* At most `most`; 0 leaves it as it is. */
static bool limit(__rlimit_resource_t resource, rlim_t most)
{
    struct rlimit limits;

    if (!most)
        return true;
    if (getrlimit(resource, &limits) != 0)
        return false;
    limits.rlim_cur = limits.rlim_max = MIN(limits.rlim_max, most);
    return setrlimit(resource, &limits) == 0;
}

static bool limit_resources(const struct sandbox_profile *profile)
{
    const struct rlimit none = {0};

    return setrlimit(RLIMIT_CORE, &none) == 0 && limit(RLIMIT_NOFILE, profile->descriptors) &&
           (SANDBOX_SANITIZED || limit(RLIMIT_AS, profile->memory)) &&
           limit(RLIMIT_CPU, profile->seconds) && prctl(PR_SET_DUMPABLE, 0) == 0;
}

/* An empty keyring in place of the session's, which may hold keys of file systems and tickets. The
 * host may have none at all. */
static void leave_keys(void)
{
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
}

/* GLib reads files of character sets when it first makes the message of an error number. */
static void prepare_messages(void)
{
    static const char *volatile message; /* the call counts as one without effects */

    message = g_strerror(EPERM);
    (void)message;
}

bool sandbox_enter(enum sandbox_role role, bool kvm, struct sandbox_report *report, GError **error)
{
    const struct sandbox_profile *profile = &sandbox_profiles[role];

    *report = (struct sandbox_report){.resolvers = -1};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail(error, "no new privileges");
    /* Reads /proc, which is about to go. */
    capng_get_caps_process();
    prepare_messages();
    leave_keys();
    drop_bounding_set();
    if (!sandbox_separate(profile, report))
        return fail(error, "leaving root");
    sandbox_landlock_enter(profile, report);
    drop_bounding_set(); /* of the new user namespace's */
    if (!drop_capabilities())
        return fail(error, "capabilities");
    if (!limit_resources(profile))
        return fail(error, "limits");
    /* The change of credentials has cleared it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return fail(error, "the bond to the monitor");
    errno = sandbox_filter_load(role, kvm);
    if (errno)
        return fail(error, "seccomp");
    report->seccomp = true;
    return true;
}
