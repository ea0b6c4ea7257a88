// SPDX-License-Identifier: Apache-2.0
/*
 * The sandbox of a role (docs/security.md): entered once, before the process reads the first byte
 * that a guest, an image or a peer wrote, and never left. sandbox.c has a row for each role that
 * says which namespaces, files, system calls and resources it has.
 *
 * What the host does not allow (namespaces in many containers) is left out and reported; what every
 * supported kernel has (no new privileges, seccomp) must succeed. The process must still have a
 * single thread: namespaces and Landlock are a thread's own.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

enum sandbox_role {
    SANDBOX_VMM,     /* runs a guest on descriptors that it was given; starts threads */
    SANDBOX_DUMP,    /* reads one stream from descriptor 0 and prints to 1 and 2 */
    SANDBOX_NAT,     /* opens sockets of the host's network, reads who its resolvers are */
    SANDBOX_NETWORK, /* as NAT, for a network that machines share */
    SANDBOX_SWITCH,  /* so without a way out: it only carries frames between sockets */
    SANDBOX_OSINFO,  /* reads the files of a database and prints to 1 and 2 */
    SANDBOX_PACKAGE, /* reads and writes disks and packages that it is sent; starts threads */
    SANDBOX_ROLES,
};

/* Namespaces, as a set. */
enum sandbox_namespace {
    SANDBOX_NS_USER = 1 << 0,    /* whatever it does in there, it is nobody outside */
    SANDBOX_NS_MOUNT = 1 << 1,   /* with an empty root folder */
    SANDBOX_NS_PID = 1 << 2,     /* it sees no other process */
    SANDBOX_NS_NETWORK = 1 << 3, /* without an interface */
    SANDBOX_NS_IPC = 1 << 4,
    SANDBOX_NS_UTS = 1 << 5,
    SANDBOX_NS_CGROUP = 1 << 6,
};

/* What is in force; `query` shows it. */
struct sandbox_report {
    unsigned namespaces; /* set of enum sandbox_namespace */
    unsigned missing;    /* those that the role should have, and the host did not allow */
    int landlock;        /* version of its interface, 0: none */
    bool seccomp;
    uid_t uid;     /* the process's user, as the host sees it */
    int resolvers; /* of a role that reads who the host's resolvers are: the file that it reads,
                    * open for writing, which is the caller's; -1: it reads the host's own */
};

/* Fork a process that is going to be `role` ("vmm", "nat"), in the namespaces that it must have
 * from its start on; as fork(2), but that the child may only make calls that are safe in a signal
 * handler, and execute a program. */
pid_t sandbox_fork(const char *role);

/* Before sandbox_enter of a role that reads files: those below `folder`. The text is kept. */
void sandbox_allow_reading(const char *folder);

/* `kvm`: the process makes KVM's calls on an open /dev/kvm. */
bool sandbox_enter(enum sandbox_role role, bool kvm, struct sandbox_report *report, GError **error);

/* Names of the set's members, ended by NULL; free with g_free. */
const char **sandbox_namespace_names(unsigned set);

/* A sentence on what the host did not allow, for the caller to free; NULL when nothing is missing.
 */
char *sandbox_describe_gaps(const struct sandbox_report *report);

/* If `line` is what a process (of `role`: "vmm") wrote about a forbidden system call of its own,
 * the sentence with the call's name; else NULL. The caller frees it. `*fatal`: it dies of it. */
char *sandbox_explain(const char *role, const char *line, bool *fatal);
