// SPDX-License-Identifier: Apache-2.0
/*
 * Layers, from the outside in; each alone would do against most of what the others stop:
 *
 *     user, mount, network, IPC and UTS namespaces   an empty root folder, no interfaces
 *     Landlock (landlock(7), by its system calls)    no path, no TCP, no foreign abstract sockets
 *     capabilities, the root user                    dropped
 *     resource limits                                no core of guest RAM, few descriptors
 *     seccomp (sandbox_filter.c)                     only the calls that the role makes
 *
 * NAT lives in the host's network and looks up its resolvers, so it has no namespaces, and may read
 * what lies where resolv.conf does: that file is not written anew but replaced, so that a rule for
 * it alone would hold for the old one.
 */
#include "vmm/monitor/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/monitor/sandbox_filter.h"

#define NOBODY              65534
#define DESCRIPTORS_MAX     512
#define NAT_DESCRIPTORS_MAX 4096 /* a connection each */
#define RESOLVERS           "/etc/resolv.conf"

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

/* Let files in `folder` be read. */
static void allow_reading(int ruleset, const char *folder)
{
    struct landlock_path_beneath_attr beneath = {
        .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
        .parent_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC),
    };

    if (beneath.parent_fd < 0)
        return;
    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    close(beneath.parent_fd);
}

/* Where the list of resolvers lies, and where the file is to which it may be a link. */
static void allow_resolvers(int ruleset)
{
    g_autofree char *folder = g_path_get_dirname(RESOLVERS);
    char *target = realpath(RESOLVERS, NULL);

    allow_reading(ruleset, folder);
    if (target) {
        g_autofree char *target_folder = g_path_get_dirname(target);

        allow_reading(ruleset, target_folder);
    }
    free(target);
}

/* Returns the version in force, 0 where the kernel has none. */
static int enter_landlock(enum sandbox_role role)
{
    int abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_rules rules = {
        .fs = LANDLOCK_FS_ABI1 | (abi >= 2 ? LANDLOCK_FS_REFER : 0) |
              (abi >= 3 ? LANDLOCK_FS_TRUNCATE : 0) | (abi >= 5 ? LANDLOCK_FS_IOCTL : 0),
        .net = abi >= 4 && role != SANDBOX_NAT ? LANDLOCK_NET_TCP : 0,
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
    if (role == SANDBOX_NAT)
        allow_resolvers(fd);
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

static bool limit_resources(enum sandbox_role role)
{
    rlim_t most = role == SANDBOX_NAT ? NAT_DESCRIPTORS_MAX : DESCRIPTORS_MAX;
    struct rlimit none = {0}, files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return false;
    files.rlim_cur = files.rlim_max = MIN(files.rlim_max, most);
    return setrlimit(RLIMIT_CORE, &none) == 0 && setrlimit(RLIMIT_NOFILE, &files) == 0 &&
           prctl(PR_SET_DUMPABLE, 0) == 0;
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
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail(error, "no new privileges");
    /* Reads /proc, which is about to go. */
    capng_get_caps_process();
    prepare_messages();
    report->namespaces = role != SANDBOX_NAT && enter_namespaces();
    report->landlock = enter_landlock(role);
    drop_bounding_set();
    if (!leave_root())
        return fail(error, "leaving root");
    if (!drop_capabilities())
        return fail(error, "capabilities");
    if (!limit_resources(role))
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
