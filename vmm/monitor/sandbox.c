// SPDX-License-Identifier: Apache-2.0
/*
 * Layers, from the outside in; each alone would do against most of what the others stop:
 *
 *     user, mount, network, IPC and UTS namespaces   an empty root folder, no interfaces
 *     Landlock (landlock(7), by its system calls)    no path, no TCP, no foreign abstract sockets
 *     capabilities, the root user                    dropped
 *     resource limits                                no core of guest RAM, few descriptors
 *     seccomp (sandbox_filter.c)                     only the calls that the role makes
 */
#include "vmm/monitor/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/monitor/sandbox_filter.h"

#define NOBODY          65534
#define DESCRIPTORS_MAX 512

/* Landlock's interface grew; these are the parts that older headers lack. */
struct landlock_rules {
    uint64_t fs, net, scoped;
};
#define LANDLOCK_FS_ABI1     0x1FFFULL    /* 13 rights of version 1 */
#define LANDLOCK_FS_REFER    (1ULL << 13) /* 2 */
#define LANDLOCK_FS_TRUNCATE (1ULL << 14) /* 3 */
#define LANDLOCK_FS_IOCTL    (1ULL << 15) /* 5 */
#define LANDLOCK_NET_TCP     3ULL         /* 4: bind and connect */
#define LANDLOCK_SCOPES      3ULL         /* 6: abstract sockets and signals */

static bool fail(GError **error, const char *what)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "the sandbox cannot be closed: %s: %s",
                what, g_strerror(errno));
    return false;
}

/* Put an empty, read-only folder in the place of the root folder. */
static bool empty_root(void)
{
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("anima", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=500") ==
               0 &&
           chdir("/proc") == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
           umount2(".", MNT_DETACH) == 0 && chdir("/") == 0 &&
           mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0;
}

/* Root needs no user namespace for the others, and gives itself up by another way. */
static bool enter_namespaces(void)
{
    int flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;

    if (unshare(geteuid() == 0 ? flags : flags | CLONE_NEWUSER) != 0)
        return false;
    return empty_root();
}

/* Returns the version in force, 0 where the kernel has none. */
static int enter_landlock(void)
{
    int abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_rules rules = {
        .fs = LANDLOCK_FS_ABI1 | (abi >= 2 ? LANDLOCK_FS_REFER : 0) |
              (abi >= 3 ? LANDLOCK_FS_TRUNCATE : 0) | (abi >= 5 ? LANDLOCK_FS_IOCTL : 0),
        .net = abi >= 4 ? LANDLOCK_NET_TCP : 0,
        .scoped = abi >= 6 ? LANDLOCK_SCOPES : 0,
    };
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    bool good;
    int fd;

    if (abi < 1)
        return 0;
    fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return 0;
    good = syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    close(fd);
    return good ? abi : 0;
}

static bool leave_root(void)
{
    if (geteuid() != 0)
        return true;
    return setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
           setresuid(NOBODY, NOBODY, NOBODY) == 0;
}

static bool drop_capabilities(void)
{
    capng_clear(CAPNG_SELECT_ALL);
    return capng_apply(CAPNG_SELECT_CAPS) == 0;
}

/* The bounding set can be emptied only by one who may. */
static void drop_bounding_set(void)
{
    capng_clear(CAPNG_SELECT_BOUNDS);
    capng_apply(CAPNG_SELECT_BOUNDS);
}

static bool limit_resources(void)
{
    struct rlimit none = {0}, files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return false;
    files.rlim_cur = files.rlim_max = MIN(files.rlim_max, DESCRIPTORS_MAX);
    return setrlimit(RLIMIT_CORE, &none) == 0 && setrlimit(RLIMIT_NOFILE, &files) == 0 &&
           prctl(PR_SET_DUMPABLE, 0) == 0;
}

bool sandbox_enter(enum sandbox_role role, bool kvm, struct sandbox_report *report, GError **error)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail(error, "no new privileges");
    /* Reads /proc, which is about to go. */
    capng_get_caps_process();
    report->namespaces = enter_namespaces();
    report->landlock = enter_landlock();
    drop_bounding_set();
    if (!leave_root())
        return fail(error, "leaving root");
    if (!drop_capabilities())
        return fail(error, "capabilities");
    if (!limit_resources())
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
