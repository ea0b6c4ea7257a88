// SPDX-License-Identifier: Apache-2.0
/*
 * What the kernel gives: calls, sandboxes, limits.
 */
#include <string.h>

#include "lib/doctor/doctor.h"

#define LEAST_MAJOR       5 /* close_range(2), and KVM's filter of MSRs */
#define LEAST_MINOR       10
#define MAPPINGS_USUAL    65530 /* the kernel's own default */
#define DESCRIPTORS_LEAST 256   /* a monitor with all that a machine may have */
#define PROCESSES_LEAST   256
#define LOCKED_LEAST      (1 << 20)
#define RING_LOCKED       40960 /* bytes: what util/loop_uring.c asks for, in whole orders of pages */

void check_program(const struct doctor_host *host, struct doctor_finding *finding)
{
    if (host->found)
        doctor_say(finding, DOCTOR_OK, NULL, "anima-vmm is there and runs");
    else
        doctor_say(finding, DOCTOR_STOP,
                   "install Anima again, or name the folder of anima-vmm in ANIMA_LIBEXEC",
                   "anima-vmm cannot be run, so no machine can: %s", host->found_error);
}

/* Whether the kernel is Linux `major`.`minor` or later. */
static bool is_since(const struct doctor_host *host, guint64 major, guint64 minor)
{
    char *dot;
    guint64 has_major = g_ascii_strtoull(host->release, &dot, 10);
    guint64 has_minor = *dot == '.' ? g_ascii_strtoull(dot + 1, NULL, 10) : 0;

    return has_major > major || (has_major == major && has_minor >= minor);
}

void check_kernel(const struct doctor_host *host, struct doctor_finding *finding)
{
    if (is_since(host, LEAST_MAJOR, LEAST_MINOR))
        doctor_say(finding, DOCTOR_OK, NULL, "Linux %s", host->release);
    else
        doctor_say(finding, DOCTOR_STOP, "boot a newer kernel, such as that of Debian 12",
                   "Linux %s lacks calls that Anima makes; it needs %d.%d", host->release,
                   LEAST_MAJOR, LEAST_MINOR);
}

/* ---- the sandbox ---- */

static const json_t *sandbox_of(const struct doctor_host *host)
{
    return json_object_get(host->found, "sandbox");
}

void check_seccomp(const struct doctor_host *host, struct doctor_finding *finding)
{
    const char *error = json_string_value(json_object_get(sandbox_of(host), "error"));

    if (!host->found)
        doctor_say(finding, DOCTOR_NOTE, NULL, "not known, since anima-vmm cannot be run");
    else if (json_is_true(json_object_get(sandbox_of(host), "seccomp")))
        doctor_say(finding, DOCTOR_OK, NULL, "the system calls of machines are filtered");
    else
        doctor_say(finding, DOCTOR_STOP,
                   "boot a kernel with CONFIG_SECCOMP_FILTER; in a container, allow prctl(2) and "
                   "seccomp(2)",
                   "machines refuse to run without their sandbox: %s",
                   error ? error : "no filter of system calls");
}

/* Why the host forbids them, as far as a file tells. The caller frees the remedy. */
static const char *find_ban(const struct doctor_host *host, char **remedy)
{
    static const struct {
        const char *path, *name, *mend;
        int64_t bans;
        const char *why;
    } bans[] = {
        {"/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone", "1", 0,
         "kernel.unprivileged_userns_clone is 0"},
        {"/proc/sys/user/max_user_namespaces", "user.max_user_namespaces", "10000", 0,
         "user.max_user_namespaces is 0"},
        {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
         "kernel.apparmor_restrict_unprivileged_userns", "0", 1,
         "kernel.apparmor_restrict_unprivileged_userns is 1"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bans); i++) {
        if (doctor_number(host, bans[i].path, -1) != bans[i].bans)
            continue;
        *remedy = doctor_sysctl(bans[i].name, bans[i].mend);
        return bans[i].why;
    }
    *remedy = g_strdup("in a container, allow unshare(2) and mount(2) in it");
    return "the host or its container forbids them";
}

void check_namespaces(const struct doctor_host *host, struct doctor_finding *finding)
{
    const json_t *missing = json_object_get(sandbox_of(host), "missing"), *name;
    g_autoptr(GString) names = g_string_new(NULL);
    g_autofree char *remedy = NULL;
    size_t i;

    json_array_foreach(missing, i, name)
        g_string_append_printf(names, "%s%s", i ? ", " : "", json_string_value(name));
    if (!missing)
        doctor_say(finding, DOCTOR_NOTE, NULL, "not known, since the sandbox cannot be tried");
    else if (!names->len)
        doctor_say(finding, DOCTOR_OK, NULL,
                   "machines see no file, process or interface of the host");
    else {
        const char *why = find_ban(host, &remedy);

        doctor_say(finding, DOCTOR_PROBLEM, remedy,
                   "the sandbox of machines lacks a layer (%s): %s", names->str, why);
    }
}

void check_landlock(const struct doctor_host *host, struct doctor_finding *finding)
{
    const json_t *version = json_object_get(sandbox_of(host), "landlock");

    if (!version)
        doctor_say(finding, DOCTOR_NOTE, NULL, "not known, since the sandbox cannot be tried");
    else if (json_integer_value(version) > 0)
        doctor_say(finding, DOCTOR_OK, NULL,
                   "version %" JSON_INTEGER_FORMAT " shuts machines off from files",
                   json_integer_value(version));
    else
        doctor_say(finding, DOCTOR_NOTE,
                   "boot Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK, and with landlock in "
                   "its parameter lsm=",
                   "the sandbox of machines lacks a layer: this kernel has no Landlock");
}

/* ---- input and output ---- */

void check_io_uring(const struct doctor_host *host, struct doctor_finding *finding)
{
    const char *io = json_string_value(json_object_get(host->found, "io"));
    g_autofree char *remedy = doctor_sysctl("kernel.io_uring_disabled", "0");
    bool banned = doctor_number(host, "/proc/sys/kernel/io_uring_disabled", 0) > 0;

    if (!io)
        doctor_say(finding, DOCTOR_NOTE, NULL, "not known, since anima-vmm cannot be run");
    else if (strcmp(io, "io_uring") == 0)
        doctor_say(finding, DOCTOR_OK, NULL, "disks and networks are served by io_uring");
    else
        doctor_say(finding, DOCTOR_NOTE,
                   banned ? remedy : "in a container, allow io_uring_setup(2) and its companions",
                   "%s: disks and networks are served by epoll and threads, which is slower",
                   banned ? "kernel.io_uring_disabled forbids io_uring"
                          : "io_uring cannot be used");
}

void check_userfaultfd(const struct doctor_host *host, struct doctor_finding *finding)
{
    g_autofree char *remedy = doctor_sysctl("vm.unprivileged_userfaultfd", "1");

    if (json_is_true(json_object_get(host->found, "userfaultfd")))
        doctor_say(finding, DOCTOR_OK, NULL, "faults of a guest's memory can be served");
    else
        doctor_say(finding, DOCTOR_NOTE, remedy,
                   "not for this user; nothing that this version does needs it");
}

/* ---- limits ---- */

/* Controllers that this user's processes may use, of version 2. NULL: it has none. */
static char *find_controllers(const struct doctor_host *host)
{
    g_autofree char *own =
        g_strdup_printf("/sys/fs/cgroup/user.slice/user-%u.slice/user@%u.service/"
                        "cgroup.controllers",
                        host->uid, host->uid);

    return doctor_read(host, host->uid == 0 ? "/sys/fs/cgroup/cgroup.controllers" : own);
}

void check_cgroups(const struct doctor_host *host, struct doctor_finding *finding)
{
    static const char *const wanted[] = {"cpu", "io", "memory", "pids"};
    g_autofree char *controllers = find_controllers(host);
    g_auto(GStrv) has = g_strsplit(controllers ? controllers : "", " ", -1);
    g_autoptr(GString) lacking = g_string_new(NULL);

    if (!doctor_exists(host, "/sys/fs/cgroup/cgroup.controllers")) {
        doctor_say(finding, DOCTOR_NOTE,
                   "add systemd.unified_cgroup_hierarchy=1 to the kernel's parameters",
                   "no control groups of version 2: machines have no limits by them");
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(wanted); i++)
        if (!g_strv_contains((const char *const *)has, wanted[i]))
            g_string_append_printf(lacking, "%s%s", lacking->len ? ", " : "", wanted[i]);
    if (!lacking->len)
        doctor_say(finding, DOCTOR_OK, NULL, "version 2, with all that machines are limited by");
    else
        doctor_say(finding, DOCTOR_NOTE,
                   "in /etc/systemd/system/user@.service.d/delegate.conf: [Service] "
                   "Delegate=cpu cpuset io memory pids; then sudo systemctl daemon-reload, and log "
                   "in anew",
                   "this user may not limit machines by %s", lacking->str);
}

void check_mappings(const struct doctor_host *host, struct doctor_finding *finding)
{
    int64_t most = doctor_number(host, "/proc/sys/vm/max_map_count", MAPPINGS_USUAL);
    g_autofree char *remedy = doctor_sysctl("vm.max_map_count", "262144");

    if (most >= MAPPINGS_USUAL)
        doctor_say(finding, DOCTOR_OK, NULL, "%" G_GINT64_FORMAT " in a process", most);
    else
        doctor_say(finding, DOCTOR_NOTE, remedy,
                   "vm.max_map_count is %" G_GINT64_FORMAT
                   ": engine soft, which maps its guests' memory piece by piece, is slower",
                   most);
}

void check_limits(const struct doctor_host *host, struct doctor_finding *finding)
{
    const char *remedy = "in /etc/security/limits.conf: * hard nofile 524288, * hard nproc 65536; "
                         "then log in anew";

    if (host->descriptors < DESCRIPTORS_LEAST)
        doctor_say(finding, DOCTOR_STOP, remedy,
                   "a process may have %" G_GUINT64_FORMAT
                   " descriptors only; a machine needs %d of them",
                   (guint64)host->descriptors, DESCRIPTORS_LEAST);
    else if (host->processes < PROCESSES_LEAST)
        doctor_say(finding, DOCTOR_PROBLEM, remedy,
                   "this user may have %" G_GUINT64_FORMAT
                   " processes and threads, which a few machines with several CPUs take",
                   (guint64)host->processes);
    else
        doctor_say(finding, DOCTOR_OK, NULL, "there are enough of both");
}

/* Before Linux 5.12 the rings of io_uring counted as memory that the user has locked, of all his
 * processes together; root's did not (io_uring_setup(2)). Nothing else of Anima is locked. */
void check_locked_memory(const struct doctor_host *host, struct doctor_finding *finding)
{
    if (is_since(host, 5, 12))
        doctor_say(finding, DOCTOR_OK, NULL, "this kernel counts nothing of Anima's against it");
    else if (host->uid == 0 || host->locked >= LOCKED_LEAST)
        doctor_say(finding, DOCTOR_OK, NULL, "there is enough for the rings of io_uring");
    else
        doctor_say(finding, DOCTOR_NOTE,
                   "in /etc/security/limits.conf: * - memlock 65536; for machines that start with "
                   "the host DefaultLimitMEMLOCK=64M in /etc/systemd/system.conf; then log in anew",
                   "this user may lock %" G_GUINT64_FORMAT
                   " KiB, room for the io_uring of %" G_GUINT64_FORMAT
                   " machine(s): more of them do without, which is slower",
                   (guint64)host->locked >> 10, (guint64)host->locked / RING_LOCKED);
}
