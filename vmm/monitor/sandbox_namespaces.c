// SPDX-License-Identifier: Apache-2.0
/*
 * Namespaces (namespaces(7)) and the user.
 *
 * A process namespace holds only processes that are made in it, so the monitor forks into it; what
 * is started there is its process 1 and alone for ever, since the filter lets it fork nothing. (A
 * program that no monitor starts forks by itself, and waits for what it became.) Who is not root
 * needs a user namespace for that, in which it keeps its number: execve(2) asks for it. The others
 * are entered after the program has been loaded, which the empty root folder does not hold any
 * more, in a user namespace that knows no number at all: there is nobody to become.
 *
 * Root first becomes a user that nobody else is, out of a range that neither distributions nor
 * systemd give away (systemd's UIDS-GIDS.md): were all machines one user, one that broke out could
 * reach for the others, and the kernel's limits for a user would be theirs together.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/monitor/sandbox_internal.h"

#define OWN_UID_BASE  0x70000000 /* and a process's number, which is below 2^22 */
#define NOBODY        65534
#define RESOLVERS_MAX 65536
#define MAP_MAX       32
#define NEW_ROOT      "/proc" /* a folder that is everywhere; what lies in it goes with the old root */

static const struct {
    unsigned bit;
    int flag;
    const char *name;
} namespaces[] = {
    {SANDBOX_NS_USER, CLONE_NEWUSER, "user"},       {SANDBOX_NS_MOUNT, CLONE_NEWNS, "mount"},
    {SANDBOX_NS_PID, CLONE_NEWPID, "pid"},          {SANDBOX_NS_NETWORK, CLONE_NEWNET, "network"},
    {SANDBOX_NS_IPC, CLONE_NEWIPC, "ipc"},          {SANDBOX_NS_UTS, CLONE_NEWUTS, "uts"},
    {SANDBOX_NS_CGROUP, CLONE_NEWCGROUP, "cgroup"},
};

const char **sandbox_namespace_names(unsigned set)
{
    const char **names = g_new0(const char *, G_N_ELEMENTS(namespaces) + 1);
    unsigned count = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(namespaces); i++)
        if (set & namespaces[i].bit)
            names[count++] = namespaces[i].name;
    return names;
}

static int flags_of(unsigned set)
{
    int flags = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(namespaces); i++)
        if (set & namespaces[i].bit)
            flags |= namespaces[i].flag;
    return flags;
}

/* ---- from the start on ---- */

/* One write, as the kernel wants it; safe between fork and exec. */
static bool write_once(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return good;
}

static const struct sandbox_profile *profile_find(const char *name)
{
    for (unsigned i = 0; i < SANDBOX_ROLES; i++)
        if (g_str_equal(sandbox_profiles[i].name, name))
            return &sandbox_profiles[i];
    return NULL;
}

/* fork(2) with new namespaces. The C library does not know of the child, which runs on a copy of
 * the stack. */
static pid_t fork_into(int flags)
{
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

/* What makes us in a new user namespace who we are now. */
static void describe_numbers(char uid_map[MAP_MAX], char gid_map[MAP_MAX])
{
    snprintf(uid_map, MAP_MAX, "%u %u 1", geteuid(), geteuid());
    snprintf(gid_map, MAP_MAX, "%u %u 1", getegid(), getegid());
}

static void keep_numbers(const char *uid_map, const char *gid_map)
{
    write_once("/proc/self/setgroups", "deny");
    write_once("/proc/self/uid_map", uid_map);
    write_once("/proc/self/gid_map", gid_map);
}

pid_t sandbox_fork(const char *role)
{
    const struct sandbox_profile *profile = profile_find(role);
    bool root = geteuid() == 0;
    char uid_map[MAP_MAX], gid_map[MAP_MAX];
    pid_t pid;

    if (!profile || !profile->apart)
        return fork();
    describe_numbers(uid_map, gid_map);
    pid = fork_into(root ? CLONE_NEWPID : CLONE_NEWPID | CLONE_NEWUSER);
    if (pid < 0)
        return fork();
    if (pid == 0 && !root)
        keep_numbers(uid_map, gid_map);
    return pid;
}

/* ---- the root folder ---- */

/* The host's list as a file of the new root's, for which the descriptor is returned; or -1. */
static int copy_resolvers(void)
{
    int from = open(SANDBOX_RESOLVERS, O_RDONLY | O_CLOEXEC), to;
    static char text[RESOLVERS_MAX];
    ssize_t count = from >= 0 ? read(from, text, RESOLVERS_MAX) : 0;

    if (from >= 0)
        close(from);
    if (mkdir(NEW_ROOT "/etc", 0555) != 0)
        return -1;
    to = open(NEW_ROOT SANDBOX_RESOLVERS, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (to >= 0 && count > 0 && write(to, text, count) != count) {
        close(to);
        return -1;
    }
    return to;
}

/* Put an empty folder in the place of the root folder, or one that holds the list of resolvers. */
static bool empty_root(const struct sandbox_profile *profile, struct sandbox_report *report)
{
    const char *options = profile->resolvers ? "size=128k,mode=555" : "size=4k,mode=500";

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("anima", NEW_ROOT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) != 0)
        return false;
    if (profile->resolvers && (report->resolvers = copy_resolvers()) < 0)
        return false;
    return chdir(NEW_ROOT) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
           umount2(".", MNT_DETACH) == 0 && chdir("/") == 0 &&
           (profile->resolvers ||
            mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
}

/* ---- entering ---- */

/* All of `set` or none; a mount namespace counts when the root folder is empty. */
static bool enter(const struct sandbox_profile *profile, unsigned set,
                  struct sandbox_report *report)
{
    char uid_map[MAP_MAX], gid_map[MAP_MAX];

    describe_numbers(uid_map, gid_map);
    if (unshare(flags_of(set)) != 0)
        return false;
    /* Who has no number may make no file. */
    if (set & SANDBOX_NS_USER && profile->resolvers)
        keep_numbers(uid_map, gid_map);
    if (set & SANDBOX_NS_MOUNT && !empty_root(profile, report))
        set &= ~(unsigned)SANDBOX_NS_MOUNT;
    report->namespaces |= set;
    return true;
}

/* As another user than root: one of our own, or nobody where there are few (user_namespaces(7)). */
static bool leave_root(uid_t own)
{
    const uid_t choices[] = {own, NOBODY};

    if (setgroups(0, NULL) != 0)
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(choices); i++)
        if (setresgid(choices[i], choices[i], choices[i]) == 0 &&
            setresuid(choices[i], choices[i], choices[i]) == 0)
            return true;
    return false;
}

/* Whether root is a user of a namespace, whom the host knows as an ordinary one. There may be no
 * other number there to become. */
static bool is_root_inside(void)
{
    g_autofree char *map = NULL;
    unsigned inside, outside, count;

    return g_file_get_contents("/proc/self/uid_map", &map, NULL, NULL) &&
           sscanf(map, "%u %u %u", &inside, &outside, &count) == 3 && /* lint: ok: numbers */
           outside != 0;
}

/* End as the child did. */
static G_GNUC_NORETURN void end_as(pid_t child)
{
    const struct rlimit none = {0};
    int status = 0;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status)); /* lint: ok: it is what it stands for that has ended */
    setrlimit(RLIMIT_CORE, &none);
    signal(WTERMSIG(status), SIG_DFL);
    kill(getpid(), WTERMSIG(status));
    _exit(1); /* lint: ok: the same */
}

/* What goes on is a child, the first process of the namespace that was made for children. It is not
 * bound to us by more than its sandbox makes it be: it dies when we do. */
static bool fork_inside(void)
{
    pid_t child = fork();

    if (child > 0)
        end_as(child);
    return child == 0;
}

/* The number that the host knows us by, as long as its /proc is there. */
static uid_t own_uid(void)
{
    char number[16] = "";

    if (readlink("/proc/self", number, sizeof(number) - 1) < 0)
        return NOBODY;
    return OWN_UID_BASE + (uid_t)strtoul(number, NULL, 10);
}

bool sandbox_separate(const struct sandbox_profile *profile, struct sandbox_report *report)
{
    bool root = geteuid() == 0, inside = root && is_root_inside();
    unsigned wanted = profile->namespaces;
    uid_t own = own_uid();

    /* It is process 1 in a namespace of its own alone. */
    if (profile->apart && getpid() == 1)
        report->namespaces |= SANDBOX_NS_PID;
    /* Root may where users may not; and what root made, this process has no power over. */
    if (root && enter(profile, wanted, report))
        wanted = 0;
    if (root && !leave_root(own) && !inside)
        return false;
    report->uid = geteuid();
    if (!enter(profile, wanted | SANDBOX_NS_USER, report) && wanted)
        enter(profile, SANDBOX_NS_USER, report);
    if (profile->namespaces & report->namespaces & SANDBOX_NS_PID && !fork_inside())
        return false;
    wanted = profile->namespaces | SANDBOX_NS_USER | (profile->apart ? SANDBOX_NS_PID : 0);
    report->missing = wanted & ~report->namespaces;
    return true;
}

char *sandbox_describe_gaps(const struct sandbox_report *report)
{
    g_autofree const char **names = sandbox_namespace_names(report->missing);
    g_autofree char *list = g_strjoinv(", ", (char **)names);

    if (!report->missing && report->landlock)
        return NULL;
    return g_strdup_printf("the host allows less of a sandbox than there could be: without %s%s%s; "
                           "what it has is told by 'anima query'",
                           report->missing ? "namespaces of its own (" : "", list,
                           report->missing ? report->landlock ? ")" : ") and Landlock"
                                           : "Landlock");
}
